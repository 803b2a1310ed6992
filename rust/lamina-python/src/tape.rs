//! Tapes: eager ops written down for `gradient`.

use crate::errors::OrPy;
use crate::operand::{Operand, concrete};
use crate::tensor::{VARIABLE, fresh_id};
use lamina_core::autodiff::gradients;
use lamina_core::plan::Plan;
use lamina_core::tape::Tape;
use lamina_core::{Op, Tensor, Type, Value};
use lamina_kernels::Isa;
use pyo3::prelude::*;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard};

thread_local! {
    static RECORDING: RefCell<Vec<Arc<Mutex<Record>>>> = const { RefCell::new(vec![]) };
}

/// A tape, and which tensor objects stand on it where.
#[derive(Default)]
struct Record {
    tape: Tape,
    values: FxHashMap<u64, Value>,
    watch_variables: bool,
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(|p| p.into_inner())
}

/// The number by which tapes know an operand.
fn number(operand: &Operand) -> Option<u64> {
    match operand {
        Operand::Now(_, id) => *id,
        Operand::State(v) => Some(v.id() | VARIABLE),
        _ => None,
    }
}

impl Record {
    /// Where an operand stands on the tape, if it does. Variables join when they are first met.
    fn find(&mut self, operand: &Operand, tensor: &Tensor) -> Option<Value> {
        let id = number(operand)?;
        let on_tape = self.values.get(&id).copied();
        if id & VARIABLE == 0 {
            return on_tape;
        }
        // A variable that was assigned since is another leaf.
        let current = on_tape.filter(|v| self.tape.known(*v).is_some_and(|t| t.same_buffer(tensor)));
        if current.is_none() && (self.watch_variables || on_tape.is_some()) {
            let v = self.tape.watch(tensor);
            self.values.insert(id, v);
            return Some(v);
        }
        current
    }

    fn record(
        &mut self,
        op: &Op,
        operands: &[Operand],
        inputs: &[Tensor],
        outputs: &[Tensor],
        ids: &[u64],
    ) -> lamina_core::Result<()> {
        let found: Vec<Option<Value>> = operands.iter().zip(inputs).map(|(o, t)| self.find(o, t)).collect();
        if found.iter().all(Option::is_none) {
            return Ok(());
        }
        let values: Vec<Value> =
            found.into_iter().zip(inputs).map(|(v, t)| v.unwrap_or_else(|| self.tape.constant(t))).collect();
        for (v, id) in self.tape.record(op, &values, outputs)?.into_iter().zip(ids) {
            self.values.insert(*id, v);
        }
        Ok(())
    }
}

/// Whether a tape records on this thread.
pub fn is_recording() -> bool {
    RECORDING.with(|recording| !recording.borrow().is_empty())
}

/// Writes an op that ran on every tape that records.
pub fn record(
    op: &Op,
    operands: &[Operand],
    inputs: &[Tensor],
    outputs: &[Tensor],
    ids: &[u64],
) -> lamina_core::Result<()> {
    RECORDING.with(|recording| {
        for tape in recording.borrow().iter() {
            lock(tape).record(op, operands, inputs, outputs, ids)?;
        }
        Ok(())
    })
}

/// Records ops that run now, for `gradient`.
#[pyclass(name = "Tape", module = "lamina._core", frozen)]
pub struct PyTape {
    record: Arc<Mutex<Record>>,
    persistent: bool,
}

#[pymethods]
impl PyTape {
    #[new]
    #[pyo3(signature = (persistent=false, watch_variables=true))]
    fn new(persistent: bool, watch_variables: bool) -> Self {
        let record = Record { watch_variables, ..Record::default() };
        PyTape { record: Arc::new(Mutex::new(record)), persistent }
    }

    /// Starts to record on this thread.
    fn start(&self) {
        RECORDING.with(|r| r.borrow_mut().push(self.record.clone()));
    }

    /// Stops recording.
    fn stop(&self) {
        RECORDING.with(|r| {
            let mut recording = r.borrow_mut();
            if let Some(at) = recording.iter().rposition(|t| Arc::ptr_eq(t, &self.record)) {
                recording.remove(at);
            }
        });
    }

