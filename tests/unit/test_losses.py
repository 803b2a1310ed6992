"""Losses by themselves: structures, empty batches, tracing with an unknown batch, subclassing."""

import math
import pickle

import numpy as np
import pytest

import lamina
from lamina import losses, ops
from lamina.engine.trace import compile_function


def test_lists_and_scalars():
    loss = losses.MeanSquaredError()
    assert float(loss([[0.0, 1.0]], [[0.0, 0.0]])) == 0.5
    assert float(loss([1.0, 2.0], [0.0, 0.0])) == 2.5


def test_structures_of_targets():
    class Both(losses.Loss):
        def call(self, y_true, y_pred):
            return losses.mean_squared_error(y_true["a"], y_pred["a"]) + ops.mean(y_pred["b"][0], axis=-1)

    y = {"a": np.zeros((4, 2)), "b": [np.zeros((4, 2))]}
    p = {"a": np.ones((4, 2)), "b": [np.full((4, 2), 3.0)]}
    assert float(Both()(y, p)) == 4.0


def test_user_function_sees_equal_ranks():
    seen = []

    def fn(y_true, y_pred, factor):
        seen.append((tuple(y_true.shape), tuple(y_pred.shape)))
        return ops.mean(ops.abs(y_true - y_pred), axis=-1) * factor

    wrapper = losses.LossFunctionWrapper(fn, name="mine", factor=2.0)
    assert float(wrapper(np.zeros(4), np.ones((4, 1)))) == 2.0
    assert seen == [((4, 1), (4, 1))]


def test_empty_batch():
    for loss in (
        losses.MeanSquaredError(),
        losses.SparseCategoricalCrossentropy(),
        losses.BinaryCrossentropy(),
    ):
        y = np.zeros((0,), int) if "sparse" in loss.name else np.zeros((0, 3))
        assert float(loss(y, np.zeros((0, 3)))) == 0.0


def test_everything_masked():
    p = ops.zeros((4, 2))
    lamina.backend.set_keras_mask(p, ops.zeros((4,), dtype="bool"))
    assert float(losses.MeanSquaredError()(np.ones((4, 2)), p)) == 0.0


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("name", ["MeanSquaredError", "SparseCategoricalCrossentropy", "BinaryCrossentropy"])
def test_traced_with_unknown_batch(name, reduction, rng):
    """One trace serves every batch size and gives what eager gives."""
    loss, traces = getattr(losses, name)(reduction=reduction), []

    def fn(y, p, w):
        traces.append(tuple(p.shape))
        return loss(y, p, sample_weight=w)

    compiled = compile_function(fn)
    for batch in (5, 3, 8):
        p = rng.uniform(0.1, 0.9, (batch, 4)).astype("float32")
        y = (
            rng.integers(0, 4, batch)
            if name.startswith("Sparse")
            else rng.integers(0, 2, (batch, 4)).astype("float32")
        )
        w = rng.uniform(size=batch).astype("float32")
        assert float(compiled(y, p, w)) == pytest.approx(float(loss(y, p, w)), rel=1e-6)
    assert traces == [(None, 4)]


def test_mask_traced_with_unknown_batch(rng):
    loss = losses.MeanAbsoluteError()

    def fn(y, p, mask):
        lamina.backend.set_keras_mask(p, mask)
        return loss(y, p)

    y, p, mask = (
        rng.normal(size=(6, 4, 2)),
        rng.normal(size=(6, 4, 2)),
        rng.integers(0, 2, (6, 4)).astype(bool),
    )
    expected = np.abs(y - p).mean(-1)[mask].mean()
    assert float(compile_function(fn)(y, p, mask)) == pytest.approx(expected, rel=1e-5)


def test_stable_at_the_edges():
    assert float(losses.BinaryCrossentropy(from_logits=True)([[1.0]], [[-200.0]])) == pytest.approx(200.0)
    assert float(
        losses.CategoricalCrossentropy(from_logits=True)([[1.0, 0.0]], [[0.0, 300.0]])
    ) == pytest.approx(300.0)
    assert float(
        losses.SparseCategoricalCrossentropy(from_logits=True)([0], [[0.0, 300.0]])
    ) == pytest.approx(300.0)
    assert math.isfinite(float(losses.BinaryCrossentropy()([[1.0]], [[0.0]])))
    assert float(losses.LogCosh()([[0.0]], [[1000.0]])) == pytest.approx(1000.0 - math.log(2), rel=1e-6)


def test_one_class_is_warned_about():
    with pytest.warns(SyntaxWarning, match="binary_crossentropy"):
        losses.categorical_crossentropy(np.ones((4, 1)), np.ones((4, 1)))


def test_get():
    assert losses.get(None) is None
    assert losses.get("mse") is losses.mean_squared_error
    assert isinstance(losses.get("Huber"), losses.Huber)
    assert isinstance(losses.get(losses.Huber), losses.Huber)
    assert losses.get({"class_name": "Huber", "config": {"delta": 0.5}}).delta == 0.5

    def mine(y_true, y_pred):
        return y_pred

    assert losses.get(mine) is mine
    with lamina.utils.custom_object_scope({"mine": mine}):
        assert losses.get("mine") is mine


def test_bad_arguments():
    with pytest.raises(ValueError, match="reduction"):
        losses.MeanSquaredError(reduction="average")
    with pytest.raises(ValueError, match="axis"):
        losses.categorical_crossentropy(np.ones((2, 2)), np.ones((2, 2)), axis=True)
    with pytest.raises(ValueError, match="interval"):
        losses.CategoricalGeneralizedCrossEntropy(q=1.0)
    with pytest.raises(NotImplementedError):
        losses.Loss()(0.0, 0.0)


def test_names_and_pickle():
    class MyLoss(losses.Loss):
        pass

    assert MyLoss().name == "my_loss"
    assert losses.Huber().name == "huber_loss"
    again = pickle.loads(pickle.dumps(losses.Huber(delta=2.0)))
    assert again.get_config() == losses.Huber(delta=2.0).get_config()


def test_a_loss_that_forgot_its_base():
    class Bare(losses.Loss):
        def __init__(self):
            pass

        def call(self, y_true, y_pred):
            return ops.mean(y_true - y_pred)

    with pytest.raises(RuntimeError, match=r"'Bare', you forgot to call `super\(\).__init__\(\)`"):
        Bare()([1.0], [2.0])
