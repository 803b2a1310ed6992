"""Explanations of layers that make new shapes: one function per family."""

import math

from lamina import layers
from lamina.explain import sequences, windows
from lamina.explain.describe import describe
from lamina.explain.values import activation
from lamina.explain.words import amount, count, joined, product, value
from lamina.layers.attention.heads import HeadAttention
from lamina.layers.convolutional.conv import Conv
from lamina.layers.convolutional.depthwise import DepthwiseConv, SeparableConv
from lamina.layers.convolutional.transpose import ConvTranspose
from lamina.layers.merging.base import Merge
from lamina.layers.pooling.global_pooling import GlobalPooling
from lamina.layers.pooling.pooling import Pooling
from lamina.layers.recurrent.gated import CellLayer
from lamina.models import Model

describe.register(Conv, windows.convolution)
describe.register(DepthwiseConv, windows.depthwise)
describe.register(SeparableConv, windows.separable)
describe.register(ConvTranspose, windows.transposed)
describe.register(Pooling, windows.pooling)
describe.register(GlobalPooling, windows.global_pooling)
describe.register(CellLayer, sequences.recurrent)
describe.register(layers.RNN, sequences.any_recurrent)
describe.register(layers.Bidirectional, sequences.bidirectional)
describe.register(layers.TimeDistributed, sequences.time_distributed)
describe.register(layers.Attention, sequences.attention)
describe.register(HeadAttention, sequences.heads)


@describe.register(layers.InputLayer)
def _(layer, call):
    shape = call.output
    sample = shape[1:]
    if not sample:
        what = "one number"
    elif len(sample) == 1:
        what = amount(sample[0], "number")
    else:
        what = f"{product(sample)} numbers"
    axes = call.axes(shape)
    named = f" = ({', '.join(axes)})" if axes else ""
    given = f"Input({sample})" if shape[0] is None else f"Input(batch_shape={shape})"
    return [f"Data enters here. `{given}` says that each sample is {what}: {shape}{named}."]


@describe.register(layers.Dense)
def _(layer, call):
    features, units, shape = call.input[-1], layer.units, call.input
    bias = " and adds a bias of its own" if layer.use_bias else ""
    every = f"Each of the {units} units" if units > 1 else "The unit"
    source = f"all {features} features" if features > 1 else "the one feature"
    sentences = [
        f"`units={units}` is how many values come out along the last axis. {every} is connected to {source}: "
        f"it multiplies each by a weight of its own, adds the products up{bias}."
    ]
    if len(shape) == 2:
        becomes = "becomes" if features == 1 else "become"
        sentences.append(
            f"So {count(features, 'feature')} {becomes} {count(units, 'unit')}: {shape} -> {call.output}."
        )
    else:
        rows = "an unknown number of" if None in shape[1:-1] else product(shape[1:-1])
        flat = None if None in shape[1:] else math.prod(shape[1:])
        sentences += [
            f"Dense works on the last axis and does not flatten: each sample is {rows} rows of "
            f"{count(features, 'value')}, and every row goes through the same weights, once per row. "
            f"The axes before the last stay: {shape} -> {call.output}.",
            "The number of rows has no part in the number of weights.",
        ]
        if flat:
            sentences.append(
                f"To connect each unit to all {product(shape[1:])} values of a sample, put a `Flatten()` "
                f"before: the kernel would be ({flat}, {units}) and the output ({shape[0]}, {units})."
            )
    return [*sentences, activation(layer.activation)]


@describe.register(layers.Embedding)
def _(layer, call):
    return [
        f"A table of `input_dim={layer.input_dim}` rows with `output_dim={layer.output_dim}` values each. "
        f"Each integer that comes in, from 0 to {layer.input_dim - 1}, is replaced by its row: "
        f"a last axis of {layer.output_dim} is added, {call.input} -> {call.output}.",
        "With `mask_zero=True` the id 0 means that there is no value: layers after it that know such marks "
        "leave it out."
        if layer.mask_zero
        else None,
    ]


@describe.register(layers.Flatten)
def _(layer, call):
    sizes = call.input[1:]
    if len(sizes) < 2:
        return [f"A sample has {'one axis' if sizes else 'no axis'} already: {call.input} -> {call.output}."]
    unknown = "An unknown axis makes the product unknown: a Dense layer after it could not be built."
    return [
        f"All axes of a sample become one: {product(sizes)} values. Their order stays and nothing is "
        f"computed: {call.input} -> {call.output}.",
        unknown if None in sizes else None,
    ]


