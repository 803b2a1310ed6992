"""`model.explain()` and `layer.explain(input_shape)`: where shapes and weights come from, in words.

>>> print(layers.Dense(4).explain((3,)))
"""

import copy
import inspect
import math

from lamina import tree
from lamina.explain.explanation import Explanation, Section
from lamina.explain.words import Call, count, joined, shape_text
from lamina.layers.core.input_layer import InputLayer
from lamina.models.tracing import graph_of

__all__ = ["Explanation", "Section", "explain_layer", "explain_model"]

# The longest sum that helps.
_TERMS = 10


def explain_layer(layer, input_shape=None):
    """The `Explanation` of one layer; `input_shape` is explained in `Layer.explain`."""
    if input_shape is None:
        call = _last_call(layer)
        if call is None:
            raise ValueError(
                f"What layer '{layer.name}' makes follows from its input shape, which is unknown. Give it "
                "without the batch axis, such as `layer.explain((3,))`."
            )
    else:
        specs = _arguments(layer, _specs(layer, input_shape))
        # A copy is built in place of a layer that waits for its input shape.
        layer = layer if layer.built else copy.deepcopy(layer)
        outputs = layer.symbolic_call(*specs)
        call = Call(layer, *(_shapes(x) for x in (specs, outputs)))
    return Explanation("", _batch(call.inputs), [_section(call, "")])


def explain_model(model, input_shape=None, expand_nested=True):
    """The `Explanation` of a model, layer by layer; the arguments are explained in `Model.explain`."""
    if input_shape is not None and not model.built:
        specs = _specs(model, input_shape)
        model = copy.deepcopy(model)
        model(specs)
    if not model.built:
        raise ValueError(
            f"The model '{model.name}' is not built: its input shape is unknown, and all other shapes follow "
            "from it. Give it without the batch axis, such as `model.explain((3,))`, or put an `Input` first."
        )
    sections, first = [], {}
    graph = graph_of(model)
    inputs, outputs = _ends(model, graph)
    calls = list(_calls(model, graph))
    number = 0
    for call in calls:
        number += not _is_input(call)
        sections += _numbered(call, "" if _is_input(call) else str(number), expand_nested, first)
    weights = [layer.count_params() for layer in model.layers if layer.weights]
    together = count(model.count_params(), "weight")
    if 1 < len(weights) <= _TERMS and sum(weights) == model.count_params():
        together += " = " + " + ".join(f"{n:,}" for n in weights)
    layers = count(sum(not isinstance(layer, InputLayer) for layer in model.layers), "layer")
    if inputs and outputs:
        start = f"Model '{model.name}' turns {_listed(inputs)} into {_listed(outputs)}, in {layers}"
    else:
        start = f"Model '{model.name}' has {layers}"
    shapes = inputs or [c.inputs[0] for c in calls if c.inputs]
    return Explanation(f"{start} with {together}.", _batch(shapes), sections)


def _is_input(call):
    return not call.inputs and isinstance(call.layer, InputLayer)


def _batch(shapes):
    """What the first axis means."""
    first = next((s[0] for s in shapes if s), 0)
    if first is None:
        return [
            "The first axis is the batch: how many samples come at once. `None` means that the data decides; "
            "no weight depends on it.",
        ]
    if first:
        return [f"The first axis is the batch: always {count(first, 'sample')} at once, as the input says."]
    return []


def _numbered(call, number, expand_nested, first):
    """The section of a call, and those of what is inside it; `first` says where a layer came first."""
    layer = call.layer
    shared, _ = first.setdefault(id(layer), (number, layer))  # the layer stays alive, and so its id its own
    seen = shared != number
    section = _section(call, number, shared if seen else None)
    inner = getattr(layer, "layers", None)
    if not inner or not expand_nested or seen:
        return [section]
    sections = [section]
    inside_calls = [c for c in _calls(layer, graph_of(layer)) if not _is_input(c)]
    for i, inside in enumerate(inside_calls, start=1):
        sections += _numbered(inside, f"{number}.{i}", expand_nested, first)
    return sections


def _section(call, number, shared=None):
    from lamina.explain.families import describe  # with all that the families teach it

    layer = call.layer
    is_input = not call.inputs
    arrow = f"{_listed(call.inputs)} -> {_listed(call.outputs)}" if not is_input else _listed(call.outputs)
    sentences = [] if is_input else [_arrival(call)]
    sentences += describe(layer, call)
    if shared is not None:
        sentences.append(f"It is layer {shared} again, with the same weights: they count once.")
    elif not is_input:
        sentences.append(_weights(layer))
    return Section(
        f"{number}. {type(layer).__name__} '{layer.name}'".removeprefix(". "),
        arrow,
        [s for s in sentences if s],
    )


def _arrival(call):
    given = [shape_text(s, call.axes(s)) for s in call.inputs]
    source = f" from {joined([repr(p) for p in call.producers])}" if call.producers else ""
    if len(given) > 1 and len(set(given)) == 1:
        given = [f"each {given[0]}"]
    return f"In{source}: {'; '.join(given)}."


