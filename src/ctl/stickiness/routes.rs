//! Which routes' clients come without a marker.

use crate::ctl::{
    show::{cell, list},
    table::Table,
};
use serde_json::Value;

const MOST: usize = 10;

pub(super) fn show(answer: &Value) -> Table<5> {
    let mut table = Table::new(["route", "requests", "without marker", "share", "marker ignored"]);
    for route in list(&answer["routes"]).take(MOST) {
        let name = match (route["host"].as_str(), route["path"].as_str()) {
            (None, None) => format!("{} (any)", cell(&route["listener"])),
            (host, path) => format!("{} {}{}", cell(&route["listener"]), host.unwrap_or("*"), path.unwrap_or("")),
        };
        let share = route["unmarked_share"].as_f64().map_or_else(String::new, |share| format!("{:.1}%", share * 100.0));
        let [requests, unmarked, ignored] = ["requests", "unmarked", "ignored"].map(|count| cell(&route[count]));
        table.row([name, requests, unmarked, share, ignored]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_route_is_called_by_what_it_matches() {
        let route = |host: Option<&str>, path: Option<&str>| json!({ "listener": "web", "host": host, "path": path, "requests": 4, "unmarked": 1, "unmarked_share": 0.25, "ignored": 0 });
        let routes = [route(None, None), route(Some("*.example.com"), None), route(None, Some("/cart"))];
        let text = super::show(&json!({ "routes": routes })).to_string();
        for name in ["web (any) ", "web *.example.com ", "web */cart "] {
            let row = text.lines().find_map(|line| line.strip_prefix(name));
            let cells: Vec<_> = row.unwrap_or_else(|| panic!("{name}: {text}")).split_whitespace().collect();
            assert_eq!(cells, ["4", "1", "25.0%", "0"]);
        }
    }
}
