use super::*;
use crate::{
    supervisor::Supervisor,
    testing::{Folder, Rig, from_file, pool},
};
use control::{
    desired::{AdminState, Member, SEED_INCARNATION},
    spec::{Balance, Discover, Listener, Route},
    status::Health,
};

fn members(rig: &Rig, name: &str) -> Vec<(String, String, u32)> {
    let view = rig.state.view();
    let members = &view.snapshot.desired.pools[name].members;
    members.iter().map(|(name, member)| (name.clone(), member.address.clone(), member.incarnation)).collect()
}

fn pools(rig: &Rig) -> Vec<String> {
    rig.state.view().snapshot.desired.pools.keys().cloned().collect()
}

fn balance(rig: &Rig) -> Balance {
    rig.state.view().snapshot.desired.pools["shop"].settings.balance
}

async fn reload(rig: &Rig, change: impl FnOnce(&mut Config)) -> Result<(Written, Vec<String>), Refusal> {
    let mut file = rig.file.lock().unwrap().clone().unwrap();
    change(&mut file);
    *rig.file.lock().unwrap() = Ok(file.clone());
    rig.state.reload(file, Arc::new(Supervisor::new(None, "processes.json".into()))).await
}

/// Starts with the file as it was left.
fn restart(rig: Rig) -> Rig {
    let config = rig.file.lock().unwrap().clone().unwrap();
    drop(rig);
    Rig::start(config)
}

const SEEDS: [(&str, &str); 2] = [("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")];

