//! Prometheus's text format, version 0.0.4.

mod latency;
mod routes;
mod workers;

use super::{App, Shared};
use crate::{
    control_server::peers::{Figures, add, figures, tunnels},
    etcd,
    history::{keys, windows::Window},
    state::View,
};
use affinity::{
    burn::Returning,
    release::ramp::{Verdict, verdict},
};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use control::{
    counters::{BackendCount, Dataplane, PoolCount},
    desired::{AdminState, Member},
    status::{Counts, Health, Sandbox, Stats},
    token_age::TokenAge,
};
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

/// Counters and gauges. Counters are summed over all data planes that were connected since this process started.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String))
)]
pub(super) async fn metrics(State(app): Shared) -> Response {
    let text = render(&app.state.view(), &app);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The families of one page.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: std::fmt::Arguments<'_>, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn alone(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, format_args!(""), value);
    }
}

struct Row<'v> {
    pool: &'v str,
    name: &'v str,
    member: &'v Member,
    health: Health,
    figures: Figures,
    /// Of those too that have gone.
    counts: Counts,
}

fn render(view: &View, app: &App) -> String {
    let mut page = Page::default();
    page.family("steadfast_build_info", "gauge", "The version, as a label.");
    page.sample("steadfast_build_info", format_args!("{{version=\"{}\"}}", app.version), 1);
    let help = "The generation of the desired state.";
    page.alone("steadfast_generation", "gauge", help, view.snapshot.generation);
    let help = "Connected data planes.";
    page.alone("steadfast_dataplanes_connected", "gauge", help, view.peers.len() as u64);
    let help = "Data planes that have begun to serve since the admin process started.";
    page.alone("steadfast_dataplanes_started_total", "counter", help, view.planes_started);
    let help = "When the admin process started, in Unix seconds.";
    page.alone("process_start_time_seconds", "gauge", help, app.started_at / 1_000);
    page.alone("steadfast_workers", "gauge", "Workers of the connected data planes.", view.workers());
    let help = "Open client connections.";
    let open = view.peers.iter().map(|peer| peer.stats.open_connections).sum();
    page.alone("steadfast_open_connections", "gauge", help, open);
    let of = |told: fn(&Stats) -> u64| view.peers.iter().map(|peer| told(&peer.stats)).sum();
    let help = "Bytes of memory that the data planes have.";
    page.alone("steadfast_memory_bytes", "gauge", help, of(|stats| stats.memory));
    let help = "Bytes beyond which they accept nobody new; 0 for no bound.";
    page.alone("steadfast_memory_limit_bytes", "gauge", help, of(|stats| stats.memory_most));
    sandbox(&mut page, view, app);
    let (wrong, throttled) = app.guard.wrong_tokens();
    page.family(
        "steadfast_admin_wrong_tokens_total",
        "counter",
        "Calls with a wrong token, by what they were answered.",
    );
    for (status, count) in [(401, wrong), (429, throttled)] {
        page.sample("steadfast_admin_wrong_tokens_total", format_args!("{{status=\"{status}\"}}"), count);
    }
    let help = "Lines of the audit log that could not be written to its file, and went to the log.";
    page.alone("steadfast_admin_audit_failures_total", "counter", help, app.state.audit.failures());
    etcd(&mut page, view);
    certificates(&mut page, view);
    names(&mut page, view);
    dataplane_counters(&mut page, view);
    workers::figures(&mut page, view);
    key_counters(&mut page, view);
    pool_counters(&mut page, view);
    latency::histograms(&mut page, view);
    release_gauges(&mut page, view);
    affinity_gauges(&mut page, view, app);
    let rows: Vec<_> = rows(view).collect();
    routes::counters(&mut page, view);
    backend_counters(&mut page, &rows);
    backend_gauges(&mut page, &rows);
    page.0
}

