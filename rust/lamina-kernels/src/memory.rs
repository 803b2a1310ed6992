//! Aligned memory, and one arena cut into disjoint views.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

/// Every buffer starts on a cache line, which is also the width of an AVX-512 register.
pub const ALIGN: usize = 64;

/// Blocks from this size on are kept when they are freed, up to so many bytes in all, the latest ones: memory fresh from
/// the system costs more to touch for the first time than most kernels take to fill it.
const KEPT_FROM: usize = 32 << 10;
const KEPT_AT_MOST: usize = 32 << 20;

/// Within a large page, memory is as contiguous for the caches as it looks: scattered small pages crowd some sets of L2 and
/// leave others empty, and weights of two thirds of it do not stay (one row by 784 x 512 and 512 x 512: 17 -> 14 us).
const LARGE_PAGE: usize = 2 << 20;

static KEPT: Mutex<Kept> = Mutex::new(Kept(VecDeque::new()));

/// Freed blocks, the oldest first.
struct Kept(VecDeque<AlignedBytes>);

impl Kept {
    fn take(&mut self, len: usize) -> Option<AlignedBytes> {
        let capacity = AlignedBytes::capacity(len);
        let fits = self.0.iter().rposition(|block| block.capacity == capacity)?;
        let block = self.0.remove(fits);
        block.map(|mut block| {
            block.len = len;
            block
        })
    }

    fn put(&mut self, block: AlignedBytes) {
        self.0.push_back(block);
        let mut total: usize = self.0.iter().map(|block| block.capacity).sum();
        while total > KEPT_AT_MOST {
            let Some(mut oldest) = self.0.pop_front() else { break };
            total -= oldest.capacity;
            oldest.release();
        }
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A heap block of bytes that starts on a 64-byte border.
pub struct AlignedBytes {
    ptr: NonNull<u8>,
    len: usize,
    /// Bytes that are there, all of them initialised.
    capacity: usize,
}

// SAFETY: AlignedBytes owns its memory like a Vec<u8> does.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        Self::try_zeroed(len).unwrap_or_else(|| Self::fail(len))
    }

    /// `len` zero bytes, or `None` where the system has not so many.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        Self::allocate(len, Self::capacity(len))
    }

    /// [`try_zeroed`](Self::try_zeroed) for what stays and is used again and again: from half a large page on in whole ones.
    pub fn try_lasting(len: usize) -> Option<Self> {
        let large = len >= LARGE_PAGE / 2;
        let capacity = if large { len.checked_next_multiple_of(LARGE_PAGE)? } else { Self::capacity(len) };
        Self::allocate(len, capacity)
    }

    fn allocate(len: usize, capacity: usize) -> Option<Self> {
        if capacity == 0 {
            return Some(AlignedBytes { ptr: NonNull::<Line>::dangling().cast(), len, capacity });
        }
        let layout = Self::layout(capacity)?;
        // SAFETY: the layout has a size above zero.
        let ptr = NonNull::new(unsafe { alloc(layout) })?;
        if layout.align() == LARGE_PAGE {
            ask_for_large_pages(ptr, capacity);
        }
        // SAFETY: as many bytes were allocated.
        unsafe { ptr.write_bytes(0, capacity) };
        Some(AlignedBytes { ptr, len, capacity })
    }

    /// `len` bytes of any values, for whoever writes them all, or `None` where the system has not so many.
    pub fn try_any(len: usize) -> Option<Self> {
        let kept = if len < KEPT_FROM { None } else { kept().take(len) };
        let mut block = kept.map_or_else(|| Self::try_zeroed(len), Some)?;
        if cfg!(debug_assertions) {
            // Whoever counts on zeros finds none.
            block.fill(0xa5);
        }
        Some(block)
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut new = Self::try_any(bytes.len()).unwrap_or_else(|| Self::fail(bytes.len()));
        new.copy_from_slice(bytes);
        new
    }

    fn fail(len: usize) -> ! {
        handle_alloc_error(Self::layout(Self::capacity(len)).unwrap_or(Layout::new::<Line>()))
    }

    /// Bytes that are there for `len` of them: those that may be kept come in whole pages, so that they fit more often.
    fn capacity(len: usize) -> usize {
        if len < KEPT_FROM { len } else { len.checked_next_multiple_of(4096).unwrap_or(len) }
    }

    fn layout(capacity: usize) -> Option<Layout> {
        let align = if capacity < LARGE_PAGE { ALIGN } else { LARGE_PAGE };
        Layout::from_size_align(capacity, align).ok()
    }

    /// Gives the memory back to the system.
    fn release(&mut self) {
        if let Some(layout) = Self::layout(self.capacity).filter(|layout| layout.size() > 0) {
            // SAFETY: allocated in `allocate` with this very layout.
            unsafe { dealloc(self.ptr.as_ptr(), layout) }
        }
        (self.len, self.capacity) = (0, 0);
    }
}

