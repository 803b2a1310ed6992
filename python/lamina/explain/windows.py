"""Explanations of layers that slide a window: convolutions and pooling."""

from lamina.explain.values import activation
from lamina.explain.words import count, joined, product, value
from lamina.layers.convolutional.base import SPATIAL_AXES


def spatial(layer, call):
    """(axis name, size in, size out) of the spatial axes."""
    first = 1 if layer.data_format == "channels_last" else 2
    names = SPATIAL_AXES[layer.rank]
    return [(name, call.input[first + i], call.output[first + i]) for i, name in enumerate(names)]


def channels(layer, shape):
    """The size of the channel axis."""
    return shape[-1 if layer.data_format == "channels_last" else 1]


def window_text(sizes):
    """`3x3`, or `3` in one dimension."""
    return "x".join(map(str, sizes))


def sliding(layer, call, window, dilation=None):
    """What padding and strides make of each spatial axis, as a formula with its numbers."""
    dilation = dilation or (1,) * layer.rank
    sentences = []
    unit = "step" if layer.rank == 1 else "pixel"
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    if max(dilation) > 1:
        covers = {
            f"{d}*({k} - 1) + 1 = {r}": None for k, d, r in zip(window, dilation, reach, strict=True) if d > 1
        }
        sentences.append(
            f"`dilation_rate={dilation}` leaves gaps: the window takes every {_nth(max(dilation))} {unit}, "
            f"and so covers {joined(covers)} of them."
        )
    moves = f"The window moves by {_steps(layer.strides, unit)}"
    if layer.padding == "valid":
        rule = f'{moves} and stays inside (`padding="valid"`)'
    elif layer.padding == "causal":
        rule = (
            f'{moves}. `padding="causal"` puts {count(reach[0] - 1, "zero")} before the first step, so that '
            "no output sees a later step"
        )
    else:
        ends = (
            "zeros are added at the ends" if hasattr(layer, "kernel_size") else "it may reach over the ends"
        )
        kept = "the size stays" if max(layer.strides) == 1 else "only the strides make the size smaller"
        rule = f'{moves}. `padding="same"`: {ends}, so that {kept}'
    formulas = {}
    for (name, size, out), r, s in zip(spatial(layer, call), reach, layer.strides, strict=True):
        formulas.setdefault(_formula(layer.padding, size, out, r, s), []).append(name)
    texts = "; ".join(f"{joined(axes)} = {text}" for text, axes in formulas.items())
    sentences.append(f"{rule}: {texts}.{_rounding(texts)}")
    margins = _margins(layer, call, reach)
    if margins:
        sentences.append(margins)
    return sentences


def _nth(number):
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _steps(strides, unit):
    """`one pixel at a time`, `2 pixels at a time (`strides=(2, 2)`)`."""
    if max(strides) == 1:
        return f"one {unit} at a time"
    return f"{joined(dict.fromkeys(map(str, strides)))} {unit}s at a time (`strides={strides}`)"


def _rounding(texts):
    if "floor(" in texts:
        return " (floor rounds down: what is too short for a window at the end is left out.)"
    return " (ceil rounds up.)" if "ceil(" in texts else ""


def _formula(padding, size, out, reach, stride):
    size = value(size)
    if padding == "valid":
        text = f"{size} - {reach} + 1" if stride == 1 else f"floor(({size} - {reach}) / {stride}) + 1"
    elif stride > 1:
        text = f"ceil({size} / {stride})"
    elif padding == "causal":
        text = f"{size} + {reach - 1} - {reach} + 1"
    else:
        return value(out) if out is not None else "as many as come in"
    return f"{text} = {value(out)}" if out is not None else f"{text}, known when data comes"


