//! What a drain does to the sessions of its backend.

use crate::{hash::mix64, table::Backend};
use control::desired::{AdminState, Drain, DrainMode, Share, Then};

/// Keeps the order in which sessions move apart from the places of their keys on the ring. Frozen: another value brings
/// sessions back that have moved.
const SALT: u64 = 0x6D69_6772_6174_6564;

/// Whether the session of this key has moved away by `now`, in Unix seconds: the share of the keys that have grows evenly
/// from the drain's begin to its deadline. A key that has moved once has moved for good, on every core and node.
pub fn has_moved(drain: &Drain, key: u64, now: u32) -> bool {
    let (DrainMode::Migrate, Some(deadline)) = (drain.mode, drain.deadline) else { return false };
    u128::from(mix64(key ^ SALT)) < grown(drain.share(), (drain.since, deadline), now)
}

/// How much of all 2^64 values of a hash a share is by `now`, in Unix seconds, that grows evenly from a begin to an end, in
/// Unix milliseconds.
pub(crate) fn grown(share: Share, (since, until): (u64, u64), now: u32) -> u128 {
    let length = until.saturating_sub(since).max(1);
    let passed = (u64::from(now) * 1_000).saturating_sub(since).min(length);
    // As many as the share says at the end; then as much of that as has passed.
    let at_end = (u128::from(share.millionths()) << 64) / 1_000_000;
    ((at_end >> 20) * u128::from(passed) / u128::from(length)) << 20
}

/// Whether the sessions of this backend end without their tokens being renewed.
pub(crate) fn retires(backend: &Backend) -> bool {
    backend.admin_state == AdminState::Draining && backend.drain.is_some_and(|drain| drain.mode == DrainMode::Retire)
}

/// Whether what is still open at this backend is to be closed: its drain is over, and was to end so.
pub fn closes(backend: &Backend) -> bool {
    let closes = backend.drain.is_some_and(|drain| drain.then == Some(Then::Close));
    closes && backend.admin_state == AdminState::Maintenance
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SINCE: u64 = 1_790_000_000_500;

    fn migrate(length: u64, share: f64) -> Drain {
        let deadline = Some(SINCE + length);
        Drain { mode: DrainMode::Migrate, since: SINCE, deadline, share: Share::new(share), then: None }
    }

    /// Of 20,000 sessions, the share that has moved so many seconds after the drain began.
    fn moved(drain: &Drain, after: u64) -> f64 {
        let now = u32::try_from(SINCE / 1_000 + after).unwrap();
        let moved = (0..20_000).filter(|number| has_moved(drain, mix64(*number), now)).count();
        f64::from(u32::try_from(moved).unwrap()) / 20_000.0
    }

    #[test]
    fn the_share_grows_evenly_up_to_the_deadline_and_stays() {
        for (length, share, after, expected) in [
            (1_000_000, 1.0, 0, 0.0),
            (1_000_000, 1.0, 100, 0.1),
            (1_000_000, 1.0, 500, 0.5),
            (1_000_000, 1.0, 999, 0.9985),
            (1_000_000, 1.0, 1_001, 1.0),
            (1_000_000, 1.0, 9_000_000, 1.0),
            (1_000_000, 0.3, 500, 0.15),
            (1_000_000, 0.3, 5_000, 0.3),
            (1_000_000, 0.0, 5_000, 0.0),
            (0, 1.0, 0, 0.0),
            (0, 1.0, 1, 1.0),
            (u64::MAX / 2, 1.0, 1_000, 0.0),
        ] {
            let found = moved(&migrate(length, share), after);
            // Five standard deviations of a share of 20,000.
            let allowed = 5.0 * (expected * (1.0 - expected) / 20_000.0f64).sqrt();
            assert!((found - expected).abs() <= allowed, "{length} {share} {after}: {found}");
        }
    }

    #[test]
    fn nothing_moves_without_a_deadline_or_in_another_mode() {
        let drain = migrate(1_000, 1.0);
        for drain in [
            Drain { deadline: None, ..drain },
            Drain { mode: DrainMode::Persist, ..drain },
            Drain { mode: DrainMode::Retire, ..drain },
        ] {
            assert!(!has_moved(&drain, 1, u32::MAX), "{drain:?}");
        }
    }

    proptest! {
        #[test]
        fn what_has_moved_stays_moved(key: u64, length in 0..u64::MAX / 4, share in 0.0..=1.0, from: u32, later: u32) {
            let drain = migrate(length, share);
            let (from, later) = (from.min(later), from.max(later));
            prop_assert!(!has_moved(&drain, key, from) || has_moved(&drain, key, later));
        }
    }
}
