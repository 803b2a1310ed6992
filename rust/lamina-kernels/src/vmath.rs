//! Vectorised elementary functions of f32, generic over [`Simd`].
//!
//! Each states its largest error in ULP over the whole float range (0.5 is a perfectly rounded
//! result); a test below sweeps that range, with infinities, NaN and denormals, on every
//! instruction set. Polynomials are minimax fits (Remez exchange, coefficients rounded from the
//! lowest degree up). Signs of zero and NaN follow C's `math.h`.

use crate::simd::Simd;

mod exp_log;
pub mod reference;
mod special;
mod trig;

pub use exp_log::{exp, expm1, log, log1p, log2, log10, pow};
pub use special::{acosh, asinh, atanh, cosh, erf, erfinv, sigmoid, silu, sinh, tanh};
pub use trig::{acos, asin, atan, atan2, cos, sin, tan};

/// Rounds toward zero. Exact.
#[inline(always)]
pub fn trunc<S: Simd>(s: S, x: S::V) -> S::V {
    s.copysign(s.floor(s.abs(x)), x)
}

/// Rounds up. Exact.
#[inline(always)]
pub fn ceil<S: Simd>(s: S, x: S::V) -> S::V {
    s.neg(s.floor(s.neg(x)))
}

/// `c[0] + c[1] x + ..`, by Horner's rule.
#[inline(always)]
fn poly<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut sum = s.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = s.fma(sum, x, s.splat(c[i]));
    }
    sum
}

/// Applies a scalar function lane by lane: for the rare operands a vector path does not cover.
#[inline(always)]
pub(crate) fn lanewise<S: Simd>(s: S, a: S::V, b: S::V, f: impl Fn(f32, f32) -> f32) -> S::V {
    const MOST: usize = 16;
    const { assert!(S::LANES <= MOST) };
    let (mut x, mut y) = ([0.0; MOST], [0.0; MOST]);
    // SAFETY: both arrays hold at least LANES elements.
    unsafe {
        s.store(x.as_mut_ptr(), a);
        s.store(y.as_mut_ptr(), b);
    }
    for (x, y) in x.iter_mut().zip(y).take(S::LANES) {
        *x = f(*x, y);
    }
    // SAFETY: as above.
    unsafe { s.load(x.as_ptr()) }
}

#[cfg(test)]
mod tests;
