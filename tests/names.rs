//! Names as the addresses of backends, by the system's resolver, which `nss_wrapper` gives a hosts file of the test's.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    cell::Cell,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};
use support::{Folder, Instance, Setup, eventually, http::get, peers::Nginx};

/// Where `app.test` leads.
struct Hosts {
    folder: Folder,
    writes: Cell<u64>,
}

impl Hosts {
    fn new(addresses: &[&str]) -> Self {
        let hosts = Self { folder: Folder::new(), writes: Cell::new(0) };
        hosts.lead_to(addresses);
        hosts
    }

    fn path(&self) -> PathBuf {
        self.folder.path("hosts")
    }

    /// Nowhere without addresses. The file is read again when its time is another one, in whole seconds.
    fn lead_to(&self, addresses: &[&str]) {
        let lines: String = addresses.iter().map(|address| format!("{address} app.test\n")).collect();
        self.writes.set(self.writes.get() + 1);
        let fresh = self.folder.write("fresh", &lines);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + self.writes.get());
        File::options().write(true).open(&fresh).unwrap().set_modified(at).unwrap();
        fs::rename(fresh, self.path()).unwrap();
    }

    /// An instance that takes names from here.
    fn start(&self, setup: Setup) -> Instance {
        setup.start_with(|command| {
            command.env("LD_PRELOAD", "libnss_wrapper.so").env("NSS_WRAPPER_HOSTS", self.path());
        })
    }
}

/// nginx at a port of three addresses, which says where it was reached.
fn nginx() -> (Nginx, String) {
    let nginx = Nginx::start_with(&["a"], "", "listen 127.0.0.2:PORT; listen 127.0.0.3:PORT;", "$server_addr");
    let port = nginx.backends[0].1.rsplit(':').next().unwrap().to_owned();
    (nginx, port)
}

fn shop(port: &str, names: &str, more: &str) -> Setup {
    let pool = format!(
        "[pool.names]\ninterval = \"1s\"\n{names}\n[[pool.discover]]\nname = \"app\"\naddress = \"app.test:{port}\"\n\
         [pool.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\n{more}"
    );
    Setup::shop(&pool, [("", ""); 0])
}

/// A session at the backend with this address.
fn session_at(web: &str, address: &str) -> String {
    eventually(&format!("a session begins at {address}"), || {
        let response = get(web, "/", &[]);
        response.cookie("lb-affinity").filter(|_| response.text() == address)
    })
}

fn place(web: &str, cookie: &str) -> String {
    get(web, "/", &[("Cookie", cookie)]).text()
}

/// The backends of `shop` and what is commanded of each.
fn backends(instance: &Instance) -> Value {
    let (_, backends) = instance.api("GET", "/v1/pools/shop/backends", None);
    let backends = backends.as_array().unwrap().iter();
    backends.map(|backend| json!([backend["name"], backend["admin_state"]])).collect()
}

fn become_so(instance: &Instance, wanted: Value) {
    eventually(&format!("the backends are {wanted}"), || (backends(instance) == wanted).then_some(()));
    // What the admin process shows, a worker may not act on yet.
    let status = || instance.api("GET", "/v1/status", None).1;
    let generation = status()["generation"].as_u64();
    eventually("the data plane acts on it", || {
        (status()["dataplanes"][0]["applied_generation"].as_u64() >= generation).then_some(())
    });
}

fn problem(instance: &Instance) -> Option<String> {
    let (_, status) = instance.api("GET", "/v1/status", None);
    let problems = status["problems"].as_array().unwrap().iter().filter_map(Value::as_str);
    problems.filter(|problem| problem.contains("does not resolve")).map(str::to_owned).next()
}

#[test]
fn every_address_of_a_name_is_a_backend_and_its_sessions_outlive_name_and_processes() {
    let (_nginx, port) = nginx();
    let hosts = Hosts::new(&["127.0.0.1", "127.0.0.2"]);
    for source in ["api", "file"] {
        hosts.lead_to(&["127.0.0.1", "127.0.0.2"]);
        let instance = hosts.start(shop(&port, "", "").membership(source));
        become_so(&instance, json!([["app-127.0.0.1", "active"], ["app-127.0.0.2", "active"]]));
        let web = instance.listener("web");
        let sessions = ["127.0.0.1", "127.0.0.2"].map(|address| (address, session_at(&web, address)));
        let all_stay = || sessions.iter().for_each(|(address, cookie)| assert_eq!(place(&web, cookie), *address));
        all_stay();
        let backend = instance.backend("shop", "app-127.0.0.1");
        let told = json!([backend["address"], backend["resolved"], backend["found_by"], backend["incarnation"]]);
        assert_eq!(told, json!([format!("app.test:{port}"), format!("127.0.0.1:{port}"), "app", 1]));

        hosts.lead_to(&["127.0.0.2", "127.0.0.3"]);
        let moved = json!([["app-127.0.0.1", "draining"], ["app-127.0.0.2", "active"], ["app-127.0.0.3", "active"]]);
        become_so(&instance, moved.clone());
        session_at(&web, "127.0.0.3");
        all_stay();
        for _ in 0..20 {
            assert_ne!(get(&web, "/", &[]).text(), "127.0.0.1", "it gets no new sessions");
        }

        hosts.lead_to(&[]);
        let told = eventually("the failed look-up is told", || problem(&instance));
        assert!(told.contains("discover `app`") && told.ends_with("; what it last led to stays"), "{told}");
        assert_eq!(instance.metric("steadfast_name_lookup_failing{pool=\"shop\",name=\"app\"}"), 1);
        for role in ["admin", "dataplane"] {
            let old = instance.signal(role, Signal::KILL);
            instance.replaced(role, old);
            eventually("it is told again, since nobody knows better", || problem(&instance));
            assert_eq!(backends(&instance), moved, "after {role} was killed");
            eventually("the data plane serves", || (get(&web, "/", &[]).status == 200).then_some(()));
            all_stay();
        }

        hosts.lead_to(&["127.0.0.1"]);
        let back = json!([["app-127.0.0.1", "active"], ["app-127.0.0.2", "draining"], ["app-127.0.0.3", "draining"]]);
        become_so(&instance, back);
        assert_eq!(problem(&instance), None);
        all_stay();
        assert_eq!(instance.pool_count("repinned_removed"), 0);
    }
}

