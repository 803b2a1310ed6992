//! A depthwise convolution in one with the convolution before it, with the pointwise one after it, or with both: what
//! lies between them is never whole in memory. Inverted residuals (Sandler et al. 2018, "MobileNetV2"), separable
//! convolutions and the first layers of such networks.
//!
//! A task goes down some rows of the result, a few at a time. What they see of the first convolution is computed some
//! channels at a time into a ring of lines, with zeros left and right of each, and convolved while it is in L1; when
//! all channels are there, the last convolution follows. Only the lines on the border of two tasks are computed twice.

use super::{DepthwiseForward, multiplier};
use crate::conv::{Conv2d, Indirect, Lattice, window::Image};
use crate::epilogue::Epilogue;
use crate::gemm::{ASource, Cut, MatRef, Output, Packing, Rows, Step, k_block, multiply_block};
use crate::partition::{parts, stretches};
use crate::threads::{self, SharedMut};
use crate::{Isa, scratch};
use std::ops::Range;

/// Two or three convolutions, planned for their geometries.
#[derive(Clone, Debug)]
pub struct Joined {
    isa: Isa,
    before: Option<Before>,
    depthwise: DepthwiseForward,
    /// Pointwise.
    after: Option<Conv2d>,
    /// Panels of channels that the first convolution computes at a time, and as many channels at least.
    panels: usize,
    lanes: usize,
    /// Rows of the depthwise convolution that some channels go down at a time, and those that all have gone down before
    /// the last convolution follows.
    rows: usize,
    strip: usize,
    ring: Ring,
    /// Where each pixel of a strip lies in the result, without the division that would take.
    places: Vec<usize>,
}

/// The first convolution.
#[derive(Clone, Debug)]
struct Before {
    geometry: Conv2d,
    /// Where it is not pointwise: the multiply that writes its lines with their margins.
    windows: Option<Indirect>,
}

/// What one of the convolutions computes with.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Packed, but for the depthwise one.
    pub filter: &'a [f32],
    /// What follows each sum; only the last convolution may have a residual.
    pub epilogue: Epilogue<'a>,
}

/// The operands of one call.
struct Operands<'a> {
    x: &'a [f32],
    before: Option<Stage<'a>>,
    depthwise: Stage<'a>,
    after: Option<Stage<'a>>,
    y: SharedMut<'a, f32>,
}

/// Elements of a ring of lines, which stay in L2 beside those of [`MIDDLE_LEN`]; the more channels at a time, the less is
/// done for each tile of pixels.
const RING_LEN: usize = 56 << 10;

/// Channels of a first convolution that is not pointwise at most: it computes all of them at a time.
pub(super) const MOST_WINDOW_CHANNELS: usize = 64;

/// Pixels at a time, where a row has not more.
const PIXELS: usize = 112;

/// Elements between the depthwise convolution and the last one, which stay in L2.
const MIDDLE_LEN: usize = 64 << 10;

/// Rows of one task at least, where rows are cut only to have more tasks.
const TASK_ROWS: usize = 14;

/// Pixels of zeros before a line, and those of the line with the zeros around it.
fn margins(g: &Conv2d) -> (usize, usize) {
    let seen = g.ow.saturating_sub(1) * g.stride.1 + (g.kw.max(1) - 1) * g.dilation.1 + 1;
    (g.pad.1, seen.max(g.pad.1 + g.w))
}

/// Lines from the first to the last that a row sees.
fn extent(g: &Conv2d) -> usize {
    (g.kh.max(1) - 1) * g.dilation.0 + 1
}

