//! What Prometheus is told, and the alert rules and the Grafana dashboard that are made of it, by `promtool`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::channel,
    time::Duration,
};
use support::{Instance, Scripted, Setup, eventually, http};

fn ops(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(file)).unwrap()
}

/// What `promtool` says against it; it has to say nothing.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// The names of all families.
fn families(metrics: &str) -> BTreeSet<&str> {
    metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// A backend that answers after a while, or says that it can't.
fn slow(after: Duration, status: &'static str) -> Scripted {
    Scripted::start(move |mut stream| {
        let (_keeps, never) = channel::<()>();
        while support::backend::read_head(&mut stream).is_some() {
            let _ = never.recv_timeout(after);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn start(backend: &Scripted) -> Instance {
    let pool = "health.check = \"off\"\naffinity.target = 0.99\naffinity.cookie.idle_timeout = \"1h\"";
    Setup::shop(pool, [("a", backend.address())]).start()
}

/// The buckets of a class, by their bounds.
fn buckets(metrics: &str, class: &str) -> BTreeMap<String, u64> {
    let start = format!("steadfast_pool_response_seconds_bucket{{pool=\"shop\",class=\"{class}\",le=\"");
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(&start)?.split_once("\"} ")?;
        Some((bound.to_owned(), count.parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

#[test]
fn how_long_responses_take_is_told_by_pool_and_class() {
    let backend = slow(Duration::from_millis(120), "200 OK");
    let instance = start(&backend);
    let web = instance.listener("web");
    (0..4).for_each(|_| assert_eq!(http::get(&web, "/", &[]).status, 200));
    // Nobody is there: our own answers count as well.
    let gone = instance.api("DELETE", "/v1/pools/shop/backends/a", None);
    assert_eq!(gone.0, 200);
    assert_eq!(http::get(&web, "/", &[]).status, 503);
    let metrics = eventually("all are told", || {
        let (_, metrics) = instance.api_text("GET", "/metrics");
        metrics.contains("steadfast_pool_response_seconds_count{pool=\"shop\",class=\"5xx\"} 1").then_some(metrics)
    });
    let fine = buckets(&metrics, "2xx");
    assert_eq!((fine["0.1"], fine["60"], fine["+Inf"]), (0, 4, 4), "{fine:?}");
    assert!(metrics.contains("steadfast_pool_response_seconds_count{pool=\"shop\",class=\"2xx\"} 4"));
    let sum = metrics
        .lines()
        .find_map(|line| line.strip_prefix("steadfast_pool_response_seconds_sum{pool=\"shop\",class=\"2xx\"} "));
    assert!(sum.unwrap().parse::<f64>().unwrap() >= 0.48, "{sum:?}");
    assert_eq!(buckets(&metrics, "3xx"), BTreeMap::new(), "a class that never came is no series");
    let of_workers = |name: &str| -> Vec<f64> {
        let start = format!("steadfast_worker_{name}{{worker=\"");
        let told = metrics.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} ")?.1.parse().ok());
        told.collect()
    };
    let requests = of_workers("requests_total");
    assert_eq!((requests.len(), requests.iter().sum::<f64>()), (2, 5.0), "each worker by itself: {requests:?}");
    assert!(of_workers("ring_operations_total").iter().all(|count| *count > 0.0));
    // The kernel may have given them all to one.
    let direct = of_workers("direct_operations_total");
    assert!(requests.iter().zip(&direct).all(|(requests, direct)| *requests == 0.0 || *direct > 0.0), "{direct:?}");
    assert_eq!(of_workers("cpu_seconds_total").len(), 2);
    assert_eq!(of_workers("idle_connections").len(), 2);
    let (_, pool) = instance.api("GET", "/v1/pools/shop", None);
    assert_eq!(pool["latency"]["responses"], 5);
    assert!(pool["latency"]["p90"].as_f64().unwrap() >= 100.0, "{pool}");
}

#[test]
fn promtool_finds_nothing_wrong() {
    let backend = slow(Duration::ZERO, "500 Oh");
    let instance = start(&backend);
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 500);
    eventually("it is counted", || (instance.pool_count("requests") == 1).then_some(()));
    promtool(&["check", "metrics"], &instance.api_text("GET", "/metrics").1);
    promtool(&["check", "rules", "ops/alerts.yml"], "");
    promtool(&["test", "rules", "ops/alerts.test.yml"], "");
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let backend = slow(Duration::ZERO, "200 OK");
    let instance = start(&backend);
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 200);
    let metrics = instance.api_text("GET", "/metrics").1;
    let families = families(&metrics);
    for file in ["alerts.yml", "grafana.json"] {
        let text = ops(file);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_name(c)).filter(|word| {
            (word.starts_with("steadfast_") || *word == "process_start_time_seconds") && word.len() > "steadfast_".len()
        });
        let mut count = 0;
        for word in words {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word);
            assert!(families.contains(family), "{file}: there is no {word}");
            count += 1;
        }
        assert!(count > 10, "{file} asks for {count}");
    }
    // Its expressions as rules, since that is what `promtool` reads; what Grafana fills in has any value.
    let board: serde_json::Value = serde_json::from_str(&ops("grafana.json")).unwrap();
    let targets = board["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let rules: Vec<_> = targets
        .enumerate()
        .map(|(at, target)| {
            let filled = target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*")
                .replace("$pool", ".*");
            serde_json::json!({ "record": format!("panel:{at}"), "expr": filled })
        })
        .collect();
    assert!(rules.len() > 20, "{}", rules.len());
    let file = instance
        .folder
        .write("panels.yml", &serde_json::json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string());
    promtool(&["check", "rules", file.to_str().unwrap()], "");
}

/// To Prometheus a counter that falls has begun anew, and what it shows then came since: traffic that never was.
#[test]
fn counters_do_not_fall_where_a_data_plane_ends() {
    let backend = slow(Duration::ZERO, "200 OK");
    let instance = start(&backend);
    let names = [
        "steadfast_dataplane_requests_total",
        "steadfast_pool_requests_total{pool=\"shop\"}",
        "steadfast_backend_requests_total{pool=\"shop\",backend=\"a\"}",
        "steadfast_pool_response_seconds_count{pool=\"shop\",class=\"2xx\"}",
    ];
    let are = |number| {
        eventually(&format!("{number} are counted"), || {
            let (_, metrics) = instance.api_text("GET", "/metrics");
            let value =
                |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
            names.iter().all(|name| value(name) == Some(number)).then_some(())
        });
    };
    let ask = |times| (0..times).for_each(|_| assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 200));
    ask(5);
    are(5_u64);
    let old = instance.pid("dataplane");
    assert_eq!(instance.api("POST", "/v1/upgrade", None).0, 200);
    instance.replaced("dataplane", old);
    eventually("the old one has ended", || (instance.metric("steadfast_dataplanes_connected") == 1).then_some(()));
    ask(2);
    are(7);
    // One that is killed takes with it what it had counted since its last report, and no more.
    let killed = instance.signal("dataplane", rustix::process::Signal::KILL);
    instance.replaced("dataplane", killed);
    ask(3);
    are(10);
    // The admin process was away, and the same one comes back to it.
    let before = instance.signal("admin", rustix::process::Signal::TERM);
    instance.replaced("admin", before);
    are(3);
}
