use super::{Buffer, Buffers, Handle, Interrupt, Refused, handle, pipe::Pipe, tcp::Tcp, tls::Tls};
use control::Endpoint;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::{
    cell::Cell,
    io,
    net::{Shutdown, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// A connection of which one direction may be read while the other is written.
pub(crate) enum Stream {
    Tcp(Tcp),
    /// On the heap, so that connections in clear text have no room for it.
    Tls(Box<Tls>),
    /// One request and its response, of a connection that has many of them at once.
    Pipe(Pipe),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stream").field(&self.handle()).finish()
    }
}

impl Stream {
    pub(crate) async fn connect(address: &Endpoint, timeout: Duration) -> io::Result<Self> {
        Tcp::connect(address, timeout).await.map(Self::Tcp)
    }

    /// Shakes hands with a client over a fresh connection. `clock` has the worker's milliseconds; `turn` is awaited before each
    /// step that computes, and ends it all where it is false.
    ///
    /// # Errors
    /// Where nothing comes of it.
    pub(crate) async fn accept_tls(
        self,
        offered: Arc<ServerConfig>,
        clock: Rc<Cell<u64>>,
        turn: impl AsyncFnMut() -> bool,
    ) -> Result<Self, Refused> {
        match self {
            Self::Tcp(tcp) => Tls::accept(tcp, offered, clock, turn).await.map(|tls| Self::Tls(Box::new(tls))),
            sealed @ (Self::Tls(_) | Self::Pipe(_)) => Ok(sealed),
        }
    }

    /// Shakes hands with a backend over a fresh connection, which has to be `name`; the rest as with a client.
    ///
    /// # Errors
    /// Where nothing comes of it.
    pub(crate) async fn connect_tls(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        clock: Rc<Cell<u64>>,
        turn: impl AsyncFnMut() -> bool,
    ) -> Result<Self, Refused> {
        match self {
            Self::Tcp(tcp) => Tls::connect(tcp, config, name, clock, turn).await.map(|tls| Self::Tls(Box::new(tls))),
            sealed @ (Self::Tls(_) | Self::Pipe(_)) => Ok(sealed),
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        match self {
            Self::Tcp(tcp) => Handle::Tcp(tcp.fd()),
            Self::Tls(tls) => Handle::Tls(tls.fd()),
            Self::Pipe(pipe) => Handle::Pipe(Rc::clone(pipe.shared())),
        }
    }

    /// Whether it is a socket in clear text.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(_) => true,
            Self::Pipe(pipe) => pipe.carried().is_tls,
        }
    }

    /// Whether it is a stream of an HTTP/2 connection.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }

    /// Whether peers agreed in their handshake to speak this (RFC 7301).
    pub(crate) fn has_agreed_on(&self, protocol: &[u8]) -> bool {
        matches!(self, Self::Tls(tls) if tls.protocol().as_deref() == Some(protocol))
    }

    /// Whether its handshake went on from an earlier one.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.is_resumed())
    }

    /// The name that the client has asked for in its handshake.
    pub(crate) fn server_name(&self) -> Option<Box<str>> {
        match self {
            Self::Tcp(_) | Self::Pipe(_) => None,
            Self::Tls(tls) => tls.server_name(),
        }
    }

    /// The certificate that the peer has shown, in DER.
    pub(crate) fn peer_certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tcp(_) | Self::Pipe(_) => None,
            Self::Tls(tls) => tls.peer_certificate(),
        }
    }

    /// Appends what comes to the buffer, of which some must be free. `Ok(0)` is the end.
    pub(crate) async fn read(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer).await,
            Self::Tls(tls) => tls.read(buffer).await,
            Self::Pipe(pipe) => pipe.read(buffer).await,
        }
    }

    /// As [`Self::read`], unless it is interrupted. Only a socket in clear text keeps a buffer for that: the others wait
    /// without one anyway.
    pub(crate) async fn read_unless(&self, buffer: Buffer, interrupt: &Interrupt) -> (io::Result<usize>, Buffer) {
        match self {
            Self::Tcp(tcp) => tcp.read_unless(buffer, interrupt).await,
            Self::Tls(_) | Self::Pipe(_) => (Err(io::Error::from_raw_os_error(libc::ECANCELED)), buffer),
        }
    }

    /// Waits until there is something to read, or the end. To give up the wait loses nothing, and it holds no buffer.
    pub(crate) async fn readable(&self) {
        match self {
            Self::Tcp(tcp) => tcp.readable().await,
            Self::Tls(tls) => tls.readable().await,
            Self::Pipe(pipe) => pipe.readable().await,
        }
    }

    /// Appends what has come to the buffer, of which some must be free; `None` where nothing has. `Some(0)` is the end.
    pub(crate) fn try_read(&self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        match self {
            Self::Tcp(tcp) => tcp.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
            Self::Pipe(pipe) => Ok(pipe.try_read(buffer)),
        }
    }

    /// What has come, and stays to be read; `None` where nothing has, and 0 at the end. Over sockets alone.
    pub(crate) fn peek(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Tcp(tcp) => tcp.receive(room, libc::MSG_PEEK),
            Self::Tls(_) | Self::Pipe(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes so many bytes of what [`Self::peek`] has shown, at most, and says how many.
    pub(crate) fn pass_over(&self, count: usize) -> io::Result<usize> {
        let mut over = [0; 256];
        let count = count.min(over.len());
        match self {
            Self::Tcp(tcp) => Ok(tcp.receive(&mut over[..count], 0)?.unwrap_or(0)),
            Self::Tls(_) | Self::Pipe(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The address at which the peer has found us.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_address(),
            Self::Tls(tls) => tls.local_address(),
            Self::Pipe(pipe) => pipe.carried().local_address,
        }
    }

    /// Writes the first `count` bytes of the buffer and consumes them; says of each piece how long it was, as it goes.
    pub(crate) async fn write_front(
        &self,
        mut buffer: Buffer,
        count: usize,
        moved: impl FnMut(usize),
    ) -> (io::Result<()>, Buffer) {
        match self {
            Self::Tcp(tcp) => tcp.write_front(buffer, count, moved).await,
            Self::Tls(tls) => tls.write_front(buffer, count, moved).await,
            Self::Pipe(pipe) => {
                let result = pipe.write(&buffer.bytes()[..count.min(buffer.len())], moved).await;
                buffer.consume(count);
                (result, buffer)
            }
        }
    }

    /// Writes of the first `count` bytes of the buffer what goes without waiting, and consumes it.
    pub(crate) fn try_write_front(&self, buffer: &mut Buffer, count: usize) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_write_front(buffer, count),
            // What is sealed can't be taken back, and would wait for the next write where the socket takes it in part.
            Self::Tls(_) | Self::Pipe(_) => Ok(0),
        }
    }

    /// Writes of these bytes what goes without waiting, and says how much. They leave with the end of the connection, which
    /// has to follow at once: one segment less than if each went by itself.
    pub(crate) fn try_write_last(&self, bytes: &[u8]) -> usize {
        match self {
            // Whatever went wrong shows in the write of the rest.
            Self::Tcp(tcp) => tcp.send(bytes, libc::MSG_MORE).unwrap_or(0),
            Self::Tls(_) | Self::Pipe(_) => 0,
        }
    }

    /// Writes the whole vector, which comes back as it was.
    pub(crate) async fn write_vector(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self {
            Self::Tcp(tcp) => tcp.write_vector(bytes).await,
            Self::Tls(tls) => tls.write_vector(bytes).await,
            Self::Pipe(pipe) => (pipe.write(&bytes, |_| {}).await, bytes),
        }
    }

    /// Writes the whole vector, of which nothing but room for another comes back.
    pub(crate) async fn give_vector(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let (result, mut room) = match self {
            Self::Tcp(_) | Self::Tls(_) => self.write_vector(bytes).await,
            Self::Pipe(pipe) => pipe.give(bytes).await,
        };
        room.clear();
        (result, room)
    }

    /// Whether the peer has neither sent anything nor closed.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(tcp) => handle::is_quiet(tcp.fd()),
            Self::Tls(tls) => tls.is_quiet(),
            Self::Pipe(pipe) => pipe.is_quiet(),
        }
    }

    /// Tells the peer that nothing more comes. It may still send.
    pub(crate) async fn finish(&self) {
        match self {
            Self::Tcp(tcp) => handle::shut(tcp.fd(), Shutdown::Write),
            Self::Tls(tls) => tls.finish().await,
            Self::Pipe(pipe) => pipe.finish(),
        }
    }

    /// Reads to the end, and lets go of what comes: to close with input unread would reset the connection, and take away
    /// what the peer was sent and has not read (RFC 9112 section 9.6).
    pub(crate) async fn read_out(&self, buffers: &Buffers) {
        let mut buffer = buffers.buffer();
        loop {
            buffer.clear();
            let (read, rest) = self.read(buffer).await;
            buffer = rest;
            if !read.is_ok_and(|count| count > 0) {
                break;
            }
        }
        buffers.give_back(buffer);
    }

    /// Ends both directions, and whatever waits on them.
    pub(crate) fn cut(&self) {
        self.handle().shut(Shutdown::Both);
    }

    /// Makes the close that follows a reset, so that the peer can't take what it got for the whole.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Tcp(tcp) => tcp.reset_on_close(),
            Self::Tls(tls) => tls.reset_on_close(),
            Self::Pipe(pipe) => pipe.reset_on_close(),
        }
    }
}
