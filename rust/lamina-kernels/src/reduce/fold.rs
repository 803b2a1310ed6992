//! The vector bodies of sums, products, maxima and minima.

use super::{Layout, Reduce, Unit};
use crate::simd::Simd;
use crate::threads::SharedMut;
use std::ops::Range;

/// An associative operation and what it does to an element first.
pub(super) trait Fold {
    const IDENTITY: f32;
    #[inline(always)]
    fn map<S: Simd>(_: S, x: S::V) -> S::V {
        x
    }
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V;
    /// All lanes joined.
    fn lanes<S: Simd>(s: S, a: S::V) -> f32;
}

pub(super) struct Sum;
pub(super) struct SumSquares;
pub(super) struct Prod;
pub(super) struct Max;
pub(super) struct Min;

impl Fold for Sum {
    const IDENTITY: f32 = 0.0;
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, a: S::V) -> f32 {
        s.sum(a)
    }
}

impl Fold for SumSquares {
    const IDENTITY: f32 = 0.0;
    #[inline(always)]
    fn map<S: Simd>(s: S, x: S::V) -> S::V {
        s.mul(x, x)
    }
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, a: S::V) -> f32 {
        s.sum(a)
    }
}

impl Fold for Prod {
    const IDENTITY: f32 = 1.0;
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, a: S::V) -> f32 {
        let mut lanes = [1.0; 16];
        const { assert!(S::LANES <= 16) };
        // SAFETY: the array holds LANES elements.
        unsafe { s.store(lanes.as_mut_ptr(), a) };
        lanes.iter().product()
    }
}

impl Fold for Max {
    const IDENTITY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.max(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, a: S::V) -> f32 {
        s.max_lane(a)
    }
}

