"""The call of a layer: building on first use, training phase, masks, autocast, losses, and what happens on
KerasTensors.
"""

from lamina import ops, tree
from lamina.engine import scope
from lamina.engine.direct import set_plain
from lamina.engine.keras_tensor import KerasTensor, any_symbolic_tensors, get_keras_mask
from lamina.engine.operation import Node, Operation, name_producers
from lamina.engine.scope import AutocastScope, CallContext, state
from lamina.engine.trace import infer
from lamina.engine.tracebacks import shorten, warn
from lamina.engine.trail import add_trail
from lamina.errors import ShapeError, did_you_mean
from lamina.layers import call as calls
from lamina.layers.call import default, is_default
from lamina.layers.lost_axes import explain_lost_axes


class LayerCall:
    """The part of `Layer` that is about calling it."""

    def __call__(self, *args, **kwargs):
        try:
            if not self._initialized:
                raise RuntimeError(forgot_super(self))
            if any_symbolic_tensors(args, kwargs):
                return self.symbolic_call(*args, **kwargs)
            return self._run(args, kwargs)
        except Exception as e:
            if type(e) is TypeError:
                self._explain_arguments(e, args, kwargs)
            shorten(e)
            raise

    def symbolic_call(self, *args, **kwargs):
        """The call on KerasTensors: builds the layer, finds the output shapes and remembers the call."""
        if not self._allow_non_tensor_positional_args:
            for x in tree.flatten(args):
                if isinstance(x, Operation):
                    raise ValueError(_not_a_tensor(self, x))
        arguments, was_built = self._call_info.bind(args, kwargs), self._built
        try:
            self._check_input(arguments)
            with self._open_name_scope():
                self._maybe_build(arguments)
            outputs = self._infer_outputs(args, kwargs)
        except ShapeError as e:
            if not was_built and not self.variables:
                self.built = False
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
            if type(self).compute_output_spec is not LayerCall.compute_output_spec:
                return self.compute_output_spec(*args, **kwargs)
            if self._says_its_shape:
                return self._spec_from_shape(args, kwargs)
            raise

    def _explain_arguments(self, error, args, kwargs):
        """Names an argument that `call` needs, or a keyword that it does not take (and the likely one)."""
        known = self._call_info.parameters
        needed = [n for n, p in known.items() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
        missing = [n for n in needed[len(args) :] if n not in kwargs]
        if missing:
            names = ", ".join(f"`{n}`" for n in missing)
            error.args = (f"{type(self).__name__}.call() needs {names}, which the call did not give.",)
            return
        unknown = [k for k in kwargs if k not in known and k != "training"]
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            error.args = (
                f"{type(self).__name__}.call() got an unexpected keyword argument '{unknown[0]}'."
                f"{did_you_mean(unknown[0], [*known, 'training'])}",
            )

    def _explain(self, error, args, kwargs):
        """Adds to an error where the values came from."""
        if error.layer is None:
            error.layer = self
        name_producers(error, args, kwargs)
        symbolic = [x for x in tree.flatten((args, kwargs)) if isinstance(x, KerasTensor)]
        add_trail(error, next(iter(symbolic), None))
        for x in symbolic:
            explain_lost_axes(error, x)
        return error

    def _run(self, args, kwargs):
        """The call on tensors (with values, or of a trace)."""
        info = self._call_info
        args, kwargs = self._converted(args, kwargs)
        given = kwargs.pop("training", None) if not info.has_training else kwargs.get("training")
        arguments = info.bind(args, kwargs)
        if info.has_training and given is None:
            given = arguments.get("training")
        first = next(iter(arguments.values()), None)
        self._check_input(arguments)
        if not self._built:
            with self._open_name_scope():
                self._maybe_build(arguments)

        context = state.call
        outermost = context is None
        if outermost:
            context = state.call = CallContext(self)
            set_plain(False)
            if not state.inferring:
                self._clear_losses()
        outer_training, outer_names = context.training, state.names
        # Whether to train: what the caller said, else what holds around the call, else the signature's
        # default.
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
                warn(
                    f"Layer '{self.name}' (of type {type(self).__name__}) was passed an input with a mask "
                    "attached to it. However, this layer does not support masking and will therefore "
                    "destroy the mask information. Downstream layers will not see the mask.",
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
                state.settle()
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
        """Puts the masks of tensors into the mask arguments that were not given.

        Returns that of the first argument.
        """
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
        if previous_mask is None and is_default(self.compute_mask):
            return
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
        """The output shape for an input shape (with the batch axis), found by tracing `call`.

        Makes no weights.
        """
        if type(self).call is Operation.call:
            raise NotImplementedError(
                f"{self._kind} {type(self).__name__} does not have a `compute_output_shape` method "
                "implemented. Should implement `def compute_output_shape(self, input_shape)`."
            )
        if kwargs.keys() == {"input_shape"} and not args:
            args, kwargs = (kwargs["input_shape"],), {}
        dtype = self.input_dtype if self.autocast else None

        def spec(shape):
            return None if shape is None else KerasTensor(tuple(shape), dtype)

        outputs = self.compute_output_spec(
            *[tree.map_shape_structure(spec, a) for a in args],
            **{k.removesuffix("_shape"): tree.map_shape_structure(spec, v) for k, v in kwargs.items()},
        )
        return tree.map_structure(lambda x: None if x is None else x.shape, outputs)

    @property
    def _says_its_shape(self):
        """Whether `compute_output_shape` knows the output shape without a trace."""
        return not is_default(self.compute_output_shape)

    def compute_output_spec(self, *args, **kwargs):
        """KerasTensors like the outputs of a call on these KerasTensors; makes no weights."""
        layer = self if self._built else self._unbuilt_copy()
        try:
            with scope.flag("abstract", not self._built):
                return infer(lambda *a, **k: layer._run(a, k), args, kwargs)
        except ShapeError:
            raise
        except Exception:
            if not self._says_its_shape:
                raise
            return self._spec_from_shape(args, kwargs)

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
                f"Layer {type(self).__name__} is not built and cannot be copied, so its output shape is "
                "unknown: build it, or implement `compute_output_shape(self, input_shape)`."
            ) from e

    def _spec_from_shape(self, args, kwargs):
        shapes = calls.shapes_of(self._call_info.bind(args, kwargs))
        method = self.compute_output_shape
        output = method(**calls.shapes_for(method, shapes, self._call_info, type(self).__name__))
        if output is None or isinstance(output, (int, str)):
            raise ValueError(
                f"Method `compute_output_shape()` of layer {type(self).__name__} is returning a type that "
                f"cannot be interpreted as a shape. It should return a shape tuple. Received: {output}"
            )
        return tree.map_shape_structure(lambda s: KerasTensor(tuple(s), self.compute_dtype), output)

    # --------------------------------------------------------------------------------------------- losses

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
                    # Per sample, so that the penalty does not grow with the batch. Counting keeps the batch
                    # unknown.
                    one_each = ops.ones_like(output[(slice(None), *[slice(0, 1)] * (len(output.shape) - 1))])
                    loss = ops.divide_no_nan(loss, ops.cast(ops.sum(one_each), loss.dtype))
                self.add_loss(loss)

    @property
    def losses(self):
        """Scalar losses of the last call: from `add_loss`, activity regularizers, sublayers, and weight
        regularizers.
        """
        if state.stateless is not None and state.stateless.collect_losses:
            losses = list(state.stateless.losses)
        else:
            losses = [x for layer in self._flatten_layers() for x in layer._losses]
        return losses + [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]

    def _clear_losses(self):
        self._losses.clear()
        if self._layers:
            for layer in self._flatten_layers(include_self=False):
                layer._losses.clear()


def forgot_super(layer):
    """What to say of a layer whose `__init__` did not call that of `Layer`."""
    return (
        f"In layer '{type(layer).__name__}', you forgot to call `super().__init__()` as the first "
        "statement in the `__init__()` method. Go add it!"
    )


def _position(info, name):
    return info.names.index(name) if name in info.names else len(info.names)


def _not_a_tensor(layer, x):
    is_class = isinstance(x, type) and issubclass(x, Operation)
    if isinstance(x, Operation) or is_class:
        made = (
            f"make the layer and call it first, `{x.__name__}(...)(x)`"
            if is_class
            else "call it first, `layer(x)`"
        )
        return (
            f"Inputs to a layer should be tensors. Got '{x}' (of type {type(x)}) as input for layer "
            f"'{layer.name}'. A layer stands where its output belongs: {made}."
        )
    number = ", as `np.array(...)` if it is data" if isinstance(x, (int, float)) else ""
    return (
        "Only input tensors may be passed as positional arguments. The following argument value should be "
        f"passed as a keyword argument: {x!r:.80} (of type {type(x)}){number}"
    )
