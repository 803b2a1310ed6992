"""Elementwise ops: one value in (or two, broadcast as numpy does), one value out."""

import math

from lamina import _core
from lamina.engine.operation import op
from lamina.ops._base import as_float, exports, float_dtype, is_symbolic, limits, named, tensor, tensors

_LN2 = math.log(2.0)


def _unary(name, core, doc):
    return named(lambda x: _core.unary(core, tensor(x)), name, doc, __name__)


def _binary(name, core, doc):
    return named(lambda x1, x2: _core.binary(core, *tensors(x1, x2)), name, doc, __name__)


# Functions of the reals: integers and booleans are computed in floatx.
arccos = _unary("arccos", "acos", "Inverse cosine, in [0, pi].")
arccosh = _unary("arccosh", "acosh", "Inverse hyperbolic cosine.")
arcsin = _unary("arcsin", "asin", "Inverse sine, in [-pi/2, pi/2].")
arcsinh = _unary("arcsinh", "asinh", "Inverse hyperbolic sine.")
arctan = _unary("arctan", "atan", "Inverse tangent, in (-pi/2, pi/2).")
arctanh = _unary("arctanh", "atanh", "Inverse hyperbolic tangent.")
cos = _unary("cos", "cos", "Cosine.")
cosh = _unary("cosh", "cosh", "Hyperbolic cosine.")
exp = _unary("exp", "exp", "e to the power x.")
expm1 = _unary("expm1", "expm1", "exp(x) - 1, exact near zero.")
log = _unary("log", "log", "Natural logarithm.")
log10 = _unary("log10", "log10", "Logarithm to base 10.")
log1p = _unary("log1p", "log1p", "log(1 + x), exact near zero.")
log2 = _unary("log2", "log2", "Logarithm to base 2.")
reciprocal = _unary("reciprocal", "reciprocal", "1 / x.")
sin = _unary("sin", "sin", "Sine.")
sinh = _unary("sinh", "sinh", "Hyperbolic sine.")
sqrt = _unary("sqrt", "sqrt", "Square root.")
tan = _unary("tan", "tan", "Tangent.")
tanh = _unary("tanh", "tanh", "Hyperbolic tangent.")


def _float_unary(name, core, doc):
    return named(lambda x: _core.unary(core, as_float(x)), name, doc, __name__)


ceil = _float_unary("ceil", "ceil", "The least integer not below x, as a float.")
floor = _float_unary("floor", "floor", "The greatest integer not above x, as a float.")

# Functions that keep the dtype.
absolute = _unary("absolute", "abs", "Absolute value.")
abs = _unary("abs", "abs", "Absolute value; shorthand for `absolute`.")
negative = _unary("negative", "neg", "-x.")
sign = _unary("sign", "sign", "-1, 0 or 1.")


@op
def square(x):
    """x * x; of booleans as int32."""
    x = tensor(x)
    return _core.unary("square", _core.cast(x, "int32") if x.dtype == "bool" else x)


# Tests: the result is boolean.
isfinite = _unary("isfinite", "isfinite", "True where x is neither infinite nor NaN.")
isinf = _unary("isinf", "isinf", "True where x is plus or minus infinity.")
isnan = _unary("isnan", "isnan", "True where x is NaN.")

add = _binary("add", "add", "x1 + x2.")
subtract = _binary("subtract", "sub", "x1 - x2.")
multiply = _binary("multiply", "mul", "x1 * x2.")
divide = _binary("divide", "div", "x1 / x2; integers give floatx.")
true_divide = _binary("true_divide", "div", "x1 / x2; the same as `divide`.")
floor_divide = _binary("floor_divide", "floordiv", "floor(x1 / x2).")
mod = _binary("mod", "mod", "Remainder with the sign of x2, as Python's %.")
power = _binary("power", "pow", "x1 to the power x2.")
maximum = _binary("maximum", "max", "The larger of two; NaN if either is NaN.")
minimum = _binary("minimum", "min", "The smaller of two; NaN if either is NaN.")
arctan2 = _binary("arctan2", "atan2", "Angle of the point (x2, x1), in [-pi, pi].")
equal = _binary("equal", "eq", "x1 == x2.")
not_equal = _binary("not_equal", "ne", "x1 != x2.")
less = _binary("less", "lt", "x1 < x2.")
less_equal = _binary("less_equal", "le", "x1 <= x2.")
greater = _binary("greater", "gt", "x1 > x2.")
greater_equal = _binary("greater_equal", "ge", "x1 >= x2.")


