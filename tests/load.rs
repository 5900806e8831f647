//! HTTP/2 under load by `h2load`, while what it goes to changes: no request fails.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::process::Command;
use support::{Running, eventually, peers::Nginx, pki, pki::Pki, within};

const REQUESTS: u64 = 20_000;

/// What `h2load` said in the line that begins with this.
fn told<'o>(output: &'o str, line: &str) -> &'o str {
    output.lines().find_map(|each| each.strip_prefix(line)).unwrap_or_else(|| panic!("no `{line}` in {output}")).trim()
}

#[test]
fn drains_and_changes_under_load_fail_no_request() {
    for http2 in [false, true] {
        let listen = if http2 { " http2" } else { "" };
        let nginx = Nginx::start_with(&["a", "b", "c"], listen, "", "");
        let pki = Pki::new();
        let shop = pki.issue("shop", "DNS:shop.test");
        let pool = format!("http2 = {http2}\n");
        let backends = nginx.backends.iter().map(|(name, address)| (name, address));
        let instance = pki::setup("", &[&shop], &pool, backends).start();
        let mut command = Command::new("h2load");
        command.args(["-c", "20", "-m", "20", "-t", "1", "-n", &REQUESTS.to_string()]);
        command.arg(format!("https://{}/", instance.listener("web")));
        let mut load = Running::start(command);
        let call = |method: &str, path: &str, body| {
            let (status, answer) = instance.api(method, &format!("/v1/pools/shop/backends/{path}"), body);
            assert!(matches!(status, 200 | 201), "{method} {path}: {answer}");
        };
        within(4 * support::PATIENCE, "it serves", || (instance.pool_count("requests") > 0).then_some(()));
        let mut rounds = 0;
        while !load.has_ended() {
            call("POST", "a/drain", Some(json!({ "deadline": "1ms", "then": "maintenance" })));
            call("POST", "a/activate", Some(json!({})));
            call("PUT", "d", Some(json!({ "address": nginx.backends[0].1 })));
            call("DELETE", "d", None);
            call("PATCH", "b", Some(json!({ "weight": rounds % 3 })));
            rounds += 1;
        }
        let status = load.ended();
        let output = load.stdout();
        assert!(status.success(), "{output}");
        let all = REQUESTS;
        assert_eq!(
            told(&output, "requests:"),
            format!("{all} total, {all} started, {all} done, {all} succeeded, 0 failed, 0 errored, 0 timeout")
        );
        assert_eq!(told(&output, "status codes:"), format!("{all} 2xx, 0 3xx, 0 4xx, 0 5xx"));
        assert!(rounds >= 2, "only {rounds} rounds of changes under this load");
        eventually("all is told", || (instance.pool_count("requests") == all).then_some(()));
        for count in ["http2_broken", "http2_cancelled", "http2_failed", "http2_floods"] {
            assert_eq!(instance.metric(&format!("steadfast_dataplane_{count}_total")), 0, "{count}");
        }
    }
}
