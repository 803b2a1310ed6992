"""`Layer`: a computation with weights. Tracking, building, calling; masks, autocast and losses at its edge."""

import functools
import inspect
import warnings

from lamina import constraints, dtype_policies, initializers, ops, regularizers, tree
from lamina.backend import standardize_dtype
from lamina.engine import scope
from lamina.engine.keras_tensor import KerasTensor, any_symbolic_tensors, get_keras_mask
from lamina.engine.operation import Node, Operation
from lamina.engine.scope import AutocastScope, CallContext, state
from lamina.engine.trace import infer
from lamina.engine.tracking import Tracker
from lamina.engine.variable import Variable
from lamina.errors import ShapeError
from lamina.layers import call as calls
from lamina.layers.configuration import layer_config, legacy_arguments
from lamina.layers.input_spec import assert_input_compatibility
from lamina.layers.state import LayerState

_LOCKED = (
    "You cannot add new elements of state (variables or sub-layers) to a layer that is already built. "
    "All state must be created in the `__init__()` method or in the `build()` method."
)


def default(method):
    """Marks a method of `Layer` that a subclass may replace."""
    method.is_default = True
    return method


def is_default(method):
    """Whether a method is the one of `Layer`."""
    return getattr(method, "is_default", False)


class Layer(LayerState, Operation):
    """What all layers inherit from.

    A subclass makes its weights in `build(input_shape)` with `add_weight` and computes in `call(inputs, ...)` with
    `lamina.ops`. The output shape follows from `call`.

        class Scale(lamina.layers.Layer):
            def build(self, input_shape):
                self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

            def call(self, inputs):
                return inputs * self.gain

    `call` may take `training` (whether a model trains) and `mask` (of its first argument); both are filled in.

    Args:
        activity_regularizer: a penalty on the outputs, added to `losses`.
        trainable: whether training changes the weights.
        dtype: a dtype or a `DTypePolicy`; default: the global policy.
        autocast: cast float inputs to the layer's compute dtype.
        name: made up when not given.

    The legacy arguments `input_shape`, `input_dim`, `batch_input_shape`, `batch_size` and `weights` are understood.
    """

    _kind = "Layer"
    # Arguments of `__init__` that are not part of the configuration.
    _config_exclude = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
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
                "Expected `trainable` to be a boolean. "
                f"Received: trainable={trainable} (of type {type(trainable)})"
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

    # ------------------------------------------------------------------------------------------------ properties

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

    # -------------------------------------------------------------------------------------------------- building

    @default
    def build(self, input_shape):
        """Makes the weights; `input_shape` has the batch axis. Called by the first call of the layer."""
        if is_default(self.build) and any(not layer.built for layer in self._layers):
            warnings.warn(
                f"`build()` was called on layer '{self.name}', however the layer does not have a `build()` method "
                "implemented and it looks like it has unbuilt state. This will cause the layer to be marked as built, "
                "despite not being actually built, which may cause failures down the line. Make sure to implement a "
                "proper `build()` method.",
                stacklevel=2,
            )
        self.built = True

    def _build_at_init(self):
        """Marks a layer that has no `build` of its own as built: for those whose weights are made in `__init__`."""
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
        self._tracker.locked_because = _LOCKED

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
        if spec:
            assert_input_compatibility(spec, next(iter(arguments.values()), None), self.name, self)

    # --------------------------------------------------------------------------------------------------- calling

    def __call__(self, *args, **kwargs):
        if not self._initialized:
            raise RuntimeError(
                f"In layer '{type(self).__name__}', you forgot to call `super().__init__()` as the first statement "
                "in the `__init__()` method. Go add it!"
            )
        if any_symbolic_tensors(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        return self._run(args, kwargs)

    def symbolic_call(self, *args, **kwargs):
        """The call on KerasTensors: builds the layer, finds the output shapes and remembers the call."""
        arguments = self._call_info.bind(args, kwargs)
        try:
            self._check_input(arguments)
            with self._open_name_scope():
                self._maybe_build(arguments)
            outputs = self._infer_outputs(args, kwargs)
        except ShapeError as e:
            raise self._explain(e, args, kwargs) from None
        self.built = True
        Node(self, args, kwargs, outputs)
        return outputs

    def _infer_outputs(self, args, kwargs):
        try:
            return infer(lambda *a, **k: self._run(a, k), args, kwargs)
        except ShapeError:
            raise
        except Exception:
            # A call that cannot be traced may say its output shape by hand.
            if type(self).compute_output_spec is not Layer.compute_output_spec:
                return self.compute_output_spec(*args, **kwargs)
            if not is_default(self.compute_output_shape):
                return self._spec_from_shape(args, kwargs)
            raise

    def _explain(self, error, args, kwargs):
        """Adds to an error where the values came from."""
        if error.layer is None:
            error.layer = self
        if error.producer is None:
            histories = [getattr(x, "_keras_history", None) for x in tree.flatten((args, kwargs))]
            producers = [h.operation for h in histories if h is not None and h.operation is not None]
            error.producer = producers or None
        return error

    def _run(self, args, kwargs):
        """The call on tensors (with values, or of a trace)."""
        info = self._call_info
        args, kwargs = self._converted(args, kwargs)
        given = kwargs.pop("training", None) if not info.has_training else kwargs.get("training")
        arguments = info.bind(args, kwargs)
        if info.has_training and given is None:
            given = arguments.get("training")
        if not arguments and info.parameters:
            raise TypeError(f"Layer '{self.name}' ({type(self).__name__}) was called without an input.")
        first = next(iter(arguments.values()), None)
        if self.input_spec:
            self._check_input(arguments)
        if not self._built:
            with self._open_name_scope():
                self._maybe_build(arguments)

        context = state.call
        outermost = context is None
        if outermost:
            context = state.call = CallContext(self)
            if not state.inferring:
                self._clear_losses()
        outer_training, outer_names = context.training, state.names
        # Whether to train: what the caller said, else what holds around the call, else the signature's default.
        training = given if given is not None else outer_training
        if training is None:
            training = info.training_default
        context.training = training
        try:
            if info.has_training and training is not None and len(args) <= _position(info, "training"):
                kwargs["training"] = training
            previous_mask = self._fill_in_masks(info, arguments, first, kwargs, len(args))
            if not (outer_names and outer_names[-1][1] is self):
                state.names = (*outer_names, (self.name, self))
            autocast = self._autocast_scope()
            if autocast is None:
                outputs = self.call(*args, **kwargs)
            else:
                with autocast:
                    outputs = self.call(*args, **kwargs)
            self.__dict__["_built"] = True
            if self.activity_regularizer is not None:
                self._add_activity_loss(outputs)
            if self._supports_masking:
                self._set_masks(first, outputs, previous_mask)
            elif calls.any_mask(previous_mask) and not self._own_masks(outputs):
                warnings.warn(
                    f"Layer '{self.name}' (of type {type(self).__name__}) was passed an input with a mask attached to "
                    "it. However, this layer does not support masking and will therefore destroy the mask information. "
                    "Downstream layers will not see the mask.",
                    stacklevel=3,
                )
        except ShapeError as e:
            if e.layer is None:
                e.layer = self
            raise
        finally:
            state.names = outer_names
            context.training = outer_training
            if outermost:
                state.call = None
        return outputs

    def _converted(self, args, kwargs):
        """The arguments with arrays as tensors of the layer's dtype."""
        if self._convert_input_args:
            dtype, autocast = self.input_dtype, self.autocast
            if (
                len(args) == 1
                and ops.is_tensor(args[0])
                and args[0].dtype == dtype
                and kwargs.keys() <= {"training"}
            ):
                return args, kwargs
            if args:
                args = (calls.convert_numbers(args[0]), *args[1:])
            args = tree.map_structure(lambda x: calls.convert(x, dtype, autocast), tuple(args))
            kwargs = {
                k: tree.map_structure(lambda x: calls.convert(x, dtype, autocast), v)
                for k, v in kwargs.items()
            }
        if not self._allow_non_tensor_positional_args:
            for x in tree.flatten(args):
                if x is not None and not ops.is_tensor(x):
                    raise ValueError(_not_a_tensor(self, x))
        return args, kwargs

    def _fill_in_masks(self, info, arguments, first, kwargs, n_positional):
        """Puts the masks of tensors into the mask arguments that were not given; returns that of the first argument."""
        if info.has_mask or info.mask_names:
            tensors = {k: v for k, v in arguments.items() if k != "mask" and calls.is_tensors(v)}
            if len(tensors) == 1:
                if (
                    info.has_mask
                    and arguments.get("mask") is None
                    and n_positional <= _position(info, "mask")
                ):
                    kwargs["mask"] = calls.masks_of(next(iter(tensors.values())))
            else:
                for name, value in tensors.items():
                    if f"{name}_mask" in info.mask_names and arguments.get(f"{name}_mask") is None:
                        kwargs[f"{name}_mask"] = calls.masks_of(value)
        given = kwargs.get("mask", arguments.get("mask"))
        return given if given is not None else calls.masks_of(first)

    def _set_masks(self, inputs, outputs, previous_mask):
        flat = tree.flatten(outputs)
        if all(get_keras_mask(x) is not None for x in flat):
            return
        masks = self.compute_mask(inputs, previous_mask)
        if masks is None:
            return
        for x, mask in zip(flat, tree.flatten(masks), strict=False):
            if mask is not None and get_keras_mask(x) is None:
                x._keras_mask = mask

    def _own_masks(self, outputs):
        return any(get_keras_mask(x) is not None for x in tree.flatten(outputs))

    def _autocast_scope(self):
        """The scope to enter for `call`, or `None` where nothing changes."""
        current, compute = state.autocast, self.compute_dtype
        if current is not None:
            if not self.autocast or "float" not in compute:
                return AutocastScope(None)
            return AutocastScope(compute) if current.dtype != compute else None
        return AutocastScope(compute) if compute != self.variable_dtype and "float" in compute else None

    def _open_name_scope(self):
        return scope.name_scope(self.name, caller=self)

    @default
    def compute_mask(self, inputs, previous_mask):
        """The mask of the outputs; by default, that of the inputs."""
        return previous_mask

    @default
    def compute_output_shape(self, *args, **kwargs):
        """The output shape for an input shape (with the batch axis), found by tracing `call`; makes no weights."""
        dtype = self.input_dtype if self.autocast else None

        def spec(shape):
            return None if shape is None else KerasTensor(tuple(shape), dtype)

        outputs = self.compute_output_spec(
            *[tree.map_shape_structure(spec, a) for a in args],
            **{k.removesuffix("_shape"): tree.map_shape_structure(spec, v) for k, v in kwargs.items()},
        )
        return tree.map_structure(lambda x: None if x is None else x.shape, outputs)

    def compute_output_spec(self, *args, **kwargs):
        """KerasTensors like the outputs of a call on these KerasTensors; makes no weights."""
        layer = self if self._built else self._unbuilt_copy()
        with scope.flag("abstract", not self._built):
            return infer(lambda *a, **k: layer._run(a, k), args, kwargs)

    def _unbuilt_copy(self):
        """A copy whose weights may be made and thrown away."""
        if is_default(self.build) and not self._layers:
            return self
        from lamina.saving.serialization import functions_as_they_are

        try:
            with functions_as_they_are():
                return type(self).from_config(self.get_config())
        except (NotImplementedError, TypeError) as e:
            raise NotImplementedError(
                f"Layer {type(self).__name__} is not built and cannot be copied, so its output shape is unknown: build it, "
                "or implement `compute_output_shape(self, input_shape)`."
            ) from e

    def _spec_from_shape(self, args, kwargs):
        shapes = calls.shapes_of(self._call_info.bind(args, kwargs))
        method = self.compute_output_shape
        output = method(**calls.shapes_for(method, shapes, self._call_info, type(self).__name__))
        if output is None or isinstance(output, (int, str)):
            raise ValueError(
                f"Method `compute_output_shape()` of layer {type(self).__name__} is returning a type that cannot be "
                f"interpreted as a shape. It should return a shape tuple. Received: {output}"
            )
        return tree.map_shape_structure(lambda s: KerasTensor(tuple(s), self.compute_dtype), output)

    # ---------------------------------------------------------------------------------------------------- losses

    def add_loss(self, loss):
        """Adds scalar tensors to `losses`; for use in `call`."""
        for x in tree.flatten(loss):
            if not ops.is_tensor(x):
                raise ValueError(
                    "`add_loss()` can only be called from inside `build()` or `call()`, on a tensor input. "
                    f"Received invalid value: {x}"
                )
            if state.inferring:
                continue
            if state.stateless is not None:
                if state.stateless.collect_losses:
                    state.stateless.add_loss(x)
            else:
                if state.cleanups is not None:
                    state.cleanups.append(self._losses.clear)
                self._losses.append(x)

    def _add_activity_loss(self, outputs):
        for output in tree.flatten(outputs):
            if ops.is_tensor(output):
                loss = self.activity_regularizer(output)
                if len(output.shape) > 0:
                    # Per sample, so that the penalty does not grow with the batch. Counting keeps the batch unknown.
                    one_each = ops.ones_like(output[(slice(None), *[slice(0, 1)] * (len(output.shape) - 1))])
                    loss = ops.divide_no_nan(loss, ops.cast(ops.sum(one_each), loss.dtype))
                self.add_loss(loss)

    @property
    def losses(self):
        """Scalar losses of the last call: from `add_loss`, activity regularizers, sublayers, and weight regularizers."""
        if state.stateless is not None and state.stateless.collect_losses:
            losses = list(state.stateless.losses)
        else:
            losses = [x for layer in self._flatten_layers() for x in layer._losses]
        return losses + [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]

    def _clear_losses(self):
        for layer in self._flatten_layers():
            layer._losses.clear()

    # ----------------------------------------------------------------------------------------------------- other

    def get_config(self):
        """A dict from which `from_config` makes an equal layer: the arguments of `__init__` as plain values.

        A subclass of one of lamina's layers, and one that calls `super().get_config()`, adds its own arguments.
        """
        return layer_config(self, Layer)

    @classmethod
    def from_config(cls, config):
        """Makes a layer from `get_config()`'s dict."""
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = dtype_policies.deserialize(config["dtype"])
        return super().from_config(config)

    def add_weight(
        self,
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
            shape: fully known; `()` when not given.
            initializer: object, name or callable `f(shape, dtype=...)`; default: Glorot uniform for floats, else zeros.
            dtype: default: the layer's variable dtype.
            trainable: whether training changes it.
            autocast: whether a mixed-precision layer reads it in its compute dtype.
            regularizer, constraint: objects or names.
            name: its name, such as `"kernel"`.
        """
        if isinstance(shape, str):
            raise ValueError(
                f"`name` must be passed as a keyword argument. Received: add_weight('{shape}', ...). "
                f"Use: add_weight(shape=..., name='{shape}')."
            )
        dtype = self.variable_dtype if dtype is None else standardize_dtype(dtype)
        if initializer is None:
            initializer = "glorot_uniform" if "float" in dtype else "zeros"
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
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        self._track_variable(variable)
        return variable

    add_variable = add_weight

    def _add_state(self, **kwargs):
        """`add_weight` on a layer that is built already."""
        locked, self._tracker.locked_because = self._tracker.locked_because, None
        try:
            return self.add_weight(**kwargs)
        finally:
            self._tracker.locked_because = locked

    def __getstate__(self):
        # A copy of a layer stands alone: the calls that a graph remembers stay with the original.
        return {**self.__dict__, "_inbound_nodes": [], "_outbound_nodes": [], "_losses": []}

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def __str__(self):
        return self.__repr__()


def _wrapped_build(build):
    """`build` under the layer's name; afterwards the layer is built, its shapes are noted and its state is locked."""

    @functools.wraps(build)
    def wrapper(self, *args, **kwargs):
        if self._building:  # `super().build()`
            return build(self, *args, **kwargs)
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


def _position(info, name):
    return info.names.index(name) if name in info.names else len(info.names)


def _not_a_tensor(layer, x):
    if isinstance(x, Layer):
        return (
            f"Inputs to a layer should be tensors. Got '{x}' (of type {type(x)}) as input for layer '{layer.name}'. "
            "A layer stands where its output belongs: call it first, `layer(x)`."
        )
    return (
        "Only input tensors may be passed as positional arguments. The following argument value should be passed as a "
        f"keyword argument: {x} (of type {type(x)})"
    )


Layer.build = _wrapped_build(Layer.build)
Layer._call_info = calls.call_info(Operation.call)
