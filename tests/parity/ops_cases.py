"""One line a case: an op of `keras.ops`, its arguments, and what of it is compared. numpy arrays are the
tensors.
"""

import numpy as np
from nn_cases import NN
from op_case import INF, NAN, POSITIVE, UNIT, A, B, J, K, M, N, c, ints, x

_SMOOTH = (
    "arcsinh arctan cos cosh exp expm1 sin sinh square tan tanh negative absolute exp2 sinc cbrt erf erfc"
)
ELEMENTWISE = [
    *(c(name, A) for name in _SMOOTH.split()),
    *(c(name, UNIT) for name in ["arccos", "arcsin", "arctanh", "erfinv"]),
    *(c(name, POSITIVE) for name in ["log", "log10", "log1p", "log2", "sqrt", "rsqrt", "reciprocal"]),
    c("arccosh", POSITIVE + 1.0),
    *(
        c(name, A, grad=False)
        for name in ["ceil", "floor", "trunc", "round", "sign", "signbit", "fabs", "deg2rad", "rad2deg"]
    ),
    *(
        c(name, K, grad=False)
        for name in [
            "absolute",
            "abs",
            "negative",
            "sign",
            "square",
            "exp",
            "sqrt",
            "ceil",
            "trunc",
            "round",
            "fabs",
        ]
    ),
    *(c(name, M, grad=False) for name in ["logical_not", "bitwise_not"]),
    *(c(name, NAN, grad=False) for name in ["isnan", "isinf", "isfinite", "nan_to_num", "sign"]),
    *(
        c(name, INF, grad=False)
        for name in ["isnan", "isinf", "isfinite", "isposinf", "isneginf", "nan_to_num"]
    ),
    c("nan_to_num", INF, nan=1.0, posinf=2.0, neginf=-3.0, grad=False),
    c("round", A * 100, decimals=-1, grad=False),
    c("round", A, decimals=2, grad=False),
    *(
        c(name, A, B)
        for name in [
            "add",
            "subtract",
            "multiply",
            "divide",
            "true_divide",
            "maximum",
            "minimum",
            "arctan2",
            "hypot",
        ]
    ),
    *(c(name, A, B) for name in ["logaddexp", "logaddexp2", "divide_no_nan", "fmax", "fmin"]),
    *(c(name, A, B, grad=False) for name in ["floor_divide", "mod", "fmod", "heaviside"]),
    *(
        c(name, K, J, grad=False)
        for name in [
            "add",
            "subtract",
            "multiply",
            "divide",
            "floor_divide",
            "mod",
            "fmod",
            "maximum",
            "gcd",
            "lcm",
        ]
    ),
    *(c(name, K, A) for name in ["add", "multiply", "divide", "maximum"]),
    *(c(name, A, 2, grad=False) for name in ["add", "multiply", "power", "mod", "floor_divide"]),
    *(c(name, K, 2, grad=False) for name in ["add", "multiply", "power", "divide"]),
    *(c(name, K, 2.5, grad=False) for name in ["add", "multiply", "divide"]),
    *(
        c(name, A, np.round(A), grad=False)
        for name in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
    ),
    *(c(name, K, 3, grad=False) for name in ["equal", "less", "greater_equal"]),
    *(c(name, M, N, grad=False) for name in ["logical_and", "logical_or", "logical_xor"]),
    *(c(name, K, J, grad=False) for name in ["bitwise_and", "bitwise_or", "bitwise_xor"]),
    *(c(name, K, np.int32(2), grad=False) for name in ["bitwise_left_shift", "bitwise_right_shift"]),
    *(c(name, K, grad=False) for name in ["bitwise_not", "bitwise_invert"]),
    *(c(name, K, np.int32(1), grad=False) for name in ["left_shift", "right_shift"]),
    *(c(name, A) for name in ["conj", "conjugate", "copy"]),
    *(c(name, A, grad=False) for name in ["imag", "isreal"]),
    c("power", POSITIVE, B),
    c("power", POSITIVE, 2.5),
    c("add", A, B[0]),
    c("multiply", A[:, None], B[None]),
    c("logaddexp", INF, INF, grad=False),
    c("divide_no_nan", A, np.zeros((3, 4), "float32"), grad=False),
    c("ldexp", A, ints(3, 4, low=-3), grad=False),
    c("clip", A, -1.0, 0.5),
    c("clip", K, -2, 3, grad=False),
    c("isclose", A, A + np.float32(1e-6), grad=False),
    c("isclose", NAN, NAN, equal_nan=True, grad=False),
    c("allclose", A, A + np.float32(1e-3), grad=False),
    c("where", M, A, B),
    c("where", M, A, 0.0),
    c("select", [M, N], [A, B], 7.0, grad=False),
    c("angle", A, grad=False),
    c("real", A),
    c("cast", A, "int32", grad=False),
    c("cast", M, "float32", grad=False),
    c(
        "saturate_cast",
        A * 1e10,
        "int32",
        grad=False,
        # numpy rounds the bound up to 2**31, which then wraps around.
        expected=(np.clip(np.trunc(np.float64(A * np.float32(1e10))), -(2**31), 2**31 - 1).astype("int32"),),
    ),
    c("saturate_cast", K * 100, "int8", grad=False),
    c("saturate_cast", A * 200, "uint8", grad=False),
]

