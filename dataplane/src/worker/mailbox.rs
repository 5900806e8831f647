use super::{
    Worker,
    gates::Gates,
    handover::{Handed, Handover},
    mark::Mark,
};
use crate::{counters::Board, io::Wakeup, tls::News};
use affinity::{
    drain,
    sessions::Touch,
    table::{PoolTable, Table},
};
use control::{counters::Dataplane, spec::Span, status::Health};
use crossbeam_channel::{Receiver, Sender};
use std::{
    io::Write,
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What the control thread tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    Apply(Box<Table>),
    /// What handshakes are made with from now on.
    Tls(News),
    /// Hand over what is still to be reported, and answer [`FromWorker::Flushed`].
    Flush,
    /// A backend has room for the request with this ticket.
    Room {
        ticket: u64,
        slot: u32,
    },
    /// Close what is open at these backends, by slot: no worker sends there any more.
    Close(Arc<[u32]>),
    /// Accept nobody any more, and end when the last exchange, the last tunnel and the last idle connection have.
    Drain(Parting),
    /// Close the tunnels, one after the other within so long.
    StopTunnels(Span),
}

/// Why a worker is to end, and so what becomes of idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// Nobody serves after it: they are closed.
    Stop,
    /// Another data plane serves on the same sockets. A client that is idle may be about to send, and to close upon that would
    /// lose its request: each gets one more answer, which says that it is the last on this connection.
    Replaced,
}

/// What a worker tells the control thread.
#[derive(Debug)]
pub(crate) enum FromWorker {
    /// From now on it acts on this generation. The table before comes back to be freed where it was built.
    Applied {
        worker: usize,
        generation: u64,
        before: Box<Table>,
    },
    Flushed {
        worker: usize,
    },
    /// It has marked a backend down by itself.
    Failing {
        pool: String,
        backend: String,
        reason: String,
    },
    Ended {
        worker: usize,
    },
}

/// What all workers and the control thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The newest generation that was sent to the workers, compared at the start of each exchange.
    pub(crate) latest: AtomicU64,
    pub(crate) boards: Vec<Board>,
    pub(crate) gates: Gates,
    /// There is as much memory as may be: nobody new is accepted.
    pub(crate) full: AtomicBool,
}

impl Shared {
    pub(crate) fn new(boards: Vec<Board>, gates: Gates) -> Self {
        Self { latest: AtomicU64::new(0), boards, gates, full: AtomicBool::new(false) }
    }
}

/// Where a worker is told something: by the control thread, and by workers that have room for a request of its own.
#[derive(Debug)]
pub(crate) struct Mailbox {
    commands: Sender<Command>,
    wakeup: UnixStream,
    mark: Arc<Mark>,
}

/// The worker's end, to be opened on its own thread.
pub(crate) struct Inbox {
    pub(crate) commands: Commands,
    pub(super) wakeup: UnixStream,
}

/// What the control thread has put in.
pub(crate) struct Commands {
    received: Receiver<Command>,
    mark: Arc<Mark>,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<(Self, Inbox)> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mark = Arc::new(Mark::new());
        let commands = Commands { received: receiver, mark: Arc::clone(&mark) };
        Ok((Self { commands: sender, wakeup: ours, mark }, Inbox { commands, wakeup: theirs }))
    }

    /// Puts the command in and wakes the worker, unless a wake-up is under way. False when the worker is gone.
    pub(crate) fn send(&self, command: Command) -> bool {
        if self.commands.send(command).is_err() {
            return false;
        }
        !self.mark.raise() || (&self.wakeup).write(&[1]).is_ok()
    }
}

impl Commands {
    /// All that wait, to be taken to the last.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Command> {
        self.mark.lower();
        self.received.try_iter()
    }
}

/// Obeys while the worker is idle; a busy one looks by itself at the start of each exchange.
pub(super) async fn read(worker: Rc<Worker>, mut wakeup: Wakeup) {
    let mut buffer = vec![0; 64];
    loop {
        let woken;
        (woken, buffer) = wakeup.wait(buffer).await;
        worker.obey();
        if !woken {
            // The control thread is gone, and the process with it.
            return;
        }
    }
}

impl Worker {
    /// Acts on all commands that wait.
    pub(super) fn obey(&self) {
        for command in self.commands.waiting() {
            match command {
                Command::Apply(table) => self.apply(table),
                Command::Tls(News::Listener(name, offered)) => self.offer(&name, offered),
                Command::Tls(News::Pool(name, trusted)) => self.trust(name, trusted),
                Command::Flush => {
                    self.hand_over();
                    self.tell(FromWorker::Flushed { worker: self.id });
                }
                Command::Room { ticket, slot } => self.room_for(ticket, slot),
                Command::Close(slots) => self.close(&slots),
                Command::Drain(parting) => self.begin_drain(parting),
                Command::StopTunnels(over) => self.stop_tunnels(over),
            }
        }
    }

    /// Looks whether there is a newer generation; called at the start of each exchange.
    pub(crate) fn catch_up(&self) {
        if self.shared.latest.load(Ordering::Acquire) != self.generation.get() {
            self.obey();
        }
    }

    pub(crate) fn tell(&self, event: FromWorker) {
        // The control thread outlives the workers; were it gone, the process would be about to end.
        let _ = self.events.send(event);
    }

    fn apply(&self, table: Box<Table>) {
        let generation = table.generation;
        let before = std::mem::replace(&mut *self.table.borrow_mut(), table);
        self.generation.set(generation);
        self.follow_listeners();
        self.follow_pools(&before);
        self.follow_backends(&before);
        self.seats.nudge_all();
        self.board().count(Dataplane::Applied);
        self.tell(FromWorker::Applied { worker: self.id, generation, before });
    }

