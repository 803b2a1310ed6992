//! A product that one elementwise chain alone reads is computed where it is used.

use super::uses;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Node, Value};
use crate::ops::Op;
use crate::ops::chain::Chain;
use crate::ops::fused::Fused;
use crate::ops::matmul::MatMul;
use crate::plan::Traced;

/// Below this many elements the product stays in the cache by itself.
const LEAST: usize = 1 << 14;

/// Gradients of large matrices move into the optimizer's update of them: a pass over memory less to write and one less
/// to read. Cut by rows, so there must be enough of them.
pub fn run(traced: Traced) -> Result<Traced> {
    let uses = uses(&traced);
    let old = &traced.graph;
    let product = |v: Value, then: &Fused| -> Option<MatMul> {
        let Op::MatMul(product) = old.op(v) else { return None };
        let [m, n] = old.ty(v).concrete()[..] else { return None };
        let operands = &old.node(v).inputs;
        let plain = product.epilogue.is_none()
            && !product.transpose_b
            && old.ty(v).dtype == DType::F32
            && operands.iter().all(|x| old.ty(*x).rank() == 2);
        let worth = m >= 64 && m * n >= LEAST && then.dims[..] == [m, n] && uses.get(&v) == Some(&1);
        (plain && worth).then_some(*product)
    };
    let chain = |node: &Node| -> Option<(usize, Chain)> {
        let Op::Fused(then) = &node.op else { return None };
        let (slot, product) =
            node.inputs.iter().enumerate().find_map(|(slot, v)| Some((slot, product(*v, then)?)))?;
        let reads =
            |(i, v): (usize, &Value)| i == slot || Chain::reads_operand(&then.dims, &old.ty(*v).concrete());
        node.inputs
            .iter()
            .enumerate()
            .all(reads)
            .then(|| (slot, Chain { product, then: Fused::clone(then), slot, in_panels: false }))
    };
    let (graph, roots) = old.rewrite(&traced.roots(), None, |g, _, node, inputs| match chain(node) {
        Some((slot, op)) => {
            let mut operands = g.node(inputs[slot]).inputs.clone();
            operands.extend(inputs.iter().enumerate().filter(|(i, _)| *i != slot).map(|(_, v)| *v));
            g.add_all(op, &operands)
        }
        None => g.add_all(node.op.clone(), inputs),
    })?;
    Ok(traced.with_graph(graph, &roots))
}
