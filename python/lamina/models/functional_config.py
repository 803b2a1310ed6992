"""A functional model's graph as a configuration (Keras 3's form; Keras 2's is read too), and back."""

from lamina import tree
from lamina.engine.keras_tensor import KerasTensor
from lamina.engine.operation import Operation
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object


def functional_config(model):
    """`get_config` of a functional model."""
    nodes = model._nodes
    # A call's index counts only the calls that belong to this model.
    index = {}
    for operation in model.operations:
        kept = [n for n in operation._inbound_nodes if n in nodes]
        index.update({id(n): i + _own_calls(operation) for i, n in enumerate(kept)})

    def reference(x):
        operation, node_index, tensor_index = x._keras_history
        return [operation.name, index[id(operation._inbound_nodes[node_index])], tensor_index]

    def argument(x):
        if not isinstance(x, KerasTensor):
            return serialize_keras_object(x)
        name, node_index, tensor_index = reference(x)
        # Unlike in `input_layers`, Keras does not count a nested model's own call here.
        node_index -= _own_calls(x._keras_history.operation)
        config = {"shape": x.shape, "dtype": x.dtype, "keras_history": [name, node_index, tensor_index]}
        return {"class_name": "__keras_tensor__", "config": config}

    layers = []
    for operation in model.operations:
        calls = [
            {"args": tree.map_structure(argument, n.args), "kwargs": tree.map_structure(argument, n.kwargs)}
            for n in operation._inbound_nodes
            if n in nodes and not n.is_input
        ]
        layers.append({**serialize_keras_object(operation), "name": operation.name, "inbound_nodes": calls})
    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": layers,
        "input_layers": tree.map_structure(reference, model._inputs_struct),
        "output_layers": tree.map_structure(reference, model._outputs_struct),
    }


def _own_calls(operation):
    """In `input_layers` and `output_layers`, a nested functional model counts as called once already."""
    from lamina.models.functional import Functional

    return 1 if isinstance(operation, Functional) else 0


def functional_from_config(cls, config, custom_objects=None):
    """The functional model of class `cls` that a configuration describes."""
    config = dict(config)
    layer_configs = config.pop("layers")
    input_layers, output_layers = config.pop("input_layers"), config.pop("output_layers")
    operations, waiting = {}, []
    for data in layer_configs:
        operation = deserialize_keras_object(data, custom_objects)
        if not isinstance(operation, Operation):
            raise ValueError(
                "Unexpected object from deserialization, expected a layer or operation, got a "
                f"{type(operation)}"
            )
        operations[data.get("name", operation.name)] = operation
        waiting += [(operation, call) for call in data.get("inbound_nodes") or []]
    # Calls are made as soon as what they need is there; those of one layer in their order.
    made = {id(o): 0 for o in operations.values()}
    while waiting:
        left, stuck = [], set()
        for operation, call in waiting:
            arguments = None if id(operation) in stuck else _arguments(call, operations, made)
            if arguments is None:
                stuck.add(id(operation))
                left.append((operation, call))
            else:
                operation(*arguments[0], **arguments[1])
                made[id(operation)] += 1
        if len(left) == len(waiting):
            raise ValueError(
                "Invalid Functional model configuration. The graph of the Functional model either has loops "
                "or disconnected nodes. The following layers failed to be called: "
                f"{sorted({o.name for o, _ in left})}"
            )
        waiting = left

    def tensor(name, node_index, tensor_index):
        operation = _known(operations, name)
        return operation._inbound_nodes[node_index - _own_calls(operation)].output_tensors[tensor_index]

    def tensors(spec):
        if isinstance(spec, (list, tuple)) and len(spec) == 3 and isinstance(spec[0], str):
            return tensor(*spec)
        if isinstance(spec, dict):
            return {k: tensors(v) for k, v in spec.items()}
        return type(spec)([tensors(v) for v in spec])

    options = {k: config.pop(k, None) for k in ("name", "trainable")}
    inputs, outputs = tensors(input_layers), tensors(output_layers)
    return cls(inputs=inputs, outputs=outputs, **options, **config)


def _known(operations, name):
    if name not in operations:
        raise ValueError(f"Invalid Functional model configuration. Missing node: {name}")
    return operations[name]


def _arguments(call, operations, made):
    """(args, kwargs) of a call, or `None` while a tensor that it needs is not there."""
    if isinstance(call, list):
        return _legacy_arguments(call, operations, made)
    missing = []

    def revive(x):
        history = getattr(x, "_pre_serialization_keras_history", None)
        if not isinstance(x, KerasTensor) or history is None:
            return x
        operation = _known(operations, history[0])
        found = _output(operation, history[1], history[2], made)
        if found is None:
            missing.append(x)
        return found

    args = [_as_key(a) for a in deserialize_keras_object(call["args"])]
    kwargs = deserialize_keras_object(call["kwargs"])
    args, kwargs = tree.map_structure(revive, args), tree.map_structure(revive, kwargs)
    return None if missing else (args, kwargs)


def _output(operation, node_index, tensor_index, made):
    from lamina.layers.core.input_layer import InputLayer

    ready = 1 if isinstance(operation, InputLayer) else made[id(operation)]
    if node_index >= ready:
        return None
    return operation._inbound_nodes[node_index].output_tensors[tensor_index]


def _as_key(argument):
    """`x[:, 1]` has a tuple of slices, which JSON made a list."""
    if isinstance(argument, list) and any(isinstance(e, slice) or e is Ellipsis for e in argument):
        return tuple(argument)
    return argument


def _legacy_arguments(call, operations, made):
    """Keras 2: a list of `[layer, node, tensor, kwargs]`."""
    tensors, kwargs = [], {}
    for data in call:
        operation = _known(operations, data[0])
        found = _output(operation, data[1], data[2], made)
        if found is None:
            return None
        tensors.append(found)
        kwargs = data[3] if len(data) == 4 else {}
    return ([tensors[0] if len(tensors) == 1 else tensors], kwargs)
