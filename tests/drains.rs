//! Drains: what each mode does to the sessions, how they end, and what they tell on the way.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use support::{Instance, Scripted, Setup, eventually, http::get, peers::Nginx};

const COOKIE: &str = "lb-affinity";

fn shop(pool: &str) -> (Nginx, Instance) {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop(pool, nginx.backends.clone()).start();
    (nginx, instance)
}

/// The cookies of so many sessions that are pinned to this backend.
fn sessions_at(instance: &Instance, name: &str, count: usize) -> Vec<String> {
    let address = instance.listener("web");
    let begun = (0..).map(|_| get(&address, "/", &[])).filter(|first| first.text() == name);
    begun.take(count).map(|first| first.cookie(COOKIE).unwrap()).collect()
}

/// Who serves the session, and the cookie that it goes on with.
fn visit(instance: &Instance, cookie: &str) -> (String, Option<String>) {
    let answer = get(&instance.listener("web"), "/", &[("Cookie", cookie)]);
    (answer.text(), answer.cookie(COOKIE))
}

#[track_caller]
fn drain(instance: &Instance, name: &str, body: Value) -> Value {
    let (status, answer) = instance.api("POST", &format!("/v1/pools/shop/backends/{name}/drain"), Some(body));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    answer
}

/// Waits until this counter of the pool says so much.
#[track_caller]
fn counted(instance: &Instance, counter: &str, count: usize) {
    let line = format!("steadfast_pool_{counter}_total{{pool=\"shop\"}} ");
    let mut last = String::new();
    eventually(&format!("{counter} is {count}"), || {
        let (_, page) = instance.api_text("GET", "/metrics");
        page.lines().find_map(|row| row.strip_prefix(&line)).unwrap().clone_into(&mut last);
        (last == count.to_string()).then_some(())
    });
}

#[test]
fn migrate_moves_the_share_that_is_due_and_each_for_good() {
    let (_nginx, instance) = shop("");
    let sessions = sessions_at(&instance, "a", 24);
    drain(&instance, "a", json!({ "mode": "migrate", "deadline": "300d" }));
    for cookie in &sessions {
        assert_eq!(visit(&instance, cookie), ("a".to_owned(), None), "it is nobody's turn yet");
    }
    let answer = drain(&instance, "a", json!({ "mode": "migrate", "deadline": "1ms", "share": 0.5, "then": "leave" }));
    let progress = &answer["backend"]["drain_progress"];
    assert_eq!((&progress["share"], &progress["then"]), (&json!(0.5), &json!("leave")));
    let homes = || -> Vec<_> { sessions.iter().map(|cookie| visit(&instance, cookie).0).collect() };
    // Workers see the time in whole seconds, and each by its own clock.
    let first = eventually("a share has moved", || {
        let first = homes();
        (first.iter().any(|home| home != "a") && homes() == first).then_some(first)
    });
    let count = first.iter().filter(|home| *home != "a").count();
    assert!((3..=21).contains(&count), "half of 24, within five standard deviations: {count}");
    for _ in 0..4 {
        assert_eq!(homes(), first, "all workers agree on who goes, and where");
    }
    let moved: Vec<_> = sessions.iter().filter_map(|cookie| visit(&instance, cookie).1).collect();
    assert_eq!(moved.len(), count);
    for cookie in &moved {
        let (home, again) = visit(&instance, cookie);
        assert!(home != "a" && again.is_none(), "its new pin holds");
    }
    drain(&instance, "a", json!({ "mode": "migrate", "deadline": "1ms", "share": 1.0 }));
    eventually("all have moved", || homes().iter().all(|home| home != "a").then_some(()));
    assert_eq!(instance.backend("shop", "a")["admin_state"], "draining");
}

