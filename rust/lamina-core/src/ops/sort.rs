//! Order along an axis: sorting, top-k, running sums.

use super::elementwise::Named;
use super::gather::GatherAlongGrad;
use super::reduce::three_axes;
use super::*;
use lamina_kernels::elementwise::Binary as B;
use std::cmp::Ordering;

/// NaN last, as numpy sorts.
fn order<T: Element>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| a.to_f64().is_nan().cmp(&b.to_f64().is_nan()))
}

/// The elements along an axis in order, and where each came from (int32). Stable. With `k`, the first `k` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    /// Which axis.
    pub axis: usize,
    /// Largest first.
    pub descending: bool,
    /// How many to keep.
    pub k: Option<usize>,
}

impl OpDef for Sort {
    fn name(&self) -> &'static str {
        if self.k.is_some() { "top_k" } else { "sort" }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        axis_index(self.name(), self.axis as i64, x[0].rank())?;
        let mut dims = x[0].dims.clone();
        if let Some(k) = self.k {
            if dims[self.axis].is_some_and(|n| n < k) {
                let message = format!("k = {k} is more than the axis has elements");
                return Err(ShapeError::new("top_k", message).got(&x[0].dims));
            }
            dims[self.axis] = Some(k);
        }
        Ok(smallvec![Type { dtype: x[0].dtype, dims: dims.clone() }, Type { dtype: DType::I32, dims }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, ids, dy) = (cx.x(0), cx.y(1), cx.dy()?);
        let dx = cx.g.add(GatherAlongGrad { axis: self.axis }, &[dy, ids, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let [outer, n, inner] = three_axes(&cx.shape(0), &[self.axis]);
        let (dtype, keep, descending) = (cx.dtype(0), self.k.unwrap_or(n), self.descending);
        Lowering::kernel(self.name(), 0, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let (values, places) = call.output_and::<T, i32>(1);
                let mut ids: Vec<usize> = vec![];
                for o in 0..outer {
                    for i in 0..inner {
                        let at = |r: usize| &x[(o * n + r) * inner + i];
                        ids.clear();
                        ids.extend(0..n);
                        if descending {
                            ids.sort_by(|&a, &b| order::<T>(at(b), at(a)));
                        } else {
                            ids.sort_by(|&a, &b| order::<T>(at(a), at(b)));
                        }
                        for (r, &id) in ids[..keep].iter().enumerate() {
                            values[(o * keep + r) * inner + i] = *at(id);
                            places[(o * keep + r) * inner + i] = id as i32;
                        }
                    }
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for dtype in [DType::F32, DType::I32] {
            for (descending, k) in [(false, None), (true, None), (true, Some(2))] {
                let op = Sort { axis: 1, descending, k };
                let x = sample(dtype, &[3, 5], 1);
                let problem = Problem::close(format!("{op:?} {dtype}"), op, vec![x], 0.0, move |x| {
                    let mut y = vec![];
                    for row in x[0].chunks(5) {
                        let mut row = row.to_vec();
                        row.sort_by(|a, b| if descending { b.total_cmp(a) } else { a.total_cmp(b) });
                        y.extend(&row[..k.unwrap_or(5)]);
                    }
                    y
                });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
            }
        }
        problems
    }
}

/// What a running value is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cumulative {
    /// `Add`, `Mul`, `Max` or `Min`.
    pub op: B,
    /// Along this axis.
    pub axis: usize,
    /// From the end.
    pub reverse: bool,
}

impl OpDef for Cumulative {
    fn name(&self) -> &'static str {
        match self.op {
            B::Add => "cumsum",
            B::Mul => "cumprod",
            _ => "cumulative",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        axis_index(self.name(), self.axis as i64, x[0].rank())?;
        if !matches!(self.op, B::Add | B::Mul | B::Max | B::Min) {
            return Err(ShapeError::new("cumulative", format!("{} does not run", self.op.name())));
        }
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, y, dy) = (cx.x(0), cx.y(0), cx.dy()?);
        let back = Cumulative { op: B::Add, reverse: !self.reverse, ..*self };
        let dx = match self.op {
            B::Add => cx.g.add(back, &[dy])?,
            // Every later product holds x once; exact where x is not 0.
            B::Mul => {
                let weighted = cx.g.mul(dy, y)?;
                let sum = cx.g.add(back, &[weighted])?;
                cx.g.div(sum, x)?
            }
            _ => return Err(ShapeError::new("cumulative", "a running maximum has no gradient here")),
        };
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let [outer, n, inner] = three_axes(&cx.shape(0), &[self.axis]);
        let (dtype, Cumulative { op, reverse, .. }) = (cx.dtype(0), *self);
        Lowering::kernel(self.name(), cx.inputs[0].len() as u64, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let y = call.output::<T>(0);
                for k in 0..outer * inner {
                    let at = |r: usize| {
                        let r = if reverse { n - 1 - r } else { r };
                        (k / inner * n + r) * inner + k % inner
                    };
                    let (mut float, mut int) = (0f64, 0i64);
                    for r in 0..n {
                        let item = x[at(r)];
                        if dtype.is_float() {
                            float = if r == 0 { item.to_f64() } else { op.eval_f64(float, item.to_f64()) };
                            y[at(r)] = T::from_f64(float);
                        } else {
                            int = if r == 0 { item.to_i64() } else { super::elementwise::binary_i64(op, int, item.to_i64()) };
                            y[at(r)] = T::from_i64(int);
                        }
                    }
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for op in [B::Add, B::Mul, B::Max, B::Min] {
            for reverse in [false, true] {
                for dtype in [DType::F32, DType::I32] {
                    let entry = Cumulative { op, axis: 1, reverse };
                    let x = sample(dtype, &[2, 4], 1);
                    let problem =
                        Problem::close(format!("{entry:?} {dtype}"), entry, vec![x], 1e-6, move |x| {
                            let mut y = vec![0.0; 8];
                            for row in 0..2 {
                                let mut running = None;
                                for r in 0..4 {
                                    let at = row * 4 + if reverse { 3 - r } else { r };
                                    running = Some(running.map_or(x[0][at], |v| op.eval_f64(v, x[0][at])));
                                    y[at] = running.expect("set");
                                }
                            }
                            y
                        });
                    let smooth = dtype == DType::F32 && matches!(op, B::Add | B::Mul);
                    problems.push(if smooth { problem.differentiate(&[0]) } else { problem });
                }
            }
        }
        problems
    }
}
