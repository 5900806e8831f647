//! Requests that are not treated as their pool's others.

use super::Carried;
use crate::{route::is_below, table::PoolTable};
use control::spec::AffinityRule;

#[cfg(test)]
mod tests;

/// Whether a rule leaves a request without affinity.
pub fn is_ignored(pool: &PoolTable, request: &impl Carried) -> bool {
    pool.settings.affinity.ignore.iter().any(|rule| matches(rule, request))
}

/// Whether a rule sends a request to its pin though that is down or in maintenance.
pub(super) fn is_forced(pool: &PoolTable, request: &impl Carried) -> bool {
    pool.settings.affinity.force.iter().any(|rule| matches(rule, request))
}

/// Whether the response may carry a new or a changed marker.
pub(super) fn may_mark(pool: &PoolTable, request: &impl Carried) -> bool {
    !pool.settings.affinity.cookie.postonly || request.method() == b"POST"
}

/// All that the rule has must be so.
fn matches(rule: &AffinityRule, request: &impl Carried) -> bool {
    let AffinityRule { path, method, header, value } = rule;
    path.as_ref().is_none_or(|prefix| is_below(request.path(), prefix.trim_end_matches('/').as_bytes()))
        && method.as_ref().is_none_or(|method| method.as_bytes() == request.method())
        && header.as_ref().is_none_or(|name| {
            request.headers(name).any(|came| value.as_ref().is_none_or(|value| value.as_bytes() == came))
        })
}
