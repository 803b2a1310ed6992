//! Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", 2011).
//!
//! Number `i` of a stream is a function of the key and of `i` alone, so it does not depend on how the work is
//! cut or on how many threads there are. Words, and what is made of them, are laid out as JAX's default generator
//! does it: the same key gives the numbers that `jax.random` gives, to rounding.

use crate::simd::Simd;
use crate::{Isa, dispatch, threads, vmath};

/// What selects a stream.
pub type Key = [u32; 2];

/// The cipher: one counter to one pair of words.
#[inline(always)]
pub fn threefry(key: Key, counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    // The last word makes the key schedule's parity differ from any key's (0x1bd11bda is the authors' constant).
    let schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    let [mut a, mut b] = [counter[0].wrapping_add(schedule[0]), counter[1].wrapping_add(schedule[1])];
    for group in 0..5 {
        for rotation in ROTATIONS[group % 2] {
            a = a.wrapping_add(b);
            b = b.rotate_left(rotation) ^ a;
        }
        a = a.wrapping_add(schedule[(group + 1) % 3]);
        b = b.wrapping_add(schedule[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    [a, b]
}

/// Pair `i` of a stream.
#[inline(always)]
pub fn pair(key: Key, i: u64) -> [u32; 2] {
    threefry(key, [(i >> 32) as u32, i as u32])
}

/// Word `i` of a stream.
#[inline(always)]
pub fn word(key: Key, i: u64) -> u32 {
    let [a, b] = pair(key, i);
    a ^ b
}

/// Two keys from one, for draws that need two independent streams.
pub fn split(key: Key) -> [Key; 2] {
    [pair(key, 0), pair(key, 1)]
}

/// Numbers of one task; a power of two, so that the counter's upper half is the same for all of them.
const CHUNK: usize = 1 << 14;

/// Numbers that stay in L1 between two passes over them.
const TILE: usize = 512;

/// Fills `out` with the words of a stream.
pub fn bits(isa: Isa, key: Key, out: &mut [u32]) {
    threads::run_chunks(out, CHUNK, |part, start| {
        let start = start as u64;
        dispatch!(isa, bits_body, (key: Key, start: u64, part: &mut [u32]));
    });
}

#[inline(always)]
fn bits_body<S: Simd>(_: S, key: Key, start: u64, out: &mut [u32]) {
    // Plain loops: adds, rotations and exclusive ors, which the compiler turns into full vectors here.
    let (high, low) = ((start >> 32) as u32, start as u32);
    for (i, out) in out.iter_mut().enumerate() {
        let [a, b] = threefry(key, [high, low.wrapping_add(i as u32)]);
        *out = a ^ b;
    }
}

/// Fills `out` with numbers from `low` up to, not including, `high`: the upper 23 bits of each word.
pub fn uniform(isa: Isa, key: Key, low: f32, high: f32, out: &mut [f32]) {
    let below = if high > low { high.next_down() } else { high };
    threads::run_chunks(out, CHUNK, |part, start| {
        let (start, bounds) = (start as u64, [low, high - low, below]);
        dispatch!(isa, uniform_body, (key: Key, start: u64, bounds: [f32; 3], part: &mut [f32]));
    });
}

#[inline(always)]
fn uniform_body<S: Simd>(_: S, key: Key, start: u64, [low, span, below]: [f32; 3], out: &mut [f32]) {
    let (high, counter) = ((start >> 32) as u32, start as u32);
    for (i, out) in out.iter_mut().enumerate() {
        let [a, b] = threefry(key, [high, counter.wrapping_add(i as u32)]);
        let unit = f32::from_bits((a ^ b) >> 9 | 0x3f80_0000) - 1.0; // a mantissa under the exponent of 1
        let x = unit * span + low;
        // Rounding may reach the bound. (Written as a select: NaN is out of the question, `min` would ask.)
        *out = if x < below { x } else { below };
    }
}

/// The numbers a normal is made of stay this far inside (-1, 1).
const OPEN: f32 = 1.0 - f32::EPSILON / 2.0;

/// `erf(2 / sqrt 2)`: what a normal variable keeps within two standard deviations.
const ERF_TWO_SIGMA: f32 = 0.954_499_7;

/// Fills `out` with normal numbers, by the inverse of their distribution.
pub fn normal(isa: Isa, key: Key, mean: f32, std: f32, out: &mut [f32]) {
    inverse_normal(isa, key, [-OPEN, 2.0, OPEN], f32::INFINITY, mean, std, out);
}

/// Fills `out` with normal numbers that lie within two standard deviations of the mean.
pub fn truncated_normal(isa: Isa, key: Key, mean: f32, std: f32, out: &mut [f32]) {
    let bounds = [-ERF_TWO_SIGMA, 2.0 * ERF_TWO_SIGMA, ERF_TWO_SIGMA];
    inverse_normal(isa, key, bounds, 2f32.next_down(), mean, std, out);
}

fn inverse_normal(isa: Isa, key: Key, bounds: [f32; 3], limit: f32, mean: f32, std: f32, out: &mut [f32]) {
    threads::run_chunks(out, CHUNK, |part, start| {
        let (start, shape) = (start as u64, [limit, mean, std]);
        dispatch!(isa, normal_body, (key: Key, start: u64, bounds: [f32; 3], shape: [f32; 3], part: &mut [f32]));
    });
}

#[inline(always)]
fn normal_body<S: Simd>(s: S, key: Key, start: u64, bounds: [f32; 3], shape: [f32; 3], out: &mut [f32]) {
    let [limit, mean, std] = shape.map(|x| s.splat(x));
    let root = s.splat(std::f32::consts::SQRT_2);
    for (i, tile) in out.chunks_mut(TILE).enumerate() {
        uniform_body(s, key, start + (i * TILE) as u64, bounds, tile);
        let mut at = 0;
        while at < tile.len() {
            let n = tile.len() - at;
            // SAFETY: a whole vector where there are LANES elements left, else only those that are.
            unsafe {
                let p = tile.as_mut_ptr().add(at);
                let x = if n >= S::LANES { s.load(p) } else { s.load_partial(p, n) };
                let x = s.mul(root, vmath::erfinv(s, x));
                let x = s.max_fast(s.neg(limit), s.min_fast(limit, x));
                let x = s.add(s.mul(x, std), mean);
                if n >= S::LANES { s.store(p, x) } else { s.store_partial(p, x, n) }
            }
            at += S::LANES;
        }
    }
}

/// A stream of integers from `low` up to, not including, `high`; nothing but `low` where the range is empty.
pub struct Integers {
    keys: [Key; 2],
    bits: u32,
    low: i64,
    /// How many integers there are; 0 for all of `bits` bits.
    span: u64,
    /// What `2^bits` leaves when divided by the span.
    multiplier: u64,
}

impl Integers {
    /// A stream drawn with 32 or 64 bits: as many as hold `high - low`.
    pub fn new(key: Key, bits: u32, low: i64, high: i64) -> Integers {
        let mask = u64::MAX >> (64 - bits);
        let span = if high > low { high.wrapping_sub(low) as u64 & mask } else { 1 };
        let half = (1u64 << (bits / 2)).checked_rem(span).unwrap_or(0);
        let multiplier = half.wrapping_mul(half).checked_rem(span).unwrap_or(0);
        Integers { keys: split(key), bits, low, span, multiplier }
    }

    /// Number `i`. Twice as many bits as a result has are reduced by the span, which keeps the bias small.
    pub fn get(&self, i: u64) -> i64 {
        let mask = u64::MAX >> (64 - self.bits);
        let draw = |key| match self.bits {
            64 => wide(key, i),
            _ => word(key, i) as u64 & mask,
        };
        let [upper, lower] = self.keys.map(draw);
        let reduce = |x: u64| if self.span == 0 { x } else { x % self.span };
        let offset = reduce(upper).wrapping_mul(self.multiplier).wrapping_add(reduce(lower)) & mask;
        self.low.wrapping_add(reduce(offset) as i64)
    }
}

/// 64 bits from the pair `i` of a stream.
pub fn wide(key: Key, i: u64) -> u64 {
    let [a, b] = pair(key, i);
    (a as u64) << 32 | b as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7, 3];

    #[test]
    fn the_cipher_gives_its_authors_answers() {
        // From kat_vectors of the Random123 distribution.
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([!0, !0], [!0, !0]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(
            threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]),
            [0xc492_3a9c, 0x483d_f7a0]
        );
    }

    #[test]
    fn streams_are_those_of_jax() {
        // jax.random.bits, uniform, normal, truncated_normal, randint of jax 0.10 with the key [7, 3].
        for isa in Isa::available() {
            let mut words = [0; 5];
            bits(isa, KEY, &mut words);
            assert_eq!(words, [771269580, 2590461243, 3066716433, 3196467460, 4041614116]);
            let close = |draw: &dyn Fn(&mut [f32]), expected: [f32; 5]| {
                let mut out = [0.0; 5];
                draw(&mut out);
                for (got, expected) in out.iter().zip(expected) {
                    assert!((got - expected).abs() <= 2e-6 * expected.abs(), "{got} {expected}");
                }
            };
            let unit = [0.179_575_09, 0.603_138_7, 0.714_025_5, 0.744_235_5, 0.941_011_55];
            close(&|out| uniform(isa, KEY, 0.0, 1.0, out), unit);
            let shifted = [-0.120_424_93, 0.303_138_67, 0.414_025_5, 0.444_235_5, 0.641_011_5];
            close(&|out| uniform(isa, KEY, -0.3, 0.7, out), shifted);
            let gauss = [-0.916_985_45, 0.261_479_74, 0.565_183_6, 0.656_458_85, 1.563_322_2];
            close(&|out| normal(isa, KEY, 0.0, 1.0, out), gauss);
            let cut = [-0.862_688, 0.249_326_42, 0.536_771_6, 0.622_285, 1.411_459_6];
            close(&|out| truncated_normal(isa, KEY, 0.0, 1.0, out), cut);
        }
        let ints =
            |bits, low, high| std::array::from_fn(|i| Integers::new(KEY, bits, low, high).get(i as u64));
        assert_eq!(ints(32, -3, 1000), [310, 291, 831, 199]);
        assert_eq!(ints(32, 0, 200), [77, 9, 68, 21]);
        assert_eq!(ints(64, 0, 1_000_000_000_000)[..3], [264987646559, 905372064243, 581661340231]);
    }

    #[test]
    fn a_number_depends_on_its_place_alone() {
        let _guard = threads::test_lock();
        let mut whole = vec![0.0; 3 * CHUNK + 5];
        threads::set_num_threads(1);
        normal(Isa::best(), KEY, 1.0, 2.0, &mut whole);
        for count in [2, 4] {
            threads::set_num_threads(count);
            let mut again = vec![0.0; 2 * CHUNK + 77];
            normal(Isa::best(), KEY, 1.0, 2.0, &mut again);
            assert_eq!(again[..], whole[..again.len()]);
        }
        threads::set_num_threads(0);
        let mut words = vec![0; CHUNK + 3];
        bits(Isa::best(), KEY, &mut words);
        assert_eq!(words[CHUNK + 2], word(KEY, CHUNK as u64 + 2));
    }

    /// Mean and variance of many numbers, against `expected` within five standard errors.
    fn moments(x: &[f32], mean: f64, variance: f64) {
        let n = x.len() as f64;
        let m = x.iter().map(|&x| x as f64).sum::<f64>() / n;
        let v = x.iter().map(|&x| (x as f64 - m).powi(2)).sum::<f64>() / n;
        assert!((m - mean).abs() < 5.0 * (variance / n).sqrt(), "mean {m}, expected {mean}");
        assert!((v / variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "variance {v}, expected {variance}");
    }

    /// Chi-square of counts that should be equal, as standard deviations from its mean.
    fn chi_square(counts: &[usize]) -> f64 {
        let (cells, n) = (counts.len() as f64, counts.iter().sum::<usize>() as f64);
        let chi = counts.iter().map(|&c| (c as f64 - n / cells).powi(2) / (n / cells)).sum::<f64>();
        (chi - (cells - 1.0)) / (2.0 * (cells - 1.0)).sqrt()
    }

    #[test]
    fn distributions_have_their_moments_and_bounds() {
        let mut x = vec![0f32; 1 << 20];
        uniform(Isa::best(), [1, 2], -1.0, 3.0, &mut x);
        moments(&x, 1.0, 16.0 / 12.0);
        assert!(x.iter().all(|x| (-1.0..3.0).contains(x)));
        let mut counts = vec![0; 1000];
        x.iter().for_each(|x| counts[((x + 1.0) * 250.0) as usize] += 1);
        assert!(chi_square(&counts).abs() < 5.0);
        let mut pairs = vec![0; 32 * 32];
        x.chunks_exact(2)
            .for_each(|p| pairs[(p[0] + 1.0) as usize * 8 + ((p[1] + 1.0) * 8.0) as usize * 32] += 1);
        // Neighbours are independent: 4 x 32 cells are in use.
        let used: Vec<usize> = pairs.into_iter().filter(|&c| c > 0).collect();
        assert_eq!(used.len(), 128);
        assert!(chi_square(&used).abs() < 5.0);

        normal(Isa::best(), [1, 2], 3.0, 0.5, &mut x);
        moments(&x, 3.0, 0.25);
        let within = x.iter().filter(|x| (**x - 3.0).abs() < 0.5).count() as f64 / x.len() as f64;
        assert!((within - 0.682_689_5).abs() < 3e-3);
        assert!(x.iter().all(|x| x.is_finite()));

        truncated_normal(Isa::best(), [1, 2], 0.0, 1.0, &mut x);
        moments(&x, 0.0, 0.773_741_3);
        assert!(x.iter().all(|x| x.abs() < 2.0));

        // The smallest range there is.
        uniform(Isa::best(), [1, 2], 1.0, 1f32.next_up(), &mut x);
        assert!(x.iter().all(|x| *x == 1.0));
    }

    #[test]
    fn integers_cover_their_range_evenly() {
        let stream = Integers::new([5, 6], 32, -3, 7);
        let mut counts = vec![0; 10];
        (0..100_000).for_each(|i| counts[(stream.get(i) + 3) as usize] += 1);
        assert!(chi_square(&counts).abs() < 5.0);
        assert_eq!(Integers::new([5, 6], 32, 4, 4).get(9), 4);
        let whole = Integers::new([5, 6], 32, i32::MIN as i64, i32::MAX as i64 + 1);
        assert!((0..99).any(|i| whole.get(i) > 1 << 30) && (0..99).any(|i| whole.get(i) < -1 << 30));
    }
}
