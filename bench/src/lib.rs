//! Criterion benches, the wrk comparison with peers, and simulations; here is what they share.

pub mod samples;

use affinity::table::{Dirty, RouteName, Slots, Table};
use control::{
    desired::{PoolState, SEED_INCARNATION, Snapshot},
    spec::{Backend, Key, Pool},
};

/// A table with one pool, `shop`, of these settings and so many backends of equal weight, and one key.
pub fn table(settings: Pool, backends: usize) -> Table {
    table_with(settings, backends, |_| ())
}

/// The same with whatever else `add` puts into the snapshot.
pub fn table_with(settings: Pool, backends: usize, add: impl FnOnce(&mut Snapshot)) -> Table {
    let backends = (0..backends).map(|i| Backend {
        name: format!("app-{i}"),
        address: format!("10.0.{}.{}:8080", i / 256, i % 256),
        ..Backend::default()
    });
    let pool = Pool { name: "shop".to_owned(), backends: backends.collect(), ..settings };
    let mut snapshot = Snapshot { generation: 1, ..Snapshot::default() };
    snapshot.desired.keys = vec![Key([7; 32])];
    snapshot.desired.pools.insert("shop".to_owned(), PoolState::seed(pool, SEED_INCARNATION));
    add(&mut snapshot);
    Table::build(&snapshot, None, &Dirty::All, &mut Counted(0), 0)
}

struct Counted(u32);

impl Slots for Counted {
    fn key(&mut self, _: u16) -> u32 {
        0
    }

    fn pool(&mut self, _: &str) -> u32 {
        0
    }

    fn backend(&mut self, _: &str, _: &str) -> u32 {
        self.0 += 1;
        self.0
    }

    fn route(&mut self, _: &RouteName<'_>) -> Option<u32> {
        None
    }
}
