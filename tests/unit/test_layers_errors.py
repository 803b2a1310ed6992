"""What a user reads when a layer cannot take its input or its arguments."""

import numpy as np
import pytest

from lamina import Input, layers
from lamina.errors import ShapeError


def call(layer, *shapes, dtype=None):
    inputs = [Input(batch_shape=s, dtype=dtype) for s in shapes]
    return layer(inputs if len(inputs) > 1 else inputs[0])


@pytest.mark.parametrize(
    "layer, shape, words",
    [
        (lambda: layers.Dense(3), (None,), ["expected min_ndim=2, found ndim=1"]),
        (lambda: layers.Dense(3), (None, None), ["should be defined. Found `None`", "Input(shape)"]),
        (
            lambda: layers.Conv2D(8, 3),
            (None, 28, 28),
            ["expected min_ndim=4, found ndim=3", "Input((28, 28, 1))", "x[..., None]"],
        ),
        (lambda: layers.Conv1D(8, 3), (None, 28), ["expected min_ndim=3, found ndim=2"]),
        (lambda: layers.Conv2D(8, 3), (None, 5, 28, 28, 1), ["expected ndim=4, found ndim=5", "height"]),
        (lambda: layers.Conv2D(8, 3), (None, 28, 28, None), ["channels"]),
        (
            lambda: layers.Conv2D(8, 5, name="deep"),
            (None, 3, 9, 1),
            [
                "Computed output size would be zero or negative",
                "floor((3 - 5) / 1) + 1 = -1",
                "'deep'",
            ],
        ),
        (
            lambda: layers.Conv1D(8, 3, dilation_rate=4),
            (None, 8, 1),
            ["floor((8 - 4 * (3 - 1) - 1) / 1) + 1 = 0", 'padding="same"'],
        ),
        (
            lambda: layers.Conv2D(8, 3, groups=2),
            (None, 9, 9, 3),
            ["divisible by the number of groups", "groups=2"],
        ),
        (
            lambda: layers.MaxPooling2D(4),
            (None, 3, 9, 1),
            ["Computed output size would be zero or negative", "floor((3 - 4) / 4) + 1 = 0"],
        ),
        (layers.MaxPooling2D, (None, 28, 28), ["expected ndim=4, found ndim=3"]),
        (
            lambda: layers.Reshape((5, 3)),
            (None, 4, 4),
            ["total size of the tensor must be unchanged", "4 * 4 = 16", "5 * 3 = 15"],
        ),
        (lambda: layers.Reshape((-1, 5)), (None, 12), ["a multiple of 5"]),
        (lambda: layers.Permute((1, 2)), (None, 3), ["expected ndim=3, found ndim=2"]),
        (lambda: layers.Cropping2D(2), (None, 4, 9, 1), ["should be smaller than"]),
        (lambda: layers.BatchNormalization(axis=3), (None, 3), ["out of bounds"]),
        (lambda: layers.LayerNormalization(axis=2), (None, 3), ["out of bounds"]),
        (lambda: layers.GroupNormalization(4), (None, 6), ["Number of groups (4)", "channels (6)"]),
        (lambda: layers.UnitNormalization(axis=4), (None, 6), ["out of bounds"]),
        (layers.PReLU, (None, None, 3), ["shared_axes=[1]"]),
        (layers.Normalization, (None, None), ["should be defined"]),
        (layers.Add, (None, 3), ["should be called on a list of inputs"]),
        (layers.Concatenate, (None, 3), ["should be called on a list of inputs"]),
    ],
)
def test_shape_errors(layer, shape, words):
    with pytest.raises(ShapeError) as caught:
        call(layer(), shape)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "layer, shapes, words",
    [
        (
            layers.Add,
            [(None, 3), (None, 4)],
            ["incompatible shapes", "inputs[0] has 3", "inputs[1] has 4", "axis 1"],
        ),
        (layers.Add, [(5, 3), (4, 3)], ["different batch sizes"]),
        (layers.Multiply, [(None, 2, 3), (None, 4, 3), (None, 2, 3)], ["incompatible shapes", "axis 1"]),
        (layers.Subtract, [(None, 3)] * 3, ["exactly 2 inputs"]),
        (
            layers.Concatenate,
            [(None, 2, 3), (None, 4, 3)],
            ["matching shapes except for the concatenation axis", "inputs[1]", "axis 1"],
        ),
        (layers.Concatenate, [(None, 3), (None, 3, 3)], ["matching shapes", "2 axes", "3 axes"]),
        (lambda: layers.Dot(axes=1), [(None, 3), (None, 4)], ["3 (at axis 1) != 4 (at axis 1)"]),
        (lambda: layers.Dot(axes=0), [(None, 3), (None, 3)], ["axis 0"]),
    ],
)
def test_merge_errors(layer, shapes, words):
    with pytest.raises(ShapeError) as caught:
        call(layer(), *shapes)
    for word in words:
        assert word in str(caught.value)


