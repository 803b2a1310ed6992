"""Loss functions: `fn(y_true, y_pred)` gives one value per sample; shape `y_pred.shape[:-1]` if not said.

`y_true` is cast to `y_pred`'s dtype. Shapes that do not fit raise `ShapeError` before anything is computed;
see `checks`.
"""

import math

from lamina import backend, ops
from lamina.engine.tracebacks import warn
from lamina.losses.checks import check_labels, has_data, paired, sparse_labels


def mean_squared_error(y_true, y_pred):
    """`mean((y_true - y_pred)**2, axis=-1)`."""
    y_true, y_pred = paired("mean_squared_error", y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true, y_pred):
    """`mean(|y_true - y_pred|, axis=-1)`."""
    y_true, y_pred = paired("mean_absolute_error", y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true, y_pred):
    """`100 * mean(|y_true - y_pred| / max(|y_true|, epsilon), axis=-1)`."""
    y_true, y_pred = paired("mean_absolute_percentage_error", y_true, y_pred)
    relative = ops.abs((y_true - y_pred) / ops.maximum(ops.abs(y_true), backend.epsilon()))
    return 100.0 * ops.mean(relative, axis=-1)


def mean_squared_logarithmic_error(y_true, y_pred):
    """`mean((log(1 + y_true) - log(1 + y_pred))**2, axis=-1)`; values below epsilon count as epsilon."""
    y_true, y_pred = paired("mean_squared_logarithmic_error", y_true, y_pred)
    log_pred = ops.log(ops.maximum(y_pred, backend.epsilon()) + 1.0)
    log_true = ops.log(ops.maximum(y_true, backend.epsilon()) + 1.0)
    return ops.mean(ops.square(log_pred - log_true), axis=-1)


def cosine_similarity(y_true, y_pred, axis=-1):
    """`-sum(unit(y_true) * unit(y_pred), axis)`: -1 for the same direction, 1 for the opposite one."""
    y_true, y_pred = paired("cosine_similarity", y_true, y_pred)
    return -ops.sum(ops.normalize(y_true, axis=axis) * ops.normalize(y_pred, axis=axis), axis=axis)


def huber(y_true, y_pred, delta=1.0):
    """`mean(e**2 / 2 where |e| <= delta, else delta * (|e| - delta / 2), axis=-1)` (Huber, 1964)."""
    y_true, y_pred = paired("huber", y_true, y_pred)
    error = ops.abs(y_pred - y_true)
    return ops.mean(
        ops.where(error <= delta, 0.5 * ops.square(error), delta * error - 0.5 * delta * delta), axis=-1
    )


def log_cosh(y_true, y_pred):
    """`mean(log(cosh(y_pred - y_true)), axis=-1)`, in a form that does not overflow."""
    y_true, y_pred = paired("log_cosh", y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(-2.0 * error) - math.log(2.0), axis=-1)


def _hinge_labels(name, y_true, y_pred):
    """Labels of 0 and 1 become -1 and 1; any others are left as they are."""
    y_true, y_pred = paired(name, y_true, y_pred)
    is_binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(is_binary, 2.0 * y_true - 1.0, y_true), y_pred


def hinge(y_true, y_pred):
    """`mean(max(1 - y_true * y_pred, 0), axis=-1)`; labels are -1 or 1 (0 or 1 are converted)."""
    y_true, y_pred = _hinge_labels("hinge", y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - y_true * y_pred, 0.0), axis=-1)


def squared_hinge(y_true, y_pred):
    """`mean(max(1 - y_true * y_pred, 0)**2, axis=-1)`; labels are -1 or 1 (0 or 1 are converted)."""
    y_true, y_pred = _hinge_labels("squared_hinge", y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - y_true * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true, y_pred):
    """`max(max((1 - y_true) * y_pred) - sum(y_true * y_pred) + 1, 0)`, over classes; one-hot labels."""
    y_true, y_pred = paired("categorical_hinge", y_true, y_pred, "one-hot")
    pos = ops.sum(y_true * y_pred, axis=-1)
    neg = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(neg - pos + 1.0, 0.0)


