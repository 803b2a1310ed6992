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
        g.add_all(node.op.clone(), inputs)
    })?;
    Ok(traced.with_graph(graph, &roots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::graph::Graph;
    use crate::ops::OpDef;
    use crate::ops::activation::Activation;
    use crate::ops::conv::Conv;
    use crate::ops::window::Padding;
    use crate::passes::{optimise, specialise};
    use crate::shape::Type;

    /// The ops of an inverted residual's first half whose middle is a result too, or is not.
    fn ops(shared: bool) -> Vec<&'static str> {
        let mut g = Graph::new();
        let [x, kernel, filter] = [&[2, 8, 8, 4][..], &[1, 1, 4, 24], &[3, 3, 24, 1]]
            .map(|dims| g.input(Type::known(DType::F32, dims)));
        let relu6 = Activation::Relu6;
        let expanded = g.add(Conv::new([1, 1], Padding::Same, [1, 1], 1), &[x, kernel]).unwrap();
        let middle = g.add(relu6, &[expanded]).unwrap();
        let y = g.add(Conv::depthwise([2, 2], Padding::Same, [1, 1]), &[middle, filter]).unwrap();
        let y = g.add(relu6, &[y]).unwrap();
        let outputs = if shared { vec![y, middle] } else { vec![y] };
        let types: Vec<Type> = g.inputs().iter().map(|v| g.ty(*v).clone()).collect();
        let traced = Traced { graph: g, outputs, updates: vec![] };
        let traced = optimise(specialise(&traced, &types).unwrap()).unwrap();
        let live = traced.graph.live(traced.roots());
        let nodes = traced.graph.nodes().iter().zip(live).filter(|(_, live)| *live);
        nodes.map(|(node, _)| node.op.name()).filter(|name| name.contains("conv")).collect()
    }

    #[test]
    fn a_depthwise_convolution_joins_the_pointwise_one_that_it_alone_reads() {
        assert_eq!(ops(false), ["expanded_conv"]);
        assert_eq!(ops(true), ["conv", "depthwise_conv"]);
    }
}
