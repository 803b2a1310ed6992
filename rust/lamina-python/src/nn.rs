//! The op functions of neural networks: windows, normalisation, randomness.

use crate::apply::{apply, apply1, cast, pair, wrap1};
use crate::errors::{OrPy, type_error, value_error};
use crate::operand::{Operand, dtype};
use crate::ops::{as_float, axis_of, tuple};
use lamina_core::DType;
use lamina_core::ops::Real;
use lamina_core::ops::conv::{Conv, ConvGradInput};
use lamina_core::ops::movement::Transpose;
use lamina_core::ops::norm::{BatchNormInference, Norm};
use lamina_core::ops::pool::{Pool, PoolKind};
use lamina_core::ops::random::{Distribution, Draw, Random, RandomLike};
use lamina_core::ops::softmax::Softmax;
use lamina_core::ops::window::Padding;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;
type Out = PyResult<Py<PyAny>>;

/// Adds every function to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($function:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(
        pool2d,
        conv2d,
        conv2d_transpose,
        depthwise_conv2d,
        softmax,
        log_softmax,
        random,
        random_like,
        layer_norm,
        batch_norm_inference,
        batch_norm_train
    );
    Ok(())
}

/// `"valid"`, `"same"` or `((top, bottom), (left, right))`.
fn padding(value: Any<'_, '_>) -> PyResult<Padding> {
    if let Ok(name) = value.extract::<String>() {
        return match name.as_str() {
            "valid" => Ok(Padding::Valid),
            "same" => Ok(Padding::Same),
            other => Err(value_error(format!("unknown padding '{other}': expected 'valid' or 'same'"))),
        };
    }
    let around: [(usize, usize); 2] = value
        .extract()
        .map_err(|_| type_error("padding must be 'valid', 'same' or ((top, bottom), (left, right))"))?;
    Ok(Padding::Explicit(around))
}

/// Convolution of (n, h, w, c) with (kh, kw, c / groups, filters).
#[pyfunction]
#[pyo3(signature = (x, kernel, strides, padding, dilation, groups=1))]
fn conv2d(
    py: Python<'_>,
    x: Any<'_, '_>,
    kernel: Any<'_, '_>,
    strides: [usize; 2],
    padding: Any<'_, '_>,
    dilation: [usize; 2],
    groups: usize,
) -> Out {
    let op = Conv::new(strides, self::padding(padding)?, dilation, groups);
    wrap1(py, op, &pair(py, Operand::read(x)?, Operand::read(kernel)?)?)
}

/// Transposed convolution of (n, h, w, c) with (kh, kw, filters, c).
#[pyfunction]
fn conv2d_transpose(
    py: Python<'_>,
    x: Any<'_, '_>,
    kernel: Any<'_, '_>,
    strides: [usize; 2],
    padding: &str,
    output_padding: [Option<usize>; 2],
    dilation: [usize; 2],
) -> Out {
    let [x, kernel] = pair(py, Operand::read(x)?, Operand::read(kernel)?)?;
    let same = match padding {
        "same" => true,
        "valid" => false,
        other => return Err(value_error(format!("unknown padding '{other}': expected 'valid' or 'same'"))),
    };
    let op = ConvGradInput::transposed(&kernel.ty(), strides, same, output_padding, dilation).or_py(py)?;
    wrap1(py, op, &[x, kernel])
}

/// Convolution of each channel alone: (n, h, w, c) with (kh, kw, c, multiplier).
#[pyfunction]
fn depthwise_conv2d(
    py: Python<'_>,
    x: Any<'_, '_>,
    kernel: Any<'_, '_>,
    strides: [usize; 2],
    padding: Any<'_, '_>,
    dilation: [usize; 2],
) -> Out {
    let op = Conv::depthwise(strides, self::padding(padding)?, dilation);
    wrap1(py, op, &pair(py, Operand::read(x)?, Operand::read(kernel)?)?)
}

/// `exp(x) / sum(exp(x))` along an axis.
#[pyfunction]
fn softmax(py: Python<'_>, x: Any<'_, '_>, axis: i64) -> Out {
    let x = as_float(py, Operand::read(x)?)?;
    let axis = axis_of(py, "softmax", axis, x.rank())?;
    wrap1(py, Softmax { axis, log: false }, &[x])
}

/// The logarithm of `softmax`.
#[pyfunction]
fn log_softmax(py: Python<'_>, x: Any<'_, '_>, axis: i64) -> Out {
    let x = as_float(py, Operand::read(x)?)?;
    let axis = axis_of(py, "log_softmax", axis, x.rank())?;
    wrap1(py, Softmax { axis, log: true }, &[x])
}

fn draw(kind: &str, dtype: &str, a: f64, b: f64) -> PyResult<Draw> {
    let from = match kind {
        "uniform" => Distribution::Uniform,
        "normal" => Distribution::Normal,
        "truncated_normal" => Distribution::TruncatedNormal,
        "integers" => Distribution::Integers,
        "bits" => Distribution::Bits,
        other => return Err(value_error(format!("unknown distribution '{other}'"))),
    };
    Ok(Draw::new(from, a, b, self::dtype(dtype)?))
}

/// Random numbers of a given shape: a pure function of the seed.
#[pyfunction]
#[pyo3(signature = (kind, shape, seed, dtype, a=0.0, b=1.0))]
fn random(
    py: Python<'_>,
    kind: &str,
    shape: Vec<usize>,
    seed: Any<'_, '_>,
    dtype: &str,
    a: f64,
    b: f64,
) -> Out {
    let seed = cast(py, Operand::read(seed)?, DType::U32)?;
    wrap1(py, Random { draw: draw(kind, dtype, a, b)?, shape: shape.into() }, &[seed])
}