#[test]
fn what_a_deadline_moves_is_counted_as_that() {
    let (_nginx, instance) = shop("");
    let sessions = sessions_at(&instance, "a", 3);
    drain(&instance, "a", json!({ "deadline": "1ms" }));
    eventually("the deadline has passed", || {
        (instance.backend("shop", "a")["admin_state"] == "maintenance").then_some(())
    });
    let backend = instance.backend("shop", "a");
    assert!(backend["drain_progress"].is_null(), "{backend}");
    for cookie in &sessions {
        eventually("it has moved", || (visit(&instance, cookie).0 != "a").then_some(()));
    }
    counted(&instance, "repinned_deadline", sessions.len());
    counted(&instance, "repinned_maintenance", 0);
    // The next maintenance is one by command.
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None).1["applied"], json!(true));
    visit(&instance, &sessions[0]);
    counted(&instance, "repinned_maintenance", 1);
}

#[test]
fn retire_ends_busy_sessions_by_their_idle_timeout() {
    let (_nginx, instance) = shop("[pool.affinity.cookie]\nidle_timeout = \"2s\"\n");
    let session = sessions_at(&instance, "a", 1).remove(0);
    drain(&instance, "a", json!({ "mode": "retire" }));
    let home = eventually("the session has ended", || {
        let (home, renewed) = visit(&instance, &session);
        renewed.map(|_| home)
    });
    assert_ne!(home, "a", "it was not renewed before");
    counted(&instance, "expired_idle", 1);
}

#[test]
fn a_way_to_drain_that_has_no_end_is_refused_with_one_that_has() {
    let (_nginx, instance) = shop("");
    let (status, problem) = instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(json!({ "mode": "retire" })));
    assert_eq!((status, &problem["type"]), (409, &json!("urn:steadfast:problem:cant-drain")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("`retire`") && detail.contains("set idle_timeout or lifetime"), "{detail}");
    assert_eq!(instance.backend("shop", "a")["admin_state"], "active", "nothing has changed");
    drain(&instance, "a", json!({ "mode": "retire", "deadline": "1h" }));
}

#[test]
fn what_a_drain_ends_with_is_done_when_nobody_is_left_or_at_the_deadline() {
    let (_nginx, instance) = shop("[pool.affinity.cookie]\nidle_timeout = \"1s\"\n");
    for name in ["a", "b"] {
        sessions_at(&instance, name, 2);
    }
    drain(&instance, "a", json!({ "then": "remove" }));
    drain(&instance, "b", json!({ "then": "maintenance", "deadline": "1h" }));
    // It is stored: the next admin process carries it out.
    let old = instance.signal("admin", Signal::KILL);
    instance.replaced("admin", old);
    eventually("the admin process serves", || (instance.api("GET", "/v1/pools", None).0 == 200).then_some(()));
    eventually("a is removed", || (instance.api("GET", "/v1/pools/shop/backends/a", None).0 == 404).then_some(()));
    eventually("b is in maintenance", || (instance.backend("shop", "b")["admin_state"] == "maintenance").then_some(()));
}

#[test]
fn a_drain_that_is_empty_goes_on_unless_it_was_said_what_then() {
    let (_nginx, instance) = shop("[pool.affinity.cookie]\nidle_timeout = \"1s\"\n");
    sessions_at(&instance, "a", 1);
    let path = "/v1/pools/shop/backends/a/drain?wait=empty&timeout=30s";
    let (_, answer) = instance.api("POST", path, Some(json!({ "deadline": "1h" })));
    assert_eq!((&answer["empty"], &answer["backend"]["admin_state"]), (&json!(true), &json!("draining")));
}

