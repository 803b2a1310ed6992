"""What targets, predictions, weights and labels must look like, checked before anything is computed.

Nothing here broadcasts in silence: targets of shape (8, 1) against outputs of shape (8, 10, 1) would pair
every target with ten outputs, so they are an error that names the likely cause. Unknown axes (None) fit
anything.
"""

import numpy as np

from lamina import ops
from lamina.errors import DataError, ShapeError, axis_names

_WITH_SPARSE_FORM = ("categorical_crossentropy", "categorical_accuracy", "top_k_categorical_accuracy")


def _fits(a, b):
    """Are two shapes equal, an unknown axis being equal to anything?"""
    return len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))


def squeeze_or_expand_to_same_rank(x1, x2, expand_rank_1=True):
    """If the longer shape has one axis more, of size 1, at its end: drop it, or give a 1-D partner one."""
    rank1, rank2 = len(x1.shape), len(x2.shape)
    if rank1 == rank2 + 1 and x1.shape[-1] == 1:
        if rank2 == 1 and expand_rank_1:
            x2 = ops.expand_dims(x2, -1)
        else:
            x1 = ops.squeeze(x1, -1)
    elif rank2 == rank1 + 1 and x2.shape[-1] == 1:
        if rank1 == 1 and expand_rank_1:
            x1 = ops.expand_dims(x1, -1)
        else:
            x2 = ops.squeeze(x2, -1)
    return x1, x2


def paired(name, y_true, y_pred, kind="value"):
    """Both as tensors of `y_pred`'s dtype and of one shape; ShapeError if they are not made for each other.

    A scalar target is compared with every output. `kind` ("value", "binary" or "one-hot") says what a target
    is, which decides the cause and the fix that a message names.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true, dtype=y_pred.dtype)
    target, output = tuple(y_true.shape), tuple(y_pred.shape)
    y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
    if target and not _fits(y_true.shape, y_pred.shape):
        raise _mismatch(name, target, output, kind)
    return y_true, y_pred


def sparse_labels(name, y_true, y_pred, axis=-1):
    """Class ids without their axis of 1; ShapeError unless they have `y_pred`'s shape without `axis`."""
    target, output = tuple(y_true.shape), tuple(y_pred.shape)
    if not output:
        raise ShapeError(
            "Argument `output` must be at least rank 1.",
            op=name,
            argument="y_pred",
            got=output,
            expected="(batch, classes)",
            fix="let the model end in one value per class: `Dense(classes)`",
        )
    axis %= len(output)
    expected = output[:axis] + output[axis + 1 :]
    if (
        len(target) == len(output)
        and target[axis] == 1
        and _fits(target[:axis] + target[axis + 1 :], expected)
    ):
        return ops.squeeze(y_true, axis)
    if not _fits(target, expected):
        raise _mismatch(name, target, output, "sparse", expected)
    return y_true


def _mismatch(name, target, output, kind, expected=None):
    cause, fix = _diagnose(name, target, output, kind)
    upto = " up until the last dimension" if kind == "sparse" else ""
    return ShapeError(
        f"Arguments `target` and `output` must have the same shape{upto}. "
        f"Received: target.shape={target}, output.shape={output}",
        op=name,
        argument="y_true",
        got=target,
        expected=output if expected is None else expected,
        axes=axis_names(len(target)),
        cause=cause,
        fix=fix,
    )


def _diagnose(name, target, output, kind):
    """The likely cause of a mismatch, and a fix that can be pasted."""
    if target and output and None not in (target[0], output[0]) and target[0] != output[0]:
        return (
            f"y_true has {target[0]} samples and y_pred has {output[0]}",
            "pass one target per sample: len(y) == len(x)",
        )
    classes = output[-1] if output else None
    positions = output[1:-1]
    if kind in ("sparse", "one-hot") and positions and target[1:] in ((), (1,), (classes,)):
        where = " x ".join("?" if size is None else str(size) for size in positions)
        pooling = f"`GlobalAveragePooling{len(positions)}D()`" if len(positions) < 4 else "pooling"
        return (
            f"forgotten Flatten? The output has {classes} classes for each of {where} positions, the targets "
            "are one per sample",
            f"put `Flatten()` or {pooling} before the last Dense layer",
        )
    if kind == "sparse":
        if _fits(target, output):
            return (
                "the targets look one-hot, class ids (integers) are expected",
                f'use "{name.removeprefix("sparse_")}", or pass class ids: `y.argmax(-1)`',
            )
        return "one class id per output vector is expected", "give the targets the expected shape"
    if kind == "one-hot" and (_fits(target, output[:-1]) or _fits(target, (*output[:-1], 1))):
        sparse = f'use "sparse_{name}", or ' if name in _WITH_SPARSE_FORM else ""
        return (
            "the targets look like class ids (integers), one column per class is expected",
            f"{sparse}pass one-hot targets: `to_categorical(y, {classes})`",
        )
    if len(target) == len(output) and classes == 1 and _fits(target[:-1], output[:-1]):
        columns = target[-1]
        fix = f"end the model in `Dense({columns})`, or pass one column: `y[..., :1]`"
        if kind == "binary":
            fix = (
                f'end the model in `Dense({columns}, activation="softmax")` with '
                '`loss="categorical_crossentropy"`, or pass one column of 0 and 1: `y.argmax(-1)`'
            )
        return f"the model puts out one value where the targets have {columns} columns", fix
    if kind == "binary" and classes is not None and target in (output[:-1], (*output[:-1], 1)):
        return (
            f"one target for each row of {classes} outputs",
            f'"sparse_categorical_crossentropy" for class ids from 0 to {classes - 1}, `Dense(1, '
            f'activation="sigmoid")` for one answer, or targets of shape {output} for {classes} answers',
        )
    if 0 < len(target) < len(output) or (len(target) == len(output) and target[-1] == 1):
        return (
            "broadcasting would compare each target with several outputs",
            "reduce the output (`Dense(1)`, `Flatten()` before it, `return_sequences=False`), or pass "
            f"targets of shape {output}",
        )
    return "the targets do not have one value per output", f"pass targets of shape {output}"


