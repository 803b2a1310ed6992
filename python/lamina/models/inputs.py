"""Does data fit a model's inputs? If not, say how it was meant."""

import itertools
import math

from lamina import ops, tree
from lamina.engine.keras_tensor import KerasTensor
from lamina.engine.operation import consumers
from lamina.engine.trace import infer
from lamina.engine.tracebacks import warn
from lamina.errors import ShapeError, axis_names, did_you_mean, show_shape


def fits(shape, expected):
    """Are two shapes equal, an unknown axis being equal to anything?"""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def adjust_inputs(model, inputs):
    """The tensors `inputs`, in the order of `model.inputs`, each with a last axis of 1 added or dropped where
    that makes it fit.

    Raises `ShapeError` naming the input. Another batch size than a fixed one is said once, and accepted.
    """
    adjusted = []
    for x, reference in zip(inputs, model.inputs, strict=True):
        how = None if x is None else reading(model, x.shape, reference, inputs)
        x = ops.expand_dims(x, -1) if how == "added" else ops.squeeze(x, -1) if how == "dropped" else x
        adjusted.append(x)
    return adjusted


def check_data(model, arrays):
    """As `adjust_inputs`, for the arrays of a whole data set: only says what does not fit."""
    for x, reference in zip(arrays, model.inputs, strict=True):
        if x is not None:
            reading(model, x.shape, reference, arrays, whole=True)


def reading(model, shape, reference, inputs, whole=False):
    """How data of `shape` is read as the symbolic input `reference`: `None` (as it is), "added", "dropped".

    Args:
        inputs: all inputs, to see whether they came in another order.
        whole: the first axis counts all samples, not those of one batch.
    """
    shape, expected = tuple(shape), reference.shape
    if whole:
        expected = (None, *expected[1:])
    if fits(shape, expected):
        return None
    if fits(shape[1:], expected[1:]) and shape and not model.strict_shapes:
        # What truly depends on the batch size, such as a stateful layer, says so itself.
        say_once(
            model,
            "batch",
            f"Input '{reference.name}' of model '{model.name}' was made for batches of exactly "
            f"{expected[0]}, and was fed one of {shape[0]}. Make the `Input` without `batch_size`, or feed "
            "batches of that size.",
        )
        return None
    missing = _missing_batch(shape, expected)
    added = len(shape) == len(expected) - 1 and expected[-1] == 1 and fits(shape, expected[:-1])
    dropped = len(shape) == len(expected) + 1 and shape[-1] == 1 and fits(shape[:-1], expected)
    # (1,) into Input((1,)) is the same either way.
    if (added or dropped) and (not missing or set(shape) == {1}) and not model.strict_shapes:
        read = (*shape, 1) if added else shape[:-1]
        say_once(
            model,
            "read",
            f"Input '{reference.name}' of model '{model.name}' has shape {expected}; data of shape {shape} "
            f"was read as {read}. Write `{'x[..., None]' if added else 'x[..., 0]'}` to say so, or set "
            "`model.strict_shapes = True` to make this an error.",
        )
        return "added" if added else "dropped"
    raise _error(model, shape, expected, reference, missing, added or dropped, inputs)


def _missing_batch(shape, expected):
    """The index that makes a batch of one sample, where `shape` is that of one sample; else `None`."""
    sample = expected[1:]
    if shape[:1] == (None,):  # an unknown first axis is a batch
        return None
    if len(shape) == len(sample) and fits(shape, sample):
        return "x[None]"
    if len(sample) > 1 and sample[-1] == 1 and len(shape) == len(sample) - 1 and fits(shape, sample[:-1]):
        return "x[None, ..., None]"
    return None


