//! Server-sent events and long polls: what a backend has sent is at the client before it sends more.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    io::Write,
    sync::{Mutex, mpsc},
};
use support::{PATIENCE, Scripted, Setup, backend::read_head, http::Connection, websockets::Raw};

#[test]
fn an_event_arrives_before_the_next_is_sent() {
    for (head, frame) in [("Transfer-Encoding: chunked\r\n", true), ("Connection: close\r\n", false)] {
        let (go_on, waits) = mpsc::channel::<()>();
        let waits = Mutex::new(waits);
        let backend = Scripted::start(move |mut stream| {
            read_head(&mut stream).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{head}\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            for number in 0..20 {
                // One byte more each time: nothing is held back until it is large enough.
                let event = format!("data: {}\n\n", "x".repeat(number));
                let event = if frame { format!("{:x}\r\n{event}\r\n", event.len()) } else { event };
                stream.write_all(event.as_bytes()).unwrap();
                // Only the client can have said this, and only after it had read the event.
                waits.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            }
        });
        let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", [("a", backend.address())]).start();
        let mut client = Raw::open(&instance.listener("web"), b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        client.head();
        for number in 0..20 {
            let event = format!("data: {}\n\n", "x".repeat(number));
            let event = if frame { format!("{:x}\r\n{event}\r\n", event.len()) } else { event };
            client.reads(event.as_bytes());
            go_on.send(()).unwrap();
        }
    }
}

#[test]
fn a_long_poll_is_answered_when_its_backend_answers() {
    let (answer, waits) = mpsc::channel::<String>();
    let waits = Mutex::new(waits);
    let backend = Scripted::start(move |mut stream| {
        while read_head(&mut stream).is_some() {
            let news = waits.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{news}", news.len());
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", [("a", backend.address())]).start();
    let mut client = Connection::open(&instance.listener("web"));
    for news in ["one", "two", "three"] {
        client.send(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n");
        support::eventually("the poll waits at the backend", || {
            (instance.backend("shop", "a")["requests_in_flight"] == 1).then_some(())
        });
        answer.send(news.to_owned()).unwrap();
        assert_eq!(client.response(false).unwrap().text(), news);
    }
}
