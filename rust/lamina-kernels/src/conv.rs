//! 2D convolution, NHWC images by HWIO filters: forward and both gradients, as multiplies that read the
//! image in place.
//!
//! Each output pixel is a row of a multiply whose A is the pixel's window. A table of pointers stands for
//! that matrix, which is never built; only where a window hangs over the border are the image's rows first
//! copied into a padded strip. The gradient with respect to the input is the same multiply over the output
//! gradient, once for each of the `stride x stride` residues of the input coordinates, each of which sees
//! a fixed subset of the taps. Formulas: Dumoulin and Visin, "A guide to convolution arithmetic".

mod filter;
mod gated;
mod indirect;
mod phases;
mod pooled;
pub(crate) mod window;

pub use crate::winograd::Minimal;
pub use filter::ConvGradFilter;
pub use gated::GatedConv;
pub use pooled::PooledConv;

use crate::Isa;
use crate::epilogue::Epilogue;
use crate::gemm::{Cut, MatRef, Packing, gemm, pack_b_rows};
use crate::winograd::{self, Winograd};
pub(crate) use indirect::{Indirect, Lattice};
use phases::Phases;
use window::{Image, Tap};

/// The geometry of a 2D convolution (1D: `h = kh = oh = 1`). Padding at the bottom and right is what `oh`
/// and `ow` imply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Images in the batch.
    pub n: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Input channels, in all groups.
    pub c: usize,
    /// Filter height.
    pub kh: usize,
    /// Filter width.
    pub kw: usize,
    /// Output height.
    pub oh: usize,
    /// Output width.
    pub ow: usize,
    /// Output channels, in all groups.
    pub co: usize,
    /// Vertical and horizontal step between windows.
    pub stride: (usize, usize),
    /// Vertical and horizontal step between the taps of a window.
    pub dilation: (usize, usize),
    /// Padding at the top and at the left.
    pub pad: (usize, usize),
    /// Groups that the channels are cut into; each output group sees its own input group.
    pub groups: usize,
}

impl Conv2d {
    /// Elements of the input `[n, h, w, c]`.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Elements of the filter `[kh, kw, c / groups, co]`.
    pub fn filter_len(&self) -> usize {
        self.kh * self.kw * (self.c / self.groups) * self.co
    }

    /// Elements of the output `[n, oh, ow, co]`.
    pub fn y_len(&self) -> usize {
        self.n * self.oh * self.ow * self.co
    }

    pub(crate) fn check(&self) {
        let Conv2d { stride, dilation, groups, .. } = *self;
        assert!(
            stride.0 > 0 && stride.1 > 0 && dilation.0 > 0 && dilation.1 > 0,
            "strides and dilations start at 1"
        );
        assert!(
            groups > 0 && self.c.is_multiple_of(groups) && self.co.is_multiple_of(groups),
            "{} and {} channels do not divide into {groups} groups",
            self.c,
            self.co
        );
    }

    /// Whether it is a plain multiply of pixels by a matrix.
    pub(crate) fn pointwise(&self) -> bool {
        let same = (self.oh, self.ow) == (self.h, self.w);
        (self.kh, self.kw, self.stride, self.pad, self.groups) == (1, 1, (1, 1), (0, 0), 1) && same
    }

    /// The convolution that the gradient with respect to the input is: of `dy`, with the filter turned around. Where its
    /// steps are single pixels and its padding is no wider than the filter reaches.
    fn mirrored(&self) -> Option<Conv2d> {
        let plain = (self.stride, self.dilation, self.groups) == ((1, 1), (1, 1), 1);
        let pad = (self.kh.checked_sub(1 + self.pad.0)?, self.kw.checked_sub(1 + self.pad.1)?);
        let Conv2d { h, w, c, oh, ow, co, .. } = *self;
        plain.then_some(Conv2d { h: oh, w: ow, c: co, oh: h, ow: w, co: c, pad, ..*self })
    }

    /// The taps in the order of the filter, each with where it looks from the pixel `(0, 0)` of the output.
    pub(crate) fn taps(&self) -> Vec<Tap> {
        let at = |k: usize, dilation: usize, pad: usize| (k * dilation) as isize - pad as isize;
        (0..self.kh * self.kw)
            .map(|k| Tap {
                dy: at(k / self.kw, self.dilation.0, self.pad.0),
                dx: at(k % self.kw, self.dilation.1, self.pad.1),
                index: k,
            })
            .collect()
    }