REDUCTIONS = [
    *(
        c(name, A, axis=axis)
        for name in ["sum", "mean", "max", "min", "var", "std", "ptp"]
        for axis in (None, 0, -1)
    ),
    *(c(name, A, axis=1, keepdims=True) for name in ["sum", "mean", "max", "min", "var", "std", "logsumexp"]),
    *(
        c(name, x(2, 3, 4), axis=(0, 2))
        for name in ["sum", "mean", "max", "min", "var", "std", "amax", "amin", "logsumexp"]
    ),
    *(c(name, K, axis=0, grad=False) for name in ["sum", "mean", "max", "min", "var", "prod"]),
    c("sum", M, axis=1, grad=False),
    c("prod", A, axis=1),
    c("prod", A),
    c("max", A, axis=0, initial=1.0),
    *(c(name, M, axis=1, grad=False) for name in ["all", "any", "count_nonzero"]),
    *(c(name, A, axis=axis, grad=False) for name in ["argmax", "argmin"] for axis in (None, 0, -1)),
    c("argmax", A, axis=1, keepdims=True, grad=False),
    c("cumsum", A, axis=1),
    c("cumsum", A),
    c("cumprod", A, axis=0),
    c("average", A, axis=1, weights=POSITIVE),
    c("average", A, axis=1, weights=POSITIVE[0]),
    c("average", A),
    c("corrcoef", A),
    c("trapezoid", A, axis=1),
    c("trapezoid", A, dx=0.5, axis=0),
    *(
        c(name, NAN, axis=1, grad=False)
        for name in ["nansum", "nanprod", "nanmax", "nanmin", "nanmean", "nanvar", "nanstd"]
    ),
    *(c(name, NAN, axis=1, grad=False) for name in ["nancumsum", "nancumprod", "nanmedian"]),
    *(c(name, NAN[[0, 2]], axis=1, grad=False) for name in ["nanargmax", "nanargmin"]),
    c("median", A, axis=1),
    c("median", A, axis=0, keepdims=True),
    c("median", x(2, 3, 4), axis=(0, 2), grad=False),
    c("median", NAN, axis=1, grad=False),
    *(
        c("quantile", A, 0.3, axis=1, method=m, grad=False)
        for m in ["linear", "lower", "higher", "midpoint", "nearest"]
    ),
    c("quantile", A, np.array([0.1, 0.5], "float32"), axis=0, grad=False),
    c("quantile", A, 0.25, axis=0, keepdims=True, grad=False),
    c("percentile", A, 40.0, axis=1, grad=False),
    c("nanquantile", NAN, 0.5, axis=1, grad=False),
    c("nanpercentile", NAN, 30.0, axis=1, grad=False),
    c("logsumexp", A),
    c("logsumexp", A * 100, axis=1),
]

