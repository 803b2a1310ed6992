//! A depthwise convolution in one with the convolutions before and after it.

use super::*;
use lamina_kernels::depthwise::{Joined, Stage};

/// `after(conv(before(X)))`, of which what lies between is never whole in memory: inverted residuals (Sandler et al.
/// 2018), separable convolutions, the first layers of such networks. Operands: X, the kernels in the order of the
/// convolutions, then those of their epilogues. At least one of the two around the depthwise one is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinedConv {
    /// Of few channels, or pointwise; its epilogue has no residual.
    pub before: Option<Conv>,
    /// Depthwise; its epilogue has no residual if something comes after it.
    pub conv: Conv,
    /// Pointwise.
    pub after: Option<Conv>,
}

/// Elements between two convolutions that are not to be whole in memory: those that do not fit in the caches of some
/// cores.
const LARGE: usize = 1 << 18;

/// The geometries of its convolutions.
struct Geometries {
    before: Option<Conv2d>,
    conv: Conv2d,
    after: Option<Conv2d>,
}

impl Geometries {
    fn all(&self) -> impl Iterator<Item = &Conv2d> {
        self.before.iter().chain([&self.conv]).chain(&self.after)
    }

    /// Elements between two of its convolutions, at most.
    fn largest(&self) -> usize {
        let before = self.before.map_or(0, |g| g.y_len());
        before.max(self.after.map_or(0, |g| g.x_len()))
    }
}

impl JoinedConv {
    /// One op for these convolutions, each the only reader of the one before, where that is faster. `types` are those of
    /// X and of the kernels.
    pub fn of(before: Option<Conv>, conv: Conv, after: Option<Conv>, types: &[&Type]) -> Option<JoinedConv> {
        let op = JoinedConv { before, conv, after };
        let around = before.iter().chain(&after).all(|c| c.mixing == Mixing::Groups(1));
        let inner = before.iter().chain(after.map(|_| &op.conv)).any(|c| c.epilogue.residual);
        let float = types.iter().all(|ty| ty.dtype == DType::F32);
        if !float || !around || inner || conv.mixing != Mixing::Depthwise {
            return None;
        }
        let g = op.geometries(types).ok()?;
        let fits = is_depthwise(&g.conv) && Joined::fits(g.before.as_ref(), &g.conv, g.after.as_ref());
        (fits && g.largest() > LARGE).then_some(op)
    }

    fn convs(&self) -> impl Iterator<Item = &Conv> {
        self.before.iter().chain([&self.conv]).chain(&self.after)
    }

    /// X and the kernels.
    fn count(&self) -> usize {
        1 + self.convs().count()
    }

    fn geometries(&self, types: &[&Type]) -> Result<Geometries, ShapeError> {
        let mut x = types[0].clone();
        let mut kernels = types[1..].iter();
        let mut next = |conv: &Conv| {
            let kernel = kernels.next().expect("a kernel for each convolution");
            let y = conv.infer(&[&x, kernel])?.remove(0);
            let g = conv.geometry(&x.concrete(), &kernel.concrete(), &y.concrete());
            x = y;
            Ok(g)
        };
        let mut optional = |conv: &Option<Conv>| conv.as_ref().map(&mut next).transpose();
        Ok(Geometries {
            before: optional(&self.before)?,
            conv: optional(&Some(self.conv))?.expect("is there"),
            after: optional(&self.after)?,
        })
    }
}

