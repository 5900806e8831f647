//! The exit ramp, for people.

use super::{
    args::Release,
    client::{Client, PATIENCE, segment},
    progress::Line,
    show::{cell, list},
    table::Table,
};
use crate::{failure::Failure, output};
use serde_json::{Map, Value, json};
use std::{
    fmt::Write,
    thread,
    time::{Duration, Instant},
};

const ASK_EVERY: Duration = Duration::from_millis(500);

pub(super) fn path(pool: &str) -> String {
    format!("/v1/pools/{}/release", segment(pool))
}

/// The plan as the API takes it; `None` where none is given.
pub(super) fn plan(release: &Release) -> Option<Value> {
    let Release { begin, percent, steps, hold, harm, alpha, login_path, session_cookie, .. } = release;
    let fields = [
        ("percent", percent.map(|percent| json!(percent))),
        ("steps", (!steps.is_empty()).then(|| json!(steps))),
        ("hold", hold.map(|hold| json!(hold))),
        ("harm", harm.map(|harm| json!(harm))),
        ("alpha", alpha.map(|alpha| json!(alpha))),
        ("login_path", login_path.as_ref().map(|path| json!(path))),
        ("session_cookie", session_cookie.as_ref().map(|cookie| json!(cookie))),
        ("cache_header", release.cache_header.as_ref().map(|header| json!(header))),
        ("cache_hit", release.cache_hit.as_ref().map(|hit| json!(hit))),
    ];
    let fields: Map<_, _> = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    (*begin || !fields.is_empty()).then_some(Value::Object(fields))
}

/// Begins what is asked for, and follows it until it has stopped or has come to its end.
pub(super) fn wait(client: &Client, release: &Release) -> Result<(), Failure> {
    let path = path(&release.pool);
    if let Some(plan) = plan(release) {
        client.call("PUT", &path, Some(&plan), PATIENCE)?;
    }
    let deadline = release.timeout.map(|timeout| Instant::now() + timeout.to_std());
    let mut line = Line::new();
    let last = loop {
        let Some(answer) = client.find(&path, PATIENCE)? else {
            line.end()?;
            return Err(Failure::general(format!("pool {} has no release, or no longer", release.pool)));
        };
        line.show(&progress(&answer))?;
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if answer["state"] != "running" || is_late {
            break answer;
        }
        thread::sleep(ASK_EVERY);
    };
    line.end()?;
    output::print(&show(&last))?;
    match last["state"].as_str() {
        Some("finished") => Ok(()),
        Some("stopped") => Err(Failure::general("the release has stopped")),
        _ => Err(Failure::general("the release was still under way when the time was up")),
    }
}

/// As in `10 %, step 3 of 6: not enough traffic, 12 of about 80 released sessions`.
fn progress(answer: &Value) -> String {
    let steps = list(&answer["steps"]).count();
    let percent = number(&answer["percent"]);
    let mut text = format!("{percent} %, step {} of {steps}: {}", answer["step"], verdict(answer));
    let at = &answer["at_step"];
    match at["needed"].as_u64().filter(|_| answer["state"] == "running") {
        Some(needed) => write!(text, ", {} of about {needed} released sessions", at["elsewhere"]),
        None => Ok(()),
    }
    .expect("a String takes all");
    text
}

/// Without a fraction where it has none.
fn number(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |value| value.to_string())
}

/// As in `1 in 200`, or `25 %` where it is not small.
fn chance(p_value: f64) -> String {
    if p_value > 0.01 { format!("{:.0} %", p_value * 100.0) } else { format!("1 in {:.0}", 1.0 / p_value.max(1e-12)) }
}

fn verdict(answer: &Value) -> String {
    cell(&answer["verdict"]).replace('-', " ")
}