MANIPULATION = [
    c("reshape", A, (4, 3), trace=False),
    c("reshape", x(3, 2, 2), (-1, 4)),
    c("ravel", A),
    c("expand_dims", A, 1),
    c("expand_dims", A, (0, -1)),
    c("squeeze", x(3, 1, 4), 1),
    c("transpose", x(2, 3, 4)),
    c("transpose", x(2, 3, 4), (0, 2, 1)),
    c("moveaxis", x(2, 3, 4), 0, -1),
    c("moveaxis", x(2, 3, 4), (0, 1), (-1, 0)),
    c("swapaxes", x(2, 3, 4), 1, -1),
    c("broadcast_to", x(1, 4), (3, 4)),
    c("concatenate", [A, B], axis=1),
    c("concatenate", [A, B], axis=0),
    c("concatenate", [K, A], axis=-1, grad=False),
    c("stack", [A, B], axis=1),
    c("append", A, B),
    c("append", A, B, axis=0),
    c("hstack", [A, B]),
    c("vstack", [A[0], B[0]], trace=False),
    c("dstack", [A, B]),
    c("split", x(3, 6), 3, axis=1),
    c("split", x(3, 6), [2, 5], axis=1),
    c("array_split", x(3, 7), 3, axis=1),
    c("hsplit", x(3, 6), 2),
    c("vsplit", x(4, 6), 2, trace=False),
    c("dsplit", x(2, 3, 4), 2),
    c("tile", A, (1, 2)),
    c("tile", A, (2, 1, 3)),
    c("repeat", A, 3, axis=1),
    c("repeat", A, 2),
    c("repeat", A, np.array([1, 0, 2, 3]), axis=1, grad=False, trace=False),
    c("flip", A),
    c("flip", A, axis=1),
    c("fliplr", A),
    c("flipud", A),
    c("rot90", A),
    c("rot90", x(2, 3, 4), k=3, axes=(1, 2)),
    c("roll", A, 2, axis=1),
    c("roll", A, -3),
    c("roll", A, (1, 2), axis=(0, 1)),
    c("pad", A, ((0, 0), (1, 2))),
    c("pad", A, ((0, 1), (2, 0)), mode="reflect"),
    c("pad", A, 1, mode="symmetric"),
    c("pad", A, 1, constant_values=3.0),
    c("take", A, ints(2, 2, high=4), axis=1),
    c("take", A, np.array([-1, 0], "int32"), axis=0),
    c("take", A, ints(5, high=12)),
    c("take_along_axis", A, ints(3, 2, high=4), axis=1),
    c("take_along_axis", A, ints(1, 4, high=3), axis=0, grad=False),
    c("diagonal", A),
    c("diagonal", x(2, 3, 4), offset=1, axis1=1, axis2=2),
    c("diag", A, k=-1),
    c("diag", x(3), k=2, trace=False),
    c("diagflat", x(2, 2), trace=False),
    c("trace", A, offset=1),
    c("tril", A, k=1),
    c("triu", x(2, 3, 4), k=-1),
    c("diff", A, axis=1),
    c("diff", A, n=2, axis=1),
    c("unravel_index", ints(5, high=12), (3, 4), grad=False),
    c("ndim", A, grad=False, trace=False),
    c("size", A, grad=False, trace=False),
    c("slice", A, (1, 0), (2, 3)),
    c("slice", A, np.array([1, 1], "int32"), (2, 3), trace=False),
    c("slice_update", A, np.array([1, 2], "int32"), x(2, 2)),
    c("scatter", np.array([[0, 1], [2, 0], [0, 1]], "int32"), x(3), (3, 2)),
    c("scatter_update", A, np.array([[0, 1], [2, 3]], "int32"), x(2)),
    c("scatter_update", A, np.array([[2], [0]], "int32"), x(2, 4)),
    *(
        c("scatter_update", A, np.array([[2], [0], [2]], "int32"), x(3, 4), reduction=r, grad=False)
        for r in ("add", "max", "min", "mul")
    ),
    c("unstack", A, axis=1),
    c("stop_gradient", A, grad=False),
]

