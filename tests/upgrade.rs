//! Another data plane takes over, for another program or other listeners: nobody notices.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use support::{
    Instance, Running, Setup, Shop, eventually,
    http::{self, Connection},
    peers::Nginx,
    visitors::Visitors,
    websockets::{Server, closed, hold},
};

const QUIET: &str = "health.check = \"off\"";

/// Runs under load, `STEADFAST_UPGRADES` of each kind.
fn rounds() -> u32 {
    std::env::var("STEADFAST_UPGRADES").map_or(10, |number| number.parse().expect("STEADFAST_UPGRADES is a number"))
}

fn shop(nginx: &Nginx) -> Setup {
    Setup::shop(QUIET, nginx.backends.iter().map(|(name, address)| (name, address)))
}

fn upgrade(instance: &Instance) -> Value {
    let (status, answer) = instance.api("POST", "/v1/upgrade", None);
    assert_eq!(status, 200, "{answer} {}", instance.process.stderr());
    answer
}

/// Changes the configuration file.
fn edit(instance: &Instance, change: impl FnOnce(String) -> String) {
    let file = instance.folder.path("steadfast.toml");
    let text = change(fs::read_to_string(&file).unwrap());
    fs::write(file, text).unwrap();
}

/// The data planes that were replaced and have not ended.
fn replaced(instance: &Instance) -> Vec<u64> {
    let text = fs::read(instance.folder.path("run/processes.json")).unwrap();
    let processes: Value = serde_json::from_slice(&text).unwrap();
    processes["replaced"].as_array().unwrap().iter().map(|pid| pid.as_u64().unwrap()).collect()
}

#[test]
fn under_load_no_request_is_lost_no_session_moves_and_no_tunnel_is_cut() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let chat = Server::start("chat");
    let setup = shop(&nginx);
    let more = format!(
        "[[listener]]\nname = \"chat\"\nbind = \"127.0.0.1:0\"\npool = \"chat\"\n[[pool]]\nname = \"chat\"\n{QUIET}\n\
         [[pool.backend]]\nname = \"chat\"\naddress = \"{}\"\n",
        chat.address
    );
    let instance = setup.and(&more).start();
    let first = u64::from(instance.pid("dataplane"));
    let (client, _) = hold(&format!("ws://{}", instance.listener("chat")), 20);
    // Some are busy, some rest for less and some for longer than a connection keeps its buffer.
    let think = [0, 0, 0, 10, 100, 200, 300, 500, 700, 1_000].map(Duration::from_millis);
    let visitors = Visitors::start(&instance.listener("web"), think);
    let mut wrk = wrk(&instance.listener("web"));
    for round in 0..rounds() {
        let before = visitors.answered();
        if round % 2 == 0 {
            upgrade(&instance);
        } else {
            let (old, number) = (instance.pid("dataplane"), instance.process.pid());
            support::send_signal(number, Signal::USR2);
            instance.replaced("dataplane", old);
        }
        edit(&instance, |text| text + &format!("# round {round}\n"));
        let (status, answer) = instance.api("POST", "/v1/reload", None);
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
        eventually("they are served by the next", || (visitors.answered() > before + 100).then_some(()));
    }
    assert!(replaced(&instance).contains(&first), "it still has the tunnels");
    wrk.signal(Signal::INT);
    wrk.ended();
    let said = wrk.stdout();
    assert!(said.contains(" requests in ") && !said.contains("errors") && !said.contains("Non-2xx"), "{said}");
    let tally = visitors.end();
    assert!(
        tally.wrong.is_empty(),
        "{} requests over {} connections: {:?}",
        tally.requests,
        tally.connections,
        tally.wrong
    );
    assert!(tally.connections > u64::from(rounds()), "they came to the next data planes: {tally:?}");
    assert_eq!(client.closes(), Vec::<u64>::new(), "all tunnels are open");
    let others = instance.pool_count("requests");
    support::figure(format_args!("{0} upgrades, {0} reloads, {others} requests, 0 lost", rounds()));
    assert_eq!(instance.pool_count("requests"), instance.pool_count("pinned") + instance.pool_count("unpinned"));
    drop(client);
    eventually("the last of the old ones has ended", || replaced(&instance).is_empty().then_some(()));
}

/// Load by a program that is not ours, until it is told to end: it tells of each connection that failed and each answer that was
/// not in order.
fn wrk(web: &str) -> Running {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--connections", "8", "--duration", "1h", "--timeout", "30s"]);
    command.arg(format!("http://{web}/"));
    Running::start(command)
}

