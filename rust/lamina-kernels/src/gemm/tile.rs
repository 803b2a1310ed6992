//! The register tiles that every multiply and every convolution stands on.
//!
//! A tile is `mr` rows by a few vectors of columns, held in registers while `k` runs. It reads B as
//! rows of one packed panel, and A in one of two ways:
//! - *rows*: elements of a row side by side, the rows a stride apart or one pointer each, per segment. A
//!   row-major matrix is one segment; a convolution has a segment per filter tap, its rows point into the image.
//! - *panel*: the rows' elements side by side, `a_step` from one k to the next: packed or transposed A.
//!
//! A call computes a run of tiles, each a step further in A, B or C. What is told to a kernel and what it keeps in memory
//! must not be written for each tile: 64 stores can wait for their turn in a Zen 4, and those of a tile of 27 vectors take
//! 54; with ten more, the next tile does not begin before this one has ended.
//!
//! Each output is one chain of fused multiply-adds in the order of k, whatever the tile's shape, so a
//! result does not depend on how rows were grouped.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::kernels::Finish;
use crate::simd::{LINE, Simd, prefetch};

/// What one call of a [kernel](super::kernels::Kernel) computes: `C (+)= A B`, then the epilogue.
pub(crate) struct Tile {
    /// A pointer per segment, or where `row_stride` is zero, one per row and segment, rows `a_segs` pointers apart, `row` of
    /// them before the first.
    pub a: *const *const f32,
    pub a_segs: usize,
    /// Rows only: floats from one row to the next.
    pub row_stride: usize,
    /// Panel only: floats between one k and the next.
    pub a_step: usize,
    /// Added to every pointer of `a`.
    pub a_off: usize,
    /// How many segments, and the k of each.
    pub segs: usize,
    pub len: usize,
    /// The panel, which the segments read one after the other, `b_step` floats per k.
    pub b: *const f32,
    pub b_step: usize,
    /// Wide kernels read several panels, this many floats apart.
    pub panel_stride: usize,
    /// What is read next: brought into L2 meanwhile, a line per k, so many floats apart, or where `ahead_all` as many lines
    /// as a row of the panel has.
    pub ahead: *const f32,
    pub ahead_step: usize,
    pub ahead_all: bool,
    /// Packing kernels only: where the panel is packed as it is read.
    pub packed: *mut f32,
    /// Row i of the output starts at `c + offsets[row + i] + col`; `cols` of its elements are written.
    pub c: *mut f32,
    pub offsets: *const usize,
    pub row: usize,
    pub col: usize,
    pub cols: usize,
    /// What is added to the sum, at offsets of its own, or null.
    pub sum: *const f32,
    pub sum_offsets: *const usize,
    /// Per column, from column 0 on, or null.
    pub bias: *const f32,
    /// Same layout as C, or null.
    pub residual: *const f32,
    pub low: f32,
    pub high: f32,
    /// Finishes a tile that is narrower than its registers.
    pub finish: Finish,
    /// The tiles that follow, of which a call computes all: those of the outer steps, each followed by the inner ones.
    pub outer: Steps,
    pub inner: Steps,
}

/// So many tiles, each a step from the one before, in floats and in rows.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    pub count: usize,
    pub a_off: usize,
    pub b: usize,
    pub ahead: usize,
    pub row: usize,
    pub col: usize,
}

/// What one tile of a run has to itself.
#[derive(Clone, Copy)]
pub(super) struct At {
    a_off: usize,
    b: *const f32,
    ahead: *const f32,
    row: usize,
    col: usize,
}

impl Steps {
    /// A lone tile.
    pub const ONE: Steps = Steps { count: 1, a_off: 0, b: 0, ahead: 0, row: 0, col: 0 };
}

impl At {
    /// After so many steps. From tile to tile this is computed anew and not kept in memory.
    #[inline(always)]
    pub fn new(t: &Tile, outer: usize, inner: usize) -> At {
        let (outer, inner) = (opaque(outer), opaque(inner));
        let at = |of: fn(&Steps) -> usize| outer * of(&t.outer) + inner * of(&t.inner);
        At {
            a_off: t.a_off + at(|steps| steps.a_off),
            b: t.b.wrapping_add(at(|steps| steps.b)),
            ahead: t.ahead.wrapping_add(at(|steps| steps.ahead)),
            row: t.row + at(|steps| steps.row),
            col: t.col + at(|steps| steps.col),
        }
    }
}

/// Rows a stride apart, in so few registers of x86 that nothing has to be loaded again for each k: five rows lie around
/// one pointer, at what an address can add to it.
#[derive(Clone, Copy)]
struct Strided {
    /// Rows 0, 5 and 10.
    bases: [*const f32; 3],
    stride: usize,
    /// Three strides.
    triple: usize,
}

