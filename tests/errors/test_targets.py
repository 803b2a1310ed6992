"""Targets that do not fit the output: every message says the shapes, the cause and a fix."""

import numpy as np
import pytest

from lamina import losses, metrics, ops
from lamina.errors import ShapeError


def zeros(*shape):
    return np.zeros(shape, "float32")


def message(fn, *args, error=ShapeError, **kwargs):
    with pytest.raises(error) as caught:
        fn(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("labels", [np.arange(8) % 10, (np.arange(8) % 10)[:, None]], ids=["(8,)", "(8, 1)"])
def test_integer_labels_with_the_dense_loss(labels):
    for loss in (losses.categorical_crossentropy, losses.CategoricalCrossentropy()):
        text = message(loss, labels, zeros(8, 10))
        assert "sparse_categorical_crossentropy" in text
        assert "to_categorical(y, 10)" in text
        assert str(labels.shape) in text and "(8, 10)" in text


def test_one_hot_labels_with_the_sparse_loss():
    for loss in (losses.sparse_categorical_crossentropy, losses.SparseCategoricalCrossentropy()):
        text = message(loss, np.eye(10, dtype="float32")[:8], zeros(8, 10))
        assert '"categorical_crossentropy"' in text
        assert "argmax(-1)" in text


@pytest.mark.parametrize(
    "metric", [metrics.CategoricalAccuracy, metrics.TopKCategoricalAccuracy, metrics.F1Score, metrics.Recall]
)
def test_integer_labels_with_a_dense_metric(metric):
    assert "to_categorical(y, 10)" in message(metric().update_state, np.arange(8)[:, None], zeros(8, 10))


def test_one_hot_labels_with_a_sparse_metric():
    text = message(metrics.SparseCategoricalAccuracy(), np.eye(3), zeros(3, 3))
    assert '"categorical_accuracy"' in text


def test_label_outside_the_classes():
    text = message(losses.sparse_categorical_crossentropy, [0, 2, 7, 1], zeros(4, 3), error=ValueError)
    assert "label 7 at row 2" in text
    assert "3 classes" in text and "0 to 2" in text
    assert "Dense(8)" in text
    text = message(
        losses.SparseCategoricalCrossentropy(), [[0, 1], [1, -1]], zeros(2, 2, 3), error=ValueError
    )
    assert "label -1 at row 1" in text and "ignore_class" in text
    losses.SparseCategoricalCrossentropy(ignore_class=-1)([[0, 1], [1, -1]], zeros(2, 2, 3) + 0.3)


def test_not_a_number_is_no_label():
    assert "nan" in message(
        losses.sparse_categorical_crossentropy, [0.0, np.nan], zeros(2, 3), error=ValueError
    )


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "log_cosh", "poisson", "hinge"])
def test_no_silent_broadcast(loss):
    text = message(losses.get(loss), zeros(8, 1), zeros(8, 10, 1))
    assert "(8, 1)" in text and "(8, 10, 1)" in text
    assert "broadcast" in text
    assert "return_sequences=False" in text
    message(losses.LossFunctionWrapper(losses.get(loss)), zeros(8, 1), zeros(8, 10, 1))


def test_two_columns_for_one_output():
    text = message(losses.binary_crossentropy, zeros(8, 2), zeros(8, 1))
    assert 'Dense(2, activation="softmax")' in text
    assert "argmax(-1)" in text
    text = message(losses.mean_squared_error, zeros(8, 2), zeros(8, 1))
    assert "Dense(2)" in text and "y[..., :1]" in text


def test_one_column_for_several_outputs():
    assert "Dense(1)" in message(losses.mean_squared_error, zeros(8, 1), zeros(8, 3))


def test_another_number_of_samples():
    for loss in ("mse", "binary_crossentropy", "categorical_crossentropy"):
        text = message(losses.get(loss), zeros(7, 3), zeros(8, 3))
        assert "7 samples" in text and "8" in text
    text = message(losses.sparse_categorical_crossentropy, np.zeros(7, int), zeros(8, 3))
    assert "7 samples" in text


@pytest.mark.parametrize("shape", [(7,), (3,), (8, 4), (8, 3, 1, 1)])
def test_weights_that_do_not_fit(shape):
    text = message(losses.MeanSquaredError(), zeros(8, 3, 2), zeros(8, 3, 2), sample_weight=np.ones(shape))
    assert "sample_weight" in text and str(shape) in text


def test_weights_of_a_loss_of_the_whole_batch():
    text = message(losses.Dice(), zeros(8, 4, 4), zeros(8, 4, 4), sample_weight=np.ones(8))
    assert "whole batch" in text and "axis=(1, 2, 3)" in text
    assert "y[:, None]" in message(losses.MeanSquaredError(), zeros(8), zeros(8), sample_weight=np.ones(8))


def test_nothing_is_computed_first():
    def fail(*_, **__):
        raise AssertionError("computed")

    original, ops.square = ops.square, fail
    try:
        message(losses.mean_squared_error, zeros(8, 1), zeros(8, 10, 1))
    finally:
        ops.square = original


def test_a_scalar_is_compared_with_everything():
    assert float(losses.MeanSquaredError()(0.0, zeros(8, 3) + 2.0)) == 4.0


@pytest.mark.parametrize(
    ("get", "typo", "meant"),
    [
        ("losses", "mean_sqared_error", "mean_squared_error"),
        ("losses", "CategoricalCrossEntropy", "CategoricalCrossentropy"),
        ("metrics", "acuracy", "accuracy"),
        ("optimizers", "adma", "adam"),
    ],
)
def test_misspelt_names(get, typo, meant):
    import lamina

    with pytest.raises(ValueError, match=f"{typo}.*Did you mean '{meant}'"):
        getattr(lamina, get).get(typo)


@pytest.mark.parametrize(
    ("typo", "meant"), [("learning_rte", "learning_rate"), ("clip_norm", "clipnorm"), ("nestrov", "nesterov")]
)
def test_misspelt_optimizer_arguments(typo, meant):
    import lamina

    with pytest.raises((TypeError, ValueError), match=f"Did you mean '{meant}'"):
        lamina.optimizers.SGD(**{typo: 1.0})
