"""First values of weights. An int seed (or none) gives the same values with each call, a `SeedGenerator` new
ones.
"""

import math

import numpy as np

from lamina import ops, random
from lamina.backend import standardize_dtype
from lamina.engine.tracebacks import UserMade
from lamina.lookup import Family


class Initializer(UserMade):
    """Base class: a callable `f(shape, dtype=None)` that gives a tensor, with a `get_config`."""

    def __call__(self, shape, dtype=None):
        """A tensor of this shape and dtype (floatx unless given)."""
        raise NotImplementedError("Initializer subclasses must implement the `__call__()` method.")

    def get_config(self):
        """The arguments of the constructor, as a dict."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes an instance from `get_config()`'s dict."""
        return cls(**config)

    def clone(self):
        """A new initializer with the same configuration."""
        return type(self).from_config(self.get_config())


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, standardize_dtype(dtype))


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape, dtype=None):
        return ops.ones(shape, standardize_dtype(dtype))


class Constant(Initializer):
    """All `value`, a number (or an array that broadcasts to the shape)."""

    def __init__(self, value=0.0):
        self.value = value

    def __call__(self, shape, dtype=None):
        return ops.full(shape, self.value, standardize_dtype(dtype))

    def get_config(self):
        from lamina.saving.serialization import serialize_keras_object

        return {"value": serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config):
        from lamina.saving.serialization import deserialize_keras_object

        return cls(deserialize_keras_object(config["value"]))


class Identity(Initializer):
    """The identity matrix times `gain`. Shapes with two axes only."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, shape, dtype=None):
        if len(shape) != 2:
            raise ValueError(
                "Identity matrix initializer can only be used for 2D matrices. "
                f"Received: shape={tuple(shape)} of rank {len(shape)}."
            )
        return ops.eye(*shape, dtype=standardize_dtype(dtype)) * self.gain

    def get_config(self):
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base of those that draw. `seed`: an int, a `SeedGenerator`, its configuration, or None (drawn once)."""

    def __init__(self, seed=None):
        self._init_seed = seed
        if seed is None:
            seed = random.make_default_seed()
        elif isinstance(seed, dict):
            from lamina.saving.serialization import deserialize_keras_object

            seed = deserialize_keras_object(seed)
        elif not isinstance(seed, (int, random.SeedGenerator)):
            raise ValueError(
                "`seed` argument should be an instance of `lamina.random.SeedGenerator()` or an integer. "
                f"Received: seed={seed}"
            )
        self.seed = seed

    def get_config(self):
        from lamina.saving.serialization import serialize_keras_object

        return {"seed": serialize_keras_object(self._init_seed)}


class RandomNormal(RandomInitializer):
    """Normal values."""

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        return random.normal(shape, self.mean, self.stddev, dtype, self.seed)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal values within two standard deviations of the mean."""

    def __call__(self, shape, dtype=None):
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


class RandomUniform(RandomInitializer):
    """Uniform values from [minval, maxval)."""

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        self.minval, self.maxval = minval, maxval
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        return random.uniform(shape, self.minval, self.maxval, dtype, self.seed)

    def get_config(self):
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


# The standard deviation of a standard normal variable cut at +-2.
_TRUNCATED_STD = 0.87962566103423978


class VarianceScaling(RandomInitializer):
    """Values with variance scale / n, where n is the fan-in, the fan-out or their mean.

    Args:
        scale: a positive factor.
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "truncated_normal" ("normal"), "untruncated_normal" or "uniform".
        seed: see `RandomInitializer`.
        input_axes, output_axes: the axes of a weight that hold its inputs and outputs, where they are not the
            usual ones.
    """

    def __init__(
        self,
        scale=1.0,
        mode="fan_in",
        distribution="truncated_normal",
        seed=None,
        input_axes=None,
        output_axes=None,
    ):
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be positive float. Received: scale={scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f"Invalid `mode` argument: {mode}. Please use one of ['fan_in', 'fan_out', 'fan_avg']"
            )
        distribution = str(distribution).lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if distribution not in ("uniform", "truncated_normal", "untruncated_normal"):
            raise ValueError(
                f"Invalid `distribution` argument: {distribution}. Please use one of "
                "['uniform', 'truncated_normal', 'untruncated_normal']"
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[self.mode]
        variance = self.scale / max(1.0, n)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(shape, -limit, limit, dtype, self.seed)
        if self.distribution == "truncated_normal":
            return random.truncated_normal(shape, 0.0, math.sqrt(variance) / _TRUNCATED_STD, dtype, self.seed)
        return random.normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)

    def get_config(self):
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


def compute_fans(shape, input_axes=None, output_axes=None):
    """(fan-in, fan-out) of a weight: how many inputs an output sees, and how many outputs an input reaches.

    A kernel is (*window, inputs, outputs) unless the axes are given.
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        n = shape[0] if shape else 1
        return n, n
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


