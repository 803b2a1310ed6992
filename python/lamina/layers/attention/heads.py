"""Attention with several heads: `MultiHeadAttention` and `GroupQueryAttention`."""

import math
import string

from lamina import constraints, initializers, ops, regularizers
from lamina.layers.activation.activation import Softmax
from lamina.layers.arguments import positive_int
from lamina.layers.attention.checks import all_of, band, causal, check_mask, check_shapes
from lamina.layers.core.einsum_dense import EinsumDense
from lamina.layers.layer import Layer
from lamina.layers.regularization.dropout import Dropout


class HeadAttention(Layer):
    """What both share: projections of query, key and value into heads, masks, and the way back."""

    _config_exclude = ("flash_attention",)

    def _options(self, given, activity_regularizer):
        """Keeps the arguments that both have (the `locals()` of `__init__`)."""
        for name in ("dropout", "use_bias", "use_gate", "seed"):
            setattr(self, name, given[name])
        for name in ("kernel", "bias"):
            setattr(self, f"{name}_initializer", initializers.get(given[f"{name}_initializer"]))
            setattr(self, f"{name}_regularizer", regularizers.get(given[f"{name}_regularizer"]))
            setattr(self, f"{name}_constraint", constraints.get(given[f"{name}_constraint"]))
        window = given["sliding_window"]
        self.sliding_window = None if window is None else positive_int(window, "sliding_window")
        self._activity = regularizers.get(activity_regularizer)
        self._flash_attention = given["flash_attention"]
        if self._flash_attention and self.dropout > 0.0:
            raise ValueError(
                "Dropout is not supported when flash attention is enabled. Please set dropout to 0.0 to use "
                "flash attention."
            )
        self.supports_masking = True

    def _projection(self, name, shape, bound, outputs, activation=None):
        """A built dense layer over the last `bound` axes of an input of this shape."""
        free = len(shape) - bound
        letters = string.ascii_lowercase
        before, inside = letters[:free], letters[free : free + bound]
        after = letters[free + bound : free + bound + len(outputs)]
        dense = EinsumDense(
            f"{before}{inside},{inside}{after}->{before}{after}",
            output_shape=(*[None] * (free - 1), *outputs),
            activation=activation,
            bias_axes=after if self.use_bias else None,
            # Copies: an initializer with a seed of its own draws the same values each time.
            kernel_initializer=_copy(self.kernel_initializer),
            bias_initializer=_copy(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._activity,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        dense.supports_masking = True  # masks are this layer's business
        dense.build(shape)
        return dense

    def _build_heads(self, query, value, key, heads, own_heads, key_dim, value_dim, output_shape):
        """The weights: `heads` of the query, `own_heads` of key and value."""
        check_shapes(self, query, value, key)
        self._query_dense = self._projection("query", query, 1, (heads, key_dim))
        self._key_dense = self._projection("key", key, 1, (own_heads, key_dim))
        if self.use_gate:
            self._gate_dense = self._projection("gate", query, 1, (heads, value_dim), "sigmoid")
        self._value_dense = self._projection("value", value, 1, (own_heads, value_dim))
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)
        self._output_dense = self._projection(
            "attention_output", (*query[:-1], heads, value_dim), 2, output_shape
        )

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        key = value if key is None else key
        check_shapes(self, *(tuple(x.shape) for x in (query, value, key)))
        if self._flash_attention and return_attention_scores:
            raise ValueError(
                "Returning attention scores is not supported when flash attention is enabled. Please disable "
                "flash attention to access attention scores."
            )
        if attention_mask is not None:
            axes = self._attended(len(query.shape) + 1)
            check_mask(self, attention_mask, tuple(query.shape), tuple(value.shape), axes)
        mask = self._compute_attention_mask(
            query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
        )
        gate = self._gate_dense(query) if self.use_gate else None
        query, key, value = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        # Only where it is asked for: a subclass may not know this argument.
        extra = {"return_attention_scores": True} if return_attention_scores else {}
        outputs, scores = self._compute_attention(query, key, value, mask, training, **extra)
        outputs = self._output_dense(outputs if gate is None else outputs * gate)
        return (outputs, scores) if return_attention_scores else outputs

    def _compute_attention_mask(
        self,
        query,
        value,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        use_causal_mask=False,
    ):
        """Which targets may look at which sources, (batch, targets, sources); `None`: all at all."""
        masks = [attention_mask]
        masks += [None if query_mask is None else ops.expand_dims(query_mask, -1)]
        masks += [None if m is None else ops.expand_dims(m, -2) for m in (value_mask, key_mask)]
        if use_causal_mask or self.sliding_window is not None:
            targets, sources = ops.shape(query)[1], ops.shape(value)[1]
            masks += [causal(targets, sources)] if use_causal_mask else []
            masks += [band(targets, sources, self.sliding_window)] if self.sliding_window is not None else []
        return all_of(masks)

    def _compute_attention(
        self, query, key, value, attention_mask=None, training=None, return_attention_scores=False
    ):
        """(outputs, scores) from projected (batch, ..., heads, dim) inputs; the scores may be `None`.

        A subclass may replace it.
        """
        rank, axes = len(query.shape), self._attended(len(query.shape))
        # The mask lacks the heads.
        while attention_mask is not None and len(attention_mask.shape) < rank - 1 + len(axes):
            attention_mask = ops.expand_dims(attention_mask, -2 * len(axes) - 1)
        scale = 1.0 / math.sqrt(query.shape[-1])
        if rank == 4 and not (self.dropout > 0 or return_attention_scores):
            return ops.dot_product_attention(query, key, value, mask=attention_mask, scale=scale), None
        if key.shape[-2] != query.shape[-2]:
            times = query.shape[-2] // key.shape[-2]
            key, value = ops.repeat(key, times, axis=-2), ops.repeat(value, times, axis=-2)
        to_scores, to_outputs = _equations(rank, axes)
        scores = ops.einsum(to_scores, key, query * scale)
        softmax = Softmax(axis=tuple(range(-len(axes), 0)), dtype=self.dtype_policy)
        scores = softmax(scores, mask=attention_mask)
        return ops.einsum(to_outputs, self._dropout_layer(scores, training=training), value), scores

    def _attended(self, rank):
        """The axes of projected inputs that attention goes over."""
        return tuple(range(1, rank - 2))

    @property
    def query_dense(self):
        """The projection of the query."""
        return self._query_dense

    @property
    def key_dense(self):
        """The projection of the key."""
        return self._key_dense

    @property
    def value_dense(self):
        """The projection of the value."""
        return self._value_dense

    @property
    def output_dense(self):
        """The projection of all heads together."""
        return self._output_dense


def _copy(initializer):
    return initializer.clone() if isinstance(initializer, initializers.Initializer) else initializer


def _equations(rank, axes):
    """The einsums "key,query->scores" and "scores,value->outputs" for attention over these axes."""
    target = string.ascii_lowercase[:rank]
    source = "".join(c.upper() if i in axes else c for i, c in enumerate(target))
    batch = "".join(c for i, c in enumerate(target[:-1]) if i not in axes)
    scores = batch + "".join(target[i] for i in axes) + "".join(source[i] for i in axes)
    return f"{source},{target}->{scores}", f"{scores},{source}->{target}"


class MultiHeadAttention(HeadAttention):
    """Several attentions side by side, each on projections of its own (Vaswani et al., 2017).

    Each head projects query and key to `key_dim` values and value to `value_dim`, takes
    softmax(query @ key^T / sqrt(key_dim)) @ value, and all heads together are projected to the output.

    Args:
        num_heads: how many heads.
        key_dim, value_dim: the size of each head's query and key, and of its value (default: `key_dim`).
        dropout: the share of scores that are dropped while training.
        use_bias: whether the projections have biases.
        output_shape: the output without batch and time (an int or a tuple); default: the query's features.
        attention_axes: the axes to attend over; default: all but batch and features.
        sliding_window: each step sees only those fewer than this many steps away.
        flash_attention: accepted; there is one way to compute it.
        use_gate: multiply the heads by a sigmoid of one more projection of the query.
        seed: makes the dropout repeatable.

    Call: `layer(query, value, key=None)`; masks `query_mask`, `value_mask`, `key_mask` (batch, time), and
    `attention_mask` (batch, targets, sources), True where a target may look; `use_causal_mask=True`;
    `return_attention_scores=True` returns the scores (batch, heads, targets, sources) too.

    Weights: kernels of `query`, `key` and `value` (features, heads, dim), of `attention_output`
    (heads, dim, features), and a bias for each.
    Input: (batch, time, features), float. Output: (batch, targets, features of the query).
    Raises: ShapeError when the inputs do not fit each other.
    Source: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.

    >>> x = Input((10, 16))
    >>> layers.MultiHeadAttention(num_heads=4, key_dim=8)(x, x).shape
    (None, 10, 16)
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        options = locals()
        super().__init__(**kwargs)
        self._options(options, activity_regularizer)
        self.num_heads = positive_int(num_heads, "num_heads")
        self.key_dim = positive_int(key_dim, "key_dim")
        self.value_dim = self.key_dim if value_dim is None else positive_int(value_dim, "value_dim")
        self._output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        if not isinstance(self._output_shape, (tuple, list, type(None))):
            raise ValueError(
                f"Invalid `output_shape`: {output_shape}. When specified, the `output_shape` should be of "
                "type tuple, list, or int."
            )
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes

    def build(self, query_shape, value_shape, key_shape=None):
        outputs = tuple(self._output_shape or query_shape[-1:])
        key_shape = value_shape if key_shape is None else key_shape
        dims = self.key_dim, self.value_dim
        heads = self.num_heads
        self._build_heads(query_shape, value_shape, key_shape, heads, heads, *dims, outputs)
        self.attention_axes = self._attended(len(value_shape) + 1)

    def _attended(self, rank):
        if self.attention_axes is None:
            return super()._attended(rank)
        return tuple(axis % (rank - 1) for axis in self.attention_axes)

    def get_config(self):
        return {
            **super().get_config(),
            "output_shape": self._output_shape,
            "activity_regularizer": regularizers.serialize(self._activity),
        }


class GroupQueryAttention(HeadAttention):
    """Attention in which several heads of the query share one head of key and value.

    Args:
        head_dim: the size of each head.
        num_query_heads, num_key_value_heads: how many heads; the first must be a multiple of the second.
        The rest: as for `MultiHeadAttention`.

    Input: (batch, time, features), float. Output: (batch, targets, features of the query).
    Raises: ShapeError when the inputs do not fit each other.
    Source: Ainslie et al., 2023, https://arxiv.org/abs/2305.13245.
    """

    def __init__(
        self,
        head_dim,
        num_query_heads,
        num_key_value_heads,
        dropout=0.0,
        use_bias=True,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        options = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._options(options, activity_regularizer)
        self.head_dim = positive_int(head_dim, "head_dim")
        self.num_query_heads = positive_int(num_query_heads, "num_query_heads")
        self.num_key_value_heads = positive_int(num_key_value_heads, "num_key_value_heads")
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                "`num_query_heads` must be divisible by `num_key_value_heads`. "
                f"Received: {num_query_heads} and {num_key_value_heads}"
            )

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        heads = self.num_query_heads, self.num_key_value_heads
        dims = self.head_dim, self.head_dim
        self._build_heads(query_shape, value_shape, key_shape, *heads, *dims, query_shape[-1:])