/// Random numbers in the shape of x, unknown axes included.
#[pyfunction]
#[pyo3(signature = (kind, x, seed, dtype, a=0.0, b=1.0))]
fn random_like(
    py: Python<'_>,
    kind: &str,
    x: Any<'_, '_>,
    seed: Any<'_, '_>,
    dtype: &str,
    a: f64,
    b: f64,
) -> Out {
    let seed = cast(py, Operand::read(seed)?, DType::U32)?;
    wrap1(py, RandomLike(draw(kind, dtype, a, b)?), &[seed, Operand::read(x)?])
}

/// An optional parameter of a normalisation, in x's type.
fn parameter(py: Python<'_>, value: Option<Any<'_, '_>>, dtype: DType) -> PyResult<Option<Operand>> {
    value.filter(|v| !v.is_none()).map(|v| cast(py, Operand::read(v)?, dtype)).transpose()
}

/// Layer (or RMS) normalisation over trailing axes; gamma and beta have their shape.
#[pyfunction]
#[pyo3(signature = (x, gamma, beta, axes, epsilon, rms=false))]
fn layer_norm(
    py: Python<'_>,
    x: Any<'_, '_>,
    gamma: Option<Any<'_, '_>>,
    beta: Option<Any<'_, '_>>,
    axes: Vec<i64>,
    epsilon: f64,
    rms: bool,
) -> Out {
    let x = as_float(py, Operand::read(x)?)?;
    let rank = x.rank();
    let mut axes: Vec<usize> =
        axes.iter().map(|&a| axis_of(py, "layer_normalization", a, rank)).collect::<PyResult<_>>()?;
    axes.sort_unstable();
    if !axes.iter().copied().eq(rank - axes.len()..rank) {
        return Err(value_error(format!("layer_norm: axes {axes:?} are not the last ones of {rank}")));
    }
    let (gamma, beta) = (parameter(py, gamma, x.dtype())?, parameter(py, beta, x.dtype())?);
    let op = Norm::layer(axes.len(), epsilon, rms, gamma.is_some(), beta.is_some());
    let operands: Vec<Operand> = [Some(x), gamma, beta].into_iter().flatten().collect();
    wrap1(py, op, &operands)
}

/// Normalisation by given statistics, which belong to one axis.
#[pyfunction]
fn batch_norm_inference(
    py: Python<'_>,
    x: Any<'_, '_>,
    mean: Any<'_, '_>,
    variance: Any<'_, '_>,
    gamma: Option<Any<'_, '_>>,
    beta: Option<Any<'_, '_>>,
    axis: i64,
    epsilon: f64,
) -> Out {
    let x = as_float(py, Operand::read(x)?)?;
    let (axis, dtype) = (axis_of(py, "batch_normalization", axis, x.rank())?, x.dtype());
    let mean = parameter(py, Some(mean), dtype)?;
    let variance = parameter(py, Some(variance), dtype)?;
    let (gamma, beta) = (parameter(py, gamma, dtype)?, parameter(py, beta, dtype)?);
    let op = BatchNormInference {
        axis,
        epsilon: Real::new(epsilon),
        gamma: gamma.is_some(),
        beta: beta.is_some(),
    };
    let operands: Vec<Operand> = [Some(x), mean, variance, gamma, beta].into_iter().flatten().collect();
    wrap1(py, op, &operands)
}

/// Normalisation by the batch's own statistics, which come back too: `(y, mean, biased variance)`.
#[pyfunction]
fn batch_norm_train(
    py: Python<'_>,
    x: Any<'_, '_>,
    gamma: Option<Any<'_, '_>>,
    beta: Option<Any<'_, '_>>,
    axis: i64,
    epsilon: f64,
) -> PyResult<Py<PyTuple>> {
    let mut x = as_float(py, Operand::read(x)?)?;
    let rank = x.rank();
    let axis = axis_of(py, "batch_normalization", axis, rank)?;
    // The kernel wants the channels last; the layout pass cancels what neighbours undo.
    let to_last: Transpose = Transpose((0..rank).filter(|&a| a != axis).chain([axis]).collect());
    let moved = axis + 1 != rank;
    if moved {
        x = apply1(py, to_last.clone(), &[x])?;
    }
    let (gamma, beta) = (parameter(py, gamma, x.dtype())?, parameter(py, beta, x.dtype())?);
    let op = Norm::batch(epsilon, gamma.is_some(), beta.is_some());
    let operands: Vec<Operand> = [Some(x), gamma, beta].into_iter().flatten().collect();
    let mut results = apply(py, op, &operands)?;
    if moved {
        results[0] = apply1(py, to_last.inverse(), &[results[0].clone()])?;
    }
    tuple(py, results)
}

/// Max or average pooling of (n, h, w, c).
#[pyfunction]
fn pool2d(
    py: Python<'_>,
    kind: &str,
    x: Any<'_, '_>,
    window: [usize; 2],
    strides: [usize; 2],
    padding: Any<'_, '_>,
) -> Out {
    let kind = match kind {
        "max" => PoolKind::Max,
        "avg" => PoolKind::Avg,
        other => return Err(value_error(format!("unknown pooling '{other}'"))),
    };
    let mut x = Operand::read(x)?;
    if kind == PoolKind::Avg {
        x = as_float(py, x)?;
    }
    wrap1(py, Pool::new(kind, window, strides, self::padding(padding)?), &[x])
}
