use super::super::testing::{GET, answer, get_with, head_of, request as parsed};
use super::super::{Asked, Method};
use super::*;
use affinity::cookie::CookieName;
use control::spec::{
    ForwardMode::{Append, Off, Replace},
    IdMode,
};

static SILENT: Forwarding = Forwarding {
    x_forwarded_for: Off,
    x_forwarded_proto: Off,
    x_forwarded_host: Off,
    forwarded: Off,
    via: String::new(),
    x_request_id: IdMode::Off,
    traceparent: IdMode::Off,
    trace_share: 1.0,
};

fn to_backend(forwarding: &Forwarding) -> ToBackend<'_> {
    ToBackend {
        forwarding,
        trusted: false,
        client_ip: "192.0.2.1",
        tls: false,
        http2: false,
        subject: None,
        backend_host: "10.0.0.1:8080",
        hide_cookie: None,
        unwrap: None,
        upgrade: None,
        unique: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
    }
}

fn sent(bytes: &[u8], to: &ToBackend<'_>) -> String {
    let mut out = b"before".to_vec();
    request(&parsed(bytes), to, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before").expect("what was there stays").to_owned()
}

/// What becomes of field lines after `Host` when nothing is added to them.
fn fields_sent(line: &str, fields: &str) -> String {
    let out = sent(&head_of(line, fields), &to_backend(&SILENT));
    let (_, fields) = out.split_once("Host: a.example\r\n").expect("Host comes first");
    fields.strip_suffix("\r\n").expect("an empty line ends the head").to_owned()
}

#[test]
fn request_lines() {
    for (head, expected, why) in [
        ("GET /a?b HTTP/1.1\r\nHost: c\r\n\r\n", "GET /a?b HTTP/1.1\r\nHost: c\r\n\r\n", "as it came"),
        ("GET / HTTP/1.0\r\nHost: c\r\n\r\n", "GET / HTTP/1.1\r\nHost: c\r\n\r\n", "our version: RFC 9110 §2.5"),
        ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: 10.0.0.1:8080\r\n\r\n", "the backend's, for want of one"),
        ("GET http://d:1/e HTTP/1.1\r\nHost: c\r\n\r\n", "GET /e HTTP/1.1\r\nHost: d:1\r\n\r\n", "RFC 9112 §3.2.2"),
        ("GET http://d HTTP/1.1\r\nHost: c\r\n\r\n", "GET / HTTP/1.1\r\nHost: d\r\n\r\n", "RFC 9112 §3.2.1"),
        ("GET http://d?e HTTP/1.0\r\n\r\n", "GET /?e HTTP/1.1\r\nHost: d\r\n\r\n", "query without a path"),
        ("OPTIONS http://d HTTP/1.1\r\nHost: c\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: d\r\n\r\n", "RFC 9112 §3.2.4"),
        ("OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n", "asterisk"),
        ("X! / HTTP/1.1\r\nA: b\r\nhost:c\r\n\r\n", "X! / HTTP/1.1\r\nHost: c\r\nA: b\r\n\r\n", "Host first"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: c\r\n\r\n", "GET / HTTP/1.1\r\nHost: c\r\n\r\n", "empty lines go"),
    ] {
        assert_eq!(sent(head.as_bytes(), &to_backend(&SILENT)), expected, "{why}");
    }
}

#[test]
fn fields_of_a_request() {
    let get = "GET / HTTP/1.1";
    let old = "GET / HTTP/1.0";
    for (line, fields, expected, why) in [
        (get, "B: c\r\na: d\r\nB: e\r\n", "B: c\r\na: d\r\nB: e\r\n", "order and spelling: RFC 9110 §5.3"),
        (get, "A:b\r\nC:\t d \r\nE:\r\nF: \r\n", "A: b\r\nC: d\r\nE: \r\nF: \r\n", "one space: RFC 9112 §5.1"),
        (get, "A: b\r\nC:d\r\nE: f\r\n", "A: b\r\nC: d\r\nE: f\r\n", "runs around a rewritten line"),
        (get, "A: \u{e9}\r\n", "A: \u{e9}\r\n", "obs-text"),
        (get, "Connection: keep-alive\r\nA: b\r\n", "A: b\r\n", "RFC 9110 §7.6.1"),
        (get, "Keep-Alive: timeout=5\r\nProxy-Connection: x\r\n", "", "RFC 9110 §7.6.1"),
        (get, "Upgrade: h2c\r\nHTTP2-Settings: x\r\nConnection: upgrade, http2-settings\r\n", "", "h2c smuggling"),
        (get, "Connection: close, X-A\r\nx-a: b\r\nX-B: c\r\nX-A: d\r\n", "X-B: c\r\n", "nominated"),
        (get, "X-A: b\r\nConnection: x\r\nConnection: x-a\r\n", "", "nominated in another field, after it"),
        (get, "Connection: X-A X-B\r\nX-A: b\r\n", "X-A: b\r\n", "no token, no nomination"),
        (get, "Connection: cookie\r\nCookie: a=b\r\n", "Cookie: a=b\r\n", "not ours to lose"),
        (get, "Connection: Cache-Control\r\nCache-Control: no-cache\r\n", "Cache-Control: no-cache\r\n", "§7.6.1"),
        (get, "Connection: via\r\nVia: 1.1 b\r\n", "Via: 1.1 b\r\n", "§7.6.3"),
        (get, "Connection: host\r\n", "", "Host stays"),
        (get, "Connection: content-length\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n", "framing stays"),
        (
            get,
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\n",
            "framing stays",
        ),
        (get, "Content-Length: 005, 5\r\ncontent-length: 5\r\nA: b\r\n", "A: b\r\nContent-Length: 5\r\n", "one, plain"),
        (get, "transfer-encoding:  CHUNKED\r\n", "Transfer-Encoding: chunked\r\n", "one, plain"),
        (get, "Content-Length: 0\r\n", "Content-Length: 0\r\n", "said is said"),
        (get, "Content_Length: 5\r\nX_Forwarded_For: a\r\nX_Other: b\r\n", "X_Other: b\r\n", "imitations"),
        (get, "TE: trailers, gzip\r\n", "TE: trailers\r\nConnection: TE\r\n", "RFC 9110 §10.1.4"),
        (get, "TE: gzip\r\nConnection: TE\r\n", "", "codings that we do not take"),
        (old, "TE: trailers\r\n", "", "1.0"),
        (get, "Trailer: X-A\r\n", "Trailer: X-A\r\n", "RFC 9110 §6.6.2: for the far end"),
        (get, "Proxy-Authorization: Basic x\r\nAuthorization: Basic y\r\n", "Authorization: Basic y\r\n", "not ours"),
        (get, "Expect: 100-continue\r\n", "", "no body to wait for"),
        (
            get,
            "Expect: 100-Continue\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nExpect: 100-continue\r\n",
            "RFC 9110 §10.1.1",
        ),
        (get, "Expect: y 100-continue\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n", "in disguise"),
        (old, "Expect: 100-continue\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n", "1.0: RFC 9110 §10.1.1"),
        (get, "X-Forwarded-For: a\r\nForwarded: for=b\r\n", "X-Forwarded-For: a\r\nForwarded: for=b\r\n", "off"),
    ] {
        assert_eq!(fields_sent(line, fields), expected, "{why}: {fields:?}");
    }
}

#[test]
fn the_affinity_cookie_is_hidden() {
    let name = CookieName::new("lb").unwrap();
    let to = ToBackend { hide_cookie: Some(&name), ..to_backend(&SILENT) };
    for (fields, expected, why) in [
        ("Cookie: a=b\r\n", "Cookie: a=b\r\n", "not there"),
        ("Cookie: lb=x; a=b\r\n", "Cookie: a=b\r\n", "first"),
        ("cookie:a=b; lb=x\r\n", "cookie: a=b\r\n", "last"),
        ("Cookie: a=b; lb=x; c=d\r\n", "Cookie: a=b; c=d\r\n", "between"),
        ("A: b\r\nCookie: lb=x\r\nC: d\r\n", "A: b\r\nC: d\r\n", "nothing else"),
        ("Cookie: lb=x\r\nCookie: lb=y; a=b\r\n", "Cookie: a=b\r\n", "several fields"),
        ("Cookie: lb2=x; xlb=y\r\n", "Cookie: lb2=x; xlb=y\r\n", "other names"),
    ] {
        let out = sent(&get_with(fields.as_bytes()), &to);
        assert_eq!(out, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{expected}\r\n"), "{why}");
    }
}

#[test]
fn forwarding_fields() {
    let all = |mode| Forwarding {
        x_forwarded_for: mode,
        x_forwarded_proto: mode,
        x_forwarded_host: mode,
        forwarded: mode,
        ..SILENT.clone()
    };
    let came = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\n\
        Forwarded: for=198.51.100.7\r\nx-forwarded-for: 203.0.113.5\r\n";
    let ours = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\n\
        Forwarded: for=192.0.2.1;host=a.example;proto=http\r\n";
    let appended = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\n\
        X-Forwarded-For: 198.51.100.7, 203.0.113.5, 192.0.2.1\r\n\
        Forwarded: for=198.51.100.7, for=192.0.2.1;host=a.example;proto=http\r\n";
    for (mode, trusted, fields, expected, why) in [
        (Off, false, came, came, "untouched"),
        (Off, true, came, came, "untouched"),
        (Off, false, "", "", "untouched"),
        (Replace, false, came, ours, "ours alone"),
        (Replace, true, came, ours, "ours alone"),
        (Append, false, came, ours, "anybody can write them"),
        (Append, false, "", ours, "nothing came"),
        (Append, true, "", ours, "nothing came"),
        (Append, true, came, appended, "one line each, ours last"),
    ] {
        let forwarding = all(mode);
        let to = ToBackend { trusted, ..to_backend(&forwarding) };
        let fields = format!("{fields}Connection: X-Forwarded-For, Forwarded\r\n");
        let out = sent(&get_with(fields.as_bytes()), &to);
        assert_eq!(out, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{expected}\r\n"), "{why}: {mode:?} {trusted}");
    }
}

#[test]
fn forwarded_is_quoted_as_rfc_7239_has_it() {
    let forwarding = Forwarding { forwarded: Append, ..SILENT.clone() };
    let trusted = ToBackend { trusted: true, tls: true, ..to_backend(&forwarding) };
    let forwarded = |head: &str, to: &ToBackend<'_>| {
        let out = sent(head.as_bytes(), to);
        let (_, value) = out.split_once("\r\nForwarded: ").unwrap();
        value.strip_suffix("\r\n\r\n").unwrap().to_owned()
    };
    let v6 = ToBackend { client_ip: "2001:db8::1", ..trusted };
    for (head, to, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", trusted, "for=192.0.2.1;host=a;proto=https"),
        ("GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", trusted, "for=192.0.2.1;host=\"a:80\";proto=https"),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", v6, "for=\"[2001:db8::1]\";host=\"[::1]\";proto=https"),
        ("GET / HTTP/1.0\r\n\r\n", trusted, "for=192.0.2.1;proto=https"),
        (
            "GET / HTTP/1.0\r\nForwarded: for=\"x\\\"\r\nForwarded: for=\"y\\\"\"\r\nForwarded:\r\n\r\n",
            trusted,
            "for=\"y\\\"\", for=192.0.2.1;proto=https", // an open quote would swallow ours
        ),
    ] {
        assert_eq!(forwarded(head, &to), expected);
    }
}

#[test]
fn via_tells_the_version_that_came() {
    let forwarding = Forwarding { via: "edge".to_owned(), ..SILENT.clone() };
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "Host: a\r\nVia: 1.1 edge\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\n\r\n", "Host: a\r\nVia: 1.1 b\r\nVia: 1.1 edge\r\n\r\n"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "Host: a\r\nVia: 1.0 edge\r\n\r\n"),
    ] {
        let out = sent(head.as_bytes(), &to_backend(&forwarding));
        assert!(out.ends_with(expected), "{out}");
    }
    let out = sent(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &ToBackend { http2: true, ..to_backend(&forwarding) });
    assert!(out.ends_with("Via: 2.0 edge\r\n\r\n"), "{out}");
    let (mut out, mut interim_out) = (Vec::new(), Vec::new());
    let bytes = b"HTTP/1.0 204 No Content\r\n\r\n";
    response(&answer(bytes, GET), &ToClient { via: "edge", ..NEW }, &mut out);
    assert_eq!(out.escape_ascii().to_string(), r"HTTP/1.1 204 No Content\r\nVia: 1.0 edge\r\n\r\n");
    interim(&answer(b"HTTP/1.1 100 Continue\r\n\r\n", GET), false, "edge", &mut interim_out);
    assert_eq!(interim_out.escape_ascii().to_string(), r"HTTP/1.1 100 Continue\r\nVia: 1.1 edge\r\n\r\n");
}

