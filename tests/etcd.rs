//! Membership from etcd: one node and three over one real etcd, which dies, stands still, forgets and is emptied.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread, time::Duration};
use support::{
    Instance, Setup,
    etcd::{Etcd, backend},
    eventually,
    http::get,
    peers::Nginx,
    visitors::Visitors,
};

const COOKIE: &str = "lb-affinity";
const HEALTH: &str = "[pool.health]\ncheck = \"off\"\n";
const DEAD: &str = "127.0.0.1:9";

#[track_caller]
fn write(node: &Instance, method: &str, path: &str, body: Option<Value>) -> Value {
    let (status, answer) = node.api(method, &format!("/v1/pools/shop{path}"), body);
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    assert_eq!(answer["applied"], json!(true), "{method} {path}: {answer}");
    answer
}

/// What a backend of the pool `shop` is at this node, by one of its fields; null where it isn't there.
fn field(node: &Instance, name: &str, field: &str) -> Value {
    let (status, backend) = node.api("GET", &format!("/v1/pools/shop/backends/{name}"), None);
    if status == 200 { backend[field].clone() } else { Value::Null }
}

#[track_caller]
fn becomes(node: &Instance, name: &str, which: &str, value: &Value) {
    eventually(&format!("{which} of {name} becomes {value}"), || (field(node, name, which) == *value).then_some(()));
    // And the workers act on it.
    eventually("it is applied", || {
        let status = node.api("GET", "/v1/status", None).1;
        let applied = status["dataplanes"][0]["applied_generation"].as_u64()?;
        (Some(applied) >= status["generation"].as_u64()).then_some(())
    });
}

fn problems(node: &Instance) -> String {
    node.api("GET", "/v1/status", None).1["problems"].to_string()
}

#[track_caller]
fn connected(node: &Instance, is: bool) {
    let asked = || node.api("GET", "/v1/status", None).1["etcd"]["connected"] == json!(is);
    eventually(&format!("connected is {is}"), || asked().then_some(()));
    assert_eq!(node.metric("steadfast_etcd_connected"), u64::from(is));
}

/// Ends a node as a crash would, and all of it.
#[track_caller]
fn crash(node: &mut Instance) {
    let pids = ["dataplane", "admin"].map(|role| node.pid(role));
    node.process.signal(Signal::KILL);
    node.process.ended();
    for pid in pids {
        // It may have ended with its supervisor already.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
        let gone = || !std::path::Path::new(&format!("/proc/{pid}/cmdline")).exists();
        eventually("its children are gone", || gone().then_some(()));
    }
}

/// Nodes with the same keys.
fn nodes<const N: usize>(etcd: &Etcd, nginx: &Nginx) -> [Instance; N] {
    let keys = etcd.path("keys");
    std::array::from_fn(|_| {
        let setup = etcd.node("", HEALTH, nginx.backends.clone());
        setup.global(&format!("workers = 2\nkeys_file = {keys:?}")).start()
    })
}

