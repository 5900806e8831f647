//! Every mistake of a configuration at once, each with where it is and what would be right.

pub mod adopt;
pub mod etcd;
pub mod modes;
mod names;
mod tcp;
mod tls;
mod upgrades;

use crate::{
    config::{Config, Source},
    endpoint::Endpoint,
    spec::{Backend, Check, Listener, OnOverload, Pool, SameSite, TokenKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

/// Where in a document, from its root: `pool[0].backend[1].address`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// RFC 6901, as REST problems name fields: `/backend/1/address`.
    pub fn to_pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.0 {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One mistake: where, what is wrong, what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: Path,
    pub wrong: String,
    pub right: String,
}

impl fmt::Display for Problem {
    /// One line, whatever the document had in its keys and values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, wrong, right } = self;
        if !path.0.is_empty() {
            write_line(&format!("{path}: "), f)?;
        }
        write_line(wrong, f)?;
        if right.is_empty() { Ok(()) } else { write_line(&format!("; {right}"), f) }
    }
}

/// Line ends and other control characters as they are written in a quoted string.
fn write_line(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().try_for_each(|c| if is_plain(c) { write!(f, "{c}") } else { write!(f, "{}", c.escape_debug()) })
}

/// The longest name of a listener, pool or backend, in bytes.
pub const MAX_NAME: usize = 128;
/// The heaviest backend.
pub const MAX_WEIGHT: u32 = 1_000;
/// The most backends of one pool: an owner in the ring is a `u16`, one value of which means none.
pub const MAX_BACKENDS: usize = 65_535;

struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn wrong(&mut self, path: Path, wrong: impl Into<String>, right: impl Into<String>) {
        self.problems.push(Problem { path, wrong: wrong.into(), right: right.into() });
    }

    fn require(&mut self, holds: bool, path: Path, wrong: impl Into<String>, right: impl Into<String>) {
        if !holds {
            self.wrong(path, wrong, right);
        }
    }

    fn name(&mut self, path: Path, name: &str) {
        let right = format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
        if name.is_empty() {
            self.wrong(path, "is missing", right);
        } else if !is_name(name) {
            self.wrong(path, format!("`{}` is not a name", name.escape_debug()), right);
        }
    }

    fn distinct<'a>(&mut self, list: &Path, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeMap::new();
        for (index, name) in names.enumerate() {
            match seen.get(name) {
                Some(first) if !name.is_empty() => {
                    let wrong = format!("`{name}` is taken by {list}[{first}]");
                    self.wrong(list.index(index).key("name"), wrong, "give each a name of its own");
                }
                _ => drop(seen.insert(name, index)),
            }
        }
    }
}

/// Whether `name` may name a listener, a pool or a backend: it stands in URLs, metrics, plain tokens and logs as it is.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !matches!(name, "." | "..")
}

/// All that is wrong with a configuration; empty where nothing is.
pub fn config(config: &Config) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new() };
    let root = Path::default();
    admin(&mut checker, config);
    etcd::membership(&mut checker, &config.membership);
    let listeners = root.key("listener");
    checker.distinct(&listeners, config.listeners.iter().map(|listener| listener.name.as_str()));
    let pools: BTreeSet<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    let mut binds = BTreeMap::new();
    for (index, each) in config.listeners.iter().enumerate() {
        let path = listeners.index(index);
        listener(&mut checker, &path, each, &pools);
        if let Some(first) =
            binds.insert(each.bind.as_str(), index).filter(|_| !each.bind.is_empty() && !each.bind.ends_with(":0"))
        {
            let wrong = format!("`{}` is bound by listener[{first}] already", each.bind);
            checker.wrong(path.key("bind"), wrong, "bind each listener to an address of its own");
        }
    }
    let list = root.key("pool");
    checker.distinct(&list, config.pools.iter().map(|pool| pool.name.as_str()));
    for (index, each) in config.pools.iter().enumerate() {
        checker.name(list.index(index).key("name"), &each.name);
        pool_at(&mut checker, &list.index(index), each);
        let stored = config.membership.source != Source::File || each.health.instance_header.is_none();
        let at = list.index(index).key("health").key("instance_header");
        let right = "leave it out, or set membership.source = \"api\"";
        checker.require(stored, at, "with the file as the source nothing keeps which instance was there", right);
    }
    tcp::pools(&mut checker, config);
    access_log(&mut checker, config);
    checker.problems
}

