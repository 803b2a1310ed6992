"""Targets, labels, ids and values that cannot be right: what the user reads before anything is trained."""

import warnings

import numpy as np
import pytest

import lamina
from lamina import Input, layers
from lamina.errors import DataError, ShapeError

WAYS = {
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "validation": lambda model, x, y: model.fit(
        x, np.zeros_like(GOOD[model.name]), validation_data=(x, y), verbose=0
    ),
    "generator": lambda model, x, y: model.fit(((x, y) for _ in range(2)), verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
# What the models below can be trained on, by their name.
GOOD = {
    "sparse": np.zeros(8, "int64"),
    "dense": np.eye(10)[:8],
    "value": np.zeros((8, 10, 1)),
    "yes": np.zeros((8, 1)),
}


def zeros(*shape):
    return np.zeros(shape, "float32")


def model(name, stack, loss, shape=(4,)):
    made = lamina.Sequential([Input(shape), *stack], name=name)
    made.compile("sgd", loss=loss)
    return made


def classifier(name, loss, classes=10):
    return model(name, [layers.Dense(classes, activation="softmax", name="classes")], loss)


# --------------------------------------------------------------------------------- 12: a forgotten Flatten


def image_stack():
    return [layers.Conv2D(3, 3), layers.Dense(10, activation="softmax", name="classes")]


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
@pytest.mark.parametrize("form", ["name", "object"])
def test_a_forgotten_flatten_is_said_at_compile(loss, form):
    made = lamina.Sequential([Input((28, 28, 1)), *image_stack()])
    if form == "object":
        loss = lamina.losses.get("".join(part.title() for part in loss.split("_")))
    with pytest.warns(UserWarning, match="Forgotten Flatten") as seen:
        made.compile("sgd", loss=loss)
    for word in ("'classes'", "(None, 26, 26, 10)", "26x26 positions", "`GlobalAveragePooling2D()`"):
        assert word in str(seen[0].message)


@pytest.mark.parametrize(
    "stack",
    [
        [layers.Flatten, lambda: layers.Dense(10)],
        [lambda: layers.Conv2D(10, 1)],  # a class for each pixel
        [
            lambda: layers.Reshape((28, 28)),
            lambda: layers.LSTM(4, return_sequences=True),
            lambda: layers.Dense(10),
        ],
    ],
)
def test_a_class_for_each_pixel_or_step_is_fine(stack):
    made = lamina.Sequential([Input((28, 28, 1)), *(make() for make in stack)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.compile("sgd", loss="sparse_categorical_crossentropy")
    lamina.Sequential([layers.Dense(3)]).compile("sgd", loss="categorical_crossentropy")


@pytest.mark.filterwarnings("ignore:Forgotten Flatten")
@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("sparse_categorical_crossentropy", np.zeros(8, "int64")),
        ("sparse_categorical_crossentropy", np.zeros((8, 1), "int64")),
        ("categorical_crossentropy", np.eye(10)[:8]),
    ],
)
@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch", "generator"])
def test_a_forgotten_flatten_is_an_error_at_fit(loss, y, way, reads):
    made = model("net", image_stack(), loss, (28, 28, 1))
    error = reads(
        lambda: WAYS[way](made, zeros(8, 28, 28, 1), y),
        "forgotten Flatten? The output has 10 classes for each of 26 x 26 positions",
        "put `Flatten()` or `GlobalAveragePooling2D()` before the last Dense layer",
        first="Arguments `target` and `output` must have the same shape",
        untouched=[made],
    )
    assert error.layer == "classes"


# ------------------------------------------------------------------------- 13 to 17: targets against outputs


@every_way
@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_integer_labels_for_the_dense_loss(shape, way, reads):
    made = classifier("dense", "categorical_crossentropy")
    reads(
        lambda: way(made, zeros(8, 4), np.arange(8).reshape(shape)),
        'use "sparse_categorical_crossentropy"',
        "`to_categorical(y, 10)`",
        "'classes'",
        first="target.shape=(None",
        untouched=[made],
    )


@every_way
def test_one_hot_labels_for_the_sparse_loss(way, reads):
    made = classifier("sparse", "sparse_categorical_crossentropy")
    reads(
        lambda: way(made, zeros(8, 4), np.eye(10)[:8]),
        'use "categorical_crossentropy"',
        "`y.argmax(-1)`",
        "'classes'",
        first="target.shape=(None, 10), output.shape=(None, 10)",
        untouched=[made],
    )


@every_way
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "float32", "float64"])
def test_a_label_without_a_class(dtype, way, reads):
    made = classifier("sparse", "sparse_categorical_crossentropy", classes=3)
    y = np.array([0, 2, 1, 0, 4, 7, 1, 0], dtype)
    error = reads(
        lambda: way(made, zeros(8, 4), y),
        "valid labels: 0 to 2",
        "the largest label is 7",
        "`Dense(8)`",
        "'classes'",
        first="label 4 at row 4 is outside the 3 classes",
        error=DataError,
        untouched=[made],
    )
    assert error.got == "label 4 at position (4,)"


