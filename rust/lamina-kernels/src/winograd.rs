//! Winograd's minimal filtering: 3x3 convolutions of stride 1 with fewer multiplications than the definition has.
//!
//! `F(m x m, 3 x 3)` makes an `m x m` tile of outputs from `n x n` inputs, `n = m + 2`, as
//! `Y = A' [(G g G') * (B' d B)] A`: polynomials of degree 2 and `m - 1` are multiplied by evaluating both at `n`
//! points. The products in the middle are elementwise over the `n^2` positions and summed over the channels: at each
//! position a multiply of tiles by channels with channels by filters. That takes `n^2 / m^2` multiplications per output
//! and channel pair where the definition takes 9: 4 for m = 2, 2.25 for m = 4.
//!
//! The points are 0, 1, -1, infinity for m = 2 and 0, `+-1/sqrt 2`, `+-sqrt 2`, infinity for m = 4, which round less
//! than the textbook's 0, +-1, +-2 (by a factor of 4) and whose squares are exact.
//!
//! Measured error, the largest over the root mean square of the outputs, inputs and filters uniform in -1..1:
//!
//! | channels | m = 2 | m = 4 |
//! |---|---|---|
//! | 64 | 1.4e-6 | 5e-6 |
//! | 512 | 3.2e-6 | 1.6e-5 |
//!
//! The definition in float32, summed in one chain, has about 3e-6 and 8e-6. Over the largest output instead, m = 4 has
//! 4e-6 with 512 channels.
//!
//! Formulas: Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016); the points after Barabasz et
//! al., "Error analysis and improving the accuracy of Winograd convolution" (2020).

mod transform;

use crate::conv::Conv2d;
use crate::epilogue::{Epilogue, apply_tile};
use crate::gemm::tile::{Kernel, Tile, kernels, split};
use crate::gemm::{Output, packed_b_len};
use crate::threads::SharedMut;
use crate::{Isa, scratch, threads};
use std::ops::Range;
use transform::{Filter, Input, Inverse};

/// Sides of an output tile that there are transforms for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// F(2x2, 3x3)
    Two = 2,
    /// F(4x4, 3x3)
    Four = 4,
}

/// Tiles of one block: enough to use each filter element often, few enough to stay in L2.
const BLOCK_TILES: usize = 28;

/// Tasks are cut down to about this much work.
const TASK_NS: usize = 20_000;

/// A forward convolution, planned for one geometry.
///
/// Blocks of tiles are transformed into a strip `[position][tile][channel]`; then each panel of filters goes through
/// all positions and back through the inverse transform while its sums are in L2. Blocks and panels are independent, and
/// each sum is one chain in the order of the channels: the bits depend on neither cut.
#[derive(Clone, Debug)]
pub(crate) struct Winograd {
    isa: Isa,
    g: Conv2d,
    side: Side,
    /// Tiles of an image, down and across.
    rows: usize,
    cols: usize,
}

/// The side of the tiles that compute a convolution fastest, or None where the definition does. A filter that is packed
/// for every run (`repacked`) is written and read once more.
pub(crate) fn fastest(isa: Isa, g: &Conv2d, repacked: bool) -> Option<Side> {
    if !Winograd::applies(g) || g.y_len() == 0 || g.c == 0 {
        return None;
    }
    let direct = multiply_ns(isa, g.n * g.oh * g.ow, 9, g.c, g.co, 0);
    let ns = |side| {
        let plan = Winograd::new(isa, g, side);
        let packing = if repacked { (4 * plan.packed_len()) as f64 / BYTES_PER_NS } else { 0.0 };
        plan.ns() + packing
    };
    let (two, four) = (ns(Side::Two), ns(Side::Four));
    let (side, best) = if two < four { (Side::Two, two) } else { (Side::Four, four) };
    (best < 0.95 * direct).then_some(side)
}

/// What one core reads from memory while the other does too.
const BYTES_PER_NS: f64 = 20.0;

/// What the transforms take for each element of a transformed input or output: out of L2 and into it.
const TRANSFORM_NS: f64 = 0.08;

/// Channels whose products take as long as the start and the end of a tile's sums.
const TILE_STEPS: usize = 8;

