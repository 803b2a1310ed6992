"""Sums and means over samples, and metrics made of a function."""

from lamina import backend, losses, ops
from lamina.losses.checks import fit_weights, squeeze_or_expand_to_same_rank
from lamina.losses.loss import apply_mask, count
from lamina.metrics.metric import Metric
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object


def samplewise(values, sample_weight, reduce_fn, dtype):
    """Values with one number per sample, weighted, and the weights per sample (or None).

    Axes that the weights lack, then all but the batch axis, are reduced with `reduce_fn` (`ops.sum` or
    `ops.mean`).
    """
    mask = backend.get_keras_mask(values)
    values = ops.cast(values, dtype)
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight, dtype=dtype)
        sample_weight = apply_mask(sample_weight, mask, dtype, "sum")
        values, sample_weight = squeeze_or_expand_to_same_rank(values, sample_weight)
        ndim = len(sample_weight.shape)
        if len(values.shape) > ndim:
            values = reduce_fn(values, axis=tuple(range(ndim, len(values.shape))))
        values, sample_weight = fit_weights(values, sample_weight)
        sample_weight = sample_weight * ops.ones_like(values)
        values = values * sample_weight
        if ndim > 1:
            sample_weight = reduce_fn(sample_weight, axis=tuple(range(1, ndim)))
    if len(values.shape) > 1:
        values = reduce_fn(values, axis=tuple(range(1, len(values.shape))))
    return values, sample_weight


class Sum(Metric):
    """The (weighted) sum of all values.

    >>> m = Sum(); m.update_state([1, 3, 5]); float(m.result())
    9.0
    """

    def __init__(self, name="sum", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")

    def update_state(self, values, sample_weight=None):
        values, _ = samplewise(values, sample_weight, ops.sum, self.dtype)
        self.total.assign_add(ops.sum(values))

    def result(self):
        return ops.cast(self.total.value, self.dtype)


class Mean(Metric):
    """The (weighted) mean of all values; 0 before the first one.

    `sample_weight` has one weight per sample or per value; a weight of 0 leaves a sample out.

    >>> m = Mean(); m.update_state([1, 3, 5, 7]); float(m.result())
    4.0
    """

    def __init__(self, name="mean", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def update_state(self, values, sample_weight=None):
        values, sample_weight = samplewise(values, sample_weight, ops.mean, self.dtype)
        self.total.assign_add(ops.sum(values))
        number = count(values) if sample_weight is None else ops.sum(sample_weight)
        self.count.assign_add(ops.cast(number, self.dtype))

    def result(self):
        return ops.divide_no_nan(self.total.value, self.count.value)


class MeanMetricWrapper(Mean):
    """The mean over samples of `fn(y_true, y_pred, **kwargs)`, without what the mask of `y_pred` hides."""

    def __init__(self, fn, name=None, dtype=None, **kwargs):
        super().__init__(name=name, dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        if losses.is_known(fn):
            self._direction = "down"

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = backend.get_keras_mask(y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
        super().update_state(values, apply_mask(sample_weight, mask, self.dtype, "sum"))

    def get_config(self):
        return {
            **super().get_config(),
            "fn": serialize_keras_object(self._fn),
            **serialize_keras_object(self._fn_kwargs),
        }

    @classmethod
    def from_config(cls, config):
        if "fn" in config:
            config = deserialize_keras_object(config)
        return cls(**config)


class NamedMeanMetric(MeanMetricWrapper):
    """A mean metric of this library: its settings are attributes and, with name and dtype, its config."""

    # Settings that Keras leaves out of the config: written only where they differ from the default.
    _quiet = ()

    def __init__(self, fn, name, dtype, **settings):
        super().__init__(fn, name=name, dtype=dtype, **settings)
        # The class says which way is better, not the function.
        self._direction = type(self)._direction
        for key, value in settings.items():
            setattr(self, key, value)

    def get_config(self):
        settings = {k: v for k, v in self._fn_kwargs.items() if (k, v) not in self._quiet}
        return {**Metric.get_config(self), **settings}


def mean_of(class_name, fn, name, direction, module):
    """A mean metric class without settings, made from its function."""

    def __init__(self, name=name, dtype=None):
        NamedMeanMetric.__init__(self, fn, name, dtype)

    doc = f"The mean of `{fn.__name__}` over samples. Arguments: `name`, `dtype`.\n\n    {fn.__doc__}"
    members = {"__init__": __init__, "__doc__": doc, "__module__": module, "_direction": direction}
    return type(class_name, (NamedMeanMetric,), members)
