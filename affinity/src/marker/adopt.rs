//! First contact: a request without a token of ours, with a cookie of the balancer that served before.

use super::{Carried, Found, NoPin, named::name_key};
use crate::{choose::Pin, table::PoolTable};
use control::spec::AdoptFrom;

#[cfg(test)]
mod tests;

/// The pin that another balancer's cookie tells, where none of ours has told one. The session that it names goes on as one
/// of ours, with a session key of its own.
pub(super) fn adopt(pool: &PoolTable, request: &impl Carried, found: Found) -> Found {
    if !matches!(found.pin, Pin::Absent | Pin::Free) {
        return found;
    }
    let mut refused = found.refused;
    for (index, foreign) in (0..).zip(&pool.foreign) {
        for value in request.cookies().flat_map(|header| foreign.cookie.find(header)).filter(|value| !value.is_empty())
        {
            if foreign.from == AdoptFrom::Opaque {
                let begins = Found { key: name_key(value), adopted: Some(index), together: true, refused, ..found };
                return if found.may_mark { begins } else { found };
            }
            match foreign.backend(value) {
                Some(backend) => {
                    let pin = Pin::At { backend, incarnation: None };
                    return Found { pin, adopted: Some(index), was_at: None, ..found };
                }
                None => refused = refused.or(Some(NoPin::Foreign)),
            }
        }
    }
    Found { refused, ..found }
}

/// Appends what takes the cookie from the client by which its session was adopted, where that is wished.
pub fn take_away(pool: &PoolTable, found: &Found, out: &mut Vec<u8>) {
    let foreign = found.adopted.and_then(|index| pool.foreign.get(usize::from(index)));
    if let Some(line) = foreign.and_then(|foreign| foreign.deletion.as_ref()) {
        out.extend_from_slice(line);
    }
}
