//! README.md keeps to the code: keys, defaults, commands, calls, metrics, paths.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use control::{
    access_log::AccessLog,
    config::{Admin, Config, Etcd, Global, Membership, Source, Workers},
    counters::{BackendCount, Dataplane, PoolCount, RouteCount, WorkerCount},
    spec::{
        Adopt, AdoptFrom, Affinity, AffinityHeader, AffinityQuery, AffinityRule, AppCookie, AppCookieStyle, Backend,
        Balance, Certificate, ClientCertificates, ClientVerify, Cookie, Discover, Forwarding, HeaderStyle, HealthCheck,
        Limits, Listener, ListenerLimits, ListenerTimeouts, Mode, Names, OnDown, OnOverload, Passive, Pool, PoolTls,
        Protocol, ProxyVersion, Redirect, Retry, Route, SameSite, Secret, Server, SourceIp, Span, StatusRange,
        Timeouts, Tls, TlsSettings, TlsVersion, TokenKind,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use support::{Folder, Outcome, Setup, steadfast};
use toml::{Table, Value};

const README: &str = include_str!("../README.md");

/// The text under a heading, up to the next one of its level.
#[track_caller]
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    let level = heading.split(' ').next().unwrap();
    rest.split_once(&format!("\n{level} ")).map_or(rest, |(section, _)| section)
}

/// What stands in backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// As [`filled`].
fn filled_health() -> HealthCheck {
    HealthCheck {
        check: control::spec::Check::Tcp,
        interval: Span::from_secs(1),
        timeout: Span::from_secs(1),
        rise: 1,
        fall: 1,
        path: "/".to_owned(),
        host: Some("x".to_owned()),
        service: Some("x".to_owned()),
        expect: StatusRange { first: 200, last: 200 },
        instance_header: Some("x".to_owned()),
        fail_open: true,
        fail_open_below: 0.5,
        passive: Passive::default(),
    }
}

/// As [`filled`].
fn filled_discover() -> Discover {
    let word = || "x".to_owned();
    Discover { name: word(), address: word(), file: Some("/x".into()), srv: Some(word()), weight: 1, backup: true }
}

/// Everything that can be written, spelled out so that a new key does not compile before it stands here.
fn filled() -> Config {
    let path_buf = || Some("/x".into());
    let (path, name, span) = (|| Some("/x".into()), || Some("x".to_owned()), || Some(Span::from_secs(1)));
    let cookie = Cookie {
        name: "x".to_owned(),
        token: TokenKind::Sealed,
        path: "/".to_owned(),
        domain: name(),
        secure: true,
        http_only: true,
        same_site: SameSite::Lax,
        partitioned: true,
        max_age: span(),
        idle_timeout: span(),
        lifetime: span(),
        indirect: true,
        postonly: true,
    };
    let pool = Pool {
        name: "x".to_owned(),
        balance: Balance::RoundRobin,
        load_bound: Some(1.5),
        slow_start: Some(Span::from_secs(1)),
        upgrades: vec!["x".to_owned()],
        tls: Some(PoolTls { verify: false, ca: path_buf(), server_name: name(), chain: path_buf(), key: path_buf() }),
        http2: true,
        send_proxy: Some(ProxyVersion::V1),
        affinity: affinity(cookie),
        health: filled_health(),
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        retry: Retry::default(),
        names: Names { server: Some(Server("127.0.0.1:53".parse().unwrap())), ..Names::default() },
        discover: vec![filled_discover()],
        backends: vec![Backend::default()],
    };
    let listener = Listener {
        name: "x".to_owned(),
        bind: "x".to_owned(),
        protocol: Protocol::Http,
        http2: true,
        tls: Some(Tls::With(Box::new(tls()))),
        redirect: Some(Redirect::Https),
        redirect_port: 1,
        pool: name(),
        routes: vec![Route { host: name(), path: name(), pool: "x".to_owned(), affinity: false }],
        trusted_proxies: Vec::new(),
        proxy_protocol: vec!["10.0.0.0/8".parse().unwrap()],
        forwarding: Forwarding::default(),
        limits: ListenerLimits::default(),
        timeouts: ListenerTimeouts::default(),
        access_log: false,
    };
    Config {
        global: global(),
        admin: Admin { listen: "x".to_owned(), token_file: path(), tls: Some(certificate()), audit_log: path() },
        membership: Membership { source: Source::Etcd, etcd: Some(etcd()) },
        access_log: Some(AccessLog::default()),
        listeners: vec![listener],
        pools: vec![pool],
    }
}

/// As [`filled`].
fn global() -> Global {
    Global {
        workers: Workers::Auto,
        state_dir: "x".into(),
        runtime_dir: "x".into(),
        user: Some("x".to_owned()),
        keys_file: Some("/x".into()),
        memory_bytes: 1,
        drain_timeout: Span::from_secs(1),
        upgrade_timeout: Span::from_secs(1),
        sandbox: false,
    }
}

