"""The ops of `keras.ops.math`: segments, ranks, sequences, special functions."""

import math

import numpy as np

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import as_float, axes_of, exports, known, limits, named, slice_axis, tensor


def _unary(name, core, doc):
    return named(lambda x: _core.unary(core, tensor(x)), name, doc, __name__)


erf = _unary("erf", "erf", "Error function: 2/sqrt(pi) times the integral of exp(-t**2) from 0 to x.")
erfinv = _unary("erfinv", "erfinv", "Inverse of the error function.")
rsqrt = _unary("rsqrt", "rsqrt", "1 / sqrt(x).")

# W. H. Press et al., Numerical Recipes, 6.2: relative error below 1.2e-7 for all x >= 0.
_ERFC = (
    0.17087277,
    -0.82215223,
    1.48851587,
    -1.13520398,
    0.27886807,
    -0.18628806,
    0.09678418,
    0.37409196,
    1.00002368,
)


@op
def erfc(x):
    """1 - erf(x), with a relative error below 1e-6 where it is tiny too."""
    x = as_float(x)
    far = _core.binary("max", x, 0.5)
    t = 2.0 / (far + 2.0)
    poly = _core.full_like(t, _ERFC[0])
    for coefficient in _ERFC[1:]:
        poly = poly * t + coefficient
    tail = t * _core.unary("exp", -far * far - 1.26551223 + t * poly)
    return _core.where(_core.binary("gt", x, 0.5), tail, 1.0 - _core.unary("erf", x))


