//! HTTP/1.1 calls that this process makes, each over a connection of its own: they are few, and a connection that is kept may
//! be dead without anybody knowing.

use bytes::Bytes;
use certificates::{Followed, pool_files, words};
use control::{Path, spec::PoolTls};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

/// How long a connection may be silent until the kernel asks whether the other side is there, and between two of these.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing was sent: it changed nothing.
    NotSent(String),
    /// Nobody knows whether it was carried out.
    Unknown(String),
    /// It was refused.
    Refused(String),
}

impl Failure {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NotSent(reason) | Self::Unknown(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// What TLS needs, read again when its files change.
#[derive(Default)]
pub(crate) struct Trust {
    settings: PoolTls,
    known: Mutex<Followed<Arc<ClientConfig>>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Trust {
    pub(crate) fn new(settings: PoolTls) -> Self {
        Self { settings, known: Mutex::default() }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.value().is_none() || known.has_changed() {
            let trust =
                |_: Option<&_>| certificates::trust(&self.settings, &Path::default(), &[]).map_err(|all| words(&all));
            // Those before serve on where the new ones are wrong.
            let _ = known.read(pool_files(&self.settings), trust);
        }
        known.value().cloned().ok_or_else(|| known.refused().unwrap_or_default().to_owned())
    }
}

/// Sends a request to an endpoint, `http://host:port` or `https://host:port`; its `Host` is set here.
///
/// # Errors
/// There is no connection, or it ended before there was an answer.
pub(crate) async fn send(
    endpoint: &str,
    trust: &Trust,
    mut request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Incoming), Failure> {
    let not_sent = |error: &dyn fmt::Display| Failure::NotSent(format!("{endpoint}: {error}"));
    let (encrypted, authority) = match endpoint.split_once("://") {
        Some(("https", authority)) => (true, authority),
        Some((_, authority)) => (false, authority),
        None => (false, endpoint),
    };
    let host = HeaderValue::from_str(authority).map_err(|error| not_sent(&error))?;
    request.headers_mut().insert(header::HOST, host);
    let stream = TcpStream::connect(authority).await.map_err(|error| not_sent(&plain(&error)))?;
    let asked = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    // Without them a dead connection is found by its silence alone.
    let _ = (stream.set_nodelay(true), SockRef::from(&stream).set_tcp_keepalive(&asked));
    if !encrypted {
        return exchange(endpoint, TokioIo::new(stream), request).await;
    }
    let config = trust.config().map_err(|reason| Failure::NotSent(format!("TLS: {reason}")))?;
    let host = PoolTls::default().name_for(authority).to_owned();
    let name = ServerName::try_from(host).map_err(|error| not_sent(&error))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| not_sent(&format_args!("TLS: {error}")))?;
    exchange(endpoint, TokioIo::new(stream), request).await
}

async fn exchange(
    endpoint: &str,
    stream: impl Read + Write + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Incoming), Failure> {
    let lost = |error: &hyper::Error| Failure::Unknown(format!("{endpoint}: {}", innermost(error)));
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| lost(&error))?;
    // It ends with the answer's body, or when nobody reads that any more.
    let connection = tokio::spawn(connection);
    match sender.send_request(request).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            Ok((head.status, body))
        }
        // It may say no more than that the connection ended.
        Err(error) => Err(lost(&connection.await.ok().and_then(Result::err).unwrap_or(error))),
    }
}

/// What all of it comes from, such as the alert of a TLS server that misses a certificate.
fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The whole of an answer of up to `limit` bytes.
///
/// # Errors
/// It is longer, or ends before its end.
pub(crate) async fn whole(body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    let whole = Limited::new(body, limit).collect().await;
    Ok(whole.map_err(|error| Failure::Unknown(format!("the answer was cut: {error}")))?.to_bytes())
}

/// In the system's words, without the number.
fn plain(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_ascii_lowercase()
}
