//! One thread on one core: its own ring, listening sockets, idle backend connections, table and counters.

mod accept;
mod backends;
mod busy;
mod clock;
mod crowd;
mod deadlines;
mod drain;
mod gates;
#[cfg(test)]
mod gates_tests;
mod handover;
mod handshakes;
mod ledger;
mod mailbox;
mod mark;
mod room;
mod samples;
mod sightings;
#[cfg(feature = "simulation")]
pub(crate) mod simulation;
mod tunnels;
mod unique;

pub(crate) use accept::Open;
pub(crate) use backends::{Connection, Waits, WorkerView};
pub(crate) use busy::Busy;
pub(crate) use deadlines::{Deadline, Ends};
pub(crate) use drain::Drain;
pub(crate) use gates::{Gates, Queue};
pub(crate) use handover::{Handed, Handover};
pub(crate) use ledger::{Ledger, Move, add as add_move};
pub(crate) use mailbox::{Command, FromWorker, Inbox, Mailbox, Parting, Shared};
pub(crate) use room::{Place, Room};
pub(crate) use samples::{Sample, Samples, is_sampled};
pub(crate) use sightings::{Seen, Sightings};
pub(crate) use tunnels::{SPREAD, Seat, Seated, Told};

use crate::{
    access_log::Recorder,
    counters::Board,
    http1::FieldIndex,
    io::{Beat, Buffers, Handle, Listener, Stream, Wakeup, clients_descriptors, hold_back, tally},
};
use affinity::{table::Table, wheel::Turn};
use ahash::AHashMap;
use backends::Backends;
use clock::Clock;
use control::{counters::WorkerCount, spec::Protocol};
use crossbeam_channel::Sender;
use crowd::{Counted, Crowd};
use deadlines::Deadlines;
use handshakes::Handshakes;
use mailbox::{Commands, Touches};
use room::Seats;
use rustls::{ClientConfig, ServerConfig};
use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io,
    net::SocketAddr,
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tunnels::Tunnels;
use unique::Unique;

/// How often a worker reads the clock and sweeps its deadlines.
const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 50;
/// How long a drain still waits for requests that may be on their way: to close upon one would lose it.
const ON_ITS_WAY: control::spec::Span = control::spec::Span::from_millis(500);
/// Ticks between two looks at idle connections and spare memory, and hand-overs.
const SLOW_TICKS: u32 = 5;
/// Submission entries of a ring. The completion queue is several times as long, since each connection may wait twice.
const ENTRIES: u32 = 1_024;
const COMPLETIONS: u32 = 8 * ENTRIES;

/// All that one worker has. Everything it awaits runs on its own thread, so that cells suffice.
pub(crate) struct Worker {
    pub(crate) id: usize,
    /// For tasks of its own.
    own: OnceCell<Weak<Self>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: RefCell<Box<Table>>,
    pub(crate) generation: Cell<u64>,
    pub(crate) buffers: Buffers,
    pub(crate) access_log: Recorder,
    /// Where the fields of the head that is being parsed are.
    pub(crate) fields: RefCell<FieldIndex>,
    pub(crate) clock: Clock,
    pub(crate) unique: Unique,
    pub(crate) backends: Backends,
    pub(crate) touches: Touches,
    pub(crate) ledger: Ledger,
    pub(crate) samples: Samples,
    pub(crate) sightings: Sightings,
    pub(crate) busy: Busy,
    handover: Handover,
    seats: Seats,
    tunnels: Tunnels,
    deadlines: Rc<Deadlines>,
    /// By pool slot.
    turns: RefCell<Vec<Local>>,
    /// Where each of this worker's listeners stands in the table.
    listeners: RefCell<Vec<Option<usize>>>,
    listener_names: Vec<String>,
    /// What the clients of each are offered in TLS handshakes.
    offers: RefCell<Vec<Option<Arc<ServerConfig>>>>,
    /// How the backends of pools with TLS are spoken to.
    trusts: RefCell<AHashMap<String, Arc<ClientConfig>>>,
    pub(crate) handshakes: Handshakes,
    /// For who has much to do, and lets others have their turn in between.
    pub(crate) beat: Beat,
    commands: Commands,
    events: Sender<FromWorker>,
    pub(crate) drain: Drain,
    /// Client connections by listening socket.
    open: Vec<Cell<u32>>,
    crowd: Rc<Crowd>,
    /// Descriptors from this one on are kept for others than clients.
    clients_descriptors: RawFd,
    /// A client had to be given one of those, and it was not seen yet that there are others again.
    is_cramped: Cell<bool>,
    /// Sockets on which clients are still accepted.
    accepting: Cell<usize>,
}

/// What a worker remembers of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) turn: Turn,
    /// The turn of the free choice beside it.
    pub(crate) free: Turn,
    /// Retries that may still be made; requests save them up, to [`RETRY_BURST`] at most.
    pub(crate) retries: f64,
}

/// Retries that a pool may have saved up, and begins with.
pub(crate) const RETRY_BURST: f64 = 10.0;

