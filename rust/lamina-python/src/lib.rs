//! Floor 3 of lamina: the PyO3 module `lamina._core`. Thin: convert, leave the interpreter, call, map errors.

use pyo3::prelude::*;

mod apply;
mod arrays;
mod direct;
mod errors;
mod function;
mod nn;
mod operand;
mod operators;
mod ops;
mod tape;
mod tensor;
mod trace;
mod variable;

/// The Rust engine of lamina.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::direct::{DirectCall, edit, edits, is_plain, set_plain};
    #[pymodule_export]
    use super::function::PyFunction;
    #[pymodule_export]
    use super::tape::PyTape;
    #[pymodule_export]
    use super::tensor::PyTensor;
    #[pymodule_export]
    use super::trace::{PyGraph, PySymbol};
    #[pymodule_export]
    use super::variable::PyVariable;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::ops::register(module)
    }
}
