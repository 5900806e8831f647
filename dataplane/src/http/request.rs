use super::{carried, client::Client, follow, marked, watch::Watched};
use crate::{
    http1::{
        BodyLength, Limits, Method, Name, Reply, RequestHead, Status, ToBackend, Version, host, rewrite, text, upgrade,
    },
    worker::{Worker, is_sampled},
};
use affinity::{
    choose::Pin,
    marker::{self, Found, NoPin},
    table::{PoolTable, Table},
    token::Refused,
};
use control::{
    counters::Dataplane,
    spec::{Cidr, Limits as BackendLimits, ListenerTimeouts, Mode, Retry, Timeouts},
};
use std::net::IpAddr;

/// What a listener demands, as far as it is needed while a request is read.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) timeouts: ListenerTimeouts,
    body_limit: u64,
}

impl Rules {
    pub(super) fn of(worker: &Worker, listener: usize) -> Option<Self> {
        let at = worker.listener_at(listener)?;
        let table = worker.table.borrow();
        let settings = &table.listeners[at].settings;
        let limits = Limits {
            // What came with a reload is held to the memory there is.
            head: (settings.limits.head_bytes as usize).min(worker.buffers.size()),
            headers: settings.limits.headers as usize,
            uri: settings.limits.uri_bytes as usize,
        };
        let body_limit = if settings.limits.body_bytes == 0 { u64::MAX } else { settings.limits.body_bytes };
        Some(Self { limits, timeouts: settings.timeouts, body_limit })
    }
}

/// A request whose head has been read, as far as it still matters.
pub(super) struct Request {
    /// The head as it goes to the backend, and as much of the body as went in behind it.
    pub(super) head: Vec<u8>,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) body: BodyLength,
    pub(super) body_limit: u64,
    pub(super) client_timeouts: ListenerTimeouts,
    pub(super) pool: PoolRules,
    pub(super) found: Found,
    /// The slot of the pinned backend, by which it is found again in another table.
    pub(super) pinned: Option<u32>,
    /// What it is compared by, where its pool has a release.
    pub(super) watched: Option<Watched>,
    /// The key of a session that begins with it: a random number, unless the pool coalesces first requests.
    pub(super) fresh: u64,
    /// The client's address, where this request is of the sample.
    pub(super) sampled: Option<IpAddr>,
    /// The protocols to which the backend may upgrade the connection.
    pub(super) upgrade: Option<Box<[u8]>>,
}

/// What a pool demands of an exchange, taken from the table that routed it.
#[derive(Clone, Copy)]
pub(super) struct PoolRules {
    pub(super) slot: u32,
    pub(super) timeouts: Timeouts,
    pub(super) retry: Retry,
    pub(super) limits: BackendLimits,
    /// What a client is told when nobody can serve it, in seconds: by then checks may have found somebody.
    pub(super) retry_after: u32,
    /// What a client is told whose session is gone and can't move.
    pub(super) gone: Status,
    pub(super) passive_failures: u32,
    pub(super) passive_hold: control::spec::Span,
}

impl PoolRules {
    fn of(pool: &PoolTable) -> Self {
        let settings = &pool.settings;
        Self {
            slot: pool.slot,
            timeouts: settings.timeouts,
            retry: settings.retry,
            limits: settings.limits,
            retry_after: (settings.health.interval.as_secs_u32().saturating_mul(settings.health.rise)).clamp(1, 3_600),
            gone: settings.affinity.header.as_ref().map_or(Status::NotFound, |header| gone(header.gone_status)),
            passive_failures: settings.health.passive.failures,
            passive_hold: settings.health.passive.hold,
        }
    }
}

/// A checked configuration has these alone.
fn gone(status: u16) -> Status {
    match status {
        400 => Status::BadRequest,
        410 => Status::Gone,
        503 => Status::ServiceUnavailable,
        _ => Status::NotFound,
    }
}

#[expect(clippy::large_enum_variant, reason = "taken apart at once; a box would cost an allocation per request")]
pub(super) enum Prepared {
    Request(Request),
    Refused(Reply),
}

