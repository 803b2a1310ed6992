//! Engine errors as Python exceptions.

use lamina_core::{Error, ShapeError};
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The Python exception for an engine error.
pub fn to_py(py: Python<'_>, error: Error) -> PyErr {
    match error {
        Error::Shape(e) => shape_error(py, &e).unwrap_or_else(|failed| failed),
        Error::Value(message) => PyValueError::new_err(message),
        Error::Index(message) => PyIndexError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
    }
}

/// `lamina.errors.ShapeError` with every field that the engine knows.
fn shape_error(py: Python<'_>, e: &ShapeError) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    fields.set_item("op", &e.op)?;
    fields.set_item("argument", &e.argument)?;
    fields.set_item("expected", &e.expected)?;
    fields.set_item("fix", &e.fix)?;
    let shapes: Vec<Bound<'_, PyTuple>> =
        e.got.iter().map(|dims| PyTuple::new(py, dims.iter())).collect::<PyResult<_>>()?;
    match shapes.as_slice() {
        [] => {}
        [one] => fields.set_item("got", one)?,
        many => fields.set_item("got", many)?,
    }
    let class = py.import("lamina.errors")?.getattr("ShapeError")?;
    Ok(PyErr::from_value(class.call((&e.message,), Some(&fields))?))
}

/// Engine results in Python clothes.
pub trait OrPy<T> {
    /// Maps the error.
    fn or_py(self, py: Python<'_>) -> PyResult<T>;
}

impl<T, E: Into<Error>> OrPy<T> for Result<T, E> {
    fn or_py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| to_py(py, e.into()))
    }
}

/// A TypeError.
pub fn type_error(message: impl Into<String>) -> PyErr {
    PyTypeError::new_err(message.into())
}

/// A ValueError.
pub fn value_error(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}
