use super::super::testing::{get_with, head_of, index, parse, refusal, request, summary};
use super::super::{BadFields, HeadScan, head};
use super::*;

#[test]
fn heads_that_are_taken() {
    for (head, expected, why) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "Get / Http11 a none keep", "RFC 9112 §3"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "Get / Http11 a none keep", "RFC 9112 §2.2"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "Get / Http11 a none keep", "two empty lines at most"),
        ("GET / HTTP/1.0\r\n\r\n", "Get / Http10 - none close", "1.0 needs no Host"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "Get / Http10 a none close", "1.0 may have one"),
        ("GET /a?b=c HTTP/1.1\r\nHost: a:80\r\n\r\n", "Get /a?b=c Http11 a:80 none keep", "query, port"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "Head / Http11 a none keep", "method"),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "Post / Http11 a none keep", "no length, no body: RFC 9112 §6.3"),
        ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "Put / Http11 a none keep", "method"),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "Delete / Http11 a none keep", "method"),
        ("PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", "Patch / Http11 a none keep", "RFC 5789"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "Trace / Http11 a none keep", "method"),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", "Options / Http11 a none keep", "method"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "Options * Http11 a none keep", "RFC 9112 §3.2.4"),
        ("PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", "Other / Http11 a none keep", "RFC 4918"),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "Other / Http11 a none keep", "methods are case-sensitive"),
        ("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n", "Other / Http11 a none keep", "every tchar"),
        (
            "GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n",
            "Get <b>/c Http11 b none keep",
            "absolute wins: RFC 9112 §3.2.2",
        ),
        ("GET http://b HTTP/1.0\r\n\r\n", "Get <b> Http10 b none close", "absolute, 1.0"),
        ("OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", "Options <b>* Http11 b none keep", "RFC 9112 §3.2.4"),
        ("GET /%00%zz HTTP/1.1\r\nHost: a\r\n\r\n", "Get /%00%zz Http11 a none keep", "escapes are the backend's"),
        (
            "GET /{}|\\^`\"<>[] HTTP/1.1\r\nHost: a\r\n\r\n",
            "Get /{}|\\\\^`\\\"<>[] Http11 a none keep",
            "clients send it",
        ),
        ("GET /../../x HTTP/1.1\r\nHost: a\r\n\r\n", "Get /../../x Http11 a none keep", "not ours to resolve"),
        ("GET / HTTP/1.1\r\nhOsT:a\r\n\r\n", "Get / Http11 a none keep", "names in any case, no space needed"),
        ("GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", "Get / Http11 a none keep", "OWS: RFC 9112 §5"),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "Get / Http11 [::1]:8080 none keep", "IPv6"),
    ] {
        assert_eq!(summary(&request(head.as_bytes())), expected, "{why}: {head:?}");
    }
}

