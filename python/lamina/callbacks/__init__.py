"""Callbacks, with the names of `keras.callbacks`."""

from lamina.callbacks.callback import Callback, CallbackList
from lamina.callbacks.logging import CSVLogger, History, LambdaCallback, ProgbarLogger
from lamina.callbacks.monitor import EarlyStopping, ModelCheckpoint, MonitorCallback, ReduceLROnPlateau
from lamina.callbacks.training import LearningRateScheduler, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "MonitorCallback",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
