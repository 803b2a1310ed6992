//! The three transforms, vectorised over channels or filters.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::{Side, Strip};
use crate::conv::Conv2d;
use crate::gemm::Output;
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch};
use std::ops::Range;

/// The points of `F(4, 3)` beside 0 and infinity: `+-A` and `+-B`, where `(AB)^2 = 1`.
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;

/// `B' d`: `N` inputs in a line.
#[inline(always)]
fn forward<S: Simd, const N: usize>(s: S, d: [S::V; N]) -> [S::V; N] {
    let mut v = d;
    if N == 4 {
        v[0] = s.sub(d[0], d[2]);
        v[1] = s.add(d[2], d[1]);
        v[2] = s.sub(d[2], d[1]);
        v[3] = s.sub(d[3], d[1]);
    } else {
        let (sum, a2, b2) = (s.splat(-(A2 + B2)), s.splat(-A2), s.splat(-B2));
        v[0] = s.fma(sum, d[2], s.add(d[4], d[0]));
        let (even, odd) = (s.fma(b2, d[2], d[4]), s.fma(b2, d[1], d[3]));
        v[1] = s.fma(s.splat(A), odd, even);
        v[2] = s.fma(s.splat(-A), odd, even);
        let (even, odd) = (s.fma(a2, d[2], d[4]), s.fma(a2, d[1], d[3]));
        v[3] = s.fma(s.splat(B), odd, even);
        v[4] = s.fma(s.splat(-B), odd, even);
        v[5] = s.fma(sum, d[3], s.add(d[5], d[1]));
    }
    v
}

/// `G g`: three taps in a line.
#[inline(always)]
fn filter<S: Simd, const N: usize>(s: S, g: [S::V; 3]) -> [S::V; N] {
    let mut u = [g[0]; N];
    u[N - 1] = g[2];
    // The taps at the points +-p, each divided by the product of the point's distances to the others.
    let mut pair = |at: usize, p: f32, p2: f32, scale: f32| {
        let even = s.mul(s.splat(scale), s.fma(s.splat(p2), g[2], g[0]));
        u[at] = s.fma(s.splat(scale * p), g[1], even);
        u[at + 1] = s.fma(s.splat(-scale * p), g[1], even);
    };
    if N == 4 {
        pair(1, 1.0, 1.0, 0.5);
    } else {
        pair(1, A, A2, 1.0 / (2.0 * A2 * (A2 - B2)));
        pair(3, B, B2, 1.0 / (2.0 * B2 * (B2 - A2)));
    }
    u
}

/// `A' m`: `M` outputs in a line.
#[inline(always)]
fn inverse<S: Simd, const N: usize, const M: usize>(s: S, m: [S::V; N]) -> [S::V; M] {
    let mut y = [m[0]; M];
    let (even, odd) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    if N == 4 {
        y[0] = s.add(m[0], even);
        y[1] = s.add(odd, m[3]);
    } else {
        let (even2, odd2) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        y[0] = s.add(m[0], s.add(even, even2));
        y[1] = s.fma(s.splat(A), odd, s.mul(s.splat(B), odd2));
        y[2] = s.fma(s.splat(A2), even, s.mul(s.splat(B2), even2));
        y[3] = s.fma(s.splat(A * A2), odd, s.fma(s.splat(B * B2), odd2, m[5]));
    }
    y
}

/// Column `k` of a square of registers.
#[inline(always)]
fn column<V: Copy, const N: usize, const K: usize>(rows: &[[V; K]; N], k: usize) -> [V; N] {
    let mut column = [rows[0][k]; N];
    for r in 0..N {
        column[r] = rows[r][k];
    }
    column
}

/// The transform of a filter `[3, 3, c, co]`, the columns from `first` on, into a panel `[position][c][width]`.
pub(super) struct Filter<'a> {
    pub hwio: &'a [f32],
    pub c: usize,
    pub co: usize,
    pub first: usize,
    pub width: usize,
}

