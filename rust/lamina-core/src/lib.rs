//! Floor 2 of lamina: tensors, ops, graph, autodiff, passes, plan, executor.
//!
//! ```text
//! trace -> Graph -> gradients (graph to graph) -> specialise -> passes -> Plan -> run
//! ```
//! An operation is one entry of [`ops::Op`]; its shape rule, gradient, lowering and test problems stand
//! together in one section of one file under `ops/`.

pub mod autodiff;
pub mod dtype;
pub mod eager;
pub mod error;
pub mod function;
pub mod graph;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod shape;
pub mod tape;
pub mod tensor;
pub mod variable;

pub use dtype::DType;
pub use error::{Error, Result, ShapeError};
pub use function::Function;
pub use graph::{Graph, Value};
pub use ops::Op;
pub use shape::{Dim, Dims, Shape, Type};
pub use tensor::Tensor;
pub use variable::Variable;
