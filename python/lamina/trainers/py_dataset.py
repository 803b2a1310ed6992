"""`PyDataset`: batches made by Python code, by index, optionally ahead of time by threads or processes."""

import collections
import itertools
import random

_shared = None  # the dataset, in a worker process


def _adopt(dataset):
    global _shared
    _shared = dataset


def _fetch(index):
    return _shared[index]


class PyDataset:
    """Base class of datasets written in Python: `__getitem__(index)` returns a whole batch.

    A batch is `(x,)`, `(x, y)`, `(x, y, sample_weight)` or a dict of inputs. `__len__` (or the property
    `num_batches`, which may be None for an endless dataset) gives the number of batches. `on_epoch_begin` and
    `on_epoch_end` may be overridden. `fit(shuffle=True)` shuffles the order of the batches.

    Args:
        workers: how many threads (or processes) make batches ahead; with 1 thread, none is made ahead.
        use_multiprocessing: use processes; the dataset is pickled once for each.
        max_queue_size: how many batches may wait.

    Example:

        class Images(lamina.utils.PyDataset):
            def __init__(self, files, labels, **kwargs):
                super().__init__(**kwargs)
                self.files, self.labels = files, labels
            def __len__(self):
                return math.ceil(len(self.files) / 32)
            def __getitem__(self, index):
                part = slice(32 * index, 32 * (index + 1))
                return np.stack([read(f) for f in self.files[part]]), self.labels[part]
    """

    # On the class, so that a subclass which does not call `super().__init__()` works too.
    workers = 1
    use_multiprocessing = False
    max_queue_size = 10

    def __init__(self, workers=1, use_multiprocessing=False, max_queue_size=10):
        self.workers, self.use_multiprocessing = workers, use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index):
        raise NotImplementedError(
            f"{type(self).__name__} should implement `__getitem__(index)`: it returns a batch."
        )

    @property
    def num_batches(self):
        """Number of batches; None when endless."""
        if hasattr(self, "__len__"):
            return len(self)
        raise NotImplementedError(
            f"{type(self).__name__} should implement `__len__` or the property `num_batches`."
        )

    def on_epoch_begin(self):
        """Called at the start of every epoch."""

    def on_epoch_end(self):
        """Called at the end of every epoch."""

    def __iter__(self):
        return (self[index] for index in self._indices(False))

    def _indices(self, shuffle):
        if self.num_batches is None:
            return itertools.count()
        indices = list(range(self.num_batches))
        if shuffle:
            random.shuffle(indices)
        return indices

    def iterate(self, shuffle=False):
        """The batches in order (or in a random order), made ahead by the workers."""
        indices = self._indices(shuffle)
        if self.workers < 1 or (self.workers == 1 and not self.use_multiprocessing):
            return (self[index] for index in indices)
        return self._ahead(indices)

    def _ahead(self, indices):
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        if self.use_multiprocessing:
            pool, fetch = ProcessPoolExecutor(self.workers, initializer=_adopt, initargs=(self,)), _fetch
        else:
            pool, fetch = ThreadPoolExecutor(self.workers), self.__getitem__
        try:
            indices = iter(indices)
            waiting = collections.deque(
                pool.submit(fetch, i) for i in itertools.islice(indices, max(1, self.max_queue_size))
            )
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(fetch, i) for i in itertools.islice(indices, 1))
                yield batch
        finally:
            pool.shutdown(wait=not self.use_multiprocessing, cancel_futures=True)
