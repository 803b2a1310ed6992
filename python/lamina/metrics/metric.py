"""`Metric`: state variables, an update and a result."""

from lamina import backend, dtype_policies, initializers, ops
from lamina.engine.naming import auto_name
from lamina.engine.scope import StatelessScope, name_scope
from lamina.engine.tracebacks import UserMade
from lamina.engine.variable import Variable


class Metric(UserMade):
    """A value over many batches: `update_state` adds one, `result` reads it, `reset_state` starts anew.

    Args:
        dtype: dtype, or dtype policy, of state and computation; `floatx` if None.
        name: name of the metric; derived from the class if None.

    State lives in variables made with `add_variable`, so that updates can be traced into one function with
    the model. Metrics held in attributes, also inside lists and dicts, lend their variables to this one.

    >>> class Positives(Metric):
    ...     def __init__(self, name="positives", **kwargs):
    ...         super().__init__(name=name, **kwargs)
    ...         self.count = self.add_variable((), "zeros", name="count")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.count.assign_add(ops.sum(ops.cast(y_pred > 0.5, self.dtype)))
    ...     def result(self):
    ...         return self.count.value
    """

    # "up" or "down": which way is better, for callbacks that decide by themselves.
    _direction = None

    def __init__(self, dtype=None, name=None):
        self.name = name or auto_name(type(self).__name__)
        self._dtype_policy = dtype_policies.get(dtype or backend.floatx())
        self._dtype = self._dtype_policy.compute_dtype
        self._variables = []

    @property
    def dtype(self):
        return self._dtype

    def add_variable(self, shape, initializer, dtype=None, aggregation="sum", name=None):
        """A new state variable; `dtype` is `floatx` if None."""
        self._check_super_called()
        with name_scope(self.name.replace("/", ">"), caller=self):
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

    def add_weight(self, shape=(), initializer=None, dtype=None, name=None):
        """`add_variable` under its older name; zeros if no initializer is given."""
        return self.add_variable(
            shape, "zeros" if initializer is None else initializer, dtype=dtype, name=name
        )

    @property
    def variables(self):
        """The state variables of this metric, then those of the metrics it holds."""
        self._check_super_called()
        own, nested = list(self._variables), []
        seen = {id(v) for v in own}

        def visit(value):
            if isinstance(value, Variable):
                if id(value) not in seen:
                    seen.add(id(value))
                    own.append(value)
            elif isinstance(value, Metric):
                nested.extend(v for v in value.variables if id(v) not in seen)
                seen.update(id(v) for v in nested)
            elif isinstance(value, (list, tuple)):
                for item in value:
                    visit(item)
            elif isinstance(value, dict):
                for item in value.values():
                    visit(item)

        for value in vars(self).values():
            visit(value)
        return own + nested

    def update_state(self, *args, **kwargs):
        """Adds a batch. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `update_state`.")

    def result(self):
        """The metric's value now: a scalar tensor, a tensor, or a dict of them. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `result`.")

    def reset_state(self):
        """Sets every state variable to zeros."""
        for v in self.variables:
            v.assign(ops.zeros(v.shape, dtype=v.dtype))

    def merge_state(self, metrics):
        """Adds the state of other metrics of the same kind: for state that is a sum over batches."""
        for metric in metrics:
            if len(metric.variables) != len(self.variables):
                raise ValueError(f"Cannot merge the state of {metric} into {self}: their variables differ.")
            for mine, other in zip(self.variables, metric.variables, strict=True):
                mine.assign_add(other.value)

    def __call__(self, *args, **kwargs):
        """Adds a batch and returns the value so far."""
        self._check_super_called()
        self.update_state(*args, **kwargs)
        return self.result()

    def stateless_update_state(self, metric_variables, *args, **kwargs):
        """The values that the variables would have after `update_state`, starting from `metric_variables`."""
        with self._stateless(metric_variables) as scope:
            self.update_state(*args, **kwargs)
        return self._values_in(scope)

    def stateless_result(self, metric_variables):
        """The result for given values of the variables."""
        with self._stateless(metric_variables):
            return self.result()

    def stateless_reset_state(self):
        """The values that the variables have after `reset_state`."""
        with StatelessScope() as scope:
            self.reset_state()
        return self._values_in(scope)

    def _stateless(self, values):
        if len(values) != len(self.variables):
            raise ValueError(
                "Argument `metric_variables` must be a list of tensors corresponding 1:1 to "
                f"{type(self).__name__}().variables. Received list with length {len(values)}, but expected "
                f"{len(self.variables)} variables."
            )
        return StatelessScope(state_mapping=list(zip(self.variables, values, strict=True)))

    def _values_in(self, scope):
        values = [(v, scope.get_current_value(v)) for v in self.variables]
        return [v.value if value is None else value for v, value in values]

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def _check_super_called(self):
        if "_variables" not in vars(self):
            raise RuntimeError(
                "You forgot to call `super().__init__()` in the `__init__()` method. Go add it! "
                f"(class {type(self).__name__})"
            )

    def __repr__(self):
        return f"<{type(self).__name__} name={vars(self).get('name')}>"
