use super::pipe;
use std::{io, net::Shutdown, os::fd::RawFd, rc::Rc};

/// A connection as it is known to whoever ends it or asks how it is, and who does not own it.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Tcp(RawFd),
    Tls(RawFd),
    Pipe(Rc<pipe::Shared>),
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one) | Self::Tls(one), Self::Tcp(other) | Self::Tls(other)) => one == other,
            (Self::Pipe(one), Self::Pipe(other)) => Rc::ptr_eq(one, other),
            (Self::Tcp(_) | Self::Tls(_), Self::Pipe(_)) | (Self::Pipe(_), Self::Tcp(_) | Self::Tls(_)) => false,
        }
    }
}

impl Eq for Handle {}

impl Handle {
    /// Of no connection.
    pub(crate) const NONE: Self = Self::Tcp(-1);

    /// Ends what waits on the connection: a pending read gives `Ok(0)`, or an error where an end must be announced; a pending
    /// write an error.
    pub(crate) fn shut(&self, how: Shutdown) {
        match self {
            Self::Tcp(fd) | Self::Tls(fd) => shut(*fd, how),
            Self::Pipe(shared) => shared.shut(how),
        }
    }

    /// Whether the peer has closed or reset the connection and left nothing to read.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Tcp(fd) => peek(*fd) == Peeked::Gone,
            Self::Tls(fd) => has_ended(*fd) && waiting(*fd) <= MAX_FAREWELL,
            Self::Pipe(shared) => shared.is_gone(),
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

/// The longest record by which a peer announces its end: an alert of two bytes, sealed by TLS 1.2. A request is longer.
const MAX_FAREWELL: usize = 31;

/// Whether the peer will send nothing more.
fn has_ended(fd: RawFd) -> bool {
    let mut polled = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the pointer is to one such structure, and the callers hold the descriptor open.
    let count = unsafe { libc::poll(&raw mut polled, 1, 0) };
    count > 0 && polled.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

/// Bytes that have come and not been read.
fn waiting(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one integer, to which the pointer leads; the callers hold the descriptor open.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result < 0 { 0 } else { usize::try_from(count).unwrap_or(0) }
}

/// Whether the peer has neither sent anything nor closed.
pub(super) fn is_quiet(fd: RawFd) -> bool {
    peek(fd) == Peeked::Nothing
}

pub(super) fn shut(fd: RawFd, how: Shutdown) {
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
