//! What stickiness costs a pool, as a data plane reports it beyond its counts.

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
