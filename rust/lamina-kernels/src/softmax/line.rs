//! One line of elements as a run of vectors: a contiguous row, or a strip of neighbouring columns.

use crate::reduce::{keep, load_filled};
use crate::simd::Simd;

/// A row (`ROW`): vectors follow each other, the last may be partial, and a sum goes across the lanes.
/// Columns (not `ROW`): one vector a matrix row, all of one width, and each lane has a sum of its own.
#[derive(Clone, Copy)]
pub(crate) struct Line<S: Simd, const ROW: bool> {
    s: S,
    /// Elements from one vector to the next.
    step: usize,
    /// Whole vectors of a row; rows of a strip.
    count: usize,
    /// Elements of a row's last vector (0: none); width of a strip.
    rest: usize,
}

impl<S: Simd> Line<S, true> {
    #[inline(always)]
    pub fn row(s: S, len: usize) -> Self {
        Line { s, step: S::LANES, count: len / S::LANES, rest: len % S::LANES }
    }
}

impl<S: Simd> Line<S, false> {
    #[inline(always)]
    pub fn columns(s: S, rows: usize, stride: usize, width: usize) -> Self {
        Line { s, step: stride, count: rows, rest: width }
    }
}

impl<S: Simd, const ROW: bool> Line<S, ROW> {
    /// Vector `i`; lanes beyond a row's end are `fill`.
    ///
    /// # Safety
    /// `p` points at the line's first element, and `i` is one that [`each`](Self::each) gives.
    #[inline(always)]
    pub unsafe fn load(self, p: *const f32, i: usize, fill: f32) -> S::V {
        // SAFETY: the caller's contract.
        unsafe {
            let p = p.add(i * self.step);
            match self.whole(i) {
                true => self.s.load(p),
                false if ROW => load_filled(self.s, p, self.rest, fill),
                false => self.s.load_partial(p, self.rest),
            }
        }
    }

    /// Writes vector `i`.
    ///
    /// # Safety
    /// As for [`load`](Self::load), and writable.
    #[inline(always)]
    pub unsafe fn store(self, p: *mut f32, i: usize, v: S::V) {
        // SAFETY: the caller's contract.
        unsafe {
            let p = p.add(i * self.step);
            if self.whole(i) { self.s.store(p, v) } else { self.s.store_partial(p, v, self.rest) }
        }
    }

    /// Vector `i` as computed, with 0 in the lanes beyond a row's end.
    #[inline(always)]
    pub fn inside(self, i: usize, v: S::V) -> S::V {
        if ROW && !self.whole(i) { keep(self.s, v, self.rest, 0.0) } else { v }
    }

    #[inline(always)]
    fn whole(self, i: usize) -> bool {
        if ROW { i < self.count } else { self.rest == S::LANES }
    }

    /// Calls `body` with the number of every vector.
    #[inline(always)]
    pub fn each(self, mut body: impl FnMut(usize)) {
        let vectors = if ROW { self.count + usize::from(self.rest > 0) } else { self.count };
        for i in 0..vectors {
            body(i);
        }
    }

    /// The sum of what `term` gives for every vector: of all lanes, in all lanes, for a row.
    #[inline(always)]
    pub fn sum(self, mut term: impl FnMut(usize) -> S::V) -> S::V {
        let s = self.s;
        let mut sums = [s.zero(); 4];
        self.each(
            #[inline(always)]
            |i| {
                // Four chains: a long row keeps more digits, and additions do not wait for each other.
                let v = term(i);
                let [a, b, c, d] = sums;
                sums = [b, c, d, s.add(a, v)];
            },
        );
        self.across_sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
    }

    /// The sum over the lanes of a row's vector, in all lanes; columns have a sum each.
    #[inline(always)]
    pub fn across_sum(self, v: S::V) -> S::V {
        if ROW { self.s.splat(self.s.sum(v)) } else { v }
    }

    /// The largest lane of a row's vector, in all lanes.
    #[inline(always)]
    pub fn across_max(self, v: S::V) -> S::V {
        if ROW { self.s.splat(self.s.max_lane(v)) } else { v }
    }

    /// Whether the line is one vector.
    #[inline(always)]
    pub fn is_single(self) -> bool {
        self.count + usize::from(ROW && self.rest > 0) == 1
    }

    /// The largest element, NaN where any is.
    ///
    /// # Safety
    /// The line's elements are readable at `p`.
    #[inline(always)]
    pub unsafe fn max(self, p: *const f32) -> S::V {
        let s = self.s;
        let lowest = s.splat(f32::NEG_INFINITY);
        let mut best = [lowest; 4];
        self.each(
            #[inline(always)]
            |i| {
                // SAFETY: the caller's contract.
                let v = unsafe { self.load(p, i, f32::NEG_INFINITY) };
                let [a, b, c, d] = best;
                best = [b, c, d, s.max(a, v)];
            },
        );
        self.across_max(s.max(s.max(best[0], best[1]), s.max(best[2], best[3])))
    }
}