/// What of the sandboxes holds; of several data planes that which has least.
fn sandbox(page: &mut Page, view: &View, app: &App) {
    let name = "steadfast_sandbox";
    page.family(
        name,
        "gauge",
        "Whether this part of the process's sandbox holds; of Landlock its version, 0 for none.",
    );
    let planes = view.peers.iter().map(|peer| peer.sandbox.clone().unwrap_or_default());
    let planes = planes.reduce(|one, other| Sandbox {
        no_new_privileges: one.no_new_privileges && other.no_new_privileges,
        seccomp: one.seccomp && other.seccomp,
        landlock: one.landlock.min(other.landlock),
    });
    for (process, holds) in [("admin", Some(&app.sandbox)), ("dataplane", planes.as_ref())] {
        let Some(Sandbox { no_new_privileges, seccomp, landlock }) = holds else { continue };
        let parts = [("no_new_privileges", u32::from(*no_new_privileges)), ("seccomp", u32::from(*seccomp))];
        for (part, value) in parts.into_iter().chain([("landlock", *landlock)]) {
            page.sample(name, format_args!("{{process=\"{process}\",part=\"{part}\"}}"), value);
        }
    }
}

/// What membership comes from, where that is etcd.
fn etcd(page: &mut Page, view: &View) {
    type Told = (&'static str, &'static str, &'static str, fn(&etcd::View) -> u64);
    const FAMILIES: [Told; 4] = [
        ("connected", "gauge", "Whether etcd is watched.", |etcd| u64::from(etcd.status.away.is_none())),
        ("revision", "gauge", "The revision of etcd that this node acts on.", |etcd| etcd.revision),
        ("watch_restarts_total", "counter", "How often a watch of etcd ended and was begun anew.", |etcd| {
            etcd.restarts
        }),
        ("call_failures_total", "counter", "Calls of etcd that failed.", |etcd| etcd.failures),
    ];
    for (name, kind, help, read) in FAMILIES {
        let name = format!("steadfast_etcd_{name}");
        page.family(&name, kind, help);
        if let Some(etcd) = &view.etcd {
            page.sample(&name, format_args!(""), read(etcd));
        }
    }
}

impl View {
    /// The figures of all data planes, those included that have gone, for what only ever grows.
    fn counted(&self) -> impl Iterator<Item = &Stats> + Clone {
        self.peers.iter().map(|peer| &peer.stats).chain(&self.past).map(AsRef::as_ref)
    }
}

fn rows(view: &View) -> impl Iterator<Item = Row<'_>> {
    view.snapshot.desired.pools.iter().flat_map(move |(pool, state)| {
        state.members.iter().map(move |(name, member)| {
            let health = view.snapshot.observed(pool, name).health;
            let mut counts = Counts::new();
            let told = view.counted().filter_map(|stats| stats.pools.get(pool)?.backends.get(name));
            told.for_each(|stats| add(&mut counts, &stats.counts));
            Row { pool, name, member, health, figures: figures(&view.peers, pool, name), counts }
        })
    })
}

fn value(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or_default()
}

/// When the certificates of each listener expire; the data planes show the same, or the soonest counts.
fn certificates(page: &mut Page, view: &View) {
    let mut soonest: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for (listener, tls) in view.peers.iter().flat_map(|peer| &peer.stats.tls) {
        for certificate in &tls.certificates {
            let at = soonest.entry((listener, certificate.names.join(","))).or_insert(u64::MAX);
            *at = certificate.not_after.min(*at);
        }
    }
    let name = "steadfast_certificate_expiry_seconds";
    page.family(name, "gauge", "When the certificate expires, in Unix seconds.");
    for ((listener, names), at) in soonest {
        let names = names.replace(['\\', '"', '\n'], "");
        page.sample(name, format_args!("{{listener=\"{listener}\",names=\"{names}\"}}"), at);
    }
}

/// Names that do not resolve, of backends and of `discover`.
fn names(page: &mut Page, view: &View) {
    let name = "steadfast_name_lookup_failing";
    page.family(name, "gauge", "Whether the last look-up of the name in an address failed.");
    for (owner, failing) in &view.names {
        let (pool, of) = owner.id();
        page.sample(name, format_args!("{{pool=\"{pool}\",name=\"{of}\"}}"), u64::from(failing.is_some()));
    }
}

