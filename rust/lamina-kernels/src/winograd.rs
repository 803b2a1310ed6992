//! Winograd's minimal filtering: convolutions of stride 1 with fewer multiplications than the definition has.
//!
//! Along a line, `F(m, r)` makes `m` outputs of `r` taps from `n = m + r - 1` inputs, as `y = A' [(G g) * (B' d)]`:
//! polynomials of degree `r - 1` and `m - 1` are multiplied by evaluating both at `n` points. Nested over rows and
//! columns, `F(m x m, r x r)` makes a tile `Y = A' [(G g G') * (B' d B)] A`. The products in the middle are elementwise
//! over the positions, `n` or `n^2`, and summed over the channels: at each position a multiply of tiles by channels with
//! channels by filters.
//!
//! The points are 0, infinity and +-1 for n = 4, `+-1/sqrt 2`, `+-sqrt 2` for n = 6, which round less than the textbook's
//! +-1, +-2 (by a factor of 4), and +-1/2, +-1, +-2 for n = 8. All squares are exact.
//!
//! Of a tile at the end of a line that has no more than `m - 2` outputs, two positions are left out: 14 outputs are
//! 4 + 4 + 4 + 2, with 22 positions along each side for 24.
//!
//! Multiplications for an output and channel pair, and the measured error, the largest over the root mean square of the
//! outputs, inputs and filters uniform in -1..1:
//!
//! | | multiplications | 64 channels | 512 channels |
//! |---|---|---|---|
//! | F(2x2, 3x3) | 4 instead of 9 | 1.4e-6 | 3.2e-6 |
//! | F(4x4, 3x3) | 2.25 | 5e-6 | 1.6e-5 |
//! | F(3x3, 4x4) | 4 instead of 16 | 4.6e-6 | 1.3e-5 |
//! | F(2x2, 5x5) | 9 instead of 25 | 4.4e-6 | 1.1e-5 |
//! | F(4, 3) | 1.5 instead of 3 | 2.9e-6 | 6.4e-6 |
//! | F(2, 5) | 3 instead of 5 | 2.1e-6 | 6.2e-6 |
//! | F(4, 5) | 2 | 7.1e-6 | 1.7e-5 |
//! | F(2, 7) | 4 instead of 7 | 7.0e-6 | 1.8e-5 |
//!
//! The definition in float32, summed in one chain, has about 3e-6 and 8e-6. Over the largest output instead, F(4x4, 3x3)
//! has 4e-6 with 512 channels. F(6, 3) is left out: 6 % faster than F(4, 3), with 2.5 times its error.
//!
//! Formulas: Winograd, "Arithmetic complexity of computations" (1980); Lavin and Gray, "Fast algorithms for convolutional
//! neural networks" (2016); the points after Barabasz et al., "Error analysis and improving the accuracy of Winograd
//! convolution" (2020).

mod line;
mod tile;
mod transform;

use crate::conv::Conv2d;
use crate::epilogue::{Epilogue, apply_tile};
use crate::gemm::kernels::kernels;
use crate::gemm::tile::{Steps, Tile, alike, split};
use crate::gemm::{Cut, Output, packed_b_len};
use crate::simd::LINE;
use crate::threads::SharedMut;
use crate::{Isa, scratch, threads};
use std::ops::Range;
use tile::{Block, Grid};
use transform::{Filter, Input, Inverse};

pub use tile::Minimal;

/// Tiles of one block: enough to use each filter element often, few enough to stay in L2.
const fn block_tiles(positions: usize) -> usize {
    if positions > 16 { 28 } else { 56 }
}

/// Tasks are cut down to about this much work.
const BLOCK_NS: usize = 10_000;

/// Elements of transformed filters that are quickly read again.
const FEW_FILTERS: usize = 64 << 10;

/// A forward convolution, planned for one geometry.
///
/// Blocks of tiles are transformed into a strip `[position][tile][channel]`; then each panel of filters goes through
/// all positions and back through the inverse transform while its sums are in L2. Blocks and panels are independent, and
/// each sum is one chain in the order of the channels: the bits depend on neither cut.
#[derive(Clone, Debug)]
pub(crate) struct Winograd {
    isa: Isa,
    g: Conv2d,
    minimal: Minimal,
    grid: Grid,
}

/// Nanoseconds that one core takes to compute a convolution by its definition.
pub(crate) fn definition_ns(isa: Isa, g: &Conv2d) -> f64 {
    multiply_ns(isa, g.n * g.oh * g.ow, g.kh * g.kw, g.c / g.groups, g.co, 0)
}

