use super::buffer::{Buffer, Front, Rest, Tail};
use monoio::{
    buf::IoBufMut,
    io::{AsyncReadRent, AsyncWriteRent},
    net::{TcpListener, TcpStream, UnixStream},
};
use std::{
    cell::UnsafeCell,
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

/// A connection of which one direction may be read while the other is written.
pub(crate) struct Stream(UnsafeCell<TcpStream>);

impl Stream {
    fn new(stream: TcpStream) -> Self {
        // Heads and bodies go out in as few writes as can be; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        Self(UnsafeCell::new(stream))
    }

    pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        match monoio::time::timeout(timeout, TcpStream::connect_addr(address)).await {
            Ok(connected) => connected.map(Self::new),
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
        let (result, tail) = self.inner().read(Tail(buffer)).await;
        (result, tail.0)
    }

    /// Waits until there is something to read, or the end. To give up the wait loses nothing, and it holds no buffer.
    pub(crate) async fn readable(&self) {
        // What went wrong shows in the read that follows.
        let _ = self.inner().readable(false).await;
    }

    /// Appends what has come to the buffer, of which some must be free; `None` where nothing has. `Some(0)` is the end.
    pub(crate) fn try_read(&self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        buffer.make_room();
        let mut tail = Tail(std::mem::take(buffer));
        let (place, room) = (tail.write_ptr(), tail.bytes_total());
        // SAFETY: `room` bytes from `place` on are the buffer's own and writable; the descriptor is open as long as `self`.
        let count = unsafe { libc::recv(self.fd(), place.cast(), room, libc::MSG_DONTWAIT) };
        let result = match usize::try_from(count) {
            Ok(count) => {
                // SAFETY: so many bytes were just written there.
                unsafe { tail.set_init(count) };
                Ok(Some(count))
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        };
        *buffer = tail.0;
        result
    }

    /// Writes the first `count` bytes of the buffer and consumes them.
    pub(crate) async fn write_front(&self, mut buffer: Buffer, mut count: usize) -> (io::Result<()>, Buffer) {
        while count > 0 {
            let (result, front) = self.inner().write(Front { buffer, count }).await;
            buffer = front.buffer;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(written) => {
                    buffer.consume(written);
                    count -= written;
                }
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Writes of the first `count` bytes of the buffer what goes without waiting, and consumes it.
    pub(crate) fn try_write_front(&self, buffer: &mut Buffer, count: usize) -> io::Result<usize> {
        let bytes = buffer.bytes();
        let bytes = &bytes[..count.min(bytes.len())];
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and the length are of one slice; the descriptor is open as long as `self`.
        let written = unsafe { libc::send(self.fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        match usize::try_from(written) {
            Ok(written) => {
                buffer.consume(written);
                Ok(written)
            }
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
            (result, rest) = self.inner().write(rest).await;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), rest.bytes),
                Ok(written) => rest.from += written,
                Err(error) => return (Err(error), rest.bytes),
            }
        }
        (Ok(()), rest.bytes)
    }

    /// Whether the peer has neither sent anything nor closed.
    pub(crate) fn is_quiet(&self) -> bool {
        peek(self.fd()) == Peeked::Nothing
    }

    pub(crate) fn shut(&self, how: Shutdown) {
        shut(self.fd(), how);
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

#[derive(PartialEq, Eq)]
enum Peeked {
    Nothing,
    Something,
    Gone,
}

fn peek(fd: RawFd) -> Peeked {
    let mut byte = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the pointer is to one writable byte, and the callers hold the descriptor open.
    match unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) } {
        1.. => Peeked::Something,
        0 => Peeked::Gone,
        _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Peeked::Nothing,
        _ => Peeked::Gone,
    }
}

/// Whether the peer has closed or reset the connection and left nothing to read.
pub(crate) fn is_gone(fd: RawFd) -> bool {
    peek(fd) == Peeked::Gone
}

/// Ends what waits on a socket: a pending read gives `Ok(0)`, a pending write an error.
pub(crate) fn shut(fd: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: shutdown touches no memory; the callers hold the descriptor open.
    unsafe {
        libc::shutdown(fd, how);
    }
}

/// A listening socket, possibly shared with other processes.
pub(crate) struct Listener(TcpListener);

/// What [`Listener::accept`] found.
pub(crate) enum Accepted {
    Connection(Stream, SocketAddr),
    /// Nobody waits any more.
    None,
    Failed(io::Error),
}

impl Listener {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self)
    }

    /// Waits until somebody may be waiting. To give up waiting loses nobody, as a pending accept would.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable(false).await
    }

    pub(crate) fn accept(&self) -> Accepted {
        let mut storage = zeroed();
        let mut size = libc::socklen_t::try_from(size_of_val(&storage)).unwrap_or(0);
        let address = (&raw mut storage).cast::<libc::sockaddr>();
        // SAFETY: `address` points to `size` writable bytes; the descriptor is open for as long as `self` is.
        let fd = unsafe { libc::accept4(self.0.as_raw_fd(), address, &raw mut size, libc::SOCK_CLOEXEC) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Accepted::None } else { Accepted::Failed(error) };
        }
        // SAFETY: the descriptor is fresh from accept4 and nobody else's.
        let stream = std::net::TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let peer = socket_address(&storage);
        match (TcpStream::from_std(stream), peer) {
            (Ok(stream), Some(peer)) => Accepted::Connection(Stream::new(stream), peer),
            (Ok(_), None) => Accepted::Failed(io::ErrorKind::Unsupported.into()),
            (Err(error), _) => Accepted::Failed(error),
        }
    }
}

fn zeroed() -> libc::sockaddr_storage {
    // SAFETY: all bytes zero is a valid value of this plain structure: family unspecified.
    unsafe { std::mem::zeroed() }
}

fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place = &raw const *storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure it is, and the storage is large enough and aligned for all.
            let v4 = unsafe { &*place.cast::<libc::sockaddr_in>() };
            let ip = u32::from_be(v4.sin_addr.s_addr);
            Some(SocketAddr::from((ip.to_be_bytes(), u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*place.cast::<libc::sockaddr_in6>() };
            Some(SocketAddr::from((v6.sin6_addr.s6_addr, u16::from_be(v6.sin6_port))))
        }
        _ => None,
    }
}

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
