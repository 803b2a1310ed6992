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
    threads::run_ranges(tasks, |some| body(parts(0..units, tasks, some)));
}

/// Part `i` of `n` of a range, as even as can be, each stretch of parts as even too.
pub(crate) fn part(range: Range<usize>, n: usize, i: usize) -> Range<usize> {
    let at = |i: usize| range.start + i * range.len() / n;
    at(i)..at(i + 1)
}

/// All `n` parts of a range.
pub(crate) fn cuts(range: Range<usize>, n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).map(move |i| part(range.clone(), n, i))
}

/// The parts `some` of `n` of a range, as one.
pub(crate) fn parts(range: Range<usize>, n: usize, some: Range<usize>) -> Range<usize> {
    part(range.clone(), n, some.start).start..part(range, n, some.end - 1).end
}

/// The tasks `some` of a grid with `fast` of them in each row, as `(rows, columns)` that are one block each.
pub(crate) fn stretches(
    fast: usize,
    some: Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let row = |i: usize| if fast == 1 { 0 } else { i / fast };
    (row(some.start)..row(some.end - 1) + 1).map(move |i| {
        if fast == 1 {
            return (some.clone(), 0..1);
        }
        let within = |task: usize| task.clamp(i * fast, (i + 1) * fast) - i * fast;
        (i..i + 1, within(some.start)..within(some.end))
    })
}
