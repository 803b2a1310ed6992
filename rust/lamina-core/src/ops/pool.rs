//! Pooling over windows of (batch, height, width, channels).

use super::softmax::check_like;
use super::window::{Padding, Slide};
use super::*;
use lamina_kernels::pool::{self as kernels, Pool2d};

/// What a window becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Its largest element; NaN where it has one.
    Max,
    /// The mean of its elements, without those that only padding adds.
    Avg,
}

/// Pooling of each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// What a window becomes.
    pub kind: PoolKind,
    /// Height and width of a window.
    pub window: [usize; 2],
    /// How it moves.
    pub slide: Slide,
}

/// Calls `visit` with the place of every output element and those of the inputs under its window.
fn each_window(g: &Pool2d, mut visit: impl FnMut(usize, &[usize])) {
    let span = |o: usize, stride: usize, pad: usize, window: usize, limit: usize| {
        let start = o * stride;
        start.saturating_sub(pad)..(start + window).saturating_sub(pad).min(limit)
    };
    let mut under = vec![];
    for (image, oy, ox) in (0..g.n * g.oh * g.ow).map(|p| (p / (g.oh * g.ow), p / g.ow % g.oh, p % g.ow)) {
        for channel in 0..g.c {
            under.clear();
            for y in span(oy, g.stride.0, g.pad.0, g.kh, g.h) {
                let row = span(ox, g.stride.1, g.pad.1, g.kw, g.w);
                under.extend(row.map(|x| ((image * g.h + y) * g.w + x) * g.c + channel));
            }
            visit(((image * g.oh + oy) * g.ow + ox) * g.c + channel, &under);
        }
    }
}

/// The place of the first largest element, NaN before all others.
fn first_max<T: Element>(x: &[T], under: &[usize]) -> usize {
    let is_nan = |i: usize| x[i].partial_cmp(&x[i]).is_none();
    let better = |best: usize, i: usize| !is_nan(best) && (x[i] > x[best] || is_nan(i));
    under
        .iter()
        .copied()
        .reduce(|best, i| if better(best, i) { i } else { best })
        .expect("a window covers some input")
}

/// For each output element the element of `from` that stands where `x` has the largest of the window.
fn select<T: Element>(g: &Pool2d, from: &[T], x: &[T]) -> Vec<T> {
    let mut y = vec![T::from_i64(0); g.y_len()];
    each_window(g, |o, under| y[o] = from[first_max(x, under)]);
    y
}

impl Pool {
    /// Pooling with no dilation.
    pub fn new(kind: PoolKind, window: [usize; 2], strides: [usize; 2], padding: Padding) -> Pool {
        Pool { kind, window, slide: Slide { strides, padding, dilation: [1, 1] } }
    }

    fn output(&self, name: &str, x: &Type) -> Result<Dims, ShapeError> {
        self.slide.check(name, x)?;
        if x.dtype == DType::Bool || (self.kind == PoolKind::Avg && !x.dtype.is_float()) {
            return Err(ShapeError::new(name, format!("does not take {}", x.dtype)).got(&x.dims));
        }
        if let Padding::Explicit(around) = self.slide.padding
            && (0..2).any(|axis| around[axis].0.max(around[axis].1) >= self.window[axis].max(1))
        {
            return Err(ShapeError::new(name, "padding must be smaller than the window").argument("padding"));
        }
        let spatial = |axis: usize| {
            let count = self.slide.output(name, axis, x.dims[1 + axis], Some(self.window[axis]));
            count.map_err(|error| error.got(&x.dims))
        };
        Ok(smallvec![x.dims[0], spatial(0)?, spatial(1)?, x.dims[3]])
    }

    pub(super) fn geometry(&self, x: &[usize], y: &[usize]) -> Pool2d {
        let before = |axis: usize| self.slide.before(axis, x[1 + axis], self.window[axis]);
        Pool2d {
            n: x[0],
            h: x[1],
            w: x[2],
            c: x[3],
            kh: self.window[0],
            kw: self.window[1],
            oh: y[1],
            ow: y[2],
            stride: self.slide.strides.into(),
            pad: (before(0), before(1)),
        }
    }

