"""`AUC`: the area under a receiver operating characteristic or precision-recall curve."""

from lamina import backend, ops
from lamina.metrics.confusion import _Confusion, evenly_spaced

_CURVES = {"roc": "ROC", "pr": "PR", "prgain": "PRGAIN"}
_SUMMATIONS = ("interpolation", "majoring", "minoring")


class AUC(_Confusion):
    """The area under a curve of rates, by a Riemann sum over thresholds.

    Args:
        num_thresholds: how many thresholds in [0, 1], equally spaced.
        curve: `"ROC"` (true against false positive rate), `"PR"` (precision against recall) or `"PRGAIN"`
            (precision gain against recall gain, Flach and Kull, 2015).
        summation_method: height of a strip: `"interpolation"` (the middle; for PR the formula of Davis and
            Goadrich, 2006), `"minoring"` (the lower side) or `"majoring"` (the upper side).
        thresholds: numbers in [0, 1] to use instead, without 0 and 1, which are added.
        multi_label: one area per column of (batch, labels), averaged; `num_labels` may give their number.
        label_weights: one weight per label.
        from_logits: `y_pred` holds logits.

    >>> m = AUC(num_thresholds=3); m.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]); float(m.result())
    0.75
    """

    _direction = "up"

    def __init__(
        self,
        num_thresholds=200,
        curve="ROC",
        summation_method="interpolation",
        name=None,
        dtype=None,
        thresholds=None,
        multi_label=False,
        num_labels=None,
        label_weights=None,
        from_logits=False,
    ):
        super().__init__(name=name, dtype=dtype)
        self._from_thresholds = thresholds is not None
        if self._from_thresholds:
            inner = sorted(thresholds)
            num_thresholds = len(inner) + 2
        else:
            if num_thresholds <= 1:
                raise ValueError(
                    "Argument `num_thresholds` must be an integer > 1. Received: "
                    f"num_thresholds={num_thresholds}"
                )
            inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
        self.num_thresholds = num_thresholds
        self._evenly = evenly_spaced([0.0, *inner, 1.0])
        # Every prediction in [0, 1] lies above the first threshold and below the last.
        self.thresholds = [-backend.epsilon(), *inner, 1.0 + backend.epsilon()]
        self.curve = _CURVES.get(str(curve).lower())
        if self.curve is None:
            raise ValueError(
                f'Invalid AUC curve value: "{curve}". Expected values are ["PR", "ROC", "PRGAIN"]'
            )
        self.summation_method = str(summation_method).lower()
        if self.summation_method not in _SUMMATIONS:
            raise ValueError(
                f'Invalid AUC summation method value: "{summation_method}". '
                'Expected values are ["interpolation", "majoring", "minoring"]'
            )
        if num_labels and not multi_label:
            raise ValueError("`num_labels` is needed only when `multi_label` is True.")
        self.multi_label, self.num_labels = multi_label, num_labels
        self.label_weights = label_weights
        self._from_logits = from_logits
        self._built = False
        if not multi_label or num_labels:
            self._build(num_labels)

    def _build(self, labels):
        self._add_counts((self.num_thresholds, labels) if self.multi_label else (self.num_thresholds,))
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred)
        if not self._built:
            if len(y_pred.shape) != 2:
                raise ValueError(
                    f"`y_pred` must have rank 2 when `multi_label=True`. Found rank {len(y_pred.shape)}. "
                    f"Full shape received for `y_pred`: {tuple(y_pred.shape)}"
                )
            self._build(y_pred.shape[1])
        if self._from_logits:
            y_pred = ops.sigmoid(y_pred)
        self._count(
            y_true,
            y_pred,
            self.thresholds,
            sample_weight=sample_weight,
            multi_label=self.multi_label,
            label_weights=None if self.multi_label else self._weights(),
            evenly=self._evenly,
        )

    def _weights(self):
        return (
            None
            if self.label_weights is None
            else ops.convert_to_tensor(self.label_weights, dtype=self.dtype)
        )

    def result(self):
        if not self._built:
            raise ValueError("AUC has no result yet: call `update_state` first.")
        if self.curve == "PR" and self.summation_method == "interpolation":
            strips = self._interpolated_pr()
        else:
            x, y = self._curve()
            if self.summation_method == "interpolation":
                heights = (y[:-1] + y[1:]) / 2.0
            elif self.summation_method == "minoring":
                heights = ops.minimum(y[:-1], y[1:])
            else:
                heights = ops.maximum(y[:-1], y[1:])
            strips = (x[:-1] - x[1:]) * heights
        if not self.multi_label:
            return ops.sum(strips)
        areas, weights = ops.sum(strips, axis=0), self._weights()
        if weights is None:
            return ops.mean(areas)
        return ops.divide_no_nan(ops.sum(areas * weights), ops.sum(weights))

    def _curve(self):
        """x and y of the curve at each threshold; x falls as the threshold rises."""
        if self.curve == "ROC":
            return self._ratio("false_positives", "true_negatives"), self._recall()
        if self.curve == "PR":
            return self._recall(), self._precision()
        tp, fp = self.true_positives.value, self.false_positives.value
        tn, fn = self.true_negatives.value, self.false_negatives.value
        odds, none = ops.divide_no_nan(tp + fn, tn + fp), ops.equal(tp, 0.0)
        recall_gain = ops.where(none, 0.0, 1.0 - odds * ops.divide_no_nan(fn, tp))
        precision_gain = ops.where(none, 1.0, 1.0 - odds * ops.divide_no_nan(fp, tp))
        return ops.maximum(recall_gain, 0.0), precision_gain

    def _interpolated_pr(self):
        """Strips under the curve, true positives being linear in positives between two thresholds."""
        tp, fn = self.true_positives.value, self.false_negatives.value
        positives = tp + self.false_positives.value
        p0, p1 = positives[:-1], positives[1:]
        tp_step = tp[:-1] - tp[1:]
        slope = ops.divide_no_nan(tp_step, ops.maximum(p0 - p1, 0.0))
        intercept = tp[1:] - slope * p1
        both = ops.logical_and(ops.greater(p0, 0.0), ops.greater(p1, 0.0))
        ratio = ops.where(both, ops.divide_no_nan(p0, ops.maximum(p1, 0.0)), 1.0)
        return ops.divide_no_nan(
            slope * (tp_step + intercept * ops.log(ratio)), ops.maximum(tp[1:] + fn[1:], 0.0)
        )

    def reset_state(self):
        if self._built:
            super().reset_state()

    def get_config(self):
        config = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": self.label_weights,
            "from_logits": self._from_logits,
        }
        if self._from_thresholds:
            config["thresholds"] = self.thresholds[1:-1]
        return config
