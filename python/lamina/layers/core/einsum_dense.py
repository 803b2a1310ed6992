"""A dense layer whose product is written as an einsum equation."""

import re

from lamina import activations, initializers, ops
from lamina.errors import ShapeError
from lamina.layers.arguments import refuse_quantization
from lamina.layers.input_spec import InputSpec
from lamina.layers.parametric import LowRankAdaptation, ParametricLayer

_EQUATION = re.compile(r"(\.{3})?([a-zA-Z]+)(\.{3})?,([a-zA-Z]+)->(\.{3})?([a-zA-Z]+)(\.{3})?")


class EinsumDense(LowRankAdaptation, ParametricLayer):
    """`activation(einsum(equation, inputs, kernel) + bias)`, for inputs and outputs with any axes.

    Args:
        equation: "input,kernel->output", such as "abc,cd->abd"; an ellipsis may stand for axes at the left
            end of input and output, or at the right end of both.
        output_shape: the output without the batch axis (an int for one axis); None where the input says it.
        bias_axes: the output's letters along which the bias varies; None: no bias.

    Weights: `kernel`, with an axis for each of its letters, and `bias`.
    Input and output: float. Raises: ShapeError when input and `output_shape` differ in an axis they share.

    >>> layers.EinsumDense("abc,cd->abd", output_shape=(None, 64), bias_axes="d")(Input((32, 128))).shape
    (None, 32, 64)
    """

    def __init__(
        self,
        equation,
        output_shape,
        activation=None,
        bias_axes=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        found = _EQUATION.fullmatch(equation.replace(" ", ""))
        if not found or found[1] != found[5] or found[3] != found[7] or (found[1] and found[3]):
            raise ValueError(
                f"Invalid einsum equation '{equation}'. Equations must be in the form [X],[Y]->[Z], "
                "...[X],[Y]->...[Z], or [X]...,[Y]->[Z]...."
            )
        self.equation, self.bias_axes = equation, bias_axes
        self._left, self._input, self._kernel_letters, self._output = found[1], found[2], found[4], found[6]
        self._check_letters()
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.activation = activations.get(activation)
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)
        self._lora_options("kernel", lora_rank, lora_alpha)
        refuse_quantization(quantization_config)
        self.quantization_config = None

    def _check_letters(self):
        for letters, known, where in (
            (self._kernel_letters, self._input + self._output, "the input or the output"),
            (self._output, self._input + self._kernel_letters, "the input or the kernel"),
            (self.bias_axes or "", self._output, "the output"),
        ):
            for letter in letters:
                if letter not in known:
                    raise ValueError(f"Dimension '{letter}' of '{self.equation}' has no match in {where}.")

    def build(self, input_shape):
        sizes, elided = self._sizes(tuple(input_shape))
        kernel = self._kernel_letters
        unknown = [letter for letter in kernel + (self.bias_axes or "") if sizes[letter] is None]
        if unknown:
            raise ShapeError(
                f"Axis '{unknown[0]}' of '{self.equation}' should be defined. Found `None`.",
                layer=self,
                got=tuple(input_shape),
                expected="a known size along each axis that the weights have",
                fix="give that axis a size in `Input(shape)` or in `output_shape`",
            )
        self._kernel = self.add_weight(
            name="kernel",
            shape=tuple(sizes[letter] for letter in kernel),
            initializer=self._fan_aware(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.bias_axes is not None:
            first = min(self._output.index(letter) for letter in self.bias_axes)
            shape = [sizes[letter] if letter in self.bias_axes else 1 for letter in self._output[first:]]
            self.bias = self._add_weight("bias", (*shape, *[1] * (0 if self._left else elided)))
        self.input_spec = InputSpec(ndim=len(input_shape))
        self.built = True
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def _sizes(self, shape):
        """The size of each letter's axis, and how many axes the ellipsis stands for."""
        elided = len(shape) - len(self._input)
        if elided < 0 or (elided and "..." not in self.equation):
            raise ShapeError(
                f"'{self.equation}' does not fit: expected ndim={len(self._input)}, found ndim={len(shape)}",
                layer=self,
                got=shape,
                expected=f"an axis for each letter of '{self._input}'",
            )
        sizes = dict(zip(self._input, shape[elided:] if self._left else shape, strict=False))
        # The batch axis is the output's first letter, unless the ellipsis holds it.
        letters = self._output if self._left and elided else self._output[1:]
        if len(letters) != len(self.partial_output_shape):
            raise ValueError(
                f"`output_shape` must have a size for each of '{letters}' in '{self.equation}' (the batch is "
                f"left out). Received: output_shape={self.partial_output_shape}"
            )
        for letter, size in zip(letters, self.partial_output_shape, strict=True):
            if None not in (size, sizes.get(letter)) and size != sizes[letter]:
                raise ShapeError(
                    f"Input shape and output shape do not match at shared dimension '{letter}'. Input shape "
                    f"is {sizes[letter]}, and output shape is {size}.",
                    layer=self,
                    argument="output_shape",
                    got=shape,
                    expected=f"{size} along axis '{letter}' of '{self._input}'",
                )
            sizes[letter] = sizes.get(letter) if size is None else size
        return sizes, elided

    def _fan_aware(self, initializer):
        """The initializer, told which axes of the kernel are inputs and which are outputs."""
        if not isinstance(initializer, initializers.VarianceScaling) or initializer.input_axes is not None:
            return initializer
        outputs = [i for i, letter in enumerate(self._kernel_letters) if letter in self._output]
        inputs = [i for i, letter in enumerate(self._kernel_letters) if letter not in self._output]
        axes = {"seed": initializer.seed, "input_axes": inputs, "output_axes": outputs}
        return type(initializer).from_config({**initializer.get_config(), **axes})

    @property
    def kernel(self):
        """The weight, with the low-rank correction where `enable_lora` added one."""
        return self._adapted_weight()

    def call(self, inputs, training=None):
        outputs = ops.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)

    def get_config(self):
        return {
            "activity_regularizer": None,
            **super().get_config(),
            "output_shape": self.partial_output_shape,
        }