fn homes(node: &Instance) -> BTreeSet<String> {
    (0..24).map(|_| get(&node.listener("web"), "/", &[]).text()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_is_written_over_rest_is_in_etcd_and_outlives_every_death() {
    let nginx = Nginx::start(&["a", "b"]);
    let mut etcd = Etcd::start();
    let mut node = etcd.node("", HEALTH, nginx.backends.clone()).start();
    connected(&node, true);
    assert_eq!(etcd.get("/steadfast/format"), json!(1));
    let in_etcd = etcd.get("/steadfast/members/shop/a");
    assert_eq!((&in_etcd["address"], &in_etcd["incarnation"]), (&json!(nginx.backends[0].1), &json!(1)));
    write(&node, "PUT", "/backends/kept", backend(DEAD));
    let kept = etcd.get("/steadfast/members/shop/kept");
    assert_eq!(kept["address"], json!(DEAD));
    assert!(kept["incarnation"].as_u64() > Some(1), "a life of its own: {kept}");
    write(&node, "POST", "/backends/a/drain", None);
    assert_eq!(etcd.get("/steadfast/members/shop/a")["admin_state"], "draining");
    assert_eq!(homes(&node), set(&["b"]), "of the others one drains, and one is not there");
    write(&node, "DELETE", "/backends/kept", None);
    assert_eq!(etcd.get("/steadfast/members/shop/kept"), Value::Null);
    assert_eq!(node.api("GET", "/v1/status", None).1["source"], "etcd");

    let killed = node.signal("admin", Signal::KILL);
    node.replaced("admin", killed);
    eventually("the admin process is back", || (problems(&node) == "[]").then_some(()));
    assert_eq!(field(&node, "a", "admin_state"), "draining");

    etcd.kill();
    connected(&node, false);
    etcd.start_again();
    connected(&node, true);
    write(&node, "PATCH", "/backends/b", Some(json!({ "weight": 7 })));

    // Nobody is there to ask: what was heard last serves.
    etcd.kill();
    crash(&mut node);
    node.start_again();
    assert_eq!(homes(&node), set(&["b"]));
    assert_eq!((field(&node, "a", "admin_state"), field(&node, "b", "weight")), (json!("draining"), json!(7)));
    assert!(problems(&node).contains("etcd can't be reached"), "{}", problems(&node));
    assert_eq!(node.api("GET", "/readyz", None).0, 200, "traffic goes on");
    etcd.start_again();
    connected(&node, true);
    write(&node, "POST", "/backends/a/activate", None);
}

#[test]
fn a_first_start_without_etcd_serves_what_the_file_says_and_tells_etcd_later() {
    let nginx = Nginx::start(&["a"]);
    let mut etcd = Etcd::start();
    etcd.kill();
    let node = etcd.node("", HEALTH, nginx.backends.clone()).start();
    assert_eq!(homes(&node), set(&["a"]));
    etcd.start_again();
    connected(&node, true);
    eventually("etcd knows", || (!etcd.get("/steadfast/members/shop/a").is_null()).then_some(()));
    assert_eq!(etcd.keys("/steadfast/sections/"), ["/steadfast/sections/shop"]);
}

#[test]
fn anybody_may_write_the_keys_and_what_can_not_be_used_takes_nothing_away() {
    let nginx = Nginx::start(&["a", "b"]);
    let etcd = Etcd::start();
    let node = etcd.node("", HEALTH, nginx.backends[..1].iter().cloned()).start();
    connected(&node, true);
    let first = get(&node.listener("web"), "/", &[]);
    etcd.put("/steadfast/members/shop/b", &json!({ "address": nginx.backends[1].1 }));
    becomes(&node, "b", "weight", &json!(1));
    assert_eq!(field(&node, "b", "incarnation"), 1, "a seed's, so that all agree");
    eventually("it serves", || (homes(&node) == set(&["a", "b"])).then_some(()));

    for (bad, told) in [
        ("{\"address\": \"10.0.0.7\"}", "is not an address"),
        ("not JSON", "expected"),
        ("{\"address\": \"10.0.0.7:80\", \"wieght\": 3}", "unknown field `wieght`"),
    ] {
        etcd.ctl(&["put", "/steadfast/members/shop/b", bad]);
        eventually("it is told", || problems(&node).contains(told).then_some(()));
        assert!(problems(&node).contains("`/steadfast/members/shop/b`"), "{}", problems(&node));
        assert_eq!(field(&node, "b", "address"), json!(nginx.backends[1].1), "the last good one stays");
    }
    etcd.ctl(&["put", "/steadfast/member/shop/c", "{}"]);
    eventually("a key that is none is told", || problems(&node).contains("/steadfast/member/shop/c").then_some(()));
    // Over a restart too.
    let killed = node.signal("admin", Signal::KILL);
    node.replaced("admin", killed);
    eventually("it is told anew", || problems(&node).contains("unknown field `wieght`").then_some(()));
    assert_eq!(field(&node, "b", "address"), json!(nginx.backends[1].1));

    etcd.put("/steadfast/members/shop/b", &json!({ "address": nginx.backends[1].1, "weight": 4 }));
    etcd.ctl(&["del", "/steadfast/member/shop/c"]);
    becomes(&node, "b", "weight", &json!(4));
    eventually("it is told no more", || (problems(&node) == "[]").then_some(()));
    etcd.ctl(&["del", "/steadfast/members/shop/b"]);
    becomes(&node, "b", "weight", &Value::Null);
    assert_eq!(homes(&node), set(&["a"]));
    let again = get(&node.listener("web"), "/", &[("Cookie", &first.cookie(COOKIE).unwrap())]);
    assert_eq!(again.cookie(COOKIE), None, "nobody else's session was touched");

    // A pool of its own, members first.
    etcd.put("/steadfast/members/api/x", &json!({ "address": DEAD }));
    eventually("its pool is missed", || problems(&node).contains("/steadfast/pools/api").then_some(()));
    etcd.put("/steadfast/pools/api", &json!({ "health": { "check": "off" } }));
    eventually("it is there", || (node.api("GET", "/v1/pools/api/backends/x", None).0 == 200).then_some(()));
    assert_eq!(problems(&node), "[]");
}

#[test]
fn what_is_commanded_at_one_node_holds_at_all_and_they_decide_alike() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let etcd = Etcd::start();
    let nodes: [Instance; 3] = nodes(&etcd, &nginx);
    let another = Nginx::start(&["d"]);
    // One that is added has the same life everywhere, so that its tokens hold everywhere.
    write(&nodes[1], "PUT", "/backends/d", backend(&another.backends[0].1));
    for node in &nodes {
        becomes(node, "d", "weight", &json!(1));
    }
    let lives: BTreeSet<_> = nodes.iter().map(|node| field(node, "d", "incarnation").to_string()).collect();
    assert_eq!(lives.len(), 1, "{lives:?}");
    let alike = |what: &str| {
        for at in 0..24 {
            let first = get(&nodes[at % 3].listener("web"), "/", &[]);
            let cookie = first.cookie(COOKIE).unwrap();
            for node in &nodes {
                let again = get(&node.listener("web"), "/", &[("Cookie", &cookie)]);
                assert_eq!((again.text(), again.cookie(COOKIE)), (first.text(), None), "{what}");
            }
        }
    };
    alike("at first");
    write(&nodes[0], "POST", "/backends/a/drain", Some(json!({ "deadline": "1h" })));
    for node in &nodes {
        becomes(node, "a", "admin_state", &json!("draining"));
        eventually("no new session is there", || (homes(node) == set(&["b", "c", "d"])).then_some(()));
    }
    alike("with a drain");
    // Sessions of one that leaves go to the same place wherever they come.
    let cookies: Vec<_> = (0..200)
        .map(|_| get(&nodes[0].listener("web"), "/", &[]))
        .filter(|first| first.text() == "b")
        .map(|first| first.cookie(COOKIE).unwrap())
        .collect();
    write(&nodes[2], "POST", "/backends/b/maintenance", None);
    for node in &nodes {
        becomes(node, "b", "admin_state", &json!("maintenance"));
    }
    assert!(cookies.len() > 20);
    for cookie in &cookies {
        let moved: BTreeSet<_> =
            nodes.iter().map(|node| get(&node.listener("web"), "/", &[("Cookie", cookie)]).text()).collect();
        assert_eq!(moved.len(), 1, "{moved:?}");
    }
    // And a life that ends ends everywhere.
    let before = field(&nodes[0], "c", "incarnation");
    write(&nodes[1], "POST", "/backends/c/reset", None);
    let after = field(&nodes[1], "c", "incarnation");
    assert_ne!(before, after);
    nodes.iter().for_each(|node| becomes(node, "c", "incarnation", &after));
}

#[test]
fn writes_from_all_nodes_at_once_are_all_done() {
    const EACH: usize = 12;
    let nginx = Nginx::start(&["a"]);
    let etcd = Etcd::start();
    let nodes: [Instance; 3] = nodes(&etcd, &nginx);
    thread::scope(|scope| {
        for (at, node) in nodes.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..EACH {
                    write(node, "PUT", &format!("/backends/n{at}-{number}"), backend(DEAD));
                }
            });
            // The same member, which each of them has to see as the others left it.
            scope.spawn(move || {
                for _ in 0..EACH / 3 {
                    write(node, "POST", "/backends/a/reset", None);
                }
            });
        }
    });
    let count = |node: &Instance| node.api("GET", "/v1/pools/shop/backends", None).1.as_array().unwrap().len();
    for node in &nodes {
        eventually("none is lost", || (count(node) == 3 * EACH + 1).then_some(()));
    }
    assert_eq!(etcd.keys("/steadfast/members/shop/").len(), 3 * EACH + 1);
}

