//! The gradients of pooling with respect to its input.

use super::{Max, Pool2d, Window, load, store};
use crate::partition::ranges;
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, scratch};
use std::ops::Range;

/// The gradient of [`max_pool`](super::max_pool) with respect to its input: each window's `dy` goes to its first
/// largest element in row-major order, where NaN counts as infinity; elements under several windows get the sum.
///
/// # Panics
/// As [`max_pool`](super::max_pool).
pub fn max_pool_grad(isa: Isa, g: &Pool2d, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!(dx.len(), x.len(), "the input gradient is as long as the input");
    g.check(x.len(), dy.len());
    if g.y_len() == 0 {
        return dx.fill(0.0);
    }
    // Windows that hang over the border of a block are searched in both blocks.
    let shared = g.kh.saturating_sub(g.stride.0);
    let line = g.w * g.c;
    let block = (8 * shared).max((1 << 13) / line.max(1)).max(1).next_multiple_of(g.stride.0);
    let blocks = g.h.div_ceil(block);
    let dx = SharedMut::new(dx);
    ranges(g.n * blocks, block * line * 4 * g.kh * g.kw / (g.stride.0 * g.stride.1), |units| {
        for unit in units {
            let (image, first) = (unit / blocks, unit % blocks * block);
            let rows = first..(first + block).min(g.h);
            // SAFETY: blocks are disjoint rows of images.
            let dx = unsafe { dx.slice((image * g.h + first) * line, rows.len() * line) };
            dispatch!(isa, route, (g: &Pool2d, x: &[f32], dy: &[f32], image: usize, rows: Range<usize>, dx: &mut [f32]));
        }
    });
}

/// The gradient of these rows of an image.
#[inline(always)]
fn route<S: Simd>(s: S, g: &Pool2d, x: &[f32], dy: &[f32], image: usize, rows: Range<usize>, dx: &mut [f32]) {
    // Where each element has its one window, its gradient is written and not added.
    let once = g.rows().tiles() && g.cols().tiles();
    if !once {
        dx.fill(0.0);
    }
    for oy in g.rows().over(rows.clone()) {
        let down = g.rows().under(oy);
        let own = down.start.max(rows.start)..down.end.min(rows.end);
        for ox in 0..g.ow {
            let across = g.cols().under(ox);
            let window = Window::new(g, image, &down, &across);
            let dy = &dy[((image * g.oh + oy) * g.ow + ox) * g.c..][..g.c];
            // Which rows of the window are this block's, and where they go.
            let mine = own.start - down.start..own.end - down.start;
            let to = &mut dx[((own.start - rows.start) * g.w + across.start) * g.c..];
            // The windows of most pooling layers: loops of known length.
            match (once, window.rows, window.cols) {
                (true, 2, 2) if mine == (0..2) => {
                    route_pixel::<S, true>(s, Window { rows: 2, cols: 2, ..window }, 0..2, x, dy, to);
                }
                (false, 3, 3) if mine == (0..3) => {
                    route_pixel::<S, false>(s, Window { rows: 3, cols: 3, ..window }, 0..3, x, dy, to);
                }
                (true, ..) => route_pixel::<S, true>(s, window, mine, x, dy, to),
                (false, ..) => route_pixel::<S, false>(s, window, mine, x, dy, to),
            }
        }
    }
}

/// Gives `dy` to the first largest element of each channel, where it lies in `rows` of the window, which `dx`
/// begins with; the other elements get 0 where `ONCE`, else nothing.
#[inline(always)]
fn route_pixel<S: Simd, const ONCE: bool>(
    s: S,
    window: Window,
    rows: Range<usize>,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    window.check(x);
    if window.rows == 0 || window.cols == 0 {
        return;
    }
    Window { start: 0, rows: rows.len(), ..window }.check(dx);
    let mut c = 0;
    while c < window.c {
        let left = window.c - c;
        // SAFETY: x holds the window and dx its rows, both checked, with `left` channels from c on.
        unsafe {
            if left >= 4 * S::LANES {
                route_vectors::<S, ONCE, 4>(s, window, rows.clone(), x, dy, dx, c);
                c += 4 * S::LANES;
            } else {
                route_vectors::<S, ONCE, 1>(s, window, rows.clone(), x, dy, dx, c);
                c += S::LANES;
            }
        }
    }
}

