//! HTTP connections: how many there may be, how slow they may be, and how they end.

#[cfg(test)]
mod tests;
pub(crate) mod tls;

use crate::{caller::Caller, listen::Listener, state::State};
use axum::{Router, http::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tls::Tls;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tower::ServiceExt;

/// Open connections. More wait in the listen queue, where they cost nothing.
const MAX_CONNECTIONS: usize = 384;
/// From one response to the end of the next request's head: longer, and the connection makes room for others.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEAD: usize = 32 << 10;
/// How long a client may take none of what is written to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to finish once this process is to stop.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);
/// A pause after an accept that failed, as it does without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until this process is to stop, then lets requests finish for a while.
/// Over TCP with `tls`, where there is such.
pub(crate) async fn serve(listener: Listener, tls: Option<Arc<Tls>>, router: Router, state: &State) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stopped = pin!(state.stopped());
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            accepted = async {
                let place = place.await.expect("it is never closed");
                Ok::<_, io::Error>((place, accept(&listener).await?))
            } => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((place, (caller, stream))) => {
                let (router, stopped) = (router.clone(), state.stopped());
                let tls = tls.clone().filter(|_| matches!(caller, Caller::Address(_)));
                connections.spawn(async move {
                    match secured(stream, tls).await {
                        Ok(stream) => connection(caller, stream, router, stopped).await,
                        Err(error) => tracing::debug!(%caller, %error, "a TLS handshake failed"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(FINISH_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(left = connections.len(), "requests did not finish in time and are cut off");
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(listener: &Listener) -> io::Result<(Caller, Box<dyn Stream>)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Caller::Address(address), Box::new(stream)))
        }
        Listener::Unix { listener, .. } => {
            let (stream, _) = listener.accept().await?;
            let caller = stream.peer_cred().map_or(Caller::Unknown, |credentials| Caller::process(&credentials));
            Ok((caller, Box::new(stream)))
        }
    }
}

async fn secured(stream: Box<dyn Stream>, tls: Option<Arc<Tls>>) -> io::Result<Box<dyn Stream>> {
    match tls {
        Some(tls) => timeout(HEAD_TIMEOUT, tls.accept(stream)).await?,
        None => Ok(stream),
    }
}

async fn connection(caller: Caller, stream: Box<dyn Stream>, router: Router, stopped: impl Future<Output = ()>) {
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        request
    });
    let io = TokioIo::new(Paced { stream, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .serve_connection(io, TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A stream whose writes fail when the other side takes nothing for a while.
struct Paced {
    stream: Box<dyn Stream>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn paced<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + STALL_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.paced(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.paced(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.paced(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
