//! The transforms of whole tiles, vectorised over channels or filters: along each line of the second axis, then, where
//! a tile is a square, along the first.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::Strip;
use super::line::{dropped, filter, forward, inverse};
use super::tile::{Block, Grid, Minimal};
use crate::conv::Conv2d;
use crate::gemm::Output;
use crate::simd::Simd;
use crate::{Isa, dispatch};
use std::ops::Range;

/// Column `k` of a rectangle of registers.
#[inline(always)]
fn column<V: Copy, const N: usize, const K: usize>(rows: &[[V; K]; N], k: usize) -> [V; N] {
    let mut column = [rows[0][k]; N];
    for r in 0..N {
        column[r] = rows[r][k];
    }
    column
}

/// The transform of a filter `[taps, c, co]`, the columns from `first` on, into a panel `[position][c][width]`.
pub(super) struct Filter<'a> {
    pub hwio: &'a [f32],
    pub c: usize,
    pub co: usize,
    pub first: usize,
    pub width: usize,
}

impl Filter<'_> {
    /// Fills the panel.
    pub fn run(&self, isa: Isa, tile: Minimal, out: &mut [f32]) {
        assert_eq!(self.hwio.len(), tile.taps() * self.c * self.co, "a filter of the tile's taps");
        assert_eq!(out.len(), tile.positions() * self.c * self.width, "a panel of all positions");
        let job = self;
        macro_rules! run {
            ($ry:literal $ny:literal, $r:literal $n:literal) => {
                dispatch!(isa, filter_panel::<_, $ry, $ny, $r, $n>, (job: &Filter, out: &mut [f32]))
            };
        }
        match tile {
            Minimal::F2x2_3x3 => run!(3 4, 3 4),
            Minimal::F4x4_3x3 => run!(3 6, 3 6),
            Minimal::F3x3_4x4 => run!(4 6, 4 6),
            Minimal::F2x2_5x5 => run!(5 6, 5 6),
            Minimal::F4_3 => run!(1 1, 3 6),
            Minimal::F2_5 => run!(1 1, 5 6),
            Minimal::F4_5 => run!(1 1, 5 8),
            Minimal::F2_7 => run!(1 1, 7 8),
        }
    }
}

#[inline(always)]
fn filter_panel<S: Simd, const RY: usize, const NY: usize, const R: usize, const N: usize>(
    s: S,
    job: &Filter,
    out: &mut [f32],
) {
    let Filter { hwio, c, co, first, width } = *job;
    for i in 0..c {
        for j in (0..width).step_by(S::LANES) {
            let n = co.saturating_sub(first + j).min(S::LANES);
            let mut taps = [[s.zero(); R]; RY];
            for tap in 0..if n == 0 { 0 } else { RY * R } {
                // SAFETY: n filters of tap and channel from `first + j` on lie in the filter.
                taps[tap / R][tap % R] =
                    unsafe { s.load_partial(hwio.as_ptr().add((tap * c + i) * co + first + j), n) };
            }
            let mut rows = [[s.zero(); N]; RY];
            for r in 0..RY {
                rows[r] = filter(s, taps[r]);
            }
            for k in 0..N {
                let u: [S::V; NY] = filter(s, column(&rows, k));
                for r in 0..NY {
                    // SAFETY: the panel has NY * N positions of c rows of `width`, a multiple of the lanes.
                    unsafe { s.store(out.as_mut_ptr().add(((r * N + k) * c + i) * width + j), u[r]) };
                }
            }
        }
    }
}