def _error(model, shape, expected, reference, missing, strict, inputs):
    position = next(i for i, r in enumerate(model.inputs) if r is reference)
    if len(shape) == len(expected):
        message = (
            f"Input {position} with name '{reference.name}' of layer '{model.name}' is incompatible with the "
            f"layer: expected shape={expected}, found shape={shape}"
        )
    else:
        path = ".".join(map(str, tree.flatten_with_path(model.input)[position][0]))
        message = (
            f"Invalid input shape for input {position} with name '{reference.name}' and path '{path}'. "
            f"Expected shape {expected}, but input has incompatible shape {shape}: "
            f"expected ndim={len(expected)}, found ndim={len(shape)}"
        )
    axes = axis_names(len(shape))
    order = _other_order(model, inputs)
    if order:
        cause, fix = order
    elif missing:
        read = (1, *shape, 1) if missing.endswith("..., None]") else (1, *shape)
        cause, fix, axes = "this is one sample without its batch axis", f"`{missing}`  # shape {read}", None
    elif strict:
        cause = "`strict_shapes` is on, so no axis of length 1 is added or dropped in silence"
        fix = "`x[..., None]`" if len(shape) < len(expected) else "`x[..., 0]`"
    elif len(shape) != len(expected):
        cause, fix = _other_rank(shape, expected)
    elif fits(shape[1:], expected[1:]):
        cause = f"the model was made for batches of exactly {expected[0]}"
        fix = "make the `Input` without `batch_size`, or feed batches of that size"
    elif len(shape) > 3 and fits((shape[0], *shape[2:], shape[1]), expected):
        cause = (
            f"axis 1 holds the {shape[1]} channels (channels_first data), where the model expects them last"
        )
        fix = "`np.moveaxis(x, 1, -1)`, or layers with `data_format='channels_first'`"
        axes = axis_names(len(shape), "channels_first")
    else:
        cause, fix = _other_sizes(model, shape, expected, position)
    return ShapeError(
        message,
        layer=model,
        argument=reference.name,
        got=shape,
        axes=axes,
        expected=f"{show_shape(expected, axis_names(len(expected)))}, the shape of input '{reference.name}'",
        cause=cause,
        fix=fix,
    )


def _other_rank(shape, expected):
    """(cause, fix) for too many axes, or too few: images as rows of pixels, or the other way round?"""
    if shape == (0,):
        return "there are no samples", f"samples of shape {expected[1:]}"
    cause = f"{len(shape)} {'axis' if len(shape) == 1 else 'axes'} where the model has {len(expected)}"
    sample = expected[1:]
    if len(shape) > 1 and None not in (*shape[1:], *sample) and math.prod(shape[1:]) == math.prod(sample):
        return (
            f"{cause}, and {math.prod(sample)} values per sample in both",
            f"`x.reshape({', '.join(map(str, (-1, *sample)))})`",
        )
    if len(shape) == len(expected) - 1:
        return cause, "`x[..., None]` if each value is one feature or channel"
    return cause, None


def _other_order(model, inputs):
    """(cause, fix) when the inputs would fit in another order."""
    shapes = [None if x is None else tuple(x.shape) for x in inputs]
    if not 1 < len(shapes) < 6 or None in shapes:
        return None
    for order in itertools.permutations(range(len(shapes))):
        if all(fits(shapes[i][1:], r.shape[1:]) for i, r in zip(order, model.inputs, strict=True)):
            names = model.input_names
            how = "order reversed?" if list(order) == [*range(len(shapes))][::-1] else "another order?"
            by_name = ", ".join(f"'{name}': ..." for name in names)
            return (
                f"the values fit the inputs in another order: {how}",
                f"pass them in the order [{', '.join(names)}], or by name: `{{{by_name}}}`",
            )
    return None


