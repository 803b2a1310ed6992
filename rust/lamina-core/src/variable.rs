//! Variables: the only mutable state there is.

use crate::error::{Error, Result};
use crate::shape::{Type, show};
use crate::tensor::Tensor;
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
    value: RwLock<Tensor>,
    version: AtomicU64,
}

impl Variable {
    /// A new variable; its type is its first value's.
    pub fn new(value: Tensor) -> Variable {
        Variable {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            ty: value.ty(),
            value: RwLock::new(value),
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
        self.read().clone()
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
        *self.write() = value;
        self.touch();
        Ok(())
    }

    /// How often it was assigned.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Shared access for the length of a run.
    pub fn read(&self) -> RwLockReadGuard<'_, Tensor> {
        self.value.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Exclusive access for the length of a run; call [`Variable::touch`] after writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, Tensor> {
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
