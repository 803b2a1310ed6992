//! Numbers as three bf16 parts, laid out in tiles.
//!
//! In a tile, along k, number i stands beside number i + 16 for i below 16: A's rows and B's columns alike.

use super::{DEPTH, HEIGHT, PANEL, PARTS, TILE, WIDTH};
use crate::gemm::{MatRef, pack::copy_a};
use crate::scratch;
use crate::threads::{self, SharedMut};
use std::arch::x86_64::*;

/// Splits 32 numbers, two vectors, into their parts: bf16 number `2 i` of a part comes from lane i of `x`, number
/// `2 i + 1` from lane i of `y`.
///
/// # Safety
/// `out` has room for the first 32 numbers of each part, a tile apart.
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
        unsafe { _mm512_storeu_si512(out.add(part * TILE).cast(), pairs(xr, yr)) };
        (x, y) = (_mm512_sub_ps(x, kept(xr)), _mm512_sub_ps(y, kept(yr)));
    }
    // What is left has eight bits.
    let last = pairs(_mm512_castps_si512(x), _mm512_castps_si512(y));
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(out.add(2 * TILE).cast(), last) };
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

/// Splits a row of A, `k` numbers, into a row of tiles that follow each other.
///
/// # Safety
/// `x` is valid for `k` reads, `out` for `k / 32` tiles, rounded up.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn split_row(x: *const f32, k: usize, out: *mut u16) {
    for i in 0..k.div_ceil(DEPTH) {
        let (at, left) = (x.wrapping_add(i * DEPTH), k - i * DEPTH);
        // SAFETY: the caller's contract.
        unsafe {
            split(load(at, left), load(at.wrapping_add(16), left.saturating_sub(16)), out.add(i * PARTS))
        };
    }
}

/// Splits `k` rows of a panel, `step` numbers from one to the next and `vectors` vectors wide: `k / 32` times, rounded up,
/// a tile for each vector.
///
/// # Safety
/// The panel has such rows, `out` room for the tiles.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split_panel(b: *const f32, step: usize, k: usize, vectors: usize, out: *mut u16) {
    for i in 0..k.div_ceil(DEPTH) {
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
                    split(x, y, out.add((i * vectors + v) * PARTS + row * DEPTH));
                }
            }
        }
    }
}

/// Splits 16 rows of A at most, which lie by columns: `k` of them, `step` numbers from one to the next.
///
/// # Safety
/// Each column is valid for `rows` reads, `out` for `k / 32` tiles, rounded up.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn split_columns(x: *const f32, step: usize, k: usize, rows: usize, out: *mut u16) {
    for i in 0..k.div_ceil(DEPTH) {
        let column = |p: usize| {
            let p = i * DEPTH + p;
            // SAFETY: the caller's contract; columns from k on are not read.
            unsafe { load(x.wrapping_add(p * step), rows * usize::from(p < k)) }
        };
        let low = transpose(std::array::from_fn(column));
        let high = transpose(std::array::from_fn(|p| column(p + 16)));
        for (row, (low, high)) in low.into_iter().zip(high).enumerate() {
            // SAFETY: the caller's contract.
            unsafe { split(low, high, out.add(i * PARTS + row * DEPTH)) };
        }
    }
}

