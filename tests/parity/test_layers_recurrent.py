"""Recurrent layers against Keras: outputs, states, masks, gradients, configurations and training."""

import keras
import numpy as np
import pytest
from harness import assert_close, check_config, check_layer, make_pair, random_array, random_weights

import lamina
from lamina import tree

NAMES = ["SimpleRNN", "LSTM", "GRU"]
STATES = {"SimpleRNN": 1, "LSTM": 2, "GRU": 1}
MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]], "bool")


def same_outputs(theirs, ours, *args, what="output", **kwargs):
    """Both calls give the same structure of the same values."""
    expected, actual = tree.flatten(theirs(*args, **kwargs)), tree.flatten(ours(*args, **kwargs))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, what)


def built_pair(name, config, shape):
    """A layer of each library, built and with the same weights."""
    theirs, ours = make_pair(name, config)
    return shared(theirs, ours, shape)


def shared(theirs, ours, shape):
    x = random_array(shape)
    theirs(x), ours(x)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.path.split("/")[-2:] for w in ours.weights] == [w.path.split("/")[-2:] for w in theirs.weights]
    values = [v - 0.7 for v in random_weights(theirs.weights)]
    theirs.set_weights(values), ours.set_weights(values)
    return theirs, ours


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"return_sequences": True},
        {"return_sequences": True, "go_backwards": True},
        {"go_backwards": True},
        {"use_bias": False},
        {"unroll": True, "return_sequences": True},
        {"activation": "relu", "kernel_regularizer": "l2", "recurrent_constraint": "max_norm"},
        {"recurrent_initializer": "glorot_normal", "bias_initializer": "ones", "bias_regularizer": "l1"},
    ],
)
@pytest.mark.parametrize("training", [None, True])
def test_layers(name, config, training):
    """Without training all steps are projected at once; in training each by itself."""
    check_layer(name, {"units": 3, **config}, (2, 4, 5), training=training)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_sequences_that_are_cut_in_chunks(name, training):
    check_layer(name, {"units": 2, "return_sequences": True}, (2, 23, 3), training=training, rtol=1e-4)


