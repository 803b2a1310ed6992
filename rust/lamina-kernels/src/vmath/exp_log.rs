//! Exponentials, logarithms and powers.

use super::poly;
use crate::simd::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
const LN2_HI: f32 = 355.0 / 512.0;
const LN2_LO: f32 = -2.121_944_4e-4;

/// `x = n ln 2 + r` with integral n and `|r| <= ln 2 / 2`.
#[inline(always)]
fn reduce<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    (n, s.fma(n, s.splat(-LN2_LO), s.fma(n, s.splat(-LN2_HI), x)))
}

/// `2^k e^x` without an intermediate overflow.
#[inline(always)]
pub(super) fn exp_scaled<S: Simd>(s: S, x: S::V, k: f32) -> S::V {
    // Beyond these the result is 0 or infinite; a NaN passes both bounds.
    let (n, r) = reduce(s, s.max_fast(s.splat(-105.0), s.min_fast(s.splat(90.0), x)));
    s.scale2(exp_reduced(s, r), if k == 0.0 { n } else { s.add(n, s.splat(k)) })
}

/// `1 + e^-x` for `|x| <= 87`, by steps of `2^(1 / STEPS)`: where the machine knows some, a short polynomial is left.
#[inline(always)]
pub(super) fn exp_negative_plus_one<S: Simd>(s: S, x: S::V) -> S::V {
    // Rounds to a whole number of steps, which its last bits count.
    let magic = s.splat(1.5 * (1 << 23) as f32 / S::STEPS as f32);
    let t = s.fma(x, s.splat(-LOG2_E), magic);
    let n = s.sub(t, magic);
    let r = s.fma(n, s.splat(-LN2_LO), s.mul_error(n, s.splat(-LN2_HI), x));
    let power = s.exp2_steps(t, n);
    // (e^r - 1) / r
    let q = match S::STEPS {
        16 => poly(s, r, [1.0, 0.500_016_2, 0.166_669_8]),
        8 => poly(s, r, [1.0, 0.500_064_7, 0.166_679_2]),
        _ => poly(s, r, [1.0, 0.5, 0.166_665_09, 0.041_666_582, 0.008_370_006, 0.001_392_234_7]),
    };
    s.fma(s.mul(power, r), q, s.add(s.splat(1.0), power))
}

/// `e^r` of a reduced argument.
#[inline(always)]
fn exp_reduced<S: Simd>(s: S, r: S::V) -> S::V {
    poly(s, r, [1.0, 1.0, 0.5, 0.166_665_09, 0.041_666_582, 0.008_370_006, 0.001_392_234_7])
}

/// `e^x`. Error at most 1.2 ULP.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    exp_scaled(s, x, 0.0)
}

/// `(n, e^r - 1)` of a reduced argument: the shared core of [`expm1`] and tanh.
#[inline(always)]
fn expm1_parts<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let (n, r) = reduce(s, x);
    let q = poly(s, r, [0.5, 0.166_666_34, 0.041_666_504, 0.008_341_709, 0.001_393_153_3, 1.504_238_6e-4]);
    (n, s.fma(s.mul(r, r), q, r))
}

/// `e^x - 1`, accurate near 0. Error at most 1.5 ULP.
#[inline(always)]
pub fn expm1<S: Simd>(s: S, x: S::V) -> S::V {
    let clamped = s.max_fast(s.splat(-20.0), s.min_fast(s.splat(89.0), x));
    let (n, p) = expm1_parts(s, clamped);
    // Half of 2^n (p + 1) - 1, for 2^128 is no f32. At n = 0 the result is p itself, also its tiniest bits.
    let half = s.exp2i(s.sub(n, s.splat(1.0)));
    let y = s.fma(p, half, s.sub(half, s.splat(0.5)));
    s.select(s.eq(n, s.zero()), s.select(s.eq(x, s.zero()), x, p), s.add(y, y))
}

/// `e^x - 1` for `x` in 0..=30.
#[inline(always)]
pub(super) fn expm1_small<S: Simd>(s: S, x: S::V) -> S::V {
    let (n, p) = expm1_parts(s, x);
    let power = s.exp2i(n);
    s.fma(p, power, s.sub(power, s.splat(1.0)))
}

/// Splits a positive `x` into `m` in `[sqrt(1/2), sqrt 2)` and an integral exponent.
#[inline(always)]
fn split<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let tiny = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let (m, e) = s.split_exponent(s.select(tiny, s.mul(x, s.splat(16_777_216.0)), x));
    let e = s.select(tiny, s.sub(e, s.splat(24.0)), e);
    let big = s.lt(s.splat(std::f32::consts::SQRT_2), m);
    (s.select(big, s.mul(m, s.splat(0.5)), m), s.select(big, s.add(e, s.splat(1.0)), e))
}

