//! One vector vocabulary over every instruction set.
//!
//! A kernel body is generic over [`Simd`] and `#[inline(always)]`; [`dispatch!`](crate::dispatch)
//! instantiates it inside a function that enables the right target features, so that every method
//! below becomes one instruction. Only `dispatch!` makes the vector types' tokens, and it does so
//! from an [`Isa`](crate::Isa), which detection made.

/// A vector of f32 lanes of one instruction set.
///
/// The pointer methods are unsafe as raw loads and stores are: the memory must be valid for
/// `LANES` elements (or `n` for the partial ones).
pub trait Simd: Copy + Send + Sync + 'static {
    /// The register type.
    type V: Copy;
    /// The comparison-result type (a mask register or a vector of all-ones lanes).
    type M: Copy;
    /// f32 lanes per register.
    const LANES: usize;
    /// Architectural registers, for sizing tiles.
    const REGISTERS: usize;
    /// Whether partial loads and stores cost no more than whole ones.
    const MASKED: bool = false;
    /// Whether half a vector may take half the time.
    const HALVES: bool = false;
    /// Parts of an octave that [`exp2_steps`](Simd::exp2_steps) knows.
    const STEPS: usize = 1;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// Loads `LANES` elements, unaligned.
    /// # Safety
    /// `p` is valid for `LANES` reads.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Stores `LANES` elements, unaligned.
    /// # Safety
    /// `p` is valid for `LANES` writes.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Loads the first `n <= LANES` elements, the other lanes zero; touches no other memory.
    /// # Safety
    /// `p` is valid for `n` reads.
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::V;
    /// Stores the first `n <= LANES` lanes; touches no other memory.
    /// # Safety
    /// `p` is valid for `n` writes.
    unsafe fn store_partial(self, p: *mut f32, v: Self::V, n: usize);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the hardware has FMA.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// [`fma`](Simd::fma) of the first half of the lanes, the others anything: Zen 4 computes vectors of 64 bytes by halves.
    #[inline(always)]
    fn fma_half(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.fma(a, b, c)
    }
    /// `a * b - p` without rounding: what a product `p` rounded away, or a quotient's remainder.
    fn mul_error(self, a: Self::V, b: Self::V, p: Self::V) -> Self::V;
    /// The larger lane; a NaN in either operand gives NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller lane; a NaN in either operand gives NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The hardware's maximum: `a > b ? a : b`, so `b` where either is NaN. One instruction.
    fn max_fast(self, a: Self::V, b: Self::V) -> Self::V;
    /// The hardware's minimum: `a < b ? a : b`, so `b` where either is NaN. One instruction.
    fn min_fast(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// Rounds to nearest, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// Rounds down.
    fn floor(self, a: Self::V) -> Self::V;
    /// Clears the sign bit.
    fn abs(self, a: Self::V) -> Self::V;
    /// Flips the sign bit.
    fn neg(self, a: Self::V) -> Self::V;
    /// `a` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// `2^n` for integral lanes `n` in -126..=127, built in the exponent bits.
    fn exp2i(self, n: Self::V) -> Self::V;
    /// `p * 2^n` for integral lanes `n` in -252..=254, rounded once but for subnormal results.
    #[inline(always)]
    fn scale2(self, p: Self::V, n: Self::V) -> Self::V {
        // In two steps, so that neither factor leaves the range.
        let half = self.floor(self.mul(n, self.splat(0.5)));
        self.mul(self.mul(p, self.exp2i(half)), self.exp2i(self.sub(n, half)))
    }
    /// `2^n` for multiples `n` of `1 / STEPS` in -126..=126, given `t = n + 1.5 * 2^23 / STEPS` too: the bits of that
    /// count steps.
    #[inline(always)]
    fn exp2_steps(self, _t: Self::V, n: Self::V) -> Self::V {
        self.exp2i(n)
    }
    /// Splits a positive normal `x` into `(mantissa in [1, 2), exponent as f32)`.
    fn split_exponent(self, x: Self::V) -> (Self::V, Self::V);
    /// `a < b`.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a <= b`.
    fn le(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a == b`.
    fn eq(self, a: Self::V, b: Self::V) -> Self::M;
    /// Whether the mask is set in any lane.
    fn any(self, m: Self::M) -> bool;
    /// Lane of `a` where the mask is set, else lane of `b`.
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of the lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane (NaN if any lane is NaN).
    fn max_lane(self, a: Self::V) -> f32;
}

/// Numbers in a line of the cache.
pub(crate) const LINE: usize = 16;

/// Asks for the cache line at `p`, which may be anywhere, where the machine has an instruction for that.
#[inline(always)]
pub(crate) fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is in the baseline, and a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

pub use lockstep::Lockstep;

mod lockstep;

/// Eight plain lanes: the path every machine has, which the compiler vectorises as it can.
#[derive(Clone, Copy)]
pub struct Scalar(());

impl Scalar {
    /// Every machine can run it.
    pub fn new() -> Self {
        Scalar(())
    }
}

impl Default for Scalar {
    fn default() -> Self {
        Self::new()
    }
}

const S: usize = 8;

#[inline(always)]
fn map(a: [f32; S], f: impl Fn(f32) -> f32) -> [f32; S] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; S], b: [f32; S], f: impl Fn(f32, f32) -> f32) -> [f32; S] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn nan_max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

#[inline(always)]
fn nan_min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

impl Simd for Scalar {
    type V = [f32; S];
    type M = [bool; S];
    const LANES: usize = S;
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; S]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's contract; `read_unaligned` asks for no alignment.
        unsafe { p.cast::<[f32; S]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[f32; S]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::V {
        // SAFETY: only lanes below n are read.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: Self::V, n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: only lanes below n are written.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn mul_error(self, a: Self::V, b: Self::V, p: Self::V) -> Self::V {
        // A product of two f32 is exact in f64.
        std::array::from_fn(|i| (f64::from(a[i]) * f64::from(b[i]) - f64::from(p[i])) as f32)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, nan_max)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, nan_min)
    }
    #[inline(always)]
    fn max_fast(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min_fast(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    fn floor(self, a: Self::V) -> Self::V {
        map(a, f32::floor)
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        map(a, |a| -a)
    }
    #[inline(always)]
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, f32::copysign)
    }
    #[inline(always)]
    fn exp2i(self, n: Self::V) -> Self::V {
        map(n, |n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn split_exponent(self, x: Self::V) -> (Self::V, Self::V) {
        let mantissa = map(x, |x| f32::from_bits((x.to_bits() & 0x007f_ffff) | 0x3f80_0000));
        (mantissa, map(x, |x| (x.to_bits() >> 23) as i32 as f32 - 127.0))
    }
    #[inline(always)]
    fn lt(self, a: Self::V, b: Self::V) -> Self::M {
        std::array::from_fn(|i| a[i] < b[i])
    }
    #[inline(always)]
    fn le(self, a: Self::V, b: Self::V) -> Self::M {
        std::array::from_fn(|i| a[i] <= b[i])
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::M {
        std::array::from_fn(|i| a[i] == b[i])
    }
    #[inline(always)]
    fn any(self, m: Self::M) -> bool {
        m.into_iter().fold(false, |any, lane| any | lane)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, nan_max)
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use aarch64::Neon;

#[cfg(target_arch = "aarch64")]
mod aarch64;

/// Runs `$body(simd, args..)`, generic over [`Simd`], on the path an [`Isa`](crate::Isa) proves.
///
/// ```ignore
/// dispatch!(isa, sum_rows(x: &[f32], out: &mut [f32]))
/// ```
/// expands to a match whose arms call `sum_rows(Avx512, x, out)` and so on inside functions that
/// enable those target features. The body must be `#[inline(always)]`.
#[macro_export]
macro_rules! dispatch {
    ($isa:expr, $body:path, ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: these target features are enabled here.
                $body(unsafe { $crate::simd::Avx512::new_unchecked() }, $($arg),*)
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: these target features are enabled here.
                $body(unsafe { $crate::simd::Avx2::new_unchecked() }, $($arg),*)
            }
            match $crate::Isa::level($isa) {
                // SAFETY: an Isa of this level proves that the machine has the features.
                $crate::isa::Level::Avx512 | $crate::isa::Level::Amx => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                _ => $body($crate::simd::Scalar::new(), $($arg),*),
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            match $crate::Isa::level($isa) {
                // SAFETY: an Isa of this level proves that the machine has NEON.
                $crate::isa::Level::Neon => $body(unsafe { $crate::simd::Neon::new_unchecked() }, $($arg),*),
                _ => $body($crate::simd::Scalar::new(), $($arg),*),
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            let _ = $isa;
            $body($crate::simd::Scalar::new(), $($arg),*)
        }
    }};
}
