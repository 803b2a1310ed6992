"""The block picture: each feature map as a box to scale, from left to right."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from lamina.layers import ZeroPadding1D, ZeroPadding2D
from lamina.models.tracing import graph_of
from lamina.plot.graph import COLORS, kind_of
from lamina.plot.svg import INK, PAPER, SOFT, Drawing, text_width

_TALLEST, _WIDEST, _LONGEST = 190.0, 70.0, 190.0  # pixels: largest image side, most channels, longest vector
_LEAST = 2.0  # what is smaller than this to scale is drawn as large
_SLANT = (0.42, 0.30)  # how far right and up a box goes for each pixel of depth
_OWN = ("input", "convolutional", "dense", "pooling", "recurrent", "attention")  # kinds with their own block
_FULL = 28  # blocks, above which neighbours of one shape are drawn as one


@dataclass
class Block:
    """What some layers give: `size` is (height, width, channels) of an image, or (units,) of a vector."""

    size: tuple
    kind: str
    names: list = field(default_factory=list)
    is_stage: bool = False  # several shapes with one image size
    is_sequence: bool = False  # of width 1, which goes without saying
    front: tuple = ()  # (left, top, right, bottom) of the near side
    depth: float = 0.0

    @property
    def extent(self):
        """(left, top, right, bottom) with the sides that show."""
        left, top, right, bottom = self.front
        return left, top - self.depth * _SLANT[1], right + self.depth * _SLANT[0], bottom


def blocks_of(model):
    """(the blocks along the main path from an input to an output, how many layers are beside it).

    The main path is the one with most images, then the longest one; where branches are merged it comes from
    one that has the result's shape already, so it passes by what only scales (squeeze and excitation).

    A layer that keeps its input's shape and has no kernel (an activation, a normalisation, dropout) shares
    its input's block. In a deep network all neighbours with one shape do, or, if that is not enough, all with
    one image size, drawn with the most channels that any of them has.

    Raises `ValueError` when the model has no graph, or a tensor is no image, sequence or vector.
    """
    graph = graph_of(model)
    if graph is None:
        raise ValueError(
            f"view='blocks' needs a graph of layers, and the `call` of model {model.name} cannot be followed "
            "without data. Use view='graph'."
        )
    path = _main_path(graph)
    blocks = []
    channels_first = any(getattr(n.operation, "data_format", None) == "channels_first" for n in path)
    for node in path:
        layer, shape = node.operation, node.output_tensors[0].shape
        size = _size(shape, channels_first, layer)
        kind = "padding" if isinstance(layer, (ZeroPadding1D, ZeroPadding2D)) else kind_of(layer)
        plain = kind not in _OWN
        if blocks and blocks[-1].size == size and plain:
            blocks[-1].names.append(layer.name)
        else:
            blocks.append(Block(size, kind, [layer.name], is_sequence=len(shape) == 3))
    # A deep network in fewer blocks: neighbours of one shape as one, then of one image size.
    for same in (lambda b: b.size, lambda b: b.size[:2] if len(b.size) == 3 else b.size):
        if len(blocks) > _FULL:
            blocks = _merge(_with_padding(blocks), same)
    return blocks, len(graph._graph.nodes) - len(path)


def _with_padding(blocks):
    """The blocks, with those of zero padding as a part of what comes after them."""
    joined, waiting = [], []
    for block in blocks:
        if block.kind == "padding":
            waiting += block.names
        else:
            joined.append(replace(block, names=waiting + block.names))
            waiting = []
    return joined if not waiting else blocks


def _merge(blocks, same):
    merged = []
    for block in blocks:
        last = merged[-1] if merged else None
        if last is None or last.kind == "input" or same(last) != same(block):
            merged.append(block)
        else:
            names = last.names + block.names
            stage = last.is_stage or block.is_stage or last.size != block.size
            merged[-1] = replace(last, size=max(last.size, block.size), names=names, is_stage=stage)
    return merged


def _main_path(graph):
    length, before = {}, {}
    for node in graph._graph.nodes:
        parents = [p for p in node.parent_nodes if id(p) in length]
        shape = node.output_tensors[0].shape
        parents = [p for p in parents if p.output_tensors[0].shape == shape] or parents
        last = max(parents, key=lambda p: length[id(p)], default=None)
        images, calls = length[id(last)] if last is not None else (0, 0)
        length[id(node)] = images + (len(shape) > 2), calls + 1
        before[id(node)] = last
    ends = [x._keras_history.operation._inbound_nodes[x._keras_history.node_index] for x in graph.outputs]
    node, path = max(ends, key=lambda n: length[id(n)]), []
    while node is not None:
        path.append(node)
        node = before[id(node)]
    return path[::-1]


def _size(shape, channels_first, layer):
    inner = tuple(shape[1:])
    if channels_first and len(inner) > 1:
        inner = (*inner[1:], inner[0])
    if len(inner) == 2:
        inner = (inner[0], 1, inner[1])
    if len(inner) not in (1, 3):
        raise ValueError(
            f"view='blocks' draws images, sequences and vectors. Layer {layer.name} "
            f"({type(layer).__name__}) gives shape {shape}. Use view='graph'."
        )
    if None in inner:
        raise ValueError(
            f"view='blocks' draws to scale, and layer {layer.name} ({type(layer).__name__}) gives shape "
            f"{shape} with sizes that are not known. Give `Input` a full shape, or use view='graph'."
        )
    return inner


def place(blocks):
    """Sets each block's `front` and `depth`; the middles of all front sides are at height 0."""
    images = [b.size for b in blocks if len(b.size) == 3]
    side = _TALLEST / max((max(s[:2]) for s in images), default=1)
    thick = _WIDEST / max((s[2] for s in images), default=1)
    long = _LONGEST / max((b.size[0] for b in blocks if len(b.size) == 1), default=1)
    x = 0.0
    for block in blocks:
        if len(block.size) == 3:
            height, deep, width = (
                max(n * scale, _LEAST) for n, scale in zip(block.size, (side, side, thick), strict=True)
            )
        else:
            height, deep, width = max(block.size[0] * long, _LEAST), 0.0, 8.0
        across = width + deep * _SLANT[0]
        # The texts below need room as well; they stand around the middle of what shows.
        room = max(max(text_width(t, 11, bold=True) for t in captions(block)) + 14, across + 22)
        left = x + (room - across) / 2
        block.front, block.depth = (left, -height / 2, left + width, height / 2), deep
        x += room