/// The algorithm that computes a convolution fastest, or None where there is none that takes less than `definition`
/// nanoseconds. A filter that is packed for every run (`repacked`) is written and read once more.
pub(crate) fn fastest(isa: Isa, g: &Conv2d, definition: f64, repacked: bool) -> Option<Minimal> {
    if g.y_len() == 0 || g.c == 0 {
        return None;
    }
    let ns = |minimal| {
        let plan = Winograd::new(isa, g, minimal);
        let packing = if repacked { (4 * plan.packed_len()) as f64 / BYTES_PER_NS } else { 0.0 };
        plan.ns() + packing
    };
    let all = Minimal::ALL.into_iter().filter(|minimal| minimal.applies(g));
    let (minimal, best) = all.map(|minimal| (minimal, ns(minimal))).min_by(|a, b| a.1.total_cmp(&b.1))?;
    (best < 0.95 * definition).then_some(minimal)
}

/// What one core reads from memory while the other does too.
const BYTES_PER_NS: f64 = 20.0;

/// What a core multiplies and adds in each lane: 160 GFLOP/s with 16 of them, where machines have 115 to 260.
const FLOPS_PER_NS: f64 = 10.0;

/// Filters of so few bytes are found where the last run has left them, and read so fast.
const NEAR_BYTES: usize = 1 << 20;
const NEAR_BYTES_PER_NS: f64 = 60.0;

/// What the transforms take for each element of a transformed input or output: out of L2 and into it.
const TRANSFORM_NS: f64 = 0.08;

/// Channels whose products take as long as the start and the end of a tile's sums.
const TILE_STEPS: usize = 8;

/// Nanoseconds that one core takes for `rows` rows by each of `matrices` matrices of `c` by `co`, in tiles that take
/// `extra` steps more than they have channels: arithmetic, or reading the matrices once, whichever is longer.
fn multiply_ns(isa: Isa, rows: usize, matrices: usize, c: usize, co: usize, extra: usize) -> f64 {
    let flops_per_ns = FLOPS_PER_NS * kernels(isa).lanes as f64;
    let flops = 2.0 * (rows * matrices * (c + extra) * co) as f64;
    let bytes = 4 * matrices * c * co;
    let bytes_per_ns = if bytes <= NEAR_BYTES { NEAR_BYTES_PER_NS } else { BYTES_PER_NS };
    (flops / flops_per_ns).max(bytes as f64 / bytes_per_ns)
}

/// Where the transformed input of a block of tiles lies: floats from one tile and from one position to the next.
#[derive(Clone, Copy)]
struct Strip {
    tile: usize,
    position: usize,
}

impl Strip {
    /// Distances that do not fall into the same few places of L1.
    fn new(channels: usize, tiles: usize) -> Strip {
        let tile = channels.next_multiple_of(16) + 16;
        let position = tiles * tile;
        Strip { tile, position: position + if (position / 16).is_multiple_of(2) { 16 } else { 0 } }
    }
}

impl Winograd {
    /// Panics where the algorithm does not compute this geometry.
    pub fn new(isa: Isa, g: &Conv2d, minimal: Minimal) -> Self {
        assert!(
            minimal.applies(g),
            "{minimal:?} filters in steps of one pixel, one group, with as many taps"
        );
        Winograd { isa, g: *g, minimal, grid: Grid::new(g, minimal) }
    }

    /// Positions of a transformed tile.
    fn positions(&self) -> usize {
        self.minimal.positions()
    }

    /// Tiles of the batch.
    fn tiles(&self) -> usize {
        self.g.n * self.grid.tiles()
    }

    /// Products of the batch for each channel and filter: those of all tiles.
    fn products(&self) -> usize {
        self.g.n * self.grid.products(self.minimal)
    }

    /// Nanoseconds that one core takes, by the estimate that the definition is measured with.
    fn ns(&self) -> f64 {
        let Conv2d { c, co, .. } = self.g;
        multiply_ns(self.isa, self.products() / self.positions(), self.positions(), c, co, TILE_STEPS)
            + self.transforms_ns()
    }

    /// Those of the transforms.
    fn transforms_ns(&self) -> f64 {
        let Conv2d { c, co, .. } = self.g;
        TRANSFORM_NS * (self.products() * (c.next_multiple_of(16) + co)) as f64
    }

    /// Elements of the transformed filter.
    pub fn packed_len(&self) -> usize {
        self.positions() * packed_b_len(self.isa, self.g.c, self.g.co)
    }

    /// How the filters are cut into panels.
    fn cut(&self) -> Cut {
        Cut::new(self.isa, 0, self.g.co)
    }

