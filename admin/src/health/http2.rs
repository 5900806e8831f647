//! Checks over HTTP/2: a request on a connection of its own, and gRPC's question after health.

use bytes::Bytes;
use h2::client;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};

/// An answer whose body is longer than this is none to a check, in bytes.
const MAX_BODY: usize = 64 << 10;
/// What a backend may write into the fields of its answer, in bytes.
const MAX_FIELDS: u32 = 16 << 10;

/// What came of a request.
pub(super) struct Answer {
    pub(super) head: Response<()>,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// Sends a request on a fresh connection, and waits for the answer; for its body only where `whole`.
///
/// # Errors
/// What is wrong with the backend, in a few words.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<Bytes>,
    whole: bool,
) -> Result<Answer, String> {
    let mut builder = client::Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_FIELDS);
    let (sender, connection) = builder.handshake(stream).await.map_err(|error| said(&error))?;
    let exchange = async {
        let mut sender = sender.ready().await?;
        let (head, body) = request.into_parts();
        let ends = body.is_empty();
        let (response, mut stream) = sender.send_request(Request::from_parts(head, ()), ends)?;
        if !ends {
            stream.send_data(body, true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
        if whole {
            while let Some(data) = incoming.data().await
                && body.len() < MAX_BODY
            {
                let data = data?;
                let _ = incoming.flow_control().release_capacity(data.len());
                body.extend_from_slice(&data);
            }
            trailers = incoming.trailers().await?.unwrap_or_default();
        }
        Ok::<_, h2::Error>(Answer { head: Response::from_parts(head, ()), body, trailers })
    };
    tokio::select! {
        biased;
        answer = exchange => answer.map_err(|error| said(&error)),
        ended = connection => Err(ended.err().map_or_else(|| "closed before it answered".to_owned(), |error| said(&error))),
    }
}

/// A request to `authority`.
///
/// # Errors
/// Where that can't be one.
pub(super) fn request(scheme: &str, authority: &str, path: &str) -> Result<Request<Bytes>, String> {
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    let uri = uri.map_err(|_| format!("`{authority}{path}` can't be asked for over HTTP/2"))?;
    let mut request = Request::new(Bytes::new());
    (*request.uri_mut(), *request.version_mut()) = (uri, Version::HTTP_2);
    request.headers_mut().insert("user-agent", "steadfast-health".parse().expect("is a value"));
    Ok(request)
}

/// The question of `grpc.health.v1.Health/Check`; of the server as a whole where `service` is empty.
///
/// # Errors
/// Where `authority` can't be asked.
pub(super) fn grpc_question(scheme: &str, authority: &str, service: &str) -> Result<Request<Bytes>, String> {
    let mut request = request(scheme, authority, "/grpc.health.v1.Health/Check")?;
    *request.method_mut() = Method::POST;
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        request.headers_mut().insert(name, value.parse().expect("is a value"));
    }
    *request.body_mut() = framed(service).into();
    Ok(request)
}

/// `HealthCheckRequest`: `string service = 1`, behind what gRPC puts in front of each message.
fn framed(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // Its longest name keeps the length in one byte; a checked configuration has no longer one.
    if let Ok(length @ 1..=127) = u8::try_from(service.len()) {
        message.extend([0x0a, length]);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    [&[0], &length[..], &message].concat()
}

/// What the backend says of the service's health.
///
/// # Errors
/// Whatever else than that it serves.
pub(super) fn grpc_verdict(answer: &Answer) -> Result<(), String> {
    let Answer { head, body, trailers } = answer;
    if head.status() != 200 {
        return Err(format!("status {}", head.status().as_u16()));
    }
    // Of an answer without a message the trailers are its head.
    let field = |name| trailers.get(name).or_else(|| head.headers().get(name)).and_then(|value| value.to_str().ok());
    match field("grpc-status") {
        Some("0") => {}
        Some("5") => return Err("the service is not known there".to_owned()),
        Some("12") => return Err("it has no grpc.health.v1.Health".to_owned()),
        Some(status) => {
            let message = field("grpc-message").map(|message| format!(": {message}")).unwrap_or_default();
            return Err(format!("grpc-status {status}{message}"));
        }
        None => return Err("no grpc-status".to_owned()),
    }
    match serving(body) {
        Some(1) => Ok(()),
        Some(2) => Err("not serving".to_owned()),
        Some(3) => Err("the service is not known there".to_owned()),
        Some(_) => Err("health unknown".to_owned()),
        None => Err("no message of grpc.health.v1".to_owned()),
    }
}

/// The status in a `HealthCheckResponse`: `ServingStatus status = 1`, which is 0 where it is left out.
fn serving(body: &[u8]) -> Option<u8> {
    let [0, a, b, c, d, message @ ..] = body else { return None };
    if message.len() != usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok()? {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status @ 0..=127, ..] => Some(*status),
        _ => None,
    }
}

fn said(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) => format!("HTTP/2: {}", reason.description()),
        None => "no HTTP/2".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_the_service_it_is_about() {
        assert_eq!(framed(""), [0, 0, 0, 0, 0]);
        assert_eq!(framed("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let question = grpc_question("http", "10.0.0.1:50051", "").unwrap();
        assert_eq!(question.uri(), "http://10.0.0.1:50051/grpc.health.v1.Health/Check");
        assert!(request("http", "a b", "/").is_err());
    }

    #[test]
    fn only_a_server_that_says_so_serves() {
        let answer = |status: u16, trailers: &[(&'static str, &str)], body: &[u8]| {
            let mut head = Response::new(());
            *head.status_mut() = status.try_into().unwrap();
            let trailers = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            Answer { head, body: body.to_vec(), trailers: trailers.collect() }
        };
        let ok = [("grpc-status", "0")];
        assert_eq!(grpc_verdict(&answer(200, &ok, &[0, 0, 0, 0, 2, 8, 1])), Ok(()));
        for (status, trailers, body, wrong) in [
            (200, &ok[..], &[0, 0, 0, 0, 2, 8, 2][..], "not serving"),
            (200, &ok, &[0, 0, 0, 0, 2, 8, 3], "the service is not known there"),
            (200, &ok, &[0, 0, 0, 0, 0], "health unknown"),
            (200, &ok, &[0, 0, 0, 0, 9, 8, 1], "no message of grpc.health.v1"),
            (200, &ok, &[], "no message of grpc.health.v1"),
            (200, &[], &[0, 0, 0, 0, 2, 8, 1], "no grpc-status"),
            (200, &[("grpc-status", "5")], &[], "the service is not known there"),
            (200, &[("grpc-status", "12")], &[], "it has no grpc.health.v1.Health"),
            (200, &[("grpc-status", "7"), ("grpc-message", "who are you")], &[], "grpc-status 7: who are you"),
            (503, &ok, &[0, 0, 0, 0, 2, 8, 1], "status 503"),
        ] {
            assert_eq!(grpc_verdict(&answer(status, trailers, body)), Err(wrong.to_owned()));
        }
    }
}
