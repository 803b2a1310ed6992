//! Ops that choose elements by ids that come with the data: gather, scatter, one-hot, dynamic slices.

use super::elementwise::walk2;
use super::*;
use crate::shape::strides;
use lamina_kernels::threads;

/// Bytes that one task copies.
const CHUNK: usize = 32 << 10;

/// An id as a position below `n`; negative ids count from the end.
fn position(id: i64, n: usize) -> Option<usize> {
    let p = if id < 0 { id + n as i64 } else { id };
    (0..n as i64).contains(&p).then_some(p as usize)
}

fn outside(op: &str, id: i64, at: usize, axis: usize, n: usize) -> String {
    format!(
        "{op}: id {id} at position {at} of the indices is outside [0, {n}) of axis {axis}; the axis would need at least {} elements",
        id.max(0) + 1
    )
}

fn need_ints(op: &str, ty: &Type) -> Result<(), ShapeError> {
    if ty.dtype.is_int() {
        return Ok(());
    }
    Err(ShapeError::new(op, format!("indices must be integers, got {}", ty.dtype)).argument("indices"))
}

/// The ids as int64.
fn ids(call: &Call<'_, '_>, i: usize, dtype: DType) -> Vec<i64> {
    with_dtype!(dtype, T => call.input::<T>(i).iter().map(|x| x.to_i64()).collect())
}

// --- Gather

/// `numpy.take(x, ids, axis)`: slices of `x` along an axis; ids outside the axis are an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    /// The axis that the ids replace.
    pub axis: usize,
}

impl OpDef for Gather {
    fn name(&self) -> &'static str {
        "take"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        need_ints("take", x[1])?;
        axis_index("take", self.axis as i64, x[0].rank())?;
        let (before, after) = (&x[0].dims[..self.axis], &x[0].dims[self.axis + 1..]);
        Ok(smallvec![Type::new(x[0].dtype, before.iter().chain(&x[1].dims).chain(after).copied())])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, ids, dy) = (cx.x(0), cx.x(1), cx.dy()?);
        let dx = cx.g.add(GatherGrad { axis: self.axis }, &[dy, ids, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], _: &[&Type], _: &[Type]) -> bool {
        match rows {
            [false, true] => self.axis == 0,
            [true, false] => self.axis != 0,
            _ => false,
        }
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let shape = cx.shape(0);
        let (axis, n, dtype) = (self.axis, shape[self.axis], cx.dtype(1));
        let outer: usize = shape[..axis].iter().product();
        let row = shape[axis + 1..].iter().product::<usize>() * cx.dtype(0).size();
        Lowering::kernel("take", 0, move |call| {
            let (x, ids) = (call.input_bytes(0), ids(call, 1, dtype));
            if let Some(at) = ids.iter().position(|&id| position(id, n).is_none()) {
                return call.fail(outside("take", ids[at], at, axis, n));
            }
            // Rows of a table lie far apart in memory: two threads wait for it half as long.
            let chunk = CHUNK.div_ceil(row.max(1)).max(1) * row;
            threads::run_chunks(&mut call.outputs()[0][..outer * ids.len() * row], chunk, |out, start| {
                for (i, out) in out.chunks_exact_mut(row).enumerate() {
                    let slot = start / row + i;
                    let id = position(ids[slot % ids.len()], n).expect("checked");
                    let from = (slot / ids.len() * n + id) * row;
                    out.copy_from_slice(&x[from..from + row]);
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let id = |v: &[i32], shape: &[usize]| Tensor::from_slice(shape, v);
        let mut problems = vec![];
        for dtype in [DType::F32, DType::F64, DType::U8] {
            let x = sample(dtype, &[4, 3], 1);
            let rows = Problem::close(
                format!("take rows {dtype}"),
                Gather { axis: 0 },
                vec![x.clone(), id(&[2, 0, -1, 2], &[2, 2])],
                0.0,
                |x| [2, 0, 3, 2].iter().flat_map(|r| x[0][r * 3..r * 3 + 3].to_vec()).collect(),
            );
            let columns = Problem::close(
                format!("take columns {dtype}"),
                Gather { axis: 1 },
                vec![x, id(&[1], &[1])],
                0.0,
                |x| (0..4).map(|r| x[0][r * 3 + 1]).collect(),
            );
            for p in [rows, columns] {
                problems.push(if dtype == DType::F32 { p.differentiate(&[0]) } else { p });
            }
        }
        problems
    }
}

/// The adjoint of [`Gather`]: operand 0 added up at the ids (operand 1) in the shape of operand 2, which is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatherGrad {
    /// The axis of the gather.
    pub axis: usize,
}

impl OpDef for GatherGrad {
    fn name(&self) -> &'static str {
        "take_grad"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[2].dims.clone() }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (ids, dy) = (cx.x(1), cx.dy()?);
        let d = cx.g.add(Gather { axis: self.axis }, &[dy, ids])?;
        cx.give(0, d);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let out = cx.out_shape(0);
        let (axis, n, dtype, id_type) = (self.axis, out[self.axis], cx.dtype(0), cx.dtype(1));
        let outer: usize = out[..axis].iter().product();
        let row: usize = out[axis + 1..].iter().product();
        Lowering::kernel("take_grad", 0, move |call| {
            let ids = ids(call, 1, id_type);
            if let Some(at) = ids.iter().position(|&id| position(id, n).is_none()) {
                return call.fail(outside("take_grad", ids[at], at, axis, n));
            }
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let y = call.output::<T>(0);
                y.fill(T::from_f64(0.0));
                for o in 0..outer {
                    for (k, &id) in ids.iter().enumerate() {
                        let from = (o * ids.len() + k) * row;
                        let to = (o * n + position(id, n).expect("checked")) * row;
                        add_row::<T>(&mut y[to..to + row], &x[from..from + row]);
                    }
                }
            });
        })
    }

    fn reads(&self, i: usize) -> bool {
        i < 2
    }

    fn problems() -> Vec<Problem> {
        let ids = Tensor::from_slice(&[3], &[1i32, 1, 0]);
        let inputs = vec![sample(DType::F32, &[3, 2], 1), ids, sample(DType::F32, &[3, 2], 2)];
        let problem = Problem::close("take_grad", GatherGrad { axis: 0 }, inputs, 1e-6, |x| {
            vec![x[0][4], x[0][5], x[0][0] + x[0][2], x[0][1] + x[0][3], 0.0, 0.0]
        });
        vec![problem.differentiate(&[0])]
    }
}

