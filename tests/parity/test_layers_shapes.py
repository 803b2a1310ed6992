"""Reshaping and merging layers against Keras."""

import keras
import numpy as np
import pytest
from harness import assert_close, check_layer, make_pair, random_array

import lamina


@pytest.mark.parametrize(
    "name, config, shape",
    [
        ("Flatten", {}, (2, 3, 4)),
        ("Flatten", {}, (2,)),
        ("Flatten", {"data_format": "channels_first"}, (2, 3, 4)),
        ("Flatten", {"data_format": "channels_first"}, (2, 3, 4, 5)),
        ("Reshape", {"target_shape": (4, 3)}, (2, 12)),
        ("Reshape", {"target_shape": (-1, 2)}, (2, 3, 4)),
        ("Reshape", {"target_shape": (-1,)}, (2, 3, 4)),
        ("Permute", {"dims": (2, 1)}, (2, 3, 4)),
        ("Permute", {"dims": (3, 1, 2)}, (2, 3, 4, 5)),
        ("RepeatVector", {"n": 3}, (2, 4)),
        ("ZeroPadding1D", {"padding": 2}, (2, 3, 4)),
        ("ZeroPadding1D", {"padding": (1, 0), "data_format": "channels_first"}, (2, 3, 4)),
        ("ZeroPadding2D", {}, (2, 3, 4, 2)),
        ("ZeroPadding2D", {"padding": (1, 2)}, (2, 3, 4, 2)),
        ("ZeroPadding2D", {"padding": ((0, 1), (2, 0)), "data_format": "channels_first"}, (2, 3, 4, 2)),
        ("Cropping1D", {"cropping": 1}, (2, 5, 3)),
        ("Cropping1D", {"cropping": (2, 0)}, (2, 5, 3)),
        ("Cropping2D", {"cropping": 1}, (2, 4, 5, 2)),
        ("Cropping2D", {"cropping": ((1, 0), (0, 2)), "data_format": "channels_first"}, (2, 3, 4, 5)),
        ("UpSampling1D", {"size": 3}, (2, 3, 2)),
        ("UpSampling2D", {"size": (2, 3)}, (2, 3, 2, 2)),
        ("UpSampling2D", {"data_format": "channels_first"}, (2, 3, 2, 2)),
        ("UpSampling2D", {"interpolation": "bilinear"}, (2, 3, 4, 2)),
    ],
)
def test_reshaping(name, config, shape):
    check_layer(name, config, shape, rtol=2e-5)


ELEMENTWISE = ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"]


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3), (2, 3)],
        [(2, 3, 4), (2, 1, 4)],
        [(2, 3, 4), (2, 4)],
        [(2, 3, 1), (2, 1, 4)],
    ],
)
def test_elementwise_merge(name, shapes):
    check_layer(name, {}, shapes)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if n != "Subtract"])
def test_three_inputs(name):
    check_layer(name, {}, [(2, 3), (2, 3), (2, 3)])


@pytest.mark.parametrize(
    "config, shapes",
    [
        ({}, [(2, 3), (2, 4)]),
        ({"axis": 1}, [(2, 3, 4), (2, 1, 4), (2, 2, 4)]),
        ({"axis": -2}, [(2, 3, 4), (2, 1, 4)]),
    ],
)
def test_concatenate(config, shapes):
    check_layer("Concatenate", config, shapes)


@pytest.mark.parametrize(
    "config, shapes",
    [
        ({"axes": 1}, [(2, 3), (2, 3)]),
        ({"axes": -1}, [(2, 3), (2, 3)]),
        ({"axes": 1, "normalize": True}, [(2, 3), (2, 3)]),
        ({"axes": (1, 2)}, [(2, 3, 5), (2, 4, 3)]),
        ({"axes": (2, 1)}, [(2, 3, 5), (2, 5)]),
        ({"axes": (1, 2)}, [(2, 5), (2, 3, 5)]),
        ({"axes": (1, 3)}, [(2, 5, 3, 2), (2, 3, 4, 5)]),
        ({"axes": -1, "normalize": True}, [(2, 4, 3), (2, 5, 3)]),
    ],
)
def test_dot(config, shapes):
    check_layer("Dot", config, shapes, rtol=2e-5)


@pytest.mark.parametrize("name", [*ELEMENTWISE, "Concatenate"])
def test_masks(name):
    first = np.array([[True, False, True], [False, True, False]])
    second = np.array([[True, True, False], [False, False, True]])
    theirs, ours = make_pair(name, {})
    inputs = [random_array((2, 3, 4), seed=i) for i in range(2)]
    for masks in ([first, second], [first, None], [None, None]):
        expected, actual = theirs.compute_mask(inputs, masks), ours.compute_mask(inputs, masks)
        assert (actual is None) == (expected is None), masks
        if expected is not None:
            assert_close(actual, expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_merge_of_masked_inputs(name):
    """Masks that a Masking layer attached change what Multiply, Maximum and Minimum compute."""
    first = np.array([[[0, 0], [1, 2], [0, 0], [3, 4]]], "float32")
    second = np.array([[[1, 1], [-1, 3], [0, 0], [0, 0]]], "float32")

    def run(module):
        masked = [module.layers.Masking()(x) for x in (first, second)]
        return getattr(module.layers, name)()(masked), getattr(module.layers, name)()([masked[0], second])

    for actual, expected in zip(run(lamina), run(keras), strict=True):
        assert_close(actual, expected)