def _other_sizes(model, shape, expected, position):
    """(cause, fix) for axes of other lengths than the model was made for: what would break further on?"""
    wrong = [i for i, (a, b) in enumerate(zip(shape, expected, strict=True)) if None not in (a, b) and a != b]
    names = axis_names(len(shape))
    cause = ", ".join(
        f"{shape[i]} along axis {i}{f' ({names[i]})' if names else ''} where the model was made for "
        f"{expected[i]}"
        for i in wrong
    )
    remake = f"feed data of shape {expected}, or make the model with `Input({tuple(shape[1:])})`"
    specs = [KerasTensor(r.shape, r.dtype) for r in model.inputs]
    specs[position] = KerasTensor((None, *shape[1:]), specs[position].dtype)
    try:
        infer(lambda *xs: model._run_through_graph(xs), specs)
    except ShapeError as e:
        # A layer right behind the input says nothing new.
        behind = {node.operation for node in consumers(model.inputs[position])}
        if e.layer in behind and hasattr(e.layer, "_check_data"):  # a model inside, which looked further
            cause = e.cause
        elif e.layer is not None and e.layer is not model and e.layer not in behind:
            layer = f"'{e.layer.name}' ({type(e.layer).__name__})" if hasattr(e.layer, "name") else e.layer
            cause += f"; the first layer to break would be {layer}, which would get {e.got}"
            cause += f" and needs {e.expected}" if e.expected else ""
        return cause, remake
    except Exception:  # a layer with checks of its own: the sizes alone are the cause
        return cause, remake
    free = tuple(None if i in wrong else d for i, d in enumerate(expected))[1:]
    return f"{cause}; no layer depends on it", f"make the model with `Input({free})`, which takes both"


def structure_error(model, inputs):
    """The `ShapeError` of inputs in another structure than the model's: too many, too few, wrong keys."""
    struct = model.input
    names = model.input_names
    leaves = tree.flatten(inputs)
    message, cause, fix = "", None, None
    if isinstance(inputs, dict):
        keys = list(struct) if isinstance(struct, dict) else names
        missing = [key for key in keys if key not in inputs]
        unknown = [key for key in inputs if key not in keys]
        if missing:
            message = (
                f'Missing data for input "{missing[0]}". You passed a data dictionary with keys '
                f"{list(inputs)}. Expected the following keys: {keys}. "
            )
        if unknown:
            hint = did_you_mean(unknown[0], missing or keys)
            cause = f"the model has no input called '{unknown[0]}'.{hint}"
    elif len(leaves) != len(names):
        named = f"named input(s) with keys {sorted(struct)}" if isinstance(struct, dict) else "input(s)"
        message = (
            f"Layer '{model.name}' expects {len(names)} {named}, "
            f"but it received {len(leaves)} input tensors. "
        )
        cause = f"{len(leaves)} where the model has {len(names)} inputs: {', '.join(names)}"
        shapes = {getattr(leaf, "shape", None) for leaf in leaves}
        if len(leaves) > len(names) == 1 and len(shapes) == 1:
            cause = "a list stands for several inputs, one array each; this looks like a list of samples"
            fix = "`np.stack(x)`"
    if fix is None and len(names) > 1:
        fix = "`{" + ", ".join(f"'{name}': ..." for name in names) + "}`"
        fix += "" if isinstance(struct, dict) else f", or a list in the order [{', '.join(names)}]"
    return ShapeError(
        message + structures(model, inputs),
        layer=model,
        argument="inputs",
        expected=", ".join(f"{x.name} {x.shape}" for x in model.inputs),
        got=", ".join(str(getattr(x, "shape", x)) for x in leaves[:4]) + (", ..." if len(leaves) > 4 else ""),
        cause=cause,
        fix=fix,
    )


def structures(model, inputs):
    """The structure that the model's inputs have, and the one that was given."""
    expected = tree.map_structure(lambda x: x.name, model.input)
    received = tree.map_structure(
        lambda x: "None" if x is None else f"Tensor(shape={getattr(x, 'shape', x)})", inputs
    )
    return (
        "The structure of `inputs` doesn't match the expected structure. "
        f"Expected: {expected}, received: inputs={received}"
    )


def say_once(model, topic, text):
    """Warns once a model about each topic."""
    said = model.__dict__.setdefault("_said", set())
    if topic not in said:
        said.add(topic)
        warn(text)
