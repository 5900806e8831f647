//! Counters that each worker writes alone and the control thread reads at any time. A worker's own cache lines: no lock,
//! no atomic read-modify-write, nothing shared is written.

use control::{
    counters::{BackendCount, Dataplane, PoolCount, RouteCount, WorkerCount},
    latency::{self, BUCKETS, Class},
    token_age::TokenAge,
};
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// What was counted elsewhere, or a number that goes up and down.
    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) dataplane: [Count; Dataplane::COUNT],
    /// What of it is told of each worker by itself, but for what is told of all together too.
    pub(crate) worker: [Count; WorkerCount::COUNT],
    /// Connections to backends that are kept without a request.
    pub(crate) idle_connections: Count,
    pools: Chunks<PoolCells>,
    backends: Chunks<BackendCells>,
    routes: Chunks<RouteCells>,
    keys: Chunks<KeyCells>,
}

pub(crate) type RouteCells = [Count; RouteCount::COUNT];

/// Requests or tunnels under way, with one writer.
#[derive(Debug, Default)]
pub(crate) struct InFlight(AtomicU32);

impl InFlight {
    pub(crate) fn value(&self) -> u32 {
        self.0.load(Relaxed)
    }

    pub(crate) fn enter(&self) {
        self.0.store(self.value() + 1, Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.0.store(self.value().saturating_sub(1), Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct PoolCells {
    pub(crate) counts: [Count; PoolCount::COUNT],
    /// Requests with a token that opens.
    pub(crate) ages: [Count; TokenAge::COUNT],
    pub(crate) latency: [LatencyCells; Class::COUNT],
    /// Tunnels too.
    pub(crate) in_flight: InFlight,
    pub(crate) tunnels: InFlight,
}

/// How long the responses of one class took.
#[derive(Debug, Default)]
pub(crate) struct LatencyCells {
    pub(crate) buckets: [Count; BUCKETS],
    /// In microseconds.
    pub(crate) sum: Count,
}

impl Default for PoolCells {
    // Arrays of more than 32 have no default of their own.
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| Count::default()),
            ages: std::array::from_fn(|_| Count::default()),
            latency: Default::default(),
            in_flight: InFlight::default(),
            tunnels: InFlight::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct BackendCells {
    pub(crate) counts: [Count; BackendCount::COUNT],
    /// What the backend bears: requests under way, and tunnels.
    pub(crate) in_flight: InFlight,
    pub(crate) tunnels: InFlight,
    /// Requests under way that free balancing would have sent there.
    pub(crate) free_in_flight: InFlight,
    /// Its worker has noted that there may be such requests.
    pub(crate) is_busy: Mark,
}

/// Yes or no, with one writer.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicBool);

impl Mark {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, to: bool) {
        self.0.store(to, Relaxed);
    }
}

impl BackendCells {
    /// Those of its exchanges that are no tunnels.
    pub(crate) fn requests_in_flight(&self) -> u32 {
        self.in_flight.value().saturating_sub(self.tunnels.value())
    }
}

/// What was seen of the tokens of one key.
#[derive(Debug, Default)]
pub(crate) struct KeyCells {
    pub(crate) ages: [Count; TokenAge::COUNT],
    last_seen: AtomicU32,
}

impl KeyCells {
    /// When the last came, in Unix seconds; 0 where none has.
    pub(crate) fn last_seen(&self) -> u32 {
        self.last_seen.load(Relaxed)
    }
}

/// Slots are numbers below this.
pub(crate) const MAX_SLOTS: u32 = CHUNK * CHUNKS;
const CHUNK: u32 = 256;
const CHUNKS: u32 = 1_024;

/// An array that grows by chunks, so that nothing in it ever moves while others read it.
#[derive(Debug)]
pub(crate) struct Chunks<T>(Box<[OnceLock<Box<[T]>>]>);

impl<T: Default> Chunks<T> {
    pub(crate) fn new() -> Self {
        Self((0..CHUNKS).map(|_| OnceLock::new()).collect())
    }

    pub(crate) fn at(&self, slot: u32) -> &T {
        assert!(slot < MAX_SLOTS, "slots are handed out below their limit");
        let chunk = self.0[(slot / CHUNK) as usize].get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        &chunk[(slot % CHUNK) as usize]
    }
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            dataplane: Default::default(),
            worker: Default::default(),
            idle_connections: Count::default(),
            pools: Chunks::new(),
            backends: Chunks::new(),
            routes: Chunks::new(),
            keys: Chunks::new(),
        }
    }

    pub(crate) fn count(&self, what: Dataplane) {
        self.dataplane[what as usize].add(1);
    }

    pub(crate) fn pool(&self, slot: u32) -> &PoolCells {
        self.pools.at(slot)
    }

    pub(crate) fn count_pool(&self, slot: u32, what: PoolCount) {
        self.pool(slot).counts[what as usize].add(1);
    }

    /// A request of the pool has its response, after so many microseconds.
    pub(crate) fn answered(&self, slot: u32, status: u16, micros: u64) {
        if let Some(class) = Class::of(status) {
            let LatencyCells { buckets, sum } = &self.pool(slot).latency[class as usize];
            buckets[latency::bucket(micros)].add(1);
            sum.add(micros);
        }
    }

    pub(crate) fn route(&self, slot: u32) -> &RouteCells {
        self.routes.at(slot)
    }

    pub(crate) fn key(&self, slot: u32) -> &KeyCells {
        self.keys.at(slot)
    }

    /// A token that opens came at `now`, of a session that began at `issued_at`, both in Unix seconds. `key` is where those
    /// of its key are counted.
    pub(crate) fn count_token(&self, pool: u32, key: u32, issued_at: u32, now: u32) {
        let age = TokenAge::of(now.saturating_sub(issued_at)) as usize;
        self.pool(pool).ages[age].add(1);
        let key = self.key(key);
        key.ages[age].add(1);
        key.last_seen.store(now, Relaxed);
    }

    pub(crate) fn backend(&self, slot: u32) -> &BackendCells {
        self.backends.at(slot)
    }

    pub(crate) fn count_backend(&self, slot: u32, what: BackendCount) {
        self.add_backend(slot, what, 1);
    }

    pub(crate) fn add_backend(&self, slot: u32, what: BackendCount, more: u64) {
        self.backend(slot).counts[what as usize].add(more);
    }
}