const NEW: ToClient<'_> = ToClient {
    version: Version::Http11,
    http2: false,
    keep_alive: true,
    via: "",
    extra: b"",
    wrap: None,
    hsts: None,
    private: false,
};
const OLD: ToClient<'_> = ToClient { version: Version::Http10, ..NEW };
const LAST: ToClient<'_> = ToClient { keep_alive: false, ..NEW };

fn returned(bytes: &str, asked: Asked<'_>, to: &ToClient<'_>) -> (String, bool) {
    let mut out = Vec::new();
    let keep_alive = response(&answer(bytes.as_bytes(), asked), to, &mut out);
    (String::from_utf8(out).unwrap(), keep_alive)
}

#[test]
fn status_lines() {
    for (came, expected, why) in [
        ("HTTP/1.1 404 No such thing", "HTTP/1.1 404 No such thing", "its reason"),
        ("HTTP/1.0 404 No such thing", "HTTP/1.1 404 No such thing", "our version"),
        ("HTTP/1.1 204", "HTTP/1.1 204 ", "the SP that RFC 9112 §4 wants"),
    ] {
        let (out, keep_alive) = returned(&format!("{came}\r\nContent-Length: 0\r\n\r\n"), GET, &NEW);
        assert!(out.starts_with(&format!("{expected}\r\n")), "{why}: {out}");
        assert!(keep_alive, "that the backend closes is between it and us");
    }
}

