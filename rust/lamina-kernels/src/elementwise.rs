//! Fused elementwise programs: a whole chain of operations in one pass over memory.
//!
//! A [`Program`] is a list of instructions over registers. Each register is a tile of a few hundred
//! numbers that stays in the first-level cache, so a chain costs one read of its inputs and one write
//! of its outputs, whatever its length, and no code is generated at run time. Constants and scalar
//! operands never become tiles, inputs are read where they lie, and the last result of a chain is
//! written straight to its output.
//!
//! Each step is rounded to f32 as if it ran alone: a fused chain gives the same bits as its parts.

mod chain;
mod kernels;
mod ops;
mod program;
mod tile;

pub use ops::{Binary, Unary};
pub use program::{Instr, Program};

use crate::{Isa, scratch, threads};
use tile::{Output, PATTERN, ROOM, TILE, interpret};

/// An operand's elements, converted to f32 where they are loaded.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the names are the types
pub enum In<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    /// One byte each, 0 or not.
    Bool(&'a [u8]),
}

/// Matches an [`In`] of any type: `$body` sees the slice and a function that converts one element.
macro_rules! for_each_type {
    ($data:expr, |$x:ident, $convert:ident| $body:expr) => {{
        macro_rules! arm {
            ($slice:expr, $t:ty, $f:expr) => {{
                let $x = $slice;
                let $convert = |x: $t| -> f32 { $f(x) };
                $body
            }};
        }
        match $data {
            In::F32(x) => arm!(x, f32, |x| x),
            In::F64(x) => arm!(x, f64, |x| x as f32),
            In::I8(x) => arm!(x, i8, f32::from),
            In::I16(x) => arm!(x, i16, f32::from),
            In::I32(x) => arm!(x, i32, |x| x as f32),
            In::I64(x) => arm!(x, i64, |x| x as f32),
            In::U8(x) => arm!(x, u8, f32::from),
            In::U16(x) => arm!(x, u16, f32::from),
            In::U32(x) => arm!(x, u32, |x| x as f32),
            In::Bool(x) => arm!(x, u8, |x| f32::from(u8::from(x != 0))),
        }
    }};
}
use for_each_type;

impl<'a> In<'a> {
    pub(crate) fn len(&self) -> usize {
        for_each_type!(self, |x, _convert| x.len())
    }

    /// The elements `start .. start + len`.
    pub(crate) fn part(self, start: usize, len: usize) -> In<'a> {
        let range = start..start + len;
        match self {
            In::F32(x) => In::F32(&x[range]),
            In::F64(x) => In::F64(&x[range]),
            In::I8(x) => In::I8(&x[range]),
            In::I16(x) => In::I16(&x[range]),
            In::I32(x) => In::I32(&x[range]),
            In::I64(x) => In::I64(&x[range]),
            In::U8(x) => In::U8(&x[range]),
            In::U16(x) => In::U16(&x[range]),
            In::U32(x) => In::U32(&x[range]),
            In::Bool(x) => In::Bool(&x[range]),
        }
    }
}

/// Which element of an operand belongs to element `i` of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Element `i`.
    Full,
    /// Element `(i / (inner * repeat)) * inner + i % inner`: rows of `inner` elements, each used
    /// `repeat` times in turn. A scalar is `inner: 1, repeat: n`, a row vector under a matrix of
    /// `rows` rows `inner: columns, repeat: rows`, a column vector `inner: 1, repeat: columns`.
    Broadcast {
        /// Contiguous elements used in a row.
        inner: usize,
        /// How often each run of `inner` elements is used.
        repeat: usize,
    },
}

/// A result's elements.
#[derive(Debug)]
pub enum Out<'a> {
    /// Numbers as the program computes them.
    F32(&'a mut [f32]),
    /// One byte each: 1 where the program's number is not 0 (NaN is not).
    Bool(&'a mut [u8]),
}

/// Programs below this much work (elements times cost) are not worth waking a thread.
const GRAIN: usize = 1 << 16;
/// More tasks than threads, so that an uneven start evens out.
const MOST_TASKS: usize = 64;

/// Runs a program over `n` elements.
///
/// Input `k` of the program is `ins[k]`, output `k` is `outs[k]`, both of length `n` after
/// [`Access`]. Elements are independent, so results do not depend on the number of threads.
///
/// # Panics
/// Where the number of inputs or outputs is not the program's, or a length is not what `n` and the
/// access ask for.
///
/// ```
/// use lamina_kernels::elementwise::{Access, Binary, In, Instr, Out, Program, Unary, run};
/// use lamina_kernels::Isa;
/// // y = max(2 x, 0)
/// let program = Program::new(&[
///     Instr::Load { dst: 0, input: 0 },
///     Instr::constant(1, 2.0),
///     Instr::Binary { op: Binary::Mul, dst: 0, a: 0, b: 1 },
///     Instr::Unary { op: Unary::Relu, dst: 0, a: 0 },
///     Instr::Store { src: 0, output: 0 },
/// ])?;
/// let mut y = [0.0; 3];
/// run(Isa::best(), &program, 3, &[(In::F32(&[-1.0, 0.5, 4.0]), Access::Full)], &mut [Out::F32(&mut y)]);
/// assert_eq!(y, [0.0, 1.0, 8.0]);
/// # Ok::<(), String>(())
/// ```
pub fn run(isa: Isa, program: &Program, n: usize, ins: &[(In<'_>, Access)], outs: &mut [Out<'_>]) {
    assert_eq!(ins.len(), program.inputs(), "the program takes another number of inputs");
    assert_eq!(outs.len(), program.outputs(), "the program makes another number of outputs");
    for (k, (data, access)) in ins.iter().enumerate() {
        let (len, repeat) = match *access {
            Access::Full => (data.len(), 1),
            Access::Broadcast { inner, repeat } => {
                let whole =
                    n == 0 || inner.checked_mul(repeat).is_some_and(|row| row > 0 && n.is_multiple_of(row));
                assert!(whole, "input {k}: {inner} elements used {repeat} times do not divide {n}");
                (data.len(), repeat)
            }
        };
        assert!(n == 0 || len == n / repeat, "input {k} has {len} elements, not {}", n / repeat.max(1));
    }
    let mut targets = [Output::F32(std::ptr::null_mut()); Program::OUTPUTS];
    for (k, (target, out)) in targets.iter_mut().zip(outs.iter_mut()).enumerate() {
        let len = match out {
            Out::F32(y) => {
                *target = Output::F32(y.as_mut_ptr());
                y.len()
            }
            Out::Bool(y) => {
                *target = Output::Bool(y.as_mut_ptr());
                y.len()
            }
        };
        assert_eq!(len, n, "output {k} has {len} elements, not {n}");
    }
    let outputs = &targets[..outs.len()];
    let tasks = (n.saturating_mul(program.cost as usize) / GRAIN).clamp(1, MOST_TASKS);
    let chunk = n.div_ceil(tasks).next_multiple_of(TILE);
    threads::run(n.div_ceil(chunk.max(1)), |task| {
        let (start, end) = (task * chunk, n.min((task + 1) * chunk));
        scratch::with_uninit(program.registers() * ROOM + ins.len() * PATTERN, |tiles| {
            // Inputs and outputs were checked to hold n elements, and chunks do not overlap.
            interpret(isa, program, ins, outputs, tiles, start, end);
        });
    });
}

#[cfg(test)]
mod tests;
