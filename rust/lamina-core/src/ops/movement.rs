//! Ops that move elements or rename axes: reshape, transpose, broadcast, and their adjoints.

use super::elementwise::broadcast_strides;
use super::reduce::{Kind, Reduce};
use super::*;
use crate::shape::strides;
use lamina_kernels::threads;

// --- Reshape

/// One axis of a reshape's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// This length.
    Fixed(usize),
    /// The length of the operand's n-th axis, known or not.
    Copy(usize),
    /// Whatever is left; at most one axis.
    Infer,
}

/// The same elements, in the same order, under another shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape(pub SmallVec<[Target; 4]>);

impl Reshape {
    /// To a known shape.
    pub fn to(shape: &[usize]) -> Reshape {
        Reshape(shape.iter().map(|&n| Target::Fixed(n)).collect())
    }

    /// Inserts axes of length 1 so that they stand at the given (sorted, result) positions.
    pub fn insert_axes(rank: usize, axes: &[usize]) -> Reshape {
        let mut own = 0..rank;
        let one = |i| {
            if axes.contains(&i) {
                Target::Fixed(1)
            } else {
                Target::Copy(own.next().expect("axes within the result"))
            }
        };
        Reshape((0..rank + axes.len()).map(one).collect())
    }

    /// Drops the given axes, whose length is 1.
    pub fn drop_axes(rank: usize, axes: &[usize]) -> Reshape {
        Reshape((0..rank).filter(|i| !axes.contains(i)).map(Target::Copy).collect())
    }
}

impl OpDef for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let input = x[0];
        let copied: SmallVec<[usize; 4]> =
            self.0.iter().filter_map(|t| if let Target::Copy(i) = t { Some(*i) } else { None }).collect();
        // Axes that are copied cancel on both sides; the rest must hold the same number of elements.
        let mut cancelled = copied.clone();
        let left: Option<usize> = (0..input.rank())
            .filter(|i| match cancelled.iter().position(|c| c == i) {
                Some(at) => {
                    cancelled.swap_remove(at);
                    false
                }
                None => true,
            })
            .map(|i| input.dims[i])
            .product();
        let again: Option<usize> = cancelled.iter().map(|&i| input.dims[i]).product();
        let fixed: usize = self.0.iter().map(|t| if let Target::Fixed(n) = t { *n } else { 1 }).product();
        let right = again.map(|a| a * fixed);
        let infers = self.0.contains(&Target::Infer);
        let inferred: Dim = match (left, right) {
            // An empty operand: the remaining axis is empty too, unless another axis already is.
            (Some(0), Some(0)) if infers => Some(0),
            (Some(left), Some(right)) => {
                let fits = if infers { right > 0 && left % right == 0 } else { left == right };
                if !fits {
                    let wanted: Vec<Dim> = self
                        .0
                        .iter()
                        .map(|t| match t {
                            Target::Fixed(n) => Some(*n),
                            Target::Copy(i) => input.dims[*i],
                            Target::Infer => None,
                        })
                        .collect();
                    let message = format!(
                        "cannot reshape array of shape {} ({left} elements beside the copied axes) into shape {} ({right} elements)",
                        show(&input.dims),
                        show(&wanted)
                    );
                    return Err(ShapeError::new("reshape", message).got(&input.dims));
                }
                Some(if infers { left / right } else { 1 })
            }
            _ => None,
        };
        let dims = self.0.iter().map(|t| match t {
            Target::Fixed(n) => Some(*n),
            Target::Copy(i) => input.dims[*i],
            Target::Infer => inferred,
        });
        Ok(smallvec![Type::new(input.dtype, dims)])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let ty = g.ty(x[0]).clone();
        if self.0.iter().enumerate().all(|(i, t)| *t == Target::Copy(i)) && self.0.len() == ty.rank() {
            return Some(x[0]);
        }
        // Once everything is known, one spelling: so equal reshapes merge, and chains collapse.
        let shape = self.infer(&[&ty]).ok()?[0].shape()?;
        if ty.shape().as_ref() == Some(&shape) {
            return Some(x[0]);
        }
        if let Op::Reshape(_) = g.op(x[0]) {
            let origin = g.node(x[0]).inputs[0];
            return g.add(Reshape::to(&shape), &[origin]).ok();
        }
        let canonical = Reshape::to(&shape);
        (canonical != *self).then(|| g.add(canonical, x).expect("the shape was just derived"))
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(0), cx.dy()?);
        let dx = cx.g.add(ReshapeLike, &[dy, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], inputs: &[&Type], _: &[Type]) -> bool {
        // What is left for the first axis is the rows alone where everything else is known and the same.
        let known = |d: &[Dim]| d.iter().copied().product::<Option<usize>>();
        let rest = known(&inputs[0].dims[1..]);
        let copied = |t: &Target| match t {
            Target::Fixed(n) => Some(*n),
            Target::Copy(i) => inputs[0].dims[*i],
            Target::Infer => None,
        };
        match self.0.first() {
            Some(Target::Copy(0)) => !self.0[1..].contains(&Target::Copy(0)),
            Some(Target::Infer) => rest.is_some() && self.0[1..].iter().map(copied).product::<Dim>() == rest,
            _ => false,
        }
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        Lowering::Alias
    }

    fn problems() -> Vec<Problem> {
        use Target::*;
        let cases: [(&[usize], Vec<Target>); 5] = [
            (&[2, 3, 4], vec![Copy(0), Infer]),
            (&[2, 3, 4], vec![Fixed(4), Fixed(6)]),
            (&[2, 12], vec![Copy(0), Fixed(3), Fixed(4)]),
            (&[5], vec![Copy(0), Fixed(1)]),
            (&[0, 3], vec![Infer, Fixed(3)]),
        ];
        cases
            .into_iter()
            .map(|(shape, target)| {
                let x = sample(DType::F32, shape, 1);
                let op = Reshape(target.into());
                Problem::close(format!("{op:?}"), op, vec![x], 0.0, |x| x[0].clone()).differentiate(&[0])
            })
            .collect()
    }
}

