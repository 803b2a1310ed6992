"""Muon: orthogonalised momentum for matrices, AdamW for everything else."""

import math
import re

from lamina import ops
from lamina.optimizers.adam import _toward
from lamina.optimizers.optimizer import Optimizer


class Muon(Optimizer):
    """Steps of orthonormal matrices (Jordan et al., 2024): momentum is replaced by its nearest orthogonal
    matrix, found with `ns_steps` Newton-Schulz iterations.

    Args:
        adam_beta_1, adam_beta_2, epsilon, adam_weight_decay, adam_lr_ratio: AdamW's, used for variables that
            are no matrices, for embeddings (`exclude_embeddings`) and where a pattern of `exclude_layers` is
            in the path; its learning rate is `learning_rate * adam_lr_ratio`.
        momentum, nesterov: of the matrices' gradients.
        muon_a, muon_b, muon_c: coefficients of the iteration `a X + (b A + c A A) X`, `A = X X^T`.
        rms_rate: steps are scaled by `rms_rate * sqrt(max(rows, columns))`; None: not at all.
    """

    settings = (
        *("adam_beta_1", "adam_beta_2", "epsilon", "exclude_layers", "muon_a", "muon_b", "muon_c"),
        *("adam_lr_ratio", "momentum", "ns_steps", "nesterov", "exclude_embeddings", "adam_weight_decay"),
        "rms_rate",
    )

    def __init__(
        self,
        learning_rate=0.001,
        adam_beta_1=0.9,
        adam_beta_2=0.999,
        adam_weight_decay=0.004,
        epsilon=1e-7,
        weight_decay=0.004,
        *,
        exclude_layers=None,
        exclude_embeddings=True,
        muon_a=3.4445,
        muon_b=-4.775,
        muon_c=2.0315,
        adam_lr_ratio=1,
        momentum=0.95,
        ns_steps=5,
        nesterov=True,
        rms_rate=0.2,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = exclude_layers or [], exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c
        self.momentum, self.nesterov, self.ns_steps = momentum, nesterov, ns_steps
        self.rms_rate = rms_rate

    def _should_use_adamw(self, variable):
        if len(variable.shape) != 2 or (self.exclude_embeddings and "embedding" in variable.path.lower()):
            return True
        return any(re.search(pattern, variable.path) for pattern in self.exclude_layers)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums, self.adam_velocities = [], []
        for v in variables:
            self.momentums.append(self.add_variable_from_reference(v, "momentum"))
            adam = self._should_use_adamw(v)
            self.adam_velocities.append(self.add_variable_from_reference(v, "velocity") if adam else None)

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        lr, g = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        momentum, velocity = self.momentums[index], self.adam_velocities[index]
        if velocity is not None:
            step = self.step_number(dtype)
            m = _toward(momentum, g, 1.0 - self.adam_beta_1)
            v = _toward(velocity, ops.square(g), 1.0 - self.adam_beta_2)
            alpha = lr * self.adam_lr_ratio * ops.sqrt(1.0 - ops.power(self.adam_beta_2, step))
            alpha = alpha / (1.0 - ops.power(self.adam_beta_1, step))
            self.assign_sub(variable, m * alpha / (ops.sqrt(v) + self.epsilon))
            return
        m = momentum.value * self.momentum + g
        self.assign(momentum, m)
        update = self.zeropower_via_newtonschulz5(
            g + m * self.momentum if self.nesterov else m, self.ns_steps
        )
        self.assign_sub(variable, self.lr_adjust(lr * update))

    def lr_adjust(self, x):
        """`x` times `rms_rate * sqrt(max(rows, columns))`, so that steps are about as large as AdamW's."""
        return x if self.rms_rate is None else x * (math.sqrt(max(x.shape)) * self.rms_rate)

    def zeropower_via_newtonschulz5(self, x, steps):
        """The orthogonal matrix nearest to `x`, roughly: singular values end between 0.7 and 1.2."""
        tall = x.shape[0] > x.shape[1]
        x = ops.transpose(x) if tall else x
        x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
        for _ in range(steps):
            square = ops.matmul(x, ops.transpose(x))
            x = x * self.muon_a + ops.matmul(
                square * self.muon_b + ops.matmul(square, square) * self.muon_c, x
            )
        return ops.transpose(x) if tall else x

    def _apply_weight_decay(self, variables):
        learning_rate = self.learning_rate
        for v in variables:
            decay = self.adam_weight_decay if self._should_use_adamw(v) else self.weight_decay
            if decay is not None and self._use_weight_decay(v):
                v.assign(v.value - v.value * (ops.cast(learning_rate, v.dtype) * decay))
