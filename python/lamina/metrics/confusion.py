"""Metrics of the confusion matrix at thresholds: counts, precision, recall, and points of their curves."""

from lamina import backend, ops
from lamina.losses.checks import fit_weights, paired
from lamina.metrics.metric import Metric

# Below every score: with `top_k`, whatever is not among the k largest.
NEG_INF = -1e10


def parse_thresholds(thresholds, default):
    """Thresholds as a list; ValueError outside [0, 1]."""
    if thresholds is None:
        return [default]
    thresholds = list(thresholds) if isinstance(thresholds, (list, tuple)) else [thresholds]
    invalid = [t for t in thresholds if t is None or t < 0 or t > 1]
    if invalid:
        raise ValueError(f"Threshold values must be in [0, 1]. Received: {invalid}")
    return thresholds


def evenly_spaced(thresholds):
    """Do the thresholds go from 0 to 1 in equal steps? Then a prediction's bucket is found by arithmetic."""
    last = len(thresholds) - 1
    return last >= 2 and all(
        abs(t - i / last) <= backend.epsilon() + 1e-5 * i / last for i, t in enumerate(thresholds)
    )


def confusion_counts(
    name,
    y_true,
    y_pred,
    thresholds,
    dtype,
    sample_weight=None,
    top_k=None,
    class_id=None,
    multi_label=False,
    label_weights=None,
    evenly=False,
):
    """Weighted true positives, false positives, true negatives and false negatives at each threshold.

    A prediction is positive where `y_pred > threshold`; a label is positive where it is not 0. Each result
    has shape (thresholds,), or (thresholds, labels) with `multi_label`.
    """
    y_true, y_pred = paired(name, y_true, ops.cast(y_pred, dtype), "one-hot")
    if top_k is not None:
        y_pred = _keep_top_k(y_pred, top_k)
    if class_id is not None:
        if len(y_pred.shape) == 1:
            raise ValueError(
                "When class_id is provided, y_pred must be a 2D array with shape (num_samples, num_classes), "
                f"found shape: {tuple(y_pred.shape)}"
            )
        class_id %= y_pred.shape[-1]
        y_true, y_pred = y_true[..., class_id : class_id + 1], y_pred[..., class_id : class_id + 1]
    weights = ops.ones_like(y_pred)
    if sample_weight is not None:
        weights = weights * fit_weights(y_pred, ops.cast(sample_weight, dtype))[1]
    if label_weights is not None:
        weights = weights * label_weights
    positive = ops.cast(ops.not_equal(y_true, 0), dtype)
    labels = y_pred.shape[-1] if multi_label else 1
    columns = [ops.reshape(x, [-1, labels]) for x in (y_pred, weights * positive, weights * (1.0 - positive))]
    return (_bucketed if evenly else _compared)(*columns, thresholds, labels if multi_label else None)


def _compared(y_pred, positives, negatives, thresholds, labels):
    """Every prediction against every threshold; all arguments are (n, labels)."""
    above = ops.greater(
        ops.expand_dims(y_pred, 0), ops.reshape(ops.convert_to_tensor(thresholds, y_pred.dtype), [-1, 1, 1])
    )
    axes = 1 if labels else (1, 2)

    def total(predicted, weights):
        return ops.sum(ops.where(predicted, ops.expand_dims(weights, 0), 0.0), axis=axes)

    below = ops.logical_not(above)
    return total(above, positives), total(above, negatives), total(below, negatives), total(below, positives)