/// The transpose of 16 x 16 numbers: pairs, then pairs of pairs, then quarters of the registers.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(x: [__m512; 16]) -> [__m512; 16] {
    let mut y = x;
    for i in 0..8 {
        y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
    let wide = |v: __m512| _mm512_castps_pd(v);
    let mut z = y;
    for i in 0..4 {
        for j in 0..2 {
            let (a, b) = (wide(y[4 * i + j]), wide(y[4 * i + j + 2]));
            z[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            z[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // z[4 i + c] holds rows 4 i .. 4 i + 4 of columns c, c + 4, c + 8, c + 12, a quarter each.
    let mut out = z;
    for c in 0..4 {
        let (a, b) =
            (_mm512_shuffle_f32x4::<0x88>(z[c], z[4 + c]), _mm512_shuffle_f32x4::<0xdd>(z[c], z[4 + c]));
        let (d, e) = (
            _mm512_shuffle_f32x4::<0x88>(z[8 + c], z[12 + c]),
            _mm512_shuffle_f32x4::<0xdd>(z[8 + c], z[12 + c]),
        );
        out[c] = _mm512_shuffle_f32x4::<0x88>(a, d);
        out[8 + c] = _mm512_shuffle_f32x4::<0xdd>(a, d);
        out[4 + c] = _mm512_shuffle_f32x4::<0x88>(b, e);
        out[12 + c] = _mm512_shuffle_f32x4::<0xdd>(b, e);
    }
    out
}

/// The f32 that the parts of a `k x n` matrix take up.
pub(in crate::gemm) fn len(k: usize, n: usize) -> usize {
    k.div_ceil(DEPTH) * n.div_ceil(WIDTH) * PARTS / 2
}

/// Splits B into parts, panel by panel as [`split_panel`] does.
pub(in crate::gemm) fn pack(b: MatRef, out: &mut [f32]) {
    b.check();
    let (k, n) = (b.rows, b.cols);
    assert_eq!(out.len(), len(k, n), "the parts have `len` elements");
    let shared = SharedMut::new(out);
    threads::run(n.div_ceil(PANEL), |panel| {
        let col = panel * PANEL;
        let cols = PANEL.min(n - col);
        let data = &b.data[(col * b.col_stride).min(b.data.len())..];
        // SAFETY: the panels lie one after the other.
        let out = unsafe { shared.slice(len(k, col), len(k, cols)) };
        let width = cols.next_multiple_of(WIDTH);
        scratch::with(k * width, |packed: &mut [f32]| {
            if cols < width {
                packed.fill(0.0);
            }
            copy_a(MatRef { data, cols, ..b }, 0, k, 0, cols, width, packed);
            // SAFETY: the panel has k rows of `width`, `out` the tiles for them; the level proves the instructions.
            unsafe { split_panel(packed.as_ptr(), width, k, width / WIDTH, out.as_mut_ptr().cast()) };
            patch(packed, width, out);
        });
    });
}

/// What [`split_panel`] loses: infinities, NaN, and numbers that bf16 rounds to infinity. With them mended, the sum of the
/// parts is the number, always.
fn patch(panel: &[f32], width: usize, parts: &mut [f32]) {
    let parts: &mut [u16] = bytemuck::cast_slice_mut(parts);
    for (i, &x) in panel.iter().enumerate() {
        if x.abs() < BF16_END {
            continue;
        }
        let first = place(i / width, i % width, width);
        // Bits are cut off instead of rounded; a NaN stays one, whichever its bits were.
        let cut = if x.is_nan() { f32::NAN } else { f32::from_bits(x.to_bits() & 0xffff_0000) };
        let mut rest = x;
        for part in 0..3 {
            let high = match (part, x.is_finite()) {
                (0, _) => cut,
                (_, true) => f32::from_bits(rest.to_bits() & 0xffff_0000),
                (_, false) => 0.0,
            };
            parts[first + part * TILE] = (high.to_bits() >> 16) as u16;
            rest -= high;
        }
    }
}

/// From here on bf16 rounds to infinity.
const BF16_END: f32 = f32::from_bits(0x7f7f_8000);

/// Where the first part of row `p`, column `j` of a panel lies.
fn place(p: usize, j: usize, width: usize) -> usize {
    let tile = p / DEPTH * (width / WIDTH) + j / WIDTH;
    tile * PARTS + p % HEIGHT * DEPTH + 2 * (j % WIDTH) + p % DEPTH / HEIGHT
}

/// `k` rows of a panel from their parts.
pub(super) fn join(parts: &[u16], k: usize, width: usize, out: &mut [f32]) {
    for (p, row) in out.chunks_exact_mut(width).take(k).enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            let first = place(p, j, width);
            let [high, middle, low] =
                [0, 1, 2].map(|part| f32::from_bits(u32::from(parts[first + part * TILE]) << 16));
            *x = high + (middle + low);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::gemm::tests::values;
    use crate::isa::Level;

    #[test]
    fn the_sum_of_the_parts_is_the_number() {
        if !Isa::available().iter().any(|isa| isa.level() == Level::Amx) {
            return;
        }
        for (k, n) in [(1, 1), (64, 32), (70, 75), (33, 47)] {
            let mut b = values(k * n, 3);
            let odd =
                [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 3.4e38, 0.0, -0.0, 1e-20];
            b.iter_mut().step_by(3).zip(odd).for_each(|(b, odd)| *b = odd);
            let mut parts = vec![0.0; len(k, n)];
            pack(MatRef::row_major(&b, k, n), &mut parts);
            for col in (0..n).step_by(PANEL) {
                let cols = PANEL.min(n - col);
                let width = cols.next_multiple_of(WIDTH);
                let mut panel = vec![0.0; k * width];
                let parts = &parts[len(k, col)..][..len(k, cols)];
                join(bytemuck::cast_slice(parts), k, width, &mut panel);
                for (p, row) in panel.chunks(width).enumerate() {
                    for (j, &x) in row.iter().enumerate() {
                        let wanted = if j < cols { b[p * n + col + j] } else { 0.0 };
                        assert!(x == wanted || (x.is_nan() && wanted.is_nan()), "{x:e} for {wanted:e}");
                    }
                }
            }
        }
    }
}