/// The elements of operand 0 in the shape of operand 1, whose elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReshapeLike;

impl OpDef for ReshapeLike {
    fn name(&self) -> &'static str {
        "reshape_like"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        if let (Some(a), Some(b)) = (x[0].elements(), x[1].elements())
            && a != b
        {
            let message = format!("cannot reshape {} into {}", show(&x[0].dims), show(&x[1].dims));
            return Err(ShapeError::new("reshape_like", message));
        }
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[1].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let shape = g.ty(x[1]).shape()?;
        g.add(Reshape::to(&shape), &x[..1]).ok()
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(0), cx.dy()?);
        let dx = cx.g.add(ReshapeLike, &[dy, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        Lowering::Alias
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let inputs = vec![sample(DType::F32, &[6], 1), sample(DType::F32, &[2, 3], 2)];
        vec![Problem::close("reshape_like", ReshapeLike, inputs, 0.0, |x| x[0].clone()).differentiate(&[0])]
    }
}

// --- Transpose

/// Axis `i` of the result is axis `perm[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transpose(pub SmallVec<[usize; 4]>);

impl Transpose {
    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Transpose {
        let mut inverse: SmallVec<[usize; 4]> = self.0.clone();
        for (i, &p) in self.0.iter().enumerate() {
            inverse[p] = i;
        }
        Transpose(inverse)
    }
}

