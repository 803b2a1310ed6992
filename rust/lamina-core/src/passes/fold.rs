//! Scales of output channels move into the weights: how inference loses its batch normalisation.
//!
//! `conv(x, K) * s` is `conv(x, K s)` where `s` has one value per output channel. Both K and s must be static, so that
//! the product is computed once, in the plan's prologue. Likewise two biases in a row are one, and zeros put around an image
//! before a convolution, or around what is never negative before a maximum, are that op's own padding.

use super::{is_static, uses};
use crate::dtype::DType;
use crate::error::{Result, ShapeError};
use crate::graph::{Graph, Value};
use crate::ops::activation::Activation;
use crate::ops::conv::{Conv, Mixing};
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::index::{Margin, Pad};
use crate::ops::matmul::MatMul;
use crate::ops::movement::Reshape;
use crate::ops::pool::{Pool, PoolKind};
use crate::ops::window::{Padding, Slide};
use crate::ops::{Op, OpDef};
use crate::plan::Traced;
use lamina_kernels::elementwise::{Binary as B, Unary as U};
use rustc_hash::FxHashMap;
use smallvec::smallvec;

/// Folds every scale that has weights before it.
pub fn run(traced: Traced) -> Result<Traced> {
    let uses = uses(&traced);
    let updated: Vec<usize> = traced.updates.iter().map(|u| u.0).collect();
    let mut fold = Fold { single: FxHashMap::default(), is_static: vec![], updated };
    let (graph, roots) = traced.graph.rewrite(&traced.roots(), None, |g, old, node, inputs| {
        let folded = match (&node.op, inputs) {
            (Op::Binary(Binary(B::Mul)), &[a, b]) => match fold.scale(g, a, b)? {
                Some(v) => Some(v),
                None => fold.scale(g, b, a)?,
            },
            (Op::Binary(Binary(B::Add)), &[a, b]) => match fold.join_biases(g, a, b)? {
                Some(v) => Some(v),
                None => fold.join_biases(g, b, a)?,
            },
            (Op::Conv(conv), &[x, kernel]) => match fold.absorb_padding(g, &conv.slide, x) {
                Some((image, slide)) => Some(g.add(Conv { slide, ..**conv }, &[image, kernel])?),
                None => None,
            },
            (Op::Pool(pool), &[x]) if pool.kind == PoolKind::Max => {
                match fold.absorb_padding(g, &pool.slide, x) {
                    // A pool takes padding narrower than its window only: every window then sees a number of its own, at
                    // least the 0 that it loses.
                    Some((image, slide)) if is_positive(g, image) => {
                        g.add(Pool { slide, ..**pool }, &[image]).ok()
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let new = match folded {
            Some(v) => smallvec![v],
            None => g.add_all(node.op.clone(), inputs)?,
        };
        let alone = uses.get(&old).copied().unwrap_or(0) == 1 && !fold.single.contains_key(&new[0]);
        fold.single.insert(new[0], alone);
        Ok(new)
    })?;
    Ok(traced.with_graph(graph, &roots))
}

struct Fold {
    /// Values that one node alone reads.
    single: FxHashMap<Value, bool>,
    /// By node: whether it depends on constants and unchanging variables only.
    is_static: Vec<bool>,
    /// Variables that the plan changes.
    updated: Vec<usize>,
}

impl Fold {
    fn is_static(&mut self, g: &Graph, v: Value) -> bool {
        for i in self.is_static.len()..=v.node as usize {
            let known = is_static(&g.nodes()[i], &self.is_static, |k| self.updated.contains(&(k as usize)));
            self.is_static.push(known);
        }
        self.is_static[v.node as usize]
    }

    /// A static vector over the last axis of `like`.
    fn is_channel_vector(&mut self, g: &Graph, v: Value, like: Value) -> bool {
        let (ty, like) = (g.ty(v), g.ty(like));
        let channels = like.dims.last().copied().flatten();
        ty.dtype == DType::F32
            && ty.rank() <= like.rank()
            && ty.dims.last().copied().flatten() == channels
            && ty.elements() == channels
            && ty.rank() > 0
            && self.is_static(g, v)
    }

    /// `(z + a) + b` as `z + (a + b)`.
    fn join_biases(&mut self, g: &mut Graph, v: Value, b: Value) -> Result<Option<Value>, ShapeError> {
        let Op::Binary(Binary(B::Add)) = g.op(v) else { return Ok(None) };
        if !self.single.get(&v).copied().unwrap_or(false) || !self.is_channel_vector(g, b, v) {
            return Ok(None);
        }
        let operands = g.node(v).inputs.clone();
        for (z, a) in [(operands[0], operands[1]), (operands[1], operands[0])] {
            if self.is_channel_vector(g, a, v) && g.ty(z).dims == g.ty(v).dims {
                let both = g.sum(a, b)?;
                return g.sum(z, both).map(Some);
            }
        }
        Ok(None)
    }

    /// The image in a value that is an image with zeros around it, and the padding that stands for them.
    fn absorb_padding(&self, g: &Graph, slide: &Slide, x: Value) -> Option<(Value, Slide)> {
        let Op::Pad(pad) = g.op(x) else { return None };
        let Pad { widths, margin: Margin::Constant(zero) } = &**pad else { return None };
        let own = match slide.padding {
            Padding::Valid => [(0, 0); 2],
            Padding::Explicit(around) => around,
            Padding::Same => return None,
        };
        let alone = self.single.get(&x).copied().unwrap_or(false);
        if zero.get() != 0.0 || widths[0] != (0, 0) || widths[3] != (0, 0) || !alone {
            return None;
        }
        let around = [0, 1].map(|i| (own[i].0 + widths[1 + i].0, own[i].1 + widths[1 + i].1));
        Some((g.node(x).inputs[0], Slide { padding: Padding::Explicit(around), ..*slide }))
    }

    /// `v * s`, with the scale moved into the weights that made `v`.
    fn scale(&mut self, g: &mut Graph, v: Value, s: Value) -> Result<Option<Value>, ShapeError> {
        if g.ty(v).dtype != DType::F32
            || !self.single.get(&v).copied().unwrap_or(false)
            || !self.is_channel_vector(g, s, v)
        {
            return Ok(None);
        }
        let node = g.node(v).clone();
        let channels = g.ty(s).elements().expect("checked");
        let weights = match &node.op {
            // A bias in between is scaled on its own.
            Op::Binary(Binary(B::Add)) => {
                for (sum, bias) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
                    if self.is_channel_vector(g, bias, v)
                        && let Some(scaled) = self.scale(g, sum, s)?
                    {
                        let bias = g.mul(bias, s)?;
                        return g.sum(scaled, bias).map(Some);
                    }
                }
                return Ok(None);
            }
            Op::Conv(conv) if conv.epilogue.is_none() => match conv.mixing {
                Mixing::Groups(_) => vec![channels],
                Mixing::Depthwise => {
                    let dims = g.ty(node.inputs[1]).concrete();
                    vec![dims[2], dims[3]]
                }
            },
            Op::MatMul(MatMul { transpose_b: false, epilogue, .. })
                if epilogue.is_none() && g.ty(node.inputs[1]).rank() == 2 =>
            {
                vec![channels]
            }
            _ => return Ok(None),
        };
        if !self.is_static(g, node.inputs[1]) {
            return Ok(None);
        }
        let s = g.add(Reshape::to(&weights), &[s])?;
        let kernel = g.mul(node.inputs[1], s)?;
        debug_assert_eq!(node.op.name(), g.op(v).name());
        g.add(node.op, &[node.inputs[0], kernel]).map(Some)
    }
}

/// Whether a value has no element below 0.
fn is_positive(g: &Graph, v: Value) -> bool {
    matches!(g.op(v), Op::Unary(Unary(U::Relu)) | Op::Activation(Activation::Relu6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::function::Function;
    use crate::ops::Real;
    use crate::passes::{optimise, specialise};
    use crate::shape::Type;

    /// `max_pool(pad(x))` or, with `relu`, of what relu gives.
    fn pooled(relu: bool) -> Traced {
        let mut g = Graph::new();
        let mut x = g.input(Type::known(DType::F32, &[1, 5, 4, 2]));
        if relu {
            x = g.add(Unary(U::Relu), &[x]).unwrap();
        }
        let widths = smallvec![(0, 0), (1, 1), (1, 1), (0, 0)];
        let padded = g.add(Pad { widths, margin: Margin::Constant(Real::new(0.0)) }, &[x]).unwrap();
        let y = g.add(Pool::new(PoolKind::Max, [3, 3], [2, 2], Padding::Valid), &[padded]).unwrap();
        Traced { graph: g, outputs: vec![y], updates: vec![] }
    }

    #[test]
    fn zeros_around_a_maximum_are_its_padding_where_nothing_is_negative() {
        let numbers: Vec<f32> = (0..40).map(|i| (i * 37 % 41) as f32 - 38.0).collect();
        let x = Tensor::from_slice(&[1, 5, 4, 2], &numbers);
        for relu in [false, true] {
            let traced = pooled(relu);
            let plain = specialise(&traced, &[x.ty()]).unwrap();
            let best = optimise(plain.clone()).unwrap();
            let live = best.graph.live(best.roots());
            let pads =
                best.graph.nodes().iter().zip(live).filter(|(n, l)| *l && n.op.name() == "pad").count();
            assert_eq!(pads, usize::from(!relu));
            let y = Function::new(traced).call(std::slice::from_ref(&x)).unwrap();
            let at = |y: isize, x: isize, c: usize| match (0..5).contains(&y) && (0..4).contains(&x) {
                true if relu => numbers[(y * 4 + x) as usize * 2 + c].max(0.0),
                true => numbers[(y * 4 + x) as usize * 2 + c],
                false => 0.0,
            };
            let want: Vec<f32> = (0..3 * 2 * 2)
                .map(|i| {
                    let (top, left, c) = (i as isize / 4 * 2 - 1, i as isize / 2 % 2 * 2 - 1, i % 2);
                    (0..9).map(|k| at(top + k / 3, left + k % 3, c)).fold(f32::NEG_INFINITY, f32::max)
                })
                .collect();
            assert_eq!(y[0].as_slice::<f32>(), want);
        }
    }
}
