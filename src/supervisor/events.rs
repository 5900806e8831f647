//! The one place where the supervisor waits.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use signal_hook::iterator::{backend::SignalDelivery, exfiltrator::SignalOnly};
use std::{
    io,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

pub(super) struct Events {
    signals: SignalDelivery<UnixStream, SignalOnly>,
}

impl Events {
    /// From here on these signals do nothing but end a wait.
    pub(super) fn on(signals: &[i32]) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        Ok(Self { signals: SignalDelivery::with_pipe(read, write, SignalOnly, signals)? })
    }

    /// Until a signal has come, one of `others` can be read, or the deadline has passed. Returns the signals; of one that
    /// came twice in the meantime, one.
    pub(super) fn wait(&mut self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<i32>> {
        // Rounded up, or the last stretch of a millisecond would be spent spinning.
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let mut waited: Vec<_> = others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        waited.push(PollFd::new(self.signals.get_read(), PollFlags::IN));
        match poll(&mut waited, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(waited);
        Ok(self.signals.pending().collect())
    }
}
