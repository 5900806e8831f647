//! The keys of the affinity tokens, for people.

use super::{
    show::{cell, list},
    table::Table,
};
use control::spec::Span;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn show(answer: &Value) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    table(answer, since.as_secs())
}

/// `now` is in Unix seconds.
fn table(answer: &Value, now: u64) -> String {
    let headings = [
        "key",
        "does",
        "added",
        "tokens 1m",
        "5m",
        "1h",
        "since start",
        "last seen",
        "oldest session",
        "may go",
        "why",
    ];
    let mut table = Table::new(headings);
    let ago = |at: &Value| {
        let passed = |at: u64| format!("{} ago", Span::from_secs(now.saturating_sub(at / 1_000)));
        at.as_u64().map_or_else(String::new, passed)
    };
    for key in list(answer) {
        let tokens = |window: &str| cell(&key["tokens"][window]);
        table.row([
            cell(&key["key"]),
            if key["seals"] == true { "seals" } else { "opens" }.to_owned(),
            ago(&key["added"]),
            tokens("last_1m"),
            tokens("last_5m"),
            tokens("last_1h"),
            tokens("since_start"),
            ago(&key["last_seen"]),
            cell(&key["oldest"]).replace('_', " "),
            if key["may_go"] == true { "yes" } else { "no" }.to_owned(),
            cell(&key["why"]),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn times_are_told_as_how_long_ago_and_what_nobody_knows_is_no_zero() {
        let tokens = json!({"last_1m": 1, "last_5m": 2, "last_1h": 3, "since_start": 4});
        let answer = json!([
            {"key": "3fa2", "seals": true, "added": 1_000_000, "tokens": tokens, "last_seen": 1_999_000,
                "oldest": "under_1h", "may_go": false, "why": "it seals"},
            {"key": "00b1", "seals": false, "added": null, "tokens": tokens, "last_seen": null, "oldest": null,
                "may_go": true, "why": "so"},
        ]);
        let text = super::table(&answer, 2_000);
        for row in [
            &["3fa2", "seals", "16m40s ago", "1", "2", "3", "4", "1s ago", "under 1h", "no", "it seals"],
            &["00b1", "opens", "-", "1", "2", "3", "4", "-", "-", "yes", "so"],
        ] {
            let cells = |line: &str| -> Vec<String> {
                line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
            };
            assert!(text.lines().any(|line| cells(line) == *row), "{row:?} in {text}");
        }
    }
}
