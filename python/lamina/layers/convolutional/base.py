"""What every convolution layer shares: its geometry, its channel axis, its bias and activation."""

from lamina import activations, backend, ops
from lamina.errors import ShapeError
from lamina.layers.arguments import int_tuple, known_axis, padding_mode
from lamina.layers.input_spec import InputSpec
from lamina.layers.parametric import ParametricLayer

SPATIAL_AXES = {1: ("time",), 2: ("height", "width")}


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

    def _check_input(self, arguments):
        try:
            super()._check_input(arguments)
        except ShapeError as error:
            self._explain_layout(error, tuple(next(iter(arguments.values())).shape))
            raise

    def _explain_layout(self, error, shape):
        """Say so where the channel axis is missing, or stands where the other layout has it."""
        first, ndim = self.data_format == "channels_first", self.rank + 2
        if len(shape) == ndim:
            error.axes = self._axes()
        if len(shape) == ndim - 1:
            sizes, index = ((1, *shape[1:]), "[:, None]") if first else ((*shape[1:], 1), "[..., None]")
            error.cause = "the channel axis is missing"
            error.fix = f"`Input({sizes})` and `x{index}` for one channel; `x[None]` if this is one sample"
        elif len(shape) == ndim and self.built:
            channels, other = self.input_spec.axes[self._channel_axis], 1 if not first else ndim - 1
            if shape[other] == channels:
                layout, source, target = ("channels_last", -1, 1) if first else ("channels_first", 1, -1)
                error.cause = f"axis {other} holds the {channels} channels"
                error.fix = f'`np.moveaxis(x, {source}, {target})`, or `data_format="{layout}"` in this layer'

    def _take_input_shape(self, input_shape):
        """Check the input shape, remember its channels, and return how many there are."""
        ndim = self.rank + 2
        if len(input_shape) != ndim:
            raise ShapeError(
                f"expected ndim={ndim}, found ndim={len(input_shape)}.",
                layer=self,
                argument="inputs",
                got=tuple(input_shape),
                expected=f"{ndim} axes: ({', '.join(self._axes())})",
            )
        channels = known_axis(input_shape, self._channel_axis, self, "channels")
        self.input_spec = InputSpec(min_ndim=ndim, axes={self._channel_axis: channels})
        return channels

    def _check_output_size(self, input_shape):
        """With `valid` padding, `(size - dilation * (kernel - 1) - 1) // stride + 1` must be positive."""
        if self.padding != "valid":
            return
        first = 1 if self.data_format == "channels_last" else 2
        for i, name in enumerate(SPATIAL_AXES[self.rank]):
            size, kernel = input_shape[first + i], self.kernel_size[i]
            stride, dilation = self.strides[i], self.dilation_rate[i]
            reach = dilation * (kernel - 1) + 1
            if size is not None and size < reach:
                output = (size - reach) // stride + 1
                raise ShapeError(
                    "Computed output size would be zero or negative.",
                    layer=self,
                    argument="inputs",
                    got=tuple(input_shape),
                    axes=self._axes(),
                    expected=f"{name} >= {reach}",
                    cause=(
                        f"output {name} = floor(({size} - {dilation} * ({kernel} - 1) - 1) / {stride}) + 1 "
                        f"= {output}: the window covers {reach} and the input has {size}"
                    ),
                    fix='use padding="same", a smaller kernel_size, or less pooling before this layer',
                )

    def _axes(self):
        spatial = SPATIAL_AXES[self.rank]
        last = self.data_format == "channels_last"
        return ("batch", *spatial, "channels") if last else ("batch", "channels", *spatial)

    def _finish(self, outputs):
        """Add the bias along the channel axis, then the activation."""
        if self.bias is not None:
            bias = self.bias
            if self.data_format == "channels_first":
                bias = ops.reshape(bias, (1, -1) + (1,) * self.rank)
            outputs = ops.add(outputs, bias)
        return self.activation(outputs)
