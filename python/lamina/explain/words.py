"""The words that explanations share: axes by name, numbers with their nouns, products written out."""

import math

from lamina.errors import show_shape

_LAST = {
    1: ("batch",),
    2: ("batch", "features"),
    3: ("batch", "time", "features"),
    4: ("batch", "height", "width", "channels"),
    5: ("batch", "depth", "height", "width", "channels"),
}


class Call:
    """One call of a layer: the shapes that go in and come out, and the names of the layers before it."""

    def __init__(self, layer, inputs, outputs, producers=()):
        self.layer, self.inputs, self.outputs, self.producers = layer, inputs, outputs, list(producers)

    @property
    def input(self):
        """The shape of the first input."""
        return self.inputs[0]

    @property
    def output(self):
        """The shape of the first output."""
        return self.outputs[0]

    def axes(self, shape):
        """Names for the axes of a shape."""
        own = getattr(self.layer, "_axes", None)
        if callable(own) and len(own()) == len(shape):
            return own()
        names = _LAST.get(len(shape))
        if names is None:
            return None
        if type(self.layer).__name__ == "Embedding" and len(shape) == 2:  # ids, one after the other
            return ("batch", "time")
        if len(shape) > 2 and getattr(self.layer, "data_format", None) == "channels_first":
            return (names[0], names[-1], *names[1:-1])
        return names


def shape_text(shape, axes=None):
    """`(None, 3) = (batch, features)`."""
    return show_shape(shape, axes)


def count(number, noun):
    """`1 unit`, `1,000 units`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun if noun.endswith('s') else noun + 's'}"


def amount(size, noun):
    """`3 features`, or `an unknown number of features`."""
    return f"an unknown number of {noun}s" if size is None else count(size, noun)


def product(sizes):
    """`"4*4*64 = 1,024"`; `"?*64"` when a size is unknown."""
    text = "*".join("?" if size is None else str(size) for size in sizes) or "1"
    if None in sizes:
        return text
    return f"{text} = {math.prod(sizes):,}" if len(sizes) > 1 else f"{math.prod(sizes):,}"


def joined(names):
    """`a`, `a and b`, `a, b and c`."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def value(x):
    """A size as text, `?` for one that the data decides."""
    return "?" if x is None else str(x)
