//! Grouping elementwise nodes: each group becomes one [`Fused`] pass over memory.

use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Node, Value};
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::fused::{Builder, Fused, readable, stored};
use crate::ops::select::{Cast, Select};
use crate::ops::source::Source;
use crate::ops::{Op, OpDef};
use crate::plan::Traced;
use crate::shape::{Shape, Type};
use lamina_kernels::elementwise as ew;
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

/// Writes what is left of the activations (after epilogues took theirs) in primitive ops.
pub fn expand(traced: Traced) -> Result<Traced> {
    let (graph, roots) = traced.graph.rewrite(&traced.roots(), None, |g, _, node, inputs| {
        Ok(match &node.op {
            Op::Activation(a) => smallvec![a.expand(g, inputs[0])?],
            op @ (Op::Unary(_) | Op::Binary(_) | Op::Select(_)) => {
                smallvec![g.add(op.clone(), &through_broadcasts(g, node, inputs))?]
            }
            op => g.add_all(op.clone(), inputs)?,
        })
    })?;
    Ok(traced.with_graph(graph, &roots))
}

/// Elementwise ops broadcast by themselves: they read the source of a broadcast wherever the result keeps its shape.
fn through_broadcasts(g: &Graph, node: &Node, inputs: &[Value]) -> SmallVec<[Value; 4]> {
    let mut inputs: SmallVec<[Value; 4]> = inputs.into();
    for i in 0..inputs.len() {
        if let Op::BroadcastTo(_) = g.op(inputs[i]) {
            let before = inputs[i];
            inputs[i] = g.node(before).inputs[0];
            let types: SmallVec<[&Type; 4]> = inputs.iter().map(|v| g.ty(*v)).collect();
            if node.op.infer(&types).is_ok_and(|out| out[0].dims != node.types[0].dims) {
                inputs[i] = before;
            }
        }
    }
    inputs
}

/// Replaces every maximal group of fusable nodes.
pub fn run(traced: Traced) -> Result<Traced> {
    let roots = traced.roots();
    let live = traced.graph.live(roots.iter().copied());
    let groups = Groups::form(&traced.graph, &live);
    let mut emit = Emit::new(&traced.graph, &groups, &roots, &live);
    for i in (0..traced.graph.nodes().len()).filter(|&i| live[i]) {
        // A group stands where its last member stood.
        if groups.of[i].is_none_or(|g| groups.members[g].last() == Some(&i)) {
            emit.node(i)?;
        }
    }
    let new_roots: Vec<Value> = roots.iter().map(|v| emit.map[v]).collect();
    let graph = emit.new;
    Ok(traced.with_graph(graph, &new_roots))
}

/// The most nodes a group may have (its program then has fewer than 256 values), and the most operands.
const MAX_MEMBERS: usize = 64;
const MAX_OPERANDS: usize = 12;

/// Whether a program can compute this node exactly.
fn fusable(g: &Graph, node: &Node) -> bool {
    let inputs: SmallVec<[DType; 4]> = node.inputs.iter().map(|v| g.ty(*v).dtype).collect();
    let out = node.types[0].dtype;
    if !stored(out) {
        return false;
    }
    match &node.op {
        Op::Unary(_) | Op::Select(_) => inputs.iter().all(|d| stored(*d)),
        // Sums of bools are not logic: they stay with the generic kernels.
        Op::Binary(_) => {
            inputs.iter().all(|d| *d == DType::F32)
                || (out == DType::Bool && inputs.iter().all(|d| stored(*d)))
        }
        Op::Cast(_) => readable(inputs[0]),
        _ => false,
    }
}

/// Which nodes run together. A group runs as a whole, so two groups may never need each other: each stands on a level above
/// that of everything it reads, and below that of everything that reads it.
struct Groups {
    of: Vec<Option<usize>>,
    members: Vec<Vec<usize>>,
    dims: Vec<Shape>,
    /// Of each group, and the nodes outside that read it (or were outside when they did).
    levels: Vec<usize>,
    readers: Vec<Vec<usize>>,
    /// Of each node that is in no group.
    plain: Vec<usize>,
}

