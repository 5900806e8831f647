use crate::{
    io::Stream,
    pick::Claim,
    worker::{Worker, is_sampled},
};
use affinity::marker::{self, Carried, Found};
use control::spec::Mode;
use std::{
    iter,
    net::{IpAddr, SocketAddr},
};

/// A client of which nothing is known but its address.
struct Caller(IpAddr);

impl Carried for Caller {
    fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        iter::empty()
    }

    fn headers<'a>(&'a self, _name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        iter::empty()
    }

    fn path(&self) -> &[u8] {
        b""
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn method(&self) -> &[u8] {
        b""
    }

    fn client(&self) -> IpAddr {
        self.0
    }
}

/// What a client may have that comes to this listener and asks for this name; `None` where there is no pool for it.
pub(super) fn claim(
    worker: &Worker,
    listener: usize,
    name: Option<&str>,
    (peer, stream): (SocketAddr, &Stream),
) -> Option<Claim> {
    let address = peer.ip().to_canonical();
    let table = worker.table.borrow();
    let listener = &table.listeners[worker.listener_at(listener)?];
    let lead = listener.router.find(name.unwrap_or_default().as_bytes(), b"/")?;
    let pool = table.pools.get(lead.pool as usize)?;
    let caller = Caller(address);
    let random = worker.clock.random();
    let fresh = marker::fresh_key(pool, &caller, worker.clock.unix(), random);
    let found = match lead.affinity {
        true => marker::find(pool, &caller, worker.clock.unix(), fresh),
        false => Found::free(fresh),
    };
    let sampled = is_sampled(random) && pool.settings.affinity.mode != Mode::None;
    Some(Claim::new(pool, found, fresh, sampled.then_some(address), (peer, stream)))
}
