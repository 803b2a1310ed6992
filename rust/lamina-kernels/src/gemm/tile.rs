//! The register tiles that every multiply and every convolution stands on.
//!
//! A tile is `mr` rows by a few vectors of columns, held in registers while `k` runs. It reads B as
//! rows of one packed panel, and A in one of two ways:
//! - *rows*: elements of a row side by side, the rows a stride apart or one pointer each, per segment. A
//!   row-major matrix is one segment; a convolution has a segment per filter tap, its rows point into the image.
//! - *panel*: the rows' elements side by side, `a_step` from one k to the next: packed or transposed A.
//!
//! Each output is one chain of fused multiply-adds in the order of k, whatever the tile's shape, so a
//! result does not depend on how rows were grouped.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::Cut;
use crate::Isa;
use crate::isa::Level;
use crate::simd::{LINE, Scalar, Simd, prefetch};

/// What one call of a [`Kernel`] computes: `C (+)= A B`, then the epilogue.
pub(crate) struct Tile {
    /// A pointer per segment, or where `row_stride` is zero, one per row and segment, rows `a_segs` pointers apart.
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
    /// Row i of the output starts at `c + offsets[i]`; `cols` of its elements are written.
    pub c: *mut f32,
    pub offsets: *const usize,
    pub cols: usize,
    /// What is added to the sum, at offsets of its own, or null.
    pub sum: *const f32,
    pub sum_offsets: *const usize,
    /// Per column, or null.
    pub bias: *const f32,
    /// Same layout as C, or null.
    pub residual: *const f32,
    pub low: f32,
    pub high: f32,
    /// Finishes a tile that is narrower than its registers.
    pub finish: Finish,
}

/// # Safety
/// The machine has the kernel's instructions, and every pointer of the [`Tile`] is valid for what
/// the shape of the kernel reads and writes through it.
pub(crate) type Kernel = unsafe fn(&Tile);

/// Takes the raw sums (`rows` of `stride`) of a narrow tile to C.
type Finish = unsafe fn(&Tile, *const f32, usize, usize);

/// The kernels of one width in vectors, for one row and more.
pub(crate) struct Width {
    pub by_rows: &'static [Kernel],
    pub by_panel: &'static [Kernel],
    /// As `by_rows`, where the last vector has no more columns than half a vector; empty where that is no faster.
    pub by_rows_half: &'static [Kernel],
    /// As `by_rows`; they pack the panel on the way.
    pub packing: &'static [Kernel],
}

/// The kernels of one instruction set.
pub(crate) struct Kernels {
    pub lanes: usize,
    /// Rows of the tallest tile.
    pub rows: usize,
    /// For panels of one vector, two, and so on.
    pub widths: &'static [Width],
    /// For few rows, several panels of `wide_panel` vectors at once: `(panels, kernels by rows)`, the most panels first.
    pub wide_panel: usize,
    pub wide: &'static [(usize, &'static [Kernel])],
    pub finish: Finish,
}

impl Width {
    /// The kernel that reads so many rows of A by rows, where so many columns are there.
    pub fn kernel(&self, lanes: usize, rows: usize, cols: usize) -> Kernel {
        let half = (1..=lanes / 2).contains(&(cols % lanes));
        let kernel = self.by_rows_half.get(rows - 1).filter(|_| half);
        *kernel.unwrap_or(&self.by_rows[rows - 1])
    }
}

