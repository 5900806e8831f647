//! What is shown, from what the nodes have answered. Pure: `now` is an argument, in milliseconds since the start.

use super::{
    rates::{Counted, Millis, Pasts, Rates, sum},
    words::{plural, span},
};
use crate::ctl::{
    merge::merge,
    show::{cell, list},
};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Data planes report each second: those whose last report is older, in milliseconds, have fallen silent.
const SILENT: u64 = 5_000;
const EVENTS_KEPT: usize = 100;

/// What one node has answered in one round.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) status: Value,
    pub(super) open: Option<Open>,
}

/// The pool that is open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) name: String,
    /// `None` where there is no such pool.
    pub(super) pool: Option<Value>,
    pub(super) stickiness: Option<Value>,
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    /// When it last answered, and what.
    told: Option<(Millis, Told)>,
    /// Why it does not.
    problem: Option<String>,
    pools: Pasts,
    backends: Pasts,
    /// Whose backends these are.
    backends_of: String,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    nodes: Vec<Node>,
    /// An answer that is older than this is not what there is.
    stale_after: Millis,
    pub(super) view: View,
    /// The last first, each with its time in Unix milliseconds.
    pub(super) events: VecDeque<(u64, String)>,
}

/// What all nodes that answer tell together.
#[derive(Debug, Default)]
pub(super) struct View {
    /// A line on the whole of it; empty until somebody has answered.
    pub(super) head: String,
    /// `file`, `api` or the like.
    pub(super) source: String,
    pub(super) problems: Vec<String>,
    pub(super) pools: Vec<Row>,
    pub(super) open: Option<OpenView>,
}

/// A pool or a backend.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) value: Value,
    pub(super) rates: Option<Rates>,
}

impl Row {
    pub(super) fn name(&self) -> &str {
        self.value["name"].as_str().unwrap_or_default()
    }

    /// Requests and tunnels that are at a backend now.
    pub(super) fn in_flight(&self) -> Option<u64> {
        Some(self.value["requests_in_flight"].as_u64()? + self.value["tunnels"].as_u64()?)
    }
}

#[derive(Debug)]
pub(super) struct OpenView {
    pub(super) name: String,
    /// `None` where the pool is gone.
    pub(super) backends: Option<Vec<Row>>,
    pub(super) outcome: Option<Outcome>,
}

/// What became of the returning requests of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) returning: u64,
    pub(super) kept: u64,
    pub(super) repinned: u64,
    /// Served elsewhere, the pin unchanged.
    pub(super) spilled: u64,
    /// Their session has ended, or was answered 503.
    pub(super) lost: u64,
}

impl Outcome {
    fn of(stickiness: &Value) -> Option<Self> {
        let window = stickiness["windows"].get(0)?;
        let count = |key: &str| window["returning"][key].as_u64();
        let mut outcome = Self { returning: count("requests")?, kept: count("pinned")?, ..Self::default() };
        for (cause, count) in window["left"].as_object().into_iter().flatten() {
            let count = count.as_u64().unwrap_or(0);
            match cause.as_str() {
                cause if cause.starts_with("repinned") => outcome.repinned += count,
                cause if cause.starts_with("spilled") || cause == "released" => outcome.spilled += count,
                _ => outcome.lost += count,
            }
        }
        Some(outcome)
    }

    fn add(self, other: Self) -> Self {
        Self {
            returning: self.returning + other.returning,
            kept: self.kept + other.kept,
            repinned: self.repinned + other.repinned,
            spilled: self.spilled + other.spilled,
            lost: self.lost + other.lost,
        }
    }
}

/// Figures that nobody has where no data plane is connected.
const OF_DATA_PLANES: [&str; 6] =
    ["live_sessions", "requests_in_flight", "requests", "sessions_lost", "tunnels", "requests_queued"];

impl Model {
    pub(super) fn new(names: Vec<String>, stale_after: Millis) -> Self {
        let nodes = names.into_iter().map(|name| Node { name, ..Node::default() }).collect();
        Self { nodes, stale_after, ..Self::default() }
    }

