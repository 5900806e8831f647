use super::super::testing::{GET, answer, bad_answer, body, head_of, refusal, request};
use super::super::{Asked, BadResponse, Refusal};
use super::*;

#[test]
fn requests_that_end_in_one_place() {
    for (fields, expected, why) in [
        ("", "none", "RFC 9112 §6.3: no length is no body"),
        ("Content-Length: 0\r\n", "0", "empty, and said so"),
        ("Content-Length: 42\r\n", "42", "RFC 9110 §8.6"),
        ("content-LENGTH:42\r\n", "42", "any case"),
        ("Content-Length: \t42 \t\r\n", "42", "OWS around the value"),
        ("Content-Length: 00042\r\n", "42", "1*DIGIT; sent on as 42"),
        ("Content-Length: 42, 42\r\n", "42", "a list of equals: RFC 9110 §8.6"),
        ("Content-Length: 42,42,42\r\n", "42", "a list of equals"),
        ("Content-Length: 42\r\nContent-Length: 42\r\n", "42", "fields of equals"),
        ("Content-Length: 9223372036854775807\r\n", "9223372036854775807", "the largest that all can count"),
        ("Transfer-Encoding: chunked\r\n", "chunked", "RFC 9112 §7.1"),
        ("transfer-encoding:Chunked\r\n", "chunked", "any case"),
        ("Transfer-Encoding: \t chunked \t\r\n", "chunked", "OWS around the value"),
        ("Transfer_Encoding: chunked\r\n", "none", "an imitation, and not passed on"),
        ("X-Transfer-Encoding: chunked\r\n", "none", "another field"),
        ("Content_Length: 5\r\n", "none", "an imitation, and not passed on"),
        ("Content_Length: 5\r\nTransfer-Encoding: chunked\r\n", "chunked", "an imitation, and not passed on"),
    ] {
        let bytes = head_of("POST / HTTP/1.1", fields);
        assert_eq!(body(request(&bytes).body), expected, "{why}: {fields:?}");
    }
}

#[test]
fn requests_whose_end_is_in_doubt() {
    use BadFraming::{Coding, Length, LengthAndCoding, UnknownCoding};
    for (fields, expected, why) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding, "CL.TE: RFC 9112 §6.3"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", LengthAndCoding, "TE.CL"),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding, "even of 0"),
        ("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding, "even malformed"),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", LengthAndCoding, "even identity"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Length, "fields that differ"),
        ("Content-Length: 5, 6\r\n", Length, "a list that differs"),
        ("Content-Length: 5\r\nContent-Length: 5, 6\r\n", Length, "a list that differs"),
        ("Content-Length: 5,\r\n", Length, "empty element"),
        ("Content-Length: ,5\r\n", Length, "empty element"),
        ("Content-Length: 5,,5\r\n", Length, "empty element"),
        ("Content-Length:\r\n", Length, "empty"),
        ("Content-Length: 5\r\nContent-Length:\r\n", Length, "one empty"),
        ("Content-Length: +5\r\n", Length, "sign"),
        ("Content-Length: -5\r\n", Length, "sign"),
        ("Content-Length: 5 5\r\n", Length, "space inside"),
        ("Content-Length: 5\t5\r\n", Length, "tab inside"),
        ("Content-Length: 0x5\r\n", Length, "hexadecimal"),
        ("Content-Length: 5a\r\n", Length, "letter"),
        ("Content-Length: 5.0\r\n", Length, "point"),
        ("Content-Length: 5;a\r\n", Length, "parameter"),
        ("Content-Length: \"5\"\r\n", Length, "quoted"),
        ("Content-Length: 1e3\r\n", Length, "exponent"),
        ("Content-Length: 1_000\r\n", Length, "separator"),
        ("Content-Length: ٥\r\n", Length, "digit, but not ASCII"),
        ("Content-Length: 9223372036854775808\r\n", Length, "negative to a signed reader"),
        ("Content-Length: 18446744073709551616\r\n", Length, "0 to a reader that wraps"),
        ("Content-Length: 18446744073709551621\r\n", Length, "5 to a reader that wraps"),
        ("Transfer-Encoding: gzip, chunked\r\n", UnknownCoding, "RFC 9112 §6.1: 501"),
        ("Transfer-Encoding: x-gzip,\tchunked\r\n", UnknownCoding, "RFC 9112 §7.2"),
        ("Transfer-Encoding: deflate, compress, chunked\r\n", UnknownCoding, "two codings"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", UnknownCoding, "one list in two fields"),
        ("Transfer-Encoding: gzip\r\n", Coding, "chunked is not last: RFC 9112 §6.3"),
        ("Transfer-Encoding: chunked, gzip\r\n", Coding, "chunked is not last"),
        ("Transfer-Encoding: chunked, chunked\r\n", Coding, "twice: RFC 9112 §7.1"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Coding, "twice"),
        ("Transfer-Encoding: gzip, chunked, chunked\r\n", Coding, "twice"),
        ("Transfer-Encoding: identity\r\n", Coding, "gone since RFC 7230"),
        ("Transfer-Encoding: identity, chunked\r\n", Coding, "gone since RFC 7230"),
        ("Transfer-Encoding: chunked, identity\r\n", Coding, "gone since RFC 7230"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Coding, "TE.TE"),
        ("Transfer-Encoding: xchunked\r\n", Coding, "TE.TE"),
        ("Transfer-Encoding: chunkedx\r\n", Coding, "TE.TE"),
        ("Transfer-Encoding: x, chunked\r\n", Coding, "TE.TE"),
        ("Transfer-Encoding:\r\n", Coding, "empty"),
        ("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", Coding, "one empty"),
        ("Transfer-Encoding: chunked,\r\n", Coding, "empty element"),
        ("Transfer-Encoding: ,chunked\r\n", Coding, "empty element"),
        ("Transfer-Encoding: chunked;q=1\r\n", Coding, "parameter: RFC 9112 §7"),
        ("Transfer-Encoding: chunked ;a\r\n", Coding, "parameter"),
        ("Transfer-Encoding: \"chunked\"\r\n", Coding, "quoted"),
        ("Transfer-Encoding: chun ked\r\n", Coding, "space inside"),
        ("Transfer-Encoding: chunked gzip\r\n", Coding, "space for comma"),
        ("Transfer-Encoding: ch\u{212a}unked\r\n", Coding, "not ASCII"),
        ("Transfer-Encoding: chunKeD\u{a0}\r\n", Coding, "a space that is none"),
    ] {
        let bytes = head_of("POST / HTTP/1.1", fields);
        assert_eq!(refusal(&bytes), Some(Refusal::Framing(expected)), "{why}: {fields:?}");
    }
    for (line, fields, expected, why) in [
        ("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", BadFraming::CodingInHttp10, "RFC 9112 §6.1"),
        ("TRACE / HTTP/1.1", "Content-Length: 0\r\n", BadFraming::Trace, "RFC 9110 §9.3.8"),
        ("TRACE / HTTP/1.1", "Transfer-Encoding: chunked\r\n", BadFraming::Trace, "RFC 9110 §9.3.8"),
    ] {
        assert_eq!(refusal(&head_of(line, fields)), Some(Refusal::Framing(expected)), "{why}");
    }
}

