//! One answer of many nodes' answers to one question: sums where a sum is right, and what differs.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Figures of nodes that add up. A session that comes by two nodes is in both of theirs.
const SUMS: [&str; 19] = [
    "errors",
    "live_sessions",
    "lost",
    "lost_if_stopped_now",
    "moved",
    "open_connections",
    "requests",
    "requests_in_flight",
    "requests_queued",
    "responses",
    "responses_5xx",
    "sessions_after",
    "sessions_at_start",
    "sessions_before",
    "sessions_lost",
    "tunnels",
    "uncompared",
    "unserved",
    "workers",
];
/// What all nodes together are as slow as the slowest of them in.
const WORST: [&str; 8] = ["p50", "p90", "p95", "p99", "p999", "all", "since", "deadline"];
/// What is each node's own, and says nothing where it differs.
const OWN: [&str; 8] =
    ["decay_per_minute", "health_reason", "instance", "lookup_failing", "resolved", "share_done", "unknown", "warming"];

/// Answers of nodes to one question, as one; with a line for each thing in which they differ.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) value: Value,
    pub(super) differences: Vec<String>,
}

/// Each answer beside what its node is called.
pub(super) fn merge(answers: &[(String, Value)]) -> Merged {
    if let [(_, alone)] = answers {
        return Merged { value: alone.clone(), differences: Vec::new() };
    }
    let mut merging = Merging { differences: Vec::new() };
    let values: Vec<_> = answers.iter().map(|(node, value)| (node.as_str(), value)).collect();
    let value = merging.any("", &[], &values);
    Merged { value, differences: merging.differences }
}

type At<'a> = (&'a str, &'a Value);

struct Merging {
    differences: Vec<String>,
}

