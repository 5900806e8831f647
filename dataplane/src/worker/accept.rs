use super::{Counted, Serve, Worker};
use crate::io::{Accepted, Listener, Stream, hold_back};
use control::counters::Dataplane;
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

/// How long accepting pauses when it fails, as at descriptor exhaustion, and while there is no memory for more: whoever waits
/// stays in the queue.
const PAUSE: Duration = Duration::from_millis(100);
/// How long giving up a wait may take.
const RELEASE: Duration = Duration::from_millis(10);
/// How many are accepted in a row before others get their turn.
const BATCH: usize = 64;
/// How many are accepted as a drain begins: more than any queue holds.
const LAST: usize = 1 << 16;

/// Accepts on one listening socket until the worker drains. Until the worker has a table that knows the listener, and its
/// certificates, clients wait in the socket's queue.
pub(super) async fn run(worker: Rc<Worker>, index: usize, listener: Listener, serve: impl Serve) {
    while !worker.is_draining() {
        let known = worker.is_served(index);
        let waits = known && worker.unless_draining(listener.readable()).await.is_none_or(|ready| ready.is_ok());
        // Asked when somebody waits: there may have been enough when the wait began.
        if waits
            && !worker.is_draining()
            && let Some(lacks) = lacking(&worker, &listener)
        {
            worker.board().count(lacks);
            hold_back(PAUSE).await;
            continue;
        }
        if !(waits && accept_some(&worker, index, &listener, BATCH, serve)) {
            hold_back(PAUSE).await;
        }
    }
    // By then the wait that was given up lets go of the socket, so that it closes with `listener`.
    hold_back(RELEASE).await;
    // Whoever waits by now was promised a connection; those who come later are refused as soon as the socket is closed.
    accept_some(&worker, index, &listener, LAST, serve);
    worker.accepting.set(worker.accepting.get() - 1);
}

/// What there is not enough of for another client, if anything.
fn lacking(worker: &Worker, listener: &Listener) -> Option<Dataplane> {
    if worker.shared.full.load(Ordering::Relaxed) {
        return Some(Dataplane::MemoryPauses);
    }
    // Asked only once one came that took what is kept for others.
    let is_cramped = worker.is_cramped.get() && !listener.has_descriptor(worker.clients_descriptors);
    worker.is_cramped.set(is_cramped);
    is_cramped.then_some(Dataplane::DescriptorPauses)
}

/// False when accepting failed and had better pause.
fn accept_some(worker: &Rc<Worker>, index: usize, listener: &Listener, most: usize, serve: impl Serve) -> bool {
    for _ in 0..most {
        match listener.accept() {
            Accepted::Connection { stream, peer, descriptor } => {
                take(worker, index, stream, peer, serve);
                if descriptor >= worker.clients_descriptors {
                    worker.is_cramped.set(true);
                    // Who waits as a drain begins was promised a connection all the same.
                    if !worker.is_draining() {
                        return true;
                    }
                }
            }
            Accepted::None => break,
            Accepted::Failed(error) => {
                worker.board().count(Dataplane::AcceptFailed);
                tracing::warn!(%error, "accept failed");
                return false;
            }
        }
    }
    true
}

fn take(worker: &Rc<Worker>, index: usize, stream: Stream, peer: SocketAddr, serve: impl Serve) {
    let board = worker.board();
    board.count(Dataplane::Accepted);
    let at = worker.listener_at(index);
    let limit = at.map_or(0, |at| worker.table.borrow().listeners[at].settings.limits.connections);
    if worker.open_like(index) >= limit {
        board.count(Dataplane::OverLimit);
        board.count(Dataplane::Closed);
        return;
    }
    let open = Open::new(worker, index);
    monoio::spawn(async move { serve(open, stream, peer).await });
}

/// A client's connection, which counts as open for as long as this lives.
pub(crate) struct Open {
    pub(crate) worker: Rc<Worker>,
    /// The number of the listener that accepted it.
    pub(crate) listener: usize,
    /// As one of its address, where these are counted.
    counted: Option<Counted>,
}

impl Open {
    fn new(worker: &Rc<Worker>, listener: usize) -> Self {
        worker.open[listener].set(worker.open[listener].get() + 1);
        Self { worker: Rc::clone(worker), listener, counted: None }
    }

    /// Counts it as one of `address`; false where that has as many as one may have. Trusted proxies bring many clients each.
    pub(crate) fn count_for(&mut self, address: IpAddr) -> bool {
        let (worker, table) = (&self.worker, self.worker.table.borrow());
        let Some(at) = worker.listener_at(self.listener) else { return false };
        let settings = &table.listeners[at].settings;
        let most = settings.limits.connections_per_address;
        if most == 0 || settings.trusted_proxies.iter().any(|range| range.contains(address)) {
            return true;
        }
        self.counted = worker.crowd.admit(self.listener, address, most);
        if self.counted.is_none() {
            worker.board().count(Dataplane::OverAddress);
        }
        self.counted.is_some()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let open = &self.worker.open[self.listener];
        open.set(open.get() - 1);
        self.worker.board().count(Dataplane::Closed);
    }
}
