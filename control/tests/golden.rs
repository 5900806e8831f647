//! The lines of the control channel as they are on the wire. An old and a new process talk to each other during an
//! upgrade, so a line that changes here needs a new [`PROTOCOL`]. `GOLDEN=write cargo test -p control` writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use control::{
    cost::{Hot, HotKey, Moved, RouteStats},
    desired::{AdminState, Change, Desired, Drain, DrainMode, Member, Observed, PoolState, Share, Snapshot, Then},
    latency::Latency,
    message::{PROTOCOL, ToAdmin, ToDataplane, from_line, to_line},
    rebalance::Rebalance,
    release::{By, Finding, Passed, Percent, RampPlan, Release, ReleaseState, Signal, Stopped, Watch},
    sketch::{Sketch, Sketched},
    spec::{
        Adopt, AdoptFrom, Affinity, AffinityHeader, AffinityQuery, AffinityRule, AppCookie, AppCookieStyle, Backend,
        Balance, Cookie, HeaderStyle, Key, Listener, Mode, Pool, Route, Secret, Span, TokenKind,
    },
    status::{
        Ages, BackendStats, CertificateStats, Health, KeyStats, PoolStats, Quantiles, ReleaseStats, Sandbox,
        StageStats, Stats, TlsStats, WorkerStats,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, fs, path::PathBuf};

fn member() -> Member {
    Member::new(&Backend { address: "10.0.0.7:8080".into(), weight: 3, ..Backend::default() }, 1)
}

fn draining() -> Member {
    drained(Drain { since: 1_790_000_000_000, deadline: Some(1_790_000_600_000), ..Drain::default() })
}

fn drained(drain: Drain) -> Member {
    Member { admin_state: AdminState::Draining, drain: Some(drain), incarnation: 77, ..member() }
}

/// Every way to drain.
fn drains() -> Vec<Change> {
    let migrate = Drain { mode: DrainMode::Migrate, share: Share::new(0.25), ..Drain::default() };
    let retire = Drain { mode: DrainMode::Retire, since: 9, ..Drain::default() };
    let drains = [
        Drain { then: Some(Then::Leave), ..migrate },
        Drain { then: Some(Then::Remove), ..retire },
        Drain { then: Some(Then::Maintenance), ..retire },
    ];
    let put = |drain| Change::PutMember { pool: "shop".into(), name: "app-2".into(), member: drained(drain) };
    let named = Member { instance: Some("pod-7f".into()), ..member() };
    let named = Change::PutMember { pool: "shop".into(), name: "app-1".into(), member: named };
    drains.map(put).into_iter().chain([named]).collect()
}

fn rebalances() -> Vec<Change> {
    let round = Rebalance {
        since: 1_790_000_000_000,
        until: 1_790_000_060_000,
        idle_first: true,
        from: [("app-1".to_owned(), Share::new(0.25).unwrap())].into(),
        to: [("app-3".to_owned(), 40)].into(),
    };
    [Some(round), None].map(|round| Change::Rebalance { pool: "shop".into(), round }).into()
}

/// How load is spread: members and settings that are not as all others.
fn spread() -> Vec<Change> {
    let backup = Member { backup: true, ..member() };
    let settings = Box::new(Pool { slow_start: Some(Span::from_secs(30)), ..settings() });
    let affinity = Affinity { coalesce: Some(Span::from_secs(2)), ..Affinity::default() };
    let coalesces = Box::new(Pool { name: "shop".into(), affinity, ..Pool::default() });
    vec![
        Change::PutMember { pool: "shop".into(), name: "app-3".into(), member: backup },
        Change::PutSettings { name: "shop".into(), settings },
        Change::PutSettings { name: "shop".into(), settings: coalesces },
    ]
}

fn settings() -> Pool {
    let cookie = Cookie {
        token: TokenKind::Plain,
        domain: Some("example.com".into()),
        max_age: Some(Span::from_secs(43_200)),
        ..Cookie::default()
    };
    let affinity = Affinity { mode: Mode::Cookie, cookie, ..Affinity::default() };
    Pool { name: "shop".into(), balance: Balance::P2c, affinity, ..Pool::default() }
}

