//! The listening sockets: taken from whoever started this process, bound where nobody handed one over.

use crate::failure::Failure;
use control::{config::Config, spec::Listener};
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    collections::BTreeMap,
    env, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process,
};

/// The first descriptor that is handed down (`sd_listen_fds(3)`).
pub(crate) const FIRST_FD: RawFd = 3;
/// The name under which the admin socket is handed down.
pub(crate) const ADMIN: &str = "admin";
/// Connections that may wait in a listen queue; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Which sockets a role needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    Listeners,
    Admin,
}

#[derive(Debug)]
pub(crate) struct Sockets {
    /// By listener: one for each worker where they were bound here, and as many as there were where they were handed over.
    pub(crate) listeners: Vec<(String, OwnedFd)>,
    pub(crate) admin: Option<OwnedFd>,
    pub(crate) addresses: Addresses,
}

/// Where clients really reach this process: ports that were 0 are those that the kernel chose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Addresses {
    /// `address:port` or `unix:PATH`.
    pub(crate) admin: String,
    pub(crate) listeners: BTreeMap<String, String>,
}

/// # Errors
/// One line that names the socket and its address.
pub(crate) fn acquire(config: &Config, wanted: Wanted) -> Result<Sockets, Failure> {
    let mut handed = Handed::take()?;
    let mut sockets = Sockets { listeners: Vec::new(), admin: None, addresses: Addresses::default() };
    if wanted != Wanted::Admin {
        let workers = dataplane::worker_count(config.global.workers);
        for listener in &config.listeners {
            let name = &listener.name;
            let mut own = handed.named(name);
            if own.is_empty() {
                own = bind_tcp(&listener.bind, workers)
                    .map_err(Failure::doing(format_args!("can't bind listener {name} to {}", listener.bind)))?;
            }
            let address = address_of(&own[0])?;
            sockets.addresses.listeners.insert(name.clone(), address);
            sockets.listeners.extend(own.into_iter().map(|socket| (name.clone(), socket)));
        }
    }
    if wanted != Wanted::Listeners {
        let listen = &config.admin.listen;
        let socket = match handed.named(ADMIN).pop() {
            Some(socket) => socket,
            None => bind_admin(listen).map_err(Failure::doing(format_args!("can't bind admin to {listen}")))?,
        };
        sockets.addresses.admin = address_of(&socket)?;
        sockets.admin = Some(socket);
    }
    handed.all_taken(wanted)?;
    Ok(sockets)
}

/// The sockets of a configuration that follows another one: those of listeners that stay where they are go on, others are bound.
/// `known` are the listeners before, and where they are reached.
///
/// # Errors
/// One line that names the listener and its address.
pub(crate) fn follow(
    config: &Config,
    (known, addresses): (&[Listener], &Addresses),
    sockets: &[(String, OwnedFd)],
) -> Result<Sockets, Failure> {
    let addresses_now = Addresses { admin: addresses.admin.clone(), listeners: BTreeMap::new() };
    let mut followed = Sockets { listeners: Vec::new(), admin: None, addresses: addresses_now };
    let workers = dataplane::worker_count(config.global.workers);
    for Listener { name, bind, .. } in &config.listeners {
        let stays = known.iter().any(|known| (&known.name, &known.bind) == (name, bind));
        let own = if stays {
            let own = sockets.iter().filter(|(of, _)| of == name).map(|(_, socket)| socket.try_clone());
            own.collect::<io::Result<Vec<_>>>()?
        } else {
            bind_tcp(bind, workers).map_err(Failure::doing(format_args!("can't bind listener {name} to {bind}")))?
        };
        let address = match addresses.listeners.get(name).filter(|_| stays) {
            Some(address) => address.clone(),
            None => address_of(&own[0])?,
        };
        followed.addresses.listeners.insert(name.clone(), address);
        followed.listeners.extend(own.into_iter().map(|socket| (name.clone(), socket)));
    }
    Ok(followed)
}

/// Sockets from whoever started this process, by name.
struct Handed(Vec<(String, OwnedFd)>);

