use super::{
    failure::{Failure, Kind},
    request::Request,
    settle,
};
use crate::{
    io::{Stream, within},
    worker::{Connection, Queue, Waits, Worker, WorkerView},
};
use affinity::{
    balance::View,
    choose::{Choice, Outcome, Pin, Unserved, choose},
    free::free_choice,
    marker,
    table::PoolTable,
};
use control::{
    counters::BackendCount,
    spec::{Mode, OnDown, OnOverload},
    status::Health,
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io, net::SocketAddr, sync::Arc};

/// Why there is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchosen {
    /// Nobody may serve the request; counted already.
    Nobody(Unserved),
    /// Nobody has room, and it is to wait there.
    Full(Queue),
}

/// Where a request goes, of one generation of the table.
pub(super) struct Target {
    pub(super) slot: u32,
    pub(super) address: SocketAddr,
    /// It is spoken to over TLS.
    is_tls: bool,
    generation: u64,
    /// Where its pool stands in that table.
    pool_index: usize,
    pub(super) outcome: Outcome,
    /// The slot of the backend that the session leaves or spills from.
    pub(super) from: Option<u32>,
    /// The `Set-Cookie` line that goes out with the response, where that does not depend on it; often none.
    pub(super) set_cookie: Vec<u8>,
    /// It gets the request even if it has as many as it may have: the session stays, a rule says so, or all are down.
    pub(super) beyond: bool,
    /// The response decides on the session's marker.
    pub(super) follows: bool,
    /// Sessions have keys by which they are counted.
    pub(super) has_sessions: bool,
    /// A session that moves is marked anew. Where not, a request that goes elsewhere binds nothing, and is home again as soon
    /// as it can be.
    pub(super) marks: bool,
}

impl Target {
    /// Chooses by the table of this moment. `tried` are the slots where this request has failed.
    ///
    /// # Errors
    /// Where nobody may serve the request, or not yet.
    pub(super) fn choose(worker: &Worker, request: &Request, tried: &[u32], waits: Waits) -> Result<Self, Unchosen> {
        let table = worker.table.borrow();
        // A pool that was removed meanwhile serves nobody.
        let Some(pool_index) = table.pools.iter().position(|pool| pool.slot == request.pool.slot) else {
            return Err(Unchosen::Nobody(Unserved::NoBackend));
        };
        let pool = &table.pools[pool_index];
        let pin = pin_now(pool, request);
        let view = WorkerView { worker, pool, tried, waits };
        let (random, now) = (worker.clock.random(), worker.clock.unix());
        let asked = request.found.asked(pin, random, now);
        let chosen = worker.with_local(pool.slot, |local| choose(pool, &asked, &mut local.turn, &view));
        match chosen {
            Ok(choice) => {
                // Not asked is whether it is full by now: what has just been taken by others is no reason to go beyond.
                let stays = pool.settings.affinity.on_overload == OnOverload::Stay && choice.outcome == Outcome::Pinned;
                let is_down = pool.backends[usize::from(choice.backend)].health == Health::Down;
                let beyond = stays || request.found.forced || is_down || view.is_marked_down(choice.backend);
                let target = Self::of(worker, (pool_index, pool), request, choice, beyond);
                target.ok_or(Unchosen::Nobody(Unserved::NoBackend))
            }
            Err(Unserved::Full { home }) => Err(Unchosen::Full(match home {
                Some(home) => Queue::Backend(pool.backends[usize::from(home)].slot),
                None => Queue::Pool(pool.slot),
            })),
            Err(unserved) => {
                settle::unserved(worker, request, unserved);
                Err(Unchosen::Nobody(unserved))
            }
        }
    }

    fn of(
        worker: &Worker,
        (pool_index, pool): (usize, &PoolTable),
        request: &Request,
        choice: Choice,
        beyond: bool,
    ) -> Option<Self> {
        let backend = &pool.backends[usize::from(choice.backend)];
        let affinity = &pool.settings.affinity;
        let marker = || marker::marker(pool, &request.found, choice, request.fresh, worker.clock.unix());
        let mut set_cookie = Vec::new();
        // Where the application names its sessions, its response decides.
        let follows = affinity.follows().is_some();
        if !follows && let Some(marker) = marker() {
            marker::write(pool, &marker, &mut set_cookie);
            marker::take_away(pool, &request.found, &mut set_cookie);
        }
        let slot_of = |index: u16| pool.backends[usize::from(index)].slot;
        let from = match choice.outcome {
            Outcome::Repinned { from, .. } => from.map(slot_of),
            Outcome::Spilled { from, .. } | Outcome::Released { from } => Some(slot_of(from)),
            Outcome::Lost => request.pinned,
            Outcome::Free | Outcome::New | Outcome::Pinned => None,
        };
        Some(Self {
            slot: backend.slot,
            address: backend.address?,
            is_tls: backend.server_name.is_some(),
            generation: worker.generation.get(),
            pool_index,
            outcome: choice.outcome,
            from,
            set_cookie,
            beyond,
            follows,
            has_sessions: affinity.has_sessions(),
            marks: affinity.marks() && request.found.may_mark,
        })
    }

