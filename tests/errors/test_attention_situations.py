"""What a user reads when the inputs of an attention layer do not fit each other. Nothing is built then."""

import numpy as np
import pytest

from lamina import Input, layers
from lamina.errors import ShapeError

SINGLE = {"Attention": layers.Attention, "AdditiveAttention": layers.AdditiveAttention}
HEADS = {
    "MultiHeadAttention": lambda **kwargs: layers.MultiHeadAttention(2, 3, **kwargs),
    "GroupQueryAttention": lambda **kwargs: layers.GroupQueryAttention(3, 4, 2, **kwargs),
}
single = pytest.mark.parametrize("make", SINGLE.values(), ids=SINGLE)
heads = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)


def sequence(*shape, name=None):
    return layers.Activation("relu", name=name)(Input(shape))


def fails(layer, *args, words, **kwargs):
    """The call raises a ShapeError that says all the words, and the layer stays unbuilt."""
    with pytest.raises(ShapeError) as caught:
        layer(*args, **kwargs)
    for word in words:
        assert word in str(caught.value)
    assert not layer.built and not layer.weights and not layer._inbound_nodes


@single
def test_features_of_query_and_value(make):
    left, right = sequence(5, 4, name="left"), sequence(7, 6, name="right")
    words = ["Received 4 and 6", "'both'", "'left'", "'right'", "(None, 5, 4)", "(None, 7, 6)", "`Dense(4)`"]
    fails(make(name="both"), [left, right], words=words)
    fails(make(name="both"), [left, right, right], words=words)


@single
def test_steps_of_value_and_key(make):
    words = ["except the last one, must be equal", "'both'", "(None, 7, 4)", "(None, 6, 4)", "'keys'"]
    fails(make(name="both"), [sequence(5, 4), sequence(7, 4), sequence(6, 4, name="keys")], words=words)


@heads
def test_steps_of_value_and_key_with_heads(make):
    words = ["except the last one, must be equal", "'both'", "(None, 7, 4)", "(None, 6, 4)", "'keys'"]
    layer = make(name="both")
    fails(layer, sequence(5, 4), sequence(7, 4), key=sequence(6, 4, name="keys"), words=words)


@single
def test_no_time_axis(make):
    words = [
        "expected min_ndim=3, found ndim=2",
        "`query`",
        "'left'",
        "x[:, None, :]",
        "return_sequences=True",
    ]
    fails(make(), [sequence(4, name="left"), sequence(7, 4)], words=words)


@heads
def test_no_time_axis_with_heads(make):
    reader = layers.LSTM(4, name="reader")(Input((5, 3)))
    words = ["expected min_ndim=3, found ndim=2", "`value`", "'reader'", "return_sequences=True"]
    fails(make(), sequence(5, 4), reader, words=words)


@heads
def test_batches(make):
    a, b = np.zeros((2, 5, 4), "float32"), np.zeros((3, 5, 4), "float32")
    fails(make(name="both"), a, b, words=["different batch sizes", "'both'", "(2, 5, 4)", "(3, 5, 4)"])
    with pytest.raises(ShapeError, match="different batch sizes"):
        layers.Attention()([a, b])


@heads
def test_unknown_features(make):
    words = ["value's features", "'both'", "Input(shape)"]
    fails(make(name="both"), sequence(5, 4), sequence(7, None), words=words)


@heads
def test_attention_mask(make):
    x, mask = np.zeros((2, 5, 4), "float32"), np.ones((2, 5, 6), "bool")
    layer = make(name="both")
    with pytest.raises(ShapeError) as caught:
        layer(x, x, attention_mask=mask)
    for word in ("`attention_mask`", "(2, 5, 6)", "(2, 5, 5)", "'both'"):
        assert word in str(caught.value)
    assert layer(x, x, attention_mask=mask[:, :, :5]).shape == (2, 5, 4)


@single
def test_not_a_list(make):
    for inputs, words in ((sequence(5, 4), "list of inputs"), ([sequence(5, 4)], "length 2 or 3")):
        layer = make()
        with pytest.raises(ValueError, match=words):
            layer(inputs)
        assert not layer.built


def test_arguments():
    with pytest.raises(ValueError, match="score_mode"):
        layers.Attention(score_mode="cosine")
    with pytest.raises(ValueError, match="divisible by `num_key_value_heads`"):
        layers.GroupQueryAttention(3, 3, 2)
    for kwargs in ({"num_heads": 0, "key_dim": 2}, {"num_heads": 2, "key_dim": 2, "sliding_window": 0}):
        with pytest.raises(ValueError, match="positive integer"):
            layers.MultiHeadAttention(**kwargs)
    with pytest.raises(ValueError, match="flash attention"):
        layers.MultiHeadAttention(2, 3, dropout=0.1, flash_attention=True)
    x = np.zeros((2, 5, 4), "float32")
    with pytest.raises(ValueError, match="flash attention"):
        layers.MultiHeadAttention(2, 3, flash_attention=True)(x, x, return_attention_scores=True)
    for equation in ("ab,bc", "...ab,bc->ac", "ab,cd->ad"):
        with pytest.raises(ValueError):
            layers.EinsumDense(equation, 3)


def test_einsum_dense():
    fails(layers.EinsumDense("abc,cd->abd", (6, 4)), sequence(5, 3), words=["shared dimension 'b'", "6"])
    fails(layers.EinsumDense("abc,cd->abd", (5, 4)), sequence(3), words=["expected ndim=3, found ndim=2"])
    fails(layers.EinsumDense("abc,cd->abd", (5, 4)), sequence(5, None), words=["Axis 'c'", "Input(shape)"])