def test_built_layers_refuse_other_channels():
    layer = layers.Dense(2)
    layer(np.zeros((3, 4), "float32"))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 4"):
        layer(np.zeros((3, 5), "float32"))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.Dense(0), "`units`, expected a positive integer"),
        (lambda: layers.Dense("3"), "`units`, expected a positive integer"),
        (lambda: layers.Dense(2.5), "`units`, expected a positive integer"),
        (lambda: layers.Dense(3, quantization_config={}), "Quantization is not supported"),
        (lambda: layers.Conv2D(0, 3), "`filters`"),
        (lambda: layers.Conv2D(3, 0), "`kernel_size`"),
        (lambda: layers.Conv2D(3, (1, 2, 3)), "tuple of 2 integers"),
        (lambda: layers.Conv2D(3, 3, padding="causal"), "`padding`"),
        (lambda: layers.Conv2D(3, 3, strides=2, dilation_rate=2), "not supported in conjunction"),
        (lambda: layers.Conv2D(3, 3, groups=2), "evenly divisible"),
        (lambda: layers.Conv2DTranspose(3, 3, strides=2, output_padding=2), "strictly less than `strides`"),
        (lambda: layers.MaxPooling2D(0), "`pool_size`"),
        (lambda: layers.MaxPooling2D(2, padding="reflect"), "`padding`"),
        (lambda: layers.Dropout(1.5), "Expected a float value between 0 and 1"),
        (lambda: layers.Dropout(0.5, noise_shape="x"), "Expected a tuple or list of integers"),
        (lambda: layers.Dropout(0.5, noise_shape=(1, 0)), "positive integers"),
        (lambda: layers.Embedding(0, 3), "`input_dim`"),
        (lambda: layers.ReLU(max_value=-1.0), "cannot be a negative"),
        (lambda: layers.LeakyReLU(None), "cannot be None"),
        (lambda: layers.Reshape((2, -1, -1)), "at most one unknown dimension"),
        (lambda: layers.Reshape(3), r"write `\(3,\)`"),
        (lambda: layers.Permute((1, 3)), "consecutive and start from 1"),
        (lambda: layers.RepeatVector(0), "positive integer"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), "should have two elements"),
        (lambda: layers.GroupNormalization(0), "`groups`"),
        (lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"max": 1}), "renorm_clipping"),
        (lambda: layers.Normalization(mean=1.0), "both `mean` and `variance`"),
        (layers.CategoryEncoding, "num_tokens"),
        (lambda: layers.Dot(axes=(1, 2, 3)), "two elements"),
        (lambda: layers.UpSampling2D(0), "`size`"),
        (Input, "must pass a `shape`"),
        (lambda: Input((3,), batch_shape=(None, 3)), "both `shape` and `batch_shape`"),
        (lambda: Input(4), r"\(4,\)"),
        (lambda: Input((4,), sparse=True), "not supported"),
    ],
)
def test_argument_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "make",
    [lambda: layers.LayerNormalization(axis="x"), lambda: layers.Dot(axes="x"), lambda: layers.Lambda(3)],
)
def test_type_errors(make):
    with pytest.raises(TypeError):
        make()


def test_adapt_errors():
    layer = layers.Normalization()
    layer.adapt(np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="incompatible shape"):
        layer.adapt(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="no data"):
        layer.adapt([])
    with pytest.raises(ValueError, match="were given"):
        layers.Normalization(mean=0.0, variance=1.0).adapt(np.zeros((3, 2)))
