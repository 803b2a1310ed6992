"""What must fit between the inputs of an attention layer, and the masks that all of them share."""

import numpy as np

from lamina import ops
from lamina.errors import ShapeError
from lamina.layers.arguments import known_axis


def check_shapes(layer, query, value, key, same_features=False):
    """Raises `ShapeError` unless these shapes, (batch, ..., time, features), can attend to each other.

    `same_features`: query and key are compared with each other as they are. Else each is projected first, and
    the number of its features must be known.
    """
    shapes = (
        {"query": query, "value": value} if key == value else {"query": query, "value": value, "key": key}
    )
    for name, shape in shapes.items():
        if len(shape) < 3:
            raise ShapeError(
                f"{type(layer).__name__} needs sequences: expected min_ndim=3, found ndim={len(shape)} for "
                f"`{name}`.",
                layer=layer,
                argument=name,
                got=_named(shapes),
                expected="(batch, time, features) for each",
                cause="without a time axis there is nothing to attend to",
                fix="`x[:, None, :]` for one step, or `return_sequences=True` on the recurrent layer before",
            )
        if not same_features:
            known_axis(shape, -1, layer, f"{name}'s features")
    if not _agree(value[1:-1], key[1:-1]):
        raise _mismatch(
            layer,
            shapes,
            "All dimensions of `value` and `key`, except the last one, must be equal. "
            f"Received: value_shape={value} and key_shape={key}",
            "each key stands for one value: as many steps in both",
        )
    if not (_agree(query[:1], value[:1]) and _agree(query[:1], key[:1])):
        raise _mismatch(layer, shapes, "The inputs have different batch sizes.", "one batch size")
    if same_features and not _agree(query[-1:], key[-1:]):
        other = "key" if key != value else "value"
        raise _mismatch(
            layer,
            shapes,
            f"`query` and `{other}` must have the same number of features. Received {query[-1]} and "
            f"{key[-1]}.",
            f"{query[-1]} features along the last axis of `{other}`, as in `query`",
            fix=f"`Dense({query[-1]})` on `{other}` before it, or `MultiHeadAttention`, which projects both",
        )


def check_mask(layer, mask, query, value, axes):
    """Raises `ShapeError` unless an `attention_mask` broadcasts to (batch, [heads,] targets, sources) for
    attention over these axes.
    """
    wanted = (query[0], *(query[a] for a in axes), *(value[a] for a in axes))
    got = tuple(mask.shape)
    fits = all(_fits(a, b) for a, b in zip(reversed(got), reversed(wanted[1:]), strict=False))
    if not fits or (len(got) >= len(wanted) and not _fits(got[0], wanted[0])):
        raise ShapeError(
            f"`attention_mask` has shape {got}, which does not fit (batch, targets, sources) = {wanted}.",
            layer=layer,
            argument="attention_mask",
            got=got,
            expected=f"a mask that broadcasts to {wanted}",
            cause="it says for each step of `query` which steps of `value` it may look at",
        )


def causal(targets, sources):
    """(1, targets, sources): no step sees a later one."""
    return ops.convert_to_tensor(np.tri(targets, sources, dtype=bool)[None])


def band(targets, sources, width):
    """(1, targets, sources): each step sees those fewer than `width` away."""
    distance = np.abs(np.arange(targets)[:, None] - np.arange(sources))
    return ops.convert_to_tensor((distance < width)[None])


def all_of(masks):
    """Where all the masks that are given hold; `None` without any."""
    masks = [ops.cast(m, "bool") for m in masks if m is not None]
    merged = masks[0] if masks else None
    for mask in masks[1:]:
        merged = ops.logical_and(merged, mask)
    return merged


def _agree(a, b):
    return len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True))


def _fits(a, b):
    return a in (1, b) or None in (a, b)


def _named(shapes):
    return {name: tuple(shape) for name, shape in shapes.items()}


def _mismatch(layer, shapes, message, expected, fix=None):
    return ShapeError(message, layer=layer, argument="inputs", got=_named(shapes), expected=expected, fix=fix)
