"""`model.summary()`: the layers as a table."""

import math
import re
import shutil

from lamina import tree
from lamina.errors import did_you_mean

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


def memory_size(weights):
    """How many bytes the weights take."""
    return sum(math.prod(w.shape) * _BYTES.get(w.dtype, 4) for w in weights)


def readable_size(size):
    """`1536` -> `"1.50 KB"`."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} PB"


def print_summary(
    model,
    line_length=None,
    positions=None,
    print_fn=None,
    expand_nested=False,
    show_trainable=False,
    layer_range=None,
):
    """Prints the table of `model.summary`; its arguments are explained there."""
    import rich.console
    import rich.table

    from lamina import config
    from lamina.models.functional import Functional

    layers = model.operations if isinstance(model, Functional) else model.layers
    branched = isinstance(model, Functional) and _is_branched(model)
    header = [("Layer (type)", "left"), ("Output Shape", "left"), ("Param #", "right")]
    if branched:
        header.append(("Connected to", "left"))
    width, ends = (108, (0.3, 0.56, 0.74, 1.0)) if branched else (88, (0.45, 0.80, 1.0))
    ends = list(positions or ends)
    if show_trainable:
        header.append(("Trainable", "center"))
        width, ends = width + 12, [e * 0.9 for e in ends] + [1.0]
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    if ends[-1] > 1:  # absolute positions
        ends = [e / width for e in ends]
    columns, start = [], 0
    for (title, justify), end in zip(header, ends, strict=True):
        size = int(end * width) - start
        if size < 4:
            raise ValueError("Insufficient console width to print summary.")
        columns.append(rich.table.Column(title, justify=justify, width=size))
        start += size
    table = rich.table.Table(*columns, width=width, show_lines=True)
    nodes = model._nodes if branched else None
    for layer in layers[slice(*_range(layers, layer_range))]:
        for row in _rows(layer, nodes, expand_nested, show_trainable):
            table.add_row(*row)

    lines = _totals(model)
    plain = print_fn is not None or not config.is_interactive_logging_enabled()
    # A console that writes nowhere renders the text; colours only where a person looks at it.
    options = {"force_terminal": False, "color_system": None} if plain else {}
    console = rich.console.Console(highlight=False, width=max(width, 80) if plain else None, **options)
    with console.capture() as capture:
        console.print(_bold(f'Model: "{rich.markup.escape(model.name)}"'))
        console.print(table)
        for line in lines:
            console.print(line)
    if print_fn is not None:
        print_fn(capture.get())
    else:
        print(capture.get(), end="")


def _totals(model):
    trainable, fixed = model.trainable_weights, model.non_trainable_weights
    optimizer = getattr(model, "optimizer", None)
    slots = optimizer.variables if optimizer is not None and getattr(optimizer, "built", False) else []
    if not model.built and not model.weights:
        return [_bold(" Total params: ") + "unbuilt: the input shape is unknown"]
    parts = [
        ("Total params", [*trainable, *fixed, *slots]),
        ("Trainable params", trainable),
        ("Non-trainable params", fixed),
    ]
    parts += [("Optimizer params", slots)] if slots else []
    return [
        _bold(f" {title}: ") + _number(f"{count_params(w):,}") + f" ({readable_size(memory_size(w))})"
        for title, w in parts
    ]


def _is_branched(model):
    """Whether a call has several inputs, calls stand side by side, or a layer is called twice."""
    levels = model._nodes_by_depth.values()
    if any(len(nodes) > 1 or len(nodes[0].input_tensors) > 1 for nodes in levels):
        return True
    operations = [n.operation for nodes in levels for n in nodes]
    return len(set(operations)) < len(operations)


def _rows(layer, nodes, expand_nested, show_trainable, level=0):
    from rich.markup import escape

    prefix = "   " * level + "└ " if level else ""
    row = [
        f"{escape(prefix + layer.name)} ([color(33)]{escape(type(layer).__name__)}[/])",
        _shape(layer, nodes),
        _params(layer),
    ]
    if nodes is not None:
        row.append(_connections(layer, nodes))
    if show_trainable:
        weights = getattr(layer, "weights", None)
        row.append(_bold("-") if not weights else _bold("Y", 34) if layer.trainable else _bold("N", 9))
    rows = [row]
    if expand_nested:
        for inner in getattr(layer, "layers", None) or []:
            rows += _rows(inner, None, expand_nested, show_trainable, level + 1)
            if nodes is not None:
                for r in rows[1:]:
                    if len(r) < len(row):
                        r.insert(3, "-")
    return rows


def _params(layer):
    if not hasattr(layer, "built"):
        return _number(0)
    if not layer.built:
        return "? (unbuilt)"
    return _number(f"{layer.count_params():,}")


def _shape(layer, nodes):
    """The output shape of the last call (of this graph), or what the layer says about itself."""
    calls = [n for n in layer._inbound_nodes if nodes is None or n in nodes] or layer._inbound_nodes
    if calls:
        shapes = [x.shape for x in calls[-1].output_tensors]
    else:
        try:
            shapes = _own_shapes(layer)
        except (AttributeError, NotImplementedError, TypeError, ValueError):
            return "?"
    texts = [
        f"({', '.join(_number(d, 45 if d is None else 34) for d in s)}{',' if len(s) == 1 else ''})"
        for s in shapes
    ]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]".replace("[(", "\\[(", 1)


def _own_shapes(layer):
    if getattr(layer, "output_shape", None) is not None:
        shape = layer.output_shape
    else:
        shape = layer.compute_output_shape(**layer._build_shapes_dict)
    flat = []
    tree.map_shape_structure(lambda s: flat.append(tuple(s)), shape)
    return flat


def _connections(layer, nodes):
    texts = []
    for node in layer._inbound_nodes:
        for x in node.input_tensors if node in nodes else []:
            operation, node_index, tensor_index = x._keras_history
            texts.append(f"{operation.name}\\[{_number(node_index)}]\\[{_number(tensor_index)}]")
    return ", ".join(texts) or "-"


def _range(layers, layer_range):
    """Indices of the first layer to show and of the one after the last."""
    if layer_range is None:
        return 0, len(layers)
    if len(layer_range) != 2 or not all(isinstance(name, str) for name in layer_range):
        raise ValueError(
            f"layer_range must be a list or tuple of two strings: names of layers. Received: {layer_range}"
        )
    found = [[i for i, layer in enumerate(layers) if re.match(name, layer.name)] for name in layer_range]
    names = [layer.name for layer in layers]
    for name, indices in zip(layer_range, found, strict=True):
        if not indices:
            raise ValueError(
                f"Passed layer_names do not match the layer names in the model. Received: {layer_range}. No "
                f"layer matches '{name}'.{did_you_mean(name, names)}"
            )
    first, last = min(found[0]), max(found[1])
    return (first, last + 1) if first <= last else (min(found[1]), max(found[0]) + 1)


def _number(x, color=34):
    return f"[color({color})]{x}[/]"


def _bold(x, color=None):
    return f"[bold][color({color})]{x}[/][/]" if color else f"[bold]{x}[/]"
