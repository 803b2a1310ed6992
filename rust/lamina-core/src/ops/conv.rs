//! Convolution and its two gradients: three faces of one bilinear map.
//!
//! `Y = conv(X, K)` sums products `X[i] K[j]` into `Y[o]` over a fixed set of triples `(i, j, o)`. Its gradients
//! sum over the same triples with the roles exchanged, so each of the three ops has the other two as gradients,
//! and the transposed convolution is the gradient with respect to X under its own name. Images are
//! (batch, height, width, channels), kernels (height, width, channels / groups, filters).

use super::matmul::Epilogue;
use super::window::{Padding, Slide};
use super::*;
use lamina_kernels::conv::{self as kernels, Algorithm, Conv2d};
use lamina_kernels::depthwise;
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};

/// Which input channels a filter sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mixing {
    /// Those of its group, of so many; the kernel is (height, width, channels / groups, filters).
    Groups(usize),
    /// One: the kernel is (height, width, channels, multiplier), and filter `m` of channel `c` makes output
    /// channel `c * multiplier + m`.
    Depthwise,
}

/// Cross-correlation, as everywhere in deep learning:
/// `Y[n, y, x, f] = sum over k of X[n, y * stride + ky * dilation - pad, .., c] * K[ky, kx, c, f]`.
/// Operands: X, K, then those of the epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// How the window moves.
    pub slide: Slide,
    /// Which channels a filter sees.
    pub mixing: Mixing,
    /// What follows each sum.
    pub epilogue: Epilogue,
    /// Rows and columns at the end of Y that nobody reads: Y is without them.
    pub trim: [usize; 2],
}

impl Conv {
    /// A convolution in `groups` groups.
    pub fn new(strides: [usize; 2], padding: Padding, dilation: [usize; 2], groups: usize) -> Conv {
        let slide = Slide { strides, padding, dilation };
        Conv { slide, mixing: Mixing::Groups(groups), epilogue: Epilogue::default(), trim: [0, 0] }
    }

    /// A convolution of each channel with kernels of its own.
    pub fn depthwise(strides: [usize; 2], padding: Padding, dilation: [usize; 2]) -> Conv {
        Conv { mixing: Mixing::Depthwise, ..Conv::new(strides, padding, dilation, 1) }
    }

    /// This convolution without what a pooling of its result leaves out at the end: windows inside of 11 pixels, two wide
    /// and two apart, cover 10.
    pub fn trimmed(self, pool: &Slide, window: [usize; 2], y: &Type) -> Option<Conv> {
        if pool.padding != Padding::Valid || self.epilogue.residual {
            return None;
        }
        let mut trim = self.trim;
        for axis in 0..2 {
            let outputs = y.dims[1 + axis]?;
            let slack = outputs.checked_sub(pool.extent(axis, window[axis]))?;
            trim[axis] += slack % pool.strides[axis];
        }
        (trim != self.trim).then_some(Conv { trim, ..self })
    }

    /// Input and output channels of a kernel.
    fn channels(&self, kernel: &Type) -> (Dim, Dim) {
        let (a, b) = (kernel.dims[2], kernel.dims[3]);
        match self.mixing {
            Mixing::Groups(groups) => (a.map(|a| a * groups), b),
            Mixing::Depthwise => (a, a.zip(b).map(|(a, b)| a * b)),
        }
    }

    fn check_kernel(&self, name: &str, kernel: &Type, data: &Type) -> Result<(), ShapeError> {
        let fail = |message: String| {
            ShapeError::new(name, message).argument("kernel").got(&data.dims).got(&kernel.dims)
        };
        if kernel.rank() != 4 {
            let layout = match self.mixing {
                Mixing::Groups(_) => "(height, width, channels / groups, filters)",
                Mixing::Depthwise => "(height, width, channels, multiplier)",
            };
            return Err(fail(format!("expected ndim=4, found ndim={}", kernel.rank())).expected(layout));
        }
        if data.dtype != kernel.dtype || data.dtype == DType::Bool {
            let message = format!("operands have dtypes {} and {}", data.dtype, kernel.dtype);
            return Err(fail(message).expected("one numeric dtype"));
        }
        let Mixing::Groups(groups) = self.mixing else { return Ok(()) };
        if groups == 0 || kernel.dims[3].is_some_and(|filters| filters % groups != 0) {
            let filters = kernel.dims[3].map_or("None".into(), |n| n.to_string());
            return Err(fail(format!("{filters} filters do not divide into {groups} groups"))
                .argument("groups")
                .expected("a number of filters that is a multiple of `groups`"));
        }
        Ok(())
    }

