"""Scaled dot-product attention."""

import math

import numpy as np

from lamina import _core
from lamina.engine.operation import op
from lamina.errors import ShapeError
from lamina.ops._base import exports, known, limits, tensor
from lamina.ops.numpy.manipulation import repeat


@op
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """softmax(query . key * scale + bias) . value for each head (Vaswani et al., 2017).

    Args:
        query: (batch, targets, heads, depth).
        key: (batch, sources, heads, depth); fewer heads than the query's are each shared by several.
        value: (batch, sources, heads, depth of values).
        bias: added to the scores; broadcasts to (batch, heads, targets, sources).
        mask: True where a target may look; broadcasts alike.
        scale: 1 / sqrt(depth) unless given.
        is_causal: targets see no later sources.
        flash_attention: accepted, and ignored: there is one way to compute it.
        attn_logits_soft_cap: scores s become s / (1 + |s| / cap).

    Returns: (batch, targets, heads, depth of values), in the dtype that query, key and value promote to.
    """
    query, key, value = (tensor(v) for v in (query, key, value))
    if any(len(v.shape) != 4 for v in (query, key, value)):
        raise ShapeError(
            "`dot_product_attention` only supports 4D inputs",
            op="dot_product_attention",
            got={name: tuple(v.shape) for name, v in (("query", query), ("key", key), ("value", value))},
            expected="(batch, time, heads, depth)",
        )
    dtype = _core.promote(query, key, value)
    query, key, value = (tensor(v, dtype) for v in (query, key, value))
    heads, own = known(query, 2, "dot_product_attention"), known(key, 2, "dot_product_attention")
    if heads != own and own and heads % own == 0:
        key, value = repeat(key, heads // own, 2), repeat(value, heads // own, 2)
    scale = 1.0 / math.sqrt(known(query, 3, "dot_product_attention")) if scale is None else scale
    q, k, v = (_core.transpose(x, [0, 2, 1, 3]) for x in (query, key, value))
    scores = _core.matmul(q, k, transpose_b=True)  # (batch, heads, targets, sources)
    work = _core.promote(dtype, "float32")
    scores = (scores if dtype == work else _core.cast(scores, work)) * scale
    if attn_logits_soft_cap is not None:
        scores = scores / (_core.unary("abs", scores) / float(attn_logits_soft_cap) + 1.0)
    if bias is not None:
        scores = scores + tensor(bias, work)
    allowed = None if mask is None else tensor(mask, "bool")
    if is_causal:
        targets, sources = known(scores, 2, "is_causal"), known(scores, 3, "is_causal")
        past = tensor(np.tri(targets, sources, dtype=bool))
        allowed = past if allowed is None else _core.binary("and", allowed, past)
    if allowed is not None:  # not minus infinity: a row without any source must not become NaN
        scores = _core.where(allowed, scores, 0.7 * limits(work)[0])
    weights = _core.softmax(scores, 3)
    mixed = _core.matmul(weights if dtype == work else _core.cast(weights, dtype), v)
    return _core.transpose(mixed, [0, 2, 1, 3])


__all__ = exports(globals())
