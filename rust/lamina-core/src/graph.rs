//! The graph: nodes in topological order, each an op on earlier values.
//!
//! Ops are pure (randomness takes its seed as an input), so equal nodes are merged as they are added.

use crate::dtype::DType;
use crate::error::{Result, ShapeError};
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::movement::{BroadcastLike, SumLike};
use crate::ops::select::Cast;
use crate::ops::source::Source;
use crate::ops::{Op, OpDef, Real};
use crate::shape::Type;
use crate::tensor::Tensor;
use crate::variable::Variable;
use lamina_kernels::elementwise as ew;
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::{SmallVec, smallvec};
use std::hash::BuildHasher;
use std::sync::Arc;

/// One output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// Index of the node.
    pub node: u32,
    /// Which of its outputs.
    pub output: u32,
}

/// The operands of a node.
pub type Inputs = SmallVec<[Value; 4]>;

/// The types of a node's outputs.
pub type Types = SmallVec<[Type; 1]>;

/// An op, its operands and what is known of its results.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Its operands.
    pub inputs: Inputs,
    /// The types of its outputs.
    pub types: Types,
}

/// A pure computation over inputs, variables and constants.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// The nodes with a hash of what they do to what.
    seen: FxHashMap<u64, SmallVec<[u32; 2]>>,
    inputs: Vec<Value>,
    variables: Vec<(Arc<Variable>, Value)>,
    constants: Vec<Tensor>,
}

