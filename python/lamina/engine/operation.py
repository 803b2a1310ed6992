"""Calls on symbolic tensors: `Operation`, the `Node` that remembers a call, and `op`, which makes a
function record itself.
"""

import functools
import inspect
from collections import namedtuple

from lamina import tree
from lamina.engine import naming
from lamina.engine.keras_tensor import KerasTensor, any_symbolic_tensors
from lamina.engine.scope import state
from lamina.engine.tracebacks import explain_binding, shorten
from lamina.errors import ShapeError

KerasHistory = namedtuple("KerasHistory", ["operation", "node_index", "tensor_index"])
KerasHistory.__doc__ = (
    "Where a KerasTensor came from: the operation, which of its calls, which of that call's outputs."
)


class Node:
    """One call of an operation on KerasTensors.

    Attributes:
        operation: what was called.
        args, kwargs: the arguments as given, KerasTensors included.
        input_tensors, output_tensors: flat lists of KerasTensors.
        is_input: whether nothing symbolic went in.
    """

    def __init__(self, operation, call_args=(), call_kwargs=None, outputs=None):
        self.operation, self.args, self.kwargs = operation, tuple(call_args), dict(call_kwargs or {})
        self.input_tensors = [x for x in tree.flatten((self.args, self.kwargs)) if isinstance(x, KerasTensor)]
        self.output_tensors = [] if outputs is None else tree.flatten(outputs)
        self.is_input = not self.input_tensors
        for x in self.output_tensors:
            if not isinstance(x, KerasTensor):
                raise ValueError(
                    f"All operation outputs must be tensors. Operation {operation} returned a non-tensor. "
                    f"Non-tensor received: {x}"
                )
        recorded = all(x.record_history for x in self.input_tensors)
        operation._inbound_nodes.append(self)
        for x in self.input_tensors:
            if recorded and not hasattr(x, "_keras_history"):
                x._keras_history = KerasHistory(None, 0, 0)
            producer = getattr(x, "_keras_history", (None,))[0]
            if producer is not None:
                producer._outbound_nodes.append(self)
        if recorded:
            index = len(operation._inbound_nodes) - 1
            for i, x in enumerate(self.output_tensors):
                x._keras_history = KerasHistory(operation, index, i)

    @property
    def outputs(self):
        """Alias of `output_tensors`."""
        return self.output_tensors

    @property
    def parent_nodes(self):
        """The nodes that made this node's inputs."""
        histories = [x._keras_history for x in self.input_tensors]
        return [h.operation._inbound_nodes[h.node_index] for h in histories if h.operation is not None]

    def fill_in(self, values):
        """(args, kwargs) with each KerasTensor replaced by `values[id(it)]`."""
        if len(self.args) == 1 and not self.kwargs and isinstance(self.args[0], KerasTensor):
            return (values[id(self.args[0])],), {}

        def swap(x):
            return values[id(x)] if isinstance(x, KerasTensor) else x

        return tree.map_structure(swap, self.args), tree.map_structure(swap, self.kwargs)

    def __repr__(self):
        return f"<Node operation={self.operation.name}, id={id(self)}>"


def consumers(x):
    """The calls that take the output `x` of an operation."""
    return [
        node for node in x._keras_history.operation._outbound_nodes if any(y is x for y in node.input_tensors)
    ]


def name_producers(error, args, kwargs):
    """Adds to a `ShapeError` what made the KerasTensors of a call."""
    if error.producer is None:
        histories = [getattr(x, "_keras_history", None) for x in tree.flatten((args, kwargs))]
        error.producer = [h.operation for h in histories if h is not None and h.operation is not None] or None


