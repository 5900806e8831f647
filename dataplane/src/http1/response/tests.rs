use super::super::testing::{GET, answer, bad_answer, index, text};
use super::super::{BadFields, Name};
use super::*;

#[test]
fn status_lines_that_are_taken() {
    for (line, version, status, reason, why) in [
        ("HTTP/1.1 200 OK", Version::Http11, 200, "OK", "RFC 9112 §4"),
        ("HTTP/1.0 200 OK", Version::Http10, 200, "OK", "1.0"),
        ("HTTP/1.1 200 ", Version::Http11, 200, "", "no reason"),
        ("HTTP/1.1 200", Version::Http11, 200, "", "nor the SP before it: many"),
        ("HTTP/1.1 404 Not Found", Version::Http11, 404, "Not Found", "words"),
        ("HTTP/1.1 200  two", Version::Http11, 200, " two", "kept as it came"),
        ("HTTP/1.1 200 a\tb", Version::Http11, 200, "a\\tb", "HTAB"),
        ("HTTP/1.1 200 sch\u{f6}n", Version::Http11, 200, "sch\\xc3\\xb6n", "obs-text"),
        ("HTTP/1.1 599 x", Version::Http11, 599, "x", "unknown, but within the classes"),
        ("HTTP/1.1 100 Continue", Version::Http11, 100, "Continue", "interim"),
    ] {
        let bytes = format!("{line}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let head = answer(&bytes, GET);
        assert_eq!(
            (head.version, head.status, text(head.reason).as_str()),
            (version, status, reason),
            "{why}: {line:?}"
        );
    }
}

#[test]
fn status_lines_that_are_refused() {
    use BadResponse::{Line, Status};
    let cases: [(&[u8], BadResponse, &str); 32] = [
        (b"\r\nHTTP/1.1 200 OK", Line, "an empty line before: requests alone"),
        (b"\nHTTP/1.1 200 OK", Line, "an empty line before"),
        (b" HTTP/1.1 200 OK", Line, "leading SP"),
        (b"HTTP/1.1  200 OK", Line, "two SP"),
        (b"HTTP/1.1\t200 OK", Line, "HTAB for SP"),
        (b"HTTP/1.1 200\tOK", Line, "HTAB for SP"),
        (b"HTTP/1.1 20 OK", Line, "two digits"),
        (b"HTTP/1.1 2000 OK", Line, "four digits"),
        (b"HTTP/1.1 2x0 OK", Line, "letter"),
        (b"HTTP/1.1 -20 OK", Line, "sign"),
        (b"HTTP/1.1 +20 OK", Line, "sign"),
        (b"HTTP/1.1 OK", Line, "no status"),
        (b"HTTP/1.1 ", Line, "no status"),
        (b"HTTP/1.1", Line, "no status"),
        (b"HTTP/1.2 200 OK", Line, "version"),
        (b"HTTP/2.0 200 OK", Line, "version"),
        (b"HTTP/2 200", Line, "version"),
        (b"HTTP/0.9 200 OK", Line, "version"),
        (b"http/1.1 200 OK", Line, "case: RFC 9112 §2.3"),
        (b"ICY 200 OK", Line, "another protocol"),
        (b"<html>", Line, "HTTP/0.9"),
        (b"220 mail.example ESMTP", Line, "another protocol"),
        (b"HTTP/1.1 200 O\0K", Line, "NUL in the reason"),
        (b"HTTP/1.1 200 O\rK", Line, "bare CR in the reason"),
        (b"HTTP/1.1 200 OK\nX: y", Line, "bare LF ends no line"),
        (b"HTTP/1.1 200\nX: y", Line, "bare LF ends no line"),
        (b"HTTP/1.1 200\rX: y", Line, "bare CR ends no line"),
        (b"HTTP/1.1 200 \x7f", Line, "DEL in the reason"),
        (b"HTTP/1.1 099 x", Status, "no class"),
        (b"HTTP/1.1 600 x", Status, "no class"),
        (b"HTTP/1.1 999 x", Status, "no class"),
        (b"HTTP/1.1 101 Switching Protocols", Status, "nobody asked: RFC 9110 §15.2.2"),
    ];
    for (line, expected, why) in cases {
        let bytes = [line, b"\r\nContent-Length: 0\r\n\r\n"].concat();
        assert_eq!(bad_answer(&bytes, GET), Some(expected), "{why}: {}", line.escape_ascii());
    }
}

#[test]
fn field_lines_that_are_refused() {
    let cases: [(&[u8], BadFields, &str); 16] = [
        (b"X : y\r\n", BadFields::Line, "space before the colon"),
        (b"Content-Length : 5\r\n", BadFields::Line, "space before the colon"),
        (b" X: y\r\n", BadFields::Line, "obs-fold of the status line"),
        (b"X: y\r\n z\r\n", BadFields::Line, "obs-fold: RFC 9112 §5.2"),
        (b"X: y\r\n\tz\r\n", BadFields::Line, "obs-fold"),
        (b" \r\n", BadFields::Line, "a line of space"),
        (b": y\r\n", BadFields::Line, "empty name"),
        (b"X\r\n", BadFields::Line, "no colon"),
        (b"X: a\0b\r\n", BadFields::Line, "NUL"),
        (b"X: a\rb\r\n", BadFields::Line, "bare CR"),
        (b"X: a\rSet-Cookie: b=c\r\n", BadFields::Line, "bare CR for response splitting"),
        (b"X: a\x7fb\r\n", BadFields::Line, "DEL"),
        (b"X: a\nSet-Cookie: b=c\r\n", BadFields::BareLf, "bare LF for response splitting"),
        (b"X: a\n\r\n", BadFields::BareLf, "bare LF"),
        (b"X: a\r\n\n", BadFields::BareLf, "bare LF for the empty line"),
        (b"X: a\n\nHTTP/1.1 200 OK\r\n", BadFields::BareLf, "bare LF hides a response"),
    ];
    for (fields, expected, why) in cases {
        let bytes = [b"HTTP/1.1 200 OK\r\n", fields, b"\r\n"].concat();
        assert_eq!(bad_answer(&bytes, GET), Some(BadResponse::Fields(expected)), "{why}: {}", fields.escape_ascii());
    }
}

#[test]
fn whether_the_backends_connection_stays() {
    for (line, fields, expected, why) in [
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\n", true, "1.1 keeps: RFC 9112 §9.3"),
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\nConnection: close\r\n", false, "unless it says so"),
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\nConnection: x,CLOSE\r\n", false, "in a list"),
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\nConnection: x\r\nConnection: close\r\n", false, "in another field"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", true, "chunked"),
        ("HTTP/1.1 200 OK", "", false, "the end is the close"),
        ("HTTP/1.1 200 OK", "Connection: keep-alive\r\n", false, "the end is the close"),
        ("HTTP/1.1 204 No Content", "", true, "no body"),
        ("HTTP/1.0 200 OK", "Content-Length: 0\r\n", false, "1.0 closes"),
        ("HTTP/1.0 200 OK", "Content-Length: 0\r\nConnection: Keep-Alive\r\n", true, "unless it says so"),
        ("HTTP/1.0 200 OK", "Content-Length: 0\r\nConnection: keep-alive, close\r\n", false, "close wins"),
    ] {
        let bytes = format!("{line}\r\n{fields}\r\n").into_bytes();
        assert_eq!(answer(&bytes, GET).keep_alive, expected, "{why}: {line} {fields:?}");
    }
}

