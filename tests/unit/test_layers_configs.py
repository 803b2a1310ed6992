"""Every layer survives a trip through its config, under every name that Keras gives it."""

import inspect

import numpy as np
import pytest

import lamina
from lamina import layers

ARGUMENTS = {
    "Activation": {"activation": "relu"},
    "AdditiveAttention": {"use_scale": False},
    "AlphaDropout": {"rate": 0.3, "noise_shape": (None, 1), "seed": 7},
    "ActivityRegularization": {"l1": 0.1},
    "Attention": {"score_mode": "concat", "dropout": 0.2},
    "AveragePooling1D": {"pool_size": 3},
    "AveragePooling2D": {"pool_size": (2, 3), "strides": 1, "padding": "same"},
    "BatchNormalization": {
        "axis": 1,
        "momentum": 0.5,
        "gamma_regularizer": "l2",
        "beta_constraint": "non_neg",
    },
    "Bidirectional": {"layer": layers.LSTM(3, return_state=True), "merge_mode": "sum"},
    "CategoryEncoding": {"num_tokens": 4, "output_mode": "count"},
    "Conv1D": {"filters": 4, "kernel_size": 3, "padding": "causal", "activation": "relu"},
    "Conv2D": {"filters": 4, "kernel_size": 3, "groups": 2, "data_format": "channels_first"},
    "Conv1DTranspose": {"filters": 4, "kernel_size": 3, "strides": 2, "output_padding": 1},
    "Conv2DTranspose": {"filters": 4, "kernel_size": (3, 2)},
    "Cropping1D": {"cropping": (1, 2)},
    "Cropping2D": {"cropping": ((1, 2), (0, 1))},
    "Dense": {"units": 3, "activation": "gelu", "kernel_constraint": "MaxNorm", "lora_rank": 2},
    "DepthwiseConv1D": {"kernel_size": 3, "depth_multiplier": 2},
    "DepthwiseConv2D": {"kernel_size": 3, "depthwise_initializer": "he_normal"},
    "Dot": {"axes": (1, 2), "normalize": True},
    "Dropout": {"rate": 0.3, "seed": 7},
    "ELU": {"alpha": 0.5},
    "EinsumDense": {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c", "lora_rank": 2},
    "Embedding": {"input_dim": 5, "output_dim": 3, "mask_zero": True},
    "GRU": {"units": 3, "reset_after": False, "dropout": 0.2, "seed": 3},
    "GRUCell": {"units": 3, "recurrent_constraint": "max_norm"},
    "GaussianDropout": {"rate": 0.3},
    "GaussianNoise": {"stddev": 0.3},
    "GroupQueryAttention": {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2, "seed": 3},
    "GroupNormalization": {"groups": 2},
    "InputLayer": {"batch_shape": (3, None, 4), "dtype": "int32"},
    "LSTM": {"units": 3, "stateful": True, "zero_output_for_mask": True},
    "LSTMCell": {"units": 3, "unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"},
    "LayerNormalization": {"axis": [1, 2], "rms_scaling": True},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 3, "output_shape": 4, "attention_axes": 1},
    "Normalization": {"mean": [1.0, 2.0], "variance": [3.0, 4.0]},
    "PReLU": {"shared_axes": [1, 2]},
    "Permute": {"dims": (2, 1)},
    "RNN": {"cell": layers.GRUCell(3), "go_backwards": True},
    "ReLU": {"max_value": 6.0},
    "RepeatVector": {"n": 3},
    "Rescaling": {"scale": 0.5, "offset": [1.0, 2.0]},
    "Reshape": {"target_shape": (2, -1)},
    "SeparableConv1D": {"filters": 4, "kernel_size": 3},
    "SeparableConv2D": {"filters": 4, "kernel_size": 3, "pointwise_regularizer": "l1"},
    "SimpleRNN": {"units": 3, "activity_regularizer": "l2"},
    "SimpleRNNCell": {"units": 3, "recurrent_initializer": "ones"},
    "SpatialDropout1D": {"rate": 0.3},
    "SpatialDropout2D": {"rate": 0.3, "data_format": "channels_first"},
    "StackedRNNCells": {"cells": [layers.LSTMCell(3), layers.SimpleRNNCell(2)]},
    "TimeDistributed": {"layer": layers.Dense(3)},
    "UpSampling1D": {"size": 3},
    "UpSampling2D": {"size": (2, 3), "interpolation": "bilinear"},
    "Wrapper": {"layer": layers.Dense(3)},
    "ZeroPadding1D": {"padding": (0, 1)},
    "ZeroPadding2D": {"padding": ((0, 1), (2, 3))},
}
NAMES = sorted(
    name
    for name, value in vars(layers).items()
    if inspect.isclass(value)
    and issubclass(value, layers.Layer)
    and name == value.__name__
    and name not in ("Layer", "Lambda")
)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    layer = getattr(layers, name)(**ARGUMENTS.get(name, {}), name="given")
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.name == "given"
    assert again.get_config() == config
    revived = layers.deserialize(layers.serialize(layer))
    assert type(revived) is type(layer)
    assert revived.get_config() == config


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_says_what_it_is(name):
    assert inspect.getdoc(getattr(layers, name))


@pytest.mark.parametrize(
    "alias, name",
    [
        ("Convolution1D", "Conv1D"),
        ("Convolution2D", "Conv2D"),
        ("Convolution2DTranspose", "Conv2DTranspose"),
        ("SeparableConvolution2D", "SeparableConv2D"),
        ("MaxPool1D", "MaxPooling1D"),
        ("MaxPool2D", "MaxPooling2D"),
        ("AvgPool1D", "AveragePooling1D"),
        ("AvgPool2D", "AveragePooling2D"),
        ("GlobalMaxPool1D", "GlobalMaxPooling1D"),
        ("GlobalMaxPool2D", "GlobalMaxPooling2D"),
        ("GlobalAvgPool1D", "GlobalAveragePooling1D"),
        ("GlobalAvgPool2D", "GlobalAveragePooling2D"),
    ],
)
def test_aliases(alias, name):
    assert getattr(layers, alias) is getattr(layers, name)


def test_standard_forms():
    config = layers.Conv2D(3, 2, padding="SAME").get_config()
    assert config["kernel_size"] == (2, 2) and config["strides"] == (1, 1)
    assert config["padding"] == "same" and config["data_format"] == "channels_last"
    assert layers.MaxPooling2D(3).get_config()["strides"] == (3, 3)
    assert layers.ZeroPadding2D(1).get_config()["padding"] == ((1, 1), (1, 1))
    assert layers.LeakyReLU(alpha=0.1).get_config()["negative_slope"] == 0.1
    assert layers.Dense(np.int64(3)).units == 3


def test_a_lambda_is_not_read_from_a_config():
    layer = layers.Lambda(lambda x: x + 1)
    with pytest.raises((ValueError, NotImplementedError), match="custom_objects"):
        layers.deserialize(layers.serialize(layer))


def test_a_registered_function_is():
    @lamina.saving.register_keras_serializable("tests")
    def twice(x, times=2):
        return x * times

    layer = layers.Lambda(twice, arguments={"times": 3})
    again = layers.deserialize(layers.serialize(layer))
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(np.asarray(again(x)), 3 * x)
