use crate::{
    io::Stream,
    proxy::announce,
    worker::{Seated, Worker},
};
use affinity::{choose::Pin, marker::Found, sessions::Touch, table::PoolTable};
use control::spec::{Limits, Retry, Timeouts};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a request, or a connection of another protocol, is to have: a pool, and in it its session's backend.
pub(crate) struct Claim {
    pub(crate) pool: PoolRules,
    pub(crate) found: Found,
    /// The slot of the pinned backend, by which it is found again in another table.
    pub(crate) pinned: Option<u32>,
    /// The key of a session that begins with it: a random number, unless the pool coalesces first requests.
    pub(crate) fresh: u64,
    /// The client's address, where it is of the sample.
    pub(crate) sampled: Option<IpAddr>,
    /// The header of the PROXY protocol that the backend is to be told first.
    pub(crate) announced: Option<Vec<u8>>,
}

/// What a pool demands of an exchange, taken from the table that routed it.
#[derive(Clone, Copy)]
pub(crate) struct PoolRules {
    pub(crate) slot: u32,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
    pub(crate) limits: Limits,
    /// What a client is told when nobody can serve it, in seconds: by then checks may have found somebody.
    pub(crate) retry_after: u32,
    /// What a client is told whose session is gone and can't move.
    pub(crate) gone_status: u16,
    pub(crate) passive_failures: u32,
    pub(crate) passive_hold: control::spec::Span,
}

impl PoolRules {
    pub(crate) fn of(pool: &PoolTable) -> Self {
        let settings = &pool.settings;
        Self {
            slot: pool.slot,
            timeouts: settings.timeouts,
            retry: settings.retry,
            limits: settings.limits,
            retry_after: (settings.health.interval.as_secs_u32().saturating_mul(settings.health.rise)).clamp(1, 3_600),
            gone_status: settings.affinity.header.as_ref().map_or(404, |header| header.gone_status),
            passive_failures: settings.health.passive.failures,
            passive_hold: settings.health.passive.hold,
        }
    }
}

impl Claim {
    /// `client` is whose it is, and `stream` the connection on which it came.
    pub(crate) fn new(
        pool: &PoolTable,
        found: Found,
        fresh: u64,
        sampled: Option<IpAddr>,
        (client, stream): (SocketAddr, &Stream),
    ) -> Self {
        let pinned = match found.pin {
            Pin::At { backend, .. } => Some(pool.backends[usize::from(backend)].slot),
            Pin::Absent | Pin::Gone | Pin::Hashed | Pin::Unreadable | Pin::Free => None,
        };
        let announced = pool.settings.send_proxy.map(|version| {
            // Where the address at which we were found is unknown, none is told that could be taken for one.
            let found_at = stream.local_address().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
            announce(version, client, found_at)
        });
        Self { pool: PoolRules::of(pool), found, pinned, fresh, sampled, announced }
    }

    /// What is known of a tunnel to this backend, whose session counts as live by `session`.
    pub(crate) fn seated(&self, worker: &Worker, slot: u32, session: Option<Touch>) -> Seated {
        let (tunnel, table) = (self.pool.timeouts.tunnel, worker.table.borrow());
        let pool = table.pools.iter().find(|pool| pool.slot == self.pool.slot);
        let bearing = worker.bearing(slot);
        Seated {
            pool: self.pool.slot,
            backend: slot,
            incarnation: bearing.unwrap_or(0),
            key: session.map_or(self.fresh, |session| session.key),
            session,
            live_for: pool.map_or(tunnel, |pool| pool.settings.affinity.cookie.live_for()),
            idle: tunnel,
            outlived: !self.found.forced && bearing.is_none(),
        }
    }

    /// The slot of the backend that its marker names, be it a pin or not.
    pub(crate) fn was_at(&self) -> Option<u32> {
        self.pinned.or(self.found.was_at)
    }
}
