//! The interpreter: one pass of a program over a range of elements, tile by tile.

use super::chain::{self, Kind, LINKS, Link};
use super::kernels::{binary, select, unary};
use super::program::{Instr, Program};
use super::{Access, In, for_each_type};
use crate::simd::{Simd, prefetch};
use crate::{Isa, dispatch, scratch};
use std::mem::MaybeUninit;

/// Elements per register: long enough to hide the cost of decoding an instruction, short enough for
/// a dozen registers to stay in the first-level cache.
pub(super) const TILE: usize = 1024;

/// The most lanes of any vector.
pub(super) const LANES: usize = 16;

/// What a register owns: a vector for a uniform value, then a tile. They are apart because a step may
/// read the one and write the other.
pub(super) const ROOM: usize = LANES + TILE;

/// What an input owns: the row of a broadcast operand over and over, as far as a tile that begins anywhere in it.
pub(super) const PATTERN: usize = 2 * TILE;

/// Where an output's elements are.
#[derive(Clone, Copy)]
pub(super) enum Output {
    F32(*mut f32),
    Bool(*mut u8),
}

// SAFETY: `run` hands out one range of elements to one task only.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// A register's contents.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub ptr: *const f32,
    pub span: Span,
}

/// What lies where a register points.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// The elements of a tile.
    Tile,
    /// Those of one block of a chain; the next block overwrites them.
    Block,
    /// One vector of equal numbers, which stand for all.
    Uniform,
}

impl Value {
    pub fn uniform(self) -> bool {
        self.span == Span::Uniform
    }

    /// Where the element `at` of a tile is, the first of its block.
    ///
    /// # Safety
    /// There is one.
    #[inline(always)]
    pub unsafe fn at(self, at: usize) -> *const f32 {
        // SAFETY: the caller's contract.
        unsafe { self.ptr.add(if self.span == Span::Block { 0 } else { at }) }
    }
}

impl Span {
    /// Of what a step computes.
    fn of(uniform: bool) -> Span {
        if uniform { Span::Uniform } else { Span::Tile }
    }
}

/// One tile's place: elements `at .. at + len` of the whole.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    len: usize,
}

