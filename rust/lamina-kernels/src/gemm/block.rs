//! One block of rows by a range of panels: the loop around the register tiles.

use super::output::Output;
use super::tile::{Kernel, Kernels, Tile, kernels};
use super::{MatRef, packed_b_len};
use crate::epilogue::apply_tile;
use crate::{Isa, scratch};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Where the tiles of a block read A. Where there are segments, those from `seg0` on are used, `off`
/// elements after each pointer.
pub(crate) enum ASource<'a> {
    /// Per line of rows one pointer for each of `segs` segments; a line's rows are `stride` elements apart.
    Lines { starts: &'a [*const f32], segs: usize, seg0: usize, off: usize, stride: usize },
    /// `segs` pointers per row, tile by tile, in each tile segment-major.
    Rows { table: &'a [*const f32], segs: usize, seg0: usize, off: usize },
    /// Tile by tile, in each tile the rows' elements of one k side by side. One segment.
    Packed { data: *const f32 },
    /// Row i of the block is `off + i` elements after each start; `step` elements from one k to the next.
    Columns { starts: &'a [*const f32], step: usize, off: usize },
}

/// B as the tiles read it.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    data: *const f32,
    /// Floats from one panel to the next, and from one k to the next within a panel.
    stride: usize,
    step: usize,
    /// The last panel, where it has fewer columns than the others.
    tail: *const f32,
    pub k: usize,
    n: usize,
    /// Whether B is split into parts: then the multiply is AMX's.
    pub parts: bool,
    /// Whether B lies where it came from: not packed, but for the last columns.
    in_place: bool,
}

// SAFETY: a view of memory that only is read, shared by the tasks of one call.
unsafe impl Sync for Panels {}

impl Panels {
    /// `data` is what `pack_b` wrote.
    pub fn packed(isa: Isa, data: &[f32], k: usize, n: usize) -> Self {
        debug_assert_eq!(data.len(), packed_b_len(isa, k, n));
        let panel = kernels(isa).panel;
        let base = data.as_ptr();
        Panels {
            data: base,
            stride: panel * k,
            step: panel,
            tail: base.wrapping_add(n / panel * panel * k),
            k,
            n,
            parts: false,
            in_place: false,
        }
    }

    /// `data` is B in parts for AMX.
    #[cfg(target_arch = "x86_64")]
    pub fn parts(isa: Isa, data: &[f32], k: usize, n: usize) -> Self {
        use super::amx::parts;
        let panel = kernels(isa).panel;
        debug_assert_eq!(data.len(), parts::len(k, n));
        let base = data.as_ptr();
        Panels {
            data: base,
            stride: parts::len(k, panel),
            step: 0,
            tail: base,
            k,
            n,
            parts: true,
            in_place: false,
        }
    }

    /// Where the parts of a panel are.
    pub fn parts_of(&self, panel: usize) -> *const u16 {
        self.data.wrapping_add(panel * self.stride).cast()
    }

    /// A row-major B read where it lies; `tail` holds its packed last `n % panel` columns.
    pub fn in_place(isa: Isa, b: MatRef, tail: &[f32]) -> Self {
        let panel = kernels(isa).panel;
        Panels {
            data: b.data.as_ptr(),
            stride: panel,
            step: b.row_stride,
            tail: tail.as_ptr(),
            k: b.rows,
            n: b.cols,
            parts: false,
            in_place: true,
        }
    }
}

/// Numbers in a line of the cache.
pub(super) const LINE: usize = 16;

/// Elements of panels that stay in L1 beside a tile's rows, and how many panels these are at most.
const SMALL_B: usize = 6 << 10;
const MOST_PANELS: usize = 8;

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

/// The rows of a block, one offset into C each: `lines` lines of as many rows, each cut into `tiles` tiles.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub offsets: &'a [usize],
    pub lines: usize,
    pub tiles: usize,
}

