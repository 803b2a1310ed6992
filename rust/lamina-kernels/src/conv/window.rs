//! Windows over an NHWC image: which taps look where, and strips of rows in which none hangs over a border.

use crate::scratch;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A batch of images, NHWC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

/// One tap of a filter: where it looks from the window of output pixel `(0, 0)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub dy: isize,
    pub dx: isize,
    /// Its place in the filter: `ky * kw + kx`.
    pub index: usize,
}

/// The windows of `rows x cols` output pixels per image, `step` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub image: Image,
    pub rows: usize,
    pub cols: usize,
    pub step: (usize, usize),
    /// The top left corner of the first window, and the size of each.
    corner: (isize, isize),
    size: (usize, usize),
    /// Whether rows are copied into strips: some window leaves the image, or channels repeat.
    padded: bool,
    /// How many times each channel stands in a strip.
    repeat: usize,
    /// Unused elements after each pixel of a strip.
    gap: usize,
}

impl Windows {
    pub fn new(image: Image, taps: &[Tap], rows: usize, cols: usize, step: (usize, usize)) -> Windows {
        let range = |coordinate: fn(&Tap) -> isize| {
            let low = taps.iter().map(coordinate).min().unwrap_or(0);
            (low, taps.iter().map(coordinate).max().map_or(0, |high| (high - low) as usize + 1))
        };
        let ((y, height), (x, width)) = (range(|t| t.dy), range(|t| t.dx));
        let inside = |low: isize, n: usize, step: usize, size: usize, limit: usize| {
            low >= 0 && low as usize + n.saturating_sub(1) * step + size <= limit
        };
        let padded = !(inside(y, rows, step.0, height, image.h) && inside(x, cols, step.1, width, image.w));
        let padded = padded && !taps.is_empty();
        Windows { image, rows, cols, step, corner: (y, x), size: (height, width), padded, repeat: 1, gap: 0 }
    }

    /// The same windows over an image in which each channel stands `repeat` times.
    pub fn repeated(self, repeat: usize) -> Windows {
        Windows { repeat, padded: self.padded || repeat != 1, ..self }
    }

    /// The same windows with the pixels of a strip a cache line further apart where they would fall into
    /// the same few places of L1. Only for those who read pixel by pixel.
    pub fn spaced(self) -> Windows {
        let alias = self.channels().is_multiple_of(128) && self.padded;
        Windows { gap: if alias { 16 } else { 0 }, ..self }
    }

    /// Whether channels stand in a strip more than once.
    pub fn repeats(&self) -> bool {
        self.repeat != 1
    }

    /// Channels of a pixel of a strip, gap included.
    pub fn channels(&self) -> usize {
        self.image.c * self.repeat + self.gap
    }

    /// Rows of windows in the whole batch.
    pub fn all_rows(&self) -> usize {
        self.image.n * self.rows
    }

    /// Elements from one window to the next in a row.
    pub fn pixel_stride(&self) -> usize {
        self.step.1 * self.channels()
    }

    /// Pixels of a line of a strip.
    pub fn strip_width(&self) -> usize {
        if self.padded { self.cols.saturating_sub(1) * self.step.1 + self.size.1 } else { self.image.w }
    }

    /// Elements from one row of pixels to the next, in a strip.
    fn row_stride(&self) -> usize {
        self.strip_width() * self.channels()
    }

    /// Where a tap looks from the first window of a row of a strip: elements down to its line, and the pixel there.
    pub fn in_strip(&self, dy: isize, dx: isize) -> (usize, isize) {
        ((dy - self.corner.0) as usize * self.row_stride(), dx - self.corner.1)
    }

    /// Where a tap's channels lie within a window of a strip.
    pub fn tap_offset(&self, tap: &Tap) -> usize {
        let (dy, dx) = (tap.dy - self.corner.0, tap.dx - self.corner.1);
        dy as usize * self.row_stride() + dx as usize * self.channels()
    }

    /// Cuts a range of window rows where an image ends: `(image, first row, rows)`.
    fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (mut at, rows) = (range.start, self.rows);
        std::iter::from_fn(move || {
            (at < range.end).then(|| {
                let (image, row) = (at / rows, at % rows);
                let count = (rows - row).min(range.end - at);
                at += count;
                (image, row, count)
            })
        })
    }

    /// Calls `body` with pointers to the windows of the rows in `range`, which are counted through the batch.
    /// Channel k of tap t of window j of row i is at `rows[i] + j * pixel_stride + tap_offset(t) + k`.
    pub fn strip<R>(&self, x: &[f32], range: Range<usize>, body: impl FnOnce(&[*const f32]) -> R) -> R {
        scratch::with_uninit(range.len(), |rows: &mut [MaybeUninit<*const f32>]| {
            if !self.padded {
                let Image { h, w, c, .. } = self.image;
                for (row, at) in rows.iter_mut().zip(range) {
                    let y = at / self.rows * h + self.corner.0 as usize + at % self.rows * self.step.0;
                    row.write(x.as_ptr().wrapping_add((y * w + self.corner.1 as usize) * c));
                }
                // SAFETY: all were just written.
                return body(unsafe { scratch::written(rows) });
            }
            let width = self.row_stride();
            let height = |windows: usize| (windows - 1) * self.step.0 + self.size.0;
            let lines: usize = self.runs(range.clone()).map(|(_, _, count)| height(count)).sum();
            scratch::with(lines * width, |strip: &mut [f32]| {
                let (mut line, mut row) = (0, 0);
                for (image, first, count) in self.runs(range) {
                    let top = self.corner.0 + (first * self.step.0) as isize;
                    for i in 0..height(count) {
                        let out = &mut strip[(line + i) * width..][..width];
                        self.copy_line(x, image, top + i as isize, out);
                    }
                    for i in 0..count {
                        rows[row].write(strip.as_ptr().wrapping_add((line + i * self.step.0) * width));
                        row += 1;
                    }
                    line += height(count);
                }
                // SAFETY: the runs cover the range, so every row was written.
                body(unsafe { scratch::written(rows) })
            })
        })
    }

    /// Line `y` of an image from the windows' left edge on, zero outside the image.
    fn copy_line(&self, x: &[f32], image: usize, y: isize, out: &mut [f32]) {
        let Image { h, w, c, .. } = self.image;
        let left = self.corner.1.min(0).unsigned_abs();
        let skip = self.corner.1.max(0) as usize;
        let room = (out.len() / self.channels().max(1)).saturating_sub(left);
        let pixels = if (0..h as isize).contains(&y) { w.saturating_sub(skip).min(room) } else { 0 };
        if pixels == 0 {
            return out.fill(0.0);
        }
        let (before, rest) = out.split_at_mut(left * self.channels());
        let (inside, after) = rest.split_at_mut(pixels * self.channels());
        before.fill(0.0);
        let start = ((image * h + y as usize) * w + skip) * c;
        let line = &x[start..start + pixels * c];
        match (self.repeat, self.gap) {
            (1, 0) => inside.copy_from_slice(line),
            (1, _) => {
                let pixels = inside.chunks_exact_mut(self.channels()).zip(line.chunks_exact(c));
                pixels.for_each(|(out, x)| out[..c].copy_from_slice(x));
            }
            (n, _) => {
                for (out, x) in inside.chunks_exact_mut(self.channels()).zip(line.chunks_exact(c)) {
                    out.chunks_exact_mut(n).zip(x).for_each(|(out, x)| out.fill(*x));
                }
            }
        }
        after.fill(0.0);
    }
}
