//! Between HTTP/2 and HTTP/1.1: what is written is read as what it was, or refused; and text becomes the same fields and the
//! same body however it is cut.

use super::{answer, ask, parts, text};
use crate::{
    http1::{
        Asked, BodyLength, Chunked, FieldIndex, Limits, Method, Output, Parse, ToBackend, ToClient, Version, head,
        response, rewrite,
    },
    input::{Input, Switches, pieces},
    readers::assert_is_one_head,
};
use control::spec::{ForwardMode, Forwarding, IdMode};
use http::HeaderMap;
use text::{BodyText, Head};

type Fields<'d> = Vec<(&'d [u8], &'d [u8])>;

/// Stands between the parts of a head.
const SEPARATOR: u8 = 1;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, switches, seed) = (input.byte() % 5, Switches(input.byte()), input.byte());
    let bytes = input.rest();
    let mut words = bytes.split(|byte| *byte == SEPARATOR);
    match kind {
        0 => {
            let mut word = || words.next().unwrap_or_default();
            let (method, authority, path) = (word(), word(), word());
            request(method, authority, path, &pairs(words), switches);
        }
        1 => fields(&pairs(words), switches, seed),
        2 => trailers(&pairs(words)),
        3 => request_text(bytes),
        _ => response_text(bytes, switches, seed),
    }
}

fn pairs<'d>(mut words: impl Iterator<Item = &'d [u8]>) -> Fields<'d> {
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        pairs.push((name, value));
    }
    pairs
}

fn limits() -> Limits {
    Limits { head: Limits::MAX_HEAD, headers: Limits::MAX_HEADERS, uri: Limits::MAX_HEAD }
}

fn request(method: &[u8], authority: &[u8], path: &[u8], fields: &Fields<'_>, mut switches: Switches) {
    let authority = switches.take().then_some(authority);
    let ends = switches.take();
    let key = switches.take().then_some(&b"dGhlIHNhbXBsZSBub25jZQ=="[..]);
    let came = Head { method, authority, path, fields, ends, key };
    let mut out = Vec::new();
    let Ok(body) = text::request(&came, &mut out) else { return };
    assert_is_one_head(&out);
    let follows = out.len();
    // What comes behind it must not be taken for a part of it.
    out.extend_from_slice(b"x: y\r\n\r\n");
    let mut index = FieldIndex::default();
    let read = head::parse(&out, &limits(), &mut index);
    let Ok(read) = read else { return };
    let Parse::Complete { head, len } = read else { panic!("no end in {}", out.escape_ascii()) };
    assert_eq!((len, head.verb), (follows, method));
    assert!(authority.is_none_or(|authority| head.host == Some(authority)));
    assert!(is_framed(head.body, body), "{:?} is not {body:?}", head.body);
    assert_eq!(head.upgrade.is_some(), key.is_some());
    let forwarding = silent();
    let to = ToBackend {
        forwarding: &forwarding,
        trusted: true,
        client_ip: "192.0.2.1",
        tls: true,
        http2: true,
        subject: None,
        backend_host: "x",
        hide_cookie: None,
        unwrap: None,
        upgrade: None,
        unique: 1,
    };
    let mut text = Vec::new();
    rewrite::request(&head, &to, &mut text);
    let Ok(sent) = ask::head(&mut text, "https", &mut FieldIndex::default()) else { return };
    let sent = sent.expect("a whole head");
    let uri = sent.request.uri();
    assert!(text.is_empty() && sent.request.method().as_str().as_bytes() == method);
    assert_eq!(uri.authority().map(|told| told.as_str().as_bytes()), head.host);
    assert_eq!(uri.path_and_query().map(|told| told.as_str().as_bytes()), Some(path));
    assert_is_ours(sent.request.headers());
    assert_eq!(strangers(sent.request.headers()), strangers_of(fields));
    assert_eq!(sent.body.is_done(), matches!(body, BodyText::None | BodyText::Raw(0)));
}

fn silent() -> Forwarding {
    Forwarding {
        x_forwarded_for: ForwardMode::Off,
        x_forwarded_proto: ForwardMode::Off,
        x_forwarded_host: ForwardMode::Off,
        forwarded: ForwardMode::Off,
        via: String::new(),
        x_request_id: IdMode::Off,
        traceparent: IdMode::Off,
        trace_share: 0.0,
    }
}

fn is_framed(length: BodyLength, text: BodyText) -> bool {
    match text {
        BodyText::None | BodyText::Raw(0) => matches!(length, BodyLength::None | BodyLength::Length(0)),
        BodyText::Raw(count) => length == BodyLength::Length(count),
        BodyText::Chunked => length == BodyLength::Chunked,
    }
}

/// Fields that nobody here has anything to do with, by name.
fn strangers(fields: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = fields.iter().map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()));
    sorted(own.filter(|(name, _)| is_strange(name)).collect())
}

