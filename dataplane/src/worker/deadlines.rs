use crate::io::Handle;
use control::spec::Span;
use std::{cell::RefCell, net::Shutdown, rc::Rc, task::Waker};

/// The deadlines of a worker's connections. To set one is a store; a coarse clock sweeps them. What waits on a connection
/// whose deadline has passed is ended by shutting the socket down, so that no read needs a timer of its own.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(RefCell<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Milliseconds of the worker's clock. Apart from the rest, so that a sweep reads as little memory as can be.
    at: Vec<u64>,
    rest: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Entry {
    handle: Handle,
    ends: Ends,
    /// Of whom [`Ends::Nothing`] wakes, until it has.
    waker: Option<Waker>,
    passed: bool,
    /// Its reading side was ended here, after which every peer looks gone.
    deaf: bool,
    /// The slot of the backend to which the connection leads; [`NOBODY`] for a client's.
    backend: u32,
    /// It was ended with all that led to its backend.
    closed: bool,
}

const NOBODY: u32 = u32::MAX;

/// What a deadline ends when it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// A wait for the next request: ends soon when the worker drains.
    Idle,
    /// Reading alone: an answer can still be written.
    Reading,
    /// No wait: who waits is woken, to wait in another way. As with [`Ends::Idle`] when the worker drains.
    Nothing,
    /// The wait on another socket, if the peer of this one has gone; else it is looked again after as long a time.
    Other(Handle),
    Both,
}

const NEVER: u64 = u64::MAX;
/// Time between two looks whether a client that waits for a response is still there.
const WATCH: Span = Span::from_secs(1);

/// After how many milliseconds to look whether that peer is gone. Of a pipe that is known without asking the kernel, so each
/// sweep looks: who begins requests and takes them back at once must not have them run on meanwhile.
fn look_after(handle: &Handle) -> u64 {
    if matches!(handle, Handle::Pipe(_)) { 0 } else { WATCH.as_millis() }
}

/// One connection's deadline; must go before its descriptor is closed.
#[derive(Debug)]
pub(crate) struct Deadline {
    all: Rc<Deadlines>,
    slot: u32,
}

impl Deadlines {
    pub(crate) fn register(self: &Rc<Self>, handle: Handle) -> Deadline {
        let entry =
            Entry { handle, ends: Ends::Both, waker: None, passed: false, deaf: false, backend: NOBODY, closed: false };
        let mut entries = self.0.borrow_mut();
        let slot = match entries.free.pop() {
            Some(slot) => {
                entries.rest[slot as usize] = entry;
                slot
            }
            None => {
                entries.at.push(NEVER);
                entries.rest.push(entry);
                u32::try_from(entries.rest.len() - 1).expect("fewer connections than 2^32")
            }
        };
        Deadline { all: Rc::clone(self), slot }
    }

    /// Ends what is due at `now`.
    pub(crate) fn sweep(&self, now: u64) {
        let mut entries = self.0.borrow_mut();
        let Entries { at, rest, .. } = &mut *entries;
        for (slot, at) in at.iter_mut().enumerate().filter(|(_, at)| **at <= now) {
            let entry = &mut rest[slot];
            if matches!(entry.ends, Ends::Other(_)) && (entry.deaf || !entry.handle.is_gone()) {
                *at = now + look_after(&entry.handle);
                continue;
            }
            *at = NEVER;
            entry.pass();
        }
    }

    /// Ends all connections to these backends, whatever moves on them: every exchange has one, and sees by
    /// [`Deadline::is_closed`] why it ended. Tunnels end by themselves. Looks at each connection of the worker, but only when it is called.
    pub(crate) fn close(&self, is_closed: impl Fn(u32) -> bool) {
        let mut entries = self.0.borrow_mut();
        for entry in entries.rest.iter_mut().filter(|entry| entry.backend != NOBODY && is_closed(entry.backend)) {
            entry.closed = true;
            entry.handle.shut(Shutdown::Both);
        }
    }

    /// Has every wait for a next request end at `soon`, unless it ends before.
    pub(crate) fn end_idle(&self, soon: u64) {
        let mut entries = self.0.borrow_mut();
        let Entries { at, rest, .. } = &mut *entries;
        let waits = |entry: &Entry| matches!(entry.ends, Ends::Idle | Ends::Nothing);
        for (at, entry) in at.iter_mut().zip(rest).filter(|(at, entry)| **at != NEVER && waits(entry)) {
            *at = if entry.ends == Ends::Nothing { soon } else { soon.min(*at) };
            entry.ends = Ends::Idle;
        }
    }
}

