"""The same values in another arrangement."""

import math

from lamina import backend, ops
from lamina.errors import ShapeError
from lamina.layers.arguments import positive_int
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer


class Flatten(Layer):
    """All axes but the batch in one: (batch, a, b, c) -> (batch, a * b * c).

    With `data_format="channels_first"` the channels (axis 1) are moved last before, so that both layouts give
    the same order. An input (batch,) becomes (batch, 1). An unknown axis makes the size unknown, and a Dense
    layer after it impossible.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = backend.standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs):
        ndim = len(inputs.shape)
        if self.data_format == "channels_first" and ndim > 2:
            inputs = ops.transpose(inputs, (0, *range(2, ndim), 1))
        sizes = tuple(inputs.shape)[1:]
        return _reshape_samples(inputs, (-1,) if None in sizes else (math.prod(sizes),))


class Reshape(Layer):
    """Each sample in `target_shape` (without the batch axis); one entry may be -1 and follows from the
    others.

    Raises: ShapeError with both products when the number of values does not match.

    >>> layers.Reshape((-1, 2, 2))(Input((12,))).shape
    (None, 3, 2, 2)
    """

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        if not hasattr(target_shape, "__iter__"):
            raise ValueError(
                f"`target_shape` must be a tuple of integers. Received: target_shape={target_shape}; "
                f"write `({target_shape},)`."
            )
        self.target_shape = tuple(target_shape)
        if min(self.target_shape, default=0) < -1:
            raise ValueError(
                "Each dimension in `target_shape` must be a non-negative integer, or `-1` for a single "
                f"unknown dimension. Received: target_shape={self.target_shape}."
            )
        if self.target_shape.count(-1) > 1:
            raise ValueError(
                "There must be at most one unknown dimension (-1) in `target_shape`. "
                f"Received: target_shape={self.target_shape}."
            )

    def call(self, inputs):
        return _reshape_samples(inputs, self._resolve(tuple(inputs.shape)))

    def _resolve(self, shape):
        """The target with -1 worked out, where the input's sizes are known."""
        target, sizes = self.target_shape, shape[1:]
        if None in sizes:
            return target
        have, want = math.prod(sizes), math.prod(size for size in target if size != -1)
        derived = -1 in target
        if have != want and not (derived and want and have % want == 0):
            product = " * ".join(map(str, sizes)) or "1"
            wanted = " * ".join(str(size) for size in target if size != -1) or "1"
            raise ShapeError(
                "The total size of the tensor must be unchanged. "
                f"Received: input_shape={sizes}, target_shape={target}",
                layer=self,
                argument="target_shape",
                got=shape,
                expected=f"{'a multiple of ' if derived else ''}{want} values per sample",
                cause=f"a sample has {product} = {have} values, the target holds {wanted} = {want}",
                fix="let one entry follow from the others with -1" if not derived else None,
            )
        return tuple(have // want if size == -1 else size for size in target)


class Permute(Layer):
    """Reorder the axes of each sample; `dims` counts from 1 (axis 0 stays): (2, 1) swaps two axes."""

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                "Invalid permutation argument `dims` for Permute Layer. The set of indices in `dims` must be "
                f"consecutive and start from 1. Received dims={dims}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs):
        return ops.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """Repeat each sample `n` times: (batch, features) -> (batch, n, features)."""

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        if isinstance(n, float):
            raise TypeError(f"Expected an integer value for `n`, got {type(n)}.")
        self.n = positive_int(n, "n")
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs):
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)


def _reshape_samples(x, sizes):
    """`x` as (batch, *sizes)."""
    return ops.reshape(x, (x.shape[0], *sizes))
