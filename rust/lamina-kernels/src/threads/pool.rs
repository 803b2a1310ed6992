//! The workers, and how they are told what to do.
//!
//! A line of memory that another core has written takes 60 ns and more to arrive, and a plan of small steps forks and
//! joins every few microseconds. So all that a worker is told lies on one line, its [`Seat`], and nothing else is shared.

use super::BUSY;
use crate::denormals::FlushDenormals;
use crate::partition::part;
use crate::simd::prefetch;
use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The tasks of a range that nobody has taken yet.
pub(super) struct Tasks {
    /// How many.
    left: AtomicUsize,
    /// The first of them, and the one after the last.
    first: AtomicUsize,
    end: AtomicUsize,
}

impl Tasks {
    pub fn none() -> Tasks {
        Tasks { left: AtomicUsize::new(0), first: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    /// Offers a range, when the one before is used up.
    pub fn offer(&self, range: Range<usize>) {
        self.first.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.left.store(range.len(), Ordering::Release);
    }

    /// Takes some of them, unless none is left.
    pub fn take(&self, which: Take) -> Option<Range<usize>> {
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
pub(super) enum Take {
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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

/// Who does the work of one process.
pub(super) struct Pool {
    pid: u32,
    /// What was asked for: there are fewer workers where the system gave no more, and asking again would not help.
    pub threads: usize,
    seats: Arc<Seats>,
    workers: Vec<Thread>,
    /// How many jobs there have been.
    pub jobs: u64,
}

/// How a job ended.
pub(super) struct Outcome {
    /// Whether all workers had come: none does in a forked child, which has none.
    pub all_came: bool,
    /// What the first task that panicked threw.
    pub panic: Option<Box<dyn Any + Send>>,
}

impl Pool {
    pub fn new(threads: usize) -> Pool {
        let seats = Arc::new(Seats::new(threads));
        let worker = |i| {
            let mine = seats.clone();
            let name = format!("lamina-{i}");
            let handle = std::thread::Builder::new().name(name).spawn(move || mine.serve(i));
            handle.ok().map(|handle| handle.thread().clone())
        };
        let workers = (1..threads).map_while(worker).collect();
        Pool { pid: std::process::id(), threads, seats, workers, jobs: 0 }
    }

    /// Whether this is the process that made it.
    pub fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Gives each thread its tasks, takes part, and waits for the others.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(Range<usize>) + Sync)) -> Outcome {
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
        // Only looked at, as a rule: no lock is taken.
        let panicked =
            self.seats.panicked.load(Ordering::Acquire) && self.seats.panicked.swap(false, Ordering::AcqRel);
        Outcome { all_came, panic: if panicked { lock(&self.seats.panic).take() } else { None } }
    }

    pub fn stop(self) {
        // In a forked child the workers do not exist, and their locks may be held for ever.
        if self.is_ours() {
            for (seat, worker) in self.seats.seats[1..].iter().zip(&self.workers) {
                seat.state.store(STOPPED, Ordering::Release);
                worker.unpark();
            }
        }
    }
}
