"""Layers that cannot take what they are given: sizes, axes, arguments, and things that are no tensors."""

import pickle

import numpy as np
import pytest

import lamina
from lamina import Input, layers, ops
from lamina.errors import ShapeError


def zeros(*shape):
    return np.zeros(shape, "float32")


def ways_to_call(layer, shape):
    """On a symbolic input, in a stack, and on data."""
    return {
        "symbolic": lambda: layer(Input(shape, name="photos")),
        "stack": lambda: lamina.Sequential([Input(shape, name="photos"), layer]),
        "data": lambda: layer(zeros(2, *(size or 3 for size in shape))),
    }


every_way = pytest.mark.parametrize("way", ["symbolic", "stack", "data"])

# Layers over time (rank 1) and images (rank 2), with the least arguments.
SPATIAL = {
    f"{kind}{rank}D{tail}": (kind, rank, tail, arguments)
    for rank in (1, 2)
    for kind, tail, arguments in (
        ("Conv", "", (3, 2)),
        ("Conv", "Transpose", (3, 2)),
        ("SeparableConv", "", (3, 2)),
        ("DepthwiseConv", "", (2,)),
        ("MaxPooling", "", (2,)),
        ("AveragePooling", "", (2,)),
        ("GlobalMaxPooling", "", ()),
        ("GlobalAveragePooling", "", ()),
        ("ZeroPadding", "", (1,)),
        ("Cropping", "", (1,)),
        ("UpSampling", "", (2,)),
        ("SpatialDropout", "", (0.5,)),
    )
}


def spatial(name, **kwargs):
    kind, rank, tail, arguments = SPATIAL[name]
    return getattr(layers, f"{kind}{rank}D{tail}")(*arguments, name="fails", **kwargs), rank


# ------------------------------------------------------------------------- 6: the channel axis is missing

# Layers over time that do not care where the channels stand have no data format to speak of.
NO_LAYOUT = ("ZeroPadding1D", "Cropping1D", "UpSampling1D", "SpatialDropout1D")


@every_way
@pytest.mark.parametrize("name", SPATIAL)
def test_no_channels(name, way, reads):
    layer, rank = spatial(name)
    sizes = (28, 20)[:rank]
    axes = ("time",) if rank == 1 else ("height", "width")
    error = reads(
        ways_to_call(layer, sizes)[way],
        "'fails'",
        f"({', '.join(('batch', *axes))})",
        "`x[..., None]`",
        "if this is one sample",
        first=f"ndim={rank + 2}, found ndim={rank + 1}",
        untouched=[layer],
    )
    assert error.layer is layer
    if hasattr(layer, "data_format"):
        assert error.cause == "the channel axis is missing"
        assert f"`Input({(*sizes, 1)})`" in error.fix
    if way != "data":
        assert "fed by 'photos'" in str(error)


def test_no_channels_in_front(reads):
    layer = layers.Conv2D(3, 2, data_format="channels_first")
    reads(lambda: layer(Input((28, 20))), "`Input((1, 28, 20))` and `x[:, None]`", "(batch, height, width)")


# ------------------------------------------------ 9: channels where the other data format has them


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: layers.Conv2D(4, 2, **k),
        lambda **k: layers.Conv2DTranspose(4, 2, **k),
        lambda **k: layers.SeparableConv2D(4, 2, **k),
        lambda **k: layers.DepthwiseConv2D(2, **k),
        layers.BatchNormalization,
        layers.Dense,
    ],
    ids=["Conv2D", "Conv2DTranspose", "SeparableConv2D", "DepthwiseConv2D", "BatchNormalization", "Dense"],
)
def test_channels_in_front(make, reads):
    layer = make(units=2) if make is layers.Dense else make()
    layer(zeros(2, 28, 20, 3))
    error = reads(
        lambda: layer(zeros(2, 3, 28, 20)),
        "axis 1 holds the 3 channels (channels_first data)",
        "`np.moveaxis(x, 1, -1)`",
        first="expected axis -1 of input shape to have value 3",
        untouched=[layer],
    )
    setting = {layers.BatchNormalization: "`axis=1`", layers.Dense: ""}.get(
        make, '`data_format="channels_first"`'
    )
    assert setting in error.fix


