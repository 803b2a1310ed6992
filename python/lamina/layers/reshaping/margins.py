"""Adding and removing margins, and enlarging."""

from lamina import backend, ops
from lamina.errors import ShapeError, axis_names
from lamina.layers.arguments import int_tuple, pair_of_pairs, positive_int
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer


class ZeroPadding1D(Layer):
    """Zeros before and after the steps: `padding` is an int or (left, right).

    Input: (batch, time, features), or (batch, features, time). Output: time + left + right.
    """

    def __init__(self, padding=1, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.padding = int_tuple(padding, 2, "padding", allow_zero=True)
        self.data_format = backend.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=3)

    def call(self, inputs):
        return ops.pad(inputs, _margins([self.padding], self.data_format))


class ZeroPadding2D(Layer):
    """Zeros around images: `padding` is an int, (height, width), or ((top, bottom), (left, right)).

    Input: (batch, height, width, channels), or (batch, channels, height, width). Output: each side longer by
    its two margins.

    >>> layers.ZeroPadding2D(((0, 1), (0, 1)))(Input((224, 224, 3))).shape
    (None, 225, 225, 3)
    """

    def __init__(self, padding=(1, 1), data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.padding = pair_of_pairs(padding, "padding")
        self.data_format = backend.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=4)

    def call(self, inputs):
        return ops.pad(inputs, _margins(self.padding, self.data_format))


class Cropping1D(Layer):
    """Remove steps at both ends: `cropping` is an int or (left, right). Input: (batch, time, features)."""

    def __init__(self, cropping=(1, 1), **kwargs):
        super().__init__(**kwargs)
        self.cropping = int_tuple(cropping, 2, "cropping", allow_zero=True)
        self.input_spec = InputSpec(ndim=3)

    def call(self, inputs):
        return _crop(inputs, [self.cropping], "channels_last", self)


class Cropping2D(Layer):
    """Remove the margins of images: `cropping` is an int, (height, width), or ((top, bottom), (left, right)).

    Input: (batch, height, width, channels), or (batch, channels, height, width).
    Raises: ShapeError when nothing would be left.
    """

    def __init__(self, cropping=((0, 0), (0, 0)), data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.cropping = pair_of_pairs(cropping, "cropping")
        self.data_format = backend.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=4)

    def call(self, inputs):
        return _crop(inputs, self.cropping, self.data_format, self)


class UpSampling1D(Layer):
    """Each step `size` times in a row: (batch, time, features) -> (batch, time * size, features)."""

    def __init__(self, size=2, **kwargs):
        super().__init__(**kwargs)
        if isinstance(size, float):
            raise TypeError(f"Expected an integer value for `size`, got {type(size)}.")
        self.size = positive_int(size, "size")
        self.input_spec = InputSpec(ndim=3)

    def call(self, inputs):
        return ops.repeat(inputs, self.size, axis=1)


class UpSampling2D(Layer):
    """Enlarge images by the integers `size` (one, or height and width).

    `interpolation`: "nearest" repeats rows and columns; the others ("bilinear", "bicubic", "lanczos3",
    "lanczos5") are those of `ops.image.resize`. Input: (batch, height, width, channels), or (batch, channels,
    height, width).
    """

    def __init__(self, size=(2, 2), data_format=None, interpolation="nearest", **kwargs):
        super().__init__(**kwargs)
        self.size = int_tuple(size, 2, "size")
        self.data_format = backend.standardize_data_format(data_format)
        self.interpolation = interpolation.lower()
        self.input_spec = InputSpec(ndim=4)

    def call(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        if self.interpolation == "nearest":
            rows = ops.repeat(inputs, self.size[0], axis=first)
            return ops.repeat(rows, self.size[1], axis=first + 1)
        height, width = (ops.shape(inputs)[first + i] * self.size[i] for i in range(2))
        return ops.image.resize(
            inputs, (height, width), interpolation=self.interpolation, data_format=self.data_format
        )


def _margins(spatial, data_format):
    """Margins of all axes, from those of the spatial ones."""
    if data_format == "channels_last":
        return ((0, 0), *spatial, (0, 0))
    return ((0, 0), (0, 0), *spatial)


def _crop(x, cropping, data_format, layer):
    for axis, (before, after) in enumerate(_margins(cropping, data_format)):
        size = x.shape[axis]
        if size is not None and before + after and before + after >= size:
            raise ShapeError(
                "Values in `cropping` argument should be smaller than the corresponding spatial dimension of "
                f"the input. Received: cropping={layer.cropping}",
                layer=layer,
                argument="inputs",
                got=tuple(x.shape),
                axes=axis_names(len(x.shape), data_format),
                expected=f"axis {axis} longer than {before} + {after} = {before + after}",
                cause=f"nothing would be left: {size} - {before} - {after} = {size - before - after}",
                trail=True,
                fix="crop less, or pool less before this layer",
            )
    inner = [slice(before, -after or None) for before, after in _margins(cropping, data_format)]
    return x[tuple(inner)]
