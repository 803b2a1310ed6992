"""Dtypes, shapes and the small shared vocabulary of layers, as in `keras.backend`."""

from lamina.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
    standardize_data_format,
)

DTYPES = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
_PYTHON = {bool: "bool", int: "int32", float: "float32", "int": "int32", "float": "float32"}
_LAZY = {
    "KerasTensor": "lamina.engine.keras_tensor",
    "is_keras_tensor": "lamina.engine.keras_tensor",
    "get_keras_mask": "lamina.engine.keras_tensor",
    "set_keras_mask": "lamina.engine.keras_tensor",
    "Variable": "lamina.engine.variable",
    "name_scope": "lamina.engine.scope",
    "AutocastScope": "lamina.engine.scope",
    "get_autocast_scope": "lamina.engine.scope",
    "StatelessScope": "lamina.engine.scope",
    "in_stateless_scope": "lamina.engine.scope",
    "clear_session": "lamina.engine.naming",
    "get_uid": "lamina.engine.naming",
    "compute_output_spec": "lamina.engine.trace",
    "cast": "lamina.ops",
    "convert_to_numpy": "lamina.ops",
    "convert_to_tensor": "lamina.ops",
    "is_tensor": "lamina.ops",
    "shape": "lamina.ops",
    "SeedGenerator": "lamina.random",
}
__all__ = [
    "DTYPES",
    "backend",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_data_format",
    "standardize_dtype",
    "standardize_shape",
    *_LAZY,
]


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module 'lamina.backend' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def standardize_dtype(dtype):
    """A dtype's name; `None` means `floatx()`. Accepts names, Python types and numpy's dtypes and their like.

    Raises `ValueError` for anything else.
    """
    if dtype is None:
        return floatx()
    if type(dtype) is str and dtype in DTYPES:
        return dtype
    known = _PYTHON.get(dtype) if isinstance(dtype, (str, type)) else None
    name = known or getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    name = name.rsplit(".", 1)[-1]  # torch.float32
    if name not in DTYPES:
        raise ValueError(f"Invalid dtype: {dtype}")
    return name


def is_float_dtype(dtype):
    """Whether a dtype holds floating-point numbers."""
    return "float" in standardize_dtype(dtype)


def is_int_dtype(dtype):
    """Whether a dtype holds integers (bool does not count)."""
    return "int" in standardize_dtype(dtype)


def result_type(*dtypes):
    """The dtype of an operation over operands of these dtypes; Python's `int` and `float` are weak.

    >>> result_type("int32", "float16"), result_type("float16", float)
    ('float16', 'float16')
    """
    from lamina.engine import runtime

    return runtime.result_type(*dtypes)


def standardize_shape(shape):
    """A shape as a tuple of ints and `None`s.

    Raises `ValueError` for `None`, numbers, negative axes and axes that are not integers.
    """
    if shape is None:
        raise ValueError("Undefined shapes are not supported.")
    if not hasattr(shape, "__iter__"):
        from lamina.errors import ShapeError

        a_number = isinstance(shape, int)
        raise ShapeError(
            f"Cannot convert '{shape}' to a shape.",
            got=repr(shape),
            expected="a tuple of axis lengths",
            cause=f"`({shape})` is the integer {shape}: a tuple of one element needs a comma"
            if a_number
            else None,
            fix=f"`({shape},)`" if a_number else None,
        )
    return tuple(None if d is None else _axis_length(d, shape) for d in shape)


def _axis_length(d, shape):
    if type(d) is not int:
        try:
            if isinstance(d, (str, float)):
                raise TypeError
            d = int(d)
        except (TypeError, ValueError):
            raise ValueError(
                f"Cannot convert '{shape}' to a shape. Found invalid dimension '{d}' of type '{type(d)}'."
            ) from None
    if d < 0:
        raise ValueError(f"Cannot convert '{shape}' to a shape. Negative dimensions are not allowed.")
    return d
