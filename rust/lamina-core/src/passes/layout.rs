//! Transposes sink towards the results, so that neighbours undo each other.
//!
//! Kernels want the channels last. A model of `channels_first` layers transposes around every one of them; here
//! each transpose moves below the ops that do not care about the order of axes, meets the opposite one of the next layer
//! and vanishes (two transposes in a row are one, see `Transpose::simplify`). What remains stands at the graph's edges.

use crate::error::{Result, ShapeError};
use crate::graph::{Graph, Node, Value};
use crate::ops::Op;
use crate::ops::index::{Concat, Margin, Pad};
use crate::ops::movement::{Reshape, Transpose};
use crate::ops::reduce::Reduce;
use crate::plan::Traced;
use smallvec::{SmallVec, smallvec};

/// Moves every transpose down as far as it goes.
pub fn run(traced: Traced) -> Result<Traced> {
    if !traced.graph.nodes().iter().any(|n| matches!(n.op, Op::Transpose(_))) {
        return Ok(traced);
    }
    let (graph, roots) = traced.graph.rewrite(&traced.roots(), None, |g, _, node, inputs| {
        Ok(match sink(g, node, inputs)? {
            Some(v) => smallvec![v],
            None => g.add_all(node.op.clone(), inputs)?,
        })
    })?;
    Ok(traced.with_graph(graph, &roots))
}

/// The transpose that makes a value, with its operand.
fn transposed(g: &Graph, v: Value) -> Option<(Transpose, Value)> {
    match g.op(v) {
        Op::Transpose(t) => Some((t.clone(), g.node(v).inputs[0])),
        _ => None,
    }
}

/// The op applied above the transpose of its operands, where it can be.
fn sink(g: &mut Graph, node: &Node, inputs: &[Value]) -> Result<Option<Value>, ShapeError> {
    let Some((perm, _)) = inputs.iter().find_map(|v| transposed(g, *v)) else { return Ok(None) };
    let below = |g: &mut Graph, op: Op, operands: &[Value]| -> Result<Option<Value>, ShapeError> {
        let v = g.add(op, operands)?;
        g.add(perm.clone(), &[v]).map(Some)
    };
    match &node.op {
        Op::Unary(_) | Op::Activation(_) | Op::Cast(_) => {
            let (_, x) = transposed(g, inputs[0]).expect("the only operand");
            below(g, node.op.clone(), &[x])
        }
        Op::Binary(_) | Op::Select(_) => {
            let rank = perm.0.len();
            if node.types[0].rank() != rank {
                return Ok(None);
            }
            let mut operands: SmallVec<[Value; 3]> = smallvec![];
            for &v in inputs {
                match raise(g, v, &perm)? {
                    Some(v) => operands.push(v),
                    None => return Ok(None),
                }
            }
            below(g, node.op.clone(), &operands)
        }
        Op::Concat(concat) => {
            let mut operands: SmallVec<[Value; 4]> = smallvec![];
            for &v in inputs {
                match transposed(g, v) {
                    Some((p, x)) if p == perm => operands.push(x),
                    _ => return Ok(None),
                }
            }
            below(g, Concat { axis: perm.0[concat.axis] }.into(), &operands)
        }
        Op::Pad(pad) if matches!(pad.margin, Margin::Constant(_)) => {
            let (_, x) = transposed(g, inputs[0]).expect("the only operand");
            let mut moved = pad.widths.clone();
            for (i, &p) in perm.0.iter().enumerate() {
                moved[p] = pad.widths[i];
            }
            below(g, Pad { widths: moved, margin: pad.margin }.into(), &[x])
        }
        Op::Reduce(Reduce { kind, axes, keepdims: true }) => {
            let (_, x) = transposed(g, inputs[0]).expect("the only operand");
            let mut moved: SmallVec<[usize; 4]> = axes.iter().map(|&a| perm.0[a]).collect();
            moved.sort_unstable();
            below(g, Reduce { kind: *kind, axes: moved, keepdims: true }.into(), &[x])
        }
        _ => Ok(None),
    }
}

/// An operand as it stands above the transpose: without its own, or moved the other way where that is cheap
/// (a number, a vector along one axis).
fn raise(g: &mut Graph, v: Value, perm: &Transpose) -> Result<Option<Value>, ShapeError> {
    if let Some((p, x)) = transposed(g, v)
        && p == *perm
    {
        return Ok(Some(x));
    }
    let shape = g.ty(v).concrete();
    if shape.iter().filter(|n| **n != 1).count() > 1 {
        return Ok(None);
    }
    if shape.is_empty() {
        return Ok(Some(v));
    }
    let missing = perm.0.len() - shape.len();
    let full: SmallVec<[usize; 4]> = std::iter::repeat_n(1, missing).chain(shape).collect();
    let v = g.add(Reshape::to(&full), &[v])?;
    g.add(perm.inverse(), &[v]).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::OpDef;
    use crate::ops::conv::Conv;
    use crate::ops::elementwise::Unary;
    use crate::ops::window::Padding;
    use crate::passes::{optimise, specialise};
    use crate::shape::Type;
    use lamina_kernels::elementwise::Unary as U;

    #[test]
    fn two_channels_first_convolutions_keep_two_transposes() {
        let mut g = Graph::new();
        let mut x = g.input(Type::known(DType::F32, &[2, 3, 8, 8]));
        let (first, last) = (Transpose(smallvec![0, 3, 1, 2]), Transpose(smallvec![0, 2, 3, 1]));
        for channels in [3, 5] {
            let kernel = g.input(Type::known(DType::F32, &[3, 3, channels, 5]));
            let bias = g.input(Type::known(DType::F32, &[5]));
            let bias = g.add(Reshape::to(&[1, 5, 1, 1]), &[bias]).unwrap();
            x = g.add(last.clone(), &[x]).unwrap();
            x = g.add(Conv::new([1, 1], Padding::Same, [1, 1], 1), &[x, kernel]).unwrap();
            x = g.add(first.clone(), &[x]).unwrap();
            x = g.sum(x, bias).unwrap();
            x = g.add(Unary(U::Relu), &[x]).unwrap();
        }
        let types: Vec<Type> = g.inputs().iter().map(|v| g.ty(*v).clone()).collect();
        let traced = Traced { graph: g, outputs: vec![x], updates: vec![] };
        let traced = optimise(specialise(&traced, &types).unwrap()).unwrap();
        let live = traced.graph.live(traced.roots());
        let ops: Vec<&str> =
            traced.graph.nodes().iter().zip(live).filter(|(_, l)| *l).map(|(n, _)| n.op.name()).collect();
        assert_eq!(ops.iter().filter(|n| **n == "transpose").count(), 2, "{ops:?}");
        assert!(!ops.contains(&"fused"), "bias and relu belong to the convolutions: {ops:?}");
    }
}
