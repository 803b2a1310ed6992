"""The cases of neural network ops; see `ops_cases`."""

import numpy as np
from op_case import POSITIVE, A, Case, bools, c, ints, x

_P = np.abs(x(3, 5)) + 0.1
_P /= _P.sum(-1, keepdims=True)
_ONE_HOT = np.eye(5, dtype="float32")[[1, 4, 0]]
_IMAGE = x(2, 6, 5, 4)
_SEQUENCE = x(2, 9, 4)


def _channels_first(case):
    """The same case with its image or sequence, the first argument, in the other data format."""
    moved = np.moveaxis(case.args[0], -1, 1).copy()
    return Case(case.name, (moved, *case.args[1:]), {**case.kwargs, "data_format": "channels_first"})


_WINDOWS = [
    c("conv", _IMAGE, x(3, 2, 4, 6)),
    c("conv", _IMAGE, x(3, 3, 4, 6), strides=2, padding="same"),
    c("conv", _IMAGE, x(3, 3, 4, 6), strides=(1, 2), padding="valid"),
    c("conv", _IMAGE, x(2, 2, 4, 3), padding="same", dilation_rate=2),
    c("conv", _IMAGE, x(3, 3, 2, 6), padding="same"),
    c("conv", _IMAGE, x(1, 1, 4, 3)),
    c("conv", _SEQUENCE, x(3, 4, 5)),
    c("conv", _SEQUENCE, x(3, 4, 5), strides=2, padding="same"),
    c("conv", _SEQUENCE, x(3, 4, 5), dilation_rate=2),
    c("depthwise_conv", _IMAGE, x(3, 3, 4, 2), padding="same"),
    c("depthwise_conv", _IMAGE, x(3, 3, 4, 1), strides=2),
    c("depthwise_conv", _SEQUENCE, x(3, 4, 2)),
    c("separable_conv", _IMAGE, x(3, 3, 4, 2), x(1, 1, 8, 5), padding="same"),
    c("conv_transpose", _IMAGE, x(3, 3, 5, 4), strides=2, padding="same"),
    c("conv_transpose", _IMAGE, x(3, 2, 5, 4), strides=2),
    c("conv_transpose", _SEQUENCE, x(3, 5, 4), strides=2),
    c("max_pool", _IMAGE, 2, strides=2),
    c("max_pool", _IMAGE, (3, 2), strides=2, padding="same"),
    c("max_pool", _SEQUENCE, 3, strides=2),
    c("average_pool", _IMAGE, 2, strides=2),
    c("average_pool", _IMAGE, (3, 2), strides=2, padding="same"),
    c("average_pool", _SEQUENCE, 3, strides=2, padding="same"),
]
_ACTIVATIONS = [
    "relu",
    "relu6",
    "sigmoid",
    "softplus",
    "softsign",
    "silu",
    "swish",
    "log_sigmoid",
    "leaky_relu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "elu",
    "selu",
    "gelu",
    "celu",
    "tanh",
    "tanh_shrink",
    "hard_tanh",
    "hard_shrink",
    "soft_shrink",
    "squareplus",
    "sparse_plus",
    "sparse_sigmoid",
    "softmax",
    "log_softmax",
    "glu",
]
_LOGITS = x(3, 6, low=-4, high=4)


