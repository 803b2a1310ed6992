//! Softmax and its logarithm.

use super::reduce::{Kind, Reduce, three_axes};
use super::*;
use lamina_kernels::elementwise::Unary as U;
use lamina_kernels::softmax as kernels;

// --- Softmax

/// `exp(x) / sum(exp(x))` along an axis, or its logarithm; the largest element is subtracted first, so nothing
/// overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Softmax {
    /// Along this axis.
    pub axis: usize,
    /// Gives the logarithm.
    pub log: bool,
}

fn check_axis(name: &str, axis: usize, x: &Type) -> Result<(), ShapeError> {
    if !x.dtype.is_float() {
        return Err(ShapeError::new(name, format!("needs a float operand, got {}", x.dtype)).got(&x.dims));
    }
    axis_index(name, axis as i64, x.rank()).map(|_| ())
}

/// The sum along an axis, which stays with length 1.
fn sum_along(g: &mut Graph, x: Value, axis: usize) -> Result<Value, ShapeError> {
    g.add(Reduce { kind: Kind::Sum, axes: smallvec![axis], keepdims: true }, &[x])
}

/// Calls `row` with the places of the elements of each row along the middle axis.
fn each_row([outer, len, inner]: [usize; 3], mut row: impl FnMut(&dyn Fn(usize) -> usize)) {
    for o in 0..outer {
        for i in 0..inner {
            row(&|k| (o * len + k) * inner + i);
        }
    }
}

impl OpDef for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        check_axis(self.name(), self.axis, x[0])?;
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (y, dy) = (cx.y(0), cx.dy()?);
        let dx = cx.g.add(SoftmaxGrad(*self), &[y, dy])?;
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        self.axis != 0
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let view = three_axes(&cx.shape(0), &[self.axis]);
        let (log, dtype, isa) = (self.log, cx.dtype(0), cx.isa);
        Lowering::kernel(self.name(), 5 * cx.inputs[0].len() as u64, move |call| {
            if dtype == DType::F32 {
                let (x, y) = (call.input::<f32>(0), call.output::<f32>(0));
                return if log {
                    kernels::log_softmax(isa, x, view, y)
                } else {
                    kernels::softmax(isa, x, view, y)
                };
            }
            let mut x = call.wide::<f64>(0, dtype);
            each_row(view, |at| {
                let row = (0..view[1]).map(|k| x[at(k)]);
                let largest = row.clone().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.map(|x| (x - largest).exp()).sum();
                for k in 0..view[1] {
                    let d = x[at(k)] - largest;
                    x[at(k)] = if log { d - sum.ln() } else { d.exp() / sum };
                }
            });
            call.fill_from(0, dtype, &x);
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for log in [false, true] {
            for (shape, axis) in cases() {
                for dtype in [DType::F32, DType::F64, DType::F16] {
                    let op = Softmax { axis, log };
                    let view = three_axes(shape, &[axis]);
                    let name = format!("{op:?} {shape:?} {dtype}");
                    let x = sample(dtype, shape, 1);
                    let problem = Problem::close(name, op, vec![x], tolerance(dtype), move |v| {
                        reference(&v[0], view, log)
                    });
                    let smooth = dtype == DType::F32 && shape[0] < 40;
                    problems.push(if smooth { problem.differentiate(&[0]) } else { problem });
                }
            }
            let huge = Tensor::from_slice(&[2, 3], &[1e4f32, 1e4, -1e4, -1.5e38, 1.5e38, 0.0]);
            let op = Softmax { axis: 1, log };
            problems.push(Problem::close(format!("{op:?} huge"), op, vec![huge], 1e-6, move |v| {
                reference(&v[0], [2, 3, 1], log)
            }));
        }
        problems
    }
}

fn cases() -> [(&'static [usize], usize); 7] {
    [(&[3, 7], 1), (&[3, 7], 0), (&[2, 5, 3], 1), (&[4, 1], 1), (&[0, 3], 1), (&[5, 33], 1), (&[40, 1001], 1)]
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-13,
        DType::F16 => 2e-3,
        _ => 2e-6,
    }
}

fn reference(x: &[f64], [outer, len, inner]: [usize; 3], log: bool) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for (o, i) in (0..outer * inner).map(|r| (r / inner, r % inner)) {
        let row: Vec<f64> = (0..len).map(|k| x[(o * len + k) * inner + i]).collect();
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = row.iter().map(|x| (x - largest).exp()).sum::<f64>();
        for (k, x) in row.iter().enumerate() {
            let p = (x - largest).exp() / total;
            y[(o * len + k) * inner + i] = if log { x - largest - total.ln() } else { p };
        }
    }
    y
}

