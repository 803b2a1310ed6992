//! The one thread pool, behind one function.
//!
//! Work is cut by the caller into tasks whose borders do not depend on the number of threads, so a
//! result has the same bits at any thread count. The pool is made on first use and keyed by process
//! id: a forked child makes its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

static WANTED: AtomicUsize = AtomicUsize::new(0);
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

#[derive(Clone)]
struct Pool {
    pid: u32,
    threads: usize,
    rayon: Arc<rayon::ThreadPool>,
}

/// How many threads [`run`] may use: what [`set_num_threads`] asked for, else `LAMINA_NUM_THREADS`,
/// else what the scheduler's affinity mask and the cgroup quota leave to this process.
pub fn num_threads() -> usize {
    match WANTED.load(Ordering::Relaxed) {
        0 => {
            let n = default_threads();
            WANTED.store(n, Ordering::Relaxed);
            n
        }
        n => n,
    }
}

/// Sets the number of threads; 0 goes back to the default.
pub fn set_num_threads(n: usize) {
    WANTED.store(if n == 0 { default_threads() } else { n }, Ordering::Relaxed);
}

fn default_threads() -> usize {
    let asked = std::env::var("LAMINA_NUM_THREADS").ok().and_then(|v| v.parse::<usize>().ok());
    // `available_parallelism` honours both the affinity mask and cgroup quotas on Linux.
    let machine = std::thread::available_parallelism().map_or(1, |n| n.get());
    asked.filter(|&n| n > 0).unwrap_or(machine)
}

fn pool(threads: usize) -> Option<Arc<rayon::ThreadPool>> {
    let pid = std::process::id();
    let mut slot = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(pool) = slot.as_ref() {
        if pool.pid == pid && pool.threads == threads {
            return Some(pool.rayon.clone());
        }
        if pool.pid != pid {
            // The parent's workers do not exist in this process: dropping the pool would wait for them.
            std::mem::forget(slot.take());
        }
    }
    let rayon = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("lamina-{i}"))
        .build()
        .ok()?;
    let rayon = Arc::new(rayon);
    *slot = Some(Pool { pid, threads, rayon: rayon.clone() });
    Some(rayon)
}

/// Calls `task(0) .. task(tasks - 1)`, each once, on as many threads as allowed; returns when all are done.
///
/// Runs inline when there is one task or one thread, or when no thread can be made.
pub fn run(tasks: usize, task: impl Fn(usize) + Sync) {
    let threads = num_threads();
    let inline = || (0..tasks).for_each(&task);
    if tasks <= 1 || threads <= 1 {
        return inline();
    }
    match pool(threads) {
        None => inline(),
        Some(pool) => {
            let next = AtomicUsize::new(0);
            let (next, task) = (&next, &task);
            pool.in_place_scope(|scope| {
                let work = move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= tasks {
                            break;
                        }
                        task(i);
                    }
                };
                for _ in 1..threads.min(tasks) {
                    scope.spawn(move |_| work());
                }
                work();
            });
        }
    }
}

/// A slice that several tasks write at once, each its own part.
///
/// The one place where the crate hands out overlapping-looking mutable access; kernels use it for
/// tiles of a matrix, which are disjoint but not contiguous.
#[derive(Clone, Copy)]
pub struct SharedMut<'a, T> {
    ptr: *mut T,
    len: usize,
    life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a SharedMut is a `&mut [T]` whose holder promises (in `slice`, unsafe) to touch disjoint parts.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Wraps a slice for disjoint writes.
    pub fn new(slice: &'a mut [T]) -> Self {
        SharedMut { ptr: slice.as_mut_ptr(), len: slice.len(), life: std::marker::PhantomData }
    }

    /// How many elements there are in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements `start .. start + len`; panics where they leave the slice.
    ///
    /// # Safety
    /// No two live slices from one `SharedMut` may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part outside the shared slice");
        // SAFETY: in bounds by the assertion; disjoint from other parts by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// The base pointer, for kernels that write strided tiles.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.ptr
    }
}

/// Runs `body(part, start)` over consecutive parts of `out`, `chunk` elements each (the last may be shorter).
pub fn run_chunks<T: Send>(out: &mut [T], chunk: usize, body: impl Fn(&mut [T], usize) + Sync) {
    let len = out.len();
    let chunk = chunk.max(1);
    let shared = SharedMut::new(out);
    run(len.div_ceil(chunk), |i| {
        let start = i * chunk;
        // SAFETY: chunk i covers [i*chunk, (i+1)*chunk): disjoint from every other chunk.
        body(unsafe { shared.slice(start, chunk.min(len - start)) }, start);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let mut hits = vec![0u32; 1000];
        run_chunks(&mut hits, 7, |part, _| part.iter_mut().for_each(|h| *h += 1));
        assert!(hits.iter().all(|&h| h == 1));
        run(0, |_| panic!("no task, no call"));
    }
}
