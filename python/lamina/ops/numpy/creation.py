"""Ops that make tensors: constants, ranges, grids, windows."""

import math

import numpy as np

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.ops._base import exports, known_shape, one_axis, static_dims, tensor


def _dtype(dtype, default=None):
    return backend.standardize_dtype(dtype) if dtype is not None else default or backend.floatx()


@op
def array(x, dtype=None):
    """`x` as a tensor, cast to `dtype` if given."""
    return tensor(x, None if dtype is None else backend.standardize_dtype(dtype))


def zeros(shape, dtype=None):
    """A tensor of zeros; `dtype` is floatx unless given."""
    return _core.full(static_dims(shape), 0, _dtype(dtype))


def ones(shape, dtype=None):
    """A tensor of ones; `dtype` is floatx unless given."""
    return _core.full(static_dims(shape), 1, _dtype(dtype))


def empty(shape, dtype=None):
    """A tensor whose values nobody should read; here they are zeros."""
    return zeros(shape, dtype)


@op
def full(shape, fill_value, dtype=None):
    """A tensor filled with `fill_value`, a number or what broadcasts to `shape`; `dtype` is floatx unless
    given.
    """
    shape, dtype = static_dims(shape), _dtype(dtype)
    if isinstance(fill_value, (bool, int, float)):
        return _core.full(shape, fill_value, dtype)
    return _core.broadcast_to(tensor(fill_value, dtype), shape)


@op
def zeros_like(x, dtype=None):
    """Zeros with the shape of x, unknown axes included."""
    x = tensor(x)
    return _core.full_like(x, 0, _dtype(dtype, x.dtype))


@op
def ones_like(x, dtype=None):
    """Ones with the shape of x, unknown axes included."""
    x = tensor(x)
    return _core.full_like(x, 1, _dtype(dtype, x.dtype))


@op
def empty_like(x, dtype=None):
    """A tensor with the shape of x whose values nobody should read; here they are zeros."""
    x = tensor(x)
    return _core.full_like(x, 0, _dtype(dtype, x.dtype))


@op
def full_like(x, fill_value, dtype=None):
    """`fill_value` in the shape of x, unknown axes included."""
    x = tensor(x)
    dtype = _dtype(dtype, x.dtype)
    if isinstance(fill_value, (bool, int, float)):
        return _core.full_like(x, fill_value, dtype)
    return _core.broadcast_like(tensor(fill_value, dtype), x)


def _number(value):
    """A Python number from a number, a numpy scalar or a scalar tensor."""
    return value if isinstance(value, (int, float)) else np.asarray(value).item()


def arange(start, stop=None, step=None, dtype=None):
    """start, start + step, ... up to but without `stop`. With one argument: from 0.

    The dtype is int32 for integers and floatx for floats unless given.
    """
    values = [_number(v) for v in (start, stop, step) if v is not None]
    if dtype is None:
        named = [v for v in (start, stop, step) if hasattr(v, "dtype")]
        dtype = "int32" if all(isinstance(v, int) for v in values) else backend.floatx()
        dtype = _core.promote(*named, dtype) if named else dtype
    start, stop = (0, _number(start)) if stop is None else (_number(start), _number(stop))
    return _core.arange(start, stop, 1 if step is None else _number(step), _dtype(dtype))


@op
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """`num` evenly spaced values from `start` to `stop` (with it, if `endpoint`), along a new `axis`.

    With `retstep` also the step. `start` and `stop` may be tensors that broadcast.
    """
    if num < 0:
        raise ValueError(f"`num` must not be negative. Received: num={num}.")
    gaps = num - 1 if endpoint else num
    dtype = _dtype(dtype)
    work = dtype if "float" in dtype else backend.floatx()
    step_count = gaps if gaps > 0 else 1
    if isinstance(start, (int, float)) and isinstance(stop, (int, float)):
        step = (stop - start) / step_count if gaps > 0 else math.nan
        values = np.linspace(start, stop, num, endpoint=endpoint)
        if "int" in dtype:
            values = np.floor(values)
        values = tensor(values, dtype)
        return (values, tensor(step, work)) if retstep else values
    start, stop = tensor(start, work), tensor(stop, work)
    step = (stop - start) / float(step_count)
    axis = one_axis(axis, len(step.shape) + 1)
    ramp = _core.reshape(
        _core.arange(0, num, 1, work), [-1 if a == axis else 1 for a in range(len(step.shape) + 1)]
    )
    values = _core.expand_dims(_core.broadcast_like(start, step), [axis]) + ramp * _core.expand_dims(
        step, [axis]
    )
    if endpoint and num > 1:  # the last value is `stop` to the bit
        last = _core.expand_dims(_core.broadcast_like(stop, step), [axis])
        values = _core.where(_core.binary("eq", ramp, float(num - 1)), last, values)
    if "int" in dtype:
        values = _core.unary("floor", values)
    values = _core.cast(values, dtype)
    return (values, step) if retstep else values


