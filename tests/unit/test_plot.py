"""Pictures: where things stand, and what is written."""

import itertools
import random
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.plot.blocks import blocks_of, captions
from lamina.plot.blocks import place as place_blocks
from lamina.plot.graph import Options, arrange
from lamina.plot.layout import layout
from lamina.plot.neurons import columns_of
from lamina.plot.neurons import place as place_columns
from lamina.plot.png import to_png
from lamina.plot.svg import Drawing, text_width
from lamina.utils import plot_model

SVG = "{http://www.w3.org/2000/svg}"


def question():
    return lamina.Sequential(
        [
            lamina.Input((3,)),
            layers.Dense(4, activation="relu", name="first"),
            layers.Dense(4, activation="relu", name="second"),
            layers.Dense(1, name="last"),
        ],
        name="question",
    )


def lenet():
    return lamina.Sequential(
        [
            lamina.Input((32, 32, 1)),
            layers.Conv2D(6, 5, activation="tanh", name="c1"),
            layers.AveragePooling2D(name="s2"),
            layers.Conv2D(16, 5, name="c3"),
            layers.Activation("tanh", name="t3"),
            layers.AveragePooling2D(name="s4"),
            layers.Flatten(name="flat"),
            layers.Dense(120, name="c5"),
            layers.Dense(84, name="f6"),
            layers.Dense(10, name="out"),
        ]
    )


def two_branches():
    image, meta = lamina.Input((32, 32, 3), name="image"), lamina.Input((10,), name="meta")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image))
    shared = layers.Dense(8, name="shared")
    y = shared(shared(layers.Dense(8)(meta)))
    z = layers.Concatenate(name="joined")([x, y])
    label = layers.Dense(10, name="label")(layers.Add()([z, layers.Dense(16)(z)]))
    return lamina.Model([image, meta], [label, z])


def nested():
    a, b = lamina.Input((16,), name="a"), lamina.Input((16,), name="b")
    hidden = layers.Dense(8)(layers.Add()([a, b]))
    head = lamina.Model([a, b], [hidden, layers.Dense(2)(hidden)], name="head")
    encoder = lamina.Sequential([lamina.Input((28, 28)), layers.Flatten(), layers.Dense(16)], name="encoder")
    inputs = lamina.Input((28, 28))
    code = encoder(inputs)
    left, right = head([code, layers.Dense(16, name="side")(code)])
    return lamina.Model(inputs, [layers.Dense(3)(left), right])


def residual(blocks=16):
    inputs = x = lamina.Input((32, 32, 8))
    for i in range(blocks):
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x))
        y = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(y))
        shortcut = layers.Conv2D(8, 1)(x) if i % 4 == 0 else x
        x = layers.ReLU()(layers.Add()([y, shortcut]))
    return lamina.Model(inputs, x)


MODELS = [question, lenet, two_branches, nested, residual]


def apart(a, b, margin=0.0):
    """Whether two (left, top, right, bottom) do not overlap."""
    return a[2] <= b[0] + margin or b[2] <= a[0] + margin or a[3] <= b[1] + margin or b[3] <= a[1] + margin


def points_along(path, vertical):
    """Points of the curve that `Drawing.arrow` draws through a path."""
    for (ax, ay), (bx, by) in itertools.pairwise(path):
        for t in np.linspace(0, 1, 25):
            lead, ease = 1.5 * t * (1 - t) + t**3, t * t * (3 - 2 * t)
            across, along = (ease, lead) if vertical else (lead, ease)
            yield ax + across * (bx - ax), ay + along * (by - ay)


def assert_apart(boxes):
    for a, b in itertools.combinations(boxes, 2):
        assert apart(a, b, 1e-6), (a, b)


def elements(picture, tag):
    return ET.fromstring(str(picture)).iter(SVG + tag)


def texts(picture):
    return [e.text for e in elements(picture, "text")]


# ------------------------------------------------------------------------------------------------ the layout


def random_graph(seed):
    r = random.Random(seed)
    count = r.randint(1, 40)
    edges = [(u, v) for u, v in itertools.combinations(range(count), 2) if r.random() < 2.5 / count]
    edges += r.sample(edges, min(2, len(edges)))  # the same tensor twice
    return [(r.uniform(20, 200), r.uniform(20, 90)) for _ in range(count)], edges


