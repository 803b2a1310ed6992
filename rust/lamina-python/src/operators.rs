//! Python's operators on tensors, eager and symbolic alike: arithmetic, comparison, indexing, iteration.

use crate::apply::{apply1, cast, wrap1};
use crate::errors::type_error;
use crate::operand::Operand;
use crate::ops;
use crate::tensor::PyTensor;
use crate::trace::PySymbol;
use lamina_core::DType;
use lamina_core::ops::elementwise::Unary;
use lamina_core::ops::gather::Gather;
use lamina_core::ops::index::Slice;
use lamina_core::ops::matmul::MatMul;
use lamina_core::ops::movement::Reshape;
use lamina_kernels::elementwise::{Binary as B, Unary as U};
use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::{PyEllipsis, PyInt, PySlice, PyTuple};

/// `a op b` with either side anything; `NotImplemented` where the other side is not a number or an array,
/// so that its own class may answer.
fn binary(py: Python<'_>, op: B, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    for side in [a, b] {
        // Keras tensors and other symbolic classes take over.
        if side.hasattr("_keras_history")? || side.is_none() || side.is_instance_of::<pyo3::types::PyString>()
        {
            return Ok(py.NotImplemented());
        }
    }
    ops::binary_operands(py, op, Operand::read(a)?, Operand::read(b)?)?.wrap(py)
}

fn unary(py: Python<'_>, op: U, a: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    wrap1(py, Unary(op), &[Operand::read(a)?])
}

fn matmul(py: Python<'_>, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if a.hasattr("_keras_history")? || b.hasattr("_keras_history")? {
        return Ok(py.NotImplemented());
    }
    ops::matmul_operands(py, Operand::read(a)?, Operand::read(b)?, MatMul::default())?.wrap(py)
}

fn compare(py: Python<'_>, op: CompareOp, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let op = match op {
        CompareOp::Lt => B::Lt,
        CompareOp::Le => B::Le,
        CompareOp::Eq => B::Eq,
        CompareOp::Ne => B::Ne,
        CompareOp::Gt => B::Gt,
        CompareOp::Ge => B::Ge,
    };
    binary(py, op, a, b)
}

/// `abs`, `~` and `-` for every type that has them.
fn invert(py: Python<'_>, a: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let a = Operand::read(a)?;
    if a.dtype() != DType::Bool {
        return Err(type_error("~ works on bool tensors; use lamina.ops.bitwise_not for integers"));
    }
    wrap1(py, Unary(U::Not), &[a])
}

/// `x[key]`: integers, slices, ellipsis, None, an integer array along one axis, a bool mask (eager only).
fn index(py: Python<'_>, x: &Bound<'_, PyAny>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let mut x = Operand::read(x)?;
    let parts: Vec<Bound<'_, PyAny>> = match key.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().collect(),
        Err(_) => vec![key.clone()],
    };
    let rank = x.rank();
    let used = parts.iter().filter(|p| !p.is_none() && !p.is_instance_of::<PyEllipsis>()).count();
    if used > rank {
        return Err(pyo3::exceptions::PyIndexError::new_err(format!(
            "too many indices: the tensor has {rank} axes, {used} were indexed"
        )));
    }
    let (mut starts, mut stops, mut steps) = (vec![None; rank], vec![None; rank], vec![1i64; rank]);
    // What happens to each axis of the sliced operand: kept, dropped, or taken from by an array.
    let mut dropped: Vec<usize> = vec![];
    let mut inserted: Vec<usize> = vec![];
    let mut arrays: Vec<(usize, Operand)> = vec![];
    let (mut axis, mut out) = (0, 0);
    for part in &parts {
        if part.is_none() {
            inserted.push(out);
            out += 1;
        } else if part.is_instance_of::<PyEllipsis>() {
            let skip = rank - used;
            axis += skip;
            out += skip;
        } else if let Ok(slice) = part.cast::<PySlice>() {
            let bound = |name: &str| -> PyResult<Option<i64>> {
                let value = slice.getattr(name)?;
                if value.is_none() { Ok(None) } else { value.call_method0("__index__")?.extract().map(Some) }
            };
            starts[axis] = bound("start")?;
            stops[axis] = bound("stop")?;
            steps[axis] = bound("step")?.unwrap_or(1);
            axis += 1;
            out += 1;
        } else if let (false, Ok(i)) = (part.is_instance_of::<pyo3::types::PyBool>(), integer(part)) {
            let length = x.ty().dims[axis];
            if let Some(n) = length.filter(|n| i >= *n as i64 || i < -(*n as i64)) {
                return Err(pyo3::exceptions::PyIndexError::new_err(format!(
                    "index {i} is out of bounds for axis {axis} with size {n}"
                )));
            }
            starts[axis] = Some(i);
            stops[axis] = if i == -1 { None } else { Some(i + 1) };
            dropped.push(axis);
            axis += 1;
        } else {
            let array = Operand::read(part)?;
            if array.dtype() == DType::Bool {
                return mask(py, &x, key);
            }
            if array.dtype().is_float() {
                return Err(pyo3::exceptions::PyIndexError::new_err(
                    "an index must be an integer, a slice or a bool mask",
                ));
            }
            arrays.push((axis, array));
            axis += 1;
            out += 1;
        }
    }
    if steps.contains(&0) {
        return Err(crate::errors::value_error("slice step cannot be zero"));
    }
    if arrays.len() > 1 {
        return ops::gather_together(py, x, arrays, &parts)?.wrap(py);
    }
    let trivial = starts.iter().chain(&stops).all(Option::is_none) && steps.iter().all(|s| *s == 1);
    if !trivial {
        x = apply1(py, Slice::new(&starts, &stops, &steps), &[x])?;
    }
    if let Some((axis, array)) = arrays.pop() {
        let array = cast(py, array, DType::I32)?;
        let extra = array.rank();
        x = apply1(py, Gather { axis }, &[x, array])?;
        // Axes after the indexed one have moved by the array's own.
        let moved = |a: usize| if a > axis { a + extra - 1 } else { a };
        dropped = dropped.into_iter().map(moved).collect();
        let before = axis - dropped.iter().filter(|d| **d < axis).count()
            + inserted.iter().filter(|i| **i <= axis).count();
        inserted = inserted.into_iter().map(|i| if i > before { i + extra - 1 } else { i }).collect();
    }
    if !dropped.is_empty() {
        x = apply1(py, Reshape::drop_axes(x.rank(), &dropped), &[x])?;
    }
    if !inserted.is_empty() {
        x = apply1(py, Reshape::insert_axes(x.rank(), &inserted), &[x])?;
    }
    x.wrap(py)
}