    pub(super) fn answered(&mut self, node: usize, now: Millis, told: Told) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.pools.remember(now, list(&told.status["pools"]).map(counted_of_pool));
        match &told.open {
            Some(Open { name, pool: Some(pool), .. }) => {
                if node.backends_of != *name {
                    node.backends.forget();
                    node.backends_of.clone_from(name);
                }
                node.backends.remember(now, list(&pool["backends"]).map(counted_of_backend));
            }
            _ => node.backends.forget(),
        }
        (node.told, node.problem) = (Some((now, told)), None);
        self.look(now);
    }

    pub(super) fn failed(&mut self, node: usize, now: Millis, problem: String) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.problem = Some(problem);
        }
        self.look(now);
    }

    /// An event that came, with the node's name where there are many.
    pub(super) fn happened(&mut self, node: usize, kind: &str, data: &str) {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(data) else { return };
        let at = fields.remove("at").and_then(|at| at.as_u64()).unwrap_or(0);
        fields.retain(|key, value| key != "generation" && !value.is_null() && !value.is_object());
        let name = self.nodes.get(node).filter(|_| self.nodes.len() > 1).map_or("", |node| node.name.as_str());
        let text = crate::ctl::show::event(kind, &Value::Object(fields).to_string());
        // Those of a node that is heard again come late.
        let place = self.events.iter().position(|(other, _)| *other <= at).unwrap_or(self.events.len());
        self.events.insert(place, (at, format!("{name} {text}").trim_start().to_owned()));
        self.events.truncate(EVENTS_KEPT);
    }

    fn answering(&self, now: Millis) -> impl Iterator<Item = (&Node, &Told)> {
        let fresh = move |at: Millis| now.saturating_sub(at) <= self.stale_after;
        self.nodes.iter().filter_map(move |node| {
            let (at, told) = node.told.as_ref()?;
            (node.problem.is_none() && fresh(*at)).then_some((node, told))
        })
    }

    /// Whether what is shown is of now.
    pub(super) fn is_stale(&self, now: Millis) -> bool {
        self.answering(now).next().is_none()
    }

    /// A line on each node that does not answer.
    pub(super) fn missing(&self, now: Millis) -> Vec<String> {
        let answering: Vec<_> = self.answering(now).map(|(node, _)| node.name.as_str()).collect();
        let of = |node: &Node| match self.nodes.len() {
            1 => String::new(),
            _ => format!(" from {}", node.name),
        };
        let silent = self.nodes.iter().filter(|node| !answering.contains(&node.name.as_str()));
        let line = |node: &Node| {
            let why = node.problem.as_deref().unwrap_or("it keeps silent").lines().next().unwrap_or_default();
            match (&node.told, &node.problem) {
                (None, None) => format!("asking{} ...", of(node).replace(" from", "")),
                (None, Some(_)) => format!("no answer{}: {why}", of(node)),
                (Some((at, _)), _) => format!("no answer{} since {}: {why}", of(node), span(now.saturating_sub(*at))),
            }
        };
        silent.map(line).collect()
    }

    /// Why nothing can be changed from here now.
    pub(super) fn locked(&self, now: Millis) -> Option<String> {
        if self.is_stale(now) {
            return Some("the admin process does not answer: nothing can be changed now".to_owned());
        }
        let file = self.view.source == "file";
        file.then(|| {
            "the configuration file decides (membership.source is \"file\"): change it and reload it".to_owned()
        })
    }

    /// Puts together what is shown; what was last known stays where nobody answers.
    fn look(&mut self, now: Millis) {
        let told: Vec<_> = self.answering(now).collect();
        if told.is_empty() {
            return;
        }
        let statuses: Vec<_> = told.iter().map(|(node, told)| (node.name.clone(), pools(&told.status))).collect();
        let merged = merge(&statuses);
        let named = |name: &str, text: String| if self.nodes.len() > 1 { format!("{name}: {text}") } else { text };
        let mut problems: Vec<_> = told
            .iter()
            .flat_map(|(node, told)| problems(&told.status).into_iter().map(|text| named(&node.name, text)))
            .collect();
        problems.extend(list(&merged.value).filter_map(partly_down));
        problems.extend(merged.differences);
        let rates = |name: &str| sum(told.iter().map(|(node, _)| node.pools.rates(name)));
        let pools = rows(merged.value, is_served(&told), rates);
        let open = self.open(&told, &mut problems);
        let (head, source) =
            (head(&told, self.nodes.len()), joined(told.iter().map(|(_, told)| &told.status["source"])));
        self.view = View { head, source, problems, pools, open };
    }

    /// The open pool, as those nodes tell it that have been asked for it.
    fn open(&self, told: &[(&Node, &Told)], problems: &mut Vec<String>) -> Option<OpenView> {
        let name = told.iter().find_map(|(_, told)| Some(told.open.as_ref()?.name.clone()))?;
        let opened: Vec<_> = told
            .iter()
            .filter_map(|(node, told)| Some((*node, *told, told.open.as_ref().filter(|open| open.name == name)?)))
            .collect();
        let backends: Vec<_> = opened
            .iter()
            .filter_map(|(node, told, open)| {
                let backends = list(&open.pool.as_ref()?["backends"]).cloned().map(|backend| known(backend, told));
                Some((node.name.clone(), backends.collect::<Value>()))
            })
            .collect();
        let outcomes = opened.iter().map(|(_, _, open)| open.stickiness.as_ref().and_then(Outcome::of));
        let outcome = outcomes.flatten().reduce(Outcome::add);
        let backends = (!backends.is_empty()).then(|| {
            let merged = merge(&backends);
            problems.extend(merged.differences);
            let rates = |name: &str| sum(opened.iter().map(|(node, _, _)| node.backends.rates(name)));
            rows(merged.value, is_served(told), rates)
        });
        Some(OpenView { name, backends, outcome })
    }
}

