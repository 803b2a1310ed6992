//! How multiplies are cut into tasks, and which are worth a second thread.

use crate::threads;
use std::ops::Range;

/// Nanoseconds of work that are worth waking a thread in any case.
const WAKE_NS: usize = 20_000;

/// Nanoseconds of work that are worth it where the cores are near.
const SHARED_NS: usize = 4_000;

/// Nanoseconds of a task at least, and of one that packs or splits an operand for itself.
pub(crate) const TASK_NS: usize = 5_000;
pub(super) const CHUNK_NS: usize = 10_000;

/// The most tasks for each thread.
pub(crate) const TASKS_EACH: usize = 8;

/// Chunks of columns that a block of AMX is cut into at most: threads that are done help the others.
const AMX_CHUNKS: usize = 8;

/// What one thread has to do for a multiply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// A guess at the nanoseconds: arithmetic or reading B from memory, whichever is longer.
    pub ns: usize,
    /// The same where B is near.
    least: usize,
    /// How many results there are. When the work is shared, some of them change cores, to whoever reads them next; so do
    /// operands that have been written by several threads, whoever reads them.
    results: usize,
}

impl Work {
    /// Of `m x k` by `k x n`.
    pub fn new(m: usize, n: usize, k: usize) -> Work {
        let (b, arithmetic) = (n * k, (n * k).saturating_mul(m) / 64);
        Work { ns: arithmetic.max(b / 6), least: arithmetic.max(b / 24), results: m * n }
    }

    /// The same so many times.
    pub fn times(self, n: usize) -> Work {
        let Work { ns, least, results } = self;
        Work { ns: ns.saturating_mul(n), least: least.saturating_mul(n), results: results.saturating_mul(n) }
    }

    /// Whether it pays on several threads.
    pub fn is_shared(&self) -> bool {
        self.ns >= WAKE_NS || self.least >= SHARED_NS && threads::sharing_pays(self.least, self.results)
    }
}

/// How a multiply is cut into tasks: `(row blocks, column blocks)`, as many tasks for each thread where that can be, up
/// to `each`. By rows where they are enough and `stay`: each thread then finds the rows that it has written before.
///
/// May depend on the number of threads, since the bits of an element do not depend on the cut.
pub(crate) fn grid(
    tiles: usize,
    max_tiles: usize,
    panels: usize,
    work: Work,
    each: usize,
    stay: bool,
) -> (usize, usize) {
    let mut rows = tiles.div_ceil(max_tiles);
    let threads = threads::num_threads();
    if !work.is_shared() || threads == 1 {
        return (rows, 1);
    }
    let want = (work.ns / TASK_NS).clamp(threads, each * threads);
    if tiles >= 2 * want || (stay && tiles >= 2 * threads) {
        return (rows.max(want).next_multiple_of(threads).min(tiles), 1);
    }
    let mut cols = want.div_ceil(rows).min(panels);
    if rows * cols < want {
        rows = want.div_ceil(cols).min(tiles);
    }
    if !(rows * cols).is_multiple_of(threads) {
        cols = cols.next_multiple_of(threads).min(panels);
    }
    (rows, cols)
}

/// Whether rows of A and C had better stay with their threads, if all then read all of B: what one core has written
/// reaches the other no faster than B comes from memory, and C will be read as A is.
pub(crate) fn rows_stay(m: usize, k: usize, n: usize) -> bool {
    k * n <= 2 * m * (k + n)
}

/// Chunks of its `panels` that a block of AMX with so many nanoseconds of work is cut into.
pub(crate) fn chunks(work: usize, panels: usize) -> usize {
    (work / CHUNK_NS).clamp(1, AMX_CHUNKS).min(panels)
}

/// Runs the tasks that some work was cut into, on several threads where that pays.
pub(crate) fn run_tasks(work: Work, tasks: usize, task: impl Fn(usize) + Sync) {
    run_task_ranges(work, tasks, |range| range.for_each(&task));
}

/// [`run_tasks`] for those that may be done several at a time.
pub(crate) fn run_task_ranges(work: Work, tasks: usize, task: impl Fn(Range<usize>) + Sync) {
    if tasks > 0 && !work.is_shared() { task(0..tasks) } else { threads::run_ranges(tasks, task) }
}
