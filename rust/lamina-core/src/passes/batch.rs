//! Whether a computation treats the rows of its batch one by one.

use crate::graph::Value;
use crate::ops::{Op, OpDef};
use crate::plan::Traced;
use crate::shape::Type;
use smallvec::SmallVec;

/// Whether row i of every result depends on row i alone of every input, and nothing is updated: then a batch may be
/// run in pieces, and the results put side by side. Said of the trace, whose first axes are unknown: it holds for
/// every batch.
pub fn rows_are_apart(traced: &Traced) -> bool {
    let graph = &traced.graph;
    let batched = |v: &Value| graph.ty(*v).dims.first() == Some(&None);
    if graph.inputs().is_empty() || !traced.updates.is_empty() || !graph.inputs().iter().all(batched) {
        return false;
    }
    let live = graph.live(traced.roots());
    let mut rows = vec![false; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
        let marks: SmallVec<[bool; 4]> = node.inputs.iter().map(|v| rows[v.node as usize]).collect();
        rows[i] = match &node.op {
            Op::Source(_) => graph.inputs().contains(&Value { node: i as u32, output: 0 }),
            _ if !marks.contains(&true) => false,
            op => {
                let types: SmallVec<[&Type; 4]> = node.inputs.iter().map(|v| graph.ty(*v)).collect();
                if !op.keeps_rows(&marks, &types, &node.types) {
                    return false;
                }
                true
            }
        };
    }
    traced.outputs.iter().all(|v| rows[v.node as usize] && batched(v))
}
