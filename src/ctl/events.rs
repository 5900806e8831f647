//! What happens, an event a line.

use super::{client::Client, nodes::Nodes, show};
use crate::{failure::Failure, output};
use serde_json::json;
use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
};

/// One event as it came.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: String,
}

/// Hands on each event until the stream ends or nobody takes one any more.
///
/// # Errors
/// The stream can't be begun, or broke off.
pub(super) fn listen(client: &Client, last: Option<&str>, mut take: impl FnMut(Event) -> bool) -> Result<(), Failure> {
    let (mut id, mut kind) = (String::new(), String::new());
    for line in client.follow("/v1/events", last)? {
        let line = line.map_err(Failure::doing("the events broke off"))?;
        // Server-sent events: `id:` and `event:` belong to the next `data:`.
        if let Some(said) = line.strip_prefix("id:") {
            said.trim().clone_into(&mut id);
        } else if let Some(said) = line.strip_prefix("event:") {
            said.trim().clone_into(&mut kind);
        } else if let Some(data) = line.strip_prefix("data:") {
            let event = Event { id: id.clone(), kind: kind.clone(), data: data.trim().to_owned() };
            if !take(event) {
                break;
            }
        }
    }
    Ok(())
}

/// Prints them: of many nodes each with whose it is.
pub(super) fn follow(nodes: &Nodes, json: bool) -> Result<(), Failure> {
    let Some(client) = nodes.alone() else { return of_many(nodes, json) };
    let mut printed = Ok(());
    listen(client, None, |event| {
        printed = output::print(&text(None, &event, json));
        printed.is_ok()
    })?;
    printed
}

/// Goes on while any of them tells something.
fn of_many(nodes: &Nodes, json: bool) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel();
    let lost = thread::scope(|scope| {
        let printer = scope.spawn(move || {
            // Who reads no more ends the process, so an error here is one that nobody can be told.
            receiver.into_iter().try_for_each(|text: String| output::print(&text))
        });
        let told = nodes.at_once(|client| {
            let (name, sender) = (client.to_string(), sender.clone());
            let ended = listen(client, None, |event| sender.send(text(Some(&name), &event, json)).is_ok());
            let why = ended.as_ref().map_or_else(Failure::to_string, |()| "the events ended".to_owned());
            drop(writeln!(io::stderr(), "{name}: {why}; what happens there is not shown from here on"));
            Ok(())
        });
        drop(sender);
        drop(printer.join());
        told.len()
    });
    Err(Failure::general(format!("the events of all {lost} nodes have ended")))
}

fn text(node: Option<&str>, Event { kind, data, .. }: &Event, as_json: bool) -> String {
    let node_first = node.map_or_else(String::new, |node| format!("\"node\":{},", json!(node)));
    match (node, as_json) {
        (None, false) => format!("{}\n", show::event(kind, data)),
        (Some(node), false) => format!("{node} {}\n", show::event(kind, data)),
        (_, true) => format!("{{{node_first}\"event\":{},\"data\":{data}}}\n", json!(kind)),
    }
}
