//! Rebalancing: sessions move from backends that have more than their share to those that have less.

use crate::desired::Share;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One round of it, as the workers carry it out by themselves: which sessions move when follows from their keys. Times are
/// Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    pub since: u64,
    /// When all that move in this round may.
    pub until: u64,
    /// Sessions that were not seen for long move first, and only towards the end those that are busy.
    pub idle_first: bool,
    /// The share of its sessions that each of these backends gives away.
    pub from: BTreeMap<String, Share>,
    /// Parts of what is given away, for each that gets some.
    pub to: BTreeMap<String, u32>,
}
