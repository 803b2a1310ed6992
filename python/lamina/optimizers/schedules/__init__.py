"""Learning rates that change with the step, as in `keras.optimizers.schedules`."""

from lamina.optimizers.schedules.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from lamina.optimizers.schedules.schedules import (
    LearningRateSchedule as LearningRateSchedule,
)
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object

_CLASSES = (CosineDecay, CosineDecayRestarts, ExponentialDecay, InverseTimeDecay)
_CLASSES += (PiecewiseConstantDecay, PolynomialDecay)
KNOWN = {cls.__name__: cls for cls in _CLASSES}


def serialize(learning_rate_schedule):
    """A schedule as a config dictionary."""
    return serialize_keras_object(learning_rate_schedule)


def deserialize(config, custom_objects=None):
    """The schedule that a config dictionary describes."""
    return deserialize_keras_object(config, custom_objects=custom_objects, module_objects=KNOWN)
