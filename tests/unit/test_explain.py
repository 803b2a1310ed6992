"""`explain()`: every formula that it writes is true, and ends at the shape that the layer makes."""

import math
import re

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.errors import ShapeError


def text_of(explanation):
    """The sentences, with single spaces."""
    return " ".join(str(explanation).split())


FORMULA = re.compile(r"(?:(?:floor|ceil|max|[\d*+\-/() ,])+ = )+[\d,]*\d(?![\d ]*[*(/])")


def check_formulas(text):
    """Works out every `a = b = c` made of numbers; returns how many there are."""
    found = 0
    for match in FORMULA.findall(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)):
        sides = [s.strip(" ,") for s in match.split(" = ")]
        values = []
        for side in sides:
            while side.count(")") > side.count("("):  # what comes before the formula in the sentence
                side = side.split(")", 1)[1].strip(" ,")
            value = eval(side, {"floor": math.floor, "ceil": math.ceil, "max": max})
            values.append(math.prod(value) if isinstance(value, tuple) else value)
        assert len(set(values)) == 1, match
        found += 1
    return found


CASES = [
    (layers.Dense(4), (3,)),
    (layers.Dense(15), (5, 3)),
    (layers.Dense(2, use_bias=False), (4, 5, 6)),
    *[
        (kind(size, strides=s, padding=p, dilation_rate=d), (11, 3))
        for kind in (lambda *a, **k: layers.Conv1D(4, *a, **k), layers.DepthwiseConv1D)
        for p in ("valid", "same", "causal")
        for size, s, d in ((3, 1, 1), (4, 3, 1), (3, 1, 2), (1, 2, 1))
        if p != "causal" or kind is not layers.DepthwiseConv1D
    ],
    *[
        (layers.Conv2D(8, size, strides=s, padding=p, data_format=f), (10, 9, 12))
        for p in ("valid", "same")
        for f in ("channels_last", "channels_first")
        for size, s in ((3, 1), ((2, 5), (1, 3)))
    ],
    (layers.Conv2D(8, 3, groups=2, activation="relu"), (9, 9, 4)),
    (layers.SeparableConv2D(8, 3, depth_multiplier=2), (9, 9, 4)),
    *[
        (layers.Conv1DTranspose(4, size, strides=s, padding=p), (10, 3))
        for p in ("valid", "same")
        for size, s in ((3, 1), (2, 3), (5, 2))
    ],
    *[
        (kind(size, strides=s, padding=p), (11, 10, 3))
        for kind in (layers.MaxPooling2D, layers.AveragePooling2D)
        for p in ("valid", "same")
        for size, s in ((2, None), (3, 2), ((1, 4), (1, 3)))
    ],
    (layers.GlobalAveragePooling2D(), (8, 8, 3)),
    (layers.GlobalMaxPooling1D(keepdims=True), (8, 3)),
    (layers.Flatten(), (4, 4, 64)),
    (layers.Flatten(), (4,)),
    (layers.Reshape((-1, 2, 2)), (12,)),
    (layers.Reshape((3, 4)), (12,)),
    (layers.Permute((2, 1)), (4, 5)),
    (layers.RepeatVector(3), (4,)),
    (layers.ZeroPadding2D(((0, 1), (2, 3))), (5, 5, 3)),
    (layers.Cropping1D((1, 2)), (9, 3)),
    (layers.UpSampling2D((2, 3)), (5, 5, 3)),
    (layers.UpSampling1D(2), (5, 3)),
    (layers.Embedding(1000, 16, mask_zero=True), (400,)),
    (layers.BatchNormalization(), (8, 8, 16)),
    (layers.LayerNormalization(), (5, 16)),
    (layers.GroupNormalization(4), (8, 8, 16)),
    (layers.RMSNormalization(), (16,)),
    (layers.UnitNormalization(), (16,)),
    (layers.Dropout(0.5), (16,)),
    (layers.SpatialDropout2D(0.5), (8, 8, 3)),
    (layers.GaussianNoise(0.5), (16,)),
    (layers.Activation("relu"), (16,)),
    (layers.Softmax(), (16,)),
    (layers.PReLU(), (16,)),
    (layers.Rescaling(1 / 255), (16,)),
    (layers.Conv2DTranspose(4, (3, 5), strides=(2, 3), padding="same"), (5, 5, 3)),
    (layers.Conv2DTranspose(4, 3, strides=3, output_padding=1), (5, 5, 3)),
    (layers.Conv2D(4, 3, dilation_rate=(1, 3)), (9, 9, 3)),
    (layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2), (9, 9, 3)),
    (layers.DepthwiseConv2D(3, padding="same", use_bias=False), (9, 9, 1)),
    (layers.SeparableConv1D(8, 3), (9, 3)),
    (layers.AveragePooling1D(3), (9, 3)),
    (layers.MaxPooling1D(3, padding="same"), (10, 3)),
    (layers.GlobalAveragePooling1D(), (8, 3)),
    (layers.GlobalMaxPooling2D(), (8, 8, 3)),
    (layers.ZeroPadding1D(2), (8, 3)),
    (layers.Cropping2D(1), (8, 8, 3)),
    (layers.UpSampling2D(2, interpolation="bilinear"), (4, 4, 3)),
    (layers.SpatialDropout1D(0.5), (8, 3)),
    (layers.GaussianDropout(0.25), (16,)),
    (layers.AlphaDropout(0.25), (16,)),
    (layers.ReLU(6.0, negative_slope=0.1, threshold=1.0), (16,)),
    (layers.LeakyReLU(0.2), (16,)),
    (layers.ELU(), (16,)),
    (layers.PReLU(shared_axes=[1, 2]), (4, 4, 3)),
    (layers.Softmax(axis=[1, 2]), (4, 3)),
    (layers.LayerNormalization(axis=[1, 2]), (4, 3)),
    (layers.GroupNormalization(-1), (4, 4, 6)),
    (layers.BatchNormalization(scale=False), (16,)),
    (layers.Identity(), (16,)),
    (layers.ActivityRegularization(l2=0.1), (16,)),
    (layers.Normalization(), (16,)),
    (layers.CategoryEncoding(7), (3,)),
    (layers.Embedding(9, 2), (3, 4)),
    (layers.Masking(), (5, 3)),
    (layers.Lambda(lambda x: x[:, :2]), (5,)),
    (layers.EinsumDense("abc,cde->abde", (5, 2, 7), bias_axes="e"), (5, 3)),
    (layers.SimpleRNN(4), (5, 3)),
    (layers.LSTM(4, return_sequences=True), (5, 3)),
    (layers.GRU(1, go_backwards=True), (5, 3)),
    (layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)]), (5, 3)),
    (layers.Bidirectional(layers.GRU(4)), (5, 3)),
    (layers.TimeDistributed(layers.Conv2D(4, 2)), (5, 8, 8, 3)),
]


