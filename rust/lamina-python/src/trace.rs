//! Traces: graphs under construction, and the symbolic tensors that stand for their values.

use crate::errors::{type_error, value_error};
use crate::function::PyFunction;
use crate::operand::{Operand, dtype};
use crate::tensor::copy_if_foreign;
use lamina_core::plan::Traced;
use lamina_core::{Dim, Function, Graph, Op, ShapeError, Type, Value, Variable};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard};

thread_local! {
    static OPEN: RefCell<Vec<Arc<Trace>>> = const { RefCell::new(vec![]) };
}

/// The innermost graph that is open on this thread.
pub fn open_trace() -> Option<Arc<Trace>> {
    OPEN.with(|open| open.borrow().last().cloned())
}

/// A graph under construction, and what its variables have become so far.
#[derive(Default)]
pub struct Trace {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    graph: Graph,
    /// Present value of every variable that was assigned, by its id.
    current: FxHashMap<u64, (Arc<Variable>, Value)>,
}

impl Trace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> Type {
        self.lock().graph.ty(v).clone()
    }

    /// Works on the graph.
    pub fn with_graph<R>(&self, body: impl FnOnce(&mut Graph) -> R) -> R {
        body(&mut self.lock().graph)
    }

    /// Records an op.
    pub fn add(&self, op: Op, operands: &[Operand]) -> Result<SmallVec<[Value; 3]>, ShapeError> {
        let values: SmallVec<[Value; 3]> = operands.iter().map(|o| self.value_of(o)).collect();
        self.lock().graph.add_all(op, &values)
    }

    /// The value of an operand in this graph.
    pub fn value_of(&self, operand: &Operand) -> Value {
        match operand {
            Operand::Later(_, v) => *v,
            Operand::State(v) => self.read(v),
            Operand::Now(t, _) => self.lock().graph.constant(copy_if_foreign(t)),
            Operand::Weak(w) => self.lock().graph.constant(w.tensor(w.dtype())),
        }
    }

    /// What a variable holds at this point of the trace.
    pub fn read(&self, variable: &Arc<Variable>) -> Value {
        let mut state = self.lock();
        match state.current.get(&variable.id()) {
            Some((_, v)) => *v,
            None => state.graph.variable(variable),
        }
    }

    /// Gives a variable another value from this point of the trace on.
    pub fn assign(&self, variable: &Arc<Variable>, value: Value) {
        let mut state = self.lock();
        state.graph.variable(variable);
        state.current.insert(variable.id(), (variable.clone(), value));
    }
}

/// A trace in progress.
///
///     with Graph() as g:
///         x = g.input((None, 3), "float32")
///         f = g.function([x + 1])
#[pyclass(name = "Graph", module = "lamina._core", frozen)]
pub struct PyGraph {
    trace: Arc<Trace>,
}

#[pymethods]
impl PyGraph {
    #[new]
    fn new() -> Self {
        PyGraph { trace: Arc::default() }
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        OPEN.with(|open| open.borrow_mut().push(slf.trace.clone()));
        slf
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, PyTuple>) {
        OPEN.with(|open| {
            let mut open = open.borrow_mut();
            if let Some(at) = open.iter().rposition(|t| Arc::ptr_eq(t, &self.trace)) {
                open.remove(at);
            }
        });
    }

    /// A placeholder: `None` where an axis is not known yet.
    #[pyo3(signature = (shape, dtype, name=None))]
    fn input(&self, shape: Vec<Dim>, dtype: &str, name: Option<&str>) -> PyResult<PySymbol> {
        let _ = name;
        let ty = Type::new(self::dtype(dtype)?, shape);
        let value = self.trace.with_graph(|g| g.input(ty));
        Ok(PySymbol { trace: self.trace.clone(), value })
    }

    /// The finished computation of `outputs`; variables that were assigned are updated when it runs.
    fn function(&self, outputs: Vec<Bound<'_, PyAny>>) -> PyResult<PyFunction> {
        let mut values = vec![];
        for output in &outputs {
            let operand = Operand::read(output)?;
            if let Operand::Later(trace, _) = &operand
                && !Arc::ptr_eq(trace, &self.trace)
            {
                return Err(value_error("an output belongs to another trace"));
            }
            values.push(self.trace.value_of(&operand));
        }
        let state = self.trace.lock();
        let mut updates = vec![];
        for (i, (variable, entry)) in state.graph.variables().iter().enumerate() {
            if let Some((_, v)) = state.current.get(&variable.id()).filter(|(_, v)| v != entry) {
                updates.push((i, *v));
            }
        }
        let traced = Traced { graph: state.graph.clone(), outputs: values, updates };
        Ok(PyFunction::new(Function::new(traced)))
    }

    /// Whether a trace is in progress on this thread.
    #[staticmethod]
    fn is_open() -> bool {
        OPEN.with(|open| !open.borrow().is_empty())
    }
}

/// A value of a trace: has a shape and a dtype, no data.
#[pyclass(name = "SymbolicTensor", module = "lamina._core", frozen, dict, weakref)]
pub struct PySymbol {
    /// Whose value it is.
    pub trace: Arc<Trace>,
    /// Which.
    pub value: Value,
}

fn no_data<T>(what: &str) -> PyResult<T> {
    Err(type_error(format!(
        "{what} needs the data of a tensor, but this one is symbolic: it stands for data that arrives when the \
         model runs. Use lamina.ops instead of numpy or Python's own functions, and lamina.ops.where or \
         lamina.ops.cond instead of `if`."
    )))
}

#[pymethods]
impl PySymbol {
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.trace.ty(self.value).dims)
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.trace.ty(self.value).dtype.name()
    }

    #[getter]
    fn ndim(&self) -> usize {
        self.trace.ty(self.value).rank()
    }

    fn __repr__(&self) -> String {
        let ty = self.trace.ty(self.value);
        format!("<SymbolicTensor shape={}, dtype={}>", lamina_core::shape::show(&ty.dims), ty.dtype)
    }

    fn __len__(&self) -> PyResult<usize> {
        match self.trace.ty(self.value).dims.first() {
            Some(Some(n)) => Ok(*n),
            Some(None) => no_data("len() of an unknown axis"),
            None => Err(type_error("len() of a tensor without axes")),
        }
    }

    fn __bool__(&self) -> PyResult<bool> {
        no_data("bool(), `if` and `while`")
    }

    fn __float__(&self) -> PyResult<f64> {
        no_data("float()")
    }

    fn __int__(&self) -> PyResult<i64> {
        no_data("int()")
    }

    fn __index__(&self) -> PyResult<i64> {
        no_data("an index")
    }

    #[pyo3(signature = (*_args, **_kwargs))]
    fn __array__(
        &self,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<()> {
        no_data("a numpy function")
    }

    #[classattr]
    fn __array_ufunc__() -> Option<Py<PyAny>> {
        None
    }

    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        slf.as_ptr() as isize >> 4
    }
}
