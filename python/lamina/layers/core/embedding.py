"""Rows of a table by integer id."""

import numpy as np

from lamina import ops
from lamina.errors import DataError
from lamina.layers.arguments import positive_int, refuse_quantization
from lamina.layers.parametric import LowRankAdaptation, ParametricLayer


class Embedding(LowRankAdaptation, ParametricLayer):
    """Turn each integer id in [0, input_dim) into its row of the table `embeddings` (input_dim, output_dim).

    With `mask_zero=True` id 0 means "no value here" and the following layers skip those steps.
    `weights` is an initial table.

    Input: integers of any shape (whole floats are accepted and cast). Output: (*input_shape, output_dim).
    Raises: DataError for an id outside the table, with its position and the least `input_dim` that works, and
    for a float that is no whole number.

    >>> layers.Embedding(1000, 64)(Input((10,), dtype="int32")).shape
    (None, 10, 64)
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        weights=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        **kwargs,
    ):
        kwargs.pop("input_length", None)  # legacy: the length comes with the input
        super().__init__(**kwargs)
        self.input_dim = positive_int(input_dim, "input_dim")
        self.output_dim = positive_int(output_dim, "output_dim")
        self._weight_options(
            "embeddings", embeddings_initializer, embeddings_regularizer, embeddings_constraint
        )
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False  # ids must not be cast to a float compute dtype
        self._lora_options("embeddings", lora_rank, lora_alpha)
        refuse_quantization(quantization_config)
        self.quantization_config = None
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, list) and len(weights) == 1 else [weights])

    def build(self, input_shape=None):
        if self.built:
            return
        self._embeddings = self._add_weight("embeddings", (self.input_dim, self.output_dim))
        self.built = True
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    @property
    def embeddings(self):
        """The table (input_dim, output_dim), with the low-rank correction where `enable_lora` added one."""
        return self._adapted_weight()

    def call(self, inputs):
        if "float" in inputs.dtype and hasattr(inputs, "numpy"):  # values at hand: no fraction is cut off
            self.check_ids(inputs)
        ids = inputs if inputs.dtype in ("int32", "int64") else ops.cast(inputs, "int32")
        # `take` counts negative ids from the end. Without its sign, such an id is outside any table.
        ids = ops.bitwise_and(ids, 2**31 - 1 if ids.dtype == "int32" else 2**63 - 1)
        try:
            rows = ops.take(self.embeddings, ids, axis=0)
        except IndexError:
            self.check_ids(inputs)
            raise
        return ops.cast(rows, self.compute_dtype)

    def check_ids(self, ids, argument="inputs"):
        """`DataError` naming the first of `ids` (an array) that is outside [0, input_dim)."""
        ids = np.asarray(ids)
        if ids.dtype.kind == "f" and (ids % 1 != 0).any():
            raise self._not_whole(ids, argument)
        if not ids.size or (ids.min() >= 0 and ids.max() < self.input_dim):
            return
        position = np.unravel_index(((ids < 0) | (ids >= self.input_dim)).argmax(), ids.shape)
        wrong, least = ids[position], int(ids.max()) + 1
        place = tuple(map(int, position))
        raise DataError(
            f"indices[{','.join(map(str, place))}] = {wrong} is not in [0, {self.input_dim})",
            layer=self,
            argument=argument,
            got=f"id {wrong} at position {place}",
            expected=f"ids from 0 to {self.input_dim - 1}: `input_dim` is the number of different ids",
            cause=f"the largest id is {least - 1}, so `input_dim` must be at least {least}"
            if wrong >= 0
            else "ids count the rows of a table from 0: none is negative",
            fix=f"`{type(self).__name__}({least}, {self.output_dim})`, or renumber the ids"
            if wrong >= 0
            else "renumber the ids, for instance with 0 for a missing value",
        )

    def _not_whole(self, ids, argument):
        place = tuple(map(int, np.unravel_index((ids % 1 != 0).argmax(), ids.shape)))
        return DataError(
            f"indices[{','.join(map(str, place))}] = {ids[place]} is no whole number",
            layer=self,
            argument=argument,
            got=f"id {ids[place]} at position {place}",
            expected="ids that count the rows of a table",
            cause="values that were scaled, or a missing one",
            fix="pass the integers themselves; for values that are no ids, use a Dense layer",
        )

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self):
        return {"activity_regularizer": None, **super().get_config()}
