//! A traced computation with its plans, one for each set of input shapes it has met.

use crate::error::{Error, Result};
use crate::plan::{Plan, Traced};
use crate::shape::{Type, show};
use crate::tensor::Tensor;
use lamina_kernels::Isa;
use std::sync::{Arc, Mutex};

/// How many plans a function keeps: enough for a few batch sizes and ragged last batches.
const PLANS: usize = 24;

/// A computation that can be called.
pub struct Function {
    traced: Traced,
    isa: Isa,
    /// Most recently used first.
    plans: Mutex<Vec<(Vec<Type>, Arc<Plan>)>>,
}

impl Function {
    /// Takes a finished trace.
    pub fn new(traced: Traced) -> Function {
        Function::with_isa(traced, Isa::best())
    }

    /// As [`Function::new`], on a chosen instruction set.
    pub fn with_isa(traced: Traced, isa: Isa) -> Function {
        Function { traced, isa, plans: Mutex::new(vec![]) }
    }

    /// The trace.
    pub fn traced(&self) -> &Traced {
        &self.traced
    }

    /// Runs on these operands: plans first, where these shapes are new.
    pub fn call(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.plan_for(inputs)?.run(inputs)
    }

    /// The plan for these operands' shapes, made now where they are new.
    pub fn plan_for(&self, inputs: &[Tensor]) -> Result<Arc<Plan>> {
        let fits = |types: &[Type]| {
            types.len() == inputs.len()
                && types.iter().zip(inputs).all(|(ty, t)| {
                    ty.dtype == t.dtype()
                        && ty.dims.len() == t.shape().len()
                        && ty.dims.iter().zip(t.shape()).all(|(d, n)| *d == Some(*n))
                })
        };
        {
            let mut plans = self.plans.lock().unwrap_or_else(|p| p.into_inner());
            if let Some(at) = plans.iter().position(|(types, _)| fits(types)) {
                plans[..=at].rotate_right(1);
                return Ok(plans[0].1.clone());
            }
        }
        let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
        self.plan(&types)
    }

    /// The plan for concrete input types.
    pub fn plan(&self, types: &[Type]) -> Result<Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(|p| p.into_inner());
        if let Some((_, plan)) = plans.iter().find(|(known, _)| known == types) {
            return Ok(plan.clone());
        }
        self.check(types)?;
        let plan = Arc::new(Plan::new(&self.traced, types, self.isa)?);
        plans.insert(0, (types.to_vec(), plan.clone()));
        plans.truncate(PLANS);
        Ok(plan)
    }

    fn check(&self, types: &[Type]) -> Result<()> {
        let graph = &self.traced.graph;
        if types.len() != graph.inputs().len() {
            let message = format!("expected {} inputs, got {}", graph.inputs().len(), types.len());
            return Err(Error::Value(message));
        }
        for (i, (given, v)) in types.iter().zip(graph.inputs()).enumerate() {
            let wanted = graph.ty(*v);
            let fits = given.rank() == wanted.rank()
                && given.dims.iter().zip(&wanted.dims).all(|(g, w)| w.is_none() || g == w);
            if !fits || given.dtype != wanted.dtype {
                return Err(Error::Value(format!(
                    "input {i}: expected {} {}, got {} {}",
                    wanted.dtype,
                    show(&wanted.dims),
                    given.dtype,
                    show(&given.dims)
                )));
            }
        }
        Ok(())
    }
}
