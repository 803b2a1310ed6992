"""Linear algebra, differentiable: everything rests on Householder reflections and substitution, unrolled over
the columns.
"""

import math

import numpy as np

from lamina import _core
from lamina.engine.operation import op
from lamina.errors import ShapeError
from lamina.ops._base import as_float, axes_of, exports, known, slice_axis, tensor
from lamina.ops.numpy.diagonals import diagonal, tril, triu
from lamina.ops.numpy.manipulation import swapaxes


@op
def norm(x, ord=None, axis=None, keepdims=False):
    """A norm of x over `axis`: one axis a vector norm, two a matrix norm, None the 2-norm of all elements.

    `ord`: a number, inf, -inf, "fro"; of matrices 1, -1, inf, -inf and "fro". The nuclear and spectral norms
    need an SVD.
    """
    x = as_float(x)
    ndim = len(x.shape)
    if axis is None and (ord is None or ndim not in (1, 2)):
        if ord is not None:
            raise ValueError(
                f"`norm` with `ord` needs 1 or 2 axes: name them in `axis`. Received shape {tuple(x.shape)}."
            )
        return _euclid(x, list(range(ndim)), keepdims)
    given = list(range(ndim)) if axis is None else ([axis] if isinstance(axis, int) else list(axis))
    axes = [axes_of(a, ndim)[0] for a in given]
    size = _core.unary("abs", x)
    if len(axes) == 1:
        return _vector_norm(x, size, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(f"`axis` must name one or two axes. Received: axis={axis}")
    if ord is None or ord == "fro":
        return _euclid(x, axes, keepdims)
    if ord in (1, -1, math.inf, -math.inf):
        rows, columns = axes
        total, best = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = _core.reduce("sum", size, [total], True)
        found = _core.reduce("max" if ord > 0 else "min", sums, [best], True)
        return found if keepdims else _core.squeeze(found, sorted(axes))
    raise ValueError(
        f"Invalid `ord` argument for a matrix norm: {ord!r}. Expected None, 'fro', 1, -1, inf or -inf."
    )


def _euclid(x, axes, keepdims):
    return _core.unary("sqrt", _core.reduce("sum", _core.unary("square", x), axes, keepdims))


def _vector_norm(x, size, ord, axes, keepdims):
    if ord is None or ord == 2:
        return _euclid(x, axes, keepdims)
    if ord == 1:
        return _core.reduce("sum", size, axes, keepdims)
    if ord in (math.inf, -math.inf):
        return _core.reduce("max" if ord > 0 else "min", size, axes, keepdims)
    if ord == 0:
        return _core.reduce("sum", _core.cast(_core.binary("ne", x, 0.0), x.dtype), axes, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"Invalid `ord` argument for a vector norm: {ord!r}. Expected a number.")
    return _core.binary(
        "pow", _core.reduce("sum", _core.binary("pow", size, float(ord)), axes, keepdims), 1.0 / ord
    )


def _matrices(x, name, square=True):
    """x as float matrices (..., m, n), with m and n."""
    x = as_float(x)
    if len(x.shape) < 2 or (square and None not in x.shape[-2:] and x.shape[-1] != x.shape[-2]):
        raise ShapeError(
            f"`{name}` expected {'square ' if square else ''}matrices",
            op=name,
            argument="x",
            got=tuple(x.shape),
            expected="(..., n, n)" if square else "(..., m, n)",
        )
    return x, known(x, -2, name), known(x, -1, name)


def _unit(n, i, dtype):
    return tensor(np.eye(n, dtype="float32")[:, i : i + 1], dtype)


def _householder(x, m, n):
    """R (..., m, n) and the reflection vectors v_i (..., m, 1), scaled so that H_i = 1 - v v^T."""
    vectors = []
    row, last = len(x.shape) - 2, len(x.shape) - 1
    for i in range(min(m, n)):
        below = np.zeros((m, 1), "float32")
        below[i:] = 1.0
        column = slice_axis(x, last, i, i + 1) * tensor(below, x.dtype)
        squares = _core.reduce("sum", _core.unary("square", column), [row], True)
        flat = _core.binary("eq", squares, 0.0)
        length = _core.unary("sqrt", _core.where(flat, 1.0, squares))
        head = slice_axis(column, row, i, i + 1)
        sign = _core.where(_core.binary("lt", head, 0.0), -1.0, 1.0)
        v = column + _unit(m, i, x.dtype) * (sign * length)
        half = _core.reduce("sum", _core.unary("square", v), [row], True) * 0.5
        v = _core.where(flat, _core.full((), 0, x.dtype), v / _core.unary("sqrt", half))
        x = x - _core.matmul(v, _core.matmul(v, x, transpose_a=True))
        vectors.append((v, flat))
    return x, vectors


@op
def qr(x, mode="reduced"):
    """x = Q R with orthonormal columns in Q and R upper triangular. (..., m, n) -> (..., m, k), (..., k, n),
    k = min(m, n); k = m for `mode` "complete".
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(
            f"`mode` argument value not supported. Expected one of {{'reduced', 'complete'}}. "
            f"Received: mode={mode}"
        )
    x, m, n = _matrices(x, "qr", square=False)
    r, vectors = _householder(x, m, n)
    k = m if mode == "complete" else min(m, n)
    q = tensor(np.eye(m, k, dtype="float32"), x.dtype)
    for v, _ in reversed(vectors):
        q = q - _core.matmul(v, _core.matmul(v, q, transpose_a=True))
    return q, triu(slice_axis(r, len(r.shape) - 2, 0, k))


@op
def solve_triangular(a, b, lower=False):
    """x with a x = b for triangular a (..., n, n) and b (..., n) or (..., n, k), by substitution."""
    a, n, _ = _matrices(a, "solve_triangular")
    b = as_float(b)
    vector = len(b.shape) == len(a.shape) - 1
    rest = _core.expand_dims(b, [len(b.shape)]) if vector else b
    row, column = len(rest.shape) - 2, len(a.shape) - 1
    found = [None] * n
    for i in range(n) if lower else reversed(range(n)):
        a_column = slice_axis(a, column, i, i + 1)
        pivot = slice_axis(a_column, column - 1, i, i + 1)
        found[i] = slice_axis(rest, row, i, i + 1) / pivot
        rest = rest - _core.matmul(a_column, found[i])
    x = _core.concat(found, len(found[0].shape) - 2) if n else rest
    return _core.squeeze(x, [len(x.shape) - 1]) if vector else x


@op
def solve(a, b):
    """x with a x = b for square a (..., n, n) and b (..., n) or (..., n, k), through QR. Singular a gives
    infinities or NaN.
    """
    a, b = _matrices(a, "solve")[0], as_float(b)
    vector = len(b.shape) == len(a.shape) - 1
    q, r = qr(a)
    right = _core.matmul(q, _core.expand_dims(b, [len(b.shape)]) if vector else b, transpose_a=True)
    x = solve_triangular(r, right)
    return _core.squeeze(x, [len(x.shape) - 1]) if vector else x


@op
def inv(x):
    """The inverses of square matrices (..., n, n)."""
    x, n, _ = _matrices(x, "inv")
    return solve(x, tensor(np.eye(n, dtype="float32"), x.dtype))


def _signed_diagonal(x, name):
    """The diagonal of R, and the sign that the reflections of Q give to the determinant."""
    x, n, _ = _matrices(x, name)
    r, vectors = _householder(x, n, n)
    sign = _core.full((), 1, x.dtype)
    for _, flat in vectors:  # every reflection turns the sign, a column of zeros needed none
        sign = sign * _core.squeeze(_core.where(flat, 1.0, -1.0), [len(x.shape) - 2, len(x.shape) - 1])
    return diagonal(r, 0, -2, -1), sign


@op
def det(x):
    """The determinants of square matrices: (..., n, n) -> (...)."""
    line, sign = _signed_diagonal(x, "det")
    return _core.reduce("prod", line, [len(line.shape) - 1]) * sign


@op
def slogdet(x):
    """Sign and logarithm of the absolute determinant of square matrices: (..., n, n) -> (...), (...)."""
    line, sign = _signed_diagonal(x, "slogdet")
    last = [len(line.shape) - 1]
    sign = sign * _core.reduce("prod", _core.unary("sign", line), last)
    return sign, _core.reduce("sum", _core.unary("log", _core.unary("abs", line)), last)


@op
def cholesky(x, upper=False):
    """The triangular L with x = L L^T of positive definite matrices (..., n, n); `upper`: its transpose.
    Otherwise NaN.
    """
    x, n, _ = _matrices(x, "cholesky")
    row, last = len(x.shape) - 2, len(x.shape) - 1
    columns = []
    for i in range(n):
        column = slice_axis(x, last, i, i + 1)
        below = np.zeros((n, 1), "float32")
        below[i:] = 1.0
        column = column / _core.unary("sqrt", slice_axis(column, row, i, i + 1)) * tensor(below, x.dtype)
        x = x - _core.matmul(column, column, transpose_b=True)
        columns.append(column)
    lower = tril(_core.concat(columns, last)) if n else x
    return swapaxes(lower, -1, -2) if upper else lower


@op
def cholesky_inverse(x, upper=False):
    """The inverse of the positive definite matrix whose Cholesky factor is x."""
    x, n, _ = _matrices(x, "cholesky_inverse")
    factor = swapaxes(x, -1, -2) if upper else x
    inverse = solve_triangular(factor, tensor(np.eye(n, dtype="float32"), x.dtype), lower=True)
    return _core.matmul(inverse, inverse, transpose_a=True)


@op
def lstsq(a, b, rcond=None):
    """x that minimises |a x - b| for a (m, n) with full rank and b (m,) or (m, k); of many, the shortest.
    `rcond` is not used.
    """
    a, m, n = _matrices(a, "lstsq", square=False)
    b = as_float(b)
    vector = len(b.shape) == len(a.shape) - 1
    right = _core.expand_dims(b, [len(b.shape)]) if vector else b
    if m >= n:
        q, r = qr(a)
        x = solve_triangular(r, _core.matmul(q, right, transpose_a=True))
    else:
        q, r = qr(swapaxes(a, -1, -2))
        x = _core.matmul(q, solve_triangular(swapaxes(r, -1, -2), right, lower=True))
    return _core.squeeze(x, [len(x.shape) - 1]) if vector else x


__all__ = exports(globals())
