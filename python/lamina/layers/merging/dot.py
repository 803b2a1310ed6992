"""Dot products between two inputs, sample by sample."""

from lamina import ops
from lamina.errors import ShapeError
from lamina.layers.arguments import axis_in_range
from lamina.layers.merging.base import Merge, list_of_shapes, mismatch


class Dot(Merge):
    """Multiply and sum over one axis of each input: `axes` (one for both, or a pair; never the batch axis 0).

    (batch, 2, 5) and (batch, 10, 2) with `axes=(1, 2)` give (batch, 5, 10); two (batch, n) inputs give
    (batch, 1). `normalize=True` divides by the L2 norms first, which gives the cosine proximity.
    Raises: ShapeError when the two axes differ in size.
    """

    def __init__(self, axes, normalize=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(axes, int):
            if not isinstance(axes, (list, tuple)):
                raise TypeError(
                    f"Invalid type for argument `axes`: it should be a list or an int. Received: axes={axes}"
                )
            if len(axes) != 2 or not all(isinstance(axis, int) for axis in axes):
                raise ValueError(
                    "Invalid format for argument `axes`: it should contain two elements, both integers. "
                    f"Received: axes={axes}"
                )
        self.axes = axes
        self.normalize = normalize

    def build(self, input_shape):
        shapes = list_of_shapes(input_shape, self, count=2)
        axes = self._positions(*shapes)
        sizes = [shape[axis] for shape, axis in zip(shapes, axes, strict=True)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise mismatch(
                self,
                shapes,
                0,
                1,
                None,
                *(f"{size} at axis {axis}" for size, axis in zip(sizes, axes, strict=True)),
                what=f"Incompatible input shapes: axis values {sizes[0]} (at axis {axes[0]}) != "
                f"{sizes[1]} (at axis {axes[1]}).",
            )
        batch = [shape[0] for shape in shapes]
        if None not in batch and batch[0] != batch[1]:
            raise mismatch(self, shapes, 0, 1, 0, *batch)

    def _positions(self, *shapes):
        axes = (self.axes,) * 2 if isinstance(self.axes, int) else self.axes
        axes = [axis_in_range(axis, shape, self) for axis, shape in zip(axes, shapes, strict=True)]
        if 0 in axes:
            raise ShapeError(
                "Cannot perform batch_dot over axis 0.",
                layer=self,
                argument="axes",
                got=tuple(shapes[0]),
                expected="axes other than the batch axis",
                fix="if the inputs have no batch axis, add one: `ops.expand_dims(x, 0)`",
            )
        return axes

    def call(self, inputs):
        x, y = inputs
        a, b = self._positions(x.shape, y.shape)
        if self.normalize:
            x, y = ops.normalize(x, axis=a), ops.normalize(y, axis=b)
        letters = "abcdefghijklmnopqrstuvwxyz"
        first = letters[: len(x.shape)]  # "a" is the batch
        second = ["a", *letters[len(x.shape) : len(x.shape) + len(y.shape) - 1]]
        second[b] = first[a]
        rest = "".join(letter for letter in (*first, *second[1:]) if letter != first[a])
        product = ops.einsum(f"{first},{''.join(second)}->{rest}", x, y)
        return ops.expand_dims(product, -1) if rest == "a" else product

    def compute_mask(self, inputs, mask=None):
        return None


def dot(inputs, axes=-1, **kwargs):
    """`Dot(axes, **kwargs)(inputs)`."""
    return Dot(axes=axes, **kwargs)(inputs)