def kl_divergence(y_true, y_pred):
    """`sum(y_true * log(y_true / y_pred), axis=-1)`, both clipped to [epsilon, 1]."""
    y_true, y_pred = paired("kl_divergence", y_true, y_pred, "one-hot")
    y_true = ops.clip(y_true, backend.epsilon(), 1.0)
    y_pred = ops.clip(y_pred, backend.epsilon(), 1.0)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


def poisson(y_true, y_pred):
    """`mean(y_pred - y_true * log(y_pred + epsilon), axis=-1)`."""
    y_true, y_pred = paired("poisson", y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + backend.epsilon()), axis=-1)


def _check_axis(axis):
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(f"`axis` must be of type `int`. Received: axis={axis} of type {type(axis)}")


def _smoothed(name, y_true, y_pred, label_smoothing, axis):
    """One-hot targets, and predictions, with `label_smoothing` of each target spread over all classes."""
    _check_axis(axis)
    y_true, y_pred = paired(name, y_true, y_pred, "one-hot")
    classes = y_pred.shape[axis]
    if classes == 1:
        warn(
            f"In loss {name}, expected y_pred.shape to be (batch_size, num_classes) with num_classes > 1. "
            f"Received: y_pred.shape={tuple(y_pred.shape)}. "
            "Consider using 'binary_crossentropy' if you only have 2 classes.",
            SyntaxWarning,
        )
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + label_smoothing / classes
    return y_true, y_pred


def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """`-sum(y_true * log(p), axis)`, `p` the probabilities in `y_pred`, or its softmax if `from_logits`.

    `y_true` is one-hot (or a distribution) of `y_pred`'s shape; returns that shape without `axis`.
    For integer labels use `sparse_categorical_crossentropy`.
    """
    y_true, y_pred = _smoothed("categorical_crossentropy", y_true, y_pred, label_smoothing, axis)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def categorical_focal_crossentropy(
    y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
    """`-sum(alpha * (1 - p)**gamma * y_true * log(p), axis)` (Lin et al., 2018): easy samples weigh less."""
    y_true, y_pred = _smoothed("categorical_focal_crossentropy", y_true, y_pred, label_smoothing, axis)
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    p = y_pred / ops.sum(y_pred, axis=axis, keepdims=True)
    p = ops.clip(p, backend.epsilon(), 1.0 - backend.epsilon())
    return -ops.sum(alpha * ops.power(1.0 - p, gamma) * y_true * ops.log(p), axis=axis)


def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    """`-log(p[label])`; integer labels of shape `y_pred.shape` without `axis`, or with size 1 there.

    Positions whose label is `ignore_class` give 0 and are masked out of a mean. A label outside the classes
    raises ValueError wherever the labels are at hand; inside a trace it contributes 0, `fit` checks its
    labels before.
    """
    _check_axis(axis)
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    y_true = sparse_labels("sparse_categorical_crossentropy", y_true, y_pred, axis)
    if has_data(y_true) and None not in y_pred.shape:
        check_labels(y_true, y_pred.shape[axis], ignore_class=ignore_class)
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    valid = ops.not_equal(y_true, ignore_class)
    y_true = ops.where(valid, y_true, 0)
    y_pred = ops.where(ops.expand_dims(valid, axis), y_pred, 0.0)
    loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    loss = ops.where(valid, loss, 0.0)
    backend.set_keras_mask(loss, valid)
    return loss


def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """`mean(-y_true * log(p) - (1 - y_true) * log(1 - p), axis)`.

    `p` is `y_pred`, or its sigmoid if `from_logits`.
    """
    y_true, y_pred = paired("binary_crossentropy", y_true, y_pred, "binary")
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true,
    y_pred,
    apply_class_balancing=False,
    alpha=0.25,
    gamma=2.0,
    from_logits=False,
    label_smoothing=0.0,
    axis=-1,
):
    """Binary crossentropy times `(1 - p_t)**gamma` (Lin et al., 2018).

    `p_t` is the predicted probability of the true class, so that what is already right weighs less.
    With `apply_class_balancing`, class 1 weighs `alpha` and class 0 weighs `1 - alpha`.
    """
    y_true, y_pred = paired("binary_focal_crossentropy", y_true, y_pred, "binary")
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    p_t = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    loss = ops.power(1.0 - p_t, gamma) * ops.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        loss = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * loss
    return ops.mean(loss, axis=axis)