fn add_row<T: Element>(y: &mut [T], x: &[T]) {
    if T::DTYPE.is_float() {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = T::from_f64(y.to_f64() + x.to_f64()));
    } else {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = T::from_i64(y.to_i64().wrapping_add(x.to_i64())));
    }
}

// --- GatherAlong

/// `numpy.take_along_axis`: one id for every element of the result; both operands have the same axes but for
/// the length of `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatherAlong {
    /// The axis that the ids run along.
    pub axis: usize,
}

/// Visits every id with its offset in the operand of shape `shape`; `None` where it is outside.
fn along(
    shape: &[usize],
    out: &[usize],
    axis: usize,
    ids: &[i64],
    mut visit: impl FnMut(usize, Option<usize>),
) {
    let mut own = strides(shape);
    let step = std::mem::take(&mut own[axis]);
    walk2(out, &own, &own, |i, base, _| visit(i, position(ids[i], shape[axis]).map(|p| base + p * step)));
}

impl OpDef for GatherAlong {
    fn name(&self) -> &'static str {
        "take_along_axis"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        need_ints("take_along_axis", x[1])?;
        axis_index("take_along_axis", self.axis as i64, x[0].rank())?;
        let fits = x[0].rank() == x[1].rank()
            && (0..x[0].rank()).all(|i| {
                i == self.axis
                    || x[0].dims[i].is_none()
                    || x[1].dims[i].is_none()
                    || x[0].dims[i] == x[1].dims[i]
            });
        if !fits {
            let message = "the indices must have the operand's shape, the axis aside";
            return Err(ShapeError::new("take_along_axis", message).got(&x[0].dims).got(&x[1].dims));
        }
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[1].dims.clone() }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, ids, dy) = (cx.x(0), cx.x(1), cx.dy()?);
        let dx = cx.g.add(GatherAlongGrad { axis: self.axis }, &[dy, ids, x])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, out, axis) = (cx.shape(0), cx.out_shape(0), self.axis);
        let (size, id_type) = (cx.dtype(0).size(), cx.dtype(1));
        Lowering::kernel("take_along_axis", 0, move |call| {
            let (x, ids) = (call.input_bytes(0), ids(call, 1, id_type));
            let n = shape[axis];
            if let Some(at) = ids.iter().position(|&id| position(id, n).is_none()) {
                return call.fail(outside("take_along_axis", ids[at], at, axis, n));
            }
            let y = &mut *call.outputs()[0];
            along(&shape, &out, axis, &ids, |i, from| {
                let from = from.expect("checked") * size;
                y[i * size..(i + 1) * size].copy_from_slice(&x[from..from + size]);
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for dtype in [DType::F32, DType::I32] {
            let ids = Tensor::from_slice(&[2, 2], &[2i32, 0, -1, 1]);
            let inputs = vec![sample(dtype, &[2, 3], 1), ids];
            let problem =
                Problem::close(format!("take_along {dtype}"), GatherAlong { axis: 1 }, inputs, 0.0, |x| {
                    vec![x[0][2], x[0][0], x[0][5], x[0][4]]
                });
            problems.push(if dtype == DType::F32 { problem.differentiate(&[0]) } else { problem });
        }
        problems
    }
}

/// The adjoint of [`GatherAlong`]: operand 0 added up at the ids (operand 1) in the shape of operand 2, which is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatherAlongGrad {
    /// The axis of the gather.
    pub axis: usize,
}

impl OpDef for GatherAlongGrad {
    fn name(&self) -> &'static str {
        "take_along_axis_grad"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[2].dims.clone() }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (ids, dy) = (cx.x(1), cx.dy()?);
        let d = cx.g.add(GatherAlong { axis: self.axis }, &[dy, ids])?;
        cx.give(0, d);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (from, out, axis) = (cx.shape(0), cx.out_shape(0), self.axis);
        let (dtype, id_type) = (cx.dtype(0), cx.dtype(1));
        Lowering::kernel("take_along_axis_grad", 0, move |call| {
            let ids = ids(call, 1, id_type);
            with_dtype!(dtype, T => {
                let x = call.input::<T>(0);
                let y = call.output::<T>(0);
                y.fill(T::from_f64(0.0));
                along(&out, &from, axis, &ids, |i, to| {
                    if let Some(to) = to {
                        y[to] = T::from_f64(y[to].to_f64() + x[i].to_f64());
                    }
                });
            });
        })
    }

    fn reads(&self, i: usize) -> bool {
        i < 2
    }

    fn problems() -> Vec<Problem> {
        let ids = Tensor::from_slice(&[3], &[1i32, 1, 0]);
        let inputs = vec![sample(DType::F32, &[3], 1), ids, sample(DType::F32, &[4], 2)];
        let problem = Problem::close("take_along_grad", GatherAlongGrad { axis: 0 }, inputs, 1e-6, |x| {
            vec![x[0][2], x[0][0] + x[0][1], 0.0, 0.0]
        });
        vec![problem.differentiate(&[0])]
    }
}

