//! What one client, or all of them, may take: each bound with its count, and that others are served meanwhile.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};
use support::{
    Instance, PATIENCE, Recorder, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, connect_from, get},
    http2, within,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// How often a slow client does something.
const PULSE: Duration = Duration::from_millis(100);

/// One worker and one listener with these lines, before one backend.
fn shop(listener: &str, backend: impl std::fmt::Display) -> Setup {
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n{listener}\n\
         [[pool]]\nname = \"shop\"\nhealth.check = \"off\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{backend}\"\n"
    );
    Setup::new(&text).global("workers = 1")
}

/// Asks on a connection that is there; whether it was answered with 200.
fn is_served(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 256];
    stream.write_all(GET).is_ok()
        && stream.read(&mut answer).is_ok_and(|count| answer[..count].starts_with(b"HTTP/1.1 200 "))
}

/// Waits for a pulse, or for what the other side does meanwhile: what it sent, where it did anything but wait.
fn pulse(stream: &mut TcpStream) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(PULSE)).unwrap();
    let mut answer = vec![0; 4096];
    match stream.read(&mut answer) {
        Ok(count) => Some(answer[..count].to_vec()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some(Vec::new()),
    }
}

#[test]
fn one_address_has_as_many_connections_as_one_may() {
    let recorder = Recorder::start();
    let lines = "limits.connections_per_address = 3\ntrusted_proxies = [\"127.0.0.9\"]";
    let instance = shop(lines, recorder.address()).start();
    let address = instance.listener("web");
    let mut held: Vec<_> = (0..3).map(|_| connect_from([127, 0, 0, 2], &address)).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(!is_served(&mut connect_from([127, 0, 0, 2], &address)));
    instance.counts("connections_over_address_limit", 1);
    assert!(is_served(&mut connect_from([127, 0, 0, 3], &address)), "others have their own");
    let mut many: Vec<_> = (0..6).map(|_| connect_from([127, 0, 0, 9], &address)).collect();
    assert!(many.iter_mut().all(is_served), "a trusted proxy brings many clients");
    assert!(held.iter_mut().all(is_served), "and who was there is served as before");
    held.pop();
    eventually("there is room for another", || is_served(&mut connect_from([127, 0, 0, 2], &address)).then_some(()));
}

#[test]
fn a_connection_ends_behind_as_many_requests_as_it_may_carry() {
    let recorder = Recorder::start();
    let instance = shop("limits.requests_per_connection = 3", recorder.address()).start();
    let address = instance.listener("web");
    let mut connection = Connection::open(&address);
    let said: Vec<_> = (0..3)
        .map(|_| connection.request("GET", "/", &[], b"").header("connection").map(str::to_ascii_lowercase))
        .collect();
    assert_eq!(said, [None, None, Some("close".to_owned())]);
    assert!(connection.is_closed());
    instance.counts("connections_over_request_limit", 1);
    // Over HTTP/2 it is told by GOAWAY, and those that are under way are answered.
    let program = "client = Client(sys.argv[1])\n\
        answers = [client.ask(client.fields())['status'] for _ in range(3)]\n\
        client.until_closed()\n\
        say(answers=answers, goaway=client.goaway, closed=client.closed)";
    let said = http2::ask(program, &[&address]);
    assert_eq!(said["answers"], serde_json::json!([200, 200, 200]));
    assert_eq!((&said["goaway"], &said["closed"]), (&serde_json::json!(0), &serde_json::json!(true)));
    instance.counts("connections_over_request_limit", 2);
}

/// A backend that answers once all of so long a body has come.
fn takes(length: usize) -> Scripted {
    Scripted::start(move |mut stream| {
        while read_head(&mut stream).is_some() {
            let mut body = vec![0; length];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        }
    })
}

