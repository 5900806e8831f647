//! What stickiness costs over several nodes: each session once wherever it came, all else in sums, and whoever is missing is
//! told.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::{Shutdown, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};
use support::{
    Instance, Recorder, Scripted, Setup,
    etcd::{DEAD, Etcd, HEALTH, backend, becomes, connected, crash, problems, write},
    eventually,
    http::{get, request},
    peers::Nginx,
};

const COOKIE: &str = "lb-affinity";

/// Where a node can be told to be before it has a port of its own: connections go to whatever address is put into it.
struct Front {
    door: Scripted,
    leads_to: Arc<Mutex<Option<String>>>,
}

impl Front {
    fn new() -> Self {
        let leads_to = Arc::new(Mutex::new(None::<String>));
        let to = Arc::clone(&leads_to);
        let door = Scripted::start(move |client| {
            let Some(address) = to.lock().unwrap().clone() else { return };
            let Ok(node) = TcpStream::connect(address) else { return };
            let (mut asks, mut hears) = (client.try_clone().unwrap(), node.try_clone().unwrap());
            let there = thread::spawn(move || {
                // Whichever side ends it ends it for both.
                let _ = io::copy(&mut asks, &mut hears);
                let _ = hears.shutdown(Shutdown::Write);
            });
            let (mut node, mut client) = (node, client);
            let _ = io::copy(&mut node, &mut client);
            let _ = (client.flush(), client.shutdown(Shutdown::Both));
            there.join().unwrap();
        });
        Self { door, leads_to }
    }

    fn address(&self) -> String {
        format!("http://{}", self.door.address())
    }

    fn leads_to(&self, node: &Instance) {
        *self.leads_to.lock().unwrap() = Some(node.admin());
    }
}

struct Node {
    instance: Instance,
    front: Front,
}

/// Nodes `n0`, `n1` and so on with the same keys; `admin` is what else belongs below `[admin]`.
fn nodes<const N: usize>(etcd: &Etcd, nginx: &Nginx, admin: impl Fn(usize) -> String) -> [Node; N] {
    let keys = etcd.path("keys");
    std::array::from_fn(|at| {
        let front = Front::new();
        let own = format!("advertise = {:?}\nnode = \"n{at}\"", front.address());
        let setup =
            etcd.node(&own, HEALTH, nginx.backends.clone()).global(&format!("workers = 2\nkeys_file = {keys:?}"));
        let instance = setup.admin(&format!("listen = \"127.0.0.1:0\"\n{}", admin(at))).start();
        front.leads_to(&instance);
        Node { instance, front }
    })
}

fn node_of(report: &Value, name: &str) -> Value {
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).cloned().unwrap_or(Value::Null)
}

#[track_caller]
fn ask(node: &Instance, scope: &str) -> Value {
    let (status, report) = node.api("GET", &format!("/v1/pools/shop/stickiness?scope={scope}"), None);
    assert_eq!((status, &report["scope"]), (200, &json!(scope)), "{report}");
    report
}

/// The cluster's figures, once they are so.
#[track_caller]
fn becomes_so(node: &Instance, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(ask(node, "cluster")).filter(&is))
}

fn requests(report: &Value) -> u64 {
    report["backends"].as_array().unwrap().iter().map(|each| each["requests"].as_u64().unwrap()).sum()
}

