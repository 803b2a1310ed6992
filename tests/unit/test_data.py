"""Arrays, generators, datasets: what `fit` takes, and how it is cut into batches."""

import random

import numpy as np
import pytest

from lamina.trainers import arrays
from lamina.trainers.data import (
    ArraySource,
    Epochs,
    PyDatasetSource,
    StreamSource,
    make_source,
    pack_x_y_sample_weight,
    unpack_x_y_sample_weight,
)
from lamina.trainers.py_dataset import PyDataset

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


def sizes(batches):
    return [len(batch[0]) for batch in batches]


# ------------------------------------------------------------------------------------------- arrays


def test_batches_are_in_order_and_the_last_may_be_smaller():
    batches = list(make_source(X, Y, batch_size=4))
    assert sizes(batches) == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), X)
    np.testing.assert_array_equal(np.concatenate([b[1] for b in batches]), Y)


def test_a_batch_in_order_is_a_view_and_not_a_copy():
    batch = next(iter(make_source(X, Y, batch_size=4)))
    assert np.shares_memory(batch[0], X)


def test_shuffling_keeps_pairs_together_and_follows_the_seed():
    def walk():
        np.random.seed(3)
        return list(make_source(X, Y, batch_size=4, shuffle=True))

    first, second = walk(), walk()
    x, y = (np.concatenate([b[i] for b in first]) for i in (0, 1))
    assert not np.array_equal(y, Y)
    np.testing.assert_array_equal(np.sort(y), Y)
    np.testing.assert_array_equal(x[:, 0], 2 * y)
    np.testing.assert_array_equal(y, np.concatenate([b[1] for b in second]))


def test_each_walk_has_an_order_of_its_own():
    source = make_source(X, Y, batch_size=10, shuffle=True)
    assert not np.array_equal(next(iter(source))[1], next(iter(source))[1])


def test_shuffling_within_batches_keeps_each_batch():
    batches = list(make_source(X, Y, batch_size=5, shuffle="batch"))
    assert [sorted(b[1]) for b in batches] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_the_batch_size_follows_from_the_steps():
    assert sizes(make_source(X, Y, steps=3)) == [4, 4, 2]


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8"])
def test_a_bad_batch_size_is_refused(size):
    with pytest.raises(ValueError, match=r"batch_size|invalid literal"):
        make_source(X, Y, batch_size=size)


def test_no_samples_make_one_empty_batch():
    source = make_source(X[:0])
    assert source.num_samples == 0
    assert [b.shape for b in source] == [(0, 2)]


@pytest.mark.parametrize(
    ("x", "y", "w", "expected"),
    [
        (X, None, None, "array"),
        ([X, X], None, None, 1),
        (X, Y, None, 2),
        (X, Y, np.ones(10), 3),
        ({"a": X}, Y, None, 2),
    ],
)
def test_a_batch_has_the_form_that_train_step_gets(x, y, w, expected):
    batch = next(iter(make_source(x, y, w)))
    assert batch.shape == (10, 2) if expected == "array" else len(batch) == expected


def test_nested_inputs_keep_their_structure():
    batch = next(iter(make_source({"a": X, "b": [X, X]}, {"out": Y}, batch_size=4)))
    assert set(batch[0]) == {"a", "b"}
    assert [len(a) for a in batch[0]["b"]] == [4, 4]
    assert batch[1]["out"].tolist() == [0, 1, 2, 3]


def test_floats_become_floatx_and_integers_stay():
    x, y = next(iter(make_source(X.astype("float64"), Y.astype("uint8"))))
    assert (x.dtype, y.dtype) == ("float32", "uint8")
    assert next(iter(make_source(Y.astype("uint16")))).dtype == "int32"
    assert next(iter(make_source(X.astype(">f4")))).dtype == np.dtype("float32")


