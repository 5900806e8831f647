//! What stickiness costs, for people.

mod hot;
mod imbalance;
mod ledger;
mod nodes;
mod routes;

use super::{
    show::{cell, list},
    table::Table,
    windows,
};
use serde_json::Value;

pub(super) fn show(answer: &Value) -> String {
    let returning = &answer["returning"];
    let share = match returning["share"].as_f64() {
        Some(share) => {
            format!("{:.3} % of {} returning requests reached their pin", share * 100.0, cell(&returning["requests"]))
        }
        None => "nobody has returned".to_owned(),
    };
    let sessions = answer["live_sessions"].as_u64().map_or_else(|| "unknown".to_owned(), |live| live.to_string());
    let mut causes = Table::new(["not pinned because", "requests"]);
    for (cause, count) in ["left", "refused"].iter().filter_map(|kind| answer[*kind].as_object()).flatten() {
        if count.as_u64() != Some(0) {
            causes.row([cause.clone(), cell(count)]);
        }
    }
    let mut backends = Table::new(["backend", "weight", "sessions", "requests", "new", "arrived", "lost"]);
    for backend in list(&answer["backends"]) {
        let keys = ["name", "weight", "live_sessions", "requests", "sessions_new", "sessions_arrived", "sessions_lost"];
        backends.row(keys.map(|key| cell(&backend[key])));
    }
    let tables = [
        imbalance::show(answer).to_string(),
        causes.to_string(),
        ledger::show(answer).to_string(),
        hot::show(answer).to_string(),
        routes::show(answer).to_string(),
        backends.to_string(),
    ];
    // Headings alone say nothing.
    let filled: Vec<_> = tables.into_iter().filter(|table| table.lines().count() > 1).collect();
    let nodes = nodes::show(answer);
    format!("live sessions: {sessions}; {share}\n\n{nodes}{}{}", filled.join("\n"), windows::show(answer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn nodes_are_told_where_they_were_asked() {
        let node = |name: &str, live: Option<u64>, reason: Option<&str>| {
            json!({"name": name, "address": "http://a:1", "version": "1.0", "live_sessions": live,
                "answered": live.is_some(), "reason": reason})
        };
        let nodes = json!([node("lb-1", Some(7), None), node("lb-2", None, Some("it is away"))]);
        let text = super::show(&json!({"live_sessions": 7, "returning": {"share": null}, "nodes": nodes}));
        let rows = "\n\nNODE  ADDRESS     VERSION  SESSIONS  MISSING\n\
            lb-1  http://a:1  1.0      7         -\nlb-2  http://a:1  1.0      -         all of it: it is away\n\
            1 of 2 nodes have answered; what is shown is of these\n";
        assert!(text.contains(rows), "{text}");
    }

    #[test]
    fn what_never_happened_is_left_out_and_what_nobody_knows_is_no_zero() {
        let answer = json!({"live_sessions": null, "returning": {"requests": 0, "pinned": 0, "share": null},
            "imbalance": {"sessions": null, "requests": {"max_over_mean": 1.5, "gini": 0.25}},
            "left": {"spilled": 0, "repinned_down": 2}, "refused": {"token_future": 0}, "backends": []});
        let text = super::show(&answer);
        assert!(text.starts_with("live sessions: unknown; nobody has returned\n"), "{text}");
        for row in [&["requests", "1.500", "0.250", "-", "-", "-"][..], &["repinned_down", "2"]] {
            assert!(text.lines().any(|line| line.split_whitespace().eq(row.iter().copied())), "{row:?} in {text}");
        }
        assert!(!text.contains("spilled") && !text.contains("token_future"), "{text}");
        assert!(!text.contains("BACKEND"), "headings with nothing below them: {text}");
    }
}
