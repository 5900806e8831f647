//! One stream of a client's connection: its request as text to an exchange, and the response back.

use super::{
    answer::{self, Head},
    body::{self, Unread},
    connection::Connection,
    lanes::Lane,
    parts::{Unsent, pairs},
    text::{self, BodyText, Malformed},
    websocket::{self, Handshake},
};
use crate::{
    http::{self, Body, Pace},
    http1::{self, Asked, Method},
    io::{Carried, FarEnd, pipe, within},
    tls::Accepted,
    worker::Worker,
};
use ::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use bytes::Bytes;
use control::{counters::Dataplane, spec::Span};
use h2::{Reason, RecvStream, server::SendResponse};
use std::{cell::Cell, future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, task::Poll};

/// What all streams of a connection have in common.
pub(super) struct Common {
    pub(super) listener: usize,
    pub(super) peer: SocketAddr,
    pub(super) subject: Option<Box<str>>,
    pub(super) carried: Carried,
    /// How long a client may take no byte of what it was sent.
    pub(super) body_timeout: Span,
    /// How many bytes a second it has to take in the long run; 0 for any.
    pub(super) body_rate: u32,
}

/// Bytes of an ordinary head as text.
const HEAD: usize = 1 << 10;

/// A stream as its client opened it.
pub(super) struct Stream {
    pub(super) connection: Rc<Connection>,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
}

