//! Variables: the only mutable state there is.

use crate::error::{Error, Result};
use crate::shape::{Type, show};
use crate::tensor::{Buffer, Tensor};
use lamina_kernels::gemm::{MatRef, Packing};
use lamina_kernels::memory::AlignedBytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Counts every assignment to any variable: a plan whose constants were computed at this count is current.
static ASSIGNMENTS: AtomicU64 = AtomicU64::new(1);

/// A named place for a tensor of fixed type.
#[derive(Debug)]
pub struct Variable {
    id: u64,
    ty: Type,
    value: RwLock<Stored>,
    version: AtomicU64,
}

/// How a variable lies in memory: row by row, or in the panels of a matrix that a plan of training multiplies by and
/// changes in turns, and would have to pack each time.
pub type Layout = Option<Packing>;

/// A variable's value.
#[derive(Debug)]
pub struct Stored {
    /// Its bytes are in the layout's order.
    tensor: Tensor,
    layout: Layout,
}

impl Stored {
    /// The bytes, in the layout that was asked for.
    pub fn bytes(&self) -> &[u8] {
        self.tensor.bytes()
    }

    /// [`Stored::bytes`], to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.tensor.bytes_mut()
    }

    fn lay_out(&mut self, layout: Layout) {
        if self.layout == layout {
            return;
        }
        let mut change = |to: &dyn Fn(&[f32], &mut [f32])| {
            let len = self.tensor.bytes().len();
            // All of which is written: a matrix in panels has as many elements.
            let mut bytes = AlignedBytes::try_any(len).unwrap_or_else(|| AlignedBytes::zeroed(len));
            to(self.tensor.as_slice(), bytemuck::cast_slice_mut(&mut bytes));
            self.tensor = Tensor::new(self.tensor.dtype(), self.tensor.shape(), Buffer::Owned(bytes));
        };
        if let Some(packing) = self.layout {
            change(&|packed, rows| packing.unpack(packed, rows));
        }
        if let Some(packing) = layout {
            let (rows, columns) = packing.dims();
            change(&|x, packed| packing.pack(MatRef::row_major(x, rows, columns), packed));
        }
        self.layout = layout;
    }
}

impl Variable {
    /// A new variable; its type is its first value's.
    pub fn new(value: Tensor) -> Variable {
        Variable {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            ty: value.ty(),
            value: RwLock::new(Stored { tensor: value, layout: None }),
            version: AtomicU64::new(1),
        }
    }

    /// Unique in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// dtype and shape, fixed for life.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// The present value; shares the buffer, which a later assignment will not touch.
    pub fn get(&self) -> Tensor {
        self.read(None).tensor.clone()
    }

    /// Replaces the value.
    pub fn set(&self, value: Tensor) -> Result<()> {
        if value.ty() != self.ty {
            return Err(Error::Value(format!(
                "cannot assign a {} value of shape {} to a {} variable of shape {}",
                value.dtype(),
                show(&value.ty().dims),
                self.ty.dtype,
                show(&self.ty.dims)
            )));
        }
        *self.lock() = Stored { tensor: value, layout: None };
        self.touch();
        Ok(())
    }

    /// How often it was assigned.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Shared access for the length of a run, in some layout.
    pub fn read(&self, layout: Layout) -> RwLockReadGuard<'_, Stored> {
        loop {
            let value = self.value.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            if value.layout == layout {
                return value;
            }
            drop(value);
            // Until nobody has changed it back meanwhile.
            self.lock().lay_out(layout);
        }
    }

    /// Exclusive access for the length of a run, in some layout; call [`Variable::touch`] after writing.
    pub fn write(&self, layout: Layout) -> RwLockWriteGuard<'_, Stored> {
        let mut value = self.lock();
        value.lay_out(layout);
        value
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Stored> {
        self.value.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Says that the value changed.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        ASSIGNMENTS.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of assignments to all variables so far.
    pub fn assignments() -> u64 {
        ASSIGNMENTS.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamina_kernels::Isa;

    #[test]
    fn a_value_is_the_same_in_any_layout() {
        let values: Vec<f32> = (0..5 * 64).map(|i| i as f32).collect();
        let value = Tensor::from_slice(&[5, 64], &values);
        let variable = Variable::new(value.clone());
        let packing = Packing::in_panels(Isa::best(), 5, 64);
        let packed = variable.read(Some(packing)).bytes().to_vec();
        assert!(variable.get().bytes() == value.bytes() && packed != value.bytes());
        // Who has the value keeps it.
        let before = variable.get();
        bytemuck::cast_slice_mut::<u8, f32>(variable.write(Some(packing)).bytes_mut()).fill(7.0);
        assert_eq!(before.bytes(), value.bytes());
        assert_eq!(variable.get().as_slice::<f32>(), [7.0; 5 * 64]);
        drop(variable.write(Some(packing)));
        variable.set(value.clone()).unwrap();
        assert_eq!(variable.get().bytes(), value.bytes());
    }
}
