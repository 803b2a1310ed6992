//! A pointwise convolution of an image whose channels are each multiplied by a number first (Hu et al. 2018,
//! "Squeeze-and-Excitation Networks"): the products are made where the multiply reads them.

use super::{Conv2d, ConvForward, Kind};
use crate::epilogue::Epilogue;
use crate::gemm::{MatRef, TASKS_EACH, Work, gemm, grid, run_task_ranges};
use crate::partition::{cuts, parts};
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, scratch};

/// Elements of the products that are made at a time: they stay in L2 beside the filter.
const BLOCK_LEN: usize = 32 << 10;

/// Pixels of a task at least: about a tile of registers.
const TASK_ROWS: usize = 9;

/// `act((x * gate) * filter + bias + residual)`, planned for one geometry.
#[derive(Clone, Debug)]
pub struct GatedConv(ConvForward);

impl GatedConv {
    /// Whether it is one: a pointwise convolution.
    pub fn fits(g: &Conv2d) -> bool {
        g.pointwise()
    }

    /// Plans; panics unless the geometry [fits](GatedConv::fits).
    pub fn new(isa: Isa, g: &Conv2d) -> Self {
        assert!(Self::fits(g), "only a pointwise convolution is gated");
        GatedConv(ConvForward::new(isa, g))
    }

    /// The convolution without the gate, which packs the filter.
    pub fn conv(&self) -> &ConvForward {
        &self.0
    }

    /// Computes `y` `[n, h, w, co]` from `x` `[n, h, w, c]` and `gate` `[n, c]`; panics on other lengths.
    pub fn run(&self, x: &[f32], gate: &[f32], packed: &[f32], y: &mut [f32], ep: &Epilogue) {
        let ConvForward { isa, geometry: g, kind } = &self.0;
        let Kind::Pointwise(packing) = kind else { unreachable!("pointwise, and direct") };
        assert_eq!(x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert_eq!(gate.len(), g.n * g.c, "the gate has n * c elements");
        assert_eq!(y.len(), g.y_len(), "the output has n * oh * ow * co elements");
        ep.check(g.co, y.len());
        let (pixels, isa) = (g.h * g.w, *isa);
        let rows = g.n * pixels;
        if rows * g.co == 0 {
            return;
        }
        let work = Work::new(rows, g.co, g.c);
        let tiles = rows.div_ceil(TASK_ROWS);
        let (tasks, _) = grid(tiles, tiles, 1, work, TASKS_EACH, true);
        let y = SharedMut::new(y);
        run_task_ranges(work, tasks, |some| {
            let some = parts(0..rows, tasks, some);
            for image in some.start / pixels..some.end.div_ceil(pixels) {
                let some = some.start.max(image * pixels)..some.end.min((image + 1) * pixels);
                let gate = &gate[image * g.c..][..g.c];
                for block in cuts(some.clone(), (some.len() * g.c).div_ceil(BLOCK_LEN).clamp(1, some.len())) {
                    let (first, len) = (block.start, block.len());
                    scratch::with(len * g.c, |a: &mut [f32]| {
                        multiply(isa, &x[first * g.c..][..len * g.c], gate, a);
                        let (start, size) = (first * g.co, len * g.co);
                        let (a, b) = (MatRef::row_major(a, len, g.c), packing.operand(packed));
                        // SAFETY: tasks have rows of their own.
                        let y = unsafe { y.slice(start, size) };
                        gemm(isa, a, b, y, g.co, false, &ep.part(start, size));
                    });
                }
            }
        });
    }
}

/// Each row of `x` times `gate`.
fn multiply(isa: Isa, x: &[f32], gate: &[f32], out: &mut [f32]) {
    #[inline(always)]
    fn body<S: Simd>(_: S, x: &[f32], gate: &[f32], out: &mut [f32]) {
        for (x, out) in x.chunks_exact(gate.len()).zip(out.chunks_exact_mut(gate.len())) {
            for ((x, gate), out) in x.iter().zip(gate).zip(out) {
                *out = x * gate;
            }
        }
    }
    if !gate.is_empty() {
        dispatch!(isa, body, (x: &[f32], gate: &[f32], out: &mut [f32]));
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
    fn gated_convolutions_have_the_bits_of_a_product_and_a_convolution() {
        let _guard = threads::test_lock();
        for threads in [1, 3] {
            threads::set_num_threads(threads);
            for isa in Isa::available() {
                for (n, h, w, c, co) in [
                    (1, 56, 56, 144, 24),
                    (3, 9, 11, 70, 17),
                    (2, 1, 1, 5, 40),
                    (0, 6, 6, 4, 8),
                    (1, 7, 7, 1152, 96),
                    (1, 3, 3, 0, 4),
                ] {
                    let g = Conv2d { n, h, w, c, oh: h, ow: w, co, kh: 1, kw: 1, pad: (0, 0), ..BASE };
                    let (x, gate, filter) =
                        (values(g.x_len(), 1), values(n * c, 2), values(g.filter_len(), 3));
                    let (bias, residual) = (values(co, 4), values(g.y_len(), 5));
                    let ep = Epilogue { residual: Some(&residual), ..Epilogue::bias(&bias, Act::Silu) };
                    let plan = GatedConv::new(isa, &g);
                    let mut packed = vec![0.0; plan.conv().packed_len()];
                    plan.conv().pack(&filter, &mut packed);
                    let (mut want, mut got) = (vec![0.0; g.y_len()], vec![9.0; g.y_len()]);
                    let image = |i: usize| i / (h * w * c);
                    let product: Vec<f32> =
                        x.iter().enumerate().map(|(i, x)| x * gate[image(i) * c + i % c]).collect();
                    plan.conv().run(&product, &packed, &mut want, &ep);
                    plan.run(&x, &gate, &packed, &mut got, &ep);
                    assert!(got == want, "{} {threads} {g:?}", isa.name());
                    let mut onto = residual.clone();
                    let ep = Epilogue { residual: None, onto: true, ..ep };
                    plan.run(&x, &gate, &packed, &mut onto, &ep);
                    assert!(onto == want, "{} {threads} {g:?} onto the residual", isa.name());
                }
            }
        }
        threads::set_num_threads(0);
    }
}