fn strangers_of(fields: &Fields<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = fields.iter().filter(|(name, _)| is_strange(name));
    sorted(own.map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
}

fn is_strange(name: &[u8]) -> bool {
    name.starts_with(b"x-a")
}

/// Stable: values of one name keep their order.
fn sorted(mut fields: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// RFC 9113 section 8.2.2.
fn assert_is_of_http2(fields: &HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert!(!fields.contains_key(name), "{name}");
    }
}

/// What only text of ours is held to: another's may name its length twice.
fn assert_is_ours(fields: &HeaderMap) {
    assert_is_of_http2(fields);
    assert!(fields.get_all("te").iter().all(|value| value == "trailers"));
    assert!(fields.get_all("content-length").iter().count() < 2);
}

/// The fields of a response, and of the answer to a WebSocket.
fn fields(came: &Fields<'_>, mut switches: Switches, seed: u8) {
    let method = if switches.take() { Method::Head } else { Method::Get };
    let ends = switches.take();
    let asked = Asked { method, upgrade: None };
    let status = [200, 204, 304, 100, 103, 404, 503, 599, 600, 999][usize::from(seed) % 10];
    let mut out = Vec::new();
    if let Ok(body) = text::response(status, method, came, ends, &mut out) {
        assert_is_one_head(&out);
        let follows = out.len();
        out.extend_from_slice(b"x: y\r\n\r\n");
        let mut index = FieldIndex::default();
        match response::parse(&out, &limits(), asked, &mut index) {
            Ok(Parse::Complete { head, len }) => {
                assert_eq!((len, head.status), (follows, status));
                assert!(is_framed(head.body, body), "{:?} is not {body:?}", head.body);
                if !head.is_interim() {
                    sent_back(&head, asked, came);
                }
            }
            Ok(Parse::Partial) => panic!("no end in {}", out.escape_ascii()),
            Err(_) => {}
        }
    }
    let mut out = Vec::new();
    if text::switched(came, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &mut out).is_ok() {
        assert_is_one_head(&out);
        let asked = Asked { method, upgrade: Some(b"websocket") };
        let mut index = FieldIndex::default();
        match response::parse(&out, &limits(), asked, &mut index) {
            Ok(Parse::Complete { head, len }) => assert!(len == out.len() && head.upgrade == Some(b"websocket")),
            Ok(Parse::Partial) => panic!("no end in {}", out.escape_ascii()),
            Err(_) => {}
        }
    }
}

/// A response goes on to a client of HTTP/2.
fn sent_back(head: &crate::http1::ResponseHead<'_>, asked: Asked<'_>, came: &Fields<'_>) {
    let to = ToClient {
        version: Version::Http11,
        http2: true,
        keep_alive: true,
        via: "",
        extra: b"",
        wrap: None,
        hsts: None,
        private: false,
    };
    let mut text = Vec::new();
    rewrite::response(head, &to, &mut text);
    let Ok(sent) = answer::head(&mut text, asked, &mut FieldIndex::default()) else { return };
    let sent = sent.expect("a whole head");
    assert!(text.is_empty() && sent.response.status().as_u16() == head.status && sent.accept.is_none());
    assert_is_ours(sent.response.headers());
    assert_eq!(strangers(sent.response.headers()), strangers_of(came));
}

/// Trailers behind a body without data.
fn trailers(came: &Fields<'_>) {
    let mut out = b"0\r\n".to_vec();
    if text::trailers(came, &mut out).is_err() {
        return;
    }
    let whole = out.len();
    let Ok(step) = Chunked::default().advance(&mut out, Output::Parts) else { return };
    assert!(step.done && step.consumed == whole && step.produced == step.trailing);
    let mut fields: Fields<'_> = Vec::new();
    for line in out[..step.trailing].split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("a whole line");
        let at = line.windows(2).position(|window| window == b": ").expect("a field");
        fields.push((&line[..at], &line[at + 2..]));
    }
    assert_eq!(strangers_of(&fields), strangers_of(came));
}

/// Text that somebody else has written, as a request.
fn request_text(bytes: &[u8]) {
    let mut text = bytes.to_vec();
    let Ok(Some(sent)) = ask::head(&mut text, "http", &mut FieldIndex::default()) else { return };
    assert!(bytes.ends_with(&text));
    assert_is_of_http2(sent.request.headers());
    assert!(sent.request.uri().authority().is_some());
}

/// What is sent of a response as text that comes in pieces: fields, data, trailers, and whether that is all.
type Sent = (String, Vec<u8>, String, bool);

fn response_text(bytes: &[u8], mut switches: Switches, seed: u8) {
    let method = if switches.take() { Method::Head } else { Method::Get };
    let asked = Asked { method, upgrade: switches.take().then_some(b"websocket") };
    let whole = sent([bytes].into_iter(), asked);
    let cut = sent(pieces(bytes, seed), asked);
    assert_eq!(cut, whole);
}

fn sent<'b>(pieces: impl Iterator<Item = &'b [u8]>, asked: Asked<'_>) -> Option<Result<Sent, parts::Unsent>> {
    let (mut held, mut lines, mut data, mut told) = (Vec::new(), Vec::new(), Vec::new(), HeaderMap::new());
    let mut begun: Option<(String, crate::http::Body)> = None;
    for piece in pieces {
        held.extend_from_slice(piece);
        while begun.is_none() {
            match answer::head(&mut held, asked, &mut FieldIndex::default()) {
                Ok(None) => break,
                Ok(Some(head)) => {
                    assert_is_of_http2(head.response.headers());
                    begun = head.body.map(|body| (format!("{:?}", head.response), body));
                }
                Err(unsent) => return Some(Err(unsent)),
            }
        }
        if let Some((_, body)) = &mut begun
            && !body.is_done()
        {
            match parts::part(&mut held, body, &mut lines) {
                Ok(part) => {
                    data.extend_from_slice(&part.data);
                    told = part.trailers.unwrap_or(told);
                }
                Err(unsent) => return Some(Err(unsent)),
            }
        }
    }
    begun.map(|(fields, body)| Ok((fields, data, format!("{told:?}"), body.is_done())))
}
