//! The transforms along a line: polynomials of degree `m - 1` and `r - 1`, multiplied by their values at `n = m + r - 1`
//! points, transposed.
//!
//! The points are 0, infinity and pairs `+-p`. Let `P(z)` be the product of `z - p^2` over the pairs, `Q(z)` that without
//! the pair in question, and `x P(x^2)` so the product of `x` less each finite point. An input's coefficients are those of
//! this product without the point itself: `P(x^2)` for 0, `x^2 Q(x^2) +- p x Q(x^2)` for `+-p`, all of it for infinity. A
//! filter is evaluated at the point and divided by the point's distances to the others, `P(0)` and `2 p^2 Q(p^2)`, and at
//! infinity is its last tap.
//!
//! A short line of two outputs less needs two points less: without the last pair, and on the rest. The filter's values are
//! those of the whole line, so the input's take over what the last pair's distance is in them, `-p^2` and `q^2 - p^2`.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use crate::simd::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Pairs of points at most.
const PAIRS: usize = 3;

/// Coefficients of a polynomial, that of degree 0 first.
type Poly = [f32; PAIRS + 1];

/// Whether a short line of `n` positions has no product at this one: it is of the last pair.
pub(super) const fn dropped(n: usize, position: usize) -> bool {
    n >= 4 && (position == n - 3 || position == n - 2)
}

/// The points of a line of `n` inputs, or of one that is short of it. A line of one needs none: its transforms are the
/// identity.
struct Points<const N: usize, const SHORT: bool>;

impl<const N: usize, const SHORT: bool> Points<N, SHORT> {
    /// The positive ones of a whole line, each with its square. Squares are powers of two: all coefficients are exact.
    const ALL: &[(f32, f32)] = match N {
        1 => &[],
        4 => &[(1.0, 1.0)],
        6 => &[(FRAC_1_SQRT_2, 0.5), (SQRT_2, 2.0)],
        8 => &[(0.5, 0.25), (1.0, 1.0), (2.0, 4.0)],
        _ => panic!("no points for lines of this length"),
    };

    /// Those of this one.
    const PAIRS: &[(f32, f32)] = if SHORT { Self::ALL.split_at(Self::ALL.len() - 1).0 } else { Self::ALL };

    /// What the pair that a short line is without adds to the distance of a point with this square.
    const fn rest(square: f32) -> f32 {
        if SHORT { square - Self::ALL[Self::ALL.len() - 1].1 } else { 1.0 }
    }

    /// `P`.
    const P: Poly = Self::product(PAIRS);

    /// `Q` of each pair.
    const Q: [Poly; PAIRS] = [Self::product(0), Self::product(1), Self::product(2)];

    /// One over `2 p^2 Q(p^2)` of each pair.
    const SCALE: [f32; PAIRS] = {
        let mut scale = [0.0; PAIRS];
        let mut pair = 0;
        while pair < Self::PAIRS.len() {
            let square = Self::PAIRS[pair].1;
            let (q, mut value, mut j) = (Self::Q[pair], 0.0, PAIRS + 1);
            while j > 0 {
                j -= 1;
                value = value * square + q[j];
            }
            scale[pair] = 1.0 / (2.0 * square * value);
            pair += 1;
        }
        scale
    };

    /// The product of `z - p^2` over the pairs but number `without`.
    const fn product(without: usize) -> Poly {
        let mut c = [0.0; PAIRS + 1];
        c[0] = 1.0;
        let mut pair = 0;
        while pair < Self::PAIRS.len() {
            let square = Self::PAIRS[pair].1;
            let mut j = if pair == without { 0 } else { PAIRS + 1 };
            while j > 0 {
                j -= 1;
                c[j] = if j > 0 { c[j - 1] } else { 0.0 } - square * c[j];
            }
            pair += 1;
        }
        c
    }

    /// `p^j` of a pair.
    #[inline(always)]
    fn power(pair: usize, j: usize) -> f32 {
        let (p, square) = Self::PAIRS[pair];
        let mut power = if j % 2 == 1 { p } else { 1.0 };
        for _ in 0..j / 2 {
            power *= square;
        }
        power
    }
}

