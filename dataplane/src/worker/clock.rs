use affinity::hash::mix64;
use std::{
    cell::Cell,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A worker's time, read once per tick, and its random numbers. The only place of the data path that reads a clock.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    millis: Rc<Cell<u64>>,
    unix: Cell<u32>,
    random: Cell<u64>,
}

impl Clock {
    pub(crate) fn new(seed: u64) -> Self {
        let clock = Self { start: Instant::now(), millis: Rc::default(), unix: Cell::new(0), random: Cell::new(seed) };
        clock.tick();
        clock
    }

    pub(crate) fn tick(&self) {
        self.millis.set(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.unix.set(unix_seconds());
        #[cfg(feature = "simulation")]
        if let Some((millis, unix)) = crate::simulation::now() {
            self.millis.set(millis);
            self.unix.set(u32::try_from(unix / 1_000).unwrap_or(u32::MAX));
        }
    }

    /// Milliseconds since the worker started, at the last tick.
    pub(crate) fn millis(&self) -> u64 {
        self.millis.get()
    }

    /// The same, for whoever outlives a look at it and is not to read a clock: changes with each tick.
    pub(crate) fn ticking(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.millis)
    }

    /// Microseconds since the worker started, read now: for those alone who have to tell apart what lies between two ticks.
    pub(crate) fn micros_now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Wall-clock seconds since 1970, at the last tick.
    pub(crate) fn unix(&self) -> u32 {
        self.unix.get()
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the finalizer over a counter that starts at a secret seed.
    pub(crate) fn random(&self) -> u64 {
        let next = self.random.get().wrapping_add(affinity::hash::GOLDEN);
        self.random.set(next);
        mix64(next)
    }
}

/// Processor time of this thread so far, in milliseconds.
pub(super) fn cpu_millis() -> u64 {
    // SAFETY: all bytes zero is a valid value of this plain structure.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of that type, which may be written.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return 0;
    }
    u64::try_from(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}

fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