#[test]
fn request_lines_that_are_refused() {
    use Refusal::{Connect, Line, Method, Target, Version};
    for (line, expected, why) in [
        ("\nGET / HTTP/1.1", Line, "bare LF before the line"),
        ("\r\rGET / HTTP/1.1", Line, "bare CR before the line"),
        ("\r\n\r\n\r\nGET / HTTP/1.1", Line, "a third empty line"),
        (" GET / HTTP/1.1", Line, "leading SP"),
        ("\tGET / HTTP/1.1", Line, "leading HTAB"),
        ("GET  / HTTP/1.1", Line, "two SP"),
        ("GET\t/ HTTP/1.1", Line, "HTAB for SP"),
        ("GET /  HTTP/1.1", Line, "two SP"),
        ("GET / HTTP/1.1 ", Line, "trailing SP"),
        ("GET / HTTP/1.1\t", Line, "trailing HTAB"),
        ("GET /\tHTTP/1.1", Target, "HTAB for SP"),
        ("GET /\u{b}x HTTP/1.1", Target, "vertical tab"),
        ("GET /a b HTTP/1.1", Line, "SP in the target"),
        ("GET /a\rb HTTP/1.1", Target, "bare CR in the target"),
        ("GET / HTTP/1.1\rX: y", Line, "bare CR ends no line"),
        ("GET / HTTP/1.1\nHost: b", Line, "bare LF ends no line"),
        ("GET /\r\n", Target, "HTTP/0.9"),
        ("GET", Line, "no target"),
        ("GET ", Target, "no target"),
        ("GET / ", Line, "no version"),
        ("/ HTTP/1.1", Line, "no method"),
        ("G(T / HTTP/1.1", Line, "delimiter in the method"),
        ("G\0T / HTTP/1.1", Line, "NUL in the method"),
        ("GÉT / HTTP/1.1", Line, "method not ASCII"),
        ("GET:/ HTTP/1.1", Line, "a colon is no SP"),
        ("head / HTTP/1.1", Line, "HEAD to a careless backend"),
        ("Head / HTTP/1.1", Line, "HEAD to a careless backend"),
        ("connect a:80 HTTP/1.1", Line, "CONNECT to a careless backend"),
        ("CONNECT a.example:443 HTTP/1.1", Connect, "RFC 9110 §9.3.6"),
        ("CONNECT / HTTP/1.1", Connect, "RFC 9110 §9.3.6"),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1", Method, "33 letters: RFC 9112 §3"),
        ("GET /a#b HTTP/1.1", Target, "fragment"),
        ("GET /\0 HTTP/1.1", Target, "NUL"),
        ("GET /\u{7f} HTTP/1.1", Target, "DEL"),
        ("GET /é HTTP/1.1", Target, "not ASCII"),
        ("GET * HTTP/1.1", Target, "asterisk is for OPTIONS"),
        ("OPTIONS ** HTTP/1.1", Target, "no form"),
        ("GET a HTTP/1.1", Target, "relative"),
        ("GET a.example:80 HTTP/1.1", Target, "authority form is for CONNECT"),
        ("GET ?a HTTP/1.1", Target, "no path"),
        ("GET \\a HTTP/1.1", Target, "backslash for slash"),
        ("GET http:// HTTP/1.1", Target, "no authority"),
        ("GET http:///a HTTP/1.1", Target, "no authority"),
        ("GET http://u@b/ HTTP/1.1", Target, "userinfo: RFC 9110 §4.2.4"),
        ("GET http://b:x/ HTTP/1.1", Target, "port"),
        ("GET http://b:99999/ HTTP/1.1", Target, "port"),
        ("GET http://b\\@c/ HTTP/1.1", Target, "two readings of the host"),
        ("GET http://b%2ec/ HTTP/1.1", Target, "two readings of the host"),
        ("GET ftp://b/ HTTP/1.1", Target, "scheme"),
        ("GET file:///etc/passwd HTTP/1.1", Target, "scheme"),
        ("GET / http/1.1", Line, "case: RFC 9112 §2.3"),
        ("GET / HTTPS/1.1", Line, "name"),
        ("GET / HTTP/11", Line, "no dot"),
        ("GET / HTTP/1.10", Line, "two digits"),
        ("GET / HTTP/01.1", Line, "two digits"),
        ("GET / HTTP/1,1", Line, "comma"),
        ("GET / HTTP/ 1.1", Line, "SP"),
        ("GET / HTTP/1.x", Line, "letter"),
        ("GET / HTTP/-1.1", Line, "sign"),
        ("GET / HTTP/0.9", Version, "RFC 9110 §15.6.6"),
        ("GET / HTTP/1.2", Version, "unknown minor"),
        ("GET / HTTP/2.0", Version, "RFC 9110 §15.6.6"),
        ("GET / HTTP/3.0", Version, "RFC 9110 §15.6.6"),
        ("PRI * HTTP/2.0\r\n\r\nSM", Version, "HTTP/2 preface"),
    ] {
        assert_eq!(refusal(&head_of(line, "")), Some(expected), "{why}: {line:?}");
    }
}

