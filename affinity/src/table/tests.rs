use super::*;
use crate::testing::{SlotsByName, build, member, observe, put, remove, snapshot, step};
use control::{
    desired::{Change, Drain, DrainMode, Member, Observed},
    spec::{Affinity, AppCookie, AppCookieStyle, Cookie, Mode, Route, TokenKind},
};

fn two_pools() -> Snapshot {
    let mut state = snapshot(Pool::default(), &[("a", 1), ("b", 2)]);
    let blog = PoolState { members: [("x".to_owned(), member(1))].into(), ..PoolState::default() };
    state.desired.pools.insert("blog".to_owned(), blog);
    state
}

fn only(pool: &str) -> Dirty {
    Dirty::Pools([pool.to_owned()].into())
}

fn rebuild(state: &Snapshot, before: &Table, dirty: &Dirty) -> Table {
    Table::build(state, Some(before), dirty, &mut SlotsByName, 0)
}

#[test]
fn what_is_not_dirty_is_shared_with_the_table_before() {
    let mut state = two_pools();
    let before = build(&state, None);
    step(&mut state, &put("a", 5));
    let table = rebuild(&state, &before, &only("shop"));
    assert_eq!(table.generation, 2);
    assert!(Arc::ptr_eq(table.pool("blog").unwrap(), before.pool("blog").unwrap()));
    let (shop, old) = (table.pool("shop").unwrap(), before.pool("shop").unwrap());
    assert!(!Arc::ptr_eq(shop, old));
    assert_eq!((shop.backends[0].weight, old.backends[0].weight), (5, 1));

    let all = rebuild(&state, &table, &Dirty::All);
    assert!(all.pools.iter().zip(&table.pools).all(|(pool, old)| !Arc::ptr_eq(pool, old)));
    // A pool that the table before did not have is built, dirty or not; one that is gone is left out.
    step(&mut state, &Change::PutPool { name: "api".into(), pool: Box::default() });
    step(&mut state, &Change::RemovePool { name: "blog".into() });
    let table = rebuild(&state, &all, &Dirty::Pools(BTreeSet::new()));
    assert_eq!(table.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["api", "shop"]);
    assert!(table.pool("blog").is_none());
}

#[test]
fn only_weights_and_membership_make_a_new_ring() {
    let mut state = snapshot(Pool::default(), &[("a", 1), ("b", 2)]);
    let before = build(&state, None);
    // The ring is older than the pool that has it.
    step(&mut state, &observe("b", Observed { health: Health::Up, resolved: None }));
    let before = rebuild(&state, &before, &only("shop"));
    let with = |change: Member| put_member("a", change);
    let down = Observed { health: Health::Down, resolved: None };
    let settings = Change::PutSettings { name: "shop".into(), settings: Box::new(source_ip()) };
    let cases = [
        (observe("a", down), true),
        (with(Member { admin_state: AdminState::Draining, ..member(1) }), true),
        (with(Member { admin_state: AdminState::Maintenance, ..member(1) }), true),
        (with(Member { incarnation: 7, ..member(1) }), true),
        (with(Member { address: "192.0.2.2:80".into(), ..member(1) }), true),
        (settings, true),
        (put("a", 3), false),
        (put("a", 0), false),
        (put("c", 1), false),
        (put("c", 0), false),
        (remove("a"), false),
    ];
    for (change, same) in cases {
        let mut state = state.clone();
        step(&mut state, &change);
        let table = rebuild(&state, &before, &only("shop"));
        let (pool, old) = (&table.pools[0], &before.pools[0]);
        assert!(!Arc::ptr_eq(pool, old), "{change:?}");
        assert_eq!(Arc::ptr_eq(&pool.ring, &old.ring), same, "{change:?}");
        // Another worker takes the same step in its own memory.
        let other = before.copy(None);
        let next = table.copy(Some(&other));
        assert_eq!(Arc::ptr_eq(&next.pools[0].ring, &other.pools[0].ring), same, "{change:?}");
    }
}

fn put_member(name: &str, member: Member) -> Change {
    Change::PutMember { pool: "shop".into(), name: name.into(), member }
}

fn source_ip() -> Pool {
    Pool { affinity: Affinity { mode: Mode::SourceIp, ..Affinity::default() }, ..Pool::default() }
}