impl OpDef for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let mut seen = self.0.clone();
        seen.sort_unstable();
        if !seen.iter().copied().eq(0..x[0].rank()) {
            let message =
                format!("axes {:?} are not a permutation of the {} axes", self.0.as_slice(), x[0].rank());
            return Err(ShapeError::new("transpose", message).got(&x[0].dims));
        }
        Ok(smallvec![Type::new(x[0].dtype, self.0.iter().map(|&p| x[0].dims[p]))])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        if self.0.iter().copied().eq(0..self.0.len()) {
            return Some(x[0]);
        }
        if let Op::Transpose(inner) = g.op(x[0]).clone() {
            let origin = g.node(x[0]).inputs[0];
            let joined = Transpose(self.0.iter().map(|&p| inner.0[p]).collect());
            return g.add(joined, &[origin]).ok();
        }
        // Moving only axes of length 1 moves no element.
        let shape = g.ty(x[0]).shape()?;
        let long: Vec<usize> =
            self.0.iter().copied().filter(|&p| shape.get(p).is_some_and(|&n| n != 1)).collect();
        if long.is_sorted() && self.0.len() == shape.len() {
            let out: Shape = self.0.iter().map(|&p| shape[p]).collect();
            return g.add(Reshape::to(&out), x).ok();
        }
        None
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let dy = cx.dy()?;
        let dx = cx.g.add(self.inverse(), &[dy])?;
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        self.0[0] == 0
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let own = strides(&cx.shape(0));
        let from: Shape = self.0.iter().map(|&p| own[p]).collect();
        strided_copy("transpose", cx.dtype(0), &cx.out_shape(0), &from)
    }

    fn problems() -> Vec<Problem> {
        let cases: [(&[usize], &[usize]); 6] = [
            (&[3, 4], &[1, 0]),
            (&[2, 3, 4, 5], &[0, 2, 3, 1]),
            (&[2, 3, 4, 5], &[3, 1, 0, 2]),
            (&[70, 35, 3], &[1, 0, 2]),
            (&[1, 5, 1], &[2, 1, 0]),
            (&[0, 3], &[1, 0]),
        ];
        let mut problems = vec![];
        for (shape, perm) in cases {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::Bool] {
                let (s, p) = (shape.to_vec(), perm.to_vec());
                let x = sample(dtype, shape, 1);
                let problem = Problem::close(
                    format!("transpose {shape:?} {perm:?} {dtype}"),
                    Transpose(perm.into()),
                    vec![x],
                    0.0,
                    move |x| {
                        let own = strides(&s);
                        let out: Vec<usize> = p.iter().map(|&p| s[p]).collect();
                        let from: Vec<usize> = p.iter().map(|&p| own[p]).collect();
                        let mut y = vec![];
                        super::elementwise::walk2(&out, &from, &from, |_, i, _| y.push(x[0][i]));
                        y
                    },
                );
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
            }
        }
        problems
    }
}

/// A kernel that fills its output, in order, from operand 0 read with the given strides (0 repeats).
pub fn strided_copy(name: &'static str, dtype: DType, out: &[usize], from: &[usize]) -> Lowering {
    let from: SmallVec<[isize; 4]> = from.iter().map(|&s| s as isize).collect();
    strided_copy_from(name, dtype, out, &from, 0)
}

/// As [`strided_copy`], starting at element `offset` of the operand; strides may be negative.
pub fn strided_copy_from(
    name: &'static str,
    dtype: DType,
    out: &[usize],
    from: &[isize],
    offset: usize,
) -> Lowering {
    // Merge axes that are contiguous in both.
    let (mut shape, mut stride): (Vec<usize>, Vec<isize>) = (vec![], vec![]);
    for (&n, &s) in out.iter().zip(from).filter(|(n, _)| **n != 1) {
        match (shape.last_mut(), stride.last_mut()) {
            (Some(last), Some(st)) if *st == s * n as isize => {
                *last *= n;
                *st = s;
            }
            _ => {
                shape.push(n);
                stride.push(s);
            }
        }
    }
    if shape.is_empty() {
        shape.push(1);
        stride.push(1);
    }
    let size = dtype.size();
    Lowering::kernel(name, 0, move |call| match size {
        1 => copy_strided::<u8>(call, &shape, &stride, offset),
        2 => copy_strided::<u16>(call, &shape, &stride, offset),
        4 => copy_strided::<u32>(call, &shape, &stride, offset),
        _ => copy_strided::<i64>(call, &shape, &stride, offset),
    })
}

