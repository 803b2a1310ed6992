//! Matrix multiply: `C = act(A B + bias + residual)`, float32, any strides, any sizes.
//!
//! B is read as a [`Packing`] laid it out, which a layer keeps. A plain B is packed on the way: as a whole, in strips by
//! those who read them, or panel by panel by the first tile that reads it; where A has few rows it is read in place, or
//! taken by dot products where it is transposed. With a packed B, a row of C has the same bits whatever the number of
//! rows: sums run in the order of k, in blocks that depend on k alone. Only where large products are AMX's ([`Packing`])
//! do they differ in the last bits from small ones. The number of threads never matters.

#[cfg(target_arch = "x86_64")]
mod amx;
mod block;
mod double;
mod few;
pub(crate) mod kernels;
mod output;
mod pack;
mod panels;
mod several;
mod small;
mod tasks;
mod then;
pub(crate) mod tile;
mod transposed;

pub(crate) use block::{ASource, Partial, Rows, Step, k_block, multiply_block, multiply_parts};
pub use double::gemm_f64;
pub(crate) use output::Output;
pub use pack::{B, Packing};
pub(crate) use pack::{pack_b, pack_b_rows, packed_b_len};
pub(crate) use panels::{Cut, Panels};
pub use several::gemm_several;
pub(crate) use tasks::{TASK_NS, TASKS_EACH, Work, chunks, grid, rows_stay, run_task_ranges, run_tasks};
pub use then::{Operand, gemm_then};
pub use transposed::gemm_transposed;

use crate::epilogue::Epilogue;
use crate::isa::Level;
use crate::partition::{cuts, part, parts, stretches};
use crate::simd::{LINE, prefetch};
use crate::threads;
use crate::{Isa, scratch};
use kernels::kernels;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;
use tasks::CHUNK_NS;
use tile::split;

