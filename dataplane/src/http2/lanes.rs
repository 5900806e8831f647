//! Tasks in which streams are served, one after the other: the state of an exchange is large, and to move it into a task of
//! its own for each request costs more than to choose its backend.

use super::stream::{Stream, serve_all};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// How many lanes of a worker wait for a stream at most; who finds none opens one.
const MOST: usize = 1_024;

thread_local! {
    /// Those of this worker that wait, the one that was left last on top: it is still in the caches.
    static WAITING: RefCell<Vec<Rc<Lane>>> = const { RefCell::new(Vec::new()) };
}

/// A task that serves streams.
#[derive(Default)]
pub(super) struct Lane {
    next: Cell<Option<Stream>>,
    waker: RefCell<Option<Waker>>,
}

/// Serves a stream to its end, in a task that is not the caller's.
pub(super) fn serve(stream: Stream) {
    let waiting = WAITING.with_borrow_mut(Vec::pop);
    let (lane, is_new) = waiting.map_or_else(|| (Rc::default(), true), |lane| (lane, false));
    lane.next.set(Some(stream));
    if is_new {
        monoio::spawn(serve_all(lane));
    } else if let Some(waker) = lane.waker.take() {
        waker.wake();
    }
}

impl Lane {
    /// The next stream that is to be served in it.
    pub(super) async fn next(&self) -> Stream {
        poll_fn(|context| match self.next.take() {
            Some(stream) => Poll::Ready(stream),
            None => {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Whether it stays to wait for another.
    pub(super) fn stays(self: &Rc<Self>) -> bool {
        WAITING.with_borrow_mut(|waiting| {
            let stays = waiting.len() < MOST;
            if stays {
                waiting.push(Rc::clone(self));
            }
            stays
        })
    }
}
