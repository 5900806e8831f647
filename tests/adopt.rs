//! Cut-over from another balancer: its cookies keep their meaning at first contact, and ours take over.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::collections::BTreeSet;
use support::{
    Instance, Recorder, Setup, eventually,
    http::get,
    old::{self, Old},
    peers::Nginx,
};

const OURS: &str = "lb-affinity";
const NAMES: [&str; 3] = ["a", "b", "c"];

fn shop(nginx: &Nginx, adopt: &str) -> Instance {
    let pool = format!("[[pool.affinity.adopt]]\n{adopt}\n[pool.health]\ncheck = \"off\"\n");
    Setup::shop(&pool, nginx.backends.clone()).start()
}

/// Who answers, the cookie of ours that comes along, and whatever else is set.
#[track_caller]
fn visit(address: &str, cookie: &str) -> (String, Option<String>, Vec<String>) {
    let response = get(address, "/", &[("Cookie", cookie)]);
    assert_eq!(response.status, 200, "{}", response.text());
    let others = response.all("Set-Cookie").filter(|line| !line.starts_with(OURS)).map(str::to_owned).collect();
    (response.text(), response.cookie(OURS), others)
}

/// Sessions that begin at the old balancer go on at the same backends here, by cookies of ours from then on, and go back as
/// well. Returns the values of the old cookies.
#[track_caller]
fn take_over(instance: &Instance, old: &str, cookie: &str) -> BTreeSet<String> {
    let address = instance.listener("web");
    let (mut homes, mut values) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..9 {
        let first = get(old, "/", &[]);
        let (home, theirs) = (first.text(), first.cookie(cookie).expect("the old balancer sets its cookie"));
        let (here, ours, others) = visit(&address, &format!("x=1; {theirs}"));
        assert_eq!((&here, others), (&home, vec![]), "{theirs}");
        let ours = ours.expect("a session that is adopted gets our cookie");
        assert_eq!(visit(&address, &ours), (home.clone(), None, vec![]), "and stays by that");
        assert_eq!(visit(&address, &format!("{theirs}; {ours}")), (home.clone(), None, vec![]), "beside the old one");
        assert_eq!(get(old, "/", &[("Cookie", &theirs)]).text(), home, "the way back is open");
        homes.insert(home);
        values.insert(theirs);
    }
    eventually("they are counted", || (instance.pool_count("adopted") == 9).then_some(()));
    assert_eq!(homes, NAMES.map(str::to_owned).into(), "the old balancer used all of them");
    assert_eq!(["unpinned", "adopt_unknown"].map(|name| instance.pool_count(name)), [0, 0]);
    values
}

/// A value that names nobody begins a session, and is counted.
#[track_caller]
fn unknown(instance: &Instance, theirs: &str) {
    let (_, ours, _) = visit(&instance.listener("web"), theirs);
    assert!(ours.is_some());
    eventually("what names nobody is counted", || {
        let counts = ["adopt_unknown", "unpinned"].map(|name| instance.pool_count(name));
        (counts == [1, 1]).then_some(())
    });
}

fn haproxy(nginx: &Nginx) -> Old {
    old::haproxy(&nginx.backends, "a-secret-of-the-old")
}

#[test]
fn static_cookies_of_a_real_haproxy_are_adopted_with_and_without_dates() {
    let nginx = Nginx::start(&NAMES);
    let haproxy = haproxy(&nginx);
    for (old, dated) in haproxy.addresses.iter().zip([false, true]) {
        let instance = shop(&nginx, "from = \"haproxy\"\ncookie = \"SERVERID\"");
        let values = take_over(&instance, old, "SERVERID");
        assert!(values.iter().all(|value| value.contains('|') == dated), "{values:?}");
        unknown(&instance, "SERVERID=gone|Zx9aQ");
    }
}

