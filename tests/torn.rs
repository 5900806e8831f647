//! Disks that are full or can't be written, and files that are cut short or changed: what was acknowledged is there, or the start
//! says which file is to be mended; nobody panics, and traffic goes on.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{fs, io::Write, net::TcpStream, path::Path};
use support::{
    Instance, Running, Setup, eventually,
    http::{Connection, get},
    namespace::{Own, apart, run},
    peers::Nginx,
    steadfast,
};

const QUIET: &str = "health.check = \"off\"";

/// With a state folder on a disk of its own, of 8 MiB.
fn on_a_small_disk(nginx: &Nginx) -> Instance {
    let setup = Setup::shop(QUIET, nginx.backends.clone());
    let state = setup.folder().path("state");
    fs::create_dir(&state).unwrap();
    run(&["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", state.to_str().unwrap()]);
    setup.start()
}

fn put(instance: &Instance, name: &str) -> (u16, Value) {
    let path = format!("/v1/pools/shop/backends/{name}");
    instance.api("PUT", &path, Some(json!({ "address": "127.0.0.1:9", "weight": 0 })))
}

/// Puts backends until one is refused; those that were acknowledged, and what became of the last.
fn put_until_refused(instance: &Instance) -> (Vec<String>, String, Value) {
    let mut acknowledged = Vec::new();
    for number in 0..20_000 {
        let name = format!("kept-{number}");
        let (status, answer) = put(instance, &name);
        if status != 201 {
            assert_eq!(status, 503, "{answer}");
            return (acknowledged, name, answer);
        }
        acknowledged.push(name);
    }
    panic!("a disk that is full takes all of it");
}

#[track_caller]
fn has(instance: &Instance, acknowledged: &[String]) {
    let (_, stored) = instance.api("GET", "/v1/pools/shop/backends", None);
    let stored = stored.to_string();
    let missing: Vec<_> = acknowledged.iter().filter(|name| !stored.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "of {} that were acknowledged: {missing:?}", acknowledged.len());
}

/// Whether the admin process answers that it is ready.
fn is_ready(instance: &Instance) -> Option<()> {
    TcpStream::connect(instance.admin()).ok()?;
    let mut connection = Connection::open(&instance.admin());
    connection.try_send(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    connection.response(false).ok().filter(|answer| answer.status == 200).map(|_| ())
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    apart(Own::Mounts, || {
        let nginx = Nginx::start(&["a"]);
        let instance = on_a_small_disk(&nginx);
        let web = instance.listener("web");
        assert_eq!(put(&instance, "before").0, 201);
        let filler = instance.folder.path("state/filler");
        let fill = || {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
            while file.write_all(&[0; 512]).is_ok() {}
        };
        fill();
        let (mut acknowledged, refused, answer) = put_until_refused(&instance);
        acknowledged.push("before".to_owned());
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains("admin.redb can't be written: ") && detail.contains("space"), "{answer}");
        let (status, _) = instance.api("GET", &format!("/v1/pools/shop/backends/{refused}"), None);
        assert_eq!(status, 404, "what was refused has changed nothing");
        has(&instance, &acknowledged);
        assert_eq!(get(&web, "/", &[]).text(), "a");
        // The next life of the admin process, and of the data plane, is there with all of it.
        for role in ["admin", "dataplane"] {
            let killed = instance.signal(role, Signal::KILL);
            instance.replaced(role, killed);
            assert_eq!(get(&web, "/", &[]).text(), "a");
        }
        fs::remove_file(&filler).unwrap();
        eventually("the admin process is back", || is_ready(&instance));
        has(&instance, &acknowledged);
        eventually("there is room again", || (put(&instance, &refused).0 == 201).then_some(()));
        let log = instance.process.stderr();
        assert!(!log.contains("panicked"), "{log}");
    });
}

#[test]
fn a_disk_that_can_not_be_written_is_told_and_serves_on() {
    apart(Own::Mounts, || {
        let nginx = Nginx::start(&["a"]);
        let instance = on_a_small_disk(&nginx);
        let web = instance.listener("web");
        assert_eq!(put(&instance, "kept").0, 201);
        let state = instance.folder.path("state");
        let remount = |how: &str| run(&["mount", "-o", &format!("remount,{how}"), state.to_str().unwrap()]);
        // A mount is made read-only while nobody has a file open for writing.
        let killed = instance.signal("admin", Signal::STOP);
        instance.signal("dataplane", Signal::KILL);
        instance.signal("admin", Signal::KILL);
        eventually("nobody has a file open for writing", || {
            let to = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&state).output().unwrap();
            to.status.success().then_some(())
        });
        // Fixed: a data plane that died while the disk could not be written did not start again.
        assert_eq!(get(&web, "/", &[]).text(), "a", "by the snapshot");
        eventually("the file is named", || {
            let log = instance.process.stderr();
            assert!(!log.contains("panicked"), "{log}");
            log.lines().any(|line| line.contains("admin.redb") && line.contains("Read-only file system")).then_some(())
        });
        remount("rw");
        instance.replaced("admin", killed);
        eventually("the admin process is back", || is_ready(&instance));
        has(&instance, &["kept".to_owned()]);
        eventually("and writes", || (put(&instance, "later").0 == 201).then_some(()));
    });
}

