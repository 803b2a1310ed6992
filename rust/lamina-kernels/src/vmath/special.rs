//! The logistic function, hyperbolic functions and their inverses, the error function and its inverse.

use super::exp_log::{exp, exp_negative_plus_one, exp_scaled, expm1_small, log, log1p};
use super::poly;
use crate::simd::Simd;

/// `1 / (1 + e^-x)`. Error at most 2.5 ULP, also where the result is denormal.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let e = exp(s, s.neg(s.abs(x)));
    s.div(s.select(s.lt(x, s.zero()), e, one), s.add(one, e))
}

/// `x / (1 + e^-x)`: `x sigmoid(x)`. Error at most 3 ULP; below -87, where the result is smaller than 1.5e-36, as at -87.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    // So that the power is a normal number; a NaN passes both bounds.
    let x = s.max_fast(s.splat(-87.0), x);
    s.div(x, exp_negative_plus_one(s, s.min_fast(s.splat(87.0), x)))
}

/// Hyperbolic tangent, as `m / (m + 2)` with `m = e^2x - 1`. Error at most 2.5 ULP.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let m = expm1_small(s, s.min_fast(s.splat(20.0), s.add(a, a)));
    s.copysign(s.div(m, s.add(m, s.splat(2.0))), x)
}

/// Hyperbolic sine. Error at most 2 ULP.
#[inline(always)]
pub fn sinh<S: Simd>(s: S, x: S::V) -> S::V {
    let (a, xx) = (s.abs(x), s.mul(x, x));
    let h = exp_scaled(s, a, -1.0);
    let large = s.copysign(s.sub(h, s.div(s.splat(0.25), h)), x);
    let p = poly(s, xx, [0.166_666_67, 0.008_333_31, 1.984_289_6e-4, 2.782_213_2e-6]);
    s.select(s.lt(a, s.splat(1.0)), s.fma(s.mul(x, xx), p, x), large)
}

/// Hyperbolic cosine. Error at most 2 ULP.
#[inline(always)]
pub fn cosh<S: Simd>(s: S, x: S::V) -> S::V {
    let h = exp_scaled(s, s.abs(x), -1.0);
    s.add(h, s.div(s.splat(0.25), h))
}

/// From here on `a + sqrt(a^2 + 1)` and `a + sqrt(a^2 - 1)` are `2a`.
const HUGE: f32 = 1e9;

/// Inverse hyperbolic sine. Error at most 3 ULP.
#[inline(always)]
pub fn asinh<S: Simd>(s: S, x: S::V) -> S::V {
    let (one, a) = (s.splat(1.0), s.abs(x));
    let aa = s.mul(a, a);
    let part = s.add(a, s.div(aa, s.add(one, s.sqrt(s.add(one, aa)))));
    let huge = s.lt(s.splat(HUGE), a);
    let y = log1p(s, s.select(huge, a, part));
    let ln2 = s.select(huge, s.splat(std::f32::consts::LN_2), s.zero());
    s.copysign(s.add(y, ln2), x)
}

/// Inverse hyperbolic cosine; NaN below 1. Error at most 2.5 ULP.
#[inline(always)]
pub fn acosh<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.sub(x, s.splat(1.0));
    let part = s.add(t, s.sqrt(s.fma(t, t, s.add(t, t))));
    let huge = s.lt(s.splat(HUGE), x);
    let y = log1p(s, s.select(huge, x, part));
    let ln2 = s.select(huge, s.splat(std::f32::consts::LN_2), s.zero());
    s.select(s.lt(x, s.splat(1.0)), s.splat(f32::NAN), s.add(y, ln2))
}

/// Inverse hyperbolic tangent; NaN outside -1..=1. Error at most 3 ULP.
#[inline(always)]
pub fn atanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let y = log1p(s, s.div(s.add(a, a), s.sub(s.splat(1.0), a)));
    s.copysign(s.mul(y, s.splat(0.5)), x)
}

/// The error function. Error at most 1.5 ULP.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    const NEAR: [f32; 7] = [
        0.128_379_17,
        -0.376_126_3,
        0.112_836_26,
        -0.026_855_731,
        0.005_192_405,
        -8.049_769_7e-4,
        7.996_65e-5,
    ];
    /// `ln erfc(t)` for t in 0.92..3.95, from where on erf rounds to 1.
    const FAR: [f32; 8] = [
        1.746_875_8e-4,
        -1.129_514_9,
        -0.633_346_9,
        -0.108_280_08,
        0.025_119_424,
        -0.004_171_063,
        4.344_621_6e-4,
        -2.109_478_6e-5,
    ];
    let a = s.abs(x);
    let near = s.fma(x, poly(s, s.mul(x, x), NEAR), x);
    let t = s.min_fast(s.splat(3.95), a);
    let far = s.sub(s.splat(1.0), exp(s, poly(s, t, FAR)));
    s.select(s.lt(a, s.splat(0.92)), near, s.copysign(far, x))
}

/// The inverse of [`erf`]; infinite at -1 and 1, NaN outside. Error at most 6 ULP.
///
/// A polynomial in `w = -ln(1 - x^2)` near 0 and in `sqrt w` in the tails: M. Giles, "Approximating
/// the erfinv function", GPU Computing Gems, 2011.
#[inline(always)]
pub fn erfinv<S: Simd>(s: S, x: S::V) -> S::V {
    const CENTRE: [f32; 9] = [
        1.501_409_4,
        0.246_640_82,
        -0.004_177_617_4,
        -0.001_253_850_6,
        2.185_005e-4,
        -4.342_722_6e-6,
        -3.495_745_7e-6,
        3.380_749_3e-7,
        2.535_352_6e-8,
    ];
    const TAIL: [f32; 9] = [
        2.832_976_8,
        1.001_670_8,
        0.009_443_404,
        -0.007_579_460_3,
        0.005_700_589_6,
        -0.003_813_021_4,
        0.001_466_094_9,
        2.302_325_3e-4,
        -3.113_662e-4,
    ];
    let one = s.splat(1.0);
    let w = s.neg(log(s, s.mul(s.sub(one, x), s.add(one, x))));
    let centre = poly(s, s.sub(w, s.splat(2.5)), CENTRE);
    let tail = poly(s, s.sub(s.sqrt(w), s.splat(3.0)), TAIL);
    let y = s.mul(x, s.select(s.lt(w, s.splat(5.0)), centre, tail));
    s.select(s.eq(s.abs(x), one), s.copysign(s.splat(f32::INFINITY), x), y)
}
