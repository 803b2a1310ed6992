//! Few rows by a packed B that is not worth a second thread: layers of small networks at batch 1, and the steps of recurrent
//! ones, where finding out what to do takes longer than doing it.

use super::block::Block;
use super::kernels::{Kernels, kernels};
use super::{MatRef, Output, Panels, Rows, Step, fetch_row, k_block};
use crate::Isa;

/// Rows at most, of any instruction set.
const MOST: usize = 4;

/// Whether [`multiply`] takes it.
pub(super) fn fits(kernels: &Kernels, a: &MatRef, b: &Panels) -> bool {
    let rows = a.rows <= kernels.few().min(MOST) && a.col_stride == 1;
    rows && b.cut.most() == kernels.wide_panel && !b.in_place && b.k == k_block(b.k)
}

/// `C = A B`, as blocks of many rows do it: in the same order of k, with the same kernels. B has columns and a k.
pub(super) fn multiply(isa: Isa, a: MatRef, b: &Panels, ldc: usize, out: &Output) {
    let (kernels, m, starts) = (kernels(isa), a.rows, [a.data.as_ptr()]);
    let offsets: [usize; MOST] = std::array::from_fn(|i| i * ldc);
    if m == 1 {
        fetch_row(&a, 0);
    }
    let step = Step { k0: 0, segs: 1, len: b.k, first: true, last: true };
    let block = Block::new(isa, Rows { offsets: &offsets[..m], lines: 1 }, b, step, out, None);
    let (panels, whole, widest) = (b.cut.panels(), b.cut.whole(), b.cut.widest());
    let mut t = block.tile(&b.cut.stored(0..1));
    (t.a, t.row_stride) = (starts.as_ptr(), a.row_stride);
    let mut panel = 0;
    while panel < panels {
        let (count, kernel) = match kernels.wide(&b.cut, m, whole.saturating_sub(panel)) {
            Some((count, kernel)) => {
                t.cols = count * widest;
                (count, kernel)
            }
            None => {
                let stored = b.cut.stored(panel..panel + 1);
                t.cols = (b.cut.n() - t.col).min(stored.len());
                t.b_step = stored.len();
                (1, kernels.width(stored.len()).kernel(kernels.lanes, m, t.cols))
            }
        };
        // SAFETY: `kernels(isa)` holds only kernels that isa proves; `MatRef::check` and the packing's length hold A and B,
        // the caller has checked that C has the rows.
        unsafe { kernel(&t) };
        t.b = t.b.wrapping_add(count * widest * b.k);
        t.col += count * widest;
        panel += count;
    }
    // SAFETY: as above.
    unsafe { block.activate(0..m, 0, b.cut.n()) };
}
