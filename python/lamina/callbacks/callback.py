"""`Callback`, and the list that calls many of them."""

from lamina import tree
from lamina.engine.tracebacks import UserMade
from lamina.trainers.logs import pythonify_logs

_BATCH_ALIASES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


class Callback(UserMade):
    """Base class of callbacks: override the methods at whose time something should happen.

    Attributes:
        model: the model that is trained, evaluated or used.
        params: dict with "verbose", "epochs" and "steps" (None when unknown).

    `logs` is a dict of Python floats. In `on_epoch_end` it has the results of the epoch and, with the prefix
    `val_`, those of the validation; in `on_*_batch_end` the values so far. Setting `self.model.stop_training
    = True` stops `fit` after the current batch.

    Example:

        class StopAt(lamina.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if logs["accuracy"] > 0.99:
                    self.model.stop_training = True
    """

    # Gets the tensors of a step as they are, and converts them only when it wants to.
    lazy_logs = False

    def __init__(self):
        self.params = None
        self._model = None

    @property
    def model(self):
        return self._model

    def set_params(self, params):
        self.params = params

    def set_model(self, model):
        self._model = model

    def on_batch_begin(self, batch, logs=None):
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch, logs=None):
        """Older name of `on_train_batch_end`."""

    def on_epoch_begin(self, epoch, logs=None):
        """Called before an epoch of `fit`; `epoch` counts from 0."""

    def on_epoch_end(self, epoch, logs=None):
        """Called after an epoch of `fit` and its validation."""

    def on_train_batch_begin(self, batch, logs=None):
        """Called before a training batch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch, logs=None):
        """Called after a training batch."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch, logs=None):
        """Called before a batch of `evaluate`, or of the validation in `fit`."""

    def on_test_batch_end(self, batch, logs=None):
        """Called after a batch of `evaluate`, or of the validation in `fit`."""

    def on_predict_batch_begin(self, batch, logs=None):
        """Called before a batch of `predict`."""

    def on_predict_batch_end(self, batch, logs=None):
        """Called after a batch of `predict`; `logs["outputs"]` are its predictions."""

    def on_train_begin(self, logs=None):
        """Called when `fit` starts."""

    def on_train_end(self, logs=None):
        """Called when `fit` has ended."""

    def on_test_begin(self, logs=None):
        """Called when `evaluate`, or the validation in `fit`, starts."""

    def on_test_end(self, logs=None):
        """Called when `evaluate`, or the validation in `fit`, has ended."""

    def on_predict_begin(self, logs=None):
        """Called when `predict` starts."""

    def on_predict_end(self, logs=None):
        """Called when `predict` has ended."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def _overrides(callback, name):
    method = getattr(callback, name, None)
    return method is not None and getattr(method, "__func__", None) is not getattr(Callback, name)


class CallbackList(Callback):
    """Calls each of its callbacks. A hook that none of them overrides costs nothing.

    Args:
        callbacks: a callback or a nested list of them.
        add_history: add a `History` unless there is one.
        add_progbar: add a `ProgbarLogger` unless there is one.
        model: the model the callbacks see.
        **params: what their `params` hold.
    """

    def __init__(self, callbacks=None, add_history=False, add_progbar=False, model=None, **params):
        from lamina.callbacks.logging import History, ProgbarLogger

        self.callbacks = [] if callbacks is None else [c for c in tree.flatten(callbacks) if c is not None]
        for callback in self.callbacks:
            if not any(hasattr(callback, name) for name in HOOKS):
                raise TypeError(f"`callbacks` should hold `Callback` objects. Received: {callback!r}")
        self._history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self._history is None:
            self._history = History()
            self.callbacks.append(self._history)
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        self._hooks = {}
        self.set_model(model)
        self.set_params(params)

    def append(self, callback):
        """Adds a callback."""
        self.callbacks.append(callback)
        self._hooks.clear()

    def set_params(self, params):
        self.params = params
        for callback in self.callbacks if params else ():
            callback.set_params(params)

    def set_model(self, model):
        if model is None:
            return
        super().set_model(model)
        if self._history is not None:
            vars(model)["history"] = self._history  # not `setattr`: that may count as a change to the model
        for callback in self.callbacks:
            callback.set_model(model)

    def listens(self, name):
        """Whether any callback overrides the hook `name`."""
        return bool(self._listeners(name)[0])

    def _listeners(self, name):
        """The bound methods to call for hook `name`, and whether any of them wants floats."""
        if name not in self._hooks:
            names = (name, _BATCH_ALIASES.get(name, name))
            listening = [c for c in self.callbacks if any(_overrides(c, n) for n in names)]
            wants_floats = not all(getattr(c, "lazy_logs", False) for c in listening)
            self._hooks[name] = [getattr(c, name) for c in listening], wants_floats
        return self._hooks[name]

    def _call(self, name, *args, logs=None):
        methods, wants_floats = self._listeners(name)
        if wants_floats:
            logs = pythonify_logs(logs)
        for method in methods:
            method(*args, logs)


def _forward(name):
    takes_index = "batch" in name or "epoch" in name

    def at_index(self, index, logs=None):
        self._call(name, index, logs=logs)

    def plain(self, logs=None):
        self._call(name, logs=logs)

    method = at_index if takes_index else plain
    method.__name__ = name
    method.__doc__ = f"Calls `{name}` of each callback."
    return method


for _name in HOOKS:
    setattr(CallbackList, _name, _forward(_name))
