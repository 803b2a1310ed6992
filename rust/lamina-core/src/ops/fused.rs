//! A chain of elementwise ops in one pass over memory.
//!
//! The nodes of a group become a straight-line [`Program`] over register tiles that stay in L1: every operand is
//! read once, every result written once, nothing between them touches memory.

use super::elementwise::broadcast_strides;
use super::movement::strided_copy;
use super::*;
use crate::dtype::Bool8;
use lamina_kernels::elementwise::{self as ew, Access, In, Instr, Out, Program};

/// A fused group. Operands broadcast to `dims`; every result has that shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fused {
    /// What runs on every tile.
    pub program: Program,
    /// The shape of every result (concrete).
    pub dims: Shape,
    /// Element types of the results: float32 or bool.
    pub results: SmallVec<[DType; 2]>,
}

/// Whether a program can read this type.
pub fn readable(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::Bool | DType::U8 | DType::I32)
}

impl OpDef for Fused {
    fn name(&self) -> &'static str {
        "fused"
    }

    fn infer(&self, x: &[&Type]) -> Result<Types, ShapeError> {
        let out = Type::known(DType::F32, &self.dims);
        for operand in x {
            if broadcast_or("fused", operand, &out)? != out.dims || !readable(operand.dtype) {
                return Err(ShapeError::new("fused", "an operand does not fit the group").got(&operand.dims));
            }
        }
        Ok(self.results.iter().map(|&dtype| Type::known(dtype, &self.dims)).collect())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<(), ShapeError> {
        Err(ShapeError::new("fused", "gradients are taken before fusion"))
    }

    fn in_place(&self, inputs: &[&Type], outputs: &[Type]) -> SmallVec<[(usize, usize); 2]> {
        // Any operand of full shape may be overwritten by any result of its type: tiles are read before
        // they are written, and a pair that shares a variable is found by trying them all.
        let mut pairs = smallvec![];
        for (i, x) in inputs.iter().enumerate() {
            for (o, y) in outputs.iter().enumerate() {
                let ends_read = self.last_load(i) < self.store_of(o);
                if x.dtype == y.dtype && x.dims == y.dims && ends_read && !y.is_empty() {
                    pairs.push((i, o));
                }
            }
        }
        pairs
    }

    fn lower(&self, cx: &Lower<'_>) -> Lowering {
        let (isa, n) = (cx.isa, self.dims.iter().product::<usize>());
        let flops = (n * operations(&self.program)) as u64;
        let program = share(&self.program, cx.shared);
        let separate: Vec<usize> =
            (0..cx.inputs.len()).filter(|i| !cx.shared.iter().any(|s| s.0 == *i)).collect();
        // Operands that a single repeat cannot describe are spread out in scratch first.
        let mut spread: Vec<(usize, usize, Lowering)> = vec![];
        let mut scratch = 0;
        let mut operands: Vec<(DType, Access)> = vec![];
        for (i, &from) in separate.iter().enumerate() {
            let ty = cx.inputs[from];
            let shape = ty.concrete();
            let access = access(&shape, &self.dims).unwrap_or_else(|| {
                let strides = broadcast_strides(&shape, &self.dims);
                spread.push((i, scratch, strided_copy("spread", ty.dtype, &self.dims, &strides)));
                scratch += (n * ty.dtype.size()).next_multiple_of(64);
                Access::Full
            });
            operands.push((ty.dtype, access));
        }
        let results = self.results.clone();
        let lowering = Lowering::kernel("fused", flops, move |call| {
            let inputs: SmallVec<[&[u8]; 12]> = separate.iter().map(|&i| call.inputs()[i]).collect();
            let (outputs, scratch) = call.outputs().split_at_mut(results.len());
            if spread.is_empty() {
                return execute(isa, &program, n, &operands, &inputs, &results, outputs);
            }
            let scratch: &mut [u8] = scratch[0];
            for (i, at, copy) in &spread {
                let Lowering::Kernel(copy) = copy else { unreachable!("a copy is a kernel") };
                let bytes = n * operands[*i].0.size();
                (copy.run)(&mut Call::new(&[inputs[*i]], &mut [&mut scratch[*at..at + bytes]]));
            }
            let mut inputs = inputs;
            for (i, at, _) in &spread {
                inputs[*i] = &scratch[*at..at + n * operands[*i].0.size()];
            }
            execute(isa, &program, n, &operands, &inputs, &results, outputs);
        });
        if scratch > 0 { lowering.scratch(scratch) } else { lowering }
    }

    fn problems() -> Vec<Problem> {
        // relu(a * b + c), and whether a < c; b is a row, c is a column.
        let mut build = Builder::default();
        let (a, b, c) = (build.load(0), build.load(1), build.load(2));
        let product = build.binary(ew::Binary::Mul, a, b);
        let sum = build.binary(ew::Binary::Add, product, c);
        let relu = build.unary(ew::Unary::Relu, sum);
        let less = build.binary(ew::Binary::Lt, a, c);
        let program = build.finish(&[relu, less]).expect("a small program");
        let op = |dims: &[usize]| Fused {
            program: program.clone(),
            dims: dims.into(),
            results: smallvec![DType::F32, DType::Bool],
        };
        let mut problems = vec![];
        let shapes: [(&[usize], &[usize], &[usize]); 5] = [
            (&[3, 5], &[5], &[3, 1]),
            (&[1, 1], &[1], &[]),
            (&[2, 3, 4], &[2, 1, 4], &[1, 3, 1]),
            (&[70, 1000], &[1000], &[70, 1]),
            (&[0, 5], &[5], &[1, 1]),
        ];
        for (dims, sb, sc) in shapes {
            let inputs =
                vec![sample(DType::F32, dims, 1), sample(DType::F32, sb, 2), sample(DType::F32, sc, 3)];
            problems.push(Problem::new(
                format!("fused {dims:?} {sb:?} {sc:?}"),
                op(dims),
                inputs,
                move |x, y| {
                    let rows: Vec<Vec<f64>> = x
                        .iter()
                        .map(|t| {
                            let s = broadcast_strides(t.shape(), x[0].shape());
                            let (data, mut out) = (t.to_f64(), vec![]);
                            super::elementwise::walk2(x[0].shape(), &s, &s, |_, i, _| out.push(data[i]));
                            out
                        })
                        .collect();
                    let relu: Vec<f64> =
                        (0..rows[0].len()).map(|i| (rows[0][i] * rows[1][i] + rows[2][i]).max(0.0)).collect();
                    let less: Vec<f64> =
                        (0..rows[0].len()).map(|i| (rows[0][i] < rows[2][i]) as u8 as f64).collect();
                    assert_close(&y[0].to_f64(), &relu, 1e-6);
                    assert_close(&y[1].to_f64(), &less, 0.0);
                },
            ));
        }
        problems
    }
}

