"""Axes that a layer before took away, images as rows of pixels, and shapes that no machine can hold."""

import numpy as np
import pytest

import lamina
from lamina import Input, layers

zeros = np.zeros

OF_SEQUENCES = {
    "Conv1D": lambda x: layers.Conv1D(3, 2)(x),
    "MaxPooling1D": lambda x: layers.MaxPooling1D()(x),
    "GlobalAveragePooling1D": lambda x: layers.GlobalAveragePooling1D()(x),
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(2))(x),
    "GRU": lambda x: layers.GRU(3)(x),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 3)(x, x),
}


@pytest.mark.parametrize("follow", OF_SEQUENCES.values(), ids=OF_SEQUENCES)
def test_the_recurrent_layer_that_lost_the_steps_is_named(follow, reads):
    x = layers.LSTM(4, name="reader")(Input((7, 2)))
    error = reads(
        lambda: follow(x),
        "'reader' returns only its last step, (batch, features): the time axis is gone",
        "`return_sequences=True` on 'reader'",
    )
    assert error.producer.name == "reader"


@pytest.mark.parametrize(
    ("take", "words"),
    [
        (lambda: layers.Flatten(name="taker"), "'taker' made one axis of all axes of a sample"),
        (lambda: layers.GlobalMaxPooling2D(name="taker"), "'taker' left one value per channel"),
    ],
)
def test_the_layer_that_took_the_axes_away_is_named(take, words, reads):
    x = layers.Dropout(0.5)(take()(Input((8, 8, 3))))
    reads(
        lambda: layers.Conv2D(3, 2)(x), words, "leave 'taker' out", first="expected min_ndim=4, found ndim=2"
    )


def test_rows_of_values_before_a_convolution_need_a_reshape(reads):
    x = layers.Dense(7 * 7 * 64, name="code")(Input((100,)))
    words = "`Reshape((height, width, channels))` before it with height * width * channels = 3136"
    reads(lambda: layers.Conv2DTranspose(8, 3)(x), words, "'code'")
    error = reads(lambda: layers.Conv1D(8, 3)(x), "`Reshape((3136, 1))`")
    assert "Input(" not in error.fix  # what is missing is not missing in the input


@pytest.mark.parametrize(
    ("expected", "given", "fix"),
    [
        ((28, 28, 1), (5, 784), "`x.reshape(-1, 28, 28, 1)`"),
        ((784,), (5, 28, 28), "`x.reshape(-1, 784)`"),
        ((784,), (5, 28, 28, 1), "`x.reshape(-1, 784)`"),
    ],
)
def test_images_as_rows_of_pixels_and_back(expected, given, fix, reads):
    model = lamina.Sequential([Input(expected), layers.Flatten(), layers.Dense(2)])
    reads(lambda: model.predict(zeros(given)), fix, "784 values per sample in both", untouched=[model])
    assert model(zeros(given, "float32").reshape(-1, *expected)).shape == (5, 2)


def test_no_samples_in_a_list(reads):
    model = lamina.Sequential([Input((4,)), layers.Dense(2)])
    reads(lambda: model.predict([]), "there are no samples", "samples of shape (4,)")


def test_the_input_that_is_missing_is_suggested(reads):
    a, c = Input((4,), name="a"), Input((4,), name="b")
    model = lamina.Model([a, c], layers.Add()([a, c]))
    error = reads(lambda: model.predict({"a": zeros((2, 4)), "c": zeros((2, 4))}), "no input called 'c'")
    assert "Did you mean 'a'" not in str(error)


def test_an_argument_that_the_call_needs(reads):
    layer = layers.MultiHeadAttention(2, 4)
    for x in (Input((5, 4)), zeros((2, 5, 4), "float32")):
        words = "MultiHeadAttention.call() needs `value`"
        reads(lambda x=x: layer(x), first=words, error=TypeError, untouched=[layer])


def test_a_layer_among_the_inputs_of_a_merge(reads):
    reads(lambda: layers.Add()([Input((4,)), layers.Dense(4)]), "call it first, `layer(x)`", error=ValueError)


@pytest.mark.parametrize("x", [Input((10**6,)), zeros((1, 10**6), "float32")], ids=["symbolic", "data"])
def test_a_weight_that_no_machine_can_hold(x, reads):
    layer = layers.Dense(10**9, name="far_too_wide")
    error = reads(
        lambda: layer(x),
        "'far_too_wide'",
        "argument `kernel`",
        "fewer units",
        first="A weight of shape (1000000, 1000000000) takes 4,000,000 GB",
        untouched=[layer],
    )
    assert error.layer is layer


def test_the_way_to_a_weight_that_no_machine_can_hold(reads):
    image = Input((10**6, 10**6, 3))
    x = layers.Flatten(name="flat")(layers.Conv2D(8, 3, name="first")(image))
    reads(lambda: layers.Dense(100, name="wide")(x), "1000000x1000000 -> first 999998x999998 -> flat")


def test_no_way_is_shown_where_there_is_none(reads):
    error = reads(lambda: layers.Conv2D(3, 5).explain((3, 3, 1)), first="zero or negative")
    assert "sizes" not in str(error)


def test_a_number_for_the_shape_of_an_input(reads):
    reads(lambda: Input(shape=4), "'Input'", "argument `shape`", "`(4,)`", first="Cannot convert '4'")
    reads(lambda: Input(batch_shape=4), "argument `batch_shape`", "`(4,)`")


def test_data_of_another_width_than_a_layer_was_built_for(reads):
    layer = layers.Dense(2, name="first")
    layer(zeros((1, 4), "float32"))
    words = "weights were made for 4 along axis -1, and the value has 5"
    reads(lambda: layer(zeros((1, 5), "float32")), words, "feed 4 along that axis", untouched=[layer])


@pytest.mark.parametrize(
    ("name", "today"), [("fit_generator", "`fit(generator"), ("predict_classes", "`predict(x).argmax(-1)`")]
)
@pytest.mark.parametrize("model", [lamina.Sequential([layers.Dense(1)]), lamina.Model()])
def test_methods_of_keras_1_have_successors(name, today, model):
    assert not hasattr(model, name)
    with pytest.raises(AttributeError) as caught:
        getattr(model, name)
    assert f"has no attribute '{name}'. Use {today}" in str(caught.value)
