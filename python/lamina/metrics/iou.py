"""Intersection over union of segmentations: `TP / (TP + FP + FN)` of a class, from a confusion matrix."""

from lamina import backend, ops
from lamina.engine.tracebacks import warn
from lamina.errors import ShapeError
from lamina.metrics.metric import Metric


class IoU(Metric):
    """The mean intersection over union of some classes.

    Args:
        num_classes: number of classes. target_class_ids: the classes that count.
        ignore_class: a label whose elements do not count.
        sparse_y_true, sparse_y_pred: integers (True), or one column per class along `axis` (False).
        dtype: of the confusion matrix, int32 if None; fractional sample weights need a float.

    Labels outside the classes do not count.
    """

    _direction = "up"

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(name=name, dtype=dtype or "int32")
        if max(target_class_ids) >= num_classes:
            raise ValueError(
                f"Target class id {max(target_class_ids)} is out of range, which is [0, {num_classes})."
            )
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        self.total_cm = self.add_variable(
            (num_classes, num_classes), "zeros", dtype=self.dtype, name="total_confusion_matrix"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self.sparse_y_true:
            y_true = ops.argmax(y_true, axis=self.axis)
        if not self.sparse_y_pred:
            y_pred = ops.argmax(y_pred, axis=self.axis)
        y_true = ops.reshape(ops.cast(y_true, "int32"), [-1])
        y_pred = ops.reshape(ops.cast(y_pred, "int32"), [-1])
        if None not in (y_true.shape[0], y_pred.shape[0]) and y_true.shape[0] != y_pred.shape[0]:
            raise ShapeError(
                f"{type(self).__name__} needs one label per prediction.",
                argument="y_true",
                got=f"{y_true.shape[0]} labels for {y_pred.shape[0]} predictions",
            )
        n = self.num_classes
        valid = ops.logical_and(
            ops.logical_and(ops.greater_equal(y_true, 0), ops.less(y_true, n)),
            ops.logical_and(ops.greater_equal(y_pred, 0), ops.less(y_pred, n)),
        )
        if self.ignore_class is not None:
            valid = ops.logical_and(valid, ops.not_equal(y_true, self.ignore_class))
        weights = ops.cast(valid, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            if "float" in sample_weight.dtype and "int" in self.dtype:
                warn(
                    "You are passing weight as `float`, but dtype is `int`. This may result in an incorrect "
                    "weight "
                    'due to type casting. Use integer weights, or dtype="float32".',
                )
            sample_weight = ops.cast(sample_weight, self.dtype)
            weights = weights * (
                ops.reshape(sample_weight, [-1]) if len(sample_weight.shape) else sample_weight
            )
        cells = ops.where(valid, y_true * n + y_pred, 0)
        counts = ops.segment_sum(weights, cells, num_segments=n * n)
        self.total_cm.assign_add(ops.reshape(counts, (n, n)))

    def result(self):
        cm = ops.cast(self.total_cm.value, "float32")
        hits = ops.diag(cm)
        union = ops.sum(cm, axis=0) + ops.sum(cm, axis=1) - hits
        ids = ops.convert_to_tensor(self.target_class_ids, dtype="int32")
        hits, union = ops.take(hits, ids, axis=0), ops.take(union, ids, axis=0)
        seen = ops.greater(union, 1e-9)
        iou = ops.where(seen, hits / (union + backend.epsilon()), 0.0)
        return ops.sum(iou) / (ops.sum(ops.cast(seen, "float32")) + backend.epsilon())

    def get_config(self):
        names = ("num_classes", "target_class_ids", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _config_without(self, *names):
        return {key: value for key, value in IoU.get_config(self).items() if key not in names}


class BinaryIoU(IoU):
    """`IoU` of two classes from probabilities: class 1 where `y_pred >= threshold`."""

    def __init__(self, target_class_ids=(0, 1), threshold=0.5, name=None, dtype=None):
        super().__init__(num_classes=2, target_class_ids=target_class_ids, name=name, dtype=dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype="float32")
        super().update_state(y_true, ops.greater_equal(y_pred, self.threshold), sample_weight)

    def get_config(self):
        kept = self._config_without("num_classes", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis")
        return {**kept, "threshold": self.threshold}


class MeanIoU(IoU):
    """`IoU` of all classes."""

    def __init__(
        self,
        num_classes,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(
            num_classes=num_classes,
            target_class_ids=range(num_classes),
            name=name,
            dtype=dtype,
            ignore_class=ignore_class,
            sparse_y_true=sparse_y_true,
            sparse_y_pred=sparse_y_pred,
            axis=axis,
        )

    def get_config(self):
        return self._config_without("target_class_ids")


class OneHotIoU(IoU):
    """`IoU` of some classes from one-hot labels and scores."""

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_pred=False,
        axis=-1,
    ):
        super().__init__(
            num_classes=num_classes,
            target_class_ids=target_class_ids,
            name=name,
            dtype=dtype,
            ignore_class=ignore_class,
            sparse_y_true=False,
            sparse_y_pred=sparse_y_pred,
            axis=axis,
        )

    def get_config(self):
        return self._config_without("sparse_y_true")


class OneHotMeanIoU(MeanIoU):
    """`IoU` of all classes from one-hot labels and scores."""

    def __init__(self, num_classes, name=None, dtype=None, ignore_class=None, sparse_y_pred=False, axis=-1):
        super().__init__(
            num_classes=num_classes,
            name=name,
            dtype=dtype,
            ignore_class=ignore_class,
            sparse_y_true=False,
            sparse_y_pred=sparse_y_pred,
            axis=axis,
        )

    def get_config(self):
        return self._config_without("target_class_ids", "sparse_y_true")
