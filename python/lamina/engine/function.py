"""The graph of calls between symbolic inputs and outputs, and running it again on other inputs."""

from lamina import tree
from lamina.engine.keras_tensor import KerasTensor
from lamina.engine.operation import Operation
from lamina.engine.trail import add_trail
from lamina.errors import ShapeError


class Function(Operation):
    """A computation between KerasTensors that can be applied to new inputs.

        x = lamina.KerasTensor((None, 3))
        f = lamina.Function(x, ops.sigmoid(x + 1.0))
        f(np.zeros((2, 3)))

    Args:
        inputs: a KerasTensor, or a nested structure of them.
        outputs: likewise; computable from `inputs`.
    """

    def __init__(self, inputs, outputs, name=None):
        super().__init__(name=name)
        self._set_graph(inputs, outputs)

    def _set_graph(self, inputs, outputs):
        flat_inputs, flat_outputs = tree.flatten(inputs), tree.flatten(outputs)
        for title, tensors, given in (("inputs", flat_inputs, inputs), ("outputs", flat_outputs, outputs)):
            if not tensors:
                raise ValueError(
                    f"`{title}` argument cannot be empty. Received:\ninputs={inputs}\noutputs={outputs}"
                )
            for x in tensors:
                if not isinstance(x, KerasTensor):
                    raise ValueError(
                        f"All `{title}` values must be KerasTensors. Received: {title}={given} including "
                        f"invalid value {x} of type {type(x)}{_hint(x)}"
                    )
        paths = [".".join(map(str, path)) for path, _ in tree.flatten_with_path(outputs)]
        graph = OperationGraph(flat_inputs, flat_outputs, paths)
        # Past `__setattr__`: a model tracks its layers itself.
        self.__dict__.update(
            _inputs_struct=tree.map_structure(lambda x: x, inputs),
            _outputs_struct=tree.map_structure(lambda x: x, outputs),
            _inputs=flat_inputs,
            _outputs=flat_outputs,
            _graph=graph,
            _operations=graph.operations,
            _nodes=set(graph.nodes),
            _nodes_by_depth=graph.nodes_by_depth,
        )

    @property
    def operations(self):
        """The operations between inputs and outputs, from the inputs on."""
        return self._operations[:]

    @property
    def inputs(self):
        """Flat list of symbolic inputs."""
        return self._inputs

    @property
    def outputs(self):
        """Flat list of symbolic outputs."""
        return self._outputs

    def call(self, inputs):
        """The outputs for `inputs`, a structure like that of the symbolic inputs."""
        self._check_structure(inputs)
        return self._run_through_graph(inputs)

    def compute_output_shape(self, input_shape):
        """The output shape(s) for input shape(s)."""
        specs = tree.flatten(tree.map_shape_structure(lambda s: KerasTensor(tuple(s)), input_shape))
        specs = [KerasTensor(x.shape, r.dtype) for x, r in zip(specs, self._inputs, strict=True)]
        outputs = self.compute_output_spec(tree.pack_sequence_as(self._inputs_struct, specs))
        return tree.map_structure(lambda x: x.shape, outputs)

    def _check_structure(self, inputs):
        try:
            tree.assert_same_structure(inputs, self._inputs_struct)
        except ValueError:
            raise ValueError(
                "Function was called with an invalid input structure. Expected input structure: "
                f"{self._inputs_struct}\n"
                f"Received input structure: {inputs}"
            ) from None
        for x, reference in zip(tree.flatten(inputs), self._inputs, strict=True):
            fits = len(x.shape) == len(reference.shape) and all(
                a is None or b is None or a == b for a, b in zip(x.shape, reference.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"{type(self).__name__} was passed incompatible inputs. For input '{reference.name}', "
                    f"expected shape {reference.shape}, but received instead a tensor with shape "
                    f"{tuple(x.shape)}."
                )

    def _run_through_graph(self, inputs, operation_fn=lambda operation: operation, call_fn=None):
        """The outputs for flat or nested `inputs`.

        Each node calls `operation_fn(its operation)` on its arguments.
        """
        values = {id(x): y for x, y in zip(self._inputs, tree.flatten(inputs), strict=True)}
        for node in self._graph.nodes:
            if node.is_input or any(id(x) not in values for x in node.input_tensors):
                continue
            args, kwargs = node.fill_in(values)
            operation = operation_fn(node.operation)
            try:
                outputs = (
                    operation(*args, **kwargs) if call_fn is None else call_fn(operation, *args, **kwargs)
                )
            except ShapeError as e:
                if e.layer is operation:
                    e.producer = e.producer or [parent.operation for parent in node.parent_nodes] or None
                    add_trail(e, node.input_tensors[0], lambda x: values[id(x)].shape)
                raise
            for x, y in zip(node.output_tensors, tree.flatten(outputs), strict=False):
                values[id(x)] = y
        return tree.pack_sequence_as(self._outputs_struct, [values[id(x)] for x in self._outputs])


def _hint(x):
    return ": call the layer, and give its output" if isinstance(x, Operation) else ""


class OperationGraph:
    """The calls that lead from `inputs` to `outputs`.

    Attributes:
        nodes: the calls, each after those that it needs.
        nodes_by_depth: dict from depth (calls between a node and the farthest output) to nodes.
        operations: the operations, deepest first, those of one depth in the order in which they were met from
            the outputs: the order of a model's layers and weights.

    Raises `ValueError` when an output cannot be computed from the inputs, and when two operations have one
    name.
    """

    def __init__(self, inputs, outputs, paths=None):
        boundary = {id(x) for x in inputs}
        nodes, met = _walk(outputs, boundary)
        depths, operation_depths = {}, {}
        inside = set(nodes)
        for node in reversed(nodes):
            depth = max(depths.get(node, 0), operation_depths.get(node.operation, 0))
            depths[node] = operation_depths[node.operation] = depth
            for parent in node.parent_nodes:
                if parent in inside:
                    depths[parent] = max(depth + 1, depths.get(parent, 0))
        for x in inputs:  # inputs that no output needs are inputs all the same
            history = getattr(x, "_keras_history", None)
            if history is None or history.operation is None or history.operation in operation_depths:
                continue
            node = history.operation._inbound_nodes[history.node_index]
            if node.is_input:
                operation_depths[history.operation] = depths[node] = 0
                met[history.operation] = -1
        self.nodes_by_depth = {}
        for node, depth in depths.items():
            self.nodes_by_depth.setdefault(depth, []).append(node)
        self.nodes = [n for d in sorted(self.nodes_by_depth, reverse=True) for n in self.nodes_by_depth[d]]
        self.operations = sorted(operation_depths, key=lambda o: (-operation_depths[o], met[o]))
        self._check(boundary, outputs, paths)

    def _check(self, boundary, outputs, paths):
        known, passed, why = set(boundary), [], ""
        for node in self.nodes:
            missing = [x for x in node.input_tensors if id(x) not in known]
            if missing:
                why = why or (
                    f" Graph disconnected: cannot find parent for tensor {missing[0]} at operation "
                    f"'{node.operation.name}'. The value comes from an input that is not among the model's "
                    f"`inputs`. The following previous operations were accessed without issue: {passed}"
                )
                continue
            passed.append(node.operation.name)
            if not node.is_input:
                known.update(id(x) for x in node.output_tensors)
        for i, x in enumerate(outputs):
            if id(x) not in known:
                path = paths[i] if paths else i
                raise ValueError(f"Output with path `{path}` is not connected to `inputs`.{why}")
        counts = {}
        for operation in self.operations:
            counts[operation.name] = counts.get(operation.name, 0) + 1
        for name, count in counts.items():
            if count > 1:
                raise ValueError(
                    f'The name "{name}" is used {count} times in the model. '
                    "All operation names should be unique."
                )


def _walk(outputs, boundary):
    """(nodes, each after its parents; operation -> when it was met).

    Depth first from the outputs; stops at `boundary`.
    """
    nodes, finished, open_nodes, met = [], set(), set(), {}

    def node_of(x):
        history = getattr(x, "_keras_history", None)
        if history is None or history.operation is None:
            return None
        node = history.operation._inbound_nodes[history.node_index]
        return None if id(x) in boundary and not node.is_input else node

    for output in outputs:
        # A stack of (node, its parents yet to visit) in place of recursion: models may be thousands of calls
        # deep.
        stack = []

        def enter(x, stack=stack):
            node = node_of(x)
            if node is None or node in finished:
                return
            if node in open_nodes:
                raise ValueError(f"Tensor {x} from operation '{node.operation.name}' is part of a cycle.")
            met.setdefault(node.operation, len(met))
            open_nodes.add(node)
            stack.append((node, iter(() if node.is_input else node.input_tensors)))

        enter(output)
        while stack:
            node, parents = stack[-1]
            parent = next(parents, None)
            if parent is not None:
                enter(parent)
                continue
            stack.pop()
            open_nodes.discard(node)
            finished.add(node)
            nodes.append(node)
    return nodes, met
