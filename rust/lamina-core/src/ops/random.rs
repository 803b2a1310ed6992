//! Random numbers as pure functions of a seed: the same numbers at any thread count, eager or traced, and the
//! numbers that Keras draws on JAX from the same seed.

use super::*;
use half::{bf16, f16};
use lamina_kernels::elementwise::Unary as U;
use lamina_kernels::random::{self as kernels, Integers, Key};
use lamina_kernels::threads;

/// What numbers are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// From `a` up to, not including, `b`.
    Uniform,
    /// Mean `a`, standard deviation `b`.
    Normal,
    /// [`Distribution::Normal`] within two standard deviations of the mean.
    TruncatedNormal,
    /// Integers from `a` up to, not including, `b`.
    Integers,
    /// uint32 of any value.
    Bits,
}

/// A distribution with its parameters and the element type of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Draw {
    /// The kind.
    pub from: Distribution,
    /// First parameter.
    pub a: Real,
    /// Second parameter.
    pub b: Real,
    /// Element type.
    pub dtype: DType,
}

impl Draw {
    /// A draw.
    pub fn new(from: Distribution, a: f64, b: f64, dtype: DType) -> Draw {
        Draw { from, a: Real::new(a), b: Real::new(b), dtype }
    }

    fn name(&self) -> &'static str {
        match self.from {
            Distribution::Uniform => "random_uniform",
            Distribution::Normal => "random_normal",
            Distribution::TruncatedNormal => "random_truncated_normal",
            Distribution::Integers => "random_integers",
            Distribution::Bits => "random_bits",
        }
    }

    fn infer(&self, seed: &Type, dims: Dims) -> Result<Types, ShapeError> {
        let fail = |message: String| Err(ShapeError::new(self.name(), message));
        let fits = match self.from {
            Distribution::Integers => self.dtype.is_int(),
            Distribution::Bits => self.dtype == DType::U32,
            _ => self.dtype.is_float(),
        };
        if !fits {
            return fail(format!("cannot draw {}", self.dtype));
        }
        if seed.dtype != DType::U32 || !matches!(seed.dims.as_slice(), [None | Some(2)]) {
            let message = format!("the seed is a {} of shape {}", seed.dtype, show(&seed.dims));
            return Err(ShapeError::new(self.name(), message)
                .argument("seed")
                .expected("a uint32 of shape (2,)"));
        }
        let (a, b) = (self.a.get(), self.b.get());
        match self.from {
            Distribution::Uniform | Distribution::Integers if a > b => {
                fail(format!("the range is empty: {a} to {b}"))
            }
            Distribution::Normal | Distribution::TruncatedNormal if b < 0.0 => {
                fail(format!("the standard deviation is negative: {b}"))
            }
            _ => Ok(smallvec![Type { dtype: self.dtype, dims }]),
        }
    }

    fn fill(&self, isa: Isa, key: Key, call: &mut Call<'_, '_>) {
        let (a, b, dtype) = (self.a.get(), self.b.get(), self.dtype);
        if self.from == Distribution::Bits {
            return kernels::bits(isa, key, call.output(0));
        }
        if dtype == DType::F32 {
            let (a, b) = (a as f32, b as f32);
            return match self.from {
                Distribution::Uniform => kernels::uniform(isa, key, a, b, call.output(0)),
                Distribution::Normal => kernels::normal(isa, key, a, b, call.output(0)),
                _ => kernels::truncated_normal(isa, key, a, b, call.output(0)),
            };
        }
        let n = call.outputs()[0].len() / dtype.size();
        if self.from == Distribution::Integers {
            let integers = Integers::new(key, if dtype.size() == 8 { 64 } else { 32 }, a as i64, b as i64);
            call.fill_from(0, dtype, &numbers(n, |i| integers.get(i)));
        } else {
            call.fill_from(0, dtype, &numbers(n, |i| self.real(key, i)));
        }
    }

    /// Number `i`, drawn with the precision of the element type.
    fn real(&self, key: Key, i: u64) -> f64 {
        let (a, b) = (self.a.get(), self.b.get());
        // As many bits as the type's mantissa holds, so that every number is exact before it is scaled.
        let (unit, ulp) = match self.dtype {
            DType::F16 => ((kernels::word(key, i) & 0xffff) >> 6, 1.0 / 1024.0),
            DType::BF16 => ((kernels::word(key, i) & 0xff) >> 1, 1.0 / 128.0),
            DType::F32 => (kernels::word(key, i) >> 9, 1.0 / (1u32 << 23) as f64),
            _ => (0, 1.0 / (1u64 << 52) as f64),
        };
        let unit = if ulp < 1e-10 { (kernels::wide(key, i) >> 12) as f64 } else { unit as f64 } * ulp;
        // Near the ends of (-1, 1) the inverse distribution sees how float32 rounds.
        let round = |x: f64| if self.dtype == DType::F32 { x as f32 as f64 } else { x };
        let between = |low: f64, high: f64| round(low + unit * round(high - low));
        let root = std::f64::consts::SQRT_2;
        match self.from {
            Distribution::Uniform => {
                // Rounding to the type may reach `b`.
                let x = between(a, b);
                if a < b { x.min(before(self.dtype, b)) } else { a }
            }
            Distribution::Normal => a + b * root * U::Erfinv.eval_f64(between(ulp / 2.0 - 1.0, 1.0)),
            _ => {
                let edge = U::Erf.eval_f64(root);
                a + b * (root * U::Erfinv.eval_f64(between(-edge, edge))).clamp(-2.0, 2.0)
            }
        }
    }
}

