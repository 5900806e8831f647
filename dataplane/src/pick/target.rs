use super::{Claim, settle};
use crate::{
    access_log::Entry,
    worker::{Queue, Waits, Worker, WorkerView},
};
use affinity::{
    balance::View,
    choose::{Choice, Outcome, Pin, Unserved, choose},
    free::free_choice,
    marker,
    table::PoolTable,
};
use control::{
    Endpoint,
    spec::{Mode, OnOverload},
    status::Health,
};

/// Why there is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unchosen {
    /// Nobody may serve the request; counted already.
    Nobody(Unserved),
    /// Nobody has room, and it is to wait there.
    Full(Queue),
}

/// Where a request goes, of one generation of the table.
pub(crate) struct Target {
    pub(crate) slot: u32,
    pub(crate) address: Endpoint,
    /// It is spoken to over TLS.
    pub(crate) is_tls: bool,
    /// And in HTTP/2.
    pub(super) is_http2: bool,
    generation: u64,
    /// Where its pool stands in that table, and where it stands in the pool.
    pool_index: usize,
    index: u16,
    pub(crate) outcome: Outcome,
    /// The slot of the backend that the session leaves or spills from.
    pub(crate) from: Option<u32>,
    /// The `Set-Cookie` line that goes out with the response, where that does not depend on it; often none.
    pub(crate) set_cookie: Vec<u8>,
    /// It gets the request even if it has as many as it may have: the session stays, a rule says so, or all are down.
    pub(crate) beyond: bool,
    /// The response decides on the session's marker.
    pub(crate) follows: bool,
    /// Sessions have keys by which they are counted.
    pub(crate) has_sessions: bool,
    /// A session that moves is marked anew. Where not, a request that goes elsewhere binds nothing, and is home again as soon
    /// as it can be.
    pub(crate) marks: bool,
}

impl Target {
    /// Chooses by the table of this moment. `tried` are the slots where this request has failed.
    ///
    /// # Errors
    /// Where nobody may serve the request, or not yet.
    pub(crate) fn choose(worker: &Worker, claim: &Claim, tried: &[u32], waits: Waits) -> Result<Self, Unchosen> {
        let table = worker.table.borrow();
        // A pool that was removed meanwhile serves nobody.
        let Some(pool_index) = table.pools.iter().position(|pool| pool.slot == claim.pool.slot) else {
            return Err(Unchosen::Nobody(Unserved::NoBackend));
        };
        let pool = &table.pools[pool_index];
        let pin = pin_now(pool, claim);
        let view = WorkerView { worker, pool, tried, waits };
        let (random, now) = (worker.clock.random(), worker.clock.unix());
        let asked = claim.found.asked(pin, random, now);
        let chosen = worker.with_local(pool.slot, |local| choose(pool, &asked, &mut local.turn, &view));
        match chosen {
            Ok(choice) => {
                // Not asked is whether it is full by now: what has just been taken by others is no reason to go beyond.
                let stays = pool.settings.affinity.on_overload == OnOverload::Stay && choice.outcome == Outcome::Pinned;
                let is_down = pool.backends[usize::from(choice.backend)].health == Health::Down;
                let beyond = stays || claim.found.forced || is_down || view.is_marked_down(choice.backend);
                let target = Self::of(worker, (pool_index, pool), claim, choice, beyond);
                target.ok_or(Unchosen::Nobody(Unserved::NoBackend))
            }
            Err(Unserved::Full { home }) => Err(Unchosen::Full(match home {
                Some(home) => Queue::Backend(pool.backends[usize::from(home)].slot),
                None => Queue::Pool(pool.slot),
            })),
            Err(unserved) => {
                settle::unserved(worker, claim, unserved);
                Err(Unchosen::Nobody(unserved))
            }
        }
    }

    fn of(
        worker: &Worker,
        (pool_index, pool): (usize, &PoolTable),
        claim: &Claim,
        choice: Choice,
        beyond: bool,
    ) -> Option<Self> {
        let backend = &pool.backends[usize::from(choice.backend)];
        let affinity = &pool.settings.affinity;
        let marker = || marker::marker(pool, &claim.found, choice, claim.fresh, worker.clock.unix());
        let mut set_cookie = Vec::new();
        // Where the application names its sessions, its response decides.
        let follows = affinity.follows().is_some();
        if !follows && let Some(marker) = marker() {
            marker::write(pool, &marker, &mut set_cookie);
            marker::take_away(pool, &claim.found, &mut set_cookie);
        }
        let slot_of = |index: u16| pool.backends[usize::from(index)].slot;
        let from = match choice.outcome {
            Outcome::Repinned { from, .. } => from.map(slot_of),
            Outcome::Spilled { from, .. } | Outcome::Released { from } => Some(slot_of(from)),
            Outcome::Lost => claim.pinned,
            Outcome::Free | Outcome::New | Outcome::Pinned => None,
        };
        Some(Self {
            slot: backend.slot,
            address: backend.address.clone()?,
            is_tls: backend.server_name.is_some(),
            is_http2: pool.settings.http2,
            generation: worker.generation.get(),
            pool_index,
            index: choice.backend,
            outcome: choice.outcome,
            from,
            set_cookie,
            beyond,
            follows,
            has_sessions: affinity.has_sessions(),
            marks: affinity.marks() && claim.found.may_mark,
        })
    }

    /// The slot of the backend that free balancing would have sent this request to, had its pool no affinity; `None` where
    /// it has none. To be asked once for each request that is sent.
    pub(crate) fn free_choice(&self, worker: &Worker) -> Option<u32> {
        let table = worker.table.borrow();
        let pool = table.pools.get(self.pool_index).filter(|pool| pool.settings.affinity.mode != Mode::None)?;
        let chosen = worker.with_local(pool.slot, |local| free_choice(pool, &mut local.free));
        Some(chosen.map_or(self.slot, |index| pool.backends[usize::from(index)].slot))
    }

    /// Tells the access log whom this request goes to. To be asked at once: by the next table it may stand elsewhere.
    pub(crate) fn tell(&self, worker: &Worker, entry: Option<&mut Box<Entry>>) {
        let Some(entry) = entry else { return };
        let table = worker.table.borrow();
        let backend = table.pools.get(self.pool_index).and_then(|pool| pool.backends.get(usize::from(self.index)));
        entry.chose(worker, backend.map_or("", |backend| &backend.name));
    }

    /// Whether this was chosen by the table that the worker has by now. What was chosen by an older one must be chosen
    /// anew: once a drain is answered as applied, no new session may reach the backend.
    pub(crate) fn is_current(&self, worker: &Worker) -> bool {
        worker.catch_up();
        self.generation == worker.generation.get()
    }

    /// Whether a session is sent to another backend than its own, its pin unchanged.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.outcome, Outcome::Released { .. }) && self.from != Some(self.slot)
    }
}

/// The pin as the table of this moment has it: indexes are of one table, slots of all.
fn pin_now(pool: &PoolTable, claim: &Claim) -> Pin {
    match (claim.found.pin, claim.pinned) {
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
