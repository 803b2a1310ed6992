//! `Function`: a compiled trace. One crossing per call.

use crate::arrays;
use crate::errors::OrPy;
use crate::operand::{Operand, concrete};
use crate::tape::is_recording;
use crate::tensor::PyTensor;
use crate::trace::open_trace;
use lamina_core::plan::Results;
use lamina_core::{Function, Tensor, Type};
use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use smallvec::SmallVec;

/// Kernel, bytes read, bytes written, operations, least seconds.
type StepRow = (&'static str, usize, usize, u64, f64);

/// A compiled trace: plans per concrete input shapes, run outside the interpreter.
#[pyclass(name = "Function", module = "lamina._core", frozen)]
pub struct PyFunction {
    function: Function,
}

impl PyFunction {
    /// Wraps an engine function.
    pub fn new(function: Function) -> Self {
        PyFunction { function }
    }

    fn inputs(&self, inputs: &Bound<'_, PyTuple>) -> PyResult<SmallVec<[Tensor; 4]>> {
        let graph = &self.function.traced().graph;
        let mut tensors = SmallVec::new();
        for (i, value) in inputs.iter_borrowed().enumerate() {
            let mut tensor = concrete(inputs.py(), Operand::read(&value)?)?;
            if let Some(v) = graph.inputs().get(i) {
                let wanted = graph.ty(*v).dtype;
                if tensor.dtype() != wanted {
                    tensor = tensor.cast(wanted);
                }
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn run(&self, inputs: &Bound<'_, PyTuple>) -> PyResult<Results> {
        let py = inputs.py();
        let tensors = self.inputs(inputs)?;
        self.run_on(py, &tensors)
    }

    fn run_on(&self, py: Python<'_>, tensors: &[Tensor]) -> PyResult<Results> {
        let plan = self.function.plan_for(tensors).or_py(py)?;
        let run = || plan.run(tensors);
        if plan.is_small() { run() } else { py.detach(run) }.or_py(py)
    }
}

#[pymethods]
impl PyFunction {
    #[pyo3(signature = (*inputs))]
    fn __call__<'py>(&self, inputs: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyList>> {
        let py = inputs.py();
        let outputs = self.run(inputs)?;
        let wrapped: Vec<Bound<'py, PyTensor>> =
            outputs.into_iter().map(|t| Bound::new(py, PyTensor::new(t))).collect::<PyResult<_>>()?;
        PyList::new(py, wrapped)
    }

    /// The only output for the only input, or `None` where the input is not an array of exactly the traced dtype
    /// and axes, or where ops are being recorded: the short way in for a model's call.
    fn try_call<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTensor>>> {
        let py = value.py();
        let traced = self.function.traced();
        let [input] = traced.graph.inputs() else { return Ok(None) };
        if traced.outputs.len() != 1 || is_recording() || open_trace().is_some() {
            return Ok(None);
        }
        let tensor = if let Ok(t) = value.cast_exact::<PyTensor>() {
            t.get().tensor.clone()
        } else if let Ok(array) = value.cast_exact::<PyUntypedArray>() {
            arrays::from_numpy(array)?
        } else {
            return Ok(None);
        };
        let ty = traced.graph.ty(*input);
        let fits = ty.dtype == tensor.dtype()
            && ty.rank() == tensor.shape().len()
            && ty.dims.iter().zip(tensor.shape()).all(|(d, n)| d.is_none_or(|d| d == *n));
        if !fits {
            return Ok(None);
        }
        let mut outputs = self.run_on(py, &[tensor])?;
        Bound::new(py, PyTensor::new(outputs.swap_remove(0))).map(Some)
    }

    /// As a call, with numpy arrays of their own memory for results.
    #[pyo3(signature = (*inputs))]
    fn call_numpy<'py>(&self, inputs: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyList>> {
        let py = inputs.py();
        let outputs = self.run(inputs)?;
        let owner = |t: &Tensor| Ok(Bound::new(py, PyTensor::new(t.clone()))?.into_any());
        let arrays: Vec<Bound<'py, PyAny>> =
            outputs.iter().map(|t| arrays::to_numpy(py, t, owner, true)).collect::<PyResult<_>>()?;
        PyList::new(py, arrays)
    }

    /// Floating-point operations of one call on inputs of these shapes.
    fn flops(&self, py: Python<'_>, shapes: Vec<Vec<usize>>) -> PyResult<u64> {
        Ok(self.plan(py, &shapes)?.flops())
    }

    /// Bytes that intermediates need at once.
    fn arena_bytes(&self, py: Python<'_>, shapes: Vec<Vec<usize>>) -> PyResult<usize> {
        Ok(self.plan(py, &shapes)?.arena_bytes())
    }

    /// The theoretical least bytes of intermediates: what is alive at once at the worst step.
    fn live_bytes(&self, py: Python<'_>, shapes: Vec<Vec<usize>>) -> PyResult<usize> {
        Ok(self.plan(py, &shapes)?.live_bytes())
    }

    /// Bytes of packed weights and other values computed once.
    fn static_bytes(&self, py: Python<'_>, shapes: Vec<Vec<usize>>) -> PyResult<usize> {
        Ok(self.plan(py, &shapes)?.static_bytes())
    }

    /// Every step's `(kernel, bytes read, bytes written, operations, least seconds)` over some rounds.
    #[pyo3(signature = (*inputs, rounds = 10))]
    fn profile(&self, inputs: &Bound<'_, PyTuple>, rounds: usize) -> PyResult<Vec<StepRow>> {
        let py = inputs.py();
        let tensors = self.inputs(inputs)?;
        let plan = self.function.plan_for(&tensors).or_py(py)?;
        let times = py.detach(|| plan.profile(&tensors, rounds)).or_py(py)?;
        Ok(times.into_iter().map(|t| (t.name, t.reads, t.writes, t.flops, t.seconds)).collect())
    }

    /// The plan, one line a step.
    fn describe(&self, py: Python<'_>, shapes: Vec<Vec<usize>>) -> PyResult<String> {
        Ok(self.plan(py, &shapes)?.describe())
    }
}

impl PyFunction {
    fn plan(
        &self,
        py: Python<'_>,
        shapes: &[Vec<usize>],
    ) -> PyResult<std::sync::Arc<lamina_core::plan::Plan>> {
        let graph = &self.function.traced().graph;
        let types: Vec<Type> =
            shapes.iter().zip(graph.inputs()).map(|(s, v)| Type::known(graph.ty(*v).dtype, s)).collect();
        py.detach(|| self.function.plan(&types)).or_py(py)
    }
}
