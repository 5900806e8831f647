//! The ledger: why a session did not stay with its pin, and what became of it.

use crate::{
    choose::{Cause, Ended, Outcome, Unserved},
    marker::NoPin,
    token::{Expiry, Refused},
};

/// What became of a session, or of one request of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is bound to another backend for good; the state that the one before had is lost to it.
    Repinned,
    /// A request was served elsewhere, the pin unchanged.
    Spilled,
    /// It has ended, and another one has begun or has to.
    Lost,
    /// A request was answered for its backend, which it may not leave.
    Failed,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repinned => "repinned",
            Self::Spilled => "spilled",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// Why that was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its backend could not be used.
    Left(Cause),
    /// Its backend is a new incarnation.
    Incarnation,
    /// What it came with counts as no marker.
    Refused(NoPin),
    /// It can't begin anew, and its token does not open.
    Unreadable,
    /// More different entries than are kept apart.
    Other,
}

impl Reason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left(cause) => cause.name(),
            Self::Incarnation => "incarnation",
            Self::Refused(NoPin::Expired(Expiry::Lifetime)) => "lifetime",
            Self::Refused(NoPin::Expired(Expiry::Idle)) => "idle",
            Self::Refused(NoPin::OtherPool) => "other_pool",
            Self::Refused(NoPin::Foreign) => "adopt_unknown",
            Self::Refused(NoPin::Refused(refused)) => match refused {
                Refused::Short | Refused::Long | Refused::Malformed => "malformed",
                Refused::UnknownKey => "unknown_key",
                Refused::BadMac => "bad_mac",
                Refused::Future => "future",
            },
            Self::Unreadable => "unreadable",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub kind: Kind,
    pub reason: Reason,
}

impl Entry {
    /// Of a request that was served. `binds` says whether the client goes on with a new marker: where not, a request that
    /// goes elsewhere binds nothing, and a new session would be counted again and again. `refused` is why what came
    /// counts as no marker.
    pub fn of(outcome: Outcome, binds: bool, refused: Option<NoPin>) -> Option<Self> {
        let (kind, reason) = match outcome {
            Outcome::Free | Outcome::Pinned => return None,
            Outcome::New => (Kind::Lost, Reason::Refused(refused.filter(|_| binds)?)),
            Outcome::Lost if !binds => return None,
            Outcome::Lost => (Kind::Lost, Reason::Incarnation),
            Outcome::Spilled { cause, .. } => (Kind::Spilled, Reason::Left(cause)),
            Outcome::Released { .. } => (Kind::Spilled, Reason::Left(Cause::Released)),
            Outcome::Repinned { cause, .. } if binds || cause == Cause::Draining => {
                (Kind::Repinned, Reason::Left(cause))
            }
            Outcome::Repinned { cause, .. } => (Kind::Spilled, Reason::Left(cause)),
        };
        Some(Self { kind, reason })
    }

    /// Of one that was not.
    pub fn of_unserved(unserved: Unserved) -> Option<Self> {
        let (kind, reason) = match unserved {
            Unserved::NoBackend | Unserved::Full { .. } => return None,
            Unserved::PinnedDown(cause) => (Kind::Failed, Reason::Left(cause)),
            Unserved::Ended(Ended::Unreadable) => (Kind::Lost, Reason::Unreadable),
            Unserved::Ended(Ended::Incarnation) => (Kind::Lost, Reason::Incarnation),
            Unserved::Ended(Ended::Left(cause)) => (Kind::Lost, Reason::Left(cause)),
        };
        Some(Self { kind, reason })
    }

    /// What stands for it where there is no room for another entry.
    #[must_use]
    pub fn other(self) -> Self {
        Self { reason: Reason::Other, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn told(entry: Option<Entry>) -> String {
        entry.map_or_else(String::new, |entry| format!("{} {}", entry.kind.name(), entry.reason.name()))
    }

    #[test]
    fn each_outcome_has_its_entry() {
        let idle = Some(NoPin::Expired(Expiry::Idle));
        let repinned = |cause| Outcome::Repinned { from: Some(1), cause };
        let spilled = |cause| Outcome::Spilled { from: 1, cause };
        for (outcome, binds, refused, expected) in [
            (Outcome::Pinned, true, None, ""),
            (Outcome::Free, false, idle, ""),
            (Outcome::New, true, None, ""),
            (Outcome::New, true, idle, "lost idle"),
            (Outcome::New, false, idle, ""),
            (Outcome::New, true, Some(NoPin::OtherPool), "lost other_pool"),
            (Outcome::New, true, Some(NoPin::Refused(Refused::BadMac)), "lost bad_mac"),
            (Outcome::Lost, true, None, "lost incarnation"),
            (Outcome::Lost, false, None, ""),
            (repinned(Cause::Down), true, None, "repinned down"),
            (repinned(Cause::Down), false, None, "spilled down"),
            (repinned(Cause::Draining), false, None, "repinned draining"),
            (spilled(Cause::Overload), true, None, "spilled overload"),
            (spilled(Cause::Retry), false, None, "spilled retry"),
            (Outcome::Released { from: 1 }, true, None, "spilled ramp"),
            (repinned(Cause::Released), true, None, "repinned ramp"),
        ] {
            assert_eq!(told(Entry::of(outcome, binds, refused)), expected, "{outcome:?} {binds} {refused:?}");
        }
        for (unserved, expected) in [
            (Unserved::NoBackend, ""),
            (Unserved::Full { home: None }, ""),
            (Unserved::PinnedDown(Cause::Maintenance), "failed maintenance"),
            (Unserved::Ended(Ended::Unreadable), "lost unreadable"),
            (Unserved::Ended(Ended::Incarnation), "lost incarnation"),
            (Unserved::Ended(Ended::Left(Cause::Removed)), "lost removed"),
        ] {
            assert_eq!(told(Entry::of_unserved(unserved)), expected, "{unserved:?}");
        }
    }

    #[test]
    fn causes_have_names_of_their_own() {
        let names: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