#[test]
fn fields_of_a_response() {
    for (came, expected, why) in [
        ("B: c\r\na:d\r\nB: e\r\n", "B: c\r\na: d\r\nB: e\r\n", "order and spelling"),
        ("Connection: close, X-A\r\nX-A: b\r\nX-B: c\r\n", "X-B: c\r\n", "nominated"),
        ("Keep-Alive: c\r\nUpgrade: h2c\r\nTE: d\r\nProxy-Connection: x\r\n", "", "RFC 9110 §7.6.1"),
        ("Connection: set-cookie\r\nSet-Cookie: a=b\r\n", "Set-Cookie: a=b\r\n", "not ours to lose"),
        ("Proxy-Authenticate: Basic\r\nProxy-Authentication-Info: a\r\n", "", "for a proxy that the client chose"),
        ("X_Forwarded_For: a\r\n", "X_Forwarded_For: a\r\n", "imitations fool no browser"),
        ("Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n", "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n", "RFC 9110 §5.3"),
    ] {
        let out = returned(&format!("HTTP/1.1 204 x\r\n{came}\r\n"), GET, &NEW).0;
        assert_eq!(out, format!("HTTP/1.1 204 x\r\n{expected}\r\n"), "{why}");
    }
}

#[test]
fn how_a_client_learns_where_a_response_ends() {
    let head = Asked { method: Method::Head, ..GET };
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let (close, kept) = ("Connection: close\r\n", "Connection: keep-alive\r\n");
    let none = String::new;
    for (status, came, asked, to, expected, why) in [
        (200, length, GET, NEW, length.to_owned(), "length"),
        (200, "content-length:05, 5\r\nContent-Length: 5\r\n", GET, NEW, length.to_owned(), "one length, plain"),
        (200, length, GET, LAST, [length, close].concat(), "told to close: RFC 9112 §9.6"),
        (200, length, GET, OLD, [length, kept].concat(), "1.0 has to be told: RFC 9112 §9.3"),
        (200, chunked, GET, NEW, chunked.to_owned(), "chunked"),
        (200, chunked, GET, OLD, close.to_owned(), "RFC 9112 §7: not for 1.0"),
        (200, "", GET, NEW, close.to_owned(), "until close"),
        (200, length, head, NEW, length.to_owned(), "what a GET would get: RFC 9110 §9.3.2"),
        (200, chunked, head, NEW, none(), "no body, no framing"),
        (200, chunked, head, OLD, kept.to_owned(), "no body, no framing"),
        (200, "", head, NEW, none(), "no body"),
        (304, length, GET, NEW, length.to_owned(), "what a 200 would have: RFC 9110 §8.6"),
        (304, "Content-Length: 5, 6\r\n", GET, NEW, none(), "nothing that could mislead"),
        (204, length, GET, NEW, none(), "RFC 9110 §8.6"),
        (204, chunked, GET, NEW, none(), "RFC 9112 §6.1"),
    ] {
        let (out, keep_alive) = returned(&format!("HTTP/1.1 {status} x\r\n{came}\r\n"), asked, &to);
        assert_eq!(out, format!("HTTP/1.1 {status} x\r\n{expected}\r\n"), "{why}");
        assert_eq!(keep_alive, !expected.contains("close"), "{why}");
    }
}

