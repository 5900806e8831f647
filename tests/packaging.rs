//! What packages install, judged by the programs that read it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use support::{Folder, Outcome, steadfast};

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

#[test]
fn manual_pages_are_there_for_each_command_and_say_what_it_takes() {
    let folder = Folder::new();
    let pages = folder.path("man");
    let written = Outcome::of(steadfast(["man", pages.to_str().unwrap()]));
    assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""));
    let files: BTreeSet<_> = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    for name in
        ["steadfast.1", "steadfast-run.1", "steadfast-ctl.1", "steadfast-ctl-top.1", "steadfast-ctl-keys-rotate.1"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("demo-backend")), "it is nobody's to type: {names:?}");
    let drain = fs::read_to_string(pages.join("steadfast-ctl-drain.1")).unwrap();
    assert!(drain.contains("deadline") && drain.contains("STEADFAST_ADMIN"), "{drain}");
    for file in &files {
        // As Debian judges the pages of packages: nothing to warn of, and a name and a purpose that `apropos` finds.
        let file = file.to_str().unwrap();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file]);
        man.envs([("LC_ALL", "C.UTF-8"), ("MANROFFSEQ", ""), ("MANWIDTH", "80")]);
        let judged = Outcome::of(man);
        assert_eq!((judged.code, judged.stderr.as_str()), (Some(0), ""), "{file}");
        let mut lexgrog = Command::new("lexgrog");
        lexgrog.arg(file);
        let purpose = Outcome::of(lexgrog);
        assert!(purpose.code == Some(0) && purpose.stdout.contains(" - "), "{purpose:?}");
    }
}

#[test]
fn a_folder_that_can_not_be_written_is_told() {
    let outcome = Outcome::of(steadfast(["man", "/dev/null/man"]));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.starts_with("can't write the manual pages into /dev/null/man: "), "{outcome:?}");
}

#[test]
fn the_image_is_well_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let linter = root.join("tests/.venv/bin/hadolint");
    assert!(linter.exists(), "no {}: run tests/run, which installs it", linter.display());
    let mut hadolint = Command::new(linter);
    hadolint.arg(root.join("packaging/Dockerfile"));
    let linted = Outcome::of(hadolint);
    assert_eq!((linted.code, linted.stdout.as_str()), (Some(0), ""), "{linted:?}");
    // What is built from has to be let in.
    let ignored = fs::read_to_string(root.join("packaging/Dockerfile.dockerignore")).unwrap();
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let line = format!("!{}", member.as_str().unwrap());
        assert!(ignored.lines().any(|each| each == line), "{line} is not in Dockerfile.dockerignore");
    }
}
