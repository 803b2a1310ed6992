"""Callbacks that record or show what happens."""

import csv
import os

import numpy as np

from lamina.callbacks.callback import Callback
from lamina.trainers.logs import pythonify_logs
from lamina.utils.io_utils import print_msg
from lamina.utils.progbar import Progbar


class History(Callback):
    """Records the results of each epoch. `fit` makes one and returns it.

    Attributes:
        epoch: the indices of the epochs run.
        history: dict from the name of a metric to its values, one per epoch.
    """

    def __init__(self):
        super().__init__()
        self.history = {}
        self.epoch = []

    def on_train_begin(self, logs=None):
        self.epoch = []

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class ProgbarLogger(Callback):
    """Shows the progress bar of `fit`, `evaluate` and `predict`. They add one unless `verbose=0`."""

    lazy_logs = True

    def __init__(self):
        super().__init__()
        self.progbar = None
        self.target = None
        self.verbose, self.epochs = 1, 1
        self._seen = 0
        self._in_fit = False

    def set_params(self, params):
        self.params = params
        self.verbose = 1 if params["verbose"] == "auto" else int(params["verbose"])
        self.epochs, self.target = params["epochs"], params["steps"]

    def on_train_begin(self, logs=None):
        self._in_fit = True  # validation inside `fit` is silent

    def on_epoch_begin(self, epoch, logs=None):
        if self.verbose and self.epochs > 1:
            print_msg(f"Epoch {epoch + 1}/{self.epochs}")
        self._start()

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            self._start()

    def on_predict_begin(self, logs=None):
        self._start()

    def on_train_batch_end(self, batch, logs=None):
        self._update(batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        if not self._in_fit:
            self._update(batch, logs)

    def on_predict_batch_end(self, batch, logs=None):
        self._update(batch, None)

    def on_epoch_end(self, epoch, logs=None):
        self._finish(logs)

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._finish(logs)

    def on_predict_end(self, logs=None):
        self._finish(None)

    def on_train_end(self, logs=None):
        self._in_fit = False

    def _start(self):
        self._seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose, stateless_metrics=())

    def _update(self, batch, logs):
        self._seen = batch + 1 if self.target is None else min(batch + 1, self.target)
        if self.progbar.due():
            self.progbar.update(self._seen, pythonify_logs(logs).items(), finalize=False)
        else:
            self.progbar.tick(self._seen)

    def _finish(self, logs):
        if self.target is None:  # now the length of an epoch is known
            self.target = self.progbar.target = self._seen
        self.progbar.update(self._seen or self.target, pythonify_logs(logs).items(), finalize=True)


class CSVLogger(Callback):
    """Writes the results of each epoch to a CSV file.

    Args:
        filename: where to write.
        separator: what separates the columns.
        append: go on in an existing file instead of overwriting it.
    """

    def __init__(self, filename, separator=",", append=False):
        super().__init__()
        self.filename, self.sep, self.append = os.fspath(filename), separator, append
        self.csv_file = self.writer = self.keys = None

    def on_train_begin(self, logs=None):
        self.on_train_end()
        self._with_header = not (
            self.append and os.path.exists(self.filename) and os.path.getsize(self.filename)
        )
        # Stays open between epochs; `on_train_end` closes it.
        self.csv_file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115
        self.writer = self.keys = None

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self.writer is None:
            self.keys = sorted(logs)
            if self.keys and not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]  # validation may start in a later epoch
            self.writer = csv.DictWriter(self.csv_file, ["epoch", *self.keys], delimiter=self.sep)
            if self._with_header:
                self.writer.writeheader()
        self.writer.writerow({"epoch": epoch, **{key: self._cell(logs.get(key, "NA")) for key in self.keys}})
        self.csv_file.flush()

    @staticmethod
    def _cell(value):
        if isinstance(value, (list, tuple)) or np.ndim(value) > 0:
            return f'"[{", ".join(map(str, value))}]"'
        return value

    def on_train_end(self, logs=None):
        if self.csv_file is not None:
            self.csv_file.close()
        self.csv_file = self.writer = None


class LambdaCallback(Callback):
    """A callback made of functions: any hook of `Callback` by its name.

    `on_epoch_begin` and `on_epoch_end` get `(epoch, logs)`, the batch hooks `(batch, logs)`, the others
    `(logs)`.

    Example: `LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))`
    """

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        **kwargs,
    ):
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        self.__dict__.update(
            {name: function for name, function in given.items() if function is not None}, **kwargs
        )
