//! A convolution and what alone reads it become one op, so that its result is never whole in memory: a pointwise one
//! before a depthwise one, one of few channels before pooling.

use super::uses;
use crate::error::Result;
use crate::ops::Op;
use crate::ops::conv::{ExpandedConv, PooledConv};
use crate::plan::Traced;
use smallvec::smallvec;

/// Joins the first halves of inverted residuals, and first layers with their pooling.
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
        if let Op::Pool(pool) = node.op
            && uses.get(&node.inputs[0]) == Some(&1)
            && let Op::Conv(conv) = *g.op(inputs[0])
        {
            let operands = g.node(inputs[0]).inputs.clone();
            if let Some(op) = PooledConv::of(conv, pool, g.ty(operands[0]), g.ty(operands[1])) {
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
    use crate::graph::{Graph, Value};
    use crate::ops::OpDef;
    use crate::ops::activation::Activation;
    use crate::ops::conv::Conv;
    use crate::ops::pool::{Pool, PoolKind};
    use crate::ops::window::Padding;
    use crate::passes::{optimise, specialise};
    use crate::shape::Type;

    /// The ops of an inverted residual's first half whose middle is a result too, or is not.
    fn ops(shared: bool) -> Vec<&'static str> {
        let mut g = Graph::new();
        let [x, kernel, filter] = [&[2, 64, 96, 4][..], &[1, 1, 4, 24], &[3, 3, 24, 1]]
            .map(|dims| g.input(Type::known(DType::F32, dims)));
        let relu6 = Activation::Relu6;
        let expanded = g.add(Conv::new([1, 1], Padding::Same, [1, 1], 1), &[x, kernel]).unwrap();
        let middle = g.add(relu6, &[expanded]).unwrap();
        let y = g.add(Conv::depthwise([2, 2], Padding::Same, [1, 1]), &[middle, filter]).unwrap();
        let y = g.add(relu6, &[y]).unwrap();
        let outputs = if shared { vec![y, middle] } else { vec![y] };
        names(g, outputs)
    }

    /// The convolutions and poolings of a graph as it is run.
    fn names(g: Graph, outputs: Vec<Value>) -> Vec<&'static str> {
        let types: Vec<Type> = g.inputs().iter().map(|v| g.ty(*v).clone()).collect();
        let traced = Traced { graph: g, outputs, updates: vec![] };
        let traced = optimise(specialise(&traced, &types).unwrap()).unwrap();
        let live = traced.graph.live(traced.roots());
        let nodes = traced.graph.nodes().iter().zip(live).filter(|(_, live)| *live);
        nodes
            .map(|(node, _)| node.op.name())
            .filter(|name| name.contains("conv") || name.contains("pool"))
            .collect()
    }

    /// The ops of a first layer of `channels` and its pooling.
    fn pooled(channels: usize, kind: PoolKind, stride: usize) -> Vec<&'static str> {
        let mut g = Graph::new();
        let [x, kernel] = [&[2, 9, 9, channels][..], &[3, 3, channels, 24]]
            .map(|dims| g.input(Type::known(DType::F32, dims)));
        let conv = g.add(Conv::new([1, 1], Padding::Valid, [1, 1], 1), &[x, kernel]).unwrap();
        let middle = g.add(Activation::Relu6, &[conv]).unwrap();
        let pool = Pool::new(kind, [2, 2], [stride, stride], Padding::Valid);
        let outputs = vec![g.add(pool, &[middle]).unwrap()];
        names(g, outputs)
    }

    #[test]
    fn pooling_joins_the_convolution_of_few_channels_that_it_alone_reads() {
        assert_eq!(pooled(3, PoolKind::Max, 2), ["pooled_conv"]);
        assert_eq!(pooled(16, PoolKind::Max, 2), ["conv", "max_pool"]);
        assert_eq!(pooled(3, PoolKind::Avg, 2), ["conv", "average_pool"]);
        assert_eq!(pooled(3, PoolKind::Max, 1), ["conv", "max_pool"]);
    }

    #[test]
    fn a_depthwise_convolution_joins_the_pointwise_one_that_it_alone_reads() {
        assert_eq!(ops(false), ["expanded_conv"]);
        assert_eq!(ops(true), ["conv", "depthwise_conv"]);
    }
}
