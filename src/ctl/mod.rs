//! The command line of the admin API.

pub(crate) mod args;
mod client;
mod events;
mod keys;
mod many;
mod merge;
mod nodes;
mod progress;
mod release;
mod rolling;
mod show;
mod stickiness;
mod table;
mod top;
mod windows;

use crate::{failure::Failure, output};
use args::{Action, Backend, Ctl, Explain, How, KeyChange, Rebalance};
use client::{Client, PATIENCE, segment};
use nodes::Nodes;
use progress::Waited;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) fn run(arguments: &Ctl) -> Result<(), Failure> {
    let nodes = nodes::connect(arguments)?;
    let Ctl { action, json, .. } = arguments;
    let many_calls = |what: &str| match json {
        true => Err(Failure::general(format!("{what}, with no one answer to print: leave out --json"))),
        false => Ok(()),
    };
    if matches!(action, Action::Events) {
        return events::follow(&nodes, *json);
    }
    if let Action::Top(wanted) = action {
        if *json {
            return Err(Failure::general("top draws on a terminal, with no answer to print: take `ctl --json status`"));
        }
        return top::run(&nodes, wanted);
    }
    if let Action::RollingRestart(rolling) = action {
        many_calls("rolling-restart makes many calls")?;
        return rolling::restart(&nodes, rolling);
    }
    if let Action::Drain { backend, how, wait: true, timeout } = action
        && !json
    {
        return drain(&nodes, backend, how, timeout.to_std());
    }
    if let Action::Release(wanted) = action
        && wanted.wait
    {
        many_calls("to wait is to make many calls")?;
        let apart = "each node's release goes its own way: wait for it at one, by --admin";
        return release::wait(nodes.alone().ok_or_else(|| Failure::general(apart))?, wanted);
    }
    match nodes.alone() {
        Some(client) => call(client, &Call::of(action), *json),
        None => many::call(&nodes, action, *json),
    }
}

fn call(client: &Client, call: &Call, json: bool) -> Result<(), Failure> {
    let answer = call.send(client)?;
    let text = if json { format!("{answer:#}\n") } else { (call.show)(&answer) };
    output::print(&text)?;
    if answer["empty"] == false { Err(Failure::general(STILL_LEFT)) } else { Ok(()) }
}

const STILL_LEFT: &str = "sessions, requests or tunnels were still left when the time was up";

/// Drains and shows how far that is until nothing is left, at whichever nodes have taken the drain.
fn drain(nodes: &Nodes, backend: &Backend, how: &How, limit: Duration) -> Result<(), Failure> {
    let call = Call::write("POST", backend, "/drain", Some(how.to_body()));
    let written = match nodes.alone() {
        Some(client) => {
            output::print(&(call.show)(&call.send(client)?))?;
            Ok(())
        }
        None => many::write(nodes, &call)?,
    };
    let waiting = match &written {
        Ok(()) => nodes.clone(),
        Err(failed) => nodes.only(&failed.done),
    };
    if !waiting.is_empty() {
        match progress::wait(&waiting, &backend_path(backend), limit)? {
            Waited::Empty => {}
            Waited::Activated => return Err(Failure::general("somebody activated it while it drained")),
            Waited::TimeUp => return Err(Failure::general(STILL_LEFT)),
            Waited::Ended(left) => {
                return Err(Failure::general(format!(
                    "the drain was ended while {left} sessions, requests or tunnels were still left"
                )));
            }
        }
    }
    written.map_err(many::Failed::into)
}

fn backend_path(Backend { pool, name }: &Backend) -> String {
    format!("/v1/pools/{}/backends/{}", segment(pool), segment(name))
}

/// One call of the API, and how its answer is shown.
struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
    patience: Duration,
    show: fn(&Value) -> String,
    changes: Changes,
}

/// Whose state a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    Nothing,
    /// What each node keeps for itself.
    Node,
    /// What nodes may share.
    Desired,
}

impl Call {
    fn send(&self, client: &Client) -> Result<Value, Failure> {
        client.call(self.method, &self.path, self.body.as_ref(), self.patience)
    }

    fn rebalance(rebalance: &Rebalance) -> Self {
        let path = format!("/v1/pools/{}/rebalance", segment(&rebalance.pool));
        match (rebalance.progress, rebalance.cancel) {
            (true, _) => Self::read(path, show::rebalance),
            (false, true) => Self { method: "DELETE", ..Self::post(&path, show::rebalance) },
            (false, false) => Self { body: Some(rebalance.to_body()), ..Self::post(&path, show::rebalance) },
        }
    }

