//! What an operator writes: listeners and pools, the same shape in the TOML file and in REST bodies.
//!
//! Each type has a default for every field, so that a missing required field is found by [`crate::check`] together with
//! all other mistakes and not by the first parse error.

mod adopt;
mod affinity;
mod key;
mod listener;
mod names;
mod net;
mod pool;
mod session;
mod span;
mod tls;
mod upgrades;

pub use adopt::{Adopt, AdoptFrom, Secret, with_secrets_of, without_secrets};
pub use affinity::{Affinity, Cookie, Mode, OnDown, OnOverload, SameSite, SourceIp, TokenKind};
pub use key::Key;
pub use listener::{
    ForwardMode, Forwarding, IdMode, Listener, ListenerLimits, ListenerTimeouts, Protocol, Redirect, Route,
};
pub use names::{Discover, Family, Names, Server};
pub use net::Cidr;
pub use pool::{
    Backend, Balance, Check, HealthCheck, Limits, Passive, Pool, ProxyVersion, Retry, StatusRange, Timeouts,
};
pub use session::{AffinityHeader, AffinityQuery, AffinityRule, AppCookie, AppCookieStyle, Follows, HeaderStyle};
pub use span::Span;
pub use tls::{Certificate, ClientCertificates, ClientVerify, PoolTls, Tls, TlsSettings, TlsVersion};
pub use upgrades::{MAX_UPGRADES, WEBSOCKET, carries_requests};
