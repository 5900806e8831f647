//! One call at many nodes: what they say together, and what they say each.

use super::{
    Call, Changes, STILL_LEFT,
    args::{Action, KeyChange},
    merge::{Merged, merge},
    nodes::{Nodes, Told},
    show::{cell, list, pool_summaries},
    table::Table,
};
use crate::{failure::Failure, output};
use control::spec::Span;
use serde_json::{Value, json};
use std::fmt::Write;

/// Why a command was not carried out everywhere.
#[derive(Debug)]
pub(super) struct Failed {
    /// Where it was.
    pub(super) done: Vec<String>,
    told: String,
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Self::general(failed.told)
    }
}

pub(super) fn call(nodes: &Nodes, action: &Action, json: bool) -> Result<(), Failure> {
    refuse(action)?;
    let call = Call::of(action);
    if call.changes != Changes::Nothing && !json {
        return write(nodes, &call)?.map_err(Failed::into);
    }
    let told = ask(nodes, &call)?;
    if json {
        let each = |(name, told): &Told<Value>| {
            let answer = told.as_ref().map_or_else(|failure| json!({ "error": failure.to_string() }), Value::clone);
            (name.clone(), answer)
        };
        output::print(&format!("{:#}\n", Value::Object(told.iter().map(each).collect())))?;
    }
    let (answers, failed) = apart(told, call.changes);
    if !json {
        output::print(&together(action, &call, &answers))?;
    }
    failed.map_err(Failure::from)?;
    if answers.iter().any(|(_, answer)| answer["empty"] == false) {
        return Err(Failure::general(STILL_LEFT));
    }
    Ok(())
}

/// Changes something at each of them, and tells what became of it there. All are tried, for those that are left behind have to
/// be mended anyway, and what was asked for is mostly urgent.
pub(super) fn write(nodes: &Nodes, call: &Call) -> Result<Result<(), Failed>, Failure> {
    let (answers, failed) = apart(ask(nodes, call)?, call.changes);
    output::print(&each(call, &answers))?;
    Ok(failed)
}

fn refuse(action: &Action) -> Result<(), Failure> {
    let makes_keys = matches!(action, Action::RotateKeys | Action::Keys { change: Some(KeyChange::Rotate { .. }) });
    if makes_keys {
        return Err(Failure::general(
            "each node would make another key, and none would open the others' tokens: rotate at one, by --admin, bring its \
             keys file to the others, then `ctl --nodes … reload`",
        ));
    }
    Ok(())
}

/// Changes go to one node after the other; but what waits, and what changes nothing, to all at once.
fn ask(nodes: &Nodes, call: &Call) -> Result<Vec<Told<Value>>, Failure> {
    let writers;
    let nodes = if call.changes == Changes::Desired {
        writers = nodes.writers()?;
        &writers
    } else {
        nodes
    };
    let waits = call.patience > super::client::PATIENCE;
    let told = if call.changes == Changes::Nothing || waits {
        nodes.at_once(|client| call.send(client))
    } else {
        nodes.in_turn(|client| call.send(client))
    };
    Ok(told)
}

/// Answers, and the failures of those that have none.
fn apart(told: Vec<Told<Value>>, changes: Changes) -> (Vec<(String, Value)>, Result<(), Failed>) {
    let (mut answers, mut lines) = (Vec::new(), String::new());
    let of = told.len();
    for (name, told) in told {
        match told {
            Ok(answer) => answers.push((name, answer)),
            Err(failure) => push(&mut lines, format_args!("{name}: {failure}\n")),
        }
    }
    let failed = of - answers.len();
    if failed == 0 {
        return (answers, Ok(()));
    }
    let done: Vec<_> = answers.iter().map(|(name, _)| name.clone()).collect();
    let end = match (changes, done.is_empty()) {
        (Changes::Nothing, true) => format!("none of {of} nodes has answered"),
        (Changes::Nothing, false) => format!("{failed} of {of} nodes have not answered, and are not in what is shown"),
        (_, true) => format!("none of {of} nodes has done it"),
        (_, false) => format!("{failed} of {of} nodes have not done it; it is done at {}", done.join(", ")),
    };
    (answers, Err(Failed { done, told: lines + &end }))
}

