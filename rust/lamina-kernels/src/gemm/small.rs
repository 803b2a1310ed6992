//! Few rows by a transposed B: dot products, without packing what is read only once or twice.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::tasks::{CHUNK_NS, Work};
use super::{MatRef, Output};
use crate::epilogue::{Act, apply_tile};
use crate::simd::Simd;
use crate::{Isa, dispatch, threads};

/// Whether dot products beat packing B first: few rows, each long.
pub(super) fn pays(rows: usize, k: usize) -> bool {
    rows <= 64 && rows * 8 <= k
}

/// `C = A B` where the rows of A and the columns of B are contiguous.
pub(super) fn dots(isa: Isa, a: MatRef, b: MatRef, ldc: usize, out: &Output) {
    let (n, work) = (b.cols, Work::new(a.rows, b.cols, b.rows));
    let block = |first: usize, count: usize| {
        columns(isa, a, b, ldc, out, first, count);
        if !matches!(out.act, Act::Linear) {
            for i in 0..a.rows {
                // SAFETY: this task's columns of row i, checked by `gemm` to lie in C.
                unsafe { apply_tile(isa, out.act, out.c.add(first), &[i * ldc], count) };
            }
        }
    };
    if !work.is_shared() {
        return block(0, n);
    }
    // Borders at multiples of 8: the groups of columns inside do not depend on the cut.
    let chunk = n.div_ceil((work.ns / CHUNK_NS).min(64)).next_multiple_of(8);
    threads::run(n.div_ceil(chunk), |i| block(i * chunk, chunk.min(n - i * chunk)));
}

fn columns(isa: Isa, a: MatRef, b: MatRef, ldc: usize, out: &Output, first: usize, count: usize) {
    dispatch!(isa, columns_body, (a: MatRef, b: MatRef, ldc: usize, out: &Output, first: usize, count: usize))
}

#[inline(always)]
fn columns_body<S: Simd>(s: S, a: MatRef, b: MatRef, ldc: usize, out: &Output, first: usize, count: usize) {
    let mut j = first;
    while j < first + count {
        let end = first + count;
        if a.rows == 1 {
            dot_tile::<S, 1, 8>(s, a, b, ldc, out, 0, j, end);
            j += 8;
            continue;
        }
        let mut i = 0;
        while i < a.rows {
            if S::REGISTERS >= 32 {
                dot_tile::<S, 4, 4>(s, a, b, ldc, out, i, j, end);
                i += 4;
            } else {
                dot_tile::<S, 2, 4>(s, a, b, ldc, out, i, j, end);
                i += 2;
            }
        }
        j += 4;
    }
}

/// Rows from `i` on by columns from `j` on; rows and columns beyond the matrix repeat its last ones and
/// are not stored.
#[inline(always)]
fn dot_tile<S: Simd, const MR: usize, const NR: usize>(
    s: S,
    a: MatRef,
    b: MatRef,
    ldc: usize,
    out: &Output,
    i: usize,
    j: usize,
    end: usize,
) {
    let k = a.cols;
    let mut rows = [a.data.as_ptr(); MR];
    let mut cols = [b.data.as_ptr(); NR];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = row.wrapping_add((i + r).min(a.rows - 1) * a.row_stride);
    }
    for (c, col) in cols.iter_mut().enumerate() {
        *col = col.wrapping_add((j + c).min(end - 1) * b.col_stride);
    }
    let mut acc = [[s.zero(); NR]; MR];
    // SAFETY: rows and columns are in bounds (checked by `gemm`), and each has k contiguous elements.
    unsafe {
        let mut p = 0;
        while p + S::LANES <= k {
            for c in 0..NR {
                let bv = s.load(cols[c].add(p));
                for r in 0..MR {
                    acc[r][c] = s.fma(s.load(rows[r].add(p)), bv, acc[r][c]);
                }
            }
            p += S::LANES;
        }
        if p < k {
            for c in 0..NR {
                let bv = s.load_partial(cols[c].add(p), k - p);
                for r in 0..MR {
                    acc[r][c] = s.fma(s.load_partial(rows[r].add(p), k - p), bv, acc[r][c]);
                }
            }
        }
        for r in 0..MR.min(a.rows - i) {
            for c in 0..NR.min(end - j) {
                out.finish((i + r) * ldc, j + c, s.sum(acc[r][c]));
            }
        }
    }
}
