//! The tiles that outputs are computed in, and how they lie over the images.

use super::line::dropped;
use crate::conv::Conv2d;
use crate::scratch;
use std::ops::Range;

/// A minimal filtering algorithm, named by its outputs and the filter's taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Minimal {
    /// F(2x2, 3x3)
    F2x2_3x3,
    /// F(4x4, 3x3)
    F4x4_3x3,
    /// F(3x3, 4x4)
    F3x3_4x4,
    /// F(2x2, 5x5)
    F2x2_5x5,
    /// F(4, 3), for filters of one row or one column, as the following
    F4_3,
    /// F(2, 5)
    F2_5,
    /// F(4, 5)
    F4_5,
    /// F(2, 7)
    F2_7,
}

impl Minimal {
    /// All of them.
    pub const ALL: [Minimal; 8] = {
        use Minimal::*;
        [F2x2_3x3, F4x4_3x3, F3x3_4x4, F2x2_5x5, F4_3, F2_5, F4_5, F2_7]
    };

    /// Directions that it filters in, outputs of a tile and taps in each.
    fn size(self) -> (u32, usize, usize) {
        match self {
            Minimal::F2x2_3x3 => (2, 2, 3),
            Minimal::F4x4_3x3 => (2, 4, 3),
            Minimal::F3x3_4x4 => (2, 3, 4),
            Minimal::F2x2_5x5 => (2, 2, 5),
            Minimal::F4_3 => (1, 4, 3),
            Minimal::F2_5 => (1, 2, 5),
            Minimal::F4_5 => (1, 4, 5),
            Minimal::F2_7 => (1, 2, 7),
        }
    }

    /// Inputs of a tile: positions of a transformed one.
    pub(super) fn positions(self) -> usize {
        let (directions, ..) = self.size();
        self.line().pow(directions)
    }

    /// Positions of a line of a transformed tile.
    fn line(self) -> usize {
        let (_, m, r) = self.size();
        m + r - 1
    }

    /// In which directions a short tile has no product at a position.
    pub(super) fn dropped(self, position: usize) -> [bool; 2] {
        let line = self.line();
        [position / line, position % line].map(|at| dropped(line, at))
    }

    /// Taps of a filter.
    pub(super) fn taps(self) -> usize {
        let (directions, _, r) = self.size();
        r.pow(directions)
    }

    /// Whether it computes this convolution: steps of single pixels, one group, a filter of its size.
    pub fn applies(self, g: &Conv2d) -> bool {
        let (directions, _, r) = self.size();
        let square = (g.kh, g.kw) == (r, r);
        let line = (g.kh, g.kw) == (1, r) || (g.kh, g.kw) == (r, 1);
        (g.stride, g.dilation, g.groups) == ((1, 1), (1, 1), 1) && if directions == 2 { square } else { line }
    }
}

/// One direction of the images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Pixels of the input and of the output.
    pub inputs: usize,
    pub outputs: usize,
    /// How many pixels each lies from the one before.
    pub input_step: usize,
    pub output_step: usize,
    pub pad: usize,
    /// Outputs of a tile, and of a short one, if there are such: it stands at the end and has fewer positions.
    pub m: usize,
    pub short: usize,
}

impl Axis {
    /// Whether the tile whose first output this is is short.
    fn is_short(&self, first: usize) -> bool {
        self.outputs - first <= self.short
    }

    /// Tiles, and short ones among them.
    fn tiles(&self) -> (usize, usize) {
        let tiles = self.outputs.div_ceil(self.m);
        (tiles, if tiles > 0 && self.is_short((tiles - 1) * self.m) { 1 } else { 0 })
    }
}

/// Where a tile is: its image and its first output along each axis.
pub(super) type Place = [usize; 3];

/// Tiles that are computed together, in an order by which those with a product at some position stand side by side: short
/// along the second axis, along none, along the first, along both.
pub(super) struct Block<'a> {
    pub places: &'a [Place],
    /// Where each of the four ends.
    ends: [usize; 4],
}

impl Block<'_> {
    /// The tiles that are short along the axes in question, or not.
    pub fn kind(&self, short: [bool; 2]) -> Range<usize> {
        let kind = match short {
            [false, true] => 0,
            [false, false] => 1,
            [true, false] => 2,
            [true, true] => 3,
        };
        if kind == 0 { 0..self.ends[0] } else { self.ends[kind - 1]..self.ends[kind] }
    }

    /// Those with a product at a position that short tiles drop in these directions.
    pub fn with_product(&self, dropped: [bool; 2]) -> Range<usize> {
        let [down, across] = dropped;
        let first = if across { self.ends[0] } else { 0 };
        first..self.ends[if down {
            1
        } else if across {
            2
        } else {
            3
        }]
    }
}

/// The tiles of the images: first along the second axis, then the first, then from image to image. Tiles that are lines
/// lie along the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub axes: [Axis; 2],
}

impl Grid {
    pub fn new(g: &Conv2d, tile: Minimal) -> Grid {
        let (directions, m, _) = tile.size();
        let down = Axis {
            inputs: g.h,
            outputs: g.oh,
            input_step: g.w,
            output_step: g.ow,
            pad: g.pad.0,
            m: if directions == 2 { m } else { 1 },
            short: 0,
        };
        let down = Axis { short: down.m.saturating_sub(2), ..down };
        let across = Axis { inputs: g.w, outputs: g.ow, input_step: 1, output_step: 1, pad: g.pad.1, ..down };
        let [first, second] = if directions == 1 && g.kw == 1 { [across, down] } else { [down, across] };
        Grid { axes: [first, Axis { m, short: m - 2, ..second }] }
    }

    /// Tiles of an image.
    pub fn tiles(&self) -> usize {
        self.axes.iter().map(|axis| axis.tiles().0).product()
    }

    /// Products of an image, for each channel and filter: the positions of all its tiles.
    pub fn products(&self, minimal: Minimal) -> usize {
        let along = |axis: &Axis| {
            let (tiles, short) = axis.tiles();
            if axis.m == 1 { tiles } else { tiles * minimal.line() - 2 * short }
        };
        self.axes.iter().map(along).product()
    }

    /// Calls `body` with a range of tiles.
    pub fn with_block<R>(&self, tiles: Range<usize>, body: impl FnOnce(&Block) -> R) -> R {
        let [a, b] = &self.axes;
        scratch::with(tiles.len(), |places: &mut [Place]| {
            let (mut at, mut ends) = (0, [0; 4]);
            for (kind, short) in
                [[false, true], [false, false], [true, false], [true, true]].iter().enumerate()
            {
                for place in self.walk(tiles.clone()) {
                    if [a.is_short(place[1]), b.is_short(place[2])] == *short {
                        places[at] = place;
                        at += 1;
                    }
                }
                ends[kind] = at;
            }
            body(&Block { places, ends })
        })
    }

    /// The places of tiles.
    fn walk(&self, tiles: Range<usize>) -> impl Iterator<Item = Place> {
        let [a, b] = self.axes;
        let (lines, line) = (a.outputs.div_ceil(a.m).max(1), b.outputs.div_ceil(b.m).max(1));
        let first = tiles.start;
        // Counted on: divisions would take as long as the transforms do.
        let mut at = [first / (lines * line), first / line % lines * a.m, first % line * b.m];
        tiles.map(move |_| {
            let tile = at;
            at[2] += b.m;
            if at[2] >= b.outputs {
                at = [at[0], at[1] + a.m, 0];
            }
            if at[1] >= a.outputs {
                at = [at[0] + 1, 0, 0];
            }
            tile
        })
    }
}
