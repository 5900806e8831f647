use super::{
    Folder, PATIENCE, eventually,
    http::{self, Response},
    process::{Running, send_signal, steadfast},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// What an instance is to be: `[global]` and `[admin]` are written by it, the rest is the test's.
#[derive(Debug)]
pub struct Setup {
    folder: Folder,
    global: String,
    admin: String,
    rest: String,
}

impl Setup {
    /// `rest` is the configuration from `[membership]` on; its listeners bind port 0.
    pub fn new(rest: &str) -> Self {
        Self {
            folder: Folder::new(),
            global: "workers = 2\n".to_owned(),
            admin: "listen = \"127.0.0.1:0\"\n".to_owned(),
            rest: rest.to_owned(),
        }
    }

    /// One listener `web` that leads to one pool `shop` with these backends, by name and address; `pool` is what else
    /// belongs below `[[pool]]`.
    pub fn shop<A: std::fmt::Display>(
        pool: &str,
        backends: impl IntoIterator<Item = (impl std::fmt::Display, A)>,
    ) -> Self {
        Self::listening("", pool, backends)
    }

    /// The same, with `listener` for what else belongs below `[[listener]]`.
    pub fn listening<A: std::fmt::Display>(
        listener: &str,
        pool: &str,
        backends: impl IntoIterator<Item = (impl std::fmt::Display, A)>,
    ) -> Self {
        let mut rest = format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n{listener}\n\
             [[pool]]\nname = \"shop\"\n{pool}\n"
        );
        for (name, address) in backends {
            rest += &format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
        Self::new(&rest)
    }

    /// More of the configuration, behind all that there is.
    pub fn and(mut self, more: &str) -> Self {
        self.rest += more;
        self
    }

    /// Lines for `[global]`; the default is two workers.
    pub fn global(self, lines: &str) -> Self {
        Self { global: format!("{lines}\n"), ..self }
    }

    /// Lines for `[admin]`; the default listens on a free port.
    pub fn admin(self, lines: &str) -> Self {
        Self { admin: format!("{lines}\n"), ..self }
    }

    /// The source of the membership; `api` unless set.
    pub fn membership(self, source: &str) -> Self {
        Self { rest: format!("[membership]\nsource = \"{source}\"\n{}", self.rest), ..self }
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Starts it and returns when it is ready.
    #[track_caller]
    pub fn start(self) -> Instance {
        self.start_with(|_| ())
    }

    /// The same, with changes to the command.
    #[track_caller]
    pub fn start_with(self, change: impl FnOnce(&mut Command)) -> Instance {
        let mut instance = self.launch(change);
        instance.ready();
        instance
    }

    /// Starts it and returns at once.
    pub fn launch(self, change: impl FnOnce(&mut Command)) -> Instance {
        let (state, run) = (self.folder.path("state"), self.folder.path("run"));
        let text = format!(
            "[global]\nstate_dir = {state:?}\nruntime_dir = {run:?}\n{}\n[admin]\n{}\n{}",
            self.global, self.admin, self.rest
        );
        let file = self.folder.write("steadfast.toml", &text);
        let mut command = steadfast(["run", "--config", file.to_str().unwrap()]);
        change(&mut command);
        Instance { process: Running::start(command), folder: self.folder }
    }
}

/// A supervisor with its children; all of them end with this value.
#[derive(Debug)]
pub struct Instance {
    pub process: Running,
    pub folder: Folder,
}

impl Instance {
    #[track_caller]
    pub fn ready(&mut self) {
        eventually("steadfast is ready", || {
            assert!(!self.process.has_ended(), "steadfast ended before it was ready:\n{}", self.process.stderr());
            // One that was killed may have left the file: it counts once this one has written its own pids.
            let started = self.told("processes.json")["supervisor"] == self.process.pid();
            (started && self.folder.path("run/addresses.json").exists()).then_some(())
        });
    }

    /// Starts it anew in the same folder, once it has ended.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.has_ended());
        let file = self.folder.path("steadfast.toml");
        self.process = Running::start(steadfast(["run", "--config", file.to_str().unwrap()]));
        self.ready();
    }

    /// Where a listener accepts clients.
    pub fn listener(&self, name: &str) -> String {
        self.told("addresses.json")["listeners"][name].as_str().unwrap().to_owned()
    }

    /// Where the admin API is: `address:port` or `unix:PATH`.
    pub fn admin(&self) -> String {
        self.told("addresses.json")["admin"].as_str().unwrap().to_owned()
    }

    /// The pid of `dataplane` or `admin`, once it has one.
    #[track_caller]
    pub fn pid(&self, role: &str) -> u32 {
        eventually(&format!("{role} has a pid"), || self.told("processes.json")[role].as_u64()).try_into().unwrap()
    }

    /// Sends a signal to `dataplane` or `admin`; returns the pid that got it. One that is to stop stands still after that:
    /// a signal is sent before it is felt.
    #[track_caller]
    pub fn signal(&self, role: &str, signal: Signal) -> u32 {
        let pid = self.pid(role);
        send_signal(pid, signal);
        if signal == Signal::STOP {
            eventually(&format!("{role} stands still"), || stands_still(pid).then_some(()));
        }
        pid
    }

    /// Waits until the role runs as another process than `old`; returns the new pid.
    #[track_caller]
    pub fn replaced(&self, role: &str, old: u32) -> u32 {
        eventually(&format!("{role} {old} is replaced"), || Some(self.pid(role)).filter(|pid| *pid != old))
    }

    /// Calls the REST API without a token.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let headers: &[_] = if body.is_some() { &[("Content-Type", "application/json")] } else { &[] };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let Response { status, body, .. } = http::request(&self.admin(), method, path, headers, body.as_bytes());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The same, for answers that are not JSON.
    #[track_caller]
    pub fn api_text(&self, method: &str, path: &str) -> (u16, String) {
        let response = http::request(&self.admin(), method, path, &[], b"");
        (response.status, response.text())
    }

    /// The value of a metric, named with its labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = self.api_text("GET", "/metrics");
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        metrics.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    /// Waits until the data plane's count of that name is this.
    #[track_caller]
    pub fn counts(&self, name: &str, number: u64) {
        let metric = format!("steadfast_dataplane_{name}_total");
        eventually(&format!("{name} is {number}"), || (self.metric(&metric) == number).then_some(()));
    }

    /// The port of a listener.
    pub fn port(&self, listener: &str) -> String {
        self.listener(listener).rsplit(':').next().unwrap().to_owned()
    }

    /// What is counted of the pool `shop`.
    #[track_caller]
    pub fn pool_count(&self, name: &str) -> u64 {
        self.metric(&format!("steadfast_pool_{name}_total{{pool=\"shop\"}}"))
    }

    /// `ctl` with these arguments, at this instance.
    pub fn ctl(&self, arguments: &[&str]) -> super::Outcome {
        let admin = self.admin();
        super::Outcome::of(steadfast(["ctl", "--admin", &admin].into_iter().chain(arguments.iter().copied())))
    }

    /// A backend as the API shows it.
    #[track_caller]
    pub fn backend(&self, pool: &str, name: &str) -> Value {
        let (status, backend) = self.api("GET", &format!("/v1/pools/{pool}/backends/{name}"), None);
        assert_eq!(status, 200, "{backend}");
        backend
    }

    /// Live sessions of backends of the pool `shop`, as far as they are known.
    #[track_caller]
    pub fn live_sessions(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.backend("shop", name)["live_sessions"].as_u64().unwrap_or(0)).sum()
    }

    /// Where a request would go and why.
    #[track_caller]
    pub fn explain(&self, question: Value) -> Value {
        let (status, answer) = self.api("POST", "/v1/explain", Some(question));
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn told(&self, file: &str) -> Value {
        let text = fs::read(self.folder.path("run").join(file)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let processes = self.told("processes.json");
        if self.process.has_ended() {
            return;
        }
        // The supervisor first, or it would start its children again.
        self.process.signal(Signal::KILL);
        for role in ["dataplane", "admin"] {
            let pid = processes[role].as_i64().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
            // It may have ended with its supervisor already.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

/// Whether every thread of a process has stopped. Its state stands behind its name, which is in brackets.
fn stands_still(pid: u32) -> bool {
    let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap().contains(") T "))
}
