use super::{
    failure::{Failure, Kind},
    request::Request,
};
use crate::control::sessions::Touch;
use crate::{
    io::Stream,
    worker::{Connection, Worker, WorkerView},
};
use affinity::{
    choose::{Asked, Choice, Outcome, Pin, Unserved, choose},
    marker,
    table::PoolTable,
};
use control::{
    counters::{BackendCount, PoolCount},
    spec::{Mode, OnDown, TokenKind},
};
use std::{io, net::SocketAddr};

/// Where a request goes, of one generation of the table.
pub(super) struct Target {
    pub(super) slot: u32,
    pub(super) address: SocketAddr,
    generation: u64,
    outcome: Outcome,
    /// The slot of the backend that the session leaves or spills from.
    from: Option<u32>,
    /// The `Set-Cookie` line that goes out with the response; often none.
    pub(super) set_cookie: Vec<u8>,
    /// The session key that counts as live; absent where the affinity has none.
    live: Option<u64>,
    /// The key alone says where: a request that goes elsewhere binds nothing, and is home again as soon as it can be.
    hashed: bool,
}

impl Target {
    /// Chooses by the table of this moment. `tried` are the slots where this request has failed.
    ///
    /// # Errors
    /// Where nobody may serve the request; counted already.
    pub(super) fn choose(worker: &Worker, request: &Request, tried: &[u32]) -> Result<Self, Unserved> {
        let table = worker.table.borrow();
        // A pool that was removed meanwhile serves nobody.
        let Some(pool) = table.pools.iter().find(|pool| pool.slot == request.pool.slot) else {
            return Err(Unserved::NoBackend);
        };
        let pin = pin_now(pool, request);
        let view = WorkerView { worker, pool, tried };
        let (random, now) = (worker.clock.random(), worker.clock.unix());
        let asked = Asked { pin, key: request.found.key, random, now };
        let chosen = worker.with_local(pool.slot, |local| choose(pool, &asked, &mut local.turn, &view));
        match chosen {
            Ok(choice) => Self::of(worker, pool, request, choice).ok_or(Unserved::NoBackend),
            Err(unserved) => {
                let what = match unserved {
                    Unserved::NoBackend => PoolCount::NoBackend,
                    Unserved::PinnedDown => PoolCount::FailedDown,
                };
                worker.board().count_pool(pool.slot, what);
                Err(unserved)
            }
        }
    }

    fn of(worker: &Worker, pool: &PoolTable, request: &Request, choice: Choice) -> Option<Self> {
        let backend = &pool.backends[usize::from(choice.backend)];
        let affinity = &pool.settings.affinity;
        let marker = marker::marker(pool, &request.found, choice, request.fresh, worker.clock.unix());
        let mut set_cookie = Vec::new();
        if let Some(marker) = marker {
            marker::write(pool, &marker, &mut set_cookie);
        }
        let begins = matches!(choice.outcome, Outcome::New | Outcome::Lost);
        let live = match affinity.mode {
            Mode::Cookie if affinity.cookie.token == TokenKind::Plain => None,
            Mode::Cookie => Some(if begins { request.fresh } else { request.found.key }),
            Mode::SourceIp => Some(request.found.key),
            Mode::None => None,
        };
        let slot_of = |index: u16| pool.backends[usize::from(index)].slot;
        let from = match choice.outcome {
            Outcome::Repinned { from, .. } => from.map(slot_of),
            Outcome::Spilled { from } => Some(slot_of(from)),
            Outcome::Lost => request.pinned,
            Outcome::Free | Outcome::New | Outcome::Pinned => None,
        };
        Some(Self {
            slot: backend.slot,
            address: backend.address?,
            generation: worker.generation.get(),
            outcome: choice.outcome,
            from,
            set_cookie,
            live,
            hashed: request.found.pin == Pin::Hashed,
        })
    }

    /// Whether this was chosen by the table that the worker has by now. What was chosen by an older one must be chosen
    /// anew: once a drain is answered as applied, no new session may reach the backend.
    pub(super) fn is_current(&self, worker: &Worker) -> bool {
        worker.catch_up();
        self.generation == worker.generation.get()
    }

