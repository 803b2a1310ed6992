//! The one thread pool, behind one function.
//!
//! Work is cut by the caller into tasks whose results do not depend on who runs them, so a result has the
//! same bits at any thread count. The workers are made on first use and keyed by process id: a forked
//! child makes its own. A call allocates nothing: it lends the workers a pointer to its own stack, wakes
//! them, takes part in the work, and waits.

use crate::denormals::FlushDenormals;
use crate::partition::part;
use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static WANTED: AtomicUsize = AtomicUsize::new(0);
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

thread_local! {
    /// Set inside a task: a task that calls [`run`] works alone instead of waiting for its own pool.
    static BUSY: Cell<bool> = const { Cell::new(false) };
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

/// One call of [`run`], on the caller's stack.
///
/// Each thread has a range of the tasks to itself, the same one whenever there are as many: what it left in its
/// cache at the step before is then likely what it needs now. Whoever is done early helps the others, and takes their
/// last tasks first: at each step much the same ones, where one core is slower than another.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    ranges: usize,
    range: [Tasks; RANGES],
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The most ranges; more threads than this share them.
const RANGES: usize = 16;

/// The tasks of a range that nobody has taken yet, on a cache line of their own.
#[repr(align(64))]
struct Tasks {
    /// How many; negative once somebody has asked for more.
    left: AtomicIsize,
    /// The first of them, and the one after the last.
    first: AtomicUsize,
    end: AtomicUsize,
}

impl Tasks {
    fn new(range: Range<usize>) -> Tasks {
        let left = AtomicIsize::new(range.len() as isize);
        Tasks { left, first: AtomicUsize::new(range.start), end: AtomicUsize::new(range.end) }
    }

    /// Takes the first one, or the last.
    fn take(&self, last: bool) -> Option<usize> {
        // As many take one as there were: those from the front and those from the back never meet.
        (self.left.fetch_sub(1, Ordering::Relaxed) > 0).then(|| {
            if last {
                self.end.fetch_sub(1, Ordering::Relaxed) - 1
            } else {
                self.first.fetch_add(1, Ordering::Relaxed)
            }
        })
    }
}

impl<'a> Job<'a> {
    fn new(task: &'a (dyn Fn(usize) + Sync), tasks: usize, threads: usize) -> Self {
        let ranges = threads.min(RANGES);
        // What lies beyond the ranges is empty.
        let range =
            std::array::from_fn(|i| Tasks::new(if i < ranges { part(0..tasks, ranges, i) } else { 0..0 }));
        Job { task, ranges, range, panic: Mutex::new(None) }
    }

    /// Takes part, as one thread of several.
    fn work(&self, thread: usize) {
        let was = BUSY.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            for k in 0..self.ranges {
                let range = &self.range[(thread + k) % self.ranges];
                while let Some(i) = range.take(k > 0) {
                    (self.task)(i);
                }
            }
        }));
        BUSY.set(was);
        if let Err(panic) = result {
            self.range.iter().for_each(|range| range.left.store(0, Ordering::Relaxed));
            lock(&self.panic).get_or_insert(panic);
        }
    }
}

/// What the caller and the workers share.
struct Shared {
    /// Counts jobs: a worker looks for work each time it changes.
    epoch: AtomicUsize,
    /// The current job, a `*const Job`; valid while `entered` is open or not zero.
    job: AtomicUsize,
    /// How many workers are in the job, and [`CLOSED`] once nobody may enter any more. A worker that
    /// wakes too late finds the door closed: the caller never waits for one that did nothing.
    entered: AtomicUsize,
    stop: AtomicBool,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often a worker looks for the next job at full speed: some microseconds, the gap between two kernels
/// of a plan. After that it lets others run, and looks again whenever it is its turn.
const SPINS: usize = 1 << 9;

/// How long before it sleeps: to wake a sleeper costs some tens of microseconds in a virtual machine.
const AWAKE: Duration = Duration::from_micros(200);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn worker(&self, thread: usize) {
        let _flush = FlushDenormals::start();
        let mut seen = 0;
        loop {
            let (mut spins, mut since) = (0, None);
            while self.epoch.load(Ordering::Acquire) == seen {
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                if since.get_or_insert_with(Instant::now).elapsed() < AWAKE {
                    std::thread::yield_now();
                    continue;
                }
                let mut sleepers = lock(&self.sleepers);
                *sleepers += 1;
                while self.epoch.load(Ordering::Acquire) == seen {
                    sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
                }
                *sleepers -= 1;
            }
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            seen = self.epoch.load(Ordering::Acquire);
            let enter = |count: usize| (count & CLOSED == 0).then_some(count + 1);
            if self.entered.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok() {
                let job = self.job.load(Ordering::Acquire) as *const Job;
                // SAFETY: this worker is counted in `entered`, and `finish` keeps the job's stack frame
                // until the count is zero.
                unsafe { &*job }.work(thread);
                self.entered.fetch_sub(1, Ordering::Release);
            }
        }
    }

