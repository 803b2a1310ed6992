//! Where values come from: inputs, variables, constants.

use super::*;

/// A value that no computation makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The call's n-th argument.
    Input(u32),
    /// The n-th variable's value on entry.
    Variable(u32),
    /// The graph's n-th constant tensor.
    Constant(u32),
    /// A number without axes.
    Scalar(DType, Real),
}

impl OpDef for Source {
    fn name(&self) -> &'static str {
        match self {
            Source::Input(_) => "input",
            Source::Variable(_) => "variable",
            Source::Constant(_) => "constant",
            Source::Scalar(..) => "scalar",
        }
    }

    fn infer(&self, _: &[&Type]) -> Result<Types, ShapeError> {
        match self {
            Source::Scalar(dtype, _) => Ok(smallvec![Type::known(*dtype, &[])]),
            _ => Err(ShapeError::new(self.name(), "a source's type is given, not inferred")),
        }
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        match *self {
            Source::Scalar(dtype, value) => Lowering::kernel("scalar", 0, move |call| {
                with_dtype!(dtype, T => call.output::<T>(0).fill(T::from_f64(value.get())));
            }),
            _ => unreachable!("inputs, variables and constants have memory of their own"),
        }
    }

    fn problems() -> Vec<Problem> {
        vec![Problem::new("scalar", Source::Scalar(DType::F32, Real::new(2.5)), vec![], |_, out| {
            assert_eq!(out[0].to_f64(), [2.5]);
        })]
    }
}
