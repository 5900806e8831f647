//! Who sends most of the requests.

use crate::ctl::{
    show::{cell, list},
    table::Table,
};
use serde_json::Value;

pub(super) fn show(answer: &Value) -> String {
    let hot = &answer["hot"];
    let mut table = Table::new(["hot", "who", "share of requests"]);
    for (what, each, name) in [("session", "sessions", "key"), ("address", "addresses", "address")] {
        for hot in list(&hot[each]) {
            let share = hot["share"].as_f64().map_or_else(String::new, |share| format!("{:.1}%", share * 100.0));
            table.row([what.to_owned(), cell(&hot[name]), share]);
        }
    }
    match hot["warning"].as_str() {
        Some(warning) => format!("{table}\n{warning}\n"),
        None => table.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_warning_stands_below() {
        let hot =
            json!({ "sessions": [{ "key": "00ff", "share": 0.5 }], "addresses": [{ "address": "::1", "share": 1.0 }] });
        let text = super::show(&json!({ "hot": hot }));
        let rows: Vec<Vec<_>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["session", "00ff", "50.0%"], ["address", "::1", "100.0%"]]);
        let text = super::show(&json!({ "hot": { "warning": "look at this" } }));
        assert!(text.ends_with("\nlook at this\n"), "{text}");
    }
}