/// That a pool finds the sessions of the clients of these listeners, which lead to it: those of plain TCP carry none but their address.
pub fn pool_of<'l>(pool: &Pool, listeners: impl IntoIterator<Item = &'l Listener>) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new() };
    if let Some(listener) = listeners.into_iter().find(|listener| tcp::passes_on(listener, pool)) {
        tcp::suits(&mut checker, &Path::default(), pool, &listener.name);
    }
    checker.problems
}

/// All that is wrong with a pool from a request body; its name is checked by whoever took it from the URL.
pub fn pool(pool: &Pool) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new() };
    pool_at(&mut checker, &Path::default(), pool);
    checker.problems
}

/// All that is wrong with a backend from a request body; its name is checked by whoever took it from the URL.
pub fn backend(backend: &Backend) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new() };
    backend_at(&mut checker, &Path::default(), backend);
    checker.problems
}

fn admin(checker: &mut Checker, config: &Config) {
    let at = Path::default().key("admin");
    if let Some(tls) = &config.admin.tls {
        let at = at.key("tls");
        for (key, file) in [("chain", &tls.chain), ("key", &tls.key)] {
            checker.require(!file.as_os_str().is_empty(), at.key(key), "is missing", "name a PEM file");
        }
        let is_tcp = !config.admin.listen.starts_with("unix:");
        checker.require(is_tcp, at, "is for a TCP address", "remove it: nobody listens in on a Unix socket");
    }
    let path = at.key("listen");
    let listen = &config.admin.listen;
    if let Some(socket) = listen.strip_prefix("unix:") {
        checker.require(!socket.is_empty(), path, "names no path", "write \"unix:/run/steadfast/admin.sock\"");
        return;
    }
    match listen.parse::<SocketAddr>() {
        Err(_) => checker.wrong(
            path,
            format!("`{listen}` is not an address"),
            "write \"127.0.0.1:9090\", or \"unix:PATH\" for a Unix socket",
        ),
        Ok(address) if !address.ip().is_loopback() && config.admin.token_file.is_none() => checker.wrong(
            path,
            format!("`{listen}` is not a loopback address and no token is set"),
            "set admin.token_file to a file with a bearer token, or listen on 127.0.0.1 or a Unix socket",
        ),
        Ok(_) => {}
    }
}

fn listener(checker: &mut Checker, path: &Path, listener: &Listener, pools: &BTreeSet<&str>) {
    checker.name(path.key("name"), &listener.name);
    let right = "write address and port, as in \"0.0.0.0:80\" or \"[::]:80\"";
    if listener.bind.is_empty() {
        checker.wrong(path.key("bind"), "is missing", right);
    } else if listener.bind.parse::<SocketAddr>().is_err() {
        checker.wrong(path.key("bind"), format!("`{}` is not an address with a port", listener.bind), right);
    }
    let mut leads_to = |path: Path, pool: &str| {
        if pool.is_empty() {
            checker.wrong(path, "is missing", "name the pool that it leads to");
        } else if !pools.contains(pool) {
            checker.wrong(path, format!("there is no pool `{pool}`"), known(pools));
        }
    };
    if let Some(pool) = &listener.pool {
        leads_to(path.key("pool"), pool);
    }
    for (index, route) in listener.routes.iter().enumerate() {
        leads_to(path.key("route").index(index).key("pool"), &route.pool);
    }
    tls::tls(checker, path, listener);
    tls::redirect(checker, path, listener);
    tcp::listener(checker, path, listener);
    if listener.pool.is_none() && listener.routes.is_empty() && listener.redirect.is_none() {
        checker.wrong(path.clone(), "leads nowhere", "set `pool`, or add a [[listener.route]]");
    }
    routes(checker, path, listener);
    listener_limits(checker, path, listener);
}

fn known(pools: &BTreeSet<&str>) -> String {
    if pools.is_empty() {
        return "add a [[pool]] of that name".to_owned();
    }
    let names: Vec<_> = pools.iter().take(8).map(|name| format!("`{name}`")).collect();
    format!("the pools are {}", names.join(", "))
}