    /// Makes a tensor a leaf, so that gradients with respect to it can be asked for.
    fn watch(&self, py: Python<'_>, tensor: &Bound<'_, PyAny>) -> PyResult<()> {
        let operand = Operand::read(tensor)?;
        if let (Some(id), false) = (number(&operand), matches!(operand, Operand::Later(..))) {
            let value = concrete(py, operand)?;
            let mut record = lock(&self.record);
            let v = record.tape.watch(&value);
            record.values.insert(id, v);
        }
        Ok(())
    }

    /// The gradients of the sum of `target` (weighted by `output_gradient`); `None` for a source it does not
    /// depend on.
    #[pyo3(signature = (target, sources, output_gradient=None))]
    fn gradient(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        sources: Vec<Bound<'_, PyAny>>,
        output_gradient: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Option<Py<PyAny>>>> {
        let target = Operand::read(target)?;
        let sources: Vec<Operand> = sources.iter().map(Operand::read).collect::<PyResult<_>>()?;
        let seed = output_gradient.map(Operand::read).transpose()?;
        if let Operand::Later(trace, v) = &target {
            let sources: Vec<Value> = sources.iter().map(|s| trace.value_of(s)).collect();
            let seed = seed.map(|s| trace.value_of(&s));
            let found = trace.with_graph(|g| gradients(g, *v, &sources, seed)).or_py(py)?;
            let wrap = |g: Option<Value>| g.map(|g| Operand::Later(trace.clone(), g).wrap(py)).transpose();
            return found.into_iter().map(wrap).collect();
        }
        let seed = seed.map(|s| concrete(py, s)).transpose()?;
        let mut record = lock(&self.record);
        let Some(&end) = number(&target).and_then(|id| record.values.get(&id)) else {
            return Ok(sources.iter().map(|_| None).collect());
        };
        // A source that is not on the tape stands for itself: nothing depends on it.
        let places: Vec<Option<Value>> =
            sources.iter().map(|s| number(s).and_then(|id| record.values.get(&id)).copied()).collect();
        let wanted: Vec<Value> = places.iter().flatten().copied().collect();
        let backward = record.tape.backward(end, &wanted, seed.as_ref()).or_py(py)?;
        let ids: FxHashMap<Value, u64> = record.values.iter().map(|(id, v)| (*v, *id)).collect();
        if !self.persistent {
            let watch_variables = record.watch_variables;
            *record = Record { watch_variables, ..Record::default() };
        }
        drop(record);

        let outer = RECORDING.with(|r| r.borrow().iter().any(|t| !Arc::ptr_eq(t, &self.record)));
        let results = if outer {
            self.replay(py, &backward, &ids)?
        } else {
            let types: Vec<Type> = backward.inputs.iter().map(Tensor::ty).collect();
            let outputs = py
                .detach(|| Plan::new(&backward.traced, &types, Isa::best())?.run(&backward.inputs))
                .or_py(py)?;
            outputs.into_iter().map(|t| Operand::Now(t, Some(fresh_id()))).collect()
        };
        let mut slots = backward.slots.iter();
        places
            .iter()
            .map(|place| match place.and_then(|_| slots.next().copied().flatten()) {
                Some(slot) => results[slot].clone().wrap(py).map(Some),
                None => Ok(None),
            })
            .collect()
    }
}

impl PyTape {
    /// Runs the gradient op by op, so that an outer tape sees it: how second derivatives work.
    fn replay(
        &self,
        py: Python<'_>,
        backward: &lamina_core::tape::Backward,
        ids: &FxHashMap<Value, u64>,
    ) -> PyResult<Vec<Operand>> {
        let graph = &backward.traced.graph;
        let mut known: FxHashMap<Value, Operand> = FxHashMap::default();
        for ((v, tensor), origin) in graph.inputs().iter().zip(&backward.inputs).zip(&backward.origins) {
            known.insert(*v, Operand::Now(tensor.clone(), ids.get(origin).copied()));
        }
        let live = graph.live(backward.traced.outputs.iter().copied());
        for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            let first = Value { node: i as u32, output: 0 };
            if known.contains_key(&first) {
                continue;
            }
            if let Some(tensor) = graph.constant_value(first) {
                known.insert(first, Operand::Now(tensor, None));
                continue;
            }
            let operands: Vec<Operand> = node.inputs.iter().map(|v| known[v].clone()).collect();
            for (k, out) in crate::apply::apply(py, node.op.clone(), &operands)?.into_iter().enumerate() {
                known.insert(Value { node: i as u32, output: k as u32 }, out);
            }
        }
        Ok(backward.traced.outputs.iter().map(|v| known[v].clone()).collect())
    }
}
