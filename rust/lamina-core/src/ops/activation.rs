//! Activations with a parameter or a fused form, each defined once, in primitive ops.

use super::elementwise::{affine, gate};
use super::select::Select;
use super::*;
use lamina_kernels::elementwise::{Binary as B, Unary as U};

/// Activations that an epilogue can apply in registers. (relu, sigmoid, tanh and exp are [`Unary`](super::elementwise::Unary).)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x` above zero, `alpha x` below.
    LeakyRelu(Real),
    /// `min(max(x, low), high)`
    Clamp(Real, Real),
    /// `x sigmoid(x)`; Elfwing et al. 2017, also called swish.
    Silu,
    /// `x Phi(x)` with the exact normal distribution; Hendrycks & Gimpel 2016.
    Gelu,
    /// The tanh approximation of [`Activation::Gelu`].
    GeluTanh,
    /// `x` above zero, `alpha (e^x - 1)` below; Clevert et al. 2015.
    Elu(Real),
    /// Scaled ELU; Klambauer et al. 2017.
    Selu,
    /// `log(1 + e^x)`
    Softplus,
    /// `relu6(x + 3) / 6`
    HardSigmoid,
    /// `x hard_sigmoid(x)`; Howard et al. 2019.
    HardSilu,
}

/// SELU's constants (Klambauer et al. 2017).
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

impl Activation {
    /// The activation in primitive ops: its definition.
    pub fn expand(self, g: &mut Graph, x: Value) -> Result<Value, ShapeError> {
        let dtype = g.ty(x).dtype;
        let clamp = |g: &mut Graph, x, low, high| {
            let (low, high) = (g.scalar(dtype, low), g.scalar(dtype, high));
            let above = g.binary(B::Max, x, low)?;
            g.binary(B::Min, above, high)
        };
        // `x` above zero, `below` under it.
        let join = |g: &mut Graph, x, below| {
            let zero = g.scalar(dtype, 0.0);
            let positive = g.binary(B::Gt, x, zero)?;
            g.add(Select, &[positive, x, below])
        };
        match self {
            Activation::Relu6 => clamp(g, x, 0.0, 6.0),
            Activation::Clamp(low, high) => clamp(g, x, low.get(), high.get()),
            Activation::LeakyRelu(alpha) => {
                let below = g.scale(x, alpha.get())?;
                join(g, x, below)
            }
            Activation::Silu => {
                let s = g.unary(U::Sigmoid, x)?;
                g.mul(x, s)
            }
            Activation::Gelu => {
                let e = g.scale(x, std::f64::consts::FRAC_1_SQRT_2)?;
                let e = g.unary(U::Erf, e)?;
                let e = g.offset(e, 1.0)?;
                let half = g.scale(x, 0.5)?;
                g.mul(half, e)
            }
            Activation::GeluTanh => {
                let square = g.unary(U::Square, x)?;
                let cube = g.mul(square, x)?;
                let cube = g.scale(cube, 0.044715)?;
                let t = g.sum(x, cube)?;
                let t = g.scale(t, (2.0 / std::f64::consts::PI).sqrt())?;
                let t = g.unary(U::Tanh, t)?;
                let t = g.offset(t, 1.0)?;
                let half = g.scale(x, 0.5)?;
                g.mul(half, t)
            }
            Activation::Elu(alpha) => {
                let e = g.unary(U::Expm1, x)?;
                let e = g.scale(e, alpha.get())?;
                join(g, x, e)
            }
            Activation::Selu => {
                let elu = Activation::Elu(Real::new(SELU_ALPHA)).expand(g, x)?;
                g.scale(elu, SELU_SCALE)
            }
            Activation::Softplus => {
                // max(x, 0) + log1p(exp(-|x|)) does not overflow.
                let a = g.unary(U::Abs, x)?;
                let a = g.neg(a)?;
                let a = g.unary(U::Exp, a)?;
                let a = g.unary(U::Log1p, a)?;
                let r = g.unary(U::Relu, x)?;
                g.sum(r, a)
            }
            Activation::HardSigmoid => {
                let s = g.scale(x, 1.0 / 6.0)?;
                let s = g.offset(s, 0.5)?;
                clamp(g, s, 0.0, 1.0)
            }
            Activation::HardSilu => {
                let s = Activation::HardSigmoid.expand(g, x)?;
                g.mul(x, s)
            }
        }
    }

