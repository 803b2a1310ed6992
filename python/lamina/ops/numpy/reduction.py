"""Reductions over axes, and running ones."""

import math

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.ops._base import as_float, axes_of, exports, one_axis, slice_axis, tensor, tensors


def _reduce(kind, x, axis, keepdims):
    x = tensor(x)
    return _core.reduce(kind, x, axes_of(axis, len(x.shape)), keepdims)


def _extreme(kind, x, axis, keepdims, initial):
    found = _reduce(kind, x, axis, keepdims)
    return found if initial is None else _core.binary(kind, found, tensors(initial)[0])


@op
def sum(x, axis=None, keepdims=False):
    """Sum over `axis` (None: all). Booleans and small integers are summed in int32."""
    return _reduce("sum", x, axis, keepdims)


@op
def prod(x, axis=None, keepdims=False, dtype=None):
    """Product over `axis` (None: all), computed in `dtype` if given."""
    if dtype is not None:
        x = tensor(x, backend.standardize_dtype(dtype))
    result = _reduce("prod", x, axis, keepdims)
    return result if dtype is None else _core.cast(result, backend.standardize_dtype(dtype))


@op
def mean(x, axis=None, keepdims=False):
    """Arithmetic mean over `axis` (None: all); integers give floatx."""
    return _reduce("mean", x, axis, keepdims)


@op
def max(x, axis=None, keepdims=False, initial=None):
    """Largest value over `axis` (None: all), at least `initial` if given."""
    return _extreme("max", x, axis, keepdims, initial)


@op
def min(x, axis=None, keepdims=False, initial=None):
    """Smallest value over `axis` (None: all), at most `initial` if given."""
    return _extreme("min", x, axis, keepdims, initial)


@op
def amax(x, axis=None, keepdims=False):
    """Largest value over `axis`; the same as `max`."""
    return _reduce("max", x, axis, keepdims)


@op
def amin(x, axis=None, keepdims=False):
    """Smallest value over `axis`; the same as `min`."""
    return _reduce("min", x, axis, keepdims)


@op
def ptp(x, axis=None, keepdims=False):
    """Largest minus smallest value over `axis`."""
    return _reduce("max", x, axis, keepdims) - _reduce("min", x, axis, keepdims)


@op
def all(x, axis=None, keepdims=False):
    """True where every element over `axis` is non-zero."""
    return _reduce("all", tensor(x, "bool"), axis, keepdims)


@op
def any(x, axis=None, keepdims=False):
    """True where some element over `axis` is non-zero."""
    return _reduce("any", tensor(x, "bool"), axis, keepdims)


@op
def count_nonzero(x, axis=None):
    """How many elements over `axis` are non-zero (int32)."""
    return _reduce("sum", tensor(x, "bool"), axis, False)


@op
def var(x, axis=None, keepdims=False):
    """Variance over `axis`: mean((x - mean(x))**2), in float32 for half precision."""
    x = as_float(x)
    wide = _core.cast(x, "float32") if x.dtype in ("float16", "bfloat16") else x
    centred = wide - _reduce("mean", wide, axis, True)
    return _core.cast(_reduce("mean", _core.unary("square", centred), axis, keepdims), x.dtype)


@op
def std(x, axis=None, keepdims=False):
    """Standard deviation over `axis`: the square root of `var`."""
    return _core.unary("sqrt", var(x, axis, keepdims))


@op
def average(x, axis=None, weights=None):
    """Weighted mean: sum(x * w) / sum(w). `weights` has x's shape, or is 1-D along `axis`."""
    x = as_float(x)
    if weights is None:
        return _reduce("mean", x, axis, False)
    weights = as_float(weights)
    if len(weights.shape) != len(x.shape):
        if axis is None or isinstance(axis, (list, tuple)) or len(weights.shape) != 1:
            raise ValueError(
                f"`weights` of shape {tuple(weights.shape)} must have the shape of `x` {tuple(x.shape)}, "
                "or be 1-D with one integer `axis`."
            )
        axis = one_axis(axis, len(x.shape))
        spread = [1] * len(x.shape)
        spread[axis] = -1
        weights = _core.reshape(weights, spread)
    total = _reduce("sum", _core.broadcast_like(weights, x), axis, False)
    return _reduce("sum", x * weights, axis, False) / total


@op
def argmax(x, axis=None, keepdims=False):
    """Index (int32) of the largest value along `axis`, the first of equals; None: of the flattened x."""
    return _arg("max", x, axis, keepdims)


@op
def argmin(x, axis=None, keepdims=False):
    """Index (int32) of the smallest value along `axis`, the first of equals; None: of the flattened x."""
    return _arg("min", x, axis, keepdims)


def _arg(kind, x, axis, keepdims):
    x = tensor(x)
    if axis is not None:
        return _core.arg_reduce(kind, x, one_axis(axis, len(x.shape)), keepdims)
    found = _core.arg_reduce(kind, _core.reshape(x, (-1,)), 0)
    return _core.reshape(found, (1,) * len(x.shape)) if keepdims else found


@op
def cumsum(x, axis=None, dtype=None):
    """Running sum along `axis`; None: of the flattened tensor."""
    return _running("sum", x, axis, dtype)


@op
def cumprod(x, axis=None, dtype=None):
    """Running product along `axis`; None: of the flattened tensor."""
    return _running("prod", x, axis, dtype)


