use super::{carried, client::Client, follow, marked, pace::Pace, watch::Watched};
use crate::{
    access_log::Entry,
    http1::{
        BodyLength, Limits, Method, Name, Reply, RequestHead, Status, ToBackend, Version, host, is_grpc, rewrite, text,
        upgrade,
    },
    pick::{Claim, Failure},
    worker::{Worker, is_sampled},
};
use affinity::{
    marker::{self, Found, NoPin},
    table::{PoolTable, Table},
    token::Refused,
};
use control::{
    counters::Dataplane,
    spec::{Cidr, Listener, ListenerLimits, ListenerTimeouts, Mode},
};
use std::net::{IpAddr, SocketAddr};

/// What a listener demands, as far as it is needed while a request is read.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) timeouts: ListenerTimeouts,
    pub(super) http2: bool,
    /// Bytes of a body.
    pub(super) body_limit: u64,
    /// The least bytes per second of a body that a client sends or takes; 0 where it may be as slow as it likes.
    body_rate: u32,
    /// Of one connection; 0 for as many as come.
    pub(super) requests: u32,
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
        let ListenerLimits { body_rate, requests_per_connection: requests, .. } = settings.limits;
        Some(Self { limits, timeouts: settings.timeouts, http2: settings.http2, body_limit, body_rate, requests })
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
    /// The field that tells of the client's certificate, where the client could tell of it in trailers.
    pub(super) claimed: Option<Box<str>>,
    /// The backend is to say whether it wants the body.
    pub(super) expects: bool,
    /// As many requests as may have come on its connection.
    pub(super) is_last: bool,
    pub(super) rules: Rules,
    pub(super) claim: Claim,
    /// When its head was read, in microseconds of the worker's clock.
    began: u64,
    /// What is written down of it, if anything is.
    pub(super) entry: Option<Box<Entry>>,
    /// What it is compared by, where its pool has a release.
    pub(super) watched: Option<Watched>,
    /// The protocols to which the backend may upgrade the connection.
    pub(super) upgrade: Option<Box<[u8]>>,
}

impl Request {
    /// It has its answer's status: how long ago its head was read, in microseconds. `is_ours` where no backend gave it.
    pub(super) fn answered(&self, worker: &Worker, status: u16, is_ours: bool) -> u64 {
        let now = worker.clock.micros_now();
        match &self.entry {
            Some(entry) if is_ours => entry.answered_by_us(status),
            Some(entry) => entry.answered(status, now),
            None => {}
        }
        now.saturating_sub(self.began)
    }

    /// What went wrong is written down; what went wrong after that stands instead of it.
    pub(super) fn note_failure(&self, failure: Failure) {
        if let Some(entry) = &self.entry {
            entry.failed(failure);
        }
    }

    /// Whether its connection may carry another one.
    pub(super) fn may_go_on(&self) -> bool {
        self.keep_alive && !self.is_last
    }

    /// How slowly its body may come. Both sides of a call of gRPC send when they have something to say.
    pub(super) fn upload_pace(&self) -> Pace {
        Pace::new(if self.is_grpc() { 0 } else { self.rules.body_rate }, self.rules.timeouts.body)
    }

    /// How slowly the response may be taken.
    pub(super) fn download_pace(&self) -> Pace {
        Pace::new(self.rules.body_rate, self.rules.timeouts.body)
    }

    pub(super) fn reply(&self, status: Status) -> Reply {
        let to_head = self.method == Method::Head;
        Reply { version: self.version, to_head, to_grpc: self.is_grpc(), ..Reply::closing(status) }
    }

    /// Whether it is a call of gRPC its head says, which is looked at only where that makes a difference.
    fn is_grpc(&self) -> bool {
        let label = b"\r\ncontent-type: ";
        // What of the body went in behind it is not asked.
        let end = memchr::memmem::find(&self.head, b"\r\n\r\n").unwrap_or(self.head.len());
        let at = memchr::memmem::find(&self.head[..end], label).map(|at| at + label.len());
        let rest = at.and_then(|at| self.head.get(at..end)).unwrap_or_default();
        let value = rest.split(|byte| *byte == b'\r').next().unwrap_or_default();
        is_grpc(value)
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
        return Prepared::Refused(unrouted(worker, settings, head));
    };
    let trusted = is_trusted(&settings.trusted_proxies, client.peer.ip());
    let address = if trusted { told_address(head, &settings.trusted_proxies) } else { None };
    let carried = carried::Head { head, client: address.unwrap_or(client.peer.ip()) };
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
    let upgrade = upgrade::wanted(head, &pool.settings.upgrades);
    let to = ToBackend {
        forwarding: &settings.forwarding,
        trusted,
        client_ip: &client.address_text,
        tls: client.link.stream.is_tls(),
        http2: client.link.stream.is_http2(),
        subject: client.subject(settings),
        backend_host: &settings.bind,
        hide_cookie: pool.cookie.as_ref().filter(|_| pool.settings.affinity.cookie.indirect),
        unwrap: follow::carrier(pool),
        upgrade: upgrade.as_deref(),
        unique: worker.unique.next(),
    };
    let whose = (address.map_or(client.peer, |told| SocketAddr::new(told, 0)), &client.link.stream);
    let mut out = worker.buffers.vector();
    rewrite::request(head, &to, &mut out);
    let began = worker.clock.micros_now();
    let claim = Claim::new(pool, found, fresh, sampled.then_some(carried.client), whose);
    let entry = client.entry(worker, settings, whose.0, began, head.version).map(|entry| entry.of(&pool.name, &claim));
    Prepared::Request(Request {
        head: out,
        method: head.method,
        version: head.version,
        keep_alive: head.keep_alive,
        body: head.body,
        claimed: to.subject.filter(|_| head.body == BodyLength::Chunked).map(|subject| subject.header.into()),
        expects: head.expect_continue,
        is_last: client.has_had(rules.requests),
        rules: *rules,
        began,
        entry,
        watched: Watched::begin(pool, &found, &carried),
        claim,
        upgrade,
    })
}

/// The answer to what no route leads anywhere.
fn unrouted(worker: &Worker, settings: &Listener, head: &RequestHead<'_>) -> Reply {
    if settings.redirect.is_some() {
        return redirect(worker, head, settings.redirect_port);
    }
    worker.board().count(Dataplane::NoRoute);
    refusal(head, Status::ServiceUnavailable)
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
    let to_grpc = head.fields.called(b"content-type").any(is_grpc);
    Reply { version: head.version, to_head: head.method == Method::Head, to_grpc, ..Reply::closing(status) }
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