#[test]
fn a_copy_shares_nothing_but_what_that_worker_has_already() {
    let mut state = two_pools();
    let first = build(&state, None);
    let second = first.copy(None);
    let apart = |one: &Table, other: &Table| {
        one.pools.iter().zip(&other.pools).all(|(pool, own)| {
            !Arc::ptr_eq(pool, own) && !Arc::ptr_eq(&pool.ring, &own.ring) && Arc::strong_count(&own.ring) == 1
        })
    };
    assert!(apart(&first, &second));
    for (pool, own) in first.pools.iter().zip(&second.pools) {
        assert_eq!((&pool.name, &pool.backends, pool.slot), (&own.name, &own.backends, own.slot));
        assert_eq!(pool.settings, own.settings);
        assert!((0..500).all(|key| pool.ring.lookup(key) == own.ring.lookup(key)));
        let backend_ref = pool.keys.as_ref().unwrap().backend_ref(0, &pool.backends[0].name);
        assert_eq!(own.by_ref(0, backend_ref), Some(0));
        assert_eq!(own.by_name(pool.backends[0].name.as_bytes()), Some(0));
    }

    step(&mut state, &observe("a", Observed { health: Health::Down, resolved: None }));
    let first = rebuild(&state, &first, &only("shop"));
    let third = first.copy(Some(&second));
    assert!(Arc::ptr_eq(third.pool("blog").unwrap(), second.pool("blog").unwrap()));
    let (now, was) = (third.pool("shop").unwrap(), second.pool("shop").unwrap());
    assert!(!Arc::ptr_eq(now, was) && Arc::ptr_eq(&now.ring, &was.ring));
    assert_eq!((now.backends[0].health, was.backends[0].health), (Health::Down, Health::Unknown));
    assert!(first.pools.iter().zip(&third.pools).all(|(pool, own)| !Arc::ptr_eq(&pool.ring, &own.ring)));
    // A worker that missed tables catches up with those before it.
    step(&mut state, &put("a", 4));
    let first = rebuild(&state, &first, &only("shop"));
    let late = first.copy(Some(&second));
    assert!(apart(&first, &late) || Arc::ptr_eq(late.pool("blog").unwrap(), second.pool("blog").unwrap()));
    assert_eq!(late.pool("shop").unwrap().backends, first.pool("shop").unwrap().backends);
    assert_eq!(late.generation, 3);
}

#[test]
fn refs_follow_the_keys() {
    let mut state = two_pools();
    let one = build(&state, None);
    let old_ref = one.pool("shop").unwrap().keys.as_ref().unwrap().backend_ref(0, "b");
    assert_eq!(one.pool("shop").unwrap().by_ref(0, old_ref), Some(1));
    step(&mut state, &Change::Keys { keys: vec![Key([2; 32]), Key([1; 32])] });
    let two = rebuild(&state, &one, &Dirty::All);
    for pool in [two.pool("shop").unwrap(), two.copy(Some(&one)).pool("shop").unwrap()] {
        let new_ref = pool.keys.as_ref().unwrap().backend_ref(0, "b");
        assert_ne!(new_ref, old_ref);
        assert_eq!([pool.by_ref(0, new_ref), pool.by_ref(1, old_ref)], [Some(1); 2]);
        // A ref is one of the key that opened it.
        assert_eq!([pool.by_ref(0, old_ref), pool.by_ref(1, new_ref), pool.by_ref(2, new_ref)], [None; 3]);
    }
    step(&mut state, &Change::Keys { keys: vec![Key([2; 32])] });
    let three = rebuild(&state, &two, &Dirty::All);
    assert_eq!(three.pool("shop").unwrap().by_ref(1, old_ref), None);
    // Who comes before it by name moves the index and not the ref.
    step(&mut state, &put("aa", 1));
    let four = rebuild(&state, &three, &only("shop"));
    let shop = four.pool("shop").unwrap();
    assert_eq!(shop.by_ref(0, shop.keys.as_ref().unwrap().backend_ref(0, "b")), Some(2));
    assert_eq!(shop.by_name(b"b"), Some(2));
    assert_eq!(shop.by_name(b"c"), None);
}

#[test]
fn keys_are_made_only_for_what_is_sealed() {
    let plain = Cookie { token: TokenKind::Plain, ..Cookie::default() };
    let affinity =
        |mode, cookie| Pool { affinity: Affinity { mode, cookie, ..Affinity::default() }, ..Pool::default() };
    let follows = |style| {
        let app_cookie = Some(AppCookie { name: "sid".into(), style, path_parameter: None });
        Pool { affinity: Affinity { mode: Mode::AppCookie, app_cookie, ..Affinity::default() }, ..Pool::default() }
    };
    for (settings, cookie, keys) in [
        (affinity(Mode::Cookie, Cookie::default()), true, true),
        (affinity(Mode::Cookie, plain), true, false),
        (affinity(Mode::SourceIp, Cookie::default()), false, false),
        (follows(AppCookieStyle::Follow), true, true),
        (follows(AppCookieStyle::Prefix), false, true),
        (follows(AppCookieStyle::Hash), false, false),
        (affinity(Mode::None, Cookie::default()), false, false),
    ] {
        let table = build(&snapshot(settings, &[]), None);
        let pool = &table.pools[0];
        assert_eq!((pool.cookie.is_some(), pool.keys.is_some(), pool.refs.len()), (cookie, keys, usize::from(keys)));
    }
    let mut keyless = two_pools();
    keyless.desired.keys.clear();
    assert!(build(&keyless, None).pools.iter().all(|pool| pool.keys.is_none() && pool.by_ref(0, 0).is_none()));
}

