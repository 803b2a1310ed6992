//! Packing: B into panels that a layer keeps, A into a copy that lives for one block.

use super::kernels::kernels;
use super::{AMX_PANEL, Cut, MatRef, Panels, amx_pays};
use crate::simd::{LINE, Simd, prefetch};
use crate::threads::{self, SharedMut};
use crate::{Isa, dispatch};
use std::ops::Range;

/// The right operand of [`gemm`](super::gemm).
#[derive(Clone, Copy, Debug)]
pub enum B<'a> {
    /// As `packing` laid it out, which knows its dimensions.
    Packed {
        /// Of the same [`Isa`].
        packing: Packing,
        /// As many elements as the packing has.
        data: &'a [f32],
    },
    /// As it lies in memory.
    Plain(MatRef<'a>),
}

/// How the right operand of a multiply of so many rows is packed: in panels, or in parts for AMX where that pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packing {
    pub(super) isa: Isa,
    k: usize,
    cut: Cut,
    parts: bool,
}

impl Packing {
    /// For an A of `m x k` and a B of `k x n`.
    pub fn new(isa: Isa, m: usize, k: usize, n: usize) -> Self {
        Packing { isa, k, cut: Cut::new(isa, m, n), parts: amx_pays(isa, m, k, n) }
    }

    /// In panels, for any A: how a matrix lies that is multiplied and changed in turns, and is packed all the while.
    pub fn in_panels(isa: Isa, k: usize, n: usize) -> Self {
        Packing { isa, k, cut: Cut::new(isa, 0, n), parts: false }
    }

    /// Whether B is split into parts.
    pub(crate) fn in_parts(&self) -> bool {
        self.parts
    }

    /// A number below four that stands for the layout: what is packed for other numbers of rows may be laid out otherwise.
    pub fn layout(&self) -> u64 {
        if self.parts { 0 } else { self.cut.most() as u64 }
    }

    /// Elements of the packed matrix.
    pub fn packed_len(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.parts {
            return super::amx::parts::len(self.k, self.cut.n());
        }
        self.k * self.cut.stored(0..self.cut.panels()).len()
    }

    /// Panels of columns that tasks can be cut at.
    pub(crate) fn count(&self) -> usize {
        if self.parts { self.cut.n().div_ceil(AMX_PANEL) } else { self.cut.panels() }
    }

    /// Packs B; panics where a length or a dimension is another one.
    pub fn pack(&self, b: MatRef, out: &mut [f32]) {
        assert_eq!((b.rows, b.cols), (self.k, self.cut.n()), "B is packed for other dimensions");
        #[cfg(target_arch = "x86_64")]
        if self.parts {
            return super::amx::parts::pack(b, out);
        }
        pack_b(self.isa, self.cut, b, out);
    }

    /// Takes a B [in panels](Packing::in_panels) to row-major order; panics where a length is another one.
    pub fn unpack(&self, packed: &[f32], out: &mut [f32]) {
        let Packing { k, cut, .. } = *self;
        assert!(!self.parts, "parts are not taken apart");
        assert_eq!((packed.len(), out.len()), (self.packed_len(), k * cut.n()), "B has other dimensions");
        let out = SharedMut::new(out);
        threads::run(cut.panels(), |panel| {
            let (stored, columns) = (cut.stored(panel..panel + 1), cut.columns(panel..panel + 1));
            let rows = packed[stored.start * k..stored.end * k].chunks_exact(stored.len());
            for (i, row) in rows.enumerate() {
                // SAFETY: panels have columns of their own.
                let to = unsafe { out.slice(i * cut.n() + columns.start, columns.len()) };
                to.copy_from_slice(&row[..columns.len()]);
            }
        });
    }

    /// Whether all vectors of all panels are full: a packed B has no more elements than B.
    pub fn is_full(&self) -> bool {
        !self.parts && self.cut.broken().is_empty()
    }

    /// Rows and columns of B.
    pub fn dims(&self) -> (usize, usize) {
        (self.k, self.cut.n())
    }

    /// How the columns are cut.
    pub(super) fn cut(&self) -> Cut {
        self.cut
    }

    /// What was packed, as blocks read it.
    pub(crate) fn panels(&self, data: &[f32]) -> Panels {
        #[cfg(target_arch = "x86_64")]
        if self.parts {
            return Panels::parts(data, self.k, self.cut);
        }
        Panels::packed(data, self.k, self.cut)
    }

    /// What was packed, as an operand.
    pub fn operand<'a>(&self, data: &'a [f32]) -> B<'a> {
        B::Packed { packing: *self, data }
    }
}

