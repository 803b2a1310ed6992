"""The ops of `keras.ops.numpy`, by kind."""

from lamina.ops.numpy import contraction, creation, diagonals, elementwise, manipulation, reduction, searching
from lamina.ops.numpy.contraction import *
from lamina.ops.numpy.creation import *
from lamina.ops.numpy.diagonals import *
from lamina.ops.numpy.elementwise import *
from lamina.ops.numpy.manipulation import *
from lamina.ops.numpy.reduction import *
from lamina.ops.numpy.searching import *

__all__ = [
    name
    for module in (contraction, creation, diagonals, elementwise, manipulation, reduction, searching)
    for name in module.__all__
]
