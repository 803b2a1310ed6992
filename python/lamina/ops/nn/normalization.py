"""Statistics and normalisations."""

from lamina import _core, backend
from lamina.engine.operation import op
from lamina.ops._base import as_float, axes_of, exports, one_axis, tensor

_HALF_MAX = 65504.0


@op
def moments(x, axes, keepdims=False, synchronized=False):
    """Mean and (biased) variance over `axes`, computed in float32 for half precision."""
    if synchronized:
        raise NotImplementedError("`synchronized=True` needs several devices; lamina runs on one.")
    x = as_float(x)
    dtype, axes = x.dtype, axes_of(axes, len(x.shape))
    half = dtype in ("float16", "bfloat16")
    x = _core.cast(x, "float32") if half else x
    mean = _core.reduce("mean", x, axes, True)
    variance = _core.reduce("mean", _core.unary("square", x - mean), axes, True)
    if not keepdims:
        mean, variance = _core.squeeze(mean, axes), _core.squeeze(variance, axes)
    if half:
        mean, variance = (
            _core.cast(_core.activation("clamp", v, -_HALF_MAX, _HALF_MAX), dtype) for v in (mean, variance)
        )
    return mean, variance


@op
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, where all four are 1-D along `axis`."""
    x = as_float(x)
    mean, variance, offset, scale = (
        v if v is None else tensor(v, x.dtype) for v in (mean, variance, offset, scale)
    )
    return _core.batch_norm_inference(
        x, mean, variance, scale, offset, one_axis(axis, len(x.shape)), float(epsilon)
    )


@op
def batch_normalization_train(x, axis, offset=None, scale=None, epsilon=1e-3):
    """`batch_normalization` with the batch's own statistics, in one pass: (y, mean, variance), the last two
    1-D.

    Statistics run over all axes but `axis`; the variance is biased. Not in Keras, where it is `moments` and
    two more ops.
    """
    x = as_float(x)
    offset, scale = (v if v is None else tensor(v, x.dtype) for v in (offset, scale))
    return _core.batch_norm_train(x, scale, offset, one_axis(axis, len(x.shape)), float(epsilon))


def _normalized(x, gamma, beta, axis, epsilon, rms):
    """Layer and RMS normalisation: in float32 at least, fused where `axis` are the trailing axes."""
    epsilon = backend.epsilon() if epsilon is None else float(epsilon)
    x = as_float(x)
    dtype, work = x.dtype, _core.promote(x, "float32")
    x = _core.cast(x, work) if dtype != work else x
    if not x.shape:
        x = _core.expand_dims(x, [0])
    ndim = len(x.shape)
    axes = axes_of(list(axis) if isinstance(axis, (list, tuple)) else axis, ndim)
    gamma, beta = (v if v is None else tensor(v, work) for v in (gamma, beta))
    trailing = axes == list(range(ndim - len(axes), ndim))
    fits = all(v is None or tuple(v.shape) == tuple(x.shape[a] for a in axes) for v in (gamma, beta))
    if trailing and fits:
        y = _core.layer_norm(x, gamma, beta, axes, epsilon, rms)
        return y if dtype == work else _core.cast(y, dtype)
    centred = x if rms else x - _core.reduce("mean", x, axes, True)
    variance = _core.reduce("mean", _core.unary("square", centred), axes, True)
    y = centred * _core.unary("rsqrt", variance + epsilon)
    if gamma is not None:
        y = y * _spread(gamma, axes, ndim)
    if beta is not None:
        y = y + _spread(beta, axes, ndim)
    return y if dtype == work else _core.cast(y, dtype)


def _spread(v, axes, ndim):
    """A parameter with the shape of the normalised axes, made to broadcast; one of full rank broadcasts
    already.
    """
    if len(v.shape) == ndim or len(v.shape) != len(axes):
        return v
    return _core.expand_dims(v, [a for a in range(ndim) if a not in axes])


@op
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None, **kwargs):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, statistics over `axis` (one or several) of each
    sample.

    gamma and beta have the shape of the normalised axes. Ba, Kiros and Hinton, 2016.
    """
    rms_scaling = kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(f"`layer_normalization` has no arguments {sorted(kwargs)}.")
    if rms_scaling:  # Keras's old spelling: x / sqrt(variance + epsilon) * gamma, without centring
        x = as_float(x)
        axes = axes_of(axis, len(x.shape))
        variance = moments(x, axes, keepdims=True)[1]
        y = x * _core.unary("rsqrt", variance + (backend.epsilon() if epsilon is None else float(epsilon)))
        return y if gamma is None else y * _spread(tensor(gamma, x.dtype), axes, len(x.shape))
    return _normalized(x, gamma, beta, axis, epsilon, rms=False)


@op
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """x / sqrt(mean(x**2) + epsilon) * scale over `axis`. Zhang and Sennrich, 2019."""
    return _normalized(x, scale, None, axis, epsilon, rms=True)


@op
def normalize(x, axis=-1, order=2, epsilon=None):
    """x / max(norm(x), epsilon), where the norm is of `order` (an int >= 1) over `axis`."""
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"Argument `order` must be an int >= 1. Received: order={order}")
    epsilon = backend.epsilon() if epsilon is None else epsilon
    x = as_float(x)
    if not x.shape:
        x = _core.expand_dims(x, [0])
    axes = axes_of(axis, len(x.shape))
    if order == 2:
        # The bound is on the squares, so that the gradient at zero is finite.
        squares = _core.reduce("sum", _core.unary("square", x), axes, True)
        return x * _core.unary("rsqrt", _core.binary("max", squares, epsilon**2))
    from lamina.ops.linalg import norm

    return x / _core.binary("max", norm(x, order, axis, True), epsilon)


__all__ = exports(globals())