#[test]
fn responses_that_end_in_one_place() {
    let head = Asked { method: Method::Head, ..GET };
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    // status line, fields, asked, body, told length
    for (line, fields, asked, expected, told, why) in [
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\n", GET, "5", None, "RFC 9112 §6.3"),
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\n", GET, "0", None, "empty"),
        ("HTTP/1.1 200 OK", "Content-Length: 5, 5\r\n", GET, "5", None, "a list of equals"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", GET, "chunked", None, "RFC 9112 §7.1"),
        ("HTTP/1.1 200 OK", "", GET, "until-close", None, "RFC 9112 §6.3"),
        ("HTTP/1.0 200 OK", "", GET, "until-close", None, "1.0"),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\n", GET, "5", None, "1.0"),
        ("HTTP/1.1 404 Not Found", "", GET, "until-close", None, "any status"),
        ("HTTP/1.1 205 Reset", "Content-Length: 0\r\n", GET, "0", None, "RFC 9110 §15.3.6"),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\n", head, "none", Some(5), "RFC 9110 §9.3.2"),
        ("HTTP/1.1 200 OK", "", head, "none", None, "HEAD"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", head, "none", None, "RFC 9112 §6.1"),
        ("HTTP/1.1 200 OK", both, head, "none", None, "whatever the fields say"),
        ("HTTP/1.1 200 OK", "Content-Length: 5, 6\r\n", head, "none", None, "nothing to tell"),
        ("HTTP/1.1 200 OK", "Content-Length: x\r\n", head, "none", None, "nothing to tell"),
        ("HTTP/1.1 304 Not Modified", "Content-Length: 5\r\n", GET, "none", Some(5), "RFC 9110 §8.6"),
        ("HTTP/1.1 304 Not Modified", both, GET, "none", None, "whatever the fields say"),
        ("HTTP/1.1 204 No Content", "Content-Length: 5\r\n", GET, "none", None, "RFC 9112 §6.3"),
        ("HTTP/1.1 204 No Content", "Content-Length: 0\r\n", head, "none", None, "RFC 9110 §8.6"),
        ("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked\r\n", GET, "none", None, "RFC 9112 §6.1"),
        ("HTTP/1.1 100 Continue", "Content-Length: 5\r\n", GET, "none", None, "RFC 9112 §6.3"),
        ("HTTP/1.1 103 Early Hints", "", head, "none", None, "1xx"),
    ] {
        let bytes = format!("{line}\r\n{fields}\r\n").into_bytes();
        let response = answer(&bytes, asked);
        assert_eq!((body(response.body).as_str(), response.told_length), (expected, told), "{why}: {line} {fields:?}");
    }
}

#[test]
fn responses_whose_end_is_in_doubt() {
    use BadFraming::{Coding, CodingInHttp10, Length, LengthAndCoding, UnknownCoding};
    for (line, fields, expected, why) in [
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding, "RFC 9112 §6.3"),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding, "1.0"),
        ("HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n", CodingInHttp10, "RFC 9112 §6.1"),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", Length, "they differ"),
        ("HTTP/1.1 200 OK", "Content-Length: 5, 6\r\n", Length, "they differ"),
        ("HTTP/1.1 200 OK", "Content-Length: -1\r\n", Length, "sign"),
        ("HTTP/1.1 200 OK", "Content-Length:\r\n", Length, "empty"),
        ("HTTP/1.1 200 OK", "Content-Length: 18446744073709551617\r\n", Length, "overflow"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked\r\n", UnknownCoding, "not ours"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip\r\n", Coding, "until close, but compressed"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: identity\r\n", Coding, "gone since RFC 7230"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked, chunked\r\n", Coding, "twice"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding:\r\n", Coding, "empty"),
        ("HTTP/1.1 500 Error", "Transfer-Encoding: xchunked\r\n", Coding, "any status"),
    ] {
        let bytes = format!("{line}\r\n{fields}\r\n").into_bytes();
        assert_eq!(bad_answer(&bytes, GET), Some(BadResponse::Framing(expected)), "{why}: {fields:?}");
    }
}
