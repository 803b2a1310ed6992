//! A pointwise convolution and the depthwise convolution of its result, which is never whole in memory: the first
//! half of an inverted residual (Sandler et al. 2018, "MobileNetV2").
//!
//! A task takes some rows of the output and some channels. It expands the lines of pixels that those rows see into
//! scratch memory that stays in L2, with zeros left and right of each, and convolves them there. Neighbours expand the
//! lines on their border twice.

use super::{DepthwiseForward, multiplier};
use crate::conv::Conv2d;
use crate::epilogue::Epilogue;
use crate::gemm::tile::kernels;
use crate::gemm::{
    ASource, MatRef, Output, Panels, Rows, Step, k_block, multiply_block, pack_b, packed_b_len,
};
use crate::partition::part;
use crate::threads::{self, SharedMut};
use crate::{Isa, scratch};
use std::ops::Range;

/// The two convolutions, planned for one geometry.
#[derive(Clone, Debug)]
pub struct Expanded {
    isa: Isa,
    pointwise: Conv2d,
    depthwise: DepthwiseForward,
    /// Channels of a task.
    lanes: usize,
    /// The most output rows of a task.
    rows: usize,
}

/// Channels of one task at least: whole panels, and vectors enough to share the work on pointers.
const TASK_LANES: usize = 32;

/// Elements of expanded lines in scratch memory: they stay in L2.
const SCRATCH_LEN: usize = 96 << 10;

/// Output rows of one task at least, where rows are cut only to have more tasks.
const TASK_ROWS: usize = 8;

/// Pixels of one multiply, where a line has not more.
const BLOCK_PIXELS: usize = 196;

/// Pixels of zeros before a line, and those of the line with the zeros around it.
fn margins(g: &Conv2d) -> (usize, usize) {
    let seen = g.ow.saturating_sub(1) * g.stride.1 + (g.kw.max(1) - 1) * g.dilation.1 + 1;
    (g.pad.1, seen.max(g.pad.1 + g.w))
}

impl Expanded {
    /// Whether a pointwise and a depthwise convolution can be computed as one: each output channel of the first
    /// goes through one filter of the second.
    pub fn fits(pointwise: &Conv2d, depthwise: &Conv2d) -> bool {
        let (p, d) = (pointwise, depthwise);
        p.pointwise()
            && (p.n, p.oh, p.ow, p.co) == (d.n, d.h, d.w, d.c)
            && (d.groups, d.co) == (d.c, d.c)
            && k_block(p.c) >= p.c
    }

    /// Plans; panics unless the geometries [fit](Expanded::fits).
    pub fn new(isa: Isa, pointwise: &Conv2d, depthwise: &Conv2d) -> Self {
        assert!(
            Self::fits(pointwise, depthwise),
            "a pointwise convolution and a depthwise one of its result"
        );
        let depthwise = DepthwiseForward::new(isa, depthwise);
        let g = &depthwise.geometry;
        debug_assert_eq!(multiplier(g), 1);
        let lanes = TASK_LANES.next_multiple_of(kernels(isa).panel);
        let lines = SCRATCH_LEN / (margins(g).1 * lanes).max(1);
        let rows = lines.saturating_sub((g.kh - 1) * g.dilation.0 + 1) / g.stride.0 + 1;
        Expanded { isa, pointwise: *pointwise, lanes, rows, depthwise }
    }

    /// Elements of the packed pointwise filter.
    pub fn packed_len(&self) -> usize {
        packed_b_len(self.isa, self.pointwise.c, self.pointwise.co)
    }

    /// Packs the pointwise filter `[c, e]`; panics on other lengths.
    pub fn pack(&self, filter: &[f32], out: &mut [f32]) {
        pack_b(self.isa, MatRef::row_major(filter, self.pointwise.c, self.pointwise.co), out);
    }