/// Sends `step` bytes with each pulse, up to `length`; what came of it.
fn drip(address: &str, kind: &str, length: usize, step: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\ncontent-type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut left = length;
    while left > 0 {
        let count = step.min(left);
        if stream.write_all(&vec![b'x'; count]).is_err() {
            break;
        }
        left -= count;
        if let Some(said) = pulse(&mut stream) {
            return String::from_utf8_lossy(&said).into_owned();
        }
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[test]
fn a_body_that_comes_in_drops_is_a_408_unless_both_sides_talk() {
    const LENGTH: usize = 400;
    let backend = takes(LENGTH);
    let instance = shop("timeouts.body = \"2s\"\nlimits.body_rate = 1000", backend.address()).start();
    let address = instance.listener("web");
    // No wait is as long as the timeout: it is the rate that ends it, a quarter of the way.
    let said = drip(&address, "text/plain", LENGTH, 4);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
    instance.counts("body_timeouts", 1);
    assert!(drip(&address, "text/plain", LENGTH, LENGTH / 4).starts_with("HTTP/1.1 200 "), "who keeps the rate");
    assert!(drip(&address, "application/grpc", LENGTH, 8).starts_with("HTTP/1.1 200 "), "who has more to say later");
    instance.counts("body_timeouts", 1);
}

#[test]
fn a_response_that_is_taken_in_drops_ends() {
    const LENGTH: usize = 256 << 20;
    let backend = Scripted::start(|mut stream| {
        if read_head(&mut stream).is_some() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            let piece = vec![b'x'; 1 << 20];
            let mut sent = stream.write_all(head.as_bytes());
            for _ in 0..LENGTH / piece.len() {
                sent = sent.and_then(|()| stream.write_all(&piece));
            }
        }
    });
    let instance = shop("timeouts.body = \"1s\"\nlimits.body_rate = 100000000", backend.address()).start();
    let mut stream = TcpStream::connect(instance.listener("web")).unwrap();
    stream.write_all(GET).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut taken = 0;
    within(Duration::from_secs(60), "the response is given up", || {
        let mut piece = vec![0; 64 << 10];
        // A drop, and a pause for as long as somebody else is asked something.
        instance.api("GET", "/v1/status", None);
        let count = stream.read(&mut piece).unwrap_or(0);
        taken += count;
        (count == 0).then_some(())
    });
    assert!(taken < LENGTH);
    instance.counts("body_timeouts", 1);
}

/// The first bytes that a client of TLS sends.
fn client_hello() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &at, "-servername", "shop.example"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut hello).unwrap();
    drop(stream);
    client.wait().unwrap();
    [&header[..], &hello].concat()
}

#[test]
fn a_crowd_of_handshakes_is_no_longer_than_it_may_be() {
    const CROWD: usize = 40;
    let recorder = Recorder::start();
    let instance = shop("tls = \"self-signed\"\nlimits.handshakes = 5", recorder.address()).start();
    let (address, hello) = (instance.listener("web"), client_hello());
    // All at once: nobody is looked at before all are there.
    instance.signal("dataplane", Signal::STOP);
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(&hello).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        })
        .collect();
    instance.signal("dataplane", Signal::CONT);
    let answered =
        crowd.into_iter().filter_map(|mut stream| stream.read(&mut [0; 1]).ok()).filter(|count| *count > 0).count();
    assert!((1..CROWD).contains(&answered), "{answered}");
    instance.counts("connections_over_handshake_limit", (CROWD - answered) as u64);
}

/// The same program with at most so many descriptors.
fn with_descriptors(command: &mut Command, most: u32) {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    *command = limited;
}

#[test]
fn clients_leave_descriptors_for_backends_and_wait_for_others_to_go() {
    const DESCRIPTORS: u32 = 240;
    const CLIENTS: usize = 220;
    let recorder = Recorder::start();
    let instance = shop("", recorder.address()).start_with(|command| with_descriptors(command, DESCRIPTORS));
    let address = instance.listener("web");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect_from([127, 0, 0, 1], &address)).collect();
    instance.paused("descriptor_pauses");
    let open = instance.metric("steadfast_open_connections") as usize;
    assert!(open > 100 && open < 190, "three quarters of {DESCRIPTORS}, less what else there is: {open}");
    let waiting = clients.split_off(open);
    assert!(clients.iter_mut().all(is_served), "who was let in has a backend");
    drop(clients);
    let mut waiting = waiting;
    assert!(waiting.iter_mut().all(is_served), "who waited is let in as others go");
    assert_eq!(instance.metric("steadfast_dataplane_accept_failures_total"), 0);
    assert!(is_served(&mut connect_from([127, 0, 0, 1], &address)));
}

#[test]
fn nobody_new_is_accepted_while_there_is_no_memory_for_them() {
    let recorder = Recorder::start();
    let setup = shop("", recorder.address()).global("workers = 1\nmemory_bytes = 1048576");
    let instance = setup.start();
    let mut stream = connect_from([127, 0, 0, 1], &instance.listener("web"));
    instance.paused("memory_pauses");
    assert_eq!(instance.metric("steadfast_memory_limit_bytes"), 1 << 20);
    assert!(instance.metric("steadfast_memory_bytes") > 1 << 20);
    stream.write_all(GET).unwrap();
    assert!(pulse(&mut stream).is_none(), "it waits, and is not refused");
    assert!(instance.process.stderr().contains("as much memory as may be"), "{}", instance.process.stderr());

    let instance = shop("", recorder.address()).global("workers = 1\nmemory_bytes = 4294967296").start();
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 200);
    assert_eq!(instance.metric("steadfast_dataplane_memory_pauses_total"), 0);
}

trait Paused {
    /// Waits until accepting has paused for that.
    fn paused(&self, what: &str);
}

impl Paused for Instance {
    #[track_caller]
    fn paused(&self, what: &str) {
        let metric = format!("steadfast_dataplane_{what}_total");
        eventually(what, || (self.metric(&metric) > 0).then_some(()));
    }
}