    /// The shape of Y.
    fn output(&self, name: &str, x: &Type, kernel: &Type) -> Result<Dims, ShapeError> {
        self.slide.check(name, x)?;
        self.check_kernel(name, kernel, x)?;
        let (inputs, outputs) = self.channels(kernel);
        if let (Some(has), Some(wants)) = (x.dims[3], inputs)
            && has != wants
        {
            let message = format!("the kernel takes {wants} input channels, the input has {has}");
            let error = ShapeError::new(name, message).argument("inputs").got(&x.dims).got(&kernel.dims);
            let error = error.expected(format!("(batch, height, width, {wants})"));
            let fix = "this looks like (batch, channels, height, width): pass data_format=\"channels_first\"";
            return Err(if x.dims[1] == Some(wants) { error.fix(fix) } else { error });
        }
        let spatial = |axis: usize| {
            self.slide
                .output(name, axis, x.dims[1 + axis], kernel.dims[axis])
                .map(|n| n.map(|n| n.saturating_sub(self.trim[axis])))
                .map_err(|e| e.got(&x.dims).got(&kernel.dims))
        };
        Ok(smallvec![x.dims[0], spatial(0)?, spatial(1)?, outputs])
    }

    /// Refuses a Y (or its gradient) of another shape than [`Conv::output`].
    fn check_output(&self, name: &str, x: &Type, kernel: &Type, y: &Type) -> Result<(), ShapeError> {
        let wants = self.output(name, x, kernel)?;
        let fits =
            y.rank() == 4 && wants.iter().zip(&y.dims).all(|(a, b)| a.is_none() || b.is_none() || a == b);
        if fits && y.dtype == x.dtype {
            return Ok(());
        }
        let error = ShapeError::new(name, "the output gradient does not fit").argument("dy").got(&y.dims);
        Err(error.expected(format!("{} of shape {}", x.dtype, show(&wants))))
    }

    /// The kernels' view of it, from the shapes of X, K and Y.
    fn geometry(&self, x: &[usize], kernel: &[usize], y: &[usize]) -> Conv2d {
        let before = |axis: usize| self.slide.before(axis, x[1 + axis], kernel[axis]);
        Conv2d {
            n: x[0],
            h: x[1],
            w: x[2],
            c: x[3],
            kh: kernel[0],
            kw: kernel[1],
            oh: y[1],
            ow: y[2],
            co: y[3],
            stride: self.slide.strides.into(),
            dilation: self.slide.dilation.into(),
            pad: (before(0), before(1)),
            groups: match self.mixing {
                Mixing::Groups(groups) => groups,
                Mixing::Depthwise => x[3].max(1),
            },
        }
    }
}

/// Whether the kernels for one channel a group apply. With a single channel there is nothing to vectorise over.
fn is_depthwise(g: &Conv2d) -> bool {
    g.groups == g.c && g.c > 1
}

fn flops(g: &Conv2d) -> u64 {
    2 * (g.y_len() * g.kh * g.kw * (g.c / g.groups)) as u64
}

/// A result goes where its residual was, which nobody else reads: each number is read before it is written.
fn onto_residual(
    epilogue: &Epilogue,
    first: usize,
    inputs: &[&Type],
    outputs: &[Type],
) -> SmallVec<[(usize, usize); 2]> {
    let residual = epilogue.residual_operand(first);
    residual
        .filter(|&i| *inputs[i] == outputs[0] && !outputs[0].is_empty())
        .map(|i| (i, 0))
        .into_iter()
        .collect()
}

/// Says which packed form of a kernel this is: the geometry, but not the batch size.
fn pack_key(role: impl Hash, g: &Conv2d) -> u64 {
    let mut hasher = FxHasher::default();
    (role, Conv2d { n: 0, ..*g }).hash(&mut hasher);
    hasher.finish()
}

/// What an op of this file computes from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Output,
    Input,
    Kernel,
}

