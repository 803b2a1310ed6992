"""Checks of whole data sets before anything is computed: what only the caller's arrays show, and a trace
cannot.
"""

import functools
import math

import numpy as np

from lamina import losses, ops, tree
from lamina.engine import scope
from lamina.engine.operation import consumers
from lamina.engine.tracebacks import warn
from lamina.errors import DataError
from lamina.layers.core.embedding import Embedding
from lamina.losses.checks import check_labels
from lamina.trainers.arrays import is_arrays, standardize
from lamina.trainers.building import forward
from lamina.trainers.data import unpack_x_y_sample_weight


def count_inputs(model):
    """How many inputs the model has; 1 where that is not known."""
    return len(getattr(model, "inputs", None) or [None]) if model.built else 1


def standardize_inputs(model, x):
    """`x` as arrays that fit the model's inputs; a source of batches as it is.

    Before the samples are counted: one sample without its batch axis has another count than its target.
    """
    if x is None or not is_arrays(x):
        return x
    x = standardize(x, "x", count_inputs(model))
    check_inputs(model, x)
    return x


def check_inputs(model, x):
    """`ShapeError` when the arrays of a model (as the user gave them) do not fit its inputs: too many or too
    few, one sample without a batch axis, other sizes, another order.
    """
    if model.built and hasattr(model, "_check_data") and not _has_own_steps(model):
        model._check_data(x)
        check_ids(model, x, "f")  # a cast to integers would hide a fraction


def _has_own_steps(model):
    """Whether the user's code decides what of a batch goes into the model."""
    steps = (type(model).train_step, type(model).test_step, type(model).predict_step)
    return not all(step.__module__.startswith("lamina.") for step in steps)


def check_batch(model, batch, columns=None):
    """Raises the first of the `problems` of a batch or a whole data set; warns of one that is not certain."""
    for error, certain in problems(model, batch, columns):
        if certain:
            raise error
        warn(str(error))


def problems(model, batch, columns=None):
    """(`DataError`, is it certain) for values that cannot be right: ids outside an embedding, NaN and
    infinities, labels without a class. One pass over the values of each array.

    What the user's own code may be prepared for is not certain. `columns` are the names that a table of
    inputs came with.
    """
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    yield from _caught(check_ids, model, x)
    for name, part, certain in (
        ("x", x, _spreads_nan(model)),
        ("y", y, _own_losses(model._compile_loss)),
        ("sample_weight", sample_weight, True),
    ):
        leaves = tree.flatten_with_path(part) if tree.is_nested(part) else [((), part)]
        for path, array in leaves if not model.allow_nan else ():
            names = columns if name == "x" and not path else None
            error = not_finite(array, name + "".join(f"[{key!r}]" for key in path), names)
            if error is not None:
                yield error, certain
    yield from _caught(check_batch_labels, model, batch)
    yield from _beyond_probabilities(model._compile_loss, y)


def _caught(check, *args):
    try:
        check(*args)
    except DataError as e:
        yield e, True


def _spreads_nan(model):
    """Whether nothing in the model, neither the user's code nor an op made for it, could deal with a NaN."""
    operations = getattr(getattr(model, "_functional", None) or model, "operations", None)
    if operations is None or _has_own_steps(model):
        return False
    made_for_nan = any(type(o).__name__.startswith(("Is", "Nan", "Where")) for o in operations)
    layers = model._flatten_layers()
    ours = all(type(o).__module__.startswith("lamina.") and type(o).__name__ != "Lambda" for o in layers)
    return ours and not made_for_nan


def _own_losses(compile_loss):
    """Whether all losses are lamina's: one of the user's may leave out targets that are NaN."""
    if compile_loss is None or not compile_loss.built:
        return False
    return all(losses.is_known(getattr(loss, "fn", loss)) for _, loss, _ in compile_loss.resolved)


_BLOCK = 1 << 16  # values looked at together: they and the answers stay in the cache


