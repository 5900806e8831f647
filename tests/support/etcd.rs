//! etcd, as the tests need it: real, of one member or three, on free ports, and ended with its value.

use super::{Folder, Instance, Outcome, Running, Setup, eventually, http::get, peers::Nginx};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::TcpListener, path::PathBuf, process::Command};

/// One member, with its data in a folder.
#[derive(Debug)]
pub struct Etcd {
    /// `http://127.0.0.1:port`, or https.
    pub endpoint: String,
    name: String,
    peer: String,
    /// All members with their peers.
    cluster: String,
    folder: Folder,
    /// What it is started with beyond addresses and folders.
    arguments: Vec<String>,
    /// What `etcdctl` is called with besides the endpoint.
    pub client: Vec<String>,
    process: Option<Running>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with("http", &[], &[])
    }

    /// With more arguments, and those that `etcdctl` needs then.
    #[track_caller]
    pub fn start_with(scheme: &str, arguments: &[String], client: &[String]) -> Self {
        let [one] = Self::members(scheme, arguments, client);
        one
    }

    /// Three members of one cluster.
    #[track_caller]
    pub fn cluster() -> [Self; 3] {
        Self::members("http", &[], &[])
    }

    #[track_caller]
    fn members<const N: usize>(scheme: &str, arguments: &[String], client: &[String]) -> [Self; N] {
        // They take no port 0: ports that are free now may be taken a moment later, and they then try others.
        eventually("etcd finds free ports", || {
            let peers: [String; N] = std::array::from_fn(|_| format!("http://127.0.0.1:{}", free_port()));
            let cluster: Vec<_> = peers.iter().enumerate().map(|(at, peer)| format!("m{at}={peer}")).collect();
            let mut members = std::array::from_fn(|at| Self {
                endpoint: format!("{scheme}://127.0.0.1:{}", free_port()),
                name: format!("m{at}"),
                peer: peers[at].clone(),
                cluster: cluster.join(","),
                folder: Folder::new(),
                arguments: arguments.to_vec(),
                client: client.to_vec(),
                process: None,
            });
            members.iter_mut().for_each(Self::launch);
            members.iter_mut().all(Self::serves).then_some(members)
        })
    }

    fn launch(&mut self) {
        let mut command = Command::new("etcd");
        let data = self.folder.path("data");
        command.args(["--name", &self.name, "--log-level", "error", "--data-dir"]).arg(data);
        command.args(["--listen-client-urls", &self.endpoint, "--advertise-client-urls", &self.endpoint]);
        command.args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer]);
        command.args(["--initial-cluster", &self.cluster]).args(&self.arguments);
        self.process = Some(Running::start(command));
    }

    /// Waits until it serves; false where it ends before.
    #[track_caller]
    fn serves(&mut self) -> bool {
        eventually("etcd serves or gives up", || {
            if self.process.as_mut().unwrap().has_ended() {
                return Some(false);
            }
            let asked = self.etcdctl(&["endpoint", "status"]);
            // One that asks for a password answers as well.
            (asked.code == Some(0) || asked.stderr.contains("user name is empty")).then_some(true)
        })
    }

    /// Ends it as a crash would.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        process.ended();
    }

    /// Starts it again where it was, with the data that it had.
    #[track_caller]
    pub fn start_again(&mut self) {
        eventually("etcd starts where it was", || {
            self.launch();
            self.serves().then_some(())
        });
    }

    /// Takes its data away; it must not run.
    pub fn lose_data(&self) {
        assert!(self.process.is_none());
        std::fs::remove_dir_all(self.folder.path("data")).unwrap();
    }

    /// Has it stand still, or go on.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    pub fn etcdctl(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint, "--command-timeout", "5s"]);
        Outcome::of({
            command.args(&self.client).args(arguments);
            command
        })
    }

    /// `etcdctl` that must succeed: what it says.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        // On a busy machine a call may run into its own time limit, above all one with a password. It is made again then, and
        // may find that it was done.
        let mut again = false;
        eventually(&format!("etcdctl {arguments:?} is answered"), || {
            let Outcome { code, stdout, stderr } = self.etcdctl(arguments);
            if stderr.contains("deadline exceeded") {
                again = true;
                return None;
            }
            if again && ["already exists", "not found"].iter().any(|done| stderr.contains(done)) {
                return Some(stdout);
            }
            assert_eq!(code, Some(0), "etcdctl {arguments:?}: {stdout}{stderr}");
            Some(stdout)
        })
    }

    #[track_caller]
    pub fn put(&self, key: &str, value: &Value) {
        self.ctl(&["put", key, &value.to_string()]);
    }

    /// What stands under a key; null where it is not there.
    #[track_caller]
    pub fn get(&self, key: &str) -> Value {
        let text = self.ctl(&["get", "--print-value-only", key]);
        if text.is_empty() { Value::Null } else { serde_json::from_str(text.trim()).unwrap() }
    }

    /// The keys that begin so.
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let text = self.ctl(&["get", "--prefix", "--keys-only", prefix]);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The revision that it is at.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        let told: Value = serde_json::from_str(&self.ctl(&["get", "x", "-w", "json"])).unwrap();
        told["header"]["revision"].as_u64().unwrap()
    }

    /// A node of it, as [`Setup::shop`] otherwise; `more` is what else belongs below `[membership.etcd]`.
    pub fn node<A: std::fmt::Display>(
        &self,
        more: &str,
        pool: &str,
        backends: impl IntoIterator<Item = (impl std::fmt::Display, A)>,
    ) -> Setup {
        let table = format!("\n[membership.etcd]\nendpoints = [{:?}]\ntimeout = \"2s\"\n{more}\n", self.endpoint);
        Setup::shop(pool, backends).and(&table).membership("etcd")
    }

    /// Where certificates and passwords of a test may lie.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