    /// The residues of the input coordinates modulo the strides, each with the taps through which output
    /// pixels see such inputs: input pixel `r + q s` is seen through a tap by output pixel `q + (r - tap) / s`.
    pub(crate) fn phases(&self) -> impl Iterator<Item = Phase> {
        let g = *self;
        let (sy, sx) = g.stride;
        let exact = |r: usize, tap: isize, s: usize| {
            let distance = r as isize - tap;
            (distance % s as isize == 0).then_some(distance / s as isize)
        };
        (0..sy.min(g.h)).flat_map(move |y| (0..sx.min(g.w)).map(move |x| (y, x))).map(move |(y, x)| {
            let seen = |tap: Tap| Some(Tap { dy: exact(y, tap.dy, sy)?, dx: exact(x, tap.dx, sx)?, ..tap });
            let mut taps: Vec<Tap> = g.taps().into_iter().filter_map(seen).collect();
            taps.sort_by_key(|tap| (tap.dy, tap.dx));
            Phase { first: (y, x), rows: (g.h - y).div_ceil(sy), cols: (g.w - x).div_ceil(sx), taps }
        })
    }
}

/// The input pixels of one residue modulo the strides.
pub(crate) struct Phase {
    /// The first of them.
    pub first: (usize, usize),
    /// How many there are in an image, down and across.
    pub rows: usize,
    pub cols: usize,
    /// Through which taps they are seen, and from where.
    pub taps: Vec<Tap>,
}

/// How a forward convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// By its definition: a multiplication for each output, tap and channel.
    Direct,
    /// With transformed filters and fewer multiplications.
    Winograd(Minimal),
    /// Likewise in steps of several pixels, which become one pixel of more channels.
    Phases(Minimal),
}

impl Algorithm {
    /// The fastest by an estimate, for a filter that is packed once for many runs or, where `repacked`, for each.
    ///
    /// It does not depend on the number of threads: neither do the bits of a result.
    pub fn fastest(isa: Isa, g: &Conv2d, repacked: bool) -> Algorithm {
        g.check();
        let definition = winograd::definition_ns(isa, g);
        let fastest = match phases::unstrided(g) {
            None => winograd::fastest(isa, g, definition, repacked).map(Algorithm::Winograd),
            Some(unstrided) => {
                let moving = phases::MOVE_NS * unstrided.x_len() as f64;
                winograd::fastest(isa, &unstrided, definition - moving, repacked).map(Algorithm::Phases)
            }
        };
        fastest.unwrap_or(Algorithm::Direct)
    }

    /// The fastest for the gradient with respect to the input, likewise.
    pub fn fastest_grad_input(isa: Isa, g: &Conv2d, repacked: bool) -> Algorithm {
        g.mirrored().map_or(Algorithm::Direct, |g| Algorithm::fastest(isa, &g, repacked))
    }
}

/// The forward convolution `y = act(x * filter + bias + residual)`, planned for one geometry.
#[derive(Clone, Debug)]
pub struct ConvForward {
    isa: Isa,
    geometry: Conv2d,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// One plain multiply.
    Pointwise(Packing),
    Indirect(Indirect),
    Winograd(Winograd),
    Phases(Phases),
}

impl ConvForward {
    /// Plans the direct algorithm; panics on strides, dilations or groups of zero, or groups that do not divide
    /// the channels.
    pub fn new(isa: Isa, geometry: &Conv2d) -> Self {
        Self::with_algorithm(isa, geometry, Algorithm::Direct)
    }

    /// Plans; panics as [`ConvForward::new`] does, and on a geometry that the algorithm does not compute.
    pub fn with_algorithm(isa: Isa, geometry: &Conv2d, algorithm: Algorithm) -> Self {
        geometry.check();
        let g = *geometry;
        let kind = match algorithm {
            Algorithm::Winograd(minimal) => Kind::Winograd(Winograd::new(isa, geometry, minimal)),
            Algorithm::Phases(minimal) => Kind::Phases(Phases::new(isa, geometry, minimal)),
            Algorithm::Direct if g.pointwise() => {
                Kind::Pointwise(Packing::new(isa, g.n * g.h * g.w, g.c, g.co))
            }
            Algorithm::Direct => {
                let image = Image { n: g.n, h: g.h, w: g.w, c: g.c };
                let lattice =
                    Lattice { rows: g.oh, cols: g.ow, first: (0, 0), step: (1, 1), image: (g.oh, g.ow) };
                Kind::Indirect(Indirect::new(isa, image, g.taps(), g.stride, g.groups, lattice, g.co, true))
            }
        };
        ConvForward { isa, geometry: g, kind }
    }

