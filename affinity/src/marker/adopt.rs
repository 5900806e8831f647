//! First contact: a request without a token of ours, with a cookie of the balancer that served before.

use super::{Carried, Found, NoPin, named::name_key};
use crate::{choose::Pin, table::PoolTable};
use control::spec::AdoptFrom;

#[cfg(test)]
mod tests;

/// The pin that another balancer's cookie tells, where none of ours has told one. The session that it names goes on as one
/// of ours, with a session key of its own.
pub(super) fn adopt(pool: &PoolTable, request: &impl Carried, found: &mut Found) {
    if !matches!(found.pin, Pin::Absent | Pin::Free) {
        return;
    }
    let mut refused = found.refused;
    for (index, foreign) in (0..).zip(&pool.foreign) {
        for value in request.cookies().flat_map(|header| foreign.cookie.find(header)).filter(|value| !value.is_empty())
        {
            if foreign.from == AdoptFrom::Opaque {
                if found.may_mark {
                    (found.key, found.adopted, found.together) = (name_key(value), Some(index), true);
                    found.refused = refused;
                }
                return;
            }
            match foreign.backend(value) {
                Some(backend) => {
                    found.pin = Pin::At { backend, incarnation: None };
                    (found.adopted, found.was_at) = (Some(index), None);
                    return;
                }
                None => refused = refused.or(Some(NoPin::Foreign)),
            }
        }
    }
    found.refused = refused;
}

/// Appends what takes the cookie from the client by which its session was adopted, where that is wished.
pub fn take_away(pool: &PoolTable, found: &Found, out: &mut Vec<u8>) {
    let foreign = found.adopted.and_then(|index| pool.foreign.get(usize::from(index)));
    if let Some(line) = foreign.and_then(|foreign| foreign.deletion.as_ref()) {
        out.extend_from_slice(line);
    }
}