def _margins(layer, call, reach):
    """How many positions `same` padding adds."""
    if layer.padding != "same" or any(size is None for _, size, _ in spatial(layer, call)):
        return None
    parts = {}
    for (name, size, out), r, s in zip(spatial(layer, call), reach, layer.strides, strict=True):
        total = max((out - 1) * s + r - size, 0)
        parts.setdefault((total // 2, total - total // 2), []).append(name)
    if list(parts) == [(0, 0)]:
        return "Here the windows end exactly at the ends: nothing is added."
    texts = joined(
        f"{before} before and {after} after along {joined(names)}" for (before, after), names in parts.items()
    )
    return f"Added here: {texts}." if hasattr(layer, "kernel_size") else f"It reaches over by {texts}."


def convolution(layer, call):
    """Conv1D, Conv2D."""
    given, window = channels(layer, call.input), window_text(layer.kernel_size)
    seen = given // layer.groups
    unit = "steps" if layer.rank == 1 else "pixels"
    sees = f"all {count(given, 'channel')}" if given > 1 else "the one channel"
    grouped = None
    if layer.groups > 1:
        sees = f"{count(seen, 'channel')}"
        grouped = (
            f"`groups={layer.groups}` splits the {given} channels that come in, and the filters: each filter "
            f"sees {given}/{layer.groups} = {seen} of them."
        )
    bias = ", and one bias that is added" if layer.use_bias else ""
    return [
        f"`filters={layer.filters}` is how many values come out at each place, along the channel axis. Each "
        f"filter looks at a window of {window} {unit} (`kernel_size={layer.kernel_size}`) in {sees}, and has "
        f"a weight for every value that it sees: {product((*layer.kernel_size, seen))}{bias}. The same "
        "filter is used at every place, so the number of weights does not depend on the size of the input.",
        grouped,
        *sliding(layer, call, layer.kernel_size, layer.dilation_rate),
        f"{count(given, 'channel')} {_become(given)} {layer.filters}: {call.output}.",
        activation(layer.activation),
    ]


def depthwise(layer, call):
    """DepthwiseConv1D and 2D."""
    given, m = channels(layer, call.input), layer.depth_multiplier
    bias = "; each channel that comes out has a bias" if layer.use_bias else ""
    return [
        f"{_by_itself(layer, given, m)}; channels are not mixed. So {given}*{m} = {given * m} channels come "
        f"out{bias}.",
        *sliding(layer, call, layer.kernel_size, layer.dilation_rate),
        f"The output is {call.output}.",
        activation(layer.activation),
    ]


def _by_itself(layer, given, m):
    window = f"a window of {window_text(layer.kernel_size)} that has"
    windows = window if m == 1 else f"{m} windows of {window_text(layer.kernel_size)} that have"
    each = "The one channel" if given == 1 else f"Each of the {given} channels"
    return (
        f"{each} is filtered by itself, by `depth_multiplier={m}`: {windows} "
        f"{product(layer.kernel_size)} weights{'' if m == 1 else ' each'}"
    )


def _become(number):
    return "becomes" if number == 1 else "become"


def separable(layer, call):
    """SeparableConv1D and 2D."""
    given, m = channels(layer, call.input), layer.depth_multiplier
    one = window_text((1,) * layer.rank)
    return [
        f"Two steps in turn. {_by_itself(layer, given, m)}. That gives {given}*{m} = {given * m} "
        f"channels. Then windows of {one} mix those into `filters={layer.filters}` channels, with a weight "
        f"from each of the {given * m} to each of the {layer.filters}.",
        *sliding(layer, call, layer.kernel_size, layer.dilation_rate),
        f"The output is {call.output}.",
        activation(layer.activation),
    ]


def transposed(layer, call):
    """Conv1DTranspose and 2D."""
    given, window = channels(layer, call.input), window_text(layer.kernel_size)
    formulas = {}
    for i, (name, size, out) in enumerate(spatial(layer, call)):
        k, s, d = layer.kernel_size[i], layer.strides[i], layer.dilation_rate[i]
        reach = d * (k - 1) + 1
        if layer.output_padding is not None:
            text = f"{value(out)}, with `output_padding={layer.output_padding[i]}`"
        elif layer.padding == "same":
            text = f"{value(size)}*{s} = {value(out)}"
        else:
            text = f"{value(size)}*{s} + max({reach} - {s}, 0) = {value(out)}"
        formulas.setdefault(text, []).append(name)
    ends = {
        "same": 'With `padding="same"` what reaches over the ends is cut off',
        "valid": 'With `padding="valid"` nothing is cut off, so the last window makes it longer',
    }[layer.padding]
    steps = "one place apart" if max(layer.strides) == 1 else f"`strides={layer.strides}` apart"
    return [
        f"A convolution run backwards, to enlarge: each value that comes in is spread over a window of "
        f"{window}, these windows stand {steps}, and where they overlap they are added. {ends}: "
        f"{'; '.join(f'{joined(names)} = {text}' for text, names in formulas.items())}.",
        f"{count(given, 'channel')} {_become(given)} `filters={layer.filters}` channels: {call.output}. "
        f"Between each two there is a window of weights: {product(layer.kernel_size)}.",
        activation(layer.activation),
    ]


def pooling(layer, call):
    """MaxPooling and AveragePooling."""
    kind = "largest value" if type(layer).__name__.startswith("Max") else "mean"
    return [
        f"It keeps the {kind} of each window of `pool_size={layer.pool_size}`, in each channel by itself: "
        f"the channels stay {channels(layer, call.input)}.",
        *sliding(layer, call, layer.pool_size),
        f"The output is {call.output}.",
    ]


def global_pooling(layer, call):
    """GlobalMaxPooling and GlobalAveragePooling."""
    kind = "largest value" if "Max" in type(layer).__name__ else "mean"
    names = joined(SPATIAL_AXES[layer.rank])
    left = "with sizes of 1 in their place (`keepdims=True`)" if layer.keepdims else "so those axes go"
    return [
        f"It keeps the {kind} over all of {names}, one per channel, {left}: {call.output}. It works for any "
        f"size of {names}."
    ]
