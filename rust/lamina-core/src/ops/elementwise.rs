//! Elementwise ops: one element in, one element out, broadcasting as numpy does.
//!
//! In float32 these never run alone: the [`fuse`](crate::passes::fuse) pass turns every chain of them, even
//! of one, into a [`Fused`](super::fused::Fused) program. What is lowered here is the other types: right, not fast.

use super::select::Select;
use super::*;
use crate::dtype::Bool8;
use crate::shape::strides;
use lamina_kernels::elementwise::{Binary as B, Unary as U};
use std::sync::LazyLock;

/// The names of the kernels' functions: `Floor` is `floor`, `IsNan` is `isnan`.
pub trait Named: Copy {
    /// As numpy and Python's operator module spell it.
    fn name(self) -> &'static str;
}

fn lower<T: Debug>(all: &[T]) -> Vec<String> {
    all.iter().map(|op| format!("{op:?}").to_lowercase()).collect()
}

impl Named for U {
    fn name(self) -> &'static str {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| lower(U::ALL));
        &NAMES[self as usize]
    }
}

impl Named for B {
    fn name(self) -> &'static str {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| lower(B::ALL));
        &NAMES[self as usize]
    }
}

// --- Unary

/// A function of one operand; see [`lamina_kernels::elementwise::Unary`] for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unary(pub U);

impl Unary {
    /// Integers and bool have this function too; the others are for floats.
    fn takes_integers(self) -> bool {
        use U::*;
        matches!(
            self.0,
            Neg | Abs | Sign | Square | Floor | Ceil | Round | Trunc | Not | IsNan | IsInf | IsFinite | Relu
        )
    }

    fn gives_bool(self) -> bool {
        matches!(self.0, U::Not | U::IsNan | U::IsInf | U::IsFinite)
    }
}

