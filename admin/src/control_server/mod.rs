//! The control channel's server: a Unix socket to which data planes connect.

pub(crate) mod connection;
mod past;
pub(crate) mod peers;
pub(crate) mod sketches;
#[cfg(test)]
mod tests;

use crate::{
    clock,
    error::Error,
    events::Kind,
    state::{State, shared::Shared},
};
use affinity::{ages::Forecast, decay::Sample};
use control::{
    desired::{DrainMode, Snapshot},
    message::{ToDataplane, to_line},
    status::Stats,
};
use peers::{Outbox, Peer, figures, merge};
use serde_json::json;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

/// More than an upgrade of every process on this node ever needs.
const MAX_CONNECTIONS: usize = 64;

/// Milliseconds between two reports that are asked for.
const REPORTS_EVERY: u64 = 100;

/// Generations from here on are refused: no data plane gets there honestly, and all below are exact in every JSON reader.
const MAX_GENERATION: u64 = 1 << 53;

/// Binds a Unix socket with mode 0600. A socket that is there is replaced if nobody answers on it.
///
/// # Errors
/// Somebody answers on it, or the path can't be made.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, Error> {
    let address = || format!("unix:{}", path.display());
    let failed = |source| Error::Listen { address: address(), source };
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Error::Taken { address: address() });
    }
    if fs::symlink_metadata(path).is_ok_and(|found| !is_socket(&found)) {
        return Err(failed(io::Error::other("there is a file of this name that is no socket")));
    }
    // Made beside it and moved over it, so that it is never there with another mode.
    let fresh: PathBuf = path.with_added_extension(format!("{}", std::process::id()));
    drop(fs::remove_file(&fresh));
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    Ok(listener)
}

fn is_socket(found: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&found.file_type())
}

/// Serves data planes until this process stops, then closes their connections.
pub(crate) async fn serve(state: Arc<State>, listener: UnixListener) {
    let mut connections = JoinSet::new();
    let mut stopped = pin!(state.stopped());
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection::serve(Arc::clone(&state), stream))),
                Err(error) => {
                    tracing::warn!(%error, "can't accept a data plane");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stopped => break,
        }
    }
    connections.shutdown().await;
}

/// What happens to a connection, by its number.
impl State {
    /// A data plane came. What it is to be sent first, and where what is to be sent later arrives.
    pub(crate) fn connect(&self, peer: Peer, served: u64) -> (u64, Arc<Snapshot>, Outbox) {
        let mut shared = self.lock();
        if served > shared.snapshot.generation {
            tracing::warn!(served, ours = shared.snapshot.generation, "a data plane is ahead: was the store restored?");
            shared.raise(served + 1);
        }
        let data = json!({ "pid": peer.pid, "workers": peer.workers, "version": peer.version, "change": "connected" });
        tracing::info!(pid = peer.pid, workers = peer.workers, version = peer.version, "a data plane connected");
        let (id, outbox) = shared.peers.connect(peer);
        let snapshot = Arc::clone(&shared.snapshot);
        self.events.emit(Kind::Dataplane, &data);
        // The generations may have grown: whoever keeps the store's bound ahead looks.
        self.publish(shared, Vec::new());
        self.planes.send_replace(());
        (id, snapshot, outbox)
    }

    pub(crate) fn disconnect(&self, id: u64, pid: u32) {
        self.lock().peers.disconnect(id);
        tracing::info!(pid, "a data plane is gone");
        self.events.emit(Kind::Dataplane, &json!({ "pid": pid, "change": "lost" }));
        self.planes.send_replace(());
    }

    fn set_applied(&self, id: u64, generation: u64) {
        if let Some(peer) = self.lock().peers.peer_mut(id) {
            peer.applied = peer.applied.max(generation);
            peer.rejected = peer.rejected.take().filter(|(rejected, _)| *rejected > generation);
        }
        self.planes.send_replace(());
    }

    fn set_rejected(&self, id: u64, generation: u64, reason: String) {
        if let Some(peer) = self.lock().peers.peer_mut(id) {
            tracing::error!(pid = peer.pid, generation, reason, "a data plane can't apply the desired state");
            peer.rejected = Some((generation, reason));
        }
        self.planes.send_replace(());
    }