/// Serves the streams of a lane, one after the other. All of an exchange stands in this one loop: a function for each stream
/// would have its state, of 7 KB, moved into its caller's place with every call.
pub(super) async fn serve_all(lane: Rc<Lane>) {
    while let Some(Stream { connection, request, respond }) = lane.next().await {
        let (worker, common) = (&*connection.worker, &connection.common);
        'served: {
            worker.board().count(Dataplane::Http2Streams);
            let (parts, body) = request.into_parts();
            let mut respond = respond;
            let mut head = Vec::with_capacity(HEAD);
            let handshake = websocket::is_asked_for(&parts).then(|| Handshake::begin(worker));
            let handshake = handshake.as_ref();
            let follows = match begin(&parts, body.is_end_stream(), handshake, &mut head) {
                Ok(follows) => follows,
                Err(malformed) => {
                    refuse(worker, malformed, parts.uri.authority().is_some(), respond);
                    break 'served;
                }
            };
            let method = Method::of(parts.method.as_str().as_bytes());
            drop(parts);
            let (stream, far) = pipe(common.carried);
            let accepted = Accepted { stream, subject: common.subject.clone() };
            let moved = Cell::new(0);
            let mut exchange = pin!(http::serve_stream(worker, common.listener, accepted, common.peer));
            let mut upload = pin!(upload(&far, head, follows, body, handshake));
            let download = Download { worker, far: &far, moved: &moved, handshake };
            let mut download = pin!(download.run(&mut respond, method));
            let (mut uploading, mut sent) = (true, false);
            poll_fn(|context| {
                uploading = uploading && upload.as_mut().poll(context).is_pending();
                let served = exchange.as_mut().poll(context).is_ready();
                if !sent && download.as_mut().poll(context).is_ready() {
                    sent = true;
                    // Whatever else would come of the request nobody wants any more, unless both sides of a WebSocket end
                    // by themselves.
                    if !handshake.is_some_and(Handshake::is_open) {
                        far.leave();
                    }
                }
                if served { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            // The exchange has given away its last bytes, and is not there to see whether the client takes them.
            let pace = Pace::new(common.body_rate, common.body_timeout);
            while !sent {
                let (before, wait) = (moved.get(), pace.wait());
                sent = within(wait.to_std(), download.as_mut()).await.is_some();
                let count = moved.get() - before;
                pace.moved(count, wait.as_millis());
                if !sent && (count == 0 || pace.wait() == Span::default()) {
                    worker.board().count(Dataplane::BodyTimeouts);
                    break;
                }
            }
        }
        connection.served();
        if !lane.stays() {
            return;
        }
    }
}

/// The head as text, and what follows it.
fn begin(parts: &Parts, ends: bool, handshake: Option<&Handshake>, out: &mut Vec<u8>) -> Result<BodyText, Malformed> {
    let fields: Vec<_> = pairs(&parts.headers).collect();
    let head = text::Head {
        method: if handshake.is_some() { b"GET" } else { parts.method.as_str().as_bytes() },
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: parts.uri.path_and_query().map_or(&b""[..], |path| path.as_str().as_bytes()),
        fields: &fields,
        ends,
        key: handshake.map(Handshake::key),
    };
    text::request(&head, out)
}

/// What is no request is no stream either (RFC 9113 section 8.1.1).
fn refuse(worker: &Worker, malformed: Malformed, has_authority: bool, mut respond: SendResponse<Bytes>) {
    worker.board().count(Dataplane::BadRequests);
    tracing::debug!(?malformed, "request refused");
    if malformed != Malformed::Connect || !has_authority {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    let _ = respond.send_response(empty(StatusCode::NOT_IMPLEMENTED), true);
}

fn empty(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

/// Moves the request.
async fn upload(
    far: &FarEnd,
    head: Vec<u8>,
    follows: BodyText,
    mut request: RecvStream,
    handshake: Option<&Handshake>,
) {
    let way = far.inward();
    if way.give(head).await.0.is_err() {
        return;
    }
    if let Some(handshake) = handshake {
        handshake.opened().await;
    }
    if follows != BodyText::None || handshake.is_some() {
        match body::read(way, follows == BodyText::Chunked, &mut request).await {
            Ok(()) => {}
            Err(Unread::Broken) => return far.leave(),
            Err(Unread::Unwanted) => return,
        }
    }
    way.end();
}

/// What moves a response.
struct Download<'a> {
    worker: &'a Worker,
    far: &'a FarEnd,
    /// Bytes that were given to the connection.
    moved: &'a Cell<usize>,
    /// Where a WebSocket is asked for.
    handshake: Option<&'a Handshake>,
}

impl Download<'_> {
    async fn run(self, respond: &mut SendResponse<Bytes>, method: Method) {
        match self.pass(respond, method).await {
            Ok(()) => {}
            Err(Unsent::Gone) => self.worker.board().count(Dataplane::Http2Cancelled),
            Err(Unsent::Broken) => {
                self.worker.board().count(Dataplane::Http2Broken);
                let is_open = self.handshake.is_some_and(Handshake::is_open);
                // RFC 8441 section 5.
                respond.send_reset(if is_open { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
            }
        }
    }

    async fn pass(&self, respond: &mut SendResponse<Bytes>, method: Method) -> Result<(), Unsent> {
        let mut text = Vec::new();
        let (response, body) = self.head(respond, method, &mut text).await?;
        if self.handshake.is_some_and(|handshake| !handshake.is_open() && response.status().is_success()) {
            // It has agreed to nothing, and its success would be taken for that.
            return respond.send_response(empty(StatusCode::BAD_GATEWAY), true).map(drop).map_err(Unsent::from);
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        let is_grpc = content_type.is_some_and(|content_type| http1::is_grpc(content_type.as_bytes()));
        let mut stream = respond.send_response(response, body.is_done())?;
        match body::send(self.far, &mut stream, body, text, self.moved).await {
            Err(Unsent::Broken) if is_grpc => {
                // What its client understands better than a reset; that it is not all, it says too.
                self.worker.board().count(Dataplane::Http2Broken);
                let fields = [
                    ("grpc-status", HeaderValue::from(http1::UNAVAILABLE)),
                    ("grpc-message", HeaderValue::from_static("the backend broke off")),
                ];
                let fields = fields.into_iter().map(|(name, value)| (HeaderName::from_static(name), value));
                stream.send_trailers(fields.collect()).map_err(Unsent::from)
            }
            sent => sent,
        }
    }

    /// The head of the final response; those of interim ones are sent on the way.
    async fn head(
        &self,
        respond: &mut SendResponse<Bytes>,
        method: Method,
        text: &mut Vec<u8>,
    ) -> Result<(Response<()>, Body), Unsent> {
        let asked = match self.handshake {
            Some(_) => Asked { method: Method::Get, upgrade: Some(b"websocket") },
            None => Asked { method, upgrade: None },
        };
        loop {
            let head = match text.is_empty() {
                true => None,
                false => answer::head(text, asked, &mut self.worker.fields.borrow_mut())?,
            };
            match head {
                Some(Head { response, body: Some(body), accept }) => {
                    if let (Some(handshake), Some(accept)) = (self.handshake, accept)
                        && handshake.answer().as_bytes() == accept
                    {
                        handshake.open();
                    }
                    return Ok((response, body));
                }
                Some(Head { response, body: None, .. }) => respond.send_informational(response)?,
                None if body::more(self.far, text, |context| respond.poll_reset(context)).await? => {}
                None => return Err(Unsent::Broken),
            }
        }
    }
}
