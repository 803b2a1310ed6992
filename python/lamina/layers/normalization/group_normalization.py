"""Group normalization."""

from lamina import backend, ops
from lamina.errors import ShapeError
from lamina.layers.arguments import axis_in_range, known_axis
from lamina.layers.input_spec import InputSpec
from lamina.layers.parametric import ParametricLayer


class GroupNormalization(ParametricLayer):
    """Normalize each of `groups` groups of channels of each sample, then scale by gamma and shift by beta.

    `groups=-1` makes each channel a group (instance normalization); `groups=1` is layer normalization over
    all axes. Weights: gamma (`scale`) and beta (`center`), each (channels,). Input: (batch, ..., channels),
    with the channels at `axis`. Output: same shape.
    Raises: ShapeError when the channels do not divide into the groups.
    Source: Wu and He, 2018, https://arxiv.org/abs/1803.08494.
    """

    def __init__(
        self,
        groups=32,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        if not isinstance(groups, int) or (groups <= 0 and groups != -1):
            raise ValueError(
                "Received an invalid value for argument `groups`, expected a positive integer "
                f"(or `-1` for instance normalization). Received: groups={groups}"
            )
        super().__init__(**kwargs)
        self.groups = groups
        self.axis = axis
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self._weight_options("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._weight_options("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape):
        channels = known_axis(input_shape, self.axis, self, "channels")
        self.groups = channels if self.groups == -1 else self.groups
        if channels % self.groups:
            problem = "cannot be more than" if channels < self.groups else "must be a divisor of"
            raise ShapeError(
                f"Number of groups ({self.groups}) {problem} the number of channels ({channels}).",
                layer=self,
                argument="inputs",
                got=tuple(input_shape),
                expected=f"a multiple of {self.groups} channels along axis {self.axis}",
            )
        self.gamma = self._add_weight("gamma", (channels,), autocast=False) if self.scale else None
        self.beta = self._add_weight("beta", (channels,), autocast=False) if self.center else None
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs):
        axis = axis_in_range(self.axis, inputs.shape, self)
        # Half-precision sums over a group overflow.
        x = ops.cast(inputs, backend.result_type(inputs.dtype, "float32"))
        x = ops.moveaxis(x, axis, -1)
        shape = tuple(x.shape)
        groups = ops.reshape(x, (*shape[:-1], self.groups, shape[-1] // self.groups))
        axes = (*range(1, len(shape) - 1), len(shape))
        mean, variance = ops.moments(groups, axes=axes, keepdims=True)
        x = ops.reshape((groups - mean) * ops.rsqrt(variance + self.epsilon), shape)
        if self.gamma is not None:
            x = x * self.gamma
        if self.beta is not None:
            x = x + self.beta
        return ops.cast(ops.moveaxis(x, -1, axis), self.compute_dtype)
