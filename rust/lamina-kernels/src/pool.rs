//! Max and average pooling over windows of NHWC images, and their gradients.
//!
//! Vectorised over channels, one window at a time in registers. Images with fewer channels than a vector has
//! lanes are pooled in two steps instead: down the rows of a window in whole vectors of an image line, then
//! across. Gradients are cut by rows of the image, and each row collects from the windows over it in their
//! order: results do not depend on the number of threads.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

mod grad;

pub use grad::{avg_pool_grad, max_pool_grad};

use crate::partition::ranges;
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, scratch};
use std::ops::Range;

/// The geometry of a 2D pooling (1D: `h = kh = oh = 1`). Padding at the bottom and right is what `oh` and `ow`
/// imply; padding never counts as an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    /// Images in the batch.
    pub n: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Window height.
    pub kh: usize,
    /// Window width.
    pub kw: usize,
    /// Output height.
    pub oh: usize,
    /// Output width.
    pub ow: usize,
    /// Vertical and horizontal step between windows.
    pub stride: (usize, usize),
    /// Padding at the top and at the left.
    pub pad: (usize, usize),
}

impl Pool2d {
    /// Elements of the input `[n, h, w, c]`.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Elements of the output `[n, oh, ow, c]`.
    pub fn y_len(&self) -> usize {
        self.n * self.oh * self.ow * self.c
    }

    fn check(&self, x: usize, y: usize) {
        assert!(self.stride.0 > 0 && self.stride.1 > 0, "strides start at 1");
        assert!(self.kh > 0 && self.kw > 0, "windows start at 1");
        assert_eq!(x, self.x_len(), "the input has n * h * w * c elements");
        assert_eq!(y, self.y_len(), "the output has n * oh * ow * c elements");
    }

    fn rows(&self) -> Axis {
        Axis { input: self.h, output: self.oh, window: self.kh, stride: self.stride.0, pad: self.pad.0 }
    }

    fn cols(&self) -> Axis {
        Axis { input: self.w, output: self.ow, window: self.kw, stride: self.stride.1, pad: self.pad.1 }
    }
}

/// The windows along one axis.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    window: usize,
    stride: usize,
    pad: usize,
}

impl Axis {
    /// The inputs under window `o`: fewer where it leaves the image.
    #[inline(always)]
    fn under(&self, o: usize) -> Range<usize> {
        let start = o * self.stride;
        let end = (start + self.window).saturating_sub(self.pad).min(self.input);
        start.saturating_sub(self.pad).min(end)..end
    }

    /// The windows over any of these inputs.
    #[inline(always)]
    fn over(&self, inputs: Range<usize>) -> Range<usize> {
        let start = (inputs.start + self.pad + 1).saturating_sub(self.window).div_ceil(self.stride);
        let end = (inputs.end + self.pad).div_ceil(self.stride).min(self.output);
        start.min(end)..end
    }

    /// Whether every input lies under exactly one window.
    fn tiles(&self) -> bool {
        (self.stride, self.pad) == (self.window, 0) && self.output * self.window == self.input
    }
}

/// What a window becomes.
trait Kind {
    /// What no element becomes.
    const NONE: f32;
    fn join<S: Simd>(s: S, joined: S::V, x: S::V) -> S::V;
    /// The result of `count` joined elements.
    fn finish<S: Simd>(s: S, joined: S::V, count: f32) -> S::V;
    /// The same of one channel.
    fn finish_one(joined: f32, count: f32) -> f32;
}

struct Max;

impl Kind for Max {
    const NONE: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn join<S: Simd>(s: S, joined: S::V, x: S::V) -> S::V {
        // The first operand is the one that is asked for NaN: not the one that every step waits for.
        s.max(x, joined)
    }
    #[inline(always)]
    fn finish<S: Simd>(_: S, joined: S::V, _: f32) -> S::V {
        joined
    }
    #[inline(always)]
    fn finish_one(joined: f32, _: f32) -> f32 {
        joined
    }
}

struct Mean;

