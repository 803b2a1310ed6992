"""Settings of the Rust engine, for modules that must not call it themselves."""

from lamina import _core


def set_floatx(dtype):
    """Tells the engine which dtype Python floats become."""
    _core.set_floatx(dtype)


def set_num_threads(n):
    """Sets how many threads the engine may use. Results do not depend on it."""
    _core.set_num_threads(int(n))


def num_threads():
    """How many threads the engine uses."""
    return _core.num_threads()


def isa():
    """The instruction set that the kernels run on, such as `"avx512"` or `"amx"`."""
    return _core.isa()


def result_type(*dtypes):
    """The dtype that operands of these dtypes promote to; `int`, `float` and `bool` (the types) are weak."""
    from lamina.backend import standardize_dtype

    weak = {int: 0, float: 0.0, bool: False}
    return _core.promote(
        *[weak[d] if isinstance(d, type) and d in weak else standardize_dtype(d) for d in dtypes]
    )
