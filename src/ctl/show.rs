//! Answers of the admin API, for people.

use super::{progress::rounded, table::Table};
use control::spec::Span;
use serde_json::Value;
use std::fmt::Write;

pub(super) fn status(answer: &Value) -> String {
    let uptime = Span::from_secs(answer["uptime_seconds"].as_u64().unwrap_or(0));
    let [version, generation, source] = ["version", "generation", "source"].map(|key| cell(&answer[key]));
    let mut text = format!("steadfast {version}, up {uptime}, generation {generation}, membership from {source}\n\n");
    let mut dataplanes = Table::new(["data plane", "workers", "version", "generation", "connections"]);
    for each in list(&answer["dataplanes"]) {
        dataplanes
            .row(["pid", "workers", "version", "applied_generation", "open_connections"].map(|key| cell(&each[key])));
    }
    push(&mut text, format_args!("{dataplanes}\n{}", pool_summaries(&answer["pools"])));
    for problem in list(&answer["problems"]) {
        push(&mut text, format_args!("\nproblem: {}", cell(problem)));
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// The pools of a status.
pub(super) fn pool_summaries(pools: &Value) -> String {
    let mut table = Table::new(["pool", "backends", "up", "down", "unknown", "draining", "maintenance", "tunnels"]);
    for each in list(pools) {
        let keys = ["name", "backends", "up", "down", "unknown", "draining", "maintenance", "tunnels"];
        table.row(keys.map(|key| cell(&each[key])));
    }
    table.to_string()
}

pub(super) fn pools(answer: &Value) -> String {
    let mut table =
        Table::new(["pool", "balance", "affinity", "on down", "backends", "sessions", "in flight", "tunnels"]);
    for pool in list(answer) {
        let backends = &pool["backends"];
        let sum = |key| {
            let values: Vec<_> = list(backends).filter_map(|backend| backend[key].as_u64()).collect();
            if values.is_empty() { String::new() } else { values.iter().sum::<u64>().to_string() }
        };
        let affinity = &pool["affinity"];
        table.row([
            cell(&pool["name"]),
            cell(&pool["balance"]),
            cell(&affinity["mode"]),
            cell(&affinity["on_down"]),
            list(backends).count().to_string(),
            sum("live_sessions"),
            sum("requests_in_flight"),
            cell(&pool["tunnels"]),
        ]);
    }
    table.to_string()
}

pub(super) fn backends(answer: &Value) -> String {
    let headings = [
        "backend",
        "address",
        "weight",
        "state",
        "health",
        "sessions",
        "in flight",
        "tunnels",
        "requests",
        "lost",
        "why",
    ];
    let mut table = Table::new(headings);
    for backend in list(answer) {
        let cell = |key| cell(&backend[key]);
        table.row([
            cell("name"),
            cell("address"),
            weight(backend),
            state(backend),
            cell("health"),
            cell("live_sessions"),
            cell("requests_in_flight"),
            cell("tunnels"),
            cell("requests"),
            cell("sessions_lost"),
            cell("health_reason"),
        ]);
    }
    table.to_string()
}

fn weight(backend: &Value) -> String {
    let backup = if backend["backup"] == true { " backup" } else { "" };
    format!("{}{backup}", cell(&backend["weight"]))
}

/// The admin state, and how far a drain or a slow start is.
pub(super) fn state(backend: &Value) -> String {
    let state = cell(&backend["admin_state"]);
    match (backend["drain_progress"]["share_done"].as_f64(), backend["warming"].as_u64()) {
        (Some(share), _) => format!("{state} {:.0}%", share * 100.0),
        (None, Some(percent)) => format!("{state}, warming {percent}%"),
        (None, None) => state,
    }
}

/// Which data plane serves now.
pub(super) fn upgraded(answer: &Value) -> String {
    let replaced: Vec<_> = list(&answer["replaced"]).map(cell).collect();
    let beside = if replaced.is_empty() {
        String::new()
    } else {
        format!("; {} go on with what they have", replaced.join(", "))
    };
    format!("data plane {} serves{beside}\n", cell(&answer["dataplane"]))
}

/// What a write has done.
pub(super) fn written(answer: &Value) -> String {
    let mut text = String::new();
    let backend = &answer["backend"];
    if backend.is_object() {
        let [name, address, health] = ["name", "address", "health"].map(|key| cell(&backend[key]));
        let (weight, state) = (weight(backend), state(backend));
        push(&mut text, format_args!("{name}: {address}, weight {weight}, {state}, {health}\n"));
    }
    match ["keys", "dropped"].map(|key| answer[key].as_u64()) {
        [Some(keys), Some(dropped)] => {
            push(&mut text, format_args!("{keys} keys open tokens, {dropped} no longer does\n"))
        }
        [Some(keys), None] => push(&mut text, format_args!("keys that open tokens now: {keys}\n")),
        [None, _] => {}
    }
    let generation = cell(&answer["generation"]);
    match (answer["applied"].as_bool(), answer["workers"].as_u64()) {
        (Some(true), Some(workers)) => {
            push(&mut text, format_args!("generation {generation}, applied by {workers} workers\n"))
        }
        (Some(true), None) => push(&mut text, format_args!("generation {generation}, applied\n")),
        _ => push(&mut text, format_args!("generation {generation}, stored but not applied yet\n")),
    }
    let warnings = answer.get("warning").into_iter().chain(list(&answer["warnings"]));
    for warning in warnings {
        push(&mut text, format_args!("warning: {}\n", cell(warning)));
    }
    text
}

/// How far a rebalance is, and who acts on it where that was just commanded.
pub(super) fn rebalance(answer: &Value) -> String {
    let told = if answer["rebalance"].is_object() { &answer["rebalance"] } else { answer };
    let imbalance = told["imbalance"].as_f64().map_or("-".to_owned(), |imbalance| format!("{imbalance:.2}"));
    let Some(stage) = told["stage"].as_str() else {
        return format!("no rebalance since the admin process started; imbalance {imbalance}\n");
    };
    let [moved, left, target] = ["moved", "left", "target_imbalance"].map(|key| cell(&told[key]));
    let mut text = format!("{stage}: imbalance {imbalance}, target {target}; sessions moved {moved}, left {left}");
    if let Some(seconds) = told["estimate_seconds"].as_u64() {
        push(&mut text, format_args!(", about {}", Span::from_secs(seconds)));
    }
    text.push('\n');
    if answer["generation"].is_u64() { text + &written(answer) } else { text }
}

/// What a change would move and lose.
pub(super) fn preview(answer: &Value) -> String {
    let mut table = Table::new(["backend", "sessions", "then", "new sessions", "then"]);
    for backend in list(&answer["backends"]) {
        let share = |key: &str| backend[key].as_f64().map_or(String::new(), |share| format!("{:.0}%", share * 100.0));
        table.row([
            cell(&backend["name"]),
            cell(&backend["sessions_before"]),
            cell(&backend["sessions_after"]),
            share("new_share_before"),
            share("new_share_after"),
        ]);
    }
    let [moved, lost] = ["moved", "lost"].map(|key| match cell(&answer[key]) {
        none if none.is_empty() => "an unknown number".to_owned(),
        number => number,
    });
    let mut text = format!("{table}\nsessions that move: {moved}; that lose their state: {lost}\n");
    if let [Some(most), Some(all)] = ["p95", "all"].map(|key| answer["estimate"][key].as_f64().map(rounded)) {
        push(&mut text, format_args!("95% of its sessions end in about {most}, all in about {all}\n"));
    }
    for note in list(&answer["notes"]) {
        push(&mut text, format_args!("{}\n", cell(note)));
    }
    text
}

/// Where a request would go, then each step of the decision.
pub(super) fn explanation(answer: &Value) -> String {
    let names: Vec<_> = list(&answer["candidates"]).map(cell).collect();
    let backend = match cell(&answer["backend"]) {
        none if none.is_empty() && names.is_empty() => "nobody".to_owned(),
        none if none.is_empty() => format!("one of {}", names.join(", ")),
        backend => backend,
    };
    let mut text = format!("{backend} ({})\n", cell(&answer["outcome"]));
    for step in list(&answer["why"]) {
        push(&mut text, format_args!("  {}\n", cell(step)));
    }
    if answer["sets_cookie"] == true {
        text.push_str("  the response sets the affinity cookie\n");
    }
    text
}

/// `kind key=value …`
pub(super) fn event(kind: &str, data: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(data) else { return format!("{kind} {data}") };
    fields.iter().fold(kind.to_owned(), |mut line, (key, value)| {
        push(&mut line, format_args!(" {key}={}", cell(value)));
        line
    })
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_write_says_who_acts_on_it() {
        let backend = json!({"name": "a", "address": "b:1", "weight": 2, "admin_state": "draining", "health": "up",
            "drain_progress": {"share_done": 0.25}});
        let answer = json!({"generation": 7, "applied": true, "workers": 2, "backend": backend});
        assert_eq!(written(&answer), "a: b:1, weight 2, draining 25%, up\ngeneration 7, applied by 2 workers\n");
        let answer = json!({"generation": 8, "applied": false, "warning": "nobody serves", "keys": 3, "dropped": 1});
        let text =
            "3 keys open tokens, 1 no longer does\ngeneration 8, stored but not applied yet\nwarning: nobody serves\n";
        assert_eq!(written(&answer), text);
    }

    #[test]
    fn figures_that_nobody_has_are_no_zeros() {
        let answer = json!([{"name": "a", "address": "b:1", "weight": 1, "admin_state": "active", "health": "down",
            "health_reason": "connection refused", "live_sessions": null, "requests_in_flight": 0, "tunnels": 2, "requests": 5,
            "sessions_lost": 1}]);
        let text = backends(&answer);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["a", "b:1", "1", "active", "down", "-", "0", "2", "5", "1", "connection", "refused"]);
    }

    #[test]
    fn a_preview_tells_each_load_and_what_is_lost() {
        let backend = json!({"name": "a", "sessions_before": 4, "sessions_after": null, "new_share_before": 0.5,
            "new_share_after": 0.0});
        let answer = json!({"moved": 4, "lost": null, "backends": [backend], "notes": ["so it is"]});
        let text = "BACKEND  SESSIONS  THEN  NEW SESSIONS  THEN\na        4         -     50%           0%\n\n\
            sessions that move: 4; that lose their state: an unknown number\nso it is\n";
        assert_eq!(preview(&answer), text);
        let foretold = json!({"moved": 0, "lost": 0, "estimate": {"p95": 75.3, "p99": 100.0, "all": 4000.0}});
        assert!(preview(&foretold).ends_with("\n95% of its sessions end in about 1m15s, all in about 1h6m\n"));
    }

    #[test]
    fn an_event_is_a_line() {
        assert_eq!(event("health", r#"{"backend":"a","up":true}"#), "health backend=a up=true");
        assert_eq!(event("odd", "text"), "odd text");
    }
}