/// Calls `$run!(tiles, sizes, outputs less down, outputs less across)` for the tiles of a block of each kind that squares and
/// lines have, where there are any; those of two outputs have one less at most.
macro_rules! each_kind {
    ($run:ident, $job:ident, square $sizes:tt) => {
        each_kind!($run, $job, $sizes, 0 0, 0 1, 0 2, 1 0, 1 1, 1 2, 2 0, 2 1, 2 2)
    };
    ($run:ident, $job:ident, square of two $sizes:tt) => {
        each_kind!($run, $job, $sizes, 0 0, 0 1, 1 0, 1 1)
    };
    ($run:ident, $job:ident, line $sizes:tt) => {
        each_kind!($run, $job, $sizes, 0 0, 0 1, 0 2)
    };
    ($run:ident, $job:ident, line of two $sizes:tt) => {
        each_kind!($run, $job, $sizes, 0 0, 0 1)
    };
    ($run:ident, $job:ident, $sizes:tt, $($down:literal $across:literal),*) => {{
        let [down, across] = $job.grid.axes;
        $(
            let here = ($down == 0 || $down == down.short) && ($across == 0 || $across == across.short);
            let tiles = if here { $job.block.kind([$down > 0, $across > 0]) } else { 0..0 };
            if !tiles.is_empty() {
                $run!(tiles, $sizes, $down, $across);
            }
        )*
    }};
}

/// The transform of tiles of the images into a strip.
pub(super) struct Input<'a> {
    pub x: &'a [f32],
    pub g: &'a Conv2d,
    pub grid: &'a Grid,
    pub block: &'a Block<'a>,
    pub strip: Strip,
}

impl Input<'_> {
    /// Writes the strip's tiles. `zeros` stands for the pixels outside.
    pub fn run(&self, isa: Isa, tile: Minimal, zeros: &[f32], v: &mut [f32]) {
        let g = self.g;
        assert_eq!(self.x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert!(zeros.len() >= g.c && self.block.tiles.end <= g.n * self.grid.tiles(), "tiles of the images");
        assert!(v.len() >= tile.positions() * self.strip.position, "the strip has all positions");
        assert!(self.block.places.len() * self.strip.tile <= self.strip.position, "and all tiles");
        assert!(self.strip.tile >= g.c.next_multiple_of(16), "whole vectors are written");
        let (job, v) = (self, v.as_mut_ptr());
        macro_rules! run {
            ($tiles:ident, ($ny:literal $n:literal), $down:literal, $across:literal) => {
                dispatch!(
                    isa,
                    input_tiles::<_, $ny, $n, $down, $across>,
                    (job: &Input, $tiles: Range<usize>, zeros: &[f32], v: *mut f32)
                )
            };
        }
        match tile {
            Minimal::F2x2_3x3 => each_kind!(run, job, square of two (4 4)),
            Minimal::F2x2_5x5 => each_kind!(run, job, square of two (6 6)),
            Minimal::F4x4_3x3 | Minimal::F3x3_4x4 => each_kind!(run, job, square (6 6)),
            Minimal::F4_3 => each_kind!(run, job, line (1 6)),
            Minimal::F2_5 => each_kind!(run, job, line of two (1 6)),
            Minimal::F4_5 => each_kind!(run, job, line (1 8)),
            Minimal::F2_7 => each_kind!(run, job, line of two (1 8)),
        }
    }
}

