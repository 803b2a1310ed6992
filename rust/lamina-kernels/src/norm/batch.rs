//! Batch normalisation over `[rows, channels]`.

use super::{add_pairwise, load, store};
use crate::epilogue::Act;
use crate::partition::ranges;
use crate::reduce::mean_var;
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, scratch};

/// Rows handled in one go: a fixed number, so that sums have the same bits at any thread count.
const BLOCK: usize = 256;

/// Rows narrower than this are treated many at a time, as one wide row with repeated parameters.
const NARROW: usize = 16;

/// `y = act(x scale + shift)` with one scale and one shift a channel: normalisation with known
/// statistics, where `scale = gamma / sqrt(var + epsilon)` and `shift = beta - mean scale`.
///
/// # Panics
/// Where a slice's length does not fit `[rows, channels]`.
pub fn scale_shift(
    isa: Isa,
    x: &[f32],
    dims: [usize; 2],
    (scale, shift): (&[f32], &[f32]),
    act: Act,
    y: &mut [f32],
) {
    let [rows, channels] = dims;
    assert!(x.len() == rows * channels && y.len() == x.len(), "operand and result are not [rows, channels]");
    assert!(scale.len() == channels && shift.len() == channels, "scale and shift are not [channels]");
    widened(dims, [scale, shift], |width, [scale, shift]| {
        let y = SharedMut::new(y);
        let lines = x.len().div_ceil(width.max(1));
        ranges(lines, width, |units| {
            // SAFETY: ranges of lines do not overlap; the last line may be short.
            let y =
                unsafe { y.slice(units.start * width, x.len().min(units.end * width) - units.start * width) };
            let x = &x[units.start * width..][..y.len()];
            dispatch!(isa, affine, (x: &[f32], scale: &[f32], shift: &[f32], act: Act, y: &mut [f32]));
            if act.bounds().is_none() {
                act.apply(isa, y);
            }
        });
    });
}

/// Calls `body` with a line width and the parameters that belong to a line: a row of channels, or,
/// where that is narrow, `NARROW` rows.
fn widened<const N: usize>(
    [rows, channels]: [usize; 2],
    parameters: [&[f32]; N],
    body: impl FnOnce(usize, [&[f32]; N]),
) {
    if channels >= NARROW || rows < 2 * NARROW {
        return body(channels, parameters);
    }
    let width = channels * NARROW;
    scratch::with(N * width, |repeated: &mut [f32]| {
        for (wide, p) in repeated.chunks_mut(width.max(1)).zip(parameters) {
            wide.chunks_mut(channels.max(1)).for_each(|row| row.copy_from_slice(p));
        }
        let repeated = &*repeated;
        body(width, std::array::from_fn(|k| &repeated[k * width..(k + 1) * width]));
    });
}

#[inline(always)]
fn affine<S: Simd>(s: S, x: &[f32], scale: &[f32], shift: &[f32], act: Act, y: &mut [f32]) {
    let (low, high) = act.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let (low, high) = (s.splat(low), s.splat(high));
    let width = scale.len().max(1);
    assert!(shift.len() == scale.len());
    for (x, y) in x.chunks(width).zip(y.chunks_mut(width)) {
        let (n, x, y) = (x.len(), x.as_ptr(), y.as_mut_ptr());
        for j in (0..n).step_by(S::LANES) {
            // SAFETY: both chunks hold n elements, the parameters at least as many.
            unsafe {
                let (scale, shift) = (load(s, scale.as_ptr(), j, n), load(s, shift.as_ptr(), j, n));
                let v = s.fma(load(s, x, j, n), scale, shift);
                store(s, y, j, n, s.min_fast(high, s.max_fast(low, v)));
            }
        }
    }
}