fn integer(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if let Ok(i) = value.cast::<PyInt>() {
        return i.extract();
    }
    // numpy integers; not arrays, which have axes.
    let scalar = value.getattr("shape").and_then(|s| s.len()).is_ok_and(|n| n == 0);
    if scalar && value.cast_exact::<PySymbol>().is_err() {
        return value.call_method0("__index__")?.extract();
    }
    Err(type_error("not an integer"))
}

/// A bool mask: the number of results depends on the data, so only a tensor that exists has it.
fn mask(py: Python<'_>, x: &Operand, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if matches!(x, Operand::Later(..)) {
        return Err(type_error(
            "a bool mask selects a number of elements that is not known while tracing; use lamina.ops.where",
        ));
    }
    let array = x.clone().wrap(py)?.call_method0(py, "numpy")?;
    let numpy_key = match key.cast_exact::<PyTensor>() {
        Ok(t) => t.call_method0("numpy")?,
        Err(_) => key.clone(),
    };
    Operand::read(array.bind(py).get_item(numpy_key)?.as_any())?.wrap(py)
}

macro_rules! operators {
    ($class:ty) => {
        #[pymethods]
        impl $class {
            fn __add__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Add, slf, other)
            }
            fn __radd__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Add, other, slf)
            }
            fn __sub__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Sub, slf, other)
            }
            fn __rsub__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Sub, other, slf)
            }
            fn __mul__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Mul, slf, other)
            }
            fn __rmul__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Mul, other, slf)
            }
            fn __truediv__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Div, slf, other)
            }
            fn __rtruediv__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Div, other, slf)
            }
            fn __floordiv__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::FloorDiv, slf, other)
            }
            fn __rfloordiv__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::FloorDiv, other, slf)
            }
            fn __mod__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Mod, slf, other)
            }
            fn __rmod__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Mod, other, slf)
            }
            fn __pow__<'py>(
                slf: &Bound<'py, Self>,
                other: &Bound<'py, PyAny>,
                _modulo: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Pow, slf, other)
            }
            fn __rpow__<'py>(
                slf: &Bound<'py, Self>,
                other: &Bound<'py, PyAny>,
                _modulo: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Pow, other, slf)
            }
            fn __matmul__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                matmul(slf.py(), slf, other)
            }
            fn __rmatmul__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                matmul(slf.py(), other, slf)
            }
            fn __and__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::And, slf, other)
            }
            fn __rand__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::And, other, slf)
            }
            fn __or__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Or, slf, other)
            }
            fn __ror__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Or, other, slf)
            }
            fn __xor__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Xor, slf, other)
            }
            fn __rxor__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                binary(slf.py(), B::Xor, other, slf)
            }
            fn __neg__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
                unary(slf.py(), U::Neg, slf)
            }
            fn __pos__(slf: Py<Self>) -> Py<Self> {
                slf
            }
            fn __abs__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
                unary(slf.py(), U::Abs, slf)
            }
            fn __invert__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
                invert(slf.py(), slf)
            }
            fn __richcmp__<'py>(
                slf: &Bound<'py, Self>,
                other: &Bound<'py, PyAny>,
                op: CompareOp,
            ) -> PyResult<Py<PyAny>> {
                compare(slf.py(), op, slf, other)
            }
            fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                index(slf.py(), slf, key)
            }
            fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                let n = slf.len()?;
                let rows: Vec<Py<PyAny>> = (0..n)
                    .map(|i| index(slf.py(), slf, PyInt::new(slf.py(), i).as_any()))
                    .collect::<PyResult<_>>()?;
                Ok(pyo3::types::PyList::new(slf.py(), rows)?.try_iter()?.into_any())
            }
        }
    };
}

operators!(PyTensor);
operators!(PySymbol);
