"""The short way in for calls that repeat: one batch of arrays of the dtypes and shapes of the call before.

What such a call needs was checked and traced by the first one. A shortcut holds the engine's function and the
conditions under which it applies; where it does not, the call goes the long way, which checks everything.
"""

import numpy as np

from lamina import tree
from lamina.engine.direct import edits
from lamina.engine.scope import state
from lamina.engine.trace import compile_function
from lamina.trainers import checks
from lamina.trainers.logs import one_or_all


def _kind(array):
    """What must be equal for two arrays to be treated alike: all but the number of samples."""
    return array.dtype, array.shape[1:]


def _is_plain(array, dtype):
    """Whether an array goes to the engine as it is."""
    return type(array) is np.ndarray and array.ndim > 0 and (dtype is None or array.dtype == dtype)


class PredictShortcut:
    """`predict_on_batch` of one array."""

    def __init__(self, model, function, x):
        self.model, self.function, self.edits, self.kind = model, function, edits(), _kind(x)

    @classmethod
    def of(cls, model, batch, outputs):
        """The shortcut for batches like this one, or None where there can be none."""
        x = batch[0] if isinstance(batch, tuple) else batch
        step = getattr(
            model.predict_function, "__self__", None
        )  # the compiled step; an eager one has no trace
        if not hasattr(step, "only_function") or tree.is_nested(outputs) or not _is_plain(x, "float32"):
            return None
        if checks.takes_ids(model):  # as floats: each value is looked at
            return None
        function = step.only_function()
        return function and cls(model, function.call_numpy, x)

    def __call__(self, x):
        """The outputs, or None where the shortcut does not apply."""
        if (
            type(x) is np.ndarray
            and self.edits == edits()
            and (x.dtype, x.shape[1:]) == self.kind
            and self.model.predict_function is not None
            and not state.eager
        ):
            return self.function(x)[0]
        return None


def fresh_step(model, function, batch):
    """The step of one batch alone, traced on it; metrics start anew within. None for an untraced step."""
    if not hasattr(function, "lookup"):
        return None
    steps = model.__dict__.setdefault("_fresh_steps", {})
    if function not in steps:

        def fresh(batch):
            model.reset_metrics()
            return function.fn(batch)

        known = len(model.metrics_variables)
        step = compile_function(fresh, function.static_batch)
        step.lookup((batch,))
        if len(model.metrics_variables) != known:
            # The trace has made metrics, and so could not set them back: the next one does.
            step = compile_function(fresh, function.static_batch)
        steps[function] = step
    steps[function].lookup((batch,))
    return steps[function]


class StepShortcut:
    """`train_on_batch` or `test_on_batch` of one array and its labels, by the step of one batch alone."""

    def __init__(self, model, step, x, y, order):
        self.model, self.kinds, self.order = model, (_kind(x), _kind(y)), order
        _, traced = step.lookup(((x, y),))
        self.function, self.pack = traced.function, traced.pack
        terms = list(checks.sparse_terms(model._compile_loss)) if model._compile_loss else []
        self.checks_labels = bool(terms)
        self.classes = terms[0][2] if len(terms) == 1 else None

    @classmethod
    def of(cls, model, step, batch, logs, order):
        """The shortcut for batches like this one, or None where there can be none.

        `order`: the names of the logs, as `train_on_batch` returns their values.
        """
        if not (isinstance(batch, tuple) and len(batch) == 2):
            return None
        x, y = batch
        if not (_is_plain(x, "float32") and _is_plain(y, None)) or y.dtype == np.float64:
            return None
        if (
            step.only_function() is None
            or checks.takes_ids(model)
            or not all(type(v) is float for v in logs.values())
        ):
            return None
        return cls(model, step, x, y, order)

    def __call__(self, x, y, return_dict):
        """What `train_on_batch` returns, or None where the shortcut does not apply."""
        if not (
            type(x) is np.ndarray
            and type(y) is np.ndarray
            and (_kind(x), _kind(y)) == self.kinds
            and len(x) == len(y)
            and not state.eager
        ):
            return None
        if self.checks_labels and not (self.classes and y.size and checks.are_classes(y, self.classes)):
            checks.check_batch_labels(self.model, (x, y))
        logs = self.pack(self.function(x, y))
        if return_dict:
            return {name: float(logs[name]) for name in sorted(logs)}
        return one_or_all([float(logs[name]) for name in self.order])
