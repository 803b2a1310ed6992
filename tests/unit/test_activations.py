"""Activations by name and configuration; `relu` with its options."""

import numpy as np
import pytest

import lamina
from lamina import activations

X = np.linspace(-4, 8, 25).astype("float32").reshape(5, 5)


@pytest.mark.parametrize("name", sorted(set(activations.KNOWN) - {"glu", "threshold", "sparsemax"}))
def test_every_name_gives_keras_s_values(name):
    keras = pytest.importorskip("keras")
    ours, theirs = activations.get(name), keras.activations.get(name)
    assert activations.serialize(ours) == keras.activations.serialize(theirs)
    np.testing.assert_allclose(ours(X), np.asarray(theirs(X)), rtol=1e-5, atol=1e-6)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    # Keras's takes the sum of the running sums as its mass: right only where one entry is left, or none ties.
    got = np.asarray(activations.sparsemax(X * 0.7))
    assert activations.serialize(activations.get("sparsemax")) == "sparsemax"
    assert (got >= 0).all() and np.allclose(got.sum(-1), 1.0, atol=1e-6)
    # On the support x - y is one number, the threshold; elsewhere x lies under it.
    shifted = X * 0.7 - got
    threshold = shifted.max(-1, keepdims=True)
    support = got > 0
    assert support.sum(-1).min() > 1 and not support.all()
    np.testing.assert_allclose(shifted[support], np.broadcast_to(threshold, X.shape)[support], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"negative_slope": 0.3},
        {"max_value": 6.0},
        {"max_value": 2.0},
        {"threshold": 1.5},
        {"negative_slope": 0.3, "max_value": 2.0},
        {"negative_slope": 0.3, "max_value": 5.0, "threshold": 1.5},
    ],
)
def test_relu_options(options):
    keras = pytest.importorskip("keras")
    np.testing.assert_allclose(
        activations.relu(X, **options), np.asarray(keras.activations.relu(X, **options)), rtol=1e-6
    )


def test_get():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    assert activations.get(np.tanh) is np.tanh
    layer = lamina.layers.ReLU()
    assert activations.get(layer) is layer
    with pytest.raises(ValueError, match="Did you mean 'softmax'"):
        activations.get("sofmax")
    with pytest.raises(ValueError, match="Could not interpret activation"):
        activations.get(3.0)


def test_custom_functions_by_registered_name():
    @lamina.saving.register_keras_serializable("tests")
    def twice(x):
        return x * 2

    config = activations.serialize(twice)
    assert activations.get(config) is twice
    with lamina.saving.custom_object_scope({"thrice": lambda x: x * 3}):
        assert float(activations.get("thrice")(2.0)) == 6.0


def test_a_lambda_has_no_configuration():
    with pytest.raises(ValueError, match="cannot be serialized"):
        activations.serialize(lambda x: x)


def test_symbolic_calls():
    x = lamina.Input((6,))
    for name in ("relu", "softmax", "mish", "gelu", "glu"):
        assert activations.get(name)(x).shape == (None, 3 if name == "glu" else 6)
