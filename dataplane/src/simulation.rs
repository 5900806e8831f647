//! A data plane that does nothing by itself: its control thread, its workers and what lies between them as they are, but
//! no loops, no sockets of clients and no clock. What happens next, and at what time, the simulation of the whole says,
//! which is all that this is for.

use crate::{
    control::simulation::Thread,
    counters::Board,
    pick::{Claim, Failure, Kind, PoolRules, Target, Unchosen, begin, may_retry, note},
    worker::{Gates, Handover, Mailbox, Shared, Start, Waits, simulation::Idle},
};
use affinity::{
    choose::{Outcome, Pin, Unserved},
    marker::{self, Found, Parts},
    table::Table,
};
use control::{config::Global, desired::Snapshot};
use std::{cell::Cell, io, net::IpAddr, os::unix::net::UnixStream, sync::Arc};

thread_local! {
    static NOW: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// The time on this thread: milliseconds of a clock that only goes forward, and Unix milliseconds.
pub fn set_now(now: (u64, u64)) {
    NOW.set(Some(now));
}

pub(crate) fn now() -> Option<(u64, u64)> {
    NOW.get()
}

/// Runs a simulation where workers can be made: within a runtime as theirs.
///
/// # Errors
/// There is no io_uring.
pub fn within<T>(simulation: impl FnOnce() -> T) -> io::Result<T> {
    let mut runtime =
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(256).enable_timer().build()?;
    Ok(runtime.block_on(async { simulation() }))
}

/// The processes of a data plane's life.
pub struct Process {
    thread: Thread,
    workers: Vec<Idle>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// A request whose backend is chosen and that has not been sent yet.
pub struct Exchange {
    claim: Claim,
    target: Target,
    /// When that was, by the worker's clock in Unix seconds.
    chosen_at: u32,
    /// The slots that the worker had marked down then.
    marked: Vec<u32>,
    /// The slots where it has failed.
    tried: Vec<u32>,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backend, incarnation, outcome, generation, .. } = self;
        write!(f, "{backend} (life {incarnation}) as {outcome:?} by {generation}, {:?}", self.cookie())
    }
}

impl Sent {
    /// The value of the cookie that the response sets.
    pub fn cookie(&self) -> Option<&str> {
        let line = str::from_utf8(&self.set_cookie).ok()?.strip_prefix("Set-Cookie: ")?;
        line.split_once(';').map(|(cookie, _)| cookie)
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("slot", &self.target.slot).finish_non_exhaustive()
    }
}

/// Where a request was sent.
pub struct Sent {
    pub backend: String,
    pub incarnation: u32,
    pub outcome: Outcome,
    /// The `Set-Cookie` line of the response; often empty.
    pub set_cookie: Vec<u8>,
    /// The generation by which it was.
    pub generation: u64,
    /// When it was chosen, by the worker's clock in Unix seconds.
    pub chosen_at: u32,
    /// The slots that the worker had marked down then.
    pub marked: Vec<u32>,
}

/// What a request says.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub pool: &'a str,
    /// The value of its `Cookie` header, where it has one.
    pub cookie: Option<&'a [u8]>,
    pub client: IpAddr,
}

