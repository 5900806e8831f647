//! What the sessions of a release have shown up to now, in bounded memory.

use super::signs::Signs;
use crate::hash::mix64;
use ahash::AHashMap;
use control::{
    release::{By, Signal, TIMES},
    status::{Quantiles, ReleaseStats, StageStats},
};

/// A response to a returning session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    pub key: u64,
    /// Of which release.
    pub id: u32,
    /// From the request's head to the response's.
    pub micros: u32,
    /// What was released then, in hundredths of a percent.
    pub share: u16,
    pub signs: Signs,
    /// The session is of the released ones, wherever this request went.
    pub released: bool,
    /// It went to another backend than that of its pin.
    pub elsewhere: bool,
    /// What the request carries tells a session that begins from one that returns by nothing.
    pub may_begin: bool,
}

/// Sessions that are followed one by one for each release, in some 4.5 MB. Beyond it a sample of them by their keys stands
/// for all: what a session has shown is not forgotten and counted again.
const MAX_SESSIONS: usize = 200_000;
/// Requests after which it is first said what is slow; it is said anew at each doubling, so that it follows the traffic and
/// is the same for both cohorts at any time.
const FIRST_SLOW: u64 = 256;

/// Follows the sessions of one release.
#[derive(Clone, Debug)]
pub struct Record {
    id: u32,
    sessions: AHashMap<u64, Session>,
    max_sessions: usize,
    /// Only sessions whose key's hash ends in so many zero bits are followed.
    sampled: u32,
    stages: Vec<StageStats>,
    latency: By<Histogram>,
    slow_above: Option<usize>,
    slow_said_at: u64,
    cached: By<u64>,
    hits: By<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Session {
    as_released: bool,
    as_control: bool,
    elsewhere: bool,
    /// How many times it has shown each signal, up to the most that is looked for.
    shown: [u8; Signal::ALL.len()],
}

impl Record {
    pub fn new(id: u32) -> Self {
        Self {
            id,
            sessions: AHashMap::new(),
            max_sessions: MAX_SESSIONS,
            sampled: 0,
            stages: Vec::new(),
            latency: By::default(),
            slow_above: None,
            slow_said_at: FIRST_SLOW,
            cached: By::default(),
            hits: By::default(),
        }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// Takes a sighting in; one of another release is passed over.
    pub fn note(&mut self, sighting: &Sighting) {
        let Sighting { key, id, micros, share, signs, released, elsewhere, may_begin } = *sighting;
        if id != self.id || !is_sampled(key, self.sampled) {
            return;
        }
        let known = self.sessions.contains_key(&key);
        if !known && may_begin {
            self.follow(key);
            return;
        }
        let is_slow = self.time(micros, released);
        if signs.has_hit() || signs.has(Signal::CacheMiss) {
            *self.cached.of(released) += 1;
            *self.hits.of(released) += u64::from(signs.has_hit());
        }
        let signs = if is_slow { signs.with(Signal::Slow) } else { signs };
        let mut session = self.sessions.get(&key).copied().unwrap_or_default();
        let stage = stage_of(&mut self.stages, share);
        let seen = if released { &mut session.as_released } else { &mut session.as_control };
        if !std::mem::replace(seen, true) {
            *stage.sessions.of(released) += 1;
        }
        if released && elsewhere && !std::mem::replace(&mut session.elsewhere, true) {
            stage.elsewhere += 1;
        }
        for signal in Signal::ALL.into_iter().filter(|signal| signs.has(*signal)) {
            let times = &mut session.shown[signal as usize];
            if *times < TIMES[TIMES.len() - 1] {
                *times += 1;
                if let Some(at) = TIMES.iter().position(|wanted| wanted == times) {
                    *stage.shown.entry(signal).or_default()[at].of(released) += 1;
                }
            }
        }
        if let Some(known) = self.sessions.get_mut(&key) {
            *known = session;
        } else {
            self.follow(key);
            // It may have been thinned out at once.
            if let Some(known) = self.sessions.get_mut(&key) {
                *known = session;
            }
        }
    }

    fn follow(&mut self, key: u64) {
        self.sessions.insert(key, Session::default());
        while self.sessions.len() > self.max_sessions {
            self.sampled += 1;
            let sampled = self.sampled;
            self.sessions.retain(|key, _| is_sampled(*key, sampled));
        }
    }

    /// Takes in how long a request took, and tells whether that is slow by what was said last. What counts as slow follows
    /// from all requests without regard to their cohort: from one cohort alone, the label of a few heavy sessions would
    /// decide what others, and they themselves, show from then on.
    fn time(&mut self, micros: u32, released: bool) -> bool {
        let bucket = Histogram::bucket(micros);
        let is_slow = self.slow_above.is_some_and(|above| bucket > above);
        self.latency.of(released).add(bucket);
        let all = self.latency.released.count + self.latency.control.count;
        if all >= self.slow_said_at {
            self.slow_said_at = all * 2;
            let both = [&self.latency.released, &self.latency.control];
            self.slow_above = Some(Histogram::quantile(&both, 0.9));
        }
        is_slow
    }

    /// What evidence rests on, counted: where this is the same, so is that.
    pub fn times_shown(&self) -> u64 {
        let shown = self.stages.iter().flat_map(|stage| stage.shown.values().flatten());
        shown.map(|by| by.released + by.control).sum()
    }

    pub fn stats(&self) -> ReleaseStats {
        let quantiles = |histogram: &Histogram| {
            let of = |share| Histogram::micros(Histogram::quantile(&[histogram], share));
            if histogram.count == 0 {
                return Quantiles::default();
            }
            Quantiles { p50: of(0.5), p90: of(0.9), p99: of(0.99) }
        };
        let By { released, control } = &self.latency;
        ReleaseStats {
            id: self.id,
            stages: self.stages.clone(),
            requests: By { released: released.count, control: control.count },
            latency: By { released: quantiles(released), control: quantiles(control) },
            cached: self.cached,
            hits: self.hits,
            sampled: self.sampled,
        }
    }
}

fn stage_of(stages: &mut Vec<StageStats>, share: u16) -> &mut StageStats {
    let at = stages.binary_search_by_key(&share, |stage| stage.share).unwrap_or_else(|at| {
        stages.insert(at, StageStats { share, ..StageStats::default() });
        at
    });
    &mut stages[at]
}

fn is_sampled(key: u64, sampled: u32) -> bool {
    // Another order than that of the cohort, which is a remainder of another hash.
    mix64(!key).trailing_zeros() >= sampled
}

/// Times in buckets that are a sixteenth of their power of two wide: within 6 %.
#[derive(Clone, Debug)]
struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
}

const BUCKETS: usize = 29 * 16;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0 }
    }
}

