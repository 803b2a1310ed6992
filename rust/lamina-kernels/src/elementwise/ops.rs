//! The elementwise functions: their names, their meaning in f64, their vector bodies.

use crate::vmath::reference;

macro_rules! table {
    ($(#[$doc:meta])* $kind:ident { $($(#[$about:meta])* $name:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $kind { $($(#[$about])* $name),* }

        impl $kind {
            /// Every function, in the order of declaration.
            pub const ALL: &[$kind] = &[$($kind::$name),*];
        }
    };
}

table! {
    /// A function of one operand. Truth is 1 and 0; any other number than 0, NaN too, is true.
    Unary {
        /// `-a`
        Neg,
        /// `|a|`
        Abs,
        /// -1, 0 or 1; NaN stays
        Sign,
        /// `e^a`
        Exp,
        /// `e^a - 1`
        Expm1,
        /// Natural logarithm
        Log,
        /// `ln(1 + a)`
        Log1p,
        /// Base-2 logarithm
        Log2,
        /// Base-10 logarithm
        Log10,
        /// Square root
        Sqrt,
        /// `1 / sqrt a`
        Rsqrt,
        /// `a * a`
        Square,
        /// `1 / a`
        Reciprocal,
        /// Sine
        Sin,
        /// Cosine
        Cos,
        /// Tangent
        Tan,
        /// Inverse sine
        Asin,
        /// Inverse cosine
        Acos,
        /// Inverse tangent
        Atan,
        /// Hyperbolic sine
        Sinh,
        /// Hyperbolic cosine
        Cosh,
        /// Hyperbolic tangent
        Tanh,
        /// Inverse hyperbolic sine
        Asinh,
        /// Inverse hyperbolic cosine
        Acosh,
        /// Inverse hyperbolic tangent
        Atanh,
        /// `1 / (1 + e^-a)`
        Sigmoid,
        /// Error function
        Erf,
        /// Inverse error function
        Erfinv,
        /// Rounds down
        Floor,
        /// Rounds up
        Ceil,
        /// Rounds to nearest, ties to even
        Round,
        /// Rounds toward zero
        Trunc,
        /// `a == 0`
        Not,
        /// Whether `a` is NaN
        IsNan,
        /// Whether `a` is infinite
        IsInf,
        /// Whether `a` is neither NaN nor infinite
        IsFinite,
        /// `max(a, 0)`; NaN stays
        Relu,
    }
}

table! {
    /// A function of two operands. Comparisons and logic give 1 or 0.
    Binary {
        /// `a + b`
        Add,
        /// `a - b`
        Sub,
        /// `a * b`
        Mul,
        /// `a / b`
        Div,
        /// `floor(a / b)`, exactly rounded; `a / b` where `b` is 0
        FloorDiv,
        /// The remainder with the sign of `b`, as in Python; NaN where `b` is 0
        Mod,
        /// `a^b` with C's edge cases
        Pow,
        /// The larger; NaN where either is NaN
        Max,
        /// The smaller; NaN where either is NaN
        Min,
        /// The angle of the point `(b, a)`
        Atan2,
        /// `a == b`
        Eq,
        /// `a != b`
        Ne,
        /// `a < b`
        Lt,
        /// `a <= b`
        Le,
        /// `a > b`
        Gt,
        /// `a >= b`
        Ge,
        /// Both are true
        And,
        /// Either is true
        Or,
        /// Exactly one is true
        Xor,
    }
}

fn truth(x: bool) -> f64 {
    f64::from(u8::from(x))
}

/// Python's `divmod` as numpy defines it for floats.
fn floor_divmod(a: f64, b: f64) -> (f64, f64) {
    let rest = a % b;
    if b == 0.0 {
        return (a / b, f64::NAN);
    }
    let quotient = (a - rest) / b;
    let (quotient, rest) = match rest {
        0.0 => (quotient, 0f64.copysign(b)),
        r if (b < 0.0) != (r < 0.0) => (quotient - 1.0, r + b),
        r => (quotient, r),
    };
    if quotient == 0.0 {
        return (0f64.copysign(a / b), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

impl Unary {
    /// The function's value in float64: its definition, and what float64 tensors use.
    pub fn eval_f64(self, a: f64) -> f64 {
        match self {
            Unary::Neg => -a,
            Unary::Abs => a.abs(),
            Unary::Sign if a > 0.0 => 1.0,
            Unary::Sign if a < 0.0 => -1.0,
            Unary::Sign => a,
            Unary::Exp => a.exp(),
            Unary::Expm1 => a.exp_m1(),
            Unary::Log => a.ln(),
            Unary::Log1p => a.ln_1p(),
            Unary::Log2 => a.log2(),
            Unary::Log10 => a.log10(),
            Unary::Sqrt => a.sqrt(),
            Unary::Rsqrt => 1.0 / a.sqrt(),
            Unary::Square => a * a,
            Unary::Reciprocal => 1.0 / a,
            Unary::Sin => a.sin(),
            Unary::Cos => a.cos(),
            Unary::Tan => a.tan(),
            Unary::Asin => a.asin(),
            Unary::Acos => a.acos(),
            Unary::Atan => a.atan(),
            Unary::Sinh => a.sinh(),
            Unary::Cosh => a.cosh(),
            Unary::Tanh => a.tanh(),
            Unary::Asinh => a.asinh(),
            Unary::Acosh => a.acosh(),
            Unary::Atanh => a.atanh(),
            Unary::Sigmoid if a < 0.0 => a.exp() / (1.0 + a.exp()),
            Unary::Sigmoid => 1.0 / (1.0 + (-a).exp()),
            Unary::Erf => reference::erf(a),
            Unary::Erfinv => reference::erfinv(a),
            Unary::Floor => a.floor(),
            Unary::Ceil => a.ceil(),
            Unary::Round => a.round_ties_even(),
            Unary::Trunc => a.trunc(),
            Unary::Not => truth(a == 0.0),
            Unary::IsNan => truth(a.is_nan()),
            Unary::IsInf => truth(a.is_infinite()),
            Unary::IsFinite => truth(a.is_finite()),
            Unary::Relu => {
                if a < 0.0 {
                    0.0
                } else {
                    a
                }
            }
        }
    }

    /// About how many additions one element costs.
    pub(super) fn cost(self) -> u32 {
        use Unary::*;
        match self {
            Neg | Abs | Sign | Square | Floor | Ceil | Round | Trunc | Not | IsNan | IsInf | IsFinite
            | Relu => 1,
            Sqrt | Rsqrt | Reciprocal => 3,
            _ => 8,
        }
    }
}

impl Binary {
    /// The function's value in float64: its definition, and what float64 tensors use.
    pub fn eval_f64(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::FloorDiv => floor_divmod(a, b).0,
            Binary::Mod => floor_divmod(a, b).1,
            Binary::Pow => a.powf(b),
            Binary::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Binary::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Binary::Atan2 => a.atan2(b),
            Binary::Eq => truth(a == b),
            Binary::Ne => truth(a != b),
            Binary::Lt => truth(a < b),
            Binary::Le => truth(a <= b),
            Binary::Gt => truth(a > b),
            Binary::Ge => truth(a >= b),
            Binary::And => truth(a != 0.0 && b != 0.0),
            Binary::Or => truth(a != 0.0 || b != 0.0),
            Binary::Xor => truth((a != 0.0) != (b != 0.0)),
        }
    }

    /// About how many additions one element costs.
    pub(super) fn cost(self) -> u32 {
        match self {
            Binary::Div => 3,
            Binary::Atan2 => 8,
            Binary::FloorDiv | Binary::Mod | Binary::Pow => 24,
            _ => 1,
        }
    }
}