impl Kind for Mean {
    const NONE: f32 = 0.0;
    #[inline(always)]
    fn join<S: Simd>(s: S, joined: S::V, x: S::V) -> S::V {
        s.add(joined, x)
    }
    #[inline(always)]
    fn finish<S: Simd>(s: S, joined: S::V, count: f32) -> S::V {
        s.div(joined, s.splat(count))
    }
    #[inline(always)]
    fn finish_one(joined: f32, count: f32) -> f32 {
        joined / count
    }
}

/// The largest element under each window, NaN where there is one; negative infinity under a window that lies in
/// the padding altogether.
///
/// # Panics
/// On other lengths than the geometry's, strides or windows of zero.
///
/// ```
/// use lamina_kernels::{Isa, pool::{Pool2d, max_pool}};
/// let g = Pool2d { n: 1, h: 2, w: 4, c: 1, kh: 2, kw: 2, oh: 1, ow: 2, stride: (2, 2), pad: (0, 0) };
/// let mut y = [0.0; 2];
/// max_pool(Isa::best(), &g, &[1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 8.0, 7.0], &mut y);
/// assert_eq!(y, [5.0, 8.0]);
/// ```
pub fn max_pool(isa: Isa, g: &Pool2d, x: &[f32], y: &mut [f32]) {
    forward(g, x, y, |rows, room, y| {
        dispatch!(isa, pool_rows::<_, Max>, (
            g: &Pool2d,
            x: &[f32],
            rows: Range<usize>,
            room: &mut [f32],
            y: &mut [f32],
        ))
    });
}

/// The mean of the elements under each window; NaN under a window that lies in the padding altogether.
///
/// # Panics
/// As [`max_pool`].
pub fn avg_pool(isa: Isa, g: &Pool2d, x: &[f32], y: &mut [f32]) {
    forward(g, x, y, |rows, room, y| {
        dispatch!(isa, pool_rows::<_, Mean>, (
            g: &Pool2d,
            x: &[f32],
            rows: Range<usize>,
            room: &mut [f32],
            y: &mut [f32],
        ))
    });
}

/// Calls `body` with ranges of output rows, counted through the batch, with room for [`narrow`], and with the
/// elements of the rows.
fn forward(g: &Pool2d, x: &[f32], y: &mut [f32], body: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync) {
    g.check(x.len(), y.len());
    if y.is_empty() {
        return;
    }
    let row = g.ow * g.c;
    let y = SharedMut::new(y);
    ranges(g.n * g.oh, row * g.kh * g.kw, |rows| {
        // SAFETY: the ranges are disjoint.
        let out = unsafe { y.slice(rows.start * row, rows.len() * row) };
        scratch::with(narrow_room(g), |room: &mut [f32]| body(rows, room, out));
    });
}

/// One row of windows after another.
#[inline(always)]
fn pool_rows<S: Simd, K: Kind>(
    s: S,
    g: &Pool2d,
    x: &[f32],
    rows: Range<usize>,
    room: &mut [f32],
    y: &mut [f32],
) {
    if g.c < S::LANES {
        return narrow::<S, K>(s, g, x, rows, room, y);
    }
    for (row, y) in rows.zip(y.chunks_exact_mut(g.ow * g.c)) {
        let (image, down) = (row / g.oh, g.rows().under(row % g.oh));
        for (ox, y) in y.chunks_exact_mut(g.c).enumerate() {
            let across = g.cols().under(ox);
            let window = Window::new(g, image, &down, &across);
            // The windows of most pooling layers: loops of known length.
            match (window.rows, window.cols) {
                (2, 2) => pixel::<S, K>(s, Window { rows: 2, cols: 2, ..window }, x, y),
                (3, 3) => pixel::<S, K>(s, Window { rows: 3, cols: 3, ..window }, x, y),
                _ => pixel::<S, K>(s, window, x, y),
            }
        }
    }
}

