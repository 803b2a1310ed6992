"""Data that does not fit a model's inputs: what the user reads, at every way in."""

import warnings

import numpy as np
import pytest

import lamina
from lamina import Input, layers
from lamina.errors import ShapeError

WAYS_IN = {
    "call": lambda model, x, y: model(x),
    "predict": lambda model, x, y: model.predict(x, verbose=0),
    "predict_on_batch": lambda model, x, y: model.predict_on_batch(x),
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
}
every_way_in = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)


def sequential(shape, *stack, **options):
    model = lamina.Sequential([Input(shape, name="photos", **options), *stack], name="net")
    model.compile("sgd", loss="mse")
    return model


def functional(shape, *stack, **options):
    x = start = Input(shape, name="photos", **options)
    for layer in stack:
        x = layer(x)
    model = lamina.Model(start, x, name="net")
    model.compile("sgd", loss="mse")
    return model


every_model = pytest.mark.parametrize("make", [sequential, functional])


def zeros(*shape):
    return np.zeros(shape, "float32")


# ------------------------------------------------------------ 2: a last axis of length 1 that is missing


@every_way_in
@every_model
def test_a_missing_last_axis_of_one_is_read_and_said_once(make, way):
    model = make((10, 1), layers.Conv1D(2, 3), layers.Flatten(), layers.Dense(1))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            way(model, zeros(32, 10), zeros(32, 1))
    said = [str(w.message) for w in seen if "was read as" in str(w.message)]
    assert len(said) == 1
    for word in ("'photos'", "'net'", "(None, 10, 1)", "`x[..., None]`", "strict_shapes = True"):
        assert word in said[0]


@every_way_in
@every_model
def test_strict_shapes_refuses_it(make, way, reads):
    model = make((10, 1), layers.Conv1D(2, 3), layers.Flatten(), layers.Dense(1))
    model.strict_shapes = True
    reads(
        lambda: way(model, zeros(32, 10), zeros(32, 1)),
        "'photos'",
        "(32, 10)",
        "(None, 10, 1) = (batch, time, features)",
        "`strict_shapes` is on",
        "fix: `x[..., None]`",
        first="expected ndim=3, found ndim=2",
        untouched=[model],
    )
    way(model, zeros(32, 10, 1), zeros(32, 1))


# -------------------------------------------------------------------- 4, 5: one sample without its batch axis


@every_way_in
@every_model
@pytest.mark.parametrize(
    ("inputs", "shape", "fix"),
    [
        ((4,), (4,), "x[None]"),
        ((28, 28, 1), (28, 28, 1), "x[None]"),
        ((28, 28, 1), (28, 28), "x[None, ..., None]"),
        ((6, 1), (6,), "x[None, ..., None]"),
    ],
)
def test_one_sample(inputs, shape, fix, make, way, reads):
    model = make(inputs, layers.Flatten(), layers.Dense(1))
    error = reads(
        lambda: way(model, zeros(*shape), zeros(1, 1)),
        "one sample without its batch axis",
        f"`{fix}`",
        str((None, *inputs)),
        first=f"incompatible shape {shape}: expected ndim={len(inputs) + 1}, found ndim={len(shape)}",
        untouched=[model],
    )
    assert (error.layer, error.argument, error.got) == (model, "photos", shape)
    read = eval(fix, {"x": zeros(*shape)})  # the fix can be pasted
    way(model, read, zeros(1, 1))


# ------------------------------------------------------------ 7, 8, 9: axes of other lengths


@every_way_in
@every_model
def test_other_features_blame_the_input(make, way, reads):
    model = make((4,), layers.Dense(3, name="first"), layers.Dense(1, name="second"))
    error = reads(
        lambda: way(model, zeros(8, 5), zeros(8, 1)),
        "(8, 5) = (batch, features)",
        "(None, 4) = (batch, features), the shape of input 'photos'",
        "5 along axis 1 (features) where the model was made for 4",
        "`Input((5,))`",
        first="Input 0 with name 'photos' of layer 'net' is incompatible with the layer: expected",
        untouched=[model],
    )
    assert "'first'" not in str(error) and "'second'" not in str(error)


@every_way_in
@every_model
def test_other_sizes_say_which_layer_would_have_broken(make, way, reads):
    stack = layers.Conv2D(3, 3), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(1, name="classify")
    model = make((28, 28, 1), *stack)
    reads(
        lambda: way(model, zeros(8, 32, 32, 1), zeros(8, 1)),
        "(8, 32, 32, 1) = (batch, height, width, channels)",
        "32 along axis 1 (height) where the model was made for 28, 32 along axis 2 (width)",
        "the first layer to break would be 'classify' (Dense), which would get (None, 675)",
        "507 along axis -1",  # 13 * 13 * 3
        "`Input((32, 32, 1))`",
        first="'photos'",
        untouched=[model],
    )


