//! Membership from etcd: what one node writes, what anybody else does, and what all nodes make of it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread};
use support::{
    Instance, Setup,
    etcd::{DEAD, Etcd, HEALTH, backend, becomes, connected, crash, field, homes, nodes, problems, set, write},
    eventually,
    http::get,
    peers::Nginx,
};

const COOKIE: &str = "lb-affinity";

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
            let cookie = first.cookie(COOKIE);
            let cookie = cookie.unwrap_or_else(|| panic!("{what}: {} {}", first.status, first.text()));
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
    let mut lives = vec![life.as_u64()];
    for _ in 0..3 {
        write(&node, "POST", "/backends/later/reset", None);
        lives.push(field(&node, "later", "incarnation").as_u64());
    }
    assert!(lives.is_sorted_by(|one, next| one < next), "its lives go on from there: {lives:?}");
    // One whose store knows of higher numbers raises them for all.
    let another = etcd.node("", HEALTH, [("a", DEAD)]);
    let store = another.folder().path("state");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::copy(node.folder.path("state/admin.redb"), store.join("admin.redb")).unwrap();
    let another = another.start();
    write(&another, "POST", "/backends/later/reset", None);
    let life = field(&another, "later", "incarnation");
    assert!(life.as_u64() > *lives.last().unwrap(), "{life} {lives:?}");
    becomes(&node, "later", "incarnation", &life);
}