SEARCHING = [
    c("sort", A, axis=1),
    c("sort", A, axis=0),
    c("argsort", A, axis=1, grad=False),
    c("nonzero", M, grad=False, trace=False),
    c("unique", K, grad=False, trace=False),
    c(
        "unique",
        K,
        return_inverse=True,
        return_counts=True,
        return_index=True,
        grad=False,
        trace=False,
        # numpy's positions are int64; those of Keras's other backends, as ours, int32.
        expected=tuple(
            np.int32(v) for v in np.unique(K, return_index=True, return_inverse=True, return_counts=True)
        ),
    ),
    c("unique", K, size=20, fill_value=-1, grad=False, trace=False),
    c("searchsorted", np.sort(x(7)), A, grad=False),
    c("searchsorted", np.array([1, 3, 3, 5], "int32"), K, side="right", grad=False),
    c("digitize", A, np.array([-1.0, 0.0, 1.0], "float32"), grad=False),
    c("bincount", ints(20), grad=False, trace=False),
    c("bincount", ints(6, high=4), weights=x(6), minlength=5, grad=False, trace=False),
    c("bincount", ints(2, 5, high=4), minlength=5, grad=False, trace=False),
    *(
        # As with jax and torch, the counts have the dtype of x; numpy's are int64.
        c("histogram", v, grad=False, expected=tuple(map(np.float32, np.histogram(v, **how))), **how)
        for v, how in [(x(30), {"bins": 5}), (x(30), {"bins": 4, "range": (-1.0, 1.0)})]
    ),
    c("isin", K, np.array([1, 2, 3], "int32"), grad=False),
    c("isin", K, np.array([1, 2, 3], "int32"), invert=True, grad=False),
    c("top_k", A, 2, expected=(-np.sort(-A, axis=1)[:, :2], np.argsort(-A, axis=1)[:, :2].astype("int32"))),
    c("in_top_k", ints(3, high=4), A, 2, grad=False),
    *(
        c(f"segment_{kind}", x(6, 2), np.array([0, 0, 1, 3, 1, 0], "int32"), 4, grad=False)
        for kind in ["sum", "max", "min"]
    ),
    c("segment_sum", x(6), np.array([2, 0, 1, 1, 0, 0], "int32"), num_segments=3),
    c("segment_prod", x(6, 2), np.array([0, 0, 1, 2, 1, 0], "int32"), num_segments=3, grad=False),
    c("extract_sequences", x(2, 11), 4, 3),
    c("cdist", x(3, 4), x(5, 4)),
]

