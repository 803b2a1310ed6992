//! Circular functions and their inverses.

use super::{lanewise, poly};
use crate::simd::Simd;
use std::f32::consts::{FRAC_2_PI, FRAC_PI_2, PI};

/// Beyond this the three-part reduction would lose bits; such angles go through f64, lane by lane.
const LARGEST: f32 = 8192.0;
const FRAC_PI_2_LOW: f32 = -4.371_139e-8;
const PI_LOW: f32 = -8.742_278e-8;

/// `(sin r, cos r, n)` of `x = n pi/2 + r`, for `|x| <= LARGEST`.
#[inline(always)]
fn sin_cos<S: Simd>(s: S, x: S::V) -> (S::V, S::V, S::V) {
    // pi/2 in parts of 11 bits: their products with n (13 bits) are exact without an FMA too.
    const PARTS: [f32; 4] = [1.570_312_5, 4.837_513e-4, 7.549_533_6e-8, 2.563_344e-12];
    let n = s.round(s.mul(x, s.splat(FRAC_2_PI)));
    let r = s.fma(n, s.splat(-PARTS[0]), x);
    let r = s.fma(n, s.splat(-PARTS[1]), r);
    // The third difference is the first to round: its error joins the last part.
    let third = s.mul(n, s.splat(PARTS[2]));
    let rounded = s.sub(r, third);
    let lost = s.sub(s.sub(r, rounded), third);
    let r = s.add(rounded, s.fma(n, s.splat(-PARTS[3]), lost));
    let rr = s.mul(r, r);
    let sin_tail = poly(s, rr, [-0.166_666_55, 0.008_332_187, -1.951_789_7e-4]);
    let cos_tail = poly(s, rr, [0.041_666_646, -0.001_388_731, 2.443_232_7e-5]);
    let sin = s.fma(s.mul(r, rr), sin_tail, r);
    let half = s.mul(rr, s.splat(0.5));
    let head = s.sub(s.splat(1.0), half);
    let lost = s.sub(s.sub(s.splat(1.0), head), half);
    (sin, s.add(head, s.fma(s.mul(rr, rr), cos_tail, lost)), n)
}

/// `n mod 4` of an integral `n`, in 0..4.
#[inline(always)]
fn quadrant<S: Simd>(s: S, n: S::V) -> S::V {
    s.fma(s.floor(s.mul(n, s.splat(0.25))), s.splat(-4.0), n)
}

/// `sin(x + turns pi/2)`
#[inline(always)]
fn circular<S: Simd>(s: S, x: S::V, turns: f32, exact: impl Fn(f64) -> f64) -> S::V {
    let (sin, cos, n) = sin_cos(s, x);
    let q = quadrant(s, s.add(n, s.splat(turns)));
    let odd = s.lt(s.abs(s.sub(s.abs(s.sub(q, s.splat(2.0))), s.splat(1.0))), s.splat(0.5));
    let y = s.select(odd, cos, sin);
    let y = s.select(s.lt(q, s.splat(1.5)), y, s.neg(y));
    let y = if turns == 0.0 { s.select(s.eq(x, s.zero()), x, y) } else { y };
    let large = s.lt(s.splat(LARGEST), s.abs(x));
    if s.any(large) {
        return s.select(large, lanewise(s, x, x, |x, _| exact(f64::from(x)) as f32), y);
    }
    y
}

/// Sine. Error at most 1.6 ULP.
#[inline(always)]
pub fn sin<S: Simd>(s: S, x: S::V) -> S::V {
    circular(s, x, 0.0, f64::sin)
}

/// Cosine. Error at most 1.6 ULP.
#[inline(always)]
pub fn cos<S: Simd>(s: S, x: S::V) -> S::V {
    circular(s, x, 1.0, f64::cos)
}

/// Tangent. Error at most 3.5 ULP.
#[inline(always)]
pub fn tan<S: Simd>(s: S, x: S::V) -> S::V {
    let (sin, cos, n) = sin_cos(s, x);
    let half = s.mul(n, s.splat(0.5));
    let even = s.eq(s.floor(half), half);
    let y = s.div(s.select(even, sin, s.neg(cos)), s.select(even, cos, sin));
    let y = s.select(s.eq(x, s.zero()), x, y);
    let large = s.lt(s.splat(LARGEST), s.abs(x));
    if s.any(large) {
        return s.select(large, lanewise(s, x, x, |x, _| f64::from(x).tan() as f32), y);
    }
    y
}

