//! A response as text, sent over a stream; its body is [`super::parts`]'s.

use super::{
    parts::{Unsent, append},
    text,
};
use crate::{
    http::Body,
    http1::{Asked, BodyLength, FieldIndex, Limits, Name, Output, Parse, ResponseHead, response},
};
use http::{Response, StatusCode};

/// A head that was read from the text.
pub(super) struct Head {
    pub(super) response: Response<()>,
    /// What follows it; absent behind an interim one.
    pub(super) body: Option<Body>,
    /// Where it agrees to a WebSocket, its answer to the key.
    pub(super) accept: Option<Vec<u8>>,
}

/// Takes the head at the front of `text`; `None` where it is not whole yet.
///
/// # Errors
/// Where it is none.
pub(super) fn head(text: &mut Vec<u8>, asked: Asked<'_>, fields: &mut FieldIndex) -> Result<Option<Head>, Unsent> {
    let limits = Limits { head: Limits::MAX_HEAD, headers: Limits::MAX_HEADERS, uri: 0 };
    match response::parse(text, &limits, asked, fields) {
        Ok(Parse::Partial) => Ok(None),
        Ok(Parse::Complete { head, len }) => {
            let length = if head.upgrade.is_some() { BodyLength::UntilClose } else { head.body };
            let body = (!head.is_interim()).then(|| Body::new(length, Output::Parts));
            let response = translate(&head)?;
            let accept = head.upgrade.map(|_| head.fields.called(text::ACCEPT).next().unwrap_or_default().to_vec());
            text.drain(..len);
            Ok(Some(Head { response, body, accept }))
        }
        Err(_) => Err(Unsent::Broken),
    }
}

fn translate(head: &ResponseHead<'_>) -> Result<Response<()>, Unsent> {
    let mut response = Response::new(());
    // What is agreed to is told as any success is (RFC 8441 section 5).
    let status = if head.upgrade.is_some() { 200 } else { head.status };
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Unsent::Broken)?;
    let fields = response.headers_mut();
    fields.reserve(head.fields.iter().count());
    for field in head.fields.iter() {
        // What is about one connection HTTP/2 has not (RFC 9113 section 8.2.2).
        let is_hop = matches!(field.name, Name::Connection | Name::Hop | Name::TransferEncoding | Name::Upgrade);
        let is_answer = head.upgrade.is_some() && field.label.eq_ignore_ascii_case(text::ACCEPT);
        if !is_hop && !is_answer {
            append(fields, field.label, field.value)?;
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{
        super::parts::{Part, part},
        *,
    };
    use crate::http1::Method;
    use http::HeaderMap;

    /// What is sent of a response that comes in pieces of this size: status, fields, data, trailers, and whether that is all.
    fn sent(text: &str, method: Method, size: usize) -> Result<(u16, String, String, String, bool), Unsent> {
        let mut pieces = text.as_bytes().chunks(size);
        let (mut held, mut index) = (Vec::new(), FieldIndex::default());
        let Head { response, body, .. } = loop {
            match head(&mut held, Asked { method, upgrade: None }, &mut index) {
                Ok(Some(found)) if found.body.is_some() => break found,
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) if held.is_empty() => {}
                Err(unsent) => return Err(unsent),
            }
            held.extend_from_slice(pieces.next().expect("a head in the text"));
        };
        let (mut body, mut lines, mut data, mut told) = (body.unwrap(), Vec::new(), Vec::new(), HeaderMap::new());
        loop {
            let Part { data: more, trailers } = part(&mut held, &mut body, &mut lines)?;
            data.extend_from_slice(&more);
            told = trailers.unwrap_or(told);
            match pieces.next() {
                Some(piece) if !body.is_done() => held.extend_from_slice(piece),
                _ => break,
            }
        }
        let shown = |fields: &HeaderMap| {
            let lines: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
            lines.join(" ")
        };
        let data = String::from_utf8(data).unwrap();
        Ok((response.status().as_u16(), shown(response.headers()), data, shown(&told), body.is_done()))
    }

    #[test]
    fn text_becomes_fields_data_and_trailers_however_it_is_cut() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nGrpc-Status: 0\r\nx: \
                       y z \r\nHost: evil\r\n\r\n";
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\nConnection: close\r\n\r\nabc",
                Method::Get,
                (200, "content-length=3 x-a=b", "abc", "", true),
            ),
            (chunked, Method::Get, (200, "", "abcde", "grpc-status=0 x=y z", true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Method::Head, (200, "content-length=3", "", "", true)),
            ("HTTP/1.1 204 No Content\r\nKeep-Alive: x\r\n\r\n", Method::Get, (204, "", "", "", true)),
            ("HTTP/1.1 200 OK\r\n\r\nall of it", Method::Get, (200, "", "all of it", "", false)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                Method::Get,
                (200, "content-length=9", "abc", "", false),
            ),
        ];
        for (text, method, (status, fields, data, trailers, done)) in cases {
            for size in [1, 3, 10, 1_000] {
                let expected = (status, fields.to_owned(), data.to_owned(), trailers.to_owned(), done);
                assert_eq!(sent(text, method, size), Ok(expected), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn what_is_no_response_is_not_sent() {
        for text in [
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            assert_eq!(sent(text, Method::Get, 1_000), Err(Unsent::Broken), "{text:?}");
        }
    }
}
