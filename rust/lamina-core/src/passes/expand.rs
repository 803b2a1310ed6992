//! Convolutions and what alone reads them become one op, so that what lies between is never whole in memory: a depthwise
//! one with those around it, one of few channels with its pooling. Where a pooling stays apart, what it leaves out at the end
//! is not computed.

use super::uses;
use crate::error::{Result, ShapeError};
use crate::graph::{Graph, Node, Value};
use crate::ops::Op;
use crate::ops::conv::{Conv, GatedConv, JoinedConv, Mixing, PooledConv};
use crate::ops::elementwise::Binary;
use crate::ops::pool::Pool;
use crate::plan::Traced;
use crate::shape::Type;
use lamina_kernels::elementwise as ew;
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

/// Joins inverted residuals, separable convolutions, and first layers with their pooling.
pub fn run(traced: Traced) -> Result<Traced> {
    let uses = uses(&traced);
    let (graph, roots) = traced.graph.rewrite(&traced.roots(), None, |g, _, node, inputs| {
        let joined = match &node.op {
            Op::Conv(conv) => joined(&traced, &uses, g, node, inputs).or_else(|| {
                if uses.get(&node.inputs[0]) == Some(&1) { gated(**conv, g, inputs) } else { None }
            }),
            Op::Pool(pool) if uses.get(&node.inputs[0]) == Some(&1) => match g.op(inputs[0]) {
                Op::Conv(conv) => pooled(**conv, **pool, g, inputs[0])?,
                _ => None,
            },
            _ => None,
        };
        match joined {
            Some((op, operands)) => Ok(smallvec![g.add(op, &operands)?]),
            None => g.add_all(node.op.clone(), inputs),
        }
    })?;
    Ok(traced.with_graph(graph, &roots))
}

type Operands = SmallVec<[Value; 8]>;

/// Convolutions one after the other.
struct Chain {
    x: Value,
    convs: SmallVec<[Conv; 3]>,
    kernels: SmallVec<[Value; 3]>,
    /// Of their epilogues.
    operands: Operands,
}

impl Chain {
    /// The ones that compute a value, by their op and its operands.
    fn of(op: &Op, inputs: &[Value]) -> Option<Chain> {
        let convs: SmallVec<[Conv; 3]> = match op {
            Op::Conv(conv) => smallvec![**conv],
            Op::JoinedConv(joined) if joined.after.is_none() => {
                joined.before.into_iter().chain([joined.conv]).collect()
            }
            _ => return None,
        };
        let (kernels, operands) = inputs[1..].split_at(convs.len());
        Some(Chain { x: inputs[0], convs, kernels: kernels.into(), operands: operands.into() })
    }

    fn then(mut self, next: &Chain) -> Chain {
        self.convs.extend_from_slice(&next.convs);
        self.kernels.extend_from_slice(&next.kernels);
        self.operands.extend_from_slice(&next.operands);
        self
    }

    /// As one op, if they are two or three of which one is depthwise, and it pays.
    fn joined(&self, g: &Graph) -> Option<(Op, Operands)> {
        let (before, conv, after) = match self.convs[..] {
            [conv, after] if conv.mixing == Mixing::Depthwise => (None, conv, Some(after)),
            [before, conv] => (Some(before), conv, None),
            [before, conv, after] => (Some(before), conv, Some(after)),
            _ => return None,
        };
        let values = || std::iter::once(&self.x).chain(&self.kernels);
        let types: SmallVec<[&Type; 4]> = values().map(|v| g.ty(*v)).collect();
        let op = JoinedConv::of(before, conv, after, &types)?;
        Some((op.into(), values().chain(&self.operands).copied().collect()))
    }
}

/// A convolution with those before it that it alone reads: as many as can be.
fn joined(
    traced: &Traced,
    uses: &FxHashMap<Value, usize>,
    g: &Graph,
    node: &Node,
    inputs: &[Value],
) -> Option<(Op, Operands)> {
    let before = |node: &Node, x: Value| {
        let alone = uses.get(&node.inputs[0]) == Some(&1);
        let found = g.node(x);
        if alone { Chain::of(&found.op, &found.inputs) } else { None }
    };
    let two = before(node, inputs[0])?.then(&Chain::of(&node.op, inputs)?);
    let three = || {
        let middle = traced.graph.node(node.inputs[0]);
        before(middle, two.x)?.then(&two).joined(g)
    };
    three().or_else(|| two.joined(g))
}

/// A pooling of a convolution's result `x`: both as one op, or the pooling of a smaller result.
fn pooled(conv: Conv, pool: Pool, g: &mut Graph, x: Value) -> Result<Option<(Op, Operands)>, ShapeError> {
    let operands = Operands::from_slice(&g.node(x).inputs);
    if let Some(op) = PooledConv::of(conv, pool, g.ty(operands[0]), g.ty(operands[1])) {
        return Ok(Some((op.into(), operands)));
    }
    let Some(conv) = conv.trimmed(&pool.slide, pool.window, g.ty(x)) else { return Ok(None) };
    Ok(Some((pool.into(), smallvec![g.add(conv, &operands)?])))
}

