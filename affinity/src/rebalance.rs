//! Which sessions leave a backend that has more than its share, when, and where to. It follows from the session's key and
//! token alone, so that no worker has to ask another one.

use crate::{drain::grown, hash::mix64, table::Backend, wheel::Wheel};
use control::{desired::Share, rebalance::Rebalance};

/// Keeps the order in which sessions move apart from the places of their keys on the ring.
const SALT: u64 = 0x7265_6261_6C61_6E63;

/// A round of rebalancing, by the indexes of a pool's backends.
#[derive(Clone, Debug)]
pub struct Rebalancing {
    since: u64,
    until: u64,
    /// How long a session must be idle to move at the begin of the round, in seconds; at its end all may.
    idle_for: u32,
    from: Vec<Option<Share>>,
    to: Wheel,
}

impl Rebalancing {
    /// `longest_idle`, in seconds, is when a session that is not seen has ended.
    pub(crate) fn of(round: &Rebalance, backends: &[Backend], longest_idle: u32) -> Self {
        let Rebalance { since, until, idle_first, from, to } = round;
        let parts = backends.iter().map(|backend| to.get(&backend.name).copied().unwrap_or(0));
        Self {
            since: *since,
            until: *until,
            idle_for: if *idle_first { longest_idle } else { 0 },
            from: backends.iter().map(|backend| from.get(&backend.name).copied()).collect(),
            to: Wheel::new(parts),
        }
    }

    /// Whether it is the turn of a session at `home` that was not seen for `idle` seconds. `now` is in Unix seconds.
    pub(crate) fn moves(&self, home: u16, key: u64, idle: u32, now: u32) -> bool {
        let Some(share) = self.from.get(usize::from(home)).copied().flatten() else { return false };
        let span = (self.since, self.until);
        idle >= self.wanted_idle(now) && u128::from(self.number(key)) < grown(share, span, now)
    }

    /// Where a session goes whose turn it is, among those that are `usable`: the same for equal keys.
    pub(crate) fn next(&self, key: u64, usable: impl Fn(u16) -> bool) -> Option<u16> {
        self.to.draw(mix64(self.number(key)), usable)
    }

    /// Another order of all keys in each round.
    fn number(&self, key: u64) -> u64 {
        mix64(key ^ mix64(self.since ^ SALT))
    }

    fn wanted_idle(&self, now: u32) -> u32 {
        let left = self.until.saturating_sub(u64::from(now) * 1_000);
        let length = self.until.saturating_sub(self.since).max(1);
        let idle = u128::from(self.idle_for) * u128::from(left.min(length)) / u128::from(length);
        u32::try_from(idle).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        choose::{Asked, Cause, Choice, Outcome, Pin, choose},
        hash::mix64,
        table::{Backend, PoolTable},
        testing::{Seen, asked, build, put, remove, snapshot, step},
        wheel::Turn,
    };
    use control::{
        desired::{AdminState, Change, Share, Snapshot},
        rebalance::Rebalance,
        spec::{AffinityHeader, Cookie, HeaderStyle, Mode, Pool, Span},
        status::Health,
    };
    use std::sync::Arc;

    const SINCE: u32 = 1_790_000_000;
    const SESSIONS: u64 = 20_000;

    /// Half of what `a` has moves within 1,000 s, to `c` and, three times as many, to `d`.
    fn round() -> Rebalance {
        let since = u64::from(SINCE) * 1_000;
        let from = [("a".to_owned(), Share::new(0.5).unwrap())].into();
        let to = [("c".to_owned(), 100), ("d".to_owned(), 300)].into();
        Rebalance { since, until: since + 1_000_000, idle_first: false, from, to }
    }

    fn state(settings: Pool, round: Rebalance) -> Snapshot {
        let mut state = snapshot(settings, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        step(&mut state, &Change::Rebalance { pool: "shop".into(), round: Some(round) });
        state
    }

    fn rebalancing(settings: Pool, round: Rebalance) -> Arc<PoolTable> {
        build(&state(settings, round), None).copy(None).pools.remove(0)
    }

    fn chosen(pool: &PoolTable, home: u16, key: u64, after: u32, idle: Option<u32>) -> Choice {
        let pin = Pin::At { backend: home, incarnation: Some(1) };
        let asked = Asked { now: SINCE + after, idle, ..asked(pin, mix64(key), 0) };
        choose(pool, &asked, &mut Turn::default(), &Seen::default()).unwrap()
    }

    /// The shares of the sessions at `home` that have gone to each backend, so many seconds after the begin.
    fn shares(pool: &PoolTable, home: u16, after: u32, idle: u32) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for key in 0..SESSIONS {
            let Choice { backend, outcome } = chosen(pool, home, key, after, Some(idle));
            if outcome != Outcome::Pinned {
                assert_eq!(outcome, Outcome::Repinned { from: Some(home), cause: Cause::Rebalanced });
                counts[usize::from(backend)] += 1.0 / SESSIONS as f64;
            }
        }
        counts
    }

