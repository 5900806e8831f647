//! Choosing: where a request goes and what becomes of its pin. One pure function for workers, previews, explanations,
//! tests and benches.

use crate::{
    balance::{Among, View, balance},
    drain,
    hash::mix64,
    release::is_released,
    table::{Backend, PoolTable},
    warming,
    wheel::Turn,
};
use control::{
    desired::AdminState,
    spec::{Balance, Follows, Mode, OnDown, OnOverload},
    status::Health,
};
use std::iter;

#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod release_tests;
#[cfg(test)]
mod tests;

/// What a request says of where its session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// No marker, or none that opens.
    Absent,
    /// A backend of this pool, in one of its lives. `None` where the marker tells of no life.
    At { backend: u16, incarnation: Option<u32> },
    /// A backend that is no longer there.
    Gone,
    /// The session key alone says where: no marker is kept.
    Hashed,
    /// It names a session that can't begin anew, by a token that does not open.
    Unreadable,
    /// Nothing to pin by, and no pin is to be made: it is balanced freely.
    Free,
}

/// What a choice is made for: one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub pin: Pin,
    /// The session key: the pin's, or a fresh one for a session that begins.
    pub key: u64,
    /// A fresh random number.
    pub random: u64,
    /// Unix seconds.
    pub now: u32,
    /// A rule honours the pin though its backend is down or in maintenance.
    pub force: bool,
    /// A session that begins goes where its key says, as all do that begin with that key, and not by the balance policy.
    pub together: bool,
    /// How long ago the session was last seen by its token, in seconds; absent where the response can bind it to no other
    /// backend.
    pub idle: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub backend: u16,
    pub outcome: Outcome,
}

/// What became of the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is pinned.
    Free,
    /// A new session, pinned to the chosen backend.
    New,
    /// To the pin.
    Pinned,
    /// A new session, for the state of the old one went with its backend's last life.
    Lost,
    /// Bound to the chosen backend for good.
    Repinned { from: Option<u16>, cause: Cause },
    /// Sent to the chosen backend this once; the pin is unchanged.
    Spilled { from: u16, cause: Cause },
    /// A release has let the session go: it is balanced by itself each time, and its pin is unchanged.
    Released { from: u16 },
}

/// Why a pinned backend can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Down,
    Maintenance,
    /// It drained up to its deadline, and what was left had to go.
    Deadline,
    /// It drains by migration, and it is this session's turn.
    Migrated,
    /// It has more than its share, and the pool is rebalanced.
    Rebalanced,
    Removed,
    /// It drains, and where the key alone says where, its sessions can't be told from new ones.
    Draining,
    /// It has just failed this very request.
    Retry,
    /// It has as many requests as it may have, or more than its share by the pool's load bound.
    Overload,
    /// A release has let the session go, and another backend has named it anew.
    Released,
}

impl Cause {
    pub const ALL: [Self; Self::Released as usize + 1] = [
        Self::Down,
        Self::Maintenance,
        Self::Deadline,
        Self::Migrated,
        Self::Rebalanced,
        Self::Removed,
        Self::Draining,
        Self::Retry,
        Self::Overload,
        Self::Released,
    ];

    /// As reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Maintenance => "maintenance",
            Self::Deadline => "drain_deadline",
            Self::Migrated => "migrate",
            Self::Rebalanced => "rebalance",
            Self::Removed => "removed",
            Self::Draining => "draining",
            Self::Retry => "retry",
            Self::Overload => "overload",
            Self::Released => "ramp",
        }
    }
}

/// Why no backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// None is usable.
    NoBackend,
    /// The session's own is not usable, and `on_down` is `fail`.
    PinnedDown(Cause),
    /// There are some that could, but none has room: the session's own, where it is to wait for that, or any.
    Full { home: Option<u16> },
    /// The session is gone, and whoever began it has to begin another one.
    Ended(Ended),
}

/// Why a session is gone that can't move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its token does not open.
    Unreadable,
    /// Its state went with its backend's last life.
    Incarnation,
    /// It had to leave its backend.
    Left(Cause),
}

