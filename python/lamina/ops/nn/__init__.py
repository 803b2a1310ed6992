"""The ops of `keras.ops.nn`, by kind."""

from lamina.ops.nn import activation, attention, crossentropy, normalization, rearrange, window
from lamina.ops.nn.activation import *
from lamina.ops.nn.attention import *
from lamina.ops.nn.crossentropy import *
from lamina.ops.nn.normalization import *
from lamina.ops.nn.rearrange import *
from lamina.ops.nn.window import *

__all__ = [
    name
    for module in (activation, attention, crossentropy, normalization, rearrange, window)
    for name in module.__all__
]
