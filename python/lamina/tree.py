"""Nested structures of lists, tuples and dicts, as in `keras.tree`.

A *leaf* is anything that is not a list, a tuple or a dict; `None` is a leaf. Dicts are walked by sorted key
(an `OrderedDict` in its own order), so the order of leaves does not depend on the order in which a dict was
filled.

    >>> from lamina import tree
    >>> tree.flatten({"b": [1, 2], "a": 3})
    [3, 1, 2]
    >>> tree.map_structure(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
"""

from collections import OrderedDict, defaultdict


class MAP_TO_NONE:
    """Returned by the function given to `traverse` to put `None` in place of a value."""


def is_nested(structure):
    """Whether `structure` is a list, a tuple or a dict."""
    return isinstance(structure, (list, tuple, dict))


def _items(structure):
    """(key, child) pairs of one level, in flattening order."""
    if not isinstance(structure, dict):
        return list(enumerate(structure))
    if isinstance(structure, OrderedDict):
        return list(structure.items())
    try:
        return sorted(structure.items(), key=lambda item: item[0])
    except TypeError:  # keys of several types: a fixed order all the same
        return sorted(structure.items(), key=lambda item: (type(item[0]).__name__, str(item[0])))


def _rebuild(structure, children):
    """A container like `structure` with `children` given in flattening order."""
    if isinstance(structure, dict):
        new = dict(zip((key for key, _ in _items(structure)), children, strict=True))
        if isinstance(structure, OrderedDict):
            return OrderedDict(new)
        new = {key: new[key] for key in structure}  # keep the order in which it was filled
        return defaultdict(structure.default_factory, new) if isinstance(structure, defaultdict) else new
    if isinstance(structure, tuple):
        return type(structure)(*children) if hasattr(structure, "_fields") else tuple(children)
    return list(children)


def _kind(structure):
    if isinstance(structure, dict):
        return dict
    if isinstance(structure, tuple):
        return type(structure) if hasattr(structure, "_fields") else tuple
    return list if isinstance(structure, list) else None


def _mismatch(a, b):
    """What differs between two containers at one level, or None."""
    if _kind(a) is not _kind(b):
        return f"{type(a).__name__} against {type(b).__name__}"
    if isinstance(a, dict) and a.keys() != b.keys():
        return f"dicts with keys {list(a)} and {list(b)}"
    if len(a) != len(b):
        return f"lengths {len(a)} and {len(b)}"
    return None


def flatten(structure):
    """The leaves as a list."""
    return [leaf for _, leaf in flatten_with_path(structure)]


def flatten_with_path(structure):
    """A list of `(path, leaf)`; a path is the tuple of keys and indices that leads to the leaf."""
    if not is_nested(structure):
        return [((), structure)]
    return [
        ((key, *path), leaf) for key, child in _items(structure) for path, leaf in flatten_with_path(child)
    ]


def map_structure(func, *structures, none_is_leaf=True):
    """Applies `func` to the corresponding leaves of structures that are alike.

    Raises `ValueError` when they are not. With `none_is_leaf=False`, `None` stays `None` and `func` never
    sees it.
    """
    if not structures:
        raise ValueError("Must provide at least one structure")
    return _map(func, structures[0], structures, none_is_leaf, deep=True)


def map_structure_up_to(shallow_structure, func, *structures):
    """Like `map_structure`, but stops where `shallow_structure` has a leaf: `func` gets what lies below."""
    if not structures:
        raise ValueError("Must provide at least one structure")
    return _map(func, shallow_structure, structures, True, deep=False)


def _map(func, guide, structures, none_is_leaf, deep):
    if not is_nested(guide):
        if deep and any(is_nested(s) for s in structures):
            raise ValueError("Structures don't have the same nested structure: a leaf against a container.")
        if guide is None and not none_is_leaf:
            return None
        return func(*structures)
    for other in structures:
        if found := _mismatch(guide, other):
            raise ValueError(f"Structures don't have the same nested structure: {found}.")
    keys = [key for key, _ in _items(guide)]
    return _rebuild(
        guide, [_map(func, guide[k], [s[k] for s in structures], none_is_leaf, deep) for k in keys]
    )


def assert_same_structure(a, b):
    """Raises `ValueError` unless `a` and `b` have the same containers, keys and lengths."""
    map_structure(lambda *_: None, a, b)


def assert_same_paths(a, b):
    """Raises `ValueError` unless the leaves of `a` and `b` have the same paths (a list and a tuple are
    alike).
    """
    paths_a, paths_b = ({path for path, _ in flatten_with_path(s)} for s in (a, b))
    if paths_a != paths_b:
        raise ValueError(
            "`a` and `b` don't have the same paths.\n"
            f"Only in `a`: {sorted(map(str, paths_a - paths_b))}\nOnly in `b`: "
            f"{sorted(map(str, paths_b - paths_a))}"
        )


def pack_sequence_as(structure, flat_sequence):
    """Puts the leaves `flat_sequence` into a structure like `structure`. Raises `ValueError` when their
    counts differ.
    """
    leaves = flat_sequence if isinstance(flat_sequence, (list, tuple)) else list(flat_sequence)
    packed, used = _pack(structure, leaves, 0)
    if used != len(leaves):
        raise ValueError(
            f"The structure has {len(flatten(structure))} leaves, but {len(leaves)} values were given."
        )
    return packed


def _pack(structure, leaves, used):
    """`structure` filled with `leaves` from position `used` on, and the position after the last one taken."""
    if not is_nested(structure):
        return leaves[used] if used < len(leaves) else None, used + 1
    children = []
    for _, child in _items(structure):
        packed, used = _pack(child, leaves, used)
        children.append(packed)
    return _rebuild(structure, children), used


def traverse(func, structure, top_down=True):
    """Calls `func` on every node; a value other than `None` replaces the node (`MAP_TO_NONE` puts `None`
    there).
    """

    def children(node):
        return (
            _rebuild(node, [traverse(func, c, top_down) for _, c in _items(node)])
            if is_nested(node)
            else node
        )

    if top_down:
        result = func(structure)
        if result is None:
            return children(structure)
    else:
        visited = children(structure)
        result = func(visited)
        if result is None:
            return visited
    return None if result is MAP_TO_NONE else result


def lists_to_tuples(structure):
    """The same structure with a tuple for every list."""
    return traverse(lambda node: tuple(node) if isinstance(node, list) else None, structure, top_down=False)


def map_shape_structure(func, structure):
    """`map_structure` where a list or tuple of integers and `None`s (a shape) is a leaf."""
    if isinstance(structure, (list, tuple)) and all(isinstance(d, int) or d is None for d in structure):
        return func(structure)
    if not is_nested(structure):
        return func(structure)
    return _rebuild(structure, [map_shape_structure(func, child) for _, child in _items(structure)])
