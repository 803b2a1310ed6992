//! `Function`: a compiled trace. One crossing per call.

use crate::arrays;
use crate::errors::OrPy;
use crate::operand::{Operand, concrete};
use crate::tensor::PyTensor;
use lamina_core::plan::{Results, Traced};
use lamina_core::{Function, Tensor, Type};
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

    /// What was compiled.
    pub fn traced(&self) -> &Traced {
        self.function.traced()
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

    /// Runs on operands of exactly the traced types.
    pub fn run_on(&self, py: Python<'_>, tensors: &[Tensor]) -> PyResult<Results> {
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
