//! Processes that stand still or die, under load by clients that know their backend and count every answer: what each of these
//! costs, and whom. `STEADFAST_REQUESTS` says how many requests the last of them takes; it loses none.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{io::Write, net::TcpStream, sync::mpsc, thread};
use support::{
    Instance, PATIENCE, Setup,
    callers::{Callers, Seen, sum},
    eventually,
    http::{self, Connection},
    peers::Nginx,
    send_signal,
};

const CALLERS: usize = 12;
const REQUESTS: u64 = 30_000;

fn requests() -> u64 {
    std::env::var("STEADFAST_REQUESTS")
        .map_or(REQUESTS, |number| number.parse().expect("STEADFAST_REQUESTS is a number"))
}

/// Backends of a process each, so that each can die by itself.
fn apart(names: &[&str]) -> Vec<Nginx> {
    names.iter().map(|name| Nginx::start(&[name])).collect()
}

fn shop(backends: &[Nginx]) -> Setup {
    let pool = "health.check = \"off\"\ntimeouts.response = \"1s\"";
    Setup::shop(pool, backends.iter().flat_map(|nginx| nginx.backends.clone()))
}

/// All were served at home and nothing was lost.
#[track_caller]
fn unharmed(all: &[Seen]) {
    let sum = sum(all);
    assert!(sum.served > 0 && sum.lost() == 0 && sum.moved == 0 && sum.wrong.is_empty(), "{sum:?}");
}