/// Batch normalisation in training: `y = act((x - mean) gamma / sqrt(var + epsilon) + beta)` with the
/// mean and variance (divided by the count) of every channel of `x: [rows, channels]`, which it writes
/// (Ioffe and Szegedy, 2015). `gamma` is 1 and `beta` 0 where absent.
///
/// Two passes over memory.
///
/// # Panics
/// Where a slice's length does not fit `[rows, channels]`.
pub fn batch_norm(
    isa: Isa,
    x: &[f32],
    dims: [usize; 2],
    (gamma, beta): (Option<&[f32]>, Option<&[f32]>),
    epsilon: f32,
    act: Act,
    y: &mut [f32],
    (mean, var): (&mut [f32], &mut [f32]),
) {
    let [rows, channels] = dims;
    for parameter in [gamma, beta] {
        assert!(parameter.is_none_or(|p| p.len() == channels), "a parameter has one number a channel");
    }
    mean_var(isa, x, [1, rows, channels], mean, var);
    scratch::with(2 * channels, |affine: &mut [f32]| {
        let (scale, shift) = affine.split_at_mut(channels);
        for c in 0..channels {
            scale[c] = gamma.map_or(1.0, |p| p[c]) / (var[c] + epsilon).sqrt();
            shift[c] = beta.map_or(0.0, |p| p[c]) - mean[c] * scale[c];
        }
        scale_shift(isa, x, dims, (scale, shift), act, y);
    });
}

/// Gradients of [`batch_norm`] (with `act` linear) from its operand and the `mean` and `var` it wrote.
///
/// With `r = 1 / sqrt(var + epsilon)` and `h = (x - mean) r`: `dbeta` is the sum of `dy` over rows,
/// `dgamma` that of `dy h`, and `dx = gamma r (dy - dbeta / rows - h dgamma / rows)`.
/// Two passes over memory.
///
/// # Panics
/// Where a slice's length does not fit `[rows, channels]`.
pub fn batch_norm_grad(
    isa: Isa,
    x: &[f32],
    dy: &[f32],
    dims: [usize; 2],
    gamma: Option<&[f32]>,
    (mean, var, epsilon): (&[f32], &[f32], f32),
    dx: &mut [f32],
    (dgamma, dbeta): (&mut [f32], &mut [f32]),
) {
    let [rows, channels] = dims;
    let fits = |len: usize| len == rows * channels;
    assert!(fits(x.len()) && fits(dy.len()) && fits(dx.len()), "operands and dx are not [rows, channels]");
    assert!(gamma.is_none_or(|p| p.len() == channels), "gamma is not [channels]");
    assert!(mean.len() == channels && var.len() == channels, "statistics are not [channels]");
    assert!(dgamma.len() == channels && dbeta.len() == channels, "parameter gradients are not [channels]");
    if rows == 0 {
        // A sum over nothing, though the statistics of nothing are NaN.
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        return;
    }
    // First pass: the two sums of every block of lines.
    widened(dims, [mean], |width, [mean]| {
        let lines = x.len().div_ceil(width.max(1));
        let blocks = lines.div_ceil(BLOCK).max(1);
        scratch::with(blocks * 2 * width, |partials: &mut [f32]| {
            let shared = SharedMut::new(partials);
            ranges(blocks, BLOCK.min(lines) * width * 2, |units| {
                for block in units {
                    let range = x.len().min(block * BLOCK * width)..x.len().min((block + 1) * BLOCK * width);
                    let (x, dy) = (&x[range.clone()], &dy[range]);
                    // SAFETY: each block has partial sums of its own.
                    let sums = unsafe { shared.slice(block * 2 * width, 2 * width) };
                    dispatch!(isa, sums_of_lines, (x: &[f32], dy: &[f32], mean: &[f32], sums: &mut [f32]));
                }
            });
            add_pairwise(partials, 2 * width);
            // Rows that shared a wide line.
            for (sums, total) in partials.chunks_mut(width.max(1)).zip([&mut *dgamma, &mut *dbeta]) {
                add_pairwise(sums, channels.max(1));
                total.copy_from_slice(&sums[..channels]);
            }
        });
    });
    // dx = dy scale + (x - mean) slope + offset
    scratch::with(3 * channels, |coefficients: &mut [f32]| {
        let (scale, rest) = coefficients.split_at_mut(channels);
        let (slope, offset) = rest.split_at_mut(channels);
        for c in 0..channels {
            let r = 1.0 / (var[c] + epsilon).sqrt();
            dgamma[c] *= r;
            scale[c] = gamma.map_or(1.0, |p| p[c]) * r;
            slope[c] = -scale[c] * r * dgamma[c] / rows as f32;
            offset[c] = -scale[c] * dbeta[c] / rows as f32;
        }
        widened(dims, [mean, scale, slope, offset], |width, coefficients| {
            let dx = SharedMut::new(dx);
            ranges(x.len().div_ceil(width.max(1)), width * 2, |units| {
                let range = units.start * width..x.len().min(units.end * width);
                // SAFETY: ranges of lines do not overlap.
                let dx = unsafe { dx.slice(range.start, range.len()) };
                let (x, dy) = (&x[range.clone()], &dy[range]);
                dispatch!(isa, input_gradient, (
                    x: &[f32],
                    dy: &[f32],
                    coefficients: [&[f32]; 4],
                    dx: &mut [f32],
                ))
            });
        });
    });
}

