//! Running a plan: lock the variables, borrow an arena, walk the steps.

use super::{Blocks, Plan, Step};
use crate::error::Result;
use crate::ops::Call;
use crate::tensor::{Buffer, Tensor};
use crate::variable::Variable;
use lamina_kernels::denormals::FlushDenormals;
use lamina_kernels::memory::{AlignedBytes, Block, Frame, Span};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

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

enum Guard<'a> {
    Read(RwLockReadGuard<'a, Tensor>),
    Write(RwLockWriteGuard<'a, Tensor>),
}

impl Plan {
    /// Runs the plan on operands of exactly the types it was made for.
    ///
    /// Variables change only here, and only as a whole: an error leaves the step's updates undone.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_by(inputs, |frame| walk(&self.steps, frame))
    }

    /// Runs the plan `rounds` times and times every step: the least seconds of each.
    pub fn profile(&self, inputs: &[Tensor], rounds: usize) -> Result<Vec<StepTime>> {
        let mut least = vec![Duration::MAX; self.steps.len()];
        for _ in 0..rounds {
            self.run_by(inputs, |frame| {
                for (step, least) in self.steps.iter().zip(&mut least) {
                    let start = Instant::now();
                    walk(std::slice::from_ref(step), frame)?;
                    *least = start.elapsed().min(*least);
                }
                Ok(())
            })?;
        }
        let bytes = |spans: &[Span]| spans.iter().map(|s| s.len).sum::<usize>();
        let times = self.steps.iter().zip(least).map(|(step, least)| StepTime {
            name: step.name,
            reads: bytes(step.views.reads()),
            writes: bytes(step.views.writes()),
            flops: step.flops,
            seconds: least.as_secs_f64(),
        });
        Ok(times.collect())
    }

    fn run_by(
        &self,
        inputs: &[Tensor],
        walk: impl FnOnce(&mut Frame<'_>) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let _flush = FlushDenormals::start();
        let statics = self.statics()?;
        let mut buffers: Vec<AlignedBytes> =
            self.outputs.iter().map(|ty| AlignedBytes::zeroed(ty.bytes())).collect();
        let mut arena = self.take_arena();
        let mut guards: Vec<Guard<'_>> = self
            .variables
            .iter()
            .map(|&(i, written)| {
                let variable = self.held(i);
                if written { Guard::Write(variable.write()) } else { Guard::Read(variable.read()) }
            })
            .collect();
        let result = {
            let mut frame = Frame::with_capacity(2 + inputs.len() + buffers.len() + guards.len());
            frame.push(Block::Mut(&mut arena));
            frame.push(Block::Shared(statics.as_ref().map_or(&[], |s| &s.bytes)));
            inputs.iter().for_each(|t| frame.push(Block::Shared(t.bytes())));
            self.graph.constants().iter().for_each(|t| frame.push(Block::Shared(t.bytes())));
            buffers.iter_mut().for_each(|b| frame.push(Block::Mut(b)));
            for guard in &mut guards {
                frame.push(match guard {
                    Guard::Read(tensor) => Block::Shared(tensor.bytes()),
                    Guard::Write(tensor) => Block::Mut(tensor.bytes_mut()),
                });
            }
            walk(&mut frame)
        };
        drop(guards);
        self.variables.iter().filter(|v| v.1).for_each(|v| self.held(v.0).touch());
        self.give_arena(arena);
        result?;
        let outputs = self.outputs.iter().zip(buffers);
        Ok(outputs.map(|(ty, b)| Tensor::new(ty.dtype, &ty.concrete(), Buffer::Owned(b))).collect())
    }

    fn take_arena(&self) -> AlignedBytes {
        let pooled = self.arenas.lock().unwrap_or_else(|p| p.into_inner()).pop();
        pooled.unwrap_or_else(|| AlignedBytes::zeroed(self.arena_bytes))
    }

    fn give_arena(&self, arena: AlignedBytes) {
        self.arenas.lock().unwrap_or_else(|p| p.into_inner()).push(arena);
    }

    /// The static block, computed again where a variable behind it was assigned.
    fn statics(&self) -> Result<Option<Arc<Statics>>> {
        if self.prologue.is_empty() {
            return Ok(None);
        }
        let mut slot = self.statics.lock().unwrap_or_else(|p| p.into_inner());
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
        let guards: Vec<_> = self.static_variables.iter().map(|i| self.held(*i).read()).collect();
        let versions = self.static_variables.iter().map(|i| self.held(*i).version()).collect();
        let mut bytes = AlignedBytes::zeroed(self.static_bytes);
        let mut temporary = AlignedBytes::zeroed(self.temporary_bytes);
        {
            let Blocks { inputs, outputs, .. } = self.blocks;
            let mut frame = Frame::with_capacity(2 + inputs + outputs + guards.len());
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
