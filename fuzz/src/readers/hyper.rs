//! hyper's reading, over a connection that is a piece of memory: no socket, no runtime, one poll after the other.

use super::{End, Message, Reading};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    service::service_fn,
};
use std::{
    cell::RefCell,
    convert::Infallible,
    error::Error,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Polls without an end that nothing but a fault of this file explains.
const MOST_POLLS: usize = 10_000;

/// What a peer has sent before it closed its sending half. What it is sent is thrown away.
struct Memory<'b> {
    rest: &'b [u8],
    /// It has nothing to say before it has heard something.
    answers: bool,
}

impl Read for Memory<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.answers {
            return Poll::Pending;
        }
        let (now, later) = self.rest.split_at(self.rest.len().min(into.remaining()));
        into.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answers = false;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Requests, as a server takes them.
pub fn requests(bytes: &[u8]) -> Reading {
    let (messages, broken) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(None)));
    let service = service_fn(|request: Request<Incoming>| {
        let (messages, broken) = (Rc::clone(&messages), Rc::clone(&broken));
        async move {
            let (head, body) = request.into_parts();
            match body.collect().await {
                Ok(body) => messages.borrow_mut().push(Message {
                    start: head.method.as_str().as_bytes().to_vec(),
                    target: head.uri.to_string().into_bytes(),
                    body: body.to_bytes().to_vec(),
                    end: None,
                }),
                Err(error) => *broken.borrow_mut() = Some(end_of(&error, End::InBody)),
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).max_headers(256).header_read_timeout(None).auto_date_header(false);
    let served = run(pin!(builder.serve_connection(Memory { rest: bytes, answers: false }, service)));
    let end = broken.take().unwrap_or_else(|| match served {
        Ok(()) => End::Closed,
        Err(error) => end_of(&error, End::InHead),
    });
    Reading { messages: messages.take(), end }
}

/// The response to one request, as a client takes it.
pub fn response(bytes: &[u8], to_head: bool) -> Reading {
    let peer = Memory { rest: bytes, answers: true };
    let connected = run(pin!(hyper::client::conn::http1::Builder::new().max_headers(256).handshake(peer)));
    let Ok((mut sender, connection)) = connected else { return Reading { messages: Vec::new(), end: End::Refused } };
    let request = Request::builder().method(if to_head { "HEAD" } else { "GET" }).uri("/").header("host", "a");
    let answered = async {
        let response =
            sender.send_request(request.body(Empty::<Bytes>::new()).expect("these are parts of a request")).await;
        let (head, body) = response.map_err(|error| end_of(&error, End::InHead))?.into_parts();
        let body = body.collect().await.map_err(|error| end_of(&error, End::InBody))?.to_bytes().to_vec();
        Ok(Message { start: head.status.as_str().as_bytes().to_vec(), target: Vec::new(), body, end: None })
    };
    let (mut connection, mut answered) = (pin!(connection), pin!(answered));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MOST_POLLS {
        if let Poll::Ready(answer) = answered.as_mut().poll(&mut context) {
            return match answer {
                Ok(message) => Reading { messages: vec![message], end: End::Closed },
                Err(end) => Reading { messages: Vec::new(), end },
            };
        }
        let _ = connection.as_mut().poll(&mut context);
    }
    panic!("hyper does not come to an end")
}

/// `waits` where more bytes could have helped.
fn end_of(error: &hyper::Error, waits: End) -> End {
    let is_cut = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_incomplete_message() || is_cut.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        waits
    } else {
        End::Refused
    }
}

fn run<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MOST_POLLS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("hyper does not come to an end")
}
