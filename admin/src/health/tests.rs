use super::{
    board::{Board, Due, Id, Job},
    machine::Machine,
};
use crate::{
    events::{Event, Kind},
    testing::{Folder, Rig},
};
use control::{
    desired::{Change, Member, Observed, PoolState, Snapshot},
    spec::{Backend, Check, HealthCheck, Passive, Pool, Span},
    status::Health,
};
use std::{collections::BTreeMap, sync::Arc};

fn settings(check: Check) -> HealthCheck {
    let passive = Passive { failures: 3, hold: Span::from_secs(10) };
    HealthCheck { check, rise: 2, fall: 3, passive, ..HealthCheck::default() }
}

/// What happens to a machine: `+` a success, `-` a failure, `!` a mark, `u` `d` `a` a pushed health, `t` ten seconds.
fn play(check: Check, script: &str) -> (String, Machine) {
    let settings = settings(check);
    let (mut machine, mut now, mut shown) = (Machine::default(), 0, String::new());
    for event in script.chars() {
        match event {
            '+' => machine.checked(Ok(()), &settings),
            '-' => machine.checked(Err(Arc::from("status 503")), &settings),
            '!' => machine.failing(Arc::from("connection refused"), &settings, now),
            'u' => machine.push(Some(Health::Up)),
            'd' => machine.push(Some(Health::Down)),
            'a' => machine.push(None),
            't' => now += 10_000,
            other => panic!("{other}"),
        }
        machine.tick(now);
        shown.push(match machine.health() {
            Health::Up => 'u',
            Health::Down => 'd',
            Health::Unknown => '?',
        });
    }
    (shown, machine)
}

#[test]
fn health_follows_checks_marks_and_what_is_pushed() {
    use Check::{Http, Off, Tcp};
    // Beside the events stands the health after each: `?` unknown, `u`p, `d`own.
    for (check, script, shown) in [
        (Tcp, "+", "?"),
        (Tcp, "++", "?u"),
        (Tcp, "--", "??"),
        (Tcp, "---", "??d"),
        (Tcp, "+-+-+-", "??????"),
        (Tcp, "++--+--", "?uuuuuu"),
        (Tcp, "++---", "?uuud"),
        (Tcp, "++---+", "?uuudd"),
        (Tcp, "++---++", "?uuuddu"),
        (Tcp, "++---+-++", "?uuuddddu"),
        (Http, "!", "d"),
        (Http, "++!", "?ud"),
        (Http, "++!+", "?udd"),
        (Http, "++!++", "?uddu"),
        (Http, "+!+", "?dd"),
        (Http, "!t", "dd"),
        (Off, "!", "d"),
        (Off, "!t", "d?"),
        (Off, "!t!t", "d?d?"),
        (Tcp, "++d", "?ud"),
        (Tcp, "d++", "ddd"),
        (Tcp, "d++a", "dddu"),
        (Tcp, "u---", "uuuu"),
        (Tcp, "u---a", "uuuud"),
        (Tcp, "u!", "uu"),
        (Tcp, "u!a", "uud"),
        (Off, "da", "d?"),
        (Off, "u!ta", "uuu?"),
    ] {
        assert_eq!(play(check, script).0, shown, "{check:?} {script}");
    }
}

#[test]
fn reasons_come_and_go_with_what_they_explain() {
    for (script, reason) in [
        ("", None),
        ("-", Some("status 503")),
        ("---", Some("status 503")),
        ("---+", Some("status 503")),
        ("---++", None),
        ("++-", Some("status 503")),
        ("++-+", None),
        ("++!", Some("connection refused")),
        ("++!++", None),
        ("++d", Some("set over REST")),
        ("++da", None),
    ] {
        assert_eq!(play(Check::Http, script).1.reason().as_deref(), reason, "{script}");
    }
}

#[test]
fn passive_marks_can_be_turned_off() {
    let off = HealthCheck { passive: Passive { failures: 0, ..Passive::default() }, ..settings(Check::Off) };
    let mut machine = Machine::default();
    machine.failing(Arc::from("reset"), &off, 0);
    assert_eq!((machine.health(), machine.deadline()), (Health::Unknown, None));
}

fn member(address: &str) -> Member {
    Member::new(&Backend { address: address.into(), ..Backend::default() }, 1)
}

fn pool(check: HealthCheck, addresses: &[(&str, &str)]) -> PoolState {
    let settings = Pool { name: "shop".into(), health: check, ..Pool::default() };
    let members = addresses.iter().map(|(name, address)| ((*name).to_owned(), member(address))).collect();
    PoolState { settings, members }
}

