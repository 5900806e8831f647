//! What is written for a request is read as that request, or refused: never as less, as more, or as another one.

use super::text::{BodyText, Head, request};
use crate::http1::{BodyLength, FieldIndex, Limits, Parse, head};
use proptest::prelude::*;

/// Bytes that are mostly harmless, and now and then what ends a line or a word.
fn bytes(plain: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let odd =
        prop::sample::select(vec!["\r\n", "\r\n\r\n", "\r\nhost: b", "\n\n", "\r", "\0", " ", "\t", ":", ",", "\x7f"]);
    prop_oneof![
        8 => plain.prop_map(String::into_bytes),
        1 => (plain, odd, plain).prop_map(|(before, odd, after)| [before.as_str(), odd, &after].concat().into_bytes()),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = ["host", "content-length", "cookie", "te", "transfer-encoding", "connection", "expect", "x"];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec()), bytes("[a-z-]{0,6}")]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let known = ["5", "0", "+5", "5, 5", "trailers", "chunked", "close", "100-continue", "a.example"];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(|value| value.as_bytes().to_vec()), bytes("[ -~]{0,8}")]
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_what_it_was(
        method in prop_oneof![Just(b"GET".to_vec()), Just(b"POST".to_vec()), bytes("[A-Z]{0,8}")],
        authority in prop::option::of(prop_oneof![Just(b"a.example".to_vec()), bytes("[a-z.:@\\[\\]]{0,8}")]),
        path in prop_oneof![Just(b"/".to_vec()), Just(b"*".to_vec()), bytes("/[!-~]{0,8}")],
        fields in prop::collection::vec((name(), value()), 0..6),
        ends in any::<bool>(),
    ) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let authority = authority.as_deref();
        let came = Head { method: &method, authority, path: &path, fields: &fields, ends, key: None };
        let mut out = Vec::new();
        let Ok(body) = request(&came, &mut out) else { return Ok(()) };
        let follows = out.len();
        // What comes behind it must not be taken for a part of it.
        out.extend_from_slice(b"x: y\r\n\r\n");
        let mut index = FieldIndex::default();
        match head::parse(&out, &Limits::default(), &mut index) {
            Ok(Parse::Complete { head, len }) => {
                prop_assert_eq!(len, follows);
                prop_assert_eq!(head.verb, &method[..]);
                let expected = match body {
                    BodyText::None | BodyText::Raw(0) => [BodyLength::None, BodyLength::Length(0)],
                    BodyText::Raw(length) => [BodyLength::Length(length); 2],
                    BodyText::Chunked => [BodyLength::Chunked; 2],
                };
                prop_assert!(expected.contains(&head.body), "{:?} of {:?}", head.body, body);
                if let Some(authority) = authority {
                    prop_assert_eq!(head.host, Some(authority));
                }
            }
            Ok(Parse::Partial) => prop_assert!(false, "no end in {}", out.escape_ascii()),
            Err(_) => {}
        }
    }
}