fn routes(checker: &mut Checker, path: &Path, listener: &Listener) {
    let mut seen = BTreeMap::new();
    for (index, route) in listener.routes.iter().enumerate() {
        let at = path.key("route").index(index);
        if let Some(host) = &route.host {
            let right = "write \"shop.example.com\" or \"*.example.com\", without a port";
            checker.require(is_host_match(host), at.key("host"), format!("`{host}` is not a host"), right);
        }
        if let Some(prefix) = &route.path {
            let holds = prefix.starts_with('/') && prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            checker.require(holds, at.key("path"), format!("`{prefix}` is not a path"), "begin it with `/`");
        }
        let host = route.host.as_deref().map(str::to_ascii_lowercase);
        let prefix =
            route.path.as_deref().map(|path| path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty());
        if let Some(first) = seen.insert((host, prefix), index) {
            let wrong = format!("matches what {path}.route[{first}] matches");
            checker.wrong(at, wrong, "remove one of them, or make their host or path differ");
        }
    }
}

fn is_host_match(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

fn listener_limits(checker: &mut Checker, path: &Path, listener: &Listener) {
    let limits = &listener.limits;
    let at = path.key("limits");
    let head = limits.head_bytes;
    checker.require(
        (1_024..=65_536).contains(&head),
        at.key("head_bytes"),
        format!("{head} is out of range"),
        "write 1024 to 65536",
    );
    let headers = limits.headers;
    checker.require(
        (1..=128).contains(&headers),
        at.key("headers"),
        format!("{headers} is out of range"),
        "write 1 to 128",
    );
    let uri = limits.uri_bytes;
    checker.require(
        (1..=head).contains(&uri),
        at.key("uri_bytes"),
        format!("{uri} is out of range"),
        format!("write 1 to head_bytes, which is {head}"),
    );
    let streams = limits.streams;
    checker.require(
        (1..=10_000).contains(&streams),
        at.key("streams"),
        format!("{streams} is out of range"),
        "write 1 to 10000",
    );
    checker.require(limits.connections > 0, at.key("connections"), "0 lets nobody in", "write at least 1");
    checker.require(limits.handshakes > 0, at.key("handshakes"), "0 lets nobody in", "write at least 1");
    let timeouts =
        [("head", listener.timeouts.head), ("idle", listener.timeouts.idle), ("body", listener.timeouts.body)];
    positive(checker, &path.key("timeouts"), &timeouts);
    let via = &listener.forwarding.via;
    let token = via.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    let right = "write a token such as \"steadfast\", or \"\" to send no Via";
    checker.require(
        token,
        path.key("forwarding").key("via"),
        format!("`{}` is not a token", via.escape_debug()),
        right,
    );
    let share = listener.forwarding.trace_share;
    checker.require(
        (0.0..=1.0).contains(&share),
        path.key("forwarding").key("trace_share"),
        format!("{share} is out of range"),
        "write 0.0 to 1.0: how many of the traces that begin here are sampled",
    );
}

fn access_log(checker: &mut Checker, config: &Config) {
    let Some(log) = &config.access_log else { return };
    let queue = log.queue_bytes;
    checker.require(
        (65_536..=1 << 30).contains(&queue),
        Path::default().key("access_log").key("queue_bytes"),
        format!("{queue} is out of range"),
        "write 65536 to 1073741824: what each worker may hold of lines that are not written yet",
    );
}

fn positive(checker: &mut Checker, path: &Path, spans: &[(&str, crate::spec::Span)]) {
    for (key, span) in spans {
        let right = "write a time above zero, as in \"10s\"";
        checker.require(span.as_millis() > 0, path.key(key), "must be above zero", right);
    }
}

fn pool_at(checker: &mut Checker, path: &Path, pool: &Pool) {
    affinity(checker, path, pool);
    upgrades::upgrades(checker, path, pool);
    names::names(checker, path, pool);
    let at = path.key("send_proxy");
    let shared = !pool.http2 || pool.send_proxy.is_none();
    checker.require(shared, at, "is about connections of one client, and http2 shares them", "leave one of them out");
    tls::pool(checker, path, pool);
    load(checker, path, pool);
    health(checker, path, pool);
    let timeouts = &pool.timeouts;
    let spans = [
        ("connect", timeouts.connect),
        ("response", timeouts.response),
        ("body", timeouts.body),
        ("idle", timeouts.idle),
        ("tunnel", timeouts.tunnel),
    ];
    positive(checker, &path.key("timeouts"), &spans);
    let retry = path.key("retry");
    let (attempts, budget) = (pool.retry.attempts, pool.retry.budget);
    checker.require(attempts <= 10, retry.key("attempts"), format!("{attempts} is out of range"), "write 0 to 10");
    let right = "write a share from 0.0 to 1.0";
    checker.require((0.0..=1.0).contains(&budget), retry.key("budget"), format!("{budget} is out of range"), right);
    let list = path.key("backend");
    checker.distinct(&list, pool.backends.iter().map(|backend| backend.name.as_str()));
    let count = pool.backends.len();
    checker.require(
        count <= MAX_BACKENDS,
        list.clone(),
        format!("{count} backends are too many"),
        format!("at most {MAX_BACKENDS}"),
    );
    for (index, each) in pool.backends.iter().enumerate() {
        checker.name(list.index(index).key("name"), &each.name);
        backend_at(checker, &list.index(index), each);
    }
}

/// What holds load back, and that it is not for nothing.
fn load(checker: &mut Checker, path: &Path, pool: &Pool) {
    if let Some(bound) = pool.load_bound {
        let right = "write 1.05 to 10.0, as in 1.5";
        let holds = (1.05..=10.0).contains(&bound);
        checker.require(holds, path.key("load_bound"), format!("{bound} is out of range"), right);
    }
    positive(checker, path, &pool.slow_start.map(|span| ("slow_start", span)).into_iter().collect::<Vec<_>>());
    let limits = path.key("limits");
    positive(checker, &limits, &[("queue_timeout", pool.limits.queue_timeout)]);
    let on_overload = path.key("affinity").key("on_overload");
    let limited = pool.limits.requests > 0;
    let (holds, value, right) = match pool.affinity.on_overload {
        OnOverload::Stay => return,
        OnOverload::Queue => {
            (limited && pool.limits.queue > 0, "queue", "set limits.requests, and limits.queue above 0")
        }
        OnOverload::Spill => (limited || pool.load_bound.is_some(), "spill", "set load_bound or limits.requests"),
    };
    checker.require(holds, on_overload, format!("`{value}` never comes to pass without a limit"), right);
}

fn backend_at(checker: &mut Checker, path: &Path, backend: &Backend) {
    let right = "write \"host:port\", as in \"10.0.0.7:8080\", \"[fd00::7]:8080\" or \"app-1.internal:8080\"; or \
                 \"unix:/run/app.sock\"";
    if backend.address.is_empty() {
        checker.wrong(path.key("address"), "is missing", right);
    } else if !is_address(&backend.address) {
        checker.wrong(path.key("address"), format!("`{}` is not an address", backend.address.escape_debug()), right);
    }
    let weight = backend.weight;
    let right = format!("write 0 to {MAX_WEIGHT}");
    checker.require(weight <= MAX_WEIGHT, path.key("weight"), format!("{weight} is out of range"), right);
}

/// `host:port` with a port above 0; the host an IP address (IPv6 in brackets) or a name. Or `unix:` with a socket's path.
fn is_address(address: &str) -> bool {
    if Endpoint::is_unix(address) {
        return address.parse::<Endpoint>().is_ok();
    }
    if let Ok(address) = address.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let port_holds =
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
        // What looks like an IPv4 address but isn't one (`10.0.0.256`) is a slip and no name.
        let numeric = host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        port_holds && is_host_match(host) && !host.starts_with("*.") && !numeric && host.len() <= 253
    })
}

