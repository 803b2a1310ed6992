"""`Loops`: fit, evaluate, predict and their one-batch forms, over the steps of a `Trainer`."""

from contextlib import suppress

import numpy as np

from lamina import tree
from lamina.engine.tracebacks import boundary
from lamina.trainers import checks
from lamina.trainers.arrays import standardize, train_validation_split
from lamina.trainers.building import build_on
from lamina.trainers.data import ArraySource, Epochs, make_source, standardize_batch, unpack_x_y_sample_weight
from lamina.trainers.logs import one_or_all, pythonify_logs
from lamina.trainers.shortcuts import PredictShortcut, StepShortcut, fresh_step


class Loops:
    """The loops over batches. A `Trainer` says what a step is."""

    @boundary
    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """Trains for a number of epochs. Returns a `History`.

        Args:
            x: inputs: an array, a list or dict of arrays for several inputs, or a source of batches `(x,
                y)` or `(x, y, sample_weight)`: a generator, a `PyDataset`, a torch or tensorflow loader.
            y: targets; not with a source of batches.
            batch_size: samples per step, 32 by default; the last batch of an epoch may be smaller.
            epochs: index of the epoch to end before (counted from `initial_epoch`).
            verbose: 0 silent, 1 (or "auto") progress bar, 2 a line per epoch.
            callbacks: a list of `Callback`s.
            validation_split: the last part of the arrays, between 0 and 1, that is evaluated and not
                trained on.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or a source of batches to evaluate after
                each epoch.
            shuffle: a new order of the samples in each epoch (of the batches of a `PyDataset`); "batch"
                shuffles within each batch.
            class_weight: dict from class index to the weight of its samples.
            sample_weight: one weight per sample.
            steps_per_epoch, validation_steps: batches per epoch; needed for endless sources.
            validation_batch_size: default: `batch_size`.
            validation_freq: evaluate every so many epochs, or a list of epochs (from 1).

        Ctrl-C stops after the current step and leaves the model as it is then.

        Raises, before the first step: `ShapeError` where data, targets and outputs do not fit, `DataError`
        for NaN, labels without a class and ids outside an embedding; see `lamina.check`.
        """
        self._assert_compile_called("fit")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = train_validation_split(
                (x, y, sample_weight), validation_split
            )
        training = _make_epochs(
            self, x, y, sample_weight, batch_size, steps_per_epoch, shuffle=shuffle, class_weight=class_weight
        )
        _refuse_empty(training, "fit")
        validation = None
        if validation_data is not None:
            _check_validation_freq(validation_freq)
            parts = unpack_x_y_sample_weight(validation_data)
            validation = _make_epochs(self, *parts, validation_batch_size or batch_size, validation_steps)
            _refuse_empty(validation, "validation")
        prepare(self, self.make_train_function(), training)
        check = _data_check(self, training)
        self._advise()
        if validation is not None:
            prepare(self, self.make_test_function(), validation)
            validation_check = _data_check(self, validation)
        callbacks = _listeners(self, callbacks, verbose, epochs, training.num_batches, add_history=True)
        self._set_training(stop_training=False)
        callbacks.on_train_begin()
        epoch_logs = {}
        try:
            for epoch in range(self._initial_epoch or initial_epoch, epochs):
                self.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                logs = _run_epoch(self, training, self.make_train_function(), callbacks, "train", check)
                if logs is None:  # the source is used up
                    break
                epoch_logs = dict(logs)
                if validation is not None and _is_due(epoch + 1, validation_freq):
                    found = _evaluate_epoch(self, validation, callbacks, validation_check)
                    epoch_logs.update({f"val_{name}": value for name, value in found.items()})
                callbacks.on_epoch_end(epoch, epoch_logs)
                if self.stop_training:
                    break
        finally:
            if self.optimizer is not None and self.optimizer.built:
                self.optimizer.finalize_variable_values(self.trainable_weights)
        callbacks.on_train_end(epoch_logs)
        return self.history

    @boundary
    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
    ):
        """The loss and the metrics on data, as a float, a list of floats in the order of the metrics, or a
        dict.

        The arguments are those of `fit`.
        """
        self._assert_compile_called("evaluate")
        epochs = _make_epochs(self, x, y, sample_weight, batch_size, steps)
        _refuse_empty(epochs, "evaluate")
        prepare(self, self.make_test_function(), epochs)
        check = _data_check(self, epochs)
        callbacks = _listeners(self, callbacks, verbose, 1, epochs.num_batches)
        logs = _evaluate_epoch(self, epochs, callbacks, check)
        return logs if return_dict else _in_order(logs, _order(self, logs))

    @boundary
    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """The outputs of the model for `x`, as numpy arrays, computed batch by batch.

        Args:
            x: as for `fit`; no samples give outputs of length 0.
            batch_size: 32 by default. It changes the time, not the outputs.
            steps: batches to predict; needed for endless sources.
        """
        if verbose == 0 and callbacks is None and steps is None and isinstance(x, np.ndarray):
            # One batch that nobody watches.
            short = self.__dict__.get("_short_predict")
            if short is not None and 0 < len(x) <= (32 if batch_size is None else batch_size):
                with suppress(IndexError):  # the long way says which id
                    outputs = short(x)
                    if outputs is not None:
                        return outputs
        epochs = _make_epochs(self, x, batch_size=batch_size, steps=steps)
        function = self.make_predict_function()
        if not self.built:
            build_on(self, epochs.peek())
        callbacks = _listeners(self, callbacks, verbose, 1, epochs.num_batches)
        self._set_training(stop_predicting=False)
        callbacks.on_predict_begin()
        every, batches, group = self.steps_per_execution, [], []
        for step, batch in enumerate(epochs):
            if not group:
                first = step
                callbacks.on_predict_batch_begin(first)
            group.append(_run(self, function, batch, epochs.source))
            if len(group) == every:
                batches.append(_concatenate(group))
                group = []
                callbacks.on_predict_batch_end(first + every - 1, {"outputs": batches[-1]})
            if self.stop_predicting:
                break
        if group:
            batches.append(_concatenate(group))
            callbacks.on_predict_batch_end(first + every - 1, {"outputs": batches[-1]})
        callbacks.on_predict_end()
        if not batches:
            raise ValueError("`predict` got no batch of data.")
        if len(batches) == 1:
            self._set_training(_short_predict=PredictShortcut.of(self, batch, batches[0]))
        return _concatenate(batches)

    @boundary
    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """One step of training on one batch. Returns the loss and metrics as `evaluate` does."""
        self._assert_compile_called("train_on_batch")
        return _one_batch(self, self.make_train_function(), (x, y, sample_weight), class_weight, return_dict)

    @boundary
    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """The loss and metrics on one batch, as `evaluate` returns them."""
        self._assert_compile_called("test_on_batch")
        return _one_batch(self, self.make_test_function(), (x, y, sample_weight), None, return_dict)

    @boundary
    def predict_on_batch(self, x):
        """The outputs for one batch, as numpy arrays."""
        short = self.__dict__.get("_short_predict")
        if short is not None:
            with suppress(IndexError):  # the long way says which id
                outputs = short(x)
                if outputs is not None:
                    return outputs
        checks.check_inputs(self, standardize(x, "x"))
        batch = standardize_batch((x,))
        build_on(self, batch)
        outputs = _run(self, self.make_predict_function(), batch)
        self._set_training(_short_predict=PredictShortcut.of(self, batch, outputs))
        return outputs


