"""Losses against Keras: values, gradients, reductions, weights, masks, configs."""

import keras
import numpy as np
import pytest

import lamina
from lamina import ops

RTOL = 1e-5
ONE_HOT = {"CategoricalCrossentropy", "CategoricalFocalCrossentropy", "KLDivergence"}
SPARSE = {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy"}
BINARY = {"BinaryCrossentropy", "BinaryFocalCrossentropy"}

CASES = [
    ("MeanSquaredError", {}),
    ("MeanAbsoluteError", {}),
    ("MeanAbsolutePercentageError", {}),
    ("MeanSquaredLogarithmicError", {}),
    ("CosineSimilarity", {}),
    ("CosineSimilarity", {"axis": 1}),
    ("Huber", {}),
    ("Huber", {"delta": 0.3}),
    ("LogCosh", {}),
    ("Hinge", {}),
    ("SquaredHinge", {}),
    ("CategoricalHinge", {}),
    ("KLDivergence", {}),
    ("Poisson", {}),
    ("BinaryCrossentropy", {}),
    ("BinaryCrossentropy", {"from_logits": True}),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}),
    ("BinaryFocalCrossentropy", {}),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.4, "gamma": 1.5}),
    ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}),
    ("CategoricalCrossentropy", {}),
    ("CategoricalCrossentropy", {"from_logits": True}),
    ("CategoricalCrossentropy", {"label_smoothing": 0.2}),
    ("CategoricalFocalCrossentropy", {}),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.2, "gamma": 1.0}),
    ("SparseCategoricalCrossentropy", {}),
    ("SparseCategoricalCrossentropy", {"from_logits": True}),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}),
    ("SparseCategoricalCrossentropy", {"ignore_class": -1, "from_logits": True}),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}),
    ("Dice", {}),
    ("Dice", {"axis": (1, 2)}),
    ("Tversky", {"alpha": 0.3, "beta": 0.7}),
]
IDS = [f"{name}{'-' if kw else ''}{'-'.join(kw)}" for name, kw in CASES]


def data(name, kwargs, shape, rng):
    """Targets and predictions of the kind that the loss expects."""
    *lead, classes = shape
    logits = rng.normal(size=shape).astype("float32")
    soft = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if name in SPARSE:
        labels = rng.integers(0, classes, lead)
        if kwargs.get("ignore_class") == -1:
            labels.flat[0] = -1
        return labels, logits if kwargs.get("from_logits") else soft
    if name in ONE_HOT or name == "CategoricalHinge":
        y = np.eye(classes, dtype="float32")[rng.integers(0, classes, lead)]
        return y, logits if kwargs.get("from_logits") else soft
    if name in BINARY:
        y = rng.integers(0, 2, shape).astype("float32")
        return y, logits if kwargs.get("from_logits") else 1 / (1 + np.exp(-logits))
    if name in ("Hinge", "SquaredHinge"):
        return rng.integers(0, 2, shape).astype("float32"), logits
    if name in ("Dice", "Tversky", "Poisson", "MeanSquaredLogarithmicError"):
        return rng.uniform(0.1, 1, shape).astype("float32"), rng.uniform(0.1, 1, shape).astype("float32")
    return rng.normal(size=shape).astype("float32"), logits


def pair(name, kwargs):
    return getattr(lamina.losses, name)(**kwargs), getattr(keras.losses, name)(**kwargs)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS)