impl OpDef for Unary {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let dtype = x[0].dtype;
        if !dtype.is_float() && !self.takes_integers() {
            return Err(
                ShapeError::new(self.name(), format!("needs a float operand, got {dtype}")).got(&x[0].dims)
            );
        }
        let out = if self.gives_bool() { DType::Bool } else { dtype };
        Ok(smallvec![Type { dtype: out, dims: x[0].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let dtype = g.ty(x[0]).dtype;
        let folded = self.0.eval_f64(g.as_scalar(x[0])?);
        (matches!(dtype, DType::F32 | DType::F64) && !self.gives_bool())
            .then(|| g.scalar(dtype, round_to(dtype, folded)))
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        use std::f64::consts::{LN_2, LN_10, PI};
        let (x, y, dy) = (cx.x(0), cx.y(0), cx.dy()?);
        let g = &mut *cx.g;
        let dx = match self.0 {
            U::Sign
            | U::Floor
            | U::Ceil
            | U::Round
            | U::Trunc
            | U::Not
            | U::IsNan
            | U::IsInf
            | U::IsFinite => {
                return Ok(());
            }
            U::Neg => g.neg(dy)?,
            U::Abs => {
                let sign = g.unary(U::Sign, x)?;
                g.mul(dy, sign)?
            }
            U::Exp => g.mul(dy, y)?,
            U::Expm1 => {
                let e = g.offset(y, 1.0)?;
                g.mul(dy, e)?
            }
            U::Log => g.div(dy, x)?,
            U::Log1p => {
                let d = g.offset(x, 1.0)?;
                g.div(dy, d)?
            }
            U::Log2 | U::Log10 => {
                let d = g.scale(x, if self.0 == U::Log2 { LN_2 } else { LN_10 })?;
                g.div(dy, d)?
            }
            U::Sqrt => {
                let half = g.scale(dy, 0.5)?;
                g.div(half, y)?
            }
            U::Rsqrt => {
                let d = g.div(y, x)?;
                let d = g.scale(d, -0.5)?;
                g.mul(dy, d)?
            }
            U::Square => {
                let d = g.scale(x, 2.0)?;
                g.mul(dy, d)?
            }
            U::Reciprocal => {
                let d = g.unary(U::Square, y)?;
                let d = g.mul(dy, d)?;
                g.neg(d)?
            }
            U::Sin => {
                let d = g.unary(U::Cos, x)?;
                g.mul(dy, d)?
            }
            U::Cos => {
                let d = g.unary(U::Sin, x)?;
                let d = g.mul(dy, d)?;
                g.neg(d)?
            }
            U::Tan => {
                let d = g.unary(U::Square, y)?;
                let d = g.offset(d, 1.0)?;
                g.mul(dy, d)?
            }
            U::Asin | U::Acos => {
                let d = g.unary(U::Square, x)?;
                let d = g.neg(d)?;
                let d = g.offset(d, 1.0)?;
                let d = g.unary(U::Rsqrt, d)?;
                let d = g.mul(dy, d)?;
                if self.0 == U::Acos { g.neg(d)? } else { d }
            }
            U::Atan => {
                let d = g.unary(U::Square, x)?;
                let d = g.offset(d, 1.0)?;
                g.div(dy, d)?
            }
            U::Sinh => {
                let d = g.unary(U::Cosh, x)?;
                g.mul(dy, d)?
            }
            U::Cosh => {
                let d = g.unary(U::Sinh, x)?;
                g.mul(dy, d)?
            }
            U::Tanh => {
                let d = g.unary(U::Square, y)?;
                let d = g.mul(dy, d)?;
                g.sub(dy, d)?
            }
            U::Asinh | U::Acosh => {
                let d = g.unary(U::Square, x)?;
                let d = g.offset(d, if self.0 == U::Asinh { 1.0 } else { -1.0 })?;
                let d = g.unary(U::Rsqrt, d)?;
                g.mul(dy, d)?
            }
            U::Atanh => {
                let d = g.unary(U::Square, x)?;
                let d = g.neg(d)?;
                let d = g.offset(d, 1.0)?;
                g.div(dy, d)?
            }
            U::Sigmoid => {
                let square = g.unary(U::Square, y)?;
                let d = g.sub(y, square)?;
                g.mul(dy, d)?
            }
            U::Erf => {
                let d = g.unary(U::Square, x)?;
                let d = g.neg(d)?;
                let d = g.unary(U::Exp, d)?;
                let d = g.scale(d, 2.0 / PI.sqrt())?;
                g.mul(dy, d)?
            }
            U::Erfinv => {
                let d = g.unary(U::Square, y)?;
                let d = g.unary(U::Exp, d)?;
                let d = g.scale(d, PI.sqrt() / 2.0)?;
                g.mul(dy, d)?
            }
            // From the result, so that the operand need not be kept.
            U::Relu => gate(g, B::Gt, y, 0.0, dy)?,
        };
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        broadcast_keeps_rows(rows, inputs, outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (op, dtype, out) = (self.0, cx.dtype(0), cx.outputs[0].dtype);
        Lowering::kernel(self.name(), cx.outputs[0].len() as u64, move |call| {
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                if out == DType::Bool && dtype != DType::Bool {
                    unary_all::<T, Bool8>(op, x, call.output(0));
                } else {
                    unary_all::<T, T>(op, x, call.output(0));
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for &op in U::ALL {
            // Keep each function inside its domain and away from its kinks.
            let (scale, shift) = match op {
                U::Log | U::Log2 | U::Log10 | U::Sqrt | U::Rsqrt | U::Log1p => (0.4, 0.9),
                U::Asin | U::Acos | U::Atanh | U::Erfinv => (0.8, 0.0),
                U::Acosh => (0.4, 2.0),
                _ => (2.0, 0.0),
            };
            let flat = matches!(op, U::Sign | U::Floor | U::Ceil | U::Round | U::Trunc);
            for dtype in [DType::F32, DType::F64] {
                let x = affine(&sample(dtype, &[3, 7], 1), scale, shift);
                let tolerance = if dtype == DType::F32 { 3e-6 } else { 1e-12 };
                let problem = Problem::close(
                    format!("{} {dtype}", op.name()),
                    Unary(op),
                    vec![x],
                    tolerance,
                    move |x| x[0].iter().map(|&x| op.eval_f64(x)).collect(),
                );
                let bool_out = Unary(op).gives_bool();
                problems.push(if flat || bool_out { problem } else { problem.differentiate(&[0]) });
            }
            if Unary(op).takes_integers() && op != U::Not {
                let x = sample(DType::I32, &[5], 2);
                problems.push(Problem::close(
                    format!("{} int32", op.name()),
                    Unary(op),
                    vec![x],
                    0.0,
                    move |x| x[0].iter().map(|&x| op.eval_f64(x)).collect(),
                ));
            }
        }
        problems
    }
}

fn round_to(dtype: DType, x: f64) -> f64 {
    if dtype == DType::F32 { x as f32 as f64 } else { x }
}

/// `dy` where `op(y, bound)` holds, else zero.
pub(super) fn gate(g: &mut Graph, op: B, y: Value, bound: f64, dy: Value) -> Result<Value, ShapeError> {
    let bound = g.scalar(g.ty(y).dtype, bound);
    let open = g.binary(op, y, bound)?;
    let zero = g.scalar(g.ty(dy).dtype, 0.0);
    g.add(Select, &[open, dy, zero])
}

fn unary_all<T: Element, O: Element>(op: U, x: &[T], y: &mut [O]) {
    if T::DTYPE.is_float() {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = O::from_f64(op.eval_f64(x.to_f64())));
    } else {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = O::from_i64(unary_i64(op, x.to_i64())));
    }
}

fn unary_i64(op: U, x: i64) -> i64 {
    match op {
        U::Neg => x.wrapping_neg(),
        U::Abs => x.wrapping_abs(),
        U::Sign => x.signum(),
        U::Square => x.wrapping_mul(x),
        U::Not => (x == 0) as i64,
        U::IsNan | U::IsInf => 0,
        U::IsFinite => 1,
        U::Relu => x.max(0),
        _ => x,
    }
}

/// `x * scale + shift`, for problems.
pub(super) fn affine(x: &Tensor, scale: f64, shift: f64) -> Tensor {
    let data: Vec<f64> = x.to_f64().iter().map(|x| x * scale + shift).collect();
    Tensor::from_slice(x.shape(), &data).cast(x.dtype())
}

// --- Binary

/// A function of two operands of one dtype; see [`lamina_kernels::elementwise::Binary`] for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binary(pub B);

impl Binary {
    /// Comparisons do, and `and`, `or`, `xor` unless they work on the bits of integers.
    fn gives_bool(self, operands: DType) -> bool {
        use B::*;
        match self.0 {
            Eq | Ne | Lt | Le | Gt | Ge => true,
            And | Or | Xor => operands.is_float() || operands == DType::Bool,
            _ => false,
        }
    }
}

impl OpDef for Binary {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if x[0].dtype != x[1].dtype {
            let message = format!("operands have dtypes {} and {}", x[0].dtype, x[1].dtype);
            return Err(ShapeError::new(self.name(), message).expected("one dtype"));
        }
        let dims = broadcast_or(self.name(), x[0], x[1])?;
        let dtype = if self.gives_bool(x[0].dtype) { DType::Bool } else { x[0].dtype };
        Ok(smallvec![Type { dtype, dims }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let (a, b) = (g.as_scalar(x[0]), g.as_scalar(x[1]));
        let dtype = g.ty(x[0]).dtype;
        if dtype != g.ty(x[1]).dtype || !matches!(dtype, DType::F32 | DType::F64) {
            return None;
        }
        match (self.0, a, b) {
            (op, Some(a), Some(b)) if !self.gives_bool(dtype) => {
                Some(g.scalar(dtype, round_to(dtype, op.eval_f64(a, b))))
            }
            (B::Mul | B::Div, _, Some(1.0)) => Some(x[0]),
            (B::Mul, Some(1.0), _) => Some(x[1]),
            (B::Sub, _, Some(0.0)) => Some(x[0]),
            // x + -0.0 is x for every x; x + 0.0 turns -0.0 into 0.0, which no caller can want.
            (B::Add, _, Some(0.0)) => Some(x[0]),
            (B::Add, Some(0.0), _) => Some(x[1]),
            _ => None,
        }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (a, b, y) = (cx.x(0), cx.x(1), cx.y(0));
        let (want_a, want_b) = (cx.wanted[0], cx.wanted[1]);
        if self.gives_bool(cx.g.ty(a).dtype) || matches!(self.0, B::FloorDiv | B::And | B::Or | B::Xor) {
            return Ok(());
        }
        let dy = cx.dy()?;
        let g = &mut *cx.g;
        let (mut da, mut db) = (None, None);
        match self.0 {
            B::Add => (da, db) = (Some(dy), Some(dy)),
            B::Sub => {
                da = Some(dy);
                if want_b {
                    db = Some(g.neg(dy)?);
                }
            }
            B::Mul => {
                if want_a {
                    da = Some(g.mul(dy, b)?);
                }
                if want_b {
                    db = Some(g.mul(dy, a)?);
                }
            }
            B::Div => {
                let q = g.div(dy, b)?;
                da = Some(q);
                if want_b {
                    let d = g.mul(q, y)?;
                    db = Some(g.neg(d)?);
                }
            }
            B::Max | B::Min => {
                // Ties share the gradient, as in JAX.
                let half = g.scalar(g.ty(dy).dtype, 0.5);
                let tie = g.binary(B::Eq, a, b)?;
                let shared = g.mul(dy, half)?;
                for (wanted, operand, slot) in [(want_a, a, &mut da), (want_b, b, &mut db)] {
                    if wanted {
                        let zero = g.scalar(g.ty(dy).dtype, 0.0);
                        let wins = g.binary(B::Eq, operand, y)?;
                        let d = g.add(Select, &[wins, dy, zero])?;
                        *slot = Some(g.add(Select, &[tie, shared, d])?);
                    }
                }
            }
            B::Pow => {
                if want_a {
                    let less = g.offset(b, -1.0)?;
                    let d = g.binary(B::Pow, a, less)?;
                    let d = g.mul(b, d)?;
                    // b = 0 makes y constant, even where a is 0 and a^-1 infinite.
                    let zero = g.scalar(g.ty(b).dtype, 0.0);
                    let constant = g.binary(B::Eq, b, zero)?;
                    let d = g.add(Select, &[constant, zero, d])?;
                    da = Some(g.mul(dy, d)?);
                }
                if want_b {
                    let zero = g.scalar(g.ty(a).dtype, 0.0);
                    let one = g.scalar(g.ty(a).dtype, 1.0);
                    let at_zero = g.binary(B::Eq, a, zero)?;
                    let safe = g.add(Select, &[at_zero, one, a])?;
                    let log = g.unary(U::Log, safe)?;
                    let d = g.mul(y, log)?;
                    db = Some(g.mul(dy, d)?);
                }
            }
            B::Mod => {
                da = Some(dy);
                if want_b {
                    let q = g.binary(B::FloorDiv, a, b)?;
                    let d = g.mul(dy, q)?;
                    db = Some(g.neg(d)?);
                }
            }
            B::Atan2 => {
                let (aa, bb) = (g.unary(U::Square, a)?, g.unary(U::Square, b)?);
                let norm = g.sum(aa, bb)?;
                let scaled = g.div(dy, norm)?;
                da = Some(g.mul(scaled, b)?);
                let d = g.mul(scaled, a)?;
                db = Some(g.neg(d)?);
            }
            _ => unreachable!("handled above"),
        }
        for (i, d) in [da, db].into_iter().enumerate() {
            if let (true, Some(d)) = (cx.wanted[i], d) {
                cx.give_summed(i, d)?;
            }
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        broadcast_keeps_rows(rows, inputs, outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (op, dtype, out) = (self.0, cx.dtype(0), cx.outputs[0].dtype);
        let shape = cx.out_shape(0);
        let (sa, sb) = (broadcast_strides(&cx.shape(0), &shape), broadcast_strides(&cx.shape(1), &shape));
        Lowering::kernel(self.name(), cx.outputs[0].len() as u64, move |call| {
            with_dtype!(dtype, T => {
                let (a, b) = (call.input::<T>(0), call.input::<T>(1));
                let strides = [&shape[..], &sa[..], &sb[..]];
                if out == DType::Bool && dtype != DType::Bool {
                    binary_all::<T, Bool8>(op, a, b, strides, call.output(0));
                } else {
                    binary_all::<T, T>(op, a, b, strides, call.output(0));
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let shapes: [(&[usize], &[usize]); 6] = [
            (&[4, 5], &[4, 5]),
            (&[4, 5], &[5]),
            (&[4, 1], &[5]),
            (&[], &[3]),
            (&[2, 1, 3], &[2, 4, 1]),
            (&[0, 3], &[3]),
        ];
        let mut problems = vec![];
        for &op in B::ALL {
            for (case, (sa, sb)) in shapes.into_iter().enumerate() {
                for dtype in [DType::F32, DType::F64, DType::I32] {
                    let integer = dtype == DType::I32;
                    if integer && matches!(op, B::Div | B::Pow | B::Atan2) || case > 1 && dtype != DType::F32
                    {
                        continue;
                    }
                    let (mut a, mut b) = (sample(dtype, sa, 3), sample(dtype, sb, 4));
                    if op == B::Pow {
                        a = affine(&a, 0.4, 0.9);
                    }
                    if integer {
                        b = Tensor::from_slice(
                            b.shape(),
                            &b.to_f64().iter().map(|x| x.abs() + 1.0).collect::<Vec<_>>(),
                        )
                        .cast(dtype);
                    }
                    let name = format!("{} {dtype} {sa:?} {sb:?}", op.name());
                    let (va, vb) = (sa.to_vec(), sb.to_vec());
                    let tolerance = if dtype == DType::F32 { 2e-6 } else { 1e-12 };
                    let problem = Problem::close(name, Binary(op), vec![a, b], tolerance, move |x| {
                        reference_broadcast(&va, &vb, |i, j| {
                            match (integer, x[0][i] as i64, x[1][j] as i64) {
                                (true, i, j) if op == B::And => (i & j) as f64,
                                (true, i, j) if op == B::Or => (i | j) as f64,
                                (true, i, j) if op == B::Xor => (i ^ j) as f64,
                                _ => op.eval_f64(x[0][i], x[1][j]),
                            }
                        })
                    });
                    let smooth = dtype == DType::F32
                        && matches!(
                            op,
                            B::Add | B::Sub | B::Mul | B::Div | B::Max | B::Min | B::Pow | B::Atan2
                        );
                    problems.push(if smooth { problem.differentiate(&[0, 1]) } else { problem });
                }
            }
        }
        problems
    }
}

fn binary_all<T: Element, O: Element>(op: B, a: &[T], b: &[T], [shape, sa, sb]: [&[usize]; 3], y: &mut [O]) {
    if T::DTYPE.is_float() {
        walk2(shape, sa, sb, |i, ia, ib| y[i] = O::from_f64(op.eval_f64(a[ia].to_f64(), b[ib].to_f64())));
    } else {
        walk2(shape, sa, sb, |i, ia, ib| y[i] = O::from_i64(binary_i64(op, a[ia].to_i64(), b[ib].to_i64())));
    }
}

/// The function on integers, wrapping.
pub fn binary_i64(op: B, a: i64, b: i64) -> i64 {
    match op {
        B::Add => a.wrapping_add(b),
        B::Sub => a.wrapping_sub(b),
        B::Mul => a.wrapping_mul(b),
        // Division by zero gives zero, as numpy's integers do (which also warn).
        B::Div | B::FloorDiv if b == 0 => 0,
        B::Div | B::FloorDiv => {
            let q = a.wrapping_div(b);
            if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { q - 1 } else { q }
        }
        B::Mod if b == 0 => 0,
        B::Mod => {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        B::Pow => {
            if b >= 0 {
                a.wrapping_pow(b.min(u32::MAX as i64) as u32)
            } else {
                // 1 / a^|b| truncated.
                match a {
                    1 => 1,
                    -1 => 1 - 2 * (b & 1),
                    _ => 0,
                }
            }
        }
        B::Max => a.max(b),
        B::Min => a.min(b),
        B::Atan2 => (a as f64).atan2(b as f64) as i64,
        B::Eq => (a == b) as i64,
        B::Ne => (a != b) as i64,
        B::Lt => (a < b) as i64,
        B::Le => (a <= b) as i64,
        B::Gt => (a > b) as i64,
        B::Ge => (a >= b) as i64,
        B::And => a & b,
        B::Or => a | b,
        B::Xor => a ^ b,
    }
}

/// Strides of an operand as seen from the broadcast shape: 0 along repeated axes.
pub fn broadcast_strides(operand: &[usize], out: &[usize]) -> Shape {
    let own = strides(operand);
    let lead = out.len() - operand.len();
    (0..out.len()).map(|i| if i < lead || operand[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
}

/// Visits every index of `shape` in order with two operands' offsets.
pub fn walk2(shape: &[usize], sa: &[usize], sb: &[usize], mut visit: impl FnMut(usize, usize, usize)) {
    let n: usize = shape.iter().product();
    let mut index: Shape = shape.iter().map(|_| 0).collect();
    let (mut a, mut b) = (0, 0);
    for i in 0..n {
        visit(i, a, b);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            a += sa[axis];
            b += sb[axis];
            if index[axis] < shape[axis] {
                break;
            }
            a -= sa[axis] * shape[axis];
            b -= sb[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

fn reference_broadcast(a: &[usize], b: &[usize], f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let dims = crate::shape::broadcast(&Type::known(DType::F64, a).dims, &Type::known(DType::F64, b).dims);
    let shape: Shape = dims.expect("the problem broadcasts").into_iter().map(|d| d.expect("known")).collect();
    let mut out = vec![];
    walk2(&shape, &broadcast_strides(a, &shape), &broadcast_strides(b, &shape), |_, i, j| out.push(f(i, j)));
    out
}
