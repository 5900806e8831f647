use crate::io::Beat;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    task::{Poll, Waker},
};

/// Who may compute for a handshake: one with each turn of the ring, and between two of them all else that is ready. A
/// signature costs as much as dozens of requests, and a crowd of new clients must not hold up those that are there.
pub(crate) struct Handshakes {
    beat: Beat,
    busy: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Handshakes {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { beat: Beat::new()?, busy: Cell::new(false), waiting: RefCell::default() })
    }

    /// Waits for its turn, which lasts until the caller waits for something else.
    pub(crate) async fn turn(&self) {
        poll_fn(|context| match self.busy.replace(true) {
            false => Poll::Ready(()),
            true => {
                self.waiting.borrow_mut().push_back(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        self.beat.pass().await;
        self.busy.set(false);
        if let Some(next) = self.waiting.borrow_mut().pop_front() {
            next.wake();
        }
    }
}