impl B<'_> {
    pub(super) fn dims(&self) -> (usize, usize) {
        match self {
            B::Packed { packing, .. } => packing.dims(),
            B::Plain(b) => (b.rows, b.cols),
        }
    }
}

/// The length of a packed `k x n` matrix B, in elements.
pub fn packed_b_len(isa: Isa, k: usize, n: usize) -> usize {
    k * n.next_multiple_of(kernels(isa).lanes)
}

/// Packs B for [`gemm`](super::gemm): panels of columns, each with its rows one after the other, the last
/// one padded with zeros. Panics where `out` has not [`packed_b_len`] elements.
pub fn pack_b(isa: Isa, cut: Cut, b: MatRef, out: &mut [f32]) {
    pack_b_rows(isa, cut, b, b.rows, 0, out);
}

/// Packs `b` as the rows from `k0` on of a packed matrix that has `k` rows in all.
pub(crate) fn pack_b_rows(isa: Isa, cut: Cut, b: MatRef, k: usize, k0: usize, out: &mut [f32]) {
    b.check();
    let n = b.cols;
    assert_eq!(cut.n(), n, "a cut of B's columns");
    assert_eq!(out.len(), packed_b_len(isa, k, n), "the packed B has packed_b_len elements");
    let panels = cut.panels();
    // Rows of B are read a few panels at a time: pieces of some cache lines.
    let group = if b.col_stride == 1 { GROUP_PANELS } else { 1 };
    let shared = SharedMut::new(out);
    let body = |i: usize| {
        let some = i * group..panels.min((i + 1) * group);
        let stored = cut.stored(some.clone());
        // SAFETY: the panels lie after those before them, disjoint from all others.
        let out = unsafe { shared.slice(stored.start * k, stored.len() * k) };
        if b.col_stride == 1 {
            return Lines { b, panels: some, cut, k, k0 }.pack(isa, out);
        }
        let (width, columns) = (stored.len(), cut.columns(some));
        pack_panel(b, columns, width, &mut out[k0 * width..][..b.rows * width]);
    };
    let tasks = panels.div_ceil(group);
    if b.rows * n < 1 << 16 { (0..tasks).for_each(body) } else { threads::run(tasks, body) }
}

/// Panels that are packed at once where rows are contiguous.
const GROUP_PANELS: usize = 3;

/// Rows ahead of which memory is asked for what comes next.
const AHEAD: usize = 24;

/// A few panels of a matrix whose rows are contiguous.
struct Lines<'a> {
    b: MatRef<'a>,
    panels: Range<usize>,
    cut: Cut,
    /// Rows of the packed matrix, and the first one that is written.
    k: usize,
    k0: usize,
}

impl Lines<'_> {
    /// Packs them to `out`, where the first of the panels begins.
    fn pack(&self, isa: Isa, out: &mut [f32]) {
        let Lines { b, ref panels, cut, k, k0 } = *self;
        assert!(k0 + b.rows <= k && out.len() == k * cut.stored(panels.clone()).len());
        assert!(b.rows == 0 || (b.rows - 1) * b.row_stride + b.cols <= b.data.len());
        let job = self;
        dispatch!(isa, pack_lines, (job: &Lines, out: &mut [f32]));
    }
}

#[inline(always)]
fn pack_lines<S: Simd>(s: S, job: &Lines, out: &mut [f32]) {
    let Lines { b, ref panels, cut, k, k0 } = *job;
    let columns = cut.columns(panels.clone());
    let mut places = [const { 0..0 }; GROUP_PANELS];
    for (place, panel) in places.iter_mut().zip(panels.clone()) {
        *place = cut.stored(panel..panel + 1);
    }
    for p in 0..b.rows {
        let row = b.data.as_ptr().wrapping_add(p * b.row_stride);
        for line in columns.clone().step_by(16) {
            prefetch(row.wrapping_add(AHEAD * b.row_stride + line));
        }
        for place in &places[..panels.len()] {
            for j in place.clone().step_by(S::LANES) {
                // SAFETY: `pack` holds the rows in B; a panel has k rows of its width, those before it have theirs.
                unsafe {
                    let first = (place.start - columns.start) * k + (k0 + p) * place.len();
                    let to = out.as_mut_ptr().add(first + j - place.start);
                    let (at, n) = (row.wrapping_add(j), (b.cols - j).min(S::LANES));
                    s.store(to, if n == S::LANES { s.load(at) } else { s.load_partial(at, n) });
                }
            }
        }
    }
}

