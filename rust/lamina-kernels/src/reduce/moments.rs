//! Mean and variance together, in one pass over memory.

use super::fold::{self, NARROW, Sum, is_narrow, load_filled};
use super::{Layout, PANEL, ROW_BLOCK, SharedMut, Unit, check, row_block};
use crate::partition::ranges;
use crate::simd::Simd;
use crate::{Isa, dispatch, scratch};
use std::ops::Range;

/// Mean and variance (divided by the count, not one less) over the middle axis of
/// `x: [outer, reduce, inner]`, each `[outer, inner]`; NaN for none.
///
/// Each block's mean and sum of squared deviations is taken while the block is in cache, and blocks
/// are combined by the formula of Chan, Golub and LeVeque (1979): as stable as two passes, one read.
///
/// # Panics
/// Where a slice's length is not what `dims` says.
pub fn mean_var(isa: Isa, x: &[f32], dims: [usize; 3], mean: &mut [f32], var: &mut [f32]) {
    check(x, dims, mean.len());
    check(x, dims, var.len());
    let [outer, reduce, inner] = dims;
    if reduce == 0 || mean.is_empty() {
        mean.fill(f32::NAN);
        var.fill(f32::NAN);
        return;
    }
    let block = if inner == 1 { ROW_BLOCK } else { row_block(inner) };
    let layout = Layout {
        dims,
        block,
        blocks: reduce.div_ceil(block),
        panel: inner.min(PANEL),
        panels: inner.div_ceil(PANEL),
    };
    let size = outer * layout.blocks * inner;
    scratch::with(2 * size, |buffer: &mut [f32]| {
        let (means, squares) = buffer.split_at_mut(size);
        let (shared_means, shared_squares) = (SharedMut::new(means), SharedMut::new(squares));
        ranges(outer * layout.blocks * layout.panels, 2 * block.min(reduce) * layout.panel, |units| {
            dispatch!(isa, units_of, (
                x: &[f32],
                layout: Layout,
                units: Range<usize>,
                shared_means: SharedMut<'_, f32>,
                shared_squares: SharedMut<'_, f32>,
            ))
        });
        let per_outer = layout.blocks * inner;
        for o in 0..outer {
            let means = &mut means[o * per_outer..(o + 1) * per_outer];
            let squares = &mut squares[o * per_outer..(o + 1) * per_outer];
            combine(means, squares, reduce, block, inner);
            mean[o * inner..(o + 1) * inner].copy_from_slice(&means[..inner]);
            for (var, square) in var[o * inner..(o + 1) * inner].iter_mut().zip(squares) {
                *var = *square / reduce as f32;
            }
        }
    });
}

/// Joins the blocks' means and squared deviations pairwise into the first block's place.
fn combine(means: &mut [f32], squares: &mut [f32], reduce: usize, block: usize, inner: usize) {
    let blocks = means.len() / inner.max(1);
    let mut gap = 1;
    while gap < blocks {
        for first in (0..blocks - gap).step_by(2 * gap) {
            // The first half is whole, the second may hold the short last block.
            let (na, nb) = (gap * block, (gap * block).min(reduce - (first + gap) * block));
            let share = nb as f32 / (na + nb) as f32;
            let weight = na as f32 * share;
            let (m, other_m) = means[first * inner..].split_at_mut(gap * inner);
            let (q, other_q) = squares[first * inner..].split_at_mut(gap * inner);
            for i in 0..inner {
                let delta = other_m[i] - m[i];
                m[i] += delta * share;
                q[i] += other_q[i] + delta * delta * weight;
            }
        }
        gap *= 2;
    }
}

#[inline(always)]
fn units_of<S: Simd>(
    s: S,
    x: &[f32],
    layout: Layout,
    units: Range<usize>,
    means: SharedMut<'_, f32>,
    squares: SharedMut<'_, f32>,
) {
    let inner = layout.dims[2];
    for i in units {
        let Unit { start, rows, column, columns, to } = layout.unit(i);
        // SAFETY: units have results of their own, which do not overlap.
        let (mean, square) = unsafe { (means.slice(to, columns), squares.slice(to, columns)) };
        let x = &x[start..start + rows * inner];
        if inner == 1 {
            (mean[0], square[0]) = row(s, x, true);
        } else {
            block(s, x, rows, inner, column, mean, square);
        }
    }
}

/// Mean and sum of squared deviations of one row, or, not `centred`, 0 and the sum of squares.
#[inline(always)]
pub(crate) fn row<S: Simd>(s: S, x: &[f32], centred: bool) -> (f32, f32) {
    let n = x.len();
    let (whole, rest) = (n / S::LANES * S::LANES, n % S::LANES);
    let p = x.as_ptr();
    let mean = if centred { fold::row::<S, Sum>(s, x) / n as f32 } else { 0.0 };
    let centre = s.splat(mean);
    let mut sums = [s.zero(); 4];
    // SAFETY: vectors below `whole` and a partial one of `rest` lie within x.
    unsafe {
        let mut i = 0;
        while i < whole {
            let d = s.sub(s.load(p.add(i)), centre);
            let k = i / S::LANES % 4;
            sums[k] = s.fma(d, d, sums[k]);
            i += S::LANES;
        }
        if rest > 0 {
            // Lanes beyond the row hold the mean: their deviation is 0.
            let d = s.sub(load_filled(s, p.add(whole), rest, mean), centre);
            sums[0] = s.fma(d, d, sums[0]);
        }
    }
    (mean, s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))))
}

/// Means and sums of squared deviations of a block's columns `from .. from + mean.len()`.
#[inline(always)]
fn block<S: Simd>(
    s: S,
    x: &[f32],
    rows: usize,
    inner: usize,
    from: usize,
    mean: &mut [f32],
    square: &mut [f32],
) {
    fold::block::<S, Sum>(
        s,
        x,
        rows,
        inner,
        from,
        mean,
        #[inline(always)]
        |v, _, _| v,
    );
    mean.iter_mut().for_each(|m| *m /= rows as f32);
    let mut repeated = [0.0; NARROW * NARROW];
    let mut centres = &*mean;
    if is_narrow(rows, inner) {
        let wide = &mut repeated[..NARROW * inner];
        wide.chunks_mut(inner).for_each(|row| row.copy_from_slice(mean));
        centres = wide;
    }
    let (centres, len) = (centres.as_ptr(), centres.len());
    fold::block::<S, Sum>(
        s,
        x,
        rows,
        inner,
        from,
        square,
        #[inline(always)]
        |v, j, n| {
            debug_assert!(j + n <= len);
            // SAFETY: `fold::block` asks for columns of its block, or of NARROW repetitions of a row.
            let centre = unsafe {
                if n == S::LANES { s.load(centres.add(j)) } else { s.load_partial(centres.add(j), n) }
            };
            let d = s.sub(v, centre);
            s.mul(d, d)
        },
    );
}