def test_lists_of_numbers_are_arrays():
    x, y = next(iter(make_source([[1, 2], [3, 4], [5, 6]], [0, 1, 0])))
    assert x.shape == (3, 2)
    assert y.tolist() == [0, 1, 0]


def test_a_list_of_lists_is_several_inputs_for_a_model_of_several():
    ((a, b),) = next(iter(make_source([[[1], [2], [3]], [[4], [5], [6]]], inputs=2)))
    assert a.tolist() == [[1], [2], [3]]
    assert b.tolist() == [[4], [5], [6]]


class Frame:
    """What of a pandas frame is used."""

    def __init__(self, values, columns):
        self._values, self.columns, self.shape = np.array(values, dtype=object), columns, np.shape(values)

    def to_numpy(self):
        return self._values

    def __array__(self, dtype=None, copy=None):
        return self._values


def test_a_frame_of_numbers_is_an_array():
    x = next(iter(make_source(Frame([[1, 2.5], [3, 4]], ["a", "b"]))))
    assert x.dtype == "float32"
    assert x.tolist() == [[1, 2.5], [3, 4]]


def test_a_frame_with_text_names_the_first_bad_value():
    with pytest.raises(ValueError, match=r"position \(1, 0\), column 'size' is 'large'"):
        make_source(Frame([[1, 2], ["large", 4]], ["size", "price"]))


def test_a_hole_in_the_data_is_said_and_not_trained_on():
    with pytest.raises(ValueError, match=r"position \(1, 1\) is None"):
        make_source(np.array([[1, 2], [3, None]], dtype=object))


def test_text_names_the_first_bad_value():
    with pytest.raises(ValueError, match=r"`y` should hold numbers, but position \(0,\) is .*'cat'"):
        make_source(X, np.array(["cat", "dog"] * 5))


def test_numbers_among_objects_are_read():
    assert next(iter(make_source(np.array([[1, 2.5], [True, 4]], dtype=object)))).dtype == "float32"


def test_ragged_lists_name_the_row_and_the_lengths():
    with pytest.raises(ValueError, match=r"ragged.*row 0 has length 2, row 1 has length 3.*pad_sequences"):
        make_source([[1, 2], [3, 4, 5]])


def test_a_scalar_has_no_batch_axis():
    with pytest.raises(ValueError, match="batch axis"):
        make_source(np.float32(3))


def test_dates_are_refused():
    with pytest.raises(ValueError, match="datetime64"):
        make_source(np.array(["2020-01-01"] * 3, dtype="datetime64[D]"))


@pytest.mark.parametrize("x", [{1, 2}, 3 + 4j, object()])
def test_unknown_data_is_refused(x):
    with pytest.raises((ValueError, TypeError)):
        make_source(x)


def test_counts_that_differ_are_all_named():
    with pytest.raises(ValueError, match=r"(?s)cardinality.*'x' sizes: 10, 7.*'y' sizes: 9"):
        make_source([X, X[:7]], Y[:9])


def test_sparse_matrices_are_made_dense_by_batch():
    class Csr:
        def __init__(self, values):
            self.values, self.shape, self.dtype = values, values.shape, values.dtype

        def tocsr(self):
            return self

        def toarray(self):
            return self.values

        def __getitem__(self, rows):
            return Csr(self.values[rows])

    batches = list(make_source(Csr(X), Y, batch_size=4, shuffle=True))
    assert all(type(b[0]) is np.ndarray for b in batches)
    np.testing.assert_array_equal(
        np.concatenate([b[0] for b in batches])[:, 0] / 2, np.concatenate([b[1] for b in batches])
    )


# ------------------------------------------------------------------------------------------ weights


def test_class_weights_become_sample_weights():
    y = np.array([0, 2, 1, 2])
    assert arrays.class_weight_to_sample_weights(y, {0: 0.5, 2: 3.0}).tolist() == [0.5, 3.0, 1.0, 3.0]
    assert arrays.class_weight_to_sample_weights(y[:, None], {2: 3.0}).tolist() == [1.0, 3.0, 1.0, 3.0]
    assert arrays.class_weight_to_sample_weights(np.eye(3)[y], {2: 3.0}).tolist() == [1.0, 3.0, 1.0, 3.0]