/// Arithmetic instructions per element.
pub(super) fn operations(program: &Program) -> usize {
    let counts = |i: &Instr| matches!(i, Instr::Unary { .. } | Instr::Binary { .. });
    program.instrs().filter(counts).count()
}

impl Fused {
    fn last_load(&self, input: usize) -> usize {
        let loads = |i: Instr| matches!(i, Instr::Load { input: k, .. } if k as usize == input);
        self.program.instrs().enumerate().filter(|(_, i)| loads(*i)).last().map_or(0, |(at, _)| at)
    }

    fn store_of(&self, output: usize) -> usize {
        let stores = |i: Instr| matches!(i, Instr::Store { output: k, .. } if k as usize == output);
        self.program.instrs().position(stores).unwrap_or(usize::MAX)
    }
}

fn execute(
    isa: Isa,
    program: &Program,
    n: usize,
    operands: &[(DType, Access)],
    inputs: &[&[u8]],
    results: &[DType],
    outputs: &mut [&mut [u8]],
) {
    let ins = operands.iter().zip(inputs).map(|((dtype, access), bytes)| (reading(*dtype, bytes), *access));
    let ins: SmallVec<[(In<'_>, Access); 8]> = ins.collect();
    let mut outs: SmallVec<[Out<'_>; 4]> =
        results.iter().zip(outputs).map(|(dtype, bytes)| writing(*dtype, bytes)).collect();
    ew::run(isa, program, n, &ins, &mut outs);
}

/// An operand as a program reads it.
pub(super) fn reading(dtype: DType, bytes: &[u8]) -> In<'_> {
    match dtype {
        DType::F32 => In::F32(bytemuck::cast_slice(bytes)),
        DType::Bool => In::Bool(bytes),
        DType::U8 => In::U8(bytes),
        DType::I32 => In::I32(bytemuck::cast_slice(bytes)),
        other => unreachable!("a program cannot read {other}"),
    }
}

/// A result as a program writes it.
pub(super) fn writing(dtype: DType, bytes: &mut [u8]) -> Out<'_> {
    match dtype {
        DType::F32 => Out::F32(bytemuck::cast_slice_mut(bytes)),
        _ => Out::Bool(bytes),
    }
}

/// How a kernel walks an operand of this shape through a result of shape `out`; `None` where the axes it
/// repeats along do not stand together.
pub(super) fn access(shape: &[usize], out: &[usize]) -> Option<Access> {
    let strides = broadcast_strides(shape, out);
    // Runs of axes (length 1 aside): kept or repeated.
    let mut runs: SmallVec<[(bool, usize); 4]> = smallvec![];
    for (&n, &s) in out.iter().zip(&strides).filter(|(n, _)| **n != 1) {
        match runs.last_mut() {
            Some((repeated, length)) if *repeated == (s == 0) => *length *= n,
            _ => runs.push((s == 0, n)),
        }
    }
    match runs.as_slice() {
        [] | [(false, _)] => Some(Access::Full),
        [(true, n)] => Some(Access::Broadcast { inner: 1, repeat: *n }),
        [(true, repeat), (false, inner)] => Some(Access::Broadcast { inner: *inner, repeat: *repeat }),
        [(false, _), (true, repeat)] => Some(Access::Broadcast { inner: 1, repeat: *repeat }),
        [(false, _), (true, repeat), (false, inner)] => {
            Some(Access::Broadcast { inner: *inner, repeat: *repeat })
        }
        _ => None,
    }
}

/// Writes a program in single-assignment form and packs it into few registers.
#[derive(Default)]
pub struct Builder {
    instrs: Vec<Instr>,
    values: usize,
}

// While building, registers are numbered by value; `finish` renames them. A group is kept small enough
// (see `passes::fuse`) for a value's number to fit.
impl Builder {
    fn fresh(&mut self) -> u8 {
        self.values += 1;
        u8::try_from(self.values - 1).expect("a group has at most 256 values")
    }

    /// An operand.
    pub fn load(&mut self, input: usize) -> u8 {
        let dst = self.fresh();
        self.instrs.push(Instr::Load { dst, input: input as u8 });
        dst
    }

    /// A number.
    pub fn constant(&mut self, x: f32) -> u8 {
        let dst = self.fresh();
        self.instrs.push(Instr::Const { dst, bits: x.to_bits() });
        dst
    }

    /// `op(a)`.
    pub fn unary(&mut self, op: ew::Unary, a: u8) -> u8 {
        let dst = self.fresh();
        self.instrs.push(Instr::Unary { op, dst, a });
        dst
    }

    /// `op(a, b)`.
    pub fn binary(&mut self, op: ew::Binary, a: u8, b: u8) -> u8 {
        let dst = self.fresh();
        self.instrs.push(Instr::Binary { op, dst, a, b });
        dst
    }

    /// `cond ? a : b`.
    pub fn select(&mut self, cond: u8, a: u8, b: u8) -> u8 {
        let dst = self.fresh();
        self.instrs.push(Instr::Select { dst, cond, a, b });
        dst
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// The program that stores these values as results 0, 1, ...; `None` where it needs more registers or
    /// results than a program may have.
    pub fn finish(self, results: &[u8]) -> Option<Program> {
        let with_stores = |mut ssa: Vec<Instr>| {
            for (output, &src) in results.iter().enumerate() {
                // As soon as it is there, so that its register is free again.
                let made =
                    ssa.iter().position(|i| destination(i) == Some(src)).expect("a result was computed");
                ssa.insert(made + 1, Instr::Store { src, output: output as u8 });
            }
            allocate(ssa)
        };
        // Where the registers do not suffice for that order, in the order of the graph.
        with_stores(schedule(&self.instrs, results)).or_else(|| with_stores(self.instrs))
    }
}

/// The instructions in an order in which computations follow what they use directly: such values are passed on
/// without memory. Operands come first.
fn schedule(instrs: &[Instr], results: &[u8]) -> Vec<Instr> {
    // A value is defined by the instruction of its number.
    let mut depth = vec![0usize; instrs.len()];
    for (at, mut instr) in instrs.iter().copied().enumerate() {
        sources(&mut instr, |r| depth[at] = depth[at].max(depth[*r as usize] + 1));
    }
    let mut ordered: Vec<Instr> = vec![];
    let mut done: Vec<bool> = depth.iter().map(|&d| d == 0).collect();
    ordered.extend(instrs.iter().zip(&done).filter(|(_, operand)| **operand).map(|(i, _)| *i));
    let mut wanted: Vec<u8> = results.to_vec();
    // The deepest last on the stack: most other results are on its way.
    wanted.sort_by_key(|r| depth[*r as usize]);
    while let Some(&value) = wanted.last() {
        let mut instr = instrs[value as usize];
        let mut missing: SmallVec<[u8; 3]> = smallvec![];
        sources(&mut instr, |r| {
            if !done[*r as usize] {
                missing.push(*r);
            }
        });
        if missing.is_empty() {
            wanted.pop();
            if !std::mem::replace(&mut done[value as usize], true) {
                ordered.push(instr);
            }
        } else {
            // The deepest comes first: what it ends in takes long (a square root), and the others are computed meanwhile.
            missing.sort_by_key(|r| depth[*r as usize]);
            wanted.extend(missing);
        }
    }
    ordered
}

/// Renames single-assignment values to as few registers as their lifetimes allow.
fn allocate(mut ssa: Vec<Instr>) -> Option<Program> {
    let mut last_use = [0usize; 256];
    for (at, instr) in ssa.iter_mut().enumerate() {
        sources(instr, |r| last_use[*r as usize] = at);
    }
    let mut home = [0u8; 256];
    let (mut free, mut registers): (Vec<u8>, u8) = (vec![], 0);
    for (at, instr) in ssa.iter_mut().enumerate() {
        let mut freed: SmallVec<[u8; 3]> = smallvec![];
        sources(instr, |r| {
            let value = *r as usize;
            *r = home[value];
            if last_use[value] == at && !freed.contains(&home[value]) {
                freed.push(home[value]);
            }
        });
        free.extend(freed);
        if let Some(value) = destination(instr) {
            let register = free.pop().unwrap_or_else(|| {
                registers += 1;
                registers - 1
            });
            home[value as usize] = register;
            set_destination(instr, register);
            if last_use[value as usize] == 0 {
                free.push(register); // nobody reads it
            }
        }
    }
    Program::new(&ssa).ok()
}

fn destination(instr: &Instr) -> Option<u8> {
    match *instr {
        Instr::Load { dst, .. }
        | Instr::LoadOut { dst, .. }
        | Instr::Const { dst, .. }
        | Instr::Unary { dst, .. }
        | Instr::Binary { dst, .. }
        | Instr::Select { dst, .. } => Some(dst),
        Instr::Store { .. } => None,
    }
}

fn set_destination(instr: &mut Instr, to: u8) {
    match instr {
        Instr::Load { dst, .. }
        | Instr::LoadOut { dst, .. }
        | Instr::Const { dst, .. }
        | Instr::Unary { dst, .. }
        | Instr::Binary { dst, .. }
        | Instr::Select { dst, .. } => *dst = to,
        Instr::Store { .. } => {}
    }
}

fn sources(instr: &mut Instr, mut visit: impl FnMut(&mut u8)) {
    match instr {
        Instr::Load { .. } | Instr::LoadOut { .. } | Instr::Const { .. } => {}
        Instr::Unary { a, .. } => visit(a),
        Instr::Binary { a, b, .. } => [a, b].into_iter().for_each(visit),
        Instr::Select { cond, a, b, .. } => [cond, a, b].into_iter().for_each(visit),
        Instr::Store { src, .. } => visit(src),
    }
}

/// The program with operands read from where results will be written: pairs (operand, result). The other
/// operands move up.
pub(super) fn share(program: &Program, shared: &[(usize, usize)]) -> Program {
    let instrs: Vec<Instr> = program
        .instrs()
        .map(|instr| match instr {
            Instr::Load { dst, input } => match shared.iter().find(|s| s.0 == input as usize) {
                Some((_, output)) => Instr::LoadOut { dst, output: *output as u8 },
                None => {
                    let gone = shared.iter().filter(|s| s.0 < input as usize).count();
                    Instr::Load { dst, input: input - gone as u8 }
                }
            },
            other => other,
        })
        .collect();
    Program::new(&instrs).expect("operands are read before their place is written")
}
/// The element type a program stores for a value of this type.
pub fn stored(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::Bool)
}

/// So that results typed bool have the layout programs write.
const _: () = assert!(size_of::<Bool8>() == 1);
