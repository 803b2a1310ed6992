"""Images: (batch, height, width, channels) or one without its batch, or with channels first."""

import numpy as np

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.errors import ShapeError
from lamina.ops._base import as_float, exports, known, slice_axis, tensor
from lamina.ops.core import saturate_cast
from lamina.ops.nn.window import conv
from lamina.ops.numpy.contraction import tensordot
from lamina.ops.numpy.manipulation import moveaxis

INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")


def _axes(images, data_format, name):
    """The axes of height, width and channels."""
    ndim = len(images.shape)
    if ndim not in (3, 4):
        raise ShapeError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images)",
            op=name,
            argument="images",
            got=tuple(images.shape),
            expected="(height, width, channels) or (batch, height, width, channels)",
        )
    first = backend.standardize_data_format(data_format) == "channels_first"
    return (ndim - 2, ndim - 1, ndim - 3) if first else (ndim - 3, ndim - 2, ndim - 1)


# --- resizing: every output row is a weighted mean of input rows, and so is every column


def _keys(x):
    """Keys' cubic with a = -0.5."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x >= 2.0, 0.0, np.where(x >= 1.0, far, near))


def _lanczos(radius):
    return lambda x: np.where(x > radius, 0.0, np.sinc(x) * np.sinc(x / radius))


_KERNELS = {
    "bilinear": lambda x: np.maximum(0.0, 1.0 - x),
    "bicubic": _keys,
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
}


def _weights(size, target, interpolation, antialias):
    """The (size, target) matrix that resizes one axis; pixels are squares, their values stand at their
    centres.
    """
    scale = size / target
    places = (np.arange(target) + 0.5) * scale - 0.5
    spread = max(scale, 1.0) if antialias else 1.0
    weights = _KERNELS[interpolation](np.abs(places[None, :] - np.arange(size)[:, None]) / spread)
    total = weights.sum(0, keepdims=True)
    usable = np.abs(total) > 1e-6
    weights = np.where(usable, weights / np.where(usable, total, 1.0), 0.0)
    return np.where((places >= -0.5) & (places <= size - 0.5), weights, 0.0)


def _resized(x, axis, target, interpolation, antialias):
    size = known(x, axis, "resize")
    if size == target:
        return x
    if interpolation == "nearest":
        places = np.floor((np.arange(target) + 0.5) * size / target).astype("int32")
        return _core.gather(x, places, axis)
    weights = tensor(_weights(size, target, interpolation, antialias), x.dtype)
    return moveaxis(tensordot(x, weights, ([axis], [0])), -1, axis)


@op
def resize(
    images,
    size,
    interpolation="bilinear",
    antialias=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    fill_mode="constant",
    fill_value=0.0,
    data_format=None,
):
    """Images in another `size` (height, width). Integers stay integers: they are rounded and saturated.

    Args:
        images: 3-D or 4-D.
        size: two ints.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        antialias: widen the kernel when shrinking, so that no pixel is skipped.
        crop_to_aspect_ratio: cut the centre out first, so that nothing is distorted.
        pad_to_aspect_ratio: or add borders of `fill_value` first.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            "Invalid value for argument `interpolation`. "
            f"Expected one of {INTERPOLATIONS}. Received: interpolation={interpolation}"
        )
    if fill_mode != "constant":
        raise ValueError(
            "Invalid value for argument `fill_mode`. Only `'constant'` is supported. "
            f"Received: fill_mode={fill_mode}"
        )
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ValueError("Only one of `pad_to_aspect_ratio` & `crop_to_aspect_ratio` can be `True`.")
    if len(size) != 2:
        raise ValueError(
            f"Argument `size` must be a tuple of two elements (height, width). Received: size={size}"
        )
    x = tensor(images)
    dtype, (rows, columns, _) = x.dtype, _axes(x, data_format, "resize")
    target = tuple(int(n) for n in size)
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        height, width = known(x, rows, "resize"), known(x, columns, "resize")
        fitting = int(width * target[0] / target[1]), int(height * target[1] / target[0])
        for axis, own, other in ((rows, height, fitting[0]), (columns, width, fitting[1])):
            if crop_to_aspect_ratio:
                keep = max(min(own, other), 1)
                start = int((own - keep) / 2)
                x = slice_axis(x, axis, start, start + keep)
            else:
                border = max(0, int((max(own, other) - own) / 2))
                widths = [(border, border) if a == axis else (0, 0) for a in range(len(x.shape))]
                x = _core.pad(x, widths, "constant", float(fill_value))
    if interpolation != "nearest":
        x = as_float(x)
    for axis, n in zip((rows, columns), target, strict=True):
        x = _resized(x, axis, n, interpolation, antialias)
    return x if x.dtype == dtype else saturate_cast(_core.unary("round", x), dtype)