impl OpDef for JoinedConv {
    fn name(&self) -> &'static str {
        "joined_conv"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let mut y = x[0].clone();
        for (conv, kernel) in self.convs().zip(&x[1..]) {
            y = conv.infer(&[&y, kernel])?.remove(0);
        }
        Ok(smallvec![y])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new(self.name(), "gradients are taken before fusion"))
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        let kernels = 1..self.count();
        let rest = kernels.end;
        rows[0]
            && !rows[kernels].contains(&true)
            && broadcast_keeps_rows(&rows[rest..], &inputs[rest..], outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (isa, op, count) = (cx.isa, *self, self.count());
        let g = self.geometries(&cx.inputs[..count]).expect("the shape rule was asked before");
        let plan = Joined::new(isa, g.before.as_ref(), &g.conv, g.after.as_ref());
        let packers = [plan.clone(), plan.clone()];
        let (bytes_before, bytes_after) = plan.packed_len();
        let layout = plan.layout();
        let key = |g: &Conv2d| pack_key((Role::Output, Algorithm::Direct, layout), g);
        let operations = g.all().map(flops).sum();
        let mut lowering = Lowering::kernel(self.name(), operations, move |call| {
            let (mut kernel, mut operand) = (1, count);
            let mut next = |conv: &Conv| {
                let stage =
                    Stage { filter: call.input(kernel), epilogue: conv.epilogue.kernel(call, operand) };
                kernel += 1;
                operand += conv.epilogue.operands();
                stage
            };
            let before = op.before.as_ref().map(&mut next);
            let (conv, after) = (next(&op.conv), op.after.as_ref().map(&mut next));
            plan.run(call.input(0), before, conv, after, call.output(0));
        });
        let [before, after] = packers;
        if let Some(g) = &g.before {
            let pack = move |call: &mut Call<'_, '_>| before.pack_before(call.input(0), call.output(0));
            lowering = lowering.pack(1, bytes_before * 4, key(g), pack);
        }
        if let Some(g) = &g.after {
            let pack = move |call: &mut Call<'_, '_>| after.pack_after(call.input(0), call.output(0));
            lowering = lowering.pack(count - 1, bytes_after * 4, key(g), pack);
        }
        lowering
    }

    fn problems() -> Vec<Problem> {
        let pointwise = Conv::new([1, 1], Padding::Valid, [1, 1], 1);
        let halving = Conv::new([2, 2], Padding::Same, [1, 1], 1);
        let depthwise = |stride: usize, padding| Conv::depthwise([stride; 2], padding, [1, 1]);
        let (same, valid) = (depthwise(1, Padding::Same), depthwise(1, Padding::Valid));
        let half = depthwise(2, Padding::Same);
        let around = Conv::depthwise([2, 1], Padding::Explicit([(2, 1), (0, 3)]), [1, 2]);
        let mut problems = vec![];
        for (x, before, middle, window, conv, after) in [
            ([2, 7, 6, 3], Some(pointwise), 37, [3, 3], same, None),
            ([1, 9, 16, 5], Some(pointwise), 32, [3, 3], half, Some(7)),
            ([1, 8, 9, 4], Some(pointwise), 70, [5, 5], valid, Some(35)),
            ([2, 6, 7, 2], Some(pointwise), 18, [2, 3], around, None),
            ([1, 13, 14, 3], Some(halving), 20, [3, 3], same, None),
            ([2, 12, 15, 3], Some(halving), 33, [3, 3], same, Some(16)),
            ([2, 6, 7, 18], None, 18, [3, 3], same, Some(40)),
            ([0, 5, 5, 2], Some(pointwise), 6, [3, 3], valid, Some(3)),
        ] {
            for epilogue in Epilogue::samples() {
                let inner = Epilogue { residual: false, ..epilogue };
                let op = JoinedConv {
                    before: before.map(|c| Conv { epilogue: inner, ..c }),
                    conv: Conv { epilogue: if after.is_some() { inner } else { epilogue }, ..conv },
                    after: after.map(|_| Conv { epilogue, ..pointwise }),
                };
                let side = before.map_or(1, |c| if c == halving { 3 } else { 1 });
                let mut shapes = vec![x];
                shapes.extend(before.map(|_| [side, side, x[3], middle]));
                shapes.push([window[0], window[1], middle, 1]);
                shapes.extend(after.map(|co| [1, 1, middle, co]));
                let mut inputs: Vec<_> =
                    shapes.iter().zip(1..).map(|(shape, seed)| sample(DType::F32, shape, seed)).collect();
                let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
                let g = op.geometries(&types.iter().collect::<Vec<_>>()).expect("the problem fits");
                for (g, conv) in g.all().zip(op.convs()) {
                    let seed = inputs.len() as u64 + 1;
                    inputs.extend(conv.epilogue.bias.then(|| sample(DType::F32, &[g.co], seed)));
                    let y = [g.n, g.oh, g.ow, g.co];
                    inputs.extend(conv.epilogue.residual.then(|| sample(DType::F32, &y, seed + 1)));
                }
                let name = format!("{op:?} {x:?} {middle} {window:?}");
                problems.push(Problem::close(name, op, inputs, tolerance(DType::F32), move |v| {
                    let (mut y, mut operand) = (v[0].clone(), op.count());
                    for ((g, conv), kernel) in g.all().zip(op.convs()).zip(&v[1..]) {
                        y = reference(g, &y, kernel);
                        conv.epilogue.reference(&mut y, g.co, &v[operand..]);
                        operand += conv.epilogue.operands();
                    }
                    y
                }));
            }
        }
        problems
    }
}
