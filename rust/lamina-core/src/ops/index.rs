//! Ops that choose elements by position: slices, joins, padding.

use super::elementwise::walk2;
use super::movement::strided_copy_from;
use super::*;
use crate::shape::strides;

// --- Slice

/// Python's `x[start:stop:step]` along every axis; negative positions count from the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    starts: SmallVec<[Option<i64>; 4]>,
    stops: SmallVec<[Option<i64>; 4]>,
    steps: SmallVec<[i64; 4]>,
}

/// One axis of a slice at a known length: first element, step, how many.
fn resolve(start: Option<i64>, stop: Option<i64>, step: i64, n: usize) -> (i64, i64, usize) {
    let n = n as i64;
    let clamp = |x: i64, low: i64, high: i64| (if x < 0 { x + n } else { x }).clamp(low, high);
    let (first, count) = if step > 0 {
        let first = start.map_or(0, |s| clamp(s, 0, n));
        let end = stop.map_or(n, |s| clamp(s, 0, n));
        (first, (end - first + step - 1).div_euclid(step))
    } else {
        let first = start.map_or(n - 1, |s| clamp(s, -1, n - 1));
        let end = stop.map_or(-1, |s| clamp(s, -1, n - 1));
        (first, (first - end - step - 1).div_euclid(-step))
    };
    (first, step, count.max(0) as usize)
}

impl Slice {
    /// One entry an axis.
    pub fn new(starts: &[Option<i64>], stops: &[Option<i64>], steps: &[i64]) -> Slice {
        Slice { starts: starts.into(), stops: stops.into(), steps: steps.into() }
    }

    /// `x[start:stop]` along one axis.
    pub fn along(rank: usize, axis: usize, start: Option<i64>, stop: Option<i64>) -> Slice {
        let pick = |v: Option<i64>| (0..rank).map(|i| if i == axis { v } else { None }).collect();
        Slice { starts: pick(start), stops: pick(stop), steps: (0..rank).map(|_| 1).collect() }
    }

    /// `x[::-1]` along some axes.
    pub fn flip(rank: usize, axes: &[usize]) -> Slice {
        let none: SmallVec<[Option<i64>; 4]> = (0..rank).map(|_| None).collect();
        let steps = (0..rank).map(|i| if axes.contains(&i) { -1 } else { 1 }).collect();
        Slice { starts: none.clone(), stops: none, steps }
    }

    fn axis(&self, i: usize, n: usize) -> (i64, i64, usize) {
        resolve(self.starts[i], self.stops[i], self.steps[i], n)
    }

    /// The length of an axis whose operand's length is unknown, where the slice alone says it.
    fn blind(&self, i: usize) -> Dim {
        match (self.starts[i], self.stops[i], self.steps[i]) {
            (Some(a), Some(b), 1) if b == a + 1 => Some(1),
            (Some(-1), None, 1) => Some(1),
            (Some(a), Some(b), 1) if (a < 0) == (b < 0) && b <= a => Some(0),
            _ => None,
        }
    }
}