#[test]
fn a_drain_tells_how_fast_it_empties_and_what_stopping_would_lose() {
    let (_nginx, instance) = shop("[pool.affinity.cookie]\nidle_timeout = \"10s\"\n");
    drain(&instance, "c", json!({}));
    let unknown = &instance.backend("shop", "c")["drain_progress"]["estimate"];
    assert!(unknown["all"].is_null() && unknown["unknown"].is_string(), "{unknown}");
    // Sessions that begin one after the other end one after the other.
    let begin = std::time::Instant::now();
    eventually("sessions have begun over some time", || {
        sessions_at(&instance, "a", 1);
        (begin.elapsed().as_secs() >= 7).then_some(())
    });
    drain(&instance, "a", json!({ "deadline": "1h" }));
    let progress = eventually("there is an estimate", || {
        let progress = instance.backend("shop", "a")["drain_progress"].clone();
        let known = progress["estimate"]["all"].as_f64() > Some(0.0) && !progress["decay_per_minute"].is_null();
        known.then_some(progress)
    });
    let number = |value: &Value| value.as_f64().unwrap();
    let estimate = &progress["estimate"];
    // How right it is, `affinity::decay` shows with a clock of its own: here sessions end as fast as the machine let them begin.
    let [p95, p99, all] = ["p95", "p99", "all"].map(|share| number(&estimate[share]));
    assert!(0.0 <= p95 && p95 <= p99 && p99 <= all, "{progress}");
    assert!((0.01..=1.0).contains(&number(&progress["decay_per_minute"])), "{progress}");
    assert_eq!(progress["lost_if_stopped_now"], progress["live_sessions"]);

    let waited = instance.ctl(&["drain", "shop", "a", "--wait", "--timeout", "30s"]);
    assert_eq!(waited.code, Some(0), "{waited:?}");
    let last = waited.stdout.lines().last().unwrap();
    assert_eq!(last, "[##############################] 100%, 0 sessions and 0 requests left", "{}", waited.stdout);
    assert!(waited.stdout.contains("-] "), "it was shown on the way: {}", waited.stdout);
}

#[test]
fn a_reset_backend_lives_anew() {
    let (_nginx, instance) = shop("health.check = \"off\"");
    let session = sessions_at(&instance, "a", 3).remove(0);
    let live = |count: u64| {
        eventually(&format!("{count} sessions are live"), || {
            (instance.backend("shop", "a")["live_sessions"] == count).then_some(())
        });
    };
    live(3);
    let reset = instance.ctl(&["reset", "shop", "a"]);
    assert_eq!(reset.code, Some(0), "{reset:?}");
    live(0);
    assert!(visit(&instance, &session).1.is_some(), "a new session");
    counted(&instance, "lost_incarnation", 1);
    let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/a/reset", None);
    assert_eq!((status, &answer["backend"]["incarnation"]), (200, &answer["generation"]), "{answer}");
}