@every_way_in
@every_model
def test_sizes_that_no_layer_depends_on(make, way, reads):
    model = make((28, 28, 1), layers.Conv2D(3, 3), layers.GlobalMaxPooling2D(), layers.Dense(1))
    reads(
        lambda: way(model, zeros(8, 32, 20, 1), zeros(8, 1)),
        "no layer depends on it",
        "`Input((None, None, 1))`",
        untouched=[model],
    )
    free = make((None, None, 1), layers.Conv2D(3, 3), layers.GlobalMaxPooling2D(), layers.Dense(1))
    way(free, zeros(8, 32, 20, 1), zeros(8, 1))


@every_way_in
@every_model
@pytest.mark.parametrize(
    ("inputs", "shape"), [((28, 20, 3), (8, 3, 28, 20)), ((5, 6, 7, 2), (8, 2, 5, 6, 7))]
)
def test_channels_first_data(inputs, shape, make, way, reads):
    model = make(inputs, layers.Flatten(), layers.Dense(1))
    reads(
        lambda: way(model, zeros(*shape), zeros(8, 1)),
        f"axis 1 holds the {inputs[-1]} channels (channels_first data)",
        "(batch, channels, ",
        "`np.moveaxis(x, 1, -1)`, or layers with `data_format='channels_first'`",
        first="'photos'",
        untouched=[model],
    )
    way(model, np.moveaxis(zeros(*shape), 1, -1), zeros(8, 1))


@pytest.mark.parametrize("place", ["call", "stack", "subclass", "predict of a stack"])
def test_models_inside_models_blame_their_input(place, reads):
    inner = sequential((28, 28, 1), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2, name="classify"))

    class Outer(lamina.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

    calls = {
        "call": lambda: inner(Input((32, 32, 1))),
        "stack": lambda: lamina.Sequential([Input((32, 32, 1)), inner]),
        "subclass": lambda: Outer().predict(zeros(2, 32, 32, 1), verbose=0),
        "predict of a stack": lambda: lamina.Sequential([Input((28, 28, 1)), inner]).predict(
            zeros(2, 32, 32, 1), verbose=0
        ),
    }
    reads(
        calls[place],
        "(Sequential)",
        "the first layer to break would be 'classify' (Dense)",
        first="expected shape=(None, 28, 28, 1)",
    )


# ----------------------------------------------------------------------------------- 18: counts of samples


@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
@every_model
def test_other_counts_of_samples(make, way, reads):
    model = make((4,), layers.Dense(1))
    reads(
        lambda: WAYS_IN[way](model, zeros(20, 4), zeros(19, 1)),
        "'x' sizes: 20",
        "'y' sizes: 19",
        first="Data cardinality is ambiguous",
        error=ValueError,
        untouched=[model],
    )


# --------------------------------------------------------------------------------------- 22: several inputs


def two_inputs(named):
    left, right = Input((4,), name="left"), Input((3,), name="right")
    inputs = {"left": left, "right": right} if named else [left, right]
    model = lamina.Model(inputs, layers.Dense(1)(layers.Concatenate()([left, right])), name="pair")
    model.compile("sgd", loss="mse")
    return model


every_pair = pytest.mark.parametrize("named", [False, True], ids=["list", "dict"])
NO_CALL = {name: way for name, way in WAYS_IN.items() if name != "call"}


@every_way_in
@every_pair
def test_one_array_for_two_inputs(named, way, reads):
    model = two_inputs(named)
    reads(
        lambda: way(model, zeros(8, 4), zeros(8, 1)),
        "expected: left (None, 4), right (None, 3)",
        "got: (8, 4)",
        "`{'left': ..., 'right': ...}`",
        first="but it received 1 input tensors",
        untouched=[model],
    )


@every_way_in
@every_pair
def test_a_wrong_key(named, way, reads):
    model = two_inputs(named)
    reads(
        lambda: way(model, {"left": zeros(8, 4), "rigth": zeros(8, 3)}, zeros(8, 1)),
        "the model has no input called 'rigth'. Did you mean 'right'?",
        "expected: left (None, 4), right (None, 3)",
        first="Missing data for input \"right\". You passed a data dictionary with keys ['left', 'rigth'].",
        untouched=[model],
    )


@every_way_in
def test_reversed_inputs(way, reads):
    model = two_inputs(named=False)
    reads(
        lambda: way(model, [zeros(8, 3), zeros(8, 4)], zeros(8, 1)),
        "order reversed?",
        "in the order [left, right], or by name: `{'left': ..., 'right': ...}`",
        first="Input 0 with name 'left' of layer 'pair' is incompatible with the layer",
        untouched=[model],
    )


@every_way_in
@every_pair
def test_one_of_several_inputs(named, way, reads):
    model = two_inputs(named)
    reads(
        lambda: way(model, {"left": zeros(8, 4), "right": zeros(8, 9)}, zeros(8, 1)),
        "9 along axis 1 (features) where the model was made for 3",
        first="Input 1 with name 'right'",
        untouched=[model],
    )


@pytest.mark.parametrize("way", NO_CALL.values(), ids=NO_CALL)
def test_a_list_of_samples(way, reads):
    model = sequential((4,), layers.Dense(1))
    reads(
        lambda: way(model, [zeros(4), zeros(4), zeros(4)], zeros(3, 1)),
        "this looks like a list of samples",
        "`np.stack(x)`",
        first="expects 1 input(s), but it received 3 input tensors",
        untouched=[model],
    )


# ------------------------------------------------------------- 23: lists, tables, text


class Table:
    """What pandas and polars share, as far as data goes."""

    def __init__(self, columns):
        self.columns = list(columns)
        self._rows = np.array(list(zip(*columns.values(), strict=True)), dtype=object)
        self.shape = self._rows.shape

    def to_numpy(self):
        return self._rows

    def __array__(self, dtype=None, copy=None):
        return self._rows.astype(dtype) if dtype else self._rows


@every_way_in
def test_lists_and_tables_of_numbers_are_data(way):
    model = sequential((2,), layers.Dense(1))
    rows = [[1, 2.5], [3, 4]]
    for x in (rows, tuple(rows), Table({"a": [1, 3], "b": [2.5, 4]})):
        way(model, x, [[0.0], [1.0]])
    np.testing.assert_array_equal(model(rows), model(np.array(rows, "float32")))


@every_way_in
@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([[1, 2], [3]], "row 0 has length 2, row 1 has length 1"),
        ([[[1, 2], [3, 4]], [[1, 2], [3]]], "in row 1, row 0 has length 2, row 1 has length 1"),
        ([[1, 2], 3], "row 1 has no length"),
    ],
)
def test_ragged_lists(x, words, way, reads):
    model = sequential((2,), layers.Dense(1))
    reads(
        lambda: way(model, x, zeros(2, 1)),
        words,
        first="is a ragged list",
        error=ValueError,
        untouched=[model],
    )


