//! Matrix products, with what may follow them in registers.

use super::activation::Activation;
use super::elementwise::{Named, Unary};
use super::movement::{Reshape, Target};
use super::*;
use lamina_kernels::elementwise::Unary as U;
use lamina_kernels::epilogue;
use lamina_kernels::gemm::{self, MatRef};

/// What a producing kernel does to a sum before it stores it: `act(sum + bias + residual)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// An operand more: one value per output channel.
    pub bias: bool,
    /// An operand more (after the bias): the shape of the result.
    pub residual: bool,
    /// Applied last.
    pub act: Option<Act>,
}

/// An activation that an epilogue knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// relu, sigmoid, tanh or exp.
    Unary(U),
    /// Any of the others.
    Activation(Activation),
}

impl Act {
    /// The activation that an op applies, if an epilogue can.
    pub fn of(op: &Op) -> Option<Act> {
        match op {
            Op::Unary(Unary(u @ (U::Relu | U::Sigmoid | U::Tanh | U::Exp))) => Some(Act::Unary(*u)),
            Op::Activation(a) => Some(Act::Activation(*a)),
            _ => None,
        }
    }

    fn kernel(self) -> epilogue::Act {
        use Activation as A;
        use epilogue::Act as K;
        match self {
            Act::Unary(U::Relu) => K::Relu,
            Act::Unary(U::Sigmoid) => K::Sigmoid,
            Act::Unary(U::Tanh) => K::Tanh,
            Act::Unary(U::Exp) => K::Exp,
            Act::Unary(other) => unreachable!("{} is not an epilogue", other.name()),
            Act::Activation(a) => match a {
                A::Relu6 => K::Relu6,
                A::LeakyRelu(alpha) => K::LeakyRelu(alpha.get() as f32),
                A::Clamp(low, high) => K::Clamp(low.get() as f32, high.get() as f32),
                A::Silu => K::Silu,
                A::Gelu => K::Gelu,
                A::GeluTanh => K::GeluTanh,
                A::Elu(alpha) => K::Elu(alpha.get() as f32),
                A::Selu => K::Selu,
                A::Softplus => K::Softplus,
                A::HardSigmoid => K::HardSigmoid,
                A::HardSilu => K::HardSilu,
            },
        }
    }
}

impl Epilogue {
    /// Whether there is nothing to do.
    pub fn is_none(&self) -> bool {
        *self == Epilogue::default()
    }

    /// How many operands it adds.
    pub fn operands(&self) -> usize {
        self.bias as usize + self.residual as usize
    }

    /// Which operand is the residual, where those of the epilogue stand from `first` on.
    pub fn residual_operand(&self, first: usize) -> Option<usize> {
        self.residual.then_some(first + self.bias as usize)
    }

    /// The kernel's form, over the operands that stand from `first` on.
    pub fn kernel<'a>(&self, call: &Call<'a, '_>, first: usize) -> epilogue::Epilogue<'a> {
        self.kernel_onto(call, first, false)
    }

    /// [`Epilogue::kernel`] where the residual may lie where the result goes.
    pub fn kernel_onto<'a>(&self, call: &Call<'a, '_>, first: usize, onto: bool) -> epilogue::Epilogue<'a> {
        epilogue::Epilogue {
            bias: self.bias.then(|| call.input::<f32>(first)),
            residual: self.residual_operand(first).filter(|_| !onto).map(|i| call.input::<f32>(i)),
            onto,
            act: self.act.map_or(epilogue::Act::Linear, Act::kernel),
        }
    }

    /// Adds the epilogue as ops of its own: how types without a fused kernel run it.
    pub fn expand(&self, g: &mut Graph, mut y: Value, operands: &[Value]) -> Result<Value, ShapeError> {
        for &operand in operands {
            y = g.sum(y, operand)?;
        }
        match self.act {
            None => Ok(y),
            Some(Act::Unary(u)) => g.unary(u, y),
            Some(Act::Activation(a)) => g.add(a, &[y]),
        }
    }

    /// The epilogue in float64 over rows of `channels`, for references.
    pub fn reference(&self, y: &mut [f64], channels: usize, operands: &[Vec<f64>]) {
        for (i, y) in y.iter_mut().enumerate() {
            if self.bias {
                *y += operands[0][i % channels];
            }
            if self.residual {
                *y += operands[self.bias as usize][i];
            }
            *y = match self.act {
                None => *y,
                Some(Act::Unary(u)) => u.eval_f64(*y),
                Some(Act::Activation(a)) => a.eval_f64(*y),
            };
        }
    }