fn together(action: &Action, call: &Call, answers: &[(String, Value)]) -> String {
    if answers.is_empty() {
        return String::new();
    }
    if matches!(action, Action::Status) {
        return status(answers);
    }
    // What has sums; shares, estimates by share and reasons have none.
    if matches!(action, Action::Pools | Action::Backends { .. } | Action::Preview { .. }) {
        let Merged { value, differences } = merge(answers);
        return (call.show)(&value) + &told(&differences);
    }
    each(call, answers)
}

fn told(differences: &[String]) -> String {
    let lines: String = differences.iter().map(|each| format!("{each}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// What each says, once where several say the same.
fn each(call: &Call, answers: &[(String, Value)]) -> String {
    let mut said: Vec<(Vec<&str>, String)> = Vec::new();
    for (name, answer) in answers {
        let text = (call.show)(answer);
        match said.iter_mut().find(|(_, other)| *other == text) {
            Some((names, _)) => names.push(name),
            None => said.push((vec![name], text)),
        }
    }
    let indented = |text: &str| -> String {
        text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
    };
    said.iter().map(|(names, text)| format!("{}\n{}", names.join(", "), indented(text))).collect()
}

fn status(answers: &[(String, Value)]) -> String {
    let headings = ["node", "version", "up", "generation", "membership", "workers", "connections"];
    let (mut nodes, mut problems) = (Table::new(headings), String::new());
    let mut sources = Vec::new();
    for (name, answer) in answers {
        let sum = |key: &str| list(&answer["dataplanes"]).filter_map(|each| each[key].as_u64()).sum::<u64>();
        nodes.row([
            name.clone(),
            cell(&answer["version"]),
            Span::from_secs(answer["uptime_seconds"].as_u64().unwrap_or(0)).to_string(),
            cell(&answer["generation"]),
            cell(&answer["source"]),
            sum("workers").to_string(),
            sum("open_connections").to_string(),
        ]);
        for problem in list(&answer["problems"]) {
            push(&mut problems, format_args!("problem at {name}: {}\n", cell(problem)));
        }
        sources.push((name.clone(), answer["pools"].clone()));
    }
    let Merged { value, differences } = merge(&sources);
    let problems = if problems.is_empty() { problems } else { format!("\n{problems}") };
    format!("{nodes}\n{}{problems}{}", pool_summaries(&value), told(&differences))
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::show;

    fn named(answers: [Value; 2]) -> Vec<(String, Value)> {
        ["a:1", "b:1"].map(str::to_owned).into_iter().zip(answers).collect()
    }

    #[test]
    fn who_says_the_same_is_told_once() {
        let call = Call::read("/".to_owned(), |answer| format!("{answer}\n\nend\n"));
        assert_eq!(each(&call, &named([json!(1), json!(1)])), "a:1, b:1\n  1\n\n  end\n");
        assert_eq!(each(&call, &named([json!(1), json!(2)])), "a:1\n  1\n\n  end\nb:1\n  2\n\n  end\n");
    }

    #[test]
    fn who_has_not_done_it_is_told_beside_who_has() {
        let told = || vec![("a:1".to_owned(), Ok(json!(1))), ("b:1".to_owned(), Err(Failure::general("no")))];
        let (answers, failed) = apart(told(), Changes::Desired);
        let failed = failed.unwrap_err();
        assert_eq!((answers.len(), failed.done), (1, vec!["a:1".to_owned()]));
        assert_eq!(failed.told, "b:1: no\n1 of 2 nodes have not done it; it is done at a:1");
        let (_, failed) = apart(told(), Changes::Nothing);
        assert!(failed.unwrap_err().told.ends_with("1 of 2 nodes have not answered, and are not in what is shown"));
    }

    #[test]
    fn a_merged_table_is_followed_by_what_differs() {
        let backends = |state: &str, live: u64| json!([{"name": "x", "admin_state": state, "live_sessions": live}]);
        let action = Action::Backends { pool: "shop".to_owned() };
        let call = Call { show: show::backends, ..Call::of(&action) };
        let text = together(&action, &call, &named([backends("active", 2), backends("draining", 3)]));
        assert!(text.contains("active|draining"), "{text}");
        assert!(text.ends_with("\n\nx: admin state differs: active at a:1; draining at b:1\n"), "{text}");
        assert_eq!(text.lines().nth(1).unwrap().split_whitespace().nth(5), Some("5"), "{text}");
    }
}