@op
def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    """`base` to the power of `num` evenly spaced exponents from `start` to `stop`."""
    powers = _core.binary("pow", float(base), linspace(start, stop, num, endpoint, axis=axis))
    return _core.cast(powers, _dtype(dtype, powers.dtype))


@op
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """`num` values from `start` to `stop` with a constant ratio; both must have the same sign and not be
    zero.
    """
    start, stop = tensor(start, backend.floatx()), tensor(stop, backend.floatx())
    sign = _core.unary("sign", start)
    logs = (_core.unary("log", _core.unary("abs", v)) for v in (start, stop))
    values = _core.unary("exp", linspace(*logs, num, endpoint, axis=axis))
    sign = _core.broadcast_like(sign, start + stop)
    values = values * _core.expand_dims(sign, [one_axis(axis, len(sign.shape) + 1)])
    return _core.cast(values, _dtype(dtype, values.dtype))


def eye(N, M=None, k=0, dtype=None):
    """Ones on the k-th diagonal of an N x M matrix (M = N unless given), zeros elsewhere."""
    return tensor(np.eye(int(N), None if M is None else int(M), k), _dtype(dtype))


def identity(n, dtype=None):
    """The n x n identity matrix."""
    return eye(n, dtype=dtype)


def tri(N, M=None, k=0, dtype=None):
    """Ones at and below the k-th diagonal of an N x M matrix."""
    return tensor(np.tri(int(N), None if M is None else int(M), k, dtype="bool"), _dtype(dtype))


@op
def meshgrid(*x, indexing="xy"):
    """Coordinate grids of 1-D tensors; "xy" swaps the first two axes as in plots, "ij" does not."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"`indexing` must be 'xy' or 'ij'. Received: {indexing!r}.")
    xs = [_core.reshape(tensor(v), (-1,)) for v in x]
    sizes = [known_shape(v, "meshgrid")[0] for v in xs]
    places = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(xs)
    for place, size in zip(places, sizes, strict=True):
        shape[place] = size
    grids = []
    for place, v in zip(places, xs, strict=True):
        spread = [-1 if a == place else 1 for a in range(len(xs))]
        grids.append(_core.broadcast_to(_core.reshape(v, spread), shape))
    return grids


def _window(values):
    return tensor(values.astype("float32"), backend.floatx())


def bartlett(x):
    """Bartlett (triangular) window of length x."""
    return _window(np.bartlett(int(_number(x))))


def blackman(x):
    """Blackman window of length x."""
    return _window(np.blackman(int(_number(x))))


def hamming(x):
    """Hamming window of length x."""
    return _window(np.hamming(int(_number(x))))


def hanning(x):
    """Hann window of length x."""
    return _window(np.hanning(int(_number(x))))


def kaiser(x, beta):
    """Kaiser window of length x and shape parameter `beta`."""
    return _window(np.kaiser(int(_number(x)), beta))


@op
def vander(x, N=None, increasing=False):
    """Vandermonde matrix of a 1-D x: columns are its powers, N of them, high to low unless `increasing`."""
    x = tensor(x)
    count = known_shape(x, "vander")[0] if N is None else N
    powers = _core.arange(0, count, 1, "int32")
    if not increasing:
        powers = _core.flip(powers, [0])
    return _core.binary("pow", _core.expand_dims(x, [1]), _core.cast(powers, x.dtype))


__all__ = exports(globals())
