//! Matrices of weights that a plan multiplies by and updates stay packed from step to step.
//!
//! Row by row they would be packed at every step, as the update before has changed them; and where the update is cut by
//! rows and the multiply by columns, half of them change cores twice. Their optimizer's state lies as they do: an
//! elementwise update is the same in any order. Whoever reads such a variable elsewhere gets it row by row again.

use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Op;
use crate::ops::chain::Chain;
use crate::ops::matmul::MatMul;
use crate::ops::source::Source;
use crate::plan::Traced;
use lamina_kernels::Isa;
use lamina_kernels::gemm::Packing;
use rustc_hash::FxHashMap;
use std::ops::RangeInclusive;

/// Rows of A that read B as it is packed for any number; with more, packing it is little beside multiplying by it.
const ROWS: RangeInclusive<usize> = 4..=256;

/// How the variables lie that are not read row by row.
pub type Layouts = FxHashMap<usize, Packing>;

/// Finds them, and has their readers know.
pub fn run(traced: Traced, isa: Isa) -> Result<(Traced, Layouts)> {
    let layouts = if traced.updates.is_empty() { Layouts::default() } else { find(&traced, isa) };
    if layouts.is_empty() {
        return Ok((traced, layouts));
    }
    let old = &traced.graph;
    let packed = |v: Value| variable(old, v).is_some_and(|i| layouts.contains_key(&i));
    let (graph, roots) = old.rewrite(&traced.roots(), None, |g, _, node, inputs| match &node.op {
        Op::MatMul(op) if packed(node.inputs[1]) => g.add_all(MatMul { in_panels: true, ..*op }, inputs),
        Op::Chain(op) if node.inputs[2..].iter().any(|v| packed(*v)) => {
            g.add_all(Chain { in_panels: true, ..Chain::clone(op) }, inputs)
        }
        op => g.add_all(op.clone(), inputs),
    })?;
    Ok((traced.with_graph(graph, &roots), layouts))
}

fn variable(graph: &Graph, v: Value) -> Option<usize> {
    match graph.op(v) {
        Op::Source(Source::Variable(i)) => Some(*i as usize),
        _ => None,
    }
}