impl Entry {
    fn pass(&mut self) {
        let (handle, how) = match &self.ends {
            Ends::Both => (&self.handle, Shutdown::Both),
            Ends::Idle | Ends::Reading => (&self.handle, Shutdown::Read),
            Ends::Other(other) => (other, Shutdown::Both),
            Ends::Nothing => return self.waker.take().map_or((), Waker::wake),
        };
        self.passed = true;
        self.deaf |= *handle == self.handle;
        handle.shut(how);
    }
}

impl Deadline {
    /// `at` is in milliseconds of the worker's clock.
    pub(crate) fn set(&self, at: u64, ends: Ends) {
        let mut entries = self.all.0.borrow_mut();
        entries.at[self.slot as usize] = at;
        let entry = &mut entries.rest[self.slot as usize];
        (entry.ends, entry.passed) = (ends, false);
    }

    /// Has `waker` woken at that time; see [`Self::has_woken`].
    pub(crate) fn wake(&self, at: u64, waker: &Waker) {
        self.set(at, Ends::Nothing);
        self.all.0.borrow_mut().rest[self.slot as usize].waker = Some(waker.clone());
    }

    /// Whether what [`Self::wake`] was to do has been done.
    pub(crate) fn has_woken(&self) -> bool {
        let entry = &self.all.0.borrow().rest[self.slot as usize];
        entry.ends == Ends::Nothing && entry.waker.is_none()
    }

    /// Has `other` ended as soon as this one's peer is seen to be gone. `now` is in milliseconds of the worker's clock.
    pub(crate) fn watch(&self, now: u64, other: Handle) {
        let wait = look_after(&self.all.0.borrow().rest[self.slot as usize].handle);
        self.set(now + wait, Ends::Other(other));
    }

    /// Says which backend the connection leads to.
    pub(crate) fn leads_to(self, slot: u32) -> Self {
        self.all.0.borrow_mut().rest[self.slot as usize].backend = slot;
        self
    }

    /// Says that the connection is no backend's business any more: [`Deadlines::close`] leaves it alone.
    pub(crate) fn leads_nowhere(&self) {
        self.all.0.borrow_mut().rest[self.slot as usize].backend = NOBODY;
    }

