"""Attention layers and EinsumDense against Keras: outputs, scores, masks, gradients, configs, training."""

import jax
import keras
import numpy as np
import pytest
from harness import assert_close, check_config, check_layer, make_pair, random_array, random_weights

import lamina
from lamina import tree

QUERY, VALUE, KEY = random_array((2, 4, 6)), random_array((2, 5, 6), seed=1), random_array((2, 5, 6), seed=2)
QUERY_MASK = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], "bool")
VALUE_MASK = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 0]], "bool")
SEEN = np.random.default_rng(3).random((2, 4, 5)) > 0.4
HEADS = [
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}),
    ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}),
]
every_kind = pytest.mark.parametrize("name, config", HEADS)


def built_pair(name, config, *args):
    theirs, ours = make_pair(name, config)
    theirs(*args), ours(*args)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.path.split("/")[1:] for w in ours.weights] == [w.path.split("/")[1:] for w in theirs.weights]
    values = [v - 0.7 for v in random_weights(theirs.weights)]
    theirs.set_weights(values), ours.set_weights(values)
    return theirs, ours


def same_outputs(theirs, ours, *args, **kwargs):
    expected, actual = tree.flatten(theirs(*args, **kwargs)), tree.flatten(ours(*args, **kwargs))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


@pytest.mark.parametrize(
    "name, config",
    [
        ("Attention", {}),
        ("Attention", {"use_scale": True}),
        ("Attention", {"score_mode": "concat"}),
        ("Attention", {"score_mode": "concat", "use_scale": True, "dropout": 0.3, "seed": 2}),
        ("AdditiveAttention", {}),
        ("AdditiveAttention", {"use_scale": False, "dropout": 0.3}),
    ],
)
@pytest.mark.parametrize("inputs", [[QUERY, VALUE], [QUERY, VALUE, KEY]], ids=["value", "key"])
def test_single_attention(name, config, inputs):
    check_layer(name, config, inputs)
    check_layer(name, config, inputs, mask=[QUERY_MASK, VALUE_MASK], use_causal_mask=True)
    check_layer(name, config, inputs, mask=[None, VALUE_MASK])
    theirs, ours = built_pair(name, config, inputs)
    same_outputs(theirs, ours, inputs, return_attention_scores=True, use_causal_mask=True)
    same_outputs(theirs, ours, inputs, return_attention_scores=True, mask=[QUERY_MASK, VALUE_MASK])


@every_kind
def test_weights_and_config(name, config):
    theirs, ours = built_pair(name, config, QUERY, VALUE)
    check_config(theirs, ours)
    more = {
        **config,
        "use_bias": False,
        "dropout": 0.2,
        "sliding_window": 2,
        "use_gate": True,
        "kernel_initializer": "he_normal",
        "kernel_regularizer": "l2",
        "bias_constraint": "max_norm",
        "seed": 4,
    }
    theirs, ours = built_pair(name, more, QUERY, VALUE)
    check_config(theirs, ours)
    assert len(ours.variables) == len(theirs.variables)
    assert len(ours.losses) == len(theirs.losses)


@every_kind
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("more", [{}, {"sliding_window": 2, "use_gate": True}, {"dropout": 0.4}])
def test_calls(name, config, scores, more):
    theirs, ours = built_pair(name, {**config, **more}, QUERY, VALUE)
    for kwargs in (
        {},
        {"key": KEY},
        {"use_causal_mask": True},
        {"attention_mask": SEEN},
        {"attention_mask": SEEN[0], "use_causal_mask": True},
        {"attention_mask": SEEN[:, None]},
        {"value_mask": VALUE_MASK, "key_mask": VALUE_MASK, "attention_mask": SEEN},
    ):
        same_outputs(theirs, ours, QUERY, VALUE, return_attention_scores=scores, **kwargs)


@every_kind
def test_masks_travel(name, config):
    """The masks of Embedding reach the scores, and that of the query goes on."""
    ids = np.array([[1, 2, 0, 3], [4, 0, 0, 0]], "int32")

    def make(library):
        inputs = library.Input((4,), dtype="int32")
        x = library.layers.Embedding(6, 6, mask_zero=True)(inputs)
        x = getattr(library.layers, name)(**config)(x, x)
        return library.Model(inputs, library.layers.LSTM(3)(x))

    theirs, ours = make(keras), make(lamina)
    ours.set_weights(theirs.get_weights())
    assert_close(ours.predict(ids, verbose=0), theirs.predict(ids, verbose=0))


@pytest.mark.parametrize(
    "config",
    [
        {"num_heads": 2, "key_dim": 3, "value_dim": 5, "output_shape": 7},
        {"num_heads": 2, "key_dim": 3, "attention_axes": 2},
        {"num_heads": 2, "key_dim": 3, "attention_axes": (1, 2), "output_shape": (3, 2)},
        {"num_heads": 2, "key_dim": 3, "attention_axes": -1},
    ],
)
@pytest.mark.parametrize("scores", [False, True])
def test_more_axes(config, scores):
    query, value = random_array((2, 3, 4, 6)), random_array((2, 3, 4, 5), seed=1)
    theirs, ours = built_pair("MultiHeadAttention", config, query, value)
    check_config(theirs, ours)
    same_outputs(theirs, ours, query, value, return_attention_scores=scores)


