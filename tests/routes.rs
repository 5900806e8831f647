//! Which routes' clients don't return their cookie.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use support::{Instance, Setup, eventually, http::Connection, peers::Nginx};

fn instance(nginx: &Nginx, trusted: &str) -> Instance {
    let mut setup = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n".to_owned();
    setup += trusted;
    for (path, more) in [("/api", ""), ("/static", "affinity = false\n"), ("/none", "")] {
        let pool = if path == "/none" { "none" } else { "shop" };
        setup += &format!("[[listener.route]]\npath = \"{path}\"\npool = \"{pool}\"\n{more}");
    }
    for (pool, affinity) in
        [("shop", "[[pool.affinity.ignore]]\nmethod = \"HEAD\"\n"), ("none", "[pool.affinity]\nmode = \"none\"\n")]
    {
        setup += &format!("[[pool]]\nname = \"{pool}\"\n{affinity}[pool.health]\ncheck = \"off\"\n");
        for (name, address) in &nginx.backends {
            setup += &format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
    }
    Setup::new(&setup).start()
}

/// The routes of a pool, once so many requests are counted there.
#[track_caller]
fn routes(instance: &Instance, pool: &str, requests: u64) -> Value {
    eventually(&format!("{requests} requests are counted"), || {
        let (status, report) = instance.api("GET", &format!("/v1/pools/{pool}/stickiness"), None);
        assert_eq!(status, 200, "{report}");
        let routes = report["routes"].as_array()?;
        let told: u64 = routes.iter().filter_map(|route| route["requests"].as_u64()).sum();
        (told == requests).then(|| report["routes"].clone())
    })
}

#[test]
fn clients_that_ignore_their_cookie_are_told_by_route() {
    let nginx = Nginx::start(&["a"]);
    let instance = instance(&nginx, "");
    let mut browser = Connection::open(&instance.listener("web"));
    let cookie = browser.request("GET", "/", &[], b"").cookie("lb-affinity").unwrap();
    for path in ["/", "/shelf", "/api/stock"] {
        browser.request("GET", path, &[("Cookie", &cookie)], b"");
    }
    // A token that does not open is a marker all the same: its client returns what it gets.
    browser.request("GET", "/", &[("Cookie", "lb-affinity=nonsense")], b"");
    let mut program = Connection::open(&instance.listener("web"));
    for _ in 0..4 {
        program.request("GET", "/api/orders", &[], b"");
    }
    program.request("HEAD", "/api/orders", &[], b"");
    for path in ["/static/logo.svg", "/none"] {
        program.request("GET", path, &[], b"");
    }
    let api = json!({ "listener": "web", "host": null, "path": "/api", "requests": 5, "unmarked": 4, "unmarked_share": 0.8, "ignored": 3 });
    let rest = json!({ "listener": "web", "host": null, "path": null, "requests": 4, "unmarked": 1, "unmarked_share": 0.25, "ignored": 0 });
    assert_eq!(routes(&instance, "shop", 9), json!([api, rest]));
    assert_eq!(routes(&instance, "none", 0), json!([]), "nothing is sticky there");
    let metric = "steadfast_route_ignored_total{pool=\"shop\",listener=\"web\",host=\"\",path=\"/api\"}";
    assert_eq!(instance.metric(metric), 3);
    let shown = instance.ctl(&["stickiness", "shop"]).stdout;
    let row = ["web", "*/api", "5", "4", "80.0%", "3"];
    assert!(shown.lines().any(|line| line.split_whitespace().eq(row)), "{shown}");
}

#[test]
fn a_connection_of_a_trusted_proxy_is_of_many_clients_and_proves_nothing() {
    let nginx = Nginx::start(&["a"]);
    let instance = instance(&nginx, "trusted_proxies = [\"127.0.0.1\"]\n");
    let mut proxy = Connection::open(&instance.listener("web"));
    for client in ["10.0.0.1", "10.0.0.2"] {
        proxy.request("GET", "/", &[("X-Forwarded-For", client)], b"");
    }
    let found = routes(&instance, "shop", 2);
    assert_eq!((&found[0]["unmarked"], &found[0]["ignored"]), (&json!(2), &json!(0)));
}