    fn of(action: &Action) -> Self {
        match action {
            Action::Status => Self::read("/v1/status".to_owned(), show::status),
            Action::Pools => Self::read("/v1/pools".to_owned(), show::pools),
            Action::Backends { pool } => Self::read(format!("/v1/pools/{}/backends", segment(pool)), show::backends),
            Action::Stickiness { pool, cluster } => {
                let scope = if *cluster { "?scope=cluster" } else { "" };
                Self::read(format!("/v1/pools/{}/stickiness{scope}", segment(pool)), stickiness::show)
            }
            Action::Rebalance(rebalance) => Self::rebalance(rebalance),
            Action::Release(wanted) => {
                let read = Self::read(release::path(&wanted.pool), release::show);
                let written = |method, body| {
                    let path = release::path(&wanted.pool);
                    Self { method, body, changes: Changes::Desired, ..Self::read(path, release::written) }
                };
                match (wanted.stop, release::plan(wanted)) {
                    (true, _) => written("DELETE", None),
                    (false, Some(plan)) => written("PUT", Some(plan)),
                    (false, None) => read,
                }
            }
            Action::Add { backend, address, weight, backup } => {
                let mut body = json!({ "address": address, "backup": backup });
                if let Some(weight) = weight {
                    body["weight"] = json!(weight);
                }
                Self::write("PUT", backend, "", Some(body))
            }
            Action::Weight { backend, weight } => Self::write("PATCH", backend, "", Some(json!({ "weight": weight }))),
            Action::Drain { backend, how, wait, timeout } => {
                let body = how.to_body();
                if !wait {
                    return Self::write("POST", backend, "/drain", Some(body));
                }
                let call = Self::write("POST", backend, &format!("/drain?wait=empty&timeout={timeout}"), Some(body));
                Self { patience: timeout.to_std() + PATIENCE, ..call }
            }
            Action::Activate(backend) => Self::write("POST", backend, "/activate", None),
            Action::Maintenance(backend) => Self::write("POST", backend, "/maintenance", None),
            Action::Reset(backend) => Self::write("POST", backend, "/reset", None),
            Action::Remove(backend) => Self::write("DELETE", backend, "", None),
            Action::Health { backend, health } => {
                let body = json!({ "health": health.name() });
                Self { changes: Changes::Node, ..Self::write("PUT", backend, "/health", Some(body)) }
            }
            Action::Explain(explain) => {
                let changes = Changes::Nothing;
                Self { body: Some(request_of(explain)), changes, ..Self::post("/v1/explain", show::explanation) }
            }
            Action::Preview { pool, change } => {
                let path = format!("/v1/pools/{}/preview", segment(pool));
                Self { body: Some(change.to_body()), changes: Changes::Nothing, ..Self::post(&path, show::preview) }
            }
            Action::Reload => Self::post("/v1/reload", show::written),
            Action::Upgrade => Self::post("/v1/upgrade", show::upgraded),
            Action::Keys { change: None } => Self::read("/v1/keys".to_owned(), keys::show),
            Action::Keys { change: Some(change) } => Self::of_keys(change),
            Action::RotateKeys => Self::of_keys(&KeyChange::Rotate { keep: None, behind: false }),
            // Many calls rather than one, the first of which this is.
            Action::RollingRestart(rolling) => {
                Self::read(format!("/v1/pools/{}/backends", segment(&rolling.pool)), show::backends)
            }
            // Followed rather than called.
            Action::Events => Self::read("/v1/events".to_owned(), Value::to_string),
            Action::Top(_) => Self::read("/v1/status".to_owned(), show::status),
        }
    }

    fn of_keys(change: &KeyChange) -> Self {
        match change {
            KeyChange::Rotate { keep, behind } => {
                let mut body = json!({ "seals": !behind });
                if let Some(keep) = keep {
                    body["keep"] = json!(keep);
                }
                Self { body: Some(body), ..Self::post("/v1/keys/rotate", show::written) }
            }
            KeyChange::Seal { key } => Self::post(&format!("/v1/keys/{}/seal", segment(key)), show::written),
            KeyChange::Remove { key, force } => {
                let path = format!("/v1/keys/{}{}", segment(key), if *force { "?force=true" } else { "" });
                Self { method: "DELETE", ..Self::post(&path, show::written) }
            }
        }
    }

    fn read(path: String, show: fn(&Value) -> String) -> Self {
        Self { method: "GET", path, body: None, patience: PATIENCE, show, changes: Changes::Nothing }
    }

    fn post(path: &str, show: fn(&Value) -> String) -> Self {
        Self { method: "POST", changes: Changes::Node, ..Self::read(path.to_owned(), show) }
    }

    fn write(method: &'static str, backend: &Backend, rest: &str, body: Option<Value>) -> Self {
        let path = backend_path(backend) + rest;
        Self { method, body, changes: Changes::Desired, ..Self::read(path, show::written) }
    }
}

fn request_of(explain: &Explain) -> Value {
    let Explain { pool, listener, host, path, method, cookie, headers, client } = explain;
    let fields = [
        ("pool", pool),
        ("listener", listener),
        ("host", host),
        ("path", path),
        ("method", method),
        ("cookie", cookie),
        ("client", client),
    ];
    let headers = Some(headers).filter(|headers| !headers.is_empty());
    let headers = headers.map(|list| ("headers".to_owned(), list.iter().cloned().collect::<Value>()));
    let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))));
    fields.chain(headers).collect()
}