/// Runs the program over elements `start..end`.
///
/// `tiles` has room for `ROOM` numbers per register and `PATTERN` per input. The caller has checked that every input covers
/// `end` elements and every output has them, and that nobody else touches this range of the outputs.
pub(super) fn interpret(
    isa: Isa,
    program: &Program,
    ins: &[(In<'_>, Access)],
    outs: &[Output],
    tiles: &mut [MaybeUninit<f32>],
    start: usize,
    end: usize,
) {
    assert!(tiles.len() >= program.registers() * ROOM + ins.len() * PATTERN);
    let tiles = tiles.as_mut_ptr().cast::<f32>();
    let patterns = tiles.wrapping_add(program.registers() * ROOM);
    // The block of each broadcast input, counted from 1, whose row its pattern holds.
    let mut filled = [0; PATTERNS];
    // Left uninitialised: to clear it would cost more than a small program runs.
    let mut regs = [MaybeUninit::<Value>::uninit(); Program::REGISTERS];
    // A program that is one chain keeps nothing for longer than a block: its tile may be the whole range.
    let flows = end - start > TILE && flows(program, ins, outs);
    let (most, made) = if flows { (end - start, Span::Block) } else { (TILE, Span::Tile) };
    let mut at = start;
    while at < end {
        let place = Place { at, len: most.min(end - at) };
        let mut chain = Chain::new();
        for step in &program.steps {
            // SAFETY: `Program::new` checked that registers are written before they are read and that
            // register, input and output numbers are in range; `run` checked the lengths. A register
            // points at `len` readable elements (one vector where uniform) until it is written again:
            // at its own tile, at an input, or at an output whose contents `place` found to stay.
            unsafe {
                let own = |register: u8| tiles.add(register as usize * ROOM);
                let tile = |register: u8| own(register).add(LANES);
                // The memory a computed register goes to: its output where it can, else its own.
                let target = |register: u8, uniform: bool| match step.direct.map(|o| outs[o as usize]) {
                    _ if uniform => own(register),
                    Some(Output::F32(out)) => out.add(at),
                    _ => tile(register),
                };
                if let Some(link) = step.link
                    && let Some(dst) = step.instr.dst()
                {
                    let from = regs[link.from as usize].assume_init();
                    let operand = link.operand.map_or(from, |r| regs[r as usize].assume_init());
                    let joins = link.joins && chain.count > 0;
                    // A chain that has not begun does not begin with numbers: they are one vector, not a tile.
                    if joins || !(from.uniform() && operand.uniform()) {
                        if chain.count + 2 > LINKS {
                            if joins {
                                // Its last result goes by way of its tile to what follows.
                                chain.links[chain.count - 1].assume_init_mut().to = from;
                            }
                            chain.run(isa, place.len);
                        }
                        if !joins || chain.count == 0 {
                            chain.push(Link::new(Kind::From, from));
                        }
                        let ptr = target(dst, false);
                        let span = if std::ptr::eq(ptr, tile(dst)) { made } else { Span::Tile };
                        let result = Value { ptr, span };
                        let next = Link::new(link.kind, operand);
                        chain.push(if link.keep { Link { to: result, ..next } } else { next });
                        regs[dst as usize].write(result);
                        continue;
                    }
                }
                // What has been stored where it was made needs no step of its own.
                if let Instr::Store { src, output } = step.instr
                    && let Output::F32(out) = outs[output as usize]
                    && std::ptr::eq(regs[src as usize].assume_init().ptr, out.add(at))
                {
                    continue;
                }
                chain.run(isa, place.len);
                match step.instr {
                    Instr::Load { dst, input } => {
                        let (data, access) = ins[input as usize];
                        let value = match (access, filled.get_mut(input as usize)) {
                            // One number for all tiles.
                            (Access::Broadcast { .. }, Some(filled)) if data.len() == 1 => {
                                let own = patterns.add(input as usize * PATTERN);
                                if std::mem::replace(filled, 1) == 0 {
                                    splat(for_each_type!(data, |x, to_f32| to_f32(x[0])), own);
                                }
                                Value { ptr: own, span: Span::Uniform }
                            }
                            (Access::Broadcast { inner, repeat }, Some(filled))
                                if patterned(inner, repeat, place) =>
                            {
                                let (block, pattern) =
                                    (at / (inner * repeat), patterns.add(input as usize * PATTERN));
                                if *filled != block + 1 {
                                    *filled = block + 1;
                                    let out = std::slice::from_raw_parts_mut(pattern, inner + TILE);
                                    periodic(isa, data, block * inner, inner, 0, out);
                                }
                                Value { ptr: pattern.add(at % inner), span: Span::Tile }
                            }
                            _ => load(isa, data, access, place, own(dst)),
                        };
                        regs[dst as usize].write(value);
                    }
                    Instr::LoadOut { dst, output } => {
                        let tile = tile(dst);
                        let ptr = match outs[output as usize] {
                            Output::F32(out) if !step.copy => {
                                ahead(out.add(at + place.len), TILE.min(end - at - place.len));
                                out.add(at)
                            }
                            Output::F32(out) => {
                                std::ptr::copy_nonoverlapping(out.add(at), tile, place.len);
                                tile
                            }
                            Output::Bool(out) => {
                                for i in 0..place.len {
                                    *tile.add(i) = f32::from(u8::from(*out.add(at + i) != 0));
                                }
                                tile
                            }
                        };
                        regs[dst as usize].write(Value { ptr, span: Span::Tile });
                    }
                    Instr::Const { dst, bits } => {
                        regs[dst as usize].write(splat(f32::from_bits(bits), own(dst)));
                    }
                    Instr::Unary { op, dst, a } => {
                        let a = regs[a as usize].assume_init();
                        let out = target(dst, a.uniform());
                        unary(isa, op, a, out, place.len);
                        regs[dst as usize].write(Value { ptr: out, span: a.span });
                    }
                    Instr::Binary { op, dst, a, b } => {
                        let [a, b] = [a, b].map(|r| regs[r as usize].assume_init());
                        let uniform = a.uniform() && b.uniform();
                        let out = target(dst, uniform);
                        binary(isa, op, a, b, out, place.len);
                        regs[dst as usize].write(Value { ptr: out, span: Span::of(uniform) });
                    }
                    Instr::Select { dst, cond, a, b } => {
                        let operands = [cond, a, b].map(|r| regs[r as usize].assume_init());
                        let uniform = operands.iter().all(|v| v.uniform());
                        let out = target(dst, uniform);
                        select(isa, operands, out, place.len);
                        regs[dst as usize].write(Value { ptr: out, span: Span::of(uniform) });
                    }
                    Instr::Store { src, output } => {
                        store(regs[src as usize].assume_init(), outs[output as usize], place)
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { chain.run(isa, place.len) };
        at += place.len;
    }
}

/// Whether a program is one chain over these operands: every step is a link, reads elements as they lie or one
/// number for all, or stores what was made in place.
fn flows(program: &Program, ins: &[(In<'_>, Access)], outs: &[Output]) -> bool {
    let mut uniform = [false; Program::REGISTERS];
    let plain = |(data, access): &(In<'_>, Access)| {
        matches!((data, access), (In::F32(_), Access::Full)) || data.len() == 1
    };
    program.one_chain
        && ins.len() <= PATTERNS
        && ins.iter().all(plain)
        && outs.iter().all(|out| matches!(out, Output::F32(_)))
        && program.steps.iter().all(|step| match (step.instr, step.link) {
            (Instr::Load { dst, input }, _) => {
                uniform[dst as usize] = ins[input as usize].1 != Access::Full;
                true
            }
            (Instr::Const { dst, .. }, _) => {
                uniform[dst as usize] = true;
                true
            }
            (Instr::LoadOut { dst, .. }, _) => {
                uniform[dst as usize] = false;
                true
            }
            (instr, Some(link)) => {
                let numbers = uniform[link.from as usize] && link.operand.is_none_or(|r| uniform[r as usize]);
                uniform[instr.dst().expect("a link has a result") as usize] = false;
                !numbers
            }
            (_, None) => true,
        })
}

/// Links that wait to be run.
struct Chain {
    links: [MaybeUninit<Link>; LINKS],
    count: usize,
}

impl Chain {
    fn new() -> Chain {
        Chain { links: [MaybeUninit::uninit(); LINKS], count: 0 }
    }

    /// Adds a link; there is room for it.
    fn push(&mut self, mut link: Link) {
        // SAFETY: the first `count` links were written.
        if let Some(toward) = link.toward(unsafe { scratch::written(&self.links[..self.count]) }) {
            self.count -= 2;
            link = toward;
        }
        self.links[self.count].write(link);
        self.count += 1;
    }

    /// Runs what waits, over `len` elements.
    ///
    /// # Safety
    /// As for [`chain::run`], for every link.
    unsafe fn run(&mut self, isa: Isa, len: usize) {
        if self.count > 0 {
            // SAFETY: the first `count` links were written; the rest is the caller's contract.
            unsafe { chain::run(isa, scratch::written(&self.links[..self.count]), len) };
            self.count = 0;
        }
    }
}

/// A uniform value, its vector at `own`.
///
/// # Safety
/// `own` has room for a vector.
unsafe fn splat(x: f32, own: *mut f32) -> Value {
    // SAFETY: the caller's contract.
    unsafe { own.cast::<[f32; LANES]>().write([x; LANES]) };
    Value { ptr: own, span: Span::Uniform }
}

/// Asks for the next tile of an operand: a program reads several in turn, each by so little at a time that the
/// machine does not notice where each goes on.
fn ahead(from: *const f32, len: usize) {
    for line in 0..len / LANES {
        prefetch(from.wrapping_add(line * LANES));
    }
}

/// Inputs that may have a pattern.
const PATTERNS: usize = 16;

/// Whether a tile reads a short row again and again, as its neighbours do.
fn patterned(inner: usize, repeat: usize, Place { at, len }: Place) -> bool {
    let block = inner * repeat;
    (2..=TILE).contains(&inner) && block >= 8 * TILE && at / block == (at + len - 1) / block
}

/// Elements `place` of an input: where they lie, or converted or gathered into a register's `own` memory.
///
/// # Safety
/// `own` has `ROOM` for a register.
unsafe fn load(isa: Isa, data: In<'_>, access: Access, place: Place, own: *mut f32) -> Value {
    let Place { at, len } = place;
    let tile = own.wrapping_add(LANES);
    let in_tile = Value { ptr: tile, span: Span::Tile };
    // SAFETY: the caller's contract, and the bounds checks of slices.
    unsafe {
        let (inner, repeat) = match access {
            Access::Full => {
                return match data {
                    In::F32(x) => {
                        ahead(x.as_ptr().wrapping_add(at + len), TILE.min(x.len() - at - len));
                        Value { ptr: x[at..at + len].as_ptr(), span: Span::Tile }
                    }
                    _ => {
                        convert(isa, data, at, std::slice::from_raw_parts_mut(tile, len));
                        in_tile
                    }
                };
            }
            Access::Broadcast { inner, repeat } => (inner, repeat),
        };
        let block = inner * repeat;
        let (row, phase) = (at / block * inner, at % inner);
        if inner == 1 && at / repeat == (at + len - 1) / repeat {
            let x = for_each_type!(data, |x, to_f32| to_f32(x[row]));
            return splat(x, own);
        }
        if phase + len <= inner {
            return match data {
                In::F32(x) => Value { ptr: x[row + phase..row + phase + len].as_ptr(), span: Span::Tile },
                _ => {
                    convert(isa, data, row + phase, std::slice::from_raw_parts_mut(tile, len));
                    in_tile
                }
            };
        }
        let mut left = std::slice::from_raw_parts_mut(tile, len);
        let mut at = at;
        while !left.is_empty() {
            let (part, rest) = left.split_at_mut((block - at % block).min(left.len()));
            periodic(isa, data, at / block * inner, inner, at % inner, part);
            at += part.len();
            left = rest;
        }
        in_tile
    }
}

/// Fills `out` with the row of `inner` elements at `row`, over and over, beginning at `phase`.
fn periodic(isa: Isa, data: In<'_>, row: usize, inner: usize, phase: usize, out: &mut [f32]) {
    if inner == 1 {
        return out.fill(for_each_type!(data, |x, to_f32| to_f32(x[row])));
    }
    let first = out.len().min(inner - phase);
    convert(isa, data, row + phase, &mut out[..first]);
    let wrapped = (out.len() - first).min(phase);
    convert(isa, data, row, &mut out[first..first + wrapped]);
    // One period is there: double it.
    let mut done = first + wrapped;
    while done < out.len() {
        let more = done.min(out.len() - done);
        out.copy_within(..more, done);
        done += more;
    }
}

/// Elements `at ..` of an input as f32.
fn convert(isa: Isa, data: In<'_>, at: usize, out: &mut [f32]) {
    #[inline(always)]
    fn body<S: Simd>(_: S, data: In<'_>, at: usize, out: &mut [f32]) {
        let end = at + out.len();
        for_each_type!(data, |x, to_f32| {
            for (y, &x) in out.iter_mut().zip(&x[at..end]) {
                *y = to_f32(x);
            }
        });
    }
    match data {
        In::F32(x) => out.copy_from_slice(&x[at..at + out.len()]),
        _ => dispatch!(isa, body, (data: In<'_>, at: usize, out: &mut [f32])),
    }
}

/// Writes a register to elements `place` of an output.
///
/// # Safety
/// The register holds `place.len` elements and the output has them.
unsafe fn store(value: Value, output: Output, place: Place) {
    let Place { at, len } = place;
    // SAFETY: the caller's contract. A register that is not where the output is does not overlap it.
    unsafe {
        match output {
            Output::F32(out) if value.uniform() => {
                std::slice::from_raw_parts_mut(out.add(at), len).fill(*value.ptr);
            }
            Output::F32(out) => std::ptr::copy_nonoverlapping(value.ptr, out.add(at), len),
            Output::Bool(out) => {
                let out = std::slice::from_raw_parts_mut(out.add(at), len);
                if value.uniform() {
                    out.fill(u8::from(*value.ptr != 0.0));
                } else {
                    let value = std::slice::from_raw_parts(value.ptr, len);
                    for (y, &x) in out.iter_mut().zip(value) {
                        *y = u8::from(x != 0.0);
                    }
                }
            }
        }
    }
}
