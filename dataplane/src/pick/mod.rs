//! Who serves: from what a client may claim to a backend's open connection, for whatever protocol is spoken.

mod claim;
mod connect;
mod failure;
mod queue;
mod retry;
mod settle;
mod target;
mod under_way;

pub(crate) use claim::Claim;
#[cfg(feature = "simulation")]
pub(crate) use claim::PoolRules;
pub(crate) use connect::{connect, open};
pub(crate) use failure::{Failure, Kind, Repeat, Side};
pub(crate) use queue::{Line, Waited};
pub(crate) use retry::{begin, count_sent, may_retry, note};
pub(crate) use target::{Target, Unchosen};
pub(crate) use under_way::UnderWay;
