//! How far apart the cores are, in nanoseconds: what sharing a few microseconds of work costs depends on little else.
//!
//! Cores that share a cache exchange a line in 30 to 70 ns, cores that do not in 150 to 250; and the cores of a virtual
//! machine are now the one, now the other.

use super::Line;
use super::pool::Pool;
use crate::simd::LINE;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Nanoseconds that a line takes from one thread to another, as last measured.
static DISTANCE: AtomicUsize = AtomicUsize::new(60);

/// Lines that are on their way at a time, and lines that change sides one after the other for a fork and join.
const AT_A_TIME: usize = 6;
const FORK_LINES: usize = 8;

/// Jobs after which the distance is measured for the first time, when workers are awake, and between two measurements.
const FIRST: u64 = 64;
const EVERY: u64 = 4096;

/// Round trips of a measurement, and how often a thread looks for the other's answer before it gives up.
const TRIPS: u64 = 8;
const PATIENCE: usize = 1 << 10;

/// Whether it pays to share `work` nanoseconds with another thread, where so many numbers are read and written. About half
/// of these then change cores, on the way here or to whoever reads them next.
pub(crate) fn sharing_pays(work: usize, numbers: usize) -> bool {
    let distance = DISTANCE.load(Ordering::Relaxed);
    work / 2 > FORK_LINES * distance + numbers / 2 / LINE * distance / AT_A_TIME
}

/// Counts a job, and measures every few thousand of them.
pub(super) fn measure_now_and_then(pool: &mut Pool) {
    pool.jobs += 1;
    if pool.jobs == FIRST || pool.jobs.is_multiple_of(EVERY) {
        measure(pool);
    }
}

/// Sends a number to the first worker and back, some times; keeps what was known where it does not answer.
fn measure(pool: &Pool) {
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let least = AtomicU64::new(u64::MAX);
    let arrives = |line: &Line<AtomicU64>, trip: u64| {
        (0..PATIENCE).any(|_| {
            spin_loop();
            line.0.load(Ordering::Acquire) >= trip
        })
    };
    let send = || {
        for trip in 1..=TRIPS {
            let start = Instant::now();
            there.0.store(trip, Ordering::Release);
            if !arrives(&back, trip) {
                // Nobody is there. Whoever comes later need not wait.
                return there.0.store(TRIPS, Ordering::Release);
            }
            least.fetch_min(start.elapsed().as_nanos() as u64 / 2, Ordering::Relaxed);
        }
    };
    let answer = || {
        (1..=TRIPS).all(|trip| {
            let came = arrives(&there, trip);
            back.0.store(trip, Ordering::Release);
            came
        });
    };
    pool.run(2, &|tasks| tasks.for_each(|task| if task == 0 { send() } else { answer() }));
    let least = least.into_inner();
    if least < u64::MAX {
        DISTANCE.store((least as usize).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::{run, set_num_threads, test_lock};

    #[test]
    fn the_distance_is_measured_and_decides() {
        let _guard = test_lock();
        set_num_threads(2);
        (0..2 * EVERY).for_each(|_| run(2, |_| ()));
        set_num_threads(0);
        let distance = DISTANCE.load(Ordering::Relaxed);
        assert!((1..100_000).contains(&distance), "{distance} ns");
        assert!(sharing_pays(usize::MAX, 1 << 20) && !sharing_pays(0, 0) && !sharing_pays(10_000, 1 << 30));
    }
}