def not_finite(array, name, columns=None):
    """The `DataError` that names the first NaN or infinity of an array of floats, or `None`."""
    if getattr(array, "dtype", None) is None or array.dtype.kind not in "fc" or hasattr(array, "tocsr"):
        return None
    large = array.dtype == np.float32 and array.flags.c_contiguous and array.size >= _BLOCK // 4
    # A sum is finite only where all its terms are; the engine adds on every thread, as fast as memory is.
    if large and math.isfinite(float(ops.sum(array))):
        return None
    rows = len(array) if array.size <= _BLOCK else max(1, _BLOCK * len(array) // array.size)
    for start in range(0, len(array), max(rows, 1)):
        finite = np.isfinite(array[start : start + rows])
        if not finite.all():
            position = np.unravel_index(finite.argmin(), finite.shape)
            return _nan_error(array, name, (int(position[0]) + start, *map(int, position[1:])), columns)
    return None


def _nan_error(array, name, position, columns):
    bad = int(array.size - np.isfinite(array).sum())
    value = "NaN" if np.isnan(array[position]) else str(array[position])
    column = {1: "", 2: f", column {position[-1]}"}.get(array.ndim, f", position {position[1:]}")
    if columns is not None and array.ndim == 2:
        column += f" ({columns[position[-1]]!r})"
    rest = f"; {bad} of its {array.size} values are not finite" if bad > 1 else ""
    axes = {1: "", 2: ".all(axis=1)"}.get(array.ndim, f".all(axis={tuple(range(1, array.ndim))})")
    return DataError(
        f"`{name}` holds {value} at row {position[0]}{column}{rest}.",
        argument=name,
        got=f"{value} at {position}",
        expected="finite numbers",
        cause="a value is missing, or a computation went wrong before; one step on it makes every weight NaN",
        fix=f"leave out such rows (`keep = np.isfinite({name}){axes}`) or fill them "
        f"(`np.nan_to_num({name})`); `model.allow_nan = True` if the model is made for them",
    )


def _beyond_probabilities(compile_loss, y):
    """Targets of binary crossentropies that are outside 0..1, such as labels -1 and 1, or 1 and 2."""
    if y is None or compile_loss is None or not compile_loss.built:
        return
    for index, loss, _ in compile_loss.resolved:
        name = getattr(getattr(loss, "fn", None), "__name__", "")
        if name not in ("binary_crossentropy", "binary_focal_crossentropy"):
            continue
        targets = np.asarray(compile_loss.targets(y)[index])
        if targets.size and (targets.min() < 0 or targets.max() > 1):
            place = np.unravel_index(((targets < 0) | (targets > 1)).argmax(), targets.shape)
            error = DataError(
                f"{name}: target {targets[place]} at row {place[0]} is outside 0..1.",
                op=name,
                argument="y",
                got=f"targets from {targets.min()} to {targets.max()}",
                expected="0 and 1, or probabilities",
                cause="such a target has no probability, and the loss has no minimum",
                fix='turn labels into 0 and 1, or use "sparse_categorical_crossentropy" for several classes',
            )
            yield error, False


def check_ids(model, x, kinds="biuf"):
    """`DataError` for an id outside the table of an `Embedding` that reads an input of the model, or one that
    is no whole number. Looks at arrays of some `kinds` of dtypes only.
    """
    graph = getattr(model, "_functional", None) or model
    if not takes_ids(model) or _has_own_steps(model):
        return
    for reference, array in zip(graph.inputs, graph._in_order(x), strict=True):
        for node in consumers(reference):
            ids = isinstance(node.operation, Embedding) and isinstance(array, np.ndarray)
            if ids and array.dtype.kind in kinds:
                node.operation.check_ids(array, reference.name)


def takes_ids(model):
    """Whether an `Embedding` reads an input of the model."""
    graph = getattr(model, "_functional", None) or model
    return hasattr(graph, "_in_order") and any(
        isinstance(node.operation, Embedding) for reference in graph.inputs for node in consumers(reference)
    )


def explain_ids(model, batch, whole=None):
    """Finds the layer and the id behind an engine's `IndexError`: in the data that the batch is part of, or
    by running the model layer by layer.
    """
    x = unpack_x_y_sample_weight(batch)[0]
    check_ids(model, x if whole is None else unpack_x_y_sample_weight(whole)[0])
    with scope.flag("eager"):
        forward(model, x, training=False)


def sparse_terms(compile_loss):
    """(index of the output, loss, number of classes) of each loss that takes class indices."""
    for index, loss, shape in compile_loss.resolved:
        function = getattr(loss, "fn", None)
        if getattr(function, "__name__", None) != "sparse_categorical_crossentropy":
            continue
        settings = {"axis": -1, "ignore_class": None, **getattr(loss, "_fn_kwargs", {})}
        classes = shape[settings["axis"]] if shape else None
        if classes is not None:
            yield index, loss, classes, settings["ignore_class"]


@functools.cache
def _unsigned(dtype):
    """The dtype of the same bytes without a sign."""
    return np.dtype(dtype.str.replace("i", "u"))


def are_classes(labels, classes):
    """Whether all labels, of which there are some, are whole numbers in [0, classes), or NaN."""
    if labels.dtype.kind == "i":
        # Without their sign the negative ones are too large.
        return bool(labels.view(_unsigned(labels.dtype)).max() < classes)
    # NaN compares false: `not_finite` is for that.
    fractions = labels.dtype.kind == "f" and (labels % 1 > 0).any()
    return not (fractions or labels.min() < 0 or labels.max() >= classes)


def check_batch_labels(model, batch):
    """`DataError` naming the first label outside [0, classes) for losses on class indices."""
    y = batch[1] if isinstance(batch, tuple) and len(batch) > 1 else None
    compile_loss = model._compile_loss
    if compile_loss is None or y is None or not compile_loss.built:
        return
    targets = None
    for index, loss, classes, ignored in sparse_terms(compile_loss):
        targets = compile_loss.targets(y) if targets is None else targets
        labels = np.asarray(targets[index])
        if labels.size and not are_classes(labels, classes):
            try:
                check_labels(labels, classes, loss.name, ignored)
            except DataError as e:
                e.layer = compile_loss.output_name(index)
                raise
