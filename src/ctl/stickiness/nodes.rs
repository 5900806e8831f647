//! The nodes whose figures these are.

use crate::ctl::{
    show::{cell, list},
    table::Table,
};
use serde_json::Value;

/// Nothing where one node alone was asked.
pub(super) fn show(answer: &Value) -> String {
    let nodes = &answer["nodes"];
    if nodes.is_null() {
        return String::new();
    }
    let mut table = Table::new(["node", "address", "version", "sessions", "missing"]);
    let mut answered = 0;
    for node in list(nodes) {
        let reason = node["reason"].as_str();
        let missing = match (node["answered"] == true, reason) {
            (true, reason) => {
                answered += 1;
                reason.unwrap_or_default().to_owned()
            }
            (false, reason) => format!("all of it: {}", reason.unwrap_or("it has not answered")),
        };
        let [name, address, version, sessions] =
            ["name", "address", "version", "live_sessions"].map(|key| cell(&node[key]));
        table.row([name, address, version, sessions, missing]);
    }
    let of = list(nodes).count();
    format!("{table}{answered} of {of} nodes have answered; what is shown is of these\n\n")
}
