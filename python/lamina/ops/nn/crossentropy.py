"""One-hot encodings and cross-entropies."""

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.errors import ShapeError
from lamina.ops._base import as_float, exports, known, one_axis, tensor


@op
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """A new `axis` of size `num_classes` that is 1 at the index x and 0 elsewhere; indices outside give
    zeros.

    >>> ops.one_hot([1, 3], 4)
    [[0, 1, 0, 0], [0, 0, 0, 1]]
    """
    _dense_only(sparse)
    x = tensor(x)
    if "int" not in x.dtype:
        x = _core.cast(x, "int32")
    ndim = len(x.shape)
    y = _core.one_hot(x, int(num_classes), backend.standardize_dtype(dtype))
    axis = one_axis(axis, ndim + 1)
    return y if axis == ndim else _core.transpose(y, [*range(axis), ndim, *range(axis, ndim)])


@op
def multi_hot(inputs, num_classes=None, axis=-1, dtype=None, sparse=False, **kwargs):
    """Which of `num_classes` indices occur in each row: (batch, n) -> (batch, num_classes), (n,) ->
    (num_classes,).
    """
    _dense_only(sparse)
    num_classes = kwargs.pop("num_tokens", num_classes)  # its old name
    if kwargs or num_classes is None:
        raise ValueError(f"`multi_hot` needs `num_classes`, and has no arguments {sorted(kwargs)}.")
    x = tensor(inputs)
    hot = one_hot(x, num_classes, axis, dtype)
    return _core.reduce("max", hot, [1 if len(x.shape) > 1 else 0])


def _dense_only(sparse):
    if sparse:
        raise ValueError("lamina has dense tensors only: `sparse` must be False.")


def _agree(a, b):
    """Can these two shapes be the same? Unknown axes agree with anything."""
    return len(a) == len(b) and all(m == n or m is None or n is None for m, n in zip(a, b, strict=True))


def _mismatch(name, message, target, output, fix=None):
    return ShapeError(
        f"{message}. Received: target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}",
        op=name,
        argument="target",
        got=tuple(target.shape),
        expected=f"to fit the output of shape {tuple(output.shape)}",
        fix=fix,
    )


def _log_probabilities(output, axis):
    """log of probabilities that are made to sum to 1, kept off log(0)."""
    eps = backend.epsilon()
    p = output / _core.reduce("sum", output, [axis], True)
    return _core.unary("log", _core.binary("min", _core.binary("max", p, eps), 1.0 - eps))


@op
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """-sum(target * log(output)) over the class `axis`: both (..., classes), the result (...).

    `output` holds probabilities (they are made to sum to 1), or logits if `from_logits`.
    """
    target, output = tensor(target), as_float(output)
    if not _agree(target.shape, output.shape):
        message = "Arguments `target` and `output` must have the same shape"
        raise _mismatch("categorical_crossentropy", message, target, output)
    if not output.shape:
        raise _mismatch(
            "categorical_crossentropy",
            "Arguments `target` and `output` must be at least rank 1",
            target,
            output,
        )
    axis = one_axis(axis, len(output.shape))
    log_prob = _core.log_softmax(output, axis) if from_logits else _log_probabilities(output, axis)
    return -_core.reduce("sum", _core.binary("mul", target, log_prob), [axis])


@op
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """-log of the probability of the class `target`: target (...) or (..., 1) integers, output (...,
    classes), result (...).

    `output` holds probabilities (they are made to sum to 1), or logits if `from_logits`. A target outside of
    the classes costs 0.
    """
    name = "sparse_categorical_crossentropy"
    target, output = tensor(target, "int32"), as_float(output)
    if len(target.shape) == len(output.shape) and target.shape and target.shape[-1] == 1:
        target = _core.squeeze(target, [len(target.shape) - 1])
    if not output.shape:
        raise _mismatch(name, "Argument `output` must be at least rank 1", target, output)
    axis = one_axis(axis, len(output.shape))
    if not _agree(target.shape, [d for a, d in enumerate(output.shape) if a != axis]):
        message = "Arguments `target` and `output` must have the same shape up until the last dimension"
        raise _mismatch(name, message, target, output, "one-hot labels go with categorical_crossentropy")
    classes = known(output, axis, name)
    label = _core.expand_dims(target, [axis])
    valid = _core.binary("and", _core.binary("ge", label, 0), _core.binary("lt", label, classes))
    label = _core.where(valid, label, 0)
    if from_logits:
        log_prob = _core.gather_along(_core.log_softmax(output, axis), label, axis)
    else:  # the same as log(output / sum), at the label only
        eps = backend.epsilon()
        p = _core.gather_along(output, label, axis) / _core.reduce("sum", output, [axis], True)
        log_prob = _core.unary("log", _core.binary("min", _core.binary("max", p, eps), 1.0 - eps))
    return _core.squeeze(_core.where(valid, -log_prob, 0.0), [axis])


@op
def binary_crossentropy(target, output, from_logits=False):
    """-target * log(output) - (1 - target) * log(1 - output), elementwise; `output` in [0, 1], or logits if
    `from_logits`.
    """
    target, output = tensor(target), as_float(output)
    if not _agree(target.shape, output.shape):
        message = "Arguments `target` and `output` must have the same shape"
        raise _mismatch("binary_crossentropy", message, target, output)
    target = _core.cast(target, _core.promote(target, output))
    if from_logits:
        yes, no = (_core.activation("softplus", x) for x in (-output, output))
        return target * yes + (1.0 - target) * no
    eps = backend.epsilon()
    p = _core.binary("min", _core.binary("max", output, eps), 1.0 - eps)
    return -(target * _core.unary("log", p) + (1.0 - target) * _core.unary("log", 1.0 - p))


__all__ = exports(globals())
