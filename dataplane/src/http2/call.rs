//! One request to a backend, over a connection that it shares with others: text to frames, and the response to text.

use super::{
    ask::{self, Head},
    body::{self, Unread},
    parts::{Unsent, pairs},
    text::{self, BodyText, Malformed},
    upstream::Upstream,
    websocket::{self, Handshake},
};
use crate::{
    http::Body,
    http1::{BodyLength, Method, Output},
    io::{FarEnd, Way},
    worker::Worker,
};
use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

/// Serves the exchange at the other end of the pipe. Whatever fails, the exchange hears of it as of a connection that ends.
pub(super) async fn serve(worker: &Worker, upstream: &Rc<Upstream>, far: FarEnd) {
    let mut text = Vec::new();
    let Some(Head { request, method, body, key }) = ask(worker, upstream, &far, &mut text).await else { return };
    let Some(sender) = upstream.sender() else { return far.refuse() };
    let started = {
        let wish = key.map(|key| Handshake::of(&key));
        let starting = start(upstream, sender, request, body.is_done(), wish);
        let (mut starting, mut given_up) = (pin!(starting), pin!(far.given_up()));
        poll_fn(|context| match given_up.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => starting.as_mut().poll(context).map(Some),
        })
        .await
    };
    match started {
        None => {}
        // Nothing of it was sent.
        Some(Err(_)) => far.refuse(),
        Some(Ok(Started { response, stream, handshake })) => {
            let handshake = handshake.as_ref();
            let mut upload = pin!(upload(&far, stream, body, text, handshake));
            let mut download = pin!(download(upstream, &far, response, method, handshake));
            poll_fn(|context| match upload.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => download.as_mut().poll(context),
            })
            .await;
        }
    }
}

/// The head of the request; `None` where none comes that can be sent.
async fn ask(worker: &Worker, upstream: &Upstream, far: &FarEnd, text: &mut Vec<u8>) -> Option<Head> {
    while far.outward().take(text).await {
        match ask::head(text, upstream.scheme(), &mut worker.fields.borrow_mut()) {
            Ok(Some(head)) => return Some(head),
            Ok(None) => {}
            Err(_) => {
                tracing::debug!("a request that can't be one of HTTP/2");
                return None;
            }
        }
    }
    None
}

struct Started {
    response: ResponseFuture,
    stream: SendStream<Bytes>,
    /// Where a WebSocket is asked for.
    handshake: Option<Handshake>,
}

/// Begins a stream, once the backend takes another one. A wish for a WebSocket is passed over where it takes none.
async fn start(
    upstream: &Rc<Upstream>,
    sender: SendRequest<Bytes>,
    mut request: Request<()>,
    ends: bool,
    wish: Option<Handshake>,
) -> Result<Started, h2::Error> {
    let handshake = match wish {
        Some(handshake) if upstream.takes_websockets(&sender).await => {
            websocket::connect(&mut request);
            Some(handshake)
        }
        Some(_) | None => None,
    };
    let (response, stream) = sender.ready().await?.send_request(request, ends && handshake.is_none())?;
    Ok(Started { response, stream, handshake })
}

/// Moves the request's body, and then waits until the exchange is over: whoever drops the stream by then cancels what is
/// left of it.
async fn upload(
    far: &FarEnd,
    mut stream: SendStream<Bytes>,
    mut body: Body,
    text: Vec<u8>,
    handshake: Option<&Handshake>,
) {
    if let Some(handshake) = handshake {
        let (mut opened, mut given_up) = (pin!(handshake.opened()), pin!(far.given_up()));
        let is_open = poll_fn(|context| match given_up.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => opened.as_mut().poll(context).map(|()| true),
        })
        .await;
        if !is_open {
            return;
        }
        body = Body::new(BodyLength::UntilClose, Output::Parts);
    }
    match body::send(far, &mut stream, body, text, &Cell::new(0)).await {
        // The end of one side of a WebSocket is not that of the other, and a stream that is dropped is reset.
        Ok(()) | Err(Unsent::Gone) if handshake.is_some() => far.unwanted().await,
        // A backend that wants no more of it has answered, or will.
        Ok(()) | Err(Unsent::Gone) => far.given_up().await,
        // It must not take what came for the whole.
        Err(Unsent::Broken) => stream.send_reset(Reason::CANCEL),
    }
}

enum Came {
    Interim(Response<()>),
    Final(Response<RecvStream>),
}

/// Moves the response.
async fn download(
    upstream: &Upstream,
    far: &FarEnd,
    mut response: ResponseFuture,
    method: Method,
    handshake: Option<&Handshake>,
) {
    let way = far.inward();
    loop {
        let found = match next(&mut response).await {
            Ok(Came::Final(found)) => {
                upstream.has_answered();
                let (head, mut body) = found.into_parts();
                match handshake.filter(|_| head.status.is_success()) {
                    Some(handshake) => tunnel(way, &head.headers, handshake, &mut body).await,
                    None => pass(way, (head.status.as_u16(), &head.headers), method, Some(&mut body)).await,
                }
            }
            Ok(Came::Interim(interim)) => {
                match pass(way, (interim.status().as_u16(), interim.headers()), method, None).await {
                    Ok(()) => continue,
                    failed => failed,
                }
            }
            Err(error) if is_unprocessed(&error) => return far.refuse(),
            Err(_) => Err(Unread::Broken),
        };
        match found {
            Ok(()) => way.end(),
            Err(Unread::Broken) => far.leave(),
            Err(Unread::Unwanted) => {}
        }
        return match handshake.is_some_and(Handshake::is_open) {
            true => far.unwanted().await,
            false => far.given_up().await,
        };
    }
}

async fn next(response: &mut ResponseFuture) -> Result<Came, h2::Error> {
    poll_fn(|context| {
        if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
            return Poll::Ready(interim.map(Came::Interim));
        }
        Pin::new(&mut *response).poll(context).map(|found| found.map(Came::Final))
    })
    .await
}

/// Whether the backend has surely done nothing of the request (RFC 9113 section 8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (refused || (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)))
}

/// Moves a head and what follows it.
async fn pass(
    way: &Way,
    (status, fields): (u16, &HeaderMap),
    method: Method,
    body: Option<&mut RecvStream>,
) -> Result<(), Unread> {
    let mut out = Vec::new();
    let ends = body.as_ref().is_none_or(|body| body.is_end_stream());
    let fields: Vec<_> = pairs(fields).collect();
    let follows = text::response(status, method, &fields, ends, &mut out).map_err(refused)?;
    way.give(out).await.0.map_err(|_| Unread::Unwanted)?;
    match body {
        Some(body) if follows != BodyText::None => body::read(way, follows == BodyText::Chunked, body).await,
        _ => Ok(()),
    }
}

/// Moves a head that agrees to a WebSocket, and the WebSocket.
async fn tunnel(way: &Way, fields: &HeaderMap, handshake: &Handshake, body: &mut RecvStream) -> Result<(), Unread> {
    let mut out = Vec::new();
    let fields: Vec<_> = pairs(fields).collect();
    text::switched(&fields, handshake.answer().as_bytes(), &mut out).map_err(refused)?;
    way.give(out).await.0.map_err(|_| Unread::Unwanted)?;
    handshake.open();
    body::read(way, false, body).await
}

fn refused(malformed: Malformed) -> Unread {
    tracing::debug!(?malformed, "response refused");
    Unread::Broken
}
