//! Responses: where we take a message, nobody may take another one; and what we pass back everybody takes for the same.

use super::super::{
    http1::{Asked, Method, Version},
    input::{Input, Switches},
    readers::{End, Reading, hyper, ours, strict},
};

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let mut switches = Switches(input.byte());
    let to_head = switches.take();
    let asked = Asked {
        method: if to_head { Method::Head } else { Method::Get },
        upgrade: switches.take().then_some(b"websocket"),
    };
    let client = if switches.take() { Version::Http10 } else { Version::Http11 };
    let passed = ours::responses(input.rest(), asked, client);
    for (who, reading) in streams(input.rest(), to_head) {
        let came = if who == "llhttp" { known(&passed.came) } else { passed.came.clone() };
        came.assert_agrees(&reading, who);
    }
    first(&passed.came).assert_agrees(&hyper::response(input.rest(), to_head), "hyper");
    let end = if passed.came.end == End::Closed { End::Closed } else { End::InHead };
    let went = Reading { messages: passed.went, end };
    for (who, reading) in streams(&passed.sent, to_head) {
        went.assert_same(&reading, who, |_| false);
    }
    first(&went).assert_same(&hyper::response(&passed.sent, to_head), "hyper", |_| false);
}

fn streams(bytes: &[u8], to_head: bool) -> Vec<(&'static str, Reading)> {
    vec![
        ("a strict reader", strict::responses(bytes, to_head)),
        #[cfg(feature = "llhttp")]
        ("llhttp", super::super::readers::llhttp::responses(bytes, to_head)),
    ]
}

/// As far as llhttp knows what it reads: of interim responses but these it does not know that they have no body (RFC 9112 section
/// 6.3), whatever their fields say. What is passed on has no such fields.
fn known(reading: &Reading) -> Reading {
    let is_known = |start: &[u8]| !start.starts_with(b"1") || [&b"100"[..], b"101", b"102", b"103"].contains(&start);
    match reading.messages.iter().position(|message| !is_known(&message.start)) {
        Some(count) => Reading { messages: reading.messages[..count].to_vec(), end: End::Closed },
        None => reading.clone(),
    }
}

/// As far as the first final response, without what came before it: all that one request is answered with.
fn first(reading: &Reading) -> Reading {
    let is_final = |start: &[u8]| start == b"101" || !start.starts_with(b"1");
    let messages = reading.messages.iter().find(|message| is_final(&message.start));
    let end = if messages.is_some() { End::Closed } else { reading.end };
    Reading { messages: messages.cloned().into_iter().collect(), end }
}
