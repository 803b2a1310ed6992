//! Steps that pass one value on, several vectors of it at a time: it stays in registers from the first to the last.
//!
//! A step on its own reads and writes the first-level cache for every operation, which takes longer than most
//! operations do. In a chain only the other operands are read, and only what is wanted later is written.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::ops::{Binary, Unary};
use super::tile::{Span, Value};
use crate::simd::Simd;
use crate::{Isa, dispatch};

/// What a link does to the value that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The operand: another value is passed on from here.
    From,
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
    /// operand + (value - operand) * part: a running mean takes the value in
    Toward,
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
    /// [`Kind::Toward`]: a vector of the part.
    pub part: *const f32,
    /// Where the result goes; a null pointer where only the next link wants it.
    pub to: Value,
}

impl Link {
    /// A link whose result only the next one wants.
    pub fn new(kind: Kind, operand: Value) -> Link {
        let nowhere = Value { ptr: std::ptr::null(), span: Span::Tile };
        Link { kind, operand, part: std::ptr::null(), to: nowhere }
    }

    /// This link for the last three, where `self` follows `links` and together they are [`Kind::Toward`].
    pub fn toward(&self, links: &[Link]) -> Option<Link> {
        let [.., minus, times] = links else { return None };
        let kinds = (minus.kind, times.kind, self.kind) == (Kind::Sub, Kind::Mul, Kind::Add);
        let passed_on = minus.to.ptr.is_null() && times.to.ptr.is_null();
        let mean = !self.operand.uniform() && std::ptr::eq(minus.operand.ptr, self.operand.ptr);
        let part = times.operand;
        (kinds && passed_on && mean && part.uniform()).then_some(Link {
            kind: Kind::Toward,
            part: part.ptr,
            ..*self
        })
    }
}

/// The most links that are run at once.
pub(super) const LINKS: usize = 24;

/// Sends `len` elements through the links, of which the first is [`Kind::From`].
///
/// # Safety
/// The operands are readable and the results writable for that many elements (a vector where uniform). A
/// result overlaps an operand only where it is the same memory.
pub(super) unsafe fn run(isa: Isa, links: &[Link], len: usize) {
    dispatch!(isa, body, (links: &[Link], len: usize))
}

#[inline(always)]
fn body<S: Simd>(s: S, links: &[Link], len: usize) {
    let whole =
        if S::REGISTERS >= 32 { blocks::<S, 8>(s, links, len) } else { blocks::<S, 4>(s, links, len) };
    let mut at = whole;
    while at < len {
        let n = S::LANES.min(len - at);
        // SAFETY: the contract of `run`: n elements from `at` on are within.
        unsafe { block::<S, 1>(s, links, at, n) };
        at += n;
    }
}

/// As many blocks of `N` vectors as there are; returns how many elements those are.
#[inline(always)]
fn blocks<S: Simd, const N: usize>(s: S, links: &[Link], len: usize) -> usize {
    let size = N * S::LANES;
    for i in 0..len / size {
        // SAFETY: the contract of `run`: whole blocks below `len`.
        unsafe { block::<S, N>(s, links, i * size, S::LANES) };
    }
    len / size * size
}

/// `N` vectors from element `at` on, the last of `n` elements.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn block<S: Simd, const N: usize>(s: S, links: &[Link], at: usize, n: usize) {
    // SAFETY: the caller's contract; partial accesses touch n elements only.
    unsafe {
        // One vector alone may be the last one, which is not whole.
        macro_rules! load {
            ($p:expr, $j:ident) => {{
                let p = $p.add($j * S::LANES);
                if N > 1 || n == S::LANES { s.load(p) } else { s.load_partial(p, n) }
            }};
        }
        let mut v = [s.zero(); N];
        for link in links {
            macro_rules! each {
                (|$a:pat_param| $body:expr) => {
                    for j in 0..N {
                        let $a = v[j];
                        v[j] = $body;
                    }
                };
                (|$a:pat_param, $b:ident| $body:expr) => {
                    if link.operand.uniform() {
                        let $b = s.load(link.operand.ptr);
                        each!(|$a| $body);
                    } else {
                        let p = link.operand.at(at);
                        for j in 0..N {
                            let ($a, $b) = (v[j], load!(p, j));
                            v[j] = $body;
                        }
                    }
                };
            }
            // As the steps do it on their own: the bits are theirs.
            match link.kind {
                Kind::From => each!(|_, b| b),
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
                Kind::Toward => {
                    let part = s.load(link.part);
                    each!(|a, b| s.add(b, s.mul(s.sub(a, b), part)));
                }
            }
            if !link.to.ptr.is_null() {
                let to = link.to.at(at).cast_mut();
                for j in 0..N {
                    let p = to.add(j * S::LANES);
                    if N > 1 || n == S::LANES { s.store(p, v[j]) } else { s.store_partial(p, v[j], n) }
                }
            }
        }
    }
}
