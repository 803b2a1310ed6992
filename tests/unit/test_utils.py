"""Helpers for preparing data."""

import random

import numpy as np
import pytest

import lamina
from lamina import utils


def test_to_categorical():
    np.testing.assert_array_equal(utils.to_categorical([0, 2, 1]), np.eye(3)[[0, 2, 1]])
    assert utils.to_categorical([[0], [1]], 4).shape == (2, 4)
    assert utils.to_categorical([[0, 1], [1, 1]]).shape == (2, 2, 2)
    assert utils.to_categorical([1.0]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("x", "classes", "message"),
    [
        ([0, 3], 3, r"Label 3 at position \[1\] is outside \[0, 3\)"),
        ([-1], None, "Label -1"),
        ([0.5], None, "class indices"),
    ],
)
def test_to_categorical_refuses_what_is_no_label(x, classes, message):
    with pytest.raises(ValueError, match=message):
        utils.to_categorical(x, classes)


def test_to_categorical_of_a_tensor_is_a_tensor():
    rows = utils.to_categorical(lamina.ops.convert_to_tensor([1, 0]), 3)
    assert lamina.ops.is_tensor(rows)
    assert np.asarray(rows).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_normalize():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(utils.normalize(x, axis=0, order=1), [[1, 1], [0, 0]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0, 0, 1], [2, 3, 4]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 4]]),
        ({"maxlen": 2}, [[0, 1], [3, 4]]),
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3]]),
        ({"value": 9}, [[9, 9, 1], [2, 3, 4]]),
    ],
)
def test_pad_sequences(options, expected):
    assert utils.pad_sequences([[1], [2, 3, 4]], **options).tolist() == expected


def test_pad_sequences_of_vectors_and_of_nothing():
    assert utils.pad_sequences([[], [[1, 2], [3, 4]]]).tolist() == [[[0, 0], [0, 0]], [[1, 2], [3, 4]]]
    assert utils.pad_sequences([]).shape == (0, 0)
    with pytest.raises(ValueError, match="padding"):
        utils.pad_sequences([[1]], padding="left")
    with pytest.raises(ValueError, match="entry 0 is 3"):
        utils.pad_sequences([3])
    with pytest.raises(ValueError, match="Entries of sequence 1"):
        utils.pad_sequences([[[1, 2]], [[1, 2, 3]]])


def test_the_seed_fixes_python_numpy_and_lamina():
    def draw():
        utils.set_random_seed(5)
        return random.random(), np.random.rand(), float(lamina.random.uniform(()))

    assert draw() == draw()
    with pytest.raises(ValueError, match="integer"):
        utils.set_random_seed("5")


def test_public_names_are_found():
    for name in utils.__all__:
        assert getattr(utils, name) is not None
    assert utils.Sequence is utils.PyDataset
    with pytest.raises(AttributeError, match="no attribute 'to_categoricl'"):
        getattr(utils, "to_categoric" + "l")


def test_source_inputs_are_found_once_and_in_order():
    a, b = lamina.Input((2,), name="a"), lamina.Input((2,), name="b")
    shared = a + b
    assert [x.name for x in utils.get_source_inputs(shared * (shared + a))] == ["a", "b"]
    assert utils.get_source_inputs(b)[0] is b
