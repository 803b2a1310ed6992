"""A fixed linear map of the values."""

from lamina import backend, ops
from lamina.layers.layer import Layer
from lamina.saving.serialization import deserialize_keras_object


class Rescaling(Layer):
    """`inputs * scale + offset`, each a number or one number per channel.

    `Rescaling(1 / 255)` takes bytes to [0, 1], `Rescaling(1 / 127.5, offset=-1)` to [-1, 1].
    Input: any shape and dtype. Output: same shape, float.
    """

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.supports_masking = True

    def call(self, inputs):
        x = ops.cast(inputs, self.compute_dtype)
        return x * self._per_channel(self.scale) + self._per_channel(self.offset)

    @classmethod
    def from_config(cls, config):
        arrays = {key: deserialize_keras_object(config[key]) for key in ("scale", "offset")}
        return super().from_config({**config, **arrays})

    def _per_channel(self, value):
        value = ops.convert_to_tensor(value, dtype=self.compute_dtype)
        if len(value.shape) == 1 and backend.image_data_format() == "channels_first":
            value = ops.reshape(value, (-1, 1, 1))
        return value
