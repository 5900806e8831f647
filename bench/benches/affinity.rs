//! What a worker pays per request for affinity, and the control thread per table for the ring.

use std::{hint::black_box, time::Duration};

use affinity::{
    balance::Calm,
    choose::{Asked, Choice, Outcome, choose},
    cookie::CookieName,
    free::free_choice,
    hash::mix64,
    hot::Hot,
    marker::{self, Found, Parts},
    ring::Ring,
    table::PoolTable,
    token::{MasterKey, PoolKeys, SEALED_LEN, Token},
    wheel::Turn,
};
use bench::samples::{NOW, Sessions, cookies};
use control::{
    desired::Share,
    rebalance::Rebalance,
    release::{Percent, RampPlan, Release, ReleaseState, Watch},
    spec::{Adopt, AdoptFrom, Pool, Span},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest, Md5};

fn token(c: &mut Criterion) {
    let keys = PoolKeys::new("shop", &[MasterKey::new([7; 32])]).expect("there is a key");
    let backend_ref = keys.backend_ref(0, "app-1");
    let token = Token { backend_ref, incarnation: 3, session_key: 77, issued_at: 1_000, last_seen: 2_000 };
    let mut text = [0; SEALED_LEN];
    keys.seal(&token, &mut text);
    let mut group = c.benchmark_group("token");
    group.bench_function("seal", |b| b.iter(|| keys.seal(black_box(&token), black_box(&mut text))));
    group.bench_function("open", |b| b.iter(|| keys.open(black_box(&text), 2_000)));
    text[SEALED_LEN - 20] ^= 1;
    group.bench_function("refuse", |b| b.iter(|| keys.open(black_box(&text), 2_000)));
}

fn cookie(c: &mut Criterion) {
    let name = CookieName::new("lb-affinity").expect("it is a token");
    let mut group = c.benchmark_group("cookie");
    for (label, header) in [("8 cookies", cookies(8, 200)), ("2 KiB", cookies(30, 2048)), ("8 KiB", cookies(60, 8192))]
    {
        group.throughput(Throughput::Bytes(header.len() as u64));
        group.bench_with_input(BenchmarkId::new("find", label), &header, |b, header| {
            b.iter(|| name.find(black_box(header)).next());
        });
        let mut out = Vec::with_capacity(header.len());
        group.bench_with_input(BenchmarkId::new("without", label), &header, |b, header| {
            b.iter(|| {
                out.clear();
                name.without(black_box(header), &mut out)
            });
        });
    }
}

type Usable = fn(u16) -> bool;

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    for count in [10, 1_000, 10_000] {
        let names: Vec<String> = (0..count).map(|i| format!("app-{i}")).collect();
        let members: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let ring = Ring::build(&members);
        let mut key = 0_u64;
        let mut next = move || {
            key = key.wrapping_add(1);
            mix64(key)
        };
        group.bench_function(BenchmarkId::new("build", count), |b| b.iter(|| Ring::build(black_box(&members))));
        let weighs = |weight| [&[("app-0", weight)], &members[1..]].concat();
        for (label, before, after) in [("joins", 0, 1), ("leaves", 1, 0), ("gains", 1, 2), ("loses", 2, 1)] {
            let (before, after) = (Ring::build(&weighs(before)), weighs(after));
            group.bench_function(BenchmarkId::new(format!("changed, one {label}"), count), |b| {
                b.iter(|| before.changed(black_box(&after)));
            });
        }
        group.bench_function(BenchmarkId::new("clone", count), |b| b.iter(|| black_box(&ring).clone()));
        group.bench_function(BenchmarkId::new("lookup", count), |b| b.iter(|| ring.lookup(next())));
        let cases: [(&str, Usable); 4] = [
            ("all usable", |_| true),
            ("half usable", |owner| owner % 2 == 0),
            ("one usable", |owner| owner == 7),
            ("none usable", |_| false),
        ];
        for (label, usable) in cases {
            let usable = black_box(usable);
            group.bench_function(BenchmarkId::new(format!("first usable, {label}"), count), |b| {
                b.iter(|| ring.first_usable(next(), usable));
            });
        }
    }
}

