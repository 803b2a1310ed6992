"""Layers that leave the values alone or only mark some of them as absent."""

from lamina import ops
from lamina.layers.layer import Layer


class Masking(Layer):
    """Mask the steps whose features all equal `mask_value`; later layers that know masks skip them.

    Input: (batch, time, features). Output: the same, masked steps set to 0; mask: (batch, time), True to
    keep.
    """

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs):
        return ops.where(self._keep(inputs, keepdims=True), inputs, ops.zeros_like(inputs))

    def compute_mask(self, inputs, mask=None):
        return self._keep(inputs)

    def _keep(self, inputs, keepdims=False):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=keepdims)


class Identity(Layer):
    """Return the inputs, whatever their structure. A named place in a model, or a layer to swap in."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs
