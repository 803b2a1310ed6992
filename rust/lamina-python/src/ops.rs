//! The op functions of `lamina._core`: arguments to attributes, one op or a few.

use crate::apply::{Operands, apply, apply1, cast, pair, wrap1};
use crate::arrays;
use crate::errors::{OrPy, type_error, value_error};
use crate::operand::{Operand, concrete, dtype, floatx, promote, set_floatx};
use crate::tensor::PyTensor;
use lamina_core::ops::activation::Activation;
use lamina_core::ops::elementwise::{Binary, Named, Unary};
use lamina_core::ops::gather::{
    DynamicSlice, DynamicUpdateSlice, Gather, GatherAlong, GatherNd, OneHot, ScatterAdd,
};
use lamina_core::ops::index::{Concat, Margin, Pad, Slice};
use lamina_core::ops::matmul::MatMul;
use lamina_core::ops::movement::{BroadcastLike, BroadcastTo, Reshape, Target, Transpose};
use lamina_core::ops::reduce::{ArgReduce, Kind, Reduce};
use lamina_core::ops::select::Select;
use lamina_core::ops::sort::{Cumulative, Sort};
use lamina_core::ops::{Op, Real};
use lamina_core::shape::axis_index;
use lamina_core::{DType, Dim, Tensor};
use lamina_kernels::elementwise::{Binary as B, Unary as U};
use lamina_kernels::{Isa, threads};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use smallvec::SmallVec;

/// Adds every function to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($function:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(
        set_floatx_,
        set_num_threads,
        num_threads,
        isa,
        tensor,
        _tensor_from_bytes,
        full,
        full_like,
        arange,
        promote_,
        unary,
        binary,
        where_,
        cast_,
        activation,
        stop_gradient,
        reduce,
        arg_reduce,
        cumulative,
        sort,
        top_k,
        shape_of,
        reshape,
        reshape_dims,
        expand_dims,
        squeeze,
        transpose,
        broadcast_to,
        broadcast_like,
        concat,
        slice,
        dynamic_slice,
        dynamic_update_slice,
        gather,
        gather_along,
        gather_nd,
        scatter_add,
        pad,
        flip,
        one_hot,
        matmul,
        op_names,
    );
    crate::nn::register(module)
}

type Any<'a, 'py> = &'a Bound<'py, PyAny>;
type Out = PyResult<Py<PyAny>>;

/// A possibly negative axis of an operand.
pub fn axis_of(py: Python<'_>, op: &str, axis: i64, rank: usize) -> PyResult<usize> {
    axis_index(op, axis, rank).or_py(py)
}

/// Possibly negative axes: sorted, distinct; all of them where none are named.
fn axes_of(py: Python<'_>, op: &str, axes: Option<Vec<i64>>, rank: usize) -> PyResult<SmallVec<[usize; 4]>> {
    let Some(axes) = axes else { return Ok((0..rank).collect()) };
    let mut found: SmallVec<[usize; 4]> =
        axes.iter().map(|&a| axis_of(py, op, a, rank)).collect::<PyResult<_>>()?;
    found.sort_unstable();
    if found.windows(2).any(|w| w[0] == w[1]) {
        return Err(value_error(format!("{op}: duplicate axes {axes:?}")));
    }
    Ok(found)
}

// --- settings

/// Sets the default float dtype.
#[pyfunction]
#[pyo3(name = "set_floatx")]
fn set_floatx_(name: &str) -> PyResult<()> {
    set_floatx(dtype(name)?);
    Ok(())
}

/// Sets how many threads kernels may use; 0 goes back to the default.
#[pyfunction]
fn set_num_threads(n: usize) {
    threads::set_num_threads(n);
}

/// How many threads kernels may use.
#[pyfunction]
fn num_threads() -> usize {
    threads::num_threads()
}

/// The instruction set in use.
#[pyfunction]
fn isa() -> &'static str {
    Isa::best().name()
}

/// The entries of the op table.
#[pyfunction]
fn op_names() -> Vec<&'static str> {
    Op::NAMES.to_vec()
}

// --- making tensors

/// A tensor of a value: numpy arrays keep their dtype and, where the layout allows, their memory.
#[pyfunction]
#[pyo3(signature = (value, dtype=None))]
fn tensor(py: Python<'_>, value: Any<'_, '_>, dtype: Option<&str>) -> Out {
    let operand = Operand::read(value)?;
    match dtype {
        Some(name) => cast(py, operand, self::dtype(name)?)?.wrap(py),
        None if matches!(operand, Operand::Now(..)) && value.cast_exact::<PyTensor>().is_ok() => {
            Ok(value.clone().unbind())
        }
        None => operand.wrap(py),
    }
}

/// How pickled tensors come back.
#[pyfunction]
fn _tensor_from_bytes(bytes: &[u8], shape: Vec<usize>, dtype: &str) -> PyResult<PyTensor> {
    Ok(PyTensor::new(arrays::from_bytes(self::dtype(dtype)?, &shape, bytes)?))
}

/// `value` everywhere.
#[pyfunction]
fn full(shape: Vec<usize>, value: Any<'_, '_>, dtype: &str) -> PyResult<PyTensor> {
    let dtype = self::dtype(dtype)?;
    let scalar = concrete(value.py(), cast(value.py(), Operand::read(value)?, dtype)?)?;
    if scalar.len() != 1 {
        return Err(value_error("`value` must be a number"));
    }
    let mut out = Tensor::try_zeros(dtype, &shape).or_py(value.py())?;
    match (dtype, scalar.to_f64()[0]) {
        (DType::I64, _) => out.elements_mut::<i64>().fill(scalar.as_slice::<i64>()[0]),
        (_, 0.0) => {} // fresh memory, which costs nothing until it is used
        (_, x) => out.fill(x),
    }
    Ok(PyTensor::new(out))
}

/// `value` in the shape of x, unknown axes included.
#[pyfunction]
#[pyo3(signature = (x, value, dtype=None))]
fn full_like(py: Python<'_>, x: Any<'_, '_>, value: Any<'_, '_>, dtype: Option<&str>) -> Out {
    let x = Operand::read(x)?;
    let dtype = dtype.map_or(Ok(x.dtype()), self::dtype)?;
    let value = cast(py, Operand::read(value)?, dtype)?;
    wrap1(py, BroadcastLike, &[value, x])
}

/// `start, start + step, ...` below `stop`.
#[pyfunction]
fn arange(start: f64, stop: f64, step: f64, dtype: &str) -> PyResult<PyTensor> {
    if step == 0.0 {
        return Err(value_error("arange: step must not be zero"));
    }
    let n = ((stop - start) / step).ceil().max(0.0) as usize;
    let items: Vec<f64> = (0..n).map(|i| start + i as f64 * step).collect();
    Ok(PyTensor::new(Tensor::from_slice(&[n], &items).cast(self::dtype(dtype)?)))
}

/// The dtype in which operands of these dtypes (names) or values meet.
#[pyfunction]
#[pyo3(name = "promote", signature = (*values))]
fn promote_(values: &Bound<'_, PyTuple>) -> PyResult<&'static str> {
    let operands: Vec<Operand> = values
        .iter()
        .map(|v| match v.extract::<String>() {
            Ok(name) => Ok(Operand::Now(Tensor::zeros(dtype(&name)?, &[]), None)),
            Err(_) => Operand::read(&v),
        })
        .collect::<PyResult<_>>()?;
    Ok(promote(&operands.iter().collect::<Vec<_>>()).name())
}

// --- elementwise

fn find<T: Named + 'static>(all: &'static [T], name: &str) -> PyResult<T> {
    all.iter()
        .copied()
        .find(|op| op.name() == name)
        .ok_or_else(|| value_error(format!("unknown op '{name}'")))
}

/// An operand of a function that only floats have: integers become `floatx`.
pub fn as_float(py: Python<'_>, x: Operand) -> PyResult<Operand> {
    if x.dtype().is_float() { Ok(x) } else { cast(py, x, floatx()) }
}

/// A function of one operand.
#[pyfunction]
fn unary(py: Python<'_>, op: &str, x: Any<'_, '_>) -> Out {
    let op = Unary(find(U::ALL, op)?);
    let mut x = Operand::read(x)?;
    let whole = matches!(
        op.0,
        U::Neg
            | U::Abs
            | U::Sign
            | U::Square
            | U::Floor
            | U::Ceil
            | U::Round
            | U::Trunc
            | U::Not
            | U::IsNan
            | U::IsInf
            | U::IsFinite
            | U::Relu
    );
    if !whole {
        x = as_float(py, x)?;
    }
    wrap1(py, op, &[x])
}

/// Both operands brought to one type, by the rules of the function.
pub fn binary_operands(py: Python<'_>, op: B, a: Operand, b: Operand) -> PyResult<Operand> {
    let mut common = promote(&[&a, &b]);
    if matches!(op, B::Div | B::Atan2) && !common.is_float() {
        common = floatx();
    }
    if common == DType::Bool && matches!(op, B::Sub | B::FloorDiv | B::Mod | B::Pow) {
        common = DType::I32;
    }
    let (a, b) = (cast(py, a, common)?, cast(py, b, common)?);
    apply1(py, Binary(op), &[a, b])
}

/// A function of two operands, broadcasting.
#[pyfunction]
fn binary(py: Python<'_>, op: &str, a: Any<'_, '_>, b: Any<'_, '_>) -> Out {
    binary_operands(py, find(B::ALL, op)?, Operand::read(a)?, Operand::read(b)?)?.wrap(py)
}

/// `a` where the condition holds, else `b`.
#[pyfunction]
#[pyo3(name = "where")]
fn where_(py: Python<'_>, condition: Any<'_, '_>, a: Any<'_, '_>, b: Any<'_, '_>) -> Out {
    let condition = cast(py, Operand::read(condition)?, DType::Bool)?;
    let [a, b] = pair(py, Operand::read(a)?, Operand::read(b)?)?;
    wrap1(py, Select, &[condition, a, b])
}

/// Another element type.
#[pyfunction]
#[pyo3(name = "cast")]
fn cast_(py: Python<'_>, x: Any<'_, '_>, dtype: &str) -> Out {
    cast(py, Operand::read(x)?, self::dtype(dtype)?)?.wrap(py)
}

/// An activation that the engine can fuse into the kernel before it.
#[pyfunction]
#[pyo3(signature = (name, x, alpha=0.0, beta=0.0))]
fn activation(py: Python<'_>, name: &str, x: Any<'_, '_>, alpha: f64, beta: f64) -> Out {
    let x = as_float(py, Operand::read(x)?)?;
    let (a, b) = (Real::new(alpha), Real::new(beta));
    let op = match name {
        "linear" => return x.wrap(py),
        "relu" => Op::from(Unary(U::Relu)),
        "sigmoid" => Unary(U::Sigmoid).into(),
        "tanh" => Unary(U::Tanh).into(),
        "exp" => Unary(U::Exp).into(),
        "relu6" => Activation::Relu6.into(),
        "leaky_relu" => Activation::LeakyRelu(a).into(),
        "clamp" => Activation::Clamp(a, b).into(),
        "silu" => Activation::Silu.into(),
        "gelu" => Activation::Gelu.into(),
        "gelu_tanh" => Activation::GeluTanh.into(),
        "elu" => Activation::Elu(a).into(),
        "selu" => Activation::Selu.into(),
        "softplus" => Activation::Softplus.into(),
        "hard_sigmoid" => Activation::HardSigmoid.into(),
        "hard_silu" => Activation::HardSilu.into(),
        _ => return Err(value_error(format!("unknown activation '{name}'"))),
    };
    wrap1(py, op, &[x])
}

/// The value as a constant of the gradient.
#[pyfunction]
fn stop_gradient(py: Python<'_>, x: Any<'_, '_>) -> Out {
    match Operand::read(x)? {
        // A tensor of another number: no tape knows it.
        Operand::Now(t, _) => Operand::Now(t, None).wrap(py),
        Operand::State(v) if crate::trace::open_trace().is_none() => Operand::Now(v.get(), None).wrap(py),
        operand => wrap1(py, lamina_core::ops::movement::StopGradient, &[operand]),
    }
}

// --- reductions

/// Sums, means, extremes, products over axes.
#[pyfunction]
#[pyo3(signature = (op, x, axes=None, keepdims=false))]
fn reduce(py: Python<'_>, op: &str, x: Any<'_, '_>, axes: Option<Vec<i64>>, keepdims: bool) -> Out {
    let known = Kind::ALL.into_iter().find(|k| k.name() == op);
    let kind = known.ok_or_else(|| value_error(format!("unknown reduction '{op}'")))?;
    let mut x = Operand::read(x)?;
    x = match kind {
        Kind::Any | Kind::All => cast(py, x, DType::Bool)?,
        Kind::Mean => as_float(py, x)?,
        Kind::Sum | Kind::Prod => match x.dtype() {
            DType::Bool | DType::I8 | DType::I16 => cast(py, x, DType::I32)?,
            DType::U8 | DType::U16 => cast(py, x, DType::U32)?,
            _ => x,
        },
        _ => x,
    };
    let axes = axes_of(py, op, axes, x.rank())?;
    wrap1(py, Reduce { kind, axes, keepdims }, &[x])
}

/// Where the extreme is, as int32.
#[pyfunction]
#[pyo3(signature = (op, x, axis, keepdims=false))]
fn arg_reduce(py: Python<'_>, op: &str, x: Any<'_, '_>, axis: i64, keepdims: bool) -> Out {
    let x = Operand::read(x)?;
    let rank = x.rank();
    let axis = axis_of(py, "argmax", axis, rank)?;
    let mut y = apply1(py, ArgReduce { largest: op == "max", axis }, &[x])?;
    if keepdims {
        y = apply1(py, Reshape::insert_axes(rank - 1, &[axis]), &[y])?;
    }
    y.wrap(py)
}

/// Running sums, products, extremes.
#[pyfunction]
#[pyo3(signature = (op, x, axis, reverse=false, exclusive=false))]
fn cumulative(py: Python<'_>, op: &str, x: Any<'_, '_>, axis: i64, reverse: bool, exclusive: bool) -> Out {
    let op = match op {
        "sum" => B::Add,
        "prod" => B::Mul,
        "max" => B::Max,
        "min" => B::Min,
        _ => return Err(value_error(format!("unknown running value '{op}'"))),
    };
    let mut x = Operand::read(x)?;
    if x.dtype() == DType::Bool {
        x = cast(py, x, DType::I32)?;
    }
    let rank = x.rank();
    let axis = axis_of(py, "cumsum", axis, rank)?;
    if exclusive {
        // The neutral element moves in, the last one out.
        let neutral = if op == B::Mul { 1.0 } else { 0.0 };
        let (mut widths, (start, stop)) =
            (vec![(0, 0); rank], if reverse { (Some(1), None) } else { (None, Some(-1)) });
        widths[axis] = if reverse { (0, 1) } else { (1, 0) };
        x = apply1(py, Slice::along(rank, axis, start, stop), &[x])?;
        x = apply1(py, Pad { widths: widths.into(), margin: Margin::Constant(Real::new(neutral)) }, &[x])?;
    }
    wrap1(py, Cumulative { op, axis, reverse }, &[x])
}

/// Values in order along an axis, and where each came from.
#[pyfunction]
#[pyo3(signature = (x, axis=-1, descending=false))]
fn sort(py: Python<'_>, x: Any<'_, '_>, axis: i64, descending: bool) -> PyResult<Py<PyTuple>> {
    let x = Operand::read(x)?;
    let axis = axis_of(py, "sort", axis, x.rank())?;
    tuple(py, apply(py, Sort { axis, descending, k: None }, &[x])?)
}

/// The largest values of the last axis, and where they are.
#[pyfunction]
fn top_k(py: Python<'_>, x: Any<'_, '_>, k: usize) -> PyResult<Py<PyTuple>> {
    let x = Operand::read(x)?;
    let axis = axis_of(py, "top_k", -1, x.rank())?;
    tuple(py, apply(py, Sort { axis, descending: true, k: Some(k) }, &[x])?)
}

/// Results as a tuple.
pub fn tuple(py: Python<'_>, values: Operands) -> PyResult<Py<PyTuple>> {
    let values: Vec<Py<PyAny>> = values.into_iter().map(|v| v.wrap(py)).collect::<PyResult<_>>()?;
    Ok(PyTuple::new(py, values)?.unbind())
}

// --- shapes

/// The axes, `None` where unknown.
#[pyfunction]
fn shape_of<'py>(py: Python<'py>, x: Any<'_, 'py>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, Operand::read(x)?.ty().dims)
}

/// Another shape; one axis may be -1 or None.
#[pyfunction]
fn reshape(py: Python<'_>, x: Any<'_, '_>, target: Vec<Option<i64>>) -> Out {
    let open = target.iter().filter(|t| t.is_none_or(|n| n < 0)).count();
    if open > 1 {
        return Err(value_error(format!("reshape: only one axis can be derived, got {open} in {target:?}")));
    }
    let axes = target.into_iter().map(|t| match t {
        Some(n) if n >= 0 => Target::Fixed(n as usize),
        _ => Target::Infer,
    });
    wrap1(py, Reshape(axes.collect()), &[Operand::read(x)?])
}

/// Another shape, each axis `("fixed", n)`, `("copy", axis of x)` or `("infer", 0)`.
#[pyfunction]
fn reshape_dims(py: Python<'_>, x: Any<'_, '_>, target: Vec<(String, usize)>) -> Out {
    let axes = target.into_iter().map(|(kind, n)| match kind.as_str() {
        "fixed" => Ok(Target::Fixed(n)),
        "copy" => Ok(Target::Copy(n)),
        "infer" => Ok(Target::Infer),
        other => Err(value_error(format!("reshape: unknown kind of axis '{other}'"))),
    });
    wrap1(py, Reshape(axes.collect::<PyResult<_>>()?), &[Operand::read(x)?])
}

/// New axes of length 1 at these places of the result.
#[pyfunction]
fn expand_dims(py: Python<'_>, x: Any<'_, '_>, axes: Vec<i64>) -> Out {
    let x = Operand::read(x)?;
    let rank = x.rank();
    let axes = axes_of(py, "expand_dims", Some(axes.clone()), rank + axes.len())?;
    wrap1(py, Reshape::insert_axes(rank, &axes), &[x])
}

/// Drops axes of length 1.
#[pyfunction]
#[pyo3(signature = (x, axes=None))]
fn squeeze(py: Python<'_>, x: Any<'_, '_>, axes: Option<Vec<i64>>) -> Out {
    let x = Operand::read(x)?;
    let dims = x.ty().dims;
    let axes = match axes {
        Some(axes) => axes_of(py, "squeeze", Some(axes), dims.len())?,
        None => (0..dims.len()).filter(|&i| dims[i] == Some(1)).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| dims[a].is_some_and(|n| n != 1)) {
        return Err(value_error(format!(
            "Cannot squeeze axis={axis}, because the dimension is not 1. Received: x.shape={}",
            lamina_core::shape::show(&dims)
        )));
    }
    wrap1(py, Reshape::drop_axes(dims.len(), &axes), &[x])
}

/// Axes in another order; reversed where none is given.
#[pyfunction]
#[pyo3(signature = (x, perm=None))]
fn transpose(py: Python<'_>, x: Any<'_, '_>, perm: Option<Vec<i64>>) -> Out {
    let x = Operand::read(x)?;
    let rank = x.rank();
    let perm: SmallVec<[usize; 4]> = match perm {
        Some(perm) => perm.iter().map(|&a| axis_of(py, "transpose", a, rank)).collect::<PyResult<_>>()?,
        None => (0..rank).rev().collect(),
    };
    wrap1(py, Transpose(perm), &[x])
}

/// Repetition to a shape; `None` keeps x's own axis.
#[pyfunction]
fn broadcast_to(py: Python<'_>, x: Any<'_, '_>, shape: Vec<Dim>) -> Out {
    wrap1(py, BroadcastTo(shape.into()), &[Operand::read(x)?])
}

/// Repetition to the shape of another value.
#[pyfunction]
fn broadcast_like(py: Python<'_>, x: Any<'_, '_>, like: Any<'_, '_>) -> Out {
    wrap1(py, BroadcastLike, &[Operand::read(x)?, Operand::read(like)?])
}

/// Joined along an axis.
#[pyfunction]
fn concat(py: Python<'_>, xs: Vec<Bound<'_, PyAny>>, axis: i64) -> Out {
    let xs: Vec<Operand> = xs.iter().map(Operand::read).collect::<PyResult<_>>()?;
    let Some(first) = xs.first() else { return Err(value_error("concatenate: needs at least one operand")) };
    let axis = axis_of(py, "concatenate", axis, first.rank())?;
    let common = promote(&xs.iter().collect::<Vec<_>>());
    let xs: Vec<Operand> = xs.into_iter().map(|x| cast(py, x, common)).collect::<PyResult<_>>()?;
    wrap1(py, Concat { axis }, &xs)
}

/// Python's slices along every axis.
#[pyfunction]
fn slice(
    py: Python<'_>,
    x: Any<'_, '_>,
    starts: Vec<Option<i64>>,
    stops: Vec<Option<i64>>,
    steps: Vec<i64>,
) -> Out {
    if starts.len() != stops.len() || starts.len() != steps.len() {
        return Err(value_error("slice: starts, stops and steps differ in length"));
    }
    wrap1(py, Slice::new(&starts, &stops, &steps), &[Operand::read(x)?])
}

fn ids(py: Python<'_>, value: Any<'_, '_>) -> PyResult<Operand> {
    let ids = Operand::read(value)?;
    if ids.dtype() == DType::Bool || matches!(ids, Operand::Weak(_)) {
        return cast(py, ids, DType::I32);
    }
    if ids.dtype().is_float() {
        return Err(type_error(format!("indices must be integers, got {}", ids.dtype())));
    }
    Ok(ids)
}

/// A window of fixed size whose place comes with the data.
#[pyfunction]
fn dynamic_slice(py: Python<'_>, x: Any<'_, '_>, starts: Any<'_, '_>, sizes: Vec<usize>) -> Out {
    wrap1(py, DynamicSlice(sizes.into()), &[Operand::read(x)?, ids(py, starts)?])
}

/// x with a window overwritten.
#[pyfunction]
fn dynamic_update_slice(py: Python<'_>, x: Any<'_, '_>, update: Any<'_, '_>, starts: Any<'_, '_>) -> Out {
    let x = Operand::read(x)?;
    let update = cast(py, Operand::read(update)?, x.dtype())?;
    wrap1(py, DynamicUpdateSlice, &[x, update, ids(py, starts)?])
}

/// `numpy.take`.
#[pyfunction]
fn gather(py: Python<'_>, x: Any<'_, '_>, indices: Any<'_, '_>, axis: i64) -> Out {
    let x = Operand::read(x)?;
    let axis = axis_of(py, "take", axis, x.rank())?;
    wrap1(py, Gather { axis }, &[x, ids(py, indices)?])
}

/// `numpy.take_along_axis`.
#[pyfunction]
fn gather_along(py: Python<'_>, x: Any<'_, '_>, indices: Any<'_, '_>, axis: i64) -> Out {
    let (mut x, mut indices) = (Operand::read(x)?, ids(py, indices)?);
    let axis = axis_of(py, "take_along_axis", axis, x.rank())?;
    let (mut dx, mut di) = (x.ty().dims, indices.ty().dims);
    if dx.len() == di.len()
        && dx
            .iter()
            .zip(&di)
            .enumerate()
            .any(|(i, (a, b))| i != axis && a != b && (*a == Some(1) || *b == Some(1)))
    {
        // Axes of length 1 repeat, as in numpy.
        let (kept_x, kept_i) = (dx[axis], di[axis]);
        if let Some(both) = lamina_core::shape::broadcast(
            &dx.iter().enumerate().map(|(i, d)| if i == axis { Some(1) } else { *d }).collect::<Vec<_>>(),
            &di.iter().enumerate().map(|(i, d)| if i == axis { Some(1) } else { *d }).collect::<Vec<_>>(),
        ) {
            (dx, di) = (both.clone(), both);
            (dx[axis], di[axis]) = (kept_x, kept_i);
            x = apply1(py, BroadcastTo(dx), &[x])?;
            indices = apply1(py, BroadcastTo(di), &[indices])?;
        }
    }
    wrap1(py, GatherAlong { axis }, &[x, indices])
}

/// `x[ids[..., 0], ids[..., 1], ...]`.
#[pyfunction]
fn gather_nd(py: Python<'_>, x: Any<'_, '_>, indices: Any<'_, '_>) -> Out {
    wrap1(py, GatherNd, &[Operand::read(x)?, ids(py, indices)?])
}

/// x with updates added at the places that the last axis of the indices names.
#[pyfunction]
fn scatter_add(py: Python<'_>, x: Any<'_, '_>, indices: Any<'_, '_>, updates: Any<'_, '_>) -> Out {
    let x = Operand::read(x)?;
    let updates = cast(py, Operand::read(updates)?, x.dtype())?;
    wrap1(py, ScatterAdd, &[x, ids(py, indices)?, updates])
}

/// Several index arrays at once, as numpy's advanced indexing over leading axes.
pub fn gather_together(
    py: Python<'_>,
    x: Operand,
    arrays: Vec<(usize, Operand)>,
    parts: &[Bound<'_, PyAny>],
) -> PyResult<Operand> {
    if parts.len() != arrays.len() || arrays.iter().enumerate().any(|(i, (axis, _))| i != *axis) {
        return Err(type_error(
            "several index arrays must stand at the first axes, with no slice between them",
        ));
    }
    let mut dims: lamina_core::Dims = Default::default();
    for (_, a) in &arrays {
        dims = lamina_core::shape::broadcast(&dims, &a.ty().dims)
            .ok_or_else(|| value_error("index arrays could not be broadcast together"))?;
    }
    let mut columns = vec![];
    for (_, a) in arrays {
        let a = apply1(py, BroadcastTo(dims.clone()), &[cast(py, a, DType::I32)?])?;
        columns.push(apply1(py, Reshape::insert_axes(dims.len(), &[dims.len()]), &[a])?);
    }
    let ids = apply1(py, Concat { axis: dims.len() }, &columns)?;
    apply1(py, GatherNd, &[x, ids])
}

/// Margins: "constant", "reflect" or "symmetric".
#[pyfunction]
#[pyo3(signature = (x, widths, mode="constant", value=0.0))]
fn pad(py: Python<'_>, x: Any<'_, '_>, widths: Vec<(usize, usize)>, mode: &str, value: f64) -> Out {
    let margin = match mode {
        "constant" => Margin::Constant(Real::new(value)),
        "reflect" => Margin::Reflect,
        "symmetric" => Margin::Symmetric,
        _ => return Err(value_error(format!("pad: unknown mode '{mode}'"))),
    };
    wrap1(py, Pad { widths: widths.into(), margin }, &[Operand::read(x)?])
}

/// Reversed along axes.
#[pyfunction]
fn flip(py: Python<'_>, x: Any<'_, '_>, axes: Vec<i64>) -> Out {
    let x = Operand::read(x)?;
    let axes = axes_of(py, "flip", Some(axes), x.rank())?;
    wrap1(py, Slice::flip(x.rank(), &axes), &[x])
}

/// Ids as unit vectors along a new last axis.
#[pyfunction]
fn one_hot(py: Python<'_>, x: Any<'_, '_>, depth: usize, dtype: &str) -> Out {
    let mut x = Operand::read(x)?;
    if !x.dtype().is_int() || matches!(x, Operand::Weak(_)) {
        x = cast(py, x, DType::I32)?;
    }
    wrap1(py, OneHot { depth, dtype: self::dtype(dtype)? }, &[x])
}

// --- contractions

/// `numpy.matmul`: vectors stand for a row on the left and a column on the right.
pub fn matmul_operands(py: Python<'_>, a: Operand, b: Operand, op: MatMul) -> PyResult<Operand> {
    let mut common = promote(&[&a, &b]);
    if common == DType::Bool {
        common = DType::I32;
    }
    let (mut a, mut b) = (cast(py, a, common)?, cast(py, b, common)?);
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    if row {
        a = apply1(py, Reshape::insert_axes(1, &[0]), &[a])?;
    }
    if column {
        b = apply1(py, Reshape::insert_axes(1, &[1]), &[b])?;
    }
    let op = MatMul { transpose_a: op.transpose_a && !row, transpose_b: op.transpose_b && !column, ..op };
    let mut y = apply1(py, op, &[a, b])?;
    if column {
        y = apply1(py, Reshape::drop_axes(y.rank(), &[y.rank() - 1]), &[y])?;
    }
    if row {
        let at = y.rank() - if column { 1 } else { 2 };
        y = apply1(py, Reshape::drop_axes(y.rank(), &[at]), &[y])?;
    }
    Ok(y)
}

/// Matrix product with broadcasting leading axes.
#[pyfunction]
#[pyo3(signature = (a, b, transpose_a=false, transpose_b=false))]
fn matmul(py: Python<'_>, a: Any<'_, '_>, b: Any<'_, '_>, transpose_a: bool, transpose_b: bool) -> Out {
    let op = MatMul::new(transpose_a, transpose_b);
    matmul_operands(py, Operand::read(a)?, Operand::read(b)?, op)?.wrap(py)
}
