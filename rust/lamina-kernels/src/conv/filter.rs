//! The gradient of a convolution with respect to its filter: `dW[tap] = X_tap' dY`, a multiply over all
//! pixels whose left operand is the image itself, read column by column through the taps.

use super::Conv2d;
use super::window::{Image, Windows};
use crate::epilogue::Epilogue;
use crate::gemm::kernels::kernels;
use crate::gemm::tile::split;
use crate::gemm::{
    ASource, Cut, MatRef, Output, Panels, Rows, Step, Work, multiply_block, pack_b_rows, packed_b_len,
    run_tasks,
};
use crate::{Isa, scratch, threads};
use std::ops::Range;

/// The gradient of the filter, planned for one geometry.
#[derive(Clone, Debug)]
pub struct ConvGradFilter {
    isa: Isa,
    geometry: Conv2d,
    windows: Windows,
    /// Runs of rows of dW whose inputs lie side by side in the image (the taps of a filter row, or one tap),
    /// by where they start in a window.
    units: Vec<usize>,
    unit_rows: usize,
    /// The pixels are cut into this many parts, each summed on its own; the parts are added in order.
    parts: usize,
}

/// Pixels that a tile sums before it adds to dW: their packed panel of dY stays in L1.
const CHUNK_PIXELS: usize = 256;

/// Partial results of all parts together stay below this many elements.
const PARTIAL_LEN: usize = 1 << 20;

impl ConvGradFilter {
    /// Plans; panics as [`ConvForward::new`](super::ConvForward::new) does.
    pub fn new(isa: Isa, geometry: &Conv2d) -> Self {
        geometry.check();
        let g = *geometry;
        let taps = g.taps();
        let image = Image { n: g.n, h: g.h, w: g.w, c: g.c };
        let merged = if g.groups == 1 && g.dilation.1 == 1 { g.kw } else { 1 };
        let pixels = g.n * g.oh * g.ow;
        let parts = (pixels / (4 * CHUNK_PIXELS)).min(PARTIAL_LEN / g.filter_len().max(1)).clamp(1, 16);
        let windows = Windows::new(image, &taps, g.oh, g.ow, g.stride);
        ConvGradFilter {
            isa,
            geometry: g,
            units: taps.iter().step_by(merged.max(1)).map(|tap| windows.tap_offset(tap)).collect(),
            windows,
            unit_rows: merged * (g.c / g.groups),
            parts,
        }
    }

    /// Computes `dw` `[kh, kw, c / groups, co]` from `x` `[n, h, w, c]` and `dy` `[n, oh, ow, co]`; panics on
    /// other lengths.
    pub fn run(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert_eq!(dy.len(), g.y_len(), "the output gradient has n * oh * ow * co elements");
        assert_eq!(dw.len(), g.filter_len(), "the filter gradient has kh * kw * c / groups * co elements");
        let (rows, len) = (self.windows.all_rows(), dw.len());
        if rows * g.ow == 0 || len == 0 {
            return dw.fill(0.0);
        }
        let work = Work::new(rows * g.ow, g.co, self.units.len() * self.unit_rows);
        // More tasks than parts: cut the rows of dW too, which changes no bit.
        let tiles = self.units.len() * self.tiles();
        let cuts = (4 * threads::num_threads()).div_ceil(self.parts).min(tiles.div_ceil(8));
        let part = |out: &Output, task: usize| {
            let (row, count) = split(rows, self.parts, task / cuts);
            let (tile, tiles) = split(tiles, cuts, task % cuts);
            self.part(x, dy, out, row..row + count, tile..tile + tiles);
        };
        let none = Epilogue::none();
        if self.parts == 1 {
            let out = Output::new(dw, g.co, false, &none);
            return run_tasks(work, cuts, |task| part(&out, task));
        }
        scratch::with(len * self.parts, |partial: &mut [f32]| {
            let out = Output::new(partial, g.co, false, &none);
            run_tasks(work, self.parts * cuts, |task| part(&out.columns(task / cuts * len, g.co), task));
            let partial = &*partial;
            threads::run_chunks(dw, 1 << 14, |dw, start| {
                dw.copy_from_slice(&partial[start..start + dw.len()]);
                for part in 1..self.parts {
                    let more = &partial[part * len + start..][..dw.len()];
                    dw.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
                }
            });
        });
    }

