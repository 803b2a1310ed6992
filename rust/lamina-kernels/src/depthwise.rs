//! Depthwise convolution: each channel has filters of its own.
//!
//! It is the [`Conv2d`] with as many groups as input channels; its filter `[kh, kw, 1, c * m]` is the
//! `[kh, kw, c, m]` of a depthwise layer with channel multiplier m. Filters are used as they are.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

mod joined;
mod rows;

pub use joined::{Joined, Stage};

use crate::conv::window::{Image, Windows};
use crate::conv::{Conv2d, Phase};
use crate::epilogue::{Epilogue, apply_tile};
use crate::simd::Simd;
use crate::threads::{self, SharedMut};
use crate::{Isa, dispatch, scratch};
use rows::{Plan, Row, Source, load, store};
use std::ops::Range;

fn check(g: &Conv2d) {
    g.check();
    assert!(g.groups == g.c, "a depthwise convolution has a group per channel");
}

fn multiplier(g: &Conv2d) -> usize {
    g.co / g.groups
}

/// The forward depthwise convolution, planned for one geometry.
#[derive(Clone, Debug)]
pub struct DepthwiseForward {
    isa: Isa,
    geometry: Conv2d,
    plan: Plan,
}

impl DepthwiseForward {
    /// Plans; panics where `groups` is not `c`, or as [`ConvForward`](crate::conv::ConvForward) does.
    pub fn new(isa: Isa, geometry: &Conv2d) -> Self {
        check(geometry);
        let g = *geometry;
        let image = Image { n: g.n, h: g.h, w: g.w, c: g.c };
        let windows = Windows::new(image, &g.taps(), g.oh, g.ow, g.stride).repeated(multiplier(&g));
        DepthwiseForward { isa, geometry: g, plan: Plan::new(windows, &g.taps(), g.co) }
    }

    /// Computes `y` `[n, oh, ow, c * m]` from `x` `[n, h, w, c]` and `filter` `[kh, kw, c, m]`; panics on other
    /// lengths.
    pub fn run(&self, x: &[f32], filter: &[f32], y: &mut [f32], ep: &Epilogue) {
        let g = &self.geometry;
        assert_eq!(x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert_eq!(filter.len(), g.filter_len(), "the filter has kh * kw * c * m elements");
        assert_eq!(y.len(), g.y_len(), "the output has n * oh * ow * c * m elements");
        ep.check(g.co, y.len());
        assert!(!ep.onto, "a residual has memory of its own");
        if y.is_empty() {
            return;
        }
        let (plan, y) = (&self.plan, SharedMut::new(y));
        plan.each_part(1, |rows, channels| {
            plan.each_row(x, rows, |at, source| self.row(source, filter, &y, ep, at, &channels));
        });
    }

    /// Some channels of output row `at`, which are counted through the batch.
    fn row(
        &self,
        source: &Source,
        filter: &[f32],
        y: &SharedMut<f32>,
        ep: &Epilogue,
        at: usize,
        channels: &Range<usize>,
    ) {
        let g = &self.geometry;
        let row_len = g.ow * g.co;
        let out = y.as_mut_ptr().wrapping_add(at * row_len);
        let row = Row {
            plan: &self.plan,
            source,
            filter,
            bias: ep.bias,
            residual: ep.residual.map(|r| &r[at * row_len..][..row_len]),
            bounds: ep.act.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
            channels: channels.clone(),
        };
        // SAFETY: rows have `ow` pixels of `co` channels; tasks have disjoint rows or channels.
        unsafe { row.run(self.isa, out, g.co) };
        if ep.act.bounds().is_none() {
            let whole = channels.len() == g.co;
            let (runs, len) = if whole { (1, row_len) } else { (g.ow, channels.len()) };
            scratch::with(runs, |offsets: &mut [usize]| {
                offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * g.co);
                // SAFETY: as above.
                unsafe { apply_tile(self.isa, ep.act, out.add(channels.start), offsets, len) };
            });
        }
    }
}

/// The gradient of a depthwise convolution with respect to its input, planned for one geometry.
#[derive(Clone, Debug)]
pub struct DepthwiseGradInput {
    isa: Isa,
    geometry: Conv2d,
    /// Per residue of the input coordinates modulo the strides.
    phases: Vec<((usize, usize), Plan)>,
}

impl DepthwiseGradInput {
    /// Plans; panics as [`DepthwiseForward::new`] does.
    pub fn new(isa: Isa, geometry: &Conv2d) -> Self {
        check(geometry);
        let g = *geometry;
        let image = Image { n: g.n, h: g.oh, w: g.ow, c: g.co };
        let phases = g.phases().map(|Phase { first, rows, cols, taps }| {
            (first, Plan::new(Windows::new(image, &taps, rows, cols, (1, 1)), &taps, g.co))
        });
        DepthwiseGradInput { isa, geometry: g, phases: phases.collect() }
    }

