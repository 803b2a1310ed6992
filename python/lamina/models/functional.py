"""`Functional`: a model that is a graph of layer calls."""

import inspect

from lamina import ops, tree
from lamina.engine.function import Function
from lamina.engine.keras_tensor import KerasTensor, get_keras_mask
from lamina.engine.operation import Node, init_signature
from lamina.engine.scope import state, training_phase
from lamina.engine.tracebacks import warn
from lamina.layers.call import any_mask
from lamina.layers.core.input_layer import Input, InputLayer
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer
from lamina.models.inputs import adjust_inputs, check_data, say_once, structure_error, structures
from lamina.models.model import Model


class Functional(Function, Model):
    """A model from symbolic inputs to symbolic outputs; made by `Model(inputs, outputs)`.

    Args:
        inputs: a KerasTensor or a nested structure of them: `Input`s, or tensors in the middle of another
            graph.
        outputs: likewise.
        name, trainable: as for layers.
    """

    def __init__(self, inputs, outputs, name=None, **kwargs):
        if isinstance(inputs, dict):
            for key, x in inputs.items():
                if isinstance(x, KerasTensor) and key != x.name:
                    warn(
                        "When providing `inputs` as a dict, all keys in the dict must match the names of "
                        f"the corresponding tensors. Received key '{key}' mapping to value {x} which has "
                        f"name '{x.name}'. Change the tensor name to '{key}' (via `Input(..., "
                        f"name='{key}')`)",
                    )
        trainable = kwargs.pop("trainable", None)
        Layer.__init__(self, name=name, **kwargs)
        if not all(_comes_from_input(x) for x in tree.flatten(inputs) if isinstance(x, KerasTensor)):
            inputs, outputs = _copy_between(inputs, outputs)
        self._set_graph(inputs, outputs)
        for layer in self.layers:
            self._tracker.add("layers", layer)
        if trainable is not None:
            self.trainable = trainable
        self.__dict__.update(
            _built=True,
            _path=self.name,
            _convert_input_args=False,  # each input has its own dtype
            _allow_non_tensor_positional_args=True,
            _can_compile_calls=all(is_ours(layer) for layer in self._flatten_layers()),
        )
        self.output_names = [x._keras_history.operation.name for x in self.outputs]

    def _lock_state(self):
        pass  # layers may be attached to a functional model at any time

    @property
    def layers(self):
        """The layers of the graph, deepest first."""
        return [operation for operation in self._operations if isinstance(operation, Layer)]

    @layers.setter
    def layers(self, _):
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    @property
    def input(self):
        """The symbolic inputs, in the structure that was given."""
        return self._inputs_struct

    @property
    def output(self):
        """The symbolic outputs, in the structure that was given."""
        return self._outputs_struct

    @property
    def input_names(self):
        """The names of the inputs."""
        return [x._keras_history.operation.name for x in self.inputs]

    @property
    def input_shape(self):
        """The shape of the input, or a list of shapes."""
        return _one([x.shape for x in self.inputs])

    @property
    def output_shape(self):
        """The shape of the output, or a list of shapes."""
        return _one([x.shape for x in self.outputs])

    @property
    def input_spec(self):
        """What each input must look like; the batch axis is free."""
        if "_manual_input_spec" in self.__dict__:
            return self._manual_input_spec
        if isinstance(self._inputs_struct, dict):
            if not all(isinstance(x, KerasTensor) for x in self._inputs_struct.values()):
                return None
            return [_spec(self._inputs_struct[key], key) for key in sorted(self._inputs_struct)]
        return [_spec(x, x._keras_history.operation.name) for x in self.inputs]

    @input_spec.setter
    def input_spec(self, value):
        self._manual_input_spec = value

    def build(self, input_shape=None):
        """Nothing to do: a functional model is built."""

    def call(self, inputs, training=None, mask=None):
        """Runs the graph."""
        inputs = self._standardize_inputs(inputs)
        if mask is not None and any_mask(mask):
            for x, m in zip(inputs, self._in_order(mask), strict=True):
                if m is not None:
                    x._keras_mask = m
        with training_phase(self, training):
            outputs = self._run_through_graph(inputs)
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs

    def _check_input(self, arguments):
        if "_manual_input_spec" in self.__dict__:
            super()._check_input(arguments)
        # Else `_standardize_inputs` does it, with the names of the inputs at hand.

    def _infer_outputs(self, args, kwargs):
        inputs = tree.flatten(args[0]) if len(args) == 1 and not kwargs else []
        same = len(inputs) == len(self._inputs) and all(
            isinstance(x, KerasTensor)
            and x.shape == r.shape
            and x.dtype == r.dtype
            and get_keras_mask(x) is None
            for x, r in zip(inputs, self._inputs, strict=True)
        )
        if not same or any(get_keras_mask(x) is not None for x in self._outputs):
            return super()._infer_outputs(args, kwargs)
        outputs = tree.map_structure(lambda x: KerasTensor(x.shape, x.dtype), self._outputs_struct)
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs

    def compute_output_spec(self, inputs, training=None, mask=None):
        """KerasTensors like the outputs for KerasTensors like the inputs."""
        return self._infer_outputs((inputs,), {})

    def add_loss(self, loss):
        """A functional model has no `call` of its own in which to add a loss: put a layer that adds it into
        the graph.
        """
        raise NotImplementedError(
            "`add_loss` does not work on a functional model: call `self.add_loss(...)` in the `call()` of a "
            "layer of it."
        )

    # --------------------------------------------------------------------------------------------- inputs

    def _standardize_inputs(self, inputs):
        """The inputs as a flat list of tensors that fit, in the order of `self.inputs`."""
        flat = self._in_order(inputs)
        tensors = []
        for x, reference in zip(flat, self._inputs, strict=True):
            if x is None:
                layer = reference._keras_history.operation
                if isinstance(layer, InputLayer) and not layer.optional:
                    raise ValueError(
                        f"The input '{reference.name}' is not optional, but None was passed. Please provide "
                        "a valid tensor."
                    )
                tensors.append(None)
                continue
            tensors.append(ops.convert_to_tensor(x, dtype=reference.dtype))
        tensors = adjust_inputs(self, tensors)
        for x, tensor in zip(flat, tensors, strict=True):
            mask = get_keras_mask(x)
            if mask is not None and tensor is not x:
                tensor._keras_mask = mask
        return tensors

    def _check_data(self, inputs):
        """`ShapeError` unless arrays of a whole data set fit; what a call with them would say of a batch."""
        if type(self).call is Functional.call:
            check_data(self, self._in_order(inputs))

    def _in_order(self, inputs):
        struct = self._inputs_struct
        if isinstance(struct, KerasTensor):
            if isinstance(inputs, dict) and struct.name in inputs:
                return [inputs[struct.name]]
            if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
                return [inputs[0]]
            if not tree.is_nested(inputs):
                return [inputs]
        elif isinstance(struct, (list, tuple)) and all(isinstance(x, KerasTensor) for x in struct):
            if isinstance(inputs, dict) and all(x.name in inputs for x in struct):
                return [inputs[x.name] for x in struct]
            if isinstance(inputs, (list, tuple)) and len(inputs) == len(struct):
                return list(inputs)
            if len(struct) == 1 and not tree.is_nested(inputs):
                return [inputs]
        elif isinstance(struct, dict) and all(isinstance(x, KerasTensor) for x in struct.values()):
            keys = [key for key, _ in tree._items(struct)]
            if isinstance(inputs, dict) and all(k in inputs for k in keys):
                if len(inputs) > len(keys):
                    self._warn_structure(inputs)
                return [inputs[k] for k in keys]
            if isinstance(inputs, (list, tuple)) and len(inputs) == len(keys) and list(struct) == keys:
                self._warn_structure(inputs)
                return list(inputs)
            if len(keys) == 1 and not tree.is_nested(inputs):
                return [inputs]
        else:
            try:
                tree.assert_same_paths(inputs, struct)
                return tree.flatten(inputs)
            except ValueError:
                pass
        if len(self._inputs) == len(tree.flatten(inputs)) and not (
            isinstance(struct, dict) or isinstance(inputs, dict)
        ):
            self._warn_structure(inputs)
            return tree.flatten(inputs)
        raise structure_error(self, inputs)

    def _warn_structure(self, inputs):
        if not state.inferring:
            say_once(self, "structure", f"{structures(self, inputs)}.")

    # --------------------------------------------------------------------------------------------- config

    def get_config(self):
        """The graph as a dict: layers, their calls, inputs and outputs."""
        from lamina.models.functional_config import functional_config

        if not has_functional_constructor(type(self)):
            return Model.get_config(self)
        return functional_config(self)

    def __reduce_ex__(self, protocol):
        from lamina.models.cloning import reduce_model

        return (
            reduce_model(self) if has_functional_constructor(type(self)) else super().__reduce_ex__(protocol)
        )


