"""The variables, sublayers and metrics of a layer: how they are found, listed, read and written."""

import math

import numpy as np

from lamina.engine.direct import edit
from lamina.engine.scope import StatelessScope

_UNTRACKED = {
    "_inbound_nodes",
    "_outbound_nodes",
    "_losses",
    "_init_arguments",
    "_tracker",
    "_initial_weights",
}


def unique(items):
    """The items without repetitions (by identity), in order."""
    return list({id(x): x for x in items}.values())


class LayerState:
    """The part of `Layer` that keeps its books.

    Assigning a variable or a layer to an attribute makes it part of the layer.
    """

    def __setattr__(self, name, value):
        if name not in _UNTRACKED:
            value = self._tracker.track(value)
        if name[0] != "_":
            self.__dict__["_edits"] += 1
            edit()
        super().__setattr__(name, value)

    def __delattr__(self, name):
        value = self.__dict__.get(name)
        super().__delattr__(name)
        self._tracker.untrack(value)

    def _track_variable(self, variable):
        self._tracker.add(
            "trainable_variables" if variable.trainable else "non_trainable_variables", variable
        )
        if not self.trainable:
            variable.trainable = False

    def _untrack_variable(self, variable):
        self._tracker.untrack(variable)

    @property
    def _own_variables(self):
        return self._trainable_variables + self._non_trainable_variables

    @property
    def _trainable_variables(self):
        return self._tracker.stores["trainable_variables"]

    @property
    def _non_trainable_variables(self):
        return self._tracker.stores["non_trainable_variables"]

    @property
    def _layers(self):
        return self._tracker.stores["layers"]

    @property
    def _metrics(self):
        return self._tracker.stores["metrics"]

    @property
    def _seed_generators(self):
        return self._tracker.stores["seed_generators"]

    def _flatten_layers(self, include_self=True, recursive=True):
        """This layer and those inside, each once."""
        found = {id(self): self}

        def visit(layer):
            for sublayer in layer._layers:
                if id(sublayer) not in found:
                    found[id(sublayer)] = sublayer
                    if recursive:
                        visit(sublayer)

        visit(self)
        return list(found.values()) if include_self else list(found.values())[1:]

    # -------------------------------------------------------------------------------------------- listing

    @property
    def trainable(self):
        """Whether training changes the weights of this layer and of those inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        self._trainable = bool(value)
        for v in self._trainable_variables:
            v.trainable = self._trainable
        for layer in self._layers:
            layer.trainable = self._trainable

    @property
    def variables(self):
        """All state: weights and the seeds of random layers; not that of metrics."""
        own = self._own_variables + [g.state for g in self._seed_generators]
        return unique(own + [v for layer in self._layers for v in layer.variables])

    @property
    def weights(self):
        """The variables of this layer and of those inside: trainable ones first in each layer.

        No seeds, no metrics.
        """
        return unique(self._own_variables + [w for layer in self._layers for w in layer.weights])

    @property
    def trainable_variables(self):
        """The variables that training changes."""
        return [v for v in self.variables if v.trainable] if self.trainable else []

    @property
    def non_trainable_variables(self):
        """The variables that training leaves to the layer itself, seeds included."""
        return [v for v in self.variables if not v.trainable] if self.trainable else self.variables

    @property
    def trainable_weights(self):
        """The weights that training changes."""
        return [w for w in self.weights if w.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self):
        """The weights that training leaves to the layer itself."""
        return [w for w in self.weights if not w.trainable] if self.trainable else self.weights

    @property
    def metrics(self):
        """The metrics of this layer and of those inside."""
        return list(self._metrics) + [m for layer in self._layers for m in layer.metrics]

    @property
    def metrics_variables(self):
        """The variables of `metrics`."""
        return [v for m in self.metrics for v in m.variables]

    def count_params(self):
        """How many numbers the weights hold. Raises `ValueError` before the layer is built."""
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on layer '{self.name}', but the layer isn't built: its "
                "input shape is unknown. You can build it manually via: `layer.build(input_shape)`."
            )
        return sum(math.prod(w.shape) for w in self.weights)

    # ----------------------------------------------------------------------------------- reading, writing

    def get_weights(self):
        """The values of `weights` as numpy arrays."""
        return [w.numpy() for w in self.weights]

    def set_weights(self, weights):
        """Sets `weights` from arrays in the same order.

        Raises `ValueError` if a count or shape differs; nothing changes then.
        """
        own = self.weights
        weights = list(weights)
        if len(own) != len(weights):
            unbuilt = "" if self.built else " The layer is not built: its input shape is unknown."
            raise ValueError(
                f"You called `set_weights(weights)` on layer '{self.name}' with a weight list of length "
                f"{len(weights)}, but the layer was expecting {len(own)} weights.{unbuilt}"
            )
        for variable, value in zip(own, weights, strict=True):
            if tuple(variable.shape) != tuple(np.shape(value)):
                raise ValueError(
                    f"Layer {self.name} weight shape {variable.shape} is not compatible with provided weight "
                    f"shape {tuple(np.shape(value))} (`{variable.path}`)."
                )
        for variable, value in zip(own, weights, strict=True):
            variable.assign(value)

    def save_own_variables(self, store):
        """Writes the variables of this layer alone into a dict-like `store`."""
        for i, v in enumerate(self._own_variables):
            store[f"{i}"] = v.numpy()

    def load_own_variables(self, store):
        """Reads the variables of this layer alone from a dict-like `store`."""
        own = self._own_variables
        if len(store.keys()) != len(own):
            why = (
                f"Layer '{self.name}' was never built and thus it doesn't have any variables. However the "
                f"weights file lists {len(store.keys())} variables for this layer. Build it first: call the "
                "model on data or `build(input_shape)`."
                if not own and not self.built
                else f"Layer '{self.name}' expected {len(own)} variables, "
                f"but received {len(store.keys())} variables during loading. Expected: "
                f"{[v.name for v in own]}"
            )
            raise ValueError(why)
        for i, v in enumerate(own):
            v.assign(store[f"{i}"])

    def stateless_call(
        self, trainable_variables, non_trainable_variables, *args, return_losses=False, **kwargs
    ):
        """A call in which the variables have the given values and nothing is changed.

        Returns: `(outputs, non_trainable_variables)`, with the losses as third element if `return_losses`.
        """
        if not self.built:
            raise ValueError(
                f"To call stateless_call, {type(self).__name__} must be built (i.e. its variables must have "
                "been already created). You can build it by calling it on some data."
            )
        mapping = []
        for name, values in (
            ("trainable_variables", trainable_variables),
            ("non_trainable_variables", non_trainable_variables),
        ):
            own = getattr(self, name)
            if len(values) != len(own):
                raise ValueError(
                    f"Argument `{name}` must be a list of tensors corresponding 1:1 to "
                    f"{type(self).__name__}().{name}. Received list with length {len(values)}, but expected "
                    f"{len(own)} variables."
                )
            mapping += zip(own, values, strict=True)
        with StatelessScope(mapping, collect_losses=return_losses) as scope:
            outputs = self.call(*args, **kwargs)
            losses = self.losses if return_losses else None
        updated = [scope.get_current_value(v) for v in self.non_trainable_variables]
        return (outputs, updated, losses) if return_losses else (outputs, updated)
