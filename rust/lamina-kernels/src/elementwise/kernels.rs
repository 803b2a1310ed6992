//! One instruction over one tile: the vector loops.
//!
//! Every function is compiled on its own for every instruction set, and not into one large interpreter:
//! a call costs a nanosecond, and compilers take much longer over one large function than many small.

use super::ops::{Binary, Unary};
use super::tile::{LANES, TILE, Value};
use crate::simd::Simd;
use crate::vmath::{self, lanewise};
use crate::{Isa, dispatch};

/// Applies `f` to `N` operands, `len` elements of them, or one vector where all are uniform.
///
/// The loop stands once in the code, for the body may be long: a last, partial vector goes through it
/// a second time by way of buffers.
///
/// # Safety
/// The operands are readable and `out` is writable for that many elements; `out` overlaps an operand
/// only where it is the same.
#[inline(always)]
unsafe fn map<S: Simd, const N: usize>(
    s: S,
    operands: [Value; N],
    out: *mut f32,
    len: usize,
    f: impl Fn([S::V; N]) -> S::V,
) {
    const { assert!(S::LANES <= LANES && TILE.is_multiple_of(S::LANES)) };
    let len = if operands.iter().all(|v| v.uniform()) { S::LANES } else { len };
    let (full, rest) = (len / S::LANES, len % S::LANES);
    let strides = operands.map(|v| if v.uniform() { 0 } else { S::LANES });
    let mut sources = operands.map(|v| v.ptr);
    let (mut to, mut count) = (out, full);
    let mut buffers = [[0.0f32; LANES]; N];
    let mut buffer = [0.0f32; LANES];
    // SAFETY: vectors below `full` lie within the operands and the output; the rest goes through
    // partial loads and stores of `rest` elements and buffers of LANES.
    unsafe {
        loop {
            for i in 0..count {
                // A loop: the closure of `array::map` may be left out of line, without the vector registers.
                let mut vectors = [s.zero(); N];
                for k in 0..N {
                    vectors[k] = s.load(sources[k].add(i * strides[k]));
                }
                s.store(to.add(i * S::LANES), f(vectors));
            }
            if rest == 0 {
                return;
            }
            if to != out {
                break;
            }
            for k in 0..N {
                let from = operands[k].ptr.add(full * strides[k]);
                s.store(buffers[k].as_mut_ptr(), s.load_partial(from, rest));
                sources[k] = buffers[k].as_ptr();
            }
            (to, count) = (buffer.as_mut_ptr(), 1);
        }
        s.store_partial(out.add(full * S::LANES), s.load(buffer.as_ptr()), rest);
    }
}

