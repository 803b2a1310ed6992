"""Hold a lamina layer against Keras's own: from the same config, weights and inputs come the same outputs and
gradients.

check_layer("Dense", {"units": 3}, (2, 4))
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Each comparison runs once: compile it fast, not to be fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import jax.numpy as jnp
import keras
import numpy as np

import lamina

RTOL = 1e-5


def assert_close(actual, expected, what="", rtol=RTOL):
    """Equal to `rtol`, for small values of the largest: a sum is only as exact as its largest term."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, Keras has {expected.shape}"
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * max(scale, 1e-3), err_msg=what)


def random_array(shape, dtype="float32", seed=0, low=None, high=None):
    """Repeatable values: normal floats, or integers in [low, high)."""
    rng = np.random.default_rng([seed, *shape])
    if dtype.startswith("float"):
        return (
            rng.standard_normal(shape).astype(dtype)
            if low is None
            else rng.uniform(low, high, shape).astype(dtype)
        )
    return rng.integers(low or 0, high or 10, shape).astype(dtype)


def is_shape(x):
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def as_arrays(inputs):
    """A shape stands for random floats of that shape; a list of shapes for several inputs."""
    if is_shape(inputs):
        return random_array(inputs)
    if isinstance(inputs, list):
        return [random_array(x, seed=i) if is_shape(x) else x for i, x in enumerate(inputs)]
    return inputs


def random_weights(weights):
    """Values that tell the weights apart; positive, so that variances and scales are valid."""
    return [random_array(w.shape, seed=i, low=0.2, high=1.2) for i, w in enumerate(weights)]


def plain(config):
    """A config with tuples as lists and without what may differ: the names of objects."""
    if isinstance(config, dict):
        return {
            k: plain(v) for k, v in config.items() if k not in ("name", "registered_name", "build_config")
        }
    if isinstance(config, (list, tuple)):
        return [plain(v) for v in config]
    if isinstance(config, float):
        return float(np.float32(config))  # Keras rounds the factors of regularizers to it
    return config


def check_config(theirs, ours):
    """The same keys and values, and each library makes its layer from the other's config."""
    expected, actual = plain(theirs.get_config()), plain(ours.get_config())
    assert actual == expected
    rebuilt = type(ours).from_config(theirs.get_config())
    assert plain(rebuilt.get_config()) == expected
    rebuilt = type(theirs).from_config(ours.get_config())
    assert plain(rebuilt.get_config()) == expected


def make_pair(name, config):
    """(Keras's layer, lamina's layer) of one class and config."""
    return getattr(keras.layers, name)(**config), getattr(lamina.layers, name)(**config)


def symbolic_inputs(module, arrays):
    """`Input`s of either library like these arrays, the batch unknown."""

    def one(x):
        return module.Input(x.shape[1:], dtype=str(x.dtype))

    return [one(x) for x in arrays] if isinstance(arrays, list) else one(arrays)


def build_pair(theirs, ours, arrays, call):
    """Build both by a symbolic call, which gives the same shape and dtype; give both the same weights."""
    call = {k: v for k, v in call.items() if k == "training"}
    expected = theirs(symbolic_inputs(keras, arrays), **call)
    actual = ours(symbolic_inputs(lamina, arrays), **call)
    assert tuple(actual.shape) == tuple(expected.shape)
    assert actual.dtype == expected.dtype
    shapes = [tuple(w.shape) for w in theirs.weights]
    assert [tuple(w.shape) for w in ours.weights] == shapes
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [w.trainable for w in ours.weights] == [w.trainable for w in theirs.weights]
    values = random_weights(theirs.weights)
    if values:
        theirs.set_weights(values)
        ours.set_weights(values)


def differentiable(arrays):
    flat = arrays if isinstance(arrays, list) else [arrays]
    return all(np.asarray(x).dtype.kind == "f" for x in flat)


def run_keras(layer, arrays, call):
    """Outputs, gradients of `sum(outputs * c)` for trainable weights and inputs, the other weights after,
    and c.
    """
    trainable = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]
    forward = jax.eval_shape(lambda t, x: layer.stateless_call(t, others, x, **call)[0], trainable, arrays)
    cotangent = random_array(tuple(forward.shape), seed=99)

    def loss(trainable, arrays):
        outputs, others_after = layer.stateless_call(trainable, others, arrays, **call)
        return jnp.sum(outputs * cotangent), (outputs, others_after)

    argnums = (0, 1) if differentiable(arrays) else 0
    # One compilation instead of one for each primitive.
    step = jax.jit(jax.value_and_grad(loss, argnums=argnums, has_aux=True))
    (_, (outputs, others_after)), grads = step(trainable, arrays)
    weight_grads, input_grads = grads if differentiable(arrays) else (grads, None)
    # Without the states of seed generators, which are variables but no weights.
    weights = {id(w) for w in layer.weights}
    pairs = zip(layer.non_trainable_variables, others_after, strict=True)
    after = [value for variable, value in pairs if id(variable) in weights]
    return outputs, weight_grads, input_grads, after, cotangent


def run_lamina(layer, arrays, call, cotangent):
    """As `run_keras`; the layer's variables change as in a training step."""
    to_tensor = lamina.ops.convert_to_tensor
    tensors = [to_tensor(x) for x in arrays] if isinstance(arrays, list) else to_tensor(arrays)
    with lamina.GradientTape() as tape:
        if differentiable(arrays):
            tape.watch(tensors)
        outputs = layer(tensors, **call)
        loss = lamina.ops.sum(outputs * cotangent)
    weights = layer.trainable_variables
    if not differentiable(arrays):
        grads = tape.gradient(loss, weights, unconnected_gradients="zero") if weights else []
        return outputs, grads, None, [v.numpy() for v in layer.non_trainable_weights]
    weight_grads, input_grads = tape.gradient(loss, [weights, tensors], unconnected_gradients="zero")
    return outputs, weight_grads, input_grads, [v.numpy() for v in layer.non_trainable_weights]


def check_layer(name, config, inputs, training=None, rtol=RTOL, **call):
    """Compare one layer with Keras's.

    Args:
        name: class name in both libraries.
        config: arguments of the constructor.
        inputs: an array, a shape (random floats), or a list of these.
        training: value of the call's `training`, or None to leave it out.
        call: more arguments of the call, such as `mask`.
    """
    if training is not None:
        call["training"] = training
    arrays = as_arrays(inputs)
    theirs, ours = make_pair(name, config)
    check_config(theirs, ours)
    build_pair(theirs, ours, arrays, call)
    expected, weight_grads, input_grads, others, cotangent = run_keras(theirs, arrays, call)
    actual, our_weight_grads, our_input_grads, our_others = run_lamina(ours, arrays, call, cotangent)
    assert_close(actual, expected, f"{name} output", rtol)
    for variable, theirs_g, ours_g in zip(
        theirs.trainable_variables, weight_grads, our_weight_grads, strict=True
    ):
        assert_close(ours_g, theirs_g, f"{name} gradient of {variable.name}", rtol)
    if input_grads is not None:
        pairs = (
            zip(input_grads, our_input_grads, strict=True)
            if isinstance(arrays, list)
            else [(input_grads, our_input_grads)]
        )
        for theirs_g, ours_g in pairs:
            assert_close(ours_g, theirs_g, f"{name} gradient of the input", rtol)
    for weight, theirs_v, ours_v in zip(theirs.non_trainable_weights, others, our_others, strict=True):
        assert_close(ours_v, theirs_v, f"{name} {weight.name} after the call", rtol)
    return theirs, ours
