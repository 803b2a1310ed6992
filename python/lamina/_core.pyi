"""The Rust engine. Only `lamina.ops`, `lamina.random` and `lamina.engine` call it.

Everywhere below a *TensorLike* is a `Tensor`, a `SymbolicTensor`, a `VariableState`, a numpy array, a Python scalar or a nested
list of numbers. A Python scalar is weakly typed: it takes the dtype of the other operand (an int with a float
operand becomes that float; a float with an integer operand makes the result `floatx`). Two tensors of different dtypes promote as in Keras.

If any operand is a `SymbolicTensor`, or is a `VariableState` while a `Graph` is open on this thread, the op is recorded in that
graph and a `SymbolicTensor` comes back; otherwise it runs now and a `Tensor` comes back. While a `Tape` is
recording, ops that run now are also written on the tape.

An op raises `lamina.errors.ShapeError` before anything is computed when its operands do not fit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Dim = int | None
TensorLike = Any

class Tensor:
    """An immutable array of the engine. Holds numpy protocols, operators and indexing; made by `tensor()` and by every op."""

    shape: tuple[int, ...]
    dtype: str
    ndim: int
    size: int
    nbytes: int
    def numpy(self) -> np.ndarray: ...  # bfloat16 comes back as float32
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...
    def __dlpack__(self, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    # + - * / // % ** @ abs neg comparisons & | ^ ~ len iter [] float int bool index repr format, pickle

class SymbolicTensor:
    """A value of an open `Graph`. Same operators and indexing as `Tensor`; has no data: `bool()`, `float()`, `np.asarray()` raise TypeError and say why."""

    shape: tuple[Dim, ...]
    dtype: str
    ndim: int

class VariableState:
    """A mutable tensor. Subclassed by `lamina.Variable`. Fixed shape and dtype."""

    def __new__(cls, value: TensorLike, dtype: str | None = None) -> VariableState: ...
    shape: tuple[int, ...]
    dtype: str
    version: int  # counts assignments
    @property
    def state_value(
        self,
    ) -> (
        Tensor | SymbolicTensor
    ): ...  # inside an open Graph: the symbolic value as of this point of the trace
    def state_assign(
        self, value: TensorLike
    ) -> None: ...  # inside an open Graph: recorded, happens when the function runs
    def state_id(self) -> int: ...

class Graph:
    """A trace in progress: `with Graph() as g: x = g.input((None, 3), "float32"); ...; f = g.function([y])`. Graphs nest; the innermost open one records."""

    def __init__(self) -> None: ...
    def __enter__(self) -> Graph: ...
    def __exit__(self, *exc: Any) -> None: ...
    def input(self, shape: Sequence[Dim], dtype: str, name: str | None = None) -> SymbolicTensor: ...
    def function(
        self, outputs: Sequence[TensorLike]
    ) -> Function: ...  # its assigned variables become state updates
    def is_open() -> bool: ...  # static: is any graph open on this thread

class Function:
    """A compiled trace: plans per concrete input shapes, kept in a bounded LRU."""

    def __call__(
        self, *inputs: TensorLike
    ) -> list[Tensor]: ...  # runs outside the interpreter lock; variables updated in place
    def call_numpy(self, *inputs: TensorLike) -> list[np.ndarray]: ...
    def flops(self, shapes: Sequence[Sequence[int]]) -> int: ...
    def arena_bytes(
        self, shapes: Sequence[Sequence[int]]
    ) -> int: ...  # bytes of intermediates, after sharing
    def live_bytes(self, shapes: Sequence[Sequence[int]]) -> int: ...  # the theoretical least
    def static_bytes(
        self, shapes: Sequence[Sequence[int]]
    ) -> int: ...  # packed weights and other values computed once
    def profile(
        self, *inputs: Any, rounds: int = 10
    ) -> list[
        tuple[str, int, int, int, float]
    ]: ...  # each step: kernel, bytes read, written, operations, seconds
    def describe(self, shapes: Sequence[Sequence[int]]) -> str: ...  # the plan, one line a step

class DirectCall:
    """What models inherit their call from: by the engine's function alone where it is known and fits, else by `_full_call`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def _call_directly(self, function: Function) -> None: ...  # until a layer is edited
    def __getnewargs__(self) -> tuple[()]: ...

def set_plain(plain: bool) -> None: ...  # whether calls on this thread may be direct
def is_plain() -> bool: ...
def edit() -> None: ...  # counts a change to a layer
def edits() -> int: ...

