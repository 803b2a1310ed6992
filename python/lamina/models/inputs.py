"""Does a tensor fit a model's input? If not, say how it was meant."""

from lamina import ops, tree
from lamina.engine.tracebacks import warn
from lamina.errors import ShapeError

_AXES = {
    2: ("batch", "features"),
    3: ("batch", "time", "features"),
    4: ("batch", "height", "width", "channels"),
}


def _fits(shape, expected):
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def adjust_input(model, x, reference):
    """`x` as the symbolic input `reference` wants it: as it is, or with a last axis of 1 added or dropped.

    Raises `ShapeError` naming the input. Another batch size than a fixed one is said once, and accepted.
    """
    shape, expected = tuple(x.shape), reference.shape
    if _fits(shape, expected):
        return x
    if _fits(shape[1:], expected[1:]) and shape and not model.strict_shapes:
        # What truly depends on the batch size, such as a stateful layer, says so itself.
        _say_once(
            model,
            f"Input '{reference.name}' of model '{model.name}' was made for batches of exactly "
            f"{expected[0]}, and was fed one of {shape[0]}. Make the `Input` without `batch_size`, or feed "
            "batches of that size.",
        )
        return x
    # An unknown first axis is a batch.
    one_sample = len(shape) == len(expected) - 1 and None not in shape[:1] and _fits(shape, expected[1:])
    added = len(shape) == len(expected) - 1 and expected[-1] == 1 and _fits(shape, expected[:-1])
    dropped = len(shape) == len(expected) + 1 and shape[-1] == 1 and _fits(shape[:-1], expected)
    # (1,) into Input((1,)) is the same either way.
    if (added or dropped) and (not one_sample or set(shape) == {1}) and not model.strict_shapes:
        read = (*shape, 1) if added else shape[:-1]
        _say_once(
            model,
            f"Input '{reference.name}' of model '{model.name}' has shape {expected}; data of shape {shape} "
            f"was read as {read}. Write `{'x[..., None]' if added else 'x[..., 0]'}` to say so, or set "
            "`model.strict_shapes = True` to make this an error.",
        )
        return ops.expand_dims(x, -1) if added else ops.squeeze(x, -1)
    position = next(i for i, r in enumerate(model.inputs) if r is reference)
    path = ".".join(map(str, tree.flatten_with_path(model.input)[position][0]))
    if len(shape) == len(expected):
        message = (
            f"Input {position} with name '{reference.name}' of layer '{model.name}' is incompatible with the "
            f"layer: expected shape={expected}, found shape={shape}"
        )
    else:
        message = (
            f"Invalid input shape for input {position} with name '{reference.name}' and path '{path}'. "
            f"Expected shape {expected}, but input has incompatible shape {shape}"
        )
    raise ShapeError(
        message,
        layer=model,
        argument=reference.name,
        got=shape,
        axes=_AXES.get(len(shape)) if not one_sample else None,
        expected=f"shape {expected} for the input '{reference.name}'",
        **_advice(shape, expected, one_sample, added or dropped),
    )


def _advice(shape, expected, one_sample, strict):
    """The likely cause and the fix."""
    if one_sample:
        return {"cause": "this is one sample without its batch axis", "fix": "`x[None]`"}
    if strict:
        return {
            "cause": "`strict_shapes` is on, so no axis of length 1 is added or dropped in silence",
            "fix": "`x[..., None]`" if len(shape) < len(expected) else "`x[..., 0]`",
        }
    if len(shape) == len(expected):
        if shape[0] != expected[0] and _fits(shape[1:], expected[1:]):
            return {
                "cause": f"the model was made for batches of exactly {expected[0]}",
                "fix": "make the `Input` without `batch_size`, or feed batches of that size",
            }
        if len(shape) > 3 and _fits((shape[0], *shape[2:], shape[1]), expected):
            return {
                "cause": "axis 1 holds the channels (channels_first data), the model expects them last",
                "fix": "`np.moveaxis(x, 1, -1)`, or layers with `data_format='channels_first'`",
            }
        axes = [
            i for i, (a, b) in enumerate(zip(shape, expected, strict=True)) if None not in (a, b) and a != b
        ]
        words = ", ".join(
            f"{shape[i]} along axis {i} where the model was made for {expected[i]}" for i in axes
        )
        return {
            "cause": words,
            "fix": f"feed data of shape {expected}, or make the model with `Input({tuple(shape[1:])})`",
        }
    return {
        "cause": f"{len(shape)} axes where the model has {len(expected)}",
        "fix": "`x[..., None]` if each value is one feature or channel"
        if len(shape) < len(expected)
        else None,
    }


def _say_once(model, text):
    """Warns once a model how its data was read."""
    if not model.__dict__.get("_said_how_read"):
        model.__dict__["_said_how_read"] = True
        warn(
            text,
        )