def test_channels_at_the_end(reads):
    layer = layers.Conv2D(4, 2, data_format="channels_first")
    layer(zeros(2, 3, 28, 20))
    reads(
        lambda: layer(zeros(2, 28, 20, 3)),
        "axis 3 holds the 3 channels (channels_last data)",
        '`np.moveaxis(x, -1, 1)`, or `data_format="channels_last"`',
        "(batch, channels, height, width)",
    )


# --------------------------------------------------------------- 10: nothing left for a window

WINDOWS = [n for n in SPATIAL if n.startswith(("Conv", "Sep", "Depth", "Max", "Average")) and "Tr" not in n]


def too_small(name):
    """A stack that shrinks 28 to 5 (13 after the first pooling), and then a window of 6."""
    _, rank, _, arguments = SPATIAL[name]
    conv, pool = (getattr(layers, f"{what}{rank}D") for what in ("Conv", "MaxPooling"))
    window = getattr(layers, name)(*arguments[:-1], 6, name="fails")
    stack = [
        conv(2, 3, name="one"),
        pool(2, name="two"),
        layers.Activation("relu", name="silent"),
        conv(2, 3, name="three"),
        pool(2, name="four"),
        window,
    ]
    trail = " -> ".join(
        f"{layer} {'x'.join([size] * rank)}".strip()
        for layer, size in (("", "28"), ("one", "26"), ("two", "13"), ("three", "11"), ("four", "5"))
    )
    return rank, stack, f"{trail} -> fails"


@pytest.mark.parametrize("form", ["sequential", "add", "functional", "data"])
@pytest.mark.parametrize("name", WINDOWS)
def test_nothing_left(name, form, reads):
    rank, stack, trail = too_small(name)
    shape = (28,) * rank + (1,)

    def functional():
        x = Input(shape)
        for layer in stack:
            x = layer(x)

    def add():
        model = lamina.Sequential([Input(shape), *stack[:-1]])
        model.add(stack[-1])

    def data():  # sizes that only the data tells
        x = start = Input((None,) * rank + (1,))
        for layer in stack:
            x = layer(x)
        lamina.Model(start, x)(zeros(2, *shape))

    calls = {"functional": functional, "add": add, "data": data}
    calls["sequential"] = lambda: lamina.Sequential([Input(shape), *stack])
    error = reads(
        calls[form],
        "'fails'",
        "fed by 'four' (MaxPooling",
        "the window covers 6 and the input has 5",
        "(5 - 6) / ",
        f"sizes: {trail}",
        'padding="same"',
        first="Computed output size would be zero or negative",
    )
    assert error.trail == trail
    assert error.axes[0] == "batch" and error.axes[-1] == "channels"
    if form != "data":
        assert not stack[-1].built and not stack[-1].weights


def test_the_formula_has_the_dilation(reads):
    reads(
        lambda: layers.Conv1D(2, 3, dilation_rate=4)(Input((8, 1))),
        "output time = floor((8 - 4 * (3 - 1) - 1) / 1) + 1 = 0: the window covers 9 and the input has 8",
        "expected: time >= 9",
    )


def test_the_trail_of_channels_first(reads):
    first = {"data_format": "channels_first"}
    stack = [layers.Conv2D(2, 3, name="one", **first), layers.MaxPooling2D(9, name="two", **first)]
    error = reads(lambda: lamina.Sequential([Input((1, 10, 12)), *stack]), "height >= 9")
    assert error.trail == "10x12 -> one 8x10 -> two"
    assert error.axes == ("batch", "channels", "height", "width")


def test_a_long_trail_loses_its_middle(reads):
    stack = [layers.Conv1D(1, 2, name=f"c{i}") for i in range(30)]
    error = reads(lambda: lamina.Sequential([Input((20, 1)), *stack]), " -> ... -> ")
    assert error.trail.startswith("20 -> c0 19 -> ...") and error.trail.endswith("c18 1 -> c19")


@pytest.mark.parametrize("rank", [1, 2])
def test_nothing_left_to_crop(rank, reads):
    layer = getattr(layers, f"Cropping{rank}D")(3)
    reads(
        lambda: layer(Input((5,) * rank + (1,))),
        "nothing would be left: 5 - 3 - 3 = -1",
        first="should be smaller than the corresponding spatial dimension",
    )


# ------------------------------------------------------------------------------ 11: an unknown axis