fn pool() -> PoolState {
    let members = [("app-1".to_owned(), member()), ("app-2".to_owned(), draining())].into();
    PoolState { settings: settings(), members }
}

fn listeners() -> Vec<Listener> {
    let route = Route {
        host: Some("*.example.com".into()),
        path: Some("/cart".into()),
        pool: "shop".into(),
        ..Route::default()
    };
    vec![Listener {
        name: "web".into(),
        bind: "0.0.0.0:80".into(),
        pool: Some("shop".into()),
        routes: vec![route],
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..Listener::default()
    }]
}

/// Pools whose sessions the application names, with all that can be said of them, and a route without affinity.
fn named() -> Vec<Change> {
    let rule = AffinityRule {
        path: Some("/static".into()),
        method: Some("GET".into()),
        header: Some("X-Probe".into()),
        value: Some("yes".into()),
    };
    let app = |style| AppCookie { name: "sid".into(), style, path_parameter: Some("sid".into()) };
    let header = |style| AffinityHeader { name: "Mcp-Session-Id".into(), style, gone_status: 410 };
    let app_cookie = |style| Affinity { mode: Mode::AppCookie, app_cookie: Some(app(style)), ..Affinity::default() };
    let in_header = |style| Affinity { mode: Mode::Header, header: Some(header(style)), ..Affinity::default() };
    let query = Some(AffinityQuery { name: "room".into() });
    let posted = Affinity {
        cookie: Cookie { postonly: true, ..Cookie::default() },
        target: Some(0.999),
        ignore: vec![rule.clone()],
        force: vec![rule],
        ..Affinity::default()
    };
    let affinities = [
        app_cookie(AppCookieStyle::Hash),
        app_cookie(AppCookieStyle::Follow),
        app_cookie(AppCookieStyle::Prefix),
        app_cookie(AppCookieStyle::Suffix),
        in_header(HeaderStyle::Hash),
        in_header(HeaderStyle::Follow),
        Affinity { mode: Mode::Query, query, ..Affinity::default() },
        posted,
    ];
    let settings = affinities.map(|affinity| Change::PutSettings {
        name: "shop".into(),
        settings: Box::new(Pool { name: "shop".into(), affinity, ..Pool::default() }),
    });
    let route = Route { pool: "shop".into(), affinity: false, ..Route::default() };
    let listeners = vec![Listener { name: "web".into(), routes: vec![route], ..Listener::default() }];
    settings.into_iter().chain([Change::Listeners { listeners }]).collect()
}

/// A drain that closes what is left, and the maintenance that it leads to.
fn closing() -> Vec<Change> {
    let drain = Drain { then: Some(Then::Close), since: 9, ..Drain::default() };
    let over = Member { admin_state: AdminState::Maintenance, ..drained(drain) };
    let put = |member| Change::PutMember { pool: "shop".into(), name: "app-2".into(), member };
    vec![put(drained(drain)), put(over)]
}

/// Every kind of cookie that is adopted.
fn adopting() -> Vec<Change> {
    let kinds = [
        AdoptFrom::Haproxy,
        AdoptFrom::HaproxyDynamic,
        AdoptFrom::Nginx,
        AdoptFrom::IngressNginx,
        AdoptFrom::IngressNginxPersistent,
        AdoptFrom::Traefik,
        AdoptFrom::Envoy,
        AdoptFrom::Opaque,
    ];
    let adopt = |from| Adopt { from: Some(from), cookie: from.name().to_owned(), ..Adopt::default() };
    let all = Adopt {
        from: Some(AdoptFrom::HaproxyDynamic),
        cookie: "SERVERID".into(),
        key: Some(Secret("k".into())),
        service: Some("shop-web-80".into()),
        values: [("s1".to_owned(), "app-1".to_owned())].into(),
        delete: true,
        path: "/app".into(),
        domain: Some("example.com".into()),
    };
    let affinity = Affinity { adopt: kinds.map(adopt).into_iter().chain([all]).collect(), ..Affinity::default() };
    let settings = Box::new(Pool { name: "shop".into(), affinity, ..Pool::default() });
    vec![Change::PutSettings { name: "shop".into(), settings }]
}

