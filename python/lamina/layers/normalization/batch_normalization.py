"""Batch normalization."""

from lamina import backend, initializers, ops
from lamina.errors import ShapeError
from lamina.layers.arguments import axis_in_range, known_axis
from lamina.layers.input_spec import InputSpec
from lamina.layers.parametric import ParametricLayer


class BatchNormalization(ParametricLayer):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, per channel (`axis`).

    In training, mean and variance are those of the batch, over all axes but `axis`, and the moving statistics
    follow them: `moving = momentum * moving + (1 - momentum) * batch`. In inference, and when `trainable` is
    False, the moving statistics are used and stay as they are. A mask (the input's shape without its last
    axis) excludes positions from the batch statistics. `renorm=True` is batch renormalization
    (https://arxiv.org/abs/1702.03275) with `renorm_clipping={"rmin": , "rmax": , "dmax": }`.

    Weights, each (channels,): gamma (`scale`), beta (`center`), moving_mean, moving_variance.
    Input: any shape, float. Output: same shape and dtype; statistics are computed in float32 at least.
    Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        synchronized=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis = int(axis)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self._weight_options("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._weight_options("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.renorm = renorm
        self.renorm_clipping = _clipping(renorm_clipping) if renorm else renorm_clipping
        self.renorm_momentum = renorm_momentum
        self.synchronized = synchronized  # one process is always in step with itself
        self.supports_masking = True

    def build(self, input_shape):
        channels = known_axis(input_shape, self.axis, self, "channels")
        shape = (channels,)
        self.gamma = self._add_weight("gamma", shape, autocast=False) if self.scale else None
        self.beta = self._add_weight("beta", shape, autocast=False) if self.center else None
        self.moving_mean = self._add_statistic("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self._add_statistic("moving_variance", shape, self.moving_variance_initializer)
        if self.renorm:

            def stddev_initializer(shape, dtype=None):
                return ops.sqrt(self.moving_variance_initializer(shape, dtype=dtype))

            self.moving_stddev = self._add_statistic("moving_stddev", shape, stddev_initializer)
            self.renorm_mean = self._add_statistic("renorm_mean", shape, self.moving_mean_initializer)
            self.renorm_stddev = self._add_statistic("renorm_stddev", shape, stddev_initializer)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def _add_statistic(self, name, shape, initializer):
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, trainable=False, autocast=False
        )

    def call(self, inputs, training=None, mask=None):
        # Half-precision sums over a batch overflow.
        x = ops.cast(inputs, backend.result_type(inputs.dtype, "float32"))
        gamma, beta = self.gamma, self.beta
        if not (training and self.trainable):
            mean, variance = self.moving_mean, self.moving_variance
        elif mask is None and not self.renorm:
            outputs, mean, variance = ops.batch_normalization_train(x, self.axis, beta, gamma, self.epsilon)
            self._follow_batch(x, mean, variance)
            return ops.cast(outputs, self.compute_dtype)
        else:
            mean, variance = self._moments(x, mask)
            if self.renorm:
                gamma, beta = self._renormalize(mean, variance)
            else:
                self._follow_batch(x, mean, variance)
        outputs = ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)

    def _follow_batch(self, x, mean, variance):
        # A batch of no samples has no mean to follow.
        column = x[(slice(None), *(0,) * (len(x.shape) - 1))]
        samples = ops.sum(ops.ones_like(column, dtype="float32"))
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            _follow(moving, ops.where(samples > 0, value, moving), self.momentum)

    def _moments(self, x, mask):
        axis = axis_in_range(self.axis, x.shape, self)
        axes = tuple(a for a in range(len(x.shape)) if a != axis)
        if mask is None:
            return ops.moments(x, axes=axes)
        if len(mask.shape) != len(x.shape) - 1:
            raise ShapeError(
                "The mask provided should be one dimension less than the inputs.",
                layer=self,
                argument="mask",
                got=tuple(mask.shape),
                expected=f"the input's shape without its last axis, {tuple(x.shape)[:-1]}",
            )
        keep = ops.expand_dims(ops.cast(mask, "bool"), -1)
        # Broadcast, as the kept positions are counted per channel.
        keep = ops.logical_and(keep, ops.ones_like(x, dtype="bool"))
        count = ops.sum(ops.cast(keep, x.dtype), axes, keepdims=True) + backend.epsilon()
        mean = ops.sum(ops.where(keep, x, 0), axes, keepdims=True) / count
        variance = ops.sum(ops.square(ops.where(keep, x - mean, 0)), axes, keepdims=True) / count
        return ops.squeeze(mean, axes), ops.squeeze(variance, axes)

    def _renormalize(self, mean, variance):
        """The gamma and beta that turn batch statistics into the running ones, which then move on."""
        stddev = ops.sqrt(variance + self.epsilon)
        running = ops.maximum(self.renorm_stddev, self.epsilon**0.5)
        r, d = stddev / running, (mean - self.renorm_mean) / running
        limits = self.renorm_clipping
        if "rmin" in limits:
            r = ops.maximum(r, limits["rmin"])
        if "rmax" in limits:
            r = ops.minimum(r, limits["rmax"])
        if "dmax" in limits:
            d = ops.clip(d, -limits["dmax"], limits["dmax"])
        gamma, beta = ops.stop_gradient(r), ops.stop_gradient(d)
        if self.gamma is not None:
            gamma, beta = gamma * self.gamma, beta * self.gamma
        if self.beta is not None:
            beta = beta + self.beta
        _follow(self.renorm_mean, mean, self.renorm_momentum)
        _follow(self.renorm_stddev, stddev, self.renorm_momentum)
        _follow(self.moving_mean, mean, self.momentum)
        moving_stddev = _follow(self.moving_stddev, stddev, self.momentum)
        self.moving_variance.assign(ops.relu(ops.square(moving_stddev) - self.epsilon))
        return gamma, beta


def _follow(moving, value, momentum):
    moved = moving * momentum + value * (1.0 - momentum)
    moving.assign(moved)
    return moved


def _clipping(limits):
    limits = {key: value for key, value in (limits or {}).items() if value is not None}
    if unknown := set(limits) - {"rmax", "rmin", "dmax"}:
        raise ValueError(
            f"Received invalid keys for `renorm_clipping` argument: {unknown}. "
            "Supported values: ['rmax', 'rmin', 'dmax']."
        )
    if limits.get("rmax", float("inf")) < limits.get("rmin", 0.0):
        raise ValueError(
            "rmax should be greater than rmin in the `renorm_clipping` argument. "
            f"Received: rmax={limits.get('rmax')}, rmin={limits.get('rmin')}."
        )
    if limits.get("dmax", 0.0) < 0:
        raise ValueError(
            f"dmax should be non-negative in the `renorm_clipping` argument. Received: dmax={limits['dmax']}."
        )
    return limits