impl Kernels {
    /// The kernels of panels of so many columns.
    pub fn width(&self, stored: usize) -> &'static Width {
        &self.widths[stored / self.lanes - 1]
    }

    /// Rows of the tallest tile of so many columns.
    pub fn height(&self, stored: usize) -> usize {
        self.width(stored).by_rows.len()
    }

    /// The most rows that have kernels for several panels at once.
    pub fn few(&self) -> usize {
        self.wide.iter().map(|(_, kernels)| kernels.len()).max().unwrap_or(0)
    }

    /// The most of `panels` panels of a cut that fit in registers with `rows` rows, and the kernel.
    pub fn wide(&self, cut: &Cut, rows: usize, panels: usize) -> Option<(usize, Kernel)> {
        if cut.most() != self.wide_panel {
            return None;
        }
        let fits = |&(count, list): &(usize, &[Kernel])| {
            Some((count, *list.get(rows.wrapping_sub(1))?)).filter(|_| count <= panels)
        };
        self.wide.iter().find_map(fits)
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
        self.bases = self.bases.map(|base| base.wrapping_add(n));
        let Strided { bases: [a, b, c], stride, triple } = self;
        // SAFETY: an instruction that does nothing. What it might have changed is not computed ahead of the loop, which
        // would take a register for each row.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!(
                "/* {} {} {} {} {} */",
                inout(reg) * a,
                inout(reg) * b,
                inout(reg) * c,
                inout(reg) * stride,
                inout(reg) * triple,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (a, b, c, stride, triple);
    }
}

