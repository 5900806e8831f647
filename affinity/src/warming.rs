//! Slow start: a backend that has just begun to take new sessions gets few of them at first, and more with time. What is
//! pinned, and what has to leave another backend, goes where it goes.

use crate::{
    hash::mix64,
    table::{Backend, PoolTable},
};
use control::{
    desired::AdminState,
    spec::{Pool, Span},
    status::Health,
};

/// Keeps this draw apart from others with the same random number.
const SALT: u64 = 0x7761_726D_696E_6721;

/// The share that a backend begins with, of what it gets when it is warm: one hundredth, or else nothing would come to
/// one that has only just begun.
const LEAST: u64 = u64::MAX / 100;

/// A worker's clock may be behind the one that noted when a backend began, in seconds. Further ahead than this, the
/// clocks have been set, and nobody is held back for that.
const BEHIND: u32 = 2;

/// How warm a backend is, of `u64::MAX`; `None` where it is warm. It grows evenly over the pool's `slow_start`. `now` is in
/// Unix seconds.
pub fn warmth(settings: &Pool, backend: &Backend, now: u32) -> Option<u64> {
    let (since, length) = (backend.warming_since?, settings.slow_start.map(Span::as_millis)?);
    if since > now.saturating_add(BEHIND) {
        return None;
    }
    let passed = u64::from(now.saturating_sub(since)) * 1_000;
    let share = (passed < length).then(|| u128::from(passed) * u128::from(u64::MAX) / u128::from(length))?;
    u64::try_from(share).ok().map(|share| share.max(LEAST))
}

/// Whether it is not yet for this backend to take the new session for which `random` was drawn.
pub(crate) fn holds_back(pool: &PoolTable, index: u16, random: u64, now: u32) -> bool {
    let warmth = warmth(&pool.settings, &pool.backends[usize::from(index)], now);
    warmth.is_some_and(|warmth| mix64(mix64(random ^ SALT).wrapping_add(index.into())) > warmth)
}

/// When `backend` began to take new sessions, where it has to start slowly: `old` is its pool in the table before. In a
/// pool that was not there before, all are warm.
pub(crate) fn since(settings: &Pool, backend: &Backend, old: Option<&PoolTable>, now: u32) -> Option<u32> {
    let old = old.filter(|_| settings.slow_start.is_some() && takes_new(backend))?;
    let before = old.by_name(backend.name.as_bytes()).map(|index| &old.backends[usize::from(index)]);
    match before.filter(|before| before.incarnation == backend.incarnation && takes_new(before)) {
        Some(before) => before.warming_since,
        None => Some(now),
    }
}

