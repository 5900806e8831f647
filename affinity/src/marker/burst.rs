//! First requests that a browser sends side by side, before it has a cookie: with `coalesce` they are taken for one
//! session's, by whom they come from and when. Nothing is remembered for it, so all cores and nodes agree.

use super::Carried;
use crate::{
    hash::{mix64, name_hash},
    table::PoolTable,
};
use std::net::{IpAddr, Ipv6Addr};

#[cfg(test)]
mod tests;

/// The session key of a session that begins with this request: `random`, or where the pool coalesces first requests, the
/// same for all that one client sends within a window of time. `now` is in Unix seconds.
pub fn fresh_key(pool: &PoolTable, request: &impl Carried, now: u32, random: u64) -> u64 {
    let Some(window) = pool.settings.affinity.coalesce else { return random };
    let address: Ipv6Addr = match request.client() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let agent = request.headers("User-Agent").next().map_or(0, name_hash);
    let mut client = [0; 32];
    client[..16].copy_from_slice(&address.octets());
    client[16..24].copy_from_slice(&agent.to_be_bytes());
    // Each client's windows begin at times of its own, so that no moment parts the requests of all.
    let length = window.as_millis().max(1);
    let begin = mix64(name_hash(client)) % length;
    let number = (u64::from(now) * 1_000 + begin) / length;
    client[24..].copy_from_slice(&number.to_be_bytes());
    match &pool.keys {
        Some(keys) => keys.keyed_hash(&client),
        None => mix64(name_hash(client)),
    }
}