def _weights(layer):
    """The shapes of the weights, what they multiply out to, and the sum."""
    from lamina.models.costs import weight_formula

    weights = getattr(layer, "weights", None) or []
    if not weights:
        return "No weights."
    if getattr(layer, "layers", None):
        return f"Together {count(layer.count_params(), 'weight')}."
    parts, names = [], _names(layer, weights)
    for w, name in zip(weights[:8], names, strict=False):
        product = "*".join(map(str, w.shape)) or "1"
        size = math.prod(w.shape)
        written = f"{product} = " if len(w.shape) > 1 else ""
        parts.append(f"`{name}` {tuple(w.shape)} = {written}{size:,}")
    rest = f" and {len(weights) - 8} more" if len(weights) > 8 else ""
    total = layer.count_params()
    together = f" Together {weight_formula(weights)} = {total:,}." if len(weights) > 1 else ""
    fixed = sum(math.prod(w.shape) for w in layer.non_trainable_weights)
    frozen = ""
    if fixed and layer.trainable:
        learnt = total - fixed
        frozen = f" Training learns {learnt:,} of them." if learnt else " Training learns none of them."
    elif not layer.trainable:
        frozen = " They are frozen (`trainable=False`)."
    return f"Weights: {', '.join(parts)}{rest}.{together}{frozen}"


def _names(layer, weights):
    """The names of weights; where they are not enough, with the part of the layer that each belongs to."""
    names = [w.name for w in weights]
    if len(set(names)) == len(names):
        return names
    return [w.path.split(f"{layer.name}/", 1)[-1] for w in weights]


# ----------------------------------------------------------------------------------------------- the calls


def _calls(model, graph):
    """The calls inside a model in the order in which they run; without a graph, its layers as built."""
    if graph is not None:
        for node in _reading_order(graph._graph.nodes):
            yield Call(
                node.operation,
                _shapes(node.input_tensors),
                _shapes(node.output_tensors),
                [x._keras_history.operation.name for x in node.input_tensors],
            )
        return
    for layer in model.layers:
        yield _built_call(layer) or Call(layer, [], [])


def _reading_order(nodes):
    """Each call after those that it needs, and a branch to its end before the next one begins."""
    follow = {id(node): [] for node in nodes}
    for node in nodes:
        for before in node.parent_nodes:
            follow[id(before)].append(node)
    waiting, seen, ordered = [node for node in nodes if not node.parent_nodes][::-1], set(), []
    while waiting:
        node = waiting.pop()
        if id(node) not in seen and all(id(before) in seen for before in node.parent_nodes):
            seen.add(id(node))
            ordered.append(node)
            waiting += follow[id(node)][::-1]
    return ordered


def _ends(model, graph):
    """The shapes that go into a model and come out of it; empty lists where they are unknown."""
    if graph is not None:
        return _shapes(graph.inputs), _shapes(graph.outputs)
    call = _built_call(model)
    return (call.inputs, call.outputs) if call else ([], [])


def _last_call(layer):
    if layer._inbound_nodes:
        node = layer._inbound_nodes[-1]
        return Call(layer, _shapes(node.input_tensors), _shapes(node.output_tensors))
    return _built_call(layer)


def _built_call(layer):
    """The call that a layer was built for; `None` when that is not known."""
    from lamina.models.costs import layer_cost

    if not getattr(layer, "_build_shapes_dict", None):
        return None
    found = layer_cost(layer, nodes=())
    if not found.output_shapes:
        return None
    # It may have been built by data: the number of samples was that of one call.
    shapes = [
        [(None, *s[1:]) if s else s for s in side] for side in (found.input_shapes, found.output_shapes)
    ]
    return Call(layer, *shapes)


def _shapes(structure):
    return [tuple(x.shape) for x in tree.flatten(structure)]


def _listed(shapes):
    return " and ".join(map(str, shapes))


def _specs(layer, input_shape):
    """KerasTensors with a free batch axis."""
    from lamina.backend import standardize_shape
    from lamina.engine.keras_tensor import KerasTensor

    if not hasattr(input_shape, "__iter__"):
        standardize_shape(input_shape)  # says what is wrong

    def spec(shape):
        return KerasTensor((None, *standardize_shape(shape)), layer.input_dtype)

    shapes = input_shape if isinstance(input_shape, dict) else _tuples(input_shape)
    return tree.map_shape_structure(spec, shapes)


def _arguments(layer, specs):
    """The specs as arguments of `call`: one each where it needs several, such as query and value."""
    needed = [
        name
        for name, p in inspect.signature(layer.call).parameters.items()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    if len(needed) < 2:
        return [specs]
    kind = type(layer).__name__
    if hasattr(layer, "state_size"):
        raise ValueError(
            f"{kind} is a cell: one step of a recurrent layer. Explain that layer, `RNN({kind}(...))`, for "
            "an input shape such as (steps, features)."
        )
    given = specs if isinstance(specs, list) else [specs] * len(needed)  # a sequence attends to itself
    if len(given) < len(needed):
        raise ValueError(
            f"`call` of {kind} needs {joined(needed)}. Give a shape without the batch axis for each, such as "
            f"`layer.explain([{', '.join(['(5, 3)'] * len(needed))}])`."
        )
    return given


def _tuples(shape):
    nested = [e for e in shape if isinstance(e, (list, tuple))]
    return [tuple(e) for e in shape] if nested else tuple(shape)