@every_way_in
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.array([[1, 2], [3, "four"]]), "position (0, 0) is '1' (str)"),
        (np.array([[1, 2], [3, "four"]], object), "position (1, 1) is 'four' (str)"),
        (np.array([[1, 2], [None, 4]], object), "position (1, 0) is None"),
        (Table({"age": [1, 2], "city": ["Rome", "Oslo"]}), "position (0, 1)"),
    ],
)
def test_text_among_numbers(x, words, way, reads):
    model = sequential((2,), layers.Dense(1))
    reads(
        lambda: way(model, x, zeros(2, 1)),
        words,
        first="should hold numbers",
        error=ValueError,
        untouched=[model],
    )


@pytest.mark.parametrize("way", NO_CALL.values(), ids=NO_CALL)
def test_complex_numbers(way, reads):
    model, x = sequential((2,), layers.Dense(1)), np.ones((2, 2), complex)
    reads(
        lambda: way(model, x, zeros(2, 1)),
        "np.stack([x.real, x.imag], axis=-1)",
        first="holds complex numbers",
        error=ValueError,
    )


def test_a_table_names_its_column(reads):
    model, x = sequential((2,), layers.Dense(1)), Table({"age": [1, 2], "city": ["Rome", "Oslo"]})
    reads(lambda: model.fit(x, zeros(2, 1), verbose=0), "column 'city' is 'Rome'", error=ValueError)


# ------------------------------------------------------------- a fixed batch size fed another


@every_way_in
@every_model
def test_another_batch_size_than_the_fixed_one(make, way):
    model = make((4,), layers.Dense(1), batch_size=8)
    with pytest.warns(UserWarning, match=r"'photos'.*batches of exactly 8, and was fed one of 5"):
        way(model, zeros(5, 4), zeros(5, 1))
    model = make((4,), layers.Dense(1), batch_size=8)
    model.strict_shapes = True
    with pytest.raises(ShapeError, match="batches of exactly 8"):
        way(model, zeros(5, 4), zeros(5, 1))
