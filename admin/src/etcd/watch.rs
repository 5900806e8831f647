//! What etcd tells of the keys as they change.

use super::{
    client::{Client, Failure, line},
    mirror::Told,
    rows::whole_range,
    wire::{self, WatchAnswer},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

/// The longest line. What has happened in one revision comes in pieces of some 1.5 MiB.
const MAX_LINE: usize = 64 << 20;

pub(super) struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
}

#[derive(Debug)]
pub(super) enum News {
    /// All that happened in one revision or several.
    Events(Vec<Told>),
    /// What was asked for is gone: etcd keeps nothing before this revision.
    Compacted(u64),
}

impl Watch {
    /// Watches all keys below the prefix, from this revision on.
    pub(super) async fn begin(client: &Client, revision: u64) -> Result<Self, Failure> {
        let (first, end) = whole_range(client.prefix());
        let body = client.watch(&wire::watch(&first, &end, revision)).await?;
        let mut watch = Self { body, buffer: Vec::new(), searched: 0 };
        let late = |_| Failure::Unknown(format!("{}: the watch does not begin", client.endpoint()));
        let answer = timeout(client.limit(), watch.answer()).await.map_err(late)??;
        match answer {
            WatchAnswer { created: true, canceled: false, .. } => Ok(watch),
            answer => Err(ended(&answer)),
        }
    }

    /// What happened next.
    pub(super) async fn next(&mut self) -> Result<News, Failure> {
        let mut events = Vec::new();
        loop {
            let answer = self.answer().await?;
            if answer.compact_revision > 0 {
                return Ok(News::Compacted(answer.compact_revision));
            }
            if answer.canceled {
                return Err(ended(&answer));
            }
            events.extend(answer.events.into_iter().map(Told::from));
            if !answer.fragment && !events.is_empty() {
                return Ok(News::Events(events));
            }
        }
    }

    async fn answer(&mut self) -> Result<WatchAnswer, Failure> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n').map(|end| self.searched + end) {
                let rest = self.buffer.split_off(end + 1);
                let text = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                if text.trim_ascii().is_empty() {
                    continue;
                }
                return line(&text);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(Failure::Unknown("etcd's watch tells more at once than can be taken".to_owned()));
            }
            let frame = self.body.frame().await.ok_or_else(|| Failure::Unknown("etcd ended the watch".to_owned()))?;
            let frame = frame.map_err(|error| Failure::Unknown(format!("the watch broke: {error}")))?;
            self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], AsRef::as_ref));
        }
    }
}

fn ended(answer: &WatchAnswer) -> Failure {
    let reason = if answer.cancel_reason.is_empty() { "without a reason" } else { &answer.cancel_reason };
    Failure::Refused(format!("etcd ended the watch: {reason}"))
}