/// Ways to harm a store: what is done, and the bytes that it then has.
fn harmed(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let length = bytes.len();
    let mut all = Vec::new();
    for part in 0..6 {
        let at = length * part / 6 + 7 * part;
        all.push((format!("cut at {at}"), bytes[..at].to_vec()));
    }
    for part in 0..8 {
        let at = length * part / 8 + 131 * part % 97;
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (part % 8);
        all.push((format!("a flipped bit at {at}"), flipped));
    }
    let mut zeros = bytes.to_vec();
    zeros[length / 3..length / 2].fill(0);
    all.push(("zeros in the middle".to_owned(), zeros));
    all
}

#[test]
fn a_store_that_was_harmed_is_read_as_it_was_or_refused_with_what_to_do() {
    let nginx = Nginx::start(&["a"]);
    let mut instance = Setup::shop(QUIET, nginx.backends.clone()).start();
    let names: Vec<_> = (0..40).map(|number| format!("kept-{number}")).collect();
    names.iter().for_each(|name| assert_eq!(put(&instance, name).0, 201));
    instance.process.signal(Signal::TERM);
    instance.process.ended();
    let (path, snapshot) = (instance.folder.path("state/admin.redb"), instance.folder.path("state/dataplane.json"));
    let (whole, of_dataplane) = (fs::read(&path).unwrap(), fs::read(&snapshot).unwrap());
    let file = instance.folder.path("steadfast.toml");
    let (mut read, mut refused) = (0, 0);
    for (what, bytes) in harmed(&whole) {
        // An empty file is a store that was just made: see the store's own tests.
        if bytes.is_empty() {
            continue;
        }
        fs::write(&path, &bytes).unwrap();
        fs::write(&snapshot, &of_dataplane).unwrap();
        drop(fs::remove_file(instance.folder.path("run/addresses.json")));
        instance.process = Running::start(steadfast(["run", "--config", file.to_str().unwrap()]));
        let starts = eventually("it starts or refuses to", || {
            if instance.process.has_ended() {
                return Some(false);
            }
            let own = fs::read(instance.folder.path("run/processes.json")).unwrap_or_default();
            let own: Value = serde_json::from_slice(&own).unwrap_or_default();
            let ready = own["supervisor"] == instance.process.pid() && listens(&instance.folder.path("run"));
            ready.then_some(true)
        });
        if starts {
            read += 1;
            has(&instance, &names);
            instance.process.signal(Signal::TERM);
        } else {
            refused += 1;
        }
        instance.process.ended();
        let log = instance.process.stderr();
        assert!(!log.contains("panicked"), "{what}: {log}");
        let told = log.lines().last().unwrap_or_default();
        let mend = "restore it from a backup, or move it away to begin with an empty one";
        assert!(starts || told.contains(path.to_str().unwrap()) && told.contains(mend), "{what}: {log}");
    }
    support::figure(format_args!("{read} were read as they were, {refused} refused"));
    assert!(refused > 0);
}

fn listens(run: &Path) -> bool {
    run.join("addresses.json").exists()
}

#[test]
fn a_snapshot_that_was_harmed_is_never_served_by() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop(QUIET, nginx.backends.clone()).start();
    let web = instance.listener("web");
    let (_, answer) = instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None);
    assert_eq!(answer["applied"], json!(true), "{answer}");
    let path = instance.folder.path("state/dataplane.json");
    let whole = fs::read(&path).unwrap();
    instance.signal("admin", Signal::STOP);
    let told = || instance.process.stderr().matches("the snapshot can't be read").count();
    // Every byte of it is gone through beside `snapshot.rs`; here it is the process that starts with such a file.
    let changed = String::from_utf8(whole.clone()).unwrap().replace("maintenance", "active");
    for (what, bytes) in [("cut", &whole[..whole.len() / 2]), ("empty", b""), ("changed", changed.as_bytes())] {
        let before = told();
        // As one who dies meanwhile would leave it: another file in its place.
        fs::write(path.with_extension("harmed"), bytes).unwrap();
        fs::rename(path.with_extension("harmed"), &path).unwrap();
        let killed = instance.signal("dataplane", Signal::KILL);
        let next = instance.replaced("dataplane", killed);
        eventually(&format!("the snapshot is refused: {what}"), || (told() > before).then_some(()));
        assert!(Path::new(&format!("/proc/{next}")).exists());
    }
    // What waits meanwhile is served once the admin process is there.
    let mut waiting = Connection::open(&web);
    waiting.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    instance.signal("admin", Signal::CONT);
    assert_eq!(waiting.response(false).unwrap().text(), "b");
    let log = instance.process.stderr();
    assert!(!log.contains("panicked") && log.contains("dataplane.json"), "{log}");
}
