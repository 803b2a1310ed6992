"""F-beta and F1: precision and recall of multi-class or multi-label predictions in one number."""

from lamina import backend, ops
from lamina.losses.checks import paired
from lamina.metrics.metric import Metric
from lamina.metrics.regression import two_dimensional


class FBetaScore(Metric):
    """`(1 + beta**2) * precision * recall / (beta**2 * precision + recall)` of each class.

    Args:
        average: how the classes are put together: None (one score each), `"micro"` (counts over all classes),
            `"macro"` (mean of the scores) or `"weighted"` (mean weighted by the number of true instances).
        beta: float > 0: how much more recall matters than precision.
        threshold: float in (0, 1]: predictions above it are positive. None: the largest of each row is.

    Takes one-hot (or multi-hot) targets and scores of shape (batch, classes).
    """

    _direction = "up"

    def __init__(self, average=None, beta=1.0, threshold=None, name="fbeta_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                "Invalid `average` argument value. Expected one of: {None, 'micro', 'macro', 'weighted'}. "
                f"Received: average={average}"
            )
        if not isinstance(beta, float):
            raise ValueError(
                "Invalid `beta` argument value. It should be a Python float. "
                f"Received: beta={beta} of type '{type(beta)}'"
            )
        if beta <= 0.0:
            raise ValueError(f"Invalid `beta` argument value. It should be > 0. Received: beta={beta}")
        if threshold is not None and not isinstance(threshold, float):
            raise ValueError(
                "Invalid `threshold` argument value. It should be a Python float. "
                f"Received: threshold={threshold} of type '{type(threshold)}'"
            )
        if threshold is not None and not 0.0 < threshold <= 1.0:
            raise ValueError(
                "Invalid `threshold` argument value. It should verify 0 < threshold <= 1. "
                f"Received: threshold={threshold}"
            )
        self.average, self.beta, self.threshold = average, beta, threshold
        self._built = False

    def _build(self, classes):
        shape = () if self.average == "micro" else (classes,)
        for name in ("true_positives", "false_positives", "false_negatives", "intermediate_weights"):
            setattr(self, name, self.add_variable(shape, "zeros", dtype=self.dtype, name=name))
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        two_dimensional(type(self).__name__, y_true, y_pred)
        y_true, y_pred = paired(type(self).__name__, y_true, y_pred, "one-hot")
        if not self._built:
            self._build(y_pred.shape[-1])
        if self.threshold is None:
            largest = ops.greater_equal(y_pred, ops.max(y_pred, axis=-1, keepdims=True))
            # An all-zero row predicts nothing.
            y_pred = ops.logical_and(largest, ops.greater(ops.abs(y_pred), 1e-9))
        else:
            y_pred = ops.greater(y_pred, self.threshold)
        y_pred = ops.cast(y_pred, self.dtype)
        weights = None
        if sample_weight is not None:
            weights = ops.expand_dims(ops.convert_to_tensor(sample_weight, dtype=self.dtype), 1)

        def add(variable, values):
            values = values if weights is None else values * weights
            variable.assign_add(ops.sum(values, axis=None if self.average == "micro" else 0))

        add(self.true_positives, y_pred * y_true)
        add(self.false_positives, y_pred * (1.0 - y_true))
        add(self.false_negatives, (1.0 - y_pred) * y_true)
        add(self.intermediate_weights, y_true)

    def result(self):
        if not self._built:
            raise ValueError(f"{type(self).__name__} has no result yet: call `update_state` first.")
        eps, squared = backend.epsilon(), self.beta**2
        hits = self.true_positives.value
        precision = hits / (hits + self.false_positives.value + eps)
        recall = hits / (hits + self.false_negatives.value + eps)
        score = (1.0 + squared) * precision * recall / (squared * precision + recall + eps)
        if self.average == "weighted":
            weights = self.intermediate_weights.value
            return ops.sum(score * weights / (ops.sum(weights) + eps))
        return score if self.average is None else ops.mean(score)

    def get_config(self):
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


class F1Score(FBetaScore):
    """`FBetaScore` with beta = 1: the harmonic mean of precision and recall."""

    def __init__(self, average=None, threshold=None, name="f1_score", dtype=None):
        super().__init__(average=average, beta=1.0, threshold=threshold, name=name, dtype=dtype)

    def get_config(self):
        config = super().get_config()
        del config["beta"]
        return config
