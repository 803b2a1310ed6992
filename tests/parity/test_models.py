"""Models against Keras's own: names, order of weights, configurations both ways, outputs."""

import json

import keras
import numpy as np
import pytest

import lamina


def mlp(k):
    return k.Sequential(
        [
            k.Input((4,)),
            k.layers.Dense(5, activation="relu", kernel_regularizer="l2"),
            k.layers.BatchNormalization(),
            k.layers.Dropout(0.2),
            k.layers.Dense(3, activation="softmax", kernel_constraint="max_norm"),
        ]
    )


def convnet(k):
    return k.Sequential(
        [
            k.Input((9, 9, 2)),
            k.layers.Conv2D(3, 3, padding="same", activation="relu"),
            k.layers.MaxPooling2D(),
            k.layers.DepthwiseConv2D(3),
            k.layers.LayerNormalization(),
            k.layers.GlobalAveragePooling2D(),
            k.layers.Dense(2),
        ]
    )


def branches(k):
    a, b = k.Input((4,), name="a"), k.Input((4,), name="b")
    shared = k.layers.Dense(3)
    x, y = shared(a), shared(b)
    z = k.layers.Concatenate()([x, k.layers.Multiply()([x, y])])
    return k.Model([a, b], [k.layers.Dense(2)(z), k.layers.Add()([x, y])])


def residual(k):
    i = k.Input((6, 6, 2))
    x = k.layers.Conv2D(2, 3, padding="same")(i)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.ReLU()(x)
    x = k.layers.Add()([x, i])
    x = k.layers.Flatten()(x)
    return k.Model(i, k.layers.Dense(2)(x), name="residual")


def nested(k):
    inner_in = k.Input((4,), name="inner_in")
    inner = k.Model(inner_in, k.layers.Dense(3)(inner_in), name="inner")
    stack = k.Sequential([k.layers.Dense(4, name="s1"), k.layers.Dense(4, name="s2")], name="stack")
    i = k.Input((4,), name="i")
    x = inner(stack(i))
    y = inner(i)
    return k.Model(i, k.layers.Add()([x, y]), name="outer")


def operators(k):
    i = k.Input((4,), name="i")
    x = k.layers.Dense(4)(i)
    y = x * 2.0 + i
    y = k.ops.concatenate([y[:, :2], k.ops.exp(x)], axis=-1)
    return k.Model(i, k.ops.mean(y, axis=-1, keepdims=True))


def dicts(k):
    inputs = {"p": k.Input((4,), name="p"), "q": k.Input((2,), name="q")}
    x = k.layers.Concatenate()([inputs["p"], inputs["q"]])
    return k.Model(inputs, {"u": k.layers.Dense(2, name="u")(x), "v": k.layers.Dense(1, name="v")(x)})


MODELS = [mlp, convnet, branches, residual, nested, operators, dicts]


def data_for(model):
    rng = np.random.default_rng(0)

    def array(x):
        return rng.normal(size=(3, *x.shape[1:])).astype("float32")

    if isinstance(model.input, dict):
        return {key: array(x) for key, x in model.input.items()}
    arrays = [array(x) for x in model.inputs]
    return arrays[0] if len(arrays) == 1 else arrays


def assert_same_outputs(ours, theirs, x):
    a, b = lamina.tree.flatten(ours(x)), lamina.tree.flatten(theirs(x))
    for p, q in zip(a, b, strict=True):
        np.testing.assert_allclose(np.asarray(p), np.asarray(q), rtol=1e-5, atol=1e-5)


@pytest.fixture(params=MODELS, ids=lambda f: f.__name__)
def pair(request):
    ours, theirs = request.param(lamina), request.param(keras)
    rng = np.random.default_rng(1)
    theirs.set_weights([rng.uniform(0.1, 1, w.shape).astype(w.dtype) for w in theirs.get_weights()])
    return ours, theirs


def test_names_weights_and_outputs(pair):
    ours, theirs = pair
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.path for w in ours.trainable_weights] == [w.path for w in theirs.trainable_weights]
    ours.set_weights(theirs.get_weights())
    assert_same_outputs(ours, theirs, data_for(ours))


def test_keras_config_makes_our_model(pair):
    _, theirs = pair
    for config in (theirs.get_config(), json.loads(json.dumps(theirs.get_config()))):
        cls = lamina.Sequential if isinstance(theirs, keras.Sequential) else lamina.Model
        ours = cls.from_config(config)
        assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
        ours.set_weights(theirs.get_weights())
        assert_same_outputs(ours, theirs, data_for(ours))


def test_our_config_makes_a_keras_model(pair):
    ours, theirs = pair
    config = json.loads(json.dumps(ours.get_config()))
    cls = keras.Sequential if isinstance(theirs, keras.Sequential) else keras.Model
    again = cls.from_config(config)
    again.set_weights(theirs.get_weights())
    ours.set_weights(theirs.get_weights())
    assert_same_outputs(ours, again, data_for(ours))


def test_json_goes_both_ways(pair):
    ours, theirs = pair
    theirs_again = keras.models.model_from_json(ours.to_json())
    ours_again = lamina.models.model_from_json(theirs.to_json())
    for model in (ours_again, theirs_again):
        model.set_weights(theirs.get_weights())
    assert_same_outputs(ours_again, theirs_again, data_for(ours))


def test_summary_reads_as_keras_does(pair, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # Keras cuts a table that goes nowhere at the terminal's width
    ours, theirs = pair
    texts = []
    for model in (ours, theirs):
        lines = []
        model.summary(print_fn=lines.append, line_length=100)
        texts.append("\n".join(lines))
    assert texts[0] == texts[1]
