"""Optimizers, by class, name or config, as in `keras.optimizers`."""

import inspect

from lamina.errors import did_you_mean
from lamina.optimizers import schedules as schedules
from lamina.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam, ScheduleFreeAdamW
from lamina.optimizers.adaptive import Adadelta, Adafactor, Adagrad, Ftrl, RMSprop
from lamina.optimizers.loss_scale import LossScaleOptimizer
from lamina.optimizers.muon import Muon
from lamina.optimizers.optimizer import Optimizer
from lamina.optimizers.sgd import SGD, Lion
from lamina.saving.registration import get_registered_object
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object

_CLASSES = (
    *(Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Ftrl, Lamb, Lion, LossScaleOptimizer, Muon, Nadam),
    *(Optimizer, RMSprop, SGD, ScheduleFreeAdamW),
)
# Names are looked up in lower case: "adam", "Adam" and "ADAM" are the same optimizer.
KNOWN = {cls.__name__.lower(): cls for cls in _CLASSES}


def serialize(optimizer):
    """An optimizer as a config dictionary."""
    return serialize_keras_object(optimizer)


def deserialize(config, custom_objects=None):
    """The optimizer that a config dictionary describes."""
    if str(config["class_name"]).lower() in KNOWN:
        config = {**config, "class_name": config["class_name"].lower()}
    return deserialize_keras_object(config, custom_objects=custom_objects, module_objects=KNOWN)


def get(identifier):
    """An optimizer from its name, its config, its class, or itself; None stays None.

    >>> get("adam").beta_1
    0.9
    """
    if identifier is None:
        return None
    found = identifier
    if isinstance(identifier, dict):
        found = deserialize(identifier)
    elif isinstance(identifier, str):
        found = KNOWN.get(identifier.lower()) or get_registered_object(identifier)
    if inspect.isclass(found) and issubclass(found, Optimizer):
        found = found()
    if not isinstance(found, Optimizer):
        hint = did_you_mean(identifier.lower(), KNOWN) if isinstance(identifier, str) else ""
        raise ValueError(f"Could not interpret optimizer identifier: {identifier}.{hint}")
    return found
