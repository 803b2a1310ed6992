//! Normalisation over features of a row (layer, root-mean-square) and over rows of a channel (batch).
//!
//! Matrices are row-major with features or channels last, so NHWC images are `[n * h * w, channels]`.

mod batch;
mod layer;

pub use batch::{batch_norm, batch_norm_grad, scale_shift};
pub use layer::{LayerNorm, layer_norm, layer_norm_grad};

use crate::simd::Simd;

/// Loads vector `j..` of a row of `n`: whole, or its remaining elements and zeros.
///
/// # Safety
/// `p` is valid for `n` reads and `j < n`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, j: usize, n: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { if j + S::LANES <= n { s.load(p.add(j)) } else { s.load_partial(p.add(j), n - j) } }
}

/// Stores vector `j..` of a row of `n`.
///
/// # Safety
/// `p` is valid for `n` writes and `j < n`.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, p: *mut f32, j: usize, n: usize, v: S::V) {
    // SAFETY: the caller's contract.
    unsafe { if j + S::LANES <= n { s.store(p.add(j), v) } else { s.store_partial(p.add(j), v, n - j) } }
}

/// Adds rows of `width` numbers pairwise into the first row, in a fixed order.
fn add_pairwise(rows: &mut [f32], width: usize) {
    let mut gap = width;
    while gap < rows.len() {
        for pair in rows.chunks_mut(2 * gap) {
            if pair.len() > gap {
                let (a, b) = pair.split_at_mut(gap);
                a[..width].iter_mut().zip(&b[..width]).for_each(|(a, b)| *a += b);
            }
        }
        gap *= 2;
    }
}

#[cfg(test)]
mod tests;
