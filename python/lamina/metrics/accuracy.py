"""Accuracies. Each function gives 1 where the prediction is right and 0 where it is not, as `floatx`."""

import math

from lamina import backend, ops
from lamina.losses.checks import paired, sparse_labels
from lamina.metrics.reduction import NamedMeanMetric, mean_of


def _matches(equal):
    return ops.cast(equal, backend.floatx())


def accuracy(y_true, y_pred):
    """1 where `y_true == y_pred`."""
    y_true, y_pred = paired("accuracy", y_true, y_pred)
    return _matches(ops.equal(y_true, y_pred))


def binary_accuracy(y_true, y_pred, threshold=0.5):
    """1 where `y_pred > threshold` agrees with the label 0 or 1."""
    y_true, y_pred = paired("binary_accuracy", y_true, y_pred, "binary")
    return _matches(ops.equal(y_true, ops.cast(ops.greater(y_pred, threshold), y_true.dtype)))


def categorical_accuracy(y_true, y_pred):
    """1 where the largest of `y_pred` is at the label's place; one-hot labels; shape `y_pred.shape[:-1]`."""
    y_true, y_pred = paired("categorical_accuracy", y_true, y_pred, "one-hot")
    return _matches(ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1)))


def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the largest of `y_pred` is at the label's place; integer labels; shape `y_pred.shape[:-1]`."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = sparse_labels("sparse_categorical_accuracy", ops.convert_to_tensor(y_true), y_pred)
    return _matches(ops.equal(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32")))


def _in_top_k(labels, y_pred, k):
    """Are fewer than `k` scores larger than the label's? NaN is the smallest score; no such label: no."""
    size = y_pred.shape[-1]
    known = ops.logical_and(ops.greater_equal(labels, 0), ops.less(labels, size))
    own = ops.take_along_axis(y_pred, ops.expand_dims(ops.where(known, labels, 0), -1), axis=-1)
    own = ops.where(ops.isnan(own), -math.inf, own)
    larger = ops.sum(ops.cast(ops.greater(y_pred, own), "int32"), axis=-1)
    return ops.logical_and(known, ops.less(larger, k))


def top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the label is among the `k` largest predictions; one-hot labels."""
    y_true, y_pred = paired("top_k_categorical_accuracy", y_true, y_pred, "one-hot")
    return _matches(_in_top_k(ops.cast(ops.argmax(y_true, axis=-1), "int32"), y_pred, k))


def sparse_top_k_categorical_accuracy(y_true, y_pred, k=5, from_sorted_ids=False):
    """1 where the label is among the `k` largest predictions; integer labels.

    With `from_sorted_ids`, `y_pred` holds class ids, the likeliest first, instead of scores.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = sparse_labels("sparse_top_k_categorical_accuracy", ops.convert_to_tensor(y_true), y_pred)
    if from_sorted_ids:
        labels = ops.expand_dims(ops.cast(y_true, y_pred.dtype), -1)
        return _matches(ops.any(ops.equal(labels, y_pred[..., :k]), axis=-1))
    return _matches(_in_top_k(ops.cast(y_true, "int32"), y_pred, k))


Accuracy = mean_of("Accuracy", accuracy, "accuracy", "up", __name__)
CategoricalAccuracy = mean_of(
    "CategoricalAccuracy", categorical_accuracy, "categorical_accuracy", "up", __name__
)
SparseCategoricalAccuracy = mean_of(
    "SparseCategoricalAccuracy", sparse_categorical_accuracy, "sparse_categorical_accuracy", "up", __name__
)


class BinaryAccuracy(NamedMeanMetric):
    """How often `y_pred > threshold` agrees with labels of 0 and 1."""

    _direction = "up"

    def __init__(self, name="binary_accuracy", dtype=None, threshold=0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class TopKCategoricalAccuracy(NamedMeanMetric):
    """How often the class of a one-hot label is among the `k` largest predictions."""

    _direction = "up"

    def __init__(self, k=5, name="top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(NamedMeanMetric):
    """How often an integer label is among the `k` largest predictions."""

    _direction = "up"
    _quiet = (("from_sorted_ids", False),)

    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy", dtype=None, from_sorted_ids=False):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)