/// `out = op(a)`
///
/// # Safety
/// As for [`map`].
pub(super) unsafe fn unary(isa: Isa, op: Unary, a: Value, out: *mut f32, len: usize) {
    macro_rules! each {
        (|$s:ident, $a:ident| $body:expr) => {{
            #[inline(always)]
            fn body<S: Simd>($s: S, a: Value, out: *mut f32, len: usize) {
                // SAFETY: the contract of `unary`, the only caller.
                unsafe { map($s, [a], out, len, #[inline(always)] |[$a]| $body) }
            }
            #[inline(never)]
            fn call(isa: Isa, a: Value, out: *mut f32, len: usize) {
                dispatch!(isa, body, (a: Value, out: *mut f32, len: usize))
            }
            call(isa, a, out, len)
        }};
    }
    match op {
        Unary::Neg => each!(|s, a| s.neg(a)),
        Unary::Abs => each!(|s, a| s.abs(a)),
        Unary::Sign => each!(|s, a| {
            let negative = s.select(s.lt(a, s.zero()), s.splat(-1.0), a);
            s.select(s.lt(s.zero(), a), s.splat(1.0), negative)
        }),
        Unary::Exp => each!(|s, a| vmath::exp(s, a)),
        Unary::Expm1 => each!(|s, a| vmath::expm1(s, a)),
        Unary::Log => each!(|s, a| vmath::log(s, a)),
        Unary::Log1p => each!(|s, a| vmath::log1p(s, a)),
        Unary::Log2 => each!(|s, a| vmath::log2(s, a)),
        Unary::Log10 => each!(|s, a| vmath::log10(s, a)),
        Unary::Sqrt => each!(|s, a| s.sqrt(a)),
        Unary::Rsqrt => each!(|s, a| s.div(s.splat(1.0), s.sqrt(a))),
        Unary::Square => each!(|s, a| s.mul(a, a)),
        Unary::Reciprocal => each!(|s, a| s.div(s.splat(1.0), a)),
        Unary::Sin => each!(|s, a| vmath::sin(s, a)),
        Unary::Cos => each!(|s, a| vmath::cos(s, a)),
        Unary::Tan => each!(|s, a| vmath::tan(s, a)),
        Unary::Asin => each!(|s, a| vmath::asin(s, a)),
        Unary::Acos => each!(|s, a| vmath::acos(s, a)),
        Unary::Atan => each!(|s, a| vmath::atan(s, a)),
        Unary::Sinh => each!(|s, a| vmath::sinh(s, a)),
        Unary::Cosh => each!(|s, a| vmath::cosh(s, a)),
        Unary::Tanh => each!(|s, a| vmath::tanh(s, a)),
        Unary::Asinh => each!(|s, a| vmath::asinh(s, a)),
        Unary::Acosh => each!(|s, a| vmath::acosh(s, a)),
        Unary::Atanh => each!(|s, a| vmath::atanh(s, a)),
        Unary::Sigmoid => each!(|s, a| vmath::sigmoid(s, a)),
        Unary::Erf => each!(|s, a| vmath::erf(s, a)),
        Unary::Erfinv => each!(|s, a| vmath::erfinv(s, a)),
        Unary::Floor => each!(|s, a| s.floor(a)),
        Unary::Ceil => each!(|s, a| vmath::ceil(s, a)),
        Unary::Round => each!(|s, a| s.round(a)),
        Unary::Trunc => each!(|s, a| vmath::trunc(s, a)),
        Unary::Not => each!(|s, a| flag(s, s.eq(a, s.zero()))),
        Unary::IsNan => each!(|s, a| s.select(s.eq(a, a), s.zero(), s.splat(1.0))),
        Unary::IsInf => each!(|s, a| flag(s, s.eq(s.abs(a), s.splat(f32::INFINITY)))),
        Unary::IsFinite => each!(|s, a| flag(s, s.lt(s.abs(a), s.splat(f32::INFINITY)))),
        Unary::Relu => each!(|s, a| s.max_fast(s.zero(), a)),
    }
}

/// `out = op(a, b)`
///
/// # Safety
/// As for [`map`].
pub(super) unsafe fn binary(isa: Isa, op: Binary, a: Value, b: Value, out: *mut f32, len: usize) {
    macro_rules! each {
        (|$s:ident, $a:ident, $b:ident| $body:expr) => {{
            #[inline(always)]
            fn body<S: Simd>($s: S, a: Value, b: Value, out: *mut f32, len: usize) {
                // SAFETY: the contract of `binary`, the only caller.
                unsafe { map($s, [a, b], out, len, #[inline(always)] |[$a, $b]| $body) }
            }
            #[inline(never)]
            fn call(isa: Isa, a: Value, b: Value, out: *mut f32, len: usize) {
                dispatch!(isa, body, (a: Value, b: Value, out: *mut f32, len: usize))
            }
            call(isa, a, b, out, len)
        }};
    }
    match op {
        Binary::Add => each!(|s, a, b| s.add(a, b)),
        Binary::Sub => each!(|s, a, b| s.sub(a, b)),
        Binary::Mul => each!(|s, a, b| s.mul(a, b)),
        Binary::Div => each!(|s, a, b| s.div(a, b)),
        Binary::FloorDiv => each!(|s, a, b| lane_by_lane(s, Binary::FloorDiv, a, b)),
        Binary::Mod => each!(|s, a, b| lane_by_lane(s, Binary::Mod, a, b)),
        Binary::Pow => each!(|s, a, b| vmath::pow(s, a, b)),
        Binary::Max => each!(|s, a, b| s.max(a, b)),
        Binary::Min => each!(|s, a, b| s.min(a, b)),
        Binary::Atan2 => each!(|s, a, b| vmath::atan2(s, a, b)),
        Binary::Eq => each!(|s, a, b| flag(s, s.eq(a, b))),
        Binary::Ne => each!(|s, a, b| s.select(s.eq(a, b), s.zero(), s.splat(1.0))),
        Binary::Lt => each!(|s, a, b| flag(s, s.lt(a, b))),
        Binary::Le => each!(|s, a, b| flag(s, s.le(a, b))),
        Binary::Gt => each!(|s, a, b| flag(s, s.lt(b, a))),
        Binary::Ge => each!(|s, a, b| flag(s, s.le(b, a))),
        Binary::And => each!(|s, a, b| {
            let second = truth(s, b);
            s.select(s.eq(a, s.zero()), s.zero(), second)
        }),
        Binary::Or => each!(|s, a, b| {
            let second = truth(s, b);
            s.select(s.eq(a, s.zero()), second, s.splat(1.0))
        }),
        Binary::Xor => each!(|s, a, b| {
            let second = truth(s, b);
            s.select(s.eq(a, s.zero()), second, s.sub(s.splat(1.0), second))
        }),
    }
}

/// `out = a` where `cond` is not 0, else `b`
///
/// # Safety
/// As for [`map`].
pub(super) unsafe fn select(isa: Isa, operands: [Value; 3], out: *mut f32, len: usize) {
    #[inline(always)]
    fn body<S: Simd>(s: S, operands: [Value; 3], out: *mut f32, len: usize) {
        // SAFETY: the contract of `select`, the only caller.
        unsafe {
            map(
                s,
                operands,
                out,
                len,
                #[inline(always)]
                |[cond, a, b]| s.select(s.eq(cond, s.zero()), b, a),
            )
        }
    }
    dispatch!(isa, body, (operands: [Value; 3], out: *mut f32, len: usize))
}

/// 1 where the mask is set, else 0.
#[inline(always)]
fn flag<S: Simd>(s: S, m: S::M) -> S::V {
    s.select(m, s.splat(1.0), s.zero())
}

/// 1 where `a` is not 0, NaN too, else 0.
#[inline(always)]
fn truth<S: Simd>(s: S, a: S::V) -> S::V {
    s.select(s.eq(a, s.zero()), s.zero(), s.splat(1.0))
}

/// Exact division with remainder has no vector form: a remainder may take many steps.
#[inline(always)]
fn lane_by_lane<S: Simd>(s: S, op: Binary, a: S::V, b: S::V) -> S::V {
    lanewise(s, a, b, |a, b| op.eval_f64(f64::from(a), f64::from(b)) as f32)
}
