"""Convolution layers: each filter sees all channels of its group."""

from lamina import ops
from lamina.errors import ShapeError
from lamina.layers.arguments import positive_int
from lamina.layers.convolutional.base import Convolution
from lamina.layers.parametric import LowRankAdaptation


class Conv(LowRankAdaptation, Convolution):
    """`activation(conv(inputs, kernel) + bias)` over `rank` spatial axes; see Conv1D and Conv2D."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
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
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_int(filters, "filters")
        self._set_geometry(
            kernel_size, strides, padding, data_format, dilation_rate, allow_causal=self.rank == 1
        )
        self._refuse_strided_dilation()
        self.groups = positive_int(groups, "groups")
        if self.filters % self.groups:
            raise ValueError(
                "The number of filters must be evenly divisible by the number of groups. "
                f"Received: groups={groups}, filters={filters}."
            )
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._set_output(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self._lora_options("kernel", lora_rank, lora_alpha)

    def build(self, input_shape):
        channels = self._take_input_shape(input_shape)
        if channels % self.groups:
            raise ShapeError(
                "The number of input channels must be evenly divisible by the number of groups. "
                f"Received groups={self.groups}, but the input has {channels} channels.",
                layer=self,
                argument="inputs",
                got=tuple(input_shape),
                expected=f"a multiple of {self.groups} channels",
            )
        self._check_output_size(input_shape)
        self._kernel = self._add_weight("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self.bias = self._add_weight("bias", (self.filters,)) if self.use_bias else None
        self.built = True
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    @property
    def kernel(self):
        """The filters (*kernel_size, channels / groups, filters), with any low-rank correction."""
        return self._adapted_weight()

    def call(self, inputs):
        self._check_output_size(inputs.shape)
        padding = self.padding
        if padding == "causal":
            reach = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            inputs = ops.pad(inputs, self._causal_margins(reach))
            padding = "valid"
        outputs = ops.conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def _causal_margins(self, reach):
        if self.data_format == "channels_last":
            return ((0, 0), (reach, 0), (0, 0))
        return ((0, 0), (0, 0), (reach, 0))


class Conv1D(Conv):
    """Convolution along time: `filters` windows of `kernel_size` steps.

    `padding="causal"` pads the past only, so that step t never sees a later one (WaveNet,
    https://arxiv.org/abs/1609.03499). Weights: kernel (kernel_size, channels / groups, filters), bias
    (filters,).

    Input: (batch, time, channels), or (batch, channels, time) with `data_format="channels_first"`.
    Output: (batch, new_time, filters) in the same layout, where valid padding gives `new_time = floor((time -
    dilation_rate * (kernel_size - 1) - 1) / strides) + 1` and the others `ceil(time / strides)`.
    Raises: ShapeError when the window does not fit or the channels do not divide into `groups`.

    >>> layers.Conv1D(32, 3, activation="relu")(Input((10, 128))).shape
    (None, 8, 32)
    """

    rank = 1


class Conv2D(Conv):
    """Convolution over images: `filters` windows of `kernel_size` (one int, or height and width).

    Weights: kernel (height, width, channels / groups, filters), bias (filters,).

    Input: (batch, height, width, channels), or (batch, channels, height, width) with
    `data_format="channels_first"`.
    Output: (batch, new_height, new_width, filters) in the same layout, where valid padding gives `floor((size
    - dilation_rate * (kernel_size - 1) - 1) / strides) + 1` and same padding `ceil(size / strides)`.
    Raises: ShapeError when the window does not fit or the channels do not divide into `groups`.

    >>> layers.Conv2D(8, 3)(Input((50, 50, 3))).shape
    (None, 48, 48, 8)
    """

    rank = 2
