"""The graph of layers: a box for each call of a layer, an arrow for each tensor, its shape beside it."""

from dataclasses import dataclass, field

from lamina.models.functional import Functional
from lamina.models.sequential import Sequential
from lamina.models.tracing import graph_of
from lamina.plot.layout import layout
from lamina.plot.svg import INK, SOFT, Drawing, text_width

# (fill, border) by what a layer does: the package it comes from.
COLORS = {
    "input": ("#eef0f3", "#7b8494"),
    "dense": ("#fdeeda", "#c27a1c"),
    "convolutional": ("#e2edfb", "#2f6fbd"),
    "pooling": ("#e3f5ec", "#2b8a5b"),
    "normalization": ("#f3eafb", "#8250b5"),
    "activation": ("#fde7e9", "#c0434d"),
    "merging": ("#fdf7d4", "#9a8412"),
    "recurrent": ("#dff3f5", "#1b8490"),
    "attention": ("#fbe6f2", "#b0407f"),
    "model": ("#f7f9fc", "#44546a"),
    "other": ("#f4f4f2", "#85827a"),
}
_SIZE, _LINE, _PAD, _LABEL = 12, 16, 10, 11


@dataclass(frozen=True)
class Options:
    """What to draw; the names are those of `plot_model`."""

    show_shapes: bool = True
    show_dtype: bool = False
    show_layer_names: bool = True
    rankdir: str = "TB"
    expand_nested: bool = False
    show_layer_activations: bool = False
    show_trainable: bool = False

    @property
    def vertical(self):
        """Whether the rows stand one below the other."""
        return self.rankdir in ("TB", "BT")


@dataclass
class Box:
    """A box: its lines of text as (text, bold, color), or the picture of a nested model inside.

    An output of the model is a text without a layer and a border.
    """

    layer: object
    lines: list
    labels: list = field(default_factory=list)  # for each tensor that goes out: its text, or None
    inner: object = None
    width: float = 0
    height: float = 0


@dataclass
class Placed:
    """A laid out graph."""

    boxes: list
    edges: list  # (tail box, which of its tensors, head box, which of its inputs)
    frames: list  # for each box (left, top, right, bottom)
    paths: list  # for each edge its points
    texts: list  # (x, y, text, anchor)
    width: float
    height: float


def kind_of(layer):
    """The key of `COLORS` for a layer."""
    name = type(layer).__name__
    if isinstance(layer, (Functional, Sequential)):
        return "model"
    if name == "InputLayer":
        return "input"
    if name in ("Dense", "Embedding", "EinsumDense"):
        return "dense"
    package = type(layer).__module__.split(".")
    return next((p for p in package if p in COLORS), "other")


def arrange(model, options):
    """The boxes of `model` with places; a model whose calls cannot be followed is one box."""
    graph = graph_of(model)
    if graph is None:
        used = {0} if model._inbound_nodes else set()
        return _place([_box(model, None, "", used, options)], [], options)
    return _place(*_calls(graph, options), options)


def draw_graph(model, options):
    """The `Drawing` of `model`."""
    drawing = Drawing()
    draw_placed(drawing, arrange(model, options), 0, 0, options)
    return drawing


def _calls(graph, options):
    """The boxes and edges of a graph: calls from the inputs on, then the outputs."""
    inputs = [_origin(x)[0] for x in graph.inputs]
    nodes = inputs + [node for node in graph._graph.nodes if node not in inputs]
    index = {id(node): i for i, node in enumerate(nodes)}
    edges = []
    for head, node in enumerate(nodes):
        for k, x in enumerate(node.input_tensors):
            tail, i = _origin(x)
            edges.append((index[id(tail)], i, head, k))
    for k, x in enumerate(graph.outputs):
        tail, i = _origin(x)
        edges.append((index[id(tail)], i, len(nodes) + k, 0))
    used = [set() for _ in nodes]
    for tail, i, _, _ in edges:
        used[tail].add(i)
    times = {}
    for node in nodes:
        times.setdefault(id(node.operation), []).append(node)
    boxes = []
    for node, tensors in zip(nodes, used, strict=True):
        calls = times[id(node.operation)]
        which = f"call {calls.index(node) + 1} of {len(calls)}" if len(calls) > 1 else ""
        boxes.append(_box(node.operation, node, which, tensors, options))
    for k in range(len(graph.outputs)):
        text = f"output {k + 1}" if len(graph.outputs) > 1 else "output"
        box = Box(None, [(text, False, SOFT)])
        box.width, box.height = text_width(text, _SIZE) + 4, _LINE + 2
        boxes.append(box)
    return boxes, edges


def _origin(x):
    """The call that made a KerasTensor, and which of its outputs it is."""
    history = x._keras_history
    return history.operation._inbound_nodes[history.node_index], history.tensor_index