    /// How many panels of filters there are.
    fn panels(&self) -> usize {
        self.cut().panels()
    }

    /// The filters of a panel as they are stored, with those that are not there. Panels lie whole,
    /// `[position][channel][column]`: they are read from front to back.
    fn stored(&self, panel: usize) -> Range<usize> {
        self.cut().stored(panel..panel + 1)
    }

    /// Where a panel of the transformed filter lies.
    fn place(&self, panel: usize) -> Range<usize> {
        let (stored, each) = (self.stored(panel), self.positions() * self.g.c);
        stored.start * each..stored.end * each
    }

    /// Transforms a filter `[kh, kw, c, co]`; the lengths are the caller's to check.
    pub fn pack(&self, hwio: &[f32], out: &mut [f32]) {
        let shared = SharedMut::new(out);
        threads::run(self.panels(), |i| {
            let (place, stored) = (self.place(i), self.stored(i));
            // SAFETY: panel i ends where the next one starts.
            let out = unsafe { shared.slice(place.start, place.len()) };
            let filter =
                Filter { hwio, c: self.g.c, co: self.g.co, first: stored.start, width: stored.len() };
            filter.run(self.isa, self.minimal, out);
        });
    }

    /// Computes `y` from `x`; the lengths of all but the epilogue are the caller's to check.
    pub fn run(&self, x: &[f32], packed: &[f32], y: &mut [f32], ep: &Epilogue) {
        let g = &self.g;
        ep.check(g.co, y.len());
        let tiles = self.tiles();
        if tiles * g.co == 0 {
            return;
        }
        let out = Output::new(y, g.co, false, ep);
        let panels = self.panels();
        let (blocks, parts) = self.tasks(tiles, panels);
        threads::run_chunked(blocks, parts, |block, taken| {
            let (first, count) = split(tiles, blocks, block);
            let strip = Strip::new(g.c, count);
            scratch::with(strip.position * self.positions(), |v: &mut [f32]| {
                self.grid.with_block(first..first + count, |block| {
                    // Few tiles and many filters: each thread transforms the tiles for itself, as to do that takes less
                    // time than to fetch them from where another has.
                    self.transform(x, block, strip, v);
                    for part in taken {
                        let (panel, panels) = split(panels, parts, part);
                        self.multiply(v, strip, block, packed, panel..panel + panels, &out);
                    }
                });
            });
        });
    }

    /// How many blocks of tiles and how many parts of the filters are made tasks of. Free to follow the number of
    /// threads, as bits do not depend on it.
    fn tasks(&self, tiles: usize, panels: usize) -> (usize, usize) {
        let blocks = tiles.div_ceil(block_tiles(self.positions()));
        let Conv2d { c, co, .. } = self.g;
        let work = self.products() * (c + TILE_STEPS) * co / 64 + self.transforms_ns() as usize;
        let threads = threads::num_threads();
        if threads == 1 || !threads::sharing_pays(work, self.g.x_len() + self.g.y_len()) {
            return (blocks, 1);
        }
        let want = (work / BLOCK_NS).clamp(2, 4 * threads);
        // As many blocks for each thread.
        let whole = if blocks > 1 { blocks.next_multiple_of(threads) } else { blocks };
        if blocks >= want {
            return (whole, 1);
        }
        // Blocks of about two tiles of registers are done in one go; smaller ones where the filters that each reads are
        // few.
        let even = |rows: usize| (tiles / rows).min(want) / threads * threads;
        let (tall, low) = (even(2 * kernels(self.isa).rows - 4), even(kernels(self.isa).rows + 2));
        if tall >= 2 * threads {
            return (tall.max(whole), 1);
        }
        if low >= threads && self.packed_len() <= FEW_FILTERS {
            return (low.max(whole), 1);
        }
        // No more than two threads transform the same tiles, where there are enough of them.
        let blocks = blocks.max((threads / 2).min(tiles / 8));
        (blocks, want.div_ceil(blocks).min(panels))
    }

    /// Transforms the tiles of a block into the strip `v`.
    fn transform(&self, x: &[f32], block: &Block, strip: Strip, v: &mut [f32]) {
        let input = Input { x, g: &self.g, grid: &self.grid, block, strip };
        scratch::with(self.g.c, |zeros: &mut [f32]| {
            zeros.fill(0.0);
            input.run(self.isa, self.minimal, zeros, v);
        });
    }

