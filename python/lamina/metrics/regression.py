"""Errors, crossentropies and hinges as mean metrics; root mean squared error, R2, correlations."""

from lamina import backend, losses, ops
from lamina.engine.tracebacks import warn
from lamina.losses.checks import has_data, paired
from lamina.metrics.metric import Metric
from lamina.metrics.reduction import Mean, NamedMeanMetric, mean_of


def cosine_similarity(y_true, y_pred, axis=-1):
    """`sum(unit(y_true) * unit(y_pred), axis)`: 1 for the same direction; the loss has the other sign."""
    y_true, y_pred = paired("cosine_similarity", y_true, y_pred)
    return ops.sum(ops.normalize(y_true, axis=axis) * ops.normalize(y_pred, axis=axis), axis=axis)


def pearson_correlation(y_true, y_pred, axis=-1):
    """Covariance over the product of the standard deviations, along `axis`."""
    y_true, y_pred = paired("pearson_correlation", y_true, y_pred)
    y_true = y_true - ops.mean(y_true, axis=axis, keepdims=True)
    y_pred = y_pred - ops.mean(y_pred, axis=axis, keepdims=True)
    y_true = y_true / ops.std(y_true, axis=axis, keepdims=True)
    y_pred = y_pred / ops.std(y_pred, axis=axis, keepdims=True)
    return ops.mean(y_true * y_pred, axis=axis)


def concordance_correlation(y_true, y_pred, axis=-1):
    """Lin's concordance along `axis`: correlation that also asks for equal means and variances."""
    y_true, y_pred = paired("concordance_correlation", y_true, y_pred)
    mean_true = ops.mean(y_true, axis=axis, keepdims=True)
    mean_pred = ops.mean(y_pred, axis=axis, keepdims=True)
    spread = ops.var(y_true, axis=axis, keepdims=True) + ops.var(y_pred, axis=axis, keepdims=True)
    covariance = (y_true - mean_pred) * (y_pred - mean_pred)
    return ops.mean(
        2.0 * covariance / (spread + ops.square(mean_true - mean_pred) + backend.epsilon()), axis=axis
    )


MeanSquaredError = mean_of(
    "MeanSquaredError", losses.mean_squared_error, "mean_squared_error", "down", __name__
)
MeanAbsoluteError = mean_of(
    "MeanAbsoluteError", losses.mean_absolute_error, "mean_absolute_error", "down", __name__
)
MeanAbsolutePercentageError = mean_of(
    "MeanAbsolutePercentageError",
    losses.mean_absolute_percentage_error,
    "mean_absolute_percentage_error",
    "down",
    __name__,
)
MeanSquaredLogarithmicError = mean_of(
    "MeanSquaredLogarithmicError",
    losses.mean_squared_logarithmic_error,
    "mean_squared_logarithmic_error",
    "down",
    __name__,
)
LogCoshError = mean_of("LogCoshError", losses.log_cosh, "logcosh", "down", __name__)
Hinge = mean_of("Hinge", losses.hinge, "hinge", "down", __name__)
SquaredHinge = mean_of("SquaredHinge", losses.squared_hinge, "squared_hinge", "down", __name__)
CategoricalHinge = mean_of(
    "CategoricalHinge", losses.categorical_hinge, "categorical_hinge", "down", __name__
)
KLDivergence = mean_of("KLDivergence", losses.kl_divergence, "kl_divergence", "down", __name__)
Poisson = mean_of("Poisson", losses.poisson, "poisson", "down", __name__)


class BinaryCrossentropy(NamedMeanMetric):
    """The mean of `binary_crossentropy` over samples."""

    _direction = "down"

    def __init__(self, name="binary_crossentropy", dtype=None, from_logits=False, label_smoothing=0):
        super().__init__(
            losses.binary_crossentropy, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing
        )


