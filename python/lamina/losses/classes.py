"""The loss classes: a loss function with its settings, a reduction and a name."""

from lamina import tree
from lamina.losses import functions
from lamina.losses.checks import squeeze_or_expand_to_same_rank
from lamina.losses.loss import Loss
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object


class LossFunctionWrapper(Loss):
    """`fn(y_true, y_pred, **kwargs)` as a `Loss`; ranks that differ by an axis of 1 are lined up first."""

    def __init__(self, fn, reduction="sum_over_batch_size", name=None, dtype=None, **kwargs):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true, y_pred):
        # lamina's own functions line ranks up themselves, to name the original shapes in an error.
        if getattr(functions, getattr(self.fn, "__name__", ""), None) is not self.fn:
            pairs = tree.map_structure(squeeze_or_expand_to_same_rank, y_true, y_pred)
            y_true, y_pred = (
                tree.map_structure_up_to(y_pred, lambda pair, i=i: pair[i], pairs) for i in (0, 1)
            )
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "fn": serialize_keras_object(self.fn),
            **serialize_keras_object(self._fn_kwargs),
        }

    @classmethod
    def from_config(cls, config):
        if "fn" in config:
            config = deserialize_keras_object(config)
        return cls(**config)

    def __repr__(self):
        return f"<LossFunctionWrapper({self.fn}, kwargs={self._fn_kwargs})>"


class _Named(LossFunctionWrapper):
    """A loss of this library: its settings are attributes and, with name and reduction, its config."""

    # Settings that Keras leaves out of the config: written only where they are not these defaults.
    _quiet = ()

    def __init__(self, fn, reduction, name, dtype, **settings):
        super().__init__(fn, reduction=reduction, name=name, dtype=dtype, **settings)
        for key, value in settings.items():
            setattr(self, key, value)

    def get_config(self):
        settings = {k: v for k, v in self._fn_kwargs.items() if (k, v) not in self._quiet}
        return {**Loss.get_config(self), **settings}


def _plain(class_name, fn, name=None):
    """A loss class without settings, made from its function."""

    def __init__(self, reduction="sum_over_batch_size", name=name or fn.__name__, dtype=None):
        _Named.__init__(self, fn, reduction, name, dtype)

    doc = f"`{fn.__name__}` as a `Loss`, with its `reduction`, `name` and `dtype`.\n\n    {fn.__doc__}"
    return type(class_name, (_Named,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})


