//! Reductions over axes.

use super::movement::Reshape;
use super::select::Select;
use super::*;
use lamina_kernels::elementwise::Binary as B;
use lamina_kernels::reduce as kernels;

/// What to do with the elements along the reduced axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Their sum; 0 for none.
    Sum,
    /// Their mean; NaN for none.
    Mean,
    /// The largest; NaN where any is.
    Max,
    /// The smallest; NaN where any is.
    Min,
    /// Their product; 1 for none.
    Prod,
    /// Whether any is true (bool only).
    Any,
    /// Whether all are true (bool only).
    All,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] =
        [Kind::Sum, Kind::Mean, Kind::Max, Kind::Min, Kind::Prod, Kind::Any, Kind::All];

    /// numpy's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sum => "sum",
            Kind::Mean => "mean",
            Kind::Max => "max",
            Kind::Min => "min",
            Kind::Prod => "prod",
            Kind::Any => "any",
            Kind::All => "all",
        }
    }
}

/// A reduction over the given axes (sorted, distinct).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// What to compute.
    pub kind: Kind,
    /// Which axes disappear.
    pub axes: SmallVec<[usize; 4]>,
    /// Leaves them with length 1 instead.
    pub keepdims: bool,
}

impl OpDef for Reduce {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let fits = match self.kind {
            Kind::Any | Kind::All => x[0].dtype == DType::Bool,
            Kind::Mean => x[0].dtype.is_float(),
            _ => true,
        };
        if !fits {
            return Err(ShapeError::new(self.name(), format!("does not take {}", x[0].dtype)));
        }
        let rank = x[0].rank();
        if let Some(&axis) = self.axes.iter().find(|&&a| a >= rank) {
            axis_index(self.name(), axis as i64, rank)?;
        }
        if matches!(self.kind, Kind::Max | Kind::Min) && self.axes.iter().any(|&a| x[0].dims[a] == Some(0)) {
            let message =
                format!("zero-size array to reduction operation {} which has no identity", self.name());
            return Err(ShapeError::new(self.name(), message).got(&x[0].dims));
        }
        let dims = (0..rank).filter_map(|i| match self.axes.contains(&i) {
            true => self.keepdims.then_some(Some(1)),
            false => Some(x[0].dims[i]),
        });
        Ok(smallvec![Type::new(x[0].dtype, dims)])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        if !self.keepdims && !self.axes.is_empty() {
            // One spelling: reduce with the axes kept, then drop them.
            let kept = g.add(Reduce { keepdims: true, ..self.clone() }, x).ok()?;
            return g.add(Reshape::drop_axes(g.ty(x[0]).rank(), &self.axes), &[kept]).ok();
        }
        let shape = g.ty(x[0]).shape()?;
        let long: SmallVec<[usize; 4]> =
            self.axes.iter().copied().filter(|&a| shape.get(a).is_some_and(|&n| n != 1)).collect();
        if long.is_empty() && self.axes.iter().all(|&a| a < shape.len()) {
            return Some(x[0]);
        }
        if long.len() < self.axes.len() {
            return g.add(Reduce { axes: long, ..self.clone() }, x).ok();
        }
        // Axes with others between them: one run at a time (a mean is a sum and a scale).
        let first_run = self.axes.iter().enumerate().take_while(|(i, a)| **a == self.axes[0] + i).count();
        let gap = self.axes[first_run.min(self.axes.len() - 1)];
        let together =
            first_run == self.axes.len() || shape[self.axes[0] + first_run..gap].iter().all(|&n| n == 1);
        if together || shape.contains(&0) {
            return None;
        }
        let (head, tail) = self.axes.split_at(first_run);
        let kind = if self.kind == Kind::Mean { Kind::Sum } else { self.kind };
        let part = g.add(Reduce { kind, axes: tail.into(), keepdims: true }, x).ok()?;
        let whole = g.add(Reduce { kind, axes: head.into(), keepdims: true }, &[part]).ok()?;
        if self.kind != Kind::Mean {
            return Some(whole);
        }
        let count: usize = self.axes.iter().map(|&a| shape[a]).product();
        g.scale(whole, 1.0 / count as f64).ok()
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, y, dy) = (cx.x(0), cx.y(0), cx.dy()?);
        let g = &mut *cx.g;
        let restore = |g: &mut Graph, v: Value| {
            if self.keepdims || self.axes.is_empty() {
                return Ok(v);
            }
            g.add(Reshape::insert_axes(g.ty(v).rank(), &self.axes), &[v])
        };
        let dy = restore(g, dy)?;
        let dx = match self.kind {
            Kind::Sum => g.broadcast_like(dy, x)?,
            Kind::Mean => {
                let count = g.add(AxisSize(self.axes.clone()), &[x])?;
                let d = g.div(dy, count)?;
                g.broadcast_like(d, x)?
            }
            Kind::Max | Kind::Min => {
                // Equal extremes share the gradient, as in JAX.
                let y = restore(g, y)?;
                let wins = g.binary(B::Eq, x, y)?;
                let wins = g.cast(wins, g.ty(x).dtype)?;
                let count =
                    g.add(Reduce { kind: Kind::Sum, axes: self.axes.clone(), keepdims: true }, &[wins])?;
                let share = g.div(dy, count)?;
                g.mul(wins, share)?
            }
            Kind::Prod => {
                // y / x, and where x holds the only zero, the product of the others.
                let dtype = g.ty(x).dtype;
                let (zero, one) = (g.scalar(dtype, 0.0), g.scalar(dtype, 1.0));
                let is_zero = g.binary(B::Eq, x, zero)?;
                let others = g.add(Select, &[is_zero, one, x])?;
                let keep = |kind| Reduce { kind, axes: self.axes.clone(), keepdims: true };
                let product = g.add(keep(Kind::Prod), &[others])?;
                let zeros = g.cast(is_zero, dtype)?;
                let zeros = g.add(keep(Kind::Sum), &[zeros])?;
                let (none, single) = (g.binary(B::Eq, zeros, zero)?, g.binary(B::Eq, zeros, one)?);
                let alone = g.binary(B::And, is_zero, single)?;
                let plain = g.div(product, others)?;
                let plain = g.add(Select, &[none, plain, zero])?;
                let d = g.add(Select, &[alone, product, plain])?;
                g.mul(d, dy)?
            }
            Kind::Any | Kind::All => return Ok(()),
        };
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        !self.axes.contains(&0)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, dtype, isa, kind) = (cx.shape(0), cx.dtype(0), cx.isa, self.kind);
        let [outer, reduce, inner] = three_axes(&shape, &self.axes);
        let flops = cx.inputs[0].len() as u64;
        let fast = match kind {
            Kind::Sum => Some(kernels::Reduce::Sum),
            Kind::Mean => Some(kernels::Reduce::Mean),
            Kind::Prod => Some(kernels::Reduce::Prod),
            Kind::Max => Some(kernels::Reduce::Max),
            Kind::Min => Some(kernels::Reduce::Min),
            Kind::Any | Kind::All => None,
        };
        if let (DType::F32, Some(op)) = (dtype, fast) {
            return Lowering::kernel(self.name(), flops, move |call| {
                let x = call.input::<f32>(0);
                kernels::reduce(isa, op, x, [outer, reduce, inner], call.output(0));
            });
        }
        Lowering::kernel(self.name(), flops, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let y = call.output::<T>(0);
                for (i, y) in y.iter_mut().enumerate() {
                    let at = |r: usize| x[(i / inner * reduce + r) * inner + i % inner];
                    *y = if dtype.is_float() {
                        T::from_f64(fold_f64(kind, (0..reduce).map(|r| at(r).to_f64())))
                    } else {
                        T::from_i64(fold_i64(kind, (0..reduce).map(|r| at(r).to_i64())))
                    };
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let shapes: [(&[usize], &[usize]); 8] = [
            (&[3, 5], &[1]),
            (&[3, 5], &[0]),
            (&[3, 5], &[0, 1]),
            (&[2, 3, 4], &[0, 2]),
            (&[2, 3, 4, 2], &[1, 2]),
            (&[2, 1, 4], &[1]),
            (&[40, 1000], &[0]),
            (&[3, 5], &[]),
        ];
        let mut problems = vec![];
        for kind in Kind::ALL {
            for (shape, axes) in shapes {
                for keepdims in [false, true] {
                    for dtype in [DType::F32, DType::F64, DType::I32, DType::Bool] {
                        let logical = matches!(kind, Kind::Any | Kind::All);
                        let wrong =
                            logical != (dtype == DType::Bool) || (kind == Kind::Mean && !dtype.is_float());
                        let large = shape[0] == 40 && (dtype != DType::F32 || kind == Kind::Prod);
                        if wrong || large {
                            continue;
                        }
                        let op = Reduce { kind, axes: axes.into(), keepdims };
                        let (s, a) = (shape.to_vec(), axes.to_vec());
                        let problem = Problem::close(
                            format!("{op:?} {shape:?} {dtype}"),
                            op,
                            vec![sample(dtype, shape, 1)],
                            2e-6,
                            move |x| reference(kind, &x[0], &s, &a),
                        );
                        let smooth = dtype == DType::F32 && shape[0] != 40;
                        problems.push(if smooth { problem.differentiate(&[0]) } else { problem });
                    }
                }
            }
        }
        let op = Reduce { kind: Kind::Sum, axes: smallvec![0], keepdims: false };
        problems.push(Problem::close("empty sum", op, vec![sample(DType::F32, &[0, 3], 1)], 0.0, |_| {
            vec![0.0; 3]
        }));
        problems
    }
}