class Operation:
    """Something that can be called on tensors or on KerasTensors, and that has a name and a config.

    Subclasses write `call`; its output shapes are found by tracing it, unless `compute_output_spec` says
    otherwise.
    """

    _kind = "Operation"

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.__dict__["_init_arguments"] = (args, kwargs)
        return self

    def __init__(self, name=None):
        if name is None:
            name = naming.auto_name(self.__class__.__name__)
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                f"Argument `name` must be a string and cannot contain character `/`. Received: name={name} "
                f"(of type {type(name)})"
            )
        self.name = name
        self._inbound_nodes, self._outbound_nodes = [], []

    def __call__(self, *args, **kwargs):
        if any_symbolic_tensors(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def symbolic_call(self, *args, **kwargs):
        """Finds the output shapes and remembers the call."""
        try:
            outputs = self.compute_output_spec(*args, **kwargs)
        except ShapeError as e:
            name_producers(e, args, kwargs)
            raise
        Node(self, args, kwargs, outputs)
        return outputs

    def call(self, *args, **kwargs):
        """The computation."""
        call = "`call()`" if self._kind == "Model" else "`call`"
        raise NotImplementedError(
            f"{self._kind} {type(self).__name__} does not have a {call} method implemented."
        )

    def compute_output_spec(self, *args, **kwargs):
        """KerasTensors with the shapes and dtypes of the outputs."""
        from lamina.engine.trace import infer

        return infer(self.call, args, kwargs)

    def get_config(self):
        """A dict of plain values from which `from_config` makes an equal object: the arguments of
        `__init__`.
        """
        config = {"name": self.name, **initial_config(self)}
        return config if accepts(type(self), "name") else {k: v for k, v in config.items() if k != "name"}

    @classmethod
    def from_config(cls, config):
        """Makes an instance from `get_config()`'s dict."""
        try:
            return cls(**config)
        except Exception as e:
            raise TypeError(
                f"Error when deserializing class '{cls.__name__}' using config={config}.\n"
                "\n"
                f"Exception encountered: {e}"
            ) from e

    @property
    def input(self):
        """The symbolic input(s) of the first call."""
        return self._first_call("input")

    @property
    def output(self):
        """The symbolic output(s) of the first call."""
        return self._first_call("output")

    def _first_call(self, which):
        if not self._inbound_nodes:
            raise AttributeError(
                f"The layer {self.name} has never been called and thus has no defined {which}: its input "
                "shape is unknown. Call it on a `lamina.Input`, or put it into a model."
            )
        tensors = getattr(self._inbound_nodes[0], f"{which}_tensors")
        return tensors[0] if len(tensors) == 1 else list(tensors)

    def __repr__(self):
        return f"<Operation name={self.name}>"


@functools.cache
def init_signature(cls):
    """The signature of `cls.__init__`, `self` included."""
    return inspect.signature(cls.__init__)


def accepts(cls, name):
    """Whether `cls(...)` takes the keyword `name`."""
    parameters = init_signature(cls).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def initial_config(instance):
    """The arguments that `instance` was made with, defaults included, as plain values.

    Raises `NotImplementedError` when they cannot be written down; then the class must have a `get_config`.
    """
    from lamina.saving.serialization import serialize_keras_object

    cls = type(instance)
    args, kwargs = instance.__dict__.get("_init_arguments", ((), {}))
    signature = init_signature(cls)
    try:
        bound = signature.bind(instance, *args, **kwargs)
    except TypeError:
        bound = None
    unnamed = [
        p for p in list(signature.parameters.values())[1:] if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)
    ]
    if bound is None or any(p.kind is p.POSITIONAL_ONLY or bound.arguments.get(p.name) for p in unnamed):
        raise NotImplementedError(
            _no_config(cls, "it was given arguments that have no name (such as `*args`)")
        )
    bound.apply_defaults()
    values = {}
    for p in list(signature.parameters.values())[1:]:
        if p.kind is p.VAR_KEYWORD:
            values.update(bound.arguments.get(p.name, {}))
        elif p.kind is not p.VAR_POSITIONAL:
            values[p.name] = bound.arguments[p.name]
    values.pop("name", None)
    try:
        return {k: serialize_keras_object(v) for k, v in values.items()}
    except (TypeError, ValueError, NotImplementedError):
        raise NotImplementedError(
            _no_config(cls, "it was given arguments that cannot be written as plain values")
        ) from None


def _no_config(cls, why):
    return (
        f"Object {cls.__name__} cannot say its configuration: {why}, and therefore the object must override "
        "`get_config()` in order to be serializable. Example:\n"
        "\n"
        f"class {cls.__name__}(lamina.layers.Layer):\n"
        "    def __init__(self, arg1, arg2, **kwargs):\n"
        "        super().__init__(**kwargs)\n"
        "        self.arg1 = arg1\n"
        "        self.arg2 = arg2\n"
        "\n"
        "    def get_config(self):\n"
        '        return {**super().get_config(), "arg1": self.arg1, "arg2": self.arg2}'
    )


