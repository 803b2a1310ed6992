//! A pointwise convolution of what a gate was multiplied with, in one.

use super::*;
use lamina_kernels::conv::GatedConv as Kernel;

/// `conv(X * gate)`, of which the product is never whole in memory. Operands: X, the kernel, the gate
/// `[n, 1, 1, channels]`, then those of the epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatedConv(pub Conv);

/// Pixels of an image at least: fewer are read by several tasks, each with other filters.
const PIXELS: usize = 128;

impl GatedConv {
    /// One op for a convolution by `kernel` and the product of `x` and `gate` that it reads, where that is faster.
    pub fn of(conv: Conv, x: &Type, kernel: &Type, gate: &Type) -> Option<GatedConv> {
        let float = [x, kernel, gate].iter().all(|ty| ty.dtype == DType::F32);
        let (n, h, w, c) = match x.concrete()[..] {
            [n, h, w, c] => (n, h, w, c),
            _ => return None,
        };
        if !float || conv.mixing != Mixing::Groups(1) || gate.concrete()[..] != [n, 1, 1, c] || h * w < PIXELS
        {
            return None;
        }
        let y = conv.infer(&[x, kernel]).ok()?;
        let g = conv.geometry(&x.concrete(), &kernel.concrete(), &y[0].concrete());
        Kernel::fits(&g).then_some(GatedConv(conv))
    }
}

impl OpDef for GatedConv {
    fn name(&self) -> &'static str {
        "gated_conv"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        self.0.infer(x)
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new(self.name(), "gradients are taken before fusion"))
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        rows[0] && !rows[1] && broadcast_keeps_rows(&rows[2..], &inputs[2..], outputs)
    }

    fn in_place(&self, inputs: &[&Type], outputs: &[Type]) -> SmallVec<[(usize, usize); 2]> {
        onto_residual(&self.0.epilogue, 3, inputs, outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (epilogue, onto) = (self.0.epilogue, !cx.shared.is_empty());
        let g = self.0.geometry(&cx.shape(0), &cx.shape(1), &cx.out_shape(0));
        let plan = Kernel::new(cx.isa, &g);
        let packer = plan.conv().clone();
        let (bytes, key) =
            (packer.packed_len() * 4, pack_key((Role::Output, Algorithm::Direct, packer.layout()), &g));
        Lowering::kernel(self.name(), flops(&g) + g.x_len() as u64, move |call| {
            let (x, packed, gate) = (call.input(0), call.input(1), call.input(2));
            let fused = epilogue.kernel_onto(call, 3, onto);
            plan.run(x, gate, packed, call.output(0), &fused);
        })
        .pack(1, bytes, key, move |call| packer.pack(call.input(0), call.output(0)))
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for (x, filters) in [([2, 9, 15, 20], 7), ([1, 12, 11, 3], 33), ([0, 12, 12, 2], 5)] {
            for epilogue in Epilogue::samples() {
                let op = GatedConv(Conv { epilogue, ..Conv::new([1, 1], Padding::Valid, [1, 1], 1) });
                let (kernel, y) = ([1, 1, x[3], filters], [x[0], x[1], x[2], filters]);
                let mut inputs = vec![
                    sample(DType::F32, &x, 1),
                    sample(DType::F32, &kernel, 2),
                    sample(DType::F32, &[x[0], 1, 1, x[3]], 3),
                ];
                inputs.extend(epilogue.bias.then(|| sample(DType::F32, &[filters], 4)));
                inputs.extend(epilogue.residual.then(|| sample(DType::F32, &y, 5)));
                let g = op.0.geometry(&x, &kernel, &y);
                let name = format!("{op:?} {x:?} {kernel:?}");
                problems.push(Problem::close(name, op, inputs, tolerance(DType::F32), move |v| {
                    let (c, pixels) = (g.c, g.h * g.w);
                    let gated: Vec<f64> = v[0]
                        .iter()
                        .enumerate()
                        .map(|(i, x)| x * v[2][i / (pixels * c) * c + i % c])
                        .collect();
                    let mut y = reference(&g, &gated, &v[1]);
                    op.0.epilogue.reference(&mut y, filters, &v[3..]);
                    y
                }));
            }
        }
        problems
    }
}