#[test]
fn dynamic_cookies_of_a_real_haproxy_are_adopted_and_the_key_is_shown_to_nobody() {
    let nginx = Nginx::start(&NAMES);
    let haproxy = haproxy(&nginx);
    let adopt = "from = \"haproxy-dynamic\"\ncookie = \"SERVERID\"\nkey = \"a-secret-of-the-old\"";
    let instance = shop(&nginx, adopt);
    take_over(&instance, &haproxy.addresses[2], "SERVERID");

    let (_, pool) = instance.api("GET", "/v1/pools/shop", None);
    assert_eq!(pool["affinity"]["adopt"][0]["key"], json!("(hidden)"));
    let body = json!({ "affinity": pool["affinity"], "health": pool["health"] });
    let (status, answer) = instance.api("PUT", "/v1/pools/shop", Some(body.clone()));
    assert_eq!((status, answer["applied"].as_bool()), (200, Some(true)), "{answer}");
    assert!(!answer.to_string().contains("a-secret"), "{answer}");
    let first = get(&haproxy.addresses[2], "/", &[]);
    let theirs = first.cookie("SERVERID").unwrap();
    assert_eq!(visit(&instance.listener("web"), &theirs).0, first.text(), "what was written back is what was there");
    let (status, answer) = instance.api("PUT", "/v1/pools/other", Some(body));
    let wrong = json!({
        "pointer": "/affinity/adopt/0/key",
        "detail": "stands for a key that is not known here",
        "right": "write the key itself",
    });
    assert_eq!((status, &answer["errors"]), (422, &json!([wrong])), "{answer}");
    unknown(&instance, "SERVERID=0123456789abcdef");
}

#[test]
fn what_nginx_calls_sticky_is_adopted() {
    let nginx = Nginx::start(&NAMES);
    let old = old::nginx_sticky(&nginx.backends);
    let instance = shop(&nginx, "from = \"nginx\"\ncookie = \"route\"");
    take_over(&instance, &old.addresses[0], "route");
    unknown(&instance, "route=d41d8cd98f00b204e9800998ecf8427e");
}

#[test]
fn an_adopted_session_moves_as_any_does_and_explain_tells_it() {
    let nginx = Nginx::start(&NAMES);
    let adopt = "from = \"haproxy\"\ncookie = \"SERVERID\"\ndelete = true\npath = \"/app\"\nvalues = { w3 = \"c\" }";
    let instance = shop(&nginx, adopt);
    let address = instance.listener("web");
    let answer = instance.explain(json!({ "pool": "shop", "cookie": "SERVERID=w3" }));
    assert_eq!((&answer["backend"], &answer["sets_cookie"]), (&json!("c"), &json!(true)), "{answer}");
    assert_eq!(
        answer["why"][0],
        json!("cookie `SERVERID`, read as that of haproxy, says that its session is at `c`: it is adopted")
    );
    let (home, ours, others) = visit(&address, "SERVERID=w3");
    assert_eq!((home.as_str(), ours.is_some()), ("c", true));
    assert_eq!(others, ["SERVERID=; Max-Age=0; Path=/app"], "it goes where that is wished");

    let drain = instance.api("POST", "/v1/pools/shop/backends/c/drain", Some(json!({})));
    assert_eq!(drain.0, 200, "{}", drain.1);
    assert_eq!(visit(&address, "SERVERID=c").0, "c", "one that drains keeps its own");
    let maintenance = instance.api("POST", "/v1/pools/shop/backends/c/maintenance", None);
    assert_eq!(maintenance.0, 200, "{}", maintenance.1);
    let (away, ours, _) = visit(&address, "SERVERID=c");
    assert_ne!(away, "c");
    assert_eq!(visit(&address, &ours.unwrap()), (away, None, vec![]));
    eventually("the move is counted", || (instance.pool_count("repinned_maintenance") == 1).then_some(()));
    assert_eq!(instance.pool_count("adopted"), 3);
}

#[test]
fn the_backend_sees_the_old_cookie_and_a_browser_s_first_burst_goes_to_one_place() {
    let recorder = Recorder::start();
    let adopt = "[[pool.affinity.adopt]]\nfrom = \"opaque\"\ncookie = \"AWSALB\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(adopt, [("a", recorder.address())]).start();
    get(&instance.listener("web"), "/", &[("Cookie", "AWSALB=xyz; y=2")]);
    assert!(recorder.take().contains("Cookie: AWSALB=xyz; y=2\r\n"));

    let nginx = Nginx::start(&NAMES);
    let nodes = [(); 2].map(|()| shop(&nginx, "from = \"opaque\"\ncookie = \"AWSALB\""));
    let addresses = nodes.each_ref().map(|node| node.listener("web"));
    let mut homes = BTreeSet::new();
    for session in 0..20 {
        let places: BTreeSet<_> =
            (0..6).map(|n| visit(&addresses[n % 2], &format!("AWSALB=s{session}/+=")).0).collect();
        assert_eq!(places.len(), 1, "on every core and node");
        homes.extend(places);
    }
    assert_eq!(homes.len(), 3);
}
