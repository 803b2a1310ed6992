"""Metrics against Keras: several batches, weights, masks, configs, variables."""

import keras
import numpy as np
import pytest

import lamina
from lamina import ops

RTOL, ATOL = 1e-5, 1e-6
VALUES = [
    *[(n, {}) for n in ("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "Poisson")],
    *[
        (n, {})
        for n in ("MeanSquaredLogarithmicError", "RootMeanSquaredError", "CosineSimilarity", "LogCoshError")
    ],
    *[(n, {}) for n in ("Hinge", "SquaredHinge", "PearsonCorrelation", "ConcordanceCorrelation", "Accuracy")],
    ("R2Score", {}),
    ("R2Score", {"class_aggregation": None}),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}),
]
CLASSES = [
    *[
        (n, {})
        for n in ("CategoricalAccuracy", "CategoricalCrossentropy", "KLDivergence", "CategoricalHinge")
    ],
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
    ("TopKCategoricalAccuracy", {"k": 2}),
    ("FBetaScore", {"beta": 2.0}),
    ("FBetaScore", {"average": "weighted", "beta": 0.5}),
    ("F1Score", {"average": "micro", "threshold": 0.3}),
    ("F1Score", {"average": "macro"}),
    ("OneHotIoU", {"num_classes": 4, "target_class_ids": [0, 2]}),
    ("OneHotMeanIoU", {"num_classes": 4}),
    ("Precision", {"top_k": 2}),
    ("Precision", {"class_id": 1, "thresholds": 0.2}),
    ("Recall", {"top_k": 1, "class_id": 3}),
    ("AUC", {"multi_label": True}),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 0.5, 1.0], "num_thresholds": 20}),
    ("AUC", {"multi_label": True, "thresholds": [0.1, 0.2, 0.7], "curve": "PR"}),
]
SPARSE = [
    ("SparseCategoricalAccuracy", {}),
    ("SparseCategoricalCrossentropy", {}),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}),
    ("SparseTopKCategoricalAccuracy", {"k": 2}),
]
BINARY = [
    *[(n, {}) for n in ("BinaryAccuracy", "BinaryCrossentropy", "TruePositives", "FalsePositives")],
    *[(n, {}) for n in ("TrueNegatives", "FalseNegatives", "Precision", "Recall", "BinaryIoU")],
    ("BinaryAccuracy", {"threshold": 0.3}),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}),
    ("TruePositives", {"thresholds": [0.1, 0.5, 0.8]}),
    ("FalseNegatives", {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]}),
    ("Precision", {"thresholds": [0.0, 0.5, 1.0]}),
    ("Recall", {"thresholds": [0.2, 0.4]}),
    ("SensitivityAtSpecificity", {"specificity": 0.5}),
    ("SpecificityAtSensitivity", {"sensitivity": 0.4, "num_thresholds": 1}),
    ("PrecisionAtRecall", {"recall": 0.7}),
    ("RecallAtPrecision", {"precision": 0.6, "num_thresholds": 50}),
    ("AUC", {}),
    ("AUC", {"curve": "PR"}),
    ("AUC", {"curve": "PRGAIN"}),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}),
    ("AUC", {"summation_method": "minoring", "num_thresholds": 7}),
    ("AUC", {"thresholds": [0.2, 0.55, 0.9]}),
    ("AUC", {"from_logits": True}),
    ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.4}),
]
ALL = [
    (kind, n, k)
    for kind, cases in (("v", VALUES), ("c", CLASSES), ("s", SPARSE), ("b", BINARY))
    for n, k in cases
]
IDS = ["-".join([n, *map(str, k)]) for _, n, k in ALL]


def data(kind, name, rng):
    if kind == "v":
        y, p = rng.uniform(0.1, 2, (2, 12, 3)).astype("float32")
        return (np.round(y), np.round(p)) if name == "Accuracy" else (y, p)
    if kind == "b":
        return rng.integers(0, 2, (12, 1)).astype("float32"), rng.uniform(size=(12, 1)).astype("float32")
    p = rng.uniform(size=(12, 4)).astype("float32")
    p /= p.sum(-1, keepdims=True)
    labels = rng.integers(0, 4, (12,))
    return (labels, p) if kind == "s" else (np.eye(4, dtype="float32")[labels], p)


