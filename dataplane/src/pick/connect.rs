use super::{Claim, Failure, Kind, Target};
use crate::{
    http2,
    io::{Stream, within},
    worker::{Connection, Worker},
};
use control::counters::BackendCount;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io, sync::Arc};

/// An open connection to the backend, and whether it has served before.
///
/// # Errors
/// Where none can be opened.
pub(crate) async fn connect(
    worker: &Worker,
    claim: &Claim,
    target: &Target,
    fresh: bool,
) -> Result<(Connection, bool), Failure> {
    if target.is_http2 {
        // On the heap, so that requests to other pools have no room for it.
        return Box::pin(http2::connect(worker, claim, target, fresh)).await;
    }
    // A connection that was announced as one client's is no other's.
    if !fresh
        && claim.announced.is_none()
        && let Some(connection) = worker.backends.take(target.slot, &target.address, target.is_tls)
    {
        return Ok((connection, true));
    }
    let stream = open(worker, claim, target).await?;
    let deadline = worker.deadline(stream.handle()).leads_to(target.slot);
    Ok((Connection { deadline, stream, address: target.address.clone() }, false))
}

/// A connection to the backend that has just been opened.
///
/// # Errors
/// Where none can be.
pub(crate) async fn open(worker: &Worker, claim: &Claim, target: &Target) -> Result<Stream, Failure> {
    let opened = async {
        let stream = Stream::connect(&target.address, claim.pool.timeouts.connect.to_std()).await.map_err(kind_of)?;
        if let Some(header) = &claim.announced {
            stream.write_vector(header.clone()).await.0.map_err(kind_of)?;
        }
        match target.is_tls {
            false => Ok(stream),
            // On the heap, so that requests to other pools have no room for it.
            true => Box::pin(secure(worker, claim, target, stream)).await,
        }
    };
    match opened.await {
        Ok(stream) => {
            worker.board().count_backend(target.slot, BackendCount::Connects);
            Ok(stream)
        }
        Err(kind) => {
            let count = if kind == Kind::Handshake {
                BackendCount::TlsFailures
            } else if kind == Kind::NoPort {
                BackendCount::NoPort
            } else {
                BackendCount::ConnectFailures
            };
            worker.board().count_backend(target.slot, count);
            Err(Failure::backend(kind, false))
        }
    }
}

fn kind_of(error: io::Error) -> Kind {
    match error.raw_os_error() {
        // No fault of the backend's.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Kind::Exhausted,
        Some(libc::EADDRNOTAVAIL) => Kind::NoPort,
        _ if error.kind() == io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        _ => Kind::Connect,
    }
}

/// Shakes hands with the backend.
async fn secure(worker: &Worker, claim: &Claim, target: &Target, stream: Stream) -> Result<Stream, Kind> {
    let (trusted, name) = trust(worker, claim, target).ok_or(Kind::Handshake)?;
    let shaken = stream.connect_tls(trusted, name, worker.clock.ticking(), async || {
        worker.handshakes.turn(worker.beat.pass()).await;
        true
    });
    match within(claim.pool.timeouts.connect.to_std(), shaken).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(refused)) => {
            tracing::debug!(?refused, "no handshake with the backend");
            Err(Kind::Handshake)
        }
        None => Err(Kind::ConnectTimeout),
    }
}

/// How the backend is spoken to, and the name that it has to show a certificate for.
fn trust(worker: &Worker, claim: &Claim, target: &Target) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
    let table = worker.table.borrow();
    let pool = table.pools.iter().find(|pool| pool.slot == claim.pool.slot)?;
    let backend = pool.backends.iter().find(|backend| backend.slot == target.slot)?;
    let name = ServerName::try_from(backend.server_name.as_deref()?).ok()?.to_owned();
    Some((worker.trusted(&pool.name)?, name))
}
