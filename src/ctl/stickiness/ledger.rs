//! Who moved from where to where, and why: the most frequent.

use crate::ctl::{
    show::{cell, list},
    table::Table,
};
use serde_json::Value;

const MOST: usize = 20;

pub(super) fn show(answer: &Value) -> Table<5> {
    let mut entries: Vec<_> = list(&answer["ledger"]).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry["count"].as_u64()));
    let mut table = Table::new(["what", "because", "from", "to", "times"]);
    for entry in entries.iter().take(MOST) {
        table.row(["kind", "cause", "from", "to", "count"].map(|key| cell(&entry[key])));
    }
    let (times, kinds) = entries
        .iter()
        .skip(MOST)
        .fold((0, 0), |(times, kinds), entry| (times + entry["count"].as_u64().unwrap_or(0), kinds + 1));
    if kinds > 0 {
        table.row([format!("and {kinds} more"), String::new(), String::new(), String::new(), times.to_string()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_most_frequent_come_first_and_the_rest_is_summed() {
        let entry = |from: String, count: u64| json!({"kind": "repinned", "cause": "down", "from": from, "to": null, "count": count});
        let ledger: Vec<_> = (1..=30).map(|n| entry(format!("app-{n}"), n)).collect();
        let text = super::show(&json!({ "ledger": ledger })).to_string();
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), 1 + super::MOST + 1);
        assert_eq!(rows[1], ["repinned", "down", "app-30", "-", "30"]);
        assert_eq!(rows[21], ["and", "10", "more", "-", "-", "-", "55"]);
    }
}
