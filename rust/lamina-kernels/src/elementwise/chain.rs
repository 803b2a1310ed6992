//! Steps that pass one value on, several vectors of it at a time: it stays in registers from the first to the last.
//!
//! A step on its own reads and writes the first-level cache for every operation, which takes longer than most
//! operations do. In a chain only the other operands are read, and only what is wanted later is written.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::ops::{Binary, Unary};
use super::tile::Value;
use crate::simd::Simd;
use crate::{Isa, dispatch};

/// What a link does to the value that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Add,
    Sub,
    /// operand - value
    SubFrom,
    Mul,
    Div,
    /// operand / value
    DivInto,
    Neg,
    Abs,
    Square,
    Sqrt,
    Reciprocal,
    Relu,
}

impl Kind {
    /// The link that a function is, if chains have it.
    pub fn unary(op: Unary) -> Option<Kind> {
        Some(match op {
            Unary::Neg => Kind::Neg,
            Unary::Abs => Kind::Abs,
            Unary::Square => Kind::Square,
            Unary::Sqrt => Kind::Sqrt,
            Unary::Reciprocal => Kind::Reciprocal,
            Unary::Relu => Kind::Relu,
            _ => return None,
        })
    }

    /// The link that `op` is where the value is its first operand, or its second.
    pub fn binary(op: Binary, second: bool) -> Option<Kind> {
        Some(match op {
            Binary::Add => Kind::Add,
            Binary::Sub if second => Kind::SubFrom,
            Binary::Sub => Kind::Sub,
            Binary::Mul => Kind::Mul,
            Binary::Div if second => Kind::DivInto,
            Binary::Div => Kind::Div,
            _ => return None,
        })
    }
}

/// A link, and the memory that it reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub kind: Kind,
    /// The other operand; anything where there is none.
    pub operand: Value,
    /// Where the result goes, or null where only the next link wants it.
    pub to: *mut f32,
}

/// The most links that are run at once.
pub(super) const LINKS: usize = 12;

/// Sends `len` elements of `from` through the links.
///
/// # Safety
/// `from` and the operands are readable and the results writable for that many elements (a vector where uniform). A
/// result overlaps an operand only where it is the same memory.
pub(super) unsafe fn run(isa: Isa, from: Value, links: &[Link], len: usize) {
    dispatch!(isa, body, (from: Value, links: &[Link], len: usize))
}

#[inline(always)]
fn body<S: Simd>(s: S, from: Value, links: &[Link], len: usize) {
    let whole = if S::REGISTERS >= 32 {
        blocks::<S, 8>(s, from, links, len)
    } else {
        blocks::<S, 4>(s, from, links, len)
    };
    let mut at = whole;
    while at < len {
        let n = S::LANES.min(len - at);
        // SAFETY: the contract of `run`: n elements from `at` on are within.
        unsafe { block::<S, 1>(s, from, links, at, n) };
        at += n;
    }
}

/// As many blocks of `N` vectors as there are; returns how many elements those are.
#[inline(always)]
fn blocks<S: Simd, const N: usize>(s: S, from: Value, links: &[Link], len: usize) -> usize {
    let size = N * S::LANES;
    for i in 0..len / size {
        // SAFETY: the contract of `run`: whole blocks below `len`.
        unsafe { block::<S, N>(s, from, links, i * size, S::LANES) };
    }
    len / size * size
}

/// `N` vectors from element `at` on, the last of `n` elements.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn block<S: Simd, const N: usize>(s: S, from: Value, links: &[Link], at: usize, n: usize) {
    // SAFETY: the caller's contract; partial accesses touch n elements only.
    unsafe {
        macro_rules! load {
            ($value:expr, $j:ident) => {{
                let (start, step) = if $value.uniform { (0, 0) } else { (at, S::LANES) };
                let p = $value.ptr.add(start + $j * step);
                // One vector alone may be the last one, which is not whole.
                if N > 1 || n == S::LANES || $value.uniform { s.load(p) } else { s.load_partial(p, n) }
            }};
        }
        let mut v = [s.zero(); N];
        for j in 0..N {
            v[j] = load!(from, j);
        }
        for link in links {
            macro_rules! each {
                (|$a:ident| $body:expr) => {
                    for j in 0..N {
                        let $a = v[j];
                        v[j] = $body;
                    }
                };
                (|$a:ident, $b:ident| $body:expr) => {
                    for j in 0..N {
                        let ($a, $b) = (v[j], load!(link.operand, j));
                        v[j] = $body;
                    }
                };
            }
            // As the steps do it on their own: the bits are theirs.
            match link.kind {
                Kind::Add => each!(|a, b| s.add(a, b)),
                Kind::Sub => each!(|a, b| s.sub(a, b)),
                Kind::SubFrom => each!(|a, b| s.sub(b, a)),
                Kind::Mul => each!(|a, b| s.mul(a, b)),
                Kind::Div => each!(|a, b| s.div(a, b)),
                Kind::DivInto => each!(|a, b| s.div(b, a)),
                Kind::Neg => each!(|a| s.neg(a)),
                Kind::Abs => each!(|a| s.abs(a)),
                Kind::Square => each!(|a| s.mul(a, a)),
                Kind::Sqrt => each!(|a| s.sqrt(a)),
                Kind::Reciprocal => each!(|a| s.div(s.splat(1.0), a)),
                Kind::Relu => each!(|a| s.max_fast(s.zero(), a)),
            }
            if !link.to.is_null() {
                for j in 0..N {
                    let p = link.to.add(at + j * S::LANES);
                    if N > 1 || n == S::LANES { s.store(p, v[j]) } else { s.store_partial(p, v[j], n) }
                }
            }
        }
    }
}
