//! Layer and root-mean-square normalisation.

use super::{add_pairwise, load, store};
use crate::partition::ranges;
use crate::reduce::row_moments;
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, scratch};
use std::ops::Range;

/// What [`layer_norm`] computes.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// Scale of each feature; 1 where absent.
    pub gamma: Option<&'a [f32]>,
    /// Shift of each feature; 0 where absent.
    pub beta: Option<&'a [f32]>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Divide by the root of the mean square and do not subtract the mean (Zhang and Sennrich, 2019).
    pub rms: bool,
}

impl LayerNorm<'_> {
    fn check(&self, features: usize) {
        for parameter in [self.gamma, self.beta] {
            assert!(parameter.is_none_or(|p| p.len() == features), "a parameter has one number a feature");
        }
    }
}

/// `y = (x - mean) rstd gamma + beta` for each row of `x: [rows, features]`, with
/// `rstd = 1 / sqrt(var + epsilon)` (Ba, Kiros and Hinton, 2016).
///
/// Writes every row's `mean` (0 with `rms`) and `rstd`, which the gradient needs.
///
/// # Panics
/// Where a slice's length does not fit `[rows, features]`.
pub fn layer_norm(
    isa: Isa,
    x: &[f32],
    dims: [usize; 2],
    norm: LayerNorm<'_>,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let [rows, features] = dims;
    assert!(x.len() == rows * features && y.len() == x.len(), "operand and result are not [rows, features]");
    assert!(mean.len() == rows && rstd.len() == rows, "there is not one mean and one rstd a row");
    norm.check(features);
    let (y, mean, rstd) = (SharedMut::new(y), SharedMut::new(mean), SharedMut::new(rstd));
    ranges(rows, 2 * features, |units| {
        // SAFETY: ranges of rows do not overlap.
        let (y, mean, rstd) = unsafe {
            (
                y.slice(units.start * features, units.len() * features),
                mean.slice(units.start, units.len()),
                rstd.slice(units.start, units.len()),
            )
        };
        let x = &x[units.start * features..units.end * features];
        dispatch!(isa, forward, (
            x: &[f32],
            features: usize,
            norm: LayerNorm<'_>,
            y: &mut [f32],
            mean: &mut [f32],
            rstd: &mut [f32],
        ))
    });
}

#[inline(always)]
fn forward<S: Simd>(
    s: S,
    x: &[f32],
    n: usize,
    norm: LayerNorm<'_>,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let gamma = norm.gamma.map(|p| p.as_ptr());
    let beta = norm.beta.map(|p| p.as_ptr());
    for (i, (mean, rstd)) in mean.iter_mut().zip(rstd).enumerate() {
        let row = &x[i * n..(i + 1) * n];
        let (centre, squares) = row_moments(s, row, !norm.rms);
        *mean = centre;
        *rstd = 1.0 / (squares / n as f32 + norm.epsilon).sqrt();
        let (row, out) = (row.as_ptr(), y[i * n..(i + 1) * n].as_mut_ptr());
        let (centre, scale) = (s.splat(centre), s.splat(*rstd));
        for j in (0..n).step_by(S::LANES) {
            // SAFETY: rows and parameters hold n elements, and j < n.
            unsafe {
                let mut v = s.mul(s.sub(load(s, row, j, n), centre), scale);
                if let Some(gamma) = gamma {
                    v = s.mul(v, load(s, gamma, j, n));
                }
                if let Some(beta) = beta {
                    v = s.add(v, load(s, beta, j, n));
                }
                store(s, out, j, n, v);
            }
        }
    }
}

/// Rows whose share of the parameter gradients is summed in one go.
const BLOCK: usize = 64;

