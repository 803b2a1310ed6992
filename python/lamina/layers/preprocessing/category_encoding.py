"""Integer categories as vectors."""

from lamina import ops
from lamina.layers.arguments import positive_int
from lamina.layers.layer import Layer


class CategoryEncoding(Layer):
    """Integers in [0, num_tokens) as vectors of length `num_tokens`.

    `output_mode`: "one_hot" encodes each integer by itself, "multi_hot" marks which ones a sample holds,
    "count" says how often (each occurrence weighs `count_weights`, given in the call, instead of 1).

    Input: (..., n) integers. Output: (..., num_tokens); with "one_hot" (..., n, num_tokens), or (...,
    num_tokens) if n is 1.
    """

    def __init__(self, num_tokens=None, output_mode="multi_hot", sparse=False, **kwargs):
        super().__init__(**kwargs)
        if num_tokens is None:
            raise ValueError("num_tokens must be set to use this layer.")
        self.num_tokens = positive_int(num_tokens, "num_tokens")
        output_mode = "multi_hot" if output_mode == "binary" else output_mode
        if output_mode not in ("one_hot", "multi_hot", "count"):
            raise ValueError(f"Unknown arg for output_mode: {output_mode}")
        if sparse:
            raise ValueError("Sparse outputs are not supported. Received: sparse=True")
        self.output_mode = output_mode
        self.sparse = sparse
        self._convert_input_args = False  # ids stay integers
        self._allow_non_tensor_positional_args = True

    def call(self, inputs, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(
                "`count_weights` is not used when `output_mode` is not `'count'`. "
                f"Received: output_mode={self.output_mode}"
            )
        ids = ops.cast(ops.convert_to_tensor(inputs), "int32")
        if not ids.shape:
            ids = ops.expand_dims(ids, 0)  # a single id is a sample of one
        one_hot = ops.one_hot(ids, self.num_tokens, dtype=self.compute_dtype)
        if self.output_mode == "one_hot":
            return ops.squeeze(one_hot, -2) if len(ids.shape) > 1 and ids.shape[-1] == 1 else one_hot
        if self.output_mode == "multi_hot":
            return ops.max(one_hot, axis=-2)
        if count_weights is not None:
            one_hot = one_hot * ops.expand_dims(ops.cast(count_weights, self.compute_dtype), -1)
        return ops.sum(one_hot, axis=-2)

    def get_config(self):
        config = super().get_config()
        config.pop("sparse", None)
        return config