impl Rows<'_> {
    /// The tiles: line, first row within the line, rows.
    pub fn tiles(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let rows = self.offsets.len() / self.lines;
        // Both without a division per tile.
        let (base, extra) = (rows / self.tiles, rows % self.tiles);
        (0..self.lines).flat_map(move |line| {
            (0..self.tiles).map(move |i| (line, i * base + i.min(extra), base + usize::from(i < extra)))
        })
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
    /// Calls `body` with room for the rows of a block and the panels `columns`, if it takes several steps.
    pub fn with<R>(
        isa: Isa,
        steps: usize,
        rows: usize,
        columns: &Range<usize>,
        body: impl FnOnce(Option<&mut Partial>) -> R,
    ) -> R {
        if steps <= 1 {
            return body(None);
        }
        let panel = kernels(isa).panel;
        // One cache line more than the columns, so that rows do not fall into the same places of L1.
        let stride = columns.len() * panel + 16;
        scratch::with(rows, |offsets: &mut [usize]| {
            offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * stride);
            scratch::with(rows * stride, |sums: &mut [f32]| {
                body(Some(&mut Partial { sums, offsets, column: columns.start * panel }))
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
    fn new(
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

    /// The tile of panel `panel` at the first row, but for where it reads A.
    pub fn tile(&self, panel: usize) -> Tile {
        let (Block { b, kernels, out, .. }, Step { k0, segs, len, first, last }) = (self, self.step);
        let col = panel * kernels.panel;
        let full = b.n - col >= kernels.panel;
        let b_step = match (full, self.narrow(panel)) {
            (true, _) => b.step,
            (false, true) => kernels.lanes,
            (false, false) => kernels.panel,
        };
        let data = if full { b.data.wrapping_add(panel * b.stride) } else { b.tail };
        let bounds = out.act.bounds().filter(|_| last);
        let (low, high) = bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let at = |wanted: bool, p: *const f32| {
            if wanted && !p.is_null() { p.wrapping_add(col) } else { std::ptr::null() }
        };
        Tile {
            a: std::ptr::null(),
            row_stride: 0,
            a_step: 0,
            a_off: 0,
            segs,
            len,
            b: data.wrapping_add(k0 * b_step),
            b_step,
            ahead: std::ptr::null(),
            ahead_step: 0,
            packed: std::ptr::null_mut(),
            panel_stride: b.stride,
            c: self.to.0.wrapping_add(col),
            offsets: self.to.1.as_ptr(),
            cols: (b.n - col).min(kernels.panel),
            sum: at(!first || out.accumulate, self.from.0),
            sum_offsets: self.from.1.as_ptr(),
            bias: at(last, out.bias),
            residual: at(last, out.residual),
            low,
            high,
            finish: kernels.finish,
        }
    }

    /// Has the tile read A at some rows, by the kernel for as many: of line `line` those from `first` on, of all those from
    /// `row` on, `mr` of them. `packed` is room for a pointer.
    ///
    /// # Safety
    /// The source has pointers for them.
    unsafe fn read(
        &self,
        t: &mut Tile,
        a: &ASource,
        (line, first, row, mr): (usize, usize, usize, usize),
        narrow: bool,
        packed: &mut *const f32,
    ) -> Kernel {
        let kernels = self.kernels;
        let mut list = if narrow { kernels.by_rows_narrow } else { kernels.by_rows };
        let by_panel = if narrow { kernels.by_panel_narrow } else { kernels.by_panel };
        match a {
            ASource::Lines { starts, segs: all, seg0, off, stride } => {
                // SAFETY: the caller's contract.
                t.a = unsafe { starts.as_ptr().add(line * all + seg0) };
                t.a_off = off + first * stride;
                t.row_stride = *stride;
            }
            ASource::Rows { table, segs: all, seg0, off } => {
                // SAFETY: the caller's contract.
                t.a = unsafe { table.as_ptr().add(row * all + seg0 * mr) };
                t.a_off = *off;
            }
            ASource::Packed { data } => {
                *packed = data.wrapping_add(row * self.step.len);
                t.a = packed;
                t.a_step = mr;
                list = by_panel;
            }
            ASource::Columns { starts, step, off } => {
                t.a = starts.as_ptr();
                t.a_step = *step;
                t.a_off = off + row;
                list = by_panel;
            }
        }
        list[mr - 1]
    }

    /// Aims the tile at the rows from `row` on.
    pub fn aim(&self, t: &mut Tile, row: usize) {
        t.offsets = self.to.1[row..].as_ptr();
        t.sum_offsets = self.from.1[row..].as_ptr();
    }

    /// Whether the panel is a last one that is packed as one vector.
    pub fn narrow(&self, panel: usize) -> bool {
        let cols = self.b.n - panel * self.kernels.panel;
        cols < self.kernels.panel && cols <= self.kernels.lanes
    }

    /// What a tile of `rows` rows still lacks after its kernel: an activation that is more than bounds.
    ///
    /// # Safety
    /// The kernel has written the tile.
    pub unsafe fn activate(&self, t: &Tile, rows: usize) {
        if self.step.last && self.out.act.bounds().is_none() {
            // SAFETY: the tile has an offset for each row, and its elements are this thread's.
            unsafe {
                let offsets = std::slice::from_raw_parts(t.offsets, rows);
                apply_tile(self.isa, self.out.act, t.c, offsets, t.cols);
            }
        }
    }
}

/// Multiplies a block of rows by the panels `columns`. The first step overwrites C, unless the output
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
    columns: Range<usize>,
    out: &Output,
    partial: Option<&mut Partial>,
) {
    assert!(!b.parts, "parts are multiplied by parts");
    // SAFETY: the caller's contract.
    unsafe { multiply(&Block::new(isa, rows, b, step, out, partial), a, rows, columns) };
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
            for columns in chunks {
                Partial::with(isa, steps, rows.offsets.len(), &columns, |mut partial| {
                    for (i, parts) in parts.chunks(each).enumerate() {
                        let (a, step) = source(i);
                        let block = Block::new(isa, rows, b, step, out, partial.as_deref_mut());
                        // SAFETY: as above.
                        unsafe { amx::multiply(&block, &a, parts, rows, columns.clone()) };
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
unsafe fn multiply(block: &Block, a: &ASource, rows: Rows, columns: Range<usize>) {
    let (b, kernels, step) = (block.b, block.kernels, block.step);
    let several = rows.lines * rows.tiles > 1;
    // A panel that several tiles read where it lies is packed by the first of them.
    let packs = b.in_place && several && matches!(a, ASource::Lines { .. });
    let k = step.segs * step.len;
    let small = k > 0 && columns.len() * kernels.panel * k <= SMALL_B;
    // SAFETY: the caller's contract.
    unsafe {
        if packs {
            return scratch::with(step.len * kernels.panel, |room: &mut [f32]| {
                multiply_panels(block, a, rows, columns, room);
            });
        }
        if several && small && !b.in_place && (2..=MOST_PANELS).contains(&columns.len()) {
            return multiply_tiles(block, a, rows, columns);
        }
        multiply_panels(block, a, rows, columns, &mut []);
    }
}

/// Tile by tile of rows, each by all panels, which stay in L1: A is read once, and C written from front to back.
///
/// # Safety
/// As for [`multiply_block`]; k is not zero, and there are at most [`MOST_PANELS`] panels.
unsafe fn multiply_tiles(block: &Block, a: &ASource, rows: Rows, columns: Range<usize>) {
    let line_rows = rows.offsets.len() / rows.lines.max(1);
    let Step { segs, len, .. } = block.step;
    let mut panels: [MaybeUninit<Tile>; MOST_PANELS] = [const { MaybeUninit::uninit() }; MOST_PANELS];
    for (panel, t) in columns.clone().zip(&mut panels) {
        t.write(block.tile(panel));
    }
    let mut packed = std::ptr::null();
    // The rows of the next tile, each panel its share: of the tallest tile, so that nothing is divided on the way.
    let share = if let ASource::Lines { stride, .. } = a {
        line_rows.div_ceil(rows.tiles.max(1)) * stride / columns.len().max(1)
    } else {
        0
    };
    let share_step = (share / (len * segs).max(1)).min(LINE);
    rows.tiles().for_each(|(line, first, mr)| {
        let row = line * line_rows + first;
        for (i, (panel, t)) in columns.clone().zip(&mut panels).enumerate() {
            // SAFETY: as many were written above; `kernels(isa)` holds only kernels that isa proves; pointers by the
            // caller's contract.
            unsafe {
                let t = t.assume_init_mut();
                let kernel = block.read(t, a, (line, first, row, mr), block.narrow(panel), &mut packed);
                block.aim(t, row);
                if let ASource::Lines { stride, .. } = a {
                    t.ahead = (*t.a).wrapping_add(t.a_off + mr * stride + i * share);
                    t.ahead_step = share_step;
                }
                kernel(t);
                block.activate(t, mr);
            }
        }
    });
}

/// # Safety
/// As for [`multiply_block`]; `room` is for one packed panel, or is empty if B is read where it is.
unsafe fn multiply_panels(block: &Block, a: &ASource, rows: Rows, columns: Range<usize>, room: &mut [f32]) {
    let line_rows = rows.offsets.len() / rows.lines.max(1);
    let Block { kernels, b, step, out, .. } = block;
    let Step { segs, len, .. } = *step;
    let mut panel = columns.start;
    while panel < columns.end {
        let mut t = block.tile(panel);
        let narrow = block.narrow(panel);
        let left = (columns.end - panel).min((b.n - panel * kernels.panel) / kernels.panel);
        // The tiles of this panel fetch the next one together, each its share, where it lies in one piece: without
        // that, memory is idle while the others use what the first has read.
        let fetch = panel + 1 < columns.end && t.b_step <= kernels.panel;
        let tiles = rows.lines * rows.tiles;
        t.ahead = t.b.wrapping_add(if fetch { b.stride } else { 0 });
        t.ahead_step = if fetch { t.b_step / tiles } else { 0 };
        let share = if fetch { t.b_step * len * segs / tiles } else { 0 };
        let packs = !room.is_empty() && t.b_step > kernels.panel;
        // Then the next panel is as many lines per k as there are in a panel's row: a tile each fetches one of them.
        let next = t.b.wrapping_add(kernels.panel);
        let next_lines =
            if packs && (panel + 2) * kernels.panel <= b.n { kernels.panel.div_ceil(LINE) } else { 0 };
        // A lone tile takes as many panels as its registers hold.
        let (mut wide, mut wide_kernel) = (1, None);
        if tiles == 1 && matches!(a, ASource::Lines { .. } | ASource::Rows { .. }) {
            let options = kernels.by_rows_wide.get(line_rows.wrapping_sub(1)).copied().unwrap_or_default();
            if let Some(&(count, kernel)) = options.iter().find(|option| option.0 <= left) {
                (wide, wide_kernel) = (count, Some(kernel));
                t.cols = wide * kernels.panel;
            }
        }
        // In the first panel, the rows of the next tile are further away than the next panel.
        let fetches_rows = panel == columns.start && step.first && step.last && len * segs > 0;
        let rows_step = match a {
            ASource::Lines { stride, .. } if fetches_rows => {
                Some((line_rows.div_ceil(rows.tiles) * stride / (len * segs)).min(LINE))
            }
            _ => None,
        };
        let mut packed = std::ptr::null();
        rows.tiles().enumerate().for_each(|(i, (line, first, mr))| {
            let row = line * line_rows + first;
            // SAFETY: the caller's contract.
            let mut kernel = unsafe { block.read(&mut t, a, (line, first, row, mr), narrow, &mut packed) };
            block.aim(&mut t, row);
            if packs && i == 0 {
                kernel = kernels.by_rows_packing[mr - 1];
                t.packed = room.as_mut_ptr();
            }
            kernel = wide_kernel.unwrap_or(kernel);
            if i < next_lines {
                (t.ahead, t.ahead_step) = (next.wrapping_add(i * LINE), b.step);
            } else if packs {
                t.ahead_step = 0;
            } else if let (ASource::Lines { stride, .. }, Some(rows_step)) = (a, rows_step) {
                // SAFETY: the caller's contract.
                t.ahead = unsafe { *t.a }.wrapping_add(t.a_off + mr * stride);
                t.ahead_step = rows_step;
            }
            if let Some(next) = out.next.share((panel - columns.start) * tiles + i, columns.len() * tiles) {
                // A packed B is near already.
                (t.ahead, t.ahead_step) = (next, LINE);
            }
            // SAFETY: `kernels(isa)` holds only kernels that isa proves; pointers by the caller's contract.
            unsafe {
                kernel(&t);
                t.ahead = t.ahead.wrapping_add(share);
                if packs {
                    // Packed by now.
                    (t.b, t.b_step) = (room.as_ptr(), kernels.panel);
                }
                block.activate(&t, mr);
            }
        });
        panel += wide;
    }
}