@pytest.mark.parametrize(
    ("layer", "shape"), CASES, ids=lambda v: type(v).__name__ if isinstance(v, layers.Layer) else str(v)
)
def test_every_layer_explains_itself(layer, shape):
    text = text_of(layer.explain(shape))
    assert not layer.built or not layer.weights  # explaining does not build
    output = layer(lamina.Input(shape)).shape
    assert f"{(None, *shape)} -> {output}" in text
    assert np.shape(layer(np.ones((2, *shape), layer.input_dtype))) == (2, *output[1:])  # that is the truth
    assert "?" not in text
    formulas = check_formulas(text)
    assert formulas >= len(layer.weights)
    if layer.weights:
        assert f"{layer.count_params():,}" in text.split("Weights: ")[1]
    else:
        assert text.endswith("No weights.")


MERGES = [
    (layers.Add(), [(4,), (4,)], "It adds 2 inputs, position by position. All inputs have the shape (None"),
    (layers.Subtract(), [(4,), (4,)], "It subtracts the second input from the first"),
    (layers.Average(), [(4,), (4,), (4,)], "It takes the mean of 3 inputs"),
    (layers.Maximum(), [(4,), (4,)], "It takes the largest of 2 inputs"),
    (layers.Minimum(), [(4,), (4,)], "It takes the smallest of 2 inputs"),
    (layers.Multiply(), [(5, 4), (1, 4)], "Sizes of 1 are repeated to fit"),
    (layers.Concatenate(), [(4,), (5,)], "along axis 1 (features): 4 + 5 = 9"),
    (layers.Concatenate(axis=1), [(4, 2), (5, 2)], "along axis 1 (time): 4 + 5 = 9"),
    (layers.Dot(1), [(4,), (4,)], "axis 1 of the first and axis 1 of the second"),
    (layers.Attention(), [(5, 4), (6, 4)], "5 steps of the query is compared with 6 steps of the value"),
    (layers.AdditiveAttention(), [(5, 4), (6, 4)], "as many steps as in the query, each with the 4 features"),
]
# Layers whose call takes one argument for each input.
HEADS = [
    (layers.MultiHeadAttention(2, 4), [(5, 8), (6, 3)], "2 heads side by side"),
    (layers.GroupQueryAttention(4, 8, 2), [(5, 8), (6, 3)], "2 heads only, shared by 4 each"),
]
# Parts of layers, which are explained with these.
CELLS = [layers.SimpleRNNCell(2), layers.LSTMCell(2), layers.GRUCell(2), layers.StackedRNNCells([])]


