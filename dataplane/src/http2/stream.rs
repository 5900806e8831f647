//! One stream of a client's connection: its request as text to an exchange, and the response back.

use super::{
    answer::{self, Head, Part, Unsendable},
    text::{self, BodyText, Malformed},
};
use crate::{
    http,
    http::Body,
    http1::Method,
    io::{Carried, FarEnd, Way, pipe, within},
    tls::Accepted,
    worker::Worker,
};
use ::http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use bytes::Bytes;
use control::{counters::Dataplane, spec::Span};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use std::{
    cell::Cell,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll},
};

/// What all streams of a connection have in common.
pub(super) struct Common {
    pub(super) listener: usize,
    pub(super) peer: SocketAddr,
    pub(super) subject: Option<Box<str>>,
    pub(super) carried: Carried,
    /// How long a client may take no byte of what it was sent.
    pub(super) body_timeout: Span,
}

/// Serves a request to its end.
pub(super) async fn serve(
    worker: &Worker,
    common: &Common,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    worker.board().count(Dataplane::Http2Streams);
    let (parts, body) = request.into_parts();
    let mut head = worker.buffers.vector();
    let follows = match begin(&parts, body.is_end_stream(), &mut head) {
        Ok(follows) => follows,
        Err(malformed) => return refuse(worker, malformed, respond),
    };
    let (stream, far) = pipe(common.carried);
    let accepted = Accepted { stream, subject: common.subject.clone() };
    let moved = Cell::new(0);
    {
        let mut exchange = pin!(http::serve(worker, common.listener, accepted, common.peer));
        let mut upload = pin!(upload(&far, &head, follows, body));
        let download = Download { worker, far: &far, moved: &moved };
        let mut download = pin!(download.run(&mut respond, Method::of(parts.method.as_str().as_bytes())));
        let (mut uploading, mut sent) = (true, false);
        poll_fn(|context| {
            uploading = uploading && upload.as_mut().poll(context).is_pending();
            let served = exchange.as_mut().poll(context).is_ready();
            if !sent && download.as_mut().poll(context).is_ready() {
                sent = true;
                // Whatever else would come of the request nobody wants any more.
                far.leave();
            }
            if served { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        // The exchange has given away its last bytes, and is not there to see whether the client takes them.
        while !sent {
            let before = moved.get();
            sent = within(common.body_timeout.to_std(), download.as_mut()).await.is_some();
            if !sent && moved.get() == before {
                worker.board().count(Dataplane::BodyTimeouts);
                break;
            }
        }
    }
    worker.buffers.give_back_vector(head);
}

/// The head as text, and what follows it.
fn begin(parts: &Parts, ends: bool, out: &mut Vec<u8>) -> Result<BodyText, Malformed> {
    let fields: Vec<_> = pairs(&parts.headers).collect();
    let head = text::Head {
        method: parts.method.as_str().as_bytes(),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: parts.uri.path_and_query().map_or(&b""[..], |path| path.as_str().as_bytes()),
        fields: &fields,
        ends,
    };
    text::request(&head, out)
}

fn pairs(fields: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// What is no request is no stream either (RFC 9113 section 8.1.1).
fn refuse(worker: &Worker, malformed: Malformed, mut respond: SendResponse<Bytes>) {
    worker.board().count(Dataplane::BadRequests);
    tracing::debug!(?malformed, "request refused");
    if malformed != Malformed::Connect {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    let _ = respond.send_response(response, true);
}

/// Moves the request. Given back to the client's window is what the exchange has room for.
async fn upload(far: &FarEnd, head: &[u8], follows: BodyText, mut body: RecvStream) {
    let way = far.inward();
    if way.write(head).await.is_err() {
        return;
    }
    if follows != BodyText::None {
        match upload_body(way, follows == BodyText::Chunked, &mut body).await {
            Ok(()) => {}
            Err(Stopped::ByClient) => return far.leave(),
            Err(Stopped::ByExchange) => return,
        }
    }
    way.end();
}

enum Stopped {
    /// It took the request back, or is gone.
    ByClient,
    ByExchange,
}

async fn upload_body(way: &Way, chunked: bool, body: &mut RecvStream) -> Result<(), Stopped> {
    let write = async |bytes: &[u8]| way.write(bytes).await.map_err(|_| Stopped::ByExchange);
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Stopped::ByClient)?;
        // An empty chunk would be the last one.
        if !data.is_empty() {
            if chunked {
                write(format!("{:x}\r\n", data.len()).as_bytes()).await?;
            }
            write(&data).await?;
            if chunked {
                write(b"\r\n").await?;
            }
            let _ = body.flow_control().release_capacity(data.len());
        }
    }
    let trailers = body.trailers().await.map_err(|_| Stopped::ByClient)?;
    if chunked {
        let mut end = b"0\r\n".to_vec();
        let fields = trailers.unwrap_or_default();
        text::trailers(&pairs(&fields).collect::<Vec<_>>(), &mut end).map_err(|_| Stopped::ByClient)?;
        write(&end).await?;
    }
    Ok(())
}

/// What moves a response.
struct Download<'a> {
    worker: &'a Worker,
    far: &'a FarEnd,
    /// Bytes that were given to the connection.
    moved: &'a Cell<usize>,
}

/// Why a response was not sent whole.
enum Unsent {
    /// Nobody is there for it.
    Gone,
    /// It broke off, or is none.
    Broken,
}

impl From<Unsendable> for Unsent {
    fn from(_: Unsendable) -> Self {
        Self::Broken
    }
}

impl From<h2::Error> for Unsent {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

impl Download<'_> {
    async fn run(self, respond: &mut SendResponse<Bytes>, method: Method) {
        match self.pass(respond, method).await {
            Ok(()) => {}
            Err(Unsent::Gone) => self.worker.board().count(Dataplane::Http2Cancelled),
            Err(Unsent::Broken) => {
                self.worker.board().count(Dataplane::Http2Broken);
                respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }

    async fn pass(&self, respond: &mut SendResponse<Bytes>, method: Method) -> Result<(), Unsent> {
        let mut text = Vec::new();
        let (response, mut body) = self.head(respond, method, &mut text).await?;
        let mut stream = respond.send_response(response, body.is_done())?;
        let mut trailers = Vec::new();
        while !body.is_done() {
            let Part { data, trailers } = answer::part(&mut text, &mut body, &mut trailers)?;
            self.send(&mut stream, data, body.is_done() && trailers.is_none()).await?;
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers)?;
            }
            if !body.is_done() && !self.more(&mut text, |context| stream.poll_reset(context)).await? {
                if !matches!(body, Body::UntilClose) || self.far.is_broken() {
                    return Err(Unsent::Broken);
                }
                stream.send_data(Bytes::new(), true)?;
                break;
            }
        }
        Ok(())
    }

    /// The head of the final response; those of interim ones are sent on the way.
    async fn head(
        &self,
        respond: &mut SendResponse<Bytes>,
        method: Method,
        text: &mut Vec<u8>,
    ) -> Result<(Response<()>, Body), Unsent> {
        loop {
            let head = match text.is_empty() {
                true => None,
                false => answer::head(text, method, &mut self.worker.fields.borrow_mut())?,
            };
            match head {
                Some(Head { response, body: Some(body) }) => return Ok((response, body)),
                Some(Head { response, body: None }) => respond.send_informational(response)?,
                None if self.more(text, |context| respond.poll_reset(context)).await? => {}
                None => return Err(Unsent::Broken),
            }
        }
    }

    /// More text, behind what there is; false at its end.
    async fn more(
        &self,
        text: &mut Vec<u8>,
        mut reset: impl FnMut(&mut Context<'_>) -> Poll<Result<Reason, h2::Error>>,
    ) -> Result<bool, Unsent> {
        let mut take = pin!(self.far.outward().take(text));
        poll_fn(|context| match reset(context) {
            Poll::Ready(_) => Poll::Ready(Err(Unsent::Gone)),
            Poll::Pending => take.as_mut().poll(context).map(Ok),
        })
        .await
    }

    /// Sends as the client's windows let it.
    async fn send(&self, stream: &mut SendStream<Bytes>, mut data: Bytes, ends: bool) -> Result<(), Unsent> {
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let room = match stream.capacity() {
                0 => {
                    poll_fn(|context| match self.far.is_broken() {
                        true => Poll::Ready(Err(Unsent::Broken)),
                        false => {
                            stream.poll_capacity(context).map(|room| room.ok_or(Unsent::Gone)?.map_err(Unsent::from))
                        }
                    })
                    .await?
                }
                room => room,
            };
            let piece = data.split_to(room.min(data.len()));
            self.moved.set(self.moved.get() + piece.len());
            stream.send_data(piece, ends && data.is_empty())?;
            if data.is_empty() {
                return Ok(());
            }
        }
        if ends { stream.send_data(data, true).map_err(Unsent::from) } else { Ok(()) }
    }
}