def categorical_generalized_cross_entropy(y_true, y_pred, q):
    """`(1 - p[label]**q) / q`, integer labels (Zhang, Sabuncu, 2018): robust to wrong labels."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = sparse_labels("categorical_generalized_cross_entropy", ops.convert_to_tensor(y_true), y_pred)
    if has_data(y_true):
        check_labels(y_true, y_pred.shape[-1], "categorical_generalized_cross_entropy")
    labels = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
    return (1.0 - ops.power(ops.sum(y_pred * labels, axis=-1), q)) / q


def dice(y_true, y_pred, axis=None):
    """`1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))`; sums over `axis`, None: everything."""
    y_true, y_pred = paired("dice", y_true, y_pred)
    total = ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis)
    return 1.0 - 2.0 * ops.sum(y_true * y_pred, axis=axis) / (total + backend.epsilon())


def tversky(y_true, y_pred, alpha=0.5, beta=0.5, axis=None):
    """`1 - TP / (TP + alpha * FP + beta * FN)` (Salehi et al., 2017); sums over `axis`, None: everything.

    As in Keras, `alpha` weighs `y_true * (1 - y_pred)` and `beta` weighs `(1 - y_true) * y_pred`.
    """
    y_true, y_pred = paired("tversky", y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    only_true = ops.sum(y_true * (1.0 - y_pred), axis=axis)
    only_pred = ops.sum((1.0 - y_true) * y_pred, axis=axis)
    return 1.0 - both / (both + alpha * only_true + beta * only_pred + backend.epsilon())


def circle(y_true, y_pred, ref_labels=None, ref_embeddings=None, remove_diagonal=True, gamma=80, margin=0.4):
    """Circle loss over cosine distances of L2-normalised embeddings (Sun et al., 2020).

    Args:
        y_true: integer labels, shape (n,) or (n, 1).
        y_pred: embeddings of length 1, shape (n, d).
        ref_labels, ref_embeddings: what to compare with, (m,) and (m, d); the batch itself if None.
        remove_diagonal: do not pair a sample with itself.
        gamma: scale. margin: relaxation.

    Returns one value per sample; samples with a loss of 0 are masked out.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    refs = y_pred if ref_embeddings is None else ops.convert_to_tensor(ref_embeddings)
    labels = ops.reshape(ops.cast(y_true, "int32"), [-1, 1])
    ref_labels = labels if ref_labels is None else ops.reshape(ops.cast(ref_labels, "int32"), [-1, 1])
    distance = ops.maximum(1.0 - ops.matmul(y_pred, ops.transpose(refs)), 0.0)
    same = ops.equal(labels, ops.transpose(ref_labels))
    positive = same
    if remove_diagonal:
        rows, columns = ops.cumsum(ops.ones_like(labels), 0), ops.cumsum(ops.ones_like(ref_labels), 0)
        positive = ops.logical_and(same, ops.not_equal(rows, ops.transpose(columns)))

    def pooled(mask, scores):
        """log-sum-exp of the scores in `mask`, along each row."""
        return ops.logsumexp(ops.where(mask, scores, -math.inf), axis=1)

    pull = gamma * (margin + distance) * (distance - margin)
    push = gamma * ops.maximum(1.0 + margin - distance, 0.0) * (1.0 - margin - distance)
    loss = ops.softplus(pooled(positive, pull) + pooled(ops.logical_not(same), push))
    backend.set_keras_mask(loss, ops.greater(loss, 0))
    return loss