MeanSquaredError = _plain("MeanSquaredError", functions.mean_squared_error)
MeanAbsoluteError = _plain("MeanAbsoluteError", functions.mean_absolute_error)
MeanAbsolutePercentageError = _plain("MeanAbsolutePercentageError", functions.mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _plain("MeanSquaredLogarithmicError", functions.mean_squared_logarithmic_error)
LogCosh = _plain("LogCosh", functions.log_cosh)
Hinge = _plain("Hinge", functions.hinge)
SquaredHinge = _plain("SquaredHinge", functions.squared_hinge)
CategoricalHinge = _plain("CategoricalHinge", functions.categorical_hinge)
KLDivergence = _plain("KLDivergence", functions.kl_divergence)
Poisson = _plain("Poisson", functions.poisson)


class CosineSimilarity(_Named):
    """`cosine_similarity` along `axis` as a `Loss`: -1 is the same direction, 1 the opposite one."""

    _quiet = (("axis", -1),)

    def __init__(self, axis=-1, reduction="sum_over_batch_size", name="cosine_similarity", dtype=None):
        super().__init__(functions.cosine_similarity, reduction, name, dtype, axis=axis)


class Huber(_Named):
    """`huber` as a `Loss`: squared up to an error of `delta`, linear beyond."""

    _quiet = (("delta", 1.0),)

    def __init__(self, delta=1.0, reduction="sum_over_batch_size", name="huber_loss", dtype=None):
        super().__init__(functions.huber, reduction, name, dtype, delta=delta)


class BinaryCrossentropy(_Named):
    """`binary_crossentropy` as a `Loss`: for one or several yes/no outputs.

    Args:
        from_logits: `y_pred` holds logits, not probabilities.
        label_smoothing: in [0, 1]; labels move that far towards 0.5.
        axis: the axis that is averaged.

    >>> float(BinaryCrossentropy()([[0.0], [1.0]], [[0.5], [0.5]]))
    0.6931...
    """

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="binary_crossentropy",
        dtype=None,
    ):
        super().__init__(
            functions.binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class BinaryFocalCrossentropy(_Named):
    """`binary_focal_crossentropy` as a `Loss`: samples that are already right weigh less."""

    def __init__(
        self,
        apply_class_balancing=False,
        alpha=0.25,
        gamma=2.0,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="binary_focal_crossentropy",
        dtype=None,
    ):
        super().__init__(
            functions.binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(_Named):
    """`categorical_crossentropy` as a `Loss`: one of several classes, one-hot targets.

    Args:
        from_logits: `y_pred` holds logits, not probabilities.
        label_smoothing: in [0, 1]; that part of each target is spread over all classes.
        axis: the axis of the classes.

    >>> float(CategoricalCrossentropy()([[0.0, 1.0]], [[0.5, 0.5]]))
    0.6931...
    """

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(
            functions.categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalFocalCrossentropy(_Named):
    """`categorical_focal_crossentropy` as a `Loss`: samples that are already right weigh less."""

    def __init__(
        self,
        alpha=0.25,
        gamma=2.0,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="categorical_focal_crossentropy",
        dtype=None,
    ):
        super().__init__(
            functions.categorical_focal_crossentropy,
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(_Named):
    """`sparse_categorical_crossentropy` as a `Loss`: one of several classes, integer targets.

    Args:
        from_logits: `y_pred` holds logits, not probabilities.
        ignore_class: a label whose positions do not count (often -1 or 255).
        axis: the axis of the classes.

    >>> float(SparseCategoricalCrossentropy()([1], [[0.5, 0.5]]))
    0.6931...
    """

    _quiet = (("axis", -1),)

    def __init__(
        self,
        from_logits=False,
        ignore_class=None,
        reduction="sum_over_batch_size",
        axis=-1,
        name="sparse_categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(
            functions.sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )


class CategoricalGeneralizedCrossEntropy(_Named):
    """`categorical_generalized_cross_entropy` as a `Loss`: robust to wrong labels; `q` lies in (0, 1)."""

    def __init__(
        self,
        q=0.5,
        reduction="sum_over_batch_size",
        name="categorical_generalized_cross_entropy",
        dtype=None,
    ):
        if not 0 < q < 1:
            raise ValueError(f"q must be in the interval (0, 1). Received: q={q}")
        super().__init__(functions.categorical_generalized_cross_entropy, reduction, name, dtype, q=q)


class Dice(_Named):
    """`dice` as a `Loss`: one minus twice the overlap over the sum, over `axis` (None: everything)."""

    def __init__(self, reduction="sum_over_batch_size", name="dice", axis=None, dtype=None):
        super().__init__(functions.dice, reduction, name, dtype, axis=axis)


class Tversky(_Named):
    """`tversky` as a `Loss`: Dice with a weight for each kind of error."""

    def __init__(
        self, alpha=0.5, beta=0.5, reduction="sum_over_batch_size", name="tversky", axis=None, dtype=None
    ):
        super().__init__(functions.tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)


class Circle(_Named):
    """`circle` as a `Loss`: pulls embeddings of one label together and pushes the others apart."""

    def __init__(
        self,
        gamma=80.0,
        margin=0.4,
        remove_diagonal=True,
        reduction="sum_over_batch_size",
        name="circle",
        dtype=None,
    ):
        super().__init__(
            functions.circle,
            reduction,
            name,
            dtype,
            gamma=gamma,
            margin=margin,
            remove_diagonal=remove_diagonal,
        )
