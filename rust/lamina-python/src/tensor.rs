//! `lamina.Tensor`: what eager calls return.

use crate::arrays;
use crate::errors::type_error;
use crate::operand::dtype;
use lamina_core::tensor::Buffer;
use lamina_core::{DType, Tensor};
use lamina_kernels::memory::AlignedBytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Marks the numbers of values that are a variable's.
pub const VARIABLE: u64 = 1 << 63;

/// A number that no other tensor object has.
pub fn fresh_id() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The tensor over memory of its own: a trace's constant must not change when somebody's array does.
pub fn copy_if_foreign(tensor: &Tensor) -> Tensor {
    match &**tensor.buffer() {
        Buffer::Owned(_) => tensor.clone(),
        Buffer::Foreign(bytes) => {
            Tensor::new(tensor.dtype(), tensor.shape(), Buffer::Owned(AlignedBytes::copy_of(bytes)))
        }
    }
}

/// What `pickle` wants: a function and its arguments.
type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyAny>, Py<PyTuple>, &'static str));

/// An immutable array of the engine.
#[pyclass(name = "Tensor", module = "lamina._core", frozen, dict, weakref)]
pub struct PyTensor {
    /// The engine's tensor.
    pub tensor: Tensor,
    /// By which tapes know it.
    pub id: u64,
}

impl PyTensor {
    /// A new value.
    pub fn new(tensor: Tensor) -> Self {
        PyTensor { tensor, id: fresh_id() }
    }

    /// A value that may be on a tape already.
    pub fn numbered(tensor: Tensor, id: Option<u64>) -> Self {
        PyTensor { tensor, id: id.unwrap_or_else(fresh_id) }
    }

    /// A variable's present value.
    pub fn of_variable(tensor: Tensor, id: u64) -> Self {
        PyTensor { tensor, id: id | VARIABLE }
    }

    fn number(&self) -> PyResult<f64> {
        if self.tensor.len() != 1 {
            return Err(type_error(format!(
                "only a tensor of one element can become a Python number; this one has shape {:?}",
                self.tensor.shape()
            )));
        }
        Ok(self.tensor.to_f64()[0])
    }

    fn view<'py>(slf: &Bound<'py, Self>, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let own = &slf.get().tensor;
        let owner = |t: &Tensor| -> PyResult<Bound<'py, PyAny>> {
            if t.same_buffer(own) {
                Ok(slf.clone().into_any())
            } else {
                Ok(Bound::new(py, PyTensor::new(t.clone()))?.into_any())
            }
        };
        arrays::to_numpy(py, own, owner, writable)
    }
}

#[pymethods]
impl PyTensor {
    #[new]
    #[pyo3(signature = (value, dtype=None))]
    fn py_new(py: Python<'_>, value: &Bound<'_, PyAny>, dtype: Option<&str>) -> PyResult<Self> {
        let tensor = crate::operand::concrete(py, crate::operand::Operand::read(value)?)?;
        Ok(PyTensor::new(match dtype {
            Some(name) => tensor.cast(self::dtype(name)?),
            None => tensor,
        }))
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor.shape())
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.tensor.dtype().name()
    }

    #[getter]
    fn ndim(&self) -> usize {
        self.tensor.shape().len()
    }

    #[getter]
    fn size(&self) -> usize {
        self.tensor.len()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor.bytes().len()
    }

    /// A read-only numpy array over the same memory (bfloat16 as float32).
    fn numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::view(slf, false)
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let view = Self::view(slf, false)?;
        let numpy = slf.py().import("numpy")?;
        let own = view.getattr("dtype")?;
        let wanted = match &dtype {
            Some(d) => numpy.call_method1("dtype", (d,))?,
            None => own.clone(),
        };
        if !wanted.eq(&own)? {
            return view.call_method1("astype", (wanted,));
        }
        if copy == Some(true) { view.call_method0("copy") } else { Ok(view) }
    }

    #[pyo3(signature = (**kwargs))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // DLPack consumers share memory; older ones have no way to be told that it is read-only.
        Self::view(slf, true)?.call_method("__dlpack__", (), kwargs)
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }

    /// numpy leaves operators with a tensor to the tensor; its functions (`np.sin(t)`) read it as an array.
    #[classattr]
    fn __array_priority__() -> f64 {
        1000.0
    }

    fn __float__(&self) -> PyResult<f64> {
        self.number()
    }

    fn __int__(&self) -> PyResult<i64> {
        let x = self.number()?;
        if !x.is_finite() {
            return Err(crate::errors::value_error(format!("cannot convert float {x} to integer")));
        }
        Ok(if self.tensor.dtype() == DType::I64 { self.tensor.as_slice::<i64>()[0] } else { x as i64 })
    }

    fn __index__(&self) -> PyResult<i64> {
        if self.tensor.dtype().is_float() {
            return Err(type_error("only an integer tensor can be an index"));
        }
        self.__int__()
    }

    fn __bool__(&self) -> PyResult<bool> {
        if self.tensor.len() != 1 {
            return Err(crate::errors::value_error(format!(
                "the truth value of a tensor of shape {:?} is ambiguous: use lamina.ops.any or lamina.ops.all",
                self.tensor.shape()
            )));
        }
        Ok(self.number()? != 0.0)
    }

    /// The only element as a Python number.
    #[pyo3(name = "item")]
    fn python_item<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::view(slf, false)?.call_method0("item")
    }

    /// Nested lists of Python numbers.
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::view(slf, false)?.call_method0("tolist")
    }

    fn __len__(&self) -> PyResult<usize> {
        self.tensor.shape().first().copied().ok_or_else(|| type_error("len() of a tensor without axes"))
    }

    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        slf.as_ptr() as isize >> 4
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let array = Self::view(slf, false)?;
        let text: String = slf.py().import("numpy")?.call_method1("array_repr", (array,))?.extract()?;
        let body = text.strip_prefix("array(").and_then(|t| t.strip_suffix(')')).unwrap_or(&text);
        let body = body.split(", dtype=").next().unwrap_or(body).replace("\n      ", "\n       ");
        let shape = PyTuple::new(slf.py(), slf.get().tensor.shape())?.repr()?;
        Ok(format!("Tensor({body}, shape={shape}, dtype={})", slf.get().tensor.dtype()))
    }

    fn __format__<'py>(slf: &Bound<'py, Self>, spec: &str) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().tensor.len() == 1 && !spec.is_empty() {
            return Self::python_item(slf)?.call_method1("__format__", (spec,));
        }
        Self::view(slf, false)?.call_method1("__format__", (spec,))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let py = slf.py();
        let tensor = &slf.get().tensor;
        let rebuild = py.import("lamina._core")?.getattr("_tensor_from_bytes")?;
        let bytes = PyBytes::new(py, tensor.bytes()).into_any();
        Ok((rebuild, (bytes, PyTuple::new(py, tensor.shape())?.unbind(), tensor.dtype().name())))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (_memo))]
    fn __deepcopy__(slf: Py<Self>, _memo: Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}
