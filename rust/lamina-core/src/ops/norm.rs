//! Normalisations. Layer and RMS normalisation take their statistics over the trailing axes of each sample, batch
//! normalisation over everything but the channels; otherwise they are one op.

use super::movement::Reshape;
use super::reduce::{AxisSize, Kind, Reduce};
use super::softmax::check_like;
use super::*;
use lamina_kernels::elementwise::Unary as U;
use lamina_kernels::epilogue::Act;
use lamina_kernels::norm::{self as kernels, LayerNorm};
use std::ops::Range;

/// What statistics are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// So many trailing axes. The second statistic is `1 / sqrt(variance + epsilon)`.
    Trailing(usize),
    /// All axes but the last. The second statistic is the (biased) variance.
    Batch,
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, and the two statistics. Operands: x, then gamma and
/// beta where present, which run along the axes that the statistics do not (batch) or do (trailing).
///
/// Layer: Ba, Kiros & Hinton 2016. RMS: Zhang & Sennrich 2019. Batch, in training: Ioffe & Szegedy 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Norm {
    /// What statistics are taken over.
    pub over: Over,
    /// Added to the variance.
    pub epsilon: Real,
    /// Takes the mean to be 0.
    pub rms: bool,
    /// Whether there is a factor.
    pub gamma: bool,
    /// Whether there is a summand.
    pub beta: bool,
}

/// The names of the parameters that are present.
fn parameters(gamma: bool, beta: bool) -> impl Iterator<Item = &'static str> {
    [(gamma, "gamma"), (beta, "beta")].into_iter().filter(|p| p.0).map(|p| p.1)
}

fn check_parameter(name: &str, argument: &str, ty: &Type, x: &Type, dims: &[Dim]) -> Result<(), ShapeError> {
    let wanted = Type { dtype: x.dtype, dims: dims.into() };
    check_like(name, ty, &wanted).map_err(|_| {
        let message = format!("{argument} is a {} of shape {}", ty.dtype, show(&ty.dims));
        let error = ShapeError::new(name, message).argument(argument).got(&x.dims).got(&ty.dims);
        error.expected(format!("a {} of shape {}", x.dtype, show(dims)))
    })
}

impl Norm {
    /// Layer normalisation, or RMS normalisation, over so many trailing axes.
    pub fn layer(axes: usize, epsilon: f64, rms: bool, gamma: bool, beta: bool) -> Norm {
        Norm { over: Over::Trailing(axes), epsilon: Real::new(epsilon), rms, gamma, beta }
    }

    /// Batch normalisation by the batch's own statistics, channels last.
    pub fn batch(epsilon: f64, gamma: bool, beta: bool) -> Norm {
        Norm { over: Over::Batch, epsilon: Real::new(epsilon), rms: false, gamma, beta }
    }

    /// The first axis that gamma and beta run along.
    fn split(&self, rank: usize) -> usize {
        match self.over {
            Over::Trailing(axes) => rank - axes,
            Over::Batch => rank - 1,
        }
    }

    /// The axes that statistics are taken over.
    fn axes(&self, rank: usize) -> Range<usize> {
        match self.over {
            Over::Trailing(axes) => rank - axes..rank,
            Over::Batch => 0..rank - 1,
        }
    }

    /// The axes of a statistic.
    fn stat_dims(&self, x: &Type) -> Dims {
        let axes = self.axes(x.rank());
        (0..x.rank()).filter(|i| !axes.contains(i)).map(|i| x.dims[i]).collect()
    }

    fn check(&self, name: &str, x: &Type) -> Result<(), ShapeError> {
        if !x.dtype.is_float() {
            return Err(ShapeError::new(name, format!("needs a float operand, got {}", x.dtype)).got(&x.dims));
        }
        let (least, axes) = match self.over {
            Over::Trailing(axes) => (axes.max(1), axes),
            Over::Batch => (2, 1),
        };
        if x.rank() < least || axes == 0 {
            let message = format!("expected ndim>={least}, found ndim={}", x.rank());
            return Err(ShapeError::new(name, message).argument("inputs").got(&x.dims));
        }
        Ok(())
    }

