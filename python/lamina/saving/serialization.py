"""Objects as plain dicts in Keras 3's form (`module`, `class_name`, `config`, `registered_name`), and back.

A configuration is data. The names in it are looked up in lamina's own public modules, in the registry and in
the caller's `custom_objects`; nothing that it names is imported, and no code that it holds is run.
"""

import types

import numpy as np

from lamina.backend import standardize_dtype
from lamina.engine.scope import flag, state
from lamina.errors import did_you_mean
from lamina.saving.registration import (
    CustomObjectScope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    scoped_objects,
)

_PLAIN = (str, int, float, bool)
# Keras's public modules and lamina's modules that hold the same names.
_FAMILIES = (
    "layers",
    "initializers",
    "regularizers",
    "constraints",
    "activations",
    "losses",
    "metrics",
    "optimizers",
    "optimizers.schedules",
    "dtype_policies",
    "models",
    "random",
)
_FUNCTION_FAMILIES = ("activations", "losses", "metrics", "ops")
_TOP_LEVEL = {
    "Sequential": "models",
    "Model": "models",
    "Functional": "models",
    "DTypePolicy": "dtype_policies",
}
_NOT_OBJECTS = {"get", "serialize", "deserialize"}


# ------------------------------------------------------------------------------------------ serialization


def serialize_keras_object(obj):
    """`obj` as a plain dict, list or value; `deserialize_keras_object` is the way back.

    Layers, models, optimizers, losses and the like, tensors and arrays, nested in lists and dicts. Raises
    `TypeError` for an object without `get_config`.
    """
    if obj is None or type(obj) in _PLAIN:
        return obj
    if isinstance(obj, (list, tuple)):
        items = [serialize_keras_object(x) for x in obj]
        return tuple(items) if isinstance(obj, tuple) else items
    if isinstance(obj, dict):
        return {k: serialize_keras_object(v) for k, v in obj.items()}
    special = _serialize_value(obj)
    if special is not None:
        return special[0]
    if isinstance(obj, (types.FunctionType, types.BuiltinFunctionType)):
        return _serialize_function(obj)
    if not hasattr(obj, "get_config") or isinstance(obj, type):
        raise TypeError(
            f"Cannot serialize object {obj} of type {type(obj)}. To be serializable, a class must implement "
            "the `get_config()` method."
        )
    inner = obj.get_config()
    if not isinstance(inner, dict):
        raise TypeError(f"The `get_config()` method of {obj} should return a dict. It returned: {inner}")
    module, class_name, registered_name = public_name(type(obj))
    config = {
        "module": module,
        "class_name": class_name,
        "config": {k: serialize_keras_object(v) for k, v in inner.items()},
        "registered_name": registered_name,
    }
    for key, getter in (("build_config", "get_build_config"), ("compile_config", "get_compile_config")):
        found = getattr(obj, getter)() if hasattr(obj, getter) else None
        if found is not None:
            config[key] = serialize_keras_object(found)
    return config


def _serialize_value(obj):
    """A 1-tuple with the form of a plain value that JSON lacks, or `None`."""
    from lamina.engine.keras_tensor import KerasTensor
    from lamina.engine.variable import Variable

    if isinstance(obj, bytes):
        return (_special("__bytes__", value=obj.decode("utf-8")),)
    if isinstance(obj, slice):
        ends = {k: serialize_keras_object(getattr(obj, k)) for k in ("start", "stop", "step")}
        return (_special("__slice__", **ends),)
    if obj is Ellipsis:
        return (_special("__ellipsis__"),)
    if isinstance(obj, KerasTensor):
        history = getattr(obj, "_keras_history", None)
        history = [history[0].name, *history[1:]] if history and history[0] is not None else None
        return (_special("__keras_tensor__", shape=obj.shape, dtype=obj.dtype, keras_history=history),)
    if isinstance(obj, np.dtype) or (isinstance(obj, type) and issubclass(obj, np.generic)):
        return (standardize_dtype(obj),)
    if isinstance(obj, (np.ndarray, np.generic)):
        if obj.ndim == 0:
            return (obj.item(),)
        return (_special("__numpy__", value=obj.tolist(), dtype=standardize_dtype(obj.dtype)),)
    if not isinstance(obj, Variable) and hasattr(obj, "__array__") and hasattr(obj, "dtype"):
        return (_special("__tensor__", value=np.asarray(obj).tolist(), dtype=standardize_dtype(obj.dtype)),)
    if isinstance(obj, _PLAIN):
        return (obj,)
    return None


def _special(class_name, **config):
    return {"class_name": class_name, "config": config}


def _serialize_function(fn):
    if state.keep_functions:
        return fn
    if fn.__name__ == "<lambda>":
        # Its code is not written down: who loads the configuration must bring the function.
        return _special("__lambda__", value=None)
    return {
        "module": "builtins",
        "class_name": "function",
        "config": get_registered_name(fn),
        "registered_name": "function",
    }