fn dataplane_counters(page: &mut Page, view: &View) {
    let mut sum = Counts::new();
    view.counted().for_each(|stats| add(&mut sum, &stats.dataplane));
    for count in Dataplane::ALL {
        let name = format!("steadfast_dataplane_{}_total", count.name());
        page.alone(&name, "counter", count.help(), value(&sum, count.name()));
    }
}

fn key_counters(page: &mut Page, view: &View) {
    let name = "steadfast_key_tokens_total";
    page.family(name, "counter", "Requests with a token that the key opened, by the age of their session.");
    for key in view.snapshot.desired.keys.iter().map(keys::name) {
        for age in TokenAge::ALL.map(TokenAge::name) {
            let told = view.counted().filter_map(|stats| stats.keys.get(&key)?.ages.get(age));
            page.sample(name, format_args!("{{key=\"{key}\",age=\"{age}\"}}"), told.sum::<u64>());
        }
    }
}

fn pool_counters(page: &mut Page, view: &View) {
    let sums: Vec<_> = view
        .snapshot
        .desired
        .pools
        .keys()
        .map(|pool| {
            let mut sum = Counts::new();
            for stats in view.counted().filter_map(|stats| stats.pools.get(pool)) {
                add(&mut sum, &stats.counts);
            }
            (pool, sum)
        })
        .collect();
    let name = "steadfast_pool_tunnels";
    page.family(name, "gauge", "Upgraded connections that are open, those to removed backends too.");
    for pool in view.snapshot.desired.pools.keys() {
        page.sample(name, format_args!("{{pool=\"{pool}\"}}"), tunnels(&view.peers, pool));
    }
    let name = "steadfast_pool_requests_queued";
    page.family(name, "gauge", "Requests that wait for any backend with room.");
    for pool in view.snapshot.desired.pools.keys() {
        let queued = view.peers.iter().filter_map(|peer| peer.stats.pools.get(pool)).map(|stats| stats.requests_queued);
        page.sample(name, format_args!("{{pool=\"{pool}\"}}"), queued.sum::<u64>());
    }
    for count in PoolCount::ALL {
        let name = format!("steadfast_pool_{}_total", count.name());
        page.family(&name, "counter", count.help());
        for (pool, sum) in &sums {
            page.sample(&name, format_args!("{{pool=\"{pool}\"}}"), value(sum, count.name()));
        }
    }
}

fn release_gauges(page: &mut Page, view: &View) {
    let releases: Vec<_> = view
        .snapshot
        .desired
        .releases
        .iter()
        .map(|(pool, release)| {
            let judged = view.judged(pool, release);
            let finding = release.stopped.as_ref().map_or(judged.worst, |stopped| stopped.finding);
            let verdict = match verdict(release, &judged) {
                Verdict::NotEnoughTraffic => 0.0,
                Verdict::LooksStateless => 1.0,
                Verdict::IsNot => 2.0,
            };
            let p_value = finding.map_or(1.0, |finding| finding.p_value);
            (pool, [f64::from(release.basis_points()) / 10_000.0, verdict, p_value])
        })
        .collect();
    let gauges = [
        ("share", "The share of the sessions that is released, 0 to 1."),
        (
            "verdict",
            "What a release says of the backends: 0 not enough traffic, 1 they look stateless, 2 they are not.",
        ),
        ("p_value", "How likely mere luck is to look as bad for the released sessions at any time, at most."),
    ];
    for (at, (gauge, help)) in gauges.into_iter().enumerate() {
        let name = format!("steadfast_pool_release_{gauge}");
        page.family(&name, "gauge", help);
        for (pool, values) in &releases {
            page.sample(&name, format_args!("{{pool=\"{pool}\"}}"), values[at]);
        }
    }
}

