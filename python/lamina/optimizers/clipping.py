"""Gradients made smaller: one by one, element by element, or all by one factor."""

from lamina import ops


def clipped(grads, norm=None, value=None, global_norm=None):
    """Gradients clipped by whichever limit is given and positive."""
    if norm and norm > 0:
        return [clip_by_norm(g, norm) for g in grads]
    if global_norm and global_norm > 0:
        return clip_by_global_norm(grads, global_norm)
    if value and value > 0:
        return [ops.clip(g, -value, value) for g in grads]
    return grads


def clip_by_norm(x, limit):
    """`x`, scaled so that `sqrt(sum(x**2))` is `limit` at most."""
    length = ops.sqrt(ops.sum(ops.square(x)))
    return ops.multiply(x, limit) / ops.maximum(length, limit)


def clip_by_global_norm(xs, limit):
    """All of `xs` times one factor, so that the norm of them together is `limit` at most."""
    length = ops.sqrt(sum(ops.sum(ops.square(x)) for x in xs))
    # `length - length` is 0, or NaN where a gradient is not finite: that must not vanish silently.
    factor = limit * ops.minimum(1.0 / length, 1.0 / limit) + (length - length)
    return [x * factor for x in xs]
