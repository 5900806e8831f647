//! Who sends most of a pool's requests.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use support::{Instance, Setup, eventually, http::Connection, peers::Nginx};

/// The samples that make a warning are one in 16 requests.
const ENOUGH: u64 = 64;

/// What is told once enough requests were sampled, of which `send` sends some.
#[track_caller]
fn told(instance: &Instance, mut send: impl FnMut()) -> Value {
    eventually("enough requests were sampled", || {
        (0..50).for_each(|_| send());
        let (status, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
        assert_eq!(status, 200, "{report}");
        (report["hot"]["samples"].as_u64()? >= ENOUGH).then(|| report["hot"].clone())
    })
}

#[test]
fn a_hot_session_and_a_lone_address_are_found() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", nginx.backends.clone()).start();
    let mut client = Connection::open(&instance.listener("web"));
    let mut begin = || client.request("GET", "/", &[], b"").cookie("lb-affinity").unwrap();
    let (hot, cold) = (begin(), [(); 3].map(|()| begin()));
    let mut client = Connection::open(&instance.listener("web"));
    let told = told(&instance, || {
        for cookie in [&hot, &hot, &hot, &hot, &hot, &hot, &cold[0], &cold[1], &cold[2]] {
            client.request("GET", "/", &[("Cookie", cookie)], b"");
        }
    });
    let explained = instance.explain(json!({ "path": "/", "cookie": hot }));
    assert_eq!(told["sessions"][0]["key"], explained["session_key"], "{told}");
    // Two thirds, give or take what 64 samples may be off.
    assert!((0.4..0.9).contains(&told["sessions"][0]["share"].as_f64().unwrap()), "{told}");
    assert_eq!(told["addresses"], json!([{ "address": "127.0.0.1", "share": 1.0 }]));
    let warning = told["warning"].as_str().unwrap();
    assert!(warning.contains("127.0.0.1") && warning.contains("trusted_proxies"), "{warning}");
    let shown = instance.ctl(&["stickiness", "shop"]).stdout;
    assert!(shown.contains("is another balancer in front?"), "{shown}");
}

#[test]
fn behind_a_trusted_proxy_clients_are_told_apart() {
    let nginx = Nginx::start(&["a"]);
    let mut setup = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n".to_owned();
    setup += "trusted_proxies = [\"127.0.0.1\"]\n[[pool]]\nname = \"shop\"\n[pool.health]\ncheck = \"off\"\n";
    setup += &format!("[[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n", nginx.backends[0].1);
    let instance = Setup::new(&setup).start();
    let mut client = Connection::open(&instance.listener("web"));
    let mut turn = 0;
    let told = told(&instance, || {
        turn += 1;
        // Half of the requests are of five clients, and half of one each.
        let address =
            if turn % 2 == 0 { format!("10.0.0.{}", turn % 10) } else { format!("10.1.{}.{}", turn / 250, turn % 250) };
        client.request("GET", "/", &[("X-Forwarded-For", &address)], b"");
    });
    assert_eq!(told["warning"], Value::Null, "{told}");
    let addresses: Vec<_> =
        told["addresses"].as_array().unwrap().iter().map(|hot| hot["address"].as_str().unwrap()).collect();
    assert!(addresses.len() >= 3 && !addresses.contains(&"127.0.0.1"), "{told}");
    assert!(addresses[..3].iter().all(|address| address.starts_with("10.0.0.")), "{told}");
}
