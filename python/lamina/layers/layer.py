"""`Layer`: a computation with weights.

Here: making, building and describing it; `calling` and `state` hold the rest.
"""

import functools
import inspect

from lamina import constraints, dtype_policies, initializers, regularizers
from lamina.backend import standardize_dtype, standardize_shape
from lamina.engine import scope
from lamina.engine.operation import Operation
from lamina.engine.tracebacks import boundary, warn
from lamina.engine.tracking import Tracker
from lamina.engine.variable import Variable
from lamina.errors import ShapeError
from lamina.layers import call as calls
from lamina.layers.call import default, is_default
from lamina.layers.calling import LayerCall, forgot_super
from lamina.layers.configuration import layer_config, legacy_arguments
from lamina.layers.input_spec import assert_input_compatibility
from lamina.layers.state import LayerState

_LOCKED = (
    "You cannot add new elements of state (variables or sub-layers) to a layer that is already built. All "
    "state must be created in the `__init__()` method or in the `build()` method."
)


class Layer(LayerCall, LayerState, Operation):
    """What all layers inherit from.

    A subclass makes its weights in `build(input_shape)` with `add_weight` and computes in `call(inputs, ...)`
    with `lamina.ops`. The output shape follows from `call`.

        class Scale(lamina.layers.Layer):
            def build(self, input_shape):
                self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

            def call(self, inputs):
                return inputs * self.gain

    `call` may take `training` (whether a model trains) and `mask` (of its first argument); both are filled
    in.

    Args:
        activity_regularizer: a penalty on the outputs, added to `losses`.
        trainable: whether training changes the weights.
        dtype: a dtype or a `DTypePolicy`; default: the global policy.
        autocast: cast float inputs to the layer's compute dtype.
        name: made up when not given.

    The legacy arguments `input_shape`, `input_dim`, `batch_input_shape`, `batch_size` and `weights` are
    understood.
    """

    _kind = "Layer"
    # Arguments of `__init__` that are not part of the configuration.
    _config_exclude = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = boundary(cls.__init__)
        if "build" in cls.__dict__:
            cls.build = _wrapped_build(cls.__dict__["build"])
        cls._call_info = calls.call_info(cls.call)

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        # Written past `__setattr__`: these are the layer's own books.
        self.__dict__.update(
            _tracker=Tracker(),
            _built=False,
            _building=False,
            _losses=[],
            _path=None,
            _initialized=False,
            _build_shapes_dict=None,
            _edits=0,  # how often a public attribute was set: traces made before the last time are stale
        )
        return self

    def __init__(
        self, *, activity_regularizer=None, trainable=True, dtype=None, autocast=True, name=None, **kwargs
    ):
        Operation.__init__(self, name=name)
        self._initialized = True
        if not isinstance(trainable, bool):
            raise ValueError(
                f"Expected `trainable` to be a boolean. Received: trainable={trainable} (of type "
                f"{type(trainable)})"
            )
        self._input_shape_arg, self._initial_weights = legacy_arguments(self, kwargs)
        self._dtype_policy = dtype_policies.get(dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.autocast = autocast
        self._trainable = trainable
        self._input_spec = None
        self._supports_masking = not is_default(self.compute_mask)
        # Whether arguments of a call are converted and cast; a Functional model does it itself.
        self._convert_input_args = True
        self._allow_non_tensor_positional_args = False
        self.supports_jit = True

    # ----------------------------------------------------------------------------------------- properties

    @property
    def built(self):
        """Whether the weights exist."""
        return self._built

    @built.setter
    def built(self, value):
        self.__dict__["_built"] = bool(value)

    @property
    def path(self):
        """The names of the layers around it and its own, joined by `/`; `None` until it is built."""
        return self._path

    @property
    def input_spec(self):
        """What the first argument must look like: an `InputSpec`, several, or `None`."""
        return self._input_spec

    @input_spec.setter
    def input_spec(self, value):
        self._input_spec = value

    @property
    def supports_masking(self):
        """Whether a mask passes through this layer."""
        return self._supports_masking

    @supports_masking.setter
    def supports_masking(self, value):
        self._supports_masking = value

    @property
    def dtype_policy(self):
        """The policy that says in which dtype the layer computes and keeps its weights."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value):
        self._dtype_policy = dtype_policies.get(value)

    @property
    def dtype(self):
        """Alias of `variable_dtype`."""
        return self.variable_dtype

    @property
    def variable_dtype(self):
        """The dtype of the weights."""
        return self._dtype_policy.variable_dtype

    @property
    def compute_dtype(self):
        """The dtype of the computation, to which float inputs are cast."""
        return self._dtype_policy.compute_dtype

    @property
    def input_dtype(self):
        """The dtype to which float inputs are cast."""
        return self.compute_dtype

    @property
    def quantization_mode(self):
        """`None`: lamina has no quantized layers."""
        return None

    @property
    def _call_has_training_arg(self):
        return self._call_info.has_training

    @property
    def _call_has_mask_arg(self):
        return self._call_info.has_mask

    # ------------------------------------------------------------------------------------------- building

    @default
    def build(self, input_shape):
        """Makes the weights; `input_shape` has the batch axis. Called by the first call of the layer."""
        if is_default(self.build) and any(not layer.built for layer in self._layers):
            warn(
                f"`build()` was called on layer '{self.name}', however the layer does not have a `build()` "
                "method implemented and it looks like it has unbuilt state. This will cause the layer to be "
                "marked as built, despite not being actually built, which may cause failures down the line. "
                "Make sure to implement a proper `build()` method.",
            )
        self.built = True

    def _build_at_init(self):
        """Marks a layer that has no `build` of its own as built: for those whose weights are made in
        `__init__`.
        """
        if is_default(self.build):
            self.built = True
            self._post_build()
            self._lock_state()

    def _post_build(self):
        """Hook: called when `build` is done."""
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)
            self._initial_weights = None

    def _lock_state(self):
        self._tracker.lock(_LOCKED)

    def get_build_config(self):
        """The shapes that `build` was called with, as a dict; `None` before."""
        shapes = self._build_shapes_dict
        if shapes is None:
            return None
        return {"input_shape": next(iter(shapes.values()))} if len(shapes) == 1 else {"shapes_dict": shapes}

    def build_from_config(self, config):
        """Builds the layer with the shapes of `get_build_config`'s dict."""
        if not config:
            return
        if "input_shape" in config:
            self.build(config["input_shape"])
        elif "shapes_dict" in config:
            self.build(**config["shapes_dict"])

    def _maybe_build(self, arguments):
        """Builds the layer for a call with these arguments (by name), if it is not built."""
        if self._built:
            return
        shapes = calls.shapes_of(arguments)
        if not is_default(self.build):
            self.build(**calls.shapes_for(self.build, shapes, self._call_info, type(self).__name__))
            self._check_input(arguments)  # `build` may have set a stricter spec
            return
        shape = next(iter(shapes.values()), None)
        if type(self).build is Layer.build and all(layer.built for layer in self._layers):
            self.build(shape)
        else:  # the call itself builds the layers inside
            self.__dict__.update(_build_shapes_dict={"input_shape": shape}, _path=scope.current_path())

    def _check_input(self, arguments):
        spec = self.input_spec
        if spec is not None:
            assert_input_compatibility(spec, next(iter(arguments.values()), None), self.name, self)

    # ---------------------------------------------------------------------------------------------- other

    def get_config(self):
        """A dict from which `from_config` makes an equal layer: the arguments of `__init__` as plain values.

        A subclass of one of lamina's layers, and one that calls `super().get_config()`, adds its own
        arguments.
        """
        return layer_config(self, Layer)

    @classmethod
    def from_config(cls, config):
        """Makes a layer from `get_config()`'s dict."""
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = dtype_policies.deserialize(config["dtype"]).name
        return super().from_config(config)

    def add_weight(
        self,
        *args,
        shape=None,
        initializer=None,
        dtype=None,
        trainable=True,
        autocast=True,
        regularizer=None,
        constraint=None,
        aggregation="none",
        overwrite_with_gradient=False,
        name=None,
    ):
        """Makes a variable that belongs to the layer.

        Args:
            args: shape, initializer and dtype may come by position.
            shape: fully known; `()` when not given.
            initializer: object, name or callable `f(shape, dtype=...)`; default: Glorot uniform for floats,
                else zeros.
            dtype: default: the layer's variable dtype.
            trainable: whether training changes it.
            autocast: whether a mixed-precision layer reads it in its compute dtype.
            regularizer, constraint: objects or names.
            name: its name, such as `"kernel"`.
        """
        if args and isinstance(args[0], str):
            raise ValueError(
                f"`name` must be passed as a keyword argument. Received: add_weight('{args[0]}', ...). "
                f"Use: add_weight(shape=..., name='{args[0]}')."
            )
        given = {"shape": shape, "initializer": initializer, "dtype": dtype}
        if len(args) > len(given):
            raise TypeError(f"add_weight() takes at most 3 positional arguments but {len(args)} were given.")
        for argument, value in zip(given, args, strict=False):
            if given[argument] is not None:
                raise ValueError(f"`{argument}` was passed both positionally and as a keyword argument.")
            given[argument] = value
        shape, initializer, dtype = given.values()
        dtype = self.variable_dtype if dtype is None else standardize_dtype(dtype)
        if initializer is None:
            initializer = "glorot_uniform" if "float" in dtype else "zeros"
        try:
            with self._open_name_scope():
                variable = Variable(
                    initializers.get(initializer),
                    shape=() if shape is None else shape,
                    dtype=dtype,
                    trainable=trainable,
                    autocast=autocast,
                    aggregation=aggregation,
                    name=name,
                )
        except ShapeError as e:  # no shape, or one too large for the machine
            e.layer, e.argument = self, name
            raise
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        self._track_variable(variable)
        return variable

    add_variable = add_weight

    def _add_state(self, **kwargs):
        """`add_weight` on a layer that is built already."""
        locked = self._tracker.unlock()
        try:
            return self.add_weight(**kwargs)
        finally:
            self._tracker.lock(locked)

    def explain(self, input_shape=None):
        """Where the output shape and the weights come from, in sentences: an object to print.

        Args:
            input_shape: without the batch axis, as for `Input`; a list of shapes for several inputs. Default:
                that of the last call. A layer that is not built stays so.

        Raises `ValueError` when the input shape is not known, and `ShapeError` when it does not fit.

        >>> print(layers.Dense(15).explain((5, 3)))
        """
        from lamina.explain import explain_layer

        return explain_layer(self, input_shape)

    def __getattr__(self, name):
        # Only for what is not there.
        if not self.__dict__.get("_initialized"):
            raise AttributeError(forgot_super(self), name=name, obj=self)
        hint = ""
        if not self._built and not name.startswith("_"):
            hint = (
                f" The layer '{self.name}' is not built: its input shape is unknown, and so are its weights. "
                "Call it on data or use `build(input_shape)`."
            )
        raise AttributeError(
            f"'{type(self).__name__}' object has no attribute '{name}'.{hint}", name=name, obj=self
        )

    def __getstate__(self):
        # A copy of a layer stands alone: the calls that a graph remembers stay with the original.
        return {**self.__dict__, "_inbound_nodes": [], "_outbound_nodes": [], "_losses": []}

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def __str__(self):
        return self.__repr__()


def _wrapped_build(build):
    """`build` under the layer's name.

    Afterwards the layer is built, its shapes are noted and its state is locked.
    """

    @boundary
    @functools.wraps(build)
    def wrapper(self, *args, **kwargs):
        if self._building:  # `super().build()`
            return build(self, *args, **kwargs)
        if args and isinstance(args[0], int):
            standardize_shape(args[0])  # says that a number is no shape
        sizes = {name: len(items) for name, items in self._tracker.stores.items()}
        self.__dict__["_building"] = True
        try:
            with self._open_name_scope():
                self.__dict__["_path"] = scope.current_path()
                build(self, *args, **kwargs)
        except BaseException:
            # A build that failed leaves nothing behind, so that it can be tried again.
            for name, size in sizes.items():
                del self._tracker.stores[name][size:]
            raise
        finally:
            self.__dict__["_building"] = False
        self.__dict__["_build_shapes_dict"] = dict(
            inspect.signature(build).bind(self, *args, **kwargs).arguments
        )
        self._build_shapes_dict.pop(next(iter(self._build_shapes_dict)))
        self.built = True
        self._post_build()
        self._lock_state()
        return None

    return wrapper


Layer.__init__ = boundary(Layer.__init__)
Layer.build = _wrapped_build(Layer.build)
Layer._call_info = calls.call_info(Operation.call)
