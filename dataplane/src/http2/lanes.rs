//! Tasks in which streams are served, one after the other: the state of an exchange is large, and to move it into a task of
//! its own for each request costs more than to choose its backend.

use super::stream::{Stream, serve_all};
use crate::io::Spare;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

thread_local! {
    /// Those of this worker that wait for a stream; who finds none opens one.
    static WAITING: Spare<Rc<Lane>> = Spare::default();
}

/// A task that serves streams.
#[derive(Default)]
pub(super) struct Lane {
    next: Cell<Option<Stream>>,
    waker: RefCell<Option<Waker>>,
    /// It is let go of.
    is_over: Cell<bool>,
}

/// Serves a stream to its end, in a task that is not the caller's.
pub(super) fn serve(stream: Stream) {
    let waiting = WAITING.with(Spare::take);
    let (lane, is_new) = waiting.map_or_else(|| (Rc::default(), true), |lane| (lane, false));
    lane.next.set(Some(stream));
    if is_new {
        monoio::spawn(serve_all(lane));
    } else {
        lane.wake();
    }
}

/// Ends those that were not needed for a while; whether there were any.
pub(crate) fn trim() -> bool {
    let surplus = WAITING.with(Spare::surplus);
    for lane in &surplus {
        lane.is_over.set(true);
        lane.wake();
    }
    !surplus.is_empty()
}

impl Lane {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next stream that is to be served in it; `None` where there will be none.
    pub(super) async fn next(&self) -> Option<Stream> {
        poll_fn(|context| match self.next.take() {
            Some(stream) => Poll::Ready(Some(stream)),
            None if self.is_over.get() => Poll::Ready(None),
            None => {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Whether it stays to wait for another.
    pub(super) fn stays(self: &Rc<Self>) -> bool {
        WAITING.with(|waiting| waiting.give(Rc::clone(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{pin::pin, task::Context};

    #[test]
    fn a_lane_that_is_not_needed_ends() {
        let lane = Rc::<Lane>::default();
        let mut next = pin!(lane.next());
        let mut context = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut context).is_pending() && lane.stays());
        assert!(!trim(), "it has only just come");
        assert!(next.as_mut().poll(&mut context).is_pending());
        assert!(trim());
        assert!(matches!(next.as_mut().poll(&mut context), Poll::Ready(None)));
        assert!(lane.waker.borrow().is_none() && WAITING.with(Spare::take).is_none());
    }
}
