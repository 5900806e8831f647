//! What stickiness costs a pool, as a data plane reports it beyond its counts.

use crate::status::Counts;
use serde::{Deserialize, Serialize};

/// Sessions that did not stay with their pin: how many, why, from where and to where.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Moved {
    /// `repinned` for good, `spilled` for one request, `lost` for a session that ended, `failed` for a request that was
    /// answered for a backend that its session may not leave.
    pub kind: String,
    pub cause: String,
    /// The backend that the session is or was pinned to; `null` where that is not known.
    pub from: Option<String>,
    /// The backend that served the request; `null` where none did.
    pub to: Option<String>,
    pub count: u64,
}

/// The sessions and the clients that sent most of a sample of the requests of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hot {
    /// How many requests were sampled.
    pub samples: u64,
    pub sessions: Vec<HotKey>,
    pub addresses: Vec<HotKey>,
}

/// A session key in 16 hexadecimal digits, or an address, and how many samples were of it at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    pub key: String,
    pub samples: u64,
}

/// What the clients of a route do with their markers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStats {
    pub listener: String,
    pub host: Option<String>,
    pub path: Option<String>,
    /// By the names of [`crate::counters::RouteCount`].
    pub counts: Counts,
}
