//! `steadfast ctl --nodes`: the same command at two nodes, each with a state of its own.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
};
use support::{
    Instance, Outcome, Running, Scripted, Setup, Shop, backend::read_head, eventually, http, peers::Nginx, steadfast,
};

const QUICK: &str = "[pool.affinity.cookie]\nidle_timeout = \"2s\"\n[pool.health]\ninterval = \"100ms\"\n";

/// Two nodes that lead to the same two backends.
struct Site {
    nodes: [Instance; 2],
    /// Their addresses, also of one that has ended.
    admins: [String; 2],
    _shops: [Shop; 2],
}

impl Site {
    #[track_caller]
    fn start(pool: &str) -> Self {
        let shops = ["a", "b"].map(Shop::start);
        let backends = || shops.each_ref().map(|shop| (shop.name.clone(), shop.address.clone()));
        let nodes = [(); 2].map(|()| Setup::shop(pool, backends()).start());
        nodes.iter().for_each(|node| up(node, &["a", "b"]));
        Self { admins: nodes.each_ref().map(Instance::admin), nodes, _shops: shops }
    }

    fn ctl(&self, arguments: &[&str]) -> Outcome {
        many(&self.admins, arguments)
    }

    /// What a command that must succeed prints.
    #[track_caller]
    fn said(&self, arguments: &[&str]) -> String {
        let Outcome { code, stdout, stderr } = self.ctl(arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?} {stdout}");
        stdout
    }

    fn states(&self, name: &str) -> [Value; 2] {
        self.nodes.each_ref().map(|node| node.backend("shop", name)["admin_state"].clone())
    }
}

#[track_caller]
fn up(node: &Instance, names: &[&str]) {
    eventually("all backends are up and a data plane serves", || {
        let up = names.iter().all(|name| node.backend("shop", name)["health"] == "up");
        (up && node.api("GET", "/readyz", None).0 == 200).then_some(())
    });
}

fn many<A: AsRef<str>>(admins: &[A], arguments: &[&str]) -> Outcome {
    let nodes = admins.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",");
    Outcome::of(steadfast(["ctl", "--nodes", &nodes].into_iter().chain(arguments.iter().copied())))
}

