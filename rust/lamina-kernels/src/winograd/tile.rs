//! The tiles that outputs are computed in, and how they lie over the images.

use crate::conv::Conv2d;
use std::ops::Range;

/// A minimal filtering algorithm, named by its outputs and the filter's taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Minimal {
    /// F(2x2, 3x3)
    F2x2_3x3,
    /// F(4x4, 3x3)
    F4x4_3x3,
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
    pub const ALL: [Minimal; 7] = {
        use Minimal::*;
        [F2x2_3x3, F4x4_3x3, F2x2_5x5, F4_3, F2_5, F4_5, F2_7]
    };

    /// Directions that it filters in, outputs of a tile and taps in each.
    fn size(self) -> (u32, usize, usize) {
        match self {
            Minimal::F2x2_3x3 => (2, 2, 3),
            Minimal::F4x4_3x3 => (2, 4, 3),
            Minimal::F2x2_5x5 => (2, 2, 5),
            Minimal::F4_3 => (1, 4, 3),
            Minimal::F2_5 => (1, 2, 5),
            Minimal::F4_5 => (1, 4, 5),
            Minimal::F2_7 => (1, 2, 7),
        }
    }

    /// Inputs of a tile: positions of a transformed one.
    pub(super) fn positions(self) -> usize {
        let (directions, m, r) = self.size();
        (m + r - 1).pow(directions)
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
    /// Outputs of a tile.
    pub m: usize,
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
        };
        let across =
            Axis { inputs: g.w, outputs: g.ow, input_step: 1, output_step: 1, pad: g.pad.1, m: down.m };
        let [first, second] = if directions == 1 && g.kw == 1 { [across, down] } else { [down, across] };
        Grid { axes: [first, Axis { m, ..second }] }
    }

    /// Tiles of an image.
    pub fn tiles(&self) -> usize {
        self.axes.iter().map(|axis| axis.outputs.div_ceil(axis.m)).product()
    }

    /// The image of each tile, and its first output along each axis.
    pub fn walk(&self, tiles: Range<usize>) -> impl Iterator<Item = (usize, [usize; 2])> {
        let [a, b] = self.axes;
        let (lines, line) = (a.outputs.div_ceil(a.m).max(1), b.outputs.div_ceil(b.m).max(1));
        let first = tiles.start;
        // Counted on: divisions would take as long as the transforms do.
        let mut at = (first / (lines * line), [first / line % lines * a.m, first % line * b.m]);
        tiles.map(move |_| {
            let tile = at;
            at.1[1] += b.m;
            if at.1[1] >= b.outputs {
                at.1 = [at.1[0] + a.m, 0];
            }
            if at.1[0] >= a.outputs {
                at = (at.0 + 1, [0, 0]);
            }
            tile
        })
    }
}
