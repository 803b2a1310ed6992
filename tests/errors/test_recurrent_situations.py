"""What a user reads when a sequence layer gets something else than a sequence. Nothing is built then."""

import numpy as np
import pytest

import lamina
from lamina import Input, layers
from lamina.errors import ShapeError

RECURRENT = {
    "SimpleRNN": lambda **kwargs: layers.SimpleRNN(4, **kwargs),
    "LSTM": lambda **kwargs: layers.LSTM(4, **kwargs),
    "GRU": lambda **kwargs: layers.GRU(4, **kwargs),
    "RNN": lambda **kwargs: layers.RNN(layers.LSTMCell(4), **kwargs),
    "stacked": lambda **kwargs: layers.RNN([layers.LSTMCell(4), layers.GRUCell(4)], **kwargs),
    "Bidirectional": lambda name=None, **kwargs: layers.Bidirectional(layers.GRU(4, **kwargs), name=name),
}
every_layer = pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)


def fails(layer, x, *words, **kwargs):
    """The call raises a ShapeError that says all the words, and the layer stays unbuilt."""
    with pytest.raises(ShapeError) as caught:
        layer(x, **kwargs)
    for word in words:
        assert word in str(caught.value)
    assert not layer.built and not layer.weights and not layer._inbound_nodes
    return caught.value


@every_layer
def test_two_axes(make):
    error = fails(
        make(name="reader"),
        np.zeros((32, 10), "float32"),
        "'reader'",
        "(32, 10)",
        "(batch, time, features)",
        "one feature per step? `x[..., None]`",
        "one step? `x[:, None, :]`",
        "return_sequences=True",
    )
    first = str(error).splitlines()[0]
    assert "expected ndim=3, found ndim=2" in first


@every_layer
def test_two_axes_of_an_input(make):
    fails(
        make(name="reader"),
        Input((10,), name="prices"),
        "expected ndim=3, found ndim=2",
        "'reader'",
        "'prices'",
        "`x[..., None]` and `Input((10, 1))`",
        "`x[:, None, :]` and `Input((1, 10))`",
    )


@every_layer
def test_the_fixes_work(make):
    x = np.zeros((32, 10), "float32")
    assert make()(x[..., None]).shape[0] == 32
    assert make()(x[:, None, :]).shape[0] == 32
    assert make()(Input((10, 1))).shape[0] is None


@every_layer
@pytest.mark.parametrize("first", RECURRENT.values(), ids=RECURRENT)
def test_a_layer_after_one_that_returns_its_last_step(first, make):
    x = first(name="lower")(Input((10, 3)))
    error = fails(
        make(name="upper"),
        x,
        "expected ndim=3, found ndim=2",
        "'upper'",
        "'lower' returns only its last step",
        "`return_sequences=True` on ",
        "'lower'",
    )
    assert error.producer.name == "lower"
    assert make(name="upper")(first(return_sequences=True)(Input((10, 3)))).shape[0] is None


def test_layers_between_that_keep_the_shape():
    x = layers.LSTM(4, name="lower")(Input((10, 3)))
    x = layers.LayerNormalization()(layers.Dropout(0.5)(x))
    fails(layers.LSTM(4), x, "'lower' returns only its last step", "`return_sequences=True` on 'lower'")


def test_in_a_sequential_model():
    with pytest.raises(ShapeError) as caught:
        lamina.Sequential([Input((10, 3)), layers.LSTM(4, name="lower"), layers.LSTM(4, name="upper")])
    for word in ("'upper'", "`return_sequences=True` on 'lower'"):
        assert word in str(caught.value)


@every_layer
def test_images(make):
    fails(make(), Input((28, 28, 3)), "found ndim=4", "TimeDistributed(Flatten())", "Reshape((28, 84))")


@every_layer
def test_unknown_features(make):
    fails(make(name="reader"), Input((10, None)), "The features axis", "'reader'", "Input(shape)")


@every_layer
def test_other_features_than_built_for(make):
    layer = make(name="reader")
    layer(Input((10, 3)))
    with pytest.raises(ShapeError, match="expected axis -1 of input shape to have value 3"):
        layer(np.zeros((2, 10, 5), "float32"))


@every_layer
def test_stateful_without_a_batch_size(make):
    fails(
        make(name="reader", stateful=True),
        Input((5, 3)),
        "batch size must be static",
        "'reader'",
        "`Input(batch_shape=(32, 5, 3))`",
    )
    assert make(stateful=True)(Input(batch_shape=(32, 5, 3))).shape[0] == 32


@every_layer
def test_stateful_with_another_batch_size(make):
    layer = make(stateful=True)
    layer(np.zeros((2, 5, 3), "float32"))
    with pytest.raises(ShapeError) as caught:
        layer(np.zeros((3, 5, 3), "float32"))
    for word in ("Expected batch size: 2", "Received batch size: 3", "keeps a state for each sample"):
        assert word in str(caught.value)


def test_initial_states_that_do_not_fit():
    x, state = np.zeros((2, 5, 3), "float32"), np.zeros((2, 4), "float32")
    for states in ([state], [state, state[:, :2]], [state] * 3, [state[:1], state[:1]]):
        with pytest.raises(ShapeError) as caught:
            layers.LSTM(4, name="reader")(x, initial_state=states)
        for word in ("`initial_state` does not fit", "'reader'", "(2, 4), (2, 4)"):
            assert word in str(caught.value)


def test_a_cell_that_fails_says_so_before_there_is_data():
    class Broken(layers.Layer):
        state_size = 3

        def call(self, inputs, states):
            raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        layers.RNN(Broken())(Input((5, 3)))


def test_no_steps_and_unknown_steps():
    with pytest.raises(ShapeError, match="at least one time step"):
        layers.GRU(4)(np.zeros((2, 0, 3), "float32"))
    with pytest.raises(ShapeError, match="Cannot unroll a RNN"):
        layers.GRU(4, unroll=True)(Input((None, 3)))


def test_time_distributed():
    fails(
        layers.TimeDistributed(layers.Dense(2, name="inner"), name="outer"),
        np.zeros((2, 5), "float32"),
        "at least 3 dimensions",
        "'outer'",
        "'inner'",
    )
    layer = layers.TimeDistributed(layers.Dense(2))
    with pytest.raises(ShapeError, match="incompatible with the input shape"):
        layer(np.zeros((2, 5, 3), "float32"), mask=np.ones((2, 4), "bool"))


def test_arguments():
    with pytest.raises(ValueError, match="Did you mean 'return_sequences'"):
        layers.LSTM(4, retrun_sequences=True)
    with pytest.raises(ValueError, match="positive integer"):
        layers.GRU(0)
    with pytest.raises(ValueError, match="use_cudnn"):
        layers.LSTM(4, use_cudnn="maybe")
    with pytest.raises(ValueError, match="`state_size` attribute"):
        layers.RNN(layers.Dense(3))
    with pytest.raises(ValueError, match="Invalid merge mode"):
        layers.Bidirectional(layers.LSTM(4), merge_mode="max")
    with pytest.raises(ValueError, match="different `go_backwards` value"):
        layers.Bidirectional(layers.LSTM(4), backward_layer=layers.LSTM(4))
    with pytest.raises(ValueError, match="wraps recurrent layers"):
        layers.Bidirectional(layers.Dense(4))
