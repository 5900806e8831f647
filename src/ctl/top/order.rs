//! Which backends are shown, and in which order.

use super::{model::Row, words};
use crate::ctl::show::cell;
use std::cmp::Ordering;

/// What backends are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Column {
    #[default]
    Name,
    State,
    Health,
    Weight,
    Sessions,
    Flight,
    Requests,
    Failed,
    Left,
}

impl Column {
    pub(super) const ALL: [Self; 9] = [
        Self::Name,
        Self::State,
        Self::Health,
        Self::Weight,
        Self::Sessions,
        Self::Flight,
        Self::Requests,
        Self::Failed,
        Self::Left,
    ];

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Name => "BACKEND",
            Self::State => "STATE",
            Self::Health => "HEALTH",
            Self::Weight => "WEIGHT",
            Self::Sessions => "SESS",
            Self::Flight => "FLIGHT",
            Self::Requests => "REQ/S",
            Self::Failed => "FAIL/S",
            Self::Left => "ENDS IN",
        }
    }

    /// Figures begin with the most, names and states with the first.
    pub(super) fn begins_with_the_most(self) -> bool {
        !matches!(self, Self::Name | Self::State | Self::Health)
    }

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    pub(super) fn text(self, row: &Row) -> String {
        let value = &row.value;
        match self {
            Self::Name => cell(&value["name"]),
            Self::State => state(row),
            Self::Health => cell(&value["health"]),
            Self::Weight => format!("{}{}", cell(&value["weight"]), if value["backup"] == true { "b" } else { "" }),
            Self::Sessions => words::count(value["live_sessions"].as_u64()),
            Self::Flight => words::count(row.in_flight()),
            Self::Requests => words::rate(row.rates.map(|rates| rates.requests)),
            Self::Failed => words::rate(row.rates.map(|rates| rates.failed)),
            Self::Left => left(row),
        }
    }

    /// What it is sorted by; `None` where nothing is known.
    #[expect(clippy::cast_precision_loss, reason = "an order needs no more than 53 bits")]
    fn number(self, row: &Row) -> Option<f64> {
        let value = &row.value;
        let count = |count: Option<u64>| count.map(|count| count as f64);
        match self {
            Self::Name => None,
            // What is worst comes first.
            Self::State => rank(&["maintenance", "draining", "active"], &cell(&value["admin_state"])),
            Self::Health => rank(&["down", "unknown", "up"], &cell(&value["health"])),
            Self::Weight => count(value["weight"].as_u64()),
            Self::Sessions => count(value["live_sessions"].as_u64()),
            Self::Flight => count(row.in_flight()),
            Self::Requests => row.rates.map(|rates| rates.requests),
            Self::Failed => row.rates.map(|rates| rates.failed),
            Self::Left => seconds_left(row),
        }
    }
}

/// Where nodes differ, that is the worst of all.
fn rank(words: &[&str], word: &str) -> Option<f64> {
    let at = words.iter().position(|other| *other == word);
    Some(at.and_then(|at| u32::try_from(at).ok()).map_or(-1.0, f64::from))
}

/// The admin state, with how far a drain or a slow start is.
pub(super) fn state(row: &Row) -> String {
    crate::ctl::show::state(&row.value)
}

fn seconds_left(row: &Row) -> Option<f64> {
    row.value["drain_progress"]["estimate"]["all"].as_f64()
}

/// How long until nobody is left at a backend that drains.
fn left(row: &Row) -> String {
    let progress = &row.value["drain_progress"];
    match (progress.is_object(), progress["empty"] == true, seconds_left(row)) {
        (false, _, _) => String::new(),
        (true, true, _) => "empty".to_owned(),
        (true, false, Some(seconds)) => crate::ctl::progress::rounded(seconds).to_string(),
        (true, false, None) => "?".to_owned(),
    }
}

