//! Where to cut a network in two: large images by few weights, then small images by many.
//!
//! What the first layers make of one image fills the caches, so images had better go through them one by one; the weights
//! of the last layers do too, and had better meet many images at a time. Both can be where one value alone leads from
//! the one to the other.

use crate::error::Result;
use crate::graph::Value;
use crate::ops::Op;
use crate::plan::Traced;
use crate::shape::Type;
use rustc_hash::FxHashSet;

/// Weights of a network that is worth cutting, and how much larger those of the second half are than those of the first.
const WEIGHTS: usize = 32 << 20;
const SECOND: usize = 4;

/// The two halves of a computation whose rows are apart, if it has such: the second takes what the first returns.
pub fn halves(traced: &Traced) -> Result<Option<[Traced; 2]>> {
    let Some(at) = border(traced) else { return Ok(None) };
    let first = Traced { graph: traced.graph.clone(), outputs: vec![at], updates: vec![] };
    let (graph, outputs) = traced.graph.part_from(at, &traced.outputs)?;
    Ok(Some([first, Traced { graph, outputs, updates: vec![] }]))
}

/// The value up to which most bytes of values, written and read for one row, are moved beyond the bytes of weights.
fn border(traced: &Traced) -> Option<Value> {
    let graph = &traced.graph;
    let nodes = graph.nodes();
    let live = graph.live(traced.roots());
    // The last node that reads each value, and how many do.
    let mut readers = vec![(0, 0); nodes.len()];
    for (i, node) in nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
        for v in &node.inputs {
            let (last, count) = &mut readers[v.node as usize];
            (*last, *count) = (i, *count + 1);
        }
    }
    traced.outputs.iter().for_each(|v| readers[v.node as usize].0 = nodes.len());
    let row = |ty: &Type| ty.dims.iter().skip(1).flatten().product::<usize>() * ty.dtype.size();
    // Values that depend on the inputs: which they are, how many are read last at each node, and how many are yet to be read.
    let (mut rows, mut ends, mut open) = (vec![false; nodes.len()], vec![0; nodes.len() + 1], 0);
    let (mut seen, mut moved, mut weights) = (FxHashSet::default(), 0, 0);
    let mut best: Option<(usize, usize, Value)> = None;
    for (i, node) in nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
        let v = Value { node: i as u32, output: 0 };
        let (others, fixed): (Vec<Value>, Vec<Value>) =
            node.inputs.iter().partition(|v| rows[v.node as usize]);
        rows[i] = graph.inputs().contains(&v) || !others.is_empty();
        if !rows[i] {
            continue;
        }
        weights += fixed.iter().filter(|v| seen.insert(**v)).map(|v| graph.ty(*v).bytes()).sum::<usize>();
        if matches!(node.op, Op::Conv(_) | Op::MatMul(_) | Op::Pool(_)) {
            moved += 2 * row(&node.types[0]);
        }
        let (last, count) = readers[i];
        ends[last] += 1;
        open = open + 1 - ends[i];
        let gain = moved.saturating_sub(weights);
        // What several read is in memory anyway.
        let fits = open == 1 && count > 1 && last < nodes.len() && node.types.len() == 1;
        if fits && gain > best.map_or(0, |(gain, ..)| gain) {
            best = Some((gain, weights, v));
        }
    }
    let (_, first, at) = best?;
    (weights > WEIGHTS && weights - first >= SECOND * first).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::function::Function;
    use crate::graph::Graph;
    use crate::ops::matmul::MatMul;
    use crate::ops::reduce::{Kind, Reduce};
    use crate::plan::Plan;
    use crate::tensor::Tensor;
    use lamina_kernels::Isa;

    fn values(shape: &[usize]) -> Tensor {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|i| (i * 7 % 31) as f32 / 31.0 - 0.5).collect();
        Tensor::from_slice(shape, &values)
    }

    /// Long rows by small matrices, their mean by one of `wide` columns.
    fn network(wide: usize) -> Traced {
        let mut graph = Graph::new();
        let x = graph.input(Type::new(DType::F32, [None, Some(4096), Some(8)]));
        let [first, second, last] =
            [[8, 64], [64, 64], [64, wide]].map(|shape| graph.constant(values(&shape)));
        let a = graph.add(MatMul::new(false, false), &[x, first]).unwrap();
        let b = graph.add(MatMul::new(false, false), &[a, second]).unwrap();
        let sum = graph.sum(a, b).unwrap();
        let mean = Reduce { kind: Kind::Mean, axes: [1].as_slice().into(), keepdims: false };
        let mean = graph.add(mean, &[sum]).unwrap();
        let y = graph.add(MatMul::new(false, false), &[mean, last]).unwrap();
        Traced { graph, outputs: vec![y], updates: vec![] }
    }

    #[test]
    fn rows_go_through_the_first_half_one_by_one_and_through_the_second_together() {
        let traced = network(140_000);
        let x = values(&[5, 4096, 8]);
        let whole = Plan::new(&traced, &[x.ty()], Isa::best()).unwrap();
        let function = Function::new(traced);
        let plan = function.plan_for(std::slice::from_ref(&x)).unwrap();
        assert_ne!(plan.describe(), whole.describe());
        assert!(plan.live_bytes() <= plan.arena_bytes());
        for rows in [5, 1, 0] {
            let x = Tensor::from_slice(&[rows, 4096, 8], &vec![0.25f32; rows * 4096 * 8]);
            let wanted = Plan::new(function.traced(), &[x.ty()], Isa::best()).unwrap();
            let wanted = wanted.run(std::slice::from_ref(&x)).unwrap();
            let got = function.call(&[x]).unwrap();
            assert_eq!(got[0].shape(), [rows, 140_000]);
            assert_eq!(got[0].bytes(), wanted[0].bytes());
        }
        let got = function.call(std::slice::from_ref(&x)).unwrap();
        assert_eq!(got[0].bytes(), whole.run(&[x]).unwrap()[0].bytes());
    }

    #[test]
    fn a_network_of_few_weights_stays_whole() {
        assert!(halves(&network(1000)).unwrap().is_none());
    }
}
