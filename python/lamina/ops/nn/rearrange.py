"""Moves between the spatial axes and the channels of images."""

import numpy as np

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.ops._base import as_float, exports, known, slice_axis, tensor


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


@op
def space_to_depth(x, block_size, data_format="channels_last"):
    """Blocks of block_size x block_size pixels become channels: (n, h, w, c) -> (n, h/b, w/b, c*b*b)."""
    b, first = int(block_size), backend.standardize_data_format(data_format) == "channels_first"
    x = tensor(x)
    c, h, w = (known(x, a, "space_to_depth") for a in ((1, 2, 3) if first else (3, 1, 2)))
    if h % b or w % b:
        raise ValueError(f"`space_to_depth`: height {h} and width {w} must be multiples of block_size={b}.")
    if first:
        x = _core.reshape(x, (-1, c, h // b, b, w // b, b))
        return _core.reshape(_core.transpose(x, [0, 1, 3, 5, 2, 4]), (-1, c * b * b, h // b, w // b))
    x = _core.reshape(x, (-1, h // b, b, w // b, b, c))
    return _core.reshape(_core.transpose(x, [0, 1, 3, 2, 4, 5]), (-1, h // b, w // b, c * b * b))


@op
def depth_to_space(x, block_size, data_format="channels_last"):
    """Channels become blocks of block_size x block_size pixels: (n, h, w, c) -> (n, h*b, w*b, c/(b*b)). Pixel
    shuffle.
    """
    b, first = int(block_size), backend.standardize_data_format(data_format) == "channels_first"
    x = tensor(x)
    c, h, w = (known(x, a, "depth_to_space") for a in ((1, 2, 3) if first else (3, 1, 2)))
    if c % (b * b):
        raise ValueError(f"`depth_to_space`: {c} channels are not a multiple of block_size**2 = {b * b}.")
    c //= b * b
    if first:
        x = _core.reshape(x, (-1, c, b, b, h, w))
        return _core.reshape(_core.transpose(x, [0, 1, 4, 2, 5, 3]), (-1, c, h * b, w * b))
    x = _core.reshape(x, (-1, h, w, b, b, c))
    return _core.reshape(_core.transpose(x, [0, 1, 3, 2, 4, 5]), (-1, h * b, w * b, c))


@op
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """The sliding windows of (n, c, h, w) as columns: (n, c * window, places), channels first as in PyTorch
    (im2col).
    """
    x = tensor(x)
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = (_pair(v) for v in (kernel_size, dilation, padding, stride))
    if ph or pw:
        x = _core.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    c, h, w = (known(x, a, "unfold") for a in (1, 2, 3))
    rows, columns = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    taps = []
    for i in range(kh):
        band = slice_axis(x, 2, i * dh, i * dh + (rows - 1) * sh + 1, sh)
        for j in range(kw):
            tap = slice_axis(band, 3, j * dw, j * dw + (columns - 1) * sw + 1, sw)
            taps.append(_core.expand_dims(tap, [2]))
    return _core.reshape(_core.concat(taps, 2), (-1, c * kh * kw, rows * columns))


@op
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of `unfold` added up into an image: (n, c * window, places) -> (n, c, *output_size)
    (col2im).
    """
    x = as_float(x)
    (oh, ow), (kh, kw), (dh, dw) = (_pair(v) for v in (output_size, kernel_size, dilation))
    (ph, pw), (sh, sw) = _pair(padding), _pair(stride)
    rows, columns = (oh + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (ow + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    taps = known(x, 1, "fold")
    c = taps // (kh * kw)
    x = _core.transpose(_core.reshape(x, (-1, taps, rows, columns)), [0, 2, 3, 1])
    # Tap (channel, i, j) goes to place (i, j) of its channel's window: a transposed convolution with ones
    # there.
    kernel = np.eye(taps, dtype="float32").reshape(c, kh, kw, taps).transpose(1, 2, 0, 3)
    y = _core.conv2d_transpose(x, tensor(kernel, x.dtype), (sh, sw), "valid", (None, None), (dh, dw))
    for axis, size, before in ((1, oh, ph), (2, ow, pw)):
        missing = before + size - known(y, axis, "fold")
        if missing > 0:  # windows that do not reach the border leave zeros there
            y = _core.pad(y, [(0, missing) if a == axis else (0, 0) for a in range(4)])
        y = slice_axis(y, axis, before, before + size)
    return _core.transpose(y, [0, 3, 1, 2])


@op
def psnr(x1, x2, max_val):
    """Peak signal-to-noise ratio in decibels: 20 log10(max_val) - 10 log10(mean((x1 - x2)**2))."""
    x1, x2 = as_float(x1), as_float(x2)
    if tuple(x1.shape) != tuple(x2.shape):
        raise ValueError(
            f"Input shapes {tuple(x1.shape)} and {tuple(x2.shape)} must match for PSNR calculation."
        )
    error = _core.reduce("mean", _core.unary("square", x2 - x1))
    return 20.0 * _core.unary("log10", as_float(max_val)) - 10.0 * _core.unary("log10", error)


__all__ = exports(globals())