def has_functional_constructor(cls):
    """Whether a class can be made from inputs and outputs alone."""
    parameters = init_signature(cls).parameters
    kinds = {p.kind for p in parameters.values()}
    takes_all = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    return takes_all or list(parameters)[1:] in (
        ["inputs", "outputs", "name"],
        ["inputs", "outputs", "name", "kwargs"],
    )


def _one(items):
    return items[0] if len(items) == 1 else items


def _spec(x, name):
    layer = x._keras_history.operation
    optional = isinstance(layer, InputLayer) and layer.optional
    shape = (None, *x.shape[1:]) if x.shape else ()
    return InputSpec(shape=shape, allow_last_axis_squeeze=True, name=name, optional=optional)


def is_ours(layer):
    """A layer whose call is known to have no side effects in Python."""
    return type(layer).__module__.startswith("lamina.") and type(layer).__name__ != "Lambda"


# -------------------------------------------------------------------------- models inside another's graph


def _node(x):
    history = getattr(x, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def _comes_from_input(x):
    node = _node(x)
    return node is not None and node.is_input


def _copy_between(inputs, outputs):
    """Inputs and outputs of a copy of the calls between `inputs` and `outputs`; the layers are shared.

    Tensors in the middle of a graph become new `Input`s.
    """
    from lamina.engine.function import OperationGraph

    graph = OperationGraph(tree.flatten(inputs), tree.flatten(outputs))
    copies = {}

    def copied_input(x):
        if _comes_from_input(x):
            copies[id(x)] = x
        else:
            copies[id(x)] = Input(batch_shape=x.shape, dtype=x.dtype, name=f"{x.name}CLONE")
        return copies[id(x)]

    def copied(x):
        if not isinstance(x, KerasTensor):
            return x
        if id(x) not in copies:
            copies[id(x)] = KerasTensor(x.shape, x.dtype, name=f"{x.name}_clone")
        return copies[id(x)]

    new_inputs = tree.map_structure(copied_input, inputs)
    for node in graph.nodes:
        if not node.is_input:
            outs = [copied(x) for x in node.output_tensors]
            Node(
                node.operation,
                tree.map_structure(copied, node.args),
                tree.map_structure(copied, node.kwargs),
                outs,
            )
    return new_inputs, tree.map_structure(copied, outputs)
