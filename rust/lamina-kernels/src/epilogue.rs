//! What happens to an accumulated sum before it is stored: bias, residual, activation.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use crate::simd::{Lockstep, Simd};
use crate::{Isa, dispatch, vmath};

/// An activation that a multiply or a convolution applies while its result is still in L1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Act {
    /// `x`
    #[default]
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x` where positive, else `slope * x`
    LeakyRelu(f32),
    /// `min(max(x, low), high)`
    Clamp(f32, f32),
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `x * sigmoid(x)`, also called swish
    Silu,
    /// `x/2 * (1 + erf(x / sqrt 2))`
    Gelu,
    /// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x` where positive, else `alpha * (exp(x) - 1)`
    Elu(f32),
    /// The self-normalising scaled ELU of Klambauer et al. (2017)
    Selu,
    /// `log(1 + exp(x))`
    Softplus,
    /// `min(max(x/6 + 1/2, 0), 1)`
    HardSigmoid,
    /// `x * hard_sigmoid(x)`, also called hard swish
    HardSilu,
    /// `exp(x)`
    Exp,
}

impl Act {
    /// The bounds, where the activation is nothing but a clamp: kernels apply those in registers.
    pub(crate) fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Act::Linear => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Act::Relu => Some((0.0, f32::INFINITY)),
            Act::Relu6 => Some((0.0, 6.0)),
            Act::Clamp(low, high) => Some((low, high)),
            _ => None,
        }
    }

    /// Applies the activation to every element of `x` in place.
    pub fn apply(self, isa: Isa, x: &mut [f32]) {
        let len = x.len();
        // SAFETY: one row of `len` elements at offset 0 is exactly the slice.
        unsafe { apply_tile(isa, self, x.as_mut_ptr(), &[0], len) }
    }
}

/// `y = act(sum + bias + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value per output column.
    pub bias: Option<&'a [f32]>,
    /// Same layout as the output.
    pub residual: Option<&'a [f32]>,
    /// Whether the residual is what the output holds: each number is read before it is written.
    pub onto: bool,
    /// Applied last.
    pub act: Act,
}

impl<'a> Epilogue<'a> {
    /// Stores the sum as it is.
    pub fn none() -> Self {
        Self::default()
    }

    /// Only an activation.
    pub fn act(act: Act) -> Self {
        Epilogue { act, ..Self::default() }
    }

    /// A bias and an activation.
    pub fn bias(bias: &'a [f32], act: Act) -> Self {
        Epilogue { bias: Some(bias), act, ..Self::default() }
    }

    /// For the part of the output from `start` on.
    pub(crate) fn part(&self, start: usize, len: usize) -> Self {
        Epilogue { residual: self.residual.map(|r| &r[start..start + len]), ..*self }
    }

    pub(crate) fn check(&self, columns: usize, output: usize) {
        assert!(self.bias.is_none_or(|b| b.len() == columns), "the bias has one value per output column");
        assert!(self.residual.is_none_or(|r| r.len() == output), "the residual has the output's layout");
        assert!(self.residual.is_none() || !self.onto, "there is one residual");
    }

    /// Whether something is added to each sum, but for a bias.
    pub(crate) fn has_residual(&self) -> bool {
        self.residual.is_some() || self.onto
    }
}

/// Applies `act` to the rows `base + offset .. base + offset + cols`.
///
/// # Safety
/// Every such row is valid for reads and writes, and no other thread touches it.
pub(crate) unsafe fn apply_tile(isa: Isa, act: Act, base: *mut f32, offsets: &[usize], cols: usize) {
    dispatch!(isa, apply_body, (act: Act, base: *mut f32, offsets: &[usize], cols: usize));
}

#[inline(always)]
fn apply_body<S: Simd>(s: S, act: Act, base: *mut f32, offsets: &[usize], cols: usize) {
    if S::REGISTERS >= 32 {
        apply_by::<S, 4>(s, act, base, offsets, cols)
    } else {
        apply_by::<S, 2>(s, act, base, offsets, cols)
    }
}