fn is_served(told: &[(&Node, &Told)]) -> bool {
    told.iter().all(|(_, told)| list(&told.status["dataplanes"]).next().is_some())
}

/// Without a data plane a count of 0 is no figure.
fn known(mut value: Value, told: &Told) -> Value {
    // Of these the rates have been made, and there are dozens for each backend.
    value.as_object_mut().and_then(|value| value.remove("counts"));
    if list(&told.status["dataplanes"]).next().is_none() {
        OF_DATA_PLANES.iter().for_each(|key| value[*key] = Value::Null);
    }
    value
}

fn pools(status: &Value) -> Value {
    let told = Told { status: json!({ "dataplanes": status["dataplanes"] }), open: None };
    list(&status["pools"]).cloned().map(|pool| known(pool, &told)).collect()
}

fn rows(merged: Value, served: bool, rates: impl Fn(&str) -> Option<Rates>) -> Vec<Row> {
    let Value::Array(all) = merged else { return Vec::new() };
    let row = |value: Value| {
        let rates = value["name"].as_str().and_then(&rates).filter(|_| served);
        Row { value, rates }
    };
    all.into_iter().map(row).collect()
}

fn counted_of_pool(pool: &Value) -> (String, Counted) {
    let count = |key: &str| pool[key].as_u64().unwrap_or(0);
    (cell(&pool["name"]), [count("requests"), count("errors") + count("responses_5xx"), count("unserved")])
}

fn counted_of_backend(backend: &Value) -> (String, Counted) {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let failed = count(&backend["errors"]) + count(&backend["counts"]["responses_5xx"]);
    (cell(&backend["name"]), [count(&backend["requests"]), failed, 0])
}

/// What the node says, and data planes that are connected and tell nothing.
fn problems(status: &Value) -> Vec<String> {
    let silent = list(&status["dataplanes"]).filter_map(|each| {
        let age = each["report_age"].as_u64().filter(|age| *age > SILENT)?;
        Some(format!("the data plane with pid {} has told nothing for {}", each["pid"], span(age)))
    });
    list(&status["problems"]).map(cell).chain(silent).collect()
}

/// A pool all of whose backends are down is a problem that the node tells.
fn partly_down(pool: &Value) -> Option<String> {
    let (down, all) = (pool["down"].as_u64()?, pool["backends"].as_u64()?);
    let are = if down == 1 { "is" } else { "are" };
    (0 < down && down < all)
        .then(|| format!("{down} of {} of pool {} {are} down", plural(all, "backend"), cell(&pool["name"])))
}

/// What the nodes say, once where they agree.
fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in values.map(cell) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join("|")
}

fn head(told: &[(&Node, &Told)], nodes: usize) -> String {
    let of = |key: &'static str| joined(told.iter().map(|(_, told)| &told.status[key]));
    let (mut workers, mut acting) = (0, 0);
    for (_, told) in told {
        for each in list(&told.status["dataplanes"]) {
            let count = each["workers"].as_u64().unwrap_or(0);
            workers += count;
            acting += if each["applied_generation"] == told.status["generation"] { count } else { 0 };
        }
    }
    let many = if nodes > 1 { format!(", {} of {nodes} nodes", told.len()) } else { String::new() };
    let up = told.iter().filter_map(|(_, told)| told.status["uptime_seconds"].as_u64()).min().unwrap_or(0);
    let applied = match (workers, acting) {
        (0, _) => "no data plane is connected".to_owned(),
        (workers, acting) if workers == acting => format!("applied by {}", plural(workers, "worker")),
        (workers, acting) => format!("applied by {acting} of {}", plural(workers, "worker")),
    };
    let (version, generation, source) = (of("version"), of("generation"), of("source"));
    format!(
        "steadfast {version}{many}, up {}, generation {generation}, {applied}, membership from {source}",
        span(up * 1_000)
    )
}

#[cfg(test)]
mod tests;
