//! What etcd tells of the keys as they change.

use super::{
    client::{Client, Failure, line},
    mirror::Told,
    rows::whole_range,
    wire::{self, WatchAnswer},
};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

/// Events that are taken over together.
const MOST: usize = 20_000;
/// The longest line. What has happened in one revision comes in pieces of some 1.5 MiB.
const MAX_LINE: usize = 64 << 20;

pub(super) struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
    /// What was told of a revision of which there is more to come.
    pending: Vec<Told>,
    /// What stands behind the news that were taken.
    behind: Option<Result<News, Failure>>,
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
        let mut watch = Self { body, buffer: Vec::new(), searched: 0, pending: Vec::new(), behind: None };
        let late = |_| Failure::Unknown(format!("{}: the watch does not begin", client.endpoint()));
        let answer = timeout(client.limit(), watch.answer()).await.map_err(late)??;
        match answer {
            WatchAnswer { created: true, canceled: false, .. } => Ok(watch),
            answer => Err(ended(&answer)),
        }
    }

    /// What happened next, and all that has come already: so that a thousand writes don't make as many generations. Nothing is
    /// lost where it is dropped before it is done.
    pub(super) async fn next(&mut self) -> Result<News, Failure> {
        let first = match self.behind.take() {
            Some(behind) => behind,
            None => self.one().await,
        };
        let mut events = match first? {
            News::Events(events) => events,
            compacted @ News::Compacted(_) => return Ok(compacted),
        };
        while self.behind.is_none() && events.len() < MOST {
            match self.one().now_or_never() {
                Some(Ok(News::Events(more))) => events.extend(more),
                other => {
                    self.behind = other;
                    break;
                }
            }
        }
        Ok(News::Events(events))
    }

    async fn one(&mut self) -> Result<News, Failure> {
        loop {
            let answer = self.answer().await?;
            if answer.compact_revision > 0 {
                return Ok(News::Compacted(answer.compact_revision));
            }
            if answer.canceled {
                return Err(ended(&answer));
            }
            self.pending.extend(answer.events.into_iter().map(Told::from));
            if !answer.fragment && !self.pending.is_empty() {
                return Ok(News::Events(std::mem::take(&mut self.pending)));
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
