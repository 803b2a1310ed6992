"""Normalization layers and dropout's inference against Keras."""

import numpy as np
import pytest
from harness import check_layer


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "config, shape",
    [
        ({}, (5, 3)),
        ({"momentum": 0.8, "epsilon": 1e-2}, (4, 3, 2)),
        ({"center": False}, (3, 4, 4, 2)),
        ({"scale": False}, (5, 3)),
        ({"center": False, "scale": False}, (5, 3)),
        ({"axis": 1}, (2, 3, 4, 4)),
        ({"axis": 1}, (3, 4, 2)),
        ({"renorm": True}, (6, 3)),
        ({"renorm": True, "renorm_clipping": {"rmax": 1.1, "rmin": 0.9, "dmax": 0.2}}, (6, 3)),
        ({"gamma_regularizer": "l2", "beta_constraint": "non_neg"}, (5, 3)),
    ],
)
def test_batch_normalization(config, shape, training):
    check_layer("BatchNormalization", config, shape, training=training, rtol=3e-5)


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_mask(training):
    mask = np.array([[True, True, False], [False, True, True]])
    check_layer("BatchNormalization", {}, (2, 3, 4), training=training, mask=mask, rtol=3e-5)


def test_frozen_batch_normalization_is_in_inference():
    check_layer("BatchNormalization", {"trainable": False}, (4, 3), training=True)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"axis": 1},
        {"axis": [1, 2]},
        {"axis": (-1, -2)},
        {"center": False},
        {"scale": False, "epsilon": 1e-2},
        {"rms_scaling": True},
    ],
)
def test_layer_normalization(config):
    # Keras writes the built axis into the config, as a list: compare before it is built.
    check_layer("LayerNormalization", config, (3, 4, 5), rtol=3e-5)


@pytest.mark.parametrize("config", [{}, {"axis": [1, 2]}, {"epsilon": 1e-3}])
def test_rms_normalization(config):
    check_layer("RMSNormalization", config, (3, 4, 5), rtol=3e-5)


@pytest.mark.parametrize(
    "config, shape",
    [
        ({"groups": 2}, (3, 6)),
        ({"groups": 3}, (2, 4, 6)),
        ({"groups": 1}, (2, 4, 4, 6)),
        ({"groups": -1}, (2, 4, 6)),
        ({"groups": 2, "axis": 1}, (2, 4, 3, 3)),
        ({"groups": 2, "center": False, "scale": False}, (2, 5, 4)),
    ],
)
def test_group_normalization(config, shape):
    check_layer("GroupNormalization", config, shape, rtol=3e-5)


@pytest.mark.parametrize("config", [{}, {"axis": 1}, {"axis": [1, 2]}])
def test_unit_normalization(config):
    check_layer("UnitNormalization", config, (3, 4, 5), rtol=3e-5)


@pytest.mark.parametrize("training", [False, None])
@pytest.mark.parametrize(
    "name, config, shape",
    [
        ("Dropout", {"rate": 0.4}, (3, 4)),
        ("SpatialDropout1D", {"rate": 0.4}, (3, 4, 2)),
        ("SpatialDropout2D", {"rate": 0.4}, (3, 4, 2, 2)),
        ("SpatialDropout2D", {"rate": 0.4, "data_format": "channels_first"}, (3, 4, 2, 2)),
        ("AlphaDropout", {"rate": 0.4}, (3, 4)),
        ("GaussianDropout", {"rate": 0.4, "seed": 3}, (3, 4)),
        ("GaussianNoise", {"stddev": 0.4}, (3, 4)),
    ],
)
def test_noise_is_off_in_inference(name, config, shape, training):
    check_layer(name, config, shape, training=training)