/// `asin x` for `x` in 0..=0.5, given `x` and `x^2` (apart, for a square root gives both exactly).
#[inline(always)]
fn asin_half<S: Simd>(s: S, x: S::V, xx: S::V) -> S::V {
    let p =
        poly(s, xx, [0.166_666_6, 0.075_005_22, 0.044_513_714, 0.031_833_146, 0.014_348_243, 0.037_636_112]);
    s.fma(s.mul(x, xx), p, x)
}

/// `(is |x| > 1/2, asin of |x| or of sqrt((1 - |x|) / 2))`
#[inline(always)]
fn asin_parts<S: Simd>(s: S, x: S::V) -> (S::M, S::V) {
    let a = s.abs(x);
    let outer = s.lt(s.splat(0.5), a);
    let folded = s.fma(a, s.splat(-0.5), s.splat(0.5));
    let xx = s.select(outer, folded, s.mul(a, a));
    (outer, asin_half(s, s.select(outer, s.sqrt(folded), a), xx))
}

/// Inverse sine; NaN outside -1..=1. Error at most 2 ULP.
#[inline(always)]
pub fn asin<S: Simd>(s: S, x: S::V) -> S::V {
    let (outer, y) = asin_parts(s, x);
    let folded = s.add(s.sub(s.splat(FRAC_PI_2), s.add(y, y)), s.splat(FRAC_PI_2_LOW));
    s.copysign(s.select(outer, folded, y), x)
}

/// Inverse cosine; NaN outside -1..=1. Error at most 1.5 ULP.
#[inline(always)]
pub fn acos<S: Simd>(s: S, x: S::V) -> S::V {
    let (outer, y) = asin_parts(s, x);
    let twice = s.add(y, y);
    let reflected = s.add(s.sub(s.splat(PI), twice), s.splat(PI_LOW));
    let outside = s.select(s.lt(x, s.zero()), reflected, twice);
    let inside = s.add(s.sub(s.splat(FRAC_PI_2), s.copysign(y, x)), s.splat(FRAC_PI_2_LOW));
    s.select(outer, outside, inside)
}

/// `atan x` for `x` in 0..=1.
#[inline(always)]
fn atan_unit<S: Simd>(s: S, x: S::V) -> S::V {
    const P: [f32; 9] = [
        -0.333_333,
        0.199_985_3,
        -0.142_640_16,
        0.109_508_775,
        -0.083_992_794,
        0.057_880_47,
        -0.031_095_473,
        0.010_867_489,
        -0.001_782_454_4,
    ];
    let xx = s.mul(x, x);
    s.fma(s.mul(x, xx), poly(s, xx, P), x)
}

/// `pi/2 - y`
#[inline(always)]
fn complement<S: Simd>(s: S, y: S::V) -> S::V {
    s.add(s.sub(s.splat(FRAC_PI_2), y), s.splat(FRAC_PI_2_LOW))
}

/// Inverse tangent. Error at most 2 ULP.
#[inline(always)]
pub fn atan<S: Simd>(s: S, x: S::V) -> S::V {
    let (one, a) = (s.splat(1.0), s.abs(x));
    let outer = s.lt(one, a);
    let y = atan_unit(s, s.select(outer, s.div(one, a), a));
    s.copysign(s.select(outer, complement(s, y), y), x)
}

/// The angle of the point `(x, y)`, with C's `atan2` edge cases. Error at most 2.5 ULP.
#[inline(always)]
pub fn atan2<S: Simd>(s: S, y: S::V, x: S::V) -> S::V {
    let (zero, one) = (s.zero(), s.splat(1.0));
    let (ax, ay) = (s.abs(x), s.abs(y));
    let steep = s.lt(ax, ay);
    let (small, large) = (s.select(steep, ax, ay), s.select(steep, ay, ax));
    // Equal infinities have ratio 1, two zeros 0.
    let ratio = s.select(s.eq(small, large), one, s.div(small, large));
    let angle = atan_unit(s, s.select(s.eq(large, zero), zero, ratio));
    let angle = s.select(steep, complement(s, angle), angle);
    let reflected = s.add(s.sub(s.splat(PI), angle), s.splat(PI_LOW));
    let angle = s.select(s.lt(s.copysign(one, x), zero), reflected, angle);
    let angle = s.select(s.eq(x, x), angle, x);
    s.select(s.eq(y, y), s.copysign(angle, y), y)
}
