//! Another protocol on the same connection (RFC 9110 §7.8): what a client may ask a backend for, and what that may agree to.

use super::{BodyLength, Fields, Method, Name, RequestHead, Version, hop::Options, text};
use control::spec::WEBSOCKET;

/// The protocols that this request asks for and that are `allowed`, as a list in the client's order and spelling; `None`
/// where there are none, and the request is as any other.
///
/// A wish counts only with the option `Connection: upgrade` and in HTTP/1.1, for only then is it for this connection; and
/// without a body, behind which nobody could tell where the other protocol begins. A WebSocket begins with a GET that has
/// a key (RFC 6455 §4.1).
pub fn wanted(head: &RequestHead<'_>, allowed: &[String]) -> Option<Box<[u8]>> {
    head.upgrade?;
    if !matches!(head.body, BodyLength::None | BodyLength::Length(0)) {
        return None;
    }
    let may = |protocol: &&[u8]| {
        let is_allowed = allowed.iter().any(|allowed| protocol.eq_ignore_ascii_case(allowed.as_bytes()));
        let has_key = || head.fields.called(b"sec-websocket-key").next().is_some();
        is_allowed && (!is_websocket(protocol) || (head.method == Method::Get && has_key()))
    };
    let mut list = Vec::new();
    for protocol in head.fields.values(Name::Upgrade).flat_map(text::list).filter(may) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(protocol);
    }
    (!list.is_empty()).then(|| list.into_boxed_slice())
}

/// The protocol that a 101 says is spoken from here on; `None` where it is not one of those that were `asked` for, or not
/// said in the one form that leaves no doubt.
pub(super) fn agreed<'b>(
    fields: &Fields<'b>,
    options: Options,
    version: Version,
    asked: Option<&[u8]>,
) -> Option<&'b [u8]> {
    let mut values = fields.values(Name::Upgrade);
    let (protocol, None) = (values.next()?, values.next()) else { return None };
    let was_asked = asked?.split(|byte| *byte == b',').map(text::trim).any(|each| each.eq_ignore_ascii_case(protocol));
    (options.upgrade && version == Version::Http11 && was_asked).then_some(protocol)
}

/// Whether this is the protocol of RFC 6455.
pub fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GET, answer, bad_answer, get_with, head_of, request, text};
    use super::super::{Asked, BadResponse};
    use super::*;

    fn wish(bytes: &[u8], allowed: &[&str]) -> Option<String> {
        let allowed: Vec<_> = allowed.iter().map(|protocol| (*protocol).to_owned()).collect();
        wanted(&request(bytes), &allowed).map(|list| text(&list))
    }

    #[test]
    fn what_is_allowed_of_what_is_asked_for() {
        const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (fields, allowed, expected, why) in [
            ("Connection: Upgrade\r\nUpgrade: websocket\r\n", &["websocket"][..], Some("websocket"), "the usual"),
            (
                "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
                &["websocket"],
                Some("WebSocket"),
                "any case",
            ),
            ("Connection: upgrade\r\nUpgrade: websocket\r\n", &[], None, "not allowed"),
            ("Connection: upgrade\r\nUpgrade: websocket\r\n", &["mqtt"], None, "another is"),
            ("Upgrade: websocket\r\n", &["websocket"], None, "no option: it may be meant for another hop"),
            ("Connection: upgrade\r\n", &["websocket"], None, "nothing to upgrade to"),
            ("Connection: keep-alive\r\nUpgrade: websocket\r\n", &["websocket"], None, "no option"),
            (
                "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
                &["websocket"],
                Some("websocket"),
                "the rest is left out",
            ),
            (
                "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
                &["websocket"],
                Some("websocket"),
                "two fields",
            ),
            (
                "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
                &["websocket"],
                None,
                "h2c",
            ),
            (
                "Connection: upgrade\r\nUpgrade: websocket/13\r\n",
                &["websocket"],
                None,
                "another version is another protocol",
            ),
            ("Connection: upgrade\r\nUpgrade: a/1, b\r\n", &["b", "a/1"], Some("a/1, b"), "in the client's order"),
            (
                "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
                &["websocket"],
                Some("websocket"),
                "no body",
            ),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", &["websocket"], None, "a body"),
            (
                "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
                &["websocket"],
                None,
                "a body",
            ),
        ] {
            let bytes = get_with(format!("{fields}{KEY}").as_bytes());
            assert_eq!(wish(&bytes, allowed).as_deref(), expected, "{why}: {fields}");
        }
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket, mqtt\r\n";
        let both = ["websocket", "mqtt"];
        assert_eq!(wish(&get_with(upgrade.as_bytes()), &both).as_deref(), Some("mqtt"), "no key");
        let post = head_of("POST / HTTP/1.1", &format!("{upgrade}{KEY}"));
        assert_eq!(wish(&post, &both).as_deref(), Some("mqtt"), "a WebSocket begins with a GET");
        let old = head_of("GET / HTTP/1.0", &format!("{upgrade}{KEY}"));
        assert_eq!(wish(&old, &both), None, "HTTP/1.0 has no upgrade");
    }

    #[test]
    fn a_101_agrees_to_what_was_asked_for_and_nothing_else() {
        let asked = Asked { upgrade: Some(b"websocket, x/1"), ..GET };
        for (line, fields, expected) in [
            ("HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
            ("HTTP/1.1", "Connection: close, UPGRADE\r\nUpgrade: X/1 \r\n", Some("X/1")),
            ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: x\r\n", None),
            ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", None),
            ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket, x/1\r\n", None),
            ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: x/1\r\nUpgrade: websocket\r\n", None),
            ("HTTP/1.1", "Connection: upgrade\r\n", None),
            ("HTTP/1.1", "Connection: upgrade\r\nUpgrade:\r\n", None),
            ("HTTP/1.1", "Upgrade: websocket\r\n", None),
            ("HTTP/1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", None),
        ] {
            let bytes = format!("{line} 101 Switching Protocols\r\n{fields}\r\n").into_bytes();
            match expected {
                Some(protocol) => assert_eq!(answer(&bytes, asked).upgrade.map(text).as_deref(), Some(protocol)),
                None => assert_eq!(bad_answer(&bytes, asked), Some(BadResponse::Upgrade), "{line} {fields}"),
            }
        }
        let other = b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer(other, asked).upgrade, None, "an ordinary response");
    }
}
