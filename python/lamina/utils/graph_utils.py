"""Walking the calls behind a symbolic tensor."""


def get_source_inputs(tensor):
    """The `Input` tensors that a KerasTensor is computed from, each once, as a list."""
    sources, seen, waiting = [], set(), [tensor]
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        operation, index, _ = getattr(x, "_keras_history", (None, 0, 0))
        node = operation._inbound_nodes[index] if operation is not None and operation._inbound_nodes else None
        if node is None:
            sources.append(x)
        elif node.is_input:
            sources.extend(y for y in node.output_tensors if y is x)
        else:
            waiting.extend(reversed(node.input_tensors))
    return sources
