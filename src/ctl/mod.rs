//! The command line of the admin API.

pub(crate) mod args;
mod client;
mod keys;
mod progress;
mod release;
mod rolling;
mod show;
mod stickiness;
mod table;
mod windows;

use crate::{
    config::{self, Purpose},
    failure::Failure,
    output,
};
use args::{Action, Backend, Ctl, Explain, How, KeyChange, Rebalance};
use client::{Client, PATIENCE, segment};
use progress::Waited;
use serde_json::{Value, json};
use std::{fs, time::Duration};

pub(crate) fn run(arguments: &Ctl) -> Result<(), Failure> {
    let client = connect(arguments)?;
    if let Action::Events = arguments.action {
        return follow(&client, arguments.json);
    }
    if let Action::RollingRestart(rolling) = &arguments.action {
        if arguments.json {
            return Err(Failure::general(
                "rolling-restart makes many calls and has no one answer to print: leave out --json",
            ));
        }
        return rolling::restart(&client, rolling);
    }
    if let Action::Drain { backend, how, wait: true, timeout } = &arguments.action
        && !arguments.json
    {
        return drain(&client, backend, how, timeout.to_std());
    }
    if let Action::Release(wanted) = &arguments.action
        && wanted.wait
    {
        if arguments.json {
            return Err(Failure::general(
                "to wait is to make many calls, with no one answer to print: leave out --json",
            ));
        }
        return release::wait(&client, wanted);
    }
    let call = Call::of(&arguments.action);
    let answer = client.call(call.method, &call.path, call.body.as_ref(), call.patience)?;
    let text = if arguments.json { format!("{answer:#}\n") } else { (call.show)(&answer) };
    output::print(&text)?;
    if answer["empty"] == false {
        return Err(Failure::general("sessions, requests or tunnels were still left when the time was up"));
    }
    Ok(())
}

/// Drains and shows how far that is until nothing is left.
fn drain(client: &Client, backend: &Backend, how: &How, limit: Duration) -> Result<(), Failure> {
    let Call { method, path, body, patience, show } = Call::write("POST", backend, "/drain", Some(how.to_body()));
    output::print(&show(&client.call(method, &path, body.as_ref(), patience)?))?;
    match progress::wait(client, &backend_path(backend), limit)? {
        Waited::Empty => Ok(()),
        Waited::Activated => Err(Failure::general("somebody activated it while it drained")),
        Waited::TimeUp => Err(Failure::general("sessions, requests or tunnels were still left when the time was up")),
        Waited::Ended(left) => Err(Failure::general(format!(
            "the drain was ended while {left} sessions, requests or tunnels were still left"
        ))),
    }
}

fn backend_path(Backend { pool, name }: &Backend) -> String {
    format!("/v1/pools/{}/backends/{}", segment(pool), segment(name))
}

fn connect(arguments: &Ctl) -> Result<Client, Failure> {
    let admin = match &arguments.config {
        Some(file) => config::load(file, Purpose::FileOnly)?.config.admin,
        None => control::config::Admin::default(),
    };
    let token = match arguments.token_file.as_ref().or(admin.token_file.as_ref()) {
        Some(file) => {
            let text = fs::read_to_string(file);
            let text = text.map_err(Failure::doing(format_args!("can't read the token in {}", file.display())))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    Ok(Client::new(arguments.admin.as_deref().unwrap_or(&admin.listen), token))
}

/// One call of the API, and how its answer is shown.
struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
    patience: Duration,
    show: fn(&Value) -> String,
}

impl Call {
    fn rebalance(rebalance: &Rebalance) -> Self {
        let path = format!("/v1/pools/{}/rebalance", segment(&rebalance.pool));
        match (rebalance.progress, rebalance.cancel) {
            (true, _) => Self::read(path, show::rebalance),
            (false, true) => Self { method: "DELETE", ..Self::read(path, show::rebalance) },
            (false, false) => Self { body: Some(rebalance.to_body()), ..Self::post(&path, show::rebalance) },
        }
    }

    fn of(action: &Action) -> Self {
        match action {
            Action::Status => Self::read("/v1/status".to_owned(), show::status),
            Action::Pools => Self::read("/v1/pools".to_owned(), show::pools),
            Action::Backends { pool } => Self::read(format!("/v1/pools/{}/backends", segment(pool)), show::backends),
            Action::Stickiness { pool } => {
                Self::read(format!("/v1/pools/{}/stickiness", segment(pool)), stickiness::show)
            }
            Action::Rebalance(rebalance) => Self::rebalance(rebalance),
            Action::Release(wanted) => {
                let read = Self::read(release::path(&wanted.pool), release::show);
                match (wanted.stop, release::plan(wanted)) {
                    (true, _) => Self { method: "DELETE", show: release::written, ..read },
                    (false, Some(plan)) => Self { method: "PUT", body: Some(plan), show: release::written, ..read },
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
                Self::write("PUT", backend, "/health", Some(json!({ "health": health.name() })))
            }
            Action::Explain(explain) => {
                Self { body: Some(request_of(explain)), ..Self::post("/v1/explain", show::explanation) }
            }
            Action::Preview { pool, change } => {
                let path = format!("/v1/pools/{}/preview", segment(pool));
                Self { body: Some(change.to_body()), ..Self::post(&path, show::preview) }
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
                Self { method: "DELETE", ..Self::read(path, show::written) }
            }
        }
    }

    fn read(path: String, show: fn(&Value) -> String) -> Self {
        Self { method: "GET", path, body: None, patience: PATIENCE, show }
    }

    fn post(path: &str, show: fn(&Value) -> String) -> Self {
        Self { method: "POST", ..Self::read(path.to_owned(), show) }
    }

    fn write(method: &'static str, backend: &Backend, rest: &str, body: Option<Value>) -> Self {
        let path = backend_path(backend) + rest;
        Self { method, body, ..Self::read(path, show::written) }
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

/// Server-sent events: `event:` says what kind the next `data:` is.
fn follow(client: &Client, json: bool) -> Result<(), Failure> {
    let mut kind = String::new();
    for line in client.follow("/v1/events")? {
        let line = line.map_err(Failure::doing("the events broke off"))?;
        if let Some(event) = line.strip_prefix("event:") {
            event.trim().clone_into(&mut kind);
        } else if let Some(data) = line.strip_prefix("data:").map(str::trim) {
            let shown =
                if json { format!("{{\"event\":\"{kind}\",\"data\":{data}}}") } else { show::event(&kind, data) };
            output::print(&format!("{shown}\n"))?;
        }
    }
    Ok(())
}
