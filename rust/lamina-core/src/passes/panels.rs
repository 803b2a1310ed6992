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
    let layouts = find(&traced, isa);
    if layouts.is_empty() {
        return Ok((traced, layouts));
    }
    let old = &traced.graph;
    let packed = |v: Value| variable(old, v).is_some_and(|i| layouts.contains_key(&i));
    let (graph, roots) = old.rewrite(&traced.roots(), None, |g, _, node, inputs| match &node.op {
        Op::MatMul(op) if packed(node.inputs[1]) => g.add_all(MatMul { in_panels: true, ..*op }, inputs),
        Op::Chain(op) if node.inputs[2..].iter().any(|v| packed(*v)) => {
            g.add_all(Chain { in_panels: true, ..op.clone() }, inputs)
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
    let graph = &traced.graph;
    let live = graph.live(traced.roots());
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
                && !traced.roots().contains(v)
                && used.clone().filter(|r| r.0 == i).count() == 1
                && used.clone().all(|&(reader, k)| reader == i || multiplies(reader, k))
        };
        let variables: Vec<usize> = whole.iter().filter_map(|v| variable(graph, *v)).collect();
        let results = (0..op.then.results.len()).map(|o| Value { node: i as u32, output: o as u32 });
        // Each result is the new value of one of them, and each of them gets one.
        let kept = |v: Value| {
            traced.roots().iter().filter(|root| **root == v).count() == 1
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
