//! Softmax and its logarithm over the middle axis of a contiguous `[outer, axis, inner]` view, their
//! gradients, and the cross-entropy of logits against class numbers.
//!
//! The largest element is subtracted first, so nothing overflows. A row with a NaN, with a positive
//! infinity or of nothing but negative infinities gives NaN.

mod line;

use crate::partition::ranges;
use crate::simd::Simd;
use crate::threads::SharedMut;
use crate::{Isa, dispatch, vmath};
use line::Line;
use std::ops::Range;

/// What one element costs next to a plain read: the weight of an exponential.
const COST: usize = 4;

#[derive(Clone, Copy)]
enum Op {
    Softmax,
    LogSoftmax,
    SoftmaxGrad,
    LogSoftmaxGrad,
}

/// `y = e^x / sum e^x` along the middle axis of `x: [outer, axis, inner]`.
///
/// # Panics
/// Where a slice's length is not what `dims` says.
pub fn softmax(isa: Isa, x: &[f32], dims: [usize; 3], y: &mut [f32]) {
    run(isa, Op::Softmax, x, x, dims, y);
}

/// `y = x - ln sum e^x` along the middle axis of `x: [outer, axis, inner]`.
///
/// # Panics
/// Where a slice's length is not what `dims` says.
pub fn log_softmax(isa: Isa, x: &[f32], dims: [usize; 3], y: &mut [f32]) {
    run(isa, Op::LogSoftmax, x, x, dims, y);
}

/// Gradient of [`softmax`] from its result: `dx = y (dy - sum y dy)`.
///
/// # Panics
/// Where a slice's length is not what `dims` says.
pub fn softmax_grad(isa: Isa, y: &[f32], dy: &[f32], dims: [usize; 3], dx: &mut [f32]) {
    run(isa, Op::SoftmaxGrad, y, dy, dims, dx);
}

/// Gradient of [`log_softmax`] from its result: `dx = dy - e^y sum dy`.
///
/// # Panics
/// Where a slice's length is not what `dims` says.
pub fn log_softmax_grad(isa: Isa, y: &[f32], dy: &[f32], dims: [usize; 3], dx: &mut [f32]) {
    run(isa, Op::LogSoftmaxGrad, y, dy, dims, dx);
}

fn run(isa: Isa, op: Op, a: &[f32], b: &[f32], dims: [usize; 3], out: &mut [f32]) {
    let size = dims.iter().product::<usize>();
    assert_eq!(a.len(), size, "the first operand's length is not outer * axis * inner");
    assert_eq!(b.len(), size, "the gradient's length is not outer * axis * inner");
    assert_eq!(out.len(), size, "the output's length is not outer * axis * inner");
    if size == 0 {
        return;
    }
    let [outer, axis, inner] = dims;
    let shared = SharedMut::new(out);
    if inner == 1 {
        ranges(outer, axis * COST, |units| {
            dispatch!(isa, rows, (
                op: Op,
                a: &[f32],
                b: &[f32],
                axis: usize,
                units: Range<usize>,
                shared: SharedMut<'_, f32>,
            ))
        });
    } else {
        // A unit is a strip of columns as wide as the widest vector, whatever the vector is.
        let strips = inner.div_ceil(STRIP);
        ranges(outer * strips, axis * STRIP.min(inner) * COST, |units| {
            dispatch!(isa, columns, (
                op: Op,
                a: &[f32],
                b: &[f32],
                dims: [usize; 3],
                units: Range<usize>,
                shared: SharedMut<'_, f32>,
            ))
        });
    }
}

const STRIP: usize = 16;

#[inline(always)]
fn rows<S: Simd>(
    s: S,
    op: Op,
    a: &[f32],
    b: &[f32],
    axis: usize,
    units: Range<usize>,
    out: SharedMut<'_, f32>,
) {
    for i in units {
        let range = i * axis..(i + 1) * axis;
        // SAFETY: rows do not overlap; the slices checked that row i is inside.
        unsafe {
            let (a, b) = (a[range.clone()].as_ptr(), b[range].as_ptr());
            let out = out.slice(i * axis, axis).as_mut_ptr();
            line(s, op, Line::<S, true>::row(s, axis), a, b, out);
        }
    }
}

