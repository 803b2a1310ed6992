//! Float32 products on AMX, whose tiles multiply bf16 and sum float32.
//!
//! A float32 is the sum of three bf16, exactly: 24 bits in three times 8. Of the nine products of the parts of two
//! numbers, six matter; the others are below 2^-25 of the whole. Six of AMX's products cost less than one of FMA's.
//! Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
//! computations" (2019).
//!
//! Where the core is shared with another hyperthread, few physical tile registers are left, and what keeps the
//! multiplier busy is to have few tiles alive, however often that loads the same tile: one of sums and three of operands.
//!
//! Parts and sums below 1.2e-38 count as zero, as AMX has it: what is below 1e-31 loses bits. Infinities, NaN and numbers
//! that bf16 rounds to infinity leave a sum that is not finite: such rows are taken again by FMA.

pub(super) mod parts;

use super::block::{ASource, Block, Rows, Step};
use super::tile::Tile;
use crate::scratch;
use parts::{join, split_columns, split_row};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of a tile.
const HEIGHT: usize = super::AMX_ROWS;
/// Columns of a tile of sums: one vector.
const WIDTH: usize = 16;
/// Elements of k in a tile.
const DEPTH: usize = super::AMX_DEPTH;
/// A tile of one part, and the three parts of a tile, in bf16.
const TILE: usize = HEIGHT * DEPTH;
const PARTS: usize = 3 * TILE;
/// Columns of a packed panel: two tiles.
const PANEL: usize = super::AMX_PANEL;

const _: () = assert!(PANEL == 2 * WIDTH);
/// Tiles along k that are multiplied at a time: a panel's and those of 16 rows stay in L1 together.
const CHUNK: usize = 4;

/// The registers of this thread, set up for tiles of 16 rows of 64 bytes, until dropped.
struct Registers(());

impl Registers {
    /// # Safety
    /// The machine has AMX and the system has granted its use: [`Level::Amx`](crate::isa::Level::Amx).
    unsafe fn new() -> Self {
        #[repr(C, align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..4 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = HEIGHT as u8;
        }
        // SAFETY: a valid configuration of palette 1, by the caller's contract.
        unsafe { asm!("ldtilecfg [{}]", in(reg) config.0.as_ptr(), options(nostack, readonly)) };
        Registers(())
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: AMX is there, since the registers were set up.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// One tile of sums, `PANEL` floats from row to row, by `count` tiles along k, B's `vectors` tiles apart; onto zero where
/// `first`.
///
/// # Safety
/// [`Registers`] are set up; `a` and `b` hold the parts of `count` tiles, `c` a tile.
#[inline]
unsafe fn multiply_tiles(
    a: *const u16,
    b: *const u16,
    vectors: usize,
    count: usize,
    c: *mut f32,
    first: bool,
) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "test {first:e}, {first:e}",
            "jz 3f",
            "tilezero tmm0",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{c}+2*{s}]",
            "2:",
            // Small products first. Parts of A in tmm1, of B in tmm2 (the largest) and tmm3.
            "tileloadd tmm1, [{a}+{s}+2048]",
            "tileloadd tmm2, [{b}+{s}]",
            "tdpbf16ps tmm0, tmm1, tmm2",
            "tileloadd tmm1, [{a}+{s}+1024]",
            "tileloadd tmm3, [{b}+{s}+1024]",
            "tdpbf16ps tmm0, tmm1, tmm2",
            "tdpbf16ps tmm0, tmm1, tmm3",
            "tileloadd tmm1, [{a}+{s}]",
            "tdpbf16ps tmm0, tmm1, tmm3",
            "tileloadd tmm3, [{b}+{s}+2048]",
            "tdpbf16ps tmm0, tmm1, tmm3",
            "tdpbf16ps tmm0, tmm1, tmm2",
            "add {a}, 3072",
            "add {b}, {b_step}",
            "dec {count}",
            "jnz 2b",
            "tilestored [{c}+2*{s}], tmm0",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            count = inout(reg) count => _,
            b_step = in(reg) vectors * PARTS * 2,
            c = in(reg) c,
            s = in(reg) 64usize,
            first = in(reg) u32::from(first),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack),
        );
    }
}

/// Whether all of `PANEL` sums are finite, or the first 16.
///
/// # Safety
/// They lie at `sums`.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
unsafe fn finite(sums: *const f32, vectors: usize) -> bool {
    let mut found = 0;
    for v in 0..vectors {
        // SAFETY: the caller's contract. The classes: quiet NaN, infinities, signalling NaN.
        found |= unsafe { _mm512_fpclass_ps_mask::<0x99>(_mm512_loadu_ps(sums.add(v * WIDTH))) };
    }
    found == 0
}

