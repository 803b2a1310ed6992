//! A convolution in steps of several pixels as one in steps of one: over images each of whose pixels holds so many of the
//! given ones as a step passes. Minimal filtering computes those, and few convolutions with large steps have few taps.
//!
//! Along an axis, `y[o] = sum of x[s o + k - pad] w[k]`. With `k + shift = s a + p`, where `shift` makes the padding a
//! multiple of the step, that is the sum over `a` and `p` of `X[o + a - pad'][p] W[a][p]`, with `X[i][p] = x[s i + p]`: 7 taps
//! in steps of two become 4 over twice the channels, the first of which is 0.

use super::Conv2d;
use crate::epilogue::Epilogue;
use crate::simd::Simd;
use crate::threads::{self, SharedMut};
use crate::winograd::{Minimal, Winograd};
use crate::{Isa, dispatch, scratch};

/// Elements of the images that are rearranged at a time.
const IMAGES_LEN: usize = 1 << 20;

/// Nanoseconds that one core takes to move an element of the images.
pub(super) const MOVE_NS: f64 = 0.3;

#[derive(Clone, Debug)]
pub(super) struct Phases {
    isa: Isa,
    g: Conv2d,
    unstrided: Conv2d,
    minimal: Minimal,
}

/// The convolution in steps of one, if `g` has larger ones.
pub(super) fn unstrided(g: &Conv2d) -> Option<Conv2d> {
    let (sy, sx) = g.stride;
    if g.stride == (1, 1) || (g.dilation, g.groups) != ((1, 1), 1) {
        return None;
    }
    let taps = |k: usize, stride: usize, pad: usize| (k + shift(pad, stride)).div_ceil(stride);
    Some(Conv2d {
        h: g.h.div_ceil(sy),
        w: g.w.div_ceil(sx),
        c: g.c * sy * sx,
        kh: taps(g.kh, sy, g.pad.0),
        kw: taps(g.kw, sx, g.pad.1),
        stride: (1, 1),
        pad: (g.pad.0.div_ceil(sy), g.pad.1.div_ceil(sx)),
        ..*g
    })
}

/// What is added to the padding to make it a multiple of the step.
fn shift(pad: usize, stride: usize) -> usize {
    pad.next_multiple_of(stride) - pad
}

impl Phases {
    /// Panics where the algorithm does not compute this geometry.
    pub fn new(isa: Isa, g: &Conv2d, minimal: Minimal) -> Phases {
        let unstrided = unstrided(g).filter(|unstrided| minimal.applies(unstrided));
        let Some(unstrided) = unstrided else { panic!("{minimal:?} computes no such steps and taps") };
        Phases { isa, g: *g, unstrided, minimal }
    }

    /// The convolution of so many images in steps of one.
    fn inner(&self, images: usize) -> Winograd {
        Winograd::new(self.isa, &Conv2d { n: images, ..self.unstrided }, self.minimal)
    }

    /// Elements of the packed filter.
    pub fn packed_len(&self) -> usize {
        self.inner(1).packed_len()
    }

    /// Packs a filter `[kh, kw, c, co]`; the lengths are the caller's to check.
    pub fn pack(&self, hwio: &[f32], out: &mut [f32]) {
        let (g, unstrided, inner) = (&self.g, &self.unstrided, self.inner(1));
        let (each, (sy, sx)) = (g.c * g.co, g.stride);
        let (down, across) = (shift(g.pad.0, sy), shift(g.pad.1, sx));
        scratch::with(unstrided.filter_len(), |filter: &mut [f32]| {
            filter.fill(0.0);
            for k in 0..g.kh * g.kw {
                let (y, x) = (k / g.kw + down, k % g.kw + across);
                let tap = y / sy * unstrided.kw + x / sx;
                let to = (tap * sy * sx + y % sy * sx + x % sx) * each;
                filter[to..to + each].copy_from_slice(&hwio[k * each..][..each]);
            }
            inner.pack(filter, out);
        });
    }

    /// Computes `y` from `x`; the lengths of all but the epilogue are the caller's to check.
    pub fn run(&self, x: &[f32], packed: &[f32], y: &mut [f32], ep: &Epilogue) {
        let (g, unstrided) = (&self.g, &self.unstrided);
        ep.check(g.co, y.len());
        let (from, to, results) =
            (g.h * g.w * g.c, unstrided.h * unstrided.w * unstrided.c, g.oh * g.ow * g.co);
        let most = (IMAGES_LEN / to.max(1)).max(1);
        for first in (0..g.n).step_by(most) {
            let images = most.min(g.n - first);
            scratch::with(images * to, |moved: &mut [f32]| {
                self.rearrange(&x[first * from..][..images * from], images, moved);
                let ep = ep.part(first * results, images * results);
                self.inner(images).run(moved, packed, &mut y[first * results..][..images * results], &ep);
            });
        }
    }