/// A release that has just begun.
fn begun() -> Release {
    let steps = [0.25, 10.0, 100.0].map(|step| Percent::new(step).unwrap()).into();
    let watch = Watch {
        login_path: Some("/login".into()),
        session_cookie: Some("JSESSIONID".into()),
        cache_header: Some("X-Cache".into()),
        cache_hit: "HIT".into(),
    };
    let plan = RampPlan { steps, hold: Span::from_secs(600), harm: 0.1, alpha: 0.01, watch };
    let since = 1_790_000_000_000;
    let state = ReleaseState::Running;
    Release { id: 77, plan, state, step: 0, since, step_since: since, passed: Vec::new(), stopped: None }
}

/// A release in each of its states.
fn releases() -> Vec<Change> {
    let (sessions, shown) = (By { released: 12, control: 108 }, By { released: 8, control: 1 });
    let percent = Percent::new(0.25).unwrap();
    let passed = vec![Passed { percent, until: 1_790_000_600_000, sessions, detectable: 0.0825 }];
    let finding = Some(Finding { signal: Signal::NewSession, times: 2, sessions, shown, p_value: 0.0001 });
    let stopped = Some(Stopped { at: 1_790_000_700_000, reason: "harm".into(), finding });
    let plan = RampPlan { watch: Watch::default(), ..begun().plan };
    let releases = [
        begun(),
        Release { state: ReleaseState::Finished, step: 2, passed: passed.clone(), ..begun() },
        Release { state: ReleaseState::Stopped, plan, step: 1, passed, stopped, ..begun() },
    ];
    let put = releases.map(|release| Change::PutRelease { pool: "shop".into(), release: Box::new(release) });
    put.into_iter().chain([Change::RemoveRelease { pool: "shop".into() }]).collect()
}

fn releasing() -> Snapshot {
    let desired = Desired { releases: [("shop".to_owned(), begun())].into(), ..Desired::default() };
    Snapshot { generation: 101, desired, ..Snapshot::default() }
}

fn tls_stats() -> TlsStats {
    let names = vec!["shop.example.com".to_owned(), "*.shop.example.com".to_owned()];
    let certificates = vec![CertificateStats { names, not_after: 1_800_000_000 }];
    TlsStats { certificates, refused: Some("there is no file".to_owned()) }
}

fn release_stats() -> Stats {
    let (one, two) = (By { released: 1, control: 9 }, By { released: 2, control: 18 });
    let shown = [(Signal::Denied, [one, By::default(), By::default(), By::default(), By::default()])].into();
    let stages = vec![StageStats { share: 1_000, sessions: two, elsewhere: 1, shown }, StageStats::default()];
    let quantiles = Quantiles { p50: 100, p90: 200, p99: 300 };
    let latency = By { released: quantiles, control: quantiles };
    let release = ReleaseStats { id: 77, stages, requests: two, latency, cached: two, hits: one, sampled: 3 };
    let pool = PoolStats { release: Some(release), ..PoolStats::default() };
    Stats { pools: [("shop".to_owned(), pool)].into(), ..Stats::default() }
}

fn observed() -> Observed {
    Observed { health: Health::Down, resolved: Some("10.0.0.7:8080".parse().unwrap()) }
}

