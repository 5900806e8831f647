use super::{
    MAX_GENERATION,
    peers::{Outbox, Peer},
};
use crate::{clock, health, state::State};
use control::{
    desired::Snapshot,
    message::{MAX_LINE, PROTOCOL, ToAdmin, ToDataplane, from_line, to_line},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// How long a new connection may take to say hello, and how long its line may be.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HELLO: usize = 4 << 10;
/// How long a data plane may take to read a line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one data plane until it goes, or says what can't be understood.
pub(super) async fn serve(state: Arc<State>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut lines = Lines { reader: BufReader::new(read), line: Vec::new() };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let hello = ToDataplane::Hello { protocol: PROTOCOL, version };
    let greeted = timeout(HELLO_TIMEOUT, async {
        write.write_all(&to_line(&hello)).await.map_err(|error| error.to_string())?;
        greeting(&mut lines).await
    });
    let (peer, served) = match greeted.await.unwrap_or_else(|_| Err("it did not say hello in time".to_owned())) {
        Ok(greeting) => greeting,
        Err(reason) => return tracing::warn!("closed a control connection: {reason:.200}"),
    };
    let pid = peer.pid;
    let (id, snapshot, outbox) = state.connect(peer, served);
    let first = first(&snapshot);
    drop(snapshot);
    let cut = outbox.cut();
    let ended = tokio::select! {
        ended = listen(&state, id, &mut lines) => ended,
        ended = talk(write, first, outbox) => ended,
        () = cut.notified() => Err("it is too far behind".to_owned()),
    };
    state.disconnect(id, pid);
    if let Err(reason) = ended {
        tracing::warn!(pid, "closed the control connection of a data plane: {reason:.200}");
    }
}

/// What it is sent before all else.
pub(crate) fn first(snapshot: &Snapshot) -> Vec<u8> {
    to_line(&ToDataplane::Snapshot { snapshot: Box::new(snapshot.clone()) })
}

/// What a data plane says first: who it is, and the generation that it serves by.
async fn greeting(lines: &mut Lines) -> Result<(Peer, u64), String> {
    greeted(lines.next(MAX_HELLO).await?.ok_or_else(|| "it closed without a hello".to_owned())?)
}

pub(crate) fn greeted(line: &[u8]) -> Result<(Peer, u64), String> {
    match from_line(line)? {
        ToAdmin::Hello { protocol, .. } if protocol != PROTOCOL => {
            Err(format!("it speaks protocol {protocol} and this admin process speaks {PROTOCOL}: upgrade both"))
        }
        ToAdmin::Hello { generation, .. } if generation >= MAX_GENERATION => {
            Err(format!("it claims generation {generation}"))
        }
        ToAdmin::Hello { version, pid, workers, generation, started, sketches, sandbox, .. } => {
            let connected_since = clock::unix_millis();
            let is_fresh = generation == 0;
            let peer = Peer {
                pid,
                workers,
                version,
                started,
                is_fresh,
                sketches,
                sandbox,
                connected_since,
                ..Peer::default()
            };
            Ok((peer, generation))
        }
        ToAdmin::Applied { .. }
        | ToAdmin::Rejected { .. }
        | ToAdmin::Stats { .. }
        | ToAdmin::Sketch { .. }
        | ToAdmin::Failing { .. } => Err("its first line is no hello".to_owned()),
    }
}

/// Takes what the data plane says, until it closes.
async fn listen(state: &State, id: u64, lines: &mut Lines) -> Result<(), String> {
    while let Some(line) = lines.next(MAX_LINE).await? {
        hear(state, id, line)?;
    }
    Ok(())
}

pub(crate) fn hear(state: &State, id: u64, line: &[u8]) -> Result<(), String> {
    match from_line(line)? {
        ToAdmin::Applied { generation } => state.set_applied(id, generation),
        ToAdmin::Rejected { generation, reason } => state.set_rejected(id, generation, reason),
        ToAdmin::Stats { stats } => state.set_stats(id, *stats),
        ToAdmin::Sketch { pool, sketch } => state.set_sketch(id, &pool, *sketch),
        ToAdmin::Failing { pool, backend, reason } => health::failing(state, &pool, &backend, &reason),
        ToAdmin::Hello { .. } => return Err("it said hello twice".to_owned()),
    }
    Ok(())
}

/// Sends the snapshot and what comes after it.
async fn talk(mut write: OwnedWriteHalf, first: Vec<u8>, mut outbox: Outbox) -> Result<(), String> {
    let mut line: Arc<[u8]> = first.into();
    loop {
        match timeout(WRITE_TIMEOUT, write.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it does not read".to_owned()),
        }
        match outbox.next().await {
            Some(next) => line = next,
            None => return Ok(()),
        }
    }
}

struct Lines {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line without its end; `None` at the end of the stream.
    async fn next(&mut self, limit: usize) -> Result<Option<&[u8]>, String> {
        let failed = |error: io::Error| error.to_string();
        self.line.clear();
        // A long line, as of a first report, is not kept for the short ones that follow.
        self.line.shrink_to(64 << 10);
        loop {
            let bytes = self.reader.fill_buf().await.map_err(failed)?;
            if bytes.is_empty() {
                return if self.line.is_empty() { Ok(None) } else { Err("it closed within a line".to_owned()) };
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let taken = end.map_or(bytes.len(), |end| end + 1);
            self.reader.consume(taken);
            if self.line.len() > limit {
                return Err(format!("a line of more than {limit} bytes"));
            }
            if end.is_some() {
                return Ok(Some(&self.line));
            }
        }
    }
}