impl Strided {
    const ROWS: usize = 15;

    #[inline(always)]
    fn new(first: *const f32, stride: usize) -> Strided {
        let stride = stride * size_of::<f32>();
        let bases = [0, 5, 10].map(|i| first.wrapping_byte_add(i * stride));
        Strided { bases, stride, triple: 3 * stride }
    }

    /// The element of each row that is next.
    #[inline(always)]
    fn places(&self) -> [*const f32; Self::ROWS] {
        let Strided { bases, stride, triple } = *self;
        let steps = [0, stride, 2 * stride, triple, 4 * stride];
        std::array::from_fn(|i| bases[i / 5].wrapping_byte_add(steps[i % 5]))
    }

    #[inline(always)]
    fn advance(&mut self, n: usize) {
        // Not computed ahead of the loop, which would take a register for each row.
        self.bases = self.bases.map(|base| base.wrapping_add(n).map_addr(opaque));
        (self.stride, self.triple) = (opaque(self.stride), opaque(self.triple));
    }
}

/// A number that the compiler does not know: what follows from it is computed where it is needed.
#[inline(always)]
fn opaque(n: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    let n = {
        let mut n = n;
        // SAFETY: an instruction that does nothing.
        unsafe { std::arch::asm!("/* {} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
        n
    };
    n
}

/// `NV` vectors of columns, `PV` of them per panel; of the last one perhaps only the first half.
#[inline(always)]
pub(super) unsafe fn tile<
    S: Simd,
    const MR: usize,
    const NV: usize,
    const PV: usize,
    const ROWS: bool,
    const PACK: bool,
    const HALF: bool,
>(
    s: S,
    t: &Tile,
    At { a_off, mut b, mut ahead, row, col }: At,
) {
    // SAFETY: the contract of [`Kernel`].
    unsafe {
        let mut acc = [[s.zero(); NV]; MR];
        let mut packed = t.packed;
        let offsets = t.offsets.wrapping_add(row);
        if !t.residual.is_null() {
            // Wanted at the end, and seldom in L1.
            for i in 0..MR {
                for j in 0..NV {
                    prefetch(t.residual.wrapping_add(col + *offsets.add(i) + j * S::LANES));
                }
            }
        }
        // One k: the next rows of the panel by the elements of A at these places.
        macro_rules! multiply {
            ($place:expr) => {
                let mut bv = [s.zero(); NV];
                for j in 0..NV {
                    bv[j] = s.load(b.add((j / PV) * t.panel_stride + (j % PV) * S::LANES));
                }
                if PACK {
                    for j in 0..NV {
                        s.store(packed.add(j * S::LANES), bv[j]);
                    }
                    packed = packed.add(NV * S::LANES);
                }
                for i in 0..MR {
                    let a = s.splat(*$place(i));
                    for j in 0..NV {
                        let half = HALF && j + 1 == NV;
                        acc[i][j] =
                            if half { s.fma_half(a, bv[j], acc[i][j]) } else { s.fma(a, bv[j], acc[i][j]) };
                    }
                }
                b = b.add(t.b_step);
            };
        }
        // Few rows read B as fast as it comes anyway.
        let all = NV * S::LANES > LINE && t.ahead_all;
        macro_rules! fetch {
            ($all:expr) => {
                if MR >= 4 + NV / 3 {
                    prefetch(ahead);
                    if $all {
                        for line in 1..(NV * S::LANES).div_ceil(LINE) {
                            prefetch(ahead.wrapping_add(line * LINE));
                        }
                    }
                    ahead = ahead.wrapping_add(t.ahead_step);
                }
            };
        }
        // Rows a stride apart, two k at a time.
        macro_rules! strided {
            ($rows:ident, $all:literal) => {
                let mut left = t.len;
                while left > 1 {
                    let places = $rows.places();
                    fetch!($all);
                    multiply!(|i: usize| places[i]);
                    fetch!($all);
                    multiply!(|i: usize| places[i].wrapping_add(1));
                    $rows.advance(2);
                    left -= 2;
                }
                if left > 0 {
                    let places = $rows.places();
                    fetch!($all);
                    multiply!(|i: usize| places[i]);
                }
            };
        }
        for seg in 0..t.segs {
            if !ROWS {
                let mut column = (*t.a.add(seg)).add(a_off);
                for _ in 0..t.len {
                    fetch!(all);
                    multiply!(|i| column.add(i));
                    column = column.add(t.a_step);
                }
            } else if t.row_stride == 0 || !cfg!(target_arch = "x86_64") {
                let rows: [_; MR] = std::array::from_fn(|i| {
                    let place =
                        if t.row_stride == 0 { *t.a.add((row + i) * t.a_segs + seg) } else { *t.a.add(seg) };
                    place.wrapping_add(a_off + i * t.row_stride)
                });
                for p in 0..t.len {
                    fetch!(all);
                    multiply!(|i: usize| rows[i].wrapping_add(p));
                }
            } else {
                const { assert!(MR <= Strided::ROWS) };
                let mut rows = Strided::new((*t.a.add(seg)).add(a_off), t.row_stride);
                if all {
                    strided!(rows, true);
                } else {
                    strided!(rows, false);
                }
            }
        }
        // Columns of the last vector: the others are whole.
        let tail = (t.cols + S::LANES).wrapping_sub(NV * S::LANES);
        if t.cols < NV * S::LANES && !(S::MASKED && tail <= S::LANES && tail > 0) {
            let mut sums = [[s.zero(); NV]; MR];
            for i in 0..MR {
                for j in 0..NV {
                    sums[i][j] = acc[i][j];
                }
            }
            return (t.finish)(t, (row, col), sums.as_ptr().cast(), MR, NV * S::LANES);
        }
        // Where partial accesses are free, the last vector is always one.
        macro_rules! load {
            ($p:expr, $j:ident) => {
                if S::MASKED && $j + 1 == NV {
                    s.load_partial($p.add($j * S::LANES), tail)
                } else {
                    s.load($p.add($j * S::LANES))
                }
            };
        }
        if !t.sum.is_null() {
            for i in 0..MR {
                let sum = t.sum.wrapping_add(col + *t.sum_offsets.add(row + i));
                for j in 0..NV {
                    acc[i][j] = s.add(load!(sum, j), acc[i][j]);
                }
            }
        }
        if !t.bias.is_null() {
            let bias = t.bias.wrapping_add(col);
            for j in 0..NV {
                let bias = load!(bias, j);
                for i in 0..MR {
                    acc[i][j] = s.add(acc[i][j], bias);
                }
            }
        }
        if !t.residual.is_null() {
            for i in 0..MR {
                let r = t.residual.wrapping_add(col + *offsets.add(i));
                for j in 0..NV {
                    acc[i][j] = s.add(acc[i][j], load!(r, j));
                }
            }
        }
        let c = t.c.wrapping_add(col);
        macro_rules! store {
            ($finish:expr) => {
                for i in 0..MR {
                    let c = c.wrapping_add(*offsets.add(i));
                    for j in 0..NV {
                        let v = $finish(acc[i][j]);
                        if S::MASKED && j + 1 == NV {
                            s.store_partial(c.add(j * S::LANES), v, tail);
                        } else {
                            s.store(c.add(j * S::LANES), v);
                        }
                    }
                }
            };
        }
        if t.low > f32::NEG_INFINITY || t.high < f32::INFINITY {
            let (low, high) = (s.splat(t.low), s.splat(t.high));
            // The fast forms give their second operand where it is NaN: NaN stays NaN.
            store!(|v| s.min_fast(high, s.max_fast(low, v)));
        } else {
            store!(|v| v);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(
    s: S,
    t: &Tile,
    (row, col): (usize, usize),
    sums: *const f32,
    rows: usize,
    stride: usize,
) {
    let (low, high) = (s.splat(t.low), s.splat(t.high));
    for i in 0..rows {
        // SAFETY: the contract of [`Kernel`]; the partial forms touch only `cols` columns.
        unsafe {
            let offset = col + *t.offsets.add(row + i);
            let mut j = 0;
            while j < t.cols {
                let n = (t.cols - j).min(S::LANES);
                let mut v = s.load(sums.add(i * stride + j));
                if !t.sum.is_null() {
                    let sum = t.sum.wrapping_add(col + *t.sum_offsets.add(row + i) + j);
                    v = s.add(s.load_partial(sum, n), v);
                }
                if !t.bias.is_null() {
                    v = s.add(v, s.load_partial(t.bias.wrapping_add(col + j), n));
                }
                if !t.residual.is_null() {
                    v = s.add(v, s.load_partial(t.residual.wrapping_add(offset + j), n));
                }
                s.store_partial(t.c.wrapping_add(offset + j), s.min_fast(high, s.max_fast(low, v)), n);
                j += S::LANES;
            }
        }
    }
}

/// The same number of rows in every tile, as nearly as can be: `(first row, rows)` of tile `i` of `n`.
pub(crate) fn split(rows: usize, n: usize, i: usize) -> (usize, usize) {
    let (base, extra) = (rows / n, rows % n);
    (i * base + i.min(extra), base + usize::from(i < extra))
}

/// The same tiles as two groups that are alike: `(first row, rows of each, tiles)`.
pub(crate) fn alike(rows: usize, n: usize) -> [(usize, usize, usize); 2] {
    let (base, extra) = (rows / n, rows % n);
    [(0, base + 1, extra), (extra * (base + 1), base, n - extra)]
}