class _Nobody:
    """The callbacks of a run that nobody watches."""

    def listens(self, hook):
        return False

    def __getattr__(self, hook):
        return lambda *args: None


def _listeners(model, callbacks, verbose, epochs, steps, add_history=False):
    """The callbacks of a run as one; their package is imported only where there are any."""
    if callbacks is None and verbose == 0 and not add_history:
        return _Nobody()
    from lamina.callbacks import CallbackList

    if isinstance(callbacks, CallbackList):
        return callbacks
    return CallbackList(
        callbacks,
        add_history=add_history,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )


def _run(model, function, batch, source=None):
    """`function(batch)`. An id that the engine refuses is said with its layer and its place in the data."""
    try:
        return function(batch)
    except IndexError:
        checks.explain_ids(model, batch, getattr(source, "batch", None))
        raise


def _run_epoch(model, epochs, function, callbacks, kind, check=None):
    """One epoch of `function`. Returns the logs of the last step, or None when there was no batch."""
    begin, end = (
        getattr(callbacks, hook) if callbacks.listens(hook) else None
        for hook in (f"on_{kind}_batch_begin", f"on_{kind}_batch_end")
    )
    stop = {"train": "stop_training", "test": "stop_evaluating"}[kind]
    every, logs, step = model.steps_per_execution, None, -1
    for step, batch in enumerate(epochs):
        within = step % every  # position in a group of batches that callbacks see as one
        if begin is not None and within == 0:
            begin(step)
        if check is not None:
            check(batch)
        logs = _run(model, function, batch)
        if end is not None and within == every - 1:
            end(step, logs)
        if getattr(model, stop):
            break
    if step < 0:
        return None
    if end is not None and step % every != every - 1:
        end(step - step % every + every - 1, logs)
    if logs is not None and not isinstance(logs, dict):
        raise TypeError(f"`{kind}_step` should return a dict of logs. Received: {type(logs).__name__}")
    return logs or {}