    /// A statistic in a shape that broadcasts over x.
    fn spread(&self, g: &mut Graph, stat: Value, rank: usize) -> Result<Value, ShapeError> {
        match self.over {
            Over::Trailing(_) => {
                let axes: SmallVec<[usize; 4]> = self.axes(rank).collect();
                g.add(Reshape::insert_axes(rank - axes.len(), &axes), &[stat])
            }
            Over::Batch => Ok(stat),
        }
    }

    /// x without its mean, where that is taken.
    fn centred(&self, g: &mut Graph, x: Value, mean: Value) -> Result<Value, ShapeError> {
        if self.rms {
            return Ok(x);
        }
        let mean = self.spread(g, mean, g.ty(x).rank())?;
        g.sub(x, mean)
    }

    fn view(&self, shape: &[usize]) -> View {
        let (lead, trail) = shape.split_at(self.split(shape.len()));
        View { rows: lead.iter().product(), cols: trail.iter().product(), by_row: self.over != Over::Batch }
    }

    /// `1 / sqrt(variance + epsilon)` from the second statistic.
    fn rstd(&self, stat: f64) -> f64 {
        match self.over {
            Over::Trailing(_) => stat,
            Over::Batch => 1.0 / (stat + self.epsilon.get()).sqrt(),
        }
    }
}

/// x as a matrix whose columns have the parameters; statistics belong to rows or to columns.
#[derive(Clone, Copy, Debug)]
struct View {
    rows: usize,
    cols: usize,
    by_row: bool,
}

impl View {
    fn stats(&self) -> usize {
        if self.by_row { self.rows } else { self.cols }
    }

    /// Elements behind one statistic.
    fn count(&self) -> f64 {
        if self.by_row { self.cols as f64 } else { self.rows as f64 }
    }

    /// Calls `visit` with every element, its statistic and its parameter.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for (row, col) in (0..self.rows * self.cols).map(|i| (i / self.cols, i % self.cols)) {
            visit(row * self.cols + col, if self.by_row { row } else { col }, col);
        }
    }
}

