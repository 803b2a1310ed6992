"""What a computation costs, from its plan: nothing is computed."""

from lamina import _core, tree
from lamina.engine import scope
from lamina.engine.trace import ConcreteShapeNeeded


class Cost:
    """The cost of one run.

    Attributes:
        flops: floating-point operations; a multiplication and an addition are two.
        arena_bytes: bytes of the intermediate values, as the planner lays them out in one block.
        live_bytes: bytes of those that are alive at once at the worst step: no layout needs less.
    """

    def __init__(self, flops, arena_bytes, live_bytes):
        self.flops, self.arena_bytes, self.live_bytes = flops, arena_bytes, live_bytes


def cost(fn, shapes, known, dtypes):
    """The `Cost` of `fn` on one tensor per shape, `None` in front being the batch. `known` are the same with
    its size. The weights must exist.
    """
    try:
        function = _trace(fn, shapes, dtypes)
    except ConcreteShapeNeeded:  # the call asks for the size of the batch
        function = _trace(fn, known, dtypes)
    return Cost(function.flops(known), function.arena_bytes(known), function.live_bytes(known))


def _trace(fn, shapes, dtypes):
    # As in shape inference, the penalties that layers add while they are called are not kept.
    with scope.fresh(), scope.flag("inferring"), _core.Graph() as graph:
        inputs = [graph.input(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        outputs = [x for x in tree.flatten(fn(*inputs)) if isinstance(x, _core.SymbolicTensor)]
        return graph.function(outputs)