impl OpDef for Conv {
    fn name(&self) -> &'static str {
        match self.mixing {
            Mixing::Groups(_) => "conv",
            Mixing::Depthwise => "depthwise_conv",
        }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        Ok(smallvec![Type { dtype: x[0].dtype, dims: self.output(self.name(), x[0], x[1])? }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        debug_assert!(self.epilogue.is_none(), "epilogues are fused after differentiation");
        let (x, kernel, dy) = (cx.x(0), cx.x(1), cx.dy()?);
        if cx.wanted[0] {
            let dx = cx.g.add(ConvGradInput { conv: *self, transposed: None }, &[dy, kernel, x])?;
            cx.give(0, dx);
        }
        if cx.wanted[1] {
            let dk = cx.g.add(ConvGradKernel { conv: *self }, &[x, dy, kernel])?;
            cx.give(1, dk);
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
        rows[0] && !rows[1] && broadcast_keeps_rows(&rows[2..], &inputs[2..], outputs)
    }

    fn in_place(&self, inputs: &[&Type], outputs: &[Type]) -> SmallVec<[(usize, usize); 2]> {
        if self.mixing == Mixing::Groups(1) {
            onto_residual(&self.epilogue, 2, inputs, outputs)
        } else {
            smallvec![]
        }
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let g = self.geometry(&cx.shape(0), &cx.shape(1), &cx.out_shape(0));
        let (isa, epilogue, onto) = (cx.isa, self.epilogue, !cx.shared.is_empty());
        if cx.dtype(0) != DType::F32 {
            return generic(self.name(), cx.dtype(0), g, Role::Output);
        }
        if is_depthwise(&g) {
            let plan = depthwise::DepthwiseForward::new(isa, &g);
            return Lowering::kernel("depthwise_conv", flops(&g), move |call| {
                let (x, kernel, fused) = (call.input(0), call.input(1), epilogue.kernel(call, 2));
                plan.run(x, kernel, call.output(0), &fused);
            });
        }
        let algorithm = Algorithm::fastest(isa, &g, !cx.is_static[1]);
        let plan = kernels::ConvForward::with_algorithm(isa, &g, algorithm);
        let (packer, bytes) = (plan.clone(), plan.packed_len() * 4);
        Lowering::kernel(self.name(), flops(&g), move |call| {
            let (x, kernel, fused) = (call.input(0), call.input(1), epilogue.kernel_onto(call, 2, onto));
            plan.run(x, kernel, call.output(0), &fused);
        })
        .pack(1, bytes, pack_key((Role::Output, algorithm, packer.layout()), &g), move |call| {
            packer.pack(call.input(0), call.output(0))
        })
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for case in cases() {
            for dtype in [DType::F32, DType::F64] {
                let problem = case.problem(dtype, Epilogue::default());
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0, 1]) } else { problem });
            }
        }
        for case in [&cases()[1], &cases()[8]] {
            problems.extend(
                [DType::F16, DType::BF16, DType::I32].map(|dtype| case.problem(dtype, Epilogue::default())),
            );
        }
        for epilogue in Epilogue::samples() {
            for case in cases().iter().filter(|case| case.fuses) {
                problems.push(case.problem(DType::F32, epilogue));
            }
        }
        problems
    }
}

// --- ConvGradInput

/// The gradient of [`Conv`] with respect to X, which is also the transposed convolution (Zeiler et al. 2010;
/// the arithmetic: Dumoulin & Visin 2016). Operands: the gradient of Y, K, and without `transposed` a value of X's
/// shape, whose elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGradInput {
    /// The convolution.
    pub conv: Conv,
    /// X's height and width follow from Y's: `(out - 1) * stride + dilation * (k - 1) + 1 - padding + extra`, with this
    /// `extra < stride`; the padding is `Valid` or `Explicit`.
    pub transposed: Option<[usize; 2]>,
}

