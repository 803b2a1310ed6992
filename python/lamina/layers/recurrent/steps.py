"""The time axis: cut into steps, and put together from one."""

from lamina import ops, tree

# Cutting in two rounds keeps the gradient cheap: that of a piece is as large as what it was cut from.
_CHUNK = 10


def time_rows(x):
    """The rows of a tensor (time, batch, ...) along its first axis; of a list of tensors, lists of rows."""
    if tree.is_nested(x):
        return [list(row) for row in zip(*[time_rows(part) for part in x], strict=True)]
    size = x.shape[0]
    if size <= _CHUNK:
        return [x[i] for i in range(size)]
    chunk = _CHUNK
    while chunk * _CHUNK < size:
        chunk *= _CHUNK
    return [row for start in range(0, size, chunk) for row in time_rows(x[start : start + chunk])]


def time_blocks(x):
    """A tensor (time, batch, ...) in pieces of a few steps each."""
    return [x[start : start + _CHUNK] for start in range(0, x.shape[0], _CHUNK)]


def over_time(x, sequences):
    """`x` (batch, ...) repeated along a new time axis as long as that of `sequences` (batch, time, ...)."""
    steps = ops.zeros_like(sequences[(slice(None), slice(None), *[0] * (len(sequences.shape) - 2))])
    steps = ops.cast(steps, x.dtype)
    while len(steps.shape) < len(x.shape) + 1:
        steps = ops.expand_dims(steps, -1)
    return ops.expand_dims(x, 1) + steps