/// Nanoseconds that one core takes for `rows` rows by each of `matrices` matrices of `c` by `co`, in tiles that take
/// `extra` steps more than they have channels: arithmetic, or reading the matrices once, whichever is longer.
fn multiply_ns(isa: Isa, rows: usize, matrices: usize, c: usize, co: usize, extra: usize) -> f64 {
    let flops_per_ns = 14.0 * kernels(isa).lanes as f64;
    let flops = 2.0 * (rows * matrices * (c + extra) * co) as f64;
    (flops / flops_per_ns).max((4 * matrices * c * co) as f64 / BYTES_PER_NS)
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
    /// Whether there are transforms for this geometry.
    pub fn applies(g: &Conv2d) -> bool {
        (g.kh, g.kw, g.stride, g.dilation, g.groups) == (3, 3, (1, 1), (1, 1), 1)
    }

    /// Panics where the geometry has no transforms.
    pub fn new(isa: Isa, g: &Conv2d, side: Side) -> Self {
        assert!(
            Self::applies(g),
            "only 3x3 filters of stride 1, neither dilated nor grouped, are transformed"
        );
        let m = side as usize;
        Winograd { isa, g: *g, side, rows: g.oh.div_ceil(m), cols: g.ow.div_ceil(m) }
    }

    /// Positions of a transformed tile.
    fn positions(&self) -> usize {
        (self.side as usize + 2).pow(2)
    }

    /// Tiles of the batch.
    fn tiles(&self) -> usize {
        self.g.n * self.rows * self.cols
    }

    /// Nanoseconds that one core takes, by the estimate that the definition is measured with.
    fn ns(&self) -> f64 {
        let Conv2d { c, co, .. } = self.g;
        let moved = self.positions() * self.tiles() * (c.next_multiple_of(16) + co);
        multiply_ns(self.isa, self.tiles(), self.positions(), c, co, TILE_STEPS) + TRANSFORM_NS * moved as f64
    }

    /// Elements of the transformed filter.
    pub fn packed_len(&self) -> usize {
        self.positions() * packed_b_len(self.isa, self.g.c, self.g.co)
    }

    /// Columns of a panel as they are stored: the last may be one vector wide.
    fn width(&self, panel: usize) -> usize {
        let k = kernels(self.isa);
        if self.g.co - panel * k.panel <= k.lanes { k.lanes } else { k.panel }
    }

    /// Where a panel of the transformed filter starts. Panels lie whole, `[position][channel][column]`: they are read
    /// from front to back.
    fn panel_start(&self, panel: usize) -> usize {
        panel * kernels(self.isa).panel * self.positions() * self.g.c
    }

    /// Transforms a filter `[3, 3, c, co]`; the lengths are the caller's to check.
    pub fn pack(&self, hwio: &[f32], out: &mut [f32]) {
        let shared = SharedMut::new(out);
        let panel = kernels(self.isa).panel;
        threads::run(self.g.co.div_ceil(panel), |i| {
            let width = self.width(i);
            // SAFETY: panel i ends where the next one starts.
            let out = unsafe { shared.slice(self.panel_start(i), self.positions() * self.g.c * width) };
            let filter = Filter { hwio, c: self.g.c, co: self.g.co, first: i * panel, width };
            filter.run(self.isa, self.side, out);
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
        let panels = g.co.div_ceil(kernels(self.isa).panel);
        let (blocks, parts) = self.cut(tiles, panels);
        if parts == 1 {
            let task = |i: usize| {
                let (first, count) = split(tiles, blocks, i);
                let strip = Strip::new(g.c, count);
                scratch::with(strip.position * self.positions(), |v: &mut [f32]| {
                    self.transform(x, first..first + count, first, strip, &SharedMut::new(v));
                    self.multiply(v, strip, first..first + count, first, packed, 0..panels, &out);
                });
            };
            return threads::run(blocks, task);
        }
        // Few tiles and many filters: the tiles are transformed once, for all parts of the filters.
        let strip = Strip::new(g.c, tiles);
        scratch::with(strip.position * self.positions(), |v: &mut [f32]| {
            let shared = SharedMut::new(v);
            let groups = tiles.min(2 * threads::num_threads());
            threads::run(groups, |i| {
                let (first, count) = split(tiles, groups, i);
                self.transform(x, first..first + count, 0, strip, &shared);
            });
            let v = &*v;
            threads::run(blocks * parts, |i| {
                let (first, count) = split(tiles, blocks, i % blocks);
                let (panel, panels) = split(panels, parts, i / blocks);
                self.multiply(v, strip, first..first + count, 0, packed, panel..panel + panels, &out);
            });
        });
    }

    /// How many blocks of tiles and how many parts of the filters are made tasks of. Free to follow the number of
    /// threads, as bits do not depend on it.
    fn cut(&self, tiles: usize, panels: usize) -> (usize, usize) {
        let blocks = tiles.div_ceil(BLOCK_TILES);
        let work = self.positions() * tiles * self.g.c * self.g.co / 64;
        let want = (work / TASK_NS).min(4 * threads::num_threads());
        if threads::num_threads() == 1 || want < 2 || blocks >= want {
            return (blocks, 1);
        }
        let full = tiles / kernels(self.isa).rows;
        if full >= want {
            return (want, 1);
        }
        (blocks, want.div_ceil(blocks).min(panels))
    }

    /// Transforms `tiles` into the strip `v`, whose first tile is `origin`.
    fn transform(&self, x: &[f32], tiles: Range<usize>, origin: usize, strip: Strip, v: &SharedMut<f32>) {
        let input = Input { x, g: &self.g, grid: (self.rows, self.cols), tiles, origin, strip };
        scratch::with(self.g.c, |zeros: &mut [f32]| {
            zeros.fill(0.0);
            input.run(self.isa, self.side, zeros, v);
        });
    }

    /// Multiplies `tiles` of the strip, whose first tile is `origin`, by panels of filters, and finishes their outputs.
    fn multiply(
        &self,
        v: &[f32],
        strip: Strip,
        tiles: Range<usize>,
        origin: usize,
        packed: &[f32],
        panels: Range<usize>,
        out: &Output,
    ) {
        let kernels = kernels(self.isa);
        let (positions, c, count) = (self.positions(), self.g.c, tiles.len());
        assert!(
            (tiles.end - origin - 1) * strip.tile + c <= strip.position
                && strip.position * positions <= v.len()
        );
        let sums = Strip { tile: kernels.panel, position: count * kernels.panel + 16 };
        let heights = count.div_ceil(kernels.rows);
        scratch::with(sums.position * positions, |m: &mut [f32]| {
            scratch::with(count, |offsets: &mut [usize]| {
                offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * sums.tile);
                for panel in panels {
                    let width = self.width(panel);
                    let list: &[Kernel] =
                        if width == kernels.panel { kernels.by_rows } else { kernels.by_rows_narrow };
                    let filter = &packed[self.panel_start(panel)..][..positions * c * width];
                    for position in 0..positions {
                        let b = filter[position * c * width..].as_ptr();
                        let next = b.wrapping_add(c * width);
                        for i in 0..heights {
                            let (first, rows) = split(count, heights, i);
                            let start =
                                position * strip.position + (tiles.start - origin + first) * strip.tile;
                            let row = v[start..].as_ptr();
                            let tile = Tile {
                                a: &row,
                                row_stride: strip.tile,
                                a_step: 0,
                                a_off: 0,
                                segs: 1,
                                len: c,
                                b,
                                b_step: width,
                                // The tiles fetch the next position's filters together.
                                ahead: next.wrapping_add(i * c * width / heights),
                                ahead_step: width / heights,
                                panel_stride: 0,
                                c: m[position * sums.position..].as_mut_ptr(),
                                offsets: offsets[first..].as_ptr(),
                                cols: width,
                                sum: std::ptr::null(),
                                sum_offsets: std::ptr::null(),
                                bias: std::ptr::null(),
                                residual: std::ptr::null(),
                                low: f32::NEG_INFINITY,
                                high: f32::INFINITY,
                                finish: kernels.finish,
                            };
                            // SAFETY: `kernels(isa)` holds only kernels that isa proves; the rows lie in the strip by
                            // the assertion above, the panel has c rows of `width`, the sums `count` rows of a panel.
                            unsafe { list[rows - 1](&tile) };
                        }
                    }
                    self.finish(m, sums, tiles.clone(), panel * kernels.panel, out);
                }
            });
        });
    }

    /// Transforms the sums of one panel back and writes its outputs from filter `first` on.
    fn finish(&self, m: &[f32], sums: Strip, tiles: Range<usize>, first: usize, out: &Output) {
        let g = &self.g;
        let filters = (g.co - first).min(kernels(self.isa).panel);
        let out = out.columns(first, filters);
        let bounds = out.act.bounds();
        let inverse = Inverse { m, sums, g, grid: (self.rows, self.cols), tiles: tiles.clone() };
        inverse.run(self.isa, self.side, &out);
        if bounds.is_some() {
            return;
        }
        let m = self.side as usize;
        for tile in tiles {
            let (image, y, x) =
                (tile / (self.rows * self.cols), tile / self.cols % self.rows * m, tile % self.cols * m);
            for y in y..(y + m).min(g.oh) {
                let pixels = (x..(x + m).min(g.ow)).map(|x| ((image * g.oh + y) * g.ow + x) * g.co);
                for offset in pixels {
                    // SAFETY: the pixel is one of this task's, and so are its filters.
                    unsafe { apply_tile(self.isa, out.act, out.c, &[offset], filters) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