def _truth(x):
    x = tensor(x)
    return x if x.dtype == "bool" else _core.cast(x, "bool")


def _logical(name, core, doc):
    return named(lambda x1, x2: _core.binary(core, _truth(x1), _truth(x2)), name, doc, __name__)


logical_and = _logical("logical_and", "and", "True where both are non-zero.")
logical_or = _logical("logical_or", "or", "True where one of the two is non-zero.")
logical_xor = _logical("logical_xor", "xor", "True where exactly one of the two is non-zero.")


@op
def logical_not(x):
    """True where x is zero."""
    return _core.unary("not", _truth(x))


def _whole(name, *xs):
    """Operands of a bitwise op: integers or booleans."""
    xs = tensors(*xs)
    for x in xs:
        kind = type(x).__name__ if isinstance(x, (bool, int, float)) else x.dtype
        if "float" in kind:
            raise TypeError(f"`{name}` takes integers or booleans. Received dtype {kind}.")
    return xs


def _bitwise(name, core, doc):
    return named(lambda x, y: _core.binary(core, *_whole(name, x, y)), name, doc, __name__)


bitwise_and = _bitwise("bitwise_and", "and", "Bitwise AND of integers.")
bitwise_or = _bitwise("bitwise_or", "or", "Bitwise OR of integers.")
bitwise_xor = _bitwise("bitwise_xor", "xor", "Bitwise XOR of integers.")


@op
def bitwise_not(x):
    """Every bit flipped: -x - 1 for signed integers, max - x for unsigned, `not` for booleans."""
    x = tensor(_whole("bitwise_not", x)[0])
    if x.dtype == "bool":
        return _core.unary("not", x)
    return _core.binary("sub", limits(x.dtype)[1] if x.dtype.startswith("uint") else -1, x)


bitwise_invert = bitwise_not


@op
def bitwise_left_shift(x, y):
    """x * 2**y."""
    x, y = _whole("bitwise_left_shift", x, y)
    return _core.binary("mul", x, _core.binary("pow", 2, tensor(y)))


@op
def bitwise_right_shift(x, y):
    """floor(x / 2**y): the sign is kept."""
    x, y = _whole("bitwise_right_shift", x, y)
    return _core.binary("floordiv", x, _core.binary("pow", 2, tensor(y)))


left_shift, right_shift = bitwise_left_shift, bitwise_right_shift


@op
def trunc(x):
    """x without its fraction; integers stay as they are."""
    x = tensor(x)
    return _core.unary("trunc", x) if "float" in x.dtype else x


@op
def round(x, decimals=0):
    """Nearest number with `decimals` decimals, halves to even; integers keep their dtype."""
    x = tensor(x)
    if "float" not in x.dtype:
        if decimals >= 0:
            return x
        step = 10**-decimals
        return _core.cast(_core.unary("round", x / float(step)) * step, x.dtype)
    if decimals == 0:
        return _core.unary("round", x)
    scale = 10.0**decimals
    return _core.unary("round", x * scale) / scale


@op
def fabs(x):
    """Absolute value as a float."""
    return _core.unary("abs", as_float(x))


@op
def exp2(x):
    """2 to the power x."""
    return _core.binary("pow", 2.0, as_float(x))


@op
def cbrt(x):
    """Cube root, of negative numbers too."""
    x = as_float(x)
    return _core.unary("sign", x) * _core.binary("pow", _core.unary("abs", x), 1.0 / 3.0)


@op
def sinc(x):
    """sin(pi x) / (pi x), which is 1 at zero."""
    x = as_float(x) * math.pi
    zero = _core.binary("eq", x, 0.0)
    safe = _core.where(zero, 1.0, x)
    return _core.where(zero, 1.0, _core.unary("sin", safe) / safe)


@op
def deg2rad(x):
    """Degrees to radians."""
    return as_float(x) * (math.pi / 180.0)


@op
def rad2deg(x):
    """Radians to degrees."""
    return as_float(x) * (180.0 / math.pi)


