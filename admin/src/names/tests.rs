use super::{
    PLACES,
    found::{Answer, changes},
    schedule::{Lookup, Owner, Schedule, Turn},
    source::{Place, Places, Question, Resolver, Source, listed},
};
use crate::testing::{Folder, Rig};
use control::{
    desired::{AdminState, Change, Drain, Member, PoolState, SEED_INCARNATION, Snapshot, Then},
    spec::{Discover, Family, Names, Pool, Span},
};
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};

const INTERVAL: u64 = 30_000;

fn settings(discover: &[(&str, &str)]) -> Pool {
    let discover = discover.iter().map(|(name, address)| Discover {
        name: (*name).to_owned(),
        address: (*address).to_owned(),
        ..Discover::default()
    });
    Pool { name: "shop".into(), discover: discover.collect(), ..Pool::default() }
}

fn member(address: &str) -> Member {
    Member::new(&control::spec::Backend { address: address.to_owned(), ..Default::default() }, SEED_INCARNATION)
}

/// As a resolver finds them.
fn places(addresses: &[&str]) -> Places {
    let place = |address: &&str| {
        let at: SocketAddr = address.parse().unwrap();
        (at.ip().to_string().replace(':', "-"), Place { at, weight: None, backup: None })
    };
    addresses.iter().map(place).collect()
}

#[derive(Default)]
struct Bench {
    snapshot: Snapshot,
    schedule: Schedule,
}

impl Bench {
    fn new(settings: Pool, members: &[(&str, &str)]) -> Self {
        let members = members.iter().map(|(name, address)| ((*name).to_owned(), member(address)));
        let pool = Box::new(PoolState { settings, members: members.collect() });
        let mut bench = Self::default();
        bench.change(Change::PutPool { name: "shop".into(), pool }, 0);
        bench
    }

    fn change(&mut self, change: Change, now: u64) {
        self.snapshot.apply(&change);
        self.schedule.follow(&change, &self.snapshot, now);
    }

    fn settle(&mut self, settings: Pool, now: u64) {
        self.change(Change::PutSettings { name: "shop".into(), settings: Box::new(settings) }, now);
    }

    fn due(&mut self, now: u64) -> Vec<Lookup> {
        std::iter::from_fn(|| self.schedule.take_due(now).ok()).collect()
    }

    fn next(&mut self) -> Option<u64> {
        self.schedule.take_due(0).unwrap_err()
    }

    /// What a name of the pool's only `discover` leads to now.
    fn answer(&mut self, addresses: &[&str], now: u64) -> usize {
        let settings = &self.snapshot.desired.pools["shop"].settings;
        let discover = &settings.discover[0];
        let answer = Answer {
            pool: Arc::from("shop"),
            name: Arc::from(discover.name.as_str()),
            question: Question::of(discover, &settings.names),
            places: places(addresses),
        };
        let changes = changes(&self.snapshot, &answer, now);
        for change in &changes {
            self.change(change.clone(), now);
        }
        changes.len()
    }

    fn member(&self, name: &str) -> &Member {
        &self.snapshot.desired.pools["shop"].members[name]
    }

    fn members(&self) -> String {
        let members =
            self.snapshot.desired.pools["shop"].members.iter().map(|(name, member)| match member.admin_state {
                AdminState::Active => name.clone(),
                AdminState::Draining => format!("({name})"),
                AdminState::Maintenance => format!("[{name}]"),
            });
        members.collect::<Vec<_>>().join(" ")
    }

    fn command(&mut self, name: &str, admin_state: AdminState, drain: Option<Drain>) {
        let member = Member { admin_state, drain, ..self.member(name).clone() };
        self.change(Change::PutMember { pool: "shop".into(), name: name.into(), member }, 0);
    }
}

