//! The ledger: who moved from where to where, and why.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::{collections::BTreeMap, net::TcpStream};
use support::{Instance, Setup, eventually, http::get, peers::Nginx};

const COOKIE: &str = "lb-affinity";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// The ledger as lines, once it has this many entries in all.
#[track_caller]
fn ledger(instance: &Instance, entries: u64) -> Vec<String> {
    eventually(&format!("the ledger has {entries} moves"), || {
        let (_, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
        let ledger = report["ledger"].as_array()?;
        let count: u64 = ledger.iter().filter_map(|entry| entry["count"].as_u64()).sum();
        assert!(count <= entries, "{ledger:?}");
        let line = |entry: &Value| {
            let [kind, cause, from, to] = ["kind", "cause", "from", "to"].map(|key| text(&entry[key]).to_owned());
            format!("{kind} {cause} {from} {to} {}", entry["count"])
        };
        (count == entries).then(|| ledger.iter().map(line).collect())
    })
}

/// A session on each backend, by the backend's name.
fn sessions(address: &str, count: usize) -> BTreeMap<String, String> {
    let begin = |_| {
        let response = get(address, "/", &[]);
        (response.text(), response.cookie(COOKIE).unwrap())
    };
    (0..count).map(begin).collect()
}

#[track_caller]
fn write(instance: &Instance, method: &str, path: &str, body: Option<Value>) {
    let (status, answer) = instance.api(method, &format!("/v1/pools/shop/backends/{path}"), body);
    assert_eq!((status, &answer["applied"]), (200, &Value::Bool(true)), "{answer}");
}

#[test]
fn moves_are_told_by_cause_from_and_to_and_outlive_backends_and_the_admin_process() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let mut setup = "[[listener.route]]\npath = \"/other\"\npool = \"other\"\n".to_owned();
    setup += "[[pool]]\nname = \"other\"\n[pool.health]\ncheck = \"off\"\n";
    let backend =
        |(name, address): &(String, String)| format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    setup += &backend(&nginx.backends[0]);
    setup += "[[pool]]\nname = \"shop\"\n[pool.health]\ncheck = \"off\"\n";
    setup += &nginx.backends.iter().map(backend).collect::<String>();
    let listener = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n";
    let instance = Setup::new(&format!("{listener}{setup}")).global("workers = 1").start();
    let address = instance.listener("web");
    let begun = sessions(&address, 3);
    let go = |cookie: &str| get(&address, "/", &[("Cookie", cookie)]);
    assert_eq!(ledger(&instance, 0), [""; 0], "new sessions are no moves");

    write(&instance, "POST", "b/maintenance", None);
    let moved = go(&begun["b"]);
    let home = moved.text();
    assert_eq!(ledger(&instance, 1), [format!("repinned maintenance b {home} 1")]);
    // The client goes on with the new marker, and is where it belongs.
    assert_eq!(go(&moved.cookie(COOKIE).unwrap()).text(), home);
    write(&instance, "POST", "b/activate", None);

    write(&instance, "DELETE", "c", None);
    let removed = [go(&begun["c"]).text(), go(&begun["c"]).text()];
    assert_eq!(removed[0], removed[1], "the ring says where");
    let heir = &removed[0];
    let moves = ledger(&instance, 3);
    assert!(moves.contains(&format!("repinned removed c {heir} 2")), "the removed one is named: {moves:?}");

    write(&instance, "POST", "a/reset", None);
    let reborn = go(&begun["a"]).text();
    let foreign = get(&address, "/other", &[]).cookie(COOKIE).unwrap();
    let foreign = go(&foreign).text();
    // The last character has bits that are none of the token's, so another one is changed.
    let (front, back) = begun["b"].split_at(COOKIE.len() + 31);
    let other = if back.starts_with('A') { 'B' } else { 'A' };
    let forged = go(&format!("{front}{other}{}", &back[1..])).text();
    let nonsense = go("lb-affinity=nonsense").text();
    let moves = ledger(&instance, 7);
    for entry in [
        format!("lost incarnation a {reborn} 1"),
        format!("lost other_pool - {foreign} 1"),
        format!("lost bad_mac - {forged} 1"),
        format!("lost malformed - {nonsense} 1"),
    ] {
        assert!(moves.contains(&entry), "{entry} in {moves:?}");
    }
    assert_eq!([instance.pool_count("token_other_pool"), instance.pool_count("token_bad_mac")], [1, 1]);

    let shown = instance.ctl(&["stickiness", "shop"]).stdout;
    let row = ["repinned", "removed", "c", heir.as_str(), "2"];
    assert!(shown.lines().any(|line| line.split_whitespace().eq(row)), "{shown}");
    let old = instance.signal("admin", Signal::KILL);
    instance.replaced("admin", old);
    eventually("the admin process is back", || {
        let stream = TcpStream::connect(instance.admin());
        stream.is_ok().then(|| instance.api("GET", "/readyz", None).0).filter(|status| *status == 200)
    });
    assert_eq!(ledger(&instance, 7), moves);
}

#[test]
fn sessions_that_end_by_time_are_told_with_where_they_were() {
    let nginx = Nginx::start(&["a"]);
    let pool = "[pool.affinity.cookie]\nlifetime = \"1s\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, nginx.backends.clone()).start();
    let address = instance.listener("web");
    let cookie = get(&address, "/", &[]).cookie(COOKIE).unwrap();
    eventually("the session is over", || get(&address, "/", &[("Cookie", &cookie)]).cookie(COOKIE));
    assert_eq!(ledger(&instance, 1), ["lost lifetime a a 1"]);
}

#[test]
fn a_spill_has_its_cause_and_a_session_that_may_not_leave_goes_nowhere() {
    let nginx = Nginx::start(&["a", "b"]);
    for (on_down, expected) in [("spill", "spilled down a b 2"), ("fail", "failed down a - 2")] {
        let pool = format!("[pool.affinity]\non_down = \"{on_down}\"\n[pool.health]\ncheck = \"off\"\n");
        let instance = Setup::shop(&pool, nginx.backends.clone()).global("workers = 1").start();
        let address = instance.listener("web");
        let begun = sessions(&address, 2);
        write(&instance, "PUT", "a/health", Some(serde_json::json!({ "health": "down" })));
        for _ in 0..2 {
            get(&address, "/", &[("Cookie", &begun["a"])]);
        }
        assert_eq!(ledger(&instance, 2), [expected]);
    }
}
