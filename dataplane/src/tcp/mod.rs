//! Plain TCP: a client's connection to a backend's, byte for byte. What is behind it is what a request of HTTP has too:
//! affinity, by the client's address; limits, queues, drains, counts.

mod caller;

use crate::{
    io::{Buffer, Stream},
    pick::{Claim, Line, Repeat, Target, Unchosen, UnderWay, Waited, connect, count_sent, may_retry, note},
    tunnel::{Side, Tunnel},
    worker::{Connection, Deadline, RETRY_BURST, Room, Worker},
};
use caller::claim;
use control::counters::{Dataplane, PoolCount};
use std::net::SocketAddr;

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: &Worker, listener: usize, stream: Stream, peer: SocketAddr) {
    worker.catch_up();
    let Some(claim) = claim(worker, listener, &stream, peer) else {
        worker.board().count(Dataplane::NoRoute);
        return;
    };
    let client = Client { deadline: worker.deadline(stream.handle()), stream };
    let slot = claim.pool.slot;
    worker.board().count_pool(slot, PoolCount::Requests);
    let saved = claim.pool.retry.budget;
    worker.with_local(slot, |local| local.retries = (local.retries + saved).min(RETRY_BURST));
    match reach(worker, &client, &claim).await {
        Some(reached) => reached.move_bytes(worker, &client, &claim).await,
        // So that it is no end in order, which some protocols take for an answer.
        None => client.stream.reset_on_close(),
    }
}

struct Client {
    /// Goes before the stream that it knows.
    deadline: Deadline,
    stream: Stream,
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
async fn reach<'a>(worker: &'a Worker, client: &Client, claim: &Claim) -> Option<Reached<'a>> {
    let (mut tried, mut line) = (Vec::new(), Line::default());
    loop {
        let target = match Target::choose(worker, claim, &tried, line.waits()) {
            Ok(target) => target,
            Err(Unchosen::Full(queue)) => match line.wait(worker, client.stream.handle(), claim, queue).await {
                Waited::Enough => continue,
                Waited::InVain | Waited::Alone => return None,
            },
            Err(Unchosen::Nobody(_)) => return None,
        };
        let Ok(room) = line.enter(worker, claim, &target) else { continue };
        let failure = match connect(worker, claim, &target, true).await {
            Ok(_) if !target.is_current(worker) => {
                line.keep(room);
                continue;
            }
            Ok((backend, _)) => {
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
        match failure.may_repeat(true, true) {
            Repeat::Elsewhere if may_retry(worker, claim, &target, tried.len()) => tried.push(target.slot),
            Repeat::There | Repeat::Elsewhere | Repeat::No => return None,
        }
    }
}

impl Reached<'_> {
    async fn move_bytes(mut self, worker: &Worker, client: &Client, claim: &Claim) {
        self.under_way.takes_no_time();
        // It ends as a tunnel does.
        self.backend.deadline.leads_nowhere();
        let session = self.target.settle(worker, claim, None);
        let seated = claim.seated(worker, self.target.slot, session);
        let tunnel = Tunnel {
            worker,
            client: Side { stream: &client.stream, deadline: &client.deadline },
            backend: Side { stream: &self.backend.stream, deadline: &self.backend.deadline },
            half_closed: claim.pool.timeouts.tunnel,
            is_websocket: false,
        };
        // On the heap, so that those who wait for a backend have no room for it.
        Box::pin(tunnel.run(seated, Buffer::default(), Buffer::default())).await;
    }
}