impl Filter<'_> {
    /// Fills the panel.
    pub fn run(&self, isa: Isa, side: Side, out: &mut [f32]) {
        assert_eq!(self.hwio.len(), 9 * self.c * self.co, "a filter of 3 x 3 taps");
        assert_eq!(out.len(), (side as usize + 2).pow(2) * self.c * self.width, "a panel of all positions");
        let job = self;
        match side {
            Side::Two => dispatch!(isa, filter_panel::<_, 4>, (job: &Filter, out: &mut [f32])),
            Side::Four => dispatch!(isa, filter_panel::<_, 6>, (job: &Filter, out: &mut [f32])),
        }
    }
}

#[inline(always)]
fn filter_panel<S: Simd, const N: usize>(s: S, job: &Filter, out: &mut [f32]) {
    let Filter { hwio, c, co, first, width } = *job;
    for i in 0..c {
        for j in (0..width).step_by(S::LANES) {
            let n = co.saturating_sub(first + j).min(S::LANES);
            let mut taps = [[s.zero(); 3]; 3];
            for tap in 0..if n == 0 { 0 } else { 9 } {
                // SAFETY: n filters of tap and channel from `first + j` on lie in the filter.
                taps[tap / 3][tap % 3] =
                    unsafe { s.load_partial(hwio.as_ptr().add((tap * c + i) * co + first + j), n) };
            }
            let rows = taps.map(|line| filter::<S, N>(s, line));
            for k in 0..N {
                let u: [S::V; N] = filter(s, column(&rows, k));
                for r in 0..N {
                    // SAFETY: the panel has N^2 positions of c rows of `width`, a multiple of the lanes.
                    unsafe { s.store(out.as_mut_ptr().add(((r * N + k) * c + i) * width + j), u[r]) };
                }
            }
        }
    }
}

/// The transform of tiles of an image into a strip whose first tile is `origin`.
pub(super) struct Input<'a> {
    pub x: &'a [f32],
    pub g: &'a Conv2d,
    /// Tiles of an image, down and across.
    pub grid: (usize, usize),
    pub tiles: Range<usize>,
    pub origin: usize,
    pub strip: Strip,
}

impl Input<'_> {
    /// Writes the strip's tiles, which no other thread writes. `zeros` stands for the pixels outside.
    pub fn run(&self, isa: Isa, side: Side, zeros: &[f32], v: &SharedMut<f32>) {
        let (g, n) = (self.g, side as usize + 2);
        assert_eq!(self.x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert!(
            zeros.len() >= g.c && self.tiles.end <= g.n * self.grid.0 * self.grid.1,
            "tiles of the images"
        );
        assert!(v.len() >= n * n * self.strip.position, "the strip has all positions");
        assert!((self.tiles.end - self.origin) * self.strip.tile <= self.strip.position, "and all tiles");
        assert!(self.strip.tile >= g.c.next_multiple_of(16), "whole vectors are written");
        let (job, v) = (self, v.as_mut_ptr());
        match side {
            Side::Two => dispatch!(isa, input_tiles::<_, 4>, (job: &Input, zeros: &[f32], v: *mut f32)),
            Side::Four => dispatch!(isa, input_tiles::<_, 6>, (job: &Input, zeros: &[f32], v: *mut f32)),
        }
    }
}

#[inline(always)]
fn input_tiles<S: Simd, const N: usize>(s: S, job: &Input, zeros: &[f32], v: *mut f32) {
    let Input { x, g, grid, strip, .. } = *job;
    for tile in job.tiles.clone() {
        let (image, row, col) = (tile / (grid.0 * grid.1), tile / grid.1 % grid.0, tile % grid.1);
        let mut pixels = [[zeros.as_ptr(); N]; N];
        for r in 0..N {
            // Wraps below zero, and is then out of the image too.
            let iy = (row * (N - 2) + r).wrapping_sub(g.pad.0);
            for k in 0..N {
                let ix = (col * (N - 2) + k).wrapping_sub(g.pad.1);
                if iy < g.h && ix < g.w {
                    pixels[r][k] = x[((image * g.h + iy) * g.w + ix) * g.c..].as_ptr();
                }
            }
        }
        let v = v.wrapping_add((tile - job.origin) * strip.tile);
        macro_rules! vector {
            ($j:expr, $load:expr) => {{
                let mut rows = [[s.zero(); N]; N];
                for r in 0..N {
                    let mut line = [s.zero(); N];
                    for k in 0..N {
                        // SAFETY: each pointer has c elements; at most those from j on are read.
                        line[k] = unsafe { $load(pixels[r][k].add($j)) };
                    }
                    rows[r] = forward(s, line);
                }
                for k in 0..N {
                    let out: [S::V; N] = forward(s, column(&rows, k));
                    for r in 0..N {
                        // SAFETY: a tile's room is a multiple of the lanes; `run` holds the strip's size.
                        unsafe { s.store(v.add((r * N + k) * strip.position + $j), out[r]) };
                    }
                }
            }};
        }
        let whole = g.c / S::LANES * S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            vector!(j, |p| s.load(p));
        }
        if whole < g.c {
            vector!(whole, |p| s.load_partial(p, g.c - whole));
        }
    }
}

