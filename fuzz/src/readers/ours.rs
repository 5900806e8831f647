//! The product's own reading, with what it passes on.

use super::{End, Message, Reading};
use crate::http1::{
    Asked, BodyLength, Chunked, FieldIndex, Limits, Output, Parse, RequestHead, ResponseHead, ToBackend, ToClient,
    Version, head, response, rewrite, upgrade,
};
use control::spec::Forwarding;

/// What is read, and what the other side is sent of it.
#[derive(Debug)]
pub struct Passed {
    pub came: Reading,
    pub sent: Vec<u8>,
    /// What came, with what is rewritten of it: targets in origin form.
    pub went: Vec<Message>,
}

fn limits() -> Limits {
    Limits { head: Limits::MAX_HEAD, headers: 100, uri: 8 << 10 }
}

/// A body at the front of `bytes`.
struct Taken {
    data: Vec<u8>,
    /// What is sent on, and how many bytes that took.
    sent: Vec<u8>,
    len: usize,
}

fn take(length: BodyLength, bytes: &[u8], output: Output) -> Result<Taken, End> {
    let whole = |len| {
        let data = bytes.get(..len).ok_or(End::InBody)?.to_vec();
        Ok(Taken { sent: data.clone(), data, len })
    };
    let pass = |output| {
        let mut buffer = bytes.to_vec();
        let step = Chunked::default().advance(&mut buffer, output).map_err(|_| End::Refused)?;
        buffer.truncate(step.produced);
        if step.done { Ok((buffer, step.consumed)) } else { Err(End::InBody) }
    };
    match length {
        BodyLength::None => whole(0),
        BodyLength::Length(len) => whole(usize::try_from(len).unwrap_or(usize::MAX)),
        BodyLength::UntilClose => whole(bytes.len()),
        BodyLength::Chunked => {
            let (data, len) = pass(Output::Plain)?;
            Ok(Taken { data, sent: pass(output)?.0, len })
        }
    }
}

/// Requests, and what one backend would be sent of them.
pub fn requests(bytes: &[u8], forwarding: &Forwarding) -> Passed {
    let (mut messages, mut went, mut sent, mut at) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let end = loop {
        let mut index = FieldIndex::default();
        let (head, len) = match head::parse(&bytes[at..], &limits(), &mut index) {
            Ok(Parse::Partial) => break End::InHead,
            Ok(Parse::Complete { head, len }) => (head, len),
            Err(_) => break End::Refused,
        };
        at += len;
        let Taken { data, sent: body, len } = match take(head.body, &bytes[at..], Output::Chunked) {
            Ok(taken) => taken,
            Err(end) => break end,
        };
        at += len;
        let upgrade = upgrade::wanted(&head, &["websocket".to_owned()]);
        forward(&head, forwarding, upgrade.as_deref(), &mut sent);
        sent.extend_from_slice(&body);
        let (slash, rest) = head.target.origin();
        let message = Message { start: head.verb.to_vec(), target: Vec::new(), body: data, end: Some(at) };
        went.push(Message { target: [slash, rest].concat(), end: Some(sent.len()), ..message.clone() });
        messages.push(message);
        // Behind an upgrade nothing is read before it is answered.
        if !head.keep_alive || head.upgrade.is_some() {
            break End::Closed;
        }
    };
    Passed { came: Reading { messages, end }, sent, went }
}

fn forward(head: &RequestHead<'_>, forwarding: &Forwarding, upgrade: Option<&[u8]>, out: &mut Vec<u8>) {
    let to = ToBackend {
        forwarding,
        trusted: true,
        client_ip: "192.0.2.1",
        tls: false,
        http2: false,
        subject: None,
        backend_host: "x:1",
        hide_cookie: None,
        unwrap: None,
        upgrade,
        unique: 7,
    };
    rewrite::request(head, &to, out);
}

/// Responses on one connection to requests of one kind, and what clients of that version would be sent of them.
pub fn responses(bytes: &[u8], asked: Asked<'_>, client: Version) -> Passed {
    let (mut messages, mut went, mut sent, mut at) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let end = loop {
        let mut index = FieldIndex::default();
        let (head, len) = match response::parse(&bytes[at..], &limits(), asked, &mut index) {
            Ok(Parse::Partial) => break End::InHead,
            Ok(Parse::Complete { head, len }) => (head, len),
            Err(_) => break End::Refused,
        };
        at += len;
        let output = if client == Version::Http10 { Output::Plain } else { Output::Chunked };
        let Taken { data, sent: body, len } = match take(head.body, &bytes[at..], output) {
            Ok(taken) => taken,
            Err(end) => break end,
        };
        at += len;
        let kept = back(&head, client, &mut sent);
        sent.extend_from_slice(&body);
        let start = head.status.to_string().into_bytes();
        let message = Message { start, target: Vec::new(), body: data, end: Some(at) };
        went.push(Message { end: Some(sent.len()), ..message.clone() });
        messages.push(message);
        if !head.is_interim() && (!head.keep_alive || !kept) || head.upgrade.is_some() {
            break End::Closed;
        }
    };
    Passed { came: Reading { messages, end }, sent, went }
}

fn back(head: &ResponseHead<'_>, client: Version, out: &mut Vec<u8>) -> bool {
    if head.is_interim() {
        rewrite::interim(head, false, "edge", out);
        return true;
    }
    let to = ToClient {
        version: client,
        http2: false,
        keep_alive: true,
        via: "edge",
        extra: b"Set-Cookie: lb=1\r\n",
        wrap: None,
        hsts: None,
        private: true,
    };
    rewrite::response(head, &to, out)
}