#[test]
fn an_address_that_a_name_has_left_goes_with_its_last_session() {
    let (_nginx, port) = nginx();
    let hosts = Hosts::new(&["127.0.0.1", "127.0.0.2"]);
    let instance = hosts.start(shop(&port, "linger = \"1h\"", "[pool.affinity.cookie]\nidle_timeout = \"3s\"\n"));
    become_so(&instance, json!([["app-127.0.0.1", "active"], ["app-127.0.0.2", "active"]]));
    let web = instance.listener("web");
    let mut cookie = session_at(&web, "127.0.0.1");
    hosts.lead_to(&["127.0.0.2"]);
    // Its session is busy, and so stays until it is not.
    eventually("it drains", || {
        let response = get(&web, "/", &[("Cookie", &cookie)]);
        assert_eq!(response.text(), "127.0.0.1");
        cookie = response.cookie("lb-affinity").unwrap_or_else(|| cookie.clone());
        (instance.backend("shop", "app-127.0.0.1")["admin_state"] == "draining").then_some(())
    });
    become_so(&instance, json!([["app-127.0.0.2", "active"]]));
}

#[test]
fn one_backend_follows_its_name_and_keeps_its_sessions() {
    let (_nginx, port) = nginx();
    let hosts = Hosts::new(&["127.0.0.2", "127.0.0.1"]);
    let pool = "names = { interval = \"1s\" }\n";
    let instance = hosts.start(Setup::shop(pool, [("a", format!("app.test:{port}"))]));
    let web = instance.listener("web");
    let cookie = session_at(&web, "127.0.0.1");
    hosts.lead_to(&["127.0.0.3"]);
    eventually("its session is served elsewhere", || (place(&web, &cookie) == "127.0.0.3").then_some(()));
    hosts.lead_to(&[]);
    let told = eventually("the failed look-up is told", || problem(&instance));
    assert!(told.starts_with("pool `shop`, backend `a`: ") && told.ends_with("what it last led to stays"), "{told}");
    assert_ne!(instance.backend("shop", "a")["lookup_failing"]["since"], json!(null));
    assert_eq!(place(&web, &cookie), "127.0.0.3");
    hosts.lead_to(&["127.0.0.1"]);
    eventually("it resolves again", || (place(&web, &cookie) == "127.0.0.1").then_some(()));
    assert_eq!(instance.backend("shop", "a")["sessions_lost"], 0);
}

#[test]
fn whom_a_file_lists_is_a_backend_and_a_file_that_is_wrong_takes_nobody_away() {
    let nginx = Nginx::start(&["a", "b"]);
    let folder = Folder::new();
    let file = folder.path("app.json");
    let list = |text: &str| fs::rename(folder.write("fresh", text), &file).unwrap();
    let [a, b] = [0, 1].map(|at| nginx.backends[at].1.clone());
    let name = |address: &str| format!("app-{}", address.replace(':', "-"));
    list(&json!([a]).to_string());
    let pool = format!("[[pool.discover]]\nname = \"app\"\nfile = {file:?}\n[pool.health]\ncheck = \"off\"\n");
    let instance = Setup::shop(&pool, [("", ""); 0]).start();
    become_so(&instance, json!([[name(&a), "active"]]));
    let web = instance.listener("web");
    let cookie = session_at(&web, "a");
    let mut both = [json!([name(&a), "active"]), json!([name(&b), "active"])];
    both.sort_by_key(Value::to_string);
    list(&json!([a, { "address": b, "weight": 7 }]).to_string());
    become_so(&instance, json!(both));
    assert_eq!(instance.backend("shop", &name(&b))["weight"], json!(7));
    let told = || instance.api("GET", "/v1/status", None).1["problems"].to_string();
    for (wrong, reason) in
        [("[", "EOF"), ("[]", "it lists nobody"), ("[\"nobody\"]", "`nobody` is no address with a port")]
    {
        list(wrong);
        eventually("it is told", || told().contains(reason).then_some(()));
        assert_eq!(backends(&instance), json!(both));
    }
    fs::remove_file(&file).unwrap();
    eventually("it is missed", || told().contains("no such file").then_some(()));
    assert_eq!(instance.metric("steadfast_name_lookup_failing{pool=\"shop\",name=\"app\"}"), 1);
    list(&json!([b]).to_string());
    eventually("it is told no more", || (told() == "[]").then_some(()));
    eventually("who is not listed drains away", || {
        (instance.backend("shop", &name(&a))["admin_state"] == "draining").then_some(())
    });
    assert_eq!(place(&web, &cookie), "a", "its sessions first");
}
