//! A product that is used up while it is in the cache: an elementwise program over it, a few rows at a time.

use super::output::Next;
use super::tasks::{CHUNK_NS, TASKS_EACH, Work};
use super::{B, MatRef, Output, Packing};
use crate::elementwise::{self, Access, In, Out, Program};
use crate::epilogue::Epilogue;
use crate::threads::{self, SharedMut};
use crate::{Isa, scratch};
use std::ops::Range;

/// An operand of the program that follows a product.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// The product itself.
    Product,
    /// Anything else: of the product's shape, one row of it, or one number.
    Other(In<'a>, Access),
}

/// Elements of the product that a task computes before the program reads them: they stay in L2.
const TASK_LEN: usize = 24 << 10;

/// Rows of a task at least, where they are cut only to have more tasks.
const TASK_ROWS: usize = 64;

/// Runs `program` over `A B` and other operands: the gradient of a matrix of weights and its optimizer's update, say.
/// The product itself is never written to memory of its own. As ever, the bits do not depend on the threads.
///
/// Operands of the product's shape and outputs lie row by row, or [in panels](Packing::in_panels), as the product then does.
///
/// # Panics
/// Where lengths differ from what the shapes ask for, or an operand repeats in another way than [`Operand`] says; of those
/// that repeat, only one number may stand beside panels.
pub fn gemm_then(
    isa: Isa,
    a: MatRef,
    b: MatRef,
    program: &Program,
    operands: &[Operand<'_>],
    outs: &mut [Out<'_>],
    in_panels: bool,
) {
    let (m, k, n) = (a.rows, b.rows, b.cols);
    let total = m * n;
    if total == 0 {
        return;
    }
    assert!(outs.len() <= Program::OUTPUTS, "a program has at most {} outputs", Program::OUTPUTS);
    let outs: Vec<Shared> = outs
        .iter_mut()
        .map(|out| match out {
            Out::F32(y) => Shared::F32(SharedMut::new(y)),
            Out::Bool(y) => Shared::Bool(SharedMut::new(y)),
        })
        .collect();
    assert!(outs.iter().all(|out| out.len() == total), "an output has not the product's shape");
    let tasks = Tasks::new(isa, (m, k, n), in_panels);
    scratch::with(tasks.packing.packed_len(), |packed: &mut [f32]| {
        tasks.packing.pack(b, packed);
        threads::run(tasks.count(), |task| {
            let Part { rows, width, start, b } = tasks.part(task, packed);
            let len = rows.len() * width;
            let from = (rows.start * a.row_stride).min(a.data.len());
            let part = MatRef { data: &a.data[from..], rows: rows.len(), ..a };
            scratch::with(len, |product: &mut [f32]| {
                // What the program reads and writes comes meanwhile.
                let read = operands.iter().filter_map(|operand| match operand {
                    Operand::Other(In::F32(x), Access::Full) => Some(x[start..].as_ptr()),
                    _ => None,
                });
                let written = outs.iter().filter_map(|out| match out {
                    Shared::F32(y) => Some(y.as_mut_ptr().wrapping_add(start).cast_const()),
                    Shared::Bool(_) => None,
                });
                let mut out = Output::new(product, width, false, &Epilogue::none());
                out.next = Next::new(read.chain(written), len);
                super::product(isa, part, b, width, &out);
                let product = &*product;
                let ins: Vec<(In, Access)> = operands
                    .iter()
                    .map(|operand| match *operand {
                        Operand::Product => (In::F32(product), Access::Full),
                        Operand::Other(data, Access::Full) => (data.part(start, len), Access::Full),
                        Operand::Other(data, Access::Broadcast { inner, .. }) => {
                            assert!(
                                inner == 1 && data.len() == 1 || inner == n && !in_panels,
                                "an operand repeats by rows"
                            );
                            (data, Access::Broadcast { inner, repeat: len / inner })
                        }
                    })
                    .collect();
                // SAFETY: tasks have parts of their own.
                let mut outs: Vec<Out> = outs.iter().map(|out| unsafe { out.part(start, len) }).collect();
                elementwise::run(isa, program, len, &ins, &mut outs);
            });
        });
    });
}

/// How a product is cut: by rows, or panel by panel, each by rows.
struct Tasks {
    packing: Packing,
    in_panels: bool,
    dims: (usize, usize, usize),
    /// Rows of a task, and tasks that have all of them.
    rows: usize,
    down: usize,
}

/// What a task computes: some rows, so many columns of each, which lie from `start` on.
struct Part<'a> {
    rows: Range<usize>,
    width: usize,
    start: usize,
    b: B<'a>,
}

impl Tasks {
    fn new(isa: Isa, dims @ (m, k, n): (usize, usize, usize), in_panels: bool) -> Tasks {
        let panels = Packing::in_panels(isa, k, n);
        assert!(!in_panels || panels.is_full(), "the product fills its panels");
        let width = if in_panels { panels.cut().widest().min(n) } else { n };
        let across = if in_panels { panels.cut().panels() } else { 1 };
        // As many rows in each, and tasks for all threads.
        let want =
            (Work::new(m, n, k).ns / CHUNK_NS).min(TASKS_EACH * threads::num_threads()).div_ceil(across);
        let down = m.div_ceil((TASK_LEN / width).clamp(1, m)).max(want.min(m / TASK_ROWS));
        let rows = m.div_ceil(down);
        // Too few rows at a time to be AMX's.
        let packing = if in_panels { panels } else { Packing::new(isa, rows, k, n) };
        Tasks { packing, in_panels, dims, rows, down: m.div_ceil(rows) }
    }

    fn count(&self) -> usize {
        self.down * if self.in_panels { self.packing.cut().panels() } else { 1 }
    }

    fn part<'a>(&self, task: usize, packed: &'a [f32]) -> Part<'a> {
        let ((m, k, n), first) = (self.dims, task % self.down * self.rows);
        let rows = first..m.min(first + self.rows);
        if !self.in_panels {
            return Part { rows, width: n, start: first * n, b: self.packing.operand(packed) };
        }
        let panel = task / self.down;
        let stored = self.packing.cut().stored(panel..panel + 1);
        let width = stored.len();
        let alone = Packing::in_panels(self.packing.isa, k, width);
        let b = alone.operand(&packed[stored.start * k..stored.end * k]);
        Part { rows, width, start: stored.start * m + first * width, b }
    }
}