fn takes_new(backend: &Backend) -> bool {
    let is_usable = backend.health != Health::Down && backend.address.is_some();
    backend.admin_state == AdminState::Active && backend.weight > 0 && is_usable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::View,
        choose::{Choice, Pin, choose},
        table::{Dirty, Table},
        testing::{Seen, SlotsByName, asked, member, observe, pool, put, remove, snapshot, step},
        wheel::Turn,
    };
    use control::{
        desired::{Change, Member, Observed, Snapshot},
        spec::{Balance, Limits},
    };

    const SINCE: u32 = 1_790_000_000;

    fn slow() -> Pool {
        Pool { slow_start: Some(Span::from_secs(100)), ..Pool::default() }
    }

    /// `a` and `b` of one weight; `b` has begun to take new sessions at [`SINCE`].
    fn ramping(balance: Balance) -> PoolTable {
        let mut pool = pool(Pool { balance, ..slow() }, &[("a", 1), ("b", 1)]);
        pool.backends[1].warming_since = Some(SINCE);
        pool.warms = true;
        pool
    }

    fn chosen(pool: &PoolTable, pin: Pin, number: u64, after: u32, turn: &mut Turn, seen: &impl View) -> Choice {
        let asked = asked(pin, mix64(number), mix64(!number));
        choose(pool, &crate::choose::Asked { now: SINCE + after, ..asked }, turn, seen).unwrap()
    }

    /// The share of new sessions that `b` gets, so many seconds after it began.
    fn share(pool: &PoolTable, after: u32) -> f64 {
        const SESSIONS: u32 = 20_000;
        let mut turn = Turn::default();
        let mut is_b =
            |number| chosen(pool, Pin::Absent, u64::from(number), after, &mut turn, &Seen::default()).backend == 1;
        f64::from(u32::try_from((0..SESSIONS).filter(|number| is_b(*number)).count()).unwrap()) / f64::from(SESSIONS)
    }

    #[test]
    fn the_share_of_new_sessions_grows_to_what_the_weight_gives() {
        for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequests, Balance::P2c, Balance::Ring] {
            let pool = ramping(balance);
            for (after, warmth) in [(0, 0.01), (10, 0.1), (50, 0.5), (99, 0.99), (100, 1.0), (90_000, 1.0)] {
                // In turn, `a` has one session and then `b` its chance; else `b` would get every other and has its chance.
                let expected = if balance == Balance::RoundRobin { warmth / (1.0 + warmth) } else { warmth / 2.0 };
                let found = share(&pool, after);
                let allowed = 5.0 * (expected * (1.0 - expected) / 20_000.0f64).sqrt();
                assert!((found - expected).abs() <= allowed, "{balance:?} {after}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn nobody_is_refused_for_it_and_pinned_sessions_do_not_notice() {
        for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequests, Balance::P2c, Balance::Ring] {
            let mut pool = ramping(balance);
            for number in 0..300 {
                let pinned = Pin::At { backend: 1, incarnation: Some(1) };
                let at = |pin, seen: &Seen| chosen(&pool, pin, number, 0, &mut Turn::default(), seen).backend;
                assert_eq!(at(pinned, &Seen::default()), 1);
                // A session that has to move goes by the ring.
                assert_eq!(Some(at(Pin::Gone, &Seen::default())), pool.ring.lookup(mix64(number)));
                assert_eq!(at(Pin::Absent, &Seen { tried: [0].into(), ..Seen::default() }), 1);
            }
            pool.settings.limits = Limits { requests: 1, ..Limits::default() };
            let full = Seen { full: [0].into(), ..Seen::default() };
            assert_eq!(chosen(&pool, Pin::Absent, 1, 0, &mut Turn::default(), &full).backend, 1);
        }
        let mut pool = ramping(Balance::Random);
        pool.backends[0].warming_since = Some(SINCE);
        assert!((0.48..0.52).contains(&share(&pool, 0)), "both begin: they share as their weights say");
    }

    #[test]
    fn a_clock_that_was_set_holds_nobody_back() {
        let pool = ramping(Balance::Random);
        let at = |now: u32| warmth(&pool.settings, &pool.backends[1], now);
        assert_eq!([at(SINCE - 1), at(SINCE - 2)], [Some(LEAST); 2], "the clocks of two threads differ a little");
        assert_eq!([at(SINCE - 3), at(0), at(u32::MAX)], [None; 3]);
        assert_eq!(at(SINCE + 50).map(|warmth| warmth >> 57), Some(63), "half of all");
    }

    /// Who starts slowly after each change, from a pool of `a` and `b` that has been there for long.
    #[test]
    fn whoever_begins_to_take_new_sessions_starts_slowly() {
        let put_member = |name: &str, member| Change::PutMember { pool: "shop".into(), name: name.into(), member };
        let health = |name, health| observe(name, Observed { health, resolved: None });
        let commanded = |admin_state| put_member("a", Member { admin_state, ..member(1) });
        let (down, up) = (|| health("a", Health::Down), || health("a", Health::Up));
        let cases: Vec<(Vec<Change>, &str)> = vec![
            (vec![], ""),
            (vec![up()], ""),
            (vec![down()], ""),
            (vec![down(), up()], "a"),
            (vec![down(), up(), up(), health("b", Health::Up)], "a"),
            (vec![down(), up(), down()], ""),
            (vec![commanded(AdminState::Draining)], ""),
            (vec![commanded(AdminState::Draining), commanded(AdminState::Active)], "a"),
            (vec![commanded(AdminState::Maintenance), commanded(AdminState::Active)], "a"),
            (vec![put("c", 1)], "c"),
            (vec![put("c", 1), put("d", 1)], "c d"),
            (vec![put("c", 0)], ""),
            (vec![put("c", 0), put("c", 1)], "c"),
            (vec![remove("a")], ""),
            (vec![remove("a"), put("a", 1)], "a"),
            (vec![put_member("a", Member { incarnation: 9, ..member(1) })], "a"),
            (vec![put_member("a", Member { address: "192.0.2.9:80".into(), ..member(1) })], ""),
            (vec![down(), Change::PutSettings { name: "shop".into(), settings: Box::default() }, up()], ""),
        ];
        for (changes, expected) in cases {
            let mut state: Snapshot = snapshot(slow(), &[("a", 1), ("b", 1)]);
            let build = |state: &Snapshot, before: Option<&Table>, now| {
                Table::build(state, before, &Dirty::All, &mut SlotsByName, now)
            };
            let mut table = build(&state, None, SINCE);
            for (change, now) in changes.iter().zip(SINCE + 1..) {
                step(&mut state, change);
                table = build(&state, Some(&table), now);
            }
            let pool = &table.copy(None).pools[0];
            let starting = pool.backends.iter().filter(|backend| backend.warming_since.is_some());
            let names: Vec<_> = starting.map(|backend| backend.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{changes:?}");
            assert_eq!(pool.warms, !expected.is_empty());
        }
    }

    #[test]
    fn the_time_of_its_begin_stays() {
        let mut state = snapshot(slow(), &[("a", 1)]);
        let mut table = Table::build(&state, None, &Dirty::All, &mut SlotsByName, SINCE);
        for (change, now) in [put("b", 1), put("b", 2), put("c", 1)].iter().zip(SINCE + 5..) {
            step(&mut state, change);
            table = Table::build(&state, Some(&table), &Dirty::All, &mut SlotsByName, now);
        }
        let since: Vec<_> = table.pools[0].backends.iter().map(|backend| backend.warming_since).collect();
        assert_eq!(since, [None, Some(SINCE + 5), Some(SINCE + 7)]);
    }
}