@op
def clip(x, x_min, x_max):
    """x cut to [x_min, x_max]; None leaves a side open."""
    x, x_min, x_max = tensor(x), *(v if v is None else tensors(v)[0] for v in (x_min, x_max))
    if x.dtype == "bool":
        x = _core.cast(x, "int32")
    if x_min is not None:
        x = _core.binary("max", x, x_min)
    return x if x_max is None else _core.binary("min", x, x_max)


@op
def isposinf(x):
    """True where x is plus infinity."""
    return _core.binary("eq", as_float(x), math.inf)


@op
def isneginf(x):
    """True where x is minus infinity."""
    return _core.binary("eq", as_float(x), -math.inf)


@op
def signbit(x):
    """True where the sign bit is set: below zero, and -0.0."""
    x = tensor(x)
    below = _core.binary("lt", x, 0)
    if "float" not in x.dtype:
        return below
    zero = _core.binary("eq", x, 0.0)
    negative_zero = _core.binary("lt", _core.unary("reciprocal", _core.where(zero, x, 1.0)), 0.0)
    return _core.binary("or", below, negative_zero)


@op
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """x with NaN and the infinities replaced (by the largest finite values unless told)."""
    x = tensor(x)
    if "float" not in x.dtype:
        return x
    low, high = limits(x.dtype)
    x = _core.where(_core.unary("isnan", x), nan, x)
    x = _core.where(_core.binary("eq", x, math.inf), high if posinf is None else posinf, x)
    return _core.where(_core.binary("eq", x, -math.inf), low if neginf is None else neginf, x)


@op
def divide_no_nan(x1, x2):
    """x1 / x2, and 0 where x2 is 0; the gradient there is 0 too."""
    x1, x2 = (_core.cast(tensor(x), dtype) for dtype in [float_dtype(x1, x2)] for x in (x1, x2))
    zero = _core.binary("eq", x2, 0.0)
    return _core.where(zero, 0.0, x1 / _core.where(zero, 1.0, x2))


@op
def fmod(x1, x2):
    """Remainder with the sign of x1, as C's fmod."""
    x1, x2 = tensors(x1, x2)
    rest = _core.binary("mod", _core.unary("abs", tensor(x1)), _core.unary("abs", tensor(x2)))
    return _core.where(_core.binary("lt", x1, 0), -rest, rest)


@op
def fmax(x1, x2):
    """The larger of two; where one is NaN, the other."""
    return _ignoring_nan("max", x1, x2)


@op
def fmin(x1, x2):
    """The smaller of two; where one is NaN, the other."""
    return _ignoring_nan("min", x1, x2)


def _ignoring_nan(kind, x1, x2):
    x1, x2 = tensor(x1), tensor(x2)
    best = _core.binary(kind, x1, x2)
    if "float" not in best.dtype:
        return best
    best = _core.where(_core.unary("isnan", x1), x2, best)
    return _core.where(_core.unary("isnan", x2), x1, best)


@op
def hypot(x1, x2):
    """sqrt(x1**2 + x2**2) without overflow."""
    a, b = _core.unary("abs", as_float(x1)), _core.unary("abs", as_float(x2))
    big, small = _core.binary("max", a, b), _core.binary("min", a, b)
    ratio = small / _core.where(_core.binary("eq", big, 0.0), 1.0, big)
    length = big * _core.unary("sqrt", ratio * ratio + 1.0)
    return _core.where(_core.unary("isinf", big), math.inf, length)


@op
def logaddexp(x1, x2):
    """log(exp(x1) + exp(x2)) without overflow."""
    x1, x2 = as_float(x1), as_float(x2)
    same = _core.binary("eq", x1, x2)  # both may be the same infinity, whose difference is NaN
    gap = _core.where(same, 0.0, _core.unary("abs", x1 - x2))
    soft = _core.binary("max", x1, x2) + _core.unary("log1p", _core.unary("exp", -gap))
    return _core.where(same, x1 + _LN2, soft)


@op
def logaddexp2(x1, x2):
    """log2(2**x1 + 2**x2) without overflow."""
    return logaddexp(as_float(x1) * _LN2, as_float(x2) * _LN2) / _LN2


@op
def heaviside(x1, x2):
    """0 where x1 < 0, x2 where x1 is 0, 1 where x1 > 0, NaN where x1 is NaN."""
    x1 = as_float(x1)
    step = _core.cast(_core.binary("gt", x1, 0.0), x1.dtype)
    step = _core.where(_core.binary("eq", x1, 0.0), tensors(x2)[0], step)
    return _core.where(_core.unary("isnan", x1), x1, step)


