//! The register tiles of each instruction set, for every height in rows and width in vectors.

use super::Cut;
use super::tile::{At, Tile, finish, tile};
use crate::Isa;
use crate::isa::Level;
use crate::simd::{Scalar, Simd};

/// # Safety
/// The machine has the kernel's instructions, and every pointer of the [`Tile`] is valid for what
/// the shape of the kernel reads and writes through it.
pub(crate) type Kernel = unsafe fn(&Tile);

/// Takes the raw sums (`rows` of `stride`) of a narrow tile to C, at a row and a column.
pub(super) type Finish = unsafe fn(&Tile, (usize, usize), *const f32, usize, usize);

/// The kernels of one width in vectors, for one row and more.
pub(crate) struct Width {
    pub by_rows: &'static [Kernel],
    pub by_panel: &'static [Kernel],
    /// As `by_rows`, where the last vector has no more columns than half a vector; empty where that is no faster.
    pub by_rows_half: &'static [Kernel],
    /// As `by_rows`; they pack the panel on the way.
    pub packing: &'static [Kernel],
}

/// The kernels of one instruction set.
pub(crate) struct Kernels {
    pub lanes: usize,
    /// Rows of the tallest tile.
    pub rows: usize,
    /// For panels of one vector, two, and so on.
    pub widths: &'static [Width],
    /// For few rows, several panels of `wide_panel` vectors at once: `(panels, kernels by rows)`, the most panels first.
    pub wide_panel: usize,
    pub wide: &'static [(usize, &'static [Kernel])],
    pub finish: Finish,
}

impl Width {
    /// The kernel that reads so many rows of A by rows, where so many columns are there.
    pub fn kernel(&self, lanes: usize, rows: usize, cols: usize) -> Kernel {
        // Of a power of two, without a division.
        let half = (1..=lanes / 2).contains(&(cols & (lanes - 1)));
        let kernel = self.by_rows_half.get(rows - 1).filter(|_| half);
        *kernel.unwrap_or(&self.by_rows[rows - 1])
    }
}

impl Kernels {
    /// The kernels of panels of so many columns.
    pub fn width(&self, stored: usize) -> &'static Width {
        &self.widths[(stored >> self.lanes.trailing_zeros()) - 1]
    }

    /// Rows of the tallest tile of so many columns.
    pub fn height(&self, stored: usize) -> usize {
        self.width(stored).by_rows.len()
    }

    /// The most rows that have kernels for several panels at once.
    pub fn few(&self) -> usize {
        self.wide.iter().map(|(_, kernels)| kernels.len()).max().unwrap_or(0)
    }

    /// The most of `panels` panels of a cut that fit in registers with `rows` rows, and the kernel.
    pub fn wide(&self, cut: &Cut, rows: usize, panels: usize) -> Option<(usize, Kernel)> {
        if cut.most() != self.wide_panel {
            return None;
        }
        let fits = |&(count, list): &(usize, &[Kernel])| {
            Some((count, *list.get(rows.wrapping_sub(1))?)).filter(|_| count <= panels)
        };
        self.wide.iter().find_map(fits)
    }
}

/// Declares the kernels of one instruction set in a module of their own: for each width in vectors the heights in rows, and
/// those of several panels of `panel` vectors.
macro_rules! kernels {
    ($name:ident, $(#[$features:meta])? $simd:ty, $token:expr, rows $rows:literal,
     widths [$(($nv:literal, $($mr:literal)*))*], panel $pv:literal, wide [$(($wnv:literal, $($wmr:literal)*))*]) => {
        mod $name {
            use super::*;

            $(#[$features])?
            unsafe fn kernel<
                const MR: usize,
                const NV: usize,
                const PV: usize,
                const ROWS: bool,
                const PACK: bool,
                const HALF: bool,
            >(
                t: &Tile,
            ) {
                for outer in 0..t.outer.count {
                    for inner in 0..t.inner.count {
                        let at = At::new(t, outer, inner);
                        // SAFETY: the contract of `Kernel`, and of the token.
                        unsafe { tile::<$simd, MR, NV, PV, ROWS, PACK, HALF>($token, t, at) };
                    }
                }
            }

            $(#[$features])?
            unsafe fn finish_narrow(t: &Tile, at: (usize, usize), sums: *const f32, rows: usize, stride: usize) {
                // SAFETY: as above.
                unsafe { finish::<$simd>($token, t, at, sums, rows, stride) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                lanes: <$simd as Simd>::LANES,
                rows: $rows,
                widths: &[$(Width {
                    by_rows: &[$(kernel::<$mr, $nv, $nv, true, false, false>),*],
                    by_rows_half: if <$simd as Simd>::HALVES { &[$(kernel::<$mr, $nv, $nv, true, false, true>),*] } else { &[] },
                    by_panel: &[$(kernel::<$mr, $nv, $nv, false, false, false>),*],
                    packing: &[$(kernel::<$mr, $nv, $nv, true, true, false>),*],
                }),*],
                wide_panel: $pv,
                wide: &[$(($wnv / $pv, &[$(kernel::<$wmr, $wnv, $pv, true, false, false>),*])),*],
                finish: finish_narrow,
            };
        }
    };
}

// Three vectors by nine rows load 12 times for 27 multiplications, two by fourteen 16 times for 28: while a neighbour uses
// the other half of the core, or where vectors of 64 bytes are loaded more slowly than multiplied, that decides.
#[cfg(target_arch = "x86_64")]
kernels!(avx512, #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    crate::simd::Avx512, crate::simd::Avx512::new_unchecked(), rows 14,
    widths [(1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) (2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) (3, 1 2 3 4 5 6 7 8 9)],
    panel 2, wide [(8, 1 2) (6, 1 2 3) (4, 1 2 3)]);

#[cfg(target_arch = "x86_64")]
kernels!(avx2, #[target_feature(enable = "avx2,fma")]
    crate::simd::Avx2, crate::simd::Avx2::new_unchecked(), rows 6,
    widths [(1, 1 2 3 4 5 6) (2, 1 2 3 4 5 6)], panel 2, wide [(8, 1) (4, 1 2)]);

#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::simd::Neon, crate::simd::Neon::new_unchecked(), rows 8,
    widths [(1, 1 2 3 4 5 6 7 8) (2, 1 2 3 4 5 6 7 8)], panel 2, wide [(8, 1 2) (6, 1 2 3) (4, 1 2 3)]);

kernels!(scalar, Scalar, Scalar::new(), rows 4, widths [(1, 1 2 3 4)], panel 1, wide [(2, 1)]);

/// The kernels that `isa` proves.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => &avx2::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => &neon::KERNELS,
        _ => &scalar::KERNELS,
    }
}