#[test]
fn names_are_looked_up_again_and_again_and_addresses_never() {
    let discover = [("app", "app.internal:80")];
    let mut bench = Bench::new(settings(&discover), &[("a", "10.0.0.1:80"), ("b", "b.internal:80"), ("c", "unix:/c")]);
    let first = bench.due(0);
    let addresses: Vec<_> = first.iter().map(|lookup| lookup.question.to_string()).collect();
    assert_eq!(addresses, ["b.internal:80", "app.internal:80"]);
    assert!(bench.due(1_000_000).is_empty(), "one look-up of a name at a time");
    for lookup in &first {
        assert_eq!(bench.schedule.looked_up(&lookup.ticket, None, 1_000), Some(Turn::Same));
    }
    let next = bench.next().unwrap() - 1_000;
    assert!((INTERVAL..INTERVAL + INTERVAL / 10).contains(&next), "{next}");
    let shorter = Names { interval: Span::from_secs(2), family: Family::Either, ..Names::default() };
    bench.settle(Pool { names: shorter, ..settings(&discover) }, 5_000);
    assert_eq!(bench.next(), Some(7_000), "it does not wait for the interval that was");
    let both = Names { family: Family::Both, ..shorter };
    bench.settle(Pool { names: both, ..settings(&discover) }, 6_000);
    let again = bench.due(6_000);
    assert_eq!(again.len(), 2, "the answer is another one");
    // What is under way then is no answer to what is asked now.
    bench.settle(Pool { names: shorter, ..settings(&discover) }, 6_500);
    assert_eq!(bench.schedule.looked_up(&again[0].ticket, None, 7_000), None);
    assert_eq!(bench.due(7_000).len(), 2);
}

#[test]
fn a_look_up_that_fails_is_told_once_and_tried_again_sooner() {
    let mut bench = Bench::new(settings(&[]), &[("b", "b.internal:80")]);
    let [lookup] = bench.due(0).try_into().unwrap();
    let why = || Some(Arc::from("no such name"));
    assert_eq!(bench.schedule.looked_up(&lookup.ticket, why(), 100), Some(Turn::Fails(Arc::from("no such name"))));
    let again = bench.next().unwrap();
    assert!((5_100..5_600).contains(&again), "{again}");
    bench.due(again);
    assert_eq!(bench.schedule.looked_up(&lookup.ticket, why(), again), Some(Turn::Same));
    let owner = Owner::backend("shop", "b");
    assert_eq!(bench.schedule.all(1_000)[&owner].as_ref().unwrap().since, 1_100, "since it began to fail");
    assert_eq!(bench.schedule.looked_up(&lookup.ticket, None, again), Some(Turn::Resolves));
    assert_eq!(bench.schedule.all(0)[&owner], None);
}

#[test]
fn what_is_gone_or_has_another_address_takes_no_answer() {
    let mut bench = Bench::new(settings(&[("app", "app.internal:80")]), &[("b", "b.internal:80")]);
    let stale = bench.due(0);
    bench.change(Change::PutMember { pool: "shop".into(), name: "b".into(), member: member("c.internal:80") }, 0);
    bench.settle(settings(&[]), 0);
    for lookup in &stale {
        assert_eq!(bench.schedule.looked_up(&lookup.ticket, None, 0), None, "{lookup:?}");
    }
    assert_eq!(bench.due(0).len(), 1);
    bench.change(Change::RemovePool { name: "shop".into() }, 0);
    assert!(bench.schedule.all(0).is_empty());
    assert_eq!(bench.next(), None);
}

