//! The notification protocol of systemd, both ends of it: what a service says of itself (`sd_notify(3)`).

use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            fs::lchown,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells whoever started this process; `false` where nobody listens.
pub(crate) fn say(message: &str) -> bool {
    env::var_os(VARIABLE).is_some_and(|socket| send(&socket, message).is_ok())
}

/// One line of free text that explains what comes next, such as the end of this process.
pub(crate) fn say_status(text: &str) -> bool {
    say(&format!("STATUS={}", text.trim().replace('\n', "; ")))
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The signs of life that systemd waits for (`sd_watchdog_enabled(3)`).
#[derive(Debug)]
pub(crate) struct Watchdog {
    every: Duration,
    next: Instant,
}

impl Watchdog {
    /// `None` where nobody waits for this process's.
    pub(crate) fn of_environment(now: Instant) -> Option<Self> {
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process::id().into());
        let given = Duration::from_micros(number("WATCHDOG_USEC").filter(|given| *given > 0 && is_ours)?);
        // Half of it, as is advised: one that is late is not the end yet.
        Some(Self { every: given / 2, next: now })
    }

    /// When the next one is due.
    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    /// Gives the next one, where it is due.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.next <= now {
            say("WATCHDOG=1");
            self.next = now + self.every;
        }
    }
}

/// Where one child says how it is.
#[derive(Debug)]
pub(crate) struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Ready,
    Status(String),
    /// Not systemd's: another data plane is to take over.
    Upgrade,
}

/// How a child says [`Word::Upgrade`].
pub(crate) const UPGRADE: &str = "X_STEADFAST=upgrade";

impl Ear {
    /// `owner` is the user and group that will write to it, where that is not this process's.
    pub(crate) fn bind(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        // Before it has a name: whoever may write to it says how the child is.
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
        socket.bind(&SockAddr::unix(path)?)?;
        let socket = UnixDatagram::from(OwnedFd::from(socket));
        socket.set_nonblocking(true)?;
        if let Some((uid, gid)) = owner {
            lchown(path, Some(uid), Some(gid))?;
        }
        Ok(Self { socket, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All that was said since the call before.
    pub(crate) fn hear(&self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            words.extend(String::from_utf8_lossy(&buffer[..length]).lines().filter_map(word));
        }
        words
    }
}

fn word(line: &str) -> Option<Word> {
    if line == UPGRADE {
        return Some(Word::Upgrade);
    }
    match line.split_once('=')? {
        ("READY", "1") => Some(Word::Ready),
        ("STATUS", text) => Some(Word::Status(text.to_owned())),
        _ => None,
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Nothing to be done about a file that can't be removed at the end; the next start removes it.
        drop(std::fs::remove_file(&self.path));
    }
}