@pytest.mark.parametrize("seed", range(60))
def test_boxes_are_apart_and_edges_pass_around_them(seed):
    sizes, edges = random_graph(seed)
    found = layout(sizes, edges)
    frames = [(x - w / 2, y, x + w / 2, y + h) for (w, h), x, y in zip(sizes, found.x, found.y, strict=True)]
    assert_apart(frames)
    assert all(f[0] > -0.01 and f[2] < found.width + 0.01 and f[3] <= found.height for f in frames)
    for (tail, head), path in zip(edges, found.paths, strict=True):
        assert path[0] == pytest.approx((found.x[tail], frames[tail][3]), abs=0.01)
        assert path[-1][1] == frames[head][1]
        assert frames[head][0] < path[-1][0] < frames[head][2]
        assert all(a[1] <= b[1] for a, b in itertools.pairwise(path)), "an edge never goes back up"
        for (ax, ay), (bx, by) in itertools.pairwise(path):
            # A curve stays within the rectangle of its ends.
            passed = (min(ax, bx), ay, max(ax, bx), by)
            for v, frame in enumerate(frames):
                assert v in (tail, head) or apart(passed, frame, 1e-6), (tail, head, v)


def test_arrows_at_one_box_end_apart():
    found = layout([(100, 30)] * 6, [(i, 5) for i in range(5)])
    ends = sorted(path[-1][0] for path in found.paths)
    assert all(b - a > 8 for a, b in itertools.pairwise(ends))


def test_a_chain_is_straight_and_a_skip_runs_straight_beside_it():
    chain = [(i, i + 1) for i in range(9)]
    found = layout([(80, 30)] * 10, [*chain, (2, 7)])
    assert len({round(x, 3) for x in found.x[3:7]}) == 1
    inside = found.paths[-1][2:-1]
    assert len({x for x, _ in inside}) == 1
    assert abs(inside[0][0] - found.x[4]) > 40


def test_no_crossing_where_none_is_needed():
    # Two chains whose vertices are numbered so that they start crossed.
    found = layout([(50, 20)] * 6, [(0, 3), (1, 2), (2, 5), (3, 4)])
    left = found.x[0] < found.x[1]
    assert (found.x[3] < found.x[2]) == left
    assert (found.x[4] < found.x[5]) == left


def test_layout_of_nothing():
    assert layout([], []).height == 0


# -------------------------------------------------------------------------------------------- graph of layers


@pytest.mark.parametrize("rankdir", ["TB", "LR", "BT", "RL"])
@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("make", MODELS)
def test_nothing_overlaps_in_a_graph(make, expand, rankdir):
    options = Options(rankdir=rankdir, expand_nested=expand, show_dtype=True, show_layer_activations=True)

    def check(placed):
        labels = []
        for x, y, text, anchor in placed.texts:
            width = text_width(text, 11)
            left = x - (width / 2 if anchor == "middle" else 0)
            labels.append((left, y - 9, left + width, y + 2))
        assert_apart([*placed.frames, *labels])
        for box, (left, top, right, bottom) in zip(placed.boxes, placed.frames, strict=True):
            assert left > -0.02 and right < placed.width + 0.02
            assert top > -0.02 and bottom < placed.height + 0.02
            if box.inner is None:
                assert all(text_width(t, 12, bold) <= right - left for t, bold, _ in box.lines)
            else:
                assert box.inner.width <= right - left
                assert box.inner.height + 16 <= bottom - top
                check(box.inner)
        for (tail, _, head, _), path in zip(placed.edges, placed.paths, strict=True):
            passed = [f for v, f in enumerate(placed.frames) if v not in (tail, head)] + labels
            for x, y in points_along(path, options.vertical):
                for f in passed:
                    assert not (f[0] < x < f[2] and f[1] < y < f[3]), "an arrow runs over a box or a label"
            for frame, (x, y) in ((placed.frames[tail], path[0]), (placed.frames[head], path[-1])):
                on_side = min(abs(x - frame[0]), abs(x - frame[2])) < 0.02
                on_end = min(abs(y - frame[1]), abs(y - frame[3])) < 0.02
                assert on_end if options.vertical else on_side
                assert frame[0] - 0.02 <= x <= frame[2] + 0.02 and frame[1] - 0.02 <= y <= frame[3] + 0.02

    check(arrange(make(), options))


@pytest.mark.parametrize("rankdir", ["TB", "LR", "BT", "RL"])
def test_rankdir_is_where_arrows_go(rankdir):
    placed = arrange(question(), Options(rankdir=rankdir))
    (ax, ay), (bx, by) = placed.paths[0][0], placed.paths[0][-1]
    assert {"TB": by - ay, "BT": ay - by, "LR": bx - ax, "RL": ax - bx}[rankdir] > 10