@op
def ldexp(x1, x2):
    """x1 * 2**x2 for integers x2."""
    x1, x2 = as_float(x1), tensor(x2)
    if "float" in x2.dtype:
        raise TypeError(f"ldexp exponent must be an integer type. Received: x2 dtype={x2.dtype}")
    half = _core.binary("floordiv", x2, 2)  # two factors: 2**x2 alone may overflow where the product does not
    rest = _core.binary("sub", x2, half)
    return (
        x1
        * _core.binary("pow", 2.0, _core.cast(half, x1.dtype))
        * _core.binary("pow", 2.0, _core.cast(rest, x1.dtype))
    )


@op
def gcd(x1, x2):
    """Greatest common divisor of integers (Euclid)."""
    a, b = (_core.unary("abs", tensor(x)) for x in _whole("gcd", x1, x2))
    dtype = _core.promote(a, b)
    # Fibonacci numbers are Euclid's worst case: log(2**bits) / log(golden ratio) steps.
    steps = int(_bits(dtype) * 1.45) + 1
    for _ in range(steps):
        zero = _core.binary("eq", b, 0)
        if not is_symbolic(zero) and bool(_core.reduce("all", zero)):
            break
        rest = _core.binary("mod", a, _core.where(zero, 1, b))
        a, b = _core.where(zero, a, b), _core.where(zero, 0, rest)
    return a


@op
def lcm(x1, x2):
    """Least common multiple of integers."""
    x1, x2 = (tensor(x) for x in _whole("lcm", x1, x2))
    divisor = gcd(x1, x2)
    safe = _core.where(_core.binary("eq", divisor, 0), 1, divisor)
    return _core.unary("abs", _core.binary("mul", _core.binary("floordiv", x1, safe), x2))


def _bits(dtype):
    return 8 if dtype == "bool" else int("".join(c for c in dtype if c.isdigit()))


@op
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """|x1 - x2| <= atol + rtol * |x2|; infinities are close only to themselves."""
    x1, x2 = as_float(x1), as_float(x2)
    same = _core.binary("eq", x1, x2)
    finite = _core.binary("and", _core.unary("isfinite", x1), _core.unary("isfinite", x2))
    near = _core.binary("le", _core.unary("abs", x1 - x2), _core.unary("abs", x2) * rtol + atol)
    close = _core.binary("or", same, _core.binary("and", finite, near))
    if equal_nan:
        close = _core.binary(
            "or", close, _core.binary("and", _core.unary("isnan", x1), _core.unary("isnan", x2))
        )
    return close


@op
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Are all elements close (see `isclose`)? A boolean scalar."""
    return _core.reduce("all", isclose(x1, x2, rtol, atol, equal_nan))


@op
def where(condition, x1=None, x2=None):
    """x1 where `condition` is non-zero, else x2. With the condition alone: the indices of its non-zero
    elements, as `nonzero`.
    """
    if x1 is None and x2 is None:
        from lamina.ops.numpy.searching import nonzero

        return nonzero(condition)
    if x1 is None or x2 is None:
        raise ValueError("`x1` and `x2` both must be given, or neither.")
    return _core.where(_truth(condition), *tensors(x1, x2))


@op
def select(condlist, choicelist, default=0):
    """For each element the choice of the first condition that holds, else `default`."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"`condlist` and `choicelist` must have the same length, at least 1. "
            f"Received: {len(condlist)} and {len(choicelist)}."
        )
    result = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        result = _core.where(_truth(condition), *tensors(choice, result))
    return result


# Real numbers as complex ones whose imaginary part is zero: there are no complex dtypes here.
@op
def conjugate(x):
    """The complex conjugate: x itself, for there are real numbers only."""
    return tensor(x)


conj = conjugate


@op
def real(x):
    """The real part: x itself."""
    return tensor(x)


@op
def imag(x):
    """The imaginary part: zeros."""
    return _core.full_like(tensor(x), 0)


@op
def isreal(x):
    """True everywhere: there are real numbers only."""
    return _core.full_like(tensor(x), 1, "bool")


@op
def angle(x):
    """The argument of a real number: 0 from zero up, pi below."""
    x = as_float(x)
    return _core.where(_core.binary("lt", x, 0.0), math.pi, _core.full_like(x, 0.0))


__all__ = exports(globals())