#[test]
fn interim_heads_are_told_from_the_last_one() {
    let upgrade = Asked { upgrade: Some(b"x"), ..GET };
    for (line, asked, interim) in [
        ("HTTP/1.1 100 Continue", GET, true),
        ("HTTP/1.1 102 Processing", GET, true),
        ("HTTP/1.1 103 Early Hints", GET, true),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x", upgrade, false),
        ("HTTP/1.1 200 OK", upgrade, false),
    ] {
        assert_eq!(answer(format!("{line}\r\n\r\n").as_bytes(), asked).is_interim(), interim, "{line}");
    }
}

#[test]
fn the_end_that_a_client_can_be_told() {
    for (fields, old, new) in [
        ("Content-Length: 5\r\n", false, false),
        ("Transfer-Encoding: chunked\r\n", true, false), // RFC 9112 §7: no chunks for 1.0
        ("", true, true),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
        let head = answer(&bytes, GET);
        assert_eq!((head.ends_by_close(Version::Http10), head.ends_by_close(Version::Http11)), (old, new), "{fields}");
    }
}

#[test]
fn limits_hold_for_responses_too() {
    let limits = Limits { head: 100, headers: 2, uri: 0 };
    let ask = |bytes: &[u8]| parse(bytes, &limits, GET, index()).map(|parse| matches!(parse, Parse::Complete { .. }));
    let sized = |len: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(len - 24)).into_bytes();
    assert_eq!(ask(&sized(100)), Ok(true));
    assert_eq!(ask(&sized(101)), Err(BadResponse::HeadTooLarge));
    assert_eq!(ask(&sized(101)[..99]), Ok(false));
    assert_eq!(ask(b"HTTP/1.1 200 OK\r\nX: y\r\nX: y\r\n\r\n"), Ok(true));
    assert_eq!(ask(b"HTTP/1.1 200 OK\r\nX: y\r\nX: y\r\nX: y\r\n\r\n"), Err(BadResponse::Fields(BadFields::TooMany)));
    let endless = [b"HTTP/1.1 200 ", &[b'x'; 90][..]].concat();
    assert_eq!(ask(&endless), Err(BadResponse::HeadTooLarge));
}

#[test]
fn fields_that_affinity_needs_are_found() {
    let bytes = b"HTTP/1.1 204 x\r\nSet-Cookie: a=b\r\nCache-Control: no-store\r\nset-cookie: c=d\r\n\r\n";
    let head = answer(bytes, GET);
    assert_eq!(head.fields.values(Name::SetCookie).collect::<Vec<_>>(), [b"a=b", b"c=d"]);
    assert!(head.fields.has(Name::CacheControl));
}
