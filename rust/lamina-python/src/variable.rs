//! `VariableState`: what `lamina.Variable` is made of.

use crate::apply::cast;
use crate::errors::{OrPy, value_error};
use crate::operand::{Operand, concrete, dtype};
use crate::tensor::{PyTensor, copy_if_foreign};
use crate::trace::open_trace;
use lamina_core::Variable;
use lamina_core::shape::show;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

/// A mutable tensor of fixed shape and dtype.
#[pyclass(name = "VariableState", module = "lamina._core", subclass, frozen, dict, weakref)]
pub struct PyVariable {
    /// The engine's variable.
    pub variable: Arc<Variable>,
}

#[pymethods]
impl PyVariable {
    #[new]
    #[pyo3(signature = (value, dtype=None))]
    fn new(py: Python<'_>, value: &Bound<'_, PyAny>, dtype: Option<&str>) -> PyResult<Self> {
        let tensor = concrete(py, Operand::read(value)?)?;
        let tensor = match dtype {
            Some(name) => tensor.cast(self::dtype(name)?),
            None => tensor,
        };
        Ok(PyVariable { variable: Arc::new(Variable::new(copy_if_foreign(&tensor))) })
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.variable.ty().dims.iter().map(|d| d.unwrap_or(0)))
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.variable.ty().dtype.name()
    }

    #[getter]
    fn version(&self) -> u64 {
        self.variable.version()
    }

    fn state_id(&self) -> u64 {
        self.variable.id()
    }

    #[getter]
    fn state_value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match open_trace() {
            Some(trace) => {
                let value = trace.read(&self.variable);
                Operand::Later(trace, value).wrap(py)
            }
            None => {
                let tensor = py.detach(|| self.variable.get());
                Ok(Py::new(py, PyTensor::of_variable(tensor, self.variable.id()))?.into_any())
            }
        }
    }

    fn state_assign(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let ty = self.variable.ty();
        let operand = cast(py, Operand::read(value)?, ty.dtype)?;
        let given = operand.ty();
        let fits =
            given.rank() == ty.rank() && given.dims.iter().zip(&ty.dims).all(|(g, w)| g.is_none() || g == w);
        if !fits {
            return Err(value_error(format!(
                "cannot assign a value of shape {} to a variable of shape {}",
                show(&given.dims),
                show(&ty.dims)
            )));
        }
        if let Some(trace) = open_trace() {
            let value = trace.value_of(&operand);
            trace.assign(&self.variable, value);
            return Ok(());
        }
        let tensor = copy_if_foreign(&concrete(py, operand)?);
        py.detach(|| self.variable.set(tensor)).or_py(py)
    }
}
