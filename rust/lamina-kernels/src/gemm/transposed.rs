//! A product by the transpose of a matrix in panels, which is read where it lies.

use super::{
    ASource, MatRef, Output, Packing, Panels, Partial, Rows, Step, multiply_block, pack_b, packed_b_len,
};
use super::{Cut, run_tasks, work_ns};
use crate::epilogue::Epilogue;
use crate::scratch;
use crate::threads::SharedMut;

/// Rows of the packed matrix that a task multiplies at a time: the columns of C that they become are whole cache lines.
const TASK_ROWS: usize = 64;

/// `C = A W^T`, for a `W` of `k x n` [in panels](Packing::in_panels) and an `A` of `m x n`; `c` is row-major.
///
/// Computed as `W A^T`, as the rows of a panel are short rows of A's kind, one after the other; what a task has is turned
/// round as it is written. Panics on other lengths.
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
    let (columns, cut) = (Cut::new(isa, 0, m), packing.cut());
    let out = SharedMut::new(c);
    scratch::with(packed_b_len(isa, n, m), |packed: &mut [f32]| {
        pack_b(isa, columns, a.t(), packed);
        let b = Panels::packed(packed, n, columns);
        run_tasks(work_ns(k, m, n), k.div_ceil(TASK_ROWS), |task| {
            let first = task * TASK_ROWS;
            let rows = TASK_ROWS.min(k - first);
            scratch::with(rows * m, |sums: &mut [f32]| {
                let target = Output::new(sums, m, false, &Epilogue::none());
                block(packing, w, cut, (first, rows), &b, &target);
                for i in 0..m {
                    // SAFETY: a task writes the columns that are its rows.
                    let line = unsafe { out.slice(i * k + first, rows) };
                    line.iter_mut().zip(sums[i..].iter().step_by(m)).for_each(|(c, sum)| *c = *sum);
                }
            });
        });
    });
}

/// Some rows of W by B. Panels of one width are one step: their rows are as far apart.
fn block(packing: &Packing, w: &[f32], cut: Cut, (first, rows): (usize, usize), b: &Panels, out: &Output) {
    let ((k, n), m) = (packing.dims(), b.cut.n());
    let (whole, panels) = (cut.whole(), cut.panels());
    let offsets: Vec<usize> = (0..rows).map(|i| i * m).collect();
    let groups = [0..whole, whole..panels].into_iter().filter(|group| !group.is_empty());
    let steps = groups.clone().count();
    Partial::with(steps, rows, 0..m, |mut partial| {
        for group in groups {
            let width = |panel: usize| cut.stored(panel..panel + 1).len();
            let len = width(group.start);
            debug_assert!(group.clone().all(|panel| width(panel) == len));
            let place = |panel: usize| &w[cut.stored(panel..panel + 1).start * k + first * len];
            let starts: Vec<*const f32> = group.clone().map(|panel| &raw const *place(panel)).collect();
            let a = ASource::Lines { starts: &starts, segs: starts.len(), seg0: 0, off: 0, stride: len };
            let k0 = cut.stored(group.clone()).start;
            let last = group.end == panels;
            let step = Step { k0, segs: group.len(), len, first: k0 == 0, last };
            debug_assert!(!last || k0 + group.len() * len == n);
            let panels = 0..b.cut.panels();
            let rows = Rows { offsets: &offsets, lines: 1 };
            // SAFETY: a panel has `k` rows of `len` elements, those of the task among them; C is the task's own.
            unsafe { multiply_block(packing.isa, &a, rows, b, step, panels, out, partial.as_deref_mut()) };
        }
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
                for i in 0..m * k {
                    let (r, col) = (i / k, i % k);
                    let exact: f64 =
                        (0..n).map(|p| f64::from(a[r * n + p]) * f64::from(w[col * n + p])).sum();
                    assert!((f64::from(c[i]) - exact).abs() < 1e-4, "{} {m} {k} {n} at {i}", isa.name());
                }
            }
        }
        threads::set_num_threads(0);
    }
}