/// `number(0) .. number(n - 1)`, in parallel.
fn numbers<T: Element>(n: usize, number: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let mut all = vec![T::from_i64(0); n];
    threads::run_chunks(&mut all, 1 << 12, |part, start| {
        part.iter_mut().enumerate().for_each(|(i, x)| *x = number((start + i) as u64));
    });
    all
}

/// The largest number of the type that is smaller than `x`.
fn before(dtype: DType, x: f64) -> f64 {
    // Sign and magnitude: downwards is one less above zero and one more below it.
    let down = |bits: u16| match bits {
        0 | 0x8000 => 0x8001,
        positive if positive < 0x8000 => positive - 1,
        negative => negative + 1,
    };
    let (nearest, below) = match dtype {
        DType::F16 => {
            let near = f16::from_f64(x);
            (near.to_f64(), f16::from_bits(down(near.to_bits())).to_f64())
        }
        DType::BF16 => {
            let near = bf16::from_f64(x);
            (near.to_f64(), bf16::from_bits(down(near.to_bits())).to_f64())
        }
        DType::F32 => (x as f32 as f64, (x as f32).next_down() as f64),
        _ => (x, x.next_down()),
    };
    if nearest < x { nearest } else { below }
}

// --- Random

/// Numbers of a given shape. Operand: the seed, a uint32 of shape (2,), which is the key of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random {
    /// Of what distribution.
    pub draw: Draw,
    /// The shape.
    pub shape: Shape,
}

impl OpDef for Random {
    fn name(&self) -> &'static str {
        self.draw.name()
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        self.draw.infer(x[0], self.shape.iter().map(|&n| Some(n)).collect())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (draw, isa) = (self.draw, cx.isa);
        Lowering::kernel(self.name(), cx.outputs[0].len() as u64, move |call| {
            let seed = call.input::<u32>(0);
            draw.fill(isa, [seed[0], seed[1]], call);
        })
    }

    fn problems() -> Vec<Problem> {
        use Distribution::*;
        let mut draws = vec![Draw::new(Bits, 0.0, 0.0, DType::U32)];
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            draws.push(Draw::new(Uniform, -1.0, 3.0, dtype));
            draws.push(Draw::new(Normal, 0.5, 2.0, dtype));
            draws.push(Draw::new(TruncatedNormal, 0.5, 2.0, dtype));
        }
        draws.extend(
            [DType::U8, DType::I8, DType::I32, DType::I64].map(|d| Draw::new(Integers, 3.0, 90.0, d)),
        );
        let mut problems = vec![];
        for draw in draws {
            for shape in [&[7, 11][..], &[40_000], &[], &[0, 3]] {
                let large = shape == [40_000];
                if large && !matches!(draw.dtype, DType::F32 | DType::U32) {
                    continue;
                }
                let key = [1234, 5];
                let seed = Tensor::from_slice(&[2], &key);
                let op = Random { draw, shape: shape.into() };
                let name = format!("{op:?}");
                let tolerance = match draw.dtype {
                    DType::F16 => 2e-3,
                    DType::BF16 => 2e-2,
                    DType::F32 => 4e-6,
                    DType::F64 => 1e-12,
                    _ => 0.0,
                };
                let n: usize = shape.iter().product();
                problems.push(Problem::close(name, op, vec![seed], tolerance, move |_| {
                    let integers =
                        self::Integers::new(key, if draw.dtype == DType::I64 { 64 } else { 32 }, 3, 90);
                    let number = |i| match draw.from {
                        Bits => kernels::word(key, i) as f64,
                        Integers => integers.get(i) as f64,
                        _ => draw.real(key, i),
                    };
                    (0..n as u64).map(number).collect()
                }));
            }
        }
        problems
    }
}

