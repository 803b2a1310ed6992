//! Reverse-mode differentiation as a graph-to-graph transform. There is no other.

use crate::error::ShapeError;
use crate::graph::{Graph, Value};
use crate::ops::{OpDef, Vjp};
use rustc_hash::FxHashMap;

/// The gradients of `target` (summed, weighted by `seed` where given) with respect to each source;
/// `None` where the target does not depend on the source through differentiable ops.
///
/// Grows `graph` by the nodes that compute them.
pub fn gradients(
    graph: &mut Graph,
    target: Value,
    sources: &[Value],
    seed: Option<Value>,
) -> Result<Vec<Option<Value>>, ShapeError> {
    if !graph.ty(target).dtype.is_float() {
        return Ok(vec![None; sources.len()]);
    }
    // depends[i]: node i lies on a path from some source to the target.
    let last = target.node as usize;
    let mut depends = vec![false; last + 1];
    for source in sources.iter().filter(|s| s.node <= target.node) {
        depends[source.node as usize] = true;
    }
    for i in 0..=last {
        depends[i] |= graph.nodes()[i].inputs.iter().any(|v| depends[v.node as usize]);
    }

    let mut cotangents: FxHashMap<Value, Value> = FxHashMap::default();
    if depends[last] {
        let seed = match seed {
            Some(seed) => graph.broadcast_like(seed, target)?,
            None => graph.full_like(target, 1.0)?,
        };
        cotangents.insert(target, seed);
    }
    for i in (0..=last).rev().filter(|&i| depends[i]) {
        let node = graph.nodes()[i].clone();
        let outputs: Vec<Value> =
            (0..node.types.len() as u32).map(|output| Value { node: i as u32, output }).collect();
        let incoming: Vec<Option<Value>> = outputs.iter().map(|v| cotangents.get(v).copied()).collect();
        if incoming.iter().all(Option::is_none) {
            continue;
        }
        let wanted: Vec<bool> =
            node.inputs.iter().map(|v| depends[v.node as usize] && graph.ty(*v).dtype.is_float()).collect();
        if !wanted.contains(&true) {
            continue;
        }
        let mut cx = Vjp {
            g: graph,
            inputs: &node.inputs,
            outputs: &outputs,
            cotangents: &incoming,
            wanted: &wanted,
            given: vec![None; node.inputs.len()],
        };
        node.op.vjp(&mut cx)?;
        let given = cx.given;
        for (k, gradient) in given.into_iter().enumerate().filter(|(k, _)| wanted[*k]) {
            let Some(gradient) = gradient else { continue };
            let operand = node.inputs[k];
            let sum = match cotangents.get(&operand) {
                Some(&before) => graph.sum(before, gradient)?,
                None => gradient,
            };
            cotangents.insert(operand, sum);
        }
    }
    Ok(sources.iter().map(|s| cotangents.get(s).copied()).collect())
}