impl Handed {
    /// Without `LISTEN_PID` the sockets are taken for ours: a parent can't know the pid before it forks.
    fn take() -> Result<Self, Failure> {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let for_another = env::var_os("LISTEN_PID").is_some() && number("LISTEN_PID") != Some(process::id());
        let Some(count) = number("LISTEN_FDS").filter(|_| !for_another) else { return Ok(Self(Vec::new())) };
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let handed = (FIRST_FD..).take(count as usize).map(|fd| {
            let name = names.next().unwrap_or_default().to_owned();
            // SAFETY: only borrowed for the question whether it is open, which is answered for any number.
            let open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).is_ok();
            if !open {
                return Err(Failure::general(format!("LISTEN_FDS={count}, but descriptor {fd} is not open")));
            }
            // SAFETY: it is open, and by the protocol it belongs to this process, which takes it here, once.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(io::Error::from)?;
            if !socket2::SockRef::from(&socket).is_listener().unwrap_or(false) {
                return Err(Failure::general(format!("descriptor {fd} (`{name}`) is no listening socket")));
            }
            Ok((name, socket))
        });
        handed.collect::<Result<_, _>>().map(Self)
    }

    fn named(&mut self, name: &str) -> Vec<OwnedFd> {
        let (named, rest) = std::mem::take(&mut self.0).into_iter().partition(|(each, _)| each == name);
        self.0 = rest;
        named.into_iter().map(|(_, socket): (String, OwnedFd)| socket).collect()
    }

    fn all_taken(&self, wanted: Wanted) -> Result<(), Failure> {
        let known = match wanted {
            Wanted::All => "the names of the listeners and `admin`",
            Wanted::Listeners => "the names of the listeners",
            Wanted::Admin => "`admin`",
        };
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Failure::general(format!(
                "a socket named `{name}` was handed over, which nothing listens on; known are {known} (FileDescriptorName= in a socket unit)"
            ))),
        }
    }
}

/// So many sockets on one port, among which the kernel spreads connections.
fn bind_tcp(address: &str, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut address: SocketAddr = address.parse().map_err(io::Error::other)?;
    if address.port() != 0 {
        // Another process of this user that listens with SO_REUSEPORT would share its port with us unnoticed.
        tcp_socket(address, false)?;
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = tcp_socket(address, true)?;
        address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        sockets.push(socket);
    }
    // Only once all are bound, or clients would be spread over those that are there.
    sockets.iter().try_for_each(|socket| socket.listen(BACKLOG))?;
    Ok(sockets.into_iter().map(OwnedFd::from).collect())
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_admin(listen: &str) -> io::Result<OwnedFd> {
    let socket = match listen.strip_prefix("unix:") {
        Some(path) => bind_unix(path)?,
        None => tcp_socket(listen.parse().map_err(io::Error::other)?, false)?,
    };
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// For its owner alone. A socket that nobody listens on any more is replaced.
fn bind_unix(path: &str) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before it has a name: the mode of the file is right from its first moment.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let refused = Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(&address);
            if !refused.is_err_and(|refused| refused.kind() == io::ErrorKind::ConnectionRefused) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        other => other?,
    }
    Ok(socket)
}

fn address_of(socket: &impl AsFd) -> io::Result<String> {
    let address = socket2::SockRef::from(&socket.as_fd()).local_addr()?;
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Ok(address.to_string()),
        (None, Some(path)) => Ok(format!("unix:{}", path.display())),
        (None, None) => Err(io::Error::other("a socket without an address was handed over")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn workers_of_a_listener_share_the_port_that_the_kernel_chose() {
        let sockets = bind_tcp("127.0.0.1:0", 4).unwrap();
        let addresses: Vec<_> = sockets.iter().map(|socket| address_of(socket).unwrap()).collect();
        assert!(addresses.iter().all(|address| *address == addresses[0] && !address.ends_with(":0")), "{addresses:?}");
    }

    #[test]
    fn a_port_that_another_steadfast_has_is_taken_although_both_share_their_own() {
        let first = bind_tcp("127.0.0.1:0", 2).unwrap();
        let error = bind_tcp(&address_of(&first[0]).unwrap(), 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind_tcp(&plain.local_addr().unwrap().to_string(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_socket_is_private_and_replaces_only_a_dead_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("steadfast-sockets-{}", process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("admin.sock");
        let listen = format!("unix:{}", path.display());
        let first = bind_admin(&listen).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(address_of(&first).unwrap(), listen);
        assert_eq!(bind_admin(&listen).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind_admin(&listen).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