#[inline(always)]
fn input_tiles<S: Simd, const NY: usize, const N: usize, const DOWN: usize, const ACROSS: usize>(
    s: S,
    job: &Input,
    tiles: Range<usize>,
    zeros: &[f32],
    v: *mut f32,
) {
    let Input { x, g, grid, strip, .. } = *job;
    let [down, across] = grid.axes;
    let (tall, wide) = (NY - DOWN, N - ACROSS);
    for i in tiles {
        let [image, row, col] = job.block.places[i];
        let mut pixels = [[zeros.as_ptr(); N]; NY];
        for r in 0..tall {
            // Wraps below zero, and is then out of the image too.
            let iy = (row + r).wrapping_sub(down.pad);
            for k in 0..wide {
                let ix = (col + k).wrapping_sub(across.pad);
                if iy < down.inputs && ix < across.inputs {
                    let pixel = image * g.h * g.w + iy * down.input_step + ix * across.input_step;
                    pixels[r][k] = x[pixel * g.c..].as_ptr();
                }
            }
        }
        let v = v.wrapping_add(i * strip.tile);
        macro_rules! vector {
            ($j:expr, $load:expr) => {{
                let mut rows = [[s.zero(); N]; NY];
                for r in 0..tall {
                    let mut line = [s.zero(); N];
                    for k in 0..wide {
                        // SAFETY: each pointer has c elements; at most those from j on are read.
                        line[k] = unsafe { $load(pixels[r][k].add($j)) };
                    }
                    rows[r] = forward::<S, N, ACROSS>(s, line);
                }
                for k in 0..N {
                    if dropped(N, ACROSS, k) {
                        continue;
                    }
                    let out = forward::<S, NY, DOWN>(s, column(&rows, k));
                    for r in 0..NY {
                        if dropped(NY, DOWN, r) {
                            continue;
                        }
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
    pub grid: &'a Grid,
    pub block: &'a Block<'a>,
}

impl Inverse<'_> {
    /// Writes the columns of `out` of the tiles' pixels, which no other thread touches, with bias, residual and, where
    /// the activation is a clamp, that.
    pub fn run(&self, isa: Isa, tile: Minimal, out: &Output) {
        assert!(self.m.len() >= tile.positions() * self.sums.position, "sums of all positions");
        assert!(self.block.places.len() * self.sums.tile <= self.sums.position, "and of all tiles");
        assert!(self.block.tiles.end <= self.g.n * self.grid.tiles(), "tiles of the images");
        let job = self;
        macro_rules! run {
            ($tiles:ident, ($ny:literal $my:literal, $n:literal $m:literal), $down:literal, $across:literal) => {
                dispatch!(
                    isa,
                    inverse_tiles::<_, $ny, $my, $n, $m, $down, $across>,
                    (job: &Inverse, $tiles: Range<usize>, out: &Output)
                )
            };
        }
        match tile {
            Minimal::F2x2_3x3 => each_kind!(run, job, square of two (4 2, 4 2)),
            Minimal::F4x4_3x3 => each_kind!(run, job, square (6 4, 6 4)),
            Minimal::F3x3_4x4 => each_kind!(run, job, square (6 3, 6 3)),
            Minimal::F2x2_5x5 => each_kind!(run, job, square of two (6 2, 6 2)),
            Minimal::F4_3 => each_kind!(run, job, line (1 1, 6 4)),
            Minimal::F2_5 => each_kind!(run, job, line of two (1 1, 6 2)),
            Minimal::F4_5 => each_kind!(run, job, line (1 1, 8 4)),
            Minimal::F2_7 => each_kind!(run, job, line of two (1 1, 8 2)),
        }
    }
}

#[inline(always)]
fn inverse_tiles<
    S: Simd,
    const NY: usize,
    const MY: usize,
    const N: usize,
    const M: usize,
    const DOWN: usize,
    const ACROSS: usize,
>(
    s: S,
    job: &Inverse,
    tiles: Range<usize>,
    out: &Output,
) {
    let Inverse { m, sums, g, grid, .. } = *job;
    let [down, across] = grid.axes;
    let (low, high) = out.act.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let (low, high) = (s.splat(low), s.splat(high));
    for i in tiles {
        let [image, row, col] = job.block.places[i];
        let start = image * g.oh * g.ow + row * down.output_step + col * across.output_step;
        let (tall, wide) = ((down.outputs - row).min(MY), (across.outputs - col).min(M));
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
                let mut rows = [[s.zero(); M]; NY];
                for r in 0..NY {
                    if dropped(NY, DOWN, r) {
                        continue;
                    }
                    let mut line = [s.zero(); N];
                    for k in 0..N {
                        if dropped(N, ACROSS, k) {
                            continue;
                        }
                        line[k] = s.load(m.add((r * N + k) * sums.position));
                    }
                    rows[r] = inverse::<S, N, M, ACROSS>(s, line);
                }
                let bias = if out.bias.is_null() { s.zero() } else { load!(out.bias.add(j)) };
                for k in 0..wide {
                    let pixels = inverse::<S, NY, MY, DOWN>(s, column(&rows, k));
                    for r in 0..tall {
                        let pixel = start + r * down.output_step + k * across.output_step;
                        let offset = pixel * g.co + j;
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
