"""Inputs side by side along one axis."""

from lamina import ops
from lamina.layers.arguments import axis_in_range
from lamina.layers.merging.base import Merge, list_of_shapes, mismatch, paired_masks


class Concatenate(Merge):
    """The inputs one after the other along `axis`; all other axes must agree.

    Raises: ShapeError naming two inputs that disagree and the axis.

    >>> layers.Concatenate()([Input((2, 3)), Input((2, 5))]).shape
    (None, 2, 8)
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape):
        shapes = list_of_shapes(input_shape, self)
        what = "A `Concatenate` layer requires inputs with matching shapes except for the concatenation axis."
        along = axis_in_range(self.axis, shapes[0], self)
        for index, shape in enumerate(shapes[1:], start=1):
            if len(shape) != len(shapes[0]):
                sizes = f"{len(shapes[0])} axes", f"{len(shape)} axes"
                raise mismatch(self, shapes, 0, index, None, *sizes, what=what)
        for axis in range(len(shapes[0])):
            if axis == along:
                continue
            known = [(i, shape[axis]) for i, shape in enumerate(shapes) if shape[axis] is not None]
            for index, size in known[1:]:
                if size != known[0][1]:
                    raise mismatch(self, shapes, known[0][0], index, axis, known[0][1], size, what=what)

    def call(self, inputs):
        return ops.concatenate(inputs, axis=self.axis)

    def compute_mask(self, inputs, mask=None):
        if not paired_masks(inputs, mask) or all(m is None for m in mask):
            return None
        # Each mask at the full shape of its input, since the values are put together along any axis.
        masks = [_full_mask(x, m) for x, m in zip(inputs, mask, strict=True)]
        return ops.any(ops.concatenate(masks, axis=self.axis), axis=-1)


def _full_mask(x, mask):
    ones = ops.ones_like(x, dtype="bool")
    if mask is None:
        return ones
    return ops.logical_and(ops.expand_dims(mask, -1) if len(mask.shape) < len(x.shape) else mask, ones)


def concatenate(inputs, axis=-1, **kwargs):
    """`Concatenate(axis, **kwargs)(inputs)`."""
    return Concatenate(axis=axis, **kwargs)(inputs)
