use super::Spare;
use monoio::buf::{IoBuf, IoBufMut};
use std::{cell::Cell, rc::Rc};

/// A fixed piece of memory with the bytes that were read and not yet used. Empty of memory until it is taken from
/// [`Buffers`].
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last that was appended left no room.
    was_filled: bool,
    /// Of a large one.
    _share: Option<Share>,
}

impl Buffer {
    fn of(memory: Box<[u8]>, share: Option<Share>) -> Self {
        Self { memory, start: 0, end: 0, was_filled: false, _share: share }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.memory.is_empty()
    }

    /// Whether no more can be appended.
    pub(crate) fn is_full(&self) -> bool {
        self.end == self.memory.len()
    }

    /// Whether the last that was appended left no room: there may be more of it.
    pub(crate) fn was_filled(&self) -> bool {
        self.was_filled
    }

    /// Puts bytes in front of those that are held; false where what was consumed has left too little room.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else { return false };
        self.memory[start..self.start].copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Where more can be appended.
    pub(super) fn free_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.end..]
    }

    /// Takes the first bytes of [`Self::free_mut`] for appended.
    pub(super) fn grow(&mut self, count: usize) {
        self.end = (self.end + count).min(self.memory.len());
        self.was_filled = self.is_full();
    }

    /// Moves what is held to the front where too little room is left behind it.
    pub(crate) fn make_room(&mut self) {
        if self.start > 0 && self.memory.len() - self.end < self.memory.len() / 2 {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
    }
}

/// Where the kernel appends.
pub(super) struct Tail(pub(super) Buffer);

// SAFETY: the memory is on the heap and stays where it is while the buffer moves; from `end` to its end it belongs to the
// buffer, was initialised when it was made, and `set_init` counts only what was written there.
unsafe impl IoBufMut for Tail {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.memory[self.0.end..].as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.memory.len() - self.0.end
    }

    unsafe fn set_init(&mut self, count: usize) {
        self.0.grow(count);
    }
}

/// The first bytes of a buffer, to be written out.
pub(super) struct Front {
    pub(super) buffer: Buffer,
    pub(super) count: usize,
}

// SAFETY: the memory is on the heap and stays where it is while the buffer moves; `count` is at most what is held.
unsafe impl IoBuf for Front {
    fn read_ptr(&self) -> *const u8 {
        self.buffer.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.count.min(self.buffer.len())
    }
}

/// A vector from `from` on, to be written out.
pub(super) struct Rest {
    pub(super) bytes: Vec<u8>,
    pub(super) from: usize,
}

// SAFETY: the vector's memory stays where it is while the vector moves, and all of it up to its length is initialised.
unsafe impl IoBuf for Rest {
    fn read_ptr(&self) -> *const u8 {
        self.bytes[self.from..].as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len() - self.from
    }
}

/// A worker's spare memory.
#[derive(Debug)]
pub(crate) struct Buffers {
    size: usize,
    small: Spare<Box<[u8]>>,
    large: Spare<Box<[u8]>>,
    /// How many large ones are in use.
    shares: Rc<Cell<usize>>,
    vectors: Spare<Vec<u8>>,
}

/// One of the large buffers that may be in use at once.
#[derive(Debug)]
struct Share(Rc<Cell<usize>>);

