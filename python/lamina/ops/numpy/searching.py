"""Sorting, searching, counting and order statistics."""

import math

import numpy as np

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import as_float, axes_of, exports, is_symbolic, known, one_axis, product, tensor


@op
def sort(x, axis=-1):
    """x in ascending order along `axis` (None: flattened first), NaN last."""
    x, axis = _line(x, axis)
    return _core.sort(x, axis)[0]


@op
def argsort(x, axis=-1):
    """Indices (int32) that sort x along `axis` (None: flattened first); equal elements keep their order."""
    x, axis = _line(x, axis)
    return _core.sort(x, axis)[1]


@op
def argpartition(x, kth, axis=-1):
    """Indices such that the element at `kth` is the one that sorting would put there; here all the others are
    sorted too.
    """
    x, axis = _line(x, axis)
    n = known(x, axis, "argpartition")
    if not -n <= kth < n:
        raise ValueError(f"`kth` is out of range: {kth} for an axis of size {n}.")
    return _core.sort(x, axis)[1]


def _line(x, axis):
    x = tensor(x)
    return (_core.reshape(x, (-1,)), 0) if axis is None else (x, one_axis(axis, len(x.shape)))


def _data(x, name):
    """x as a numpy array, for ops whose result's shape depends on the values."""
    x = tensor(x)
    if is_symbolic(x):
        raise TypeError(
            f"The shape of the result of `{name}` depends on the values of its input, which a compiled "
            "function does not have yet. Call it on data, or write the step with `where` and masks."
        )
    return np.asarray(x)


@op
def nonzero(x):
    """The coordinates of the non-zero elements, one tensor an axis. Needs data."""
    return tuple(tensor(i.astype("int32")) for i in np.nonzero(_data(x, "nonzero")))


