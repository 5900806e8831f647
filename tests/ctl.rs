//! `steadfast ctl`: the REST API at the command line, over TCP and Unix sockets.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};
use support::{Instance, Outcome, Running, Setup, Shop, eventually, steadfast};

fn instance() -> (Instance, [Shop; 2]) {
    let shops = [Shop::start("a"), Shop::start("b")];
    let backends = shops.each_ref().map(|shop| (shop.name.clone(), shop.address.clone()));
    (Setup::shop("health.check = \"off\"", backends).start(), shops)
}

/// The lines of a command that must succeed.
#[track_caller]
fn lines(instance: &Instance, arguments: &[&str]) -> Vec<String> {
    let Outcome { code, stdout, stderr } = instance.ctl(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?} {stdout}");
    stdout.lines().map(str::to_owned).collect()
}

/// What a command that must fail says.
#[track_caller]
fn refusal(instance: &Instance, arguments: &[&str]) -> String {
    let Outcome { code, stdout, stderr } = instance.ctl(arguments);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?} {stderr}");
    stderr
}

/// The cells of a backend's row.
#[track_caller]
fn row(instance: &Instance, name: &str) -> Vec<String> {
    let lines = lines(instance, &["backends", "shop"]);
    let rows = lines.iter().map(|line| line.split("  ").map(|cell| cell.trim().to_owned()));
    let mut rows = rows.map(|row| row.filter(|cell| !cell.is_empty()).collect::<Vec<_>>());
    rows.find(|row| row[0] == name).unwrap_or_else(|| panic!("no {name} in {lines:#?}"))
}

#[test]
fn status_and_pools_are_tables() {
    let (instance, _shops) = instance();
    let status = eventually("a data plane is connected", || {
        let text = lines(&instance, &["status"]).join("\n");
        text.contains(&instance.pid("dataplane").to_string()).then_some(text)
    });
    assert!(status.starts_with("steadfast 0.1.0, up "), "{status}");
    assert!(
        status.contains("\nPOOL  BACKENDS  UP  DOWN  UNKNOWN  DRAINING  MAINTENANCE  TUNNELS\nshop  2 "),
        "{status}"
    );
    let pools = lines(&instance, &["pools"]);
    assert!(pools[0].starts_with("POOL  BALANCE      AFFINITY  ON DOWN  BACKENDS"), "{pools:#?}");
    assert!(pools[1].starts_with("shop  round-robin  cookie    repin    2 "), "{pools:#?}");
}

#[test]
fn members_come_change_and_go() {
    let (instance, shops) = instance();
    let added = lines(&instance, &["add", "shop", "c", &shops[0].address, "--weight", "3"]);
    assert_eq!(added[0], format!("c: {}, weight 3, active, unknown", shops[0].address));
    assert!(added[1].ends_with(", applied by 2 workers"), "{added:#?}");
    assert_eq!(row(&instance, "c")[1..5], [shops[0].address.as_str(), "3", "active", "unknown"]);
    lines(&instance, &["weight", "shop", "c", "7"]);
    lines(&instance, &["maintenance", "shop", "c"]);
    lines(&instance, &["health", "shop", "c", "down"]);
    assert_eq!(row(&instance, "c")[2..5], ["7", "maintenance", "down"]);
    lines(&instance, &["activate", "shop", "c"]);
    lines(&instance, &["health", "shop", "c", "auto"]);
    let drained = lines(&instance, &["drain", "shop", "c", "--deadline", "30m", "--wait", "--timeout", "20s"]);
    assert!(drained[0].contains(", draining"), "{drained:#?}");
    assert!(row(&instance, "c")[3].starts_with("draining"));
    let removed = lines(&instance, &["remove", "shop", "c"]);
    assert!(removed[0].starts_with("generation "), "{removed:#?}");
    assert_eq!(lines(&instance, &["backends", "shop"]).len(), 3);
}

#[test]
fn a_refusal_names_each_field_and_what_would_be_right() {
    let (instance, _shops) = instance();
    let text = refusal(&instance, &["add", "shop", "c", "nowhere", "--weight", "5000"]);
    assert!(text.starts_with("refused with 422: "), "{text}");
    assert!(text.contains("\n  /address: `nowhere` is not an address; write \"host:port\""), "{text}");
    assert!(text.contains("\n  /weight: 5000 is out of range; write 0 to 1000"), "{text}");
    let text = refusal(&instance, &["drain", "shop", "z"]);
    assert!(text.starts_with("refused with 404: there is no backend `z` in pool `shop`"), "{text}");
    assert!(refusal(&instance, &["backends", "a/b"]).contains("a/b"));
}