def test_class_weight_reaches_every_kind_of_source():
    weight = {3: 7.0}
    for source in (
        make_source(X, Y, class_weight=weight),
        make_source(((X, Y) for _ in range(1)), class_weight=weight),
        make_source(Pairs(1), class_weight=weight),
    ):
        assert next(iter(source))[2].tolist() == [1, 1, 1, 7, 1, 1, 1, 1, 1, 1]


def test_class_and_sample_weight_exclude_each_other():
    with pytest.raises(ValueError, match="at the same time"):
        make_source(X, Y, np.ones(10), class_weight={0: 1})


def test_class_weight_needs_one_output():
    with pytest.raises(ValueError, match="single output"):
        make_source(X, [Y, Y], class_weight={0: 1})


def test_one_sample_weight_stands_for_all_outputs():
    w = np.linspace(0, 1, 10).astype("float32")
    _, _, (a, b) = next(iter(make_source(X, [Y, Y], w)))
    assert a.tolist() == b.tolist() == w.tolist()
    with pytest.raises(ValueError, match="one weight per sample"):
        make_source(X, [Y, Y], np.ones((10, 3)))
    with pytest.raises(ValueError, match="one array per output"):
        make_source(X, [Y, Y], [w, w, w])


# -------------------------------------------------------------------------------------------- split


def test_the_last_samples_are_for_validation():
    (x, y, w), (vx, vy, vw) = arrays.train_validation_split((X, Y, None), 0.2)
    assert (len(x), len(vx)) == (8, 2)
    assert y.tolist() == list(range(8))
    assert vy.tolist() == [8, 9]
    assert w is None
    assert vw is None


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="1 samples, which is not sufficient to split"):
        arrays.train_validation_split((X[:1], Y[:1], None), 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2])
def test_a_split_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        arrays.train_validation_split((X, Y, None), fraction)


def test_a_generator_cannot_be_split():
    with pytest.raises(ValueError, match="validation_data"):
        arrays.train_validation_split((iter([]), None, None), 0.5)


# ----------------------------------------------------------------------------------- generators and
# datasets


class Pairs(PyDataset):
    """Batches (X, Y) with the index added to Y."""

    def __init__(self, count=3, **kwargs):
        super().__init__(**kwargs)
        self.count, self.events = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return X, Y + index

    def on_epoch_begin(self):
        self.events.append("begin")

    def on_epoch_end(self):
        self.events.append("end")


def generate(count):
    for i in range(count):
        yield X, Y + i


def firsts(batches):
    return [int(batch[1][0]) for batch in batches]


def test_peeking_at_a_generator_consumes_nothing():
    epochs = Epochs(make_source(generate(3)))
    assert epochs.peek()[1][0] == 0
    assert epochs.peek()[1][0] == 0
    assert firsts(epochs) == [0, 1, 2]


def test_steps_cut_a_generator_into_epochs():
    epochs = Epochs(make_source(generate(5)), steps=2)
    assert [firsts(epochs), firsts(epochs)] == [[0, 1], [2, 3]]
    with pytest.warns(UserWarning, match="ran out of data"):
        assert firsts(epochs) == [4]


def test_a_used_up_generator_gives_no_second_epoch():
    epochs = Epochs(make_source(generate(2)))
    assert firsts(epochs) == [0, 1]
    assert epochs.num_batches == 2
    with pytest.warns(UserWarning, match="ran out of data"):
        assert firsts(epochs) == []