/// One panel of a matrix whose rows are not contiguous.
fn pack_panel(b: MatRef, columns: Range<usize>, width: usize, out: &mut [f32]) {
    let (col, cols) = (columns.start, columns.len());
    if cols < width {
        out.chunks_exact_mut(width).for_each(|row| row[cols..].fill(0.0));
    }
    // Where B's columns are contiguous, in blocks of 4 x 4, a line of each column after the other: columns often lie so far
    // apart that L1 holds but a few of their lines. The edges one by one.
    let k = out.len() / width;
    let (k4, cols4) = if b.row_stride == 1 { (k / 4 * 4, cols / 4 * 4) } else { (0, 0) };
    let start = &b.data[(col * b.col_stride).min(b.data.len())..];
    for line in (0..k4).step_by(LINE) {
        for j in (0..cols4).step_by(4) {
            for p in (line..k4.min(line + LINE)).step_by(4) {
                // SAFETY: rows p .. p + 4 of columns j .. j + 4 lie in B (`MatRef::check`) and in the panel.
                unsafe {
                    let from = start.as_ptr().add(j * b.col_stride + p);
                    transpose4(from, b.col_stride, out.as_mut_ptr().add(p * width + j), width);
                }
            }
        }
    }
    for (p, row) in out.chunks_exact_mut(width).enumerate() {
        for j in if p < k4 { cols4 } else { 0 }..cols {
            row[j] = start[j * b.col_stride + p * b.row_stride];
        }
    }
}

/// Four columns of four elements become four rows.
///
/// # Safety
/// `from` has four runs of four elements, `from_stride` apart, as has `to`.
#[inline(always)]
unsafe fn transpose4(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SSE and NEON are in the baseline of their targets.
    // SAFETY: the caller's contract.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::*;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm_loadu_ps(from.add(i * from_stride)));
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        _mm_storeu_ps(to, _mm_movelh_ps(ab, cd));
        _mm_storeu_ps(to.add(to_stride), _mm_movehl_ps(cd, ab));
        let (ab, cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        _mm_storeu_ps(to.add(2 * to_stride), _mm_movelh_ps(ab, cd));
        _mm_storeu_ps(to.add(3 * to_stride), _mm_movehl_ps(cd, ab));
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        use std::arch::aarch64::*;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| vld1q_f32(from.add(i * from_stride)));
        let (ab, cd) = (vzip1q_f32(a, b), vzip1q_f32(c, d));
        vst1q_f32(to, vcombine_f32(vget_low_f32(ab), vget_low_f32(cd)));
        vst1q_f32(to.add(to_stride), vcombine_f32(vget_high_f32(ab), vget_high_f32(cd)));
        let (ab, cd) = (vzip2q_f32(a, b), vzip2q_f32(c, d));
        vst1q_f32(to.add(2 * to_stride), vcombine_f32(vget_low_f32(ab), vget_low_f32(cd)));
        vst1q_f32(to.add(3 * to_stride), vcombine_f32(vget_high_f32(ab), vget_high_f32(cd)));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    for i in 0..4 {
        for j in 0..4 {
            unsafe { *to.add(i * to_stride + j) = *from.add(j * from_stride + i) }
        }
    }
}

/// Copies rows `row0 .. row0 + rows` of A, k from `k0` on, each to `stride` elements of its own.
pub(crate) fn copy_a(
    a: MatRef,
    row0: usize,
    rows: usize,
    k0: usize,
    len: usize,
    stride: usize,
    out: &mut [f32],
) {
    for (i, out) in out.chunks_exact_mut(stride).take(rows).enumerate() {
        let start = (row0 + i) * a.row_stride + k0 * a.col_stride;
        if a.col_stride == 1 {
            out[..len].copy_from_slice(&a.data[start..start + len]);
        } else {
            out[..len].iter_mut().enumerate().for_each(|(p, x)| *x = a.data[start + p * a.col_stride]);
        }
    }
}

/// Copies rows `row0 .. row0 + rows` of A, k from `k0` on: for each k the rows side by side.
pub(crate) fn transpose_a(a: MatRef, row0: usize, rows: usize, k0: usize, len: usize, out: &mut [f32]) {
    let start = row0 * a.row_stride + k0 * a.col_stride;
    if a.row_stride == 1 {
        for (p, column) in out[..rows * len].chunks_exact_mut(rows).enumerate() {
            column.copy_from_slice(&a.data[start + p * a.col_stride..][..rows]);
        }
        return;
    }
    for (block, columns) in out[..rows * len].chunks_mut(16 * rows).enumerate() {
        for i in 0..rows {
            let at = start + i * a.row_stride + block * 16 * a.col_stride;
            for (p, column) in columns.chunks_exact_mut(rows).enumerate() {
                column[i] = a.data[at + p * a.col_stride];
            }
        }
    }
}
