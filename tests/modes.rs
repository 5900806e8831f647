//! Sessions that the application names: each affinity mode beside the cookie's, through the real binary.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{
    Instance, Setup, eventually,
    http::{Response, get},
    peers::Nginx,
};

/// A request in which the session `name` is named, as one mode has it: path and headers.
type Named = fn(&str) -> (String, Vec<(&'static str, String)>);

const HASHED: [(&str, Named); 4] = [
    ("mode = \"header\"\nheader = { name = \"X-User\" }\n", |name| ("/".into(), vec![("x-user", name.into())])),
    ("mode = \"query\"\nquery = { name = \"user\" }\n", |name| (format!("/?a=1&user={name}"), vec![])),
    ("mode = \"app-cookie\"\napp_cookie = { name = \"sid\" }\n", |name| {
        ("/".into(), vec![("Cookie", format!("a=1; sid={name}"))])
    }),
    ("mode = \"app-cookie\"\napp_cookie = { name = \"JSESSIONID\", path_parameter = \"jsessionid\" }\n", |name| {
        (format!("/;jsessionid={name}"), vec![])
    }),
];

fn shop(nginx: &Nginx, affinity: &str) -> Instance {
    Setup::shop(&format!("[pool.affinity]\n{affinity}"), nginx.backends.clone()).start()
}

#[track_caller]
fn visit(address: &str, (path, headers): &(String, Vec<(&str, String)>)) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = get(address, path, &headers);
    assert_eq!((response.status, response.header("Set-Cookie")), (200, None), "{}", response.text());
    response
}

fn explained(instance: &Instance, (path, headers): &(String, Vec<(&str, String)>)) -> Value {
    let mut question = json!({ "pool": "shop", "path": path });
    for (name, value) in headers {
        match *name {
            "Cookie" => question["cookie"] = value.as_str().into(),
            name => question["headers"][name] = value.as_str().into(),
        }
    }
    instance.explain(question)
}

#[test]
fn a_session_that_is_hashed_has_one_backend_and_sets_nothing() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    for (affinity, named) in HASHED {
        let instance = shop(&nginx, affinity);
        let address = instance.listener("web");
        let mut homes = BTreeSet::new();
        for user in 0..30 {
            let request = named(&format!("u{user}"));
            let home = visit(&address, &request).text();
            assert_eq!(visit(&address, &request).text(), home, "{affinity}");
            let answer = explained(&instance, &request);
            assert_eq!((&answer["backend"], &answer["outcome"]), (&json!(home), &json!("pinned")), "{answer}");
            homes.insert(home);
        }
        assert_eq!(homes.len(), 3, "many sessions, all backends: {affinity}");
        let nobody = ("/".to_owned(), Vec::new());
        let freely: BTreeSet<_> = (0..30).map(|_| visit(&address, &nobody).text()).collect();
        assert_eq!(freely.len(), 3, "without a name each request is balanced: {affinity}");
        let answer = explained(&instance, &nobody);
        assert_eq!((&answer["outcome"], &answer["sets_cookie"]), (&json!("free"), &json!(false)), "{answer}");
        eventually("the sessions are counted, and those without a name are none", || {
            let counts = (
                instance.pool_count("pinned"),
                instance.pool_count("unpinned"),
                instance.live_sessions(&["a", "b", "c"]),
            );
            (counts == (60, 0, 30)).then_some(())
        });
    }
}

#[test]
fn ctl_explains_by_a_header() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let (affinity, named) = HASHED[0];
    let instance = shop(&nginx, affinity);
    let home = visit(&instance.listener("web"), &named("ada")).text();
    let outcome = instance.ctl(&["explain", "--pool", "shop", "--header", "X-User: ada"]);
    let lines: Vec<_> = outcome.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[..2], [&format!("{home} (pinned)"), "the hash of header `X-User` is its session key"]);
    let refused = instance.ctl(&["explain", "--pool", "shop", "--header", "X-User"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("a colon"), "{refused:?}");
}

#[test]
fn two_nodes_place_a_hashed_session_alike() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    for (affinity, named) in HASHED {
        let nodes = [shop(&nginx, affinity), shop(&nginx, affinity)].map(|node| (node.listener("web"), node));
        for user in 0..10 {
            let request = named(&format!("u{user}"));
            let [one, other] = nodes.each_ref().map(|(address, _)| visit(address, &request).text());
            assert_eq!(one, other, "{affinity}");
        }
    }
}

#[test]
fn a_route_at_the_end_of_the_application_cookie_names_the_backend() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = shop(
        &nginx,
        "mode = \"app-cookie\"\n[pool.affinity.app_cookie]\nname = \"JSESSIONID\"\nstyle = \"suffix\"\n\
         path_parameter = \"jsessionid\"\n[pool.health]\ncheck = \"off\"\n",
    );
    let address = instance.listener("web");
    let cookie = |value: &str| ("/".to_owned(), vec![("Cookie", format!("JSESSIONID={value}"))]);
    for name in ["a", "b", "c"] {
        for session in ["1F", "2A.x"] {
            let request = cookie(&format!("{session}.{name}"));
            assert_eq!(visit(&address, &request).text(), name);
            let answer = explained(&instance, &request);
            assert_eq!((&answer["backend"], &answer["pinned_to"]), (&json!(name), &json!(name)), "{answer}");
            assert_eq!(visit(&address, &(format!("/x;jsessionid={session}.{name}"), vec![])).text(), name);
        }
        assert_eq!(visit(&address, &(format!("/;jsessionid=1F.{name}"), cookie("2A.a").1)).text(), "a");
    }
    let freely: BTreeSet<_> = (0..12).map(|_| visit(&address, &cookie("1F")).text()).collect();
    assert_eq!(freely.len(), 3, "without a route each request is balanced");
    let away = visit(&address, &cookie("3C.gone")).text();
    assert_eq!(visit(&address, &cookie("3C.gone")).text(), away, "a route that is gone leads along the ring");
    assert_eq!(instance.api("PUT", "/v1/pools/shop/backends/a/health", Some(json!({ "health": "down" }))).0, 200);
    let spilled = visit(&address, &cookie("1F.a")).text();
    assert_ne!(spilled, "a");
    assert_eq!(visit(&address, &cookie("1F.a")).text(), spilled);
    assert_eq!(instance.api("PUT", "/v1/pools/shop/backends/a/health", Some(json!({ "health": "up" }))).0, 200);
    assert_eq!(visit(&address, &cookie("1F.a")).text(), "a", "nothing was bound elsewhere");
    assert_eq!(instance.backend("shop", "a")["sessions_lost"], json!(0));
}
