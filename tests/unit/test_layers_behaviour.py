"""What layers do beyond what Keras's numbers can show: randomness, masks, state, dtypes."""

import numpy as np
import pytest

import lamina
from lamina import layers, ops

X = np.random.default_rng(0).standard_normal((64, 100)).astype("float32")


def numpy(x):
    return np.asarray(x)


def test_dropout_drops_and_scales():
    y = numpy(layers.Dropout(0.25, seed=1)(np.ones((200, 500), "float32"), training=True))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.02
    assert abs((y == 0).mean() - 0.25) < 0.02


@pytest.mark.parametrize("rate", [0, 1])
def test_dropout_limits(rate):
    y = layers.Dropout(rate)(X, training=True)
    np.testing.assert_array_equal(numpy(y), X if rate == 0 else 0 * X)


def test_dropout_is_repeatable_and_moves_on():
    first, second = layers.Dropout(0.5, seed=3), layers.Dropout(0.5, seed=3)
    a, b = numpy(first(X, training=True)), numpy(second(X, training=True))
    np.testing.assert_array_equal(a, b)
    assert (numpy(first(X, training=True)) != a).any()


@pytest.mark.parametrize(
    "layer, shape, axes",
    [
        (lambda: layers.Dropout(0.5, noise_shape=(None, 1, None)), (5, 6, 7), 1),
        (lambda: layers.Dropout(0.5, noise_shape=(5, 1, 7)), (5, 6, 7), 1),
        (lambda: layers.SpatialDropout1D(0.5), (5, 6, 7), 1),
        (lambda: layers.SpatialDropout2D(0.5), (5, 6, 6, 7), (1, 2)),
        (lambda: layers.SpatialDropout2D(0.5, data_format="channels_first"), (5, 7, 6, 6), (2, 3)),
    ],
)
def test_shared_masks(layer, shape, axes):
    y = numpy(layer()(np.ones(shape, "float32"), training=True))
    assert (y.min(axis=axes) == y.max(axis=axes)).all()
    assert y.min() == 0 and y.max() == 2


def test_dropout_gradient_is_its_mask():
    layer = layers.Dropout(0.5, seed=0)
    x = ops.convert_to_tensor(X)
    with lamina.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    grad = numpy(tape.gradient(y, x))
    np.testing.assert_allclose(grad * X, numpy(y), rtol=1e-6)


def test_gaussian_noise_statistics():
    noise = numpy(layers.GaussianNoise(0.3, seed=1)(np.zeros((300, 300), "float32"), training=True))
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.3) < 0.01
    scaled = numpy(layers.GaussianDropout(0.2, seed=1)(np.ones((300, 300), "float32"), training=True))
    assert abs(scaled.mean() - 1) < 0.01 and abs(scaled.std() - 0.5) < 0.01


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(1).standard_normal((400, 400)).astype("float32")
    y = numpy(layers.AlphaDropout(0.3, seed=2)(x, training=True))
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02


