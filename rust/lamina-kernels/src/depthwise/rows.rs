//! Rows of output pixels, vectorised over channels, several pixels in registers at a time.
//!
//! A tile of pixels reads each input of a line of taps once and uses it for every tap that sees it. Images are
//! read where they lie: lines outside are left out, and where a tile hangs over the left or right border a row of zeros
//! stands for the pixels that are not there. How far is known of a tile with all its outputs, whose taps hang over by half of
//! a line at most; others have a table of pointers.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use crate::conv::window::{Tap, Windows};
use crate::partition::{cuts, parts, stretches};
use crate::simd::Simd;
use crate::{Isa, dispatch, scratch, threads};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Windows and where their taps lie.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub windows: Windows,
    /// Per tap: where its channels lie in a window of a strip, and its weights in the filter.
    pub taps: Vec<(usize, usize)>,
    /// The taps, cut into lines of `width` that lie side by side in the image.
    lines: Vec<Line>,
    width: usize,
    /// Of the filter and of the windows.
    pub channels: usize,
    /// What stands for a pixel outside the image.
    zeros: Vec<f32>,
}

/// Taps side by side in one line of the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Where the first looks.
    dy: isize,
    dx: isize,
    /// The weights of the first in the filter, and from one to the next.
    weights: usize,
    step: isize,
}

/// Multiplications of one task: a few microseconds.
const TASK_WORK: usize = 1 << 16;

/// Rows of each thread at least, where there are channels to cut instead: a task reads some lines that its
/// neighbours read too.
const TASK_ROWS: usize = 4;

/// Channels of one task at least.
const TASK_CHANNELS: usize = 64;

/// What the lines of a window and of the result may take of L1.
const L1_BYTES: usize = 32 << 10;

/// Pixels of the widest tile.
const MAX_PIXELS: usize = 7;

impl Plan {
    pub fn new(windows: Windows, taps: &[Tap], channels: usize) -> Plan {
        let step = |t: &[Tap]| if t.len() > 1 { t[1].index as isize - t[0].index as isize } else { 0 };
        let side_by_side = |t: &[Tap]| {
            let next = |w: &[Tap]| w[0].dy == w[1].dy && w[0].dx + 1 == w[1].dx && step(w) == step(t);
            t.windows(2).all(next)
        };
        let fits = |width: &usize| {
            windows.step.1 <= 2 && taps.len().is_multiple_of(*width) && taps.chunks(*width).all(side_by_side)
        };
        let width = [5, 3].into_iter().find(fits).unwrap_or(1);
        let line = |t: &[Tap]| Line {
            dy: t[0].dy,
            dx: t[0].dx,
            weights: t[0].index * channels,
            step: step(t) * channels as isize,
        };
        Plan {
            lines: taps.chunks(width).map(line).collect(),
            taps: taps.iter().map(|tap| (windows.tap_offset(tap), tap.index * channels)).collect(),
            windows,
            width,
            channels,
            zeros: vec![0.0; channels],
        }
    }

    /// Multiplications of one row of windows.
    pub fn row_work(&self) -> usize {
        self.windows.cols * self.channels * self.taps.len()
    }

    /// Calls `body` with ranges of rows and channels that cover all, in parallel; `unit` channels stay together.
    pub fn each_part(&self, unit: usize, body: impl Fn(Range<usize>, Range<usize>) + Sync) {
        let (rows, channels) = (self.windows.all_rows(), self.channels);
        if rows * channels == 0 {
            return;
        }
        let threads = threads::num_threads();
        let want = (rows * self.row_work() / TASK_WORK).clamp(1, 4 * threads);
        // As many for each thread; what is small stays with the caller.
        let want = if want > 1 { want.next_multiple_of(threads) } else { 1 };
        // By rows, which stay with the threads that wrote them, or by channels, as the multiply before does with so few.
        let few = self.windows.image.n * self.windows.image.h < TASK_ROWS * threads;
        let units = channels.div_ceil(16 * unit);
        let across = if few { want.min(channels / TASK_CHANNELS).min(units).max(1) } else { 1 };
        let down = want.div_ceil(across).min(rows);
        threads::run_ranges(down * across, |some| {
            for (some_rows, columns) in stretches(across, some) {
                let units = parts(0..units, across, columns);
                let lane = |i: usize| channels.min(i * 16 * unit);
                let rows = parts(0..rows, down, some_rows);
                // So many channels at a time that the lines of a window stay in L1 from row to row.
                let blocks =
                    if rows.len() > 1 { self.blocks(units.len() * 16 * unit).min(units.len()) } else { 1 };
                for units in cuts(units, blocks) {
                    body(rows.clone(), lane(units.start)..lane(units.end));
                }
            }
        });
    }