#[test]
fn every_address_is_a_backend_and_drains_away_when_its_name_leaves_it() {
    let mut bench = Bench::new(settings(&[("app", "app.internal:80")]), &[("own", "10.0.0.9:80")]);
    assert_eq!(bench.answer(&["10.0.0.1:80", "10.0.0.2:80", "[fd00::7]:80"], 0), 3);
    assert_eq!(bench.members(), "app-10.0.0.1 app-10.0.0.2 app-fd00--7 own");
    let found = bench.member("app-fd00--7");
    assert_eq!(found.endpoint(None).unwrap().to_string(), "[fd00::7]:80");
    assert_eq!((found.address.as_str(), found.incarnation), ("app.internal:80", SEED_INCARNATION));
    assert_eq!(bench.answer(&["10.0.0.1:80", "10.0.0.2:80", "[fd00::7]:80"], 1), 0, "nothing is new");
    assert!(!bench.schedule.all(0).contains_key(&Owner::backend("shop", "app-10.0.0.1")), "no name of its own");

    assert_eq!(bench.answer(&["10.0.0.2:80", "10.0.0.3:80"], 5_000), 3);
    assert_eq!(bench.members(), "(app-10.0.0.1) app-10.0.0.2 app-10.0.0.3 (app-fd00--7) own");
    let drain = bench.member("app-10.0.0.1").drain.unwrap();
    assert_eq!((drain.since, drain.deadline, drain.then), (5_000, Some(5_000 + 1_800_000), Some(Then::Remove)));
    assert_eq!(bench.answer(&["10.0.0.2:80", "10.0.0.3:80"], 6_000), 0, "the deadline stays");
    assert_eq!(bench.answer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], 7_000), 1);
    assert_eq!(bench.members(), "app-10.0.0.1 app-10.0.0.2 app-10.0.0.3 (app-fd00--7) own", "it came back");
    assert_eq!(bench.member("app-10.0.0.1").drain, None);
}

#[test]
fn another_port_is_the_same_backend_elsewhere() {
    let mut bench = Bench::new(settings(&[("app", "app.internal:80")]), &[]);
    bench.answer(&["10.0.0.1:80"], 0);
    bench.settle(settings(&[("app", "app.internal:81")]), 0);
    assert_eq!(bench.answer(&["10.0.0.1:81"], 0), 1);
    let member = bench.member("app-10.0.0.1");
    assert_eq!(member.endpoint(None).unwrap().to_string(), "10.0.0.1:81");
    assert_eq!(member.address, "app.internal:81");
}

#[test]
fn what_somebody_commands_of_a_found_backend_holds() {
    let mut bench = Bench::new(settings(&[("app", "app.internal:80")]), &[("app-10.0.0.4", "10.9.9.9:80")]);
    bench.answer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"], 0);
    assert_eq!(bench.member("app-10.0.0.4").address, "10.9.9.9:80", "somebody made it");
    bench.command("app-10.0.0.1", AdminState::Draining, Some(Drain::default()));
    bench.command("app-10.0.0.2", AdminState::Maintenance, None);
    assert_eq!(bench.answer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], 1), 0);
    assert_eq!(bench.answer(&["10.0.0.5:80"], 2), 4);
    assert_eq!(bench.members(), "(app-10.0.0.1) [app-10.0.0.2] (app-10.0.0.3) app-10.0.0.4 app-10.0.0.5");
    assert_eq!(bench.member("app-10.0.0.1").drain, Some(Drain::default()));
    for name in ["app-10.0.0.1", "app-10.0.0.2"] {
        assert!(bench.member(name).found.as_ref().unwrap().left.is_some(), "so that {name} can be removed");
    }
    bench.command("app-10.0.0.3", AdminState::Active, None);
    assert_eq!(bench.answer(&["10.0.0.5:80"], 3), 0, "somebody wants it back");
    bench.answer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.5:80"], 4);
    assert_eq!(bench.members(), "(app-10.0.0.1) [app-10.0.0.2] app-10.0.0.3 app-10.0.0.4 app-10.0.0.5");

    // A drain that somebody changed is theirs.
    bench.answer(&["10.0.0.1:80", "10.0.0.2:80"], 5);
    let ours = bench.member("app-10.0.0.5").drain.unwrap();
    bench.command("app-10.0.0.5", AdminState::Draining, Some(Drain { deadline: Some(99), ..ours }));
    bench.answer(&["10.0.0.5:80"], 6);
    assert_eq!(bench.member("app-10.0.0.5").admin_state, AdminState::Draining);
}

#[test]
fn without_a_time_to_linger_they_go_at_once() {
    let names = Names { linger: Span::from_millis(0), ..Names::default() };
    let mut bench = Bench::new(Pool { names, ..settings(&[("app", "app.internal:80")]) }, &[]);
    bench.answer(&["10.0.0.1:80", "10.0.0.2:80"], 0);
    bench.answer(&["10.0.0.2:80"], 0);
    assert_eq!(bench.members(), "app-10.0.0.2");
}

