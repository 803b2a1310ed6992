"""What a layer makes of a shape, in sentences: `describe`, which the other modules teach family by family."""

import functools

from lamina.engine.operation import FunctionOperation
from lamina.explain.words import joined


@functools.singledispatch
def describe(layer, call):
    """Sentences about a call of `layer`; without its input shapes and without the sum of its weights."""
    kind = type(layer).__name__
    first = (getattr(layer, "__doc__", None) or "").strip().split("\n\n")[0].replace("\n", " ")
    if isinstance(layer, FunctionOperation):
        says = f"The function `{kind}`, called on the tensors of the model"
    elif first:
        says = " ".join(first.split())
    else:
        says = f"{kind} is a layer that lamina knows by its call alone"
    if not call.inputs or not call.outputs:
        return [f"{says.rstrip('.')}. Its shapes are known when it is called."]
    if call.inputs == call.outputs:
        return [f"{says.rstrip('.')}. The shape stays."]
    return [f"{says.rstrip('.')}. Out: {joined(map(str, call.outputs))}."]