    /// Tiles of one unit.
    fn tiles(&self) -> usize {
        self.unit_rows.div_ceil(kernels(self.isa).rows)
    }

    /// Sums over the output rows `rows` into the tiles `tiles` of dW, which are counted through the units.
    fn part(&self, x: &[f32], dy: &[f32], out: &Output, rows: Range<usize>, tiles: Range<usize>) {
        let g = &self.geometry;
        let chunk = CHUNK_PIXELS.div_ceil(g.ow).min(rows.len());
        let outputs = g.co / g.groups;
        let cut = Cut::new(self.isa, 0, outputs);
        let each = packed_b_len(self.isa, chunk * g.ow, outputs);
        scratch::with(each * g.groups, |packed: &mut [f32]| {
            let mut row = rows.start;
            while row < rows.end {
                let count = chunk.min(rows.end - row);
                let pixels = count * g.ow;
                let each = packed_b_len(self.isa, pixels, outputs);
                for group in 0..g.groups {
                    let start = row * g.ow * g.co + group * outputs;
                    let b = MatRef {
                        data: &dy[start..],
                        rows: pixels,
                        cols: outputs,
                        row_stride: g.co,
                        col_stride: 1,
                    };
                    pack_b_rows(self.isa, cut, b, pixels, 0, &mut packed[group * each..][..each]);
                }
                self.windows.strip(x, row..row + count, |strip| {
                    let mut tile = tiles.start;
                    while tile < tiles.end {
                        let (unit, first) = (tile / self.tiles(), tile % self.tiles());
                        let count = (self.tiles() - first).min(tiles.end - tile);
                        self.multiply(
                            packed,
                            each,
                            pixels,
                            strip,
                            out,
                            unit,
                            first,
                            count,
                            row == rows.start,
                        );
                        tile += count;
                    }
                });
                row += count;
            }
        });
    }

    /// One chunk of pixels into `count` tiles of a unit.
    fn multiply(
        &self,
        packed: &[f32],
        each: usize,
        pixels: usize,
        starts: &[*const f32],
        out: &Output,
        unit: usize,
        tile: usize,
        count: usize,
        first: bool,
    ) {
        let g = &self.geometry;
        let outputs = g.co / g.groups;
        let cut = Cut::new(self.isa, 0, outputs);
        let border = |tile: usize| match tile == self.tiles() {
            true => self.unit_rows,
            false => split(self.unit_rows, self.tiles(), tile).0,
        };
        let (row, end) = (border(tile), border(tile + count));
        scratch::with(end - row, |offsets: &mut [usize]| {
            for (i, at) in offsets.iter_mut().enumerate() {
                *at = (unit * self.unit_rows + row + i) * g.co;
            }
            for group in 0..g.groups {
                let b = Panels::packed(&packed[group * each..][..each], pixels, cut);
                let panels = 0..cut.panels();
                let off = self.units[unit] + group * (g.c / g.groups) + row;
                let source = ASource::Columns { starts, step: self.windows.pixel_stride(), off };
                let out = out.columns(group * outputs, outputs);
                let step = Step { k0: 0, segs: starts.len(), len: g.ow, first, last: true };
                let rows = Rows { offsets, lines: 1 };
                // SAFETY: the strip holds the windows of every pixel of the chunk, and a unit's rows lie side
                // by side in them; tasks write disjoint rows of their part of dW.
                unsafe { multiply_block(self.isa, &source, rows, &b, step, panels, &out, None) };
            }
        });
    }
}
