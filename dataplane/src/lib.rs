//! The io_uring workers that move the bytes, and the control thread that tells them where to.

mod access_log;
mod control;
mod counters;
mod http;
pub mod http1;
mod http2;
mod io;
mod pick;
mod proxy;
mod serve;
#[cfg(feature = "simulation")]
pub mod simulation;
mod tcp;
mod tls;
mod tunnel;
mod worker;

/// What threads share, apart from everything else of `std`: `tests/interleavings.rs` puts loom's in its place.
mod sync {
    pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
}

use ::control::{
    config::{Config, Workers},
    status::Sandbox,
};
use access_log::Log;
use crossbeam_channel::{Receiver, Sender};
use std::{io::Error as IoError, os::fd::OwnedFd, sync::Arc};
use worker::{Gates, Handover, Mailbox, Shared, Start};

/// What a data plane is started with.
pub struct Options {
    pub config: Config,
    /// Listening sockets by their listeners' names; the n-th of a name goes to the n-th worker.
    pub sockets: Vec<(String, OwnedFd)>,
    pub version: &'static str,
    /// What it has taken away from itself.
    pub sandbox: Sandbox,
    /// Called once all workers serve with a table.
    pub ready: Box<dyn FnOnce() + Send>,
    /// Has the allocator give back to the system what it has no use for; called where load has become less.
    pub give_back: fn(),
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("config", &self.config).field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, a container profile or a sysctl forbids io_uring, or it is too old for what is needed of it.
    #[error(
        "io_uring can't be used: {0}; it needs Linux 6.1 or later, the sysctl kernel.io_uring_disabled = 0, and a container profile that allows io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Ring(IoError),
    #[error("a worker ended: {0}")]
    Worker(IoError),
    #[error("no handlers for signals: {0}")]
    Signals(IoError),
    #[error("no socket pair, thread or random numbers for a worker: {0}")]
    Start(IoError),
    #[error("exchanges were still under way when the drain timeout passed")]
    DrainDeadline,
    #[error("ended by a second signal")]
    Ended,
}

/// The largest head and the smallest piece of a body that is moved at once: what buffers measure, in bytes.
const MIN_BUFFER: usize = 16 << 10;

/// How many workers a configuration asks for.
pub fn worker_count(workers: Workers) -> usize {
    match workers {
        Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
        Workers::Count(count) => usize::from(count),
    }
}

/// Serves until SIGTERM or SIGINT, and then drains; a second signal ends it at once.
///
/// # Errors
/// Where it can't start, or could not end as it should.
pub fn run(options: Options) -> Result<(), Error> {
    let count = worker_count(options.config.global.workers).max(1);
    let log = options.config.access_log.as_ref().map(|settings| Log::start(settings, count));
    let (log, recorders) = log.transpose().map_err(Error::Start)?.unzip();
    let signals = control::signals(log.clone()).map_err(Error::Signals)?;
    let mut recorders = recorders.unwrap_or_default().into_iter();
    let boards = (0..count).map(|_| counters::Board::new()).collect();
    let (events, hears) = crossbeam_channel::unbounded();
    let (handover, handed) = Handover::new(64);
    let (failed, failures) = crossbeam_channel::bounded(count + 1);
    let largest = options.config.listeners.iter().map(|listener| listener.limits.head_bytes as usize).max();
    let ends: Vec<_> = (0..count).map(|_| Mailbox::new()).collect::<Result<_, _>>().map_err(Error::Start)?;
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) =
        ends.into_iter().map(|(ours, theirs)| (Arc::new(ours), theirs)).unzip();
    let shared = Arc::new(Shared::new(boards, Gates::new(mailboxes.clone())));
    let dealt = deal(options.sockets, count).map_err(Error::Start)?;
    for (id, (sockets, inbox)) in dealt.into_iter().zip(inboxes).enumerate() {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| Error::Start(IoError::other(error)))?;
        let start = Start {
            id,
            shared: Arc::clone(&shared),
            inbox,
            events: events.clone(),
            recorder: recorders.next().unwrap_or_default(),
            handover: handover.clone(),
            sockets,
            seed: getrandom::u64().map_err(|error| Error::Start(IoError::other(error)))?,
            secret,
            buffer_size: largest.unwrap_or(0).max(MIN_BUFFER),
            give_back: options.give_back,
        };
        start_worker(start, failed.clone())?;
    }
    let parts = control::Parts {
        global: options.config.global,
        version: options.version,
        sandbox: options.sandbox,
        workers: mailboxes,
        shared,
        events: hears,
        handed,
        signals,
        ready: options.ready,
    };
    let ended = watch(parts, &failures, failed);
    if let Some(log) = log {
        log.end();
    }
    ended
}

/// Each worker's sockets. Where a listener has fewer sockets than there are workers, as from a socket unit, they share.
fn deal(sockets: Vec<(String, OwnedFd)>, count: usize) -> Result<Vec<Vec<(String, OwnedFd)>>, IoError> {
    let mut by_name: std::collections::BTreeMap<String, Vec<OwnedFd>> = std::collections::BTreeMap::new();
    for (name, socket) in sockets {
        by_name.entry(name).or_default().push(socket);
    }
    let mut dealt: Vec<Vec<(String, OwnedFd)>> = (0..count).map(|_| Vec::new()).collect();
    for (name, sockets) in by_name {
        for (index, worker) in dealt.iter_mut().enumerate() {
            worker.push((name.clone(), sockets[index % sockets.len()].try_clone()?));
        }
        // A socket beyond the last worker would take connections that nobody accepts: the extra ones are shared too.
        for (index, socket) in sockets.into_iter().enumerate().skip(count) {
            dealt[index % count].push((name.clone(), socket));
        }
    }
    Ok(dealt)
}

fn start_worker(start: Start, failed: Sender<IoError>) -> Result<(), Error> {
    let name = format!("worker-{}", start.id);
    control::spawn(&name, move || {
        if let Err(error) = worker::run(start, serve::serve, serve::trim) {
            let _ = failed.send(error);
        }
    })
    .map_err(Error::Start)
}

/// Runs the control thread, and ends all with the first worker that fails.
fn watch(parts: control::Parts, failures: &Receiver<IoError>, failed: Sender<IoError>) -> Result<(), Error> {
    let (done, finished) = crossbeam_channel::bounded(1);
    control::spawn("control", move || {
        let _keeps_the_channel_open = failed;
        let _ = done.send(control::run(parts));
    })
    .map_err(Error::Start)?;
    crossbeam_channel::select! {
        recv(failures) -> error => Err(match error {
            Ok(error) if is_forbidden(&error) => Error::Ring(error),
            Ok(error) => Error::Worker(error),
            Err(_) => Error::Ended,
        }),
        recv(finished) -> result => result.unwrap_or(Err(Error::Ended)),
    }
}

fn is_forbidden(error: &IoError) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES | libc::EINVAL | libc::ENOMEM))
}
