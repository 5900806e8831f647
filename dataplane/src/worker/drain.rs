use super::Parting;
use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

/// Whether the worker drains, and who waits for that.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: Cell<Option<Parting>>,
    waiting: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

/// The place of one who waits.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    drain: &'a Drain,
    place: usize,
}

impl Drain {
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    pub(super) fn parting(&self) -> Option<Parting> {
        self.begun.get()
    }

    pub(super) fn begin(&self, parting: Parting) {
        self.begun.set(Some(parting));
        for waker in self.waiting.borrow_mut().iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    pub(crate) fn watch(&self) -> Watch<'_> {
        let mut waiting = self.waiting.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            waiting.push(None);
            waiting.len() - 1
        });
        Watch { drain: self, place }
    }
}

impl Watch<'_> {
    /// Whether it has begun; if not, the task is woken when it does.
    pub(crate) fn has_begun(&self, context: &Context<'_>) -> bool {
        let waker = &mut self.drain.waiting.borrow_mut()[self.place];
        if !self.drain.has_begun() && !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.drain.has_begun()
    }
}

impl std::ops::Drop for Watch<'_> {
    fn drop(&mut self) {
        self.drain.waiting.borrow_mut()[self.place] = None;
        self.drain.free.borrow_mut().push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_still_waits_is_woken_and_places_are_used_again() {
        let drain = Drain::default();
        let (stays, goes) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (one, other) = (Waker::from(Arc::clone(&stays)), Waker::from(Arc::clone(&goes)));
        let watch = drain.watch();
        for _ in 0..100 {
            let gone = drain.watch();
            assert!(!gone.has_begun(&Context::from_waker(&other)) && !watch.has_begun(&Context::from_waker(&one)));
        }
        assert_eq!(drain.waiting.borrow().len(), 2);
        drain.begin(Parting::Replaced);
        assert_eq!((stays.0.load(Ordering::Relaxed), goes.0.load(Ordering::Relaxed)), (1, 0));
        assert!(watch.has_begun(&Context::from_waker(&one)));
    }
}
