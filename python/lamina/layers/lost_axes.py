"""Who took away the axes that a layer misses: a recurrent layer, `Flatten` or a global pooling before it."""


def explain_lost_axes(error, x):
    """Names in a `ShapeError` the layer because of which the symbolic `x` has no time, height or width."""
    wanted = str(error.expected)
    if len(x.shape) != 2 or not ("(batch, time" in wanted or "(batch, height" in wanted):
        return
    layer = _reducer(x)
    if layer is None:
        return
    kind, cause = type(layer).__name__, None
    if hasattr(layer, "return_sequences"):
        if layer.return_sequences or "(batch, time" not in wanted:
            return
        inner = getattr(layer, "forward_layer", None)
        whose = f"the {type(inner).__name__} in '{layer.name}'" if inner else f"'{layer.name}'"
        cause = f"'{layer.name}' returns only its last step, (batch, features): the time axis is gone"
        fix = f"`return_sequences=True` on {whose}, so that it returns every step"
    elif kind == "Flatten":
        cause = f"'{layer.name}' made one axis of all axes of a sample"
        fix = f"put this layer before '{layer.name}', or leave '{layer.name}' out"
    elif kind.startswith("Global"):
        cause = f"'{layer.name}' left one value per channel: the axes that it pooled over are gone"
        fix = f"put this layer before '{layer.name}', or leave '{layer.name}' out"
    if cause:
        error.producer, error.cause, error.fix, error.axes = layer, cause, fix, ("batch", "features")


def _reducer(x):
    """The layer that made `x` of a value with more axes, or of a sequence, past layers that keep the rank."""
    history = getattr(x, "_keras_history", None)
    while history is not None and history.operation is not None:
        layer = history.operation
        inputs = layer._inbound_nodes[history.node_index].input_tensors
        if hasattr(layer, "return_sequences"):
            return layer
        if len(inputs) != 1:
            return None
        if len(inputs[0].shape) > 2:
            return layer
        history = getattr(inputs[0], "_keras_history", None)
    return None
