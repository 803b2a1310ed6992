"""What all layers share that merge a list of inputs into one output."""

from lamina import ops
from lamina.errors import ShapeError
from lamina.layers.layer import Layer


class Merge(Layer):
    """Combine inputs of the same shape element by element. Sizes of 1 broadcast.

    An input with fewer axes gets axes of size 1 after its batch axis. A position of the output is masked when
    it is masked in all inputs; the output has no mask when one of the inputs has none.
    Raises: ShapeError naming the inputs and the axis that do not fit.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        shapes = list_of_shapes(input_shape, self)
        ndim = max(map(len, shapes))
        first, expected = None, None
        for index, shape in enumerate(shapes):
            aligned = (shape[:1] + (1,) * (ndim - len(shape)) + shape[1:]) if shape else (1,) * ndim
            if expected is None:
                first, expected = index, list(aligned)
                continue
            for axis, size in enumerate(aligned):
                known = expected[axis]
                clash = None not in (known, size) and known != size and (axis == 0 or 1 not in (known, size))
                if clash:
                    raise mismatch(self, shapes, first, index, axis, known, size)
                if known in (None, 1) and size is not None:
                    expected[axis] = size

    def call(self, inputs):
        ndim = max(len(x.shape) for x in inputs)
        return self._merge([_align(x, ndim) for x in inputs])

    def _merge(self, inputs):
        merged = inputs[0]
        for x in inputs[1:]:
            merged = self._combine(merged, x)
        return merged

    def compute_mask(self, inputs, mask=None):
        if not paired_masks(inputs, mask) or any(m is None for m in mask):
            return None
        merged = mask[0]
        for m in mask[1:]:
            merged = ops.logical_or(merged, m)
        return merged


def list_of_shapes(input_shape, layer, count=None):
    """The shapes of a list of inputs; a ShapeError when the layer was called on a single tensor."""
    is_list = isinstance(input_shape, (list, tuple)) and all(
        isinstance(s, (list, tuple)) for s in input_shape
    )
    kind = type(layer).__name__
    # The words people search for differ between the two kinds of merge.
    start = f"A `{kind}` layer" if kind in ("Concatenate", "Dot") else "A merge layer"
    if not is_list or not input_shape:
        raise ShapeError(
            f"{start} should be called on a list of inputs. Received: input_shape={input_shape} "
            "(not a list of shapes)",
            layer=layer,
            argument="inputs",
            expected="a list of tensors",
            fix=f"write `{kind}(...)([a, b])`",
        )
    if count is not None and len(input_shape) != count:
        raise ShapeError(
            f"A `{kind}` layer should be called on exactly {count} inputs. "
            f"Received: input_shape={input_shape}",
            layer=layer,
            argument="inputs",
            expected=f"a list of {count} tensors",
        )
    return [tuple(shape) for shape in input_shape]


def mismatch(layer, shapes, first, second, axis, size, other, what=None):
    """The error of two inputs that disagree on an axis, or in their number of axes (`axis=None`)."""
    if what is None:
        what = (
            "Cannot merge tensors with different batch sizes."
            if axis == 0
            else "Inputs have incompatible shapes."
        )
    along = "" if axis is None else f" along axis {axis}"
    return ShapeError(
        f"{what} Received shapes {shapes[first]} and {shapes[second]}",
        layer=layer,
        argument=f"inputs[{second}]",
        got=tuple(shapes[second]),
        expected=f"{size}{along}, as in inputs[{first}] of shape {shapes[first]}",
        cause=f"inputs[{first}] has {size}{along} and inputs[{second}] has {other}",
    )


def paired_masks(inputs, mask):
    """Is there one mask (or None) for each input?"""
    if mask is None:
        return False
    for name, value in (("mask", mask), ("inputs", inputs)):
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"`{name}` should be a list. Received: {name}={value}")
    if len(mask) != len(inputs):
        raise ValueError(
            "The lists `inputs` and `mask` should have the same length. "
            f"Received: {len(inputs)} inputs and {len(mask)} masks"
        )
    return True


def _align(x, ndim):
    missing = ndim - len(x.shape)
    return ops.expand_dims(x, tuple(range(1, 1 + missing))) if missing else x
