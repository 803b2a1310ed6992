"""Losses, by class, function, name or config, as in `keras.losses`."""

from lamina.lookup import Family
from lamina.losses.classes import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    Circle,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    LossFunctionWrapper,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Tversky,
)
from lamina.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    circle,
    cosine_similarity,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
from lamina.losses.loss import Loss

_CLASSES = (
    *(BinaryCrossentropy, BinaryFocalCrossentropy, CategoricalCrossentropy, CategoricalFocalCrossentropy),
    *(CategoricalGeneralizedCrossEntropy, CategoricalHinge, Circle, CosineSimilarity, Dice, Hinge, Huber),
    *(KLDivergence, LogCosh, Loss, LossFunctionWrapper, MeanAbsoluteError, MeanAbsolutePercentageError),
    *(MeanSquaredError, MeanSquaredLogarithmicError, Poisson, SparseCategoricalCrossentropy, SquaredHinge),
    Tversky,
)
_FUNCTIONS = (
    *(
        binary_crossentropy,
        binary_focal_crossentropy,
        categorical_crossentropy,
        categorical_focal_crossentropy,
    ),
    *(
        categorical_generalized_cross_entropy,
        categorical_hinge,
        circle,
        cosine_similarity,
        dice,
        hinge,
        huber,
    ),
    *(kl_divergence, log_cosh, mean_absolute_error, mean_absolute_percentage_error, mean_squared_error),
    *(mean_squared_logarithmic_error, poisson, sparse_categorical_crossentropy, squared_hinge, tversky),
)
_SHORT = {
    "bce": binary_crossentropy,
    "kld": kl_divergence,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "mse": mean_squared_error,
    "msle": mean_squared_logarithmic_error,
}
_ALIASES = {fn.__name__: fn for fn in _FUNCTIONS} | _SHORT | {name.upper(): fn for name, fn in _SHORT.items()}
_ALIASES |= {"logcosh": log_cosh, "kullback_leibler_divergence": kl_divergence}
_family = Family("loss", _CLASSES, _ALIASES)


def is_known(fn):
    """Is this function, or the class of this object, one of lamina's losses?"""
    return any(fn is known or type(fn) is known for known in (*_CLASSES, *_FUNCTIONS))


def serialize(loss):
    """A loss object or function as a config dictionary."""
    return _family.serialize(loss)


def deserialize(name, custom_objects=None):
    """The loss that a config dictionary, or a name, describes."""
    return _family.deserialize(name, custom_objects)


def get(identifier):
    """A loss from its name, its config, its class, or itself; None stays None.

    A function name ("mse", "huber") gives the function, a class name ("Huber") an object of it.

    >>> get("mse").__name__
    'mean_squared_error'
    """
    return _family.get(identifier)
