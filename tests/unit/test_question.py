"""The question lamina grew from, as written: what input_shape, units and dim mean, and what follows."""

import numpy as np
import pytest

import lamina as keras
from lamina import layers, ops

# Every form that books and answers use works; the legacy ones say so once.
pytestmark = pytest.mark.filterwarnings("ignore:.*legacy.*")


def shapes(model):
    return [layer.output.shape for layer in model.layers]


def kernels(model):
    return [layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")]


def test_sequential_3_4_4_1():
    model = keras.Sequential()
    model.add(layers.Dense(units=4, input_shape=(3,)))
    model.add(layers.Dense(4))
    model.add(layers.Dense(1))
    assert model.input_shape == (None, 3)
    assert shapes(model) == [(None, 4), (None, 4), (None, 1)]
    assert kernels(model) == [(3, 4), (4, 4), (4, 1)]
    assert [w.shape for w in model.weights] == [(3, 4), (4,), (4, 4), (4,), (4, 1), (1,)]
    assert model.count_params() == 3 * 4 + 4 + 4 * 4 + 4 + 4 * 1 + 1


def test_functional_3_4_4_1():
    inp = keras.Input((3,))
    out = layers.Dense(1)(layers.Dense(4)(layers.Dense(4)(inp)))
    model = keras.Model(inp, out)
    assert shapes(model) == [(None, 3), (None, 4), (None, 4), (None, 1)]
    assert kernels(model) == [(3, 4), (4, 4), (4, 1)]


def test_the_two_forms_compute_the_same():
    sequential = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(4), layers.Dense(1)])
    inp = keras.Input((3,))
    functional = keras.Model(inp, layers.Dense(1)(layers.Dense(4)(layers.Dense(4)(inp))))
    functional.set_weights(sequential.get_weights())
    x = np.random.default_rng(0).random((7, 3), "float32")
    a, b, c = sequential.get_weights()[::2]
    np.testing.assert_array_equal(sequential.predict(x, verbose=0), functional.predict(x, verbose=0))
    np.testing.assert_allclose(sequential.predict(x, verbose=0), x @ a @ b @ c, rtol=1e-5, atol=1e-6)


def test_input_dim():
    model = keras.Sequential()
    model.add(layers.Dense(32, input_dim=784))
    model.add(layers.Activation("relu"))
    assert model.input_shape == (None, 784)
    assert shapes(model) == [(None, 32), (None, 32)]
    assert kernels(model) == [(784, 32)]


@pytest.mark.parametrize(
    ("arguments", "batch"),
    [
        ({"input_shape": (50, 50, 3)}, None),
        ({"batch_input_shape": (30, 50, 50, 3)}, 30),
        ({"batch_shape": (30, 50, 50, 3)}, 30),
    ],
)
def test_the_batch_is_none_unless_it_is_given(arguments, batch):
    if "batch_shape" in arguments:
        model = keras.Sequential([keras.Input(**arguments), layers.Conv2D(8, 3)])
    else:
        model = keras.Sequential([layers.Conv2D(8, 3, **arguments)])
    assert model.input_shape == (batch, 50, 50, 3)
    assert model.output_shape == (batch, 48, 48, 8)


@pytest.mark.parametrize(
    ("input_shape", "expected", "kernel"),
    [
        ((5, 3), [(None, 5, 15), (None, 5, 32), (None, 5, 8)], (3, 15)),
        ((15,), [(None, 15), (None, 32), (None, 8)], (15, 15)),
    ],
)
def test_dense_works_on_the_last_axis(input_shape, expected, kernel):
    arguments = {
        "activation": "relu",
        "kernel_initializer": "he_uniform",
        "kernel_regularizer": None,
        "kernel_constraint": "MaxNorm",
    }
    model = keras.Sequential()
    model.add(layers.Dense(15, input_shape=input_shape, **arguments))
    model.add(layers.Dense(32, **arguments))
    model.add(layers.Dense(8, **arguments))
    assert shapes(model) == expected
    assert kernels(model) == [kernel, (15, 32), (32, 8)]
    assert model.predict(np.zeros((2, *input_shape), "float32"), verbose=0).shape == (2, *expected[-1][1:])


def test_images_in_both_data_formats():
    last = keras.Sequential([keras.Input((50, 50, 3)), layers.Conv2D(8, 3, strides=2, padding="same")])
    first = keras.Sequential(
        [
            keras.Input((3, 50, 50)),
            layers.Conv2D(8, 3, strides=2, padding="same", data_format="channels_first"),
        ]
    )
    assert last.output_shape == (None, 25, 25, 8)
    assert first.output_shape == (None, 8, 25, 25)
    assert last.layers[0].kernel.shape == first.layers[0].kernel.shape == (3, 3, 3, 8)
    first.set_weights(last.get_weights())
    x = np.random.default_rng(0).random((2, 50, 50, 3), "float32")
    np.testing.assert_allclose(
        first.predict(x.transpose(0, 3, 1, 2), verbose=0).transpose(0, 2, 3, 1),
        last.predict(x, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )


def test_branches_that_join_again():
    inp = keras.Input((8, 8, 3))
    left = layers.Conv2D(4, 3, padding="same")(inp)
    right = layers.Conv2D(4, 1)(inp)
    both = layers.Concatenate()([layers.Add()([left, right]), layers.Multiply()([left, right])])
    model = keras.Model(inp, layers.Dense(2)(layers.Flatten()(both)))
    assert both.shape == (None, 8, 8, 8)
    assert model.output_shape == (None, 2)
    assert model.layers[-1].kernel.shape == (512, 2)


def test_nested_models_and_shared_layers():
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="relu")], name="encoder")
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    shared = layers.Dense(2, name="shared")
    out = layers.Add()([shared(encoder(a)), shared(encoder(b))])
    model = keras.Model([a, b], out)
    assert model.output_shape == (None, 2)
    assert len(model.weights) == 4  # each layer's weights once
    x = np.random.default_rng(0).random((5, 6), "float32")
    once = shared(encoder(x))
    np.testing.assert_allclose(model.predict([x, x], verbose=0), 2 * np.asarray(once), rtol=1e-5)


def test_several_inputs_and_outputs():
    image, number = keras.Input((4, 4, 1), name="image"), keras.Input((2,), name="number")
    joined = layers.Concatenate()([layers.Flatten()(image), number])
    model = keras.Model(
        {"image": image, "number": number},
        {"label": layers.Dense(3, name="label")(joined), "score": layers.Dense(1, name="score")(joined)},
    )
    out = model.predict({"image": np.ones((2, 4, 4, 1)), "number": np.ones((2, 2))}, verbose=0)
    assert {k: v.shape for k, v in out.items()} == {"label": (2, 3), "score": (2, 1)}


def test_a_lambda_and_a_custom_layer():
    class Scale(layers.Layer):
        def __init__(self, start=1.0, **kwargs):
            super().__init__(**kwargs)
            self.start = start

        def build(self, input_shape):
            self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="factor")

        def call(self, x):
            return x * self.factor * self.start

    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: ops.square(x)), Scale(2.0)])
    assert model.output_shape == (None, 3)
    assert [w.shape for w in model.weights] == [(3,)]
    np.testing.assert_allclose(model.predict(np.array([[1.0, 2.0, 3.0]]), verbose=0), [[2.0, 8.0, 18.0]])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.zeros((4, 3)), epochs=1, verbose=0)
    assert (model.get_weights()[0] < 1).all()
