"""Convolutions and pooling over (batch, steps, channels) and (batch, height, width, channels), or with
channels first.

The engine computes on (batch, height, width, channels); sequences are images of height 1, and channels-first
data is transposed on the way in and out.
"""

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.errors import ShapeError
from lamina.ops._base import exports, known, slice_axis, tensor


class _Frame:
    """How the data of one call becomes (batch, height, width, channels) and its result becomes the caller's
    layout again.
    """

    def __init__(self, name, x, data_format):
        self.name, self.rank = name, len(x.shape)
        self.first = backend.standardize_data_format(data_format) == "channels_first"
        if self.rank not in (3, 4):
            raise ShapeError(
                f"`{name}` expected ndim=3 or ndim=4, found ndim={self.rank}",
                op=name,
                argument="inputs",
                got=tuple(x.shape),
                expected="(batch, steps, channels) or (batch, height, width, channels)",
            )

    def enter(self, x):
        if self.first:
            x = _core.transpose(x, [0, *range(2, self.rank), 1])
        return _core.expand_dims(x, [1]) if self.rank == 3 else x

    def leave(self, y):
        if self.rank == 3:
            y = _core.squeeze(y, [1])
        return _core.transpose(y, [0, self.rank - 1, *range(1, self.rank - 1)]) if self.first else y

    def kernel(self, kernel):
        kernel = tensor(kernel)
        if len(kernel.shape) != self.rank:
            raise ShapeError(
                f"`{self.name}` expected a kernel with ndim={self.rank}, found ndim={len(kernel.shape)}",
                op=self.name,
                argument="kernel",
                got=tuple(kernel.shape),
                expected="(window, in, out)" if self.rank == 3 else "(height, width, in, out)",
            )
        return _core.expand_dims(kernel, [0]) if self.rank == 3 else kernel

    def pair(self, value, argument, neutral=1):
        """An int or a sequence with one number a spatial axis -> (height, width)."""
        spatial = self.rank - 2
        if value is None or isinstance(value, int):
            values = (value,) * spatial
        else:
            values = tuple(value)
            values = values * spatial if len(values) == 1 else values
        if len(values) != spatial:
            raise ValueError(
                f"`{argument}` of `{self.name}` needs {spatial} values, one a spatial axis. "
                f"Received: {value}."
            )
        return (neutral, *values) if spatial == 1 else values


def _padding(name, padding):
    mode = str(padding).lower()
    if mode not in ("valid", "same"):
        raise ValueError(f"Invalid padding '{padding}', must be 'same' or 'valid'. (`{name}`)")
    return mode


def _groups(name, x, kernel):
    """How many groups of channels a kernel that sees `kernel.shape[-2]` of them makes."""
    channels, seen = known(x, -1, name), known(kernel, -2, name)
    if seen == 0 or channels % seen:
        raise ShapeError(
            "The number of input channels must be evenly divisible by kernel's in_channels",
            op=name,
            argument="kernel",
            got={"inputs": tuple(x.shape), "kernel": tuple(kernel.shape)},
            expected=f"a multiple of {seen} channels, got {channels}",
        )
    return channels // seen


@op
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """N-D convolution (1-D or 2-D; cross-correlation, as everywhere in deep learning).

    inputs: (batch, *spatial, channels), or channels first; kernel: (*window, channels / groups, filters),
        where the number of groups follows from the shapes. `padding`: "valid" or "same".
    """
    x = tensor(inputs)
    frame = _Frame("conv", x, data_format)
    x, kernel = frame.enter(x), frame.kernel(kernel)
    strides, dilation = frame.pair(strides, "strides"), frame.pair(dilation_rate, "dilation_rate")
    y = _core.conv2d(x, kernel, strides, _padding("conv", padding), dilation, _groups("conv", x, kernel))
    return frame.leave(y)


@op
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution of each channel with kernels of its own. kernel: (*window, channels, multiplier); the
    result has channels * multiplier channels.
    """
    x = tensor(inputs)
    frame = _Frame("depthwise_conv", x, data_format)
    x, kernel = frame.enter(x), frame.kernel(kernel)
    strides, dilation = frame.pair(strides, "strides"), frame.pair(dilation_rate, "dilation_rate")
    return frame.leave(
        _core.depthwise_conv2d(x, kernel, strides, _padding("depthwise_conv", padding), dilation)
    )


@op
def separable_conv(
    inputs, depthwise_kernel, pointwise_kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """`depthwise_conv`, then a convolution with window 1 that mixes the channels."""
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(y, pointwise_kernel, 1, "valid", data_format)


@op
def conv_transpose(
    inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1
):
    """The gradient of `conv` as a layer of its own (deconvolution). kernel: (*window, filters, channels).

    Output size: in * stride + max(window - stride, 0) for "valid", in * stride for "same", or as
    `output_padding` says.
    """
    x = tensor(inputs)
    frame = _Frame("conv_transpose", x, data_format)
    x, kernel = frame.enter(x), frame.kernel(kernel)
    strides, dilation = frame.pair(strides, "strides"), frame.pair(dilation_rate, "dilation_rate")
    extra = frame.pair(output_padding, "output_padding", neutral=None)
    for axis in (0, 1):
        known(kernel, axis, "conv_transpose")  # the output's size depends on the window
    return frame.leave(
        _core.conv2d_transpose(x, kernel, strides, _padding("conv_transpose", padding), extra, dilation)
    )


def _pool(kind, name, inputs, pool_size, strides, padding, data_format):
    x = tensor(inputs)
    frame = _Frame(name, x, data_format)
    window = frame.pair(pool_size, "pool_size")
    strides = window if strides is None else frame.pair(strides, "strides")
    return frame.leave(_core.pool2d(kind, frame.enter(x), window, strides, _padding(name, padding)))


@op
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The largest value of each window. `strides`: `pool_size` unless given."""
    return _pool("max", "max_pool", inputs, pool_size, strides, padding, data_format)


@op
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The mean of each window, over what lies inside the input. `strides`: `pool_size` unless given."""
    return _pool("avg", "average_pool", inputs, pool_size, strides, padding, data_format)


def _adaptive(kind, name, inputs, output_size, data_format):
    """Output i of n reduces the inputs from floor(i * size / n) to ceil((i + 1) * size / n)."""
    x = tensor(inputs)
    first = backend.standardize_data_format(data_format) == "channels_first"
    spatial = range(2, len(x.shape)) if first else range(1, len(x.shape) - 1)
    targets = [output_size] * len(spatial) if isinstance(output_size, int) else list(output_size)
    if len(targets) != len(spatial):
        raise ValueError(
            f"`output_size` of `{name}` needs {len(spatial)} values, one a spatial axis. "
            f"Received: {output_size}."
        )
    for axis, n in zip(spatial, targets, strict=True):
        size = known(x, axis, name)
        parts = [slice_axis(x, axis, i * size // n, -((-(i + 1) * size) // n)) for i in range(n)]
        x = _core.concat([_core.reduce(kind, part, [axis], True) for part in parts], axis)
    return x


@op
def adaptive_average_pool(inputs, output_size, data_format=None):
    """Mean pooling to a given output size, whatever the input size."""
    return _adaptive("mean", "adaptive_average_pool", inputs, output_size, data_format)


@op
def adaptive_max_pool(inputs, output_size, data_format=None):
    """Max pooling to a given output size, whatever the input size."""
    return _adaptive("max", "adaptive_max_pool", inputs, output_size, data_format)


__all__ = exports(globals())
