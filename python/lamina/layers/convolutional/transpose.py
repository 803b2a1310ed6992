"""Transposed convolutions: the gradient of a convolution with respect to its input, used to upsample."""

from lamina import ops
from lamina.layers.arguments import int_tuple, positive_int
from lamina.layers.convolutional.base import Convolution


class ConvTranspose(Convolution):
    """Transposed convolution over `rank` spatial axes; see Conv1DTranspose and Conv2DTranspose."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        output_padding=None,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_int(filters, "filters")
        self._set_geometry(kernel_size, strides, padding, data_format, dilation_rate)
        self._refuse_strided_dilation()
        self.output_padding = output_padding
        if output_padding is not None:
            self.output_padding = int_tuple(output_padding, self.rank, "output_padding", allow_zero=True)
            if any(extra >= stride for extra, stride in zip(self.output_padding, self.strides, strict=True)):
                raise ValueError(
                    "`output_padding` must be strictly less than `strides` for all dimensions. "
                    f"Received: output_padding={self.output_padding}, strides={self.strides}"
                )
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._set_output(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape):
        channels = self._take_input_shape(input_shape)
        self.kernel = self._add_weight("kernel", (*self.kernel_size, self.filters, channels))
        self.bias = self._add_weight("bias", (self.filters,)) if self.use_bias else None

    def call(self, inputs):
        outputs = ops.conv_transpose(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)


class Conv1DTranspose(ConvTranspose):
    """Transposed convolution along time.

    Input: (batch, time, channels). Output: (batch, new_time, filters), with `new_time = time * strides` for
    same padding and `time * strides + max(kernel_size - strides, 0)` for valid padding, unless
    `output_padding` is given.
    Weights: kernel (kernel_size, filters, channels), bias (filters,).
    """

    rank = 1


class Conv2DTranspose(ConvTranspose):
    """Transposed convolution over images.

    Input: (batch, height, width, channels). Output: (batch, new_height, new_width, filters), with `new_size =
    size * strides` for same padding and `size * strides + max(kernel_size - strides, 0)` for valid padding,
    unless `output_padding` is given. Weights: kernel (height, width, filters, channels), bias (filters,).
    Source: Zeiler et al., 2010, "Deconvolutional Networks".

    >>> layers.Conv2DTranspose(32, 2, strides=2)(Input((8, 10, 128))).shape
    (None, 16, 20, 32)
    """

    rank = 2