    fn close(found: [f64; 4], expected: [f64; 4]) {
        assert!(found.iter().zip(expected).all(|(found, wanted)| (found - wanted).abs() < 0.015), "{found:?}");
    }

    #[test]
    fn a_share_that_grows_evenly_goes_to_those_that_have_less() {
        let pool = rebalancing(Pool::default(), round());
        close(shares(&pool, 0, 0, 0), [0.0; 4]);
        close(shares(&pool, 0, 500, 0), [0.0, 0.0, 0.0625, 0.1875]);
        close(shares(&pool, 0, 1_000, 0), [0.0, 0.0, 0.125, 0.375]);
        close(shares(&pool, 0, 90_000, 0), [0.0, 0.0, 0.125, 0.375]);
        for home in 1..4 {
            assert_eq!(shares(&pool, home, 1_000, 0), [0.0; 4], "who gives nothing away keeps all");
        }
        // Whose turn it was stays so, and it goes to the same backend at every worker.
        let other = rebalancing(Pool::default(), round());
        for key in 0..1_000 {
            let (early, late) = (chosen(&pool, 0, key, 300, Some(0)), chosen(&other, 0, key, 700, Some(0)));
            assert!(early.outcome == Outcome::Pinned || early == late);
        }
    }

    #[test]
    fn the_idle_move_first() {
        let cookie = Cookie { idle_timeout: Some(Span::from_secs(1_000)), ..Cookie::default() };
        let mut settings = Pool::default();
        settings.affinity.cookie = cookie;
        let pool = rebalancing(settings, Rebalance { idle_first: true, ..round() });
        let moved = |after, idle| shares(&pool, 0, after, idle).iter().sum::<f64>();
        for (after, idle, expected) in [
            (200, 0, 0.0),
            (200, 799, 0.0),
            (200, 800, 0.1),
            (800, 199, 0.0),
            (800, 200, 0.4),
            (1_000, 0, 0.5),
            (5_000, 0, 0.5),
        ] {
            let found = moved(after, idle);
            assert!((found - expected).abs() < 0.015, "{after} {idle}: {found}");
        }
    }

    #[test]
    fn nobody_moves_who_may_not_or_has_nowhere_to_go() {
        let all_at = |pool: &PoolTable, idle| (0..500).all(|key| chosen(pool, 0, key, 1_000, idle).backend == 0);
        assert!(all_at(&rebalancing(Pool::default(), round()), None), "the response can carry no new token");
        let mut header = Pool::default();
        header.affinity.mode = Mode::Header;
        let style = HeaderStyle::Follow;
        header.affinity.header = Some(AffinityHeader { name: "Mcp-Session-Id".into(), style, ..Default::default() });
        assert!(all_at(&rebalancing(header, round()), Some(0)), "such a session stays");
        let closed = |change: fn(&mut Backend)| {
            let mut pool = rebalancing(Pool::default(), round());
            Arc::get_mut(&mut pool).unwrap().backends[2..].iter_mut().for_each(change);
            all_at(&pool, Some(0))
        };
        assert!(closed(|backend| backend.health = Health::Down));
        assert!(closed(|backend| backend.admin_state = AdminState::Maintenance));
    }

    #[test]
    fn each_round_has_an_order_of_its_own() {
        let later = Rebalance { since: round().since - 77, until: round().until - 77, ..round() };
        let (one, other) = (rebalancing(Pool::default(), round()), rebalancing(Pool::default(), later));
        let moves = |pool: &PoolTable, key| chosen(pool, 0, key, 1_000, Some(0)).backend != 0;
        let both = (0..SESSIONS).filter(|key| moves(&one, *key) && moves(&other, *key)).count();
        assert!((4_700..5_300).contains(&both), "{both}");
    }

    #[test]
    fn a_change_of_the_pool_ends_it() {
        let settings = || Change::PutSettings { name: "shop".into(), settings: Box::default() };
        let ended = Change::Rebalance { pool: "shop".into(), round: None };
        for change in [put("a", 2), put("e", 1), remove("b"), settings(), ended] {
            let mut state = state(Pool::default(), round());
            step(&mut state, &change);
            assert!(build(&state, None).pools[0].rebalancing.is_none(), "{change:?}");
        }
        let nowhere = Change::Rebalance { pool: "none".into(), round: Some(round()) };
        let mut state = snapshot(Pool::default(), &[]);
        step(&mut state, &nowhere);
        assert!(state.rebalances.is_empty());
    }
}
