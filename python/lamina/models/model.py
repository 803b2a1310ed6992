"""`Model`: a layer that can be trained, summarised and written down."""

import functools
import json

from lamina import tree
from lamina.engine.direct import DirectCall
from lamina.engine.keras_tensor import KerasTensor, get_keras_mask
from lamina.engine.operation import Operation
from lamina.engine.scope import state
from lamina.engine.trace import compile_function, infer
from lamina.engine.tracebacks import boundary, shorten, warn
from lamina.errors import ShapeError
from lamina.layers.call import is_array
from lamina.layers.layer import Layer, default, is_default
from lamina.saving.serialization import deserialize_keras_object, nested_tuples, serialize_keras_object
from lamina.trainers.trainer import Trainer

# Methods of Keras's first versions, and what does their work.
_REPLACED = {
    "fit_generator": "`fit(generator, ...)`",
    "evaluate_generator": "`evaluate(generator, ...)`",
    "predict_generator": "`predict(generator, ...)`",
    "predict_classes": "`predict(x).argmax(-1)`",
    "predict_proba": "`predict(x)`",
}


class Model(Trainer, Layer, DirectCall):
    """Layers as one thing with `fit`, `evaluate`, `predict`, `summary` and `save_weights`.

    From inputs and outputs (a functional model):

        inputs = lamina.Input((3,))
        x = lamina.layers.Dense(4, activation="relu")(inputs)
        model = lamina.Model(inputs, lamina.layers.Dense(1)(x))

    Any structure of inputs and outputs will do, and tensors inside another model too:
    `Model(model.input, x)`.

    As a subclass, with layers made in `__init__` and used in `call`:

        class Net(lamina.Model):
            def __init__(self):
                super().__init__()
                self.dense = lamina.layers.Dense(4)

            def call(self, inputs, training=None):
                return self.dense(inputs)
    """

    _kind = "Model"

    def __new__(cls, *args, **kwargs):
        if cls is Model and _is_functional(args, kwargs):
            from lamina.models.functional import Functional

            return Functional.__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError as e:
            if name not in _REPLACED or "forgot" in str(e):
                raise
            raise AttributeError(
                f"'{type(self).__name__}' object has no attribute '{name}'. Use {_REPLACED[name]}.",
                name=name,
                obj=self,
            ) from None

    def __init__(self, *args, **kwargs):
        if _is_functional(args, kwargs):
            # A subclass that gives `super().__init__` inputs and outputs is a functional model.
            from lamina.models.functional import Functional

            _make_functional(type(self))
            Functional.__init__(self, *args, **kwargs)
        else:
            Layer.__init__(self, *args, **kwargs)

    # -------------------------------------------------------------------------------------------- calling

    # Raise on data that needs an axis added or dropped, where the default is to do it and say so once.
    strict_shapes = False

    # Set by models made of lamina's own layers: a trace loses no side effect of their calls.
    _can_compile_calls = False

    # `model(array)` goes to the engine at once where it can, everything else to `_full_call`.
    __call__ = DirectCall.__call__

    def _full_call(self, *args, **kwargs):
        try:
            if self._can_compile_calls and self.built and not (state.call or state.eager or self.run_eagerly):
                outputs = self._compiled_call(args, kwargs)
                if outputs is not NotImplemented:
                    return outputs
            return super().__call__(*args, **kwargs)
        except Exception as e:
            shorten(e)
            raise

    def _compiled_call(self, args, kwargs):
        """A call as one function of the engine; `NotImplemented` where it must run op by op."""
        training = kwargs.get("training")
        if (
            len(args) != 1
            or not kwargs.keys() <= {"training"}
            or state.tapes
            or state.redirect
            or state.stateless
        ):
            return NotImplemented
        if training is not None and not isinstance(training, bool):
            return NotImplemented
        if not (all(map(is_array, tree.flatten(args[0]))) if tree.is_nested(args[0]) else is_array(args[0])):
            return NotImplemented
        layers = self.__dict__.get("_flat_layers")
        edits = sum([layer._edits for layer in layers]) if layers else -1
        if edits != self.__dict__.get("_traced_edits"):
            # Something was set on a layer (`trainable`, an activation, ...) since the traces were made.
            layers = self._flatten_layers()
            self.__dict__.update(
                _flat_layers=layers, _traced_edits=sum([layer._edits for layer in layers]), _call_functions={}
            )
        function = self._call_functions.get(training)
        if function is None:
            fixed = all(x.shape and x.shape[0] is not None for x in self.inputs)
            function = compile_function(functools.partial(_traced_call, self, training), static_batch=fixed)
            self._call_functions[training] = function
        try:
            outputs, masks, losses = function(args[0])
        except (ShapeError, IndexError):
            return NotImplemented  # layer by layer, the call says the same with the actual batch size
        if masks is not None:
            for x, mask in zip(tree.flatten(outputs), masks, strict=True):
                if mask is not None:
                    x._keras_mask = mask
        for layer in layers:
            if layer._losses:
                layer._losses.clear()
        self._losses.extend(losses)
        if masks is None and not losses and training is None and not tree.is_nested(outputs):
            entry = function.only_function()
            if entry is not None:
                self._call_directly(entry)
        return outputs

    # ------------------------------------------------------------------------------------------- building

    @default
    def build(self, input_shape):
        """Builds the model for an input shape (with the batch axis), or a nested structure of them."""
        if self.built:
            return
        if type(self).call is Operation.call:
            raise NotImplementedError(
                f"Model {type(self).__name__} does not have a `call()` method implemented, so it cannot be "
                "built."
            )
        specs = tree.map_shape_structure(lambda s: KerasTensor(tuple(s), self.input_dtype), input_shape)
        self._build_by_call(specs)

    def _build_by_call(self, inputs):
        was_built, self.built = self.built, True  # the call must not come back here
        try:
            infer(lambda x: self._run((x,), {}), (inputs,))
        except BaseException:
            self.built = was_built
            raise

    def build_from_config(self, config):
        """Builds the model with the shapes of `get_build_config`'s dict."""
        if not config or self.built:
            return
        config = nested_tuples(config)
        try:
            if "input_shape" in config:
                self.build(config["input_shape"])
            elif "shapes_dict" in config:
                if is_default(self.build):
                    shapes = {k.removesuffix("_shape"): v for k, v in config["shapes_dict"].items()}
                    specs = {k: KerasTensor(v, self.input_dtype) for k, v in shapes.items()}
                    self.symbolic_call(**specs)
                else:
                    self.build(**config["shapes_dict"])
        except (NotImplementedError, TypeError, ValueError) as e:
            warn(
                f"Model '{self.name}' had a build config, but the model cannot be built automatically in "
                "`build_from_config(config)`. You should implement `def build_from_config(self, config)`, "
                "and you might also want to implement the method that generates the config at saving time, "
                f"`def get_build_config(self)`. The error was: {e}",
            )

    # --------------------------------------------------------------------------------------------- layers

    @property
    def layers(self):
        """The layers of the model, not those inside other layers."""
        return self._flatten_layers(include_self=False, recursive=False)

    @layers.setter
    def layers(self, _):
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    @boundary
    def get_layer(self, name=None, index=None):
        """The layer of that name or index. Raises `ValueError` when there is none."""
        from lamina.errors import did_you_mean

        if index is not None and name is not None:
            raise ValueError(
                f"Provide only a layer name or a layer index. Received: index={index}, name={name}."
            )
        layers = self.layers
        if index is not None:
            if len(layers) <= index:
                raise ValueError(
                    f"Was asked to retrieve layer at index {index} but model only has {len(layers)} layers."
                )
            return layers[index]
        if name is None:
            raise ValueError("Provide either a layer name or layer index at `get_layer`.")
        names = [layer.name for layer in layers]
        if name not in names:
            raise ValueError(
                f"No such layer: {name}. Existing layers are: {names}.{did_you_mean(name, names)}"
            )
        return layers[names.index(name)]

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
        *,
        formulas=False,
        flops=False,
        memory=False,
        batch_size=1,
    ):
        """Prints a table of the layers: output shapes and parameter counts. In a notebook, shows it.

        Args:
            line_length: width in characters; default: the terminal's, at most 88 (108 with connections).
            positions: where columns end, as fractions of the width.
            print_fn: called with the whole text in place of printing.
            expand_nested: show the layers of nested models too.
            show_trainable: add a column that says whether a layer trains.
            layer_range: names (or patterns) of the first and the last layer to show.
            formulas: add how each layer's number of weights comes about: `784*512 + 512`.
            flops: add the floating-point operations of each layer alone (a multiplication and an addition
                are two), and those of the whole model as planned: batch norms folded, activations fused.
            memory: add the bytes of each layer's outputs, and those of all intermediate values that live
                at once as planned.
            batch_size: at which FLOPs and memory are counted.
        """
        from lamina.models.summary import print_summary

        print_summary(
            self,
            line_length,
            positions,
            print_fn,
            expand_nested,
            show_trainable,
            layer_range,
            formulas,
            flops,
            memory,
            batch_size,
        )

    def explain(self, input_shape=None, expand_nested=True):
        """Where every shape and every weight of the model comes from, in sentences: an object to print.

        Args:
            input_shape: without the batch axis, for a model that is not built (it stays so).
            expand_nested: go into models inside the model.

        Raises `ValueError` when the input shape is not known.
        """
        from lamina.explain import explain_model

        return explain_model(self, input_shape, expand_nested)

    def _repr_html_(self):
        # What a notebook shows: the graph of layers. Without one (or unbuilt), it falls back to `repr`.
        from lamina.models.tracing import graph_of
        from lamina.plot import plot_model

        if not self.built or graph_of(self) is None:
            return None
        return plot_model(self, to_file=None)._repr_html_()

    # --------------------------------------------------------------------------------- weights and config

    @boundary
    def save_weights(self, filepath, overwrite=True):
        """Writes all weights (and the state of a compiled model's optimizer) to a file.

        See `lamina.saving.save_weights`.
        """
        from lamina.saving.weights import save_weights

        save_weights(self, filepath, overwrite=overwrite)

    @boundary
    def load_weights(self, filepath, skip_mismatch=False):
        """Reads the weights from a file of `save_weights`; see `lamina.saving.load_weights`."""
        from lamina.saving.weights import load_weights

        load_weights(self, filepath, skip_mismatch=skip_mismatch)

    def get_state_tree(self, value_format="backend_tensor"):
        """All variables as nested dicts by path, for each of trainable, non-trainable, optimizer and metrics.

        Args:
            value_format: `"backend_tensor"` or `"numpy_array"`.
        """
        from lamina.models.state_tree import get_state_tree

        return get_state_tree(self, value_format)

    def set_state_tree(self, state_tree):
        """Assigns the values of `get_state_tree`."""
        from lamina.models.state_tree import set_state_tree

        set_state_tree(self, state_tree)

    def to_json(self, **kwargs):
        """The model's configuration as JSON; `kwargs` go to `json.dumps`."""
        return json.dumps(serialize_keras_object(self), **kwargs)

    @classmethod
    @boundary
    def from_config(cls, config, custom_objects=None):
        """Makes a model from `get_config()`'s dict (lamina's or Keras's)."""
        from lamina.models.functional import has_functional_constructor
        from lamina.models.functional_config import functional_from_config

        if has_functional_constructor(cls) and all(
            k in config for k in ("name", "layers", "input_layers", "output_layers")
        ):
            return functional_from_config(cls, config, custom_objects)
        try:
            return cls(**config)
        except TypeError as e:
            raise TypeError(
                "Unable to revive model from config. When overriding the `get_config()` method, make sure "
                "that the returned config contains all items used as arguments in the  constructor to "
                f"{cls}, which is the default behavior. You can override this default behavior by defining a "
                "`from_config(cls, config)` class method to specify how to create an instance of "
                f"{cls.__name__} from its config.\n"
                "\n"
                f"Received config={config}\n"
                "\n"
                f"Error encountered during deserialization: {e}"
            ) from e

    def __getstate__(self):
        # Compiled functions belong to this process; they are made again when needed.
        made = (
            "_call_functions",
            "_flat_layers",
            "_traced_edits",
            "_short_predict",
            "_short_steps",
            "_fresh_steps",
            "train_function",
            "test_function",
            "predict_function",
        )
        return {k: v for k, v in super().__getstate__().items() if k not in made}


def _traced_call(model, training, inputs):
    outputs = Layer.__call__(model, inputs, training=training)
    losses = [x for layer in model._flatten_layers() for x in layer._losses]
    masks = [get_keras_mask(x) for x in tree.flatten(outputs)]
    return outputs, masks if any(m is not None for m in masks) else None, losses


def _is_functional(args, kwargs):
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def _make_functional(cls):
    """Puts `Functional` in place of `Model` among the bases of a subclass, once."""
    from lamina.models.functional import Functional

    if cls is Model or not issubclass(cls, Model) or issubclass(cls, Functional):
        return
    for base in cls.__bases__:
        _make_functional(base)
    cls.__bases__ = tuple(Functional if base is Model else base for base in cls.__bases__)


def model_from_json(json_string, custom_objects=None):
    """The model that a JSON text (`to_json`) describes, with new weights."""
    return deserialize_keras_object(json.loads(json_string), custom_objects)
