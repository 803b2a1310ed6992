"""Convolutions and pooling against Keras."""

import numpy as np
import pytest
from harness import check_layer

FORMATS = ["channels_last", "channels_first"]


def data(rank, size, channels, data_format):
    """A batch of 2 with spatial axes size, size + 1, ..."""
    spatial = tuple(size + i for i in range(rank))
    return (2, *spatial, channels) if data_format == "channels_last" else (2, channels, *spatial)


CONV = [
    {"kernel_size": 1},
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 2, "strides": 2},
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": 4, "strides": 3, "padding": "same", "activation": "relu"},
    {"kernel_size": 2, "dilation_rate": 2},
    {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    {"kernel_size": 3, "groups": 2, "use_bias": False},
    {"kernel_size": 1, "groups": 2, "strides": 2, "activation": "tanh"},
]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("config", CONV)
@pytest.mark.parametrize("rank", [1, 2])
def test_conv(rank, config, data_format):
    config = {"filters": 6, "data_format": data_format, **config}
    check_layer(f"Conv{rank}D", config, data(rank, 7, 4, data_format), rtol=2e-5)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    "config", [{"kernel_size": 3}, {"kernel_size": 2, "dilation_rate": 2}, {"kernel_size": 3, "strides": 2}]
)
def test_causal(config, data_format):
    config = {"filters": 3, "padding": "causal", "data_format": data_format, **config}
    check_layer("Conv1D", config, data(1, 8, 2, data_format), rtol=2e-5)


def test_conv2d_uneven_windows():
    config = {"filters": 3, "kernel_size": (2, 3), "strides": (1, 2), "padding": "same"}
    check_layer("Conv2D", config, (2, 6, 7, 2), rtol=2e-5)
    config = {"filters": 3, "kernel_size": (3, 2), "dilation_rate": (1, 2)}
    check_layer("Conv2D", config, (2, 6, 7, 2), rtol=2e-5)


DEPTHWISE = [
    {"kernel_size": 3},
    {"kernel_size": 2, "depth_multiplier": 2, "padding": "same"},
    {"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
    {"kernel_size": 2, "dilation_rate": 2, "use_bias": False},
]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("config", DEPTHWISE)
@pytest.mark.parametrize("rank", [1, 2])
def test_depthwise(rank, config, data_format):
    config = {"data_format": data_format, **config}
    check_layer(f"DepthwiseConv{rank}D", config, data(rank, 6, 3, data_format), rtol=2e-5)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("config", DEPTHWISE)
@pytest.mark.parametrize("rank", [1, 2])
def test_separable(rank, config, data_format):
    config = {"filters": 4, "data_format": data_format, **config}
    check_layer(f"SeparableConv{rank}D", config, data(rank, 6, 3, data_format), rtol=2e-5)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    "config",
    [
        {"kernel_size": 3},
        {"kernel_size": 2, "strides": 2},
        {"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"kernel_size": 4, "strides": 3, "use_bias": False},
        {"kernel_size": 3, "strides": 2, "output_padding": 1},
        {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0},
        {"kernel_size": 2, "dilation_rate": 2},
    ],
)
@pytest.mark.parametrize("rank", [1, 2])
def test_transpose(rank, config, data_format):
    config = {"filters": 3, "data_format": data_format, **config}
    check_layer(f"Conv{rank}DTranspose", config, data(rank, 4, 2, data_format), rtol=2e-5)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    "config",
    [
        {"pool_size": 2},
        {"pool_size": 3, "strides": 2, "padding": "same"},
        {"pool_size": 2, "strides": 1},
        {"pool_size": 2, "strides": 3, "padding": "same"},
    ],
)
@pytest.mark.parametrize("name", ["MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"])
def test_pooling(name, config, data_format):
    check_layer(name, {"data_format": data_format, **config}, data(int(name[-2]), 7, 3, data_format))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("rank", [1, 2])
def test_global_pooling(rank, kind, data_format, keepdims):
    config = {"data_format": data_format, "keepdims": keepdims}
    check_layer(f"Global{kind}Pooling{rank}D", config, data(rank, 5, 3, data_format))


@pytest.mark.parametrize("data_format", FORMATS)
def test_global_average_mask(data_format):
    mask = np.array([[True, True, False, True, False], [False, True, True, True, True]])
    config = {"data_format": data_format}
    check_layer("GlobalAveragePooling1D", config, data(1, 5, 3, data_format), mask=mask)
