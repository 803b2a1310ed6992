//! The one thread pool, behind one function.
//!
//! Work is cut by the caller into tasks whose results do not depend on who runs them, so a result has the
//! same bits at any thread count. The workers are made on first use and keyed by process id: a forked
//! child makes its own. A call allocates nothing: it lends the workers a pointer to its own stack, wakes
//! them, takes part in the work, and waits.
//!
//! A line of memory that another core has written takes 60 ns and more to arrive, and a plan of small steps forks and
//! joins every few microseconds. So all that a worker is told lies on one line, its [`Seat`], and nothing else is shared.

use crate::denormals::FlushDenormals;
use crate::partition::part;
use crate::simd::prefetch;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

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

/// The tasks of a range that nobody has taken yet.
struct Tasks {
    /// How many.
    left: AtomicUsize,
    /// The first of them, and the one after the last.
    first: AtomicUsize,
    end: AtomicUsize,
}

impl Tasks {
    fn none() -> Tasks {
        Tasks { left: AtomicUsize::new(0), first: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    fn offer(&self, range: Range<usize>) {
        self.first.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.left.store(range.len(), Ordering::Release);
    }

    fn take(&self, which: Take) -> Option<Range<usize>> {
        // As many are taken as there were: those from the front and those from the back never meet.
        let count = |left: usize| if which == Take::Half { left.div_ceil(2) } else { 1 };
        let rest = |left: usize| (left > 0).then(|| left - count(left));
        let n = count(self.left.fetch_update(Ordering::Acquire, Ordering::Acquire, rest).ok()?);
        let start = if which == Take::Last {
            self.end.fetch_sub(n, Ordering::Relaxed) - n
        } else {
            self.first.fetch_add(n, Ordering::Relaxed)
        };
        Some(start..start + n)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Take {
    /// From the first on half of them, at least one.
    Half,
    First,
    Last,
}

/// A thread's part in a job, on a cache line of its own.
///
/// Each thread has a range of the tasks to itself, the same one whenever there are as many: what it left in its
/// cache at the step before is then likely what it needs now. It takes half of those that are left at a time, as what
/// several have in common need not be done again for each. Whoever is done early helps the others, and takes their last
/// tasks one by one: at each step much the same ones, where one core is slower than another.
#[repr(align(64))]
struct Seat {
    /// One of the constants below: for the caller to set while it is not `RUNNING`, then for the worker.
    state: AtomicU8,
    tasks: Tasks,
    /// Written by the caller, in a state in which no worker reads it.
    job: UnsafeCell<Option<Job>>,
}

/// What is to be done with each task, and by how many threads. Borrowed from the caller's stack for as long as a seat
/// can become or is `RUNNING`.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(Range<usize>) + Sync),
    threads: usize,
}

/// Nothing to do, or all done.
const IDLE: u8 = 0;
/// Nothing to do, and not looking: to be woken.
const ASLEEP: u8 = 1;
/// There is a job. The caller may take it back from a worker that comes too late: it never waits for one that did nothing.
const POSTED: u8 = 2;
/// The worker is in the job.
const RUNNING: u8 = 3;
/// There will be no more jobs.
const STOPPED: u8 = 4;

// SAFETY: the task a seat points to is Sync; `job` is written by the one caller (who holds POOL) before POSTED is stored,
// and read by the worker after it has turned POSTED into RUNNING, until it stores IDLE: never both at once.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

/// How often a worker looks for the next job at full speed: some microseconds, the gap between two kernels
/// of a plan. After that it lets others run, and looks again whenever it is its turn.
const SPINS: usize = 1 << 9;

/// How long before it sleeps: to wake a sleeper costs some tens of microseconds in a virtual machine.
const AWAKE: Duration = Duration::from_micros(200);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The seats of a pool: the caller's first, then one for each worker.
struct Seats {
    seats: Vec<Seat>,
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Seats {
    fn new(threads: usize) -> Self {
        let seat = |_| Seat { state: AtomicU8::new(IDLE), tasks: Tasks::none(), job: UnsafeCell::new(None) };
        Seats {
            seats: (0..threads).map(seat).collect(),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// Takes part in a job, as one thread of several.
    fn work(&self, thread: usize, threads: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
        let was = BUSY.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            for k in 0..threads {
                let tasks = &self.seats[(thread + k) % threads].tasks;
                let which = if k == 0 { Take::Half } else { Take::Last };
                while let Some(range) = tasks.take(which) {
                    if k == 0 && thread > 0 && tasks.left.load(Ordering::Relaxed) == 0 {
                        // Where to look for more, when this is done.
                        prefetch((&raw const self.seats[(thread + 1) % threads]).cast());
                    }
                    task(range);
                }
            }
        }));
        BUSY.set(was);
        if let Err(panic) = result {
            self.seats.iter().for_each(|seat| seat.tasks.left.store(0, Ordering::Relaxed));
            lock(&self.panic).get_or_insert(panic);
            self.panicked.store(true, Ordering::Release);
        }
    }

    /// The life of a worker.
    fn serve(&self, thread: usize) {
        let _flush = FlushDenormals::start();
        let seat = &self.seats[thread];
        loop {
            let (mut spins, mut since) = (0, None);
            loop {
                match seat.state.load(Ordering::Relaxed) {
                    POSTED => break,
                    STOPPED => return,
                    _ => {}
                }
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                } else if since.get_or_insert_with(Instant::now).elapsed() < AWAKE {
                    std::thread::yield_now();
                } else if seat.becomes(IDLE, ASLEEP) {
                    while seat.state.load(Ordering::Relaxed) == ASLEEP {
                        std::thread::park();
                    }
                    (spins, since) = (0, None);
                }
            }
            if seat.becomes(POSTED, RUNNING) {
                // SAFETY: RUNNING, so the caller has written the job and waits, with its task, for this seat.
                let job = unsafe { *seat.job.get() };
                if let Some(Job { task, threads }) = job {
                    // SAFETY: as above.
                    self.work(thread, threads, unsafe { &*task });
                }
                seat.state.store(IDLE, Ordering::Release);
            }
        }
    }
}

impl Seat {
    fn becomes(&self, now: u8, then: u8) -> bool {
        self.state.compare_exchange(now, then, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Waits for the worker, or takes the job back: whether it had come.
    fn close(&self) -> bool {
        let mut spins = 0;
        loop {
            match self.state.load(Ordering::Acquire) {
                POSTED if self.becomes(POSTED, IDLE) => return false,
                POSTED | RUNNING => {}
                _ => return true,
            }
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

struct Pool {
    pid: u32,
    /// What was asked for: there are fewer seats where the system gave no more, and asking again would not help.
    threads: usize,
    seats: Arc<Seats>,
    workers: Vec<Thread>,
}

impl Pool {
    fn new(threads: usize) -> Pool {
        let seats = Arc::new(Seats::new(threads));
        let worker = |i| {
            let mine = seats.clone();
            let name = format!("lamina-{i}");
            let handle = std::thread::Builder::new().name(name).spawn(move || mine.serve(i));
            handle.ok().map(|handle| handle.thread().clone())
        };
        let workers = (1..threads).map_while(worker).collect();
        Pool { pid: std::process::id(), threads, seats, workers }
    }

    /// Gives each thread its tasks, takes part, and waits for the others: whether they all came.
    fn run(&self, tasks: usize, task: &(dyn Fn(Range<usize>) + Sync)) -> bool {
        let threads = tasks.min(self.workers.len() + 1);
        let seats = &self.seats.seats[..threads];
        // SAFETY: only the lifetime is new. Seats point to the task until they are closed, below, before it ends.
        let lent = unsafe {
            std::mem::transmute::<&(dyn Fn(Range<usize>) + Sync), *const (dyn Fn(Range<usize>) + Sync)>(task)
        };
        for (i, worker) in (1..threads).zip(&self.workers) {
            let seat = &seats[i];
            seat.tasks.offer(part(0..tasks, threads, i));
            // SAFETY: the seat is IDLE or ASLEEP since it was closed: its worker does not read the job.
            unsafe { *seat.job.get() = Some(Job { task: lent, threads }) };
            let asleep = seat.state.load(Ordering::Relaxed) == ASLEEP;
            seat.state.store(POSTED, Ordering::Release);
            if asleep {
                worker.unpark();
            }
        }
        // After those for whom others wait.
        seats[0].tasks.offer(part(0..tasks, threads, 0));
        self.seats.work(0, threads, task);
        let mut all_came = true;
        for (seat, worker) in seats[1..].iter().zip(&self.workers) {
            if !seat.close() {
                // It may have fallen asleep while the job was being posted.
                worker.unpark();
                all_came = false;
            }
        }
        all_came
    }

    fn stop(self) {
        // In a forked child the workers do not exist, and their locks may be held for ever.
        if self.pid == std::process::id() {
            for (seat, worker) in self.seats.seats[1..].iter().zip(&self.workers) {
                seat.state.store(STOPPED, Ordering::Release);
                worker.unpark();
            }
        }
    }
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
    let all_came = pool.run(tasks, task);
    let panicked = pool.seats.panicked.load(Ordering::Acquire);
    let panic = if panicked { lock(&pool.seats.panic).take() } else { None };
    if panicked {
        pool.seats.panicked.store(false, Ordering::Release);
    }
    if !all_came && pool.pid != std::process::id() {
        // A forked child: there are no workers.
        **slot = None;
    }
    if let Some(panic) = panic {
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