/// An output that tasks write in parts.
enum Shared<'a> {
    F32(SharedMut<'a, f32>),
    Bool(SharedMut<'a, u8>),
}

impl<'a> Shared<'a> {
    fn len(&self) -> usize {
        match self {
            Shared::F32(y) => y.len(),
            Shared::Bool(y) => y.len(),
        }
    }

    /// # Safety
    /// As for [`SharedMut::slice`].
    unsafe fn part(&self, start: usize, len: usize) -> Out<'a> {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Shared::F32(y) => Out::F32(y.slice(start, len)),
                Shared::Bool(y) => Out::Bool(y.slice(start, len)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;
    use crate::elementwise::{Binary, Instr};

    /// `w -= rate * (A B) * row`, w in place, and whether the product is positive, in every instruction set.
    #[test]
    fn a_program_over_a_product_is_the_product_and_then_the_program() {
        let program = Program::new(&[
            Instr::Load { dst: 0, input: 0 },
            Instr::Load { dst: 1, input: 1 },
            Instr::Load { dst: 2, input: 2 },
            Instr::LoadOut { dst: 3, output: 0 },
            Instr::constant(4, 0.0),
            Instr::Binary { op: Binary::Gt, dst: 4, a: 0, b: 4 },
            Instr::Store { src: 4, output: 1 },
            Instr::Binary { op: Binary::Mul, dst: 0, a: 0, b: 1 },
            Instr::Binary { op: Binary::Mul, dst: 0, a: 0, b: 2 },
            Instr::Binary { op: Binary::Sub, dst: 3, a: 3, b: 0 },
            Instr::Store { src: 3, output: 0 },
        ])
        .expect("a program");
        let _turn = threads::test_lock();
        for isa in Isa::available() {
            for (m, k, n) in [(1, 1, 1), (300, 7, 130), (77, 33, 257), (3, 0, 5), (0, 3, 4)] {
                let (a, b, w) = (values(k * m, 1), values(k * n, 2), values(m * n, 3));
                let row = values(n, 4);
                let run = |threads: usize| {
                    threads::set_num_threads(threads);
                    let (mut w, mut positive) = (w.clone(), vec![7u8; m * n]);
                    let operands = [
                        Operand::Product,
                        Operand::Other(In::F32(&[0.5]), Access::Broadcast { inner: 1, repeat: m * n }),
                        Operand::Other(In::F32(&row), Access::Broadcast { inner: n, repeat: m }),
                    ];
                    let (a, b) = (MatRef::transposed(&a, m, k), MatRef::row_major(&b, k, n));
                    let mut outs = [Out::F32(&mut w), Out::Bool(&mut positive)];
                    gemm_then(isa, a, b, &program, &operands, &mut outs, false);
                    (w, positive)
                };
                let (new, positive) = run(1);
                assert_eq!((new.clone(), positive.clone()), run(3), "other bits with more threads");
                for i in 0..m * n {
                    let (r, c) = (i / n, i % n);
                    let exact: f64 = (0..k).map(|p| f64::from(a[p * m + r]) * f64::from(b[p * n + c])).sum();
                    let wanted = f64::from(w[i]) - 0.5 * exact * f64::from(row[c]);
                    assert!((f64::from(new[i]) - wanted).abs() < 1e-5, "{} {m} {k} {n} at {i}", isa.name());
                    assert!(exact.abs() < 1e-5 || (positive[i] == 1) == (exact > 0.0));
                }
            }
        }
        threads::set_num_threads(0);
    }

    /// The same in panels is the same in another order.
    #[test]
    fn panels_hold_what_rows_hold() {
        let program = Program::new(&[
            Instr::Load { dst: 0, input: 0 },
            Instr::Load { dst: 1, input: 1 },
            Instr::LoadOut { dst: 3, output: 0 },
            Instr::Binary { op: Binary::Mul, dst: 0, a: 0, b: 1 },
            Instr::Binary { op: Binary::Sub, dst: 3, a: 3, b: 0 },
            Instr::Store { src: 3, output: 0 },
        ])
        .expect("a program");
        for isa in Isa::available() {
            for (m, k, n) in [(1, 1, 16), (900, 32, 512), (70, 7, 64), (77, 33, 1040), (513, 3, 128)] {
                let (a, b, w) = (values(k * m, 1), values(k * n, 2), values(m * n, 3));
                let packing = Packing::in_panels(isa, m, n);
                let run = |w: &mut [f32], in_panels: bool| {
                    let rate = Operand::Other(In::F32(&[0.5]), Access::Broadcast { inner: 1, repeat: m * n });
                    let (a, b) = (MatRef::transposed(&a, m, k), MatRef::row_major(&b, k, n));
                    let mut outs = [Out::F32(w)];
                    gemm_then(isa, a, b, &program, &[Operand::Product, rate], &mut outs, in_panels);
                };
                let (mut rows, mut panels, mut back) = (w.clone(), vec![0.0; m * n], vec![0.0; m * n]);
                run(&mut rows, false);
                packing.pack(MatRef::row_major(&w, m, n), &mut panels);
                run(&mut panels, true);
                packing.unpack(&panels, &mut back);
                assert_eq!(rows, back, "{} {m} {k} {n}", isa.name());
            }
        }
    }
}