@every_kind
def test_gradients(name, config):
    theirs, ours = built_pair(name, config, QUERY, VALUE)
    cotangent = random_array(tuple(theirs(QUERY, VALUE).shape), seed=99)

    def loss(weights, query, value):
        output, _ = theirs.stateless_call(weights, [], query, value, attention_mask=SEEN)
        return (output * cotangent).sum()

    expected = jax.grad(loss, (0, 1, 2))([w.value for w in theirs.weights], QUERY, VALUE)
    query, value = lamina.ops.convert_to_tensor(QUERY), lamina.ops.convert_to_tensor(VALUE)
    with lamina.GradientTape() as tape:
        tape.watch([query, value])
        total = lamina.ops.sum(ours(query, value, attention_mask=SEEN) * cotangent)
    actual = tape.gradient(total, [ours.trainable_variables, query, value])
    names = [w.path for w in ours.trainable_variables] + ["query", "value"]
    for path, a, e in zip(names, tree.flatten(actual), tree.flatten(expected), strict=True):
        if path.endswith("key/bias"):  # it moves all scores of a row alike: nothing follows from it
            assert np.abs(a).max() < 1e-5 and np.abs(e).max() < 1e-5
        else:
            assert_close(a, e, path, 1e-4)


def transformer(library):
    inputs = library.Input((6, 8))
    x = library.layers.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True)
    x = library.layers.LayerNormalization()(x + inputs)
    x = library.layers.GroupQueryAttention(4, 2, 1)(x, x)
    x = library.layers.Attention()([x, inputs])
    return library.Model(inputs, library.layers.Dense(1)(library.layers.GlobalAveragePooling1D()(x)))


def test_training_follows_keras():
    theirs, ours = transformer(keras), transformer(lamina)
    ours.set_weights(theirs.get_weights())
    x, y = random_array((16, 6, 8)), random_array((16, 1), seed=1)
    for model, library in ((theirs, keras), (ours, lamina)):
        model.compile(library.optimizers.SGD(0.1), "mse")
    losses = []
    for _ in range(4):
        losses.append(float(ours.train_on_batch(x, y)))
        assert_close(losses[-1], float(theirs.train_on_batch(x, y)), "loss", 1e-4)
    assert losses[-1] < losses[0]
    for weight, a, e in zip(ours.weights, ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(a, e, weight.path, 1e-4)


def test_a_model_from_keras_config():
    theirs = transformer(keras)
    ours = lamina.Model.from_config(theirs.get_config())
    ours.set_weights(theirs.get_weights())
    x = random_array((3, 6, 8))
    assert_close(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


def test_sequences_of_any_length():
    def make(library):
        inputs = library.Input((None, 8))
        return library.Model(
            inputs, library.layers.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True)
        )

    theirs, ours = make(keras), make(lamina)
    ours.set_weights(theirs.get_weights())
    assert ours.output_shape == (None, None, 8)
    for length in (3, 7):
        x = random_array((2, length, 8))
        assert_close(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


@pytest.mark.parametrize(
    "config, shape",
    [
        ({"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c"}, (2, 4)),
        ({"equation": "abc,cd->abd", "output_shape": (5, 3), "bias_axes": "d"}, (2, 5, 4)),
        ({"equation": "abc,cde->abde", "output_shape": (5, 3, 2), "bias_axes": "de"}, (2, 5, 4)),
        ({"equation": "abc,cde->abde", "output_shape": (5, 3, 2), "bias_axes": "be"}, (2, 5, 4)),
        ({"equation": "...x,xy->...y", "output_shape": 3, "activation": "relu"}, (2, 5, 4)),
        ({"equation": "ab...,bc->ac...", "output_shape": 3, "bias_axes": "c"}, (2, 5, 4)),
        ({"equation": "abc,bcd->abd", "output_shape": (5, 3), "kernel_regularizer": "l2"}, (2, 5, 4)),
    ],
)
def test_einsum_dense(config, shape):
    check_layer("EinsumDense", config, shape)


def test_einsum_dense_takes_sizes_from_its_input():
    layer = lamina.layers.EinsumDense("abc,cd->abd", (None, 3))
    assert layer(lamina.Input((5, 4))).shape == (None, 5, 3)


def test_einsum_dense_starts_as_keras():
    """The kernel's variance follows from how many inputs and outputs it has, whatever their axes."""
    kernel = lamina.layers.EinsumDense("abc,cde->abde", (None, 8, 8))
    kernel.build((None, 5, 64))
    limit = np.sqrt(6 / (64 + 64))
    values = kernel.get_weights()[0]
    assert 0.95 * limit < np.abs(values).max() <= limit
