//! The process itself: status, reload, keys, probes.

use super::{
    App, Shared, json,
    problem::{FieldProblem, Problem},
    request::{MaybeJson, Nothing},
    views::{ERRORS, LatencyView, Receipt},
    windows::burning,
};
use crate::{
    clock,
    control_server::peers::tunnels,
    names::schedule::{Failing, Owner},
    rest::guard::Token,
    state::View,
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{
    config::Source,
    counters::{BackendCount, PoolCount},
    desired::{AdminState, Member, PoolState},
    processes::Processes,
    status::{BackendStats, Counts, Health, Sandbox, TlsStats},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

/// How this node is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    version: String,
    uptime_seconds: u64,
    generation: u64,
    /// Where membership comes from: `api`, `file` or `etcd`.
    source: String,
    /// How the cluster is reached that membership comes from; absent where it comes from elsewhere.
    etcd: Option<EtcdView>,
    /// What this process has taken away from itself.
    sandbox: Sandbox,
    dataplanes: Vec<DataplaneView>,
    pools: Vec<PoolSummary>,
    /// What an operator should look at.
    problems: Vec<String>,
}

/// etcd, as this node sees it.
#[derive(Debug, Serialize, ToSchema)]
struct EtcdView {
    connected: bool,
    /// Since when it is connected, or is not: Unix milliseconds.
    since: u64,
    /// The endpoint that is asked first.
    endpoint: String,
    /// What this node acts on; 0 where it has heard nothing since it started.
    revision: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct DataplaneView {
    pid: u32,
    workers: u16,
    version: String,
    /// What every worker of it acts on.
    applied_generation: u64,
    /// Unix milliseconds.
    connected_since: u64,
    /// Milliseconds since its last report.
    report_age: Option<u64>,
    open_connections: u64,
    /// Bytes of memory that it has.
    memory: u64,
    /// Bytes beyond which it accepts nobody new; 0 for no bound.
    memory_limit: u64,
    /// What it has taken away from itself; absent where it does not say so.
    sandbox: Option<Sandbox>,
    /// What it shows clients, by the names of the listeners with TLS.
    tls: BTreeMap<String, TlsStats>,
}

/// A pool in numbers: of its backends, and of what they do. Counts are sums over the connected data planes since these
/// started.
#[derive(Debug, Default, Serialize, ToSchema)]
struct PoolSummary {
    name: String,
    backends: usize,
    up: usize,
    down: usize,
    unknown: usize,
    draining: usize,
    maintenance: usize,
    /// Tunnels that are open, those to removed backends too.
    tunnels: u64,
    /// Distinct sessions seen within the idle time; `null` where the pool has none, or no data plane has reported.
    live_sessions: Option<u64>,
    requests_in_flight: u64,
    /// Requests routed to the pool.
    requests: u64,
    /// Responses of backends with status 500 to 599.
    responses_5xx: u64,
    /// Failed connects, resets, timeouts and broken responses of backends.
    errors: u64,
    /// Requests answered 503 because no backend was usable or had room.
    unserved: u64,
    /// Sessions that had to leave, their state lost.
    sessions_lost: u64,
    /// Absent where nothing was answered in the last minute.
    latency: Option<LatencyView>,
}

/// How this node is.
#[utoipa::path(get, path = "/v1/status", tag = "operation", responses((status = 200, body = StatusView)))]
pub(super) async fn status(State(app): Shared) -> Response {
    let view = app.state.view();
    let now = clock::unix_millis();
    let pools: Vec<_> = view.snapshot.desired.pools.iter().map(|(name, pool)| summary(&view, name, pool)).collect();
    let dataplanes = view.peers.iter().map(|peer| DataplaneView {
        pid: peer.pid,
        workers: peer.workers,
        version: peer.version.clone(),
        applied_generation: peer.applied,
        connected_since: peer.connected_since,
        report_age: peer.reported_at.map(|at| now.saturating_sub(at)),
        open_connections: peer.stats.open_connections,
        memory: peer.stats.memory,
        memory_limit: peer.stats.memory_most,
        sandbox: peer.sandbox.clone(),
        tls: peer.stats.tls.clone(),
    });
    let body = StatusView {
        version: app.version.to_owned(),
        uptime_seconds: app.started.elapsed().as_secs(),
        generation: view.snapshot.generation,
        source: source_name(app.state.source()).to_owned(),
        etcd: view.etcd.as_ref().map(|etcd| EtcdView {
            connected: etcd.status.away.is_none(),
            since: etcd.status.since,
            endpoint: etcd.endpoint.clone(),
            revision: etcd.revision,
        }),
        sandbox: app.sandbox.clone(),
        dataplanes: dataplanes.collect(),
        problems: problems(&view, &pools).into_iter().chain(burning(&app.state, &view)).collect(),
        pools,
    };
    json(StatusCode::OK, &body)
}

const fn source_name(source: Source) -> &'static str {
    match source {
        Source::Api => "api",
        Source::File => "file",
        Source::Etcd => "etcd",
    }
}

fn summary(view: &View, name: &str, pool: &PoolState) -> PoolSummary {
    let (backends, tunnels) = (pool.members.len(), tunnels(&view.peers, name));
    let latency = view.latency(name);
    let mut summary = PoolSummary { name: name.to_owned(), backends, tunnels, latency, ..PoolSummary::default() };
    for (member_name, member) in &pool.members {
        match view.snapshot.observed(name, member_name).health {
            Health::Up => summary.up += 1,
            Health::Down => summary.down += 1,
            Health::Unknown => summary.unknown += 1,
        }
        match member.admin_state {
            AdminState::Active => {}
            AdminState::Draining => summary.draining += 1,
            AdminState::Maintenance => summary.maintenance += 1,
        }
    }
    for stats in view.peers.iter().filter_map(|peer| peer.stats.pools.get(name)) {
        summary.requests += sum(&stats.counts, &[PoolCount::Requests.name()]);
        summary.unserved += sum(&stats.counts, &UNSERVED.map(PoolCount::name));
        pool.members.keys().filter_map(|name| stats.backends.get(name)).for_each(|stats| summary.add(stats));
    }
    summary
}

const UNSERVED: [PoolCount; 4] =
    [PoolCount::NoBackend, PoolCount::FailedDown, PoolCount::QueueFull, PoolCount::QueueTimeouts];

impl PoolSummary {
    fn add(&mut self, stats: &BackendStats) {
        if let Some(sessions) = stats.live_sessions {
            *self.live_sessions.get_or_insert(0) += sessions;
        }
        self.requests_in_flight += stats.requests_in_flight;
        self.responses_5xx += sum(&stats.counts, &[BackendCount::Responses5xx.name()]);
        self.errors += sum(&stats.counts, &ERRORS.map(BackendCount::name));
        self.sessions_lost += sum(&stats.counts, &[BackendCount::SessionsLost.name()]);
    }
}

fn sum(counts: &Counts, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| counts.get(*name)).sum()
}

