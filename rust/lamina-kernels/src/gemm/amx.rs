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

use super::block::{ASource, Block, Rows, Step};
use super::tile::Tile;
use crate::scratch;
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of a tile.
const HEIGHT: usize = super::AMX_ROWS;
/// Columns of a tile of sums: one vector.
const WIDTH: usize = 16;
/// Elements of k in a tile.
const DEPTH: usize = 32;
/// A tile of one part, and the three parts of a tile, in bf16.
const TILE: usize = HEIGHT * DEPTH;
const PARTS: usize = 3 * TILE;
/// Columns of a packed panel: two tiles.
const PANEL: usize = 2 * WIDTH;
/// Tiles along k that are multiplied at a time: those of a panel and of 16 rows stay in L1.
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

/// One tile of sums, `PANEL` floats from row to row, by `count` tiles along k; onto zero where `first`.
///
/// # Safety
/// [`Registers`] are set up; `a` and `b` hold the parts of `count` tiles, `c` a tile.
#[inline]
unsafe fn multiply_tiles(a: *const u16, b: *const u16, count: usize, c: *mut f32, first: bool) {
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
            "add {b}, 3072",
            "dec {count}",
            "jnz 2b",
            "tilestored [{c}+2*{s}], tmm0",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            count = inout(reg) count => _,
            c = in(reg) c,
            s = in(reg) 64usize,
            first = in(reg) u32::from(first),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack),
        );
    }
}

/// Splits 32 numbers, two vectors, into their parts: bf16 number `2 i` of a part comes from lane i of `x`, number
/// `2 i + 1` from lane i of `y`.
///
/// # Safety
/// `out` has room for the first 32 numbers of each part, a tile apart, and is aligned to a cache line.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn split(x: __m512, y: __m512, out: *mut u16) {
    let (half, high) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(0xffff_0000_u32 as i32));
    let up = |v: __m512| _mm512_add_epi32(_mm512_castps_si512(v), half);
    let kept = |r: __m512i| _mm512_castsi512_ps(_mm512_and_si512(r, high));
    let pairs =
        |x: __m512i, y: __m512i| _mm512_ternarylogic_epi32::<0xCA>(high, y, _mm512_srli_epi32::<16>(x));
    let (mut x, mut y) = (x, y);
    for part in 0..2 {
        let (xr, yr) = (up(x), up(y));
        // SAFETY: the caller's contract.
        unsafe { _mm512_store_si512(out.add(part * TILE).cast(), pairs(xr, yr)) };
        (x, y) = (_mm512_sub_ps(x, kept(xr)), _mm512_sub_ps(y, kept(yr)));
    }
    // What is left has eight bits.
    let last = pairs(_mm512_castps_si512(x), _mm512_castps_si512(y));
    // SAFETY: as above.
    unsafe { _mm512_store_si512(out.add(2 * TILE).cast(), last) };
}

/// The first `n` lanes of what lies at `p`, the others zero.
///
/// # Safety
/// `p` is valid for `min(n, 16)` reads.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load(p: *const f32, n: usize) -> __m512 {
    if n >= 16 {
        // SAFETY: the caller's contract.
        unsafe { _mm512_loadu_ps(p) }
    } else {
        // SAFETY: as above; lanes that are masked off are not read.
        unsafe { _mm512_maskz_loadu_ps((1u16 << n).wrapping_sub(1), p) }
    }
}

/// Splits a row of A, `k` numbers, into row `row` of tiles that follow each other. In a tile, number i stands beside
/// number i + 16: so it does in [`split_panel`].
///
/// # Safety
/// `x` is valid for `k` reads, `out` for `k / 32` tiles, rounded up.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split_row(x: *const f32, k: usize, out: *mut u16) {
    for i in 0..k.div_ceil(DEPTH) {
        let (at, left) = (x.wrapping_add(i * DEPTH), k - i * DEPTH);
        // SAFETY: the caller's contract.
        unsafe {
            split(load(at, left), load(at.wrapping_add(16), left.saturating_sub(16)), out.add(i * PARTS))
        };
    }
}

/// Splits `k` rows of a panel, `step` numbers from one to the next, `vectors` of them wide, into `k / 32` tiles for each
/// vector, one vector's after the other's.
///
/// # Safety
/// The panel has such rows, `out` room for the tiles.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split_panel(b: *const f32, step: usize, k: usize, vectors: usize, out: *mut u16) {
    let tiles = k.div_ceil(DEPTH);
    for i in 0..tiles {
        for row in 0..16 {
            for v in 0..vectors {
                let p = i * DEPTH + row;
                let at = |p: usize| b.wrapping_add(p * step + v * WIDTH);
                // SAFETY: the caller's contract; rows from k on are not read.
                unsafe {
                    let (x, y) = (
                        load(at(p), 16 * usize::from(p < k)),
                        load(at(p + 16), 16 * usize::from(p + 16 < k)),
                    );
                    split(x, y, out.add((v * tiles + i) * PARTS + row * 2 * WIDTH));
                }
            }
        }
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
    (line, first, rows): (usize, usize, usize),
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
                table.get_unchecked((row - i) * segs + (seg0 + seg) * rows + i).wrapping_add(*off)
            }
            ASource::Packed { .. } | ASource::Columns { .. } => unreachable!("A lies by columns"),
        }
    };
    if step.segs == 1 {
        return segment(0);
    }
    for (seg, copy) in copy.chunks_exact_mut(step.len).enumerate() {
        // SAFETY: a segment is valid for `len` reads.
        copy.copy_from_slice(unsafe { std::slice::from_raw_parts(segment(seg), step.len) });
    }
    copy.as_ptr()
}