#[track_caller]
fn admin_is_back(instance: &Instance) {
    eventually("the admin process is ready", || {
        let stream = TcpStream::connect(instance.admin());
        let mut connection = stream.is_ok().then(|| Connection::open(&instance.admin()))?;
        connection.try_send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        connection.response(false).ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn who_stands_still_holds_up_nobody_but_its_own() {
    let backends = apart(&["a", "b", "c"]);
    let instance = shop(&backends).start();
    let callers = Callers::start(&instance.listener("web"), CALLERS);

    // The admin process: REST waits for it, requests do not.
    instance.signal("admin", Signal::STOP);
    let mut waiting = Connection::open(&instance.admin());
    waiting.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    callers.all_are_answered(50);
    instance.signal("admin", Signal::CONT);
    assert_eq!(waiting.response(false).unwrap().status, 200);
    unharmed(&callers.take());

    // A backend: its sessions are told so, or go elsewhere once it is taken for down.
    let stopped = backends[0].process.pid();
    send_signal(stopped, Signal::STOP);
    callers.are_answered(50, |home| home != "a");
    callers.are_answered(2, |home| home == "a");
    send_signal(stopped, Signal::CONT);
    let (of_it, of_others): (Vec<_>, Vec<_>) = callers.take().into_iter().partition(|seen| seen.began_at == "a");
    unharmed(&of_others);
    let of_it = sum(&of_it);
    assert!(of_it.refused.keys().all(|status| *status == 504) && of_it.lost() > 0, "{of_it:?}");
    assert!(of_it.broken == 0 && of_it.unconnected == 0 && of_it.wrong.is_empty(), "{of_it:?}");
    eventually("everybody is served again", || {
        callers.all_are_answered(5);
        (sum(&callers.take()).lost() == 0).then_some(())
    });

    // The data plane: all that waits is served when it goes on, also who came meanwhile.
    callers.take();
    instance.signal("dataplane", Signal::STOP);
    let late: Vec<_> = (0..30).map(|_| TcpStream::connect(instance.listener("web")).unwrap()).collect();
    (&late[0]).write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    instance.signal("dataplane", Signal::CONT);
    assert!(std::io::read_to_string(&late[0]).unwrap().starts_with("HTTP/1.1 200 "));
    callers.all_are_answered(10);
    unharmed(&callers.end());
}

/// Names of the backends that were put and acknowledged, as they are, by a client that goes on until nobody reads them.
fn writes(instance: &Instance) -> mpsc::Receiver<String> {
    let admin = instance.admin();
    let (acknowledged, names) = mpsc::channel();
    thread::spawn(move || {
        for number in 0.. {
            let name = format!("kept-{number}");
            if put(&admin, &name).is_some_and(|answer| answer["applied"] == json!(true))
                && acknowledged.send(name).is_err()
            {
                break;
            }
        }
    });
    names
}

/// The answer, where one came.
fn put(admin: &str, name: &str) -> Option<Value> {
    let body = json!({ "address": "127.0.0.1:9", "weight": 0 }).to_string();
    TcpStream::connect(admin).ok()?;
    let mut connection = Connection::open(admin);
    let head = format!(
        "PUT /v1/pools/shop/backends/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.try_send(head.as_bytes()).ok()?;
    let answer = connection.response(false).ok().filter(|answer| answer.status == 201)?;
    serde_json::from_slice(&answer.body).ok()
}

#[test]
fn what_dies_amid_requests_and_writes_takes_nothing_but_its_own() {
    let mut backends = apart(&["a", "b", "c"]);
    let instance = shop(&backends).admin("listen = \"127.0.0.1:0\"").start();
    let callers = Callers::start(&instance.listener("web"), CALLERS);

    // The admin process, in the middle of writes.
    let names = writes(&instance);
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        callers.all_are_answered(20);
        acknowledged.push(names.recv_timeout(PATIENCE).expect("a write is acknowledged before each death"));
        let killed = instance.signal("admin", Signal::KILL);
        instance.replaced("admin", killed);
        admin_is_back(&instance);
    }
    acknowledged.extend(names.try_iter());
    drop(names);
    let (_, stored) = instance.api("GET", "/v1/pools/shop/backends", None);
    let stored = stored.to_string();
    let missing: Vec<_> = acknowledged.iter().filter(|name| !stored.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "of {} that were acknowledged: {missing:?}", acknowledged.len());
    unharmed(&callers.take());

    // The data plane: what was under way, which is one request of each at most.
    let kills = 3;
    for _ in 0..kills {
        callers.all_are_answered(20);
        let killed = instance.signal("dataplane", Signal::KILL);
        instance.replaced("dataplane", killed);
    }
    callers.all_are_answered(20);
    let all = callers.take();
    let most = all.iter().map(|seen| seen.broken).max();
    let whole = sum(&all);
    support::figure(format_args!(
        "{kills} kills of the data plane under {CALLERS} callers: {} lost of {}",
        whole.broken, whole.served
    ));
    assert!(most <= Some(kills) && whole.lost() == whole.broken && whole.moved == 0, "{all:?}");
    assert!(whole.wrong.is_empty(), "{whole:?}");

    // A backend: what it was working on, and its sessions are elsewhere.
    let at_it = callers.homes().iter().filter(|home| *home == "a").count() as u64;
    assert!(at_it > 0);
    backends[0].process.signal(Signal::KILL);
    backends[0].process.ended();
    callers.all_are_answered(20);
    let (of_it, of_others): (Vec<_>, Vec<_>) = callers.end().into_iter().partition(|seen| seen.began_at == "a");
    unharmed(&of_others);
    let of_it = sum(&of_it);
    support::figure(format_args!(
        "a backend with {at_it} callers was killed: {} lost, {} moved",
        of_it.lost(),
        of_it.moved
    ));
    assert!(of_it.lost() <= at_it && of_it.moved == at_it && of_it.wrong.is_empty(), "{of_it:?}");
    assert!(of_it.broken == 0 && of_it.unconnected == 0, "a client hears of it: {of_it:?}");
}

#[test]
fn kills_of_the_admin_process_reloads_upgrades_and_drains_lose_nothing() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = shop(std::slice::from_ref(&nginx)).start();
    let callers = Callers::start(&instance.listener("web"), CALLERS);
    let (mut whole, mut round) = (Seen::default(), 0);
    while whole.served < requests() {
        let (status, answer) = match round % 4 {
            0 => {
                let killed = instance.signal("admin", Signal::KILL);
                callers.all_are_answered(10);
                instance.replaced("admin", killed);
                admin_is_back(&instance);
                (200, Value::Null)
            }
            1 => {
                let file = instance.folder.path("steadfast.toml");
                let text = std::fs::read_to_string(&file).unwrap() + "# again\n";
                std::fs::write(&file, text).unwrap();
                instance.api("POST", "/v1/reload", None)
            }
            2 => instance.api("POST", "/v1/upgrade", None),
            _ => {
                let (status, drained) = instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(json!({})));
                assert_eq!((status, &drained["applied"]), (200, &json!(true)), "{drained}");
                callers.all_are_answered(10);
                instance.api("POST", "/v1/pools/shop/backends/a/activate", None)
            }
        };
        assert_eq!(status, 200, "round {round}: {answer}");
        // Long runs are of requests more than of faults.
        callers.all_are_answered((requests() / 100 / CALLERS as u64).clamp(20, 2_000));
        let seen = callers.take();
        unharmed(&seen);
        whole.served += sum(&seen).served;
        round += 1;
    }
    let last = callers.end();
    support::figure(format_args!("{} requests over {round} faults: 0 lost", whole.served + sum(&last).served));
    assert_eq!((sum(&last).lost(), sum(&last).moved), (0, 0));
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 200);
}
