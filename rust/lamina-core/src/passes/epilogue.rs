//! Bias, residual and activation move into the kernel that makes the sum.

use super::uses;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Node, Value};
use crate::ops::Op;
use crate::ops::elementwise::Binary;
use crate::ops::matmul::{Act, Epilogue};
use crate::ops::movement::Reshape;
use crate::plan::Traced;
use lamina_kernels::elementwise as ew;
use rustc_hash::FxHashMap;
use smallvec::smallvec;

/// `producer -> + bias -> + residual -> act` becomes one node wherever nobody else looks at what lies between. A
/// reshape that leaves the channels alone (a convolution over one axis has one) is moved behind it.
pub fn run(traced: Traced) -> Result<Traced> {
    let uses = uses(&traced);
    let old_graph = &traced.graph;
    // The old values that a new value stands for alone: only those may be swallowed.
    let mut single: FxHashMap<Value, bool> = FxHashMap::default();
    let (graph, roots) = old_graph.rewrite(&traced.roots(), None, |g, old, node, inputs| {
        let new = match fuse(g, node, inputs, &single)? {
            Some(v) => smallvec![v],
            None => g.add_all(node.op.clone(), inputs)?,
        };
        // Two old values may have become one (merged): then it is not single any more.
        let alone = uses.get(&old).copied().unwrap_or(0) == 1;
        for v in [Some(new[0]), behind_reshape(g, new[0])].into_iter().flatten() {
            let first = !single.contains_key(&v) || matches!(node.op, Op::Reshape(_)) && v != new[0];
            let before = single.get(&v).copied().unwrap_or(true);
            single.insert(v, alone && first && before);
        }
        Ok(new)
    })?;
    Ok(traced.with_graph(graph, &roots))
}

/// What a reshape that keeps the last axis reads.
fn behind_reshape(g: &Graph, v: Value) -> Option<Value> {
    let Op::Reshape(_) = g.op(v) else { return None };
    let x = g.node(v).inputs[0];
    (g.ty(x).dims.last() == g.ty(v).dims.last()).then_some(x)
}

/// A node whose epilogue may take more.
struct Producer {
    value: Value,
    epilogue: Epilogue,
}

impl Producer {
    /// The producer of a value that nobody else uses, under a reshape or not.
    fn of(g: &Graph, v: Value, single: &FxHashMap<Value, bool>) -> Option<Producer> {
        let alone = |v: Value| single.get(&v).copied().unwrap_or(false);
        let value = behind_reshape(g, v).unwrap_or(v);
        if !alone(v) || !alone(value) || g.ty(value).dtype != DType::F32 {
            return None;
        }
        let epilogue = g.op(value).epilogue().filter(|e| e.act.is_none())?;
        Some(Producer { value, epilogue })
    }

    /// The producer with another epilogue and perhaps an operand more, in the shape of `like`.
    fn with(
        self,
        g: &mut Graph,
        epilogue: Epilogue,
        operand: Option<Value>,
        like: Value,
    ) -> Result<Value, crate::ShapeError> {
        let shape = g.ty(like).concrete();
        let producer = g.node(self.value).clone();
        let mut operands = producer.inputs;
        operands.extend(operand);
        let fused = g.add(producer.op.with_epilogue(epilogue), &operands)?;
        g.add(Reshape::to(&shape), &[fused])
    }
}

fn fuse(
    g: &mut Graph,
    node: &Node,
    inputs: &[Value],
    single: &FxHashMap<Value, bool>,
) -> Result<Option<Value>, crate::ShapeError> {
    if let (Some(act), [x]) = (Act::of(&node.op), inputs)
        && let Some(producer) = Producer::of(g, *x, single)
    {
        let epilogue = Epilogue { act: Some(act), ..producer.epilogue };
        return producer.with(g, epilogue, None, *x).map(Some);
    }
    let Op::Binary(Binary(ew::Binary::Add)) = node.op else { return Ok(None) };
    for (sum, other) in [(inputs[0], inputs[1]), (inputs[1], inputs[0])] {
        let Some(producer) = Producer::of(g, sum, single) else { continue };
        let epilogue = producer.epilogue;
        if epilogue.residual || sum == other {
            continue;
        }
        let (ty, other_ty) = (g.ty(sum).clone(), g.ty(other).clone());
        let channels = ty.dims[ty.rank() - 1];
        let per_channel = (1..=ty.rank()).contains(&other_ty.rank())
            && other_ty.dims[other_ty.rank() - 1] == channels
            && other_ty.elements() == channels;
        return if !epilogue.bias && per_channel && other_ty.dims != ty.dims {
            producer.with(g, Epilogue { bias: true, ..epilogue }, Some(other), sum).map(Some)
        } else if other_ty.dims == ty.dims {
            let shape = g.ty(producer.value).concrete();
            let other = g.add(Reshape::to(&shape), &[other])?;
            producer.with(g, Epilogue { residual: true, ..epilogue }, Some(other), sum).map(Some)
        } else {
            continue;
        };
    }
    Ok(None)
}
