use super::{
    Interrupt,
    buffer::{Buffer, Front, Rest, Tail},
    tally,
};
use control::Endpoint;
use monoio::{
    io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent},
    net::{TcpStream, UnixStream},
};
use std::{
    cell::UnsafeCell,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd},
    time::Duration,
};

/// A connection of which one direction may be read while the other is written.
pub(crate) struct Tcp(UnsafeCell<TcpStream>);

/// A Unix socket in the type of the others: what is done with either is done by its descriptor, and the options that only
/// one of them has are set in vain.
fn as_tcp(stream: UnixStream) -> io::Result<TcpStream> {
    // SAFETY: the descriptor is the stream's own, which gives it up here.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(stream.into_raw_fd()) };
    TcpStream::from_std(stream)
}

/// Heads and bodies go out in as few writes as can be; waiting for more would only delay them.
pub(super) fn no_delay(fd: RawFd) {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: the option takes an integer, whose address and size these are; the callers hold the descriptor open.
    unsafe {
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), size);
    }
}

impl Tcp {
    /// A connection that does not wait for more before it sends; see [`no_delay`].
    pub(super) fn of(stream: TcpStream) -> Self {
        Self(UnsafeCell::new(stream))
    }

    pub(crate) async fn connect(address: &Endpoint, timeout: Duration) -> io::Result<Self> {
        let connected = async {
            match address {
                Endpoint::Inet(address) => TcpStream::connect_addr(*address).await,
                Endpoint::Unix(path) => as_tcp(UnixStream::connect(path.to_path()).await?),
            }
        };
        match monoio::time::timeout(timeout, connected).await {
            Ok(connected) => connected.map(|stream| {
                no_delay(stream.as_raw_fd());
                Self::of(stream)
            }),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    #[expect(clippy::mut_from_ref, reason = "see the safety comment")]
    fn inner(&self) -> &mut TcpStream {
        // SAFETY: monoio's operations on a stream take a copy of its descriptor and touch nothing else of it, which is
        // why it lets a stream be split into two halves over one such cell; all of it stays on one thread.
        unsafe { &mut *self.0.get() }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.inner().as_raw_fd()
    }

    /// Appends what comes to the buffer, of which some must be free. `Ok(0)` is the end.
    pub(crate) async fn read(&self, mut buffer: Buffer) -> (io::Result<usize>, Buffer) {
        buffer.make_room();
        tally::ring();
        let (result, tail) = self.inner().read(Tail(buffer)).await;
        (result, tail.0)
    }

    /// The same, unless it is interrupted.
    pub(crate) async fn read_unless(&self, mut buffer: Buffer, interrupt: &Interrupt) -> (io::Result<usize>, Buffer) {
        buffer.make_room();
        tally::ring();
        let (result, tail) = self.inner().cancelable_read(Tail(buffer), interrupt.handle()).await;
        (result, tail.0)
    }

    /// Waits until there is something to read, or the end. To give up the wait loses nothing, and it holds no buffer.
    pub(crate) async fn readable(&self) {
        tally::ring();
        // What went wrong shows in the read that follows.
        let _ = self.inner().readable(false).await;
    }

    /// Waits until something can be written, or nothing ever will.
    pub(crate) async fn writable(&self) {
        tally::ring();
        let _ = self.inner().writable(false).await;
    }

    /// Appends what has come to the buffer, of which some must be free; `None` where nothing has. `Some(0)` is the end.
    pub(crate) fn try_read(&self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        buffer.make_room();
        let received = self.receive(buffer.free_mut(), 0)?;
        buffer.grow(received.unwrap_or(0));
        Ok(received)
    }

    /// `recv(2)` without waiting; `None` where nothing has come.
    pub(super) fn receive(&self, room: &mut [u8], flags: libc::c_int) -> io::Result<Option<usize>> {
        let flags = flags | libc::MSG_DONTWAIT;
        tally::direct();
        // SAFETY: the pointer and the length are of one writable slice; the descriptor is open as long as `self`.
        let count = unsafe { libc::recv(self.fd(), room.as_mut_ptr().cast(), room.len(), flags) };
        match usize::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.inner().local_addr().ok()
    }

    /// Writes the first `count` bytes of the buffer and consumes them; says of each piece how long it was, as it goes.
    pub(crate) async fn write_front(
        &self,
        mut buffer: Buffer,
        mut count: usize,
        mut moved: impl FnMut(usize),
    ) -> (io::Result<()>, Buffer) {
        while count > 0 {
            tally::ring();
            let (result, front) = self.inner().write(Front { buffer, count }).await;
            buffer = front.buffer;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(written) => {
                    buffer.consume(written);
                    count -= written;
                    moved(written);
                }
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Writes of the first `count` bytes of the buffer what goes without waiting, and consumes it.
    pub(crate) fn try_write_front(&self, buffer: &mut Buffer, count: usize) -> io::Result<usize> {
        let bytes = buffer.bytes();
        let written = self.send(&bytes[..count.min(bytes.len())], 0)?;
        buffer.consume(written);
        Ok(written)
    }

    /// `send(2)` without waiting; 0 where nothing goes.
    pub(super) fn send(&self, bytes: &[u8], flags: libc::c_int) -> io::Result<usize> {
        let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        tally::direct();
        // SAFETY: the pointer and the length are of one slice; the descriptor is open as long as `self`.
        let written = unsafe { libc::send(self.fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        match usize::try_from(written) {
            Ok(written) => Ok(written),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Writes the whole vector, which comes back as it was.
    pub(crate) async fn write_vector(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let mut rest = Rest { bytes, from: 0 };
        while rest.from < rest.bytes.len() {
            let result;
            tally::ring();
            (result, rest) = self.inner().write(rest).await;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), rest.bytes),
                Ok(written) => rest.from += written,
                Err(error) => return (Err(error), rest.bytes),
            }
        }
        (Ok(()), rest.bytes)
    }

    /// Makes the close that follows a reset, so that the peer can't take what it got for the whole.
    pub(crate) fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = libc::socklen_t::try_from(size_of_val(&linger)).unwrap_or(0);
        // SAFETY: the option takes a `linger`, whose address and size these are.
        unsafe {
            libc::setsockopt(self.fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size);
        }
    }
}
