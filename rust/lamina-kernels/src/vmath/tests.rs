use super::*;
use crate::{Isa, dispatch};

/// Applies a generic function to a slice on one instruction set.
macro_rules! unary {
    ($name:ident) => {
        (stringify!($name), {
            #[inline(always)]
            fn body<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
                for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
                    // SAFETY: both chunks have the same length, full or shorter.
                    unsafe {
                        if x.len() == S::LANES {
                            s.store(y.as_mut_ptr(), $name(s, s.load(x.as_ptr())));
                        } else {
                            let v = s.load_partial(x.as_ptr(), x.len());
                            s.store_partial(y.as_mut_ptr(), $name(s, v), x.len());
                        }
                    }
                }
            }
            fn run(isa: Isa, x: &[f32], y: &mut [f32]) {
                dispatch!(isa, body, (x: &[f32], y: &mut [f32]))
            }
            run as fn(Isa, &[f32], &mut [f32])
        })
    };
}

macro_rules! binary {
    ($name:ident) => {{
        #[inline(always)]
        fn body<S: Simd>(s: S, a: &[f32], b: &[f32], y: &mut [f32]) {
            let n = S::LANES;
            for ((a, b), y) in a.chunks_exact(n).zip(b.chunks_exact(n)).zip(y.chunks_exact_mut(n)) {
                // SAFETY: the chunks hold LANES elements each.
                unsafe { s.store(y.as_mut_ptr(), $name(s, s.load(a.as_ptr()), s.load(b.as_ptr()))) }
            }
        }
        fn run(isa: Isa, a: &[f32], b: &[f32], y: &mut [f32]) {
            dispatch!(isa, body, (a: &[f32], b: &[f32], y: &mut [f32]))
        }
        run
    }};
}

/// Every `step`-th float of both signs, and the places where functions like to break.
fn sweep(step: usize) -> Vec<f32> {
    let mut all: Vec<f32> = (0..=u32::MAX).step_by(step).map(f32::from_bits).collect();
    for x in [0.0, 1e-45, 1e-40, f32::MIN_POSITIVE, 0.5, 1.0, 2.0, 88.7, 89.4, 104.0, f32::MAX, f32::INFINITY]
    {
        for x in [f32::from_bits(f32::to_bits(x).saturating_sub(1)), x, x.next_up()] {
            all.extend([x, -x]);
        }
    }
    // The interesting part of most functions, more densely than the bit patterns give it.
    all.extend((-200_000..=200_000).map(|i| i as f32 * 5e-4));
    all.push(f32::NAN);
    all.resize(all.len().next_multiple_of(16), 1.0);
    all
}

