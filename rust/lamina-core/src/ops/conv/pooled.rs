//! A convolution of few channels and the pooling of its result in one.

use super::*;
use crate::ops::pool::{Pool, PoolKind, windows};
use lamina_kernels::conv::PooledConv as Kernel;
use lamina_kernels::pool::Pool2d;

/// `max_pool(conv(X))`, of which the middle is never whole in memory. Operands: X, the kernel, then those of the
/// epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PooledConv {
    /// The convolution; its epilogue has no residual.
    pub conv: Conv,
    /// Pooling by windows that touch each other.
    pub pool: Pool,
}

/// With more channels, the arithmetic of the convolution outweighs the memory that its result takes, and minimal
/// filtering is faster.
const MOST_CHANNELS: usize = 4;

impl PooledConv {
    /// One op for a convolution by `kernel` and the pooling that reads it, where that is faster.
    pub fn of(conv: Conv, pool: Pool, x: &Type, kernel: &Type) -> Option<PooledConv> {
        let op = PooledConv { conv, pool };
        let float = x.dtype == DType::F32 && kernel.dtype == DType::F32;
        if !float || conv.mixing != Mixing::Groups(1) || conv.epilogue.residual || pool.kind != PoolKind::Max
        {
            return None;
        }
        let (g, pool) = op.geometries(x, kernel).ok()?;
        (g.c <= MOST_CHANNELS && !is_depthwise(&g) && Kernel::fits(&g, &pool)).then_some(op)
    }

    fn geometries(&self, x: &Type, kernel: &Type) -> Result<(Conv2d, Pool2d), ShapeError> {
        let middle = &self.conv.infer(&[x, kernel])?[0];
        let y = self.pool.infer(&[middle])?[0].concrete();
        let middle = middle.concrete();
        let g = self.conv.geometry(&x.concrete(), &kernel.concrete(), &middle);
        Ok((g, self.pool.geometry(&middle, &y)))
    }
}

impl OpDef for PooledConv {
    fn name(&self) -> &'static str {
        "pooled_conv"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let middle = self.conv.infer(x)?;
        self.pool.infer(&[&middle[0]])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new(self.name(), "gradients are taken before fusion"))
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        rows[0] && !rows[1] && broadcast_keeps_rows(&rows[2..], &inputs[2..], outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let epilogue = self.conv.epilogue;
        let geometries = self.geometries(cx.inputs[0], cx.inputs[1]);
        let (g, pool) = geometries.expect("the shape rule was asked before");
        let plan = Kernel::new(cx.isa, &g, &pool);
        let packer = plan.clone();
        let (bytes, key) =
            (plan.packed_len() * 4, pack_key((Role::Output, Algorithm::Direct, plan.layout()), &g));
        Lowering::kernel(self.name(), flops(&g), move |call| {
            let (x, packed, fused) = (call.input(0), call.input(1), epilogue.kernel(call, 2));
            plan.run(x, packed, call.output(0), &fused);
        })
        .pack(1, bytes, key, move |call| packer.pack(call.input(0), call.output(0)))
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for (x, window, filters, by) in [
            ([2, 10, 9, 1], [3, 3], 32, [2, 2]),
            ([1, 13, 8, 3], [5, 2], 7, [3, 2]),
            ([0, 6, 6, 2], [3, 3], 5, [2, 2]),
        ] {
            let conv = Conv::new([1, 1], Padding::Valid, [1, 1], 1);
            let pool = Pool::new(PoolKind::Max, by, by, Padding::Valid);
            for epilogue in Epilogue::samples() {
                let op = PooledConv {
                    conv: Conv { epilogue: Epilogue { residual: false, ..epilogue }, ..conv },
                    pool,
                };
                let kernel = [window[0], window[1], x[3], filters];
                let mut inputs = vec![sample(DType::F32, &x, 1), sample(DType::F32, &kernel, 2)];
                inputs.extend(epilogue.bias.then(|| sample(DType::F32, &[filters], 3)));
                let (g, p) = op.geometries(&inputs[0].ty(), &inputs[1].ty()).expect("the problem fits");
                let name = format!("{op:?} {x:?} {kernel:?}");
                problems.push(Problem::close(name, op, inputs, tolerance(DType::F32), move |v| {
                    let mut middle = reference(&g, &v[0], &v[1]);
                    op.conv.epilogue.reference(&mut middle, filters, &v[2..]);
                    let (x, y) = ([p.n, p.h, p.w, p.c], [p.n, p.oh, p.ow, p.c]);
                    let largest = |window: Vec<(usize, f64)>| {
                        window.iter().map(|place| place.1).fold(f64::NEG_INFINITY, f64::max)
                    };
                    windows(&op.pool, &x, &y, &middle).into_iter().map(largest).collect()
                }));
            }
        }
        problems
    }
}
