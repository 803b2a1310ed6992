//! One block of rows by a range of panels: the loop around the register tiles.

use super::Panels;
use super::kernels::{Kernel, Kernels, Width, kernels};
use super::output::Output;
use super::tile::{Steps, Tile, alike};
use crate::epilogue::apply_tile;
use crate::simd::LINE;
use crate::{Isa, scratch};
use std::ops::Range;

/// Where the tiles of a block read A. Where there are segments, those from `seg0` on are used, `off`
/// elements after each pointer.
pub(crate) enum ASource<'a> {
    /// Per line of rows one pointer for each of `segs` segments; a line's rows are `stride` elements apart.
    Lines { starts: &'a [*const f32], segs: usize, seg0: usize, off: usize, stride: usize },
    /// `segs` pointers per row.
    Rows { table: &'a [*const f32], segs: usize, seg0: usize, off: usize },
    /// Row i of the block is `off + i` elements after each start; `step` elements from one k to the next.
    Columns { starts: &'a [*const f32], step: usize, off: usize },
}

/// Elements of panels that stay in L2 beside a tile's rows, and how many panels these are at most.
const SMALL_B: usize = 80 << 10;
const MOST_PANELS: usize = 16;

/// Tiles that are computed before what is more than bounds is applied to them, in L1.
const MOST_TILES: usize = 8;

/// The length of the blocks that sums over `k` are cut into. It depends on nothing else: that keeps the
/// bits of a row the same in every call, and the error of a long sum near that of a blocked one. Blocks are whole tiles of
/// AMX.
pub(crate) fn k_block(k: usize) -> usize {
    if k <= 1024 { k.max(1) } else { k.div_ceil(k.div_ceil(512)).next_multiple_of(32) }
}

/// The part of k that one pass runs over.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub k0: usize,
    /// Segments, and the elements of each.
    pub segs: usize,
    pub len: usize,
    pub first: bool,
    pub last: bool,
}

/// The rows of a block, one offset into C each: `lines` lines of as many rows, each cut into tiles.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub offsets: &'a [usize],
    pub lines: usize,
}

impl Rows<'_> {
    /// Rows of a line.
    fn line(self) -> usize {
        self.offsets.len() / self.lines.max(1)
    }

    /// Tiles of a line, where one has up to `height` rows.
    fn count(self, height: usize) -> usize {
        self.line().div_ceil(height)
    }

    /// The tiles, nearly alike, of up to `height` rows: runs of those that are alike.
    pub fn runs(self, height: usize) -> impl Iterator<Item = Run> {
        let tiles = self.count(height).max(1);
        // Without a division per tile.
        let groups = alike(self.line(), tiles);
        (0..self.lines).flat_map(move |line| {
            let run = move |(first, rows, count)| Run { line, first, rows, count };
            groups.into_iter().map(run).filter(|run| run.count > 0)
        })
    }

    /// The same tiles one by one: line, first row within the line, rows.
    #[cfg(target_arch = "x86_64")]
    pub fn tiles(self, height: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let tiles = |run: Run| (0..run.count).map(move |i| (run.line, run.first + i * run.rows, run.rows));
        self.runs(height).flat_map(tiles)
    }
}

/// Tiles below each other, of as many rows each, from row `first` of a line on.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub line: usize,
    pub first: usize,
    pub rows: usize,
    pub count: usize,
}

impl Run {
    /// The first tiles, up to `most` but one at least, taken off it.
    fn take(&mut self, most: usize) -> Run {
        let first = Run { count: self.count.min(most.max(1)), ..*self };
        self.first += first.count * self.rows;
        self.count -= first.count;
        first
    }
}

/// Where sums wait between the steps of a block: a strip of its own, which stays in L2 whatever the
/// strides of C are, or nowhere if there is one step.
pub(crate) struct Partial<'a> {
    sums: &'a mut [f32],
    offsets: &'a [usize],
    /// The column of C that the strip's first column stands for.
    column: usize,
}

