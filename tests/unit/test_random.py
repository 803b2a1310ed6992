"""Random numbers: repeatable by seed, distributed as said, equal in eager and compiled functions."""

import math

import numpy as np
import pytest

import lamina
from lamina import ops, random
from lamina.engine.trace import compile_function

N = 20_000


def same(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


def kolmogorov(sample, cdf):
    """The largest distance between the empirical distribution and `cdf`, times sqrt(n): above 1.95 once in
    1000.
    """
    x = np.sort(np.asarray(sample, "float64").ravel())
    p = np.vectorize(cdf)(x)
    n = len(x)
    return math.sqrt(n) * max(np.max(np.arange(1, n + 1) / n - p), np.max(p - np.arange(n) / n))


def phi(z):
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def test_distributions():
    assert kolmogorov(random.uniform((N,), -1.0, 3.0, seed=1), lambda v: (v + 1) / 4) < 1.95
    assert kolmogorov(random.normal((N,), 2.0, 0.5, seed=2), lambda v: phi((v - 2) / 0.5)) < 1.95
    low, high = phi(-2.0), phi(2.0)
    cut = random.truncated_normal((N,), 1.0, 2.0, seed=3)
    assert kolmogorov(cut, lambda v: (phi((v - 1) / 2) - low) / (high - low)) < 1.95
    assert np.abs(np.asarray(cut) - 1).max() <= 4.0


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.5])
def test_gamma_has_its_moments(alpha):
    g = np.asarray(random.gamma((N,), alpha, seed=4))
    assert g.min() > 0
    assert g.mean() == pytest.approx(alpha, abs=5 * math.sqrt(alpha / N))
    assert g.var() == pytest.approx(alpha, rel=0.15)
    if alpha == 1.0:  # then it is exponential
        assert kolmogorov(g, lambda v: 1 - math.exp(-v)) < 1.95


def test_beta_and_binomial_have_their_moments():
    b = np.asarray(random.beta((N,), 2.0, 3.0, seed=5))
    assert b.mean() == pytest.approx(0.4, abs=0.01) and b.var() == pytest.approx(0.04, rel=0.1)
    k = np.asarray(random.binomial((N,), 100.0, 0.3, seed=6))
    assert k.mean() == pytest.approx(30.0, abs=0.2) and k.var() == pytest.approx(21.0, rel=0.1)
    assert same(k, np.round(k))


def test_randint_covers_its_range():
    k = np.asarray(random.randint((N,), -2, 3, seed=7))
    assert k.dtype == np.int32
    values, counts = np.unique(k, return_counts=True)
    assert list(values) == [-2, -1, 0, 1, 2]
    assert np.abs(counts - N / 5).max() < 5 * math.sqrt(N * 0.16)


def test_categorical_follows_its_logits():
    p = np.array([0.1, 0.2, 0.7])
    draws = np.asarray(random.categorical(np.log(p)[None].astype("float32"), N, seed=8))
    assert draws.shape == (1, N)
    assert np.abs(np.bincount(draws[0], minlength=3) / N - p).max() < 0.02


def test_shuffle_moves_whole_slices():
    x = np.arange(60).reshape(20, 3)
    y = np.asarray(random.shuffle(x, seed=9))
    assert not same(x, y) and same(np.sort(y[:, 0]), x[:, 0]) and same(y - y[:, :1], x - x[:, :1])
    z = np.asarray(random.shuffle(x, axis=1, seed=9))
    assert same(np.sort(z, 1), x)


def test_an_int_seed_repeats_and_a_generator_moves_on():
    assert same(random.normal((3,), seed=1), random.normal((3,), seed=1))
    assert not same(random.normal((3,), seed=1), random.normal((3,), seed=2))
    seeds = random.SeedGenerator(1)
    first, second = random.normal((3,), seed=seeds), random.normal((3,), seed=seeds)
    assert not same(first, second)
    again = random.SeedGenerator(1)
    assert same(first, random.normal((3,), seed=again)) and same(second, random.normal((3,), seed=again))


def test_the_global_seed_repeats_everything():
    lamina.utils.set_random_seed(5)
    first = random.normal((3,)), random.uniform((2,))
    lamina.utils.set_random_seed(5)
    assert same(first[0], random.normal((3,))) and same(first[1], random.uniform((2,)))
    assert not same(first[0], random.normal((3,)))


def test_a_compiled_function_draws_what_an_eager_one_does():
    def draw(x, seeds):
        return random.dropout(x, 0.5, seed=seeds) + random.normal(ops.shape(x), seed=seeds)

    x = np.ones((4, 5), "float32")
    eager_seeds, compiled_seeds = random.SeedGenerator(3), random.SeedGenerator(3)
    compiled = compile_function(lambda v: draw(v, compiled_seeds))
    for _ in range(3):
        np.testing.assert_allclose(compiled(x), draw(x, eager_seeds), rtol=1e-6)


def test_dropout():
    x = np.ones((200, 100), "float32")
    y = np.asarray(random.dropout(x, 0.25, seed=1))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert same(random.dropout(x, 0.0), x) and same(random.dropout(x, 1.0), 0 * x)
    shared = np.asarray(random.dropout(x, 0.5, noise_shape=(None, 1), seed=1))
    assert same(shared, np.broadcast_to(shared[:, :1], x.shape)) and 0 < (shared == 0).mean() < 1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: random.uniform((2,), dtype="int32"), "floating point `dtype`"),
        (lambda: random.randint((2,), 0, 3, dtype="float32"), "integer `dtype`"),
        (lambda: random.normal((2,), seed="a"), "must be either an integer or an instance"),
        (lambda: random.SeedGenerator("a"), "must be an integer"),
        (lambda: random.dropout(np.ones((2, 3)), 0.5, noise_shape=(2,)), "as many axes"),
        (lambda: random.dropout(np.ones((2, 3)), 0.5, noise_shape=(2, 2)), "does not broadcast"),
        (lambda: random.dropout(np.ones(2), 1.5), r"\[0, 1\]"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_seed_generator_config():
    seeds = random.SeedGenerator(11, name="s")
    assert seeds.get_config() == {"seed": 11, "name": "s"}
    assert same(random.SeedGenerator.from_config(seeds.get_config()).next(), seeds.next())
