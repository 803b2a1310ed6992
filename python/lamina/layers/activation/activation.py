"""Activations as layers: the same shape and dtype go in and out."""

from lamina import activations, backend, ops
from lamina.errors import ShapeError
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer
from lamina.layers.parametric import ParametricLayer


class Activation(Layer):
    """Apply `activation`: a callable, a name from `lamina.activations`, or its config.

    >>> layers.Activation("relu")(np.array([-3.0, 2.0]))
    [0. 2.]
    """

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = activations.get(activation)

    def call(self, inputs):
        return self.activation(inputs)


class ReLU(Layer):
    """`x` from `threshold` up to `max_value`; `negative_slope * (x - threshold)` below."""

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        if max_value is not None and max_value < 0.0:
            raise ValueError(
                f"max_value of a ReLU layer cannot be a negative value. Received: max_value={max_value}"
            )
        self.max_value = max_value
        self.negative_slope = _not_negative(negative_slope, "negative_slope of a ReLU layer")
        self.threshold = _not_negative(threshold, "threshold of a ReLU layer")
        self.supports_masking = True

    def call(self, inputs):
        return activations.relu(
            inputs,
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )


class LeakyReLU(Layer):
    """`x` for x >= 0, `negative_slope * x` below. `alpha` is the legacy name of `negative_slope`."""

    def __init__(self, negative_slope=0.3, **kwargs):
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = _not_negative(negative_slope, "The negative_slope value of a Leaky ReLU layer")
        self.supports_masking = True

    def call(self, inputs):
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)


class PReLU(ParametricLayer):
    """`x` for x >= 0, `alpha * x` below, with a trained `alpha` per element.

    `shared_axes` are axes (batch is axis 0) along which one `alpha` serves all: [1, 2] on images gives one
    per channel.
    Source: He et al., 2015, https://arxiv.org/abs/1502.01852.
    """

    def __init__(
        self,
        alpha_initializer="zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self._weight_options("alpha", alpha_initializer, alpha_regularizer, alpha_constraint)
        self.shared_axes = (
            [shared_axes] if isinstance(shared_axes, int) else shared_axes and list(shared_axes)
        )

    def build(self, input_shape):
        shared = set(self.shared_axes or ())
        shape = [1 if axis in shared else size for axis, size in enumerate(input_shape)][1:]
        if None in shape:
            axis = shape.index(None) + 1
            raise ShapeError(
                f"Axis {axis} of the inputs should be defined. Found `None`.",
                layer=self,
                argument="inputs",
                got=tuple(input_shape),
                expected="known sizes along every axis that is not shared",
                cause="`alpha` has one value per element of the input",
                fix=f"share it along that axis: `PReLU(shared_axes={sorted(shared | {axis})})`",
            )
        self.alpha = self._add_weight("alpha", tuple(shape))
        axes = {a: n for a, n in enumerate(input_shape) if a and a not in shared} if shared else {}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs):
        return activations.relu(inputs) - self.alpha * activations.relu(-inputs)


class ELU(Layer):
    """`x` for x >= 0, `alpha * (exp(x) - 1)` below."""

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha
        self.supports_masking = True

    def call(self, inputs):
        return activations.elu(inputs, alpha=self.alpha)


class Softmax(Layer):
    """`exp(x) / sum(exp(x))` along `axis` (an int, or several ints that are normalized together).

    `mask` (in the call; broadcast to the inputs): False positions get probability 0.
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is not None:
            mask = _softmax_mask(mask, inputs, self)
            lowest = -3e4 if backend.standardize_dtype(inputs.dtype) == "float16" else -1e9
            inputs = ops.where(mask, inputs, lowest)
        axes = self.axis if isinstance(self.axis, (tuple, list)) else (self.axis,)
        if len(axes) > 1:
            outputs = ops.exp(inputs - ops.logsumexp(inputs, axis=tuple(axes), keepdims=True))
        else:
            outputs = activations.softmax(inputs, axis=axes[0])
        # A slice that is masked whole would come out uniform: it has no probability at all.
        return outputs if mask is None else ops.where(mask, outputs, 0.0)


def _softmax_mask(mask, inputs, layer):
    pairs = zip(reversed(mask.shape), reversed(inputs.shape), strict=False)
    fits = all(m in (None, 1) or n is None or m == n for m, n in pairs)
    if len(mask.shape) > len(inputs.shape) or not fits:
        raise ShapeError(
            "The `mask` must be broadcastable to `inputs` and must not have more dimensions.",
            layer=layer,
            argument="mask",
            got=tuple(mask.shape),
            expected=f"axes of size 1 or those of the inputs, {tuple(inputs.shape)}",
        )
    return mask if backend.standardize_dtype(mask.dtype) == "bool" else ops.greater(mask, 0.5)


def _not_negative(value, what):
    if value is None or value < 0:
        raise ValueError(f"{what} cannot be None or negative value. Expected a float. Received: {value}")
    return value