    /// Elements of the packed filter.
    pub fn packed_len(&self) -> usize {
        match &self.kind {
            Kind::Winograd(winograd) => winograd.packed_len(),
            Kind::Phases(phases) => phases.packed_len(),
            Kind::Pointwise(packing) => packing.packed_len(),
            Kind::Indirect(indirect) => indirect.packed_len(),
        }
    }

    /// A number for how the filter is laid out: the same geometry may have another for other sizes of the batch.
    pub fn layout(&self) -> u64 {
        match &self.kind {
            Kind::Winograd(_) | Kind::Phases(_) => 0,
            Kind::Pointwise(packing) => packing.layout(),
            Kind::Indirect(indirect) => indirect.packing().layout(),
        }
    }

    /// Packs a filter `[kh, kw, c / groups, co]`; panics on other lengths.
    pub fn pack(&self, hwio: &[f32], out: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(hwio.len(), g.filter_len(), "the filter has kh * kw * c / groups * co elements");
        assert_eq!(out.len(), self.packed_len(), "the packed filter has packed_len elements");
        let packing = match &self.kind {
            Kind::Winograd(winograd) => return winograd.pack(hwio, out),
            Kind::Phases(phases) => return phases.pack(hwio, out),
            Kind::Pointwise(packing) => *packing,
            Kind::Indirect(indirect) => indirect.packing(),
        };
        let (rows, cols) = (g.kh * g.kw * (g.c / g.groups), g.co / g.groups);
        let each = packing.packed_len();
        for group in 0..g.groups {
            let data = &hwio[(group * cols).min(hwio.len())..];
            let b = MatRef { data, rows, cols, row_stride: g.co, col_stride: 1 };
            packing.pack(b, &mut out[group * each..][..each]);
        }
    }

    /// Computes `y` `[n, oh, ow, co]` from `x` `[n, h, w, c]`; panics on other lengths.
    pub fn run(&self, x: &[f32], packed: &[f32], y: &mut [f32], ep: &Epilogue) {
        let g = &self.geometry;
        assert_eq!(x.len(), g.x_len(), "the input has n * h * w * c elements");
        assert_eq!(y.len(), g.y_len(), "the output has n * oh * ow * co elements");
        assert_eq!(packed.len(), self.packed_len(), "the packed filter has packed_len elements");
        match &self.kind {
            Kind::Winograd(winograd) => winograd.run(x, packed, y, ep),
            Kind::Phases(phases) => phases.run(x, packed, y, ep),
            Kind::Indirect(indirect) => indirect.run(x, packed, y, ep),
            Kind::Pointwise(packing) => {
                let x = MatRef::row_major(x, g.n * g.h * g.w, g.c);
                gemm(self.isa, x, packing.operand(packed), y, g.co, false, ep);
            }
        }
    }
}

/// The gradient of a convolution with respect to its input, planned for one geometry.
#[derive(Clone, Debug)]
pub struct ConvGradInput {
    isa: Isa,
    geometry: Conv2d,
    /// One multiply for each residue of the input coordinates modulo the strides; empty where one plain
    /// multiply does.
    phases: Vec<Indirect>,
    /// Instead: the convolution of `dy` with the filter turned around.
    mirrored: Option<ConvForward>,
}

impl ConvGradInput {
    /// Plans the direct algorithm; panics as [`ConvForward::new`] does.
    pub fn new(isa: Isa, geometry: &Conv2d) -> Self {
        Self::with_algorithm(isa, geometry, Algorithm::Direct)
    }

