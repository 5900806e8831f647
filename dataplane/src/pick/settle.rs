//! What became of a request's session, counted.

use super::{Claim, Target};
use crate::worker::{Move, Sample, Worker};
use affinity::{
    choose::{Cause, Ended, Outcome, Unserved},
    ledger::{Entry, Kind, Reason},
    sessions::Touch,
};
use control::counters::{BackendCount, PoolCount};
use std::num::NonZeroU32;

impl Target {
    /// Counts what became of the session, once the backend has answered and, where it may, has named it: `followed` is what came
    /// of that, and whether the client goes on with it. Returns by what it counts as live.
    pub(crate) fn settle(&self, worker: &Worker, claim: &Claim, followed: Option<(Outcome, bool)>) -> Option<Touch> {
        let (board, pool) = (worker.board(), claim.pool.slot);
        let (outcome, binds) = followed.unwrap_or((self.outcome, self.marks));
        // One that is balanced freely may be balanced home.
        let is_home = matches!(outcome, Outcome::Released { .. }) && !self.is_elsewhere();
        let outcome = if is_home { Outcome::Pinned } else { outcome };
        let entry = Entry::of(outcome, binds, claim.found.refused);
        if let Some(what) = count_of(outcome, entry) {
            board.count_pool(pool, what);
        }
        if let Some(entry) = entry {
            let from = self.from.or(claim.was_at());
            worker.ledger.note(Move { pool, entry, from, to: Some(self.slot) });
        }
        let is_adopted = claim.found.adopted.is_some() && binds && outcome != Outcome::New;
        if is_adopted {
            board.count_pool(pool, PoolCount::Adopted);
        }
        match outcome {
            Outcome::Pinned if is_adopted => board.count_backend(self.slot, BackendCount::SessionsNew),
            Outcome::New | Outcome::Lost if binds => board.count_backend(self.slot, BackendCount::SessionsNew),
            Outcome::Repinned { .. } if binds => {
                board.count_backend(self.slot, BackendCount::SessionsArrived);
            }
            Outcome::Free
            | Outcome::New
            | Outcome::Lost
            | Outcome::Pinned
            | Outcome::Spilled { .. }
            | Outcome::Released { .. }
            | Outcome::Repinned { .. } => {}
        }
        match (self.from, outcome) {
            (Some(from), Outcome::Repinned { .. } | Outcome::Lost) if binds => {
                board.count_backend(from, BackendCount::SessionsLost);
            }
            _ => {}
        }
        let stays = matches!(outcome, Outcome::Spilled { .. } | Outcome::Released { .. });
        let home = if stays { self.from } else { Some(self.slot) };
        let key = match outcome {
            Outcome::Free => None,
            Outcome::Lost if !binds => None,
            Outcome::New | Outcome::Lost => Some(claim.fresh),
            Outcome::Pinned | Outcome::Repinned { .. } | Outcome::Spilled { .. } | Outcome::Released { .. } => {
                Some(claim.found.key)
            }
        };
        let key = key.filter(|_| self.has_sessions);
        if let Some(address) = claim.sampled {
            worker.samples.note(Sample { pool, session: key, address });
        }
        let (key, backend, at) = (key?, home?, worker.clock.unix());
        let begins = matches!(outcome, Outcome::New | Outcome::Lost);
        let begun = if begins { Some(at) } else { claim.found.opened().map(|(_, issued_at)| issued_at) };
        let touch = Touch { key, pool, backend, at, begun: begun.and_then(NonZeroU32::new) };
        worker.touches.note(touch);
        Some(touch)
    }
}

fn count_of(outcome: Outcome, entry: Option<Entry>) -> Option<PoolCount> {
    match (outcome, entry) {
        (Outcome::New, _) => Some(PoolCount::Unpinned),
        (Outcome::Pinned, _) => Some(PoolCount::Pinned),
        (_, None) => None,
        (_, Some(Entry { kind: Kind::Spilled, reason: Reason::Left(Cause::Overload) })) => {
            Some(PoolCount::SpilledOverload)
        }
        (_, Some(Entry { kind: Kind::Spilled, reason: Reason::Left(Cause::Released) })) => Some(PoolCount::Released),
        (_, Some(Entry { kind: Kind::Spilled, .. })) => Some(PoolCount::Spilled),
        (_, Some(Entry { kind: Kind::Repinned, reason: Reason::Left(cause) })) => Some(match cause {
            Cause::Down => PoolCount::RepinnedDown,
            Cause::Maintenance => PoolCount::RepinnedMaintenance,
            Cause::Migrated => PoolCount::RepinnedMigrate,
            Cause::Rebalanced => PoolCount::RepinnedRebalance,
            Cause::Deadline => PoolCount::RepinnedDeadline,
            Cause::Removed => PoolCount::RepinnedRemoved,
            Cause::Draining => PoolCount::RepinnedDraining,
            Cause::Retry => PoolCount::RepinnedRetry,
            Cause::Overload => PoolCount::RepinnedOverload,
            Cause::Released => PoolCount::RepinnedReleased,
        }),
        // What else is lost is either a new session, or was lost with its backend's last life.
        (_, Some(Entry { .. })) => Some(PoolCount::LostIncarnation),
    }
}

/// Counts a request that nobody serves.
pub(crate) fn unserved(worker: &Worker, claim: &Claim, unserved: Unserved) {
    let pool = claim.pool.slot;
    let what = match unserved {
        Unserved::NoBackend | Unserved::Full { .. } => PoolCount::NoBackend,
        Unserved::PinnedDown(_) => PoolCount::FailedDown,
        Unserved::Ended(Ended::Unreadable) => PoolCount::EndedUnreadable,
        Unserved::Ended(Ended::Incarnation) => PoolCount::EndedIncarnation,
        Unserved::Ended(Ended::Left(Cause::Removed)) => PoolCount::EndedRemoved,
        Unserved::Ended(Ended::Left(Cause::Maintenance | Cause::Deadline)) => PoolCount::EndedMaintenance,
        // Nobody that can't move leaves for want of room, by migration, for an even load or by a release.
        Unserved::Ended(Ended::Left(
            Cause::Down
            | Cause::Retry
            | Cause::Draining
            | Cause::Overload
            | Cause::Migrated
            | Cause::Rebalanced
            | Cause::Released,
        )) => PoolCount::EndedDown,
    };
    worker.board().count_pool(pool, what);
    if let Some(entry) = Entry::of_unserved(unserved) {
        worker.ledger.note(Move { pool, entry, from: claim.was_at(), to: None });
    }
}