@describe.register(layers.Reshape)
def _(layer, call):
    sizes, target = call.input[1:], layer.target_shape
    sentences = [
        f"The same values in rows of another length: each sample becomes `target_shape={target}`. The batch "
        "is not part of it."
    ]
    if None not in sizes:
        have = math.prod(sizes)
        if -1 in target:
            rest = "*".join(str(t) for t in target if t != -1) or "1"
            found = call.output[1 + target.index(-1)]
            divided = f"{have} / ({rest})" if "*" in rest else f"{have} / {rest}"
            sentences.append(f"A sample has {product(sizes)} values; -1 stands for {divided} = {found}.")
        else:
            sentences.append(f"Both hold as many values: {product(sizes)} and {product(target)}.")
    return [*sentences, f"Out: {call.output}."]


@describe.register(layers.Permute)
def _(layer, call):
    moves = joined(f"axis {d} becomes axis {i}" for i, d in enumerate(layer.dims, start=1))
    return [f"It reorders the axes of each sample: {moves}. {call.input} -> {call.output}."]


@describe.register(layers.RepeatVector)
def _(layer, call):
    return [f"Each sample is repeated `n={layer.n}` times along a new axis 1: {call.input} -> {call.output}."]


@describe.register(layers.ZeroPadding1D)
@describe.register(layers.ZeroPadding2D)
@describe.register(layers.Cropping1D)
@describe.register(layers.Cropping2D)
def _(layer, call):
    adds = hasattr(layer, "padding")
    margins = layer.padding if adds else layer.cropping
    pairs = [margins] if isinstance(margins[0], int) else margins
    first = 2 if getattr(layer, "data_format", "channels_last") == "channels_first" else 1
    names = ("time",) if len(pairs) == 1 else ("height", "width")
    sign = "+" if adds else "-"
    texts = [
        f"{name} = {value(call.input[first + i])} {sign} {a} {sign} {b} = {value(call.output[first + i])}"
        for i, (name, (a, b)) in enumerate(zip(names, pairs, strict=True))
    ]
    verb = "Zeros are added" if adds else "Values are cut off"
    return [f"{verb} at both ends: {'; '.join(texts)}. {call.input} -> {call.output}."]


@describe.register(layers.UpSampling1D)
@describe.register(layers.UpSampling2D)
def _(layer, call):
    sizes = layer.size if isinstance(layer.size, tuple) else (layer.size,)
    first = 2 if getattr(layer, "data_format", "channels_last") == "channels_first" else 1
    names = ("time",) if len(sizes) == 1 else ("height", "width")
    texts = [
        f"{name} = {value(call.input[first + i])}*{size} = {value(call.output[first + i])}"
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    how = (
        "it is repeated"
        if getattr(layer, "interpolation", "nearest") == "nearest"
        else (f'values between are worked out (`interpolation="{layer.interpolation}"`)')
    )
    what = "step" if len(sizes) == 1 else "pixel"
    times = "x".join(map(str, sizes))
    return [f"Each {what} becomes {times}: {how}. So {'; '.join(texts)}: {call.input} -> {call.output}."]


# --------------------------------------------------------------------------------------------------- merges

_COMBINE = {
    "Add": "adds",
    "Multiply": "multiplies",
    "Average": "takes the mean of",
    "Maximum": "takes the largest of",
    "Minimum": "takes the smallest of",
}


@describe.register(Merge)
def _(layer, call):
    verb = _COMBINE.get(type(layer).__name__, "combines")
    same = len(set(call.inputs)) == 1
    shapes = (
        f"All inputs have the shape {call.input}, and so has the output."
        if same
        else f"Sizes of 1 are repeated to fit: {joined(map(str, call.inputs))} give {call.output}."
    )
    inputs = count(len(call.inputs), "input")
    what = (
        "subtracts the second input from the first"
        if isinstance(layer, layers.Subtract)
        else f"{verb} {inputs}"
    )
    return [f"It {what}, position by position. {shapes}"]


@describe.register(layers.Concatenate)
def _(layer, call):
    axis = layer.axis % len(call.input)
    sizes = [s[axis] for s in call.inputs]
    names = call.axes(call.input)
    name = f" ({names[axis]})" if names else ""
    total = " + ".join(map(value, sizes))
    return [
        f"It puts the inputs side by side along axis {axis}{name}: {total} = {value(call.output[axis])}. All "
        f"other axes must agree, and stay: {call.output}."
    ]


@describe.register(layers.Dot)
def _(layer, call):
    axes = layer._positions(*call.inputs)
    sizes = [s[a] for s, a in zip(call.inputs, axes, strict=True)]
    return [
        f"It multiplies the two inputs along axis {axes[0]} of the first and axis {axes[1]} of the second, "
        f"both of size {value(sizes[0])}, and adds up; those axes go, the others stay: {call.output}."
    ]


@describe.register(Model)
def _(layer, call):
    inside = count(
        len([inner for inner in layer.layers if not isinstance(inner, layers.InputLayer)]), "layer"
    )
    return [f"A model of {inside}, used here as one layer. Out: {joined(map(str, call.outputs))}."]
