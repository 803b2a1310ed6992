//! Ops that ran, written down so that they can be differentiated by the one autodiff.

use crate::autodiff::gradients;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Op;
use crate::plan::Traced;
use crate::shape::Type;
use crate::tensor::Tensor;
use rustc_hash::FxHashMap;

/// A record of ops that ran, with the values they had.
#[derive(Default)]
pub struct Tape {
    graph: Graph,
    /// What every value on the tape was.
    known: FxHashMap<Value, Tensor>,
}

/// A gradient computation ready to run: `traced` on `inputs`, whose outputs are the gradients that exist.
pub struct Backward {
    /// The computation.
    pub traced: Traced,
    /// Its operands: forward values.
    pub inputs: Vec<Tensor>,
    /// For each source, the index of its gradient among the outputs.
    pub slots: Vec<Option<usize>>,
    /// Where each operand stands on the tape.
    pub origins: Vec<Value>,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Tape {
        Tape::default()
    }

    /// A leaf whose gradient may be asked for.
    pub fn watch(&mut self, tensor: &Tensor) -> Value {
        let v = self.graph.input(Type::known(tensor.dtype(), tensor.shape()));
        self.known.insert(v, tensor.clone());
        v
    }

    /// A value that no gradient is asked for.
    pub fn constant(&mut self, tensor: &Tensor) -> Value {
        self.graph.constant(tensor.clone())
    }

    /// Writes down an op that ran.
    pub fn record(&mut self, op: &Op, inputs: &[Value], outputs: &[Tensor]) -> Result<Vec<Value>> {
        let values = self.graph.add_all(op.clone(), inputs)?;
        for (v, tensor) in values.iter().zip(outputs) {
            self.known.entry(*v).or_insert_with(|| tensor.clone());
        }
        Ok(values[..outputs.len()].to_vec())
    }

    /// The computation of the gradients of `target` (weighted by `seed`) with respect to `sources`.
    ///
    /// Forward values are taken from the tape, not computed again.
    pub fn backward(&self, target: Value, sources: &[Value], seed: Option<&Tensor>) -> Result<Backward> {
        let mut graph = self.graph.clone();
        let seed_value = seed.map(|t| graph.input(t.ty()));
        let found = gradients(&mut graph, target, sources, seed_value)?;
        let roots: Vec<Value> = found.iter().flatten().copied().collect();
        let mut next = 0;
        let slots = found
            .iter()
            .map(|g| {
                g.map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();

        // The same nodes over a graph whose inputs are the forward values that the gradients read.
        let mut new = Graph::new();
        let mut map: FxHashMap<Value, Value> = FxHashMap::default();
        let (mut inputs, mut origins) = (vec![], vec![]);
        let mut stack: Vec<Value> = roots.clone();
        while let Some(&v) = stack.last() {
            if map.contains_key(&v) {
                stack.pop();
                continue;
            }
            let given = if Some(v) == seed_value { seed } else { self.known.get(&v) };
            if let Some(tensor) = given {
                map.insert(v, new.input(tensor.ty()));
                inputs.push(tensor.clone());
                origins.push(v);
                stack.pop();
                continue;
            }
            let node = graph.node(v).clone();
            if let Op::Source(_) = &node.op {
                let value = graph.constant_value(v).expect("a tape's other leaves are known");
                map.insert(v, new.constant(value));
                stack.pop();
                continue;
            }
            let missing: Vec<Value> = node.inputs.iter().copied().filter(|v| !map.contains_key(v)).collect();
            if missing.is_empty() {
                let operands: Vec<Value> = node.inputs.iter().map(|v| map[v]).collect();
                for (k, new_v) in new.add_all(node.op, &operands)?.into_iter().enumerate() {
                    map.insert(Value { node: v.node, output: k as u32 }, new_v);
                }
                stack.pop();
            } else {
                stack.extend(missing);
            }
        }
        let outputs = roots.iter().map(|v| map[v]).collect();
        Ok(Backward { traced: Traced { graph: new, outputs, updates: vec![] }, inputs, slots, origins })
    }

    /// What a value on the tape was.
    pub fn known(&self, v: Value) -> Option<&Tensor> {
        self.known.get(&v)
    }
}
