"""A recurrent layer run in both directions."""

from lamina import ops
from lamina.errors import ShapeError
from lamina.layers.core.wrapper import Wrapper
from lamina.layers.layer import Layer
from lamina.layers.recurrent import situations
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object

_MODES = ("sum", "mul", "ave", "concat", None)


class Bidirectional(Wrapper):
    """Two copies of a recurrent layer: one reads the sequence forwards, the other backwards.

    Args:
        layer: the recurrent layer to copy.
        merge_mode: how the two outputs become one: "concat" (side by side, twice as many features), "sum",
            "mul", "ave"; None returns both.
        weights: initial weights of both, as a list.
        backward_layer: what reads backwards; it must have `go_backwards=True`. Default: a copy of `layer`.

    Input: (batch, time, features). Output: (batch, 2 * units), or (batch, time, 2 * units) if `layer` has
    `return_sequences=True`. With `return_state=True` the states of the forward layer follow, then the others.
    Raises: ShapeError when the input has not three axes.

    >>> layers.Bidirectional(layers.LSTM(64))(Input((10, 8))).shape
    (None, 128)
    """

    def __init__(self, layer, merge_mode="concat", weights=None, backward_layer=None, **kwargs):
        for each in (layer, backward_layer):
            if each is not None and not (isinstance(each, Layer) and hasattr(each, "go_backwards")):
                raise ValueError(f"`Bidirectional` wraps recurrent layers. Received: {each}")
        if merge_mode not in _MODES:
            raise ValueError(
                f"Invalid merge mode. Received: {merge_mode}. Merge mode should be one of "
                '"sum", "mul", "ave", "concat" and None.'
            )
        Layer.__init__(self, **kwargs)
        self.forward_layer = _copy(layer, "forward")
        self.backward_layer = (
            _copy(layer, "backward", go_backwards=True) if backward_layer is None else backward_layer
        )
        if hasattr(layer, "use_cudnn"):  # it is no part of the configuration
            self.forward_layer.use_cudnn = self.backward_layer.use_cudnn = layer.use_cudnn
        self._check_directions()
        self.merge_mode = merge_mode
        self.stateful, self.return_sequences = layer.stateful, layer.return_sequences
        self.return_state = layer.return_state
        # In reverse order, "the output of the step before" would be one of the future.
        self.forward_layer.zero_output_for_mask = self.return_sequences
        self.backward_layer.zero_output_for_mask = self.return_sequences
        if weights:
            half = len(weights) // 2
            self.forward_layer._initial_weights = weights[:half]
            self.backward_layer._initial_weights = weights[half:]
        self.supports_masking = True
        self.input_spec = layer.input_spec

    def _check_directions(self):
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                "Forward layer and backward layer should have different `go_backwards` value. Received: "
                f"{forward.go_backwards} for both."
            )
        for name in ("stateful", "return_sequences", "return_state"):
            values = getattr(forward, name), getattr(backward, name)
            if values[0] != values[1]:
                raise ValueError(
                    "Forward layer and backward layer are expected to have the same value for attribute "
                    f'"{name}", got "{values[0]}" for forward layer and "{values[1]}" for backward layer'
                )

    def _check_input(self, arguments):
        try:
            super()._check_input(arguments)
        except ShapeError as error:
            situations.explain_rank(error, self, next(iter(arguments.values())))
            raise

    def build(self, sequences_shape, initial_state_shape=None):
        try:
            for layer in (self.forward_layer, self.backward_layer):
                if not layer.built:
                    layer.build(sequences_shape)
        except ShapeError as error:
            error.layer = self  # the one that the user knows
            raise
        self.input_spec = self.forward_layer.input_spec

    def call(self, sequences, initial_state=None, mask=None, training=None):
        half = len(initial_state) // 2 if initial_state is not None else 0
        given = (initial_state[:half], initial_state[half:]) if half else (None, None)
        forward, backward = (
            layer(sequences, initial_state=own, mask=mask, training=training)
            for layer, own in zip((self.forward_layer, self.backward_layer), given, strict=True)
        )
        states = ()
        if self.return_state:
            forward, backward, states = forward[0], backward[0], (*forward[1:], *backward[1:])
        forward, backward = (ops.cast(x, self.compute_dtype) for x in (forward, backward))
        if self.return_sequences:
            backward = ops.flip(backward, axis=1)
        if self.merge_mode is None:
            return (forward, backward, *states)
        output = _merged(self.merge_mode, forward, backward)
        return (output, *states) if self.return_state else output

    def compute_mask(self, sequences, mask):
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        mask = mask if self.return_sequences else None
        outputs = [mask] if self.merge_mode else [mask, mask]
        return outputs if self.return_state or not self.merge_mode else mask

    @property
    def states(self):
        """The states of both layers, of a stateful layer that is built; else `None`."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return (*forward, *backward) if forward and backward else None

    def reset_state(self):
        """Makes both layers start with zeros again."""
        if not self.stateful:
            raise AttributeError("Layer must be stateful.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def get_config(self):
        return {
            **super().get_config(),
            "layer": serialize_keras_object(self.forward_layer),
            "backward_layer": serialize_keras_object(self.backward_layer),
        }


def _merged(mode, forward, backward):
    if mode == "concat":
        return ops.concatenate([forward, backward], axis=-1)
    if mode == "mul":
        return forward * backward
    return (forward + backward) / 2 if mode == "ave" else forward + backward


def _copy(layer, direction, **changes):
    """A new layer like this one, with a name that says its direction."""
    config = serialize_keras_object(layer)
    name = f"{direction}_{layer.name.removeprefix(direction + '_')}"
    config["config"].update(name=name, **changes)
    config.pop("build_config", None)
    return deserialize_keras_object(config)
