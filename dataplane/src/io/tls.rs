//! TLS over a socket. Bytes are sealed and opened between two waits and never across one, so that a connection may be read
//! and written by turns; what waits is the socket alone.

use super::{Buffer, Stream, handle, tcp::Tcp};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection, pki_types::ServerName,
};
use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr},
    os::fd::RawFd,
    rc::Rc,
    sync::Arc,
};

/// A connection whose handshake is over.
pub(crate) struct Tls {
    tcp: Tcp,
    session: RefCell<Session>,
    /// Reads and writes in a row that found the socket ready.
    at_once: Cell<u32>,
    /// Its end must not be taken for that of what was sent.
    broken: Cell<bool>,
}

struct Session {
    connection: Connection,
    /// Bytes that were sealed since the connection last was idle.
    sent: usize,
    /// When the last of them were, by `clock`.
    wrote: Option<u64>,
    /// The socket had no more when it was read last; what has come since, a wait tells.
    drained: bool,
    /// Milliseconds of the worker's clock.
    clock: Rc<Cell<u64>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The peer went, or its time was over.
    Gone,
    /// It speaks HTTP in clear text, and may be told so.
    Plain(Stream),
    Failed(rustls::Error),
    /// It did not get its turn.
    Crowded,
}

/// A record that a client can open as soon as one packet has come: what an IPv6 packet of 1,500 bytes leaves for it.
const SMALL: usize = 1_400;
/// The largest that there is (RFC 8446 section 5.1), with the least work for each byte.
const LARGE: usize = 16 << 10;
/// So many bytes go in small records: what a connection may send before the client answers (RFC 6928).
const SMALL_FOR: usize = 10 * SMALL;
/// After so many milliseconds without a byte a connection begins with small records again.
const IDLE: u64 = 1_000;
/// Waits that may be spared in a row, so that others get their turn.
const AT_ONCE: u32 = 16;
/// Reads of the socket for one byte of content: a peer that sends records with none must not keep the worker.
const EMPTY_READS: u32 = 8;

impl Tls {
    /// Shakes hands with a client. `turn` is awaited before each step that computes; false ends it.
    pub(super) async fn accept(
        tcp: Tcp,
        config: Arc<ServerConfig>,
        clock: Rc<Cell<u64>>,
        turn: impl AsyncFnMut() -> bool,
    ) -> Result<Self, Refused> {
        tcp.readable().await;
        // No TLS record, but the name of a method.
        let mut first = [0];
        if matches!(tcp.receive(&mut first, libc::MSG_PEEK), Ok(Some(1))) && first[0].is_ascii_uppercase() {
            return Err(Refused::Plain(Stream::Tcp(tcp)));
        }
        let connection = ServerConnection::new(config).map_err(Refused::Failed)?;
        Self::shake_hands(tcp, connection.into(), clock, turn).await
    }

    /// Shakes hands with a backend, which has to be `name`.
    pub(super) async fn connect(
        tcp: Tcp,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        clock: Rc<Cell<u64>>,
        turn: impl AsyncFnMut() -> bool,
    ) -> Result<Self, Refused> {
        let connection = ClientConnection::new(config, name).map_err(Refused::Failed)?;
        Self::shake_hands(tcp, connection.into(), clock, turn).await
    }

