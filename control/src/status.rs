//! What is seen: health, and what a data plane reports of its work.

use crate::{
    cost::{Hot, Moved, RouteStats},
    latency::Latency,
    release::{By, Signal, TIMES},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What checks and traffic show. `Unknown` is usable: nothing speaks against the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    Up,
    Down,
    #[default]
    Unknown,
}

impl Health {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// What of a process's sandbox holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Sandbox {
    /// No program that is started gives it more rights.
    pub no_new_privileges: bool,
    /// Only the system calls that it needs.
    pub seccomp: bool,
    /// The version of Landlock that keeps it from writing and executing files; 0 where none does.
    pub landlock: u32,
}

/// Counter values by the names in [`crate::counters`]; what is absent is zero.
pub type Counts = BTreeMap<String, u64>;

/// A data plane's figures since it started. A backend that is absent has not changed since the report before; the first
/// report on a connection has all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Unix milliseconds.
    pub at: u64,
    /// The generation that all workers had applied when this was taken.
    pub generation: u64,
    pub dataplane: Counts,
    pub open_connections: u64,
    /// Bytes of memory that the process has.
    pub memory: u64,
    /// Beyond so many nobody new is accepted; 0 for no bound.
    pub memory_most: u64,
    /// By their numbers, from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerStats>,
    pub pools: BTreeMap<String, PoolStats>,
    /// By the names of listeners with TLS.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tls: BTreeMap<String, TlsStats>,
    /// By the names of keys; see [`KeyStats`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, KeyStats>,
}

/// What one worker has done, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStats {
    pub counts: Counts,
    pub connections: u64,
    /// Kept to backends, without a request.
    pub idle_connections: u64,
}

/// What a listener shows its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TlsStats {
    /// In the order of the configuration; empty where none could be loaded, and then nobody is served.
    pub certificates: Vec<CertificateStats>,
    /// What is wrong with the files as they are now. Those that were loaded before serve on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct CertificateStats {
    /// Those that it is for.
    pub names: Vec<String>,
    /// When it expires, in Unix seconds.
    pub not_after: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolStats {
    pub counts: Counts,
    /// Requests that wait for any backend with room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests_queued: u64,
    /// Tunnels that are open, those to removed backends too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tunnels: u64,
    pub backends: BTreeMap<String, BackendStats>,
    /// What is wrong with the files of its TLS. Where none could be loaded before, its backends can't be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_refused: Option<String>,
    /// What its release has shown; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStats>,
    /// All of it, in order; absent where it has not changed since the report before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Vec<Moved>>,
    /// Absent where nothing was sampled of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot: Option<Hot>,
    /// Of the routes that lead to the pool, those that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteStats>,
    /// Requests with a token that opens, by the names in [`TokenAge`](crate::token_age::TokenAge).
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub ages: Counts,
    /// How long responses took, by the names in [`Class`](crate::latency::Class); what was never answered is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<String, Latency>,
}

/// What a data plane has seen of a release since it began, or since the data plane started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReleaseStats {
    /// Of which release.
    pub id: u32,
    /// One for each share that was released, in hundredths of a percent and in order.
    pub stages: Vec<StageStats>,
    pub requests: By<u64>,
    /// From the request's head to the response's, in microseconds.
    pub latency: By<Quantiles>,
    /// Responses that tell of a cache, and those where it was hit.
    #[serde(default)]
    pub cached: By<u64>,
    #[serde(default)]
    pub hits: By<u64>,
    /// One session in `2^sampled` is followed.
    #[serde(default)]
    pub sampled: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
}

/// What was seen while one share was released.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageStats {
    pub share: u16,
    /// Sessions that were first seen in their cohort then.
    pub sessions: By<u64>,
    /// The released ones of them that were first sent to another backend than their own then.
    #[serde(default)]
    pub elsewhere: u64,
    /// Sessions that showed a signal for the n-th time then, each n of [`TIMES`]. A session is counted once for each.
    pub shown: BTreeMap<Signal, [By<u64>; TIMES.len()]>,
}

/// What was seen of the tokens that one key has sealed, in all pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStats {
    /// Requests with such a token that opens, by the names in [`TokenAge`](crate::token_age::TokenAge).
    pub ages: Counts,
    /// When the last of them came, in Unix seconds; absent where none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendStats {
    pub counts: Counts,
    /// Without those that have become tunnels.
    pub requests_in_flight: u64,
    /// Tunnels that are open.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tunnels: u64,
    /// Requests that wait for room at this backend.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests_queued: u64,
    /// Distinct sessions seen within the idle time; absent where the pool's affinity has no session keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_sessions: Option<u64>,
    /// How far its slow start is, 0 to 99 percent; absent where it is warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warming: Option<u8>,
    /// How long its live sessions have been there; absent where there are few, or where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ages: Option<Ages>,
}

/// The shares of the sessions that [`Ages`] tells of; the last is the oldest session.
pub const AGE_SHARES: [f64; 10] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0];

/// Ages in seconds that so large a share of the sessions has not passed, for each of [`AGE_SHARES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ages(pub [u32; AGE_SHARES.len()]);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