/// The way back: sums `[position][tile][filter]` of a panel become outputs.
pub(super) struct Inverse<'a> {
    pub m: &'a [f32],
    pub sums: Strip,
    pub g: &'a Conv2d,
    /// Tiles of an image, down and across.
    pub grid: (usize, usize),
    pub tiles: Range<usize>,
}

impl Inverse<'_> {
    /// Writes the columns of `out` of the tiles' pixels, which no other thread touches, with bias, residual and, where
    /// the activation is a clamp, that.
    pub fn run(&self, isa: Isa, side: Side, out: &Output) {
        let (g, n) = (self.g, side as usize + 2);
        assert!(self.m.len() >= n * n * self.sums.position, "sums of all positions");
        assert!(self.tiles.len() * self.sums.tile <= self.sums.position, "and of all tiles");
        assert!(self.tiles.end <= g.n * self.grid.0 * self.grid.1, "tiles of the images");
        let job = self;
        match side {
            Side::Two => dispatch!(isa, inverse_tiles::<_, 4, 2>, (job: &Inverse, out: &Output)),
            Side::Four => dispatch!(isa, inverse_tiles::<_, 6, 4>, (job: &Inverse, out: &Output)),
        }
    }
}

#[inline(always)]
fn inverse_tiles<S: Simd, const N: usize, const M: usize>(s: S, job: &Inverse, out: &Output) {
    let Inverse { m, sums, g, grid, .. } = *job;
    let (low, high) = out.act.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let (low, high) = (s.splat(low), s.splat(high));
    for (i, tile) in job.tiles.clone().enumerate() {
        let (image, row, col) = (tile / (grid.0 * grid.1), tile / grid.1 % grid.0 * M, tile % grid.1 * M);
        let start = ((image * g.oh + row) * g.ow + col) * g.co;
        let (high_side, wide) = ((g.oh - row).min(M), (g.ow - col).min(M));
        for j in (0..out.cols).step_by(S::LANES) {
            let n = out.cols - j;
            // SAFETY: the sums have whole vectors (`run` holds their size); the outputs are pixels of this tile, their
            // columns below `cols`; bias and residual have checked lengths.
            unsafe {
                let m = m.as_ptr().add(i * sums.tile + j);
                macro_rules! load {
                    ($p:expr) => {
                        if n >= S::LANES { s.load($p) } else { s.load_partial($p, n) }
                    };
                }
                let mut rows = [[s.zero(); M]; N];
                for r in 0..N {
                    let mut line = [s.zero(); N];
                    for k in 0..N {
                        line[k] = s.load(m.add((r * N + k) * sums.position));
                    }
                    rows[r] = inverse(s, line);
                }
                let bias = if out.bias.is_null() { s.zero() } else { load!(out.bias.add(j)) };
                for k in 0..wide {
                    let pixels: [S::V; M] = inverse(s, column(&rows, k));
                    for r in 0..high_side {
                        let offset = start + (r * g.ow + k) * g.co + j;
                        let mut v = s.add(pixels[r], bias);
                        if !out.residual.is_null() {
                            v = s.add(v, load!(out.residual.add(offset)));
                        }
                        // The fast forms give their second operand where it is NaN: NaN stays NaN.
                        let v = s.min_fast(high, s.max_fast(low, v));
                        let c = out.c.add(offset);
                        if n >= S::LANES { s.store(c, v) } else { s.store_partial(c, v, n) }
                    }
                }
            }
        }
    }
}
