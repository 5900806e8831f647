//! The admin API over TLS: for `curl`, browsers and `ctl`, and with a certificate that is renewed while it runs.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::{fs, io::Write, net::TcpStream, process::Command};
use support::{Instance, Outcome, Setup, backend::read_head, eventually, pki::Pki, steadfast};

fn start(pki: &Pki) -> (Instance, support::pki::Issued) {
    let issued = pki.issue("admin", "DNS:localhost,IP:127.0.0.1");
    let admin = format!("listen = \"127.0.0.1:0\"\ntls = {{ chain = {:?}, key = {:?} }}", issued.chain, issued.key);
    (Setup::shop("", [("a", "127.0.0.1:1")]).admin(&admin).start(), issued)
}

fn curl(instance: &Instance, pki: &Pki, more: &[&str]) -> Outcome {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--cacert"]).arg(pki.ca()).args(more);
    command.arg(format!("https://{}/v1/status", instance.admin()));
    Outcome::of(command)
}

#[test]
fn whoever_trusts_its_authority_gets_an_answer_and_plain_text_gets_none() {
    let pki = Pki::new();
    let (instance, _) = start(&pki);
    let answer = curl(&instance, &pki, &[]);
    assert!(answer.code == Some(0) && answer.stdout.contains("\"dataplanes\""), "{answer:?}");
    let ca = pki.ca();
    let ctl = |arguments: &[&str]| {
        let address = format!("https://{}", instance.admin());
        Outcome::of(steadfast(["ctl", "--admin", &address].into_iter().chain(arguments.iter().copied())))
    };
    let weight = ctl(&["--ca", ca.to_str().unwrap(), "weight", "shop", "a", "7"]);
    assert_eq!(weight.code, Some(0), "{weight:?}");
    let shown = ctl(&["--ca", ca.to_str().unwrap(), "--json", "backends", "shop"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown.stdout).unwrap()[0]["weight"], json!(7));
    let stranger = Pki::new();
    let refused = ctl(&["--ca", stranger.ca().to_str().unwrap(), "status"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("certificate"), "{refused:?}");
    let missing = ctl(&["--ca", "/none.pem", "status"]);
    assert!(missing.code == Some(1) && missing.stderr.contains("--ca: "), "{missing:?}");
    let mut plain = TcpStream::connect(instance.admin()).unwrap();
    plain.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_head(&mut plain).is_none_or(|head| !head.starts_with("HTTP/")));
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let pki = Pki::new();
    let (instance, issued) = start(&pki);
    let serial = || {
        let told = curl(&instance, &pki, &["-w", "%{certs}", "-o", "/dev/null"]);
        assert_eq!(told.code, Some(0), "{told:?}");
        told.stdout.lines().find(|line| line.starts_with("Serial Number:")).unwrap().to_owned()
    };
    let before = serial();
    issued.replace_with(&pki.issue("renewed", "DNS:localhost,IP:127.0.0.1"));
    let renewed = eventually("the renewed one is shown", || Some(serial()).filter(|serial| *serial != before));
    fs::write(&issued.chain, "no certificate").unwrap();
    assert_eq!(serial(), renewed);
    eventually("that is told", || instance.process.stderr().contains("admin.tls can't be read anew").then_some(()));
}

#[test]
fn what_can_not_be_is_told_before_it_starts() {
    let pki = Pki::new();
    let issued = pki.issue("admin", "DNS:localhost");
    let check = |listen: &str, chain: &std::path::Path| {
        let folder = support::Folder::new();
        let text = format!(
            "[global]\nstate_dir = {:?}\nruntime_dir = {:?}\n[admin]\nlisten = \"{listen}\"\ntls = {{ chain = {chain:?}, key = {:?} }}\n",
            folder.path("state"),
            folder.path("run"),
            issued.key
        );
        let file = folder.write("steadfast.toml", &text);
        Outcome::of(steadfast(["check", "--config", file.to_str().unwrap()]))
    };
    let right = check("127.0.0.1:9090", &issued.chain);
    assert_eq!(right.code, Some(0), "{right:?}");
    let unix = check("unix:/tmp/x", &issued.chain);
    assert!(unix.code == Some(64) && unix.stderr.contains("admin.tls: is for a TCP address"), "{unix:?}");
    let missing = check("127.0.0.1:9090", std::path::Path::new("/none.pem"));
    assert!(missing.code == Some(64) && missing.stderr.contains(":6: admin.tls.chain: "), "{missing:?}");
}