def _box(layer, node, which, used, options):
    kind = type(layer).__name__
    lines = [(kind, True, INK)]
    if options.show_layer_names:
        lines.append((layer.name, False, SOFT))
    activation = getattr(layer, "activation", None)
    if options.show_layer_activations and activation is not None:
        lines.append((getattr(activation, "__name__", None) or type(activation).__name__, False, INK))
    if options.show_trainable and getattr(layer, "weights", None):
        lines.append(
            ("trainable", False, "#2b8a5b") if layer.trainable else ("not trainable", False, "#c0434d")
        )
    if which:
        lines.append((which, False, SOFT))
    box = Box(layer, lines)
    nested = options.expand_nested and node is not None and graph_of(layer) is not None
    if nested:
        box.inner = arrange(layer, options)
        title = text_width(_title(box), _SIZE, True)
        box.width = max(box.inner.width, title) + 2 * _PAD
        box.height = box.inner.height + _LINE + 2 * _PAD + 4
    else:
        box.width = max(text_width(t, _SIZE, bold) for t, bold, _ in lines) + 2 * _PAD
        box.height = len(lines) * _LINE + _PAD
    node = node or (layer._inbound_nodes[0] if layer._inbound_nodes else None)
    outputs = node.output_tensors if node is not None else []
    for i, x in enumerate(outputs):
        parts = [str(x.shape)] if options.show_shapes else []
        parts += [x.dtype] if options.show_dtype else []
        box.labels.append(" ".join(parts) if i in used else None)
    return box


def _title(box):
    kind, *rest = [text for text, _, _ in box.lines]
    return f"{kind}: {', '.join(rest)}" if rest else kind


def _place(boxes, edges, options):
    vertical = options.vertical
    sizes, bodies, offsets, stems = [], [], [], []
    for box in boxes:
        # Tensors leave a box side by side, each with room for its label.
        labels = [
            (i, text, text_width(text, _LABEL)) for i, text in enumerate(box.labels) if text is not None
        ]
        shown = any(text for _, text, _ in labels)
        if vertical:
            slots = [w + 16 for _, _, w in labels]
            stem = _LABEL + 8 if shown else 6 if len(labels) > 1 else 0
        else:
            slots = [_LABEL + 8 for _ in labels]
            stem = max(w for _, _, w in labels) + 14 if shown else 6 if len(labels) > 1 else 0
        offset, place = {}, -sum(slots) / 2
        for (i, _, _), slot in zip(labels, slots, strict=True):
            offset[i] = 0.0 if len(slots) == 1 else place + 6 if vertical else place + slot - 4
            place += slot
        if len(slots) > 1 and vertical:
            box.width = max(box.width, sum(slots))
        elif len(slots) > 1:
            box.height = max(box.height, sum(slots))
        across, along = (box.width, box.height) if vertical else (box.height, box.width)
        bodies.append(across)
        if len(slots) == 1 and shown:  # a label beside the middle
            across = max(across, 2 * slots[0])
        sizes.append((across, along + stem))
        offsets.append(offset)
        stems.append(stem)

    lengths = [(b.height if vertical else b.width) for b in boxes]
    starts = [(offsets[tail][i], lengths[tail]) for tail, i, _, _ in edges]
    ends = [_inner_end(boxes[head], k, vertical) for _, _, head, k in edges]
    found = layout(sizes, [(tail, head) for tail, _, head, _ in edges], starts, bodies, ends)

    def turn(across, along):
        if options.rankdir in ("BT", "RL"):
            along = found.height - along
        return (across, along) if vertical else (along, across)

    frames, texts = [], []
    for v, box in enumerate(boxes):
        x, y = found.x[v], found.y[v]
        a, b = turn(x - bodies[v] / 2, y), turn(x + bodies[v] / 2, y + lengths[v])
        frames.append((min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])))
        for i, offset in offsets[v].items():
            middle_x, middle_y = turn(x + offset, y + lengths[v] + stems[v] / 2)
            if box.labels[i] and vertical:
                texts.append((middle_x + 6, middle_y + 4, box.labels[i], "start"))
            elif box.labels[i]:
                texts.append((middle_x, middle_y - 5, box.labels[i], "middle"))
    width, height = (found.width, found.height) if vertical else (found.height, found.width)
    paths = [[turn(*p) for p in path] for path in found.paths]
    return Placed(list(boxes), edges, frames, paths, texts, width, height)


def _inner_end(box, k, vertical):
    """Where input `k` of a drawn nested model stands, from the middle of its box."""
    if box.inner is None:
        return None
    left, top, right, bottom = box.inner.frames[k]  # inputs come first
    if vertical:
        return (left + right) / 2 - box.inner.width / 2
    return _inner_top(box) + (top + bottom) / 2 - box.height / 2


def _inner_top(box):
    """How far below the frame of a nested model its picture begins."""
    return _LINE + _PAD + 4 + (box.height - box.inner.height - _LINE - 2 * _PAD - 4) / 2


def draw_placed(drawing, placed, x, y, options):
    """Draws a laid out graph with its upper left corner at (x, y)."""

    def at(points):
        return [(a + x, b + y) for a, b in points]

    for path in placed.paths:
        drawing.arrow(at(path), options.vertical)
    for box, (left, top, right, bottom) in zip(placed.boxes, placed.frames, strict=True):
        left, top, right, bottom = left + x, top + y, right + x, bottom + y
        if box.layer is not None:
            fill, border = COLORS[kind_of(box.layer)]
            drawing.rect(left, top, right - left, bottom - top, fill, border, dashed=box.inner is not None)
        if box.inner is not None:
            drawing.text(left + _PAD, top + _LINE, _title(box), _SIZE, bold=True)
            inner_left = left + (right - left - box.inner.width) / 2
            draw_placed(drawing, box.inner, inner_left, top + _inner_top(box), options)
            continue
        first = (top + bottom - len(box.lines) * _LINE) / 2 + _SIZE
        for i, (text, bold, color) in enumerate(box.lines):
            drawing.text((left + right) / 2, first + i * _LINE, text, _SIZE, bold, color, "middle")
    for a, b, text, anchor in placed.texts:
        drawing.text(a + x, b + y, text, _LABEL, color="#2f4a7a", anchor=anchor)
