//! A request as text, sent over a stream to a backend; its body is [`super::parts`]'s.

use super::{
    parts::{Unsent, append},
    text,
};
use crate::{
    http::Body,
    http1::{FieldIndex, Limits, Method, Name, Output, Parse, RequestHead, head},
};
use http::{Request, Uri, Version};

/// A head that was read from the text.
pub(super) struct Head {
    pub(super) request: Request<()>,
    pub(super) method: Method,
    pub(super) body: Body,
    /// The key of a WebSocket that is asked for.
    pub(super) key: Option<Box<[u8]>>,
}

/// Takes the head at the front of `text`; `None` where it is not whole yet. `scheme` is what the backend is spoken to by.
///
/// # Errors
/// Where it is none, or none of HTTP/2.
pub(super) fn head(text: &mut Vec<u8>, scheme: &str, fields: &mut FieldIndex) -> Result<Option<Head>, Unsent> {
    let limits = Limits { head: Limits::MAX_HEAD, headers: Limits::MAX_HEADERS, uri: Limits::MAX_HEAD };
    match head::parse(text, &limits, fields) {
        Ok(Parse::Partial) => Ok(None),
        Ok(Parse::Complete { head, len }) => {
            let (method, body) = (head.method, Body::new(head.body, Output::Parts));
            let request = translate(&head, scheme)?;
            // Whoever wrote the text asks for no other protocol.
            let key = head.upgrade.and_then(|_| head.fields.called(text::KEY).next()).map(Box::from);
            text.drain(..len);
            Ok(Some(Head { request, method, body, key }))
        }
        Err(_) => Err(Unsent::Broken),
    }
}

fn translate(head: &RequestHead<'_>, scheme: &str) -> Result<Request<()>, Unsent> {
    let (slash, rest) = head.target.origin();
    let target = [slash, rest].concat();
    let uri = Uri::builder().scheme(scheme).authority(head.host.unwrap_or_default()).path_and_query(target);
    let mut request = Request::builder().method(head.verb).uri(uri.build().map_err(|_| Unsent::Broken)?);
    let fields = request.headers_mut().ok_or(Unsent::Broken)?;
    fields.reserve(16);
    for field in head.fields.iter() {
        match field.name {
            // What is about one connection HTTP/2 has not (RFC 9113 section 8.2.2), and of a host there is one place.
            Name::Connection | Name::Hop | Name::Host | Name::TransferEncoding | Name::Upgrade => {}
            Name::Te if !head.te_trailers => {}
            Name::Te => append(fields, b"te", b"trailers")?,
            Name::CacheControl
            | Name::ContentLength
            | Name::Cookie
            | Name::Expect
            | Name::Forwarded
            | Name::Imitation
            | Name::Other
            | Name::SetCookie
            | Name::Traceparent
            | Name::Tracestate
            | Name::Via
            | Name::XForwardedFor
            | Name::XForwardedHost
            | Name::XForwardedProto
            | Name::XRequestId => append(fields, field.label, field.value)?,
        }
    }
    request.version(Version::HTTP_2).body(()).map_err(|_| Unsent::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Option<(String, Vec<String>, Body)>, Unsent> {
        let mut held = text.as_bytes().to_vec();
        let Some(Head { request, body, .. }) = head(&mut held, "http", &mut FieldIndex::default())? else {
            return Ok(None);
        };
        let line = format!("{} {}", request.method(), request.uri());
        let fields =
            request.headers().iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        Ok(Some((line, fields, body)))
    }

    #[test]
    fn text_becomes_the_fields_of_a_request() {
        let start = "Host: a.test:81\r\n";
        let fields = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        for (text, line, expected) in [
            (
                format!("GET /x?y=%20 HTTP/1.1\r\n{start}X-A: b\r\nx-a: c\r\n\r\n"),
                "GET http://a.test:81/x?y=%20",
                fields(&["x-a=b", "x-a=c"]),
            ),
            (
                format!("POST / HTTP/1.1\r\n{start}TE: trailers\r\nConnection: TE\r\nContent-Length: 3\r\n\r\n"),
                "POST http://a.test:81/",
                fields(&["te=trailers", "content-length=3"]),
            ),
            (format!("OPTIONS * HTTP/1.1\r\n{start}\r\n"), "OPTIONS http://a.test:81*", fields(&[])),
            (
                format!("PURGE / HTTP/1.1\r\n{start}Keep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
                "PURGE http://a.test:81/",
                fields(&[]),
            ),
        ] {
            let (told, found, body) = asked(&text).unwrap().unwrap();
            assert_eq!((told.as_str(), found), (line, expected), "{text:?}");
            assert_eq!(body.is_done(), !text.starts_with('P'), "{text:?}");
        }
        assert!(asked("GET / HTTP/1.1\r\nHost: a").unwrap().is_none());
        assert!(asked("GET / HTTP/1.1\r\n\r\n").is_err() && asked("what\r\n\r\n").is_err());
    }
}
