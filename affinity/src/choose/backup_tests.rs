//! What a choice does where the pool has backups.

use super::*;
use crate::{
    hash::mix64,
    preview::shares_of_new,
    table::Table,
    testing::{Seen, asked, build, observe, put, put_backup, remove, snapshot, step},
};
use control::{
    desired::{Change, Member, Observed},
    spec::{Balance, Limits, Pool},
};
use std::{collections::BTreeSet, sync::Arc};

const BALANCES: [Balance; 5] =
    [Balance::RoundRobin, Balance::LeastRequests, Balance::P2c, Balance::Random, Balance::Ring];

const KEYS: u64 = 200;

/// Two primaries `a` and `b`, then the backups `x` and `y`.
fn changed(settings: Pool, changes: &[Change]) -> Arc<PoolTable> {
    let mut state = snapshot(settings, &[("a", 1), ("b", 1)]);
    [put_backup("x"), put_backup("y")].iter().chain(changes).for_each(|change| step(&mut state, change));
    build(&state, None).pools.remove(0)
}

fn down(name: &str) -> Change {
    observe(name, Observed { health: Health::Down, resolved: None })
}

fn commanded(name: &str, admin_state: AdminState) -> Change {
    let member = Member { admin_state, ..crate::testing::member(1) };
    Change::PutMember { pool: "shop".to_owned(), name: name.to_owned(), member }
}

fn seen(pool: &PoolTable, pin: Pin, key: u64, seen: &Seen) -> Result<Choice, Unserved> {
    choose(pool, &asked(pin, key, mix64(key)), &mut Turn::default(), seen)
}

fn chosen(pool: &PoolTable, pin: Pin, key: u64) -> Result<Choice, Unserved> {
    seen(pool, pin, key, &Seen::default())
}

