"""Products that sum over axes. Everything comes down to `matmul` on transposed and merged axes."""

import itertools
import string

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import exports, known, needs_known, one_axis, slice_axis, tensor


@op
def matmul(x1, x2):
    """Matrix product over the last two axes; leading axes broadcast. 1-D operands are a row and a column that
    go away again. Two int8 operands give int32, in which their sums fit; two booleans give a boolean.

    >>> ops.matmul(ops.ones((5, 2, 3)), ops.ones((3, 4))).shape
    (5, 2, 4)
    """
    return _product(*_wide_enough(tensor(x1), tensor(x2)))


def _product(x1, x2):
    z = _core.matmul(x1, x2)
    return _core.cast(z, "bool") if x1.dtype == x2.dtype == "bool" else z


def _wide_enough(*operands):
    """The operands, as int32 if all are int8: a sum of their products seldom fits into int8."""
    return (
        [_core.cast(x, "int32") for x in operands] if all(x.dtype == "int8" for x in operands) else operands
    )


@op
def dot(x1, x2):
    """numpy.dot: the last axis of x1 with the last but one of x2, without broadcasting; a product if one is a
    scalar.
    """
    x1, x2 = tensor(x1), tensor(x2)
    if not x1.shape or not x2.shape:
        return _core.binary("mul", x1, x2)
    return tensordot(x1, x2, ([-1], [-1 if len(x2.shape) == 1 else -2]))


@op
def inner(x1, x2):
    """Sum over the last axes of both."""
    x1, x2 = tensor(x1), tensor(x2)
    if not x1.shape or not x2.shape:
        return _core.binary("mul", x1, x2)
    return tensordot(x1, x2, ([-1], [-1]))


@op
def outer(x1, x2):
    """Every element of x1 (flattened: rows) times every element of x2 (columns)."""
    column = _core.reshape(tensor(x1), (-1, 1))
    return _core.binary("mul", column, _core.reshape(tensor(x2), (1, -1)))


@op
def vdot(x1, x2):
    """Sum of the products of all elements, both flattened."""
    return _product(_core.reshape(tensor(x1), (-1,)), _core.reshape(tensor(x2), (-1,)))


@op
def tensordot(x1, x2, axes=2):
    """Sum over `axes`: how many (the last of x1, the first of x2), or a pair of lists of axes."""
    x1, x2 = tensor(x1), tensor(x2)
    n1, n2 = len(x1.shape), len(x2.shape)
    if isinstance(axes, int):
        left, right = range(n1 - axes, n1), range(axes)
    else:
        left, right = ([a] if isinstance(a, int) else list(a) for a in axes)
    left, right = [one_axis(a, n1, "axes") for a in left], [one_axis(a, n2, "axes") for a in right]
    if len(left) != len(right):
        raise ValueError(f"`tensordot` needs as many axes of x1 as of x2. Received: axes={axes}.")
    labels = iter(range(n1 + n2))
    labels1 = [next(labels) for _ in range(n1)]
    labels2 = [labels1[left[right.index(a)]] if a in right else next(labels) for a in range(n2)]
    kept = [v for v in labels1 if v not in labels2] + [v for v in labels2 if v not in labels1]
    return _contract(x1, labels1, x2, labels2, kept)


@op
def einsum(subscripts, *operands, **kwargs):
    """Einstein's summation: `einsum("bij,bjk->bik", x, y)`. Knows implicit outputs, "..." and repeated labels
    (diagonals). int8 operands give int32.

    Operands are multiplied from left to right; a label is summed as soon as nobody needs it any more.
    """
    operands = _wide_enough(*(tensor(x) for x in operands))
    terms, output = _parse(subscripts, [len(x.shape) for x in operands])
    values = [_diagonals(x, term) for x, term in zip(operands, terms, strict=True)]
    value, labels = values[0]
    for i, (x, term) in enumerate(values[1:], 1):
        later = set(output).union(*(t for _, t in values[i + 1 :]))
        value, labels = _sum_out(value, labels, later | set(term))
        x, term = _sum_out(x, term, later | set(labels))
        kept = [v for v in dict.fromkeys([*labels, *term]) if v in later]
        value, labels = _contract(value, labels, x, term, kept), kept
    value, labels = _sum_out(value, labels, set(output))
    return _reorder(value, labels, output)