impl Partial<'_> {
    /// Calls `body` with room for the rows of a block and some columns, if it takes several steps.
    pub fn with<R>(
        steps: usize,
        rows: usize,
        columns: Range<usize>,
        body: impl FnOnce(Option<&mut Partial>) -> R,
    ) -> R {
        if steps <= 1 {
            return body(None);
        }
        // One cache line more than the columns, so that rows do not fall into the same places of L1.
        let stride = columns.len().next_multiple_of(LINE) + LINE;
        scratch::with(rows, |offsets: &mut [usize]| {
            offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * stride);
            scratch::with(rows * stride, |sums: &mut [f32]| {
                body(Some(&mut Partial { sums, offsets, column: columns.start }))
            })
        })
    }
}

/// What the tiles of one step of a block have in common.
pub(super) struct Block<'a> {
    pub isa: Isa,
    pub kernels: &'static Kernels,
    pub b: &'a Panels,
    pub step: Step,
    pub out: &'a Output<'a>,
    /// Where the step adds to and where it writes, as if at column 0 of C, and each row's offset there.
    from: (*mut f32, &'a [usize]),
    to: (*mut f32, &'a [usize]),
}

impl<'a> Block<'a> {
    pub fn new(
        isa: Isa,
        rows: Rows<'a>,
        b: &'a Panels,
        step: Step,
        out: &'a Output<'a>,
        partial: Option<&'a mut Partial>,
    ) -> Self {
        let c = (out.c, rows.offsets);
        let waiting = partial.map_or(c, |p| (p.sums.as_mut_ptr().wrapping_sub(p.column), p.offsets));
        let (from, to) = (if step.first { c } else { waiting }, if step.last { c } else { waiting });
        Block { isa, kernels: kernels(isa), b, step, out, from, to }
    }

    /// The tile of a panel with these columns at the first row, but for where it reads A.
    pub fn tile(&self, stored: &Range<usize>) -> Tile {
        let (Block { b, kernels, out, .. }, Step { k0, segs, len, first, last }) = (self, self.step);
        let col = stored.start;
        let (data, b_step) = b.place(stored);
        let bounds = out.act.bounds().filter(|_| last);
        let (low, high) = bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let at = |wanted: bool, p: *const f32| if wanted { p } else { std::ptr::null() };
        Tile {
            a: std::ptr::null(),
            row_stride: 0,
            a_step: 0,
            a_off: 0,
            a_segs: 0,
            segs,
            len,
            b: data.wrapping_add(k0 * b_step),
            b_step,
            ahead: std::ptr::null(),
            ahead_step: 0,
            ahead_all: false,
            packed: std::ptr::null_mut(),
            panel_stride: b.cut.widest() * b.stride,
            c: self.to.0,
            offsets: self.to.1.as_ptr(),
            row: 0,
            col,
            cols: (b.cut.n() - col).min(stored.len()),
            sum: at(!first || out.accumulate, self.from.0),
            sum_offsets: self.from.1.as_ptr(),
            bias: at(last, out.bias),
            residual: at(last, out.residual),
            low,
            high,
            finish: kernels.finish,
            outer: Steps::ONE,
            inner: Steps::ONE,
        }
    }

    /// Aims the tile at the first of a run, whose first row is `row` of the block, and has it go on from there; the kernel
    /// of some width for as many rows.
    ///
    /// # Safety
    /// The source has pointers for them.
    unsafe fn aim(&self, t: &mut Tile, a: &ASource, run: Run, row: usize, width: &Width) -> Kernel {
        let Run { line, first, rows, count } = run;
        let mut kernel = width.kernel(self.kernels.lanes, rows, t.cols);
        (t.row, t.inner) = (row, Steps { count, row: rows, ..Steps::ONE });
        match a {
            ASource::Lines { starts, segs: all, seg0, off, stride } => {
                // SAFETY: the caller's contract.
                t.a = unsafe { starts.as_ptr().add(line * all + seg0) };
                t.a_off = off + first * stride;
                t.row_stride = *stride;
                t.inner.a_off = rows * stride;
            }
            ASource::Rows { table, segs: all, seg0, off } => {
                // SAFETY: the caller's contract.
                t.a = unsafe { table.as_ptr().add(*seg0) };
                t.a_segs = *all;
                t.a_off = *off;
            }
            ASource::Columns { starts, step, off } => {
                t.a = starts.as_ptr();
                t.a_step = *step;
                t.a_off = off + row;
                t.inner.a_off = rows;
                kernel = width.by_panel[rows - 1];
            }
        }
        kernel
    }

    /// Whether tiles lack something after their kernel: an activation that is more than bounds.
    fn activates(&self) -> bool {
        self.step.last && self.out.act.bounds().is_none()
    }

    /// What `cols` columns of some rows, from column `col` on, still lack after their kernel.
    ///
    /// # Safety
    /// The kernel has written them.
    pub unsafe fn activate(&self, rows: Range<usize>, col: usize, cols: usize) {
        if self.activates() {
            // SAFETY: these elements are this thread's.
            unsafe {
                let c = self.to.0.wrapping_add(col);
                apply_tile(self.isa, self.out.act, c, &self.to.1[rows], cols);
            }
        }
    }
}

/// Multiplies a block of rows by some panels. The first step overwrites C, unless the output
/// accumulates; the last one runs the epilogue.
///
/// # Safety
/// The source has pointers for every tile and segment, valid for `len` (times `step`) elements; each row's
/// columns lie within C and no other thread touches them meanwhile.
pub(crate) unsafe fn multiply_block(
    isa: Isa,
    a: &ASource,
    rows: Rows,
    b: &Panels,
    step: Step,
    panels: Range<usize>,
    out: &Output,
    partial: Option<&mut Partial>,
) {
    assert!(!b.parts, "parts are multiplied by parts");
    // SAFETY: the caller's contract.
    unsafe { multiply(&Block::new(isa, rows, b, step, out, partial), a, rows, panels) };
}

/// Multiplies a block of rows by all of k, which `steps` steps give with their A, where B is in parts: A is split once for
/// all the panels that `chunks` gives.
///
/// # Safety
/// As for [`multiply_block`], for every step.
pub(crate) unsafe fn multiply_parts<'a>(
    isa: Isa,
    steps: usize,
    source: impl Fn(usize) -> (ASource<'a>, Step),
    rows: Rows,
    b: &Panels,
    chunks: &mut dyn Iterator<Item = Range<usize>>,
    out: &Output,
) {
    #[cfg(target_arch = "x86_64")]
    {
        use super::amx;
        let len = |i: usize| {
            let step = source(i).1;
            amx::split_len(rows.offsets.len(), step.segs * step.len)
        };
        // All steps are as long, but for the last.
        let each = len(0);
        scratch::with((steps - 1) * each + len(steps - 1), |parts: &mut [u16]| {
            for (i, parts) in parts.chunks_mut(each).enumerate() {
                let (a, step) = source(i);
                // SAFETY: the caller's contract; only where AMX is proven is B in parts.
                unsafe { amx::split(&a, rows, step, parts) };
            }
            for panels in chunks {
                let columns = b.columns(panels.clone());
                Partial::with(steps, rows.offsets.len(), columns, |mut partial| {
                    for (i, parts) in parts.chunks(each).enumerate() {
                        let (a, step) = source(i);
                        let block = Block::new(isa, rows, b, step, out, partial.as_deref_mut());
                        // SAFETY: as above.
                        unsafe { amx::multiply(&block, &a, parts, rows, panels.clone()) };
                    }
                });
            }
        });
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, steps, source, rows, b, chunks, out);
        unreachable!("no B is in parts")
    }
}