// --- RandomLike

/// [`Random`] in the shape of operand 1, whose elements are not read; operand 0 is the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RandomLike(pub Draw);

impl OpDef for RandomLike {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        self.0.infer(x[0], x[1].dims.clone())
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let shape = g.ty(x[1]).shape()?;
        g.add(Random { draw: self.0, shape }, &x[..1]).ok()
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("becomes random once shapes are known")
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let draw = Draw::new(Distribution::Uniform, 0.0, 1.0, DType::F32);
        let inputs = vec![Tensor::from_slice(&[2], &[9u32, 0]), sample(DType::F64, &[3, 5], 1)];
        vec![Problem::close("random_like", RandomLike(draw), inputs, 0.0, move |_| {
            (0..15).map(|i| draw.real([9, 0], i)).collect()
        })]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_types_stay_below_their_bound() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            for (a, b) in [(0.0, 1.0), (-1.0, -0.999), (-0.5, 0.0), (0.0, 1e-3)] {
                let draw = Draw::new(Distribution::Uniform, a, b, dtype);
                let x: Vec<f64> = (0..4000).map(|i| draw.real([3, 4], i)).collect();
                let x = Tensor::from_slice(&[4000], &x).cast(dtype).to_f64();
                assert!(x.iter().all(|&x| x < b), "{dtype} {a} {b}");
                assert!(before(dtype, b) < b);
            }
        }
        // jax.random.uniform with the key [7, 3].
        let first = |dtype| Draw::new(Distribution::Uniform, 0.0, 1.0, dtype).real([7, 3], 0);
        assert_eq!(first(DType::F16), 0.6396484375);
        assert_eq!(first(DType::BF16), 0.796875);
        assert_eq!(first(DType::F64), 0.868188818207021);
        let normal = Draw::new(Distribution::Normal, 0.0, 1.0, DType::F64);
        assert!((normal.real([7, 3], 2) + 1.0606949888609276).abs() < 1e-12);
    }

    #[test]
    fn mistakes_are_named() {
        let seed = Type::known(DType::U32, &[2]);
        let draw = |from, a, b, dtype| Random { draw: Draw::new(from, a, b, dtype), shape: smallvec![3] };
        let message = |op: Random, seed: &Type| op.infer(&[seed]).unwrap_err().message;
        let uniform = draw(Distribution::Uniform, 0.0, 1.0, DType::F32);
        let wrong = Type::known(DType::I32, &[1]);
        assert_eq!(message(uniform, &wrong), "the seed is a int32 of shape (1,)");
        assert_eq!(
            message(draw(Distribution::Uniform, 2.0, 1.0, DType::F32), &seed),
            "the range is empty: 2 to 1"
        );
        assert_eq!(message(draw(Distribution::Uniform, 0.0, 1.0, DType::I32), &seed), "cannot draw int32");
        assert_eq!(
            message(draw(Distribution::Normal, 0.0, -1.0, DType::F32), &seed),
            "the standard deviation is negative: -1"
        );
    }
}