def _parse(subscripts, ranks):
    """ "ij,jk->ik" -> [[i, j], [j, k]], [i, k]; an ellipsis becomes labels of its own, aligned at their right
    end.
    """
    subscripts = subscripts.replace(" ", "")
    inputs, arrow, output = subscripts.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"einsum: '{subscripts}' names {len(terms)} operands, {len(ranks)} were given.")
    dots = max(
        (
            rank - len(term.replace("...", ""))
            for term, rank in zip(terms, ranks, strict=True)
            if "..." in term
        ),
        default=0,
    )

    def labels(term, rank=None):
        head, ellipsis, tail = term.partition("...")
        for letter in head + tail:
            if letter not in string.ascii_letters:
                raise ValueError(
                    f"einsum: '{letter}' in '{subscripts}' is not a label (a letter), ',', '...' or '->'."
                )
        count = dots if rank is None else rank - len(head + tail)
        if count < 0 or (not ellipsis and rank is not None and count):
            raise ValueError(f"einsum: '{term}' does not fit an operand with {rank} axes.")
        return [*head, *(range(dots - count, dots) if ellipsis else ()), *tail]

    parsed = [labels(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    if arrow:
        kept = labels(output)
    else:
        letters = [v for v in itertools.chain(*parsed) if isinstance(v, str)]
        kept = [*range(dots), *sorted(v for v in set(letters) if letters.count(v) == 1)]
    unknown = [v for v in kept if not any(v in term for term in parsed)]
    if unknown or len(set(kept)) != len(kept):
        raise ValueError(f"einsum: the output of '{subscripts}' must name labels of its operands, each once.")
    return parsed, kept


def _diagonals(x, labels):
    """Take the diagonal of axes that carry the same label."""
    from lamina.ops.numpy.diagonals import diagonal

    labels = list(labels)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            a = labels.index(label)
            b = labels.index(label, a + 1)
            x = diagonal(x, 0, a, b)
            labels = [v for i, v in enumerate(labels) if i not in (a, b)] + [label]
    return x, labels


def _sum_out(x, labels, needed):
    """Sum the axes whose label nobody needs."""
    gone = [i for i, v in enumerate(labels) if v not in needed]
    if gone:
        x = _core.reduce("sum", x, gone)
    return x, [v for v in labels if v in needed]


def _reorder(x, labels, wanted):
    """Transpose to the wanted order; labels that x lacks become axes of size 1."""
    have = [v for v in wanted if v in labels]
    perm = [labels.index(v) for v in have]
    if perm != list(range(len(perm))):
        x = _core.transpose(x, perm)
    missing = [i for i, v in enumerate(wanted) if v not in labels]
    return _core.expand_dims(x, missing) if missing else x


def _contract(a, a_labels, b, b_labels, kept):
    """Multiply two labelled tensors and sum the labels that are not kept (each of those is in both)."""
    batch = [v for v in a_labels if v in b_labels and v in kept]
    summed = [v for v in a_labels if v in b_labels and v not in kept]
    rows = [v for v in a_labels if v not in b_labels]
    columns = [v for v in b_labels if v not in a_labels]
    if not summed or not (rows or columns):
        order = batch + rows + columns + summed
        joined = _core.binary("mul", _reorder(a, a_labels, order), _reorder(b, b_labels, order))
        value, labels = _sum_out(joined, order, set(kept))
        return _reorder(_core.cast(value, joined.dtype), labels, kept)
    sizes = dict(zip(a_labels, a.shape, strict=True))
    for label, dim in zip(b_labels, b.shape, strict=True):
        sizes[label] = dim if sizes.get(label) in (None, 1) else sizes[label]
    x = _reorder(a, a_labels, batch + rows + summed)
    y = _reorder(b, b_labels, batch + summed + columns)
    lead = len(batch)
    x = _merge(x, lead + len(rows), len(summed))
    y = _merge(_merge(y, lead, len(summed)), lead + 1, len(columns))
    # Without batch axes the rows may stay apart: matmul takes any leading axes of its left operand.
    one_row_axis = bool(batch) or not rows
    if one_row_axis:
        x = _merge(x, lead, len(rows))
    z = _product(x, y)
    if one_row_axis:
        z = _unmerge(z, lead, [sizes[v] for v in rows])
    z = _unmerge(z, lead + len(rows), [sizes[v] for v in columns])
    return _reorder(z, batch + rows + columns, kept)


def _merge(x, at, count):
    """The `count` axes from `at` on as one axis."""
    if count == 1:
        return x
    if count == 0:
        return _core.expand_dims(x, [at])
    dims = x.shape[at : at + count]
    size = ("infer", 0)
    if None not in dims:
        total = 1
        for dim in dims:
            total *= dim
        size = ("fixed", total)
    rest = range(at + count, len(x.shape))
    return _core.reshape_dims(x, [*(("copy", i) for i in range(at)), size, *(("copy", i) for i in rest)])


def _unmerge(x, at, dims):
    """One axis as several again."""
    if len(dims) == 1:
        return x
    if not dims:
        return _core.squeeze(x, [at])
    if list(dims).count(None) > 1:
        raise needs_known("einsum: two unknown axes would have to be merged into one")
    sizes = [("infer", 0) if d is None else ("fixed", d) for d in dims]
    rest = range(at + 1, len(x.shape))
    return _core.reshape_dims(x, [*(("copy", i) for i in range(at)), *sizes, *(("copy", i) for i in rest)])


@op
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Cross product of 3-vectors (2-vectors lie in the plane z = 0; two of them give z alone)."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = tensor(x1), tensor(x2)

    def parts(x, along):
        along = one_axis(along, len(x.shape))
        n = known(x, along, "cross")
        if n not in (2, 3):
            raise ValueError(
                f"`cross` needs vectors of 2 or 3 elements. "
                f"Received shape {tuple(x.shape)} with axis {along}."
            )
        return [_core.squeeze(slice_axis(x, along, i, i + 1), [along]) for i in range(n)]

    a, b = parts(x1, axisa), parts(x2, axisb)
    z = a[0] * b[1] - a[1] * b[0]
    if len(a) == len(b) == 2:
        return z
    zero = _core.full_like(z, 0)
    a, b = (v if len(v) == 3 else [*v, zero] for v in (a, b))
    from lamina.ops.numpy.manipulation import stack

    components = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], z]
    return stack([_core.broadcast_like(v, z) for v in components], axisc)


