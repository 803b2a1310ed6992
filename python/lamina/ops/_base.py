"""What every op module leans on: conversion, axes, and the table form of elementwise ops."""

import math

from lamina import _core, backend
from lamina.engine.operation import op

_NATIVE = (_core.Tensor, _core.SymbolicTensor)


def tensor(x, dtype=None):
    """`x` as a value of the engine; lists that hold tensors are stacked."""
    if isinstance(x, _NATIVE):
        return x if dtype is None or x.dtype == dtype else _core.cast(x, dtype)
    if isinstance(x, (list, tuple)) and holds_tensor(x):
        parts = [_core.expand_dims(tensor(part), [0]) for part in x]
        dtype = dtype or _core.promote(*parts)
        return _core.concat([_core.cast(part, dtype) for part in parts], 0)
    if isinstance(x, _core.VariableState) and dtype is not None:
        return _core.cast(_core.tensor(x), dtype)
    return _core.tensor(x) if dtype is None else _core.tensor(x, dtype)


def tensors(*xs):
    """Several operands; Python scalars stay weakly typed."""
    return [x if isinstance(x, (bool, int, float)) else tensor(x) for x in xs]


def holds_tensor(values):
    """Is there a tensor anywhere in this nested list?"""
    for value in values:
        if isinstance(value, (list, tuple)):
            if holds_tensor(value):
                return True
        elif isinstance(value, (*_NATIVE, _core.VariableState)):
            return True
    return False


def is_symbolic(x):
    """Is `x` a value that has no data yet (a trace is in progress)?"""
    return isinstance(x, _core.SymbolicTensor)


def needs_known(what):
    """Ask the tracer to trace again at concrete shapes, because `what` depends on an unknown axis."""
    from lamina.engine.trace import ConcreteShapeNeeded

    return ConcreteShapeNeeded(what)


def known(x, axis, name):
    """The size of one axis as an int."""
    dim = x.shape[axis]
    if dim is None:
        raise needs_known(f"{name}: axis {axis} of shape {tuple(x.shape)} is unknown while tracing")
    return dim


def known_shape(x, name):
    """All sizes as ints."""
    return tuple(known(x, axis, name) for axis in range(len(x.shape)))


def one_axis(axis, ndim, name="axis"):
    """A non-negative axis, or a ValueError that says the range."""
    if not isinstance(axis, int):
        axis = int(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"`{name}` is out of range: {axis} for a tensor with {ndim} axes "
            f"(expected {-ndim} to {ndim - 1})."
        )
    return axis + ndim if axis < 0 else axis


def axes_of(axis, ndim):
    """None (all axes), an int or a sequence of ints -> sorted non-negative axes."""
    if axis is None:
        return list(range(ndim))
    if isinstance(axis, (list, tuple)):
        found = sorted(one_axis(a, ndim) for a in axis)
        if len(set(found)) != len(found):
            raise ValueError(f"`axis` names the same axis twice: {tuple(axis)}.")
        return found
    return [one_axis(axis, ndim)]


def move_last(x, axis):
    """`x` with `axis` moved to the end, and the permutation that moves it back (None where nothing moved)."""
    ndim = len(x.shape)
    if axis == ndim - 1:
        return x, None
    perm = [*(a for a in range(ndim) if a != axis), axis]
    back = [*range(axis), ndim - 1, *range(axis, ndim - 1)]
    return _core.transpose(x, perm), back


def slice_axis(x, axis, start=None, stop=None, step=1):
    """`x[..., start:stop:step, ...]` on one axis."""
    ndim = len(x.shape)
    starts, stops, steps = [None] * ndim, [None] * ndim, [1] * ndim
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return _core.slice(x, starts, stops, steps)


def static_dims(shape):
    """A shape argument (int, sequence of ints, 1-D tensor) -> tuple of ints."""
    if isinstance(shape, int):
        return (shape,)
    dims = tuple(shape)
    if any(dim is None for dim in dims):
        raise needs_known(f"the shape {dims} has an unknown axis while tracing")
    return tuple(int(dim) for dim in dims)


def float_dtype(*xs):
    """The floating dtype that a computation on these values runs in."""
    dtype = _core.promote(*xs)
    return dtype if "float" in dtype else backend.floatx()


def as_float(x):
    """`x` with integers and booleans cast to floatx."""
    x = tensor(x)
    return x if "float" in x.dtype else _core.cast(x, backend.floatx())


def limits(dtype):
    """Smallest and largest finite value of a dtype, as Python numbers."""
    if dtype == "bool":
        return False, True
    if dtype == "bfloat16":
        return -3.3895313892515355e38, 3.3895313892515355e38
    import numpy as np

    info = np.finfo(dtype) if "float" in dtype else np.iinfo(dtype)
    number = float if "float" in dtype else int
    return number(info.min), number(info.max)


def named(function, name, doc, module):
    """Give a generated op its public name and docstring, and register it as an op."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    function.__module__ = module
    return op(function)


def product(dims):
    """Number of elements of a known shape."""
    return math.prod(dims)


def exports(namespace):
    """The public functions that a module defines itself, for its `__all__`."""
    own = namespace["__name__"]
    return [
        n for n, v in namespace.items() if not n.startswith("_") and getattr(v, "__module__", None) == own
    ]
