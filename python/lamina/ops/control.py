"""Control flow. On data it is Python's own; in a traced function loops are unrolled and both branches are
computed.

So a branch of a traced `cond` must not assign to variables: both would. A value picked by `where` takes its
gradient from the picked branch alone.
"""

from lamina import _core, tree
from lamina.engine.operation import op
from lamina.ops._base import exports, is_symbolic, known, slice_axis, tensor
from lamina.ops.numpy.manipulation import stack


def _pick(condition, a, b):
    """`where` over two structures that are alike."""
    return tree.map_structure(lambda x, y: x if x is y else _core.where(condition, x, y), a, b)


@op
def cond(pred, true_fn, false_fn):
    """true_fn() if `pred` (a scalar) holds, else false_fn(). Both must return the same structure, shapes and
    dtypes.
    """
    if not is_symbolic(pred):
        return true_fn() if bool(pred) else false_fn()
    return _pick(tensor(pred, "bool"), true_fn(), false_fn())


@op
def switch(index, branches, *operands):
    """branches[index](*operands); the index is cut to the branches there are."""
    if not branches:
        raise ValueError("`switch` needs at least one branch.")
    if not is_symbolic(index):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    chosen = branches[-1](*operands)
    for i in reversed(range(len(branches) - 1)):
        chosen = _pick(_core.binary("le", index, i), branches[i](*operands), chosen)
    return chosen


@op
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """loop_vars = body(*loop_vars) while cond(*loop_vars) holds, `maximum_iterations` times at most.

    In a traced function a condition on traced values needs `maximum_iterations`: the loop is unrolled that
    many times.
    """
    several = isinstance(loop_vars, (list, tuple))
    values = tuple(loop_vars) if several else (loop_vars,)
    active, count = None, 0
    while maximum_iterations is None or count < maximum_iterations:
        go = cond(*values)
        if is_symbolic(go):
            if maximum_iterations is None:
                raise ValueError(
                    "`while_loop` in a compiled function, with a condition on its values, needs "
                    "`maximum_iterations`: the loop is unrolled that many times."
                )
            active = tensor(go, "bool") if active is None else _core.binary("and", active, tensor(go, "bool"))
        elif not bool(go):
            break
        new = body(*values)
        new = tuple(new) if isinstance(new, (list, tuple)) and several else (new,)
        values = new if active is None else _pick(active, new, values)
        count += 1
    return (type(loop_vars)(values) if type(loop_vars) in (list, tuple) else values) if several else values[0]


@op
def fori_loop(lower, upper, body_fun, init_val):
    """value = body_fun(i, value) for i from `lower` up to `upper` - 1; both must be known when traced."""
    value = init_val
    for i in range(int(lower), int(upper)):
        value = body_fun(i, value)
    return value


def _rows(xs, name):
    """How long the leading axes of a structure are, and a function that takes row i of each."""
    leaves = tree.flatten(xs)
    if not leaves:
        raise ValueError(f"`{name}` needs at least one tensor to go along.")
    xs = tree.map_structure(tensor, xs)
    sizes = {known(x, 0, name) for x in tree.flatten(xs)}
    if len(sizes) != 1:
        raise ValueError(f"`{name}`: the leading axes must have one size. Received sizes {sorted(sizes)}.")

    def row(i):
        return tree.map_structure(lambda x: _core.squeeze(slice_axis(x, 0, i, i + 1), [0]), xs)

    return sizes.pop(), row


def _stacked(rows):
    return tree.map_structure(lambda *parts: stack(parts), *rows)


@op
def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """Carry a value along a leading axis: carry, y = f(carry, xs[i]). Returns the last carry and the stacked
    ys.

    `reverse` goes from the end; `xs=None` calls f(carry, None) `length` times. Always unrolled.
    """
    if xs is None and length is None:
        raise ValueError("Got no `xs` to scan over and `length` not provided.")
    if xs is None:
        size, row = int(length), lambda i: None
    else:
        size, row = _rows(xs, "scan")
        if length is not None and int(length) != size:
            raise ValueError(f"`scan`: length={length} does not fit the leading axis of size {size}.")
    carry, ys = init, []
    for i in reversed(range(size)) if reverse else range(size):
        carry, y = f(carry, row(i))
        ys.append(y)
    if reverse:
        ys.reverse()
    if not ys or all(y is None for y in ys):
        return carry, None
    return carry, _stacked(ys)


@op
def map(f, xs):
    """f applied to each row of the tensors in `xs`, the results stacked."""
    size, row = _rows(xs, "map")
    if not size:
        raise ValueError("`map` over an axis of size 0: the shape of the result is unknown.")
    return _stacked([f(row(i)) for i in range(size)])


@op
def vectorized_map(function, elements):
    """As `map`."""
    return map(function, elements)


@op
def associative_scan(f, elems, reverse=False, axis=0):
    """Running f over `axis`: y[i] = f(y[i-1], x[i]) for an associative f that works on whole slices; in
    log2(n) levels.
    """
    leaves = tree.map_structure(tensor, elems)

    def cut(start, stop=None, step=1):
        return lambda x: slice_axis(x, axis if axis >= 0 else axis + len(x.shape), start, stop, step)

    def join(*parts):
        first = parts[0]
        return _core.concat(list(parts), axis if axis >= 0 else axis + len(first.shape))

    def weave(even, odd):
        a = axis if axis >= 0 else axis + len(even.shape)
        n, m = known(even, a, "associative_scan"), known(odd, a, "associative_scan")
        pairs = stack([cut(0, m)(even), odd], a + 1)
        shape = list(odd.shape)
        shape[a] = 2 * m
        woven = _core.reshape(pairs, shape)
        return join(woven, cut(n - 1)(even)) if n > m else woven

    def run(xs):
        x = tree.flatten(xs)[0]
        n = known(x, axis, "associative_scan")
        if n < 2:
            return xs
        pairs = f(tree.map_structure(cut(0, n - 1, 2), xs), tree.map_structure(cut(1, None, 2), xs))
        odd = run(pairs)
        head = tree.map_structure(cut(0, 1), xs)
        if n == 2:
            return tree.map_structure(join, head, odd)
        before = tree.map_structure(cut(0, (n - 1) // 2), odd)
        even = f(before, tree.map_structure(cut(2, None, 2), xs))
        return tree.map_structure(weave, tree.map_structure(join, head, even), odd)

    def flipped(xs):
        return tree.map_structure(lambda x: _core.flip(x, [axis if axis >= 0 else axis + len(x.shape)]), xs)

    return flipped(run(flipped(leaves))) if reverse else run(leaves)


__all__ = exports(globals())
