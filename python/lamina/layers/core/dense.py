"""The densely connected layer."""

from lamina import activations, ops
from lamina.layers.arguments import known_axis, positive_int, refuse_quantization
from lamina.layers.input_spec import InputSpec
from lamina.layers.parametric import LowRankAdaptation, ParametricLayer


class Dense(LowRankAdaptation, ParametricLayer):
    """`activation(inputs @ kernel + bias)`, on the last axis of the inputs.

    `units` is how many values come out per row. The weights follow from it and from the input shape: `kernel`
    (features, units) and `bias` (units,). An input with more than two axes is not flattened: the same weights
    act on each row along the last axis.

    Input: (batch, ..., features), float. Output: (batch, ..., units), same dtype.
    Raises: ShapeError when the input has fewer than two axes or its last axis is unknown.

    >>> layers.Dense(15)(Input((5, 3))).shape
    (None, 5, 15)
    """

    # Keras writes it only where there is one, and `Layer` does so.
    _config_exclude = ("activity_regularizer",)

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive_int(units, "units")
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)
        self._lora_options("kernel", lora_rank, lora_alpha)
        refuse_quantization(quantization_config)
        self.quantization_config = None
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape):
        features = known_axis(input_shape, -1, self, "features")
        self._kernel = self._add_weight("kernel", (features, self.units))
        self.bias = self._add_weight("bias", (self.units,)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})
        self.built = True
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    @property
    def kernel(self):
        """The weight matrix (features, units), with the low-rank correction where `enable_lora` added one."""
        return self._adapted_weight()

    def call(self, inputs, training=None):
        outputs = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)
