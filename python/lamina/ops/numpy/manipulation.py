"""Ops that move elements and change shapes."""

import numpy as np

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import (
    axes_of,
    exports,
    known,
    known_shape,
    needs_known,
    one_axis,
    product,
    slice_axis,
    static_dims,
    tensor,
)


@op
def ndim(x):
    """Number of axes, as an int."""
    return len(tensor(x).shape)


@op
def size(x):
    """Number of elements: an int, or a scalar int32 tensor where an axis is unknown."""
    x = tensor(x)
    if None in x.shape:
        return _core.reduce("sum", _core.full_like(x, 1, "int32"))
    return product(x.shape)


@op
def copy(x):
    """A tensor with the values of x. Tensors never change, so it may share them."""
    return tensor(x)


@op
def reshape(x, newshape):
    """x with another shape of as many elements; one axis may be -1 (or None): it is derived.

    Where several are open, None means the size of that axis of x: (None, -1) keeps the batch and merges the
    rest.

    >>> ops.reshape(ops.zeros((2, 3)), (3, -1)).shape
    (3, 2)
    """
    if isinstance(newshape, int):
        newshape = (newshape,)
    if sum(d is None or d == -1 for d in newshape) > 1 and None in newshape:
        dims = [
            ("copy", i) if d is None else ("infer", 0) if d == -1 else ("fixed", int(d))
            for i, d in enumerate(newshape)
        ]
        return _core.reshape_dims(tensor(x), dims)
    return _core.reshape(tensor(x), [d if d is None else int(d) for d in newshape])


@op
def ravel(x):
    """x as one axis."""
    return _core.reshape(tensor(x), (-1,))


@op
def expand_dims(x, axis):
    """x with new axes of size 1 that stand at `axis` (an int, or several) of the result."""
    x = tensor(x)
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return _core.expand_dims(x, axes_of(list(axes), len(x.shape) + len(axes)))


@op
def squeeze(x, axis=None):
    """x without the axes of size 1 that `axis` names (None: all of them)."""
    x = tensor(x)
    return _core.squeeze(x, None if axis is None else axes_of(axis, len(x.shape)))


@op
def transpose(x, axes=None):
    """x with its axes in the order `axes` (None: reversed)."""
    x = tensor(x)
    if axes is None:
        return _core.transpose(x)
    ndim = len(x.shape)
    perm = [one_axis(a, ndim, "axes") for a in axes]
    if sorted(perm) != list(range(ndim)):
        raise ValueError(f"`axes` must name each of the {ndim} axes once. Received: axes={tuple(axes)}.")
    return _core.transpose(x, perm)


@op
def moveaxis(x, source, destination):
    """x with the axes `source` moved to the places `destination`; the others keep their order."""
    x = tensor(x)
    ndim = len(x.shape)
    src = [one_axis(a, ndim, "source") for a in (source if isinstance(source, (list, tuple)) else [source])]
    dst = [
        one_axis(a, ndim, "destination")
        for a in (destination if isinstance(destination, (list, tuple)) else [destination])
    ]
    if len(src) != len(dst):
        raise ValueError(
            f"`source` and `destination` must have as many axes. Received: {source} and {destination}."
        )
    perm = [a for a in range(ndim) if a not in src]
    for to, where in sorted(zip(dst, src, strict=True)):
        perm.insert(to, where)
    return _core.transpose(x, perm)


@op
def swapaxes(x, axis1, axis2):
    """x with two axes exchanged."""
    x = tensor(x)
    ndim = len(x.shape)
    a, b = one_axis(axis1, ndim, "axis1"), one_axis(axis2, ndim, "axis2")
    perm = list(range(ndim))
    perm[a], perm[b] = b, a
    return _core.transpose(x, perm)


@op
def broadcast_to(x, shape):
    """x repeated along new axes and axes of size 1 until it has `shape`."""
    return _core.broadcast_to(tensor(x), list(shape))


@op
def concatenate(xs, axis=0):
    """Tensors one after the other along `axis`; their other axes must agree. Dtypes are promoted."""
    xs = [tensor(x) for x in xs]
    if not xs:
        raise ValueError("`concatenate` needs at least one tensor.")
    dtype = _core.promote(*xs)
    return _core.concat([tensor(x, dtype) for x in xs], one_axis(axis, len(xs[0].shape)))


@op
def stack(x, axis=0):
    """Tensors of one shape along a new `axis`."""
    xs = [tensor(v) for v in x]
    if not xs:
        raise ValueError("`stack` needs at least one tensor.")
    dtype = _core.promote(*xs)
    axis = one_axis(axis, len(xs[0].shape) + 1)
    return _core.concat([_core.expand_dims(tensor(v, dtype), [axis]) for v in xs], axis)


@op
def append(x1, x2, axis=None):
    """x2 after x1 along `axis`; None: both are flattened first."""
    x1, x2 = tensor(x1), tensor(x2)
    if axis is None:
        return concatenate([_core.reshape(x1, (-1,)), _core.reshape(x2, (-1,))], 0)
    return concatenate([x1, x2], axis)