def _bucketed(y_pred, positives, negatives, thresholds, labels):
    """As `_compared`, for even thresholds: a histogram of how many thresholds each prediction exceeds."""
    bins, width = len(thresholds) + 1, labels or 1
    exceeded = ops.ceil(ops.clip(y_pred, 0.0, 1.0) * float(len(thresholds) - 1))
    if thresholds[0] < 0.0:
        exceeded = ops.maximum(exceeded, 1.0)
    cell = ops.cast(exceeded, "int32") * width + ops.arange(width, dtype="int32")
    cell = ops.reshape(cell, [-1])

    def exceeding(weights):
        counts = ops.segment_sum(ops.reshape(weights, [-1]), cell, num_segments=bins * width)
        counts = ops.reshape(counts, (bins, width))
        return ops.flip(ops.cumsum(ops.flip(counts, 0), 0), 0)

    tp, fp = exceeding(positives), exceeding(negatives)
    results = (tp[1:], fp[1:], fp[:1] - fp[1:], tp[:1] - tp[1:])
    return results if labels else tuple(ops.reshape(r, [-1]) for r in results)


def _keep_top_k(x, k):
    """`x` with everything but the k largest of the last axis pushed below every threshold."""
    _, indices = ops.top_k(x, k)
    kept = ops.sum(ops.one_hot(indices, x.shape[-1], dtype=x.dtype), axis=-2)
    return x * kept + NEG_INF * (1.0 - kept)


class _Confusion(Metric):
    """Counts at thresholds, kept in the variables named by `_counts`."""

    _all = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    _counts = _all

    def _add_counts(self, shape):
        for name in self._counts:
            setattr(self, name, self.add_variable(shape, "zeros", name=name))

    def _count(self, y_true, y_pred, thresholds, **how):
        dtype = getattr(self, self._counts[0]).dtype
        counts = confusion_counts(type(self).__name__, y_true, y_pred, thresholds, dtype, **how)
        for name, value in zip(self._all, counts, strict=True):
            if name in self._counts:
                getattr(self, name).assign_add(value)

    def _ratio(self, part, rest):
        """`part / (part + rest)` of two counts, 0 where both are 0."""
        part, rest = getattr(self, part).value, getattr(self, rest).value
        return ops.divide_no_nan(part, part + rest)

    # The four rates that the metrics below are made of.
    def _recall(self):
        return self._ratio("true_positives", "false_negatives")

    def _specificity(self):
        return self._ratio("true_negatives", "false_positives")

    def _precision(self):
        return self._ratio("true_positives", "false_positives")


class _ConditionCount(Metric):
    _which = None

    def __init__(self, thresholds=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = parse_thresholds(thresholds, 0.5)
        self._evenly = evenly_spaced(self.thresholds)
        self.accumulator = self.add_variable((len(self.thresholds),), "zeros", name="accumulator")

    def update_state(self, y_true, y_pred, sample_weight=None):
        counts = confusion_counts(
            self._which,
            y_true,
            y_pred,
            self.thresholds,
            self.accumulator.dtype,
            sample_weight,
            evenly=self._evenly,
        )
        self.accumulator.assign_add(counts[_Confusion._all.index(self._which)])

    def result(self):
        value = self.accumulator.value
        return value[0] if len(self.thresholds) == 1 else value

    def get_config(self):
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_ConditionCount):
    """How many positive labels are predicted positive, `y_pred > threshold` (0.5, or a list)."""

    _which = "true_positives"


class FalsePositives(_ConditionCount):
    """How many negative labels are predicted positive, `y_pred > threshold` (0.5, or a list)."""

    _which = "false_positives"


class TrueNegatives(_ConditionCount):
    """How many negative labels are predicted negative, `y_pred <= threshold` (0.5, or a list)."""

    _which = "true_negatives"


class FalseNegatives(_ConditionCount):
    """How many positive labels are predicted negative, `y_pred <= threshold` (0.5, or a list)."""

    _which = "false_negatives"


class _AtThresholds(_Confusion):
    """Precision or recall at given thresholds."""

    _direction = "up"

    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        self.thresholds = parse_thresholds(thresholds, 0.5 if top_k is None else NEG_INF)
        self._evenly = evenly_spaced(self.thresholds)
        self._add_counts((len(self.thresholds),))

    def update_state(self, y_true, y_pred, sample_weight=None):
        self._count(
            y_true,
            y_pred,
            self.thresholds,
            sample_weight=sample_weight,
            top_k=self.top_k,
            class_id=self.class_id,
            evenly=self._evenly,
        )

    def _single(self, value):
        return value[0] if len(self.thresholds) == 1 else value

    def get_config(self):
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


