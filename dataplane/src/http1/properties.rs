//! What holds for every input.

use super::testing::{GET, body as framing, summary};
use super::*;
use affinity::cookie::CookieName;
use control::spec::{ForwardMode, Forwarding, IdMode};
use proptest::prelude::*;

/// Pieces that heads and attacks on them are made of.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            &b"GET "[..], b"HEAD ", b"OPTIONS ", b"POST ", b"/", b"*", b"http://b", b"#", b" ", b"HTTP/1.1", b"HTTP/1.0",
            b"HTTP/2.0", b" 200 OK", b" 304 ", b" 101 x", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b":",
            b": ", b"Host: a\r\n", b"Host: b:80\r\n", b"Content-Length: 5\r\n", b"Content-Length: 5, 6\r\n",
            b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close, x\r\n",
            b"Connection:", b"X: y\r\n", b"Cookie: lb=1; a=b\r\n", b"\t", b"Expect: 100-continue\r\n", b"TE: trailers\r\n",
            b"Forwarded: for=\"\r\n", b"X_Forwarded_For: a\r\n", b"Upgrade: h2c\r\n", b"Cache-Control: private\r\n",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Accept",
            "x-a",
            "X-B",
            "Cookie",
            "Via",
            "Keep-Alive",
            "TE",
            "Upgrade",
            "X-Forwarded-For",
            "Forwarded",
            "X-Forwarded-Proto",
            "Cache-Control",
            "Set-Cookie",
            "Expect",
            "Proxy-Connection",
            "X_Forwarded_Host",
        ])
        .prop_map(str::to_owned),
        "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}",
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "100-continue",
            "trailers",
            "lb=1; a=b",
            "for=\"",
            "a, b",
            "private",
            "x-a, X-B, close",
            "lb=2",
            "",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| {
            let text = bytes.into_iter().filter(|byte| text::is_text_byte(*byte)).collect::<Vec<_>>();
            text::trim(&text).to_vec()
        }),
    ]
}

fn fields() -> impl Strategy<Value = Vec<u8>> {
    let space = || prop::sample::select(vec!["", " ", "\t "]);
    let line = (token(), space(), value(), space())
        .prop_filter("decides framing or host", |(name, ..)| {
            !matches!(Name::of(name.as_bytes()), Name::Host | Name::ContentLength | Name::TransferEncoding)
        })
        .prop_map(|(name, before, value, after)| {
            [name.as_bytes(), b":", before.as_bytes(), &value, after.as_bytes(), b"\r\n"].concat()
        });
    let framing = prop::sample::select(vec![
        "",
        "Content-Length: 0\r\n",
        "content-length:007\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Content-Length: 4, 4\r\n",
    ]);
    let connection =
        prop::sample::select(vec!["", "Connection: x-a\r\n", "connection:close,X-B\r\nConnection: cookie\r\n"]);
    (prop::collection::vec(line, 0..12), framing, connection)
        .prop_map(|(lines, framing, connection)| [&lines.concat(), framing.as_bytes(), connection.as_bytes()].concat())
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let target = prop::sample::select(vec!["/", "/a?b", "http://b:81", "http://[::1]/c?d", "//x"]);
    let method = prop::sample::select(vec!["GET", "POST", "OPTIONS", "PURGE"]);
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.0"]);
    (method, target, version, fields()).prop_map(|(method, target, version, fields)| {
        // HTTP/1.0 has no transfer codings.
        let fields = if version == "HTTP/1.0" {
            fields
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| !line.starts_with(b"Tr"))
                .collect::<Vec<_>>()
                .concat()
        } else {
            fields
        };
        [format!("{method} {target} {version}\r\nHost: a.example\r\n").as_bytes(), &fields, b"\r\n"].concat()
    })
}

fn answered() -> impl Strategy<Value = Vec<u8>> {
    let line =
        prop::sample::select(vec!["HTTP/1.1 200 OK", "HTTP/1.1 404", "HTTP/1.1 304 Not  Modified", "HTTP/1.1 204 "]);
    (line, fields()).prop_map(|(line, fields)| [line.as_bytes(), b"\r\n", &fields, b"\r\n"].concat())
}

