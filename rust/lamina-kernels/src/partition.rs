//! How work is cut into tasks, and how many small units of it make one.

use crate::threads;
use std::ops::Range;

/// Below this much work (about one element read each) a task is not worth a thread.
const GRAIN: usize = 1 << 15;
/// More tasks than threads, so that an uneven start evens out.
const MOST_TASKS: usize = 64;

/// Calls `body` over ranges that cover `0..units`, in parallel where `units * work` is worth it.
///
/// How units are grouped must not matter to the result; what happens inside one is fixed.
pub(crate) fn ranges(units: usize, work: usize, body: impl Fn(Range<usize>) + Sync) {
    let tasks = (units.saturating_mul(work) / GRAIN).clamp(1, MOST_TASKS.min(units.max(1)));
    if tasks == 1 {
        return body(0..units);
    }
    threads::run(tasks, |task| body(part(0..units, tasks, task)));
}

/// Part `i` of `n` of a range, as even as can be, each stretch of parts as even too.
pub(crate) fn part(range: Range<usize>, n: usize, i: usize) -> Range<usize> {
    let at = |i: usize| range.start + i * range.len() / n;
    at(i)..at(i + 1)
}