def test_batch_normalization_learns_statistics():
    layer = layers.BatchNormalization(momentum=0.5)
    x = X * 3 + 2
    for _ in range(20):
        layer(x, training=True)
    np.testing.assert_allclose(numpy(layer.moving_mean), x.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(numpy(layer.moving_variance), x.var(0), rtol=1e-4)
    before = numpy(layer.moving_mean)
    y = numpy(layer(x))
    np.testing.assert_array_equal(numpy(layer.moving_mean), before)
    assert abs(y.mean()) < 1e-3 and abs(y.std() - 1) < 1e-2


def test_frozen_batch_normalization_stays():
    layer = layers.BatchNormalization()
    layer(X)
    layer.trainable = False
    layer(X, training=True)
    np.testing.assert_array_equal(numpy(layer.moving_mean), np.zeros(100))


def test_masks_travel():
    ids = np.array([[3, 1, 0], [2, 0, 0]])
    layer = layers.Embedding(5, 4, mask_zero=True)
    y = layer(ids)
    pooled = layers.GlobalAveragePooling1D()(y)
    table = numpy(layer.embeddings)
    expected = np.stack([(table[3] + table[1]) / 2, table[2]])
    np.testing.assert_allclose(numpy(pooled), expected, rtol=1e-6)


def test_masks_travel_symbolically():
    x = lamina.Input((3, 2))
    masked = layers.Masking()(x)
    kept = layers.Dropout(0.5)(layers.Activation("relu")(masked))
    model = lamina.Model(x, layers.GlobalAveragePooling1D()(kept))
    data = np.array([[[1, 2], [3, 4], [0, 0]]], "float32")
    np.testing.assert_allclose(numpy(model(data)), [[2, 3]], rtol=1e-6)


def test_lambda_arguments():
    def shift(x, by, mask=None, training=None):
        return x + by + (10 if training else 0)

    layer = layers.Lambda(shift, arguments={"by": 1})
    np.testing.assert_allclose(numpy(layer(X)), X + 1, rtol=1e-6)
    np.testing.assert_allclose(numpy(layer(X, training=True)), X + 11, rtol=1e-6)


def test_lambda_mask():
    layer = layers.Lambda(lambda x: x, mask=lambda inputs, mask: ops.greater(inputs, 0))
    np.testing.assert_array_equal(numpy(layer.compute_mask(X)), X > 0)


def test_embedding_ids_outside_the_table():
    layer = layers.Embedding(5, 2)
    with pytest.raises((ValueError, IndexError), match="7"):
        layer(np.array([[0, 7]]))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: layers.Dense(3), (0, 4)),
        (lambda: layers.Conv2D(3, 2), (0, 4, 4, 2)),
        (layers.MaxPooling2D, (0, 4, 4, 2)),
        (layers.BatchNormalization, (0, 4)),
        (layers.Flatten, (0, 4, 4)),
        (lambda: layers.Reshape((2, -1)), (0, 4)),
        (layers.LayerNormalization, (0, 4)),
        (lambda: layers.GroupNormalization(2), (0, 3, 4)),
        (lambda: layers.Dropout(0.5), (0, 4)),
    ],
)
def test_empty_batches(layer, shape):
    y = layer()(np.zeros(shape, "float32"))
    assert y.shape[0] == 0


@pytest.mark.parametrize("dtype", ["float16", "float64", "mixed_float16"])
@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda **k: layers.Dense(3, **k), (2, 4)),
        (lambda **k: layers.Conv2D(3, 2, **k), (2, 4, 4, 2)),
        (layers.BatchNormalization, (2, 4)),
        (layers.LayerNormalization, (2, 4)),
        (lambda **k: layers.Dropout(0.5, **k), (2, 4)),
        (layers.ReLU, (2, 4)),
    ],
)
def test_dtypes(make, shape, dtype):
    layer = make(dtype=dtype)
    y = (
        layer(np.ones(shape, "float32"), training=True)
        if "Dropout" in type(layer).__name__
        else layer(np.ones(shape))
    )
    assert str(y.dtype) == dtype.removeprefix("mixed_")
    for w in layer.weights:
        assert str(w.dtype) == ("float32" if dtype.startswith("mixed") else dtype)


def test_compiled_model_equals_eager_layers():
    stack = [
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.GroupNormalization(2),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ]
    model = lamina.Sequential([lamina.Input((8, 8, 2)), *stack])
    x = np.random.default_rng(2).standard_normal((3, 8, 8, 2)).astype("float32")
    y = ops.convert_to_tensor(x)
    for layer in stack:
        y = layer(y)
    np.testing.assert_allclose(numpy(model(x)), numpy(y), rtol=1e-5, atol=1e-6)


def test_image_data_format_setting():
    lamina.config.set_image_data_format("channels_first")
    try:
        assert layers.Conv2D(2, 3).data_format == "channels_first"
        assert tuple(layers.MaxPooling2D()(lamina.Input((3, 8, 8))).shape) == (None, 3, 4, 4)
    finally:
        lamina.config.set_image_data_format("channels_last")