/// A shape as `[outer, reduced, inner]`, the reduced axes standing together (but for axes of length 1).
pub fn three_axes(shape: &[usize], axes: &[usize]) -> [usize; 3] {
    let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
        return [shape.iter().product(), 1, 1];
    };
    [
        shape[..first].iter().product(),
        shape[first..=last].iter().product(),
        shape[last + 1..].iter().product(),
    ]
}

fn fold_f64(kind: Kind, items: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = items.len() as f64;
    match kind {
        Kind::Sum => items.sum(),
        Kind::Mean => items.sum::<f64>() / n,
        Kind::Prod => items.product(),
        Kind::Max => items.fold(f64::NEG_INFINITY, |a, b| B::Max.eval_f64(a, b)),
        Kind::Min => items.fold(f64::INFINITY, |a, b| B::Min.eval_f64(a, b)),
        Kind::Any | Kind::All => unreachable!("bool only"),
    }
}

fn fold_i64(kind: Kind, mut items: impl ExactSizeIterator<Item = i64>) -> i64 {
    match kind {
        Kind::Sum => items.fold(0, i64::wrapping_add),
        Kind::Prod => items.fold(1, i64::wrapping_mul),
        Kind::Max => items.max().unwrap_or(i64::MIN),
        Kind::Min => items.min().unwrap_or(i64::MAX),
        Kind::Any => items.any(|x| x != 0) as i64,
        Kind::All => items.all(|x| x != 0) as i64,
        Kind::Mean => unreachable!("floats only"),
    }
}