/// A convolution of a product of channels and a gate.
fn gated(conv: Conv, g: &Graph, inputs: &[Value]) -> Option<(Op, Operands)> {
    let product = g.node(inputs[0]);
    let Op::Binary(Binary(ew::Binary::Mul)) = product.op else { return None };
    let [a, b] = product.inputs[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let op = GatedConv::of(conv, g.ty(x), g.ty(inputs[1]), g.ty(gate))?;
        let operands = [x, inputs[1], gate].into_iter().chain(inputs[2..].iter().copied()).collect();
        Some((op.into(), operands))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;
    use crate::graph::{Graph, Value};
    use crate::ops::OpDef;
    use crate::ops::activation::Activation;
    use crate::ops::conv::Conv;
    use crate::ops::pool::PoolKind;
    use crate::ops::window::Padding;
    use crate::passes::{optimise, specialise};
    use crate::shape::Type;
    use crate::{DType, Tensor};

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

    /// Two by two of 11 pixels are 5; a convolution need not make the eleventh, unless something else reads it.
    #[test]
    fn what_pooling_leaves_out_is_not_computed() {
        let made = |size: usize, padding: Padding, shared: bool| {
            let mut g = Graph::new();
            let [x, kernel] =
                [&[2, size, 13, 16][..], &[3, 3, 16, 8]].map(|dims| g.input(Type::known(DType::F32, dims)));
            let conv = g.add(Conv::new([1, 1], Padding::Valid, [1, 1], 1), &[x, kernel]).unwrap();
            let pool = Pool::new(PoolKind::Avg, [2, 2], [2, 2], padding);
            let y = g.add(pool, &[conv]).unwrap();
            let types: Vec<Type> = g.inputs().iter().map(|v| g.ty(*v).clone()).collect();
            let outputs = if shared { vec![y, conv] } else { vec![y] };
            let traced = Traced { graph: g, outputs, updates: vec![] };
            let best = optimise(specialise(&traced, &types).unwrap()).unwrap();
            let live = best.graph.live(best.roots());
            let mut nodes =
                best.graph.nodes().iter().zip(live).filter(|(n, live)| *live && n.op.name() == "conv");
            let (conv, _) = nodes.next().expect("a convolution");
            let numbers = |ty: &Type| {
                let dims = ty.concrete();
                let data: Vec<f32> =
                    (0..dims.iter().product::<usize>()).map(|i| (i * 37 % 41) as f32 - 20.0).collect();
                Tensor::from_slice(&dims, &data)
            };
            let inputs: Vec<Tensor> = types.iter().map(numbers).collect();
            let results = Function::new(traced).call(&inputs).unwrap();
            (conv.types[0].concrete()[1..3].to_vec(), results[0].as_slice::<f32>().to_vec())
        };
        let (dims, alone) = made(13, Padding::Valid, false);
        assert_eq!(dims, [10, 10]);
        let (dims, shared) = made(13, Padding::Valid, true);
        assert_eq!(dims, [11, 11]);
        assert!(
            alone.iter().zip(&shared).all(|(a, b)| (a - b).abs() <= 1e-2),
            "whole numbers, about a thousand"
        );
        assert_eq!(made(12, Padding::Valid, false).0, [10, 10]);
        assert_eq!(made(13, Padding::Same, false).0, [11, 11]);
    }

    #[test]
    fn a_gate_joins_the_pointwise_convolution_that_alone_reads_the_product() {
        let gated = |pixels: usize, gate: [usize; 4], shared: bool| {
            let mut g = Graph::new();
            let [x, kernel, gate] =
                [[2, pixels, 16, 8], [1, 1, 8, 24], gate].map(|dims| g.input(Type::known(DType::F32, &dims)));
            let product = g.mul(gate, x).unwrap();
            let y = g.add(Conv::new([1, 1], Padding::Same, [1, 1], 1), &[product, kernel]).unwrap();
            names(g, if shared { vec![y, product] } else { vec![y] })
        };
        assert_eq!(gated(16, [2, 1, 1, 8], false), ["gated_conv"]);
        assert_eq!(gated(4, [2, 1, 1, 8], false), ["conv"]);
        assert_eq!(gated(16, [1, 1, 1, 8], false), ["conv"]);
        assert_eq!(gated(16, [2, 1, 1, 8], true), ["conv"]);
    }

    #[test]
    fn a_depthwise_convolution_joins_the_pointwise_one_that_it_alone_reads() {
        assert_eq!(ops(false), ["joined_conv"]);
        assert_eq!(ops(true), ["conv", "depthwise_conv"]);
    }
}
