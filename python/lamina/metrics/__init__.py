"""Metrics, by class, name or config, as in `keras.metrics`."""

from lamina.lookup import Family
from lamina.losses import (
    binary_crossentropy as binary_crossentropy,
)
from lamina.losses import (
    binary_focal_crossentropy as binary_focal_crossentropy,
)
from lamina.losses import (
    categorical_crossentropy as categorical_crossentropy,
)
from lamina.losses import (
    categorical_focal_crossentropy as categorical_focal_crossentropy,
)
from lamina.losses import (
    categorical_hinge as categorical_hinge,
)
from lamina.losses import (
    hinge as hinge,
)
from lamina.losses import (
    huber as huber,
)
from lamina.losses import (
    kl_divergence as kl_divergence,
)
from lamina.losses import (
    log_cosh as log_cosh,
)
from lamina.losses import (
    mean_absolute_error as mean_absolute_error,
)
from lamina.losses import (
    mean_absolute_percentage_error as mean_absolute_percentage_error,
)
from lamina.losses import (
    mean_squared_error as mean_squared_error,
)
from lamina.losses import (
    mean_squared_logarithmic_error as mean_squared_logarithmic_error,
)
from lamina.losses import (
    poisson as poisson,
)
from lamina.losses import (
    sparse_categorical_crossentropy as sparse_categorical_crossentropy,
)
from lamina.losses import (
    squared_hinge as squared_hinge,
)
from lamina.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from lamina.metrics.accuracy import (
    binary_accuracy as binary_accuracy,
)
from lamina.metrics.accuracy import (
    categorical_accuracy as categorical_accuracy,
)
from lamina.metrics.accuracy import (
    sparse_categorical_accuracy as sparse_categorical_accuracy,
)
from lamina.metrics.accuracy import (
    sparse_top_k_categorical_accuracy as sparse_top_k_categorical_accuracy,
)
from lamina.metrics.accuracy import (
    top_k_categorical_accuracy as top_k_categorical_accuracy,
)
from lamina.metrics.auc import AUC
from lamina.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from lamina.metrics.f_score import F1Score, FBetaScore
from lamina.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from lamina.metrics.metric import Metric
from lamina.metrics.reduction import Mean, MeanMetricWrapper, Sum
from lamina.metrics.regression import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConcordanceCorrelation,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    PearsonCorrelation,
    Poisson,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from lamina.metrics.regression import (
    concordance_correlation as concordance_correlation,
)
from lamina.metrics.regression import (
    pearson_correlation as pearson_correlation,
)

_CLASSES = (
    *(
        AUC,
        Accuracy,
        BinaryAccuracy,
        BinaryCrossentropy,
        BinaryIoU,
        CategoricalAccuracy,
        CategoricalCrossentropy,
    ),
    *(CategoricalHinge, ConcordanceCorrelation, CosineSimilarity, F1Score, FBetaScore, FalseNegatives),
    *(FalsePositives, Hinge, IoU, KLDivergence, LogCoshError, Mean, MeanAbsoluteError),
    *(MeanAbsolutePercentageError, MeanIoU, MeanMetricWrapper, MeanSquaredError, MeanSquaredLogarithmicError),
    *(
        Metric,
        OneHotIoU,
        OneHotMeanIoU,
        PearsonCorrelation,
        Poisson,
        Precision,
        PrecisionAtRecall,
        R2Score,
        Recall,
    ),
    *(RecallAtPrecision, RootMeanSquaredError, SensitivityAtSpecificity, SparseCategoricalAccuracy),
    *(
        SparseCategoricalCrossentropy,
        SparseTopKCategoricalAccuracy,
        SpecificityAtSensitivity,
        SquaredHinge,
        Sum,
    ),
    *(TopKCategoricalAccuracy, TrueNegatives, TruePositives),
)
_SHORT = {
    "bce": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
}
# In `compile`, "acc" and "accuracy" stand for the accuracy that fits the model's output.
_ALIASES = _SHORT | {name.upper(): cls for name, cls in _SHORT.items()}
_ALIASES |= {"acc": Accuracy, "kld": KLDivergence, "logcosh": LogCoshError, "rmse": RootMeanSquaredError}
_family = Family("metric", _CLASSES, _ALIASES)


def serialize(metric):
    """A metric as a config dictionary."""
    return _family.serialize(metric)


def deserialize(config, custom_objects=None):
    """The metric that a config dictionary, or a name, describes."""
    return _family.deserialize(config, custom_objects)


def get(identifier):
    """A metric from its name, its config, its class, or itself; None and plain functions stay as they are.

    >>> get("mse").name
    'mean_squared_error'
    """
    return _family.get(identifier)
