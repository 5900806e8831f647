//! Who may command what, and that it is written down.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use support::{Folder, Instance, Setup, eventually, http};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for the first line that is so, and returns it.
#[track_caller]
fn line(path: &Path, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || lines(path).into_iter().find(&is))
}

fn token_file(folder: &Folder) -> std::path::PathBuf {
    let file = folder.write("token", TOKEN);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn call(instance: &Instance, method: &str, path: &str, token: &str, body: &str) -> http::Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    http::request(&instance.admin(), method, path, &headers, body.as_bytes())
}

#[test]
fn wrong_tokens_wait_are_counted_and_told_and_the_right_one_opens_meanwhile() {
    let folder = Folder::new();
    let admin = format!("listen = \"127.0.0.1:0\"\ntoken_file = {:?}", token_file(&folder));
    let instance = Setup::shop("", [("a", "127.0.0.1:1")]).admin(&admin).start();
    let ask = |token| call(&instance, "GET", "/v1/status", token, "");
    for _ in 0..10 {
        let refused = ask("wrong-wrong-wrong");
        assert_eq!((refused.status, refused.header("WWW-Authenticate")), (401, Some("Bearer")));
    }
    let waits = ask("wrong-wrong-wrong");
    assert_eq!((waits.status, waits.header("Retry-After")), (429, Some("1")), "{}", waits.text());
    assert!(waits.text().contains("urn:steadfast:problem:wrong-tokens"), "{}", waits.text());
    assert_eq!(ask(TOKEN).status, 200, "an operator behind the same address");
    let metrics = call(&instance, "GET", "/metrics", TOKEN, "").text();
    for counted in ["{status=\"401\"} 10", "{status=\"429\"} 1"] {
        assert!(metrics.contains(&format!("steadfast_admin_wrong_tokens_total{counted}\n")), "{metrics}");
    }
    let logged = instance.process.stderr();
    assert!(
        logged.contains("wrong tokens: more from there are told to wait") && !logged.contains("wrong-wrong"),
        "{logged}"
    );
}

#[test]
fn each_change_is_written_down_with_who_made_it_and_what_it_was_before() {
    let folder = Folder::new();
    let path = folder.path("audit.log");
    let admin = format!("listen = \"127.0.0.1:0\"\ntoken_file = {:?}\naudit_log = {path:?}", token_file(&folder));
    let instance = Setup::shop("", [("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]).admin(&admin).start();
    let write = |method, path: &str, token, body| call(&instance, method, path, token, body).status;
    let backend = |what: &str| format!("/v1/pools/shop/backends/{what}");
    assert_eq!(write("PATCH", &backend("a"), "wrong-wrong-wrong", r#"{"weight": 9}"#), 401);
    let refused = line(&path, "a wrong token is told", |line| line["status"] == 401);
    assert_eq!((&refused["as"], &refused["changes"]), (&json!("nobody"), &json!([])));
    assert!(refused["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{refused}");

    assert_eq!(write("PATCH", &backend("a"), TOKEN, r#"{"weight": 9}"#), 200);
    let told = line(&path, "a write is told", |line| line["method"] == "PATCH" && line["status"] == 200);
    let change =
        json!({ "of": { "pool": "shop", "backend": "a" }, "before": { "weight": 1 }, "after": { "weight": 9 } });
    assert_eq!(
        (&told["as"], &told["path"], &told["changes"]),
        (&json!("token"), &json!(backend("a")), &json!([change]))
    );
    assert!(told["applied"] == true && told["generation"].is_u64() && told["id"].is_u64(), "{told}");

    // A drain is somebody's, and its end is this process's own.
    assert_eq!(write("POST", &backend("b/drain"), TOKEN, r#"{"deadline": "1s"}"#), 200);
    let drain = line(&path, "a drain is told", |line| line["path"] == backend("b/drain"));
    assert_eq!(drain["changes"][0]["after"]["admin_state"], "draining");
    let ended = line(&path, "its end is told", |line| line["by"] == "deadline");
    assert_eq!(ended["changes"][0]["after"]["admin_state"], "maintenance", "{ended}");
    assert_eq!(ended["changes"][0]["before"]["admin_state"], "draining", "{ended}");

    assert_eq!(write("POST", "/v1/keys/rotate", TOKEN, "{}"), 200);
    let keys = line(&path, "new keys are told", |line| line["path"] == "/v1/keys/rotate");
    assert_eq!(keys["changes"][0]["after"].as_array().unwrap().len(), 2, "{keys}");
    assert_eq!(write("DELETE", "/v1/pools/shop", TOKEN, ""), 409);
    line(&path, "a refusal is told", |line| line["status"] == 409 && line["detail"].is_string());
    assert_eq!(lines(&path).iter().filter(|line| line["method"] == "GET").count(), 0);
}

#[test]
fn a_reload_by_signal_is_told_and_the_file_rotates() {
    let folder = Folder::new();
    let path = folder.path("audit.log");
    let instance = Setup::shop("", [("a", "127.0.0.1:1")])
        .membership("file")
        .admin(&format!("listen = \"127.0.0.1:0\"\naudit_log = {path:?}"))
        .start();
    let file = instance.folder.path("steadfast.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("address = \"127.0.0.1:1\"", "address = \"127.0.0.1:1\"\nweight = 5")).unwrap();
    instance.process.signal(Signal::HUP);
    let told = line(&path, "the reload is told", |line| line["by"] == "SIGHUP");
    assert_eq!(told["changes"][0]["after"], json!({ "weight": 5 }), "{told}");
    let moved = folder.path("audit.log.1");
    fs::rename(&path, &moved).unwrap();
    instance.process.signal(Signal::USR1);
    eventually("lines are written to a new file", || {
        // Also where the file decides, and this is refused.
        let weight = json!({ "weight": 6 });
        assert_eq!(instance.api("PATCH", "/v1/pools/shop/backends/a", Some(weight)).0, 409);
        path.exists().then_some(())
    });
    assert_eq!(instance.metric("steadfast_admin_audit_failures_total"), 0);
}

#[test]
fn over_a_unix_socket_the_kernel_says_who_it_is_and_without_a_file_the_log_has_it() {
    let folder = Folder::new();
    let listen = format!("listen = \"unix:{}\"", folder.path("admin.sock").display());
    let instance = Setup::shop("", [("a", "127.0.0.1:1")]).admin(&listen).start();
    assert_eq!(instance.api("PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": 6 }))).0, 200);
    let text = eventually("the log has it", || {
        let log = instance.process.stderr();
        log.lines().find_map(|line| line.split_once(" audit ").map(|(_, told)| told.to_owned()))
    });
    let told: Value = serde_json::from_str(&text).unwrap();
    let user = rustix::process::geteuid().as_raw();
    let from = told["from"].as_str().unwrap();
    assert!(from.starts_with(&format!("unix:uid={user},gid=")), "{told}");
    assert!(from.ends_with(&format!(",pid={}", std::process::id())), "{told}");
    assert_eq!(told["as"], "anybody");
}