/// Advice, which the system may follow: no error is of interest.
fn ask_for_large_pages(ptr: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the range is allocated memory of ours, from a page's start on; what it holds stays as it is.
    unsafe {
        libc::madvise(ptr.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (ptr, len);
}

#[repr(align(64))]
struct Line;

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: ptr owns len initialised bytes: zeroed at birth, all the capacity of them.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and &mut self is unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.capacity < KEPT_FROM || self.capacity > KEPT_AT_MOST {
            return self.release();
        }
        kept().put(AlignedBytes { ptr: self.ptr, len: self.len, capacity: self.capacity });
    }
}

/// Bytes that somebody else owns (a numpy array, a DLPack capsule), kept alive with their owner.
pub struct ForeignBytes {
    ptr: *const u8,
    len: usize,
    _owner: Box<dyn Send + Sync>,
}

// SAFETY: the bytes are only read, and the owner that keeps them alive is Send + Sync.
unsafe impl Send for ForeignBytes {}
// SAFETY: as above.
unsafe impl Sync for ForeignBytes {}

impl ForeignBytes {
    /// Takes `len` bytes at `ptr` on loan for as long as `owner` lives.
    ///
    /// # Safety
    /// The bytes must stay valid and initialised while `owner` is alive.
    pub unsafe fn new(ptr: *const u8, len: usize, owner: Box<dyn Send + Sync>) -> Self {
        // A slice of no bytes has an address too, and readers of wider elements want it aligned.
        let ptr = if len == 0 { NonNull::<Line>::dangling().as_ptr().cast() } else { ptr };
        ForeignBytes { ptr, len, _owner: owner }
    }
}

impl std::ops::Deref for ForeignBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `new`'s contract; no bytes may be read from any aligned address.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// A byte range of one of the memory blocks a plan step may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Which block: an index into the [`Frame`].
    pub block: u32,
    /// First byte.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

/// The views one step reads and writes, checked once to be disjoint where one of them is written.
#[derive(Clone, Debug)]
pub struct Views {
    reads: Vec<Span>,
    writes: Vec<Span>,
}

impl Views {
    /// Fails (returns `None`) where a written span overlaps any other span of the step.
    pub fn new(reads: Vec<Span>, writes: Vec<Span>) -> Option<Views> {
        let overlap =
            |a: &Span, b: &Span| a.block == b.block && a.start < b.start + b.len && b.start < a.start + a.len;
        for (i, w) in writes.iter().enumerate() {
            if reads.iter().any(|r| overlap(w, r)) || writes[..i].iter().any(|o| overlap(w, o)) {
                return None;
            }
        }
        Some(Views { reads, writes })
    }

    /// The spans read.
    pub fn reads(&self) -> &[Span] {
        &self.reads
    }

    /// The spans written.
    pub fn writes(&self) -> &[Span] {
        &self.writes
    }
}

/// One memory block lent to a [`Frame`].
pub enum Block<'a> {
    /// May only be read.
    Shared(&'a [u8]),
    /// May be read and written.
    Mut(&'a mut [u8]),
}

#[derive(Clone, Copy)]
struct RawBlock {
    ptr: *mut u8,
    len: usize,
    writable: bool,
}

/// The memory blocks of one run of a plan. Steps borrow views from it, one step at a time.
pub struct Frame<'a> {
    /// The first few blocks: a small plan allocates nothing for its frame.
    first: [RawBlock; FIRST],
    count: usize,
    others: Vec<RawBlock>,
    life: std::marker::PhantomData<&'a mut [u8]>,
}

const FIRST: usize = 8;

impl Default for Frame<'_> {
    fn default() -> Self {
        let none = RawBlock { ptr: std::ptr::null_mut(), len: 0, writable: false };
        Frame { first: [none; FIRST], count: 0, others: Vec::new(), life: std::marker::PhantomData }
    }
}

impl<'a> Frame<'a> {
    /// Lends a block; its index is the number of blocks lent before.
    pub fn push(&mut self, block: Block<'a>) {
        let block = match block {
            // A shared block is never written: `views` refuses.
            Block::Shared(s) => RawBlock { ptr: s.as_ptr().cast_mut(), len: s.len(), writable: false },
            Block::Mut(s) => RawBlock { ptr: s.as_mut_ptr(), len: s.len(), writable: true },
        };
        match self.first.get_mut(self.count) {
            Some(slot) => *slot = block,
            None => self.others.push(block),
        }
        self.count += 1;
    }

    fn block(&self, i: usize) -> RawBlock {
        assert!(i < self.count, "a step's view is of a block that was not lent");
        if i < FIRST { self.first[i] } else { self.others[i - FIRST] }
    }

