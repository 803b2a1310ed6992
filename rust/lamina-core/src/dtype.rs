//! Element types, and how two of them combine.

use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8 bits.
    U8,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 8 bits.
    I8,
    /// Signed 16 bits.
    I16,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of a float32.
    BF16,
    /// IEEE single precision: the type that has the fast kernels.
    F32,
    /// IEEE double precision.
    F64,
}

use DType::*;

impl DType {
    /// Every type, in promotion order.
    pub const ALL: [DType; 12] = [Bool, U8, U16, U32, I8, I16, I32, I64, F16, BF16, F32, F64];

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Bool | U8 | I8 => 1,
            U16 | I16 | F16 | BF16 => 2,
            U32 | I32 | F32 => 4,
            I64 | F64 => 8,
        }
    }

    /// float16, bfloat16, float32 or float64.
    pub fn is_float(self) -> bool {
        self >= F16
    }

    /// A signed or unsigned integer (not bool).
    pub fn is_int(self) -> bool {
        self > Bool && self < F16
    }

    /// numpy's and Keras's name.
    pub fn name(self) -> &'static str {
        match self {
            Bool => "bool",
            U8 => "uint8",
            U16 => "uint16",
            U32 => "uint32",
            I8 => "int8",
            I16 => "int16",
            I32 => "int32",
            I64 => "int64",
            F16 => "float16",
            BF16 => "bfloat16",
            F32 => "float32",
            F64 => "float64",
        }
    }

    /// The type of an operation on operands of both types, by Keras's rule (the JAX lattice): integers
    /// widen until both fit, any float beats any integer, float16 with bfloat16 is float32.
    pub fn promote(self, other: DType) -> DType {
        let (low, high) = if self <= other { (self, other) } else { (other, self) };
        match (low, high) {
            (a, b) if a == b => a,
            (F16, BF16) => F32,
            (_, b) if b.is_float() => b,
            (Bool, b) => b,
            (U8, I8) => I16,
            (U8 | U16, I8 | I16) => {
                if low == U16 {
                    I32
                } else {
                    I16
                }
            }
            (U32, I8 | I16 | I32) => I64,
            (_, b) => b,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;
    fn from_str(name: &str) -> Result<DType, String> {
        DType::ALL.into_iter().find(|d| d.name() == name).ok_or_else(|| {
            let known = DType::ALL.map(DType::name).join(", ");
            format!("unknown dtype '{name}'; expected one of: {known}")
        })
    }
}

/// A Rust type that is an element type.
pub trait Element: bytemuck::Pod + PartialOrd + Send + Sync + 'static {
    /// Its tag.
    const DTYPE: DType;
    /// The value as float64 (exact but for large int64).
    fn to_f64(self) -> f64;
    /// The nearest value; integers truncate and saturate.
    fn from_f64(x: f64) -> Self;
    /// The value as int64; floats truncate and saturate, NaN is 0.
    fn to_i64(self) -> i64;
    /// Wraps as two's complement.
    fn from_i64(x: i64) -> Self;
}

macro_rules! int_elements {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = $d;
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn from_f64(x: f64) -> Self { x as $t }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as i64 }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { x as $t }
        }
    )*};
}
int_elements!(u8 => U8, u16 => U16, u32 => U32, i8 => I8, i16 => I16, i32 => I32, i64 => I64);

impl Element for f32 {
    const DTYPE: DType = F32;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self as i64
    }
    #[inline(always)]
    fn from_i64(x: i64) -> Self {
        x as f32
    }
}

impl Element for f64 {
    const DTYPE: DType = F64;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self as i64
    }
    #[inline(always)]
    fn from_i64(x: i64) -> Self {
        x as f64
    }
}

macro_rules! half_elements {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = $d;
            #[inline(always)]
            fn to_f64(self) -> f64 { <$t>::to_f64(self) }
            #[inline(always)]
            fn from_f64(x: f64) -> Self { <$t>::from_f64(x) }
            #[inline(always)]
            fn to_i64(self) -> i64 { <$t>::to_f64(self) as i64 }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { <$t>::from_f64(x as f64) }
        }
    )*};
}
half_elements!(f16 => F16, bf16 => BF16);

/// A bool element: one byte, 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub struct Bool8(pub u8);

impl Element for Bool8 {
    const DTYPE: DType = Bool;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        (self.0 != 0) as u8 as f64
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        Bool8((x != 0.0) as u8)
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        (self.0 != 0) as i64
    }
    #[inline(always)]
    fn from_i64(x: i64) -> Self {
        Bool8((x != 0) as u8)
    }
}

/// Evaluates `$body` with `$t` bound to the Rust type of a [`DType`].
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::Bool => {
                type $t = $crate::dtype::Bool8;
                $body
            }
            $crate::dtype::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::dtype::DType::U16 => {
                type $t = u16;
                $body
            }
            $crate::dtype::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::dtype::DType::I8 => {
                type $t = i8;
                $body
            }
            $crate::dtype::DType::I16 => {
                type $t = i16;
                $body
            }
            $crate::dtype::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $t = half::f16;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            $crate::dtype::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $t = f64;
                $body
            }
        }
    };
}

/// Converts every element of `src` (of type `from`) into `dst` (of type `to`).
pub fn cast_bytes(from: DType, src: &[u8], to: DType, dst: &mut [u8]) {
    const TILE: usize = 256;
    let n = src.len() / from.size();
    // Integers travel as int64 and floats as float64: 12 readers and 12 writers instead of 144 pairs.
    let mut ints = [0i64; TILE];
    let mut floats = [0f64; TILE];
    for start in (0..n).step_by(TILE) {
        let len = TILE.min(n - start);
        with_dtype!(from, S => {
            let src = &bytemuck::cast_slice::<u8, S>(src)[start..start + len];
            if from.is_float() {
                floats.iter_mut().zip(src).for_each(|(f, s)| *f = s.to_f64());
            } else {
                ints.iter_mut().zip(src).for_each(|(i, s)| *i = s.to_i64());
            }
        });
        with_dtype!(to, D => {
            let dst = &mut bytemuck::cast_slice_mut::<u8, D>(dst)[start..start + len];
            if from.is_float() {
                dst.iter_mut().zip(&floats).for_each(|(d, f)| *d = D::from_f64(*f));
            } else {
                dst.iter_mut().zip(&ints).for_each(|(d, i)| *d = D::from_i64(*i));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_follows_keras() {
        assert_eq!(U8.promote(I8), I16);
        assert_eq!(I32.promote(U32), I64);
        assert_eq!(I64.promote(F16), F16);
        assert_eq!(F16.promote(BF16), F32);
        assert_eq!(Bool.promote(I8), I8);
        assert_eq!(U16.promote(I8), I32);
        for a in DType::ALL {
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a));
            }
        }
    }

    #[test]
    fn casts_round_trip() {
        let src: Vec<f32> = (0..600).map(|i| i as f32 / 2.0).collect();
        let mut out = vec![0u8; 600 * 4];
        cast_bytes(F32, bytemuck::cast_slice(&src), I32, &mut out);
        let ints: &[i32] = bytemuck::cast_slice(&out);
        assert_eq!(ints[599], 299);
    }
}