    /// The definition in float64, for references.
    pub(crate) fn eval_f64(self, x: f64) -> f64 {
        match self {
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::LeakyRelu(a) => {
                if x > 0.0 {
                    x
                } else {
                    a.get() * x
                }
            }
            Activation::Clamp(low, high) => x.max(low.get()).min(high.get()),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + U::Erf.eval_f64(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Elu(a) => {
                if x > 0.0 {
                    x
                } else {
                    a.get() * x.exp_m1()
                }
            }
            Activation::Selu => SELU_SCALE * if x > 0.0 { x } else { SELU_ALPHA * x.exp_m1() },
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::HardSilu => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

impl OpDef for Activation {
    fn name(&self) -> &'static str {
        match self {
            Activation::Relu6 => "relu6",
            Activation::LeakyRelu(_) => "leaky_relu",
            Activation::Clamp(..) => "clip",
            Activation::Silu => "silu",
            Activation::Gelu | Activation::GeluTanh => "gelu",
            Activation::Elu(_) => "elu",
            Activation::Selu => "selu",
            Activation::Softplus => "softplus",
            Activation::HardSigmoid => "hard_sigmoid",
            Activation::HardSilu => "hard_silu",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if !x[0].dtype.is_float() {
            return Err(ShapeError::new(self.name(), format!("needs a float operand, got {}", x[0].dtype)));
        }
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, y, dy) = (cx.x(0), cx.y(0), cx.dy()?);
        let g = &mut *cx.g;
        // Where the slope can be read off the result, the operand need not be kept.
        let dx = match *self {
            Activation::Relu6 => between(g, y, 0.0, 6.0, dy)?,
            Activation::Clamp(low, high) => between(g, y, low.get(), high.get(), dy)?,
            Activation::HardSigmoid => {
                let d = between(g, y, 0.0, 1.0, dy)?;
                g.scale(d, 1.0 / 6.0)?
            }
            Activation::LeakyRelu(alpha) if alpha.get() > 0.0 => {
                let below = g.scale(dy, alpha.get())?;
                where_positive(g, y, dy, below)?
            }
            Activation::Elu(alpha) if alpha.get() > 0.0 => {
                let slope = g.offset(y, alpha.get())?;
                let below = g.mul(dy, slope)?;
                where_positive(g, y, dy, below)?
            }
            Activation::Selu => {
                let slope = g.offset(y, SELU_SCALE * SELU_ALPHA)?;
                let below = g.mul(dy, slope)?;
                let above = g.scale(dy, SELU_SCALE)?;
                where_positive(g, y, above, below)?
            }
            Activation::Softplus => {
                let s = g.unary(U::Sigmoid, x)?;
                g.mul(dy, s)?
            }
            _ => {
                let expanded = self.expand(g, x)?;
                let d = crate::autodiff::gradients(g, expanded, &[x], Some(dy))?[0];
                d.expect("an activation depends on its operand")
            }
        };
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        broadcast_keeps_rows(rows, inputs, outputs)
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("the fuse pass expands activations before lowering")
    }

    fn problems() -> Vec<Problem> {
        let alpha = Real::new(0.3);
        let all = [
            Activation::Relu6,
            Activation::LeakyRelu(alpha),
            Activation::LeakyRelu(Real::new(-0.5)),
            Activation::Clamp(Real::new(-0.5), Real::new(0.7)),
            Activation::Silu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Elu(alpha),
            Activation::Elu(Real::new(-1.0)),
            Activation::Selu,
            Activation::Softplus,
            Activation::HardSigmoid,
            Activation::HardSilu,
        ];
        let mut problems = vec![];
        for act in all {
            for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
                let x = affine(&sample(dtype, &[4, 9], 10), 6.5, 0.0);
                let problem = Problem::close(format!("{act:?} {dtype}"), act, vec![x], tolerance, move |x| {
                    x[0].iter().map(|&x| act.eval_f64(x)).collect()
                });
                problems.push(problem.differentiate(&[0]));
            }
        }
        problems
    }
}

fn between(g: &mut Graph, y: Value, low: f64, high: f64, dy: Value) -> Result<Value, ShapeError> {
    let above = gate(g, B::Gt, y, low, dy)?;
    gate(g, B::Lt, y, high, above)
}

fn where_positive(g: &mut Graph, y: Value, above: Value, below: Value) -> Result<Value, ShapeError> {
    let zero = g.scalar(g.ty(y).dtype, 0.0);
    let positive = g.binary(B::Gt, y, zero)?;
    g.add(Select, &[positive, above, below])
}
