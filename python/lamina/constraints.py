"""Projections that keep weights in a set; applied after each update."""

from lamina import backend, ops
from lamina.engine.tracebacks import UserMade
from lamina.lookup import Family


class Constraint(UserMade):
    """Base class: a callable that takes a weight and gives the nearest allowed one, with a `get_config`."""

    def __call__(self, w):
        """The projection."""
        raise NotImplementedError

    def get_config(self):
        """The arguments of the constructor, as a dict."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes an instance from `get_config()`'s dict."""
        return cls(**config)


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Vectors along `axis` longer than `max_value` are shortened to it.

    `axis`: 0 for a Dense kernel (one vector a unit), (0, 1, 2) for a Conv2D kernel (one a filter).
    """

    def __init__(self, max_value=2, axis=0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w):
        w = ops.convert_to_tensor(w)
        norms = _norms(w, self.axis)
        return w * (ops.clip(norms, 0, self.max_value) / (backend.epsilon() + norms))

    def get_config(self):
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """Negative weights become 0."""

    def __call__(self, w):
        return ops.maximum(w, 0)


class UnitNorm(Constraint):
    """Vectors along `axis` get length 1."""

    def __init__(self, axis=0):
        self.axis = axis

    def __call__(self, w):
        w = ops.convert_to_tensor(w)
        return w / (backend.epsilon() + _norms(w, self.axis))

    def get_config(self):
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Lengths of vectors along `axis` are brought into [min_value, max_value], by the part `rate` of the way
    each time.
    """

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis=0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w):
        w = ops.convert_to_tensor(w)
        norms = _norms(w, self.axis)
        desired = self.rate * ops.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (backend.epsilon() + norms))

    def get_config(self):
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

_family = Family("constraint", (Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm))
serialize, deserialize, get = _family.serialize, _family.deserialize, _family.get
