"""What a case of an op is, and the arrays that many cases share."""

from dataclasses import dataclass, field

import numpy as np

_rng = np.random.default_rng(0)


@dataclass
class Case:
    name: str
    args: tuple
    kwargs: dict = field(default_factory=dict)
    grad: bool = True  # compare gradients with respect to the float arguments
    trace: bool = True  # may run in a compiled function
    tolerance: float = 1e-5
    expected: tuple | None = None  # the outputs, where Keras's numpy backend is not the judge

    def __str__(self):
        def show(x):
            if isinstance(x, np.ndarray):
                return f"{x.dtype}{list(x.shape)}"
            return f"[{', '.join(map(show, x))}]" if isinstance(x, (list, tuple)) else str(x)

        parts = [show(a) for a in self.args] + [f"{k}={show(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


def c(name, *args, grad=True, trace=True, tolerance=1e-5, expected=None, **kwargs):
    return Case(name, args, kwargs, grad, trace, tolerance, expected)


def x(*shape, low=-2.0, high=2.0):
    return _rng.uniform(low, high, shape).astype("float32")


def ints(*shape, low=0, high=9):
    return _rng.integers(low, high, shape).astype("int32")


def bools(*shape):
    return _rng.integers(0, 2, shape).astype(bool)


NAN = np.array([[1.0, np.nan, -3.0, 2.0], [np.nan] * 4, [0.5, 4.0, np.inf, 1.0]], "float32")
INF = np.array([[np.inf, -np.inf, np.nan, 0.0]], "float32")
A = x(3, 4)
B = x(3, 4)
POSITIVE = x(3, 4, low=0.2, high=3.0)
UNIT = x(3, 4, low=-0.9, high=0.9)
K = ints(3, 4, low=-9)
J = ints(3, 4, low=1)
M, N = bools(3, 4), bools(3, 4)