#[inline(always)]
fn columns<S: Simd>(
    s: S,
    op: Op,
    a: &[f32],
    b: &[f32],
    [_, axis, inner]: [usize; 3],
    units: Range<usize>,
    out: SharedMut<'_, f32>,
) {
    const { assert!(STRIP.is_multiple_of(S::LANES)) };
    let strips = inner.div_ceil(STRIP);
    for i in units {
        let (outer, first) = (i / strips, i % strips * STRIP);
        let end = inner.min(first + STRIP);
        for j in (first..end).step_by(S::LANES) {
            let start = outer * axis * inner + j;
            let line_of = Line::<S, false>::columns(s, axis, inner, S::LANES.min(end - j));
            // SAFETY: the last element, row axis - 1 and column end - 1, is inside the checked slices;
            // strips do not overlap, and no other task writes these columns.
            unsafe {
                let (a, b) = (a[start..].as_ptr(), b[start..].as_ptr());
                line(s, op, line_of, a, b, out.as_mut_ptr().add(start));
            }
        }
    }
}

/// # Safety
/// The line's elements are readable at `a` and `b` and writable at `out`.
#[inline(always)]
unsafe fn line<S: Simd, const ROW: bool>(
    s: S,
    op: Op,
    line: Line<S, ROW>,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
) {
    // SAFETY: the caller's contract, and `each` stays inside the line.
    unsafe {
        match op {
            Op::Softmax => scaled_softmax(s, line, a, out, s.splat(1.0)),
            Op::LogSoftmax => {
                let max = line.max(a);
                let total = line.sum(
                    #[inline(always)]
                    |i| exp_inside(s, line, i, line.load(a, i, 0.0), max),
                );
                let log = vmath::log(s, total);
                line.each(
                    #[inline(always)]
                    |i| {
                        line.store(out, i, s.sub(s.sub(line.load(a, i, 0.0), max), log));
                    },
                );
            }
            Op::SoftmaxGrad => {
                let dot = line.sum(
                    #[inline(always)]
                    |i| s.mul(line.load(a, i, 0.0), line.load(b, i, 0.0)),
                );
                line.each(
                    #[inline(always)]
                    |i| {
                        line.store(out, i, s.mul(line.load(a, i, 0.0), s.sub(line.load(b, i, 0.0), dot)));
                    },
                );
            }
            Op::LogSoftmaxGrad => {
                let total = s.neg(line.sum(
                    #[inline(always)]
                    |i| line.load(b, i, 0.0),
                ));
                line.each(
                    #[inline(always)]
                    |i| {
                        let p = vmath::exp(s, line.load(a, i, 0.0));
                        line.store(out, i, s.fma(p, total, line.load(b, i, 0.0)));
                    },
                );
            }
        }
    }
}

/// `e^(x - max)` of vector `i`, 0 beyond the line's end. Masked last: to compute `e^-inf` there would go
/// through denormal numbers, which are slow.
#[inline(always)]
fn exp_inside<S: Simd, const ROW: bool>(s: S, line: Line<S, ROW>, i: usize, x: S::V, max: S::V) -> S::V {
    line.inside(i, vmath::exp(s, s.sub(x, max)))
}

/// `out = softmax(x) scale`
///
/// # Safety
/// The line's elements are readable at `x` and writable at `out`.
#[inline(always)]
unsafe fn scaled_softmax<S: Simd, const ROW: bool>(
    s: S,
    line: Line<S, ROW>,
    x: *const f32,
    out: *mut f32,
    scale: S::V,
) {
    // SAFETY: the caller's contract, and `each` and `sum` stay inside the line.
    unsafe {
        if line.is_single() {
            // A few classes: all in registers.
            let v = line.load(x, 0, f32::NEG_INFINITY);
            let e = exp_inside(s, line, 0, line.load(x, 0, 0.0), line.across_max(v));
            return line.store(out, 0, s.mul(e, s.div(scale, line.across_sum(e))));
        }
        let max = line.max(x);
        let total = line.sum(
            #[inline(always)]
            |i| {
                let e = exp_inside(s, line, i, line.load(x, i, 0.0), max);
                line.store(out, i, e);
                e
            },
        );
        let scale = s.div(scale, total);
        line.each(
            #[inline(always)]
            |i| line.store(out, i, s.mul(line.load(out, i, 0.0), scale)),
        );
    }
}

