//! A traced computation with its plans, one for each set of input shapes it has met.

use crate::error::{Error, Result};
use crate::passes::batch::rows_are_apart;
use crate::passes::halves::halves;
use crate::plan::{Plan, Results, Traced};
use crate::shape::{Type, show};
use crate::tensor::Tensor;
use lamina_kernels::Isa;
use std::sync::{Arc, Mutex, OnceLock};

/// How many plans a function keeps: enough for a few batch sizes and ragged last batches.
const PLANS: usize = 24;

/// The arena that a plan may have before its batch is cut: what the caches of a few cores hold together.
const PIECE_BYTES: usize = 4 << 20;

/// What pieces take at most for the sake of weights that are smaller.
const LARGE_PIECE_BYTES: usize = 32 << 20;

/// Plans by the types of their inputs.
type Plans = Vec<(Vec<Type>, Arc<Plan>)>;

/// A computation that can be called.
pub struct Function {
    traced: Traced,
    isa: Isa,
    /// Whether the rows of a batch do not know of one another.
    rows_apart: OnceLock<bool>,
    /// Two computations to run one after the other instead, where that is better.
    halves: OnceLock<Option<Box<[Function; 2]>>>,
    /// Most recently used first.
    plans: Mutex<Plans>,
}

impl Function {
    /// Takes a finished trace.
    pub fn new(traced: Traced) -> Function {
        Function::with_isa(traced, Isa::best())
    }

    /// As [`Function::new`], on a chosen instruction set.
    pub fn with_isa(traced: Traced, isa: Isa) -> Function {
        Function {
            traced,
            isa,
            rows_apart: OnceLock::new(),
            halves: OnceLock::new(),
            plans: Mutex::new(vec![]),
        }
    }

    /// The trace.
    pub fn traced(&self) -> &Traced {
        &self.traced
    }

    /// Runs on these operands: plans first, where these shapes are new.
    pub fn call(&self, inputs: &[Tensor]) -> Result<Results> {
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
        let mut plan = self.whole(types, &plans)?;
        let pieces = self.pieces(&plan, types, &mut plans)?;
        plan = plan.in_pieces(pieces);
        let plan = Arc::new(plan);
        plans.insert(0, (types.to_vec(), plan.clone()));
        plans.truncate(PLANS);
        Ok(plan)
    }

    fn whole(&self, types: &[Type], plans: &Plans) -> Result<Plan> {
        if let Some([first, second]) = self.halves()? {
            let first = first.plan(types)?;
            let second = second.plan(first.outputs())?;
            return Ok(Plan::of_halves([first, second]));
        }
        let mut plan = Plan::new(&self.traced, types, self.isa)?;
        plans.iter().for_each(|(_, known)| plan.share(known));
        Ok(plan)
    }

    fn rows_are_apart(&self) -> bool {
        *self.rows_apart.get_or_init(|| rows_are_apart(&self.traced))
    }

    /// Halves are not cut again.
    fn halves(&self) -> Result<Option<&[Function; 2]>> {
        if self.halves.get().is_none() {
            let traced = if self.rows_are_apart() { halves(&self.traced)? } else { None };
            let whole =
                |traced| Function { halves: OnceLock::from(None), ..Function::with_isa(traced, self.isa) };
            let _ = self.halves.set(traced.map(|halves| Box::new(halves.map(whole))));
        }
        Ok(self.halves.get().and_then(Option::as_deref))
    }

