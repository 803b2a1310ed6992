//! Packing: B into panels that a layer keeps, A into tiles that live for one block.

use super::MatRef;
use super::tile::{kernels, split};
use crate::Isa;
use crate::threads::{self, SharedMut};

/// Columns that `n` take up in packed panels: the last panel is one vector wide where that is enough.
fn padded(isa: Isa, n: usize) -> usize {
    let k = kernels(isa);
    match n % k.panel {
        0 => n,
        r if r <= k.lanes => n - r + k.lanes,
        r => n - r + k.panel,
    }
}

/// The length of a packed `k x n` matrix B, in elements.
pub fn packed_b_len(isa: Isa, k: usize, n: usize) -> usize {
    k * padded(isa, n)
}

/// Packs B for [`gemm`](super::gemm): panels of columns, each with its rows one after the other, the last
/// one padded with zeros. Panics where `out` has not [`packed_b_len`] elements.
pub fn pack_b(isa: Isa, b: MatRef, out: &mut [f32]) {
    pack_b_rows(isa, b, b.rows, 0, out);
}

/// Packs `b` as the rows from `k0` on of a packed matrix that has `k` rows in all.
pub(crate) fn pack_b_rows(isa: Isa, b: MatRef, k: usize, k0: usize, out: &mut [f32]) {
    b.check();
    let n = b.cols;
    assert_eq!(out.len(), packed_b_len(isa, k, n), "the packed B has packed_b_len elements");
    let panel = kernels(isa).panel;
    let panels = n.div_ceil(panel);
    let shared = SharedMut::new(out);
    let body = |i: usize| {
        let col = i * panel;
        let cols = panel.min(n - col);
        let width = padded(isa, n - col).min(panel);
        // SAFETY: panel i lies after the i full panels before it, disjoint from all others.
        let out = unsafe { shared.slice(col * k + k0 * width, width * b.rows) };
        pack_panel(b, col, cols, width, out);
    };
    if b.rows * n < 1 << 16 { (0..panels).for_each(body) } else { threads::run(panels, body) }
}

fn pack_panel(b: MatRef, col: usize, cols: usize, width: usize, out: &mut [f32]) {
    if b.col_stride == 1 {
        for (p, row) in out.chunks_exact_mut(width).enumerate() {
            let start = p * b.row_stride + col;
            row[..cols].copy_from_slice(&b.data[start..start + cols]);
            row[cols..].fill(0.0);
        }
        return;
    }
    // Sixteen rows of the panel at a time: both sides of the transpose stay in L1.
    for (block, rows) in out.chunks_mut(16 * width).enumerate() {
        let p0 = block * 16;
        for j in 0..cols {
            let start = (col + j) * b.col_stride + p0 * b.row_stride;
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                row[j] = b.data[start + i * b.row_stride];
            }
        }
        for row in rows.chunks_exact_mut(width) {
            row[cols..].fill(0.0);
        }
    }
}

/// Packs rows `row0 .. row0 + rows` of A, k from `k0` on, into `tiles` tiles: k-major within each.
pub(crate) fn pack_a(
    a: MatRef,
    row0: usize,
    rows: usize,
    tiles: usize,
    k0: usize,
    len: usize,
    out: &mut [f32],
) {
    for tile in 0..tiles {
        let (row, mr) = split(rows, tiles, tile);
        let out = &mut out[row * len..(row + mr) * len];
        let start = (row0 + row) * a.row_stride + k0 * a.col_stride;
        for (block, columns) in out.chunks_mut(16 * mr).enumerate() {
            for i in 0..mr {
                let at = start + i * a.row_stride + block * 16 * a.col_stride;
                for (p, column) in columns.chunks_exact_mut(mr).enumerate() {
                    column[i] = a.data[at + p * a.col_stride];
                }
            }
        }
    }
}
