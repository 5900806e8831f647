//! What resources look like. Times are Unix milliseconds.

use crate::{
    control_server::peers::{Figures, Peer, figures, tunnels},
    names::schedule::{Failing, Owner},
    rest::drain_view::DrainView,
    state::{Applied, View, Written},
};
use control::{
    counters::BackendCount,
    desired::{AdminState, Member, PoolState},
    latency::quantile,
    spec::{
        Affinity, Balance, Discover, HealthCheck, Limits, Names, PoolTls, ProxyVersion, Retry, Span, Timeouts,
        without_secrets,
    },
    status::{Counts, Health},
};
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf};
use utoipa::ToSchema;

/// A pool: its settings, and its backends.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PoolView {
    name: String,
    balance: Balance,
    load_bound: Option<f64>,
    #[schema(value_type = Option<String>)]
    slow_start: Option<Span>,
    affinity: Affinity,
    health: HealthCheck,
    timeouts: Timeouts,
    limits: Limits,
    retry: Retry,
    /// How names in addresses are looked up.
    names: Names,
    /// Names of which every address is a backend.
    discover: Vec<DiscoverView>,
    upgrades: Vec<String>,
    /// How its backends are spoken to over TLS.
    tls: Option<PoolTls>,
    /// Whether its backends are spoken to in HTTP/2.
    http2: bool,
    /// In which version of the PROXY protocol backends are told whose each connection is.
    send_proxy: Option<ProxyVersion>,
    /// Tunnels that are open, those to removed backends too.
    tunnels: u64,
    /// Absent where nothing was answered in the last minute.
    latency: Option<LatencyView>,
    backends: Vec<BackendView>,
}

/// How long the responses of the last minute took, from the request's head to the response's, in milliseconds: what this share of
/// them took at most, within the steps of the histogram in `/metrics`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatencyView {
    responses: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

impl LatencyView {
    fn of(buckets: &[u64]) -> Option<Self> {
        // To the microsecond.
        let at = |share| Some(quantile(buckets, share)?.round() / 1_000.0);
        Some(Self { responses: buckets.iter().sum(), p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, p999: at(0.999)? })
    }
}

/// A name of which every address, or every SRV record, is a backend, or a file that lists them, and where it leads.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscoverView {
    name: String,
    /// `null` where a file lists them, or SRV records do.
    address: Option<String>,
    /// `null` where a name leads to them.
    #[schema(value_type = Option<String>)]
    file: Option<PathBuf>,
    /// `null` where no SRV records lead to them.
    srv: Option<String>,
    weight: u32,
    backup: bool,
    /// The backends at the addresses that it has.
    backends: Vec<String>,
    lookup_failing: Option<LookupFailing>,
}

/// A name that does not resolve: what it last led to stays.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LookupFailing {
    /// Unix milliseconds.
    since: u64,
    reason: String,
}

/// A backend: what is wanted of it, and what is seen of it. Figures are sums over the connected data planes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackendView {
    name: String,
    address: String,
    /// Where the name in the address leads, and `null` for an address without one.
    #[schema(value_type = Option<String>)]
    resolved: Option<SocketAddr>,
    /// The `discover` whose name led to it; `null` where somebody made it.
    found_by: Option<String>,
    lookup_failing: Option<LookupFailing>,
    weight: u32,
    /// It gets new sessions only while none of the others can take any.
    backup: bool,
    admin_state: AdminState,
    health: Health,
    /// Why the health is what it is, where there is more to say.
    health_reason: Option<String>,
    /// Which life of the backend this is.
    incarnation: u32,
    /// The instance that its checks found, where the pool has them ask for that.
    instance: Option<String>,
    /// Distinct sessions seen within the idle time; `null` where the pool has none, or no data plane has reported.
    live_sessions: Option<u64>,
    requests_in_flight: u64,
    /// Connections that were upgraded and are open.
    tunnels: u64,
    /// Requests that wait for room at this backend.
    requests_queued: u64,
    requests: u64,
    /// Sessions that had to leave, their state lost.
    sessions_lost: u64,
    /// Failed connects, resets, timeouts and broken responses.
    errors: u64,
    /// How far its slow start is, 0 to 99 percent; `null` where it is warm.
    warming: Option<u8>,
    drain_progress: Option<DrainView>,
    /// Everything that is counted, by name.
    counts: Counts,
}

/// What counts as an error of a backend.
pub(super) const ERRORS: [BackendCount; 4] =
    [BackendCount::ConnectFailures, BackendCount::Resets, BackendCount::Timeouts, BackendCount::BadResponses];