/// A drain that is under way must not look as if it were over, and sessions that are handed over count once.
#[test]
fn live_sessions_are_handed_over_by_one_that_is_replaced_and_by_one_that_stops() {
    let nginx = Nginx::start(&["a", "b"]);
    let mut instance = shop(&nginx).start();
    let web = instance.listener("web");
    (0..60).for_each(|_| assert_eq!(http::get(&web, "/", &[]).status, 200));
    let live = |instance: &Instance| ["a", "b"].map(|name| instance.backend("shop", name)["live_sessions"].as_u64());
    let all = eventually("all are known", || {
        let live = live(&instance);
        (live.iter().flatten().sum::<u64>() == 60).then_some(live)
    });
    let are_known = |instance: &Instance, what: &str| eventually(what, || (live(instance) == all).then_some(()));
    let log = |instance: &Instance| instance.process.stderr().matches("live sessions taken over").count();
    upgrade(&instance);
    eventually("they are taken over", || (log(&instance) == 1).then_some(()));
    eventually("the old one has ended", || replaced(&instance).is_empty().then_some(()));
    are_known(&instance, "the next data plane knows them");

    let old = instance.signal("dataplane", Signal::TERM);
    instance.replaced("dataplane", old);
    are_known(&instance, "so does one that comes after one that has stopped");
    let (status, drained) = instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(json!({})));
    assert_eq!((status, &drained["backend"]["drain_progress"]["live_sessions"]), (200, &json!(all[0])), "{drained}");

    instance.process.signal(Signal::TERM);
    assert!(instance.process.ended().success());
    instance.start_again();
    are_known(&instance, "and one of another supervisor");
    assert!(!instance.folder.path("state/sessions.json").exists(), "they are followed, and not on disk");
}

/// It runs from a path of its own, where a test can install another program.
fn installed(setup: Setup) -> (Instance, PathBuf) {
    let program = setup.folder().path("steadfast");
    fs::copy(env!("CARGO_BIN_EXE_steadfast"), &program).unwrap();
    let path = program.clone();
    let instance = setup.start_with(|command| {
        let mut own = Command::new(path);
        own.args(command.get_args());
        *command = own;
    });
    (instance, program)
}

/// As package managers do it: what runs keeps the file that it was started from.
fn install(program: &Path, content: &[u8], mode: u32) {
    let new = program.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(new, program).unwrap();
}