class _Scaled(VarianceScaling):
    """A variance scaling with fixed parameters."""

    _fixed = {}

    def __init__(self, seed=None, input_axes=None, output_axes=None):
        super().__init__(**self._fixed, seed=seed, input_axes=input_axes, output_axes=output_axes)

    def get_config(self):
        config = super().get_config()
        return {key: config[key] for key in ("seed", "input_axes", "output_axes")}


class GlorotUniform(_Scaled):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, 2010."""

    _fixed = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"}


class GlorotNormal(_Scaled):
    """Truncated normal with variance 2 / (fan_in + fan_out). Glorot and Bengio, 2010."""

    _fixed = {"scale": 1.0, "mode": "fan_avg", "distribution": "truncated_normal"}


class HeUniform(_Scaled):
    """Uniform in +-sqrt(6 / fan_in). He et al., 2015."""

    _fixed = {"scale": 2.0, "mode": "fan_in", "distribution": "uniform"}


class HeNormal(_Scaled):
    """Truncated normal with variance 2 / fan_in. He et al., 2015."""

    _fixed = {"scale": 2.0, "mode": "fan_in", "distribution": "truncated_normal"}


class LecunUniform(_Scaled):
    """Uniform in +-sqrt(3 / fan_in). Klambauer et al., 2017."""

    _fixed = {"scale": 1.0, "mode": "fan_in", "distribution": "uniform"}


class LecunNormal(_Scaled):
    """Truncated normal with variance 1 / fan_in. Klambauer et al., 2017."""

    _fixed = {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"}


class Orthogonal(RandomInitializer):
    """A random orthogonal matrix times `gain`; the axes before the last are its rows. Saxe et al., 2014."""

    def __init__(self, gain=1.0, seed=None):
        self.gain = gain
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        if len(shape) < 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. "
                f"Received: shape={tuple(shape)} of rank {len(shape)}."
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        noise = random.normal((max(rows, columns), min(rows, columns)), dtype="float32", seed=self.seed)
        q, r = np.linalg.qr(ops.convert_to_numpy(noise))
        q = q * np.sign(np.diag(r))  # without this the distribution is not uniform
        q = (q.T if rows < columns else q).reshape(shape) * self.gain
        return ops.convert_to_tensor(q, dtype=standardize_dtype(dtype))

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling = VarianceScaling
glorot_normal, glorot_uniform, he_normal, he_uniform = GlorotNormal, GlorotUniform, HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal

_family = Family(
    "initializer",
    (
        Initializer,
        Constant,
        Identity,
        Ones,
        Zeros,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        LecunNormal,
        LecunUniform,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
    ),
    {
        "IdentityInitializer": Identity,
        "OrthogonalInitializer": Orthogonal,
        "normal": RandomNormal,
        "uniform": RandomUniform,
        "one": Ones,
        "zero": Zeros,
    },
)
serialize, deserialize = _family.serialize, _family.deserialize


def get(identifier):
    """The initializer meant by a name, a configuration, a class, a callable `f(shape, dtype=None)`, a tensor
    or None.
    """
    if ops.is_tensor(identifier) or isinstance(identifier, (np.generic, np.ndarray)):
        return _given(identifier)
    return _family.get(identifier)


def _given(value):
    """An initializer that gives this value, if it has the shape asked for."""

    def initialize(shape, dtype=None):
        tensor = ops.convert_to_tensor(value, dtype=standardize_dtype(dtype))
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(
                f"Expected `shape` to be {tuple(tensor.shape)} for direct tensor as initializer. "
                f"Received shape={tuple(shape)}"
            )
        return tensor

    return initialize
