"""Activation functions by object, name and configuration."""

from lamina import ops
from lamina.errors import did_you_mean
from lamina.ops import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    tanh,
    tanh_shrink,
    threshold,
)

swish, hard_swish = silu, hard_silu


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """max(x, 0); with the optional arguments: `max_value` above it, x from `threshold` on, and below that
    negative_slope * (x - threshold).

    >>> relu([-3.0, 1.0, 9.0], max_value=6.0)
    [0.0, 1.0, 6.0]
    """
    if threshold == 0 and negative_slope == 0:
        if max_value is None:
            return ops.relu(x)
        return ops.relu6(x) if max_value == 6 else ops.clip(x, 0.0, max_value)
    if threshold == 0 and max_value is None:
        return ops.leaky_relu(x, negative_slope)
    x = ops.convert_to_tensor(x) if not hasattr(x, "dtype") else x
    above = x if max_value is None else ops.minimum(x, max_value)
    return ops.where(ops.greater(x, threshold), above, (x - threshold) * negative_slope)


def gelu(x, approximate=False):
    """x times the normal distribution function at x (Hendrycks and Gimpel, 2016); its tanh form if
    `approximate`.
    """
    return ops.gelu(x, approximate)


def exponential(x):
    """exp(x)."""
    return ops.exp(x)


def linear(x):
    """x."""
    return x


def mish(x):
    """x * tanh(softplus(x)). Misra, 2019."""
    return x * ops.tanh(ops.softplus(x))


_BUILT_IN = (
    relu,
    leaky_relu,
    relu6,
    softmax,
    celu,
    elu,
    selu,
    softplus,
    softsign,
    squareplus,
    soft_shrink,
    sparse_plus,
    silu,
    gelu,
    glu,
    tanh,
    tanh_shrink,
    threshold,
    sigmoid,
    sparse_sigmoid,
    exponential,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    hard_shrink,
    linear,
    mish,
    log_softmax,
    log_sigmoid,
    sparsemax,
)
KNOWN = {function.__name__: function for function in _BUILT_IN} | {"swish": silu, "hard_swish": hard_silu}


def serialize(activation):
    """The name of a built-in activation; a configuration for anything else. A function that no name finds is
    refused.
    """
    from lamina.saving.registration import get_registered_name
    from lamina.saving.serialization import serialize_keras_object

    name = getattr(activation, "__name__", None)
    if name in KNOWN and (KNOWN[name] is activation or getattr(ops, name, None) is activation):
        return name
    config = serialize_keras_object(activation)
    if not isinstance(config, dict) or "config" not in config or config.get("class_name") == "__lambda__":
        raise ValueError(
            f"Unknown activation function '{activation}' cannot be serialized due to invalid function name. "
            "Use a named function, registered with `@lamina.saving.register_keras_serializable()`."
        )
    if isinstance(config["config"], str):
        config["config"] = get_registered_name(activation)
    return config


def deserialize(config, custom_objects=None):
    """The activation that a name or a configuration describes."""
    from lamina.saving.serialization import deserialize_keras_object

    return deserialize_keras_object(config, custom_objects=custom_objects, module_objects=KNOWN)


def get(identifier):
    """The activation meant by a name, a configuration or a callable; None is `linear`. Else a ValueError says
    the nearest name.
    """
    from lamina.saving.registration import get_registered_object

    if identifier is None:
        return linear
    found = identifier
    if isinstance(identifier, dict):
        found = deserialize(identifier)
    elif isinstance(identifier, str):
        found = get_registered_object(identifier, module_objects=KNOWN)
    if callable(found):
        return found
    hint = did_you_mean(identifier, KNOWN) if isinstance(identifier, str) else ""
    raise ValueError(f"Could not interpret activation function identifier: {identifier}.{hint}")
