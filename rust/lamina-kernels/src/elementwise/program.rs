//! Straight-line programs over registers, checked when they are made.

use super::chain::{Kind, LINKS};
use super::{Binary, Unary};

/// One instruction. Registers hold a tile of f32; a `bool` is 0 or 1 inside a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instr {
    /// Reads an input, converted to f32.
    Load {
        /// The register written.
        dst: u8,
        /// Which input.
        input: u8,
    },
    /// Reads the old contents of an output, before its `Store`: an operand updated in place.
    LoadOut {
        /// The register written.
        dst: u8,
        /// Which output.
        output: u8,
    },
    /// The number with these bits.
    Const {
        /// The register written.
        dst: u8,
        /// `f32::to_bits` of the number.
        bits: u32,
    },
    /// `dst = op(a)`
    Unary {
        /// The function.
        op: Unary,
        /// The register written.
        dst: u8,
        /// The operand.
        a: u8,
    },
    /// `dst = op(a, b)`
    Binary {
        /// The function.
        op: Binary,
        /// The register written.
        dst: u8,
        /// The first operand.
        a: u8,
        /// The second operand.
        b: u8,
    },
    /// `dst = a` where `cond` is not 0, else `b`
    Select {
        /// The register written.
        dst: u8,
        /// The condition.
        cond: u8,
        /// Taken where the condition holds.
        a: u8,
        /// Taken elsewhere.
        b: u8,
    },
    /// Writes an output: f32 as it is, `bool` as 1 where the number is not 0.
    Store {
        /// The register read.
        src: u8,
        /// Which output.
        output: u8,
    },
}

impl Instr {
    /// A constant.
    pub fn constant(dst: u8, value: f32) -> Self {
        Instr::Const { dst, bits: value.to_bits() }
    }

    pub(super) fn dst(self) -> Option<u8> {
        match self {
            Instr::Load { dst, .. }
            | Instr::LoadOut { dst, .. }
            | Instr::Const { dst, .. }
            | Instr::Unary { dst, .. }
            | Instr::Binary { dst, .. }
            | Instr::Select { dst, .. } => Some(dst),
            Instr::Store { .. } => None,
        }
    }

    fn reads(self) -> ([u8; 3], usize) {
        match self {
            Instr::Load { .. } | Instr::LoadOut { .. } | Instr::Const { .. } => ([0; 3], 0),
            Instr::Unary { a, .. } => ([a, 0, 0], 1),
            Instr::Binary { a, b, .. } => ([a, b, 0], 2),
            Instr::Select { cond, a, b, .. } => ([cond, a, b], 3),
            Instr::Store { src, .. } => ([src, 0, 0], 1),
        }
    }

    fn cost(self) -> u32 {
        match self {
            Instr::Unary { op, .. } => op.cost(),
            Instr::Binary { op, .. } => op.cost(),
            _ => 1,
        }
    }
}

/// An instruction and where its result may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub instr: Instr,
    /// For a computed register: the f32 output that it can be written to at once, without a tile.
    pub direct: Option<u8>,
    /// For `LoadOut`: the output is overwritten while the register is still needed, so copy it.
    pub copy: bool,
    /// How it may be a link of a chain: it can take over the result of the step before, or begin a chain.
    pub link: Option<LinkPlan>,
}

/// A step as a link of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LinkPlan {
    pub kind: Kind,
    /// The register whose value is passed on, and the other operand's.
    pub from: u8,
    pub operand: Option<u8>,
    /// Whether `from` is the result of the step before, stores aside.
    pub joins: bool,
    /// Whether anything but the next link wants the result.
    pub keep: bool,
}

/// A checked program, to be run by [`run`](super::run).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    pub(super) steps: Vec<Step>,
    registers: usize,
    inputs: usize,
    outputs: usize,
    pub(super) cost: u32,
    /// Whether every step can be a link of one chain, or needs no work of its own.
    pub(super) one_chain: bool,
}

impl Program {
    /// The most registers a program may use.
    pub const REGISTERS: usize = 32;
    /// The most outputs a program may write.
    pub const OUTPUTS: usize = 8;

    /// Checks a program: registers are written before they are read, each output `0..n` is stored
    /// exactly once and read only before that.
    ///
    /// # Errors
    /// A sentence that names the first instruction that breaks a rule.
    pub fn new(instrs: &[Instr]) -> Result<Program, String> {
        let mut written = [false; Self::REGISTERS];
        let mut stored = [false; Self::OUTPUTS];
        let (mut registers, mut inputs, mut outputs) = (0, 0, 0);
        for (i, &instr) in instrs.iter().enumerate() {
            let (reads, count) = instr.reads();
            for r in &reads[..count] {
                if written.get(*r as usize) != Some(&true) {
                    return Err(format!("instruction {i} reads register {r}, which nothing wrote"));
                }
            }
            if let Some(dst) = instr.dst() {
                match written.get_mut(dst as usize) {
                    Some(slot) => *slot = true,
                    None => {
                        let most = Self::REGISTERS;
                        return Err(format!("instruction {i} writes register {dst}; there are {most}"));
                    }
                }
                registers = registers.max(dst as usize + 1);
            }
            match instr {
                Instr::Load { input, .. } => inputs = inputs.max(input as usize + 1),
                Instr::LoadOut { output, .. } | Instr::Store { output, .. } => {
                    match stored.get(output as usize) {
                        None => {
                            let most = Self::OUTPUTS;
                            return Err(format!("instruction {i} names output {output}; there are {most}"));
                        }
                        Some(true) => {
                            return Err(format!("instruction {i} uses output {output} after its store"));
                        }
                        Some(false) => {}
                    }
                    if matches!(instr, Instr::Store { .. }) {
                        stored[output as usize] = true;
                    }
                    outputs = outputs.max(output as usize + 1);
                }
                _ => {}
            }
        }
        if let Some(missing) = stored[..outputs].iter().position(|&s| !s) {
            return Err(format!("output {missing} is never stored"));
        }
        let cost = instrs.iter().map(|instr| instr.cost()).sum::<u32>().max(1);
        let steps = place(instrs);
        let one_chain = one_chain(&steps);
        Ok(Program { steps, registers, inputs, outputs, cost, one_chain })
    }

