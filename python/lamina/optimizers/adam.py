"""Adam and its family: steps scaled by running means of the gradient and of its square."""

from lamina import backend, ops
from lamina.optimizers.optimizer import Optimizer


def _toward(slot, value, part):
    """Moves a running mean `part` of the way to `value`; its new value."""
    mean = slot.value + (value - slot.value) * part
    slot.assign(mean)
    return mean


class _TwoMoments(Optimizer):
    """Running means of the gradient (momentum) and of its square (velocity)."""

    settings = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None, **kwargs
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def _moments(self, gradient, variable):
        """Both running means with this gradient taken in."""
        index = self._get_variable_index(variable)
        m = _toward(self._momentums[index], gradient, 1.0 - self.beta_1)
        v = _toward(self._velocities[index], ops.square(gradient), 1.0 - self.beta_2)
        return m, v

    def _corrections(self, dtype):
        """`1 - beta ** step`: what the means lack because they started at 0."""
        step = self.step_number(dtype)
        return 1.0 - ops.power(self.beta_1, step), 1.0 - ops.power(self.beta_2, step)


class Adam(_TwoMoments):
    """Adam (Kingma and Ba, 2014): `w = w - a * m / (sqrt(v) + epsilon)`.

    `m` and `v` are running means of the gradient and of its square,
    `a = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)` at step t.

    Args:
        learning_rate: float, schedule or callable.
        beta_1, beta_2: how much of the old means stays at each step.
        epsilon: keeps the divisor from 0 (this is "epsilon hat" of the paper).
        amsgrad: divide by the largest `v` so far (Reddi et al., 2018).
        **kwargs: arguments of every `Optimizer`.
    """

    settings = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        weight_decay=None,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **kwargs)
        self.amsgrad = amsgrad

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        if self.amsgrad:
            self._velocity_hats = self.add_optimizer_variables(variables, "velocity_hat")

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        m, v = self._moments(ops.cast(gradient, dtype), variable)
        correction_1, correction_2 = self._corrections(dtype)
        alpha = ops.cast(learning_rate, dtype) * ops.sqrt(correction_2) / correction_1
        if self.amsgrad:
            largest = self._velocity_hats[self._get_variable_index(variable)]
            v = ops.maximum(largest.value, v)
            self.assign(largest, v)
        self.assign_sub(variable, m * alpha / (ops.sqrt(v) + self.epsilon))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter, 2019): each step takes
    `learning_rate * weight_decay * w` off `w` first.
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, **kwargs)
        if self.weight_decay is None:
            raise ValueError("Argument `weight_decay` must be a float. Received: weight_decay=None")


class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2014).

    `u = max(beta_2 * u, |g|)`, `w = w - learning_rate * m / ((1 - beta_1**t) * (u + epsilon))`.
    """

    settings = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None, **kwargs
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._m, self._u = self.add_optimizer_variables(variables, ["momentum", "norm"])

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        lr, g = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        m = _toward(self._m[index], g, 1.0 - self.beta_1)
        u = ops.maximum(self._u[index].value * self.beta_2, ops.abs(g))
        self.assign(self._u[index], u)
        correction = 1.0 - ops.power(self.beta_1, self.step_number(dtype))
        self.assign_sub(variable, lr * m / (correction * (u + self.epsilon)))


class Nadam(_TwoMoments):
    """Adam with Nesterov momentum (Dozat, 2015), weighted by `beta_1 * (1 - 0.96**t / 2)` at step t."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        dtype = variables[0].dtype if variables else backend.floatx()
        self._u_product = self.add_variable((), "ones", dtype=dtype, name="u_product")

    def _schedule(self, step):
        return self.beta_1 * (1.0 - 0.5 * ops.power(0.96, step))

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        product = self._u_product.value
        self.assign(self._u_product, product * self._schedule(self.step_number(product.dtype)))
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        lr, g = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        step = self.step_number(dtype)
        u, u_next = self._schedule(step), self._schedule(step + 1.0)
        product = ops.cast(self._u_product.value, dtype)
        m, v = self._moments(g, variable)
        m_hat = u_next * m / (1.0 - product * u_next) + (1.0 - u) * g / (1.0 - product)
        v_hat = v / (1.0 - ops.power(self.beta_2, step))
        self.assign_sub(variable, m_hat * lr / (ops.sqrt(v_hat) + self.epsilon))


class Lamb(_TwoMoments):
    """Adam's step, scaled for each variable to `learning_rate * norm(w)` (You et al., 2020)."""

    def update_step(self, gradient, variable, learning_rate):
        dtype, w = variable.dtype, variable.value
        m, v = self._moments(ops.cast(gradient, dtype), variable)
        correction_1, correction_2 = self._corrections(dtype)
        update = (m / correction_1) / (ops.sqrt(v / correction_2) + self.epsilon)
        w_norm, u_norm = ops.sqrt(ops.sum(ops.square(w))), ops.sqrt(ops.sum(ops.square(update)))
        usable = ops.logical_and(ops.greater(w_norm, 0.0), ops.greater(u_norm, 0.0))
        ratio = ops.where(usable, w_norm / u_norm, 1.0)
        self.assign_sub(variable, ratio * ops.cast(learning_rate, dtype) * update)


class ScheduleFreeAdamW(_TwoMoments):
    """AdamW without a schedule (Defazio et al., 2024): weights are a mix of a fast iterate and its mean.

    `warmup_steps`: the learning rate rises linearly over so many steps.
    """

    settings = ("beta_1", "beta_2", "epsilon", "warmup_steps")

    def __init__(
        self,
        learning_rate=0.0025,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        warmup_steps=0,
        weight_decay=None,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **kwargs)
        self.warmup_steps = warmup_steps

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        for slot, variable in zip(self._momentums, variables, strict=True):
            slot.assign(variable.value)  # the fast iterate starts where the weights are

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        lr, g, step = (
            ops.cast(learning_rate, dtype),
            ops.cast(gradient, dtype),
            self.step_number(variable.dtype),
        )
        if self.warmup_steps > 0:
            lr = lr * ops.minimum(step / float(self.warmup_steps), 1.0)
        v = _toward(self._velocities[index], ops.square(g), 1.0 - self.beta_2)
        old = self._momentums[index].value
        fast = old - lr * g / (ops.sqrt(v / (1.0 - ops.power(self.beta_2, step))) + self.epsilon)
        self.assign(self._momentums[index], fast)
        mean = (variable.value - (1.0 - self.beta_1) * old) / self.beta_1
        mean = (1.0 - 1.0 / step) * mean + fast / step
        self.assign(variable, (1.0 - self.beta_1) * fast + self.beta_1 * mean)
