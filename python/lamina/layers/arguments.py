"""Checks and standard forms of layer arguments, shared by every layer module."""

import operator

from lamina.errors import ShapeError


def positive_int(value, name):
    """`value` as a Python int above zero; accepts numpy integers, refuses bools and floats."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number <= 0:
        raise ValueError(
            f"Received an invalid value for `{name}`, expected a positive integer. Received: {name}={value}"
        )
    return number


def int_tuple(value, n, name, allow_zero=False):
    """`value` (one integer or `n` of them) as a tuple of `n` integers, each above zero (or >= 0)."""
    message = f"The `{name}` argument must be a tuple of {n} integers. Received {name}={value}"
    try:
        numbers = (operator.index(value),) * n
    except TypeError:
        try:
            numbers = tuple(operator.index(v) for v in value)
        except TypeError:
            raise ValueError(message) from None
    if len(numbers) != n:
        raise ValueError(message)
    least = 0 if allow_zero else 1
    if min(numbers) < least:
        bad = {v for v in numbers if v < least}
        requirement = "`value >= 0`" if allow_zero else "`value > 0`"
        raise ValueError(f"{message}, including values {bad} that do not satisfy {requirement}")
    return numbers


def pair_of_pairs(value, name):
    """2D margins as ((top, bottom), (left, right)) from an int, a (height, width) pair, or the full form."""
    if isinstance(value, int):
        value = (value, value)
    if not hasattr(value, "__len__"):
        raise ValueError(
            f"`{name}` should be either an int, a tuple of 2 ints (symmetric_height, symmetric_width), or a "
            f"tuple of 2 tuples of 2 ints ((top, bottom), (left, right)). Received: {name}={value}."
        )
    if len(value) != 2:
        raise ValueError(f"`{name}` should have two elements. Received: {name}={value}.")
    return (
        int_tuple(value[0], 2, f"1st entry of {name}", allow_zero=True),
        int_tuple(value[1], 2, f"2nd entry of {name}", allow_zero=True),
    )


def padding_mode(value, allow_causal=False):
    """`"valid"`, `"same"` or, where allowed, `"causal"`, in any letter case."""
    allowed = ("valid", "same", "causal") if allow_causal else ("valid", "same")
    mode = value.lower() if isinstance(value, str) else value
    if mode not in allowed:
        raise ValueError(f"The `padding` argument must be one of {allowed}. Received: padding={value}")
    return mode


def fraction(value, name):
    """`value`, which must lie in [0, 1]."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(
            f"Invalid value received for argument `{name}`. Expected a float value between 0 and 1. "
            f"Received: {name}={value}"
        )
    return value


def axis_in_range(axis, shape, layer):
    """The non-negative position of `axis` in `shape`."""
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(
            f"Axis {axis} is out of bounds for input shape {tuple(shape)}.",
            layer=layer,
            argument="axis",
            got=tuple(shape),
            expected=f"an input with at least {axis + 1 if axis >= 0 else -axis} axes",
            fix=f"use an axis from {-len(shape)} to {len(shape) - 1}",
        )
    return axis % len(shape)


def known_axis(shape, axis, layer, what):
    """The size of `axis`, which a weight's shape is derived from and which therefore must be known."""
    size = shape[axis_in_range(axis, shape, layer)]
    if size is None:
        raise ShapeError(
            f"The {what} axis (axis {axis}) of the inputs should be defined. Found `None`.",
            layer=layer,
            argument="inputs",
            got=tuple(shape),
            expected=f"a known number of {what} along axis {axis}",
            cause="the weights of this layer are as long as that axis, so it cannot stay unknown",
            trail=True,
            fix="give that axis a size in `Input(shape)`, or pool over the unknown axes before this layer",
        )
    return size


def refuse_quantization(quantization_config):
    """Quantized layers do not exist here; the argument is known so that Keras's configs load."""
    if quantization_config is not None:
        raise ValueError(
            "Quantization is not supported: leave `quantization_config` None. "
            f"Received: quantization_config={quantization_config}"
        )
