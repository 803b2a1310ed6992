//! How the columns of B are cut into panels, each as wide as one tile.

use super::tile::kernels;
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
}

/// Rows that read several panels at once: then panels are of two vectors, of which any number of tasks get as many.
const FEW: usize = 3;

impl Cut {
    /// Of `n` columns that `m` rows are multiplied by, or any number of rows if it is zero.
    pub fn new(isa: Isa, m: usize, n: usize) -> Cut {
        let kernels = kernels(isa);
        let most = kernels.widths.len();
        Cut { n, lanes: kernels.lanes, most: if (1..=FEW).contains(&m) { most.min(2) } else { most } }
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
        self.n.div_ceil(self.widest())
    }

    /// The columns of some panels, with those that are not there but fill up the last vector.
    pub fn stored(&self, panels: Range<usize>) -> Range<usize> {
        let (vectors, most) = (self.n.div_ceil(self.lanes), self.most);
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
        let panels = self.panels();
        if self.n.is_multiple_of(self.lanes) { panels..panels } else { panels - 1..panels }
    }

    /// How many panels are as wide as can be and have all their columns.
    pub fn whole(&self) -> usize {
        let whole = self.n / self.widest();
        if whole > 0 && self.stored(whole - 1..whole).len() < self.widest() { whole - 1 } else { whole }
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
                    assert_eq!((at, cut.stored(panels..panels)), (n, cut.stored(0..panels).end..cut.stored(0..panels).end));
                    assert_eq!(cut.broken().is_empty(), n.is_multiple_of(lanes), "{cut:?}");
                }
            }
        }
    }
}
