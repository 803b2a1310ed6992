//! A tensor: a reference-counted buffer, a type and a row-major shape.

use crate::dtype::{DType, Element, cast_bytes};
use crate::error::{Error, Result};
use crate::shape::{Shape, Type};
use lamina_kernels::memory::{AlignedBytes, ForeignBytes};
use std::sync::Arc;

/// The memory behind a tensor.
pub enum Buffer {
    /// Ours: may be written while only one tensor holds it.
    Owned(AlignedBytes),
    /// Lent by somebody else (a numpy array): read only.
    Foreign(ForeignBytes),
}

impl Buffer {
    /// All the bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Owned(b) => b,
            Buffer::Foreign(b) => b,
        }
    }
}

/// An immutable array in row-major order. Cloning shares the buffer; [`Tensor::bytes_mut`] copies it
/// first where it is shared.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    buffer: Arc<Buffer>,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({}, {:?})", self.dtype, self.shape)
    }
}

impl Tensor {
    /// A tensor over a buffer that has exactly the bytes it needs, suitably aligned.
    ///
    /// # Panics
    /// Where the byte counts differ or a foreign buffer is misaligned.
    pub fn new(dtype: DType, shape: &[usize], buffer: Buffer) -> Tensor {
        let bytes = buffer.bytes();
        assert_eq!(bytes.len(), shape.iter().product::<usize>() * dtype.size(), "buffer size");
        assert!(
            bytes.is_empty() || (bytes.as_ptr() as usize).is_multiple_of(dtype.size()),
            "buffer alignment"
        );
        Tensor { dtype, shape: shape.into(), buffer: Arc::new(buffer) }
    }

    /// All zero.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Tensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Tensor::new(dtype, shape, Buffer::Owned(AlignedBytes::zeroed(bytes)))
    }

    /// A copy of `data`.
    ///
    /// # Panics
    /// Where `data` and `shape` disagree.
    pub fn from_slice<T: Element>(shape: &[usize], data: &[T]) -> Tensor {
        Tensor::new(T::DTYPE, shape, Buffer::Owned(AlignedBytes::copy_of(bytemuck::cast_slice(data))))
    }

    /// One element, no axes.
    pub fn scalar<T: Element>(x: T) -> Tensor {
        Tensor::from_slice(&[], &[x])
    }

    /// `value` everywhere, converted to `dtype`.
    pub fn full(dtype: DType, shape: &[usize], value: f64) -> Tensor {
        let mut out = Tensor::zeros(dtype, shape);
        if value != 0.0 {
            out.fill(value);
        }
        out
    }

    /// All zero, or an error where the system has not so much memory.
    pub fn try_zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let bytes = shape.iter().try_fold(dtype.size(), |bytes, n| bytes.checked_mul(*n));
        let bytes = bytes.unwrap_or(usize::MAX);
        let buffer = AlignedBytes::try_zeroed(bytes).ok_or(Error::Memory { what: "elements", bytes })?;
        Ok(Tensor::new(dtype, shape, Buffer::Owned(buffer)))
    }

    /// Sets every element.
    pub fn fill(&mut self, value: f64) {
        crate::with_dtype!(self.dtype, T => self.elements_mut::<T>().fill(T::from_f64(value)));
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Axis lengths.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// dtype and axes.
    pub fn ty(&self) -> Type {
        Type::known(self.dtype, &self.shape)
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// The elements.
    ///
    /// # Panics
    /// Where `T` is not the element type.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype, "element type");
        bytemuck::cast_slice(self.bytes())
    }

    /// The raw bytes for writing; a shared or lent buffer is copied first.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let unique = matches!(Arc::get_mut(&mut self.buffer), Some(Buffer::Owned(_)));
        if !unique {
            self.buffer = Arc::new(Buffer::Owned(AlignedBytes::copy_of(self.buffer.bytes())));
        }
        match Arc::get_mut(&mut self.buffer) {
            Some(Buffer::Owned(bytes)) => bytes,
            _ => unreachable!("the buffer was just made unique"),
        }
    }

    /// The elements for writing.
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype, "element type");
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// The same elements under another shape, sharing the buffer.
    ///
    /// # Panics
    /// Where the element counts differ.
    pub fn reshaped(&self, shape: &[usize]) -> Tensor {
        assert_eq!(self.len(), shape.iter().product::<usize>(), "element count");
        Tensor { dtype: self.dtype, shape: shape.into(), buffer: self.buffer.clone() }
    }

    /// A copy with another element type (the same tensor where it already has it).
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype {
            return self.clone();
        }
        let mut out = Tensor::zeros(dtype, &self.shape);
        cast_bytes(self.dtype, self.bytes(), dtype, out.bytes_mut());
        out
    }

    /// Every element as float64.
    pub fn to_f64(&self) -> Vec<f64> {
        self.cast(DType::F64).as_slice().to_vec()
    }

    /// Whether both share one buffer.
    pub fn same_buffer(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer)
    }

    /// The buffer, for lending it to somebody else.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_copies_only_when_shared() {
        let mut a = Tensor::from_slice(&[2], &[1.0f32, 2.0]);
        let b = a.clone();
        a.elements_mut::<f32>()[0] = 9.0;
        assert_eq!(b.as_slice::<f32>(), [1.0, 2.0]);
        let before = a.bytes().as_ptr();
        a.elements_mut::<f32>()[1] = 8.0;
        assert_eq!(before, a.bytes().as_ptr());
        assert_eq!(a.as_slice::<f32>(), [9.0, 8.0]);
    }

    #[test]
    fn casting_and_scalars() {
        assert_eq!(Tensor::full(DType::F16, &[3], 1.5).to_f64(), [1.5; 3]);
        assert_eq!(Tensor::scalar(2.9f32).cast(DType::I32).as_slice::<i32>(), [2]);
    }
}
