//! A drain that is waited for, as a bar that is drawn anew on a terminal, and as lines elsewhere.

use super::client::{Client, PATIENCE};
use crate::{failure::Failure, output};
use control::spec::Span;
use serde_json::Value;
use std::{
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

/// Asks for the backend at `path` until its drain leaves nothing, or time is up, and shows how far it is.
pub(super) fn wait(client: &Client, path: &str, limit: Duration) -> Result<Waited, Failure> {
    let deadline = Instant::now() + limit;
    let mut shown = Line::new();
    let mut last = 0;
    let waited = loop {
        let Some(backend) = client.find(path, PATIENCE)? else { break ended(last) };
        let progress = &backend["drain_progress"];
        last = backend["live_sessions"].as_u64().unwrap_or(0);
        if backend["admin_state"] == "active" {
            break Waited::Activated;
        }
        if progress.is_null() {
            let left = ["requests_in_flight", "tunnels"].map(|key| backend[key].as_u64().unwrap_or(0));
            break ended(last + left.iter().sum::<u64>());
        }
        shown.show(&line(progress))?;
        if progress["empty"] == true {
            break Waited::Empty;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Waited::TimeUp;
        }
        thread::sleep(ASK_EVERY.min(left));
    };
    shown.end()?;
    Ok(waited)
}

fn ended(left: u64) -> Waited {
    if left == 0 { Waited::Empty } else { Waited::Ended(left) }
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
}