@op
def rgb_to_grayscale(images, data_format=None):
    """0.2989 red + 0.587 green + 0.114 blue, as one channel."""
    x = tensor(images)
    *_, channels = _axes(x, data_format, "rgb_to_grayscale")
    if known(x, channels, "rgb_to_grayscale") != 3:
        raise ShapeError(
            "Invalid channel size: expected 3 (RGB)",
            op="rgb_to_grayscale",
            argument="images",
            got=tuple(x.shape),
            expected=f"3 channels along axis {channels}",
        )
    weights = tensor(np.array([0.2989, 0.5870, 0.1140], "float32"), as_float(x).dtype)
    weights = _core.reshape(weights, [3 if a == channels else 1 for a in range(len(x.shape))])
    return _core.cast(_core.reduce("sum", as_float(x) * weights, [channels], True), x.dtype)


def _margins(name, parts, size):
    """(before, after) of one axis from two of before, after and target; `size` is target + before + after
    when cropping, and target is size + before + after when padding.
    """
    (before_name, before), (after_name, after), (target_name, target) = parts
    if sum(v is None for v in (before, after, target)) != 1:
        given = ", ".join(f"{n}={v}" for n, v in parts)
        raise ValueError(
            f"`{name}`: two of {before_name}, {after_name} and {target_name} must be given. "
            f"Received: {given}."
        )
    if target is not None:
        total = target - size if name == "pad_images" else size - target
        before = total - after if before is None else before
        after = total - before if after is None else after
    for n, v in ((before_name, before), (after_name, after)):
        if v < 0:
            raise ValueError(f"{n} must be >= 0. Received: {n}={v}")
    return before, after


@op
def pad_images(
    images,
    top_padding=None,
    left_padding=None,
    bottom_padding=None,
    right_padding=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Images with borders of zeros. Two of top, bottom and target height are given, and of left, right and
    target width.
    """
    x = tensor(images)
    rows, columns, _ = _axes(x, data_format, "pad_images")
    widths = [(0, 0)] * len(x.shape)
    vertical = (
        ("top_padding", top_padding),
        ("bottom_padding", bottom_padding),
        ("target_height", target_height),
    )
    horizontal = (
        ("left_padding", left_padding),
        ("right_padding", right_padding),
        ("target_width", target_width),
    )
    for axis, parts in ((rows, vertical), (columns, horizontal)):
        widths[axis] = _margins("pad_images", parts, known(x, axis, "pad_images"))
    return _core.pad(x, widths)


@op
def crop_images(
    images,
    top_cropping=None,
    left_cropping=None,
    bottom_cropping=None,
    right_cropping=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Images without their borders. Two of top, bottom and target height are given, and of left, right and
    target width.
    """
    x = tensor(images)
    rows, columns, _ = _axes(x, data_format, "crop_images")
    vertical = (
        ("top_cropping", top_cropping),
        ("bottom_cropping", bottom_cropping),
        ("target_height", target_height),
    )
    horizontal = (
        ("left_cropping", left_cropping),
        ("right_cropping", right_cropping),
        ("target_width", target_width),
    )
    for axis, parts in ((rows, vertical), (columns, horizontal)):
        size = known(x, axis, "crop_images")
        before, after = _margins("crop_images", parts, size)
        x = slice_axis(x, axis, before, size - after)
    return x


@op
def extract_patches(images, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """The patches of images as channels: (..., h, w, c) -> (..., places, places, patch_height * patch_width *
    c).

    `size` and `strides`: an int or (height, width); `strides` is `size` unless given.
    """
    x = tensor(images)
    *_, channels = _axes(x, data_format, "extract_patches")
    height, width = (size, size) if isinstance(size, int) else size
    count = height * width * known(x, channels, "extract_patches")
    kernel = np.eye(count, dtype="float32").reshape(height, width, -1, count)
    single = len(x.shape) == 3
    x = _core.expand_dims(x, [0]) if single else x
    y = conv(x, tensor(kernel, as_float(x).dtype), strides or size, padding, data_format, dilation_rate)
    return _core.squeeze(y, [0]) if single else y


__all__ = exports(globals())