    /// Blocks that so many channels are cut into.
    fn blocks(&self, channels: usize) -> usize {
        if self.windows.repeats() {
            return 1; // lines are copied, all channels at a time
        }
        let lines = self.lines.len() + 1;
        let blocks = (lines * self.windows.image.w * channels * size_of::<f32>()).div_ceil(L1_BYTES);
        blocks.min(channels / TASK_CHANNELS).max(1)
    }

    /// Calls `body` with every row of windows in `range` in turn.
    pub fn each_row(&self, x: &[f32], range: Range<usize>, mut body: impl FnMut(usize, &Source)) {
        let windows = &self.windows;
        self.with_lines(|lines| {
            if windows.repeats() {
                return windows.strip(x, range.clone(), |strip| {
                    for (at, start) in range.zip(strip) {
                        for (out, line) in lines.iter_mut().zip(&self.lines) {
                            let (down, dx) = windows.in_strip(line.dy, line.dx);
                            out.write((start.wrapping_add(down), Line { dx, ..*line }));
                        }
                        // SAFETY: all were just written.
                        let lines = unsafe { scratch::written(lines) };
                        body(at, &Source { lines, width: windows.strip_width(), pixel: windows.channels() });
                    }
                });
            }
            let image = windows.image;
            for at in range {
                let (n, top) = (at / windows.rows, at % windows.rows * windows.step.0);
                let line = |y| x.as_ptr().wrapping_add((n * image.h + y) * image.w * image.c);
                body(at, &self.source(lines, top, 0, image.w, image.c, line));
            }
        });
    }

    /// Room for the lines of [`Plan::source`].
    pub fn with_lines<R>(&self, body: impl FnOnce(&mut [MaybeUninit<(*const f32, Line)>]) -> R) -> R {
        scratch::with_uninit(self.lines.len(), body)
    }

    /// What the windows read whose tap `(0, 0)` is on line `top`: of the lines in the image, which `start` finds,
    /// `width` pixels of `pixel` elements each, `left` of them before the image.
    pub fn source<'a>(
        &self,
        lines: &'a mut [MaybeUninit<(*const f32, Line)>],
        top: usize,
        left: usize,
        width: usize,
        pixel: usize,
        start: impl Fn(usize) -> *const f32,
    ) -> Source<'a> {
        let mut count = 0;
        for line in &self.lines {
            let y = top as isize + line.dy;
            // Lines outside the image add nothing.
            if (0..self.windows.image.h as isize).contains(&y) {
                lines[count].write((start(y as usize), Line { dx: line.dx + left as isize, ..*line }));
                count += 1;
            }
        }
        // SAFETY: so many were just written.
        Source { lines: unsafe { scratch::written(&lines[..count]) }, width, pixel }
    }
}

/// What one row of windows reads.
pub(super) struct Source<'a> {
    /// The lines of taps that lie in the image, each with the start of the line of pixels it looks at.
    lines: &'a [(*const f32, Line)],
    /// Pixels of a line, and elements from one to the next.
    width: usize,
    pixel: usize,
}

/// Pointers to the inputs of a tile.
type Table = [MaybeUninit<*const f32>];

/// Pointers of a table that is on the stack: five lines of five taps.
const SMALL_TABLE: usize = 5 * ((MAX_PIXELS - 1) * 2 + 5);

/// One row of output pixels.
pub(super) struct Row<'a> {
    pub plan: &'a Plan,
    pub source: &'a Source<'a>,
    pub filter: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// The row's, with all its channels.
    pub residual: Option<&'a [f32]>,
    pub bounds: (f32, f32),
    pub channels: Range<usize>,
}

impl Row<'_> {
    /// # Safety
    /// The source has the windows of the row; `out` has all channels of each pixel, `out_stride` apart, and no
    /// other thread touches those in the row's range.
    pub unsafe fn run(&self, isa: Isa, out: *mut f32, out_stride: usize) {
        let (row, lines) = (self, self.source.lines.len());
        let inputs = (MAX_PIXELS - 1) * 2 + self.plan.width;
        let run = |table: &mut Table| {
            dispatch!(isa, run_row, (row: &Row, table: &mut Table, out: *mut f32, out_stride: usize));
        };
        let mut table = [MaybeUninit::uninit(); SMALL_TABLE];
        match table.get_mut(..lines * inputs) {
            Some(table) => run(table),
            None => scratch::with_uninit(lines * inputs, run),
        }
    }
}

