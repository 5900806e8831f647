//! `steadfast check`: every mistake of a file at once, each with its line and what would be right.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path};
use support::{
    Folder, Outcome,
    pki::{Issued, Pki},
    steadfast,
};

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
    assert_eq!(everything, "everything.toml is valid: 3 listeners, 8 pools, 4 backends\n");
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

#[test]
fn what_is_wrong_with_certificates_is_told() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (good, second) = (pki.issue("good", "DNS:a.test"), other.issue("second", "DNS:a.test"));
    let expired = pki.issue_as("expired", "DNS:a.test", "ec", -1);
    let (empty, word) = (pki.folder.write("empty", ""), pki.folder.write("word", "not PEM"));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = pki.folder.write("encrypted", encrypted);
    let torn = pki.folder.write("torn", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let nowhere = pki.folder.path("nowhere");
    let with_key = |key: &Path| Issued { key: key.to_owned(), ..good.clone() }.toml();
    let with_chain = |chain: &Path| Issued { chain: chain.to_owned(), ..good.clone() }.toml();
    let check = |certificates: &[String], more: &str| {
        let text = format!(
            "[global]\nstate_dir = {:?}\nruntime_dir = {:?}\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             pool = \"shop\"\n[listener.tls]\n{more}\ncertificate = [{}]\n[[pool]]\nname = \"shop\"\n",
            pki.folder.path("state"),
            pki.folder.path("run"),
            certificates.join(", ")
        );
        let file = pki.folder.write("steadfast.toml", &text);
        Outcome::of(steadfast(["check", "--config", file.to_str().unwrap()]))
    };
    let bad = [
        (with_key(&second.key), "the key in `FOLDER/second.key` is not that of the certificate in `FOLDER/good.pem`"),
        (with_key(&empty), "there is no private key in `FOLDER/empty`"),
        (with_key(&encrypted), "the key in `FOLDER/encrypted` is encrypted, and nobody is there"),
        (with_key(&nowhere), "there is no file `FOLDER/nowhere`"),
        (with_chain(&nowhere), "there is no file `FOLDER/nowhere`"),
        (with_chain(&word), "there is no certificate in `FOLDER/word`"),
        (with_chain(&torn), "the first certificate in `FOLDER/torn` can't be read"),
        (with_chain(pki.folder.root()), "`FOLDER` can't be read: "),
    ];
    let all: Vec<_> = bad.iter().map(|(certificate, _)| certificate.clone()).collect();
    let outcome = check(&all, &format!("clients = {{ verify = \"required\", ca = {word:?} }}"));
    assert_eq!(outcome.code, Some(64));
    let folders = [(other.folder.root(), "FOLDER"), (pki.folder.root(), "FOLDER")];
    let told = folders.iter().fold(outcome.stderr, |told, (folder, name)| told.replace(folder.to_str().unwrap(), name));
    for (at, (_, wrong)) in bad.iter().enumerate() {
        let here = format!("listener[0].tls.certificate[{at}].");
        let line = told.lines().find(|line| line.contains(&here)).unwrap_or_else(|| panic!("{here} in {told}"));
        assert!(line.contains(wrong) && line.contains("; "), "{line}");
    }
    assert!(
        told.contains("listener[0].tls.clients.ca: there is no certificate in `FOLDER/word`; name a PEM file"),
        "{told}"
    );
    // One that has expired is better than none, and must not keep a machine from starting.
    let outcome = check(&[good.toml(), expired.toml()], "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warned = outcome.stderr.lines().filter(|line| line.contains("has expired; clients will refuse it")).count();
    assert_eq!(warned, 1, "{}", outcome.stderr);
}

#[test]
fn what_is_wrong_with_the_files_of_etcd_is_told() {
    let pki = Pki::new();
    let issued = pki.issue("node", "DNS:node.test");
    let empty = pki.folder.write("password", "\n");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    let nowhere = pki.folder.path("nowhere");
    let check = |endpoint: &str, table: &str| {
        let text = format!(
            "[global]\nstate_dir = {:?}\nruntime_dir = {:?}\n[membership]\nsource = \"etcd\"\n[membership.etcd]\n\
             endpoints = [{endpoint:?}]\n{table}",
            pki.folder.path("state"),
            pki.folder.path("run"),
        );
        let file = pki.folder.write("steadfast.toml", &text);
        Outcome::of(steadfast(["check", "--config", file.to_str().unwrap()]))
    };
    for (table, told) in [
        (format!("user = \"node\"\npassword_file = {empty:?}\n"), "password_file: `FOLDER/password` is empty; write"),
        (format!("user = \"node\"\npassword_file = {nowhere:?}\n"), "password_file: there is no file `FOLDER/nowhere`"),
        (format!("ca_file = {empty:?}\n"), "ca_file: there is no certificate in `FOLDER/password`"),
        (
            format!("cert_file = {nowhere:?}\nkey_file = {:?}\n", issued.key),
            "cert_file: there is no file `FOLDER/nowhere`",
        ),
        (
            format!("cert_file = {:?}\nkey_file = {empty:?}\n", issued.chain),
            "key_file: there is no private key in `FOLDER/password`",
        ),
    ] {
        let outcome = check("https://etcd.test:2379", &table);
        let said = outcome.stderr.replace(pki.folder.root().to_str().unwrap(), "FOLDER");
        assert_eq!(outcome.code, Some(64), "{said}");
        assert!(said.contains(&format!(": membership.etcd.{told}")), "{said}");
    }
    fs::write(&empty, "secret\n").unwrap();
    let outcome = check("http://etcd.test:2379", &format!("user = \"node\"\npassword_file = {empty:?}\n"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the password goes to http://etcd.test:2379 in plain text"), "{}", outcome.stderr);
}
