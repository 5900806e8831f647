//! `steadfast check`: every mistake of a file at once, each with its line and what would be right.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path};
use support::{Folder, Outcome, steadfast};

fn files(kind: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(kind);
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names.filter(|name| name.ends_with(".toml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn check_alone(kind: &str, file: &str) -> Outcome {
    let mut command = steadfast(["check", "--file-only", "--config", file]);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(kind));
    Outcome::of(command)
}

#[test]
fn a_valid_file_is_told_in_one_line() {
    for file in files("valid") {
        let Outcome { code, stdout, stderr } = check_alone("valid", &file);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{file}");
        assert!(stdout.starts_with(&format!("{file} is valid: ")) && stdout.lines().count() == 1, "{stdout}");
    }
    let everything = check_alone("valid", "everything.toml").stdout;
    assert_eq!(everything, "everything.toml is valid: 3 listeners, 8 pools, 3 backends\n");
    assert_eq!(check_alone("valid", "minimal.toml").stdout, "minimal.toml is valid: 1 listener, 1 pool, 0 backends\n");
}

/// `STEADFAST_BLESS=1 cargo test --test check` writes what is said now; read it before it is kept.
#[test]
fn every_mistake_of_an_invalid_file_is_told() {
    for file in files("invalid") {
        let Outcome { code, stdout, stderr } = check_alone("invalid", &file);
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{file}: {stderr}");
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/invalid").join(&file);
        let expected = expected.with_extension("stderr");
        if env::var_os("STEADFAST_BLESS").is_some() {
            fs::write(&expected, &stderr).unwrap();
        }
        assert_eq!(stderr, fs::read_to_string(&expected).unwrap_or_default(), "{file}");
    }
}

#[test]
fn the_example_in_the_repository_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("steadfast.toml");
    let outcome = Outcome::of(steadfast(["check", "--file-only", "--config", example.to_str().unwrap()]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let outcome = Outcome::of(steadfast(["check", "--config", "/nowhere/steadfast.toml"]));
    assert_eq!(outcome.code, Some(64));
    assert!(outcome.stderr.starts_with("/nowhere/steadfast.toml: there is no such file; "), "{}", outcome.stderr);
}

#[test]
fn what_only_the_machine_knows_is_told_too() {
    let folder = Folder::new();
    let (plain, token, keys) = (folder.path("plain"), folder.path("token"), folder.path("keys"));
    fs::write(&plain, "").unwrap();
    fs::write(&token, "\n").unwrap();
    fs::write(&keys, "").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o604)).unwrap();
    let long = folder.path(&"x".repeat(120));
    let file = folder.write(
        "steadfast.toml",
        &format!(
            "[global]\nstate_dir = {:?}\nruntime_dir = {long:?}\nkeys_file = {keys:?}\n[admin]\ntoken_file = {token:?}\nlisten = 5\n",
            plain.join("below"),
        ),
    );
    let outcome = Outcome::of(steadfast(["check", "--config", file.to_str().unwrap()]));
    assert_eq!(outcome.code, Some(64));
    let told: Vec<_> = outcome.stderr.lines().filter_map(|line| line.strip_prefix(file.to_str().unwrap())).collect();
    let wants = [
        (":2: global.state_dir: ", "is no folder; set global.state_dir to a folder that you may write to"),
        (":3: global.runtime_dir: ", "too long for a socket"),
        (":4: global.keys_file: ", "others than its owner can read or write `"),
        (":6: admin.token_file: ", "(mode 0644); chmod 600 "),
        (":6: admin.token_file: ", "is empty"),
        (":7: admin.listen: ", "is the integer `5`"),
    ];
    let told: Vec<_> = told.into_iter().filter(|line| !line.starts_with(": warning")).collect();
    assert_eq!(told.len(), wants.len(), "{}", outcome.stderr);
    for (line, (start, part)) in told.iter().zip(wants) {
        assert!(line.starts_with(start) && line.contains(part), "{line}\nshould tell {start}…{part}");
    }
}