impl OpDef for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if self.starts.len() != x[0].rank() || self.steps.contains(&0) {
            let message =
                format!("needs a start, a stop and a step other than 0 for each of {} axes", x[0].rank());
            return Err(ShapeError::new("slice", message).got(&x[0].dims));
        }
        let dims = x[0].dims.iter().enumerate().map(|(i, d)| match d {
            Some(n) => Some(self.axis(i, *n).2),
            None => self.blind(i),
        });
        Ok(smallvec![Type::new(x[0].dtype, dims)])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let plain = |i: usize, d: &Dim| {
            let (start, stop, step) = (self.starts[i], self.stops[i], self.steps[i]);
            step == 1
                && start.is_none_or(|s| s == 0)
                && (stop.is_none() || d.is_some_and(|n| stop.is_some_and(|s| s >= n as i64)))
        };
        let dims = &g.ty(x[0]).dims;
        (dims.len() == self.steps.len() && dims.iter().enumerate().all(|(i, d)| plain(i, d))).then_some(x[0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(0), cx.dy()?);
        let dx = cx.g.add(SliceGrad(self.clone()), &[dy, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        let whole = |x: Option<i64>, end: i64| x.is_none_or(|x| x == end);
        self.steps[0] == 1 && whole(self.starts[0], 0) && whole(self.stops[0], i64::MAX)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, out) = (cx.shape(0), cx.out_shape(0));
        let own = strides(&shape);
        let (mut offset, mut from): (i64, SmallVec<[isize; 4]>) = (0, smallvec![]);
        for (i, &n) in shape.iter().enumerate() {
            let (first, step, count) = self.axis(i, n);
            offset += if count > 0 { first * own[i] as i64 } else { 0 };
            from.push(step as isize * own[i] as isize);
        }
        strided_copy_from("slice", cx.dtype(0), &out, &from, offset as usize)
    }

    fn problems() -> Vec<Problem> {
        let cases: Vec<(&[usize], Slice)> = vec![
            (&[5, 4], Slice::new(&[Some(1), None], &[Some(4), None], &[1, 2])),
            (&[5, 4], Slice::new(&[None, Some(-1)], &[None, None], &[-1, -2])),
            (&[6], Slice::new(&[Some(-3)], &[None], &[1])),
            (&[3, 2, 4], Slice::flip(3, &[0, 2])),
            (&[4, 3], Slice::new(&[Some(3), None], &[Some(1), None], &[1, 1])),
            (&[4, 30, 5], Slice::along(3, 1, Some(2), Some(-1))),
        ];
        let mut problems = vec![];
        for (shape, op) in cases {
            for dtype in [DType::F32, DType::I64, DType::Bool] {
                let (s, o) = (shape.to_vec(), op.clone());
                let x = sample(dtype, shape, 1);
                let problem =
                    Problem::close(format!("{op:?} {shape:?} {dtype}"), op.clone(), vec![x], 0.0, move |x| {
                        let axes: Vec<_> = s.iter().enumerate().map(|(i, &n)| o.axis(i, n)).collect();
                        let out: Vec<usize> = axes.iter().map(|a| a.2).collect();
                        let (own, unit) = (strides(&s), strides(&out));
                        (0..out.iter().product::<usize>())
                            .map(|i| {
                                let at = |(k, a): (usize, &(i64, i64, usize))| {
                                    (a.0 + a.1 * (i / unit[k] % out[k]) as i64) as usize * own[k]
                                };
                                x[0][axes.iter().enumerate().map(at).sum::<usize>()]
                            })
                            .collect()
                    });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
            }
        }
        problems
    }
}

/// Zeros in the shape of operand 1 (whose elements are not read), with operand 0 where the slice took its
/// elements: the adjoint of [`Slice`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SliceGrad(pub Slice);

impl OpDef for SliceGrad {
    fn name(&self) -> &'static str {
        "slice_grad"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[1].dims.clone() }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let dy = cx.dy()?;
        let dx = cx.g.add(self.0.clone(), &[dy])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (from, out) = (cx.shape(0), cx.out_shape(0));
        let own = strides(&out);
        let axes: Vec<(i64, i64, usize)> = out.iter().enumerate().map(|(i, &n)| self.0.axis(i, n)).collect();
        let size = cx.dtype(0).size();
        // Whole rows move where the last axis is taken in order.
        let (row, outer) = match axes.last() {
            Some((_, 1, count)) => (*count, &from[..from.len() - 1]),
            _ => (1, &from[..]),
        };
        let outer: Shape = outer.into();
        Lowering::kernel("slice_grad", 0, move |call| {
            let x = call.input_bytes(0);
            let y = &mut *call.outputs()[0];
            y.fill(0);
            let mut index: Shape = outer.iter().map(|_| 0).collect();
            for k in 0..outer.iter().product::<usize>() {
                let mut at: i64 = axes.iter().enumerate().map(|(i, a)| a.0 * own[i] as i64).sum();
                at +=
                    index.iter().enumerate().map(|(i, &p)| axes[i].1 * p as i64 * own[i] as i64).sum::<i64>();
                let (from, to) = (k * row * size, at as usize * size);
                y[to..to + row * size].copy_from_slice(&x[from..from + row * size]);
                for i in (0..index.len()).rev() {
                    index[i] += 1;
                    if index[i] < outer[i] {
                        break;
                    }
                    index[i] = 0;
                }
            }
        })
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let op = SliceGrad(Slice::new(&[Some(1)], &[None], &[2]));
        let inputs = vec![sample(DType::F32, &[2], 1), sample(DType::F32, &[5], 2)];
        let problem =
            Problem::close("slice_grad", op, inputs, 0.0, |x| vec![0.0, x[0][0], 0.0, x[0][1], 0.0]);
        vec![problem.differentiate(&[0])]
    }
}