def test_a_box_for_each_call_and_an_arrow_for_each_tensor():
    placed = arrange(two_branches(), Options())
    kinds = [type(b.layer).__name__ for b in placed.boxes]
    assert kinds[:2] == ["InputLayer", "InputLayer"]
    assert kinds.count("Dense") == 5  # of four layers: one is called twice
    assert kinds[-2:] == ["NoneType", "NoneType"]  # the outputs
    assert len(placed.edges) == 2 + 3 + 2 + 1 + 2 + 1 + 2  # image, meta, joined, Dense, Add, label, outputs
    lines = [text for box in placed.boxes for text, _, _ in box.lines]
    assert {"call 1 of 2", "call 2 of 2", "output 1", "output 2"} <= set(lines)
    assert placed.frames[0][0] < placed.frames[1][0], "inputs stand in their order"


def test_what_is_written():
    plain = plot_model(question(), None, show_shapes=False, show_layer_names=False)
    assert texts(plain) == ["InputLayer", "Dense", "Dense", "Dense", "output"]
    full = texts(
        plot_model(question(), None, show_dtype=True, show_layer_activations=True, show_trainable=True)
    )
    assert full.count("(None, 4) float32") == 2
    assert full.count("(None, 1) float32") == 1
    assert full.count("relu") == 2
    assert full.count("trainable") == 3
    frozen = question()
    frozen.get_layer("first").trainable = False
    assert texts(plot_model(frozen, None, show_trainable=True)).count("not trainable") == 1


def test_nested_models():
    model = nested()
    closed = texts(plot_model(model, None))
    assert "head" in closed and "a" not in closed
    opened = texts(plot_model(model, None, expand_nested=True))
    assert {"Functional: head", "Sequential: encoder", "a", "b"} <= set(opened)
    placed = arrange(model, Options(expand_nested=True))
    head = next(i for i, b in enumerate(placed.boxes) if b.inner and b.layer.name == "head")
    inner, frame = placed.boxes[head].inner, placed.frames[head]
    inner_left = (frame[0] + frame[2] - inner.width) / 2
    for (_, _, to, k), path in zip(placed.edges, placed.paths, strict=True):
        if to == head:  # each arrow ends above the input that it feeds
            left, _, right, _ = inner.frames[k]
            assert path[-1][0] == pytest.approx(inner_left + (left + right) / 2, abs=0.02)


class Net(lamina.Model):
    """A subclass: it has no graph until its call is followed."""

    def __init__(self, needs_data=False):
        super().__init__(name="net")
        self.first, self.last = layers.Dense(4, name="first"), layers.Dense(2, name="last")
        self.needs_data = needs_data

    def call(self, inputs):
        hidden = self.first(inputs)
        if self.needs_data and float(hidden[0, 0]) > 1e9:
            hidden = hidden * 2
        return self.last(hidden) + 1


def test_the_calls_of_a_subclass_are_followed():
    net = Net()
    with pytest.raises(ValueError, match="not yet been built"):
        plot_model(net, None)
    net(np.ones((2, 3), "float32"))
    written = texts(plot_model(net, None))
    assert written[:7] == ["InputLayer", "input", "Dense", "first", "Dense", "last", "Add"]
    assert written.count("(None, 2)") == 2
    assert net._repr_html_().startswith("<div")
    # Nothing of it is left: no calls remembered, no names used, the same weights.
    assert net.first._inbound_nodes == [] and layers.Add().name == "add"
    outer = lamina.Sequential([lamina.Input((3,)), net])
    assert "first" in texts(plot_model(outer, None, expand_nested=True))


def test_the_neurons_of_a_subclass():
    class Chain(lamina.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, name="dense")

        def call(self, inputs):
            return self.dense(inputs)

    chain = Chain()
    chain.build((None, 3))
    assert "3 x 4 + 4 = 16 parameters" in texts(plot_model(chain, None, view="neurons"))


def test_a_model_that_cannot_be_followed_is_one_box():
    net = Net(needs_data=True)
    net.run_eagerly = True
    net(np.ones((2, 3), "float32"))
    assert texts(plot_model(net, None)) == ["Net", "net"]
    assert net._repr_html_() is None
    for view in ("neurons", "blocks"):
        with pytest.raises(ValueError, match="view='graph'"):
            plot_model(net, None, view=view)


