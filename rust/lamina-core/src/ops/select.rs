//! Choosing between two values, and changing the element type.

use super::elementwise::Binary;
use super::elementwise::{broadcast_strides, walk2};
use super::pool::{PoolGrad, PoolKind};
use super::*;
use crate::dtype::{Bool8, cast_bytes};
use lamina_kernels::elementwise::Binary as B;

// --- Select

/// `where(condition, a, b)`: condition is bool, all three broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Select;

impl OpDef for Select {
    fn name(&self) -> &'static str {
        "where"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if x[0].dtype != DType::Bool || x[1].dtype != x[2].dtype {
            let message = format!("got dtypes {}, {}, {}", x[0].dtype, x[1].dtype, x[2].dtype);
            return Err(
                ShapeError::new("where", message).expected("a bool condition and two values of one dtype")
            );
        }
        let values = Type { dtype: x[1].dtype, dims: broadcast_or("where", x[1], x[2])? };
        let dims = broadcast_or("where", x[0], &values)?;
        Ok(smallvec![Type { dtype: x[1].dtype, dims }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        // The gradient of max pooling behind a relu, `where(y > 0, pool_grad(dy, y), 0)`: an element that won its window
        // is as large as the pooled one, so the question is asked of the pooled values, which are fewer.
        let Op::PoolGrad(grad) = g.op(x[1]) else { return None };
        let pool = grad.0;
        if pool.kind != PoolKind::Max {
            return None;
        }
        let (dy, y) = (g.node(x[1]).inputs[0], g.node(x[1]).inputs[1]);
        let Op::Binary(Binary(B::Gt)) = g.op(x[0]) else { return None };
        let (asked, bound) = (g.node(x[0]).inputs[0], g.node(x[0]).inputs[1]);
        if asked != y || g.as_scalar(bound) != Some(0.0) || g.as_scalar(x[2]) != Some(0.0) {
            return None;
        }
        let pooled = g.add(pool, &[y]).ok()?;
        let positive = g.binary(B::Gt, pooled, bound).ok()?;
        let dy = g.add(Select, &[positive, dy, x[2]]).ok()?;
        g.add(PoolGrad(pool), &[dy, y]).ok()
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (condition, dy) = (cx.x(0), cx.dy()?);
        let zero = cx.g.scalar(cx.g.ty(dy).dtype, 0.0);
        if cx.wanted[1] {
            let d = cx.g.add(Select, &[condition, dy, zero])?;
            cx.give_summed(1, d)?;
        }
        if cx.wanted[2] {
            let d = cx.g.add(Select, &[condition, zero, dy])?;
            cx.give_summed(2, d)?;
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        broadcast_keeps_rows(rows, inputs, outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let dtype = cx.dtype(1);
        let shape = cx.out_shape(0);
        let sc = broadcast_strides(&cx.shape(0), &shape);
        let (sa, sb) = (broadcast_strides(&cx.shape(1), &shape), broadcast_strides(&cx.shape(2), &shape));
        Lowering::kernel("where", 0, move |call| {
            with_dtype!(dtype, T => {
                let (c, a, b) = (call.input::<Bool8>(0), call.input::<T>(1), call.input::<T>(2));
                let y = call.output::<T>(0);
                walk2(&shape, &sa, &sb, |i, ia, _| y[i] = a[ia]);
                walk2(&shape, &sc, &sb, |i, ic, ib| {
                    if c[ic].0 == 0 {
                        y[i] = b[ib];
                    }
                });
            });
        })
    }

    fn problems() -> Vec<Problem> {
        [DType::F32, DType::F64, DType::I32]
            .into_iter()
            .map(|dtype| {
                let inputs =
                    vec![sample(DType::Bool, &[3, 4], 5), sample(dtype, &[4], 6), sample(dtype, &[3, 4], 7)];
                let problem = Problem::close(format!("where {dtype}"), Select, inputs, 0.0, |x| {
                    (0..12).map(|i| if x[0][i] != 0.0 { x[1][i % 4] } else { x[2][i] }).collect()
                });
                if dtype == DType::F32 { problem.differentiate(&[1, 2]) } else { problem }
            })
            .collect()
    }
}

// --- Cast

/// Conversion to another element type; floats to integers truncate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cast(pub DType);

impl OpDef for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: self.0, dims: x[0].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        if g.ty(x[0]).dtype == self.0 {
            return Some(x[0]);
        }
        let from = g.ty(x[0]).dtype;
        let value = g.as_scalar(x[0])?;
        let tensor = Tensor::full(from, &[], value).cast(self.0);
        (self.0 != DType::I64).then(|| g.scalar(self.0, tensor.to_f64()[0]))
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        if self.0.is_float() {
            let (x, dy) = (cx.x(0), cx.dy()?);
            let dtype = cx.g.ty(x).dtype;
            let dx = cx.g.cast(dy, dtype)?;
            cx.give(0, dx);
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        broadcast_keeps_rows(rows, inputs, outputs)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (from, to) = (cx.dtype(0), self.0);
        Lowering::kernel("cast", 0, move |call| {
            let x = call.input_bytes(0);
            cast_bytes(from, x, to, call.outputs()[0]);
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for from in DType::ALL {
            for to in DType::ALL {
                let x = sample(from, &[9], 8);
                problems.push(Problem::new(
                    format!("cast {from} to {to}"),
                    Cast(to),
                    vec![x],
                    move |x, y| {
                        assert_eq!(y[0].dtype(), to);
                        assert_eq!(y[0].to_f64(), x[0].cast(to).to_f64());
                    },
                ));
            }
        }
        let x = sample(DType::F32, &[5], 9);
        problems.push(
            Problem::close("cast float", Cast(DType::F64), vec![x], 0.0, |x| x[0].clone())
                .differentiate(&[0]),
        );
        problems
    }
}
