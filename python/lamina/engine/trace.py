"""Tracing: running Python once on symbolic values, to learn output shapes (`infer`) or to get a compiled
function.
"""

import contextlib
import operator
import threading
from collections import OrderedDict

import numpy as np

from lamina import _core, tree
from lamina.engine import scope
from lamina.engine.keras_tensor import KerasTensor, get_keras_mask
from lamina.engine.scope import state
from lamina.engine.variable import Variable


class ConcreteShapeNeeded(Exception):
    """Raised while tracing by code that needs the number behind an unknown axis.

    The tracer then traces at known sizes.
    """


# ---------------------------------------------------------------------------------------- shape inference

# `np.exp` of a symbolic value says which op to use; `array + value` is ours, as for KerasTensors.
_core.SymbolicTensor.__array_ufunc__ = KerasTensor.__array_ufunc__
_core.SymbolicTensor.__array_function__ = KerasTensor.__array_function__

# Where an unknown axis is asked for its size, inference runs at both: an output axis that differs is unknown.
_PROBES = (83, 89)


def infer(fn, args=(), kwargs=None):
    """The outputs of `fn` with KerasTensors for tensors; nothing is computed.

    Args:
        fn: computes with tensors.
        args, kwargs: its arguments, KerasTensors among them (in lists, tuples, dicts too).
    """
    kwargs = kwargs or {}
    try:
        return _infer_at(fn, args, kwargs, None)
    except ConcreteShapeNeeded:
        first, second = (_infer_at(fn, args, kwargs, size) for size in _PROBES)
        return tree.map_structure(_merge, first, second)


def compute_output_spec(fn, *args, **kwargs):
    """As `infer`, with the arguments spelled out."""
    return infer(fn, args, kwargs)


def trace(fn, *specs):
    """The outputs of `fn(*specs)` as KerasTensors.

    A spec is anything with a `shape` and a `dtype`, or a shape.
    """

    def as_keras_tensor(spec):
        if isinstance(spec, KerasTensor) or spec is None:
            return spec
        return KerasTensor(spec.shape, spec.dtype) if hasattr(spec, "shape") else KerasTensor(spec)

    return infer(fn, tree.map_shape_structure(as_keras_tensor, list(specs)))


def _infer_at(fn, args, kwargs, size):
    symbols = {}

    def enter(x):
        if not isinstance(x, KerasTensor):
            return x
        if id(x) not in symbols:
            dims = [size if d is None else d for d in x.shape] if size else x.shape
            symbols[id(x)] = value = graph.input(dims, x.dtype, x.name)
            if get_keras_mask(x) is not None:
                value._keras_mask = enter(x._keras_mask)
        return symbols[id(x)]

    with scope.flag("inferring"), scope.flag("shapes_only"), _core.Graph() as graph:
        outputs = fn(*tree.map_structure(enter, args), **tree.map_structure(enter, kwargs))
        return tree.map_structure(_leave, outputs)


def _leave(x):
    if not hasattr(x, "shape") or isinstance(x, KerasTensor):
        return x
    spec = KerasTensor(tuple(x.shape), x.dtype)
    mask = get_keras_mask(x)
    if mask is not None:
        spec._keras_mask = _leave(mask)
    return spec


def _merge(a, b):
    if not isinstance(a, KerasTensor):
        return a
    if a.ndim != b.ndim:
        raise ValueError(
            f"The number of axes of an output depends on the size of an axis: {a.shape} and {b.shape}."
        )
    merged = KerasTensor([i if i == j else None for i, j in zip(a.shape, b.shape, strict=True)], a.dtype)
    if get_keras_mask(a) is not None:
        merged._keras_mask = _merge(a._keras_mask, b._keras_mask)
    return merged


# -------------------------------------------------------------------------------------------- compilation

_tracing = threading.RLock()
_VARIANTS = 64  # traces kept per function, the least recently used leaves first


def compile_function(fn, static_batch=False):
    """`fn` as one call of the engine.

    It is traced once per structure, dtypes and shapes of its arguments, with the first axis of every array
    unknown.

    Args:
        fn: takes and returns nested structures of tensors. Variables that it assigns are updated when it
            runs. Other side effects happen only while it is traced.
        static_batch: keep the first axis known too (a model with a fixed batch size).

    `None`, strings, booleans and other objects among the arguments are constants: each value has its own
        trace.
    Python numbers are data.
    """
    return CompiledFunction(fn, static_batch)


