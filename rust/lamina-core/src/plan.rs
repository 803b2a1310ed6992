//! The plan: a graph at concrete shapes as a flat list of steps over one arena.
//!
//! Values that depend on no input and on no variable the plan updates (packed weights, folded batch
//! norms, constants) are *static*: computed by a prologue into a block of their own, and again only when a
//! variable they come from was assigned. Everything else lives in the arena, placed by lifetime.

mod layout;
mod planner;
mod run;

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::{Op, Run};
use crate::passes;
use crate::shape::Type;
use crate::variable::Variable;
use lamina_kernels::Isa;
use lamina_kernels::gemm::Packing;
use lamina_kernels::memory::{AlignedBytes, Span, Views};
use planner::Planner;
pub use run::{Results, StepTime};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex};

/// A traced computation: what it returns, and which variables it leaves changed.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// The nodes.
    pub graph: Graph,
    /// What a call returns.
    pub outputs: Vec<Value>,
    /// New values of variables, by their index in [`Graph::variables`].
    pub updates: Vec<(usize, Value)>,
}

impl Traced {
    /// Every value that must be computed.
    pub fn roots(&self) -> Vec<Value> {
        self.outputs.iter().copied().chain(self.updates.iter().map(|u| u.1)).collect()
    }

    /// The same computation over another graph, whose roots are given in the order of [`Traced::roots`].
    pub fn with_graph(&self, graph: Graph, roots: &[Value]) -> Traced {
        let (outputs, updates) = roots.split_at(self.outputs.len());
        let updates = self.updates.iter().zip(updates).map(|((i, _), v)| (*i, *v)).collect();
        Traced { graph, outputs: outputs.to_vec(), updates }
    }
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// In the arena, decided by lifetime.
    Arena,
    /// In the static block.
    Static,
    /// In memory that the prologue alone needs, gone when it is done.
    Temporary,
    /// The n-th call argument.
    Input(u32),
    /// The n-th constant.
    Constant(u32),
    /// The n-th variable.
    Variable(u32),
    /// The n-th result.
    Output(u32),
}

/// One kernel call.
struct Step {
    name: &'static str,
    run: Run,
    views: Views,
    flops: u64,
}

/// A plan, ready to run.
#[derive(Default)]
pub struct Plan {
    graph: Graph,
    prologue: Vec<Step>,
    steps: Vec<Step>,
    arena_bytes: usize,
    static_bytes: usize,
    /// What the prologue needs beside the static block while it runs.
    temporary_bytes: usize,
    live_bytes: usize,
    small: bool,
    outputs: Vec<Type>,
    /// Variables (by index) that the steps read or write, in locking order.
    variables: Vec<(usize, bool)>,
    /// How those of them lie that are not read row by row.
    layouts: FxHashMap<usize, Packing>,
    /// Variables that the prologue reads.
    static_variables: Vec<usize>,
    /// Where each block stands in a frame.
    blocks: Blocks,
    arenas: Mutex<Vec<AlignedBytes>>,
    /// What the prologue leaves. Plans of one function whose prologues are the same share it.
    statics: Arc<Static>,
    /// The batch in pieces, where that is how to run it.
    pieces: Vec<Part>,
    /// One plan after another, in place of steps of its own.
    halves: Option<Halves>,
}

/// Two plans, of which the second takes what the first returns.
struct Halves {
    plans: [Arc<Plan>; 2],
    /// Memory for that, when nobody uses it.
    between: Mutex<Vec<AlignedBytes>>,
}

/// Some rows of the batch, and the plan for so many.
struct Part {
    rows: usize,
    plan: Arc<Plan>,
}

/// A prologue's results, and what says that another prologue's are the same.
#[derive(Default)]
struct Static {
    steps: Vec<StaticStep>,
    slot: Mutex<Option<Arc<run::Statics>>>,
}

/// What a step of a prologue computes, and where.
#[derive(PartialEq)]
struct StaticStep {
    what: Option<(Op, u64)>,
    reads: Vec<Span>,
    writes: Vec<Span>,
}

/// Frame numbering: arena, static block, inputs, constants, outputs, then the plan's variables.
#[derive(Clone, Debug, Default)]
struct Blocks {
    inputs: usize,
    constants: usize,
    outputs: usize,
    variables: FxHashMap<usize, usize>,
}

impl Halves {
    /// Bytes of what the first returns.
    fn bytes(&self) -> usize {
        self.plans[0].outputs.iter().map(Type::bytes).sum()
    }
}

impl Blocks {
    const STATIC: u32 = 1;

    fn index(&self, place: Place) -> u32 {
        let index = match place {
            // The prologue's frame has its temporary memory where the main steps have the arena.
            Place::Arena | Place::Temporary => 0,
            Place::Static => return Self::STATIC,
            Place::Input(i) => 2 + i as usize,
            Place::Constant(i) => 2 + self.inputs + i as usize,
            Place::Output(i) => 2 + self.inputs + self.constants + i as usize,
            Place::Variable(i) => {
                2 + self.inputs + self.constants + self.outputs + self.variables[&(i as usize)]
            }
        };
        index as u32
    }
}

