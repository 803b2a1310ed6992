"""Dense, Embedding, activations and the small core layers against Keras."""

import keras
import numpy as np
import pytest
from harness import assert_close, check_layer, make_pair, random_array

import lamina


@pytest.mark.parametrize(
    "config",
    [
        {"units": 3},
        {"units": 3, "activation": "relu"},
        {"units": 5, "activation": "softmax", "use_bias": False},
        {"units": 2, "activation": "tanh", "kernel_initializer": "he_uniform", "bias_initializer": "ones"},
        {"units": 4, "kernel_regularizer": "l2", "bias_regularizer": "l1", "kernel_constraint": "max_norm"},
        {"units": 4, "activity_regularizer": "l2", "bias_constraint": "non_neg"},
    ],
)
@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (1, 2, 2, 3)])
def test_dense(config, shape):
    theirs, ours = check_layer("Dense", config, shape)
    x = random_array(shape)
    theirs(x), ours(x)
    assert len(ours.losses) == len(theirs.losses)


def test_dense_losses():
    x = random_array((3, 4))
    config = {
        "units": 2,
        "kernel_regularizer": "l2",
        "bias_regularizer": "L1L2",
        "activity_regularizer": "l1",
    }
    theirs, ours = make_pair("Dense", config)
    theirs(x), ours(x)
    weights = [random_array(w.shape, seed=i) for i, w in enumerate(theirs.weights)]
    theirs.set_weights(weights), ours.set_weights(weights)
    theirs(x), ours(x)
    assert_close(sum(float(v) for v in ours.losses), sum(float(v) for v in theirs.losses))


@pytest.mark.parametrize("name", ["Dense", "Conv2D", "Conv1D", "Embedding"])
def test_lora(name):
    config = {
        "Dense": ({"units": 3}, random_array((2, 4))),
        "Conv1D": ({"filters": 3, "kernel_size": 2}, random_array((2, 5, 4))),
        "Conv2D": ({"filters": 3, "kernel_size": 2}, random_array((2, 4, 4, 2))),
        "Embedding": ({"input_dim": 6, "output_dim": 3}, np.array([[0, 5], [2, 1]], "int32")),
    }[name]
    theirs, ours = make_pair(name, config[0])
    theirs(config[1]), ours(config[1])
    # Not by the constructor's `lora_rank` and `lora_alpha`: Keras's Dense and Embedding then forget alpha.
    theirs.enable_lora(2, lora_alpha=3), ours.enable_lora(2, lora_alpha=3)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.name for w in ours.trainable_weights] == [w.name for w in theirs.trainable_weights]
    weights = [random_array(w.shape, seed=i) for i, w in enumerate(theirs.weights)]
    theirs.set_weights(weights), ours.set_weights(weights)
    assert_close(ours(config[1]), theirs(config[1]))
    assert ours.get_config()["lora_rank"] == 2
    made = getattr(lamina.layers, name)(**config[0], lora_rank=2, lora_alpha=3)
    made(config[1])
    made.set_weights(weights)
    assert_close(made(config[1]), theirs(config[1]))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("mask_zero", [False, True])
def test_embedding(dtype, mask_zero):
    ids = random_array((2, 5), "int32", high=7).astype(dtype)
    config = {"input_dim": 7, "output_dim": 3, "mask_zero": mask_zero}
    theirs, ours = check_layer("Embedding", config, ids if dtype != "float32" else ids.astype("int32"))
    expected, actual = theirs.compute_mask(ids), ours.compute_mask(ids)
    assert (actual is None) == (expected is None)
    if expected is not None:
        assert_close(actual, expected)
    assert_close(ours(ids), theirs(ids))


def test_embedding_initial_weights():
    table = random_array((4, 2))
    theirs, ours = make_pair("Embedding", {"input_dim": 4, "output_dim": 2, "weights": table})
    ids = np.array([3, 0, 3])
    assert_close(ours(ids), theirs(ids))


