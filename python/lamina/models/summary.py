"""`model.summary()`: the layers as a table."""

import contextlib
import io
import re
import shutil
import sys

from lamina.errors import did_you_mean
from lamina.models.costs import (
    count_params,
    layer_cost,
    memory_size,
    model_cost,
    own_nodes,
    own_shapes,
    weight_formula,
)


def readable_size(size):
    """`1536` -> `"1.50 KB"`."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} PB"


def readable_count(number):
    """`7717858184` -> `"7.72 G"`; exact below a hundred thousand: `"27,648"`."""
    if number < 100_000:
        return f"{number:,}"
    units = iter("KMGTPE")
    unit = ""
    while number >= 999.5:
        number, unit = number / 1000, next(units)
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"


def print_summary(
    model,
    line_length=None,
    positions=None,
    print_fn=None,
    expand_nested=False,
    show_trainable=False,
    layer_range=None,
    formulas=False,
    flops=False,
    memory=False,
    batch_size=1,
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
    extra, cells = _extra_columns(formulas, flops, memory, batch_size)
    header += extra
    notebook = print_fn is None and _in_notebook()
    terminal = shutil.get_terminal_size()
    seen = sys.stdout.isatty() and print_fn is None and not notebook
    if extra and positions is None:
        # As wide as it must be, and no wider than where it is seen.
        width = line_length or (terminal.columns if seen else 200)
        table = rich.table.Table(*_columns(header), show_lines=True)
    else:
        width = line_length or min(width, terminal.columns - 4)
        table = rich.table.Table(*_columns(header, ends, width), width=width, show_lines=True)
    nodes = model._nodes if branched else None
    counted = own_nodes(model)
    for layer in layers[slice(*_range(layers, layer_range))]:
        for row in _rows(layer, nodes, counted, cells, expand_nested, show_trainable):
            table.add_row(*row)

    lines = _totals(model) + _cost_totals(model, flops, memory, batch_size)
    if memory:
        lines += _bytes_by_dtype(model)
    plain = print_fn is not None or notebook or not config.is_interactive_logging_enabled()
    # A console that writes nowhere renders the text; colours only where a person looks at it.
    options = {"force_terminal": False, "color_system": None} if plain and not notebook else {}
    size = max(width, 80) if plain else width if extra else None
    console = rich.console.Console(
        highlight=False, width=size, record=notebook, file=io.StringIO() if notebook else None, **options
    )
    with contextlib.nullcontext() if notebook else console.capture() as capture:
        console.print(_bold(f'Model: "{rich.markup.escape(model.name)}"'))
        console.print(table)
        for line in lines:
            console.print(line)
    if print_fn is not None:
        print_fn(capture.get())
    elif notebook:
        _display(console.export_html(inline_styles=True, code_format=_HTML))
    else:
        _print(capture.get())


def _print(text):
    """Prints; where the output takes ASCII only, what else rich wrote has a plain stand-in."""
    try:
        print(text, end="")
    except UnicodeEncodeError:
        print(text.replace("…", "~").replace("└", "+").encode("ascii", "replace").decode(), end="")


_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def _in_notebook():
    """Whether what is shown goes to a notebook, which is where IPython's kernel runs."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _display(html):
    from IPython.display import HTML, display

    display(HTML(html))


def _columns(header, ends=None, width=None):
    import rich.table

    if ends is None:
        return [rich.table.Column(title, justify=justify) for title, justify in header]
    if ends[-1] > 1:  # absolute positions
        ends = [e / width for e in ends]
    columns, start = [], 0
    for (title, justify), end in zip(header, ends, strict=True):
        size = int(end * width) - start
        if size < 4:
            raise ValueError("Insufficient console width to print summary.")
        columns.append(rich.table.Column(title, justify=justify, width=size))
        start += size
    return columns


def _extra_columns(formulas, flops, memory, batch_size):
    """The columns that were asked for: (title, justification) of each, and their texts for a layer.

    The second is a function of the layer and the calls that count.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be a positive integer. Received: batch_size={batch_size}")
    header = [("Weights", "left")] if formulas else []
    header += [("FLOPs", "right")] if flops else []
    header += [("Output bytes", "right")] if memory else []

    def cells(layer, nodes):
        texts = [weight_formula(getattr(layer, "weights", [])) or "-"] if formulas else []
        if flops or memory:
            cost = layer_cost(layer, nodes, batch_size)
            texts += [_shown(cost.flops, readable_count)] if flops else []
            texts += [_shown(cost.output_bytes, readable_size)] if memory else []
        return texts

    return header, cells


def _shown(number, readable):
    return "?" if number is None else _number(readable(number))


def _cost_totals(model, flops, memory, batch_size):
    """The lines about the whole model as it is planned: fused, and with memory used again."""
    if not (flops or memory) or not model.built:
        return []
    found = model_cost(model, batch_size)
    at = f" (one prediction, batch size {batch_size})"
    lines = []
    if flops:
        text = _shown(found and found.flops, readable_count)
        lines.append(_bold(" FLOPs as planned: ") + text + at)
    if memory:
        text = _shown(found and found.arena_bytes, readable_size)
        if found:
            text += f", of which {readable_size(found.live_bytes)} are alive at once"
        lines.append(_bold(" Memory of intermediate values: ") + text + at)
    return lines


def _bytes_by_dtype(model):
    """How many weights there are of each dtype."""
    kinds = {}
    for w in model.weights:
        kinds.setdefault(w.dtype, []).append(w)
    return [
        _bold(f" Weights in {dtype}: ")
        + _number(f"{count_params(w):,}")
        + f" ({readable_size(memory_size(w))})"
        for dtype, w in sorted(kinds.items())
    ]


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


def _rows(layer, nodes, counted, cells, expand_nested, show_trainable, level=0):
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
    row += cells(layer, counted)
    rows = [row]
    if expand_nested:
        inside = own_nodes(layer)
        for inner in getattr(layer, "layers", None) or []:
            rows += _rows(inner, None, inside, cells, expand_nested, show_trainable, level + 1)
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
            shapes = own_shapes(layer)
        except (AttributeError, NotImplementedError, TypeError, ValueError):
            return "?"
    texts = [
        f"({', '.join(_number(d, 45 if d is None else 34) for d in s)}{',' if len(s) == 1 else ''})"
        for s in shapes
    ]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]".replace("[(", "\\[(", 1)


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
