use super::{
    past::{Past, forget},
    sketches::Waiting,
};
use crate::history::PlaneId;
use control::{
    desired::Desired,
    status::{Ages, BackendStats, Counts, PoolStats, Sandbox, Stats},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, mpsc};

/// Bytes that may wait for a data plane that doesn't read; one that is further behind is cut off, and gets a snapshot
/// when it comes back.
const MAX_QUEUED: usize = 8 << 20;

/// A connected data plane as it shows itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    pub(crate) workers: u16,
    pub(crate) version: String,
    /// When it began to count, in Unix milliseconds; 0 where it does not say so.
    pub(crate) started: u64,
    /// It served nothing yet when it connected.
    pub(crate) is_fresh: bool,
    /// It can be asked for sketches.
    pub(crate) sketches: bool,
    /// What of its sandbox holds; absent where it does not say so.
    pub(crate) sandbox: Option<Sandbox>,
    /// Unix milliseconds.
    pub(crate) connected_since: u64,
    /// What every worker of it acts on, 0 before it said so on this connection.
    pub(crate) applied: u64,
    /// The generation that it could not apply, and why.
    pub(crate) rejected: Option<(u64, String)>,
    /// All reports merged.
    pub(crate) stats: Arc<Stats>,
    /// Unix milliseconds by this process's clock; absent before the first report.
    pub(crate) reported_at: Option<u64>,
}

impl Peer {
    pub(crate) fn plane(&self) -> PlaneId {
        PlaneId { pid: self.pid, started: self.started }
    }
}

/// Lines on their way to one data plane.
#[derive(Debug)]
pub(crate) struct Outbox {
    lines: mpsc::UnboundedReceiver<Arc<[u8]>>,
    queued: Arc<AtomicUsize>,
    cut: Arc<Notify>,
}

impl Outbox {
    /// The next line; `None` where the connection is to be closed.
    pub(crate) async fn next(&mut self) -> Option<Arc<[u8]>> {
        let line = self.lines.recv().await?;
        self.queued.fetch_sub(line.len(), Ordering::Relaxed);
        Some(line)
    }

    pub(crate) fn cut(&self) -> Arc<Notify> {
        Arc::clone(&self.cut)
    }
}

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) peer: Peer,
    lines: mpsc::UnboundedSender<Arc<[u8]>>,
    queued: Arc<AtomicUsize>,
    cut: Arc<Notify>,
    pub(super) waiting: Vec<Waiting>,
}

impl Connected {
    pub(super) fn send(&self, line: &Arc<[u8]>) -> bool {
        if self.queued.load(Ordering::Relaxed) > MAX_QUEUED {
            return false;
        }
        self.queued.fetch_add(line.len(), Ordering::Relaxed);
        self.lines.send(Arc::clone(line)).is_ok()
    }
}

/// Every connected data plane.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(super) connected: BTreeMap<u64, Connected>,
    ids: u64,
    /// Those that had served nothing before they connected.
    started: u64,
    past: Past,
}

/// Figures of a backend, summed over the data planes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) counts: Counts,
    pub(crate) requests_in_flight: u64,
    pub(crate) tunnels: u64,
    pub(crate) requests_queued: u64,
    pub(crate) live_sessions: Option<u64>,
    /// Of the data plane where it is the coldest.
    pub(crate) warming: Option<u8>,
    /// Of the data plane that has most of the sessions.
    pub(crate) session_ages: Option<Ages>,
}

impl Peers {
    pub(crate) fn connect(&mut self, peer: Peer) -> (u64, Outbox) {
        let (lines, outbox) = mpsc::unbounded_channel();
        let (queued, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        self.ids += 1;
        self.started += u64::from(peer.is_fresh);
        let (waiting, held) = (Vec::new(), (Arc::clone(&queued), Arc::clone(&cut)));
        let connected = Connected { peer, lines, queued: held.0, cut: held.1, waiting };
        self.connected.insert(self.ids, connected);
        (self.ids, Outbox { lines: outbox, queued, cut })
    }

    /// Data planes that have begun to serve since this process started.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    pub(crate) fn disconnect(&mut self, id: u64) -> Option<Peer> {
        let Peer { stats, .. } = &self.connected.get(&id)?.peer;
        let (plane, stats) = (self.connected[&id].peer.plane(), Arc::clone(stats));
        self.past.leaves(plane, stats);
        self.connected.remove(&id).map(|connected| connected.peer)
    }

    /// What it says itself stands for what was known of it before it came back.
    pub(crate) fn has_reported(&mut self, id: u64) {
        if let Some(connected) = self.connected.get(&id) {
            self.past.is_back(connected.peer.plane());
        }
    }

    /// What those had counted that have gone.
    pub(crate) fn past(&self) -> &Past {
        &self.past
    }