#[test]
fn a_tag_that_another_node_has_made_stale_is_refused() {
    let nginx = Nginx::start(&["a", "b"]);
    let etcd = Etcd::start();
    let [one, two]: [Instance; 2] = nodes(&etcd, &nginx);
    let call = |node: &Instance, method: &str, tag: &str, body: &str| {
        let headers = [("If-Match", tag), ("Content-Type", "application/json")];
        let path = "/v1/pools/shop/backends/a";
        support::http::request(&node.admin(), method, path, &headers, body.as_bytes())
    };
    let tag = |node: &Instance| {
        let answer = support::http::request(&node.admin(), "GET", "/v1/pools/shop/backends/a", &[], b"");
        answer.header("ETag").unwrap().to_owned()
    };
    let stale = tag(&two);
    assert_eq!(stale, tag(&one), "the same state has the same tag everywhere");
    // What the second node has not heard yet counts all the same.
    let stopped = two.signal("admin", Signal::STOP);
    write(&one, "PATCH", "/backends/a", Some(json!({ "weight": 5 })));
    support::send_signal(stopped, Signal::CONT);
    let refused = call(&two, "PATCH", &stale, "{\"weight\": 9}");
    assert_eq!(refused.status, 412, "{}", refused.text());
    assert_eq!(field(&one, "a", "weight"), 5);
    becomes(&two, "a", "weight", &json!(5));
    let fresh = tag(&two);
    assert_eq!(call(&two, "PATCH", &fresh, "{\"weight\": 9}").status, 200);
    becomes(&one, "a", "weight", &json!(9));
}