/// Chooses for a request.
///
/// # Errors
/// Where nobody may serve the request.
pub fn choose(pool: &PoolTable, asked: &Asked, turn: &mut Turn, view: &impl View) -> Result<Choice, Unserved> {
    let Asked { pin, key, random, now, force, together, idle } = *asked;
    let chooser = Chooser { pool, view, force };
    let new = |outcome, turn: &mut Turn| {
        let draw = if together { mix64(key) } else { random };
        let fresh = chooser.warm_first(draw, now, |among, takes| match together {
            true => among.ring.first_usable(key, takes),
            false => balance(pool, among, key, random, turn, view, takes),
        });
        fresh.map(|backend| Choice { backend, outcome })
    };
    match pin {
        Pin::Absent if pool.settings.affinity.mode == Mode::None => new(Outcome::Free, turn),
        Pin::Free => new(Outcome::Free, turn),
        Pin::Absent => new(Outcome::New, turn),
        Pin::Unreadable => Err(Unserved::Ended(Ended::Unreadable)),
        Pin::Gone if chooser.stays() => Err(Unserved::Ended(Ended::Left(Cause::Removed))),
        Pin::Gone => chooser.leave(key, None, Cause::Removed),
        Pin::Hashed => match chooser.home_of(key) {
            Some(home) if chooser.backend(home).admin_state == AdminState::Draining && !force => {
                chooser.leave(key, Some(home), Cause::Draining)
            }
            Some(home) => chooser.released(asked, home, turn).map_or_else(|| chooser.at_home(key, home), Ok),
            None => Err(Unserved::NoBackend),
        },
        Pin::At { backend, incarnation } => {
            if incarnation.is_some_and(|life| life != chooser.backend(backend).incarnation) {
                return if chooser.stays() {
                    Err(Unserved::Ended(Ended::Incarnation))
                } else {
                    new(Outcome::Lost, turn)
                };
            }
            let moved = chooser.migrated(key, backend, now).or_else(|| chooser.released(asked, backend, turn));
            let moved = moved.or_else(|| chooser.rebalanced(key, backend, idle?, now));
            let choice = moved.map_or_else(|| chooser.at_home(key, backend), Ok);
            match choice {
                Ok(Choice { outcome: Outcome::Repinned { cause, .. }, .. }) if chooser.stays() => {
                    Err(Unserved::Ended(Ended::Left(cause)))
                }
                choice => choice,
            }
        }
    }
}

struct Chooser<'a, V> {
    pool: &'a PoolTable,
    view: &'a V,
    force: bool,
}

