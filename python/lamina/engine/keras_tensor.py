"""`KerasTensor`: a shape, a dtype and the call that would produce it.

The functional API is written with these.
"""

from lamina.backend import standardize_dtype, standardize_shape
from lamina.engine.naming import auto_name

_PLACEHOLDER = (
    "A KerasTensor is symbolic: it's a placeholder for a shape and a dtype. It doesn't have any actual "
    "numerical value."
)


class KerasTensor:
    """Stands for a tensor that has no value yet.

    Args:
        shape: tuple of ints and `None`s, the batch axis included.
        dtype: name of a dtype; `None` means `floatx`.
        sparse, ragged: accepted as `False` only: lamina has dense tensors.
        record_history: whether calls on this tensor are kept for building a model.
        name: made up when not given.

    Every operator and every function of `lamina.ops` applies to it; numpy functions do not, and say so.
    """

    def __init__(self, shape, dtype=None, sparse=False, ragged=False, record_history=True, name=None, **_):
        if sparse or ragged:
            raise ValueError("lamina has dense tensors only: `sparse` and `ragged` must be False.")
        self._shape = standardize_shape(shape)
        self._dtype = standardize_dtype(dtype)
        self.name = name or auto_name("keras_tensor")
        self.record_history = record_history

    sparse = ragged = False

    @property
    def shape(self):
        """Tuple of ints and `None`s."""
        return self._shape

    @property
    def dtype(self):
        """Name of the dtype."""
        return self._dtype

    @property
    def ndim(self):
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self):
        """Number of elements, or `None` while an axis is unknown."""
        size = 1
        for d in self._shape:
            if d is None:
                return None
            size *= d
        return size

    @property
    def T(self):
        """The transpose."""
        return _ops().transpose(self)

    def reshape(self, *newshape):
        """As `lamina.ops.reshape`; takes a shape or its axes."""
        return _ops().reshape(self, newshape[0] if len(newshape) == 1 else newshape)

    def squeeze(self, axis=None):
        """As `lamina.ops.squeeze`."""
        return _ops().squeeze(self, axis)

    def astype(self, dtype):
        """As `lamina.ops.cast`."""
        return _ops().cast(self, dtype)

    def __repr__(self):
        kind = f"shape={self.shape}, dtype={self.dtype}, sparse=False, ragged=False"
        return f"<KerasTensor {kind}, name={self.name}>"

    def __hash__(self):
        return id(self)

    def __getitem__(self, key):
        return _ops().get_item(self, key)

    def __iter__(self):
        raise NotImplementedError("Iterating over a symbolic KerasTensor is not supported.")

    def __len__(self):
        raise TypeError(f"{_PLACEHOLDER} Use `x.shape` for its axes.")

    def __bool__(self):
        raise TypeError(
            "A symbolic KerasTensor cannot be used as a boolean. Use `lamina.ops.where` or `lamina.ops.cond` "
            "in place of `if`."
        )

    def __int__(self):
        raise TypeError(f"{_PLACEHOLDER} It cannot become an int.")

    def __float__(self):
        raise TypeError(f"{_PLACEHOLDER} It cannot become a float.")

    def __array__(self, *_, **__):
        raise ValueError(
            f"{_PLACEHOLDER} You cannot convert it to a NumPy array: use the functions of `lamina.ops` on "
            "it, or a `lamina.layers.Lambda`."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        # numpy asks here for `array + keras_tensor` too: those operators are ours. The rest is a user's
        # `np.exp(x)`.
        name = _UFUNC_OPERATORS.get(ufunc.__name__)
        if name is None or method != "__call__" or kwargs:
            raise TypeError(_numpy_message(f"np.{ufunc.__name__}", ufunc.__name__))
        return getattr(_ops(), name)(*inputs)

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError(_numpy_message(f"np.{func.__name__}", func.__name__))

    def __round__(self, ndigits=None):
        return _ops().round(self, decimals=ndigits or 0)


def _numpy_message(called, name):
    instead = f"`lamina.ops.{name}`" if name in vars(_ops()) else "the functions of `lamina.ops`"
    return (
        f"`{called}` was called on a symbolic tensor. {_PLACEHOLDER} numpy cannot compute with it: "
        f"use {instead}."
    )


_UFUNC_OPERATORS = {
    "add": "add",
    "subtract": "subtract",
    "multiply": "multiply",
    "divide": "true_divide",
    "true_divide": "true_divide",
    "floor_divide": "floor_divide",
    "remainder": "mod",
    "power": "power",
    "matmul": "matmul",
    "equal": "equal",
    "not_equal": "not_equal",
    "less": "less",
    "less_equal": "less_equal",
    "greater": "greater",
    "greater_equal": "greater_equal",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
}
UNARY_OPERATORS = {"neg": "negative", "abs": "absolute", "invert": "logical_not"}
BINARY_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "mod",
    "pow": "power",
    "matmul": "matmul",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def install_operators(cls, operand=None):
    """Gives `cls` Python's operators through `lamina.ops`; `operand(self)` takes part, by default itself."""

    def itself(x):
        return x

    operand = operand or itself

    def unary(name):
        return lambda self: getattr(_ops(), name)(operand(self))

    def binary(name):
        return lambda self, other: getattr(_ops(), name)(operand(self), other)

    def reflected(name):
        return lambda self, other: getattr(_ops(), name)(other, operand(self))

    for python, name in UNARY_OPERATORS.items():
        setattr(cls, f"__{python}__", unary(name))
    for python, name in (BINARY_OPERATORS | COMPARISONS).items():
        setattr(cls, f"__{python}__", binary(name))
    for python, name in BINARY_OPERATORS.items():
        setattr(cls, f"__r{python}__", reflected(name))
    cls.__pos__ = operand


def _ops():
    from lamina import ops

    return ops


install_operators(KerasTensor)
# As in Keras, `==` on KerasTensors asks whether they are the same one: `lamina.ops.equal` compares values.
KerasTensor.__eq__ = object.__eq__


def is_keras_tensor(x):
    """Whether `x` is a `KerasTensor`."""
    return isinstance(x, KerasTensor)


def any_symbolic_tensors(args=(), kwargs=None):
    """Whether a `KerasTensor` is among the arguments, inside lists, tuples and dicts too."""
    # On the path of every op: plain loops.
    for x in args:
        if isinstance(x, _LOOK_INTO) and _holds(x):
            return True
    if kwargs:
        for x in kwargs.values():
            if isinstance(x, _LOOK_INTO) and _holds(x):
                return True
    return False


_LOOK_INTO = (KerasTensor, list, tuple, dict)


def _holds(x):
    if isinstance(x, KerasTensor):
        return True
    return any_symbolic_tensors(x.values() if isinstance(x, dict) else x)


def get_keras_mask(x):
    """The mask that travels with a tensor, or `None`."""
    return getattr(x, "_keras_mask", None)


def set_keras_mask(x, mask):
    """Attaches a mask (a boolean tensor) to a tensor."""
    x._keras_mask = mask