impl Joined {
    /// Whether these can be computed as one: each output channel of the first goes through one filter of the depthwise
    /// one, and the last is pointwise.
    pub fn fits(before: Option<&Conv2d>, depthwise: &Conv2d, after: Option<&Conv2d>) -> bool {
        let d = depthwise;
        let first = |g: &Conv2d| {
            let k = g.kh * g.kw * g.c;
            (g.n, g.oh, g.ow, g.co, g.groups) == (d.n, d.h, d.w, d.c, 1)
                && k > 0
                && k_block(k) >= k
                && (g.pointwise() || g.co <= MOST_WINDOW_CHANNELS)
        };
        let last = |g: &Conv2d| {
            g.pointwise() && (g.n, g.h, g.w, g.c) == (d.n, d.oh, d.ow, d.co) && k_block(g.c) >= g.c
        };
        (d.groups, d.co) == (d.c, d.c)
            && d.c > 0
            && (before.is_some() || after.is_some())
            && before.is_none_or(first)
            && after.is_none_or(last)
    }

    /// Plans; panics unless the geometries [fit](Joined::fits).
    pub fn new(isa: Isa, before: Option<&Conv2d>, depthwise: &Conv2d, after: Option<&Conv2d>) -> Self {
        assert!(Self::fits(before, depthwise, after), "a depthwise convolution and its neighbours");
        let depthwise = DepthwiseForward::new(isa, depthwise);
        let g = &depthwise.geometry;
        debug_assert_eq!(multiplier(g), 1);
        let windows = |b: &Conv2d| {
            let image = Image { n: b.n, h: b.h, w: b.w, c: b.c };
            let (left, width) = margins(g);
            let lattice =
                Lattice { rows: b.oh, cols: b.ow, first: (0, left), step: (1, 1), image: (b.oh, width) };
            Indirect::new(isa, image, b.taps(), b.stride, 1, lattice, b.co, false)
        };
        let before = before.map(|b| Before { geometry: *b, windows: (!b.pointwise()).then(|| windows(b)) });
        let at_once = before.as_ref().is_none_or(|b| b.windows.is_some());
        let cut = Cut::new(isa, 0, g.c);
        let rows = (PIXELS / g.ow.max(1)).clamp(1, g.oh.max(1));
        let lines = if before.is_some() { (rows - 1) * g.stride.0 + extent(g) } else { 0 };
        let most =
            if at_once { cut.panels() } else { RING_LEN / (lines * margins(g).1 * cut.widest()).max(1) };
        // As many each time.
        let panels = cut.panels().div_ceil(cut.panels().div_ceil(most.max(1)));
        let lanes = if at_once { g.c } else { panels * cut.widest() };
        let strip = if after.is_some() { MIDDLE_LEN / (g.ow * g.c).max(1) } else { g.oh };
        let strip = strip.clamp(rows, g.oh.max(rows));
        let ring = Ring::new(g, lines, lanes);
        let places = after.map_or_else(Vec::new, |after| (0..strip * g.ow).map(|i| i * after.co).collect());
        Joined { isa, before, panels, lanes, rows, strip, ring, places, after: after.copied(), depthwise }
    }

    /// How the filter of the first or of the last convolution is packed: as for any number of pixels.
    fn packing(&self, g: &Conv2d) -> Packing {
        Packing::new(self.isa, 0, g.kh * g.kw * g.c, g.co)
    }

    /// As [`ConvForward::layout`](crate::conv::ConvForward::layout), of the first and of the last filter.
    pub fn layout(&self) -> u64 {
        self.packing(&self.depthwise.geometry).layout()
    }

    /// Elements of the packed filters of the first and of the last convolution; zero for one that is not there.
    pub fn packed_len(&self) -> (usize, usize) {
        let len = |g: &Conv2d| self.packing(g).packed_len();
        (self.before.as_ref().map_or(0, |b| len(&b.geometry)), self.after.as_ref().map_or(0, len))
    }

    /// Packs the filter `[kh, kw, c, e]` of the first convolution; panics on other lengths.
    pub fn pack_before(&self, filter: &[f32], out: &mut [f32]) {
        self.pack(self.before.as_ref().map(|b| &b.geometry), filter, out);
    }

    /// Packs the filter `[1, 1, e, co]` of the last convolution; panics on other lengths.
    pub fn pack_after(&self, filter: &[f32], out: &mut [f32]) {
        self.pack(self.after.as_ref(), filter, out);
    }

