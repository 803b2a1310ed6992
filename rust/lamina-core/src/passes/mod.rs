//! Graph-to-graph rewrites between the trace and the plan.
//!
//! Common subexpressions merge and scalars fold while a graph is built; dead nodes fall away in every
//! rewrite; whatever depends on constants alone is folded by the plan's prologue. What remains is here.

pub mod batch;
mod chain;
mod epilogue;
mod expand;
mod fold;
pub mod fuse;
pub mod halves;
mod layout;
pub mod panels;

use crate::error::Result;
use crate::graph::Node;
use crate::ops::source::Source;
use crate::ops::{Op, OpDef};
use crate::plan::Traced;
use crate::shape::Type;
use smallvec::smallvec;

/// The same computation at concrete input types: every shape is known afterwards.
pub fn specialise(traced: &Traced, inputs: &[Type]) -> Result<Traced> {
    let (graph, roots) = traced.graph.rewrite(&traced.roots(), Some(inputs), |g, _, node, inputs| {
        // Gradients are taken by now.
        match node.op {
            Op::StopGradient(_) => Ok(smallvec![inputs[0]]),
            _ => g.add_all(node.op.clone(), inputs),
        }
    })?;
    Ok(traced.with_graph(graph, &roots))
}

/// Every rewrite, in order.
pub fn optimise(traced: Traced) -> Result<Traced> {
    let traced = layout::run(traced)?;
    let traced = fold::run(traced)?;
    let traced = epilogue::run(traced)?;
    let traced = expand::run(traced)?;
    let traced = fuse::expand(traced)?;
    let traced = fuse::run(traced)?;
    chain::run(traced)
}

/// Whether a node's results are the same at every run, given the same of the nodes before it: they depend on constants
/// and on variables that do not change.
pub(crate) fn is_static(node: &Node, before: &[bool], changes: impl Fn(u32) -> bool) -> bool {
    match &node.op {
        Op::Source(Source::Input(_)) => false,
        Op::Source(Source::Variable(v)) => !changes(*v),
        Op::Source(_) => true,
        _ => node.inputs.iter().all(|v| before[v.node as usize]),
    }
}

/// How often each value is used: by nodes, results and updates.
pub(crate) fn uses(traced: &Traced) -> rustc_hash::FxHashMap<crate::graph::Value, usize> {
    let mut uses = rustc_hash::FxHashMap::default();
    let live = traced.graph.live(traced.roots());
    for (_, node) in traced.graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
        for (k, v) in node.inputs.iter().enumerate() {
            if node.op.reads(k) || matches!(node.op, Op::Source(_)) {
                *uses.entry(*v).or_insert(0) += 1;
            }
        }
    }
    for v in traced.roots() {
        *uses.entry(v).or_insert(0) += 1;
    }
    uses
}