/// A backend whose checks name an instance, which can be another one from then on.
fn named_by(instance: &Arc<Mutex<&'static str>>) -> Scripted {
    let instance = Arc::clone(instance);
    Scripted::start(move |mut stream| {
        while support::backend::read_head(&mut stream).is_some() {
            let name = *instance.lock().unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\nX-Instance: {name}\r\nContent-Length: 1\r\n\r\na");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn another_instance_that_answers_checks_is_another_life_also_over_a_restart() {
    let name = Arc::new(Mutex::new("pod-1"));
    let backend = named_by(&name);
    let pool = "[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\ninstance_header = \"x-instance\"\n";
    let instance = Setup::shop(pool, [("a", backend.address())]).start();
    let is = |name: &str| {
        eventually(&format!("{name} is seen"), || {
            let backend = instance.backend("shop", "a");
            (backend["instance"] == name).then(|| backend["incarnation"].as_u64().unwrap())
        })
    };
    assert_eq!(is("pod-1"), 1, "the first that is seen begins nothing");
    let session = sessions_at(&instance, "a", 1).remove(0);
    *name.lock().unwrap() = "pod-2";
    let second = is("pod-2");
    assert!(second > 1);
    eventually("the old session is lost", || visit(&instance, &session).1);
    // It is restarted while no admin process looks.
    let old = instance.signal("admin", Signal::KILL);
    *name.lock().unwrap() = "pod-3";
    instance.replaced("admin", old);
    eventually("the admin process serves", || (instance.api("GET", "/v1/pools", None).0 == 200).then_some(()));
    assert!(is("pod-3") > second);
}

#[test]
fn the_ages_of_sessions_foretell_a_drain_before_any_of_them_has_ended() {
    let (_nginx, instance) = shop("[pool.affinity.cookie]\nidle_timeout = \"1h\"\n");
    sessions_at(&instance, "a", 25);
    let ask = |mode: &str| {
        let question = json!({ "drain": { "name": "a", "mode": mode, "deadline": "1h" } });
        instance.api("POST", "/v1/pools/shop/preview", Some(question)).1["estimate"].clone()
    };
    let foretold = eventually("the sessions' ages are known", || {
        let estimate = ask("persist");
        (estimate["all"].as_f64() > Some(0.0)).then_some(estimate)
    });
    assert!(foretold["p95"].as_f64() <= foretold["all"].as_f64(), "{foretold}");
    // There, sessions end by the drain and not by themselves.
    assert_eq!([ask("migrate"), ask("retire")], [json!(null), json!(null)]);
    let told = instance.ctl(&["preview", "shop", "drain", "a"]).stdout;
    assert!(told.contains("95% of its sessions end in about "), "{told}");

    drain(&instance, "a", json!({ "deadline": "1h" }));
    let progress = eventually("there is an estimate", || {
        let progress = instance.backend("shop", "a")["drain_progress"].clone();
        progress["estimate"]["all"].is_number().then_some(progress)
    });
    assert_eq!((&progress["live_sessions"], &progress["decay_per_minute"]), (&json!(25), &json!(null)), "{progress}");
}

#[test]
fn a_preview_tells_what_then_happens() {
    let (_nginx, instance) = shop("");
    let sessions = sessions_at(&instance, "a", 40);
    let live = eventually("the sessions are told", || {
        let live = instance.backend("shop", "a")["live_sessions"].as_u64().unwrap_or(0);
        (live == 40).then_some(live)
    });
    let preview = |body: Value| {
        let (status, answer) = instance.api("POST", "/v1/pools/shop/preview", Some(body));
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let after = |answer: &Value, at: usize| answer["backends"][at]["sessions_after"].as_u64();
    let before = preview(json!({ "weight": { "name": "a", "weight": 2 } }));
    assert_eq!((&before["moved"], &before["lost"], after(&before, 0)), (&json!(0), &json!(0), Some(live)));
    assert_eq!((&before["backends"][0]["new_share_after"], before["backends"][3].is_null()), (&json!(0.5), true));
    let added = preview(json!({ "add": { "name": "d", "address": "127.0.0.1:9" } }));
    assert_eq!((&added["moved"], after(&added, 3)), (&json!(0), Some(0)));
    let persists = preview(json!({ "drain": { "name": "a" } }));
    assert_eq!((&persists["lost"], after(&persists, 0)), (&json!(0), Some(live)));
    let migrates = json!({ "name": "a", "mode": "migrate", "deadline": "1h", "share": 0.5, "then": "leave" });
    let migrates = preview(json!({ "drain": migrates }));
    assert!((18..=22).contains(&migrates["moved"].as_u64().unwrap()), "{migrates}");
    let removed = preview(json!({ "remove": "a" }));
    assert_eq!((&removed["moved"], &removed["lost"], after(&removed, 0)), (&json!(live), &json!(live), None));
    assert_eq!(preview(json!({ "maintenance": "a" }))["lost"], json!(live));
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/c/maintenance", None).0, 200);
    let activated = preview(json!({ "activate": "c" }));
    let shares = [&activated["backends"][2]["new_share_before"], &activated["backends"][2]["new_share_after"]];
    assert!(*shares[0] == 0.0 && shares[1].as_f64().unwrap() > 0.3 && activated["moved"] == 0, "{activated}");
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/c/activate", None).0, 200);
    assert_eq!(instance.backend("shop", "a")["admin_state"], "active", "nothing has changed");
    let shown = instance.ctl(&["preview", "shop", "remove", "a"]).stdout;
    assert!(shown.contains("sessions that move: 40; that lose their state: 40"), "{shown}");

    // And then it happens: each of the others gets as many more as was said, give or take what 40 keys vary by.
    let more = |name: &str| after(&removed, if name == "b" { 1 } else { 2 }).unwrap() - before_at(&removed, name);
    assert_eq!(instance.api("DELETE", "/v1/pools/shop/backends/a", None).0, 200);
    let homes: Vec<_> = sessions.iter().map(|cookie| visit(&instance, cookie).0).collect();
    for name in ["b", "c"] {
        let came = homes.iter().filter(|home| *home == name).count() as u64;
        assert!(came.abs_diff(more(name)) <= 16, "{name}: {came} {removed}");
    }
}

fn before_at(preview: &Value, name: &str) -> u64 {
    let backends = preview["backends"].as_array().unwrap();
    backends.iter().find(|backend| backend["name"] == name).unwrap()["sessions_before"].as_u64().unwrap()
}

#[test]
fn a_preview_of_what_can_not_be_is_refused() {
    let (_nginx, instance) = shop("");
    for (body, status, told) in [
        (json!({ "remove": "z" }), 404, "`z`"),
        (json!({ "drain": { "name": "a", "mode": "migrate" } }), 422, "/drain/deadline"),
        (json!({ "drain": { "name": "a", "mode": "retire" } }), 409, "idle_timeout"),
        (json!({ "weight": { "name": "a", "weight": 1001 } }), 422, "/weight/weight"),
        (json!({ "add": { "name": "d", "address": "nowhere" } }), 422, "/add/address"),
        (json!({ "flee": "a" }), 422, "`drain`"),
    ] {
        let (found, problem) = instance.api("POST", "/v1/pools/shop/preview", Some(body.clone()));
        assert!(found == status && problem.to_string().contains(told), "{body}: {found} {problem}");
    }
}

#[test]
fn a_rolling_restart_goes_through_the_pool_and_goes_on_where_it_stopped() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let pool = "[pool.affinity.cookie]\nidle_timeout = \"1s\"\n[pool.health]\ninterval = \"100ms\"\n";
    let instance = Setup::shop(pool, nginx.backends.clone()).start();
    let folder = instance.folder.path("");
    let (log, gate) = (folder.join("log"), folder.join("gate"));
    // `b` can't be restarted before the gate is open.
    let command = format!(
        "echo $STEADFAST_BACKEND $STEADFAST_ADDRESS >> {}; test $STEADFAST_BACKEND != b -o -e {}",
        log.display(),
        gate.display()
    );
    let arguments = ["rolling-restart", "shop", "--command", &command, "--deadline", "20s"];
    let stopped = instance.ctl(&arguments);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains("stopped at backend `b`: the command failed"), "{stopped:?}");
    assert!(stopped.stderr.contains("--from b"), "{stopped:?}");
    let state = |name: &str| instance.backend("shop", name)["admin_state"].as_str().unwrap().to_owned();
    assert_eq!((state("a"), state("c")), ("active".to_owned(), "active".to_owned()));
    assert_ne!(state("b"), "active");

    std::fs::write(&gate, "").unwrap();
    let done = instance.ctl(&[&arguments[..], &["--from", "b"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    let addresses: Vec<_> = nginx.backends.iter().map(|(name, address)| format!("{name} {address}")).collect();
    let [a, b, c] = addresses.as_slice() else { panic!("{addresses:?}") };
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().collect::<Vec<_>>(), [a, b, b, c]);
    for name in ["a", "b", "c"] {
        let backend = instance.backend("shop", name);
        assert_eq!((&backend["admin_state"], &backend["health"]), (&json!("active"), &json!("up")), "{backend}");
        assert!(backend["incarnation"].as_u64() > Some(1), "{backend}");
    }
    let wrong = instance.ctl(&[&arguments[..], &["--from", "z"]].concat());
    assert!(wrong.stderr.contains("there is no backend `z`"), "{wrong:?}");
}