    pub(crate) fn peer_mut(&mut self, id: u64) -> Option<&mut Peer> {
        self.connected.get_mut(&id).map(|connected| &mut connected.peer)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Peer> + Clone {
        self.connected.values().map(|connected| &connected.peer)
    }

    /// Sends a line to all. Those that don't read are cut off and returned.
    pub(crate) fn broadcast(&mut self, line: &Arc<[u8]>) -> Vec<Peer> {
        let slow: Vec<_> = self.connected.iter().filter(|(_, peer)| !peer.send(line)).map(|(id, _)| *id).collect();
        let cut = slow.into_iter().filter_map(|id| {
            self.connected.get(&id)?.cut.notify_one();
            self.disconnect(id)
        });
        cut.collect()
    }

    /// Forgets the figures of a backend that is gone, so that they can't fall on a namesake.
    pub(crate) fn forget(&mut self, pool: &str, name: Option<&str>) {
        for connected in self.connected.values_mut() {
            forget(&mut connected.peer.stats, pool, name);
        }
        self.past.forget(pool, name);
    }
}

/// Puts a report over what was reported before: what it doesn't name has not changed. What is no longer desired is left out.
pub(crate) fn merge(known: &mut Stats, report: Stats, desired: &Desired) {
    let Stats { at, generation, dataplane, open_connections, memory, memory_most, workers, pools, keys, tls } = report;
    (known.at, known.generation, known.open_connections) = (at, generation, open_connections);
    (known.memory, known.memory_most) = (memory, memory_most);
    (known.dataplane, known.workers) = (dataplane, workers);
    (known.keys, known.tls) = (keys, tls);
    for (name, report) in pools {
        let Some(wanted) = desired.pools.get(&name) else { continue };
        let pool: &mut PoolStats = known.pools.entry(name).or_default();
        // What is not told again has not changed.
        let ledger = report.ledger.or(pool.ledger.take());
        let mut backends = std::mem::take(&mut pool.backends);
        backends.extend(report.backends.into_iter().filter(|(name, _)| wanted.members.contains_key(name)));
        *pool = PoolStats { ledger, backends, ..report };
    }
}

pub(crate) fn figures<'a>(peers: impl IntoIterator<Item = &'a Peer>, pool: &str, name: &str) -> Figures {
    let (mut sum, mut most) = (Figures::default(), None);
    for peer in peers {
        let stats = peer.stats.pools.get(pool).and_then(|pool| pool.backends.get(name));
        let Some(stats) = stats else { continue };
        let BackendStats { counts, requests_in_flight, tunnels, requests_queued, live_sessions, warming, session_ages } =
            stats;
        add(&mut sum.counts, counts);
        sum.requests_in_flight += requests_in_flight;
        sum.tunnels += tunnels;
        sum.requests_queued += requests_queued;
        if let Some(sessions) = live_sessions {
            *sum.live_sessions.get_or_insert(0) += sessions;
        }
        if *live_sessions > most {
            (most, sum.session_ages) = (*live_sessions, *session_ages);
        }
        if let Some(percent) = *warming {
            sum.warming = Some(sum.warming.map_or(percent, |least| least.min(percent)));
        }
    }
    sum
}

/// Tunnels of a pool that are open.
pub(crate) fn tunnels<'a>(peers: impl IntoIterator<Item = &'a Peer>, pool: &str) -> u64 {
    peers.into_iter().filter_map(|peer| peer.stats.pools.get(pool)).map(|stats| stats.tunnels).sum()
}

pub(crate) fn add(sum: &mut Counts, counts: &Counts) {
    for (name, value) in counts {
        match sum.get_mut(name) {
            Some(sum) => *sum += value,
            None => drop(sum.insert(name.clone(), *value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{
        desired::{Member, PoolState},
        spec::Backend,
    };

    fn desired() -> Desired {
        let member = Member::new(&Backend::default(), 1);
        let members = ["a", "b"].map(|name| (name.to_owned(), member.clone()));
        let pool = PoolState { members: members.into(), ..PoolState::default() };
        Desired { pools: [("shop".to_owned(), pool)].into(), ..Desired::default() }
    }

    fn report(backends: &[(&str, u64)]) -> Stats {
        let backends = backends.iter().map(|(name, sessions)| {
            let counts = [("requests".to_owned(), sessions * 10)].into();
            (
                (*name).to_owned(),
                BackendStats {
                    counts,
                    requests_in_flight: 1,
                    live_sessions: Some(*sessions),
                    ..BackendStats::default()
                },
            )
        });
        let pool = PoolStats { backends: backends.collect(), ..PoolStats::default() };
        Stats { pools: [("shop".to_owned(), pool)].into(), ..Stats::default() }
    }

    #[test]
    fn what_a_report_leaves_out_is_unchanged_and_planes_are_summed() {
        let mut first = Peer::default();
        merge(Arc::make_mut(&mut first.stats), report(&[("a", 3), ("b", 4), ("gone", 9)]), &desired());
        merge(Arc::make_mut(&mut first.stats), report(&[("b", 5)]), &desired());
        let mut second = Peer::default();
        merge(Arc::make_mut(&mut second.stats), report(&[("a", 1)]), &desired());
        let peers = [first, second];
        let sum = |name| figures(&peers, "shop", name);
        assert_eq!(
            (sum("a").live_sessions, sum("a").requests_in_flight, sum("a").counts["requests"]),
            (Some(4), 2, 40)
        );
        assert_eq!(sum("b").live_sessions, Some(5));
        assert_eq!(sum("gone"), Figures::default());
    }

    #[tokio::test]
    async fn one_that_does_not_read_is_cut_off_and_the_others_are_not() {
        let mut peers = Peers::default();
        let (_, mut reads) = peers.connect(Peer { pid: 1, ..Peer::default() });
        let (_, slow) = peers.connect(Peer { pid: 2, ..Peer::default() });
        let line: Arc<[u8]> = vec![0; MAX_QUEUED / 2].into();
        let mut cut = Vec::new();
        for _ in 0..4 {
            cut.extend(peers.broadcast(&line).into_iter().map(|peer| peer.pid));
            reads.next().await.unwrap();
        }
        assert_eq!(cut, [2]);
        slow.cut().notified().await;
        assert_eq!(peers.iter().map(|peer| peer.pid).collect::<Vec<_>>(), [1]);
    }
}
