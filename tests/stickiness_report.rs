//! What stickiness costs: known traffic has known figures.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use support::{Instance, Setup, eventually, http::get, peers::Nginx};

const COOKIE: &str = "lb-affinity";

/// The report, once it tells of so many requests.
#[track_caller]
fn report(instance: &Instance, requests: u64) -> Value {
    eventually(&format!("{requests} requests are reported"), || {
        let (status, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
        assert_eq!(status, 200, "{report}");
        let told: u64 = report["backends"].as_array()?.iter().filter_map(|each| each["requests"].as_u64()).sum();
        (told == requests).then_some(report)
    })
}

#[test]
fn known_traffic_has_known_figures() {
    let nginx = Nginx::start(&["a", "b"]);
    let setup = Setup::shop("[pool.health]\ncheck = \"off\"\n", nginx.backends.clone()).global("workers = 1");
    let instance = setup.start();
    let address = instance.listener("web");
    // In turn: one session on each of the two.
    let sessions: Vec<_> = (0..2)
        .map(|_| {
            let response = get(&address, "/", &[]);
            (response.text(), response.cookie(COOKIE).unwrap())
        })
        .collect();
    let cookie = |home: &str| &sessions.iter().find(|(backend, _)| backend == home).unwrap().1;
    // Of ten requests, `a` gets eight.
    for _ in 0..7 {
        assert_eq!(get(&address, "/", &[("Cookie", cookie("a"))]).text(), "a");
    }
    assert_eq!(get(&address, "/", &[("Cookie", cookie("b"))]).text(), "b");
    let told = report(&instance, 10);
    assert_eq!(told["live_sessions"], 2);
    assert_eq!(told["imbalance"]["sessions"], json!({ "max_over_mean": 1.0, "gini": 0.0 }));
    let requests = &told["imbalance"]["requests"];
    let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 1e-9;
    assert!(near(&requests["max_over_mean"], 1.6) && near(&requests["gini"], 0.3), "{requests}");
    assert_eq!(told["imbalance_if_free"]["requests"], json!({ "max_over_mean": 1.0, "gini": 0.0 }));
    let capacity = &told["capacity"]["requests"];
    assert!(near(&capacity["usable"], 0.625) && near(&capacity["taken"], 0.375), "{capacity}");
    assert_eq!(told["returning"], json!({ "requests": 8, "pinned": 8, "share": 1.0 }));

    let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/b/maintenance", None);
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    assert_eq!(get(&address, "/", &[("Cookie", cookie("b"))]).text(), "a");
    get(&address, "/", &[("Cookie", "lb-affinity=nonsense")]);
    let told = report(&instance, 12);
    assert_eq!(told["returning"]["requests"], 9);
    assert!(near(&told["returning"]["share"], 8.0 / 9.0), "{told}");
    assert_eq!((&told["left"]["repinned_maintenance"], &told["refused"]["token_malformed"]), (&json!(1), &json!(1)));
    assert_eq!((&told["backends"][1]["name"], &told["backends"][1]["sessions_lost"]), (&json!("b"), &json!(1)));
    let shown = instance.ctl(&["stickiness", "shop"]);
    assert!(shown.stdout.starts_with("live sessions: ") && shown.stdout.contains("repinned_maintenance"), "{shown:?}");
    assert_eq!(instance.api("GET", "/v1/pools/none/stickiness", None).0, 404);
}
