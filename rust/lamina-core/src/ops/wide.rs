//! Types without kernels of their own run in float64 or int64: right, not fast.

use super::*;
use crate::dtype::cast_bytes;

impl Call<'_, '_> {
    /// Operand `i`, of the given type, converted.
    pub fn wide<T: Element>(&self, i: usize, dtype: DType) -> Vec<T> {
        let bytes = self.input_bytes(i);
        let mut wide = vec![T::from_i64(0); bytes.len() / dtype.size()];
        cast_bytes(dtype, bytes, T::DTYPE, bytemuck::cast_slice_mut(&mut wide));
        wide
    }

    /// Fills output `i`, of the given type, from converted numbers.
    pub fn fill_from<T: Element>(&mut self, i: usize, dtype: DType, wide: &[T]) {
        cast_bytes(T::DTYPE, bytemuck::cast_slice(wide), dtype, self.outputs()[i]);
    }
}
