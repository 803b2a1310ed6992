"""Stochastic gradient descent, and the optimizers that follow only a running direction: SGD, Lion."""

from lamina import ops
from lamina.optimizers.optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent, with momentum if asked.

    Args:
        learning_rate: float, schedule or callable.
        momentum: in [0, 1]. `v = momentum * v - learning_rate * g`, `w = w + v`.
        nesterov: `w = w + momentum * v - learning_rate * g` with the new `v` (Sutskever et al., 2013).
        **kwargs: arguments of every `Optimizer`.

    >>> w = lamina.Variable([1.0]); SGD(0.5).apply([[1.0]], [w]); float(w[0])
    0.5
    """

    settings = ("momentum", "nesterov")

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=None, **kwargs):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be a float between [0, 1]. Received: momentum={momentum}")
        self.momentum, self.nesterov = float(momentum), nesterov
        self.momentums = []

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        if self.momentum:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(gradient, variable.dtype) * ops.cast(learning_rate, variable.dtype)
        if not self.momentum:
            self.assign_sub(variable, step)
            return
        slot = self.momentums[self._get_variable_index(variable)]
        velocity = slot.value * self.momentum - step
        self.assign(slot, velocity)
        self.assign_add(variable, velocity * self.momentum - step if self.nesterov else velocity)


class Lion(Optimizer):
    """The sign of a momentum (Chen et al., 2023), for smaller learning rates and larger decay than Adam's.

    `w = w - learning_rate * sign(beta_1 * m + (1 - beta_1) * g)`, then `m = beta_2 * m + (1 - beta_2) * g`.
    """

    settings = ("beta_1", "beta_2")

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.99, weight_decay=None, **kwargs):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        if beta_1 <= 0 or beta_1 > 1:
            raise ValueError(
                "Argument `beta_1` must be in the [0, 1] range. Otherwise, the optimizer degenerates to "
                f"SignSGD. Received: beta_1={beta_1}."
            )
        self.beta_1, self.beta_2 = beta_1, beta_2

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        lr, g = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        slot = self._momentums[self._get_variable_index(variable)]
        m = slot.value
        self.assign_sub(variable, lr * ops.sign(m * self.beta_1 + g * (1.0 - self.beta_1)))
        self.assign(slot, m * self.beta_2 + g * (1.0 - self.beta_2))
