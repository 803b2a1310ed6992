"""Callbacks that steer training."""

import math

import numpy as np

from lamina.callbacks.callback import Callback
from lamina.utils.io_utils import print_msg


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch.

    Args:
        schedule: function of the epoch (from 0) and the current rate, returning the new rate as a float.
        verbose: 1 says what it sets.

    Example: `LearningRateScheduler(lambda epoch, rate: rate * 0.9)`
    """

    def __init__(self, schedule, verbose=0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        if not hasattr(optimizer, "learning_rate"):
            raise ValueError('Optimizer must have a "learning_rate" attribute.')
        current = float(np.asarray(optimizer.learning_rate))
        try:
            rate = self.schedule(epoch, current)
        except TypeError:  # the older form, a function of the epoch alone
            rate = self.schedule(epoch)
        if not isinstance(rate, (float, np.floating)):
            raise ValueError(f"The output of the `schedule` function should be a float. Got: {rate}")
        optimizer.learning_rate = rate
        if self.verbose:
            print_msg(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))


class TerminateOnNaN(Callback):
    """Stops training when the loss is NaN or infinite.

    Args:
        raise_error: raise a `RuntimeError` instead of ending `fit` in the usual way.
    """

    def __init__(self, raise_error=False):
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"NaN or Inf loss encountered at batch {batch}. Loss value: {loss}.")
        print_msg(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