    fn pack(&self, g: Option<&Conv2d>, filter: &[f32], out: &mut [f32]) {
        let g = g.expect("only a convolution that is there has a filter");
        assert_eq!(filter.len(), g.filter_len(), "the filter has kh * kw * c * co elements");
        self.packing(g).pack(MatRef::row_major(filter, g.kh * g.kw * g.c, g.co), out);
    }

    /// Computes `y`, the last convolution's `[n, oh, ow, co]`, from `x`, the first one's `[n, h, w, c]`. Panics on other
    /// lengths, on other stages than were planned, and where any but the last has a residual.
    pub fn run(
        &self,
        x: &[f32],
        before: Option<Stage>,
        depthwise: Stage,
        after: Option<Stage>,
        y: &mut [f32],
    ) {
        let g = &self.depthwise.geometry;
        let (first, last) = (self.before.as_ref().map(|b| &b.geometry), self.after.as_ref());
        assert_eq!(x.len(), first.unwrap_or(g).x_len(), "the input has n * h * w * c elements");
        assert_eq!(y.len(), last.unwrap_or(g).y_len(), "the output has n * oh * ow * co elements");
        assert_eq!((before.is_some(), after.is_some()), (first.is_some(), last.is_some()), "as planned");
        let (len_before, len_after) = self.packed_len();
        assert_eq!(before.map_or(0, |s| s.filter.len()), len_before, "the first filter is packed");
        assert_eq!(depthwise.filter.len(), g.filter_len(), "the depthwise filter has kh * kw * e elements");
        assert_eq!(after.map_or(0, |s| s.filter.len()), len_after, "the last filter is packed");
        for (stage, geometry, is_last) in
            [(before, first, false), (Some(depthwise), Some(g), last.is_none()), (after, last, true)]
        {
            if let (Some(Stage { epilogue, .. }), Some(geometry)) = (stage, geometry) {
                assert!(is_last || !epilogue.has_residual(), "nothing is added between convolutions");
                assert!(!epilogue.onto, "a residual has memory of its own");
                epilogue.check(geometry.co, y.len());
            }
        }
        if y.is_empty() {
            return;
        }
        // Channels are cut where each goes its own way to the end.
        let apart = self.after.is_none() && self.chunks() > 1;
        let across = if apart { self.chunks() } else { 1 };
        let threads = threads::num_threads();
        // Whole images or rows stay with the threads that wrote them.
        let unit = if g.n.is_multiple_of(threads) { 1 } else { threads };
        let want = (4 * threads).div_ceil(g.n * across).min(g.oh / TASK_ROWS).max(1);
        let down = want.next_multiple_of(unit).min(g.oh);
        let operands = Operands { x, before, depthwise, after, y: SharedMut::new(y) };
        threads::run_ranges(g.n * down * across, |some| {
            for (some_blocks, some_chunks) in stretches(across, some) {
                let chunks = if apart { some_chunks } else { 0..self.chunks() };
                for (images, blocks) in stretches(down, some_blocks) {
                    for image in images {
                        self.part(&operands, image, parts(0..g.oh, down, blocks.clone()), chunks.clone());
                    }
                }
            }
        });
    }

    /// How the channels in between are cut into panels.
    fn cut(&self) -> Cut {
        Cut::new(self.isa, 0, self.depthwise.geometry.c)
    }

    /// How many times some channels are computed.
    fn chunks(&self) -> usize {
        self.cut().panels().div_ceil(self.panels)
    }

    /// The panels of one of them.
    fn panels(&self, chunk: usize) -> Range<usize> {
        chunk * self.panels..self.cut().panels().min((chunk + 1) * self.panels)
    }

    /// The lines of the depthwise convolution's input that some of its rows see.
    fn lines(&self, rows: Range<usize>) -> Range<usize> {
        let g = &self.depthwise.geometry;
        let first = (rows.start * g.stride.0).saturating_sub(g.pad.0).min(g.h);
        let below = (rows.end - 1) * g.stride.0 + extent(g);
        first..below.saturating_sub(g.pad.0).clamp(first, g.h)
    }