// --- ScatterAdd and GatherNd

/// Where each row of ids points in an operand of this shape: element offset of the slice it names.
fn row_offsets(op: &str, shape: &[usize], ids: &[i64], depth: usize) -> Result<Vec<usize>, String> {
    let own = strides(shape);
    let mut offsets = vec![];
    for (r, row) in ids.chunks(depth.max(1)).enumerate() {
        let mut at = 0;
        for (axis, &id) in row.iter().enumerate() {
            at += position(id, shape[axis]).ok_or_else(|| outside(op, id, r, axis, shape[axis]))? * own[axis];
        }
        offsets.push(at);
    }
    Ok(offsets)
}

/// `x[ids[..., 0], ids[..., 1], ...]`: the last axis of the ids names a slice of `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatherNd;

fn nd_dims(op: &str, x: &Type, ids: &Type) -> Result<Dims, ShapeError> {
    need_ints(op, ids)?;
    let depth = ids.dims.last().copied().flatten().filter(|d| *d <= x.rank());
    let Some(depth) = depth else {
        let message = "the last axis of the indices must be known and not longer than the operand has axes";
        return Err(ShapeError::new(op, message).got(&x.dims).got(&ids.dims));
    };
    Ok(ids.dims[..ids.rank() - 1].iter().chain(&x.dims[depth..]).copied().collect())
}

impl OpDef for GatherNd {
    fn name(&self) -> &'static str {
        "gather_nd"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: nd_dims("gather_nd", x[0], x[1])? }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, ids, dy) = (cx.x(0), cx.x(1), cx.dy()?);
        let zeros = cx.g.full_like(x, 0.0)?;
        let dx = cx.g.add(ScatterAdd, &[zeros, ids, dy])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, depth) = (cx.shape(0), *cx.shape(1).last().expect("an axis"));
        let (size, id_type) = (cx.dtype(0).size(), cx.dtype(1));
        let row = shape[depth..].iter().product::<usize>();
        Lowering::kernel("gather_nd", 0, move |call| {
            let x = call.input_bytes(0);
            match row_offsets("gather_nd", &shape, &ids(call, 1, id_type), depth) {
                Err(message) => call.fail(message),
                Ok(offsets) => {
                    let y = &mut *call.outputs()[0];
                    for (k, at) in offsets.into_iter().enumerate() {
                        let n = row * size;
                        y[k * n..(k + 1) * n].copy_from_slice(&x[at * size..at * size + n]);
                    }
                }
            }
        })
    }

    fn problems() -> Vec<Problem> {
        let ids = Tensor::from_slice(&[2, 1], &[2i32, 0]);
        let inputs = vec![sample(DType::F32, &[3, 2], 1), ids];
        let problem =
            Problem::close("gather_nd", GatherNd, inputs, 0.0, |x| vec![x[0][4], x[0][5], x[0][0], x[0][1]]);
        vec![problem.differentiate(&[0])]
    }
}