/// Row `i` of a tile of A, `row` of the block, in one piece: where it lies, or as copied to `copy`.
///
/// # Safety
/// As for [`multiply_block`](super::multiply_block).
unsafe fn gather(
    a: &ASource,
    (line, first): (usize, usize),
    i: usize,
    row: usize,
    step: Step,
    copy: &mut [f32],
) -> *const f32 {
    // SAFETY: the caller's contract.
    let segment = |seg: usize| unsafe {
        match a {
            ASource::Lines { starts, segs, seg0, off, stride } => {
                starts.get_unchecked(line * segs + seg0 + seg).wrapping_add(off + (first + i) * stride)
            }
            ASource::Rows { table, segs, seg0, off } => {
                table.get_unchecked(row * segs + seg0 + seg).wrapping_add(*off)
            }
            ASource::Columns { .. } => std::ptr::null(),
        }
    };
    if let ASource::Columns { starts, step, off } = a {
        for (p, x) in copy.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            *x = unsafe { *starts[0].wrapping_add(off + row + p * step) };
        }
        return copy.as_ptr();
    }
    if step.segs == 1 {
        return segment(0);
    }
    for (seg, copy) in copy.chunks_exact_mut(step.len).enumerate() {
        // SAFETY: a segment is valid for `len` reads.
        copy.copy_from_slice(unsafe { std::slice::from_raw_parts(segment(seg), step.len) });
    }
    copy.as_ptr()
}

impl Block<'_> {
    /// The columns of a panel of AMX, in whole vectors.
    fn stored(&self, panel: usize) -> Range<usize> {
        let Range { start, end } = self.b.columns(panel..panel + 1);
        start..end.next_multiple_of(WIDTH)
    }

    /// How many vectors wide a panel is.
    fn vectors(&self, panel: usize) -> usize {
        self.stored(panel).len() / WIDTH
    }

    /// The parts of a panel, from the step's k on.
    fn parts(&self, panel: usize) -> *const u16 {
        self.b.parts_of(panel).wrapping_add(self.step.k0 / DEPTH * self.vectors(panel) * PARTS)
    }
}

/// The parts that `rows` rows of A by `k` take up.
pub(super) fn split_len(rows: usize, k: usize) -> usize {
    rows.div_ceil(HEIGHT) * k.div_ceil(DEPTH) * PARTS
}

/// Splits the rows of a block, for one step, into `parts`, which has [`split_len`].
///
/// # Safety
/// As for [`multiply_block`](super::multiply_block), and [`Level::Amx`](crate::isa::Level::Amx) is proven.
pub(super) unsafe fn split(a: &ASource, rows: Rows, step: Step, parts: &mut [u16]) {
    let k = step.segs * step.len;
    let depth = k.div_ceil(DEPTH);
    let line_rows = rows.offsets.len() / rows.lines.max(1);
    assert_eq!(parts.len(), split_len(rows.offsets.len(), k), "A's parts have split_len elements");
    if let ASource::Columns { starts, step, off } = a {
        for (tile, parts) in parts.chunks_exact_mut(depth * PARTS).enumerate() {
            let rows = HEIGHT.min(rows.offsets.len() - tile * HEIGHT);
            // SAFETY: the caller's contract; a tile has room for k.
            unsafe {
                let x = starts[0].wrapping_add(off + tile * HEIGHT);
                split_columns(x, *step, k, rows, parts.as_mut_ptr());
            }
        }
        return;
    }
    scratch::with(k, |copy: &mut [f32]| {
        for (line, first, rows) in rows.tiles(HEIGHT) {
            for i in 0..rows {
                let row = line * line_rows + first + i;
                let tile = &mut parts[row / HEIGHT * depth * PARTS..][..depth * PARTS];
                // SAFETY: as above.
                unsafe {
                    let x = gather(a, (line, first), i, row, step, copy);
                    split_row(x, k, tile.as_mut_ptr().add(row % HEIGHT * DEPTH));
                }
            }
        }
    });
}