fn asked(found: &Found) -> Asked {
    found.asked(found.pin, 99, NOW)
}

/// What a request of a session costs: the pin found, the backend chosen, no marker due.
fn pinned(c: &mut Criterion) {
    let calm = Calm::default();
    let mut group = c.benchmark_group("pinned");
    let client = [198, 51, 100, 23].into();
    for count in [3, 10_000] {
        let table = bench::table(Pool::default(), count);
        let pool = &table.pools[0];
        let sessions = Sessions::of(pool);
        let mut turns = sessions.iter().cycle();
        let mut find = || {
            let cookies = &[turns.next().unwrap_or_default()];
            marker::find(pool, &Parts::with_cookies(black_box(cookies), client), NOW, 77)
        };
        group.bench_function(BenchmarkId::new("find", count), |b| b.iter(&mut find));
        group.bench_function(BenchmarkId::new("find, choose, no marker", count), |b| {
            let mut turn = Turn::default();
            b.iter(|| {
                let found = find();
                let choice = choose(pool, &asked(&found), &mut turn, &calm).expect("all are usable");
                assert_eq!(choice.outcome, Outcome::Pinned);
                assert_eq!(marker::marker(pool, &found, choice, 77, NOW), None);
                choice.backend
            });
        });
        // In passing, beside the cells of those that it falls on: all of them in turn.
        group.bench_function(BenchmarkId::new("free choice", count), |b| {
            let mut turn = Turn::default();
            b.iter(|| free_choice(black_box(pool), &mut turn));
        });
        let found: Vec<_> = sessions
            .iter()
            .map(|cookie| marker::find(pool, &Parts::with_cookies(&[cookie], client), NOW, 77))
            .collect();
        let mut founds = found.iter().cycle();
        group.bench_function(BenchmarkId::new("choose", count), |b| {
            let mut turn = Turn::default();
            b.iter(|| founds.next().map(|found| choose(pool, &asked(found), &mut turn, &calm)));
        });
    }
}

/// What the sessions of a pool have been found to be, of those whose choice is `wanted`.
fn founds(pool: &PoolTable, wanted: impl Fn(Choice) -> bool) -> Vec<Found> {
    let sessions = Sessions::of(pool);
    let find = |cookie| marker::find(pool, &Parts::with_cookies(&[cookie], [198, 51, 100, 23].into()), NOW, 77);
    let chosen = |found: &Found| choose(pool, &asked(found), &mut Turn::default(), &Calm::default());
    sessions.iter().map(find).filter(|found| chosen(found).is_ok_and(&wanted)).collect()
}

/// What a choice costs a session while others of its pool are released or moved, and what it costs these.
fn under_way(c: &mut Criterion) {
    let mut group = c.benchmark_group("under way");
    let mut bench = |label, pool: &PoolTable, wanted: fn(Choice) -> bool| {
        let founds = founds(pool, wanted);
        assert!(founds.len() > 1_000, "{label}: {}", founds.len());
        let (mut turn, mut founds) = (Turn::default(), founds.iter().cycle());
        group.bench_function(BenchmarkId::new(label, pool.backends.len()), |b| {
            b.iter(|| founds.next().map(|found| choose(pool, &asked(found), &mut turn, &Calm::default())));
        });
    };
    for count in [3, 10_000] {
        let released = &bench::table_with(Pool::default(), count, |snapshot| {
            snapshot.desired.releases.insert("shop".to_owned(), release());
        });
        bench("release, in the cohort", &released.pools[0], |choice| {
            matches!(choice.outcome, Outcome::Released { .. })
        });
        bench("release, outside of it", &released.pools[0], |choice| choice.outcome == Outcome::Pinned);
        let rebalanced = &bench::table_with(Pool::default(), count, |snapshot| {
            snapshot.rebalances.insert("shop".to_owned(), round(count));
        });
        bench("rebalance, moves", &rebalanced.pools[0], |choice| matches!(choice.outcome, Outcome::Repinned { .. }));
        bench("rebalance, stays", &rebalanced.pools[0], |choice| choice.outcome == Outcome::Pinned);
    }
}