    fn check_output(&self, name: &str, x: &Type, y: &Type) -> Result<(), ShapeError> {
        let wanted = Type { dtype: x.dtype, dims: self.output(name, x)? };
        check_like(name, y, &wanted)
    }
}

impl OpDef for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "max_pool",
            PoolKind::Avg => "average_pool",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: self.output(self.name(), x[0])? }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(0), cx.dy()?);
        let dx = cx.g.add(PoolGrad(*self), &[dy, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        true
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (kind, g) = (self.kind, self.geometry(&cx.shape(0), &cx.out_shape(0)));
        let (dtype, isa) = (cx.dtype(0), cx.isa);
        Lowering::kernel(self.name(), (g.y_len() * g.kh * g.kw) as u64, move |call| match (kind, dtype) {
            (PoolKind::Max, DType::F32) => kernels::max_pool(isa, &g, call.input(0), call.output(0)),
            (PoolKind::Avg, DType::F32) => kernels::avg_pool(isa, &g, call.input(0), call.output(0)),
            (PoolKind::Max, _) if !dtype.is_float() => {
                let x = call.wide::<i64>(0, dtype);
                call.fill_from(0, dtype, &select(&g, &x, &x));
            }
            (PoolKind::Max, _) => {
                let x = call.wide::<f64>(0, dtype);
                call.fill_from(0, dtype, &select(&g, &x, &x));
            }
            (PoolKind::Avg, _) => {
                let x = call.wide::<f64>(0, dtype);
                let mut y = vec![0.0; g.y_len()];
                each_window(&g, |o, under| {
                    y[o] = under.iter().map(|&i| x[i]).sum::<f64>() / under.len() as f64
                });
                call.fill_from(0, dtype, &y);
            }
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for (pool, shape) in cases() {
            let dtypes: &[DType] = match pool.kind {
                PoolKind::Max => &[DType::F32, DType::F64, DType::I32],
                PoolKind::Avg => &[DType::F32, DType::F64, DType::F16],
            };
            for &dtype in dtypes {
                let out = pool.infer(&[&Type::known(dtype, &shape)]).expect("the problem fits")[0].concrete();
                let x = sample(dtype, &shape, 1);
                let tolerance = if dtype == DType::F16 { 1e-3 } else { 1e-6 };
                let name = format!("{pool:?} {shape:?} {dtype}");
                let problem = Problem::close(name, pool, vec![x], tolerance, move |v| {
                    let reduce = |window: Vec<(usize, f64)>| {
                        let values = window.iter().map(|p| p.1);
                        match pool.kind {
                            PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max),
                            PoolKind::Avg => values.sum::<f64>() / window.len() as f64,
                        }
                    };
                    windows(&pool, &shape, &out, &v[0]).into_iter().map(reduce).collect()
                });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
            }
        }
        let nan = Tensor::from_slice(&[1, 1, 4, 1], &[1.0f32, f32::NAN, 2.0, 3.0]);
        let pool = Pool::new(PoolKind::Max, [1, 2], [1, 2], Padding::Valid);
        problems.push(Problem::close("max_pool nan", pool, vec![nan], 0.0, |_| vec![f64::NAN, 3.0]));
        problems
    }
}

fn cases() -> Vec<(Pool, [usize; 4])> {
    let mut cases = vec![];
    for kind in [PoolKind::Max, PoolKind::Avg] {
        for (window, strides, padding, shape) in [
            ([2, 2], [2, 2], Padding::Valid, [2, 4, 6, 3]),
            ([2, 2], [2, 2], Padding::Valid, [1, 5, 7, 17]),
            ([3, 3], [2, 2], Padding::Same, [1, 7, 6, 5]),
            ([3, 2], [1, 1], Padding::Same, [2, 4, 5, 2]),
            ([1, 3], [1, 2], Padding::Valid, [2, 1, 9, 4]),
            ([2, 2], [3, 1], Padding::Valid, [1, 6, 4, 33]),
            ([3, 3], [2, 2], Padding::Explicit([(1, 1), (0, 2)]), [1, 6, 5, 16]),
            ([4, 5], [1, 1], Padding::Valid, [2, 4, 5, 3]),
            ([2, 2], [2, 2], Padding::Same, [0, 4, 4, 3]),
        ] {
            cases.push((Pool::new(kind, window, strides, padding), shape));
        }
    }
    cases
}

/// For each output element the places and values of the inputs under its window, found by asking every input.
pub(super) fn windows(pool: &Pool, x: &[usize], out: &[usize], values: &[f64]) -> Vec<Vec<(usize, f64)>> {
    let mut all = vec![vec![]; out.iter().product()];
    // TensorFlow's rule for "same"; the other paddings say it themselves.
    let before = [0, 1].map(|a| match pool.slide.padding {
        Padding::Valid => 0,
        Padding::Explicit(around) => around[a].0,
        Padding::Same => {
            let total = (out[1 + a] as isize - 1) * pool.slide.strides[a] as isize + pool.window[a] as isize;
            (total - x[1 + a] as isize).max(0) as usize / 2
        }
    });
    for (i, &value) in values.iter().enumerate() {
        let (c, at) = (i % x[3], [i / x[3] / x[2] % x[1], i / x[3] % x[2]]);
        for (oy, ox) in (0..out[1] * out[2]).map(|o| (o / out[2], o % out[2])) {
            let inside = |axis: usize, o: usize| {
                let place = (at[axis] + before[axis]) as isize - (o * pool.slide.strides[axis]) as isize;
                (0..pool.window[axis] as isize).contains(&place)
            };
            if inside(0, oy) && inside(1, ox) {
                let image = i / (x[1] * x[2] * x[3]);
                all[((image * out[1] + oy) * out[2] + ox) * x[3] + c].push((i, value));
            }
        }
    }
    all
}

/// The place of the first largest of a window.
fn winner(window: &[(usize, f64)]) -> usize {
    let largest = window.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    window.iter().find(|p| p.1 == largest).expect("not empty").0
}

// --- PoolGrad

/// The gradient of [`Pool`]: to the first largest element of each window, or to all alike. Operands: dy and x,
/// whose elements are read for the maximum only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolGrad(pub Pool);

impl OpDef for PoolGrad {
    fn name(&self) -> &'static str {
        match self.0.kind {
            PoolKind::Max => "max_pool_grad",
            PoolKind::Avg => "average_pool_grad",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        self.0.check_output(self.name(), x[1], x[0])?;
        Ok(smallvec![x[1].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, t) = (cx.x(1), cx.dy()?);
        let d = match self.0.kind {
            PoolKind::Max => cx.g.add(PoolSelect(self.0), &[t, x])?,
            PoolKind::Avg => cx.g.add(self.0, &[t])?,
        };
        cx.give(0, d);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (kind, g) = (self.0.kind, self.0.geometry(&cx.shape(1), &cx.shape(0)));
        let (dtype, isa) = (cx.dtype(0), cx.isa);
        Lowering::kernel(self.name(), (g.y_len() * g.kh * g.kw) as u64, move |call| match (kind, dtype) {
            (PoolKind::Max, DType::F32) => {
                kernels::max_pool_grad(isa, &g, call.input(1), call.input(0), call.output(0));
            }
            (PoolKind::Avg, DType::F32) => kernels::avg_pool_grad(isa, &g, call.input(0), call.output(0)),
            _ => {
                let dy = call.wide::<f64>(0, dtype);
                let mut dx = vec![0.0; g.x_len()];
                if kind == PoolKind::Max {
                    let x = call.wide::<f64>(1, dtype);
                    each_window(&g, |o, under| dx[first_max(&x, under)] += dy[o]);
                } else {
                    each_window(&g, |o, under| {
                        under.iter().for_each(|&i| dx[i] += dy[o] / under.len() as f64)
                    });
                }
                call.fill_from(0, dtype, &dx);
            }
        })
    }

    fn reads(&self, i: usize) -> bool {
        i == 0 || self.0.kind == PoolKind::Max
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for (pool, shape) in cases() {
            for dtype in [DType::F32, DType::F64] {
                let op = PoolGrad(pool);
                let out = pool.infer(&[&Type::known(dtype, &shape)]).expect("the problem fits")[0].concrete();
                let inputs = vec![sample(dtype, &out, 2), sample(dtype, &shape, 1)];
                let name = format!("{op:?} {shape:?} {dtype}");
                let problem = Problem::close(name, op, inputs, 2e-6, move |v| {
                    let mut dx = vec![0.0; v[1].len()];
                    for (window, dy) in windows(&pool, &shape, &out, &v[1]).iter().zip(&v[0]) {
                        match pool.kind {
                            PoolKind::Max => dx[winner(window)] += dy,
                            PoolKind::Avg => window.iter().for_each(|p| dx[p.0] += dy / window.len() as f64),
                        }
                    }
                    dx
                });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
            }
        }
        let ties = Tensor::from_slice(&[1, 1, 4, 1], &[2.0f32, 2.0, 1.0, 1.0]);
        let dy = Tensor::from_slice(&[1, 1, 2, 1], &[5.0f32, 7.0]);
        let op = PoolGrad(Pool::new(PoolKind::Max, [1, 2], [1, 2], Padding::Valid));
        problems.push(Problem::close("max_pool_grad ties", op, vec![dy, ties], 0.0, |_| {
            vec![5.0, 0.0, 7.0, 0.0]
        }));
        problems
    }
}

// --- PoolSelect

/// The elements of operand 0 that stand where operand 1 has the first largest element of each window: the adjoint of
/// max pooling's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolSelect(pub Pool);

impl OpDef for PoolSelect {
    fn name(&self) -> &'static str {
        "max_pool_select"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        check_like(self.name(), x[0], x[1])?;
        Ok(smallvec![Type { dtype: x[1].dtype, dims: self.0.output(self.name(), x[1])? }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(1), cx.dy()?);
        let d = cx.g.add(PoolGrad(self.0), &[dy, x])?;
        cx.give(0, d);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (g, dtype) = (self.0.geometry(&cx.shape(1), &cx.out_shape(0)), cx.dtype(0));
        Lowering::kernel(self.name(), g.y_len() as u64, move |call| {
            let (from, x) = (call.wide::<f64>(0, dtype), call.wide::<f64>(1, dtype));
            call.fill_from(0, dtype, &select(&g, &from, &x));
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for (pool, shape) in cases().into_iter().filter(|(pool, _)| pool.kind == PoolKind::Max) {
            let out =
                pool.infer(&[&Type::known(DType::F32, &shape)]).expect("the problem fits")[0].concrete();
            let inputs = vec![sample(DType::F32, &shape, 2), sample(DType::F32, &shape, 1)];
            let op = PoolSelect(pool);
            let problem = Problem::close(format!("{op:?} {shape:?}"), op, inputs, 0.0, move |v| {
                windows(&pool, &shape, &out, &v[1]).iter().map(|window| v[0][winner(window)]).collect()
            });
            problems.push(problem.differentiate(&[0]));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_errors() {
        let pool = |padding| Pool::new(PoolKind::Avg, [2, 2], [2, 2], padding);
        let x = Type::new(DType::F32, [None, Some(5), None, Some(3)]);
        assert_eq!(show(&pool(Padding::Same).infer(&[&x]).unwrap()[0].dims), "(None, 3, None, 3)");
        let small = Type::known(DType::F32, &[1, 1, 4, 3]);
        let error = pool(Padding::Valid).infer(&[&small]).unwrap_err();
        assert!(error.message.contains("average_pool output height"), "{}", error.message);
        let error = pool(Padding::Explicit([(2, 0), (0, 0)])).infer(&[&x]).unwrap_err();
        assert_eq!(error.message, "padding must be smaller than the window");
        let ints = Type::known(DType::I32, &[1, 4, 4, 3]);
        assert_eq!(pool(Padding::Valid).infer(&[&ints]).unwrap_err().message, "does not take int32");
    }
}
