//! Secrets stay where they are: files that others can't read, and nothing of them in what is logged, answered or told.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};
use support::{Folder, Instance, Outcome, Setup, eventually, http, pki::Pki, steadfast};

/// What others may read, with the reason.
const FOR_OTHERS: [(&str, &str); 2] =
    [("addresses.json", "where it listens is for scripts to read"), ("processes.json", "so are its pids")];

/// As if whoever starts it had told the kernel to take no right away from new files.
fn without_umask(command: &mut Command) {
    // SAFETY: a single system call, which allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::umask(rustix::fs::Mode::empty());
            Ok(())
        });
    }
}

/// The names in a folder whose modes let others than the owner do anything.
fn open_to_others(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let open = entries.filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o077 != 0);
    let mut names: Vec<_> = open.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_and_sockets_are_for_their_owner_alone_whatever_the_umask() {
    let folder = Folder::new();
    let (socket, audit) = (folder.path("admin.sock"), folder.path("audit.log"));
    let admin = format!("listen = \"unix:{}\"\naudit_log = {audit:?}", socket.display());
    let mut instance = Setup::shop("", [("a", "127.0.0.1:1")]).admin(&admin).start_with(without_umask);
    let (status, _) = instance.api("PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": 2 })));
    assert_eq!(status, 200);
    let (state, run) = (instance.folder.path("state"), instance.folder.path("run"));
    let names = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    for (folder, there) in [
        (&state, &["admin.redb", "keys", "dataplane.json"][..]),
        (&run, &["control.sock", "config.toml", "lock", "admin.notify", "dataplane.notify"]),
    ] {
        let names = eventually("all is there", || {
            let names = names(folder);
            there.iter().all(|name| names.iter().any(|own| own == name)).then_some(names)
        });
        let known = FOR_OTHERS.map(|(name, _)| name);
        let open = open_to_others(folder);
        assert!(open.iter().all(|name| known.contains(&name.as_str())), "{open:?} of {names:?}");
    }
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(open_to_others(folder.root()), [] as [&str; 0]);
    instance.process.signal(rustix::process::Signal::TERM);
    instance.process.ended();
    assert!(state.join("sessions.json").exists());
    assert_eq!(open_to_others(&state), [] as [&str; 0]);
}

const TOKEN: &str = "a-token-of-the-admin-api-0123456789";
const ADOPTED: &str = "key-of-the-balancer-before";
const KEY: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=";

fn secret_file(folder: &Folder, name: &str, text: &str) -> std::path::PathBuf {
    let file = folder.write(name, text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn all_answers(instance: &Instance) -> String {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str())];
    let call = |method, path: &str, body: &str| {
        let headers: Vec<_> = headers.into_iter().chain([("Content-Type", "application/json")]).collect();
        let answer = http::request(&instance.admin(), method, path, &headers, body.as_bytes());
        assert!(answer.status < 500, "{method} {path} {}", answer.text());
        format!("{method} {path} {}\n{}\n", answer.status, answer.text())
    };
    let mut told = String::new();
    for path in ["status", "pools", "pools/shop", "pools/shop/backends", "pools/shop/stickiness", "keys"] {
        told += &call("GET", &format!("/v1/{path}"), "");
    }
    told += &call("GET", "/metrics", "");
    told += &call("GET", "/openapi.json", "");
    told += &call("POST", "/v1/explain", r#"{"pool": "shop", "cookie": "SRV=x"}"#);
    told += &call("POST", "/v1/keys/rotate", r#"{"seals": false}"#);
    told += &call("PATCH", "/v1/pools/shop/backends/a", r#"{"weight": 2}"#);
    told += &call(
        "PUT",
        "/v1/pools/shop",
        &format!(
            r#"{{"affinity": {{"adopt": [{{"from": "haproxy-dynamic", "cookie": "S R", "key": "{ADOPTED}"}}]}}}}"#
        ),
    );
    told + &call("POST", "/v1/reload", "")
}

#[test]
fn nothing_that_is_told_has_a_secret_in_it() {
    let (folder, pki) = (Folder::new(), Pki::new());
    let certificate = pki.issue("localhost", "DNS:localhost");
    let token = secret_file(&folder, "token", &format!("{TOKEN}\n"));
    let keys = secret_file(&folder, "keys", &format!("{KEY}\n"));
    let pool = format!("[[pool.affinity.adopt]]\nfrom = \"haproxy-dynamic\"\ncookie = \"SRV\"\nkey = \"{ADOPTED}\"\n");
    let tls = format!("[listener.tls]\ncertificate = [{}]\n", certificate.toml());
    let setup = Setup::listening(&tls, &pool, [("a", "127.0.0.1:1")])
        .global(&format!("workers = 1\nkeys_file = {keys:?}"))
        .admin(&format!("listen = \"127.0.0.1:0\"\ntoken_file = {token:?}"));
    let instance = setup.start_with(|command| _ = command.env("RUST_LOG", "trace"));
    let answers = all_answers(&instance);
    let wrong = instance.api("GET", "/v1/status", None).1.to_string();
    // Mistakes beside the secrets, so that they are quoted if anything is.
    let text = fs::read_to_string(instance.folder.path("steadfast.toml")).unwrap();
    let broken = folder.write("broken.toml", &(text.replace("cookie = \"SRV\"", "cookie = \"S R V\"\ncokie = 1")));
    let refused = Outcome::of(steadfast(["check", "--config", broken.to_str().unwrap()]));
    assert_eq!(refused.code, Some(64));
    let logged = instance.process.stderr() + &instance.process.stdout();
    assert!(logged.contains("audit {") && logged.contains(" DEBUG "), "{logged}");
    let private = fs::read_to_string(&certificate.key).unwrap();
    let lines = private.lines().filter(|line| line.len() > 40 && !line.starts_with('-'));
    for secret in [TOKEN, ADOPTED, KEY, "secret secret secret"].into_iter().chain(lines) {
        for (what, told) in
            [("answers", &answers), ("a refusal", &wrong), ("a check", &refused.stderr), ("logs", &logged)]
        {
            assert!(!told.contains(secret), "{what} have {secret}:\n{told}");
        }
    }
}
