//! Bytes that two parties could read in two ways, through the real binary: what a client sends is refused, or what the backend
//! sees is one request to every reader; what a backend answers is refused, or the client sees one response, and nobody else any
//! of it. The cases and where they come from are in `smuggling/*.toml`.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a failed step fails the test")]

#[path = "smuggling/backend.rs"]
mod backend;
#[path = "smuggling/careless.rs"]
mod careless;
#[path = "smuggling/cases.rs"]
mod cases;
#[path = "smuggling/judged.rs"]
mod judged;
#[path = "smuggling/streams.rs"]
mod streams;
mod support;

use backend::{Backend, Late, Script};
use cases::{Answering, Asking, Forwarded, Frame, Refused, bytes};
use judged::{Answer, Came, Seen};
use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, TcpStream},
};
use streams::Streams;
use support::{Instance, PATIENCE, Setup};

/// Fewer cases than these are no suite.
const REQUESTS: usize = 490;
const RESPONSES: usize = 160;

/// One worker, so that whatever is left on a backend's connection meets the next client.
fn before(backend: &Backend, streams: &Streams) -> Instance {
    let pool = |name: &str, more: &str, address: std::net::SocketAddr| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\npool = \"{name}\"\n\
             [[pool]]\nname = \"{name}\"\n{more}\naffinity.mode = \"cookie\"\nhealth.check = \"off\"\n\
             health.passive.failures = 0\n[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n"
        )
    };
    let text = pool("text", "upgrades = [\"websocket\"]", backend.address())
        + &pool("streams", "http2 = true", streams.address());
    Setup::new(&text).global("workers = 1").start()
}

#[test]
fn what_clients_send_is_refused_or_one_request_to_every_reader() {
    let cases = cases::asking();
    let count = cases.len();
    assert!(count >= REQUESTS, "{count} cases of requests, where {REQUESTS} are the least");
    let (backend, streams) = (Backend::start(), Streams::start());
    let instance = before(&backend, &streams);
    let address = instance.listener("text");
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (number, case) in cases.iter().enumerate() {
        for dribbles in [false, true] {
            let behind = format!("/{number}/behind/{dribbles}");
            let mut expected = case.forwarded.clone();
            match ask(case, &address, &behind, dribbles) {
                Ok(true) => expected.push(Forwarded::canary(&behind)),
                Ok(false) => {}
                Err(why) => wrong.push(format!("{}: {why}", case.name)),
            }
            for each in 0..2 {
                let beside = format!("/{number}/beside/{dribbles}/{each}");
                wrong.extend(canary(&address, &beside).err().map(|why| format!("{}: {why}", case.name)));
                expected.push(Forwarded::canary(&beside));
            }
            seen.push(Seen { case, expected, came: backend.take() });
        }
    }
    drop(instance);
    backend.is_left();
    assert!(backend.take().streams.is_empty(), "nothing came late");
    wrong.extend(judged::requests(&seen));
    none(&wrong);
    support::figure(format_args!("{count} requests, each whole and byte by byte"));
}

/// Sends a case with a canary behind it; whether that is to come through.
fn ask(case: &Asking, address: &str, behind: &str, dribbles: bool) -> Result<bool, String> {
    if let Some(fields) = &case.fields {
        let sent = streams::request(fields, &case.data, case.trailers.as_deref());
        let expected = case.refused.clone().unwrap_or(Refused::Status(200));
        let answer = streams::ask(address, &sent, dribbles);
        return if answer == expected { Ok(false) } else { Err(format!("the answer is {answer:?}")) };
    }
    let mut sent = bytes(&case.send);
    if !case.cut {
        sent.extend(request_for(behind));
    }
    let (answered, reset) = talk(address, &sent, case.cut, dribbles);
    if case.closes && reset {
        // Who goes on sending behind what was said to be the last may lose the answer.
        return Ok(false);
    }
    let mut rest = &answered[..];
    for each in &case.forwarded {
        own(&mut rest, &each.method, &each.target)?;
    }
    let (is_next, rest) = match &case.refused {
        None if case.cut || case.closes => (false, rest),
        None => {
            own(&mut rest, "GET", behind)?;
            (true, rest)
        }
        Some(Refused::Reset(_)) => return Err("HTTP/1 has no streams".to_owned()),
        Some(Refused::Status(status)) => {
            let rest = cases::text(rest);
            let is_refused =
                rest.starts_with(&format!("HTTP/1.1 {status} ")) && rest.contains("\r\nConnection: close\r\n");
            let is_all = rest.matches("HTTP/1.1 ").count() == 1;
            return if is_refused && is_all { Ok(false) } else { Err(format!("not {status} alone, but {rest:?}")) };
        }
    };
    // A message that breaks off may be answered, but not by a backend.
    let is_ours = case.cut && !cases::text(rest).contains("X-Seen");
    if rest.is_empty() || is_ours { Ok(is_next) } else { Err(format!("and then came {:?}", cases::text(rest))) }
}

/// Takes the answer of the backend to this request, and to no other.
fn own(rest: &mut &[u8], method: &str, target: &str) -> Result<(), String> {
    let came = *rest;
    let answer = Answer::take(rest, method).map(|answer| (answer.status, answer.seen));
    let expected = Some((200, format!("{method} {target}")));
    if answer == expected { Ok(()) } else { Err(format!("no answer to {method} {target}: {:?}", cases::text(came))) }
}