fn copy_strided<T: Element>(call: &mut Call<'_, '_>, shape: &[usize], stride: &[isize], first: usize) {
    let x = call.input::<T>(0);
    let y = call.output::<T>(0);
    let rank = shape.len();
    let (row, step) = (shape[rank - 1], stride[rank - 1]);
    if row == 0 || y.is_empty() {
        return;
    }
    // Where the operand is contiguous along another axis, walk tiles of both so that each cache line is
    // read and written once.
    let across = (0..rank - 1).rev().find(|&a| stride[a] == 1 && step > 1);
    let block = match across {
        Some(a) => shape[a..].iter().product::<usize>(),
        None => row,
    };
    let base = |mut index: usize, upto: usize| {
        let mut offset = first as isize;
        for axis in (0..upto).rev() {
            offset += (index % shape[axis]) as isize * stride[axis];
            index /= shape[axis];
        }
        offset as usize
    };
    let per_task = (1usize << 15).div_ceil(block);
    threads::run_chunks(y, per_task * block, |part, start| {
        for (k, out) in part.chunks_mut(block).enumerate() {
            let index = start / block + k;
            match across {
                None => {
                    let offset = base(index, rank - 1);
                    match step {
                        0 => out.fill(x[offset]),
                        1 => out.copy_from_slice(&x[offset..offset + row]),
                        _ => out
                            .iter_mut()
                            .enumerate()
                            .for_each(|(i, y)| *y = x[offset.wrapping_add_signed(i as isize * step)]),
                    }
                }
                Some(a) => {
                    let offset = base(index, a);
                    // Axes between the contiguous one and the last are walked one by one.
                    let middle: usize = shape[a + 1..rank - 1].iter().product();
                    for m in 0..middle {
                        let mut inner = offset as isize;
                        let mut rest = m;
                        for axis in (a + 1..rank - 1).rev() {
                            inner += (rest % shape[axis]) as isize * stride[axis];
                            rest /= shape[axis];
                        }
                        tile_transpose(
                            x,
                            inner as usize,
                            step as usize,
                            out,
                            m * row,
                            middle * row,
                            shape[a],
                            row,
                        );
                    }
                }
            }
        }
    });
}

/// `out[at + i * ld + j] = x[offset + i + j * step]` in 16 x 16 tiles.
fn tile_transpose<T: Copy>(
    x: &[T],
    offset: usize,
    step: usize,
    out: &mut [T],
    at: usize,
    ld: usize,
    rows: usize,
    cols: usize,
) {
    const TILE: usize = 16;
    for i0 in (0..rows).step_by(TILE) {
        for j0 in (0..cols).step_by(TILE) {
            for i in i0..rows.min(i0 + TILE) {
                for j in j0..cols.min(j0 + TILE) {
                    out[at + i * ld + j] = x[offset + i + j * step];
                }
            }
        }
    }
}

// --- Broadcasting

/// Repeats axes of length 1 (and new leading axes) to a given shape; `None` keeps the operand's own axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BroadcastTo(pub Dims);