impl Groups {
    fn form(graph: &Graph, live: &[bool]) -> Groups {
        let n = graph.nodes().len();
        let mut groups = Groups {
            of: vec![None; n],
            members: vec![],
            dims: vec![],
            levels: vec![],
            readers: vec![],
            plain: vec![0; n],
        };
        for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            if fusable(graph, node) {
                groups.place(graph, i, node);
            } else {
                groups.plain[i] = groups.above(node, &[]);
            }
            for v in &node.inputs {
                if let Some(g) = groups.of[v.node as usize].filter(|g| groups.of[i] != Some(*g)) {
                    groups.readers[g].push(i);
                }
            }
        }
        groups
    }

    fn level(&self, node: usize) -> usize {
        self.of[node].map_or(self.plain[node], |g| self.levels[g])
    }

    /// The least level for a node, as far as it reads others than these groups.
    fn above(&self, node: &Node, groups: &[usize]) -> usize {
        let outside = node.inputs.iter().map(|v| v.node as usize).filter(|n| !self.is_in(*n, groups));
        outside.map(|n| self.level(n) + 1).max().unwrap_or(0)
    }

    fn is_in(&self, node: usize, groups: &[usize]) -> bool {
        self.of[node].is_some_and(|g| groups.contains(&g))
    }

    /// Whether everything else that reads these groups is above a level.
    fn below_readers(&self, level: usize, groups: &[usize]) -> bool {
        let mut readers = groups.iter().flat_map(|&g| &self.readers[g]).filter(|r| !self.is_in(**r, groups));
        readers.all(|r| self.level(*r) > level)
    }

    fn place(&mut self, graph: &Graph, i: usize, node: &Node) {
        let dims = node.types[0].concrete();
        let mut home: Option<usize> = None;
        let mut candidates: SmallVec<[usize; 4]> = smallvec![];
        for v in &node.inputs {
            // Through a broadcast, the source of the broadcast is what the group will read.
            if let Some(g) = self.of[v.node as usize]
                && self.dims[g] == dims
                && !candidates.contains(&g)
            {
                candidates.push(g);
            }
        }
        for g in candidates {
            match home {
                None => {
                    let level = self.levels[g].max(self.above(node, &[g]));
                    let room = self.members[g].len() < MAX_MEMBERS && self.fits(graph, &[g], i);
                    if room && self.below_readers(level, &[g]) {
                        self.members[g].push(i);
                        self.of[i] = Some(g);
                        self.levels[g] = level;
                        home = Some(g);
                    }
                }
                Some(h) => {
                    let both = [h, g];
                    let members = both.iter().flat_map(|&g| &self.members[g]);
                    let level = members.map(|&m| self.above(&graph.nodes()[m], &both)).max().unwrap_or(0);
                    let total = self.members[g].len() + self.members[h].len();
                    if total <= MAX_MEMBERS && self.fits(graph, &both, i) && self.below_readers(level, &both)
                    {
                        self.merge(h, g, level);
                    }
                }
            }
        }
        if home.is_none() {
            self.of[i] = Some(self.members.len());
            self.levels.push(self.above(node, &[]));
            self.members.push(vec![i]);
            self.dims.push(dims);
            self.readers.push(vec![]);
        }
    }

    /// Whether the groups with node `extra` keep within the operand limit.
    fn fits(&self, graph: &Graph, groups: &[usize], extra: usize) -> bool {
        let mut operands: SmallVec<[Value; 16]> = smallvec![];
        let members = groups.iter().flat_map(|&g| self.members[g].iter().copied());
        for m in members.chain(std::iter::once(extra)) {
            for v in &graph.nodes()[m].inputs {
                let inside = self.is_in(v.node as usize, groups);
                if !inside && graph.as_scalar(*v).is_none() && !operands.contains(v) {
                    operands.push(*v);
                }
            }
        }
        operands.len() <= MAX_OPERANDS
    }

    fn merge(&mut self, into: usize, from: usize, level: usize) {
        let moved = std::mem::take(&mut self.members[from]);
        for &m in &moved {
            self.of[m] = Some(into);
        }
        self.members[into].extend(moved);
        self.members[into].sort_unstable();
        let readers = std::mem::take(&mut self.readers[from]);
        self.readers[into].extend(readers);
        self.levels[into] = level;
    }
}

/// Writes the new graph, each group as one node.
struct Emit<'a> {
    old: &'a Graph,
    groups: &'a Groups,
    /// Values that something outside their group wants.
    wanted: FxHashMap<Value, ()>,
    done: Vec<bool>,
    new: Graph,
    map: FxHashMap<Value, Value>,
}

