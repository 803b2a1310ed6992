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
    /// Outputs of a tile, and how many less the last one has, two at most.
    pub m: usize,
    pub short: usize,
}

impl Axis {
    /// Tiles.
    fn tiles(&self) -> usize {
        self.outputs.div_ceil(self.m)
    }

    /// With so many outputs in a tile.
    fn cut(self, m: usize) -> Axis {
        Axis { m, short: (self.outputs.next_multiple_of(m) - self.outputs).min(2), ..self }
    }

    /// Whether the tile whose first output this is is short.
    fn is_short(&self, first: usize) -> bool {
        first + self.m > self.outputs
    }
}

/// Where a tile is: its image and its first output along each axis.
pub(super) type Place = [usize; 3];

/// Tiles that are computed together, in the order of their kinds.
pub(super) struct Block<'a> {
    pub tiles: Range<usize>,
    pub places: &'a [Place],
    /// Where each kind ends.
    ends: [usize; 4],
}

/// The kind of tiles that are short along these axes: in this order those with a product at some position stand side by side.
fn kind(short: [bool; 2]) -> usize {
    match short {
        [false, true] => 0,
        [false, false] => 1,
        [true, false] => 2,
        [true, true] => 3,
    }
}

impl Block<'_> {
    /// The tiles that are short along the axes in question, and along no other.
    pub fn kind(&self, short: [bool; 2]) -> Range<usize> {
        let kind = kind(short);
        if kind == 0 { 0..self.ends[0] } else { self.ends[kind - 1]..self.ends[kind] }
    }

    /// Those with a product at a position that short tiles drop in these directions.
    pub fn with_product(&self, dropped: [bool; 2]) -> Range<usize> {
        match dropped {
            [false, false] => 0..self.ends[3],
            [true, false] => 0..self.ends[1],
            [false, true] => self.ends[0]..self.ends[2],
            [true, true] => self.ends[0]..self.ends[1],
        }
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
            m: 1,
            short: 0,
        };
        let across = Axis { inputs: g.w, outputs: g.ow, input_step: 1, output_step: 1, pad: g.pad.1, ..down };
        let [first, second] = if directions == 1 && g.kw == 1 { [across, down] } else { [down, across] };
        Grid { axes: [first.cut(if directions == 2 { m } else { 1 }), second.cut(m)] }
    }

    /// Along which axes a short tile has no product at a position.
    pub fn dropped(&self, minimal: Minimal, position: usize) -> [bool; 2] {
        let (line, [a, b]) = (minimal.line(), self.axes);
        [dropped(line, a.short, position / line), dropped(line, b.short, position % line)]
    }

    /// Tiles of an image.
    pub fn tiles(&self) -> usize {
        self.axes.iter().map(Axis::tiles).product()
    }

    /// Products of an image, for each channel and filter: the positions of all its tiles.
    pub fn products(&self, minimal: Minimal) -> usize {
        let along = |axis: &Axis| {
            let (tiles, line) = (axis.tiles(), if axis.m == 1 { 1 } else { minimal.line() });
            tiles * line - axis.short
        };
        self.axes.iter().map(along).product()
    }

    /// Calls `body` with a range of tiles.
    pub fn with_block<R>(&self, tiles: Range<usize>, body: impl FnOnce(&Block) -> R) -> R {
        let [a, b] = &self.axes;
        let kind = |place: &Place| kind([a.is_short(place[1]), b.is_short(place[2])]);
        let mut ends = [0; 4];
        self.walk(tiles.clone()).for_each(|place| ends[kind(&place)] += 1);
        (1..4).for_each(|kind| ends[kind] += ends[kind - 1]);
        let mut next = [0, ends[0], ends[1], ends[2]];
        scratch::with(tiles.len(), |places: &mut [Place]| {
            for place in self.walk(tiles.clone()) {
                let next = &mut next[kind(&place)];
                places[*next] = place;
                *next += 1;
            }
            body(&Block { tiles, places, ends })
        })
    }

    /// The places of tiles.
    fn walk(&self, tiles: Range<usize>) -> impl Iterator<Item = Place> {
        let [a, b] = self.axes;
        let (lines, line) = (a.tiles().max(1), b.tiles().max(1));
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