/// Those whose name, address, state or health has the text in it, in order.
pub(super) fn chosen<'a>(rows: &'a [Row], filter: &str, by: Column, reversed: bool) -> Vec<&'a Row> {
    let text = filter.trim().to_lowercase();
    let keys = ["name", "address", "resolved", "admin_state", "health"];
    let has = |row: &Row| keys.iter().any(|key| cell(&row.value[*key]).to_lowercase().contains(&text));
    let mut found: Vec<_> = rows.iter().filter(|row| text.is_empty() || has(row)).collect();
    let down = reversed != by.begins_with_the_most();
    found.sort_by(|a, b| {
        let order = match (by.number(a), by.number(b)) {
            // What is not known comes last either way.
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (None, None) => Ordering::Equal,
            (Some(a), Some(b)) if down => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
        };
        let names = natural(a.name(), b.name());
        order.then(if by == Column::Name && down { names.reverse() } else { names })
    });
    found
}

/// Names with numbers in them in the order of these: `app-9` is before `app-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(one), Some(other)) = (left.chars().next(), right.chars().next()) {
        if one.is_ascii_digit() && other.is_ascii_digit() {
            let (number, rest) = digits(left);
            let (second, other_rest) = digits(right);
            let order = number.len().cmp(&second.len()).then_with(|| number.cmp(second));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (rest, other_rest);
        } else if one == other {
            (left, right) = (&left[one.len_utf8()..], &right[other.len_utf8()..]);
        } else {
            return one.cmp(&other);
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The digits that it begins with, without zeros before them, and what is behind.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::top::rates::Rates;
    use serde_json::json;

    fn rows() -> Vec<Row> {
        let row = |name: &str, state: &str, health: &str, live: Option<u64>, requests: Option<f64>| Row {
            value: json!({"name": name, "address": "10.0.0.1:80", "admin_state": state, "health": health,
                "live_sessions": live, "requests_in_flight": 1, "tunnels": 1, "weight": 1}),
            rates: requests.map(|requests| Rates { requests, ..Rates::default() }),
        };
        vec![
            row("app-10", "active", "up", Some(5), Some(2.0)),
            row("app-9", "draining", "down", None, None),
            row("db", "maintenance", "unknown", Some(50), Some(10.0)),
            row("app-2", "active", "up", Some(0), Some(0.0)),
        ]
    }

    #[test]
    fn backends_are_filtered_and_sorted_with_the_unknown_last() {
        let rows = rows();
        for (filter, by, reversed, wanted) in [
            ("", Column::Name, false, &["app-2", "app-9", "app-10", "db"][..]),
            ("", Column::Name, true, &["db", "app-10", "app-9", "app-2"]),
            ("", Column::State, false, &["db", "app-9", "app-2", "app-10"]),
            ("", Column::Health, false, &["app-9", "db", "app-2", "app-10"]),
            ("", Column::Sessions, false, &["db", "app-10", "app-2", "app-9"]),
            ("", Column::Sessions, true, &["app-2", "app-10", "db", "app-9"]),
            ("", Column::Requests, false, &["db", "app-10", "app-2", "app-9"]),
            ("APP-1", Column::Name, false, &["app-10"]),
            ("down", Column::Name, false, &["app-9"]),
            ("active", Column::Name, false, &["app-2", "app-10"]),
            ("nowhere", Column::Name, false, &[]),
        ] {
            let names: Vec<_> = chosen(&rows, filter, by, reversed).iter().map(|row| row.name().to_owned()).collect();
            assert_eq!(names, wanted, "{filter} {by:?} {reversed}");
        }
    }

    #[test]
    fn each_column_has_its_text_and_its_turn() {
        let mut row = rows().remove(0);
        row.value["drain_progress"] = json!({"empty": false, "share_done": 0.25, "estimate": {"all": 75.0}});
        row.value["admin_state"] = json!("draining");
        let texts = Column::ALL.map(|column| column.text(&row));
        assert_eq!(texts, ["app-10", "draining 25%", "up", "1", "5", "2", "2.0", "0", "1m15s"]);
        row.value["drain_progress"]["estimate"]["all"] = serde_json::Value::Null;
        assert_eq!(Column::Left.text(&row), "?");
        row.value["drain_progress"]["empty"] = json!(true);
        assert_eq!(Column::Left.text(&row), "empty");
        let turns = (0..Column::ALL.len()).fold(Column::Name, |column, _| column.next());
        assert_eq!(turns, Column::Name);
    }
}
