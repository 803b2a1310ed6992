//! The one thread pool, behind one function.
//!
//! Work is cut by the caller into tasks whose results do not depend on who runs them, so a result has the
//! same bits at any thread count. The workers are made on first use and keyed by process id: a forked
//! child makes its own. A call allocates nothing: it lends the workers a pointer to its own stack, wakes
//! them, takes part in the work, and waits.

mod distance;
mod pool;

pub(crate) use distance::sharing_pays;
use pool::{Pool, Take, Tasks};
use std::cell::Cell;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

static WANTED: AtomicUsize = AtomicUsize::new(0);
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

thread_local! {
    /// Set inside a task: a task that calls [`run`] works alone instead of waiting for its own pool.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// Whether [`hold`] is open, and the pool, once something has run on it there.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<Option<Slot>> = const { Cell::new(None) };
}

type Slot = MutexGuard<'static, Option<Pool>>;

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

/// Keeps the workers for all that `body` runs, once it has run something on them: no lock is taken for each step of a plan.
pub fn hold<R>(body: impl FnOnce() -> R) -> R {
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            HOLDS.set(false);
            HELD.take();
        }
    }
    let _release = (!HOLDS.replace(true)).then_some(Release);
    body()
}

/// The pool's slot, unless another caller has it: its job may be long, and working alone beats waiting for it.
fn slot() -> Option<Slot> {
    match POOL.try_lock() {
        Ok(slot) => Some(slot),
        // Somebody panicked who held it, between two jobs or after one: it is as it should be.
        Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Calls `task(0) .. task(tasks - 1)`, each once, on as many threads as allowed; returns when all are done.
///
/// Runs inline when there is one task or one thread, inside another task, while another caller has the
/// workers, or when no thread can be made. A panic in a task reaches the caller.
pub fn run(tasks: usize, task: impl Fn(usize) + Sync) {
    run_ranges(tasks, |range| range.for_each(&task));
}

/// [`run`] for tasks that may be done several at a time, if they follow each other: calls `task` with ranges that cover
/// `0..tasks`.
pub fn run_ranges(tasks: usize, task: impl Fn(Range<usize>) + Sync) {
    let threads = num_threads();
    if tasks == 0 {
        return;
    }
    if tasks == 1 || threads <= 1 || BUSY.get() {
        return task(0..tasks);
    }
    let run = |held: &mut Option<Slot>| match held {
        Some(slot) => run_on(slot, threads, tasks, &task),
        None => task(0..tasks),
    };
    if !HOLDS.get() {
        return run(&mut slot());
    }
    // Not borrowed meanwhile: where there is no slot, the task runs here and may come back.
    let mut held = HELD.take().or_else(slot);
    run(&mut held);
    HELD.set(held);
}

fn run_on(slot: &mut Slot, threads: usize, tasks: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
    if slot.as_ref().is_some_and(|pool| pool.threads != threads) {
        slot.take().into_iter().for_each(Pool::stop);
    }
    let pool = slot.get_or_insert_with(|| Pool::new(threads));
    distance::measure_now_and_then(pool);
    let outcome = pool.run(tasks, task);
    if !outcome.all_came && !pool.is_ours() {
        **slot = None;
    }
    if let Some(panic) = outcome.panic {
        resume_unwind(panic);
    }
}

/// The most blocks that threads share; beyond, there are enough for each to have its own.
const BLOCKS: usize = 16;

#[repr(align(64))]
struct Line<T>(T);

/// Calls `body(block, chunks)` for blocks of as many chunks each: `chunks` gives those that nobody has taken yet, until
/// none is left. What a body has prepared for its block serves all that it takes; several threads may share a block, each
/// in a `body` of its own. Each thread begins with blocks of its own.
pub(crate) fn run_chunked(
    blocks: usize,
    chunks: usize,
    body: impl Fn(usize, &mut dyn Iterator<Item = usize>) + Sync,
) {
    if blocks > BLOCKS || chunks <= 1 {
        return run(blocks, |block| body(block, &mut (0..chunks)));
    }
    let left: [Line<Tasks>; BLOCKS] = std::array::from_fn(|_| Line(Tasks::none()));
    left[..blocks].iter().for_each(|block| block.0.offer(0..chunks));
    let threads = num_threads().min(BLOCKS);
    run(threads, |thread| {
        for i in 0..blocks {
            let block = (thread * blocks / threads + i) % blocks;
            let mut taken = std::iter::from_fn(|| left[block].0.take(Take::First)).map(|chunk| chunk.start);
            if let Some(first) = taken.next() {
                body(block, &mut std::iter::once(first).chain(taken));
            }
        }
    });
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

/// Held by tests that change the number of threads, so that they do not disturb one another.
#[cfg(test)]
pub(crate) fn test_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    pool::lock(&LOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn every_task_runs_once() {
        let mut hits = vec![0u32; 1000];
        run_chunks(&mut hits, 7, |part, _| part.iter_mut().for_each(|h| *h += 1));
        assert!(hits.iter().all(|&h| h == 1));
        run(0, |_| panic!("no task, no call"));
    }

    #[test]
    fn every_chunk_is_taken_once() {
        let _guard = test_lock();
        for (threads, blocks, chunks) in [(1, 3, 4), (2, 1, 5), (3, 2, 7), (2, 20, 3), (2, 4, 1), (2, 0, 3)] {
            set_num_threads(threads);
            let hits: Vec<AtomicUsize> = (0..blocks * chunks).map(|_| AtomicUsize::new(0)).collect();
            run_chunked(blocks, chunks, |block, taken| {
                taken.for_each(|chunk| _ = hits[block * chunks + chunk].fetch_add(1, Ordering::Relaxed));
            });
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{threads} {blocks} {chunks}");
        }
        set_num_threads(0);
    }

    #[test]
    fn many_short_jobs_nested_and_from_several_threads() {
        let _guard = test_lock();
        for threads in [2, 4, 3] {
            set_num_threads(threads);
            let total = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            hold(|| run(5, |_| run(3, |_| _ = total.fetch_add(1, Ordering::Relaxed))));
                            run(5, |_| hold(|| run(3, |_| _ = total.fetch_add(1, Ordering::Relaxed))));
                        }
                    });
                }
            });
            assert_eq!(total.into_inner(), 3 * 200 * 30);
        }
        set_num_threads(0);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for holds in [false, true] {
            let job = || run(100, |i| assert!(i != 40, "task forty"));
            let result = catch_unwind(|| if holds { hold(job) } else { job() });
            assert!(result.is_err());
        }
        every_task_runs_once();
    }
}