@pytest.mark.parametrize(
    ("shape", "pooling", "axes"),
    [
        ((None, None, 3), "GlobalAveragePooling2D", "axes 1 and 2"),
        ((28, None, 3), "GlobalAveragePooling2D", "axis 2"),
        ((None, 3), "GlobalAveragePooling1D", "axis 1"),
    ],
)
def test_dense_behind_flatten(shape, pooling, axes, reads):
    dense = layers.Dense(3, name="dense")
    error = reads(
        lambda: dense(layers.Flatten(name="flat")(layers.Activation("relu")(Input(shape, name="photos")))),
        "fed by 'flat' (Flatten)",
        f"it comes from the unknown {axes} of 'photos' {(None, *shape)}",
        f"`{pooling}()` for 'flat'",
        first="The features axis (axis -1) of the inputs should be defined. Found `None`.",
        untouched=[dense],
    )
    assert error.trail.endswith("flat ? -> dense")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dense(3), (None,)),
        (lambda: layers.Dense(3), (5, None)),
        (layers.BatchNormalization, (4, None)),
        (lambda: layers.Conv1D(3, 2), (8, None)),
        (lambda: layers.Conv2D(3, 2), (8, 8, None)),
        (lambda: layers.Conv2DTranspose(3, 2), (8, 8, None)),
        (lambda: layers.SeparableConv2D(3, 2), (8, 8, None)),
        (lambda: layers.DepthwiseConv2D(2), (8, 8, None)),
    ],
)
def test_weights_along_an_unknown_axis(make, shape, reads):
    layer = make()
    axis = len(shape)
    reads(
        lambda: lamina.Sequential([Input(shape, name="photos"), layer]),
        f"it comes from the unknown axis {axis} of 'photos' {(None, *shape)}",
        "the weights of this layer are as long as that axis",
        first="should be defined. Found `None`.",
        untouched=[layer],
    )


# ------------------------------------------------------------------------------ 19: a number for a shape


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: layers.Dense(3, input_shape=(4)), "`input_shape=(4,)`"),
        (lambda: layers.Conv1D(3, 2, batch_input_shape=4), "`batch_input_shape=(4,)`"),
        (lambda: Input(4), "`(4,)`"),
        (lambda: Input(shape=4), "`(4,)`"),
        (lambda: Input(batch_shape=4), "`(4,)`"),
        (lambda: layers.InputLayer(4), "`(4,)`"),
        (lambda: lamina.KerasTensor(4), "`(4,)`"),
        (lambda: layers.Dense(3).build(4), "`(4,)`"),
        (lambda: lamina.Sequential([layers.Dense(3)]).build(4), "`(4,)`"),
    ],
)
def test_a_number_for_a_shape(call, fix, reads):
    reads(call, "`(4)` is the integer 4", f"fix: {fix}", first="Cannot convert '4' to a shape")


# ------------------------------------------------------------------------- 20: legacy and misspelt names


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        ({"input_dim": 4}, "Input((4,))"),
        ({"input_shape": (4,)}, "Input((4,))"),
        ({"batch_input_shape": (8, 4)}, "Input(batch_shape=(8, 4))"),
    ],
)
def test_legacy_shapes_are_taken_with_a_note(arguments, note):
    with pytest.warns(UserWarning, match="legacy") as seen:
        model = lamina.Sequential([layers.Dense(3, **arguments)])
    assert note in str(seen[0].message)
    assert model.input_shape[1:] == (4,)


@pytest.mark.parametrize(
    ("make", "today", "value"),
    [
        (lambda: layers.Dense(output_dim=3), "units", 3),
        (lambda: layers.LSTM(output_dim=3), "units", 3),
        (lambda: layers.Conv2D(nb_filter=3, kernel_size=2), "filters", 3),
        (lambda: layers.Conv2D(3, 2, border_mode="same"), "padding", "same"),
        (lambda: layers.Conv2D(3, 2, subsample=(2, 2)), "strides", (2, 2)),
        (lambda: layers.Conv2D(3, 2, dim_ordering="th"), "data_format", "channels_first"),
        (lambda: layers.Dense(3, bias=False), "use_bias", False),
        (lambda: layers.Dropout(p=0.25), "rate", 0.25),
    ],
)
def test_names_of_keras_1_are_taken_with_a_note(make, today, value):
    with pytest.warns(UserWarning, match=f"is the legacy name of `{today}`"):
        layer = make()
    assert layer.get_config()[today] == value


