//! `DirectCall`: the way from `model(array)` to the engine on which no Python runs.

use crate::arrays;
use crate::function::PyFunction;
use crate::tape::is_recording;
use crate::tensor::PyTensor;
use crate::trace::open_trace;
use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// Whether a call means here what it means anywhere: not within another call, nor eager, nor redirected.
    static PLAIN: Cell<bool> = const { Cell::new(true) };
}

/// Changes to all layers together: what was learnt about a model at this count is current.
static EDITS: AtomicU64 = AtomicU64::new(0);

/// Says whether calls on this thread may be direct.
#[pyfunction]
pub fn set_plain(plain: bool) {
    PLAIN.set(plain);
}

/// Whether calls on this thread may be direct.
#[pyfunction]
pub fn is_plain() -> bool {
    PLAIN.get()
}

/// Counts a change to a layer.
#[pyfunction]
pub fn edit() {
    EDITS.fetch_add(1, Ordering::Relaxed);
}

/// How many changes to layers there were.
#[pyfunction]
pub fn edits() -> u64 {
    EDITS.load(Ordering::Relaxed)
}

/// What models inherit their call from: by the engine's function alone where it is known and fits, else by the
/// method `_full_call`.
#[pyclass(name = "DirectCall", module = "lamina._core", subclass, frozen)]
#[derive(Default)]
pub struct DirectCall {
    /// The function, and the count of edits at which it is good.
    function: Mutex<Option<(u64, Py<PyFunction>)>>,
}

impl DirectCall {
    fn current(&self, py: Python<'_>) -> Option<Py<PyFunction>> {
        let known = self.function.lock().unwrap_or_else(|p| p.into_inner());
        known.as_ref().filter(|(count, _)| *count == edits()).map(|(_, function)| function.clone_ref(py))
    }

    /// The outputs for one array, or `None` where the call has more to do or to say.
    fn outputs<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> Option<Bound<'py, PyTensor>> {
        if args.len() != 1 || kwargs.is_some_and(|k| !k.is_empty()) || !PLAIN.get() {
            return None;
        }
        let function = self.current(args.py())?;
        let value = args.get_borrowed_item(0).ok()?;
        // An error comes again on the full way, where the call says which layer it is about.
        run(function.get(), &value).ok().flatten()
    }
}

/// The only output for the only input, or `None` where the input is not an array of exactly the traced dtype and axes,
/// or where ops are being recorded.
fn run<'py>(function: &PyFunction, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTensor>>> {
    let py = value.py();
    let traced = function.traced();
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
    let mut outputs = function.run_on(py, &[tensor])?;
    Bound::new(py, PyTensor::new(outputs.swap_remove(0))).map(Some)
}

#[pymethods]
impl DirectCall {
    #[new]
    fn new() -> Self {
        DirectCall::default()
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().outputs(args, kwargs) {
            Some(outputs) => Ok(outputs.into_any()),
            None => slf.call_method("_full_call", args, kwargs),
        }
    }

    /// From now on, until a layer is edited, calls with one array are those of `function`.
    fn _call_directly(&self, function: Py<PyFunction>) {
        let entry = Some((edits(), function));
        // The one before goes when the lock is free again: what dies with it may call the model.
        let _old = std::mem::replace(&mut *self.function.lock().unwrap_or_else(|p| p.into_inner()), entry);
    }

    /// Copies and pickles make an instance first.
    fn __getnewargs__<'py>(&self, py: Python<'py>) -> Bound<'py, PyTuple> {
        PyTuple::empty(py)
    }
}
