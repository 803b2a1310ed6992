"""What every convolution layer shares: its geometry, its channel axis, its bias and activation."""

from lamina import activations, backend, ops
from lamina.errors import ShapeError, axis_names
from lamina.layers.arguments import int_tuple, known_axis, padding_mode
from lamina.layers.input_spec import InputSpec
from lamina.layers.parametric import ParametricLayer

SPATIAL_AXES = {1: ("time",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def check_window(layer, shape, window, strides, dilation=None):
    """`ShapeError` unless a window fits into an input without padding: the output would be
    `floor((size - dilation * (window - 1) - 1) / stride) + 1` values long.
    """
    names = axis_names(len(shape), layer.data_format)
    first = 1 if layer.data_format == "channels_last" else 2
    for axis, width, stride, spread in zip(
        range(first, len(shape)), window, strides, dilation or (1,) * len(window), strict=False
    ):
        size, reach = shape[axis], spread * (width - 1) + 1
        if size is None or size >= reach:
            continue
        covered = f"{size} - {width}" if spread == 1 else f"{size} - {spread} * ({width} - 1) - 1"
        setting = "kernel_size" if hasattr(layer, "kernel_size") else "pool_size"
        raise ShapeError(
            "Computed output size would be zero or negative.",
            layer=layer,
            argument="inputs",
            got=tuple(shape),
            axes=names,
            expected=f"{names[axis]} >= {reach}",
            cause=f"output {names[axis]} = floor(({covered}) / {stride}) + 1 = "
            f"{(size - reach) // stride + 1}: the window covers {reach} and the input has {size}",
            trail=True,
            fix=f'use padding="same", a smaller {setting}, or less pooling before this layer',
        )


class Convolution(ParametricLayer):
    """A layer that slides a window over `rank` spatial axes. Subclasses give the kernels and the op."""

    rank: int

    def _set_geometry(self, kernel_size, strides, padding, data_format, dilation_rate, allow_causal=False):
        self.kernel_size = int_tuple(kernel_size, self.rank, "kernel_size")
        self.strides = int_tuple(strides, self.rank, "strides")
        self.padding = padding_mode(padding, allow_causal)
        self.data_format = backend.standardize_data_format(data_format)
        self.dilation_rate = int_tuple(dilation_rate, self.rank, "dilation_rate")
        self.input_spec = InputSpec(min_ndim=self.rank + 2)

    def _set_output(self, activation, use_bias, bias_initializer, bias_regularizer, bias_constraint):
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def _refuse_strided_dilation(self):
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides > 1` not supported in conjunction with `dilation_rate > 1`. "
                f"Received: strides={self.strides} and dilation_rate={self.dilation_rate}"
            )

    @property
    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def _take_input_shape(self, input_shape):
        """Check the input shape, remember its channels, and return how many there are."""
        ndim = self.rank + 2
        if len(input_shape) != ndim:
            raise ShapeError(
                f"expected ndim={ndim}, found ndim={len(input_shape)}.",
                layer=self,
                argument="inputs",
                got=tuple(input_shape),
                expected=f"{ndim} axes: ({', '.join(axis_names(ndim, self.data_format))})",
            )
        channels = known_axis(input_shape, self._channel_axis, self, "channels")
        self.input_spec = InputSpec(min_ndim=ndim, axes={self._channel_axis: channels})
        return channels

    def _check_output_size(self, input_shape):
        if self.padding == "valid":
            check_window(self, input_shape, self.kernel_size, self.strides, self.dilation_rate)

    def _finish(self, outputs):
        """Add the bias along the channel axis, then the activation."""
        if self.bias is not None:
            bias = self.bias
            if self.data_format == "channels_first":
                bias = ops.reshape(bias, (1, -1) + (1,) * self.rank)
            outputs = ops.add(outputs, bias)
        return self.activation(outputs)
