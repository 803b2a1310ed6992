"""The arguments of a layer call: which are tensors, how they are converted, and the shapes that `build`
gets.
"""

import functools
import inspect

import numpy as np

from lamina import ops, tree
from lamina.backend import standardize_dtype, standardize_shape
from lamina.engine.keras_tensor import KerasTensor, get_keras_mask
from lamina.engine.trace import is_concrete
from lamina.engine.variable import Variable


class CallInfo:
    """What the signature of a `call` method says."""

    def __init__(self, function):
        parameters = list(inspect.signature(function).parameters.values())[1:]
        self.names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.parameters = {p.name: p for p in parameters}
        self.has_training = "training" in self.parameters
        self.has_mask = "mask" in self.parameters
        self.rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.mask_names = [n for n in self.parameters if n.endswith("_mask")]
        default = self.parameters["training"].default if self.has_training else None
        self.training_default = None if default is inspect.Parameter.empty else default

    def bind(self, args, kwargs):
        """The given arguments by name, without defaults."""
        bound = dict(zip(self.names, args, strict=False))
        if self.rest and len(args) > len(self.names):
            bound[self.rest] = args[len(self.names) :]
        return {**bound, **kwargs}


@functools.cache
def call_info(function):
    """`CallInfo`, made once per function."""
    return CallInfo(function)


def is_tensor(x):
    """A tensor of any kind, a `KerasTensor` included."""
    return isinstance(x, KerasTensor) or ops.is_tensor(x)


def is_array(x):
    """A tensor with values and without a mask, or a numpy array of numbers."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "fiub"
    return is_concrete(x) and get_keras_mask(x) is None


def is_tensors(x):
    """A tensor, or a nonempty structure of tensors and `None`s with a tensor in it."""
    if not tree.is_nested(x):
        return is_tensor(x)
    leaves = tree.flatten(x)
    return any(is_tensor(e) for e in leaves) and all(e is None or is_tensor(e) for e in leaves)


def convert(x, dtype, autocast):
    """An argument as a tensor; floats are cast to `dtype` where `autocast` is on.

    What is no data stays as it is.
    """
    if isinstance(x, KerasTensor) or x is None:
        return x
    if isinstance(x, Variable):
        x = x.value
    elif not ops.is_tensor(x):
        if not hasattr(x, "__array__"):
            return x
        x = ops.convert_to_tensor(_numeric(x))
    if autocast and x.dtype != dtype and "float" in x.dtype:
        mask = get_keras_mask(x)
        x = ops.cast(x, dtype)
        if mask is not None:
            x._keras_mask = mask
    return x


def _numeric(x):
    from lamina.trainers.arrays import as_array

    array = x if hasattr(x, "dtype") else np.asarray(x)
    if str(array.dtype) == "object" or getattr(array.dtype, "kind", "") in "SU":
        return as_array(
            array, "inputs"
        )  # numbers among objects, or an error that names the first that is none
    return array


def convert_numbers(x):
    """Nested lists of numbers as one array; anything else as it is."""
    if not isinstance(x, (list, tuple)) or not x:
        return x
    leaves = tree.flatten(x)
    if not all(isinstance(e, (int, float, np.generic)) for e in leaves):
        return x
    from lamina.trainers.arrays import as_array

    array = as_array(x, "inputs")
    return array.astype(standardize_dtype(None)) if array.dtype.kind == "f" else array


def masks_of(x):
    """The masks of a tensor or of a structure of tensors."""
    return tree.map_structure(get_keras_mask, x) if tree.is_nested(x) else get_keras_mask(x)


def any_mask(masks):
    """Whether there is a mask in a structure of masks."""
    return any(m is not None for m in tree.flatten(masks)) if tree.is_nested(masks) else masks is not None


def shapes_of(arguments):
    """`{"inputs_shape": (None, 3)}` for the tensors among named arguments; masks are left out."""

    def shape(x):
        return None if x is None else standardize_shape(x.shape)

    return {
        f"{name}_shape": tree.map_structure(shape, value)
        for name, value in arguments.items()
        if name not in ("mask", "args", "kwargs") and is_tensors(value)
    }


def shapes_for(method, shapes, info, class_name):
    """The keyword arguments of `method` (`build` or `compute_output_shape`), out of the shapes of a call.

    A method with one argument gets the first shape; one with several gets each by name: `foo_shape` is that
    of `foo`.
    """
    parameters = inspect.signature(method).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(names) == 1:
        return {names[0]: next(iter(shapes.values()), None)}
    rule = (
        f"For a `{method.__name__}()` method with more than one argument, all arguments should have a "
        f"`_shape` suffix and match an argument from `call()`. E.g. `{method.__name__}(self, foo_shape, "
        f"bar_shape)`. For layer '{class_name}', received `{method.__name__}()` argument "
    )
    for name in names:
        argument = name.removesuffix("_shape")
        if argument == name:
            raise ValueError(f"{rule}`{name}`, which does not end in `_shape`.")
        if argument not in info.parameters:
            raise ValueError(f"{rule}`{name}`, but `call()` does not have argument `{argument}`.")
    return {name: shapes[name] for name in names if name in shapes}


def default(method):
    """Marks a method of `Layer` that a subclass may replace."""
    method.is_default = True
    return method


def is_default(method):
    """Whether a method is the one of `Layer`."""
    return getattr(method, "is_default", False)
