//! A product by the transpose of a matrix in panels, which is read where it lies.

use super::tasks::run_tasks;
use super::{
    ASource, MatRef, Output, Packing, Panels, Partial, Rows, Step, multiply_block, pack_b, packed_b_len,
};
use super::{Cut, Work};
use crate::epilogue::Epilogue;
use crate::partition::part;
use crate::scratch;
use crate::threads::{self, SharedMut};
use std::ops::Range;

/// Rows of the packed matrix that a task multiplies at a time: the columns of C that they become are whole cache lines.
const TASK_ROWS: usize = 64;

/// Rows and columns that are turned round at a time.
const SQUARE: usize = 16;

/// Parts that the sums are cut into, each over some panels, where W has so many columns for each row of A.
/// A thread then reads what it updates and multiplies by elsewhere. Where all read all of W, half of it changes cores, and
/// back again (32 x 512 x 512 and its update by Adam on cores that share no cache: 450 -> 380 us).
const PARTS: usize = 2;
const COLUMNS_FOR_ROWS: usize = 8;

/// `C = A W^T`, for a `W` of `k x n` [in panels](Packing::in_panels) and an `A` of `m x n`; `c` is row-major.
///
/// Computed as `W A^T`, as the rows of a panel are short rows of A's kind, one after the other. Panics on other lengths.
pub fn gemm_transposed(packing: &Packing, a: MatRef, w: &[f32], c: &mut [f32]) {
    let ((k, n), m, isa) = (packing.dims(), a.rows, packing.isa);
    assert_eq!(a.cols, n, "A has as many columns as W");
    assert!(packing.is_full(), "W fills its panels");
    assert_eq!(w.len(), packing.packed_len(), "a packed W of another size");
    assert_eq!(c.len(), m * k, "C has a column for each row of W");
    a.check();
    if c.is_empty() || n == 0 {
        return c.fill(0.0);
    }
    let (columns, blocks, work) = (Cut::new(isa, 0, m), k.div_ceil(TASK_ROWS), Work::new(k, m, n));
    let parts = if m * COLUMNS_FOR_ROWS <= n { PARTS.min(packing.cut().panels()) } else { 1 };
    scratch::with(parts * k * m, |sums: &mut [f32]| {
        let shared = SharedMut::new(sums);
        let multiply = |i: usize, taken: &mut dyn Iterator<Item = usize>| {
            let panels = part(0..packing.cut().panels(), parts, i);
            let some = packing.cut().columns(panels.clone());
            let data = &a.data[(some.start * a.col_stride).min(a.data.len())..];
            let a = MatRef { data, cols: some.len(), ..a };
            scratch::with(packed_b_len(isa, a.cols, m), |packed: &mut [f32]| {
                pack_b(isa, columns, a.t(), packed);
                let b = Panels::packed(packed, a.cols, columns);
                for block in taken {
                    let first = block * TASK_ROWS;
                    let rows = TASK_ROWS.min(k - first);
                    // SAFETY: each task has rows of its own in its part.
                    let sums = unsafe { shared.slice((i * k + first) * m, rows * m) };
                    let out = Output::new(sums, m, false, &Epilogue::none());
                    multiply_rows(packing, w, panels.clone(), (first, rows), &b, &out);
                }
            });
        };
        threads::run_chunked(parts, blocks, multiply);
        let out = SharedMut::new(c);
        run_tasks(work, k.div_ceil(SQUARE), |task| {
            let rows = task * SQUARE..k.min((task + 1) * SQUARE);
            for columns in (0..m).step_by(SQUARE).map(|first| first..m.min(first + SQUARE)) {
                let mut square = [[0f32; SQUARE]; SQUARE];
                for (row, sum) in rows.clone().zip(&mut square) {
                    for part in 0..parts {
                        let x = &sums[(part * k + row) * m..][columns.clone()];
                        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                    }
                }
                for (i, column) in columns.enumerate() {
                    // SAFETY: a task writes the columns that are its rows.
                    let line = unsafe { out.slice(column * k + rows.start, rows.len()) };
                    line.iter_mut().zip(&square).for_each(|(c, sums)| *c = sums[i]);
                }
            }
        });
    });
}

/// Some rows of W, in some panels of it, by the columns of A that they stand for. Panels of one width are one step: their
/// rows are as far apart.
fn multiply_rows(
    packing: &Packing,
    w: &[f32],
    panels: Range<usize>,
    (first, rows): (usize, usize),
    b: &Panels,
    out: &Output,
) {
    let (k, cut, m) = (packing.dims().0, packing.cut(), b.cut.n());
    let border = cut.whole().clamp(panels.start, panels.end);
    let groups = [panels.start..border, border..panels.end].into_iter().filter(|group| !group.is_empty());
    scratch::with(rows, |offsets: &mut [usize]| {
        offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * m);
        Partial::with(groups.clone().count(), rows, 0..m, |mut partial| {
            for group in groups {
                let width = |panel: usize| cut.stored(panel..panel + 1).len();
                let len = width(group.start);
                debug_assert!(group.clone().all(|panel| width(panel) == len));
                let place = |panel: usize| &w[cut.stored(panel..panel + 1).start * k + first * len];
                let starts: Vec<*const f32> = group.clone().map(|panel| &raw const *place(panel)).collect();
                let segs = starts.len();
                let a = ASource::Lines { starts: &starts, segs, seg0: 0, off: 0, stride: len };
                let k0 = cut.stored(group.clone()).start - cut.stored(panels.clone()).start;
                let (start, end) = (group.start == panels.start, group.end == panels.end);
                let step = Step { k0, segs, len, first: start, last: end };
                let rows = Rows { offsets, lines: 1 };
                // SAFETY: a panel has `k` rows of `len` elements, those of the task among them; C is the task's own.
                unsafe {
                    let all = 0..b.cut.panels();
                    multiply_block(packing.isa, &a, rows, b, step, all, out, partial.as_deref_mut());
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;
    use crate::Isa;
    use crate::threads;

    #[test]
    fn the_transpose_of_panels_is_read_where_it_lies() {
        let _turn = threads::test_lock();
        for isa in Isa::available() {
            for (m, k, n) in [
                (1, 1, 16),
                (5, 70, 48),
                (32, 513, 512),
                (33, 64, 64),
                (7, 130, 1040),
                (0, 3, 16),
                (3, 0, 16),
            ] {
                let (a, w) = (values(m * n, 1), values(k * n, 2));
                let packing = Packing::in_panels(isa, k, n);
                let mut packed = vec![0.0; packing.packed_len()];
                packing.pack(MatRef::row_major(&w, k, n), &mut packed);
                let mut rows = vec![0.0; k * n];
                packing.unpack(&packed, &mut rows);
                assert_eq!(rows, w);
                let run = |count: usize| {
                    threads::set_num_threads(count);
                    let mut c = vec![0.0; m * k];
                    gemm_transposed(&packing, MatRef::row_major(&a, m, n), &packed, &mut c);
                    c
                };
                let c = run(1);
                assert_eq!(c, run(3), "other bits with more threads");
                for (i, c) in c.into_iter().enumerate() {
                    let (r, col) = (i / k, i % k);
                    let exact: f64 =
                        (0..n).map(|p| f64::from(a[r * n + p]) * f64::from(w[col * n + p])).sum();
                    assert!((f64::from(c) - exact).abs() < 1e-4, "{} {m} {k} {n} at {i}", isa.name());
                }
            }
        }
        threads::set_num_threads(0);
    }
}
