"""One step of a recurrent layer: the cells of SimpleRNN, LSTM and GRU.

A gate is `activation(x @ W + h @ R + b)`. Each gate has its own block of columns in the kernels, and each is
multiplied by itself: nothing is cut out of a result afterwards, which would cost a copy in the forward pass
and a sum over zeros in the backward pass.
"""

import contextlib
import threading

from lamina import activations, initializers, ops, random
from lamina.layers.arguments import known_axis, positive_int
from lamina.layers.parametric import ParametricLayer


class _Sequence(threading.local):
    halves = None  # {id(cell): what its `begin` returned} while a sequence runs


_sequence = _Sequence()


@contextlib.contextmanager
def one_sequence():
    """Cells called inside begin once: they keep their dropout masks from step to step."""
    outer, _sequence.halves = _sequence.halves, {}
    try:
        yield
    finally:
        _sequence.halves = outer


class RecurrentCell(ParametricLayer):
    """What the cells share: weights, dropout, and a step in two halves.

    `begin(training)` gives two functions for the steps of one sequence. `project(x)` is the part of each gate
    that depends on the input alone, so that it may be taken for many steps at once; `step(projected, states)`
    does the rest and returns the output and the new states.
    """

    gates: int

    def _cell_options(self, units, use_bias, dropout, recurrent_dropout, seed, implementation):
        self.units = positive_int(units, "units")
        self.use_bias = use_bias
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        # 1: each gate drops values of its own. 2: one mask for all of them.
        self.implementation = 1 if self.recurrent_dropout else implementation
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed)
        self.state_size = self.output_size = self.units

    def build(self, input_shape):
        features = known_axis(input_shape, -1, self, "features")
        self.kernel = self._add_weight("kernel", (features, self.gates * self.units))
        self.recurrent_kernel = self._add_weight(
            "recurrent_kernel", (self.units, self.gates * self.units), "recurrent"
        )
        self.bias = self._add_bias() if self.use_bias else None

    def _add_bias(self):
        return self._add_weight("bias", (self.gates * self.units,))

    def call(self, inputs, states, training=False):
        halves = None if _sequence.halves is None else _sequence.halves.get(id(self))
        if halves is None:
            halves = self.begin(training)
            if _sequence.halves is not None:
                _sequence.halves[id(self)] = halves
        project, step = halves
        listed = isinstance(states, (list, tuple))
        output, states = step(project(inputs), states if listed else [states])
        return output, states if listed else states[0]

    def begin(self, training):
        """(project, step) for the steps of one sequence."""
        kernels, biases = self._blocks(self.kernel), self._input_biases()
        drop = self._dropped(self.dropout, training)

        def project(x):
            parts = [ops.matmul(v, w) for v, w in zip(drop(x), kernels, strict=True)]
            return parts if biases is None else [p + b for p, b in zip(parts, biases, strict=True)]

        return project, self._step(
            self._blocks(self.recurrent_kernel), self._dropped(self.recurrent_dropout, training)
        )

    def _step(self, kernels, drop):
        raise NotImplementedError

    def _blocks(self, weight):
        return ops.split(weight, self.gates, axis=-1)

    def _input_biases(self):
        return None if self.bias is None else self._blocks(self.bias)

    def _dropped(self, rate, training):
        """A function that gives what each gate sees of a value; its masks stay the same from call to call."""
        if not training or not rate:
            return lambda value: [value] * self.gates
        masks = []

        def drop(value):
            if not masks:
                ones, own = ops.ones_like(value), self.gates if self.implementation == 1 else 1
                masks.extend(random.dropout(ones, rate, seed=self.seed_generator) for _ in range(own))
            seen = [value * mask for mask in masks]
            return seen * (self.gates // len(seen))

        return drop

    def get_initial_state(self, batch_size=None):
        """Zeros for each state, (batch_size, units)."""
        sizes = self.state_size if isinstance(self.state_size, (list, tuple)) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]


