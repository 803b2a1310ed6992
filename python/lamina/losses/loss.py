"""`Loss`: per-sample values, then weights, mask and reduction."""

from lamina import backend, dtype_policies, ops
from lamina.engine.naming import auto_name
from lamina.engine.tracebacks import UserMade
from lamina.losses.checks import fit_weights, squeeze_or_expand_to_same_rank

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


class Loss(UserMade):
    """A loss: `call(y_true, y_pred)` gives one value per sample, calling the object reduces them.

    Args:
        name: name of the loss; derived from the class if None.
        reduction: `"sum_over_batch_size"` or `"mean"` (sum of the weighted values / their number),
            `"mean_with_sample_weight"` (sum / sum of the weights), `"sum"`, or `"none"` / None (the values as
            they are).
        dtype: dtype, or dtype policy, of the computation; `floatx` if None.

    Targets and predictions (a tensor, or a list, tuple or dict of them) are cast to `dtype` first.
    `sample_weight` has one value per sample or per loss value. Values that the mask of `y_pred` hides count
    neither in the sum nor in the number.

    >>> class AbsoluteError(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ops.mean(ops.abs(y_true - y_pred), axis=-1)
    """

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        self.name = name or auto_name(type(self).__name__)
        self.reduction = standardize_reduction(reduction)
        self._dtype_policy = dtype_policies.get(dtype or backend.floatx())
        self._dtype = self._dtype_policy.compute_dtype

    @property
    def dtype(self):
        try:
            return self.__dict__["_dtype"]
        except KeyError:
            raise RuntimeError(
                f"In loss '{type(self).__name__}', you forgot to call `super().__init__()` as the first "
                "statement in the `__init__()` method. Go add it!"
            ) from None

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = backend.get_keras_mask(y_pred)
        losses = self.call(to_tensors(y_true, self.dtype), to_tensors(y_pred, self.dtype))
        out_mask = backend.get_keras_mask(losses)
        if mask is None:
            mask = out_mask
        elif out_mask is not None:
            mask = ops.logical_and(mask, out_mask)
        return reduce_weighted_values(losses, sample_weight, mask, self.reduction, self.dtype)

    def call(self, y_true, y_pred):
        """One loss value per sample (or per position). To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `call(y_true, y_pred)`.")

    def get_config(self):
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def standardize_reduction(reduction):
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"Invalid value for argument `reduction`. Expected one of {REDUCTIONS}. Received: "
            f"reduction={reduction}"
        )
    return reduction


def to_tensors(values, dtype):
    """Every array of a structure as a tensor of `dtype`; a nested list of numbers is one array."""
    if isinstance(values, dict):
        return {key: to_tensors(value, dtype) for key, value in values.items()}
    if isinstance(values, (list, tuple)) and not _is_numbers(values):
        converted = [to_tensors(value, dtype) for value in values]
        return converted if isinstance(values, list) else tuple(converted)
    return ops.convert_to_tensor(values, dtype=dtype)


def _is_numbers(value):
    if isinstance(value, (list, tuple)):
        return all(_is_numbers(v) for v in value)
    return isinstance(value, (bool, int, float))


def count(values):
    """How many elements `values` has: an int, or a scalar of its dtype where an axis is unknown."""
    size = 1
    for dim in values.shape:
        if dim is None:
            return ops.cast(ops.sum(ops.ones_like(values, dtype="float32")), values.dtype)
        size *= dim
    return size


def divide_by_count(total, number):
    """`total / number`, 0 for an empty batch."""
    if isinstance(number, int):
        return total / number if number else total
    return ops.divide_no_nan(total, number)


def reduce_weighted_values(
    values, sample_weight=None, mask=None, reduction="sum_over_batch_size", dtype=None
):
    """Weights, masks and reduces loss values. Returns a scalar, or values when `reduction` is none."""
    standardize_reduction(reduction)
    values = ops.convert_to_tensor(values, dtype=dtype)
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight, dtype=values.dtype)
    if mask is not None:
        mask = ops.convert_to_tensor(mask)
    sample_weight = apply_mask(sample_weight, mask, values.dtype, reduction)
    if sample_weight is not None:
        values, sample_weight = fit_weights(values, sample_weight)
        values = values * sample_weight
    if reduction in (None, "none") or len(values.shape) == 0:
        return values
    total = ops.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        return ops.divide_no_nan(total, ops.sum(sample_weight))
    return divide_by_count(total, count(values))


def apply_mask(sample_weight, mask, dtype, reduction):
    """Folds a mask into the weights, scaled so that a mean does not count what is hidden."""
    if mask is None:
        return sample_weight
    weights = ops.cast(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        weights = weights * ops.divide_no_nan(ops.cast(count(weights), dtype), ops.sum(weights))
    if sample_weight is None:
        return weights
    weights, sample_weight = squeeze_or_expand_to_same_rank(weights, ops.cast(sample_weight, dtype))
    weights, sample_weight = fit_weights(weights, sample_weight)
    return sample_weight * weights