/// Per column: the sum of `dy (x - mean)`, then the sum of `dy`, over lines (the last may be short).
#[inline(always)]
fn sums_of_lines<S: Simd>(s: S, x: &[f32], dy: &[f32], mean: &[f32], sums: &mut [f32]) {
    // Lines added up in registers before their sum goes to memory.
    const GROUP: usize = 4;
    let width = mean.len().max(1);
    assert!(x.len() == dy.len() && sums.len() >= 2 * mean.len());
    sums.fill(0.0);
    let (products, plain) = sums.split_at_mut(mean.len());
    let (products, plain, mean) = (products.as_mut_ptr(), plain.as_mut_ptr(), mean.as_ptr());
    let mut at = 0;
    while at < x.len() {
        let whole = at + GROUP * width <= x.len();
        let (group, n) = if whole { (GROUP, width) } else { (1, width.min(x.len() - at)) };
        let (x, dy) = (x[at..].as_ptr(), dy[at..].as_ptr());
        for j in (0..n).step_by(S::LANES) {
            // SAFETY: `group` lines of n elements begin here, and j < n <= width.
            unsafe {
                let centre = load(s, mean, j, n);
                let (mut product, mut sum) = (load(s, products, j, n), load(s, plain, j, n));
                if group == GROUP {
                    let d: [S::V; GROUP] = std::array::from_fn(
                        #[inline(always)]
                        |k| load(s, dy.add(k * width), j, n),
                    );
                    let p: [S::V; GROUP] = std::array::from_fn(
                        #[inline(always)]
                        |k| s.mul(d[k], s.sub(load(s, x.add(k * width), j, n), centre)),
                    );
                    sum = s.add(sum, s.add(s.add(d[0], d[1]), s.add(d[2], d[3])));
                    product = s.add(product, s.add(s.add(p[0], p[1]), s.add(p[2], p[3])));
                } else {
                    let d = load(s, dy, j, n);
                    sum = s.add(sum, d);
                    product = s.fma(d, s.sub(load(s, x, j, n), centre), product);
                }
                store(s, products, j, n, product);
                store(s, plain, j, n, sum);
            }
        }
        at += group * n;
    }
}

#[inline(always)]
fn input_gradient<S: Simd>(s: S, x: &[f32], dy: &[f32], coefficients: [&[f32]; 4], dx: &mut [f32]) {
    let width = coefficients[0].len().max(1);
    assert!(x.len() == dy.len() && coefficients.iter().all(|c| c.len() == coefficients[0].len()));
    let [mean, scale, slope, offset] = coefficients.map(|c| c.as_ptr());
    for ((x, dy), dx) in x.chunks(width).zip(dy.chunks(width)).zip(dx.chunks_mut(width)) {
        let n = x.len();
        let (x, dy, dx) = (x.as_ptr(), dy.as_ptr(), dx.as_mut_ptr());
        for j in (0..n).step_by(S::LANES) {
            // SAFETY: the chunks hold n elements, the coefficients at least as many.
            unsafe {
                let deviation = s.sub(load(s, x, j, n), load(s, mean, j, n));
                let v = s.fma(deviation, load(s, slope, j, n), load(s, offset, j, n));
                store(s, dx, j, n, s.fma(load(s, dy, j, n), load(s, scale, j, n), v));
            }
        }
    }
}