#[inline(always)]
fn run_row<S: Simd>(s: S, row: &Row, table: &mut Table, out: *mut f32, out_stride: usize) {
    match (row.plan.width, row.plan.windows.step.1) {
        (3, 1) => pixels::<S, 3, 1>(s, row, table, out, out_stride),
        (3, 2) => pixels::<S, 3, 2>(s, row, table, out, out_stride),
        (5, 1) => pixels::<S, 5, 1>(s, row, table, out, out_stride),
        (5, 2) => pixels::<S, 5, 2>(s, row, table, out, out_stride),
        // Taps on their own share nothing, whatever the step.
        (_, _) => pixels::<S, 1, 1>(s, row, table, out, out_stride),
    }
}

#[inline(always)]
fn pixels<S: Simd, const K: usize, const STEP: usize>(
    s: S,
    row: &Row,
    table: &mut Table,
    out: *mut f32,
    out_stride: usize,
) {
    if S::REGISTERS >= 32 {
        tiles::<S, MAX_PIXELS, K, STEP>(s, row, table, out, out_stride)
    } else {
        tiles::<S, 4, K, STEP>(s, row, table, out, out_stride)
    }
}

/// A row in tiles of `P` pixels.
#[inline(always)]
fn tiles<S: Simd, const P: usize, const K: usize, const STEP: usize>(
    s: S,
    row: &Row,
    table: &mut Table,
    out: *mut f32,
    out_stride: usize,
) {
    let Source { lines, width, pixel } = *row.source;
    let (cols, step) = (row.plan.windows.cols, row.plan.windows.step.1);
    // Inputs of a line, and pixels between them.
    let (inputs, gap) = ((P - 1) * STEP + K, if K == 1 { step } else { 1 });
    let stride = gap * pixel;
    // Whether all lines hang over alike.
    let alike = lines.iter().all(|(_, line)| line.dx == lines[0].1.dx);
    let mut col = 0;
    while col < cols {
        let first = |line: &Line| (col * step) as isize + line.dx;
        // Inputs left of the image, and those left of its end.
        let inside = |line: &Line| {
            let before = |end: isize| ((end - first(line)).max(0) as usize).div_ceil(gap).min(inputs);
            (before(0), before(width as isize))
        };
        let (left, end) = lines.first().map_or((0, inputs), |(_, line)| inside(line));
        let right = inputs - end;
        let at = |start: *const f32, x: isize| start.wrapping_offset(x * pixel as isize);
        let table_ptr = table.as_ptr().cast();
        let live = P.min(cols - col);
        let mut tile = Tile { row, table: table_ptr, live, stride, left, right, count: 1 };
        // SAFETY: the table's pointers lie in their lines or are zeros, and each line has the taps' weights;
        // the contract of [`Row::run`].
        unsafe {
            let out = out.add(col * out_stride);
            let residual = row.residual.map(|r| r.as_ptr().add(col * row.plan.channels));
            // In steps of two the many inputs would not stay in registers beside what tells them apart.
            let most = if STEP == 1 { K / 2 } else { 0 };
            if alike && col + P <= cols && left.max(right) <= most {
                for (entry, (start, line)) in table.iter_mut().zip(lines) {
                    entry.write(at(*start, first(line)));
                }
                if left + right == 0 {
                    // Those that follow, while the last input of a line is there.
                    let room =
                        |(_, line): &(_, Line)| width - 1 - (first(line) as usize + (inputs - 1) * gap);
                    let more = lines.first().map_or(0, room) / (P * step);
                    tile.count = (1 + more).min((cols - col) / P);
                    tile.run::<S, P, K, STEP, WHOLE>(s, residual, out, out_stride);
                } else {
                    tile.run::<S, P, K, STEP, BORDER>(s, residual, out, out_stride);
                }
            } else {
                for (entries, (start, line)) in table.chunks_exact_mut(inputs).zip(lines) {
                    let (left, end) = inside(line);
                    entries.fill(MaybeUninit::new(row.plan.zeros.as_ptr()));
                    let mut x = at(*start, first(line) + (left * gap) as isize);
                    for entry in &mut entries[left..end] {
                        entry.write(x);
                        x = x.wrapping_add(stride);
                    }
                }
                tile.run::<S, P, K, STEP, TABLE>(s, residual, out, out_stride);
            }
        }
        col += tile.count * P;
    }
}