/// A matrix over a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T = f32> {
    /// Holds every element.
    pub data: &'a [T],
    /// How many rows.
    pub rows: usize,
    /// How many columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A row-major matrix.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Self {
        MatRef { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The `rows x cols` transpose of a row-major `cols x rows` matrix.
    pub fn transposed(data: &'a [T], rows: usize, cols: usize) -> Self {
        MatRef { data, rows, cols, row_stride: 1, col_stride: rows }
    }

    /// The same elements with rows and columns exchanged.
    pub fn t(self) -> Self {
        MatRef {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Whether elements of a row or of a column lie side by side.
    fn contiguous(&self) -> bool {
        self.row_stride == 1 || self.col_stride == 1
    }

    fn check(&self) {
        let last = |n: usize, stride: usize| n.saturating_sub(1) * stride;
        assert!(
            self.rows * self.cols == 0
                || last(self.rows, self.row_stride) + last(self.cols, self.col_stride) < self.data.len(),
            "a matrix of {} x {} elements with strides {} and {} leaves its slice of {}",
            self.rows,
            self.cols,
            self.row_stride,
            self.col_stride,
            self.data.len()
        );
    }
}

/// Rows, panels and elements of A of one block at most: its A, and where k is cut its sums, stay in L2.
const BLOCK_ROWS: usize = 196;
const BLOCK_PANELS: usize = 11;
const BLOCK_LEN: usize = 100 << 10;

/// Up to this many rows each task packs the columns of B that it reads, and nobody waits for a B packed as a whole:
/// all rows of A and such a strip stay in L2.
const STRIP_ROWS: usize = 256;
const STRIP_PANELS: usize = 3;

/// Rows of a tile of AMX, columns of a panel for it, and the elements of k in a tile.
pub(crate) const AMX_ROWS: usize = 16;
const AMX_PANEL: usize = 32;
pub(crate) const AMX_DEPTH: usize = 32;

/// Rows of a block that AMX multiplies, and elements of its A in one step of k and in all.
pub(crate) const AMX_BLOCK_ROWS: usize = 256;
const AMX_BLOCK_LEN: usize = 160 << 10;
const AMX_BLOCK_ALL: usize = 1 << 20;

/// `C = act(A B + bias + residual)`, or `act(C + A B + ...)` where `accumulate`.
///
/// `c` is row-major with `ldc` elements from one row to the next, `m x n`; a residual has C's layout.
/// Panics where a slice is too short or the inner dimensions differ.
pub fn gemm(isa: Isa, a: MatRef, b: B, c: &mut [f32], ldc: usize, accumulate: bool, ep: &Epilogue) {
    let ((_, n), m) = (b.dims(), a.rows);
    assert!(
        m == 0 || n == 0 || ldc >= n && c.len() >= (m - 1) * ldc + n,
        "C holds {m} rows of {n}, {ldc} apart"
    );
    ep.check(n, c.len());
    product(isa, a, b, ldc, &Output::new(c, n, accumulate, ep));
}

/// [`gemm`] to an output that holds it.
fn product(isa: Isa, a: MatRef, b: B, ldc: usize, out: &Output) {
    let ((k, n), m) = (b.dims(), a.rows);
    assert_eq!(a.cols, k, "A has as many columns as B has rows");
    a.check();
    if m == 0 || n == 0 {
        return;
    }
    match b {
        B::Packed { packing, data } => {
            assert_eq!(packing.isa, isa, "a B packed for another instruction set");
            assert_eq!(data.len(), packing.packed_len(), "a packed B of another size");
            let panels = packing.panels(data);
            if panels.parts && !a.contiguous() {
                return scratch::with(m * k, |copy: &mut [f32]| {
                    pack::copy_a(a, 0, m, 0, k, k, copy);
                    multiply(isa, MatRef::row_major(copy, m, k), panels, ldc, out);
                });
            }
            multiply(isa, a, panels, ldc, out);
        }
        B::Plain(b) => {
            b.check();
            let kernels = kernels(isa);
            let cut = Cut::new(isa, m, n);
            if b.row_stride == 1 && b.col_stride != 1 && a.col_stride == 1 && small::pays(m, k) {
                small::dots(isa, a, b, ldc, out);
            } else if b.col_stride == 1 && (m <= kernels.rows || m <= STRIP_ROWS && a.col_stride == 1) {
                // Read where it lies: by one tile, or by one that packs it for the others.
                let tail = cut.columns(cut.broken());
                let tail_at = MatRef { data: &b.data[tail.start.min(b.data.len())..], cols: tail.len(), ..b };
                scratch::with(packed_b_len(isa, k, tail.len()), |packed: &mut [f32]| {
                    pack_b(isa, Cut::new(isa, 0, tail.len()), tail_at, packed);
                    let panels = Panels::in_place(b, cut, packed);
                    if m <= kernels.rows {
                        multiply(isa, a, panels, ldc, out);
                    } else {
                        strips(isa, a, &Right::Panels(panels), ldc, out);
                    }
                });
            } else if m <= STRIP_ROWS {
                strips(isa, a, &Right::Plain(b, cut), ldc, out);
            } else {
                let packing = Packing::new(isa, m, k, n);
                scratch::with(packing.packed_len(), |packed: &mut [f32]| {
                    packing.pack(b, packed);
                    product(isa, a, packing.operand(packed), ldc, out);
                });
            }
        }
    }
}

/// Whether a product of such dimensions is faster by AMX. A matter of the whole product, not of one task's part of it:
/// the bits of a row follow from it.
pub(crate) fn amx_pays(isa: Isa, m: usize, k: usize, n: usize) -> bool {
    // A is split once for all columns, sums are written once for all of k, and the last tile is as tall as the others.
    let full = m >= 2 * AMX_ROWS && m.next_multiple_of(AMX_ROWS) * 5 <= m * 6;
    isa.level() == Level::Amx && full && k * n >= 64 * (k + n)
}

fn multiply(isa: Isa, a: MatRef, b: Panels, ldc: usize, out: &Output) {
    if b.parts {
        return multiply_by_parts(isa, a, &b, ldc, out);
    }
    let kernels = kernels(isa);
    let (m, k, n) = (a.rows, b.k, out.cols);
    let work = Work::new(m, n, k);
    let alone = m <= kernels.rows && !work.is_shared();
    if alone && few::fits(kernels, &a, &b) {
        return few::multiply(isa, a, &b, ldc, out);
    }
    let (cut, start, panels) = (b.cut, b.start(), b.cut.panels());
    let b = Right::Panels(b);
    if alone {
        return row_block(isa, a, &b, ldc, out, (0, m), 0..panels);
    }
    // Tasks of rows are of as many tiles, each as most panels have them.
    let stay = rows_stay(m, k, n);
    let height = if stay { kernels.height(cut.stored(0..1).len()) } else { kernels.rows };
    let tiles = m.div_ceil(height);
    let block = (BLOCK_LEN / k_block(k)).clamp(4 * kernels.rows, BLOCK_ROWS) / height;
    // Few rows take several panels at once: borders stand between those.
    let wide = kernels.wide(&cut, m, panels / threads::num_threads());
    let unit = wide.map_or(1, |(count, _)| count);
    let units = panels.div_ceil(unit);
    let (row_blocks, mut col_blocks) = grid(tiles, block, units, work, TASKS_EACH, stay);
    // Where k is cut, the sums of a block wait: of no more columns than those of a task.
    let waits = k > k_block(k);
    if waits {
        col_blocks = col_blocks.max(panels.div_ceil(BLOCK_PANELS)).min(units);
    }
    let row = |tile| if tile == tiles { m } else { split(m, tiles, tile).0 };
    // What few rows read may be more than L2 holds. Then the end of it is there yet, and is read first: every other time each
    // thread goes through its tasks, and through each of them, from the last to the first.
    let backward = wide.is_some() && turned(start);
    let out = &out.backward(backward);
    let threads = threads::num_threads();
    let home = if col_blocks.is_multiple_of(threads) { col_blocks / threads } else { 1 };
    let mirrored = |t: usize| t / home * home + home - 1 - t % home;
    // Row blocks run fastest: the panels of a column block stay in the shared cache meanwhile.
    run_task_ranges(work, row_blocks * col_blocks, |some| {
        for (columns, rows) in stretches(row_blocks, some) {
            let some_tiles = parts(0..tiles, row_blocks, rows);
            let blocks = some_tiles.len().div_ceil(block);
            for block in cuts(some_tiles, blocks) {
                let rows = (row(block.start), row(block.end) - row(block.start));
                for columns in cuts(columns.clone(), if waits || backward { columns.len() } else { 1 }) {
                    let first = columns.start;
                    let columns = if backward { mirrored(first)..mirrored(first) + 1 } else { columns };
                    let units = parts(0..units, col_blocks, columns);
                    let panels = units.start * unit..(units.end * unit).min(panels);
                    row_block(isa, a, &b, ldc, out, rows, panels);
                }
            }
        }
    });
}

/// Whether this thread has asked an odd number of times for this matrix. Matrices that share a bit disturb each other, which
/// costs time alone.
fn turned(matrix: *const f32) -> bool {
    thread_local! {
        static TURNS: Cell<u64> = const { Cell::new(0) };
    }
    let bit = 1 << ((matrix as usize >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58);
    let turns = TURNS.get() ^ bit;
    TURNS.set(turns);
    turns & bit != 0
}

/// [`multiply`] by AMX: a thread splits the rows of a block once, for all the columns that it takes of it.
fn multiply_by_parts(isa: Isa, a: MatRef, b: &Panels, ldc: usize, out: &Output) {
    let (m, k, n) = (a.rows, b.k, out.cols);
    let (tiles, panels) = (m.div_ceil(AMX_ROWS), n.div_ceil(AMX_PANEL));
    let work = Work::new(m, n, k);
    let most = (AMX_BLOCK_LEN / k_block(k)).min(AMX_BLOCK_ALL / k).clamp(4 * AMX_ROWS, AMX_BLOCK_ROWS);
    let (row_blocks, col_blocks) = grid(tiles, most / AMX_ROWS, panels, work, 1, rows_stay(m, k, n));
    let blocks = row_blocks * col_blocks;
    let chunks = chunks(work.ns / blocks, panels / col_blocks);
    let (len, steps) = (k_block(k), k.div_ceil(k_block(k)));
    threads::run_chunked(blocks, chunks, |block, taken| {
        let tiles = part(0..tiles, row_blocks, block % row_blocks);
        let (row, end) = (tiles.start * AMX_ROWS, m.min(tiles.end * AMX_ROWS));
        let columns = part(0..panels, col_blocks, block / row_blocks);
        let starts = [a.data.as_ptr().wrapping_add(row * a.row_stride)];
        let source = |i: usize| {
            let (k0, len) = (i * len, len.min(k - i * len));
            let off = k0 * a.col_stride;
            let source = if a.col_stride == 1 {
                ASource::Lines { starts: &starts, segs: 1, seg0: 0, off, stride: a.row_stride }
            } else {
                ASource::Columns { starts: &starts, step: a.col_stride, off }
            };
            (source, Step { k0, segs: 1, len, first: i == 0, last: i + 1 == steps })
        };
        scratch::with(end - row, |offsets: &mut [usize]| {
            offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = (row + i) * ldc);
            let rows = Rows { offsets, lines: 1 };
            let mut taken = taken.map(|i| part(columns.clone(), chunks, i));
            // SAFETY: `MatRef::check` holds the pointers in bounds; blocks cover disjoint rows and columns of C, and each
            // chunk of one is taken once.
            unsafe { multiply_parts(isa, steps, source, rows, b, &mut taken, out) };
        });
    });
}

/// All rows by strips of columns, each of which its task packs: at once, or where B can be read in place panel by panel.
fn strips(isa: Isa, a: MatRef, b: &Right, ldc: usize, out: &Output) {
    let cut = b.cut();
    let panels = cut.panels();
    let work = Work::new(a.rows, cut.n(), b.k());
    let want = (work.ns / CHUNK_NS).clamp(1, 2 * threads::num_threads());
    let parts = panels.div_ceil(STRIP_PANELS).max(want).min(panels);
    let rows = (0, a.rows);
    let task = |t: usize| {
        let strip = part(0..panels, parts, t);
        match b {
            Right::Panels(_) => row_block(isa, a, b, ldc, out, rows, strip),
            Right::Plain(b, _) => {
                let Range { start: first, end } = cut.columns(strip);
                let cols = end - first;
                let data = &b.data[(first * b.col_stride).min(b.data.len())..];
                let cut = Cut::new(isa, a.rows, cols);
                let (b, out) = (Right::Plain(MatRef { data, cols, ..*b }, cut), out.columns(first, cols));
                row_block(isa, a, &b, ldc, &out, rows, 0..cut.panels());
            }
        }
    };
    run_tasks(work, parts, task);
}

/// The right operand of a block: in panels, or to be packed step by step.
enum Right<'a> {
    Panels(Panels),
    Plain(MatRef<'a>, Cut),
}

impl Right<'_> {
    fn k(&self) -> usize {
        match self {
            Right::Panels(panels) => panels.k,
            Right::Plain(b, _) => b.rows,
        }
    }

    fn cut(&self) -> Cut {
        match self {
            Right::Panels(panels) => panels.cut,
            Right::Plain(_, cut) => *cut,
        }
    }

    /// Calls `body` with the panels and the row of them at which k from `k0` on begins.
    fn step<R>(&self, isa: Isa, k0: usize, len: usize, body: impl FnOnce(&Panels, usize) -> R) -> R {
        match self {
            Right::Panels(panels) => body(panels, k0),
            Right::Plain(b, cut) => {
                let data = &b.data[(k0 * b.row_stride).min(b.data.len())..];
                scratch::with(packed_b_len(isa, len, b.cols), |packed: &mut [f32]| {
                    pack_b(isa, *cut, MatRef { data, rows: len, ..*b }, packed);
                    body(&Panels::packed(packed, len, *cut), 0)
                })
            }
        }
    }
}

/// Asks for all lines of a row at once: it was likely written by another core.
fn fetch_row(a: &MatRef, row: usize) {
    let start = a.data.as_ptr().wrapping_add(row * a.row_stride);
    (0..a.cols).step_by(LINE).for_each(|i| prefetch(start.wrapping_add(i)));
}

/// `rows` rows of C from `row0` on, some panels of them, by all of k.
fn row_block(
    isa: Isa,
    a: MatRef,
    b: &Right,
    ldc: usize,
    out: &Output,
    (row0, rows): (usize, usize),
    panels: Range<usize>,
) {
    let mut offsets = [MaybeUninit::uninit(); STRIP_ROWS];
    for (i, offset) in offsets[..rows].iter_mut().enumerate() {
        offset.write((row0 + i) * ldc);
    }
    // SAFETY: the first `rows` entries were just written.
    let offsets = unsafe { scratch::written(&offsets[..rows]) };
    let (k, block) = (b.k(), k_block(b.k()));
    if rows == 1 && a.col_stride == 1 {
        fetch_row(&a, row0);
    }
    let steps = k.div_ceil(block).max(1);
    let row_len = block.next_multiple_of(16) + 16;
    let multiply = |packed: &mut [f32], mut partial: Option<&mut Partial>| {
        for i in 0..steps {
            let (k0, len) = (i * block, block.min(k - i * block));
            let mut start = a.data.as_ptr().wrapping_add(row0 * a.row_stride + k0 * a.col_stride);
            let mut stride = a.row_stride;
            if !packed.is_empty() && a.col_stride == 1 {
                pack::copy_a(a, row0, rows, k0, len, row_len, packed);
                (start, stride) = (packed.as_ptr(), row_len);
            }
            let mut starts = [start];
            let source = if a.col_stride == 1 {
                ASource::Lines { starts: &starts, segs: 1, seg0: 0, off: 0, stride }
            } else if packed.is_empty() {
                ASource::Columns { starts: &starts, step: a.col_stride, off: 0 }
            } else {
                pack::transpose_a(a, row0, rows, k0, len, packed);
                starts = [packed.as_ptr()];
                ASource::Columns { starts: &starts, step: rows, off: 0 }
            };
            b.step(isa, k0, len, |b, k0| {
                let step = Step { k0, segs: 1, len, first: i == 0, last: i + 1 == steps };
                let (rows, partial) = (Rows { offsets, lines: 1 }, partial.as_deref_mut());
                // SAFETY: `MatRef::check` holds the pointers in bounds, packed has rows x len elements, and
                // tasks cover disjoint rows and columns of C.
                unsafe { multiply_block(isa, &source, rows, b, step, panels.clone(), out, partial) };
            });
        }
    };
    let strided = a.col_stride != 1 && a.row_stride != 1;
    // Elements a multiple of 4 KiB apart fall into one place of L1, which holds only a dozen lines.
    let far = a.row_stride.max(a.col_stride).is_multiple_of(1024);
    let alias = far && panels.len() >= 6;
    // So do lines of many columns half as far apart: more than L1 holds, of which each tile reads a part.
    let tall = a.row_stride == 1 && a.col_stride.is_multiple_of(512) && k >= 512;
    let copies = strided || (alias || tall) && rows > kernels(isa).rows;
    Partial::with(steps, rows, b.cut().columns(panels.clone()), |partial| {
        if copies {
            scratch::with(rows * row_len, |packed: &mut [f32]| multiply(packed, partial));
        } else {
            multiply(&mut [], partial);
        }
    });
}

#[cfg(test)]
pub(crate) mod tests;
