"""Checks of whole data sets before anything is computed: what only the caller's arrays show, and a trace
cannot.
"""

import numpy as np

from lamina import tree
from lamina.errors import ShapeError
from lamina.losses.checks import check_labels

_AXES = {
    2: ("batch", "features"),
    3: ("batch", "time", "features"),
    4: ("batch", "height", "width", "channels"),
}


def check_inputs(model, batch):
    """`ShapeError` when `batch` (arrays as the user gave them) has too many arrays, or is one sample without
    a batch axis.
    """
    inputs = getattr(model, "inputs", None) if model.built else None
    x = batch[0] if isinstance(batch, tuple) else batch
    if not inputs or isinstance(x, dict):
        return
    leaves = [leaf for leaf in tree.flatten(x) if leaf is not None]
    if len(leaves) != len(inputs):
        raise _wrong_count(model, inputs, leaves)
    for spec, leaf in zip(inputs, leaves, strict=True):
        _check_batch_axis(model, spec, tuple(leaf.shape))


def _wrong_count(model, inputs, leaves):
    alike = len(leaves) > len(inputs) == 1 and len({leaf.shape for leaf in leaves}) == 1
    return ShapeError(
        f'Layer "{model.name}" expects {len(inputs)} input(s), but it received {len(leaves)} input tensors.',
        layer=model,
        argument="x",
        expected=", ".join(f"{spec.name} {tuple(spec.shape)}" for spec in inputs),
        got=", ".join(str(leaf.shape) for leaf in leaves[:4]) + (", ..." if len(leaves) > 4 else ""),
        cause="a list stands for several inputs, one array each; this looks like a list of samples"
        if alike
        else None,
        fix="np.stack(x)" if alike else None,
    )


def _check_batch_axis(model, spec, shape):
    expected = tuple(spec.shape)
    sample = expected[1:]
    # The model may take (n,) as (n, 1), and (n, rows) as (n, rows, 1): then the axes are a batch after all.
    for missing, index in ((1, "x[None]"), (2, "x[None, ..., None]")):
        wanted = sample if missing == 1 else sample[:-1]
        if missing == 2 and (len(sample) < 3 or sample[-1] != 1):
            continue
        if len(expected) == 2 and sample[0] == 1:
            continue
        if len(shape) == len(wanted) and all(w in (None, s) for w, s in zip(wanted, shape, strict=True)):
            raise ShapeError(
                f"Invalid input shape for input {spec.name}. Expected shape {expected}, but input has "
                f"incompatible shape {shape}: expected ndim={len(expected)}, found ndim={len(shape)}",
                layer=model,
                argument="x",
                expected=f"{expected}"
                + (f" = ({', '.join(_AXES[len(expected)])})" if len(expected) in _AXES else ""),
                got=shape,
                cause="this is one sample without its batch axis",
                fix=f"{index}  # shape {(1, *shape) if missing == 1 else (1, *shape, 1)}",
            )


def sparse_terms(compile_loss):
    """(index of the output, loss, number of classes) of each loss that takes class indices."""
    for index, loss, shape in compile_loss.resolved:
        function = getattr(loss, "fn", None)
        if getattr(function, "__name__", None) != "sparse_categorical_crossentropy":
            continue
        settings = {"axis": -1, "ignore_class": None, **getattr(loss, "_fn_kwargs", {})}
        classes = shape[settings["axis"]] if shape else None
        if classes is not None and classes > 1:
            yield index, loss, classes, settings["ignore_class"]


def check_batch_labels(compile_loss, batch):
    """`ValueError` naming the first label outside [0, classes) for losses on class indices."""
    y = batch[1] if isinstance(batch, tuple) and len(batch) > 1 else None
    if compile_loss is None or y is None or not compile_loss.built:
        return
    targets = None
    for index, loss, classes, ignored in sparse_terms(compile_loss):
        targets = compile_loss.targets(y) if targets is None else targets
        labels = np.asarray(targets[index])
        # NaN compares false: data that holds NaN is let through.
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            check_labels(labels, classes, loss.name, ignored)