class Precision(_AtThresholds):
    """`TP / (TP + FP)`: how many of the positive predictions are right.

    Args:
        thresholds: number, or list of numbers, in [0, 1]; `y_pred` above it is positive. Default: 0.5;
            with `top_k`, every one of the k.
        top_k: only the k largest predictions of a row can be positive.
        class_id: only this column counts.

    >>> m = Precision(); m.update_state([0, 1, 1, 1], [1, 0, 1, 1]); float(m.result())
    0.6666...
    """

    _counts = ("true_positives", "false_positives")

    def result(self):
        return self._single(self._precision())


class Recall(_AtThresholds):
    """`TP / (TP + FN)`: how many of the positive labels are found. Arguments as in `Precision`.

    >>> m = Recall(); m.update_state([0, 1, 1, 1], [1, 0, 1, 1]); float(m.result())
    0.6666...
    """

    _counts = ("true_positives", "false_negatives")

    def result(self):
        return self._single(self._recall())


class _BestUnderConstraint(_Confusion):
    """The largest value of one rate over all thresholds at which another rate is at least `value`."""

    _direction = "up"
    _argument = None

    def __init__(self, value, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        if not 0 <= value <= 1:
            raise ValueError(
                f"Argument `{self._argument}` must be in the range [0, 1]. Received: {self._argument}={value}"
            )
        if num_thresholds <= 0:
            raise ValueError(
                f"Argument `num_thresholds` must be an integer > 0. Received: num_thresholds={num_thresholds}"
            )
        setattr(self, self._argument, value)
        self.value, self.num_thresholds, self.class_id = value, num_thresholds, class_id
        self.thresholds = (
            [0.5] if num_thresholds == 1 else [i / (num_thresholds - 1) for i in range(num_thresholds)]
        )
        self._add_counts((len(self.thresholds),))

    def update_state(self, y_true, y_pred, sample_weight=None):
        self._count(
            y_true,
            y_pred,
            self.thresholds,
            sample_weight=sample_weight,
            class_id=self.class_id,
            evenly=len(self.thresholds) > 2,
        )

    def _best(self, constrained, wanted):
        feasible = ops.greater_equal(constrained, self.value)
        return ops.max(ops.where(feasible, wanted, 0.0))

    def get_config(self):
        return {
            **super().get_config(),
            "class_id": self.class_id,
            "num_thresholds": self.num_thresholds,
            self._argument: self.value,
        }


class SensitivityAtSpecificity(_BestUnderConstraint):
    """The best `TP / (TP + FN)` where `TN / (TN + FP) >= specificity`, over `num_thresholds` thresholds."""

    _argument = "specificity"

    def __init__(self, specificity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(specificity, num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._specificity(), self._recall())


class SpecificityAtSensitivity(_BestUnderConstraint):
    """The best `TN / (TN + FP)` where `TP / (TP + FN) >= sensitivity`, over `num_thresholds` thresholds."""

    _argument = "sensitivity"

    def __init__(self, sensitivity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._recall(), self._specificity())


class PrecisionAtRecall(_BestUnderConstraint):
    """The best `TP / (TP + FP)` where `TP / (TP + FN) >= recall`, over `num_thresholds` thresholds."""

    _argument = "recall"

    def __init__(self, recall, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(recall, num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._recall(), self._precision())


class RecallAtPrecision(_BestUnderConstraint):
    """The best `TP / (TP + FN)` where `TP / (TP + FP) >= precision`, over `num_thresholds` thresholds."""

    _argument = "precision"

    def __init__(self, precision, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(precision, num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._precision(), self._recall())