/// # Safety
/// As for [`multiply_block`].
unsafe fn multiply(block: &Block, a: &ASource, rows: Rows, panels: Range<usize>) {
    let (b, step, cut) = (block.b, block.step, block.b.cut);
    if rows.offsets.is_empty() || panels.is_empty() {
        return;
    }
    let several = rows.lines * rows.count(block.kernels.height(cut.widest())) > 1;
    // A panel that several tiles read where it lies is packed by the first of them.
    let packs = b.in_place && several && matches!(a, ASource::Lines { .. });
    let k = step.segs * step.len;
    let small = k > 0 && panels.len() * cut.widest() * k <= SMALL_B;
    // SAFETY: the caller's contract.
    unsafe {
        if packs {
            return scratch::with(step.len * cut.widest(), |room: &mut [f32]| {
                multiply_panels(block, a, rows, panels, room);
            });
        }
        if several && small && !b.in_place && (2..=MOST_PANELS).contains(&panels.len()) {
            return multiply_tiles(block, a, rows, panels);
        }
        multiply_panels(block, a, rows, panels, &mut []);
    }
}

/// Tile by tile of rows, each by all panels, which stay in L2: A is read once, and C written from front to back.
///
/// # Safety
/// As for [`multiply_block`]; k is not zero, and there are at most [`MOST_PANELS`] panels.
unsafe fn multiply_tiles(block: &Block, a: &ASource, rows: Rows, panels: Range<usize>) {
    let Block { kernels, b, step, .. } = block;
    let (line_rows, cut) = (rows.line(), b.cut);
    // Those alike at once, then each of the others.
    let whole = cut.whole().clamp(panels.start, panels.end);
    let others = (whole..panels.end).map(|panel| panel..panel + 1);
    for run in std::iter::once(panels.start..whole).chain(others).filter(|run| !run.is_empty()) {
        let stored = cut.stored(run.start..run.start + 1);
        let width = kernels.width(stored.len());
        let height = width.by_rows.len();
        let mut t = block.tile(&stored);
        let cols = (run.len() - 1) * stored.len() + t.cols;
        // The rows of the next tile, each panel its share: of the tallest tile, so that nothing is divided on the way.
        let share = if let ASource::Lines { stride, .. } = a {
            line_rows.div_ceil(rows.count(height)) * stride / run.len()
        } else {
            0
        };
        t.ahead_step = (share / (step.len * step.segs)).min(LINE);
        let beside =
            Steps { count: run.len(), b: t.panel_stride, col: stored.len(), ahead: share, ..Steps::ONE };
        let most = if block.activates() { MOST_TILES / run.len() } else { usize::MAX };
        rows.runs(height).for_each(|mut left| {
            while left.count > 0 {
                let tiles = left.take(most);
                let row = tiles.line * line_rows + tiles.first;
                // SAFETY: `kernels(isa)` holds only kernels that isa proves; pointers by the caller's contract.
                unsafe {
                    let kernel = block.aim(&mut t, a, tiles, row, width);
                    if let ASource::Lines { stride, .. } = a {
                        t.inner.ahead = tiles.rows * stride;
                        t.ahead = (*t.a).wrapping_add(t.a_off + t.inner.ahead);
                    }
                    (t.outer, t.inner) = (t.inner, beside);
                    kernel(&t);
                    block.activate(row..row + tiles.rows * tiles.count, stored.start, cols);
                }
            }
        });
    }
}

