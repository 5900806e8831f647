//! Plain TCP: a client's connection to a backend's, byte for byte. What is behind it is what a request of HTTP has too:
//! affinity, by the client's address; limits, queues, drains, counts.

mod caller;
mod hello;

use crate::{
    access_log::{Entry, Opening},
    io::{Buffer, Stream},
    pick::{Claim, Line, Repeat, Target, Unchosen, UnderWay, Waited, begin, connect, count_sent, may_retry, note},
    tunnel::{Side, Tunnel},
    worker::{Connection, Deadline, Ends, Room, Worker},
};
use caller::claim;
use control::counters::Dataplane;
use hello::Hello;
use std::net::SocketAddr;

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: &Worker, listener: usize, stream: Stream, peer: SocketAddr) {
    let mut client = Client { deadline: worker.deadline(stream.handle()), stream, read: Buffer::default() };
    let Ok(name) = client.name(worker, listener).await else {
        worker.buffers.give_back(client.read);
        return;
    };
    worker.catch_up();
    let Some(claim) = claim(worker, listener, name.as_deref(), (peer, &client.stream)) else {
        worker.board().count(Dataplane::NoRoute);
        client.stream.reset_on_close();
        worker.buffers.give_back(client.read);
        return;
    };
    begin(worker, &claim);
    let mut entry = client.entry(worker, listener, peer, &claim);
    match reach(worker, &client, &claim, &mut entry).await {
        Some(reached) => reached.move_bytes(worker, client, &claim, entry.as_deref()).await,
        None => {
            // So that it is no end in order, which some protocols take for an answer.
            client.stream.reset_on_close();
            worker.buffers.give_back(client.read);
        }
    }
    if let Some(entry) = entry {
        worker.access_log.write(worker, entry);
    }
}

struct Client {
    /// Goes before the stream that it knows.
    deadline: Deadline,
    stream: Stream,
    /// What it has sent so far, which the backend is sent first.
    read: Buffer,
}

/// Nothing is known of the client in time, or it has gone.
struct Unknown;

impl Client {
    /// The name that it asks for, where its listener has routes by names. Where TLS is not taken off here, its hello is read
    /// and kept for the backend.
    async fn name(&mut self, worker: &Worker, listener: usize) -> Result<Option<Box<str>>, Unknown> {
        let timeout = {
            let table = worker.table.borrow();
            let settings = &table.listeners[worker.listener_at(listener).ok_or(Unknown)?].settings;
            if settings.routes.is_empty() {
                return Ok(None);
            }
            settings.timeouts.head
        };
        if self.stream.is_tls() {
            return Ok(self.stream.server_name());
        }
        self.deadline.set(worker.after(timeout), Ends::Both);
        // On the heap, so that connections whose hello nobody reads have no room for it.
        let name = Box::pin(self.hello(worker)).await;
        self.deadline.clear();
        name
    }

    /// What is written down of the connection, if anything is.
    fn entry(&self, worker: &Worker, listener: usize, peer: SocketAddr, claim: &Claim) -> Option<Box<Entry>> {
        let table = worker.table.borrow();
        let settings = &table.listeners[worker.listener_at(listener)?].settings;
        let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let (is_tls, began) = (self.stream.is_tls(), worker.clock.micros_now());
        let opening = || Opening { listener, client, is_tls, protocol: "TCP", began };
        let entry = worker.access_log.begin(settings.access_log, opening)?;
        let pool = table.pools.iter().find(|pool| pool.slot == claim.pool.slot);
        Some(entry.of(pool.map_or("", |pool| &pool.name), claim))
    }

    async fn hello(&mut self, worker: &Worker) -> Result<Option<Box<str>>, Unknown> {
        let mut reader = hello::Reader::default();
        self.read = worker.buffers.buffer();
        loop {
            let (result, read) = self.stream.read(std::mem::take(&mut self.read)).await;
            self.read = read;
            if !result.is_ok_and(|count| count > 0) {
                let timed_out = self.deadline.has_passed();
                let count = if timed_out { Dataplane::HeadTimeouts } else { Dataplane::ClientAborts };
                worker.board().count(count);
                return Err(Unknown);
            }
            match reader.read(self.read.bytes()) {
                Hello::Name(name) => return Ok(Some(name)),
                Hello::Nameless => return Ok(None),
                // None that is made in earnest is as long as a buffer.
                Hello::Partial if self.read.is_full() => return Ok(None),
                Hello::Partial => {}
            }
        }
    }
}

/// A backend that takes the connection.
struct Reached<'a> {
    backend: Connection,
    target: Target,
    under_way: UnderWay<'a>,
    /// Taken up for as long as the connection is open.
    _room: Option<Room<'a>>,
}

/// Finds a backend and opens a connection to it; `None` where there is none, or the client has gone.
async fn reach<'a>(
    worker: &'a Worker,
    client: &Client,
    claim: &Claim,
    entry: &mut Option<Box<Entry>>,
) -> Option<Reached<'a>> {
    let (mut tried, mut line) = (Vec::new(), Line::default());
    loop {
        let target = match Target::choose(worker, claim, &tried, line.waits()) {
            Ok(target) => target,
            Err(Unchosen::Full(queue)) => {
                entry.iter_mut().for_each(|entry| entry.begins(worker));
                let waited = line.wait(worker, client.stream.handle(), claim, queue).await;
                entry.iter_mut().for_each(|entry| entry.waited(worker));
                match waited {
                    Waited::Enough => continue,
                    Waited::InVain | Waited::Alone => return None,
                }
            }
            Err(Unchosen::Nobody(unserved)) => {
                entry.iter().for_each(|entry| entry.unserved(unserved));
                return None;
            }
        };
        let Ok(room) = line.enter(worker, claim, &target) else { continue };
        target.tell(worker, entry.as_mut());
        let failure = match connect(worker, claim, &target, true).await {
            Ok(_) if !target.is_current(worker) => {
                line.keep(room);
                continue;
            }
            Ok((backend, reused)) => {
                entry.iter_mut().for_each(|entry| entry.connected(worker, reused));
                worker.backends.succeeded(target.slot);
                let free = target.free_choice(worker);
                let under_way = UnderWay::enter(worker, claim.pool.slot, target.slot, free);
                count_sent(worker, target.slot, free, false);
                return Some(Reached { backend, target, under_way, _room: room });
            }
            Err(failure) => failure,
        };
        drop(room);
        note(worker, claim, target.slot, failure);
        entry.iter().for_each(|entry| entry.failed(failure));
        match failure.may_repeat(true, true) {
            Repeat::Elsewhere if may_retry(worker, claim, &target, tried.len()) => tried.push(target.slot),
            Repeat::There | Repeat::Elsewhere | Repeat::No => return None,
        }
    }
}

impl Reached<'_> {
    async fn move_bytes(mut self, worker: &Worker, client: Client, claim: &Claim, entry: Option<&Entry>) {
        self.under_way.takes_no_time();
        // It ends as a tunnel does.
        self.backend.deadline.leads_nowhere();
        let session = self.target.settle(worker, claim, None);
        if let Some(entry) = entry {
            entry.settled(self.target.outcome, false, session);
        }
        let seated = claim.seated(worker, self.target.slot, session);
        let tunnel = Tunnel {
            worker,
            client: Side { stream: &client.stream, deadline: &client.deadline },
            backend: Side { stream: &self.backend.stream, deadline: &self.backend.deadline },
            half_closed: claim.pool.timeouts.tunnel,
            is_websocket: false,
            entry,
        };
        // On the heap, so that those who wait for a backend have no room for it.
        Box::pin(tunnel.run(seated, client.read, Buffer::default())).await;
    }
}