def _sparsemax(rows):
    """max(row - t, 0) with the t that makes it sum to one, by bisection (Keras's is not on the simplex
    where several entries are left).
    """
    low, high = np.float64(rows) - 1, rows.max(-1, keepdims=True)
    low = low.min(-1, keepdims=True)
    for _ in range(60):
        middle = (low + high) / 2
        above = np.maximum(rows - middle, 0).sum(-1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.maximum(rows - low, 0).astype("float32")


NN = [
    *(c(name, x(3, 6, low=-4, high=7)) for name in _ACTIVATIONS),
    *(
        c(name, x(3, 6) * 100, grad=False)
        for name in ["sigmoid", "softplus", "log_sigmoid", "silu", "gelu", "softmax", "log_softmax"]
    ),
    c("sparsemax", _LOGITS, expected=(_sparsemax(_LOGITS),)),
    c("gelu", A, approximate=False),
    c("leaky_relu", A, 0.3),
    c("elu", A, 0.5),
    c("celu", A, 1.5),
    c("threshold", A, 0.5, -1.0),
    c("softmax", x(2, 3, 4), axis=1),
    c("softmax", x(2, 3, 4), axis=(1, 2)),
    c("log_softmax", x(2, 3, 4), axis=1),
    c("glu", x(2, 4, 3), axis=1),
    c("one_hot", ints(3, 2, high=4), 4, grad=False),
    c("one_hot", ints(3, 2, high=5), 5, axis=1, dtype="int32", grad=False),
    c("multi_hot", ints(3, 2, high=5), 5, grad=False),
    c("multi_hot", ints(4, high=5), num_classes=5, grad=False, trace=False),
    c("categorical_crossentropy", _ONE_HOT, _P),
    c("categorical_crossentropy", _ONE_HOT, x(3, 5) * 10, from_logits=True),
    c("sparse_categorical_crossentropy", ints(3, high=5), _P),
    c("sparse_categorical_crossentropy", ints(3, 1, high=5), x(3, 5) * 10, from_logits=True),
    c("sparse_categorical_crossentropy", ints(3, 2, high=5), x(3, 2, 5), from_logits=True),
    c("binary_crossentropy", _ONE_HOT, _P),
    c(
        "binary_crossentropy",
        _ONE_HOT,
        _LOGITS[:, :5] * 10,
        from_logits=True,
        # Keras on numpy goes through a probability, which saturates.
        expected=(np.logaddexp(0, _LOGITS[:, :5] * 10) - _ONE_HOT * _LOGITS[:, :5] * 10,),
    ),
    c("binary_crossentropy", _ONE_HOT, np.zeros((3, 5), "float32"), from_logits=True),
    c("moments", A, [0]),
    c("moments", x(2, 3, 4), [0, 1], keepdims=True),
    c("batch_normalization", x(5, 4), x(4), x(4, low=0.2), -1, offset=x(4), scale=x(4)),
    c("batch_normalization", x(2, 4, 3), x(4), x(4, low=0.2), 1, epsilon=1e-2),
    c("layer_normalization", A, gamma=x(4), beta=x(4)),
    c("layer_normalization", x(2, 3, 4), gamma=x(3, 4), beta=x(3, 4), axis=(1, 2), epsilon=1e-3),
    c("layer_normalization", x(2, 3, 4), gamma=x(3), beta=x(3), axis=1, epsilon=1e-3),
    c("layer_normalization", A),
    c("rms_normalization", A, x(4)),
    c("rms_normalization", x(2, 3, 4), axis=1),
    c("normalize", A),
    c("normalize", A, axis=0, order=3),
    c("dot_product_attention", x(2, 3, 2, 4), x(2, 5, 2, 4), x(2, 5, 2, 6)),
    c("dot_product_attention", x(2, 4, 2, 3), x(2, 4, 2, 3), x(2, 4, 2, 3), is_causal=True),
    c(
        "dot_product_attention",
        x(2, 4, 2, 3),
        x(2, 4, 2, 3),
        x(2, 4, 2, 3),
        mask=bools(2, 1, 4, 4),
        scale=0.3,
    ),
    c("dot_product_attention", x(2, 4, 2, 3), x(2, 4, 2, 3), x(2, 4, 2, 3), bias=x(1, 2, 4, 4)),
    *_WINDOWS,
    *(_channels_first(case) for case in _WINDOWS),
    c("adaptive_average_pool", _IMAGE, (3, 2)),
    c("adaptive_max_pool", _IMAGE, 4),
    c("adaptive_average_pool", _SEQUENCE, 4),
    c("space_to_depth", x(2, 4, 6, 3), 2),
    c("depth_to_space", x(2, 2, 3, 8), 2),
    c("space_to_depth", x(2, 3, 4, 6), 2, data_format="channels_first"),
    c("depth_to_space", x(2, 8, 2, 3), 2, data_format="channels_first"),
    c("unfold", x(2, 3, 6, 5), (3, 2), dilation=1, padding=1, stride=2),
    c("fold", x(2, 12, 9), (6, 6), 2, stride=2),
    c("fold", x(2, 27, 9), (6, 6), 3, padding=1, stride=2),
    c("psnr", POSITIVE, POSITIVE * 1.1, 3.0),
]