    /// Computes `y` `[n, oh, ow, e]` from `x` `[n, h, w, c]`: `expand` follows the multiply by the packed pointwise
    /// filter and has no residual, `ep` follows the depthwise convolution by `filter` `[kh, kw, e, 1]`. Panics on other
    /// lengths.
    pub fn run(
        &self,
        x: &[f32],
        packed: &[f32],
        expand: &Epilogue,
        filter: &[f32],
        y: &mut [f32],
        ep: &Epilogue,
    ) {
        let g = &self.depthwise.geometry;
        assert_eq!(x.len(), self.pointwise.x_len(), "the input has n * h * w * c elements");
        assert_eq!(packed.len(), self.packed_len(), "the packed filter has packed_len elements");
        assert_eq!(filter.len(), g.filter_len(), "the filter has kh * kw * e elements");
        assert_eq!(y.len(), g.y_len(), "the output has n * oh * ow * e elements");
        assert!(expand.residual.is_none(), "nothing is added between the two convolutions");
        expand.check(g.c, 0);
        ep.check(g.co, y.len());
        if y.is_empty() {
            return;
        }
        let across = g.c.div_ceil(self.lanes);
        let threads = threads::num_threads();
        // Whole images or rows stay with the threads that wrote them.
        let unit = if g.n.is_multiple_of(threads) { 1 } else { threads };
        let want = (4 * threads).div_ceil(g.n * across).min(g.oh.div_ceil(TASK_ROWS));
        let down = want.max(g.oh.div_ceil(self.rows)).next_multiple_of(unit).min(g.oh);
        let out = SharedMut::new(y);
        threads::run(g.n * down * across, |task| {
            let (image, block, lane) =
                (task / across / down, task / across % down, task % across * self.lanes);
            let rows = part(0..g.oh, down, block);
            let channels = lane..g.c.min(lane + self.lanes);
            self.part(x, packed, expand, filter, &out, ep, image, rows, channels);
        });
    }

    /// Some rows of an image and some channels.
    fn part(
        &self,
        x: &[f32],
        packed: &[f32],
        expand: &Epilogue,
        filter: &[f32],
        y: &SharedMut<f32>,
        ep: &Epilogue,
        image: usize,
        rows: Range<usize>,
        channels: Range<usize>,
    ) {
        let DepthwiseForward { geometry: g, plan, .. } = &self.depthwise;
        let (lanes, (left, width)) = (channels.len(), margins(g));
        // The lines that the rows see.
        let first = (rows.start * g.stride.0).saturating_sub(g.pad.0).min(g.h);
        let below = (rows.end - 1) * g.stride.0 + (g.kh.max(1) - 1) * g.dilation.0 + 1;
        let lines = first..below.saturating_sub(g.pad.0).clamp(first, g.h);
        scratch::with(lines.len() * width * lanes, |expanded: &mut [f32]| {
            self.expand(x, packed, expand, (image * g.h + first) * g.w, &channels, expanded);
            let line = |y: usize| {
                // As if the line had all channels before this task's.
                expanded.as_ptr().wrapping_add((y - first) * width * lanes).wrapping_sub(channels.start)
            };
            plan.with_lines(|found| {
                for row in rows {
                    let source = plan.source(found, row * g.stride.0, left, width, lanes, line);
                    self.depthwise.row(&source, filter, y, ep, image * g.oh + row, &channels);
                }
            });
        });
    }

    /// The lines of pixels from `first` on, expanded to some channels.
    fn expand(
        &self,
        x: &[f32],
        packed: &[f32],
        ep: &Epilogue,
        first: usize,
        channels: &Range<usize>,
        out: &mut [f32],
    ) {
        let (c, e, lanes) = (self.pointwise.c, self.pointwise.co, channels.len());
        let (w, (left, width)) = (self.pointwise.w, margins(&self.depthwise.geometry));
        for line in out.chunks_exact_mut(width * lanes) {
            line[..left * lanes].fill(0.0);
            line[(left + w) * lanes..].fill(0.0);
        }
        let kernels = kernels(self.isa);
        let panels = Panels::packed(self.isa, packed, c, e);
        let columns = channels.start / kernels.panel..channels.end.div_ceil(kernels.panel);
        let lines = (BLOCK_PIXELS / w.max(1)).max(1);
        scratch::with(lines * w, |offsets: &mut [usize]| {
            for (i, offset) in offsets.iter_mut().enumerate() {
                *offset = (i / w * width + left + i % w) * lanes;
            }
            let mut pixel = first;
            for out in out.chunks_mut(lines * width * lanes) {
                let count = out.len() / (width * lanes) * w;
                let mut target = Output::new(out, e, false, ep);
                // As if the block had all channels before this task's.
                target.c = target.c.wrapping_sub(channels.start);
                let start = x[pixel * c..].as_ptr();
                let source = ASource::Lines { starts: &[start], segs: 1, seg0: 0, off: 0, stride: c };
                let rows = Rows { offsets: &offsets[..count], lines: 1, tiles: count.div_ceil(kernels.rows) };
                let step = Step { k0: 0, segs: 1, len: c, first: true, last: true };
                // SAFETY: `count` pixels of `c` elements each lie in x from `pixel` on; their offsets lie in `out`,
                // with room for the panels' columns, and it is this task's.
                unsafe {
                    multiply_block(self.isa, &source, rows, &panels, step, columns.clone(), &target, None)
                };
                pixel += count;
            }
        });
    }
}
