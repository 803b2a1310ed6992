//! Where a product goes, what is added on the way, and what is read after it.

use crate::epilogue::{Act, Epilogue};
use std::marker::PhantomData;

/// C and its epilogue, shared by the tasks of one call, which write disjoint parts of it.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    pub c: *mut f32,
    /// Columns, from `c` on.
    pub cols: usize,
    pub accumulate: bool,
    pub bias: *const f32,
    pub residual: *const f32,
    pub act: Act,
    /// What will be read after the product.
    pub next: Next,
    /// Whether panels are taken from the last to the first.
    pub backward: bool,
    life: PhantomData<&'a mut [f32]>,
}

/// Memory that is fetched while a product is computed: regions of as many floats each, of which each tile asks for as much of
/// its share as it has k, a line for each. (The rest at once, after each tile, costs what it saves.)
#[derive(Clone, Copy)]
pub(crate) struct Next {
    regions: [*const f32; Next::MOST],
    count: usize,
    len: usize,
}

impl Next {
    const MOST: usize = 8;

    /// Nothing.
    pub const NONE: Next = Next { regions: [std::ptr::null(); Next::MOST], count: 0, len: 0 };

    /// The first few of `regions` of `len` floats.
    pub fn new(regions: impl Iterator<Item = *const f32>, len: usize) -> Next {
        let mut next = Next { len, ..Next::NONE };
        for region in regions.take(Next::MOST) {
            next.regions[next.count] = region;
            next.count += 1;
        }
        next
    }

    /// The share of part `i` of `parts`.
    pub fn share(&self, i: usize, parts: usize) -> Option<Share> {
        if self.count == 0 {
            return None; // without a division per tile
        }
        let each = parts.div_ceil(self.count);
        let (region, i) = (self.regions[..self.count].get(i / each)?, i % each);
        Some(Share { start: region.wrapping_add(i * self.len / each), len: self.len, left: each - i, each })
    }
}

/// Part of a region of so many floats, where `left` of `each` parts are still to come.
pub(crate) struct Share {
    pub start: *const f32,
    pub len: usize,
    pub left: usize,
    pub each: usize,
}

// SAFETY: bias and residual are only read; writers of `c` keep to disjoint parts.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    pub fn new(c: &'a mut [f32], cols: usize, accumulate: bool, ep: &Epilogue<'a>) -> Self {
        let pointer = |s: Option<&[f32]>| s.map_or(std::ptr::null(), |s| s.as_ptr());
        Output {
            c: c.as_mut_ptr(),
            cols,
            accumulate,
            bias: pointer(ep.bias),
            residual: if ep.onto { c.as_ptr() } else { pointer(ep.residual) },
            act: ep.act,
            next: Next::NONE,
            backward: false,
            life: PhantomData,
        }
    }

    /// With panels from the last to the first, or not.
    pub fn backward(&self, backward: bool) -> Self {
        Output { backward, ..*self }
    }

    /// The `cols` columns from `first` on.
    pub fn columns(&self, first: usize, cols: usize) -> Self {
        let shift = |p: *const f32| if p.is_null() { p } else { p.wrapping_add(first) };
        Output {
            c: self.c.wrapping_add(first),
            cols,
            bias: shift(self.bias),
            residual: shift(self.residual),
            ..*self
        }
    }

    /// The epilogue of one element before its activation.
    ///
    /// # Safety
    /// The element is in bounds and this thread's.
    pub unsafe fn finish(&self, offset: usize, col: usize, mut v: f32) {
        // SAFETY: the caller's contract; bias and residual have checked lengths.
        unsafe {
            let c = self.c.add(offset + col);
            if self.accumulate {
                v += *c;
            }
            if !self.bias.is_null() {
                v += *self.bias.add(col);
            }
            if !self.residual.is_null() {
                v += *self.residual.add(offset + col);
            }
            *c = v;
        }
    }
}