impl Process {
    /// # Errors
    /// No sockets can be had.
    pub fn start(global: Global, workers: usize, seed: u64) -> io::Result<Self> {
        let ends: Vec<_> = (0..workers).map(|_| Mailbox::new()).collect::<Result<_, _>>()?;
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) =
            ends.into_iter().map(|(ours, theirs)| (Arc::new(ours), theirs)).unzip();
        let boards = (0..workers).map(|_| Board::new()).collect();
        let shared = Arc::new(Shared::new(boards, Gates::new(mailboxes.clone())));
        let (events, hears) = crossbeam_channel::unbounded();
        let (handover, handed) = Handover::new(64);
        let workers = (0..).zip(inboxes).map(|(id, inbox)| {
            Idle::new(Start {
                id,
                shared: Arc::clone(&shared),
                inbox,
                events: events.clone(),
                recorder: crate::access_log::Recorder::default(),
                handover: handover.clone(),
                sockets: Vec::new(),
                seed: affinity::hash::mix64(seed ^ id as u64),
                secret: [0; 16],
                buffer_size: crate::MIN_BUFFER,
                give_back: || {},
            })
        });
        let workers = workers.collect::<Result<_, _>>()?;
        Ok(Self { thread: Thread::new(global, mailboxes, shared, hears, handed), workers })
    }

    /// A connection to the admin process is made; the admin process's end of it.
    ///
    /// # Errors
    /// No socket can be had.
    pub fn connect(&mut self, link: u64) -> io::Result<UnixStream> {
        self.thread.connected(link)
    }

    /// # Errors
    /// It is no line of the control channel.
    pub fn hear_admin(&mut self, link: u64, line: &[u8]) -> Result<(), String> {
        self.thread.hear_admin(link, line)
    }

    pub fn lose(&mut self, link: u64) {
        self.thread.lost(link);
    }

    /// Whether it has not hung up by itself.
    pub fn is_connected(&self) -> bool {
        self.thread.is_connected()
    }

    /// The control thread takes one thing that a worker has said; false where none has said any.
    pub fn hear_worker(&mut self) -> bool {
        self.thread.hear_worker()
    }

    /// It has waited for the admin process for long enough.
    pub fn serve_by_snapshot(&mut self) {
        self.thread.serve_by_snapshot();
    }

    /// A second passes for the control thread and all workers.
    pub fn tick(&mut self) {
        self.workers.iter().for_each(Idle::tick);
        self.thread.tick();
    }

    /// The worker's clock is read, as it is at each of its own ticks.
    pub fn tick_worker(&self, worker: usize) {
        self.workers[worker].tick();
    }

    /// The worker acts on what waits in its mailbox.
    pub fn wake(&self, worker: usize) {
        self.workers[worker].wake();
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What the control thread has heard.
    pub fn snapshot(&self) -> &Snapshot {
        self.thread.snapshot()
    }

    /// A look at the table that the worker routes by.
    pub fn table<T>(&self, worker: usize, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.workers[worker].worker.table.borrow())
    }

    /// Whether the worker itself has marked the backend down.
    pub fn is_marked(&self, worker: usize, slot: u32) -> bool {
        self.workers[worker].is_marked(slot)
    }

    /// The backend that was chosen for it, by the table that the worker has by now.
    pub fn chosen(&self, worker: usize, exchange: &Exchange) -> Option<String> {
        let table = self.workers[worker].worker.table.borrow();
        let mut backends = table.pools.iter().flat_map(|pool| &pool.backends);
        backends.find(|backend| backend.slot == exchange.target.slot).map(|backend| backend.name.clone())
    }

    /// A request comes to a worker, which chooses for it.
    ///
    /// # Errors
    /// Nobody serves it; or `None`, where there is no such pool, or it is to wait for room.
    pub fn begin(&self, worker: usize, request: &Request<'_>) -> Result<Exchange, Option<Unserved>> {
        let idle = &self.workers[worker];
        let worker = &idle.worker;
        worker.catch_up();
        let claim = {
            let table = worker.table.borrow();
            let pool = table.pool(request.pool).ok_or(None)?;
            let random = worker.clock.random();
            let cookies: Vec<&[u8]> = request.cookie.into_iter().collect();
            let parts = Parts::with_cookies(&cookies, request.client);
            let now = worker.clock.unix();
            let fresh = marker::fresh_key(pool, &parts, now, random);
            let found: Found = marker::find(pool, &parts, now, fresh);
            let pinned = match found.pin {
                Pin::At { backend, .. } => Some(pool.backends[usize::from(backend)].slot),
                Pin::Absent | Pin::Gone | Pin::Hashed | Pin::Unreadable | Pin::Free => None,
            };
            Claim { pool: PoolRules::of(pool), found, pinned, fresh, sampled: None, announced: None }
        };
        begin(worker, &claim);
        let target = Target::choose(worker, &claim, &[], Waits::default()).map_err(nobody)?;
        Ok(Exchange { claim, target, chosen_at: worker.clock.unix(), marked: idle.marked(), tried: Vec::new() })
    }

    /// Its connection is there: it is sent, unless what was chosen is out of date by now, and answered.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn send(&self, worker: usize, exchange: Exchange) -> Result<Sent, Option<Unserved>> {
        let Exchange { claim, mut target, mut chosen_at, mut marked, tried } = exchange;
        let idle = &self.workers[worker];
        let worker = &idle.worker;
        while !target.is_current(worker) {
            target = Target::choose(worker, &claim, &tried, Waits::default()).map_err(nobody)?;
            (chosen_at, marked) = (worker.clock.unix(), idle.marked());
        }
        target.settle(worker, &claim, None);
        let table = worker.table.borrow();
        let backend = table.pools.iter().flat_map(|pool| &pool.backends).find(|backend| backend.slot == target.slot);
        let backend = backend.ok_or(None)?;
        Ok(Sent {
            backend: backend.name.clone(),
            incarnation: backend.incarnation,
            outcome: target.outcome,
            set_cookie: target.set_cookie,
            generation: table.generation,
            chosen_at,
            marked,
        })
    }

    /// No connection to its backend can be made: the failure is noted, and another backend chosen, if one may be.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn fail(&self, worker: usize, exchange: Exchange) -> Result<Exchange, Option<Unserved>> {
        let Exchange { claim, target, mut tried, .. } = exchange;
        let idle = &self.workers[worker];
        let worker = &idle.worker;
        note(worker, &claim, target.slot, Failure::backend(Kind::Connect, false));
        if !may_retry(worker, &claim, &target, tried.len()) {
            return Err(None);
        }
        tried.push(target.slot);
        let target = Target::choose(worker, &claim, &tried, Waits::default()).map_err(nobody)?;
        Ok(Exchange { claim, target, chosen_at: worker.clock.unix(), marked: idle.marked(), tried })
    }
}

fn nobody(unchosen: Unchosen) -> Option<Unserved> {
    match unchosen {
        Unchosen::Nobody(unserved) => Some(unserved),
        Unchosen::Full(_) => None,
    }
}