// --- Concat

/// Operands joined along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// Which axis.
    pub axis: usize,
}

impl OpDef for Concat {
    fn name(&self) -> &'static str {
        "concatenate"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let Some(first) = x.first() else {
            return Err(ShapeError::new("concatenate", "needs at least one operand"));
        };
        axis_index("concatenate", self.axis as i64, first.rank())?;
        let mut dims = first.dims.clone();
        let mut total: Dim = Some(0);
        for ty in x {
            total = total.and_then(|t| ty.dims.get(self.axis).copied().flatten().map(|d| t + d));
            let same = ty.rank() == first.rank() && ty.dtype == first.dtype;
            let mut bad = (!same).then_some(0);
            for i in (0..ty.rank().min(dims.len())).filter(|i| *i != self.axis) {
                match (dims[i], ty.dims[i]) {
                    (Some(a), Some(b)) if a != b => bad = Some(i),
                    (None, d) => dims[i] = d,
                    _ => {}
                }
            }
            if let Some(axis) = bad {
                let shapes: Vec<String> = x.iter().map(|t| show(&t.dims)).collect();
                let mut error = ShapeError::new(
                    "concatenate",
                    format!(
                        "operands must have matching shapes except for the concatenation axis {}",
                        self.axis
                    ),
                )
                .expected(if same {
                    format!("equal lengths along axis {axis}")
                } else {
                    "one number of axes and one dtype".into()
                });
                for t in x {
                    error = error.got(&t.dims);
                }
                let _ = shapes;
                return Err(error);
            }
        }
        dims[self.axis] = total;
        Ok(smallvec![Type { dtype: first.dtype, dims }])
    }

    fn simplify(&self, _: &mut Graph, x: &[Value]) -> Option<Value> {
        (x.len() == 1).then(|| x[0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let dy = cx.dy()?;
        let mut operands = vec![dy];
        operands.extend_from_slice(cx.inputs);
        for i in 0..cx.inputs.len() {
            if cx.wanted[i] {
                let dx = cx.g.add(ConcatGrad { axis: self.axis, index: i }, &operands)?;
                cx.give(i, dx);
            }
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], _: &[&Type], _: &[Type]) -> bool {
        self.axis != 0 && rows.iter().all(|r| *r)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let out = cx.out_shape(0);
        let size = cx.dtype(0).size();
        let outer: usize = out[..self.axis].iter().product();
        let rows: Vec<usize> =
            (0..cx.inputs.len()).map(|i| cx.shape(i)[self.axis..].iter().product::<usize>() * size).collect();
        Lowering::kernel("concatenate", 0, move |call| {
            let inputs = call.inputs();
            let mut rest = &mut *call.outputs()[0];
            for o in 0..outer {
                for (x, &row) in inputs.iter().zip(&rows) {
                    let (part, tail) = rest.split_at_mut(row);
                    part.copy_from_slice(&x[o * row..(o + 1) * row]);
                    rest = tail;
                }
            }
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for (axis, a, b) in [(0, [2, 3], [4, 3]), (1, [2, 3], [2, 5]), (1, [2, 0], [2, 1])] {
            for dtype in [DType::F32, DType::F16, DType::I32] {
                let inputs = vec![sample(dtype, &a, 1), sample(dtype, &b, 2)];
                let problem = Problem::close(
                    format!("concat {axis} {a:?} {b:?} {dtype}"),
                    Concat { axis },
                    inputs,
                    0.0,
                    move |x| {
                        if axis == 0 {
                            return [x[0].clone(), x[1].clone()].concat();
                        }
                        (0..2)
                            .flat_map(|r| {
                                [&x[0][r * a[1]..(r + 1) * a[1]], &x[1][r * b[1]..(r + 1) * b[1]]].concat()
                            })
                            .collect()
                    },
                );
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0, 1]) } else { problem });
            }
        }
        problems
    }
}