/// Panel by panel, each by all tiles of rows.
///
/// # Safety
/// As for [`multiply_block`]; `room` is for one packed panel, or is empty if B is read where it is.
unsafe fn multiply_panels(block: &Block, a: &ASource, rows: Rows, panels: Range<usize>, room: &mut [f32]) {
    let Block { kernels, b, step, out, .. } = block;
    let Step { segs, len, .. } = *step;
    let line_rows = rows.line();
    let all = b.cut.stored(panels.clone());
    // A lone tile takes as many panels as its registers hold.
    let alone = rows.lines == 1 && !matches!(a, ASource::Columns { .. });
    let whole = b.cut.whole();
    let mut left = panels.clone();
    while !left.is_empty() {
        let most = match out.backward {
            true if left.end > whole => 0,
            true => left.len(),
            false => whole.min(left.end).saturating_sub(left.start),
        };
        let wide = if alone { kernels.wide(&b.cut, line_rows, most) } else { None };
        let count = wide.map_or(1, |(count, _)| count);
        let panel = if out.backward { left.end - count } else { left.start };
        let next = panel + count;
        let stored = b.cut.stored(panel..panel + 1);
        let mut t = block.tile(&stored);
        let width = kernels.width(stored.len());
        if let Some((count, _)) = wide {
            t.cols = count * b.cut.widest();
        }
        let tiles = rows.count(width.by_rows.len());
        let count = rows.lines * tiles;
        // The tiles of this panel fetch the next one together, each its share, where it lies in one piece: without
        // that, memory is idle while the others use what the first has read.
        let packed = t.b_step == stored.len();
        let fetch = packed && next < panels.end;
        let share = if fetch { t.b_step * len * segs / count } else { 0 };
        t.ahead = t.b.wrapping_add(if fetch { t.b_step * b.k } else { 0 });
        t.ahead_step = if fetch { t.b_step / count } else { 0 };
        t.ahead_all = t.ahead_step > LINE;
        // Rows that lie where they came from are packed by the first tile; then the next panel is as many lines per k as
        // there are in a panel's row: a tile each fetches one of them.
        let packs = !room.is_empty() && !packed;
        let beside = t.b.wrapping_add(stored.len());
        let lines =
            if packs && stored.end + stored.len() <= b.cut.n() { stored.len().div_ceil(LINE) } else { 0 };
        // In the first panel, the rows of the next tile, if there is one, are further away than the next panel.
        let fetches_rows = panel == panels.start && step.first && step.last && len * segs > 0 && count > 1;
        let rows_step = match a {
            ASource::Lines { stride, .. } if fetches_rows => {
                Some((line_rows.div_ceil(tiles) * stride / (len * segs)).min(LINE))
            }
            _ => None,
        };
        let most = match (packs, block.activates()) {
            (true, _) => 1,
            (_, true) => MOST_TILES,
            _ => usize::MAX,
        };
        let mut i = 0;
        rows.runs(width.by_rows.len()).for_each(|mut left| {
            while left.count > 0 {
                let part = (stored.start - all.start) * count + i * stored.len();
                let next = out.next.share(part, all.len() * count);
                let run = left.take(next.as_ref().map_or(most, |n| most.min(n.left.div_ceil(stored.len()))));
                let row = run.line * line_rows + run.first;
                // SAFETY: the caller's contract.
                let mut kernel = unsafe { block.aim(&mut t, a, run, row, width) };
                t.inner.ahead = share;
                if packs && i == 0 {
                    kernel = width.packing[run.rows - 1];
                    t.packed = room.as_mut_ptr();
                }
                kernel = wide.map_or(kernel, |(_, kernel)| kernel);
                if i < lines {
                    (t.ahead, t.ahead_step, t.ahead_all) =
                        (beside.wrapping_add(i * LINE), b.step, count < lines);
                } else if packs {
                    (t.ahead_step, t.ahead_all) = (0, false);
                } else if let (ASource::Lines { stride, .. }, Some(rows_step)) = (a, rows_step) {
                    // SAFETY: the caller's contract.
                    t.ahead = unsafe { *t.a }.wrapping_add(t.a_off + run.rows * stride);
                    (t.ahead_step, t.ahead_all, t.inner.ahead) = (rows_step, false, run.rows * stride);
                }
                if let Some(next) = next {
                    // A packed B is near already.
                    (t.ahead, t.ahead_step, t.ahead_all) = (next.start, LINE, false);
                    t.inner.ahead = stored.len() * next.len / next.each;
                }
                // SAFETY: `kernels(isa)` holds only kernels that isa proves; pointers by the caller's contract.
                unsafe {
                    kernel(&t);
                    t.ahead = t.ahead.wrapping_add(run.count * share);
                    if packs {
                        // Packed by now.
                        (t.b, t.b_step) = (room.as_ptr(), stored.len());
                    }
                    block.activate(row..row + run.rows * run.count, t.col, t.cols);
                }
                i += run.count;
            }
        });
        left = if out.backward { left.start..panel } else { next..left.end };
    }
}