class Tape:
    """Records ops that run now, for `gradient`. Inside an open Graph it records nothing itself: `gradient` differentiates the graph."""

    def __init__(self, persistent: bool = False, watch_variables: bool = True) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def watch(self, tensor: TensorLike) -> None: ...
    def gradient(
        self, target: TensorLike, sources: Sequence[TensorLike], output_gradient: TensorLike | None = None
    ) -> list[Tensor | SymbolicTensor | None]: ...

# --- settings
def set_floatx(name: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def num_threads() -> int: ...
def isa() -> str: ...
def op_names() -> list[str]: ...  # the entries of the op table
def _tensor_from_bytes(bytes: bytes, shape: Sequence[int], dtype: str) -> Tensor: ...  # how pickles come back

# --- making tensors
def tensor(
    value: TensorLike, dtype: str | None = None
) -> (
    Tensor | SymbolicTensor
): ...  # python floats -> floatx, ints -> int32, bools -> bool; numpy keeps its dtype; zero-copy when C-contiguous and aligned
def full(shape: Sequence[int], value: float, dtype: str) -> Tensor: ...
def full_like(
    x: TensorLike, value: float, dtype: str | None = None
) -> TensorLike: ...  # follows x's unknown axes
def arange(start: float, stop: float, step: float, dtype: str) -> Tensor: ...
def promote(*values: TensorLike) -> str: ...  # result dtype

# --- elementwise (broadcasting as numpy)
def unary(op: str, x: TensorLike) -> TensorLike: ...

# neg abs sign exp expm1 log log1p log2 log10 sqrt rsqrt square reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
# sigmoid erf erfinv floor ceil round trunc not isnan isinf isfinite relu ; integer input of a float function is cast to floatx
def binary(op: str, a: TensorLike, b: TensorLike) -> TensorLike: ...

# add sub mul div floordiv mod pow max min atan2 eq ne lt le gt ge and or xor ; div of integers gives floatx; comparisons give bool
# and, or, xor of integers work on their bits
def where(condition: TensorLike, a: TensorLike, b: TensorLike) -> TensorLike: ...
def cast(x: TensorLike, dtype: str) -> TensorLike: ...
def activation(name: str, x: TensorLike, alpha: float = 0.0, beta: float = 0.0) -> TensorLike: ...

# one-op activations the engine can fuse into a producer: relu relu6 leaky_relu(alpha) clamp(alpha,beta) sigmoid tanh silu gelu gelu_tanh
# elu(alpha) selu softplus hard_sigmoid hard_silu exp linear
def stop_gradient(x: TensorLike) -> TensorLike: ...

# --- reductions
def reduce(
    op: str, x: TensorLike, axes: Sequence[int] | None = None, keepdims: bool = False
) -> (
    TensorLike
): ...  # sum mean max min prod any all; sum/prod of bool and small ints give int32; mean of ints gives floatx
def arg_reduce(
    op: str, x: TensorLike, axis: int, keepdims: bool = False
) -> TensorLike: ...  # "max" | "min" -> int32, first occurrence
def cumulative(
    op: str, x: TensorLike, axis: int, reverse: bool = False, exclusive: bool = False
) -> TensorLike: ...  # "sum" | "prod" | "max" | "min"
def sort(
    x: TensorLike, axis: int = -1, descending: bool = False
) -> tuple[TensorLike, TensorLike]: ...  # values, int32 indices; stable
def top_k(
    x: TensorLike, k: int
) -> tuple[TensorLike, TensorLike]: ...  # last axis, values and int32 indices; ties: lower index first

# --- shapes
def shape_of(x: TensorLike) -> tuple[Dim, ...]: ...
def reshape(x: TensorLike, target: Sequence[int | None]) -> TensorLike: ...  # one -1 or None is derived
def reshape_dims(
    x: TensorLike, target: Sequence[tuple[str, int]]
) -> TensorLike: ...  # ("fixed", n) | ("copy", axis of x) | ("infer", 0): exact over unknown axes
def expand_dims(x: TensorLike, axes: Sequence[int]) -> TensorLike: ...
def squeeze(x: TensorLike, axes: Sequence[int] | None = None) -> TensorLike: ...
def transpose(x: TensorLike, perm: Sequence[int] | None = None) -> TensorLike: ...
def broadcast_to(x: TensorLike, shape: Sequence[int | None]) -> TensorLike: ...  # None keeps x's own axis
def broadcast_like(x: TensorLike, like: TensorLike) -> TensorLike: ...
def concat(xs: Sequence[TensorLike], axis: int) -> TensorLike: ...
def slice(
    x: TensorLike, starts: Sequence[int | None], stops: Sequence[int | None], steps: Sequence[int]
) -> TensorLike: ...  # python slice semantics per axis
def dynamic_slice(
    x: TensorLike, starts: TensorLike, sizes: Sequence[int]
) -> TensorLike: ...  # starts: integer tensor (ndim,), clamped
def dynamic_update_slice(x: TensorLike, update: TensorLike, starts: TensorLike) -> TensorLike: ...
def gather(
    x: TensorLike, indices: TensorLike, axis: int
) -> (
    TensorLike
): ...  # numpy.take; negative ids count from the end; ids outside raise IndexError when the op runs
def gather_nd(x: TensorLike, indices: TensorLike) -> TensorLike: ...  # x[ids[..., 0], ids[..., 1], ...]
def gather_along(x: TensorLike, indices: TensorLike, axis: int) -> TensorLike: ...  # numpy.take_along_axis
def scatter_add(
    x: TensorLike, indices: TensorLike, updates: TensorLike
) -> TensorLike: ...  # x + updates summed at rows `indices` (last axis of indices indexes leading axes of x)
def pad(
    x: TensorLike, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0
) -> TensorLike: ...  # constant reflect symmetric
def flip(x: TensorLike, axes: Sequence[int]) -> TensorLike: ...
def one_hot(x: TensorLike, depth: int, dtype: str) -> TensorLike: ...  # new last axis; ids outside give zeros

# --- contractions and windows (channels last; image ops take 4-D, sequence ops are 4-D with height 1)
def matmul(
    a: TensorLike, b: TensorLike, transpose_a: bool = False, transpose_b: bool = False
) -> TensorLike: ...  # numpy.matmul with broadcasting batch axes
def conv2d(
    x: TensorLike,
    kernel: TensorLike,
    strides: tuple[int, int],
    padding: str | tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
    groups: int = 1,
) -> TensorLike: ...  # x (n,h,w,c), kernel (kh,kw,c/groups,filters); padding "valid" | "same" | explicit
def conv2d_transpose(
    x: TensorLike,
    kernel: TensorLike,
    strides: tuple[int, int],
    padding: str,
    output_padding: tuple[int | None, int | None],
    dilation: tuple[int, int],
) -> TensorLike: ...  # kernel (kh,kw,filters,c)
def depthwise_conv2d(
    x: TensorLike,
    kernel: TensorLike,
    strides: tuple[int, int],
    padding: str | tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
) -> TensorLike: ...  # kernel (kh,kw,c,multiplier)
def pool2d(
    kind: str, x: TensorLike, window: tuple[int, int], strides: tuple[int, int], padding: str
) -> TensorLike: ...  # "max" | "avg"

# --- fused families
def softmax(x: TensorLike, axis: int) -> TensorLike: ...
def log_softmax(x: TensorLike, axis: int) -> TensorLike: ...
def layer_norm(
    x: TensorLike,
    gamma: TensorLike | None,
    beta: TensorLike | None,
    axes: Sequence[int],
    epsilon: float,
    rms: bool = False,
) -> TensorLike: ...  # over trailing axes; gamma/beta have their shape
def batch_norm_inference(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    gamma: TensorLike | None,
    beta: TensorLike | None,
    axis: int,
    epsilon: float,
) -> TensorLike: ...
def batch_norm_train(
    x: TensorLike, gamma: TensorLike | None, beta: TensorLike | None, axis: int, epsilon: float
) -> tuple[
    TensorLike, TensorLike, TensorLike
]: ...  # y, batch mean, batch variance (biased), reduced over all other axes

# --- random, counter based: the same seed gives the same numbers at any thread count, eager or traced
def random(
    kind: str, shape: Sequence[int], seed: TensorLike, dtype: str, a: float = 0.0, b: float = 1.0
) -> TensorLike: ...  # uniform[a,b) | normal(mean a, std b) | truncated_normal(a, b; +-2 std) | integers[a,b); seed: uint32 tensor (2,)
def random_like(
    kind: str, x: TensorLike, seed: TensorLike, dtype: str, a: float = 0.0, b: float = 1.0
) -> TensorLike: ...  # shape of x, unknown axes included
