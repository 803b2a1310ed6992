"""Steps scaled by the squares of past gradients: RMSprop, Adagrad, Adadelta, Ftrl, Adafactor."""

from lamina import initializers, ops
from lamina.optimizers.optimizer import Optimizer


class RMSprop(Optimizer):
    """Divides the gradient by the root of a running mean of its square (Hinton, 2012).

    `v = rho * v + (1 - rho) * g**2`, `w = w - learning_rate * g / sqrt(v + epsilon)`.

    Args:
        rho: how much of the old mean stays at each step.
        momentum: `b = momentum * b + step; w = w - b`.
        centered: divide by the root of the variance: `v - (running mean of g)**2`.
        **kwargs: arguments of every `Optimizer`.
    """

    settings = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
        weight_decay=None,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        if self.momentum > 0:
            self._momentums = self.add_optimizer_variables(variables, "momentum")
        if self.centered:
            self._average_gradients = self.add_optimizer_variables(variables, "average_gradient")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        lr, g = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        slot = self._velocities[index]
        velocity = slot.value * self.rho + ops.square(g) * (1.0 - self.rho)
        self.assign(slot, velocity)
        if self.centered:
            slot = self._average_gradients[index]
            mean = slot.value * self.rho + g * (1.0 - self.rho)
            self.assign(slot, mean)
            velocity = velocity - ops.square(mean)
        step = lr * g / ops.sqrt(velocity + self.epsilon)
        if self.momentum > 0:
            slot = self._momentums[index]
            step = slot.value * self.momentum + step
            self.assign(slot, step)
        self.assign_sub(variable, step)


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all its squares (Duchi et al., 2011).

    `a = a + g**2`, `w = w - learning_rate * g / sqrt(a + epsilon)`; `a` starts at
    `initial_accumulator_value`.
    """

    settings = ("initial_accumulator_value", "epsilon")

    def __init__(
        self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, weight_decay=None, **kwargs
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        start = initializers.Constant(self.initial_accumulator_value)
        self._accumulated = self.add_optimizer_variables(variables, "accumulator", start)

    def update_step(self, gradient, variable, learning_rate):
        lr, g = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        slot = self._accumulated[self._get_variable_index(variable)]
        total = slot.value + ops.square(g)
        self.assign(slot, total)
        self.assign_sub(variable, lr * g / ops.sqrt(total + self.epsilon))


class Adadelta(Optimizer):
    """Scales the gradient by the ratio of the running sizes of past steps and gradients (Zeiler, 2012).

    `learning_rate=1.0` is the method of the paper; `rho` is how much of the running means stays at each step.
    """

    settings = ("rho", "epsilon")

    def __init__(self, learning_rate=0.001, rho=0.95, epsilon=1e-7, weight_decay=None, **kwargs):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.rho, self.epsilon = rho, epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._gradients, self._steps = self.add_optimizer_variables(
            variables, ["accumulated_grad", "accumulated_delta_var"]
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        lr, g = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        squares = self._gradients[index].value * self.rho + ops.square(g) * (1.0 - self.rho)
        self.assign(self._gradients[index], squares)
        past = self._steps[index].value
        step = ops.sqrt(past + self.epsilon) * g / ops.sqrt(squares + self.epsilon)
        self.assign(self._steps[index], past * self.rho + ops.square(step) * (1.0 - self.rho))
        self.assign_sub(variable, lr * step)


class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al., 2013): for shallow models on large sparse features.

    Args:
        learning_rate_power: <= 0; how the rate falls with the accumulated squares (0: not at all).
        initial_accumulator_value: >= 0; where the squares start.
        l1_regularization_strength, l2_regularization_strength: >= 0; penalties on the weights.
        l2_shrinkage_regularization_strength: >= 0; a penalty on their size that acts through the gradient.
        beta: added to the learning rate's divisor, as in the paper.
    """

    settings = (
        "learning_rate_power",
        "initial_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
        "beta",
    )

    def __init__(
        self,
        learning_rate=0.001,
        learning_rate_power=-0.5,
        initial_accumulator_value=0.1,
        l1_regularization_strength=0.0,
        l2_regularization_strength=0.0,
        l2_shrinkage_regularization_strength=0.0,
        beta=0.0,
        weight_decay=None,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        if learning_rate_power > 0.0:
            raise ValueError(
                "`learning_rate_power` needs to be negative or zero. "
                f"Received: learning_rate_power={learning_rate_power}."
            )
        self.learning_rate_power, self.beta = learning_rate_power, beta
        for name, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if value < 0.0:
                raise ValueError(f"`{name}` needs to be positive or zero. Received: {name}={value}.")
            setattr(self, name, value)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        start = initializers.Constant(self.initial_accumulator_value)
        self._squares, self._linears = self.add_optimizer_variables(
            variables, ["accumulator", "linear"], [start, "zeros"]
        )

    def update_step(self, gradient, variable, learning_rate):
        index, w = self._get_variable_index(variable), variable.value
        lr, g = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        l1, power = self.l1_regularization_strength, -self.learning_rate_power
        l2 = self.l2_regularization_strength + self.beta / (2.0 * lr)
        old = self._squares[index].value
        new = old + ops.square(g)
        self.assign(self._squares[index], new)
        raised = ops.power(new, power)
        linear = self._linears[index].value + g + 2.0 * self.l2_shrinkage_regularization_strength * w
        linear = linear - (raised - ops.power(old, power)) / lr * w
        self.assign(self._linears[index], linear)
        self.assign(variable, (ops.clip(linear, -l1, l1) - linear) / (raised / lr + 2.0 * l2))


class Adafactor(Optimizer):
    """Adam-like steps from row and column means of the squared gradients only (Shazeer and Stern, 2018).

    Args:
        beta_2_decay: the share of the old means at step t is `1 - t**beta_2_decay`.
        epsilon_1: added to the squared gradients. epsilon_2: smallest size of a variable that a step is
            scaled by.
        clip_threshold: steps are scaled down to this root mean square.
        relative_step: kept in the config; as in Keras, the rate is at most `1 / sqrt(t)` either way.
    """

    settings = ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step")

    def __init__(
        self,
        learning_rate=0.001,
        beta_2_decay=-0.8,
        epsilon_1=1e-30,
        epsilon_2=1e-3,
        clip_threshold=1.0,
        relative_step=True,
        weight_decay=None,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_2_decay, self.clip_threshold = beta_2_decay, clip_threshold
        self.epsilon_1, self.epsilon_2 = epsilon_1, epsilon_2
        self.relative_step = relative_step

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._rows, self._columns, self._velocities = [], [], []
        for v in variables:
            # A vector has no rows: two scalars keep their places, so that files have the layout of Keras's.
            factored = len(v.shape) >= 2
            shapes = (v.shape[:-1], (*v.shape[:-2], v.shape[-1])) if factored else ((), ())
            dtype = v.dtype if factored else "int32"
            self._rows.append(self.add_variable(shapes[0], dtype=dtype, name=v.name))
            self._columns.append(self.add_variable(shapes[1], dtype=dtype, name=v.name))
            self._velocities.append(self.add_variable_from_reference(v, "velocity"))

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        lr, g, step = (
            ops.cast(learning_rate, dtype),
            ops.cast(gradient, dtype),
            self.step_number(variable.dtype),
        )
        slowing = 1.0 / ops.sqrt(step)
        scale = ops.maximum(_rms(variable.value), self.epsilon_2) * ops.minimum(lr, slowing)
        kept = 1.0 - ops.power(step, self.beta_2_decay)
        squares = ops.square(g) + self.epsilon_1

        def mean(slot, value):
            value = kept * slot.value + (1.0 - kept) * value
            self.assign(slot, value)
            return value

        if len(variable.shape) >= 2:
            rows = mean(self._rows[index], ops.mean(squares, axis=-1))
            columns = mean(self._columns[index], ops.mean(squares, axis=-2))
            rows = rows / ops.mean(rows, axis=-1, keepdims=True)
            velocity = ops.expand_dims(rows, -1) * ops.expand_dims(columns, -2)
            self.assign(self._velocities[index], velocity)
        else:
            velocity = mean(self._velocities[index], squares)
        update = g / ops.sqrt(velocity)
        update = update / ops.maximum(_rms(update) / self.clip_threshold, 1.0)
        self.assign_sub(variable, scale * update)


def _rms(x):
    return ops.sqrt(ops.mean(ops.square(x)))
