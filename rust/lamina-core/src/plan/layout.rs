//! Placing intermediates in one arena: two may share bytes where their lifetimes do not meet.

use lamina_kernels::memory::ALIGN;
use rustc_hash::FxHashMap;

/// The steps between which a piece of memory holds something, both included.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    first: usize,
    last: usize,
}

impl Default for Lifetime {
    fn default() -> Self {
        Lifetime { first: usize::MAX, last: 0 }
    }
}

impl Lifetime {
    /// Every step.
    pub fn always() -> Self {
        Lifetime { first: 0, last: usize::MAX }
    }

    /// Whether no step was touched.
    pub fn is_empty(&self) -> bool {
        self.first > self.last
    }

    /// Extends the lifetime to a step.
    pub fn touch(&mut self, step: usize) {
        self.first = self.first.min(step);
        self.last = self.last.max(step);
    }

    fn meets(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where every piece starts.
pub struct Placement {
    /// Offset of each piece, by its number.
    pub offsets: FxHashMap<usize, usize>,
    /// Bytes in all.
    pub bytes: usize,
    /// The most bytes alive at any one step: no placement can need less.
    pub peak: usize,
}

/// Pieces that have the same memory, one after the other.
struct Column {
    start: usize,
    end: usize,
    /// In the order of time, and from the first to the last.
    lives: Vec<Lifetime>,
    hull: Lifetime,
}

impl Column {
    /// How many pieces are gone before a life begins.
    fn before(&self, life: &Lifetime) -> usize {
        self.lives.partition_point(|other| other.last < life.first)
    }

    fn meets(&self, life: &Lifetime) -> bool {
        // Most columns are told apart without a look at their pieces.
        let next = || self.lives.get(self.before(life)).is_some_and(|next| next.meets(life));
        self.hull.meets(life) && (self.lives.len() == 1 || next())
    }

    fn add(&mut self, life: Lifetime) {
        self.lives.insert(self.before(&life), life);
        self.hull.touch(life.first);
        self.hull.touch(life.last);
    }
}

/// Greedy by size (Pisarchyk & Lee 2020): the largest piece first, each at the smallest gap that fits among
/// the pieces already placed whose lifetimes it meets.
pub fn place(pieces: &[(usize, usize, Lifetime)]) -> Placement {
    let mut order: Vec<&(usize, usize, Lifetime)> = pieces.iter().collect();
    order.sort_by_key(|(i, bytes, _)| (std::cmp::Reverse(*bytes), *i));
    let mut placed: Vec<Column> = vec![]; // sorted by place
    let mut offsets = FxHashMap::default();
    let mut total = 0;
    for (i, bytes, life) in order {
        let bytes = bytes.next_multiple_of(ALIGN);
        if life.is_empty() {
            offsets.insert(*i, 0);
            total = total.max(bytes);
            continue;
        }
        let (mut cursor, mut best): (usize, Option<(usize, usize)>) = (0, None);
        for column in placed.iter().filter(|column| column.meets(life)) {
            let gap = column.start.saturating_sub(cursor);
            if gap >= bytes && best.is_none_or(|(size, _)| gap < size) {
                best = Some((gap, cursor));
            }
            cursor = cursor.max(column.end);
        }
        let start = best.map_or(cursor, |(_, at)| at);
        let end = start + bytes;
        offsets.insert(*i, start);
        total = total.max(end);
        let at = placed.partition_point(|c| (c.start, c.end) < (start, end));
        match placed.get_mut(at).filter(|c| (c.start, c.end) == (start, end) && bytes > 0) {
            Some(column) => column.add(*life),
            None => placed.insert(at, Column { start, end, lives: vec![*life], hull: *life }),
        }
    }
    Placement { offsets, bytes: total, peak: peak(pieces) }
}

fn peak(pieces: &[(usize, usize, Lifetime)]) -> usize {
    let mut events: Vec<(usize, bool, usize)> = vec![];
    for (_, bytes, life) in pieces.iter().filter(|p| p.2.first <= p.2.last) {
        events.push((life.first, true, *bytes));
        events.push((life.last.saturating_add(1), false, *bytes));
    }
    events.sort_by_key(|&(time, birth, _)| (time, birth)); // deaths before births
    let (mut alive, mut peak) = (0usize, 0);
    for (_, birth, bytes) in events {
        alive = if birth { alive + bytes } else { alive - bytes };
        peak = peak.max(alive);
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(first: usize, last: usize) -> Lifetime {
        Lifetime { first, last }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let pieces: Vec<_> = (0..10).map(|i| (i, 640, life(i, i + 1))).collect();
        let placement = place(&pieces);
        assert_eq!(placement.bytes, 1280);
        assert_eq!(placement.peak, 1280);
    }

    #[test]
    fn nothing_that_meets_overlaps() {
        let pieces: Vec<_> =
            (0..200usize).map(|i| (i, 64 * (1 + i * 7 % 13), life(i % 50, i % 50 + i * 3 % 17))).collect();
        let placement = place(&pieces);
        for (i, a) in pieces.iter().enumerate() {
            for b in &pieces[..i] {
                if a.2.meets(&b.2) {
                    let (sa, sb) = (placement.offsets[&a.0], placement.offsets[&b.0]);
                    assert!(sa + a.1 <= sb || sb + b.1 <= sa);
                }
            }
        }
        assert!(placement.bytes >= placement.peak);
    }
}
