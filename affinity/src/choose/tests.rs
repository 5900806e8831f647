use super::*;
use crate::{
    hash::mix64,
    table::Table,
    testing::{Seen, asked, build, observe, pool, put, remove, snapshot, step},
};
use control::{
    desired::{Drain, DrainMode, Observed, Snapshot},
    spec::{Affinity, Balance, HealthCheck, Pool},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::LazyLock};

const BALANCES: [Balance; 5] =
    [Balance::RoundRobin, Balance::LeastRequests, Balance::P2c, Balance::Random, Balance::Ring];
const ON_DOWN: [OnDown; 3] = [OnDown::Repin, OnDown::Spill, OnDown::Fail];

/// All that a choice can depend on: the pin; the backend that it names, or that the key hashes to (without one, just one
/// of the pool); whether the others take new sessions, are down, or are in maintenance; whether the pool fails open.
const DIMENSIONS: [&[&str]; 8] = [
    &["absent", "same", "other", "gone", "hashed"],
    &["active", "draining", "migrating", "maintenance", "deadline"],
    &["up", "unknown", "down", "marked"],
    &["tried", "-"],
    &["resolved", "-"],
    &["1", "0"],
    &["usable", "down", "closed"],
    &["open", "-"],
];

type Situation = [&'static str; DIMENSIONS.len()];

/// What becomes of each situation under each `on_down`, by the first row that matches it. `same` and `other` are the
/// incarnation that the pin names. `begins` is a new session, in place of a lost one where the incarnation is another;
/// the causes are those of a re-pin; with `!` to a backend that is down. `refused` is 503 because the pinned one is
/// down, `nobody` because all are. `migrating` is a drain whose sessions have all moved by now, and `deadline` the
/// maintenance that a drain ended in.
const TRUTH: &str = "
    pin          admin           health     tried address  weight others open | repin        spill        fail
    absent,other *               *          *     *        *      usable *    | begins       begins       begins
    absent,other active          up,unknown -     resolved 1      *      *    | begins       begins       begins
    absent,other *               *          *     *        *      down   open | begins!      begins!      begins!
    absent,other active          *          -     resolved 1      closed open | begins!      begins!      begins!
    absent,other *               *          *     *        *      *      *    | nobody       nobody       nobody

    gone         *               *          *     *        *      usable *    | removed      removed      refused
    gone         active          up,unknown -     resolved 1      *      *    | removed      removed      refused
    gone         *               *          *     *        *      down   open | removed!     removed!     refused
    gone         active          *          -     resolved 1      closed open | removed!     removed!     refused
    gone         *               *          *     *        *      *      *    | nobody       nobody       refused

    hashed       draining,migrating *       *     *        *      usable *    | draining     draining     draining
    hashed       draining,migrating *       *     *        *      down   open | draining!    draining!    draining!
    hashed       draining,migrating *       *     *        *      *      *    | nobody       nobody       nobody

    same         migrating       up,unknown -     resolved *      usable *    | migrated     migrated     migrated
    same         migrating       up,unknown -     resolved *      *      *    | pinned       pinned       pinned
    same,hashed  active,draining up,unknown -     resolved *      *      *    | pinned       pinned       pinned

    same,hashed  maintenance     *          *     *        *      usable *    | maintenance  maintenance  refused
    same,hashed  maintenance     *          *     *        *      down   open | maintenance! maintenance! refused
    same,hashed  maintenance     *          *     *        *      *      *    | nobody       nobody       refused
    same,hashed  deadline        *          *     *        *      usable *    | deadline     deadline     refused
    same,hashed  deadline        *          *     *        *      down   open | deadline!    deadline!    refused
    same,hashed  deadline        *          *     *        *      *      *    | nobody       nobody       refused

    same,hashed  *               *          tried *        *      usable *    | retry        spilled      refused
    same,hashed  *               *          tried *        *      down   open | retry!       spilled!     refused
    same,hashed  *               *          tried *        *      *      *    | nobody       nobody       refused

    same,hashed  *               *          -     -        *      usable *    | down         spilled      refused
    same,hashed  *               *          -     -        *      down   open | down!        spilled!     refused
    same,hashed  *               *          -     -        *      *      *    | nobody       nobody       refused

    same,hashed  *               *          *     *        *      usable *    | down         spilled      refused
    same,hashed  *               *          *     *        *      *      open | pinned       pinned       pinned
    same,hashed  *               *          *     *        *      *      *    | nobody       nobody       refused
";

#[test]
fn truth() {
    let rows: Vec<Vec<&str>> = TRUTH.lines().map(|row| row.split_whitespace().collect()).collect();
    let rows: Vec<_> = rows.iter().filter(|row| !row.is_empty()).skip(1).collect();
    let mut met = vec![0; rows.len()];
    let mut pools = ["1", "0"].map(|weight| {
        let members = [("home", weight.parse().unwrap()), ("one", 1), ("three", 3), ("two", 1)];
        (weight, pool(Pool::default(), &members))
    });
    for situation in situations() {
        let matches = |row: &&Vec<&str>| {
            row.iter().zip(situation).all(|(cell, value)| *cell == "*" || cell.split(',').any(|each| each == value))
        };
        let row = rows.iter().position(matches).unwrap_or_else(|| panic!("{situation:?} is in no row"));
        met[row] += 1;
        let pool = pools.iter_mut().find(|(weight, _)| *weight == situation[5]).map(|(_, pool)| pool).unwrap();
        for (balance, (on_down, expected)) in BALANCES
            .into_iter()
            .flat_map(|balance| ON_DOWN.iter().zip(&rows[row][9..]).map(move |case| (balance, case)))
        {
            pool.settings.balance = balance;
            pool.settings.affinity.on_down = *on_down;
            assert_eq!(outcome_of(pool, situation), **expected, "{situation:?} {on_down:?} {balance:?}");
        }
    }
    assert!(met.iter().all(|count| *count > 0), "a row that nothing comes to: {met:?}");
}

/// Every combination that can be: a key never hashes to a backend of weight 0.
fn situations() -> impl Iterator<Item = Situation> {
    let count = DIMENSIONS.iter().map(|values| values.len()).product();
    (0..count)
        .map(|mut number: usize| {
            DIMENSIONS.map(|values| {
                let value = values[number % values.len()];
                number /= values.len();
                value
            })
        })
        .filter(|situation| !(situation[0] == "hashed" && situation[5] == "0"))
}

const HOME: u16 = 0;

/// Brings the situation about, chooses, and says what came of it in the words of [`TRUTH`].
fn outcome_of(pool: &mut PoolTable, situation: Situation) -> String {
    let [pin, admin, health, tried, address, _, others, open] = situation;
    pool.settings.health.fail_open = open == "open";
    for backend in &mut pool.backends[1..] {
        backend.health = if others == "down" { Health::Down } else { Health::Up };
        backend.admin_state = if others == "closed" { AdminState::Maintenance } else { AdminState::Active };
    }
    let home = &mut pool.backends[usize::from(HOME)];
    home.admin_state = match admin {
        "active" => AdminState::Active,
        "draining" | "migrating" => AdminState::Draining,
        _ => AdminState::Maintenance,
    };
    let drain = Drain { deadline: Some(1_000), ..Drain::default() };
    home.drain = match admin {
        "draining" | "deadline" => Some(drain),
        "migrating" => Some(Drain { mode: DrainMode::Migrate, ..drain }),
        _ => None,
    };
    home.health = match health {
        "up" | "marked" => Health::Up,
        "unknown" => Health::Unknown,
        _ => Health::Down,
    };
    home.address = (address == "resolved").then(|| "192.0.2.1:80".parse().unwrap());
    let mut seen = Seen::default();
    seen.marked.extend((health == "marked").then_some(HOME));
    seen.tried.extend((tried == "tried").then_some(HOME));

    let incarnation = home.incarnation;
    let key = (0..).map(mix64).find(|key| situation[5] == "0" || pool.ring.lookup(*key) == Some(HOME)).unwrap();
    let pins = match pin {
        "absent" => vec![Pin::Absent],
        "same" => vec![
            Pin::At { backend: HOME, incarnation: Some(incarnation) },
            Pin::At { backend: HOME, incarnation: None },
        ],
        "other" => vec![Pin::At { backend: HOME, incarnation: Some(incarnation + 1) }],
        "gone" => vec![Pin::Gone],
        _ => vec![Pin::Hashed],
    };
    let told = pins
        .iter()
        .map(|each| Asked { now: 1, ..asked(*each, key, 77) })
        .map(|asked| told(pool, pin, &seen, choose(pool, &asked, &mut Turn::default(), &seen)));
    let mut told: Vec<String> = told.collect();
    told.dedup();
    told.join(" or ")
}

fn told(pool: &PoolTable, pin: &str, seen: &Seen, choice: Result<Choice, Unserved>) -> String {
    let Choice { backend, outcome } = match choice {
        Ok(choice) => choice,
        Err(Unserved::NoBackend) => return "nobody".to_owned(),
        Err(Unserved::PinnedDown(_)) => return "refused".to_owned(),
        Err(full @ Unserved::Full { .. }) => return format!("{full:?}"),
        Err(Unserved::Ended(ended)) => return format!("{ended:?}"),
    };
    let word = match (outcome, pin) {
        (Outcome::New, "absent") | (Outcome::Lost, "other") => "begins".to_owned(),
        (Outcome::Repinned { from: None, cause }, "gone")
        | (Outcome::Repinned { from: Some(HOME), cause }, "same" | "hashed") => format!("{cause:?}").to_lowercase(),
        (Outcome::Spilled { from: HOME, cause: Cause::Down | Cause::Retry }, "same" | "hashed") => "spilled".to_owned(),
        (Outcome::Pinned, "same" | "hashed") if backend == HOME => return "pinned".to_owned(),
        other => format!("{other:?} at {backend}"),
    };
    let at = &pool.backends[usize::from(backend)];
    assert!(at.admin_state == AdminState::Active && at.weight > 0 && at.address.is_some(), "{word} at {at:?}");
    assert!(!seen.tried.contains(&backend), "{word} at {at:?}, which was tried");
    let is_down = at.health == Health::Down || seen.marked.contains(&backend);
    format!("{word}{}", if is_down { "!" } else { "" })
}

#[test]
fn without_affinity_nothing_is_pinned() {
    let mut pool = pool(Pool::default(), &[("a", 1)]);
    pool.settings.affinity.mode = Mode::None;
    let seen = Seen::default();
    let choice = |pool: &PoolTable| choose(pool, &asked(Pin::Absent, 1, 1), &mut Turn::default(), &seen);
    assert_eq!(choice(&pool), Ok(Choice { backend: 0, outcome: Outcome::Free }));
    pool.backends[0].health = Health::Down;
    assert_eq!(choice(&pool), Err(Unserved::NoBackend));
    pool.settings.health.fail_open = true;
    assert_eq!(choice(&pool), Ok(Choice { backend: 0, outcome: Outcome::Free }));
}

#[test]
fn a_pool_without_backends_serves_nobody() {
    for weights in [&[][..], &[("a", 0), ("b", 0)]] {
        let mut pool = pool(Pool::default(), weights);
        pool.settings.health.fail_open = true;
        for (balance, pin) in BALANCES.into_iter().flat_map(|balance| {
            [Pin::Absent, Pin::Gone, Pin::Hashed, Pin::Free].into_iter().map(move |pin| (balance, pin))
        }) {
            pool.settings.balance = balance;
            let choice = choose(&pool, &asked(pin, 1, 1), &mut Turn::default(), &Seen::default());
            assert_eq!(choice, Err(Unserved::NoBackend), "{balance:?} {pin:?}");
        }
    }
}

const MEMBERS: [(&str, u32); 8] = [("a", 1), ("b", 2), ("c", 3), ("d", 0), ("e", 1), ("f", 5), ("g", 0), ("h", 100)];

/// The same pool twice: made at once; and in another order, with a member and weights that did not stay.
static BUILT: LazyLock<[(Snapshot, Table); 2]> = LazyLock::new(|| {
    let straight = snapshot(Pool::default(), &MEMBERS);
    let table = build(&straight, None);
    let mut winding = snapshot(Pool::default(), &[("x", 7), ("h", 1), ("b", 9)]);
    let mut built = build(&winding, None);
    for (name, weight) in MEMBERS.iter().rev() {
        step(&mut winding, &put(name, *weight));
    }
    step(&mut winding, &remove("x"));
    built = build(&winding, Some(&built));
    [(straight, table), (winding, built)]
});

#[derive(Clone, Copy, Debug)]
struct State {
    admin_state: AdminState,
    migrates: bool,
    health: Health,
    resolved: bool,
    marked: bool,
    tried: bool,
}

fn states() -> impl Strategy<Value = Vec<State>> {
    let admin = prop_oneof![
        4 => Just(AdminState::Active), 1 => Just(AdminState::Draining), 1 => Just(AdminState::Maintenance)
    ];
    let health = prop_oneof![2 => Just(Health::Up), 1 => Just(Health::Unknown), 2 => Just(Health::Down)];
    let (yes, seldom) = (proptest::bool::weighted(0.9), proptest::bool::weighted(0.1));
    let state = (admin, any::<bool>(), health, yes, seldom, seldom);
    let state = state.prop_map(|(admin_state, migrates, health, resolved, marked, tried)| State {
        admin_state,
        migrates,
        health,
        resolved,
        marked,
        tried,
    });
    proptest::collection::vec(state, MEMBERS.len())
}

fn settings() -> impl Strategy<Value = Pool> {
    (0..BALANCES.len(), 0..ON_DOWN.len(), any::<bool>()).prop_map(|(balance, on_down, fail_open)| Pool {
        balance: BALANCES[balance],
        affinity: Affinity { on_down: ON_DOWN[on_down], ..Affinity::default() },
        health: HealthCheck { fail_open, ..HealthCheck::default() },
        ..Pool::default()
    })
}

fn pins() -> impl Strategy<Value = Pin> {
    prop_oneof![
        1 => Just(Pin::Absent),
        1 => Just(Pin::Gone),
        1 => Just(Pin::Hashed),
        1 => Just(Pin::Free),
        4 => (0..MEMBERS.len() as u16, proptest::option::weighted(0.8, 1..3u32))
            .prop_map(|(backend, incarnation)| Pin::At { backend, incarnation }),
    ]
}

/// A drain that has moved half of the sessions at [`HALF`].
fn half_moved() -> Drain {
    Drain { mode: DrainMode::Migrate, deadline: Some(2_000 * u64::from(HALF)), ..Drain::default() }
}

/// Unix seconds.
const HALF: u32 = 1_000;

/// The pool in these states, on whatever way it came to be, and in a copy for another worker.
fn in_states(at: usize, settings: &Pool, states: &[State]) -> [std::sync::Arc<PoolTable>; 2] {
    let (snapshot, before) = &BUILT[at];
    let mut snapshot = snapshot.clone();
    let shop = snapshot.desired.pools.get_mut("shop").unwrap();
    shop.settings = settings.clone();
    for (member, state) in shop.members.values_mut().zip(states) {
        member.admin_state = state.admin_state;
        member.drain = state.migrates.then(half_moved);
        member.address = if state.resolved { "192.0.2.1:80" } else { "app.internal:80" }.to_owned();
    }
    for ((name, _), state) in MEMBERS.iter().zip(states) {
        snapshot.apply(&observe(name, Observed { health: state.health, resolved: None }));
    }
    snapshot.generation += 1;
    let table = build(&snapshot, Some(before));
    [table.pools[0].clone(), table.copy(None).pools[0].clone()]
}

proptest! {
    #[test]
    fn choices_keep_the_promises(
        settings in settings(), states in states(), pin in pins(), keys in any::<[u64; 8]>(), random: u64,
    ) {
        let pools: Vec<_> = (0..2).flat_map(|at| in_states(at, &settings, &states)).collect();
        let by = |of: fn(&State) -> bool| (0..).zip(&states).filter(|(_, state)| of(state)).map(|(index, _)| index).collect();
        let seen = Seen { marked: by(|state| state.marked), tried: by(|state| state.tried), ..Seen::default() };
        let usable = |index: u16| {
            let state = states[usize::from(index)];
            state.admin_state != AdminState::Maintenance
                && state.health != Health::Down
                && state.resolved
                && !state.marked
                && !state.tried
        };
        let takes_new = |index: u16| {
            usable(index)
                && states[usize::from(index)].admin_state == AdminState::Active
                && MEMBERS[usize::from(index)].1 > 0
        };
        let nobody_takes_new = !(0..MEMBERS.len() as u16).any(takes_new);
        let mut turns = [Turn::default(); 4];
        for key in keys {
            let asked = Asked { now: HALF, ..asked(pin, key, random) };
            let mut choices = pools.iter().zip(&mut turns).map(|(pool, turn)| choose(pool, &asked, turn, &seen));
            let choice = choices.next().unwrap();
            for other in choices {
                prop_assert_eq!(other, choice, "another worker or node decides otherwise");
            }
            let Ok(Choice { backend, outcome }) = choice else {
                prop_assert!(nobody_takes_new || matches!(choice, Err(Unserved::PinnedDown(_))) && settings.affinity.on_down == OnDown::Fail);
                if let Pin::At { backend, incarnation: Some(1) | None } = pin {
                    prop_assert!(!usable(backend));
                }
                continue;
            };
            let state = states[usize::from(backend)];
            prop_assert!(state.admin_state != AdminState::Maintenance && state.resolved && !state.tried);
            let open = settings.health.fail_open && nobody_takes_new;
            prop_assert!(open || usable(backend), "{:?}", state);
            if outcome != Outcome::Pinned {
                prop_assert!(state.admin_state == AdminState::Active && MEMBERS[usize::from(backend)].1 > 0);
                prop_assert!(open || takes_new(backend));
            }
            if let Pin::At { backend: pinned, incarnation } = pin {
                if incarnation == Some(2) {
                    prop_assert_eq!(outcome, Outcome::Lost);
                } else if usable(pinned) {
                    let state = states[usize::from(pinned)];
                    let moves = state.admin_state == AdminState::Draining
                        && state.migrates
                        && !nobody_takes_new
                        && drain::has_moved(&half_moved(), key, HALF);
                    let moved = Outcome::Repinned { from: Some(pinned), cause: Cause::Migrated };
                    prop_assert_eq!(outcome, if moves { moved } else { Outcome::Pinned });
                }
                if outcome == Outcome::Pinned {
                    prop_assert!(backend == pinned && (usable(pinned) || open));
                }
            }
        }
    }
}

/// Where the sessions of these keys go that are pinned to `from`, by name.
fn leavers(table: &Table, from: Option<u16>, keys: impl Iterator<Item = u64>) -> Vec<String> {
    let pool = &table.pools[0];
    let pin = from.map_or(Pin::Gone, |backend| Pin::At { backend, incarnation: None });
    keys.map(|key| {
        let choice = choose(pool, &asked(pin, key, mix64(!key)), &mut Turn::default(), &Seen::default()).unwrap();
        assert!(matches!(choice.outcome, Outcome::Repinned { from: left, .. } if left == from), "{choice:?}");
        pool.backends[usize::from(choice.backend)].name.clone()
    })
    .collect()
}

#[test]
fn sessions_of_a_dead_backend_spread_over_the_rest_alike_everywhere() {
    let down = |(snapshot, before): &(Snapshot, Table)| {
        let mut snapshot = snapshot.clone();
        step(&mut snapshot, &observe("f", Observed { health: Health::Down, resolved: None }));
        build(&snapshot, Some(before))
    };
    let gone = |(snapshot, before): &(Snapshot, Table)| {
        let mut snapshot = snapshot.clone();
        step(&mut snapshot, &remove("f"));
        build(&snapshot, Some(before))
    };
    let keys = || (0..40_000).map(mix64);
    for (tables, from) in [([down(&BUILT[0]), down(&BUILT[1])], Some(5)), ([gone(&BUILT[0]), gone(&BUILT[1])], None)] {
        let left = leavers(&tables[0], from, keys());
        assert_eq!(left, leavers(&tables[1], from, keys()));
        let mut counts = BTreeMap::<&str, f64>::new();
        left.iter().for_each(|name| *counts.entry(name).or_default() += 1.0);
        let rest = MEMBERS.iter().filter(|(name, weight)| *name != "f" && *weight > 0);
        assert_eq!(counts.len(), rest.clone().count(), "{counts:?}");
        let total: u32 = rest.clone().map(|(_, weight)| weight).sum();
        for (name, weight) in rest {
            let share = f64::from(*weight) / f64::from(total);
            let deviation = (40_000.0 * share * (1.0 - share)).sqrt();
            assert!((counts[name] - 40_000.0 * share).abs() < 5.0 * deviation, "{name}: {counts:?}");
        }
    }
}

/// Where each key goes in a pool that hashes, by name.
fn hashed(table: &Table) -> Vec<String> {
    let pool = &table.pools[0];
    let at = |key| choose(pool, &asked(Pin::Hashed, key, 0), &mut Turn::default(), &Seen::default()).unwrap().backend;
    (0..2_000).map(mix64).map(|key| pool.backends[usize::from(at(key))].name.clone()).collect()
}

#[test]
fn hashed_sessions_move_only_where_they_must() {
    let mut state = snapshot(Pool::default(), &MEMBERS);
    let first = build(&state, None);
    let home = hashed(&first);
    let changed = |state: &Snapshot, before: &Table| {
        let table = build(state, Some(before));
        let now = hashed(&table);
        let moved: Vec<_> = home.iter().cloned().zip(now).filter(|(from, to)| from != to).collect();
        assert!(!moved.is_empty());
        (table, moved)
    };
    // While it is down, in maintenance or draining, those of `h` alone go elsewhere, each to one place; then home again.
    step(&mut state, &observe("h", Observed { health: Health::Down, resolved: None }));
    let (table, away) = changed(&state, &first);
    assert!(away.iter().all(|(from, to)| from == "h" && to != "h"));
    step(&mut state, &observe("h", Observed::default()));
    for admin_state in [AdminState::Maintenance, AdminState::Draining] {
        let shop = state.desired.pools.get_mut("shop").unwrap();
        shop.members.get_mut("h").unwrap().admin_state = admin_state;
        state.generation += 1;
        assert_eq!(changed(&state, &table).1, away, "{admin_state:?}");
    }
    step(&mut state, &put("h", 100));
    let table = build(&state, Some(&table));
    assert_eq!(hashed(&table), home);
    // Who comes takes, who goes gives, and nothing moves between the others.
    step(&mut state, &put("new", 50));
    assert!(changed(&state, &table).1.iter().all(|(_, to)| to == "new"));
    step(&mut state, &remove("new"));
    step(&mut state, &remove("c"));
    assert!(changed(&state, &table).1.iter().all(|(from, _)| from == "c"));
}