# Parameters of op functions that are operands of a call; all others configure the operation.
_OPERANDS = {
    "x",
    "x1",
    "x2",
    "xs",
    "a",
    "b",
    "inputs",
    "indices",
    "values",
    "updates",
    "condition",
    "mask",
    "target",
    "output",
    "kernel",
    "key",
    "operands",
    "start_indices",
    "mean",
    "variance",
    "scale",
    "offset",
    "start",
    "stop",
    "tensors",
    "arrays",
    "segment_ids",
    "args",
    "data",
    "bias",
    "gamma",
    "beta",
    "query",
    "value",
    "depthwise_kernel",
    "pointwise_kernel",
    "variable",
    "v",
    "y",
    "logits",
}


class FunctionOperation(Operation):
    """A call of a function of `lamina.ops`.

    Each function has a subclass of its own, named as Keras names it (`GetItem`).
    """

    function = None

    def __init__(self, name=None, **config):
        super().__init__(name)
        self.config = config
        known = parameters_of(self.function)
        for key in [k for k in config if k not in known]:
            if config[key] is not None:
                raise TypeError(
                    f"lamina.ops.{self.function.__name__} has no argument `{key}` ({config[key]!r} was "
                    "given)."
                )
            del config[key]

    def call(self, *args, **kwargs):
        # Operands take, in order, the parameters that the configuration leaves free.
        remaining, values = iter(args), {**self.config, **kwargs}
        positional, named = [], {}
        for name, p in parameters_of(self.function).items():
            if p.kind is p.VAR_POSITIONAL:
                positional.extend(remaining)
            elif name in values or (p.kind is not p.VAR_KEYWORD and _take(remaining, name, values)):
                if p.kind is p.KEYWORD_ONLY:
                    named[name] = values[name]
                else:
                    positional.append(values[name])
            elif p.kind is p.POSITIONAL_OR_KEYWORD:
                if p.default is p.empty:
                    raise TypeError(f"lamina.ops.{self.function.__name__} is missing its argument `{name}`.")
                positional.append(p.default)
        return self.function(*positional, **named)

    def get_config(self):
        from lamina.saving.serialization import serialize_keras_object

        return {"name": self.name, **{k: serialize_keras_object(v) for k, v in self.config.items()}}

    @classmethod
    def from_config(cls, config):
        from lamina.saving.serialization import deserialize_keras_object

        return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})


def _take(values, name, into):
    """Moves the next of `values` to `into[name]`; whether there was one."""
    for value in values:
        into[name] = value
        return True
    return False


@functools.cache
def parameters_of(function):
    """The parameters of a function, by name."""
    return inspect.signature(function).parameters


def op(fn):
    """Makes a function of tensors an op.

    Called with a KerasTensor among its arguments, it records itself and returns KerasTensors; else it runs.

        @op
        def double(x):
            return x + x
    """

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        try:
            if any_symbolic_tensors(args, kwargs):
                return _record(wrapper, args, kwargs)
            if state.redirect:
                args, kwargs = tree.map_structure(_read, args), tree.map_structure(_read, kwargs)
            return fn(*args, **kwargs)
        except Exception as e:
            if type(e) is TypeError:
                explain_binding(e, fn, args, kwargs)
                _explain_layer(e, fn, args)
            shorten(e)
            raise

    wrapper.is_op = True
    return wrapper


def _explain_layer(error, fn, args):
    """Says so where an op was given a layer in place of its output."""
    for x in tree.flatten(args):
        if isinstance(x, Operation):
            error.args = (
                f"`lamina.ops.{fn.__name__}` takes tensors. Got '{x}' (of type {type(x)}). A layer stands "
                "where its output belongs: call it first, `layer(x)`.",
            )


def _read(x):
    from lamina.engine.variable import Variable

    return x.value if isinstance(x, Variable) else x


@functools.cache
def operation_class(function):
    """The `Operation` subclass of an op function; `get_item` has `GetItem`."""
    name = "".join(part[:1].upper() + part[1:] for part in function.__name__.split("_"))
    # A staticmethod, so that `self.function` stays a plain function.
    return type(name, (FunctionOperation,), {"function": staticmethod(function), "__doc__": function.__doc__})


def _record(function, args, kwargs):
    """Splits the arguments into operands and configuration, and calls the operation."""
    bound = inspect.Signature(list(parameters_of(function).values())).bind(*args, **kwargs)
    bound.apply_defaults()
    operands, config = [], {}
    for name, value in bound.arguments.items():
        kind = parameters_of(function)[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            operands.extend(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            config.update(value)
        elif name in _OPERANDS or any_symbolic_tensors((value,)):
            operands.append(value)
        elif name != "name":
            config[name] = value
    while operands and operands[-1] is None:
        operands.pop()
    return operation_class(function)(**config).symbolic_call(*operands)