@pytest.mark.parametrize(
    "name, config",
    [
        ("LSTM", {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"}),
        ("LSTM", {"implementation": 1}),
        ("LSTM", {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 3}),
        ("GRU", {"reset_after": False}),
        ("GRU", {"reset_after": False, "use_bias": False, "go_backwards": True}),
        ("GRU", {"implementation": 1, "reset_after": False}),
        ("GRU", {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 3}),
        ("SimpleRNN", {"dropout": 0.3, "recurrent_dropout": 0.2, "zero_output_for_mask": True}),
        ("SimpleRNN", {"activation": None}),
    ],
)
def test_variants(name, config):
    check_layer(name, {"units": 3, **config}, (2, 4, 5))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"return_sequences": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_sequences": True, "zero_output_for_mask": True},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_masks(name, config, training):
    check_layer(name, {"units": 3, **config}, (3, 4, 5), training=training, mask=MASK)


@pytest.mark.parametrize("name", NAMES)
def test_states_in_and_out(name):
    theirs, ours = built_pair(name, {"units": 3, "return_state": True, "return_sequences": True}, (3, 4, 5))
    start = [random_array((3, 3), seed=i) for i in range(STATES[name])]
    x = random_array((3, 4, 5), seed=7)
    same_outputs(theirs, ours, x)
    same_outputs(theirs, ours, x, initial_state=start, mask=MASK)
    if len(start) == 1:
        same_outputs(theirs, ours, x, initial_state=start[0])


@pytest.mark.parametrize("name", NAMES)
def test_stateful(name):
    theirs, ours = built_pair(name, {"units": 3, "stateful": True}, (2, 4, 5))
    assert [tuple(s.shape) for s in ours.states] == [tuple(s.shape) for s in theirs.states]
    assert [s.path for s in ours.states] == [s.path.replace(theirs.name, ours.name) for s in theirs.states]
    assert len(ours.weights) == len(theirs.weights) and len(ours.variables) == len(theirs.variables)
    theirs.reset_state(), ours.reset_state()
    for seed in range(3):
        same_outputs(theirs, ours, random_array((2, 4, 5), seed=seed))
    for a, e in zip(ours.states, theirs.states, strict=True):
        assert_close(a, e, "state")
    theirs.reset_state(), ours.reset_state()
    assert not np.any(ours.states[0].numpy())
    same_outputs(theirs, ours, random_array((2, 4, 5)))


def test_stateful_in_a_model():
    """The state goes on from batch to batch of `predict`, and a function that is compiled updates it."""

    def make(library):
        return library.Sequential(
            [
                library.Input(batch_shape=(2, 4, 5)),
                library.layers.LSTM(3, stateful=True),
                library.layers.Dense(1),
            ]
        )

    theirs, ours = make(keras), make(lamina)
    ours.set_weights(theirs.get_weights())
    x = random_array((6, 4, 5))
    # Keras on JAX forgets the states at the end of a compiled batch: its layers are called by hand.
    expected = np.concatenate([theirs(x[i : i + 2]) for i in (0, 2, 4)])
    assert_close(ours.predict(x, batch_size=2, verbose=0), expected)
    assert_close(ours.layers[0].states[0], theirs.layers[0].states[0])
    ours.layers[0].reset_state()
    assert_close(ours.predict(x, batch_size=2, verbose=0), expected, "after reset")


@pytest.mark.parametrize("name", [f"{n}Cell" for n in NAMES])
@pytest.mark.parametrize("implementation", [1, 2])
def test_cells(name, implementation):
    config = {"units": 3} if name == "SimpleRNNCell" else {"units": 3, "implementation": implementation}
    theirs, ours = make_pair(name, config)
    check_config(theirs, ours)
    assert ours.state_size == theirs.state_size and ours.output_size == theirs.output_size
    x, states = random_array((2, 5)), [random_array((2, 3), seed=i) for i in range(STATES[name[:-4]])]
    theirs(x, states), ours(x, states)
    values = random_weights(theirs.weights)
    theirs.set_weights(values), ours.set_weights(values)
    same_outputs(theirs, ours, x, states)
    if len(states) == 1:
        same_outputs(theirs, ours, x, states[0])
    for a, e in zip(ours.get_initial_state(2), theirs.get_initial_state(2), strict=True):
        assert_close(a, e)


def stack(library, **kwargs):
    cells = [library.layers.LSTMCell(3), library.layers.GRUCell(4), library.layers.SimpleRNNCell(2)]
    return library.layers.RNN(cells, **kwargs)


@pytest.mark.parametrize(
    "config", [{"return_state": True}, {"return_sequences": True}, {"go_backwards": True}]
)
@pytest.mark.parametrize("training", [False, True])
def test_stacked_cells(config, training):
    theirs, ours = stack(keras, **config), stack(lamina, **config)
    check_config(theirs, ours)
    shared(theirs, ours, (3, 4, 5))
    x = random_array((3, 4, 5), seed=7)
    same_outputs(theirs, ours, x, training=training)
    same_outputs(theirs, ours, x, mask=MASK, training=training)


def own_cell(library):
    """A cell as in Keras's documentation: two states, the output is none of them, no `get_initial_state`."""

    class Cell(library.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.state_size = [units, units]

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")

        def call(self, inputs, states):
            h = library.ops.matmul(inputs, self.kernel) + library.ops.matmul(states[0], self.recurrent)
            return library.ops.tanh(h), [h, states[1] + 1]

    return Cell


@pytest.mark.parametrize("config", [{"return_state": True}, {"return_sequences": True}])
def test_cells_of_ones_own(config):
    theirs = keras.layers.RNN(own_cell(keras)(3), **config)
    ours = lamina.layers.RNN(own_cell(lamina)(3), **config)
    shared(theirs, ours, (3, 4, 5))
    x = random_array((3, 4, 5), seed=7)
    same_outputs(theirs, ours, x)
    start = [random_array((3, 3), seed=1), random_array((3, 3), seed=2)]
    same_outputs(theirs, ours, x, initial_state=start)
    out = tree.flatten(ours(lamina.Input((None, 5))))[0]
    assert out.shape == ((None, None, 3) if config.get("return_sequences") else (None, 3))


@pytest.mark.parametrize("training", [False, True])
def test_stacks_with_single_states(training):
    """A state that is no list stays none: of cells without `get_initial_state`, and where it is given so."""

    def make(library, cell):
        return library.layers.RNN([cell(library), cell(library)], return_state=True)

    def own(library):
        cell = own_cell(library)(3)
        cell.state_size = 3
        cell.call = lambda x, states: (library.ops.matmul(x, cell.kernel) + states[0], [states[0] + 1])
        return cell

    for cell, kwargs in (
        (own, {}),
        (lambda library: library.layers.GRUCell(3), {"initial_state": [random_array((3, 3))] * 2}),
    ):
        theirs, ours = make(keras, cell), make(lamina, cell)
        shared(theirs, ours, (3, 4, 5)) if not kwargs else None
        if kwargs:
            theirs(random_array((3, 4, 5)), **kwargs), ours(random_array((3, 4, 5)), **kwargs)
            ours.set_weights(theirs.get_weights())
        same_outputs(theirs, ours, random_array((3, 4, 5), seed=7), training=training, **kwargs)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("config", [{}, {"return_sequences": True}, {"return_state": True}])
def test_bidirectional(mode, config):
    def make(library):
        return library.layers.Bidirectional(library.layers.LSTM(3, **config), merge_mode=mode)

    theirs, ours = make(keras), make(lamina)
    check_config(theirs, ours)
    shared(theirs, ours, (3, 4, 5))
    x = random_array((3, 4, 5), seed=7)
    same_outputs(theirs, ours, x)
    same_outputs(theirs, ours, x, mask=MASK)
    same_outputs(theirs, ours, x, initial_state=[random_array((3, 3), seed=i) for i in range(4)])
    shapes = [tuple(s.shape) for s in tree.flatten(ours(lamina.Input((4, 5))))]
    assert shapes == [tuple(s.shape) for s in tree.flatten(theirs(keras.Input((4, 5))))]


def test_bidirectional_with_its_own_backward_layer():
    def make(library):
        back = library.layers.GRU(2, go_backwards=True)
        return library.layers.Bidirectional(library.layers.LSTM(3), backward_layer=back)

    theirs, ours = make(keras), make(lamina)
    check_config(theirs, ours)
    shared(theirs, ours, (3, 4, 5))
    same_outputs(theirs, ours, random_array((3, 4, 5), seed=7), mask=MASK)


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda library: library.layers.Dense(3), (2, 4, 5)),
        (lambda library: library.layers.Conv2D(3, 2), (2, 3, 4, 5, 2)),
        (lambda library: library.layers.BatchNormalization(), (3, 4, 5)),
        (lambda library: library.layers.LSTM(3), (2, 3, 4, 5)),
        (lambda library: library.layers.Flatten(), (2, 3, 4, 5)),
        (lambda library: library.Sequential([library.layers.Dense(3), library.layers.Dense(2)]), (2, 4, 5)),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_time_distributed(make, shape, training):
    theirs = keras.layers.TimeDistributed(make(keras))
    ours = lamina.layers.TimeDistributed(make(lamina))
    x = random_array(shape)
    theirs(x), ours(x)
    values = random_weights(theirs.weights)
    theirs.set_weights(values), ours.set_weights(values)
    same_outputs(theirs, ours, x, training=training)
    for a, e in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(a, e, "weights after")
    assert ours(lamina.Input((None, *shape[2:]))).shape == theirs(keras.Input((None, *shape[2:]))).shape


def test_time_distributed_config():
    theirs, ours = (lib.layers.TimeDistributed(lib.layers.Dense(3, name="d")) for lib in (keras, lamina))
    check_config(theirs, ours)


def text_model(library):
    return library.Sequential(
        [
            library.Input((6,), dtype="int32"),
            library.layers.Embedding(20, 8, mask_zero=True),
            library.layers.Bidirectional(library.layers.LSTM(5, return_sequences=True)),
            library.layers.GRU(4),
            library.layers.Dense(3, activation="softmax"),
        ]
    )


def test_training_follows_keras():
    """Masks travel from the Embedding on; three steps of SGD lead to the same weights."""
    theirs, ours = text_model(keras), text_model(lamina)
    ours.set_weights(theirs.get_weights())
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (8, 6)).astype("int32"), rng.integers(0, 3, (8,))
    for model, library in ((theirs, keras), (ours, lamina)):
        model.compile(library.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    for _ in range(3):
        assert_close(ours.train_on_batch(x, y), theirs.train_on_batch(x, y), "loss", 1e-4)
    for weight, a, e in zip(ours.weights, ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(a, e, weight.path, 1e-4)


def test_a_model_from_keras_config():
    theirs = text_model(keras)
    ours = lamina.Sequential.from_config(theirs.get_config())
    ours.build((None, 6))
    ours.set_weights(theirs.get_weights())
    x = np.random.default_rng(0).integers(0, 20, (8, 6)).astype("int32")
    assert_close(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


def test_sequences_of_any_length():
    def make(library):
        inputs = library.Input((None, 8))
        x = library.layers.LSTM(5, return_sequences=True)(inputs)
        return library.Model(inputs, library.layers.GRU(4)(x))

    theirs, ours = make(keras), make(lamina)
    ours.set_weights(theirs.get_weights())
    assert ours.output_shape == (None, 4) and ours.layers[1].output.shape == (None, None, 5)
    for length in (3, 11):
        x = random_array((2, length, 8))
        assert_close(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), f"{length} steps")


def test_encoder_and_decoder():
    """The states of one layer start another: symbolic states."""

    def make(library):
        source, target = library.Input((None, 4)), library.Input((None, 3))
        _, h, c = library.layers.LSTM(5, return_state=True)(source)
        decoded = library.layers.LSTM(5, return_sequences=True)(target, initial_state=[h, c])
        return library.Model([source, target], library.layers.Dense(2)(decoded))

    theirs, ours = make(keras), make(lamina)
    ours.set_weights(theirs.get_weights())
    x = [random_array((2, 4, 4)), random_array((2, 3, 3), seed=1)]
    assert_close(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))
