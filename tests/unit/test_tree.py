"""Nested structures."""

from collections import OrderedDict, namedtuple

import pytest

from lamina import tree

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("structure", "leaves"),
    [
        (1, [1]),
        (None, [None]),
        ([], []),
        ([1, (2, {"b": 4, "a": 3})], [1, 2, 3, 4]),
        (OrderedDict(b=1, a=2), [1, 2]),
        (Point(1, [2, None]), [1, 2, None]),
        ({1: "one", "two": 2}, ["one", 2]),
    ],
)
def test_flatten_and_pack(structure, leaves):
    assert tree.flatten(structure) == leaves
    packed = tree.pack_sequence_as(structure, leaves)
    assert packed == structure
    assert type(packed) is type(structure)


def test_paths():
    assert tree.flatten_with_path({"a": [1, 2], "b": 3}) == [(("a", 0), 1), (("a", 1), 2), (("b",), 3)]


def test_map_keeps_the_order_in_which_a_dict_was_filled():
    assert list(tree.map_structure(lambda x: -x, {"b": 1, "a": 2}).items()) == [("b", -1), ("a", -2)]


def test_map_over_several():
    assert tree.map_structure(lambda a, b: a + b, Point(1, (2,)), Point(10, (20,))) == Point(11, (22,))
    assert tree.map_structure(lambda a: a + 1, [1, None], none_is_leaf=False) == [2, None]


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([1], (1,)), ({"a": 1}, {"b": 1}), ([1], 1), (1, [1])])
def test_structures_that_differ(a, b):
    with pytest.raises(ValueError, match="same nested structure"):
        tree.assert_same_structure(a, b)


def test_map_up_to_a_shallow_structure():
    assert tree.map_structure_up_to([0, 0], lambda x: x, [[1, 2], {"a": 3}]) == [[1, 2], {"a": 3}]
    with pytest.raises(ValueError, match="same nested structure"):
        tree.map_structure_up_to([0, 0], lambda x: x, [1])


def test_paths_ignore_the_kind_of_sequence():
    tree.assert_same_paths([1, (2,)], (3, [4]))
    with pytest.raises(ValueError, match="same paths"):
        tree.assert_same_paths([1], [1, 2])


def test_packing_the_wrong_number():
    with pytest.raises(ValueError, match="2 leaves, but 1"):
        tree.pack_sequence_as([0, 0], [1])


def test_traverse():
    assert tree.traverse(lambda x: x + 1 if isinstance(x, int) else None, [1, {"a": 2}]) == [2, {"a": 3}]
    assert tree.traverse(lambda x: tree.MAP_TO_NONE if x == 1 else None, [1, 2]) == [None, 2]
    assert tree.lists_to_tuples([1, {"a": [2]}]) == (1, {"a": (2,)})


def test_shapes_are_leaves():
    assert tree.map_shape_structure(len, {"a": (None, 3), "b": [(2,), [4, 5, 6]]}) == {"a": 2, "b": [1, 3]}
