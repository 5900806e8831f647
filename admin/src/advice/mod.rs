//! What measurement says about a pool's settings, each with its evidence. Pure: figures in, sentences out, and none where
//! there is too little to go by.

mod clients;
mod drains;
mod sessions;
#[cfg(test)]
mod testing;

use crate::history::{PoolSums, lives::Lived};
use control::{
    counters::PoolCount,
    spec::{Affinity, Span},
    status::Counts,
};
use serde::Serialize;
use utoipa::ToSchema;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Advice {
    /// The setting, or the kind of thing, that it is about.
    pub(crate) about: &'static str,
    /// What to do, and why.
    pub(crate) says: String,
    /// The figures that it follows from.
    pub(crate) evidence: String,
}

/// What is known of a pool.
#[derive(Debug)]
pub(crate) struct Figures<'f> {
    pub(crate) affinity: &'f Affinity,
    /// Of the last hour.
    pub(crate) hour: &'f PoolSums,
    /// Since the data planes started.
    pub(crate) counts: &'f Counts,
    /// For how long this process has followed all that, in seconds.
    pub(crate) followed: u64,
    pub(crate) lived: Lived,
    pub(crate) drains: Vec<DrainFigures>,
    /// The keys that may go, by their names, and why.
    pub(crate) spare_keys: Vec<(String, String)>,
}

/// A drain under way that its deadline ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DrainFigures {
    pub(crate) backend: String,
    pub(crate) live: u64,
    /// Seconds to the deadline.
    pub(crate) left: u64,
    /// How many sessions are still there by then.
    pub(crate) cut_off: f64,
    /// Seconds until 99 % of the sessions that there were at its begin have ended.
    pub(crate) p99: f64,
}

/// All that can be said.
pub(crate) fn advise(figures: &Figures<'_>) -> Vec<Advice> {
    let single = [
        sessions::outlive_backends,
        sessions::are_short,
        sessions::are_old,
        drains::cut_sessions_off,
        clients::return_no_cookie,
        clients::come_back_too_late,
        clients::grow_too_old,
        clients::have_unknown_keys,
    ];
    let found = single.into_iter().filter_map(|advise| advise(figures));
    found.chain(drains::end_too_early(figures)).chain(keys(figures)).collect()
}

fn keys<'f>(figures: &'f Figures<'_>) -> impl Iterator<Item = Advice> + use<'f> {
    let spare = figures.spare_keys.iter().filter(|_| figures.affinity.seals());
    spare.map(|(key, why)| Advice {
        about: "keys",
        says: format!("Key `{key}` may go: `ctl keys remove {key}`."),
        evidence: format!("As this node has seen it, {why}."),
    })
}

impl Figures<'_> {
    fn in_hour(&self, what: PoolCount) -> u64 {
        value(&self.hour.counts, what)
    }

    fn since_start(&self, what: PoolCount) -> u64 {
        value(self.counts, what)
    }
}

fn value(counts: &Counts, what: PoolCount) -> u64 {
    counts.get(what.name()).copied().unwrap_or_default()
}

/// `part` of `whole` as a share from 0 to 1; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A length of time as people say it: two units of it at most.
fn about(seconds: u64) -> Span {
    let unit = match seconds {
        ..3_600 => 1,
        3_600..172_800 => 60,
        172_800.. => 3_600,
    };
    Span::from_secs(seconds / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::{testing::Known, *};
    use control::spec::Mode;

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        assert_eq!(advise(&Known::default().figures()), []);
    }

    #[test]
    fn keys_may_go_where_there_are_tokens() {
        let mut known = Known { spare_keys: vec![("3fa2".to_owned(), "it rests".to_owned())], ..Known::default() };
        let found = advise(&known.figures());
        assert_eq!((found.len(), found[0].about), (1, "keys"));
        assert!(found[0].says.contains("`ctl keys remove 3fa2`") && found[0].evidence.ends_with("it rests."));
        known.affinity.mode = Mode::SourceIp;
        assert_eq!(advise(&known.figures()), []);
    }

    #[test]
    fn times_are_round() {
        for (seconds, text) in [(59, "59s"), (3_599, "59m59s"), (3_661, "1h1m"), (90_061, "1d1h1m"), (200_000, "2d7h")]
        {
            assert_eq!(about(seconds).to_string(), text);
        }
    }
}