#[test]
fn both_processes_come_to_run_the_program_that_is_installed() {
    let backend = Shop::start("a");
    let (instance, program) = installed(Setup::shop(QUIET, [("a", &backend.address)]));
    let [dataplane, admin] = ["dataplane", "admin"].map(|role| instance.pid(role));
    let told = instance.ctl(&["upgrade"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let next = instance.pid("dataplane");
    assert!(told.stdout.starts_with(&format!("data plane {next} serves")) && next != dataplane, "{told:?}");
    assert_eq!(instance.pid("admin"), admin, "it runs what is installed");

    install(&program, &fs::read(env!("CARGO_BIN_EXE_steadfast")).unwrap(), 0o755);
    upgrade(&instance);
    let runs = |pid: u32| fs::canonicalize(format!("/proc/{pid}/exe")).is_ok_and(|path| path == program);
    assert!(instance.pid("dataplane") != next && runs(instance.pid("dataplane")));
    instance.replaced("admin", admin);
    eventually("the admin process answers", || {
        std::net::TcpStream::connect(instance.admin()).ok().filter(|_| runs(instance.pid("admin")))
    });
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 200);
    let log = instance.process.stderr();
    assert!(log.contains("admin process ended, exit status: 0, and is started anew"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn one_that_does_not_come_up_leaves_all_as_it_was() {
    let backend = Shop::start("a");
    let (instance, program) = installed(Setup::shop(QUIET, [("a", &backend.address)]));
    let pids = ["dataplane", "admin"].map(|role| instance.pid(role));
    let mut connection = Connection::open(&instance.listener("web"));
    let mut fails = |why: &str| {
        let (status, answer) = instance.api("POST", "/v1/upgrade", None);
        assert_eq!((status, &answer["type"]), (409, &json!("urn:steadfast:problem:not-upgraded")), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(why), "{answer}");
        assert_eq!(["dataplane", "admin"].map(|role| instance.pid(role)), pids);
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
        assert!(replaced(&instance).is_empty());
        let told = instance.ctl(&["upgrade"]);
        assert!(told.code == Some(1) && told.stderr.contains(why), "{told:?}");
    };
    install(&program, b"#!/bin/sh\nexit 3\n", 0o755);
    fails("the next data plane ended, exit status: 3");
    install(&program, b"no program", 0o644);
    fails("can't start the next data plane: Permission denied");
    install(&program, &fs::read(env!("CARGO_BIN_EXE_steadfast")).unwrap(), 0o755);
    edit(&instance, |text| text.replace("workers = 2", "workers = \"many\""));
    fails("steadfast.toml:4: global.workers: is the string \"many\"; write \"auto\" or");
    edit(&instance, |text| text.replace("workers = \"many\"", "workers = 2").replace("/state\"", "/other\""));
    fails("global.state_dir, runtime_dir or user changed, which needs a restart");
    edit(&instance, |text| text.replace("/other\"", "/state\"").replace("workers = 2", "workers = 3"));
    upgrade(&instance);
    // The admin process starts anew behind it, for its program is another file.
    eventually("the next one has three workers", || {
        std::net::TcpStream::connect(instance.admin()).ok()?;
        let (_, status) = instance.api("GET", "/v1/status", None);
        status["dataplanes"].as_array()?.iter().any(|plane| plane["workers"] == 3).then_some(())
    });
}

#[test]
fn listeners_come_go_and_move_with_a_reload() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = shop(&nginx).start();
    let web = instance.listener("web");
    let visitors = Visitors::start(&web, [0, 50, 300].map(Duration::from_millis));
    let more = "[[listener]]\nname = \"more\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n";
    edit(&instance, |text| text + more);
    let reload = || instance.api("POST", "/v1/reload", None);
    let (status, answer) = reload();
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    let added = instance.listener("more");
    assert_eq!(http::get(&added, "/", &[]).status, 200);
    assert_eq!(instance.listener("web"), web, "it stays where it is");

    // A port that is taken: nothing has changed.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let (before, number) = (instance.pid("dataplane"), instance.metric("steadfast_generation"));
    edit(&instance, |text| text.replace(more, &more.replace("127.0.0.1:0", &bind)));
    let (status, answer) = reload();
    let why = format!("can't bind listener more to {bind}: Address already in use (os error 98)");
    assert_eq!((status, &answer["detail"]), (409, &json!(why)), "{answer}");
    assert_eq!((instance.pid("dataplane"), instance.metric("steadfast_generation")), (before, number));
    assert_eq!(http::get(&added, "/", &[]).status, 200);

    drop(taken);
    assert_eq!(reload().0, 200);
    assert_eq!(instance.listener("more"), bind);
    assert_eq!(http::get(&bind, "/", &[]).status, 200);
    eventually("nobody listens where it was", || std::net::TcpStream::connect(&added).is_err().then_some(()));

    edit(&instance, |text| text.replace(&more.replace("127.0.0.1:0", &bind), ""));
    assert_eq!(reload().0, 200);
    eventually("nobody listens any more", || std::net::TcpStream::connect(&bind).is_err().then_some(()));
    let tally = visitors.end();
    assert!(tally.wrong.is_empty(), "{tally:?}");
}

#[test]
fn tunnels_of_one_that_was_replaced_are_told_at_the_end_of_its_time() {
    let chat = Server::start("chat");
    let setup = Setup::shop(QUIET, [("chat", &chat.address)]).global("workers = 2\nupgrade_timeout = \"4s\"");
    let instance = setup.start();
    let (client, _) = hold(&format!("ws://{}", instance.listener("web")), 10);
    upgrade(&instance);
    assert_eq!((client.closes().len(), replaced(&instance).len()), (0, 1));
    let (later, _) = hold(&format!("ws://{}", instance.listener("web")), 10);
    closed(&client, 1001, 10);
    eventually("it has ended", || replaced(&instance).is_empty().then_some(()));
    assert_eq!(later.closes(), Vec::<u64>::new(), "they are the next one's");
}

#[test]
fn all_of_them_end_with_the_supervisor() {
    let chat = Server::start("chat");
    let setup = Setup::shop(QUIET, [("chat", &chat.address)]).global("workers = 2\ndrain_timeout = \"2s\"");
    let mut instance = setup.start();
    let (client, _) = hold(&format!("ws://{}", instance.listener("web")), 5);
    let old = instance.pid("dataplane");
    upgrade(&instance);
    let next = instance.pid("dataplane");
    instance.process.signal(Signal::TERM);
    let status = instance.process.ended();
    assert!(status.success(), "{status:?} {}", instance.process.stderr());
    closed(&client, 1001, 5);
    for pid in [old, next] {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}
