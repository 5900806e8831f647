use siphasher::sip128::SipHasher24;
use std::cell::Cell;

/// Numbers that no other request has, here or elsewhere. They go out to backends, and from there to anybody: unlike those of
/// the clock, one of them tells nothing of the next.
#[derive(Debug)]
pub(crate) struct Unique {
    /// SipHash-2-4 with 128 bits, a keyed PRF (Aumasson and Bernstein, INDOCRYPT 2012), over a counter.
    secret: SipHasher24,
    count: Cell<u64>,
}

impl Unique {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self { secret: SipHasher24::new_with_key(&secret), count: Cell::new(0) }
    }

    pub(crate) fn next(&self) -> u128 {
        self.count.set(self.count.get().wrapping_add(1));
        self.secret.hash(&self.count.get().to_le_bytes()).as_u128()
    }
}