impl OpDef for Norm {
    fn name(&self) -> &'static str {
        match self.over {
            Over::Trailing(_) if self.rms => "rms_normalization",
            Over::Trailing(_) => "layer_normalization",
            Over::Batch => "batch_normalization",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let ty = x[0];
        self.check(self.name(), ty)?;
        for (parameter, argument) in x[1..].iter().zip(parameters(self.gamma, self.beta)) {
            check_parameter(self.name(), argument, parameter, ty, &ty.dims[self.split(ty.rank())..])?;
        }
        let stat = Type { dtype: ty.dtype, dims: self.stat_dims(ty) };
        Ok(smallvec![ty.clone(), stat.clone(), stat])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, mean, stat) = (cx.x(0), cx.y(1), cx.y(2));
        let rank = cx.g.ty(x).rank();
        let mut dx = None;
        if let Some(dy) = cx.cotangents[0] {
            let mut operands: SmallVec<[Value; 5]> = smallvec![dy, x, mean, stat];
            if self.gamma {
                operands.push(cx.x(1));
            }
            let given = cx.g.add_all(NormGrad(*self), &operands)?;
            dx = Some(given[0]);
            if self.gamma {
                cx.give(1, given[1]);
            }
            if self.beta {
                cx.give(1 + self.gamma as usize, given[2]);
            }
        }
        // The statistics are results too; nobody looks at their cotangents in an ordinary training step.
        let g = &mut *cx.g;
        let count = g.add(AxisSize(self.axes(rank).collect()), &[x])?;
        let mut more = |g: &mut Graph, d: Value| {
            dx = Some(match dx {
                Some(before) => g.sum(before, d)?,
                None => g.broadcast_like(d, x)?,
            });
            Ok(())
        };
        if let (Some(d), false) = (cx.cotangents[1], self.rms) {
            let d = self.spread(g, d, rank)?;
            let d = g.div(d, count)?;
            more(g, d)?;
        }
        if let Some(d) = cx.cotangents[2] {
            let slope = match self.over {
                Over::Batch => g.scale(d, 2.0)?,
                Over::Trailing(_) => {
                    let square = g.unary(U::Square, stat)?;
                    let cube = g.mul(square, stat)?;
                    let d = g.mul(d, cube)?;
                    g.neg(d)?
                }
            };
            let slope = g.div(slope, count)?;
            let (slope, centred) = (self.spread(g, slope, rank)?, self.centred(g, x, mean)?);
            let d = g.mul(slope, centred)?;
            more(g, d)?;
        }
        if let Some(dx) = dx {
            cx.give(0, dx);
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], _: &[Type]) -> bool {
        let first = match self.over {
            Over::Trailing(_) => self.split(inputs[0].rank()) > 0,
            Over::Batch => false,
        };
        first && rows[0] && rows[1..].iter().all(|r| !r)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (norm, view, dtype, isa) = (*self, self.view(&cx.shape(0)), cx.dtype(0), cx.isa);
        let (gamma, beta) = (self.gamma.then_some(1), self.beta.then_some(1 + self.gamma as usize));
        let dims = [view.rows, view.cols];
        Lowering::kernel(self.name(), 8 * cx.inputs[0].len() as u64, move |call| {
            if dtype == DType::F32 {
                let x = call.input(0);
                let (gamma, beta) = (gamma.map(|i| call.input(i)), beta.map(|i| call.input(i)));
                let (epsilon, rms) = (norm.epsilon.get() as f32, norm.rms);
                let (y, mean, stat) = call.output3();
                return match norm.over {
                    Over::Trailing(_) => {
                        let norm = LayerNorm { gamma, beta, epsilon, rms };
                        kernels::layer_norm(isa, x, dims, norm, y, mean, stat);
                    }
                    Over::Batch => {
                        let (parameters, stats) = ((gamma, beta), (mean, stat));
                        kernels::batch_norm(isa, x, dims, parameters, epsilon, Act::Linear, y, stats);
                    }
                };
            }
            let mut x = call.wide::<f64>(0, dtype);
            let (gamma, beta) =
                (gamma.map(|i| call.wide::<f64>(i, dtype)), beta.map(|i| call.wide::<f64>(i, dtype)));
            let (mut mean, mut variance) = (vec![0.0; view.stats()], vec![0.0; view.stats()]);
            if !norm.rms {
                view.each(|i, s, _| mean[s] += x[i] / view.count());
            }
            view.each(|i, s, _| variance[s] += (x[i] - mean[s]).powi(2) / view.count());
            let rstd: Vec<f64> = variance.iter().map(|v| 1.0 / (v + norm.epsilon.get()).sqrt()).collect();
            view.each(|i, s, p| {
                let h = (x[i] - mean[s]) * rstd[s];
                x[i] = h * gamma.as_ref().map_or(1.0, |g| g[p]) + beta.as_ref().map_or(0.0, |b| b[p]);
            });
            let stat = if norm.over == Over::Batch { variance } else { rstd };
            [x, mean, stat].iter().enumerate().for_each(|(i, out)| call.fill_from(i, dtype, out));
        })
    }

    fn problems() -> Vec<Problem> {
        problems::forward()
    }
}

// --- NormGrad

/// The gradient of [`Norm`] from its statistics: with `h = (x - mean) rstd` and `g = dy gamma`,
/// `dx = rstd (g - mean(g) - h mean(g h))`, `dgamma = sum(dy h)`, `dbeta = sum(dy)`, in this order.
/// Operands: dy, x, both statistics, gamma where present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NormGrad(pub Norm);