impl Default for Local {
    fn default() -> Self {
        Self { turn: Turn::default(), free: Turn::default(), retries: RETRY_BURST }
    }
}

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Inbox,
    pub(crate) events: Sender<FromWorker>,
    pub(crate) recorder: Recorder,
    pub(crate) handover: Handover,
    /// Listener names with their sockets.
    pub(crate) sockets: Vec<(String, OwnedFd)>,
    pub(crate) seed: u64,
    pub(crate) secret: [u8; 16],
    /// Bytes of each buffer: the largest head that any listener takes must fit.
    pub(crate) buffer_size: usize,
    /// Has the allocator give back to the system what it has no use for.
    pub(crate) give_back: fn(),
}

/// What serves a client's connection to its end. A worker moves bytes for it and knows no protocol: it gives what counts the
/// connection as open, the connection and the peer's address.
pub(crate) trait Serve: AsyncFn(Open, Stream, SocketAddr) + Copy + 'static {}

impl<S: AsyncFn(Open, Stream, SocketAddr) + Copy + 'static> Serve for S {}

/// Runs a worker on the calling thread until it has drained. `trim` lets go of what serving has kept and not needed for a while, and
/// says whether that was anything.
///
/// # Errors
/// Where the ring can't be set up, as when io_uring is forbidden.
pub(crate) fn run(start: Start, serve: impl Serve, trim: fn() -> bool) -> io::Result<()> {
    let mut ring = io_uring::IoUring::builder();
    // One thread submits, and takes completions when it asks: kernel 6.1 and later.
    ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_cqsize(COMPLETIONS);
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(ENTRIES)
        .uring_builder(ring)
        .enable_timer()
        .build()?;
    runtime.block_on(work(start, serve, trim))
}

/// A worker with its listening sockets and what wakes it.
///
/// # Errors
/// Where no socket can be had.
fn begin(start: Start) -> io::Result<(Worker, Vec<OwnedFd>, UnixStream)> {
    let Inbox { commands, wakeup } = start.inbox;
    let (names, sockets): (Vec<_>, Vec<_>) = start.sockets.into_iter().unzip();
    let worker = Worker {
        id: start.id,
        own: OnceCell::new(),
        shared: start.shared,
        table: RefCell::default(),
        generation: Cell::new(0),
        buffers: Buffers::new(start.buffer_size),
        access_log: start.recorder,
        fields: RefCell::default(),
        clock: Clock::new(start.seed),
        unique: Unique::new(start.secret),
        backends: Backends::default(),
        touches: Touches::new(start.handover.clone()),
        ledger: Ledger::default(),
        samples: Samples::default(),
        sightings: Sightings::new(start.handover.clone()),
        busy: Busy::default(),
        handover: start.handover,
        seats: Seats::default(),
        tunnels: Tunnels::default(),
        deadlines: Rc::default(),
        turns: RefCell::default(),
        listeners: RefCell::new(vec![None; names.len()]),
        offers: RefCell::new(vec![None; names.len()]),
        trusts: RefCell::default(),
        handshakes: Handshakes::default(),
        beat: Beat::new()?,
        open: vec![Cell::new(0); names.len()],
        crowd: Rc::default(),
        clients_descriptors: clients_descriptors(),
        is_cramped: Cell::new(false),
        accepting: Cell::new(names.len()),
        listener_names: names,
        commands,
        events: start.events,
        drain: Drain::default(),
    };
    Ok((worker, sockets, wakeup))
}

async fn work(start: Start, serve: impl Serve, trim: fn() -> bool) -> io::Result<()> {
    let give_back = start.give_back;
    let (worker, sockets, wakeup) = begin(start)?;
    let worker = Rc::new(worker);
    let _ = worker.own.set(Rc::downgrade(&worker));
    monoio::spawn(mailbox::read(Rc::clone(&worker), Wakeup::new(wakeup)?));
    for (index, socket) in sockets.into_iter().enumerate() {
        monoio::spawn(accept::run(Rc::clone(&worker), index, Listener::new(socket)?, serve));
    }
    let (mut ticks, mut trimmed) = (0u32, false);
    while !worker.is_drained() {
        hold_back(TICK).await;
        let before = worker.clock.millis();
        worker.clock.tick();
        let elapsed = worker.clock.millis() - before;
        worker.busy.count(worker.board(), elapsed);
        worker.count_itself(elapsed);
        worker.deadlines.sweep(worker.clock.millis());
        worker.sweep_tunnels();
        worker.access_log.flush(&worker);
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(SLOW_TICKS) {
            let kept = worker.backends.sweep(worker.clock.millis());
            worker.board().idle_connections.set(kept as u64);
            worker.hand_over();
            // Once more behind the last of them: what was freed a moment ago, the allocator keeps for another moment.
            let trims = worker.buffers.trim() | trim();
            if trims || trimmed {
                give_back();
            }
            trimmed = trims;
        }
    }
    worker.hand_over();
    worker.access_log.flush(&worker);
    worker.tell(FromWorker::Ended { worker: worker.id });
    Ok(())
}

impl Worker {
    pub(crate) fn board(&self) -> &Board {
        &self.shared.boards[self.id]
    }

