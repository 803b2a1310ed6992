"""`Variable`: the only thing that changes.

Weights, optimizer slots, metric sums, seeds and counters are variables.
"""

import functools
import math
import os

import numpy as np

from lamina import _core
from lamina.backend import standardize_dtype, standardize_shape
from lamina.engine.keras_tensor import install_operators
from lamina.engine.naming import auto_name
from lamina.engine.scope import current_path, state
from lamina.errors import ShapeError

_BYTES = {"float64": 8, "int64": 8, "uint64": 8, "bool": 1, "int8": 1, "uint8": 1} | dict.fromkeys(
    ("float16", "bfloat16", "int16", "uint16"), 2
)
_AGGREGATIONS = (None, "none", "mean", "sum", "only_first_replica")
_SYNCHRONIZATIONS = (None, "none", "on_read", "on_write", "auto")


class Variable(_core.VariableState):
    """A tensor that can be assigned to; its shape and dtype are fixed.

    Args:
        initializer: its value, or a callable `f(shape, dtype=...)`, or the name of an initializer.
        shape: needed with a callable or a name; fully known.
        dtype: default: the value's own, or `floatx`.
        trainable: whether training may change it.
        autocast: whether a mixed-precision layer reads it in its compute dtype.
        name: made up when not given; without `/`.

        v = lamina.Variable([1.0, 2.0])
        v.assign_add([1.0, 1.0])

    Inside a compiled function an assignment is recorded and happens each time the function runs.
    """

    def __new__(cls, initializer=None, shape=None, dtype=None, *_, **__):
        value, dtype = _initial_value(initializer, shape, dtype)
        return super().__new__(cls, value, dtype)

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable=True,
        autocast=True,
        aggregation="none",
        synchronization="auto",
        name=None,
        **kwargs,
    ):
        name = name or auto_name(type(self).__name__)
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                f"Argument `name` must be a string and cannot contain character `/`. Received: name={name}"
            )
        if aggregation not in _AGGREGATIONS:
            raise ValueError(
                "Invalid value for argument `aggregation`. Expected one of `None`, `'none'`, `'mean'`, "
                f"`'sum'`, `'only_first_replica'`. Received: aggregation={aggregation}"
            )
        if synchronization not in _SYNCHRONIZATIONS:
            raise ValueError(
                "Invalid value for argument `synchronization`. Expected one of `None`, `'none'`, "
                f"`'on_read'`, `'on_write'`, `'auto'`. Received: synchronization={synchronization}"
            )
        parent = current_path()
        self._name, self._path = name, f"{parent}/{name}" if parent else name
        self._trainable, self._autocast = bool(trainable), bool(autocast)
        self._aggregation, self._synchronization = aggregation or "none", synchronization or "none"
        self._regularizer = self._constraint = None
        self.overwrite_with_gradient = False

    @property
    def value(self):
        """The tensor that it holds now (inside a trace: a symbolic tensor), cast where autocast asks for
        it.
        """
        value = None
        if state.stateless is not None:
            value = state.stateless.get_current_value(self)
        if value is None:
            value = self.state_value
        return state.autocast.maybe_cast(value) if state.autocast is not None and self._autocast else value

    def assign(self, value):
        """Replaces the value by one of the same shape; it is cast to the variable's dtype."""
        value = self._converted(value)
        if tuple(value.shape) != self.shape and not _compatible(value.shape, self.shape):
            raise ValueError(
                "The shape of the target variable and the shape of the target value in "
                f"`variable.assign(value)` must match. variable.shape={self.shape}, Received: "
                f"value.shape={tuple(value.shape)}. Target variable: {self.path}"
            )
        if state.stateless is not None:
            state.stateless.add_update((self, value))
        else:
            self.state_assign(value)
        return value

    def assign_add(self, value):
        """Adds `value`."""
        return self.assign(self + value)

    def assign_sub(self, value):
        """Subtracts `value`."""
        return self.assign(self - value)

    def _converted(self, value):
        if isinstance(value, Variable):
            value = value.value
        own = _core.VariableState.dtype.__get__(self)
        if isinstance(value, (_core.Tensor, _core.SymbolicTensor)):
            return value if value.dtype == own else _core.cast(value, own)
        return _core.tensor(value, own)

    @property
    def dtype(self):
        """Name of the dtype; inside a mixed-precision layer, the dtype in which it is read."""
        own = _core.VariableState.dtype.__get__(self)
        scope = state.autocast
        return scope.dtype if scope is not None and scope.dtype and self._autocast and "float" in own else own

    @property
    def ndim(self):
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self):
        """Number of elements."""
        size = 1
        for d in self.shape:
            size *= d
        return size

    @property
    def name(self):
        """Its own name, such as `kernel`."""
        return self._name

    @property
    def path(self):
        """Its name with those of the layers around it, such as `sequential/dense/kernel`."""
        return self._path

    @property
    def trainable(self):
        """Whether training may change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        self._trainable = bool(value)

    @property
    def autocast(self):
        """Whether a mixed-precision layer reads it in its compute dtype."""
        return self._autocast

    @property
    def aggregation(self):
        """Accepted and kept; there is one replica."""
        return self._aggregation

    @property
    def synchronization(self):
        """Accepted and kept; there is one replica."""
        return self._synchronization

    @property
    def regularizer(self):
        """A callable that gives a penalty for the value, or `None`."""
        return self._regularizer

    @regularizer.setter
    def regularizer(self, value):
        self._regularizer = _callable_or_none("regularizer", value)

    @property
    def constraint(self):
        """A callable that is applied to the value after each update, or `None`."""
        return self._constraint

    @constraint.setter
    def constraint(self, value):
        self._constraint = _callable_or_none("constraint", value)

    def numpy(self):
        """The value as a numpy array that does not change with the variable."""
        return np.array(self.value)

    def __array__(self, dtype=None, copy=None):
        array = np.asarray(self.value)
        if dtype is not None:
            array = array.astype(dtype, copy=False)
        return np.array(array) if copy else array

    __array_priority__ = 100  # `array + variable` is the variable's business

    def __getitem__(self, key):
        return self.value[key]

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of a variable with no axes")
        return self.shape[0]

    def __int__(self):
        return int(self._scalar())

    def __float__(self):
        return float(self._scalar())

    def _scalar(self):
        if self.ndim > 0:
            raise TypeError(f"Only scalar arrays can be converted to Python scalars. Got: shape={self.shape}")
        return self.value

    def __bool__(self):
        raise TypeError("A Keras Variable cannot be used as a boolean.")

    def __hash__(self):
        return id(self)

    def __round__(self, ndigits=None):
        from lamina import ops

        return ops.round(self.value, decimals=ndigits or 0)

    def __repr__(self):
        value = "" if _core.Graph.is_open() else f", value={self.numpy()}"
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}{value}>"

    def __reduce_ex__(self, protocol):
        return _revive, (
            type(self),
            self.numpy(),
            _core.VariableState.dtype.__get__(self),
            dict(self.__dict__),
        )


def _revive(cls, value, dtype, attributes):
    variable = cls.__new__(cls, value, None, dtype)
    variable.__dict__.update(attributes)
    return variable


def _callable_or_none(attribute, value):
    if value is not None and not callable(value):
        raise ValueError(
            f"Invalid value for attribute `{attribute}`. Expected a callable or `None`. Received: "
            f"{attribute}={value}"
        )
    return value


def _compatible(a, b):
    return len(a) == len(b) and all(i is None or j is None or i == j for i, j in zip(a, b, strict=True))


def _refuse_too_large(shape, dtype):
    """A weight that the memory of the machine cannot hold is a wrong shape, said before it is allocated."""
    needed = math.prod(shape) * _BYTES.get(dtype, 4)
    if needed > _memory():
        raise ShapeError(
            f"A weight of shape {shape} takes {needed / 1e9:,.0f} GB, and this machine has "
            f"{_memory() / 1e9:,.0f} GB of memory.",
            expected="weights that fit into memory",
            cause="a layer's weights grow with the last axis of its input times its units"
            if len(shape) == 2
            else None,
            fix="fewer units, or pooling and strides before `Flatten`" if len(shape) == 2 else None,
            trail=True,
        )


@functools.cache
def _memory():
    """Bytes of memory that the machine has; without bound where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _initial_value(initializer, shape, dtype):
    """The first value as something the engine takes, and its dtype."""
    if isinstance(initializer, str):
        from lamina import initializers

        initializer = initializers.get(initializer)
    if callable(initializer) and not isinstance(initializer, (Variable, _core.Tensor)):
        if shape is None:
            raise ValueError(
                "When creating a Variable from an initializer, the `shape` argument should be specified. "
                f"Received: initializer={initializer} and shape={shape}"
            )
        dtype, shape = standardize_dtype(dtype), standardize_shape(shape)
        if None in shape:
            raise ValueError(
                "Shapes used to initialize variables must be fully-defined (no `None` dimensions). Received: "
                f"shape={shape}"
            )
        _refuse_too_large(shape, dtype)
        value = _core.full(shape, 0, dtype) if state.abstract else initializer(shape, dtype=dtype)
    else:
        value = initializer
    if isinstance(value, Variable):
        value = value.value
    if not isinstance(value, (_core.Tensor, _core.SymbolicTensor)):
        value = _core.tensor(value, None if dtype is None else standardize_dtype(dtype))
    if isinstance(value, _core.SymbolicTensor):
        raise ValueError(
            "A variable cannot start as a symbolic value: it is made while a function is traced. Create "
            "variables in `__init__()` or `build()`."
        )
    dtype = standardize_dtype(dtype or value.dtype)
    if shape is not None and tuple(value.shape) != standardize_shape(shape):
        raise ValueError(
            f"The initial value has shape {tuple(value.shape)}; the variable was to have {tuple(shape)}."
        )
    return (value if value.dtype == dtype else _core.cast(value, dtype)), dtype


install_operators(Variable, lambda self: self.value)