@op
def kron(x1, x2):
    """Kronecker product: blocks of x2 scaled by the elements of x1."""
    x1, x2 = tensor(x1), tensor(x2)
    n = max(len(x1.shape), len(x2.shape))
    x1, x2 = (
        _core.expand_dims(x, list(range(n - len(x.shape)))) if len(x.shape) < n else x for x in (x1, x2)
    )
    sizes = [known(x1, a, "kron") * known(x2, a, "kron") for a in range(n)]
    x1 = _core.expand_dims(x1, [2 * a + 1 for a in range(n)])
    x2 = _core.expand_dims(x2, [2 * a for a in range(n)])
    return _core.reshape(_core.binary("mul", x1, x2), sizes)


@op
def correlate(x1, x2, mode="valid"):
    """Sliding products of two 1-D signals: sum_n x1[n + k] * x2[n]; `mode` is "valid", "same" or "full"."""
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"`mode` must be 'valid', 'same' or 'full'. Received: mode={mode}")
    x1, x2 = tensor(x1), tensor(x2)
    dtype = _core.promote(x1, x2)
    work = dtype if "float" in dtype else "float32"
    a, b = _core.cast(x1, work), _core.cast(x2, work)
    n, m = known(a, 0, "correlate"), known(b, 0, "correlate")
    swapped = n < m
    if swapped:  # the longer signal is convolved with the shorter, and the result read backwards
        a, b, n, m = b, a, m, n
    before, after = {"valid": (0, 0), "full": (m - 1, m - 1), "same": (m // 2, m - 1 - m // 2)}[mode]
    if swapped and mode == "same":
        before, after = after, before
    a = _core.pad(a, [(before, after)])
    image, kernel = _core.reshape(a, (1, 1, -1, 1)), _core.reshape(b, (1, m, 1, 1))
    out = _core.reshape(_core.conv2d(image, kernel, (1, 1), "valid", (1, 1)), (-1,))
    out = _core.flip(out, [0]) if swapped else out
    return out if "float" in dtype else _core.cast(_core.unary("round", out), dtype)


__all__ = exports(globals())