/// `ln(1 + f) - f` for `1 + f` in `[sqrt(1/2), sqrt 2)`.
#[inline(always)]
fn log1p_tail<S: Simd>(s: S, f: S::V) -> S::V {
    const P: [f32; 9] = [
        0.333_333_13,
        -0.250_000_24,
        0.200_020_42,
        -0.166_668_64,
        0.142_199_89,
        -0.124_274_28,
        0.119_108_26,
        -0.115_520_58,
        0.065_356_17,
    ];
    let ff = s.mul(f, f);
    s.fma(s.mul(ff, f), poly(s, f, P), s.mul(ff, s.splat(-0.5)))
}

/// Puts in the logarithm of what the polynomial cannot know: 0, negatives, infinity, NaN.
#[inline(always)]
fn log_edges<S: Simd>(s: S, x: S::V, y: S::V) -> S::V {
    let y = s.select(s.lt(x, s.splat(f32::INFINITY)), y, x); // +inf and NaN
    let y = s.select(s.lt(x, s.zero()), s.splat(f32::NAN), y);
    s.select(s.eq(x, s.zero()), s.splat(f32::NEG_INFINITY), y)
}

/// Natural logarithm. Error at most 1 ULP.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::V) -> S::V {
    let (m, e) = split(s, x);
    let f = s.sub(m, s.splat(1.0));
    let y = s.add(f, s.fma(e, s.splat(LN2_LO), log1p_tail(s, f)));
    log_edges(s, x, s.fma(e, s.splat(LN2_HI), y))
}

/// `ln(1 + x)`, accurate near 0. Error at most 1.5 ULP.
#[inline(always)]
pub fn log1p<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let u = s.add(one, x);
    let (m, e) = split(s, u);
    // What rounding 1 + x lost, relative to u; where the exponent is 0, x itself is the fraction.
    let lost = s.select(s.lt(one, x), s.sub(one, s.sub(u, x)), s.sub(x, s.sub(u, one)));
    let near = s.eq(e, s.zero());
    let f = s.select(near, x, s.sub(m, one));
    let fix = s.select(near, s.zero(), s.div(lost, u));
    let y = s.add(f, s.add(s.fma(e, s.splat(LN2_LO), log1p_tail(s, f)), fix));
    let y = log_edges(s, u, s.fma(e, s.splat(LN2_HI), y));
    s.select(s.eq(x, s.zero()), x, y)
}

/// `log_b` with `1 / ln b` given in two parts, `log_b 2` too.
#[inline(always)]
fn log_base<S: Simd>(s: S, x: S::V, inv: [f32; 2], log_2: [f32; 2]) -> S::V {
    let (m, e) = split(s, x);
    let f = s.sub(m, s.splat(1.0));
    // ln m = h + l, the sum of f and its tail with its rounding error kept.
    let tail = log1p_tail(s, f);
    let h = s.add(f, tail);
    let l = s.sub(tail, s.sub(h, f));
    let low = s.fma(h, s.splat(inv[1]), s.mul(l, s.splat(inv[0])));
    let low = s.fma(e, s.splat(log_2[1]), low);
    let p = s.mul(h, s.splat(inv[0]));
    let low = s.add(low, s.mul_error(h, s.splat(inv[0]), p));
    // e log_b 2 is exact: its first part has few bits.
    let high = s.mul(e, s.splat(log_2[0]));
    let sum = s.add(high, p);
    let low = s.add(low, s.sub(p, s.sub(sum, high)));
    log_edges(s, x, s.add(sum, low))
}

/// Base-2 logarithm. Error at most 1 ULP; exact at powers of two.
#[inline(always)]
pub fn log2<S: Simd>(s: S, x: S::V) -> S::V {
    log_base(s, x, [LOG2_E, 1.925_963e-8], [1.0, 0.0])
}

/// Base-10 logarithm. Error at most 1 ULP.
#[inline(always)]
pub fn log10<S: Simd>(s: S, x: S::V) -> S::V {
    log_base(s, x, [std::f32::consts::LOG10_E, -1.010_305e-8], [77.0 / 256.0, 2.487_456_6e-4])
}

