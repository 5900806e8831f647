//! Restarts the backends of a pool, one after the other: drain, wait, run a command, wait for health, activate.

use super::{
    args::{Backend, Rolling},
    backend_path,
    client::{Client, PATIENCE, segment},
    merge,
    nodes::Nodes,
    progress::{self, Waited},
    show::list,
};
use crate::{failure::Failure, output};
use serde_json::{Value, json};
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long closing tunnels may take: 5 s until the last one's turn, 4 s for it, and a report.
const TUNNELS_CLOSE: Duration = Duration::from_secs(12);
/// How long after its deadline a drain may take to end.
const GRACE: Duration = Duration::from_secs(60);

/// # Errors
/// At the first backend that can't be restarted; it says how to go on from there.
pub(super) fn restart(nodes: &Nodes, rolling: &Rolling) -> Result<(), Failure> {
    let writers = nodes.writers()?;
    let names = names(nodes, rolling)?;
    for (index, name) in names.iter().enumerate() {
        let backend = Backend { pool: rolling.pool.clone(), name: name.clone() };
        output::print(&format!("{name}: {} of {}\n", index + 1, names.len()))?;
        Restart { nodes, writers: &writers, rolling, backend: &backend }.run().map_err(|error| {
            Failure::general(format!(
                "stopped at backend `{name}`: {error}\nit is left as it is; once that is mended, go on with the same \
                 command and --from {name}"
            ))
        })?;
    }
    output::print(&format!("restarted {} of pool {}\n", names.len(), rolling.pool))
}

/// Whom to restart, in the order of names: the backends of all nodes. Those in maintenance everywhere are out of service
/// already; where one is named to begin with, an earlier run may have left it there.
fn names(nodes: &Nodes, rolling: &Rolling) -> Result<Vec<String>, Failure> {
    let path = format!("{}/backends", pool_path(&rolling.pool));
    let told = nodes.all(|client| client.call("GET", &path, None, PATIENCE))?;
    let backends = merge::merge(&nodes.names().into_iter().zip(told).collect::<Vec<_>>()).value;
    let from = rolling.from.as_deref();
    let named = |backend: &Value| backend["name"].as_str().map(str::to_owned);
    let all: Vec<String> = list(&backends).filter_map(named).collect();
    if let Some(from) = from.filter(|from| !all.iter().any(|name| name == from)) {
        let known = all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(Failure::general(format!("there is no backend `{from}` to begin with; the backends are {known}")));
    }
    let wanted = list(&backends).filter(|backend| {
        let name = backend["name"].as_str();
        name >= from && (backend["admin_state"] != "maintenance" || name == from)
    });
    Ok(wanted.filter_map(named).collect())
}

fn pool_path(pool: &str) -> String {
    format!("/v1/pools/{}", segment(pool))
}

/// One backend's turn.
struct Restart<'a> {
    nodes: &'a Nodes,
    /// Those of them that its commands go to.
    writers: &'a Nodes,
    rolling: &'a Rolling,
    backend: &'a Backend,
}

impl Restart<'_> {
    fn run(&self) -> Result<(), Failure> {
        let (rolling, path) = (self.rolling, backend_path(self.backend));
        let checked = self.nodes.all(|client| self.spare(client))?;
        let mut how = json!({ "deadline": rolling.deadline, "then": "maintenance" });
        if let Some(mode) = rolling.mode {
            how["mode"] = json!(mode.name());
        }
        let drained = self.post("/drain", Some(&how))?;
        match progress::wait(self.nodes, &path, rolling.deadline.to_std() + GRACE)? {
            Waited::Empty => {}
            Waited::Ended(left) => {
                output::print(&format!("its deadline came with {left} sessions, requests or tunnels left\n"))?;
                self.nodes.all(|client| until_closed(client, &path))?;
            }
            Waited::Activated => return Err(Failure::general("somebody activated it while it drained")),
            Waited::TimeUp => return Err(Failure::general("its drain has not ended at its deadline")),
        }
        self.command(&drained)?;
        // What was seen before the restart says nothing any more: its health is unknown until checks have found it.
        self.post("/reset", None)?;
        if checked.contains(&true) {
            self.nodes.all(|client| healthy(client, &path, rolling.health_timeout.to_std()))?;
        }
        self.post("/activate", None).map(drop)
    }

    /// Whether the pool's backends are checked; an error where no other backend would take new sessions.
    fn spare(&self, client: &Client) -> Result<bool, Failure> {
        let pool = client.call("GET", &pool_path(&self.rolling.pool), None, PATIENCE)?;
        let mut others = list(&pool["backends"]).filter(|other| {
            let takes = other["admin_state"] == "active" && other["health"] != "down" && other["weight"] != 0;
            takes && other["name"] != json!(self.backend.name)
        });
        match others.next() {
            Some(_) => Ok(pool["health"]["check"] != "off"),
            None => Err(Failure::general("no other backend of the pool would take new sessions meanwhile")),
        }
    }

    fn post(&self, rest: &str, body: Option<&Value>) -> Result<Vec<Value>, Failure> {
        let path = backend_path(self.backend) + rest;
        self.writers.all(|client| client.call("POST", &path, body, PATIENCE))
    }

    fn command(&self, drained: &[Value]) -> Result<(), Failure> {
        let mut addresses = drained.iter().map(|answer| answer["backend"]["address"].as_str().unwrap_or_default());
        let address = addresses.next().unwrap_or_default();
        if let Some(other) = addresses.find(|other| *other != address) {
            return Err(Failure::general(format!(
                "the nodes have it at two addresses, {address} and {other}: give it the same one everywhere"
            )));
        }
        let mut command = Command::new("sh");
        command.args(["-c", &self.rolling.command]);
        command.env("STEADFAST_BACKEND", &self.backend.name).env("STEADFAST_ADDRESS", address);
        let status = command.status().map_err(Failure::doing("can't run sh"))?;
        if status.success() { Ok(()) } else { Err(Failure::general(format!("the command failed: {status}"))) }
    }
}

/// Waits for the tunnels, which are closed one after the other from the deadline on.
fn until_closed(client: &Client, path: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + TUNNELS_CLOSE;
    while Instant::now() < deadline && client.call("GET", path, None, PATIENCE)?["tunnels"] != 0 {
        thread::sleep(ASK_EVERY);
    }
    Ok(())
}

fn healthy(client: &Client, path: &str, limit: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    loop {
        let backend = client.call("GET", path, None, PATIENCE)?;
        if backend["health"] == "up" {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let [health, reason] =
                ["health", "health_reason"].map(|key| backend[key].as_str().unwrap_or("no reason known"));
            return Err(Failure::general(format!("it is not up after the command, but {health} ({reason})")));
        }
        thread::sleep(ASK_EVERY);
    }
}