    /// Multiplies the tiles of a strip by panels of filters, and finishes their outputs.
    fn multiply(
        &self,
        v: &[f32],
        strip: Strip,
        block: &Block,
        packed: &[f32],
        panels: Range<usize>,
        out: &Output,
    ) {
        let kernels = kernels(self.isa);
        let (positions, c, count) = (self.positions(), self.g.c, block.places.len());
        assert!((count - 1) * strip.tile + c <= strip.position && strip.position * positions <= v.len());
        let widest = self.cut().widest();
        let sums = Strip { tile: widest, position: count * widest + 16 };
        // The tiles with a product at a position.
        let of = |position: usize| block.with_product(self.grid.dropped(self.minimal, position));
        scratch::with(sums.position * positions, |m: &mut [f32]| {
            scratch::with(count, |offsets: &mut [usize]| {
                offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * sums.tile);
                let start = v.as_ptr();
                for panel in panels {
                    let (width, filter) = (self.stored(panel).len(), &packed[self.place(panel)]);
                    let list = kernels.width(width).by_rows;
                    let each = c * width;
                    let mut tile = Tile {
                        a: &start,
                        row_stride: strip.tile,
                        a_step: 0,
                        a_off: 0,
                        a_segs: 0,
                        segs: 1,
                        len: c,
                        b: filter.as_ptr(),
                        b_step: width,
                        ahead: std::ptr::null(),
                        ahead_step: 0,
                        ahead_all: false,
                        packed: std::ptr::null_mut(),
                        panel_stride: 0,
                        c: m.as_mut_ptr(),
                        offsets: offsets.as_ptr(),
                        row: 0,
                        col: 0,
                        cols: width,
                        sum: std::ptr::null(),
                        sum_offsets: std::ptr::null(),
                        bias: std::ptr::null(),
                        residual: std::ptr::null(),
                        low: f32::NEG_INFINITY,
                        high: f32::INFINITY,
                        finish: kernels.finish,
                        outer: Steps::ONE,
                        inner: Steps::ONE,
                    };
                    let mut position = 0;
                    while position < positions {
                        let tiles = of(position);
                        let heights = tiles.len().div_ceil(list.len()).max(1);
                        let groups = alike(tiles.len(), heights);
                        // Positions with the same tiles follow each other, where all of them have the same rows.
                        let more = if groups[0].2 > 0 { 0 } else { positions };
                        let same = |&next: &usize| of(next) == tiles;
                        let run = 1 + (position + 1..positions).take(more).take_while(same).count();
                        // The tiles fetch the next position's filters together.
                        tile.ahead_step = width / heights;
                        tile.ahead_all = width / heights > LINE;
                        tile.outer = Steps {
                            count: run,
                            a_off: strip.position,
                            b: each,
                            ahead: each,
                            row: 0,
                            col: sums.position,
                        };
                        for (at, rows, count) in groups {
                            if rows * count == 0 {
                                continue;
                            }
                            let share = each / heights;
                            tile.row = tiles.start + at;
                            tile.col = position * sums.position;
                            tile.a_off = position * strip.position + tile.row * strip.tile;
                            tile.b = filter[position * each..].as_ptr();
                            tile.ahead =
                                tile.b.wrapping_add(each + if at > 0 { groups[0].2 * share } else { 0 });
                            tile.inner = Steps {
                                count,
                                a_off: rows * strip.tile,
                                ahead: share,
                                row: rows,
                                ..Steps::ONE
                            };
                            // SAFETY: `kernels(isa)` holds only kernels that isa proves; the rows lie in the strip by
                            // the assertion above, the panel has c rows of `width` for each position, the sums `count`
                            // rows of a panel.
                            unsafe { list[rows - 1](&tile) };
                        }
                        position += run;
                    }
                    self.finish(m, sums, block, panel, out);
                }
            });
        });
    }

    /// Transforms the sums of one panel back and writes its outputs.
    fn finish(&self, m: &[f32], sums: Strip, block: &Block, panel: usize, out: &Output) {
        let g = &self.g;
        let columns = self.cut().columns(panel..panel + 1);
        let filters = columns.len();
        let out = out.columns(columns.start, filters);
        let bounds = out.act.bounds();
        let inverse = Inverse { m, sums, g, grid: &self.grid, block };
        inverse.run(self.isa, self.minimal, &out);
        if bounds.is_some() {
            return;
        }
        let [a, b] = self.grid.axes;
        for &[image, row, col] in block.places {
            for row in row..(row + a.m).min(a.outputs) {
                for col in col..(col + b.m).min(b.outputs) {
                    let pixel = image * g.oh * g.ow + row * a.output_step + col * b.output_step;
                    // SAFETY: the pixel is one of this task's, and so are its filters.
                    unsafe { apply_tile(self.isa, out.act, out.c, &[pixel * g.co], filters) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