fn affinity(checker: &mut Checker, path: &Path, pool: &Pool) {
    let at = path.key("affinity");
    let source_ip = pool.affinity.source_ip;
    for (key, prefix, width) in
        [("ipv4_prefix", source_ip.ipv4_prefix, 32), ("ipv6_prefix", source_ip.ipv6_prefix, 128)]
    {
        let wrong = format!("{prefix} is out of range");
        checker.require(prefix <= width, at.key("source_ip").key(key), wrong, format!("write 0 to {width}"));
    }
    modes::modes(checker, &at, &pool.affinity);
    adopt::adopt(checker, &at, &pool.affinity);
    let cookie = &pool.affinity.cookie;
    let at = at.key("cookie");
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name_holds = (1..=MAX_NAME).contains(&cookie.name.len()) && cookie.name.bytes().all(token);
    let wrong = format!("`{}` is not a cookie name", cookie.name.escape_debug());
    checker.require(name_holds, at.key("name"), wrong, "write letters, digits, `-` or `_`, as in \"lb-affinity\"");
    let attribute = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    let path_holds = cookie.path.starts_with('/') && attribute(&cookie.path);
    checker.require(
        path_holds,
        at.key("path"),
        format!("`{}` is not a path", cookie.path.escape_debug()),
        "begin it with `/`",
    );
    if let Some(domain) = &cookie.domain {
        let holds = is_host_match(domain.strip_prefix('.').unwrap_or(domain)) && !domain.contains('*');
        checker.require(holds, at.key("domain"), format!("`{domain}` is not a domain"), "write \"example.com\"");
    }
    cookie_safety(checker, &at, cookie);
    for (key, span) in
        [("max_age", cookie.max_age), ("idle_timeout", cookie.idle_timeout), ("lifetime", cookie.lifetime)]
    {
        let holds = span.is_none_or(|span| span.as_millis() >= 1_000);
        checker.require(holds, at.key(key), "is under a second", "write at least \"1s\", or leave it out");
    }
    let timed = [("idle_timeout", cookie.idle_timeout), ("lifetime", cookie.lifetime)];
    for (key, _) in timed.iter().filter(|(_, span)| span.is_some() && cookie.token == TokenKind::Plain) {
        let right = "set token = \"sealed\", or leave it out";
        checker.wrong(at.key(key), "can't be held with plain tokens, which carry no time", right);
    }
}

