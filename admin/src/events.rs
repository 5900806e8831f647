//! What happened, for those who follow along: a bounded ring of events, replayed to whoever comes back, and a bounded
//! channel to each who listens now.

use crate::clock;
use serde::Serialize;
use std::{collections::VecDeque, sync::Mutex};
use tokio::sync::broadcast;

/// Events that are kept for a client that comes back.
const KEPT: usize = 1_024;
/// Events that a client may be behind before it is dropped.
const BEHIND: usize = 256;
/// Clients that may follow at once: each holds a connection.
const FOLLOWERS: usize = 64;

/// Names of events as clients see them; each stands for one kind of `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Membership,
    AdminState,
    Health,
    Settings,
    Reload,
    Keys,
    Dataplane,
    Drain,
    Rebalance,
    Release,
    WrongTokens,
    /// Stands for events that are no longer kept.
    Missed,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::AdminState => "admin-state",
            Self::Health => "health",
            Self::Settings => "settings",
            Self::Reload => "reload",
            Self::Keys => "keys",
            Self::Dataplane => "dataplane",
            Self::Drain => "drain",
            Self::Rebalance => "rebalance",
            Self::Release => "release",
            Self::WrongTokens => "wrong-tokens",
            Self::Missed => "missed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// JSON on one line.
    pub(crate) data: std::sync::Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Events {
    kept: Mutex<Ring>,
    live: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Ring {
    next: u64,
    events: VecDeque<Event>,
}

#[derive(Serialize)]
struct Dated<'d, D> {
    /// Unix milliseconds.
    at: u64,
    #[serde(flatten)]
    data: &'d D,
}

/// What a client gets: first what it missed, then what comes.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) missed: VecDeque<Event>,
    pub(crate) live: broadcast::Receiver<Event>,
}

impl Events {
    /// Ids begin at a thousand for each Unix millisecond `now`, so that they grow over restarts too.
    pub(crate) fn new(now: u64) -> Self {
        let ring = Ring { next: now.saturating_mul(1_000), events: VecDeque::new() };
        Self { kept: Mutex::new(ring), live: broadcast::channel(BEHIND).0 }
    }

    /// `data` is an object; when it happened is added to it.
    pub(crate) fn emit(&self, kind: Kind, data: &impl Serialize) {
        let data = serde_json::to_string(&Dated { at: clock::unix_millis(), data });
        let data = data.expect("events are objects with string keys and no failing parts");
        let mut ring = self.kept.lock().expect("nothing panics while holding it");
        let event = Event { id: ring.next, kind, data: data.into() };
        ring.next += 1;
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        // Sent under the lock, so that a feed sees each event once: replayed or live. Nobody listening is no error.
        drop(self.live.send(event));
    }

    /// All events after `last`; without it only those to come. `None` where too many follow already.
    pub(crate) fn follow(&self, last: Option<u64>) -> Option<Feed> {
        let ring = self.kept.lock().expect("nothing panics while holding it");
        if self.live.receiver_count() >= FOLLOWERS {
            return None;
        }
        let mut missed = VecDeque::new();
        if let Some(last) = last {
            missed.extend(ring.events.iter().filter(|event| event.id > last).cloned());
            let first = missed.front().map_or(ring.next, |event| event.id);
            if last.saturating_add(1) < first {
                let data = r#"{"detail":"events before this one are no longer kept: read the state anew"}"#;
                missed.push_front(Event { id: first - 1, kind: Kind::Missed, data: data.into() });
            }
        }
        Some(Feed { missed, live: self.live.subscribe() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ids(feed: &Feed) -> Vec<(u64, &'static str)> {
        feed.missed.iter().map(|event| (event.id, event.kind.name())).collect()
    }

    #[test]
    fn whoever_comes_back_gets_what_was_missed_and_no_event_twice() {
        let events = Events::new(1);
        for number in 0..3 {
            events.emit(Kind::Health, &json!({ "number": number }));
        }
        assert_eq!(ids(&events.follow(None).unwrap()), []);
        let mut feed = events.follow(Some(1_000)).unwrap();
        assert_eq!(ids(&feed), [(1_001, "health"), (1_002, "health")]);
        events.emit(Kind::Keys, &json!({ "change": "new" }));
        assert_eq!(feed.live.try_recv().unwrap().id, 1_003);
        assert_eq!(ids(&events.follow(Some(1_003)).unwrap()), []);
    }

    #[test]
    fn a_gap_is_told() {
        let events = Events::new(1);
        for number in 0..KEPT + 10 {
            events.emit(Kind::Health, &json!({ "number": number }));
        }
        let feed = events.follow(Some(1_002)).unwrap();
        assert_eq!(feed.missed.len(), KEPT + 1);
        assert_eq!(ids(&feed)[..2], [(1_009, "missed"), (1_010, "health")]);
        let before_restart = events.follow(Some(5)).unwrap();
        assert_eq!(ids(&before_restart)[0].1, "missed");
    }

    #[test]
    fn slow_and_too_many_followers_are_turned_away() {
        let events = Events::new(1);
        let mut slow = events.follow(None).unwrap();
        for number in 0..=BEHIND {
            events.emit(Kind::Health, &json!({ "number": number }));
        }
        assert!(matches!(slow.live.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))));
        let followers: Vec<_> = (1..FOLLOWERS).map(|_| events.follow(None).unwrap()).collect();
        assert!(events.follow(None).is_none());
        drop(followers);
        assert!(events.follow(None).is_some());
    }
}
