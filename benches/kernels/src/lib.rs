//! The benches of `lamina-kernels`: `cargo bench -p lamina-bench-kernels [filter]`.
