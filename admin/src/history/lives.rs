//! How long backends live: a life ends as the backend is removed, or begins another incarnation.

use control::desired::{Change, PoolState};
use std::collections::BTreeMap;

/// The backends of one pool as this process has followed them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    /// By name: the incarnation, and since when it was followed, by the monotonic clock.
    running: BTreeMap<String, (u32, u64)>,
    ended: u64,
    /// Milliseconds for which those that ended were followed.
    lived: u64,
}

/// What was seen of the lives of a pool's backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lived {
    /// Lives that ended.
    pub(crate) ended: u64,
    /// Milliseconds for which backends were followed, all added up.
    pub(crate) followed: u64,
}

impl Lived {
    /// Milliseconds that a life lasts in the mean: the maximum-likelihood estimate where each may end at any moment alike,
    /// which takes into account those that go on. `None` where too few have ended to say.
    pub(crate) fn mean(self) -> Option<u64> {
        const FEWEST: u64 = 3;
        (self.ended >= FEWEST).then(|| self.followed / self.ended)
    }
}

impl Lives {
    fn see(&mut self, name: &str, incarnation: u32, now: u64) {
        if self.running.get(name).is_some_and(|(known, _)| *known != incarnation) {
            self.end(name, now);
        }
        self.running.entry(name.to_owned()).or_insert((incarnation, now));
    }

    fn end(&mut self, name: &str, now: u64) {
        if let Some((_, since)) = self.running.remove(name) {
            self.ended += 1;
            self.lived = self.lived.saturating_add(now.saturating_sub(since));
        }
    }

    fn see_all(&mut self, pool: &PoolState, now: u64) {
        let gone: Vec<_> = self.running.keys().filter(|name| !pool.members.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| self.end(name, now));
        pool.members.iter().for_each(|(name, member)| self.see(name, member.incarnation, now));
    }

    pub(crate) fn told(&self, now: u64) -> Lived {
        let running = self.running.values().map(|(_, since)| now.saturating_sub(*since)).sum::<u64>();
        Lived { ended: self.ended, followed: self.lived.saturating_add(running) }
    }
}

/// Follows a change in the lives of all pools.
pub(super) fn follow(pools: &mut BTreeMap<String, Lives>, change: &Change, now: u64) {
    match change {
        Change::PutPool { name, pool } => pools.entry(name.clone()).or_default().see_all(pool, now),
        Change::RemovePool { name } => drop(pools.remove(name)),
        Change::PutMember { pool, name, member } => {
            if let Some(lives) = pools.get_mut(pool) {
                lives.see(name, member.incarnation, now);
            }
        }
        Change::RemoveMember { pool, name } => {
            if let Some(lives) = pools.get_mut(pool) {
                lives.end(name, now);
            }
        }
        Change::PutRelease { .. }
        | Change::RemoveRelease { .. }
        | Change::PutSettings { .. }
        | Change::Listeners { .. }
        | Change::Keys { .. }
        | Change::Observe { .. }
        | Change::Rebalance { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{desired::Member, spec::Backend};

    fn member(incarnation: u32) -> Member {
        Member::new(&Backend::default(), incarnation)
    }

    fn put(name: &str, incarnation: u32) -> Change {
        Change::PutMember { pool: "shop".to_owned(), name: name.to_owned(), member: member(incarnation) }
    }

    fn remove(name: &str) -> Change {
        Change::RemoveMember { pool: "shop".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn lives_end_by_removal_and_by_a_new_incarnation() {
        let mut pools = BTreeMap::new();
        let whole = |names: &[&str]| {
            let members = names.iter().map(|name| ((*name).to_owned(), member(1)));
            let pool = PoolState { members: members.collect(), ..PoolState::default() };
            Change::PutPool { name: "shop".to_owned(), pool: Box::new(pool) }
        };
        for (change, now, ended, followed) in [
            (whole(&["a", "b"]), 0, 0, 0),
            (put("a", 1), 10_000, 0, 20_000),
            (put("a", 7), 10_000, 1, 20_000),
            (remove("b"), 20_000, 2, 40_000),
            (remove("b"), 20_000, 2, 40_000),
            (put("b", 9), 30_000, 2, 50_000),
            // A whole pool in the place of this one.
            (whole(&["c"]), 40_000, 4, 70_000),
        ] {
            follow(&mut pools, &change, now);
            assert_eq!(pools["shop"].told(now), Lived { ended, followed }, "{change:?}");
        }
        assert_eq!(pools["shop"].told(40_000).mean(), Some(17_500));
        assert_eq!(Lived { ended: 2, followed: 9 }.mean(), None);
        follow(&mut pools, &Change::RemovePool { name: "shop".to_owned() }, 50_000);
        follow(&mut pools, &put("a", 1), 50_000);
        assert!(pools.is_empty());
    }
}