impl ConvGradInput {
    /// Keras's transposed convolution with a kernel (height, width, filters, channels): output
    /// `in * stride + max(k - stride, 0)` for `same == false`, `in * stride` for `same`, unless `output_padding` says
    /// how much more than `(in - 1) * stride + k` (valid) or `+ k % 2` (same) it is.
    pub fn transposed(
        kernel: &Type,
        strides: [usize; 2],
        same: bool,
        output_padding: [Option<usize>; 2],
        dilation: [usize; 2],
    ) -> Result<ConvGradInput, ShapeError> {
        let name = "conv_transpose";
        let mut conv = Conv::new(strides, Padding::Valid, dilation, 1);
        let (mut around, mut extra) = ([(0, 0); 2], [0; 2]);
        for axis in 0..2 {
            let Some(window) = kernel.dims.get(axis).copied().flatten() else {
                let error = ShapeError::new(name, "the kernel's window must be known").argument("kernel");
                return Err(error.got(&kernel.dims));
            };
            let (k, stride) = (conv.slide.extent(axis, window), strides[axis]);
            // How far the result reaches over what one input pixel spreads to, on both sides together.
            let total = match (same, output_padding[axis]) {
                (false, None) => 2 * (k - 1) + stride.saturating_sub(k),
                (false, Some(more)) => 2 * (k - 1) + more,
                (true, None) => (stride + k).saturating_sub(2),
                (true, Some(more)) => (k + k % 2 + more).saturating_sub(2),
            };
            let left = if same { total.div_ceil(2).min(k - 1) } else { k - 1 };
            let right = total - left;
            around[axis] = (k - 1 - left, (k - 1).saturating_sub(right));
            extra[axis] = right.saturating_sub(k - 1);
            if extra[axis] >= stride.max(1) {
                let message = "`output_padding` must be strictly less than `strides`";
                return Err(ShapeError::new(name, message).argument("output_padding"));
            }
        }
        conv.slide.padding = Padding::Explicit(around);
        Ok(ConvGradInput { conv, transposed: Some(extra) })
    }
}

impl OpDef for ConvGradInput {
    fn name(&self) -> &'static str {
        if self.transposed.is_some() { "conv_transpose" } else { "conv_grad_input" }
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let (name, dy, kernel) = (self.name(), x[0], x[1]);
        let Some(extra) = self.transposed else {
            self.conv.check_output(name, x[2], kernel, dy)?;
            return Ok(smallvec![Type { dtype: dy.dtype, dims: x[2].dims.clone() }]);
        };
        let slide = self.conv.slide;
        slide.check(name, dy)?;
        self.conv.check_kernel(name, kernel, dy)?;
        let (channels, filters) = self.conv.channels(kernel);
        if let (Some(has), Some(wants)) = (dy.dims[3], filters)
            && has != wants
        {
            let message = format!("the kernel takes {wants} input channels, the input has {has}");
            let error = ShapeError::new(name, message).argument("inputs").got(&dy.dims).got(&kernel.dims);
            return Err(error.expected(format!("(batch, height, width, {wants})")));
        }
        let around = match slide.padding {
            Padding::Valid => [(0, 0); 2],
            Padding::Explicit(around) => around,
            Padding::Same => return Err(ShapeError::new(name, "needs explicit padding").argument("padding")),
        };
        let spatial = |axis: usize| {
            let (Some(n), Some(k)) = (dy.dims[1 + axis], kernel.dims[axis]) else { return Ok(None) };
            let (before, after) = around[axis];
            let reach = (n * slide.strides[axis] + slide.extent(axis, k) + extra[axis]) as isize;
            let length = reach - (slide.strides[axis] + before + after) as isize;
            if length > 0 && n > 0 {
                return Ok(Some(length as usize));
            }
            let message = format!("Computed output size would be zero or negative: {length}");
            Err(ShapeError::new(name, message).argument("inputs").got(&dy.dims).got(&kernel.dims))
        };
        Ok(smallvec![Type {
            dtype: dy.dtype,
            dims: smallvec![dy.dims[0], spatial(0)?, spatial(1)?, channels]
        }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (dy, kernel, t) = (cx.x(0), cx.x(1), cx.dy()?);
        if cx.wanted[0] {
            let d = cx.g.add(self.conv, &[t, kernel])?;
            cx.give(0, d);
        }
        if cx.wanted[1] {
            let d = cx.g.add(ConvGradKernel { conv: self.conv }, &[t, dy, kernel])?;
            cx.give(1, d);
        }
        Ok(())
    }

    fn keeps_rows(&self, rows: &[bool], _: &[&Type], _: &[Type]) -> bool {
        rows[0] && !rows[1] && rows.get(2).is_none_or(|like| *like)
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let g = self.conv.geometry(&cx.out_shape(0), &cx.shape(1), &cx.shape(0));
        if cx.dtype(0) != DType::F32 {
            return generic(self.name(), cx.dtype(0), g, Role::Input);
        }
        if is_depthwise(&g) {
            let plan = depthwise::DepthwiseGradInput::new(cx.isa, &g);
            return Lowering::kernel("depthwise_conv_grad_input", flops(&g), move |call| {
                plan.run(call.input(0), call.input(1), call.output(0));
            });
        }
        let algorithm = Algorithm::fastest_grad_input(cx.isa, &g, !cx.is_static[1]);
        let plan = kernels::ConvGradInput::with_algorithm(cx.isa, &g, algorithm);
        let (packer, bytes) = (plan.clone(), plan.packed_len() * 4);
        Lowering::kernel(self.name(), flops(&g), move |call| {
            plan.run(call.input(0), call.input(1), call.output(0))
        })
        .pack(1, bytes, pack_key((Role::Input, algorithm, packer.layout()), &g), move |call| {
            packer.pack(call.input(0), call.output(0))
        })
    }

    fn reads(&self, i: usize) -> bool {
        i != 2
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for case in cases() {
            for dtype in [DType::F32, DType::F64] {
                let op = ConvGradInput { conv: case.conv, transposed: None };
                let inputs = vec![case.y(dtype, 3), case.kernel(dtype, 2), case.x(dtype, 1)];
                let g = case.geometry();
                let problem =
                    Problem::close(case.label(&op, dtype), op, inputs, tolerance(dtype), move |v| {
                        adjoint(&v[0], g.x_len(), |x| reference(&g, x, &v[1]))
                    });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0, 1]) } else { problem });
            }
        }
        problems.extend(transposed_problems());
        problems
    }
}

