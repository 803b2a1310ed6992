//! NEON behind [`Simd`].

use super::Simd;
use std::arch::aarch64::*;

/// Advanced SIMD: 4 lanes, 32 registers.
#[derive(Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// # Safety
    /// The machine has NEON.
    #[inline(always)]
    pub unsafe fn new_unchecked() -> Self {
        Neon(())
    }
}

// SAFETY of every block below: a value of `Neon` exists only where `new_unchecked`'s contract holds, so the
// instruction is there (every aarch64 target that Rust has enables it); pointer methods pass their own
// contract on.
macro_rules! ins {
    ($e:expr) => {{
        // SAFETY: see the note above this macro.
        #[allow(unused_unsafe)]
        unsafe {
            $e
        }
    }};
}

impl Simd for Neon {
    type V = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        ins!(vdupq_n_f32(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        ins!(vld1q_f32(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        ins!(vst1q_f32(p, v))
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> float32x4_t {
        ins!({
            if n >= 4 {
                return vld1q_f32(p);
            }
            let mut v = vdupq_n_f32(0.0);
            if n > 0 {
                v = vld1q_lane_f32::<0>(p, v);
            }
            if n > 1 {
                v = vld1q_lane_f32::<1>(p.add(1), v);
            }
            if n > 2 {
                v = vld1q_lane_f32::<2>(p.add(2), v);
            }
            v
        })
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: float32x4_t, n: usize) {
        ins!({
            if n >= 4 {
                return vst1q_f32(p, v);
            }
            if n > 0 {
                vst1q_lane_f32::<0>(p, v);
            }
            if n > 1 {
                vst1q_lane_f32::<1>(p.add(1), v);
            }
            if n > 2 {
                vst1q_lane_f32::<2>(p.add(2), v);
            }
        })
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        ins!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn mul_error(self, a: float32x4_t, b: float32x4_t, p: float32x4_t) -> float32x4_t {
        ins!(vfmaq_f32(vnegq_f32(p), a, b))
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vmaxq_f32(a, b)) // a NaN in either operand gives NaN
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vminq_f32(a, b))
    }
    #[inline(always)]
    fn max_fast(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vbslq_f32(vcgtq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn min_fast(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vbslq_f32(vcltq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        ins!(vsqrtq_f32(a))
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        ins!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn floor(self, a: float32x4_t) -> float32x4_t {
        ins!(vrndmq_f32(a))
    }
    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        ins!(vabsq_f32(a))
    }
    #[inline(always)]
    fn neg(self, a: float32x4_t) -> float32x4_t {
        ins!(vnegq_f32(a))
    }
    #[inline(always)]
    fn copysign(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vbslq_f32(vdupq_n_u32(0x8000_0000), b, a))
    }
    #[inline(always)]
    fn exp2i(self, n: float32x4_t) -> float32x4_t {
        ins!({
            let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }
    #[inline(always)]
    fn split_exponent(self, x: float32x4_t) -> (float32x4_t, float32x4_t) {
        ins!({
            let bits = vreinterpretq_u32_f32(x);
            let exponent = vsubq_s32(vreinterpretq_s32_u32(vshrq_n_u32::<23>(bits)), vdupq_n_s32(127));
            let mantissa = vorrq_u32(vandq_u32(bits, vdupq_n_u32(0x007f_ffff)), vdupq_n_u32(0x3f80_0000));
            (vreinterpretq_f32_u32(mantissa), vcvtq_f32_s32(exponent))
        })
    }
    #[inline(always)]
    fn lt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        ins!(vcltq_f32(a, b))
    }
    #[inline(always)]
    fn le(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        ins!(vcleq_f32(a, b))
    }
    #[inline(always)]
    fn eq(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        ins!(vceqq_f32(a, b))
    }
    #[inline(always)]
    fn any(self, m: uint32x4_t) -> bool {
        ins!(vmaxvq_u32(m) != 0)
    }
    #[inline(always)]
    fn select(self, m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        ins!(vbslq_f32(m, a, b))
    }
    #[inline(always)]
    fn sum(self, a: float32x4_t) -> f32 {
        ins!(vaddvq_f32(a))
    }
    #[inline(always)]
    fn max_lane(self, a: float32x4_t) -> f32 {
        ins!(vmaxvq_f32(a)) // NaN if any lane is NaN
    }
}
