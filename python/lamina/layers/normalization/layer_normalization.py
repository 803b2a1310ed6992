"""Normalization of each sample by its own statistics."""

from lamina import ops
from lamina.layers.arguments import axis_in_range, known_axis
from lamina.layers.layer import Layer
from lamina.layers.parametric import ParametricLayer


def _axes(axis):
    if isinstance(axis, (list, tuple)):
        return list(axis)
    if isinstance(axis, int):
        return axis
    raise TypeError(
        f"Expected an int or a list/tuple of ints for the argument 'axis', but received: {axis!r}"
    )


def _parameter_shape(layer, input_shape):
    axes = layer.axis if isinstance(layer.axis, list) else [layer.axis]
    positions = sorted(axis_in_range(axis, input_shape, layer) for axis in axes)
    return tuple(known_axis(input_shape, axis, layer, "features") for axis in positions)


class LayerNormalization(ParametricLayer):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, over `axis` of each sample (an int or several).

    `rms_scaling=True` divides by the deviation only (no mean is subtracted, there is no beta); prefer
    RMSNormalization.
    Weights: gamma (`scale`) and beta (`center`), shaped like the normalized axes.
    Input: any shape, float. Output: same shape.
    Source: Ba et al., 2016, https://arxiv.org/abs/1607.06450.
    """

    def __init__(
        self,
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
        rms_scaling=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis = _axes(axis)
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.rms_scaling = rms_scaling
        self._weight_options("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._weight_options("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape):
        shape = _parameter_shape(self, input_shape)
        scale, center = self.scale or self.rms_scaling, self.center and not self.rms_scaling
        self.gamma = self._add_weight("gamma", shape, autocast=False) if scale else None
        self.beta = self._add_weight("beta", shape, autocast=False) if center else None

    def call(self, inputs):
        outputs = ops.layer_normalization(
            inputs,
            self.gamma,
            self.beta,
            self.axis,
            self.epsilon,
            rms_scaling=self.rms_scaling,
        )
        return ops.cast(outputs, self.compute_dtype)


class RMSNormalization(Layer):
    """`scale * x / sqrt(mean(x ** 2) + epsilon)`, over `axis` of each sample (an int or several).

    Input: any shape, float. Output: same shape. Weight: scale, shaped like the normalized axes.
    Source: Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467.
    """

    def __init__(self, axis=-1, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.axis = _axes(axis)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.scale = self.add_weight(
            name="scale", shape=_parameter_shape(self, input_shape), initializer="ones"
        )

    def call(self, inputs):
        return ops.rms_normalization(inputs, scale=self.scale, axis=self.axis, epsilon=self.epsilon)


class UnitNormalization(Layer):
    """`x / ||x||`: each sample gets an L2 norm of 1 over `axis` (an int or several).

    Input: any shape, float. Output: same shape.
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = _axes(axis)
        self.supports_masking = True

    def call(self, inputs):
        for axis in self.axis if isinstance(self.axis, list) else [self.axis]:
            axis_in_range(axis, inputs.shape, self)
        return ops.normalize(inputs, axis=self.axis, order=2, epsilon=1e-12)