def _running(kind, x, axis, dtype):
    x = tensor(x, None if dtype is None else backend.standardize_dtype(dtype))
    if axis is None:
        x, axis = _core.reshape(x, (-1,)), 0
    return _core.cumulative(kind, x, one_axis(axis, len(x.shape)))


# --- the same with NaNs left out


def _filled(x, value):
    """x with `value` in place of NaN, and where the NaNs were (None for integers)."""
    x = tensor(x)
    if "float" not in x.dtype:
        return x, None
    missing = _core.unary("isnan", x)
    return _core.where(missing, value, x), missing


@op
def nansum(x, axis=None, keepdims=False):
    """Sum of what is not NaN."""
    return _reduce("sum", _filled(x, 0.0)[0], axis, keepdims)


@op
def nanprod(x, axis=None, keepdims=False):
    """Product of what is not NaN."""
    return _reduce("prod", _filled(x, 1.0)[0], axis, keepdims)


@op
def nancumsum(x, axis=None, dtype=None):
    """Running sum with NaN as zero."""
    return _running("sum", _filled(x, 0.0)[0], axis, dtype)


@op
def nancumprod(x, axis=None, dtype=None):
    """Running product with NaN as one."""
    return _running("prod", _filled(x, 1.0)[0], axis, dtype)


@op
def nanmax(x, axis=None, keepdims=False):
    """Largest value that is not NaN; NaN where there is none."""
    return _nan_extreme("max", x, axis, keepdims)


@op
def nanmin(x, axis=None, keepdims=False):
    """Smallest value that is not NaN; NaN where there is none."""
    return _nan_extreme("min", x, axis, keepdims)


def _nan_extreme(kind, x, axis, keepdims):
    filled, missing = _filled(x, -math.inf if kind == "max" else math.inf)
    best = _reduce(kind, filled, axis, keepdims)
    if missing is None:
        return best
    return _core.where(_reduce("all", missing, axis, keepdims), math.nan, best)


@op
def nanargmax(x, axis=None, keepdims=False):
    """Index of the largest value that is not NaN; -1 where there is none."""
    return _nan_arg("max", x, axis, keepdims)


@op
def nanargmin(x, axis=None, keepdims=False):
    """Index of the smallest value that is not NaN; -1 where there is none."""
    return _nan_arg("min", x, axis, keepdims)


def _nan_arg(kind, x, axis, keepdims):
    filled, missing = _filled(x, -math.inf if kind == "max" else math.inf)
    found = _arg(kind, filled, axis, keepdims)
    if missing is None:
        return found
    return _core.where(_reduce("all", missing, axis, keepdims), -1, found)


@op
def nanmean(x, axis=None, keepdims=False):
    """Mean of what is not NaN; NaN where there is nothing."""
    return _mean_of_present(*_filled(x, 0.0), axis, keepdims)


def _mean_of_present(filled, missing, axis, keepdims):
    if missing is None:
        return _reduce("mean", filled, axis, keepdims)
    count = _core.cast(_reduce("sum", _core.unary("not", missing), axis, keepdims), filled.dtype)
    return _reduce("sum", filled, axis, keepdims) / count


@op
def nanvar(x, axis=None, keepdims=False):
    """Variance of what is not NaN; NaN where there is nothing."""
    filled, missing = _filled(as_float(x), 0.0)
    # Only what was missing at first is left out: an infinity makes the mean infinite and the variance NaN.
    apart = _core.where(missing, 0.0, filled - _mean_of_present(filled, missing, axis, True))
    return _mean_of_present(_core.unary("square", apart), missing, axis, keepdims)


@op
def nanstd(x, axis=None, keepdims=False):
    """Standard deviation of what is not NaN."""
    return _core.unary("sqrt", nanvar(x, axis, keepdims))


@op
def corrcoef(x):
    """Pearson correlations between the rows of `x` (n, samples): (n, n). Rows without variance give NaN."""
    x = as_float(x)
    if len(x.shape) == 1:
        x = _core.expand_dims(x, [0])
    centred = x - _core.reduce("mean", x, [1], True)
    scale = _core.unary("sqrt", _core.reduce("sum", _core.unary("square", centred), [1], True))
    unit = centred / scale
    result = _core.binary("min", _core.binary("max", _core.matmul(unit, unit, transpose_b=True), -1.0), 1.0)
    return _core.reshape(result, ()) if result.shape == (1, 1) else result


@op
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Integral of y along `axis` by the trapezoidal rule, at points `x` or with spacing `dx`."""
    y = as_float(y)
    axis = one_axis(axis, len(y.shape))
    pairs = slice_axis(y, axis, 1, None) + slice_axis(y, axis, None, -1)
    if x is None:
        return _core.reduce("sum", pairs, [axis]) * (dx / 2.0)
    x = as_float(x)
    if len(x.shape) == 1:
        steps = slice_axis(x, 0, 1, None) - slice_axis(x, 0, None, -1)
        steps = _core.reshape(steps, [-1] + [1] * (len(y.shape) - 1 - axis))
    else:
        steps = slice_axis(x, axis, 1, None) - slice_axis(x, axis, None, -1)
    return _core.reduce("sum", pairs * steps, [axis]) * 0.5


__all__ = exports(globals())
