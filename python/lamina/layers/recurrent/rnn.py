"""`RNN`: a cell applied along the time axis."""

from lamina import ops, tree
from lamina.engine.scope import name_scope, state
from lamina.engine.trace import ConcreteShapeNeeded, infer
from lamina.engine.variable import Variable
from lamina.errors import ShapeError
from lamina.layers.arguments import known_axis
from lamina.layers.input_spec import InputSpec
from lamina.layers.layer import Layer
from lamina.layers.recurrent import situations
from lamina.layers.recurrent.cells import RecurrentCell, one_sequence
from lamina.layers.recurrent.stacked import (
    StackedRNNCells,
    call_cell,
    check_cell,
    initial_state,
    is_plain,
    leaves,
    output_size,
    sizes_of,
    starts_with_zeros,
)
from lamina.layers.recurrent.steps import over_time, time_blocks, time_rows
from lamina.saving.serialization import deserialize_keras_object


class RNN(Layer):
    """Apply `cell` to the steps of a sequence, one after the other; each step gets the states of the last.

    Args:
        cell: an object with `call(inputs, states)` that returns `(output, new states)` and a `state_size` (an
            int, or one per state); a list of cells becomes a `StackedRNNCells`.
        return_sequences: return the output of every step, (batch, time, units), not only of the last.
        return_state: return the last states too: `(output, *states)`.
        go_backwards: start at the last step; the outputs come in that order.
        stateful: start with the states that the last batch ended with, until `reset_state()`. The batch size
            must be known.
        unroll: accepted; the loop is always unrolled, once per number of steps.
        zero_output_for_mask: a masked step puts out zeros, not the output of the step before.

    Call: `layer(sequences, initial_state=None, mask=None, training=False)`. Steps where the mask
    (batch, time) is False leave the states as they are.

    Input: (batch, time, features), float. Output: (batch, units), or (batch, time, units).
    Raises: ShapeError when an axis is missing, when a stateful layer cannot know its batch size, and when
    `initial_state` does not fit.
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        check_cell(cell, "Argument `cell` should")
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        # A cell of one's own may take more than one axis per step.
        self._takes_rows = all(isinstance(c, RecurrentCell) for c in leaves(cell))
        self.input_spec = InputSpec(ndim=3) if self._takes_rows else InputSpec(min_ndim=3)
        # States are no weights: written past `__setattr__`, which would count them among these.
        self.__dict__["states"] = None

    @property
    def state_size(self):
        """The sizes of the states, as a list."""
        return sizes_of(self.cell)

    def _check_input(self, arguments):
        try:
            super()._check_input(arguments)
        except ShapeError as error:
            situations.explain_rank(error, self, next(iter(arguments.values())))
            raise

    def build(self, sequences_shape, initial_state_shape=None):
        if self.stateful and sequences_shape[0] is None:
            raise situations.no_batch_size(self, sequences_shape)
        if self._takes_rows:
            features = known_axis(sequences_shape, -1, self, "features")
            self.input_spec = InputSpec(ndim=3, axes={-1: features})
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
        if self.stateful:
            with name_scope(self.name, caller=self):
                self.__dict__["states"] = tree.map_structure(
                    lambda value: Variable(
                        value, trainable=False, dtype=self.variable_dtype, name="rnn_state"
                    ),
                    self.get_initial_state(sequences_shape[0]),
                )

    def call(self, sequences, initial_state=None, mask=None, training=False):
        length = sequences.shape[1]
        if length == 0:
            raise situations.no_steps(self, sequences.shape)
        if self.unroll and length is None:
            raise situations.unknown_unroll(self, sequences.shape)
        states = self._first_states(sequences, initial_state)
        with one_sequence():
            last, outputs, states = self.inner_loop(sequences, states, mask, training)
        output, states = tree.map_structure(
            lambda x: ops.cast(x, self.compute_dtype), (outputs if self.return_sequences else last, states)
        )
        if self.stateful:
            for variable, value in zip(tree.flatten(self.states), tree.flatten(states), strict=True):
                variable.assign(value)
        return (output, *states) if self.return_state else output

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """The steps: (last output, all outputs or `None`, last states)."""
        project, step = self._halves(training)
        x = self._in_reading_order(sequences)
        if state.shapes_only:  # all steps have the shapes of the first
            output, states = step(project(x[0]), initial_state)
            return output, over_time(output, sequences), states
        keep = self._keep(mask)
        outputs, states = [], initial_state
        for i, row in enumerate(_projected(x, project, training)):
            output, new_states = step(row, states)
            if keep:
                before = outputs[-1] if outputs else self._output_before(states, output)
                instead = ops.zeros_like(output) if self.zero_output_for_mask else before
                output = _where(keep[i], output, instead)
                new_states = tree.map_structure(
                    lambda new, old, k=keep[i]: _where(k, new, old), new_states, states
                )
            outputs.append(output)
            states = new_states
        return outputs[-1], ops.stack(outputs, axis=1) if self.return_sequences else None, states

    def _in_reading_order(self, x):
        """(batch, time, ...) as (time, batch, ...), the step that is read first in front."""
        x = ops.swapaxes(x, 0, 1)
        return ops.flip(x, 0) if self.go_backwards else x

    def _halves(self, training):
        """(project, step) as of a `RecurrentCell`."""
        if is_plain(self.cell, self.compute_dtype):
            return self.cell.begin(training)

        def step(inputs, states):
            output, after = call_cell(self.cell, inputs, states, training)
            return output, list(after) if tree.is_nested(after) else [after]

        return lambda x: x, step

    def _keep(self, mask):
        """For each step, which samples take part, (batch, 1); `None` without a mask."""
        if mask is None:
            return None
        mask = ops.cast(tree.flatten(mask)[0], "bool")
        return time_rows(ops.expand_dims(self._in_reading_order(mask), -1))

    def _output_before(self, states, output):
        """What a masked first step puts out: the state, where outputs are states, else zeros."""
        first = states[-1] if tree.is_nested(states[0]) else states
        same = tuple(first[0].shape[1:]) == tuple(output.shape[1:])
        return first[0] if same else ops.zeros_like(output)

    def _first_states(self, sequences, given):
        batch = sequences.shape[0]
        if self.stateful:
            if batch is None:
                raise ConcreteShapeNeeded(f"stateful layer '{self.name}': the batch size")
            expected = tree.flatten(self.states)[0].shape[0]
            if batch != expected:
                raise situations.other_batch_size(self, expected, sequences.shape)
        if given is not None:
            states = list(given) if tree.is_nested(given) else [given]
            self._check_states(states, batch)
        elif self.stateful:
            states = self.states
        elif batch is None and not starts_with_zeros(self.cell):
            raise ConcreteShapeNeeded(f"the first states of '{self.name}': the batch size")
        elif batch is None:
            states = tree.map_structure(
                lambda x: _like_batch(x, sequences), self.get_initial_state(batch_size=1)
            )
        else:
            states = self.get_initial_state(batch_size=batch)
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        return tree.map_structure(lambda x: ops.convert_to_tensor(x, dtype=dtype), list(states))

    def _check_states(self, states, batch):
        flat, sizes = tree.flatten(states), tree.flatten(self.state_size)
        fits = all(
            x.shape[-1] in (None, n) and (batch == x.shape[0] or None in (batch, x.shape[0]))
            for x, n in zip(flat, sizes, strict=False)
        )
        if len(flat) != len(sizes) or not fits:
            raise situations.wrong_states(self, sizes, flat, batch)

    def get_initial_state(self, batch_size):
        """The states that a batch of this size starts with, as a list."""
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        return initial_state(self.cell, batch_size, dtype)

    def reset_state(self):
        """Makes a stateful layer start with zeros again."""
        for variable in tree.flatten(self.states) if self.states is not None else ():
            variable.assign(ops.zeros(variable.shape, dtype=variable.dtype))

    reset_states = reset_state

    def _infer_outputs(self, args, kwargs):
        # Not the shape rule below: a call that cannot run must say so now.
        return infer(lambda *a, **k: self._run(a, k), args, kwargs)

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, length = sequences_shape[:2]
        size = output_size(self.cell)
        output = (batch, length, size) if self.return_sequences else (batch, size)
        if not self.return_state:
            return output
        return (output, *tree.map_structure(lambda n: (batch, n), self.state_size))

    def compute_mask(self, sequences, mask):
        mask = tree.flatten(mask)[0]
        output_mask = mask if self.return_sequences else None
        return [output_mask, *[None] * len(self.state_size)] if self.return_state else output_mask

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if "cell" in config:
            cell = deserialize_keras_object(config["cell"], custom_objects=custom_objects)
            config = {**config, "cell": cell}
        return super().from_config(config)


def _projected(x, project, training):
    """The projected inputs of the steps, each made where it is needed, so that few live at a time."""
    if training:
        # Gradients are put together from those of the steps: cheaper before the projection than after it.
        yield from map(project, time_rows(x))
    else:
        for block in time_blocks(x):
            yield from time_rows(project(block))


def _where(keep, new, old):
    """`new` for the samples that take part, else `old`."""
    while len(keep.shape) < len(new.shape):
        keep = ops.expand_dims(keep, -1)
    return ops.where(keep, new, old)


def _like_batch(value, sequences):
    """A state of one sample, for each sample of a batch whose size is unknown."""
    one_each = ops.zeros_like(sequences[(slice(None), *[0] * (len(sequences.shape) - 1))])
    return value + ops.cast(ops.reshape(one_each, (-1,) + (1,) * (len(value.shape) - 1)), value.dtype)