/// The sum of `c[j] d[first + 2 j]` for a polynomial of this degree, whose last coefficient is 1.
#[inline(always)]
fn alternate<S: Simd, const N: usize>(s: S, c: Poly, degree: usize, d: &[S::V; N], first: usize) -> S::V {
    let mut sum = d[first + 2 * degree];
    for j in 0..degree {
        sum = s.fma(s.splat(c[j]), d[first + 2 * j], sum);
    }
    sum
}

/// `B' d`: `N` inputs, or two less. What a short line drops is not set.
#[inline(always)]
pub(super) fn forward<S: Simd, const N: usize, const SHORT: bool>(s: S, d: [S::V; N]) -> [S::V; N] {
    if N == 1 {
        return d;
    }
    let (mut v, pairs) = (d, Points::<N, SHORT>::PAIRS.len());
    v[0] = alternate(s, Points::<N, SHORT>::P, pairs, &d, 0);
    if SHORT {
        v[0] = s.mul(s.splat(Points::<N, SHORT>::rest(0.0)), v[0]);
    }
    for pair in 0..pairs {
        let q = Points::<N, SHORT>::Q[pair];
        let (p, square) = Points::<N, SHORT>::PAIRS[pair];
        let (mut even, mut odd) = (alternate(s, q, pairs - 1, &d, 2), alternate(s, q, pairs - 1, &d, 1));
        if SHORT {
            let rest = s.splat(Points::<N, SHORT>::rest(square));
            (even, odd) = (s.mul(rest, even), s.mul(rest, odd));
        }
        v[1 + 2 * pair] = s.fma(s.splat(p), odd, even);
        v[2 + 2 * pair] = s.fma(s.splat(-p), odd, even);
    }
    v[N - 1] = alternate(s, Points::<N, SHORT>::P, pairs, &d, 1);
    v
}

/// `G g`: `R` taps.
#[inline(always)]
pub(super) fn filter<S: Simd, const R: usize, const N: usize>(s: S, g: [S::V; R]) -> [S::V; N] {
    let mut u = [g[0]; N];
    if N == 1 {
        return u;
    }
    u[0] = s.mul(s.splat(1.0 / Points::<N, false>::P[0]), g[0]);
    for pair in 0..Points::<N, false>::PAIRS.len() {
        let (p, square) = Points::<N, false>::PAIRS[pair];
        // Horner's rule for the even taps and for the odd ones, in `p^2`.
        let mut sums = [s.zero(); 2];
        for tap in (0..R).rev() {
            let sum = &mut sums[tap % 2];
            *sum = if tap + 2 < R { s.fma(s.splat(square), *sum, g[tap]) } else { g[tap] };
        }
        let scale = Points::<N, false>::SCALE[pair];
        let even = s.mul(s.splat(scale), sums[0]);
        u[1 + 2 * pair] = s.fma(s.splat(scale * p), sums[1], even);
        u[2 + 2 * pair] = s.fma(s.splat(-scale * p), sums[1], even);
    }
    u[N - 1] = g[R - 1];
    u
}

/// `A' m`: `M` outputs, or two less, the rest not set.
#[inline(always)]
pub(super) fn inverse<S: Simd, const N: usize, const M: usize, const SHORT: bool>(
    s: S,
    m: [S::V; N],
) -> [S::V; M] {
    let mut y = [m[0]; M];
    if N == 1 {
        return y;
    }
    let pairs = Points::<N, SHORT>::PAIRS.len();
    let outputs = if SHORT { M - 2 } else { M };
    for j in 0..outputs {
        // 0 has a share in the first output only, and infinity in the last.
        let mut sum = if j == 0 { m[0] } else { m[N - 1] };
        if outputs == 1 {
            sum = s.add(m[0], m[N - 1]);
        }
        for pair in 0..pairs {
            let (plus, minus) = (m[1 + 2 * pair], m[2 + 2 * pair]);
            let share = if j % 2 == 0 { s.add(plus, minus) } else { s.sub(plus, minus) };
            let power = s.splat(Points::<N, SHORT>::power(pair, j));
            let first = pair == 0 && j > 0 && j + 1 < outputs;
            sum = if first { s.mul(power, share) } else { s.fma(power, share, sum) };
        }
        y[j] = sum;
    }
    y
}