class SimpleRNNCell(RecurrentCell):
    """One step of SimpleRNN: `h' = activation(x @ kernel + h @ recurrent_kernel + bias)`.

    Input: (batch, features) and the state `[h]`, (batch, units). Returns: the output h' and `[h']`.
    `dropout` and `recurrent_dropout` switch off parts of x and h while training, the same at all steps.
    """

    gates = 1

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._cell_options(units, use_bias, dropout, recurrent_dropout, seed, implementation=2)
        self.activation = activations.get(activation)
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._weight_options("recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint)
        self._weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def _step(self, kernels, drop):
        (kernel,) = kernels

        def step(projected, states):
            (x,), (h,) = projected, drop(states[0])
            h = self.activation(x + ops.matmul(h, kernel))
            return h, [h]

        return step


class LSTMCell(RecurrentCell):
    """One step of LSTM, with a state h that is also the output, and a memory c.

    Gates i (input), f (forget), g (candidate) and o (output), in this order in the kernels:
    `c' = f * c + i * g` and `h' = o * activation(c')`, where i, f and o use `recurrent_activation` and g uses
    `activation`. `unit_forget_bias` starts the bias of f at 1.

    Input: (batch, features) and the states `[h, c]`, (batch, units) each. Returns: h' and `[h', c']`.
    Source: Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735.
    """

    gates = 4

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        **kwargs,
    ):
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self._cell_options(units, use_bias, dropout, recurrent_dropout, seed, implementation)
        self.state_size = [self.units, self.units]
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._weight_options("recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint)
        self._weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def _add_bias(self):
        if not self.unit_forget_bias:
            return super()._add_bias()
        start, units = self.bias_initializer, self.units

        def forget_ones(shape, dtype=None):
            ones = initializers.get("ones")((units,), dtype=dtype)
            return ops.concatenate([start((units,), dtype=dtype), ones, start((2 * units,), dtype=dtype)])

        return self.add_weight(
            name="bias",
            shape=(4 * units,),
            initializer=forget_ones,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )

    def _step(self, kernels, drop):
        def step(projected, states):
            h, c = states
            i, f, g, o = [x + ops.matmul(v, w) for x, v, w in zip(projected, drop(h), kernels, strict=True)]
            gate = self.recurrent_activation
            c = gate(f) * c + gate(i) * self.activation(g)
            h = gate(o) * self.activation(c)
            return h, [h, c]

        return step


class GRUCell(RecurrentCell):
    """One step of GRU. Gates z (update), r (reset) and the candidate g, in this order in the kernels:
    `h' = z * h + (1 - z) * g`.

    `reset_after=True`: `g = activation(x_g + r * (h @ R_g + b))`, with a second row of biases for h, so that
    `bias` is (2, 3 * units). `reset_after=False`: `g = activation(x_g + (r * h) @ R_g)`.

    Input: (batch, features) and the state `[h]`, (batch, units). Returns: the output h' and `[h']`.
    Source: Cho et al., 2014, https://arxiv.org/abs/1406.1078 (versions 1 and 3 differ in the reset).
    """

    gates = 3

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        reset_after=True,
        seed=None,
        **kwargs,
    ):
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self._cell_options(units, use_bias, dropout, recurrent_dropout, seed, implementation)
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = reset_after
        self._weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._weight_options("recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint)
        self._weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def _add_bias(self):
        size = 3 * self.units
        return self._add_weight("bias", (2, size) if self.reset_after else (size,))

    def _input_biases(self):
        if self.bias is None or not self.reset_after:
            return super()._input_biases()
        # The gates z and r only ever see the sum of their two biases.
        of_input, of_state = self._blocks(self.bias[0]), self._blocks(self.bias[1])
        return [of_input[0] + of_state[0], of_input[1] + of_state[1], of_input[2]]

    def _step(self, kernels, drop):
        update, reset, candidate = kernels
        after = self.reset_after
        bias = self._blocks(self.bias[1])[2] if after and self.bias is not None else None

        def step(projected, states):
            h = states[0]
            (x_z, x_r, x_g), (h_z, h_r, h_g) = projected, drop(h)
            z = self.recurrent_activation(x_z + ops.matmul(h_z, update))
            r = self.recurrent_activation(x_r + ops.matmul(h_r, reset))
            memory = ops.matmul(h_g if after else r * h_g, candidate)
            if bias is not None:
                memory = memory + bias
            g = self.activation(x_g + (r * memory if after else memory))
            h = z * h + (1 - z) * g
            return h, [h]

        return step