/// `NV` vectors of columns, `PV` of them per panel; of the last one perhaps only the first half.
#[inline(always)]
unsafe fn tile<
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
) {
    // SAFETY: the contract of [`Kernel`].
    unsafe {
        let mut acc = [[s.zero(); NV]; MR];
        let (mut b, mut ahead, mut packed) = (t.b, t.ahead, t.packed);
        if !t.residual.is_null() {
            // Wanted at the end, and seldom in L1.
            for i in 0..MR {
                for j in 0..NV {
                    prefetch(t.residual.wrapping_add(*t.offsets.add(i) + j * S::LANES));
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
                let mut column = (*t.a.add(seg)).add(t.a_off);
                for _ in 0..t.len {
                    fetch!(all);
                    multiply!(|i| column.add(i));
                    column = column.add(t.a_step);
                }
            } else if t.row_stride == 0 || !cfg!(target_arch = "x86_64") {
                let rows: [_; MR] = std::array::from_fn(|i| {
                    let row = if t.row_stride == 0 { *t.a.add(i * t.a_segs + seg) } else { *t.a.add(seg) };
                    row.wrapping_add(t.a_off + i * t.row_stride)
                });
                for p in 0..t.len {
                    fetch!(all);
                    multiply!(|i: usize| rows[i].wrapping_add(p));
                }
            } else {
                const { assert!(MR <= Strided::ROWS) };
                let mut rows = Strided::new((*t.a.add(seg)).add(t.a_off), t.row_stride);
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
            return (t.finish)(t, sums.as_ptr().cast(), MR, NV * S::LANES);
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
                let sum = t.sum.add(*t.sum_offsets.add(i));
                for j in 0..NV {
                    acc[i][j] = s.add(load!(sum, j), acc[i][j]);
                }
            }
        }
        if !t.bias.is_null() {
            for j in 0..NV {
                let bias = load!(t.bias, j);
                for i in 0..MR {
                    acc[i][j] = s.add(acc[i][j], bias);
                }
            }
        }
        if !t.residual.is_null() {
            for i in 0..MR {
                let r = t.residual.add(*t.offsets.add(i));
                for j in 0..NV {
                    acc[i][j] = s.add(acc[i][j], load!(r, j));
                }
            }
        }
        macro_rules! store {
            ($finish:expr) => {
                for i in 0..MR {
                    let c = t.c.add(*t.offsets.add(i));
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
unsafe fn finish<S: Simd>(s: S, t: &Tile, sums: *const f32, rows: usize, stride: usize) {
    let (low, high) = (s.splat(t.low), s.splat(t.high));
    for i in 0..rows {
        // SAFETY: the contract of [`Kernel`]; the partial forms touch only `cols` columns.
        unsafe {
            let offset = *t.offsets.add(i);
            let mut j = 0;
            while j < t.cols {
                let n = (t.cols - j).min(S::LANES);
                let mut v = s.load(sums.add(i * stride + j));
                if !t.sum.is_null() {
                    v = s.add(s.load_partial(t.sum.add(*t.sum_offsets.add(i) + j), n), v);
                }
                if !t.bias.is_null() {
                    v = s.add(v, s.load_partial(t.bias.add(j), n));
                }
                if !t.residual.is_null() {
                    v = s.add(v, s.load_partial(t.residual.add(offset + j), n));
                }
                s.store_partial(t.c.add(offset + j), s.min_fast(high, s.max_fast(low, v)), n);
                j += S::LANES;
            }
        }
    }
}

/// Declares the kernels of one instruction set in a module of their own: for each width in vectors the heights in rows, and
/// those of several panels of `panel` vectors.
macro_rules! kernels {
    ($name:ident, $(#[$features:meta])? $simd:ty, $token:expr, rows $rows:literal,
     widths [$(($nv:literal, $($mr:literal)*))*], panel $pv:literal, wide [$(($wnv:literal, $($wmr:literal)*))*]) => {
        mod $name {
            use super::*;

            $(#[$features])?
            unsafe fn kernel<
                const MR: usize,
                const NV: usize,
                const PV: usize,
                const ROWS: bool,
                const PACK: bool,
                const HALF: bool,
            >(
                t: &Tile,
            ) {
                // SAFETY: the contract of `Kernel`, and of the token.
                unsafe { tile::<$simd, MR, NV, PV, ROWS, PACK, HALF>($token, t) }
            }

            $(#[$features])?
            unsafe fn finish_narrow(t: &Tile, sums: *const f32, rows: usize, stride: usize) {
                // SAFETY: as above.
                unsafe { finish::<$simd>($token, t, sums, rows, stride) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                lanes: <$simd as Simd>::LANES,
                rows: $rows,
                widths: &[$(Width {
                    by_rows: &[$(kernel::<$mr, $nv, $nv, true, false, false>),*],
                    by_rows_half: if <$simd as Simd>::HALVES { &[$(kernel::<$mr, $nv, $nv, true, false, true>),*] } else { &[] },
                    by_panel: &[$(kernel::<$mr, $nv, $nv, false, false, false>),*],
                    packing: &[$(kernel::<$mr, $nv, $nv, true, true, false>),*],
                }),*],
                wide_panel: $pv,
                wide: &[$(($wnv / $pv, &[$(kernel::<$wmr, $wnv, $pv, true, false, false>),*])),*],
                finish: finish_narrow,
            };
        }
    };
}

// Three vectors by nine rows load 12 times for 27 multiplications, two by fourteen 16 times for 28: while a neighbour uses
// the other half of the core, or where vectors of 64 bytes are loaded more slowly than multiplied, that decides.
#[cfg(target_arch = "x86_64")]
kernels!(avx512, #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    crate::simd::Avx512, crate::simd::Avx512::new_unchecked(), rows 14,
    widths [(1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) (2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) (3, 1 2 3 4 5 6 7 8 9)],
    panel 2, wide [(8, 1 2) (6, 1 2 3) (4, 1 2 3)]);

#[cfg(target_arch = "x86_64")]
kernels!(avx2, #[target_feature(enable = "avx2,fma")]
    crate::simd::Avx2, crate::simd::Avx2::new_unchecked(), rows 6,
    widths [(1, 1 2 3 4 5 6) (2, 1 2 3 4 5 6)], panel 2, wide [(8, 1) (4, 1 2)]);

#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::simd::Neon, crate::simd::Neon::new_unchecked(), rows 8,
    widths [(1, 1 2 3 4 5 6 7 8) (2, 1 2 3 4 5 6 7 8)], panel 2, wide [(8, 1 2) (6, 1 2 3) (4, 1 2 3)]);

kernels!(scalar, Scalar, Scalar::new(), rows 4, widths [(1, 1 2 3 4)], panel 1, wide [(2, 1)]);

/// The kernels that `isa` proves.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => &avx2::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => &neon::KERNELS,
        _ => &scalar::KERNELS,
    }
}

/// The same number of rows in every tile, as nearly as can be: `(first row, rows)` of tile `i` of `n`.
pub(crate) fn split(rows: usize, n: usize, i: usize) -> (usize, usize) {
    let (base, extra) = (rows / n, rows % n);
    (i * base + i.min(extra), base + usize::from(i < extra))
}
