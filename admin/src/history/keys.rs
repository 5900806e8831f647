//! What was seen of the keys, and when one may go.

use super::windows::{Window, Windows};
use affinity::token::MasterKey;
use control::{
    desired::Desired,
    spec::{Affinity, Key, Span},
    token_age::TokenAge,
};
use std::collections::BTreeMap;

/// How long tokens of a key are waited for that nothing ends: no limit is set, and the browser may keep them for ever.
const UNLIMITED: Span = Span::from_secs(24 * 60 * 60);

/// Every key that opens tokens, by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(BTreeMap<String, Watched>);

/// A key as this process has followed it. Keys that share a name share all of this.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// When it was found to seal no more, by the monotonic clock; absent while it seals.
    pub(crate) rests_since: Option<u64>,
    /// When the last of its tokens came, in Unix seconds.
    pub(crate) last_seen: Option<u32>,
    windows: Windows,
}

/// How long the tokens of a key have to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) span: Span,
    /// By then each has ended, whether anybody looked or not.
    pub(crate) is_sure: bool,
}

impl Keys {
    pub(super) fn follow(&mut self, keys: &[Key], now: u64) {
        let names: Vec<_> = keys.iter().map(name).collect();
        self.0.retain(|name, _| names.contains(name));
        for name in &names {
            let fresh = || Watched { rests_since: None, last_seen: None, windows: Windows::new(TokenAge::COUNT) };
            let watched = self.0.entry(name.clone()).or_insert_with(fresh);
            watched.rests_since =
                if Some(name) == names.first() { None } else { Some(watched.rests_since.unwrap_or(now)) };
        }
    }

    pub(super) fn add(&mut self, name: &str, now: u64, more: &[u64], last_seen: Option<u32>) {
        let Some(watched) = self.0.get_mut(name) else { return };
        watched.windows.add(now, more);
        watched.last_seen = watched.last_seen.max(last_seen);
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Watched> {
        self.0.get(name)
    }
}

impl Watched {
    /// Requests with a token of it in the last minutes.
    pub(crate) fn seen(&self, window: Window, now: u64) -> u64 {
        self.windows.over(window, now).iter().sum()
    }

    /// For how long it has sealed nothing and none of its tokens has come, in milliseconds; `None` while it seals. `now` is
    /// by the monotonic clock, `unix` in Unix milliseconds.
    pub(crate) fn rests_for(&self, now: u64, unix: u64) -> Option<u64> {
        let rests = now.saturating_sub(self.rests_since?);
        let unseen = self.last_seen.map(|seen| unix.saturating_sub(u64::from(seen) * 1_000));
        Some(unseen.map_or(rests, |unseen| unseen.min(rests)))
    }
}

impl Wait {
    /// The longest of any pool that has tokens.
    pub(crate) fn of(desired: &Desired) -> Self {
        let pools = desired.pools.values().map(|pool| &pool.settings.affinity).filter(|affinity| affinity.seals());
        pools.map(longest_rest).fold(Self { span: Span::default(), is_sure: true }, |wait, rest| Self {
            span: wait.span.max(rest.unwrap_or(UNLIMITED)),
            is_sure: wait.is_sure && rest.is_some(),
        })
    }

