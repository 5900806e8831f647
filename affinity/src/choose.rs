//! Choosing: where a request goes and what becomes of its pin. One pure function for workers, previews, explanations,
//! tests and benches.

use crate::{
    balance::{View, balance},
    drain,
    table::{Backend, PoolTable},
    wheel::Turn,
};
use control::{
    desired::AdminState,
    spec::{Mode, OnDown},
    status::Health,
};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub backend: u16,
    pub outcome: Outcome,
}

/// What became of the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pool pins nothing.
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
    Spilled { from: u16 },
}

/// Why a pinned backend can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Down,
    Maintenance,
    /// It drained up to its deadline, and what was left had to go.
    Deadline,
    /// It drains by migration, and it is this session's turn.
    Migrated,
    Removed,
    /// It drains, and where the key alone says where, its sessions can't be told from new ones.
    Draining,
    /// It has just failed this very request.
    Retry,
}

/// Why no backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// None is usable.
    NoBackend,
    /// The session's own is not usable, and `on_down` is `fail`.
    PinnedDown,
}

/// Chooses for a request.
///
/// # Errors
/// Where nobody may serve the request.
pub fn choose(pool: &PoolTable, asked: &Asked, turn: &mut Turn, view: &impl View) -> Result<Choice, Unserved> {
    let Asked { pin, key, random, now } = *asked;
    let chooser = Chooser { pool, view };
    let new = |outcome, turn: &mut Turn| {
        let mut fresh = balance(pool, key, random, turn, view, |backend| chooser.takes_new(backend));
        if fresh.is_none() && pool.settings.health.fail_open {
            fresh = balance(pool, key, random, turn, view, |backend| chooser.takes_new_though_down(backend));
        }
        fresh.map(|backend| Choice { backend, outcome }).ok_or(Unserved::NoBackend)
    };
    match pin {
        Pin::Absent if pool.settings.affinity.mode == Mode::None => new(Outcome::Free, turn),
        Pin::Absent => new(Outcome::New, turn),
        Pin::Gone => chooser.leave(key, None, Cause::Removed),
        Pin::Hashed => match pool.ring.lookup(key) {
            Some(home) if chooser.backend(home).admin_state == AdminState::Draining => {
                chooser.leave(key, Some(home), Cause::Draining)
            }
            Some(home) => chooser.at_home(key, home),
            None => Err(Unserved::NoBackend),
        },
        Pin::At { backend, incarnation } => {
            if incarnation.is_some_and(|life| life != chooser.backend(backend).incarnation) {
                return new(Outcome::Lost, turn);
            }
            chooser.migrated(key, backend, now).map_or_else(|| chooser.at_home(key, backend), Ok)
        }
    }
}

struct Chooser<'a, V> {
    pool: &'a PoolTable,
    view: &'a V,
}

impl<V: View> Chooser<'_, V> {
    fn backend(&self, index: u16) -> &Backend {
        &self.pool.backends[usize::from(index)]
    }

    fn is_up(&self, index: u16) -> bool {
        let backend = self.backend(index);
        backend.address.is_some()
            && backend.health != Health::Down
            && !self.view.is_marked_down(index)
            && !self.view.was_tried(index)
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

    /// To the session's home, or else wherever the pool's settings send it.
    fn at_home(&self, key: u64, home: u16) -> Result<Choice, Unserved> {
        if self.takes_pinned(home) {
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

    /// To the ring's next, where the session's home drains by migration and this is one of those that have moved by now.
    /// With nobody to take it, it stays.
    fn migrated(&self, key: u64, home: u16, now: u32) -> Option<Choice> {
        let backend = self.backend(home);
        let drain = backend.drain.as_ref().filter(|_| backend.admin_state == AdminState::Draining)?;
        if !drain::has_moved(drain, key, now) || !self.takes_pinned(home) {
            return None;
        }
        let next = self.pool.ring.first_usable(key, |backend| self.takes_new(backend))?;
        Some(Choice { backend: next, outcome: Outcome::Repinned { from: Some(home), cause: Cause::Migrated } })
    }

    /// Away from a backend that can't be used, along the ring: to the same place on every core and node.
    fn leave(&self, key: u64, from: Option<u16>, cause: Cause) -> Result<Choice, Unserved> {
        let settings = &self.pool.settings;
        let on_down = settings.affinity.on_down;
        // A drain costs nobody a request.
        let may_leave = on_down != OnDown::Fail || cause == Cause::Draining;
        let mut next = self.pool.ring.first_usable(key, |backend| self.takes_new(backend));
        if next.is_none() && settings.health.fail_open {
            // With nobody left to take it, a session is best served where its state is.
            let home = from.filter(|home| cause == Cause::Down && self.backend(*home).address.is_some());
            if let Some(backend) = home {
                return Ok(Choice { backend, outcome: Outcome::Pinned });
            }
            next = self.pool.ring.first_usable(key, |backend| self.takes_new_though_down(backend));
        }
        let backend = match next {
            _ if !may_leave => return Err(Unserved::PinnedDown),
            Some(backend) => backend,
            None => return Err(Unserved::NoBackend),
        };
        let outcome = match (on_down, from, cause) {
            (OnDown::Spill, Some(from), Cause::Down | Cause::Retry) => Outcome::Spilled { from },
            (OnDown::Spill | OnDown::Repin | OnDown::Fail, _, _) => Outcome::Repinned { from, cause },
        };
        Ok(Choice { backend, outcome })
    }
}