    /// Some epilogues worth testing on every producer.
    pub fn samples() -> Vec<Epilogue> {
        let act = |a| Some(Act::Activation(a));
        vec![
            Epilogue { bias: true, residual: false, act: None },
            Epilogue { bias: true, residual: false, act: Some(Act::Unary(U::Relu)) },
            Epilogue { bias: true, residual: true, act: act(Activation::Relu6) },
            Epilogue { bias: false, residual: true, act: act(Activation::Silu) },
            Epilogue { bias: false, residual: false, act: Some(Act::Unary(U::Tanh)) },
            Epilogue { bias: true, residual: false, act: act(Activation::LeakyRelu(Real::new(0.2))) },
        ]
    }
}

/// `A B` over the last two axes, leading axes broadcasting; either operand may be read transposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MatMul {
    /// Read A's last two axes exchanged.
    pub transpose_a: bool,
    /// Read B's last two axes exchanged.
    pub transpose_b: bool,
    /// What follows; its operands come after A and B.
    pub epilogue: Epilogue,
    /// B, as it is stored, lies [in panels](gemm::Packing::in_panels), which the pass of that name sees to.
    pub in_panels: bool,
}

impl MatMul {
    /// `A B`, either one transposed.
    pub fn new(transpose_a: bool, transpose_b: bool) -> MatMul {
        MatMul { transpose_a, transpose_b, ..MatMul::default() }
    }
}

/// The last two axes, in the order they are read.
fn matrix<D: Copy>(dims: &[D], transposed: bool) -> (D, D) {
    let (rows, cols) = (dims[dims.len() - 2], dims[dims.len() - 1]);
    if transposed { (cols, rows) } else { (rows, cols) }
}