    /// How many registers it uses: one more than the highest.
    pub fn registers(&self) -> usize {
        self.registers
    }

    /// How many inputs [`run`](super::run) must be given.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many outputs [`run`](super::run) must be given.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The instructions, as given.
    pub fn instrs(&self) -> impl Iterator<Item = Instr> + '_ {
        self.steps.iter().map(|step| step.instr)
    }
}

/// Decides which results go straight to their output and which old outputs must be copied first.
fn place(instrs: &[Instr]) -> Vec<Step> {
    let mut steps: Vec<Step> =
        instrs.iter().map(|&instr| Step { instr, direct: None, copy: false, link: None }).collect();
    // When each output's memory is first written: at its store, or at the step whose result it is.
    let mut overwritten = [usize::MAX; Program::OUTPUTS];
    for (at, &store) in instrs.iter().enumerate() {
        let Instr::Store { src, output } = store else { continue };
        let made =
            instrs[..at].iter().rposition(|i| i.dst() == Some(src)).expect("checked: written before read");
        let computes =
            !matches!(instrs[made], Instr::Load { .. } | Instr::LoadOut { .. } | Instr::Const { .. });
        let old_needed =
            instrs[made..at].iter().any(|i| matches!(i, Instr::LoadOut { output: o, .. } if *o == output));
        if computes && !old_needed && steps[made].direct.is_none() {
            steps[made].direct = Some(output);
            overwritten[output as usize] = made;
        } else {
            overwritten[output as usize] = at;
        }
    }
    for at in 0..instrs.len() {
        let Instr::LoadOut { dst, output } = instrs[at] else { continue };
        let end = instrs[at + 1..]
            .iter()
            .position(|i| i.dst() == Some(dst))
            .map_or(instrs.len(), |next| at + 1 + next + 1);
        // A step reads each element before it writes it, so only later steps see the new contents.
        let from = overwritten[output as usize].max(at) + 1;
        steps[at].copy = (from..end).any(|i| {
            let (reads, count) = instrs[i].reads();
            reads[..count].contains(&dst)
        });
    }
    // From behind: what the next step takes over need not be kept.
    let mut next: Option<LinkPlan> = None;
    for at in (0..instrs.len()).rev() {
        if matches!(instrs[at], Instr::Store { .. }) {
            continue;
        }
        let before = instrs[..at].iter().rev().find(|i| !matches!(i, Instr::Store { .. }));
        let mut link = link(instrs[at], before.and_then(|i| i.dst()));
        if let (Some(link), Some(dst)) = (&mut link, instrs[at].dst()) {
            let taken = next.is_some_and(|next| next.joins && next.from == dst);
            link.keep = !taken || readers(instrs, at, dst) > 1;
        }
        steps[at].link = link;
        next = link;
    }
    steps
}

/// Whether every step but reading is a link, and all of them fit one chain.
fn one_chain(steps: &[Step]) -> bool {
    // Each may begin anew with a value of its own.
    let links: usize =
        steps.iter().filter_map(|step| step.link).map(|link| 2 - usize::from(link.joins)).sum();
    // A result that lies where it was made needs no store.
    let stored_at_once = |output: u8| steps.iter().any(|step| step.direct == Some(output));
    links < LINKS
        && steps.iter().all(|step| match step.instr {
            Instr::Load { .. } | Instr::Const { .. } => true,
            Instr::LoadOut { .. } => !step.copy,
            Instr::Store { output, .. } => stored_at_once(output),
            _ => step.link.is_some(),
        })
}

/// How many instructions read what instruction `at` writes to `register`.
fn readers(instrs: &[Instr], at: usize, register: u8) -> usize {
    let mut count = 0;
    for instr in &instrs[at + 1..] {
        let (reads, n) = instr.reads();
        count += usize::from(reads[..n].contains(&register));
        if instr.dst() == Some(register) {
            break;
        }
    }
    count
}

/// The link that an instruction can be, after one that wrote register `before`.
fn link(instr: Instr, before: Option<u8>) -> Option<LinkPlan> {
    let plan =
        |kind, from, operand| LinkPlan { kind, from, operand, joins: before == Some(from), keep: true };
    match instr {
        Instr::Unary { op, a, .. } => Some(plan(Kind::unary(op)?, a, None)),
        Instr::Binary { op: Binary::Mul, a, b, .. } if a == b => Some(plan(Kind::Square, a, None)),
        Instr::Binary { a, b, .. } if a == b => None,
        Instr::Binary { op, a, b, .. } => {
            let second = before == Some(b);
            let (from, operand) = if second { (b, a) } else { (a, b) };
            Some(plan(Kind::binary(op, second)?, from, Some(operand)))
        }
        _ => None,
    }
}
