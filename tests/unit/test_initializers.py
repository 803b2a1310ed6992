"""Initializers: their distributions, configurations and lookups."""

import math

import numpy as np
import pytest

from lamina import initializers, ops, random

SHAPE = (120, 80)
FAN_IN, FAN_OUT = SHAPE
FAN_AVG = (FAN_IN + FAN_OUT) / 2


@pytest.mark.parametrize(
    "name, variance",
    [
        ("glorot_uniform", 1 / FAN_AVG),
        ("glorot_normal", 1 / FAN_AVG),
        ("he_uniform", 2 / FAN_IN),
        ("he_normal", 2 / FAN_IN),
        ("lecun_uniform", 1 / FAN_IN),
        ("lecun_normal", 1 / FAN_IN),
    ],
)
def test_scaled_initializers_have_their_variance(name, variance):
    w = np.asarray(initializers.get(name)(SHAPE))
    assert w.dtype == np.float32 and w.shape == SHAPE
    assert w.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / w.size))
    assert w.var() == pytest.approx(variance, rel=0.05)
    bound = math.sqrt(3 * variance) if "uniform" in name else 2 * math.sqrt(variance) / 0.87962566103423978
    assert np.abs(w).max() <= bound * (1 + 1e-6)


def test_plain_random_initializers():
    w = np.asarray(initializers.RandomNormal(1.0, 0.5, seed=1)(SHAPE))
    assert w.mean() == pytest.approx(1.0, abs=0.03) and w.std() == pytest.approx(0.5, rel=0.03)
    w = np.asarray(initializers.RandomUniform(-1.0, 3.0, seed=1)(SHAPE))
    assert w.min() >= -1 and w.max() < 3 and w.mean() == pytest.approx(1.0, abs=0.05)
    w = np.asarray(initializers.TruncatedNormal(0.0, 1.0, seed=1)(SHAPE))
    assert np.abs(w).max() <= 2.0
    w = np.asarray(initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal", seed=1)(SHAPE))
    assert w.var() == pytest.approx(3 / FAN_OUT, rel=0.05)


def test_constants():
    np.testing.assert_array_equal(initializers.Zeros()((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.Ones()((2,), dtype="int32"), [1, 1])
    np.testing.assert_array_equal(initializers.Constant(2.5)((2,)), [2.5, 2.5])
    np.testing.assert_array_equal(initializers.Identity(2.0)((2, 3)), 2 * np.eye(2, 3))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 5)])
def test_orthogonal(shape):
    w = np.asarray(initializers.Orthogonal(gain=2.0, seed=1)(shape)).reshape(-1, shape[-1])
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


@pytest.mark.parametrize(
    "shape, fans",
    [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((2, 3, 4, 8), (24, 48))],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


def test_fans_of_named_axes():
    assert initializers.compute_fans((2, 3, 5), input_axes=[0], output_axes=[1, 2]) == (2, 15)


def test_seeds():
    fixed = initializers.GlorotUniform(seed=3)
    np.testing.assert_array_equal(fixed((2, 3)), fixed((2, 3)))
    np.testing.assert_array_equal(fixed((2, 3)), initializers.GlorotUniform(seed=3)((2, 3)))
    moving = initializers.GlorotUniform(seed=random.SeedGenerator(3))
    assert not np.array_equal(moving((2, 3)), moving((2, 3)))
    assert not np.array_equal(initializers.GlorotUniform()((2, 3)), initializers.GlorotUniform()((2, 3)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(dtype):
    for name in ("glorot_uniform", "he_normal", "orthogonal", "ones", "zeros", "identity"):
        assert initializers.get(name)((4, 4), dtype=dtype).dtype == dtype


def test_get():
    assert initializers.get(None) is None
    assert isinstance(initializers.get("he_normal"), initializers.HeNormal)
    assert isinstance(initializers.get("HeNormal"), initializers.HeNormal)
    assert isinstance(initializers.get("normal"), initializers.RandomNormal)
    assert isinstance(initializers.get(initializers.Ones), initializers.Ones)
    config = {"class_name": "RandomNormal", "config": {"mean": 1.0, "stddev": 2.0, "seed": 1}}
    assert initializers.get(config).mean == 1.0
    table = np.eye(3, dtype="float32")
    np.testing.assert_array_equal(initializers.get(table)((3, 3)), table)
    np.testing.assert_array_equal(initializers.get(ops.convert_to_tensor(table))((3, 3)), table)
    with pytest.raises(ValueError, match="direct tensor"):
        initializers.get(table)((2, 2))
    with pytest.raises(ValueError, match="Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")
    with pytest.raises(ValueError, match="Could not interpret initializer"):
        initializers.get(7)


def test_configs_are_keras_s():
    keras = pytest.importorskip("keras")
    arguments = {
        "Constant": {"value": 3.0},
        "RandomNormal": {"mean": 1.0, "seed": 3},
        "RandomUniform": {"minval": -1.0, "seed": 3},
        "TruncatedNormal": {"stddev": 2.0},
        "VarianceScaling": {"scale": 2.0, "mode": "fan_out", "distribution": "uniform"},
        "Orthogonal": {"gain": 0.5, "seed": 1},
        **{
            n: {"seed": 4}
            for n in ["GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"]
        },
        "Zeros": {},
        "Ones": {},
    }
    for name, kwargs in arguments.items():
        theirs = keras.initializers.serialize(getattr(keras.initializers, name)(**kwargs))
        ours = initializers.serialize(getattr(initializers, name)(**kwargs))
        assert ours == theirs
        back = initializers.deserialize(theirs)
        assert type(back).__name__ == name and back.get_config() == theirs["config"]
        assert type(back.clone()) is type(back)


def test_identity_keeps_its_gain():
    keras = pytest.importorskip("keras")
    # Keras's own configuration leaves `gain` out; it takes ours.
    ours = initializers.serialize(initializers.Identity(gain=2.0))
    theirs = keras.initializers.serialize(keras.initializers.Identity(gain=2.0))
    assert {**ours, "config": {}} == {**theirs, "config": {}} and ours["config"] == {"gain": 2.0}
    assert keras.initializers.deserialize(ours).gain == initializers.deserialize(ours).gain == 2.0


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: initializers.VarianceScaling(scale=0.0), "positive"),
        (lambda: initializers.VarianceScaling(mode="fan"), "Invalid `mode`"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "Invalid `distribution`"),
        (lambda: initializers.RandomNormal(seed="x"), "`seed` argument"),
        (lambda: initializers.Identity()((2, 2, 2)), "2D matrices"),
        (lambda: initializers.Orthogonal()((2,)), "at least two-dimensional"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()
