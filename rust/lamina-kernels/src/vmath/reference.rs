//! f64 functions that the standard library lacks: for the float64 path and as references in tests.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// The error function, to about 1e-15 relative: Kummer's series near 0, else [`erfc`].
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a == 0.0 {
        x
    } else if a < 3.0 {
        // 2/sqrt(pi) e^-x^2 sum_n 2^n x^(2n+1) / (2n+1)!!, all terms of one sign.
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > sum.abs() * 1e-17 {
            n += 2.0;
            term *= 2.0 * x * x / n;
            sum += term;
        }
        FRAC_2_SQRT_PI * (-x * x).exp() * sum
    } else {
        (1.0 - erfc(a)).copysign(x)
    }
}

/// `1 - erf(x)`, with full relative accuracy from 3 on (a continued fraction).
pub fn erfc(x: f64) -> f64 {
    if x < 3.0 || x.is_nan() {
        return 1.0 - erf(x);
    }
    let fraction = (1..=60).rev().fold(x, |below, n| x + f64::from(n) * 0.5 / below);
    (-x * x).exp() / (fraction * PI.sqrt())
}

/// The inverse of [`erf`]: infinite at -1 and 1, NaN outside.
pub fn erfinv(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a == 0.0 || a >= 1.0 {
        return if a == 1.0 {
            f64::INFINITY.copysign(x)
        } else if a == 0.0 {
            x
        } else {
            f64::NAN
        };
    }
    // Winitzki's estimate is good to 2e-3; each Halley step triples the digits.
    let w = -(-a * a).ln_1p();
    let k = 2.0 / (PI * 0.147) - w / 2.0;
    let mut y = ((k * k + w / 0.147).sqrt() - k).sqrt();
    for _ in 0..4 {
        // Residual over slope; near 1 through erfc, which does not cancel.
        let residual = if a < 0.5 { erf(y) - a } else { (1.0 - a) - erfc(y) };
        let step = residual / (FRAC_2_SQRT_PI * (-y * y).exp());
        y -= step / (1.0 + y * step);
    }
    y.copysign(x)
}
