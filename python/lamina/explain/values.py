"""Explanations of layers that keep the shape: normalisation, activation, dropout, scaling."""

from lamina import activations, layers
from lamina.explain.describe import describe
from lamina.explain.words import count, joined, product

# What the usual activations do to a number.
_DOES = {
    "relu": "negative values become 0",
    "relu6": "negative values become 0, those above 6 become 6",
    "sigmoid": "each comes to lie between 0 and 1",
    "hard_sigmoid": "each comes to lie between 0 and 1",
    "tanh": "each comes to lie between -1 and 1",
    "exponential": "each x becomes e^x, which is above 0",
    "softplus": "each becomes positive",
}


def activation(function):
    """A sentence on an activation argument; `None` for one that changes nothing."""
    if function is None or function is activations.linear:
        return None
    name = getattr(function, "__name__", type(function).__name__)
    if name in ("softmax", "log_softmax"):
        shares = "shares that add up to 1" + (", and takes their logarithms" if name != "softmax" else "")
        return f"The activation {name} turns the values along the last axis into {shares}; the shape stays."
    does = f" ({_DOES[name]})" if name in _DOES else ""
    return f"The activation {name} works on each value by itself{does}; the shape stays."


@describe.register(layers.Activation)
def _(layer, call):
    return [activation(layer.activation) or "It changes nothing. The shape stays."]


@describe.register(layers.ReLU)
def _(layer, call):
    low, slope = layer.threshold, layer.negative_slope
    below = f"Values below {low:g} "
    below += f"are multiplied by `negative_slope={slope:g}`" if slope else "become 0"
    if slope and low:
        below = f"A value x below {low:g} becomes {slope:g}*(x - {low:g})"
    above = "" if layer.max_value is None else f", those above {layer.max_value:g} become {layer.max_value:g}"
    return [f"{below}{above}; the others stay. Each value by itself: the shape stays."]


@describe.register(layers.LeakyReLU)
def _(layer, call):
    slope = f"`negative_slope={layer.negative_slope:g}`"
    return [f"Negative values are multiplied by {slope}; the others stay. The shape stays."]


@describe.register(layers.ELU)
def _(layer, call):
    return [
        f"A negative value x becomes {layer.alpha:g}*(e^x - 1) (`alpha={layer.alpha:g}`), which stays above "
        f"-{layer.alpha:g}; the others stay. The shape stays."
    ]


@describe.register(layers.PReLU)
def _(layer, call):
    shape = tuple(layer.weights[0].shape)
    shared = "along all axes" if layer.shared_axes is None else "except along `shared_axes`"
    return [
        "Negative values are multiplied by slopes that training learns; the others stay. Each place has a "
        f"slope of its own, {shared}: {product(shape)}. The shape stays."
    ]


@describe.register(layers.Softmax)
def _(layer, call):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    along = _along(call, axes)
    return [f"It turns the values along {along} into shares: above 0, and they add up to 1. The shape stays."]


def _along(call, axes):
    """`axis 2 (features)`."""
    names = call.axes(call.input)
    axes = [a % len(call.input) for a in axes]
    texts = [f"{a} ({names[a]})" if names else str(a) for a in axes]
    return f"{'axis' if len(axes) == 1 else 'axes'} {joined(texts)}"


# ------------------------------------------------------------------------------------------- normalisation


def _then(weights):
    """What the learnt weights of a normalisation do."""
    names = [w.name for w in weights]
    steps = [f"multiplied by `{n}`" for n in names if n in ("gamma", "scale")]
    steps += [f"shifted by `{n}`" for n in names if n == "beta"]
    if not steps:
        return None
    return f"Then each is {joined(steps)}, which training learns."


@describe.register(layers.BatchNormalization)
def _(layer, call):
    axis = layer.axis % len(call.input)
    size = call.input[axis]
    return [
        f"It brings each of the {count(size, 'channel')} (axis {axis}) to mean 0 and variance 1 over all "
        "samples and places: its mean is taken away, and what is left is divided by its spread. The shape "
        "stays.",
        "In training, mean and variance are those of the batch, and a running average of each is kept; in "
        "prediction these kept ones are used, so that a result does not depend on the other samples.",
        _then(layer.trainable_weights),
        f"That makes {count(len(layer.weights), 'number')} for each of {size} channels.",
    ]


_EACH = "Each such group of values is taken by itself: samples do not mix. The shape stays."


@describe.register(layers.LayerNormalization)
def _(layer, call):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    to = "variance 1" if layer.rms_scaling else "mean 0 and variance 1"
    return [f"The values along {_along(call, axes)} are brought to {to}. {_EACH}", _then(layer.weights)]