/// Applies the activation to `N` vectors at a time.
#[inline(always)]
fn apply_by<S: Simd, const N: usize>(one: S, act: Act, base: *mut f32, offsets: &[usize], cols: usize) {
    let s = Lockstep::<S, N>(one);
    // The whole vectors of all rows, then what is left of each row.
    let (whole, tail) = (cols / S::LANES, cols % S::LANES);
    let passes = [(0, whole, S::LANES), (whole * S::LANES, usize::from(tail > 0), tail)];
    // A macro and not a closure, which would not inherit the target features. One copy of the body serves
    // whole and partial vectors: the code of a transcendental function is long.
    macro_rules! each {
        ($v:ident => $body:expr) => {
            for (start, each, n) in passes {
                let partial = S::MASKED || n < S::LANES;
                let (mut left, mut row, mut col) = (each * offsets.len(), 0, 0);
                while left > 0 {
                    let (mut $v, mut at) = (s.zero(), [base; N]);
                    // SAFETY: `apply_tile`'s contract: `cols` elements from each offset on.
                    unsafe {
                        for i in 0..N {
                            if i < left {
                                at[i] = base.add(offsets.get_unchecked(row) + start + col * S::LANES);
                                col += 1;
                                (row, col) = if col == each { (row + 1, 0) } else { (row, col) };
                            } else {
                                // Beyond the last one it is taken again, and gives the same.
                                at[i] = at[i - 1];
                            }
                            $v[i] = if partial { one.load_partial(at[i], n) } else { one.load(at[i]) };
                        }
                        let y = $body;
                        for i in 0..N {
                            if partial { one.store_partial(at[i], y[i], n) } else { one.store(at[i], y[i]) }
                        }
                    }
                    left = left.saturating_sub(N);
                }
            }
        };
    }
    let (zero, half, unit) = (s.zero(), s.splat(0.5), s.splat(1.0));
    match act {
        Act::Linear => {}
        Act::Relu | Act::Relu6 | Act::Clamp(..) => {
            let (low, high) = act.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
            let (low, high) = (s.splat(low), s.splat(high));
            each!(v => s.min_fast(high, s.max_fast(low, v)));
        }
        Act::LeakyRelu(slope) => {
            let slope = s.splat(slope);
            each!(v => s.select(s.lt(zero, v), v, s.mul(slope, v)));
        }
        Act::Sigmoid => each!(v => vmath::sigmoid(s, v)),
        Act::Tanh => each!(v => vmath::tanh(s, v)),
        Act::Silu => each!(v => vmath::silu(s, v)),
        Act::Gelu => {
            let r = s.splat(std::f32::consts::FRAC_1_SQRT_2);
            each!(v => s.mul(s.mul(half, v), s.add(unit, vmath::erf(s, s.mul(v, r)))));
        }
        Act::GeluTanh => {
            let (r, cubic) = (s.splat(0.797_884_6), s.splat(0.044_715)); // sqrt(2/pi)
            each!(v => {
                let inner = s.mul(r, s.fma(s.mul(cubic, s.mul(v, v)), v, v));
                s.mul(s.mul(half, v), s.add(unit, vmath::tanh(s, inner)))
            });
        }
        Act::Elu(alpha) => {
            let alpha = s.splat(alpha);
            each!(v => s.select(s.lt(zero, v), v, s.mul(alpha, vmath::expm1(s, v))));
        }
        Act::Selu => {
            let (scale, alpha) = (s.splat(1.050_701), s.splat(1.050_701 * 1.673_263_2));
            each!(v => s.select(s.lt(zero, v), s.mul(scale, v), s.mul(alpha, vmath::expm1(s, v))));
        }
        Act::Softplus => {
            each!(v => {
                let tail = vmath::log1p(s, vmath::exp(s, s.neg(s.abs(v))));
                s.add(s.max_fast(zero, v), tail)
            });
        }
        Act::HardSigmoid | Act::HardSilu => {
            let sixth = s.splat(1.0 / 6.0);
            if act == Act::HardSilu {
                each!(v => s.mul(v, s.min_fast(unit, s.max_fast(zero, s.fma(v, sixth, half)))));
            } else {
                each!(v => s.min_fast(unit, s.max_fast(zero, s.fma(v, sixth, half))));
            }
        }
        Act::Exp => each!(v => vmath::exp(s, v)),
    }
}
