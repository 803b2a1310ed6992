//! A pointwise convolution and the depthwise one that alone reads it become one op.

use super::uses;
use crate::error::Result;
use crate::ops::Op;
use crate::ops::conv::ExpandedConv;
use crate::plan::Traced;
use smallvec::smallvec;

/// Joins the first halves of inverted residuals.
pub fn run(traced: Traced) -> Result<Traced> {
    let uses = uses(&traced);
    let (graph, roots) = traced.graph.rewrite(&traced.roots(), None, |g, _, node, inputs| {
        if let Op::Conv(conv) = node.op
            && uses.get(&node.inputs[0]) == Some(&1)
            && let Op::Conv(expand) = *g.op(inputs[0])
        {
            let first = g.node(inputs[0]).inputs.clone();
            if let Some(op) = ExpandedConv::of(expand, conv, g.ty(first[0]), g.ty(first[1]), g.ty(inputs[1]))
            {
                let mut operands = smallvec::SmallVec::<[_; 8]>::from_slice(&first[..2]);
                operands.push(inputs[1]);
                operands.extend_from_slice(&first[2..]);
                operands.extend_from_slice(&inputs[2..]);
                return Ok(smallvec![g.add(op, &operands)?]);
            }
        }
        Ok(match node.types.len() {
            1 => smallvec![g.add(node.op.clone(), inputs)?],
            _ => g.add_all(node.op.clone(), inputs)?,
        })
    })?;
    Ok(traced.with_graph(graph, &roots))
}
