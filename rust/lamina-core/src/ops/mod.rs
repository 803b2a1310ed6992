//! The op table.
//!
//! One entry is one struct that implements [`OpDef`]; its shape rule, gradient, lowering and test
//! problems stand together in its file. [`Op`] closes the table, so a plan-cache key is a hash of
//! plain data and a completeness test can walk over every entry.

use crate::dtype::{DType, Element};
use crate::error::{Error, Result, ShapeError};
use crate::graph::{Graph, Types, Value};
use crate::shape::{Dim, Dims, Shape, Type, axis_index, broadcast_or, show};
use crate::tensor::Tensor;
use crate::with_dtype;
use lamina_kernels::Isa;
use smallvec::{SmallVec, smallvec};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

pub mod activation;
pub mod chain;
mod compose;
#[cfg(test)]
mod conformance;
pub mod conv;
pub mod elementwise;
pub mod fused;
pub mod gather;
pub mod index;
pub mod matmul;
pub mod movement;
pub mod norm;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod select;
pub mod softmax;
pub mod sort;
pub mod source;
mod wide;
pub mod window;

/// A float attribute that can be hashed: equal where the bits are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Real(u64);

impl Real {
    /// Wraps a number.
    pub fn new(x: f64) -> Real {
        Real(x.to_bits())
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl Debug for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// Everything there is to know about one operation.
pub trait OpDef: Clone + Debug + PartialEq + Eq + Hash {
    /// Keras's or numpy's name for it.
    fn name(&self) -> &'static str;

    /// The shape rule: types of the operands to types of the results.
    fn infer(&self, inputs: &[&Type]) -> Result<Types, ShapeError>;

    /// A simpler value that equals this op on these operands, if there is one.
    fn simplify(&self, _graph: &mut Graph, _inputs: &[Value]) -> Option<Value> {
        None
    }

    /// The gradient: reads the cotangents of the outputs, gives those of the inputs.
    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError>;

    /// The kernel at concrete shapes.
    fn lower(&self, cx: &Lower<'_>) -> Lowering;

    /// Whether the elements of operand `i` are read, or only its shape.
    fn reads(&self, _i: usize) -> bool {
        true
    }

    /// Whether row i (along the first axis) of every result depends on row i alone of the operands marked in `rows`,
    /// and on what is the same for all rows of the others. Then a batch can be run in pieces.
    fn keeps_rows(&self, _rows: &[bool], _inputs: &[&Type], _outputs: &[Type]) -> bool {
        false
    }

    /// Pairs (operand, output) that may share memory: the kernel then finds the operand's elements in the output.
    fn in_place(&self, _inputs: &[&Type], _outputs: &[Type]) -> SmallVec<[(usize, usize); 2]> {
        smallvec![]
    }

    /// Test problems, each with a naive reference.
    fn problems() -> Vec<Problem>
    where
        Self: Sized;
}

macro_rules! op_table {
    (
        inline { $($(#[$doc:meta])* $name:ident ( $path:path )),* $(,)? }
        shared { $($(#[$shared_doc:meta])* $shared:ident ( $shared_path:path )),* $(,)? }
    ) => {
        op_table! { @table
            $($(#[$doc])* $name($path): $path,)*
            $($(#[$shared_doc])* $shared(Arc<$shared_path>): $shared_path,)*
        }

        $(impl From<$path> for Op { fn from(op: $path) -> Op { Op::$name(op) } })*
        $(impl From<$shared_path> for Op { fn from(op: $shared_path) -> Op { Op::$shared(Arc::new(op)) } })*
    };
    // Each entry, what it holds, and its op.
    (@table $($(#[$doc:meta])* $name:ident ( $held:ty ): $op:ty,)*) => {
        /// The closed table of operations. Each rewrite of a graph copies its ops: larger ones are shared.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op { $($(#[$doc])* $name($held)),* }

        impl OpDef for Op {
            fn name(&self) -> &'static str { match self { $(Op::$name(op) => op.name()),* } }
            fn infer(&self, inputs: &[&Type]) -> Result<Types, ShapeError> {
                match self { $(Op::$name(op) => op.infer(inputs)),* }
            }
            fn simplify(&self, graph: &mut Graph, inputs: &[Value]) -> Option<Value> {
                match self { $(Op::$name(op) => op.simplify(graph, inputs)),* }
            }
            fn vjp(&self, cx: &mut Vjp<'_>) -> Result<(), ShapeError> {
                match self { $(Op::$name(op) => op.vjp(cx)),* }
            }
            fn lower(&self, cx: &Lower<'_>) -> Lowering { match self { $(Op::$name(op) => op.lower(cx)),* } }
            fn reads(&self, i: usize) -> bool { match self { $(Op::$name(op) => op.reads(i)),* } }
            fn keeps_rows(&self, rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
                match self { $(Op::$name(op) => op.keeps_rows(rows, inputs, outputs)),* }
            }
            fn in_place(&self, inputs: &[&Type], outputs: &[Type]) -> SmallVec<[(usize, usize); 2]> {
                match self { $(Op::$name(op) => op.in_place(inputs, outputs)),* }
            }
            fn problems() -> Vec<Problem> {
                Op::table().into_iter().flat_map(|(_, problems)| problems).collect()
            }
        }

        impl Op {
            /// The entries of the table.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Every entry's name in the table, with its problems.
            pub fn table() -> Vec<(&'static str, Vec<Problem>)> {
                vec![$((stringify!($name), <$op as OpDef>::problems())),*]
            }
        }
    };
}

op_table! {
    inline {
        /// Inputs, variables, constants.
        Source(source::Source),
        /// Elementwise functions of one operand.
        Unary(elementwise::Unary),
        /// Elementwise functions of two operands, broadcasting.
        Binary(elementwise::Binary),
        /// `where`.
        Select(select::Select),
        /// Conversion of the element type.
        Cast(select::Cast),
        /// Activations with a parameter or a fused form.
        Activation(activation::Activation),
        /// Sums, means, extremes over axes.
        Reduce(reduce::Reduce),
        /// The length of axes, as a number.
        AxisSize(reduce::AxisSize),
        /// Positions of extremes.
        ArgReduce(reduce::ArgReduce),
        /// The same elements in the shape of another value.
        ReshapeLike(movement::ReshapeLike),
        /// Axes in another order.
        Transpose(movement::Transpose),
        /// Repetition to the shape of another value.
        BroadcastLike(movement::BroadcastLike),
        /// Summation down to the shape of another value.
        SumLike(movement::SumLike),
        /// A value as a constant of the gradient.
        StopGradient(movement::StopGradient),
        /// Joining along an axis.
        Concat(index::Concat),
        /// One operand's part of a joined gradient.
        ConcatGrad(index::ConcatGrad),
        /// Slices by id.
        Gather(gather::Gather),
        /// The adjoint of a gather.
        GatherGrad(gather::GatherGrad),
        /// Elements by id.
        GatherAlong(gather::GatherAlong),
        /// The adjoint of an elementwise gather.
        GatherAlongGrad(gather::GatherAlongGrad),
        /// Slices by several ids.
        GatherNd(gather::GatherNd),
        /// Sums at ids.
        ScatterAdd(gather::ScatterAdd),
        /// Ids as unit vectors.
        OneHot(gather::OneHot),
        /// A window at a place that comes with the data.
        DynamicSlice(gather::DynamicSlice),
        /// Writing a window.
        DynamicUpdateSlice(gather::DynamicUpdateSlice),
        /// Order along an axis.
        Sort(sort::Sort),
        /// Running values.
        Cumulative(sort::Cumulative),
        /// Matrix products.
        MatMul(matmul::MatMul),
        /// Softmax and its logarithm.
        Softmax(softmax::Softmax),
        /// Its gradient.
        SoftmaxGrad(softmax::SoftmaxGrad),
        /// Layer, RMS and batch normalisation, with their statistics.
        Norm(norm::Norm),
        /// Its gradient.
        NormGrad(norm::NormGrad),
        /// Batch normalisation by given statistics.
        BatchNormInference(norm::BatchNormInference),
        /// Random numbers in the shape of a value.
        RandomLike(random::RandomLike),
    }
    shared {
        /// A chain of elementwise ops in one pass.
        Fused(fused::Fused),
        /// A product and the chain that uses it up.
        Chain(chain::Chain),
        /// The same elements under another shape.
        Reshape(movement::Reshape),
        /// Repetition along axes of length 1, to a given shape.
        BroadcastTo(movement::BroadcastTo),
        /// Windows and strides.
        Slice(index::Slice),
        /// The adjoint of a slice.
        SliceGrad(index::SliceGrad),
        /// Margins.
        Pad(index::Pad),
        /// The adjoint of mirrored margins.
        PadGrad(index::PadGrad),
        /// Convolution, in groups or depthwise.
        Conv(conv::Conv),
        /// A pointwise convolution and the depthwise one of its result.
        JoinedConv(conv::JoinedConv),
        /// A convolution of few channels and the pooling of its result.
        PooledConv(conv::PooledConv),
        /// A pointwise convolution of what a gate was multiplied with.
        GatedConv(conv::GatedConv),
        /// Its gradient with respect to the image, which is also the transposed convolution.
        ConvGradInput(conv::ConvGradInput),
        /// Its gradient with respect to the kernel.
        ConvGradKernel(conv::ConvGradKernel),
        /// Max and average pooling.
        Pool(pool::Pool),
        /// Its gradient.
        PoolGrad(pool::PoolGrad),
        /// The gradient of that, for maxima.
        PoolSelect(pool::PoolSelect),
        /// Random numbers.
        Random(random::Random),
    }
}

impl Op {
    /// What the op's kernel applies to its sums before storing them; `None` for ops that have no such stage.
    pub fn epilogue(&self) -> Option<matmul::Epilogue> {
        match self {
            Op::MatMul(op) => Some(op.epilogue),
            Op::Conv(op) => Some(op.epilogue),
            _ => None,
        }
    }

    /// The op with another epilogue.
    ///
    /// # Panics
    /// Where the op has no such stage.
    pub fn with_epilogue(&self, epilogue: matmul::Epilogue) -> Op {
        match self {
            Op::MatMul(op) => Op::MatMul(matmul::MatMul { epilogue, ..*op }),
            Op::Conv(op) => conv::Conv { epilogue, ..**op }.into(),
            _ => panic!("{} has no epilogue", self.name()),
        }
    }
}

/// [`OpDef::keeps_rows`] of what broadcasts: rows stand on the result's first axis, everything else repeats along it.
pub(crate) fn broadcast_keeps_rows(rows: &[bool], inputs: &[&Type], outputs: &[Type]) -> bool {
    let rank = outputs[0].rank();
    rows.iter().zip(inputs).all(|(&rows, ty)| match rows {
        true => ty.rank() == rank,
        false => ty.rank() < rank || ty.dims[0] == Some(1),
    })
}

/// What a gradient rule sees and gives.
pub struct Vjp<'g> {
    /// The graph that grows.
    pub g: &'g mut Graph,
    /// The operands.
    pub inputs: &'g [Value],
    /// The results.
    pub outputs: &'g [Value],
    /// The cotangent of each result, where it matters.
    pub cotangents: &'g [Option<Value>],
    /// Whether each operand's gradient is wanted.
    pub wanted: &'g [bool],
    /// What the rule gives, one slot an operand.
    pub given: Vec<Option<Value>>,
}

impl Vjp<'_> {
    /// Operand `i`.
    pub fn x(&self, i: usize) -> Value {
        self.inputs[i]
    }

    /// Result `i`.
    pub fn y(&self, i: usize) -> Value {
        self.outputs[i]
    }

    /// The cotangent of the first result.
    pub fn dy(&mut self) -> Result<Value, ShapeError> {
        self.cotangent(0)
    }

    /// The cotangent of result `i`, zeros where nothing depends on it.
    pub fn cotangent(&mut self, i: usize) -> Result<Value, ShapeError> {
        match self.cotangents[i] {
            Some(v) => Ok(v),
            None => self.g.full_like(self.outputs[i], 0.0),
        }
    }

    /// Gives operand `i` its gradient.
    pub fn give(&mut self, i: usize, gradient: Value) {
        self.given[i] = Some(gradient);
    }

    /// Gives operand `i` a gradient of the broadcast shape, summed back to the operand's own.
    pub fn give_summed(&mut self, i: usize, gradient: Value) -> Result<(), ShapeError> {
        let gradient = self.g.sum_like(gradient, self.inputs[i])?;
        self.give(i, gradient);
        Ok(())
    }
}

/// What a lowering sees: concrete types, the instruction set, which operands share memory with an output and
/// which are always the same.
pub struct Lower<'a> {
    /// The path to run on.
    pub isa: Isa,
    /// Concrete operand types.
    pub inputs: &'a [&'a Type],
    /// Concrete result types.
    pub outputs: &'a [Type],
    /// The pairs of [`OpDef::in_place`] that the plan made use of.
    pub shared: &'a [(usize, usize)],
    /// Per operand, whether it is computed once and not at every run: what is packed of it is packed once too.
    pub is_static: &'a [bool],
}

impl Lower<'_> {
    /// Shape of operand `i`.
    pub fn shape(&self, i: usize) -> Shape {
        self.inputs[i].concrete()
    }

    /// Shape of result `i`.
    pub fn out_shape(&self, i: usize) -> Shape {
        self.outputs[i].concrete()
    }

    /// Element type of operand `i`.
    pub fn dtype(&self, i: usize) -> DType {
        self.inputs[i].dtype
    }
}

/// The memory one step works on.
pub struct Call<'a, 'b> {
    inputs: &'a [&'a [u8]],
    outputs: &'a mut [&'b mut [u8]],
    error: Option<Error>,
}

impl<'a, 'b> Call<'a, 'b> {
    /// Wraps the views of a step; scratch, where the kernel asked for it, is the last output.
    pub fn new(inputs: &'a [&'a [u8]], outputs: &'a mut [&'b mut [u8]]) -> Self {
        Call { inputs, outputs, error: None }
    }

    /// Reports an operand's element that is out of range (an id, a label): the run ends here, with no
    /// variable changed.
    pub fn fail(&mut self, message: String) {
        self.error = Some(Error::Index(message));
    }

    /// What the kernel reported.
    pub fn finish(self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }

    /// Elements of operand `i` (empty where it shares memory with an output).
    pub fn input<T: Element>(&self, i: usize) -> &'a [T] {
        bytemuck::cast_slice(self.inputs[i])
    }

    /// Bytes of operand `i`.
    pub fn input_bytes(&self, i: usize) -> &'a [u8] {
        self.inputs[i]
    }

    /// All operands' bytes.
    pub fn inputs(&self) -> &'a [&'a [u8]] {
        self.inputs
    }

    /// Elements of output `i`.
    pub fn output<T: Element>(&mut self, i: usize) -> &mut [T] {
        bytemuck::cast_slice_mut(self.outputs[i])
    }

    /// All outputs' bytes at once (scratch last), for kernels that write several.
    pub fn outputs(&mut self) -> &mut [&'b mut [u8]] {
        self.outputs
    }

    /// Output 0 and output `i` together (the scratch is output number `outputs`).
    pub fn output_and<T: Element, U: Element>(&mut self, i: usize) -> (&mut [T], &mut [U]) {
        let (first, rest) = self.outputs.split_at_mut(1);
        (bytemuck::cast_slice_mut(first[0]), bytemuck::cast_slice_mut(rest[i - 1]))
    }

    /// The first three outputs together.
    pub fn output3<T: Element, U: Element, V: Element>(&mut self) -> (&mut [T], &mut [U], &mut [V]) {
        let [a, b, c, ..] = self.outputs else { panic!("three outputs") };
        (bytemuck::cast_slice_mut(a), bytemuck::cast_slice_mut(b), bytemuck::cast_slice_mut(c))
    }
}

/// A step's code.
pub type Run = Box<dyn Fn(&mut Call<'_, '_>) + Send + Sync>;

/// A layout change an operand wants before the step: done once where the operand does not change.
pub struct Pack {
    /// Which operand.
    pub input: usize,
    /// Bytes of the packed form.
    pub bytes: usize,
    /// Equal keys on the same operand share one packed form.
    pub key: u64,
    /// Operand 0 to output 0.
    pub run: Run,
}

/// A kernel, ready to run at one set of shapes.
pub struct Kernel {
    /// For plan listings.
    pub name: &'static str,
    /// The code.
    pub run: Run,
    /// Bytes of scratch memory, passed as the last output.
    pub scratch: usize,
    /// Floating-point operations, for reports.
    pub flops: u64,
    /// Operands wanted in packed form; the step then reads the packed form in their place.
    pub packs: Vec<Pack>,
}

/// What an op becomes in a plan.
pub enum Lowering {
    /// The output is operand 0's memory under another type: no step at all.
    Alias,
    /// A step.
    Kernel(Kernel),
}

impl Lowering {
    /// A step without scratch or packing.
    pub fn kernel(
        name: &'static str,
        flops: u64,
        run: impl Fn(&mut Call<'_, '_>) + Send + Sync + 'static,
    ) -> Lowering {
        Lowering::Kernel(Kernel { name, run: Box::new(run), scratch: 0, flops, packs: vec![] })
    }

    /// Asks for scratch memory.
    pub fn scratch(mut self, bytes: usize) -> Lowering {
        if let Lowering::Kernel(kernel) = &mut self {
            kernel.scratch = bytes;
        }
        self
    }

    /// Asks for an operand in packed form.
    pub fn pack(
        mut self,
        input: usize,
        bytes: usize,
        key: u64,
        run: impl Fn(&mut Call<'_, '_>) + Send + Sync + 'static,
    ) -> Lowering {
        if let Lowering::Kernel(kernel) = &mut self {
            kernel.packs.push(Pack { input, bytes, key, run: Box::new(run) });
        }
        self
    }
}

/// How a problem's result is judged: gets the operands and the results.
pub type Check = Box<dyn Fn(&[Tensor], &[Tensor]) + Send + Sync>;

/// A test problem: an op on concrete operands, with its naive reference.
pub struct Problem {
    /// Says which case this is.
    pub name: String,
    /// The op.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<Tensor>,
    /// Compares with the reference; panics where they differ.
    pub check: Check,
    /// Which operands' gradients to hold against finite differences.
    pub differentiate: Vec<usize>,
}

impl Problem {
    /// A problem judged by `check`.
    pub fn new(
        name: impl Into<String>,
        op: impl Into<Op>,
        inputs: Vec<Tensor>,
        check: impl Fn(&[Tensor], &[Tensor]) + Send + Sync + 'static,
    ) -> Problem {
        Problem { name: name.into(), op: op.into(), inputs, check: Box::new(check), differentiate: vec![] }
    }

    /// A problem whose only result must be close to `reference(operands as float64)`, elementwise within
    /// `tolerance * (1 + |reference|)`.
    pub fn close(
        name: impl Into<String>,
        op: impl Into<Op>,
        inputs: Vec<Tensor>,
        tolerance: f64,
        reference: impl Fn(&[Vec<f64>]) -> Vec<f64> + Send + Sync + 'static,
    ) -> Problem {
        Problem::new(name, op, inputs, move |inputs, outputs| {
            let operands: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
            assert_close(&outputs[0].to_f64(), &reference(&operands), tolerance);
        })
    }

    /// Also holds these operands' gradients against finite differences.
    pub fn differentiate(mut self, operands: &[usize]) -> Problem {
        self.differentiate = operands.to_vec();
        self
    }
}

/// Panics where two vectors differ by more than `tolerance * (1 + |expected|)`; NaN equals NaN.
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "element count");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = g == e || (g.is_nan() && e.is_nan()) || (g - e).abs() <= tolerance * (1.0 + e.abs());
        assert!(same, "element {i}: got {g}, expected {e}");
    }
}

/// Repeatable numbers for problems: uniform in -1..1, never too close to zero (where many gradients have a kink).
pub fn sample(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let unit = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        let x = unit * 2.0 - 1.0;
        if x.abs() < 0.05 { x + 0.1f64.copysign(x) } else { x }
    };
    let data: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| next()).collect();
    let scale = if dtype.is_float() { 1.0 } else { 5.0 };
    let data: Vec<f64> = data.into_iter().map(|x| x * scale).collect();
    let data = if dtype == DType::U8 || dtype == DType::U16 || dtype == DType::U32 || dtype == DType::Bool {
        data.into_iter()
            .map(|x| if dtype == DType::Bool { (x > 0.0) as u8 as f64 } else { x.abs() })
            .collect()
    } else {
        data
    };
    Tensor::from_slice(shape, &data).cast(dtype)
}
