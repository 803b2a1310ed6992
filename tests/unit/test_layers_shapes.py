"""Shapes that layers derive from the input shape, and the weights that follow from them."""

import pytest

from lamina import Input, layers


def shape_of(layer, *shapes, dtype=None):
    inputs = [Input(batch_shape=s, dtype=dtype) for s in shapes]
    return tuple(layer(inputs if len(inputs) > 1 else inputs[0]).shape)


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (lambda: layers.Dense(4), (None, 3), (None, 4)),
        (lambda: layers.Dense(15), (None, 5, 3), (None, 5, 15)),
        (lambda: layers.Dense(2), (30, 3), (30, 2)),
        (lambda: layers.Dense(2), (None, None, 3), (None, None, 2)),
        (lambda: layers.Conv1D(8, 3), (None, 10, 4), (None, 8, 8)),
        (lambda: layers.Conv1D(8, 3, padding="causal"), (None, 10, 4), (None, 10, 8)),
        (lambda: layers.Conv1D(8, 3, padding="same"), (None, None, 4), (None, None, 8)),
        (lambda: layers.Conv2D(8, 3), (30, 50, 50, 3), (30, 48, 48, 8)),
        (lambda: layers.Conv2D(8, 3, data_format="channels_first"), (None, 3, 50, 50), (None, 8, 48, 48)),
        (lambda: layers.Conv2D(8, 3, strides=2), (None, None, 9, 3), (None, None, 4, 8)),
        (lambda: layers.Conv2D(8, (3, 5), padding="same", strides=(2, 1)), (None, 9, 9, 3), (None, 5, 9, 8)),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (None, 8, 8, 3), (None, 6, 6, 6)),
        (lambda: layers.SeparableConv2D(5, 3), (None, 8, 8, 3), (None, 6, 6, 5)),
        (lambda: layers.Conv2DTranspose(5, 3, strides=2), (None, 4, 4, 3), (None, 9, 9, 5)),
        (lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same"), (None, 4, 4, 3), (None, 8, 8, 5)),
        (layers.MaxPooling2D, (None, 28, 28, 8), (None, 14, 14, 8)),
        (lambda: layers.MaxPooling2D(3, strides=2, padding="same"), (None, 7, 8, 2), (None, 4, 4, 2)),
        (lambda: layers.AveragePooling1D(2), (None, 7, 2), (None, 3, 2)),
        (layers.GlobalAveragePooling2D, (None, None, None, 7), (None, 7)),
        (lambda: layers.GlobalMaxPooling1D(keepdims=True), (None, 5, 7), (None, 1, 7)),
        (layers.BatchNormalization, (None, 8, 8, 3), (None, 8, 8, 3)),
        (lambda: layers.GroupNormalization(3), (None, None, None, 6), (None, None, None, 6)),
        (lambda: layers.GroupNormalization(3, axis=1), (None, 6, None, 4), (None, 6, None, 4)),
        (layers.Flatten, (None, 4, 5, 6), (None, 120)),
        (layers.Flatten, (None, None, 6), (None, None)),
        (layers.Flatten, (None,), (None, 1)),
        (lambda: layers.Reshape((3, -1)), (None, 12), (None, 3, 4)),
        (lambda: layers.Reshape((-1, 2)), (None, None, 4), (None, None, 2)),
        (lambda: layers.Reshape(()), (None, 1), (None,)),
        (lambda: layers.Permute((2, 1)), (None, None, 4), (None, 4, None)),
        (lambda: layers.RepeatVector(3), (None, 4), (None, 3, 4)),
        (lambda: layers.ZeroPadding2D(((1, 2), (3, 4))), (None, 5, None, 2), (None, 8, None, 2)),
        (lambda: layers.Cropping1D((1, 2)), (None, 5, 2), (None, 2, 2)),
        (lambda: layers.UpSampling2D(2), (None, 5, 6, 2), (None, 10, 12, 2)),
        (lambda: layers.Dropout(0.5), (None, 4), (None, 4)),
        (lambda: layers.PReLU(shared_axes=[1, 2]), (None, None, None, 4), (None, None, None, 4)),
        (lambda: layers.Lambda(lambda x: x[:, :2] * 2), (None, 4), (None, 2)),
        (lambda: layers.Rescaling(1 / 255), (None, 4), (None, 4)),
    ],
)
def test_output_shape(layer, shape, expected):
    assert shape_of(layer(), shape) == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dropout(0.5),
        lambda: layers.Dropout(0.5, noise_shape=(None, 1)),
        lambda: layers.GaussianNoise(0.5),
        lambda: layers.GaussianDropout(0.5),
        lambda: layers.AlphaDropout(0.5),
        layers.BatchNormalization,
    ],
)
def test_training_keeps_unknown_axes(layer, training):
    x = Input((4,))
    assert tuple(layer()(x, training=training).shape) == (None, 4)


