"""The graph of calls behind a model, also of one that is a subclass of `Model`."""

import copy

from lamina import tree
from lamina.engine.naming import names_kept
from lamina.models.functional import Functional
from lamina.models.model import Model
from lamina.models.sequential import Sequential


def graph_of(model):
    """The `Functional` graph of a model, or `None`.

    A subclass of `Model` has none of its own: a copy of it (that shares its weights) is called on symbols of
    the shapes that it was built for. `None` when it is not built, or its `call` needs data.
    """
    if isinstance(model, Sequential):
        return model._functional
    if isinstance(model, Functional):
        return model
    shapes = getattr(model, "_build_shapes_dict", None)
    if not isinstance(model, Model) or not model.built or not shapes:
        return None
    with names_kept():
        try:
            twin = copy.deepcopy(model, {id(v): v for v in model.variables})
            structures = {name: _inputs(shape, model.input_dtype) for name, shape in shapes.items()}
            if len(structures) == 1:
                (inputs,) = structures.values()
                return Functional(inputs, twin.call(inputs), name=model.name)
            arguments = {name.removesuffix("_shape"): x for name, x in structures.items()}
            return Functional(arguments, twin.call(**arguments), name=model.name)
        except Exception:  # whatever the user's code does without data
            return None


def _inputs(structure, dtype):
    """Symbolic inputs of the shapes in `structure`, for any number of samples."""
    from lamina.layers import Input

    flat = []
    places = tree.map_shape_structure(lambda s: flat.append(tuple(s)) or len(flat) - 1, structure)
    names = ["input"] if len(flat) == 1 else [f"input_{i}" for i in range(1, len(flat) + 1)]
    inputs = [
        Input(batch_shape=(None, *shape[1:]), dtype=dtype, name=name)
        for shape, name in zip(flat, names, strict=True)
    ]
    return tree.map_structure(lambda i: inputs[i], places)
