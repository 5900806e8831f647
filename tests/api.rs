//! The REST API keeps to its own description, and to whom it answers.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::{path::Path, process::Command};
use support::{Instance, Outcome, PATIENCE, Setup, eventually, http::request, peers::Nginx};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn with_token() -> (Nginx, Instance) {
    let nginx = Nginx::start(&["a", "b"]);
    let setup = Setup::shop("", nginx.backends.clone());
    let file = setup.folder().write("token", TOKEN);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let admin = format!("listen = \"127.0.0.1:0\"\ntoken_file = {file:?}\n");
    (nginx, setup.admin(&admin).start())
}

/// Schemathesis sends what the description allows and what it forbids, and compares every answer with it.
#[test]
fn schemathesis_finds_nothing() {
    let (_nginx, instance) = with_token();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/schemathesis");
    assert!(program.exists(), "no {}: run tests/run, which makes it", program.display());
    let mut command = Command::new(program);
    command.arg("run").arg(format!("http://{}/openapi.json", instance.admin()));
    command.args([
        "-H",
        &format!("Authorization: Bearer {TOKEN}"),
        "--no-color",
        "--seed",
        "1",
        "--max-examples",
        "25",
    ]);
    // An event stream has no end, and a key rotation has nothing to find; each is tested by itself.
    command.args(["--exclude-path", "/v1/events"]).current_dir(instance.folder.path(""));
    // It makes thousands of calls.
    let outcome = Outcome::within(PATIENCE * 10, command);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
}

#[test]
fn without_the_token_nothing_but_the_probes_answers() {
    let (_nginx, instance) = with_token();
    let admin = instance.admin();
    let bearer = format!("Bearer {TOKEN}");
    let ask = |path: &str, headers: &[(&str, &str)]| request(&admin, "GET", path, headers, b"").status;
    for (path, without) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 200),
        ("/dashboard/app.js", 200),
        ("/v1/pools", 401),
        ("/metrics", 401),
        ("/openapi.json", 401),
        ("/dashboard/nothing", 401),
    ] {
        assert_eq!(ask(path, &[]), without, "{path}");
        let with = if path == "/dashboard/nothing" { 404 } else { 200 };
        assert_eq!(ask(path, &[("Authorization", &bearer)]), with, "{path}");
    }
    for wrong in ["Bearer ", "Bearer 0123456789abcdef0123456789abcdeg", "Basic 0123456789abcdef0123456789abcdef"] {
        assert_eq!(ask("/v1/pools", &[("Authorization", wrong)]), 401, "{wrong}");
    }
}

#[test]
fn rotated_keys_open_old_tokens_and_seal_new_ones() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let visit = |cookie: &str| request(&address, "GET", "/", &[("Cookie", cookie)], b"");
    let first = visit("");
    let (home, old) = (first.text(), first.cookie("lb-affinity").unwrap());
    let rotate = |keep: u64| {
        let (status, answer) = instance.api("POST", "/v1/keys/rotate", Some(json!({ "keep": keep })));
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    };
    rotate(2);
    let again = visit(&old);
    let renewed = again.cookie("lb-affinity").expect("a token of the older key is renewed");
    assert_eq!(again.text(), home);
    rotate(2);
    assert_eq!(visit(&renewed).text(), home);
    assert!(visit(&old).cookie("lb-affinity").is_some(), "a key that is gone opens nothing");
    eventually("that is counted", || {
        let (_, metrics) = instance.api_text("GET", "/metrics");
        metrics.contains("steadfast_pool_token_unknown_key_total{pool=\"shop\"} 1").then_some(())
    });
}

#[test]
fn a_file_as_the_source_is_reloaded_whole_or_not_at_all() {
    let nginx = Nginx::start(&["a", "b"]);
    let setup = Setup::shop("", nginx.backends.clone()).membership("file");
    let instance = setup.start();
    let (status, refused) = instance.api("PUT", "/v1/pools/shop/backends/c", Some(json!({ "address": "127.0.0.1:9" })));
    assert_eq!(status, 409, "{refused}");
    let path = instance.folder.path("steadfast.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("name = \"b\"", "name = \"b\"\nweight = 9999")).unwrap();
    let (status, refused) = instance.api("POST", "/v1/reload", None);
    assert_eq!(status, 422, "{refused}");
    assert!(refused.to_string().contains("weight"), "{refused}");
    assert_eq!(instance.backend("shop", "b")["weight"], json!(1), "nothing has changed");
    std::fs::write(&path, text.replace("name = \"b\"", "name = \"b\"\nweight = 7")).unwrap();
    let (status, answer) = instance.api("POST", "/v1/reload", None);
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    assert_eq!(instance.backend("shop", "b")["weight"], json!(7));
}
