//! float64 multiply, for those who ask for double precision: right first, vectorised by the compiler.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::MatRef;
use crate::simd::Simd;
use crate::{Isa, dispatch, scratch, threads};

const BLOCK_K: usize = 256;
const BLOCK_ROWS: usize = 32;
const NR: usize = 16;
const MR: usize = 4;

/// `C = A B`, or `C + A B` where `accumulate`; `c` is row-major with `ldc` elements between rows.
///
/// Panics where a slice is too short or the inner dimensions differ.
pub fn gemm_f64(isa: Isa, a: MatRef<f64>, b: MatRef<f64>, c: &mut [f64], ldc: usize, accumulate: bool) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "A has as many columns as B has rows");
    a.check();
    b.check();
    if m == 0 || n == 0 {
        return;
    }
    assert!(ldc >= n && c.len() >= (m - 1) * ldc + n, "C holds {m} rows of {n}, {ldc} apart");
    let block = |rows: &mut [f64], row0: usize| {
        dispatch!(isa, row_block, (a: MatRef<f64>, b: MatRef<f64>, rows: &mut [f64], row0: usize, ldc: usize, accumulate: bool));
    };
    let used = &mut c[..(m - 1) * ldc + n];
    if m * n * k < 1 << 17 {
        return used
            .chunks_mut(BLOCK_ROWS * ldc)
            .enumerate()
            .for_each(|(i, rows)| block(rows, i * BLOCK_ROWS));
    }
    threads::run_chunks(used, BLOCK_ROWS * ldc, |rows, start| block(rows, start / ldc));
}

/// The rows of C in `rows` (the first is `row0`), panel of columns by panel, each with its B packed.
#[inline(always)]
fn row_block<S: Simd>(
    _: S,
    a: MatRef<f64>,
    b: MatRef<f64>,
    rows: &mut [f64],
    row0: usize,
    ldc: usize,
    accumulate: bool,
) {
    let (k, n) = (a.cols, b.cols);
    let m = rows.len().div_ceil(ldc);
    scratch::with(BLOCK_K * (NR + MR), |pack: &mut [f64]| {
        let (bp, ap) = pack.split_at_mut(BLOCK_K * NR);
        for j in (0..n).step_by(NR) {
            let cols = NR.min(n - j);
            for k0 in (0..k.max(1)).step_by(BLOCK_K) {
                let len = BLOCK_K.min(k - k0);
                for (p, row) in bp.chunks_exact_mut(NR).take(len).enumerate() {
                    row.fill(0.0);
                    for (q, x) in row[..cols].iter_mut().enumerate() {
                        *x = b.data[(k0 + p) * b.row_stride + (j + q) * b.col_stride];
                    }
                }
                for i in (0..m).step_by(MR) {
                    let height = MR.min(m - i);
                    for (p, column) in ap.chunks_exact_mut(MR).take(len).enumerate() {
                        for (r, x) in column.iter_mut().enumerate() {
                            let row = row0 + i + r.min(height - 1);
                            *x = a.data[row * a.row_stride + (k0 + p) * a.col_stride];
                        }
                    }
                    let mut acc = [[0.0; NR]; MR];
                    for (av, bv) in ap.chunks_exact(MR).zip(bp.chunks_exact(NR)).take(len) {
                        for r in 0..MR {
                            for q in 0..NR {
                                acc[r][q] += av[r] * bv[q];
                            }
                        }
                    }
                    for (r, sums) in acc.iter().enumerate().take(height) {
                        let c = &mut rows[(i + r) * ldc + j..][..cols];
                        for (c, sum) in c.iter_mut().zip(sums) {
                            *c = if k0 > 0 || accumulate { *c + sum } else { *sum };
                        }
                    }
                }
            }
        }
    });
}
