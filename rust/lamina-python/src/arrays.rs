//! numpy in and out, without a copy where the layout allows.

use crate::errors::{type_error, value_error};
use lamina_core::tensor::Buffer;
use lamina_core::{DType, Tensor};
use lamina_kernels::memory::{AlignedBytes, ForeignBytes};
use numpy::npyffi::{self, NpyTypes, PY_ARRAY_API, npy_intp};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// numpy's dtype as one of ours.
fn dtype_of(descr: &Bound<'_, PyArrayDescr>) -> Option<DType> {
    Some(match (descr.kind(), descr.itemsize()) {
        (b'b', 1) => DType::Bool,
        (b'u', 1) => DType::U8,
        (b'u', 2) => DType::U16,
        (b'u', 4) => DType::U32,
        (b'i', 1) => DType::I8,
        (b'i', 2) => DType::I16,
        (b'i', 4) => DType::I32,
        (b'i', 8) => DType::I64,
        (b'f', 2) => DType::F16,
        (b'f', 4) => DType::F32,
        (b'f', 8) => DType::F64,
        // ml_dtypes registers bfloat16 as a two-byte type of its own.
        (_, 2) if descr.typeobj().name().is_ok_and(|n| n == "bfloat16") => DType::BF16,
        _ => return None,
    })
}

/// A tensor over a numpy array's memory: lent where it is contiguous, aligned and in native byte order,
/// copied otherwise.
pub fn from_numpy(array: &Bound<'_, PyUntypedArray>) -> PyResult<Tensor> {
    let py = array.py();
    let descr = array.dtype();
    let Some(dtype) = dtype_of(&descr) else {
        return from_other(array);
    };
    let native = descr.is_native_byteorder().unwrap_or(true);
    let ptr = array_data(array);
    let aligned = (ptr as usize).is_multiple_of(dtype.size());
    if !(array.is_c_contiguous() && aligned && native) {
        let numpy = py.import("numpy")?;
        let kwargs = PyDict::new(py);
        kwargs.set_item("dtype", descr.call_method1("newbyteorder", ("=",))?)?;
        kwargs.set_item("order", "C")?;
        let copy = numpy.call_method("array", (array,), Some(&kwargs))?;
        return from_numpy(&copy.cast_into::<PyUntypedArray>()?);
    }
    let bytes = array.len() * dtype.size();
    let owner: Py<PyUntypedArray> = array.clone().unbind();
    // SAFETY: a C-contiguous array of `len` items owns (or keeps alive through its base) these bytes, and
    // `owner` keeps the array. Writing to it from Python meanwhile is the caller's race, as everywhere in numpy.
    let buffer = unsafe { ForeignBytes::new(ptr, bytes, Box::new(owner)) };
    Ok(Tensor::new(dtype, array.shape(), Buffer::Foreign(buffer)))
}

fn array_data(array: &Bound<'_, PyUntypedArray>) -> *const u8 {
    // SAFETY: `array` is a live numpy array; reading its data field is what PyArray_DATA does.
    unsafe { (*array.as_array_ptr()).data.cast() }
}

/// Types we have no element for: uint64 as int64 where it fits, strings and objects refused.
fn from_other(array: &Bound<'_, PyUntypedArray>) -> PyResult<Tensor> {
    let descr = array.dtype();
    match descr.kind() {
        b'u' => {
            let largest = array.call_method0("max").and_then(|m| m.extract::<u64>()).unwrap_or(0);
            if largest > i64::MAX as u64 {
                return Err(value_error(format!("uint64 value {largest} does not fit in int64")));
            }
            from_numpy(&array.call_method1("astype", ("int64",))?.cast_into::<PyUntypedArray>()?)
        }
        b'f' => from_numpy(&array.call_method1("astype", ("float64",))?.cast_into::<PyUntypedArray>()?),
        b'O' => {
            // An array of numbers that numpy could not type. It would make NaN of None.
            let floats = array.call_method1("astype", ("float64",));
            let mut entries = array.getattr("flat")?.try_iter()?;
            let holes = entries.any(|entry| entry.is_ok_and(|entry| entry.is_none()));
            match floats {
                Ok(a) if !holes => from_numpy(&a.cast_into::<PyUntypedArray>()?),
                _ => Err(type_error(format!(
                    "cannot make a tensor of Python objects (numpy dtype object, shape {:?}): expected numbers; \
                     a list of rows of different lengths has no shape",
                    array.shape()
                ))),
            }
        }
        _ => Err(type_error(format!("cannot make a tensor of numpy dtype {descr}: expected numbers"))),
    }
}