fn reference(kind: Kind, x: &[f64], shape: &[usize], axes: &[usize]) -> Vec<f64> {
    let kept: Vec<usize> =
        shape.iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect();
    let s = super::elementwise::broadcast_strides(&kept, shape);
    let mut groups: Vec<Vec<f64>> = vec![vec![]; kept.iter().product()];
    super::elementwise::walk2(shape, &s, &s, |i, at, _| groups[at].push(x[i]));
    let fold = |group: Vec<f64>| match kind {
        Kind::Any => group.iter().any(|&x| x != 0.0) as u8 as f64,
        Kind::All => group.iter().all(|&x| x != 0.0) as u8 as f64,
        _ => fold_f64(kind, group.into_iter()),
    };
    groups.into_iter().map(fold).collect()
}

// --- AxisSize

/// How many elements stand along the given axes, as a scalar of the operand's type; reads no element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AxisSize(pub SmallVec<[usize; 4]>);

impl OpDef for AxisSize {
    fn name(&self) -> &'static str {
        "axis_size"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type::known(x[0].dtype, &[])])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let ty = g.ty(x[0]);
        let count: Option<usize> = self.0.iter().map(|&a| ty.dims[a]).product();
        let dtype = ty.dtype;
        count.map(|n| g.scalar(dtype, n as f64))
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("becomes a constant once shapes are known")
    }

    fn reads(&self, _: usize) -> bool {
        false
    }

    fn problems() -> Vec<Problem> {
        let x = sample(DType::F32, &[3, 4, 5], 1);
        vec![Problem::close("axis_size", AxisSize(smallvec![0, 2]), vec![x], 0.0, |_| vec![15.0])]
    }
}