#[test]
fn while_etcd_is_away_traffic_goes_on_and_writes_are_refused_and_later_all_is_caught_up() {
    let nginx = Nginx::start(&["a", "b"]);
    let mut gone = Some(Nginx::start(&["c"]));
    let backends: Vec<_> = nginx.backends.iter().chain(&gone.as_ref().unwrap().backends).cloned().collect();
    let mut etcd = Etcd::start();
    let health = "[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\nrise = 1\nfall = 2\nexpect = \"200\"\n";
    let node = etcd.node("", health, backends).start();
    connected(&node, true);
    becomes(&node, "c", "health", &json!("up"));
    write(&node, "POST", "/backends/c/drain", None);
    let visitors = Visitors::start(&node.listener("web"), [Duration::from_millis(2); 6]);
    for stands_still in [false, true] {
        if stands_still {
            etcd.signal(Signal::STOP);
            // Its connections are open as before, and nobody writes: the silence alone tells.
            connected(&node, false);
        } else {
            etcd.kill();
        }
        let answer = eventually("writes are refused", || {
            let (status, answer) = node.api("PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": 3 })));
            (status == 503).then_some(answer)
        });
        assert_eq!(answer["type"], "urn:steadfast:problem:etcd-away", "{answer}");
        connected(&node, false);
        let (status, answer) = node.api("PUT", "/v1/pools/shop/backends/late", backend(DEAD));
        assert_eq!(status, 503, "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains("etcd can't be reached for ") && detail.contains("nothing has changed"), "{detail}");
        assert_eq!(node.api("GET", "/readyz", None).0, 200);
        assert_eq!(field(&node, "late", "weight"), Value::Null);
        if let Some(server) = gone.take() {
            drop(server);
            becomes(&node, "c", "health", &json!("down"));
        }
        if stands_still {
            etcd.signal(Signal::CONT);
        } else {
            etcd.start_again();
        }
        etcd.put("/steadfast/members/shop/meanwhile", &json!({ "address": DEAD, "weight": 0 }));
        connected(&node, true);
        becomes(&node, "meanwhile", "weight", &json!(0));
        write(&node, "PUT", "/backends/later", backend(DEAD));
        write(&node, "POST", "/backends/later/maintenance", None);
        etcd.ctl(&["del", "/steadfast/members/shop/meanwhile"]);
        becomes(&node, "meanwhile", "weight", &Value::Null);
        write(&node, "DELETE", "/backends/later", None);
    }
    let tally = visitors.end();
    assert!(tally.requests > 100 && tally.wrong.is_empty(), "{tally:?}");
}

