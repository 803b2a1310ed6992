"""The table of `summary` is Keras's, letter by letter, where Keras has the same arguments."""

import keras
import numpy as np
import pytest

import lamina


def branched(k):
    image, meta = k.Input((32, 32, 3), name="image"), k.Input((10,), name="meta")
    x = k.layers.GlobalAveragePooling2D(name="pool")(k.layers.Conv2D(8, 3, name="conv")(image))
    shared = k.layers.Dense(8, name="shared")
    y = shared(shared(k.layers.Dense(8, name="dense")(meta)))
    inner = [
        k.Input((16,), name="inside"),
        k.layers.Dense(4, name="first"),
        k.layers.Dropout(0.1, name="drop"),
    ]
    z = k.Sequential(inner, name="inner")(k.layers.Concatenate(name="both")([x, y]))
    return k.Model([image, meta], [k.layers.Dense(2, name="last")(z), z], name="branched")


def chain(k):
    layers = [
        k.Input((8,), name="start"),
        k.layers.Dense(4, name="dense"),
        k.layers.BatchNormalization(name="norm"),
    ]
    model = k.Sequential(
        [*layers, k.Sequential([k.layers.Dense(3, name="last")], name="inner")], name="chain"
    )
    model.layers[0].trainable = False
    return model


def trained(k):
    model = chain(k)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 8), "float32"), np.ones((4, 3), "float32"), verbose=0)
    return model


def text_of(model, **arguments):
    lines = []
    model.summary(print_fn=lambda text, **_: lines.append(text), **arguments)
    return "\n".join(lines)


@pytest.mark.parametrize("make", [branched, chain, trained])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"expand_nested": True},
        {"show_trainable": True},
        {"expand_nested": True, "show_trainable": True},
        {"line_length": 70},
        {"line_length": 110, "show_trainable": True},
    ],
    ids=str,
)
def test_the_table_is_that_of_keras(make, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert text_of(make(lamina), **arguments) == text_of(make(keras), **arguments)


@pytest.mark.parametrize("names", [("conv", "pool"), ("dense", "last"), ("pool", "conv"), ("sha", "l")])
def test_the_range_of_layers_is_that_of_keras(names):
    assert text_of(branched(lamina), layer_range=names) == text_of(branched(keras), layer_range=names)


def test_columns_stand_where_keras_puts_them(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    relative = {"line_length": 100, "positions": [0.3, 0.6, 0.8, 1.0]}
    text = text_of(branched(lamina), **relative)
    assert text == text_of(branched(keras), **relative)
    lamina.utils.clear_session()
    # As Keras documents it; there, absolute positions make columns of one width.
    assert text == text_of(branched(lamina), line_length=100, positions=[30, 60, 80, 100])