    /// Puts the pixels that a step passes side by side.
    fn rearrange(&self, x: &[f32], images: usize, moved: &mut [f32]) {
        let (isa, g, to) = (self.isa, &self.g, &self.unstrided);
        let (sy, sx) = g.stride;
        let (line, row, pixels) = (to.w * to.c, g.w * g.c, sx * g.c);
        if line == 0 {
            return;
        }
        let shared = SharedMut::new(moved);
        threads::run(images * to.h, |i| {
            // SAFETY: line i is this task's alone.
            let moved = unsafe { shared.slice(i * line, line) };
            for p in 0..sy {
                let (image, y) = (i / to.h, i % to.h * sy + p);
                // Below the image there are zeros, as there are to its right.
                let from = if y < g.h { &x[(image * g.h + y) * row..][..row] } else { &[] };
                let (step, moved) = (to.c, &mut moved[p * pixels..]);
                dispatch!(isa, spread, (from: &[f32], pixels: usize, step: usize, moved: &mut [f32]));
            }
        });
    }
}

/// Copies `width` elements after `width` elements to places `step` apart, and zeros once they are used up.
#[inline(always)]
fn spread<S: Simd>(s: S, from: &[f32], width: usize, step: usize, to: &mut [f32]) {
    for (i, to) in to.chunks_mut(step).enumerate() {
        let from = &from[(i * width).min(from.len())..];
        for j in (0..width).step_by(S::LANES) {
            let n = (width - j).min(S::LANES);
            assert!(to.len() >= j + n);
            // SAFETY: `to` has n elements from j on; of `from` only what there is is read.
            unsafe {
                let left = from.len().saturating_sub(j).min(n);
                let v = s.load_partial(from.as_ptr().wrapping_add(j), left);
                s.store_partial(to.as_mut_ptr().add(j), v, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::BASE;
    use super::*;
    use crate::conv::{Algorithm, ConvForward};
    use crate::epilogue::Act;
    use crate::gemm::tests::values;

    /// Steps and filters of known networks, odd sizes, padding before and after, several images, none.
    #[test]
    fn steps_of_several_pixels() {
        for (size, (kh, kw), stride, pad) in [
            ([2, 32, 32, 3, 24], (7, 7), (2, 2), (3, 3)),
            ([1, 31, 33, 3, 40], (7, 7), (2, 2), (2, 3)),
            ([3, 35, 35, 3, 17], (11, 11), (4, 4), (0, 0)),
            ([2, 20, 21, 5, 33], (5, 6), (2, 2), (1, 0)),
            ([1, 25, 19, 20, 8], (9, 7), (3, 2), (4, 5)),
            ([0, 20, 20, 3, 8], (7, 7), (2, 2), (3, 3)),
            ([1, 40, 9, 2, 70], (5, 3), (2, 1), (2, 1)),
            ([2, 1, 101, 8, 20], (1, 5), (1, 2), (0, 2)),
        ] {
            let [n, h, w, c, co] = size;
            let outputs = |n: usize, k: usize, s: usize, p: usize| (n + 2 * p - k) / s + 1;
            let (oh, ow) = (outputs(h, kh, stride.0, pad.0), outputs(w, kw, stride.1, pad.1));
            let g = Conv2d { n, h, w, c, kh, kw, oh, ow, co, stride, pad, ..BASE };
            let inner = unstrided(&g).expect("larger steps");
            let minimal = Minimal::ALL.into_iter().find(|m| m.applies(&inner)).expect("few taps");
            let (x, filter, bias) = (values(g.x_len(), 1), values(g.filter_len(), 2), values(co, 3));
            let residual = values(g.y_len(), 4);
            for isa in Isa::available() {
                let by = |algorithm| {
                    let conv = ConvForward::with_algorithm(isa, &g, algorithm);
                    let (mut packed, mut y) = (vec![f32::NAN; conv.packed_len()], vec![f32::NAN; g.y_len()]);
                    conv.pack(&filter, &mut packed);
                    let ep = Epilogue { residual: Some(&residual), ..Epilogue::bias(&bias, Act::Relu) };
                    conv.run(&x, &packed, &mut y, &ep);
                    y
                };
                let (got, want) = (by(Algorithm::Phases(minimal)), by(Algorithm::Direct));
                for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
                    assert!((got - want).abs() < 1e-4, "{} {g:?} at {i}: {got} not {want}", isa.name());
                }
            }
        }
    }
}