#[test]
fn what_etcd_has_compacted_is_caught_up_with_all_that_there_is() {
    let nginx = Nginx::start(&["a", "b"]);
    let mut etcd = Etcd::start();
    let node = etcd.node("", HEALTH, nginx.backends.clone()).start();
    connected(&node, true);
    let first = get(&node.listener("web"), "/", &[]);
    let life = field(&node, "a", "incarnation");
    // While it stands still its watch is cut, and what happened since is forgotten.
    let stopped = node.signal("admin", Signal::STOP);
    etcd.kill();
    etcd.start_again();
    for weight in 2..40 {
        etcd.put("/steadfast/members/shop/b", &json!({ "address": nginx.backends[1].1, "weight": weight }));
    }
    etcd.ctl(&["compact", &etcd.revision().to_string()]);
    support::send_signal(stopped, Signal::CONT);
    becomes(&node, "b", "weight", &json!(39));
    assert_eq!(field(&node, "a", "incarnation"), life);
    assert!(node.process.stderr().contains("all of it is read"), "{}", node.process.stderr());
    let again = get(&node.listener("web"), "/", &[("Cookie", &first.cookie(COOKIE).unwrap())]);
    assert_eq!((again.text(), again.cookie(COOKIE)), (first.text(), None), "what is as it was goes on");
    assert!(node.metric("steadfast_etcd_watch_restarts_total") >= 1);
}

#[test]
fn an_etcd_that_is_emptied_or_lost_takes_no_backend_away() {
    let nginx = Nginx::start(&["a", "b"]);
    let mut etcd = Etcd::start();
    let mut nodes: [Instance; 2] = nodes(&etcd, &nginx);
    write(&nodes[0], "PUT", "/backends/later", backend(DEAD));
    write(&nodes[0], "POST", "/backends/later/maintenance", None);
    let life = field(&nodes[0], "later", "incarnation").as_u64().unwrap();
    becomes(&nodes[1], "later", "admin_state", &json!("maintenance"));
    let whole = |etcd: &Etcd| {
        eventually("etcd has all of it again", || {
            let there = etcd.keys("/steadfast/members/shop/").len() == 3 && !etcd.get("/steadfast/format").is_null();
            there.then_some(())
        });
    };
    etcd.ctl(&["del", "--prefix", "/steadfast"]);
    whole(&etcd);
    for node in &nodes {
        assert_eq!(homes(node), set(&["a", "b"]));
        write(node, "PATCH", "/backends/later", Some(json!({ "weight": 3 })));
        write(node, "PATCH", "/backends/later", Some(json!({ "weight": 2 })));
    }

    etcd.kill();
    etcd.lose_data();
    // Nodes that start anew find nobody, and then an etcd that knows nothing.
    nodes.iter_mut().for_each(crash);
    etcd.start_again();
    nodes.iter_mut().for_each(Instance::start_again);
    whole(&etcd);
    for node in &nodes {
        connected(node, true);
        becomes(node, "later", "weight", &json!(2));
        assert_eq!(homes(node), set(&["a", "b"]));
    }
    assert_eq!(etcd.get("/steadfast/members/shop/later")["incarnation"], json!(life));
    // Its revisions begin anew, and lives do not.
    write(&nodes[1], "POST", "/backends/later/reset", None);
    assert!(field(&nodes[1], "later", "incarnation").as_u64() > Some(life));
}

