"""Checks of whole data sets before anything is computed: what only the caller's arrays show, and a trace
cannot.
"""

import numpy as np

from lamina.losses.checks import check_labels


def check_inputs(model, x):
    """`ShapeError` when the arrays of a model (as the user gave them) do not fit its inputs: too many or too
    few, one sample without a batch axis, other sizes, another order.
    """
    if model.built and hasattr(model, "_check_data") and not _has_own_steps(model):
        model._check_data(x)


def _has_own_steps(model):
    """Whether the user's code decides what of a batch goes into the model."""
    steps = (type(model).train_step, type(model).test_step, type(model).predict_step)
    return not all(step.__module__.startswith("lamina.") for step in steps)


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