/// Operand 0 with operand 2 added at the places that the ids (operand 1) name; equal ids add up, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScatterAdd;

impl OpDef for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let dims = nd_dims("scatter_add", x[0], x[1])?;
        let fits = x[2].rank() == dims.len()
            && dims.iter().zip(&x[2].dims).all(|(a, b)| a.is_none() || b.is_none() || a == b);
        if !fits || x[0].dtype != x[2].dtype {
            let message = format!("updates must have shape {} and dtype {}", show(&dims), x[0].dtype);
            return Err(ShapeError::new("scatter_add", message).argument("updates").got(&x[2].dims));
        }
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (ids, dy) = (cx.x(1), cx.dy()?);
        cx.give(0, dy);
        if cx.wanted[2] {
            let d = cx.g.add(GatherNd, &[dy, ids])?;
            cx.give(2, d);
        }
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, depth) = (cx.shape(0), *cx.shape(1).last().expect("an axis"));
        let (dtype, id_type) = (cx.dtype(0), cx.dtype(1));
        let row = shape[depth..].iter().product::<usize>();
        Lowering::kernel("scatter_add", 0, move |call| {
            let offsets = match row_offsets("scatter_add", &shape, &ids(call, 1, id_type), depth) {
                Err(message) => return call.fail(message),
                Ok(offsets) => offsets,
            };
            with_dtype!(dtype, T => {
                let (x, updates) = (call.input::<T>(0), call.input::<T>(2));
                let y = call.output::<T>(0);
                y.copy_from_slice(x);
                for (k, at) in offsets.into_iter().enumerate() {
                    add_row::<T>(&mut y[at..at + row], &updates[k * row..(k + 1) * row]);
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let ids = Tensor::from_slice(&[3, 1], &[2i32, 0, 2]);
        let inputs = vec![sample(DType::F32, &[3, 2], 1), ids, sample(DType::F32, &[3, 2], 2)];
        let problem = Problem::close("scatter_add", ScatterAdd, inputs, 1e-6, |x| {
            let (a, u) = (&x[0], &x[2]);
            vec![a[0] + u[2], a[1] + u[3], a[2], a[3], a[4] + u[0] + u[4], a[5] + u[1] + u[5]]
        });
        vec![problem.differentiate(&[0, 2])]
    }
}

// --- OneHot

/// A new last axis with 1 at the id and 0 elsewhere; ids outside `[0, depth)` give zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OneHot {
    /// Length of the new axis.
    pub depth: usize,
    /// Type of the result.
    pub dtype: DType,
}

impl OpDef for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        need_ints("one_hot", x[0])?;
        Ok(smallvec![Type::new(self.dtype, x[0].dims.iter().copied().chain([Some(self.depth)]))])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    fn keeps_rows(&self, _: &[bool], _: &[&Type], _: &[Type]) -> bool {
        true
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (OneHot { depth, dtype }, id_type) = (*self, cx.dtype(0));
        Lowering::kernel("one_hot", 0, move |call| {
            let ids = ids(call, 0, id_type);
            with_dtype!(dtype, T => {
                let y = call.output::<T>(0);
                y.fill(T::from_f64(0.0));
                for (i, id) in ids.into_iter().enumerate().filter(|(_, id)| (0..depth as i64).contains(id)) {
                    y[i * depth + id as usize] = T::from_f64(1.0);
                }
            });
        })
    }

    fn problems() -> Vec<Problem> {
        [DType::F32, DType::I32, DType::Bool]
            .into_iter()
            .map(|dtype| {
                let ids = Tensor::from_slice(&[3], &[1i32, 5, 0]);
                Problem::close(format!("one_hot {dtype}"), OneHot { depth: 2, dtype }, vec![ids], 0.0, |_| {
                    vec![0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
                })
            })
            .collect()
    }
}

// --- DynamicSlice

/// A window of fixed size at a place that comes with the data (operand 1, one start an axis), moved inside
/// where it would leave the operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DynamicSlice(pub Shape);

/// Element offset of a window, its starts clamped.
fn window(shape: &[usize], sizes: &[usize], starts: &[i64]) -> usize {
    let own = strides(shape);
    let clamped = |i: usize| starts[i].clamp(0, (shape[i] - sizes[i]) as i64) as usize;
    (0..shape.len()).map(|i| clamped(i) * own[i]).sum()
}

impl OpDef for DynamicSlice {
    fn name(&self) -> &'static str {
        "dynamic_slice"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        need_ints("dynamic_slice", x[1])?;
        let fits = self.0.len() == x[0].rank()
            && x[0].dims.iter().zip(&self.0).all(|(d, s)| d.is_none_or(|d| *s <= d));
        if !fits {
            let message = format!("a window of {:?} does not fit", self.0.as_slice());
            return Err(ShapeError::new("dynamic_slice", message).got(&x[0].dims));
        }
        Ok(smallvec![Type::known(x[0].dtype, &self.0)])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, starts, dy) = (cx.x(0), cx.x(1), cx.dy()?);
        let zeros = cx.g.full_like(x, 0.0)?;
        let dx = cx.g.add(DynamicUpdateSlice, &[zeros, dy, starts])?;
        cx.give(0, dx);
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, sizes, id_type) = (cx.shape(0), self.0.clone(), cx.dtype(1));
        let (own, size) = (strides(&shape), cx.dtype(0).size());
        Lowering::kernel("dynamic_slice", 0, move |call| {
            let (x, at) = (call.input_bytes(0), window(&shape, &sizes, &ids(call, 1, id_type)));
            let y = &mut *call.outputs()[0];
            walk2(&sizes, &own, &own, |i, from, _| {
                let from = (at + from) * size;
                y[i * size..(i + 1) * size].copy_from_slice(&x[from..from + size]);
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let inputs = vec![sample(DType::F32, &[3, 4], 1), Tensor::from_slice(&[2], &[1i32, 9])];
        let problem = Problem::close("dynamic_slice", DynamicSlice(smallvec![2, 2]), inputs, 0.0, |x| {
            vec![x[0][6], x[0][7], x[0][10], x[0][11]]
        });
        vec![problem.differentiate(&[0])]
    }
}

/// Operand 0 with operand 1 written at the place that operand 2 names, moved inside as by [`DynamicSlice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DynamicUpdateSlice;

impl OpDef for DynamicUpdateSlice {
    fn name(&self) -> &'static str {
        "slice_update"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        need_ints("slice_update", x[2])?;
        let fits = x[0].rank() == x[1].rank()
            && x[0].dtype == x[1].dtype
            && x[0].dims.iter().zip(&x[1].dims).all(|(d, s)| d.is_none() || s.is_none() || s <= d);
        if !fits {
            let message = "the update must have the operand's axes and dtype, and be no larger";
            return Err(ShapeError::new("slice_update", message).got(&x[0].dims).got(&x[1].dims));
        }
        Ok(smallvec![x[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (update, starts, dy) = (cx.x(1), cx.x(2), cx.dy()?);
        if cx.wanted[0] {
            let hole = cx.g.full_like(update, 0.0)?;
            let dx = cx.g.add(DynamicUpdateSlice, &[dy, hole, starts])?;
            cx.give(0, dx);
        }
        if cx.wanted[1] {
            let Some(sizes) = cx.g.ty(update).shape() else {
                return Err(ShapeError::new(
                    "slice_update",
                    "the update's shape must be known for its gradient",
                ));
            };
            let d = cx.g.add(DynamicSlice(sizes), &[dy, starts])?;
            cx.give(1, d);
        }
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (shape, sizes, id_type) = (cx.shape(0), cx.shape(1), cx.dtype(2));
        let (own, size) = (strides(&shape), cx.dtype(0).size());
        Lowering::kernel("slice_update", 0, move |call| {
            let at = window(&shape, &sizes, &ids(call, 2, id_type));
            let (x, update) = (call.input_bytes(0), call.input_bytes(1));
            let y = &mut *call.outputs()[0];
            y.copy_from_slice(x);
            walk2(&sizes, &own, &own, |i, to, _| {
                let to = (at + to) * size;
                y[to..to + size].copy_from_slice(&update[i * size..(i + 1) * size]);
            });
        })
    }

    fn problems() -> Vec<Problem> {
        let inputs =
            vec![sample(DType::F32, &[4], 1), sample(DType::F32, &[2], 2), Tensor::from_slice(&[1], &[1i32])];
        let problem = Problem::close("slice_update", DynamicUpdateSlice, inputs, 0.0, |x| {
            vec![x[0][0], x[1][0], x[1][1], x[0][3]]
        });
        vec![problem.differentiate(&[0, 1])]
    }
}