    /// How to cut the batch of a plan whose intermediates would not stay in the cache: into pieces as even as can be,
    /// by two plans at most. None where it is not to be cut, or its rows know of one another.
    fn pieces(&self, plan: &Plan, types: &[Type], plans: &mut Plans) -> Result<Vec<(usize, Arc<Plan>)>> {
        let batch = types.first().and_then(|ty| ty.dims.first().copied().flatten()).unwrap_or(1);
        // Every piece reads the weights again: large weights want large pieces, unless all else is larger by far.
        let weights = plan.static_bytes();
        let large = PIECE_BYTES.max(LARGE_PIECE_BYTES.min(2 * weights)).max(weights / 4);
        let piece_bytes = if plan.moved_bytes() / batch.max(1) > 2 * weights { PIECE_BYTES } else { large };
        let count = plan.arena_bytes().div_ceil(piece_bytes).min(batch);
        // One plan for all pieces, and whole tiles of rows in each, where that takes few pieces more.
        let even = (count..=count + count / 4).find(|count| batch.is_multiple_of(16 * count));
        let count = even.unwrap_or(count);
        let one_batch = types.iter().all(|ty| ty.dims.first() == Some(&Some(batch)));
        if count <= 1 || !one_batch || !self.rows_are_apart() {
            return Ok(vec![]);
        }
        let mut part = |rows: usize| {
            let mut types = types.to_vec();
            types.iter_mut().for_each(|ty| ty.dims[0] = Some(rows));
            if let Some((_, plan)) = plans.iter().find(|(known, _)| *known == types) {
                return Ok(plan.clone());
            }
            let plan = Arc::new(self.whole(&types, plans)?);
            plans.insert(0, (types, plan.clone()));
            Ok::<_, Error>(plan)
        };
        let (rows, more) = (batch / count, batch % count);
        let mut pieces = vec![(rows, part(rows)?); count - more];
        if more > 0 {
            pieces.extend(vec![(rows + 1, part(rows + 1)?); more]);
        }
        Ok(pieces)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;
    use crate::ops::gather::Gather;
    use crate::ops::matmul::MatMul;
    use crate::ops::reduce::{Kind, Reduce};
    use crate::variable::Variable;
    use smallvec::smallvec;

    const WIDE: usize = 512;

    /// Rows of ids to rows of sums over a wide intermediate, which the cache cannot hold for many rows.
    fn wide(mixes_rows: bool) -> Function {
        let mut graph = Graph::new();
        let ids = graph.input(Type::new(DType::I32, [None, Some(4)]));
        let table: Vec<f32> = (0..8 * WIDE).map(|i| (i % 7) as f32 - 3.0).collect();
        let table = Arc::new(Variable::new(Tensor::from_slice(&[8, WIDE], &table)));
        let table = graph.variable(&table);
        let weights: Vec<f32> = (0..WIDE * WIDE).map(|i| (i % 5) as f32 - 2.0).collect();
        let weights = graph.constant(Tensor::from_slice(&[WIDE, WIDE], &weights));
        let found = graph.add(Gather { axis: 0 }, &[table, ids]).unwrap();
        let wide = graph.add(MatMul::new(false, false), &[found, weights]).unwrap();
        let sum = |axes: &[usize]| Reduce { kind: Kind::Sum, axes: axes.into(), keepdims: true };
        let mut y = graph.add(sum(&[2]), &[wide]).unwrap();
        if mixes_rows {
            let total = graph.add(Reduce { axes: smallvec![0], ..sum(&[]) }, &[y]).unwrap();
            y = graph.sum(y, total).unwrap();
        }
        Function::new(Traced { graph, outputs: vec![y], updates: vec![] })
    }

    fn ids(rows: usize) -> Vec<i32> {
        (0..4 * rows).map(|i| (i * 5 % 8) as i32).collect()
    }

    #[test]
    fn a_large_batch_runs_in_pieces_with_the_same_results() {
        let function = wide(false);
        let all = Tensor::from_slice(&[1001, 4], &ids(1001));
        let y = function.call(std::slice::from_ref(&all)).unwrap()[0].to_f64();
        let plan = function.plan_for(&[all]).unwrap();
        assert!(plan.arena_bytes() < 2 * PIECE_BYTES && plan.describe().contains("rows "));
        for (i, row) in ids(1001).chunks_exact(4).enumerate().step_by(97) {
            let one = function.call(&[Tensor::from_slice(&[1, 4], row)]).unwrap()[0].to_f64();
            assert_eq!(one, y[4 * i..4 * i + 4], "row {i}");
        }
    }

    #[test]
    fn an_error_in_a_piece_names_the_place_in_the_whole_batch() {
        let mut bad = ids(1001);
        bad[4003] = 8;
        let error = wide(false).call(&[Tensor::from_slice(&[1001, 4], &bad)]).unwrap_err().to_string();
        assert!(error.contains("4003") || error.contains("(1000, 3)"), "{error}");
    }

    #[test]
    fn rows_that_know_of_one_another_stay_together() {
        let function = wide(true);
        let all = Tensor::from_slice(&[1001, 4], &ids(1001));
        assert!(!function.plan_for(&[all]).unwrap().describe().contains("rows "));
    }
}