impl OpDef for NormGrad {
    fn name(&self) -> &'static str {
        match self.0.over {
            Over::Trailing(_) if self.0.rms => "rms_normalization_grad",
            Over::Trailing(_) => "layer_normalization_grad",
            Over::Batch => "batch_normalization_grad",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let (norm, name, ty) = (self.0, self.name(), x[1]);
        norm.check(name, ty)?;
        check_like(name, x[0], ty)?;
        let stat = Type { dtype: ty.dtype, dims: norm.stat_dims(ty) };
        check_like(name, x[2], &stat)?;
        check_like(name, x[3], &stat)?;
        let dims = &ty.dims[norm.split(ty.rank())..];
        if norm.gamma {
            check_parameter(name, "gamma", x[4], ty, dims)?;
        }
        let parameter = Type::new(ty.dtype, dims.iter().copied());
        Ok(smallvec![ty.clone(), parameter.clone(), parameter])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let norm = self.0;
        cx.through(|g, v| {
            let (dy, x, mean, stat) = (v[0], v[1], v[2], v[3]);
            let rank = g.ty(x).rank();
            let rstd = match norm.over {
                Over::Trailing(_) => stat,
                Over::Batch => {
                    let shifted = g.offset(stat, norm.epsilon.get())?;
                    g.unary(U::Rsqrt, shifted)?
                }
            };
            let rstd = norm.spread(g, rstd, rank)?;
            let centred = norm.centred(g, x, mean)?;
            let h = g.mul(centred, rstd)?;
            let d = if norm.gamma { g.mul(dy, v[4])? } else { dy };
            let average = |g: &mut Graph, v: Value| {
                g.add(Reduce { kind: Kind::Mean, axes: norm.axes(rank).collect(), keepdims: true }, &[v])
            };
            let product = g.mul(d, h)?;
            let along = average(g, product)?;
            let along = g.mul(h, along)?;
            let mut dx = g.sub(d, along)?;
            if !norm.rms {
                let level = average(g, d)?;
                dx = g.sub(dx, level)?;
            }
            let dx = g.mul(dx, rstd)?;
            let total = |g: &mut Graph, v: Value| {
                g.add(
                    Reduce { kind: Kind::Sum, axes: (0..norm.split(rank)).collect(), keepdims: false },
                    &[v],
                )
            };
            let product = g.mul(dy, h)?;
            Ok(smallvec![dx, total(g, product)?, total(g, dy)?])
        })
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (norm, view, dtype, isa) = (self.0, self.0.view(&cx.shape(1)), cx.dtype(1), cx.isa);
        let dims = [view.rows, view.cols];
        Lowering::kernel(self.name(), 12 * cx.inputs[1].len() as u64, move |call| {
            if dtype == DType::F32 {
                let [dy, x, mean, stat] = [0, 1, 2, 3].map(|i| call.input(i));
                let gamma = norm.gamma.then(|| call.input(4));
                let (epsilon, rms) = (norm.epsilon.get() as f32, norm.rms);
                let (dx, dgamma, dbeta) = call.output3();
                return match norm.over {
                    Over::Trailing(_) => {
                        let norm = LayerNorm { gamma, beta: None, epsilon, rms };
                        kernels::layer_norm_grad(isa, x, dy, dims, norm, (mean, stat), dx, (dgamma, dbeta));
                    }
                    Over::Batch => {
                        let (stats, parameters) = ((mean, stat, epsilon), (dgamma, dbeta));
                        kernels::batch_norm_grad(isa, x, dy, dims, gamma, stats, dx, parameters);
                    }
                };
            }
            let [dy, x, mut mean, stat] = [0, 1, 2, 3].map(|i| call.wide::<f64>(i, dtype));
            let gamma = norm.gamma.then(|| call.wide::<f64>(4, dtype));
            if norm.rms {
                mean.fill(0.0);
            }
            let rstd: Vec<f64> = stat.iter().map(|s| norm.rstd(*s)).collect();
            let h = |i: usize, s: usize| (x[i] - mean[s]) * rstd[s];
            let d = |i: usize, p: usize| dy[i] * gamma.as_ref().map_or(1.0, |g| g[p]);
            let (mut level, mut along) = (vec![0.0; view.stats()], vec![0.0; view.stats()]);
            let (mut dgamma, mut dbeta) = (vec![0.0; view.cols], vec![0.0; view.cols]);
            view.each(|i, s, p| {
                if !norm.rms {
                    level[s] += d(i, p) / view.count();
                }
                along[s] += d(i, p) * h(i, s) / view.count();
                dgamma[p] += dy[i] * h(i, s);
                dbeta[p] += dy[i];
            });
            let mut dx = vec![0.0; x.len()];
            view.each(|i, s, p| dx[i] = rstd[s] * (d(i, p) - level[s] - h(i, s) * along[s]));
            [dx, dgamma, dbeta].iter().enumerate().for_each(|(i, out)| call.fill_from(i, dtype, out));
        })
    }