    /// For a task that lives by itself.
    pub(crate) fn own(&self) -> Rc<Self> {
        self.own.get().and_then(Weak::upgrade).expect("set as the worker begins, and it is there")
    }

    /// Counts what is told of each worker by itself, `elapsed` milliseconds after it did so last.
    fn count_itself(&self, elapsed: u64) {
        let (cells, tally) = (&self.board().worker, tally());
        cells[WorkerCount::Late as usize].add(elapsed.saturating_sub(TICK_MILLIS));
        for (what, count) in [
            (WorkerCount::Cpu, clock::cpu_millis()),
            (WorkerCount::Ring, tally.ring),
            (WorkerCount::Direct, tally.direct),
        ] {
            cells[what as usize].set(count);
        }
    }

    /// Hands the control thread what is still to be reported.
    fn hand_over(&self) {
        self.touches.flush();
        self.ledger.flush(&self.handover);
        self.samples.flush(&self.handover);
        self.sightings.flush(self.board());
    }

    pub(crate) fn deadline(&self, handle: Handle) -> Deadline {
        self.deadlines.register(handle)
    }

    /// The time on the worker's clock, `span` from now.
    pub(crate) fn after(&self, span: control::spec::Span) -> u64 {
        self.clock.millis().saturating_add(span.as_millis())
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Whether nobody serves after it.
    pub(crate) fn is_stopping(&self) -> bool {
        self.drain.parting() == Some(Parting::Stop)
    }

    fn is_drained(&self) -> bool {
        self.is_draining() && self.accepting.get() == 0 && self.open.iter().all(|open| open.get() == 0)
    }

    /// Acts on what this worker remembers of a pool.
    pub(crate) fn with_local<R>(&self, slot: u32, act: impl FnOnce(&mut Local) -> R) -> R {
        let mut turns = self.turns.borrow_mut();
        if turns.len() <= slot as usize {
            turns.resize(slot as usize + 1, Local::default());
        }
        act(&mut turns[slot as usize])
    }

    /// Where a listener of this worker stands in the table; absent while the table does not have it.
    pub(crate) fn listener_at(&self, index: usize) -> Option<usize> {
        self.listeners.borrow()[index]
    }

    pub(crate) fn listener_name(&self, index: usize) -> &str {
        &self.listener_names[index]
    }

    /// What the listener's clients are offered in a TLS handshake; absent where they speak in clear text.
    pub(crate) fn offered(&self, index: usize) -> Option<Arc<ServerConfig>> {
        self.offers.borrow()[index].clone()
    }

    fn offer(&self, listener: &str, offered: Option<Arc<ServerConfig>>) {
        let mut offers = self.offers.borrow_mut();
        for (_, offer) in self.listener_names.iter().zip(&mut *offers).filter(|(name, _)| *name == listener) {
            offer.clone_from(&offered);
        }
    }

    /// How a pool's backends are spoken to over TLS; absent while what that needs can't be read.
    pub(crate) fn trusted(&self, pool: &str) -> Option<Arc<ClientConfig>> {
        self.trusts.borrow().get(pool).cloned()
    }

    fn trust(&self, pool: String, trusted: Option<Arc<ClientConfig>>) {
        let mut trusts = self.trusts.borrow_mut();
        match trusted {
            Some(trusted) => drop(trusts.insert(pool, trusted)),
            None => drop(trusts.remove(&pool)),
        }
    }

    /// Whether the listener's clients can be served by now: the table knows it, and its certificates are there.
    fn is_served(&self, index: usize) -> bool {
        let table = self.table.borrow();
        let at = self.listener_at(index);
        at.is_some_and(|at| table.listeners[at].settings.tls.is_none() || self.offers.borrow()[index].is_some())
    }

    /// What the listener's clients speak; absent while the table does not have it.
    pub(crate) fn protocol(&self, index: usize) -> Option<Protocol> {
        self.listener_at(index).map(|at| self.table.borrow().listeners[at].settings.protocol)
    }

    /// Client connections of the listener to which a socket belongs; it may have several.
    fn open_like(&self, index: usize) -> u32 {
        let names = self.listener_names.iter().zip(&self.open);
        names.filter(|(name, _)| **name == self.listener_names[index]).map(|(_, open)| open.get()).sum()
    }

    fn follow_listeners(&self) {
        let table = self.table.borrow();
        let find = |name: &String| table.listeners.iter().position(|listener| listener.settings.name == *name);
        *self.listeners.borrow_mut() = self.listener_names.iter().map(find).collect();
    }

    fn begin_drain(&self, parting: Parting) {
        if parting == Parting::Stop {
            self.deadlines.end_idle(self.after(ON_ITS_WAY));
        }
        self.backends.close_all();
        self.drain.begin(parting);
    }

    /// What `wait` gives, or `None` as soon as the worker drains. Only for waits that lose nothing when they are given up.
    async fn unless_draining<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let (mut wait, watch) = (pin!(wait), self.drain.watch());
        poll_fn(|context| match watch.has_begun(context) {
            true => Poll::Ready(None),
            false => wait.as_mut().poll(context).map(Some),
        })
        .await
    }
}
