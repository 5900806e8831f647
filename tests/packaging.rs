//! What packages install, judged by the programs that read it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{fs, path::PathBuf, process::Command};
use support::{Folder, Outcome};

/// The units in a folder, with the program where it is built.
fn units(folder: &Folder) -> [PathBuf; 2] {
    ["steadfast.service", "steadfast-web.socket"].map(|name| {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(name);
        let text = fs::read_to_string(from).unwrap().replace("/usr/bin/steadfast", env!("CARGO_BIN_EXE_steadfast"));
        folder.write(name, &text)
    })
}

#[track_caller]
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Outcome {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).args(units);
    let outcome = Outcome::of(command);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
    outcome
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = Folder::new();
    let verified = analyze(&["verify", "--man=no", "--recursive-errors=no"], &units(&folder));
    assert_eq!(verified.stderr, "");
}

#[test]
fn the_service_is_kept_to_what_it_needs() {
    let folder = Folder::new();
    let [service, _] = units(&folder);
    // Its measure of what a service could do beyond its work, in tenths: 96 without any setting.
    analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"], &[service]);
}

#[test]
fn logrotate_understands_its_rules() {
    let folder = Folder::new();
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/logrotate/steadfast");
    let log = folder.write("access.log", "a line\n");
    let text = fs::read_to_string(from).unwrap().replace("/var/log/steadfast/*.log", log.to_str().unwrap());
    let rules = folder.write("rules", &text);
    let state = folder.path("state");
    let mut command = Command::new("logrotate");
    command.args(["--force", "--verbose", "--state"]).arg(&state).arg(&rules);
    let outcome = Outcome::of(command);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stderr.contains("error"), "{outcome:?}");
    assert!(folder.path("access.log.1").exists() && !log.exists(), "{outcome:?}");
}
