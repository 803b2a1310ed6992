"""Global pooling: one value per channel."""

from lamina import backend, ops
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer


class GlobalPooling(Layer):
    """Reduce all spatial axes: the output is (batch, channels), or keeps them with size 1 if `keepdims`.

    Works on spatial axes of unknown size, which makes it the way from images of any size to a Dense layer.
    """

    rank: int

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = backend.standardize_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs):
        return self._reduce(inputs, axis=self._spatial_axes, keepdims=self.keepdims)

    @property
    def _spatial_axes(self):
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))


class GlobalAveragePooling1D(GlobalPooling):
    """The mean over time. Input: (batch, time, channels). A mask (batch, time) excludes steps."""

    rank = 1

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        (axis,) = self._spatial_axes
        if mask is None:
            return ops.mean(inputs, axis=axis, keepdims=self.keepdims)
        keep = ops.expand_dims(ops.cast(mask, "bool"), -1 if axis == 1 else 1)
        total = ops.sum(ops.where(keep, inputs, 0), axis=axis, keepdims=self.keepdims)
        return total / ops.sum(ops.cast(keep, inputs.dtype), axis=axis, keepdims=self.keepdims)

    def compute_mask(self, inputs, mask=None):
        return None  # the time axis is gone


class GlobalAveragePooling2D(GlobalPooling):
    """The mean over height and width. Input: (batch, height, width, channels)."""

    rank = 2
    _reduce = staticmethod(ops.mean)


class GlobalMaxPooling1D(GlobalPooling):
    """The largest value over time. Input: (batch, time, channels)."""

    rank = 1
    _reduce = staticmethod(ops.max)


class GlobalMaxPooling2D(GlobalPooling):
    """The largest value over height and width. Input: (batch, height, width, channels)."""

    rank = 2
    _reduce = staticmethod(ops.max)