/// `log2 x` of a positive `x` as a sum of two floats, good to about 2^-32 relative.
#[inline(always)]
fn log2_two<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    const THIRD: [f32; 2] = [0.333_333_34, -9.934_108e-9];
    const INV_LN2_TWICE: [f32; 2] = [2.885_39, 3.851_926e-8];
    let one = s.splat(1.0);
    let (m, e) = split(s, x);
    // t = (m - 1) / (m + 1), as a quotient and the quotient of its remainder; ln m = 2 atanh t.
    let (a, b) = (s.sub(m, one), s.add(m, one));
    let b_low = s.sub(m, s.sub(b, one));
    let t = s.div(a, b);
    let left = s.neg(s.fma(t, b_low, s.mul_error(t, b, a)));
    let t_low = s.div(left, b);
    // atanh t = t + t^3/3 + t^5 P(t^2), its middle term rounded with care.
    let tt = s.mul(t, t);
    let tt_low = s.mul_error(t, t, tt);
    let cube = s.mul(tt, t);
    let cube_low = s.fma(tt_low, t, s.mul_error(tt, t, cube));
    let third = s.mul(cube, s.splat(THIRD[0]));
    let low = s.fma(cube, s.splat(THIRD[1]), s.mul_error(cube, s.splat(THIRD[0]), third));
    let low = s.fma(cube_low, s.splat(THIRD[0]), low);
    let tail = poly(s, tt, [0.200_000_76, 0.142_735_45, 0.117_098_16]);
    // The slope of atanh is about 1 + t^2.
    let low = s.add(s.fma(tt, t_low, t_low), s.fma(s.mul(cube, tt), tail, low));
    let h = s.add(t, third);
    let l = s.add(s.sub(third, s.sub(h, t)), low);
    // log2 x = e + (2 / ln 2) (h + l)
    let p = s.mul(h, s.splat(INV_LN2_TWICE[0]));
    let low = s.fma(h, s.splat(INV_LN2_TWICE[1]), s.mul_error(h, s.splat(INV_LN2_TWICE[0]), p));
    let low = s.fma(l, s.splat(INV_LN2_TWICE[0]), low);
    let sum = s.add(e, p);
    (sum, s.add(s.sub(p, s.sub(sum, e)), low))
}

/// `x^y` with the edge cases of C's `pow` (`pow(x, 0) = pow(1, y) = 1`, negative bases take integral
/// exponents only). Error at most 1.5 ULP.
#[inline(always)]
pub fn pow<S: Simd>(s: S, x: S::V, y: S::V) -> S::V {
    const EXP2: [f32; 7] = [
        std::f32::consts::LN_2,
        0.240_226_5,
        0.055_504_054,
        0.009_618_084,
        0.001_333_748_8,
        1.545_379_2e-4,
        1.446_028_55e-5,
    ];
    let (zero, one) = (s.zero(), s.splat(1.0));
    let ax = s.abs(x);
    let (h, l) = log2_two(s, ax);
    // y log2 |x| = n + f; beyond 2^8 the result has left the range whatever the low part is.
    let p = s.mul(y, h);
    let low = s.fma(y, l, s.mul_error(y, h, p));
    let inside = s.lt(s.abs(p), s.splat(256.0));
    let p = s.max_fast(s.splat(-160.0), s.min_fast(s.splat(136.0), p));
    let low = s.select(inside, low, zero);
    let n = s.round(p);
    let f = s.add(s.sub(p, n), low);
    let power = s.scale2(s.fma(f, poly(s, f, EXP2), one), n);
    // Magnitudes the logarithm cannot give.
    let grows = s.lt(zero, y);
    let infinity = s.splat(f32::INFINITY);
    let power = s.select(s.eq(ax, zero), s.select(grows, zero, infinity), power);
    let power = s.select(s.eq(ax, infinity), s.select(grows, infinity, zero), power);
    let power = s.select(s.eq(ax, one), one, power);
    // Sign: of x where y is an odd integer; NaN where x < 0 and y is not integral (infinities are).
    let half = s.mul(y, s.splat(0.5));
    let integral = s.eq(s.floor(y), y);
    let odd = s.select(integral, s.select(s.eq(s.floor(half), half), zero, one), zero);
    let signed = s.select(s.eq(odd, one), s.copysign(power, x), power);
    let finite_negative = s.select(s.lt(x, zero), s.select(s.eq(ax, infinity), zero, one), zero);
    let bad = s.select(integral, zero, finite_negative);
    let out = s.select(s.eq(bad, one), s.splat(f32::NAN), signed);
    // A NaN operand, then the two cases where even NaN gives 1.
    let out = s.select(s.eq(x, x), s.select(s.eq(y, y), out, y), x);
    s.select(s.eq(y, zero), one, s.select(s.eq(x, one), one, out))
}