/// As [`filled`].
fn etcd() -> Etcd {
    let file = || Some("/x".into());
    Etcd {
        endpoints: vec!["x".to_owned()],
        prefix: "x".to_owned(),
        user: Some("x".to_owned()),
        password_file: file(),
        ca_file: file(),
        cert_file: file(),
        key_file: file(),
        timeout: Span::from_secs(1),
        advertise: Some("x".to_owned()),
        node: Some("x".to_owned()),
    }
}

/// As [`filled`].
fn certificate() -> Certificate {
    let file = || "/x".into();
    Certificate { chain: file(), key: file(), ocsp: Some(file()) }
}

/// As [`filled`].
fn tls() -> TlsSettings {
    let file = || "/x".into();
    TlsSettings {
        certificates: vec![certificate()],
        min_version: TlsVersion::V1_3,
        hsts: Span::from_secs(1),
        clients: ClientCertificates {
            verify: ClientVerify::Optional,
            ca: Some(file()),
            subject_header: Some("x".to_owned()),
        },
    }
}

/// The affinity of [`filled`], whatever the mode.
fn affinity(cookie: Cookie) -> Affinity {
    let name = || "x".to_owned();
    let rule = || AffinityRule { path: Some(name()), method: Some(name()), header: Some(name()), value: Some(name()) };
    Affinity {
        mode: Mode::Cookie,
        on_down: OnDown::Repin,
        on_overload: OnOverload::Stay,
        coalesce: Some(Span::from_secs(1)),
        target: Some(0.5),
        cookie,
        source_ip: SourceIp::default(),
        app_cookie: Some(AppCookie { name: name(), style: AppCookieStyle::Hash, path_parameter: Some(name()) }),
        header: Some(AffinityHeader { name: name(), style: HeaderStyle::Hash, gone_status: 404 }),
        query: Some(AffinityQuery { name: name() }),
        ignore: vec![rule()],
        force: vec![rule()],
        adopt: vec![Adopt {
            from: Some(AdoptFrom::Haproxy),
            cookie: name(),
            key: Some(Secret(name())),
            service: Some(name()),
            values: [(name(), name())].into(),
            delete: true,
            path: name(),
            domain: Some(name()),
        }],
    }
}

/// The same tables with all at its default.
fn defaults() -> Config {
    let tls = TlsSettings { certificates: vec![Certificate::default()], ..TlsSettings::default() };
    let tls = Some(Tls::With(Box::new(tls)));
    let listener = Listener { routes: vec![Route::default()], tls, ..Listener::default() };
    let affinity = Affinity {
        app_cookie: Some(AppCookie::default()),
        header: Some(AffinityHeader::default()),
        query: Some(AffinityQuery::default()),
        adopt: vec![Adopt::default()],
        ..Affinity::default()
    };
    let tls = Some(PoolTls::default());
    let (backends, discover) = (vec![Backend::default()], vec![Discover::default()]);
    let pool = Pool { affinity, tls, backends, discover, ..Pool::default() };
    let membership = Membership { etcd: Some(Etcd::default()), ..Membership::default() };
    let access_log = Some(AccessLog::default());
    let admin = Admin { tls: Some(Certificate::default()), ..Admin::default() };
    Config { admin, membership, access_log, listeners: vec![listener], pools: vec![pool], ..Config::default() }
}

/// The values of a document by table, as in `[pool.health]` and `[[pool.backend]]`, and key.
fn leaves(table: &Table, name: &str, brackets: &str, into: &mut BTreeMap<(String, String), Value>) {
    for (key, value) in table {
        let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let list = value.as_array().map_or(&[][..], Vec::as_slice);
        // A table whose keys are the user's own is one value.
        if let Some(table) = value.as_table().filter(|_| key != "values") {
            leaves(table, &inner, "[]", into);
        } else if let Some(table) = list.first().and_then(Value::as_table) {
            leaves(table, &inner, "[[]]", into);
        } else {
            let (open, close) = brackets.split_at(brackets.len() / 2);
            into.insert((format!("{open}{name}{close}"), key.clone()), value.clone());
        }
    }
}

fn leaves_of(config: &Config) -> BTreeMap<(String, String), Value> {
    let mut found = BTreeMap::new();
    leaves(&Table::try_from(config).unwrap(), "", "[]", &mut found);
    found
}

/// The default that the reference tells, by table and key.
fn reference() -> BTreeMap<(String, String), String> {
    let (mut found, mut table) = (BTreeMap::new(), String::new());
    for line in section("## Configuration reference").lines() {
        if let Some((name, _)) = line.strip_prefix("**`").and_then(|rest| rest.split_once("`**")) {
            name.clone_into(&mut table);
        } else if line.starts_with("###") {
            break;
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<_> = row.split(" | ").collect();
            let [key, _, default, _] = cells.as_slice() else { panic!("four columns: {line}") };
            let before = found.insert((table.clone(), key.trim_end_matches('`').to_owned()), (*default).to_owned());
            assert_eq!(before, None, "twice: {line}");
        }
    }
    found
}