# --------------------------------------------------------------------------------------------------- neurons


def test_the_neurons_of_the_question():
    picture = plot_model(question(), None, view="neurons")
    assert len(list(elements(picture, "circle"))) == 3 + 4 + 4 + 1
    assert len(list(elements(picture, "line"))) == 3 * 4 + 4 * 4 + 4 * 1
    assert len(list(elements(picture, "polygon"))) == 32  # an arrow head for each weight
    written = texts(picture)
    assert {"3 x 4 + 4 = 16 parameters", "4 x 4 + 4 = 20 parameters", "4 x 1 + 1 = 5 parameters"} <= set(
        written
    )
    assert {"input", "first", "second", "last", "x1", "x2", "x3", "3 numbers", "1 unit"} <= set(written)


def test_arrows_of_weights_run_from_circle_to_circle():
    picture = plot_model(question(), None, view="neurons")
    circles = [tuple(float(e.get(k)) for k in ("cx", "cy", "r")) for e in elements(picture, "circle")]
    assert_apart([(x - r, y - r, x + r, y + r) for x, y, r in circles])
    for head in elements(picture, "polygon"):
        x, y = map(float, head.get("points").split()[0].split(","))
        assert min(abs(((x - cx) ** 2 + (y - cy) ** 2) ** 0.5 - r) for cx, cy, r in circles) < 0.05


def test_wide_layers_are_elided_with_their_count():
    model = lamina.Sequential(
        [
            lamina.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(12, name="last"),
        ]
    )
    columns = columns_of(model)
    assert [(c.units, len(c.shown), c.elided) for c in columns] == [(784, 8, 776), (128, 8, 120), (12, 12, 0)]
    assert columns[1].lines[-1] == "drop"
    assert columns[0].shown[-1] == 783
    place_columns(columns)
    for column in columns:
        assert len(column.places) == len(column.shown)
        assert sum(y for _, y in column.places) == pytest.approx(0)  # centred
    picture = plot_model(model, None, view="neurons")
    assert {"776 more", "120 more", "784 numbers", "x784"} <= set(texts(picture))
    assert len(list(elements(picture, "line"))) == 8 * 8 + 8 * 12


def test_texts_below_the_neurons_are_apart():
    columns = columns_of(
        lamina.Sequential([lamina.Input((5000,)), layers.Dense(4000), layers.Dense(3000), layers.Dense(7)])
    )
    place_columns(columns)
    spans = []
    for c in columns:
        half = max(text_width(t, 11) for t in c.lines) / 2
        spans.append((c.places[0][0] - half, 0, c.places[0][0] + half, 1))
    assert_apart(spans)


def test_what_has_no_neurons():
    with pytest.raises(ValueError, match=r"layer c1 \(Conv2D\) is not dense.*view='graph'"):
        plot_model(lenet(), None, view="neurons")
    x = lamina.Input((4,))
    branched = lamina.Model(x, layers.Add(name="sum")([x, layers.Dense(4)(x)]))
    with pytest.raises(ValueError, match=r"layer sum \(Add\) has 2 inputs"):
        plot_model(branched, None, view="neurons")
    with pytest.raises(ValueError, match="one input and one output"):
        plot_model(two_branches(), None, view="neurons")


# ---------------------------------------------------------------------------------------------------- blocks


def test_the_blocks_of_lenet_are_to_scale():
    blocks, beside = blocks_of(lenet())
    assert beside == 0
    assert [b.size for b in blocks] == [
        (32, 32, 1),
        (28, 28, 6),
        (14, 14, 6),
        (10, 10, 16),
        (5, 5, 16),
        (400,),
        (120,),
        (84,),
        (10,),
    ]
    assert captions(blocks[3]) == ["10 x 10 x 16", "c3", "t3"]  # an activation shares its layer's block
    place_blocks(blocks)

    def height(b):
        return b.front[3] - b.front[1]

    assert height(blocks[1]) / height(blocks[2]) == pytest.approx(2)
    assert blocks[1].depth == pytest.approx(height(blocks[1]))
    width = [b.front[2] - b.front[0] for b in blocks]
    assert width[3] / width[2] == pytest.approx(16 / 6)
    assert height(blocks[5]) / height(blocks[6]) == pytest.approx(400 / 120)
    assert_apart([b.extent for b in blocks])
    assert "5 x 5 x 16" in texts(plot_model(lenet(), None, view="blocks"))