struct Bench {
    board: Board,
    snapshot: Snapshot,
}

impl Bench {
    fn new(pool: PoolState) -> Self {
        let mut bench = Self { board: Board::default(), snapshot: Snapshot::default() };
        bench.change(Change::PutPool { name: "shop".into(), pool: Box::new(pool) }, 0);
        bench
    }

    fn change(&mut self, change: Change, now: u64) {
        self.snapshot.apply(&change);
        self.board.follow(&change, &self.snapshot, now);
    }

    fn jobs(&mut self, now: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some(due) = self.board.take_due(&self.snapshot, now) {
            match due {
                Due::Job(job) => jobs.push(job),
                Due::Over(changed) => assert!(changed.is_some()),
            }
        }
        jobs
    }

    fn health(&self, name: &str) -> Health {
        self.board.health("shop", name).0
    }
}

fn id(name: &str) -> Id {
    (Arc::from("shop"), Arc::from(name))
}

#[test]
fn thousands_of_checks_are_spread_over_the_interval_and_stay_so() {
    let names: Vec<_> = (0..4_000).map(|number| format!("app-{number}")).collect();
    let addresses: Vec<_> = names.iter().map(|name| (name.as_str(), "10.0.0.1:80")).collect();
    let mut bench = Bench::new(pool(settings(Check::Tcp), &addresses));
    let interval = HealthCheck::default().interval.as_millis();
    let mut checks: BTreeMap<Id, Vec<u64>> = BTreeMap::new();
    let mut busiest = 0;
    for now in 0..interval * 5 {
        let jobs = bench.jobs(now);
        busiest = busiest.max(jobs.len());
        for job in jobs {
            checks.entry(job.ticket.id.clone()).or_default().push(now);
            bench.board.checked(&job.ticket, Ok(()), now);
        }
    }
    assert_eq!(checks.len(), 4_000);
    assert!(busiest < 40, "{busiest} checks in one millisecond, where two would be even");
    for times in checks.values() {
        assert!(times[0] < interval && times.len() >= 4);
        assert!(times.windows(2).all(|pair| (interval..=interval * 11 / 10).contains(&(pair[1] - pair[0]))));
    }
}

#[test]
fn the_board_follows_membership() {
    let mut bench = Bench::new(pool(settings(Check::Tcp), &[("a", "10.0.0.1:80"), ("b", "app.internal:80")]));
    let far = 1_000_000;
    let jobs = bench.jobs(far);
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().any(|job| job.target.is_none() && job.ticket.id == id("b")), "its name has not resolved");

    let resolved = Observed { resolved: Some("10.0.0.9:80".parse().unwrap()), ..Observed::default() };
    bench.change(Change::Observe { pool: "shop".into(), name: "b".into(), observed: resolved }, far);
    for job in jobs {
        bench.board.checked(&job.ticket, Ok(()), far);
    }
    let jobs = bench.jobs(far + 60_000);
    let mut targets: Vec<_> = jobs.iter().map(|job| job.target.as_ref().unwrap().to_string()).collect();
    targets.sort();
    assert_eq!(targets, ["10.0.0.1:80", "10.0.0.9:80"]);
    for job in &jobs {
        bench.board.checked(&job.ticket, Ok(()), far);
    }
    assert_eq!((bench.health("a"), bench.health("b")), (Health::Up, Health::Up));

    // A check of an address that is no longer the backend's says nothing.
    let stale = &jobs[0].ticket;
    let name = stale.id.1.to_string();
    bench.change(Change::PutMember { pool: "shop".into(), name: name.clone(), member: member("10.0.0.7:80") }, far);
    assert_eq!(bench.health(&name), Health::Unknown, "another address is another server");
    for _ in 0..5 {
        assert_eq!(bench.board.checked(stale, Err(Arc::from("refused")), far), None);
    }
    bench.change(Change::RemovePool { name: "shop".into() }, far);
    assert_eq!(bench.board.next_due(), None, "nothing is left to be done for what is gone");
}

