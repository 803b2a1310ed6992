"""`Sequential`: a stack of layers."""

import inspect

from lamina import tree
from lamina.backend import standardize_shape
from lamina.engine.direct import edit
from lamina.engine.keras_tensor import get_keras_mask
from lamina.engine.tracebacks import boundary
from lamina.errors import ShapeError
from lamina.layers.core.input_layer import InputLayer
from lamina.layers.layer import Layer
from lamina.models.functional import Functional, is_ours
from lamina.models.model import Model
from lamina.saving.serialization import deserialize_keras_object, serialize_keras_object


class Sequential(Model):
    """Layers one after another, each with one input and one output.

        model = lamina.Sequential([
            lamina.Input((3,)),
            lamina.layers.Dense(4, activation="relu"),
            lamina.layers.Dense(1),
        ])

    The input shape may also come with the first layer (`Dense(4, input_shape=(3,))`), with
    `build(input_shape)`, or with the first data.

    Args:
        layers: list of layers.
        trainable, name: as for layers.
    """

    def __init__(self, layers=None, trainable=True, name=None):
        Layer.__init__(self, trainable=trainable, name=name)
        # `_tips`: the symbolic value before the first layer, and after each; `None` while the input shape is
        # unknown.
        self.__dict__.update(_stack=[], _tips=None, _made=None)
        if isinstance(layers, Layer):
            raise ValueError(f"`layers` should be a list: `Sequential([...])`. Received the layer {layers}")
        for layer in layers or []:
            self._push(layer)
        self._extend_graph()

    # --------------------------------------------------------------------------------------------- layers

    @boundary
    def add(self, layer, rebuild=True):
        """Puts a layer (or an `Input`) on top. If it does not fit, the model stays as it was."""
        size, was_built = len(self._stack), self.built
        self._push(layer)
        try:
            if rebuild:
                self._extend_graph()
        except BaseException:
            del self._stack[size:]
            if self._tips is not None:
                del self._tips[size:]
            self.built = was_built
            raise

    def _push(self, layer):
        stack = self._stack
        history = getattr(layer, "_keras_history", None)
        if history is not None and isinstance(history.operation, InputLayer):
            layer = history.operation
        if not isinstance(layer, Layer):
            hint = ""
            if isinstance(layer, type):
                hint = f" Make it first: `{layer.__name__}(...)`, not `{layer.__name__}`."
            elif callable(layer):
                hint = " Wrap a function: `Lambda(function)`."
            raise ValueError(
                f"Only instances of `keras.Layer` can be added to a Sequential model. Received: {layer} (of "
                f"type {type(layer)}).{hint}"
            )
        if not stack and getattr(layer, "_input_shape_arg", None) is not None:
            stack.append(InputLayer(batch_shape=layer._input_shape_arg))
        if any(other.name == layer.name and other is not layer for other in stack):
            raise ValueError(
                f"All layers added to a Sequential model should have unique names. Name '{layer.name}' is "
                "already the name of a layer in this model. Update the `name` argument to pass a unique name."
            )
        if isinstance(layer, InputLayer) and stack:
            if isinstance(stack[0], InputLayer):
                raise ValueError(
                    f"Sequential model '{self.name}' has already been configured to use input shape "
                    f"{stack[0].batch_shape}. You cannot add a different Input layer to it."
                )
            raise ValueError(f"The `Input` of Sequential model '{self.name}' must be its first layer.")
        stack.append(layer)
        self.__dict__["_edits"] += 1
        edit()
        self.reset_functions()

    @boundary
    def pop(self, rebuild=True):
        """Takes the last layer off and returns it."""
        if not self.layers:
            raise ValueError(f"Sequential model '{self.name}' has no layers to pop.")
        layer = self._stack.pop()
        self.__dict__["_edits"] += 1
        edit()
        self.reset_functions()
        self._forget(keep=len(self._stack))
        if rebuild:
            self._extend_graph()
        return layer

    @property
    def layers(self):
        """The layers, without the `InputLayer` at the bottom."""
        stack = self._stack
        return stack[1:] if stack and isinstance(stack[0], InputLayer) else stack[:]

    @layers.setter
    def layers(self, _):
        raise AttributeError(
            "`Sequential.layers` attribute is reserved and should not be used. Use `add()` and `pop()` to "
            "change the layers in this model."
        )

    @property
    def _layers(self):
        return self._stack

    # ---------------------------------------------------------------------------------------------- graph

    def _forget(self, keep):
        """Drops the symbolic values after the first `keep` entries of the stack."""
        tips = self._tips[:keep] if self._tips is not None and keep > 1 else None
        self.__dict__.update(_tips=tips, _made=None, _can_compile_calls=False)
        self.built = False

    def _extend_graph(self):
        """Calls the layers that have not been called yet, if the input shape is known."""
        stack = self._stack
        if not stack:
            return
        if not isinstance(stack[0], InputLayer):
            shape = getattr(stack[0], "input_shape", None)  # a model at the bottom says its own
            if not isinstance(shape, tuple) or not all(d is None or isinstance(d, int) for d in shape):
                return
            stack.insert(0, InputLayer(batch_shape=shape, dtype=stack[0].inputs[0].dtype))
        if len(stack) == 1:
            return
        tips = self._tips if self._tips is not None else [stack[0].output]
        with self._open_name_scope():
            for layer in stack[len(tips) :]:
                try:
                    tips.append(layer(tips[-1]))
                except NotImplementedError:
                    return  # the layer's output shape can only be found with data
                except TypeError as e:
                    raise _bad_signature(layer) or e from None
        shape = stack[0].batch_shape
        ours = all(is_ours(layer) for layer in self._flatten_layers())
        self.__dict__.update(_tips=tips, _made=None, _can_compile_calls=ours, _path=self.name)
        self.__dict__["_build_shapes_dict"] = {"input_shape": shape}
        self.built = True

    @property
    def _functional(self):
        """The stack as a functional model; `None` while the input shape is unknown."""
        if self._made is None and self._tips is not None:
            self.__dict__["_made"] = Functional(self._tips[0], self._tips[-1], name=self.name)
        return self._made

    def build(self, input_shape=None):
        """Builds the layers for an input shape with the batch axis."""
        try:
            input_shape = standardize_shape(input_shape)
        except ShapeError:
            raise
        except (TypeError, ValueError):
            return  # several inputs: the layers are built by the first call
        stack = self._stack
        if not stack:
            raise ValueError(
                f"Sequential model {self.name} cannot be built because it has no layers. Call "
                "`model.add(layer)`."
            )
        if not isinstance(stack[0], InputLayer):
            stack.insert(0, InputLayer(batch_shape=input_shape, dtype=stack[0].compute_dtype))
        elif stack[0].batch_shape != input_shape:
            raise ValueError(
                f"Sequential model '{self.name}' has already been configured to use input shape "
                f"{stack[0].batch_shape}. You cannot build it with input_shape {input_shape}"
            )
        self._extend_graph()

    def _lock_state(self):
        pass  # layers may be added after the model is built

    # -------------------------------------------------------------------------------------------- calling

    def call(self, inputs, training=None, mask=None):
        """Runs the stack."""
        if self._functional is not None:
            return self._as_functional("call", inputs, training=training, mask=mask)
        for layer in self.layers:
            options = {"mask": mask} if layer._call_has_mask_arg else {}
            if layer._call_has_training_arg and training is not None:
                options["training"] = training
            inputs = layer(inputs, **options)
            mask = tree.map_structure(get_keras_mask, inputs)
        return inputs

    def _as_functional(self, method, *args, **kwargs):
        """A method of the functional model, whose errors are this model's."""
        functional = self._functional
        functional.__dict__["strict_shapes"] = self.strict_shapes
        try:
            return getattr(functional, method)(*args, **kwargs)
        except ShapeError as e:
            e.layer = self if e.layer is functional else e.layer
            raise

    def _check_input(self, arguments):
        pass  # the functional model does

    def _check_data(self, inputs):
        if self._functional is not None and type(self).call is Sequential.call:
            self._as_functional("_check_data", inputs)

    def _infer_outputs(self, args, kwargs):
        if self._functional is not None:
            return self._as_functional("_infer_outputs", args, kwargs)
        return super()._infer_outputs(args, kwargs)

    def compute_output_spec(self, inputs, training=None, mask=None):
        """KerasTensors like the outputs for KerasTensors like the inputs."""
        if self._functional is not None:
            return self._functional.compute_output_spec(inputs)
        for layer in self.layers:
            inputs = layer.compute_output_spec(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        """The output shape for an input shape."""
        if self._functional is not None:
            return self._functional.compute_output_shape(input_shape)
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    @property
    def input_dtype(self):
        """The dtype of the input, where it is known."""
        stack = self._stack
        return stack[0].dtype if stack and isinstance(stack[0], InputLayer) else super().input_dtype

    def __getattr__(self, name):
        if name in _OF_THE_GRAPH:
            if self.__dict__.get("_tips") is not None:
                return getattr(self._functional, name)
            raise AttributeError(
                f"Sequential model '{self.name}' has no defined {_OF_THE_GRAPH[name]} yet: its input shape "
                "is unknown. Put an `Input` first, or call `build(input_shape)`."
            )
        return super().__getattr__(name)

    input = property(lambda self: self.__getattr__("input"), doc="The symbolic input.")
    output = property(lambda self: self.__getattr__("output"), doc="The symbolic output.")

    # --------------------------------------------------------------------------------------------- config

    def get_config(self):
        """The layers as a dict."""
        config = {k: v for k, v in Layer.get_config(self).items() if k in ("name", "trainable", "dtype")}
        config["layers"] = [serialize_keras_object(layer) for layer in self._stack]
        if self._tips is not None:
            config["build_input_shape"] = self._stack[0].batch_shape
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes a model from `get_config()`'s dict (lamina's or Keras's)."""
        if "name" not in config or "layers" not in config:
            raise ValueError(
                "A Sequential model configuration must be a dictionary containing the 'name' and 'layers' "
                f"keys. Received: config={config}"
            )
        model = cls(name=config["name"])
        for layer_config in config["layers"]:
            if not isinstance(layer_config, dict) or "config" not in layer_config:
                raise ValueError(f"Expected a dictionary containing a 'config' key. Received: {layer_config}")
            model._push(deserialize_keras_object(layer_config, custom_objects))
        model._extend_graph()
        shape = config.get("build_input_shape")
        if model._tips is None and isinstance(shape, (list, tuple)) and shape:
            model.build(tuple(shape))
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def __reduce_ex__(self, protocol):
        from lamina.models.cloning import reduce_model

        return reduce_model(self) if type(self) is Sequential else super().__reduce_ex__(protocol)


_OF_THE_GRAPH = {
    "input": "input",
    "output": "output",
    "inputs": "inputs",
    "outputs": "outputs",
    "input_shape": "input shape",
    "output_shape": "output shape",
    "input_names": "inputs",
    "output_names": "outputs",
}


def _bad_signature(layer):
    """Why a layer cannot be part of a stack, if its `call` is why."""
    parameters = inspect.signature(layer.call).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    if not positional:
        return ValueError(
            "Layers added to a Sequential model should have a single positional argument, the input tensor. "
            f"Layer {type(layer).__name__} has no positional arguments."
        )
    if len(required) > 1:
        return ValueError(
            "Layers added to a Sequential model can only have a single required positional argument, the "
            f"input tensor. Layer {type(layer).__name__} has multiple required positional arguments: "
            f"{required}"
        )
    return None
