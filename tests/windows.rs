//! The last minutes: counts, the target and its burn rate, and advice.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Instance, Setup, eventually, http::get, peers::Nginx};

const COOKIE: &str = "lb-affinity";

/// The report, once it tells of so many requests in the last hour.
#[track_caller]
fn report(instance: &Instance, requests: u64) -> Value {
    eventually(&format!("{requests} requests are in the window"), || {
        let (status, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
        assert_eq!(status, 200, "{report}");
        (report["windows"][2]["requests"] == requests).then_some(report)
    })
}

fn setup(affinity: &str, nginx: &Nginx) -> Setup {
    Setup::shop(&format!("{affinity}\n[pool.health]\ncheck = \"off\"\n"), nginx.backends.clone())
}

/// A session at a backend of this name.
#[track_caller]
fn session_at(instance: &Instance, home: &str) -> (u64, String) {
    let mut asked = 0;
    let cookie = eventually("a session begins there", || {
        let response = get(&instance.listener("web"), "/", &[]);
        asked += 1;
        (response.text() == home).then(|| response.cookie(COOKIE).unwrap())
    });
    (asked, cookie)
}

/// One value of a metric with labels, as it stands there.
fn gauge(instance: &Instance, name: &str) -> Option<f64> {
    let (_, page) = instance.api_text("GET", "/metrics");
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn windows_go_on_over_a_data_plane_that_dies_and_begin_anew_with_the_admin_process() {
    let nginx = Nginx::start(&["a"]);
    let mut instance = setup("", &nginx).start();
    let first = get(&instance.listener("web"), "/", &[]).cookie(COOKIE).unwrap();
    for _ in 0..3 {
        get(&instance.listener("web"), "/", &[("Cookie", &first)]);
    }
    get(&instance.listener("web"), "/", &[("Cookie", "lb-affinity=nonsense")]);
    let told = report(&instance, 5);
    for (window, minutes) in told["windows"].as_array().unwrap().iter().zip([1, 5, 60]) {
        assert_eq!(
            (&window["minutes"], &window["unpinned"], &window["unpinned_share"]),
            (&json!(minutes), &json!(2), &json!(0.4))
        );
        assert_eq!(window["returning"], json!({ "requests": 3, "pinned": 3, "share": 1.0 }));
        assert_eq!((&window["refused"]["token_malformed"], &window["left"]["spilled"]), (&json!(1), &json!(0)));
        assert!(window["seconds"].as_u64().unwrap() <= minutes * 60, "{window}");
    }
    assert_eq!((&told["target"], &told["advice"]), (&Value::Null, &json!([])));

    // Another data plane counts from zero, and the window goes on.
    let old = instance.signal("dataplane", Signal::KILL);
    instance.replaced("dataplane", old);
    instance.ready();
    eventually("it is served again", || {
        let (_, status) = instance.api("GET", "/v1/status", None);
        let planes = status["dataplanes"].as_array()?;
        (planes.len() == 1 && planes[0]["pid"] != old && planes[0]["applied_generation"].as_u64()? > 0).then_some(())
    });
    for _ in 0..2 {
        assert_eq!(get(&instance.listener("web"), "/", &[("Cookie", &first)]).status, 200);
    }
    let told = report(&instance, 7);
    assert_eq!(told["returning"]["requests"], 2, "since the start of this data plane");
    assert_eq!(told["windows"][2]["returning"]["pinned"], 5);

    // Another admin process has followed nothing of that, whatever the data plane has counted.
    let old = instance.signal("admin", Signal::KILL);
    instance.replaced("admin", old);
    instance.ready();
    eventually("it has been told what was counted before", || {
        let (_, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
        (report["returning"]["requests"] == 2).then_some(())
    });
    report(&instance, 0);
    get(&instance.listener("web"), "/", &[("Cookie", &first)]);
    assert_eq!(report(&instance, 1)["returning"]["requests"], 3);
}

#[test]
fn a_pool_that_misses_its_target_burns() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = setup("affinity.target = 0.99\naffinity.on_down = \"spill\"", &nginx).start();
    let (asked, cookie) = session_at(&instance, "b");
    let burns = |instance: &Instance| {
        let (_, status) = instance.api("GET", "/v1/status", None);
        status["problems"]
            .as_array()
            .unwrap()
            .iter()
            .any(|problem| problem.as_str().unwrap().contains("target of 0.99"))
    };
    for _ in 0..80 {
        get(&instance.listener("web"), "/", &[("Cookie", &cookie)]);
    }
    let told = report(&instance, asked + 80);
    assert_eq!(told["target"], json!({ "share": 0.99, "burn_rate_5m": 0.0, "burn_rate_1h": 0.0, "burns": false }));
    assert!(!burns(&instance));

    assert_eq!(instance.api("PUT", "/v1/pools/shop/backends/b/health", Some(json!({ "health": "down" }))).0, 200);
    for _ in 0..20 {
        assert_eq!(get(&instance.listener("web"), "/", &[("Cookie", &cookie)]).text(), "a");
    }
    let told = report(&instance, asked + 100);
    let target = &told["target"];
    assert!((target["burn_rate_1h"].as_f64().unwrap() - 20.0).abs() < 1e-6 && target["burns"] == true, "{target}");
    assert!(burns(&instance));
    assert!(instance.ctl(&["status"]).stdout.contains("problem: sessions of pool `shop` miss their pins 20.0 times"));
    let shown = instance.ctl(&["stickiness", "shop"]).stdout;
    assert!(shown.contains("burn rate 20.0 in 5 minutes and 20.0 in an hour: IT BURNS"), "{shown}");
    assert!(shown.contains("1 min ") && shown.contains("spilled 20"), "{shown}");
    for (name, value) in [
        ("affinity_target{pool=\"shop\"}", 0.99),
        ("affinity_share{pool=\"shop\",window=\"5m\"}", 0.8),
        ("affinity_burn_rate{pool=\"shop\",window=\"5m\"}", 20.0),
        ("affinity_burn_rate{pool=\"shop\",window=\"1h\"}", 20.0),
    ] {
        let found = gauge(&instance, &format!("steadfast_pool_{name}")).unwrap();
        assert!((found - value).abs() < 1e-6, "{name}: {found}");
    }
}

#[test]
fn advice_comes_with_its_evidence() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = setup("", &nginx).start();
    let (_, cookie) = session_at(&instance, "b");
    assert_eq!(report_advice(&instance), json!([]));
    // Backends are restarted again and again under sessions that nothing ends.
    for _ in 0..12 {
        assert_eq!(instance.api("POST", "/v1/pools/shop/backends/b/reset", None).0, 200);
        get(&instance.listener("web"), "/", &[("Cookie", &cookie)]);
    }
    let advice = eventually("there is advice", || {
        let advice = report_advice(&instance);
        (advice != json!([])).then_some(advice)
    });
    assert_eq!((&advice[0]["about"], advice.as_array().unwrap().len()), (&json!("lifetime"), 1), "{advice}");
    assert!(advice[0]["says"].as_str().unwrap().starts_with("Nothing but the browser ends a session"), "{advice}");
    let evidence = advice[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("12 backends were removed or began a new life"), "{evidence}");
    let shown = instance.ctl(&["stickiness", "shop"]).stdout;
    assert!(
        shown.contains("advice on lifetime: Nothing but") && shown.contains("  12 backends were removed"),
        "{shown}"
    );
}

#[track_caller]
fn report_advice(instance: &Instance) -> Value {
    let (status, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
    assert_eq!(status, 200, "{report}");
    report["advice"].clone()
}