class CategoricalCrossentropy(NamedMeanMetric):
    """The mean of `categorical_crossentropy` over samples; one-hot targets."""

    _direction = "down"

    def __init__(
        self, name="categorical_crossentropy", dtype=None, from_logits=False, label_smoothing=0, axis=-1
    ):
        super().__init__(
            losses.categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(NamedMeanMetric):
    """The mean of `sparse_categorical_crossentropy` over samples; integer targets."""

    _direction = "down"

    def __init__(
        self,
        name="sparse_categorical_crossentropy",
        dtype=None,
        from_logits=False,
        ignore_class=None,
        axis=-1,
    ):
        super().__init__(
            losses.sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )


class CosineSimilarity(NamedMeanMetric):
    """The mean cosine between targets and predictions along `axis`: 1 is the same direction."""

    _direction = "up"
    _quiet = (("axis", -1),)

    def __init__(self, name="cosine_similarity", dtype=None, axis=-1):
        super().__init__(cosine_similarity, name, dtype, axis=axis)


class PearsonCorrelation(NamedMeanMetric):
    """The mean over samples of `pearson_correlation` along `axis`."""

    _direction = "up"

    def __init__(self, name="pearson_correlation", dtype=None, axis=-1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(NamedMeanMetric):
    """The mean over samples of `concordance_correlation` along `axis`."""

    _direction = "up"

    def __init__(self, name="concordance_correlation", dtype=None, axis=-1):
        super().__init__(concordance_correlation, name, dtype, axis=axis)


class RootMeanSquaredError(Mean):
    """`sqrt(mean((y_pred - y_true)**2))` over everything seen so far."""

    _direction = "down"

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        y_true, y_pred = paired("root_mean_squared_error", y_true, y_pred)
        super().update_state(ops.square(y_pred - y_true), sample_weight)

    def result(self):
        return ops.sqrt(super().result())


class R2Score(Metric):
    """The coefficient of determination, `1 - residual sum of squares / total sum of squares`, of each output.

    Args:
        class_aggregation: how the outputs are put together: None (one score each), `"uniform_average"`, or
            `"variance_weighted_average"` (weighted by the variance of the targets).
        num_regressors: number of regressors of the adjusted score, `1 - (1 - R2) (n - 1) / (n - p - 1)`; 0:
            not adjusted. With no more samples than regressors + 1 the plain score is returned, with a
            warning.

    Takes targets and predictions of shape (batch, outputs).
    """

    _direction = "up"

    def __init__(self, class_aggregation="uniform_average", num_regressors=0, name="r2_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                "Invalid value for argument `class_aggregation`. Expected one of "
                "(None, 'uniform_average', 'variance_weighted_average'). "
                f"Received: class_aggregation={class_aggregation}"
            )
        if num_regressors < 0:
            raise ValueError(
                "Invalid value for argument `num_regressors`. Expected a value >= 0. "
                f"Received: num_regressors={num_regressors}"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), "zeros", name="num_samples")
        self._built = False

    def _build(self, outputs):
        shape = (outputs,)
        self.squared_sum = self.add_variable(shape, "zeros", name="squared_sum")
        self.sum = self.add_variable(shape, "zeros", name="sum")
        self.total_mse = self.add_variable(shape, "zeros", name="residual")
        self.count = self.add_variable(shape, "zeros", name="count")
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        y_true, y_pred = paired("r2_score", y_true, y_pred)
        two_dimensional("R2Score", y_true, y_pred)
        if not self._built:
            self._build(y_pred.shape[-1])
        weights = ops.ones_like(y_true)
        samples = ops.sum(weights)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
            if len(sample_weight.shape) == 1:
                sample_weight = ops.expand_dims(sample_weight, 1)
            weights = weights * sample_weight
        self.sum.assign_add(ops.sum(y_true * weights, axis=0))
        self.squared_sum.assign_add(ops.sum(ops.square(y_true) * weights, axis=0))
        self.total_mse.assign_add(ops.sum(ops.square(y_true - y_pred) * weights, axis=0))
        self.count.assign_add(ops.sum(weights, axis=0))
        self.num_samples.assign_add(samples)

    def result(self):
        if not self._built:
            raise ValueError("R2Score has no result yet: call `update_state` first.")
        total_sum = self.sum.value
        total = self.squared_sum.value - total_sum * (total_sum / self.count.value)
        scores = 1.0 - self.total_mse.value / total
        scores = ops.where(ops.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ops.sum(total * scores) / ops.sum(total)
        return self._adjusted(scores) if self.num_regressors else scores

    def _adjusted(self, scores):
        n, p = self.num_samples.value, float(self.num_regressors)
        if has_data(n) and float(n) <= p + 1:
            warn(
                f"{self.num_regressors} independent predictors need more than {int(float(n))} datapoints for "
                "the adjusted R2 score. Falling back to standard R2 score.",
            )
        room = n - p - 1.0
        adjusted = 1.0 - (1.0 - scores) * (n - 1.0) / ops.maximum(room, 1.0)
        return ops.where(ops.greater(room, 0.0), adjusted, scores)

    def get_config(self):
        return {
            **super().get_config(),
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }


def two_dimensional(name, y_true, y_pred):
    """ValueError unless both have shape (batch, outputs) with a known number of outputs."""
    shapes = tuple(y_pred.shape), tuple(y_true.shape)
    if any(len(s) != 2 or s[-1] is None for s in shapes):
        raise ValueError(
            f"{name} expects 2D inputs with shape (batch_size, output_dim), with output_dim fully defined "
            f"(not None). Received input shapes: y_pred.shape={shapes[0]} and y_true.shape={shapes[1]}."
        )
