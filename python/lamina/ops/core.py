"""Making, casting, slicing and scattering tensors. Control flow is in `lamina.ops.control`."""

import numpy as np

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.ops._base import (
    exports,
    holds_tensor,
    is_symbolic,
    known,
    known_shape,
    limits,
    needs_known,
    one_axis,
    slice_axis,
    static_dims,
    tensor,
)

_slice = slice  # the built-in, which the op of that name hides


class _Dims(tuple):
    """The shape of a traced value. Reading an unknown axis asks the tracer for concrete shapes; the others
    are ints.
    """

    def __getitem__(self, item):
        got = tuple.__getitem__(self, item)
        if isinstance(item, _slice):
            return _Dims(got)
        if got is None:
            raise needs_known(f"axis {item} of shape {tuple.__repr__(self)} is unknown while tracing")
        return got

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return tuple.__repr__(self)


def shape(x):
    """The shape of `x` as a tuple of ints; an axis of a KerasTensor may be None.

    Inside a traced function the unknown axes become known: reading one makes the function be traced for each
    concrete size.

    >>> ops.shape(ops.zeros((2, 3)))
    (2, 3)
    """
    dims = tuple(x.shape) if hasattr(x, "shape") else tuple(tensor(x).shape)
    return _Dims(dims) if is_symbolic(x) and None in dims else dims


def dtype(x):
    """The dtype of `x` as a string, such as "float32"."""
    if hasattr(x, "dtype"):
        return backend.standardize_dtype(x.dtype)
    return tensor(x).dtype


def is_tensor(x):
    """Is `x` a tensor of the engine (concrete or symbolic)? Variables and numpy arrays are not."""
    return isinstance(x, (_core.Tensor, _core.SymbolicTensor))


@op
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """`x` (array, number, nested list, variable, tensor) as a tensor, cast to `dtype` if given. Sparse and
    ragged do not exist here.
    """
    if sparse or ragged:
        raise ValueError("lamina has dense tensors only: `sparse` and `ragged` must be None or False.")
    return tensor(x, None if dtype is None else backend.standardize_dtype(dtype))


def convert_to_numpy(x):
    """`x` as a numpy array; bfloat16 comes back as float32."""
    if isinstance(x, (list, tuple)) and holds_tensor(x):
        x = tensor(x)
    return np.asarray(x)


@op
def cast(x, dtype):
    """`x` in another dtype. Floats are cut towards zero when they become integers; anything non-zero becomes
    True.
    """
    return _core.cast(tensor(x), backend.standardize_dtype(dtype))


@op
def saturate_cast(x, dtype):
    """`cast` that clips to the range of the new dtype first, so that nothing wraps around."""
    x, dtype = tensor(x), backend.standardize_dtype(dtype)
    # From floats to integers the engine's cast clips by itself.
    if "bool" not in (x.dtype, dtype) and not ("float" in x.dtype and "int" in dtype):
        (low, high), (own_low, own_high) = limits(dtype), limits(x.dtype)
        if own_low < low:
            x = _core.binary("max", x, low)
        if own_high > high:
            x = _core.binary("min", x, high)
    return _core.cast(x, dtype)


@op
def stop_gradient(variable):
    """`variable`, through which no gradient flows."""
    return _core.stop_gradient(variable)


@op
def slice(inputs, start_indices, shape):
    """The block of `shape` that begins at `start_indices` (one index an axis, ints or an integer tensor).

    A size of -1 takes the rest of the axis. With tensor starts the block is moved inside the input if it
    would stick out.
    """
    inputs = tensor(inputs)
    if _is_static(start_indices):
        starts = [int(i) for i in start_indices]
        stops = [None if n == -1 else start + int(n) for start, n in zip(starts, shape, strict=True)]
        return _core.slice(inputs, starts, stops, [1] * len(starts))
    return _core.dynamic_slice(inputs, tensor(start_indices, "int32"), static_dims(shape))


@op
def slice_update(inputs, start_indices, updates):
    """`inputs` with the block that begins at `start_indices` replaced by `updates`."""
    inputs = tensor(inputs)
    return _core.dynamic_update_slice(inputs, tensor(updates, inputs.dtype), tensor(start_indices, "int32"))


def _is_static(indices):
    """Can these start indices be read as ints now?"""
    if isinstance(indices, (list, tuple)):
        return not any(
            isinstance(i, (_core.Tensor, _core.SymbolicTensor, _core.VariableState)) for i in indices
        )
    return isinstance(indices, np.ndarray)


@op
def scatter(indices, values, shape):
    """Zeros of `shape` with `values` added at `indices`; the last axis of `indices` holds one coordinate
    each.

    >>> ops.scatter([[0, 1], [2, 0]], [5, 6], (3, 2))
    [[0, 5], [0, 0], [6, 0]]
    """
    values = tensor(values)
    return _core.scatter_add(
        _core.full(static_dims(shape), 0, values.dtype), tensor(indices, "int32"), values
    )


@op
def scatter_update(inputs, indices, updates, reduction=None):
    """`inputs` with `updates` (n, ...) written at `indices` (n, k), k coordinates into the leading axes.

    `reduction`: None (the last update of a coordinate wins), "add", "max", "min" or "mul".
    """
    from lamina.ops.math import segment_reduce

    inputs, indices = tensor(inputs), tensor(indices, "int32")
    updates = tensor(updates, inputs.dtype)
    if reduction == "add":
        return _core.scatter_add(inputs, indices, updates)
    kinds = {None: "last", "max": "max", "min": "min", "mul": "prod"}
    if reduction not in kinds:
        raise ValueError(f"`reduction` must be None, 'add', 'max', 'min' or 'mul'. Received: {reduction!r}.")
    depth = known(indices, -1, "scatter_update")
    lead, rest = known_shape(inputs, "scatter_update")[:depth], tuple(inputs.shape)[depth:]
    strides = [int(np.prod(lead[i + 1 :], dtype=int)) for i in range(depth)]
    wrapped = _core.where(_core.binary("lt", indices, 0), indices + np.array(lead, "int32"), indices)
    rows = _core.reduce("sum", wrapped * np.array(strides, "int32"), [len(indices.shape) - 1])
    rows = _core.reshape(rows, (-1,))
    flat = _core.reshape(updates, (-1, *rest))
    n = int(np.prod(lead, dtype=int))
    merged = segment_reduce(kinds[reduction], flat, rows, n)
    hit = _core.scatter_add(
        _core.full((n,), 0, "int32"), _core.expand_dims(rows, [1]), _core.full_like(rows, 1)
    )
    hit = _core.reshape(_core.binary("gt", hit, 0), (n,) + (1,) * len(rest))
    old = _core.reshape(inputs, (n, *rest))
    if reduction is not None:
        combine = {"max": "max", "min": "min", "mul": "mul"}[reduction]
        merged = _core.binary(combine, old, merged)
    return _core.reshape(_core.where(hit, merged, old), inputs.shape)


@op
def unstack(x, num=None, axis=0):
    """The slices of `x` along `axis`, as a list; the axis itself goes away."""
    x = tensor(x)
    axis = one_axis(axis, len(x.shape))
    size = num if num is not None else known(x, axis, "unstack")
    return [_core.squeeze(slice_axis(x, axis, i, i + 1), [axis]) for i in range(size)]


__all__ = exports(globals())
