use monoio::io::{CancelHandle, Canceller};
use std::{cell::RefCell, io};

/// Gives a read up without losing what came: it ends with what it has, or as interrupted.
#[derive(Default)]
pub(crate) struct Interrupt(RefCell<Canceller>);

impl Interrupt {
    pub(super) fn handle(&self) -> CancelHandle {
        self.0.borrow().handle()
    }

    /// Gives up what waits now, and nothing that begins later.
    pub(crate) fn interrupt(&self) {
        let canceller = self.0.take();
        self.0.replace(canceller.cancel());
    }

    /// Whether it was this that has ended a read.
    pub(crate) fn is_why(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::ECANCELED)
    }
}