@pytest.mark.filterwarnings("ignore:.*one output per class")
@every_way
def test_labels_for_one_output(way, reads):
    made = model("sparse", [layers.Dense(1)], "sparse_categorical_crossentropy")
    reads(
        lambda: way(made, zeros(8, 4), np.arange(8) % 2),
        '`Dense(1, activation="sigmoid")` with "binary_crossentropy"',
        '`Dense(2, activation="softmax")`',
        first="label 1 at row 1",
        error=DataError,
    )


@every_way
def test_a_label_that_is_no_whole_number(way, reads):
    made = classifier("sparse", "sparse_categorical_crossentropy", classes=3)
    y = np.array([0, 1, 2, 1.5, 0, 0, 0, 0], "float32")
    words = ("class ids are whole numbers", "mean_squared_error")
    reads(lambda: way(made, zeros(8, 4), y), *words, first="label 1.5 at row 3", error=DataError)


def test_class_ids_for_a_binary_loss_of_two_outputs(reads):
    made = model("two", [layers.Dense(2, activation="softmax")], "binary_crossentropy")
    words = '"sparse_categorical_crossentropy" for class ids from 0 to 1'
    reads(lambda: made.fit(zeros(8, 4), np.arange(8) % 2), words, '`Dense(1, activation="sigmoid")`')


def test_a_label_beyond_the_first_batch(reads):
    made = classifier("sparse", "sparse_categorical_crossentropy", classes=3)
    y = np.zeros(100, "int64")
    y[90] = -5
    reads(
        lambda: made.fit(zeros(100, 4), y, verbose=0),
        "ignore_class",
        first="label -5 at row 90",
        error=DataError,
        untouched=[made],
    )


@every_way
def test_targets_that_would_broadcast(way, reads):
    made = model("value", [layers.Dense(1, name="price")], "mse", (10, 4))
    reads(
        lambda: way(made, zeros(8, 10, 4), zeros(8, 1)),
        "broadcasting would compare each target with several outputs",
        "`return_sequences=False`",
        "'price'",
        first="target.shape=(None, 1), output.shape=(None, 10, 1)",
        untouched=[made],
    )


@every_way
def test_two_columns_for_one_sigmoid(way, reads):
    made = model("yes", [layers.Dense(1, activation="sigmoid")], "binary_crossentropy")
    reads(
        lambda: way(made, zeros(8, 4), zeros(8, 2)),
        'Dense(2, activation="softmax")',
        '`loss="categorical_crossentropy"`',
        "`y.argmax(-1)`",
        first="target.shape=(None, 2), output.shape=(None, 1)",
        untouched=[made],
    )


# --------------------------------------------------------------------------------- 25: ids outside a table

IDS = np.array([[1, 2, 3], [4, 12, 3], [0, 0, 15]])


def reader(direct=True):
    """A model whose ids come from its input, or are computed inside."""
    x = Input((3,), dtype="int32", name="words")
    ids = x if direct else layers.Lambda(lambda v: v + 0)(x)
    y = layers.Dense(1)(layers.Flatten()(layers.Embedding(10, 4, name="table")(ids)))
    made = lamina.Model(x, y, name="reader")
    made.compile("sgd", loss="mse")
    return made


