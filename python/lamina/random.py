"""Random numbers. Each function takes a `seed`: an int (the same numbers every time), a `SeedGenerator` (new
ones with each call), or None (the global generator). The numbers depend on the seed alone: not on threads,
nor on eager or compiled running.
"""

import math
import random as python_random

import numpy as np

from lamina import _core, backend
from lamina.engine.naming import auto_name
from lamina.ops._base import as_float, one_axis, slice_axis, static_dims, tensor

_WORD = 0xFFFFFFFF
_global = None


class SeedGenerator:
    """Gives a new seed with each call. Its state is a variable, so that compiled functions move it on too.

    Args:
        seed: an int; drawn from Python's `random` unless given.
        name: made up unless given.

    >>> seeds = SeedGenerator(1337)
    >>> first, second = normal((2,), seed=seeds), normal((2,), seed=seeds)  # two different pairs
    """

    def __init__(self, seed=None, name=None, **kwargs):
        kwargs.pop("backend", None)
        if kwargs:
            raise ValueError(f"Unrecognized keyword arguments: {kwargs}")
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"Argument `seed` must be an integer. Received: seed={seed}")
        from lamina.engine.scope import name_scope
        from lamina.engine.variable import Variable

        self.name = name or auto_name(type(self).__name__)
        self._initial_seed = seed
        words = _words(make_default_seed() if seed is None else seed)
        with name_scope(self.name, caller=self):
            self.state = Variable(words, dtype="uint32", trainable=False, name="seed_generator_state")

    def next(self, ordered=True):
        """The next seed: a uint32 tensor (2,). The second word counts the calls."""
        seed = self.state.value
        self.state.assign(_core.binary("add", seed, np.array([0, 1], "uint32")))
        return seed

    def get_config(self):
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _words(seed):
    return np.array([seed & _WORD, (seed >> 32) & _WORD], "uint32")


def make_default_seed():
    """A seed from Python's `random`, which `lamina.utils.set_random_seed` seeds."""
    return python_random.randint(1, int(1e9))


def global_seed_generator():
    """The generator behind `seed=None`."""
    global _global
    if _global is None:
        _global = SeedGenerator(name="global_seed_generator")
    return _global


def set_global_seed(seed):
    """Start the global generator anew from `seed` (None: from a seed drawn when it is needed).

    A generator that exists keeps its variable, so that functions compiled with it follow.
    """
    global _global
    if _global is None:
        _global = None if seed is None else SeedGenerator(int(seed), name="global_seed_generator")
    else:
        _global._initial_seed = seed
        _global.state.assign(_words(make_default_seed() if seed is None else int(seed)))


def draw_seed(seed):
    """A uint32 tensor (2,) from an int, a `SeedGenerator`, None or such a tensor."""
    if seed is None:
        return global_seed_generator().next()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return tensor(_words(int(seed)))
    if getattr(seed, "dtype", None) == "uint32" and tuple(seed.shape) == (2,):
        return tensor(seed)
    raise ValueError(
        "Argument `seed` must be either an integer or an instance of `SeedGenerator`. "
        f"Received: seed={seed} (of type {type(seed)})"
    )


def _float_dtype(dtype, name):
    dtype = backend.standardize_dtype(dtype)
    if "float" not in dtype:
        raise ValueError(f"`lamina.random.{name}` requires a floating point `dtype`. Received: dtype={dtype}")
    return dtype


def _draw(kind, name, shape, dtype, seed, a, b):
    """Draw with the parameters (a, b) if they are numbers; else draw the standard kind, and move it."""
    dtype, shape = _float_dtype(dtype, name), static_dims(shape)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return _core.random(kind, shape, draw_seed(seed), dtype, float(a), float(b))
    a, b = tensor(a, dtype), tensor(b, dtype)
    return _core.random(kind, shape, draw_seed(seed), dtype) * (b - a if kind == "uniform" else b) + a


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Uniform floats from [minval, maxval). For integers use `randint`."""
    return _draw("uniform", "uniform", shape, dtype, seed, minval, maxval)


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal floats."""
    return _draw("normal", "normal", shape, dtype, seed, mean, stddev)


