//! AVX2 + FMA and AVX-512 behind [`Simd`].

use super::Simd;
use std::arch::x86_64::*;

/// AVX-512: 16 lanes, 32 registers, mask registers.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// AVX2 with FMA: 8 lanes, 16 registers.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx512 {
    /// # Safety
    /// The machine has AVX-512 F, VL, BW and DQ, and the caller enables them.
    #[inline(always)]
    pub unsafe fn new_unchecked() -> Self {
        Avx512(())
    }
}

impl Avx2 {
    /// # Safety
    /// The machine has AVX2 and FMA, and the caller enables them.
    #[inline(always)]
    pub unsafe fn new_unchecked() -> Self {
        Avx2(())
    }
}

#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY of every block below: a value of `Avx512` / `Avx2` exists only where `new_unchecked`'s
// contract holds, so the instruction is there; pointer methods pass their own contract on.
macro_rules! ins {
    ($e:expr) => {
        // SAFETY: see the note above this macro.
        unsafe { $e }
    };
}

/// `2^(i/16)`.
const ROOTS: [f32; 16] = [
    1.0,
    1.044_273_7,
    1.090_507_7,
    1.138_788_6,
    1.189_207_1,
    1.241_857_8,
    1.296_839_6,
    1.354_255_6,
    std::f32::consts::SQRT_2,
    1.476_826_2,
    1.542_210_8,
    1.610_490_3,
    1.681_792_9,
    1.756_252_2,
    1.834_008_1,
    1.915_206_6,
];

/// `2^(i/N)`, less what a number of steps that ends in `i` adds when it is shifted into the exponent.
const fn parts<const N: usize>() -> [u32; N] {
    let (mut parts, mut i) = ([0; N], 0);
    while i < N {
        parts[i] = ROOTS[i * 16 / N].to_bits().wrapping_sub((i << 23) as u32 / N as u32);
        i += 1;
    }
    parts
}

static PARTS_16: [u32; 16] = parts();
static PARTS_8: [u32; 8] = parts();

