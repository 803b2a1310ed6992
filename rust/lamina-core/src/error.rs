//! Errors are data; only `Display` renders them.

use crate::shape::{Dims, show};
use std::fmt;

/// An operation refused its operands, before anything was computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShapeError {
    /// The op's name, as Keras spells it.
    pub op: String,
    /// Which operand or attribute is at fault (`"x"`, `"kernel"`, `"axis"`), if one is.
    pub argument: Option<String>,
    /// What was wrong, in one line: the searchable fragment.
    pub message: String,
    /// The shapes that came in, in order.
    pub got: Vec<Dims>,
    /// What would have been accepted, in words.
    pub expected: Option<String>,
    /// A fix that can be pasted, if there is an obvious one.
    pub fix: Option<String>,
}

impl ShapeError {
    /// An error of `op` with its one-line reason.
    pub fn new(op: impl Into<String>, message: impl Into<String>) -> Self {
        ShapeError { op: op.into(), message: message.into(), ..Default::default() }
    }

    /// Names the operand at fault.
    pub fn argument(mut self, name: impl Into<String>) -> Self {
        self.argument = Some(name.into());
        self
    }

    /// Adds an operand's shape.
    pub fn got(mut self, dims: &[crate::shape::Dim]) -> Self {
        self.got.push(dims.into());
        self
    }

    /// Says what would have been accepted.
    pub fn expected(mut self, words: impl Into<String>) -> Self {
        self.expected = Some(words.into());
        self
    }

    /// Offers a fix.
    pub fn fix(mut self, words: impl Into<String>) -> Self {
        self.fix = Some(words.into());
        self
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, self.message)?;
        if !self.got.is_empty() {
            let shapes: Vec<String> = self.got.iter().map(|d| show(d)).collect();
            write!(f, "\n  got: {}", shapes.join(", "))?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ShapeError {}

/// Anything else that can go wrong when a function is made or run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Operands do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A caller's mistake that is not about shapes.
    #[error("{0}")]
    Value(String),
    /// An element outside its allowed range, found while running (an embedding id, a label).
    #[error("{0}")]
    Index(String),
    /// The system has not so much memory.
    #[error("{what} take {:.1} GB, and the system has not so much memory left", *bytes as f64 / 1e9)]
    Memory {
        /// What was to be allocated, in the plural.
        what: &'static str,
        /// How much of it.
        bytes: usize,
    },
}

/// What fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