impl Plan {
    /// Specialises `traced` to `inputs` (concrete types), optimises it and lays it out.
    pub fn new(traced: &Traced, inputs: &[Type], isa: Isa) -> Result<Plan> {
        let traced = passes::specialise(traced, inputs)?;
        let traced = passes::optimise(traced)?;
        let (traced, layouts) = passes::panels::run(traced, isa)?;
        Ok(Plan { layouts, ..Planner::new(&traced, isa).plan() })
    }

    /// Runs the batch in pieces, by one plan for so many rows each.
    pub fn in_pieces(mut self, pieces: impl IntoIterator<Item = (usize, Arc<Plan>)>) -> Plan {
        self.pieces = pieces.into_iter().map(|(rows, plan)| Part { rows, plan }).collect();
        self
    }

    /// Runs two plans, the second on what the first returns.
    pub fn of_halves(plans: [Arc<Plan>; 2]) -> Plan {
        let outputs = plans[1].outputs.clone();
        Plan { outputs, halves: Some(Halves { plans, between: Mutex::new(vec![]) }), ..Plan::default() }
    }

    /// Keeps packed weights together with another plan of the same function, where they are the same.
    pub fn share(&mut self, other: &Plan) {
        let same = |(a, b): (&usize, &usize)| Arc::ptr_eq(self.held(*a), other.held(*b));
        let variables = self.static_variables.iter().zip(&other.static_variables).all(same)
            && self.static_variables.len() == other.static_variables.len();
        let constants = self.graph.constants().iter().zip(other.graph.constants());
        if variables
            && self.statics.steps == other.statics.steps
            && constants.into_iter().all(|(a, b)| a.same_buffer(b))
        {
            self.statics = other.statics.clone();
        }
    }

    /// Bytes of the arena: the peak of all intermediates, after sharing.
    pub fn arena_bytes(&self) -> usize {
        self.over_parts(&|plan| plan.arena_bytes, &|halves, arenas| halves.bytes() + arenas[0].max(arenas[1]))
    }

    /// The theoretical peak: the most bytes of intermediates alive at one step.
    pub fn live_bytes(&self) -> usize {
        self.over_parts(&|plan| plan.live_bytes, &|halves, live| halves.bytes() + live[0].max(live[1]))
    }

    /// Bytes of packed weights and other precomputed values.
    pub fn static_bytes(&self) -> usize {
        self.over_parts(&|plan| plan.static_bytes, &|_, [first, second]| first + second)
    }

    /// What `join` makes of the halves, the most of any piece, or this plan's own.
    fn over_parts(&self, of: &dyn Fn(&Plan) -> usize, join: &dyn Fn(&Halves, [usize; 2]) -> usize) -> usize {
        let pieces = self.pieces.iter().map(|piece| piece.plan.over_parts(of, join));
        pieces.max().unwrap_or_else(|| match &self.halves {
            Some(halves) => join(halves, halves.plans.each_ref().map(|plan| plan.over_parts(of, join))),
            None => of(self),
        })
    }

    /// Bytes that a run as a whole reads and writes, but for packed weights.
    pub fn moved_bytes(&self) -> usize {
        let moved = |spans: &[Span]| -> usize {
            spans.iter().filter(|s| s.block != Blocks::STATIC).map(|s| s.len).sum()
        };
        self.whole_steps().map(|s| moved(s.views.reads()) + moved(s.views.writes())).sum()
    }

    /// Its own steps, or those of its halves.
    fn whole_steps(&self) -> impl Iterator<Item = &Step> {
        let halves = self.halves.iter().flat_map(|halves| &halves.plans);
        self.steps.iter().chain(halves.flat_map(|plan| &plan.steps))
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.whole_steps().map(|s| s.flops).sum()
    }

    /// Whether a run takes a few microseconds and changes nothing: too short to hand the interpreter to others.
    pub fn is_small(&self) -> bool {
        self.small
    }

    /// Types of the results.
    pub fn outputs(&self) -> &[Type] {
        &self.outputs
    }

    /// One line a step: name, bytes read and written, operations.
    pub fn describe(&self) -> String {
        let line = |tag: &str, s: &Step| {
            let bytes = |spans: &[Span]| spans.iter().map(|s| s.len).sum::<usize>();
            format!(
                "{tag} {:<24} reads {:>10} B  writes {:>10} B  {:>14} flop\n",
                s.name,
                bytes(s.views.reads()),
                bytes(s.views.writes()),
                s.flops
            )
        };
        if let (Some(halves), true) = (&self.halves, self.pieces.is_empty()) {
            return halves.plans.iter().map(|plan| plan.describe()).collect();
        }
        if !self.pieces.is_empty() {
            let piece = |p: &Part| format!("rows {}\n{}", p.rows, p.plan.describe());
            let mut last = 0;
            let changes = self.pieces.iter().filter(|p| std::mem::replace(&mut last, p.rows) != p.rows);
            return changes.map(piece).collect();
        }
        self.prologue
            .iter()
            .map(|s| line("once", s))
            .chain(self.steps.iter().map(|s| line("step", s)))
            .collect()
    }
}

/// A variable that a plan holds.
type Held = Arc<Variable>;

impl Plan {
    fn held(&self, i: usize) -> &Held {
        &self.graph.variables()[i].0
    }
}
