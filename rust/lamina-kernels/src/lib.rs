//! Floor 1 of lamina: CPU kernels. Slices in, slices out.
//!
//! This crate knows no tensor, no op and no graph. It is the only crate of the workspace that uses
//! `unsafe`: SIMD intrinsics, aligned memory, disjoint writes from several threads. Every public
//! function is safe to call with any arguments: it checks its slices before it touches them.
//!
//! Every kernel takes an [`Isa`], a token that only CPU detection can make, so a caller can never
//! reach an instruction that the machine lacks, and a test can run each path that it has.

pub mod conv;
pub mod denormals;
pub mod depthwise;
pub mod elementwise;
pub mod epilogue;
pub mod gemm;
pub mod isa;
pub mod memory;
pub mod norm;
mod partition;
pub mod pool;
pub mod random;
pub mod reduce;
mod scratch;
pub mod simd;
pub mod softmax;
pub mod threads;
pub mod vmath;
mod winograd;

pub use isa::Isa;
