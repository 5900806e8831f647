use crate::{
    http1::{Reply, Status},
    io::{Refused, Stream},
    worker::{Ends, Worker},
};
use certificates::subject;
use control::{counters::Dataplane, spec::Span};
use rustls::ServerConfig;
use std::sync::Arc;

/// A connection whose client may be served.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    /// Whom the client's certificate names, where its listener passes that on.
    pub(crate) subject: Option<Box<str>>,
}

/// How long a client may take to read that it should have spoken TLS.
const LINGER: Span = Span::from_secs(2);

/// Shakes hands with the client of a listener that has TLS; `None` where nothing came of it.
pub(crate) async fn accept(worker: &Worker, listener: usize, stream: Stream) -> Option<Accepted> {
    match worker.offered(listener) {
        None => Some(Accepted { stream, subject: None }),
        // On the heap, so that connections in clear text have no room for it.
        Some(offered) => Box::pin(shake_hands(worker, listener, stream, offered)).await,
    }
}

async fn shake_hands(worker: &Worker, listener: usize, stream: Stream, offered: Arc<ServerConfig>) -> Option<Accepted> {
    let (timeout, most, tells_subject) = {
        let table = worker.table.borrow();
        let settings = &table.listeners[worker.listener_at(listener)?].settings;
        let tells = settings.tls.as_ref().is_some_and(|tls| tls.subject_header().is_some());
        (settings.timeouts.head, settings.limits.handshakes as usize, tells)
    };
    let board = worker.board();
    let deadline = worker.deadline(stream.handle());
    deadline.set(worker.after(timeout), Ends::Both);
    let mut has_begun = false;
    let turn = async || {
        // Whoever has had a turn goes on: what was computed for it would be lost.
        if !has_begun && worker.handshakes.waiting() >= most {
            return false;
        }
        has_begun = true;
        worker.handshakes.turn(worker.beat.pass()).await;
        true
    };
    match stream.accept_tls(offered, worker.clock.ticking(), turn).await {
        Ok(stream) => {
            board.count(Dataplane::TlsHandshakes);
            if stream.is_resumed() {
                board.count(Dataplane::TlsResumed);
            }
            let certificate = if tells_subject { stream.peer_certificate() } else { None };
            Some(Accepted { subject: certificate.and_then(|der| subject(&der)).map(Into::into), stream })
        }
        Err(refused) => {
            match refused {
                Refused::Gone if deadline.has_passed() => board.count(Dataplane::TlsTimeouts),
                Refused::Gone => board.count(Dataplane::TlsFailed),
                Refused::Crowded => board.count(Dataplane::OverHandshakes),
                Refused::Failed(reason) => {
                    tracing::debug!(%reason, "no handshake");
                    board.count(Dataplane::TlsFailed);
                }
                Refused::Plain(stream) => {
                    board.count(Dataplane::TlsPlain);
                    deadline.set(worker.after(LINGER), Ends::Both);
                    say_tls(worker, &stream).await;
                }
            }
            None
        }
    }
}

/// Tells a client that speaks HTTP in clear text what is wrong.
async fn say_tls(worker: &Worker, stream: &Stream) {
    let mut out = worker.buffers.vector();
    Reply::closing(Status::TlsExpected).write(&mut out);
    let (_, out) = stream.write_vector(out).await;
    worker.buffers.give_back_vector(out);
    stream.finish().await;
    stream.read_out(&worker.buffers).await;
}