def _evaluate_epoch(model, epochs, callbacks, check):
    model._set_training(stop_evaluating=False)
    callbacks.on_test_begin()
    model.reset_metrics()
    logs = pythonify_logs(_run_epoch(model, epochs, model.make_test_function(), callbacks, "test", check))
    callbacks.on_test_end(logs)
    return logs


def _concatenate(batches):
    """Structures of arrays, one after another along the batch axis."""
    if len(batches) == 1:
        return batches[0]
    return tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def _one_batch(model, function, data, class_weight, return_dict):
    x, y, sample_weight = data
    plain = sample_weight is None and class_weight is None
    shortcuts = model.__dict__.setdefault("_short_steps", {})
    if plain and (short := shortcuts.get(function)) is not None:
        with suppress(IndexError):  # the long way says which id
            logs = short(x, y, return_dict)
            if logs is not None:
                return logs
    checks.check_inputs(model, standardize(x, "x"))
    batch = standardize_batch(data, class_weight)
    while batch[-1] is None:  # as `fit` gives it: no trailing None
        batch = batch[:-1]
    build_on(model, batch)
    step = fresh_step(model, function, batch)
    checks.check_batch_labels(model, batch)
    if step is None:
        model.reset_metrics()
    logs = pythonify_logs(_run(model, step or function, batch))
    order = _order(model, logs)
    if plain and step is not None:
        shortcuts[function] = StepShortcut.of(model, step, batch, logs, order)
    return logs if return_dict else _in_order(logs, order)


def _order(model, logs):
    """The names in `logs` in the order of the metrics."""
    names = [m.name for metric in model.metrics for m in getattr(metric, "metrics", [metric])]
    return [name for name in names if name in logs] + [name for name in sorted(logs) if name not in names]


def _in_order(logs, order):
    """The values of `logs` in this order; a single one stands alone."""
    return one_or_all([logs[name] for name in order])


def source_for(model, x, y=None, sample_weight=None, batch_size=None, steps=None, **options):
    """The source for data that fits the model's inputs, or a `ShapeError`."""
    columns = getattr(x, "columns", None)  # of a table
    x, inputs = checks.standardize_inputs(model, x), checks.count_inputs(model)
    source = make_source(x, y, sample_weight, batch_size, steps, inputs=inputs, **options)
    source.columns = None if columns is None else list(columns)
    return source


def _make_epochs(model, x, y=None, sample_weight=None, batch_size=None, steps=None, **options):
    return Epochs(source_for(model, x, y, sample_weight, batch_size, steps, **options), steps)


def _data_check(model, epochs):
    """Checks all values at once where they are at hand; else returns the check for each batch, which looks at
    every value of the first one and at the labels of the others.
    """
    source = epochs.source
    if isinstance(source, ArraySource) and not source.on_disk:
        checks.check_batch(model, source.batch, source.columns)
        return None
    has_labels = any(checks.sparse_terms(model._compile_loss)) if model._compile_loss else False
    seen = []

    def check(batch):
        if not seen:
            seen.append(True)
            checks.check_batch(model, batch)
        elif has_labels:
            checks.check_batch_labels(model, batch)

    return check


def prepare(model, function, epochs):
    """Builds the model and traces the step on the shapes of a first batch, so that errors come before any
    work.
    """
    if not hasattr(function, "lookup") and model.built:
        return
    batch = epochs.peek()
    build_on(model, batch)
    if hasattr(function, "lookup"):
        function.lookup((batch,))


def _refuse_empty(epochs, where):
    if isinstance(epochs.source, ArraySource) and epochs.source.num_samples == 0:
        raise ValueError(f"The data for `{where}` contains no samples (its first axis has length 0).")


def _check_validation_freq(validation_freq):
    if isinstance(validation_freq, bool) or not isinstance(validation_freq, (int, list, tuple)):
        raise ValueError(
            "Expected `validation_freq` to be a list or int. "
            f"Received: validation_freq={validation_freq} of the type {type(validation_freq)}."
        )


def _is_due(epoch, validation_freq):
    return epoch % validation_freq == 0 if isinstance(validation_freq, int) else epoch in validation_freq