#[test]
fn a_drain_that_does_not_end_in_time_fails() {
    let (instance, _shops) = instance();
    let response = support::http::get(&instance.listener("web"), "/", &[]);
    let home = response.text().split(':').next().unwrap().to_owned();
    eventually("its session is known", || (instance.backend("shop", &home)["live_sessions"] == 1).then_some(()));
    let outcome = instance.ctl(&["drain", "shop", &home, "--wait", "--timeout", "300ms"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("draining"), "{outcome:?}");
    assert!(outcome.stderr.contains("still left"), "{outcome:?}");
}

#[test]
fn it_explains_where_a_request_would_go() {
    let (instance, _shops) = instance();
    let new = lines(&instance, &["explain"]);
    assert_eq!(
        (new[0].as_str(), new.last().unwrap().trim()),
        ("one of a, b (new)", "the response sets the affinity cookie")
    );
    let response = support::http::get(&instance.listener("web"), "/", &[]);
    let (home, cookie) = (response.text()[..1].to_owned(), response.cookie("lb-affinity").unwrap());
    let pinned = lines(&instance, &["explain", "--path", "/cart", "--cookie", &cookie]);
    assert_eq!(pinned[0], format!("{home} (pinned)"));
    assert!(pinned[1].contains("listener `web` leads /cart to pool `shop`"), "{pinned:#?}");
    lines(&instance, &["maintenance", "shop", &home]);
    let moved = lines(&instance, &["explain", "--pool", "shop", "--cookie", &cookie]);
    assert!(moved[0].ends_with(" (repinned)") && !moved[0].starts_with(&home), "{moved:#?}");
    let text = refusal(&instance, &["explain", "--listener", "wbe"]);
    assert!(text.contains("there is no listener `wbe`; the listeners are `web`"), "{text}");
}

#[test]
fn json_is_what_the_api_answers() {
    let (instance, _shops) = instance();
    let outcome = instance.ctl(&["--json", "backends", "shop"]);
    let backends: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&backends[0]["name"], &backends[1]["admin_state"]), (&"a".into(), &"active".into()));
}

#[test]
fn keys_rotate_and_the_file_is_read_again() {
    let (instance, _shops) = instance();
    assert_eq!(lines(&instance, &["rotate-keys"])[0], "2 keys open tokens, 0 no longer does");
    assert!(lines(&instance, &["reload"])[0].starts_with("generation "));
    let file = instance.folder.path("steadfast.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[[pool]]", "[[pool]]\nbalance = \"fair\"")).unwrap();
    let text = refusal(&instance, &["reload"]);
    assert!(text.contains("/pool/0/balance: unknown value `fair` (line "), "{text}");
}

#[test]
fn events_are_followed() {
    let (instance, _shops) = instance();
    let mut command = steadfast(["ctl", "--admin", &instance.admin(), "events"]);
    command.stdin(Stdio::null());
    let events = Running::start(command);
    // Until the first event is there, nobody knows that the stream has begun.
    eventually("an event is told", || {
        lines(&instance, &["weight", "shop", "a", "2"]);
        lines(&instance, &["weight", "shop", "a", "1"]);
        events.stdout().lines().any(|line| line.starts_with("membership ") && line.contains("backend=a")).then_some(())
    });
}

#[test]
fn works_over_a_unix_socket_and_with_a_token() {
    let setup = Setup::new("");
    let token = setup.folder().write("token", "correct-horse-battery-staple\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let socket = setup.folder().path("admin.sock");
    let admin = format!("listen = \"unix:{}\"\ntoken_file = {token:?}", socket.display());
    let instance = setup.admin(&admin).start();
    let text = refusal(&instance, &["status"]);
    assert!(text.starts_with("refused with 401"), "{text}");
    assert_eq!(instance.ctl(&["--token-file", token.to_str().unwrap(), "pools"]).code, Some(0));
    let file = instance.folder.path("steadfast.toml");
    let outcome = Outcome::of(steadfast(["ctl", "--config", file.to_str().unwrap(), "status"]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

#[test]
fn an_admin_process_that_is_not_there_is_told() {
    let outcome = Outcome::of(steadfast(["ctl", "--admin", "unix:/nowhere/admin.sock", "status"]));
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.starts_with("can't reach the admin API at unix:/nowhere/admin.sock: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn completions_are_there_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = Outcome::of(steadfast(["completions", shell]));
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.stdout.contains("drain") && outcome.stdout.contains("steadfast"), "{shell}");
    }
}