fn problems(view: &View, pools: &[PoolSummary]) -> Vec<String> {
    let mut problems: Vec<_> = not_ready(view).into_iter().collect();
    if let Some(etcd) = &view.etcd {
        let away = etcd.status.why_away(clock::unix_millis());
        problems.extend(away.map(|why| format!("{why}; membership stays as it is, and can't be changed")));
        problems.extend(etcd.status.problems.iter().cloned());
    }
    let desired = &view.snapshot.desired;
    for peer in &view.peers {
        if let Some((generation, reason)) = &peer.rejected {
            problems
                .push(format!("the data plane with pid {} can't apply generation {generation}: {reason}", peer.pid));
        }
    }
    problems.extend(view.peers.iter().flat_map(|peer| certificate_problems(&peer.stats.tls)));
    for (pool, stats) in view.peers.iter().flat_map(|peer| &peer.stats.pools) {
        if let Some(reason) = &stats.tls_refused {
            problems.push(format!("pool `{pool}` can't load what its TLS needs: {reason}"));
        }
    }
    for pool in pools {
        if pool.backends == 0 {
            problems.push(format!("pool `{}` has no backends", pool.name));
        } else if pool.down == pool.backends {
            problems.push(format!("all backends of pool `{}` are down", pool.name));
        }
    }
    problems.extend(view.names.iter().filter_map(|(owner, failing)| name_problem(view, owner, failing.as_ref()?)));
    for listener in &desired.listeners {
        let wanted = listener.pool.iter().chain(listener.routes.iter().map(|route| &route.pool));
        for pool in wanted.filter(|pool| !desired.pools.contains_key(*pool)) {
            problems.push(format!("listener `{}` leads to pool `{pool}`, which is not there", listener.name));
        }
    }
    problems
}

