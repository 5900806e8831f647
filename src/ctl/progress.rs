//! A drain that is waited for, as a bar that is drawn anew on a terminal, and as lines elsewhere.

use super::{client::PATIENCE, merge, nodes::Nodes};
use crate::{failure::Failure, output};
use control::spec::Span;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal},
    thread,
    time::{Duration, Instant},
};

const ASK_EVERY: Duration = Duration::from_millis(500);
const BAR: usize = 30;

/// A line that is drawn anew on a terminal, and written again elsewhere where it has changed.
#[derive(Debug)]
pub(super) struct Line {
    redrawn: bool,
    shown: String,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { redrawn: io::stdout().is_terminal(), shown: String::new() }
    }

    pub(super) fn show(&mut self, text: &str) -> Result<(), Failure> {
        if self.redrawn {
            output::print(&format!("\r\x1b[K{text}"))?;
        } else if text != self.shown {
            output::print(&format!("{text}\n"))?;
        }
        text.clone_into(&mut self.shown);
        Ok(())
    }

    /// Leaves it as it is.
    pub(super) fn end(self) -> Result<(), Failure> {
        if self.redrawn { output::print("\n") } else { Ok(()) }
    }
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Nothing is left.
    Empty,
    TimeUp,
    /// The drain was ended, by its deadline or by command, with so many sessions, requests and tunnels left.
    Ended(u64),
    /// Somebody took the backend back into service.
    Activated,
}

/// Asks for the backend at `path` until its drain leaves nothing at any of these nodes, or time is up, and shows how far it is.
pub(super) fn wait(nodes: &Nodes, path: &str, limit: Duration) -> Result<Waited, Failure> {
    let began = Instant::now();
    let mut shown = Line::new();
    let mut watch = Watch::default();
    let waited = loop {
        let found = nodes.at_once(|client| client.find(path, PATIENCE));
        let told = found.into_iter().map(|(name, found)| match (found, nodes.alone()) {
            (Ok(found), _) => Ok((name, Some(found))),
            (Err(failure), Some(_)) => Err(failure),
            // It may be back: until it says so, nobody knows that it is empty.
            (Err(_), None) => Ok((name, None)),
        });
        let (waited, text) = watch.see(told.collect::<Result<_, _>>()?, began.elapsed() < CARRIED_WITHIN);
        if !text.is_empty() {
            shown.show(&text)?;
        }
        if let Some(waited) = waited {
            break waited;
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            break Waited::TimeUp;
        }
        thread::sleep(ASK_EVERY.min(left));
    };
    shown.end()?;
    Ok(waited)
}

/// How long a drain may take from the node that was told it to another that shares its desired state.
const CARRIED_WITHIN: Duration = Duration::from_secs(10);

/// What was seen of a drain at each node.
#[derive(Debug, Default)]
struct Watch {
    /// Live sessions when they were last told.
    live: BTreeMap<String, u64>,
    draining: BTreeSet<String>,
}

impl Watch {
    /// How it has ended, if it has at all of them, and how far it is in words. Of each node the backend, which may not be there;
    /// or that nobody answered. `early` is while a node may not have heard of it.
    fn see(&mut self, told: Vec<(String, Option<Option<Value>>)>, early: bool) -> (Option<Waited>, String) {
        let (mut left, mut open, mut silent) = (0, false, Vec::new());
        let mut under_way = Vec::new();
        for (name, found) in told {
            let Some(found) = found else {
                silent.push(name);
                continue;
            };
            let last = self.live.get(&name).copied().unwrap_or(0);
            let Some(backend) = found else {
                left += last;
                continue;
            };
            let progress = &backend["drain_progress"];
            let live = backend["live_sessions"].as_u64().unwrap_or(0);
            self.live.insert(name.clone(), live);
            if backend["admin_state"] == "active" {
                if early && !self.draining.contains(&name) {
                    open = true;
                    continue;
                }
                return (Some(Waited::Activated), String::new());
            }
            self.draining.insert(name.clone());
            if progress.is_null() {
                left +=
                    ["requests_in_flight", "tunnels"].map(|key| backend[key].as_u64().unwrap_or(0)).iter().sum::<u64>();
                left += live;
                continue;
            }
            open |= progress["empty"] != true;
            under_way.push((name, progress.clone()));
        }
        let waits = open || !silent.is_empty();
        let ended = if left == 0 { Waited::Empty } else { Waited::Ended(left) };
        let ended = (!waits).then_some(ended);
        let mut text = if under_way.is_empty() { String::new() } else { line(&merge::merge(&under_way).value) };
        if !silent.is_empty() {
            text += &format!("{}no answer from {}", if text.is_empty() { "" } else { "; " }, silent.join(", "));
        }
        (ended, text)
    }
}