/// The outcome of a parse as one comparable value; `None` for more bytes wanted.
fn outcome(bytes: &[u8], limits: &Limits) -> Option<Result<(String, usize), Refusal>> {
    match head::parse(bytes, limits, &mut FieldIndex::default()) {
        Ok(Parse::Partial) => None,
        Ok(Parse::Complete { head, len }) => Some(Ok((format!("{} {:?}", summary(&head), head.fields), len))),
        Err(refusal) => Some(Err(refusal)),
    }
}

fn response_outcome(bytes: &[u8], limits: &Limits) -> Option<Result<(String, usize), BadResponse>> {
    match response::parse(bytes, limits, GET, &mut FieldIndex::default()) {
        Ok(Parse::Partial) => None,
        Ok(Parse::Complete { head, len }) => Some(Ok((format!("{head:?}"), len))),
        Err(bad) => Some(Err(bad)),
    }
}

/// The answer to the first prefix that gets one is the answer to every longer one.
fn one_answer<T: PartialEq + std::fmt::Debug>(bytes: &[u8], outcome: impl Fn(&[u8]) -> Option<T>) {
    let whole = outcome(bytes);
    let mut answered = false;
    for end in 0..bytes.len() {
        let early = outcome(&bytes[..end]);
        assert!(!answered || early.is_some(), "an answer was taken back at {end} of {}", bytes.escape_ascii());
        answered = early.is_some();
        assert!(early.is_none() || early == whole, "{early:?} at {end} of {}", bytes.escape_ascii());
    }
}

/// Fields that concern the far end alone and that no configuration here touches.
fn far_fields(fields: &Fields<'_>, nominates: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let far = |field: &Field<'_>| {
        let nominated = nominates && hop::nominated(fields, field.label);
        matches!(field.name, Name::CacheControl | Name::SetCookie) || (field.name == Name::Other && !nominated)
    };
    fields.iter().filter(far).map(|field| (field.label.to_vec(), field.value.to_vec())).collect()
}

