"""Pooling: the largest or the mean value of each window."""

from lamina import backend, ops
from lamina.layers.arguments import int_tuple, padding_mode
from lamina.layers.convolutional.base import check_window
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer


class Pooling(Layer):
    """A window of `pool_size` moved by `strides` (default: `pool_size`, so that windows do not overlap).

    Each spatial axis becomes `floor((size - pool_size) / strides) + 1` with valid padding and
    `ceil(size / strides)` with same padding, whose padding is never part of a maximum or a mean.
    Raises: ShapeError when the window does not fit.
    """

    rank: int

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = int_tuple(pool_size, self.rank, "pool_size")
        self.strides = self.pool_size if strides is None else int_tuple(strides, self.rank, "strides")
        self.padding = padding_mode(padding)
        self.data_format = backend.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs):
        if self.padding == "valid":
            check_window(self, inputs.shape, self.pool_size, self.strides)
        return self._pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class MaxPooling1D(Pooling):
    """The largest value of each window along time.

    Input: (batch, time, channels), or (batch, channels, time) with `data_format="channels_first"`.
    """

    rank = 1
    _pool = staticmethod(ops.max_pool)


class MaxPooling2D(Pooling):
    """The largest value of each window of an image.

    Input: (batch, height, width, channels), or (batch, channels, height, width) with
    `data_format="channels_first"`.

    >>> layers.MaxPooling2D(2)(Input((28, 28, 8))).shape
    (None, 14, 14, 8)
    """

    rank = 2
    _pool = staticmethod(ops.max_pool)


class AveragePooling1D(Pooling):
    """The mean of each window along time. Input as in MaxPooling1D."""

    rank = 1
    _pool = staticmethod(ops.average_pool)


class AveragePooling2D(Pooling):
    """The mean of each window of an image. Input as in MaxPooling2D."""

    rank = 2
    _pool = staticmethod(ops.average_pool)
