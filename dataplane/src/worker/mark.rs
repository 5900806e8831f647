//! Says that a worker is about to look into its mailbox, so that nobody wakes it twice.

use crate::sync::atomic::{AtomicBool, Ordering::AcqRel};

#[derive(Debug)]
pub(super) struct Mark(AtomicBool);

impl Mark {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Says that something has been put in; whether the worker has to be woken for it.
    pub(super) fn raise(&self) -> bool {
        !self.0.swap(true, AcqRel)
    }

    /// Says that what is in there is looked at from now on. To be called before that, so that nothing is left behind: whoever
    /// puts something in later finds the mark lowered, and wakes.
    pub(super) fn lower(&self) {
        // Reading the mark makes visible what was put in before it was raised: a mere store could still be on its way when
        // nothing is found and the next sender finds the mark up.
        self.0.swap(false, AcqRel);
    }
}
