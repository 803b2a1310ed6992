"""The neuron picture: a circle for each unit, an arrow for each weight, layers from left to right."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

from lamina.models.tracing import graph_of
from lamina.plot.graph import COLORS
from lamina.plot.svg import INK, SOFT, Drawing, text_width

_RADIUS, _STEP, _BETWEEN = 13, 42, 150
_WIDEST = 12  # units drawn in full
_ENDS = 4  # of a wider layer: so many at its start and at its end, with an ellipsis between


@dataclass
class Column:
    """A layer of units.

    Attributes:
        units: how many there are.
        lines: what is written below it.
        shown: the indices of the units that are drawn.
        places: for each of them (x, y).
    """

    title: str
    units: int
    kind: str
    lines: list = field(default_factory=list)
    places: list = field(default_factory=list)

    @property
    def shown(self):
        if self.units <= _WIDEST:
            return list(range(self.units))
        return [*range(_ENDS), *range(self.units - _ENDS, self.units)]

    @property
    def elided(self):
        """How many units are not drawn."""
        return self.units - len(self.shown)


def columns_of(model, show_layer_names=True):
    """The columns of a chain of dense layers.

    Raises `ValueError` naming the first layer that is no part of such a chain.
    """
    graph = graph_of(model)
    if graph is None or len(graph.inputs) > 1 or len(graph.outputs) > 1:
        raise _unfit(model, "it is not a chain of layers with one input and one output")
    columns, last = [], None
    for node in graph._graph.nodes:
        layer, kind = node.operation, type(node.operation).__name__
        shape = node.output_tensors[0].shape
        if columns and len(node.input_tensors) != 1:
            raise _unfit(model, f"layer {layer.name} ({kind}) has {len(node.input_tensors)} inputs")
        if any(x._keras_history.operation is not last for x in node.input_tensors):
            raise _unfit(model, f"the input of layer {layer.name} ({kind}) branches off")
        last = layer
        if None in shape[1:]:
            raise _unfit(model, f"the size of layer {layer.name} ({kind}) is not known: {shape}")
        units = math.prod(shape[1:])
        title = layer.name if show_layer_names else kind
        if not columns:
            columns.append(Column("input", units, "input", [f"{units:,} {_plural(units, 'number')}"]))
        elif kind == "Dense" and len(shape) == 2:
            column = Column(title, units, "dense", [f"{units:,} {_plural(units, 'unit')}"])
            activation = getattr(layer.activation, "__name__", "linear")
            if activation != "linear":
                column.lines.append(activation)
            before = columns[-1].units
            bias = f" + {units:,}" if layer.use_bias else ""
            column.lines.append(f"{before:,} x {units:,}{bias} = {layer.count_params():,} parameters")
            columns.append(column)
        elif units == columns[-1].units and _keeps_units(layer):
            columns[-1].lines.append(title)
        else:
            raise _unfit(model, f"layer {layer.name} ({kind}) is not dense")
    return columns


def _keeps_units(layer):
    """Whether a layer gives one number for each that comes in, and so has no units of its own."""
    packages = {"activation", "normalization", "regularization"}
    kinds = {"Flatten", "Reshape", "Rescaling", "Identity"}
    return type(layer).__name__ in kinds or not packages.isdisjoint(type(layer).__module__.split("."))


def _unfit(model, why):
    return ValueError(
        f"view='neurons' draws chains of dense layers, and model {model.name} cannot be drawn so: {why}. Use "
        "view='graph', or view='blocks' for a convolutional network."
    )


def draw_neurons(model, options):
    """The `Drawing` of a chain of dense layers."""
    columns = columns_of(model, options.show_layer_names)
    place(columns)
    drawing = Drawing()
    for left, right in pairwise(columns):
        for a in left.places:
            for b in right.places:
                length = math.dist(a, b)
                dx, dy = (b[0] - a[0]) / length * _RADIUS, (b[1] - a[1]) / length * _RADIUS
                drawing.line((a[0] + dx, a[1] + dy), (b[0] - dx, b[1] - dy), "#9aa3b2", 0.8, head=5)
    lowest = max(y for c in columns for _, y in c.places) + _RADIUS
    highest = min(y for c in columns for _, y in c.places) - _RADIUS
    for k, column in enumerate(columns):
        fill, border = COLORS[column.kind]
        x = column.places[0][0]
        drawing.text(x, highest - 16, column.title, 12, bold=True, anchor="middle")
        for (_, y), index in zip(column.places, column.shown, strict=True):
            drawing.circle(x, y, _RADIUS, fill, border)
            if k == 0:
                size = 9 if index < 99 else 7 if index < 9999 else 5
                drawing.text(x, y + 3, f"x{index + 1}", size, anchor="middle")
        if column.elided:
            middle = (column.places[_ENDS - 1][1] + column.places[_ENDS][1]) / 2
            for offset in (-20, -12, -4):
                drawing.circle(x, middle + offset, 1.8, SOFT, "none")
            text = f"{column.elided:,} more"
            drawing.rect(
                x - text_width(text, 10) / 2 - 4, middle + 4, text_width(text, 10) + 8, 16, stroke="none"
            )
            drawing.text(x, middle + 16, text, 10, color=SOFT, anchor="middle")
        for i, line in enumerate(column.lines):
            drawing.text(x, lowest + 24 + 16 * i, line, 11, color=INK if i == 0 else SOFT, anchor="middle")
    return drawing


def place(columns):
    """Sets each column's places: columns as far apart as their texts need, each centred in height."""
    x = 0.0
    for k, column in enumerate(columns):
        if k:
            before = columns[k - 1]
            x += max(_BETWEEN, (_wide(before) + _wide(column)) / 2 + 16)
        gap = 2 * _STEP if column.elided else 0
        count = len(column.shown)
        top = -((count - 1) * _STEP + gap - (_STEP if gap else 0)) / 2
        y, column.places = top, []
        for i in range(count):
            if gap and i == _ENDS:
                y += gap - _STEP
            column.places.append((x, y))
            y += _STEP


def _wide(column):
    return max([text_width(column.title, 12, True), *(text_width(t, 11) for t in column.lines)])


def _plural(count, word):
    return word if count == 1 else word + "s"
