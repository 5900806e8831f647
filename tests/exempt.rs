//! Requests that are not treated as their pool's others: rules, routes without affinity, and cookies for POST alone.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{
    Instance, Setup, eventually,
    http::{Response, get, request},
    peers::Nginx,
};

const COOKIE: &str = "lb-affinity";

fn shop(nginx: &Nginx, affinity: &str) -> Instance {
    let pool = format!("[pool.affinity]\n{affinity}\n[pool.health]\ncheck = \"off\"\n");
    Setup::shop(&pool, nginx.backends.clone()).start()
}

/// A session: its backend and its cookie.
#[track_caller]
fn begin(address: &str) -> (String, String) {
    let response = request(address, "POST", "/", &[], b"");
    (response.text(), response.cookie(COOKIE).expect("a first answer pins"))
}

/// Who answers, of several requests that say the same; each of them sets nothing.
fn spread(ask: impl Fn() -> Response) -> BTreeSet<String> {
    let answers = (0..12).map(|_| ask()).inspect(|answer| assert_eq!(answer.header("Set-Cookie"), None));
    answers.map(|answer| answer.text()).collect()
}

#[test]
fn what_a_rule_ignores_is_balanced_and_sets_nothing() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let rules = "ignore = [{ header = \"X-Probe\", value = \"yes\" }, { method = \"PUT\", path = \"/\" }]";
    let instance = shop(&nginx, rules);
    let address = instance.listener("web");
    let (home, cookie) = begin(&address);
    let probe = ("x-probe", "yes");
    assert_eq!(spread(|| get(&address, "/", &[probe])).len(), 3);
    assert_eq!(spread(|| get(&address, "/", &[probe, ("Cookie", &cookie)])).len(), 3, "no pin is read");
    for headers in [&[("Cookie", cookie.as_str())][..], &[("Cookie", &cookie), ("X-Probe", "no")]] {
        assert_eq!(get(&address, "/", headers).text(), home);
    }
    let question = json!({ "pool": "shop", "cookie": cookie, "headers": { "X-Probe": "yes" } });
    let answer = instance.explain(question);
    assert_eq!((&answer["outcome"], &answer["pinned_to"]), (&json!("free"), &Value::Null), "{answer}");
    let by_method = instance.explain(json!({ "pool": "shop", "cookie": cookie, "method": "PUT" }));
    assert!(by_method["why"][0].as_str().unwrap().contains("affinity.ignore"), "{by_method}");
}

#[test]
fn rules_can_be_set_over_rest() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = shop(&nginx, "");
    let address = instance.listener("web");
    let put = |ignore: Value| {
        let settings = json!({ "affinity": { "ignore": ignore } });
        instance.api("PUT", "/v1/pools/shop", Some(settings))
    };
    let (status, answer) = put(json!([{ "path": "/", "header": "X-Probe" }]));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    assert_eq!(get(&address, "/", &[("X-Probe", "1")]).header("Set-Cookie"), None);
    assert!(get(&address, "/", &[]).cookie(COOKIE).is_some());
    let (status, refused) = put(json!([{ "path": "/" }, { "value": "x" }]));
    assert_eq!((status, &refused["errors"][0]["pointer"]), (422, &json!("/affinity/ignore/1")), "{refused}");
    let (status, refused) = put(json!([["/"]]));
    assert_eq!((status, &refused["errors"][0]["pointer"]), (422, &json!("/affinity/ignore/0")), "{refused}");
}

#[test]
fn what_a_rule_forces_reaches_its_pin_though_that_is_down_or_in_maintenance() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = shop(&nginx, "force = [{ header = \"X-Probe\" }]");
    let address = instance.listener("web");
    let (home, cookie) = begin(&address);
    let backend = format!("/v1/pools/shop/backends/{home}");
    let (forced, plain) = ([("Cookie", cookie.as_str()), ("X-Probe", "1")], [("Cookie", cookie.as_str())]);
    let holds = |why: &str| {
        let answer = get(&address, "/", &forced);
        assert_eq!((answer.text(), answer.cookie(COOKIE)), (home.clone(), None), "{why}");
        assert_ne!(get(&address, "/", &plain).text(), home, "{why}");
    };
    assert_eq!(instance.api("PUT", &format!("{backend}/health"), Some(json!({ "health": "down" }))).0, 200);
    holds("down");
    assert_eq!(instance.api("POST", &format!("{backend}/maintenance"), None).0, 200);
    holds("maintenance");
    let question = json!({ "pool": "shop", "cookie": cookie, "headers": { "X-Probe": "1" } });
    let answer = instance.explain(question);
    assert_eq!((&answer["backend"], &answer["outcome"]), (&json!(home), &json!("pinned")), "{answer}");
    assert!(instance.ctl(&["explain", "--pool", "shop", "--method", "GET"]).code == Some(0));
}

#[test]
fn with_postonly_only_a_post_is_answered_with_a_cookie() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = shop(&nginx, "[pool.affinity.cookie]\npostonly = true");
    let address = instance.listener("web");
    assert_eq!(spread(|| get(&address, "/", &[])).len(), 3);
    let (home, cookie) = begin(&address);
    let pinned = [("Cookie", cookie.as_str())];
    assert_eq!(spread(|| get(&address, "/", &pinned)), [home.clone()].into());
    let path = format!("/v1/pools/shop/backends/{home}/health");
    assert_eq!(instance.api("PUT", &path, Some(json!({ "health": "down" }))).0, 200);
    let away = spread(|| get(&address, "/", &pinned));
    assert!(away.len() == 1 && !away.contains(&home), "a GET goes along the ring and binds nothing: {away:?}");
    assert_eq!(instance.backend("shop", &home)["sessions_lost"], json!(0));
    let moved = request(&address, "POST", "/", &pinned, b"");
    let fresh = moved.cookie(COOKIE).expect("a POST binds it");
    assert_eq!(get(&address, "/", &[("Cookie", &fresh)]).text(), moved.text());
    eventually("the loss is counted once", || {
        (instance.backend("shop", &home)["sessions_lost"] == json!(1)).then_some(())
    });
}

#[test]
fn a_route_without_affinity_reads_and_sets_no_marker() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let mut text = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n\
        [[listener.route]]\nhost = \"static.example\"\npool = \"shop\"\naffinity = false\n\
        [[pool]]\nname = \"shop\"\n"
        .to_owned();
    for (name, address) in &nginx.backends {
        text += &format!("[[pool.backend]]\nname = {name:?}\naddress = {address:?}\n");
    }
    let instance = Setup::new(&text).start();
    let address = instance.listener("web");
    let (home, cookie) = begin(&address);
    assert_eq!(get(&address, "/", &[("Cookie", &cookie)]).text(), home);
    // In absolute form the target's host counts.
    let off = |cookie: &str| get(&address, "http://static.example/", &[("Cookie", cookie)]);
    assert_eq!(spread(|| off("a=1")).len(), 3);
    assert_eq!(spread(|| off(&cookie)).len(), 3);
    let answer = instance.explain(json!({ "host": "static.example", "cookie": cookie }));
    assert_eq!((&answer["outcome"], &answer["sets_cookie"]), (&json!("free"), &json!(false)), "{answer}");
    assert!(answer["why"].to_string().contains("affinity off"), "{answer}");
}