def test_captions_of_blocks_are_apart():
    blocks, _ = blocks_of(lenet())
    blocks[4].names = ["a_very_long_name_of_a_layer_that_pools"]
    place_blocks(blocks)
    spans = []
    for b in blocks:
        half = max(text_width(t, 11) for t in captions(b)) / 2
        middle = (b.extent[0] + b.extent[2]) / 2
        spans.append((middle - half, 0, middle + half, 1))
    assert_apart(spans)
    assert_apart([b.extent for b in blocks])


def test_deep_networks_are_drawn_by_stages():
    x = inputs = lamina.Input((64, 64, 3))
    for channels in (8, 16, 32):
        for i in range(8):
            y = layers.Conv2D(channels + i, 3, padding="same")(x)
            x = layers.Conv2D(channels, 3, padding="same")(y)
        x = layers.MaxPooling2D()(x)
    blocks, _ = blocks_of(lamina.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    assert [b.size for b in blocks] == [
        (64, 64, 3),
        (64, 64, 15),
        (32, 32, 23),
        (16, 16, 39),
        (8, 8, 32),
        (32,),
    ]
    assert sum(len(b.names) for b in blocks) == 1 + 48 + 3 + 1
    assert [b.is_stage for b in blocks] == [False, True, True, True, False, False]


def test_the_main_path_passes_by_what_only_scales():
    inputs = lamina.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    scale = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(x))
    scale = layers.Conv2D(6, 1, activation="sigmoid")(scale)
    x = layers.Flatten()(layers.Multiply()([x, scale]))
    blocks, beside = blocks_of(lamina.Model(inputs, x))
    assert [b.size for b in blocks] == [(8, 8, 4), (8, 8, 6), (384,)]
    assert beside == 3


def test_the_main_path_is_that_of_the_images():
    blocks, beside = blocks_of(two_branches())
    assert [b.size for b in blocks[:3]] == [(32, 32, 3), (30, 30, 8), (8,)]
    assert beside == 4  # meta, its Dense, and two calls of the shared one


def test_the_main_path_of_a_branched_network():
    blocks, beside = blocks_of(residual(1))
    assert beside == 1  # the convolution of the shortcut
    assert len(blocks) == 3
    legend = texts(plot_model(residual(1), None, view="blocks"))[-1]
    assert "1 layer beside it is not drawn" in legend


def test_sequences_channels_first_and_what_has_no_blocks():
    model = lamina.Sequential([lamina.Input((20, 4)), layers.Conv1D(6, 3)])
    assert [captions(b)[0] for b in blocks_of(model)[0]] == ["20 x 4", "18 x 6"]
    assert texts(plot_model(model, None, view="blocks"))[-1].startswith("Sequences: height is time")
    reads = lamina.Sequential([lamina.Input((20, 4)), layers.GRU(4, return_sequences=True), layers.Flatten()])
    assert [b.size for b in blocks_of(reads)[0]] == [(20, 1, 4), (20, 1, 4), (80,)]
    first = lamina.Sequential(
        [lamina.Input((3, 16, 12)), layers.Conv2D(4, 3, data_format="channels_first"), layers.Flatten()]
    )
    assert [b.size for b in blocks_of(first)[0]] == [(16, 12, 3), (14, 10, 4), (560,)]
    with pytest.raises(ValueError, match="not known"):
        plot_model(lamina.Sequential([lamina.Input((None, 4)), layers.Conv1D(6, 3)]), None, view="blocks")
    with pytest.raises(ValueError, match="images, sequences and vectors"):
        deep = lamina.Sequential([lamina.Input((2, 2, 2, 2)), layers.Dense(3)])
        plot_model(deep, None, view="blocks")


# ----------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("view", ["graph", "neurons", "blocks"])
def test_everything_lies_on_the_sheet(view, tmp_path):
    path = tmp_path / "model.svg"
    picture = plot_model(question(), path, view=view)
    assert path.read_text() == str(picture)
    root = ET.fromstring(path.read_text())
    assert root.find(SVG + "title").text == "Model question"
    x, y, width, height = map(float, root.get("viewBox").split())
    assert (float(root.get("width")), float(root.get("height"))) == (width, height)
    for e in root.iter(SVG + "text"):
        assert x < float(e.get("x")) < x + width
        assert y < float(e.get("y")) < y + height
    for e in root.iter(SVG + "polygon"):
        for point in e.get("points").split():
            px, py = map(float, point.split(","))
            assert x < px < x + width and y < py < y + height


def test_names_are_escaped():
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1, name="a<b>&c")])
    assert "a<b>&c" in texts(plot_model(model, None))


