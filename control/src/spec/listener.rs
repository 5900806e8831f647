use super::{Cidr, Span, Tls};
use serde::{Deserialize, Serialize};

/// An address on which clients are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    pub name: String,
    /// `address:port`.
    pub bind: String,
    pub protocol: Protocol,
    /// Whether clients may speak HTTP/2: where they agree on it over TLS, or begin with it in clear text.
    pub http2: bool,
    /// Absent where clients speak in clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Requests that match no route are sent to the same host and path elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// The port to which `redirect` sends.
    pub redirect_port: u16,
    /// Where requests go that match no route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// Peers whose forwarding fields are believed: they tell the client's address, and their lists are appended to.
    pub trusted_proxies: Vec<Cidr>,
    /// Peers that have to say whose their connections are, by the PROXY protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<Cidr>,
    pub forwarding: Forwarding,
    pub limits: ListenerLimits,
    pub timeouts: ListenerTimeouts,
    /// Whether its requests are in the access log, where there is one.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub access_log: bool,
}

const HTTPS: u16 = 443;

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: String::new(),
            bind: String::new(),
            protocol: Protocol::Http,
            http2: true,
            tls: None,
            redirect: None,
            redirect_port: HTTPS,
            pool: None,
            routes: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            forwarding: Forwarding::default(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            access_log: true,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Http,
    /// Bytes of whatever protocol.
    Tcp,
}

/// Where a listener sends its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redirect {
    /// To the same host and path over TLS, for good (308: the method stays, RFC 9110 §15.4.9).
    Https,
}

/// Host and path match of a listener, leading to a pool. The most specific host wins, then the longest path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// `shop.example.com`, `*.example.com` (any depth), or absent for every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A prefix in whole segments: `/cart` matches `/cart` and `/cart/1`, and not `/cartoon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub pool: String,
    /// Whether the pool's affinity holds; where not, each request is balanced and nothing is set.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub affinity: bool,
}

impl Default for Route {
    fn default() -> Self {
        Self { host: None, path: None, pool: String::new(), affinity: true }
    }
}

/// What backends are told about the client and by what the request is known. See [`ForwardMode`], [`IdMode`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Forwarding {
    pub x_forwarded_for: ForwardMode,
    pub x_forwarded_proto: ForwardMode,
    pub x_forwarded_host: ForwardMode,
    /// RFC 7239.
    pub forwarded: ForwardMode,
    /// The name under which `Via` is sent both ways (RFC 9110 §7.6.3); empty sends none.
    pub via: String,
    pub x_request_id: IdMode,
    /// W3C Trace Context; `tracestate` goes with it.
    pub traceparent: IdMode,
    /// How many of the traces that begin here are marked as sampled, 0 to 1.
    pub trace_share: f64,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            x_forwarded_for: ForwardMode::Append,
            x_forwarded_proto: ForwardMode::Append,
            x_forwarded_host: ForwardMode::Append,
            forwarded: ForwardMode::Off,
            via: "steadfast".to_owned(),
            x_request_id: IdMode::Keep,
            // One that is made says for all behind it whether they sample the request.
            traceparent: IdMode::Off,
            trace_share: 1.0,
        }
    }
}

/// Whether a request is given a name of its own, by which it is found in the logs of all that it passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdMode {
    /// What came is passed on where it is well-formed; where not, one is made.
    Keep,
    /// As `keep`, for trusted proxies; what anybody else sent is replaced.
    Trust,
    /// Ours alone.
    Replace,
    /// The field passes through untouched, and none is made.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardMode {
    /// Keep what a trusted proxy sent and add ours; what anybody else sent is replaced.
    Append,
    /// Ours alone.
    Replace,
    /// The field passes through untouched.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Open client connections per worker; more are closed at once.
    pub connections: u32,
    /// Those of one client address (IPv6: of one /64); trusted proxies may have as many as they like. 0 sets no limit.
    pub connections_per_address: u32,
    /// Requests on one connection, which is closed behind the last of them. 0 sets no limit.
    pub requests_per_connection: u32,
    /// TLS handshakes under way per worker; who comes on top of them is closed at once.
    pub handshakes: u32,
    /// Bytes of a request's head, 1024 to 65536: 431.
    pub head_bytes: u32,
    /// Header fields of a request, 1 to 128: 431.
    pub headers: u32,
    /// Bytes of a request's target: 414.
    pub uri_bytes: u32,
    /// Bytes of a request's body: 413. 0 sets no limit.
    pub body_bytes: u64,
    /// Bytes of body per second that a client has to send, and to take: 408, or the end. 0 sets no limit.
    pub body_rate: u32,
    /// Requests at once on an HTTP/2 connection, 1 to 10,000; more are told to wait.
    pub streams: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            connections_per_address: 10_000,
            requests_per_connection: 100_000,
            handshakes: 1_000,
            head_bytes: 16_384,
            headers: 100,
            uri_bytes: 8_192,
            body_bytes: 0,
            body_rate: 240,
            streams: 100,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// From the first byte of a request to the end of its head: 408.
    pub head: Span,
    /// A kept connection without a request.
    pub idle: Span,
    /// Without a byte of body moving from or to the client.
    pub body: Span,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self { head: Span::from_secs(10), idle: Span::from_secs(60), body: Span::from_secs(30) }
    }
}