impl<V: View> Chooser<'_, V> {
    fn backend(&self, index: u16) -> &Backend {
        &self.pool.backends[usize::from(index)]
    }

    fn is_up(&self, index: u16) -> bool {
        let backend = self.backend(index);
        let is_up = || backend.health != Health::Down && !self.view.is_marked_down(index);
        backend.address.is_some() && (self.pool.fails_open || is_up()) && !self.view.was_tried(index)
    }

    /// Whom a session goes to that begins or moves, as `find` finds one that takes it: those with room come first. The
    /// backups come last, when no other takes any, and then those that are down where the pool fails open.
    fn newcomer(&self, mut find: impl FnMut(Among<'_>, &dyn Fn(u16) -> bool) -> Option<u16>) -> Result<u16, Unserved> {
        let settings = &self.pool.settings;
        for among in self.tiers() {
            if let Some(backend) = find(among, &|index| self.takes_new(index) && self.has_room(index)) {
                return Ok(backend);
            }
            // The bound spreads load and refuses nobody.
            let beyond =
                settings.load_bound.and_then(|_| find(among, &|index| self.takes_new(index) && !self.is_full(index)));
            if let Some(backend) = beyond {
                return Ok(backend);
            }
            if settings.limits.requests > 0 && self.any_takes_new(among) {
                return Err(Unserved::Full { home: None });
            }
        }
        let down = |among| find(among, &|index| self.takes_new_though_down(index));
        let down = settings.health.fail_open.then(|| self.tiers().find_map(down)).flatten();
        down.ok_or(Unserved::NoBackend)
    }

    /// As [`Self::newcomer`], with those held back that have begun to take new sessions not long ago, by a random number.
    fn warm_first(
        &self,
        draw: u64,
        now: u32,
        mut find: impl FnMut(Among<'_>, &dyn Fn(u16) -> bool) -> Option<u16>,
    ) -> Result<u16, Unserved> {
        self.newcomer(|among, takes| {
            let is_warm = |index| takes(index) && !warming::holds_back(self.pool, index, draw, now);
            let warm = self.pool.warms.then(|| find(among, &is_warm)).flatten();
            warm.or_else(|| find(among, takes))
        })
    }

    /// Whom new sessions are spread over, in the order in which they come.
    fn tiers(&self) -> impl Iterator<Item = Among<'_>> {
        iter::once(self.pool.primaries()).chain(self.pool.backups())
    }

    fn any_takes_new(&self, among: Among<'_>) -> bool {
        self.all().any(|index| self.backend(index).backup == among.backup && self.takes_new(index))
    }

    /// Where a session is at home that its key alone places: never at a backup, unless there is nobody else.
    fn home_of(&self, key: u64) -> Option<u16> {
        self.tiers().find_map(|among| among.ring.lookup(key))
    }

    /// The ring's next that takes new sessions and has room.
    fn next_with_room(&self, key: u64) -> Option<u16> {
        let takes = |index| self.takes_new(index) && self.has_room(index);
        let next = self.pool.ring.first_usable(key, takes);
        let backups = || self.pool.backups().filter(|_| !self.any_takes_new(self.pool.primaries()));
        next.or_else(|| backups()?.ring.first_usable(key, takes))
    }

    fn all(&self) -> impl Iterator<Item = u16> {
        (0..u16::MAX).take(self.pool.backends.len())
    }

    fn is_full(&self, index: u16) -> bool {
        self.pool.settings.limits.requests > 0 && self.view.is_full(index)
    }

    fn has_room(&self, index: u16) -> bool {
        !self.is_full(index) && !self.is_over_bound(index)
    }

    /// Whether one more request would be more than the load bound times the backend's share of all, rounded up (Mirrokni,
    /// Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018).
    #[expect(clippy::cast_precision_loss, reason = "an integer below 2^53")]
    fn is_over_bound(&self, index: u16) -> bool {
        let Some(bound) = self.pool.settings.load_bound else { return false };
        let all = u64::from(self.view.pool_in_flight()) + 1;
        let backend = self.backend(index);
        let backups = self.pool.backups.as_ref().filter(|_| backend.backup);
        let usable_weight = backups.map_or(self.pool.usable_weight, |backups| backups.usable_weight);
        let share = (all * u64::from(backend.weight)) as f64 / (usable_weight.max(1)) as f64;
        f64::from(self.view.in_flight(index)) >= (bound * share).ceil()
    }

    fn takes_new(&self, index: u16) -> bool {
        let backend = self.backend(index);
        backend.admin_state == AdminState::Active && backend.weight > 0 && self.is_up(index)
    }

    fn takes_new_though_down(&self, index: u16) -> bool {
        let backend = self.backend(index);
        let commanded = backend.admin_state == AdminState::Active && backend.weight > 0;
        commanded && backend.address.is_some() && !self.view.was_tried(index)
    }

    fn takes_pinned(&self, index: u16) -> bool {
        self.backend(index).admin_state != AdminState::Maintenance && self.is_up(index)
    }

    /// Whether a session can be nowhere else than where it began.
    fn stays(&self) -> bool {
        self.pool.settings.affinity.follows() == Some(Follows::Header)
    }

    /// Whether a rule sends the request there, and it can be sent.
    fn is_forced(&self, index: u16) -> bool {
        self.force && self.backend(index).address.is_some() && !self.view.was_tried(index)
    }

    /// To the session's home, or else wherever the pool's settings send it.
    fn at_home(&self, key: u64, home: u16) -> Result<Choice, Unserved> {
        if self.takes_pinned(home) {
            return self.at_usable_home(key, home);
        }
        if self.is_forced(home) {
            return Ok(Choice { backend: home, outcome: Outcome::Pinned });
        }
        let cause = match self.backend(home).admin_state {
            AdminState::Maintenance if self.backend(home).drain.is_some() => Cause::Deadline,
            AdminState::Maintenance => Cause::Maintenance,
            AdminState::Active | AdminState::Draining if self.view.was_tried(home) => Cause::Retry,
            AdminState::Active | AdminState::Draining => Cause::Down,
        };
        self.leave(key, Some(home), cause)
    }

    /// To the session's home, which could take it, unless that has no room.
    fn at_usable_home(&self, key: u64, home: u16) -> Result<Choice, Unserved> {
        let pinned = Ok(Choice { backend: home, outcome: Outcome::Pinned });
        match self.pool.settings.affinity.on_overload {
            OnOverload::Stay => pinned,
            OnOverload::Queue if self.is_full(home) => Err(Unserved::Full { home: Some(home) }),
            OnOverload::Queue => pinned,
            OnOverload::Spill if self.has_room(home) => pinned,
            OnOverload::Spill if self.stays() && self.is_full(home) => Err(Unserved::Full { home: Some(home) }),
            OnOverload::Spill if self.stays() => pinned,
            OnOverload::Spill => match self.next_with_room(key) {
                Some(backend) => {
                    Ok(Choice { backend, outcome: Outcome::Spilled { from: home, cause: Cause::Overload } })
                }
                None if self.is_full(home) => Err(Unserved::Full { home: Some(home) }),
                None => pinned,
            },
        }
    }

    /// To the ring's next, where the session's home drains by migration and this is one of those that have moved by now.
    /// With nobody to take it, it stays.
    fn migrated(&self, key: u64, home: u16, now: u32) -> Option<Choice> {
        let backend = self.backend(home);
        let drain = backend.drain.as_ref().filter(|_| backend.admin_state == AdminState::Draining)?;
        if self.force || self.stays() || !drain::has_moved(drain, key, now) || !self.takes_pinned(home) {
            return None;
        }
        let next = self.next_with_room(key)?;
        Some(Choice { backend: next, outcome: Outcome::Repinned { from: Some(home), cause: Cause::Migrated } })
    }

    /// To one that has less than its share, where the session's home has more and it is this one's turn.
    fn rebalanced(&self, key: u64, home: u16, idle: u32, now: u32) -> Option<Choice> {
        let rebalancing = self.pool.rebalancing.as_ref()?;
        if self.force || self.stays() || !self.takes_pinned(home) || !rebalancing.moves(home, key, idle, now) {
            return None;
        }
        let next = rebalancing.next(key, |index| self.takes_new(index) && self.has_room(index))?;
        Some(Choice { backend: next, outcome: Outcome::Repinned { from: Some(home), cause: Cause::Rebalanced } })
    }

    /// To whom balance chooses, where a release has let the session go and its home takes sessions: what drains or is
    /// down goes by its own rules. With nobody to take it, it stays.
    fn released(&self, asked: &Asked, home: u16, turn: &mut Turn) -> Option<Choice> {
        let release = self.pool.release.as_ref()?;
        if self.force || self.stays() || !is_released(asked.key, release.share) || !self.is_open(home) {
            return None;
        }
        let Asked { key, random, now, .. } = *asked;
        // The ring would send it to the same backend each time, and so nothing would be tried.
        let by_ring = self.pool.settings.balance == Balance::Ring;
        let backend = self.warm_first(random, now, |among, takes| match by_ring {
            true => among.wheel.draw(random, takes),
            false => balance(self.pool, among, key, random, turn, self.view, takes),
        });
        let backend = backend.ok()?;
        Some(Choice { backend, outcome: Outcome::Released { from: home } })
    }

    /// Whether a backend serves what it is sent, as far as is known without this request.
    fn is_open(&self, index: u16) -> bool {
        let backend = self.backend(index);
        let is_up = || backend.health != Health::Down && !self.view.is_marked_down(index);
        backend.admin_state == AdminState::Active && backend.address.is_some() && (self.pool.fails_open || is_up())
    }

    /// Away from a backend that can't be used, along the ring: to the same place on every core and node.
    fn leave(&self, key: u64, from: Option<u16>, cause: Cause) -> Result<Choice, Unserved> {
        let settings = &self.pool.settings;
        let on_down = settings.affinity.on_down;
        // A drain costs nobody a request.
        let may_leave = on_down != OnDown::Fail || cause == Cause::Draining;
        if settings.health.fail_open && !self.all().any(|index| self.takes_new(index)) {
            // With nobody left to take it, a session is best served where its state is.
            let home = from.filter(|home| cause == Cause::Down && self.backend(*home).address.is_some());
            if let Some(backend) = home {
                return Ok(Choice { backend, outcome: Outcome::Pinned });
            }
        }
        if !may_leave {
            return Err(Unserved::PinnedDown(cause));
        }
        if self.stays() && self.all().any(|index| self.takes_new(index)) {
            // What can't move waits for nobody's room.
            return Err(Unserved::Ended(Ended::Left(cause)));
        }
        let backend = self.newcomer(|among, takes| among.ring.first_usable(key, takes))?;
        let outcome = match (on_down, from, cause) {
            (OnDown::Spill, Some(from), Cause::Down | Cause::Retry) => Outcome::Spilled { from, cause },
            (OnDown::Spill | OnDown::Repin | OnDown::Fail, _, _) => Outcome::Repinned { from, cause },
        };
        Ok(Choice { backend, outcome })
    }
}
