//! A convolution and the pooling of its result in one: a few rows are computed, and pooled while they are in L1.

use super::{Conv2d, ConvForward, Kind};
use crate::epilogue::Epilogue;
use crate::gemm::{Output, TASK_NS, TASKS_EACH, Work};
use crate::partition::parts;
use crate::pool::{Pool2d, max_pool};
use crate::threads::{self, SharedMut};
use crate::{Isa, scratch};
use std::ops::Range;

/// Elements of the convolution's result that are computed before they are pooled, where one row of windows has not more.
const MIDDLE_LEN: usize = 6 << 10;

/// Taps that take as long as the start and end of a tile's sums and their pooling.
const POOL_STEPS: usize = 16;

/// `max_pool(act(x * filter + bias))` by windows that touch each other, planned for two geometries.
#[derive(Clone, Debug)]
pub struct PooledConv {
    isa: Isa,
    conv: ConvForward,
    pool: Pool2d,
}

impl PooledConv {
    /// Whether the two can be computed as one.
    pub fn fits(conv: &Conv2d, pool: &Pool2d) -> bool {
        let apart = (pool.stride, pool.pad) == ((pool.kh, pool.kw), (0, 0));
        let whole = pool.oh * pool.kh <= pool.h && pool.ow * pool.kw <= pool.w;
        let joined = (conv.n, conv.oh, conv.ow, conv.co) == (pool.n, pool.h, pool.w, pool.c);
        apart && whole && joined && conv.groups == 1 && !conv.pointwise()
    }

    /// Plans; panics unless the geometries [fit](PooledConv::fits).
    pub fn new(isa: Isa, conv: &Conv2d, pool: &Pool2d) -> Self {
        assert!(
            Self::fits(conv, pool),
            "a convolution in one group and pooling of its result, window by window"
        );
        PooledConv { isa, conv: ConvForward::new(isa, conv), pool: *pool }
    }

    /// As [`ConvForward::layout`].
    pub fn layout(&self) -> u64 {
        self.conv.layout()
    }

    /// Elements of the packed filter.
    pub fn packed_len(&self) -> usize {
        self.conv.packed_len()
    }

    /// Packs a filter `[kh, kw, c, co]`; panics on other lengths.
    pub fn pack(&self, hwio: &[f32], out: &mut [f32]) {
        self.conv.pack(hwio, out);
    }

    /// Computes `y`, the pooled result, from `x` `[n, h, w, c]`. Panics on other lengths, and where the epilogue has a
    /// residual.
    pub fn run(&self, x: &[f32], packed: &[f32], y: &mut [f32], ep: &Epilogue) {
        let (g, pool) = (&self.conv.geometry, &self.pool);
        assert_eq!(x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert_eq!(y.len(), pool.y_len(), "the output has n * oh * ow * co elements");
        assert_eq!(packed.len(), self.packed_len(), "the packed filter has packed_len elements");
        assert!(!ep.has_residual(), "nothing is added between convolution and pooling");
        ep.check(g.co, 0);
        let Kind::Indirect(conv) = &self.conv.kind else { unreachable!("not pointwise, and direct") };
        let (rows, row_len) = (g.n * pool.oh, pool.ow * g.co);
        if rows * row_len == 0 {
            return;
        }
        let line = g.ow * g.co;
        let each = (MIDDLE_LEN / (pool.kh * line)).clamp(1, pool.oh);
        let work = Work::new(g.n * g.oh * g.ow, g.co, g.kh * g.kw * g.c + POOL_STEPS).ns;
        let threads = threads::num_threads();
        let shared = (work / TASK_NS).min(TASKS_EACH * threads).max(1).next_multiple_of(threads).min(rows);
        let tasks = if threads::sharing_pays(work, x.len() + y.len()) { shared } else { 1 };
        let panels = conv.packing().count();
        let y = SharedMut::new(y);
        threads::run_ranges(tasks, |some| {
            let Range { start: mut row, end } = parts(0..rows, tasks, some);
            while row < end {
                let (image, first) = (row / pool.oh, row % pool.oh);
                let count = each.min(end - row).min(pool.oh - first);
                let start = image * g.oh + first * pool.kh;
                let lines = count * pool.kh;
                scratch::with(lines * line, |middle: &mut [f32]| {
                    let mut out = Output::new(middle, g.co, false, ep);
                    // As if the lines of all images before were there too.
                    out.c = out.c.wrapping_sub(start * line);
                    conv.block(x, packed, &out, start..start + lines, &mut std::iter::once(0..panels));
                    // SAFETY: rows of the output are this task's.
                    let y = unsafe { y.slice(row * row_len, count * row_len) };
                    max_pool(self.isa, &Pool2d { n: 1, h: lines, oh: count, ..*pool }, middle, y);
                });
                row += count;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::BASE;
    use super::*;
    use crate::epilogue::Act;
    use crate::gemm::tests::values;
    use crate::threads;

    #[test]
    fn pooled_convolutions_have_the_bits_of_the_two_apart() {
        let _guard = threads::test_lock();
        for threads in [1, 3] {
            threads::set_num_threads(threads);
            for isa in Isa::available() {
                for (n, h, w, c, co, (kh, kw)) in [
                    (1, 28, 28, 1, 32, (2, 2)),
                    (3, 9, 11, 3, 17, (2, 2)),
                    (2, 7, 8, 4, 70, (3, 2)),
                    (40, 12, 12, 2, 40, (2, 2)),
                    (1, 5, 200, 3, 96, (1, 4)),
                    (0, 6, 6, 1, 8, (2, 2)),
                ] {
                    let g = Conv2d { n, h, w, c, oh: h - 2, ow: w - 2, co, pad: (0, 0), ..BASE };
                    let (oh, ow) = (g.oh / kh, g.ow / kw);
                    let pool =
                        Pool2d { n, h: g.oh, w: g.ow, c: co, kh, kw, oh, ow, stride: (kh, kw), pad: (0, 0) };
                    let (x, filter, bias) = (values(g.x_len(), 1), values(g.filter_len(), 2), values(co, 3));
                    let ep = Epilogue::bias(&bias, Act::Relu);
                    let plan = PooledConv::new(isa, &g, &pool);
                    let mut packed = vec![0.0; plan.packed_len()];
                    plan.pack(&filter, &mut packed);
                    let (mut middle, mut want, mut got) =
                        (vec![0.0; g.y_len()], vec![0.0; pool.y_len()], vec![9.0; pool.y_len()]);
                    ConvForward::new(isa, &g).run(&x, &packed, &mut middle, &ep);
                    max_pool(isa, &pool, &middle, &mut want);
                    plan.run(&x, &packed, &mut got, &ep);
                    assert!(got == want, "{} {threads} {g:?} {pool:?}", isa.name());
                }
            }
        }
        threads::set_num_threads(0);
    }
}
