"""Data sources: anything a user may give to `fit`, `evaluate` or `predict`, as batches of numpy arrays.

A source has `num_batches` (None when unknown), `restartable` (can it be walked again), `peek()` (a batch to
build the model on, which consumes nothing) and `__iter__`, which yields the batches of one walk as `x`,
`(x,)`, `(x, y)` or `(x, y, sample_weight)`: what `train_step` gets. `Epochs` cuts the walks into epochs.
"""

import itertools
import math

import numpy as np

from lamina import tree
from lamina.engine.tracebacks import warn
from lamina.trainers import arrays
from lamina.trainers.py_dataset import PyDataset

_END = object()


def pack_x_y_sample_weight(x, y=None, sample_weight=None):
    """`x`, `(x, y)` or `(x, y, sample_weight)`: what `fit` hands to `train_step`. A list or tuple `x` alone
    becomes `(x,)`.
    """
    if y is None:
        return (x,) if isinstance(x, (list, tuple)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def unpack_x_y_sample_weight(data):
    """`(x, y, sample_weight)` from what `train_step` gets, with `None` for what is missing.

    Example: `x, y, sample_weight = lamina.utils.unpack_x_y_sample_weight(data)`
    """
    if not isinstance(data, (tuple, list)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "Data is expected to be in format `x`, `(x,)`, `(x, y)`, or `(x, y, sample_weight)`, "
            f"found a {type(data).__name__} of {len(data)} values."
        )
    return (*data, *(None,) * (3 - len(data)))


class ArraySource:
    """Arrays in memory, cut into batches; the last one may be shorter. Without samples: one empty batch."""

    restartable = True

    def __init__(
        self, x, y, sample_weight, batch_size=None, steps=None, shuffle=False, class_weight=None, inputs=1
    ):
        x = arrays.standardize(x, "x", inputs)
        y = arrays.standardize(y, "y")
        sample_weight = arrays.match_sample_weight(y, arrays.standardize(sample_weight, "sample_weight"))
        self.num_samples = arrays.check_cardinality(x, y, sample_weight)
        if class_weight is not None:
            _refuse_both_weights(sample_weight)
            sample_weight = arrays.class_weight_to_sample_weights(y, class_weight)
        self.batch = pack_x_y_sample_weight(x, y, sample_weight)
        self._leaves = [(a, None if a is None else arrays.target_dtype(a)) for a in tree.flatten(self.batch)]
        self._flat = isinstance(self.batch, tuple) and len(self._leaves) == len(self.batch)
        if batch_size is None:
            batch_size = math.ceil(self.num_samples / steps) if steps else 32
        if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
            raise ValueError(f"`batch_size` should be a positive integer. Received: {batch_size!r}")
        # Looking at every value beforehand would read a file of any size one more time.
        self.on_disk = any(isinstance(a, np.memmap) for a, _ in self._leaves)
        self.batch_size, self.shuffle = int(batch_size), shuffle
        self.num_batches = max(1, math.ceil(self.num_samples / self.batch_size))

    def _rows(self, rows):
        leaves = [None if a is None else arrays.take(a, rows, dtype) for a, dtype in self._leaves]
        return tuple(leaves) if self._flat else tree.pack_sequence_as(self.batch, leaves)

    def peek(self):
        return self._rows(slice(0, self.batch_size))

    def __iter__(self):
        order = np.random.permutation(self.num_samples) if self.shuffle and self.shuffle != "batch" else None
        for start in range(0, max(1, self.num_samples), self.batch_size):
            stop = min(start + self.batch_size, self.num_samples)
            if order is not None:
                yield self._rows(order[start:stop])
            elif self.shuffle:
                yield self._rows(start + np.random.permutation(stop - start))
            else:
                yield self._rows(slice(start, stop))

    def on_epoch_begin(self):
        pass

    on_epoch_end = on_epoch_begin


class StreamSource:
    """Batches that somebody else makes: a generator, an iterator, or an iterable such as a torch or
    tensorflow loader.
    """

    def __init__(self, batches, class_weight=None, name="The data"):
        self.restartable = not hasattr(batches, "__next__")
        try:
            self.num_batches = len(batches)
        except TypeError:  # no length, or a loader that does not know it
            self.num_batches = None
        self._batches, self._class_weight, self._name = batches, class_weight, name

    def peek(self):
        first = next(iter(self._batches), _END)
        if first is _END:
            raise ValueError(f"{self._name} should yield at least one batch, but it is empty.")
        if not self.restartable:
            self._batches = itertools.chain([first], self._batches)
        return standardize_batch(first, self._class_weight)

    def __iter__(self):
        for batch in self._batches:
            yield standardize_batch(batch, self._class_weight)

    def on_epoch_begin(self):
        pass

    on_epoch_end = on_epoch_begin


class PyDatasetSource:
    """The batches of a `PyDataset`, by index; made ahead by its workers when it has more than one."""

    restartable = True

    def __init__(self, dataset, shuffle=False, class_weight=None):
        self.dataset, self._shuffle, self._class_weight = dataset, shuffle, class_weight
        self.on_epoch_begin, self.on_epoch_end = dataset.on_epoch_begin, dataset.on_epoch_end
        if self.num_batches == 0:
            raise ValueError("The PyDataset has length 0: it should have at least one batch.")

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def peek(self):
        return standardize_batch(self.dataset[0], self._class_weight)

    def __iter__(self):
        for batch in self.dataset.iterate(self._shuffle):
            yield standardize_batch(batch, self._class_weight)


def standardize_batch(batch, class_weight=None):
    """A batch as yielded by a user's source, with arrays at its leaves and its counts checked."""
    if isinstance(batch, list):
        batch = tuple(batch)
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    x, y, sample_weight = (
        tree.map_structure(_cast, arrays.standardize(part, name), none_is_leaf=False)
        for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
    )
    sample_weight = arrays.match_sample_weight(y, sample_weight)
    arrays.check_cardinality(x, y, sample_weight)
    if class_weight is not None:
        _refuse_both_weights(sample_weight)
        sample_weight = arrays.class_weight_to_sample_weights(y, class_weight)
        return x, y, sample_weight
    return (x, y, sample_weight)[: len(batch)] if isinstance(batch, tuple) else x


def _cast(array):
    return arrays.take(array, slice(None), arrays.target_dtype(array))


def _refuse_both_weights(sample_weight):
    if sample_weight is not None:
        raise ValueError("You cannot use `class_weight` and `sample_weight` at the same time.")


def make_source(
    x, y=None, sample_weight=None, batch_size=None, steps=None, shuffle=False, class_weight=None, inputs=1
):
    """The source for what the user gave; `inputs` is the number of inputs of the model."""
    if x is not None and not isinstance(x, PyDataset) and arrays.is_arrays(x):
        return ArraySource(x, y, sample_weight, batch_size, steps, shuffle, class_weight, inputs)
    kind = type(x).__name__
    for name, value, what in (
        ("y", y, "the targets"),
        ("sample_weight", sample_weight, "the sample weights"),
    ):
        if value is not None and x is not None:
            raise ValueError(
                f"When providing `x` as a {kind}, `{name}` should not be passed. Instead, {what} should be "
                f"included as part of the {kind}."
            )
    if isinstance(x, PyDataset):
        return PyDatasetSource(x, shuffle, class_weight)
    if hasattr(x, "__iter__") and not isinstance(x, (set, frozenset)):
        return StreamSource(x, class_weight, f"The {kind}")
    raise ValueError(f"Unrecognized data type: x={x!r:.100} (of type {type(x)})")


class Epochs:
    """The batches of one epoch each time it is iterated.

    Without `steps`, an epoch is one walk over the source. With `steps`, it is that many batches, and the next
    epoch goes on where the last one stopped; a restartable source starts again when it has been walked to its
    end.
    """

    def __init__(self, source, steps=None):
        if steps is not None and (isinstance(steps, bool) or int(steps) != steps or steps < 1):
            raise ValueError(f"The number of steps should be a positive integer. Received: {steps!r}")
        self.source, self.steps = source, steps
        self._counted = None
        self._walk = None

    @property
    def num_batches(self):
        """Batches per epoch, or None before an epoch of unknown length has been seen."""
        return self.steps or self.source.num_batches or self._counted

    def peek(self):
        return self.source.peek()

    def _next(self, first):
        if self._walk is None:
            self._walk = iter(self.source)
        batch = next(self._walk, _END)
        if batch is _END and first and self.source.restartable:
            self._walk = iter(self.source)
            batch = next(self._walk, _END)
        return batch

    def __iter__(self):
        self.source.on_epoch_begin()
        done = 0
        try:
            while self.steps is None or done < self.steps:
                batch = self._next(first=done == 0)
                if batch is _END:
                    self._walk = None
                    if self.steps is not None or done == 0:
                        warn(
                            "Your input ran out of data; interrupting training. Make sure that your "
                            "dataset or generator can generate at least `steps_per_epoch * epochs` "
                            "batches. You may "
                            "need to use the `.repeat()` function when building your dataset.",
                        )
                    else:
                        self._counted = done
                    return
                done += 1
                yield batch
        finally:
            if self.steps is None:
                self._walk = None
            self.source.on_epoch_end()
