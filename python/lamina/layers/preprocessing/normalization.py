"""Feature-wise normalization with statistics learned from data once."""

import numpy as np

from lamina import backend, ops
from lamina.errors import ShapeError
from lamina.layers.arguments import axis_in_range, known_axis
from lamina.layers.layer import Layer


class Normalization(Layer):
    """`(x - mean) / sqrt(variance)`, or back with `invert=True`.

    `axis` holds the features that have their own mean and variance (an int, several, or None for one mean of
    everything). The statistics are given as `mean` and `variance`, or learned by `adapt(data)`; before that
    they are 0 and 1.

    Weights, unless given: mean and variance, shaped like the kept axes, and count. Input: any shape. Output:
    same shape, float. Raises: ShapeError when a kept axis is unknown or differs from the data's.

    >>> layer = layers.Normalization(); layer.adapt(x_train)
    """

    # The attributes `mean` and `variance` hold what is in use, the config what was given.
    _config_exclude = ("mean", "variance")

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, **kwargs):
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None):
            raise ValueError(
                "When setting values directly, both `mean` and `variance` must be set. "
                f"Received: mean={mean} and variance={variance}"
            )
        if np.shape(mean) != np.shape(variance):
            raise ValueError(
                "When setting values directly, `mean` and `variance` must have the same shape. "
                f"Received: mean shape {np.shape(mean)} and variance shape {np.shape(variance)}"
            )
        if mean is not None and np.ndim(mean) > len(self.axis):
            raise ValueError(
                f"The rank of `mean` must be less than or equal to the number of axes ({len(self.axis)}). "
                f"Received: mean shape {np.shape(mean)} for axis {self.axis}"
            )
        self.input_mean = mean
        self.input_variance = variance
        self.invert = invert
        self.supports_masking = True

    def build(self, input_shape):
        self._keep_axis = tuple(sorted(axis_in_range(axis, input_shape, self) for axis in self.axis))
        sizes = tuple(known_axis(input_shape, axis, self, "feature") for axis in self._keep_axis)
        kept = dict(zip(self._keep_axis, sizes, strict=True))
        self._feature_sizes = sizes
        self._broadcast_shape = tuple(kept.get(axis, 1) for axis in range(len(input_shape)))
        if self.input_mean is None:
            weight = {"shape": sizes, "trainable": False}
            self.adapt_mean = self.add_weight(name="mean", initializer="zeros", **weight)
            self.adapt_variance = self.add_weight(name="variance", initializer="ones", **weight)
            self.count = self.add_weight(
                name="count", shape=(), dtype="int32", initializer="zeros", trainable=False
            )

    @property
    def mean(self):
        """The mean in use, shaped to broadcast over the inputs; None before the layer is built."""
        return self._statistic(self.input_mean, "adapt_mean")

    @property
    def variance(self):
        """The variance in use, shaped to broadcast over the inputs; None before the layer is built."""
        return self._statistic(self.input_variance, "adapt_variance")

    def _statistic(self, given, learned):
        if not self.built:
            return None
        if given is None:
            return ops.reshape(ops.cast(getattr(self, learned), self.compute_dtype), self._broadcast_shape)
        given = np.broadcast_to(np.asarray(given, dtype="float64"), self._feature_sizes)
        return ops.convert_to_tensor(given.reshape(self._broadcast_shape), dtype=self.compute_dtype)

    def call(self, inputs):
        x = ops.cast(inputs, self.compute_dtype)
        deviation = ops.maximum(ops.sqrt(self.variance), backend.epsilon())
        return self.mean + x * deviation if self.invert else (x - self.mean) / deviation

    def adapt(self, data):
        """Learn mean and variance from `data`: an array, or an iterable of batches (of which (x, y) use x).

        Replaces what an earlier `adapt` learned. Computed in float64.
        """
        if self.input_mean is not None:
            raise ValueError("`adapt()` cannot be used on a layer whose `mean` and `variance` were given.")
        total, mean, square = 0, 0.0, 0.0
        for batch in [data] if hasattr(data, "shape") else data:
            x = np.asarray(batch[0] if isinstance(batch, tuple) else batch)
            if not self.built:
                self.build(x.shape)
            ndim = len(self._broadcast_shape)
            if x.ndim != ndim or any(
                x.shape[axis] != self._broadcast_shape[axis] for axis in self._keep_axis
            ):
                raise ShapeError(
                    "adapt() was called with data of an incompatible shape.",
                    layer=self,
                    argument="data",
                    got=x.shape,
                    expected=f"{ndim} axes, with {self._feature_sizes} along axes {self._keep_axis}",
                )
            reduced = tuple(axis for axis in range(x.ndim) if axis not in self._keep_axis)
            count = int(np.prod([x.shape[axis] for axis in reduced]))
            if count == 0:
                continue
            # Chan et al.: merge the moments of the batch into those so far.
            batch_mean = x.mean(axis=reduced, dtype="float64")
            batch_square = x.var(axis=reduced, dtype="float64") * count
            shift = batch_mean - mean
            square = square + batch_square + shift**2 * (total * count / (total + count))
            mean = mean + shift * (count / (total + count))
            total += count
        if total == 0:
            raise ValueError("adapt() received no data. Pass an array or a non-empty iterable of batches.")
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(square / total)

    def get_config(self):
        given = {"mean": self.input_mean, "variance": self.input_variance}
        return super().get_config() | {key: np.array(value).tolist() for key, value in given.items()}