def functions_as_they_are():
    """A context in which functions in configurations stay function objects: for copying a model within a
    process.
    """
    return flag("keep_functions")


def public_name(cls):
    """(module, class name, registered name) under which a configuration refers to a class."""
    module, name = cls.__module__, cls.__name__
    registered = get_registered_name(cls)
    if registered != name or not module.startswith("lamina."):
        return module, name, registered
    path = module.split(".")[1:]
    function = getattr(cls, "function", None)
    if getattr(function, "is_op", False):  # the class of an op is made from its function
        return ".".join(["keras", "src", *function.__module__.split(".")[1:3]]), name, name
    if name == "Functional":
        return "keras.src.models.functional", name, name
    if name in _TOP_LEVEL:
        return "keras", name, None
    family = "optimizers.schedules" if path[:2] == ["optimizers", "schedules"] else path[0]
    return f"keras.{family}", name, None


# ---------------------------------------------------------------------------------------- deserialization


def deserialize_keras_object(config, custom_objects=None, safe_mode=True, module_objects=None, **_):
    """The object that a configuration describes.

    Args:
        config: what `serialize_keras_object` (Keras's or lamina's) returned.
        custom_objects: dict from names to the caller's classes and functions.
        safe_mode: accepted for compatibility; code in a configuration is never run, whatever it says.
        module_objects: dict of names that are looked up before lamina's own.

    Raises `TypeError` or `ValueError` when a name is unknown or the configuration is malformed.
    """
    custom = custom_objects or {}

    def nested(value):
        return deserialize_keras_object(value, custom_objects)

    if isinstance(config, str):
        found = get_registered_object(config, custom, module_objects)
        if found is None:
            return config
        return found() if isinstance(found, type) and config in (module_objects or {}) else found
    if config is None or isinstance(config, _PLAIN) or callable(config):
        return config
    if isinstance(config, (list, tuple)):
        return [nested(x) for x in config]
    if not isinstance(config, dict):
        raise TypeError(f"Could not parse config: {config}")
    if "class_name" not in config or "config" not in config:
        return {k: nested(v) for k, v in config.items()}
    class_name, inner = config["class_name"], config["config"]
    if not isinstance(class_name, str):
        raise TypeError(f"Expected 'class_name' to be a string, instead got {class_name!r}")
    if class_name.startswith("__") and class_name in _SPECIAL:
        return _SPECIAL[class_name](inner or {}, nested)
    if class_name == "function":
        return _find_function(config, custom, module_objects)
    inner = {} if inner is None else inner
    if not isinstance(inner, dict):
        raise TypeError(
            f"Expected 'config' to be a dict for {class_name},\n"
            f"instead got {type(inner)}\n"
            f"Full config: {config}"
        )
    cls = _find_class(config, custom, module_objects)
    if not isinstance(cls, type):
        return cls
    if not hasattr(cls, "from_config"):
        raise TypeError(
            f"Unable to reconstruct an instance of '{class_name}' because the class is missing a "
            f"`from_config()` method. Full object config: {config}"
        )
    with CustomObjectScope(custom):
        instance = _instantiate(cls, _with_function(cls, dict(inner), custom), config)
        build_config = config.get("build_config")
        if build_config and not instance.built:
            instance.build_from_config(nested_tuples(build_config))
            instance.built = True
        if config.get("compile_config"):
            instance.compile_from_config(config["compile_config"])
            instance.compiled = True
    return instance


def _instantiate(cls, inner, config):
    try:
        return cls.from_config(inner)
    except TypeError as e:
        raise TypeError(
            f"{cls} could not be deserialized properly. Please ensure that components that are Python object "
            "instances (layers, models, etc.) returned by `get_config()` are explicitly deserialized in the "
            "model's `from_config()` method.\n"
            "\n"
            f"config={config}.\n"
            "\n"
            f"Exception encountered: {e}"
        ) from e


def _with_function(cls, inner, custom):
    """A `Lambda` layer's function comes from the caller, under the layer's name.

    Never from the configuration.
    """
    function = inner.get("function")
    if cls.__name__ == "Lambda" and isinstance(function, dict) and function.get("class_name") == "__lambda__":
        name = inner.get("name", "lambda")
        found = get_registered_object(name, custom)
        if found is None:
            raise ValueError(_no_lambda(f"The `Lambda` layer '{name}' holds", name))
        inner["function"] = found
    return inner


def _no_lambda(what, name):
    return (
        f"{what} a Python lambda. Running code that comes with a configuration allows arbitrary code "
        "execution, and lamina never does it. "
        f'Bring the function yourself: custom_objects={{"{name}": fn}}, '
        "or use a named function registered with `lamina.saving.register_keras_serializable()`."
    )


def _refuse_lambda(inner, nested):
    raise ValueError(_no_lambda("The configuration holds", "name_of_the_layer"))


def _keras_tensor(inner, nested):
    from lamina.engine.keras_tensor import KerasTensor

    tensor = KerasTensor(inner["shape"], dtype=inner["dtype"])
    tensor._pre_serialization_keras_history = inner["keras_history"]
    return tensor