    pub(crate) fn set_stats(&self, id: u64, report: Stats) {
        let now = self.clock.millis();
        let mut shared = self.lock();
        let Shared { snapshot, peers, history, .. } = &mut *shared;
        if let Some(peer) = peers.peer_mut(id) {
            history.take(peer.plane(), peer.is_fresh, &report, &snapshot.desired, now);
            merge(Arc::make_mut(&mut peer.stats), report, &snapshot.desired);
            peer.reported_at = Some(clock::unix_millis());
            peers.has_reported(id);
        }
        if !snapshot.desired.releases.is_empty() {
            self.releases.notify_one();
        }
        if self.follow_drains(&mut shared) {
            self.drains.notify_one();
        }
        drop(shared);
        self.planes.send_replace(());
    }

    /// Looks for drains that are done since the last report; whether any is that has to be ended then.
    fn follow_drains(&self, shared: &mut Shared) -> bool {
        let Shared { drains, peers, snapshot, .. } = shared;
        let now = clock::unix_millis();
        let mut over = false;
        for ((pool, name), watched) in &mut drains.0 {
            let figures = figures(peers.iter(), pool, name);
            watched.sessions_at_start = watched.sessions_at_start.or(figures.live_sessions);
            // The other modes end sessions that would have stayed.
            if watched.forecast.is_none() && watched.drain.mode == DrainMode::Persist {
                let known = figures.session_ages.zip(figures.live_sessions);
                let since = watched.drain.since;
                watched.forecast = known.map(|(ages, live)| Forecast { ages, live, at: now, since });
            }
            let left = left(peers.iter(), (pool, name), watched.generation, 0);
            if let (Some(_), Some(live)) = (left, figures.live_sessions) {
                watched.series.push(Sample { at: now, live });
            }
            let empty = left.is_some_and(Left::is_none);
            watched.nothing_left = empty;
            if empty && !watched.finished {
                watched.finished = true;
                let data = json!({ "pool": pool, "backend": name, "change": "finished", "since": watched.drain.since });
                self.events.emit(Kind::Drain, &data);
            }
            // A data plane that has just begun has not seen every live session yet.
            let live_for =
                snapshot.desired.pools.get(pool).map_or(0, |pool| pool.settings.affinity.cookie.live_for().as_millis());
            let knows = peers.iter().all(|peer| peer.connected_since.saturating_add(live_for) <= now);
            watched.empty = empty && knows && figures.live_sessions.is_some();
            over |= watched.empty && watched.drain.then.is_some();
        }
        over
    }

    /// Asks every data plane for its figures.
    pub(crate) fn ask_for_reports(&self) {
        let mut shared = self.lock();
        let now = self.clock.millis();
        // Those who wait ask each for themselves, and one report serves them all.
        if shared.reports_asked.is_none_or(|asked| now - asked >= REPORTS_EVERY) {
            shared.reports_asked = Some(now);
            shared.send(&to_line(&ToDataplane::Report).into());
        }
    }

    /// What is left at a backend by reports that know `generation` and were made at `since` (Unix milliseconds) or later;
    /// `None` before all data planes made one.
    pub(crate) fn left(&self, id: (&str, &str), generation: u64, since: u64) -> Option<Left> {
        left(self.lock().peers.iter(), id, generation, since)
    }
}

/// What keeps a backend from being empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) live_sessions: u64,
    pub(crate) requests_in_flight: u64,
    pub(crate) tunnels: u64,
}

impl Left {
    pub(crate) fn is_none(self) -> bool {
        self.live_sessions == 0 && self.requests_in_flight == 0 && self.tunnels == 0
    }
}

fn left<'p>(
    mut peers: impl ExactSizeIterator<Item = &'p Peer> + Clone,
    (pool, name): (&str, &str),
    generation: u64,
    since: u64,
) -> Option<Left> {
    let fresh = |peer: &Peer| peer.stats.generation >= generation && peer.stats.at >= since;
    let known = peers.len() > 0 && peers.clone().all(fresh);
    known.then(|| {
        let figures = figures(&mut peers, pool, name);
        Left {
            live_sessions: figures.live_sessions.unwrap_or(0),
            requests_in_flight: figures.requests_in_flight + figures.requests_queued,
            tunnels: figures.tunnels,
        }
    })
}