#[test]
fn other_settings_take_effect_at_once_and_a_mark_ends_by_itself() {
    let mut bench = Bench::new(pool(settings(Check::Tcp), &[("a", "10.0.0.1:80")]));
    bench.board.failing(&id("a"), Arc::from("reset"), 0);
    assert_eq!(bench.health("a"), Health::Down);
    let off = Pool { name: "shop".into(), health: settings(Check::Off), ..Pool::default() };
    bench.change(Change::PutSettings { name: "shop".into(), settings: Box::new(off) }, 0);
    assert_eq!((bench.health("a"), bench.board.next_due()), (Health::Unknown, None));
    assert_eq!(bench.board.failing(&id("a"), Arc::from("reset"), 5_000), Some(Health::Down));
    assert_eq!(bench.board.failing(&id("a"), Arc::from("reset"), 6_000), None);
    assert_eq!(bench.board.next_due(), Some(16_000), "from the last mark on");
    assert!(bench.jobs(16_000).is_empty());
    assert_eq!((bench.health("a"), bench.board.next_due()), (Health::Unknown, None));
    assert_eq!(bench.board.failing(&id("gone"), Arc::from("reset"), 0), None);
}

#[test]
fn a_pushed_health_outlives_another_address_and_ends_with_the_backend() {
    let mut bench = Bench::new(pool(settings(Check::Tcp), &[("a", "10.0.0.1:80")]));
    assert_eq!(bench.board.push(&id("a"), Some(Health::Down)), Some(Health::Down));
    assert_eq!(bench.board.push(&id("a"), Some(Health::Down)), None);
    bench.change(Change::PutMember { pool: "shop".into(), name: "a".into(), member: member("10.0.0.2:80") }, 0);
    assert_eq!(bench.health("a"), Health::Down);
    bench.change(Change::RemoveMember { pool: "shop".into(), name: "a".into() }, 0);
    bench.change(Change::PutMember { pool: "shop".into(), name: "a".into(), member: member("10.0.0.2:80") }, 0);
    assert_eq!(bench.health("a"), Health::Unknown);
}

/// The next health that is told of a backend, with its reason.
async fn told(feed: &mut crate::events::Feed) -> (String, String, Option<String>) {
    loop {
        let Event { kind, data, .. } = feed.live.recv().await.unwrap();
        if kind == Kind::Health {
            let data: serde_json::Value = serde_json::from_str(&data).unwrap();
            let text = |key: &str| data[key].as_str().map(str::to_owned);
            return (text("backend").unwrap(), text("health").unwrap(), text("reason"));
        }
    }
}

#[tokio::test]
async fn backends_are_checked_while_it_runs() {
    let up = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = up.local_addr().unwrap().port();
    let down = tokio::net::TcpSocket::new_v4().unwrap();
    down.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let down = down.local_addr().unwrap().to_string();

    let folder = Folder::new();
    let mut config = folder.config(&[("a", &format!("localhost:{port}"))]);
    config.pools[0].health =
        HealthCheck { interval: Span::from_millis(100), rise: 1, fall: 1, ..HealthCheck::default() };
    let rig = Rig::start(config);
    let mut feed = rig.state.events.follow(None).unwrap();
    let running = tokio::spawn(super::run(Arc::clone(&rig.state)));
    let looking = tokio::spawn(crate::names::run(Arc::clone(&rig.state)));
    loop {
        // Until its name has resolved, there is nothing to connect to.
        match told(&mut feed).await {
            (_, health, None) if health == "up" => break,
            (_, health, reason) => {
                assert_eq!((&*health, reason.as_deref()), ("down", Some("its name does not resolve")))
            }
        }
    }
    assert_eq!(rig.done("GET /v1/pools/shop/backends/a", "").await["resolved"], format!("127.0.0.1:{port}"));

    rig.done("PUT /v1/pools/shop/backends/b", &format!(r#"{{"address":"{down}"}}"#)).await;
    assert_eq!(told(&mut feed).await, ("b".into(), "down".into(), Some("connection refused".into())));
    // A backend in maintenance is checked all the same.
    rig.done("POST /v1/pools/shop/backends/b/maintenance", "").await;
    rig.done("PATCH /v1/pools/shop/backends/b", &format!(r#"{{"address":"127.0.0.1:{port}"}}"#)).await;
    assert_eq!(told(&mut feed).await.1, "unknown", "it is another server now");
    assert_eq!(told(&mut feed).await, ("b".into(), "up".into(), None));
    rig.done("PUT /v1/pools/shop", r#"{"health":{"check":"off"}}"#).await;
    let off = [told(&mut feed).await.1, told(&mut feed).await.1];
    assert_eq!(off, ["unknown", "unknown"], "nobody looks any more");
    running.abort();
    looking.abort();
}
