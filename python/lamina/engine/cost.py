"""What a computation costs, from its plan: nothing is computed."""

from lamina import _core, tree
from lamina.engine import scope


class Cost:
    """The cost of one run.

    Attributes:
        flops: floating-point operations; a multiplication and an addition are two.
        arena_bytes: bytes of the intermediate values that live at once, as the planner lays them out.
    """

    def __init__(self, flops, arena_bytes):
        self.flops, self.arena_bytes = flops, arena_bytes


def cost(fn, shapes, dtypes):
    """The `Cost` of `fn` on one tensor per shape. Every axis must be known, and the weights must exist."""
    # As in shape inference, the penalties that layers add while they are called are not kept.
    with scope.fresh(), scope.flag("inferring"), _core.Graph() as graph:
        inputs = [graph.input(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        outputs = [x for x in tree.flatten(fn(*inputs)) if isinstance(x, _core.SymbolicTensor)]
        function = graph.function(outputs)
    return Cost(function.flops(shapes), function.arena_bytes(shapes))
