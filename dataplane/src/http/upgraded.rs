//! An exchange that has become a tunnel.

use super::{client::Client, download::Switched, request::Request};
use crate::{
    access_log::Entry,
    pick::UnderWay,
    tunnel::{Side, Tunnel},
    worker::{Connection, Room, Seated, Worker},
};
use control::spec::Span;

/// What a tunnel takes over of its exchange.
pub(super) struct Upgraded<'a> {
    worker: &'a Worker,
    backend: Connection,
    switched: Switched,
    seated: Seated,
    /// How long one side may be silent whose peer has said all.
    half_closed: Span,
    /// It counts as load for as long as it is open.
    _under_way: UnderWay<'a>,
    /// And takes up the room that its request has found.
    pub(super) room: Option<Room<'a>>,
    /// What is written down of it.
    pub(super) entry: Option<Box<Entry>>,
}

impl<'a> Upgraded<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        request: &Request,
        slot: u32,
        backend: Connection,
        switched: Switched,
        mut under_way: UnderWay<'a>,
    ) -> Self {
        under_way.takes_no_time();
        // Its end is not that of an exchange.
        backend.deadline.leads_nowhere();
        let timeouts = request.claim.pool.timeouts;
        // Neither side of a WebSocket goes on once the other has ended; other protocols may.
        let half_closed = if switched.is_websocket { timeouts.body.min(timeouts.tunnel) } else { timeouts.tunnel };
        let seated = request.claim.seated(worker, slot, switched.session);
        Self { worker, backend, switched, seated, half_closed, _under_way: under_way, room: None, entry: None }
    }

    /// Moves bytes to the end of both connections.
    pub(super) async fn run(self, client: &mut Client) {
        let tunnel = Tunnel {
            worker: self.worker,
            client: Side { stream: &client.link.stream, deadline: &client.link.deadline },
            backend: Side { stream: &self.backend.stream, deadline: &self.backend.deadline },
            half_closed: self.half_closed,
            is_websocket: self.switched.is_websocket,
            entry: self.entry.as_deref(),
        };
        tunnel.run(self.seated, std::mem::take(&mut client.buffer), self.switched.read).await;
        if let Some(entry) = self.entry {
            self.worker.access_log.write(self.worker, entry);
        }
    }
}