/// A release with its two cohorts beside each other.
pub(super) fn show(answer: &Value) -> String {
    let (state, percent, step) = (cell(&answer["state"]), number(&answer["percent"]), &answer["step"]);
    let steps: Vec<_> = list(&answer["steps"]).map(number).collect();
    let mut text = format!(
        "{}: {state}, {percent} % released, step {step} of {} ({})\nverdict: {}\n",
        cell(&answer["pool"]),
        steps.len(),
        steps.join(", "),
        verdict(answer)
    );
    for sentence in list(&answer["why"]).chain(list(&answer["advice"])) {
        push(&mut text, format_args!("  {}\n", cell(sentence)));
    }
    let mut signals = Table::new(["sessions that showed", "released", "control", "luck at most", "harm seen from"]);
    for signal in list(&answer["signals"]) {
        let count = |cohort: &str| {
            let share = signal["shares"][cohort].as_f64();
            let share = share.map_or(String::new(), |share| format!(" ({:.1} %)", share * 100.0));
            format!("{}{share}", signal["sessions"][cohort])
        };
        let detectable = signal["detectable"].as_f64().map_or(String::new(), |harm| format!("{:.1} %", harm * 100.0));
        let luck = signal["p_value"].as_f64().map_or(String::new(), chance);
        signals.row([cell(&signal["signal"]), count("released"), count("control"), luck, detectable]);
    }
    let mut cohorts = Table::new(["cohort", "sessions", "requests", "p50", "p90", "p99", "cache hits"]);
    for cohort in ["released", "control"] {
        let latency = |quantile: &str| {
            answer["latency"][cohort][quantile].as_f64().map_or(String::new(), |millis| format!("{millis:.1} ms"))
        };
        let hits = answer["cache"][cohort]["share"].as_f64();
        cohorts.row([
            cohort.to_owned(),
            cell(&answer["sessions"][cohort]),
            cell(&answer["requests"][cohort]),
            latency("p50"),
            latency("p90"),
            latency("p99"),
            hits.map_or(String::new(), |hits| format!("{:.1} %", hits * 100.0)),
        ]);
    }
    push(&mut text, format_args!("\n{signals}\n{cohorts}"));
    text
}

/// What a write has done, and the release as it is then.
pub(super) fn written(answer: &Value) -> String {
    let text = super::show::written(answer);
    if answer["release"].is_object() { format!("{}\n{text}", show(&answer["release"])) } else { text }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({
            "pool": "shop", "state": "running", "percent": 10, "step": 1, "steps": [10, 100],
            "verdict": "not-enough-traffic", "why": ["too few"], "advice": [],
            "at_step": {"elsewhere": 3, "needed": 60},
            "sessions": {"released": 4, "control": 40}, "requests": {"released": 9, "control": 80},
            "signals": [{"signal": "denied", "sessions": {"released": 1, "control": 0},
                "shares": {"released": 0.25, "control": 0.0}, "p_value": 1.0, "detectable": null}],
            "latency": {"released": {"p50": 1.0, "p90": 2.0, "p99": 3.0}, "control": {"p50": 1.0, "p90": 2.0, "p99": 3.25}},
            "cache": null,
        })
    }

    #[test]
    fn the_cohorts_stand_beside_each_other() {
        let text = show(&answer());
        assert!(text.starts_with(
            "shop: running, 10 % released, step 1 of 2 (10, 100)\nverdict: not enough traffic\n  too few\n"
        ));
        for row in [&["denied", "1", "(25.0", "%)", "0", "(0.0", "%)", "100", "%", "-"][..], &["control", "40", "80"]] {
            let starts = |line: &str| {
                line.split_whitespace().zip(row).filter(|(cell, wanted)| cell == *wanted).count() == row.len()
            };
            assert!(text.lines().any(starts), "{row:?} in {text}");
        }
        assert_eq!(progress(&answer()), "10 %, step 1 of 2: not enough traffic, 3 of about 60 released sessions");
    }

    #[test]
    fn what_is_not_said_is_not_sent() {
        let said = Release { pool: "shop".to_owned(), ..Release::default() };
        assert_eq!(plan(&said), None);
        assert_eq!(plan(&Release { begin: true, ..said }), Some(json!({})));
        let said = Release { steps: vec![5.0, 50.0], cache_header: Some("X-Cache".to_owned()), ..Release::default() };
        assert_eq!(plan(&said), Some(json!({"steps": [5.0, 50.0], "cache_header": "X-Cache"})));
    }
}
