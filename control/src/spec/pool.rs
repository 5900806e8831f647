use super::{Affinity, Discover, Names, PoolTls, Span, upgrades::websocket_alone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// A set of backends that serve the same thing, with one affinity and one balance policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    pub name: String,
    pub balance: Balance,
    /// How many times its share of the requests in flight a backend may have, 1.05 to 10; no bound unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1.05, maximum = 10))]
    pub load_bound: Option<f64>,
    /// How long a backend that has just begun to take new sessions gets fewer of them than by its weight; not at all
    /// unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "30s"))]
    pub slow_start: Option<Span>,
    /// Protocols to which a client and a backend may upgrade a connection, as they stand in `Upgrade`; each other wish is
    /// passed over. At most 16.
    #[cfg_attr(feature = "openapi", schema(max_items = 16))]
    pub upgrades: Vec<String>,
    /// Absent where backends are spoken to in clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTls>,
    /// Whether backends are spoken to in HTTP/2: by prior knowledge in clear text, by agreement over TLS.
    pub http2: bool,
    /// In which version of the PROXY protocol backends are told whose each connection is; not at all unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_proxy: Option<ProxyVersion>,
    pub affinity: Affinity,
    pub health: HealthCheck,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub retry: Retry,
    pub names: Names,
    /// Names of which every address is a backend.
    pub discover: Vec<Discover>,
    #[serde(rename = "backend")]
    pub backends: Vec<Backend>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            name: String::new(),
            balance: Balance::default(),
            load_bound: None,
            slow_start: None,
            upgrades: websocket_alone(),
            tls: None,
            http2: false,
            send_proxy: None,
            affinity: Affinity::default(),
            health: HealthCheck::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            retry: Retry::default(),
            names: Names::default(),
            discover: Vec::new(),
            backends: Vec::new(),
        }
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    V2,
}

impl ProxyVersion {
    /// What a check says before all else: that it speaks for no client.
    pub const fn of_nobody(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}

/// How requests without a pin are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// In turn, as often as the weights say.
    #[default]
    RoundRobin,
    /// To the one with the fewest requests in flight for its weight.
    LeastRequests,
    /// The less loaded of two drawn by weight.
    P2c,
    /// Drawn by weight.
    Random,
    /// By the ring, from the session key.
    Ring,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    pub name: String,
    /// `host:port`; the host is an address or a name.
    pub address: String,
    /// 0 to 1000; 0 gets no new sessions.
    #[cfg_attr(feature = "openapi", schema(maximum = 1000))]
    pub weight: u32,
    /// It gets new sessions only while none of the others can take any: they are down, draining or in maintenance.
    pub backup: bool,
}

impl Default for Backend {
    fn default() -> Self {
        Self { name: String::new(), address: String::new(), weight: 1, backup: false }
    }
}

/// Active checks by the admin process, passive marks by the workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    pub check: Check,
    /// Time between two checks of a backend, with up to a tenth of jitter. At least `100ms`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "2s"))]
    pub interval: Span,
    pub timeout: Span,
    /// Successes in a row that make a backend `up`. At least 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub rise: u32,
    /// Failures in a row that make a backend `down`. At least 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub fall: u32,
    /// What an `http` check asks for.
    pub path: String,
    /// The `Host` of an `http` check; the backend's address unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The service that a `grpc` check asks after, at most 127 bytes; the whole server unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 127))]
    pub service: Option<String>,
    /// The status that an `http` check wants.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "200-399"))]
    pub expect: StatusRange,
    /// The field of an `http` check's answer that names the instance: where another one answers than before, the backend
    /// has begun a new life and the sessions of the old one are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_header: Option<String>,
    /// Where no backend is usable, use those that are `down` rather than answer 503.
    pub fail_open: bool,
    /// With `fail_open`: where fewer than this share of the active backends is not `down`, health counts no more, so that
    /// the few that are left are not buried under the load of all. 0 to 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub fail_open_below: f64,
    pub passive: Passive,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            check: Check::default(),
            interval: Span::from_secs(2),
            timeout: Span::from_secs(1),
            rise: 2,
            fall: 3,
            path: "/".to_owned(),
            host: None,
            service: None,
            expect: StatusRange { first: 200, last: 399 },
            instance_header: None,
            fail_open: false,
            fail_open_below: 0.0,
            passive: Passive::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    #[default]
    Tcp,
    Http,
    /// Asks `grpc.health.v1.Health`, over HTTP/2.
    Grpc,
    Off,
}

/// What real traffic says of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Passive {
    /// Failed connects or resets in a row that make a backend `down`; 0 turns passive marks off.
    pub failures: u32,
    /// How long such a mark holds where no active check takes it back.
    pub hold: Span,
}

impl Default for Passive {
    fn default() -> Self {
        Self { failures: 3, hold: Span::from_secs(10) }
    }
}

/// A range of response statuses, `"200"` or `"200-399"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
}

impl StatusRange {
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(D::Error::custom(format!(
                "`{text}` is not a status or a range of them: write \"200\" or \"200-399\""
            ))),
        }
    }
}

/// Limits of time towards backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    pub connect: Span,
    /// From the whole request sent to the response's head.
    pub response: Span,
    /// Without a byte of body moving.
    pub body: Span,
    /// How long an idle backend connection is kept.
    pub idle: Span,
    /// Without a byte moving in a tunnel, as that of a WebSocket.
    pub tunnel: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::from_secs(3),
            response: Span::from_secs(60),
            body: Span::from_secs(60),
            idle: Span::from_secs(30),
            tunnel: Span::from_secs(60 * 60),
        }
    }
}

/// What each backend of a pool bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Idle connections kept to each backend by each worker.
    pub idle_connections: u32,
    /// Requests at each backend at a time, of all workers together; 0 sets no limit. What a pinned session does beyond it
    /// is `on_overload`; others go to a backend that has room.
    pub requests: u32,
    /// How many requests may wait for each backend, and as many for any of them; 0 lets none wait: 503.
    pub queue: u32,
    /// How long they wait at most: 503.
    pub queue_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle_connections: 256, requests: 0, queue: 1_024, queue_timeout: Span::from_secs(10) }
    }
}

/// When a request that cannot have been processed is tried at another backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Further attempts for one request, 0 to 10.
    #[cfg_attr(feature = "openapi", schema(maximum = 10))]
    pub attempts: u32,
    /// Retries as a share of the pool's requests, 0 to 1; ten in a burst are always allowed.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub budget: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2, budget: 0.2 }
    }
}
