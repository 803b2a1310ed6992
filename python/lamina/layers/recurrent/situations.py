"""What a user reads when a recurrent layer gets something that is not (batch, time, features)."""

import math

from lamina.errors import ShapeError

AXES = ("batch", "time", "features")


def explain_rank(error, layer, x):
    """Fills in the likely cause and the fix where `x` lacks the time axis, or has axes too many."""
    ndim = len(x.shape)
    if ndim == 2:
        _explain_two_axes(error, x)
    elif ndim == 1:
        error.cause = "neither the batch nor the features have an axis of their own"
        error.fix = "`x[None, :, None]` if this is one sequence with one feature per step"
    elif ndim > 3:
        size = "features" if None in x.shape[2:] else math.prod(x.shape[2:])
        error.cause = f"each step holds {ndim - 2} axes; a recurrent layer takes one row of features per step"
        steps = x.shape[1] if x.shape[1] is not None else -1
        error.fix = f"`TimeDistributed(Flatten())` or `Reshape(({steps}, {size}))` before it"


def _explain_two_axes(error, x):
    error.axes = ("batch", "features")
    size = x.shape[1]
    history = getattr(x, "_keras_history", None)
    from_input = history is not None and type(history.operation).__name__ == "InputLayer"
    one_feature, one_step = "`x[..., None]`", "`x[:, None, :]`"
    if from_input:
        one_feature += f" and `Input(({size}, 1))`"
        one_step += f" and `Input((1, {size}))`"
    last = "" if history else "; the output of a recurrent layer? `return_sequences=True` on that layer"
    error.cause = "an axis is missing: of each sequence, either the time or the features"
    error.fix = f"one feature per step? {one_feature}; one step? {one_step}{last}"


def no_batch_size(layer, shape):
    """The error of a stateful layer whose batch size is unknown."""
    return ShapeError(
        "When using `stateful=True` in a RNN, the batch size must be static. Found dynamic batch size: "
        f"sequence.shape={tuple(shape)}",
        layer=layer,
        got=tuple(shape),
        axes=AXES,
        expected="a known batch size",
        cause="a stateful layer keeps one state for each sample of the batch, so it must know how many",
        fix=f"`Input(batch_shape=(32, {', '.join(str(d) for d in shape[1:])}))` for batches of 32",
    )


def other_batch_size(layer, expected, shape):
    """The error of a stateful layer that gets a batch of another size than it has states for."""
    return ShapeError(
        "If an RNN is stateful, the batch size of the input sequences must be the same as the batch size of "
        f"the initial state. Expected batch size: {expected}. Received batch size: {shape[0]}",
        layer=layer,
        got=tuple(shape),
        axes=AXES,
        expected=f"{expected} samples",
        cause=f"the layer was built for batches of {expected} and keeps a state for each sample",
        fix=f"feed batches of {expected} samples (leave out a smaller last one), or build the model anew",
    )


def no_steps(layer, shape):
    """The error of sequences without a single step."""
    return ShapeError(
        "A recurrent layer needs at least one time step.",
        layer=layer,
        got=tuple(shape),
        axes=AXES,
        expected="a time axis of size 1 or more",
    )


def unknown_unroll(layer, shape):
    """The error of `unroll=True` where the number of steps is unknown."""
    return ShapeError(
        "Cannot unroll a RNN if the time dimension is undefined.",
        layer=layer,
        got=tuple(shape),
        axes=AXES,
        expected="a known number of time steps",
        fix="give `Input` the number of steps, or leave out `unroll=True`",
    )


def wrong_states(layer, sizes, states, batch):
    """The error of an `initial_state` that does not fit."""
    got = [tuple(s.shape) for s in states]
    wanted = ", ".join(f"({'batch' if batch is None else batch}, {size})" for size in sizes)
    return ShapeError(
        f"`initial_state` does not fit: the layer has {len(sizes)} state(s), received {len(got)}.",
        layer=layer,
        argument="initial_state",
        got=got,
        expected=f"{len(sizes)} tensor(s) of shape {wanted}",
    )
