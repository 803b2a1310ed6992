"""`lamina summary`, `explain`, `plot` and `inspect`: what a model is."""

import json
import math
import os
import zipfile

from lamina.commands import CommandError
from lamina.commands.load import is_reference, load_model, read_config, weights_beside


def print_json(value):
    """JSON for programs, on stdout."""
    print(json.dumps(value, indent=2))


def summary(arguments):
    """The table of layers, or its numbers."""
    model = load_model(arguments.file)
    if arguments.json:
        print_json(summary_values(model, arguments.batch_size))
        return
    model.summary(
        expand_nested=arguments.expand_nested,
        show_trainable=arguments.trainable,
        formulas=arguments.formulas,
        flops=arguments.flops,
        memory=arguments.memory,
        batch_size=arguments.batch_size,
    )


def summary_values(model, batch_size=1):
    """What `model.summary` shows, as plain values; `None` for what is unknown."""
    from lamina.models.costs import count_params, layer_cost, model_cost, own_nodes, weight_formula

    nodes = own_nodes(model)
    rows = []
    for layer in model.layers:
        cost = layer_cost(layer, nodes, batch_size)
        rows.append(
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "input_shapes": cost.input_shapes,
                "output_shapes": cost.output_shapes,
                "params": layer.count_params() if layer.built else None,
                "formula": weight_formula(layer.weights),
                "trainable": layer.trainable,
                "flops": cost.flops,
                "output_bytes": cost.output_bytes,
            }
        )
    planned = model_cost(model, batch_size) if model.built else None
    return {
        "name": model.name,
        "type": type(model).__name__,
        "batch_size": batch_size,
        "params": model.count_params() if model.built else None,
        "trainable_params": count_params(model.trainable_weights) if model.built else None,
        "flops": planned and planned.flops,
        "arena_bytes": planned and planned.arena_bytes,
        "layers": rows,
    }


def explain(arguments):
    """The derivation of every shape and weight count."""
    model = load_model(arguments.file)
    if not model.built and arguments.input_shape is None:
        raise CommandError(
            f"The model '{model.name}' is not built: its input shape is unknown, and all other shapes follow "
            "from it.\nfix: --input-shape 28,28,1 (without the batch)"
        )
    explanation = model.explain(arguments.input_shape)
    if arguments.json:
        print_json(explanation.to_dict())
    else:
        print(explanation)


def plot(arguments):
    """A picture in a file."""
    from lamina.plot import plot_model

    plot_model(
        load_model(arguments.file),
        arguments.output,
        show_shapes=not arguments.no_shapes,
        show_dtype=arguments.dtype,
        show_layer_names=not arguments.no_names,
        rankdir=arguments.rankdir,
        expand_nested=arguments.expand_nested,
        dpi=arguments.dpi,
        show_layer_activations=arguments.activations,
        show_trainable=arguments.trainable,
        view=arguments.view,
    )
    print(arguments.output)


def inspect(arguments):
    """What a file holds, without building a model."""
    path = arguments.file
    if is_reference(path):
        raise CommandError(f"`inspect` reads files; {path} is Python. Use `lamina summary {path}`.")
    if path.endswith(".npz"):
        found = {"weights": {"file": path, "arrays": arrays_in(path)}}
    else:
        found = {"model": _model_values(path)}
        beside = weights_beside(path)
        if beside is not None:
            found["weights"] = {"file": beside, "arrays": arrays_in(beside)}
    if arguments.json:
        print_json(found)
    else:
        print("\n".join(_inspection(found)))


def arrays_in(path):
    """Names, shapes and dtypes of the arrays in an `.npz` file, from their headers alone."""
    from numpy.lib import format as npy

    arrays = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    version = npy.read_magic(file)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(file)
                arrays.append(
                    {
                        "name": entry.filename.removesuffix(".npy"),
                        "shape": list(shape),
                        "dtype": str(dtype),
                        "bytes": math.prod(shape) * dtype.itemsize,
                    }
                )
    except FileNotFoundError:
        raise CommandError(f"There is no file {path}.") from None
    except (zipfile.BadZipFile, ValueError) as e:
        raise CommandError(f"{path} is not an .npz file of arrays, or is damaged: {e}") from None
    return arrays


def _model_values(path):
    config = read_config(path)
    inner = config["config"]
    return {
        "file": path,
        "bytes": os.path.getsize(path),
        "class": config["class_name"],
        "registered": config.get("registered_name"),
        "name": inner.get("name"),
        "layers": [
            {
                "class": layer.get("class_name"),
                "name": (layer.get("config") or {}).get("name"),
                "input_shape": _input_shape(layer),
                "arguments": _arguments(layer.get("config") or {}),
            }
            for layer in inner.get("layers") or []
        ],
        "compiled": bool(config.get("compile_config")),
    }


def _input_shape(layer):
    config = layer.get("config") or {}
    return (layer.get("build_config") or {}).get("input_shape") or config.get("batch_shape")


# What decides the shapes; the rest of a configuration is left to the file.
_SHOWN = (
    "units",
    "filters",
    "kernel_size",
    "pool_size",
    "strides",
    "padding",
    "rate",
    "axis",
    "input_dim",
    "output_dim",
    "target_shape",
    "groups",
    "activation",
)


def _arguments(config):
    plain = {k: config[k] for k in _SHOWN if isinstance(config.get(k), (int, float, str, list))}
    return {k: v for k, v in plain.items() if v != "linear"}


def _inspection(found):
    from lamina.explain.words import count
    from lamina.models.summary import readable_size

    lines = []
    if "model" in found:
        m = found["model"]
        lines.append(f"{m['file']}: {m['class']} '{m['name']}', {count(len(m['layers']), 'layer')}")
        rows = [
            (
                layer["class"] or "?",
                layer["name"] or "",
                "" if layer["input_shape"] is None else str(tuple(layer["input_shape"])),
                ", ".join(f"{k}={v}" for k, v in layer["arguments"].items()),
            )
            for layer in m["layers"]
        ]
        lines += table([("layer", "name", "input shape", "arguments"), *rows])
    if "weights" in found:
        arrays = found["weights"]["arrays"]
        size = readable_size(sum(a["bytes"] for a in arrays))
        lines += [""] if lines else []
        lines.append(f"{found['weights']['file']}: {count(len(arrays), 'array')}, {size}")
        rows = [(a["name"], str(tuple(a["shape"])), a["dtype"]) for a in arrays]
        lines += table([("array", "shape", "dtype"), *rows])
    return lines


def table(rows):
    """Lines of left-aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