#[test]
fn a_pool_of_thousands_comes_whole_and_goes_whole() {
    const COUNT: usize = 1_500;
    let nginx = Nginx::start(&["a"]);
    let etcd = Etcd::start();
    let nodes: [Instance; 2] = nodes(&etcd, &nginx);
    let named = |count: usize, weight: u32| {
        let backends = (0..count).map(|at| json!({ "name": format!("n-{at}"), "address": DEAD, "weight": weight }));
        json!({ "health": { "check": "off" }, "backend": backends.collect::<Vec<_>>() })
    };
    let count = |node: &Instance| {
        let (status, answer) = node.api("GET", "/v1/pools/big/backends", None);
        if status == 200 { answer.as_array().unwrap().len() } else { 0 }
    };
    thread::scope(|scope| {
        let watcher = scope.spawn(|| eventually("it is seen", || Some(count(&nodes[1])).filter(|seen| *seen > 0)));
        let (status, answer) = nodes[0].api("PUT", "/v1/pools/big", Some(named(COUNT, 1)));
        assert_eq!((status, &answer["applied"]), (201, &json!(true)), "{}", answer["detail"]);
        assert_eq!(watcher.join().unwrap(), COUNT, "half of it is never seen");
    });
    let (status, _) = nodes[1].api("PUT", "/v1/pools/big", Some(named(COUNT - 300, 2)));
    assert_eq!(status, 200);
    eventually("it is smaller", || (count(&nodes[0]) == COUNT - 300).then_some(()));
    assert_eq!(nodes[0].api("DELETE", "/v1/pools/big", None).0, 200);
    assert_eq!(etcd.keys("/steadfast/members/big/").len(), 0);
    eventually("it is gone", || (nodes[1].api("GET", "/v1/pools/big", None).0 == 404).then_some(()));
    assert_eq!(problems(&nodes[1]), "[]");
}

#[test]
fn a_drain_ends_once_whoever_notices_its_deadline() {
    let nginx = Nginx::start(&["a", "b"]);
    let etcd = Etcd::start();
    let nodes: [Instance; 2] = nodes(&etcd, &nginx);
    write(&nodes[0], "POST", "/backends/a/drain", Some(json!({ "deadline": "300ms", "then": "remove" })));
    nodes.iter().for_each(|node| becomes(node, "a", "weight", &Value::Null));
    assert_eq!(etcd.get("/steadfast/members/shop/a"), Value::Null);
    // Nobody knows when the last session of all nodes is gone.
    let (status, answer) = nodes[0].api("POST", "/v1/pools/shop/backends/b/drain", Some(json!({ "then": "remove" })));
    assert_eq!((status, answer["type"].as_str()), (409, Some("urn:steadfast:problem:cant-drain")), "{answer}");
    // The file does not bring back what was removed, at any node.
    let killed = nodes[1].signal("admin", Signal::KILL);
    nodes[1].replaced("admin", killed);
    eventually("it is back", || (problems(&nodes[1]) == "[]").then_some(()));
    assert_eq!(field(&nodes[1], "a", "weight"), Value::Null);
}

