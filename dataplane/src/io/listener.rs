use super::{
    Stream, tally,
    tcp::{Tcp, no_delay},
};
use monoio::net::{TcpListener, TcpStream};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// A listening socket, possibly shared with other processes.
pub(crate) struct Listener(TcpListener);

/// What [`Listener::accept`] found.
pub(crate) enum Accepted {
    Connection {
        stream: Stream,
        peer: SocketAddr,
        descriptor: RawFd,
    },
    /// Nobody waits any more.
    None,
    Failed(io::Error),
}

impl Listener {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        // Whom it accepts inherits it.
        no_delay(listener.as_raw_fd());
        TcpListener::from_std(listener).map(Self)
    }

    /// Waits until somebody may be waiting. To give up waiting loses nobody, as a pending accept would.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        tally::ring();
        self.0.readable(false).await
    }

    /// Whether a descriptor below `bound` is free: the kernel gives out the lowest that is.
    pub(crate) fn has_descriptor(&self, bound: RawFd) -> bool {
        // SAFETY: the descriptor is open for as long as `self` is.
        let own = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        own.try_clone_to_owned().is_ok_and(|free| free.as_raw_fd() < bound)
    }

    pub(crate) fn accept(&self) -> Accepted {
        let mut storage = zeroed();
        let mut size = libc::socklen_t::try_from(size_of_val(&storage)).unwrap_or(0);
        let address = (&raw mut storage).cast::<libc::sockaddr>();
        tally::direct();
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
            (Ok(stream), Some(peer)) => {
                Accepted::Connection { stream: Stream::Tcp(Tcp::of(stream)), peer, descriptor: fd }
            }
            (Ok(_), None) => Accepted::Failed(io::ErrorKind::Unsupported.into()),
            (Err(error), _) => Accepted::Failed(error),
        }
    }
}

/// Descriptors below this one are for clients; a quarter of what the process may have is kept for backends, files and calls.
pub(crate) fn clients_descriptors() -> RawFd {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a structure of that type, which may be written.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let most = if told { limit.rlim_cur } else { u64::MAX };
    RawFd::try_from(most - most / 4).unwrap_or(RawFd::MAX)
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
