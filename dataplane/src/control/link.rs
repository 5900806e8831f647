//! The connection to the admin process.

use super::{lines, spawn};
use control::message::{MAX_LINE, PROTOCOL, ToAdmin, ToDataplane, from_line, to_line};
use crossbeam_channel::Sender;
use std::{
    io::{BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::{Zeroize, Zeroizing};

/// The writing end. Dropped, it ends the reading end as well, and a new connection is made.
#[derive(Debug)]
pub(super) struct Link {
    id: u64,
    stream: UnixStream,
}

pub(super) enum LinkEvent {
    Connected(Link),
    Heard { link: u64, message: Box<ToDataplane> },
    Lost { link: u64, reason: String },
}

/// How long the admin process may take to read what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);

impl Link {
    #[cfg(feature = "simulation")]
    pub(super) fn new(id: u64, stream: UnixStream) -> Self {
        Self { id, stream }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// False where the admin process is gone or does not read.
    pub(super) fn send(&mut self, message: &ToAdmin) -> bool {
        self.stream.write_all(&to_line(message)).is_ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Connects, hears, and connects again, on a thread of its own, for the life of the process.
pub(super) fn keep_connecting(socket: PathBuf, events: Sender<LinkEvent>) {
    let started = spawn("admin-link", move || {
        let mut id = 0;
        let mut complained = false;
        while let Some(next) = once(&socket, id, &events, &mut complained) {
            id = next;
            std::thread::sleep(RETRY);
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread for the link to the admin process");
    }
}

/// One connection from its start to its end; gives the number of the next one, or `None` when nobody listens any more.
fn once(socket: &Path, id: u64, events: &Sender<LinkEvent>, complained: &mut bool) -> Option<u64> {
    let Ok((reader, link)) = connect(socket, id) else { return Some(id) };
    events.send(LinkEvent::Connected(link)).ok()?;
    let reason = hear(reader, id, events)?;
    // One complaint is enough about an admin process that refuses us again and again.
    if !std::mem::replace(complained, true) {
        tracing::debug!(%reason, "link to the admin process ended");
    }
    events.send(LinkEvent::Lost { link: id, reason }).ok()?;
    Some(id + 1)
}

fn connect(socket: &Path, id: u64) -> std::io::Result<(BufReader<UnixStream>, Link)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let reader = BufReader::new(stream.try_clone()?);
    Ok((reader, Link { id, stream }))
}

/// Why it ended; `None` when nobody listens any more.
fn hear(mut reader: BufReader<UnixStream>, link: u64, events: &Sender<LinkEvent>) -> Option<String> {
    // A snapshot has the keys in it.
    let mut line = Zeroizing::new(Vec::new());
    let mut greeted = false;
    loop {
        line.zeroize();
        match lines::next(&mut reader, MAX_LINE, &mut line) {
            Ok(true) => {}
            Ok(false) => return Some("the admin process closed the control channel".to_owned()),
            Err(reason) => return Some(reason),
        }
        let message = match from_line(&line) {
            Ok(message) => message,
            Err(reason) => return Some(reason),
        };
        match (&message, greeted) {
            (ToDataplane::Hello { protocol: PROTOCOL, .. }, _) => greeted = true,
            (ToDataplane::Hello { protocol, version }, _) => {
                return Some(format!(
                    "the admin process (version {version}) speaks protocol {protocol}, this one {PROTOCOL}"
                ));
            }
            (_, false) => return Some("the admin process did not say hello first".to_owned()),
            (
                ToDataplane::Snapshot { .. }
                | ToDataplane::Delta { .. }
                | ToDataplane::Report
                | ToDataplane::Sketch { .. },
                true,
            ) => {}
        }
        events.send(LinkEvent::Heard { link, message: Box::new(message) }).ok()?;
    }
}