/// A name that does not resolve, and what that means.
fn name_problem(view: &View, owner: &Owner, failing: &Failing) -> Option<String> {
    let (pool_name, name) = owner.id();
    let pool = view.snapshot.desired.pools.get(&**pool_name)?;
    let (what, address, known) = match owner {
        Owner::Backend(_) => {
            let known = view.snapshot.observed(pool_name, name).resolved.is_some();
            ("backend", &pool.members.get(&**name)?.address, known)
        }
        Owner::Discover(_) => {
            let discover = pool.settings.discover.iter().find(|each| *each.name == **name)?;
            let is_own = |member: &Member| member.found.as_ref().is_some_and(|found| found.by == discover.name);
            if let Some(file) = &discover.file {
                let (file, reason) = (file.display(), &failing.reason);
                let stays = if pool.members.values().any(is_own) {
                    "what it last listed stays"
                } else {
                    "nobody is known by it"
                };
                return Some(format!(
                    "pool `{pool_name}`, discover `{name}`: the list `{file}` can't be used ({reason}); {stays}"
                ));
            }
            ("discover", discover.srv.as_ref().unwrap_or(&discover.address), pool.members.values().any(is_own))
        }
    };
    let stays = if known { "what it last led to stays" } else { "nothing is known of it yet" };
    let Failing { reason, .. } = failing;
    Some(format!("pool `{pool_name}`, {what} `{name}`: `{address}` does not resolve ({reason}); {stays}"))
}

/// So long before a certificate expires its successor should be there: authorities that issue for 90 days or less advise to
/// renew with a third of the time left, and those that issue for 47 days leave two weeks.
const RENEWED_BEFORE: u64 = 14 * 86_400;

fn certificate_problems(listeners: &BTreeMap<String, TlsStats>) -> Vec<String> {
    let (mut problems, now) = (Vec::new(), clock::unix_millis() / 1_000);
    for (listener, tls) in listeners {
        if let Some(reason) = &tls.refused {
            let still = if tls.certificates.is_empty() { "nobody is served there" } else { "the ones before serve on" };
            problems.push(format!("listener `{listener}` can't load its certificates, {still}: {reason}"));
        }
        for certificate in &tls.certificates {
            let names = certificate.names.join(", ");
            let left = certificate.not_after.saturating_sub(now);
            if left == 0 {
                problems.push(format!("listener `{listener}`: the certificate for {names} has expired"));
            } else if left < RENEWED_BEFORE {
                let days = left / 86_400;
                problems.push(format!("listener `{listener}`: the certificate for {names} expires in {days} days"));
            }
        }
    }
    problems
}

/// Why this node does not do its work; `None` where it does.
fn not_ready(view: &View) -> Option<String> {
    if let Some(problem) = &view.store_problem {
        return Some(problem.clone());
    }
    if view.peers.is_empty() {
        return Some("no data plane is connected".to_owned());
    }
    (!view.peers.iter().any(|peer| peer.applied > 0))
        .then(|| "no data plane has applied the desired state yet".to_owned())
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReloadReceipt {
    #[serde(flatten)]
    receipt: Receipt,
    /// What the file says that takes effect later.
    warnings: Vec<String>,
}

/// Reads the configuration file again, with the keys file and the token file. A file that is wrong changes nothing.
#[utoipa::path(post, path = "/v1/reload", tag = "operation", responses((status = 200, body = ReloadReceipt)))]
pub(super) async fn reload(State(app): Shared, MaybeJson(Nothing {}): MaybeJson<Nothing>) -> Result<Response, Problem> {
    let (receipt, warnings) = app.reload().await?;
    Ok(json(StatusCode::OK, &ReloadReceipt { receipt, warnings }))
}

/// A data plane that took over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpgradeReceipt {
    /// The pid of the one that serves now.
    dataplane: Option<u32>,
    /// Those of the ones that were replaced and go on with what they have.
    replaced: Vec<u32>,
}