    fn ring(&self, wanted: usize) {
        // Under the lock, so that a worker on its way to sleep either sees the epoch or hears the bell.
        let sleepers = lock(&self.sleepers);
        self.epoch.fetch_add(1, Ordering::Release);
        for _ in 0..wanted.min(*sleepers) {
            self.wake.notify_one();
        }
    }

    fn announce(&self, job: &Job, wanted: usize) {
        self.job.store(job as *const Job as usize, Ordering::Release);
        self.entered.store(0, Ordering::Release);
        self.ring(wanted);
    }

    fn finish(&self) {
        self.entered.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0;
        while self.entered.load(Ordering::Acquire) != CLOSED {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

struct Pool {
    pid: u32,
    threads: usize,
    shared: Arc<Shared>,
}

impl Pool {
    fn new(threads: usize) -> Option<Pool> {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: AtomicUsize::new(0),
            entered: AtomicUsize::new(CLOSED),
            stop: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        });
        let mut made = 1;
        while made < threads {
            let mine = shared.clone();
            let name = format!("lamina-{made}");
            match std::thread::Builder::new().name(name).spawn(move || mine.worker(made)) {
                Ok(_) => made += 1,
                Err(_) => break,
            }
        }
        // `threads` is what was asked for: asking again would not make more.
        (made > 1).then_some(Pool { pid: std::process::id(), threads, shared })
    }

    fn stop(self) {
        // In a forked child the workers do not exist, and their locks may be held for ever.
        if self.pid == std::process::id() {
            self.shared.stop.store(true, Ordering::Release);
            self.shared.ring(self.threads);
        }
    }
}

/// Calls `task(0) .. task(tasks - 1)`, each once, on as many threads as allowed; returns when all are done.
///
/// Runs inline when there is one task or one thread, inside another task, while another caller has the
/// workers, or when no thread can be made. A panic in a task reaches the caller.
pub fn run(tasks: usize, task: impl Fn(usize) + Sync) {
    let threads = num_threads();
    let inline = || (0..tasks).for_each(&task);
    if tasks <= 1 || threads <= 1 || BUSY.get() {
        return inline();
    }
    // Another thread's job may be long: working alone beats waiting for it.
    let Ok(mut slot) = POOL.try_lock() else { return inline() };
    if slot.as_ref().is_none_or(|pool| pool.threads != threads || pool.pid != std::process::id()) {
        if let Some(old) = slot.take() {
            old.stop();
        }
        *slot = Pool::new(threads);
    }
    let Some(pool) = slot.as_ref() else {
        drop(slot);
        return inline();
    };
    let job = Job::new(&task, tasks, threads);
    pool.shared.announce(&job, threads.min(tasks) - 1);
    job.work(0);
    pool.shared.finish();
    drop(slot);
    if let Some(panic) = lock(&job.panic).take() {
        resume_unwind(panic);
    }
}

/// Calls `body(block, chunks)` for blocks of as many chunks each: `chunks` gives those that nobody has taken yet, until
/// none is left. What a body has prepared for its block serves all that it takes; several threads may share a block, each
/// in a `body` of its own. Each thread begins with blocks of its own.
pub(crate) fn run_chunked(
    blocks: usize,
    chunks: usize,
    body: impl Fn(usize, &mut dyn Iterator<Item = usize>) + Sync,
) {
    if blocks > RANGES || chunks <= 1 {
        return run(blocks, |block| body(block, &mut (0..chunks)));
    }
    let left: [Tasks; RANGES] = std::array::from_fn(|_| Tasks::new(0..chunks));
    let threads = num_threads().min(RANGES);
    run(threads, |thread| {
        for i in 0..blocks {
            let block = (thread * blocks / threads + i) % blocks;
            let mut taken = std::iter::from_fn(|| left[block].take(false));
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
    lock(&LOCK)
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
                            run(5, |_| run(3, |_| _ = total.fetch_add(1, Ordering::Relaxed)));
                        }
                    });
                }
            });
            assert_eq!(total.into_inner(), 3 * 200 * 15);
        }
        set_num_threads(0);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let result = catch_unwind(|| run(100, |i| assert!(i != 40, "task forty")));
        assert!(result.is_err());
        every_task_runs_once();
    }
}
