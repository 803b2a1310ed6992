"""`lamina.check`: what is wrong with a model, its data and its loss, all at once and before any work."""

from dataclasses import dataclass

from lamina import tree
from lamina.trainers import checks
from lamina.trainers.arrays import is_arrays, standardize
from lamina.trainers.data import ArraySource, Epochs
from lamina.trainers.loops import prepare, source_for
from lamina.trainers.loss_advice import forgotten_flatten, loss_advice


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: `"error"` (`fit` would raise it) or `"warning"`.
        text: what is wrong, in one line.
        fix: what to write instead, or `None`.
        error: the exception, with all that it knows; `None` where there is nothing more to say.
    """

    severity: str
    text: str
    fix: str | None = None
    error: Exception | None = None

    def __str__(self):
        if self.error is not None:
            return f"{self.severity}: {self.error}"
        return f"{self.severity}: {self.text}" + (f"\n  fix: {self.fix}" if self.fix else "")


def _finding(error, severity="error"):
    text = str(error.args[0]) if error.args else str(error)
    return Finding(severity, text.split("\n")[0], getattr(error, "fix", None), error)


class Report:
    """What `check` found: a list of `Finding`s, printed in order; true when there is no error."""

    def __init__(self, findings):
        self.findings = list(findings)

    @property
    def errors(self):
        """The findings that `fit` would raise."""
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self):
        """The findings that `fit` would warn about."""
        return [f for f in self.findings if f.severity == "warning"]

    def raise_errors(self):
        """Raises the first error, if there is one."""
        for finding in self.errors:
            raise finding.error

    def __bool__(self):
        return not self.errors

    def __str__(self):
        return "\n".join(map(str, self.findings)) or "nothing to complain about"

    __repr__ = __str__


def check(model, x=None, y=None, sample_weight=None):
    """Looks for what would go wrong in `model.fit(x, y)`, without a step of training.

    Input shapes, the number of samples, targets against outputs, labels against classes, ids against
    embeddings, data types, NaN and infinities, the last activation against the loss. Reads each value once;
    of a source of batches, the first batch (which an iterator then has given away). Builds the model, as
    `fit` would.

    Args:
        model: a model; what concerns losses needs `compile`.
        x, y, sample_weight: as for `fit`. Without `x`, only the model and its loss are looked at.

    Returns: a `Report`, which is true when nothing is wrong that `fit` would raise.

    >>> print(lamina.check(model, x, y))
    error: `x` holds NaN at row 3, column 1.
    ...
    """
    findings = [] if x is None else _data_findings(model, x, y, sample_weight)
    if not model.compiled:
        findings.append(Finding("warning", "The model is not compiled.", "`model.compile(optimizer, loss)`"))
    flatten = forgotten_flatten(model)
    if flatten:
        findings.append(Finding("warning", flatten))
    findings += [Finding("warning", text, fix) for text, fix in loss_advice(model)]
    return Report(findings)


def _not_finite(**parts):
    """What of data that is no whole (other shapes than the model's, other counts) is NaN or infinite."""
    for name, part in parts.items():
        try:
            leaves = tree.flatten(standardize(part, name)) if part is not None and is_arrays(part) else []
        except (ValueError, TypeError):  # no numbers: said already
            continue
        for array in leaves:
            error = checks.not_finite(array, name)
            if error is not None:
                yield _finding(error)


def _data_findings(model, x, y, sample_weight):
    try:
        source = source_for(model, x, y, sample_weight)
    except (ValueError, TypeError) as e:
        return [_finding(e), *_not_finite(x=x, y=y, sample_weight=sample_weight)]
    arrays = isinstance(source, ArraySource)
    batch = source.batch if arrays and not source.on_disk else source.peek()
    findings = []
    try:
        if model.compiled and (y is not None or not arrays):
            step = model.make_train_function()
        else:
            step = getattr(model.make_predict_function(), "__self__", None)
        prepare(model, step, Epochs(source))
    except (ValueError, TypeError, KeyError) as e:
        findings.append(_finding(e))
    try:
        for error, certain in checks.problems(model, batch, source.columns):
            findings.append(_finding(error, "error" if certain else "warning"))
    except (ValueError, KeyError) as e:  # targets in another structure than the outputs, most likely said
        findings += [] if findings else [_finding(e)]
    return findings