/// The variables of updates that nothing else reads but products by them, and at least one does.
fn find(traced: &Traced, isa: Isa) -> Layouts {
    let (graph, roots) = (&traced.graph, traced.roots());
    let live = graph.live(roots.iter().copied());
    let nodes = || graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]);
    // Who reads a value: nodes, by their number, and as which operand.
    let mut readers: FxHashMap<Value, Vec<(usize, usize)>> = FxHashMap::default();
    for (i, node) in nodes() {
        node.inputs.iter().enumerate().for_each(|(k, v)| readers.entry(*v).or_default().push((i, k)));
    }
    let multiplies = |i: usize, k: usize| {
        let node = &graph.nodes()[i];
        let Op::MatMul(op) = &node.op else { return false };
        let [m, _] = graph.ty(node.inputs[0]).concrete()[..] else { return false };
        k == 1 && !op.transpose_a && ROWS.contains(&m) && (!op.transpose_b || op.epilogue.is_none())
    };
    let mut layouts = Layouts::default();
    for (i, node) in nodes() {
        let Op::Chain(op) = &node.op else { continue };
        let [m, n] = op.then.dims[..] else { continue };
        let packing = Packing::in_panels(isa, m, n);
        if !packing.is_full() || m == 0 {
            continue;
        }
        // The operands of the result's shape; others must be single numbers.
        let (whole, others): (Vec<Value>, Vec<Value>) =
            node.inputs[2..].iter().partition(|v| graph.ty(**v).concrete()[..] == [m, n]);
        let ty = |v: &Value| graph.ty(*v).dtype == DType::F32;
        let numbers = others.iter().all(|v| graph.ty(*v).concrete().iter().product::<usize>() == 1);
        let own = |v: &Value| {
            let used = readers.get(v).into_iter().flatten();
            variable(graph, *v).is_some()
                && !roots.contains(v)
                && used.clone().filter(|r| r.0 == i).count() == 1
                && used.clone().all(|&(reader, k)| reader == i || multiplies(reader, k))
        };
        let variables: Vec<usize> = whole.iter().filter_map(|v| variable(graph, *v)).collect();
        let results = (0..op.then.results.len()).map(|o| Value { node: i as u32, output: o as u32 });
        // Each result is the new value of one of them, and each of them gets one.
        let kept = |v: Value| {
            roots.iter().filter(|root| **root == v).count() == 1
                && traced.updates.iter().any(|u| u.1 == v && variables.contains(&u.0))
                && !readers.contains_key(&v)
        };
        let updated = |v: &usize| traced.updates.iter().any(|u| u.0 == *v && u.1.node as usize == i);
        let multiplied = |v: &Value| readers[v].iter().any(|r| r.0 != i);
        if numbers
            && whole.iter().all(|v| ty(v) && own(v))
            && variables.iter().all(updated)
            && results.into_iter().all(kept)
            && whole.iter().any(multiplied)
        {
            layouts.extend(variables.into_iter().map(|v| (v, packing)));
        }
    }
    layouts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;
    use crate::ops::movement::Transpose;
    use crate::tensor::Tensor;
    use crate::variable::Variable;
    use lamina_kernels::elementwise::Binary as B;
    use std::sync::Arc;

    const M: usize = 8;
    const K: usize = 130;
    const N: usize = 128;

    fn sample(rows: usize, columns: usize, seed: usize) -> Tensor {
        let x = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 101.0 - 0.4;
        Tensor::from_slice(&[rows, columns], &(0..rows * columns).map(x).collect::<Vec<_>>())
    }

    /// `x W`, `d W^T`, and a step of descent with momentum by the gradient `x^T d`.
    fn step(reads_rows: bool) -> (Traced, [Arc<Variable>; 2]) {
        let variables = [5, 6].map(|seed| Arc::new(Variable::new(sample(K, N, seed))));
        let mut g = Graph::new();
        let x = g.input(sample(M, K, 0).ty());
        let d = g.input(sample(M, N, 0).ty());
        let [w, momentum] = variables.each_ref().map(|v| g.variable(v));
        let product = |g: &mut Graph, ta, tb, a, b| g.add(MatMul::new(ta, tb), &[a, b]).unwrap();
        let mut outputs = vec![product(&mut g, false, false, x, w), product(&mut g, false, true, d, w)];
        if reads_rows {
            outputs.push(g.add(Transpose(smallvec::smallvec![1, 0]), &[w]).unwrap());
        }
        let gradient = product(&mut g, true, false, x, d);
        let (rate, keep) = (g.scalar(DType::F32, 0.1), g.scalar(DType::F32, 0.9));
        let kept = g.binary(B::Mul, momentum, keep).unwrap();
        let change = g.binary(B::Mul, gradient, rate).unwrap();
        let new = g.binary(B::Sub, kept, change).unwrap();
        let weights = g.binary(B::Add, w, new).unwrap();
        (Traced { graph: g, outputs, updates: vec![(0, weights), (1, new)] }, variables)
    }

    #[test]
    fn steps_in_panels_are_steps_by_rows() {
        let isa = Isa::best();
        let optimised = |reads_rows| crate::passes::optimise(step(reads_rows).0).unwrap();
        assert_eq!(find(&optimised(false), isa).len(), 2);
        // Whoever else reads the weights in the same plan reads them by rows.
        assert!(find(&optimised(true), isa).is_empty());
        let ((packed, ours), (plain, theirs)) = (step(false), step(true));
        let (packed, plain) = (Function::new(packed), Function::new(plain));
        for round in 0..4 {
            let inputs = [sample(M, K, round), sample(M, N, round + 7)];
            let (y, z) = (packed.call(&inputs).unwrap(), plain.call(&inputs).unwrap());
            for (a, b) in y.iter().zip(&z) {
                assert!(a.to_f64().iter().zip(b.to_f64()).all(|(a, b)| (a - b).abs() < 1e-4));
            }
            if round == 1 {
                // Read, and set, between two steps.
                assert_eq!(ours[0].get().bytes(), theirs[0].get().bytes());
                for variables in [&ours, &theirs] {
                    variables[1].set(sample(K, N, 9)).unwrap();
                }
            }
        }
        // An update is the same elementwise.
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(a.get().bytes(), b.get().bytes());
        }
    }
}