    fn follow_pools(&self, before: &Table) {
        let table = self.table.borrow();
        for pool in &table.pools {
            let old = before.pool(&pool.name).filter(|old| !Arc::ptr_eq(old, pool));
            if let Some(old) = old {
                self.follow_pool(old, pool);
            }
        }
        let mut addresses = ahash::AHashMap::new();
        for backend in
            table.pools.iter().flat_map(|pool| &pool.backends).filter(|backend| backend.health != Health::Down)
        {
            addresses.insert(backend.slot, backend.address.as_ref());
        }
        // What was opened under other settings of TLS is not what is asked for now.
        for pool in &table.pools {
            if before.pool(&pool.name).is_some_and(|old| old.settings.tls != pool.settings.tls) {
                for backend in &pool.backends {
                    addresses.remove(&backend.slot);
                }
            }
        }
        self.backends.retain(|slot, address| addresses.get(&slot).is_some_and(|current| *current == Some(address)));
    }

    /// Closes what is open at those of these backends that have not been taken back meanwhile. What connects by now finds
    /// another table, and goes elsewhere.
    fn close(&self, slots: &[u32]) {
        let table = self.table.borrow();
        let backends = table.pools.iter().flat_map(|pool| &pool.backends);
        let closed: ahash::AHashSet<u32> = backends
            .filter(|backend| slots.contains(&backend.slot) && drain::closes(backend))
            .map(|backend| backend.slot)
            .collect();
        self.backends.retain(|slot, _| !closed.contains(&slot));
        self.deadlines.close(|slot| closed.contains(&slot));
    }

    /// A check that finds a backend up again takes back the mark that this worker set by itself.
    fn follow_pool(&self, old: &PoolTable, pool: &PoolTable) {
        for backend in pool.backends.iter().filter(|backend| backend.health == Health::Up) {
            let was = old.by_name(backend.name.as_bytes()).map(|index| &old.backends[usize::from(index)]);
            if was.is_none_or(|was| was.health != Health::Up || was.address != backend.address) {
                self.backends.unmark(backend.slot);
            }
        }
    }
}

/// Sessions seen and not yet reported.
#[derive(Debug)]
pub(crate) struct Touches {
    /// The last that was noted at each place, so that a busy session is not noted for each of its requests.
    recent: std::cell::RefCell<Box<[Touch]>>,
    waiting: std::cell::RefCell<Vec<Touch>>,
    reports: Handover,
}

const RECENT: usize = 4_096;
const BATCH: usize = 4_096;

impl Touches {
    pub(super) fn new(reports: Handover) -> Self {
        let recent = vec![Touch::default(); RECENT].into_boxed_slice();
        Self { recent: recent.into(), waiting: Vec::with_capacity(BATCH).into(), reports }
    }

    /// A session was seen; at most one note per session and second is kept.
    pub(crate) fn note(&self, touch: Touch) {
        let place = (touch.key % RECENT as u64) as usize;
        let mut recent = self.recent.borrow_mut();
        if recent[place] != touch {
            recent[place] = touch;
            drop(recent);
            self.waiting.borrow_mut().push(touch);
            if self.waiting.borrow().len() >= BATCH {
                self.flush();
            }
        }
    }

    /// Hands over what waits; where the control thread is behind, it stays until next time, bounded.
    pub(super) fn flush(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        if let Err(Handed::Seen(back)) = self.reports.give(Handed::Seen(std::mem::take(&mut *waiting))) {
            *waiting = back;
            waiting.truncate(4 * BATCH);
        } else {
            waiting.reserve(BATCH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, time::Duration};

    #[test]
    fn every_command_wakes_a_worker_that_sleeps() {
        let (mailbox, Inbox { commands, mut wakeup }) = Mailbox::new().unwrap();
        wakeup.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (obeyed, is_obeyed) = crossbeam_channel::unbounded();
        let rounds = 20_000;
        let worker = std::thread::spawn(move || {
            let mut left = 2 * rounds;
            while left > 0 {
                assert!(wakeup.read(&mut [0; 64]).expect("a command was put in and nobody woken") > 0);
                left -= commands.waiting().inspect(|_| obeyed.send(()).unwrap()).count();
            }
        });
        for _ in 0..rounds {
            // The second of two meets the worker at any point of its way back to sleep.
            assert!(mailbox.send(Command::Flush) && mailbox.send(Command::Flush));
            for _ in 0..2 {
                is_obeyed.recv().expect("the worker is awake");
            }
        }
        worker.join().unwrap();
    }

    fn seen(taken: &Receiver<Handed>) -> usize {
        match taken.recv() {
            Ok(Handed::Seen(touches)) => touches.len(),
            other => panic!("sessions are handed over, and no {other:?}"),
        }
    }

    #[test]
    fn sessions_that_nobody_takes_wait_in_bounded_memory() {
        let (reports, taken) = Handover::new(1);
        let touches = Touches::new(reports);
        for key in 0..100 * BATCH as u64 {
            touches.note(Touch { key, at: 1, ..Touch::default() });
        }
        assert!(touches.waiting.borrow().len() <= 4 * BATCH);
        assert_eq!(seen(&taken), BATCH);
        touches.flush();
        assert_eq!((seen(&taken), touches.waiting.borrow().len()), (4 * BATCH, 0));
    }

    #[test]
    fn a_busy_session_is_noted_once_a_second() {
        let (reports, taken) = Handover::new(1);
        let touches = Touches::new(reports);
        let touch = Touch { key: 7, at: 1, ..Touch::default() };
        for touch in [touch, touch, Touch { at: 2, ..touch }, Touch { backend: 1, at: 2, ..touch }] {
            touches.note(touch);
        }
        touches.flush();
        assert_eq!(seen(&taken), 3);
    }
}
