"""Callbacks that watch a value and act when it improves, or does not."""

import os

import numpy as np

from lamina import ops
from lamina.callbacks.callback import Callback
from lamina.engine.tracebacks import warn
from lamina.utils.io_utils import print_msg


class MonitorCallback(Callback):
    """Base of callbacks that watch `monitor` in the logs of an epoch.

    Args:
        monitor: name of the value, such as "val_loss" or "accuracy".
        mode: "min" (less is better), "max", or "auto" (from the name, or from the metric).
        baseline: the first value to beat.
        min_delta: least change that is an improvement.
    """

    def __init__(self, monitor="val_loss", mode="auto", baseline=None, min_delta=0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            warn(f"{type(self).__name__} mode '{mode}' is unknown, fallback to auto mode.")
            mode = "auto"
        self.monitor, self.mode, self.best = monitor, mode, baseline
        self.min_delta = abs(min_delta)
        self.monitor_op = None

    def _set_monitor_op(self):
        """Decides which direction is better; only when metrics are built can it be asked of them."""
        if self.monitor_op is not None:
            return
        direction = {"min": "down", "max": "up"}.get(self.mode) or self._metric_direction()
        if direction is None:
            raise ValueError(
                f"{type(self).__name__} callback received monitor={self.monitor!r}, but it is not known "
                "whether that metric should be maximized or minimized. Pass `mode='max'` or `mode='min'`."
            )
        self.monitor_op = ops.greater if direction == "up" else ops.less

    def _metric_direction(self):
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "down"
        for metric in getattr(self.model, "metrics", ()):
            for inner in getattr(metric, "metrics", [metric]):
                if inner.name == name:
                    return getattr(inner, "_direction", None)
        return None

    def _is_improvement(self, value, reference):
        if reference is None:
            return True
        margin = self.min_delta if self.monitor_op is ops.greater else -self.min_delta
        return bool(self.monitor_op(value - margin, reference))

    def _current(self, logs, what):
        value = (logs or {}).get(self.monitor)
        if value is None:
            warn(
                f"{what} conditioned on metric `{self.monitor}` which is not available. "
                f"Available metrics are: {','.join(logs or {})}",
            )
        return value


class EarlyStopping(MonitorCallback):
    """Stops training when `monitor` has not improved for `patience` epochs.

    Args:
        monitor, min_delta, mode: as in `MonitorCallback`.
        patience: epochs without improvement before it stops.
        verbose: 1 says when it acts.
        baseline: stops too when the value does not get better than this.
        restore_best_weights: at the end, put back the weights of the best epoch.
        start_from_epoch: epochs to wait before watching.

    Example: `model.fit(x, y, validation_split=0.1, callbacks=[EarlyStopping(patience=3)])`
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = None

    def on_epoch_end(self, epoch, logs=None):
        self._set_monitor_op()
        current = self._current(logs, "Early stopping")
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep_weights(epoch)
        self.wait += 1
        if self._is_improvement(current, self.best):
            self.best = current
            self._keep_weights(epoch)
            if self.baseline is None or self._is_improvement(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep_weights(self, epoch):
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()

    def on_train_end(self, logs=None):
        if self.stopped_epoch > 0 and self.verbose:
            print_msg(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print_msg(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by `factor` when `monitor` has not improved for `patience` epochs.

    Args:
        monitor, mode, min_delta: as in `MonitorCallback`.
        factor: below 1; new rate = rate * factor.
        patience: epochs without improvement before it acts.
        verbose: 1 says when it acts.
        cooldown: epochs to wait after it has acted.
        min_lr: least rate.
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=1e-4,
        cooldown=0,
        min_lr=0.0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau does not support a factor >= 1.0. Received factor={factor}")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.best = None
        self.cooldown_counter = self.wait = 0

    def on_epoch_end(self, epoch, logs=None):
        self._set_monitor_op()
        optimizer = self.model.optimizer
        rate = float(np.asarray(optimizer.learning_rate))
        if logs is not None:
            logs["learning_rate"] = rate
        current = self._current(logs, "Learning rate reduction is")
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and rate > np.float32(self.min_lr):
                optimizer.learning_rate = new_rate = max(rate * self.factor, self.min_lr)
                if self.verbose:
                    print_msg(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new_rate}.")
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def in_cooldown(self):
        """Whether it waits because it has just acted."""
        return self.cooldown_counter > 0


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, during training.

    Args:
        filepath: may hold fields such as `"{epoch:02d}-{val_loss:.2f}.keras"`; `epoch` counts from 1.
        monitor, mode: as in `MonitorCallback`.
        verbose: 1 says when it saves.
        save_best_only: save only when `monitor` has improved.
        save_weights_only: save with `model.save_weights` (a `.weights.h5` or `.npz` file) instead of
            `model.save`.
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: the first value to beat.
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int)):
            raise ValueError(
                f"Unrecognized save_freq: {save_freq}. Expected save_freq are 'epoch' or integer values"
            )
        endings = (".weights.h5", ".npz") if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(endings):
            raise ValueError(
                f"With `save_weights_only={save_weights_only}`, the filepath provided must end in "
                f"{' or '.join(endings)}. Received: filepath={self.filepath}"
            )
        self.save_freq = save_freq
        if save_freq != "epoch":  # only then does it listen to batches, which costs time
            self.on_train_batch_end = self._on_batch
        self._epoch, self._last_batch, self._unsaved = 0, -1, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._last_batch = epoch, -1

    def _on_batch(self, batch, logs=None):
        self._unsaved += batch - self._last_batch
        self._last_batch = batch
        if self._unsaved >= self.save_freq:
            self._unsaved = 0
            self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch, batch, logs):
        logs = logs or {}
        fields = {"epoch": epoch + 1, **({} if batch is None else {"batch": batch + 1}), **logs}
        try:
            path = self.filepath.format(**fields)
        except KeyError as error:
            raise KeyError(
                f'Failed to format this callback filepath: "{self.filepath}". Reason: {error}'
            ) from None
        if not self._should_save(epoch, logs, path):
            return
        if os.path.isdir(path):
            raise OSError(f"Please specify a non-directory filepath for ModelCheckpoint. Received: {path}")
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        if self.verbose:
            print_msg(f"\nEpoch {epoch + 1}: finished saving model to {path}")

    def _should_save(self, epoch, logs, path):
        if not self.save_best_only:
            if self.verbose:
                print_msg(f"\nEpoch {epoch + 1}: saving model to {path}")
            return True
        self._set_monitor_op()
        current = logs.get(self.monitor)
        if current is None:
            warn(f"Can save best model only with {self.monitor} available.")
            return True
        best = "None" if self.best is None else f"{self.best:.5f}"
        improved = self._is_improvement(current, self.best)
        if self.verbose:
            told = (
                f"improved from {best} to {current:.5f}, saving model to {path}"
                if improved
                else f"did not improve from {best}"
            )
            print_msg(f"\nEpoch {epoch + 1}: {self.monitor} {told}")
        if improved:
            self.best = current
        return improved
