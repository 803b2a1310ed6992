"""`Optimizer`: what all optimizers share, from clipping to averaging."""

import re

from lamina import backend, initializers, ops
from lamina.engine.naming import auto_name
from lamina.engine.scope import StatelessScope, in_stateless_scope, name_scope
from lamina.engine.trace import compile_function
from lamina.engine.tracebacks import UserMade, warn
from lamina.engine.variable import Variable
from lamina.optimizers.clipping import clipped
from lamina.optimizers.schedules import LearningRateSchedule
from lamina.optimizers.settings import COMMON_SETTINGS, as_rate, check_settings, reject_unknown
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object


class Optimizer(UserMade):
    """Changes variables along their gradients.

    Args:
        learning_rate: float, a `LearningRateSchedule`, or a callable without arguments.
        weight_decay: each step also takes `weight_decay * learning_rate` of every variable's value off it.
        clipnorm: each gradient is scaled down to this norm at most.
        clipvalue: each element of a gradient is clipped to [-clipvalue, clipvalue].
        global_clipnorm: all gradients are scaled by one factor, so that their joint norm is this at most.
            Only one of the three may be given.
        use_ema: keep an exponential moving average of the variables, `ema_momentum` of the old one per step.
            Every `ema_overwrite_frequency` steps, and at the end of `fit`, the variables become their
            averages.
        loss_scale_factor: the loss is multiplied by this, and the gradients divided, against underflow.
        gradient_accumulation_steps: an update every so many steps, with the mean gradient of those steps.
        name: name of the optimizer, and first part of the paths of its variables.

    A subclass names its hyper-parameters in `settings` (attributes, and keys of the config), makes its slots
    in `build` and writes `update_step`:

    >>> class SignDescent(Optimizer):
    ...     def __init__(self, learning_rate=0.01, **kwargs):
    ...         super().__init__(learning_rate, **kwargs)
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         variable.assign_sub(learning_rate * ops.sign(gradient))

    Everything is written with `lamina.ops` on variables, so that a step is traced into one function with the
    model.
    """

    settings = ()

    def __init__(
        self,
        learning_rate,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        reject_unknown(kwargs, self.settings)
        check_settings(
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema and ema_momentum,
            use_ema and ema_overwrite_frequency,
            gradient_accumulation_steps,
        )
        self.name = name or auto_name(type(self).__name__)
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._variables, self._trainable_variables, self._index = [], [], {}
        self._model_variables_moving_average, self._accumulated_gradients = [], []
        self._not_decayed, self._not_decayed_pattern = [], None
        self._iterations = self.add_variable((), "zeros", dtype="int32", name="iteration")
        if callable(learning_rate):
            self._learning_rate = learning_rate
        else:
            self._learning_rate = self.add_variable(
                (), initializers.Constant(as_rate(learning_rate)), name="learning_rate"
            )

    # ------------------------------------------------------------------------------------------ variables

    def add_variable(
        self, shape, initializer="zeros", dtype=None, aggregation="none", layout=None, name=None
    ):
        """A new variable of the optimizer; `dtype` is `floatx` if None."""
        self._check_super_called()
        with name_scope(self.name, caller=self):
            variable = Variable(
                initializer=initializers.get(initializer),
                shape=tuple(shape),
                dtype=dtype or backend.floatx(),
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """A new variable with the shape and dtype of another, named `<path of the other>_<name>`."""
        reference = getattr(reference_variable, "path", reference_variable.name)
        return self.add_variable(
            reference_variable.shape,
            initializer,
            dtype=reference_variable.dtype,
            name=f"{reference.replace('/', '_').replace(':', '_')}_{name or 'var'}",
        )

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        """One slot per variable as a list; a tuple of such lists for several names (and initializers)."""
        names = [name] if isinstance(name, str) else list(name)
        initial = initializer if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        if len(names) != len(initial):
            raise ValueError(
                "The number of provided names must match the number of provided initializers. "
                f"Received name='{name}', initializer='{initializer}'"
            )
        slots = tuple([] for _ in names)
        for variable in trainable_variables:
            for slot, slot_name, value in zip(slots, names, initial, strict=True):
                slot.append(self.add_variable_from_reference(variable, slot_name, value))
        return slots[0] if isinstance(name, str) else slots

    def build(self, variables):
        """Remembers the variables to train and makes the slots. Called by the first `apply` if not before."""
        if self.use_ema:
            self._model_variables_moving_average = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            self._accumulated_gradients = self.add_optimizer_variables(variables, "gradient_accumulator")
        self._trainable_variables = list(variables)
        self._index = {id(v): i for i, v in enumerate(variables)}
        self.built = True

    @property
    def variables(self):
        """Its variables: step counter, learning rate (unless scheduled), then averages and slots."""
        return list(self._variables)

    @property
    def iterations(self):
        """How many updates were made: a variable; a tensor if gradients are accumulated."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations.value, self.gradient_accumulation_steps)
        return self._iterations

    def _get_variable_index(self, variable):
        return self._index[id(variable)]

    def step_number(self, dtype):
        """The number of the update in progress, from 1; float32 for a smaller `dtype`, where 0.999 is 1."""
        return ops.cast(self.iterations, "float32" if dtype in ("float16", "bfloat16") else dtype) + 1.0

    # ------------------------------------------------------------------------------------------ the update

    def apply_gradients(self, grads_and_vars):
        """`apply` for an iterable of (gradient, variable). Returns the step counter."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self._iterations

    def apply(self, grads, trainable_variables=None):
        """Updates the variables.

        Args:
            grads: one gradient per variable; a variable whose gradient is None is left alone, with a warning.
            trainable_variables: the variables, default those given to `build`.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(
                    "When passing `grads` without `variables`, the optimizer must already be built on a "
                    "list of variables. Call `optimizer.build(trainable_variables)` first."
                )
            variables = self._trainable_variables
            if len(grads) != len(variables):
                raise ValueError(
                    "When passing `grads` as a list of gradient tensors, the gradients must match "
                    f"`optimizer.variables` one-to-one. Received a list of {len(grads)} gradients, but the "
                    f"optimizer is tracking {len(variables)} trainable variables."
                )
        else:
            variables = list(trainable_variables)
            if len(grads) != len(variables):
                raise ValueError(
                    f"Received {len(grads)} gradients for {len(variables)} variables: there must be one (or "
                    "None) each."
                )
            if not self.built:
                self.build(variables)
            for v in variables:
                if id(v) not in self._index:
                    raise ValueError(
                        f"Unknown variable: {v}. This optimizer can only be called for the variables it was "
                        "originally built with. When working with a new set of variables, you should "
                        "recreate a new optimizer instance."
                    )
        grads, variables = self._with_gradient(grads, variables)
        grads = [ops.convert_to_tensor(g) for g in grads]
        if self._compiled is None:
            self._compiled = compile_function(self._update, static_batch=True)
        # One call of the engine, unless what runs here may be Python that cannot be traced.
        ours = all(type(x).__module__.startswith("lamina.") for x in (self, self._learning_rate))
        (self._compiled if ours and not in_stateless_scope() else self._update)(grads, variables)
        for v in variables:
            if v.constraint is not None:
                v.assign(v.constraint(v.value))

    @staticmethod
    def _with_gradient(grads, variables):
        """Those gradients, and variables, that have a gradient; a warning names the others."""
        missing = [v.path for g, v in zip(grads, variables, strict=True) if g is None]
        if len(missing) == len(variables):
            raise ValueError("No gradients provided for any variable.")
        if missing:
            warn(
                f"Gradients do not exist for variables {missing} when minimizing the loss. "
                "If using `model.compile()`, did you forget to provide a `loss` argument?",
            )
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        return [g for g, _ in pairs], [v for _, v in pairs]

    def _update(self, grads, variables):
        if self.loss_scale_factor is not None:
            grads = [g / self.loss_scale_factor for g in grads]
        steps = self.gradient_accumulation_steps
        if steps:
            accumulators = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]
            sums = [g + a.value for g, a in zip(grads, accumulators, strict=True)]
            due = ops.equal((self._iterations.value + 1) % steps, 0)
            means = [s / float(steps) for s in sums]
            self._only_if(due, lambda: self._step(means, variables), variables + self._slots())
            for accumulator, total in zip(accumulators, sums, strict=True):
                accumulator.assign(ops.where(due, 0.0, total))
        else:
            self._step(grads, variables)
        if self.use_ema:
            self._update_averages()
        self._iterations.assign_add(1)

    def _step(self, grads, variables):
        grads = self._clip_gradients(grads)
        self._apply_weight_decay(variables)
        self._backend_update_step(grads, variables, self.learning_rate)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(gradient, variable, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        """Assigns the new value of one variable and of its slots. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `update_step`.")

    def _slots(self):
        """The variables that an update step may change, apart from the model's."""
        fixed = {
            id(v)
            for v in (
                self._iterations,
                self._learning_rate,
                *self._model_variables_moving_average,
                *self._accumulated_gradients,
            )
        }
        return [v for v in self._variables if id(v) not in fixed]

    @staticmethod
    def _only_if(condition, update, variables):
        """Runs `update`, and keeps what it assigned to `variables` only where `condition` holds.

        A choice between values, not between branches: in a trace the condition is not known yet.
        """
        before = [v.value for v in variables]
        update()
        for v, old in zip(variables, before, strict=True):
            v.assign(ops.where(condition, v.value, old))

    def assign(self, variable, value):
        """`variable.assign(value)`; a hook for subclasses."""
        variable.assign(value)

    def assign_add(self, variable, value):
        """`variable.assign_add(value)`; a hook for subclasses."""
        variable.assign_add(value)

    def assign_sub(self, variable, value):
        """`variable.assign_sub(value)`; a hook for subclasses."""
        variable.assign_sub(value)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """New values of the trained variables and of its own, from given ones; nothing is assigned."""
        self._check_super_called()
        if not self.built:
            raise ValueError(
                f"To call `stateless_apply`, {type(self).__name__} must be built (i.e. its variables must "
                "have been created). You can build it via `optimizer.build(trainable_variables)`."
            )
        for name, values, own in (
            ("optimizer_variables", optimizer_variables, self.variables),
            ("trainable_variables", trainable_variables, self._trainable_variables),
        ):
            if len(values) != len(own):
                raise ValueError(
                    f"Argument `{name}` must be a list of tensors corresponding 1:1 to the {len(own)} "
                    f"variables of {type(self).__name__}. Received list with length {len(values)}."
                )
        mapping = [
            *zip(self._trainable_variables, trainable_variables, strict=True),
            *zip(self.variables, optimizer_variables, strict=True),
        ]
        with StatelessScope(state_mapping=mapping) as scope:
            self.apply(grads)
        return (
            [scope.get_current_value(v) for v in self._trainable_variables],
            [scope.get_current_value(v) for v in self.variables],
        )

    # ----------------------------------------------------------------------------- clipping, decay, averages

    def _clip_gradients(self, grads):
        return clipped(grads, self.clipnorm, self.clipvalue, self.global_clipnorm)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Variables that do not decay: themselves, or patterns of their names. Before `build` only."""
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay()` can only be configured before the optimizer is built."
            )
        self._not_decayed = list(var_list or ())
        self._not_decayed_pattern = re.compile("|".join(sorted(set(var_names)))) if var_names else None

    def _use_weight_decay(self, variable):
        if any(v is variable for v in self._not_decayed):
            return False
        return self._not_decayed_pattern is None or not self._not_decayed_pattern.search(variable.name)

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        learning_rate = self.learning_rate
        for v in variables:
            if self._use_weight_decay(v):
                decay = ops.cast(learning_rate, v.dtype) * self.weight_decay
                v.assign(v.value - v.value * decay)

    def _update_averages(self):
        # The first average is the value itself: momentum is 0 at step 0.
        started = ops.not_equal(self.iterations, 0)
        for v, average in zip(self._trainable_variables, self._model_variables_moving_average, strict=True):
            momentum = ops.cast(started, v.dtype) * self.ema_momentum
            average.assign(momentum * average.value + (1.0 - momentum) * v.value)
        if self.ema_overwrite_frequency:
            due = ops.equal((self.iterations + 1) % self.ema_overwrite_frequency, 0)
            self._only_if(
                due,
                lambda: self._overwrite_model_variables_with_average_value(self._trainable_variables),
                self._trainable_variables,
            )

    def _overwrite_model_variables_with_average_value(self, trainable_variables):
        averages = self._model_variables_moving_average
        if len(trainable_variables) != len(averages):
            raise ValueError(
                f"The length of model variables ({len(trainable_variables)}) to override does not match the "
                f"length of model variables stored in the optimizer ({len(averages)}). Please check if "
                "the optimizer was called on your model."
            )
        for v, average in zip(trainable_variables, averages, strict=True):
            v.assign(average.value)

    def finalize_variable_values(self, var_list):
        """With `use_ema`, sets the variables to their averages: the end of training."""
        if self.use_ema:
            self._overwrite_model_variables_with_average_value(var_list)

    def scale_loss(self, loss):
        """The loss to differentiate: `loss * loss_scale_factor`."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    # ---------------------------------------------------------------------------------------- learning rate

    @property
    def learning_rate(self):
        """The learning rate of this step: a variable, or what the schedule or the callable gives now."""
        if isinstance(self._learning_rate, LearningRateSchedule):
            return self._learning_rate(self._iterations.value)
        if isinstance(self._learning_rate, Variable):
            return self._learning_rate
        return self._learning_rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        if callable(learning_rate) and not isinstance(learning_rate, Variable):
            self._variables = [v for v in self._variables if v is not self._learning_rate]
            self._learning_rate = learning_rate
        elif isinstance(self._learning_rate, Variable):
            self._learning_rate.assign(learning_rate)
        else:
            raise TypeError(
                "This optimizer was created with a `LearningRateSchedule` object as its `learning_rate` "
                "constructor argument, hence its learning rate is not settable. If you need the learning "
                "rate to be settable, you should instantiate the optimizer with a float `learning_rate` "
                "argument."
            )

    # ------------------------------------------------------------------------------------ state and config

    def set_weights(self, weights):
        """Sets the optimizer's variables to a list of arrays, in the order of `variables`."""
        if not self.built:
            raise ValueError(
                "You are calling `set_weights()` on an optimizer that has not yet been built. Please call "
                "`optimizer.build(trainable_variables)` to create the optimizer weights before calling "
                "`set_weights()`."
            )
        if len(weights) != len(self.variables):
            raise ValueError(
                f"The optimizer has {len(self.variables)} variables; {len(weights)} weights were given."
            )
        for v, weight in zip(self.variables, weights, strict=True):
            if tuple(v.shape) != tuple(weight.shape):
                raise ValueError(
                    f"Optimizer variable {v.path} has shape {tuple(v.shape)} not compatible with provided "
                    f"weight shape {tuple(weight.shape)}."
                )
        for v, weight in zip(self.variables, weights, strict=True):
            v.assign(weight)

    def save_own_variables(self, store):
        """Writes the variables to `store` under "0", "1", ..."""
        for i, v in enumerate(self.variables):
            store[str(i)] = v.numpy()

    def load_own_variables(self, store):
        """Reads the variables from `store`; with a warning, nothing, if it holds another number of them."""
        if len(store.keys()) != len(self.variables):
            unbuilt = "" if self.built else " This is because the optimizer has not been built yet."
            warn(
                f"Skipping variable loading for optimizer '{self.name}', because it has "
                f"{len(self.variables)} variables "
                f"whereas the saved optimizer has {len(store.keys())} variables.{unbuilt}",
            )
            return
        for i, v in enumerate(self.variables):
            v.assign(store[str(i)])

    def get_config(self):
        rate = self._learning_rate
        rate = float(rate.numpy()) if isinstance(rate, Variable) else serialize_keras_object(rate)
        config = {"name": self.name, "learning_rate": rate}
        return config | {key: getattr(self, key) for key in (*COMMON_SETTINGS[1:], *self.settings)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = deserialize_keras_object(
                config["learning_rate"], custom_objects=custom_objects
            )
        return cls(**config)

    def __setattr__(self, name, value):
        # A changed setting asks for a new trace of the update.
        self.__dict__["_compiled"] = None
        super().__setattr__(name, value)

    def __getstate__(self):
        return {**self.__dict__, "_compiled": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._index = {id(v): i for i, v in enumerate(self._trainable_variables)}

    def _check_super_called(self):
        if "_variables" not in vars(self):
            raise RuntimeError(
                f"In optimizer '{type(self).__name__}', you forgot to call `super().__init__()` as the first "
                "statement in the `__init__()` method. Go add it!"
            )

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"
