"""The progress bar, with Keras's look."""

import sys
import time

from lamina.config import is_interactive_logging_enabled
from lamina.utils.io_utils import print_msg


def _is_dynamic():
    """Whether a line can be drawn over: a terminal or a notebook, not a file or a pipe."""
    return is_interactive_logging_enabled() and (sys.stdout.isatty() or "ipykernel" in sys.modules)


def _number(value):
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def _duration(seconds):
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


def _eta(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{seconds:02d}"
    return f"{minutes}:{seconds:02d}" if minutes else f"{seconds}s"


class Progbar:
    """A progress bar with the values of metrics behind it.

    On a terminal the line is redrawn at most every `interval` seconds; in a file or a pipe only the last one
    is written.

    Args:
        target: number of steps expected; None when unknown.
        width: width of the bar in characters.
        verbose: 0 silent, 1 bar, 2 one line at the end.
        interval: least seconds between two redraws.
        stateful_metrics: names shown as given; all others are averaged over the steps.
        stateless_metrics: the opposite: names to average; all others are shown as given.
        unit_name: what a step is called.

    Example:

        bar = lamina.utils.Progbar(100)
        for step in range(100):
            bar.update(step + 1, [("loss", loss)])
    """

    def __init__(
        self,
        target,
        width=20,
        verbose=1,
        interval=0.05,
        stateful_metrics=None,
        stateless_metrics=None,
        unit_name="step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Only one of `stateful_metrics` or `stateless_metrics` can be provided.")
        self.target, self.width, self.verbose = target, width, verbose
        self.interval, self.unit_name = interval, unit_name
        self._stateful = set(stateful_metrics or ())
        self._stateless = None if stateless_metrics is None else set(stateless_metrics)
        self._dynamic = _is_dynamic()
        self._sums = {}  # name -> [sum, count]
        self._seen = 0
        self._start = time.perf_counter()
        self._first_step_done = None
        self._drawn_at = 0.0
        self._drawn_width = 0

    def due(self):
        """Whether an update now would be drawn."""
        return self.verbose == 1 and self._dynamic and time.perf_counter() - self._drawn_at >= self.interval

    def tick(self, current):
        """Goes on to step `current` without showing anything: cheap enough for every step."""
        self._seen = current
        if self._first_step_done is None:
            self._first_step_done = (current, time.perf_counter())

    def add(self, n, values=None):
        """Goes on by `n` steps."""
        self.update(self._seen + n, values)

    def update(self, current, values=None, finalize=None):
        """Shows step `current` (from 1) with `values`, a list of `(name, value of the last step)`."""
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            self._record(name, value, current, finalize)
        if current:
            self.tick(current)
        now = time.perf_counter()
        if self.verbose == 1 and (finalize or self.due()):
            print_msg(self._line(current, now, finalize), line_break=False)
            self._drawn_at = now
        elif self.verbose == 2 and finalize:
            parts = [
                f"{current}/{self.target or current}",
                f"{now - self._start:.0f}s",
                self._per_step(current, now),
            ]
            print_msg(" - ".join(parts + self._metrics()))

    def _record(self, name, value, current, finalize):
        averaged = name not in self._stateful if self._stateless is None else name in self._stateless
        if not averaged or finalize or not isinstance(value, (int, float)):
            self._sums[name] = [value, 1]
            return
        steps = max(current - self._seen, 1)
        entry = self._sums.setdefault(name, [0.0, 0])
        entry[0] += value * steps
        entry[1] += steps

    def _metrics(self):
        return [
            f"{name}: {_number(total / count) if isinstance(total, (int, float)) else total}"
            for name, (total, count) in self._sums.items()
        ]

    def _seconds_per_step(self, current, now):
        if not current:
            return 0.0
        steps, since = self._first_step_done or (0, self._start)
        if current > steps:  # the first step also traces and plans: it does not count
            return (now - since) / (current - steps)
        return (now - self._start) / current

    def _per_step(self, current, now):
        return f"{_duration(self._seconds_per_step(current, now))}/{self.unit_name}"

    def _line(self, current, now, finalize):
        def paint(code, text):
            return f"\x1b[{code}m{text}\x1b[0m" if text and self._dynamic else text

        if self.target:
            count = f"{current:>{len(str(self.target))}}/{self.target}"
            done = min(self.width, int(self.width * current / self.target))
            bar = f"{paint(1, count)} {paint(32, '━' * done)}{paint(37, '━' * (self.width - done))}"
            width = len(count) + 1 + self.width
        else:
            bar = f"{current:7d}/Unknown"
            width = len(bar)
        left = None if finalize or not self.target else self.target - current
        elapsed = (
            f"{now - self._start:.0f}s" if left is None else _eta(left * self._seconds_per_step(current, now))
        )
        rest = " - ".join([self._per_step(current, now), *self._metrics()])
        line = f"{bar} {paint(1, elapsed)} {rest}"
        width += len(elapsed) + len(rest) + 2
        if self._dynamic:
            line = f"\r{line}{' ' * (self._drawn_width - width)}"
        self._drawn_width = width
        return line + "\n" if finalize else line
