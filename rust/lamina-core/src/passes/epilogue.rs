//! Bias, residual and activation move into the kernel that makes the sum.

use super::uses;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Node, Value};
use crate::ops::Op;
use crate::ops::elementwise::Binary;
use crate::ops::matmul::{Act, Epilogue};
use crate::plan::Traced;
use lamina_kernels::elementwise as ew;
use rustc_hash::FxHashMap;
use smallvec::smallvec;

/// `producer -> + bias -> + residual -> act` becomes one node wherever nobody else looks at what lies between.
pub fn run(traced: Traced) -> Result<Traced> {
    let uses = uses(&traced);
    let old_graph = &traced.graph;
    // The old values that a new value stands for alone: only those may be swallowed.
    let mut single: FxHashMap<Value, bool> = FxHashMap::default();
    let (graph, roots) = old_graph.rewrite(&traced.roots(), None, |g, old, node, inputs| {
        let fused = fuse(g, node, inputs, &single)?;
        let new = match fused {
            Some(v) => smallvec![v],
            None if node.types.len() == 1 => smallvec![g.add(node.op.clone(), inputs)?],
            None => g.add_all(node.op.clone(), inputs)?,
        };
        // Two old values may have become one (merged): then it is not single any more.
        let alone = uses.get(&old).copied().unwrap_or(0) == 1 && !single.contains_key(&new[0]);
        single.insert(new[0], alone);
        Ok(new)
    })?;
    Ok(traced.with_graph(graph, &roots))
}

/// The epilogue of a value's op, where it has one and may take more.
fn epilogue_of(g: &Graph, v: Value) -> Option<Epilogue> {
    if g.ty(v).dtype != DType::F32 {
        return None;
    }
    g.op(v).epilogue()
}

fn fuse(
    g: &mut Graph,
    node: &Node,
    inputs: &[Value],
    single: &FxHashMap<Value, bool>,
) -> Result<Option<Value>, crate::ShapeError> {
    let may_swallow = |v: Value| single.get(&v).copied().unwrap_or(false);
    if let (Some(act), [x]) = (Act::of(&node.op), inputs)
        && let (Some(epilogue @ Epilogue { act: None, .. }), true) = (epilogue_of(g, *x), may_swallow(*x))
    {
        let producer = g.node(*x).clone();
        let op = producer.op.with_epilogue(Epilogue { act: Some(act), ..epilogue });
        return g.add(op, &producer.inputs).map(Some);
    }
    let Op::Binary(Binary(ew::Binary::Add)) = node.op else { return Ok(None) };
    for (sum, other) in [(inputs[0], inputs[1]), (inputs[1], inputs[0])] {
        let Some(epilogue @ Epilogue { act: None, residual: false, .. }) = epilogue_of(g, sum) else {
            continue;
        };
        if !may_swallow(sum) || sum == other {
            continue;
        }
        let (ty, other_ty) = (g.ty(sum).clone(), g.ty(other).clone());
        let producer = g.node(sum).clone();
        let channels = ty.dims[ty.rank() - 1];
        let mut operands = producer.inputs.clone();
        operands.push(other);
        let op = if !epilogue.bias
            && other_ty.rank() >= 1
            && other_ty.rank() <= ty.rank()
            && {
                let last = other_ty.dims[other_ty.rank() - 1];
                last == channels && other_ty.elements() == channels
            }
            && other_ty.dims != ty.dims
        {
            producer.op.with_epilogue(Epilogue { bias: true, ..epilogue })
        } else if other_ty.dims == ty.dims {
            producer.op.with_epilogue(Epilogue { residual: true, ..epilogue })
        } else {
            continue;
        };
        return g.add(op, &operands).map(Some);
    }
    Ok(None)
}
