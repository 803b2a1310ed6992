"""Objects to dicts and back; names in them are data."""

import json
import sys

import numpy as np
import pytest

import lamina
from lamina import layers, ops, saving
from lamina.saving import deserialize_keras_object as read
from lamina.saving import serialize_keras_object as write


def through_json(obj):
    return read(json.loads(json.dumps(write(obj))))


@pytest.mark.parametrize("value", [None, 1, 1.5, "text", True, [1, [2, 3]], {"a": {"b": 1}}])
def test_plain_values(value):
    assert through_json(value) == value


def test_values_that_json_lacks():
    assert through_json(slice(1, None, 2)) == slice(1, None, 2)
    assert through_json(b"bytes") == b"bytes"
    assert through_json(Ellipsis) is Ellipsis
    np.testing.assert_array_equal(through_json(np.arange(3, dtype="int8")), [0, 1, 2])
    assert through_json(np.arange(3, dtype="int8")).dtype == "int8"
    assert through_json(np.float32(1.5)) == 1.5
    assert write(np.dtype("float32")) == "float32"
    tensor = through_json(ops.convert_to_tensor([1.0, 2.0]))
    np.testing.assert_array_equal(tensor, [1.0, 2.0])


def test_the_form_is_that_of_keras():
    config = write(layers.Dense(3, kernel_regularizer="l2", name="d"))
    assert (config["module"], config["class_name"], config["registered_name"]) == (
        "keras.layers",
        "Dense",
        None,
    )
    assert config["config"]["kernel_regularizer"] == {
        "module": "keras.regularizers",
        "class_name": "L2",
        "config": {"l2": 0.01},
        "registered_name": None,
    }
    assert config["config"]["activation"] == "linear"
    assert config["config"]["dtype"]["class_name"] == "DTypePolicy"
    assert "build_config" not in config
    layer = layers.Dense(3)
    layer.build((None, 2))
    assert write(layer)["build_config"] == {"input_shape": (None, 2)}


def test_a_built_layer_comes_back_built():
    layer = layers.Dense(3)
    layer.build((None, 2))
    again = through_json(layer)
    assert again.built
    assert again.kernel.shape == (2, 3)


def test_registered_objects():
    @saving.register_keras_serializable("pkg")
    class Mine(layers.Layer):
        def __init__(self, a, **kwargs):
            super().__init__(**kwargs)
            self.a = a

    @saving.register_keras_serializable("pkg", name="twice")
    def f(x):
        return 2 * x

    try:
        config = write(Mine(3))
        assert config["registered_name"] == "pkg>Mine"
        assert read(config).a == 3
        assert saving.get_registered_name(Mine) == "pkg>Mine"
        assert saving.get_registered_object("pkg>Mine") is Mine
        assert read(write(f)) is f
    finally:
        for name in ("pkg>Mine", "pkg>twice"):
            saving.get_custom_objects().pop(name)


def test_custom_objects_by_argument_and_by_scope():
    class Mine(layers.Layer):
        def __init__(self, a, **kwargs):
            super().__init__(**kwargs)
            self.a = a

    config = write(Mine(3))
    with pytest.raises(TypeError, match="Could not locate class 'Mine'"):
        read(config)
    assert read(config, custom_objects={"Mine": Mine}).a == 3
    with saving.custom_object_scope({"Mine": Mine}):
        assert read(config).a == 3
    with pytest.raises(TypeError):
        read(config)


def test_classes_without_config_cannot_be_registered_or_written():
    with pytest.raises(ValueError, match="get_config"):
        saving.register_keras_serializable()(type("Plain", (), {}))
    with pytest.raises(TypeError, match="must implement the `get_config"):
        write(object())


@pytest.mark.parametrize(
    "config",
    [
        {"module": "os", "class_name": "system", "config": {"command": "true"}, "registered_name": None},
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {"module": "keras.utils", "class_name": "get_file", "config": {}, "registered_name": None},
        {"module": "lamina.saving", "class_name": "CustomObjectScope", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "__import__", "config": {}, "registered_name": None},
        {"module": "keras.initializers", "class_name": "get", "config": {}, "registered_name": None},
        {"module": "antigravity", "class_name": "X", "config": {}, "registered_name": None},
        {"module": "keras.src.ops.numpy", "class_name": "System", "config": {}, "registered_name": None},
    ],
)
def test_names_in_a_config_are_never_imported(config):
    with pytest.raises((TypeError, ValueError), match="Could not locate"):
        read(config)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": 3, "config": {}},
        {"class_name": "Dense", "config": "x"},
        {"class_name": "function", "config": {"a": 1}},
        {"class_name": "Dense", "module": ["keras"], "config": {}},
        {"class_name": "Dense", "module": "keras.layers", "config": {"unknown": 1}},
        object(),
    ],
)
def test_malformed_configs_are_type_errors(config):
    if isinstance(config, object) and type(config) is object:
        with pytest.raises(TypeError, match="Could not parse"):
            read(config)
    else:
        with pytest.raises(TypeError):
            read(config)


def test_misspelt_layer_class_gets_a_suggestion():
    with pytest.raises(TypeError, match="Did you mean 'Dense'"):
        read({"module": "keras.layers", "class_name": "Dens", "config": {}, "registered_name": None})


def test_lambdas_are_refused_by_name_and_can_be_brought():
    config = write(layers.Lambda(lambda x: x + 1, name="my_lambda"))
    with pytest.raises(ValueError, match=r'custom_objects=\{"my_lambda": fn\}'):
        read(config)
    with pytest.raises(ValueError, match="lamina never does it"):
        read(config, safe_mode=False)
    layer = read(config, custom_objects={"my_lambda": lambda x: x + 2})
    np.testing.assert_allclose(layer(np.zeros((1,), "float32")), [2.0])


def test_bytecode_of_keras_is_never_run():
    config = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}
    with pytest.raises(ValueError, match="arbitrary code execution"):
        read(config, safe_mode=False)


def test_keras_2_configs_without_module():
    layer = read({"class_name": "Dense", "config": {"name": "d", "units": 3, "activation": "relu"}})
    assert (layer.units, layer.name) == (3, "d")


def test_functions_by_name():
    assert read(write(lamina.activations.relu)) is lamina.activations.relu
    assert read(
        {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "relu"}
    ) is (lamina.activations.relu)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "m", "layers": []},
        {
            "name": "m",
            "trainable": True,
            "layers": [],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["x", 0, 0]],
        },
    ],
)
def test_functional_configs_that_lack_something(config):
    with pytest.raises((TypeError, ValueError)):
        lamina.Model.from_config(config)


def test_functional_config_with_a_loop():
    a = lamina.Input((3,), name="a")
    x = layers.Dense(3, name="x")(a)
    config = lamina.Model(a, layers.Dense(3, name="y")(x)).get_config()
    config = json.loads(json.dumps(config))
    config["layers"][1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["y", 0, 0]
    with pytest.raises(ValueError, match=r"loops or disconnected nodes.*'x'.*'y'"):
        lamina.Model.from_config(config)
