"""Explanations of layers that slide a window: convolutions and pooling."""

from lamina import activations
from lamina.explain.words import count, joined, value
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
    names = joined(SPATIAL_AXES[layer.rank])
    sentences = []
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    if max(dilation) > 1:
        covers = joined(
            f"{d}*({k} - 1) + 1 = {r}" for k, d, r in zip(window, dilation, reach, strict=True) if d > 1
        )
        sentences.append(f"`dilation_rate={dilation}` leaves gaps in the window, so that it covers {covers}.")
    step = "one step at a time" if max(layer.strides) == 1 else f"by `strides={layer.strides}`"
    if layer.padding == "valid":
        rule = f'The window moves {step} and stays inside (`padding="valid"`)'
    elif layer.padding == "causal":
        rule = (
            f'`padding="causal"` puts {count(reach[0] - 1, "zero")} before the first step, so that no output '
            f"sees a later step; the window moves {step}"
        )
    else:
        ends = "adds zeros at both ends" if hasattr(layer, "kernel_size") else "lets it reach over both ends"
        rule = (
            f'The window moves {step}; `padding="same"` {ends} of {names}, so that only strides shorten what '
            "comes out"
        )
    formulas = {}
    for (name, size, out), r, s in zip(spatial(layer, call), reach, layer.strides, strict=True):
        formulas.setdefault(_formula(layer.padding, size, out, r, s), []).append(name)
    texts = "; ".join(f"{joined(axes)} = {text}" for text, axes in formulas.items())
    sentences.append(f"{rule}: {texts}.")
    margins = _margins(layer, call, reach)
    if margins:
        sentences.append(margins)
    return sentences


def _formula(padding, size, out, reach, stride):
    size = value(size)
    if padding == "valid":
        text = f"floor(({size} - {reach}) / {stride}) + 1"
    elif padding == "causal" and stride == 1:
        text = f"{size} + {reach - 1} - {reach} + 1"
    else:
        text = f"ceil({size} / {stride})"
    return f"{text} = {value(out)}" if out is not None else f"{text}, known when data comes"


def _margins(layer, call, reach):
    """How many positions `same` padding adds."""
    if layer.padding != "same" or any(size is None for _, size, _ in spatial(layer, call)):
        return None
    parts = []
    for (name, size, out), r, s in zip(spatial(layer, call), reach, layer.strides, strict=True):
        total = max((out - 1) * s + r - size, 0)
        parts.append((name, total // 2, total - total // 2))
    if not any(before or after for _, before, after in parts):
        return "Here the windows end exactly at the ends."
    texts = joined(f"{before} before and {after} after along {name}" for name, before, after in parts)
    return f"The windows reach over the ends by {texts}."


def convolution(layer, call):
    """Conv1D, Conv2D."""
    given, window = channels(layer, call.input), window_text(layer.kernel_size)
    seen = given // layer.groups
    unit = "steps" if layer.rank == 1 else "pixels"
    taps = "*".join(map(str, (*layer.kernel_size, seen)))
    size = seen
    for k in layer.kernel_size:
        size *= k
    grouped = (
        f" `groups={layer.groups}` splits the {given} channels: each filter sees {given}/{layer.groups} = "
        f"{seen}."
        if layer.groups > 1
        else ""
    )
    bias = " and one bias" if layer.use_bias else ""
    return [
        f"`filters={layer.filters}` is how many values come out at each place, along the channel axis; "
        f"`kernel_size={layer.kernel_size}` is the window of {window} {unit} that each filter looks "
        f"at.{grouped} A filter has a weight for every value that it sees: {taps} = {size:,}{bias}. "
        "The same filter is used at every place, so the number of weights does not depend on the size of the "
        "input.",
        *sliding(layer, call, layer.kernel_size, layer.dilation_rate),
        f"{count(given, 'channel')} become {count(layer.filters, 'filter')}: {call.output}.",
        activation(layer),
    ]


def depthwise(layer, call):
    """DepthwiseConv1D and 2D."""
    given, m = channels(layer, call.input), layer.depth_multiplier
    return [
        f"Each of the {given} channels is filtered by itself, by `depth_multiplier={m}` "
        f"{'window' if m == 1 else 'windows'} of {window_text(layer.kernel_size)}; channels are not mixed. "
        f"So {given}*{m} = {given * m} channels come out.",
        *sliding(layer, call, layer.kernel_size, layer.dilation_rate),
        f"The output is {call.output}.",
        activation(layer),
    ]


def separable(layer, call):
    """SeparableConv1D and 2D."""
    given, m = channels(layer, call.input), layer.depth_multiplier
    one = window_text((1,) * layer.rank)
    return [
        f"Two steps. First each of the {given} channels is filtered by itself with `depth_multiplier={m}` "
        f"{'window' if m == 1 else 'windows'} of {window_text(layer.kernel_size)}, which gives {given}*{m} = "
        f"{given * m} channels. Then windows of {one} mix those into `filters={layer.filters}` channels.",
        *sliding(layer, call, layer.kernel_size, layer.dilation_rate),
        f"The output is {call.output}.",
        activation(layer),
    ]


def transposed(layer, call):
    """Conv1DTranspose and 2D."""
    given = channels(layer, call.input)
    parts = []
    for i, (name, size, out) in enumerate(spatial(layer, call)):
        k, s, d = layer.kernel_size[i], layer.strides[i], layer.dilation_rate[i]
        reach = d * (k - 1) + 1
        if layer.output_padding is not None:
            text = f"{value(out)}, with `output_padding={layer.output_padding[i]}`"
        elif layer.padding == "same":
            text = f"{value(size)}*{s} = {value(out)}"
        else:
            text = f"{value(size)}*{s} + max({reach} - {s}, 0) = {value(out)}"
        parts.append(f"{name} = {text}")
    return [
        f"A convolution run backwards: each value that comes in is spread over a window of "
        f"{window_text(layer.kernel_size)}, `strides={layer.strides}` apart, and where windows overlap they "
        f'are added. With `padding="{layer.padding}"`: {"; ".join(parts)}.',
        f"{count(given, 'channel')} become `filters={layer.filters}`: {call.output}.",
        activation(layer),
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


def activation(layer):
    """What an activation argument does to shapes: nothing."""
    function = getattr(layer, "activation", None)
    if function is None or function is activations.linear:
        return None
    name = getattr(function, "__name__", type(function).__name__)
    if name in ("softmax", "log_softmax"):
        return (
            f"The activation {name} turns the values along the last axis into shares of 1; the shape stays."
        )
    return f"The activation {name} works on each value by itself; the shape stays."
