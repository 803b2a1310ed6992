//! A pointwise convolution and the depthwise convolution of its result in one.

use super::*;
use lamina_kernels::depthwise::Expanded;

/// `conv(expand(X))`, of which the middle is never whole in memory (the first half of an inverted residual: Sandler
/// et al. 2018). Operands: X, the pointwise kernel, the depthwise kernel, then those of the first epilogue and of the
/// second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpandedConv {
    /// The pointwise convolution; its epilogue has no residual.
    pub expand: Conv,
    /// The depthwise convolution.
    pub conv: Conv,
}

/// Elements of a middle that is not to be whole in memory.
const LARGE: usize = 1 << 18;

impl ExpandedConv {
    /// One op for a pointwise convolution by `kernel` and the depthwise one that reads it, where that is faster:
    /// the result of the first is large.
    pub fn of(expand: Conv, conv: Conv, x: &Type, kernel: &Type, conv_kernel: &Type) -> Option<ExpandedConv> {
        let op = ExpandedConv { expand, conv };
        let float = [x, kernel, conv_kernel].iter().all(|ty| ty.dtype == DType::F32);
        let depthwise = conv.mixing == Mixing::Depthwise && expand.mixing == Mixing::Groups(1);
        if !float || !depthwise || expand.epilogue.residual {
            return None;
        }
        let (first, second) = op.geometries(x, kernel, conv_kernel).ok()?;
        // What fits in the caches of some cores waits there.
        let pays = first.y_len() > LARGE;
        (pays && is_depthwise(&second) && Expanded::fits(&first, &second)).then_some(op)
    }

    fn geometries(
        &self,
        x: &Type,
        kernel: &Type,
        conv_kernel: &Type,
    ) -> Result<(Conv2d, Conv2d), ShapeError> {
        let middle = &self.expand.infer(&[x, kernel])?[0];
        let y = self.conv.infer(&[middle, conv_kernel])?[0].concrete();
        let (x, kernel, middle, second) =
            (x.concrete(), kernel.concrete(), middle.concrete(), conv_kernel.concrete());
        Ok((self.expand.geometry(&x, &kernel, &middle), self.conv.geometry(&middle, &second, &y)))
    }
}

impl OpDef for ExpandedConv {
    fn name(&self) -> &'static str {
        "expanded_conv"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let middle = self.expand.infer(&x[..2])?;
        self.conv.infer(&[&middle[0], x[2]])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new(self.name(), "gradients are taken before fusion"))
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        rows[0] && !rows[1] && !rows[2] && broadcast_keeps_rows(&rows[3..], &inputs[3..], outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (isa, [expand, conv]) = (cx.isa, [self.expand, self.conv].map(|conv| conv.epilogue));
        let geometries = self.geometries(cx.inputs[0], cx.inputs[1], cx.inputs[2]);
        let (first, second) = geometries.expect("the shape rule was asked before");
        let plan = Expanded::new(isa, &first, &second);
        let packer = plan.clone();
        let (bytes, key) =
            (plan.packed_len() * 4, pack_key((Role::Output, Algorithm::Direct, false), &first));
        Lowering::kernel(self.name(), flops(&first) + flops(&second), move |call| {
            let (x, packed, kernel) = (call.input(0), call.input(1), call.input(2));
            let (before, after) = (expand.kernel(call, 3), conv.kernel(call, 3 + expand.operands()));
            plan.run(x, packed, &before, kernel, call.output(0), &after);
        })
        .pack(1, bytes, key, move |call| packer.pack(call.input(0), call.output(0)))
    }

    fn problems() -> Vec<Problem> {
        let pointwise = Conv::new([1, 1], Padding::Valid, [1, 1], 1);
        let around = Padding::Explicit([(2, 1), (0, 3)]);
        let mut problems = vec![];
        for (x, filters, window, conv, before, out) in [
            ([2, 7, 6, 3], 37, [3, 3], Conv::depthwise([1, 1], Padding::Same, [1, 1]), (1, 1), [7, 6]),
            ([1, 9, 16, 5], 32, [3, 3], Conv::depthwise([2, 2], Padding::Same, [1, 1]), (1, 0), [5, 8]),
            ([1, 8, 9, 4], 70, [5, 5], Conv::depthwise([1, 1], Padding::Valid, [1, 1]), (0, 0), [4, 5]),
            ([2, 6, 7, 2], 18, [2, 3], Conv::depthwise([2, 1], around, [1, 2]), (2, 0), [4, 6]),
            ([0, 5, 5, 2], 6, [3, 3], Conv::depthwise([1, 1], Padding::Valid, [1, 1]), (0, 0), [3, 3]),
        ] {
            let first = Conv2d { co: filters, ..geometry(x, [1, 1], [x[1], x[2]], &pointwise, (0, 0)) };
            let second = geometry([x[0], x[1], x[2], filters], window, out, &conv, before);
            for epilogue in Epilogue::samples() {
                let op = ExpandedConv {
                    expand: Conv { epilogue: Epilogue { residual: false, ..epilogue }, ..pointwise },
                    conv: Conv { epilogue, ..conv },
                };
                let mut inputs = vec![
                    sample(DType::F32, &x, 1),
                    sample(DType::F32, &[1, 1, x[3], filters], 2),
                    sample(DType::F32, &[window[0], window[1], filters, 1], 3),
                ];
                for (bias, seed) in [(op.expand.epilogue.bias, 4), (epilogue.bias, 5)] {
                    inputs.extend(bias.then(|| sample(DType::F32, &[filters], seed)));
                }
                inputs.extend(
                    epilogue.residual.then(|| sample(DType::F32, &[x[0], out[0], out[1], filters], 6)),
                );
                let name = format!("{op:?} {x:?} {filters} {window:?}");
                problems.push(Problem::close(name, op, inputs, tolerance(DType::F32), move |v| {
                    let mut middle = reference(&first, &v[0], &v[1]);
                    op.expand.epilogue.reference(&mut middle, filters, &v[3..]);
                    let mut y = reference(&second, &middle, &v[2]);
                    epilogue.reference(&mut y, filters, &v[3 + op.expand.epilogue.operands()..]);
                    y
                }));
            }
        }
        problems
    }
}

/// The kernels' view of a problem: filters of `window` over `x`, as many as channels, output size written out.
fn geometry(
    [n, h, w, c]: [usize; 4],
    [kh, kw]: [usize; 2],
    [oh, ow]: [usize; 2],
    conv: &Conv,
    pad: (usize, usize),
) -> Conv2d {
    let (stride, dilation) = (conv.slide.strides.into(), conv.slide.dilation.into());
    let groups = if conv.mixing == Mixing::Depthwise { c } else { 1 };
    Conv2d { n, h, w, c, kh, kw, oh, ow, co: c, stride, dilation, pad, groups }
}