/// What equal nodes have in common.
fn key(op: &Op, inputs: &[Value]) -> u64 {
    FxBuildHasher.hash_one((op, inputs))
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// All nodes; a node's operands have smaller indices.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that makes a value.
    pub fn node(&self, v: Value) -> &Node {
        &self.nodes[v.node as usize]
    }

    /// The op that makes a value.
    pub fn op(&self, v: Value) -> &Op {
        &self.node(v).op
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.node(v).types[v.output as usize]
    }

    /// The placeholders, in the order they were made.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// The variables read, with the value each has on entry.
    pub fn variables(&self) -> &[(Arc<Variable>, Value)] {
        &self.variables
    }

    /// The constant tensors.
    pub fn constants(&self) -> &[Tensor] {
        &self.constants
    }

    fn push(&mut self, op: Op, inputs: Inputs, types: Types) -> Value {
        let node = self.nodes.len() as u32;
        self.seen.entry(key(&op, &inputs)).or_default().push(node);
        self.nodes.push(Node { op, inputs, types });
        Value { node, output: 0 }
    }

    /// The first result of the node that does this to these operands, if there is one.
    fn find(&self, op: &Op, inputs: &[Value]) -> Option<Value> {
        let same = |node: &&u32| {
            let known = &self.nodes[**node as usize];
            known.op == *op && known.inputs[..] == *inputs
        };
        let node = *self.seen.get(&key(op, inputs))?.iter().find(same)?;
        Some(Value { node, output: 0 })
    }

    /// A placeholder for data that arrives with a call.
    pub fn input(&mut self, ty: Type) -> Value {
        let op = Op::Source(Source::Input(self.inputs.len() as u32));
        let v = self.push(op, smallvec![], smallvec![ty]);
        self.inputs.push(v);
        v
    }

    /// The value a variable has on entry.
    pub fn variable(&mut self, variable: &Arc<Variable>) -> Value {
        if let Some((_, v)) = self.variables.iter().find(|(known, _)| Arc::ptr_eq(known, variable)) {
            return *v;
        }
        let op = Op::Source(Source::Variable(self.variables.len() as u32));
        let v = self.push(op, smallvec![], smallvec![variable.ty().clone()]);
        self.variables.push((variable.clone(), v));
        v
    }

    /// A tensor known now.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        if tensor.shape().is_empty() && tensor.dtype() != DType::I64 {
            return self.scalar(tensor.dtype(), tensor.to_f64()[0]);
        }
        if let Some(i) = self.constants.iter().position(|c| c.same_buffer(&tensor) && c.ty() == tensor.ty()) {
            return self.known_constant(i);
        }
        let op = Op::Source(Source::Constant(self.constants.len() as u32));
        let ty = tensor.ty();
        self.constants.push(tensor);
        self.push(op, smallvec![], smallvec![ty])
    }

    fn known_constant(&self, i: usize) -> Value {
        let known = self.find(&Op::Source(Source::Constant(i as u32)), &[]);
        known.expect("each constant has its node")
    }

    /// A constant without axes.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        let op = Op::Source(Source::Scalar(dtype, Real::new(value)));
        let known = self.find(&op, &[]);
        known.unwrap_or_else(|| self.push(op, smallvec![], smallvec![Type::known(dtype, &[])]))
    }

    /// The tensor behind a value, where it is a constant.
    pub fn constant_value(&self, v: Value) -> Option<Tensor> {
        match self.op(v) {
            Op::Source(Source::Scalar(dtype, x)) => Some(Tensor::full(*dtype, &[], x.get())),
            Op::Source(Source::Constant(i)) => Some(self.constants[*i as usize].clone()),
            _ => None,
        }
    }

    /// The scalar behind a value, where it is a constant one.
    pub fn as_scalar(&self, v: Value) -> Option<f64> {
        match self.op(v) {
            Op::Source(Source::Scalar(_, value)) => Some(value.get()),
            _ => None,
        }
    }

    /// Adds an op; its first output comes back (see [`Graph::add_all`] for several). An equal node, or a
    /// simpler value, is reused.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Value, ShapeError> {
        Ok(self.add_all(op, inputs)?[0])
    }

    /// Adds an op; all its outputs come back.
    pub fn add_all(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 3]>, ShapeError> {
        let op = op.into();
        if let Some(v) = op.simplify(self, inputs) {
            // Only ops with one output simplify; the value may be any output of another node.
            return Ok(smallvec![v]);
        }
        let inputs: Inputs = inputs.into();
        let first = match self.find(&op, &inputs) {
            Some(first) => first,
            None => {
                let types = {
                    let operand_types: SmallVec<[&Type; 4]> = inputs.iter().map(|&v| self.ty(v)).collect();
                    op.infer(&operand_types)?
                };
                self.push(op, inputs, types)
            }
        };
        let count = self.node(first).types.len() as u32;
        Ok((0..count).map(|output| Value { node: first.node, output }).collect())
    }

    // --- What gradients are written with.

    /// `op(a)`.
    pub fn unary(&mut self, op: ew::Unary, a: Value) -> Result<Value, ShapeError> {
        self.add(Unary(op), &[a])
    }

    /// `op(a, b)`, broadcasting.
    pub fn binary(&mut self, op: ew::Binary, a: Value, b: Value) -> Result<Value, ShapeError> {
        self.add(Binary(op), &[a, b])
    }

    /// `a + b`.
    pub fn sum(&mut self, a: Value, b: Value) -> Result<Value, ShapeError> {
        self.binary(ew::Binary::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value, ShapeError> {
        self.binary(ew::Binary::Sub, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, ShapeError> {
        self.binary(ew::Binary::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: Value, b: Value) -> Result<Value, ShapeError> {
        self.binary(ew::Binary::Div, a, b)
    }

    /// `-a`.
    pub fn neg(&mut self, a: Value) -> Result<Value, ShapeError> {
        self.unary(ew::Unary::Neg, a)
    }

    /// `a * x` for a number `x`.
    pub fn scale(&mut self, a: Value, x: f64) -> Result<Value, ShapeError> {
        let x = self.scalar(self.ty(a).dtype, x);
        self.mul(a, x)
    }

    /// `a + x` for a number `x`.
    pub fn offset(&mut self, a: Value, x: f64) -> Result<Value, ShapeError> {
        let x = self.scalar(self.ty(a).dtype, x);
        self.sum(a, x)
    }

    /// `a` summed down to the shape of `like`: the adjoint of broadcasting.
    pub fn sum_like(&mut self, a: Value, like: Value) -> Result<Value, ShapeError> {
        self.add(SumLike, &[a, like])
    }

    /// `a` broadcast to the shape of `like`.
    pub fn broadcast_like(&mut self, a: Value, like: Value) -> Result<Value, ShapeError> {
        self.add(BroadcastLike, &[a, like])
    }

    /// A number in the shape and type of `like`.
    pub fn full_like(&mut self, like: Value, x: f64) -> Result<Value, ShapeError> {
        let x = self.scalar(self.ty(like).dtype, x);
        self.broadcast_like(x, like)
    }

    /// `a` with another element type.
    pub fn cast(&mut self, a: Value, dtype: DType) -> Result<Value, ShapeError> {
        self.add(Cast(dtype), &[a])
    }

    // --- Rewriting.

    /// Which nodes the given values need, sources included.
    pub fn live(&self, roots: impl IntoIterator<Item = Value>) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        for v in roots {
            live[v.node as usize] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            if live[i] {
                for v in &self.nodes[i].inputs {
                    live[v.node as usize] = true;
                }
            }
        }
        live
    }

    /// A graph with the same inputs, variables and constants and no other node: what a rewrite starts from.
    /// `types` replaces the inputs' types (with concrete ones, when a plan is made).
    pub fn rebuild(&self, types: Option<&[Type]>) -> (Graph, FxHashMap<Value, Value>) {
        let mut new = Graph::new();
        let mut map = FxHashMap::default();
        for (i, &v) in self.inputs.iter().enumerate() {
            let ty = types.map_or_else(|| self.ty(v).clone(), |t| t[i].clone());
            map.insert(v, new.input(ty));
        }
        for (variable, v) in &self.variables {
            map.insert(*v, new.variable(variable));
        }
        for (i, tensor) in self.constants.iter().enumerate() {
            map.insert(self.known_constant(i), new.constant(tensor.clone()));
        }
        (new, map)
    }

    /// The part that computes `roots` from `at` alone, its only input.
    pub fn part_from(&self, at: Value, roots: &[Value]) -> Result<(Graph, Vec<Value>), ShapeError> {
        let mut part = self.clone();
        // What lies before is not live any more.
        part.nodes[at.node as usize].inputs.clear();
        part.inputs = vec![at];
        part.rewrite(roots, None, |g, _, node, inputs| g.add_all(node.op.clone(), inputs))
    }

    /// Copies every live node into a new graph through `rewrite`, which may add any nodes it likes and
    /// returns the new outputs of a node. This is how passes are written.
    pub fn rewrite(
        &self,
        roots: &[Value],
        types: Option<&[Type]>,
        mut rewrite: impl FnMut(&mut Graph, Value, &Node, &[Value]) -> Result<SmallVec<[Value; 3]>, ShapeError>,
    ) -> Result<(Graph, Vec<Value>), ShapeError> {
        let live = self.live(roots.iter().copied());
        let (mut new, mut map) = self.rebuild(types);
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            let old = Value { node: i as u32, output: 0 };
            if map.contains_key(&old) {
                continue;
            }
            let inputs: Inputs = node.inputs.iter().map(|v| map[v]).collect();
            for (output, v) in rewrite(&mut new, old, node, &inputs)?.into_iter().enumerate() {
                map.insert(Value { node: old.node, output: output as u32 }, v);
            }
        }
        let roots = roots.iter().map(|v| map[v]).collect();
        Ok((new, roots))
    }
}