/// A body of `PUT …/backends/{name}`.
pub fn backend(address: &str) -> Option<Value> {
    Some(json!({ "address": address }))
}

pub const HEALTH: &str = "[pool.health]\ncheck = \"off\"\n";
pub const DEAD: &str = "127.0.0.1:9";

#[track_caller]
pub fn write(node: &Instance, method: &str, path: &str, body: Option<Value>) -> Value {
    // On a busy machine an etcd that has just come back may take longer than a call may.
    let (status, answer) = eventually("etcd takes a write", || {
        let answered = node.api(method, &format!("/v1/pools/shop{path}"), body.clone());
        (answered.1["type"] != "urn:steadfast:problem:etcd-away").then_some(answered)
    });
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    assert_eq!(answer["applied"], json!(true), "{method} {path}: {answer}");
    answer
}

/// What a backend of the pool `shop` is at this node, by one of its fields; null where it isn't there.
pub fn field(node: &Instance, name: &str, field: &str) -> Value {
    let (status, backend) = node.api("GET", &format!("/v1/pools/shop/backends/{name}"), None);
    if status == 200 { backend[field].clone() } else { Value::Null }
}

#[track_caller]
pub fn becomes(node: &Instance, name: &str, which: &str, value: &Value) {
    eventually(&format!("{which} of {name} becomes {value}"), || (field(node, name, which) == *value).then_some(()));
    // And the workers act on it.
    eventually("it is applied", || {
        let status = node.api("GET", "/v1/status", None).1;
        let applied = status["dataplanes"][0]["applied_generation"].as_u64()?;
        (Some(applied) >= status["generation"].as_u64()).then_some(())
    });
}

pub fn problems(node: &Instance) -> String {
    node.api("GET", "/v1/status", None).1["problems"].to_string()
}

#[track_caller]
pub fn connected(node: &Instance, is: bool) {
    let asked = || node.api("GET", "/v1/status", None).1["etcd"]["connected"] == json!(is);
    eventually(&format!("connected is {is}"), || asked().then_some(()));
    assert_eq!(node.metric("steadfast_etcd_connected"), u64::from(is));
}

/// Ends a node as a crash would, and all of it.
#[track_caller]
pub fn crash(node: &mut Instance) {
    let pids = ["dataplane", "admin"].map(|role| node.pid(role));
    node.process.signal(Signal::KILL);
    node.process.ended();
    for pid in pids {
        // It may have ended with its supervisor already.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
        let gone = || !std::path::Path::new(&format!("/proc/{pid}/cmdline")).exists();
        eventually("its children are gone", || gone().then_some(()));
    }
}

/// Nodes with the same keys.
pub fn nodes<const N: usize>(etcd: &Etcd, nginx: &Nginx) -> [Instance; N] {
    let keys = etcd.path("keys");
    std::array::from_fn(|_| {
        let setup = etcd.node("", HEALTH, nginx.backends.clone());
        setup.global(&format!("workers = 2\nkeys_file = {keys:?}")).start()
    })
}

pub fn homes(node: &Instance) -> BTreeSet<String> {
    (0..24).map(|_| get(&node.listener("web"), "/", &[]).text()).collect()
}

pub fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
