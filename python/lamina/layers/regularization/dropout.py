"""Dropout and its kin: parts of the input are switched off while training, nothing happens in inference."""

from lamina import backend, ops, random
from lamina.layers.arguments import fraction
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer


class Dropout(Layer):
    """Set a fraction `rate` of the values to 0 and scale the others by `1 / (1 - rate)`, while training.

    `noise_shape`: the shape of the mask, with 1 along the axes that share one decision and None for "as the
    input": (None, 1, None) drops the same features at every step. `seed` makes the masks repeatable.

    Input: any shape, float. Output: same shape and dtype.
    Source: Srivastava et al., 2014, http://jmlr.org/papers/v15/srivastava14a.html.
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = fraction(rate, "rate")
        self.seed = seed
        self.noise_shape = _noise_shape(noise_shape)
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, noise_shape=self.noise_shape, seed=self.seed_generator)


class SpatialDropout(Dropout):
    """Dropout of whole feature maps: one decision per sample and channel; see SpatialDropout1D and 2D."""

    def get_config(self):
        config = super().get_config()
        del config["trainable"]  # Keras's constructor does not take it
        return {**config, "dtype": self.dtype_policy.name}


class SpatialDropout1D(SpatialDropout):
    """Dropout that keeps or drops a feature at all steps together. Input: (batch, time, channels).

    Source: Tompson et al., 2014, https://arxiv.org/abs/1411.4280.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(rate, noise_shape=(None, 1, None), seed=seed, **kwargs)
        self.input_spec = InputSpec(ndim=3)


class SpatialDropout2D(SpatialDropout):
    """Dropout that keeps or drops a feature map whole. Input: (batch, height, width, channels), or channels
    at axis 1.

    Source: Tompson et al., 2014, https://arxiv.org/abs/1411.4280.
    """

    def __init__(self, rate, data_format=None, seed=None, **kwargs):
        self.data_format = backend.standardize_data_format(data_format)
        last = self.data_format == "channels_last"
        super().__init__(
            rate, noise_shape=(None, 1, 1, None) if last else (None, None, 1, 1), seed=seed, **kwargs
        )
        self.input_spec = InputSpec(ndim=4)


class AlphaDropout(Dropout):
    """Dropout for SELU networks: dropped values become SELU's negative limit, mean and variance are kept.

    Input: any shape, float. Output: same shape and dtype.
    Source: Klambauer et al., 2017, https://arxiv.org/abs/1706.02515.
    """

    _DROPPED = -1.7580993408473766  # -alpha * scale of SELU

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return ops.zeros_like(inputs)
        ones = ops.ones_like(inputs)
        kept = random.dropout(ones, self.rate, noise_shape=self.noise_shape, seed=self.seed_generator)
        values = ops.where(ops.greater(kept, 0), inputs, self._DROPPED)
        # The affine map that restores zero mean and unit variance.
        scale = ((1 - self.rate) * (1 + self.rate * self._DROPPED**2)) ** -0.5
        return scale * (values - self._DROPPED * self.rate)


def _noise_shape(noise_shape):
    if noise_shape is None:
        return None
    if isinstance(noise_shape, str) or not hasattr(noise_shape, "__iter__"):
        raise ValueError(
            "Invalid value received for argument `noise_shape`. Expected a tuple or list of integers. "
            f"Received: noise_shape={noise_shape}"
        )
    for index, size in enumerate(noise_shape):
        if size is not None and (not isinstance(size, int) or size <= 0):
            kind = (
                "dimensions to be positive integers" if isinstance(size, int) else "elements to be integers"
            )
            raise ValueError(
                f"Invalid value received for argument `noise_shape`. Expected all {kind} or None. "
                f"Received at index {index}: {size}"
            )
    return tuple(noise_shape)
