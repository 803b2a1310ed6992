//! Depthwise convolution: each channel has filters of its own. Vectorised over channels, a few output
//! columns in registers at a time.
//!
//! It is the [`Conv2d`] with as many groups as input channels; its filter `[kh, kw, 1, c * m]` is the
//! `[kh, kw, c, m]` of a depthwise layer with channel multiplier m. Filters are used as they are.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use crate::conv::window::{Image, Tap, Windows};
use crate::conv::{Conv2d, Phase};
use crate::epilogue::{Epilogue, apply_tile};
use crate::simd::Simd;
use crate::threads::{self, SharedMut};
use crate::{Isa, dispatch, scratch};

fn check(g: &Conv2d) {
    g.check();
    assert!(g.groups == g.c, "a depthwise convolution has a group per channel");
}

fn multiplier(g: &Conv2d) -> usize {
    g.co / g.groups
}

/// Windows and where their taps lie.
#[derive(Clone, Debug)]
struct Plan {
    windows: Windows,
    /// Per tap: where its channels lie in a window, and its weights in the filter.
    taps: Vec<(usize, usize)>,
    /// Of the filter and of the windows.
    channels: usize,
    /// Whether the taps are runs of three pixels side by side, and the windows next to one another.
    triples: bool,
}

impl Plan {
    fn new(windows: Windows, taps: &[Tap], channels: usize) -> Plan {
        let run =
            |t: &[Tap]| t.len() == 3 && t.windows(2).all(|w| w[0].dy == w[1].dy && w[0].dx + 1 == w[1].dx);
        let triples = windows.step.1 == 1 && taps.chunks(3).all(run);
        let taps = taps.iter().map(|tap| (windows.tap_offset(tap), tap.index * channels)).collect();
        Plan { windows, taps, channels, triples }
    }