/// Distance of `got` from `exact` in units of the last place of f32; infinite where one is NaN or
/// the sign of a zero or an infinity is wrong.
fn ulps(got: f32, exact: f64) -> f64 {
    if exact.is_nan() || got.is_nan() {
        return if exact.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if got.is_infinite() || exact.abs() >= f64::from(f32::MAX) {
        // Within half a unit of the last place of the largest f32, either answer is right.
        let edge = f64::from(f32::MAX) * (1.0 + 2f64.powi(-22));
        let near =
            exact.abs() <= edge && f64::from(got.abs()) >= f64::from(f32::MAX) * (1.0 - 2f64.powi(-22));
        let same = got.is_infinite() && exact.abs() > f64::from(f32::MAX);
        let sign = (got < 0.0) == (exact < 0.0);
        return if (near || same) && sign { 0.0 } else { f64::INFINITY };
    }
    if exact == 0.0 {
        return if got == 0.0 && got.is_sign_negative() == exact.is_sign_negative() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = ((exact.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    (f64::from(got) - exact).abs() / 2f64.powi(exponent.max(-126) - 23)
}

type Kernel = (&'static str, fn(Isa, &[f32], &mut [f32]));
type Exact = fn(f64) -> f64;
type Kernel2 = fn(Isa, &[f32], &[f32], &mut [f32]);
type Exact2 = fn(f64, f64) -> f64;

/// Holds each kernel, over the sweep and on every instruction set, to its bound.
fn check(kernels: &[(Kernel, Exact, f64)]) {
    let x = sweep(40_009);
    let mut y = vec![0.0; x.len()];
    for ((name, kernel), exact, bound) in kernels {
        let want: Vec<f64> = x.iter().map(|&x| exact(f64::from(x))).collect();
        for isa in Isa::available() {
            kernel(isa, &x, &mut y);
            let (mut worst, mut at) = (0.0, 0);
            for i in 0..x.len() {
                let error = ulps(y[i], want[i]);
                if error > worst {
                    (worst, at) = (error, i);
                }
            }
            println!("{name} on {}: {worst:.3} ULP at {:e}", isa.name(), x[at]);
            assert!(
                worst <= *bound,
                "{name} on {}: {worst} ULP (bound {bound}) at {:e}: got {:e}, exact {:e}",
                isa.name(),
                x[at],
                y[at],
                want[at],
            );
        }
    }
}

#[test]
fn exponentials_and_logarithms() {
    check(&[
        (unary!(exp), f64::exp, 1.2),
        (unary!(expm1), f64::exp_m1, 1.5),
        (unary!(log), f64::ln, 1.0),
        (unary!(log1p), f64::ln_1p, 1.5),
        (unary!(log2), f64::log2, 1.0),
        (unary!(log10), f64::log10, 1.0),
    ]);
}

#[test]
fn circular_functions() {
    check(&[
        (unary!(sin), f64::sin, 1.6),
        (unary!(cos), f64::cos, 1.6),
        (unary!(tan), f64::tan, 3.5),
        (unary!(asin), f64::asin, 2.0),
        (unary!(acos), f64::acos, 1.5),
        (unary!(atan), f64::atan, 2.0),
    ]);
}

/// What is next to nothing is as at -87.
fn bounded_silu(x: f64) -> f64 {
    let x = if x < -87.0 { -87.0 } else { x };
    x / (1.0 + (-x).exp())
}

#[test]
fn hyperbolic_and_special_functions() {
    check(&[
        (unary!(sigmoid), |x| 1.0 / (1.0 + (-x).exp()), 2.5),
        (unary!(silu), bounded_silu, 3.0),
        (unary!(tanh), f64::tanh, 2.5),
        (unary!(sinh), f64::sinh, 2.0),
        (unary!(cosh), f64::cosh, 2.0),
        (unary!(asinh), f64::asinh, 3.0),
        (unary!(acosh), f64::acosh, 2.5),
        (unary!(atanh), f64::atanh, 3.0),
        (unary!(erf), reference::erf, 1.5),
        (unary!(erfinv), reference::erfinv, 6.0),
        (unary!(trunc), f64::trunc, 0.0),
        (unary!(ceil), f64::ceil, 0.0),
    ]);
}

/// Every pair of edge values, and pseudo-random pairs.
fn pairs() -> (Vec<f32>, Vec<f32>) {
    let edges =
        [0.0, 1e-40, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 127.0, 1e10, 16_777_217.0, 3e38, f32::INFINITY, f32::NAN];
    let signed: Vec<f32> = edges.iter().flat_map(|&x| [x, -x]).collect();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for &x in &signed {
        for &y in &signed {
            a.push(x);
            b.push(y);
        }
    }
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0
    };
    for _ in 0..200_000 {
        // Bases of all magnitudes and close to 1, exponents that keep the result in range or just leave it.
        let base = if next() < 0.5 { (next() * 170.0 - 85.0).exp() } else { 0.7 + next() * 0.72 };
        let log = f32::ln(base).abs().max(1e-3);
        a.push(if next() < 0.1 { -base } else { base });
        b.push((next() * 2.0 - 1.0) * 105.0 / log);
        a.push((next() * 2.0 - 1.0) * 3.0);
        b.push((next() * 16.0 - 8.0).round());
        let scale = (next() * 60.0 - 30.0).exp();
        a.push((next() - 0.5) * scale);
        b.push((next() - 0.5) * scale);
    }
    a.resize(a.len().next_multiple_of(16), 1.0);
    b.resize(a.len(), 1.0);
    (a, b)
}

#[test]
fn powers_and_angles_of_two_operands() {
    let (a, b) = pairs();
    let mut y = vec![0.0; a.len()];
    let kernels: [(&str, Kernel2, Exact2, f64); 2] =
        [("pow", binary!(pow), f64::powf, 1.5), ("atan2", binary!(atan2), f64::atan2, 2.5)];
    for (name, kernel, exact, bound) in kernels {
        for isa in Isa::available() {
            kernel(isa, &a, &b, &mut y);
            let mut worst = 0.0f64;
            for i in 0..a.len() {
                let want = exact(f64::from(a[i]), f64::from(b[i]));
                let error = ulps(y[i], want);
                worst = worst.max(error);
                assert!(
                    error <= bound,
                    "{name}({:e}, {:e}) on {}: {error} ULP (bound {bound}): got {:e}, exact {want:e}",
                    a[i],
                    b[i],
                    isa.name(),
                    y[i],
                );
            }
            println!("{name} on {}: {worst:.3} ULP", isa.name());
        }
    }
}

#[test]
fn the_references_know_tabulated_values() {
    // Abramowitz and Stegun, tables 7.1 and 7.3.
    for (x, y) in
        [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (2.0, 0.995_322_265_018_952_7)]
    {
        assert!((reference::erf(x) - y).abs() < 1e-15);
        assert!((reference::erfinv(y) - x).abs() < 1e-13);
    }
    assert!((reference::erfc(4.0) / 1.541_725_790_028_002e-8 - 1.0).abs() < 1e-14);
}