def test_names_of_keras_1_in_training():
    with pytest.warns(UserWarning, match="`lr` is the legacy name of `learning_rate`"):
        optimizer = lamina.optimizers.SGD(lr=0.5)
    assert float(optimizer.learning_rate) == 0.5
    with pytest.warns(UserWarning, match="`nb_epoch` is the legacy name of `epochs`"):
        assert len(net().fit(zeros(2, 4), zeros(2, 1), nb_epoch=3, verbose=0).epoch) == 3


def test_a_keyword_of_the_users_own_is_left_alone(recwarn):
    class Own(layers.Dropout):
        def __init__(self, p, rate=0.1, **kwargs):
            super().__init__(rate, **kwargs)
            self.p = p

    assert Own(p=0.3).p == 0.3 and layers.Embedding(5, output_dim=3).output_dim == 3
    assert not recwarn.list


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: layers.Dense(3, activaton="relu"),
            "Dense: {'activaton': 'relu'}. Did you mean 'activation'?",
        ),
        (lambda: layers.Conv2D(3, 2, stride=2), "Did you mean 'strides'?"),
        (lambda: layers.Dense(units=3, output_dim=3), "`output_dim` is called `units`"),
        (lambda: layers.Dense(3, activation="rleu"), "rleu. Did you mean 'relu'?"),
        (lambda: layers.Activation("sigmod"), "sigmod. Did you mean 'sigmoid'?"),
        (lambda: layers.Dense(3, kernel_initializer="he_norml"), "Did you mean 'he_normal'?"),
        (lambda: layers.Dense(3, kernel_regularizer="l3"), "Did you mean 'l1'?"),
        (lambda: layers.Dense(3, kernel_constraint="max_nrm"), "Did you mean 'max_norm'?"),
        (lambda: lamina.losses.get("binary_crosentropy"), "Did you mean 'binary_crossentropy'?"),
        (lambda: lamina.metrics.get("acuracy"), "Did you mean 'accuracy'?"),
        (lambda: lamina.optimizers.get("adma"), "Did you mean 'adam'?"),
        (lambda: lamina.optimizers.Adam(learning_rat=0.1), "Did you mean 'learning_rate'?"),
        (lambda: lamina.losses.Huber(detla=1.0), "Huber() got an unexpected keyword argument 'detla'. Did"),
        (lambda: lamina.metrics.Mean(nme="m"), "Did you mean 'name'?"),
        (lambda: lamina.metrics.TopKCategoricalAccuracy(kk=3), "Did you mean 'k'?"),
        (lambda: lamina.initializers.RandomNormal(sttdev=1.0), "Did you mean 'stddev'?"),
        (lambda: lamina.regularizers.L2(l3=0.1), "Did you mean 'l2'?"),
        (lambda: lamina.constraints.MaxNorm(max_val=2), "Did you mean 'max_value'?"),
        (
            lambda: net().fit(zeros(2, 4), zeros(2, 1), epoch=3),
            "fit() got an unexpected keyword argument 'epoch'",
        ),
        (
            lambda: net().fit(zeros(2, 4), zeros(2, 1), samples_per_epoch=3),
            "`samples_per_epoch` is called `steps_per_epoch`",
        ),
        (
            lambda: Input((3,), nam="x"),
            "Input() got an unexpected keyword argument 'nam'. Did you mean 'name'?",
        ),
        (
            lambda: ops.sum(zeros(2), axes=0),
            "sum() got an unexpected keyword argument 'axes'. Did you mean 'axis'?",
        ),
        (lambda: net().compile(optimiser="adam"), "Did you mean 'optimizer'?"),
        (lambda: net().compile(loss="mean_sqare_error"), "Did you mean 'mean_squared_error'?"),
        (lambda: net().compile(metrics=["acuracy"]), "Did you mean 'accuracy'?"),
        (lambda: net().get_layer("frist"), "Did you mean 'first'?"),
    ],
)
def test_misspelt_names(call, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert words in str(caught.value)


def net():
    model = lamina.Sequential([Input((4,)), layers.Dense(1, name="first")], name="net")
    model.compile("sgd", loss="mse")
    return model


# ------------------------------------------------------------------- 21: not built


@pytest.mark.parametrize(
    "look",
    [
        lambda: layers.Dense(3).output,
        lambda: layers.Dense(3).input,
        lambda: layers.Dense(3).kernel,
        lambda: layers.Dense(3).bias,
        lambda: layers.Conv2D(3, 2).kernel,
        lambda: layers.BatchNormalization().gamma,
        lambda: layers.Embedding(3, 2).embeddings,
        lambda: lamina.Sequential([layers.Dense(3)]).output,
        lambda: lamina.Sequential([layers.Dense(3)]).input_shape,
    ],
)
def test_nothing_to_see_before_build(look, reads):
    reads(look, first="input shape is unknown", error=AttributeError)


def test_nothing_to_count_before_build(reads, capsys):
    for made in (layers.Dense(3), lamina.Sequential([layers.Dense(3)])):
        reads(made.count_params, first="input shape is unknown", error=ValueError)
        reads(lambda made=made: made.set_weights([zeros(2, 3)]), first="not built", error=ValueError)
    capsys.readouterr()
    lamina.Sequential([layers.Dense(3)]).summary()
    shown = capsys.readouterr().out
    assert "unbuilt" in shown and " 0 " not in shown


def test_hasattr_stays_quiet():
    assert not hasattr(layers.Dense(3), "kernel") and not hasattr(layers.Dense(3), "nonsense")
    layer = layers.Dense(3)
    layer.build((None, 2))
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'\.$"):
        layer.nonsense  # noqa: B018


# ------------------------------------------------------------------- 24: joins


def branches():
    x = Input((12,), name="x")
    return layers.Dense(3, name="left")(x), layers.Dense(4, name="right")(x)


@pytest.mark.parametrize("kind", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
def test_merges(kind, reads):
    layer = getattr(layers, kind)(name="join")
    error = reads(
        lambda: layer(list(branches())),
        "'join'",
        "fed by 'left' (Dense) and 'right' (Dense)",
        "inputs[0] has 3 along axis 1 and inputs[1] has 4",
        first="Inputs have incompatible shapes. Received shapes (None, 3) and (None, 4)",
        untouched=[layer],
    )
    assert [p.name for p in error.producer] == ["left", "right"]
    reads(lambda: layer([zeros(2, 3), zeros(2, 4)]), "inputs[1] has 4", untouched=[layer])


def test_concatenate(reads):
    left, right = branches()
    parts = [layers.Reshape((1, 3), name="a")(left), layers.Reshape((2, 2), name="b")(right)]
    reads(
        lambda: layers.Concatenate(axis=1, name="join")(parts),
        "'join'",
        "fed by 'a' (Reshape) and 'b' (Reshape)",
        "inputs[0] has 3 along axis 2 and inputs[1] has 2",
        first="matching shapes except for the concatenation axis",
    )


def test_dot(reads):
    reads(
        lambda: layers.Dot(axes=1, name="join")(list(branches())),
        "fed by 'left' (Dense) and 'right' (Dense)",
        first="axis values 3 (at axis 1) != 4 (at axis 1)",
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [((5, 3), "a sample has 4 = 4 values, the target holds 5 * 3 = 15"), ((5, -1), "a multiple of 5")],
)
def test_reshape(target, words, reads):
    layer = layers.Reshape(target, name="fold")
    reads(
        lambda: layer(branches()[1]),
        "'fold'",
        "fed by 'right' (Dense)",
        words,
        first="The total size of the tensor must be unchanged",
        untouched=[layer],
    )


@pytest.mark.parametrize(
    ("join", "first"),
    [
        (lambda a, b: a + b, "operands could not be broadcast together with shapes (None, 3) (None, 4)"),
        (lambda a, b: ops.multiply(a, b), "operands could not be broadcast together"),
        (lambda a, b: ops.concatenate([a, b], axis=0), "concat"),
        (lambda a, b: ops.matmul(a, zeros(4, 2)), "inner dimensions differ: (None, 3) has 3, (4, 2) has 4"),
    ],
)
def test_ops_name_the_layers_that_feed_them(join, first, reads):
    left, right = branches()
    reads(lambda: join(left, right), "fed by 'left' (Dense)", first=first)


def test_joins_inside_a_subclass(reads):
    class Net(lamina.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(3), layers.Dense(4)
            self.join = layers.Add(name="join")

        def call(self, x):
            return self.join([self.a(x), self.b(x)])

    model = Net()
    model.compile("sgd", loss="mse")
    for call in (
        lambda: model(zeros(2, 5)),
        lambda: model.predict(zeros(2, 5), verbose=0),
        lambda: model.fit(zeros(2, 5), zeros(2, 3), verbose=0),
    ):
        reads(call, "'join'", "inputs[1] has 4", first="Inputs have incompatible shapes")


# ---------------------------------------------------------------- things that are no tensors


@pytest.mark.parametrize(
    "call",
    [
        lambda: layers.Dense(3)(layers.Dense(4)),
        lambda: layers.Dense(3)(layers.Dense),
        lambda: layers.Add()([layers.Dense(4), layers.Dense(3)]),
        lambda: layers.Conv2D(3, 2)(layers.Flatten()),
        lambda: lamina.Model(Input((3,)), layers.Dense(3)),
        lambda: lamina.Model(layers.Dense(4), layers.Dense(3)),
    ],
)
def test_a_layer_where_a_tensor_belongs(call, reads):
    reads(call, "call", first="", error=ValueError)
    with pytest.raises(ValueError, match=r"call it first, `layer\(x\)`|\(\.\.\.\)\(x\)`|give its output"):
        call()


def test_a_layer_among_the_operands_of_an_op(reads):
    for x in (zeros(2), Input((2,))):
        reads(
            lambda x=x: ops.add(layers.Dense(3), x),
            "call it first, `layer(x)`",
            first="ops.add",
            error=TypeError,
        )


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (layers.Flatten(), "`Sequential([...])`"),
        ([layers.Dense], "`Dense(...)`, not `Dense`"),
        ([ops.relu], "`Lambda(function)`"),
        ([[layers.Flatten()]], "Only instances of"),
    ],
)
def test_things_that_are_no_layers_in_a_stack(stack, words, reads):
    reads(lambda: lamina.Sequential(stack), words, error=ValueError)


def test_a_misspelt_keyword_of_a_call(reads):
    layer = layers.Dropout(0.5)
    for x in (zeros(2, 3), Input((3,))):
        reads(
            lambda x=x: layer(x, trainin=True),
            "Did you mean 'training'?",
            first="Dropout.call() got an unexpected keyword argument 'trainin'",
            error=TypeError,
        )


class Bare(layers.Layer):
    def __init__(self):
        self.units = 3

    def call(self, x):
        return x


class BareModel(lamina.Model):
    def __init__(self):
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "use",
    [
        lambda: Bare()(zeros(2, 3)),
        lambda: Bare()(Input((3,))),
        lambda: Bare().name,
        lambda: lamina.Sequential([Input((3,)), Bare()]),
        lambda: BareModel()(zeros(2, 3)),
        lambda: BareModel().compile("sgd"),
        lambda: BareModel().predict(zeros(2, 3)),
    ],
)
def test_forgotten_super(use):
    with pytest.raises(
        (RuntimeError, AttributeError), match=r"In layer 'Bare(Model)?', you forgot to call `super"
    ):
        use()