def fit_weights(values, sample_weight):
    """Values, and weights ready to multiply them: axes agree from the left, missing ones are added."""
    values, sample_weight = squeeze_or_expand_to_same_rank(values, sample_weight)
    shape, weights = tuple(values.shape), tuple(sample_weight.shape)
    if len(weights) > len(shape) or not all(
        w == 1 or None in (v, w) or v == w for v, w in zip(shape, weights, strict=False)
    ):
        raise _weight_mismatch(shape, weights)
    while 0 < len(sample_weight.shape) < len(shape):
        sample_weight = ops.expand_dims(sample_weight, -1)
    return values, sample_weight


def _weight_mismatch(shape, weights):
    cause = "weights are matched with the loss values axis by axis, from the batch axis on"
    fix = "pass one weight per sample, or one per loss value"
    if not shape:
        cause = "the loss is one value for the whole batch, so there is nothing to weight per sample"
        fix = (
            "give targets and outputs a last axis (`y[:, None]`), or a Dice loss its axes (`axis=(1, 2, 3)`)"
        )
    return ShapeError(
        "Argument `sample_weight` does not fit the values it weights. "
        f"Received: sample_weight.shape={weights}, values.shape={shape}",
        argument="sample_weight",
        got=weights,
        expected=" or ".join(str(s) for s in dict.fromkeys((shape[:1], shape))),
        axes=axis_names(len(weights)),
        cause=cause,
        fix=fix,
    )


def check_labels(y_true, num_classes, name="sparse_categorical_crossentropy", ignore_class=None):
    """Raises DataError when a class id lies outside `0 .. num_classes - 1` and says where the first one is.

    Only for data that is at hand: an array, or a tensor outside a trace.
    """
    y_true = ops.convert_to_tensor(y_true)
    valid = ops.logical_and(ops.greater_equal(y_true, 0), ops.less(y_true, num_classes))
    if "float" in y_true.dtype:
        valid = ops.logical_and(valid, ops.equal(y_true, ops.floor(y_true)))
    if ignore_class is not None:
        valid = ops.logical_or(valid, ops.equal(y_true, ignore_class))
    if bool(ops.all(valid)):
        return
    labels, valid = np.asarray(y_true), np.asarray(valid)
    position = np.unravel_index(valid.argmin(), valid.shape)
    label = float(labels[position])
    label, most = (int(v) if v == v // 1 else v for v in (label, float(labels.max())))
    cause, fix = None, "renumber the labels from 0, or leave them out with `ignore_class`"
    if label == most == num_classes == 1:
        cause = "the output has one value, and the labels are 0 and 1"
        fix = (
            '`Dense(1, activation="sigmoid")` with "binary_crossentropy", or `Dense(2, activation="softmax")`'
        )
    elif isinstance(label, int) and label >= num_classes:
        cause = f"the largest label is {most}: with 0, that makes {most + 1} classes"
        fix = f"end the model in `Dense({most + 1})` for {most + 1} classes, or renumber the labels from 0"
    elif label % 1 > 0:
        cause = "class ids are whole numbers: these are scaled, or values for a regression"
        fix = 'pass the class ids themselves, or use "mean_squared_error" for values'
    raise DataError(
        f"{name}: label {label} at row {position[0]} is outside the {num_classes} "
        f"{'class' if num_classes == 1 else 'classes'} of the output "
        f"(valid labels: 0 to {num_classes - 1}).",
        op=name,
        argument="y_true",
        got=f"label {label} at position {tuple(map(int, position))}",
        expected=f"class ids from 0 to {num_classes - 1}",
        cause=cause,
        fix=fix,
    )


def has_data(x):
    """Can the elements of this tensor be read now (no trace is in progress)?"""
    return hasattr(x, "numpy")