#[test]
fn field_lines_that_are_refused() {
    let cases: [(&[u8], BadFields, &str); 31] = [
        (b"X : y\r\n", BadFields::Line, "space before the colon: RFC 9112 §5.1"),
        (b"X\t: y\r\n", BadFields::Line, "tab before the colon"),
        (b" X: y\r\n", BadFields::Line, "obs-fold: RFC 9112 §5.2"),
        (b"\tX: y\r\n", BadFields::Line, "obs-fold"),
        (b"X: y\r\n z\r\n", BadFields::Line, "obs-fold"),
        (b"X: y\r\n\tz\r\n", BadFields::Line, "obs-fold"),
        (b"X:\r\n y\r\n", BadFields::Line, "obs-fold of an empty value"),
        (b" \r\n", BadFields::Line, "a line of space"),
        (b"\t\r\n", BadFields::Line, "a line of tab"),
        (b": y\r\n", BadFields::Line, "empty name"),
        (b"X\r\n", BadFields::Line, "no colon"),
        (b"X y: z\r\n", BadFields::Line, "space in the name"),
        (b"X(y): z\r\n", BadFields::Line, "delimiter in the name"),
        (b"X\"y\": z\r\n", BadFields::Line, "quote in the name"),
        (b"X\0: y\r\n", BadFields::Line, "NUL in the name"),
        (b"\xc3\xa9: y\r\n", BadFields::Line, "name not ASCII"),
        (b"X\x7f: y\r\n", BadFields::Line, "DEL in the name"),
        (b"X: a\0b\r\n", BadFields::Line, "NUL in the value"),
        (b"X: a\x01b\r\n", BadFields::Line, "control in the value"),
        (b"X: a\x7fb\r\n", BadFields::Line, "DEL in the value"),
        (b"X: a\x1b[2Jb\r\n", BadFields::Line, "escape in the value"),
        (b"X: a\rb\r\n", BadFields::Line, "bare CR in the value"),
        (b"X: a\r\r\n", BadFields::Line, "bare CR at the end"),
        (b"X: \r\r\n", BadFields::Line, "bare CR for a value"),
        (b"X\r: y\r\n", BadFields::Line, "bare CR in the name"),
        (b"\rX: y\r\n", BadFields::Line, "bare CR before the name"),
        (b"X: y\n", BadFields::BareLf, "bare LF: RFC 9112 §2.2"),
        (b"X: a\nY: b\r\n", BadFields::BareLf, "bare LF"),
        (b"X:\nY: b\r\n", BadFields::BareLf, "bare LF after an empty value"),
        (b"X: y\r\n\n", BadFields::BareLf, "bare LF for the empty line"),
        (b"X: y\n\nGET /admin HTTP/1.1\r\nHost: a\r\n", BadFields::BareLf, "bare LF hides a request"),
    ];
    for (fields, expected, why) in cases {
        assert_eq!(refusal(&get_with(fields)), Some(Refusal::Fields(expected)), "{why}: {}", fields.escape_ascii());
    }
    assert_eq!(
        refusal(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        Some(Refusal::Fields(BadFields::Line)),
        "fold of the line"
    );
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), Some(Refusal::Fields(BadFields::BareLf)));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), Some(Refusal::Fields(BadFields::BareLf)));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n\n"), Some(Refusal::Fields(BadFields::BareLf)));
}

/// Every byte at every place near the sizes that vector code works in: names, values and targets take what the grammar
/// has and nothing else.
#[test]
fn every_byte_is_judged_alike_at_every_place() {
    for byte in 0..=255u8 {
        let in_name = text::is_token_byte(byte);
        let in_value = text::is_text_byte(byte);
        let in_target = matches!(byte, 0x21..=0x7e) && byte != b'#';
        for place in 0..40 {
            let mut run = vec![b'x'; 70];
            run.splice(place + 1..place + 2, [byte]);
            let name = [b"GET / HTTP/1.1\r\nHost: a\r\n", &run[..], b": y\r\n\r\n"].concat();
            let value = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &run[..], b"\r\n\r\n"].concat();
            let target = [b"GET /", &run[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            let colon_splits_it = byte == b':';
            assert_eq!(parse(&name).is_ok(), in_name || colon_splits_it, "name {byte:#x} at {place}");
            assert_eq!(parse(&value).is_ok(), in_value, "value {byte:#x} at {place}");
            assert_eq!(parse(&target).is_ok(), in_target, "target {byte:#x} at {place}");
        }
    }
}

#[test]
fn hosts() {
    for (head, why) in [
        ("GET / HTTP/1.1\r\n\r\n", "missing: RFC 9112 §3.2"),
        ("GET / HTTP/1.1\r\nX: y\r\n\r\n", "missing"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "missing beside an absolute target"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two"),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "two, though equal"),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "two, 1.0"),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "two beside an absolute target"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "empty"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "space"),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "list"),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "list"),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "userinfo"),
        ("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", "a URI"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "a path"),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "port"),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "half a bracket"),
        ("GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", "bad beside an absolute target"),
        ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "bad, 1.0"),
    ] {
        assert_eq!(refusal(head.as_bytes()), Some(Refusal::Host), "{why}: {head:?}");
    }
}