ID_WAYS = {
    "call": lambda made, x: made(x),
    "call again": lambda made, x: [made(x % 10), made(x % 10), made(x)],
    "predict": lambda made, x: made.predict(x, verbose=0),
    "predict again": lambda made, x: [made.predict(x % 10, verbose=0), made.predict(x, verbose=0)],
    "predict_on_batch": lambda made, x: made.predict_on_batch(x),
    "fit": lambda made, x: made.fit(x, zeros(len(x), 1), verbose=0),
    "generator": lambda made, x: made.fit(((i, zeros(3, 1)) for i in [x]), verbose=0),
    "evaluate": lambda made, x: made.evaluate(x, zeros(len(x), 1), verbose=0),
    "train_on_batch": lambda made, x: made.train_on_batch(x, zeros(len(x), 1)),
    "test_on_batch": lambda made, x: made.test_on_batch(x, zeros(len(x), 1)),
}


@pytest.mark.parametrize("way", ID_WAYS.values(), ids=ID_WAYS)
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_an_id_outside_the_table(dtype, direct, way, reads):
    made = reader(direct)
    error = reads(
        lambda: way(made, IDS.astype(dtype)),
        "'table' (Embedding)",
        "id 12",
        "at position (1, 1)",
        "`input_dim` must be at least 16",
        "`Embedding(16, 4)`",
        first="indices[1,1] = 12",
        error=DataError,
        untouched=[made],
    )
    assert "is not in [0, 10)" in str(error)


@pytest.mark.parametrize("way", ID_WAYS.values(), ids=ID_WAYS)
def test_a_negative_id(way, reads):
    made = reader()
    if way in (ID_WAYS["call again"], ID_WAYS["predict again"]):
        made(IDS % 10)
    reads(
        lambda: way(made, np.where(IDS == 12, -1, 0)),
        "at position (1, 1)",
        "none is negative",
        first="indices[1,1] = -1 is not in [0, 10)",
        error=DataError,
        untouched=[made],
    )


def test_an_id_beyond_the_first_batch(reads):
    made, x = reader(), np.zeros((100, 3), "int32")
    x[90, 2] = 10
    for call in (lambda: made.fit(x, zeros(100, 1), verbose=0), lambda: made.predict(x, verbose=0)):
        reads(call, "(90, 2)", first="indices[90,2] = 10", error=DataError, untouched=[made])


@pytest.mark.parametrize("wrong", [0.5, np.nan])
@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch"])
def test_an_id_that_is_no_whole_number(way, wrong, reads):
    made, x = reader(), np.ones((8, 3))
    x[2, 1] = wrong
    reads(
        lambda: getattr(made, way)(x, zeros(8, 1)),
        "'table' (Embedding)",
        first=f"indices[2,1] = {wrong} is no whole number",
        error=DataError,
        untouched=[made],
    )


@pytest.mark.parametrize("way", ["predict", "predict_on_batch"])
def test_whole_floats_are_ids_and_fractions_are_not(way, reads):
    made = lamina.Sequential([Input((3,)), layers.Embedding(10, 4, name="table")])
    predict = getattr(made, way)
    ids = np.array([[1, 2, 3], [4, 5, 6]], "float32")
    np.testing.assert_array_equal(predict(ids), made.layers[0].get_weights()[0][ids.astype(int)])
    ids[1, 0] = 4.5
    for _ in range(2):
        reads(lambda: predict(ids), first="indices[1,0] = 4.5 is no whole number", error=DataError)


def test_a_layer_alone(reads):
    layer = layers.Embedding(10, 4, name="table")
    reads(lambda: layer(np.array([1.0, 2.5])), first="indices[1] = 2.5 is no whole number", error=DataError)
    assert layer(np.array([1.0, 2.0])).shape == (2, 4)
    reads(lambda: layer(IDS), "`Embedding(16, 4)`", first="indices[1,1] = 12", error=DataError)
    assert layer(IDS % 10).shape == (3, 3, 4)
    assert layer(np.zeros((0, 3), "int32")).shape == (0, 3, 4)


# ----------------------------------------------------------------------------------------- NaN and infinities


