//! Where lines go.

use control::access_log::LogTo;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

/// How long a place that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// How long a socket may take for one line.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
/// Facility `local0` and severity `info`, as RFC 3164 section 4.1.1 counts them.
const PRIORITY: u32 = 16 * 8 + 6;

pub(super) struct Sink {
    place: Place,
    /// When it failed last, where it has not been written to since.
    failed: Option<Instant>,
}

enum Place {
    Stdout { is_torn: bool },
    File { path: PathBuf, file: Option<File>, is_torn: bool },
    Syslog { path: PathBuf, socket: Option<UnixDatagram> },
}

impl Sink {
    pub(super) fn new(to: &LogTo) -> Self {
        let place = match to {
            LogTo::Stdout => Place::Stdout { is_torn: false },
            LogTo::File(path) => Place::File { path: path.clone(), file: None, is_torn: false },
            LogTo::Syslog(path) => Place::Syslog { path: path.clone(), socket: None },
        };
        Self { place, failed: None }
    }

    /// Lets go of what is open, and opens it anew.
    pub(super) fn reopen(&mut self) {
        self.failed = None;
        let opened = match &mut self.place {
            Place::Stdout { .. } => Ok(()),
            Place::File { path, file, is_torn } => {
                *is_torn = false;
                open_file(path).map(|opened| *file = Some(opened))
            }
            Place::Syslog { path, socket } => open_socket(path).map(|opened| *socket = Some(opened)),
        };
        if let Err(error) = opened {
            self.fails(&error);
        }
    }

    /// Writes whole lines. How many of them are written; the others are lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() || self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return 0;
        }
        let (written, result) = match &mut self.place {
            Place::Stdout { is_torn } => append(&mut io::stdout().lock(), lines, is_torn),
            Place::File { path, file, is_torn } => match opened(file, || open_file(path)) {
                Ok(file) => append(file, lines, is_torn),
                Err(error) => (0, Err(error)),
            },
            Place::Syslog { path, socket } => send(path, socket, lines),
        };
        match result {
            Ok(()) => {
                if self.failed.take().is_some() {
                    tracing::info!("the access log can be written again");
                }
            }
            Err(error) => self.fails(&error),
        }
        written
    }

    /// Tells it once for each outage.
    fn fails(&mut self, error: &io::Error) {
        if self.failed.replace(Instant::now()).is_none() {
            let to = match &self.place {
                Place::Stdout { .. } => "standard output".to_owned(),
                Place::File { path, .. } | Place::Syslog { path, .. } => path.display().to_string(),
            };
            tracing::error!(%error, to, "the access log can't be written: lines are lost, and counted");
        }
    }
}

fn opened<T>(held: &mut Option<T>, open: impl FnOnce() -> io::Result<T>) -> io::Result<&mut T> {
    Ok(match held {
        Some(held) => held,
        None => held.insert(open()?),
    })
}

/// Readable for the group, as logs are, and for nobody else: paths and addresses are people's.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn open_socket(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    Ok(socket)
}

/// `is_torn` says that what is there ends within a line, as where a disk was full: that line ends first, then.
fn append(to: &mut impl Write, lines: &[u8], is_torn: &mut bool) -> (u64, io::Result<()>) {
    let (mut rest, mut written) = (lines, 0);
    if *is_torn {
        if let Err(error) = to.write_all(b"\n") {
            return (0, Err(error));
        }
        *is_torn = false;
    }
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                let (done, left) = rest.split_at(count);
                written += count_lines(done);
                *is_torn = !done.ends_with(b"\n");
                rest = left;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, to.flush())
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// One message for each line, in the form that local daemons take (RFC 3164 section 4.1): they know the time and the host by
/// themselves.
fn send(path: &Path, socket: &mut Option<UnixDatagram>, lines: &[u8]) -> (u64, io::Result<()>) {
    let mut written = 0;
    let mut message = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        message.clear();
        message.extend_from_slice(format!("<{PRIORITY}>steadfast[{}]: ", process::id()).as_bytes());
        message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        let sent = |socket: &mut Option<UnixDatagram>| opened(socket, || open_socket(path))?.send(&message);
        // A daemon that was started again has another socket by the same name.
        if let Err(error) = sent(socket).or_else(|_| {
            *socket = None;
            sent(socket)
        }) {
            return (written, Err(error));
        }
        written += 1;
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        room: usize,
        holds: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.holds.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_torn_ends_before_the_next() {
        let (mut disk, mut is_torn) = (Disk { room: 6, holds: Vec::new() }, false);
        let (written, result) = append(&mut disk, b"one\ntwo\n", &mut is_torn);
        assert_eq!((written, is_torn, result.is_err()), (1, true, true));
        disk.room = 0;
        assert_eq!(append(&mut disk, b"lost\n", &mut is_torn).0, 0);
        disk.room = 100;
        assert_eq!(append(&mut disk, b"three\n", &mut is_torn).0, 1);
        assert_eq!(disk.holds, b"one\ntw\nthree\n");
    }
}
