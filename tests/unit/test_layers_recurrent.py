"""Recurrent and attention layers beyond the numbers: dropout, precision, copies, gradients, explanations."""

import copy
import pickle

import numpy as np
import pytest

import lamina
from lamina import Input, layers, ops

RECURRENT = ["SimpleRNN", "LSTM", "GRU"]
every_layer = pytest.mark.parametrize("kind", RECURRENT)
X = np.random.default_rng(0).standard_normal((3, 12, 4)).astype("float32")


def make(kind, *args, **kwargs):
    return getattr(layers, kind)(*args, **kwargs)


@every_layer
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_dropout_works_in_training_only(kind, option):
    layer = make(kind, 5, seed=1, **{option: 0.5})
    still = layer(X).numpy()
    assert np.array_equal(layer(X, training=False), still)
    first, second = layer(X, training=True).numpy(), layer(X, training=True).numpy()
    assert not np.allclose(first, still) and not np.allclose(first, second)


@pytest.mark.parametrize("stacked", [False, True])
def test_dropout_masks_stay_the_same_at_all_steps(stacked):
    """A sum over the steps of an input of ones: what is dropped at one step is dropped at all."""

    calls = []

    class Sum(layers.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            calls.append(inputs)
            return super().call(inputs, states, training=training)

    cell = Sum(
        6, None, False, kernel_initializer="identity", recurrent_initializer="identity", dropout=0.5, seed=3
    )
    layer = layers.RNN(layers.StackedRNNCells([cell]) if stacked else cell)
    total = layer(np.ones((4, 7, 6), "float32"), training=True).numpy()
    assert len(calls) == 7
    assert set(np.unique(total)) == {0.0, 14.0}  # 7 steps of 0, or of 1 / (1 - 0.5)


def test_dropout_of_a_gate_by_itself():
    """implementation=1 has a mask for each gate, 2 one for all."""
    x = np.ones((1, 1, 40), "float32")
    for implementation, masks in ((1, 3), (2, 1)):
        layer = layers.LSTM(2, dropout=0.5, implementation=implementation, seed=1)
        layer(x)
        with lamina.GradientTape() as tape:
            loss = ops.sum(layer(x, training=True))
        gradient = tape.gradient(loss, layer.trainable_variables)[0].numpy()
        # What a gate did not see has no gradient. The forget gate has nothing to forget at the first step.
        seen = {tuple(gradient[:, 2 * gate] != 0) for gate in (0, 2, 3)}
        assert len(seen) == masks and not any(all(s) for s in seen)


@every_layer
def test_projecting_all_steps_at_once_gives_the_same(kind):
    layer = make(kind, 5, return_sequences=True)
    assert np.allclose(layer(X, training=False), layer(X, training=True), atol=1e-6)


@every_layer
def test_run_eagerly_gives_the_same(kind):
    model = lamina.Sequential([Input((12, 4)), make(kind, 5), layers.Dense(1)])
    outputs = []
    for eagerly in (False, True):
        model.compile("sgd", "mse", run_eagerly=eagerly)
        outputs.append(model.predict(X, verbose=0))
    assert np.allclose(*outputs, atol=1e-6)


@every_layer
def test_batches_of_any_size_share_a_trace(kind):
    model = lamina.Sequential([Input((12, 4)), make(kind, 5)])
    whole = model.predict(X, verbose=0)
    assert np.allclose(model.predict(X[:1], verbose=0), whole[:1], atol=1e-6)
    assert np.allclose(model.predict(X, batch_size=2, verbose=0), whole, atol=1e-6)


@every_layer
def test_learns(kind):
    """The sum of a sequence, from its steps."""
    lamina.utils.set_random_seed(1)
    x = np.random.default_rng(1).uniform(0, 1, (64, 8, 1)).astype("float32")
    model = lamina.Sequential([Input((None, 1)), make(kind, 12), layers.Dense(1)])
    model.compile(lamina.optimizers.Adam(0.02), "mse")
    history = model.fit(x, x.sum(1), batch_size=16, epochs=25, verbose=0).history["loss"]
    assert history[-1] < 0.05 * history[0]


def test_attention_learns():
    """To say which step holds the largest value, each step must look at the others."""
    lamina.utils.set_random_seed(1)
    x = np.random.default_rng(1).uniform(0, 1, (128, 5, 1)).astype("float32")
    inputs = Input((5, 1))
    h = layers.Dense(16, activation="relu")(inputs)
    h = h + layers.MultiHeadAttention(2, 8)(h, h)
    model = lamina.Model(inputs, layers.Flatten()(layers.Dense(1)(layers.Dense(16, activation="relu")(h))))
    model.compile(lamina.optimizers.Adam(0.01), "categorical_crossentropy")
    y = np.eye(5, dtype="float32")[x[..., 0].argmax(1)]
    model.compile(lamina.optimizers.Adam(0.01), lamina.losses.CategoricalCrossentropy(from_logits=True))
    history = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]