impl OpDef for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let (a, b) = (x[0], x[1]);
        let fail = |message: String| ShapeError::new("matmul", message).got(&a.dims).got(&b.dims);
        if a.rank() < 2 || b.rank() < 2 {
            return Err(fail("operands need at least two axes".into()));
        }
        if a.dtype != b.dtype {
            return Err(fail(format!("operands have dtypes {} and {}", a.dtype, b.dtype)));
        }
        let ((m, ka), (kb, n)) = (matrix(&a.dims, self.transpose_a), matrix(&b.dims, self.transpose_b));
        if let (Some(p), Some(q)) = (ka, kb)
            && p != q
        {
            return Err(fail(format!(
                "inner dimensions differ: {} has {p}, {} has {q}",
                show(&a.dims),
                show(&b.dims)
            ))
            .expected("as many columns in A as rows in B"));
        }
        let lead = crate::shape::broadcast(&a.dims[..a.rank() - 2], &b.dims[..b.rank() - 2]);
        let mut dims = lead.ok_or_else(|| fail("leading axes do not broadcast".into()))?;
        dims.push(m);
        dims.push(n);
        Ok(smallvec![Type { dtype: a.dtype, dims }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (mut a, b, mut dy) = (cx.x(0), cx.x(1), cx.dy()?);
        let (ta, tb) = (self.transpose_a, self.transpose_b);
        let product = |g: &mut Graph, a, b, ta, tb| g.add(MatMul::new(ta, tb), &[a, b]);
        if cx.wanted[0] {
            let da = if ta { product(cx.g, b, dy, tb, true)? } else { product(cx.g, dy, b, false, !tb)? };
            cx.give_summed(0, da)?;
        }
        if cx.wanted[1] {
            // A stack of matrices times one matrix: the gradient of the one is a single product.
            if cx.g.ty(b).rank() == 2 && cx.g.ty(a).rank() > 2 && !ta {
                for v in [&mut a, &mut dy] {
                    let last = cx.g.ty(*v).rank() - 1;
                    *v = cx.g.add(Reshape(smallvec![Target::Infer, Target::Copy(last)]), &[*v])?;
                }
            }
            let db = if tb { product(cx.g, dy, a, true, ta)? } else { product(cx.g, a, dy, !ta, false)? };
            cx.give_summed(1, db)?;
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        let rank = outputs[0].rank();
        let of_matrices = rank > 2 && broadcast_keeps_rows(&rows[..2], &inputs[..2], outputs);
        let of_a = rank == 2 && rows[0] && !rows[1] && !self.transpose_a;
        (of_matrices || of_a) && broadcast_keeps_rows(&rows[2..], &inputs[2..], outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (sa, sb, out) = (cx.shape(0), cx.shape(1), cx.out_shape(0));
        let ((mut m, k), (_, n)) = (matrix(&sa, self.transpose_a), matrix(&sb, self.transpose_b));
        let MatMul { transpose_a: ta, transpose_b: tb, epilogue, in_panels } = *self;
        let lead = &out[..out.len() - 2];
        let mut batches: Vec<(usize, usize)> = vec![];
        let one_b = sb[..sb.len() - 2].iter().all(|&d| d == 1);
        if one_b && !ta {
            // One B for all: a single tall product.
            m = out.iter().product::<usize>() / n.max(1);
            batches.push((0, 0));
        } else {
            let (ra, rb) = (broadcast_matrices(&sa, lead), broadcast_matrices(&sb, lead));
            super::elementwise::walk2(lead, &ra, &rb, |_, a, b| batches.push((a, b)));
        }
        let flops = (2 * batches.len() * m * n * k) as u64;
        let (isa, dtype) = (cx.isa, cx.dtype(0));
        if dtype != DType::F32 {
            return matmul_generic(dtype, batches, m, n, k, ta, tb, flops);
        }
        if in_panels && tb {
            let packing = gemm::Packing::in_panels(isa, n, k);
            return Lowering::kernel("matmul", flops, move |call| {
                let a = MatRef::row_major(call.input(0), m, k);
                gemm::gemm_transposed(&packing, a, call.input(1), call.output(0));
            });
        }
        let single = batches.len() == 1;
        let plain = move |call: &mut Call<'_, '_>| {
            let (a, b) = (call.input::<f32>(0), call.input::<f32>(1));
            let fused = epilogue.kernel(call, 2);
            let y = call.output::<f32>(0);
            let operands = |i: usize| {
                let (ia, ib) = batches[i];
                let a = view(&a[ia * m * k..][..m * k], m, k, ta);
                let b = view(&b[ib * k * n..][..k * n], k, n, tb);
                let residual = fused.residual.map(|r| &r[i * m * n..][..m * n]);
                (a, b, epilogue::Epilogue { residual, ..fused })
            };
            gemm::gemm_several(isa, (m, k, n), batches.len(), operands, y);
        };
        // Packing what changes at every run would cost more than it gains.
        if !in_panels && (!single || !cx.is_static[1]) {
            return Lowering::kernel("matmul", flops, plain);
        }
        let packing =
            if in_panels { gemm::Packing::in_panels(isa, k, n) } else { gemm::Packing::new(isa, m, k, n) };
        let lowering = Lowering::kernel("matmul", flops, move |call| {
            let a = view(call.input::<f32>(0), m, k, ta);
            let b = packing.operand(call.input(1));
            let fused = epilogue.kernel(call, 2);
            gemm::gemm(isa, a, b, call.output(0), n, false, &fused);
        });
        if in_panels {
            return lowering; // packed already
        }
        // One buffer may be read as matrices of several shapes.
        let key = (k as u64) << 3 | packing.layout() << 1 | u64::from(tb);
        lowering.pack(1, packing.packed_len() * 4, key, move |call| {
            packing.pack(view(call.input(0), k, n, tb), call.output(0));
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        let mut push = |a: &[usize], b: &[usize], op: MatMul, dtype: DType| {
            let (sa, sb) = (a.to_vec(), b.to_vec());
            let mut inputs = vec![sample(dtype, a, 1), sample(dtype, b, 2)];
            let out = op.infer(&[&inputs[0].ty(), &inputs[1].ty()]).expect("the problem fits")[0].concrete();
            let n = out[out.len() - 1];
            if op.epilogue.bias {
                inputs.push(sample(dtype, &[n], 3));
            }
            if op.epilogue.residual {
                inputs.push(sample(dtype, &out, 4));
            }
            let tolerance = if dtype == DType::F64 {
                1e-12
            } else if dtype == DType::F16 {
                4e-3
            } else {
                2e-5
            };
            let smooth = op.epilogue.is_none() && dtype == DType::F32;
            let problem =
                Problem::close(format!("{op:?} {a:?} {b:?} {dtype}"), op, inputs, tolerance, move |x| {
                    let mut y = reference(&x[0], &sa, &x[1], &sb, op.transpose_a, op.transpose_b, &out);
                    op.epilogue.reference(&mut y, n, &x[2..]);
                    y
                });
            problems.push(if smooth { problem.differentiate(&[0, 1]) } else { problem });
        };
        for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
            for (m, k, n) in [(1, 3, 4), (3, 4, 1), (5, 7, 6), (1, 1, 1), (2, 0, 3), (0, 2, 3)] {
                let a = if ta { [k, m] } else { [m, k] };
                let b = if tb { [n, k] } else { [k, n] };
                push(&a, &b, MatMul::new(ta, tb), DType::F32);
            }
            push(&[2, 3, 3], &[2, 3, 3], MatMul::new(ta, tb), DType::F32);
            push(&[2, 3, 3], &[2, 3, 3], MatMul::new(ta, tb), DType::F64);
            push(&[4, 4], &[4, 4], MatMul::new(ta, tb), DType::F16);
            push(&[4, 4], &[4, 4], MatMul::new(ta, tb), DType::I32);
        }
        push(&[2, 5, 3], &[3, 4], MatMul::new(false, false), DType::F32);
        push(&[2, 1, 5, 3], &[3, 3, 4], MatMul::new(false, false), DType::F32);
        push(&[5, 3], &[4, 3, 2], MatMul::new(false, false), DType::F32);
        for epilogue in Epilogue::samples() {
            push(&[9, 17], &[17, 33], MatMul { epilogue, ..MatMul::default() }, DType::F32);
            push(&[1, 6], &[6, 5], MatMul { epilogue, ..MatMul::default() }, DType::F32);
        }
        problems
    }
}

fn view(data: &[f32], rows: usize, cols: usize, transposed: bool) -> MatRef<'_> {
    if transposed { MatRef::transposed(data, rows, cols) } else { MatRef::row_major(data, rows, cols) }
}

/// Strides over the leading axes, counted in whole matrices.
fn broadcast_matrices(shape: &[usize], lead: &[usize]) -> Shape {
    super::elementwise::broadcast_strides(&shape[..shape.len() - 2], lead)
}

/// Types without kernels of their own: float64 through its GEMM, halves through float32 sums, integers as
/// they are.
fn matmul_generic(
    dtype: DType,
    batches: Vec<(usize, usize)>,
    m: usize,
    n: usize,
    k: usize,
    ta: bool,
    tb: bool,
    flops: u64,
) -> Lowering {
    Lowering::kernel("matmul", flops, move |call| {
        for (i, &(ia, ib)) in batches.iter().enumerate() {
            with_dtype!(dtype, T => {
                let a = &call.input::<T>(0)[ia * m * k..][..m * k];
                let b = &call.input::<T>(1)[ib * k * n..][..k * n];
                let y = &mut call.output::<T>(0)[i * m * n..][..m * n];
                let at = |r: usize, c: usize| if ta { a[c * m + r] } else { a[r * k + c] };
                let bt = |r: usize, c: usize| if tb { b[c * k + r] } else { b[r * n + c] };
                let mut sums = vec![0f64; n];
                let mut counts = vec![0i64; n];
                for r in 0..m {
                    sums.fill(0.0);
                    counts.fill(0);
                    for p in 0..k {
                        if dtype.is_float() {
                            let x = at(r, p).to_f64();
                            sums.iter_mut().enumerate().for_each(|(c, s)| *s += x * bt(p, c).to_f64());
                        } else {
                            let x = at(r, p).to_i64();
                            let add = |(c, s): (usize, &mut i64)| *s = s.wrapping_add(x.wrapping_mul(bt(p, c).to_i64()));
                            counts.iter_mut().enumerate().for_each(add);
                        }
                    }
                    for c in 0..n {
                        y[r * n + c] = if dtype.is_float() { T::from_f64(sums[c]) } else { T::from_i64(counts[c]) };
                    }
                }
            });
        }
    })
}

fn reference(
    a: &[f64],
    sa: &[usize],
    b: &[f64],
    sb: &[usize],
    ta: bool,
    tb: bool,
    out: &[usize],
) -> Vec<f64> {
    let ((m, k), (_, n)) = (matrix(sa, ta), matrix(sb, tb));
    let lead = &out[..out.len() - 2];
    let mut y = vec![];
    super::elementwise::walk2(
        lead,
        &broadcast_matrices(sa, lead),
        &broadcast_matrices(sb, lead),
        |_, ia, ib| {
            for i in 0..m {
                for j in 0..n {
                    let at = |p| a[ia * m * k + if ta { p * m + i } else { i * k + p }];
                    let bt = |p| b[ib * k * n + if tb { j * k + p } else { p * n + j }];
                    y.push((0..k).map(|p| at(p) * bt(p)).sum());
                }
            }
        },
    );
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;
    use crate::plan::Traced;

    #[test]
    fn one_buffer_read_as_two_matrices_is_packed_twice() {
        let mut graph = Graph::new();
        let mut input = |shape: &[usize]| graph.input(Type::known(DType::F32, shape));
        let (a, b, w) = (input(&[1, 2]), input(&[1, 3]), input(&[2, 3]));
        let tall = graph.add(Reshape::to(&[3, 2]), &[w]).unwrap();
        let plain = MatMul::new(false, false);
        let outputs = vec![graph.add(plain, &[a, w]).unwrap(), graph.add(plain, &[b, tall]).unwrap()];
        let function = Function::new(Traced { graph, outputs, updates: vec![] });
        let ones = |n: usize| Tensor::from_slice(&[1, n], &vec![1f32; n]);
        let w = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = function.call(&[ones(2), ones(3), w]).unwrap();
        assert_eq!(y[0].to_f64(), [5.0, 7.0, 9.0]);
        assert_eq!(y[1].to_f64(), [9.0, 12.0]);
    }
}