    /// Calls `body` with the read views and the written views of one step.
    pub fn with<R>(&mut self, views: &Views, body: impl FnOnce(&[&[u8]], &mut [&mut [u8]]) -> R) -> R {
        const INLINE: usize = 12;
        let find = |span: &Span| {
            let block = self.block(span.block as usize);
            assert!(
                span.start <= block.len && span.len <= block.len - span.start,
                "a step's view leaves its block"
            );
            block
        };
        let read = |span: &Span| -> &[u8] {
            let block = find(span);
            // SAFETY: in bounds; no written view of this step overlaps it (Views::new), and
            // &mut self keeps other steps away.
            unsafe { std::slice::from_raw_parts(block.ptr.add(span.start), span.len) }
        };
        let write = |span: &Span| -> &mut [u8] {
            let block = find(span);
            assert!(block.writable, "a step writes to a block lent for reading");
            // SAFETY: in bounds, writable, and disjoint from every other view of this step.
            unsafe { std::slice::from_raw_parts_mut(block.ptr.add(span.start), span.len) }
        };
        if views.reads.len() <= INLINE && views.writes.len() <= 4 {
            // The common case, without a heap allocation.
            let mut reads: [&[u8]; INLINE] = [&[]; INLINE];
            for (slot, span) in reads.iter_mut().zip(&views.reads) {
                *slot = read(span);
            }
            let mut writes: [&mut [u8]; 4] = [&mut [], &mut [], &mut [], &mut []];
            for (slot, span) in writes.iter_mut().zip(&views.writes) {
                *slot = write(span);
            }
            body(&reads[..views.reads.len()], &mut writes[..views.writes.len()])
        } else {
            let reads: Vec<&[u8]> = views.reads.iter().map(read).collect();
            let mut writes: Vec<&mut [u8]> = views.writes.iter().map(write).collect();
            body(&reads, &mut writes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_zero() {
        let bytes = AlignedBytes::zeroed(100);
        assert_eq!(bytes.as_ptr() as usize % ALIGN, 0);
        assert!(bytes.iter().all(|&b| b == 0));
        assert!(AlignedBytes::zeroed(0).is_empty());
    }

    #[test]
    fn freed_blocks_serve_again() {
        let mut kept = Kept(VecDeque::new());
        let len = KEPT_FROM + 5;
        let first = AlignedBytes::zeroed(len);
        let address = first.as_ptr();
        kept.put(first);
        assert!(kept.take(len + 4096).is_none());
        let second = kept.take(len + 1).expect("the same pages");
        assert_eq!((second.as_ptr(), second.len()), (address, len + 1));
        assert!(kept.take(len).is_none(), "it has an owner");
        // The oldest go.
        let blocks: Vec<_> = (0..40).map(|i| AlignedBytes::zeroed((1 << 20) - 4096 * i)).collect();
        let (oldest, latest) = (blocks[0].len(), blocks[39].len());
        blocks.into_iter().for_each(|block| kept.put(block));
        assert!(kept.0.iter().map(|block| block.len()).sum::<usize>() <= KEPT_AT_MOST);
        assert!(kept.take(oldest).is_none() && kept.take(latest).is_some());
    }

    #[test]
    fn zeroed_blocks_are_zero_whatever_was_there() {
        let len = KEPT_FROM * 2;
        let mut block = AlignedBytes::try_any(len).unwrap();
        block.fill(7);
        drop(block);
        assert!(AlignedBytes::zeroed(len).iter().all(|&b| b == 0));
        assert!(AlignedBytes::try_any(usize::MAX).is_none());
        drop(AlignedBytes::zeroed(KEPT_AT_MOST + 1));
    }

    #[test]
    fn what_lasts_lies_in_large_pages() {
        let len = LARGE_PAGE + 3;
        let block = AlignedBytes::try_lasting(len).unwrap();
        assert_eq!((block.len(), block.capacity), (len, 2 * LARGE_PAGE));
        assert_eq!(block.as_ptr() as usize % LARGE_PAGE, 0);
        assert!(block.iter().all(|&b| b == 0));
        assert_eq!(AlignedBytes::try_lasting(100).unwrap().capacity, 100);
        assert!(AlignedBytes::try_lasting(usize::MAX).is_none());
        // Its capacity serves again, and it is what is given back.
        let mut kept = Kept(VecDeque::new());
        kept.put(block);
        assert!(kept.take(len).is_none() && kept.take(2 * LARGE_PAGE - 1).is_some());
    }

    #[test]
    fn no_foreign_bytes_are_aligned_too() {
        // SAFETY: no bytes are lent.
        let none = unsafe { ForeignBytes::new(std::ptr::null(), 0, Box::new(())) };
        assert!(none.is_empty());
        assert_eq!(none.as_ptr() as usize % ALIGN, 0);
    }

    #[test]
    fn overlapping_views_are_refused() {
        let span = |start, len| Span { block: 0, start, len };
        assert!(Views::new(vec![span(0, 8)], vec![span(4, 8)]).is_none());
        assert!(Views::new(vec![], vec![span(0, 8), span(7, 1)]).is_none());
        assert!(Views::new(vec![span(0, 8), span(0, 8)], vec![span(8, 8)]).is_some());
    }

    #[test]
    fn a_step_reads_and_writes_one_arena() {
        let mut arena = AlignedBytes::zeroed(16);
        arena[0] = 7;
        let mut frame = Frame::default();
        frame.push(Block::Mut(&mut arena));
        let span = |start, len| Span { block: 0, start, len };
        let views = Views::new(vec![span(0, 1)], vec![span(8, 1)]).unwrap();
        frame.with(&views, |reads, writes| writes[0][0] = reads[0][0] + 1);
        drop(frame);
        assert_eq!(arena[8], 8);
    }
}