def _tensor(inner, nested):
    from lamina import ops

    return ops.convert_to_tensor(inner["value"], dtype=inner["dtype"])


_SPECIAL = {
    "__keras_tensor__": _keras_tensor,
    "__tensor__": _tensor,
    "__numpy__": lambda inner, nested: np.array(inner["value"], dtype=standardize_dtype(inner["dtype"])),
    "__bytes__": lambda inner, nested: inner["value"].encode("utf-8"),
    "__ellipsis__": lambda inner, nested: Ellipsis,
    "__slice__": lambda inner, nested: slice(*[nested(inner[k]) for k in ("start", "stop", "step")]),
    "__lambda__": _refuse_lambda,
}


def nested_tuples(shapes):
    """Shapes that went through JSON as lists, as tuples again."""
    if isinstance(shapes, dict):
        return {k: nested_tuples(v) for k, v in shapes.items()}
    if isinstance(shapes, (list, tuple)):
        if all(d is None or isinstance(d, int) for d in shapes):
            return tuple(shapes)
        return type(shapes)([nested_tuples(s) for s in shapes])
    return shapes


# ------------------------------------------------------------------------------------------------ look-up


def _find_class(config, custom, module_objects):
    name, registered = config["class_name"], config.get("registered_name")
    for key in (registered, name):
        if key and (found := get_registered_object(key, custom, module_objects)) is not None:
            return found
    module = config.get("module")
    if isinstance(module, str) and ".ops." in module:
        found = _find_op(name)
    elif module is None or isinstance(module, str):
        found = _search(name, _families(module, name), isinstance_of=type)
    else:
        raise TypeError(f"Expected 'module' to be a string, instead got {module!r}")
    if found is not None:
        _refuse_other_name(config, name)
        return found
    hint = (
        did_you_mean(name, [n for n in dir(_family("layers")) if n[:1].isupper()])
        if module == "keras.layers"
        else ""
    )
    raise TypeError(
        f"Could not locate class '{name}'.{hint} Make sure custom classes and functions are decorated with "
        "`@lamina.saving.register_keras_serializable()`, or pass them in `custom_objects`. Full object "
        f"config: {config}"
    )


def _find_function(config, custom, module_objects):
    name = config["config"]
    if not isinstance(name, str):
        raise TypeError(
            f"Expected 'config' to be a non-null str for a function, instead got {type(name)}\n{config}"
        )
    found = get_registered_object(name, custom, module_objects)
    if found is None:
        found = _search(name, _FUNCTION_FAMILIES, isinstance_of=types.FunctionType)
        if found is not None:
            _refuse_other_name(config, name)
        elif ">" not in name:  # Keras up to 3.6 wrote registered functions without their package
            known = {**get_custom_objects(), **scoped_objects(), **custom}
            found = next((f for key, f in known.items() if key.endswith(f">{name}")), None)
    if found is None:
        raise TypeError(
            f"Could not locate function '{name}'. Make sure custom functions are decorated with "
            "`@lamina.saving.register_keras_serializable()`, or pass them in `custom_objects`. Full object "
            f"config: {config}"
        )
    return found


def _refuse_other_name(config, name):
    """A built-in has no registered name; a configuration that gives it one means something else."""
    registered = config.get("registered_name")
    if registered and registered not in (name, config["class_name"]):
        raise ValueError(
            f"`registered_name={registered!r}` was provided in the config, but '{name}' resolved to a Keras "
            f"built-in and does not use registered names. Full object config: {config}"
        )


def _families(module, name):
    """lamina's modules in which a class of Keras's (or lamina's) `module` may be."""
    if module is None:  # Keras 2 wrote no module
        return _FAMILIES
    package, _, path = module.partition(".")
    if package not in ("keras", "lamina"):
        return ()
    if not path:
        return (_TOP_LEVEL[name],) if name in _TOP_LEVEL else ()
    path = path.removeprefix("src.")
    if path in _FAMILIES:
        return (path,)
    root = path.split(".")[0]
    return tuple(f for f in _FAMILIES if f.split(".")[0] == root)


def _family(name):
    import importlib

    return importlib.import_module(f"lamina.{name}")  # `name` is one of our constants


def _search(name, families, isinstance_of):
    """The public object `name` of lamina's modules `families`, if it is of the kind that is looked for."""
    if name.startswith("_") or name in _NOT_OBJECTS:
        return None
    for family in families:
        found = getattr(_family(family), name, None)
        if isinstance(found, isinstance_of) and found.__module__.startswith("lamina."):
            return found
    return None


def _find_op(class_name):
    """The operation class of the op function that `class_name` (`GetItem`) stands for."""
    import re

    from lamina import ops
    from lamina.engine.operation import operation_class

    for function_name in (re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower(), class_name.lower()):
        function = getattr(ops, function_name, None)
        if getattr(function, "is_op", False):
            return operation_class(function)
    return None