def normal_like(x, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal floats in the shape of `x`, whose axes may be unknown while tracing. Keras reads the shape
    instead.
    """
    dtype = _float_dtype(dtype, "normal_like")
    return _core.random_like("normal", tensor(x), draw_seed(seed), dtype, float(mean), float(stddev))


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal floats within two standard deviations of the mean: what lies outside is drawn again."""
    return _draw("truncated_normal", "truncated_normal", shape, dtype, seed, mean, stddev)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Uniform integers from [minval, maxval)."""
    dtype = backend.standardize_dtype(dtype)
    if "int" not in dtype:
        raise ValueError(f"`lamina.random.randint` requires an integer `dtype`. Received: dtype={dtype}")
    if isinstance(minval, int) and isinstance(maxval, int):
        if maxval <= minval:
            raise ValueError(
                f"`maxval` must be greater than `minval`. Received: minval={minval}, maxval={maxval}."
            )
        return _core.random(
            "integers", static_dims(shape), draw_seed(seed), dtype, float(minval), float(maxval)
        )
    low, high = tensor(minval, "float32"), tensor(maxval, "float32")
    u = _core.random("uniform", static_dims(shape), draw_seed(seed), "float32")
    return _core.cast(_core.binary("min", _core.unary("floor", u * (high - low) + low), high - 1.0), dtype)


def categorical(logits, num_samples, dtype="int32", seed=None):
    """Class indices drawn with probabilities softmax(logits): (batch, classes) -> (batch, num_samples)."""
    logits = as_float(logits)
    if len(logits.shape) != 2:
        raise ValueError(f"`logits` must have shape (batch, classes). Received shape {tuple(logits.shape)}.")
    # The maximum of logits plus Gumbel noise -log(-log(u)) is a draw from the softmax.
    wide = _core.concat([_core.expand_dims(logits, [1])] * int(num_samples), 1)
    u = _core.random_like("uniform", wide, draw_seed(seed), "float32", 1e-30, 1.0)
    gumbel = -_core.unary("log", -_core.unary("log", u))
    return _core.cast(
        _core.arg_reduce("max", wide + _core.cast(gumbel, wide.dtype), 2), backend.standardize_dtype(dtype)
    )


def _noise_template(x, noise_shape):
    """x, cut to one element along the axes on which the noise is shared."""
    if noise_shape is None:
        return x
    if len(noise_shape) != len(x.shape):
        raise ValueError(
            "Argument `noise_shape` must have as many axes as `inputs`. "
            f"Received: noise_shape={tuple(noise_shape)} for shape {tuple(x.shape)}."
        )
    for axis, (size, own) in enumerate(zip(noise_shape, tuple(x.shape), strict=True)):
        if size == 1 and own != 1:
            x = slice_axis(x, axis, 0, 1)
        elif size not in (None, own) and own is not None:
            raise ValueError(
                f"Argument `noise_shape` {tuple(noise_shape)} does not broadcast to {tuple(x.shape)}: "
                f"axis {axis}."
            )
    return x


def dropout(inputs, rate, noise_shape=None, seed=None):
    """Each element is 0 with probability `rate`, and divided by 1 - rate otherwise.

    `noise_shape`: the shape of the mask; 1 shares it along an axis, None takes the input's size.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"`rate` must be in [0, 1]. Received: rate={rate}")
    x = as_float(inputs)
    if rate == 0:
        return x
    if rate == 1:
        return _core.full_like(x, 0)
    u = _core.random_like("uniform", _noise_template(x, noise_shape), draw_seed(seed), "float32")
    keep = _core.binary("ge", u, float(rate))
    return _core.where(keep, x * (1.0 / (1.0 - rate)), 0.0)


def shuffle(x, axis=0, seed=None):
    """x with its slices along `axis` in a random order."""
    x = tensor(x)
    axis = one_axis(axis, len(x.shape))
    line = x  # one number for each slice, whatever the other axes hold
    for other in range(len(x.shape)):
        if other != axis:
            line = slice_axis(line, other, 0, 1)
    line = _core.reshape(line, (-1,)) if 0 not in x.shape else None
    if line is None:
        return x
    keys = _core.random_like("uniform", line, draw_seed(seed), "float32")
    return _core.gather(x, _core.sort(keys, 0)[1], axis)


# A draw is refused with a probability below 5 %, so that twelve tries all fail for one value in 4e15.
_GAMMA_TRIES = 12


def gamma(shape, alpha, dtype=None, seed=None):
    """Gamma floats with shape parameter `alpha` > 0 and scale 1. Marsaglia and Tsang, 2000."""
    dtype, shape = _float_dtype(dtype, "gamma"), static_dims(shape)
    alpha = _core.broadcast_to(tensor(alpha, "float32"), shape)
    seed = draw_seed(seed)
    small = _core.binary("lt", alpha, 1.0)  # Gamma(a) = Gamma(a + 1) * u**(1/a)
    d = _core.where(small, alpha + 1.0, alpha) - 1.0 / 3.0
    c = 1.0 / _core.unary("sqrt", d * 9.0)
    value, accepted = d, _core.full(shape, 0, "bool")
    for attempt in range(_GAMMA_TRIES):
        x = _core.random("normal", shape, _stream(seed, 2 * attempt), "float32")
        u = _core.random("uniform", shape, _stream(seed, 2 * attempt + 1), "float32", 1e-38, 1.0)
        v = _core.binary("pow", _core.binary("max", x * c + 1.0, 0.0), 3.0)
        positive = _core.binary("gt", v, 0.0)
        log_v = _core.unary("log", _core.where(positive, v, 1.0))
        bound = _core.unary("square", x) * 0.5 + d - d * v + d * log_v
        good = _core.binary("and", positive, _core.binary("lt", _core.unary("log", u), bound))
        take = _core.binary("and", good, _core.unary("not", accepted))
        value = _core.where(take, d * v, value)
        accepted = _core.binary("or", accepted, good)
    u = _core.random("uniform", shape, _stream(seed, 2 * _GAMMA_TRIES), "float32", 1e-38, 1.0)
    boost = _core.binary("pow", u, 1.0 / _core.where(small, alpha, 1.0))
    return _core.cast(_core.where(small, value * boost, value), dtype)


def _stream(seed, i):
    """The i-th of many seeds made from one: far away in the first word, which generators leave alone."""
    return _core.binary("add", seed, np.array([(0x9E3779B9 * (i + 1)) & _WORD, 0], "uint32"))


def beta(shape, alpha, beta, dtype=None, seed=None):
    """Beta floats in (0, 1): a / (a + b) for two gamma draws."""
    dtype, seed = _float_dtype(dtype, "beta"), draw_seed(seed)
    a = gamma(shape, alpha, "float32", _stream(seed, 101))
    b = gamma(shape, beta, "float32", _stream(seed, 202))
    return _core.cast(a / (a + b), dtype)


# Binomial draws count this many coin tosses at a time.
_TOSSES = 64


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    """How many of `counts` tosses succeed, each with its probability; both broadcast to `shape`. Needs the
    largest count.
    """
    dtype, shape = _float_dtype(dtype, "binomial"), static_dims(shape)
    seed = draw_seed(seed)
    most = math.ceil(float(np.max(np.asarray(counts), initial=0)))
    counts = _core.expand_dims(_core.broadcast_to(tensor(counts, "float32"), shape), [0])
    p = _core.broadcast_to(tensor(probabilities, "float32"), shape)
    total = _core.full(shape, 0, "float32")
    for start in range(0, most, _TOSSES):
        size = min(_TOSSES, most - start)
        u = _core.random("uniform", (size, *shape), _stream(seed, start // _TOSSES), "float32")
        toss = _core.reshape(_core.arange(start, start + size, 1, "float32"), [size] + [1] * len(shape))
        success = _core.binary("and", _core.binary("lt", u, p), _core.binary("lt", toss, counts))
        total = total + _core.cast(_core.reduce("sum", success, [0]), "float32")
    return _core.cast(total, dtype)
