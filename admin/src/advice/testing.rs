//! Figures for the tests of this module.

use super::{DrainFigures, Figures};
use crate::history::{PoolSums, lives::Lived};
use control::{
    counters::PoolCount,
    spec::{Affinity, Cookie, Span},
    status::Counts,
};

/// What [`Figures`] point at; nothing is known unless it is set.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) affinity: Affinity,
    pub(crate) hour: PoolSums,
    pub(crate) counts: Counts,
    pub(crate) followed: u64,
    pub(crate) lived: Lived,
    pub(crate) drains: Vec<DrainFigures>,
    pub(crate) spare_keys: Vec<(String, String)>,
}

impl Known {
    pub(crate) fn figures(&self) -> Figures<'_> {
        Figures {
            affinity: &self.affinity,
            hour: &self.hour,
            counts: &self.counts,
            followed: self.followed,
            lived: self.lived,
            drains: self.drains.clone(),
            spare_keys: self.spare_keys.clone(),
        }
    }

    /// The same counts in the last hour and since the start.
    pub(crate) fn counting(counts: &[(PoolCount, u64)]) -> Self {
        let counts: Counts = counts.iter().map(|(what, count)| (what.name().to_owned(), *count)).collect();
        Self { hour: PoolSums { counts: counts.clone(), ..PoolSums::default() }, counts, ..Self::default() }
    }

    /// Limits in seconds.
    pub(crate) fn limited(self, idle: Option<u64>, lifetime: Option<u64>) -> Self {
        let [idle_timeout, lifetime] = [idle, lifetime].map(|seconds| seconds.map(Span::from_secs));
        let cookie = Cookie { idle_timeout, lifetime, ..Cookie::default() };
        Self { affinity: Affinity { cookie, ..Affinity::default() }, ..self }
    }
}
