"""Diagonals and triangles of matrices."""

import numpy as np

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import exports, known, one_axis, tensor


def _diagonal_span(shape, offset):
    """Where the offset-th diagonal of the last two axes starts, and its length."""
    rows, columns = shape[-2:]
    row, column = (-offset if offset < 0 else 0), (offset if offset > 0 else 0)
    return row, column, max(0, min(rows - row, columns - column))


@op
def diagonal(x, offset=0, axis1=0, axis2=1):
    """The offset-th diagonal of the planes (axis1, axis2), as the last axis."""
    x = tensor(x)
    ndim = len(x.shape)
    if ndim < 2:
        raise ValueError(f"`diagonal` needs at least two axes. Received shape {tuple(x.shape)}.")
    a, b = one_axis(axis1, ndim, "axis1"), one_axis(axis2, ndim, "axis2")
    x = _core.transpose(x, [i for i in range(ndim) if i not in (a, b)] + [a, b])
    columns = known(x, -1, "diagonal")
    row, column, length = _diagonal_span((known(x, -2, "diagonal"), columns), offset)
    lead = [("copy", i) for i in range(ndim - 2)]
    flat = _core.reshape_dims(x, [*lead, ("fixed", x.shape[-2] * columns)])
    places = (row * columns + column + np.arange(length) * (columns + 1)).astype("int32")
    return _core.gather(flat, places, ndim - 2)


@op
def diag(x, k=0):
    """The k-th diagonal of a matrix, or the matrix with a 1-D x on its k-th diagonal."""
    x = tensor(x)
    if len(x.shape) == 2:
        return diagonal(x, k)
    if len(x.shape) != 1:
        raise ValueError(f"`diag` takes 1 or 2 axes. Received shape {tuple(x.shape)}.")
    n = known(x, 0, "diag")
    size = n + (k if k > 0 else -k)
    before = k if k > 0 else 0
    row = _core.pad(x, [(before, size - n - before)])  # a value per column
    mask = np.eye(size, k=k, dtype=bool)
    return _core.where(tensor(mask), row, _core.full((), 0, x.dtype))


@op
def diagflat(x, k=0):
    """`diag` of the flattened tensor."""
    return diag(_core.reshape(tensor(x), (-1,)), k)


@op
def trace(x, offset=0, axis1=0, axis2=1):
    """Sum of the offset-th diagonal of the planes (axis1, axis2)."""
    line = diagonal(x, offset, axis1, axis2)
    return _core.reduce("sum", line, [len(line.shape) - 1])


def _triangle(x, k, lower):
    x = tensor(x)
    rows, columns = known(x, -2, "tril"), known(x, -1, "tril")
    keep = np.tri(rows, columns, k if lower else k - 1, dtype=bool)
    return _core.where(tensor(keep if lower else ~keep), x, _core.full((), 0, x.dtype))


@op
def tril(x, k=0):
    """x with zeros above its k-th diagonal."""
    return _triangle(x, k, True)


@op
def triu(x, k=0):
    """x with zeros below its k-th diagonal."""
    return _triangle(x, k, False)


__all__ = exports(globals())