    /// Counts what became of the session, once the backend has answered.
    pub(super) fn settle(&self, worker: &Worker, pool: u32) {
        use affinity::choose::Cause;
        let board = worker.board();
        let session = match self.outcome {
            Outcome::Free => None,
            Outcome::New => Some(PoolCount::Unpinned),
            Outcome::Pinned => Some(PoolCount::Pinned),
            Outcome::Lost => Some(PoolCount::LostIncarnation),
            Outcome::Spilled { .. } => Some(PoolCount::Spilled),
            Outcome::Repinned { cause, .. } if self.hashed && cause != Cause::Draining => Some(PoolCount::Spilled),
            Outcome::Repinned { cause, .. } => Some(match cause {
                Cause::Down => PoolCount::RepinnedDown,
                Cause::Maintenance => PoolCount::RepinnedMaintenance,
                Cause::Migrated => PoolCount::RepinnedMigrate,
                Cause::Deadline => PoolCount::RepinnedDeadline,
                Cause::Removed => PoolCount::RepinnedRemoved,
                Cause::Draining => PoolCount::RepinnedDraining,
                Cause::Retry => PoolCount::RepinnedRetry,
            }),
        };
        if let Some(what) = session {
            board.count_pool(pool, what);
        }
        match self.outcome {
            Outcome::New | Outcome::Lost => board.count_backend(self.slot, BackendCount::SessionsNew),
            Outcome::Repinned { .. } if !self.hashed => {
                board.count_backend(self.slot, BackendCount::SessionsArrived);
            }
            Outcome::Free | Outcome::Pinned | Outcome::Spilled { .. } | Outcome::Repinned { .. } => {}
        }
        match (self.from, self.outcome) {
            (Some(from), Outcome::Repinned { .. } | Outcome::Lost) if !self.hashed => {
                board.count_backend(from, BackendCount::SessionsLost);
            }
            _ => {}
        }
        let home = if let Outcome::Spilled { .. } = self.outcome { self.from } else { Some(self.slot) };
        if let (Some(key), Some(backend)) = (self.live, home) {
            worker.touches.note(Touch { key, pool, backend, at: worker.clock.unix() });
        }
    }
}

/// The pin as the table of this moment has it: indexes are of one table, slots of all.
fn pin_now(pool: &PoolTable, request: &Request) -> Pin {
    match (request.found.pin, request.pinned) {
        (Pin::At { backend, incarnation }, Some(slot)) => {
            let same = pool.backends.get(usize::from(backend)).filter(|candidate| candidate.slot == slot);
            let index = if same.is_some() {
                Some(usize::from(backend))
            } else {
                pool.backends.iter().position(|backend| backend.slot == slot)
            };
            match index.and_then(|index| u16::try_from(index).ok()) {
                Some(backend) => Pin::At { backend, incarnation },
                None => Pin::Gone,
            }
        }
        (pin, _) => pin,
    }
}

/// Whether a failed request may go to another backend: where its pool's `on_down` is `fail`, only one without a session.
pub(super) fn may_leave(worker: &Worker, request: &Request) -> bool {
    let table = worker.table.borrow();
    let pool = table.pools.iter().find(|pool| pool.slot == request.pool.slot);
    pool.is_some_and(|pool| pool.settings.affinity.on_down != OnDown::Fail || request.found.pin == Pin::Absent)
}

/// An open connection to the backend, and whether it has served before.
///
/// # Errors
/// Where none can be opened.
pub(super) async fn connect(
    worker: &Worker,
    request: &Request,
    target: &Target,
    fresh: bool,
) -> Result<(Connection, bool), Failure> {
    if !fresh && let Some(connection) = worker.backends.take(target.slot, target.address) {
        return Ok((connection, true));
    }
    match Stream::connect(target.address, request.pool.timeouts.connect.to_std()).await {
        Ok(stream) => {
            worker.board().count_backend(target.slot, BackendCount::Connects);
            Ok((Connection { deadline: worker.deadline(stream.fd()), stream, address: target.address }, false))
        }
        Err(error) => {
            worker.board().count_backend(target.slot, BackendCount::ConnectFailures);
            let kind = match error.raw_os_error() {
                // No fault of the backend's.
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Kind::Exhausted,
                _ if error.kind() == io::ErrorKind::TimedOut => Kind::ConnectTimeout,
                _ => Kind::Connect,
            };
            Err(Failure::backend(kind, false))
        }
    }
}
