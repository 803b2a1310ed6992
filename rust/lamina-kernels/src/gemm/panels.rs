//! How the columns of B are cut into panels, each as wide as one tile, and where these lie.

use super::kernels::kernels;
use super::{AMX_PANEL, MatRef};
use crate::Isa;
use std::ops::Range;

/// Panels are as wide as registers allow, but the last: or the last two, where a lone vector would be left over, whose tiles
/// load a number for each multiplication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    /// Columns.
    n: usize,
    /// Columns of a vector, and vectors of the widest panel.
    lanes: usize,
    most: usize,
    /// How many vectors and panels there are, and panels that are as wide as can be and have all their columns: kept, as
    /// divisions are slow.
    vectors: usize,
    panels: usize,
    whole: usize,
}

impl Cut {
    /// Of `n` columns that `m` rows are multiplied by, or any number of rows if it is zero.
    pub fn new(isa: Isa, m: usize, n: usize) -> Cut {
        let kernels = kernels(isa);
        // Few rows read several narrow panels at once, of which any number of tasks get as many.
        let few = (1..=kernels.few()).contains(&m);
        let (lanes, most) = (kernels.lanes, if few { kernels.wide_panel } else { kernels.widths.len() });
        let (panels, whole) = (n.div_ceil(most * lanes), n / (most * lanes));
        let mut cut = Cut { n, lanes, most, vectors: n.div_ceil(lanes), panels, whole };
        if whole > 0 && cut.stored(whole - 1..whole).len() < cut.widest() {
            cut.whole -= 1;
        }
        cut
    }

    /// How many columns there are.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Vectors of the widest panel.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Columns of the widest panel.
    pub fn widest(&self) -> usize {
        self.most * self.lanes
    }

    /// How many panels there are.
    pub fn panels(&self) -> usize {
        self.panels
    }

    /// The columns of some panels, with those that are not there but fill up the last vector.
    pub fn stored(&self, panels: Range<usize>) -> Range<usize> {
        let (vectors, most) = (self.vectors, self.most);
        let start = |panel: usize| {
            let start = (panel * most).min(vectors);
            if most > 2 && panel > 0 && start + 1 == vectors { vectors - 2 } else { start }
        };
        start(panels.start) * self.lanes..start(panels.end) * self.lanes
    }

    /// The columns of some panels.
    pub fn columns(&self, panels: Range<usize>) -> Range<usize> {
        let Range { start, end } = self.stored(panels);
        start.min(self.n)..end.min(self.n)
    }

    /// The last panel, where it ends within a vector, else none.
    pub fn broken(&self) -> Range<usize> {
        let panels = self.panels;
        if self.vectors * self.lanes == self.n { panels..panels } else { panels - 1..panels }
    }

    /// How many panels are as wide as can be and have all their columns.
    pub fn whole(&self) -> usize {
        self.whole
    }
}

/// B as the tiles read it.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    data: *const f32,
    /// Floats from the first number of one column to that of the next, and from one k to the next where B is not packed.
    pub stride: usize,
    pub step: usize,
    /// The last panel, where B is not packed and this one is not whole.
    tail: *const f32,
    pub k: usize,
    pub cut: Cut,
    /// Whether B is split into parts: then the multiply is AMX's.
    pub parts: bool,
    /// Whether B lies where it came from: not packed, but for the last columns.
    pub in_place: bool,
}

// SAFETY: a view of memory that only is read, shared by the tasks of one call.
unsafe impl Sync for Panels {}

impl Panels {
    /// `data` is what `pack_b` wrote.
    pub fn packed(data: &[f32], k: usize, cut: Cut) -> Self {
        debug_assert_eq!(data.len(), k * cut.stored(0..cut.panels()).len());
        let data = data.as_ptr();
        Panels { data, stride: k, step: 0, tail: data, k, cut, parts: false, in_place: false }
    }

    /// `data` is B in parts for AMX.
    #[cfg(target_arch = "x86_64")]
    pub fn parts(data: &[f32], k: usize, cut: Cut) -> Self {
        debug_assert_eq!(data.len(), super::amx::parts::len(k, cut.n()));
        let data = data.as_ptr();
        Panels { data, stride: 0, step: 0, tail: data, k, cut, parts: true, in_place: false }
    }

    /// Where the parts of a panel of AMX are.
    #[cfg(target_arch = "x86_64")]
    pub fn parts_of(&self, panel: usize) -> *const u16 {
        self.data.wrapping_add(panel * super::amx::parts::len(self.k, AMX_PANEL)).cast()
    }

    /// A row-major B read where it lies; `tail` holds its packed last panel, where this one ends within a vector.
    pub fn in_place(b: MatRef, cut: Cut, tail: &[f32]) -> Self {
        let (data, tail) = (b.data.as_ptr(), tail.as_ptr());
        Panels { data, stride: 1, step: b.row_stride, tail, k: b.rows, cut, parts: false, in_place: true }
    }

    /// The columns of some panels: AMX's where B is in parts.
    pub fn columns(&self, panels: Range<usize>) -> Range<usize> {
        if self.parts {
            return panels.start * AMX_PANEL..(panels.end * AMX_PANEL).min(self.cut.n());
        }
        self.cut.columns(panels)
    }

    /// Where all of it begins.
    pub fn start(&self) -> *const f32 {
        self.data
    }

    /// Where a panel with these columns begins, and floats from one k to the next.
    pub fn place(&self, stored: &Range<usize>) -> (*const f32, usize) {
        let there = self.data.wrapping_add(stored.start * self.stride);
        match self.in_place {
            true if stored.end > self.cut.n() => (self.tail, stored.len()),
            true => (there, self.step),
            false => (there, stored.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_all_columns_and_no_vector_is_left_over() {
        for isa in Isa::available() {
            let lanes = kernels(isa).lanes;
            for m in [0, 1, 3, 4] {
                for n in 0..12 * lanes {
                    let cut = Cut::new(isa, m, n);
                    let panels = cut.panels();
                    let mut at = 0;
                    for panel in 0..panels {
                        let (stored, columns) = (cut.stored(panel..panel + 1), cut.columns(panel..panel + 1));
                        assert_eq!((stored.start, columns.start), (at, at), "{cut:?}");
                        assert!((1..=cut.widest()).contains(&columns.len()), "{cut:?}");
                        assert_eq!(stored.len(), columns.len().next_multiple_of(lanes), "{cut:?}");
                        assert_eq!(panel < cut.whole(), columns.len() == cut.widest(), "{cut:?}");
                        let lone = stored.len() == lanes && n > lanes;
                        assert!(!lone || cut.most() < 3, "{cut:?}");
                        at = columns.end;
                    }
                    assert_eq!(
                        (at, cut.stored(panels..panels)),
                        (n, cut.stored(0..panels).end..cut.stored(0..panels).end)
                    );
                    assert_eq!(cut.broken().is_empty(), n.is_multiple_of(lanes), "{cut:?}");
                }
            }
        }
    }
}