class CompiledFunction:
    """What `compile_function` returns.

    Runs `fn` as it is while a tape records, inside another trace, or when eager.
    """

    def __init__(self, fn, static_batch=False):
        self.fn, self.static_batch = fn, static_batch
        self._variants = OrderedDict()
        self._needs_sizes = False

    def __call__(self, *args):
        """The outputs of `fn(*args)`, as tensors."""
        if state.eager or state.tapes or _core.Graph.is_open():
            return self.fn(*args)
        inputs, traced = self.lookup(args)
        return traced.pack(traced.function(*inputs))

    def call_numpy(self, *args):
        """The outputs of `fn(*args)`, as numpy arrays."""
        if state.eager:
            return tree.map_structure(_as_numpy, self.fn(*args))
        inputs, traced = self.lookup(args)
        return tree.map_structure(_as_numpy, traced.pack(traced.function.call_numpy(*inputs)))

    def only_function(self):
        """The engine's function, where there has been one trace, of one array, that fits any batch."""
        traces = list(self._variants.values())
        alone = len(traces) == 1 and not (self._needs_sizes or self.static_batch)
        return traces[0].function if alone else None

    def lookup(self, args):
        """The flat inputs and the trace that fits `args`, made now if need be."""
        inputs = []
        key = tuple([self._key(a, inputs) for a in args])
        traced = self._variants.get(key)
        if traced is None:
            with _tracing:
                traced = self._variants.get(key) or self._trace(args, inputs, key)
        elif len(self._variants) > 1:
            with contextlib.suppress(KeyError):  # another thread evicted it: the trace in hand is still good
                self._variants.move_to_end(key)
        return inputs, traced

    def _key(self, x, inputs):
        """What of an argument decides the trace; appends its arrays to `inputs`."""
        kind = type(x)
        if kind is _core.Tensor or kind is np.ndarray:
            inputs.append(x)
            shape = x.shape
            if not (self.static_batch or self._needs_sizes):
                shape = (None, *shape[1:]) if shape else shape
            return shape, x.dtype
        if kind is list or kind is tuple:
            return kind, tuple([self._key(e, inputs) for e in x])
        if isinstance(x, dict):
            keys = tuple(k for k, _ in tree._items(x))
            return kind, keys, tuple([self._key(x[k], inputs) for k in keys])
        if isinstance(x, (list, tuple)):
            return kind, tuple([self._key(e, inputs) for e in x])
        if isinstance(x, (int, float, np.generic)) and not isinstance(x, bool):
            return self._key(_core.tensor(x), inputs)
        if isinstance(x, Variable):
            return id(x)
        if hasattr(x, "__array__"):
            return self._key(_core.tensor(x), inputs)
        return x

    def _trace(self, args, inputs, key):
        try:
            traced = _Trace(self.fn, args, inputs, self.static_batch or self._needs_sizes)
        except ConcreteShapeNeeded:
            if self._needs_sizes or self.static_batch:
                raise
            # The body depends on a size that was left unknown: from now on every shape has a trace of its
            # own.
            self._needs_sizes = True
            self._variants.clear()
            inputs.clear()
            key = tuple([self._key(a, inputs) for a in args])
            traced = _Trace(self.fn, args, inputs, True)
        self._variants[key] = traced
        while len(self._variants) > _VARIANTS:
            self._variants.popitem(last=False)
        return traced


class _Trace:
    """One trace: the engine's function, and how to rebuild the structure of the outputs."""

    def __init__(self, fn, args, inputs, known):
        arrays = iter(inputs)
        with scope.fresh(), _core.Graph() as graph:

            def enter(x):
                if isinstance(x, Variable) or not _is_data(x):
                    return x
                array = next(arrays)
                shape = tuple(array.shape)
                return graph.input(shape if known or not shape else (None, *shape[1:]), str(array.dtype))

            outputs = fn(*tree.map_structure(enter, args))
            values = []
            # `pack(values of the engine)` has the structure that `fn` returned.
            self.pack = _packer(outputs, values)
            self.function = graph.function(values)


def _packer(structure, values):
    """A function that makes `structure` with other values for its symbolic ones; these go into `values`."""
    if isinstance(structure, Variable):
        structure = structure.value
    if isinstance(structure, _core.SymbolicTensor):
        values.append(structure)
        return operator.itemgetter(len(values) - 1)
    if isinstance(structure, dict):
        kind = type(structure) if type(structure) in (dict, OrderedDict) else dict
        keys, parts = list(structure), [_packer(v, values) for v in structure.values()]
        return lambda flat: kind(zip(keys, [part(flat) for part in parts], strict=True))
    if isinstance(structure, (list, tuple)):
        parts = [_packer(v, values) for v in structure]
        if isinstance(structure, list):
            return lambda flat: [part(flat) for part in parts]
        if hasattr(structure, "_fields"):
            kind = type(structure)
            return lambda flat: kind(*[part(flat) for part in parts])
        return lambda flat: tuple([part(flat) for part in parts])
    return lambda flat: structure


def is_concrete(x):
    """Whether `x` is a tensor that has its values."""
    return isinstance(x, _core.Tensor)


def _is_data(x):
    return hasattr(x, "__array__") or (isinstance(x, (int, float)) and not isinstance(x, bool))


def _as_numpy(x):
    return np.asarray(x) if hasattr(x, "__array__") else x