impl<'a> Emit<'a> {
    fn new(old: &'a Graph, groups: &'a Groups, roots: &[Value], live: &[bool]) -> Self {
        let (new, map) = old.rebuild(None);
        let mut wanted: FxHashMap<Value, ()> = roots.iter().map(|v| (*v, ())).collect();
        for (i, node) in old.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            for v in &node.inputs {
                if groups.of[i].is_none() || groups.of[i] != groups.of[v.node as usize] {
                    wanted.insert(*v, ());
                }
            }
        }
        let mut done = vec![false; old.nodes().len()];
        map.keys().for_each(|v: &Value| done[v.node as usize] = true);
        Emit { old, groups, wanted, done, new, map }
    }

    /// Emits a node or its whole group, whatever it needs first.
    fn node(&mut self, start: usize) -> Result<()> {
        // An explicit stack: chains of thousands of nodes must not exhaust the thread's own.
        let mut stack = vec![start];
        while let Some(&i) = stack.last() {
            if self.done[i] {
                stack.pop();
                continue;
            }
            let single = [i];
            let members: &[usize] = match self.groups.of[i] {
                Some(g) => &self.groups.members[g],
                None => &single,
            };
            let missing: Vec<usize> = members
                .iter()
                .flat_map(|&m| self.old.nodes()[m].inputs.iter())
                .map(|v| v.node as usize)
                .filter(|n| !self.done[*n] && !members.contains(n))
                .collect();
            if missing.is_empty() {
                match self.groups.of[i] {
                    Some(_) => self.group(members)?,
                    None => self.plain(i)?,
                }
                stack.pop();
            } else {
                stack.extend(missing);
            }
        }
        Ok(())
    }

    fn plain(&mut self, i: usize) -> Result<()> {
        let node = &self.old.nodes()[i];
        let inputs: SmallVec<[Value; 4]> = node.inputs.iter().map(|v| self.map[v]).collect();
        for (k, v) in self.new.add_all(node.op.clone(), &inputs)?.into_iter().enumerate() {
            self.map.insert(Value { node: i as u32, output: k as u32 }, v);
        }
        self.done[i] = true;
        Ok(())
    }

    /// Emits a group as one node, or as two where its program would need too many registers or results.
    fn group(&mut self, members: &[usize]) -> Result<()> {
        let Some((op, operands, results)) = self.program(members) else {
            let (first, second) = members.split_at(members.len() / 2);
            self.group(first)?;
            return self.group(second);
        };
        let inputs: Vec<Value> = operands.iter().map(|v| self.map[v]).collect();
        for (v, new) in results.into_iter().zip(self.new.add_all(op, &inputs)?) {
            self.map.insert(v, new);
        }
        members.iter().for_each(|&m| self.done[m] = true);
        Ok(())
    }

    /// The program of a group, its operands and its results.
    fn program(&self, members: &[usize]) -> Option<(Fused, Vec<Value>, Vec<Value>)> {
        let mut build = Builder::default();
        let mut regs: FxHashMap<Value, u8> = FxHashMap::default();
        let mut operands: Vec<Value> = vec![];
        let (mut results, mut result_values): (Vec<u8>, Vec<Value>) = (vec![], vec![]);
        for &m in members {
            let node = &self.old.nodes()[m];
            let x: SmallVec<[u8; 4]> =
                node.inputs.iter().map(|v| self.operand(*v, &mut build, &mut regs, &mut operands)).collect();
            let reg = match &node.op {
                Op::Unary(Unary(op)) => build.unary(*op, x[0]),
                Op::Binary(Binary(op)) => build.binary(*op, x[0], x[1]),
                Op::Select(Select) => build.select(x[0], x[1], x[2]),
                // Bools are 0 and 1 inside a program; a cast to bool asks whether it is not zero.
                Op::Cast(Cast(DType::Bool)) => {
                    let zero = build.constant(0.0);
                    build.binary(ew::Binary::Ne, x[0], zero)
                }
                Op::Cast(Cast(_)) => x[0],
                other => unreachable!("{} is not fusable", other.name()),
            };
            let v = Value { node: m as u32, output: 0 };
            regs.insert(v, reg);
            if self.wanted.contains_key(&v) || self.read_outside(v, members) {
                results.push(reg);
                result_values.push(v);
            }
        }
        let op = Fused {
            program: build.finish(&results)?,
            dims: self.old.nodes()[members[0]].types[0].concrete(),
            results: result_values.iter().map(|v| self.old.ty(*v).dtype).collect(),
        };
        Some((op, operands, result_values))
    }

    /// Whether a member of the same group that is emitted apart reads a value.
    fn read_outside(&self, v: Value, members: &[usize]) -> bool {
        let Some(g) = self.groups.of[v.node as usize] else { return false };
        let all = &self.groups.members[g];
        all.len() != members.len()
            && all.iter().any(|m| !members.contains(m) && self.old.nodes()[*m].inputs.contains(&v))
    }

    /// The register of an operand, loaded where the group meets it first.
    fn operand(
        &self,
        v: Value,
        build: &mut Builder,
        regs: &mut FxHashMap<Value, u8>,
        operands: &mut Vec<Value>,
    ) -> u8 {
        if let Some(&reg) = regs.get(&v) {
            return reg;
        }
        let reg = match self.old.op(v) {
            Op::Source(Source::Scalar(_, x)) => build.constant(x.get() as f32),
            _ => {
                operands.push(v);
                build.load(operands.len() - 1)
            }
        };
        regs.insert(v, reg);
        reg
    }
}