    /// The slot of the backend that free balancing would have sent this request to, had its pool no affinity; `None` where
    /// it has none. To be asked once for each request that is sent.
    pub(super) fn free_choice(&self, worker: &Worker) -> Option<u32> {
        let table = worker.table.borrow();
        let pool = table.pools.get(self.pool_index).filter(|pool| pool.settings.affinity.mode != Mode::None)?;
        let chosen = worker.with_local(pool.slot, |local| free_choice(pool, &mut local.free));
        Some(chosen.map_or(self.slot, |index| pool.backends[usize::from(index)].slot))
    }

    /// Whether this was chosen by the table that the worker has by now. What was chosen by an older one must be chosen
    /// anew: once a drain is answered as applied, no new session may reach the backend.
    pub(super) fn is_current(&self, worker: &Worker) -> bool {
        worker.catch_up();
        self.generation == worker.generation.get()
    }

    /// Whether a session is sent to another backend than its own, its pin unchanged.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.outcome, Outcome::Released { .. }) && self.from != Some(self.slot)
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

/// Whether a request that failed there may go to another backend: where its pool's `on_down` is `fail`, only one without a
/// session, or one that a release has let go.
pub(super) fn may_leave(worker: &Worker, request: &Request, target: &Target) -> bool {
    let table = worker.table.borrow();
    let pool = table.pools.iter().find(|pool| pool.slot == request.pool.slot);
    pool.is_some_and(|pool| {
        let is_free = matches!(request.found.pin, Pin::Absent | Pin::Free);
        let is_released = matches!(target.outcome, Outcome::Released { .. });
        pool.settings.affinity.on_down != OnDown::Fail || is_free || is_released
    })
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
    if !fresh && let Some(connection) = worker.backends.take(target.slot, target.address, target.is_tls) {
        return Ok((connection, true));
    }
    let opened = async {
        let stream = Stream::connect(target.address, request.pool.timeouts.connect.to_std()).await.map_err(kind_of)?;
        match target.is_tls {
            false => Ok(stream),
            // On the heap, so that requests to other pools have no room for it.
            true => Box::pin(secure(worker, request, target, stream)).await,
        }
    };
    match opened.await {
        Ok(stream) => {
            worker.board().count_backend(target.slot, BackendCount::Connects);
            let deadline = worker.deadline(stream.handle()).leads_to(target.slot);
            Ok((Connection { deadline, stream, address: target.address }, false))
        }
        Err(kind) => {
            let count = if kind == Kind::Handshake { BackendCount::TlsFailures } else { BackendCount::ConnectFailures };
            worker.board().count_backend(target.slot, count);
            Err(Failure::backend(kind, false))
        }
    }
}

fn kind_of(error: io::Error) -> Kind {
    match error.raw_os_error() {
        // No fault of the backend's.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Kind::Exhausted,
        _ if error.kind() == io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        _ => Kind::Connect,
    }
}

/// Shakes hands with the backend.
async fn secure(worker: &Worker, request: &Request, target: &Target, stream: Stream) -> Result<Stream, Kind> {
    let (trusted, name) = trust(worker, request, target).ok_or(Kind::Handshake)?;
    let shaken = stream.connect_tls(trusted, name, async || worker.handshakes.turn().await);
    match within(request.pool.timeouts.connect.to_std(), shaken).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(refused)) => {
            tracing::debug!(?refused, "no handshake with the backend");
            Err(Kind::Handshake)
        }
        None => Err(Kind::ConnectTimeout),
    }
}

/// How the backend is spoken to, and the name that it has to show a certificate for.
fn trust(worker: &Worker, request: &Request, target: &Target) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
    let table = worker.table.borrow();
    let pool = table.pools.iter().find(|pool| pool.slot == request.pool.slot)?;
    let backend = pool.backends.iter().find(|backend| backend.slot == target.slot)?;
    let name = ServerName::try_from(backend.server_name.as_deref()?).ok()?.to_owned();
    Some((worker.trusted(&pool.name)?, name))
}
