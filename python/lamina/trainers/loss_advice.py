"""Does the last layer fit the loss? Mistakes that train without an error and learn nothing."""

from lamina import losses
from lamina.engine.operation import Operation

_OF_CLASSES = ("categorical_crossentropy", "sparse_categorical_crossentropy")
_OF_PROBABILITIES = (*_OF_CLASSES, "categorical_focal_crossentropy")
_BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
# Activations whose values are no probabilities.
_UNBOUNDED = ("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "tanh")
# Layers whose output is meant to have one row per step.
_OF_SEQUENCES = ("RNN", "LSTM", "GRU", "Bidirectional", "TimeDistributed", "Attention", "Embedding", "Conv1D")


def loss_advice(model):
    """(what is wrong, how to fix it) for each loss of a model that has been traced."""
    compile_loss = model._compile_loss
    if compile_loss is None or not compile_loss.built:
        return
    outputs = getattr(model, "outputs", None) if model.built else None
    for index, loss, shape in compile_loss.resolved:
        layer = _made_by(outputs[index]) if outputs else None
        if layer is not None and shape and losses.is_known(getattr(loss, "fn", None)):
            settings = getattr(loss, "_fn_kwargs", {})
            yield from _against(layer, loss.fn.__name__, settings.get("from_logits"), shape[-1])


def _against(layer, name, from_logits, size):
    activation = last_activation(layer)
    if name not in (*_OF_PROBABILITIES, *_BINARY) or activation is None:
        return
    right = "sigmoid" if name in _BINARY else "softmax"
    if size == 1 and activation == "softmax":
        yield (
            f"'{layer.name}' applies softmax to a single value, which is always 1.",
            'use `activation="sigmoid"` with "binary_crossentropy"',
        )
    elif size == 1 and name in _OF_CLASSES:
        yield (
            f"\"{name}\" needs one output per class, and '{layer.name}' has 1.",
            'give it as many units as there are classes, or use `activation="sigmoid"` with '
            '"binary_crossentropy"',
        )
    elif from_logits and activation in ("softmax", "sigmoid"):
        yield (
            f"'{layer.name}' applies {activation}, and \"{name}\" with `from_logits=True` applies it again.",
            "leave out one of the two",
        )
    elif not from_logits and activation in _UNBOUNDED:
        kind = "no activation" if activation == "linear" else f"activation {activation}"
        yield (
            f"\"{name}\" expects probabilities, and '{layer.name}' has {kind}.",
            f'use `activation="{right}"` in that layer, or the loss with `from_logits=True`',
        )


def last_activation(layer):
    """The name of the activation that makes a layer's output, `None` where it is not known."""
    kind = type(layer).__name__
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    if kind in ("Dense", "Activation") or "Conv" in kind:
        return getattr(getattr(layer, "activation", None), "__name__", None)
    return None


def forgotten_flatten(model):
    """The warning for a classifier whose `Dense` layer works on each position of an image, else `None`."""
    outputs = getattr(model, "outputs", None) if model.built else None
    loss = model._compile_config["loss"] if model.compiled else None
    if not outputs or len(outputs) != 1 or _name_of(loss) not in (*_OF_PROBABILITIES, *_BINARY):
        return None
    shape, layer = outputs[0].shape, _made_by(outputs[0])
    before = {type(o).__name__ for o in getattr(model, "_flatten_layers", list)()}
    sequences = any(name.endswith(_OF_SEQUENCES) or "Attention" in name for name in before)
    while layer is not None and type(layer).__name__ in ("Activation", "Softmax", "Dropout"):
        layer = _made_by(layer.input)
    if type(layer).__name__ != "Dense" or len(shape) < 3 or sequences:
        return None
    positions = "x".join("?" if size is None else str(size) for size in shape[1:-1])
    pooling = f", or `GlobalAveragePooling{len(shape) - 2}D()`," if len(shape) < 6 else ""
    return (
        f"Forgotten Flatten? The output of '{layer.name}' is {shape}: {shape[-1]} values for each of "
        f"{positions} positions, not for each sample. Put `Flatten()`{pooling} before '{layer.name}' to "
        "classify whole samples."
    )


def _name_of(loss):
    loss = getattr(loss, "fn", loss)
    return getattr(loss, "__name__", loss if isinstance(loss, str) else None)


def _made_by(x):
    history = getattr(x, "_keras_history", None)
    found = history.operation if history is not None else None
    return found if isinstance(found, Operation) else None
