//! From a graph to a [`Plan`]: where every value lies, which kernel computes it, what is packed.

use super::layout::{Lifetime, place};
use super::{Blocks, Place, Plan, Static, StaticStep, Step, Traced};
use crate::graph::{Graph, Value};
use crate::ops::source::Source;
use crate::ops::{Kernel, Lower, Lowering, Op, OpDef};
use crate::passes;
use crate::shape::Type;
use lamina_kernels::Isa;
use lamina_kernels::memory::{Span, Views};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex};

/// What a step touches, before addresses are known.
struct Draft {
    kernel: Kernel,
    reads: Vec<Loc>,
    writes: Vec<Loc>,
    scratch: Loc,
    /// What a static step computes: its op, and the key of what it packs.
    what: Option<(Op, u64)>,
}

/// A piece of memory: an index into the planner's table of pieces, or nothing (an operand that shares
/// its memory with an output).
type Loc = Option<usize>;

struct Piece {
    place: Place,
    bytes: usize,
    life: Lifetime,
}

/// Turns an optimised, concrete graph into a [`Plan`].
pub(super) struct Planner<'a> {
    traced: &'a Traced,
    isa: Isa,
    /// Whether a node is computed by the prologue.
    is_static: Vec<bool>,
    /// Piece of each value (aliases share one).
    pieces: Vec<Piece>,
    location: FxHashMap<Value, usize>,
    /// The values of each piece: the inverse of `location`.
    holders: Vec<Vec<Value>>,
    packed: FxHashMap<(usize, u64), usize>,
    prologue: Vec<Draft>,
    drafts: Vec<Draft>,
    /// For every piece, the index of the last node that reads it.
    last_reader: FxHashMap<Value, usize>,
    /// The variable that a value becomes, if any.
    becomes: FxHashMap<Value, usize>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(traced: &'a Traced, isa: Isa) -> Self {
        let graph = &traced.graph;
        let updated = |i: u32| traced.updates.iter().any(|u| u.0 == i as usize);
        let mut is_static = vec![false; graph.nodes().len()];
        let mut last_reader = FxHashMap::default();
        for (i, node) in graph.nodes().iter().enumerate() {
            is_static[i] = passes::is_static(node, &is_static, updated);
            for (k, v) in node.inputs.iter().enumerate() {
                if node.op.reads(k) {
                    last_reader.insert(*v, i);
                }
            }
        }
        Planner {
            traced,
            isa,
            is_static,
            pieces: vec![],
            location: FxHashMap::default(),
            holders: vec![],
            packed: FxHashMap::default(),
            prologue: vec![],
            drafts: vec![],
            last_reader,
            becomes: traced.updates.iter().map(|(i, v)| (*v, *i)).collect(),
        }
    }

    fn graph(&self) -> &'a Graph {
        &self.traced.graph
    }

    fn piece(&mut self, place: Place, bytes: usize) -> usize {
        self.pieces.push(Piece { place, bytes, life: Lifetime::default() });
        self.holders.push(vec![]);
        self.pieces.len() - 1
    }

    fn locate(&mut self, v: Value, piece: usize) {
        self.location.insert(v, piece);
        self.holders[piece].push(v);
    }

    pub(super) fn plan(mut self) -> Plan {
        let graph = self.graph();
        let live = graph.live(self.traced.roots());
        for (i, _) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            self.node(i);
        }
        self.results();
        self.finish()
    }

    /// Drafts the steps of one node.
    fn node(&mut self, index: usize) {
        let graph = self.graph();
        let node = &graph.nodes()[index];
        let first = Value { node: index as u32, output: 0 };
        if let Op::Source(source) = &node.op {
            let place = match *source {
                Source::Input(i) => Some(Place::Input(i)),
                Source::Variable(i) => Some(Place::Variable(i)),
                Source::Constant(i) => Some(Place::Constant(i)),
                Source::Scalar(..) => None,
            };
            if let Some(place) = place {
                let mut piece = self.piece(place, node.types[0].bytes());
                if matches!(source, Source::Variable(_)) && self.is_static[index] {
                    piece = self.snapshot(piece, &node.op);
                }
                self.locate(first, piece);
                return;
            }
        }
        let types: Vec<&Type> = node.inputs.iter().map(|v| graph.ty(*v)).collect();
        let shared = self.shared(index, &types);
        let fixed: Vec<bool> = node.inputs.iter().map(|v| self.is_static[v.node as usize]).collect();
        let cx =
            Lower { isa: self.isa, inputs: &types, outputs: &node.types, shared: &shared, is_static: &fixed };
        let mut kernel = match node.op.lower(&cx) {
            Lowering::Alias => {
                let piece = self.location[&node.inputs[0]];
                self.locate(first, piece);
                return;
            }
            Lowering::Kernel(kernel) => kernel,
        };

        let is_static = self.is_static[index];
        let home = if is_static { Place::Static } else { Place::Arena };
        let mut reads: Vec<Loc> = vec![];
        for (k, v) in node.inputs.iter().enumerate() {
            let in_place = shared.iter().any(|s| s.0 == k);
            reads.push((!in_place && node.op.reads(k)).then(|| self.location[v]));
        }
        for pack in std::mem::take(&mut kernel.packs) {
            let operand = node.inputs[pack.input];
            let source = self.location[&operand];
            let packed = self.pack(pack, source, self.is_static[operand.node as usize], &node.op);
            let input = packed.0;
            reads[input] = Some(packed.1);
        }
        let mut writes: Vec<Loc> = vec![];
        for (output, ty) in node.types.iter().enumerate() {
            let v = Value { node: index as u32, output: output as u32 };
            let piece = match shared.iter().find(|s| s.1 == output) {
                Some((operand, _)) => self.location[&node.inputs[*operand]],
                None => self.piece(home, ty.bytes()),
            };
            self.locate(v, piece);
            writes.push(Some(piece));
        }
        if node.types.iter().all(Type::is_empty) {
            return; // an empty batch: there is nothing to write
        }
        let what = is_static.then(|| (node.op.clone(), 0));
        self.push(is_static, kernel, reads, writes, what);
    }

    fn push(
        &mut self,
        is_static: bool,
        kernel: Kernel,
        reads: Vec<Loc>,
        writes: Vec<Loc>,
        what: Option<(Op, u64)>,
    ) {
        let place = if is_static { Place::Static } else { Place::Arena };
        let scratch = (kernel.scratch > 0).then(|| self.piece(place, kernel.scratch));
        let draft = Draft { kernel, reads, writes, scratch, what };
        let list = if is_static { &mut self.prologue } else { &mut self.drafts };
        list.push(draft);
    }

    /// A variable that does not change in this plan, where it is small: copied once, so that a run need not lock it.
    fn snapshot(&mut self, variable: usize, op: &Op) -> usize {
        let bytes = self.pieces[variable].bytes;
        if bytes == 0 || bytes > SNAPSHOT_BYTES {
            return variable;
        }
        let copy = self.piece(Place::Static, bytes);
        let what = Some((op.clone(), 0));
        self.push(true, copy_kernel("copy"), vec![Some(variable)], vec![Some(copy)], what);
        copy
    }

    /// The packed form of a piece, made once for all who want the same.
    fn pack(&mut self, pack: crate::ops::Pack, source: usize, is_static: bool, op: &Op) -> (usize, usize) {
        if let Some(&piece) = self.packed.get(&(source, pack.key)) {
            return (pack.input, piece);
        }
        let piece = self.piece(if is_static { Place::Static } else { Place::Arena }, pack.bytes);
        let kernel = Kernel { name: "pack", run: pack.run, scratch: 0, flops: 0, packs: vec![] };
        let what = is_static.then(|| (op.clone(), pack.key));
        self.push(is_static, kernel, vec![Some(source)], vec![Some(piece)], what);
        self.packed.insert((source, pack.key), piece);
        (pack.input, piece)
    }

    /// Which operands this node may overwrite: an intermediate nobody reads later, or the old value of the
    /// variable that the output becomes.
    fn shared(&self, index: usize, types: &[&Type]) -> Vec<(usize, usize)> {
        let graph = self.graph();
        let node = &graph.nodes()[index];
        let mut shared: Vec<(usize, usize)> = vec![];
        if self.is_static[index] {
            return shared;
        }
        for (operand, output) in node.op.in_place(types, &node.types) {
            let v = node.inputs[operand];
            let out = Value { node: index as u32, output: output as u32 };
            let taken = shared.iter().any(|s| s.0 == operand || s.1 == output);
            let twice = node.inputs.iter().filter(|w| self.location[w] == self.location[&v]).count() > 1;
            if taken || twice || !self.dies_at(self.location[&v], index) {
                continue;
            }
            let allowed = match self.pieces[self.location[&v]].place {
                Place::Arena => true,
                Place::Variable(i) => self.becomes.get(&out) == Some(&(i as usize)),
                _ => false,
            };
            // The output must not be wanted in a place of its own.
            let is_update = self.becomes.contains_key(&out);
            let in_variable = matches!(self.pieces[self.location[&v]].place, Place::Variable(_));
            if allowed && (is_update == in_variable) {
                shared.push((operand, output));
            }
        }
        shared
    }

    /// Whether nothing reads a piece after node `index`, and no result or update is taken from it.
    fn dies_at(&self, piece: usize, index: usize) -> bool {
        self.holders[piece].iter().all(|v| {
            self.last_reader.get(v).is_none_or(|&last| last <= index)
                && !self.traced.outputs.contains(v)
                && !self.becomes.contains_key(v)
        })
    }

    /// Sends results to their places: outputs into the caller's buffers, updates into the variables.
    fn results(&mut self) {
        let (traced, graph) = (self.traced, self.graph());
        let mut copies = vec![];
        for (i, v) in traced.outputs.iter().enumerate() {
            let source = self.location[v];
            if self.pieces[source].place == Place::Arena && !self.becomes_variable(source) {
                // Computed straight into the caller's buffer.
                self.pieces[source].place = Place::Output(i as u32);
            } else {
                let out = self.piece(Place::Output(i as u32), graph.ty(*v).bytes());
                copies.push((source, out));
            }
        }
        // Old values that another variable takes over are set aside before any variable changes.
        let mut assigns = vec![];
        for (variable, v) in &traced.updates {
            let source = self.location[v];
            let target = Place::Variable(*variable as u32);
            match self.pieces[source].place {
                place if place == target => {}
                Place::Variable(_) => {
                    let aside = self.piece(Place::Arena, graph.ty(*v).bytes());
                    copies.push((source, aside));
                    assigns.push((aside, *variable));
                }
                _ => assigns.push((source, *variable)),
            }
        }
        for (from, to) in copies {
            self.push(false, copy_kernel("copy"), vec![Some(from)], vec![Some(to)], None);
        }
        for (from, variable) in assigns {
            let bytes = self.pieces[from].bytes;
            let to = self.piece(Place::Variable(variable as u32), bytes);
            self.push(false, copy_kernel("assign"), vec![Some(from)], vec![Some(to)], None);
        }
    }

    fn becomes_variable(&self, piece: usize) -> bool {
        matches!(self.pieces[piece].place, Place::Variable(_))
    }

    /// Addresses, at last.
    fn finish(mut self) -> Plan {
        for (time, draft) in self.drafts.iter().enumerate() {
            for piece in
                draft.reads.iter().chain(&draft.writes).chain(std::iter::once(&draft.scratch)).flatten()
            {
                self.pieces[*piece].life.touch(time);
            }
        }
        // What the main steps never look at (weights before they are packed, say) is not kept.
        for (time, draft) in self.prologue.iter().enumerate() {
            for piece in
                draft.reads.iter().chain(&draft.writes).chain(std::iter::once(&draft.scratch)).flatten()
            {
                let piece = &mut self.pieces[*piece];
                if piece.place == Place::Static && piece.life.is_empty() {
                    piece.place = Place::Temporary;
                }
                if piece.place == Place::Temporary {
                    piece.life.touch(time);
                }
            }
        }
        let select = |pieces: &[Piece], place: Place| -> Vec<(usize, usize, Lifetime)> {
            let all = pieces.iter().enumerate();
            all.filter(|(_, p)| p.place == place).map(|(i, p)| (i, p.bytes, p.life)).collect()
        };
        let arena = place(&select(&self.pieces, Place::Arena));
        let statics: Vec<_> = select(&self.pieces, Place::Static)
            .into_iter()
            .map(|(i, bytes, _)| (i, bytes, Lifetime::always()))
            .collect();
        let statics = place(&statics);
        let temporary = place(&select(&self.pieces, Place::Temporary));

        // Which variables the steps touch, and which of them they write.
        let mut variables: FxHashMap<usize, bool> = FxHashMap::default();
        let mut static_variables: Vec<usize> = vec![];
        let of = |piece: &usize| match self.pieces[*piece].place {
            Place::Variable(i) => Some(i as usize),
            _ => None,
        };
        for draft in &self.drafts {
            draft.reads.iter().flatten().filter_map(of).for_each(|i| {
                variables.entry(i).or_insert(false);
            });
            draft.writes.iter().flatten().filter_map(of).for_each(|i| {
                variables.insert(i, true);
            });
        }
        for draft in &self.prologue {
            static_variables.extend(draft.reads.iter().flatten().filter_map(of));
        }
        static_variables.sort_unstable();
        static_variables.dedup();
        let graph = self.graph();
        let id = |i: &usize| graph.variables()[*i].0.id();
        let mut variables: Vec<(usize, bool)> = variables.into_iter().collect();
        variables.sort_by_key(|(i, _)| id(i));
        static_variables.sort_by_key(id);

        let order: Vec<usize> = variables.iter().map(|v| v.0).collect();
        let blocks = |order: &[usize]| Blocks {
            inputs: graph.inputs().len(),
            constants: graph.constants().len(),
            outputs: self.traced.outputs.len(),
            variables: order.iter().enumerate().map(|(at, i)| (*i, at)).collect(),
        };
        let main_blocks = blocks(&order);
        let prologue_blocks = blocks(&static_variables);
        let step = |draft: Draft, blocks: &Blocks| {
            let span = |loc: &Loc| match loc {
                None => Span { block: 0, start: 0, len: 0 },
                Some(i) => {
                    let piece = &self.pieces[*i];
                    let start = match piece.place {
                        Place::Arena => arena.offsets[i],
                        Place::Static => statics.offsets[i],
                        Place::Temporary => temporary.offsets[i],
                        _ => 0,
                    };
                    Span { block: blocks.index(piece.place), start, len: piece.bytes }
                }
            };
            let reads = draft.reads.iter().map(span).collect();
            let mut writes: Vec<Span> = draft.writes.iter().map(span).collect();
            writes.extend(draft.scratch.iter().map(|i| span(&Some(*i))));
            let views = Views::new(reads, writes).expect("the planner keeps a step's writes apart");
            Step { name: draft.kernel.name, run: draft.kernel.run, views, flops: draft.kernel.flops }
        };
        let drafts = std::mem::take(&mut self.drafts);
        let mut prologue = std::mem::take(&mut self.prologue);
        let flops: u64 = drafts.iter().map(|d| d.kernel.flops).sum();
        let whats: Vec<_> = prologue.iter_mut().map(|d| d.what.take()).collect();
        let prologue: Vec<Step> = prologue.into_iter().map(|d| step(d, &prologue_blocks)).collect();
        let static_step = |(step, what): (&Step, Option<(Op, u64)>)| StaticStep {
            what,
            reads: step.views.reads().to_vec(),
            writes: step.views.writes().to_vec(),
        };
        let static_steps = prologue.iter().zip(whats).map(static_step).collect();
        Plan {
            graph: graph.clone(),
            small: flops < SMALL && !variables.iter().any(|v| v.1),
            prologue,
            steps: drafts.into_iter().map(|d| step(d, &main_blocks)).collect(),
            arena_bytes: arena.bytes,
            static_bytes: statics.bytes,
            temporary_bytes: temporary.bytes,
            live_bytes: arena.peak,
            outputs: self.traced.outputs.iter().map(|v| graph.ty(*v).clone()).collect(),
            variables,
            layouts: FxHashMap::default(),
            static_variables,
            blocks: main_blocks,
            arenas: Mutex::new(vec![]),
            statics: Arc::new(Static { steps: static_steps, slot: Mutex::new(None) }),
            pieces: vec![],
            halves: None,
        }
    }
}

fn copy_kernel(name: &'static str) -> Kernel {
    let lowering = Lowering::kernel(name, 0, |call| {
        let from = call.input_bytes(0);
        call.outputs()[0].copy_from_slice(from);
    });
    match lowering {
        Lowering::Kernel(kernel) => kernel,
        Lowering::Alias => unreachable!("a copy is a step"),
    }
}

/// A variable larger than this is read where it lies.
const SNAPSHOT_BYTES: usize = 16 << 10;

/// Plans below this many operations run within microseconds.
const SMALL: u64 = 100_000;