/// [`multiply_block`](super::multiply_block) where AMX pays and A lies by rows.
///
/// # Safety
/// As there, and [`Level::Amx`](crate::isa::Level::Amx) is proven.
pub(super) unsafe fn multiply(block: &Block, a: &ASource, rows: Rows, columns: Range<usize>) {
    let Block { step, .. } = *block;
    let k = step.segs * step.len;
    let (depth, height) = (k.div_ceil(DEPTH), rows.offsets.len().div_ceil(HEIGHT));
    let line_rows = rows.offsets.len() / rows.lines.max(1);
    // SAFETY: the caller's contract.
    let _registers = unsafe { Registers::new() };
    scratch::with(k, |copy: &mut [f32]| {
        scratch::with(height * depth * PARTS, |parts: &mut [u16]| {
            for (line, first, rows) in rows.tiles() {
                for i in 0..rows {
                    let row = line * line_rows + first + i;
                    let tile = &mut parts[row / HEIGHT * depth * PARTS..][..depth * PARTS];
                    // SAFETY: the caller's contract, and the level.
                    unsafe {
                        let x = gather(a, (line, first, rows), i, row, step, copy);
                        split_row(x, k, tile.as_mut_ptr().add(row % HEIGHT * DEPTH));
                    }
                }
            }
            scratch::with(2 * CHUNK * PARTS, |panel_parts: &mut [u16]| {
                scratch::with(height * HEIGHT * PANEL, |sums: &mut [f32]| {
                    for panel in columns {
                        // SAFETY: the caller's contract; `parts` holds A, the others have room.
                        unsafe { panel_sums(block, panel, k, height, parts, panel_parts, sums) };
                        // SAFETY: as above; every sum is there.
                        unsafe { finish(block, a, rows, panel, sums, copy) };
                    }
                });
            });
        });
    });
}

/// The sums of a panel, rows of [`PANEL`], by A in `parts`.
///
/// # Safety
/// [`Registers`] are set up; `parts` holds `height` rows of tiles for k.
unsafe fn panel_sums(
    block: &Block,
    panel: usize,
    k: usize,
    height: usize,
    parts: &[u16],
    panel_parts: &mut [u16],
    sums: &mut [f32],
) {
    let t = block.tile(panel);
    let (depth, vectors) = (k.div_ceil(DEPTH), if block.narrow(panel) { 1 } else { 2 });
    assert!(parts.len() >= height * depth * PARTS && sums.len() >= height * HEIGHT * PANEL);
    assert!(panel_parts.len() >= vectors * CHUNK * PARTS);
    for first in (0..depth).step_by(CHUNK) {
        let count = CHUNK.min(depth - first);
        let k = (k - first * DEPTH).min(CHUNK * DEPTH);
        // SAFETY: the panel has k rows from there on; lengths as asserted.
        unsafe {
            split_panel(
                t.b.wrapping_add(first * DEPTH * t.b_step),
                t.b_step,
                k,
                vectors,
                panel_parts.as_mut_ptr(),
            );
            for tile in 0..height {
                for v in 0..vectors {
                    multiply_tiles(
                        parts.as_ptr().add((tile * depth + first) * PARTS),
                        panel_parts.as_ptr().add(v * count * PARTS),
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
unsafe fn finish(block: &Block, a: &ASource, rows: Rows, panel: usize, sums: &[f32], copy: &mut [f32]) {
    let line_rows = rows.offsets.len() / rows.lines.max(1);
    let narrow = block.narrow(panel);
    let vectors = if narrow { 1 } else { 2 };
    let kernels = block.kernels;
    let single = if narrow { kernels.by_rows_narrow[0] } else { kernels.by_rows[0] };
    let mut t = block.tile(panel);
    for (line, first, rows) in rows.tiles() {
        let start = line * line_rows + first;
        // SAFETY: the caller's contract, for all of the below.
        let finite = |row: usize| unsafe { finite(sums[row * PANEL..].as_ptr(), vectors) };
        if (start..start + rows).all(finite) {
            block.aim(&mut t, start);
            unsafe {
                (kernels.finish)(&t, sums[start * PANEL..].as_ptr(), rows, PANEL);
                block.activate(&t, rows);
            }
            continue;
        }
        for i in 0..rows {
            let row = start + i;
            block.aim(&mut t, row);
            unsafe {
                if finite(row) {
                    (kernels.finish)(&t, sums[row * PANEL..].as_ptr(), 1, PANEL);
                } else {
                    let x = gather(a, (line, first, rows), i, row, block.step, copy);
                    single(&Tile {
                        a: &x,
                        row_stride: 1,
                        segs: 1,
                        len: block.step.segs * block.step.len,
                        ..t
                    });
                }
                block.activate(&t, 1);
            }
        }
    }
}
