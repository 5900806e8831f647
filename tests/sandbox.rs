//! What the data plane and the admin process may still do, as the kernel tells it. What the sandbox keeps from whom is tried in
//! `sandbox/tests/sandbox.rs`; that nothing is kept from them that they need, all other tests show.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::fs;
use support::{Running, Setup, eventually, steadfast};

/// What `/proc` says of a process.
#[track_caller]
fn told(pid: u32, what: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{what}:"))).unwrap();
    line.trim().to_owned()
}

#[track_caller]
fn is_sandboxed(pid: u32) {
    // One that has just been started reads its configuration first.
    eventually("it has entered its sandbox", || (told(pid, "Seccomp") == "2").then_some(()));
    assert_eq!(told(pid, "NoNewPrivs"), "1");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for thread in threads.map(|thread| thread.unwrap().path().join("status")) {
        // One may have ended by now.
        let Ok(status) = fs::read_to_string(thread) else { continue };
        assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}

#[test]
fn both_children_are_in_their_sandboxes_also_those_that_follow() {
    let instance = Setup::shop("", [("a", "127.0.0.1:1")]).start();
    let whole =
        |landlock: &serde_json::Value| json!({ "no_new_privileges": true, "seccomp": true, "landlock": landlock });
    for role in ["dataplane", "admin"] {
        is_sandboxed(instance.pid(role));
        let old = instance.signal(role, Signal::KILL);
        is_sandboxed(instance.replaced(role, old));
    }
    let status = eventually("both serve", || {
        let (status, told) = instance.api("GET", "/v1/status", None);
        (status == 200 && !told["dataplanes"].as_array()?.is_empty()).then_some(told)
    });
    let landlock = &status["sandbox"]["landlock"];
    assert!(landlock.as_u64() > Some(0), "{status}");
    assert_eq!((&status["sandbox"], &status["dataplanes"][0]["sandbox"]), (&whole(landlock), &whole(landlock)));
    for process in ["admin", "dataplane"] {
        let value = |part| instance.metric(&format!("steadfast_sandbox{{process=\"{process}\",part=\"{part}\"}}"));
        assert_eq!(["no_new_privileges", "seccomp", "landlock"].map(value), [1, 1, landlock.as_u64().unwrap()]);
    }
}

#[test]
fn the_supervisor_keeps_what_an_upgrade_needs() {
    let instance = Setup::shop("", [("a", "127.0.0.1:1")]).start();
    assert_eq!(told(instance.process.pid(), "Seccomp"), "0");
    let old = instance.pid("dataplane");
    instance.process.signal(Signal::USR2);
    is_sandboxed(instance.replaced("dataplane", old));
}

#[test]
fn each_role_enters_its_sandbox_by_itself() {
    let folder = support::Folder::new();
    let (state, run) = (folder.path("state"), folder.path("run"));
    let keys = folder.path("elsewhere/keys");
    let text = format!(
        "[global]\nstate_dir = {state:?}\nruntime_dir = {run:?}\nkeys_file = {keys:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n[[pool]]\nname = \"shop\"\n"
    );
    let file = folder.write("steadfast.toml", &text);
    let roles =
        ["admin", "dataplane"].map(|role| Running::start(steadfast([role, "--config", file.to_str().unwrap()])));
    for process in &roles {
        eventually("it serves", || process.stderr().contains("ready").then_some(()));
        is_sandboxed(process.pid());
    }
    assert!(keys.exists(), "it could be made where the configuration wants it");
}

#[test]
fn it_can_be_left_out_and_that_is_told() {
    let instance = Setup::shop("", [("a", "127.0.0.1:1")]).global("workers = 1\nsandbox = false").start();
    for role in ["dataplane", "admin"] {
        let pid = instance.pid(role);
        assert_eq!((told(pid, "NoNewPrivs"), told(pid, "Seccomp")), ("1".to_owned(), "0".to_owned()));
    }
    assert_eq!(instance.process.stderr().matches("global.sandbox is false").count(), 2);
    assert_eq!(instance.metric("steadfast_sandbox{process=\"admin\",part=\"seccomp\"}"), 0);
}
