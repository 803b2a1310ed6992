"""The sizes that led to an error, layer by layer, and the layer from which an axis is unknown."""

from lamina.engine.keras_tensor import KerasTensor

_LONGEST = 14  # layers shown; a longer way loses its middle


def add_trail(error, x, shape_of=None):
    """Fills in `error.trail` for an error that asks for it (`trail=True`).

    Args:
        x: the KerasTensor that went into the layer at fault.
        shape_of: function from a KerasTensor to its shape, where data has made it more exact.
    """
    if error.trail is not True or not isinstance(x, KerasTensor):
        return
    shape_of = shape_of or (lambda x: x.shape)
    steps = _steps(x)
    unknown = error.message.endswith("Found `None`.")
    shapes = [(operation, tuple(shape_of(y))) for operation, y in steps]
    error.trail = _written(error.layer, shapes, with_channels=unknown)
    if unknown:
        _explain_unknown(error, steps)


def _steps(x):
    """(operation, KerasTensor) from the input of the graph to `x`, along first arguments."""
    steps = []
    while x is not None:
        history = getattr(x, "_keras_history", None)
        if history is None or history.operation is None:
            break
        steps.append((history.operation, x))
        parents = history.operation._inbound_nodes[history.node_index].input_tensors
        x = parents[0] if parents else None
    return steps[::-1]


def _written(layer, steps, with_channels):
    """`28x28 -> conv2d 26x26 -> max_pooling2d 13x13`: the steps that change a size; `None` without any."""
    first = getattr(layer, "data_format", None) == "channels_first"
    words, before = [], None
    for operation, shape in steps:
        spatial = slice(2, None) if first else slice(1, -1)
        sizes = shape[1:] if len(shape) < 3 or with_channels else shape[spatial]
        text = "x".join("?" if size is None else str(size) for size in sizes)
        if text != before:
            words.append(text if before is None else f"{operation.name} {text}")
        before = text
    if len(words) > _LONGEST:
        words[2 : 4 - _LONGEST] = ["..."]
    words.append(layer if isinstance(layer, str) else layer.name)
    return " -> ".join(words) if before is not None else None


def _explain_unknown(error, steps):
    """Says from which layer on an axis is unknown, and what may stand in place of a `Flatten`."""
    unknown = [(operation, x) for operation, x in steps if None in x.shape[1:]]
    if not unknown:
        return
    source, x = unknown[0]
    axes = [str(axis) for axis, size in enumerate(x.shape) if size is None and axis]
    which = f"the unknown {'axis' if len(axes) == 1 else 'axes'} {' and '.join(axes)} of '{source.name}'"
    error.cause = f"{error.cause}; it comes from {which} {x.shape}"
    last = steps[-1][0]
    if type(last).__name__ == "Flatten" and len(x.shape) in (3, 4, 5):
        pooling = f"GlobalAveragePooling{len(x.shape) - 2}D"
        error.fix = f"give '{source.name}' a size along each axis, or put `{pooling}()` for '{last.name}'"