    /// Plans; panics as [`ConvForward::with_algorithm`] does.
    pub fn with_algorithm(isa: Isa, geometry: &Conv2d, algorithm: Algorithm) -> Self {
        geometry.check();
        let g = *geometry;
        if algorithm != Algorithm::Direct {
            let mirrored = g.mirrored().expect("only what mirrors has another algorithm");
            let mirrored = Some(ConvForward::with_algorithm(isa, &mirrored, algorithm));
            return ConvGradInput { isa, geometry: g, phases: Vec::new(), mirrored };
        }
        let image = Image { n: g.n, h: g.oh, w: g.ow, c: g.co };
        let plan = |phase: Phase| {
            let Phase { first, rows, cols, taps } = phase;
            let lattice = Lattice { rows, cols, first, step: g.stride, image: (g.h, g.w) };
            Indirect::new(isa, image, taps, (1, 1), g.groups, lattice, g.c, false)
        };
        let phases = if g.pointwise() { Vec::new() } else { g.phases().map(plan).collect() };
        ConvGradInput { isa, geometry: g, phases, mirrored: None }
    }

    /// Of the one plain multiply.
    fn packing(&self) -> Packing {
        let g = &self.geometry;
        Packing::new(self.isa, g.n * g.h * g.w, g.co, g.c)
    }

    /// As [`ConvForward::layout`].
    pub fn layout(&self) -> u64 {
        if self.geometry.pointwise() && self.mirrored.is_none() { self.packing().layout() } else { 0 }
    }

    /// Elements of the packed filter.
    pub fn packed_len(&self) -> usize {
        let g = &self.geometry;
        if let Some(mirrored) = &self.mirrored {
            return mirrored.packed_len();
        }
        match self.phases[..] {
            [] if g.pointwise() => self.packing().packed_len(),
            _ => self.phases.iter().map(Indirect::packed_len).sum(),
        }
    }

    /// Packs a filter `[kh, kw, c / groups, co]`; panics on other lengths.
    pub fn pack(&self, hwio: &[f32], out: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(hwio.len(), g.filter_len(), "the filter has kh * kw * c / groups * co elements");
        assert_eq!(out.len(), self.packed_len(), "the packed filter has packed_len elements");
        let (inputs, outputs) = (g.c / g.groups, g.co / g.groups);
        if let Some(mirrored) = &self.mirrored {
            return crate::scratch::with(hwio.len(), |turned: &mut [f32]| {
                // Last tap first, channels exchanged.
                let each = inputs * outputs;
                for (tap, turned) in hwio.rchunks_exact(each.max(1)).zip(turned.chunks_exact_mut(each.max(1)))
                {
                    for (o, row) in turned.chunks_exact_mut(inputs).enumerate() {
                        row.iter_mut().enumerate().for_each(|(i, x)| *x = tap[i * outputs + o]);
                    }
                }
                mirrored.pack(turned, out);
            });
        }
        if g.pointwise() {
            return self.packing().pack(MatRef::transposed(hwio, g.co, g.c), out);
        }
        let mut rest = out;
        for phase in &self.phases {
            let each = phase.packed_len() / g.groups;
            let k = phase.taps().len() * outputs;
            for group in 0..g.groups {
                let (out, tail) = rest.split_at_mut(each);
                rest = tail;
                for (t, tap) in phase.taps().iter().enumerate() {
                    let start = tap.index * inputs * g.co + group * outputs;
                    let b = MatRef {
                        data: &hwio[start.min(hwio.len())..],
                        rows: outputs,
                        cols: inputs,
                        row_stride: 1,
                        col_stride: g.co,
                    };
                    pack_b_rows(self.isa, Cut::new(self.isa, 0, inputs), b, k, t * outputs, out);
                }
            }
        }
    }

    /// Computes `dx` `[n, h, w, c]` from `dy` `[n, oh, ow, co]`; panics on other lengths.
    pub fn run(&self, dy: &[f32], packed: &[f32], dx: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(dx.len(), g.x_len(), "the input gradient has n * h * w * c elements");
        assert_eq!(dy.len(), g.y_len(), "the output gradient has n * oh * ow * co elements");
        assert_eq!(packed.len(), self.packed_len(), "the packed filter has packed_len elements");
        if let Some(mirrored) = &self.mirrored {
            return mirrored.run(dy, packed, dx, &Epilogue::none());
        }
        if g.pointwise() {
            let a = MatRef::row_major(dy, g.n * g.h * g.w, g.co);
            return gemm(self.isa, a, self.packing().operand(packed), dx, g.c, false, &Epilogue::none());
        }
        let mut start = 0;
        for phase in &self.phases {
            let len = phase.packed_len();
            phase.run(dy, &packed[start..start + len], dx, &Epilogue::none());
            start += len;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