    fn problems() -> Vec<Problem> {
        problems::backward()
    }
}

// --- BatchNormInference

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` with given statistics, which belong to one axis. Operands:
/// x, mean, variance, then gamma and beta where present.
///
/// It never stays in a graph: it is `x * scale + shift`, which fuses, and where the statistics do not change scale
/// and shift are computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchNormInference {
    /// The channels.
    pub axis: usize,
    /// Added to the variance.
    pub epsilon: Real,
    /// Whether there is a factor.
    pub gamma: bool,
    /// Whether there is a summand.
    pub beta: bool,
}

impl BatchNormInference {
    fn compose(&self, g: &mut Graph, v: &[Value]) -> Result<Value, ShapeError> {
        let (x, mean, variance) = (v[0], v[1], v[2]);
        let shifted = g.offset(variance, self.epsilon.get())?;
        let mut scale = g.unary(U::Rsqrt, shifted)?;
        if self.gamma {
            scale = g.mul(scale, v[3])?;
        }
        let level = g.mul(mean, scale)?;
        let shift = if self.beta { g.sub(v[3 + self.gamma as usize], level)? } else { g.neg(level)? };
        let behind: SmallVec<[usize; 4]> = (1..g.ty(x).rank() - self.axis).collect();
        let (scale, shift) = match behind.is_empty() {
            true => (scale, shift),
            false => {
                let spread = Reshape::insert_axes(1, &behind);
                (g.add(spread.clone(), &[scale])?, g.add(spread, &[shift])?)
            }
        };
        let scaled = g.mul(x, scale)?;
        g.sum(scaled, shift)
    }
}

impl OpDef for BatchNormInference {
    fn name(&self) -> &'static str {
        "batch_normalization"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let (name, ty) = (self.name(), x[0]);
        axis_index(name, self.axis as i64, ty.rank())?;
        if !ty.dtype.is_float() {
            return Err(
                ShapeError::new(name, format!("needs a float operand, got {}", ty.dtype)).got(&ty.dims)
            );
        }
        let names = ["mean", "variance"].into_iter().chain(parameters(self.gamma, self.beta));
        for (parameter, argument) in x[1..].iter().zip(names) {
            check_parameter(name, argument, parameter, ty, &[ty.dims[self.axis]])?;
        }
        Ok(smallvec![ty.clone()])
    }

    fn simplify(&self, g: &mut Graph, v: &[Value]) -> Option<Value> {
        let fits = self.infer(&v.iter().map(|v| g.ty(*v)).collect::<SmallVec<[&Type; 5]>>()).is_ok();
        if fits { self.compose(g, v).ok() } else { None }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        cx.through(|g, v| Ok(smallvec![self.compose(g, v)?]))
    }

    fn keeps_rows(&self, rows: &[bool], _: &[&Type], _: &[Type]) -> bool {
        rows[0] && self.axis != 0 && rows[1..].iter().all(|r| !r)
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("becomes a product and a sum when it is added to a graph")
    }

    fn problems() -> Vec<Problem> {
        problems::inference()
    }
}

mod problems;
