use monoio::{io::AsyncReadRent, net::UnixStream};
use std::{io, time::Duration};

/// The worker's end of a socket pair: a byte on it says that the mailbox has something.
pub(crate) struct Wakeup(UnixStream);

impl Wakeup {
    pub(crate) fn new(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        UnixStream::from_std(socket).map(Self)
    }

    /// Waits for the next byte; false when the other end is gone.
    pub(crate) async fn wait(&mut self, buffer: Vec<u8>) -> (bool, Vec<u8>) {
        let (result, buffer) = self.0.read(buffer).await;
        (result.is_ok_and(|count| count > 0), buffer)
    }
}

/// What `wait` gives, or `None` when it takes longer. Only for waits that lose nothing when they are given up.
pub(crate) async fn within<T>(time: Duration, wait: impl Future<Output = T>) -> Option<T> {
    monoio::time::timeout(time, wait).await.ok()
}

/// Sleeps for a while on the worker's own ring.
pub(crate) async fn hold_back(time: Duration) {
    monoio::time::sleep(time).await;
}

/// What is always ready, so that to wait for it lasts one turn of the ring: all that is ready by then has been taken up.
pub(crate) struct Beat {
    ready: UnixStream,
    /// Nobody reads here, and nobody writes there.
    _other: std::os::unix::net::UnixStream,
}

impl Beat {
    pub(crate) fn new() -> io::Result<Self> {
        let (ready, other) = std::os::unix::net::UnixStream::pair()?;
        Ok(Self { ready: UnixStream::from_std(ready)?, _other: other })
    }

    pub(crate) async fn pass(&self) {
        let _ = self.ready.writable(false).await;
    }
}