_SQUARE = x(3, 3) + 3 * np.eye(3, dtype="float32")
_PD = (_SQUARE @ _SQUARE.T).astype("float32")
CONTRACTION = [
    c("matmul", A, x(4, 5)),
    c("matmul", x(2, 3, 4), x(2, 4, 5)),
    c("matmul", x(2, 3, 4), x(4)),
    c("matmul", x(4), x(2, 4, 3)),
    c("matmul", K, J.T.copy(), grad=False),
    c("dot", A, x(4, 5)),
    c("dot", x(2, 3, 4), x(5, 4, 6)),
    c("dot", x(4), x(4)),
    c("inner", A, x(5, 4)),
    c("outer", x(3), x(4)),
    c("vdot", A, B),
    c("tensordot", x(2, 3, 4), x(4, 3, 5), axes=((1, 2), (1, 0))),
    c("tensordot", x(2, 3, 4), x(3, 4, 5), axes=2),
    c("tensordot", A, x(2), axes=0),
    c("cross", x(5, 3), x(5, 3)),
    c("cross", x(5, 2), x(5, 3)),
    c("cross", x(5, 2), x(5, 2)),
    c("kron", x(2, 3), x(3, 2), trace=False),
    *(c("correlate", x(8), x(3), mode=m) for m in ("valid", "same", "full")),
    *(c("correlate", x(3), x(8), mode=m, trace=False) for m in ("valid", "same", "full")),
    *(
        c("einsum", s, *(x(*shape) for shape in shapes), trace=trace)
        for s, shapes, trace in [
            ("ij,jk->ik", ((2, 3), (3, 4)), True),
            ("ij,jk", ((2, 3), (3, 4)), True),
            ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5)), True),
            ("abc,cde->abde", ((2, 3, 4), (4, 5, 6)), True),
            ("abde,cde->abc", ((2, 3, 5, 6), (4, 5, 6)), True),
            ("btnh,bsnh->bnts", ((2, 3, 2, 4), (2, 5, 2, 4)), True),
            ("bnts,bsnh->btnh", ((2, 2, 3, 5), (2, 5, 2, 4)), True),
            ("bhwc,hwcd->bd", ((2, 3, 4, 5), (3, 4, 5, 2)), True),
            ("ij->ji", ((2, 3),), True),
            ("ij->", ((2, 3),), True),
            ("ii->i", ((3, 3),), False),
            ("ii", ((3, 3),), False),
            ("i,j->ij", ((2,), (3,)), True),
            ("i,i->", ((3,), (3,)), True),
            ("bi,bi->b", ((2, 3), (2, 3)), True),
            ("...ij,jk->...ik", ((2, 5, 3, 4), (4, 6)), True),
            ("...i,...i->...", ((2, 3, 4), (3, 4)), True),
            ("b...d,de->b...e", ((2, 3, 5, 4), (4, 6)), True),
            ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5)), True),
            ("ijk,ilj->kli", ((2, 3, 4), (2, 5, 3)), True),
            ("ij,ij->i", ((2, 3), (2, 3)), True),
            ("ijk,kj->i", ((2, 3, 4), (4, 3)), True),
        ]
    ),
    *(c("norm", A, ord=o, axis=1) for o in (None, 1, 2, 3, np.inf, -np.inf)),
    *(c("norm", A, ord=o) for o in (None, "fro", 1, -1, np.inf, -np.inf)),
    c("norm", x(2, 3, 4), ord=1, axis=(1, 2), keepdims=True),
    c("norm", x(2, 3, 4)),
    c("norm", A, ord=0, axis=1, grad=False),
    c("det", _SQUARE, trace=False),
    c("inv", _SQUARE, trace=False, tolerance=1e-4),
    c("solve", _SQUARE, x(3, 2), trace=False, tolerance=1e-4),
    c("solve", np.stack([_SQUARE, _PD]), x(2, 3, 2), tolerance=1e-4),
    c("slogdet", -_PD, trace=False, tolerance=1e-4),
    c("cholesky", _PD, trace=False, tolerance=1e-4, grad=False),
    c("solve_triangular", np.tril(_SQUARE), x(3, 2), lower=True, trace=False, tolerance=1e-4, grad=False),
    c("solve_triangular", np.triu(_SQUARE), x(3, 2), trace=False, tolerance=1e-4, grad=False),
    c("lstsq", x(5, 3), x(5), trace=False, tolerance=1e-4, grad=False),
    c("cholesky_inverse", np.linalg.cholesky(_PD), trace=False, tolerance=1e-4, grad=False),
    c("logdet", _PD, trace=False, tolerance=1e-4),
]

CREATION = [
    c("zeros", (2, 3), grad=False, trace=False),
    c("ones", (2, 3), dtype="int32", grad=False, trace=False),
    c("full", (2, 3), 7, grad=False, trace=False),
    c("zeros_like", A, grad=False),
    c("ones_like", K, grad=False),
    c("full_like", A, 2, grad=False),
    c("arange", 5, grad=False, trace=False),
    c("arange", 1.0, 3.0, 0.5, grad=False, trace=False),
    c("arange", 10, 0, -3, grad=False, trace=False),
    c("linspace", 0, 5, 7, grad=False, trace=False),
    c("linspace", 0.0, 5.0, num=4, endpoint=False, grad=False, trace=False),
    c("linspace", x(3), x(3), num=4, axis=-1, grad=False),
    c("logspace", 0.0, 2.0, num=5, grad=False, trace=False),
    c("geomspace", 1.0, 16.0, num=5, grad=False, trace=False),
    c("eye", 3, 4, k=1, grad=False, trace=False),
    c("identity", 3, grad=False, trace=False),
    c("tri", 3, 4, k=-1, grad=False, trace=False),
    c("meshgrid", x(3), x(2), grad=False, trace=False),
    c("meshgrid", x(3), x(2), x(4), indexing="ij", grad=False, trace=False),
    *(c(name, 7, grad=False, trace=False) for name in ["bartlett", "blackman", "hamming", "hanning"]),
    c("kaiser", 7, 3.0, grad=False, trace=False),
    c("vander", x(3), N=4, grad=False),
    c("array", [[1, 2], [3, 4]], grad=False, trace=False),
]

ALL = [*ELEMENTWISE, *REDUCTIONS, *MANIPULATION, *SEARCHING, *CONTRACTION, *CREATION, *NN]
