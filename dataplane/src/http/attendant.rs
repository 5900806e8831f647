//! Who serves a connection while something moves on it. The state of an exchange takes 7 KB, and a buffer 16: a connection
//! that waits for its next request has neither. They are a worker's, and used again.

use super::{Stop, client::Client, requests};
use crate::{
    io::{Interrupt, Spare},
    worker::Worker,
};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

/// How a connection is left.
pub(super) enum Left {
    /// It waits for its next request.
    Waits(Box<Client>),
    Over,
    /// What has come is the beginning of HTTP/2.
    Http2(Box<Client>),
}

/// Where a connection is handed over, and back.
#[derive(Default)]
struct Desk {
    came: Cell<Option<(Rc<Worker>, Box<Client>)>>,
    left: Cell<Option<Left>>,
    interrupt: Interrupt,
}

/// Serves one connection after the other, within the task of each.
struct Attendant {
    desk: Rc<Desk>,
    work: Pin<Box<dyn Future<Output = ()>>>,
}

thread_local! {
    /// Those of this worker that have nothing to do.
    static FREE: Spare<Attendant> = Spare::default();
}

/// Serves what has come, and all that comes before the connection has to wait again.
pub(super) async fn attend(worker: &Rc<Worker>, client: Box<Client>) -> Left {
    let mut attendant = FREE.with(Spare::take).unwrap_or_else(Attendant::new);
    attendant.desk.came.set(Some((Rc::clone(worker), client)));
    let left = poll_fn(|context| {
        let _ = attendant.work.as_mut().poll(context);
        attendant.desk.left.take().map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    FREE.with(|free| free.give(attendant));
    left
}

/// Lets go of those that were not needed for a while; whether there were any.
pub(crate) fn trim() -> bool {
    FREE.with(Spare::trim)
}

impl Attendant {
    fn new() -> Self {
        let desk = Rc::<Desk>::default();
        Self { work: Box::pin(work(Rc::clone(&desk))), desk }
    }
}

async fn work(desk: Rc<Desk>) {
    loop {
        // Whoever brings a connection polls.
        let (worker, mut client) = poll_fn(|_| desk.came.take().map_or(Poll::Pending, Poll::Ready)).await;
        // Pinned where it is made: to await it as it is would move its 7 KB first.
        let stop = pin!(requests(&worker, &mut client, Some(&desk.interrupt))).await;
        desk.left.set(Some(match stop {
            Stop::Idle => Left::Waits(client),
            Stop::Http2 => Left::Http2(client),
            Stop::Over => {
                client.end(&worker);
                Left::Over
            }
        }));
    }
}
