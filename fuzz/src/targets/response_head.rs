//! A response's head: one answer however it is cut, and what is passed back reads as what came.

use super::{
    super::{
        http1::{
            Asked, BodyLength, FieldIndex, Limits, Method, Name, Parse, ResponseHead, ToClient, Version, response,
            rewrite::{self, Carrier, Wrap},
        },
        input::{Input, Switches, cuts},
        readers::assert_is_one_head,
    },
    request_head::COOKIE,
};

const TIGHT: Limits = Limits { head: 60, headers: 2, uri: 0 };
const TOKEN: &[u8] = &[b'A'; 63];

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut switches, mut more, cut) = (Switches(input.byte()), Switches(input.byte()), input.byte());
    let bytes = input.rest();
    let limits = if switches.take() { TIGHT } else { Limits::default() };
    let method = if switches.take() { Method::Head } else { Method::Get };
    let asked = Asked { method, upgrade: switches.take().then_some(b"websocket, x/1") };
    one_answer(bytes, &limits, asked, cut);
    let mut index = FieldIndex::default();
    let Ok(Parse::Complete { head, len }) = response::parse(bytes, &limits, asked, &mut index) else { return };
    assert!(len <= bytes.len() && len <= limits.head && head.fields.len() <= limits.headers);
    assert_is_one_head(&bytes[..len]);
    let mut out = Vec::new();
    if head.is_interim() {
        rewrite::interim(&head, false, "edge", &mut out);
        assert_is_one_head(&out);
        let mut index = FieldIndex::default();
        assert!(matches!(response::parse(&out, &wide(), asked, &mut index), Ok(Parse::Complete { .. })));
        return;
    }
    let wrapped = if more.take() { Carrier::Cookie(&COOKIE) } else { Carrier::Header(b"S-Id") };
    let to = ToClient {
        version: if more.take() { Version::Http10 } else { Version::Http11 },
        http2: false,
        keep_alive: more.take(),
        via: if more.take() { "edge" } else { "" },
        extra: if more.take() { b"Set-Cookie: lb=1\r\n" } else { b"" },
        wrap: more.take().then_some(Wrap { carrier: wrapped, token: TOKEN }),
        hsts: more.take().then_some(60),
        private: more.take(),
    };
    let kept = rewrite::response(&head, &to, &mut out);
    reads_as(&head, asked, &to, kept, &out);
}

fn wide() -> Limits {
    Limits { head: Limits::MAX_HEAD, headers: Limits::MAX_HEADERS, uri: 0 }
}

type Answer = Option<Result<(String, usize), String>>;

fn answer(bytes: &[u8], limits: &Limits, asked: Asked<'_>) -> Answer {
    match response::parse(bytes, limits, asked, &mut FieldIndex::default()) {
        Ok(Parse::Partial) => None,
        Ok(Parse::Complete { head, len }) => Some(Ok((format!("{head:?}"), len))),
        Err(bad) => {
            assert!(bad.status().code() == 502 && !bad.reason().is_empty());
            Some(Err(format!("{bad:?}")))
        }
    }
}

fn one_answer(bytes: &[u8], limits: &Limits, asked: Asked<'_>, cut: u8) {
    let whole = answer(bytes, limits, asked);
    let ends = cuts(bytes.len(), cut);
    let mut early = ends.map(|end| answer(&bytes[..end], limits, asked)).skip_while(Option::is_none);
    assert!(early.all(|answer| answer == whole), "an answer was taken back");
}

/// What went to the client is the response that came.
fn reads_as(came: &ResponseHead<'_>, asked: Asked<'_>, to: &ToClient<'_>, kept: bool, out: &[u8]) {
    assert_is_one_head(out);
    let mut index = FieldIndex::default();
    let Ok(Parse::Complete { head: went, len }) = response::parse(out, &wide(), asked, &mut index) else {
        panic!("not a response any more: {}", out.escape_ascii())
    };
    assert_eq!(len, out.len());
    assert_eq!((went.version, went.status, went.reason), (Version::Http11, came.status, came.reason));
    let unchunked = to.version == Version::Http10 && came.body == BodyLength::Chunked;
    let body = if unchunked { BodyLength::UntilClose } else { came.body };
    assert_eq!((went.body, went.told_length, went.upgrade), (body, came.told_length, came.upgrade));
    assert_eq!(kept, to.keep_alive && body != BodyLength::UntilClose);
    assert!(went.upgrade.is_some() || went.keep_alive == kept, "the client is told whether it may go on");
    let count = |name| went.fields.values(name).count();
    let framings = count(Name::ContentLength) + count(Name::TransferEncoding);
    let has_length = matches!(body, BodyLength::Length(_) | BodyLength::Chunked) || came.told_length.is_some();
    assert_eq!(framings, usize::from(has_length), "one framing, and no other");
    let cookies = came.fields.values(Name::SetCookie).count() + usize::from(!to.extra.is_empty());
    assert_eq!(count(Name::SetCookie), cookies);
    assert!(!went.fields.has(Name::Hop));
}
