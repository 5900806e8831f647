//! Tasks in which streams are served, one after the other: the state of an exchange is large, and to move it into a task of
//! its own for each request costs more than to choose its backend.

use super::stream::{self, Stream};
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

#[derive(Default)]
struct Lane {
    next: Cell<Option<Stream>>,
    waker: RefCell<Option<Waker>>,
}

/// Serves a stream to its end, in a task that is not the caller's.
pub(super) fn serve(stream: Stream) {
    let waiting = WAITING.with_borrow_mut(Vec::pop);
    let (lane, is_new) = waiting.map_or_else(|| (Rc::default(), true), |lane| (lane, false));
    lane.next.set(Some(stream));
    if is_new {
        monoio::spawn(run(lane));
    } else if let Some(waker) = lane.waker.take() {
        waker.wake();
    }
}

async fn run(lane: Rc<Lane>) {
    loop {
        let stream = poll_fn(|context| match lane.next.take() {
            Some(stream) => Poll::Ready(stream),
            None => {
                *lane.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        stream::serve(stream).await;
        let stays = WAITING.with_borrow_mut(|waiting| {
            let stays = waiting.len() < MOST;
            if stays {
                waiting.push(Rc::clone(&lane));
            }
            stays
        });
        if !stays {
            return;
        }
    }
}
