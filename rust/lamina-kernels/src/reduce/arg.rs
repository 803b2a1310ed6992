//! Where the largest and the smallest elements are.

use super::fold::{Max, Min, row};
use super::{SharedMut, check};
use crate::partition::ranges;
use crate::simd::Simd;
use crate::{Isa, dispatch, scratch};
use std::ops::Range;

/// Index along the middle axis of the first largest element; the first NaN counts as the largest.
///
/// `x` is `[outer, reduce, inner]`, `out` is `[outer, inner]`.
///
/// # Panics
/// Where a slice's length is not what `dims` says, or there is a result to find among no elements.
pub fn argmax(isa: Isa, x: &[f32], dims: [usize; 3], out: &mut [i64]) {
    arg(isa, false, x, dims, out);
}

/// Index along the middle axis of the first smallest element; the first NaN counts as the smallest.
///
/// # Panics
/// As [`argmax`].
pub fn argmin(isa: Isa, x: &[f32], dims: [usize; 3], out: &mut [i64]) {
    arg(isa, true, x, dims, out);
}

fn arg(isa: Isa, smallest: bool, x: &[f32], dims: [usize; 3], out: &mut [i64]) {
    check(x, dims, out.len());
    let [outer, reduce, inner] = dims;
    assert!(reduce > 0 || out.is_empty(), "no element is the largest of none");
    if out.is_empty() {
        return;
    }
    let shared = SharedMut::new(out);
    ranges(outer, reduce * inner, |units| {
        // SAFETY: ranges of units do not overlap.
        let out = unsafe { shared.slice(units.start * inner, units.len() * inner) };
        let x = &x[units.start * reduce * inner..units.end * reduce * inner];
        if inner == 1 {
            dispatch!(isa, rows, (smallest: bool, x: &[f32], reduce: usize, out: &mut [i64]));
        } else {
            scratch::with(inner, |best: &mut [f32]| {
                for (x, out) in x.chunks(reduce * inner).zip(out.chunks_mut(inner)) {
                    columns(smallest, x, best, out);
                }
            });
        }
    });
}

/// One vector pass finds the extreme, a second stops where it is.
#[inline(always)]
fn rows<S: Simd>(s: S, smallest: bool, x: &[f32], reduce: usize, out: &mut [i64]) {
    for (x, out) in x.chunks(reduce).zip(out) {
        let extreme = if smallest { row::<S, Min>(s, x) } else { row::<S, Max>(s, x) };
        let found = |x: f32| x == extreme || (extreme.is_nan() && x.is_nan());
        // Whole chunks are compared without a branch.
        let near = |part: &[f32]| part.iter().fold(false, |any, &x| any | found(x));
        let chunk = x.chunks(64).position(near).unwrap_or(0) * 64;
        *out = (chunk + x[chunk..].iter().position(|&x| found(x)).unwrap_or(0)) as i64;
    }
}

/// Row after row against the best so far of every column.
fn columns(smallest: bool, x: &[f32], best: &mut [f32], out: &mut [i64]) {
    let inner = out.len();
    best.copy_from_slice(&x[..inner]);
    out.fill(0);
    let rest: Range<usize> = 1..x.len() / inner;
    for r in rest {
        let row = &x[r * inner..(r + 1) * inner];
        for ((&x, best), out) in row.iter().zip(&mut *best).zip(&mut *out) {
            let better = if smallest { x < *best } else { x > *best };
            if (better || x.is_nan()) && !best.is_nan() {
                (*best, *out) = (x, r as i64);
            }
        }
    }
}
