//! What an etcd costs that is not there, dies, stands still, forgets, is emptied or does not know who asks: no request.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use support::{
    Instance, Setup,
    etcd::{DEAD, Etcd, HEALTH, backend, becomes, connected, crash, field, homes, nodes, problems, set, write},
    eventually,
    http::get,
    peers::Nginx,
    visitors::Visitors,
};

const COOKIE: &str = "lb-affinity";

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
fn a_reload_tells_all_nodes_and_changes_nothing_that_it_can_not_tell() {
    let nginx = Nginx::start(&["a", "b"]);
    let mut etcd = Etcd::start();
    let [one, two]: [Instance; 2] = nodes(&etcd, &nginx);
    let file = one.folder.path("steadfast.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let balance = |node: &Instance| node.api("GET", "/v1/pools/shop", None).1["balance"].clone();
    let reload = |balance: &str| {
        let text = text.replace("name = \"shop\"", &format!("name = \"shop\"\nbalance = {balance:?}"));
        std::fs::write(&file, text).unwrap();
        one.api("POST", "/v1/reload", None)
    };
    let (status, answer) = reload("ring");
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    assert_eq!(balance(&one), "ring");
    eventually("the other hears of it", || (balance(&two) == "ring").then_some(()));
    // Where files differ, the one that was read last has it.
    assert_eq!(two.api("POST", "/v1/reload", None).0, 200);
    assert_eq!(etcd.get("/steadfast/pools/shop")["balance"], "round-robin");
    eventually("the first hears of it", || (balance(&one) == "round-robin").then_some(()));
    assert_eq!(reload("ring").0, 200);
    etcd.kill();
    connected(&one, false);
    let (status, answer) = reload("random");
    assert_eq!((status, answer["type"].as_str()), (503, Some("urn:steadfast:problem:etcd-away")), "{answer}");
    assert_eq!(balance(&one), "ring");
    // What is this node's own needs nobody.
    assert_eq!(reload("ring").0, 200);
    assert_eq!(one.api("POST", "/v1/keys/rotate", None).0, 200);
    assert_eq!(one.api("PUT", "/v1/pools/shop/backends/a/health", Some(json!({ "health": "down" }))).0, 200);
    assert_eq!(homes(&one), set(&["b"]));
    etcd.start_again();
    connected(&one, true);
    assert_eq!(reload("random").0, 200);
    eventually("the other hears of it", || (balance(&two) == "random").then_some(()));
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
fn a_member_of_etcd_that_dies_or_stands_still_is_left_for_another() {
    let nginx = Nginx::start(&["a"]);
    let [mut one, two, three] = Etcd::cluster();
    let endpoints = format!("endpoints = {:?}\n", [&one, &two, &three].map(|member| &member.endpoint));
    let table = format!("\n[membership.etcd]\ntimeout = \"2s\"\n{endpoints}");
    let node = Setup::shop(HEALTH, nginx.backends.clone()).and(&table).membership("etcd").start();
    connected(&node, true);
    one.kill();
    eventually("the others go on", || {
        let (status, answer) = node.api("PUT", "/v1/pools/shop/backends/b", backend(DEAD));
        (status < 300 && answer["applied"] == json!(true)).then_some(())
    });
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
