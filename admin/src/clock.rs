use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Unix milliseconds: for what people and other processes read.
pub(crate) fn unix_millis() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(now) = crate::simulation::now() {
        return now;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since this was made, by a clock that only goes forward: for what has to happen after a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn millis(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment at which [`Self::millis`] is `millis`, and a far one where it would be never.
    pub(crate) fn at(self, millis: u64) -> Instant {
        const FAR: u64 = 86_400_000;
        self.0 + std::time::Duration::from_millis(millis.min(self.millis().saturating_add(FAR)))
    }
}