/// Combinations that browsers answer by dropping the cookie: the session would silently not stick.
fn cookie_safety(checker: &mut Checker, at: &Path, cookie: &crate::spec::Cookie) {
    if cookie.secure {
        return;
    }
    let secure = at.key("secure");
    let right = "set secure = true (and serve over TLS)";
    checker.require(
        cookie.same_site != SameSite::None,
        secure.clone(),
        "browsers drop a SameSite=None cookie without Secure",
        right,
    );
    checker.require(!cookie.partitioned, secure.clone(), "browsers drop a Partitioned cookie without Secure", right);
    let prefixed = cookie.name.starts_with("__Secure-") || cookie.name.starts_with("__Host-");
    checker.require(!prefixed, secure, "browsers drop a __Secure- or __Host- cookie without Secure", right);
}

fn health(checker: &mut Checker, path: &Path, pool: &Pool) {
    let at = path.key("health");
    let health = &pool.health;
    let interval = health.interval.as_millis() >= 100;
    checker.require(
        interval,
        at.key("interval"),
        format!("{} is too short", health.interval),
        "write at least \"100ms\"",
    );
    positive(checker, &at, &[("timeout", health.timeout)]);
    let below = health.fail_open_below;
    let right = "write a share from 0.0 to 1.0";
    let wrong = format!("{below} is out of range");
    checker.require((0.0..=1.0).contains(&below), at.key("fail_open_below"), wrong, right);
    let holds = below == 0.0 || health.fail_open;
    checker.require(holds, at.key("fail_open_below"), "never comes to pass without fail_open", "set fail_open = true");
    checker.require(health.rise > 0, at.key("rise"), "0 is out of range", "write at least 1");
    checker.require(health.fall > 0, at.key("fall"), "0 is out of range", "write at least 1");
    let path_holds = health.path.starts_with('/') && health.path.bytes().all(|byte| byte.is_ascii_graphic());
    checker.require(
        path_holds,
        at.key("path"),
        format!("`{}` is not a path", health.path.escape_debug()),
        "begin it with `/`",
    );
    if let Some(host) = &health.host {
        let bytes = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        checker.require(
            bytes,
            at.key("host"),
            format!("`{}` is not a host", host.escape_debug()),
            "write \"shop.example.com\"",
        );
    }
    if let Some(service) = &health.service {
        let at = at.key("service");
        let holds = (1..=127).contains(&service.len()) && service.bytes().all(|byte| byte.is_ascii_graphic());
        let wrong = format!("`{}` is not the name of a service", service.escape_debug());
        checker.require(holds, at.clone(), wrong, "write one such as \"shop.v1.Carts\", of at most 127 bytes");
        let right = "set check = \"grpc\", or leave it out";
        checker.require(health.check == Check::Grpc, at, "only a `grpc` check asks after a service", right);
    }
    if let Some(field) = &health.instance_header {
        let at = at.key("instance_header");
        let wrong = format!("`{}` is not a field's name", field.escape_debug());
        checker.require(is_token(field), at.clone(), wrong, "write a name such as \"X-Instance\"");
        let right = "set check = \"http\", or leave it out";
        checker.require(health.check == Check::Http, at, "only the answer to an `http` check has fields", right);
    }
    positive(checker, &at.key("passive"), &[("hold", health.passive.hold)]);
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let holds = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(holds)
}