def _at_least(x, ndim):
    """x with axes of size 1 as numpy's atleast_2d and atleast_3d add them."""
    x = tensor(x)
    if len(x.shape) == 0:
        x = _core.expand_dims(x, [0])
    if ndim >= 2 and len(x.shape) == 1:
        x = _core.expand_dims(x, [0])
    if ndim >= 3 and len(x.shape) == 2:
        x = _core.expand_dims(x, [2])
    return x


@op
def hstack(xs):
    """Tensors side by side: along axis 1, or axis 0 if they have one axis."""
    xs = [_at_least(x, 1) for x in xs]
    return concatenate(xs, 0 if len(xs[0].shape) == 1 else 1)


@op
def vstack(xs):
    """Tensors on top of each other: along axis 0, where 1-D tensors are rows."""
    return concatenate([_at_least(x, 2) for x in xs], 0)


@op
def dstack(xs):
    """Tensors one behind the other: along axis 2."""
    return concatenate([_at_least(x, 3) for x in xs], 2)


@op
def split(x, indices_or_sections, axis=0):
    """Pieces of x along `axis`: an int says how many equal ones, a list says where to cut."""
    x = tensor(x)
    axis = one_axis(axis, len(x.shape))
    if isinstance(indices_or_sections, int):
        total = known(x, axis, "split")
        if total % indices_or_sections:
            raise ValueError(
                f"`split` cuts axis {axis} of size {total} into {indices_or_sections} equal pieces, "
                f"which leaves a rest of "
                f"{total % indices_or_sections}. Give the places to cut, or use `array_split`."
            )
        step = total // indices_or_sections
        cuts = [step * i for i in range(1, indices_or_sections)]
    else:
        cuts = [int(i) for i in np.asarray(indices_or_sections)]
    return [slice_axis(x, axis, a, b) for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


@op
def array_split(x, indices_or_sections, axis=0):
    """`split` whose pieces may differ by one in size, the longer ones first."""
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    x = tensor(x)
    axis = one_axis(axis, len(x.shape))
    base, extra = divmod(known(x, axis, "array_split"), indices_or_sections)
    sizes = [base + (i < extra) for i in range(indices_or_sections)]
    return split(x, list(np.cumsum(sizes)[:-1]), axis)


@op
def hsplit(x, indices_or_sections):
    """`split` along axis 1, or axis 0 if there is one axis."""
    x = tensor(x)
    return split(x, indices_or_sections, 0 if len(x.shape) == 1 else 1)


@op
def vsplit(x, indices_or_sections):
    """`split` along axis 0."""
    return split(x, indices_or_sections, 0)


@op
def dsplit(x, indices_or_sections):
    """`split` along axis 2."""
    return split(x, indices_or_sections, 2)


@op
def tile(x, repeats):
    """x repeated `repeats` times along each axis; missing axes are added in front."""
    x = tensor(x)
    repeats = [int(r) for r in np.atleast_1d(repeats)]
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    if len(repeats) > len(x.shape):
        x = _core.expand_dims(x, list(range(len(repeats) - len(x.shape))))
    for axis, times in enumerate(repeats):
        if times != 1:
            x = _core.concat([x] * times, axis) if times > 0 else slice_axis(x, axis, 0, 0)
    return x


@op
def repeat(x, repeats, axis=None):
    """Each element repeated `repeats` times (an int, or one count an element) along `axis`; None: of the
    flattened tensor.
    """
    x = tensor(x)
    if axis is None:
        x, axis = _core.reshape(x, (-1,)), 0
    axis = one_axis(axis, len(x.shape))
    if isinstance(repeats, int) or np.size(np.asarray(repeats)) == 1:
        times = int(np.asarray(repeats).item())
        wide = _core.concat([_core.expand_dims(x, [axis + 1])] * times, axis + 1) if times else None
        if wide is None:
            return slice_axis(x, axis, 0, 0)
        dims = [("copy", a) for a in range(axis)]
        own = x.shape[axis]
        dims.append(("infer", 0) if own is None else ("fixed", own * times))
        dims += [("copy", a) for a in range(axis + 2, len(x.shape) + 1)]
        return _core.reshape_dims(wide, dims)
    counts = np.asarray(repeats).reshape(-1)
    return _core.gather(x, np.repeat(np.arange(known(x, axis, "repeat"), dtype="int32"), counts), axis)


@op
def flip(x, axis=None):
    """x with the order along `axis` (None: every axis) reversed."""
    x = tensor(x)
    return _core.flip(x, axes_of(axis, len(x.shape)))


@op
def fliplr(x):
    """x with axis 1 reversed."""
    return flip(x, 1)


@op
def flipud(x):
    """x with axis 0 reversed."""
    return flip(x, 0)


@op
def rot90(array, k=1, axes=(0, 1)):
    """x turned by k quarter turns in the plane of two axes, from the first towards the second."""
    x = tensor(array)
    if len(x.shape) < 2:
        raise ValueError(f"Input array must have at least 2 dimensions. Received: array.ndim={len(x.shape)}")
    if len(axes) != 2 or one_axis(axes[0], len(x.shape)) == one_axis(axes[1], len(x.shape)):
        raise ValueError(f"Invalid axes: {axes}. Axes must be a tuple of two different dimensions.")
    for _ in range(k % 4):
        x = flip(swapaxes(x, *axes), axes[0])
    return x


@op
def roll(x, shift, axis=None):
    """x with its elements moved by `shift` along `axis`, those that fall out coming back in; None: of the
    flattened tensor.
    """
    x = tensor(x)
    if axis is None:
        return reshape(roll(_core.reshape(x, (-1,)), shift, 0), known_shape(x, "roll"))
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    shifts = shift if isinstance(shift, (list, tuple)) else [shift] * len(axes)
    for by, a in zip(shifts, axes, strict=True):
        a = one_axis(a, len(x.shape))
        n = known(x, a, "roll")
        cut = -by % n if n else 0
        if cut:
            x = _core.concat([slice_axis(x, a, cut, None), slice_axis(x, a, 0, cut)], a)
    return x


@op
def pad(x, pad_width, mode="constant", constant_values=None):
    """x with `pad_width` elements added: an int, a pair, or a pair (before, after) for each axis.

    `mode`: "constant" (zeros, or `constant_values`), "reflect" (without the edge) or "symmetric" (with it).
    """
    x = tensor(x)
    if constant_values is not None and mode != "constant":
        raise ValueError(
            f"Argument `constant_values` can only be provided when `mode == 'constant'`. "
            f"Received: mode={mode}"
        )
    if mode not in ("constant", "reflect", "symmetric"):
        raise ValueError(f"`mode` must be 'constant', 'reflect' or 'symmetric'. Received: mode={mode}")
    ndim = len(x.shape)
    widths = np.broadcast_to(np.asarray(pad_width, dtype=int), (ndim, 2)).tolist()
    value = 0 if constant_values is None else constant_values
    if isinstance(value, (bool, int, float)):
        return _core.pad(x, [tuple(w) for w in widths], mode, float(value))
    inside = _core.pad(_core.full_like(x, 1, "bool"), [tuple(w) for w in widths])
    return _core.where(inside, _core.pad(x, [tuple(w) for w in widths]), tensor(value, x.dtype))


@op
def get_item(x, key):
    """x[key], as numpy indexes."""
    return tensor(x)[key]


@op
def take(x, indices, axis=None):
    """The slices of x at `indices` along `axis` (None: elements of the flattened tensor); negative ones count
    from the end.
    """
    x = tensor(x)
    if axis is None:
        x, axis = _core.reshape(x, (-1,)), 0
    return _core.gather(x, _ids(indices, "take"), one_axis(axis, len(x.shape)))


@op
def take_along_axis(x, indices, axis=None):
    """For each place the element of x at `indices` along `axis`; the other axes broadcast."""
    x, indices = tensor(x), _ids(indices, "take_along_axis")
    if axis is None:
        return _core.gather_along(_core.reshape(x, (-1,)), _core.reshape(indices, (-1,)), 0)
    ndim = len(x.shape)
    axis = one_axis(axis, ndim)
    if len(indices.shape) != ndim:
        raise ValueError(
            f"`indices` must have as many axes as `x`. Received: {tuple(indices.shape)} for {tuple(x.shape)}."
        )

    def other(v):  # the shape without `axis`
        return [d for a, d in enumerate(v.shape) if a != axis]

    if other(x) != other(indices):
        both = np.broadcast_shapes(tuple(d or 1 for d in other(x)), tuple(d or 1 for d in other(indices)))
        unknown = any(d is None for v in (x, indices) for d in other(v))
        if unknown:
            raise needs_known("take_along_axis: an axis to broadcast is unknown while tracing")
        x = _core.broadcast_to(x, [*both[:axis], x.shape[axis], *both[axis:]])
        indices = _core.broadcast_to(indices, [*both[:axis], indices.shape[axis], *both[axis:]])
    return _core.gather_along(x, indices, axis)


def _ids(indices, name):
    indices = tensor(indices)
    if "float" in indices.dtype:
        raise TypeError(
            f"`{name}` needs integer indices. Received dtype {indices.dtype}: cast them to int32."
        )
    return tensor(indices, "int32") if indices.dtype == "bool" else indices


@op
def diff(a, n=1, axis=-1):
    """Differences of neighbours along `axis`, n times."""
    x = tensor(a)
    axis = one_axis(axis, len(x.shape))
    for _ in range(n):
        later, earlier = slice_axis(x, axis, 1, None), slice_axis(x, axis, None, -1)
        x = _core.binary("ne", later, earlier) if x.dtype == "bool" else later - earlier
    return x


@op
def unravel_index(indices, shape):
    """Flat indices as one tensor of coordinates for each axis of `shape`."""
    rest = tensor(indices)
    dims = static_dims(shape)
    rest = _core.where(_core.binary("lt", rest, 0), rest + product(dims), rest)
    coordinates = []
    for dim in reversed(dims):
        coordinates.append(_core.binary("mod", rest, dim))
        rest = _core.binary("floordiv", rest, dim)
    return tuple(reversed(coordinates))


__all__ = exports(globals())