#[test]
fn interim_responses_carry_fields_and_no_framing() {
    let mut out = Vec::new();
    let bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    interim(&answer(bytes, GET), false, "", &mut out);
    assert_eq!(out.escape_ascii().to_string(), r"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

#[test]
fn a_cookie_of_ours_keeps_shared_caches_off() {
    let private = "Cache-Control: private\r\n";
    for (fields, added, why) in [
        ("", private, "heuristic caching: RFC 9111 §4.2.2"),
        ("Cache-Control: public, max-age=60\r\n", private, "`private` wins: RFC 9111 §3"),
        ("Expires: Thu, 01 Jan 2037 00:00:00 GMT\r\n", private, "an explicit lifetime"),
        ("Cache-Control: no-cache\r\n", private, "stored all the same"),
        ("Cache-Control: Private\r\n", "", "said already"),
        ("Cache-Control: max-age=1, private\r\n", "", "said already"),
        ("Cache-Control: max-age=1\r\nCache-Control: no-store\r\n", "", "said already, in another field"),
        ("Cache-Control: private=\"x-a\"\r\n", private, "for that field alone"),
        ("Cache-Control: no-cache=\"a, private, b\"\r\n", private, "a field's name"),
        ("Cache-Control: privateer\r\n", private, "whole words"),
    ] {
        let came = format!("HTTP/1.1 204 x\r\n{fields}\r\n");
        let to = ToClient { extra: b"Set-Cookie: lb=x\r\n", private: true, ..NEW };
        let expected = format!("HTTP/1.1 204 x\r\n{fields}Set-Cookie: lb=x\r\n{added}\r\n");
        assert_eq!(returned(&came, GET, &to).0, expected, "{why}");
        let expected = format!("HTTP/1.1 204 x\r\n{fields}\r\n");
        assert_eq!(returned(&came, GET, &NEW).0, expected, "nothing of ours, nothing said");
    }
}

const TOKEN: &str = "0123456789-0123456789_0123456789-0123456789_0123456789-01234567";

#[test]
fn a_token_in_front_is_taken_off_before_the_backend() {
    let name = CookieName::new("sid").unwrap();
    let cookie = |value: &str| format!("Cookie: {value}\r\n");
    for (unwrap, came, goes) in [
        (Carrier::Cookie(&name), cookie(&format!("a=1;sid={TOKEN}~x; b=2")), cookie("a=1;sid=x; b=2")),
        (Carrier::Cookie(&name), cookie(&format!("sid=\"{TOKEN}~x\"; sid={TOKEN}~")), cookie("sid=\"x\"; sid=")),
        (Carrier::Cookie(&name), cookie(&format!("sid=x; xsid={TOKEN}~x")), cookie(&format!("sid=x; xsid={TOKEN}~x"))),
        (Carrier::Header(b"S-Id"), format!("s-id:{TOKEN}~x\r\nA: b\r\n"), "s-id: x\r\nA: b\r\n".into()),
        (Carrier::Header(b"S-Id"), format!("S-Ids: {TOKEN}~x\r\n"), format!("S-Ids: {TOKEN}~x\r\n")),
        (Carrier::Header(b"S-Id"), "S-Id: x\r\n".into(), "S-Id: x\r\n".into()),
    ] {
        let to = ToBackend { unwrap: Some(unwrap), ..to_backend(&SILENT) };
        let out = sent(&head_of("GET / HTTP/1.1", &came), &to);
        assert!(out.ends_with(&format!("Host: a.example\r\n{goes}\r\n")), "{out}");
    }
}

#[test]
fn a_token_goes_in_front_for_the_client() {
    let name = CookieName::new("sid").unwrap();
    for (carrier, came, goes) in [
        (Carrier::Cookie(&name), "Set-Cookie: sid=x; Path=/", "Set-Cookie: sid=T~x; Path=/"),
        (Carrier::Cookie(&name), "set-cookie:sid = \"x\"", "set-cookie: sid = T~\"x\""),
        (Carrier::Cookie(&name), "Set-Cookie: sid=; Max-Age=0", "Set-Cookie: sid=; Max-Age=0"),
        (Carrier::Cookie(&name), "Set-Cookie: other=x; sid=y", "Set-Cookie: other=x; sid=y"),
        (Carrier::Cookie(&name), "Set-Cookie: sid", "Set-Cookie: sid"),
        (Carrier::Header(b"S-Id"), "s-id: x", "s-id: T~x"),
        (Carrier::Header(b"S-Id"), "S-Id:", "S-Id: "),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{came}\r\nContent-Length: 0\r\n\r\n");
        let to = ToClient { wrap: Some(Wrap { carrier, token: b"T" }), private: true, ..NEW };
        let mut out = Vec::new();
        response(&answer(bytes.as_bytes(), GET), &to, &mut out);
        let expected = format!("HTTP/1.1 200 OK\r\n{goes}\r\nContent-Length: 0\r\nCache-Control: private\r\n\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn an_upgrade_goes_on_where_it_may_and_takes_nothing_else_along() {
    let to = ToBackend { upgrade: Some(b"websocket"), ..to_backend(&SILENT) };
    for (fields, expected) in [
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", ""),
        ("Connection: keep-alive, Upgrade, X-Hop\r\nUpgrade: h2c, websocket\r\nX-Hop: 1\r\nX: y\r\n", "X: y\r\n"),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nHTTP2-Settings: x\r\nKeep-Alive: 1\r\n", ""),
    ] {
        let went = sent(&get_with(fields.as_bytes()), &to);
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(went, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{expected}{upgrade}\r\n"), "{fields}");
    }
    let went = sent(&get_with(b"TE: trailers\r\nConnection: upgrade, te\r\nUpgrade: websocket\r\n"), &to);
    assert!(went.ends_with("\r\nTE: trailers\r\nConnection: TE, Upgrade\r\nUpgrade: websocket\r\n\r\n"), "{went}");
}

#[test]
fn a_101_says_what_is_spoken_from_here_on_and_carries_the_marker() {
    let asked = Asked { upgrade: Some(b"websocket"), ..GET };
    let to = ToClient { extra: b"Set-Cookie: lb=x\r\n", private: true, ..NEW };
    let fields =
        "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\nKeep-Alive: 5\r\n";
    let (head, _) = returned(&format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n"), asked, &to);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\n\
        Upgrade: WebSocket\r\nSet-Cookie: lb=x\r\nCache-Control: private\r\n\r\n";
    assert_eq!(head, expected);
}

#[test]
fn nobody_but_us_says_whom_a_certificate_names() {
    let claimed =
        b"GET / HTTP/1.1\r\nHost: a\r\nx-client-subject: root\r\nX_Client_Subject: root\r\nX-Forwarded-Host: b\r\n\r\n";
    let with =
        |header, name| sent(claimed, &ToBackend { subject: Some(Subject { header, name }), ..to_backend(&SILENT) });
    let shown = with("X-Client-Subject", Some("CN=alice"));
    assert!(shown.contains("\r\nX-Client-Subject: CN=alice\r\n") && !shown.contains("root"), "{shown}");
    assert!(!with("X-Client-Subject", None).to_ascii_lowercase().contains("subject"));
    // A field that is otherwise passed on is ours all the same.
    assert!(!with("X-Forwarded-Host", None).contains("X-Forwarded-Host"));
}

#[test]
fn names_of_requests_are_passed_on_or_made() {
    const ID: &str = "X-Request-Id: 0123456789abcdef0011223344556677\r\n";
    const TRACE: &str = "traceparent: 00-0123456789abcdef0011223344556677-0123456789abcdef-01\r\n";
    let theirs = "x-request-id: abc-1\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n";
    let wrong = "X-Request-Id: a b\r\ntraceparent: 00-1-1-1\r\ntracestate: a=b\r\n";
    let twice = format!("{theirs}{theirs}");
    let ours = format!("{ID}{TRACE}");
    for (mode, trusted, fields, expected, why) in [
        (IdMode::Keep, false, "", &*ours, "made"),
        (IdMode::Keep, false, theirs, theirs, "kept"),
        (IdMode::Keep, false, wrong, &ours, "not well-formed, and the state goes with its trace"),
        (IdMode::Keep, false, &twice, &ours, "which one holds?"),
        (IdMode::Trust, false, theirs, &ours, "nobody's word"),
        (IdMode::Trust, true, theirs, theirs, "a proxy's word"),
        (IdMode::Trust, true, "", &ours, "made"),
        (IdMode::Replace, true, theirs, &ours, "ours alone"),
        (IdMode::Off, false, wrong, wrong, "untouched"),
        (IdMode::Off, false, "", "", "none is made"),
    ] {
        let forwarding = Forwarding { x_request_id: mode, traceparent: mode, ..SILENT.clone() };
        let to = ToBackend { trusted, ..to_backend(&forwarding) };
        let out = sent(&get_with(fields.as_bytes()), &to);
        assert_eq!(out, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{expected}\r\n"), "{why}");
    }
}

#[test]
fn a_trace_is_never_all_zeros() {
    let forwarding = Forwarding { traceparent: IdMode::Keep, trace_share: 0.0, ..SILENT.clone() };
    let to = ToBackend { unique: 0, ..to_backend(&forwarding) };
    let trace = format!("traceparent: 00-{:032x}-{:016x}-00\r\n", 1, 1);
    assert!(sent(&get_with(b""), &to).ends_with(&format!("{trace}\r\n")));
}