/// Has another data plane take over, of the program that is installed and by the configuration file as it is now; answered when
/// it serves. The one before goes on with what it has, and takes nobody new. Where that fails, all is as it was.
#[utoipa::path(post, path = "/v1/upgrade", tag = "operation", responses((status = 200, body = UpgradeReceipt)))]
pub(super) async fn upgrade(
    State(app): Shared,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Response, Problem> {
    let Processes { dataplane, replaced, .. } = app.supervisor.upgrade().await?;
    Ok(json(StatusCode::OK, &UpgradeReceipt { dataplane, replaced }))
}

impl App {
    /// Reads the files again and applies them.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<(Receipt, Vec<String>), Problem> {
        let load = Arc::clone(&self.load);
        let token_file = self.state.token_file();
        let read = crate::off_the_runtime::off_the_runtime(move || {
            let token = token_file.as_deref().map(Token::load);
            load().map(|config| (config, token))
        });
        let read = read.await.map_err(|_| Problem::unavailable("this process is about to stop"))?;
        let (config, token) =
            read.map_err(|problems| Problem::wrong(problems.iter().map(FieldProblem::from).collect()))?;
        let token = token.transpose().map_err(|error| Problem::unavailable(error.to_string()))?;
        let (written, warnings) = self.state.reload(config, Arc::clone(&self.supervisor)).await?;
        if let Some(token) = token {
            self.guard.renew(token);
        }
        Ok((self.receipt(written).await, warnings))
    }
}

/// This process is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "probes", security(()),
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn healthz() -> &'static str {
    "alive\n"
}

/// A data plane serves, and writes are stored.
#[utoipa::path(
    get, path = "/readyz", tag = "probes", security(()),
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn readyz(State(app): Shared) -> Result<&'static str, Problem> {
    not_ready(&app.state.view()).map_or(Ok("ready\n"), |reason| Err(Problem::unavailable(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, Rig};
    use control::status::{PoolStats, Stats};
    use serde_json::json;

    fn counts(all: &[(&str, u64)]) -> Counts {
        all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[tokio::test]
    async fn a_pool_is_told_in_sums_over_its_members_and_all_data_planes() {
        let folder = Folder::new();
        let rig = Rig::start(folder.config(&[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]));
        let backend = |live_sessions| BackendStats {
            counts: counts(&[
                ("resets", 1),
                ("timeouts", 2),
                ("responses_5xx", 4),
                ("sessions_lost", 8),
                ("connects", 99),
            ]),
            requests_in_flight: 3,
            live_sessions,
            ..BackendStats::default()
        };
        for live in [Some(5), None] {
            let backends = [("a", live), ("b", Some(1)), ("gone", Some(100))];
            let pool = PoolStats {
                counts: counts(&[("requests", 50), ("no_backend", 1), ("queue_full", 2), ("pinned", 99)]),
                backends: backends.map(|(name, live)| (name.to_owned(), backend(live))).into(),
                ..PoolStats::default()
            };
            let (id, _, _outbox) = rig.state.connect(crate::control_server::peers::Peer::default(), 0);
            rig.state.set_stats(id, Stats { pools: [("shop".to_owned(), pool)].into(), ..Stats::default() });
        }
        let shop = &rig.done("GET /v1/status", "").await["pools"][0];
        let told =
            ["live_sessions", "requests_in_flight", "requests", "responses_5xx", "errors", "unserved", "sessions_lost"];
        assert_eq!(told.map(|what| shop[what].clone()), [7, 12, 100, 16, 12, 6, 32].map(|sum| json!(sum)), "{shop}");
    }
}