def test_notebooks_show_a_built_model():
    assert re.match(r"<div .*<svg ", question()._repr_html_())
    assert lamina.Sequential([layers.Dense(2)])._repr_html_() is None


def pixels(png):
    """A PNG of 8 bits a channel as an array (height, width, channels); the format's own filters undone."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        chunks.setdefault(png[at + 4 : at + 8], []).append(png[at + 8 : at + 8 + size])
        at += size + 12
    width, height, depth, color, *_, interlace = struct.unpack(">IIBBBBB", chunks[b"IHDR"][0])
    assert (depth, interlace) == (8, 0)
    step = {2: 3, 6: 4}[color]
    raw = zlib.decompress(b"".join(chunks[b"IDAT"]))
    above, rows = np.zeros((width, step), "uint8"), []
    for y in range(height):
        kind, *line = raw[y * (width * step + 1) : (y + 1) * (width * step + 1)]
        line = np.array(line, "uint8").reshape(width, step)
        if kind == 1:
            line = np.cumsum(line, axis=0, dtype="uint8")
        elif kind == 2:
            line = line + above
        elif kind > 2:
            predict = average if kind == 3 else paeth
            before = corner = np.zeros(step, int)
            for x, over in enumerate(above.astype(int)):
                line[x] = before = (line[x] + predict(before, over, corner)) % 256
                before, corner = before.astype(int), over
        rows.append(line)
        above = line
    return np.stack(rows)


def average(left, over, corner):
    return (left + over) // 2


def paeth(left, over, corner):
    p = left + over - corner
    a, b, c = abs(p - left), abs(p - over), abs(p - corner)
    return np.where((a <= b) & (a <= c), left, np.where(b <= c, over, corner))


@pytest.mark.parametrize("view", ["graph", "neurons", "blocks"])
def test_a_png_has_the_shapes_and_the_texts(view, tmp_path):
    path = tmp_path / "model.png"
    picture = plot_model(question(), path, view=view, dpi=96)
    root = ET.fromstring(str(picture))
    left, top, width, height = map(float, root.get("viewBox").split())
    image = pixels(path.read_bytes())
    assert image.shape[:2] == pytest.approx((height, width), abs=1)
    ink = (image[..., :3] < 128).all(axis=-1)
    assert 0.002 < ink.mean() < 0.2
    for e in root.iter(SVG + "text"):
        anchor, size = e.get("text-anchor", "start"), float(e.get("font-size"))
        width = text_width(e.text, size, e.get("font-weight") == "bold")
        x = float(e.get("x")) - left - (width / 2 if anchor == "middle" else 0)
        y = float(e.get("y")) - top
        box = image[round(y - 0.8 * size) : round(y), round(x) : round(x + width), :3]
        assert box.min() < 170, f"{e.text!r} is not drawn"


def test_text_is_as_wide_in_a_png_as_the_layout_believes():
    drawing = Drawing()
    drawing.text(0, 0, "Dense |W| (None, 224) Ag", 24)
    drawing.text(0, 60, "Dense |W| (None, 224) Ag", 24, bold=True)
    ink = (pixels(to_png(drawing.to_svg("widths"), 96))[..., :3] < 200).all(axis=-1)
    for rows, bold in ((ink[:45], False), (ink[55:], True)):
        columns = np.flatnonzero(rows.any(axis=0))
        drawn, believed = columns[-1] - columns[0], text_width("Dense |W| (None, 224) Ag", 24, bold)
        assert 0.9 * believed < drawn <= believed


def test_dots_per_inch():
    picture = plot_model(question(), None)
    small, large = (struct.unpack(">II", picture.to_png(dpi)[16:24]) for dpi in (96, 192))
    assert large == pytest.approx((2 * small[0], 2 * small[1]), abs=4)


def test_letters_beyond_latin_are_no_error():
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1, name="層")])
    assert len(plot_model(model, None).to_png(96)) > 1000


def test_wrong_arguments(tmp_path):
    for match, arguments in [
        ("must end in .svg", {"to_file": tmp_path / "model.jpg"}),
        ("rankdir", {"to_file": None, "rankdir": "XX"}),
        ("view must be one of", {"to_file": None, "view": "nodes"}),
        ("Unrecognized keyword arguments: {'layer_range'", {"to_file": None, "layer_range": ["a", "b"]}),
    ]:
        with pytest.raises(ValueError, match=match):
            plot_model(question(), **arguments)
