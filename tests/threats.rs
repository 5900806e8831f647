//! THREATS.md keeps to what is there: each promise has a test, and each dependency a reason.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{collections::BTreeSet, path::Path};
use toml::{Table, Value};

const THREATS: &str = include_str!("../THREATS.md");
const MEMBERS: [&str; 7] = ["", "control", "affinity", "certificates", "sandbox", "dataplane", "admin"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The cells of each row of the tables whose head ends with this column.
fn rows(column: &str) -> Vec<Vec<&'static str>> {
    let mut rows = Vec::new();
    for part in THREATS.split("\n\n") {
        let mut lines = part.lines().filter(|line| line.starts_with('|'));
        if lines.next().is_some_and(|head| head.ends_with(&format!("| {column} |"))) {
            rows.extend(lines.skip(1).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()));
        }
    }
    assert!(!rows.is_empty(), "no table ends with {column}");
    rows
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_promise_names_tests_that_are_there() {
    for row in rows("held by") {
        let tests: Vec<_> = quoted(row[2]).collect();
        assert!(row.len() == 3 && !tests.is_empty(), "{row:?}");
        for path in tests {
            assert!(root().join(path).exists(), "there is no {path}, which is to hold: {}", row[0]);
        }
    }
}

#[test]
fn each_direct_dependency_has_a_reason_and_no_other_is_listed() {
    let listed: Vec<_> =
        rows("instead").iter().flat_map(|row| quoted(row[0])).filter(|name| *name != "mimalloc").collect();
    let found: BTreeSet<_> = MEMBERS.iter().flat_map(|member| dependencies(member)).collect();
    assert_eq!(listed.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), found);
    assert_eq!(listed.len(), found.len(), "none stands twice");
}

/// What a member's program is made of, but for other members.
fn dependencies(member: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
    let manifest: Table = text.parse().unwrap();
    let names = manifest["dependencies"].as_table().map(Table::keys).unwrap();
    names.filter(|name| !MEMBERS.contains(&name.as_str())).cloned().collect()
}

#[test]
fn the_policy_links_to_what_is_promised_and_back() {
    let policy = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    assert!(policy.contains("(THREATS.md)") && THREATS.contains("(SECURITY.md)"));
    let advisory = policy.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let advisory: Table = advisory.parse().unwrap();
    assert!(matches!(&advisory["advisory"], Value::Table(table) if table["package"].as_str() == Some("steadfast")));
    assert!(advisory["versions"].get("patched").is_some());
}