fn request_for(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: canary.example\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Another client's request, which has to have its own answer.
fn canary(address: &str, target: &str) -> Result<(), String> {
    let (answered, _) = talk(address, &request_for(target), false, false);
    let mut rest = &answered[..];
    own(&mut rest, "GET", target).map_err(|why| format!("to another client: {why}"))?;
    if rest.is_empty() { Ok(()) } else { Err(format!("another client was sent {:?}", cases::text(&answered))) }
}

/// Sends bytes; all that comes until the other side closes, and whether it closed by a reset.
fn talk(address: &str, sent: &[u8], cut: bool, dribbles: bool) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // It may be refused before it is whole. A reset is told once: to who sends, or to who reads.
    let reset = backend::send(&mut stream, sent, dribbles).is_err();
    if cut {
        drop(stream.shutdown(Shutdown::Write));
    }
    let (mut all, mut buffer) = (Vec::new(), [0; 16384]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (all, reset),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (all, true),
            Err(error) => panic!("{error} after {:?} for {:?}", cases::text(&all), cases::text(sent)),
        }
    }
}

#[test]
fn what_backends_answer_is_refused_or_one_response_to_every_reader() {
    let cases = cases::answering();
    let count = cases.len();
    assert!(count >= RESPONSES, "{count} cases of responses, where {RESPONSES} are the least");
    let (backend, streams) = (Backend::start(), Streams::start());
    let instance = before(&backend, &streams);
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (number, case) in cases.iter().enumerate() {
        let failed = match &case.frames {
            Some(frames) => answered_by_streams(case, &streams, frames, &instance.listener("streams"), &mut seen),
            None => answered(case, &backend, number, &instance.listener("text"), &mut seen),
        };
        wrong.extend(failed.err().map(|why| format!("{}: {why}", case.name)));
    }
    wrong.extend(judged::responses(&seen));
    none(&wrong);
    support::figure(format_args!("{count} responses, each to a client that closes and to one that goes on"));
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What clients see of a case: one that closes behind it, and one that has asked for something else behind it.
fn answered<'c>(
    case: &'c Answering,
    backend: &Backend,
    number: usize,
    address: &str,
    seen: &mut Vec<Came<'c>>,
) -> Result<(), String> {
    for (dribbles, closes) in [(false, true), (false, false), (true, true), (true, false)] {
        // What comes behind a response when the next request is under way already can't be told from the answer to that.
        if (case.at_once && dribbles) || (case.late.is_some() && !closes) {
            continue;
        }
        // A connection that is in doubt in any way serves nobody else.
        let is_whole = case.passed.as_ref().is_some_and(|passed| !passed.cut);
        let is_clean = is_whole && !case.at_once && case.late.is_none() && !case.spent;
        let (late, say, told) = Late::new(bytes(case.late.as_deref().unwrap_or_default()));
        let late = case.late.is_some().then_some(late);
        backend.answers(Script { send: bytes(&case.send), dribbles, closes: case.close, spends: !is_clean, late });
        let behind = format!("/{number}/behind/{dribbles}");
        let (sent, next) = asking_for(case, closes, &behind);
        let (bytes, reset) = talk(address, &sent, false, false);
        if case.late.is_some() {
            say.send(()).unwrap();
            told.recv_timeout(PATIENCE).unwrap();
        }
        seen.push(Came { case, bytes, reset, next });
        // More than one, for the connections that are left may be several.
        for each in 0..3 {
            canary(address, &format!("/{number}/beside/{dribbles}/{closes}/{each}"))?;
        }
        if backend.reused() > 0 {
            return Err("the backend's connection was used again".to_owned());
        }
    }
    Ok(())
}

fn answered_by_streams<'c>(
    case: &'c Answering,
    streams: &Streams,
    frames: &[Frame],
    address: &str,
    seen: &mut Vec<Came<'c>>,
) -> Result<(), String> {
    let fields = [(":status", "200"), ("x-seen", "GET /beside")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let own = Frame { fields: Some(fields), ends: true, ..Frame::default() };
    for closes in [true, false] {
        streams.answers(frames);
        let (sent, _) = asking_for(case, closes, "");
        // The client ends what it has to say, or it would be waited for.
        let (bytes, reset) = talk(address, &sent, !closes, false);
        seen.push(Came { case, bytes, reset, next: None });
        streams.answers(std::slice::from_ref(&own));
        canary(address, "/beside")?;
    }
    Ok(())
}

/// The request that a case answers, and the one behind it where the client does not close.
fn asking_for(case: &Answering, closes: bool, behind: &str) -> (Vec<u8>, Option<String>) {
    let Answering { method, version, ask, .. } = case;
    let close = if closes { "Connection: close\r\n" } else { "" };
    let end = if ask.contains("\r\n\r\n") { "" } else { "\r\n" };
    let mut text = format!("{method} /case {version}\r\nHost: a.example\r\n{close}{ask}{end}");
    let next = (!closes && !behind.is_empty()).then(|| format!("GET {behind}"));
    if next.is_some() {
        text += &cases::text(&request_for(behind));
    }
    (text.into_bytes(), next)
}
