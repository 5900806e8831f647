//! A request's head: one answer however it is cut, and what is passed on reads as what came.

use super::super::{
    http1::{
        BodyLength, FieldIndex, HeadScan, Limits, Name, Parse, RequestHead, ToBackend, Version, head, host,
        rewrite::{self, Carrier, Subject},
        upgrade,
    },
    input::{Input, Switches, cuts},
    readers::assert_is_one_head,
};
use affinity::cookie::CookieName;
use control::spec::{ForwardMode, Forwarding, IdMode};
use std::sync::LazyLock;

pub(super) static COOKIE: LazyLock<CookieName> = LazyLock::new(|| CookieName::new("lb").expect("it is a token"));
static ALLOWED: LazyLock<Vec<String>> = LazyLock::new(|| vec!["websocket".to_owned(), "x/1".to_owned()]);
const TIGHT: Limits = Limits { head: 60, headers: 2, uri: 8 };

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut switches, modes, cut) = (Switches(input.byte()), input.byte(), input.byte());
    let bytes = input.rest();
    let limits = if switches.take() { TIGHT } else { Limits::default() };
    one_answer(bytes, &limits, cut);
    let mut index = FieldIndex::default();
    let Ok(Parse::Complete { head, len }) = head::parse(bytes, &limits, &mut index) else { return };
    assert!(len <= bytes.len() && len <= limits.head && head.fields.len() <= limits.headers);
    assert_is_one_head(&bytes[leading(bytes)..len]);
    let mut scan = HeadScan::default();
    for end in cuts(len, cut) {
        let _ = scan.due(&bytes[..end], &limits);
    }
    assert!(scan.due(&bytes[..len], &limits), "a whole head is not looked at");
    let wanted = upgrade::wanted(&head, &ALLOWED);
    let forwarding = forwarding(modes, switches.take());
    let name = switches.take().then_some("CN=x");
    let to = ToBackend {
        forwarding: &forwarding,
        trusted: switches.take(),
        client_ip: if switches.take() { "2001:db8::1" } else { "192.0.2.1" },
        tls: modes & 1 != 0,
        http2: false,
        subject: switches.take().then_some(Subject { header: "X-Client", name }),
        backend_host: "x:1",
        hide_cookie: switches.take().then_some(&*COOKIE),
        unwrap: switches.take().then_some(Carrier::Header(b"S-Id")),
        upgrade: wanted.as_deref(),
        unique: u128::from(modes) << 70,
    };
    let mut out = Vec::new();
    rewrite::request(&head, &to, &mut out);
    reads_as(&head, &to, &out);
}

/// Empty lines that may come before.
fn leading(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

fn forwarding(modes: u8, via: bool) -> Forwarding {
    let mode = |at: u8| [ForwardMode::Append, ForwardMode::Replace, ForwardMode::Off][usize::from(modes >> at) % 3];
    let id = |at: u8| [IdMode::Keep, IdMode::Trust, IdMode::Replace, IdMode::Off][usize::from(modes >> at) % 4];
    Forwarding {
        x_forwarded_for: mode(0),
        x_forwarded_proto: mode(1),
        x_forwarded_host: mode(2),
        forwarded: mode(3),
        via: if via { "edge".to_owned() } else { String::new() },
        x_request_id: id(4),
        traceparent: id(5),
        trace_share: 0.5,
    }
}

type Answer = Option<Result<(String, usize), String>>;

fn answer(bytes: &[u8], limits: &Limits) -> Answer {
    match head::parse(bytes, limits, &mut FieldIndex::default()) {
        Ok(Parse::Partial) => None,
        Ok(Parse::Complete { head, len }) => Some(Ok((format!("{head:?}"), len))),
        Err(refusal) => {
            assert!((400..=505).contains(&refusal.status().code()) && !refusal.reason().is_empty());
            Some(Err(format!("{refusal:?}")))
        }
    }
}

/// The first answer is the last: more bytes change nothing of it.
fn one_answer(bytes: &[u8], limits: &Limits, cut: u8) {
    let whole = answer(bytes, limits);
    let mut early = cuts(bytes.len(), cut).map(|end| answer(&bytes[..end], limits)).skip_while(Option::is_none);
    assert!(early.all(|answer| answer == whole), "an answer was taken back");
}

/// What went to the backend is the request that came.
fn reads_as(came: &RequestHead<'_>, to: &ToBackend<'_>, out: &[u8]) {
    assert_is_one_head(out);
    let mut index = FieldIndex::default();
    // What is added may be more than a client may send.
    let limits = Limits { head: Limits::MAX_HEAD, headers: Limits::MAX_HEADERS, uri: Limits::MAX_HEAD };
    let Ok(Parse::Complete { head: went, len }) = head::parse(out, &limits, &mut index) else {
        panic!("not a request any more: {}", out.escape_ascii())
    };
    assert_eq!(len, out.len());
    assert_eq!((went.version, went.verb, went.body), (Version::Http11, came.verb, came.body));
    assert_eq!((went.target.path(), went.target.query()), (came.target.path(), came.target.query()));
    assert_eq!(went.host, Some(came.host.unwrap_or(b"x:1")));
    assert!(went.host.is_some_and(|name| host::is_valid(name) && host::without_port(name).len() <= name.len()));
    assert_eq!((went.expect_continue, went.te_trailers), (came.expect_continue, came.te_trailers));
    assert_eq!((went.keep_alive, went.upgrade), (true, to.upgrade));
    let count = |name| went.fields.values(name).count();
    let framings = count(Name::ContentLength) + count(Name::TransferEncoding);
    assert_eq!(framings, usize::from(came.body != BodyLength::None), "one framing, and no other");
    assert_eq!(count(Name::Host), 1);
    assert!(!went.fields.has(Name::Imitation) && !went.fields.has(Name::Hop));
    if let Some(hidden) = to.hide_cookie {
        assert!(!went.fields.values(Name::Cookie).any(|value| hidden.is_in(value)));
    }
    for (name, mode) in
        [(Name::XForwardedFor, to.forwarding.x_forwarded_for), (Name::Forwarded, to.forwarding.forwarded)]
    {
        assert!(mode == ForwardMode::Off || count(name) == 1, "{name:?}");
    }
}