    /// Some rows of an image and some chunks of the channels of the depthwise convolution.
    fn part(&self, operands: &Operands, image: usize, rows: Range<usize>, chunks: Range<usize>) {
        let (g, ring) = (&self.depthwise.geometry, &self.ring);
        let middle_len = if self.after.is_some() { self.strip.min(rows.len()) * g.ow * g.c } else { 0 };
        scratch::with(chunks.len() * ring.len() + middle_len, |room: &mut [f32]| {
            let (rings, middle) = room.split_at_mut(chunks.len() * ring.len());
            ring.clear_margins(rings);
            let target = SharedMut::new(middle);
            // Lines before this one are in the rings.
            let mut done = 0;
            for start in rows.clone().step_by(self.strip) {
                let strip = start..rows.end.min(start + self.strip);
                let (out, at) = match self.after {
                    Some(_) => (&target, 0),
                    None => (&operands.y, image * g.oh + start),
                };
                for (i, chunk) in chunks.clone().enumerate() {
                    let lines = &mut rings[i * ring.len()..][..ring.len()];
                    self.convolve(operands, image, strip.clone(), chunk, done, lines, (out, at));
                }
                done = self.lines(strip.clone()).end;
                if let (Some(after), Some(stage)) = (&self.after, &operands.after) {
                    // SAFETY: nothing writes the middle meanwhile.
                    let middle = unsafe { target.slice(0, strip.len() * g.ow * g.c) };
                    self.project(after, middle, stage, &operands.y, image * g.oh + start);
                }
            }
        });
    }

    /// A chunk of the channels of a strip of rows, through the first convolution, where there is one, and the depthwise
    /// one: to row `at` of `out` and those that follow. Lines before `done` are in the ring.
    fn convolve(
        &self,
        operands: &Operands,
        image: usize,
        strip: Range<usize>,
        chunk: usize,
        mut done: usize,
        ring: &mut [f32],
        (out, at): (&SharedMut<f32>, usize),
    ) {
        let DepthwiseForward { geometry: g, plan, .. } = &self.depthwise;
        let Stage { filter, epilogue } = operands.depthwise;
        let (left, width) = margins(g);
        let panels = self.panels(chunk);
        let channels = self.cut().columns(panels.clone());
        for first in strip.clone().step_by(self.rows) {
            let group = first..strip.end.min(first + self.rows);
            let seen = self.lines(group.clone());
            let fresh = seen.start.max(done)..seen.end;
            done = seen.end;
            if let (Some(before), Some(stage)) = (&self.before, &operands.before) {
                self.expand(before, operands.x, stage, image, fresh, (&panels, &channels), ring);
            }
            plan.with_lines(|found| {
                for row in group {
                    let top = row * g.stride.0;
                    let source = if self.before.is_some() {
                        // As if each pixel had all channels before these.
                        let lines = ring.as_ptr().wrapping_sub(channels.start);
                        let line = |y: usize| lines.wrapping_add(self.ring.slot(y) * self.ring.line);
                        plan.source(found, top, left, width, self.lanes, line)
                    } else {
                        let image = operands.x.as_ptr().wrapping_add(image * g.h * g.w * g.c);
                        let line = |y: usize| image.wrapping_add(y * g.w * g.c);
                        plan.source(found, top, 0, g.w, g.c, line)
                    };
                    self.depthwise.row(&source, filter, out, &epilogue, at + row - strip.start, &channels);
                }
            });
        }
    }