@pytest.mark.parametrize(("layer", "shapes", "words"), MERGES)
def test_merges(layer, shapes, words):
    text = text_of(layer.explain(shapes))
    output = layer([lamina.Input(s) for s in shapes]).shape
    assert words in text
    assert f"-> {output}" in text
    assert np.shape(layer([np.ones((2, *s), "float32") for s in shapes])) == (2, *output[1:])
    check_formulas(text)


@pytest.mark.parametrize(("layer", "shapes", "words"), HEADS)
def test_attention_of_heads(layer, shapes, words):
    text = text_of(layer.explain(shapes))
    query, value = (np.ones((2, *s), "float32") for s in shapes)
    output = np.shape(layer(query, value))
    assert words in text
    assert f"-> (None, {output[1]}, {output[2]})" in text
    assert f"{layer.count_params():,}" in text
    check_formulas(text)
    assert "`query/kernel` (8, " in text
    assert "(None, 7, 8) and (None, 7, 8) -> (None, 7, 8)" in text_of(type(layer)(4, 8, 2).explain((7, 8)))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_a_cell_is_explained_by_its_layer(cell):
    with pytest.raises(ValueError, match=rf"one step of a recurrent layer.*RNN\({type(cell).__name__}"):
        cell.explain((3,))


def test_a_call_that_needs_more_shapes_says_which():
    with pytest.raises(ValueError, match=r"query and value.*`layer.explain\(\[\(5, 3\), \(5, 3\)\]\)`"):
        layers.MultiHeadAttention(2, 4).explain([(5, 8)])


def test_no_layer_is_left_out():
    public = {v for v in vars(layers).values() if isinstance(v, type) and issubclass(v, layers.Layer)}
    explained = {type(case[0]) for case in CASES + MERGES + HEADS} | {type(cell) for cell in CELLS}
    assert public - explained - {layers.Layer, layers.InputLayer, layers.Wrapper} == set()


def test_the_network_of_the_question():
    model = lamina.Sequential(
        [
            lamina.Input((3,)),
            layers.Dense(4, activation="relu", name="one"),
            layers.Dense(4, activation="relu", name="two"),
            layers.Dense(1, name="three"),
        ],
        name="question",
    )
    text = text_of(model.explain())
    for words in (
        "Model 'question' turns (None, 3) into (None, 1), in 3 layers with 41 weights = 16 + 20 + 5.",
        "`Input((3,))` says that each sample is 3 numbers: (None, 3) = (batch, features).",
        "1. Dense 'one' (None, 3) -> (None, 4)",
        "`units=4` is how many values come out along the last axis. Each of the 4 units is connected to all "
        "3 features",
        "So 3 features become 4 units: (None, 3) -> (None, 4).",
        "The activation relu works on each value by itself (negative values become 0); the shape stays.",
        "Weights: `kernel` (3, 4) = 3*4 = 12, `bias` (4,) = 4. Together 3*4 + 4 = 16.",
        "In from 'one': (None, 4) = (batch, features).",
        "Together 4*1 + 1 = 5.",
    ):
        assert words in text
    assert check_formulas(text) == 9


def test_the_two_dense_15():
    rows, flat = (text_of(layers.Dense(15).explain(shape)) for shape in ((5, 3), (15,)))
    assert "(None, 5, 3) -> (None, 5, 15)" in rows
    assert "does not flatten: each sample is 5 rows of 3 values" in rows
    assert "`kernel` (3, 15) = 3*15 = 45" in rows
    assert "put a `Flatten()` before: the kernel would be (15, 15) and the output (None, 15)" in rows
    assert "So 15 features become 15 units: (None, 15) -> (None, 15)." in flat
    assert "`kernel` (15, 15) = 15*15 = 225" in flat
    assert "flatten" not in flat


def test_convolution_says_each_padding_with_its_numbers():
    for padding, words in (
        ("valid", "time = floor((10 - 3) / 2) + 1 = 4"),
        ("same", "time = ceil(10 / 2) = 5"),
        ("causal", "time = ceil(10 / 2) = 5"),
    ):
        assert words in text_of(layers.Conv1D(4, 3, strides=2, padding=padding).explain((10, 3)))
    text = text_of(layers.Conv1D(4, 3, padding="causal").explain((10, 3)))
    assert "puts 2 zeros before the first step" in text
    text = text_of(layers.Conv2D(4, 3, padding="same", strides=2).explain((10, 10, 3)))
    assert "Added here: 0 before and 1 after along height and width." in text


def test_an_unknown_size_stays_a_formula():
    text = text_of(layers.Conv1D(4, 3).explain((None, 3)))
    assert "time = ? - 3 + 1, known when data comes" in text


