//! One suite over the whole table: shape rule, kernels on every instruction set, gradients, threads, names.

use super::*;
use crate::autodiff::gradients;
use crate::eager::single;
use crate::function::Function;
use crate::plan::Traced;
use lamina_kernels::threads;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// The thread count is one for the whole process: tests that set it take turns.
static THREADS: Mutex<()> = Mutex::new(());

fn call(op: &Op, inputs: &[Tensor], isa: Isa) -> crate::plan::Results {
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let traced = single(op, &types).unwrap_or_else(|e| panic!("{e}"));
    Function::with_isa(traced, isa).call(inputs).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs `check` on every problem and reports all that fail, by name.
fn for_all(check: impl Fn(&Problem)) {
    let mut failures = vec![];
    for (entry, problems) in Op::table() {
        assert!(!problems.is_empty(), "{entry} has no test problem");
        for problem in problems {
            if let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(&problem))) {
                let text = cause.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| cause.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
                failures.push(format!("{entry} / {}: {text}", problem.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn kernels_match_their_reference_on_every_isa_and_shapes_match_the_rule() {
    for isa in Isa::available() {
        for_all(|p| {
            let types: Vec<Type> = p.inputs.iter().map(Tensor::ty).collect();
            let refs: Vec<&Type> = types.iter().collect();
            let inferred = match &p.op {
                Op::Source(_) => None,
                op => Some(op.infer(&refs).unwrap_or_else(|e| panic!("{e}"))),
            };
            let outputs = call(&p.op, &p.inputs, isa);
            if let Some(inferred) = inferred {
                let actual: Vec<Type> = outputs.iter().map(Tensor::ty).collect();
                assert_eq!(
                    inferred.as_slice(),
                    actual.as_slice(),
                    "{}: inferred and actual types",
                    isa.name()
                );
            }
            (p.check)(&p.inputs, &outputs);
        });
    }
}

#[test]
fn shape_rules_hold_over_an_unknown_first_axis() {
    for_all(|p| {
        if matches!(p.op, Op::Source(_) | Op::Fused(_)) {
            return;
        }
        let blurred: Vec<Type> = p
            .inputs
            .iter()
            .enumerate()
            .map(|(i, t)| {
                let mut ty = t.ty();
                if let (0, Some(first)) = (i, ty.dims.first_mut()) {
                    *first = None;
                }
                ty
            })
            .collect();
        let known =
            p.op.infer(&p.inputs.iter().map(|t| t.ty()).collect::<Vec<_>>().iter().collect::<Vec<_>>());
        let unknown = p.op.infer(&blurred.iter().collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
        for (k, u) in known.unwrap_or_else(|e| panic!("{e}")).iter().zip(&unknown) {
            assert_eq!(k.rank(), u.rank());
            assert!(k.dims.iter().zip(&u.dims).all(|(k, u)| u.is_none() || k == u), "{k:?} beside {u:?}");
        }
    });
}

/// Rows `range` of a tensor.
fn rows(t: &Tensor, range: std::ops::Range<usize>) -> Tensor {
    let unit = t.bytes().len() / t.shape()[0];
    let mut shape: Shape = t.shape().into();
    shape[0] = range.len();
    let mut part = Tensor::zeros(t.dtype(), &shape);
    part.bytes_mut().copy_from_slice(&t.bytes()[unit * range.start..unit * range.end]);
    part
}

#[test]
fn an_op_that_keeps_rows_can_run_them_apart() {
    let checked = std::sync::atomic::AtomicUsize::new(0);
    for_all(|p| {
        if matches!(p.op, Op::Source(_) | Op::Fused(_)) {
            return;
        }
        let whole = call(&p.op, &p.inputs, Isa::best());
        let n = whole[0].shape().first().copied().unwrap_or(0);
        let has_rows = |t: &Tensor| t.shape().first() == Some(&n);
        let candidates: Vec<usize> = (0..p.inputs.len()).filter(|&i| has_rows(&p.inputs[i])).collect();
        if n < 2 || !whole.iter().all(has_rows) {
            return;
        }
        // Every choice of the operands that may have rows.
        for choice in 1..1u32 << candidates.len() {
            let marks: Vec<bool> = (0..p.inputs.len())
                .map(|i| candidates.iter().position(|&c| c == i).is_some_and(|at| choice >> at & 1 == 1))
                .collect();
            let blurred = |t: &Tensor, rows: bool| {
                let mut ty = t.ty();
                if rows {
                    ty.dims[0] = None;
                }
                ty
            };
            let types: Vec<Type> = p.inputs.iter().zip(&marks).map(|(t, &m)| blurred(t, m)).collect();
            let outputs: Vec<Type> = whole.iter().map(|t| blurred(t, true)).collect();
            if !p.op.keeps_rows(&marks, &types.iter().collect::<Vec<_>>(), &outputs) {
                continue;
            }
            checked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut parts: Vec<Vec<f64>> = vec![vec![]; whole.len()];
            for range in [0..1, 1..n] {
                let cut = |(t, &rows_on): (&Tensor, &bool)| {
                    if rows_on { rows(t, range.clone()) } else { t.clone() }
                };
                let inputs: Vec<Tensor> = p.inputs.iter().zip(&marks).map(cut).collect();
                for (all, part) in parts.iter_mut().zip(call(&p.op, &inputs, Isa::best())) {
                    all.extend(part.to_f64());
                }
            }
            for (all, whole) in parts.iter().zip(&whole) {
                let close = |(a, b): (&f64, &f64)| {
                    (a - b).abs() <= 1e-5 * (1.0 + b.abs()) || a.to_bits() == b.to_bits()
                };
                assert!(all.iter().zip(&whole.to_f64()).all(close), "marked {marks:?}");
            }
        }
    });
    assert!(checked.into_inner() > 100, "few ops keep rows");
}

#[test]
fn results_have_the_same_bits_at_any_thread_count() {
    let _turn = THREADS.lock().unwrap_or_else(|p| p.into_inner());
    for_all(|p| {
        let run = |n| {
            threads::set_num_threads(n);
            call(&p.op, &p.inputs, Isa::best()).iter().map(|t| t.bytes().to_vec()).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(4), "other bits with more threads");
    });
    threads::set_num_threads(0);
}

/// A scalar function of the problem's outputs: their sum, weighted by fixed numbers.
fn weighted(graph: &mut Graph, outputs: &[Value]) -> Value {
    let mut total: Option<Value> = None;
    for (i, &v) in
        outputs.iter().enumerate().filter(|(_, v)| graph.ty(**v).dtype.is_float()).collect::<Vec<_>>()
    {
        let ty = graph.ty(v).clone();
        let weights = graph.constant(sample(ty.dtype, &ty.concrete(), 77 + i as u64));
        let product = graph.mul(v, weights).expect("same shapes");
        let sum = reduce::Reduce { kind: reduce::Kind::Sum, axes: (0..ty.rank()).collect(), keepdims: false };
        let sum = graph.add(sum, &[product]).expect("a sum");
        total = Some(match total {
            Some(t) => graph.sum(t, sum).expect("two numbers"),
            None => sum,
        });
    }
    total.expect("a float output")
}

/// The problem's weighted sum as a function of its operands, all in float64.
fn in_f64(p: &Problem) -> (Vec<Tensor>, Traced) {
    let inputs: Vec<Tensor> =
        p.inputs.iter().map(|t| if t.dtype().is_float() { t.cast(DType::F64) } else { t.clone() }).collect();
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let mut traced = single(&p.op, &types).unwrap_or_else(|e| panic!("{e}"));
    let total = weighted(&mut traced.graph, &traced.outputs);
    traced.outputs = vec![total];
    (inputs, traced)
}

#[test]
fn gradients_match_finite_differences() {
    for_all(|p| {
        if p.differentiate.is_empty() || p.inputs.iter().any(Tensor::is_empty) {
            return;
        }
        let (inputs, mut traced) = in_f64(p);
        let plain = Function::new(traced.clone());
        let sources: Vec<Value> = p.differentiate.iter().map(|&i| traced.graph.inputs()[i]).collect();
        let found =
            gradients(&mut traced.graph, traced.outputs[0], &sources, None).unwrap_or_else(|e| panic!("{e}"));
        traced.outputs = found.into_iter().map(|g| g.expect("a gradient")).collect();
        let analytic = Function::new(traced).call(&inputs).unwrap_or_else(|e| panic!("{e}"));
        for (k, &operand) in p.differentiate.iter().enumerate() {
            let exact = analytic[k].to_f64();
            assert_eq!(analytic[k].shape(), inputs[operand].shape(), "gradient shape of operand {operand}");
            let n = exact.len();
            for i in (0..n).step_by(n.div_ceil(24)) {
                let at = |delta: f64| {
                    let mut moved = inputs.clone();
                    moved[operand].elements_mut::<f64>()[i] += delta;
                    plain.call(&moved).unwrap_or_else(|e| panic!("{e}"))[0].to_f64()[0]
                };
                let h = 1e-5;
                let numeric = (at(h) - at(-h)) / (2.0 * h);
                let error = (numeric - exact[i]).abs();
                assert!(
                    error <= 2e-5 * (1.0 + numeric.abs()),
                    "operand {operand}, element {i}: {} where differences give {numeric}",
                    exact[i]
                );
            }
        }
    });
}

#[test]
fn float32_gradients_match_float64_on_every_isa() {
    for isa in Isa::available() {
        for_all(|p| {
            let all_f32 = p.differentiate.iter().all(|&i| p.inputs[i].dtype() == DType::F32);
            if p.differentiate.is_empty() || !all_f32 {
                return;
            }
            let run = |cast: bool| {
                let (inputs, mut traced) = if cast {
                    in_f64(p)
                } else {
                    let types: Vec<Type> = p.inputs.iter().map(Tensor::ty).collect();
                    let mut traced = single(&p.op, &types).unwrap_or_else(|e| panic!("{e}"));
                    let total = weighted(&mut traced.graph, &traced.outputs);
                    traced.outputs = vec![total];
                    (p.inputs.clone(), traced)
                };
                let sources: Vec<Value> = p.differentiate.iter().map(|&i| traced.graph.inputs()[i]).collect();
                let found =
                    gradients(&mut traced.graph, traced.outputs[0], &sources, None).expect("differentiable");
                traced.outputs = found.into_iter().map(|g| g.expect("a gradient")).collect();
                Function::with_isa(traced, isa).call(&inputs).unwrap_or_else(|e| panic!("{e}"))
            };
            for (single, double) in run(false).iter().zip(run(true)) {
                let scale = double.to_f64().iter().fold(0f64, |m, x| m.max(x.abs()));
                let got: Vec<f64> = single.to_f64().iter().map(|x| x / (1.0 + scale)).collect();
                let expected: Vec<f64> = double.to_f64().iter().map(|x| x / (1.0 + scale)).collect();
                assert_close(&got, &expected, 2e-5);
            }
        });
    }
}

#[test]
fn gradients_over_an_unknown_batch_equal_those_at_the_known_shape() {
    for_all(|p| {
        let batched = |t: &Tensor| t.shape().first().is_some_and(|n| *n > 1);
        if p.differentiate.first() != Some(&0) || !batched(&p.inputs[0]) || matches!(p.op, Op::Fused(_)) {
            return;
        }
        let run = |blur: bool| {
            let types: Vec<Type> = p
                .inputs
                .iter()
                .enumerate()
                .map(|(i, t)| {
                    let mut ty = t.ty();
                    if blur && i == 0 {
                        ty.dims[0] = None;
                    }
                    ty
                })
                .collect();
            let mut traced = single(&p.op, &types).unwrap_or_else(|e| panic!("{e}"));
            let y = traced.outputs[0];
            let seed =
                traced.graph.unary(lamina_kernels::elementwise::Unary::Square, y).expect("elementwise");
            let sources: Vec<Value> = p.differentiate.iter().map(|&i| traced.graph.inputs()[i]).collect();
            let found =
                gradients(&mut traced.graph, y, &sources, Some(seed)).unwrap_or_else(|e| panic!("{e}"));
            traced.outputs = found.into_iter().map(|g| g.expect("a gradient")).collect();
            let outputs = Function::new(traced).call(&p.inputs).unwrap_or_else(|e| panic!("{e}"));
            outputs.iter().map(Tensor::to_f64).collect::<Vec<_>>()
        };
        for (blurred, sharp) in run(true).iter().zip(run(false)) {
            assert_close(blurred, &sharp, 1e-6);
        }
    });
}