/// The part of operand 0 that came from operand `index` of a [`Concat`]; the operands after the first are
/// those of the concatenation, and only their shapes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConcatGrad {
    /// The axis of the concatenation.
    pub axis: usize,
    /// Whose part.
    pub index: usize,
}

impl OpDef for ConcatGrad {
    fn name(&self) -> &'static str {
        "concatenate_grad"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[1 + self.index].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let length = |g: &Graph, i: usize| g.ty(x[1 + i]).dims[self.axis];
        let before: usize = (0..self.index).map(|i| length(g, i)).sum::<Option<usize>>()?;
        let own = length(g, self.index)?;
        let slice =
            Slice::along(g.ty(x[0]).rank(), self.axis, Some(before as i64), Some((before + own) as i64));
        g.add(slice, &x[..1]).ok()
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new("concatenate", "has no second derivative over an unknown axis"))
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("becomes a slice once shapes are known")
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let inputs =
            vec![sample(DType::F32, &[5], 1), sample(DType::F32, &[2], 2), sample(DType::F32, &[3], 3)];
        vec![Problem::close("concat_grad", ConcatGrad { axis: 0, index: 1 }, inputs, 0.0, |x| {
            x[0][2..].to_vec()
        })]
    }
}

// --- Pad

/// What stands in the margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Margin {
    /// A number.
    Constant(Real),
    /// The elements mirrored, the border not repeated.
    Reflect,
    /// The elements mirrored, the border repeated.
    Symmetric,
}

/// Margins around every axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pad {
    /// Before and after each axis.
    pub widths: SmallVec<[(usize, usize); 4]>,
    /// With what.
    pub margin: Margin,
}

impl Pad {
    /// For each element of the result along axis `i`, the operand's position, if any.
    fn source(&self, i: usize, n: usize, at: usize) -> Option<usize> {
        let (n, p) = (n as i64, at as i64 - self.widths[i].0 as i64);
        if (0..n).contains(&p) {
            return Some(p as usize);
        }
        let period = match self.margin {
            Margin::Constant(_) => return None,
            Margin::Reflect if n == 1 => return Some(0),
            Margin::Reflect => 2 * (n - 1),
            Margin::Symmetric => 2 * n,
        };
        let q = p.rem_euclid(period);
        Some(match self.margin {
            Margin::Reflect => q.min(period - q) as usize,
            _ => q.min(period - 1 - q) as usize,
        })
    }

    /// Visits every element of the result with the operand's offset, if it has one.
    fn walk(&self, shape: &[usize], out: &[usize], mut visit: impl FnMut(usize, Option<usize>)) {
        let (own, unit) = (strides(shape), strides(out));
        for k in 0..out.iter().product::<usize>() {
            let mut from = Some(0);
            for i in 0..out.len() {
                let p = self.source(i, shape[i], k / unit[i] % out[i]);
                from = from.and_then(|f: usize| p.map(|p| f + p * own[i]));
            }
            visit(k, from);
        }
    }
}

