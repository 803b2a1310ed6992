"""A layer's configuration, derived from the signature of its `__init__`.

And the legacy arguments of Keras 1 and 2.
"""

from lamina import activations, dtype_policies, regularizers
from lamina.backend import standardize_shape
from lamina.engine.operation import accepts, init_signature, initial_config
from lamina.engine.tracebacks import warn
from lamina.errors import ShapeError, did_you_mean
from lamina.saving.serialization import serialize_keras_object

_BASE = ("name", "trainable", "dtype")
_LEGACY_SHAPES = ("input_dim", "input_shape", "batch_input_shape", "batch_shape")
# Arguments of `Layer.__init__`, and legacy ones, that no configuration holds unless a layer has them itself.
_NOT_CONFIG = {*_LEGACY_SHAPES, "batch_size", "autocast", "weights"}


def layer_config(layer, base):
    """What `Layer.get_config` returns; `base` is `Layer`.

    For a layer of lamina (or a subclass of one): every argument of its `__init__`, with the value of the
    attribute of that name. For a user's class: its arguments as given, if it has no `get_config` of its own.
    """
    cls = type(layer)
    config = {
        "name": layer.name,
        "trainable": layer.trainable,
        "dtype": dtype_policies.serialize(layer.dtype_policy),
    }
    if layer.activity_regularizer is not None:
        config["activity_regularizer"] = regularizers.serialize(layer.activity_regularizer)
    own = next(c for c in cls.__mro__ if c.__module__.startswith("lamina."))
    if _names_arguments(own, base):
        config.update(_attributes(layer, own))
    elif cls.get_config is base.get_config:
        config = {k: v for k, v in config.items() if accepts(cls, k)}
        own = init_signature(cls).parameters
        given = {k: v for k, v in initial_config(layer).items() if k not in _BASE}
        config.update({k: v for k, v in given.items() if k in own or k not in _NOT_CONFIG})
    return config


def _names_arguments(own, base):
    """Whether `own` has named arguments beside those of every layer; `Model(*args, **kwargs)` has not."""
    if own is base or own.__init__ is base.__init__:
        return False
    parameters = list(init_signature(own).parameters.values())[1:]
    return any(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def _attributes(layer, own):
    values = {}
    for name, parameter in list(init_signature(own).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name in (*_BASE, "weights", "autocast") or name in layer._config_exclude:
            continue
        value = getattr(layer, name, _given(layer, own, name, parameter.default))
        is_activation = name.endswith("activation") and callable(value)
        values[name] = activations.serialize(value) if is_activation else serialize_keras_object(value)
    return values


def _given(layer, own, name, default):
    """What `__init__` was given for `name`, where no attribute keeps it."""
    args, kwargs = layer.__dict__.get("_init_arguments", ((), {}))
    if name in kwargs:
        return kwargs[name]
    names = list(init_signature(type(layer)).parameters)[1:]
    return args[names.index(name)] if name in names[: len(args)] else default


def legacy_arguments(layer, kwargs):
    """Takes the legacy arguments out of `kwargs`: (batch input shape or `None`, initial weights or `None`).

    Raises `ValueError` for a keyword that no layer has, with the one that was likely meant.
    """
    batch_size = kwargs.pop("batch_size", None)
    weights = kwargs.pop("weights", None)
    given = {name: kwargs.pop(name, None) for name in _LEGACY_SHAPES}
    given = {name: value for name, value in given.items() if value is not None}
    if kwargs:
        known = [
            n for c in type(layer).__mro__ if "__init__" in vars(c) for n in init_signature(c).parameters
        ]
        hints = "".join(
            did_you_mean(k, [n for n in known if n not in ("self", "kwargs", "args")]) for k in kwargs
        )
        raise ValueError(f"Unrecognized keyword arguments passed to {type(layer).__name__}: {kwargs}.{hints}")
    if not given:
        return None, weights
    name, value = next(iter(given.items()))
    if name == "input_dim":
        shape = (batch_size, int(value))
    else:
        shape = _shape(layer, name, value)
        shape = shape if name.startswith("batch") else (batch_size, *shape)
    warn(
        f"`{name}` is the legacy way to say a layer's input shape, and it works. In new code, prefer "
        f"`Input({'batch_shape=' + str(shape) if shape[0] is not None else shape[1:]})` as the first layer "
        "of the model.",
    )
    return shape, weights


def _shape(layer, name, value):
    try:
        return standardize_shape(value)
    except ShapeError as e:
        e.layer, e.argument, e.fix = layer, name, f"`{name}=({value},)`"
        raise