proptest! {
    #[test]
    fn a_request_gets_the_same_answer_whatever_the_read_sizes(bytes in prop_oneof![soup(), request()], tight: bool) {
        let limits = if tight { Limits { head: 60, headers: 2, uri: 8 } } else { Limits::default() };
        one_answer(&bytes, |bytes| outcome(bytes, &limits));
    }

    #[test]
    fn a_response_gets_the_same_answer_whatever_the_read_sizes(bytes in prop_oneof![soup(), answered()], tight: bool) {
        let limits = if tight { Limits { head: 60, headers: 2, uri: 0 } } else { Limits::default() };
        one_answer(&bytes, |bytes| response_outcome(bytes, &limits));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop_oneof![soup(), prop::collection::vec(any::<u8>(), 0..400)]) {
        let _ = outcome(&bytes, &Limits { head: usize::MAX, headers: usize::MAX, uri: usize::MAX });
        let _ = outcome(&bytes, &Limits { head: 0, headers: 0, uri: 0 });
        let _ = response_outcome(&bytes, &Limits { head: 0, headers: 0, uri: 0 });
        let _ = (host::is_valid(&bytes), host::without_port(&bytes).len());
    }

    #[test]
    fn what_goes_to_the_backend_reads_as_what_came(
        bytes in request(), trusted: bool, mode in prop::sample::select(vec![ForwardMode::Append, ForwardMode::Replace]),
    ) {
        let limits = Limits::default();
        let (mut index, mut index_after) = (FieldIndex::default(), FieldIndex::default());
        let Ok(Parse::Complete { head: came, .. }) = head::parse(&bytes, &limits, &mut index) else {
            panic!("not a request: {}", bytes.escape_ascii())
        };
        let forwarding = Forwarding {
            x_forwarded_for: mode, x_forwarded_proto: mode, x_forwarded_host: mode, forwarded: mode, via: "edge".to_owned(),
            x_request_id: IdMode::Keep, traceparent: IdMode::Replace, trace_share: 0.5,
        };
        let cookie = CookieName::new("lb");
        let to = ToBackend {
            forwarding: &forwarding, trusted, client_ip: "2001:db8::1", tls: true, http2: false, backend_host: "x:1", hide_cookie: cookie.as_ref(), unwrap: None, upgrade: None,
            subject: None, unique: 7,
        };
        let mut out = Vec::new();
        rewrite::request(&came, &to, &mut out);
        let Ok(Parse::Complete { head: went, len }) = head::parse(&out, &limits, &mut index_after) else {
            panic!("not a request any more: {}", out.escape_ascii())
        };
        prop_assert_eq!(len, out.len());
        prop_assert_eq!((went.verb, went.host, went.body), (came.verb, came.host, came.body));
        prop_assert_eq!((went.target.path(), went.target.query()), (came.target.path(), came.target.query()));
        prop_assert_eq!((went.expect_continue, went.te_trailers), (came.expect_continue, came.te_trailers));
        prop_assert_eq!((went.version, went.upgrade, went.keep_alive), (Version::Http11, None, true));
        prop_assert_eq!(far_fields(&went.fields, false), far_fields(&came.fields, came.nominates));
        for name in [Name::Host, Name::XForwardedFor, Name::XForwardedHost, Name::Forwarded, Name::XRequestId, Name::Traceparent] {
            let several = name == Name::XForwardedHost && trusted;
            prop_assert!(several || went.fields.values(name).count() == 1, "{:?}", name);
        }
        let lengths = went.fields.values(Name::ContentLength).count() + went.fields.values(Name::TransferEncoding).count();
        prop_assert_eq!(lengths, usize::from(came.body != BodyLength::None));
        prop_assert!(!went.fields.has(Name::Imitation) && !went.fields.has(Name::Hop));
        prop_assert!(!went.fields.values(Name::Cookie).any(|value| cookie.as_ref().unwrap().is_in(value)));
    }

    #[test]
    fn what_goes_to_the_client_reads_as_what_came(bytes in answered(), old: bool, keep_alive: bool) {
        let limits = Limits::default();
        let (mut index, mut index_after) = (FieldIndex::default(), FieldIndex::default());
        let Ok(Parse::Complete { head: came, .. }) = response::parse(&bytes, &limits, GET, &mut index) else {
            panic!("not a response: {}", bytes.escape_ascii())
        };
        let version = if old { Version::Http10 } else { Version::Http11 };
        let to = ToClient { version, http2: false, keep_alive, via: "", extra: b"Set-Cookie: lb=1\r\n", wrap: None, hsts: None, private: true };
        let mut out = Vec::new();
        let kept = rewrite::response(&came, &to, &mut out);
        let Ok(Parse::Complete { head: went, len }) = response::parse(&out, &limits, GET, &mut index_after) else {
            panic!("not a response any more: {}", out.escape_ascii())
        };
        prop_assert_eq!(len, out.len());
        prop_assert_eq!((went.status, went.reason), (came.status, came.reason));
        let unchunked = old && came.body == BodyLength::Chunked;
        let expected = if unchunked { BodyLength::UntilClose } else { came.body };
        prop_assert_eq!(framing(went.body), framing(expected));
        prop_assert_eq!(went.told_length, came.told_length);
        prop_assert_eq!(kept, keep_alive && expected != BodyLength::UntilClose);
        prop_assert_eq!(went.keep_alive, kept);
        let mut expected = far_fields(&came.fields, came.nominates);
        expected.push((b"Set-Cookie".to_vec(), b"lb=1".to_vec()));
        let mut actual = far_fields(&went.fields, false);
        let keeps_off = actual.last().is_some_and(|(label, _)| label == b"Cache-Control");
        actual.truncate(actual.len() - usize::from(keeps_off && actual.len() > expected.len()));
        prop_assert_eq!(actual, expected);
    }
}