@op
def unique(
    x,
    sorted=True,
    return_index=False,
    return_inverse=False,
    return_counts=False,
    axis=None,
    size=None,
    fill_value=None,
):
    """The distinct elements (or slices along `axis`) of x, sorted. Needs data.

    Also, if asked: where each occurs first, which one each element is, and how often each occurs. `size` cuts
    the result to that many, or fills it up with `fill_value` (the smallest element unless given).
    """
    values, *rest = np.unique(
        _data(x, "unique"), return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    index, inverse, counts = (r.astype("int32") for r in rest)
    if size is not None:
        at = 0 if axis is None else axis
        missing = size - values.shape[at]
        keep = [slice(None)] * values.ndim
        keep[at] = slice(size)
        values, index, counts = values[tuple(keep)], index[:size], counts[:size]
        if missing > 0:
            filler = np.take(values, [0] * missing, axis=at)
            if fill_value is not None:
                filler = np.full_like(filler, fill_value)
            values = np.concatenate([values, filler], axis=at)
            index = np.concatenate([index, np.repeat(index[:1], missing)])
            counts = np.concatenate([counts, np.zeros(missing, "int32")])
    wanted = [(return_index, index), (return_inverse, inverse), (return_counts, counts)]
    results = [tensor(values), *(tensor(v) for asked, v in wanted if asked)]
    return results[0] if len(results) == 1 else tuple(results)


@op
def searchsorted(sorted_sequence, values, side="left"):
    """Where each of `values` would be inserted in a sorted 1-D sequence: before ("left") or after ("right")
    equal ones.
    """
    sequence, values = tensor(sorted_sequence), tensor(values)
    if len(sequence.shape) != 1:
        raise ValueError(
            "`searchsorted` only supports 1-D sorted sequences. You can use `vectorized_map` "
            "to extend it to N-D sequences. "
            f"Received: sorted_sequence.shape={tuple(sequence.shape)}"
        )
    if side not in ("left", "right"):
        raise ValueError(f"`side` must be 'left' or 'right'. Received: side={side}")
    values = _core.expand_dims(values, [len(values.shape)])
    before = _core.binary("lt" if side == "left" else "le", sequence, values)
    return _core.reduce("sum", before, [len(before.shape) - 1])


@op
def digitize(x, bins):
    """The bin of each element: i where bins[i-1] <= x < bins[i]."""
    return searchsorted(bins, x, "right")


@op
def bincount(x, weights=None, minlength=0, sparse=False):
    """How often (or with what total weight) each integer from 0 to max(x) occurs. x: (n,) or (batch, n).
    Needs data.

    The result has at least `minlength` bins along its last axis.
    """
    if sparse:
        raise ValueError("lamina has dense tensors only: `sparse` must be False.")
    ids = _data(x, "bincount")
    bins = max(int(ids.max()) + 1 if ids.size else 0, minlength)
    rows = ids.reshape(-1, ids.shape[-1])
    places = (np.arange(len(rows))[:, None] * bins + rows).reshape(-1, 1).astype("int32")
    ones = np.ones(ids.size, "int32")
    counted = ones if weights is None else _core.reshape(tensor(weights), (-1,))
    zeros = _core.full((len(rows) * bins,), 0, "int32" if weights is None else counted.dtype)
    return _core.reshape(_core.scatter_add(zeros, places, counted), (*ids.shape[:-1], bins))


@op
def histogram(x, bins=10, range=None):
    """Counts of the elements in `bins` equal bins over `range` (from the least to the greatest unless given),
    or between the given edges; and the edges, both as floats. The last bin holds its right edge too.
    """
    from lamina.ops.numpy.creation import linspace

    x = as_float(_core.reshape(tensor(x), (-1,)))
    if isinstance(bins, int):
        if range is None:
            low, high = _core.reduce("min", x), _core.reduce("max", x)
            flat = _core.binary("eq", low, high)
            low, high = _core.where(flat, low - 0.5, low), _core.where(flat, high + 0.5, high)
        else:
            low, high = (float(v) for v in range)
            if high < low:
                raise ValueError(f"`range` must not descend. Received: {range}.")
            low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        edges = linspace(low, high, bins + 1, dtype=x.dtype)
    else:
        edges = tensor(bins, x.dtype)
    below = searchsorted(edges, x, "right")  # how many edges are at or below the element
    count = known(edges, 0, "histogram") - 1
    last = _core.slice(edges, [-1], [None], [1])
    bin_of = _core.where(_core.binary("eq", x, last), count, below) - 1
    inside = _core.binary("and", _core.binary("ge", bin_of, 0), _core.binary("lt", bin_of, count))
    safe = _core.expand_dims(_core.where(inside, bin_of, 0), [1])
    counts = _core.scatter_add(_core.full((count,), 0, "int32"), safe, _core.cast(inside, "int32"))
    return _core.cast(counts, x.dtype), edges


@op
def isin(x1, x2, assume_unique=False, invert=False):
    """Is each element of x1 among those of x2? `invert` turns the answer round."""
    x1, x2 = tensor(x1), _core.reshape(tensor(x2), (-1,))
    pairs = _core.binary("eq", _core.expand_dims(x1, [len(x1.shape)]), x2)
    found = _core.reduce("any", pairs, [len(x1.shape)])
    return _core.unary("not", found) if invert else found


# --- order statistics


@op
def quantile(x, q, axis=None, method="linear", keepdims=False):
    """The q-quantiles (q in [0, 1], scalar or 1-D, which becomes the first axis) over `axis` (None: all).

    `method` says what lies between two elements: "linear", "lower", "higher", "midpoint" or "nearest". NaN
    in, NaN out.
    """
    return _quantile(x, q, axis, method, keepdims, ignore_nan=False)


@op
def nanquantile(x, q, axis=None, method="linear", keepdims=False):
    """`quantile` of what is not NaN."""
    return _quantile(x, q, axis, method, keepdims, ignore_nan=True)


@op
def percentile(x, q, axis=None, method="linear", keepdims=False):
    """`quantile` with q in percent."""
    return _quantile(x, as_float(q) / 100.0, axis, method, keepdims, ignore_nan=False)


@op
def nanpercentile(x, q, axis=None, method="linear", keepdims=False):
    """`percentile` of what is not NaN."""
    return _quantile(x, as_float(q) / 100.0, axis, method, keepdims, ignore_nan=True)


@op
def median(x, axis=None, keepdims=False):
    """The middle value over `axis` (None: all), the mean of the two middle ones of an even number. NaN in,
    NaN out.
    """
    return _quantile(x, 0.5, axis, "linear", keepdims, ignore_nan=False)


@op
def nanmedian(x, axis=None, keepdims=False):
    """`median` of what is not NaN."""
    return _quantile(x, 0.5, axis, "linear", keepdims, ignore_nan=True)


_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(x, q, axis, method, keepdims, ignore_nan):
    if method not in _METHODS:
        raise ValueError(f"`method` must be one of {_METHODS}. Received: method={method}")
    x, q = as_float(x), as_float(q)
    ndim, axes = len(x.shape), axes_of(axis, len(x.shape))
    if len(q.shape) > 1:
        raise ValueError(f"`q` must be a scalar or 1-D. Received shape {tuple(q.shape)}.")
    kept = [a for a in range(ndim) if a not in axes]
    n = product([known(x, a, "quantile") for a in axes])
    rows = _core.transpose(x, kept + axes)
    rows = _core.reshape_dims(rows, [*(("copy", i) for i in range(len(kept))), ("fixed", n)])
    missing = _core.unary("isnan", rows)
    rows = _core.sort(rows, len(kept))[0]  # (kept..., n), NaN last
    last = _core.full((1,), n - 1, x.dtype)
    if ignore_nan:
        present = _core.reduce("sum", _core.unary("not", missing), [len(kept)], True)
        last = _core.binary("max", _core.cast(present, x.dtype) - 1.0, 0.0)
    place = (
        _core.cast(_core.reshape(q, (-1,)), x.dtype) * last
    )  # (kept..., number of quantiles), or without the kept axes
    lower, upper = (_pick(rows, _core.unary(kind, place)) for kind in ("floor", "ceil"))
    weight = place - _core.unary("floor", place)
    found = {
        "linear": lambda: lower + (upper - lower) * weight,
        "lower": lambda: lower,
        "higher": lambda: upper,
        "midpoint": lambda: (lower + upper) * 0.5,
        "nearest": lambda: _pick(rows, _core.unary("round", place)),
    }[method]()
    if method == "linear":  # between two equal infinities the difference is NaN
        found = _core.where(_core.binary("eq", lower, upper), lower, found)
    if not ignore_nan:
        found = _core.where(_core.reduce("any", missing, [len(kept)], True), math.nan, found)
    found = _core.transpose(found, [len(kept), *range(len(kept))])
    if keepdims:
        found = _core.expand_dims(found, [a + 1 for a in axes])
    return found if q.shape else _core.squeeze(found, [0])


def _pick(rows, places):
    """Elements of the last axis of `rows` at float `places` (rows' leading axes, or none)."""
    places = _core.cast(places, "int32")
    axis = len(rows.shape) - 1
    if len(places.shape) == 1:
        return _core.gather(rows, places, axis)
    return _core.gather_along(rows, places, axis)


__all__ = exports(globals())