    /// Computes `dx` `[n, h, w, c]` from `dy` `[n, oh, ow, c * m]` and `filter` `[kh, kw, c, m]`; panics on
    /// other lengths.
    pub fn run(&self, dy: &[f32], filter: &[f32], dx: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(dx.len(), g.x_len(), "the input gradient has n * h * w * c elements");
        assert_eq!(filter.len(), g.filter_len(), "the filter has kh * kw * c * m elements");
        assert_eq!(dy.len(), g.y_len(), "the output gradient has n * oh * ow * c * m elements");
        if g.co == 0 {
            return dx.fill(0.0); // no filter sees the channels
        }
        let m = multiplier(g);
        let shared = SharedMut::new(dx);
        for ((ry, rx), plan) in &self.phases {
            let windows = &plan.windows;
            plan.each_part(m, |rows, channels| {
                plan.each_row(dy, rows, |at, source| {
                    let y = at / windows.rows * g.h + ry + at % windows.rows * g.stride.0;
                    let row = Row {
                        plan,
                        source,
                        filter,
                        bias: None,
                        residual: None,
                        bounds: (f32::NEG_INFINITY, f32::INFINITY),
                        channels: channels.clone(),
                    };
                    let out = shared.as_mut_ptr().wrapping_add((y * g.w + rx) * g.c);
                    if m == 1 {
                        // SAFETY: the pixels from rx on, a stride apart, lie in row y; parts are disjoint, and
                        // phases run one after the other.
                        return unsafe { row.run(self.isa, out, g.stride.1 * g.c) };
                    }
                    scratch::with(windows.cols * g.co, |all: &mut [f32]| {
                        // SAFETY: as above, into one row of scratch.
                        unsafe { row.run(self.isa, all.as_mut_ptr(), g.co) };
                        for (pixel, all) in all.chunks_exact(g.co).enumerate() {
                            let start = (y * g.w + rx + pixel * g.stride.1) * g.c;
                            // SAFETY: as above; parts meet between channels of dx.
                            let out = unsafe { shared.slice(start + channels.start / m, channels.len() / m) };
                            for (out, all) in out.iter_mut().zip(all[channels.clone()].chunks_exact(m)) {
                                *out = all.iter().sum();
                            }
                        }
                    });
                });
            });
        }
    }
}

/// The gradient of a depthwise convolution with respect to its filter, planned for one geometry.
#[derive(Clone, Debug)]
pub struct DepthwiseGradFilter {
    isa: Isa,
    geometry: Conv2d,
    plan: Plan,
}

/// The rows are cut into at most this many parts, each summed on its own; the parts are added in order.
const MAX_PARTS: usize = 16;

/// Multiplications of one part: some tens of microseconds.
const PART_WORK: usize = 1 << 18;

impl DepthwiseGradFilter {
    /// Plans; panics as [`DepthwiseForward::new`] does.
    pub fn new(isa: Isa, geometry: &Conv2d) -> Self {
        let DepthwiseForward { isa, geometry, plan } = DepthwiseForward::new(isa, geometry);
        let plan = Plan::new(plan.windows.spaced(), &geometry.taps(), plan.channels);
        DepthwiseGradFilter { isa, geometry, plan }
    }

    /// Computes `dw` `[kh, kw, c, m]` from `x` `[n, h, w, c]` and `dy` `[n, oh, ow, c * m]`; panics on other
    /// lengths.
    pub fn run(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert_eq!(dy.len(), g.y_len(), "the output gradient has n * oh * ow * c * m elements");
        assert_eq!(dw.len(), g.filter_len(), "the filter gradient has kh * kw * c * m elements");
        dw.fill(0.0);
        let (rows, len) = (self.plan.windows.all_rows(), dw.len());
        if dy.is_empty() || len == 0 {
            return;
        }
        let parts = (rows * self.plan.row_work()).div_ceil(PART_WORK).clamp(1, rows.min(MAX_PARTS));
        let chunk = rows.div_ceil(parts);
        scratch::with(len * parts, |partial: &mut [f32]| {
            threads::run_chunks(partial, len, |sum, start| {
                let first = start / len * chunk;
                sum.fill(0.0);
                let range = first.min(rows)..(first + chunk).min(rows);
                self.plan.windows.strip(x, range.clone(), |strip| {
                    for (i, row) in range.enumerate() {
                        let dy = &dy[row * g.ow * g.co..][..g.ow * g.co];
                        let (plan, x) = (&self.plan, strip[i]);
                        dispatch!(self.isa, filter_row, (plan: &Plan, x: *const f32, dy: &[f32], sum: &mut [f32]));
                    }
                });
            });
            for part in partial.chunks_exact(len) {
                dw.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
        });
    }
}

/// Adds one row of pixels to the gradient of the filter.
#[inline(always)]
fn filter_row<S: Simd>(s: S, plan: &Plan, x: *const f32, dy: &[f32], sum: &mut [f32]) {
    const TAPS: usize = 5;
    let (cols, stride, channels) = (plan.windows.cols, plan.windows.pixel_stride(), plan.channels);
    for taps in plan.taps.chunks(TAPS) {
        let mut xs = [x; TAPS];
        for (i, x) in xs.iter_mut().enumerate() {
            // Beyond the last tap: the last one again, not stored.
            *x = x.wrapping_add(taps[i.min(taps.len() - 1)].0);
        }
        let mut c = 0;
        while c < channels {
            let n = channels - c;
            let mut acc = [s.zero(); TAPS];
            // SAFETY: the strip holds the windows of the row, `dy` and `sum` have all channels; a vector of
            // fewer than LANES channels is read and written in part.
            unsafe {
                for col in 0..cols {
                    let d = load(s, dy.as_ptr().add(col * channels + c), n);
                    for i in 0..TAPS {
                        acc[i] = s.fma(load(s, xs[i].add(col * stride + c), n), d, acc[i]);
                    }
                }
                for (i, &(_, weight)) in taps.iter().enumerate() {
                    let out = sum.as_mut_ptr().add(weight + c);
                    store(s, out, s.add(load(s, out, n), acc[i]), n);
                }
            }
            c += S::LANES;
        }
    }
}

#[cfg(test)]
mod tests;
