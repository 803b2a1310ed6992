//! The transforms along a line: polynomials of degree `m - 1` and `r - 1`, multiplied by their values at `n = m + r - 1`
//! points, transposed.
//!
//! The points are 0, infinity and pairs `+-p`. Let `P(z)` be the product of `z - p^2` over the pairs, `Q(z)` that without
//! the pair in question, and `x P(x^2)` so the product of `x` less each finite point. An input's coefficients are those of
//! this product without the point itself: `P(x^2)` for 0, `x^2 Q(x^2) +- p x Q(x^2)` for `+-p`, all of it for infinity. A
//! filter is evaluated at the point and divided by the point's distances to the others, `P(0)` and `2 p^2 Q(p^2)`, and at
//! infinity is its last tap.
//!
//! A short line has one output less or two, and as many points: it is without `-q`, or without both of the last pair `+-q`.
//! The filter's values are those of the whole line, so the input's take over the distances to what is left out: `p + q` of a
//! point `p`, or `p^2 - q^2`. Without `-q` alone, `P` is that of the other pairs, times `x - q`.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use crate::simd::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Pairs of points at most.
const PAIRS: usize = 3;

/// Coefficients of a polynomial, that of degree 0 first.
type Poly = [f32; PAIRS + 1];

/// Whether a line of `n` positions that is short of so many outputs has no product at this one: it is of the last pair.
pub(super) const fn dropped(n: usize, short: usize, position: usize) -> bool {
    position + 1 < n && position + 1 + short >= n
}

/// The points of a line of `N` inputs, or of one that is short of so many. A line of one needs none: its transforms are the
/// identity.
struct Points<const N: usize, const SHORT: usize>;

impl<const N: usize, const SHORT: usize> Points<N, SHORT> {
    /// The positive ones of a whole line, each with its square. Squares are powers of two: all coefficients are exact.
    const ALL: &[(f32, f32)] = match N {
        1 => &[],
        4 => &[(1.0, 1.0)],
        6 => &[(FRAC_1_SQRT_2, 0.5), (SQRT_2, 2.0)],
        8 => &[(0.5, 0.25), (1.0, 1.0), (2.0, 4.0)],
        _ => panic!("no points for lines of this length"),
    };

    /// Those pairs that this one has.
    const PAIRS: &[(f32, f32)] =
        if SHORT > 0 { Self::ALL.split_at(Self::ALL.len() - 1).0 } else { Self::ALL };

    /// The last pair of a whole one.
    const LAST: (f32, f32) = if N > 1 { Self::ALL[Self::ALL.len() - 1] } else { (0.0, 0.0) };

    /// What a short line is without, as it is in the distance of a point with this square.
    const fn rest((p, square): (f32, f32)) -> f32 {
        if SHORT == 2 { square - Self::LAST.1 } else { p + Self::LAST.0 }
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

    /// `p^j` of a pair of a whole line.
    #[inline(always)]
    fn power(pair: usize, j: usize) -> f32 {
        let (p, square) = Self::ALL[pair];
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

/// `B' d`: `N` inputs, or so many less. What a short line drops is not set.
#[inline(always)]
pub(super) fn forward<S: Simd, const N: usize, const SHORT: usize>(s: S, mut d: [S::V; N]) -> [S::V; N] {
    if N == 1 {
        return d;
    }
    let (mut v, pairs) = (d, Points::<N, SHORT>::PAIRS.len());
    let product = Points::<N, SHORT>::P;
    if SHORT == 1 {
        let q = Points::<N, SHORT>::LAST.0;
        v[N - 3] = s.mul(s.splat(2.0 * q), alternate(s, product, pairs, &d, 1));
        // All others times `x - q`.
        for j in 0..N - 2 {
            d[j] = s.fma(s.splat(-q), d[j], d[j + 1]);
        }
    }
    let scaled = |v: S::V, point: (f32, f32)| match SHORT {
        0 => v,
        _ => s.mul(s.splat(Points::<N, SHORT>::rest(point)), v),
    };
    v[0] = scaled(alternate(s, product, pairs, &d, 0), (0.0, 0.0));
    for pair in 0..pairs {
        let q = Points::<N, SHORT>::Q[pair];
        let (p, square) = Points::<N, SHORT>::PAIRS[pair];
        let (even, odd) = (alternate(s, q, pairs - 1, &d, 2), alternate(s, q, pairs - 1, &d, 1));
        v[1 + 2 * pair] = scaled(s.fma(s.splat(p), odd, even), (p, square));
        v[2 + 2 * pair] = scaled(s.fma(s.splat(-p), odd, even), (-p, square));
    }
    v[N - 1] = alternate(s, product, pairs, &d, 1);
    v
}

/// `G g`: `R` taps.
#[inline(always)]
pub(super) fn filter<S: Simd, const R: usize, const N: usize>(s: S, g: [S::V; R]) -> [S::V; N] {
    let mut u = [g[0]; N];
    if N == 1 {
        return u;
    }
    u[0] = s.mul(s.splat(1.0 / Points::<N, 0>::P[0]), g[0]);
    for pair in 0..Points::<N, 0>::PAIRS.len() {
        let (p, square) = Points::<N, 0>::PAIRS[pair];
        // Horner's rule for the even taps and for the odd ones, in `p^2`.
        let mut sums = [s.zero(); 2];
        for tap in (0..R).rev() {
            let sum = &mut sums[tap % 2];
            *sum = if tap + 2 < R { s.fma(s.splat(square), *sum, g[tap]) } else { g[tap] };
        }
        let scale = Points::<N, 0>::SCALE[pair];
        let even = s.mul(s.splat(scale), sums[0]);
        u[1 + 2 * pair] = s.fma(s.splat(scale * p), sums[1], even);
        u[2 + 2 * pair] = s.fma(s.splat(-scale * p), sums[1], even);
    }
    u[N - 1] = g[R - 1];
    u
}

/// `A' m`: `M` outputs, or so many less, the rest not set.
#[inline(always)]
pub(super) fn inverse<S: Simd, const N: usize, const M: usize, const SHORT: usize>(
    s: S,
    m: [S::V; N],
) -> [S::V; M] {
    let mut y = [m[0]; M];
    if N == 1 {
        return y;
    }
    let pairs = Points::<N, SHORT>::PAIRS.len();
    let outputs = M - SHORT;
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
        if SHORT == 1 {
            sum = s.fma(s.splat(Points::<N, SHORT>::power(pairs, j)), m[N - 3], sum);
        }
        y[j] = sum;
    }
    y
}
