//! A product and the elementwise chain that uses it up, in one pass: the product never reaches memory.

use super::fused::{Fused, access, operations, reading, share, writing};
use super::matmul::MatMul;
use super::*;
use lamina_kernels::elementwise::{Access, Out};
use lamina_kernels::gemm::{MatRef, Operand, gemm_then};

/// `then(.., A B, ..)`, the product being operand `slot` of the chain. Operands: A, B, then the chain's others in
/// their order. A may be read transposed; both are matrices of float32.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The product, without an epilogue.
    pub product: MatMul,
    /// What follows.
    pub then: Fused,
    /// Which of its operands the product is.
    pub slot: usize,
    /// The results, and operands of their shape, lie [in panels](lamina_kernels::gemm::Packing::in_panels).
    pub in_panels: bool,
}

impl Chain {
    /// Where operand `i` of the chain stands among this op's; `None` for the product.
    fn place(&self, i: usize) -> Option<usize> {
        match i.cmp(&self.slot) {
            std::cmp::Ordering::Less => Some(2 + i),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(1 + i),
        }
    }

    /// The chain's operand types, the product's among them.
    fn operands<'a>(&self, x: &[&'a Type], product: &'a Type) -> SmallVec<[&'a Type; 8]> {
        (0..x.len() - 1).map(|i| self.place(i).map_or(product, |at| x[at])).collect()
    }

    /// Whether a chain may read an operand of this shape: whole, row by row, or one number.
    pub fn reads_operand(dims: &[usize], shape: &[usize]) -> bool {
        match access(shape, dims) {
            Some(Access::Full) => true,
            Some(Access::Broadcast { inner: 1, .. }) => shape.iter().product::<usize>() == 1,
            Some(Access::Broadcast { inner, .. }) => inner == dims[1],
            None => false,
        }
    }
}

impl OpDef for Chain {
    fn name(&self) -> &'static str {
        "matmul+fused"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let product = self.product.infer(&x[..2])?.remove(0);
        self.then.infer(&self.operands(x, &product))
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new("matmul+fused", "gradients are taken before fusion"))
    }

    fn in_place(&self, inputs: &[&Type], outputs: &[Type]) -> SmallVec<[(usize, usize); 2]> {
        let product = Type::known(DType::F32, &self.then.dims);
        let pairs = self.then.in_place(&self.operands(inputs, &product), outputs);
        pairs.into_iter().filter_map(|(i, o)| Some((self.place(i)?, o))).collect()
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (sa, sb) = (cx.shape(0), cx.shape(1));
        let (ta, isa, results) = (self.product.transpose_a, cx.isa, self.then.results.clone());
        let in_panels = self.in_panels;
        let (m, n) = (self.then.dims[0], self.then.dims[1]);
        let k = sb[0];
        debug_assert!(!self.product.transpose_b && sa.len() == 2 && sb.len() == 2);
        let count = cx.inputs.len() - 1;
        let shared: Vec<(usize, usize)> = (0..count)
            .filter_map(|i| {
                let pair = cx.shared.iter().find(|s| Some(s.0) == self.place(i))?;
                Some((i, pair.1))
            })
            .collect();
        let program = share(&self.then.program, &shared);
        // The program's own operands, those that share a result's memory left out.
        let own: Vec<Option<(usize, DType, Access)>> = (0..count)
            .filter(|i| !shared.iter().any(|s| s.0 == *i))
            .map(|i| {
                let at = self.place(i)?;
                let access =
                    access(&cx.shape(at), &self.then.dims).expect("the pass chose what a chain reads");
                Some((at, cx.dtype(at), access))
            })
            .collect();
        let flops = (m * n * (2 * k + operations(&self.then.program))) as u64;
        Lowering::kernel("matmul+fused", flops, move |call| {
            let inputs: SmallVec<[&[u8]; 12]> = call.inputs().into();
            let (a, b) = (call.input::<f32>(0), call.input::<f32>(1));
            let a = if ta { MatRef::transposed(a, m, k) } else { MatRef::row_major(a, m, k) };
            let operand = |own: &Option<(usize, DType, Access)>| match *own {
                None => Operand::Product,
                Some((at, dtype, access)) => Operand::Other(reading(dtype, inputs[at]), access),
            };
            let operands: SmallVec<[Operand<'_>; 8]> = own.iter().map(operand).collect();
            let outputs = call.outputs().iter_mut().zip(&results);
            let mut outs: SmallVec<[Out<'_>; 4]> = outputs.map(|(bytes, ty)| writing(*ty, bytes)).collect();
            gemm_then(isa, a, MatRef::row_major(b, k, n), &program, &operands, &mut outs, in_panels);
        })
    }

    fn problems() -> Vec<Problem> {
        use super::fused::Builder;
        use lamina_kernels::elementwise::Binary as B;
        let mut problems = vec![];
        for (ta, [m, k, n]) in
            [(false, [3, 4, 5]), (true, [70, 9, 600]), (true, [1, 1, 1]), (false, [0, 2, 3])]
        {
            // w - rate * (A B) * row, and whether w is below the product.
            let mut build = Builder::default();
            let (w, product, rate, row) = (build.load(0), build.load(1), build.load(2), build.load(3));
            let below = build.binary(B::Lt, w, product);
            let scaled = build.binary(B::Mul, product, rate);
            let scaled = build.binary(B::Mul, scaled, row);
            let new = build.binary(B::Sub, w, scaled);
            let program = build.finish(&[new, below]).expect("a small program");
            let then = Fused { program, dims: smallvec![m, n], results: smallvec![DType::F32, DType::Bool] };
            let op = Chain { product: MatMul::new(ta, false), then, slot: 1, in_panels: false };
            let a = if ta { [k, m] } else { [m, k] };
            let sample = |shape: &[usize], seed| sample(DType::F32, shape, seed);
            let inputs =
                vec![sample(&a, 1), sample(&[k, n], 2), sample(&[m, n], 3), sample(&[], 4), sample(&[n], 5)];
            problems.push(Problem::new(format!("matmul+fused {ta} {m} {k} {n}"), op, inputs, move |x, y| {
                let x: Vec<Vec<f64>> = x.iter().map(Tensor::to_f64).collect();
                let (new, below) = (y[0].to_f64(), y[1].to_f64());
                for (i, (new, below)) in new.iter().zip(below).enumerate() {
                    let (r, c) = (i / n, i % n);
                    let at = |p: usize| x[0][if ta { p * m + r } else { r * k + p }] * x[1][p * n + c];
                    let product: f64 = (0..k).map(at).sum();
                    let wanted = x[2][i] - x[3][0] * product * x[4][c];
                    assert!((new - wanted).abs() < 2e-5 * (1.0 + wanted.abs()), "{new} beside {wanted}");
                    let close = (x[2][i] - product).abs() < 1e-5;
                    assert!(close || (below == 1.0) == (x[2][i] < product));
                }
            }));
        }
        problems
    }
}