fn to_dataplane() -> Vec<ToDataplane> {
    let (shop, app): (String, String) = ("shop".into(), "app-1".into());
    let desired = Desired {
        listeners: listeners(),
        pools: [(shop.clone(), pool())].into(),
        keys: vec![Key([1; 32]), Key([2; 32])],
        ..Desired::default()
    };
    let observed_all = [(shop.clone(), [(app.clone(), observed())].into())].into();
    let changes = vec![
        Change::Listeners { listeners: listeners() },
        Change::Keys { keys: vec![Key([3; 32])] },
        Change::PutPool { name: shop.clone(), pool: Box::new(pool()) },
        Change::RemovePool { name: "old".into() },
        Change::PutSettings { name: shop.clone(), settings: Box::new(settings()) },
        Change::PutMember { pool: shop.clone(), name: app.clone(), member: member() },
        Change::PutMember { pool: shop.clone(), name: "app-2".into(), member: draining() },
        Change::RemoveMember { pool: shop.clone(), name: app.clone() },
        Change::Observe { pool: shop.clone(), name: app.clone(), observed: observed() },
        Change::Observe { pool: shop, name: app, observed: Observed::default() },
    ];
    vec![
        ToDataplane::Hello { protocol: PROTOCOL, version: "0.1.0".into() },
        ToDataplane::Snapshot {
            snapshot: Box::new(Snapshot { generation: 41, desired, observed: observed_all, ..Snapshot::default() }),
        },
        ToDataplane::Snapshot { snapshot: Box::default() },
        ToDataplane::Delta { base: 41, generation: 42, changes, commanded: false },
        ToDataplane::Delta { base: 42, generation: 99, changes: Vec::new(), commanded: false },
        ToDataplane::Delta { base: 99, generation: 100, changes: drains(), commanded: false },
        ToDataplane::Report,
        ToDataplane::Delta { base: 99, generation: 100, changes: named(), commanded: false },
        ToDataplane::Delta { base: 99, generation: 100, changes: spread(), commanded: false },
        ToDataplane::Delta { base: 99, generation: 100, changes: adopting(), commanded: false },
        ToDataplane::Delta { base: 99, generation: 100, changes: closing(), commanded: false },
        ToDataplane::Delta { base: 100, generation: 101, changes: releases(), commanded: false },
        ToDataplane::Snapshot { snapshot: Box::new(releasing()) },
        ToDataplane::Delta { base: 99, generation: 100, changes: rebalances(), commanded: false },
        ToDataplane::Delta { base: 99, generation: 100, changes: commanded(), commanded: true },
        ToDataplane::Sketch { pool: "shop".into() },
    ]
}

/// Health that somebody said.
fn commanded() -> Vec<Change> {
    vec![Change::Observe { pool: "shop".into(), name: "app-1".into(), observed: observed() }]
}

/// What a data plane says that tells sketches.
fn sketches() -> [ToAdmin; 4] {
    let sessions = vec![Sketched(7, 0, 1_790_000_000), Sketched(9_000_000_000_000_000_000, 1, 1_790_000_001)];
    let backends = vec!["app-1".to_owned(), "app-2".to_owned()];
    let sketch = Sketch { below: Some(9_100_000_000_000_000_000), backends, sessions };
    [
        ToAdmin::Hello {
            protocol: PROTOCOL,
            version: "0.1.0".into(),
            pid: 4_712,
            workers: 8,
            generation: 0,
            started: 1_790_000_000_000,
            sketches: true,
            sandbox: None,
        },
        ToAdmin::Hello {
            protocol: PROTOCOL,
            version: "0.1.0".into(),
            pid: 4_713,
            workers: 8,
            generation: 0,
            started: 1_790_000_000_000,
            sketches: true,
            sandbox: Some(Sandbox { no_new_privileges: true, seccomp: true, landlock: 7 }),
        },
        ToAdmin::Sketch { pool: "shop".into(), sketch: Box::new(sketch) },
        ToAdmin::Sketch { pool: "none".into(), sketch: Box::default() },
    ]
}