/// [`multiply_block`](super::multiply_block) of an A whose `parts` have been [split](split).
///
/// # Safety
/// As there, and [`Level::Amx`](crate::isa::Level::Amx) is proven.
pub(super) unsafe fn multiply(block: &Block, a: &ASource, parts: &[u16], rows: Rows, columns: Range<usize>) {
    let k = block.step.segs * block.step.len;
    let height = rows.offsets.len().div_ceil(HEIGHT);
    // SAFETY: the caller's contract.
    let _registers = unsafe { Registers::new() };
    scratch::with(height * HEIGHT * PANEL, |sums: &mut [f32]| {
        for panel in columns {
            // SAFETY: the caller's contract; `parts` holds A, then every sum is there.
            unsafe {
                panel_sums(block, panel, k, height, parts, sums);
                finish(block, a, rows, panel, sums);
            }
        }
    });
}

/// The sums of a panel, rows of [`PANEL`], by A in `parts`.
///
/// # Safety
/// [`Registers`] are set up; `parts` holds `height` rows of tiles for k.
unsafe fn panel_sums(block: &Block, panel: usize, k: usize, height: usize, parts: &[u16], sums: &mut [f32]) {
    let (depth, vectors) = (k.div_ceil(DEPTH), block.vectors(panel));
    assert!(parts.len() >= height * depth * PARTS && sums.len() >= height * HEIGHT * PANEL);
    for first in (0..depth).step_by(CHUNK) {
        let count = CHUNK.min(depth - first);
        let b = block.parts(panel).wrapping_add(first * vectors * PARTS);
        // SAFETY: the panel's parts are there; lengths as asserted.
        unsafe {
            for tile in 0..height {
                for v in 0..vectors {
                    multiply_tiles(
                        parts.as_ptr().add((tile * depth + first) * PARTS),
                        b.add(v * PARTS),
                        vectors,
                        count,
                        sums.as_mut_ptr().add(tile * HEIGHT * PANEL + v * WIDTH),
                        first == 0,
                    );
                }
            }
        }
    }
}

/// Takes the sums of a panel to C, those of rows that are not finite once more by FMA.
///
/// # Safety
/// As for [`multiply`]; `sums` has a row of [`PANEL`] for each row.
unsafe fn finish(block: &Block, a: &ASource, rows: Rows, panel: usize, sums: &[f32]) {
    let line_rows = rows.offsets.len() / rows.lines.max(1);
    let vectors = block.vectors(panel);
    let t = block.tile(&block.stored(panel));
    for (line, first, rows) in rows.tiles(HEIGHT) {
        let start = line * line_rows + first;
        // SAFETY: a row of sums is there for each row.
        let finite = |row: usize| unsafe { finite(sums[row * PANEL..].as_ptr(), vectors) };
        let write = |row: usize, rows: usize| {
            // SAFETY: the caller's contract.
            unsafe {
                (block.kernels.finish)(&t, (row, t.col), sums[row * PANEL..].as_ptr(), rows, PANEL);
                block.activate(row..row + rows, t.col, t.cols);
            }
        };
        if (start..start + rows).all(finite) {
            write(start, rows);
            continue;
        }
        for (i, row) in (start..start + rows).enumerate() {
            if finite(row) {
                write(row, 1);
            } else {
                scratch::with(block.step.segs * block.step.len, |copy: &mut [f32]| {
                    // SAFETY: the caller's contract.
                    unsafe {
                        let x = gather(a, (line, first), i, row, block.step, copy);
                        by_fma(block, x, row, panel);
                    }
                });
            }
        }
    }
}

/// One row of a panel by FMA, of A at `x`.
///
/// # Safety
/// As for [`multiply`]; `x` has the step's numbers.
#[cold]
unsafe fn by_fma(block: &Block, x: *const f32, row: usize, panel: usize) {
    let (kernels, step) = (block.kernels, block.step);
    let (vectors, k) = (block.vectors(panel), step.segs * step.len);
    let kernel = kernels.width(vectors * WIDTH).by_rows[0];
    let width = vectors * WIDTH;
    scratch::with(k * width, |joined: &mut [f32]| {
        let len = k.div_ceil(DEPTH) * vectors * PARTS;
        // SAFETY: the panel's parts for the step's k, whole tiles of them.
        join(unsafe { std::slice::from_raw_parts(block.parts(panel), len) }, k, width, joined);
        let b = joined.as_ptr();
        let tile = block.tile(&block.stored(panel));
        let mut t = Tile { a: &x, row_stride: 1, segs: 1, len: k, b, b_step: width, ..tile };
        t.row = row;
        // SAFETY: the caller's contract.
        unsafe {
            kernel(&t);
            block.activate(row..row + 1, t.col, t.cols);
        }
    });
}
