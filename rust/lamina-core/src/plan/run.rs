//! Running a plan: lock the variables, borrow an arena, walk the steps.

use super::{Blocks, Halves, Plan, Step};
use crate::error::{Error, Result};
use crate::ops::Call;
use crate::tensor::{Buffer, Tensor};
use crate::variable::{Stored, Variable};
use lamina_kernels::denormals::FlushDenormals;
use lamina_kernels::memory::{AlignedBytes, Block, Frame, Span};
use lamina_kernels::threads;
use smallvec::SmallVec;
use std::sync::{Arc, Mutex, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

/// What one step of a plan did, and how long it took.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The kernel.
    pub name: &'static str,
    /// Bytes it reads.
    pub reads: usize,
    /// Bytes it writes, scratch memory among them.
    pub writes: usize,
    /// Floating-point operations.
    pub flops: u64,
    /// The least time of all rounds.
    pub seconds: f64,
}

/// The prologue's results, and the state of the variables they come from.
pub struct Statics {
    bytes: AlignedBytes,
    /// [`Variable::assignments`] when this was last known to be current.
    assignments: u64,
    versions: Vec<u64>,
}

/// What a run gives back. Most models have one result: no list is allocated for it.
pub type Results = SmallVec<[Tensor; 2]>;

/// How the steps are run: as they are, or one by one beside a clock.
type Walk<'a> = dyn FnMut(&[Step], &mut Frame<'_>) -> Result<()> + 'a;