/// Gradients of [`layer_norm`] from its operand and the `mean` and `rstd` it wrote.
///
/// With `h = (x - mean) rstd` and `g = dy gamma`: `dx = rstd (g - mean(g) - h mean(g h))`, where the
/// `mean(g)` term is absent for `rms`; `dgamma` is the sum of `dy h` over rows, `dbeta` that of `dy`.
/// `norm.beta` and `norm.epsilon` play no part.
///
/// # Panics
/// Where a slice's length does not fit `[rows, features]`.
pub fn layer_norm_grad(
    isa: Isa,
    x: &[f32],
    dy: &[f32],
    dims: [usize; 2],
    norm: LayerNorm<'_>,
    (mean, rstd): (&[f32], &[f32]),
    dx: &mut [f32],
    (dgamma, dbeta): (&mut [f32], &mut [f32]),
) {
    let [rows, features] = dims;
    let fits = |len: usize| len == rows * features;
    assert!(fits(x.len()) && fits(dy.len()) && fits(dx.len()), "operands and dx are not [rows, features]");
    assert!(mean.len() == rows && rstd.len() == rows, "there is not one mean and one rstd a row");
    assert!(dgamma.len() == features && dbeta.len() == features, "parameter gradients are not [features]");
    norm.check(features);
    let blocks = rows.div_ceil(BLOCK).max(1);
    scratch::with(blocks * 2 * features, |partials: &mut [f32]| {
        let (dx, shared) = (SharedMut::new(dx), SharedMut::new(partials));
        ranges(blocks, BLOCK.min(rows) * features * 4, |units| {
            for block in units {
                let (first, end) = (block * BLOCK, rows.min((block + 1) * BLOCK));
                // SAFETY: blocks of rows, and their partial sums, do not overlap.
                let (dx, sums) = unsafe {
                    (
                        dx.slice(first * features, (end - first) * features),
                        shared.slice(block * 2 * features, 2 * features),
                    )
                };
                let range = first..end;
                dispatch!(isa, backward, (
                    x: &[f32],
                    dy: &[f32],
                    features: usize,
                    norm: LayerNorm<'_>,
                    mean: &[f32],
                    rstd: &[f32],
                    range: Range<usize>,
                    dx: &mut [f32],
                    sums: &mut [f32],
                ));
            }
        });
        add_pairwise(partials, 2 * features);
        dgamma.copy_from_slice(&partials[..features]);
        dbeta.copy_from_slice(&partials[features..2 * features]);
    });
}

#[inline(always)]
fn backward<S: Simd>(
    s: S,
    x: &[f32],
    dy: &[f32],
    n: usize,
    norm: LayerNorm<'_>,
    mean: &[f32],
    rstd: &[f32],
    rows: Range<usize>,
    dx: &mut [f32],
    sums: &mut [f32],
) {
    sums.fill(0.0);
    let (dgamma, dbeta) = sums.split_at_mut(n);
    let (dgamma, dbeta) = (dgamma.as_mut_ptr(), dbeta.as_mut_ptr());
    let gamma = norm.gamma.map(|p| p.as_ptr());
    for (i, r) in rows.enumerate() {
        let (x, dy) = (x[r * n..(r + 1) * n].as_ptr(), dy[r * n..(r + 1) * n].as_ptr());
        let out = dx[i * n..(i + 1) * n].as_mut_ptr();
        let centre = s.splat(if norm.rms { 0.0 } else { mean[r] });
        let scale = s.splat(rstd[r]);
        let (mut sum_g, mut sum_gh) = (s.zero(), s.zero());
        // SAFETY: every pointer is to n elements, and j < n. Lanes beyond n: dy is 0 there, so they add
        // nothing.
        unsafe {
            for j in (0..n).step_by(S::LANES) {
                let d = load(s, dy, j, n);
                let h = s.mul(s.sub(load(s, x, j, n), centre), scale);
                let dh = s.mul(d, h);
                store(s, dgamma, j, n, s.add(load(s, dgamma, j, n), dh));
                store(s, dbeta, j, n, s.add(load(s, dbeta, j, n), d));
                let (g, gh) = match gamma {
                    Some(gamma) => {
                        let gamma = load(s, gamma, j, n);
                        (s.mul(d, gamma), s.mul(dh, gamma))
                    }
                    None => (d, dh),
                };
                sum_g = s.add(sum_g, g);
                sum_gh = s.add(sum_gh, gh);
            }
            let mean_g = s.splat(if norm.rms { 0.0 } else { s.sum(sum_g) / n as f32 });
            let mean_gh = s.splat(-s.sum(sum_gh) / n as f32);
            for j in (0..n).step_by(S::LANES) {
                let d = load(s, dy, j, n);
                let h = s.mul(s.sub(load(s, x, j, n), centre), scale);
                let g = gamma.map_or(d, |gamma| s.mul(d, load(s, gamma, j, n)));
                store(s, out, j, n, s.mul(scale, s.fma(h, mean_gh, s.sub(g, mean_g))));
            }
        }
    }
}