/// How pools do against their targets.
fn affinity_gauges(page: &mut Page, view: &View, app: &App) {
    let pools: Vec<_> =
        view.snapshot.desired.pools.iter().map(|(name, pool)| (name, pool, app.state.history(name))).collect();
    let name = "steadfast_pool_affinity_target";
    page.family(name, "gauge", "The share of returning requests that is to reach their pin.");
    for (pool, state, _) in &pools {
        if let Some(target) = state.settings.affinity.target {
            page.sample(name, format_args!("{{pool=\"{pool}\"}}"), target);
        }
    }
    let mut over_windows = |name: &str, help: &str, read: fn(Returning, Option<f64>) -> Option<f64>| {
        page.family(name, "gauge", help);
        for (pool, state, history) in &pools {
            for window in Window::ALL {
                if let Some(value) = read(history.returning(window), state.settings.affinity.target) {
                    page.sample(name, format_args!("{{pool=\"{pool}\",window=\"{}\"}}", window.name()), value);
                }
            }
        }
    };
    let help = "The share of returning requests that reached their pin in the last minutes.";
    over_windows("steadfast_pool_affinity_share", help, |returning, _| returning.share());
    let help = "How many times faster than the target allows returning requests missed their pin in the last minutes.";
    over_windows("steadfast_pool_affinity_burn_rate", help, |returning, target| returning.burn_rate(target?));
}

fn backend_counters(page: &mut Page, rows: &[Row<'_>]) {
    for count in BackendCount::ALL {
        let (name, unit) = counter_name("backend", count.name());
        page.family(&name, "counter", count.help());
        for Row { pool, name: backend, counts, .. } in rows {
            let labels = format_args!("{{pool=\"{pool}\",backend=\"{backend}\"}}");
            page.sample(&name, labels, unit.of(value(counts, count.name())));
        }
    }
}

/// What a counter counts.
#[derive(Clone, Copy)]
enum Unit {
    One,
    Milliseconds,
}

impl Unit {
    /// Prometheus has all times in seconds.
    fn of(self, value: u64) -> String {
        match self {
            Self::One => value.to_string(),
            Self::Milliseconds => format!("{}.{:03}", value / 1_000, value % 1_000),
        }
    }
}

/// As Prometheus calls a counter.
fn counter_name(scope: &str, name: &str) -> (String, Unit) {
    match name.strip_suffix("_milliseconds") {
        Some(stem) => (format!("steadfast_{scope}_{stem}_seconds_total"), Unit::Milliseconds),
        None => (format!("steadfast_{scope}_{name}_total"), Unit::One),
    }
}

fn backend_gauges(page: &mut Page, rows: &[Row<'_>]) {
    type Gauge = (&'static str, &'static str, fn(&Row<'_>) -> Option<u64>);
    const GAUGES: [Gauge; 8] = [
        ("up", "0 where the backend is down, 1 where it is up or nothing is known yet.", |row| {
            Some(u64::from(row.health != Health::Down))
        }),
        ("admin_state", "What the operator commands: 0 active, 1 draining, 2 maintenance.", |row| {
            Some(match row.member.admin_state {
                AdminState::Active => 0,
                AdminState::Draining => 1,
                AdminState::Maintenance => 2,
            })
        }),
        ("weight", "The backend's weight.", |row| Some(row.member.weight.into())),
        ("incarnation", "Which life of the backend this is.", |row| Some(row.member.incarnation.into())),
        ("requests_in_flight", "Requests that the backend works on.", |row| Some(row.figures.requests_in_flight)),
        ("tunnels", "Upgraded connections to the backend that are open.", |row| Some(row.figures.tunnels)),
        ("requests_queued", "Requests that wait for room at the backend.", |row| Some(row.figures.requests_queued)),
        ("live_sessions", "Distinct sessions seen within the idle time.", |row| row.figures.live_sessions),
    ];
    for (gauge, help, read) in GAUGES {
        let name = format!("steadfast_backend_{gauge}");
        page.family(&name, "gauge", help);
        for row in rows {
            if let Some(value) = read(row) {
                page.sample(&name, format_args!("{{pool=\"{}\",backend=\"{}\"}}", row.pool, row.name), value);
            }
        }
    }
}