#[tokio::test]
async fn generations_only_grow_whatever_takes_them() {
    let folder = Folder::new();
    let mut rig = Rig::start(folder.config(&SEEDS));
    let mut last = 0;
    for round in 0..4 {
        assert!(rig.generation() > last, "a restart goes on after {last}");
        last = rig.generation();
        rig.done("PUT /v1/pools/shop/backends/c", &format!(r#"{{"address":"10.0.0.3:80","weight":{}}}"#, round + 1))
            .await;
        assert_eq!(rig.generation(), last + 1);
        // Health is not stored, and takes generations all the same, more of them than are reserved at once.
        for _ in 0..1_500 {
            for health in [Health::Down, Health::Up] {
                crate::health::push(&rig.state, "shop", "a", Some(health));
            }
            if is_low(&rig) {
                let reserving = Arc::clone(&rig.state).keep_reserving();
                tokio::select! { biased; () = reserving => {}, () = until_reserved(&rig) => {} }
            }
        }
        assert_eq!(rig.generation(), last + 1 + 3_000);
        last = rig.generation();
        rig = restart(rig);
    }
}

fn is_low(rig: &Rig) -> bool {
    let shared = rig.state.lock();
    shared.bound < shared.snapshot.generation + writer::BLOCK / 2
}

async fn until_reserved(rig: &Rig) {
    while is_low(rig) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_written_over_rest_is_there_after_a_restart() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    rig.done("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#).await;
    let added = rig.generation();
    rig.done("DELETE /v1/pools/shop/backends/a", "").await;
    rig.done("POST /v1/pools/shop/backends/b/drain", r#"{"deadline":"1h"}"#).await;
    rig.done("PUT /v1/pools/shop/backends/b/health", r#"{"health":"down"}"#).await;
    let drain = rig.state.view().snapshot.desired.pools["shop"].members["b"].drain;

    let rig = restart(rig);
    let b = ("b".to_owned(), "10.0.0.2:80".to_owned(), SEED_INCARNATION);
    let c = ("c".to_owned(), "10.0.0.3:80".to_owned(), u32::try_from(added).unwrap());
    assert_eq!(members(&rig, "shop"), [b, c], "the file's seeds don't come back");
    let view = rig.state.view();
    let member = &view.snapshot.desired.pools["shop"].members["b"];
    assert_eq!((member.admin_state, member.drain), (AdminState::Draining, drain));
    assert_eq!(view.drains.next_deadline(), drain.unwrap().deadline, "its timer goes on");
    assert_eq!(view.snapshot.observed("shop", "b").health, Health::Unknown, "health is not stored");
}

#[tokio::test]
async fn a_namesake_that_comes_later_is_another_incarnation() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    rig.done("DELETE /v1/pools/shop/backends/a", "").await;
    rig.done("PUT /v1/pools/shop/backends/a", r#"{"address":"10.0.0.1:80"}"#).await;
    let first = members(&rig, "shop")[0].2;
    assert_eq!(u64::from(first), rig.generation());
    rig.done("PUT /v1/pools/shop/backends/a", r#"{"address":"10.0.0.9:80","weight":5}"#).await;
    assert_eq!(members(&rig, "shop")[0].2, first, "another address is not another life");
    rig.done("DELETE /v1/pools/shop/backends/a", "").await;
    rig.done("PUT /v1/pools/shop/backends/a", r#"{"address":"10.0.0.1:80"}"#).await;
    assert!(members(&rig, "shop")[0].2 > first);
}

#[tokio::test]
async fn with_rest_as_source_the_file_seeds_and_says_settings_where_they_change() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    rig.done("PUT /v1/pools/shop", r#"{"balance":"random"}"#).await;
    rig.done("DELETE /v1/pools/shop/backends/a", "").await;

    // A reload that is about something else reverts nothing.
    let (written, _) = reload(&rig, |file| file.listeners[0].limits.connections = 7).await.unwrap();
    assert!(written.changed);
    assert_eq!((balance(&rig), members(&rig, "shop").len()), (Balance::Random, 1));
    assert_eq!(rig.state.view().snapshot.desired.listeners[0].limits.connections, 7);
    let (again, _) = reload(&rig, |_| {}).await.unwrap();
    assert_eq!(again, Written { generation: written.generation, changed: false, created: false });

    // Nor does one that changes the backends of a section: members are REST's.
    reload(&rig, |file| file.pools[0].backends.clear()).await.unwrap();
    assert_eq!((balance(&rig), members(&rig, "shop").len()), (Balance::Random, 1));

    // What the section says of settings counts from the moment that it changes, over a restart too.
    reload(&rig, |file| file.pools[0].balance = Balance::P2c).await.unwrap();
    assert_eq!((balance(&rig), members(&rig, "shop").len()), (Balance::P2c, 1));
    rig.done("PUT /v1/pools/shop", r#"{"balance":"ring"}"#).await;
    let rig = restart(rig);
    assert_eq!(balance(&rig), Balance::Ring);
    rig.file.lock().unwrap().as_mut().unwrap().pools[0].balance = Balance::LeastRequests;
    assert_eq!(balance(&restart(rig)), Balance::LeastRequests);
}

#[tokio::test]
async fn a_pool_deleted_over_rest_stays_so_until_its_section_changes() {
    let folder = Folder::new();
    let mut config = folder.config(&SEEDS);
    config.pools.push(pool("old", &[("x", "10.0.0.5:80")]));
    let rig = Rig::start(config);
    rig.done("DELETE /v1/pools/old", "").await;
    reload(&rig, |file| file.listeners[0].limits.connections = 7).await.unwrap();
    assert_eq!(pools(&rig), ["shop"]);
    let rig = restart(rig);
    assert_eq!(pools(&rig), ["shop"]);

    reload(&rig, |file| file.pools[1].backends[0].weight = 3).await.unwrap();
    assert_eq!(pools(&rig), ["old", "shop"]);
    assert_eq!(u64::from(members(&rig, "old")[0].2), rig.generation(), "its sessions of before are gone");

    // Made anew over REST, it is no longer deleted; gone from the file, it stays.
    rig.done("DELETE /v1/pools/old", "").await;
    rig.done("PUT /v1/pools/old", "{}").await;
    let rig = restart(rig);
    assert_eq!((pools(&rig), members(&rig, "old")), (vec!["old".to_owned(), "shop".to_owned()], vec![]));
    reload(&rig, |file| drop(file.pools.pop())).await.unwrap();
    assert_eq!(pools(&rig), ["old", "shop"]);

    // A listener that leads to a deleted pool brings it back.
    reload(&rig, |file| file.pools.push(pool("old", &[("y", "10.0.0.6:80")]))).await.unwrap();
    rig.done("DELETE /v1/pools/old", "").await;
    let route = Route { path: Some("/old".into()), pool: "old".into(), ..Route::default() };
    reload(&rig, |file| file.listeners[0].routes.push(route)).await.unwrap();
    assert_eq!(members(&rig, "old")[0].0, "y");
}

#[tokio::test]
async fn with_the_file_as_source_it_is_all_there_is() {
    let folder = Folder::new();
    let rig = Rig::start(from_file(folder.config(&SEEDS)));
    for (call, body) in [
        ("PUT /v1/pools/shop", "{}"),
        ("DELETE /v1/pools/shop", ""),
        ("PUT /v1/pools/shop/backends/a", r#"{"address":"10.0.0.3:80"}"#),
        ("PATCH /v1/pools/shop/backends/a", r#"{"weight":2}"#),
        ("DELETE /v1/pools/shop/backends/a", ""),
        ("POST /v1/pools/shop/backends/a/drain", ""),
        ("POST /v1/pools/shop/backends/a/activate", ""),
    ] {
        let answer = rig.call(call, body).await;
        assert_eq!(
            (answer.status, answer.body["type"].as_str()),
            (409, Some("urn:steadfast:problem:file-is-source")),
            "{call}"
        );
    }
    assert_eq!(
        rig.done("PUT /v1/pools/shop/backends/a/health", r#"{"health":"down"}"#).await["backend"]["health"],
        "down"
    );

    let before = rig.generation();
    let (written, _) = reload(&rig, |file| {
        file.pools[0].backends.remove(1);
        file.pools[0].backends[0].address = "10.0.0.9:80".into();
        file.pools[0].balance = Balance::Ring;
        file.pools.push(pool("new", &SEEDS));
    })
    .await
    .unwrap();
    assert_eq!(written.generation, before + 1, "a reload is one generation");
    assert_eq!(members(&rig, "shop"), [("a".to_owned(), "10.0.0.9:80".to_owned(), SEED_INCARNATION)]);
    assert_eq!((balance(&rig), pools(&rig)), (Balance::Ring, vec!["new".to_owned(), "shop".to_owned()]));
    reload(&rig, |file| drop(file.pools.pop())).await.unwrap();
    assert_eq!(pools(&rig), ["shop"]);
    let generation = rig.generation();
    let rig = restart(rig);
    assert_eq!(members(&rig, "shop")[0].1, "10.0.0.9:80");
    assert!(rig.generation() > generation);
}

/// What this process finds by itself.
async fn note(rig: &Rig, changes: Vec<Change>) {
    rig.state.note(move |_| Ok(changes.clone().into())).await.unwrap();
}

#[tokio::test]
async fn with_the_file_as_source_what_was_noticed_of_members_outlives_a_restart() {
    let folder = Folder::new();
    let discover = Discover { name: "app".into(), address: "app.internal:80".into(), ..Discover::default() };
    let mut config = from_file(folder.config(&SEEDS));
    config.pools[0].discover = vec![discover.clone()];
    let rig = Rig::start(config);
    let put = |name: &str, member: Member| Change::PutMember { pool: "shop".into(), name: name.into(), member };
    let found = |last: u8| put(&format!("app-10.0.1.{last}"), Member::found(&discover, ([10, 0, 1, last], 80).into()));
    note(&rig, vec![found(1), found(2)]).await;
    let instance = |name: &str, instance: &str| ("shop".to_owned(), name.to_owned(), instance.to_owned());
    for seen in [instance("a", "one"), instance("a", "two"), instance("b", "one")] {
        rig.state.note(move |current| Ok(plan::instances(current, std::slice::from_ref(&seen)))).await.unwrap();
    }
    let gone = Change::RemoveMember { pool: "shop".into(), name: "app-10.0.1.2".into() };
    note(&rig, vec![gone]).await;
    let before = members(&rig, "shop");
    assert_eq!(before.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["a", "app-10.0.1.1", "b"]);
    assert_ne!(before[0].2, SEED_INCARNATION, "another instance is another life");
    let rig = restart(rig);
    assert_eq!(members(&rig, "shop"), before);
    // A store that was lost for a while is written as a whole.
    rig.state.writer.lock().await.lose_store();
    note(&rig, vec![found(3)]).await;
    let rig = restart(rig);
    assert_eq!(members(&rig, "shop").len(), 4);
    reload(&rig, |file| {
        file.pools[0].discover.clear();
        file.pools[0].backends[0].address = "10.0.0.9:80".into();
    })
    .await
    .unwrap();
    let rig = restart(rig);
    let left = members(&rig, "shop");
    assert_eq!(left.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["a", "b"], "the name is gone");
    assert_eq!(left[0].1, "10.0.0.9:80");
}

#[tokio::test]
async fn the_api_store_is_kept_while_the_file_is_the_source() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    rig.done("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#).await;
    drop(rig);
    let rig = Rig::start(from_file(folder.config(&SEEDS)));
    assert_eq!(members(&rig, "shop").len(), 2);
    drop(rig);
    assert_eq!(members(&Rig::start(folder.config(&SEEDS)), "shop").len(), 3);
}

#[tokio::test]
async fn sockets_are_made_at_start_so_a_reload_can_neither_add_move_nor_remove_a_listener() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    let before = rig.state.view().snapshot;
    let refused = reload(&rig, |file| {
        file.pools[0].balance = Balance::Ring;
        file.listeners[0].bind = "127.0.0.1:8081".into();
        file.listeners.push(Listener { name: "extra".into(), bind: "127.0.0.1:1".into(), ..Listener::default() });
    });
    let Err(Refusal::NeedsRestart(names)) = refused.await else { panic!("it was not refused") };
    assert_eq!(names, ["`extra` is new", "`web` moves from 127.0.0.1:8080 to 127.0.0.1:8081"]);
    let Err(Refusal::NeedsRestart(names)) = reload(&rig, |file| file.listeners.clear()).await else { panic!() };
    assert_eq!(names, ["`web` is gone"]);
    assert_eq!(rig.state.view().snapshot, before, "a refused reload changes nothing");
}

#[tokio::test]
async fn a_reload_reads_the_keys_again_and_tells_what_has_to_wait() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    let path = folder.path().join("state/keys");
    let entries = keys::rotated(&keys::load(&path).unwrap(), 2).unwrap();
    keys::save(&path, &entries).unwrap();
    let (_, warnings) = reload(&rig, |file| file.global.user = Some("www".into())).await.unwrap();
    assert!(rig.state.view().snapshot.desired.keys.iter().eq(entries.iter().map(|entry| &entry.key)));
    assert_eq!(warnings, ["[global] changed, which takes effect at the next start"]);

    std::fs::write(&path, "broken\n").unwrap();
    let Err(Refusal::Failed(error)) = reload(&rig, |file| file.pools[0].balance = Balance::Ring).await else {
        panic!()
    };
    assert!(error.to_string().contains("line 1"), "{error}");
    assert_eq!(balance(&rig), Balance::RoundRobin);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_and_made_anew_when_it_can_be() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    rig.done("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#).await;
    let path = folder.path().join("state/admin.redb");
    // As after a failed write; and what lies at the path is nothing that can be opened.
    rig.state.writer.lock().await.lose_store();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();

    let before = rig.state.view().snapshot;
    let answer = rig.call("PUT /v1/pools/shop/backends/d", r#"{"address":"10.0.0.4:80"}"#).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{}", answer.text);
    assert_eq!(rig.state.view().snapshot, before, "what can't be stored is not done");
    assert_eq!(rig.call("GET /readyz", "").await.status, 503);
    assert!(rig.done("GET /v1/status", "").await["problems"][0].as_str().unwrap().contains("admin.redb"));

    rig.done("POST /v1/keys/rotate", "").await;
    let down = rig.done("PUT /v1/pools/shop/backends/a/health", r#"{"health":"down"}"#).await;
    assert_eq!(down["backend"]["health"], "down", "what is not stored needs no store");

    // It is tried again without anybody asking. The clock is paused: nobody really waits.
    let reserving = tokio::spawn(Arc::clone(&rig.state).keep_reserving());
    let pass = async |time| drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
    pass(STORE_RETRY * 2).await;
    assert!(rig.state.view().store_problem.is_some());
    std::fs::remove_dir(&path).unwrap();
    pass(STORE_RETRY * 2).await;
    assert_eq!(rig.state.view().store_problem, None);
    reserving.abort();
    drop(reserving.await);
    rig.done("PUT /v1/pools/shop/backends/d", r#"{"address":"10.0.0.4:80"}"#).await;
    assert_eq!(members(&restart(rig), "shop").len(), 4, "the new file has all that was ever stored");
}

#[tokio::test]
async fn writes_at_once_are_done_one_after_the_other() {
    let folder = Folder::new();
    let rig = Arc::new(Rig::start(folder.config(&[])));
    let before = rig.generation();
    let writes: Vec<_> = (0..32)
        .map(|number| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                let call = format!("PUT /v1/pools/shop/backends/app-{number}");
                rig.done(&call, r#"{"address":"10.0.0.1:80"}"#).await["generation"].as_u64().unwrap()
            })
        })
        .collect();
    let mut generations = Vec::new();
    for write in writes {
        generations.push(write.await.unwrap());
    }
    generations.sort_unstable();
    assert_eq!(generations, (before + 1..=before + 32).collect::<Vec<_>>());
    assert_eq!(members(&rig, "shop").len(), 32);
}

#[tokio::test]
async fn a_write_goes_on_when_nobody_waits_for_it_any_more() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    tokio::select! {
        biased;
        answer = rig.call("DELETE /v1/pools/shop/backends/a", "") => panic!("answered at once: {}", answer.text),
        // It was polled once, and is dropped now: the client hung up.
        () = std::future::ready(()) => {}
    }
    while members(&rig, "shop").len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(members(&restart(rig), "shop").len(), 1);
}

#[tokio::test]
async fn a_drain_whose_deadline_is_over_ends_in_maintenance() {
    let folder = Folder::new();
    let rig = Rig::start(folder.config(&SEEDS));
    rig.done("POST /v1/pools/shop/backends/a/drain", r#"{"deadline":"1ms"}"#).await;
    let state = Arc::clone(&rig.state);
    let admin_state = || state.view().snapshot.desired.pools["shop"].members["a"].admin_state;
    let over = async {
        while admin_state() == AdminState::Draining {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = Arc::clone(&rig.state).keep_deadlines() => {}, () = over => {} }
    assert_eq!(admin_state(), AdminState::Maintenance);
    assert_eq!(state.view().drains.next_deadline(), None);
}