@op
def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over `axis` (None: all), without overflow."""
    x = as_float(x)
    axes = axes_of(axis, len(x.shape))
    top = _core.stop_gradient(_core.reduce("max", x, axes, True))
    top = _core.where(
        _core.unary("isfinite", top), top, 0.0
    )  # infinities must not meet their like in a difference
    total = _core.unary("log", _core.reduce("sum", _core.unary("exp", x - top), axes, True)) + top
    return total if keepdims else _core.squeeze(total, axes)


@op
def top_k(x, k, sorted=True):
    """The k largest values of the last axis, in descending order, and their indices (int32); of equals the
    first come first.
    """
    x = tensor(x)
    return _core.top_k(x, int(k))


@op
def in_top_k(targets, predictions, k):
    """Is the class `targets` (batch,) among the k largest of `predictions` (batch, classes)? Ties count as
    in; NaN does not.
    """
    targets, predictions = tensor(targets, "int32"), as_float(predictions)
    label = _core.expand_dims(targets, [len(targets.shape)])
    axis = len(predictions.shape) - 1
    own = _core.gather_along(predictions, label, axis)
    above = _core.reduce("sum", _core.cast(_core.binary("gt", predictions, own), "int32"), [axis])
    finite = _core.squeeze(_core.unary("isfinite", own), [axis])
    return _core.binary("and", _core.binary("lt", above, int(k)), finite)


def segment_reduce(kind, data, segment_ids, num_segments):
    """Reduce the rows of `data` (n, ...) that share an id to `num_segments` rows. Ids outside are left out.

    `kind`: "sum", "max", "min", "prod", or "last" (the last row of each id). Segments without rows hold the
    neutral element. Everything but "sum" sorts the rows by id and folds neighbours in log2(n) steps.
    """
    inside = _core.binary(
        "and", _core.binary("ge", segment_ids, 0), _core.binary("lt", segment_ids, num_segments)
    )
    ids = _core.where(inside, segment_ids, num_segments)  # one more row takes what is left out
    rest = list(data.shape)[1:]

    def scatter(rows, places, values):
        return _core.scatter_add(
            _core.full((rows + 1, *values.shape[1:]), 0, values.dtype), _core.expand_dims(places, [1]), values
        )

    if kind == "sum":
        return slice_axis(scatter(num_segments, ids, data), 0, 0, num_segments)
    n = known(data, 0, "segment_reduce")
    ids, order = _core.sort(ids, 0)
    rows = _core.gather(data, order, 0)
    column = [-1] + [1] * len(rest)
    step = 1
    combine = {"max": "max", "min": "min", "prod": "mul"}.get(kind)
    while combine and step < n:
        earlier = _core.pad(slice_axis(rows, 0, None, -step), [(step, 0)] + [(0, 0)] * len(rest))
        same = _core.binary("eq", slice_axis(ids, 0, step, None), slice_axis(ids, 0, None, -step))
        same = _core.reshape(_core.pad(same, [(step, 0)]), column)
        rows = _core.where(same, _core.binary(combine, rows, earlier), rows)
        step *= 2
    last = _core.binary("ne", slice_axis(ids, 0, 1, None), slice_axis(ids, 0, None, -1))
    last = _core.concat([last, _core.full((min(n, 1),), 1, "bool")], 0)
    places = _core.where(last, ids, num_segments)
    found = scatter(
        num_segments, places, _core.where(_core.reshape(last, column), rows, _core.full((), 0, rows.dtype))
    )
    hit = _core.reshape(
        _core.binary("gt", scatter(num_segments, places, _core.cast(last, "int32")), 0), column
    )
    low, high = limits(rows.dtype)
    if "float" in rows.dtype:
        low, high = -math.inf, math.inf
    neutral = {"max": low, "min": high, "prod": 1, "last": 0}[kind]
    return slice_axis(_core.where(hit, found, _core.full((), neutral, rows.dtype)), 0, 0, num_segments)


def _segment(kind, data, segment_ids, num_segments):
    data, segment_ids = tensor(data), tensor(segment_ids, "int32")
    if num_segments is None:  # as many as the largest id says: that needs data
        ids = np.asarray(segment_ids)
        num_segments = int(ids.max()) + 1 if ids.size else 0
    return segment_reduce(kind, data, segment_ids, int(num_segments))


@op
def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """Sums of the rows of `data` that share an id: (n, ...) -> (num_segments, ...); the largest id + 1 unless
    given.
    """
    return _segment("sum", data, segment_ids, num_segments)


@op
def segment_max(data, segment_ids, num_segments=None, sorted=False):
    """Maxima of the rows of `data` that share an id: (n, ...) -> (num_segments, ...). Empty segments: the
    least value.
    """
    return _segment("max", data, segment_ids, num_segments)


@op
def segment_min(data, segment_ids, num_segments=None, sorted=False):
    """Minima of the rows of `data` that share an id: (n, ...) -> (num_segments, ...). Empty segments: the
    greatest value.
    """
    return _segment("min", data, segment_ids, num_segments)


@op
def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    """Products of the rows of `data` that share an id: (n, ...) -> (num_segments, ...). Empty segments: 1."""
    return _segment("prod", data, segment_ids, num_segments)


@op
def extract_sequences(x, sequence_length, sequence_stride):
    """Windows of the last axis: (..., n) -> (..., 1 + (n - length) // stride, length)."""
    x = tensor(x)
    n = known(x, -1, "extract_sequences")
    count = max(0, 1 + (n - sequence_length) // sequence_stride)
    places = np.arange(count)[:, None] * sequence_stride + np.arange(sequence_length)
    return _core.gather(x, tensor(places.astype("int32")), len(x.shape) - 1)


@op
def cdist(x, y):
    """Euclidean distances between the rows of x (..., n, d) and y (..., m, d): (..., n, m). The gradient at 0
    is 0.
    """
    x, y = as_float(x), as_float(y)
    gaps = _core.expand_dims(x, [len(x.shape) - 1]) - _core.expand_dims(y, [len(y.shape) - 2])
    squares = _core.reduce("sum", _core.unary("square", gaps), [len(gaps.shape) - 1])
    apart = _core.binary("gt", squares, 0.0)
    return _core.where(apart, _core.unary("sqrt", _core.where(apart, squares, 1.0)), 0.0)


@op
def logdet(x):
    """Logarithm of the determinant of positive definite matrices (..., n, n)."""
    from lamina.ops.linalg import slogdet

    return slogdet(x)[1]


__all__ = [name for name in exports(globals()) if name != "segment_reduce"]
