//! The socket between the two processes, with somebody else at either end: garbage, dribbles and lines that never end harm
//! neither of them, and traffic not at all.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use control::message::{PROTOCOL, ToAdmin, ToDataplane, to_line};
use rustix::process::Signal;
use serde_json::json;
use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use support::{PATIENCE, Setup, callers::Callers, callers::sum, eventually, http::get, peers::Nginx, resident};

const QUIET: &str = "health.check = \"off\"";

fn hello(pid: u32) -> Vec<u8> {
    let (version, workers, started) = ("9".to_owned(), 1, 1);
    to_line(&ToAdmin::Hello {
        protocol: PROTOCOL,
        version,
        pid,
        workers,
        generation: 0,
        started,
        sketches: false,
        sandbox: None,
    })
}

/// Bytes by chance, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x5EED_u64;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

#[test]
fn strangers_at_the_socket_of_the_admin_process_harm_neither_it_nor_traffic() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop(QUIET, nginx.backends.clone()).start();
    let callers = Callers::start(&instance.listener("web"), 4);
    let path = instance.folder.path("run/control.sock");
    let admin = instance.pid("admin");
    let before = resident(admin);
    let connect = || UnixStream::connect(&path).unwrap();
    let writes = |weight: u32| {
        let (status, answer) = instance.api("PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": weight })));
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    };

    for round in 0..20 {
        let mut stream = connect();
        // Whether it is told or cut off in the middle of it, it is closed.
        drop(stream.write_all(&noise(1 << 16)));
        drop(stream.write_all(b"\n"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
        // Half a hello, half a line behind a hello, and gone.
        let whole = hello(1);
        let mut stream = connect();
        drop(stream.write_all(&whole[..whole.len() / 2]));
        let mut stream = connect();
        drop(stream.write_all(&[whole.as_slice(), &b"{\"type\":\"applied\",\"gen"[..]].concat()));
        drop(stream);
        writes(2 + round % 2);
    }
    // More of those that say nothing than it takes: they hold up nobody.
    let mut silent: Vec<_> = (0..100).map(|_| connect()).collect();
    writes(3);
    // One that dribbles stands where it is, and one whose line never ends is cut off.
    silent.truncate(1);
    silent[0].write_all(b"{").unwrap();
    eventually("there is room for another", || {
        let mut endless = connect();
        endless.write_all(&hello(2)).ok()?;
        let mut first = [0];
        endless.read_exact(&mut first).ok()?;
        let piece = vec![b'x'; 1 << 20];
        (0..80).any(|_| endless.write_all(&piece).is_err()).then_some(())
    });
    writes(4);
    // The longest line that is taken has 64 MiB, and what has held one is given back, if not at once.
    let grown = eventually("the admin process gives back what it needed", || {
        writes(5);
        let grown = resident(admin).saturating_sub(before);
        (grown < 32 << 20).then_some(grown)
    });
    support::figure(format_args!("the admin process has grown by {} MiB", grown >> 20));
    assert_eq!(instance.pid("admin"), admin);
    let seen = sum(&callers.end());
    assert!(seen.served > 0 && seen.lost() == 0 && seen.moved == 0, "{seen:?}");
}

/// What somebody in the place of the admin process says to the first data plane that connects, the second, and so on.
fn impostor(path: &std::path::Path, lines: Vec<Vec<u8>>) -> (Arc<AtomicUsize>, Arc<Mutex<Vec<UnixStream>>>) {
    let listener = UnixListener::bind(path).unwrap();
    let (heard, held) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<UnixStream>>>::default());
    let (count, keep) = (Arc::clone(&heard), Arc::clone(&held));
    thread::spawn(move || {
        for (mut stream, line) in listener.incoming().flatten().zip(lines.into_iter().cycle()) {
            drop(stream.write_all(&line));
            count.fetch_add(1, Ordering::Relaxed);
            keep.lock().unwrap().push(stream);
        }
    });
    (heard, held)
}

#[test]
fn a_data_plane_that_hears_nonsense_serves_by_its_last_snapshot() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop(QUIET, nginx.backends.clone()).start();
    let web = instance.listener("web");
    let (_, answer) = instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None);
    assert_eq!(answer["applied"], json!(true), "{answer}");
    let (path, aside) = (instance.folder.path("run/control.sock"), instance.folder.path("run/aside.sock"));
    instance.signal("admin", Signal::STOP);
    std::fs::rename(&path, &aside).unwrap();
    let greeting = to_line(&ToDataplane::Hello { protocol: PROTOCOL, version: "9".into() });
    let after = |more: &[u8]| [greeting.as_slice(), more].concat();
    let lines = vec![
        noise(1 << 16),
        b"\n".to_vec(),
        to_line(&ToDataplane::Hello { protocol: PROTOCOL + 1, version: "9".into() }),
        to_line(&ToDataplane::Report),
        after(&[b"{\"type\":\"snapshot\",\"snapshot\":{}}\n".as_slice(), &noise(100)].concat()),
        after(b"{\"type\":\"snapshot\",\"snapshot\":{\"generation\":99}\n"),
        after(&to_line(&ToDataplane::Delta {
            base: u64::MAX,
            generation: u64::MAX,
            changes: Vec::new(),
            commanded: false,
        })),
        after(&to_line(&ToDataplane::Delta { base: 0, generation: 0, changes: Vec::new(), commanded: false })),
        after(b"{}\n"),
        greeting[..greeting.len() / 2].to_vec(),
    ];
    let kinds = lines.len();
    let (heard, held) = impostor(&path, lines);
    let killed = instance.signal("dataplane", Signal::KILL);
    let dataplane = instance.replaced("dataplane", killed);
    let served = |what: &str| {
        let answer = get(&web, "/", &[]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "b"), "{what}");
    };
    eventually("it has heard all of it twice", || {
        served("while it hears nonsense");
        // Those that wait for the rest of a line are let go by us.
        let mut held = held.lock().unwrap();
        if held.len() > 1 {
            held.remove(0);
        } else if let Some(last) = held.first() {
            drop(last.shutdown(std::net::Shutdown::Write));
        }
        (heard.load(Ordering::Relaxed) > 2 * kinds).then_some(())
    });
    assert_eq!(instance.pid("dataplane"), dataplane, "none of it ended the data plane");
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    held.lock().unwrap().clear();
    instance.signal("admin", Signal::CONT);
    eventually("the admin process commands it again", || {
        held.lock().unwrap().clear();
        let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/a/activate", None);
        (status == 200 && answer["applied"] == json!(true)).then_some(())
    });
    eventually("and new sessions go there", || (get(&web, "/", &[]).text() == "a").then_some(()));
    assert_eq!(instance.pid("dataplane"), dataplane);
}
