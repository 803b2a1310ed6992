//! Reductions over the middle axis of a contiguous `[outer, reduce, inner]` view.
//!
//! Every reduction of adjacent axes is of that form: whole arrays `[1, n, 1]`, rows `[rows, n, 1]`,
//! columns `[1, n, columns]`. The reduced axis is cut into blocks of a fixed length, each block is
//! summed in vectors, and the blocks' results are combined pairwise. So rounding errors grow with
//! the logarithm of the length, and the bits do not depend on the number of threads.

mod arg;
mod fold;
mod moments;

pub use arg::{argmax, argmin};
pub(crate) use fold::{keep, load_filled};
pub use moments::mean_var;
pub(crate) use moments::row as row_moments;

use crate::partition::ranges;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, scratch};
use std::ops::Range;

/// What to make of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Their sum; 0 for none
    Sum,
    /// Their mean; NaN for none
    Mean,
    /// The sum of their squares
    SumSquares,
    /// Their product; 1 for none
    Prod,
    /// The largest, NaN where any is NaN; negative infinity for none
    Max,
    /// The smallest, NaN where any is NaN; infinity for none
    Min,
}

/// Elements of a row that are reduced in one go.
const ROW_BLOCK: usize = 4096;
/// Columns handled in one go: their running results stay in the first-level cache.
const PANEL: usize = 1024;

/// Rows of a column reduction that are reduced in one go.
fn row_block(inner: usize) -> usize {
    (8192 / inner.max(1)).clamp(256, 4096)
}

/// Checks the lengths of a reduction's operand and result.
fn check(x: &[f32], [outer, reduce, inner]: [usize; 3], out: usize) {
    assert_eq!(x.len(), outer * reduce * inner, "the input's length is not outer * reduce * inner");
    assert_eq!(out, outer * inner, "the output's length is not outer * inner");
}

/// Reduces the middle axis of `x: [outer, reduce, inner]` into `out: [outer, inner]`.
///
/// # Panics
/// Where a slice's length is not what `dims` says.
///
/// ```
/// use lamina_kernels::{Isa, reduce::{Reduce, reduce}};
/// let mut columns = [0.0; 2];
/// reduce(Isa::best(), Reduce::Sum, &[1.0, 2.0, 3.0, 4.0], [1, 2, 2], &mut columns);
/// assert_eq!(columns, [4.0, 6.0]);
/// ```
pub fn reduce(isa: Isa, op: Reduce, x: &[f32], dims: [usize; 3], out: &mut [f32]) {
    check(x, dims, out.len());
    if out.is_empty() {
        return;
    }
    let [outer, reduce, inner] = dims;
    let block = if inner == 1 { ROW_BLOCK } else { row_block(inner) };
    let blocks = reduce.div_ceil(block).max(1);
    let panel = inner.min(PANEL);
    let panels = inner.div_ceil(PANEL);
    let partials = |partials: &mut [f32]| {
        let shared = SharedMut::new(partials);
        let layout = Layout { dims, block, blocks, panel, panels };
        ranges(outer * blocks * panels, block.min(reduce) * panel, |units: Range<usize>| {
            dispatch!(isa, fold::units, (
                op: Reduce,
                x: &[f32],
                layout: Layout,
                units: Range<usize>,
                shared: SharedMut<'_, f32>,
            ))
        });
    };
    if blocks == 1 {
        partials(out);
    } else {
        scratch::with(outer * blocks * inner, |buffer: &mut [f32]| {
            partials(buffer);
            for (rows, out) in buffer.chunks_mut(blocks * inner).zip(out.chunks_mut(inner)) {
                dispatch!(isa, fold::tree, (op: Reduce, rows: &mut [f32], inner: usize));
                out.copy_from_slice(&rows[..inner]);
            }
        });
    }
    if op == Reduce::Mean {
        out.iter_mut().for_each(|y| *y /= reduce as f32);
    }
}

/// How a reduction is cut into units: for each `outer`, for each block of rows, the panels of columns.
#[derive(Clone, Copy)]
struct Layout {
    dims: [usize; 3],
    block: usize,
    blocks: usize,
    panel: usize,
    panels: usize,
}

/// One unit: rows `first .. first + rows` of one `outer`, columns `column .. column + columns`.
struct Unit {
    /// Where the block's first row begins in the operand.
    start: usize,
    rows: usize,
    column: usize,
    columns: usize,
    /// Where the unit's result goes among the partial results `[outer, blocks, inner]`.
    to: usize,
}

impl Layout {
    #[inline(always)]
    fn unit(&self, i: usize) -> Unit {
        let [_, reduce, inner] = self.dims;
        let (panel, strip) = (i % self.panels, i / self.panels);
        let (block, outer) = (strip % self.blocks, strip / self.blocks);
        let (first, column) = (block * self.block, panel * self.panel);
        Unit {
            start: (outer * reduce + first) * inner,
            rows: self.block.min(reduce - first),
            column,
            columns: self.panel.min(inner - column),
            to: strip * inner + column,
        }
    }
}

#[cfg(test)]
mod tests;