/// Half of the sessions are released.
fn release() -> Release {
    let half = Percent::new(50.0).expect("it is a share");
    let watch = Watch::default();
    Release {
        id: 1,
        plan: RampPlan { steps: vec![half], hold: Span::from_secs(60), harm: 0.1, alpha: 0.01, watch },
        state: ReleaseState::Running,
        step: 0,
        since: 0,
        step_since: 0,
        passed: Vec::new(),
        stopped: None,
    }
}

/// Every other backend has given half of its sessions to the rest.
fn round(backends: usize) -> Rebalance {
    let half = Share::new(0.5).expect("it is a share");
    let names = |first| (first..backends).step_by(2).map(|i| format!("app-{i}"));
    let since = u64::from(NOW - 120) * 1_000;
    Rebalance {
        since,
        until: since + 60_000,
        idle_first: false,
        from: names(0).map(|name| (name, half)).collect(),
        to: names(1).map(|name| (name, 1)).collect(),
    }
}

/// What it costs to take over a session from another balancer's cookie.
fn adopted(c: &mut Criterion) {
    let mut group = c.benchmark_group("adopted");
    for (label, from) in [("HAProxy, by name", AdoptFrom::Haproxy), ("nginx, by MD5", AdoptFrom::Nginx)] {
        for count in [3, 10_000] {
            let mut settings = Pool::default();
            settings.affinity.adopt =
                vec![Adopt { from: Some(from), cookie: "SERVERID".to_owned(), ..Adopt::default() }];
            let table = bench::table(settings, count);
            let pool = &table.pools[0];
            let cookies: Vec<_> = (0..16_384)
                .map(|i| {
                    let backend = &pool.backends[mix64(i) as usize % count];
                    let address = backend.address.as_ref().map(|address| address.to_string()).unwrap_or_default();
                    let md5 = || Md5::digest(&address).iter().map(|byte| format!("{byte:02x}")).collect();
                    let value: String = if from == AdoptFrom::Nginx { md5() } else { backend.name.clone() };
                    format!("theme=dark; SERVERID={value}; cart=17").into_bytes()
                })
                .collect();
            let mut turns = cookies.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("find, {label}"), count), |b| {
                b.iter(|| {
                    let cookies = &[turns.next().map_or(&b""[..], Vec::as_slice)];
                    let parts = Parts::with_cookies(black_box(cookies), [198, 51, 100, 23].into());
                    let found = marker::find(pool, &parts, NOW, 77);
                    assert!(found.adopted.is_some());
                    found
                });
            });
        }
    }
}

/// What the first request of a session costs.
fn begun(c: &mut Criterion) {
    let calm = Calm::default();
    let mut group = c.benchmark_group("begun");
    for count in [3, 10_000] {
        let table = bench::table(Pool::default(), count);
        let pool = &table.pools[0];
        let found = marker::find(pool, &Parts::with_cookies(&[], [198, 51, 100, 23].into()), NOW, 77);
        let mut line = Vec::with_capacity(256);
        let mut turn = Turn::default();
        group.bench_function(BenchmarkId::new("choose, marker, Set-Cookie", count), |b| {
            b.iter(|| {
                line.clear();
                let choice = choose(pool, &asked(&found), &mut turn, &calm).expect("all are usable");
                let marker = marker::marker(pool, &found, choice, 77, NOW).expect("the pin is new");
                marker::write(pool, &marker, &mut line);
                line.len()
            });
        });
    }
}

/// What a sampled request costs the control thread: where few keys come, and where all are new and each takes the lowest's
/// place.
fn hot(c: &mut Criterion) {
    let mut group = c.benchmark_group("hot");
    for (label, keys) in [("100 keys", 100), ("all new", u64::MAX)] {
        let (mut hot, mut n) = (Hot::new(128), 0_u64);
        group.bench_function(BenchmarkId::new("add", label), |b| {
            b.iter(|| {
                n += 1;
                hot.add(mix64(n) % keys);
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = token, cookie, ring, pinned, under_way, adopted, begun, hot
}
criterion_main!(benches);
