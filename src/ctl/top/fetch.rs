//! Questions to the nodes, on threads of their own: one that keeps silent must not hold up the keys.

use super::{
    change::{Change, Looked},
    model::{Open, Told},
};
use crate::{
    ctl::{
        client::{Client, segment},
        events::{self, Event},
        merge::merge,
        nodes::Nodes,
        show,
    },
    failure::Failure,
};
use serde_json::Value;
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// How long a node may keep silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A write waits up to 5 s for the workers, and a look-up of a name 2 s.
const WRITE_PATIENCE: Duration = Duration::from_secs(12);
/// The least time from one look to the next, whatever happens.
const LEAST: Duration = Duration::from_millis(200);
/// How long to wait before the events are followed again.
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(8);

/// What reaches the thread that draws.
#[derive(Debug)]
pub(super) enum News {
    Key(ratatui::crossterm::event::KeyEvent),
    /// The terminal has another size, or another program has drawn over this one.
    Resized,
    /// The keys have ended, by this signal or with the terminal.
    End(Option<i32>),
    Told(usize, Result<Told, String>),
    Happened(usize, Event),
    Looked(u64, Result<Looked, String>),
    Written(u64, Result<String, String>),
}

/// What the thread of a node is told.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Now,
    /// This pool is open.
    Of(String),
}

/// Asks each node again and again; the sender of each makes it do so at once.
pub(super) fn follow(nodes: &Nodes, interval: Duration, news: &Sender<News>) -> Vec<Sender<Ask>> {
    let mut asks = Vec::new();
    for (number, client) in nodes.clients().iter().enumerate() {
        let (ask, asked) = channel();
        let (at_node, telling) = (client.clone(), news.clone());
        thread::spawn(move || poll(&at_node, number, interval, &asked, &telling));
        let (at_node, telling, poke) = (client.clone(), news.clone(), ask.clone());
        thread::spawn(move || listen(&at_node, number, &telling, &poke));
        asks.push(ask);
    }
    asks
}

fn poll(client: &Client, number: usize, interval: Duration, asked: &Receiver<Ask>, news: &Sender<News>) {
    let mut pool = None;
    loop {
        let began = Instant::now();
        let told = look(client, pool.as_deref()).map_err(|failure| failure.to_string());
        if news.send(News::Told(number, told)).is_err() {
            return;
        }
        match asked.recv_timeout(interval.saturating_sub(began.elapsed())) {
            Ok(Ask::Of(name)) => pool = Some(name),
            Ok(Ask::Now) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // What else comes in this while is answered by the same look: events come in swarms.
        thread::sleep(LEAST.saturating_sub(began.elapsed()));
        asked.try_iter().for_each(|ask| {
            if let Ask::Of(name) = ask {
                pool = Some(name);
            }
        });
    }
}

fn look(client: &Client, pool: Option<&str>) -> Result<Told, Failure> {
    let status = client.call("GET", "/v1/status", None, PATIENCE)?;
    let open = match pool {
        None => None,
        Some(name) => {
            let path = format!("/v1/pools/{}", segment(name));
            let pool = client.find(&path, PATIENCE)?;
            let stickiness = client.find(&format!("{path}/stickiness"), PATIENCE)?;
            Some(Open { name: name.to_owned(), pool, stickiness })
        }
    };
    Ok(Told { status, open })
}

/// Follows the events, and takes them up again where they broke off. Whatever happened, the figures may have changed.
fn listen(client: &Client, number: usize, news: &Sender<News>, poke: &Sender<Ask>) {
    let (mut last, mut wait) = ("0".to_owned(), SOONEST);
    loop {
        let (began, from) = (Instant::now(), last.clone());
        let ended = events::listen(client, Some(&from), |event| {
            // Who has just come has missed nothing that mattered to him.
            let missed = from == "0" && event.kind == "missed";
            event.id.clone_into(&mut last);
            missed || (news.send(News::Happened(number, event)).is_ok() && poke.send(Ask::Now).is_ok())
        });
        if poke.send(Ask::Now).is_err() {
            return;
        }
        // That it does not answer is told by the figures.
        drop(ended);
        wait = if began.elapsed() > LATEST { SOONEST } else { (wait * 2).min(LATEST) };
        thread::sleep(wait);
    }
}

/// Asks what a change would do, and what the backend is now.
pub(super) fn preview(nodes: Nodes, number: u64, change: Change, news: Sender<News>) {
    thread::spawn(move || {
        let looked = looked(&nodes, &change).map_err(|failure| failure.to_string());
        // Nobody may be left to be told.
        drop(news.send(News::Looked(number, looked)));
    });
}

fn looked(nodes: &Nodes, change: &Change) -> Result<Looked, Failure> {
    let pool = format!("/v1/pools/{}", segment(&change.pool));
    let path = format!("{pool}/backends/{}", segment(&change.name));
    let question = change.question();
    let told = nodes.at_once(|client| {
        let tag = client.tag(&path, PATIENCE)?;
        Ok((tag, client.call("POST", &format!("{pool}/preview"), Some(&question), PATIENCE)?))
    });
    let (mut previews, mut tags) = (Vec::new(), Vec::new());
    for (name, told) in told {
        let (tag, preview) = told.map_err(|failure| named(nodes, &name, &failure))?;
        previews.push((name.clone(), preview));
        tags.push((name, tag));
    }
    Ok(Looked::new(&merge(&previews).value, tags))
}

fn named(nodes: &Nodes, name: &str, failure: &Failure) -> Failure {
    Failure::general(if nodes.alone().is_some() { failure.to_string() } else { format!("{name}: {failure}") })
}

/// Makes a change where it is still what was seen.
pub(super) fn commit(
    nodes: Nodes,
    number: u64,
    change: Change,
    tags: Vec<(String, Option<String>)>,
    news: Sender<News>,
) {
    thread::spawn(move || drop(news.send(News::Written(number, written(&nodes, &change, &tags)))));
}

fn written(nodes: &Nodes, change: &Change, tags: &[(String, Option<String>)]) -> Result<String, String> {
    let (rest, body) = change.call();
    let path = format!("/v1/pools/{}/backends/{}{rest}", segment(&change.pool), segment(&change.name));
    let writers = nodes.writers().map_err(|failure| failure.to_string())?;
    let told = writers.in_turn(|client| {
        let tag = tags.iter().find(|(name, _)| *name == client.to_string()).and_then(|(_, tag)| tag.as_deref());
        client.call_if(tag, "POST", &path, body.as_ref(), WRITE_PATIENCE)
    });
    let lines: Vec<_> = told
        .iter()
        .map(|(name, told)| match told {
            Ok(answer) => named(nodes, name, &Failure::general(one_line(answer))).to_string(),
            Err(failure) => named(nodes, name, failure).to_string(),
        })
        .collect();
    let all = told.iter().all(|(_, told)| told.as_ref().is_ok_and(|answer| answer["applied"] == true));
    if all { Ok(lines.join("\n")) } else { Err(lines.join("\n")) }
}

fn one_line(answer: &Value) -> String {
    show::written(answer).trim_end().replace('\n', "; ")
}