impl Share {
    fn of(shares: &Rc<Cell<usize>>) -> Option<Self> {
        (shares.get() < MAX_LARGE).then(|| {
            shares.set(shares.get() + 1);
            Self(Rc::clone(shares))
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Bytes of a large buffer. 1 MiB costs 0.77 of what it does through 64 KiB, and as much as through 256.
const LARGE: usize = 128 << 10;
/// So many of them are in use at most, 32 MiB of each worker, however many clients are slow to read.
const MAX_LARGE: usize = 256;
/// Bytes in front of what a large one holds when it is taken: room for a head that grows by what we add.
const HEADROOM: usize = 1 << 10;

/// Bytes of a new vector. It grows with the first head that is larger, and stays so.
const ORDINARY: usize = 2 << 10;
/// A vector that has grown past this is not kept.
const MAX_KEPT: usize = 128 << 10;

impl Buffers {
    /// `size` is that of each buffer, in bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            small: Spare::default(),
            large: Spare::default(),
            shares: Rc::default(),
            vectors: Spare::default(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn buffer(&self) -> Buffer {
        Buffer::of(self.small.take().unwrap_or_else(|| memory(self.size)), None)
    }

    /// Nothing of what it held or how it was read stays with the memory.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        if buffer.is_held() {
            let spare = if buffer.memory.len() == self.size { &self.small } else { &self.large };
            spare.give(buffer.memory);
        }
    }

    /// Changes a buffer that the last read filled for a large one, while there are any. More is to come, and each read and
    /// write has its price.
    pub(crate) fn widen(&self, buffer: &mut Buffer) {
        if !buffer.was_filled || buffer.memory.len() + HEADROOM > LARGE {
            return;
        }
        let Some(share) = Share::of(&self.shares) else { return };
        let mut large = Buffer::of(self.large.take().unwrap_or_else(|| memory(LARGE)), Some(share));
        if !buffer.is_empty() {
            (large.start, large.end) = (HEADROOM, HEADROOM + buffer.len());
            large.bytes_mut().copy_from_slice(buffer.bytes());
        }
        self.give_back(std::mem::replace(buffer, large));
    }

    /// Changes a large buffer that is used up for an ordinary one: what comes next may be small, and others have bodies.
    pub(crate) fn narrow(&self, buffer: &mut Buffer) {
        if buffer.is_empty() && buffer.memory.len() != self.size {
            self.give_back(std::mem::replace(buffer, self.buffer()));
        }
    }

    /// An empty vector with room for an ordinary head and a little body.
    pub(crate) fn vector(&self) -> Vec<u8> {
        self.vectors.take().unwrap_or_else(|| Vec::with_capacity(ORDINARY.min(self.size)))
    }

    pub(crate) fn give_back_vector(&self, mut vector: Vec<u8>) {
        if (1..=MAX_KEPT).contains(&vector.capacity()) {
            vector.clear();
            self.vectors.give(vector);
        }
    }

    /// Lets go of what was not needed for a while; whether that was anything.
    pub(crate) fn trim(&self) -> bool {
        self.small.trim() | self.large.trim() | self.vectors.trim()
    }
}

fn memory(size: usize) -> Box<[u8]> {
    vec![0; size].into()
}

/// A buffer with these bytes.
#[cfg(test)]
pub(crate) fn holding(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::of(bytes.into(), None);
    buffer.grow(bytes.len());
    buffer
}

#[cfg(test)]
impl Buffer {
    pub(crate) fn emptied(mut self) -> Self {
        self.clear();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(size: usize) -> Buffer {
        Buffer::of(memory(size), None)
    }

    /// Appends as the kernel does.
    fn append(buffer: Buffer, bytes: &[u8]) -> Buffer {
        let mut tail = Tail(buffer);
        assert!(bytes.len() <= tail.bytes_total());
        // SAFETY: as many bytes were found to be free, and they are written before they are counted.
        unsafe {
            tail.write_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            tail.set_init(bytes.len());
        }
        tail.0
    }

    fn room(buffer: Buffer) -> usize {
        Tail(buffer).bytes_total()
    }

    #[test]
    fn what_is_appended_is_read_in_order_and_once() {
        let mut buffer = append(append(fresh(8), b"abc"), b"de");
        assert_eq!(buffer.bytes(), b"abcde");
        buffer.consume(2);
        buffer = append(buffer, b"fgh");
        assert_eq!((buffer.bytes(), buffer.len()), (&b"cdefgh"[..], 6));
        buffer.consume(100);
        assert!(buffer.is_empty() && buffer.is_held());
        assert_eq!(room(buffer), 8, "one that is used up begins at its front again");
    }

    #[test]
    fn room_is_made_only_where_little_is_left_and_keeps_the_bytes() {
        let mut buffer = append(fresh(8), b"abcdefgh");
        buffer.make_room();
        assert_eq!(buffer.bytes(), b"abcdefgh");
        buffer.consume(6);
        buffer.make_room();
        assert_eq!((buffer.bytes(), buffer.start), (&b"gh"[..], 0));
        buffer.consume(1);
        buffer.make_room();
        assert_eq!((buffer.bytes(), buffer.start), (&b"h"[..], 1), "half of it is free: not worth a move");
        assert_eq!(room(buffer), 6);
    }

    #[test]
    fn a_front_is_no_more_than_what_is_held() {
        let mut buffer = append(fresh(8), b"abcd");
        buffer.consume(1);
        for (count, seen) in [(0, &b""[..]), (2, b"bc"), (9, b"bcd")] {
            let front = Front { buffer, count };
            // SAFETY: so many bytes are initialised there.
            let bytes = unsafe { std::slice::from_raw_parts(front.read_ptr(), front.bytes_init()) };
            assert_eq!(bytes, seen);
            buffer = front.buffer;
        }
        let rest = Rest { bytes: b"abc".to_vec(), from: 3 };
        assert_eq!(rest.bytes_init(), 0);
    }

    #[test]
    fn the_kernel_can_never_count_beyond_the_memory() {
        let mut tail = Tail(append(fresh(4), b"abc"));
        // SAFETY: the memory was initialised when it was made.
        unsafe { tail.set_init(100) };
        assert_eq!(tail.0.len(), 4);
        assert_eq!(room(Buffer::default()), 0, "one without memory takes nothing");
    }

    #[test]
    fn a_buffer_that_was_filled_is_changed_for_a_large_one_with_what_it_holds() {
        let buffers = Buffers::new(64);
        let mut buffer = append(buffers.buffer(), &[1; 63]);
        buffers.widen(&mut buffer);
        assert_eq!(buffer.memory.len(), 64, "all that there was has been read");
        buffer = append(buffer, &[2]);
        buffer.consume(60);
        assert!(buffer.was_filled() && !buffer.prepend(&[0; 61]));
        buffers.widen(&mut buffer);
        assert_eq!((buffer.bytes(), buffer.memory.len()), (&[1, 1, 1, 2][..], LARGE));
        assert!(!buffer.was_filled() && buffer.prepend(&[9; HEADROOM]) && !buffer.prepend(b"x"));
        assert_eq!((buffer.len(), buffer.bytes()[HEADROOM - 1], buffer.bytes()[HEADROOM]), (HEADROOM + 4, 9, 1));
        buffer.clear();
        let mut buffer = append(buffer, &[3; LARGE]);
        buffers.narrow(&mut buffer);
        assert_eq!(buffer.len(), LARGE, "no room is lost to the next read, and nothing that is held either");
        buffer.consume(LARGE);
        buffers.narrow(&mut buffer);
        assert_eq!(room(buffer), 64);
        buffers.give_back(append(buffers.buffer(), &[4; 64]));
        let mut again = buffers.buffer();
        assert!(again.is_empty() && buffers.small.take().is_none(), "it is the same memory");
        buffers.widen(&mut again);
        assert_eq!(again.memory.len(), 64, "that it was filled in an earlier use is no reason");
        let mut huge = append(fresh(LARGE), &[1; LARGE]);
        let place = huge.bytes().as_ptr();
        buffers.widen(&mut huge);
        assert_eq!(huge.bytes().as_ptr(), place, "nothing is gained by as much");
    }

    #[test]
    fn no_more_large_buffers_are_in_use_than_may_be_whatever_becomes_of_them() {
        let buffers = Buffers::new(1);
        let wide = || {
            let mut buffer = append(buffers.buffer(), b"x");
            buffers.widen(&mut buffer);
            buffer
        };
        let mut held: Vec<_> = (0..MAX_LARGE + 1).map(|_| wide()).collect();
        assert_eq!(held.pop().unwrap().memory.len(), 1, "it goes on with what it has");
        // Such as one that the kernel still writes to while its connection is let go.
        drop(held.pop());
        assert_eq!(wide().memory.len(), LARGE);
        held.into_iter().for_each(|buffer| buffers.give_back(buffer));
        assert_eq!(buffers.shares.get(), 0);
        assert_eq!(wide().bytes(), b"x", "one that is used again holds nothing of before");
    }

    #[test]
    fn spare_memory_comes_back_empty() {
        let buffers = Buffers::new(64);
        let held = append(buffers.buffer(), b"secret");
        let place = held.bytes().as_ptr();
        buffers.give_back(held);
        let again = buffers.buffer();
        assert!(again.is_empty());
        assert_eq!(append(again, b"x").bytes().as_ptr(), place, "what was used last is handed out first");
        buffers.give_back(Buffer::default());
        assert!(buffers.buffer().is_held(), "one without memory is not kept");
        let mut vector = buffers.vector();
        vector.push(1);
        buffers.give_back_vector(vector);
        assert!(buffers.vector().is_empty());
        for worthless in [Vec::with_capacity(MAX_KEPT + 1), Vec::new()] {
            buffers.give_back_vector(worthless);
            assert!(buffers.vectors.take().is_none(), "neither what has grown nor what is nothing is kept");
        }
    }
}
