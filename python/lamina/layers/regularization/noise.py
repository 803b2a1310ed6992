"""Gaussian noise while training."""

from lamina import random
from lamina.layers.arguments import fraction
from lamina.layers.layer import Layer


class _Noise(Layer):
    """Holds the seed of a layer that draws one normal value per input value."""

    def _set_noise(self, amount, seed):
        self.seed = seed
        if amount > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True

    def _normal(self, inputs, mean, stddev):
        return random.normal_like(inputs, mean, stddev, dtype=self.compute_dtype, seed=self.seed_generator)


class GaussianNoise(_Noise):
    """Add noise of mean 0 and deviation `stddev`, while training. Input: any shape, float."""

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.stddev = fraction(stddev, "stddev")
        self._set_noise(stddev, seed)

    def call(self, inputs, training=False):
        if not training or self.stddev == 0:
            return inputs
        return inputs + self._normal(inputs, 0.0, self.stddev)


class GaussianDropout(_Noise):
    """Multiply by noise of mean 1 and deviation `sqrt(rate / (1 - rate))`, while training.

    Input: any shape, float. Output: same shape and dtype.
    Source: Srivastava et al., 2014, http://jmlr.org/papers/v15/srivastava14a.html, section 10.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = fraction(rate, "rate")
        if rate == 1:
            raise ValueError(
                "`rate` must be below 1: the deviation is sqrt(rate / (1 - rate)). Received: rate=1"
            )
        self._set_noise(rate, seed)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        return inputs * self._normal(inputs, 1.0, (self.rate / (1.0 - self.rate)) ** 0.5)
