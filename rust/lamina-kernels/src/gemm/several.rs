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

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;

    /// Each product is what it would be alone, few large ones and many small ones, whoever computes it.
    #[test]
    fn products_are_those_computed_one_by_one() {
        let _turn = threads::test_lock();
        for isa in Isa::available() {
            for (count, m, k, n) in
                [(0, 2, 3, 4), (1, 40, 70, 33), (3, 130, 64, 90), (37, 31, 20, 17), (5, 2, 0, 3)]
            {
                let (a, b, r) = (values(count * m * k, 1), values(k * n, 2), values(count * m * n, 3));
                let operands = |i: usize| {
                    let residual = Some(&r[i * m * n..][..m * n]);
                    let a = MatRef::row_major(&a[i * m * k..][..m * k], m, k);
                    (a, MatRef::row_major(&b, k, n), Epilogue { residual, ..Epilogue::none() })
                };
                let mut wanted = vec![0.0; count * m * n];
                for (i, c) in wanted.chunks_exact_mut(m * n).enumerate() {
                    let (a, b, epilogue) = operands(i);
                    gemm(isa, a, B::Plain(b), c, n, false, &epilogue);
                }
                for threads in [1, 3] {
                    threads::set_num_threads(threads);
                    let mut c = vec![7.0; count * m * n];
                    gemm_several(isa, (m, k, n), count, operands, &mut c);
                    assert_eq!(c, wanted, "{} {count} x {m} {k} {n}, {threads} threads", isa.name());
                }
            }
        }
        threads::set_num_threads(0);
    }
}
