"""Several cells, one on top of the other, as one cell."""

from lamina import ops, tree
from lamina.layers.layer import Layer
from lamina.layers.recurrent.cells import RecurrentCell
from lamina.saving.serialization import deserialize_keras_object


class StackedRNNCells(Layer):
    """Each cell takes the output of the one before it; the last one's is that of the stack.

    Args:
        cells: cells, or other objects with `call(inputs, states)` and `state_size`.

    States: a list with those of each cell.

    >>> layers.RNN([layers.LSTMCell(64), layers.LSTMCell(32)])(Input((10, 8))).shape
    (None, 32)
    """

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(cell, "All cells must")
        self.cells = cells

    @property
    def state_size(self):
        """The sizes of the states of each cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self):
        """How many values come out per step."""
        return output_size(self.cells[-1])

    def build(self, input_shape):
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def call(self, inputs, states, training=False):
        new_states = []
        for cell, own in zip(self.cells, states, strict=True):
            listed = tree.is_nested(own)
            inputs, after = call_cell(cell, inputs, list(own) if listed else [own], training)
            new_states.append(after if listed or not tree.is_nested(after) else after[0])
        return inputs, new_states

    def begin(self, training):
        """As that of a `RecurrentCell`, for a stack of them."""
        halves = [cell.begin(training) for cell in self.cells]

        def step(projected, states):
            output, new_states = None, []
            for (project, advance), own in zip(halves, states, strict=True):
                seen = project(output) if new_states else projected
                listed = tree.is_nested(own)
                output, after = advance(seen, own if listed else [own])
                new_states.append(after if listed else after[0])
            return output, new_states

        return halves[0][0], step

    def get_initial_state(self, batch_size=None):
        """Zeros, or what each cell starts with."""
        states = [initial_state(cell, batch_size, self.compute_dtype) for cell in self.cells]
        # As in Keras, one state that is not said to be a list is none.
        single = [isinstance(c.state_size, int) and not hasattr(c, "get_initial_state") for c in self.cells]
        return [own[0] if alone else own for own, alone in zip(states, single, strict=True)]

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        cells = [deserialize_keras_object(c, custom_objects=custom_objects) for c in config.pop("cells")]
        return super().from_config({"cells": cells, **config})


def check_cell(cell, who):
    """Raises `ValueError` unless `cell` has what a recurrent layer asks of a cell."""
    if not hasattr(cell, "call"):
        raise ValueError(f"{who} have a `call` method. Received: cell={cell}")
    if not isinstance(getattr(cell, "state_size", None), (int, list, tuple)):
        raise ValueError(
            f"{who} have a `state_size` attribute (an integer, or a list of integers, one per state). "
            f"Received: cell={cell}"
        )


def call_cell(cell, inputs, states, training):
    """One step of any cell."""
    takes_training = isinstance(cell, Layer) and cell._call_has_training_arg
    kwargs = {"training": training} if takes_training else {}
    return cell(inputs, states, **kwargs) if callable(cell) else cell.call(inputs, states, **kwargs)


def sizes_of(cell):
    """The sizes of the states of a cell, as a list."""
    size = cell.state_size
    return list(size) if isinstance(size, (list, tuple)) else [size]


def output_size(cell):
    """How many values a cell puts out."""
    size = getattr(cell, "output_size", None)
    return sizes_of(cell)[0] if size is None else size


def initial_state(cell, batch_size, dtype):
    """The states that a cell starts with, as a list."""
    own = getattr(cell, "get_initial_state", None)
    if own is None:
        return [ops.zeros((batch_size, size), dtype=dtype) for size in sizes_of(cell)]
    states = own(batch_size=batch_size)
    return list(states) if tree.is_nested(states) else [states]


def leaves(cell):
    """The cells in a cell."""
    return [c for inner in cell.cells for c in leaves(inner)] if isinstance(cell, StackedRNNCells) else [cell]


def starts_with_zeros(cell):
    """Whether each sample starts with zeros, whatever the batch."""
    return all(isinstance(c, RecurrentCell) or not hasattr(c, "get_initial_state") for c in leaves(cell))


def is_plain(cell, dtype):
    """Whether `begin` does all that a call of the cell in `dtype` would do."""
    if isinstance(cell, StackedRNNCells):
        same = type(cell).call is StackedRNNCells.call and all(is_plain(c, dtype) for c in cell.cells)
    else:
        same = isinstance(cell, RecurrentCell) and type(cell).call is RecurrentCell.call
    return same and cell.activity_regularizer is None and cell.compute_dtype == dtype
