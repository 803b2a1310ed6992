"""Copies of models: `clone_model` makes new weights, pickling keeps them."""

from lamina import tree
from lamina.engine.keras_tensor import KerasTensor
from lamina.layers.core.input_layer import Input, InputLayer
from lamina.models.functional import Functional, has_functional_constructor
from lamina.models.sequential import Sequential
from lamina.saving.serialization import (
    deserialize_keras_object,
    functions_as_they_are,
    serialize_keras_object,
)


def clone_model(
    model, input_tensors=None, clone_function=None, call_function=None, recursive=False, **kwargs
):
    """A model with the same layers, made anew: new weights, as at the start.

    Args:
        model: functional, Sequential, or of a class with a configuration.
        input_tensors: KerasTensors to build the copy on; default: new inputs.
        clone_function: `f(layer)` returns the layer that takes its place; default: an equal layer. It is not
            called for inputs.
        call_function: `f(layer, *args, **kwargs)` calls the new layer (functional models only).
        recursive: apply `clone_function` to the layers of nested models too.

    Raises `ValueError` for arguments that do not fit the kind of model.
    """
    made = kwargs.pop("cache", None)
    if kwargs:
        raise ValueError(f"Unexpected keyword argument(s): {tuple(kwargs)}")
    made = {} if made is None else made
    custom = clone_function is not None or input_tensors is not None
    if isinstance(model, Sequential) and call_function is not None:
        raise ValueError(
            "`call_function` argument is not supported with Sequential models. In a Sequential model, layers "
            "aren't called at model-construction time (they're merely listed). Use `call_function` with "
            "Functional models only."
        )
    with functions_as_they_are():
        if isinstance(model, (Sequential, Functional)) and (custom or _is_plain(model) or call_function):

            def clone(layer):
                if id(layer) not in made:
                    made[id(layer)] = _clone_layer(
                        layer,
                        clone_function,
                        call_function if isinstance(layer, Functional) else None,
                        recursive,
                        made,
                    )
                return made[id(layer)]

            if isinstance(model, Sequential):
                copy = _clone_sequential(model, clone, input_tensors)
            else:
                copy = _clone_functional(model, clone, call_function, input_tensors)
            if model.compiled:
                copy.compile_from_config(model.get_compile_config())
            return copy
        if custom or call_function is not None:
            raise ValueError(
                "Arguments `clone_function`, `call_function` and `input_tensors` are only supported for "
                f"Sequential models or Functional models. Received model of type '{type(model).__name__}'."
            )
        config = serialize_keras_object(model)
        return deserialize_keras_object(config, custom_objects={type(model).__name__: type(model)})


def _is_plain(model):
    return type(model).get_config in (Sequential.get_config, Functional.get_config)


def _clone_layer(layer, clone_function, call_function, recursive, made):
    if recursive and isinstance(layer, (Sequential, Functional)):
        return clone_model(
            layer, clone_function=clone_function, call_function=call_function, recursive=True, cache=made
        )
    return clone_function(layer) if clone_function else type(layer).from_config(layer.get_config())


def _clone_sequential(model, clone, input_tensors):
    stack = [clone(layer) for layer in model.layers]
    bottom = model._stack[0] if model._stack and isinstance(model._stack[0], InputLayer) else None
    if input_tensors is not None:
        tensors = tree.flatten(input_tensors)
        if len(tensors) != 1:
            raise ValueError("Argument `input_tensors` must contain a single tensor.")
        if not isinstance(tensors[0], KerasTensor):
            raise ValueError(
                "Argument `input_tensors` must be a KerasTensor. Received invalid value: "
                f"input_tensors={input_tensors}"
            )
        stack.insert(0, Input(tensor=tensors[0], name=bottom.name if bottom else None))
    elif bottom is not None:
        stack.insert(0, InputLayer.from_config(bottom.get_config()))
    return Sequential(stack, name=model.name, trainable=model.trainable)


def _clone_functional(model, clone, call_function, input_tensors):
    if input_tensors is None:
        input_tensors = tree.map_structure(
            lambda x: Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
    else:
        for x in tree.flatten(input_tensors):
            if not isinstance(x, KerasTensor):
                raise ValueError(
                    "All entries in `input_tensors` must be KerasTensors. Received invalid values: "
                    f"inputs_tensors={input_tensors}"
                )
        try:
            tree.assert_same_structure(input_tensors, model.input)
        except ValueError as e:
            raise ValueError(
                "`input_tensors` must have the same structure as model.input\n"
                f"Reference structure: {model.input}\n"
                f"Received structure: {input_tensors}"
            ) from e
    outputs = model._run_through_graph(input_tensors, operation_fn=clone, call_fn=call_function)
    cls = type(model) if has_functional_constructor(type(model)) else Functional
    copy = cls(input_tensors, outputs, name=model.name)
    if not model.trainable:
        copy.trainable = False
    return copy


# ---------------------------------------------------------------------------------------- pickle and copy


def reduce_model(model):
    """For `pickle` and `copy.deepcopy`: the configuration, the classes that it names, and the values of all
    variables.
    """
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    custom = {name: cls for name, cls in classes.items() if not cls.__module__.startswith("lamina.")}
    with functions_as_they_are():
        config = serialize_keras_object(model)
    states = [v.numpy() for v in model.variables]
    optimizer = model.optimizer
    slots = [v.numpy() for v in optimizer.variables] if optimizer is not None and optimizer.built else None
    trainable = [layer.trainable for layer in model._flatten_layers()]
    return revive_model, (config, custom, states, slots, trainable)


def revive_model(config, custom, states, slots, trainable):
    """The model that `reduce_model` took apart."""
    model = deserialize_keras_object(config, custom_objects=custom)
    for variable, value in zip(model.variables, states, strict=True):
        variable.assign(value)
    for layer, value in zip(model._flatten_layers(), trainable, strict=True):
        if layer.trainable != value:
            layer.trainable = value
    if slots is not None:
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, slots, strict=True):
            variable.assign(value)
    return model
