//! The rules of the house that no compiler holds.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The libraries; the root package stands beside them.
const MEMBERS: [&str; 6] = ["control", "affinity", "certificates", "dataplane", "admin", "bench"];

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 70;

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below these folders of the repository whose names end so, in order.
fn sources(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !matches!(name, "target" | ".git" | ".venv" | ".node" | "corpus") {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty());
    found
}

/// All Rust of the project but this file, which names what it forbids.
fn rust() -> Vec<Source> {
    let all = sources(&[""], &[".rs"]);
    all.into_iter().filter(|source| source.path != "tests/tidy.rs").collect()
}

/// Lines of code, with their numbers: comments and empty lines are left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
}

/// Fails with every line of these sources that contains one of the words.
#[track_caller]
fn forbid<'s>(sources: impl IntoIterator<Item = &'s Source>, words: &[&str], why: &str) {
    let mut found = Vec::new();
    for Source { path, text } in sources {
        for (number, line) in code(text) {
            found.extend(
                words.iter().filter(|word| has_word(line, word)).map(|word| format!("{path}:{number}: {word}")),
            );
        }
    }
    assert!(found.is_empty(), "{why}\n{}", found.join("\n"));
}

/// Whether the word is there and does not merely end another name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') || !word.starts_with(|c: char| c.is_alphanumeric())
    })
}

#[test]
fn files_are_short() {
    let own = sources(&[""], &[".rs", ".js", ".css"]).into_iter().filter(|source| !source.path.contains("/vendor/"));
    for Source { path, text } in own {
        let lines = text.lines().count();
        assert!(lines <= MAX_FILE, "{path} has {lines} lines; {MAX_FILE} are the most");
    }
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for Source { path, text } in sources(&[""], &[".rs"]) {
        let mut open: Vec<(usize, usize, usize)> = Vec::new();
        for (number, line) in code(&text) {
            let indent = line.len() - line.trim_start().len();
            open.iter_mut().for_each(|(_, _, lines)| *lines += 1);
            if line.trim() == "}" && open.last().is_some_and(|(_, at, _)| *at == indent) {
                let (start, _, lines) = open.pop().unwrap();
                // Neither the signature's line nor the closing brace.
                if lines - 1 > MAX_FUNCTION {
                    long.push(format!("{path}:{start}: {} lines", lines - 1));
                }
            }
            let words = line.trim_start().split(' ').take_while(|word| *word != "fn");
            let is_modifier = |word: &str| word.starts_with("pub") || matches!(word, "const" | "async" | "unsafe");
            let starts = line.contains("fn ") && words.clone().count() < 5 && words.clone().all(is_modifier);
            if starts && !line.trim_end().ends_with(['}', ';']) {
                open.push((number, indent, 0));
            }
        }
    }
    assert!(long.is_empty(), "{MAX_FUNCTION} lines are the most\n{}", long.join("\n"));
}