    /// Lines of an image through the first convolution, some panels of its channels.
    fn expand(
        &self,
        before: &Before,
        x: &[f32],
        stage: &Stage,
        image: usize,
        lines: Range<usize>,
        (panels, channels): (&Range<usize>, &Range<usize>),
        out: &mut [f32],
    ) {
        let (g, ring) = (&before.geometry, &self.ring);
        let mut next = lines.start;
        while next < lines.end {
            // As many as lie one after the other in the ring.
            let (slot, first) = (ring.slot(next), image * g.oh + next);
            let count = (lines.end - next).min(ring.lines - slot);
            let out = &mut out[slot * ring.line..][..count * ring.line];
            let mut target = Output::new(out, g.co, false, &stage.epilogue);
            if let Some(windows) = &before.windows {
                // As if the lines of all images before were there too.
                target.c = target.c.wrapping_sub(first * ring.line);
                windows.block(
                    x,
                    stage.filter,
                    &target,
                    first..first + count,
                    &mut std::iter::once(panels.clone()),
                );
            } else {
                target.c = target.c.wrapping_sub(channels.start);
                let pixels = &x[first * g.w * g.c..][..count * g.w * g.c];
                let places = &ring.places[..count * g.w];
                // SAFETY: the line's pixels lie in `out`, between its margins, with room for the channels.
                unsafe { self.multiply(pixels, g, stage.filter, places, panels.clone(), &target) };
            }
            next += count;
        }
    }

    /// Rows of the middle through the last convolution, from output row `first` on, counted through the batch.
    fn project(&self, g: &Conv2d, middle: &[f32], stage: &Stage, y: &SharedMut<f32>, first: usize) {
        let (start, len) = (first * g.w * g.co, middle.len() / g.c * g.co);
        // SAFETY: rows of the output are this task's.
        let out = unsafe { y.slice(start, len) };
        let target = Output::new(out, g.co, false, &stage.epilogue.part(start, len));
        let panels = 0..self.packing(g).count();
        // SAFETY: a pixel of the output for each of the middle.
        unsafe {
            self.multiply(middle, g, stage.filter, &self.places[..middle.len() / g.c], panels, &target)
        };
    }

    /// Pixels through a pointwise convolution, some panels of its channels, which go to a place for each pixel.
    ///
    /// # Safety
    /// They lie in the output, and nothing else touches them meanwhile.
    unsafe fn multiply(
        &self,
        x: &[f32],
        g: &Conv2d,
        packed: &[f32],
        places: &[usize],
        panels: Range<usize>,
        out: &Output,
    ) {
        debug_assert_eq!(x.len(), places.len() * g.c);
        let source = ASource::Lines { starts: &[x.as_ptr()], segs: 1, seg0: 0, off: 0, stride: g.c };
        let rows = Rows { offsets: places, lines: 1 };
        let step = Step { k0: 0, segs: 1, len: g.c, first: true, last: true };
        let b = self.packing(g).panels(packed);
        // SAFETY: x has `c` elements for each pixel; the caller's contract.
        unsafe { multiply_block(self.isa, &source, rows, &b, step, panels, out, None) };
    }
}

/// Where the lines of some channels lie in scratch memory: a line takes the place of one that no row sees any more.
#[derive(Clone, Debug)]
struct Ring {
    lines: usize,
    /// Elements of a line, those before its first pixel, and those of its pixels.
    line: usize,
    left: usize,
    pixels: usize,
    /// Where each pixel of all lines lies.
    places: Vec<usize>,
}

impl Ring {
    /// For lines of the input of a depthwise convolution.
    fn new(g: &Conv2d, lines: usize, lanes: usize) -> Ring {
        let (left, width) = margins(g);
        let (line, left) = (width * lanes, left * lanes);
        let place = |i: usize| i / g.w * line + left + i % g.w * lanes;
        Ring { lines, line, left, pixels: g.w * lanes, places: (0..lines * g.w).map(place).collect() }
    }

    fn len(&self) -> usize {
        self.lines * self.line
    }

    fn slot(&self, y: usize) -> usize {
        y % self.lines
    }

    fn clear_margins(&self, rings: &mut [f32]) {
        for line in rings.chunks_exact_mut(self.line) {
            line[..self.left].fill(0.0);
            line[self.left + self.pixels..].fill(0.0);
        }
    }
}