def test_arrays_go_on_where_the_last_epoch_stopped_and_start_again():
    epochs = Epochs(make_source(X, Y, batch_size=2), steps=3)
    assert firsts(epochs) == [0, 2, 4]
    with pytest.warns(UserWarning, match="ran out of data"):
        assert firsts(epochs) == [6, 8]
    assert firsts(epochs) == [0, 2, 4]
    epochs = Epochs(make_source(X, Y, batch_size=2), steps=5)
    assert [firsts(epochs) for _ in range(2)] == [[0, 2, 4, 6, 8]] * 2


def test_an_iterable_is_walked_again_each_epoch():
    class Loader:
        def __iter__(self):
            return ([X, Y + i] for i in range(2))

        def __len__(self):
            return 2

    epochs = Epochs(make_source(Loader()))
    assert epochs.num_batches == 2
    assert [firsts(epochs), firsts(epochs)] == [[0, 1], [0, 1]]


def test_an_abandoned_epoch_starts_anew():
    epochs = Epochs(make_source(X, Y, batch_size=2))
    for _ in epochs:
        break
    assert firsts(epochs) == [0, 2, 4, 6, 8]


def test_an_empty_generator_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        Epochs(make_source(generate(0))).peek()


def test_batches_of_a_generator_are_checked():
    with pytest.raises(ValueError, match="cardinality"):
        next(iter(make_source((X, Y[:3]) for _ in range(1))))
    with pytest.raises(ValueError, match="format"):
        next(iter(make_source((X, Y, Y, Y) for _ in range(1))))


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_targets_beside_a_generator_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` should not be passed"):
        make_source(generate(1), **{name: Y})


def test_a_dataset_is_walked_by_index_with_its_hooks():
    dataset = Pairs()
    epochs = Epochs(make_source(dataset))
    assert epochs.num_batches == 3
    assert [firsts(epochs), firsts(epochs)] == [[0, 1, 2]] * 2
    assert dataset.events == ["begin", "end"] * 2


def test_a_dataset_is_shuffled_by_batches():
    random.seed(1)
    order = firsts(PyDatasetSource(Pairs(20), shuffle=True))
    assert order != list(range(20))
    assert sorted(order) == list(range(20))


@pytest.mark.parametrize("processes", [False, True])
def test_workers_keep_the_order(processes):
    dataset = Pairs(12, workers=2, use_multiprocessing=processes, max_queue_size=4)
    assert firsts(PyDatasetSource(dataset)) == list(range(12))


def test_an_endless_dataset_needs_steps():
    class Endless(Pairs):
        num_batches = None

    epochs = Epochs(make_source(Endless(workers=2)), steps=3)
    assert [firsts(epochs), firsts(epochs)] == [[0, 1, 2], [3, 4, 5]]


def test_a_dataset_that_forgets_super_init_works():
    class Forgetful(PyDataset):
        def __init__(self):
            pass

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return X, Y

    assert firsts(make_source(Forgetful())) == [0]


def test_an_empty_dataset_and_an_unfinished_one_say_so():
    with pytest.raises(ValueError, match="length 0"):
        make_source(Pairs(0))
    with pytest.raises(NotImplementedError, match="__len__"):
        make_source(PyDataset())


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="number of steps"):
        Epochs(StreamSource(iter([])), steps)


# ------------------------------------------------------------------------------------------ packing


def test_packing_and_unpacking():
    assert pack_x_y_sample_weight(1) == 1
    assert pack_x_y_sample_weight([1, 2]) == ([1, 2],)
    assert pack_x_y_sample_weight(1, 2) == (1, 2)
    assert pack_x_y_sample_weight(1, 2, 3) == (1, 2, 3)
    assert unpack_x_y_sample_weight("x") == ("x", None, None)
    assert unpack_x_y_sample_weight([1, 2]) == (1, 2, None)
    assert unpack_x_y_sample_weight((1, 2, 3)) == (1, 2, 3)
    with pytest.raises(ValueError, match="format"):
        unpack_x_y_sample_weight((1, 2, 3, 4))


def test_array_source_is_what_arrays_get():
    assert isinstance(make_source(X), ArraySource)