def small(outputs=1, **compiled):
    made = model("small", [layers.Dense(outputs, name="out")], compiled.pop("loss", "mse"))
    return made


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["x", "y", "sample_weight"])
@pytest.mark.parametrize("way", ["fit", "evaluate"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_not_a_number(dtype, way, name, value, reads):
    made = small()
    data = {"x": np.ones((20, 4), dtype), "y": np.ones((20, 1), dtype), "sample_weight": np.ones(20, dtype)}
    data[name][3] = value
    where = "at row 3, column 0" if name != "sample_weight" else "at row 3"
    error = reads(
        lambda: getattr(made, way)(**data, verbose=0),
        f"got: {'NaN' if np.isnan(value) else value} at ",
        f"np.isfinite({name})",
        "`model.allow_nan = True`",
        first=where,
        error=DataError,
        untouched=[made],
    )
    assert error.argument == name
    made.allow_nan = True
    getattr(made, way)(**data, verbose=0)


def test_validation_data_is_looked_at_too(reads):
    made, bad = small(), np.ones((20, 4))
    bad[7, 2] = np.nan
    ones = np.ones((20, 1))
    call = lambda: made.fit(np.ones((20, 4)), ones, validation_data=(bad, ones), verbose=0)  # noqa: E731
    reads(call, first="row 7, column 2", error=DataError, untouched=[made])


def test_the_place_in_large_data(reads):
    made, x = small(), np.ones((70000, 4), "float32")
    x[[66666, 69999], 3] = np.nan
    reads(
        lambda: made.fit(x, np.ones((70000, 1)), verbose=0, steps_per_epoch=1),
        first="`x` holds NaN at row 66666, column 3; 2 of its 280000 values are not finite.",
        error=DataError,
        untouched=[made],
    )


def test_the_first_batch_of_a_source_is_looked_at(reads):
    def batches(bad):
        for i in range(3):
            yield np.full((4, 4), np.nan if i == bad else 1.0), np.ones((4, 1))

    made = small()
    reads(lambda: made.fit(batches(0), verbose=0), first="row 0, column 0", error=DataError, untouched=[made])
    made.fit(batches(2), verbose=0)


def test_several_inputs_are_named(reads):
    a, b = Input((2,), name="a"), Input((2,), name="b")
    made = lamina.Model({"a": a, "b": b}, layers.Add()([a, b]))
    made.compile("sgd", loss="mse")
    x = {"a": np.ones((4, 2)), "b": np.ones((4, 2))}
    x["b"][2, 1] = np.inf
    reads(
        lambda: made.evaluate(x, np.ones((4, 2)), verbose=0),
        first="`x['b']` holds inf at row 2",
        error=DataError,
    )


def test_a_table_names_its_column(reads):
    class Table:
        columns = ("age", "size", "price", "rooms")

        def to_numpy(self):
            return rows

    made, rows = small(), np.ones((4, 4))
    rows[2, 1] = np.nan
    for call in (
        lambda: made.fit(Table(), np.ones((4, 1)), verbose=0),
        lambda: made.evaluate(Table(), np.ones((4, 1)), verbose=0),
        lambda: lamina.check(made, Table(), np.ones((4, 1))).raise_errors(),
    ):
        reads(call, first="`x` holds NaN at row 2, column 1 ('size').", error=DataError, untouched=[made])


def test_the_users_own_code_may_know_what_to_do_with_nan():
    bad, ones = np.array([[np.nan, 1.0]] * 4), np.ones((4, 1))

    class Fill(layers.Layer):
        def call(self, x):
            return lamina.ops.nan_to_num(x)

    def masked(y_true, y_pred):
        return lamina.ops.where(lamina.ops.isnan(y_true), 0.0, lamina.ops.square(y_pred - y_true))

    filled = lamina.Sequential([Input((2,)), Fill(), layers.Dense(1)])
    x = Input((2,))
    with_op = lamina.Model(x, layers.Dense(1)(lamina.ops.nan_to_num(x)))
    for made in (filled, with_op):
        made.compile("sgd", loss="mse")
        with pytest.warns(UserWarning, match="`x` holds NaN at row 0, column 0"):
            made.fit(bad, ones, verbose=0)
        assert np.isfinite(made.get_weights()[0]).all()
    tolerant = model("tolerant", [layers.Dense(1)], masked)
    with pytest.warns(UserWarning, match="`y` holds NaN at row 0"):
        tolerant.fit(np.ones((4, 4)), np.full((4, 1), np.nan), verbose=0)


def test_predict_takes_nan():
    assert np.isnan(small().predict(np.full((2, 4), np.nan), verbose=0)).all()


def test_a_shape_error_is_no_data_error():
    assert not issubclass(DataError, ShapeError) and issubclass(DataError, ValueError)