fn answered(report: &Value) -> usize {
    report["nodes"].as_array().unwrap().iter().filter(|node| node["answered"] == true).count()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Sessions that begin at a node: cookies, with their backends.
fn begin(node: &Instance, count: usize) -> Vec<(String, String)> {
    let first = || get(&node.listener("web"), "/", &[]);
    (0..count).map(|_| first()).map(|answer| (answer.cookie(COOKIE).unwrap(), answer.text())).collect()
}

#[test]
fn a_session_that_comes_by_two_nodes_is_one_and_all_else_is_summed() {
    let nginx = Nginx::start(&["a", "b"]);
    let etcd = Etcd::start();
    let nodes: [Node; 3] = nodes(&etcd, &nginx, |_| String::new());
    let [one, two, three] = nodes.each_ref().map(|node| &node.instance);
    becomes_so(one, "all are known", |report| answered(report) == 3);
    let sessions: Vec<_> = [(one, 12), (two, 9), (three, 6)].map(|(node, count)| begin(node, count)).into();
    // Ten of the first node come to the second as well, and three of these to the third.
    let visit = |node: &Instance, (cookie, home): &(String, String)| {
        assert_eq!(get(&node.listener("web"), "/", &[("Cookie", cookie)]).text(), *home);
    };
    sessions[0][..10].iter().for_each(|session| visit(two, session));
    sessions[0][..3].iter().for_each(|session| visit(three, session));
    let all: Vec<_> = sessions.into_iter().flatten().collect();
    let whole = |report: &Value| report["nodes"].as_array().unwrap().iter().all(|node| node["reason"].is_null());
    let report = becomes_so(two, "all requests are told", |report| requests(report) == 40 && whole(report));

    assert_eq!(report["live_sessions"], 27, "each once: {report}");
    let own: Vec<_> = ["n0", "n1", "n2"].map(|name| node_of(&report, name)["live_sessions"].clone()).into();
    assert_eq!(own, [12, 19, 9], "each node's own are more together");
    let mut homes: BTreeMap<String, u64> = BTreeMap::new();
    all.iter().for_each(|(_, home)| *homes.entry(home.clone()).or_default() += 1);
    for backend in report["backends"].as_array().unwrap() {
        assert_eq!(backend["live_sessions"], homes[backend["name"].as_str().unwrap()], "{backend}");
    }
    assert_eq!(report["returning"], json!({ "requests": 13, "pinned": 13, "share": 1.0 }));
    let hour = &report["windows"][2];
    assert_eq!((&hour["requests"], &hour["unpinned"]), (&json!(40), &json!(27)), "{hour}");
    for (name, node) in ["n0", "n1", "n2"].iter().zip(&nodes) {
        let told = node_of(&report, name);
        assert_eq!((&told["address"], &told["reason"]), (&json!(node.front.address()), &Value::Null), "{told}");
        assert_eq!(told["version"], node.instance.api("GET", "/v1/status", None).1["version"]);
    }
    let alone = ask(one, "node");
    assert_eq!((&alone["live_sessions"], alone.get("nodes")), (&json!(12), None), "one node's own is as before");
    assert_eq!(one.api("GET", "/v1/pools/shop/stickiness", None).1["scope"], "node");

    // The same sessions leave the same backend at two nodes: the ledger has both.
    write(one, "POST", "/backends/a/maintenance", None);
    nodes.iter().for_each(|node| becomes(&node.instance, "a", "admin_state", &json!("maintenance")));
    let (cookie, _) = all.iter().find(|(_, home)| home == "a").unwrap();
    for node in [one, three] {
        assert_eq!(get(&node.listener("web"), "/", &[("Cookie", cookie)]).text(), "b");
    }
    let moved = |report: &Value| {
        let moves = report["ledger"].as_array().unwrap().iter();
        let moves = moves.filter(|moved| moved["kind"] == "repinned" && moved["from"] == "a" && moved["to"] == "b");
        moves.filter_map(|moved| moved["count"].as_u64()).sum::<u64>()
    };
    let report = becomes_so(three, "both moves are told", |report| moved(report) == 2 && whole(report));
    assert_eq!(report["live_sessions"], 27, "and it is one session still");
    assert_eq!(report["left"]["repinned_maintenance"], 2, "{report}");

    eventually("ctl shows it", || {
        let shown = one.ctl(&["stickiness", "shop", "--cluster"]).stdout;
        (shown.starts_with("live sessions: 27; ") && shown.contains("3 of 3 nodes have answered")).then_some(())
    });
    assert_eq!(one.api("GET", "/v1/pools/none/stickiness?scope=cluster", None).0, 404);
}

#[test]
fn who_does_not_answer_is_told_with_the_reason() {
    let nginx = Nginx::start(&["a", "b"]);
    let etcd = Etcd::start();
    let mut nodes: [Node; 3] = nodes(&etcd, &nginx, |_| String::new());
    becomes_so(&nodes[0].instance, "all are known", |report| answered(report) == 3);
    begin(&nodes[0].instance, 4);
    begin(&nodes[1].instance, 5);
    becomes_so(&nodes[0].instance, "all are told", |report| report["live_sessions"] == 9);
    let generation = || nodes[0].instance.api("GET", "/v1/status", None).1["generation"].clone();
    let before = generation();

    // One stands still, and goes on.
    let stopped = nodes[1].instance.signal("admin", Signal::STOP);
    // Where the machine is busy, others may be late too.
    let report = becomes_so(&nodes[0].instance, "the others answer", |report| answered(report) == 2);
    let told = node_of(&report, "n1");
    assert_eq!((&told["answered"], &told["live_sessions"]), (&json!(false), &Value::Null), "{told}");
    assert_eq!(told["reason"], "it did not answer within 2 s");
    becomes_so(&nodes[0].instance, "theirs are told", |report| report["live_sessions"] == 4);
    eventually("ctl shows it", || {
        let shown = nodes[0].instance.ctl(&["stickiness", "shop", "--cluster"]).stdout;
        let told = ["all of it: it did not answer within 2 s", "2 of 3 nodes have answered"];
        told.iter().all(|told| shown.contains(told)).then_some(())
    });
    support::send_signal(stopped, Signal::CONT);
    becomes_so(&nodes[0].instance, "it is back", |report| report["live_sessions"] == 9);

    // A data plane that stands still has told its sessions' figures and no sketch.
    let stopped = nodes[1].instance.signal("dataplane", Signal::STOP);
    let all_answer = |report: &Value| answered(report) == 3 && report["live_sessions"] == 4;
    let report = becomes_so(&nodes[0].instance, "its sessions are missing", all_answer);
    let told = node_of(&report, "n1");
    assert_eq!(told["live_sessions"], 5, "{told}");
    assert!(told["reason"].as_str().unwrap().contains("did not tell its live sessions within 1 s"), "{told}");
    support::send_signal(stopped, Signal::CONT);

    // Rows that tell nothing, or that nobody has refreshed.
    let row = |admin: &str, seen: u64| json!({ "admin": admin, "version": "0.1.0", "seen": seen });
    etcd.put("/steadfast/nodes/old", &row("http://127.0.0.1:9", unix_seconds() - 200));
    etcd.put("/steadfast/nodes/deaf", &row("http://127.0.0.1:9", unix_seconds()));
    etcd.put("/steadfast/nodes/bad", &json!({ "admin": "127.0.0.1:9" }));
    let report = becomes_so(&nodes[0].instance, "they are told", |report| !node_of(report, "bad").is_null());
    for (name, told) in
        [("old", "away: it has not said for "), ("deaf", "connection refused"), ("bad", "/steadfast/nodes/bad")]
    {
        let node = node_of(&report, name);
        assert_eq!(node["answered"], false);
        assert!(node["reason"].as_str().unwrap().contains(told), "{node}");
    }
    assert!(problems(&nodes[0].instance).contains("/steadfast/nodes/bad"), "{}", problems(&nodes[0].instance));
    // One that is not the version that it says.
    let other = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
    etcd.put("/steadfast/nodes/other", &row(&format!("http://{}", other.address()), unix_seconds()));
    let report = becomes_so(&nodes[0].instance, "it is told", |report| !node_of(report, "other").is_null());
    assert!(node_of(&report, "other")["reason"].as_str().unwrap().contains("can't read"), "{report}");
    for name in ["old", "deaf", "bad", "other"] {
        etcd.ctl(&["del", &format!("/steadfast/nodes/{name}")]);
    }
    becomes_so(&nodes[0].instance, "they are gone", |report| report["nodes"].as_array().unwrap().len() == 3);
    assert_eq!(problems(&nodes[0].instance), "[]");
    assert_eq!(generation(), before, "nothing of it is a change of what is desired");

    // One that stops takes its row along, one that dies leaves it.
    nodes[2].instance.process.signal(Signal::TERM);
    nodes[2].instance.process.ended();
    assert_eq!(etcd.get("/steadfast/nodes/n2"), Value::Null);
    becomes_so(&nodes[0].instance, "it is known no more", |report| node_of(report, "n2").is_null());
    // The supervisor last, and starting nobody: the admin process would hear of its death, and stop as it should.
    nodes[1].instance.process.signal(Signal::STOP);
    nodes[1].instance.signal("admin", Signal::KILL);
    crash(&mut nodes[1].instance);
    let report = becomes_so(&nodes[0].instance, "the others are told", |report| report["live_sessions"] == 4);
    assert_eq!(node_of(&report, "n1")["answered"], false, "{report}");
    assert_eq!(etcd.get("/steadfast/nodes/n1")["admin"], json!(nodes[1].front.address()));
}

#[test]
fn a_node_says_that_it_is_there_until_it_is_heard() {
    let nginx = Nginx::start(&["a"]);
    let mut etcd = Etcd::start();
    let [node]: [Node; 1] = nodes(&etcd, &nginx, |_| String::new());
    let there = |etcd: &Etcd| etcd.get("/steadfast/nodes/n0")["admin"] == json!(node.front.address());
    eventually("it is there", || there(&etcd).then_some(()));
    // Somebody empties the prefix.
    etcd.ctl(&["del", "--prefix", "/steadfast/"]);
    eventually("it is there again", || there(&etcd).then_some(()));
    // Without etcd, whoever is known is asked.
    becomes_so(&node.instance, "it knows itself", |report| answered(report) == 1);
    etcd.kill();
    connected(&node.instance, false);
    assert_eq!(answered(&ask(&node.instance, "cluster")), 1);
    etcd.lose_data();
    etcd.start_again();
    connected(&node.instance, true);
    eventually("it is there in an etcd that is new", || there(&etcd).then_some(()));
    // Another one with its name.
    let front = Front::new();
    let row = json!({ "admin": front.address(), "version": "0.1.0", "seen": unix_seconds() });
    eventually("it is told", || {
        // This one may just have said that it is there.
        etcd.put("/steadfast/nodes/n0", &row);
        let told = node_of(&ask(&node.instance, "cluster"), "n0");
        let beside = told["reason"].as_str().is_some_and(|reason| reason.contains(&front.address()));
        (beside && problems(&node.instance).contains("is called `n0` as well")).then_some(())
    });
    write(&node.instance, "PUT", "/backends/c", backend(DEAD));
}

#[test]
fn a_node_with_another_token_is_told() {
    let nginx = Nginx::start(&["a"]);
    let etcd = Etcd::start();
    let (same, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let file = |name: &str, token: &str| {
        let path = etcd.path(name);
        fs::write(&path, token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        format!("token_file = {path:?}")
    };
    let files = [file("same", same), file("same", same), file("other", other)];
    let nodes: [Node; 3] = nodes(&etcd, &nginx, |at| files[at].clone());
    let bearer = format!("Bearer {same}");
    let ask = || {
        let path = "/v1/pools/shop/stickiness?scope=cluster";
        let answer = request(&nodes[0].instance.admin(), "GET", path, &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str::<Value>(&answer.text()).unwrap()
    };
    let report = eventually("all are known", || Some(ask()).filter(|report| !node_of(report, "n2").is_null()));
    assert_eq!(node_of(&report, "n2")["answered"], false, "{report}");
    eventually("it is told why", || {
        let told = node_of(&ask(), "n2");
        told["reason"].as_str().unwrap().contains("does not take this node's token (401)").then_some(())
    });
    eventually("the other one answers", || (node_of(&ask(), "n1")["answered"] == true).then_some(()));
    // Once it has the same, it answers.
    file("other", same);
    let bearer = format!("Bearer {other}");
    let reloaded = request(&nodes[2].instance.admin(), "POST", "/v1/reload", &[("Authorization", &bearer)], b"");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    eventually("the third one answers", || {
        let told = node_of(&ask(), "n2");
        (told["answered"] == true && told["reason"].is_null()).then_some(())
    });
    // The token is not sent wherever a row of etcd leads.
    let recorder = Recorder::start();
    let row = json!({ "admin": format!("http://{}", recorder.address()), "version": "x", "seen": unix_seconds() });
    etcd.put("/steadfast/nodes/thief", &row);
    eventually("it is asked", || (!node_of(&ask(), "thief").is_null()).then_some(()));
    let seen = recorder.take_up_to("\r\n\r\n");
    assert!(seen.contains("authorization: Node "), "{seen}");
    assert!(seen.contains("GET /v1/pools/shop/stickiness/parts HTTP/1.1") && !seen.contains(same), "{seen}");
}

#[test]
fn what_has_to_be_set_is_told() {
    let nginx = Nginx::start(&["a"]);
    let path = "/v1/pools/shop/stickiness?scope=";
    let alone = Setup::shop(HEALTH, nginx.backends.clone()).start();
    let (status, refused) = alone.api("GET", &format!("{path}cluster"), None);
    assert_eq!((status, &refused["type"]), (409, &json!("urn:steadfast:problem:no-cluster")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("membership.source is `api`"), "{refused}");
    let (status, refused) = alone.api("GET", &format!("{path}all"), None);
    assert_eq!((status, &refused["errors"][0]["parameter"]), (422, &json!("scope")), "{refused}");
    assert!(refused["errors"][0]["right"].as_str().unwrap().contains("`node`, or `cluster`"), "{refused}");
    let shown = alone.ctl(&["stickiness", "shop", "--cluster"]);
    assert!(shown.code == Some(1) && shown.stderr.contains("membership.source"), "{shown:?}");

    let etcd = Etcd::start();
    let silent = etcd.node("", HEALTH, nginx.backends.clone()).start();
    connected(&silent, true);
    let (status, refused) = silent.api("GET", &format!("{path}cluster"), None);
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("set `advertise`"), "{refused}");
    assert_eq!(etcd.keys("/steadfast/nodes/"), [""; 0], "nobody is told of it");
}