def captions(block):
    """The lines below a block: its size, and the layers that made it."""
    size = " x ".join(f"{n:,}" for n in (block.size[::2] if block.is_sequence else block.size))
    names = block.names if len(block.names) <= 3 else [block.names[0], f"to {block.names[-1]}"]
    more = [f"({len(block.names)} layers)"] if len(block.names) > 3 else []
    return [size, *names, *more]


def draw_blocks(model, options):
    """The `Drawing` of a convolutional network."""
    blocks, beside = blocks_of(model)
    place(blocks)
    drawing = Drawing()
    lowest = max(b.front[3] for b in blocks)
    for before, block in pairwise(blocks):
        start, end = before.extent[2], block.front[0]
        if end - start > 12:
            drawing.line((start + 3, 0), (end - 3, 0), head=5)
    for block in blocks:
        fill, border = COLORS.get(block.kind, COLORS["other"])
        left, top, right, bottom = block.front
        middle = (left + block.extent[2]) / 2
        dx, dy = block.depth * _SLANT[0], -block.depth * _SLANT[1]
        if block.depth:
            drawing.polygon(
                [(left, top), (left + dx, top + dy), (right + dx, top + dy), (right, top)], PAPER, border
            )
            drawing.polygon(
                [(right, top), (right + dx, top + dy), (right + dx, bottom + dy), (right, bottom)],
                fill,
                border,
            )
        drawing.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, border)
        for i, line in enumerate(captions(block)):
            if options.show_shapes if i == 0 else options.show_layer_names:
                color = INK if i == 0 else SOFT
                drawing.text(middle, lowest + 22 + 15 * i, line, 11, i == 0, color, "middle")
    rows = max(len(captions(b)) for b in blocks)
    y = lowest + 22 + 15 * rows + 14
    left = blocks[0].front[0]
    for i, line in enumerate(_filled(_legend(blocks, beside), blocks[-1].extent[2] - left)):
        drawing.text(left, y + 14 * i, line, 10, color=SOFT)
    return drawing


def _filled(sentences, width):
    """Lines of whole sentences, as wide as the picture where that is possible."""
    lines = [""]
    for sentence in sentences:
        longer = f"{lines[-1]} {sentence}".strip()
        if lines[-1] and text_width(longer, 10) > max(width, 400):
            lines.append(sentence)
        else:
            lines[-1] = longer
    return lines


def _legend(blocks, beside):
    parts = []
    if any(b.is_sequence for b in blocks):
        parts.append("Sequences: height is time, width is features.")
    if any(len(b.size) == 3 and not b.is_sequence for b in blocks):
        parts.append("Height and depth: the sides of the image; width: channels.")
    if any(len(b.size) == 1 for b in blocks):
        parts.append("Bars: units of a vector.")
    parts.append("Each to its own scale.")
    if any(b.is_stage for b in blocks):
        parts.append("Layers of one image size are one box with the most channels among them.")
    if beside:
        layers = "1 layer beside it is" if beside == 1 else f"{beside} layers beside it are"
        parts.append(f"The main path; {layers} not drawn.")
    return parts
