"""What each layer of a model holds and does: weights, arithmetic, memory. The numbers behind `summary`."""

import math

from lamina import tree
from lamina.engine.cost import cost

_BYTES = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "uint16": 2,
    "float64": 8,
    "int64": 8,
    "uint64": 8,
}


def count_params(weights):
    """How many numbers the weights hold."""
    return sum(math.prod(w.shape) for w in weights)


def bytes_of(shape, dtype):
    """How many bytes an array takes."""
    return math.prod(shape) * _BYTES.get(dtype, 4)


def memory_size(weights):
    """How many bytes the weights take."""
    return sum(bytes_of(w.shape, w.dtype) for w in weights)


def weight_formula(weights):
    """How the number of weights comes about: `"784*512 + 512"`, or `"4*64"` for four of (64,).

    Empty where there are no weights.
    """
    counts = {}
    for w in weights:
        counts[tuple(w.shape)] = counts.get(tuple(w.shape), 0) + 1
    terms = []
    for shape, count in counts.items():
        product = "*".join(map(str, shape)) or "1"
        terms.append(product if count == 1 else f"{count}*{product}")
    return " + ".join(terms)


class LayerCost:
    """What one layer does in a run of its model.

    Attributes:
        input_shapes, output_shapes: of its last call, `None` where the data decides.
        flops: of all its calls, or `None` where a size is unknown.
        output_bytes: what its outputs take in memory, or `None` likewise.
    """

    def __init__(self, input_shapes, output_shapes, flops=None, output_bytes=None):
        self.input_shapes, self.output_shapes = input_shapes, output_shapes
        self.flops, self.output_bytes = flops, output_bytes


def own_nodes(model):
    """The calls that make up a model's graph; `None` for a model without one."""
    graph = getattr(model, "_functional", None) if hasattr(model, "_stack") else model
    return getattr(graph, "_nodes", None)


def layer_cost(layer, nodes=None, batch_size=1):
    """The `LayerCost` of a layer alone, as if nothing were fused with it.

    Args:
        nodes: the calls that count; default: the last call of the layer.
        batch_size: stands for an unknown first axis.
    """
    calls = [n for n in layer._inbound_nodes if nodes is None or n in nodes]
    if nodes is None:
        calls = calls[-1:]
    if not calls:
        return _cost_without_calls(layer, batch_size)
    result = LayerCost(
        [tuple(x.shape) for x in calls[-1].input_tensors], [tuple(x.shape) for x in calls[-1].output_tensors]
    )
    sizes = [bytes_at(x.shape, x.dtype, batch_size) for n in calls for x in n.output_tensors]
    result.output_bytes = None if None in sizes else sum(sizes)
    flops = [_node_flops(node, batch_size) for node in calls]
    result.flops = None if None in flops else sum(flops)
    return result


def bytes_at(shape, dtype, batch_size):
    """The bytes of an array at a batch size; `None` when another axis is unknown."""
    shape = _known(shape, batch_size)
    return None if shape is None else bytes_of(shape, dtype)


def model_cost(model, batch_size=1):
    """The engine's `Cost` of one prediction of a model, as it is planned; `None` where a size is unknown.

    Batch norms are folded and activations fused into the layer before them: they cost nothing of their own.
    """
    if own_nodes(model) is not None:
        return _cost(
            lambda *xs: model(tree.pack_sequence_as(model.input, list(xs)), training=False),
            [x.shape for x in model.inputs],
            [x.dtype for x in model.inputs],
            batch_size,
        )
    return _built_cost(model, batch_size)


def own_shapes(layer):
    """The output shapes of a layer that was built outside a graph of calls."""
    if getattr(layer, "output_shape", None) is not None:
        shape = layer.output_shape
    else:
        shape = layer.compute_output_shape(**layer._build_shapes_dict)
    flat = []
    tree.map_shape_structure(lambda s: flat.append(tuple(s)), shape)
    return flat


def _known(shape, batch_size):
    shape = tuple(batch_size if d is None and axis == 0 else d for axis, d in enumerate(shape))
    return None if None in shape else shape


def _cost(fn, shapes, dtypes, batch_size):
    known = [_known(shape, batch_size) for shape in shapes]
    if None in known:
        return None
    try:
        return cost(fn, shapes, known, dtypes)
    except (NotImplementedError, TypeError):  # a call that needs data, not symbols
        return None


def _node_flops(node, batch_size):
    if node.is_input:
        return 0
    given = list({id(x): x for x in node.input_tensors}.values())

    def call(*values):
        args, kwargs = node.fill_in({id(x): value for x, value in zip(given, values, strict=True)})
        return node.operation(*args, **kwargs)

    found = _cost(call, [x.shape for x in given], [x.dtype for x in given], batch_size)
    return None if found is None else found.flops


def _cost_without_calls(layer, batch_size):
    """From the shapes that the layer was built for: a layer of a subclassed model counts as called once."""
    inputs = []
    try:
        tree.map_shape_structure(lambda s: inputs.append(tuple(s)), list(layer._build_shapes_dict.values()))
        result = LayerCost(inputs, own_shapes(layer))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return LayerCost([], [])
    sizes = [bytes_at(s, layer.compute_dtype, batch_size) for s in result.output_shapes]
    result.output_bytes = None if None in sizes else sum(sizes)
    found = _built_cost(layer, batch_size)
    result.flops = None if found is None else found.flops
    return result


def _built_cost(layer, batch_size):
    shapes = getattr(layer, "_build_shapes_dict", None)
    if not layer.built or not shapes or len(shapes) != 1:
        return None
    (structure,) = shapes.values()
    flat = []
    places = tree.map_shape_structure(lambda s: flat.append(tuple(s)) or len(flat) - 1, structure)
    return _cost(
        lambda *xs: layer(tree.map_structure(lambda i: xs[i], places)),
        flat,
        [layer.input_dtype] * len(flat),
        batch_size,
    )
