"""Element-by-element merges, as layers and as functions of a list of tensors."""

import functools

from lamina import ops
from lamina.layers.merging.base import Merge, list_of_shapes, paired_masks


class Add(Merge):
    """The sum of the inputs, as in a residual connection.

    >>> layers.Add()([Input((2, 3)), Input((2, 3))]).shape
    (None, 2, 3)
    """

    _combine = staticmethod(ops.add)


class Subtract(Merge):
    """`inputs[0] - inputs[1]`; exactly two inputs."""

    _combine = staticmethod(ops.subtract)

    def build(self, input_shape):
        list_of_shapes(input_shape, self, count=2)
        super().build(input_shape)


class Multiply(Merge):
    """The product of the inputs. A masked step counts as 1, and as 0 where it is masked in all inputs."""

    _combine = staticmethod(ops.multiply)

    def call(self, inputs, mask=None):
        if not paired_masks(inputs, mask) or all(m is None for m in mask):
            return super().call(inputs)
        spread = [_spread(m, x) for x, m in zip(inputs, mask, strict=True)]
        product = super().call(
            [x if m is None else ops.where(m, x, 1) for x, m in zip(inputs, spread, strict=True)]
        )
        if any(m is None for m in spread):
            return product
        return ops.where(functools.reduce(ops.logical_or, spread), product, 0)


class Average(Merge):
    """The mean of the inputs."""

    _combine = staticmethod(ops.add)

    def _merge(self, inputs):
        return super()._merge(inputs) / len(inputs)


class _Extreme(Merge):
    """Where some inputs are masked, the extreme of the others counts."""

    def call(self, inputs, mask=None):
        if not paired_masks(inputs, mask) or all(m is None for m in mask):
            return super().call(inputs)
        merged, seen = inputs[0], _spread(mask[0], inputs[0])
        for x, m in zip(inputs[1:], mask[1:], strict=True):
            keep = _spread(m, x)
            value = x if keep is None else ops.where(keep, x, merged)
            merged = merged if seen is None else ops.where(seen, merged, value)
            seen = None if seen is None or keep is None else ops.logical_or(seen, keep)
            merged = self._combine(merged, value)
        return merged


class Maximum(_Extreme):
    """The largest of the inputs, element by element; masked steps do not count."""

    _combine = staticmethod(ops.maximum)


class Minimum(_Extreme):
    """The smallest of the inputs, element by element; masked steps do not count."""

    _combine = staticmethod(ops.minimum)


def _spread(mask, x):
    """A mask (batch, time) for values (batch, time, features)."""
    return mask if mask is None or len(mask.shape) == len(x.shape) else ops.expand_dims(mask, -1)


def add(inputs, **kwargs):
    """`Add(**kwargs)(inputs)`."""
    return Add(**kwargs)(inputs)


def subtract(inputs, **kwargs):
    """`Subtract(**kwargs)(inputs)`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs, **kwargs):
    """`Multiply(**kwargs)(inputs)`."""
    return Multiply(**kwargs)(inputs)


def average(inputs, **kwargs):
    """`Average(**kwargs)(inputs)`."""
    return Average(**kwargs)(inputs)


def maximum(inputs, **kwargs):
    """`Maximum(**kwargs)(inputs)`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs, **kwargs):
    """`Minimum(**kwargs)(inputs)`."""
    return Minimum(**kwargs)(inputs)