/// A numpy array over a tensor's memory, which `owner` keeps alive.
///
/// bfloat16, which numpy lacks, comes back as float32.
pub fn to_numpy<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    owner: impl FnOnce(&Tensor) -> PyResult<Bound<'py, PyAny>>,
    writable: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let widened;
    let tensor = if tensor.dtype() == DType::BF16 {
        widened = tensor.cast(DType::F32);
        &widened
    } else {
        tensor
    };
    let descr = descr(py, tensor.dtype())?;
    let owner = owner(tensor)?;
    let mut dims: Vec<npy_intp> = tensor.shape().iter().map(|&n| n as npy_intp).collect();
    let flags = if writable { npyffi::NPY_ARRAY_WRITEABLE } else { 0 };
    // SAFETY: the data pointer covers shape x itemsize contiguous bytes, which live as long as `owner`, the
    // array's base. Both calls steal the references that are given up with `into_ptr`.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            PY_ARRAY_API.get_type_object(py, NpyTypes::PyArray_Type),
            descr.into_dtype_ptr(),
            dims.len() as i32,
            dims.as_mut_ptr(),
            std::ptr::null_mut(),
            tensor.bytes().as_ptr().cast_mut().cast(),
            flags,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), owner.into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}

/// numpy's descriptor of an element type.
fn descr(py: Python<'_>, dtype: DType) -> PyResult<Bound<'_, PyArrayDescr>> {
    Ok(match dtype {
        DType::F32 => numpy::dtype::<f32>(py),
        DType::F64 => numpy::dtype::<f64>(py),
        DType::I32 => numpy::dtype::<i32>(py),
        DType::I64 => numpy::dtype::<i64>(py),
        DType::Bool => numpy::dtype::<bool>(py),
        other => PyArrayDescr::new(py, other.name())?,
    })
}

/// An owned copy of raw bytes as a tensor: how pickles come back.
pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> PyResult<Tensor> {
    if bytes.len() != shape.iter().product::<usize>() * dtype.size() {
        return Err(value_error("a tensor's bytes do not match its shape"));
    }
    Ok(Tensor::new(dtype, shape, Buffer::Owned(AlignedBytes::copy_of(bytes))))
}

/// Anything numpy can make an array of, as a tensor. Python floats become `floatx`, ints int32.
pub fn from_anything(value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let py = value.py();
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return from_numpy(array);
    }
    if value.hasattr("__dlpack__")? && !value.hasattr("__array__")? {
        let array = py.import("numpy")?.call_method1("from_dlpack", (value,))?;
        return from_numpy(array.cast::<PyUntypedArray>()?);
    }
    let typed = value.hasattr("dtype")?; // numpy scalars, other libraries' tensors
    let array = py.import("numpy")?.call_method1("asarray", (value,)).map_err(|e| {
        let message = e.value(py).to_string();
        if message.contains("inhomogeneous") { value_error(ragged(value).unwrap_or(message)) } else { e }
    })?;
    let tensor = from_numpy(array.cast::<PyUntypedArray>()?)?;
    Ok(match tensor.dtype() {
        DType::F64 if !typed => tensor.cast(crate::operand::floatx()),
        // numpy's default integer is 64 bits wide; Keras's is 32, where the numbers fit.
        DType::I64 if !typed && fits_i32(&tensor) => tensor.cast(DType::I32),
        _ => tensor,
    })
}

fn fits_i32(tensor: &Tensor) -> bool {
    tensor.as_slice::<i64>().iter().all(|&x| i32::try_from(x).is_ok())
}

/// Says which rows of a nested list have different lengths.
fn ragged(value: &Bound<'_, PyAny>) -> Option<String> {
    let lengths: Vec<usize> =
        value.try_iter().ok()?.map(|row| row.ok()?.len().ok()).collect::<Option<_>>()?;
    let first = *lengths.first()?;
    let (row, other) = lengths.iter().enumerate().find(|(_, n)| **n != first)?;
    Some(format!(
        "a list of rows of different lengths has no shape: row 0 has {first} elements, row {row} has {other}. \
         Pad the rows to one length."
    ))
}