#[test]
fn the_reference_has_every_key_with_its_default_and_no_other() {
    let (told, keys, defaults) = (reference(), leaves_of(&filled()), leaves_of(&defaults()));
    for at @ (table, key) in keys.keys() {
        let default = match defaults.get(at) {
            None => "unset".to_owned(),
            Some(Value::String(text)) if text.is_empty() => "required".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        assert_eq!(told.get(at), Some(&default), "{table} {key}");
    }
    let unknown: Vec<_> = told.keys().filter(|at| !keys.contains_key(at)).collect();
    assert!(unknown.is_empty(), "there are no such keys: {unknown:?}");
}

#[test]
fn its_configurations_are_valid() {
    let folder = Folder::new();
    let blocks: Vec<_> = README.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let file = folder.write("steadfast.toml", block);
        let outcome = Outcome::of(steadfast(["check", "--file-only", "--config", file.to_str().unwrap()]));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{block}");
    }
}

/// The words that `--help` lists under `Commands:`.
fn commands(arguments: &[&str]) -> Vec<String> {
    let help = Outcome::of(steadfast(arguments.iter().chain(&["--help"]))).stdout;
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let words = list.map(|line| line.split_whitespace().next().unwrap().to_owned());
    words.filter(|word| word != "help").collect()
}

#[test]
fn every_command_is_mentioned() {
    let (top, ctl) = (commands(&[]), commands(&["ctl"]));
    assert!(top.contains(&"run".to_owned()) && ctl.contains(&"drain".to_owned()), "{top:?} {ctl:?}");
    // The demo is what there is before anything is installed.
    let top =
        top.iter().map(|command| if command == "demo" { "-- demo".into() } else { format!("steadfast {command}") });
    for text in top.chain(ctl.iter().map(|command| format!("ctl {command}"))) {
        assert!(README.contains(&text), "`{text}` is not in README.md");
    }
}

#[test]
fn every_metric_is_listed_and_no_other() {
    let (_, list) = section("## REST").split_once("**Metrics.**").unwrap();
    let list = list.split("\n\n").nth(1).unwrap();
    let counters = Dataplane::ALL.iter().map(|count| count.name());
    let counters = counters.chain(PoolCount::ALL.iter().map(|count| count.name()));
    let counters = counters.chain(RouteCount::ALL.iter().map(|count| count.name()));
    let counters = counters.chain(BackendCount::ALL.iter().map(|count| count.name()));
    let counters = counters.chain(WorkerCount::ALL.iter().map(|count| count.name()));
    // Prometheus has all times in seconds.
    let counters: BTreeSet<_> = counters.map(|name| name.replace("_milliseconds", "_seconds")).collect();
    let told = quoted(list);
    let missing: Vec<_> = counters.iter().filter(|name| !told.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");

    let instance = Setup::shop("", [("a", "127.0.0.1:9")]).start();
    let (_, page) = instance.api_text("GET", "/metrics");
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut shown = BTreeSet::new();
    for family in families {
        let short = ["dataplane_", "worker_", "pool_", "backend_", "route_"].iter().find_map(|scope| {
            let rest = family.strip_prefix("steadfast_")?.strip_prefix(scope)?;
            Some(rest.trim_end_matches("_total"))
        });
        shown.insert(short.unwrap_or(family));
    }
    let names: BTreeSet<_> = told.into_iter().filter(|name| !name.contains('…')).collect();
    assert_eq!(names, shown);
}

#[test]
fn every_call_is_listed_and_no_other() {
    let instance = Setup::shop("", [("a", "127.0.0.1:9")]).start();
    let (status, description) = instance.api("GET", "/openapi.json", None);
    assert_eq!(status, 200);
    let paths = description["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let (mut told, mut methods) = (BTreeSet::new(), Vec::new());
    for row in section("## REST").lines().filter(|line| line.starts_with("| `")) {
        for word in quoted_in_order(row.split(" | ").next().unwrap()) {
            match word.split_once(' ') {
                Some((method, path)) => {
                    methods.push(method);
                    told.extend(methods.drain(..).map(|method| (method.to_owned(), path.to_owned())));
                }
                None => methods.push(word),
            }
        }
    }
    assert_eq!(told, calls.collect());
}

fn quoted_in_order(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_code_map_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = quoted(section("## Code map"));
    let paths: Vec<_> = map.iter().filter(|word| word.contains('/')).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        assert!(root.join(path).exists(), "there is no {path}");
    }
    for picture in README.split("![").skip(1).map(|rest| rest.split_once("](").unwrap().1.split(')').next().unwrap()) {
        let size = std::fs::metadata(root.join(picture)).unwrap_or_else(|_| panic!("there is no {picture}")).len();
        assert!(size < 150_000, "{picture} has {size} bytes");
    }
    let links = README.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap());
    for link in links {
        // As GitHub makes them: spaces become hyphens, and other signs go.
        let anchor = |line: &str| {
            let heading = line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-");
            heading.replace(|sign: char| !sign.is_alphanumeric() && sign != '-', "")
        };
        let is_it = |line: &str| line.starts_with('#') && anchor(line) == link;
        assert!(README.lines().any(is_it), "there is no heading for {link}");
    }
}