def test_merging_shapes():
    assert shape_of(layers.Add(), (None, 2, 3), (None, 2, 3)) == (None, 2, 3)
    assert shape_of(layers.Add(), (None, 2, 3), (None, 3)) == (None, 2, 3)
    assert shape_of(layers.Multiply(), (None, None, 3), (None, 5, 1)) == (None, 5, 3)
    assert shape_of(layers.Concatenate(), (None, 2, 3), (None, 2, 4)) == (None, 2, 7)
    assert shape_of(layers.Concatenate(axis=1), (None, None, 3), (None, 2, 3)) == (None, None, 3)
    assert shape_of(layers.Dot(axes=(1, 2)), (None, 2, 5), (None, 10, 2)) == (None, 5, 10)
    assert shape_of(layers.Dot(axes=1), (None, 3), (None, 3)) == (None, 1)


def test_functional_forms():
    a, b = Input((2, 3)), Input((2, 3))
    for name in ("add", "subtract", "multiply", "average", "maximum", "minimum"):
        assert tuple(getattr(layers, name)([a, b]).shape) == (None, 2, 3)
    assert tuple(layers.concatenate([a, b], axis=1).shape) == (None, 4, 3)
    assert tuple(layers.dot([a, b], axes=2).shape) == (None, 2, 2)


@pytest.mark.parametrize(
    "layer, shape, weights",
    [
        (lambda: layers.Dense(4), (None, 3), {"kernel": (3, 4), "bias": (4,)}),
        (lambda: layers.Conv1D(8, 3, groups=2), (None, 9, 4), {"kernel": (3, 2, 8), "bias": (8,)}),
        (lambda: layers.Conv2D(8, (3, 5)), (None, 9, 9, 4), {"kernel": (3, 5, 4, 8), "bias": (8,)}),
        (
            lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
            (None, 9, 9, 4),
            {"kernel": (3, 3, 4, 2), "bias": (8,)},
        ),
        (
            lambda: layers.SeparableConv1D(8, 3),
            (None, 9, 4),
            {"depthwise_kernel": (3, 4, 1), "pointwise_kernel": (1, 4, 8), "bias": (8,)},
        ),
        (lambda: layers.Conv2DTranspose(8, 3), (None, 9, 9, 4), {"kernel": (3, 3, 8, 4), "bias": (8,)}),
        (
            layers.BatchNormalization,
            (None, 5, 3),
            {"gamma": (3,), "beta": (3,), "moving_mean": (3,), "moving_variance": (3,)},
        ),
        (lambda: layers.LayerNormalization(axis=[1, 2]), (None, 5, 3), {"gamma": (5, 3), "beta": (5, 3)}),
        (layers.RMSNormalization, (None, 5, 3), {"scale": (3,)}),
        (lambda: layers.PReLU(shared_axes=[1]), (None, 5, 3), {"alpha": (1, 3)}),
    ],
)
def test_weights(layer, shape, weights):
    layer = layer()
    layer(Input(batch_shape=shape))
    assert {w.name: tuple(w.shape) for w in layer.weights} == weights


def test_embedding_shape():
    assert shape_of(layers.Embedding(10, 4), (None, 7), dtype="int32") == (None, 7, 4)
    assert shape_of(layers.Embedding(10, 4), (None, 7)) == (None, 7, 4)


def test_input():
    assert tuple(Input((3,)).shape) == (None, 3)
    assert tuple(Input((3,), batch_size=5).shape) == (5, 3)
    assert tuple(Input(batch_shape=(5, None)).shape) == (5, None)
    x = Input((3,), dtype="int32", name="ids")
    assert (x.dtype, x.name) == ("int32", "ids")
    assert layers.InputLayer(input_shape=(4,)).batch_shape == (None, 4)


def test_input_wraps_a_tensor():
    x = Input((3,))
    assert Input(tensor=x) is x
    with pytest.raises(ValueError, match="incompatible `shape`"):
        Input(tensor=x, shape=(4,))