    /// Whether a key may go that has rested so many milliseconds, and why or why not. `is_newer` is one that was made after
    /// the key that seals.
    pub(crate) fn verdict(self, rests_for: Option<u64>, is_newer: bool) -> (bool, String) {
        let Some(rests_for) = rests_for else { return (false, "it seals".to_owned()) };
        if is_newer {
            return (false, "it is newer than the one that seals, and is there to seal next".to_owned());
        }
        let rested = Span::from_secs(rests_for / 1_000);
        let limit = match self.is_sure {
            true => format!("the {} for which a token can rest and still open", self.span),
            false => format!("{}, for some pools set no limit to their tokens", self.span),
        };
        if rests_for >= self.span.as_millis() {
            (true, format!("it sealed nothing and none of its tokens came for {rested}; that is longer than {limit}"))
        } else {
            (false, format!("it sealed, or one of its tokens came, {rested} ago; wait for {limit}"))
        }
    }
}

/// For how long a token can stay away and still open its session; `None` where nothing ends it.
fn longest_rest(affinity: &Affinity) -> Option<Span> {
    let cookie = &affinity.cookie;
    let max_age = cookie.max_age.filter(|_| affinity.sets_cookie());
    cookie.idle_timeout.into_iter().chain(cookie.lifetime).chain(max_age).min()
}

/// What a key is called; tells nothing of its secret.
pub(crate) fn name(key: &Key) -> String {
    MasterKey::new(key.0).name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{
        desired::PoolState,
        spec::{Cookie, Mode, Pool},
    };

    fn desired(affinities: &[Affinity]) -> Desired {
        let pool = |affinity: &Affinity| Pool { affinity: affinity.clone(), ..Pool::default() };
        let pools = (0..).zip(affinities).map(|(number, affinity)| {
            let state = PoolState { settings: pool(affinity), ..PoolState::default() };
            (format!("pool-{number}"), state)
        });
        Desired { pools: pools.collect(), ..Desired::default() }
    }

    fn limited(idle: Option<u64>, lifetime: Option<u64>, max_age: Option<u64>) -> Affinity {
        let [idle_timeout, lifetime, max_age] = [idle, lifetime, max_age].map(|seconds| seconds.map(Span::from_secs));
        Affinity { cookie: Cookie { idle_timeout, lifetime, max_age, ..Cookie::default() }, ..Affinity::default() }
    }

    #[test]
    fn tokens_are_waited_for_as_long_as_any_pool_lets_them_rest() {
        let hashed = Affinity { mode: Mode::SourceIp, ..limited(None, None, None) };
        let day = 86_400;
        for (affinities, seconds, is_sure) in [
            (vec![], 0, true),
            (vec![hashed.clone()], 0, true),
            (vec![limited(Some(60), Some(900), None), hashed], 60, true),
            (vec![limited(Some(60), None, None), limited(None, Some(900), Some(5_000))], 900, true),
            (vec![limited(None, None, Some(700))], 700, true),
            (vec![limited(None, None, None), limited(Some(60), None, None)], day, false),
            (vec![limited(None, None, None), limited(None, Some(9 * day), None)], 9 * day, false),
        ] {
            let found = Wait::of(&desired(&affinities));
            assert_eq!((found.span.as_millis() / 1_000, found.is_sure), (seconds, is_sure), "{affinities:?}");
        }
    }

    #[test]
    fn a_key_rests_from_when_it_sealed_last_and_its_last_token_came() {
        let mut keys = Keys::default();
        let [old, new] = [Key([1; 32]), Key([2; 32])];
        let rests = |keys: &Keys, key, now| keys.find(&name(key)).unwrap().rests_for(now, 1_000_000_000 + now);
        keys.follow(std::slice::from_ref(&old), 0);
        assert_eq!(rests(&keys, &old, 5_000), None);
        keys.follow(&[new.clone(), old.clone()], 10_000);
        assert_eq!((rests(&keys, &new, 15_000), rests(&keys, &old, 15_000)), (None, Some(5_000)));
        keys.add(&name(&old), 20_000, &[0, 2, 0, 1], Some(1_000_020));
        assert_eq!(rests(&keys, &old, 27_000), Some(7_000));
        assert_eq!(keys.find(&name(&old)).unwrap().seen(Window::Minute, 27_000), 3);
        // Nothing else has changed of the list.
        keys.follow(&[new.clone(), old.clone()], 30_000);
        assert_eq!(rests(&keys, &old, 31_000), Some(11_000));
        keys.follow(&[old.clone(), new.clone()], 40_000);
        assert_eq!((rests(&keys, &old, 50_000), rests(&keys, &new, 50_000)), (None, Some(10_000)));
        keys.follow(&[old], 60_000);
        assert!(keys.find(&name(&new)).is_none());
        keys.add("none", 60_000, &[1], None);
    }

    #[test]
    fn a_key_may_go_once_no_token_of_it_can_be_left() {
        let wait = |seconds, is_sure| Wait { span: Span::from_secs(seconds), is_sure };
        for (wait, rests_for, may_go, says) in [
            (wait(0, true), None, false, "it seals"),
            (wait(0, true), Some(0), true, "came for 0s"),
            (wait(60, true), Some(59_999), false, "one of its tokens came, 59s ago; wait for the 1m"),
            (wait(60, true), Some(60_000), true, "for 1m; that is longer than the 1m"),
            (wait(86_400, false), Some(60_000), false, "wait for 1d, for some pools set no limit"),
            (wait(86_400, false), Some(90_000_000), true, "for 1d1h; that is longer than 1d, for some"),
        ] {
            let (found, why) = wait.verdict(rests_for, false);
            assert!(found == may_go && why.contains(says), "{wait:?} {rests_for:?}: {why}");
        }
        let (may_go, why) = wait(0, true).verdict(Some(u64::MAX), true);
        assert!(!may_go && why.contains("to seal next"), "{why}");
    }
}