    async fn shake_hands(
        tcp: Tcp,
        connection: Connection,
        clock: Rc<Cell<u64>>,
        mut turn: impl AsyncFnMut() -> bool,
    ) -> Result<Self, Refused> {
        let mut session = Session { connection, sent: 0, wrote: None, drained: false, clock };
        loop {
            while !session.flush(tcp.fd()).map_err(|_| Refused::Gone)? {
                tcp.writable().await;
            }
            if !session.connection.is_handshaking() {
                break;
            }
            match session.connection.read_tls(&mut Socket(tcp.fd())) {
                Ok(0) => return Err(Refused::Gone),
                Ok(_) => {
                    if !turn().await {
                        return Err(Refused::Crowded);
                    }
                    if let Err(error) = session.connection.process_new_packets() {
                        // The alert that tells why.
                        let _ = session.flush(tcp.fd());
                        return Err(Refused::Failed(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.readable().await,
                Err(_) => return Err(Refused::Gone),
            }
        }
        Ok(Self { tcp, session: RefCell::new(session), at_once: Cell::new(0), broken: Cell::new(false) })
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.tcp.local_address()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.tcp.fd()
    }

    /// As [`super::Stream::read`]. An end that was not announced is an error: somebody else may have made it.
    pub(super) async fn read(&self, mut buffer: Buffer) -> (io::Result<usize>, Buffer) {
        if self.is_greedy() && !self.holds_content() {
            self.wait_readable().await;
        }
        loop {
            match self.try_read(&mut buffer) {
                Ok(Some(count)) => return (Ok(count), buffer),
                Ok(None) => self.wait_readable().await,
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    pub(super) async fn readable(&self) {
        if !self.holds_content() {
            self.wait_readable().await;
        }
    }

    pub(super) fn try_read(&self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        buffer.make_room();
        let read = self.session.borrow_mut().read(self.fd(), buffer.free_mut())?;
        buffer.grow(read.unwrap_or(0));
        Ok(read)
    }

    pub(super) async fn write_front(
        &self,
        mut buffer: Buffer,
        count: usize,
        moved: impl FnMut(usize),
    ) -> (io::Result<()>, Buffer) {
        let result = self.write(&buffer.bytes()[..count.min(buffer.len())], moved).await;
        buffer.consume(count);
        (result, buffer)
    }

    pub(super) async fn write_vector(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (self.write(&bytes, |_| {}).await, bytes)
    }

    async fn write(&self, mut bytes: &[u8], mut moved: impl FnMut(usize)) -> io::Result<()> {
        if self.is_greedy() {
            self.wait_writable().await;
        }
        loop {
            let taken = self.session.borrow_mut().seal(bytes)?;
            bytes = &bytes[taken..];
            while !self.flush()? {
                self.wait_writable().await;
            }
            moved(taken);
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends what is sealed; whether that was all.
    fn flush(&self) -> io::Result<bool> {
        self.session.borrow_mut().flush(self.fd())
    }

    /// Says that nothing more comes, and closes this direction.
    pub(super) async fn finish(&self) {
        self.session.borrow_mut().connection.send_close_notify();
        while let Ok(false) = self.flush() {
            self.wait_writable().await;
        }
        handle::shut(self.fd(), Shutdown::Write);
    }

    /// Whether nothing has come but what the protocol itself says, as are tickets.
    pub(super) fn is_quiet(&self) -> bool {
        let mut session = self.session.borrow_mut();
        session.drained = false;
        let read = session.read(self.fd(), &mut [0]);
        matches!(read, Ok(None))
    }

    /// Keeps what was sent from being taken for the whole.
    pub(super) fn reset_on_close(&self) {
        self.broken.set(true);
        self.tcp.reset_on_close();
    }

    /// Whether the handshake went on from an earlier one.
    pub(super) fn is_resumed(&self) -> bool {
        self.session.borrow().connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The name that the client has asked for (RFC 6066 section 3).
    pub(super) fn server_name(&self) -> Option<Box<str>> {
        match &self.session.borrow().connection {
            Connection::Server(connection) => connection.server_name().map(Into::into),
            Connection::Client(_) => None,
        }
    }

    /// The certificate that the peer has shown, in DER.
    pub(super) fn peer_certificate(&self) -> Option<Vec<u8>> {
        let session = self.session.borrow();
        session.connection.peer_certificates().and_then(<[_]>::first).map(|certificate| certificate.to_vec())
    }

    /// What the peers have agreed on (RFC 7301).
    pub(super) fn protocol(&self) -> Option<Vec<u8>> {
        self.session.borrow().connection.alpn_protocol().map(<[u8]>::to_vec)
    }

    fn is_greedy(&self) -> bool {
        self.at_once.set(self.at_once.get() + 1);
        self.at_once.get() > AT_ONCE
    }

    async fn wait_readable(&self) {
        self.at_once.set(0);
        self.tcp.readable().await;
        self.session.borrow_mut().drained = false;
    }

    async fn wait_writable(&self) {
        self.at_once.set(0);
        self.tcp.writable().await;
    }

    /// Whether something that came has been opened and not been read.
    fn holds_content(&self) -> bool {
        let state = self.session.borrow_mut().connection.process_new_packets();
        state.map_or(true, |state| state.plaintext_bytes_to_read() > 0)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if !self.broken.get() {
            let session = self.session.get_mut();
            session.connection.send_close_notify();
            // Who does not take it now has stopped to read.
            let _ = session.flush(self.tcp.fd());
        }
    }
}

impl Session {
    /// Content into `room`, of which there must be some; `None` where none has come, `Some(0)` at its announced end.
    fn read(&mut self, fd: RawFd, room: &mut [u8]) -> io::Result<Option<usize>> {
        for _ in 0..EMPTY_READS {
            match self.connection.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(Some),
            }
            if self.drained {
                return Ok(None);
            }
            let mut room = Room { fd, is_left: false };
            let read = self.connection.read_tls(&mut room);
            self.drained = room.is_left;
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                read => drop(read?),
            }
            let opened = self.connection.process_new_packets();
            if self.connection.wants_write() {
                // An alert, or a new key: where it can't go now, it goes with what is written next.
                let _ = self.flush(fd);
            }
            opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(None)
    }

    /// Seals bytes as far as there is room for them, and says how many.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = self.clock.get();
        if self.wrote.replace(now).is_none_or(|before| now - before > IDLE) {
            self.sent = 0;
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let most = if self.sent < SMALL_FOR { SMALL } else { LARGE };
            let count = self.connection.writer().write(&bytes[taken..bytes.len().min(taken + most)])?;
            if count == 0 {
                break;
            }
            taken += count;
            self.sent = self.sent.saturating_add(count);
        }
        Ok(taken)
    }

    /// Sends what is sealed; whether that was all.
    fn flush(&mut self, fd: RawFd) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(fd)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Moves what goes without waiting.
struct Socket(RawFd);

fn moved(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are of one writable slice; whoever made this holds the descriptor open.
        moved(unsafe { libc::recv(self.0, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) })
    }
}

/// Reads what has come, and says whether it found room for more than that.
struct Room {
    fd: RawFd,
    is_left: bool,
}

impl Read for Room {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = Socket(self.fd).read(room);
        self.is_left = read.as_ref().map_or(true, |count| *count < room.len());
        read
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: all bytes zero is a valid message: no address, no slices, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        // More than fits are no more than what is sent next.
        message.msg_iovlen = slices.len().min(MAX_SLICES) as _;
        // SAFETY: `IoSlice` is laid out as `iovec`, of which there are at least so many, and sending reads alone; whoever
        // made this holds the descriptor open.
        moved(unsafe { libc::sendmsg(self.0, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel's limit for one call (UIO_MAXIOV).
const MAX_SLICES: usize = 1_024;