ACTIVATION_LAYERS = [
    ("Activation", {"activation": "relu"}),
    ("Activation", {"activation": "selu"}),
    ("ReLU", {}),
    ("ReLU", {"max_value": 0.8}),
    ("ReLU", {"negative_slope": 0.1, "max_value": 1.0, "threshold": 0.2}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.05}),
    ("PReLU", {}),
    ("PReLU", {"shared_axes": [1]}),
    ("ELU", {"alpha": 0.7}),
    ("Softmax", {}),
    ("Softmax", {"axis": 1}),
    ("Softmax", {"axis": [1, 2]}),
    ("Identity", {}),
    ("Rescaling", {"scale": 0.5, "offset": -1.0}),
    ("Rescaling", {"scale": [0.5, 1.0, 2.0, 3.0]}),
    ("Masking", {"mask_value": 0.5}),
]


@pytest.mark.parametrize("name, config", ACTIVATION_LAYERS)
def test_elementwise_layers(name, config):
    check_layer(name, config, (2, 3, 4))


def test_relu_keeps_integers():
    x = np.arange(-3, 4, dtype="int32")
    theirs, ours = make_pair("ReLU", {})
    assert ours(x).dtype == "int32"
    assert_close(ours(x), theirs(x))


def test_softmax_mask():
    mask = np.array([[True, False, True], [False, False, False]])
    check_layer("Softmax", {}, (2, 3), mask=mask)
    check_layer("Softmax", {}, (2, 3), mask=mask.astype("float32"))


def test_masking_mask():
    x = np.array([[[0, 0], [1, 2], [0, 3]]], "float32")
    theirs, ours = make_pair("Masking", {"mask_value": 0.0})
    assert_close(ours.compute_mask(x), theirs.compute_mask(x))


def test_activity_regularization():
    x = random_array((4, 3))
    theirs, ours = check_layer("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, x)
    theirs, ours = make_pair("ActivityRegularization", {"l1": 0.1, "l2": 0.2})
    theirs(x), ours(x)
    assert_close(float(ours.losses[0]), float(theirs.losses[0]))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"mean": 2.0, "variance": 4.0},
        {"mean": [1.0, 2.0, 3.0], "variance": [1.0, 4.0, 9.0]},
        {"axis": None},
        {"axis": (1, 2)},
        {"mean": 2.0, "variance": 4.0, "invert": True},
    ],
)
def test_normalization(config):
    x = random_array((6, 2, 3))
    theirs, ours = make_pair("Normalization", config)
    assert {k: v for k, v in ours.get_config().items() if k in ("axis", "invert", "mean", "variance")} == {
        k: v for k, v in theirs.get_config().items() if k in ("axis", "invert", "mean", "variance")
    }
    if "mean" not in config:
        theirs.adapt(x), ours.adapt(x)
        assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
        assert_close(ours.mean, theirs.mean)
        assert_close(ours.variance, theirs.variance)
    assert_close(ours(x), theirs(x))


def test_normalization_adapts_to_batches():
    x = random_array((10, 3))
    whole, parts = lamina.layers.Normalization(), lamina.layers.Normalization()
    whole.adapt(x)
    parts.adapt([x[:4], x[4:7], x[7:]])
    assert_close(parts.mean, whole.mean)
    assert_close(parts.variance, whole.variance)
    theirs = keras.layers.Normalization()
    theirs.adapt(x)
    assert_close(parts(x), theirs(x))


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (4, 1)])
def test_category_encoding(mode, shape):
    theirs, ours = make_pair("CategoryEncoding", {"num_tokens": 5, "output_mode": mode})
    ids = random_array(shape, "int32", high=5)
    assert_close(ours(ids), theirs(ids))
    assert set(ours.get_config()) == set(theirs.get_config())


def test_category_encoding_weights():
    theirs, ours = make_pair("CategoryEncoding", {"num_tokens": 4, "output_mode": "count"})
    ids, weights = np.array([[0, 1, 1], [3, 3, 3]]), random_array((2, 3))
    assert_close(ours(ids, count_weights=weights), theirs(ids, count_weights=weights))
