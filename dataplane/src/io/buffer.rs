use super::Spare;
use monoio::buf::{IoBuf, IoBufMut};

/// A fixed piece of memory with the bytes that were read and not yet used. Empty of memory until it is taken from
/// [`Buffers`].
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new(size: usize) -> Self {
        Self { memory: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
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
        self.0.end = (self.0.end + count).min(self.0.memory.len());
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
    buffers: Spare<Buffer>,
    vectors: Spare<Vec<u8>>,
}

/// Bytes of a new vector. It grows with the first head that is larger, and stays so.
const ORDINARY: usize = 2 << 10;
/// A vector that has grown past this is not kept.
const MAX_KEPT: usize = 128 << 10;

impl Buffers {
    /// `size` is that of each buffer, in bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { size, buffers: Spare::default(), vectors: Spare::default() }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn buffer(&self) -> Buffer {
        self.buffers.take().unwrap_or_else(|| Buffer::new(self.size))
    }

    pub(crate) fn give_back(&self, mut buffer: Buffer) {
        if buffer.is_held() {
            buffer.clear();
            self.buffers.give(buffer);
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
        self.buffers.trim() | self.vectors.trim()
    }
}

/// A buffer with these bytes.
#[cfg(test)]
pub(crate) fn holding(bytes: &[u8]) -> Buffer {
    Buffer { memory: bytes.into(), start: 0, end: bytes.len() }
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
        let mut buffer = append(append(Buffer::new(8), b"abc"), b"de");
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
        let mut buffer = append(Buffer::new(8), b"abcdefgh");
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
        let mut buffer = append(Buffer::new(8), b"abcd");
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
        let mut tail = Tail(append(Buffer::new(4), b"abc"));
        // SAFETY: the memory was initialised when it was made.
        unsafe { tail.set_init(100) };
        assert_eq!(tail.0.len(), 4);
        assert_eq!(room(Buffer::default()), 0, "one without memory takes nothing");
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
