//! Bodies between frames and text, in either direction.

use super::{
    parts::{Part, Unsent, pairs, part},
    text,
};
use crate::{
    http::Body,
    io::{FarEnd, Way},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

/// Why a body did not become text to its end.
pub(super) enum Unread {
    /// The peer took it back, or is gone, or it can't be text.
    Broken,
    /// The exchange wants no more of it.
    Unwanted,
}

impl From<h2::Error> for Unsent {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

/// Moves a body as text. Given back to the peer's window is what the exchange has room for.
pub(super) async fn read(way: &Way, chunked: bool, body: &mut RecvStream) -> Result<(), Unread> {
    let write = async |bytes: &[u8]| way.write(bytes).await.map_err(|_| Unread::Unwanted);
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Unread::Broken)?;
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
    let trailers = body.trailers().await.map_err(|_| Unread::Broken)?;
    if chunked {
        let mut end = b"0\r\n".to_vec();
        let fields = trailers.unwrap_or_default();
        text::trailers(&pairs(&fields).collect::<Vec<_>>(), &mut end).map_err(|_| Unread::Broken)?;
        write(&end).await?;
    }
    Ok(())
}

/// More of the exchange's text, behind what there is; false at its end. `reset` says whether the peer wants no more of it.
///
/// # Errors
/// Where the peer doesn't.
pub(super) async fn more(
    far: &FarEnd,
    text: &mut Vec<u8>,
    mut reset: impl FnMut(&mut Context<'_>) -> Poll<Result<Reason, h2::Error>>,
) -> Result<bool, Unsent> {
    let mut take = pin!(far.outward().take(text));
    poll_fn(|context| match reset(context) {
        Poll::Ready(_) => Poll::Ready(Err(Unsent::Gone)),
        Poll::Pending => take.as_mut().poll(context).map(Ok),
    })
    .await
}

/// Moves what follows a head, of which `text` holds the beginning, to the end of the stream. `moved` counts its bytes.
///
/// # Errors
/// Where that is not reached; the stream is then still open.
pub(super) async fn send(
    far: &FarEnd,
    stream: &mut SendStream<Bytes>,
    mut body: Body,
    mut text: Vec<u8>,
    moved: &Cell<usize>,
) -> Result<(), Unsent> {
    let mut lines = Vec::new();
    while !body.is_done() {
        let Part { data, trailers } = part(&mut text, &mut body, &mut lines)?;
        let ends = body.is_done() && trailers.is_none();
        send_data(far, stream, data, ends, moved).await?;
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        if !body.is_done() && !more(far, &mut text, |context| stream.poll_reset(context)).await? {
            if !matches!(body, Body::UntilClose) || far.is_broken() {
                return Err(Unsent::Broken);
            }
            stream.send_data(Bytes::new(), true)?;
            break;
        }
    }
    Ok(())
}

/// Sends as the peer's windows let it.
async fn send_data(
    far: &FarEnd,
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    ends: bool,
    moved: &Cell<usize>,
) -> Result<(), Unsent> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => {
                poll_fn(|context| match far.is_broken() {
                    true => Poll::Ready(Err(Unsent::Broken)),
                    false => stream.poll_capacity(context).map(|room| room.ok_or(Unsent::Gone)?.map_err(Unsent::from)),
                })
                .await?
            }
            room => room,
        };
        let piece = data.split_to(room.min(data.len()));
        moved.set(moved.get() + piece.len());
        stream.send_data(piece, ends && data.is_empty())?;
        if data.is_empty() {
            return Ok(());
        }
    }
    if ends { stream.send_data(data, true).map_err(Unsent::from) } else { Ok(()) }
}
