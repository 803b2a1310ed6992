"""A penalty on what flows through."""

from lamina import regularizers
from lamina.layers.layer import Layer


class ActivityRegularization(Layer):
    """Return the inputs, and add `l1 * sum(|x|) + l2 * sum(x ** 2)` (batch mean) to the model's loss."""

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1 = l1
        self.l2 = l2
        self.supports_masking = True

    def call(self, inputs):
        return inputs

    def get_config(self):
        config = super().get_config()
        config.pop("activity_regularizer", None)  # l1 and l2 say it
        return config