impl OpDef for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if self.widths.len() != x[0].rank() {
            let message = format!("needs widths for {} axes, got {}", x[0].rank(), self.widths.len());
            return Err(ShapeError::new("pad", message).got(&x[0].dims));
        }
        let mirrored = !matches!(self.margin, Margin::Constant(_));
        if mirrored && (0..x[0].rank()).any(|i| x[0].dims[i] == Some(0) && self.widths[i] != (0, 0)) {
            return Err(ShapeError::new("pad", "cannot mirror an empty axis").got(&x[0].dims));
        }
        let dims = x[0].dims.iter().zip(&self.widths).map(|(d, (a, b))| d.map(|d| d + a + b));
        Ok(smallvec![Type::new(x[0].dtype, dims)])
    }

    fn simplify(&self, _: &mut Graph, x: &[Value]) -> Option<Value> {
        self.widths.iter().all(|w| *w == (0, 0)).then(|| x[0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(0), cx.dy()?);
        let dx = if let Margin::Constant(_) = self.margin {
            let starts: Vec<Option<i64>> = self.widths.iter().map(|w| Some(w.0 as i64)).collect();
            let stops: Vec<Option<i64>> =
                self.widths.iter().map(|w| if w.1 == 0 { None } else { Some(-(w.1 as i64)) }).collect();
            let slice = Slice::new(&starts, &stops, &vec![1; starts.len()]);
            let part = cx.g.add(slice, &[dy])?;
            // The same shape by construction, said where the batch is unknown.
            cx.g.add(super::movement::ReshapeLike, &[part, x])?
        } else {
            cx.g.add(PadGrad(self.clone()), &[dy, x])?
        };
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        self.widths[0] == (0, 0)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, out, dtype) = (cx.shape(0), cx.out_shape(0), cx.dtype(0));
        let op = self.clone();
        if let Margin::Constant(value) = self.margin {
            // Rows of the last axis are copied whole.
            let own = strides(&out);
            let row = shape.last().copied().unwrap_or(1);
            let lead: Shape = shape[..shape.len().saturating_sub(1)].into();
            let to: Shape = own[..lead.len()].into();
            let first: usize = self.widths.iter().zip(&own).map(|(w, s)| w.0 * s).sum();
            return Lowering::kernel("pad", 0, move |call| {
                with_dtype!(dtype, T => {
                    let x = call.input::<T>(0);
                    let y = call.output::<T>(0);
                    y.fill(T::from_f64(value.get()));
                    walk2(&lead, &to, &to, |i, at, _| {
                        y[first + at..first + at + row].copy_from_slice(&x[i * row..(i + 1) * row]);
                    });
                });
            });
        }
        Lowering::kernel("pad", 0, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let y = call.output::<T>(0);
                op.walk(&shape, &out, |k, from| y[k] = x[from.expect("mirrored margins have a source")]);
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for margin in [
            Margin::Constant(Real::new(1.5)),
            Margin::Constant(Real::new(0.0)),
            Margin::Reflect,
            Margin::Symmetric,
        ] {
            for (shape, widths) in [(&[3, 4][..], [(1, 2), (0, 3)]), (&[2, 3], [(1, 0), (2, 2)])] {
                for dtype in [DType::F32, DType::F64, DType::I32] {
                    let op = Pad { widths: SmallVec::from_slice(&widths), margin };
                    let integer = dtype == DType::I32;
                    let fill = match margin {
                        Margin::Constant(v) if integer => v.get().trunc(),
                        Margin::Constant(v) => v.get(),
                        _ => f64::NAN,
                    };
                    let (s, o) = (shape.to_vec(), op.clone());
                    let x = sample(dtype, shape, 1);
                    let problem =
                        Problem::close(format!("{op:?} {shape:?} {dtype}"), op, vec![x], 0.0, move |x| {
                            let out: Vec<usize> =
                                s.iter().zip(&o.widths).map(|(n, w)| n + w.0 + w.1).collect();
                            let mut y = vec![];
                            o.walk(&s, &out, |_, from| y.push(from.map_or(fill, |f| x[0][f])));
                            y
                        });
                    problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
                }
            }
        }
        problems
    }
}

/// The adjoint of a mirrored [`Pad`]: operand 0 added up in the shape of operand 1, which is not read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PadGrad(pub Pad);

impl OpDef for PadGrad {
    fn name(&self) -> &'static str {
        "pad_grad"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[1].dims.clone() }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let dy = cx.dy()?;
        let dx = cx.g.add(self.0.clone(), &[dy])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (from, out, dtype) = (cx.shape(0), cx.out_shape(0), cx.dtype(0));
        let op = self.0.clone();
        Lowering::kernel("pad_grad", 0, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let y = call.output::<T>(0);
                let mut sums = vec![0f64; y.len()];
                op.walk(&out, &from, |k, to| {
                    if let Some(to) = to {
                        sums[to] += x[k].to_f64();
                    }
                });
                y.iter_mut().zip(sums).for_each(|(y, s)| *y = T::from_f64(s));
            });
        })
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let op = PadGrad(Pad { widths: smallvec![(1, 1)], margin: Margin::Reflect });
        let inputs = vec![sample(DType::F32, &[5], 1), sample(DType::F32, &[3], 2)];
        let problem = Problem::close("pad_grad", op, inputs, 1e-6, |x| {
            vec![x[0][1], x[0][0] + x[0][2] + x[0][4], x[0][3]]
        });
        vec![problem.differentiate(&[0])]
    }
}
