//! Elementwise ops: one element in, one element out, broadcasting as numpy does.
//!
//! In float32 these never run alone: the [`fuse`](crate::passes::fuse) pass turns every chain of them, even
//! of one, into a [`Fused`](super::fused::Fused) program. What is lowered here is the other types: right, not fast.

use super::*;
use crate::dtype::{Bool8, cast_bytes};
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
        matches!(self.0, Neg | Abs | Sign | Square | Floor | Ceil | Round | Trunc | Not | IsNan | IsInf | IsFinite | Relu)
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
            return Err(ShapeError::new(self.name(), format!("needs a float operand, got {dtype}")).got(&x[0].dims));
        }
        let out = if self.gives_bool() { DType::Bool } else { dtype };
        Ok(smallvec![Type { dtype: out, dims: x[0].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let dtype = g.ty(x[0]).dtype;
        let folded = self.0.eval_f64(g.as_scalar(x[0])?);
        (matches!(dtype, DType::F32 | DType::F64) && !self.gives_bool()).then(|| g.scalar(dtype, round_to(dtype, folded)))
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        use std::f64::consts::{LN_2, LN_10, PI};
        let (x, y, dy) = (cx.x(0), cx.y(0), cx.dy()?);
        let g = &mut *cx.g;
        let dx = match self.0 {
            U::Sign | U::Floor | U::Ceil | U::Round | U::Trunc | U::Not | U::IsNan | U::IsInf | U::IsFinite => {
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
                let problem = Problem::close(format!("{} {dtype}", op.name()), Unary(op), vec![x], tolerance, move |x| {
                    x[0].iter().map(|&x| op.eval_f64(x)).collect()
                });
                let bool_out = Unary(op).gives_bool();
                problems.push(if flat || bool_out { problem } else { problem.differentiate(&[0]) });
            }
            if Unary(op).takes_integers() && op != U::Not {
                let x = sample(DType::I32, &[5], 2);
                problems.push(Problem::close(format!("{} int32", op.name()), Unary(op), vec![x], 0.0, move |x| {
                    x[0].iter().map(|&x| op.eval_f64(x)).collect()
                }));
            }
        }
        problems
    }
}

fn round_to(dtype: DType, x: f64) -> f64 {
    if dtype == DType::F32 { x as f32 as f64 } else { x }
}

/// `dy` where `op(y, bound)` holds, else zero.
fn gate(g: &mut Graph, op: B, y: Value, bound: f64, dy: Value) -> Result<Value, ShapeError> {
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

fn affine(x: &Tensor, scale: f64, shift: f64) -> Tensor {
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
            (op, Some(a), Some(b)) if !self.gives_bool(dtype) => Some(g.scalar(dtype, round_to(dtype, op.eval_f64(a, b)))),
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
        let shapes: [(&[usize], &[usize]); 6] =
            [(&[4, 5], &[4, 5]), (&[4, 5], &[5]), (&[4, 1], &[5]), (&[], &[3]), (&[2, 1, 3], &[2, 4, 1]), (&[0, 3], &[3])];
        let mut problems = vec![];
        for &op in B::ALL {
            for (case, (sa, sb)) in shapes.into_iter().enumerate() {
                for dtype in [DType::F32, DType::F64, DType::I32] {
                    let integer = dtype == DType::I32;
                    if integer && matches!(op, B::Div | B::Pow | B::Atan2) || case > 1 && dtype != DType::F32 {
                        continue;
                    }
                    let (mut a, mut b) = (sample(dtype, sa, 3), sample(dtype, sb, 4));
                    if op == B::Pow {
                        a = affine(&a, 0.4, 0.9);
                    }
                    if integer {
                        b = Tensor::from_slice(b.shape(), &b.to_f64().iter().map(|x| x.abs() + 1.0).collect::<Vec<_>>()).cast(dtype);
                    }
                    let name = format!("{} {dtype} {sa:?} {sb:?}", op.name());
                    let (va, vb) = (sa.to_vec(), sb.to_vec());
                    let tolerance = if dtype == DType::F32 { 2e-6 } else { 1e-12 };
                    let problem = Problem::close(name, Binary(op), vec![a, b], tolerance, move |x| {
                        reference_broadcast(&va, &vb, |i, j| match (integer, x[0][i] as i64, x[1][j] as i64) {
                            (true, i, j) if op == B::And => (i & j) as f64,
                            (true, i, j) if op == B::Or => (i | j) as f64,
                            (true, i, j) if op == B::Xor => (i ^ j) as f64,
                            _ => op.eval_f64(x[0][i], x[1][j]),
                        })
                    });
                    let smooth = dtype == DType::F32
                        && matches!(op, B::Add | B::Sub | B::Mul | B::Div | B::Max | B::Min | B::Pow | B::Atan2);
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
    (0..out.len())
        .map(|i| if i < lead || operand[i - lead] == 1 { 0 } else { own[i - lead] })
        .collect()
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

// --- Select

/// `where(condition, a, b)`: condition is bool, all three broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Select;

impl OpDef for Select {
    fn name(&self) -> &'static str {
        "where"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if x[0].dtype != DType::Bool || x[1].dtype != x[2].dtype {
            let message = format!("got dtypes {}, {}, {}", x[0].dtype, x[1].dtype, x[2].dtype);
            return Err(ShapeError::new("where", message).expected("a bool condition and two values of one dtype"));
        }
        let values = Type { dtype: x[1].dtype, dims: broadcast_or("where", x[1], x[2])? };
        let dims = broadcast_or("where", x[0], &values)?;
        Ok(smallvec![Type { dtype: x[1].dtype, dims }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (condition, dy) = (cx.x(0), cx.dy()?);
        let zero = cx.g.scalar(cx.g.ty(dy).dtype, 0.0);
        if cx.wanted[1] {
            let d = cx.g.add(Select, &[condition, dy, zero])?;
            cx.give_summed(1, d)?;
        }
        if cx.wanted[2] {
            let d = cx.g.add(Select, &[condition, zero, dy])?;
            cx.give_summed(2, d)?;
        }
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let dtype = cx.dtype(1);
        let shape = cx.out_shape(0);
        let sc = broadcast_strides(&cx.shape(0), &shape);
        let (sa, sb) = (broadcast_strides(&cx.shape(1), &shape), broadcast_strides(&cx.shape(2), &shape));
        Lowering::kernel("where", 0, move |call| {
            with_dtype!(dtype, T => {
                let (c, a, b) = (call.input::<Bool8>(0), call.input::<T>(1), call.input::<T>(2));
                let y = call.output::<T>(0);
                walk2(&shape, &sa, &sb, |i, ia, _| y[i] = a[ia]);
                walk2(&shape, &sc, &sb, |i, ic, ib| {
                    if c[ic].0 == 0 {
                        y[i] = b[ib];
                    }
                });
            });
        })
    }

    fn problems() -> Vec<Problem> {
        [DType::F32, DType::F64, DType::I32]
            .into_iter()
            .map(|dtype| {
                let inputs = vec![sample(DType::Bool, &[3, 4], 5), sample(dtype, &[4], 6), sample(dtype, &[3, 4], 7)];
                let problem = Problem::close(format!("where {dtype}"), Select, inputs, 0.0, |x| {
                    (0..12).map(|i| if x[0][i] != 0.0 { x[1][i % 4] } else { x[2][i] }).collect()
                });
                if dtype == DType::F32 { problem.differentiate(&[1, 2]) } else { problem }
            })
            .collect()
    }
}

// --- Cast

/// Conversion to another element type; floats to integers truncate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cast(pub DType);

impl OpDef for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: self.0, dims: x[0].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        if g.ty(x[0]).dtype == self.0 {
            return Some(x[0]);
        }
        let from = g.ty(x[0]).dtype;
        let value = g.as_scalar(x[0])?;
        let tensor = Tensor::full(from, &[], value).cast(self.0);
        (self.0 != DType::I64).then(|| g.scalar(self.0, tensor.to_f64()[0]))
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        if self.0.is_float() {
            let (x, dy) = (cx.x(0), cx.dy()?);
            let dtype = cx.g.ty(x).dtype;
            let dx = cx.g.cast(dy, dtype)?;
            cx.give(0, dx);
        }
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (from, to) = (cx.dtype(0), self.0);
        Lowering::kernel("cast", 0, move |call| {
            let x = call.input_bytes(0);
            cast_bytes(from, x, to, call.outputs()[0]);
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for from in DType::ALL {
            for to in DType::ALL {
                let x = sample(from, &[9], 8);
                problems.push(Problem::new(format!("cast {from} to {to}"), Cast(to), vec![x], move |x, y| {
                    assert_eq!(y[0].dtype(), to);
                    assert_eq!(y[0].to_f64(), x[0].cast(to).to_f64());
                }));
            }
        }
        let x = sample(DType::F32, &[5], 9);
        problems.push(Problem::close("cast float", Cast(DType::F64), vec![x], 0.0, |x| x[0].clone()).differentiate(&[0]));
        problems
    }
}

// --- Activation

/// Activations that an epilogue can apply in registers. (relu, sigmoid, tanh and exp are [`Unary`].)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x` above zero, `alpha x` below.
    LeakyRelu(Real),
    /// `min(max(x, low), high)`
    Clamp(Real, Real),
    /// `x sigmoid(x)`; Elfwing et al. 2017, also called swish.
    Silu,
    /// `x Phi(x)` with the exact normal distribution; Hendrycks & Gimpel 2016.
    Gelu,
    /// The tanh approximation of [`Activation::Gelu`].
    GeluTanh,
    /// `x` above zero, `alpha (e^x - 1)` below; Clevert et al. 2015.
    Elu(Real),
    /// Scaled ELU; Klambauer et al. 2017.
    Selu,
    /// `log(1 + e^x)`
    Softplus,
    /// `relu6(x + 3) / 6`
    HardSigmoid,
    /// `x hard_sigmoid(x)`; Howard et al. 2019.
    HardSilu,
}

/// SELU's constants (Klambauer et al. 2017).
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

impl Activation {
    /// The activation in primitive ops: its definition.
    pub fn expand(self, g: &mut Graph, x: Value) -> Result<Value, ShapeError> {
        let dtype = g.ty(x).dtype;
        let clamp = |g: &mut Graph, x, low, high| {
            let (low, high) = (g.scalar(dtype, low), g.scalar(dtype, high));
            let above = g.binary(B::Max, x, low)?;
            g.binary(B::Min, above, high)
        };
        // `x` above zero, `below` under it.
        let join = |g: &mut Graph, x, below| {
            let zero = g.scalar(dtype, 0.0);
            let positive = g.binary(B::Gt, x, zero)?;
            g.add(Select, &[positive, x, below])
        };
        match self {
            Activation::Relu6 => clamp(g, x, 0.0, 6.0),
            Activation::Clamp(low, high) => clamp(g, x, low.get(), high.get()),
            Activation::LeakyRelu(alpha) => {
                let below = g.scale(x, alpha.get())?;
                join(g, x, below)
            }
            Activation::Silu => {
                let s = g.unary(U::Sigmoid, x)?;
                g.mul(x, s)
            }
            Activation::Gelu => {
                let e = g.scale(x, std::f64::consts::FRAC_1_SQRT_2)?;
                let e = g.unary(U::Erf, e)?;
                let e = g.offset(e, 1.0)?;
                let half = g.scale(x, 0.5)?;
                g.mul(half, e)
            }
            Activation::GeluTanh => {
                let square = g.unary(U::Square, x)?;
                let cube = g.mul(square, x)?;
                let cube = g.scale(cube, 0.044715)?;
                let t = g.sum(x, cube)?;
                let t = g.scale(t, (2.0 / std::f64::consts::PI).sqrt())?;
                let t = g.unary(U::Tanh, t)?;
                let t = g.offset(t, 1.0)?;
                let half = g.scale(x, 0.5)?;
                g.mul(half, t)
            }
            Activation::Elu(alpha) => {
                let e = g.unary(U::Expm1, x)?;
                let e = g.scale(e, alpha.get())?;
                join(g, x, e)
            }
            Activation::Selu => {
                let elu = Activation::Elu(Real::new(SELU_ALPHA)).expand(g, x)?;
                g.scale(elu, SELU_SCALE)
            }
            Activation::Softplus => {
                // max(x, 0) + log1p(exp(-|x|)) does not overflow.
                let a = g.unary(U::Abs, x)?;
                let a = g.neg(a)?;
                let a = g.unary(U::Exp, a)?;
                let a = g.unary(U::Log1p, a)?;
                let r = g.unary(U::Relu, x)?;
                g.sum(r, a)
            }
            Activation::HardSigmoid => {
                let s = g.scale(x, 1.0 / 6.0)?;
                let s = g.offset(s, 0.5)?;
                clamp(g, s, 0.0, 1.0)
            }
            Activation::HardSilu => {
                let s = Activation::HardSigmoid.expand(g, x)?;
                g.mul(x, s)
            }
        }
    }

    /// The definition in float64, for references.
    pub(crate) fn eval_f64(self, x: f64) -> f64 {
        match self {
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::LeakyRelu(a) => if x > 0.0 { x } else { a.get() * x },
            Activation::Clamp(low, high) => x.max(low.get()).min(high.get()),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + U::Erf.eval_f64(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Elu(a) => if x > 0.0 { x } else { a.get() * x.exp_m1() },
            Activation::Selu => SELU_SCALE * if x > 0.0 { x } else { SELU_ALPHA * x.exp_m1() },
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::HardSilu => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

impl OpDef for Activation {
    fn name(&self) -> &'static str {
        match self {
            Activation::Relu6 => "relu6",
            Activation::LeakyRelu(_) => "leaky_relu",
            Activation::Clamp(..) => "clip",
            Activation::Silu => "silu",
            Activation::Gelu | Activation::GeluTanh => "gelu",
            Activation::Elu(_) => "elu",
            Activation::Selu => "selu",
            Activation::Softplus => "softplus",
            Activation::HardSigmoid => "hard_sigmoid",
            Activation::HardSilu => "hard_silu",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if !x[0].dtype.is_float() {
            return Err(ShapeError::new(self.name(), format!("needs a float operand, got {}", x[0].dtype)));
        }
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, y, dy) = (cx.x(0), cx.y(0), cx.dy()?);
        let g = &mut *cx.g;
        // Where the slope can be read off the result, the operand need not be kept.
        let dx = match *self {
            Activation::Relu6 => between(g, y, 0.0, 6.0, dy)?,
            Activation::Clamp(low, high) => between(g, y, low.get(), high.get(), dy)?,
            Activation::HardSigmoid => {
                let d = between(g, y, 0.0, 1.0, dy)?;
                g.scale(d, 1.0 / 6.0)?
            }
            Activation::LeakyRelu(alpha) if alpha.get() > 0.0 => {
                let below = g.scale(dy, alpha.get())?;
                where_positive(g, y, dy, below)?
            }
            Activation::Elu(alpha) if alpha.get() > 0.0 => {
                let slope = g.offset(y, alpha.get())?;
                let below = g.mul(dy, slope)?;
                where_positive(g, y, dy, below)?
            }
            Activation::Selu => {
                let slope = g.offset(y, SELU_SCALE * SELU_ALPHA)?;
                let below = g.mul(dy, slope)?;
                let above = g.scale(dy, SELU_SCALE)?;
                where_positive(g, y, above, below)?
            }
            Activation::Softplus => {
                let s = g.unary(U::Sigmoid, x)?;
                g.mul(dy, s)?
            }
            _ => {
                let expanded = self.expand(g, x)?;
                let d = crate::autodiff::gradients(g, expanded, &[x], Some(dy))?[0];
                d.expect("an activation depends on its operand")
            }
        };
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("the fuse pass expands activations before lowering")
    }

    fn problems() -> Vec<Problem> {
        let alpha = Real::new(0.3);
        let all = [
            Activation::Relu6,
            Activation::LeakyRelu(alpha),
            Activation::LeakyRelu(Real::new(-0.5)),
            Activation::Clamp(Real::new(-0.5), Real::new(0.7)),
            Activation::Silu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Elu(alpha),
            Activation::Elu(Real::new(-1.0)),
            Activation::Selu,
            Activation::Softplus,
            Activation::HardSigmoid,
            Activation::HardSilu,
        ];
        let mut problems = vec![];
        for act in all {
            for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
                let x = affine(&sample(dtype, &[4, 9], 10), 6.5, 0.0);
                let problem = Problem::close(format!("{act:?} {dtype}"), act, vec![x], tolerance, move |x| {
                    x[0].iter().map(|&x| act.eval_f64(x)).collect()
                });
                problems.push(problem.differentiate(&[0]));
            }
        }
        problems
    }
}

fn between(g: &mut Graph, y: Value, low: f64, high: f64, dy: Value) -> Result<Value, ShapeError> {
    let above = gate(g, B::Gt, y, low, dy)?;
    gate(g, B::Lt, y, high, above)
}

fn where_positive(g: &mut Graph, y: Value, above: Value, below: Value) -> Result<Value, ShapeError> {
    let zero = g.scalar(g.ty(y).dtype, 0.0);
    let positive = g.binary(B::Gt, y, zero)?;
    g.add(Select, &[positive, above, below])
}