/// `V` vectors of [`route_pixel`]'s channels from `c` on; one vector may be the last, with fewer lanes.
///
/// # Safety
/// `x` holds the window, `dx` its `rows`, and `dy` one pixel, with `V * LANES` channels from `c` on or `V` is 1.
#[inline(always)]
unsafe fn route_vectors<S: Simd, const ONCE: bool, const V: usize>(
    s: S,
    window: Window,
    rows: Range<usize>,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    c: usize,
) {
    let (infinity, zero, left) =
        (s.splat(f32::INFINITY), s.zero(), if V == 1 { window.c - c } else { S::LANES });
    let first = x.as_ptr().wrapping_add(window.start + c);
    // SAFETY: the caller's contract.
    unsafe {
        let mut max = window.join::<S, Max, V>(s, x, c, left);
        let mut rest = max;
        for v in 0..V {
            // Nothing but NaN and infinity is not below infinity.
            max[v] = s.select(s.eq(max[v], max[v]), max[v], infinity);
            rest[v] = load(s, dy.as_ptr().add(c + v * S::LANES), left);
        }
        for row in 0..rows.end {
            for col in 0..window.cols {
                let pixel = first.add(window.place(row, col));
                let to = dx.as_mut_ptr().wrapping_add(window.place(row, col) + c);
                let to = to.wrapping_sub(rows.start * window.line);
                for v in 0..V {
                    let below = s.lt(load(s, pixel.add(v * S::LANES), left), max[v]);
                    let given = s.select(below, zero, rest[v]);
                    rest[v] = s.select(below, rest[v], zero);
                    if row >= rows.start {
                        let to = to.wrapping_add(v * S::LANES);
                        let sum = if ONCE { given } else { s.add(load(s, to, left), given) };
                        store(s, to, sum, left);
                    }
                }
            }
        }
    }
}

/// The gradient of [`avg_pool`](super::avg_pool) with respect to its input: each window's `dy` in equal shares.
///
/// # Panics
/// As [`max_pool`](super::max_pool).
pub fn avg_pool_grad(isa: Isa, g: &Pool2d, dy: &[f32], dx: &mut [f32]) {
    g.check(dx.len(), dy.len());
    if g.y_len() == 0 || dx.is_empty() {
        return dx.fill(0.0);
    }
    let row = g.w * g.c;
    let taps = (g.kh * g.kw).div_ceil(g.stride.0 * g.stride.1);
    let dx = SharedMut::new(dx);
    ranges(g.n * g.h, row * (1 + taps), |rows| {
        // SAFETY: the ranges are disjoint.
        let dx = unsafe { dx.slice(rows.start * row, rows.len() * row) };
        scratch::with(g.kh.div_ceil(g.stride.0) * g.ow, |weights: &mut [f32]| {
            dispatch!(isa, share, (
                g: &Pool2d,
                dy: &[f32],
                rows: Range<usize>,
                weights: &mut [f32],
                dx: &mut [f32],
            ));
        });
    });
}

/// The gradient of rows of images, counted through the batch; `weights` has room for a row of windows times how
/// many of them lie over one another.
#[inline(always)]
fn share<S: Simd>(s: S, g: &Pool2d, dy: &[f32], rows: Range<usize>, weights: &mut [f32], dx: &mut [f32]) {
    for (row, dx) in rows.zip(dx.chunks_exact_mut(g.w * g.c)) {
        let (image, y) = (row / g.h, row % g.h);
        let down = g.rows().over(y..y + 1);
        for (oy, weights) in down.clone().zip(weights.chunks_exact_mut(g.ow)) {
            let height = g.rows().under(oy).len();
            for (ox, weight) in weights.iter_mut().enumerate() {
                *weight = 1.0 / (height * g.cols().under(ox).len()) as f32;
            }
        }
        let line = g.ow * g.c;
        let dy = &dy[(image * g.oh + down.start) * line..][..down.len() * line];
        let (cols, mut across) = (g.cols(), 0..0);
        for (x, dx) in dx.chunks_exact_mut(g.c).enumerate() {
            // The windows over x, from those over the pixel before it.
            while across.end < g.ow && across.end * cols.stride <= x + cols.pad {
                across.end += 1;
            }
            while across.start < across.end && across.start * cols.stride + cols.window <= x + cols.pad {
                across.start += 1;
            }
            for c in (0..g.c).step_by(S::LANES) {
                let left = g.c - c;
                let mut sum = s.zero();
                // SAFETY: dy and weights hold the rows `down` of ow windows; `left` channels from c on.
                unsafe {
                    for oy in 0..down.len() {
                        for ox in across.clone() {
                            let dy = load(s, dy.as_ptr().add((oy * g.ow + ox) * g.c + c), left);
                            let weight = *weights.get_unchecked(oy * g.ow + ox);
                            sum = s.fma(dy, s.splat(weight), sum);
                        }
                    }
                    store(s, dx.as_mut_ptr().add(c), sum, left);
                }
            }
        }
    }
}