#[test]
fn what_the_fields_mean() {
    let get = "GET / HTTP/1.1";
    let old = "GET / HTTP/1.0";
    for (line, fields, expected, why) in [
        (get, "Connection: close\r\n", "none close", "RFC 9112 §9.6"),
        (get, "Connection: Close\r\n", "none close", "any case"),
        (get, "Connection: keep-alive\r\n", "none keep", "noise in 1.1"),
        (get, "Connection: x, close ,y\r\n", "none close", "a list"),
        (get, "Connection: x\r\nConnection: close\r\n", "none close", "several fields"),
        (get, "Connection: keep-alive, close\r\n", "none close", "close wins"),
        (get, "Connection: closed\r\n", "none keep", "whole tokens only"),
        (get, "Connection: \"close\"\r\n", "none keep", "a quoted string is no token"),
        (get, "Connection:\r\n", "none keep", "empty"),
        (get, "Proxy-Connection: close\r\n", "none keep", "RFC 9112 App. C.2.2"),
        (old, "Connection: keep-alive\r\n", "none keep", "RFC 9112 §9.3"),
        (old, "Connection: Keep-Alive, x\r\n", "none keep", "a list"),
        (old, "Connection: keep-alive, close\r\n", "none close", "close wins"),
        (old, "Connection: x\r\n", "none close", "1.0 closes"),
        (get, "Expect: 100-continue\r\n", "none keep", "nothing to wait for"),
        (get, "Expect: 100-continue\r\nContent-Length: 3\r\n", "3 keep expect", "RFC 9110 §10.1.1"),
        (get, "Expect: 100-continue\r\nContent-Length: 0\r\n", "0 keep", "nothing to wait for"),
        (get, "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", "chunked keep expect", "any case"),
        (get, "Expect: x, 100-continue\r\nContent-Length: 3\r\n", "3 keep expect", "a list"),
        (get, "Expect: x 100-continue\r\nContent-Length: 3\r\n", "3 keep", "whole elements only"),
        (get, "Expect: 100-continue=1\r\nContent-Length: 3\r\n", "3 keep", "whole elements only"),
        (old, "Expect: 100-continue\r\nContent-Length: 3\r\n", "3 close", "1.0: RFC 9110 §10.1.1"),
        (get, "TE: trailers\r\n", "none keep trailers", "RFC 9110 §10.1.4"),
        (get, "TE: gzip;q=0.5, Trailers\r\n", "none keep trailers", "a list"),
        (get, "TE: gzip\r\n", "none keep", "other codings"),
        (old, "TE: trailers\r\n", "none close", "1.0 has none"),
        (get, "Connection: upgrade\r\nUpgrade: websocket\r\n", "none keep upgrade=websocket", "RFC 9110 §7.8"),
        (get, "Upgrade: websocket\r\n", "none keep", "without the option it is for nobody"),
        (get, "Connection: upgrade\r\n", "none keep", "to nothing"),
        (old, "Connection: upgrade\r\nUpgrade: x\r\n", "none close", "1.0: RFC 9110 §7.8"),
        (get, "Content-Length: 0\r\n", "0 keep", "said is said"),
    ] {
        let bytes = head_of(line, fields);
        let head = request(&bytes);
        let meaning = summary(&head).split(" a.example ").nth(1).unwrap().to_owned();
        assert_eq!(meaning, expected, "{why}: {fields:?}");
    }
}

#[test]
fn the_fields_are_there_in_order_and_by_name() {
    let bytes = get_with(b"cookie: a=1\r\nX-A:  b \xff\t\r\nCookie:c=2\r\nx-a:\r\n");
    let head = request(&bytes);
    let all: Vec<_> = head.fields.iter().map(|field| (field.name, field.label, field.value)).collect();
    let expected: [(Name, &[u8], &[u8]); 5] = [
        (Name::Host, b"Host", b"a.example"),
        (Name::Cookie, b"cookie", b"a=1"),
        (Name::Other, b"X-A", b"b \xff"),
        (Name::Cookie, b"Cookie", b"c=2"),
        (Name::Other, b"x-a", b""),
    ];
    assert_eq!(all, expected);
    assert_eq!(head.fields.values(Name::Cookie).collect::<Vec<_>>(), [b"a=1", b"c=2"]);
    assert_eq!(head.fields.called(b"X-a").collect::<Vec<_>>(), [&b"b \xff"[..], b""]);
    assert!(head.fields.has(Name::Cookie) && !head.fields.has(Name::Via));
    assert_eq!((head.fields.len(), head.fields.is_empty()), (5, false));
}