// --- ConvGradKernel

/// The gradient of [`Conv`] with respect to K. Operands: X, the gradient of Y, and a value of K's shape, whose
/// elements are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGradKernel {
    /// The convolution.
    pub conv: Conv,
}

impl OpDef for ConvGradKernel {
    fn name(&self) -> &'static str {
        "conv_grad_kernel"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        self.conv.check_output(self.name(), x[0], x[2], x[1])?;
        Ok(smallvec![Type { dtype: x[0].dtype, dims: x[2].dims.clone() }])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
        let (x, dy, t) = (cx.x(0), cx.x(1), cx.dy()?);
        if cx.wanted[0] {
            let d = cx.g.add(ConvGradInput { conv: self.conv, transposed: None }, &[dy, t, x])?;
            cx.give(0, d);
        }
        if cx.wanted[1] {
            let d = cx.g.add(self.conv, &[x, t])?;
            cx.give(1, d);
        }
        Ok(())
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let g = self.conv.geometry(&cx.shape(0), &cx.out_shape(0), &cx.shape(1));
        if cx.dtype(0) != DType::F32 {
            return generic(self.name(), cx.dtype(0), g, Role::Kernel);
        }
        if is_depthwise(&g) {
            let plan = depthwise::DepthwiseGradFilter::new(cx.isa, &g);
            return Lowering::kernel("depthwise_conv_grad_kernel", flops(&g), move |call| {
                plan.run(call.input(0), call.input(1), call.output(0));
            });
        }
        let plan = kernels::ConvGradFilter::new(cx.isa, &g);
        Lowering::kernel(self.name(), flops(&g), move |call| {
            plan.run(call.input(0), call.input(1), call.output(0))
        })
    }

    fn reads(&self, i: usize) -> bool {
        i != 2
    }

    fn problems() -> Vec<Problem> {
        let mut problems = vec![];
        for case in cases() {
            for dtype in [DType::F32, DType::F64] {
                let op = ConvGradKernel { conv: case.conv };
                let inputs = vec![case.x(dtype, 1), case.y(dtype, 3), case.kernel(dtype, 2)];
                let g = case.geometry();
                let problem =
                    Problem::close(case.label(&op, dtype), op, inputs, tolerance(dtype), move |v| {
                        adjoint(&v[1], g.filter_len(), |kernel| reference(&g, &v[0], kernel))
                    });
                problems.push(if dtype == DType::F32 { problem.differentiate(&[0, 1]) } else { problem });
            }
        }
        problems
    }
}

mod gated;
mod generic;
mod joined;
mod pooled;
mod problems;
pub use gated::GatedConv;
use generic::generic;
pub use joined::JoinedConv;
pub use pooled::PooledConv;
use problems::{adjoint, cases, reference, tolerance, transposed_problems};