/// Who is chosen, of all keys.
fn who(pool: &PoolTable, pin: Pin) -> String {
    let mut turn = Turn::default();
    let mut choice = |key| choose(pool, &asked(pin, key, key), &mut turn, &Seen::default()).ok();
    let backends = (0..KEYS).filter_map(|key| choice(mix64(key))).map(|choice| choice.backend);
    let names: BTreeSet<_> = backends.map(|backend| pool.backends[usize::from(backend)].name.clone()).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn backups_take_new_sessions_only_where_no_other_does() {
    use AdminState::{Draining, Maintenance};
    let weightless = |name| put(name, 0);
    let cases: [(&[Change], bool, &str); 10] = [
        (&[], false, "a b"),
        (&[down("a")], false, "b"),
        (&[down("a"), down("b")], false, "x y"),
        (&[down("a"), down("b"), down("x")], false, "y"),
        (&[commanded("a", Maintenance), commanded("b", Draining)], false, "x y"),
        (&[weightless("a"), weightless("b")], false, "x y"),
        (&[down("a"), down("b"), down("x"), down("y")], false, ""),
        (&[down("a"), down("b"), down("y")], true, "x"),
        (&[down("a"), down("b"), down("x"), down("y")], true, "a b"),
        (&[remove("a"), remove("b"), down("x"), down("y")], true, "x y"),
    ];
    for (changes, fail_open, expected) in cases {
        for balance in BALANCES {
            let mut settings = Pool { balance, ..Pool::default() };
            settings.health.fail_open = fail_open;
            let pool = changed(settings, changes);
            for pin in [Pin::Absent, Pin::Gone, Pin::Free] {
                assert_eq!(who(&pool, pin), expected, "{changes:?} {balance:?} {pin:?}");
            }
        }
    }
}

#[test]
fn failing_open_early_waits_for_the_backups() {
    let mut settings = Pool::default();
    (settings.health.fail_open, settings.health.fail_open_below) = (true, 1.0);
    let fails_open = |changes: &[Change]| changed(settings.clone(), changes).fails_open;
    assert!(!fails_open(&[]), "all are up");
    assert!(!fails_open(&[down("a")]) && !fails_open(&[down("a"), down("b"), down("x")]), "a backup can help");
    assert!(fails_open(&[down("a"), down("x"), down("y")]));
}

#[test]
fn who_is_full_is_waited_for_and_no_backup_comes_in() {
    for balance in BALANCES {
        let limits = Limits { requests: 5, ..Limits::default() };
        let mut pool = changed(Pool { balance, limits, ..Pool::default() }, &[]);
        let pool = Arc::get_mut(&mut pool).unwrap();
        let full = |backends: std::ops::Range<u16>| Seen { full: backends.collect(), ..Seen::default() };
        pool.settings.affinity.on_overload = OnOverload::Spill;
        let pinned = Pin::At { backend: 0, incarnation: Some(1) };
        for key in 0..20 {
            assert_eq!(seen(pool, Pin::Absent, key, &full(0..2)), Err(Unserved::Full { home: None }));
            assert_eq!(seen(pool, pinned, key, &full(0..2)), Err(Unserved::Full { home: Some(0) }));
        }
        for backend in &mut pool.backends[..2] {
            backend.health = Health::Down;
        }
        assert_eq!(seen(pool, Pin::Absent, 1, &full(0..3)).map(|choice| choice.backend), Ok(3));
        assert_eq!(seen(pool, Pin::Absent, 1, &full(0..4)), Err(Unserved::Full { home: None }));
        // A session that is pinned to a full backup overflows to the other one.
        let at_backup = Pin::At { backend: 2, incarnation: Some(1) };
        let spilled = Outcome::Spilled { from: 2, cause: Cause::Overload };
        assert_eq!(seen(pool, at_backup, 1, &full(2..3)), Ok(Choice { backend: 3, outcome: spilled }));
    }
}

#[test]
fn a_load_bound_counts_backups_by_themselves() {
    let pool = changed(Pool { load_bound: Some(1.5), ..Pool::default() }, &[down("a"), down("b"), put_backup("z")]);
    let backups = pool.backups.as_ref().unwrap();
    assert_eq!((pool.usable_weight, backups.usable_weight), (0, 3));
    // Nine requests and one more: 1.5 × 10 / 3 is what each backup may have.
    let loaded = |at_x| Seen { in_flight: [(2, at_x), (3, 9 - at_x)].into(), ..Seen::default() };
    let takes_x = |at_x| (0..KEYS).any(|key| seen(&pool, Pin::Gone, mix64(key), &loaded(at_x)).unwrap().backend == 2);
    assert!(takes_x(4) && !takes_x(5));
}

#[test]
fn a_session_stays_at_its_backup_when_the_others_are_back() {
    let pool = changed(Pool::default(), &[]);
    let at_backup = Pin::At { backend: 2, incarnation: Some(1) };
    for key in 0..KEYS {
        assert_eq!(chosen(&pool, at_backup, key), Ok(Choice { backend: 2, outcome: Outcome::Pinned }));
    }
}

#[test]
fn hashed_sessions_are_at_backups_only_while_nobody_else_is_there() {
    let mut settings = Pool::default();
    settings.affinity.mode = Mode::SourceIp;
    let up = changed(settings.clone(), &[]);
    let failed = changed(settings.clone(), &[down("a"), down("b")]);
    let alone = changed(settings, &[remove("a"), remove("b")]);
    for key in (0..KEYS).map(mix64) {
        let home = chosen(&up, Pin::Hashed, key).unwrap();
        assert_eq!((home.outcome, home.backend < 2), (Outcome::Pinned, true));
        let away = chosen(&failed, Pin::Hashed, key).unwrap();
        let cause = Cause::Down;
        assert_eq!((away.outcome, away.backend >= 2), (Outcome::Repinned { from: Some(home.backend), cause }, true));
        let only = chosen(&alone, Pin::Hashed, key).unwrap();
        assert_eq!((only.outcome, only.backend + 2), (Outcome::Pinned, away.backend), "the same backup, by its ring");
    }
}

#[test]
fn a_backup_that_comes_or_goes_moves_nobody_elses_sessions() {
    let table = |changes: &[Change]| -> Table {
        let mut state = snapshot(Pool::default(), &[("a", 1), ("b", 2)]);
        changes.iter().for_each(|change| step(&mut state, change));
        build(&state, None)
    };
    let home = |table: &Table, key| {
        let pool = &table.pools[0];
        let choice = chosen(pool, Pin::Gone, key).unwrap();
        pool.backends[usize::from(choice.backend)].name.clone()
    };
    let none = table(&[]);
    // By name before, between and behind the others.
    let several = table(&[put_backup("0"), put_backup("aa"), put_backup("c")]);
    let failed = |more: &[Change]| table(&[&[put_backup("x"), put_backup("y"), down("a"), down("b")], more].concat());
    let (two, three) = (failed(&[]), failed(&[put_backup("w")]));
    let mut moved = 0;
    for key in (0..KEYS).map(mix64) {
        assert_eq!(home(&none, key), home(&several, key));
        let (before, after) = (home(&two, key), home(&three, key));
        assert!(after == before || after == "w", "{before} {after}");
        moved += u32::from(after == "w");
    }
    assert!((30..110).contains(&moved), "{moved}");
}

#[test]
fn rings_are_kept_from_table_to_table_until_a_backup_changes() {
    let mut state = snapshot(Pool::default(), &[("a", 1)]);
    step(&mut state, &put_backup("x"));
    let before = build(&state, None);
    step(&mut state, &down("a"));
    let table = build(&state, Some(&before));
    let ring = |table: &Table| Arc::clone(&table.pools[0].backups.as_ref().unwrap().ring);
    assert!(Arc::ptr_eq(&ring(&table), &ring(&before)));
    assert_eq!(shares_of_new(&table.pools[0]), [0.0, 1.0]);
    // Another worker takes the same step in its own memory.
    let other = before.copy(None);
    assert!(!Arc::ptr_eq(&ring(&other), &ring(&before)));
    assert!(Arc::ptr_eq(&ring(&table.copy(Some(&other))), &ring(&other)));
    step(&mut state, &put("x", 1));
    let table = build(&state, Some(&table));
    assert!(table.pools[0].backups.is_none());
    assert_eq!(table.pools[0].ring.candidates(1).count(), 2);
}