/// Class numbers of rows.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the names are the types
pub enum Labels<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl Labels<'_> {
    fn len(&self) -> usize {
        match self {
            Labels::I32(x) => x.len(),
            Labels::I64(x) => x.len(),
        }
    }

    /// The class of a row, where it is one.
    fn get(&self, row: usize, classes: usize) -> Option<usize> {
        let label = match self {
            Labels::I32(x) => i64::from(x[row]),
            Labels::I64(x) => x[row],
        };
        usize::try_from(label).ok().filter(|&class| class < classes)
    }
}

/// Cross-entropy of `logits: [rows, classes]` against class numbers: `loss = ln sum e^x - x[label]`.
///
/// A label outside `0..classes` gives NaN.
///
/// # Panics
/// Where a slice's length does not fit `[rows, classes]`.
pub fn sparse_xent(
    isa: Isa,
    logits: &[f32],
    [rows, classes]: [usize; 2],
    labels: Labels<'_>,
    loss: &mut [f32],
) {
    assert_eq!(logits.len(), rows * classes, "the logits' length is not rows * classes");
    assert_eq!(labels.len(), rows, "there is not one label a row");
    assert_eq!(loss.len(), rows, "there is not one loss a row");
    let shared = SharedMut::new(loss);
    ranges(rows, classes * COST, |units| {
        dispatch!(isa, xent_rows, (
            logits: &[f32],
            classes: usize,
            labels: Labels<'_>,
            units: Range<usize>,
            shared: SharedMut<'_, f32>,
        ))
    });
}

#[inline(always)]
fn xent_rows<S: Simd>(
    s: S,
    logits: &[f32],
    classes: usize,
    labels: Labels<'_>,
    units: Range<usize>,
    loss: SharedMut<'_, f32>,
) {
    let line = Line::<S, true>::row(s, classes);
    for i in units {
        let x = &logits[i * classes..(i + 1) * classes];
        // SAFETY: the line is as long as x; each row has a loss of its own.
        unsafe {
            let max = line.max(x.as_ptr());
            let total = line.sum(
                #[inline(always)]
                |i| exp_inside(s, line, i, line.load(x.as_ptr(), i, 0.0), max),
            );
            let picked = s.splat(labels.get(i, classes).map_or(f32::NAN, |class| x[class]));
            let value = s.sub(vmath::log(s, total), s.sub(picked, max));
            s.store_partial(loss.slice(i, 1).as_mut_ptr(), value, 1);
        }
    }
}

/// Gradient of [`sparse_xent`]: `dx = (softmax(x) - one_hot(label)) g`, with one `g` a row.
///
/// A label outside `0..classes` gives a row of NaN.
///
/// # Panics
/// Where a slice's length does not fit `[rows, classes]`.
pub fn sparse_xent_grad(
    isa: Isa,
    logits: &[f32],
    [rows, classes]: [usize; 2],
    labels: Labels<'_>,
    g: &[f32],
    dx: &mut [f32],
) {
    assert_eq!(logits.len(), rows * classes, "the logits' length is not rows * classes");
    assert_eq!(labels.len(), rows, "there is not one label a row");
    assert_eq!(g.len(), rows, "there is not one gradient a row");
    assert_eq!(dx.len(), rows * classes, "the output's length is not rows * classes");
    let shared = SharedMut::new(dx);
    ranges(rows, classes * COST, |units| {
        dispatch!(isa, xent_grad_rows, (
            logits: &[f32],
            classes: usize,
            labels: Labels<'_>,
            g: &[f32],
            units: Range<usize>,
            shared: SharedMut<'_, f32>,
        ))
    });
}

#[inline(always)]
fn xent_grad_rows<S: Simd>(
    s: S,
    logits: &[f32],
    classes: usize,
    labels: Labels<'_>,
    g: &[f32],
    units: Range<usize>,
    dx: SharedMut<'_, f32>,
) {
    let line = Line::<S, true>::row(s, classes);
    for row in units {
        let x = &logits[row * classes..(row + 1) * classes];
        // SAFETY: the line is as long as x and out; rows do not overlap.
        unsafe {
            let out = dx.slice(row * classes, classes);
            let Some(class) = labels.get(row, classes) else {
                out.fill(f32::NAN);
                continue;
            };
            scaled_softmax(s, line, x.as_ptr(), out.as_mut_ptr(), s.splat(g[row]));
            out[class] -= g[row];
        }
    }
}

#[cfg(test)]
mod tests;