impl Simd for Avx512 {
    type V = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const MASKED: bool = true;
    const HALVES: bool = true;
    const STEPS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        ins!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        ins!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        ins!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m512 {
        ins!(_mm512_maskz_loadu_ps(mask16(n), p))
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: __m512, n: usize) {
        ins!(_mm512_mask_storeu_ps(p, mask16(n), v))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        ins!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fma_half(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        let half = |v| ins!(_mm512_castps512_ps256(v));
        ins!(_mm512_zextps256_ps512(_mm256_fmadd_ps(half(a), half(b), half(c))))
    }
    #[inline(always)]
    fn mul_error(self, a: __m512, b: __m512, p: __m512) -> __m512 {
        ins!(_mm512_fmsub_ps(a, b, p))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // vmaxps gives its second operand where either is NaN; put a back where a is NaN.
        ins!(_mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), a))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_mask_mov_ps(_mm512_min_ps(a, b), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), a))
    }
    #[inline(always)]
    fn max_fast(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min_fast(self, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        ins!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        ins!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn floor(self, a: __m512) -> __m512 {
        ins!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        ins!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        ins!(_mm512_xor_ps(a, _mm512_set1_ps(-0.0)))
    }
    #[inline(always)]
    fn copysign(self, a: __m512, b: __m512) -> __m512 {
        ins!({
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        })
    }
    #[inline(always)]
    fn exp2i(self, n: __m512) -> __m512 {
        ins!({
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn scale2(self, p: __m512, n: __m512) -> __m512 {
        ins!(_mm512_scalef_ps(p, n))
    }
    #[inline(always)]
    fn exp2_steps(self, t: __m512, _n: __m512) -> __m512 {
        ins!({
            let (steps, parts) = (_mm512_castps_si512(t), _mm512_loadu_si512(PARTS_16.as_ptr().cast()));
            let part = _mm512_permutexvar_epi32(steps, parts);
            _mm512_castsi512_ps(_mm512_add_epi32(part, _mm512_slli_epi32::<19>(steps)))
        })
    }
    #[inline(always)]
    fn split_exponent(self, x: __m512) -> (__m512, __m512) {
        ins!({
            let bits = _mm512_castps_si512(x);
            let exponent = _mm512_sub_epi32(_mm512_srli_epi32::<23>(bits), _mm512_set1_epi32(127));
            let mantissa = _mm512_or_si512(
                _mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff)),
                _mm512_set1_epi32(0x3f80_0000),
            );
            (_mm512_castsi512_ps(mantissa), _mm512_cvtepi32_ps(exponent))
        })
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        ins!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn le(self, a: __m512, b: __m512) -> __mmask16 {
        ins!(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: __m512, b: __m512) -> __mmask16 {
        ins!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn any(self, m: __mmask16) -> bool {
        m != 0
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        ins!(_mm512_mask_blend_ps(m, b, a))
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        ins!(_mm512_reduce_add_ps(a))
    }
    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        ins!({
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) != 0 { f32::NAN } else { _mm512_reduce_max_ps(a) }
        })
    }
}

/// Lane i of entry n is all ones where i < n: the masks of AVX2's partial loads and stores.
static MASKS: [[i32; 8]; 9] = {
    let mut masks = [[0; 8]; 9];
    let mut n = 0;
    while n < 9 {
        let mut i = 0;
        while i < n {
            masks[n][i] = -1;
            i += 1;
        }
        n += 1;
    }
    masks
};

#[inline(always)]
fn mask8(n: usize) -> __m256i {
    ins!(_mm256_loadu_si256(MASKS[n].as_ptr().cast()))
}

impl Simd for Avx2 {
    type V = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const STEPS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        ins!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        ins!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        ins!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m256 {
        ins!(_mm256_maskload_ps(p, mask8(n)))
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: __m256, n: usize) {
        ins!(_mm256_maskstore_ps(p, mask8(n), v))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        ins!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn mul_error(self, a: __m256, b: __m256, p: __m256) -> __m256 {
        ins!(_mm256_fmsub_ps(a, b, p))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_blendv_ps(_mm256_min_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)))
    }
    #[inline(always)]
    fn max_fast(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min_fast(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        ins!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        ins!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn floor(self, a: __m256) -> __m256 {
        ins!(_mm256_round_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        ins!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        ins!(_mm256_xor_ps(a, _mm256_set1_ps(-0.0)))
    }
    #[inline(always)]
    fn copysign(self, a: __m256, b: __m256) -> __m256 {
        ins!({
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        })
    }
    #[inline(always)]
    fn exp2i(self, n: __m256) -> __m256 {
        ins!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn exp2_steps(self, t: __m256, _n: __m256) -> __m256 {
        ins!({
            let (steps, parts) = (_mm256_castps_si256(t), _mm256_loadu_si256(PARTS_8.as_ptr().cast()));
            let part = _mm256_permutevar8x32_epi32(parts, steps);
            _mm256_castsi256_ps(_mm256_add_epi32(part, _mm256_slli_epi32::<20>(steps)))
        })
    }
    #[inline(always)]
    fn split_exponent(self, x: __m256) -> (__m256, __m256) {
        ins!({
            let bits = _mm256_castps_si256(x);
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
            let mantissa = _mm256_or_si256(
                _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)),
                _mm256_set1_epi32(0x3f80_0000),
            );
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(exponent))
        })
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn le(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_cmp_ps::<_CMP_LE_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn any(self, m: __m256) -> bool {
        ins!(_mm256_movemask_ps(m)) != 0
    }
    #[inline(always)]
    fn select(self, m: __m256, a: __m256, b: __m256) -> __m256 {
        ins!(_mm256_blendv_ps(b, a, m))
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        ins!({
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
        })
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        let mut lanes = [0.0f32; 8];
        ins!(_mm256_storeu_ps(lanes.as_mut_ptr(), a));
        lanes.into_iter().fold(f32::NEG_INFINITY, |m, x| if m > x || m.is_nan() { m } else { x })
    }
}