    /// Whether [`Deadlines::close`] has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.all.0.borrow().rest[self.slot as usize].closed
    }

    pub(crate) fn clear(&self) {
        self.all.0.borrow_mut().at[self.slot as usize] = NEVER;
    }

    /// Whether what was last set has.
    pub(crate) fn has_passed(&self) -> bool {
        self.all.0.borrow().rest[self.slot as usize].passed
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut entries = self.all.0.borrow_mut();
        entries.at[self.slot as usize] = NEVER;
        let entry = &mut entries.rest[self.slot as usize];
        (entry.handle, entry.ends, entry.waker, entry.backend) = (Handle::NONE, Ends::Both, None, NOBODY);
        entries.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{ErrorKind, Read, Write},
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    /// A connection: our end, its deadline, and the peer's end.
    fn connection(all: &Rc<Deadlines>) -> (UnixStream, Deadline, UnixStream) {
        let (own, peer) = UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let deadline = all.register(Handle::Tcp(own.as_raw_fd()));
        (own, deadline, peer)
    }

    /// Whether a read would wait no longer.
    fn is_ended(mut stream: &UnixStream) -> bool {
        match stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    #[test]
    fn what_is_due_is_ended_and_nothing_else() {
        let all = Rc::new(Deadlines::default());
        let [due, later, cleared, never] = std::array::from_fn(|_| connection(&all));
        due.1.set(100, Ends::Reading);
        later.1.set(101, Ends::Reading);
        cleared.1.set(100, Ends::Both);
        cleared.1.clear();
        all.sweep(99);
        assert!(!is_ended(&due.0));
        all.sweep(100);
        assert!(is_ended(&due.0) && due.1.has_passed());
        for (stream, deadline, _) in [&later, &cleared, &never] {
            assert!(!is_ended(stream) && !deadline.has_passed());
        }
        later.1.set(300, Ends::Reading);
        all.sweep(200);
        assert!(!is_ended(&later.0), "put off");
    }

    #[test]
    fn reading_ends_alone_or_with_writing() {
        let all = Rc::new(Deadlines::default());
        let (reading, both) = (connection(&all), connection(&all));
        reading.1.set(1, Ends::Reading);
        both.1.set(1, Ends::Both);
        all.sweep(1);
        assert!((&reading.0).write(b"408").is_ok() && !is_ended(&reading.2));
        assert!((&both.0).write(b"408").is_err() && is_ended(&both.2));
    }

    #[test]
    fn a_drain_ends_waits_for_a_request_soon_and_nothing_else() {
        let all = Rc::new(Deadlines::default());
        let [idle, sooner, head, cleared] = std::array::from_fn(|_| connection(&all));
        idle.1.set(60_000, Ends::Idle);
        sooner.1.set(10, Ends::Idle);
        head.1.set(60_000, Ends::Reading);
        cleared.1.set(60_000, Ends::Idle);
        cleared.1.clear();
        all.end_idle(500);
        all.sweep(10);
        assert!(is_ended(&sooner.0) && !is_ended(&idle.0));
        all.sweep(500);
        assert!(is_ended(&idle.0) && idle.1.has_passed());
        assert!(!is_ended(&head.0) && !is_ended(&cleared.0));
    }

    #[test]
    fn who_is_only_woken_keeps_the_connection_unless_the_worker_drains() {
        let all = Rc::new(Deadlines::default());
        let [woken, drained] = std::array::from_fn(|_| connection(&all));
        woken.1.wake(10, Waker::noop());
        drained.1.wake(1_000, Waker::noop());
        assert!(!woken.1.has_woken());
        all.sweep(10);
        assert!(woken.1.has_woken() && !woken.1.has_passed() && !is_ended(&woken.0));
        all.end_idle(500);
        all.sweep(500);
        assert!(drained.1.has_passed() && !drained.1.has_woken() && is_ended(&drained.0) && !is_ended(&woken.0));
    }

    #[test]
    fn a_wait_on_another_socket_ends_when_the_peer_has_gone() {
        let all = Rc::new(Deadlines::default());
        let ((_client, watch, peer), (backend, _, _far)) = (connection(&all), connection(&all));
        watch.set(10, Ends::Other(Handle::Tcp(backend.as_raw_fd())));
        all.sweep(10);
        assert!(!is_ended(&backend) && !watch.has_passed());
        drop(peer);
        all.sweep(10 + WATCH.as_millis() - 1);
        assert!(!is_ended(&backend), "not looked again yet");
        all.sweep(10 + WATCH.as_millis());
        assert!(is_ended(&backend) && watch.has_passed());
    }

    #[test]
    fn a_peer_whose_request_came_just_as_its_wait_ended_is_not_taken_for_gone() {
        let all = Rc::new(Deadlines::default());
        let ((_client, deadline, _peer), (backend, _, _far)) = (connection(&all), connection(&all));
        deadline.set(10, Ends::Idle);
        all.sweep(10);
        assert!(deadline.has_passed());
        deadline.set(20, Ends::Other(Handle::Tcp(backend.as_raw_fd())));
        all.sweep(20);
        assert!(!is_ended(&backend) && !deadline.has_passed());
    }

    #[test]
    fn all_that_leads_to_a_backend_is_closed_at_once_and_nothing_else() {
        let all = Rc::new(Deadlines::default());
        let lead = |slot| {
            let (stream, deadline, peer) = connection(&all);
            (stream, deadline.leads_to(slot), peer)
        };
        let (one, two, other, client) = (lead(7), lead(7), lead(8), connection(&all));
        two.1.set(100, Ends::Reading);
        let (gone, deadline, peer) = lead(7);
        drop(deadline);
        all.close(|slot| slot == 7);
        for (stream, deadline, peer) in [&one, &two] {
            assert!(is_ended(stream) && is_ended(peer) && deadline.is_closed() && !deadline.has_passed());
        }
        two.1.set(200, Ends::Both);
        assert!(two.1.is_closed(), "for good");
        for (stream, deadline, _) in [&other, &client] {
            assert!(!is_ended(stream) && !deadline.is_closed());
        }
        assert!(!is_ended(&gone) && !is_ended(&peer), "what was given up is nobody's");
    }

    #[test]
    fn a_place_that_is_taken_again_inherits_nothing() {
        let all = Rc::new(Deadlines::default());
        let (_gone, deadline, _peer) = connection(&all);
        deadline.set(1, Ends::Idle);
        all.sweep(1);
        let slot = deadline.slot;
        deadline.set(5, Ends::Idle);
        drop(deadline);
        let (stream, deadline, _peer) = connection(&all);
        assert_eq!(deadline.slot, slot);
        all.end_idle(500);
        all.sweep(1_000);
        assert!(!is_ended(&stream) && !deadline.has_passed());
    }
}