// --- ArgReduce

/// The position of the first extreme along an axis, as int32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArgReduce {
    /// The largest, or the smallest.
    pub largest: bool,
    /// Along this axis, which disappears.
    pub axis: usize,
}

impl OpDef for ArgReduce {
    fn name(&self) -> &'static str {
        if self.largest { "argmax" } else { "argmin" }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        axis_index(self.name(), self.axis as i64, x[0].rank())?;
        if x[0].dims[self.axis] == Some(0) {
            let message = format!("attempt to get {} of an empty sequence", self.name());
            return Err(ShapeError::new(self.name(), message).got(&x[0].dims));
        }
        let dims = (0..x[0].rank()).filter(|&i| i != self.axis).map(|i| x[0].dims[i]);
        Ok(smallvec![Type::new(DType::I32, dims)])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        self.axis != 0
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let [_, reduce, inner] = three_axes(&cx.shape(0), &[self.axis]);
        let (largest, dtype) = (self.largest, cx.dtype(0));
        Lowering::kernel(self.name(), cx.inputs[0].len() as u64, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                for (i, y) in call.output::<i32>(0).iter_mut().enumerate() {
                    let at = |r: usize| x[(i / inner * reduce + r) * inner + i % inner];
                    let mut best = 0;
                    for r in 1..reduce {
                        let (a, b) = (at(r), at(best));
                        // A NaN wins over everything, the first one over later ones.
                        let b_is_nan = b.partial_cmp(&b).is_none();
                        let wins = a.partial_cmp(&a).is_none() || if largest { a > b } else { a < b };
                        if wins && !b_is_nan {
                            best = r;
                        }
                    }
                    *y = best as i32;
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for largest in [true, false] {
            for (shape, axis) in [(&[3, 7][..], 1), (&[3, 7], 0), (&[2, 3, 4], 1)] {
                for dtype in [DType::F32, DType::I32, DType::F64] {
                    let op = ArgReduce { largest, axis };
                    let s = shape.to_vec();
                    let x = sample(dtype, shape, 1);
                    problems.push(Problem::close(
                        format!("{op:?} {shape:?} {dtype}"),
                        op,
                        vec![x],
                        0.0,
                        move |x| {
                            let [outer, reduce, inner] = three_axes(&s, &[axis]);
                            let mut y = vec![];
                            for o in 0..outer {
                                for i in 0..inner {
                                    let row: Vec<f64> =
                                        (0..reduce).map(|r| x[0][(o * reduce + r) * inner + i]).collect();
                                    let pick = if largest { f64::max } else { f64::min };
                                    let extreme = row.iter().copied().reduce(pick).expect("not empty");
                                    y.push(row.iter().position(|&v| v == extreme).expect("found") as f64);
                                }
                            }
                            y
                        },
                    ));
                }
            }
        }
        let x = Tensor::from_slice(&[3], &[1.0f32, f32::NAN, 2.0]);
        problems.push(Problem::close(
            "argmax nan",
            ArgReduce { largest: true, axis: 0 },
            vec![x],
            0.0,
            |_| vec![1.0],
        ));
        problems
    }
}
