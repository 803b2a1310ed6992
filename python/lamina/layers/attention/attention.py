"""Attention with a single head, without projections: `Attention` and `AdditiveAttention`."""

from lamina import ops, random
from lamina.layers.arguments import known_axis
from lamina.layers.attention.checks import all_of, causal, check_shapes
from lamina.layers.layer import Layer


class Attention(Layer):
    """Each step of the query becomes a mean of the values, weighted by how well its keys fit (Luong, 2015).

    scores = query @ key^T; weights = softmax(scores); output = weights @ value. In the mode "concat",
    scores = w * sum(tanh(query + key)).

    Args:
        use_scale: learn a factor for the scores.
        score_mode: "dot" or "concat".
        dropout: the share of weights that are dropped while training.
        seed: makes the dropout repeatable.

    Call: `layer([query, value])` or `layer([query, value, key])`; `mask=[query_mask, value_mask]`, each
    (batch, time); `use_causal_mask=True`: no step sees a later one; `return_attention_scores=True` returns
    the weights (batch, targets, sources) too.

    Input: query (batch, targets, dim), value (batch, sources, depth), key (batch, sources, dim), which is the
    value unless given. Output: (batch, targets, depth).
    Raises: ShapeError when these do not fit each other.
    Source: Luong et al., 2015, https://arxiv.org/abs/1508.04025.
    """

    def __init__(self, use_scale=False, score_mode="dot", dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                "Invalid value for argument score_mode. Expected one of {'dot', 'concat'}. "
                f"Received: score_mode={score_mode}"
            )
        self.use_scale, self.score_mode = use_scale, score_mode
        self.dropout, self.seed = dropout, seed
        if dropout > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def build(self, input_shape):
        # A single tensor has a shape, not a list of them.
        several = all(isinstance(shape, (list, tuple)) for shape in input_shape)
        self._check_list(input_shape if several else str(tuple(input_shape)), "inputs")
        query, value = (tuple(shape) for shape in input_shape[:2])
        key = tuple(input_shape[2]) if len(input_shape) > 2 else value
        check_shapes(self, query, value, key, same_features=True)
        self._add_weights(query[-1])

    def _add_weights(self, features):
        scalar = {"shape": (), "initializer": "ones"}
        self.scale = self.add_weight(name="scale", **scalar) if self.use_scale else None
        self.concat_score_weight = None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(name="concat_score_weight", **scalar)

    def call(self, inputs, mask=None, training=False, return_attention_scores=False, use_causal_mask=False):
        self._check_list(inputs, "inputs")
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        check_shapes(self, *(tuple(x.shape) for x in (query, value, key)), same_features=True)
        query_mask, value_mask = (None, None) if mask is None else self._check_list(mask, "mask")[:2]
        scores = self._calculate_scores(query, key)
        allowed = None if value_mask is None else ops.expand_dims(value_mask, -2)
        if use_causal_mask:
            allowed = all_of([allowed, causal(*ops.shape(scores)[-2:])])
        weights = self._weights(scores, allowed)
        if training and self.dropout > 0:
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
        outputs = ops.matmul(weights, value)
        if query_mask is not None:
            outputs = ops.where(ops.expand_dims(query_mask, -1), outputs, 0.0)
        return (outputs, weights) if return_attention_scores else outputs

    def _calculate_scores(self, query, key):
        """(batch, targets, sources)."""
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else scores * self.scale
        sums = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        sums = sums if self.scale is None else self.scale * sums
        return self.concat_score_weight * ops.sum(ops.tanh(sums), axis=-1)

    def _weights(self, scores, allowed):
        if allowed is not None:
            # Subtracted, not set: a row that is masked whole keeps the order of its scores.
            far = 65504.0 if scores.dtype == "float16" else 1e9
            scores = ops.where(allowed, scores, scores - far)
        return ops.softmax(scores, axis=-1)

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else self._check_list(mask, "mask")[0]

    def _check_list(self, values, what):
        """`values`, which must be a list of two or three."""
        if not isinstance(values, (list, tuple)):
            rule = "must be called on a list of inputs" if what == "inputs" else "mask must be a list"
            raise ValueError(
                f"{type(self).__name__} layer {rule}, namely [query, value] or [query, value, key]. "
                f"Received: {what}={values}."
            )
        if len(values) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__} layer accepts {what} list of length 2 or 3, namely [query, value] or "
                f"[query, value, key]. Received length: {len(values)}."
            )
        return values


class AdditiveAttention(Attention):
    """Attention whose scores are `sum(scale * tanh(query + key))` over the features (Bahdanau, 2014).

    `use_scale`: learn the `scale` (dim,); else it is 1. The rest is as in `Attention`.

    Source: Bahdanau et al., 2014, https://arxiv.org/abs/1409.0473.
    """

    def __init__(self, use_scale=True, dropout=0.0, seed=None, **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, seed=seed, **kwargs)

    def _add_weights(self, features):
        self.scale = None
        if self.use_scale:
            known_axis((features,), -1, self, "features")
            self.scale = self.add_weight(name="scale", shape=(features,), initializer="glorot_uniform")

    def _calculate_scores(self, query, key):
        sums = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(sums if self.scale is None else self.scale * sums, axis=-1)