@every_layer
def test_mixed_precision(kind):
    layer = make(kind, 5, dtype="mixed_float16", return_state=True)
    outputs = layer(X)
    assert {o.dtype for o in outputs} == {"float16"}
    assert {w.dtype for w in layer.weights} == {"float32"}
    exact = make(kind, 5)
    exact(X)
    exact.set_weights(layer.get_weights())
    assert np.allclose(np.asarray(outputs[0], "float32"), exact(X), atol=1e-2)
    attention = layers.MultiHeadAttention(2, 3, dtype="mixed_float16")
    assert attention(X, X).dtype == "float16" and attention.weights[0].dtype == "float32"


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LSTM(3, return_sequences=True),
        lambda: layers.Bidirectional(layers.GRU(3)),
        lambda: layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(2)]),
        lambda: layers.TimeDistributed(layers.Dense(2)),
    ],
)
def test_copies(layer):
    model = lamina.Sequential([Input((12, 4)), layer()])
    expected = model.predict(X, verbose=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.predict(X, verbose=0), expected)
    clone = lamina.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert np.array_equal(clone.predict(X, verbose=0), expected)


def test_stateful_layers_are_copied_with_their_states():
    layer = layers.LSTM(3, stateful=True)
    layer(X)
    other = copy.deepcopy(layer)
    assert np.array_equal(layer(X), other(X))
    layer.reset_state()
    assert not np.allclose(layer(X), other(X))


@every_layer
def test_a_state_that_is_not_zero_from_a_trace_with_an_unknown_batch(kind):
    inputs, state = Input((12, 4)), Input((5,))
    states = [state] * (2 if kind == "LSTM" else 1)
    model = lamina.Model([inputs, state], make(kind, 5)(inputs, initial_state=states))
    zeros, ones = np.zeros((3, 5), "float32"), np.ones((3, 5), "float32")
    assert np.allclose(model.predict([X, zeros], verbose=0), model.layers[-1](X), atol=1e-6)
    assert not np.allclose(model.predict([X, ones], verbose=0), model.layers[-1](X), atol=1e-4)


def test_initial_values():
    """The forget gate starts open; each gate's recurrent kernel is part of an orthogonal matrix."""
    lstm = layers.LSTM(6)
    lstm(X)
    kernel, recurrent, bias = lstm.get_weights()
    assert bias.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
    assert np.allclose(recurrent @ recurrent.T, np.eye(6), atol=1e-5)
    assert np.abs(kernel).max() <= np.sqrt(6 / (4 + 24))


def test_compute_output_shape():
    assert layers.LSTM(5).compute_output_shape((None, 12, 4)) == (None, 5)
    assert layers.GRU(5, return_sequences=True).compute_output_shape((2, None, 4)) == (2, None, 5)
    assert layers.LSTM(5, return_state=True).compute_output_shape((2, 12, 4)) == ((2, 5),) * 3
    assert layers.TimeDistributed(layers.Dense(5)).compute_output_shape((2, 12, 4)) == (2, 12, 5)
    assert layers.Bidirectional(layers.LSTM(5)).compute_output_shape((2, 12, 4)) == (2, 10)


def test_time_distributed_joins_only_what_treats_each_sample_alone():
    sizes = []

    class Spy(layers.Layer):
        def call(self, inputs):
            sizes.append(inputs.shape[0])
            return inputs - ops.mean(inputs, axis=0)

    expected = X - X.mean(0)
    assert np.allclose(layers.TimeDistributed(Spy())(X), expected, atol=1e-6)
    assert set(sizes) == {3}
    centred = layers.Lambda(lambda x: x - ops.mean(x, axis=0))
    assert np.allclose(layers.TimeDistributed(centred)(X), expected, atol=1e-6)


def test_attention_masks_of_the_query():
    """A query that is masked looks at nothing."""
    mask = np.array([[1] * 6 + [0] * 6] * 3, "bool")
    layer = layers.MultiHeadAttention(2, 3)
    _, scores = layer(X, X, query_mask=mask, return_attention_scores=True)
    assert not np.any(np.asarray(scores)[:, :, 6:]) and np.allclose(np.asarray(scores)[:, :, :6].sum(-1), 1)
    layer = layers.MultiHeadAttention(2, 3, dropout=0.5, seed=1)
    assert np.array_equal(layer(X, X), layer(X, X))
    assert not np.allclose(layer(X, X, training=True), layer(X, X, training=True))


@pytest.mark.parametrize(
    "layer, words",
    [
        (
            lambda: layers.LSTM(16),
            ["12 steps with the same weights", "4*16 = 64 columns", "needs `return_sequences=True` here"],
        ),
        (lambda: layers.GRU(16, return_sequences=True), ["3*16 = 48 columns", "the output of every step"]),
        (
            lambda: layers.SimpleRNN(16, go_backwards=True),
            ["4 features of the step", "the last step is read"],
        ),
        (lambda: layers.RNN(layers.LSTMCell(3), return_state=True), ["`LSTMCell`", "(None, 3), (None, 3)"]),
        (
            lambda: layers.Bidirectional(layers.LSTM(3)),
            ["forwards", "backwards", "side by side", "(None, 6)"],
        ),
        (lambda: layers.TimeDistributed(layers.Dense(3)), ["same Dense", "12 steps", "(None, 12, 3)"]),
    ],
)
def test_explanations(layer, words):
    text = " ".join(str(layer().explain((12, 4))).split())
    for word in words:
        assert word in text


def test_explanations_of_attention():
    x = Input((12, 4))
    h = layers.MultiHeadAttention(2, 3)(x, x)
    h = layers.GroupQueryAttention(3, 4, 2)(h, x)
    text = " ".join(str(lamina.Model(x, layers.Attention()([h, x])).explain()).split())
    for word in ("2 heads side by side", "Key and value have 2 heads only", "12 steps of the query"):
        assert word in text
