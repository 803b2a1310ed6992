//! The multiply behind the forward convolution and the gradient of its input: rows of A are windows of an
//! image, rows of C are pixels of a lattice.

use super::window::{Image, Tap, Windows};
use crate::epilogue::Epilogue;
use crate::gemm::kernels::kernels;
use crate::gemm::{
    AMX_BLOCK_ROWS, AMX_DEPTH, ASource, Output, Packing, Partial, Rows, Step, TASKS_EACH, Work, chunks, grid,
    k_block, multiply_block, multiply_parts, rows_stay, run_task_ranges,
};
use crate::partition::{cuts, part, parts, stretches};
use crate::{Isa, scratch, threads};
use std::mem::MaybeUninit;
use std::ops::Range;

/// The pixels that are written: per image `rows x cols` of them, from `first` on, `step` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lattice {
    pub rows: usize,
    pub cols: usize,
    pub first: (usize, usize),
    pub step: (usize, usize),
    /// Height and width of the image they lie in.
    pub image: (usize, usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Indirect {
    isa: Isa,
    windows: Windows,
    taps: Vec<Tap>,
    /// Where each segment starts in a window: taps that lie side by side in the image are one segment.
    segs: Vec<usize>,
    /// Elements of a segment.
    seg_len: usize,
    groups: usize,
    /// Input and output channels of a group.
    inputs: usize,
    outputs: usize,
    lattice: Lattice,
    /// Of each group's filter.
    packing: Packing,
}

/// Pixels of one task at least, where the work allows.
const BLOCK_PIXELS: usize = 168;

/// Segments up to this length are formed by merging taps: the longer, the fewer pointers are read; but the
/// blocks of k are whole segments.
const MERGE_UP_TO: usize = 512;

impl Indirect {
    /// `taps` in the order in which they were packed, as a whole or one by one, sorted by place; `channels` of the output
    /// in all.
    pub fn new(
        isa: Isa,
        image: Image,
        taps: Vec<Tap>,
        step: (usize, usize),
        groups: usize,
        lattice: Lattice,
        channels: usize,
        whole: bool,
    ) -> Self {
        let inputs = image.c / groups;
        let lines = taps.chunk_by(|a, b| a.dy == b.dy && a.dx + 1 == b.dx);
        let width = lines.clone().next().map_or(1, <[Tap]>::len);
        let merge =
            groups == 1 && width * inputs <= MERGE_UP_TO && lines.clone().all(|line| line.len() == width);
        let width = if merge { width } else { 1 };
        let windows = Windows::new(image, &taps, lattice.rows, lattice.cols, step);
        let (outputs, seg_len) = (channels / groups, width * inputs);
        let k = taps.len() * inputs;
        // The parts of AMX are whole tiles: so must the steps be.
        let aligned = k_block(k) >= k || seg_len.is_multiple_of(AMX_DEPTH);
        let rows = if whole && aligned && groups == 1 { windows.all_rows() * windows.cols } else { 0 };
        Indirect {
            isa,
            packing: Packing::new(isa, rows, k, outputs),
            segs: taps.iter().step_by(width).map(|tap| windows.tap_offset(tap)).collect(),
            windows,
            seg_len,
            taps,
            groups,
            inputs,
            outputs,
            lattice,
        }
    }

    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn k(&self) -> usize {
        self.taps.len() * self.inputs
    }

    /// How each group's filter is packed: taps by input channels, by output channels.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Elements of the packed filter: each group's taps, input channels within them, by output channels.
    pub fn packed_len(&self) -> usize {
        self.groups * self.packing.packed_len()
    }

    pub fn run(&self, x: &[f32], packed: &[f32], y: &mut [f32], ep: &Epilogue) {
        let channels = self.groups * self.outputs;
        ep.check(channels, y.len());
        let rows = self.windows.all_rows();
        if rows * self.windows.cols * channels == 0 {
            return;
        }
        let out = Output::new(y, channels, false, ep);
        let panels = self.packing.count() * self.groups;
        let work = Work::new(rows * self.windows.cols, self.outputs, self.k()).times(self.groups);
        let in_parts = self.packing.in_parts();
        let (pixels, each) = if in_parts { (AMX_BLOCK_ROWS, 1) } else { (BLOCK_PIXELS, TASKS_EACH) };
        let block = pixels.div_ceil(self.windows.cols);
        let stay = rows_stay(rows * self.windows.cols, self.k(), self.outputs);
        let (row_blocks, col_blocks) = grid(rows, block, panels, work, each, stay);
        let blocks = row_blocks * col_blocks;
        let place = |t: usize| {
            (part(0..rows, row_blocks, t / col_blocks), part(0..panels, col_blocks, t % col_blocks))
        };
        if in_parts {
            let chunks = chunks(work.ns / blocks, panels / col_blocks);
            return threads::run_chunked(blocks, chunks, |t, taken| {
                let (rows, panels) = place(t);
                self.block(x, packed, &out, rows, &mut taken.map(|i| part(panels.clone(), chunks, i)));
            });
        }
        run_task_ranges(work, blocks, |some| {
            for (some_rows, columns) in stretches(col_blocks, some) {
                let rows = parts(0..rows, row_blocks, some_rows);
                let panels = parts(0..panels, col_blocks, columns);
                let blocks = rows.len().div_ceil(block);
                for rows in cuts(rows, blocks) {
                    self.block(x, packed, &out, rows, &mut std::iter::once(panels.clone()));
                }
            }
        });
    }

    /// Rows of windows by ranges of panels of output channels, which are counted through the groups.
    pub fn block(
        &self,
        x: &[f32],
        packed: &[f32],
        out: &Output,
        rows: Range<usize>,
        panels: &mut dyn Iterator<Item = Range<usize>>,
    ) {
        let cols = self.windows.cols;
        let pixels = rows.len() * cols;
        // Windows of one line are a stride apart; lines too short for good tiles are joined by a table.
        let height = kernels(self.isa).rows;
        let lines = if cols * 2 >= height { rows.len() } else { 1 };
        scratch::with_uninit(pixels, |offsets: &mut [MaybeUninit<usize>]| {
            for (row, offsets) in rows.clone().zip(offsets.chunks_exact_mut(cols)) {
                let Lattice { first, step, image, .. } = self.lattice;
                let y = row / self.windows.rows * image.0 + first.0 + row % self.windows.rows * step.0;
                let channels = self.groups * self.outputs;
                let (mut next, step) = ((y * image.1 + first.1) * channels, step.1 * channels);
                for offset in offsets {
                    offset.write(next);
                    next = next.wrapping_add(step);
                }
            }
            // SAFETY: one offset per pixel was written: rows.len() chunks of cols.
            let offsets = unsafe { scratch::written(offsets) };
            self.windows.strip(x, rows, |strip| {
                let rows = Rows { offsets, lines };
                let segs = self.segs.len();
                if lines == strip.len() {
                    return scratch::with_uninit(lines * segs, |starts: &mut [MaybeUninit<*const f32>]| {
                        for (i, start) in starts.iter_mut().enumerate() {
                            start.write(strip[i / segs].wrapping_add(self.segs[i % segs]));
                        }
                        // SAFETY: all were just written.
                        let starts = unsafe { scratch::written(starts) };
                        let stride = self.windows.pixel_stride();
                        self.multiply(packed, out, rows, panels, |seg0, off| ASource::Lines {
                            starts,
                            segs,
                            seg0,
                            off,
                            stride,
                        });
                    });
                }
                scratch::with_uninit(pixels * segs, |table: &mut [MaybeUninit<*const f32>]| {
                    for (pixel, pointers) in table.chunks_exact_mut(segs.max(1)).enumerate() {
                        let (row, col) = (pixel / cols, pixel % cols);
                        let base = strip[row].wrapping_add(col * self.windows.pixel_stride());
                        for (pointer, offset) in pointers.iter_mut().zip(&self.segs) {
                            pointer.write(base.wrapping_add(*offset));
                        }
                    }
                    // SAFETY: all were just written: a pixel's segments, for each.
                    let table = unsafe { scratch::written(table) };
                    self.multiply(packed, out, rows, panels, |seg0, off| ASource::Rows {
                        table,
                        segs,
                        seg0,
                        off,
                    });
                });
            });
        });
    }

    /// `source` gives A from a segment and an offset on.
    fn multiply<'a>(
        &self,
        packed: &[f32],
        out: &Output,
        rows: Rows,
        panels: &mut dyn Iterator<Item = Range<usize>>,
        source: impl Fn(usize, usize) -> ASource<'a>,
    ) {
        let segs = self.segs.len();
        let per_step = (k_block(self.k()) / self.seg_len.max(1)).max(1);
        // At least one, so that pixels that no tap sees get their zeros.
        let steps = segs.div_ceil(per_step).max(1);
        let step = |i: usize| Step {
            k0: i * per_step * self.seg_len,
            segs: per_step.min(segs - i * per_step),
            len: self.seg_len,
            first: i == 0,
            last: i + 1 == steps,
        };
        if self.packing.in_parts() {
            let source = |i: usize| (source(i * per_step, 0), step(i));
            let b = self.packing.panels(packed);
            // SAFETY: as below; parts are for one group only.
            return unsafe { multiply_parts(self.isa, steps, source, rows, &b, panels, out) };
        }
        let each = self.packing.packed_len();
        let per_group = self.packing.count();
        for panels in panels {
            for group in panels.start / per_group..panels.end.div_ceil(per_group) {
                let columns = panels.start.max(group * per_group) - group * per_group
                    ..panels.end.min((group + 1) * per_group) - group * per_group;
                let b = self.packing.panels(&packed[group * each..][..each]);
                let out = out.columns(group * self.outputs, self.outputs);
                let strip = b.columns(columns.clone());
                Partial::with(steps, rows.offsets.len(), strip, |mut partial| {
                    for i in 0..steps {
                        let (columns, partial) = (columns.clone(), partial.as_deref_mut());
                        let a = source(i * per_step, group * self.inputs);
                        // SAFETY: the strip holds every tap's channels of every pixel; pixels and panels of tasks
                        // are disjoint, and offsets plus columns stay in the output image.
                        unsafe { multiply_block(self.isa, &a, rows, &b, step(i), columns, &out, partial) };
                    }
                });
            }
        }
    }
}