@describe.register(layers.RMSNormalization)
def _(layer, call):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return [
        f"The values along {_along(call, axes)} are divided by the root of their mean square. {_EACH}",
        _then(layer.weights),
    ]


@describe.register(layers.UnitNormalization)
def _(layer, call):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return [
        f"The values along {_along(call, axes)} are divided by their length (the root of the sum of their "
        f"squares), so that their squares add up to 1. {_EACH}"
    ]


@describe.register(layers.GroupNormalization)
def _(layer, call):
    size = call.input[layer.axis % len(call.input)]
    groups = size if layer.groups == -1 else layer.groups
    return [
        f"`groups={layer.groups}` splits the {count(size, 'channel')} into groups of {size}/{groups} = "
        f"{size // groups}; the values of a group, over all places, are brought to mean 0 and variance 1. "
        f"{_EACH}",
        _then(layer.weights),
    ]


@describe.register(layers.Normalization)
def _(layer, call):
    known = "were given" if layer.input_mean is not None else "are measured by `adapt(data)`, not learnt"
    how = (
        "is multiplied by the spread of its feature and its mean is added"
        if layer.invert
        else (
            "has the mean of its feature taken away and is divided by its spread (the root of the variance)"
        )
    )
    return [f"Each value {how}. Mean and variance {known}. The shape stays."]


# ---------------------------------------------------------------------------------------- noise and the rest

_NOTHING = "in prediction it does nothing. The shape stays."


@describe.register(layers.Dropout)
@describe.register(layers.SpatialDropout1D)
@describe.register(layers.SpatialDropout2D)
def _(layer, call):
    what = "whole channels" if "Spatial" in type(layer).__name__ else "single values"
    return [
        f"In training it sets {what} to 0 at random, each with probability `rate={layer.rate:g}`, and scales "
        f"the others up so that the sum stays the same on average; {_NOTHING}"
    ]


@describe.register(layers.AlphaDropout)
def _(layer, call):
    return [
        f"In training it replaces single values at random, each with probability `rate={layer.rate:g}`, by "
        f"the lowest that the activation selu gives, and keeps mean and variance as they are; {_NOTHING}"
    ]


@describe.register(layers.GaussianNoise)
def _(layer, call):
    spread = f"mean 0 and `stddev={layer.stddev:g}`"
    return [f"In training it adds random noise of {spread} to each value; {_NOTHING}"]


@describe.register(layers.GaussianDropout)
def _(layer, call):
    rate = layer.rate
    spread = f"sqrt({rate:g} / (1 - {rate:g}))"
    return [
        f"In training it multiplies each value by random noise of mean 1 and standard deviation {spread}, as "
        f"`rate={rate:g}` says; {_NOTHING}"
    ]


@describe.register(layers.ActivityRegularization)
def _(layer, call):
    terms = [f"`{n}={v:g}`" for n, v in (("l1", layer.l1), ("l2", layer.l2)) if v]
    sizes = f", with {joined(terms)}" if terms else ""
    return [f"It changes nothing; in training, large values add to the loss{sizes}. The shape stays."]


@describe.register(layers.Identity)
def _(layer, call):
    return ["It hands on what it gets. The shape stays."]


@describe.register(layers.Masking)
def _(layer, call):
    return [
        f"A step whose values are all `mask_value={layer.mask_value:g}` is marked as empty and set to 0; "
        "layers after it that know such marks leave it out. The shape stays."
    ]


@describe.register(layers.Rescaling)
def _(layer, call):
    scale, offset = (
        f"{v:.4g}" if isinstance(v, (int, float)) else "..." for v in (layer.scale, layer.offset)
    )
    return [f"Each value is multiplied by `scale={scale}`, then `offset={offset}` is added. The shape stays."]


@describe.register(layers.Lambda)
def _(layer, call):
    name = getattr(layer.function, "__name__", type(layer.function).__name__)
    what = "a function without a name" if name == "<lambda>" else f"the function `{name}`"
    shape = "The shape stays." if call.inputs == call.outputs else f"Out: {joined(map(str, call.outputs))}."
    return [f"It calls {what}, and lamina follows its steps to find the shape. {shape}"]


@describe.register(layers.CategoryEncoding)
def _(layer, call):
    tokens = layer.num_tokens
    how = {
        "one_hot": "each integer becomes a row with 1 at its place and 0 elsewhere",
        "multi_hot": "each sample becomes one row with 1 at the places of its integers and 0 elsewhere",
        "count": "each sample becomes one row that says how often each integer occurs in it",
    }[layer.output_mode]
    return [
        f"Integers from 0 to {tokens - 1} come in, as `num_tokens={tokens}` says; {how} "
        f'(`output_mode="{layer.output_mode}"`). A row has {tokens} places: {call.input} -> {call.output}.'
    ]