/// What became of a write.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// The generation of the desired state that has it.
    pub(crate) generation: u64,
    /// Every worker of every connected data plane acts on it.
    pub(crate) applied: bool,
    /// How many workers that is, where it is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<u64>,
    /// What to know all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PoolReceipt {
    #[serde(flatten)]
    pub(crate) receipt: Receipt,
    pub(crate) pool: PoolView,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackendReceipt {
    #[serde(flatten)]
    pub(crate) receipt: Receipt,
    pub(crate) backend: BackendView,
    /// With `wait=empty`: no session, no request and no tunnel is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) empty: Option<bool>,
}

impl Receipt {
    pub(crate) fn new(written: Written, applied: Applied) -> Self {
        let (applied, workers, warning) = match applied {
            Applied::By(workers) => (true, Some(workers), None),
            Applied::Not(reason) => (false, None, Some(reason)),
        };
        Self { generation: written.generation, applied, workers, warning }
    }

    /// Adds to what there is to know.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warning = Some(match self.warning.take() {
            Some(before) => format!("{before}; {warning}"),
            None => warning,
        });
    }
}

impl View {
    /// How long the responses of a pool took of late.
    pub(crate) fn latency(&self, pool: &str) -> Option<LatencyView> {
        LatencyView::of(self.latency.get(pool)?)
    }

    pub(crate) fn pool(&self, name: &str, pool: &PoolState) -> PoolView {
        let settings = &pool.settings;
        PoolView {
            name: name.to_owned(),
            balance: settings.balance,
            load_bound: settings.load_bound,
            slow_start: settings.slow_start,
            affinity: Affinity { adopt: without_secrets(&settings.affinity.adopt), ..settings.affinity.clone() },
            health: settings.health.clone(),
            timeouts: settings.timeouts,
            limits: settings.limits,
            retry: settings.retry,
            names: settings.names,
            discover: settings.discover.iter().map(|each| self.discover(name, pool, each)).collect(),
            upgrades: settings.upgrades.clone(),
            tls: settings.tls.clone(),
            http2: settings.http2,
            send_proxy: settings.send_proxy,
            tunnels: tunnels(&self.peers, name),
            latency: self.latency(name),
            backends: self.backends(name, pool),
        }
    }

    fn discover(&self, pool_name: &str, pool: &PoolState, discover: &Discover) -> DiscoverView {
        let found = |member: &Member| {
            member.found.as_ref().is_some_and(|found| found.by == discover.name && found.left.is_none())
        };
        let backends = pool.members.iter().filter(|(_, member)| found(member)).map(|(name, _)| name.clone()).collect();
        let lookup_failing = self.lookup_failing(&Owner::discover(pool_name, &discover.name));
        let Discover { name, address, file, srv, weight, backup } = discover.clone();
        let address = Some(address).filter(|address| !address.is_empty());
        DiscoverView { name, address, file, srv, weight, backup, backends, lookup_failing }
    }

    fn lookup_failing(&self, owner: &Owner) -> Option<LookupFailing> {
        let Failing { since, reason } = self.names.get(owner)?.clone()?;
        Some(LookupFailing { since, reason: reason.to_string() })
    }

    pub(crate) fn backends(&self, pool_name: &str, pool: &PoolState) -> Vec<BackendView> {
        pool.members.iter().map(|(name, member)| self.backend(pool_name, name, member)).collect()
    }

    pub(crate) fn backend(&self, pool: &str, name: &str, member: &Member) -> BackendView {
        let observed = self.snapshot.observed(pool, name);
        let Figures {
            mut counts,
            requests_in_flight,
            tunnels,
            requests_queued,
            live_sessions,
            warming,
            session_ages: _,
        } = figures(&self.peers, pool, name);
        for count in BackendCount::ALL {
            counts.entry(count.name().to_owned()).or_default();
        }
        let id = (pool.to_owned(), name.to_owned());
        let count = |count: BackendCount| counts[count.name()];
        let drain_progress =
            self.drains.0.get(&id).map(|watched| DrainView::new(watched, live_sessions, requests_in_flight, tunnels));
        BackendView {
            name: name.to_owned(),
            address: member.address.clone(),
            resolved: member.found.as_ref().map(|found| found.at).or(observed.resolved),
            found_by: member.found.as_ref().map(|found| found.by.clone()),
            lookup_failing: self.lookup_failing(&Owner::backend(pool, name)),
            weight: member.weight,
            backup: member.backup,
            admin_state: member.admin_state,
            health: observed.health,
            health_reason: self.reasons.get(&id).map(|reason| reason.to_string()),
            incarnation: member.incarnation,
            instance: member.instance.clone(),
            live_sessions,
            requests_in_flight,
            tunnels,
            requests_queued,
            requests: count(BackendCount::Requests),
            sessions_lost: count(BackendCount::SessionsLost),
            errors: ERRORS.into_iter().map(count).sum(),
            warming,
            drain_progress,
            counts,
        }
    }

    /// Every worker there is.
    pub(crate) fn workers(&self) -> u64 {
        self.peers.iter().map(|peer: &Peer| u64::from(peer.workers)).sum()
    }
}
