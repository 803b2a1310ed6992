"""Activation functions."""

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import as_float, axes_of, exports, known, one_axis, slice_axis, tensor

# tanh lives in `lamina.ops.numpy` and is an activation too.
from lamina.ops.numpy.elementwise import tanh


@op
def relu(x):
    """max(x, 0), in the dtype of x."""
    x = tensor(x)
    return _core.binary("max", x, 0) if "int" in x.dtype else _core.activation("relu", x)


@op
def relu6(x):
    """min(max(x, 0), 6)."""
    return _core.activation("relu6", tensor(x))


@op
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return _core.activation("sigmoid", as_float(x))


@op
def softplus(x):
    """log(1 + exp(x))."""
    return _core.activation("softplus", as_float(x))


@op
def softsign(x):
    """x / (1 + |x|)."""
    x = as_float(x)
    return x / (_core.unary("abs", x) + 1.0)


@op
def silu(x):
    """x * sigmoid(x), also called swish."""
    return _core.activation("silu", as_float(x))


swish = silu


@op
def log_sigmoid(x):
    """log(sigmoid(x)), exact for large negative x."""
    return -_core.activation("softplus", -as_float(x))


@op
def leaky_relu(x, negative_slope=0.2):
    """x where x > 0, else negative_slope * x."""
    return _core.activation("leaky_relu", as_float(x), float(negative_slope))


@op
def hard_sigmoid(x):
    """relu6(x + 3) / 6: the sigmoid in three straight lines."""
    return _core.activation("hard_sigmoid", as_float(x))


@op
def hard_silu(x):
    """x * hard_sigmoid(x), also called hard swish."""
    return _core.activation("hard_silu", as_float(x))


hard_swish = hard_silu


@op
def elu(x, alpha=1.0):
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return _core.activation("elu", as_float(x), float(alpha))


@op
def selu(x):
    """1.0507 * elu(x, 1.67326): keeps mean 0 and variance 1 through layers (Klambauer et al., 2017)."""
    return _core.activation("selu", as_float(x))


@op
def gelu(x, approximate=True):
    """x times the normal distribution function at x (Hendrycks and Gimpel, 2016), by its tanh approximation
    unless told.
    """
    return _core.activation("gelu_tanh" if approximate else "gelu", as_float(x))


@op
def celu(x, alpha=1.0):
    """max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)."""
    x = as_float(x)
    below = _core.unary("expm1", _core.binary("min", x, 0.0) / alpha) * alpha
    return _core.binary("max", x, 0.0) + below


@op
def glu(x, axis=-1):
    """Gated linear unit: the first half of `axis` times the sigmoid of the second."""
    x = as_float(x)
    axis = one_axis(axis, len(x.shape))
    size = known(x, axis, "glu")
    if size % 2:
        raise ValueError(
            f"`glu` halves axis {axis}, which must have an even size. Received shape {tuple(x.shape)}."
        )
    half = size // 2
    return slice_axis(x, axis, 0, half) * _core.activation("sigmoid", slice_axis(x, axis, half, None))


@op
def tanh_shrink(x):
    """x - tanh(x)."""
    x = as_float(x)
    return x - _core.unary("tanh", x)


@op
def hard_tanh(x):
    """x cut to [-1, 1]."""
    return _core.activation("clamp", as_float(x), -1.0, 1.0)


@op
def hard_shrink(x, threshold=0.5):
    """x where |x| > threshold, else 0."""
    x = as_float(x)
    return _core.where(_core.binary("gt", _core.unary("abs", x), threshold), x, 0.0)


@op
def soft_shrink(x, threshold=0.5):
    """x moved towards 0 by threshold, and 0 where it is nearer than that."""
    x = as_float(x)
    below = _core.where(_core.binary("lt", x, -threshold), x + threshold, 0.0)
    return _core.where(_core.binary("gt", x, threshold), x - threshold, below)


@op
def threshold(x, threshold, default_value):
    """x where x > threshold, else default_value."""
    x = tensor(x)
    return _core.where(_core.binary("gt", x, threshold), x, default_value)


@op
def squareplus(x, b=4):
    """(x + sqrt(x**2 + b)) / 2."""
    x = as_float(x)
    return (x + _core.unary("sqrt", _core.unary("square", x) + float(b))) * 0.5


@op
def sparse_plus(x):
    """0 up to -1, x from 1 on, (x + 1)**2 / 4 between: a softplus that is exactly 0 and x at its ends."""
    x = as_float(x)
    between = _core.unary("square", x + 1.0) * 0.25
    low = _core.where(_core.binary("le", x, -1.0), 0.0, between)
    return _core.where(_core.binary("ge", x, 1.0), x, low)


@op
def sparse_sigmoid(x):
    """0 up to -1, 1 from 1 on, (x + 1) / 2 between."""
    return _core.activation("clamp", (as_float(x) + 1.0) * 0.5, 0.0, 1.0)


@op
def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) over `axis` (one or several), without overflow."""
    x = as_float(x)
    if isinstance(axis, int):
        return _core.softmax(x, one_axis(axis, len(x.shape)))
    return _core.unary("exp", log_softmax(x, axis))


@op
def log_softmax(x, axis=-1):
    """The logarithm of `softmax`, computed without it."""
    x = as_float(x)
    if isinstance(axis, int):
        return _core.log_softmax(x, one_axis(axis, len(x.shape)))
    from lamina.ops.math import logsumexp

    return x - logsumexp(x, axes_of(axis, len(x.shape)), keepdims=True)


@op
def sparsemax(x, axis=-1):
    """The nearest point to x on the simplex (Martins and Astudillo, 2016): a softmax with exact zeros."""
    x = as_float(x)
    axis = one_axis(axis, len(x.shape))
    ranked = _core.sort(x, axis, True)[0]
    total = _core.cumulative("sum", ranked, axis)
    spread = [-1 if a == axis else 1 for a in range(len(x.shape))]
    rank = _core.reshape(_core.arange(1, known(x, axis, "sparsemax") + 1, 1, x.dtype), spread)
    support = _core.binary("gt", ranked * rank, total - 1.0)
    count = _core.reduce("sum", _core.cast(support, x.dtype), [axis], True)
    mass = _core.reduce("sum", _core.where(support, ranked, 0.0), [axis], True)
    return _core.binary("max", x - (mass - 1.0) / count, 0.0)


__all__ = [*exports(globals()), "tanh"]
