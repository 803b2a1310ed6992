//! Several products of the same dimensions, as batches of matrices are.

use super::{B, MatRef, Work, gemm};
use crate::Isa;
use crate::epilogue::Epilogue;
use crate::threads::{self, SharedMut};

/// Products that each thread has at least, where each product is left to one thread.
const EACH: usize = 4;

/// `count` products of `m x k` by `k x n`, one after the other in `c`: each is [`gemm`] of the operands and the epilogue that
/// `operands` gives for its number, with the product's part of the residual. Panics as [`gemm`] does, and on another length of
/// `c`.
pub fn gemm_several<'a>(
    isa: Isa,
    (m, k, n): (usize, usize, usize),
    count: usize,
    operands: impl Fn(usize) -> (MatRef<'a>, MatRef<'a>, Epilogue<'a>) + Sync,
    c: &mut [f32],
) {
    let len = m * n;
    assert_eq!(c.len(), count * len, "C has room for all products");
    let out = SharedMut::new(c);
    let product = |i: usize| {
        let (a, b, epilogue) = operands(i);
        // SAFETY: products have places of their own.
        let c = unsafe { out.slice(i * len, len) };
        gemm(isa, a, B::Plain(b), c, n, false, &epilogue);
    };
    let each = Work::new(m, n, k);
    let alone = count >= EACH * threads::num_threads() || !each.is_shared();
    if alone && each.times(count).is_shared() {
        // Whoever runs a product does all of it.
        return threads::run(count, product);
    }
    (0..count).for_each(product);
}