def test_value(name, kwargs, rng):
    mine, theirs = pair(name, {**kwargs, "reduction": "none"})
    y, p = data(name, kwargs, (6, 4, 5), rng)
    np.testing.assert_allclose(np.asarray(mine(y, p)), np.asarray(theirs(y, p)), rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize(
    "reduction", ["sum_over_batch_size", "mean", "sum", "none", "mean_with_sample_weight"]
)
@pytest.mark.parametrize("weights", [None, (), (6,), (6, 1), (6, 4)])
@pytest.mark.parametrize("name", ["MeanSquaredError", "SparseCategoricalCrossentropy"])
def test_reduction(name, reduction, weights, rng):
    ignoring = {"ignore_class": 1} if name.startswith("Sparse") else {}
    mine, theirs = pair(name, {"reduction": reduction, **ignoring})
    y, p = data(name, {}, (6, 4, 5), rng)
    w = None if weights is None else rng.uniform(0.2, 2, weights).astype("float32")
    # One weight per sample: Keras broadcasts from the right (and fails), lamina from the left.
    theirs_w = w[:, None] if weights == (6,) else w
    got, want = mine(y, p, sample_weight=w), theirs(y, p, sample_weight=theirs_w)
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS)
def test_gradient(name, kwargs, rng):
    import jax

    mine, theirs = pair(name, kwargs)
    y, p = data(name, kwargs, (6, 4, 5), rng)
    want = jax.grad(lambda q: theirs(y, q))(p)
    got = lamina.grad(lambda q: mine(y, q))(ops.convert_to_tensor(p))
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS)
def test_config_goes_both_ways(name, kwargs):
    mine, theirs = pair(name, {**kwargs, "reduction": "sum", "name": "mine"})
    config = mine.get_config()
    assert theirs.get_config().items() <= config.items()
    assert type(mine).from_config(config).get_config() == config
    type(theirs).from_config(config)
    assert (
        lamina.losses.deserialize(keras.losses.serialize(theirs)).get_config().items()
        >= theirs.get_config().items()
    )


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [False, True])
def test_mask(reduction, weighted, rng):
    y, p = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    mask = rng.integers(0, 2, (5, 7)).astype(bool)
    weights = rng.uniform(size=(5, 7)).astype("float32") if weighted else None
    mine, theirs = pair("MeanSquaredError", {"reduction": reduction})
    a, b = ops.convert_to_tensor(p), keras.ops.convert_to_tensor(p)
    lamina.backend.set_keras_mask(a, ops.convert_to_tensor(mask))
    b._keras_mask = keras.ops.convert_to_tensor(mask)
    want = float(theirs(y, b, sample_weight=weights))
    assert float(mine(y, a, sample_weight=weights)) == pytest.approx(want, rel=RTOL)


@pytest.mark.parametrize(
    ("y_shape", "p_shape", "w_shape"),
    [
        ((8,), (8, 1), None),
        ((8, 1), (8,), None),
        ((8, 3), (8, 3), (8, 1)),
        ((8, 2, 1), (8, 2), (8, 2)),
    ],
)
def test_trailing_axis_of_one(y_shape, p_shape, w_shape, rng):
    y, p = rng.normal(size=y_shape).astype("float32"), rng.normal(size=p_shape).astype("float32")
    w = None if w_shape is None else rng.uniform(size=w_shape).astype("float32")
    if len(y_shape) == 3:
        w = w[:, 0]
    for name in ("MeanSquaredError", "BinaryCrossentropy", "Huber"):
        mine, theirs = pair(name, {})
        assert float(mine(y, p, w)) == pytest.approx(float(theirs(y, p, w)), rel=RTOL)


def test_circle(rng):
    labels = rng.integers(0, 3, (9,))
    x = rng.normal(size=(9, 4)).astype("float32")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for kwargs in ({}, {"gamma": 12.0, "margin": 0.2, "remove_diagonal": False}):
        mine, theirs = pair("Circle", kwargs)
        assert float(mine(labels, x)) == pytest.approx(float(theirs(labels, x)), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtype(dtype, rng):
    y, p = rng.normal(size=(2, 6, 3))
    mine = lamina.losses.MeanSquaredError(dtype=dtype)(y, p)
    assert mine.dtype == dtype
    rtol = {"float16": 2e-3, "bfloat16": 2e-2, "float64": 1e-12}[dtype]
    assert float(mine) == pytest.approx(((y - p) ** 2).mean(), rel=rtol)


def test_names_mean_the_same():
    for name in ("mse", "MAE", "mape", "msle", "bce", "kld", "huber", "log_cosh", "categorical_crossentropy"):
        assert lamina.losses.get(name).__name__ == keras.losses.get(name).__name__
    missing = {n for n in dir(keras.losses) if not n.startswith("_")} - set(dir(lamina.losses))
    assert missing <= {"CTC", "ctc"}
