//! Clients and servers that do what a script says, by Varnish's `varnishtest`: `tests/vtc/`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{path::Path, process::Command};
use support::{Folder, Outcome, PATIENCE, Setup};

/// Each script has an instance of its own at `${proxy}`, whose only backend is at the Unix socket `${s1}`.
#[test]
fn scripts_of_varnishtest_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vtc");
    let mut scripts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let mut failed = Vec::new();
    for script in &scripts {
        let sockets = Folder::new();
        let socket = sockets.path("s1").display().to_string();
        // The name says whether the backend speaks HTTP/2.
        let http2 = script.to_str().unwrap().ends_with("http2_backend.vtc");
        let pool = format!("http2 = {http2}\n[pool.health]\ncheck = \"off\"\n");
        let instance = Setup::listening("http2 = true\n", &pool, [("a", format!("unix:{socket}"))]).start();
        let mut command = Command::new("varnishtest");
        command.arg("-D").arg(format!("proxy={}", instance.listener("web"))).arg("-D").arg(format!("s1={socket}"));
        command.args(["-t", "30"]).arg(script);
        let outcome = Outcome::within(2 * PATIENCE, command);
        if outcome.code != Some(0) {
            failed.push(format!("{}:\n{}{}", script.display(), outcome.stdout, outcome.stderr));
        }
    }
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), scripts.len(), failed.join("\n"));
}