def check(mine, theirs):
    np.testing.assert_allclose(np.asarray(mine.result()), np.asarray(theirs.result()), rtol=RTOL, atol=ATOL)
    assert len(mine.variables) == len(theirs.variables)
    for a, b in zip(mine.variables, theirs.variables, strict=True):
        assert (a.path, tuple(a.shape), a.dtype) == (b.path, tuple(b.shape), b.dtype)
        np.testing.assert_allclose(a.numpy(), np.asarray(b), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize(("kind", "name", "kwargs"), ALL, ids=IDS)
def test_metric(kind, name, kwargs, rng):
    mine, theirs = getattr(lamina.metrics, name)(**kwargs), getattr(keras.metrics, name)(**kwargs)
    assert mine.name == theirs.name
    assert mine._direction == getattr(theirs, "_direction", None)
    integers = mine.dtype.startswith("int")
    for weighted in (False, True, False):
        y, p = data(kind, name, rng)
        w = None
        if weighted:
            w = rng.integers(0, 3, 12) if integers else rng.uniform(size=12).astype("float32")
        mine.update_state(y, p, sample_weight=w)
        theirs.update_state(y, p, sample_weight=w)
    check(mine, theirs)
    mine.reset_state()
    assert all(not v.numpy().any() for v in mine.variables)


@pytest.mark.parametrize(("kind", "name", "kwargs"), ALL, ids=IDS)
def test_config_goes_both_ways(kind, name, kwargs):
    mine, theirs = getattr(lamina.metrics, name)(**kwargs), getattr(keras.metrics, name)(**kwargs)
    config = mine.get_config()
    want = theirs.get_config()
    if kwargs.get("label_weights"):
        config, want = ({**c, "label_weights": None} for c in (config, want))
    np.testing.assert_equal(config, want)
    assert type(mine).from_config(config).get_config() == config
    type(theirs).from_config(config)


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ((), None),
        ((6,), None),
        ((6,), (6,)),
        ((6, 3), (6,)),
        ((6, 3, 2), (6, 3)),
        ((6, 3), (6, 1)),
        ((6, 1), (6,)),
    ],
)
def test_reductions(name, shape, weights, rng):
    mine, theirs = getattr(lamina.metrics, name)(), getattr(keras.metrics, name)()
    for _ in range(2):
        x = rng.normal(size=shape).astype("float32")
        w = None if weights is None else rng.uniform(size=weights).astype("float32")
        mine.update_state(x, sample_weight=w)
        theirs.update_state(x, sample_weight=w)
    check(mine, theirs)


@pytest.mark.parametrize("name", ["SparseCategoricalAccuracy", "MeanSquaredError"])
def test_mask(name, rng):
    mine, theirs = getattr(lamina.metrics, name)(), getattr(keras.metrics, name)()
    p = rng.normal(size=(5, 7, 3)).astype("float32")
    y = (
        rng.integers(0, 3, (5, 7))
        if name.startswith("Sparse")
        else rng.normal(size=(5, 7, 3)).astype("float32")
    )
    mask = rng.integers(0, 2, (5, 7)).astype(bool)
    a, b = ops.convert_to_tensor(p), keras.ops.convert_to_tensor(p)
    lamina.backend.set_keras_mask(a, ops.convert_to_tensor(mask))
    b._keras_mask = keras.ops.convert_to_tensor(mask)
    for weights in (None, rng.uniform(size=(5, 7)).astype("float32")):
        mine.update_state(y, a, sample_weight=weights)
        theirs.update_state(y, b, sample_weight=weights)
    check(mine, theirs)


def test_segmentation(rng):
    y, p = rng.integers(0, 5, (2, 3, 8, 8))
    for kwargs in ({"num_classes": 5}, {"num_classes": 4, "ignore_class": 2}):
        mine, theirs = lamina.metrics.MeanIoU(**kwargs), keras.metrics.MeanIoU(**kwargs)
        mine.update_state(y, p)
        theirs.update_state(y, p)
        check(mine, theirs)


def test_sorted_ids(rng):
    y, p = rng.integers(0, 9, (12,)), rng.integers(0, 9, (12, 5))
    for m in (lamina.metrics, keras.metrics):
        metric = m.SparseTopKCategoricalAccuracy(k=3, from_sorted_ids=True)
        metric.update_state(y, p)
        assert float(metric.result()) == pytest.approx((p[:, :3] == y[:, None]).any(1).mean())


def test_names_mean_the_same():
    for name in (
        "mse",
        "MAE",
        "mape",
        "accuracy",
        "auc",
        "f1_score",
        "precision",
        "top_k_categorical_accuracy",
    ):
        assert type(lamina.metrics.get(name)).__name__ == type(keras.metrics.get(name)).__name__
    assert {n for n in dir(keras.metrics) if not n.startswith("_")} <= set(dir(lamina.metrics))