impl Histogram {
    fn bucket(micros: u32) -> usize {
        if micros < 16 {
            return micros as usize;
        }
        let power = micros.ilog2() - 4;
        (power as usize + 1) * 16 + (micros >> power) as usize - 16
    }

    /// The largest time of a bucket.
    fn micros(bucket: usize) -> u64 {
        match (bucket / 16, bucket as u64 % 16) {
            (0, micros) => micros,
            (power, part) => ((part + 17) << (power - 1)) - 1,
        }
    }

    fn add(&mut self, bucket: usize) {
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.count += 1;
    }

    /// The bucket that has this quantile of all of them together; the last where they are empty.
    #[expect(clippy::cast_precision_loss, reason = "requests are below 2^53")]
    fn quantile(histograms: &[&Self], share: f64) -> usize {
        let all: u64 = histograms.iter().map(|histogram| histogram.count).sum();
        let (wanted, mut below) = (all as f64 * share, 0.0);
        let found = (0..BUCKETS).find(|bucket| {
            below += histograms.iter().map(|histogram| f64::from(histogram.buckets[*bucket])).sum::<f64>();
            below >= wanted && below > 0.0
        });
        found.unwrap_or(BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(key: u64, share: u16, released: bool, signals: &[Signal]) -> Sighting {
        Sighting {
            key,
            id: 7,
            micros: 100,
            share,
            signs: Signs::of(signals.iter().copied()),
            released,
            elsewhere: released,
            may_begin: false,
        }
    }

    #[test]
    fn a_session_is_counted_once_for_each_signal_and_number_of_times() {
        let mut record = Record::new(7);
        for _ in 0..40 {
            record.note(&seen(1, 1_000, true, &[Signal::Denied]));
        }
        record.note(&seen(2, 1_000, false, &[Signal::Denied, Signal::ServerError]));
        record.note(&Sighting { id: 6, ..seen(3, 1_000, true, &[Signal::Denied]) });
        let stats = record.stats();
        assert_eq!((stats.id, stats.stages.len(), stats.requests), (7, 1, By { released: 40, control: 1 }));
        assert_eq!(stats.stages[0].sessions, By { released: 1, control: 1 });
        let both = By { released: 1, control: 1 };
        let released = By { released: 1, control: 0 };
        assert_eq!(stats.stages[0].shown[&Signal::Denied], [both, released, released, released, released]);
        assert_eq!(stats.stages[0].shown[&Signal::ServerError][0], By { released: 0, control: 1 });
    }

    #[test]
    fn what_is_shown_counts_at_the_share_at_which_it_is_and_a_session_in_each_cohort_that_it_was_in() {
        let mut record = Record::new(7);
        record.note(&seen(1, 1_000, false, &[]));
        record.note(&seen(1, 2_500, true, &[Signal::Login]));
        record.note(&seen(1, 5_000, true, &[Signal::Login]));
        let stages = record.stats().stages;
        let told: Vec<_> =
            stages.iter().map(|stage| (stage.share, stage.sessions, stage.shown.get(&Signal::Login))).collect();
        let released = By { released: 1, control: 0 };
        let at = |index: usize| {
            let mut shown = [By::default(); TIMES.len()];
            shown[index] = released;
            shown
        };
        assert_eq!(told[0], (1_000, By { released: 0, control: 1 }, None));
        assert_eq!(told[1], (2_500, released, Some(&at(0))));
        assert_eq!(told[2], (5_000, By::default(), Some(&at(1))));
    }

    #[test]
    fn the_first_request_of_what_may_only_begin_is_passed_over() {
        let mut record = Record::new(7);
        for _ in 0..2 {
            record.note(&Sighting { may_begin: true, ..seen(1, 1_000, true, &[Signal::NewSession]) });
        }
        let stats = record.stats();
        assert_eq!((stats.requests.released, stats.stages[0].sessions.released), (1, 1));
        assert_eq!(stats.stages[0].shown[&Signal::NewSession][0].released, 1);
    }

    #[test]
    fn slow_is_what_takes_longer_than_nine_in_ten() {
        let mut record = Record::new(7);
        // Of one cohort as of the other.
        for key in 0..256u64 {
            let micros = if key % 16 == 0 { 9_000 } else { 1_000 };
            record.note(&Sighting { micros, ..seen(key, 5_000, key % 2 == 0, &[]) });
        }
        assert!(!record.stats().stages[0].shown.contains_key(&Signal::Slow), "nothing is slow before that was said");
        record.note(&Sighting { micros: 1_010, ..seen(1_000, 5_000, true, &[]) });
        record.note(&Sighting { micros: 1_200, ..seen(1_001, 5_000, true, &[]) });
        let stats = record.stats();
        assert_eq!(stats.stages[0].shown[&Signal::Slow][0], By { released: 1, control: 0 });
        let near = |found: u64, wanted: u64| found >= wanted && found * 100 <= wanted * 107;
        let Quantiles { p50, p90, p99 } = stats.latency.released;
        assert!(near(p50, 1_000) && near(p90, 9_000) && near(p99, 9_000), "{:?}", stats.latency);
    }

    #[test]
    fn every_time_has_a_bucket_that_is_not_much_wider() {
        for micros in (0..10_000u32).chain((0..32).map(|bit| 1 << bit)).chain([u32::MAX]) {
            let bucket = Histogram::bucket(micros);
            let most = Histogram::micros(bucket);
            assert!(most >= u64::from(micros) && most * 100 <= u64::from(micros) * 107, "{micros} {most}");
        }
        assert_eq!(Histogram::bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_released_session_has_been_elsewhere_once_it_was() {
        let mut record = Record::new(7);
        for elsewhere in [false, true, true, false] {
            record.note(&Sighting { elsewhere, ..seen(1, 1_000, true, &[]) });
        }
        record.note(&Sighting { elsewhere: true, ..seen(2, 1_000, false, &[]) });
        record.note(&Sighting { elsewhere: false, ..seen(3, 1_000, true, &[]) });
        let stage = &record.stats().stages[0];
        assert_eq!((stage.elsewhere, stage.sessions), (1, By { released: 2, control: 1 }));
    }

    #[test]
    fn caches_are_counted_by_request() {
        let mut record = Record::new(7);
        record.note(&Sighting { signs: Signs::default().with_hit(), ..seen(1, 1_000, true, &[]) });
        record.note(&seen(1, 1_000, true, &[Signal::CacheMiss]));
        record.note(&seen(2, 1_000, false, &[]));
        let stats = record.stats();
        assert_eq!((stats.cached.released, stats.hits.released, stats.cached.control), (2, 1, 0));
    }

    #[test]
    fn memory_is_bounded_and_nobody_counts_twice() {
        let mut record = Record { max_sessions: 1_000, ..Record::new(7) };
        for _ in 0..2 {
            for key in 0..20_000u64 {
                record.note(&seen(mix64(key), 1_000, key % 10 == 0, &[Signal::Denied]));
            }
        }
        let stats = record.stats();
        assert!(record.sessions.len() <= 1_000 && stats.sampled >= 4);
        let shown = stats.stages[0].shown[&Signal::Denied];
        let sessions = stats.stages[0].sessions;
        assert_eq!(shown[0], sessions, "each once, also those that are no longer followed");
        assert!(sessions.control > 1_000 && shown[1].control < sessions.control);
    }
}