/// Where the pixels under a window lie.
#[derive(Clone, Copy)]
struct Window {
    /// Its first element.
    start: usize,
    rows: usize,
    cols: usize,
    /// Elements from one row to the next, and from one pixel to the next.
    line: usize,
    c: usize,
}

impl Window {
    #[inline(always)]
    fn new(g: &Pool2d, image: usize, down: &Range<usize>, across: &Range<usize>) -> Window {
        let start = ((image * g.h + down.start) * g.w + across.start) * g.c;
        Window { start, rows: down.len(), cols: across.len(), line: g.w * g.c, c: g.c }
    }

    /// Where a pixel lies from its first element on.
    #[inline(always)]
    fn place(&self, row: usize, col: usize) -> usize {
        row * self.line + col * self.c
    }

    /// Checks that `x` holds it.
    #[inline(always)]
    fn check(&self, x: &[f32]) {
        let last = self.place(self.rows.max(1) - 1, self.cols.max(1) - 1);
        let empty = self.rows == 0 || self.cols == 0;
        assert!(empty || self.start + last + self.c <= x.len(), "a window lies in the image");
    }

    /// Joins `V` vectors of channels from `channel` on: the elements of each row, then the rows. Each vector has
    /// `left` lanes, or all where there are more.
    ///
    /// # Safety
    /// `x` holds the window, and its pixels these channels.
    #[inline(always)]
    unsafe fn join<S: Simd, K: Kind, const V: usize>(
        self,
        s: S,
        x: &[f32],
        channel: usize,
        left: usize,
    ) -> [S::V; V] {
        if self.rows == 0 || self.cols == 0 {
            return [s.splat(K::NONE); V];
        }
        let first = x.as_ptr().wrapping_add(self.start + channel);
        // SAFETY: the caller's contract.
        unsafe {
            let mut joined = self.join_line::<S, K, V>(s, first, left);
            for row in 1..self.rows {
                let line = self.join_line::<S, K, V>(s, first.add(row * self.line), left);
                for v in 0..V {
                    joined[v] = K::join(s, joined[v], line[v]);
                }
            }
            joined
        }
    }

    /// Joins one row of the window, which begins at `first`.
    ///
    /// # Safety
    /// The row's pixels have these channels.
    #[inline(always)]
    unsafe fn join_line<S: Simd, K: Kind, const V: usize>(
        self,
        s: S,
        first: *const f32,
        left: usize,
    ) -> [S::V; V] {
        let mut line = [s.splat(K::NONE); V];
        // SAFETY: the caller's contract.
        unsafe {
            for v in 0..V {
                line[v] = load(s, first.add(v * S::LANES), left);
            }
            for col in 1..self.cols {
                let pixel = first.add(col * self.c);
                for v in 0..V {
                    line[v] = K::join(s, line[v], load(s, pixel.add(v * S::LANES), left));
                }
            }
        }
        line
    }
}

/// One window of at least `LANES` channels.
#[inline(always)]
fn pixel<S: Simd, K: Kind>(s: S, window: Window, x: &[f32], y: &mut [f32]) {
    window.check(x);
    let (count, channels) = ((window.rows * window.cols) as f32, y.len());
    let mut c = 0;
    // SAFETY: x holds the window; every vector ends at or before the last channel.
    unsafe {
        while c + 4 * S::LANES <= channels {
            for (v, joined) in window.join::<S, K, 4>(s, x, c, S::LANES).into_iter().enumerate() {
                s.store(y.as_mut_ptr().add(c + v * S::LANES), K::finish(s, joined, count));
            }
            c += 4 * S::LANES;
        }
        while c < channels {
            // The last vector may do some channels once more.
            let at = c.min(channels - S::LANES);
            let [joined] = window.join::<S, K, 1>(s, x, at, S::LANES);
            s.store(y.as_mut_ptr().add(at), K::finish(s, joined, count));
            c += S::LANES;
        }
    }
}

/// The lanes of the widest vectors.
const MOST_LANES: usize = 16;

/// Pixels from the left edge of a row's first window to the right edge of its last.
fn padded_width(g: &Pool2d) -> usize {
    (g.ow - 1) * g.stride.1 + g.kw
}