    /// Rows of windows for one task: some tens of microseconds.
    fn rows_per_task(&self) -> usize {
        ((1 << 18) / (self.windows.cols * self.channels * self.taps.len()).max(1)).max(1)
    }
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
        let row_len = g.ow * g.co;
        if y.is_empty() {
            return;
        }
        let chunk = self.plan.rows_per_task();
        threads::run_chunks(y, chunk * row_len, |out, start| {
            let first = start / row_len;
            self.plan.windows.strip(x, first..first + out.len() / row_len, |strip| {
                for (i, out) in out.chunks_exact_mut(row_len).enumerate() {
                    let row = Row {
                        plan: &self.plan,
                        x: strip[i],
                        filter,
                        bias: ep.bias,
                        residual: ep.residual.map(|r| &r[start + i * row_len..][..row_len]),
                        bounds: ep.act.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
                    };
                    // SAFETY: a strip holds the windows of its rows; `out` is one row of pixels.
                    unsafe { row.run(self.isa, out.as_mut_ptr(), g.co) };
                    if ep.act.bounds().is_none() {
                        // SAFETY: `out` is one row.
                        unsafe { apply_tile(self.isa, ep.act, out.as_mut_ptr(), &[0], row_len) };
                    }
                }
            });
        });
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
            let rows = windows.all_rows();
            let chunk = plan.rows_per_task();
            threads::run(rows.div_ceil(chunk), |task| {
                let range = task * chunk..rows.min((task + 1) * chunk);
                windows.strip(dy, range.clone(), |strip| {
                    for (i, at) in range.enumerate() {
                        let y = at / windows.rows * g.h + ry + at % windows.rows * g.stride.0;
                        // SAFETY: rows of the lattice are whole rows of dx, each written by one task; phases
                        // run one after the other.
                        let out = unsafe { shared.slice(y * g.w * g.c, g.w * g.c) };
                        let row = Row {
                            plan,
                            x: strip[i],
                            filter,
                            bias: None,
                            residual: None,
                            bounds: (f32::NEG_INFINITY, f32::INFINITY),
                        };
                        if m == 1 {
                            // SAFETY: a strip holds the windows of its rows; the pixels from rx on, a stride
                            // apart, lie in the row.
                            unsafe { row.run(self.isa, out[rx * g.c..].as_mut_ptr(), g.stride.1 * g.c) };
                            continue;
                        }
                        scratch::with(windows.cols * g.co, |all: &mut [f32]| {
                            // SAFETY: as above, into one row of scratch.
                            unsafe { row.run(self.isa, all.as_mut_ptr(), g.co) };
                            for (pixel, all) in all.chunks_exact(g.co).enumerate() {
                                let out = &mut out[(rx + pixel * g.stride.1) * g.c..][..g.c];
                                for (out, all) in out.iter_mut().zip(all.chunks_exact(m)) {
                                    *out = all.iter().sum();
                                }
                            }
                        });
                    }
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
        let parts = rows.div_ceil(self.plan.rows_per_task()).min(MAX_PARTS);
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

/// One row of output pixels.
struct Row<'a> {
    plan: &'a Plan,
    /// The first window.
    x: *const f32,
    filter: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    bounds: (f32, f32),
}

impl Row<'_> {
    /// # Safety
    /// `x` has the windows of the row; `out` has all channels of each pixel, `out_stride` apart.
    unsafe fn run(&self, isa: Isa, out: *mut f32, out_stride: usize) {
        let row = self;
        dispatch!(isa, forward_row, (row: &Row, out: *mut f32, out_stride: usize));
    }
}

#[inline(always)]
fn forward_row<S: Simd>(s: S, row: &Row, out: *mut f32, out_stride: usize) {
    const PIXELS: usize = 4;
    let (cols, channels) = (row.plan.windows.cols, row.plan.channels);
    let many = cols >= PIXELS;
    for col in (0..cols).step_by(if many { PIXELS } else { 1 }) {
        // The last pixels overlap the ones before: the same sums once more cost less than single pixels.
        let col = if many { col.min(cols - PIXELS) } else { col };
        let mut c = 0;
        while c < channels {
            let n = channels - c;
            // SAFETY: the contract of [`Row::run`]; `n` channels from `c` on.
            unsafe {
                match (many, n >= 2 * S::LANES) {
                    (true, true) if row.plan.triples => {
                        pixels::<S, PIXELS, 2, 3>(s, row, col, c, 2 * S::LANES, out, out_stride)
                    }
                    (true, true) => pixels::<S, PIXELS, 2, 1>(s, row, col, c, 2 * S::LANES, out, out_stride),
                    (true, false) => pixels::<S, PIXELS, 1, 1>(s, row, col, c, n, out, out_stride),
                    (false, true) => pixels::<S, 1, 2, 1>(s, row, col, c, 2 * S::LANES, out, out_stride),
                    (false, false) => pixels::<S, 1, 1, 1>(s, row, col, c, n, out, out_stride),
                }
            }
            c += if n >= 2 * S::LANES { 2 * S::LANES } else { S::LANES };
        }
    }
}

/// Vector `v` of `n` channels, in part where it has fewer than `LANES`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, v: usize, n: usize) -> S::V {
    // SAFETY: the caller's n channels.
    unsafe { if n >= S::LANES { s.load(p.add(v * S::LANES)) } else { s.load_partial(p, n) } }
}

/// As [`load`].
#[inline(always)]
unsafe fn store<S: Simd>(s: S, p: *mut f32, v: usize, y: S::V, n: usize) {
    // SAFETY: the caller's n channels.
    unsafe { if n >= S::LANES { s.store(p.add(v * S::LANES), y) } else { s.store_partial(p, y, n) } }
}

/// `P` pixels by `V` vectors of channels from `c` on; one vector may hold as few as `n` channels. `K` taps
/// at a time, side by side, share the inputs they have in common.
#[inline(always)]
unsafe fn pixels<S: Simd, const P: usize, const V: usize, const K: usize>(
    s: S,
    row: &Row,
    col: usize,
    c: usize,
    n: usize,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the contract of [`Row::run`]; only vectors with all their channels are loaded whole.
    unsafe {
        let stride = row.plan.windows.pixel_stride();
        let x = row.x.add(col * stride + c);
        let mut acc = [[s.zero(); V]; P];
        for taps in row.plan.taps.chunks_exact(K) {
            let x = x.add(taps[0].0);
            let mut xs = [[s.zero(); V]; 8];
            for p in 0..P + K - 1 {
                for v in 0..V {
                    xs[p][v] = load(s, x.add(p * stride), v, n);
                }
            }
            for k in 0..K {
                for v in 0..V {
                    let w = load(s, row.filter.as_ptr().add(taps[k].1 + c), v, n);
                    for p in 0..P {
                        acc[p][v] = s.fma(xs[p + k][v], w, acc[p][v]);
                    }
                }
            }
        }
        let (low, high) = (s.splat(row.bounds.0), s.splat(row.bounds.1));
        for p in 0..P {
            for v in 0..V {
                let mut y = acc[p][v];
                if let Some(bias) = row.bias {
                    y = s.add(y, load(s, bias.as_ptr().add(c), v, n));
                }
                if let Some(residual) = row.residual {
                    let residual = residual.as_ptr().add((col + p) * row.plan.channels + c);
                    y = s.add(y, load(s, residual, v, n));
                }
                y = s.min_fast(high, s.max_fast(low, y));
                store(s, out.add((col + p) * out_stride + c), v, y, n);
            }
        }
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
                    let d = load(s, dy.as_ptr().add(col * channels + c), 0, n);
                    for i in 0..TAPS {
                        acc[i] = s.fma(load(s, xs[i].add(col * stride + c), 0, n), d, acc[i]);
                    }
                }
                for (i, &(_, weight)) in taps.iter().enumerate() {
                    let out = sum.as_mut_ptr().add(weight + c);
                    store(s, out, 0, s.add(load(s, out, 0, n), acc[i]), n);
                }
            }
            c += S::LANES;
        }
    }
}

#[cfg(test)]
mod tests;
