//! How slowly a client may send or take a body.

use control::spec::Span;
use std::cell::Cell;

/// The time for which a client may be waited for. It begins with its timeout; what is waited for is taken off, and each byte
/// that moves gives some back, up to as much as it began with. So a client may pause for as long as ever, once, and whoever is
/// slower than the rate for long has used it up: neither a byte every now and then nor a window that opens by a hair holds
/// anything for ever.
#[derive(Debug)]
pub(crate) struct Pace {
    /// In bytes per second; 0 takes nothing off.
    rate: u32,
    most: Span,
    /// Microseconds.
    left: Cell<u64>,
}

const MICROS: u64 = 1_000_000;

impl Pace {
    /// At least `rate` bytes per second, and no wait longer than `most`.
    pub(crate) fn new(rate: u32, most: Span) -> Self {
        Self { rate, most, left: Cell::new(most.as_millis().saturating_mul(1_000)) }
    }

    /// How long the next wait may take.
    pub(crate) fn wait(&self) -> Span {
        Span::from_millis(self.left.get().div_ceil(1_000))
    }

    /// So many bytes have come of a wait of so many milliseconds.
    pub(crate) fn moved(&self, bytes: usize, waited: u64) {
        let most = self.most.as_millis().saturating_mul(1_000);
        if self.rate == 0 || (waited == 0 && self.left.get() == most) {
            return;
        }
        let earned = (bytes as u64).saturating_mul(MICROS) / u64::from(self.rate);
        let left = self.left.get().saturating_sub(waited.saturating_mul(1_000)).saturating_add(earned);
        self.left.set(left.min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: Span = Span::from_secs(30);

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        let pace = Pace::new(240, MOST);
        pace.moved(1, 29_000);
        assert_eq!(pace.wait(), Span::from_millis(1_005), "a 240th of a second for the byte");
        pace.moved(1, 1_000);
        assert_eq!(pace.wait(), Span::from_millis(9));
    }

    #[test]
    fn a_pause_is_forgiven_by_what_follows() {
        let pace = Pace::new(1_000, MOST);
        pace.moved(1, 29_000);
        pace.moved(100_000, 2_000);
        assert_eq!(pace.wait(), MOST, "and no more than that is saved up");
        pace.moved(0, 30_000);
        assert_eq!(pace.wait(), Span::from_millis(0));
    }

    #[test]
    fn without_a_rate_each_wait_is_as_long() {
        let pace = Pace::new(0, MOST);
        for _ in 0..100 {
            pace.moved(1, 29_000);
            assert_eq!(pace.wait(), MOST);
        }
    }

    proptest! {
        /// Whoever keeps the rate over every wait is never cut, and nobody holds out for longer than what moved is worth.
        #[test]
        fn the_rate_decides(rate in 1u32..100_000, waits in prop::collection::vec((0u64..30_000, 0usize..1 << 20), 1..200)) {
            let (pace, mut waited, mut moved, mut kept) = (Pace::new(rate, MOST), 0, 0, true);
            for (at, (wait, bytes)) in waits.into_iter().enumerate() {
                let wait = wait.min(pace.wait().as_millis());
                pace.moved(bytes, wait);
                (waited, moved) = (waited + wait, moved + bytes as u64);
                kept &= bytes as u64 * 1_000 >= wait * u64::from(rate);
                // A millisecond for each wait is what rounding may add or take.
                let rounded = at as u64 + 1;
                prop_assert!(!kept || pace.wait().as_millis() + rounded >= MOST.as_millis());
                prop_assert!(waited <= MOST.as_millis() + moved * 1_000 / u64::from(rate) + rounded);
            }
        }
    }
}