/// Elements of scratch that [`narrow`] needs.
fn narrow_room(g: &Pool2d) -> usize {
    if g.c < MOST_LANES { (padded_width(g) + 2 * g.ow) * g.c + 3 * MOST_LANES } else { 0 }
}

/// Rows of windows of fewer than `LANES` channels: the lines under a row of windows are joined into one line
/// with its padding, then the pixels of each window in vectors whose lanes beyond the last channel the next
/// window overwrites. Windows one step apart need no such waste: their row is one long pixel.
#[inline(always)]
fn narrow<S: Simd, K: Kind>(
    s: S,
    g: &Pool2d,
    x: &[f32],
    rows: Range<usize>,
    room: &mut [f32],
    y: &mut [f32],
) {
    let (padded, row_len) = (padded_width(g), g.ow * g.c);
    let inside = g.w.min(padded.saturating_sub(g.pad.1)) * g.c;
    let (vectors, step_in, step_out) = match g.stride.1 {
        1 => (row_len.div_ceil(S::LANES), S::LANES, S::LANES),
        stride => (g.ow, stride * g.c, g.c),
    };
    let (line, rest) = room.split_at_mut(padded * g.c + S::LANES);
    let (joined, counts) = rest.split_at_mut(row_len + S::LANES);
    line.fill(K::NONE);
    for (ox, counts) in counts[..row_len].chunks_exact_mut(g.c).enumerate() {
        counts.fill(g.cols().under(ox).len() as f32);
    }
    for (row, y) in rows.zip(y.chunks_exact_mut(row_len)) {
        let down = g.rows().under(row % g.oh);
        let start = (row / g.oh * g.h + down.start) * g.w * g.c;
        let image = if down.is_empty() { &[] } else { &x[start..start + down.len() * g.w * g.c] };
        if inside > 0 {
            join_lines::<S, K>(s, image, g.w * g.c, &mut line[g.pad.1 * g.c..][..inside]);
        }
        // SAFETY: both buffers have LANES elements after the last window's.
        unsafe {
            for i in 0..vectors {
                let p = line.as_ptr().add(i * step_in);
                let mut pixel = s.load(p);
                for k in 1..g.kw {
                    pixel = K::join(s, pixel, s.load(p.add(k * g.c)));
                }
                s.store(joined.as_mut_ptr().add(i * step_out), pixel);
            }
        }
        let height = down.len() as f32;
        for ((y, &joined), &width) in y.iter_mut().zip(&*joined).zip(&*counts) {
            *y = K::finish_one(joined, height * width);
        }
    }
}

/// The first elements of lines `stride` apart, joined.
#[inline(always)]
fn join_lines<S: Simd, K: Kind>(s: S, x: &[f32], stride: usize, out: &mut [f32]) {
    let mut lines = x.chunks_exact(stride);
    match lines.next() {
        Some(first) => out.copy_from_slice(&first[..out.len()]),
        None => out.fill(K::NONE),
    }
    for line in lines {
        let n = out.len();
        let (x, out) = (line[..n].as_ptr(), out.as_mut_ptr());
        for i in (0..n).step_by(S::LANES) {
            // SAFETY: both have n elements.
            unsafe {
                let joined = K::join(s, load(s, out.add(i), n - i), load(s, x.add(i), n - i));
                store(s, out.add(i), joined, n - i);
            }
        }
    }
}

/// A vector, in part where fewer than `LANES` elements are left.
///
/// # Safety
/// `p` is valid for `min(left, LANES)` reads.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, left: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { if left >= S::LANES { s.load(p) } else { s.load_partial(p, left) } }
}

/// As [`load`].
///
/// # Safety
/// `p` is valid for `min(left, LANES)` writes.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, p: *mut f32, v: S::V, left: usize) {
    // SAFETY: the caller's contract.
    unsafe { if left >= S::LANES { s.store(p, v) } else { s.store_partial(p, v, left) } }
}

#[cfg(test)]
mod tests;
