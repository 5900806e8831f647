//! How unevenly load lies, beside what free balancing would have given, and what that takes of the capacity.

use crate::ctl::table::Table;
use serde_json::Value;

pub(super) fn show(answer: &Value) -> Table<6> {
    let mut table =
        Table::new(["imbalance by", "max/mean", "gini", "max/mean if free", "gini if free", "capacity taken"]);
    let figure = |value: &Value| value.as_f64().map_or_else(String::new, |figure| format!("{figure:.3}"));
    for by in ["sessions", "requests", "busy_time"] {
        let (found, free) = (&answer["imbalance"][by], &answer["imbalance_if_free"][by]);
        let figures = [&found["max_over_mean"], &found["gini"], &free["max_over_mean"], &free["gini"]].map(figure);
        let taken = answer["capacity"][by]["taken"].as_f64();
        let taken = taken.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0));
        let [max, gini, free_max, free_gini] = figures;
        table.row([by.replace('_', " "), max, gini, free_max, free_gini, taken]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_is_not_known_is_no_zero() {
        let answer = json!({
            "imbalance": { "sessions": { "max_over_mean": 1.0, "gini": 0.0 }, "busy_time": { "max_over_mean": 2.0, "gini": 0.5 } },
            "imbalance_if_free": { "busy_time": { "max_over_mean": 1.25, "gini": 0.1 } },
            "capacity": { "busy_time": { "usable": 0.5, "usable_if_free": 0.8, "taken": 0.375 } },
        });
        let text = super::show(&answer).to_string();
        let rows: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(
            rows[1..],
            [
                vec!["sessions", "1.000", "0.000", "-", "-", "-"],
                vec!["requests", "-", "-", "-", "-", "-"],
                vec!["busy time", "2.000", "0.500", "1.250", "0.100", "37.5%"],
            ]
        );
    }
}