/// As in `[########----------]  40%, 12 sessions and 1 request left, about 3m to go`.
fn line(progress: &Value) -> String {
    let share = progress["share_done"].as_f64();
    let sessions = progress["live_sessions"].as_u64();
    let mut text = share.map_or(String::new(), |share| format!("{} {:3.0}%, ", bar(share), share * 100.0));
    let requests = count(progress["requests_in_flight"].as_u64().unwrap_or(0), "request");
    let tunnels = match progress["tunnels"].as_u64() {
        None | Some(0) => String::new(),
        Some(tunnels) => format!(", {}", count(tunnels, "tunnel")),
    };
    text += &match sessions {
        Some(sessions) => format!("{}{tunnels} and {requests} left", count(sessions, "session")),
        None => format!("{requests}{tunnels} left, sessions unknown"),
    };
    if sessions.is_some_and(|sessions| sessions > 0) {
        let estimate = &progress["estimate"];
        match ["p95", "all"].map(|key| estimate[key].as_f64().map(rounded)) {
            [Some(most), Some(all)] => text += &format!(", 95% in about {most}, all in about {all}"),
            _ => text += ", no estimate yet",
        }
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to the width of the bar")]
fn bar(share: f64) -> String {
    let full = ((share.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Seconds in the two largest units that they have.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a negative or endless time is none")]
pub(super) fn rounded(seconds: f64) -> Span {
    let seconds = seconds.round() as u64;
    let unit = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    Span::from_secs(seconds / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_tells_what_is_known() {
        let estimate = json!({"p95": 75.3, "p99": 100.0, "all": 4000.0});
        let some = json!({"share_done": 0.4, "live_sessions": 12, "requests_in_flight": 1, "estimate": estimate});
        let bar = "[############------------------]  40%, ";
        let text = format!("{bar}12 sessions and 1 request left, 95% in about 1m15s, all in about 1h6m");
        assert_eq!(line(&some), text);
        let early = json!({"share_done": 0.4, "live_sessions": 1, "requests_in_flight": 0, "estimate": {"p95": null}});
        assert_eq!(line(&early), format!("{bar}1 session and 0 requests left, no estimate yet"));
        let open =
            json!({"share_done": 0.4, "live_sessions": 0, "requests_in_flight": 0, "tunnels": 2, "estimate": {}});
        assert_eq!(line(&open), format!("{bar}0 sessions, 2 tunnels and 0 requests left"));
        let unknown = json!({"share_done": null, "live_sessions": null, "requests_in_flight": 2, "estimate": {}});
        assert_eq!(line(&unknown), "2 requests left, sessions unknown");
    }

    fn at(name: &str, backend: Value) -> (String, Option<Option<Value>>) {
        (name.to_owned(), Some(Some(backend)))
    }

    fn draining(live: u64) -> Value {
        let progress = json!({"empty": live == 0, "live_sessions": live, "sessions_at_start": 10, "share_done": 0.1,
            "requests_in_flight": 0, "estimate": {"p95": null, "all": null}});
        json!({"admin_state": "draining", "live_sessions": live, "requests_in_flight": 0, "tunnels": 0,
            "drain_progress": progress})
    }

    #[test]
    fn a_drain_is_over_when_no_node_has_anything_left() {
        let mut watch = Watch::default();
        let (waited, text) = watch.see(vec![at("a", draining(4)), at("b", draining(0))], true);
        assert_eq!(waited, None);
        assert!(text.contains(" 80%, 4 sessions and 0 requests left"), "{text}");
        // One that does not answer may have something left.
        let (waited, text) = watch.see(vec![at("a", draining(0)), ("b".to_owned(), None)], true);
        assert_eq!(waited, None);
        assert!(text.ends_with("; no answer from b"), "{text}");
        assert_eq!(watch.see(vec![at("a", draining(0)), at("b", draining(0))], true).0, Some(Waited::Empty));
        // Removed, and what was last known of it.
        watch.see(vec![at("a", draining(3))], true);
        assert_eq!(watch.see(vec![("a".to_owned(), Some(None))], true).0, Some(Waited::Ended(3)));
        let closed = json!({"admin_state": "maintenance", "live_sessions": 2, "requests_in_flight": 1, "tunnels": 1,
            "drain_progress": null});
        assert_eq!(watch.see(vec![at("a", closed), at("b", draining(0))], true).0, Some(Waited::Ended(4)));
    }

    #[test]
    fn a_node_that_has_not_heard_of_a_drain_yet_has_not_ended_it() {
        let active = || json!({"admin_state": "active", "live_sessions": 1, "drain_progress": null});
        let mut watch = Watch::default();
        assert_eq!(watch.see(vec![at("a", draining(0)), at("b", active())], true).0, None);
        assert_eq!(watch.see(vec![at("a", active())], true).0, Some(Waited::Activated), "it was draining");
        assert_eq!(Watch::default().see(vec![at("b", active())], false).0, Some(Waited::Activated));
    }
}
