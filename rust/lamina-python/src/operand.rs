//! What an op may be given, and the rules by which Python numbers take a type.

use crate::arrays;
use crate::errors::{OrPy, type_error};
use crate::tensor::PyTensor;
use crate::trace::{PySymbol, Trace};
use crate::variable::PyVariable;
use lamina_core::{DType, Tensor, Type, Value, Variable};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

static FLOATX: AtomicU8 = AtomicU8::new(DType::F32 as u8);

/// The default float type.
pub fn floatx() -> DType {
    DType::ALL[FLOATX.load(Ordering::Relaxed) as usize]
}

/// Sets the default float type.
pub fn set_floatx(dtype: DType) {
    FLOATX.store(dtype as u8, Ordering::Relaxed);
}

/// A dtype by name.
pub fn dtype(name: &str) -> PyResult<DType> {
    name.parse().map_err(type_error)
}

/// A Python number: typed by what it meets.
#[derive(Clone, Copy, Debug)]
pub enum Weak {
    /// `True`, `False`
    Bool(bool),
    /// An int
    Int(i64),
    /// A float
    Float(f64),
}

impl Weak {
    /// The type it has when it meets nothing.
    pub fn dtype(self) -> DType {
        match self {
            Weak::Bool(_) => DType::Bool,
            Weak::Int(x) if i32::try_from(x).is_ok() => DType::I32,
            Weak::Int(_) => DType::I64,
            Weak::Float(_) => floatx(),
        }
    }

    /// The type it gives an operation whose typed operands have type `met`.
    pub fn beside(self, met: DType) -> DType {
        match self {
            Weak::Bool(_) => met,
            Weak::Int(_) if met == DType::Bool => DType::I32,
            Weak::Int(_) => met,
            Weak::Float(_) if met.is_float() => met,
            Weak::Float(_) => floatx(),
        }
    }

    /// As a tensor without axes.
    pub fn tensor(self, dtype: DType) -> Tensor {
        match self {
            Weak::Int(x) if !dtype.is_float() => Tensor::scalar(x).cast(dtype),
            Weak::Int(x) => Tensor::full(dtype, &[], x as f64),
            Weak::Bool(x) => Tensor::full(dtype, &[], x as u8 as f64),
            Weak::Float(x) => Tensor::full(dtype, &[], x),
        }
    }
}

/// An operand of an op.
#[derive(Clone)]
pub enum Operand {
    /// A value that exists; with its number, by which tapes know it.
    Now(Tensor, Option<u64>),
    /// A variable, read when the op runs.
    State(Arc<Variable>),
    /// A value of a trace.
    Later(Arc<Trace>, Value),
    /// A Python number.
    Weak(Weak),
}

impl Operand {
    /// Reads a TensorLike.
    pub fn read(value: &Bound<'_, PyAny>) -> PyResult<Operand> {
        if let Ok(t) = value.cast_exact::<PyTensor>() {
            let t = t.get();
            return Ok(Operand::Now(t.tensor.clone(), Some(t.id)));
        }
        if let Ok(s) = value.cast_exact::<PySymbol>() {
            let s = s.get();
            return Ok(Operand::Later(s.trace.clone(), s.value));
        }
        if let Ok(v) = value.cast::<PyVariable>() {
            return Operand::variable(v);
        }
        if value.is_exact_instance_of::<PyFloat>() {
            return Ok(Operand::Weak(Weak::Float(value.extract()?)));
        }
        if value.is_instance_of::<PyBool>() {
            return Ok(Operand::Weak(Weak::Bool(value.extract()?)));
        }
        if value.is_exact_instance_of::<PyInt>() {
            return match value.extract() {
                Ok(x) => Ok(Operand::Weak(Weak::Int(x))),
                Err(_) => Ok(Operand::Weak(Weak::Float(value.extract()?))),
            };
        }
        if value.is_none() {
            return Err(type_error("expected a tensor or something that can become one, got None"));
        }
        Ok(Operand::Now(arrays::from_anything(value)?, None))
    }

    /// A variable as Python code reads it: through `value`, which autocast and stateless scopes change.
    fn variable(v: &Bound<'_, PyVariable>) -> PyResult<Operand> {
        if v.is_exact_instance_of::<PyVariable>() {
            return Ok(Operand::State(v.get().variable.clone()));
        }
        Operand::read(&v.getattr("value")?)
    }

    /// Its type; a Python number has the type it would have alone.
    pub fn ty(&self) -> Type {
        match self {
            Operand::Now(t, _) => t.ty(),
            Operand::State(v) => v.ty().clone(),
            Operand::Later(trace, v) => trace.ty(*v),
            Operand::Weak(w) => Type::known(w.dtype(), &[]),
        }
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self {
            Operand::Now(t, _) => t.dtype(),
            Operand::State(v) => v.ty().dtype,
            other => other.ty().dtype,
        }
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        match self {
            Operand::Now(t, _) => t.shape().len(),
            other => other.ty().rank(),
        }
    }

    /// As a Python object.
    pub fn wrap(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Operand::Now(t, id) => Py::new(py, PyTensor::numbered(t, id))?.into_any(),
            Operand::Later(trace, value) => Py::new(py, PySymbol { trace, value })?.into_any(),
            Operand::State(v) => Py::new(py, PyTensor::new(v.get()))?.into_any(),
            Operand::Weak(w) => Py::new(py, PyTensor::new(w.tensor(w.dtype())))?.into_any(),
        })
    }
}

/// The common type of several operands, by Keras's rules.
pub fn promote(operands: &[&Operand]) -> DType {
    let typed = operands.iter().filter(|o| !matches!(o, Operand::Weak(_))).map(|o| o.dtype());
    let weak = operands.iter().filter_map(|o| if let Operand::Weak(w) = o { Some(*w) } else { None });
    match typed.reduce(DType::promote) {
        Some(met) => weak.fold(met, |d, w| w.beside(d)),
        None => weak.map(Weak::dtype).reduce(DType::promote).unwrap_or(floatx()),
    }
}

/// A tensor that exists, or the error that says why there is none.
pub fn concrete(py: Python<'_>, operand: Operand) -> PyResult<Tensor> {
    match operand {
        Operand::Now(t, _) => Ok(t),
        Operand::State(v) => Ok(v.get()),
        Operand::Weak(w) => Ok(w.tensor(w.dtype())),
        Operand::Later(..) => Err::<Tensor, _>(lamina_core::Error::Value(
            "a symbolic tensor has no value while a function is being traced".into(),
        ))
        .or_py(py),
    }
}
