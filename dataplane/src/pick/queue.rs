use super::{Claim, Target};
use crate::{
    io::{Handle, within},
    worker::{Place, Queue, Room, Waits, Worker},
};
use control::counters::{Dataplane, PoolCount};
use std::time::Duration;

/// How a request is held that finds no backend with room.
#[derive(Default)]
pub(crate) struct Line<'a> {
    place: Option<Place<'a>>,
    room: Option<Room<'a>>,
    /// When it has waited long enough, by the worker's clock; set when it first has to wait.
    until: Option<u64>,
}

/// Why a request waits no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There may be room: choose again.
    Enough,
    /// As many wait as may, or it was too long.
    InVain,
    /// The client has gone.
    Alone,
}

/// Time between two looks whether the client is still there, and whether something has changed that nobody tells of.
const LOOK: Duration = Duration::from_millis(250);

impl<'a> Line<'a> {
    pub(crate) fn waits(&self) -> Waits {
        Waits { in_line: self.place.is_some(), room_at: self.room.as_ref().map(|room| room.slot) }
    }

    /// Takes room at the chosen backend, where its pool sets a limit. `Err` where somebody else was faster.
    pub(crate) fn enter(&mut self, worker: &'a Worker, claim: &Claim, target: &Target) -> Result<Option<Room<'a>>, ()> {
        let limit = claim.pool.limits.requests;
        let room = self.room.take().filter(|room| room.slot == target.slot);
        if limit == 0 || room.is_some() {
            self.place = None;
            return Ok(room);
        }
        let room = Room::take(worker, claim.pool.slot, target.slot, limit, target.beyond);
        if room.is_some() {
            self.place = None;
        }
        room.map(Some).ok_or(())
    }

    /// Keeps the room of a request that was not sent, until it is known where it goes instead.
    pub(crate) fn keep(&mut self, room: Option<Room<'a>>) {
        self.room = room;
    }

    /// Takes a place in the queue, or waits there for its turn.
    pub(crate) async fn wait(&mut self, worker: &'a Worker, client: Handle, claim: &Claim, queue: Queue) -> Waited {
        let (pool, limits) = (claim.pool.slot, claim.pool.limits);
        self.room = None;
        let count = |what| worker.board().count_pool(pool, what);
        if self.place.as_ref().is_none_or(|place| !place.is_in(queue)) {
            self.place = Place::join(worker, queue, limits);
            if self.place.is_none() {
                count(PoolCount::QueueFull);
                return Waited::InVain;
            }
            if self.until.is_none() {
                count(PoolCount::Queued);
                self.until = Some(worker.after(limits.queue_timeout));
            }
            // Those who leave can see it now; whoever left before may have left room.
            return Waited::Enough;
        }
        let Some(place) = &self.place else { return Waited::Enough };
        if let Some(Some(slot)) = within(LOOK, place.turn()).await {
            self.room = Some(Room::granted(worker, pool, slot, limits.requests));
            // Should this room be of no use, it queues again: its turn is over.
            self.place = None;
        }
        if client.is_gone() {
            worker.board().count(Dataplane::ClientAborts);
            return Waited::Alone;
        }
        if self.room.is_none() && self.until.is_some_and(|until| worker.clock.millis() >= until) {
            count(PoolCount::QueueTimeouts);
            return Waited::InVain;
        }
        Waited::Enough
    }
}