def test_shared_layers_branches_and_nested_models():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    shared = layers.Dense(4, name="shared")
    inner = lamina.Sequential([lamina.Input((4,)), layers.Dense(2, name="inside")], name="inner")
    model = lamina.Model([a, b], inner(layers.Add()([shared(a), shared(b)])) * 2.0)
    text = text_of(model.explain())
    assert "turns (None, 3) and (None, 3) into (None, 2)" in text
    assert "with 26 weights = 16 + 10." in text
    assert "It is layer 1 again, with the same weights: they count once." in text
    assert "In from 'shared' and 'shared': each (None, 4) = (batch, features)." in text
    assert "4. Sequential 'inner'" in text and "4.1. Dense 'inside' (None, 4) -> (None, 2)" in text
    assert "The function `Multiply`" in text
    assert "inside" not in text_of(model.explain(expand_nested=False))


def test_a_branch_is_told_to_its_end():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    x = layers.Dense(4, name="a2")(layers.Dense(4, name="a1")(a))
    y = layers.Dense(4, name="b3")(layers.Dense(4, name="b2")(layers.Dense(4, name="b1")(b)))
    text = text_of(lamina.Model([a, b], layers.Add(name="sum")([x, y])).explain())
    order = re.findall(r"(?:InputLayer|Dense|Add) '(\w+)' \(", text)
    assert " ".join(order) in ("a a1 a2 b b1 b2 b3 sum", "b b1 b2 b3 a a1 a2 sum")


def test_subclassed_models_and_layers():
    class Double(layers.Layer):
        def call(self, x):
            return x * 2

    class Net(lamina.Model):
        def __init__(self):
            super().__init__()
            self.d, self.own = layers.Dense(4, name="d"), Double(name="own")

        def call(self, x):
            return self.own(self.d(x))

    net = Net()
    with pytest.raises(ValueError, match=r"not built: its input shape is unknown.*model.explain"):
        net.explain()
    text = text_of(net.explain((3,)))
    assert not net.built
    assert "1. Dense 'd' (None, 3) -> (None, 4)" in text
    assert "Double 'own'" in text and "The shape stays." in text


def test_a_subclass_is_told_in_the_order_of_its_calls():
    class Net(lamina.Model):
        def __init__(self):
            super().__init__(name="net")
            self.last = layers.Dense(2, name="last")
            self.first = layers.Dense(4, name="first")

        def call(self, inputs):
            return self.last(self.first(self.first(inputs)))

    net = Net()
    net(np.ones((2, 4), "float32"))
    text = text_of(net.explain())
    assert "turns (None, 4) into (None, 2), in 2 layers with 30 weights" in text
    assert "1. Dense 'first' (None, 4) -> (None, 4)" in text
    assert "It is layer 1 again" in text
    assert "3. Dense 'last' (None, 4) -> (None, 2) In from 'first'" in text


def test_a_layer_that_was_called_needs_no_input_shape():
    layer = layers.Dense(4)
    layer(np.ones((2, 3), "float32"))
    assert text_of(layer.explain()) == text_of(layer.explain((3,)))
    assert "(None, 7, 3) -> (None, 7, 4)" in text_of(layer.explain((7, 3)))
    layer(lamina.Input((5, 3)))
    assert "(None, 5, 3) -> (None, 5, 4)" in text_of(layer.explain())


def test_a_layer_with_a_function_of_its_own_is_explained_on_a_copy():
    class Own(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1],), name="w")

        def call(self, x):
            return self.function(x * self.w)

    layer = Own(lamina.ops.relu)
    assert "Weights: `w` (3,) = 3." in text_of(layer.explain((3,)))
    assert not layer.built


def test_flatten_over_an_unknown_axis():
    assert "?*3 values" in text_of(layers.Flatten().explain((None, 3)))


def test_frozen_weights_are_said():
    layer = layers.Dense(4, trainable=False)
    assert "They are frozen" in text_of(layer.explain((3,)))
    assert "learns 16 of them" in text_of(layers.BatchNormalization().explain((8,)))


def test_the_fixed_batch_is_said():
    model = lamina.Sequential([lamina.Input(batch_shape=(30, 50, 50, 3)), layers.Conv2D(8, 3)])
    assert "always 30 samples at once" in text_of(model.explain())


def test_errors():
    with pytest.raises(ValueError, match=r"unknown.*layer.explain\(\(3,\)\)"):
        layers.Dense(4).explain()
    with pytest.raises(ValueError, match=r"`\(3,\)`"):
        layers.Dense(4).explain(3)
    with pytest.raises(ShapeError, match="channels"):
        layers.Conv2D(4, 3).explain((28, 28))


def test_html_and_plain_values():
    explanation = layers.Dense(4, name="<i>").explain((3,))
    html = explanation._repr_html_()
    assert "&lt;i&gt;" in html and "<code>kernel</code>" in html and "<i>" not in html
    assert explanation.to_dict()["layers"][0]["shapes"] == "(None, 3) -> (None, 4)"
    assert repr(explanation) == str(explanation)
    assert max(map(len, str(explanation).splitlines())) <= 100