impl Fold for Min {
    const IDENTITY: f32 = f32::INFINITY;
    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.min(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(s: S, a: S::V) -> f32 {
        -s.max_lane(s.neg(a))
    }
}

/// Lane numbers, to mask the lanes that a partial load left zero.
const LANE: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// The first `n` lanes of `v`, `fill` in the others.
#[inline(always)]
pub(crate) fn keep<S: Simd>(s: S, v: S::V, n: usize, fill: f32) -> S::V {
    const { assert!(S::LANES <= LANE.len()) };
    // SAFETY: LANE holds LANES elements.
    s.select(s.lt(unsafe { s.load(LANE.as_ptr()) }, s.splat(n as f32)), v, s.splat(fill))
}

/// The first `n` lanes of a partial load, `fill` in the others.
///
/// # Safety
/// `p` is valid for `n < LANES` reads.
#[inline(always)]
pub(crate) unsafe fn load_filled<S: Simd>(s: S, p: *const f32, n: usize, fill: f32) -> S::V {
    // SAFETY: the caller's contract.
    keep(s, unsafe { s.load_partial(p, n) }, n, fill)
}

/// Folds one row.
#[inline(always)]
pub(super) fn row<S: Simd, F: Fold>(s: S, x: &[f32]) -> f32 {
    // Enough chains to hide the latency of an addition behind two loads a cycle.
    const CHAINS: usize = 8;
    let (n, p) = (x.len(), x.as_ptr());
    let identity = s.splat(F::IDENTITY);
    let mut sum = identity;
    let mut i = 0;
    // SAFETY: every load ends at or before n.
    unsafe {
        if n >= CHAINS * S::LANES {
            let mut chains = [identity; CHAINS];
            while i + CHAINS * S::LANES <= n {
                for (k, chain) in chains.iter_mut().enumerate() {
                    *chain = F::join(s, *chain, F::map(s, s.load(p.add(i + k * S::LANES))));
                }
                i += CHAINS * S::LANES;
            }
            sum = join8::<S, F>(s, chains);
        }
        while i + S::LANES <= n {
            sum = F::join(s, sum, F::map(s, s.load(p.add(i))));
            i += S::LANES;
        }
        if i < n {
            let tail = F::map(s, load_filled(s, p.add(i), n - i, F::IDENTITY));
            sum = F::join(s, sum, tail);
        }
    }
    F::lanes(s, sum)
}

#[inline(always)]
fn join8<S: Simd, F: Fold>(s: S, v: [S::V; 8]) -> S::V {
    let pair = |i: usize| F::join(s, v[i], v[i + 1]);
    F::join(s, F::join(s, pair(0), pair(2)), F::join(s, pair(4), pair(6)))
}

/// Folds `out.len()` columns of a matrix with rows `stride` apart onto `out`.
///
/// `element(v, j, n)` maps the `n` elements of a vector that begins at column `j`.
#[inline(always)]
fn columns<S: Simd, F: Fold>(
    s: S,
    x: &[f32],
    rows: usize,
    stride: usize,
    out: &mut [f32],
    element: impl Fn(S::V, usize, usize) -> S::V,
) {
    let n = out.len();
    assert!(rows == 0 || (rows - 1) * stride + n <= x.len());
    let (x, out) = (x.as_ptr(), out.as_mut_ptr());
    // SAFETY: row r, column j lies at r * stride + j, within x by the assertion; out holds n.
    unsafe {
        let mut r = 0;
        while r < rows {
            let group = if r + 8 <= rows { 8 } else { 1 };
            let top = x.add(r * stride);
            let mut j = 0;
            while j + S::LANES <= n {
                let v = if group == 8 {
                    join8::<S, F>(
                        s,
                        std::array::from_fn(
                            #[inline(always)]
                            |k| element(s.load(top.add(j + k * stride)), j, S::LANES),
                        ),
                    )
                } else {
                    element(s.load(top.add(j)), j, S::LANES)
                };
                s.store(out.add(j), F::join(s, s.load(out.add(j)), v));
                j += S::LANES;
            }
            if j < n {
                let rest = n - j;
                let v = if group == 8 {
                    join8::<S, F>(
                        s,
                        std::array::from_fn(
                            #[inline(always)]
                            |k| element(s.load_partial(top.add(j + k * stride), rest), j, rest),
                        ),
                    )
                } else {
                    element(s.load_partial(top.add(j), rest), j, rest)
                };
                s.store_partial(out.add(j), F::join(s, s.load_partial(out.add(j), rest), v), rest);
            }
            r += group;
        }
    }
}

/// Rows narrower than this are folded many at a time, as one wide row.
pub(super) const NARROW: usize = 16;

/// Whether [`block`] treats rows as parts of one wide row.
#[inline(always)]
pub(super) fn is_narrow(rows: usize, inner: usize) -> bool {
    inner < NARROW && rows >= 2 * NARROW
}

/// Folds one block of a matrix: `rows` rows of `inner`, of them columns `from .. from + out.len()`.
///
/// `element` as for [`columns`], with columns counted from `from`, or, where the block
/// [is narrow](is_narrow), over `NARROW` repetitions of a row.
#[inline(always)]
pub(super) fn block<S: Simd, F: Fold>(
    s: S,
    x: &[f32],
    rows: usize,
    inner: usize,
    from: usize,
    out: &mut [f32],
    element: impl Fn(S::V, usize, usize) -> S::V + Copy,
) {
    out.fill(F::IDENTITY);
    if !is_narrow(rows, inner) {
        return columns::<S, F>(s, &x[from..], rows, inner, out, element);
    }
    let wide = inner * NARROW;
    let mut buffer = [F::IDENTITY; NARROW * NARROW];
    let (even, odd) = x.split_at(rows / NARROW * wide);
    columns::<S, F>(s, even, rows / NARROW, wide, &mut buffer[..wide], element);
    columns::<S, F>(s, &buffer, NARROW, inner, out, as_is::<S>);
    columns::<S, F>(s, odd, rows % NARROW, inner, out, element);
}

#[inline(always)]
fn as_is<S: Simd>(v: S::V, _: usize, _: usize) -> S::V {
    v
}

#[inline(always)]
fn units_of<S: Simd, F: Fold>(s: S, x: &[f32], layout: Layout, units: Range<usize>, out: SharedMut<'_, f32>) {
    let inner = layout.dims[2];
    for i in units {
        let Unit { start, rows, column, columns, to } = layout.unit(i);
        // SAFETY: units have results of their own, which do not overlap.
        let out = unsafe { out.slice(to, columns) };
        let x = &x[start..start + rows * inner];
        if inner == 1 {
            out[0] = row::<S, F>(s, x);
        } else {
            block::<S, F>(
                s,
                x,
                rows,
                inner,
                column,
                out,
                #[inline(always)]
                |v, _, _| F::map(s, v),
            );
        }
    }
}

/// The partial results of some units.
#[inline(always)]
pub(super) fn units<S: Simd>(
    s: S,
    op: Reduce,
    x: &[f32],
    layout: Layout,
    units: Range<usize>,
    out: SharedMut<'_, f32>,
) {
    match op {
        Reduce::Sum | Reduce::Mean => units_of::<S, Sum>(s, x, layout, units, out),
        Reduce::SumSquares => units_of::<S, SumSquares>(s, x, layout, units, out),
        Reduce::Prod => units_of::<S, Prod>(s, x, layout, units, out),
        Reduce::Max => units_of::<S, Max>(s, x, layout, units, out),
        Reduce::Min => units_of::<S, Min>(s, x, layout, units, out),
    }
}

/// Joins rows of `inner` partial results pairwise, into the first row.
#[inline(always)]
pub(super) fn tree<S: Simd>(s: S, op: Reduce, rows: &mut [f32], inner: usize) {
    match op {
        Reduce::Sum | Reduce::Mean | Reduce::SumSquares => tree_of::<S, Sum>(s, rows, inner),
        Reduce::Prod => tree_of::<S, Prod>(s, rows, inner),
        Reduce::Max => tree_of::<S, Max>(s, rows, inner),
        Reduce::Min => tree_of::<S, Min>(s, rows, inner),
    }
}

#[inline(always)]
fn tree_of<S: Simd, F: Fold>(s: S, rows: &mut [f32], inner: usize) {
    let mut gap = inner;
    while gap < rows.len() {
        for pair in rows.chunks_mut(2 * gap) {
            if pair.len() > gap {
                let (a, b) = pair.split_at_mut(gap);
                columns::<S, F>(s, &b[..inner], 1, inner, &mut a[..inner], as_is::<S>);
            }
        }
        gap *= 2;
    }
}
