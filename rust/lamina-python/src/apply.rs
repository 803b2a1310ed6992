//! The one door through which ops go: recorded in a graph, or run now (and written on the tapes).

use crate::errors::OrPy;
use crate::operand::Operand;
use crate::tape;
use crate::tensor::fresh_id;
use crate::trace::{Trace, open_trace};
use lamina_core::ops::select::Cast;
use lamina_core::{DType, Op, Tensor, eager};
use pyo3::prelude::*;
use smallvec::SmallVec;
use std::sync::Arc;

/// Several operands or results.
pub type Operands = SmallVec<[Operand; 3]>;

/// The graph that an op on these operands belongs to, if any.
fn graph_of(operands: &[Operand]) -> Option<Arc<Trace>> {
    let mut state = false;
    for operand in operands {
        match operand {
            Operand::Later(trace, _) => return Some(trace.clone()),
            Operand::State(_) => state = true,
            _ => {}
        }
    }
    if state { open_trace() } else { None }
}

/// Applies an op; all its results come back.
pub fn apply(py: Python<'_>, op: impl Into<Op>, operands: &[Operand]) -> PyResult<Operands> {
    let op = op.into();
    match graph_of(operands) {
        Some(trace) => {
            let values = trace.add(op, operands).or_py(py)?;
            Ok(values.into_iter().map(|v| Operand::Later(trace.clone(), v)).collect())
        }
        None => run_now(py, &op, operands),
    }
}

/// Applies an op that has one result.
pub fn apply1(py: Python<'_>, op: impl Into<Op>, operands: &[Operand]) -> PyResult<Operand> {
    Ok(apply(py, op, operands)?.swap_remove(0))
}

fn run_now(py: Python<'_>, op: &Op, operands: &[Operand]) -> PyResult<Operands> {
    let tensors: SmallVec<[Tensor; 3]> = operands
        .iter()
        .map(|o| match o {
            Operand::Now(t, _) => t.clone(),
            Operand::State(v) => v.get(),
            Operand::Weak(w) => w.tensor(w.dtype()),
            Operand::Later(..) => unreachable!("recorded in its graph"),
        })
        .collect();
    let large = tensors.iter().any(|t| t.len() > 16_384);
    let outputs =
        if large { py.detach(|| eager::run(op, &tensors)) } else { eager::run(op, &tensors) }.or_py(py)?;
    let ids: SmallVec<[u64; 3]> = outputs.iter().map(|_| fresh_id()).collect();
    tape::record(op, operands, &tensors, &outputs, &ids).or_py(py)?;
    Ok(outputs.into_iter().zip(ids).map(|(t, id)| Operand::Now(t, Some(id))).collect())
}

/// The operand with another element type.
pub fn cast(py: Python<'_>, operand: Operand, dtype: DType) -> PyResult<Operand> {
    match operand {
        Operand::Weak(w) => Ok(Operand::Now(w.tensor(dtype), None)),
        operand if operand.dtype() == dtype => Ok(operand),
        operand => apply1(py, Cast(dtype), &[operand]),
    }
}

/// Two operands brought to their common type.
pub fn pair(py: Python<'_>, a: Operand, b: Operand) -> PyResult<[Operand; 2]> {
    let dtype = crate::operand::promote(&[&a, &b]);
    Ok([cast(py, a, dtype)?, cast(py, b, dtype)?])
}

/// One result as a Python object.
pub fn wrap1(py: Python<'_>, op: impl Into<Op>, operands: &[Operand]) -> PyResult<Py<PyAny>> {
    apply1(py, op, operands)?.wrap(py)
}