/// The names under `[dependencies]` of a package.
fn dependencies(package: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

#[test]
fn layers_hold() {
    let allowed: BTreeMap<_, Vec<&str>> = BTreeMap::from([
        ("control", vec![]),
        ("affinity", vec!["control"]),
        ("certificates", vec!["control"]),
        ("dataplane", vec!["control", "affinity", "certificates"]),
        ("admin", vec!["control", "affinity", "certificates"]),
        ("bench", vec!["control", "affinity", "dataplane", "admin"]),
    ]);
    for (package, allowed) in allowed {
        let own: Vec<_> = dependencies(package).into_iter().filter(|name| MEMBERS.contains(&name.as_str())).collect();
        let forbidden: Vec<_> = own.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(forbidden.is_empty(), "{package} must not know {forbidden:?}");
    }
    // Tests alone see both processes at once, and nothing that ships has the seams that they take hold of.
    let simulation: toml::Table = fs::read_to_string(root().join("simulation/Cargo.toml")).unwrap().parse().unwrap();
    assert!(!simulation.contains_key("dependencies") && simulation.contains_key("dev-dependencies"));
    for package in MEMBERS.into_iter().chain([""]) {
        let text = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        assert!(!text.contains("features = [\"simulation\"]"), "{package}");
    }
    let serde_family = ["base64", "serde", "serde_json", "utoipa"];
    for name in dependencies("control") {
        assert!(serde_family.contains(&name.as_str()), "control has serde alone, and not {name}");
    }
}

#[test]
fn runtimes_stay_where_they_live() {
    for (home, crates) in
        [("dataplane", ["monoio", "io-uring"].as_slice()), ("admin", &["axum", "tokio", "redb", "utoipa-axum"])]
    {
        for package in ["", "control", "affinity", "certificates", "dataplane", "admin"] {
            let known = dependencies(package);
            let is_runtime = |name: &&&str| known.contains(**name) && (package, **name) != ("dataplane", "tokio");
            let strangers: Vec<_> = crates.iter().filter(is_runtime).collect();
            assert!(package == home || strangers.is_empty(), "{strangers:?} must not leave {home}: see `{package}`");
        }
        let others: Vec<_> = rust().into_iter().filter(|source| !source.path.starts_with(home)).collect();
        let others = others.iter().filter(|source| !source.path.starts_with("bench/"));
        let paths: Vec<_> = crates.iter().map(|name| format!("{}::", name.replace('-', "_"))).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        // h2 reads and writes by traits of tokio, which are not its runtime.
        let others = others.filter(|source| source.path != "dataplane/src/http2/wire.rs");
        forbid(others, &paths, &format!("these live in {home} and nowhere else"));
    }
}

#[test]
fn decisions_know_no_clock_no_chance_and_no_socket() {
    let pure = sources(&["affinity/src", "dataplane/src/http1"], &[".rs"]);
    let words = [
        "Instant",
        "SystemTime",
        "getrandom",
        "RandomState",
        "thread_rng",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "std::fs",
        "std::env",
        "std::thread",
        "std::process",
    ];
    forbid(&pure, &words, "`now`, seeds and bytes are arguments here");
}

#[test]
fn tests_wait_for_conditions() {
    let mut tests = Vec::new();
    for source in rust() {
        if source.path.starts_with("tests/") || source.path.ends_with("tests.rs") {
            tests.push(source);
        } else if let Some((_, text)) = source.text.split_once("#[cfg(test)]\nmod tests {") {
            tests.push(Source { text: text.to_owned(), ..source });
        }
    }
    forbid(&tests, &["sleep("], "wait for a condition instead, as support::eventually does");
}

#[test]
fn no_string_becomes_html() {
    let page: Vec<_> = sources(&["admin/src/dashboard/page"], &[".js", ".html"]);
    let own = page.iter().filter(|source| !source.path.contains("/vendor/"));
    let words = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "style=\"",
        "onclick=",
        "http://",
        "https://",
    ];
    forbid(own, &words, "text is text, styles and scripts are files, and nobody else is asked");
}

#[test]
fn nothing_is_left_to_do() {
    forbid(&rust(), &["todo!", "unimplemented!", "dbg!", "FIXME", "XXX"], "finish it");
}

#[test]
fn every_file_is_compiled() {
    for package in MEMBERS.into_iter().chain([""]) {
        let folder = Path::new(package).join("src");
        for Source { path, .. } in sources(&[folder.to_str().unwrap()], &[".rs"]) {
            let path = Path::new(&path);
            let (stem, parent) = (path.file_stem().unwrap().to_str().unwrap(), path.parent().unwrap());
            let (name, parent) = match stem {
                "lib" | "main" if parent == folder => continue,
                "mod" => (parent.file_name().unwrap().to_str().unwrap(), parent.parent().unwrap()),
                stem => (stem, parent),
            };
            if parent == folder.join("bin") {
                continue;
            }
            let holders =
                [parent.join("mod.rs"), parent.with_extension("rs"), parent.join("lib.rs"), parent.join("main.rs")];
            let declared =
                holders.iter().filter_map(|holder| fs::read_to_string(root().join(holder)).ok()).any(|text| {
                    text.lines().any(|line| {
                        let line = line.trim();
                        line.ends_with(&format!("mod {name};")) && !line.starts_with("//")
                    })
                });
            assert!(declared, "{} belongs to nothing", path.display());
        }
    }
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let all = sources(&[""], &[".rs", ".md", ".toml", ".nix", ".sh", ".py", ".stderr"]);
    for Source { path, text } in all.iter().filter(|source| source.path != "tests/tidy.rs") {
        for (at, line) in text.lines().enumerate() {
            for folder in ["/root/", "/home/"] {
                assert!(!line.contains(folder), "{path}:{}: {folder} is a folder of one machine", at + 1);
            }
        }
    }
}
