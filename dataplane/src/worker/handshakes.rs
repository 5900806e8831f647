use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
};

/// Who may compute for a handshake: one with each turn of the ring, and between two of them all else that is ready. A
/// signature costs as much as dozens of requests, and a crowd of new clients must not hold up those that are there. Any who
/// want a turn get it in the order in which they came, and may give up while they wait.
#[derive(Default)]
pub(crate) struct Handshakes {
    busy: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
}

impl Handshakes {
    /// How many wait for theirs.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Waits for its turn: until nobody is before this one, and then for `beat`. It lasts until the caller waits for
    /// something else.
    pub(crate) async fn turn(&self, beat: impl Future<Output = ()>) {
        let place = Place { line: self, number: self.next.replace(self.next.get() + 1) };
        poll_fn(|context| match self.is_turn_of(place.number) {
            true => Poll::Ready(()),
            false => {
                self.wait(place.number, context.waker());
                Poll::Pending
            }
        })
        .await;
        self.busy.set(true);
        drop(place);
        let _held = Held(self);
        beat.await;
    }

    fn is_turn_of(&self, number: u64) -> bool {
        !self.busy.get() && self.waiting.borrow().front().is_none_or(|(first, _)| *first == number)
    }

    fn wait(&self, number: u64, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        match waiting.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.push_back((number, waker.clone())),
        }
    }

    fn wake_first(&self) {
        if !self.busy.get()
            && let Some((_, waker)) = self.waiting.borrow().front()
        {
            waker.wake_by_ref();
        }
    }
}

/// A place in the line, which is left when its turn comes or it gives up.
struct Place<'a> {
    line: &'a Handshakes,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.waiting.borrow_mut().retain(|(number, _)| *number != self.number);
        // Should it have given up when it was its turn, that of the next has come.
        self.line.wake_first();
    }
}

/// A turn that has begun.
struct Held<'a>(&'a Handshakes);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::{Pin, pin},
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Context, Wake},
    };

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls once; whether it is over, and how often it has been woken since.
    fn poll(future: Pin<&mut impl Future<Output = ()>>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        future.poll(&mut Context::from_waker(&waker)).is_ready()
    }

    /// A beat that has come once `has_come` is set.
    fn beat(has_come: &Cell<bool>) -> impl Future<Output = ()> {
        poll_fn(|_| if has_come.get() { Poll::Ready(()) } else { Poll::Pending })
    }

    #[test]
    fn turns_come_one_after_the_other_and_in_order() {
        let (line, come) = (Handshakes::default(), Cell::new(false));
        let (mut a, mut b, mut c) =
            (pin!(line.turn(beat(&come))), pin!(line.turn(beat(&come))), pin!(line.turn(beat(&come))));
        let woken: [Arc<Woken>; 3] = Default::default();
        let count = |at: usize| woken[at].0.load(Ordering::Relaxed);
        assert!(!poll(a.as_mut(), &woken[0]) && !poll(b.as_mut(), &woken[1]) && !poll(c.as_mut(), &woken[2]));
        come.set(true);
        assert!(!poll(c.as_mut(), &woken[2]) && !poll(b.as_mut(), &woken[1]), "it is not their turn");
        assert!(poll(a.as_mut(), &woken[0]));
        assert_eq!((count(1), count(2)), (1, 0), "the next is woken, and nobody else");
        assert!(!poll(c.as_mut(), &woken[2]), "nobody overtakes");
        assert!(poll(b.as_mut(), &woken[1]) && count(2) == 1 && poll(c.as_mut(), &woken[2]));
        assert!(!line.busy.get() && line.waiting.borrow().is_empty());
    }

    #[test]
    fn one_that_gives_up_holds_up_nobody() {
        let (line, come) = (Handshakes::default(), Cell::new(false));
        let woken: [Arc<Woken>; 4] = Default::default();
        let count = |at: usize| woken[at].0.load(Ordering::Relaxed);
        let mut futures: Vec<_> = (0..4).map(|_| Box::pin(line.turn(beat(&come)))).collect();
        for (future, woken) in futures.iter_mut().zip(&woken) {
            assert!(!poll(future.as_mut(), woken));
        }
        // The second gives up while it waits, and the first in its turn; the third is woken and gives up as well.
        drop(futures.remove(1));
        drop(futures.remove(0));
        assert_eq!((count(2), count(3)), (1, 0));
        drop(futures.remove(0));
        assert_eq!(count(3), 1);
        come.set(true);
        assert!(poll(futures[0].as_mut(), &woken[3]));
        assert!(!line.busy.get() && line.waiting.borrow().is_empty());
    }
}