fn to_admin() -> Vec<ToAdmin> {
    let counts = |name: &str| [(name.to_owned(), 12)].into();
    let busy = BackendStats {
        counts: counts("requests"),
        requests_in_flight: 3,
        tunnels: 4,
        requests_queued: 2,
        live_sessions: Some(5),
        ..BackendStats::default()
    };
    let backends = [("app-1".to_owned(), busy), ("app-2".to_owned(), BackendStats::default())].into();
    let ages = Ages([1, 2, 3, 5, 8, 13, 21, 34, 55, 89]);
    let cold = BackendStats { warming: Some(20), session_ages: Some(ages), ..BackendStats::default() };
    let cold = PoolStats { backends: [("app-3".to_owned(), cold)].into(), ..PoolStats::default() };
    let cold = Stats { pools: [("shop".to_owned(), cold)].into(), ..Stats::default() };
    let ledger =
        vec![Moved { kind: "repinned".into(), cause: "down".into(), from: Some("app-1".into()), to: None, count: 3 }];
    let hot = |key: &str| vec![HotKey { key: key.into(), samples: 2 }];
    let hot = Hot { samples: 9, sessions: hot("00ff00ff00ff00ff"), addresses: hot("2001:db8::1") };
    let route =
        RouteStats { listener: "web".into(), host: None, path: Some("/cart".into()), counts: counts("unmarked") };
    let pool = PoolStats {
        latency: [("2xx".to_owned(), Latency { buckets: vec![7, 1], sum: 4_200 })].into(),
        counts: counts("pinned"),
        requests_queued: 1,
        tunnels: 6,
        tls_refused: Some("there is no file".to_owned()),
        release: None,
        backends,
        ledger: Some(ledger),
        hot: Some(hot),
        routes: vec![route],
        ages: counts("under_1h"),
    };
    let stats = Stats {
        at: 1_790_000_000_123,
        generation: 42,
        dataplane: counts("connections_accepted"),
        open_connections: 7,
        memory: 52_428_800,
        memory_most: 1 << 30,
        workers: vec![WorkerStats { counts: counts("requests"), connections: 7, idle_connections: 2 }],
        pools: [("shop".to_owned(), pool)].into(),
        tls: [("web".to_owned(), tls_stats())].into(),
        keys: [("3fa2".to_owned(), KeyStats { ages: counts("older"), last_seen: Some(1_790_000_000) })].into(),
    };
    let first = vec![
        ToAdmin::Hello {
            protocol: PROTOCOL,
            version: "0.1.0".into(),
            pid: 4_711,
            workers: 8,
            generation: 41,
            started: 1_789_999_999_000,
            sketches: false,
            sandbox: None,
        },
        ToAdmin::Applied { generation: 42 },
        ToAdmin::Rejected { generation: 42, reason: "too many backends".into() },
        ToAdmin::Stats { stats: Box::new(stats) },
        ToAdmin::Stats { stats: Box::default() },
        ToAdmin::Stats { stats: Box::new(release_stats()) },
        ToAdmin::Failing { pool: "shop".into(), backend: "app-1".into(), reason: "connection refused".into() },
        ToAdmin::Stats { stats: Box::new(cold) },
    ];
    first.into_iter().chain(sketches()).collect()
}

/// Holds `messages` against the file `name`: written they are its lines, and its lines read are they.
fn holds<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, messages: &[T]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let written: String = messages.iter().map(|message| String::from_utf8(to_line(message)).unwrap()).collect();
    if std::env::var_os("GOLDEN").is_some_and(|wish| wish == "write") {
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    assert_eq!(golden.lines().count(), messages.len());
    for ((line, written), message) in golden.lines().zip(written.lines()).zip(messages) {
        assert_eq!(written, line);
        assert_eq!(&from_line::<T>(line.as_bytes()).unwrap(), message);
        assert_eq!(&from_line::<T>(&with_more(line)).unwrap(), message, "what a newer version adds is passed over");
    }
}

/// A line with a field that this version does not know: in the message, and in what it carries of members and figures.
fn with_more(line: &str) -> Vec<u8> {
    fn add(value: &mut Value) {
        let Some(fields) = value.as_object_mut() else { return };
        fields.values_mut().for_each(add);
        if ["type", "generation", "incarnation", "requests_in_flight"].iter().any(|key| fields.contains_key(*key)) {
            fields.insert("from_the_future".to_owned(), Value::from(1));
        }
    }
    let mut value: Value = serde_json::from_str(line).unwrap();
    add(&mut value);
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn lines_to_the_data_plane() {
    holds("to_dataplane.jsonl", &to_dataplane());
}

#[test]
fn lines_to_the_admin_process() {
    holds("to_admin.jsonl", &to_admin());
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    for line in [
        "",
        "{}",
        "[]",
        "\u{0}",
        r#"{"type":"surprise"}"#,
        r#"{"type":"applied"}"#,
        r#"{"type":"applied","generation":-1}"#,
    ] {
        let error = from_line::<ToAdmin>(line.as_bytes()).unwrap_err();
        assert!(error.starts_with("not a message of the control channel: "), "{error}");
    }
}