impl OpDef for BroadcastTo {
    fn name(&self) -> &'static str {
        "broadcast_to"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let (own, wanted) = (&x[0].dims, &self.0);
        let fail = || {
            ShapeError::new(
                "broadcast_to",
                format!("shape {} cannot be broadcast to {}", show(own), show(wanted)),
            )
            .got(own)
            .expected("axes, counted from the last, that are equal or 1")
        };
        if wanted.len() < own.len() {
            return Err(fail());
        }
        let lead = wanted.len() - own.len();
        let mut dims: Dims = wanted.clone();
        for (i, &d) in own.iter().enumerate() {
            let slot = &mut dims[lead + i];
            match (*slot, d) {
                (None, d) => *slot = d,
                (Some(w), Some(d)) if d != 1 && d != w => return Err(fail()),
                _ => {}
            }
        }
        Ok(smallvec![Type { dtype: x[0].dtype, dims }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        let ty = g.ty(x[0]);
        let out = self.infer(&[ty]).ok()?;
        (ty.shape().is_some() && out[0].dims == ty.dims).then_some(x[0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let dy = cx.dy()?;
        cx.give_summed(0, dy)
    }

    fn keeps_rows(&self, _: &[bool], inputs: &[&Type], _: &[Type]) -> bool {
        inputs[0].rank() == self.0.len() && self.0[0].is_none()
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let out = cx.out_shape(0);
        strided_copy("broadcast", cx.dtype(0), &out, &broadcast_strides(&cx.shape(0), &out))
    }

    fn problems() -> Vec<Problem> {
        let cases: [(&[usize], &[Dim]); 4] = [
            (&[3], &[Some(2), Some(3)]),
            (&[2, 1, 3], &[Some(2), Some(4), Some(3)]),
            (&[], &[Some(5)]),
            (&[4, 1], &[None, Some(6)]),
        ];
        let mut problems = vec![];
        for (shape, dims) in cases {
            for dtype in [DType::F32, DType::I64] {
                let op = BroadcastTo(dims.into());
                let x = sample(dtype, shape, 3);
                let out = op.infer(&[&x.ty()]).expect("the problem broadcasts")[0].concrete();
                let own = shape.to_vec();
                let problem =
                    Problem::close(format!("broadcast {shape:?} {dtype}"), op, vec![x], 0.0, move |x| {
                        let mut y = vec![];
                        let s = broadcast_strides(&own, &out);
                        super::elementwise::walk2(&out, &s, &s, |_, i, _| y.push(x[0][i]));
                        y
                    });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
            }
        }
        problems
    }
}

/// Repeats operand 0 to the shape of operand 1, whose elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BroadcastLike;

impl OpDef for BroadcastLike {
    fn name(&self) -> &'static str {
        "broadcast_like"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let mut out = BroadcastTo(x[1].dims.clone()).infer(&x[..1])?;
        // Unlike in `BroadcastTo`, an unknown axis of operand 1 is a length: an axis of 1 is repeated to it.
        for (slot, like) in out[0].dims.iter_mut().zip(&x[1].dims) {
            if like.is_none() && *slot == Some(1) {
                *slot = None;
            }
        }
        Ok(out)
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        if x[0] == x[1] {
            return Some(x[0]);
        }
        let dims = g.ty(x[1]).dims.clone();
        if dims.contains(&None) {
            return None;
        }
        g.add(BroadcastTo(dims), &x[..1]).ok()
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let dy = cx.dy()?;
        cx.give_summed(0, dy)
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("becomes broadcast_to once shapes are known")
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let inputs = vec![sample(DType::F32, &[3], 1), sample(DType::F32, &[2, 3], 2)];
        let problem =
            Problem::close("broadcast_like", BroadcastLike, inputs, 0.0, |x| [&x[0][..], &x[0][..]].concat());
        vec![problem.differentiate(&[0])]
    }
}

/// Operand 0 summed down to the shape of operand 1, whose elements are not read: the adjoint of broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SumLike;

impl OpDef for SumLike {
    fn name(&self) -> &'static str {
        "sum_like"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        BroadcastTo(x[0].dims.clone()).infer(&x[1..])?;
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[1].dims.clone() }])
    }

    fn simplify(&self, g: &mut Graph, x: &[Value]) -> Option<Value> {
        if x[0] == x[1] {
            return Some(x[0]);
        }
        let (big, small) = (g.ty(x[0]).shape()?, g.ty(x[1]).shape()?);
        if big == small {
            return Some(x[0]);
        }
        let lead = big.len().checked_sub(small.len())?;
        let axes: SmallVec<[usize; 4]> =
            (0..big.len()).filter(|&i| i < lead || (small[i - lead] == 1 && big[i] != 1)).collect();
        let summed = g.add(Reduce { kind: Kind::Sum, axes, keepdims: true }, &x[..1]).ok()?;
        g.add(Reshape::to(&small), &[summed]).ok()
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy) = (cx.x(0), cx.dy()?);
        let dx = cx.g.broadcast_like(dy, x)?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        unreachable!("becomes a sum once shapes are known")
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn problems() -> Vec<Problem> {
        let inputs = vec![sample(DType::F32, &[2, 3], 1), sample(DType::F32, &[3], 2)];
        let problem = Problem::close("sum_like", SumLike, inputs, 1e-6, |x| {
            (0..3).map(|i| x[0][i] + x[0][i + 3]).collect()
        });
        vec![problem.differentiate(&[0])]
    }
}

// --- StopGradient

/// The operand, through which no gradient flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StopGradient;

impl OpDef for StopGradient {
    fn name(&self) -> &'static str {
        "stop_gradient"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        broadcast_keeps_rows(rows, inputs, outputs)
    }

    fn lower(&self, _: &Lower<'_>) -> Lowering {
        Lowering::Alias
    }

    fn problems() -> Vec<Problem> {
        vec![Problem::close("stop_gradient", StopGradient, vec![sample(DType::F32, &[3], 1)], 0.0, |x| {
            x[0].clone()
        })]
    }
}