impl Merging {
    /// `within` are the names of what this is a part of.
    fn any(&mut self, key: &str, within: &[&str], values: &[At<'_>]) -> Value {
        if SUMS.contains(&key) {
            return sum(values);
        }
        if WORST.contains(&key) {
            return worst(values);
        }
        let known = || values.iter().map(|(_, value)| *value).find(|value| !value.is_null()).unwrap_or(&Value::Null);
        if values.iter().all(|(_, value)| value.is_object() || value.is_null()) && known().is_object() {
            return self.object(key, within, values);
        }
        let named = |value: &Value| list(value).all(|each| each["name"].is_string());
        if values.iter().all(|(_, value)| value.is_array() && named(value)) {
            return self.list(within, values);
        }
        if OWN.contains(&key) {
            return known().clone();
        }
        if key == "notes" {
            let all = values.iter().flat_map(|(_, value)| list(value));
            return all.fold(json!([]), |mut notes, note| {
                if !list(&notes).any(|other| other == note) {
                    notes.as_array_mut().into_iter().for_each(|notes| notes.push(note.clone()));
                }
                notes
            });
        }
        self.same(key, within, values)
    }

    fn object(&mut self, key: &str, within: &[&str], values: &[At<'_>]) -> Value {
        let objects: Vec<_> = values.iter().filter_map(|(node, value)| Some((*node, value.as_object()?))).collect();
        let mut merged = Map::new();
        for name in objects.iter().flat_map(|(_, object)| object.keys()) {
            if merged.contains_key(name) {
                continue;
            }
            let parts: Vec<At<'_>> =
                objects.iter().filter_map(|(node, object)| Some((*node, object.get(name)?))).collect();
            let part = match key {
                "counts" => sum(&parts),
                // Settings that are called as figures are.
                "limits" => self.same(name, within, &parts),
                _ => self.any(name, within, &parts),
            };
            merged.insert(name.clone(), part);
        }
        if let [Some(start), Some(live)] = ["sessions_at_start", "live_sessions"].map(|key| merged.get(key)?.as_u64())
            && merged.contains_key("share_done")
        {
            merged.insert("share_done".to_owned(), json!(gone(start, live)));
        }
        if let Some(empty) = merged.get_mut("empty") {
            *empty = json!(objects.iter().all(|(_, object)| object.get("empty") == Some(&json!(true))));
        }
        Value::Object(merged)
    }

    /// Things with names, in their order.
    fn list(&mut self, within: &[&str], values: &[At<'_>]) -> Value {
        let mut found: BTreeMap<&str, Vec<At<'_>>> = BTreeMap::new();
        for (node, value) in values {
            for each in list(value) {
                found.entry(each["name"].as_str().unwrap_or_default()).or_default().push((node, each));
            }
        }
        let mut merged = Vec::new();
        for (name, parts) in found {
            let missing: Vec<_> =
                values.iter().map(|(node, _)| *node).filter(|node| parts.iter().all(|(at, _)| at != node)).collect();
            let within: Vec<_> = within.iter().copied().chain([name]).collect();
            if !missing.is_empty() {
                self.differences.push(format!("{} is not at {}", within.join(", "), missing.join(", ")));
            }
            merged.push(self.any("", &within, &parts));
        }
        Value::Array(merged)
    }

    /// What all of them say; else as in `cart-3: admin state differs: draining at a; active at b`, and `draining|active`.
    fn same(&mut self, key: &str, within: &[&str], values: &[At<'_>]) -> Value {
        let first = values.first().map_or(&Value::Null, |(_, value)| *value);
        if values.iter().all(|(_, value)| *value == first) {
            return first.clone();
        }
        let mut apart: Vec<(String, Vec<&str>)> = Vec::new();
        for (node, value) in values {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match apart.iter_mut().find(|(other, _)| *other == text) {
                Some((_, nodes)) => nodes.push(node),
                None => apart.push((text, vec![node])),
            }
        }
        let told: Vec<_> = apart.iter().map(|(text, nodes)| format!("{text} at {}", nodes.join(", "))).collect();
        let (what, within) = (key.replace('_', " "), within.join(", "));
        self.differences.push(format!("{within}: {what} differs: {}", told.join("; ")));
        let texts: Vec<_> = apart.into_iter().map(|(text, _)| text).collect();
        json!(texts.join("|"))
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Unknown where one of them is: the rest would be taken for all.
fn sum(values: &[At<'_>]) -> Value {
    let numbers: Option<Vec<_>> = values.iter().map(|(_, value)| value.as_u64()).collect();
    numbers.map_or(Value::Null, |numbers| json!(numbers.iter().sum::<u64>()))
}

fn worst(values: &[At<'_>]) -> Value {
    let numbers: Option<Vec<_>> = values.iter().map(|(_, value)| value.as_f64()).collect();
    let most = |numbers: Vec<f64>| numbers.into_iter().reduce(f64::max);
    numbers.and_then(most).map_or(Value::Null, |most| json!(most))
}

#[expect(clippy::cast_precision_loss, reason = "sessions are far below 53 bits")]
fn gone(at_start: u64, live: u64) -> f64 {
    if at_start == 0 { 1.0 } else { at_start.saturating_sub(live) as f64 / at_start as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(answers: &[Value]) -> (Value, Vec<String>) {
        let named = ["a", "b", "c"].iter().zip(answers).map(|(node, answer)| ((*node).to_owned(), answer.clone()));
        let Merged { value, differences } = merge(&named.collect::<Vec<_>>());
        (value, differences)
    }

    #[test]
    fn figures_add_up_and_what_one_does_not_know_nobody_knows() {
        let backend = |live: Value, requests: u64| json!([{"name": "x", "live_sessions": live, "requests": requests, "counts": {"any": requests}}]);
        let (value, differences) = merged(&[backend(json!(2), 5), backend(json!(3), 7)]);
        assert_eq!(value, json!([{"name": "x", "live_sessions": 5, "requests": 12, "counts": {"any": 12}}]));
        assert!(differences.is_empty(), "{differences:?}");
        assert_eq!(merged(&[backend(json!(2), 5), backend(Value::Null, 7)]).0[0]["live_sessions"], Value::Null);
    }

    #[test]
    fn what_differs_is_pointed_out_with_who_says_what() {
        let backend = |name: &str, state: &str, weight: u32, reason: &str| json!({"name": name, "admin_state": state, "weight": weight, "health_reason": reason});
        let (value, differences) = merged(&[
            json!([backend("x", "active", 1, "one"), backend("y", "active", 1, "")]),
            json!([backend("x", "draining", 1, "other")]),
            json!([backend("x", "active", 2, "one"), backend("y", "active", 1, "")]),
        ]);
        assert_eq!(
            differences,
            [
                "x: admin state differs: active at a, c; draining at b",
                "x: weight differs: 1 at a, b; 2 at c",
                "y is not at b"
            ]
        );
        let wanted = json!({"name": "x", "admin_state": "active|draining", "weight": "1|2", "health_reason": "one"});
        assert_eq!(value[0], wanted);
    }

    #[test]
    fn a_drain_is_as_far_as_all_of_them_and_takes_as_long_as_the_slowest() {
        let progress = |start: u64, live: u64, all: f64| {
            json!({"sessions_at_start": start, "live_sessions": live, "share_done": 0.5, "empty": live == 0,
                "estimate": {"p95": all / 2.0, "all": all}})
        };
        let (value, _) = merged(&[progress(10, 0, 4.0), progress(30, 10, 60.0)]);
        let wanted = json!({"sessions_at_start": 40, "live_sessions": 10, "share_done": 0.75, "empty": false,
            "estimate": {"p95": 30.0, "all": 60.0}});
        assert_eq!(value, wanted);
        assert_eq!(merged(&[progress(1, 0, 1.0), progress(1, 0, 1.0)]).0["empty"], true);
    }

    #[test]
    fn notes_are_told_once() {
        let (value, differences) = merged(&[json!({"notes": ["one", "two"]}), json!({"notes": ["two", "three"]})]);
        assert_eq!((value, differences.len()), (json!({"notes": ["one", "two", "three"]}), 0));
    }
}
