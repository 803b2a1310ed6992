//! Running one op now: a plan of a single node, kept for the next time.

use crate::error::Result;
use crate::graph::Graph;
use crate::ops::Op;
use crate::plan::{Plan, Results, Traced};
use crate::shape::Type;
use crate::tensor::Tensor;
use lamina_kernels::Isa;
use rustc_hash::FxHashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// How many single-op plans are kept.
const PLANS: usize = 1024;

type Key = (Op, Vec<Type>);

static CACHE: LazyLock<Mutex<FxHashMap<Key, Arc<Plan>>>> = LazyLock::new(Mutex::default);

/// The results of `op` on these operands, computed now.
pub fn run(op: &Op, inputs: &[Tensor]) -> Result<Results> {
    let key = (op.clone(), inputs.iter().map(Tensor::ty).collect::<Vec<_>>());
    let cached = CACHE.lock().unwrap_or_else(|p| p.into_inner()).get(&key).cloned();
    let plan = match cached {
        Some(plan) => plan,
        None => {
            let plan = Arc::new(Plan::new(&single(op, &key.1)?, &key.1, Isa::best())?);
            let mut cache = CACHE.lock().unwrap_or_else(|p| p.into_inner());
            if cache.len() >= PLANS {
                cache.clear();
            }
            cache.insert(key, plan.clone());
            plan
        }
    };
    plan.run(inputs)
}

/// A graph of one node.
pub fn single(op: &Op, inputs: &[Type]) -> Result<Traced> {
    let mut graph = Graph::new();
    let operands: Vec<_> = inputs.iter().map(|ty| graph.input(ty.clone())).collect();
    let outputs = graph.add_all(op.clone(), &operands)?.to_vec();
    Ok(Traced { graph, outputs, updates: vec![] })
}