#[test]
fn another_instance_is_another_life_at_all_nodes_and_once() {
    let instance = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    let told = std::sync::Arc::clone(&instance);
    let backend = support::Scripted::start(move |mut stream| {
        while support::backend::read_head(&mut stream).is_some() {
            let instance = told.load(std::sync::atomic::Ordering::SeqCst);
            let answer = format!("HTTP/1.1 200 OK\r\nX-Instance: i{instance}\r\nContent-Length: 1\r\n\r\na");
            if std::io::Write::write_all(&mut stream, answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let health = "[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\ninstance_header = \"X-Instance\"\n";
    let etcd = Etcd::start();
    let nodes = [(); 2].map(|()| etcd.node("", health, [("a", backend.address())]).start());
    let key = "/steadfast/members/shop/a";
    eventually("the first is known", || (etcd.get(key)["instance"] == "i1").then_some(()));
    assert_eq!(etcd.get(key)["incarnation"], 1, "who it is at first is no other life");
    let mut lives = BTreeSet::from([1]);
    for number in 2..5 {
        instance.store(number, std::sync::atomic::Ordering::SeqCst);
        let now = format!("i{number}");
        eventually("the next is known", || (etcd.get(key)["instance"] == now.as_str()).then_some(()));
        let life = etcd.get(key)["incarnation"].clone();
        nodes.iter().for_each(|node| becomes(node, "a", "incarnation", &life));
        assert!(lives.insert(life.as_u64().unwrap()), "{lives:?}");
    }
    // Each was written once: its key has a version for each, and the one that the file made.
    let kept: Value = serde_json::from_str(&etcd.ctl(&["get", key, "-w", "json"])).unwrap();
    assert_eq!(kept["kvs"][0]["version"], 5, "{kept}");
}

#[test]
fn a_member_of_etcd_that_dies_or_stands_still_is_left_for_another() {
    let nginx = Nginx::start(&["a"]);
    let [mut one, two, three] = Etcd::cluster();
    let endpoints = format!("endpoints = {:?}\n", [&one, &two, &three].map(|member| &member.endpoint));
    let table = format!("\n[membership.etcd]\ntimeout = \"2s\"\n{endpoints}");
    let node = Setup::shop(HEALTH, nginx.backends.clone()).and(&table).membership("etcd").start();
    connected(&node, true);
    one.kill();
    write(&node, "PUT", "/backends/b", backend(DEAD));
    one.start_again();
    two.signal(Signal::STOP);
    eventually("another one is asked", || {
        let (status, answer) = node.api("PATCH", "/v1/pools/shop/backends/b", Some(json!({ "weight": 4 })));
        (status == 200 && answer["applied"] == json!(true)).then_some(())
    });
    three.put("/steadfast/members/shop/c", &json!({ "address": DEAD }));
    becomes(&node, "c", "weight", &json!(1));
    // One alone has no majority: it answers, and knows nothing for certain.
    three.signal(Signal::STOP);
    connected(&node, false);
    assert_eq!(homes(&node), set(&["a"]));
    three.signal(Signal::CONT);
    connected(&node, true);
    write(&node, "DELETE", "/backends/b", None);
}

#[test]
fn a_node_that_had_its_own_store_brings_it_along() {
    let nginx = Nginx::start(&["a"]);
    let etcd = Etcd::start();
    let mut node = Setup::shop(HEALTH, nginx.backends.clone()).membership("api").start();
    write(&node, "PUT", "/backends/later", backend(DEAD));
    write(&node, "POST", "/backends/later/drain", None);
    let life = field(&node, "later", "incarnation");
    node.process.signal(Signal::TERM);
    node.process.ended();
    let file = node.folder.path("steadfast.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("source = \"api\"", "source = \"etcd\"");
    // Of several endpoints one that answers will do.
    let table = format!("[membership.etcd]\nendpoints = [\"http://{DEAD}\", {:?}]\n", etcd.endpoint);
    std::fs::write(&file, text + &table).unwrap();
    node.start_again();
    connected(&node, true);
    let later = etcd.get("/steadfast/members/shop/later");
    assert_eq!((&later["admin_state"], &later["incarnation"]), (&json!("draining"), &life));
    write(&node, "POST", "/backends/later/reset", None);
    assert!(field(&node, "later", "incarnation").as_u64() > life.as_u64(), "its lives go on from there");
}

/// A node of this etcd with its files and what `[membership.etcd]` says besides.
fn secured(etcd: &Etcd, nginx: &Nginx, table: &str) -> Setup {
    etcd.node(table, HEALTH, nginx.backends.clone())
}

#[test]
fn it_speaks_tls_shows_a_certificate_and_knows_a_password() {
    let pki = support::pki::Pki::new();
    let (server, client) =
        (pki.issue("etcd", "IP:127.0.0.1,DNS:localhost"), pki.issue_nameless("node", "DNS:node.test"));
    let file = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let arguments: Vec<_> = [
        ("--cert-file", file(&server.chain)),
        ("--key-file", file(&server.key)),
        ("--trusted-ca-file", file(&pki.ca())),
    ]
    .into_iter()
    .map(|(name, value)| format!("{name}={value}"))
    .chain(["--client-cert-auth".to_owned()])
    .collect();
    let with_certificate = [
        format!("--cacert={}", file(&pki.ca())),
        format!("--cert={}", file(&client.chain)),
        format!("--key={}", file(&client.key)),
    ];
    let mut etcd = Etcd::start_with("https", &arguments, &with_certificate);
    for words in [
        "user add root:topsecret",
        "user grant-role root root",
        "role add steadfast",
        "role grant-permission steadfast readwrite --prefix=true /steadfast/",
        "user add node:right",
        "user grant-role node steadfast",
        "auth enable",
    ] {
        etcd.ctl(&words.split(' ').collect::<Vec<_>>());
    }
    etcd.client.push("--user=root:topsecret".to_owned());
    let password = pki.folder.write("password", "wrong\n");
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let trust = format!("ca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n", pki.ca(), client.chain, client.key);
    let user = format!("user = \"node\"\npassword_file = {password:?}\n");
    let nginx = Nginx::start(&["a"]);

    let stranger = secured(&etcd, &nginx, &format!("ca_file = {:?}\n{user}", pki.ca())).start();
    let nobody = secured(&etcd, &nginx, &trust).start();
    let named = pki.issue("named", "DNS:node.test");
    let named = format!("ca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n", pki.ca(), named.chain, named.key);
    let named = secured(&etcd, &nginx, &named).start();
    let node = secured(&etcd, &nginx, &format!("{trust}{user}")).start();
    for (node, told) in [
        (&stranger, "ertificate"),
        (&named, "without a common name"),
        (&nobody, "set user and password_file"),
        (&node, "invalid user ID or password"),
    ] {
        eventually(told, || problems(node).contains(told).then_some(()));
        assert_eq!(homes(node), set(&["a"]), "traffic goes on");
        assert!(node.process.stderr().contains("etcd can't be reached"), "{}", node.process.stderr());
    }
    assert!(problems(&node).contains("user `node`"), "{}", problems(&node));
    // The file is read anew: nothing has to be started again.
    std::fs::write(&password, "right\n").unwrap();
    connected(&node, true);
    write(&node, "PUT", "/backends/b", backend(DEAD));
    assert_eq!(etcd.get("/steadfast/members/shop/b")["address"], json!(DEAD));
    // So it is when the password changes later.
    std::fs::write(&password, "new\n").unwrap();
    for words in ["user delete node", "user add node:new", "user grant-role node steadfast"] {
        etcd.ctl(&words.split(' ').collect::<Vec<_>>());
    }
    write(&node, "DELETE", "/backends/b", None);
}
