"""`keras.ops`: functions of tensors, with Keras's names and semantics.

Each takes tensors, variables, numpy arrays, numbers and nested lists, and runs now; it takes symbolic tensors
and is recorded. Shapes that do not fit raise `lamina.errors.ShapeError` before anything is computed.
"""

from lamina.ops import image as image
from lamina.ops import linalg as linalg
from lamina.ops import math as math
from lamina.ops import nn as nn
from lamina.ops import numpy as numpy
from lamina.ops.control import *
from lamina.ops.core import *
from lamina.ops.linalg import *
from lamina.ops.math import *
from lamina.ops.nn import *
from lamina.ops.numpy import *