SYMBOLIC = {
    "np.exp": (np.exp, "`lamina.ops.exp`"),
    "np.mean": (np.mean, "`lamina.ops.mean`"),
    "np.concatenate": (lambda x: np.concatenate([x, x]), "`lamina.ops.concatenate`"),
    "np.i0": (np.i0, "`lamina.ops`"),
    "float": (lambda x: float(x), "symbolic"),
    "if": (lambda x: x if x > 0 else -x, "lamina.ops.where"),
}


@pytest.mark.parametrize(("function", "words"), SYMBOLIC.values(), ids=SYMBOLIC)
def test_numpy_and_python_on_symbolic_tensors(function, words, reads):
    class Mine(layers.Layer):
        def call(self, x):
            return function(x)

    calls = [lambda: layers.Lambda(function)(Input((3,))), lambda: Mine()(Input((3,)))]
    if function is not SYMBOLIC["if"][0]:  # comparing a KerasTensor makes another: nothing is asked yet
        calls.append(lambda: function(Input((3,))))
    for call in calls:
        reads(call, words, first="symbolic", error=TypeError)


def test_arrays_and_symbolic_tensors_mix():
    x = Input((3,))
    weights = np.arange(3, dtype="float32")
    model = lamina.Model(x, layers.Lambda(lambda v: weights * v + weights @ np.eye(3, dtype="float32"))(x))
    np.testing.assert_allclose(model(np.ones((2, 3))), [[0, 2, 4]] * 2)
    assert ops.add(weights, x).shape == (None, 3)


def test_errors_can_be_pickled():
    with pytest.raises(ShapeError) as caught:
        lamina.Sequential([Input((4, 4, 1)), layers.Conv2D(2, 9, name="fails")])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.trail == "4x4 -> fails"