#[test]
fn a_backend_has_what_is_desired_and_what_is_observed() {
    let drain = Some(Drain { mode: DrainMode::Retire, since: 7, ..Drain::default() });
    let named = Member { address: "app.internal:80".into(), admin_state: AdminState::Draining, drain, ..member(4) };
    let mut state = snapshot(Pool::default(), &[("b", 1)]);
    step(&mut state, &put_member("a", named));
    let backend = |state: &Snapshot, index: usize| build(state, None).pools[0].backends[index].clone();
    let expected = Backend {
        name: "a".into(),
        address: None,
        weight: 4,
        backup: false,
        admin_state: AdminState::Draining,
        drain: Some(Drain { mode: DrainMode::Retire, since: 7, ..Drain::default() }),
        health: Health::Unknown,
        incarnation: 1,
        warming_since: None,
        server_name: None,
        slot: SlotsByName.backend("shop", "a"),
    };
    assert_eq!(backend(&state, 0), expected);
    let resolved = Some("192.0.2.9:80".parse().unwrap());
    let observed = Observed { health: Health::Up, resolved };
    step(&mut state, &observe("a", observed));
    assert_eq!(backend(&state, 0), Backend { address: resolved.map(Endpoint::Inet), health: Health::Up, ..expected });
    // An address that needs no resolving is taken as it is.
    step(&mut state, &observe("b", observed));
    assert_eq!(backend(&state, 1).address, Some("192.0.2.1:80".parse().unwrap()));
}

#[test]
fn routers_lead_to_the_right_pools_whoever_comes_and_goes() {
    let mut state = two_pools();
    let route = |host: &str, pool: &str| Route { host: Some(host.into()), pool: pool.into(), ..Route::default() };
    let routes = vec![route("shop.example", "shop"), route("blog.example", "blog"), route("api.example", "api")];
    let listener = Listener { pool: Some("shop".into()), routes, ..Listener::default() };
    step(&mut state, &Change::Listeners { listeners: vec![Listener::default(), listener] });
    let leads = |table: &Table| {
        ["shop", "blog", "api", "other"].map(|host| {
            let lead = table.listeners[1].router.find(format!("{host}.example").as_bytes(), b"/");
            lead.map_or("", |lead| table.pools[lead.pool as usize].name.as_str()).to_owned()
        })
    };
    let mut table = build(&state, None);
    assert_eq!(leads(&table), ["shop", "blog", "shop", "shop"]);
    assert_eq!(table.listeners[0].router.find(b"shop.example", b"/"), None);
    let put_pool = |name: &str| Change::PutPool { name: name.into(), pool: Box::default() };
    for (change, expected) in [
        (put_pool("api"), ["shop", "blog", "api", "shop"]),
        (put_pool("aaa"), ["shop", "blog", "api", "shop"]),
        (Change::RemovePool { name: "blog".into() }, ["shop", "shop", "api", "shop"]),
        (Change::RemovePool { name: "shop".into() }, ["", "", "api", ""]),
    ] {
        step(&mut state, &change);
        table = rebuild(&state, &table, &Dirty::Pools(BTreeSet::new()));
        assert_eq!(leads(&table), expected, "{change:?}");
        assert_eq!(leads(&table.copy(None)), expected, "{change:?}");
    }
}

#[test]
fn as_many_backends_as_can_be() {
    let names: Vec<_> = (0..crate::ring::MAX_MEMBERS).map(|n| format!("app-{n:05}")).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let table = build(&snapshot(Pool::default(), &members), None);
    let pool = &table.pools[0];
    let last = pool.backends.len() - 1;
    assert_eq!(pool.by_name(names[last].as_bytes()), u16::try_from(last).ok());
    let backend_ref = pool.keys.as_ref().unwrap().backend_ref(0, &names[last]);
    assert_eq!(pool.by_ref(0, backend_ref), u16::try_from(last).ok());
}
