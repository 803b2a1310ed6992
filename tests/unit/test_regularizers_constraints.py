"""Regularizers and constraints: formulas, configurations, lookups."""

import numpy as np
import pytest

import lamina
from lamina import constraints, ops, regularizers

W = np.array([[3.0, -1.0], [4.0, 2.0]], "float32")


def test_penalties():
    assert float(regularizers.L1(0.1)(W)) == pytest.approx(1.0)
    assert float(regularizers.L2(0.1)(W)) == pytest.approx(3.0)
    assert float(regularizers.L1L2(0.1, 0.1)(W)) == pytest.approx(4.0)
    assert float(regularizers.L1L2()(W)) == 0.0
    cosine = abs(3 * 4 - 1 * 2) / np.sqrt(10 * 20)
    assert float(regularizers.OrthogonalRegularizer(0.5)(W)) == pytest.approx(0.5 * cosine, rel=1e-6)
    cosine = abs(3 * -1 + 4 * 2) / np.sqrt(25 * 5)
    assert float(regularizers.OrthogonalRegularizer(1.0, "columns")(W)) == pytest.approx(cosine, rel=1e-6)


def test_penalties_of_a_variable_have_gradients():
    v = lamina.Variable(W)
    with lamina.GradientTape() as tape:
        penalty = regularizers.L1L2(0.5, 0.25)(v)
    np.testing.assert_allclose(tape.gradient(penalty, v), 0.5 * np.sign(W) + 0.5 * W, rtol=1e-6)


def test_penalties_keep_the_dtype():
    for name in ("l1", "l2", "l1_l2"):
        assert ops.dtype(regularizers.get(name)(ops.ones((2, 2), "float16"))) in ("float16", "float32")
    assert regularizers.L2()(ops.ones((2, 2), "float16")).dtype == "float16"


def test_constraints_project():
    np.testing.assert_array_equal(constraints.NonNeg()(W), [[3, 0], [4, 2]])
    lengths = np.linalg.norm(W, axis=0)
    np.testing.assert_allclose(constraints.UnitNorm()(W), W / lengths, rtol=1e-5)
    np.testing.assert_allclose(constraints.MaxNorm(2)(W), W * np.minimum(lengths, 2) / lengths, rtol=1e-5)
    np.testing.assert_allclose(constraints.MaxNorm(100.0)(W), W, rtol=1e-5)
    half = constraints.MinMaxNorm(0.0, 1.0, rate=0.5, axis=1)(W)
    rows = np.linalg.norm(W, axis=1, keepdims=True)
    np.testing.assert_allclose(half, W * (0.5 + 0.5 * rows) / rows, rtol=1e-5)
    kernel = np.ones((2, 2, 3, 4), "float32")
    np.testing.assert_allclose(
        np.linalg.norm(np.asarray(constraints.UnitNorm([0, 1, 2])(kernel)).reshape(12, 4), axis=0),
        1.0,
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "family, kind, name, arguments",
    [
        (regularizers, "regularizers", "L1", {"l1": 0.3}),
        (regularizers, "regularizers", "L2", {}),
        (regularizers, "regularizers", "L1L2", {"l1": 0.1, "l2": 0.2}),
        (regularizers, "regularizers", "OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
        (constraints, "constraints", "MaxNorm", {"max_value": 3, "axis": [0, 1]}),
        (constraints, "constraints", "NonNeg", {}),
        (constraints, "constraints", "UnitNorm", {"axis": 1}),
        (constraints, "constraints", "MinMaxNorm", {"min_value": 0.5, "rate": 0.5}),
    ],
)
def test_values_and_configs_are_keras_s(family, kind, name, arguments):
    keras = pytest.importorskip("keras")
    ours, theirs = getattr(family, name)(**arguments), getattr(getattr(keras, kind), name)(**arguments)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.testing.assert_allclose(ours(x), np.asarray(theirs(keras.ops.convert_to_tensor(x))), rtol=1e-5)
    config = getattr(keras, kind).serialize(theirs)
    got = family.serialize(ours)
    settings, expected = got.pop("config"), config.pop("config")
    assert got == config and settings.keys() == expected.keys()
    for key, value in expected.items():
        assert settings[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    assert type(family.deserialize(family.serialize(ours))) is type(ours)


def test_get():
    assert regularizers.get(None) is None and constraints.get(None) is None
    assert isinstance(regularizers.get("l2"), regularizers.L2)
    assert isinstance(regularizers.get("L1L2"), regularizers.L1L2)
    assert isinstance(constraints.get("MaxNorm"), constraints.MaxNorm)
    assert isinstance(constraints.get("max_norm"), constraints.MaxNorm)
    assert isinstance(constraints.get(constraints.NonNeg), constraints.NonNeg)
    function = lambda w: w  # noqa: E731
    assert constraints.get(function) is function
    with pytest.raises(ValueError, match="Did you mean 'max_norm'"):
        constraints.get("max_nrom")
    with pytest.raises(ValueError, match="Could not interpret regularizer"):
        regularizers.get("l3_of_a_kind")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "a"])
def test_factors_are_checked(value):
    with pytest.raises(ValueError, match="non-negative float"):
        regularizers.L1(value)


def test_orthogonal_needs_a_matrix():
    with pytest.raises(ValueError, match="rank 2"):
        regularizers.OrthogonalRegularizer()(np.ones((2, 2, 2), "float32"))