/// The cells of the line that begins with this word.
#[track_caller]
fn row(text: &str, first: &str) -> Vec<String> {
    let rows = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    rows.into_iter().find(|row| row.first().is_some_and(|word| word == first)).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn figures_of_all_nodes_add_up_and_what_differs_is_pointed_out() {
    let site = Site::start("");
    let [first, second] = site.admins.clone();
    for (node, visits) in site.nodes.iter().zip([2, 3]) {
        (0..visits).for_each(|_| assert_eq!(http::get(&node.listener("web"), "/", &[]).status, 200));
        eventually("its sessions are known", || (node.live_sessions(&["a", "b"]) == visits).then_some(()));
    }
    let pools = site.said(&["pools"]);
    assert_eq!(row(&pools, "shop")[5], "5", "{pools}");
    assert!(!pools.contains("differs"), "{pools}");

    assert_eq!(site.nodes[1].api("POST", "/v1/pools/shop/backends/a/drain", None).0, 200);
    assert_eq!(site.nodes[0].ctl(&["add", "shop", "c", "127.0.0.1:9"]).code, Some(0));
    let backends = site.said(&["backends", "shop"]);
    assert!(row(&backends, "a")[3].starts_with("active|draining"), "{backends}");
    let differs = format!("\na: admin state differs: active at {first}; draining at {second}\n");
    assert!(backends.contains(&differs), "{backends}");
    assert!(backends.contains(&format!("\nc is not at {second}\n")), "{backends}");

    let status = site.said(&["status"]);
    assert_eq!(row(&status, &first)[4], "api", "{status}");
    assert_eq!(row(&status, &second)[5], "2", "two workers: {status}");
    assert!(status.contains(&format!("shop: draining differs: 0 at {first}; 1 at {second}\n")), "{status}");

    let told: Value = serde_json::from_str(&site.said(&["--json", "backends", "shop"])).unwrap();
    assert_eq!((&told[&first][0]["name"], &told[&second][0]["admin_state"]), (&json!("a"), &json!("draining")));
    // Its form does not depend on how many there are.
    let told: Value = serde_json::from_str(&many(&[&first], &["--json", "backends", "shop"]).stdout).unwrap();
    assert_eq!(told[&first][0]["name"], "a", "{told}");
    let explained = site.said(&["explain", "--pool", "shop", "--method", "POST"]);
    assert!(explained.starts_with(&format!("{first}\n  one of a, b")), "c is down or unknown, a drains: {explained}");
}

#[test]
fn a_write_goes_to_every_node_and_says_who_has_it() {
    let mut site = Site::start("");
    let [first, second] = site.admins.clone();
    let written = site.said(&["drain", "shop", "a"]);
    for node in [&first, &second] {
        assert!(written.lines().any(|line| line.contains(node)), "{written}");
    }
    assert!(written.contains("\n  a: ") && written.contains(", applied by 2 workers\n"), "{written}");
    assert_eq!(site.states("a"), ["draining", "draining"]);

    // What one refuses the other does all the same.
    assert_eq!(site.nodes[0].ctl(&["remove", "shop", "b"]).code, Some(0));
    let half = site.ctl(&["weight", "shop", "b", "7"]);
    assert_eq!(half.code, Some(1), "{half:?}");
    assert!(half.stderr.contains(&format!("{first}: refused with 404: there is no backend `b`")), "{half:?}");
    assert!(half.stderr.ends_with(&format!("1 of 2 nodes have not done it; it is done at {second}\n")), "{half:?}");
    assert_eq!(site.nodes[1].backend("shop", "b")["weight"], 7);

    site.nodes[0].process.signal(Signal::TERM);
    site.nodes[0].process.ended();
    let half = site.ctl(&["activate", "shop", "a"]);
    assert_eq!(half.code, Some(1), "{half:?}");
    assert!(half.stderr.contains(&format!("{first}: can't reach the admin API")), "{half:?}");
    assert_eq!(site.nodes[1].backend("shop", "a")["admin_state"], "active");
    let seen = site.ctl(&["backends", "shop"]);
    assert_eq!((seen.code, row(&seen.stdout, "b")[2].as_str()), (Some(1), "7"), "{seen:?}");
    assert!(seen.stderr.ends_with("1 of 2 nodes have not answered, and are not in what is shown\n"), "{seen:?}");
    let told = site.ctl(&["--json", "pools"]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert!(told[&first]["error"].as_str().unwrap().starts_with("can't reach"), "{told}");
    assert_eq!(told[&second][0]["name"], "shop");
}

#[test]
fn a_drain_is_waited_for_at_all_of_them() {
    let site = Site::start(QUICK);
    let second = &site.admins[1];
    // The second node has a session at `a`, the first has none.
    let visit = || http::get(&site.nodes[1].listener("web"), "/", &[]).text().starts_with('a');
    eventually("a session begins at a", || visit().then_some(()));
    eventually("it is known", || (site.nodes[1].live_sessions(&["a"]) > 0).then_some(()));
    let early = site.ctl(&["drain", "shop", "a", "--wait", "--timeout", "200ms"]);
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.stdout.contains(", 1 session") || early.stdout.contains("  0%, "), "{early:?}");
    assert!(early.stderr.contains("still left"), "{early:?}");
    let waited = site.ctl(&["drain", "shop", "a", "--wait", "--timeout", "20s"]);
    assert_eq!((waited.code, waited.stderr.as_str()), (Some(0), ""), "{waited:?}");
    assert!(waited.stdout.contains("0 sessions and 0 requests left"), "{waited:?}");
    for node in &site.nodes {
        assert_eq!(node.backend("shop", "a")["drain_progress"]["empty"], true);
    }
    // With JSON one answer each, when it is empty there.
    let told: Value =
        serde_json::from_str(&site.said(&["--json", "drain", "shop", "a", "--wait", "--timeout", "20s"])).unwrap();
    assert_eq!(told[second]["empty"], true, "{told}");
}

#[test]
fn a_rolling_restart_drains_each_backend_everywhere_before_its_command() {
    let nginx = Nginx::start(&["a", "b"]);
    let nodes = [(); 2].map(|()| Setup::shop(QUICK, nginx.backends.clone()).start());
    nodes.iter().for_each(|node| up(node, &["a", "b"]));
    let (log, admins) = (nodes[0].folder.path("log"), nodes.each_ref().map(Instance::admin));
    // What both nodes say of the backend while the command runs.
    let state = |admin: &str| {
        format!(
            "$(curl -s http://{admin}/v1/pools/shop/backends/$STEADFAST_BACKEND | grep -o '\"admin_state\":\"[a-z]*\"')"
        )
    };
    let [one, other] = admins.each_ref().map(|admin| state(admin));
    let command = format!("echo $STEADFAST_BACKEND {one} {other} >> {}", log.display());
    let done = many(&admins, &["rolling-restart", "shop", "--command", &command, "--deadline", "20s"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines = fs::read_to_string(&log).unwrap();
    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), ["a", "b"], "each once: {lines:?}");
    assert!(lines.iter().flatten().all(|word| !word.contains("active")), "{lines:?}");
    for (node, name) in nodes.iter().flat_map(|node| [(node, "a"), (node, "b")]) {
        let backend = node.backend("shop", name);
        assert_eq!((&backend["admin_state"], &backend["health"]), (&json!("active"), &json!("up")), "{backend}");
    }
    // `b` alone would be left at the first node: nothing is drained anywhere.
    assert_eq!(nodes[0].ctl(&["maintenance", "shop", "b"]).code, Some(0));
    let stopped = many(&admins, &["rolling-restart", "shop", "--command", "true", "--deadline", "20s"]);
    assert!(
        stopped.stderr.contains(&format!("stopped at backend `a`: {}: no other backend", admins[0])),
        "{stopped:?}"
    );
    assert!(nodes.iter().all(|node| node.backend("shop", "a")["admin_state"] == "active"));
}

#[test]
fn events_of_all_nodes_are_told_with_whose_they_are() {
    let site = Site::start("");
    let admins = site.admins.clone();
    let events = Running::start(steadfast(["ctl", "--nodes", &admins.join(","), "events"]));
    for (node, admin) in site.nodes.iter().zip(&admins) {
        eventually("its event is told", || {
            assert_eq!(node.ctl(&["weight", "shop", "a", "2"]).code, Some(0));
            assert_eq!(node.ctl(&["weight", "shop", "a", "1"]).code, Some(0));
            let begins = format!("{admin} membership ");
            events.stdout().lines().any(|line| line.starts_with(&begins) && line.contains("backend=a")).then_some(())
        });
    }
    site.nodes[0].process.signal(Signal::TERM);
    eventually("the end of one is told", || events.stderr().starts_with(&format!("{}: ", admins[0])).then_some(()));
    eventually("the other is followed on", || {
        assert_eq!(site.nodes[1].ctl(&["weight", "shop", "b", "3"]).code, Some(0));
        assert_eq!(site.nodes[1].ctl(&["weight", "shop", "b", "1"]).code, Some(0));
        events.stdout().contains("backend=b").then_some(())
    });
}

/// An admin process whose membership is in etcd, and which takes any write.
fn sharing() -> Scripted {
    Scripted::start(|mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
        stream.read_exact(&mut vec![0; length]).unwrap();
        let body = match head.starts_with("GET /v1/status ") {
            true => r#"{"source":"etcd","pools":[]}"#,
            false => r#"{"generation":4,"applied":true,"workers":2}"#,
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

#[test]
fn where_nodes_share_their_state_one_is_told_and_each_what_is_its_own() {
    let nodes = [sharing(), sharing()];
    let admins = nodes.each_ref().map(|node| node.address().to_string());
    let written = many(&admins, &["weight", "shop", "a", "3"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    assert!(written.stdout.starts_with(&admins[0]) && !written.stdout.contains(&admins[1]), "{written:?}");
    let own = many(&admins, &["health", "shop", "a", "down"]);
    assert!(admins.iter().all(|admin| own.stdout.contains(admin.as_str())), "{own:?}");
    let away = ["127.0.0.1:9".to_owned(), admins[1].clone()];
    let written = many(&away, &["weight", "shop", "a", "3"]);
    assert_eq!(written.code, Some(0), "one that is away needs nothing: {written:?}");
    assert!(written.stdout.starts_with(&admins[1]), "{written:?}");
    let own = Setup::shop("", [("a", "127.0.0.1:9")]).start();
    let mixed = many(&[admins[0].clone(), own.admin()], &["weight", "shop", "a", "3"]);
    assert!(mixed.stderr.contains("takes its membership from etcd and"), "{mixed:?}");
    assert_eq!(own.backend("shop", "a")["weight"], 1);
}

#[test]
fn the_environment_names_nodes_and_what_makes_no_sense_is_refused() {
    let site = Site::start("");
    let admins = site.admins.clone();
    let from_environment = |more: &[(&str, &str)], arguments: &[&str]| {
        let mut command = steadfast(["ctl"].into_iter().chain(arguments.iter().copied()).collect::<Vec<&str>>());
        command.env("STEADFAST_NODES", admins.join(",")).envs(more.iter().map(|(key, value)| (key, OsStr::new(value))));
        Outcome::of(command)
    };
    let status = from_environment(&[], &["status"]);
    assert!(status.code == Some(0) && admins.iter().all(|admin| status.stdout.contains(admin.as_str())), "{status:?}");
    let one = from_environment(&[], &["--admin", &admins[0], "status"]);
    assert!(one.stdout.starts_with("steadfast "), "what is typed counts: {one:?}");
    let both = from_environment(&[("STEADFAST_ADMIN", "127.0.0.1:9")], &["status"]);
    assert!(both.code == Some(2) && both.stderr.contains("both set"), "{both:?}");

    let keys = |node: &Instance| node.api("GET", "/v1/keys", None).1.as_array().unwrap().len();
    for (arguments, why) in [
        (&["keys", "rotate"][..], "each node would make another key"),
        (&["rotate-keys"], "each node would make another key"),
        (&["release", "shop", "--begin", "--wait"], "each node's release goes its own way"),
        (&["--json", "rolling-restart", "shop", "--command", "true"], "leave out --json"),
    ] {
        let refused = site.ctl(arguments);
        assert!(refused.code == Some(1) && refused.stderr.contains(why), "{arguments:?} {refused:?}");
    }
    assert_eq!(site.nodes.each_ref().map(keys), [1, 1]);
    assert_eq!(site.nodes[0].api("GET", "/v1/pools/shop/release", None).0, 404);
}