#[test]
fn a_list_is_followed_as_a_name_is_and_one_that_is_wrong_takes_nothing_away() {
    let list = Discover { name: "app".into(), file: Some("/app.json".into()), weight: 4, ..Discover::default() };
    let mut bench = Bench::new(Pool { discover: vec![list], ..settings(&[]) }, &[]);
    let [lookup] = bench.due(0).try_into().unwrap();
    assert_eq!(lookup.question, Question::File("/app.json".into()));
    bench.schedule.looked_up(&lookup.ticket, None, 0);
    assert!(bench.next().unwrap() < 1_200, "it is read every second");
    let mut read = |text: &str, now| {
        let answer = Answer {
            pool: Arc::from("shop"),
            name: Arc::from("app"),
            question: lookup.question.clone(),
            places: listed(text.as_bytes()).unwrap(),
        };
        changes(&bench.snapshot, &answer, now).into_iter().for_each(|change| bench.change(change, now));
        let weights =
            bench.snapshot.desired.pools["shop"].members.values().map(|member| member.weight).collect::<Vec<_>>();
        (bench.members(), weights)
    };
    let two = r#"["10.0.0.1:80", {"address": "10.0.0.1:81", "weight": 2}, {"address": "[fd00::7]:80"}]"#;
    assert_eq!(read(two, 0), ("app-10.0.0.1-80 app-10.0.0.1-81 app-fd00--7-80".to_owned(), vec![4, 2, 4]));
    let one = r#"[{"address": "10.0.0.1:81", "weight": 3}, "[fd00::7]:80"]"#;
    assert_eq!(read(one, 1), ("(app-10.0.0.1-80) app-10.0.0.1-81 app-fd00--7-80".to_owned(), vec![4, 3, 4]));
    assert_eq!(bench.member("app-fd00--7-80").address, "[fd00::7]:80", "it is asked for by its own address");
    for (text, told) in [
        ("", "EOF"),
        ("[]", "it lists nobody"),
        ("{}", "it is no list"),
        ("[1]", "it is no list"),
        (r#"["10.0.0.1"]"#, "`10.0.0.1` is no address with a port"),
        (r#"["app.internal:80"]"#, "is no address with a port"),
        (r#"["10.0.0.1:0"]"#, "is no address with a port"),
        (r#"[{"address": "10.0.0.1:80", "wieght": 1}]"#, "it is no list"),
        (r#"[{"address": "10.0.0.1:80", "weight": 1001}]"#, "the weight 1001 of 10.0.0.1:80 is above 1000"),
        (r#"["10.0.0.1:80", "10.0.0.1:80"]"#, "is there twice"),
    ] {
        let refused = listed(text.as_bytes()).unwrap_err();
        assert!(refused.contains(told), "{text}: {refused}");
    }
}

#[tokio::test]
async fn the_families_that_count_are_found() {
    let limit = Duration::from_secs(5);
    let ask = |address: &'static str, family| async move {
        let place = PLACES.acquire().await.unwrap();
        let found = Resolver { address: address.to_owned(), family, limit, place }.find().await;
        found.map(|found| found.values().map(|place| place.at.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(ask("127.0.0.1:80", Family::Either).await.unwrap(), "127.0.0.1:80");
    assert_eq!(ask("localhost:80", Family::Either).await.unwrap(), "127.0.0.1:80");
    assert_eq!(ask("[::1]:80", Family::Either).await.unwrap(), "[::1]:80");
    assert_eq!(ask("[::1]:80", Family::Both).await.unwrap(), "[::1]:80");
    assert!(ask("127.0.0.1:80", Family::Ipv6).await.unwrap_err().contains("family"));
    assert!(ask("[::1]:80", Family::Ipv4).await.unwrap_err().contains("family"));
    assert!(ask("no-such-host.invalid:80", Family::Either).await.is_err());
}

/// Waits until the pool is as wanted.
async fn until(rig: &Rig, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let pool = rig.done("GET /v1/pools/shop", "").await;
            if holds(&pool) {
                return pool;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test]
async fn names_make_backends_that_only_their_names_unmake() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&[("own", "10.0.0.1:80")]));
    let looking = tokio::spawn(super::run(Arc::clone(&rig.state)));
    let body = |discover: Value| {
        json!({ "health": { "check": "off" }, "discover": discover, "backend": [{ "name": "own", "address": "10.0.0.1:80" }] })
            .to_string()
    };
    let local = json!({ "name": "app", "address": "localhost:80", "weight": 3 });
    let lost = json!({ "name": "lost", "address": "no-such-host.invalid:80" });
    rig.done("PUT /v1/pools/shop", &body(json!([local, lost]))).await;
    let pool = until(&rig, "found, and not", |pool| {
        pool["discover"][0]["backends"] == json!(["app-127.0.0.1"])
            && pool["discover"][1]["lookup_failing"] != json!(null)
    })
    .await;
    let found = &pool["backends"][0];
    assert_eq!((&found["name"], &found["address"]), (&json!("app-127.0.0.1"), &json!("localhost:80")));
    assert_eq!((&found["resolved"], &found["found_by"]), (&json!("127.0.0.1:80"), &json!("app")));
    assert_eq!((&found["weight"], &pool["backends"].as_array().unwrap().len()), (&json!(3), &2));
    let problems = rig.done("GET /v1/status", "").await["problems"].to_string();
    assert!(problems.contains("discover `lost`: `no-such-host.invalid:80` does not resolve ("), "{problems}");
    assert!(problems.contains("nothing is known of it yet"), "{problems}");
    let metrics = rig.call("GET /metrics", "").await.text;
    for (name, failing) in [("app", 0), ("lost", 1)] {
        let line = format!("steadfast_name_lookup_failing{{pool=\"shop\",name=\"{name}\"}} {failing}");
        assert!(metrics.contains(&line), "{line}");
    }

    let at = "/v1/pools/shop/backends/app-127.0.0.1";
    for (call, body) in
        [(format!("DELETE {at}"), ""), (format!("POST {at}/drain"), r#"{"then":"remove","deadline":"1m"}"#)]
    {
        let refused = rig.call(&call, body).await;
        assert_eq!((refused.status, &refused.body["type"]), (409, &json!("urn:steadfast:problem:found")), "{call}");
        assert!(refused.body["detail"].as_str().unwrap().contains("`localhost:80` leads to"), "{}", refused.text);
    }
    // One that was given another weight keeps it, where the name's changes; another follows.
    rig.done(&format!("PATCH {at}"), r#"{"weight":5}"#).await;
    let heavier = json!({ "name": "app", "address": "localhost:80", "weight": 7 });
    let pool = rig.done("PUT /v1/pools/shop", &body(json!([heavier]))).await;
    assert_eq!(pool["pool"]["backends"][0]["weight"], 5);
    rig.done(&format!("PATCH {at}"), r#"{"weight":7}"#).await;
    let pool = rig.done("PUT /v1/pools/shop", &body(json!([local]))).await;
    assert_eq!(pool["pool"]["backends"][0]["weight"], 3);
    // A list that names one makes it somebody's, where no name leads to it any more.
    let listed =
        json!({ "health": { "check": "off" }, "backend": [{ "name": "app-127.0.0.1", "address": "localhost:80" }] });
    for changes in [true, false] {
        let before = rig.generation();
        let pool = rig.done("PUT /v1/pools/shop", &listed.to_string()).await;
        assert_eq!((pool["pool"]["backends"].as_array().unwrap().len(), rig.generation() > before), (1, changes));
        assert_eq!(pool["pool"]["backends"][0]["found_by"], json!(null));
    }
    rig.done("PUT /v1/pools/shop", &body(json!([heavier]))).await;
    until(&rig, "it is found again", |pool| pool["discover"][0]["backends"] == json!(["app-127.0.0.1"])).await;
    let pool = rig.done("PUT /v1/pools/shop", &body(json!([]))).await;
    assert_eq!(pool["pool"]["backends"].as_array().unwrap().len(), 1, "it goes with its name");
    looking.abort();
}
