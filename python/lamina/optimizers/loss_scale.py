"""`LossScaleOptimizer`: finds a loss scale at which float16 gradients neither overflow nor vanish."""

from lamina import initializers, ops
from lamina.optimizers.optimizer import Optimizer
from lamina.optimizers.settings import COMMON_SETTINGS
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object


class LossScaleOptimizer(Optimizer):
    """Scales the loss for another optimizer, and skips the steps whose gradients are not finite.

    Args:
        inner_optimizer: the optimizer that makes the updates; clipping, decay and the like are set there.
        initial_scale: the first loss scale.
        dynamic_growth_steps: the scale doubles after so many finite steps, and halves at each other one.
    """

    def __init__(
        self, inner_optimizer, initial_scale=2.0**15, dynamic_growth_steps=2000, name=None, **kwargs
    ):
        if not kwargs.pop("dynamic", True):
            raise ValueError(
                "LossScaleOptimizer no longer supports `dynamic=False`. Instead, simply set "
                "`loss_scale_factor` directly on the `inner_optimizer`."
            )
        defaults = dict.fromkeys(COMMON_SETTINGS[1:]) | {"use_ema": False, "ema_momentum": 0.99}
        for key in [k for k in kwargs if k in defaults]:
            if kwargs.pop(key) != defaults[key]:
                raise ValueError(
                    f"LossScaleOptimizer does not support `{key}`. Instead, set `{key}` on the "
                    "`inner_optimizer`."
                )
        if kwargs:
            raise ValueError(f"LossScaleOptimizer does not support arguments: `{'`, `'.join(kwargs)}`.")
        super().__init__(0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        inner_optimizer.loss_scale_factor = None

    def build(self, variables):
        if self.built:
            return
        self.step_counter = self.add_variable((), dtype="int32", name="step_counter")
        self.dynamic_scale = self.add_variable(
            (), initializers.Constant(self.initial_scale), dtype="float32", name="dynamic_scale"
        )
        self.inner_optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self):
        return [*self._variables, *self.inner_optimizer.variables]

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if not self.built:
            self.build(list(trainable_variables))
        finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in grads if g is not None]))
        scale = self.dynamic_scale.value
        unscaled = [g if g is None else ops.cast(g, "float32") / scale for g in grads]
        inner = self.inner_optimizer
        self._only_if(
            finite,
            lambda: inner.apply(unscaled, trainable_variables),
            [*self._trainable_variables, *inner.variables],
        )
        grown = ops.greater_equal(self.step_counter.value + 1, self.dynamic_growth_steps)
        count = ops.where(grown, 0, self.step_counter.value + 1)
        self.step_counter.assign(ops.where(finite, count, 0))
        factor = ops.where(finite, ops.where(grown, 2.0, 1.0), 0.5)
        self.dynamic_scale.assign(scale * factor)

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    def scale_loss(self, loss):
        return loss * (self.dynamic_scale.value if self.built else self.initial_scale)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self):
        return {
            "name": self.name,
            "inner_optimizer": serialize_keras_object(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner = deserialize_keras_object(config.pop("inner_optimizer"), custom_objects=custom_objects)
        return cls(inner, **config)