#[test]
fn the_bytes_behind_a_head_are_not_its_own() {
    let bytes = get_with(b"Content-Length: 5\r\n");
    let pipelined = [&bytes[..], b"hello\0\n\rGARBAGE"].concat();
    let Ok(Parse::Complete { head, len }) = parse(&pipelined) else { panic!("no head") };
    assert_eq!((head.body, len), (BodyLength::Length(5), bytes.len()));
    let Ok(Parse::Complete { len, .. }) = parse(b"\r\nGET / HTTP/1.0\r\n\r\nrest") else { panic!("no head") };
    assert_eq!(len, 20, "the empty line before is taken with it");
}

#[test]
fn limits_are_exact() {
    let limits = Limits { head: 200, headers: 3, uri: 20 };
    let ask = |bytes: &[u8]| match head::parse(bytes, &limits, index()) {
        Ok(Parse::Complete { .. }) => Ok(true),
        Ok(Parse::Partial) => Ok(false),
        Err(refusal) => Err(refusal),
    };
    let uri = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "u".repeat(len - 1)).into_bytes();
    assert_eq!(ask(&uri(20)), Ok(true));
    assert_eq!(ask(&uri(21)), Err(Refusal::UriTooLong));
    assert_eq!(ask(&uri(21)[..25]), Err(Refusal::UriTooLong), "at once, before the line has ended");
    assert_eq!(ask(&uri(21)[..24]), Ok(false));
    let sized = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(len - 32)).into_bytes();
    assert_eq!(sized(200).len(), 200);
    assert_eq!(ask(&sized(200)), Ok(true));
    assert_eq!(ask(&sized(201)), Err(Refusal::HeadTooLarge));
    assert_eq!(ask(&sized(201)[..200]), Err(Refusal::HeadTooLarge), "no room is left for its end");
    assert_eq!(ask(&sized(201)[..199]), Ok(false));
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1)).into_bytes();
    assert_eq!(ask(&many(3)), Ok(true));
    assert_eq!(ask(&many(4)), Err(Refusal::Fields(BadFields::TooMany)));
}

#[test]
fn limits_above_the_hard_ones_count_as_those() {
    let limits = Limits { head: usize::MAX, headers: usize::MAX, uri: usize::MAX };
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1)).into_bytes();
    let first = many(128);
    let Ok(Parse::Complete { head, .. }) = head::parse(&first, &limits, index()) else { panic!("128 headers") };
    assert_eq!(head.fields.len(), 128);
    assert_eq!(head::parse(&many(129), &limits, index()).err(), Some(Refusal::Fields(BadFields::TooMany)));
    let sized = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(len - 32)).into_bytes();
    let whole = sized(Limits::MAX_HEAD);
    let Ok(Parse::Complete { head, .. }) = head::parse(&whole, &limits, index()) else { panic!("64 KiB") };
    assert_eq!(head.fields.called(b"x").next().map(<[u8]>::len), Some(Limits::MAX_HEAD - 32));
    assert_eq!(head::parse(&sized(Limits::MAX_HEAD + 1), &limits, index()).err(), Some(Refusal::HeadTooLarge));
}

#[test]
fn connection_options_are_bounded() {
    let options = |count: usize| get_with(format!("Connection: {}\r\n", "a,".repeat(count)).as_bytes());
    assert_eq!(refusal(&options(32)), None);
    assert_eq!(refusal(&options(33)), Some(Refusal::Fields(BadFields::ConnectionOptions)));
}

/// A reader that follows [`HeadScan`] gives the answer that a parse of the whole gives, however the bytes come.
#[test]
fn the_scan_changes_no_answer() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "u".repeat(9000));
    for bytes in [
        &get_with(b"Cookie: a=b\r\nX: y\r\n")[..],
        &get_with(b"X: y\n\n"),
        &get_with(b"X : y\r\n"),
        b"\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        b"\r\n\r\n\r\n",
        long.as_bytes(),
    ] {
        let whole = parse(bytes).map(|answer| matches!(answer, Parse::Complete { .. }));
        for pieces in 1..=7 {
            let mut scan = HeadScan::default();
            let ends = (1..=bytes.len()).filter(|end| end % pieces == 0 || *end == bytes.len());
            let answer = ends.filter(|end| scan.due(&bytes[..*end], &Limits::default())).find_map(|end| {
                match parse(&bytes[..end]) {
                    Ok(Parse::Partial) => None,
                    Ok(Parse::Complete { .. }) => Some(Ok(true)),
                    Err(refusal) => Some(Err(refusal)),
                }
            });
            assert_eq!(answer, Some(whole), "{} in pieces of {pieces}", bytes.escape_ascii());
        }
    }
}
