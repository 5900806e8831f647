//! What became of sessions in the last minutes, how that holds against the target, and what to do about it, for people.

use super::{
    show::{cell, list},
    table::Table,
};
use serde_json::Value;

/// What goes below the figures since the start.
pub(super) fn show(answer: &Value) -> String {
    let parts = [windows(&answer["windows"]), target(&answer["target"]), advice(&answer["advice"])];
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| format!("\n{part}")).collect()
}

fn windows(windows: &Value) -> String {
    let mut table = Table::new(["in the last", "requests", "new", "returning", "pinned", "why not"]);
    for window in list(windows) {
        let share = |share: &Value| share.as_f64().map_or_else(String::new, |share| format!("{:.3} %", share * 100.0));
        let causes = ["left", "refused"].iter().filter_map(|kind| window[*kind].as_object()).flatten();
        let causes =
            causes.filter(|(_, count)| count.as_u64() != Some(0)).map(|(cause, count)| format!("{cause} {count}"));
        table.row([
            format!("{} min", cell(&window["minutes"])),
            cell(&window["requests"]),
            share(&window["unpinned_share"]),
            cell(&window["returning"]["requests"]),
            share(&window["returning"]["share"]),
            causes.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.to_string()
}

fn target(target: &Value) -> String {
    let Some(share) = target["share"].as_f64() else { return String::new() };
    let rate = |rate: &Value| rate.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let burns = if target["burns"] == true { ": IT BURNS" } else { "" };
    format!(
        "target {:.3} %, burn rate {} in 5 minutes and {} in an hour{burns}\n",
        share * 100.0,
        rate(&target["burn_rate_5m"]),
        rate(&target["burn_rate_1h"])
    )
}

fn advice(advice: &Value) -> String {
    let told = |each: &Value| {
        let [about, says, evidence] = ["about", "says", "evidence"].map(|key| cell(&each[key]));
        format!("advice on {about}: {says}\n  {evidence}\n")
    };
    list(advice).map(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn windows_target_and_advice_are_told_and_what_is_not_there_is_left_out() {
        let window = |minutes: u64, requests: u64| {
            json!({"minutes": minutes, "requests": requests, "unpinned_share": 0.25,
                "returning": {"requests": 10, "share": 0.9}, "left": {"spilled": 1, "repinned_down": 0},
                "refused": {"expired_idle": 2}})
        };
        let advice = json!({"about": "lifetime", "says": "Set it.", "evidence": "It is so."});
        let answer = json!({"windows": [window(1, 20), window(60, 900)],
            "target": {"share": 0.999, "burn_rate_5m": 100.0, "burn_rate_1h": 20.04, "burns": true},
            "advice": [advice]});
        let text = "\nIN THE LAST  REQUESTS  NEW       RETURNING  PINNED    WHY NOT\n\
            1 min        20        25.000 %  10         90.000 %  spilled 1, expired_idle 2\n\
            60 min       900       25.000 %  10         90.000 %  spilled 1, expired_idle 2\n\n\
            target 99.900 %, burn rate 100.0 in 5 minutes and 20.0 in an hour: IT BURNS\n\n\
            advice on lifetime: Set it.\n  It is so.\n";
        assert_eq!(super::show(&answer), text);
        let bare = super::show(&json!({"windows": [], "target": null, "advice": []}));
        assert_eq!(bare.lines().count(), 2, "the headings alone: {bare}");
    }
}
