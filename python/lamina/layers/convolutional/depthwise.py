"""Convolutions that treat each channel by itself, alone or followed by a 1x1 mix of channels."""

from lamina import ops
from lamina.layers.arguments import positive_int
from lamina.layers.convolutional.base import Convolution


class DepthwiseConv(Convolution):
    """Each channel convolved with its own `depth_multiplier` windows; see DepthwiseConv1D and 2D."""

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.depth_multiplier = positive_int(depth_multiplier, "depth_multiplier")
        self._set_geometry(kernel_size, strides, padding, data_format, dilation_rate)
        self._weight_options("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._set_output(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape):
        channels = self._take_input_shape(input_shape)
        self._check_output_size(input_shape)
        self.kernel = self._add_weight(
            "kernel", (*self.kernel_size, channels, self.depth_multiplier), options="depthwise"
        )
        self.bias = self._add_weight("bias", (channels * self.depth_multiplier,)) if self.use_bias else None

    def call(self, inputs):
        self._check_output_size(inputs.shape)
        outputs = ops.depthwise_conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)


class DepthwiseConv1D(DepthwiseConv):
    """Convolution along time, each channel by itself.

    Input: (batch, time, channels). Output: (batch, new_time, channels * depth_multiplier), sizes as in
    Conv1D; channels stand at axis 1 with `data_format="channels_first"`. Weights: kernel (kernel_size,
    channels, depth_multiplier), bias (channels * depth_multiplier,).
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConv):
    """Convolution over images, each channel by itself.

    Input: (batch, height, width, channels). Output: (batch, new_height, new_width, channels *
    depth_multiplier), sizes as in Conv2D; channels stand at axis 1 with `data_format="channels_first"`.
    Weights: kernel (height, width, channels, depth_multiplier), bias (channels * depth_multiplier,).

    >>> layers.DepthwiseConv2D(3, depth_multiplier=2)(Input((10, 10, 12))).shape
    (None, 8, 8, 24)
    """

    rank = 2


class SeparableConv(Convolution):
    """A depthwise convolution, then a 1x1 convolution; see SeparableConv1D and SeparableConv2D."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_int(filters, "filters")
        self.depth_multiplier = positive_int(depth_multiplier, "depth_multiplier")
        self._set_geometry(kernel_size, strides, padding, data_format, dilation_rate)
        self._weight_options("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._weight_options("pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint)
        self._set_output(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape):
        channels = self._take_input_shape(input_shape)
        self._check_output_size(input_shape)
        self.depthwise_kernel = self._add_weight(
            "depthwise_kernel",
            (*self.kernel_size, channels, self.depth_multiplier),
            options="depthwise",
        )
        self.pointwise_kernel = self._add_weight(
            "pointwise_kernel",
            (*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
            options="pointwise",
        )
        self.bias = self._add_weight("bias", (self.filters,)) if self.use_bias else None

    def call(self, inputs):
        self._check_output_size(inputs.shape)
        outputs = ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)


class SeparableConv1D(SeparableConv):
    """DepthwiseConv1D, then a mix of its channels into `filters`.

    Input: (batch, time, channels). Output: (batch, new_time, filters), sizes as in Conv1D.
    Weights: depthwise_kernel (kernel_size, channels, depth_multiplier),
    pointwise_kernel (1, channels * depth_multiplier, filters), bias (filters,).
    """

    rank = 1


class SeparableConv2D(SeparableConv):
    """DepthwiseConv2D, then a mix of its channels into `filters`.

    Input: (batch, height, width, channels). Output: (batch, new_height, new_width, filters), sizes as in
    Conv2D.
    Weights: depthwise_kernel (height, width, channels, depth_multiplier), pointwise_kernel (1, 1, channels *
    depth_multiplier, filters), bias (filters,).
    Source: Chollet, 2016, https://arxiv.org/abs/1610.02357.
    """

    rank = 2