/// Decides all that a head decides: the pool, the pin, and what the backend will be sent.
pub(super) fn prepare(
    worker: &Worker,
    client: &Client,
    listener: usize,
    rules: &Rules,
    head: &RequestHead<'_>,
) -> Prepared {
    worker.catch_up();
    worker.board().count(Dataplane::Requests);
    let refuse = |status| Prepared::Refused(refusal(head, status));
    if matches!(head.body, BodyLength::Length(length) if length > rules.body_limit) {
        worker.board().count(Dataplane::BadRequests);
        return refuse(Status::ContentTooLarge);
    }
    let table = worker.table.borrow();
    let Some(at) = worker.listener_at(listener) else { return refuse(Status::ServiceUnavailable) };
    let listener = &table.listeners[at];
    let settings = &listener.settings;
    let name = head.host.map_or(&b""[..], host::without_port);
    let lead = listener.router.find(name, head.target.path());
    let Some((pool, lead)) = lead.and_then(|lead| Some((table.pools.get(lead.pool as usize)?, lead))) else {
        if settings.redirect.is_some() {
            return Prepared::Refused(redirect(worker, head, settings.redirect_port));
        }
        worker.board().count(Dataplane::NoRoute);
        return refuse(Status::ServiceUnavailable);
    };
    let trusted = is_trusted(&settings.trusted_proxies, client.address);
    let address = if trusted { told_address(head, &settings.trusted_proxies) } else { None };
    let carried = carried::Head { head, client: address.unwrap_or(client.address) };
    let random = worker.clock.random();
    let fresh = marker::fresh_key(pool, &carried, worker.clock.unix(), random);
    let found = match lead.affinity {
        true => find(worker, &table, pool, &carried, fresh),
        false => Found::free(fresh),
    };
    let own = client.marked == Some(pool.slot) && !trusted;
    marked::count(worker, &table, &marked::Came { pool, lead, carried: &carried, found: &found, own });
    // Not by the fresh key, which follows from the client where first requests are coalesced.
    let sampled = is_sampled(random) && pool.settings.affinity.mode != Mode::None;
    let cookie = &pool.settings.affinity.cookie;
    let upgrade = upgrade::wanted(head, &pool.settings.upgrades);
    let to = ToBackend {
        forwarding: &settings.forwarding,
        trusted,
        client_ip: &client.address_text,
        tls: client.link.stream.is_tls(),
        subject: client.subject(settings),
        backend_host: &settings.bind,
        hide_cookie: pool.cookie.as_ref().filter(|_| cookie.indirect),
        unwrap: follow::carrier(pool),
        upgrade: upgrade.as_deref(),
    };
    let mut out = worker.buffers.vector();
    rewrite::request(head, &to, &mut out);
    Prepared::Request(Request {
        head: out,
        method: head.method,
        version: head.version,
        keep_alive: head.keep_alive,
        body: head.body,
        body_limit: rules.body_limit,
        client_timeouts: rules.timeouts,
        pool: PoolRules::of(pool),
        pinned: slot_of(pool, found.pin),
        watched: Watched::begin(worker, pool, &found, &carried),
        found,
        fresh,
        sampled: sampled.then_some(carried.client),
        upgrade,
    })
}

/// Sends the client to the same host and path over TLS.
fn redirect(worker: &Worker, head: &RequestHead<'_>, port: u16) -> Reply {
    let Some(host) = head.host.map(host::without_port) else {
        worker.board().count(Dataplane::BadRequests);
        return refusal(head, Status::BadRequest);
    };
    worker.board().count(Dataplane::Redirected);
    let (slash, rest) = head.target.origin();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let location = [b"https://", host, port.as_bytes(), slash, rest].concat();
    Reply {
        // What is not read of a body is no request.
        keep_alive: head.keep_alive && head.body == BodyLength::None && !worker.is_draining(),
        location: Some(location.into()),
        ..refusal(head, Status::PermanentRedirect)
    }
}

fn refusal(head: &RequestHead<'_>, status: Status) -> Reply {
    Reply { version: head.version, to_head: head.method == Method::Head, ..Reply::closing(status) }
}

/// Reads the pin. Whose a token is that this pool did not seal is asked of the others.
fn find(worker: &Worker, table: &Table, pool: &PoolTable, carried: &carried::Head<'_, '_>, fresh: u64) -> Found {
    let now = worker.clock.unix();
    let mut found = marker::find(pool, carried, now, fresh);
    if found.refused == Some(NoPin::Refused(Refused::BadMac))
        && marker::is_of_another(pool, table.pools.iter().map(AsRef::as_ref), carried, now)
    {
        found.refused = Some(NoPin::OtherPool);
    }
    found
}

impl Request {
    /// The slot of the backend that its marker names, be it a pin or not.
    pub(super) fn was_at(&self) -> Option<u32> {
        self.pinned.or(self.found.was_at)
    }
}

fn slot_of(pool: &PoolTable, pin: Pin) -> Option<u32> {
    match pin {
        Pin::At { backend, .. } => Some(pool.backends[usize::from(backend)].slot),
        Pin::Absent | Pin::Gone | Pin::Hashed | Pin::Unreadable | Pin::Free => None,
    }
}

fn is_trusted(proxies: &[Cidr], address: IpAddr) -> bool {
    proxies.iter().any(|range| range.contains(address))
}

/// The client's address as trusted proxies tell it: the last one in `X-Forwarded-For` that is not such a proxy itself.
fn told_address(head: &RequestHead<'_>, proxies: &[Cidr]) -> Option<IpAddr> {
    let mut told = None;
    for element in head.fields.values(Name::XForwardedFor).flat_map(text::list) {
        let address = std::str::from_utf8(element).ok().and_then(address_of);
        match address {
            Some(address) if is_trusted(proxies, address) => told = told.or(Some(address)),
            // What stands before something unreadable can't be believed.
            address => told = address,
        }
    }
    told
}

/// An address as it stands in `X-Forwarded-For`: some proxies add brackets and a port.
fn address_of(element: &str) -> Option<IpAddr> {
    let bare = element.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(element);
    let address =
        bare.parse().ok().or_else(|| element.parse::<std::net::SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}