// --- SoftmaxGrad

/// The gradient of [`Softmax`] from its result: `y (dy - sum(y dy))`, or `dy - exp(y) sum(dy)` for the logarithm.
/// Operands: y and the gradient of y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxGrad(pub Softmax);

impl OpDef for SoftmaxGrad {
    fn name(&self) -> &'static str {
        if self.0.log { "log_softmax_grad" } else { "softmax_grad" }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        check_axis(self.name(), self.0.axis, x[0])?;
        check_like(self.name(), x[1], x[0])?;
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let Softmax { axis, log } = self.0;
        cx.through(|g, v| {
            let (y, dy) = (v[0], v[1]);
            if log {
                let (p, total) = (g.unary(U::Exp, y)?, sum_along(g, dy, axis)?);
                let back = g.mul(p, total)?;
                return Ok(smallvec![g.sub(dy, back)?]);
            }
            let product = g.mul(y, dy)?;
            let total = sum_along(g, product, axis)?;
            let centred = g.sub(dy, total)?;
            Ok(smallvec![g.mul(y, centred)?])
        })
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let view = three_axes(&cx.shape(0), &[self.0.axis]);
        let (log, dtype, isa) = (self.0.log, cx.dtype(0), cx.isa);
        Lowering::kernel(self.name(), 4 * cx.inputs[0].len() as u64, move |call| {
            if dtype == DType::F32 {
                let (y, dy, dx) = (call.input::<f32>(0), call.input::<f32>(1), call.output::<f32>(0));
                return match log {
                    true => kernels::log_softmax_grad(isa, y, dy, view, dx),
                    false => kernels::softmax_grad(isa, y, dy, view, dx),
                };
            }
            let (y, mut d) = (call.wide::<f64>(0, dtype), call.wide::<f64>(1, dtype));
            each_row(view, |at| {
                let term = |k: usize| d[at(k)] * if log { 1.0 } else { y[at(k)] };
                let total: f64 = (0..view[1]).map(term).sum();
                for k in 0..view[1] {
                    let (y, dy) = (y[at(k)], d[at(k)]);
                    d[at(k)] = if log { dy - y.exp() * total } else { y * (dy - total) };
                }
            });
            call.fill_from(0, dtype, &d);
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for log in [false, true] {
            for (shape, axis) in cases() {
                for dtype in [DType::F32, DType::F64] {
                    let op = SoftmaxGrad(Softmax { axis, log });
                    let view = three_axes(shape, &[axis]);
                    let inputs = vec![sample(dtype, shape, 1), sample(dtype, shape, 2)];
                    let tolerance = if dtype == DType::F32 { 2e-5 } else { 1e-12 };
                    let name = format!("{op:?} {shape:?} {dtype}");
                    let problem = Problem::close(name, op, inputs, tolerance, move |v| {
                        // The Jacobian, entry by entry: dy_j/dx_i of the row, from y.
                        let (y, dy) = (&v[0], &v[1]);
                        let mut dx = vec![0.0; y.len()];
                        each_row(view, |at| {
                            for (i, j) in (0..view[1] * view[1]).map(|p| (p / view[1], p % view[1])) {
                                let (yi, yj, same) = (y[at(i)], y[at(j)], (i == j) as u8 as f64);
                                dx[at(i)] += dy[at(j)] * if log { same - yi.exp() } else { yj * (same - yi) };
                            }
                        });
                        dx
                    });
                    let smooth = dtype == DType::F32 && shape[0] < 40;
                    problems.push(if smooth { problem.differentiate(&[0, 1]) } else { problem });
                }
            }
        }
        problems
    }
}

/// Refuses a gradient that has not the type of its value.
pub(super) fn check_like(name: &str, gradient: &Type, value: &Type) -> Result<(), ShapeError> {
    let same = |(a, b): (&Dim, &Dim)| a.is_none() || b.is_none() || a == b;
    let fits = gradient.rank() == value.rank() && gradient.dims.iter().zip(&value.dims).all(same);
    if fits && gradient.dtype == value.dtype {
        return Ok(());
    }
    let error =
        ShapeError::new(name, "the gradient does not fit its value").got(&gradient.dims).got(&value.dims);
    Err(error.expected(format!("{} of shape {}", value.dtype, show(&value.dims))))
}