/// Tiles whose inputs are all there; with all outputs, but over the border by half a line of taps at most; others.
const WHOLE: u8 = 0;
const BORDER: u8 = 1;
const TABLE: u8 = 2;

/// Some pixels of a row.
struct Tile<'a> {
    row: &'a Row<'a>,
    /// Per line the first input, or every input.
    table: *const *const f32,
    /// How many pixels are written.
    live: usize,
    /// Elements from one input of a line to the next.
    stride: usize,
    /// Inputs left and right of the image.
    left: usize,
    right: usize,
    /// Tiles that follow each other, alike.
    count: usize,
}

impl Tile<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, const P: usize, const K: usize, const STEP: usize, const KIND: u8>(
        &self,
        s: S,
        residual: Option<*const f32>,
        out: *mut f32,
        out_stride: usize,
    ) {
        let Range { start, end } = self.row.channels;
        let mut c = start;
        // SAFETY: the caller's contract; the last channels are read and written in part.
        unsafe {
            while c + S::LANES <= end {
                self.vector::<S, P, K, STEP, KIND>(s, residual, out, out_stride, c, S::LANES);
                c += S::LANES;
            }
            if c < end {
                self.vector::<S, P, K, STEP, KIND>(s, residual, out, out_stride, c, end - c);
            }
        }
    }

    /// `n` channels from `c` on, at most a vector.
    #[inline(always)]
    unsafe fn vector<S: Simd, const P: usize, const K: usize, const STEP: usize, const KIND: u8>(
        &self,
        s: S,
        residual: Option<*const f32>,
        out: *mut f32,
        out_stride: usize,
        c: usize,
        n: usize,
    ) {
        let Row { plan, source, filter, bias, bounds, .. } = self.row;
        let inputs = (P - 1) * STEP + K;
        let count = if KIND == WHOLE { self.count } else { 1 };
        // SAFETY: the caller's contract.
        unsafe {
            let start = match bias {
                Some(bias) => load(s, bias.as_ptr().add(c), n),
                None => s.zero(),
            };
            for tile in 0..count {
                let first = tile * P;
                let mut acc = [start; P];
                let zeros = plan.zeros.as_ptr();
                for (i, (_, line)) in source.lines.iter().enumerate() {
                    let mut xs = [start; (MAX_PIXELS - 1) * 2 + 5];
                    for j in 0..inputs {
                        let x = if KIND == TABLE {
                            *self.table.add(i * inputs + j)
                        } else {
                            let outside = KIND == BORDER
                                && (j < K / 2 && j < self.left
                                    || j + K / 2 >= inputs && j + self.right >= inputs);
                            let x = (*self.table.add(i)).wrapping_add(j * self.stride);
                            if outside { zeros } else { x }
                        };
                        xs[j] = load(s, x.add(c + first * STEP * self.stride), n);
                    }
                    let weights = filter.as_ptr().add(line.weights + c);
                    for k in 0..K {
                        let w = load(s, weights.offset(k as isize * line.step), n);
                        for p in 0..P {
                            acc[p] = s.fma(xs[p * STEP + k], w, acc[p]);
                        }
                    }
                }
                let (low, high) = (s.splat(bounds.0), s.splat(bounds.1));
                for p in 0..P {
                    if KIND == TABLE && p >= self.live {
                        break;
                    }
                    let mut y = acc[p];
                    if let Some(residual) = residual {
                        y = s.add(y, load(s, residual.add((first + p) * plan.channels + c), n));
                    }
                    let out = out.add((first + p) * out_stride + c);
                    store(s, out, s.min_fast(high, s.max_fast(low, y)), n);
                }
            }
        }
    }
}

/// A vector of `n` channels, in part where it has fewer than `LANES`.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's n channels.
    unsafe { if n >= S::LANES { s.load(p) } else { s.load_partial(p, n) } }
}

/// As [`load`].
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(s: S, p: *mut f32, y: S::V, n: usize) {
    // SAFETY: the caller's n channels.
    unsafe { if n >= S::LANES { s.store(p, y) } else { s.store_partial(p, y, n) } }
}