enum Guard<'a> {
    Read(RwLockReadGuard<'a, Stored>),
    Write(RwLockWriteGuard<'a, Stored>),
}

impl Plan {
    /// Runs the plan on operands of exactly the types it was made for.
    ///
    /// Variables change only here, and only as a whole: an error leaves the step's updates undone.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Results> {
        self.run_by(inputs, &mut walk)
    }

    /// Runs the plan `rounds` times and times every step, of each piece of the batch: the least seconds of each.
    pub fn profile(&self, inputs: &[Tensor], rounds: usize) -> Result<Vec<StepTime>> {
        let bytes = |spans: &[Span]| spans.iter().map(|s| s.len).sum::<usize>();
        let mut times: Vec<StepTime> = vec![];
        for round in 0..rounds {
            let mut at = 0;
            self.run_by(inputs, &mut |steps, frame| {
                for step in steps {
                    let start = Instant::now();
                    walk(std::slice::from_ref(step), frame)?;
                    let seconds = start.elapsed().as_secs_f64();
                    if round == 0 {
                        let (reads, writes) = (bytes(step.views.reads()), bytes(step.views.writes()));
                        times.push(StepTime { name: step.name, reads, writes, flops: step.flops, seconds });
                    }
                    times[at].seconds = times[at].seconds.min(seconds);
                    at += 1;
                }
                Ok(())
            })?;
        }
        Ok(times)
    }

    fn run_by(&self, inputs: &[Tensor], walk: &mut Walk<'_>) -> Result<Results> {
        let mut buffers: SmallVec<[AlignedBytes; 2]> =
            self.outputs.iter().map(|ty| Self::result(ty.bytes())).collect::<Result<_>>()?;
        {
            let ins: SmallVec<[&[u8]; 4]> = inputs.iter().map(Tensor::bytes).collect();
            let mut outs: SmallVec<[&mut [u8]; 4]> = buffers.iter_mut().map(|b| &mut b[..]).collect();
            self.run_parts(&ins, &mut outs, walk)?;
        }
        let outputs = self.outputs.iter().zip(buffers);
        Ok(outputs.map(|(ty, b)| Tensor::new(ty.dtype, &ty.concrete(), Buffer::Owned(b))).collect())
    }

    /// Room for a result, all of which the steps write.
    fn result(bytes: usize) -> Result<AlignedBytes> {
        AlignedBytes::try_any(bytes).ok_or(Error::Memory { what: "results", bytes })
    }

    /// As pieces, as halves, or as a whole.
    fn run_parts(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], walk: &mut Walk<'_>) -> Result<()> {
        if !self.pieces.is_empty() {
            match self.run_pieces(inputs, outputs, &mut *walk) {
                // Memory for a piece was too much already.
                Err(error @ Error::Memory { .. }) => return Err(error),
                Ok(()) => return Ok(()),
                // Other errors name places, which the whole finds in the whole batch.
                Err(_) => {}
            }
        }
        match &self.halves {
            Some(halves) => halves.run(inputs, outputs, walk),
            None => self.run_into(inputs, outputs, walk),
        }
    }

    /// Piece after piece of the batch, each with its part of every operand and every result.
    fn run_pieces(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], walk: &mut Walk<'_>) -> Result<()> {
        let batch = self.pieces.iter().map(|p| p.rows).sum::<usize>();
        let mut first = 0;
        for piece in &self.pieces {
            let part = |len: usize| len / batch * first..len / batch * (first + piece.rows);
            let ins: SmallVec<[&[u8]; 4]> = inputs.iter().map(|b| &b[part(b.len())]).collect();
            let mut outs: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
            for output in outputs.iter_mut() {
                let range = part(output.len());
                outs.push(&mut output[range]);
            }
            piece.plan.run_parts(&ins, &mut outs, walk)?;
            first += piece.rows;
        }
        Ok(())
    }

    fn run_into(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], walk: &mut Walk<'_>) -> Result<()> {
        let _flush = FlushDenormals::start();
        threads::hold(|| self.run_held(inputs, outputs, walk))
    }

    fn run_held(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], walk: &mut Walk<'_>) -> Result<()> {
        let statics = self.statics()?;
        let mut arena = take(&self.arenas, self.arena_bytes)?;
        let mut guards: Vec<Guard<'_>> = self
            .variables
            .iter()
            .map(|&(i, written)| {
                let (variable, layout) = (self.held(i), self.layouts.get(&i).copied());
                if written {
                    Guard::Write(variable.write(layout))
                } else {
                    Guard::Read(variable.read(layout))
                }
            })
            .collect();
        let result = {
            let mut frame = Frame::default();
            frame.push(Block::Mut(&mut arena));
            frame.push(Block::Shared(statics.as_ref().map_or(&[], |s| &s.bytes)));
            inputs.iter().for_each(|bytes| frame.push(Block::Shared(bytes)));
            self.graph.constants().iter().for_each(|t| frame.push(Block::Shared(t.bytes())));
            outputs.iter_mut().for_each(|b| frame.push(Block::Mut(b)));
            for guard in &mut guards {
                frame.push(match guard {
                    Guard::Read(value) => Block::Shared(value.bytes()),
                    Guard::Write(value) => Block::Mut(value.bytes_mut()),
                });
            }
            walk(&self.steps, &mut frame)
        };
        drop(guards);
        self.variables.iter().filter(|v| v.1).for_each(|v| self.held(v.0).touch());
        give(&self.arenas, arena);
        result
    }

    /// The static block, computed again where a variable behind it was assigned.
    fn statics(&self) -> Result<Option<Arc<Statics>>> {
        if self.prologue.is_empty() {
            return Ok(None);
        }
        let mut slot = self.statics.slot.lock().unwrap_or_else(|p| p.into_inner());
        let assignments = Variable::assignments();
        if let Some(current) = slot.as_mut() {
            if current.assignments == assignments {
                return Ok(Some(current.clone()));
            }
            let unchanged = self
                .static_variables
                .iter()
                .zip(&current.versions)
                .all(|(i, v)| self.held(*i).version() == *v);
            if unchanged {
                if let Some(unique) = Arc::get_mut(current) {
                    unique.assignments = assignments;
                }
                return Ok(Some(current.clone()));
            }
        }
        let guards: Vec<_> = self.static_variables.iter().map(|i| self.held(*i).read(None)).collect();
        let versions = self.static_variables.iter().map(|i| self.held(*i).version()).collect();
        let mut bytes = allocate("packed weights", self.static_bytes)?;
        let mut temporary = allocate("weights on the way to their packed form", self.temporary_bytes)?;
        {
            let Blocks { inputs, outputs, .. } = self.blocks;
            let mut frame = Frame::default();
            frame.push(Block::Mut(&mut temporary));
            frame.push(Block::Mut(&mut bytes));
            (0..inputs).for_each(|_| frame.push(Block::Shared(&[])));
            self.graph.constants().iter().for_each(|t| frame.push(Block::Shared(t.bytes())));
            (0..outputs).for_each(|_| frame.push(Block::Shared(&[])));
            guards.iter().for_each(|t| frame.push(Block::Shared(t.bytes())));
            walk(&self.prologue, &mut frame)?;
        }
        let fresh = Arc::new(Statics { bytes, assignments, versions });
        *slot = Some(fresh.clone());
        Ok(Some(fresh))
    }
}

impl Halves {
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], walk: &mut Walk<'_>) -> Result<()> {
        let [first, second] = &self.plans;
        let mut between = take(&self.between, self.bytes())?;
        let done = first
            .run_parts(inputs, &mut [&mut between[..]], &mut *walk)
            .and_then(|()| second.run_parts(&[&between[..]], outputs, walk));
        give(&self.between, between);
        done
    }
}

/// Memory of so many bytes that an earlier run has given back, or new.
fn take(pool: &Mutex<Vec<AlignedBytes>>, bytes: usize) -> Result<AlignedBytes> {
    let pooled = pool.lock().unwrap_or_else(|p| p.into_inner()).pop();
    pooled.map_or_else(|| allocate("intermediate values", bytes), Ok)
}

fn give(pool: &Mutex<Vec<AlignedBytes>>, memory: AlignedBytes) {
    pool.lock().unwrap_or_else(|p| p.into_inner()).push(memory);
}

fn walk(steps: &[Step], frame: &mut Frame<'_>) -> Result<()> {
    for step in steps {
        frame.with(&step.views, |reads, writes| {
            let mut call = Call::new(reads, writes);
            (step.run)(&mut call);
            call.finish()
        })?;
    }
    Ok(())
}

fn allocate(what: &'static str, bytes: usize) -> Result<AlignedBytes> {
    AlignedBytes::try_lasting(bytes).ok_or(Error::Memory { what, bytes })
}
