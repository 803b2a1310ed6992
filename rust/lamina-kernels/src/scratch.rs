//! Per-thread scratch memory that is kept between calls, so that a warm kernel allocates nothing.

use crate::memory::{ALIGN, AlignedBytes};
use std::cell::RefCell;
use std::mem::MaybeUninit;

thread_local! {
    // Several and not one buffer: a kernel that holds one may run a task that takes another.
    static FREE: RefCell<Vec<AlignedBytes>> = const { RefCell::new(Vec::new()) };
}

/// Buffers above this size go back to the system after use.
const KEEP: usize = 64 << 20;

/// Calls `body` with room for `len` elements, aligned to a cache line.
pub(crate) fn with_uninit<T: Copy, R>(len: usize, body: impl FnOnce(&mut [MaybeUninit<T>]) -> R) -> R {
    const { assert!(align_of::<T>() <= ALIGN) };
    let bytes = len * size_of::<T>();
    let mut buffer = FREE.with_borrow_mut(|free| {
        // The smallest that is large enough: a large one is for whom needs it.
        let fits = (0..free.len()).filter(|&i| free[i].len() >= bytes).min_by_key(|&i| free[i].len());
        fits.map(|i| free.swap_remove(i)).unwrap_or_else(|| {
            // One that was too small goes: there are no more than the nesting is deep.
            free.pop();
            AlignedBytes::zeroed(bytes.next_multiple_of(4096))
        })
    });
    // SAFETY: aligned for T, `len` elements long, owned here; MaybeUninit asks nothing of the contents.
    let result = body(unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len) });
    if buffer.len() <= KEEP {
        FREE.with_borrow_mut(|free| free.push(buffer));
    }
    result
}

/// Calls `body` with `len` numbers whose values are unspecified.
pub(crate) fn with<T: bytemuck::Pod, R>(len: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    with_uninit(len, |slice: &mut [MaybeUninit<T>]| {
        // SAFETY: the memory was zeroed at birth and only ever written since: it is initialised, and any
        // bits are a valid T.
        body(unsafe { &mut *(slice as *mut [MaybeUninit<T>] as *mut [T]) })
    })
}

/// The elements of `slice` as written.
///
/// # Safety
/// Every element has been written.
pub(crate) unsafe fn written<T>(slice: &[MaybeUninit<T>]) -> &[T] {
    // SAFETY: MaybeUninit<T> is laid out as T, and the caller has written all of them.
    unsafe { &*(slice as *const [MaybeUninit<T>] as *const [T]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nested_buffers_are_distinct_and_reused() {
        let mut seen = [0; 2];
        for seen in &mut seen {
            super::with(100, |outer: &mut [f32]| {
                *seen = outer.as_ptr() as usize;
                outer.fill(1.0);
                super::with(50, |inner: &mut [f32]| inner.fill(2.0));
                assert!(outer.iter().all(|&x| x == 1.0));
            });
        }
        assert!(seen.iter().all(|&address| address % crate::memory::ALIGN == 0));
    }
}
